"""Answers, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trunkline._plugins.registry import open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ResponseParser, ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, RateLimited, ServerError
from trunkline.events import Event, Finished, PartAdded, ResponseStarted, UsageReported
from trunkline.fold import fold
from trunkline.messages import Citation, Image, Opaque, Part, Reasoning, Text, ToolCall
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, TokenLogprob, Usage
from trunkline.secrets import Secret
from trunkline_mistral import MistralSettings, mistral

CONTEXT = ServiceContext(name="s", provider="mistral", settings=MistralSettings(api_key=Secret("secret")))
WEATHER = {"name": "weather", "arguments": '{"city":"Oslo"}'}


def parser() -> ResponseParser:
    return open_steps(mistral, CONTEXT).parser


def thinking(*texts: str, **fields: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text} for text in texts], **fields}


def chunk(delta: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **fields,
    }


def sse(*chunks: dict[str, Any], done: bool = True) -> bytes:
    lines = b"".join(b"data: %s\n\n" % json.dumps(value).encode() for value in chunks)
    return lines + (b"data: [DONE]\n\n" if done else b"")


def decode(data: bytes) -> list[Event]:
    decoder = StreamDecoder(*parser().stream())
    return [*decoder.feed(data), *decoder.finish()]


def streamed(*deltas: dict[str, Any]) -> ChatResponse:
    return fold(decode(sse(*map(chunk, deltas), chunk({"content": ""}, "stop"))), "mistral")


def whole(content: Any, **fields: Any) -> ChatResponse:
    message = {"role": "assistant", "content": content, **fields}
    body = {"id": "c1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return parser().body(WireResponse(status=200, body=json.dumps(body).encode()))


EXAMPLE = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": [thinking("think")]}, p="abc"),
    chunk({"content": "Hi"}),
    chunk(
        {"tool_calls": [{"id": "a1b2c3d4e", "function": WEATHER, "index": 0}]},
        "tool_calls",
        usage={
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "total_tokens": 30,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    ),
]


def test_a_stream_with_reasoning_text_and_a_whole_call() -> None:
    events = decode(sse(*EXAMPLE))
    response = fold(events, "mistral")
    assert events[0] == ResponseStarted(id="c1", model="m")
    assert response.parts == (
        Reasoning(text="think", provider="mistral"),
        Text(text="Hi"),
        ToolCall(id="a1b2c3d4e", name="weather", arguments={"city": "Oslo"}),
    )
    usage = Usage(input_tokens=10, output_tokens=20, total_tokens=30, cache_read_tokens=4)
    assert (response.finish_reason, response.usage) == ("tool_calls", usage)
    assert sum(isinstance(event, UsageReported) for event in events) == 1
    assert response.provider_metadata == {}
    assert response.warnings == ()


A, B = Text(text="a"), Text(text="b")
PARTS: list[tuple[list[dict[str, Any]], list[Part]]] = [
    ([{"type": "text", "text": "a"}], [A]),
    ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], [Text(text="ab")]),
    (
        [thinking("a"), thinking("b", closed=True), {"type": "text", "text": "a"}],
        [Reasoning(text="ab", provider="mistral"), A],
    ),
    (
        [thinking("a", signature="s"), thinking("b", signature="t"), {"type": "text", "text": "a"}],
        [
            Reasoning(text="a", provider="mistral", signature="s"),
            Reasoning(text="b", provider="mistral", signature="t"),
            A,
        ],
    ),
    (
        [thinking("x"), {"type": "text", "text": "a"}, thinking("y"), {"type": "text", "text": "b"}],
        [Reasoning(text="x", provider="mistral"), A, Reasoning(text="y", provider="mistral"), B],
    ),
    (
        [{"type": "text", "text": "a"}, {"type": "reference", "reference_ids": [1]}, {"type": "text", "text": "b"}],
        [A, Citation(provider_metadata={"mistral": {"reference_ids": [1]}}), B],
    ),
    (
        [{"type": "text", "text": "a"}, {"type": "tool_file", "file_id": "f"}, {"type": "text", "text": "b"}],
        [A, Opaque(provider="mistral", kind="tool_file", data={"type": "tool_file", "file_id": "f"}), B],
    ),
    ([{"type": "image_url", "image_url": "https://x/y"}], [Image(url="https://x/y")]),
    ([{"type": "image_url", "image_url": {"url": "https://x/y"}}], [Image(url="https://x/y")]),
]


@pytest.mark.parametrize(("content", "parts"), PARTS)
def test_chunks_are_parts_in_their_order(content: list[dict[str, Any]], parts: list[Part]) -> None:
    responses = [whole(content), streamed({"content": content}), streamed(*({"content": [item]} for item in content))]
    for response in responses:
        assert list(response.parts) == parts
        metadata = [getattr(part, "provider_metadata", None) for part in response.parts]
        assert metadata == [getattr(part, "provider_metadata", None) for part in parts]


def test_what_came_is_sent_back_as_it_came() -> None:
    odd = {"type": "tool_reference", "tool": "web_search", "title": "t"}
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "a"}, odd], "signature": "s", "closed": False},
        {"type": "text", "text": "a"},
        {"type": "reference", "reference_ids": [1, "x"]},
        {"type": "text", "text": "b"},
    ]
    response = whole(content)
    request = (
        ChatRequest(messages="q", model="m")
        .with_messages(response.message)
        .with_messages(*ChatRequest(messages="r").messages)
    )
    translation = open_steps(mistral, CONTEXT).translator.translate(request, stream=False)
    assert json.loads(translation.wire_request.body)["messages"][1] == {"role": "assistant", "content": content}
    assert translation.warnings == ()


@pytest.mark.parametrize(
    ("raw_reason", "reason"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("tool_calls", "tool_calls"),
        ("error", "error"),
        ("something", "other"),
    ],
)
def test_finish_reasons(raw_reason: str, reason: str) -> None:
    response = fold(decode(sse(chunk({"content": "x"}, raw_reason))))
    assert (response.finish_reason, response.raw_finish_reason) == (reason, raw_reason)


def test_a_call_with_stop_is_a_call() -> None:
    calls = [
        {"id": "null", "function": {"name": "f", "arguments": {"a": 1}}},
        {"function": {"name": "g", "arguments": ""}},
    ]
    for response in (whole("", tool_calls=calls), streamed({"content": None, "tool_calls": calls})):
        assert response.finish_reason == "tool_calls"
        assert [(call.name, call.arguments) for call in response.tool_calls] == [("f", {"a": 1}), ("g", {})]
        assert len({call.id for call in response.tool_calls} - {"null", ""}) == 2


@pytest.mark.parametrize(
    ("raw", "cached"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 0}}, 0),
        ({"prompt_token_details": {"cached_tokens": 3}}, 3),
        ({"num_cached_tokens": 3}, 3),
        ({"prompt_audio_seconds": None, "service_tier": "standard"}, None),
    ],
)
def test_usage(raw: dict[str, Any], cached: int | None) -> None:
    raw = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, **raw}
    response = fold(decode(sse(chunk({"content": "x"}, "stop", usage=raw))))
    assert response.usage == Usage(input_tokens=5, output_tokens=2, total_tokens=7, cache_read_tokens=cached)
    assert response.usage is not None
    assert response.usage.raw == raw


def test_log_probabilities_of_each_text_are_reported_once() -> None:
    def spoken(text: str) -> dict[str, Any]:
        logprobs = {"content": [{"token": text, "logprob": -1.0, "token_id": 1, "bytes": [1]}]}
        return {"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}

    silent = chunk({}, choices=[spoken("")])
    cited = chunk({"content": [{"type": "reference", "reference_ids": [1]}]})
    stream = [silent, chunk({}, choices=[spoken("a")]), cited, chunk({}, choices=[spoken("b")]), chunk({}, "stop")]
    response = fold(decode(sse(*stream)))
    assert response.logprobs == tuple(TokenLogprob(token=token, logprob=-1.0) for token in ("", "a", "b"))

    entries = [{"token": token, "logprob": -1.0, "token_id": 1, "bytes": [1]} for token in ("", "a", "b")]
    assert response.provider_metadata == {"mistral": {"logprobs": {"content": entries}}}


def test_unknown_fields_are_metadata_in_streams_and_in_bodies() -> None:
    content = [
        thinking("a", model="m", closed=True),
        {"type": "text", "text": "a", "language": "en"},
        {"type": "reference", "reference_ids": [1], "title": "t"},
        {"type": "resource", "uri": "file:///a", "content": {"type": "text", "text": "x"}},
    ]
    for response in (whole(content), streamed({"content": content, "index": 0})):
        reasoning, text, citation, resource = response.parts
        assert reasoning == Reasoning(text="a", provider="mistral")
        assert getattr(reasoning, "provider_metadata", None) == {"mistral": {"model": "m"}}
        assert text == A
        assert getattr(citation, "provider_metadata", None) == {"mistral": {"reference_ids": [1], "title": "t"}}
        assert resource == Opaque(provider="mistral", kind="resource", data=content[3])
        assert response.provider_metadata == {"mistral": {"language": "en"}}


def test_messages_of_tools_that_mistral_ran_are_metadata() -> None:
    call = {"id": "a1b2c3d4e", "function": {"name": "web_search", "arguments": "{}"}}
    messages = [
        {"role": "assistant", "content": "Let me look. ", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a1b2c3d4e", "content": "RESULT"},
        {"role": "assistant", "content": "It rains."},
    ]
    body = {"id": "c1", "model": "m", "choices": [{"index": 0, "messages": messages, "finish_reason": "stop"}]}
    response = parser().body(WireResponse(status=200, body=json.dumps(body).encode()))
    assert (response.text, response.finish_reason, response.tool_calls) == ("Let me look. It rains.", "stop", ())
    assert response.provider_metadata == {"mistral": {"messages": messages}}
    response = streamed(
        {"role": "assistant", "content": "Let me look. ", "index": 0},
        {"role": "tool", "tool_call_id": "a1b2c3d4e", "content": "RES", "index": 1},
        {"content": "ULT", "index": 1},
        {"role": "assistant", "content": "It rains.", "index": 2},
    )
    assert response.text == "Let me look. It rains."
    assert [delta["content"] for delta in response.provider_metadata["mistral"]["messages"]] == ["RES", "ULT"]


@pytest.mark.parametrize("reason", ["error", None])
def test_failed_response_without_content_raises_an_error(reason: str | None) -> None:
    with pytest.raises(ServerError):
        decode(sse(chunk({"role": "assistant", "content": ""}), chunk({"content": ""}, reason)))
    body = {"id": "c1", "choices": [{"index": 0, "message": {"content": ""}, "finish_reason": reason}]}
    with pytest.raises(ServerError):
        parser().body(WireResponse(status=200, body=json.dumps(body).encode()))
    assert fold(decode(sse(chunk({"content": ""}, "stop")))).text == ""


def test_an_error_in_a_stream_is_raised() -> None:
    error = {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"}
    with pytest.raises(RateLimited, match="Rate limit exceeded") as caught:
        decode(sse(EXAMPLE[0], EXAMPLE[2], error))
    assert (caught.value.provider, caught.value.code, caught.value.retryable) == ("mistral", "1300", True)


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_in_a_200_answer_is_raised(stream: bool) -> None:
    data = json.dumps({"object": "error", "message": "m", "raw_status_code": 429}).encode()
    with pytest.raises(RateLimited):
        if stream:
            decode(data)
        else:
            parser().body(WireResponse(status=200, body=data))


@pytest.mark.parametrize("content", [[7], [None], [{"type": "image_url"}]])
def test_what_is_no_chunk_is_a_protocol_violation(content: Any) -> None:
    with pytest.raises(ProtocolViolation):
        whole(content)


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "thinking"}],
        [{"type": "thinking", "thinking": "plain"}],
        [{"type": "thinking", "thinking": [None, "x", {"type": "text"}], "signature": 7, "closed": "no"}],
        [{"type": "reference"}],
        [{"type": 7}],
        [{}],
        {"json": True},
    ],
)
def test_odd_chunks_are_read_all_the_same(content: Any) -> None:
    assert whole(content).finish_reason == "stop"


def test_a_long_stream_of_thinking_takes_linear_work() -> None:
    # 40,000 chunks of a text that grows: quadratic work would take minutes.
    chunks = sse(*[chunk({"content": [thinking("word ")]})] * 40_000, chunk({"content": "x"}, "stop"))
    response = fold(decode(chunks))
    assert len(response.reasoning) == 200_000


def test_events_end_with_one_finished() -> None:
    events = decode(sse(*EXAMPLE) + b'data: {"more": 1}\n\n')
    assert isinstance(events[-1], Finished)
    assert not any(isinstance(event, PartAdded) for event in events)


@pytest.mark.parametrize("call_id", [[], {}, None, 1])
def test_ids_of_tools_that_mistral_ran_may_have_any_type(call_id: object) -> None:
    ran = {"role": "tool", "tool_call_id": call_id, "content": "4"}
    said = {"role": "assistant", "content": "Four", "tool_calls": [{"id": call_id, "function": WEATHER}]}
    body = {"id": "c1", "model": "m", "choices": [{"finish_reason": "stop", "messages": [said, ran]}]}
    response = parser().body(WireResponse(status=200, body=json.dumps(body).encode()))
    assert response.text == "Four"
