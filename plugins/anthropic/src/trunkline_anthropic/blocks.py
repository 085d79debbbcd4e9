"""The content blocks of a response: each turns what arrives for it into events.

The life of a block: `content_block_start` creates it with its first data (`start`), any number of
`content_block_delta` add to it (`delta`), and `content_block_stop` completes it (`stop`). Blocks have an index and may
interleave. In a response that was not streamed the first data is the whole block, and `start` and `stop` follow one
another; a block therefore reports what its first data holds, whether or not deltas follow.
"""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_objects, as_string, dumps, loads
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


class ResponseState:
    """What the blocks of one response share: the provider's name, the next part's index, the length of the text so far.

    `text_length` is the offset, in characters, at which the next text block begins; citations count from there.
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.text_length = 0
        self.has_calls = False
        self._next_index = 0

    def new_index(self) -> int:
        """Return the index of the next part."""
        index = self._next_index
        self._next_index += 1
        return index

    def text(self, data: dict[str, Any], name: str) -> str:
        """Return the field `name` of `data`. Raises `ProtocolViolation` if it is not a string."""
        value = data.get(name)
        if type(value) is not str:
            raise ProtocolViolation(
                f"the field {name!r} of a {data.get('type')} is not a string", provider=self.provider
            )
        return value


class Block:
    """A content block. `data` is what it started with."""

    def __init__(self, response: ResponseState, data: dict[str, Any]) -> None:
        self.response = response
        self.data = data

    def start(self, events: list[Event]) -> None:
        """Add the events of the block's start, and of the content in its first data."""

    def delta(self, kind: object, delta: dict[str, Any], events: list[Event]) -> None:
        """Add the events of a delta. An unknown kind is ignored; one that belongs to another block is an error."""
        if kind in ("text_delta", "thinking_delta", "input_json_delta"):
            raise ProtocolViolation(
                f"a {kind} arrived in a block of type {self.data.get('type')}", provider=self.response.provider
            )

    def stop(self, events: list[Event]) -> None:
        """Add the events of the block's end."""


class TextBlock(Block):
    """Text and its citations. The citations follow the end of the text, since they apply to the whole block."""

    def __init__(self, response: ResponseState, data: dict[str, Any]) -> None:
        super().__init__(response, data)
        self._index = response.new_index()
        self._length = 0
        self._citations: list[dict[str, Any]] = []

    def start(self, events: list[Event]) -> None:
        """Start the text, with the text and the citations in the first data."""
        events.append(TextStart(index=self._index))
        if self.data.get("text"):
            self._add(self.response.text(self.data, "text"), events)
        self._citations += as_objects(self.data.get("citations"))

    def delta(self, kind: object, delta: dict[str, Any], events: list[Event]) -> None:
        """Add more text, or a citation."""
        if kind == "text_delta":
            text = delta.get("text")
            self._add(text if type(text) is str else self.response.text(delta, "text"), events)
        elif kind == "citations_delta":
            if isinstance(delta.get("citation"), dict):
                self._citations.append(delta["citation"])
        else:
            super().delta(kind, delta, events)

    def more(self, text: str) -> TextDelta:
        """Return the event for more text, which must not be empty."""
        self._length += len(text)
        return text_delta(self._index, text)

    def _add(self, text: str, events: list[Event]) -> None:
        if text:
            events.append(self.more(text))

    def stop(self, events: list[Event]) -> None:
        """End the text and add its citations."""
        start, provider = self.response.text_length, self.response.provider
        self.response.text_length = end = start + self._length
        metadata: dict[str, dict[str, Any]] = {provider: {"citations": self._citations}} if self._citations else {}
        events.append(TextEnd(index=self._index, provider_metadata=metadata))
        events += [_citation(citation, start, end, provider) for citation in self._citations]


def _citation(data: dict[str, Any], start: int, end: int, provider: str) -> Citation:
    source = as_string(data.get("url")) or as_string(data.get("source")) or ""
    return Citation(
        url=source if source.startswith(("http://", "https://")) else None,
        title=as_string(data.get("title")) or as_string(data.get("document_title")) or None,
        cited_text=as_string(data.get("cited_text")) or None,
        start=start,
        end=end,
        provider_metadata={provider: data},
    )


class ThinkingBlock(Block):
    """Thinking and its signature.

    The signature is the provider's proof that the model wrote this text; without it the API does not take the block
    back. It arrives in a single `signature_delta` after the text. The text is empty if the model does not show its
    thinking; the signature then is all there is to send back, so an empty block is kept as well.
    """

    def __init__(self, response: ResponseState, data: dict[str, Any]) -> None:
        super().__init__(response, data)
        self._index = response.new_index()
        self._signature = as_string(data.get("signature")) or None

    def start(self, events: list[Event]) -> None:
        """Start the thinking, with the text in the first data."""
        events.append(ReasoningStart(index=self._index))
        if self.data.get("thinking"):
            events.append(ReasoningDelta(index=self._index, text=self.response.text(self.data, "thinking")))

    def delta(self, kind: object, delta: dict[str, Any], events: list[Event]) -> None:
        """Add more thinking, or the signature."""
        if kind == "thinking_delta":
            if text := self.response.text(delta, "thinking"):
                events.append(ReasoningDelta(index=self._index, text=text))
        elif kind == "signature_delta":
            # It replaces what the start held (an empty string). An empty signature never replaces a real one.
            self._signature = self.response.text(delta, "signature") or self._signature
        else:
            super().delta(kind, delta, events)

    def stop(self, events: list[Event]) -> None:
        """End the thinking."""
        events.append(ReasoningEnd(index=self._index, provider=self.response.provider, signature=self._signature))


