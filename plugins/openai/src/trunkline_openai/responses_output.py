"""The output items of an answer of the Responses API, each turned into the events of its parts.

An item learns of its content three times over: in deltas, in the `done` event of a piece, and whole in
`response.output_item.done` and in the terminal event. What is known already is never told again; what a server left
out of its deltas is told from whichever comes next. A body that was not streamed is the case of items that come whole.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from trunkline.authoring.json import JSONObject, dumps
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
from trunkline.response import TokenLogprob

from trunkline_openai.responses_told import Lengths, Told

Data: TypeAlias = dict[str, Any]


def text_of(value: object) -> str:
    """The value where it is text; else nothing."""
    return value if isinstance(value, str) else ""


def objects_of(value: object) -> list[Data]:
    """The objects in a list; a list of anything else, or something that is no list, has none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _integer(value: object) -> int | None:
    return value if type(value) is int else None


class Answer:
    """What the items of one answer share: the provider's name, the indices of the events, the text so far."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.texts = Lengths()
        self.has_calls = False
        self._next_index = 0

    def index(self) -> int:
        """The index of the next part."""
        index = self._next_index
        self._next_index += 1
        return index


class Item:
    """An output item. `finish` tells what of it was not told, and ends its parts; once only."""

    def __init__(self, answer: Answer, kind: str, data: Data) -> None:
        self.answer = answer
        self.kind = kind
        self.data = data
        self.finished = False

    def finish(self, data: Data, events: list[Event]) -> None:
        """The item is complete, and `data` is all of it; empty where the server did not repeat it."""
        if self.finished:
            return
        self.finished = True
        self.data = {**self.data, **data}
        self._finish(self.data, events)

    def start(self, events: list[Event]) -> None:
        """The item was announced."""

    def _finish(self, data: Data, events: list[Event]) -> None:
        raise NotImplementedError

    def metadata(self, *names: str) -> dict[str, JSONObject]:
        """The item's fields of those names that hold something, as provider metadata."""
        kept = {name: value for name in names if (value := self.data.get(name)) is not None}
        return {self.answer.provider: kept} if kept else {}


class OpaqueItem(Item):
    """A hosted tool's call, a compaction, anything unknown: kept whole."""

    def finish(self, data: Data, events: list[Event]) -> None:
        """The item as its last telling had it."""
        if not self.finished:
            self.finished = True
            opaque = Opaque(provider=self.answer.provider, kind=self.kind, data=data or self.data)
            events.append(PartAdded(part=opaque))


class _TextPiece:
    """A content part of a message: a text or a refusal."""

    __slots__ = ("base", "citations", "index", "logprobs", "position", "refusal", "told")

    def __init__(self, index: int, refusal: bool, position: int) -> None:
        self.index = index
        self.refusal = refusal
        self.position = position
        self.told = Told()
        self.logprobs = 0
        self.citations = 0
        self.base: int | None = None


