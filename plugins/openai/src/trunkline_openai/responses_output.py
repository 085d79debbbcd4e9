"""Output items of the Responses API, each turned into the events of its parts. Pure.

The life of an item in a stream:

    response.output_item.added        the item is announced, usually empty        Item.start
    response.*.delta                  a piece of one of its texts                 delta
    response.*.done                   one of its texts as a whole                 complete
    response.output_item.done         the item as a whole                         Item.finish
    response.completed                all items as a whole                        Item.finish, which then does nothing

So all content comes up to four times, and servers leave out any of these events but the last. Each time, only what has
not been emitted yet becomes events. A body that was not streamed is read as the last event alone.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar

from trunkline.authoring.json import as_count, as_objects, as_string, dumps, unknown_fields
from trunkline.errors import ProtocolViolation
from trunkline.events import (
    Event,
    PartAdded,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    TextDelta,
    TextEnd,
    TextStart,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from trunkline.messages import Citation, Opaque
from trunkline.response import CallWarning

from trunkline_openai.logprobs import token_logprobs
from trunkline_openai.response_parts import AudioPieces
from trunkline_openai.responses_items import CALLS, answered_id, awaited_id, generated_image
from trunkline_openai.responses_progress import EmittedText, TextOffsets


class OutputState:
    """What the items of one response share: the provider's name, the next part's index, the lengths of the texts."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.response_id = ""
        self.texts = TextOffsets()
        self.has_calls = False
        self.has_audio = False
        self.warnings: list[CallWarning] = []
        self._awaited: set[str] = set()
        self._answered: set[str] = set()
        self._next_index = 0

    @property
    def awaits_the_application(self) -> bool:
        """Whether the model waits for the application to send a tool result, a screenshot or an approval."""
        return self.has_calls or not self._awaited <= self._answered

    def note(self, kind: str, data: dict[str, Any]) -> bool:
        """Note an item. Returns whether it awaits the application, which answers it with another item."""
        self.has_calls = self.has_calls or kind in CALLS
        if (answered := answered_id(kind, data)) is not None:
            self._answered.add(answered)
        awaited = awaited_id(kind, data)
        if awaited is None or kind in CALLS:
            return False
        self._awaited.add(awaited)
        return True

    def add_opaque(self, kind: str, data: dict[str, Any], events: list[Event]) -> None:
        """Emit an item that has no matching part as an opaque part."""
        awaits_answer = self.note(kind, data)
        part = Opaque(provider=self.provider, kind=kind, data=data, awaits_answer=awaits_answer)
        events.append(PartAdded(part=part))

    def peek_index(self) -> int:
        """Return the index of the next part without using it."""
        return self._next_index

    def index(self) -> int:
        """Return the index for a new part."""
        index = self._next_index
        self._next_index += 1
        return index


class Item:
    """An output item. `finish` emits the rest of it and ends its parts; calling it again does nothing."""

    fields: ClassVar[frozenset[str]] = frozenset({"type"})
    """The item's fields that become fields of the part. All others become its provider metadata."""

    def __init__(self, output: OutputState, kind: str, data: dict[str, Any]) -> None:
        self.output = output
        self.kind = kind
        self.data = data
        self.finished = False
        self.begun_before = False
        """Whether the item began before the point from which the stream is read on. Only what follows is emitted."""

    def finish(self, data: dict[str, Any], events: list[Event]) -> None:
        """Emit the rest of the item. `data` is the whole item, or empty if the server did not repeat it."""
        if self.finished:
            return
        self.finished = True
        self.data = {**self.data, **data}
        self._finish(self.data, events)

    def start(self, events: list[Event]) -> None:
        """Emit what is known when the item is announced."""

    def _finish(self, data: dict[str, Any], events: list[Event]) -> None:
        raise NotImplementedError

    def metadata(self) -> dict[str, Any]:
        """The item's other fields that have a value."""
        return unknown_fields(self.data, self.fields)


def is_set(value: object) -> bool:
    """Whether a field has a value. Servers with a fixed schema send null or an empty container for an unset field."""
    return bool(value) or isinstance(value, (bool, int, float))


class OpaqueItem(Item):
    """An item of a type that has no part: a hosted tool's call, a compaction, anything unknown. It is kept whole."""

    def finish(self, data: dict[str, Any], events: list[Event]) -> None:
        """Emit the item as the server sent it last."""
        if not self.finished:
            self.finished = True
            self.output.add_opaque(self.kind, data or self.data, events)


