"""The parts of one answer while it comes: blocks of content, the tool plan, tool calls."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from trunkline.authoring.json import dumps
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
_LONGEST_NAME = 10_000
"""The characters of a tool's name. No provider takes names of more than some hundred."""


class _Block:
    __slots__ = ("at", "before", "data", "index", "kind", "length", "open", "texts")

    def __init__(self, at: int | None, kind: str, index: int, before: int) -> None:
        self.at = at
        self.kind = kind
        self.index = index
        self.before = before
        self.length = 0
        self.open = True
        # What a block of a kind that is not known holds: its texts, in pieces, and the rest.
        self.texts: dict[str, list[str]] = {}
        self.data: dict[str, Any] = {}


class _Call:
    __slots__ = ("arguments", "at", "id", "index", "name", "open", "position", "started")

    def __init__(self, at: int | None, index: int, position: int) -> None:
        self.at = at
        self.index = index
        self.position = position
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []
        self.started = False
        self.open = True


class Answer:
    """Makes the events of an answer's parts.

    A delta belongs to the newest part of its wire index; one without an index to the newest of all; one under an index
    that nobody began to the newest, where that was begun without an index. A start always begins a part, so that two
    parts under one index are never fused.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._parts = 0
        self._plan: int | None = None
        self._blocks: list[_Block] = []
        self._block_by_index: dict[int, _Block] = {}
        self._calls: list[_Call] = []
        self._call_by_index: dict[int, _Call] = {}
        self._ids: set[str] = set()

    @property
    def has_parts(self) -> bool:
        """Whether anything came."""
        return self._parts > 0

    @property
    def has_calls(self) -> bool:
        """Whether a tool is called."""
        return bool(self._calls)

    def _next(self) -> int:
        self._parts += 1
        return self._parts - 1

    # Content

    def content_start(
        self, at: int | None, data: dict[str, Any], events: list[Event], logprobs: tuple[TokenLogprob, ...] = ()
    ) -> None:
        """A block begins, with its first words or without. One without a kind waits for its first delta."""
        kind = data.get("type")
        if not isinstance(kind, str):
            kind = next((key for key in (_TEXT, _THINKING) if isinstance(data.get(key), str)), None)
        if kind is None:
            return
        self.content_end(at, events)
        self._open_block(at, kind, events)
        if kind not in (_TEXT, _THINKING) or data.get(kind) not in (None, ""):
            self.content_delta(at, data, events, logprobs)

    def content_delta(
        self, at: int | None, data: dict[str, Any], events: list[Event], logprobs: tuple[TokenLogprob, ...] = ()
    ) -> None:
        """More of a block; the key says of which kind, since a delta does not repeat it."""
        block = self._block(at)
        if block is not None and block.kind not in (_TEXT, _THINKING):
            for key, value in data.items():
                if isinstance(value, str) and key != "type":
                    block.texts.setdefault(key, []).append(value)
                else:
                    block.data.setdefault(key, value)
            return
        for kind in (_TEXT, _THINKING):
            piece = data.get(kind)
            if piece is None:
                continue
            if not isinstance(piece, str):
                raise ProtocolViolation(f"the {kind} of a content block is not text", provider=self._provider)
            block = self._block(at)
            if block is None or block.kind != kind:
                block = self._open_block(at, kind, events)
            if kind == _TEXT:
                block.length += len(piece)
                events.append(TextDelta(index=block.index, text=piece, logprobs=logprobs))
            else:
                events.append(ReasoningDelta(index=block.index, text=piece))

    def content_end(self, at: int | None, events: list[Event]) -> None:
        """A block is complete, if there is one."""
        block = self._block(at)
        if block is not None:
            self._end_block(block, events)

    def text_before(self, at: object) -> int:
        """The characters of the answer's text that stand before a block."""
        block = self._block_by_index.get(at) if type(at) is int else None
        return block.before if block is not None else 0

    def _block(self, at: int | None) -> _Block | None:
        block = self._block_by_index.get(at) if at is not None else None
        if block is None and self._blocks and (at is None or self._blocks[-1].at is None):
            block = self._blocks[-1]
        return block if block is not None and block.open else None

    def _open_block(self, at: int | None, kind: str, events: list[Event]) -> _Block:
        earlier = self._blocks[-1] if self._blocks else None
        before = 0 if earlier is None else earlier.before + earlier.length
        block = _Block(at, kind, self._next(), before)
        self._blocks.append(block)
        if at is not None:
            self._block_by_index[at] = block
        if kind == _TEXT:
            events.append(TextStart(index=block.index))
        elif kind == _THINKING:
            events.append(ReasoningStart(index=block.index))
        else:
            block.data["type"] = kind
        return block

    def _end_block(self, block: _Block, events: list[Event]) -> None:
        block.open = False
        if block.kind == _TEXT:
            events.append(TextEnd(index=block.index))
        elif block.kind == _THINKING:
            events.append(ReasoningEnd(index=block.index, provider=self._provider))
        else:
            data = {**block.data, **{key: "".join(pieces) for key, pieces in block.texts.items()}}
            events.append(PartAdded(part=Opaque(provider=self._provider, kind=block.kind, data=data)))

    # The tool plan

    def plan(self, text: str, events: list[Event]) -> None:
        """More of the words before the calls. An empty piece alone is no plan."""
        if self._plan is None:
            if not text:
                return
            self._plan = self._next()
            events.append(ReasoningStart(index=self._plan))
        events.append(ReasoningDelta(index=self._plan, text=text))

    def end_plan(self, events: list[Event]) -> None:
        """The plan is complete, if there is one."""
        if self._plan is not None:
            metadata = {self._provider: {"type": TOOL_PLAN}}
            events.append(ReasoningEnd(index=self._plan, provider=self._provider, provider_metadata=metadata))
            self._plan = None

    # Tool calls

    def call_start(self, at: int | None, data: object, events: list[Event]) -> None:
        """A call begins."""
        self.end_plan(events)
        self.call_end(at, events)
        call = _Call(at, self._next(), len(self._calls))
        self._calls.append(call)
        if at is not None:
            self._call_by_index[at] = call
        self._take(call, data, events)

    def call_delta(self, at: int | None, data: object, events: list[Event]) -> None:
        """More of a call. One with another id is the beginning of the next call, whatever its index says."""
        call = self._call(at)
        told = data.get("id") if isinstance(data, dict) else None
        if call is None or (isinstance(told, str) and told and call.id and told != call.id):
            self.call_start(at, data, events)
        else:
            self._take(call, data, events)

    def call_end(self, at: int | None, events: list[Event]) -> None:
        """A call is complete, if there is one."""
        call = self._call(at)
        if call is not None:
            self._end_call(call, events)

    def _call(self, at: int | None) -> _Call | None:
        found = self._call_by_index.get(at) if at is not None else None
        if found is None and self._calls and (at is None or self._calls[-1].at is None):
            found = self._calls[-1]
        return found if found is not None and found.open else None

    def _take(self, call: _Call, data: object, events: list[Event]) -> None:
        if not isinstance(data, dict):
            raise ProtocolViolation("a tool call in the answer is not an object", provider=self._provider)
        function = data.get("function")
        function = function if isinstance(function, dict) else {}
        told, name, arguments = data.get("id"), function.get("name"), function.get("arguments")
        if isinstance(told, str) and told and not call.id:
            call.id = told
        if isinstance(name, str) and name and not call.started:
            call.name += name
            if len(call.name) > _LONGEST_NAME:
                raise ProtocolViolation("the name of a tool in the answer has no end", provider=self._provider)
        if arguments is not None and not isinstance(arguments, str):
            try:
                arguments = dumps(arguments).decode()
            except (ValueError, RecursionError):
                raise ProtocolViolation("a tool call's arguments are not JSON", provider=self._provider) from None
        if arguments:
            call.arguments.append(arguments)
        # The id and the name may follow; once there are arguments both are known, or will never be.
        if call.name and (call.id or call.arguments):
            self._start_call(call, events)
        if call.started and call.arguments:
            events.append(ToolCallDelta(index=call.index, arguments="".join(call.arguments)))
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
        # The same whether streamed or not, and another for each call of an answer.
        seed = f"{call.name}.{call.id}.{call.position}".encode("utf-8", "replace")
        return f"{call.name}_{sha256(seed).hexdigest()[:12]}"

    def _end_call(self, call: _Call, events: list[Event]) -> None:
        call.open = False
        if not call.name:
            raise ProtocolViolation("the answer calls a tool without a name", provider=self._provider)
        self._start_call(call, events)
        if call.arguments:
            events.append(ToolCallDelta(index=call.index, arguments="".join(call.arguments)))
        events.append(ToolCallEnd(index=call.index))

    def finish(self, events: list[Event]) -> None:
        """The answer is complete, and with it every part."""
        for block in self._blocks:
            if block.open:
                self._end_block(block, events)
        self.end_plan(events)
        for call in self._calls:
            if call.open:
                self._end_call(call, events)
