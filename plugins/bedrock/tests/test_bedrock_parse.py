"""Answers of Converse and ConverseStream: the ordinary ones, the odd ones and the broken ones."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    BadRequest,
    ContextTooLong,
    Overloaded,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    ServerError,
)
from trunkline.events import Event, Finished, ResponseStarted, TextDelta
from trunkline.fold import fold
from trunkline.messages import Audio, Citation, Image, Opaque, Reasoning, Text, ToolCall
from trunkline.response import ChatResponse, FinishReason, Usage
from trunkline.settings import Settings
from trunkline_bedrock.parse import ConverseParser

Encode = Callable[..., bytes]
PARSER = ConverseParser(ServiceContext(name="s", provider="bedrock", settings=Settings()))
USAGE = {"inputTokens": 6, "outputTokens": 20, "totalTokens": 30, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 0}


def decode(data: bytes) -> list[Event]:
    decoder = StreamDecoder(*PARSER.stream())
    return [*decoder.feed(data), *decoder.finish()]


@pytest.fixture
def stream(event: Encode) -> Callable[..., bytes]:
    """The bytes of a stream of these `(name, payload)`; what begins and ends every stream is added."""

    def make(*events: tuple[str, Any], stop: str = "end_turn", usage: Any = USAGE) -> bytes:
        whole = [
            ("messageStart", {"role": "assistant"}),
            *events,
            ("messageStop", {"stopReason": stop}),
            ("metadata", {"usage": usage, "metrics": {"latencyMs": 5}}),
        ]
        return b"".join(event(name, payload) for name, payload in whole)

    return make


def delta(index: int, **inner: Any) -> tuple[str, Any]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": inner, "p": "abc"}


def start(index: int, **inner: Any) -> tuple[str, Any]:
    return "contentBlockStart", {"contentBlockIndex": index, "start": inner}


def stop(index: int) -> tuple[str, Any]:
    return "contentBlockStop", {"contentBlockIndex": index}


def body(*content: Any, **fields: Any) -> ChatResponse:
    answer = {
        "output": {"message": {"role": "assistant", "content": list(content)}},
        "stopReason": "end_turn",
        **fields,
    }
    return PARSER.body(WireResponse(status=200, headers={"x-amzn-requestid": "r"}, body=json.dumps(answer).encode()))


WEATHER = {"toolUse": {"toolUseId": "call_1", "name": "weather"}}


def test_the_usual_stream(stream: Callable[..., bytes]) -> None:
    data = stream(
        delta(0, reasoningContent={"text": "thi"}),
        delta(0, reasoningContent={"text": "nk"}),
        delta(0, reasoningContent={"signature": "opaque"}),
        stop(0),
        delta(1, text="H"),
        delta(1, text="i"),
        stop(1),
        start(2, **WEATHER),
        delta(2, toolUse={"input": '{"city":'}),
        delta(2, toolUse={"input": '"Oslo"}'}),
        stop(2),
        stop="tool_use",
    )
    response = fold(decode(data), "bedrock")
    assert response.parts == (
        Reasoning(text="think", provider="bedrock", signature="opaque"),
        Text(text="Hi"),
        ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"}),
    )
    assert response.finish_reason is FinishReason.TOOL_CALLS
    assert response.usage == Usage(
        input_tokens=10, output_tokens=20, total_tokens=30, cache_read_tokens=4, cache_write_tokens=0
    )
    assert response.provider_metadata == {"bedrock": {"metrics": {"latencyMs": 5}}}


def test_what_follows_the_end_is_passed_over(stream: Callable[..., bytes]) -> None:
    events = decode(stream(delta(0, text="Hi")) + b"garbage")
    assert [type(item) for item in events].count(Finished) == 1


def test_usage_may_come_before_the_stop_and_the_start_may_be_missing(event: Encode) -> None:
    data = (
        event("metadata", {"usage": USAGE})
        + event(*delta(0, text="Hi"))
        + event("messageStop", {"stopReason": "end_turn"})
    )
    events = decode(data)
    assert isinstance(events[0], ResponseStarted)
    assert fold(events).text == "Hi"
    assert fold(events).usage is not None


def test_an_index_that_comes_again_begins_a_block(stream: Callable[..., bytes]) -> None:
    data = stream(
        delta(0, text="a"),
        start(0, **WEATHER),
        delta(0, toolUse={"input": ""}),
        start(0, toolUse={"toolUseId": "call_2", "name": "weather"}),
        delta(0, text="b"),
        delta(0, reasoningContent={"text": "c"}),
    )
    assert fold(decode(data), "bedrock").parts == (
        Text(text="a"),
        ToolCall(id="call_1", name="weather"),
        ToolCall(id="call_2", name="weather"),
        Text(text="b"),
        Reasoning(text="c", provider="bedrock"),
    )


def test_arguments_that_are_no_object_are_kept(stream: Callable[..., bytes]) -> None:
    response = fold(decode(stream(start(0, **WEATHER), delta(0, toolUse={"input": "[1"}))))
    assert response.tool_calls[0].invalid_arguments == "[1"
    whole = body({"toolUse": {"toolUseId": "a", "name": "b", "input": [1]}})
    assert whole.tool_calls[0].invalid_arguments == "[1]"


def test_redacted_reasoning(stream: Callable[..., bytes]) -> None:
    expected = (Reasoning(provider="bedrock", encrypted="cmVkYWN0", redacted=True),)
    one = stream(delta(0, reasoningContent={"redactedContent": "cmVkYWN0"}), stop(0))
    two = stream(
        delta(0, reasoningContent={"redactedContent": "cmU="}),
        delta(0, reasoningContent={"redactedContent": "ZGFjdA=="}),
    )
    assert fold(decode(one), "bedrock").parts == expected
    assert fold(decode(two), "bedrock").parts == expected
    assert body({"reasoningContent": {"redactedContent": "cmVkYWN0"}}).parts == expected


def test_citations_follow_their_text(stream: Callable[..., bytes]) -> None:
    cited = {
        "title": "t",
        "source": "s",
        "sourceContent": [{"text": "a"}, {"text": "b"}],
        "location": {"web": {"url": "https://x.example/"}},
    }
    expected = (Text(text="so"), Citation(url="https://x.example/", title="t", cited_text="ab"))
    streamed = fold(decode(stream(delta(0, citation=cited), delta(0, text="s"), delta(0, text="o"), stop(0))))
    whole = body({"citationsContent": {"content": [{"text": "so"}], "citations": [cited]}})
    for response in (streamed, whole):
        assert response.parts == expected
        assert isinstance(response.parts[0], Text)
        assert response.parts[0].provider_metadata == {"bedrock": {"citations": [cited]}}
    assert body({"citationsContent": {"citations": [{"title": "t"}]}}).parts == (Citation(title="t"),)


def test_server_tools_are_kept_whole(stream: Callable[..., bytes]) -> None:
    call = {"toolUseId": "a", "name": "nova_grounding", "type": "server_tool_use"}
    data = stream(
        start(0, toolUse=call),
        delta(0, toolUse={"input": '{"q":'}),
        delta(0, toolUse={"input": "1}"}),
        stop(0),
        start(1, toolResult={"toolUseId": "a", "status": "success", "type": "nova_grounding_result"}),
        delta(1, toolResult=[{"text": "x"}]),
        delta(1, toolResult=[{"text": "y"}, {"json": {"z": 1}}]),
        stop(1),
    )
    result = {
        "toolUseId": "a",
        "status": "success",
        "type": "nova_grounding_result",
        "content": [{"text": "xy"}, {"json": {"z": 1}}],
    }
    streamed = fold(decode(data))
    whole = body({"toolUse": {**call, "input": {"q": 1}}}, {"toolResult": result})
    assert streamed.parts == whole.parts
    assert streamed.parts[1] == Opaque(provider="bedrock", kind="toolResult", data={"toolResult": result})
    assert streamed.finish_reason is FinishReason.STOP


def test_pictures_and_sound(stream: Callable[..., bytes]) -> None:
    data = stream(
        start(0, image={"format": "png"}),
        delta(0, image={"source": {"bytes": "YQ=="}}),
        delta(0, image={"source": {"bytes": "Yg=="}}),
        stop(0),
    )
    expected = Image(data=b"ab", media_type="image/png")
    assert fold(decode(data)).parts == (expected,)
    whole = body(
        {"image": {"format": "png", "source": {"bytes": "YWI="}}},
        {"audio": {"format": "wav", "source": {"s3Location": {"uri": "s3://b/c"}}}},
        {"image": {"format": "png", "error": {"message": "no"}}},
    )
    assert whole.parts[:2] == (expected, Audio(url="s3://b/c", media_type="audio/wav"))
    assert isinstance(whole.parts[2], Opaque)


def test_what_is_not_known_is_kept_and_not_fatal(stream: Callable[..., bytes]) -> None:
    data = stream(
        ("somethingNew", {"a": 1}),
        start(0, novelty={"b": 1}),
        delta(0, novelty={"c": 1}),
        stop(0),
        delta(1, other=[1]),
        stop(1),
        stop(7),
        stop="odd",
    )
    response = fold(decode(data))
    assert [part.kind for part in response.parts if isinstance(part, Opaque)] == ["unknown.novelty", "unknown.other"]
    assert (response.finish_reason, response.raw_finish_reason) == (FinishReason.OTHER, "odd")
    assert body({"novelty": {"b": 1}}).parts == (
        Opaque(provider="bedrock", kind="novelty", data={"novelty": {"b": 1}}),
    )


@pytest.mark.parametrize(
    ("stop_reason", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
        ("malformed_model_output", "error"),
        ("malformed_tool_use", "error"),
        ("new", "other"),
        (None, "other"),
    ],
)
def test_finish_reasons(stop_reason: str | None, reason: str) -> None:
    assert body({"text": "a"}, stopReason=stop_reason).finish_reason == reason
    calls = body({"toolUse": {"toolUseId": "a", "name": "b", "input": {}}}, stopReason=stop_reason).finish_reason
    assert calls == ("tool_calls" if reason in ("stop", "other") else reason)


def test_body_has_request_id_routed_model_and_metadata() -> None:
    trace = {"promptRouter": {"invokedModelId": "arn:m"}}
    response = body({"text": "a"}, trace=trace, serviceTier={"type": "flex"}, usage=USAGE)
    assert (response.id, response.model) == ("r", "arn:m")
    assert response.provider_metadata == {"bedrock": {"trace": trace, "serviceTier": {"type": "flex"}}}
    assert isinstance(response.raw, dict)


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        (None, None),
        ({"inputTokens": 5}, Usage(input_tokens=5)),
        ({"outputTokens": 0}, Usage(output_tokens=0)),
        ({"inputTokens": 1, "cacheReadInputTokenCount": 3}, Usage(input_tokens=4, cache_read_tokens=3)),
        ({"inputTokens": "x", "totalTokens": True}, Usage()),
    ],
)
def test_usage(raw: Any, usage: Usage | None) -> None:
    assert body({"text": "a"}, usage=raw).usage == usage


@pytest.mark.parametrize(
    "data",
    [
        b'{"output": {}}',
        b'{"output": {"message": {"content": {}}}}',
        b'{"output": {"message": {"content": [1]}}}',
        b'{"output": {"message": {"content": [{"text": 1}]}}}',
        b'{"output": {"message": {"content": [{"toolUse": {"name": "a"}}]}}}',
        b'{"output": {"message": {"content": [{"reasoningContent": 1}]}}}',
        b'{"output": {"message": {"content": [{"image": {"format": "png", "source": {"bytes": "!"}}}]}}}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_body_that_is_no_answer_is_a_violation(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        PARSER.body(WireResponse(status=200, body=data))


def test_a_body_of_200_that_is_an_error_is_one() -> None:
    with pytest.raises(RemoteError, match="busy"):
        PARSER.body(WireResponse(status=200, body=b'{"__type": "ThrottlingException", "message": "busy"}'))


@pytest.mark.parametrize(
    ("name", "payload", "kind", "status", "retryable"),
    [
        ("throttlingException", {"message": "m"}, RateLimited, 429, True),
        ("serviceUnavailableException", {"message": "m"}, Overloaded, 503, True),
        ("internalServerException", {"message": "m"}, ServerError, 500, True),
        ("validationException", {"message": "m"}, BadRequest, 400, False),
        ("validationException", {"message": "Input is too long for requested model."}, ContextTooLong, 400, False),
        ("modelStreamErrorException", {"message": "m", "originalStatusCode": 500}, RemoteError, 424, True),
        ("newException", {"message": "m"}, ServerError, None, True),
        ("throttlingException", b"\xff", RateLimited, 429, True),
    ],
)
def test_exceptions_inside_a_stream(
    event: Encode, name: str, payload: Any, kind: type[RemoteError], status: int | None, retryable: bool
) -> None:
    data = event("messageStart", {"role": "assistant"}) + event(name, payload, "exception")
    with pytest.raises(RemoteError) as caught:
        decode(data)
    error = caught.value
    assert (type(error), error.status, error.retryable) == (kind, status, retryable)
    assert error.code == name[:1].upper() + name[1:]
    assert str(error)


def test_an_error_inside_a_stream(event: Encode) -> None:
    with pytest.raises(ServerError, match="it broke") as caught:
        decode(event("InternalFailure", "it broke", "error"))
    assert caught.value.code == "InternalFailure"


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("contentBlockDelta", {"contentBlockIndex": 0}),
        ("contentBlockDelta", {"contentBlockIndex": "0", "delta": {"text": "a"}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": 1}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": "{}"}}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"citation": 1}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolResult": 1}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"image": 1}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": 1}}),
        ("contentBlockDelta", [1]),
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {}}}),
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": 1}}),
        ("messageStop", b"[" * 100_000),
    ],
)
def test_events_of_another_form_are_violations(event: Encode, name: str, payload: Any) -> None:
    with pytest.raises(ProtocolViolation):
        decode(event("messageStart", {}) + event(name, payload))


@pytest.mark.parametrize(
    ("first", "more"),
    [
        ({"toolResult": {"content": "text"}}, {"toolResult": [{"text": "a"}]}),
        ({"toolResult": {"content": None}}, {"toolResult": [{"text": "a"}]}),
        ({"new": {"deltas": 5}}, {"new": 1}),
    ],
)
def test_a_block_that_goes_on_in_another_form_is_a_protocol_violation(
    stream: Callable[..., bytes], first: Any, more: Any
) -> None:
    with pytest.raises(ProtocolViolation):
        decode(stream(start(0, **first), delta(0, **more)))


def test_events_before_a_broken_message_are_returned(stream: Callable[..., bytes]) -> None:
    data = stream(delta(0, text="Hi"))
    decoder = StreamDecoder(*PARSER.stream())
    with pytest.raises(ProtocolViolation) as raised:
        decoder.feed(data[:-1] + b"x")
    assert str(raised.value) == "bedrock: a message of the event stream is broken: its checksum differs"
    assert any(event == TextDelta(index=0, text="Hi") for event in decoder.late)
