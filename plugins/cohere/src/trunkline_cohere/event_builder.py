"""Builds the events of one response: content blocks, the tool plan and tool calls.

Cohere names its blocks and calls by an index of its own, may leave it out, and may keep several open at once, so the
core's `EventBuilder`, which ends a part when another begins, does not fit.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from trunkline.authoring.json import as_object, as_string, dumps
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
from trunkline.messages import Opaque
from trunkline.response import TokenLogprob

from trunkline_cohere.history import TOOL_PLAN

_TEXT, _THINKING = "text", "thinking"
_BLOCK_FIELDS = frozenset({"type", _TEXT, _THINKING})
_CALL_FIELDS = frozenset({"id", "type", "function"})
_FUNCTION_FIELDS = frozenset({"name", "arguments"})
_NOTHING = "null"
"""The arguments that Cohere sends for a tool without parameters (vercel/ai issue 4755, February 2025)."""
_HELD_BACK = 32
"""While arguments are shorter than this many characters, text that may become `null` is not passed on yet."""
_LONGEST_NAME = 10_000
"""Limit on a tool's name, in characters; it arrives in pieces. No provider accepts more than a few hundred."""


class _Block:
    __slots__ = ("data", "index", "kind", "length", "open", "text_before", "texts", "wire_index")

    def __init__(self, wire_index: int | None, kind: str, index: int, text_before: int) -> None:
        self.wire_index = wire_index
        self.kind = kind
        self.index = index
        self.text_before = text_before
        self.length = 0
        self.open = True
        # `texts` has the pieces of each text of a block of an unknown kind. `data` has its other fields; for a block of
        # a known kind, the fields that the parser does not read.
        self.texts: dict[str, list[str]] = {}
        self.data: dict[str, Any] = {}


class _Call:
    __slots__ = ("arguments", "id", "index", "metadata", "name", "open", "position", "sent", "started", "wire_index")

    def __init__(self, wire_index: int | None, index: int, position: int) -> None:
        self.wire_index = wire_index
        self.index = index
        self.position = position
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []  # pieces that are not in an event yet
        self.metadata: dict[str, Any] = {}
        self.started = False
        self.sent = False  # whether an event with arguments was sent
        self.open = True


