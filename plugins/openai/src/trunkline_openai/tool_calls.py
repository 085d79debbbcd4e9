"""Assemble the tool calls of a response from the deltas of a stream.

As specified, each delta has an `index`. The first delta of an index has the call's `id` and `name`, the later ones have
pieces of the arguments. Servers differ from this in many ways:

- they leave out the index, or give every call the index 0;
- they send the id alone first, repeat it in each delta, repeat it for two calls, or send none at all;
- they split the name, or repeat it in each delta;
- they send the arguments as an object instead of text;
- they start a new call under the index of an earlier call, or continue a call under a different index;
- they send a different id with each delta, or repeat a call under a different index.

The rule is that two calls are never merged, because a call with the arguments of two is lost. So a delta belongs to the
call of its id, else of its index, else to the latest call, unless it starts a new one: with a new id together with a
name or without arguments, or with a name after arguments that are complete JSON. Arguments without a name or an id,
under a new index, continue the latest call if its arguments are incomplete.

A call that never gets a name cannot be run. If its arguments complete the JSON of the previous call's arguments, they
belong to that call. Otherwise the call is kept in the response's metadata, with a warning. All other fields of a call
are kept in its metadata and are sent back with the call: Gemini refuses a call without its `extra_content`.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from trunkline.authoring.json import JSONValue, as_string, dumps
from trunkline.errors import ProtocolViolation
from trunkline.events import Event, ToolCallDelta, ToolCallEnd, ToolCallStart
from trunkline.fold import decode_arguments

LEGACY = "function_call"
"""Stands for the index of the call in the deprecated field `function_call`."""

_LONGEST_NAME = 10_000
"""The longest name of a tool, in characters. No server accepts more than a few hundred."""

_CALL_FIELDS = frozenset({"index", "id", "type", "function", "custom", "name", "arguments"})
_BODY_FIELDS = frozenset({"name", "arguments", "input"})


class _Call:
    __slots__ = (
        "arguments",
        "chunk",
        "custom",
        "displaced",
        "id",
        "index",
        "metadata",
        "name",
        "position",
        "repeated",
        "size",
        "tries",
    )

    def __init__(self, position: int, call_id: str | None) -> None:
        self.position = position
        self.chunk = 0  # the number of the chunk that had its last delta
        self.tries = 0
        self.id = call_id
        self.name = ""
        # The pieces so far. After the call's start event, each piece has also been sent as an event.
        self.arguments: list[str] = []
        self.size = 0  # the length of the arguments, in characters
        self.custom = False
        self.index: int | None = None
        self.metadata: dict[str, Any] = {}
        # The previous call with the same index. If this call began with only an id, that delta may belong to it.
        self.displaced: _Call | None = None
        # The first call with the same id. This call may repeat it, so this call starts at the end of the response.
        self.repeated: _Call | None = None

    def text(self) -> str:
        if len(self.arguments) > 1:
            self.arguments = ["".join(self.arguments)]
        return self.arguments[0] if self.arguments else ""

    def is_whole(self) -> bool:
        # Limited, so that a server that repeats the name in each delta does not cause quadratic work.
        if not self.arguments or self.tries > 32 or not self.arguments[-1].rstrip().endswith("}"):
            return False
        self.tries += 1
        return decode_arguments(self.text())[1] is None

    def has(self, arguments: str) -> bool:
        """Whether the call has exactly these arguments, and they are complete."""
        return bool(arguments) and len(arguments) == self.size and self.is_whole() and self.text() == arguments

    def repeats(self) -> bool:
        """Whether this call repeats the first call with its id: with the same arguments, or without any."""
        first = self.repeated
        return first is not None and self.name == first.name and self.text() in ("", first.text())


class ToolCalls:
    """The calls of one response. `next_index` returns the index for a new part of the response."""

    def __init__(self, next_index: Callable[[], int], *, provider: str) -> None:
        self._next_index = next_index
        self._provider = provider
        self._calls: list[_Call] = []
        self._by_id: dict[str, _Call] = {}
        self._by_index: dict[object, _Call] = {}
        self._last: _Call | None = None
        self.unnamed: list[JSONValue] = []
        """The calls without a name, at the end of the response."""
        self._started = 0
        self._chunk = 0
        self.seed = ""

    def __bool__(self) -> bool:
        return any(call.name for call in self._calls)

    def deltas(self, entries: list[Any], events: list[Event]) -> None:
        """Read the `tool_calls` of a chunk."""
        self._chunk += 1
        for entry in entries:
            if entry is not None:
                self.delta(entry, events)

    def delta(self, delta: object, events: list[Event], *, key: object = None) -> None:
        """Read one entry of `tool_calls`. `key` replaces the index of an entry without one."""
        if not isinstance(delta, dict):
            raise ProtocolViolation("a tool call in the response is not an object", provider=self._provider)
        function = delta.get("function")
        custom = delta.get("custom")
        # Some servers send both, one of them empty.
        is_custom = isinstance(custom, dict) and (delta.get("type") == "custom" or not isinstance(function, dict))
        body: Any = custom if is_custom else function if isinstance(function, dict) else delta
        name = as_string(body.get("name")) or ""
        arguments = _arguments(body.get("input" if is_custom else "arguments"))
        call_id = delta.get("id")
        # Mistral's own client writes "null" for a missing id.
        call_id = call_id if isinstance(call_id, str) and call_id not in ("", "null") else None
        index = delta.get("index")
        index = index if isinstance(index, int) and not isinstance(index, bool) else key
        call = self._find(index, call_id, name, arguments)
        if name and name == call.name and call.has(arguments):
            return  # the server repeated the call
        call.chunk = self._chunk
        self._keep(call, delta, body)
        call.custom = call.custom or is_custom
        if name and call.index is None and not (name == call.name and call_id is not None):
            call.name += name
            if len(call.name) > _LONGEST_NAME:
                raise ProtocolViolation(
                    f"a tool's name in the response is longer than {_LONGEST_NAME} characters", provider=self._provider
                )
        self._take(call, arguments, events)

    def whole(self, entries: list[Any], events: list[Event]) -> None:
        """Read the `tool_calls` of a body that was not streamed: each entry is a call of its own."""
        for position, entry in enumerate(entries):
            if isinstance(entry, dict):
                entry = {**entry, "index": position}
                if isinstance(entry.get("id"), str) and entry["id"] in self._by_id and not _has_name(entry):
                    del entry["id"]
            if entry is not None:
                self.delta(entry, events)

    def end(self, events: list[Event]) -> None:
        """End all calls. Calls without a name are appended to `unnamed`."""
        named = [call for call in self._calls if call.name and not call.repeats()]
        for call in self._calls:
            if call.name or (not call.arguments and (call.id is None or call.displaced is not None)):
                continue
            if not self._completed(call, events):
                self.unnamed.append({"id": call.id, "arguments": call.text()})
        for call in named:
            call.repeated = None
            self._start(call, events)
            if call.custom:
                text = dumps({"input": call.text()}).decode()
                events.append(ToolCallDelta(index=self._index(call), arguments=text))
                call.metadata["type"] = "custom"
            metadata = {self._provider: call.metadata} if call.metadata else {}
            events.append(ToolCallEnd(index=self._index(call), provider_metadata=metadata))

    def _completed(self, rest: _Call, events: list[Event]) -> bool:
        """Add a nameless call's arguments to the previous call. Returns whether this completed the call's JSON."""
        before = next((call for call in reversed(self._calls[: rest.position]) if call.name), None)
        if before is None or before.custom or before.is_whole() or not rest.arguments:
            return False
        if decode_arguments(before.text() + rest.text())[1] is not None:
            return False
        self._take(before, rest.text(), events)
        return True

    def _keep(self, call: _Call, delta: dict[str, Any], body: dict[str, Any]) -> None:
        """Keep unknown fields in the metadata of the call."""
        kind = delta.get("type")
        if isinstance(kind, str) and kind and kind not in ("function", "custom"):
            call.metadata["type"] = kind  # for example `builtin_function` (Kimi)
        if not delta.keys() <= _CALL_FIELDS:
            call.metadata |= {
                key: value for key, value in delta.items() if key not in _CALL_FIELDS and value is not None
            }
        if body is not delta and not body.keys() <= _BODY_FIELDS:
            more = {key: value for key, value in body.items() if key not in _BODY_FIELDS and value is not None}
            if more:
                call.metadata["function"] = {**call.metadata.get("function", {}), **more}

    def _find(self, index: object, call_id: str | None, name: str, arguments: str) -> _Call:
        current = self._by_index.get(index) if index is not None else self._last
        found: _Call | None = None
        first: _Call | None = None
        if call_id is not None:
            known = self._by_id.get(call_id)
            if known is not None and index is not None and current is None and name:
                # Two indexes have the same id, and each has a name. Either the server gave two calls one id, or it sent
                # one call twice. The arguments show at the end which is the case.
                first = known
            elif known is not None:
                found = known if current is None or current.repeated is not known else current
            elif current is not None and not name and (current.id is None or arguments):
                found = current
        elif current is not None and not (name and self._begins(current, name)):
            found = current
        elif current is None and not name and arguments and self._last is not None and _is_open(self._last):
            found = self._last
        if found is not None and not found.name and not name and arguments and found.displaced is not None:
            # A new id began a call, but the arguments that follow belong to the previous call.
            before = found.displaced
            if before.name and not before.custom and not before.is_whole():
                found = before
        if found is None:
            found = _Call(len(self._calls), call_id if call_id not in self._by_id else None)
            found.displaced, found.repeated = current, first
            self._calls.append(found)
        elif found.id is None and found.index is None and found.repeated is None:
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
        # Groq sends null for a tool without parameters.
        if not arguments or (arguments == "null" and not call.arguments):
            return
        call.arguments.append(arguments)
        call.size += len(arguments)
        if call.custom or not call.name or call.repeated is not None:
            return
        if call.index is None:
            self._start(call, events)
        else:
            events.append(ToolCallDelta(index=call.index, arguments=arguments))

    def _start(self, call: _Call, events: list[Event]) -> None:
        if call.index is not None:
            return
        # Parts are in the order of their start events, so all earlier calls must start first.
        while self._started < call.position:
            self._started += 1
            earlier = self._calls[self._started - 1]
            if earlier.name and earlier.repeated is None:
                self._start(earlier, events)
        call.index = self._next_index()
        call.id = call.id or self._make_id(call.position)
        events.append(ToolCallStart(index=call.index, id=call.id, name=call.name))
        text = call.text()
        if text and not call.custom:
            events.append(ToolCallDelta(index=call.index, arguments=text))

    def _index(self, call: _Call) -> int:
        assert call.index is not None
        return call.index

    def _make_id(self, position: int) -> str:
        # The same whether the response is streamed or not, and different for each response.
        return "call_" + sha256(f"{self.seed}/{position}".encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _has_name(entry: dict[str, Any]) -> bool:
    bodies = (entry, entry.get("function"), entry.get("custom"))
    return any(isinstance(body, dict) and body.get("name") for body in bodies)


def _is_open(call: _Call) -> bool:
    """Whether the call has incomplete arguments."""
    return bool(call.arguments) and not call.custom and not call.is_whole()


def _arguments(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return dumps(value).decode()
    except (TypeError, ValueError, RecursionError):
        return str(value)
