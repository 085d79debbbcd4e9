"""Answers of Converse and ConverseStream: the ordinary ones, the odd ones and the broken ones."""

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import attrs
import botocore.session
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
    StreamInterrupted,
)
from trunkline.events import Event, Finished, ResponseStarted, TextDelta
from trunkline.fold import fold
from trunkline.messages import Audio, Citation, Image, Opaque, Reasoning, Text, ToolCall
from trunkline.response import ChatResponse, FinishReason, Usage
from trunkline.settings import Settings
from trunkline_bedrock.parse import SILENT, ConverseParser

Encode = Callable[..., bytes]
PARSER = ConverseParser(ServiceContext(name="s", provider="bedrock", settings=Settings()))
USAGE = {"inputTokens": 6, "outputTokens": 20, "totalTokens": 30, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 0}


def decode(data: bytes) -> list[Event]:
    decoder = StreamDecoder(*PARSER.stream())
    return [*decoder.feed(data), *decoder.finish()]


@pytest.fixture
def stream(event: Encode) -> Callable[..., bytes]:
    """The bytes of a stream of these `(name, payload)`; what begins and ends every stream is added."""

    def make(*events: tuple[str, Any], stop: Any = "end_turn", usage: Any = USAGE) -> bytes:
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
        ("refusal", "content_filter"),
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
        b'{"output": {"message": {"content": [{"toolUse": {"name": 1}}]}}}',
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


@pytest.mark.parametrize(
    ("name", "payload", "kind"),
    [
        ("throttlingException", {"message": "m"}, RateLimited),
        ("serviceUnavailableException", {"message": "m"}, Overloaded),
        ("ModelStreamErrorException", {"message": None, "originalMessage": "m"}, RemoteError),
        ("error", {"message": "m"}, RemoteError),
        ("error", {"__type": "ThrottlingException", "message": "m"}, RateLimited),
        ("", {"__type": "com.amazon.x#ThrottlingException", "message": "m"}, RateLimited),
        ("chunk", {"throttlingException": {"message": "m"}}, RateLimited),
    ],
)
def test_exception_that_is_sent_as_an_event_is_raised(
    event: Encode, name: str, payload: Any, kind: type[RemoteError]
) -> None:
    data = event("messageStart", {"role": "assistant"}) + event(*delta(0, text="Half")) + event(name, payload)
    with pytest.raises(kind, match="m"):
        decode(data)


@pytest.mark.parametrize(
    ("reason", "usage"),
    [(None, USAGE), ("", USAGE), ("tool_use", USAGE), ("end_turn", {"inputTokens": 3, "outputTokens": 0})],
)
def test_response_without_content_or_an_explaining_reason_raises_an_error(
    stream: Callable[..., bytes], reason: Any, usage: Any
) -> None:
    with pytest.raises(ServerError, match="empty"):
        decode(stream(stop=reason, usage=usage))
    with pytest.raises(ServerError, match="empty"):
        decode(stream(delta(0, text=""), stop(0), stop=reason, usage=usage))
    with pytest.raises(ServerError, match="empty"):
        body(stopReason=reason, usage=usage)


def test_empty_answer_after_a_tool_result_is_accepted(stream: Callable[..., bytes]) -> None:
    for response in (fold(decode(stream(usage=USAGE))), body(usage=USAGE)):
        assert (response.parts, response.finish_reason) == ((), FinishReason.STOP)


def test_stream_without_metadata_is_interrupted(event: Encode) -> None:
    start_of_stream = event("messageStart", {"role": "assistant"}) + event(*delta(0, text="Sorry"))
    for reason in ("end_turn", "max_tokens", "guardrail_intervened"):
        with pytest.raises(StreamInterrupted, match="before metadata") as raised:
            decode(start_of_stream + event("messageStop", {"stopReason": reason}))
        assert (raised.value.retryable, raised.value.raw_finish_reason) == (False, reason)