class ImageItem(OpaqueItem):
    """An image that the model generated. If there is none, for example because it was blocked, the item is opaque."""

    def finish(self, data: dict[str, Any], events: list[Event]) -> None:
        """Emit the image of the item."""
        image = None if self.finished else generated_image(data or self.data, self.output.provider)
        if image is None:
            super().finish(data, events)
        else:
            self.finished = True
            events.append(PartAdded(part=image))


class _TextPiece:
    """A content part of a message: a text or a refusal."""

    __slots__ = ("base", "citations", "emitted", "index", "logprobs", "metadata", "position", "refusal")

    def __init__(self, index: int, refusal: bool, position: int) -> None:
        self.index = index
        self.refusal = refusal
        self.position = position
        self.emitted = EmittedText()
        self.logprobs = 0
        self.citations = 0
        self.base: int | None = None
        self.metadata: dict[str, Any] = {}


_TEXT_FIELDS = frozenset({"type", "text", "refusal", "annotations", "logprobs"})


class MessageItem(Item):
    """A message: texts and refusals by their content index, with citations and log probabilities."""

    fields = frozenset({"type", "role", "content"})

    def __init__(self, output: OutputState, kind: str, data: dict[str, Any]) -> None:
        super().__init__(output, kind, data)
        self._pieces: dict[tuple[int, bool], _TextPiece] = {}

    def piece(self, content_index: object, events: list[Event], *, refusal: bool = False) -> _TextPiece:
        """Return the content part at an index. A new one is started."""
        key = (content_index if type(content_index) is int else 0, refusal)
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = _TextPiece(self.output.index(), refusal, self.output.texts.append())
            events.append(TextStart(index=piece.index, refusal=refusal))
        return piece

    def delta(self, piece: _TextPiece, text: str, logprobs: object, events: list[Event]) -> None:
        """Emit a piece of a text."""
        self._record(piece, text)
        probabilities = token_logprobs(logprobs) if logprobs else ()
        piece.logprobs += len(probabilities)
        if text or probabilities:
            events.append(TextDelta(index=piece.index, text=text, logprobs=probabilities))

    def complete(self, piece: _TextPiece, text: str, logprobs: object, events: list[Event]) -> None:
        """Emit the rest of a text, of which `text` is the whole."""
        rest = piece.emitted.rest(text)
        probabilities = token_logprobs(logprobs)[piece.logprobs :] if logprobs else ()
        if rest or probabilities:
            self._record(piece, rest)
            piece.logprobs += len(probabilities)
            events.append(TextDelta(index=piece.index, text=rest, logprobs=probabilities))

    def done(
        self, content_index: object, text: str, logprobs: object, events: list[Event], *, refusal: bool = False
    ) -> None:
        """Emit the rest of the text at an index, of which `text` is the whole."""
        if not self.begun_before:
            self.complete(self.piece(content_index, events, refusal=refusal), text, logprobs, events)

    def _record(self, piece: _TextPiece, text: str) -> None:
        piece.emitted.add(text)
        if not piece.refusal:
            self.output.texts.add(piece.position, len(text))

    def annotate(self, piece: _TextPiece, annotation: object, events: list[Event]) -> None:
        """Emit a citation. Its offsets count from the start of this text, the core's from the first text's start."""
        if not isinstance(annotation, dict):
            return
        if piece.base is None:
            piece.base = self.output.texts.before(piece.position)
        piece.citations += 1
        start, end = as_count(annotation.get("start_index")), as_count(annotation.get("end_index"))
        events.append(
            Citation(
                url=as_string(annotation.get("url")) or None,
                title=as_string(annotation.get("title")) or as_string(annotation.get("filename")) or None,
                start=None if start is None else piece.base + start,
                end=None if end is None else piece.base + end,
                provider_metadata={self.output.provider: annotation},
            )
        )

    def part(self, content_index: object, part: dict[str, Any], events: list[Event]) -> None:
        """Emit the rest of a content part, of which `part` is the whole."""
        kind = part.get("type")
        if self.begun_before:
            known = self._pieces.get((content_index if type(content_index) is int else 0, kind == "refusal"))
            if known is not None:
                self._keep(known, part)
        elif kind in ("output_text", "text"):
            piece = self.piece(content_index, events)
            self._keep(piece, part)
            self.complete(piece, as_string(part.get("text")) or "", part.get("logprobs"), events)
            for annotation in as_objects(part.get("annotations"))[piece.citations :]:
                self.annotate(piece, annotation, events)
        elif kind == "refusal":
            piece = self.piece(content_index, events, refusal=True)
            self._keep(piece, part)
            self.complete(piece, as_string(part.get("refusal")) or "", None, events)

    def _keep(self, piece: _TextPiece, part: dict[str, Any]) -> None:
        piece.metadata.update(unknown_fields(part, _TEXT_FIELDS))

    def _finish(self, data: dict[str, Any], events: list[Event]) -> None:
        content = data.get("content")
        parts = [{"type": "output_text", "text": content}] if isinstance(content, str) else as_objects(content)
        for content_index, part in enumerate(parts):
            kind = part.get("type")
            if kind in ("output_text", "text", "refusal"):
                self.part(self._key(content_index, kind == "refusal"), part, events)
            elif kind == "output_audio":
                self._add_audio(part, events)
            else:
                message: dict[str, Any] = {"type": "message", "role": "assistant", "content": [part]}
                self.output.add_opaque(as_string(kind) or "unknown", message, events)
        metadata = self.metadata()
        for piece in self._pieces.values():
            kept = {**piece.metadata, **metadata}
            events.append(TextEnd(index=piece.index, provider_metadata={self.output.provider: kept} if kept else {}))

    def _add_audio(self, part: dict[str, Any], events: list[Event]) -> None:
        audio = AudioPieces(self.output.provider)
        audio.add({name: value for name, value in part.items() if name != "type"})
        added = audio.end()
        if added is not None:
            self.output.has_audio = True
            events.append(added)

    def _key(self, content_index: int, refusal: bool) -> int:
        """The key under which a part was streamed. Some servers number the streamed parts differently."""
        if content_index != 0:
            return content_index
        streamed = [key for key, was_refusal in self._pieces if was_refusal == refusal]
        return streamed[0] if len(streamed) == 1 else content_index


