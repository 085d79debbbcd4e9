"""Tool calls, put together from the deltas of a stream.

The dialect says: each delta has an `index`; the first of an index has `id` and `name`, the others pieces of the
arguments. Servers leave out the index, give every call the index 0, split the name, send the id alone first or in each
delta, send the arguments as an object, or start a new call under an old index. Two calls are never fused: an id that is
new, together with a name or without arguments, begins a call; so does a name where arguments are already complete.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from trunkline.authoring.json import dumps
from trunkline.errors import ProtocolViolation
from trunkline.events import Event, ToolCallDelta, ToolCallEnd, ToolCallStart
from trunkline.fold import decode_arguments

LEGACY = "function_call"
"""The index of the call in the deprecated field `function_call`."""

_LONGEST_NAME = 10_000
"""The characters of a tool's name. No server takes names of more than some hundred."""


class _Call:
    __slots__ = ("arguments", "chunk", "custom", "id", "index", "name", "position", "tries")

    def __init__(self, position: int, call_id: str | None) -> None:
        self.position = position
        self.chunk = 0
        self.tries = 0
        self.id = call_id
        self.name = ""
        # What has come; once the call has started it has also been handed on.
        self.arguments: list[str] = []
        self.custom = False
        self.index: int | None = None

    def is_whole(self) -> bool:
        # A server that repeats the name in each delta must not cost a decoding of everything for each.
        if not self.arguments or self.tries > 32 or not self.arguments[-1].rstrip().endswith("}"):
            return False
        self.tries += 1
        return decode_arguments("".join(self.arguments))[1] is None


class ToolCalls:
    """The calls of one answer. `next_index` gives the index of a new part among the answer's events."""

    def __init__(self, next_index: Callable[[], int], *, provider: str) -> None:
        self._next_index = next_index
        self._provider = provider
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[object, _Call] = {}
        self._last: _Call | None = None
        self._started = 0
        self._chunk = 0
        self.seed = ""

    def __bool__(self) -> bool:
        return any(call.name or call.id or call.arguments for call in self._calls)

    def deltas(self, entries: list[Any], events: list[Event]) -> None:
        """Take the `tool_calls` of a chunk."""
        self._chunk += 1
        for entry in entries:
            self.delta(entry, events)

    def delta(self, delta: object, events: list[Event], *, key: object = None) -> None:
        """Take one entry of `tool_calls`. `key` stands for an index where the wire has none."""
        if not isinstance(delta, dict):
            raise ProtocolViolation("a tool call in the answer is not an object", provider=self._provider)
        function = delta.get("function")
        custom = delta.get("custom")
        # Some write both, and leave one empty.
        is_custom = isinstance(custom, dict) and (delta.get("type") == "custom" or not isinstance(function, dict))
        body: Any = custom if is_custom else function if isinstance(function, dict) else delta
        name = body.get("name")
        name = name if isinstance(name, str) else ""
        arguments = _arguments(body.get("input" if is_custom else "arguments"))
        call_id = delta.get("id")
        # Mistral's own client writes "null" where there is no id.
        call_id = call_id if isinstance(call_id, str) and call_id not in ("", "null") else None
        index = delta.get("index")
        index = index if isinstance(index, int) and not isinstance(index, bool) else key
        call = self._find(index, call_id, name, arguments)
        call.chunk = self._chunk
        call.custom = call.custom or is_custom
        if name and call.index is None and not (name == call.name and call_id is not None):
            call.name += name
            if len(call.name) > _LONGEST_NAME:
                raise ProtocolViolation("the name of a tool in the answer has no end", provider=self._provider)
        self._take(call, arguments, events)

    def whole(self, entries: list[Any], events: list[Event]) -> None:
        """Take the `tool_calls` of an answer that was not streamed: each entry is a call of its own."""
        for position, entry in enumerate(entries):
            if isinstance(entry, dict):
                call_id = entry.get("id")
                fresh = None if isinstance(call_id, str) and call_id in self._by_id else call_id
                entry = {**entry, "id": fresh, "index": position}
            self.delta(entry, events)

    def end(self, events: list[Event]) -> None:
        """The calls are complete. Raises `ProtocolViolation` for one without a name."""
        for call in self._calls:
            if not call.name:
                if not call.id and not call.arguments:
                    continue
                raise ProtocolViolation("the answer calls a tool without a name", provider=self._provider)
            self._start(call, events)
            if call.custom:
                text = dumps({"input": "".join(call.arguments)}).decode()
                events.append(ToolCallDelta(index=self._index(call), arguments=text))
            metadata = {self._provider: {"type": "custom"}} if call.custom else {}
            events.append(ToolCallEnd(index=self._index(call), provider_metadata=metadata))

    def _find(self, index: object, call_id: str | None, name: str, arguments: str) -> _Call:
        current = self._by_index.get(index) if index is not None else self._last
        found: _Call | None = None
        if call_id is not None:
            known = self._by_id.get(call_id)
            if known is not None:
                # One id under two indexes, each with a name: two calls of a server that cannot count.
                found = None if index is not None and current is None and name else known
            elif current is not None and not name and (current.id is None or arguments):
                found = current
        elif current is not None and not (name and self._begins(current, name)):
            found = current
        if found is None:
            found = _Call(len(self._calls), call_id if call_id not in self._by_id else None)
            self._calls.append(found)
        elif found.id is None and found.index is None:
            found.id = call_id
        if call_id is not None:
            self._by_id.setdefault(call_id, found)
        if index is not None:
            self._by_index[index] = found
        self._last = found
        return found

    def _begins(self, current: _Call, name: str) -> bool:
        """Whether a name without an id begins a new call, and is not more of the current one's name."""
        if current.chunk == self._chunk:
            return bool(current.name)
        return current.is_whole() or (bool(current.arguments) and bool(current.name) and name != current.name)

    def _take(self, call: _Call, arguments: str, events: list[Event]) -> None:
        # Groq writes null for a tool without parameters.
        if not arguments or (arguments == "null" and not call.arguments):
            return
        call.arguments.append(arguments)
        if call.custom or not call.name:
            return
        if call.index is None:
            self._start(call, events)
        else:
            events.append(ToolCallDelta(index=call.index, arguments=arguments))

    def _start(self, call: _Call, events: list[Event]) -> None:
        if call.index is not None:
            return
        # Parts stand in the order of their starts: calls that came earlier start earlier.
        while self._started < call.position:
            self._started += 1
            earlier = self._calls[self._started - 1]
            if earlier.name:
                self._start(earlier, events)
        call.index = self._next_index()
        call.id = call.id or self._make_id(call.position)
        events.append(ToolCallStart(index=call.index, id=call.id, name=call.name))
        text = "".join(call.arguments)
        if text and not call.custom:
            events.append(ToolCallDelta(index=call.index, arguments=text))

    def _index(self, call: _Call) -> int:
        assert call.index is not None
        return call.index

    def _make_id(self, position: int) -> str:
        # The same for an answer however it is read, and another for each answer.
        return "call_" + sha256(f"{self.seed}/{position}".encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _arguments(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return dumps(value).decode()
    except (TypeError, ValueError, RecursionError):
        return str(value)
