"""The content blocks of an answer: each tells of itself in events, as it comes or all at once."""

from __future__ import annotations

from typing import Any, TypeAlias

from trunkline.authoring.json import dumps, loads
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
    text_delta,
)
from trunkline.messages import Citation, Opaque

Data: TypeAlias = dict[str, Any]


class Answer:
    """What the blocks of one answer share: the provider's name, the indices of the events, the text so far."""

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.text_length = 0
        self.has_calls = False
        self._next_index = 0

    def index(self) -> int:
        """The index of the next part."""
        index = self._next_index
        self._next_index += 1
        return index

    def text(self, data: Data, name: str) -> str:
        """A field that must be text."""
        value = data.get(name)
        if type(value) is not str:
            raise ProtocolViolation(f"a {data.get('type')} has a {name} that is not text", provider=self.provider)
        return value


class Block:
    """A content block. `data` is what it began with. A delta of another kind of block is none of the wire format."""

    def __init__(self, answer: Answer, data: Data) -> None:
        self.answer = answer
        self.data = data

    def start(self, events: list[Event]) -> None:
        """The block begins."""

    def delta(self, kind: object, delta: Data, events: list[Event]) -> None:
        """More of the block. A kind of delta that is not known is passed over."""
        if kind in ("text_delta", "thinking_delta", "input_json_delta"):
            raise ProtocolViolation(
                f"a {kind} in a block of the type {self.data.get('type')}", provider=self.answer.provider
            )

    def stop(self, events: list[Event]) -> None:
        """The block is complete."""


class TextBlock(Block):
    """Text, and the sources that it rests on, which are told at its end: they are sources of the whole block."""

    def __init__(self, answer: Answer, data: Data) -> None:
        super().__init__(answer, data)
        self._index = answer.index()
        self._length = 0
        self._citations: list[Data] = []

    def start(self, events: list[Event]) -> None:
        """The text begins; a whole one comes with all of it."""
        events.append(TextStart(index=self._index))
        if self.data.get("text"):
            self._add(self.answer.text(self.data, "text"), events)
        citations = self.data.get("citations")
        if isinstance(citations, list):
            self._citations += [citation for citation in citations if isinstance(citation, dict)]

    def delta(self, kind: object, delta: Data, events: list[Event]) -> None:
        """More text, or a citation."""
        if kind == "text_delta":
            text = delta.get("text")
            self._add(text if type(text) is str else self.answer.text(delta, "text"), events)
        elif kind == "citations_delta":
            if isinstance(delta.get("citation"), dict):
                self._citations.append(delta["citation"])
        else:
            super().delta(kind, delta, events)

    def more(self, text: str) -> TextDelta:
        """The event of a text that is not empty."""
        self._length += len(text)
        return text_delta(self._index, text)

    def _add(self, text: str, events: list[Event]) -> None:
        if text:
            events.append(self.more(text))

    def stop(self, events: list[Event]) -> None:
        """The text is complete."""
        start, provider = self.answer.text_length, self.answer.provider
        self.answer.text_length = end = start + self._length
        metadata: dict[str, Data] = {provider: {"citations": self._citations}} if self._citations else {}
        events.append(TextEnd(index=self._index, provider_metadata=metadata))
        events += [_citation(citation, start, end, provider) for citation in self._citations]


def _citation(data: Data, start: int, end: int, provider: str) -> Citation:
    source = _string(data.get("url")) or _string(data.get("source"))
    return Citation(
        url=source if source is not None and source.startswith(("http://", "https://")) else None,
        title=_string(data.get("title")) or _string(data.get("document_title")),
        cited_text=_string(data.get("cited_text")),
        start=start,
        end=end,
        provider_metadata={provider: data},
    )


