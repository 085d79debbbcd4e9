"""The content blocks of a response: each turns what arrives for it into events.

The life of a block: `content_block_start` creates it with its first data (`start`), any number of
`content_block_delta` add to it (`delta`), and `content_block_stop` completes it (`stop`). Blocks have an index and may
interleave. In a response that was not streamed the first data is the whole block, and `start` and `stop` follow one
another; a block therefore reports what its first data holds, whether or not deltas follow.

Unknown fields of a block's first data and of its deltas are kept in the part's `provider_metadata`, so a stream keeps
the same fields as a body.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, ClassVar

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
    Ids for tool calls without an id are made from `response_id`. `metadata` contains data that does not belong to a
    part. `unnamed` contains the tool calls without a name.
    """

    def __init__(self, provider: str) -> None:
        self.provider = provider
        self.response_id: str | None = None
        self.text_length = 0
        self.has_calls = False
        self.is_empty = True
        self.metadata: dict[str, Any] = {}
        self.unnamed: list[dict[str, Any]] = []
        self._next_index = 0

    def new_index(self) -> int:
        """Return the index of the next part."""
        index = self._next_index
        self._next_index += 1
        return index

    def text(self, data: dict[str, Any], name: str) -> str:
        """Return the text in the field `name`; `null` is empty text. Raises `ProtocolViolation` for any other type."""
        value = data.get(name)
        if value is None and name in data:
            return ""
        if type(value) is not str:
            raise ProtocolViolation(
                f"the field {name!r} of a {data.get('type')} is not a string", provider=self.provider
            )
        return value


class Fields:
    """Fields that arrive in pieces. A string is appended to the field's value; any other value replaces it."""

    def __init__(self, first: Mapping[str, Any]) -> None:
        self._values = dict(first)
        self._pieces: dict[str, list[str]] = {}

    def add(self, fields: Mapping[str, Any]) -> None:
        """Add the fields of a delta, except for its type."""
        for name, value in fields.items():
            if name == "type":
                continue
            if isinstance(value, str):
                self._pieces.setdefault(name, []).append(value)
            elif value is not None:
                self._pieces.pop(name, None)
                self._values[name] = value

    def replace(self, fields: Mapping[str, Any]) -> None:
        """Set fields to their latest value."""
        for name, value in fields.items():
            if value is not None:
                self._pieces.pop(name, None)
                self._values[name] = value

    def joined(self) -> dict[str, Any]:
        """Return the fields with their pieces joined."""
        result = dict(self._values)
        for name, pieces in self._pieces.items():
            first = result.get(name)
            result[name] = (first if isinstance(first, str) else "") + "".join(pieces)
        return result


class Block:
    """A content block. `data` is what it started with."""

    fields: ClassVar[frozenset[str]] = frozenset({"type"})
    """The fields that the block handles. All others are kept as metadata."""
    deltas: ClassVar[Mapping[str, frozenset[str]]] = {}
    """The types of deltas that the block handles, and the fields that it handles in each."""

    def __init__(self, response: ResponseState, data: dict[str, Any]) -> None:
        self.response = response
        self.data = data
        response.is_empty = False
        self._others: Fields | None = None  # unknown fields
        if not data.keys() <= self.fields:
            self._others = Fields(
                {name: value for name, value in data.items() if name not in self.fields and value is not None}
            )

    def start(self, events: list[Event]) -> None:
        """Add the events of the block's start, and of the content in its first data."""

    def delta(self, kind: str | None, delta: dict[str, Any], events: list[Event]) -> None:
        """Add the events of a delta. Unknown fields become metadata of the part."""
        known = self.deltas.get(kind or "")
        if known is not None and delta.keys() <= known:
            return
        if self._others is None:
            self._others = Fields({})
        if known is None:
            self._others.add(delta)
        else:
            # A field next to known fields probably repeats in each delta, as an id does, so its values are not joined.
            self._others.replace({name: value for name, value in delta.items() if name not in known})

    def stop(self, events: list[Event]) -> None:
        """Add the events of the block's end."""

    def metadata(self) -> dict[str, dict[str, Any]]:
        """Return the part's `provider_metadata`: the block's unknown fields."""
        others = self._others.joined() if self._others is not None else {}
        return {self.response.provider: others} if others else {}


