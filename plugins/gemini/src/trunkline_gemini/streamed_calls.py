"""Assemble the arguments of a function call from pieces: a path, and a value or a part of a string.

Gemini 3 models on Vertex AI send these pieces if `streamFunctionCallArguments` is set. The first part of a call has the
name and `willContinue`, the next parts have `partialArgs`, and a part without `willContinue` ends the call:

    {"name": "weather", "willContinue": true}
    {"partialArgs": [{"jsonPath": "$.city", "stringValue": "Os", "willContinue": true}], "willContinue": true}
    {"partialArgs": [{"jsonPath": "$.city", "stringValue": "lo"}], "willContinue": true}
    {}

Source: `FunctionCall` and `PartialArg` of google-genai 3.6.1.
"""

from __future__ import annotations

import re
from typing import Any

from trunkline.authoring.json import as_list, json_text

_STEP = re.compile(r"""\.([^.\[\]"']+)|\[(\d{1,9})\]|\[\s*'((?:[^'\\]|\\.)*)'\s*\]|\[\s*"((?:[^"\\]|\\.)*)"\s*\]""")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_VALUES = ("stringValue", "numberValue", "boolValue", "nullValue", "structValue", "listValue")

_FIRST_EMPTY = 64
"""The maximum number of list positions that may be empty before a value. In practice, values come in order."""


class StreamedCall:
    """The arguments of one call that have arrived so far.

    `key` is the key of the call in the `EventBuilder`. `name` and `call_id` are from the first part.
    """

    def __init__(self, key: int, name: str, call_id: str | None) -> None:
        self.key = key
        self.name = name
        self.call_id = call_id
        self._arguments: dict[str, Any] = {}
        # The incomplete strings by path: the object or list that contains the string, the position in it, and the
        # pieces.
        self._open: dict[str, tuple[Any, str | int, list[str]]] = {}
        self._pieces: list[Any] = []  # unchanged
        self._is_readable = True

    @property
    def is_open(self) -> bool:
        """Whether a string is incomplete."""
        return bool(self._open)

    def add(self, call: dict[str, Any]) -> None:
        """Add the pieces of one part. The `args` of a part replace fields with the same names."""
        if isinstance(call.get("args"), dict):
            self._arguments.update(call["args"])
        for piece in as_list(call.get("partialArgs")):
            self._pieces.append(piece)
            self._is_readable = self._is_readable and isinstance(piece, dict) and self._set(piece)

    def text(self, *, is_complete: bool) -> str:
        """Return the arguments as JSON text, without the last brace if the arguments are incomplete.

        Without the brace, incomplete arguments are never valid JSON. If a piece cannot be read, the text is the list of
        pieces.
        """
        if not self._is_readable:
            return json_text(self._pieces)
        for path in [*self._open]:
            self._close(path)
        text = json_text(self._arguments)
        return text if is_complete else text[:-1]

    def _set(self, piece: dict[str, Any]) -> bool:
        """Store the value of a piece at its path. Returns whether the piece can be read."""
        path, goes_on = piece.get("jsonPath"), piece.get("willContinue") is True
        if not isinstance(path, str):
            return False
        kind = next((name for name in _VALUES if name in piece), None)
        value = None if kind in (None, "nullValue") else piece[kind]
        if path in self._open:
            if isinstance(value, str):
                self._open[path][2].append(value)
            if not goes_on:
                self._close(path)
            if kind is None or isinstance(value, str):
                return True
        place = self._place(path)
        if place is None:
            return False
        if kind is not None:  # otherwise the piece only announces a value
            container, step = place
            container[step] = value
            if goes_on and isinstance(value, str):
                self._open[path] = (container, step, [value])
        return True

    def _close(self, path: str) -> None:
        container, step, pieces = self._open.pop(path)
        container[step] = "".join(pieces)

    def _place(self, path: str) -> tuple[Any, str | int] | None:
        """Return the innermost object or list of a path, created if it is missing, and the position in it."""
        steps = _steps(path)
        if not steps:
            return None
        target: Any = self._arguments
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            if isinstance(step, int):
                if not isinstance(target, list) or step > len(target) + _FIRST_EMPTY:
                    return None
                target += [None] * (step + 1 - len(target))
            elif not isinstance(target, dict):
                return None
            if following is None:
                return target, step
            if (target[step] if isinstance(step, int) else target.get(step)) is None:
                target[step] = [] if isinstance(following, int) else {}
            target = target[step]
        return None


def _steps(path: str) -> list[str | int] | None:
    """Return the names and indexes of a JSON path (RFC 9535) to one value, or `None` for any other text."""
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            return None
        name, index, single, double = found.groups()
        quoted = single if single is not None else double
        if quoted is not None:
            steps.append(_ESCAPE.sub(r"\1", quoted))
        else:
            steps.append(int(index) if index is not None else name)
        at = found.end()
    return steps if path[:1] == "$" else None
