"""Parse what Mistral adds to Chat Completions: content that is a list of chunks. Does no I/O.

A response's `content` is a string, or an ordered list of chunks: text, thinking, references and others. A stream splits
thinking into several chunks, as it does text. Consecutive thinking chunks are one part, which ends at a signature.
"""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import JSONValue, as_list, as_object, as_string
from trunkline.errors import RemoteError
from trunkline.events import PartAdded, ReasoningEnd
from trunkline.messages import Citation, Opaque
from trunkline.response import TokenLogprob
from trunkline.secrets import Headers, HeaderValues
from trunkline_openai.parse import ChatParser
from trunkline_openai.profile import Profile
from trunkline_openai.reasoning import thinking_text

from trunkline_mistral.errors import error_from_body


class Thinking:
    """Collects what the chunks of one reasoning part contain besides their text."""

    def __init__(self) -> None:
        self.signature: str | None = None
        self._closed: object = None
        # The pieces in order. Consecutive text pieces are one entry: the list of their texts.
        self._pieces: list[list[str] | dict[str, Any]] = []
        self._only_text = True

    def add(self, chunk: dict[str, Any]) -> None:
        """Add a chunk, or a piece of one."""
        for piece in as_list(chunk.get("thinking")):
            if isinstance(piece, dict) and piece.get("type", "text") != "text":
                self._only_text = False
                self._pieces.append(piece)
                continue
            text = piece if isinstance(piece, str) else as_string(as_object(piece).get("text"))
            if text and self._pieces and isinstance(self._pieces[-1], list):
                self._pieces[-1].append(text)
            elif text:
                self._pieces.append([text])
        self.signature = as_string(chunk.get("signature")) or self.signature
        if "closed" in chunk:
            self._closed = chunk["closed"]

    def metadata(self) -> dict[str, Any]:
        """Return what is needed, besides text and signature, to send the reasoning back as it arrived."""
        metadata: dict[str, Any] = {}
        if not self._only_text:
            metadata["thinking"] = [
                {"type": "text", "text": "".join(piece)} if isinstance(piece, list) else piece for piece in self._pieces
            ]
        return metadata if self._closed is not False else {**metadata, "closed": False}


class MistralParser(ChatParser):
    """Parses one response."""

    def __init__(self, *, provider: str, profile: Profile) -> None:
        super().__init__(provider=provider, profile=profile)
        self._thinking = Thinking()

    def text(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """Add to the response's text."""
        if text:
            self.end_reasoning()
        super().text(text, logprobs)

    def reasoning(self, text: str) -> None:
        """Add to the reasoning's text."""
        self.end_text()
        super().reasoning(text)

    def reasoning_end(self, index: int) -> ReasoningEnd:
        """Return the event that ends the reasoning part."""
        thinking, self._thinking = self._thinking, Thinking()
        metadata = thinking.metadata()
        return ReasoningEnd(
            index=index,
            provider=self.provider,
            signature=thinking.signature,
            provider_metadata={self.provider: metadata} if metadata else {},
        )

    def content_part(self, item: Any) -> None:
        """Add one chunk of a `content` list. Raises `ProtocolViolation` if it is malformed."""
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "thinking":
            if self._thinking.signature is not None:
                self.end_reasoning()
            self.reasoning(thinking_text(item))
            self._thinking.add(item)
        elif kind == "reference":
            self._end_parts()
            self.add(Citation(provider_metadata={self.provider: {"reference_ids": as_list(item.get("reference_ids"))}}))
        elif kind in (None, "text"):
            super().content_part(item)
        else:
            self._end_parts()
            if kind == "image_url":
                super().content_part(item)
            else:
                name = kind if isinstance(kind, str) else "unknown"
                self.add(PartAdded(part=Opaque(provider=self.provider, kind=name, data=item)))

    def _end_parts(self) -> None:
        # Text that follows becomes a new part, so that the order is kept when the response is sent back.
        self.end_text()
        self.end_reasoning()

    @staticmethod
    def error(
        body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError:
        """Return the error that a decoded body describes. It never raises."""
        return error_from_body(body, provider=provider, status=status, headers=headers)