class RedactedThinkingBlock(Block):
    """Thinking that a safety system encrypted. It arrives whole, in the start of the block."""

    def stop(self, events: list[Event]) -> None:
        """Add all events of the block."""
        index = self.response.new_index()
        encrypted = self.response.text(self.data, "data")
        events.append(ReasoningStart(index=index))
        events.append(ReasoningEnd(index=index, provider=self.response.provider, encrypted=encrypted, redacted=True))


class ToolUseBlock(Block):
    """A call of one of the application's tools."""

    def __init__(self, response: ResponseState, data: dict[str, Any]) -> None:
        super().__init__(response, data)
        self._index = response.new_index()
        self._has_deltas = False
        response.has_calls = True

    def start(self, events: list[Event]) -> None:
        """Start the call. The input in the first data has to wait: a stream sends `{}` here and the input in deltas."""
        call_id, name = as_string(self.data.get("id")), as_string(self.data.get("name"))
        if not call_id or not name:
            raise ProtocolViolation("a tool_use has no id or no name", provider=self.response.provider)
        events.append(ToolCallStart(index=self._index, id=call_id, name=name))

    def delta(self, kind: object, delta: dict[str, Any], events: list[Event]) -> None:
        """Add more of the arguments."""
        if kind != "input_json_delta":
            super().delta(kind, delta, events)
        elif text := self.response.text(delta, "partial_json"):
            self._has_deltas = True
            events.append(ToolCallDelta(index=self._index, arguments=text))

    def stop(self, events: list[Event]) -> None:
        """End the call. The input in the first data counts only if no delta has replaced it."""
        if not self._has_deltas and (text := self._first_input()):
            events.append(ToolCallDelta(index=self._index, arguments=text))
        kept = {
            name: value
            for name, value in self.data.items()
            if name not in ("type", "id", "name", "input") and value is not None
        }
        metadata: dict[str, dict[str, Any]] = {self.response.provider: kept} if kept else {}
        events.append(ToolCallEnd(index=self._index, provider_metadata=metadata))

    def _first_input(self) -> str:
        value = self.data.get("input")
        if value is None or isinstance(value, str):
            return value or ""
        try:
            return dumps(value).decode() if value != {} else ""
        except (ValueError, RecursionError):
            raise ProtocolViolation(
                "the input of a tool call is not valid JSON", provider=self.response.provider
            ) from None


class OpaqueBlock(Block):
    """A server tool's call or result, a compaction, or an unknown block: kept whole, to be sent back as it is."""

    def __init__(self, response: ResponseState, data: dict[str, Any]) -> None:
        super().__init__(response, dict(data))
        self._pieces: dict[str, list[str]] = {}

    def delta(self, kind: object, delta: dict[str, Any], events: list[Event]) -> None:
        """Merge a delta into the block: strings are appended to the field of that name, other values replace it."""
        for name, value in delta.items():
            if name == "type":
                continue
            if isinstance(value, str):
                self._pieces.setdefault(name, []).append(value)
            elif value is not None:
                self._pieces.pop(name, None)
                self.data[name] = value

    def stop(self, events: list[Event]) -> None:
        """Add the block as one part."""
        data = dict(self.data)
        for name, pieces in self._pieces.items():
            text = "".join(pieces)
            if name == "partial_json":
                if text.strip():
                    data["input"] = _parsed_input(text)
            else:
                first = data.get(name)
                data[name] = first + text if isinstance(first, str) else text
        kind = as_string(data.get("type")) or "unknown"
        events.append(PartAdded(part=Opaque(provider=self.response.provider, kind=kind, data=data)))


def _parsed_input(text: str) -> dict[str, Any]:
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        value = None
    # If the output limit cut the JSON off, the text is kept within an object, since the API only takes back objects.
    return value if isinstance(value, dict) else {"partial_json": text}


_KINDS: dict[str, type[Block]] = {
    "text": TextBlock,
    "thinking": ThinkingBlock,
    "redacted_thinking": RedactedThinkingBlock,
    "tool_use": ToolUseBlock,
}


def new_block(response: ResponseState, data: object) -> Block:
    """Create the block that starts with `data`. Raises `ProtocolViolation` if `data` is no content block."""
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(kind, str):
        raise ProtocolViolation("a content block has no type", provider=response.provider)
    return _KINDS.get(kind, OpaqueBlock)(response, data)
