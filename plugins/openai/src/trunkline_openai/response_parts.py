"""Parts of a response of Chat Completions other than text, reasoning and tool calls: audio, images and citations."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

from trunkline.authoring.json import as_count, as_list, as_object, as_objects, as_string
from trunkline.errors import InvalidRequest, ProtocolViolation
from trunkline.events import PartAdded
from trunkline.messages import Audio, Citation, Image, Opaque

ANNOTATION = "annotation."
"""The prefix of an `Opaque`'s `kind` for an annotation of a message."""

SENT_BACK = frozenset({"extra_content"})
"""Fields of a message that must be sent back to the server. They are kept in the metadata of the response's text.
Gemini's signature of an answer is in `extra_content` (https://ai.google.dev/gemini-api/docs/thought-signatures, read in
November 2026)."""


class AudioPieces:
    """A spoken answer, which comes as pieces of base64 and of its transcript."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._metadata: dict[str, Any] = {}
        self._data: list[str] = []
        self._transcript: list[str] = []

    def add(self, audio: dict[str, Any]) -> None:
        """Add a piece: the field `audio` of a delta, or of a whole message."""
        for key, value in audio.items():
            if key == "data" and isinstance(value, str):
                self._data.append(value)
            elif key == "transcript" and isinstance(value, str):
                self._transcript.append(value)
            elif value is not None:
                self._metadata[key] = value

    def end(self) -> PartAdded | None:
        """Return the part, or `None` if there is no audio: servers with a fixed schema send the fields empty.

        Raises `ProtocolViolation` for data that is not base64.
        """
        if not (self._metadata.get("id") or any(self._data) or any(self._transcript)):
            return None
        part = Audio(
            data=self._decoded(),
            transcript="".join(self._transcript) or None,
            provider_metadata={self._provider: self._metadata},
        )
        return PartAdded(part=part)

    def _decoded(self) -> bytes:
        # OpenAI encodes each piece on its own. Other servers encode once and cut the text anywhere.
        try:
            if all(len(piece) % 4 == 0 for piece in self._data):
                return b"".join(b64decode(piece, validate=True) for piece in self._data)
            return b64decode("".join(self._data), validate=True)
        except (binascii.Error, ValueError):
            raise ProtocolViolation("the response's audio is not base64", provider=self._provider) from None


def image_added(item: Any, provider: str) -> PartAdded:
    """The event for an image of the response. Raises `ProtocolViolation` for an item without a usable image."""
    value = as_object(item).get("image_url")
    url = value.get("url") if isinstance(value, dict) else value
    if not isinstance(url, str) or not url:
        raise ProtocolViolation("an image in the response has no URL", provider=provider)
    try:
        return PartAdded(part=Image(url=url))
    except (InvalidRequest, ValueError) as error:
        raise ProtocolViolation(f"an image in the response cannot be read: {error}", provider=provider) from None


def annotation(item: Any, provider: str) -> Citation | PartAdded | None:
    """A citation. An annotation of another kind becomes an opaque part, which is sent back with its message."""
    if not isinstance(item, dict):
        return None
    kind, value = item.get("type"), item.get("url_citation")
    if kind != "url_citation" or not isinstance(value, dict):
        return PartAdded(part=Opaque(provider=provider, kind=ANNOTATION + (as_string(kind) or "unknown"), data=item))
    return Citation(
        url=as_string(value.get("url")),
        title=as_string(value.get("title")),
        cited_text=as_string(value.get("content")),
        start=as_count(value.get("start_index")),
        end=as_count(value.get("end_index")),
    )


def sources(metadata: dict[str, Any]) -> list[Citation]:
    """The citations that Perplexity lists beside the choices, as `search_results` or as bare URLs."""
    found = [
        Citation(url=item["url"], title=as_string(item.get("title")))
        for item in as_objects(metadata.get("search_results"))
        if isinstance(item.get("url"), str)
    ]
    return found or [Citation(url=url) for url in as_list(metadata.get("citations")) if isinstance(url, str)]
