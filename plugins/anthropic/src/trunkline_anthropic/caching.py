"""Cache breakpoints: `cache_control` on tools, blocks of the system prompt and blocks of messages. Pure.

While a request is translated, the blocks that end a cached prefix have a mark. `set_breakpoints` replaces the marks at
the end, when it knows all of them. Source: platform.claude.com, build-with-claude/prompt-caching; 2026-11.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from trunkline.authoring.caching import Breakpoint, CacheLifetime, Section, plan_breakpoints, stated_lifetime
from trunkline.authoring.warnings import Warnings

LIMIT = 4
"""How many breakpoints the API accepts in a request, including that of the field `cache_control` of the body."""

SECTIONS: tuple[Section, ...] = get_args(Section)

_MARK = "trunkline.cache"
_UNMARKED = ("thinking", "redacted_thinking")
"""The blocks that cannot have a breakpoint."""


def marked(block: dict[str, Any], lifetime: CacheLifetime) -> dict[str, Any]:
    """Return the block with a mark, unless `provider_options` gave it a breakpoint."""
    return block if "cache_control" in block else {**block, _MARK: lifetime}


def without_mark(block: dict[str, Any]) -> dict[str, Any]:
    """Return the block without its mark."""
    return {name: value for name, value in block.items() if name != _MARK}


def set_breakpoints(
    body: dict[str, Any], lifetime: CacheLifetime | None, warnings: Warnings, *, automatic: bool
) -> dict[str, Any]:
    """Return the body with `cache_control` in place of the marks.

    With a `lifetime`, that of the request, the tools, the system prompt and the conversation get a breakpoint at their
    ends, unless they have one there. `automatic` lets the API find the end of the conversation, by `cache_control` in
    the body; servers that imitate the API do not have this field.
    """
    body = dict(body)
    found: list[tuple[Section, dict[str, Any]]] = []
    if isinstance(body.get("system"), str):
        body["system"] = [{"type": "text", "text": body["system"]}]
    for section in SECTIONS[:2]:
        if section in body:
            body[section] = _copied(body[section])
            found.extend((section, block) for block in _objects(body[section]))
    if "messages" in body:
        body["messages"] = _copied(body["messages"])
    messages = _objects(body.get("messages"))
    for message in messages:
        if isinstance(message.get("content"), str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        elif "content" in message:
            message["content"] = _copied(message["content"])
        found.extend(("messages", block) for block in _objects(message.get("content")))
    end: dict[str, Any] = {}  # stands for the end of the conversation, as the API finds it
    own: set[int] = set()
    if lifetime is not None:
        sections: tuple[Section, ...] = ("tools", "system") if "cache_control" in body else SECTIONS
        own = _mark_ends(found, sections, lifetime, end=end if automatic else None)
    if "cache_control" in body:  # of provider_options; stands for the end of the conversation
        found.append(("messages", {"cache_control": body["cache_control"]}))
    points = [pair for pair in found if _MARK in pair[1] or "cache_control" in pair[1]]
    asked = [
        Breakpoint(
            section,
            block[_MARK] if _MARK in block else stated_lifetime(block["cache_control"]),
            automatic=id(block) in own,
            fixed=_MARK not in block,
        )
        for section, block in points
    ]
    plan = plan_breakpoints(asked, warnings, limit=LIMIT)
    for (_, block), planned in zip(points, plan, strict=True):
        if block.pop(_MARK, None) is None:
            continue
        if planned is not None:
            # The default is five minutes. Servers that imitate the API may not have `ttl`.
            block["cache_control"] = {"type": "ephemeral", "ttl": "1h"} if planned == "1h" else {"type": "ephemeral"}
    body |= end
    for message in messages:
        if "content" in message:
            message["content"] = _plain(message["content"])
    return body


def _mark_ends(
    found: list[tuple[Section, dict[str, Any]]],
    sections: Sequence[Section],
    lifetime: CacheLifetime,
    *,
    end: dict[str, Any] | None,
) -> set[int]:
    """Mark the ends of the sections. Returns the ids of the blocks that got a mark.

    `end` gets the mark of the conversation, in place of its last block.
    """
    own: set[int] = set()
    for section in sections:
        fitting = [block for kind, block in found if kind == section and _can_end(block)]
        if not fitting or _MARK in fitting[-1] or "cache_control" in fitting[-1]:
            continue
        block = fitting[-1]
        if section == "messages" and end is not None:
            block = end
            found.append((section, block))
        block[_MARK] = lifetime
        own.add(id(block))
    return own


def _can_end(block: dict[str, Any]) -> bool:
    return block.get("type") not in _UNMARKED and not block.get("defer_loading")


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _copied(value: object) -> object:
    return [dict(item) if isinstance(item, dict) else item for item in value] if isinstance(value, list) else value


def _plain(content: object) -> object:
    """Return a string for a single text, which every server accepts."""
    if isinstance(content, list) and len(content) == 1 and isinstance(content[0], dict):
        block = content[0]
        if block.keys() == {"type", "text"} and block["type"] == "text":
            return block["text"]
    return content
