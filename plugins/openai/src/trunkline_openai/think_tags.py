"""Separate `<think>…</think>` at the beginning of a response from its text, wherever the stream is cut."""

from __future__ import annotations

_OPEN = "<think>"
_CLOSE = "</think>"
_LONGEST_INDENT = 256


class ThinkTags:
    """Separates reasoning from text. `feed` and `finish` return `(is_reasoning, text)` pairs, in order."""

    def __init__(self) -> None:
        self._state = "before"
        self._held = ""

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Return the pieces that are certain now. The beginning of a tag is held back."""
        if self._state == "text":
            return [(False, text)]
        pieces: list[tuple[bool, str]] = []
        self._held += text
        if self._state == "before":
            head = self._held.lstrip()
            if head.startswith(_OPEN):
                self._state, self._held = "inside", head[len(_OPEN) :]
            elif _OPEN.startswith(head) and len(self._held) < _LONGEST_INDENT:
                return []
            else:
                return self._flush("text")
        if self._state == "inside":
            inside, close, rest = self._held.partition(_CLOSE)
            if not close:
                keep = _overlap(self._held)
                cut = len(self._held) - keep
                inside, self._held = self._held[:cut], self._held[cut:]
                return [(True, inside)] if inside else []
            if inside:
                pieces.append((True, inside))
            self._state, self._held = "after", rest
        # The blank lines between reasoning and text belong to neither.
        self._held = self._held.lstrip("\r\n")
        return pieces + self._flush("text") if self._held else pieces

    def finish(self) -> list[tuple[bool, str]]:
        """Return the text that is still held back, at the end of the response."""
        held, self._held = self._held, ""
        return [(self._state == "inside", held)] if held and self._state in ("before", "inside") else []

    def _flush(self, state: str) -> list[tuple[bool, str]]:
        held, self._held, self._state = self._held, "", state
        return [(False, held)]


def _overlap(text: str) -> int:
    """The number of characters at the end of `text` that may be the beginning of the closing tag."""
    return next((size for size in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:size])), 0)
