"""Which headers can be sent."""

from __future__ import annotations

import re
from functools import lru_cache

_FRAMING = frozenset({"content-length", "transfer-encoding", "trailer", "upgrade"})
"""The headers that must agree with how the HTTP library sends the body and uses the connection."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@lru_cache(maxsize=256)  # nearly all requests have the same names
def _name_problem(name: str) -> str | None:
    if not _NAME.fullmatch(name):
        return f"HTTP does not allow the header name {name!r}"
    if name.lower() == "expect":  # aiohttp would wait, without a limit, for a server that does not send 100
        return f"the header {name!r} is not supported, since a request would wait for a server that ignores it"
    return f"the HTTP library sets the header {name!r}" if name.lower() in _FRAMING else None


def header_problem(name: str, value: str) -> str | None:
    """Return why a header cannot be sent, as a clause that does not show its value, or `None` if it can."""
    problem = _name_problem(name)
    if problem is not None:
        return problem
    if value.isascii() and (value.isprintable() or value.replace("\t", " ").isprintable()) and value == value.strip():
        return None
    return f"the value of the header {name!r} is not printable ASCII without surrounding spaces"