def test_second_metadata_event_does_not_lower_the_counts(event: Encode) -> None:
    data = (
        event("messageStart", {"role": "assistant"})
        + event(*delta(0, text="a"))
        + event("metadata", {"usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}})
        + event("metadata", {"usage": {"inputTokens": 5, "outputTokens": 0, "totalTokens": 5}, "trace": {"a": 1}})
        + event("messageStop", {"stopReason": "end_turn"})
    )
    response = fold(decode(data), "bedrock")
    assert response.usage == Usage(input_tokens=5, output_tokens=7, total_tokens=12)
    assert response.provider_metadata == {"bedrock": {"trace": {"a": 1}}}


def test_call_without_an_id_gets_an_id_and_the_name_may_arrive_late(stream: Callable[..., bytes]) -> None:
    data = stream(
        start(0, toolUse={"toolUseId": None}),
        delta(0, toolUse={"input": '{"a":'}),
        delta(0, toolUse={"name": "late", "input": "1}"}),
        stop(0),
        delta(1, toolUse={"name": "unannounced", "toolUseId": "u", "input": {"b": 2}}),
        stop(1),
        stop="tool_use",
    )
    assert fold(decode(data)).tool_calls == (
        ToolCall(id="call_0", name="late", arguments={"a": 1}),
        ToolCall(id="u", name="unannounced", arguments={"b": 2}),
    )
    assert body({"toolUse": {"name": "a", "input": '{"x": 1}'}}, {"toolUse": {"name": "b", "input": None}}).parts == (
        ToolCall(id="call_0", name="a", arguments={"x": 1}),
        ToolCall(id="call_1", name="b"),
    )


def test_call_without_a_name_is_kept_with_a_warning(stream: Callable[..., bytes]) -> None:
    call = {"toolUseId": "x", "name": None}
    streamed = fold(
        decode(
            stream(
                delta(0, text="Hi"), stop(0), start(1, toolUse=call), delta(1, toolUse={"input": '{"a": 1}'}), stop(1)
            )
        ),
        "bedrock",
    )
    whole = body({"text": "Hi"}, {"toolUse": {**call, "input": {"a": 1}}})
    for response in (streamed, whole):
        assert response.parts == (Text(text="Hi"),)
        [kept] = response.provider_metadata["bedrock"]["tool_calls"]  # type: ignore[misc]
        assert json.loads(kept.pop("arguments")) == {"a": 1}
        assert kept == {"id": "x"}
        assert [warning.subject for warning in response.warnings] == ["tool call"]


def test_null_values_are_ignored_in_any_field(stream: Callable[..., bytes]) -> None:
    data = stream(
        ("contentBlockStart", {"contentBlockIndex": 0}),
        delta(0, text=None),
        delta(0, text="Hi"),
        stop(0),
        ("contentBlockStart", {"contentBlockIndex": 1, "start": None}),
        delta(1, reasoningContent={"text": None, "signature": "s"}),
        stop(1),
        ("contentBlockStart", {"contentBlockIndex": 2, "start": {}}),
        stop(2),
    )
    expected = (Text(text="Hi"), Reasoning(provider="bedrock", signature="s"))
    assert fold(decode(data), "bedrock").parts == expected
    whole = body(
        {"text": None}, {"text": "Hi"}, {"reasoningContent": {"reasoningText": {"text": None, "signature": "s"}}}
    )
    assert whole.parts == expected
    answer = {"output": {"message": {"role": "assistant", "content": None}}, "stopReason": "max_tokens"}
    assert PARSER.body(WireResponse(status=200, body=json.dumps(answer).encode())).finish_reason == "length"


def metadata_of(part: Any) -> Any:
    return part.provider_metadata.get("bedrock")


def test_unknown_fields_are_kept_in_streams_and_in_bodies(stream: Callable[..., bytes], event: Encode) -> None:
    data = b"".join(
        event(name, payload)
        for name, payload in [
            ("messageStart", {"role": "assistant", "new1": 1, "p": "x"}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}, "new2": 2}),
            stop(0),
            (
                "contentBlockStart",
                {
                    "contentBlockIndex": 1,
                    "start": {"toolUse": {**WEATHER["toolUse"], "type": "odd", "new3": 3}},
                    "new4": 4,
                },
            ),
            stop(1),
            delta(2, reasoningContent={"text": "t", "new5": 5}, new6=6),
            delta(2, reasoningContent={"signature": "s"}),
            ("contentBlockStop", {"contentBlockIndex": 2, "new7": 7}),
            start(3, image={"format": "png", "new8": 8}),
            delta(3, image={"source": {"bytes": "YQ=="}, "error": {"message": "partial"}}),
            stop(3),
            ("messageStop", {"stopReason": "end_turn", "additionalModelResponseFields": {"a": 1}, "new9": 9}),
            ("novelty", {"b": 1}),
            ("metadata", {"usage": USAGE, "performanceConfig": {"latency": "optimized"}, "new10": 10}),
        ]
    )
    streamed = fold(decode(data), "bedrock")
    whole = PARSER.body(
        WireResponse(
            status=200,
            body=json.dumps(
                {
                    "output": {
                        "message": {
                            "role": "assistant",
                            "new1": 1,
                            "content": [
                                {"text": "Hi", "new2": 2},
                                {
                                    "toolUse": {**WEATHER["toolUse"], "input": {}, "type": "odd", "new3": 3},
                                    "new4": 4,
                                },
                                {
                                    "reasoningContent": {"reasoningText": {"text": "t", "signature": "s", "new5": 5}},
                                    "new6": 6,
                                    "new7": 7,
                                },
                                {
                                    "image": {
                                        "format": "png",
                                        "source": {"bytes": "YQ=="},
                                        "error": {"message": "partial"},
                                        "new8": 8,
                                    }
                                },
                            ],
                        }
                    },
                    "novelty": {"b": 1},
                    "stopReason": "end_turn",
                    "additionalModelResponseFields": {"a": 1},
                    "new9": 9,
                    "usage": USAGE,
                    "performanceConfig": {"latency": "optimized"},
                    "new10": 10,
                }
            ).encode(),
        )
    )
    for response in (streamed, whole):
        assert [metadata_of(part) for part in response.parts] == [
            {"block": {"new2": 2}},
            {"type": "odd", "new3": 3, "block": {"new4": 4}},
            {"new5": 5, "block": {"new6": 6, "new7": 7}},
            {"error": {"message": "partial"}, "new8": 8},
        ]
        assert response.provider_metadata == {
            "bedrock": {
                "message": {"new1": 1},
                "novelty": {"b": 1},
                "additionalModelResponseFields": {"a": 1},
                "new9": 9,
                "performanceConfig": {"latency": "optimized"},
                "new10": 10,
            }
        }