class CohereEventBuilder:
    """Builds the events of a response's parts. Each method appends to the list `events` that it is given.

    A start always begins a new part, so two parts with the same wire index are never merged. A delta belongs to the
    newest part with its wire index. A delta without an index, or with an unknown one after a start without an index,
    belongs to the newest part of all.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._parts = 0  # the next index
        self._begun = 0  # the number of parts
        self._plan: int | None = None
        self._blocks: list[_Block] = []
        self._block_by_index: dict[int, _Block] = {}
        self._calls: list[_Call] = []
        self._call_by_index: dict[int, _Call] = {}
        self._ids: set[str] = set()
        self.unnamed: list[dict[str, Any]] = []
        """The ids and arguments of tool calls without a name. These calls have no events."""

    @property
    def has_parts(self) -> bool:
        """Whether the response has any part, or a call without a name."""
        return self._begun > 0

    @property
    def has_calls(self) -> bool:
        """Whether the response calls a tool."""
        return any(call.started for call in self._calls)

    def _next(self) -> int:
        self._parts += 1
        self._begun += 1
        return self._parts - 1

    # Content

    def content_start(
        self, wire_index: int | None, data: dict[str, Any], events: list[Event], logprobs: tuple[TokenLogprob, ...] = ()
    ) -> None:
        """Begin a block, with or without its first text. A block without a kind begins at its first delta."""
        kind = data.get("type")
        if not isinstance(kind, str):
            kind = next((key for key in (_TEXT, _THINKING) if isinstance(data.get(key), str)), None)
        if kind is None:
            return
        self.content_end(wire_index, events)
        self._open_block(wire_index, kind, events)
        if kind not in (_TEXT, _THINKING) or data.get(kind) not in (None, "") or not data.keys() <= _BLOCK_FIELDS:
            self.content_delta(wire_index, data, events, logprobs)

    def content_delta(
        self, wire_index: int | None, data: dict[str, Any], events: list[Event], logprobs: tuple[TokenLogprob, ...] = ()
    ) -> None:
        """Add to a block. A delta does not repeat the block's kind; its key, `text` or `thinking`, implies it."""
        block = self._block(wire_index)
        if block is not None and block.kind not in (_TEXT, _THINKING):
            for key, value in data.items():
                if isinstance(value, str) and key != "type":
                    block.texts.setdefault(key, []).append(value)
                else:
                    block.data.setdefault(key, value)
            return
        extra = {key: data[key] for key in data.keys() - _BLOCK_FIELDS} if len(data) > 1 else None
        for kind in (_TEXT, _THINKING):
            piece = data.get(kind)
            if piece is None:
                continue
            if not isinstance(piece, str):
                raise ProtocolViolation(f"the {kind} of a content block is not text", provider=self._provider)
            block = self._block(wire_index)
            if block is None or block.kind != kind:
                block = self._open_block(wire_index, kind, events)
            if kind == _TEXT:
                block.length += len(piece)
                events.append(TextDelta(index=block.index, text=piece, logprobs=logprobs))
            else:
                events.append(ReasoningDelta(index=block.index, text=piece))
        if extra and block is not None:
            block.data.update(extra)

    def content_end(self, wire_index: int | None, events: list[Event]) -> None:
        """End the block, if one is open."""
        block = self._block(wire_index)
        if block is not None:
            self._end_block(block, events)

    def text_before(self, wire_index: object) -> int:
        """Return how many characters of the response's text precede a block."""
        block = self._block_by_index.get(wire_index) if type(wire_index) is int else None
        return block.text_before if block is not None else 0

    def _block(self, wire_index: int | None) -> _Block | None:
        block = self._block_by_index.get(wire_index) if wire_index is not None else None
        if block is None and self._blocks and (wire_index is None or self._blocks[-1].wire_index is None):
            block = self._blocks[-1]
        return block if block is not None and block.open else None

    def _open_block(self, wire_index: int | None, kind: str, events: list[Event]) -> _Block:
        earlier = self._blocks[-1] if self._blocks else None
        text_before = 0 if earlier is None else earlier.text_before + earlier.length
        block = _Block(wire_index, kind, self._next(), text_before)
        self._blocks.append(block)
        if wire_index is not None:
            self._block_by_index[wire_index] = block
        if kind == _TEXT:
            events.append(TextStart(index=block.index))
        elif kind == _THINKING:
            events.append(ReasoningStart(index=block.index))
        else:
            block.data["type"] = kind
        return block

    def _end_block(self, block: _Block, events: list[Event]) -> None:
        block.open = False
        metadata = {self._provider: block.data} if block.data else {}
        if block.kind == _TEXT:
            events.append(TextEnd(index=block.index, provider_metadata=metadata))
        elif block.kind == _THINKING:
            events.append(ReasoningEnd(index=block.index, provider=self._provider, provider_metadata=metadata))
        else:
            data = {**block.data, **{key: "".join(pieces) for key, pieces in block.texts.items()}}
            events.append(PartAdded(part=Opaque(provider=self._provider, kind=block.kind, data=data)))

    # The tool plan

    def plan(self, text: str, events: list[Event]) -> None:
        """Add to the text that precedes the tool calls. An empty piece does not begin a plan."""
        if self._plan is None:
            if not text:
                return
            self._plan = self._next()
            events.append(ReasoningStart(index=self._plan))
        events.append(ReasoningDelta(index=self._plan, text=text))

    def end_plan(self, events: list[Event]) -> None:
        """End the tool plan, if one is open."""
        if self._plan is not None:
            metadata = {self._provider: {"type": TOOL_PLAN}}
            events.append(ReasoningEnd(index=self._plan, provider=self._provider, provider_metadata=metadata))
            self._plan = None

    # Tool calls

    def call_start(self, wire_index: int | None, data: object, events: list[Event]) -> None:
        """Begin a tool call."""
        self.end_plan(events)
        self.call_end(wire_index, events)
        call = _Call(wire_index, self._next(), len(self._calls))
        self._calls.append(call)
        if wire_index is not None:
            self._call_by_index[wire_index] = call
        self._add_to_call(call, data, events)

    def call_delta(self, wire_index: int | None, data: object, events: list[Event]) -> None:
        """Add to a tool call. A delta with a different id begins the next call, whatever its index."""
        call = self._call(wire_index)
        call_id = as_string(data.get("id")) if isinstance(data, dict) else None
        if call is None or (call_id and call.id and call_id != call.id):
            self.call_start(wire_index, data, events)
        else:
            self._add_to_call(call, data, events)

    def call_end(self, wire_index: int | None, events: list[Event]) -> None:
        """End the tool call, if one is open."""
        call = self._call(wire_index)
        if call is not None:
            self._end_call(call, events)

    def _call(self, wire_index: int | None) -> _Call | None:
        found = self._call_by_index.get(wire_index) if wire_index is not None else None
        if found is None and self._calls and (wire_index is None or self._calls[-1].wire_index is None):
            found = self._calls[-1]
        return found if found is not None and found.open else None

    def _add_to_call(self, call: _Call, data: object, events: list[Event]) -> None:
        if not isinstance(data, dict):
            raise ProtocolViolation("a tool call in the response is not an object", provider=self._provider)
        function = as_object(data.get("function"))
        arguments = function.get("arguments")
        if not (data.keys() <= _CALL_FIELDS and function.keys() <= _FUNCTION_FIELDS):
            call.metadata |= {key: data[key] for key in data.keys() - _CALL_FIELDS}
            if extra := {key: function[key] for key in function.keys() - _FUNCTION_FIELDS}:
                call.metadata["function"] = {**as_object(call.metadata.get("function")), **extra}
        call.id = call.id or as_string(data.get("id")) or ""
        name = as_string(function.get("name"))
        if name and not call.started:
            call.name += name
            if len(call.name) > _LONGEST_NAME:
                message = f"a tool name in the response is longer than {_LONGEST_NAME} characters"
                raise ProtocolViolation(message, provider=self._provider)
        if arguments is not None and not isinstance(arguments, str):
            try:
                arguments = dumps(arguments).decode()
            except (ValueError, RecursionError):
                raise ProtocolViolation("a tool call's arguments are not JSON", provider=self._provider) from None
        if arguments:
            call.arguments.append(arguments)
        # The name and the id may arrive in separate deltas. Once arguments arrive, no more of either is expected.
        if call.name and (call.id or call.arguments):
            self._start_call(call, events)
        if call.started and call.arguments:
            self._flush(call, events)

    def _flush(self, call: _Call, events: list[Event], *, end: bool = False) -> None:
        """Add an event with the pending arguments, unless the arguments are `null` or may become `null`."""
        text = "".join(call.arguments)
        call.arguments = [text]
        if not call.sent and len(text) < _HELD_BACK:
            may_be_nothing = _NOTHING.startswith(text.strip())
            if may_be_nothing and (not end or text.strip() == _NOTHING):
                return
        if text:
            events.append(ToolCallDelta(index=call.index, arguments=text))
        call.sent = True
        call.arguments.clear()

    def _start_call(self, call: _Call, events: list[Event]) -> None:
        if call.started:
            return
        call.started = True
        if not call.id or call.id in self._ids:
            call.id = self._make_id(call)
        self._ids.add(call.id)
        events.append(ToolCallStart(index=call.index, id=call.id, name=call.name))

    def _make_id(self, call: _Call) -> str:
        # Deterministic, so a streamed response and a whole one get the same ids; unique within the response.
        seed = f"{call.name}.{call.id}.{call.position}".encode("utf-8", "replace")
        return f"{call.name}_{sha256(seed).hexdigest()[:12]}"

    def _end_call(self, call: _Call, events: list[Event]) -> None:
        call.open = False
        if not call.name:
            if call.id or any(call.arguments):
                self.unnamed.append({"id": call.id or None, "arguments": "".join(call.arguments), **call.metadata})
            else:
                self._begun -= 1
            return
        self._start_call(call, events)
        self._flush(call, events, end=True)
        metadata = {self._provider: call.metadata} if call.metadata else {}
        events.append(ToolCallEnd(index=call.index, provider_metadata=metadata))

    def finish(self, events: list[Event]) -> None:
        """End every open part: the response is complete."""
        for block in self._blocks:
            if block.open:
                self._end_block(block, events)
        self.end_plan(events)
        for call in self._calls:
            if call.open:
                self._end_call(call, events)
