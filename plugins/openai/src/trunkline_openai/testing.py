"""Samples of Chat Completions and Responses for the conformance kit. Needs `trunkline[testing]`.

The test of a provider that speaks Chat Completions:

    class TestAcme(ProviderTests):
        provider = "acme"
        settings = {"api_url": "{url}", "api_key": canary("api_key")}
        wire = CHAT_COMPLETIONS
        samples = (chat_history("{url}/chat/completions"),)
        operation_requests = chat_operation_requests("{url}")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
from trunkline.authoring.json import JSONValue, dumps
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, TokenLogprob, Usage
from trunkline.testing.wireformat import (
    EMBED_DIMENSIONS,
    EMBED_TEXTS,
    NAMED_SSE,
    SSE,
    TOOL_HISTORY,
    WEATHER,
    Sample,
    Step,
    WireFormat,
)

_NO_HEADERS: Mapping[str, str] = {}
_USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
_BEGUN = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
_COUNTED = Usage(input_tokens=9, output_tokens=5, total_tokens=14)
_OSLO = ("weather", {"city": "Oslo"})
_ROME = ("weather", {"city": "Rome"})
_TOOLS = ChatRequest(messages="Oslo and Rome?", tools=[WEATHER])


def _data(value: dict[str, Any] | bytes) -> bytes:
    return SSE.frame(value if isinstance(value, bytes) else dumps(value), "")


def _chunk(delta: dict[str, Any] | None, finish: str | None = None, *, logprobs: Any = None, **fields: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, **({"logprobs": logprobs} if logprobs else {})}
    choices = [] if delta is None else [choice]
    return _data({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": choices, **fields})


def _body(message: dict[str, Any], finish: str, **choice: Any) -> bytes:
    choices = [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **choice}]
    return dumps({"id": "c1", "object": "chat.completion", "model": "m", "choices": choices, "usage": _USAGE})


def _call(index: int | None, call_id: str | None = None, name: str | None = None, arguments: str | None = None) -> Any:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    call: dict[str, Any] = {"function": function}
    if index is not None:
        call["index"] = index
    if call_id is not None:
        call |= {"id": call_id, "type": "function"}
    return call


def _token(text: str, logprob: float, *top: TokenLogprob) -> TokenLogprob:
    return TokenLogprob(token=text, logprob=logprob, top=top)


_LOGPROBS = (
    _token("Grüß ", -0.5, _token("Grüß ", -0.5), _token("Hallo", -1.25)),
    _token("Gott", -0.25, _token("Gott", -0.25)),
)
_TOKENS = [
    {
        "token": token.token,
        "logprob": token.logprob,
        "top_logprobs": [{"token": other.token, "logprob": other.logprob} for other in token.top],
    }
    for token in _LOGPROBS
]
_NO_METADATA = "a TokenLogprob has no metadata"
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


def _calls(name: str, *deltas: list[Any], calls: Any = (_OSLO, _ROME), finish: str = "tool_calls") -> Sample:
    whole = [
        {"id": f"call_{at}", "type": "function", "function": {"name": tool, "arguments": dumps(given).decode()}}
        for at, (tool, given) in enumerate(calls)
    ]
    return Sample(
        name=name,
        frames=(_ROLE, *(_chunk({"tool_calls": delta}) for delta in deltas), _chunk({}, finish), _USED, _DONE),
        body=_body({"content": None, "tool_calls": whole}, finish),
        request=_TOOLS,
        tool_calls=calls,
        call_ids=tuple(f"call_{at}" for at in range(len(calls))),
        finish_reason=FinishReason.TOOL_CALLS,
        usage=_COUNTED,
    )


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": None, "code": None, "param": None}}


def _embeddings(vectors: Sequence[Any], indexes: Sequence[int]) -> bytes:
    data = [
        {"object": "embedding", "index": at, "embedding": vector} for at, vector in zip(indexes, vectors, strict=True)
    ]
    return dumps({"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})


def chat_steps(body: Any) -> Iterator[Step]:
    """Return the calls, results and other messages of a Chat Completions request."""
    for message in body["messages"]:
        if message["role"] == "tool":
            yield Step("result", message["tool_call_id"])
        elif message.get("tool_calls"):
            for call in message["tool_calls"]:
                yield Step("call", call["id"], call["function"]["arguments"])
        else:
            yield Step("message")


def response_steps(body: Any) -> Iterator[Step]:
    """Return the calls, results and other items of a Responses request. Reasoning may stand between calls."""
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind == "function_call":
            yield Step("call", item["call_id"], item["arguments"])
        elif kind == "function_call_output":
            yield Step("result", item["call_id"])
        elif kind != "reasoning":
            yield Step("message")


CHAT_COMPLETIONS = WireFormat(
    framing=SSE,
    steps=chat_steps,
    unkept_fields=dict.fromkeys(
        ("choices[].logprobs.content[]", "choices[].logprobs.content[].top_logprobs[]"), _NO_METADATA
    ),
    finish="stop",
    finish_reasons={
        "stop": FinishReason.STOP,
        "length": FinishReason.LENGTH,
        "content_filter": FinishReason.CONTENT_FILTER,
    },
    error_body=lambda message: dumps(_error(message)),
    error_event=lambda message: _data(_error(message)),
    embeddings=_embeddings,
    samples=(
        _text("text", _chunk({}, "stop"), _USED),
        _text("usage in the last chunk", _chunk({}, "stop", usage=_USAGE)),
        _text("usage before the finish reason", _USED, _chunk({}, "stop")),
        _text("usage twice", _chunk({}, "stop", usage=_USAGE), _USED),
        _text("usage in every chunk", _chunk({}, usage=_BEGUN), _chunk({}, "stop", usage=_USAGE), _USED),
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
        _calls(
            "tool calls that end with stop",
            [_call(0, "call_0", "weather", '{"city":"Oslo"}')],
            [_call(1, "call_1", "weather", '{"city":"Rome"}')],
            finish="stop",
        ),
        Sample(
            name="log probabilities",
            frames=(
                _ROLE,
                _chunk({"content": "Grüß "}, logprobs={"content": _TOKENS[:1]}),
                _chunk({"content": "Gott"}, logprobs={"content": _TOKENS[1:]}),
                _chunk({}, "stop"),
                _USED,
                _DONE,
            ),
            body=_body({"content": "Grüß Gott"}, "stop", logprobs={"content": _TOKENS}),
            text="Grüß Gott",
            usage=_COUNTED,
            logprobs=_LOGPROBS,
        ),
        _calls("no arguments", [_call(0, "call_0", "now")], [_call(1, "call_1", "now", "")], calls=(("now", {}),) * 2),
    ),
)
"""The Chat Completions API."""

_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_FUNCTION = {"name": "weather", "description": "Tells the weather.", "parameters": _PARAMETERS}


def _asked(call_id: str, city: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": f'{{"city":"{city}"}}'}
    return {"id": call_id, "type": "function", "function": function}


_CHAT_HISTORY: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the weather in Oslo and in Rome?"},
        {
            "role": "assistant",
            "content": "I will look.",
            "tool_calls": [_asked("abcdefgh1", "Oslo"), _asked("abcdefgh2", "Rome")],
        },
        {"role": "tool", "tool_call_id": "abcdefgh1", "content": "Sun"},
        {"role": "tool", "tool_call_id": "abcdefgh2", "content": "Error: Down"},
        {"role": "assistant", "content": "Sun in Oslo."},
        {"role": "user", "content": "Thanks."},
    ],
    "tools": [{"type": "function", "function": _FUNCTION}],
    "tool_choice": "auto",
    "max_tokens": 4321,
    "temperature": 0.25,
    "top_p": 0.75,
    "frequency_penalty": 0.5,
    "presence_penalty": 1.0,
    "seed": 8765,
    "stop": ["END"],
    "stream": True,
    "stream_options": {"include_usage": True},
}
_STREAM_FIELDS = ("stream", "stream_options")
"""The fields of a request that asks for a stream."""


def chat_history(url: str, *, headers: Mapping[str, str] = _NO_HEADERS, **fields: JSONValue) -> Sample:
    """Return a sample with a history of tools, whose requests have the documented form of Chat Completions.

    `url` is where the provider sends them, for example `{url}/chat/completions`. `headers` are further headers that it
    must send and that are no credentials. `fields` are the fields of the body in which the provider differs; a field
    that is `None` must not be sent.
    """
    return _history(CHAT_COMPLETIONS, url, headers, _CHAT_HISTORY, fields)


def _history(
    wire: WireFormat, url: str, headers: Mapping[str, str], usual: Mapping[str, Any], fields: Mapping[str, Any]
) -> Sample:
    body = {name: value for name, value in {**usual, **fields}.items() if value is not None}
    headers = {"content-type": "application/json", **headers}
    unstreamed = {name: value for name, value in body.items() if name not in _STREAM_FIELDS}
    return attrs.evolve(
        wire.samples[0],
        name="after a history of tools",
        request=TOOL_HISTORY,
        request_wire=WireRequest(url=url, headers=headers, body=dumps(body)),
        unstreamed_wire=WireRequest(url=url, headers=headers, body=dumps(unstreamed)),
    )


def chat_operation_requests(api_url: str, *, headers: Mapping[str, str] = _NO_HEADERS) -> dict[str, WireRequest]:
    """Return the requests that list models (`GET /models`) and embed texts (`POST /embeddings`), as OpenAI documents.

    They are the `operation_requests` of a test class. `api_url` is the URL before these paths, for example `{url}/v1`.
    `headers` are further headers that the provider must send and that are no credentials.
    """
    body = {"model": "m", "input": EMBED_TEXTS, "encoding_format": "float", "dimensions": EMBED_DIMENSIONS}
    return {
        "list_models": WireRequest(method="GET", url=f"{api_url}/models", headers=headers),
        "embed": WireRequest(
            url=f"{api_url}/embeddings", headers={"content-type": "application/json", **headers}, body=dumps(body)
        ),
    }


def chat_reasoning(field: str) -> Sample:
    """Return a sample with reasoning before the text, in this field of a message, such as `reasoning_content`."""
    return Sample(
        name=f"reasoning in {field}",
        frames=(
            _ROLE,
            _chunk({field: "Let me "}),
            _chunk({field: "see."}),
            _chunk({"content": "Yes."}),
            _chunk({}, "stop"),
            _USED,
            _DONE,
        ),
        body=_body({field: "Let me see.", "content": "Yes."}, "stop"),
        reasoning="Let me see.",
        text="Yes.",
        usage=_COUNTED,
    )


# Responses

_RESPONSES_USAGE = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}


def _event(kind: str, **fields: Any) -> bytes:
    return NAMED_SSE.frame(dumps({"type": kind, **fields}), kind)


def _responses(
    name: str, *frames: bytes, output: list[dict[str, Any]], incomplete: str | None = None, **meaning: Any
) -> Sample:
    head = {"id": "resp_1", "object": "response", "model": "m"}
    status = "incomplete" if incomplete else "completed"
    whole = {**head, "status": status, "output": output, "usage": _RESPONSES_USAGE}
    if incomplete:
        whole["incomplete_details"] = {"reason": incomplete}
    return Sample(
        name=name,
        frames=(
            _event("response.created", response={**head, "status": "in_progress", "output": []}),
            *frames,
            _event(f"response.{status}", response=whole),
        ),
        body=dumps(whole),
        usage=_COUNTED,
        **meaning,
    )


def _message(text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": [], **fields}] if text else []
    status = "completed" if text else "in_progress"
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": content}


def _function(at: int, arguments: str, status: str) -> dict[str, Any]:
    found = {"type": "function_call", "id": f"fc_{at}", "call_id": f"call_{at}", "name": "weather"}
    return {**found, "arguments": arguments, "status": status}


def _custom(text: str, status: str) -> dict[str, Any]:
    found = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_0", "name": "run"}
    return {**found, "input": text, "status": status}


def _piece(at: int, text: str) -> bytes:
    return _event("response.function_call_arguments.delta", output_index=at, item_id=f"fc_{at}", delta=text)


def _text_delta(text: str, **fields: Any) -> bytes:
    where = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
    return _event("response.output_text.delta", **where, delta=text, **fields)


_ITEM_OF_TOMORROW = {"type": "item_of_tomorrow", "id": "item_1", "what": "UNHEARD-OF"}
_FUNCTIONS = [_function(at, dumps(given).decode(), "completed") for at, (_, given) in enumerate((_OSLO, _ROME))]

_CUT_OFF = _function(0, '{"city":"Oslo"}', "incomplete")
_CODE = 'if a == "\\":\n\treturn'
_REFUSED = {**_message(""), "status": "completed", "content": [{"type": "refusal", "refusal": "I cannot help."}]}

RESPONSES = WireFormat(
    framing=NAMED_SSE,
    steps=response_steps,
    unkept_fields=dict.fromkeys(
        (
            f"{place}{inner}"
            for place in (
                "response.output_text.delta:logprobs[]",
                "response.output_item.done:item.content[].logprobs[]",
                "response.completed:response.output[].content[].logprobs[]",
                "output[].content[].logprobs[]",
            )
            for inner in ("", ".top_logprobs[]")
        ),
        _NO_METADATA,
    ),
    finish="max_output_tokens",
    error_body=lambda message: dumps(_error(message)),
    error_event=lambda message: _event("error", code="server_error", message=message, param=None),
    embeddings=_embeddings,
    samples=(
        _responses(
            "text",
            _event("response.output_item.added", output_index=0, item=_message("")),
            _text_delta("Grüß "),
            _text_delta("Gott 🌍"),
            _event("response.output_item.done", output_index=0, item=_message("Grüß Gott 🌍")),
            output=[_message("Grüß Gott 🌍")],
            text="Grüß Gott 🌍",
        ),
        _responses(
            "cut off by the limit",
            _event("response.output_item.added", output_index=0, item=_message("")),
            _text_delta("Grüß "),
            output=[_message("Grüß ")],
            incomplete="max_output_tokens",
            text="Grüß ",
            finish_reason=FinishReason.LENGTH,
        ),
        _responses(
            "a tool call that is cut off by the limit",
            _event("response.output_item.added", output_index=0, item=_function(0, "", "in_progress")),
            _piece(0, '{"city":"Oslo"}'),
            _event("response.output_item.done", output_index=0, item=_CUT_OFF),
            output=[_CUT_OFF],
            incomplete="max_output_tokens",
            request=_TOOLS,
            tool_calls=(_OSLO,),
            finish_reason=FinishReason.LENGTH,
        ),
        _responses(
            "a call of a custom tool, whose input has several lines",
            _event("response.output_item.added", output_index=0, item=_custom("", "in_progress")),
            *(
                _event("response.custom_tool_call_input.delta", output_index=0, item_id="ctc_1", delta=piece)
                for piece in ('if a == "\\":\n', "\treturn")
            ),
            _event("response.custom_tool_call_input.done", output_index=0, item_id="ctc_1", input=_CODE),
            _event("response.output_item.done", output_index=0, item=_custom(_CODE, "completed")),
            output=[_custom(_CODE, "completed")],
            tool_calls=(("run", {"input": _CODE}),),
            call_ids=("call_0",),
            finish_reason=FinishReason.TOOL_CALLS,
        ),
        _responses(
            "a refusal",
            _event("response.output_item.added", output_index=0, item=_message("")),
            *(
                _event("response.refusal.delta", output_index=0, item_id="msg_1", content_index=0, delta=piece)
                for piece in ("I cannot ", "help.")
            ),
            _event("response.output_item.done", output_index=0, item=_REFUSED),
            output=[_REFUSED],
            text="I cannot help.",
            refusal="I cannot help.",
        ),
        _responses(
            "two tool calls, interleaved",
            *(
                _event("response.output_item.added", output_index=at, item=_function(at, "", "in_progress"))
                for at in (0, 1)
            ),
            _piece(0, '{"city"'),
            _piece(1, '{"city":"Rome'),
            _piece(0, ':"Oslo"}'),
            _piece(1, '"}'),
            *(_event("response.output_item.done", output_index=at, item=_FUNCTIONS[at]) for at in (1, 0)),
            output=_FUNCTIONS,
            request=_TOOLS,
            tool_calls=(_OSLO, _ROME),
            finish_reason=FinishReason.TOOL_CALLS,
        ),
        _responses(
            "log probabilities",
            _event("response.output_item.added", output_index=0, item=_message("")),
            _text_delta("Grüß ", logprobs=_TOKENS[:1]),
            _text_delta("Gott", logprobs=_TOKENS[1:]),
            _event("response.output_item.done", output_index=0, item=_message("Grüß Gott", logprobs=_TOKENS)),
            output=[_message("Grüß Gott", logprobs=_TOKENS)],
            text="Grüß Gott",
            logprobs=_LOGPROBS,
        ),
        _responses(
            "an item of tomorrow",
            _event("response.output_item.added", output_index=0, item=_ITEM_OF_TOMORROW),
            _event("response.output_item.done", output_index=0, item=_ITEM_OF_TOMORROW),
            _event("response.output_item.added", output_index=1, item=_message("")),
            _event("response.output_item.done", output_index=1, item=_message("Yes.")),
            output=[_ITEM_OF_TOMORROW, _message("Yes.")],
            text="Yes.",
            kept=("item_of_tomorrow", "UNHEARD-OF"),
        ),
        _responses(
            "tool calls in the last event only",
            output=_FUNCTIONS,
            request=_TOOLS,
            tool_calls=(_OSLO, _ROME),
            finish_reason=FinishReason.TOOL_CALLS,
        ),
    ),
)
"""The Responses API."""

_RESPONSES_HISTORY: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {"role": "user", "content": "What is the weather in Oslo and in Rome?"},
        {"type": "message", "role": "assistant", "content": "I will look."},
        {"type": "function_call", "call_id": "abcdefgh1", "name": "weather", "arguments": '{"city":"Oslo"}'},
        {"type": "function_call", "call_id": "abcdefgh2", "name": "weather", "arguments": '{"city":"Rome"}'},
        {"type": "function_call_output", "call_id": "abcdefgh1", "output": "Sun"},
        {"type": "function_call_output", "call_id": "abcdefgh2", "output": "Error: Down"},
        {"type": "message", "role": "assistant", "content": "Sun in Oslo."},
        {"role": "user", "content": "Thanks."},
    ],
    "tools": [{"type": "function", "strict": False, **_FUNCTION}],
    "tool_choice": "auto",
    "max_output_tokens": 4321,
    "temperature": 0.25,
    "top_p": 0.75,
    "metadata": {"kit": "metadata"},
    "store": False,
    "stream": True,
}


def responses_history(url: str, *, headers: Mapping[str, str] = _NO_HEADERS, **fields: JSONValue) -> Sample:
    """Return a sample with a history of tools, whose requests have the documented form of the Responses API.

    The arguments are those of `chat_history`.
    """
    return _history(RESPONSES, url, headers, _RESPONSES_HISTORY, fields)