class MessageItem(Item):
    """A message: texts and refusals by their content index, with citations and log probabilities."""

    def __init__(self, answer: Answer, kind: str, data: Data) -> None:
        super().__init__(answer, kind, data)
        self._pieces: dict[tuple[int, bool], _TextPiece] = {}

    def piece(self, content_index: object, events: list[Event], *, refusal: bool = False) -> _TextPiece:
        """The content part at an index; it begins here where it is new."""
        key = (content_index if type(content_index) is int else 0, refusal)
        piece = self._pieces.get(key)
        if piece is None:
            piece = self._pieces[key] = _TextPiece(self.answer.index(), refusal, self.answer.texts.append())
            events.append(TextStart(index=piece.index, refusal=refusal))
        return piece

    def delta(self, piece: _TextPiece, text: str, logprobs: object, events: list[Event]) -> None:
        """More of a text."""
        self._told(piece, text)
        probabilities = _logprobs(logprobs) if logprobs else ()
        piece.logprobs += len(probabilities)
        if text or probabilities:
            events.append(TextDelta(index=piece.index, text=text, logprobs=probabilities))

    def complete(self, piece: _TextPiece, text: str, logprobs: object, events: list[Event]) -> None:
        """The whole of a text: what was not told of it follows."""
        rest = piece.told.rest(text)
        probabilities = _logprobs(logprobs)[piece.logprobs :] if logprobs else ()
        if rest or probabilities:
            self._told(piece, rest)
            piece.logprobs += len(probabilities)
            events.append(TextDelta(index=piece.index, text=rest, logprobs=probabilities))

    def _told(self, piece: _TextPiece, text: str) -> None:
        piece.told.add(text)
        if not piece.refusal:
            self.answer.texts.add(piece.position, len(text))

    def annotate(self, piece: _TextPiece, annotation: object, events: list[Event]) -> None:
        """One more citation of a text."""
        if not isinstance(annotation, dict):
            return
        if piece.base is None:
            piece.base = self.answer.texts.before(piece.position)
        piece.citations += 1
        start, end = _integer(annotation.get("start_index")), _integer(annotation.get("end_index"))
        events.append(
            Citation(
                url=text_of(annotation.get("url")) or None,
                title=text_of(annotation.get("title")) or text_of(annotation.get("filename")) or None,
                start=None if start is None else piece.base + start,
                end=None if end is None else piece.base + end,
                provider_metadata={self.answer.provider: annotation},
            )
        )

    def part(self, content_index: object, part: Data, events: list[Event]) -> None:
        """A whole content part."""
        kind = part.get("type")
        if kind in ("output_text", "text"):
            piece = self.piece(content_index, events)
            self.complete(piece, text_of(part.get("text")), part.get("logprobs"), events)
            for annotation in objects_of(part.get("annotations"))[piece.citations :]:
                self.annotate(piece, annotation, events)
        elif kind == "refusal":
            self.complete(self.piece(content_index, events, refusal=True), text_of(part.get("refusal")), None, events)

    def _finish(self, data: Data, events: list[Event]) -> None:
        content = data.get("content")
        parts = [{"type": "output_text", "text": content}] if isinstance(content, str) else objects_of(content)
        for content_index, part in enumerate(parts):
            kind = part.get("type")
            if kind in ("output_text", "text", "refusal"):
                self.part(self._key(content_index, kind == "refusal"), part, events)
            else:
                message: Data = {"type": "message", "role": "assistant", "content": [part]}
                opaque = Opaque(provider=self.answer.provider, kind=text_of(kind) or "unknown", data=message)
                events.append(PartAdded(part=opaque))
        metadata = self.metadata("id", "status", "phase")
        events.extend(TextEnd(index=piece.index, provider_metadata=metadata) for piece in self._pieces.values())

    def _key(self, content_index: int, refusal: bool) -> int:
        """The key under which a part was streamed. Some servers number what they stream in another way."""
        if content_index != 0:
            return content_index
        streamed = [key for key, was_refusal in self._pieces if was_refusal == refusal]
        return streamed[0] if len(streamed) == 1 else content_index


class CallItem(Item):
    """A call of a function or of a custom tool."""

    def __init__(self, answer: Answer, kind: str, data: Data) -> None:
        super().__init__(answer, kind, data)
        answer.has_calls = True
        self._custom = kind == "custom_tool_call"
        self._index: int | None = None
        self._held: list[str] = []
        self._told = Told()

    def start(self, events: list[Event]) -> None:
        """Begin as soon as the tool's name and the call's id are known."""
        call_id, name = text_of(self.data.get("call_id")), text_of(self.data.get("name"))
        if self._index is not None or not call_id or not name:
            return
        self._begin(call_id, name, events)

    def _begin(self, call_id: str, name: str, events: list[Event]) -> None:
        self._index = self.answer.index()
        events.append(ToolCallStart(index=self._index, id=call_id, name=name))
        if self._custom:
            events.append(ToolCallDelta(index=self._index, arguments='{"input":"'))
        held, self._held = self._held, []
        for text in held:
            self._send(self._index, text, events)

    def delta(self, text: str, events: list[Event]) -> None:
        """More of the arguments, or of a custom tool's input."""
        self._told.add(text)
        if self._index is None:
            self._held.append(text)
        else:
            self._send(self._index, text, events)

    def _send(self, index: int, text: str, events: list[Event]) -> None:
        # The input is free text. Escaped to ASCII, a surrogate pair that was cut in two is whole again when joined.
        arguments = json.dumps(text)[1:-1] if self._custom else text
        if arguments:
            events.append(ToolCallDelta(index=index, arguments=arguments))

    def complete(self, text: str, events: list[Event]) -> None:
        """The whole of the arguments or the input: what was not told of it follows."""
        rest = self._told.rest(text)
        if rest:
            self.delta(rest, events)

    def _finish(self, data: Data, events: list[Event]) -> None:
        self.start(events)
        if self._index is None:
            call_id, name = text_of(data.get("call_id")) or text_of(data.get("id")), text_of(data.get("name"))
            if not call_id or not name:
                raise ProtocolViolation(f"a {self.kind} without an id or a name", provider=self.answer.provider)
            self._begin(call_id, name, events)
        assert self._index is not None
        value = data.get("input" if self._custom else "arguments")
        self.complete(_argument_text(value, self.answer.provider), events)
        if not self._custom:
            events.append(
                ToolCallEnd(index=self._index, provider_metadata=self.metadata("id", "status", "namespace", "caller"))
            )
            return
        events.append(ToolCallDelta(index=self._index, arguments='"}'))
        kept = self.metadata("id", "status", "namespace", "caller").get(self.answer.provider, {})
        events.append(
            ToolCallEnd(index=self._index, provider_metadata={self.answer.provider: {"type": "custom", **kept}})
        )