class CallItem(Item):
    """A call of a function or of a custom tool."""

    fields = frozenset({"type", "call_id", "name", "arguments", "input"})

    def __init__(self, output: OutputState, kind: str, data: dict[str, Any]) -> None:
        super().__init__(output, kind, data)
        self._custom = kind == "custom_tool_call"
        self._index: int | None = None
        self._held: list[str] = []
        self._emitted = EmittedText()

    def start(self, events: list[Event]) -> None:
        """Start the call as soon as the tool's name and the call's id are known."""
        call_id, name = as_string(self.data.get("call_id")) or "", as_string(self.data.get("name")) or ""
        if self._index is not None or not call_id or not name:
            return
        self._begin(call_id, name, events)

    def _begin(self, call_id: str, name: str, events: list[Event]) -> None:
        self.output.has_calls = True
        self._index = self.output.index()
        events.append(ToolCallStart(index=self._index, id=call_id, name=name))
        if self._custom:
            events.append(ToolCallDelta(index=self._index, arguments='{"input":"'))
        held, self._held = self._held, []
        for text in held:
            self._send(self._index, text, events)

    def delta(self, text: str, events: list[Event]) -> None:
        """Emit a piece of the arguments, or of a custom tool's input. It is held back until the call starts."""
        self._emitted.add(text)
        if self._index is None:
            self._held.append(text)
        else:
            self._send(self._index, text, events)

    def _send(self, index: int, text: str, events: list[Event]) -> None:
        # The input is free text, and becomes a JSON string here. Escaping to ASCII keeps the halves of a surrogate pair
        # that a server cut apart: their escapes form a pair again when the pieces are joined.
        arguments = json.dumps(text)[1:-1] if self._custom else text
        if arguments:
            events.append(ToolCallDelta(index=index, arguments=arguments))

    def complete(self, value: object, events: list[Event]) -> None:
        """Emit the rest of the arguments or the input. `value` is the complete text."""
        rest = self._emitted.rest(argument_text(value, self.output.provider))
        if rest:
            self.delta(rest, events)

    def _finish(self, data: dict[str, Any], events: list[Event]) -> None:
        if self._index is None:
            self._drop_tail(data)
        self.start(events)
        if self._index is None:
            name = as_string(data.get("name"))
            if not name:
                self._add_nameless(data, events)
                return
            self._begin(as_string(data.get("call_id")) or as_string(data.get("id")) or self._make_id(), name, events)
        assert self._index is not None
        self.complete(data.get("input" if self._custom else "arguments"), events)
        kept = self.metadata()
        if self._custom:
            events.append(ToolCallDelta(index=self._index, arguments='"}'))
            kept = {"type": "custom", **kept}
        events.append(ToolCallEnd(index=self._index, provider_metadata={self.output.provider: kept} if kept else {}))

    def _drop_tail(self, data: dict[str, Any]) -> None:
        """Drop held-back pieces that are not the beginning: the stream was resumed in the middle of the call."""
        whole = argument_text(data.get("input" if self._custom else "arguments"), self.output.provider)
        if whole and not whole.startswith("".join(self._held)):
            self._held, self._emitted = [], EmittedText()

    def _add_nameless(self, data: dict[str, Any], events: list[Event]) -> None:
        # The application cannot run this call, but the rest of the response is still useful.
        whole = {"type": self.kind, "arguments": self._emitted.text(), **data}
        events.append(PartAdded(part=Opaque(provider=self.output.provider, kind=self.kind, data=whole)))
        message = "the response has a tool call without a name; the call is kept as an opaque part"
        self.output.warnings.append(CallWarning(kind="other", subject="tool call", message=message, lossy=False))

    def _make_id(self) -> str:
        # Deterministic, so that a response has the same ids whether it is streamed or not.
        seed = f"{self.output.response_id}/{self.output.peek_index()}"
        return "call_" + hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def argument_text(value: object, provider: str) -> str:
    """Return arguments as JSON text. Some servers send null or an object instead of text."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return dumps(value).decode()
    except (ValueError, RecursionError):
        raise ProtocolViolation("a tool call's arguments are not JSON", provider=provider) from None


class ReasoningItem(Item):
    """Reasoning: the parts of its summary or of the text itself, with blank lines between them."""

    fields = frozenset({"type", "summary", "content", "encrypted_content"})

    def __init__(self, output: OutputState, kind: str, data: dict[str, Any]) -> None:
        super().__init__(output, kind, data)
        self._index: int | None = None
        self._pieces: dict[tuple[str, int], EmittedText] = {}

    def start(self, events: list[Event]) -> None:
        """Start the reasoning part, if it has not started."""
        self._begin(events)

    def _begin(self, events: list[Event]) -> int:
        if self._index is None:
            self._index = self.output.index()
            events.append(ReasoningStart(index=self._index))
        return self._index

    def delta(self, source: str, position: object, text: str, events: list[Event]) -> None:
        """Emit a piece of one part of the `summary` or of the `content`."""
        index = self._begin(events)
        if not text:
            return
        key = (source, position if type(position) is int else 0)
        piece = self._pieces.get(key)
        if piece is None:
            if self._pieces:
                events.append(ReasoningDelta(index=index, text="\n\n"))
            piece = self._pieces[key] = EmittedText()
        piece.add(text)
        events.append(ReasoningDelta(index=index, text=text))

    def complete(self, source: str, position: object, text: str, events: list[Event]) -> None:
        """Emit the rest of one part, of which `text` is the whole."""
        if self.begun_before:
            return
        key = (source, position if type(position) is int else 0)
        emitted = self._pieces.get(key)
        self.delta(source, position, text if emitted is None else emitted.rest(text), events)

    def _finish(self, data: dict[str, Any], events: list[Event]) -> None:
        index = self._begin(events)
        for source in ("summary", "content"):
            texts = [(as_string(part.get("text")) or "") for part in as_objects(data.get(source))]
            emitted = "".join(piece.text() for (kind, _), piece in self._pieces.items() if kind == source)
            # If a server gave all parts the same number, everything was emitted, although under one key.
            if emitted != "".join(texts):
                for position, text in enumerate(texts):
                    self.complete(source, position, text, events)
        provider = self.output.provider
        kept = {**self.metadata(), "summary": as_objects(data.get("summary"))}
        if content := as_objects(data.get("content")):
            kept["content"] = content
        events.append(
            ReasoningEnd(
                index=index,
                provider=provider,
                encrypted=as_string(data.get("encrypted_content")) or None,
                provider_metadata={provider: kept},
            )
        )


_KINDS: dict[str, type[Item]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "custom_tool_call": CallItem,
    "reasoning": ReasoningItem,
    "image_generation_call": ImageItem,
}


def new_item(output: OutputState, kind: str, data: dict[str, Any]) -> Item:
    """Return a new item for a type of the API."""
    return _KINDS.get(kind, OpaqueItem)(output, kind, data)