class TextBlock(Block):
    """Text and its citations. The citations follow the end of the text, since they apply to the whole block."""

    fields = frozenset({"type", "text", "citations"})
    deltas: ClassVar = {"text_delta": frozenset({"type", "text"}), "citations_delta": frozenset({"type", "citation"})}

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

    def delta(self, kind: str | None, delta: dict[str, Any], events: list[Event]) -> None:
        """Add more text, or a citation."""
        if kind == "text_delta":
            text = delta.get("text")
            self._add(text if type(text) is str else self.response.text(delta, "text"), events)
            if len(delta) == 2:
                return
        elif kind == "citations_delta" and isinstance(delta.get("citation"), dict):
            self._citations.append(delta["citation"])
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
        metadata = self.metadata()
        if self._citations:
            metadata = {provider: {**metadata.get(provider, {}), "citations": self._citations}}
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

    The signature is the provider's proof that the model wrote this text; without it Claude does not take the block
    back. It arrives in a single `signature_delta` after the text. The text is empty if the model does not show its
    thinking; the signature then is all there is to send back, so an empty block is kept as well.
    """

    fields = frozenset({"type", "thinking", "signature"})
    deltas: ClassVar = {
        "thinking_delta": frozenset({"type", "thinking"}),
        "signature_delta": frozenset({"type", "signature"}),
    }

    def __init__(self, response: ResponseState, data: dict[str, Any]) -> None:
        super().__init__(response, data)
        self._index = response.new_index()
        self._signature = as_string(data.get("signature")) or None

    def start(self, events: list[Event]) -> None:
        """Start the thinking, with the text in the first data."""
        events.append(ReasoningStart(index=self._index))
        if self.data.get("thinking"):
            events.append(ReasoningDelta(index=self._index, text=self.response.text(self.data, "thinking")))

    def delta(self, kind: str | None, delta: dict[str, Any], events: list[Event]) -> None:
        """Add more thinking, or the signature."""
        if kind == "thinking_delta":
            if text := self.response.text(delta, "thinking"):
                events.append(ReasoningDelta(index=self._index, text=text))
            if len(delta) == 2:
                return
        elif kind == "signature_delta":
            # It replaces what the start held (an empty string). An empty signature never replaces a real one.
            self._signature = self.response.text(delta, "signature") or self._signature
        super().delta(kind, delta, events)

    def stop(self, events: list[Event]) -> None:
        """End the thinking."""
        events.append(
            ReasoningEnd(
                index=self._index,
                provider=self.response.provider,
                signature=self._signature,
                provider_metadata=self.metadata(),
            )
        )


class RedactedThinkingBlock(Block):
    """Thinking that a safety system encrypted. It arrives whole, in the start of the block."""

    fields = frozenset({"type", "data"})

    def stop(self, events: list[Event]) -> None:
        """Add all events of the block."""
        index = self.response.new_index()
        encrypted = self.response.text(self.data, "data")
        events.append(ReasoningStart(index=index))
        events.append(
            ReasoningEnd(
                index=index,
                provider=self.response.provider,
                encrypted=encrypted,
                redacted=True,
                provider_metadata=self.metadata(),
            )
        )


class ToolUseBlock(Block):
    """A call of one of the application's tools. If the server sends no id, one is generated."""

    fields = frozenset({"type", "id", "name", "input"})
    deltas: ClassVar = {"input_json_delta": frozenset({"type", "partial_json"})}

    def __init__(self, response: ResponseState, data: dict[str, Any]) -> None:
        super().__init__(response, data)
        self._index = response.new_index()
        self._has_deltas = False
        response.has_calls = True

    def start(self, events: list[Event]) -> None:
        """Start the call. The input in the first data has to wait: a stream sends `{}` here and the input in deltas."""
        call_id = as_string(self.data.get("id")) or _made_id(self.response.response_id, self._index)
        events.append(ToolCallStart(index=self._index, id=call_id, name=self.data["name"]))

    def delta(self, kind: str | None, delta: dict[str, Any], events: list[Event]) -> None:
        """Add more of the arguments."""
        if kind == "input_json_delta" and (text := self.response.text(delta, "partial_json")):
            self._has_deltas = True
            events.append(ToolCallDelta(index=self._index, arguments=text))
            if len(delta) == 2:
                return
        super().delta(kind, delta, events)

    def stop(self, events: list[Event]) -> None:
        """End the call. The input in the first data counts only if no delta has replaced it."""
        if not self._has_deltas and (text := self._first_input()):
            events.append(ToolCallDelta(index=self._index, arguments=text))
        events.append(ToolCallEnd(index=self._index, provider_metadata=self.metadata()))

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