def _argument_text(value: object, provider: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return dumps(value).decode()
    except (ValueError, RecursionError):
        raise ProtocolViolation("a tool call's arguments are not JSON", provider=provider) from None


class ReasoningItem(Item):
    """Reasoning: the parts of its summary, or the text itself, joined by blank lines."""

    def __init__(self, answer: Answer, kind: str, data: Data) -> None:
        super().__init__(answer, kind, data)
        self._index: int | None = None
        self._pieces: dict[tuple[str, int], Told] = {}

    def start(self, events: list[Event]) -> None:
        """Begin, where that has not happened."""
        self._begin(events)

    def _begin(self, events: list[Event]) -> int:
        if self._index is None:
            self._index = self.answer.index()
            events.append(ReasoningStart(index=self._index))
        return self._index

    def delta(self, source: str, position: object, text: str, events: list[Event]) -> None:
        """More of one part of the `summary` or of the `content`."""
        index = self._begin(events)
        if not text:
            return
        key = (source, position if type(position) is int else 0)
        piece = self._pieces.get(key)
        if piece is None:
            if self._pieces:
                events.append(ReasoningDelta(index=index, text="\n\n"))
            piece = self._pieces[key] = Told()
        piece.add(text)
        events.append(ReasoningDelta(index=index, text=text))

    def complete(self, source: str, position: object, text: str, events: list[Event]) -> None:
        """The whole of one part: what was not told of it follows."""
        key = (source, position if type(position) is int else 0)
        told = self._pieces.get(key)
        self.delta(source, position, text if told is None else told.rest(text), events)

    def _finish(self, data: Data, events: list[Event]) -> None:
        index = self._begin(events)
        for source in ("summary", "content"):
            texts = [text_of(part.get("text")) for part in objects_of(data.get(source))]
            told = "".join(piece.text() for (kind, _), piece in self._pieces.items() if kind == source)
            # A server that gives all parts the same number has told everything all the same.
            if told != "".join(texts):
                for position, text in enumerate(texts):
                    self.complete(source, position, text, events)
        provider = self.answer.provider
        kept: Data = {"id": item_id} if (item_id := text_of(data.get("id"))) else {}
        kept["summary"] = objects_of(data.get("summary"))
        if content := objects_of(data.get("content")):
            kept["content"] = content
        events.append(
            ReasoningEnd(
                index=index,
                provider=provider,
                encrypted=text_of(data.get("encrypted_content")) or None,
                provider_metadata={provider: kept},
            )
        )


_KINDS: dict[str, type[Item]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "custom_tool_call": CallItem,
    "reasoning": ReasoningItem,
}


def new_item(answer: Answer, kind: str, data: Data) -> Item:
    """A fresh item of a wire type."""
    return _KINDS.get(kind, OpaqueItem)(answer, kind, data)


def _logprobs(value: object, *, nested: bool = True) -> tuple[TokenLogprob, ...]:
    found = []
    for entry in objects_of(value):
        token, logprob = entry.get("token"), entry.get("logprob")
        if isinstance(token, str) and isinstance(logprob, (int, float)) and abs(logprob) < 1e300:
            top = _logprobs(entry.get("top_logprobs"), nested=False) if nested else ()
            found.append(TokenLogprob(token=token, logprob=float(logprob), top=top))
    return tuple(found)
