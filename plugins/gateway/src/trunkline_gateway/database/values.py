"""Which names, texts and counts can be stored."""

from __future__ import annotations

from trunkline_gateway.database.connecting import DatabaseError


class InvalidValueError(DatabaseError, ValueError):
    """A value cannot be stored, or what it names does not exist."""


MOST_COUNTED = 10**15
"""The most that one call is counted with: requests choose their largest output, and sums must fit in 64 bits."""


def bounded(count: int) -> int:
    """Return a number of tokens or nano-dollars of one call as it is counted."""
    return min(max(count, 0), MOST_COUNTED)


def check_name(name: str, what: str) -> str:
    """Return a name that can be stored: 1 to 200 characters, none of them a control character."""
    if not name.strip():
        raise InvalidValueError(f"the name of {what} is empty")
    if len(name) > 200:
        raise InvalidValueError(f"the name of {what} has {len(name)} characters; at most 200 are possible")
    if not name.isprintable():
        raise InvalidValueError(f"the name of {what} has a control character: {name!a}")
    return name


def check_text(value: str, what: str) -> str:
    """Return a text that can be stored: without NUL, which PostgreSQL refuses, and half surrogates."""
    if clean(value) != value:
        raise InvalidValueError(f"{what} has a NUL or half a surrogate pair")
    return value


def clean(value: str, length: int | None = None) -> str:
    """Return a text with what cannot be stored replaced by U+FFFD, cut to a length."""
    cut = value if length is None else value[:length]
    if "\0" in cut:
        cut = cut.replace("\0", "\ufffd")
    try:
        cut.encode()
    except UnicodeEncodeError:
        cut = cut.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return cut
