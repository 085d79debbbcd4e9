"""Reasoning in a response of Chat Completions, in the forms that compatible servers have for it."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_list, as_string
from trunkline.events import ReasoningEnd

_JOINED = frozenset({"text", "summary", "data"})


class ReasoningBlocks:
    """What reasoning has besides its text: OpenRouter's `reasoning_details`, a signature, encrypted content.

    A stream cuts a block into pieces of the same `type` and `index`. The server accepts a block back only as a whole,
    so the strings in `_JOINED` are concatenated; every other field keeps the value of the last piece that has one.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._details: list[dict[str, Any]] = []
        self.signature: str | None = None

    def add(self, detail: dict[str, Any]) -> None:
        """Add a block, or a piece of one."""
        last = self._details[-1] if self._details else None
        if last is None or (last.get("type"), last.get("index")) != (detail.get("type"), detail.get("index")):
            self._details.append(
                {key: [value] if key in _JOINED and isinstance(value, str) else value for key, value in detail.items()}
            )
            return
        for key, value in detail.items():
            pieces = last.get(key)
            if key in _JOINED and isinstance(value, str) and isinstance(pieces, list):
                pieces.append(value)
            elif value is not None:
                last[key] = [value] if key in _JOINED and isinstance(value, str) else value

    def end(self, index: int) -> ReasoningEnd:
        """Return the event that ends the reasoning part at `index`."""
        details = [
            {key: "".join(value) if key in _JOINED and _is_pieces(value) else value for key, value in detail.items()}
            for detail in self._details
        ]
        return ReasoningEnd(
            index=index,
            provider=self._provider,
            signature=_last(details, "signature") or self.signature,
            encrypted=_last(details, "data"),
            provider_metadata={self._provider: {"reasoning_details": details}} if details else {},
        )


def detail_text(detail: dict[str, Any]) -> str:
    """The readable text of one of OpenRouter's reasoning details."""
    return as_string(detail.get("text")) or as_string(detail.get("summary")) or ""


def thinking_text(item: dict[str, Any]) -> str:
    """The text of a content part that holds reasoning: a string, or Mistral's list of text parts."""
    value = item.get("thinking", item.get("text"))
    if isinstance(value, str):
        return value
    pieces = [piece.get("text") if isinstance(piece, dict) else piece for piece in as_list(value)]
    return "".join(piece for piece in pieces if isinstance(piece, str))


def _is_pieces(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(piece, str) for piece in value)


def _last(details: list[dict[str, Any]], key: str) -> str | None:
    return next((detail[key] for detail in reversed(details) if isinstance(detail.get(key), str)), None)
