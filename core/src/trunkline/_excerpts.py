"""Excerpts of large values, such as the body of an error. A count replaces what is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline._visible_text import visible

EXCERPT_LIMIT = 32 * 1024
"""The size of what is kept of a large value: the characters of its texts, and 16 for each item."""

_ITEM_SIZE = 16
_COUNT_SIZE = 40
"""The most characters of the note that says how much is left out."""

_MAX_LEVELS = 200


def cut(text: str, limit: int, *, omitted: int = 0, unit: str = "characters") -> str:
    """Return the text, or its first `limit` characters and the number of those that were left out.

    `omitted` is how many units of the text the caller has left out already.
    """
    omitted += max(0, len(text) - limit)
    return f"{text[:limit]}… ({omitted} more {unit})" if omitted else text


def single_line(text: str, limit: int) -> str:
    """Return a text that may come from a server as one line of at most `limit` characters, which contains no control
    characters.

    White space becomes single spaces, and what controls a terminal or is invisible is escaped. So a line break in the
    text of an error cannot forge a line of a log.
    """
    # No more than an excerpt is split into words, however long the text is.
    omitted = max(0, len(text) - EXCERPT_LIMIT)
    line = visible(" ".join(text[:EXCERPT_LIMIT].split()))
    if not omitted and len(line) <= limit:
        return line
    return cut(line, limit - _COUNT_SIZE, omitted=omitted)


def bounded(value: Any, limit: int = EXCERPT_LIMIT) -> Any:
    """Return a value of JSON as it is, or an excerpt of it if it is larger than `limit` or nested extremely deeply.

    An item in the excerpt gets at most half of what is left, so that a large one does not displace those after it.
    The excerpt of a list ends with a text that counts the missing items, and that of an object with a member `…`.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return cut(value, limit)
    return value if _fits(value, limit) else _excerpt(value, limit)[0]


def _fits(value: object, limit: int) -> bool:
    remaining: list[tuple[object, int]] = [(value, 0)]
    while remaining:
        item, level = remaining.pop()
        limit -= _ITEM_SIZE
        if isinstance(item, (str, bytes, bytearray)):
            limit -= len(item)
        elif isinstance(item, (dict, list, tuple, set, frozenset, Mapping)):
            if len(item) * _ITEM_SIZE > limit or level > _MAX_LEVELS:
                return False
            if isinstance(item, (dict, Mapping)):
                limit -= sum(len(name) for name in item if isinstance(name, (str, bytes)))
                item = item.values()
            remaining += [(single, level + 1) for single in item]
        if limit < -_ITEM_SIZE:
            return False
    return True


def _excerpt(value: Any, limit: int) -> tuple[Any, int]:
    """Return an excerpt of a value, and its size."""
    size = 0
    if isinstance(value, str):
        text = cut(value, max(limit, 0))
        return text, len(text)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value[: max(limit, 0)]), min(len(value), max(limit, 0))
    if isinstance(value, Mapping):
        members: dict[Any, Any] = {}
        for count, (name, item) in enumerate(value.items()):
            size += _ITEM_SIZE + (len(name) if isinstance(name, (str, bytes)) else 0)
            if size >= limit:
                members["…"] = f"{len(value) - count} more members"
                break
            members[name], used = _excerpt(item, (limit - size) // 2)
            size += used
        return members, size
    if isinstance(value, (list, tuple, set, frozenset)):
        items: list[Any] = []
        for count, item in enumerate(value):
            size += _ITEM_SIZE
            if size >= limit:
                items.append(f"… ({len(value) - count} more items)")
                break
            kept, used = _excerpt(item, (limit - size) // 2)
            items.append(kept)
            size += used
        return (items if isinstance(value, list) else tuple(items)), size
    return value, 0
