"""Add a prefix to tool names that Gemini refuses although other providers accept them.

A name must begin with a letter or an underscore (google-genai 3.6.1, `FunctionDeclaration.name`). The prefix is added
to names such as `2d_plot` in requests, and removed in responses.
"""

from __future__ import annotations

import re

_PREFIX = "__"
_UNPREFIXED = re.compile(r"[0-9-][A-Za-z0-9_.:-]{0,61}")


def wire_name(name: str) -> str:
    """Return the name that is sent for a tool."""
    return _PREFIX + name if _UNPREFIXED.fullmatch(name) else name


def tool_name(name: str) -> str:
    """Return the application's name of the tool that Gemini calls."""
    plain = name.removeprefix(_PREFIX)
    return plain if plain != name and _UNPREFIXED.fullmatch(plain) else name
