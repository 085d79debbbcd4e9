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

_TEXT_FIELDS = frozenset({"type", "text"})
_THINKING_FIELDS = frozenset({"type", "thinking", "signature", "closed"})


class Thinking:
    """Collects what the chunks of one reasoning part contain besides their text."""

    def __init__(self) -> None:
        self.signature: str | None = None
        self._closed: object = None
        self._others: dict[str, Any] = {}  # fields that the parser does not read
        # The pieces in order. Consecutive text pieces are one entry: the list of their texts.
        self._pieces: list[list[str] | dict[str, Any]] = []
        self._only_text = True

    def add(self, chunk: dict[str, Any]) -> None:
        """Add a chunk, or a piece of one."""
        for piece in as_list(chunk.get("thinking")):
            if isinstance(piece, dict) and not (piece.get("type", "text") == "text" and piece.keys() <= _TEXT_FIELDS):
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
        if not chunk.keys() <= _THINKING_FIELDS:
            self._others |= {name: chunk[name] for name in chunk.keys() - _THINKING_FIELDS}

    def metadata(self) -> dict[str, Any]:
        """Return what is needed, besides text and signature, to send the reasoning back as it arrived."""
        metadata = self._others
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
        self._messages: list[Any] = []  # the messages of tools that Mistral ran
        self._run: set[object] = set()  # the positions of these messages
        self._logprobs: list[Any] = []  # unchanged, because they contain the token ids

    def take(self, chunk: dict[str, Any]) -> None:
        """Read a chunk, or a whole body. Raises the error in it, or `ProtocolViolation`.

        If Mistral runs tools, a response has several messages: a body has them in `messages`, and a stream numbers them
        in `delta.index`. The model did not write the messages with the role `tool`. These messages, and the calls that
        they answer, become metadata.
        """
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            super().take(chunk)
            return
        for choice in choices:
            if isinstance(choice, dict):
                if choice.get("messages") and isinstance(choice["messages"], list):
                    self._take_messages(chunk, choice)
                    return
                delta = choice.get("delta")
                if isinstance(delta, dict) and self._is_run(delta):
                    self._messages.append(delta)
                    self.keep("messages", self._messages)
                    chunk = {**chunk, "choices": [{**choice, "delta": {}}]}
        super().take(chunk)

    def _is_run(self, delta: dict[str, Any]) -> bool:
        """Return whether a delta belongs to the message of a tool that Mistral ran."""
        if "role" not in delta and not self._run:
            return False
        position = delta.get("index") if isinstance(delta.get("index"), int) else 0
        if delta.get("role") == "tool":
            self._run.add(position)
        elif delta.get("role"):
            self._run.discard(position)
        return position in self._run

    def _take_messages(self, chunk: dict[str, Any], choice: dict[str, Any]) -> None:
        messages = [message for message in choice["messages"] if isinstance(message, dict)]
        run = [message for message in messages if message.get("role") == "tool"]
        if run:
            self.keep("messages", messages)
        answered = [message.get("tool_call_id") for message in run]
        rest = {name: value for name, value in choice.items() if name not in ("messages", "message")}
        for message in messages:
            if message in run:
                continue
            calls = [call for call in as_list(message.get("tool_calls")) if as_object(call).get("id") not in answered]
            super().take({**chunk, "choices": [{**rest, "message": {**message, "tool_calls": calls}}]})

    def keep_logprobs(self, logprobs: Any) -> None:
        """Keep log probabilities with token ids, and log probabilities of tokens that are not part of the text."""
        super().keep_logprobs(logprobs)
        entries = as_list(as_object(logprobs).get("content"))
        if any(isinstance(entry, dict) and "token_id" in entry for entry in entries):
            self._logprobs += entries
            self.keep("logprobs", {"content": self._logprobs})

    def keep(self, key: str, value: Any) -> None:
        """Keep a field that the parser does not read, for `provider_metadata`."""
        if key != "index":  # the position of a message in the response
            super().keep(key, value)

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
            fields = {name: value for name, value in item.items() if name != "type"}
            fields["reference_ids"] = as_list(item.get("reference_ids"))
            self.add(Citation(provider_metadata={self.provider: fields}))
        elif kind in (None, "text"):
            super().content_part(item)
            if isinstance(item, dict) and not item.keys() <= _TEXT_FIELDS:
                self._keep_all(item, _TEXT_FIELDS)
        else:
            self._end_parts()
            if kind == "image_url":
                super().content_part(item)
                self._keep_all(item, frozenset({"type", "image_url"}))
            else:
                name = kind if isinstance(kind, str) else "unknown"
                self.add(PartAdded(part=Opaque(provider=self.provider, kind=name, data=item)))

    def _keep_all(self, item: dict[str, Any], known: frozenset[str]) -> None:
        for name in item.keys() - known:
            self.keep(name, item[name])

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
