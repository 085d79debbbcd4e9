"""Writes the subset of TOML that a configuration file needs. (The standard library only reads TOML.)"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

BARE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"


def toml_key(name: str) -> str:
    """Return the name as a TOML key: bare if TOML allows that, else quoted."""
    return name if name and all(letter in BARE for letter in name) else _quoted(name)


def toml_value(value: object) -> str:
    """Return the value in TOML; tables are inline. Raises `TypeError` for a value that TOML does not have, as null."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Mapping):
        pairs = (f"{toml_key(str(name))} = {toml_value(item)}" for name, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _quoted(text: str) -> str:
    # A JSON string is a valid TOML basic string, except that TOML requires DEL to be escaped (TOML 1.0, "String").
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
