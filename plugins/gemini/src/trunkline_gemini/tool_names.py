"""The names of tools: those that other providers accept, but Gemini does not, are sent with a prefix.

A name must begin with a letter or an underscore (google-genai 3.6.1, `FunctionDeclaration.name`). Names such as
`2d_plot`, which the other providers accept, get the prefix in requests and lose it in responses.
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
