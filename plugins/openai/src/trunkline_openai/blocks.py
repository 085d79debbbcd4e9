"""Parts of an answer that come in pieces of their own, or whole: reasoning blocks, sound, pictures, sources."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

from trunkline.errors import InvalidRequest, ProtocolViolation
from trunkline.events import PartAdded, ReasoningEnd
from trunkline.messages import Audio, Citation, Image, Opaque

from trunkline_openai.fields import integer, items, string

ANNOTATION = "annotation."
"""The prefix of an `Opaque`'s `kind` for an annotation of a message."""

_JOINED = frozenset({"text", "summary", "data"})


class ReasoningBlocks:
    """What reasoning has besides its text: OpenRouter's `reasoning_details`, a signature, encrypted content."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._details: list[dict[str, Any]] = []
        self.signature: str | None = None

    def add(self, detail: dict[str, Any]) -> None:
        """Take a block or a piece of one. Pieces come one by one; the server wants the block back whole."""
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
        """The event that completes the reasoning."""
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


class Sound:
    """A spoken answer: pieces of base64 and of its transcript."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._facts: dict[str, Any] = {}
        self._data: list[str] = []
        self._transcript: list[str] = []

    def add(self, audio: dict[str, Any]) -> None:
        """Take a piece."""
        for key, value in audio.items():
            if key == "data" and isinstance(value, str):
                self._data.append(value)
            elif key == "transcript" and isinstance(value, str):
                self._transcript.append(value)
            elif value is not None:
                self._facts[key] = value

    def end(self) -> PartAdded | None:
        """The whole, if there is any: a server with a fixed schema sends the fields empty."""
        if not (self._facts.get("id") or any(self._data) or any(self._transcript)):
            return None
        part = Audio(
            data=self._decoded(),
            transcript="".join(self._transcript) or None,
            provider_metadata={self._provider: self._facts},
        )
        return PartAdded(part=part)

    def _decoded(self) -> bytes:
        # Each piece is base64 of its own, unless a server cut one text anywhere.
        try:
            if all(len(piece) % 4 == 0 for piece in self._data):
                return b"".join(b64decode(piece, validate=True) for piece in self._data)
            return b64decode("".join(self._data), validate=True)
        except (binascii.Error, ValueError):
            raise ProtocolViolation("the answer's audio is not base64", provider=self._provider) from None


def image_added(item: Any, provider: str) -> PartAdded:
    """A picture of the answer. Raises `ProtocolViolation` where there is none."""
    value = item.get("image_url") if isinstance(item, dict) else None
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str) or not url:
        raise ProtocolViolation("a picture in the answer has no URL", provider=provider)
    try:
        return PartAdded(part=Image(url=url))
    except (InvalidRequest, ValueError) as error:
        raise ProtocolViolation(f"a picture in the answer cannot be read: {error}", provider=provider) from None


def annotation(item: Any, provider: str) -> Citation | PartAdded | None:
    """A citation; an annotation of another kind as an opaque part, which is sent back with its message."""
    if not isinstance(item, dict):
        return None
    kind, value = item.get("type"), item.get("url_citation")
    if kind != "url_citation" or not isinstance(value, dict):
        name = ANNOTATION + (kind if isinstance(kind, str) else "unknown")
        return PartAdded(part=Opaque(provider=provider, kind=name, data=item))
    return Citation(
        url=string(value.get("url")),
        title=string(value.get("title")),
        cited_text=string(value.get("content")),
        start=integer(value.get("start_index")),
        end=integer(value.get("end_index")),
    )


def sources(metadata: dict[str, Any]) -> list[Citation]:
    """What Perplexity lists beside the choices."""
    results = [item for item in items(metadata.get("search_results")) if isinstance(item, dict)]
    found = [
        Citation(url=item["url"], title=string(item.get("title")))
        for item in results
        if isinstance(item.get("url"), str)
    ]
    return found or [Citation(url=url) for url in items(metadata.get("citations")) if isinstance(url, str)]


def _is_pieces(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(piece, str) for piece in value)


def _last(details: list[dict[str, Any]], key: str) -> str | None:
    return next((detail[key] for detail in reversed(details) if isinstance(detail.get(key), str)), None)