def _string(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


class ThinkingBlock(Block):
    """Thinking and its signature. The text is empty where the model does not show it."""

    def __init__(self, answer: Answer, data: Data) -> None:
        super().__init__(answer, data)
        self._index = answer.index()
        self._signature = _string(data.get("signature"))

    def start(self, events: list[Event]) -> None:
        """The thinking begins; a whole one comes with all of it."""
        events.append(ReasoningStart(index=self._index))
        if self.data.get("thinking"):
            events.append(ReasoningDelta(index=self._index, text=self.answer.text(self.data, "thinking")))

    def delta(self, kind: object, delta: Data, events: list[Event]) -> None:
        """More thinking, or the signature."""
        if kind == "thinking_delta":
            if text := self.answer.text(delta, "thinking"):
                events.append(ReasoningDelta(index=self._index, text=text))
        elif kind == "signature_delta":
            self._signature = self.answer.text(delta, "signature") or self._signature
        else:
            super().delta(kind, delta, events)

    def stop(self, events: list[Event]) -> None:
        """The thinking is complete."""
        events.append(ReasoningEnd(index=self._index, provider=self.answer.provider, signature=self._signature))


class RedactedThinkingBlock(Block):
    """Thinking that a safety system hid."""

    def stop(self, events: list[Event]) -> None:
        """The block, which comes whole."""
        index = self.answer.index()
        encrypted = self.answer.text(self.data, "data")
        events.append(ReasoningStart(index=index))
        events.append(ReasoningEnd(index=index, provider=self.answer.provider, encrypted=encrypted, redacted=True))


class ToolUseBlock(Block):
    """A call of a tool of the application's."""

    def __init__(self, answer: Answer, data: Data) -> None:
        super().__init__(answer, data)
        self._index = answer.index()
        self._told = False
        answer.has_calls = True

    def start(self, events: list[Event]) -> None:
        """The call begins. The input that stands here is all of it only where no delta follows."""
        call_id, name = _string(self.data.get("id")), _string(self.data.get("name"))
        if call_id is None or name is None:
            raise ProtocolViolation("a tool_use without an id or a name", provider=self.answer.provider)
        events.append(ToolCallStart(index=self._index, id=call_id, name=name))

    def delta(self, kind: object, delta: Data, events: list[Event]) -> None:
        """More of the arguments."""
        if kind != "input_json_delta":
            super().delta(kind, delta, events)
        elif text := self.answer.text(delta, "partial_json"):
            self._told = True
            events.append(ToolCallDelta(index=self._index, arguments=text))

    def stop(self, events: list[Event]) -> None:
        """The call is complete."""
        if not self._told and (text := self._whole_input()):
            events.append(ToolCallDelta(index=self._index, arguments=text))
        kept = {
            name: value
            for name, value in self.data.items()
            if name not in ("type", "id", "name", "input") and value is not None
        }
        metadata: dict[str, Data] = {self.answer.provider: kept} if kept else {}
        events.append(ToolCallEnd(index=self._index, provider_metadata=metadata))

    def _whole_input(self) -> str:
        value = self.data.get("input")
        if value is None or isinstance(value, str):
            return value or ""
        try:
            return dumps(value).decode() if value != {} else ""
        except (ValueError, RecursionError):
            raise ProtocolViolation("a tool call's input is not JSON", provider=self.answer.provider) from None


class OpaqueBlock(Block):
    """What a server tool did, a compaction, anything unknown: kept whole."""

    def __init__(self, answer: Answer, data: Data) -> None:
        super().__init__(answer, dict(data))
        self._pieces: dict[str, list[str]] = {}

    def delta(self, kind: object, delta: Data, events: list[Event]) -> None:
        """More of the block. Text is joined to what is there already; anything else takes its place."""
        for name, value in delta.items():
            if name == "type":
                continue
            if isinstance(value, str):
                self._pieces.setdefault(name, []).append(value)
            elif value is not None:
                self._pieces.pop(name, None)
                self.data[name] = value

    def stop(self, events: list[Event]) -> None:
        """The block is complete."""
        data = dict(self.data)
        for name, pieces in self._pieces.items():
            text = "".join(pieces)
            if name == "partial_json":
                if text.strip():
                    data["input"] = _object(text)
            else:
                begun = data.get(name)
                data[name] = begun + text if isinstance(begun, str) else text
        kind = _string(data.get("type")) or "unknown"
        events.append(PartAdded(part=Opaque(provider=self.answer.provider, kind=kind, data=data)))


def _object(text: str) -> Data:
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        value = None
    # Cut off by the output limit: what came is kept, in the form that the wire wants.
    return value if isinstance(value, dict) else {"partial_json": text}


_KINDS: dict[str, type[Block]] = {
    "text": TextBlock,
    "thinking": ThinkingBlock,
    "redacted_thinking": RedactedThinkingBlock,
    "tool_use": ToolUseBlock,
}


def new_block(answer: Answer, data: object) -> Block:
    """The block that `data` begins. Raises `ProtocolViolation` where it begins none."""
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(kind, str):
        raise ProtocolViolation("a content block has no type", provider=answer.provider)
    return _KINDS.get(kind, OpaqueBlock)(answer, data)
