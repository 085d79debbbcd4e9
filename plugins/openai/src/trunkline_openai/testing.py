"""What the conformance kit has to know of the Chat Completions dialect and of Responses. Needs `trunkline[testing]`.

The test of a provider of the dialect:

    class TestAcme(ProviderTests):
        provider = "acme"
        settings = {"api_url": "{url}", "api_key": canary("api_key")}
        wire = CHAT_COMPLETIONS
"""

from __future__ import annotations

from typing import Any

from trunkline.jsonvalue import dumps
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, Usage
from trunkline.testing.wireformat import SSE, WEATHER, Sample, WireFormat

_USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
_COUNTED = Usage(input_tokens=9, output_tokens=5, total_tokens=14)
_OSLO = ("weather", {"city": "Oslo"})
_ROME = ("weather", {"city": "Rome"})
_TOOLS = ChatRequest(messages="Oslo and Rome?", tools=[WEATHER])


def _data(value: dict[str, Any] | bytes) -> bytes:
    return SSE.frame(value if isinstance(value, bytes) else dumps(value), "")


def _chunk(delta: dict[str, Any] | None, finish: str | None = None, **fields: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return _data({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": choices, **fields})


def _body(message: dict[str, Any], finish: str) -> bytes:
    choices = [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}]
    return dumps({"id": "c1", "object": "chat.completion", "model": "m", "choices": choices, "usage": _USAGE})


def _call(index: int | None, call_id: str | None = None, name: str | None = None, arguments: str | None = None) -> Any:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call: dict[str, Any] = {"function": function}
    if index is not None:
        call["index"] = index
    if call_id is not None:
        call |= {"id": call_id, "type": "function"}
    return call


_DONE = _data(b"[DONE]")
_USED = _chunk(None, usage=_USAGE)
_ROLE = _chunk({"role": "assistant", "content": ""})


def _text(name: str, *end: bytes) -> Sample:
    return Sample(
        name=name,
        frames=(_ROLE, _chunk({"content": "Grüß "}), _chunk({"content": "Gott 🌍"}), *end, _DONE),
        body=_body({"content": "Grüß Gott 🌍"}, "stop"),
        text="Grüß Gott 🌍",
        usage=_COUNTED,
    )


def _calls(name: str, *deltas: list[Any], calls: Any = (_OSLO, _ROME)) -> Sample:
    whole = [
        {"id": f"call_{at}", "type": "function", "function": {"name": tool, "arguments": dumps(given).decode()}}
        for at, (tool, given) in enumerate(calls)
    ]
    return Sample(
        name=name,
        frames=(_ROLE, *(_chunk({"tool_calls": delta}) for delta in deltas), _chunk({}, "tool_calls"), _USED, _DONE),
        body=_body({"content": None, "tool_calls": whole}, "tool_calls"),
        request=_TOOLS,
        tool_calls=calls,
        finish_reason=FinishReason.TOOL_CALLS,
        usage=_COUNTED,
    )


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "code": None, "param": None}}


CHAT_COMPLETIONS = WireFormat(
    framing=SSE,
    finish="stop",
    error_body=lambda message: dumps(_error(message)),
    error_event=lambda message: _data(_error(message)),
    samples=(
        _text("text", _chunk({}, "stop"), _USED),
        _text("usage in the last chunk", _chunk({}, "stop", usage=_USAGE)),
        _text("usage before the finish reason", _USED, _chunk({}, "stop")),
        _text("usage twice", _chunk({}, "stop", usage=_USAGE), _USED),
        _calls(
            "two tool calls, interleaved",
            [_call(0, "call_0", "weather", ""), _call(1, "call_1", "weather", "")],
            [_call(0, arguments='{"city"')],
            [_call(1, arguments='{"city":')],
            [_call(0, arguments=':"Oslo"}')],
            [_call(1, arguments='"Rome"}')],
        ),
        _calls(
            "tool calls without an index",
            [_call(None, "call_0", "weather", '{"city":')],
            [_call(None, arguments='"Oslo"}')],
            [_call(None, "call_1", "weather", '{"city":"Rome"}')],
        ),
        _calls(
            "every tool call with the index 0",
            [_call(0, "call_0", "weather", '{"city":"Oslo"}')],
            [_call(0, "call_1", "weather", '{"city":"Rome"}')],
        ),
        _calls(
            "the id first, and the name split",
            [_call(0, "call_0")],
            [_call(0, name="wea")],
            [_call(0, name="ther", arguments='{"city":"Oslo"}')],
            [_call(1, "call_1")],
            [_call(1, name="weather")],
            [_call(1, arguments='{"city":"Rome"}')],
        ),
        _calls("no arguments", [_call(0, "call_0", "now")], [_call(1, "call_1", "now", "")], calls=(("now", {}),) * 2),
    ),
)
"""The Chat Completions dialect."""