def test_unknown_fields_of_blocks_without_content_are_metadata_of_the_response(stream: Callable[..., bytes]) -> None:
    streamed = fold(decode(stream(delta(0, text="", odd=1), stop(0), delta(1, text="a"))), "bedrock")
    assert streamed.provider_metadata["bedrock"]["blocks"] == {"text": {"block": {"odd": 1}}}


def test_no_member_of_a_response_in_botocores_model_is_lost(event: Encode) -> None:
    """Make a response with every member of botocore's service model, and look for each value in the parsed response."""
    service = botocore.session.Session().get_service_model("bedrock-runtime")
    for operation in ("Converse", "ConverseStream"):
        output = service.operation_model(operation).output_shape
        if operation == "Converse":
            made = [Sampled().of(output, choice) for choice in range(20)]
            found = [PARSER.body(WireResponse(status=200, body=json.dumps(item).encode())) for item in made]
        else:
            events = output.members["stream"].members
            made = []
            found = []
            for choice in range(20):
                sampled = Sampled()
                items = {
                    name: sampled.of(shape, choice) for name, shape in events.items() if not name.endswith("Exception")
                }
                made.append(items)
                data = b"".join(event(name, item) for name, item in items.items())
                found.append(fold(decode(data), "bedrock"))
        for item, response in zip(made, found, strict=True):
            kept = json.dumps(kept_of(response))
            missing = [leaf for leaf in leaves(item) if leaf not in kept]
            assert missing == []


class Sampled:
    """Return a value of a shape with a unique text or number in each field. `choice` selects union members."""

    def __init__(self) -> None:
        self._count = 1000

    def of(self, shape: Any, choice: int, depth: int = 0) -> Any:
        kind = shape.type_name
        self._count += 1
        if kind == "structure" and shape.is_document_type:
            return {"document": f"value{self._count}"}
        if kind == "structure":
            members = dict(shape.members)
            if shape.is_tagged_union and members:
                name = list(members)[choice % len(members)]
                members = {name: members[name]}
            if depth > 12:
                return {}
            return {name: self.of(inner, choice, depth + 1) for name, inner in members.items()}
        if kind == "list":
            return [self.of(shape.member, choice, depth + 1)]
        if kind == "map":
            return {f"key{self._count}": self.of(shape.value, choice, depth + 1)}
        if kind == "blob":
            return b64encode(f"value{self._count}".encode()).decode()
        if kind == "boolean":
            return True
        if kind in ("integer", "long", "float", "double"):
            return self._count
        return f"value{self._count}"


def kept_of(response: ChatResponse) -> Any:
    parts = []
    for part in response.parts:
        values = attrs.asdict(part)
        if isinstance(values.get("data"), bytes):
            values["data"] = b64encode(values["data"]).decode()
        parts.append(values)
    return [parts, response.provider_metadata, response.raw_finish_reason, response.usage and response.usage.raw]


def leaves(item: Any, name: str = "") -> list[str]:
    if name in SILENT:
        return []
    if isinstance(item, dict):
        return [leaf for key, value in item.items() for leaf in leaves(value, key)]
    if isinstance(item, list):
        return [leaf for value in item for leaf in leaves(value)]
    return [str(item)] if item is not True else []


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
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": 1}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"citation": 1}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolResult": 1}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"image": 1}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": 1}}),
        ("contentBlockDelta", [1]),
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": 1}}}),
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
