"""Tell what a value is in a text that is the same in every process.

`repr` is not enough: that of a function or an object has its address in memory, and that of an image lacks its bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Set
from typing import Any, cast

import attrs

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def stable_text(value: object) -> str:
    """Return a text for a value, such as a request or a parameter. Equal texts stand for equal values.

    Functions and classes count by their names.
    """
    if isinstance(value, (bytes, bytearray)):
        return f"bytes({hashlib.sha256(value).hexdigest()})"
    if isinstance(value, Mapping):
        return _enclosed(sorted(f"{stable_text(name)}: {stable_text(item)}" for name, item in value.items()))
    if isinstance(value, Set):
        return _enclosed(sorted(map(stable_text, value)))
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(stable_text, value))}]"
    if attrs.has(type(value)):
        fields = attrs.fields(cast("type[Any]", type(value)))
        compared = {field.name: getattr(value, field.name, None) for field in fields if field.eq}
        return f"{type(value).__qualname__}{stable_text(compared)}"
    return _ADDRESS.sub("", repr(value)) if not isinstance(value, str) else repr(value)


def _enclosed(items: list[str]) -> str:
    return "{" + ", ".join(items) + "}"