def _made_id(response_id: str | None, index: int) -> str:
    # The id is the same in a stream and in a body, and differs between responses.
    return "toolu_" + sha256(f"{response_id}/{index}".encode("utf-8", "surrogatepass")).hexdigest()[:24]


class OpaqueBlock(Block):
    """A server tool's call or result, a compaction, or an unknown block: kept whole, to be sent back as it is."""

    def __init__(self, response: ResponseState, data: dict[str, Any]) -> None:
        super().__init__(response, {"type": data["type"]})
        self._fields = Fields(data)

    def delta(self, kind: str | None, delta: dict[str, Any], events: list[Event]) -> None:
        """Merge a delta into the block."""
        self._fields.add(delta)

    def whole(self) -> dict[str, Any]:
        """Return the block in the form that it has in a body: streamed JSON becomes `input`."""
        data = self._fields.joined()
        text = data.pop("partial_json", None)
        if isinstance(text, str) and text.strip():
            data["input"] = _parsed_input(text)
        return data

    def stop(self, events: list[Event]) -> None:
        """Add the block as one part."""
        events.append(
            PartAdded(part=Opaque(provider=self.response.provider, kind=self.data["type"], data=self.whole()))
        )


class FallbackBlock(OpaqueBlock):
    """Marks a change of model within a response: the model `to` wrote the following blocks.

    In a body, `model` is the new model. In a stream, `message_start` has already named the first model.
    """

    def stop(self, events: list[Event]) -> None:
        """Add the block, and keep the new model's name in the metadata of the response."""
        to = self.whole().get("to")
        if isinstance(to, dict) and as_string(to.get("model")):
            self.response.metadata["model"] = to["model"]
        super().stop(events)


class NamelessCallBlock(OpaqueBlock):
    """A call without a tool name. The application cannot run it, so it is reported as a warning, not as an error."""

    def stop(self, events: list[Event]) -> None:
        """Keep the call in the metadata of the response."""
        self.response.unnamed.append(self.whole())


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
    "fallback": FallbackBlock,
}

OWNERS: Mapping[str, str] = {
    "text_delta": "text",
    "citations_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}
"""The type of block that each type of delta belongs to. An opaque block accepts any delta."""


def new_block(response: ResponseState, data: object) -> Block:
    """Create the block that starts with `data`. Raises `ProtocolViolation` if `data` is no content block."""
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(kind, str):
        raise ProtocolViolation("a content block has no type", provider=response.provider)
    if kind == "tool_use" and not as_string(data.get("name")):
        return NamelessCallBlock(response, data)
    if kind == "redacted_thinking" and not as_string(data.get("data")):
        return OpaqueBlock(response, data)
    return _KINDS.get(kind, OpaqueBlock)(response, data)
