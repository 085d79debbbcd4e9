"""What the kit's samples do not cover: unusual answers, log probabilities, and errors classified by their text."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline import (
    AuthenticationError,
    BadRequest,
    ContextTooLong,
    FinishReason,
    Image,
    NotFound,
    Overloaded,
    PermissionDenied,
    ProtocolViolation,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    ServerError,
    Usage,
)
from trunkline.authoring.json import dumps
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.events import TextDelta
from trunkline.fold import fold
from trunkline_ollama import OllamaSettings
from trunkline_ollama.parse import OllamaParser

PARSER = OllamaParser(ServiceContext(name="o", provider="ollama", settings=OllamaSettings()))


def whole(body: bytes | dict[str, Any]) -> Any:
    return PARSER.body(WireResponse(status=200, body=body if isinstance(body, bytes) else dumps(body)))


def done(**fields: object) -> dict[str, Any]:
    return {"model": "m", "created_at": "t", "message": {"content": "a"}, "done": True, "done_reason": "stop", **fields}


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "the input length exceeds the context length", ContextTooLong),
        (400, "input length exceeds maximum context length", ContextTooLong),
        (400, "prompt too long; exceeded max context length by 11 tokens (ref: x)", ContextTooLong),
        (400, '"llama3" does not support thinking', BadRequest),
        (404, "model 'x' not found", NotFound),
        (429, "you (name) have reached your weekly usage limit, upgrade for higher limits", QuotaExhausted),
        (429, "too many requests", RateLimited),
        (500, "llama runner process has terminated", ServerError),
        (503, "server busy, please try again. maximum pending requests exceeded", Overloaded),
    ],
)
def test_the_class_of_an_error(status: int, message: str, kind: type[RemoteError]) -> None:
    error = PARSER.error(WireResponse(status=status, body=dumps({"error": message})))
    assert type(error) is kind
    assert (error.status, error.message) == (status, message)  # type: ignore[attr-defined]


def test_the_reason_of_an_answer_whose_runner_was_lost_is_an_error() -> None:
    response = whole({name: value for name, value in done().items() if name != "done_reason"})
    assert (response.finish_reason, response.raw_finish_reason) == (FinishReason.ERROR, None)
    assert whole(done(done_reason="load")).finish_reason is FinishReason.OTHER


@pytest.mark.parametrize("change", [{"done": False}, {"done": None}, {"done": 1}])
def test_a_body_that_is_not_done_is_no_answer(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation, match="done"):
        whole(done(**change))


@pytest.mark.parametrize(
    ("arguments", "invalid"), [('{"a":1}', None), ("[1]", "[1]"), ('{"a":NaN}', '{"a":NaN}'), ('"{}"', None)]
)
def test_arguments_of_other_forms(arguments: str, invalid: str | None) -> None:
    call = b'{"function":{"name":"f","arguments":' + arguments.encode() + b"}}"
    response = whole(b'{"message":{"tool_calls":[' + call + b']},"done":true,"done_reason":"stop"}')
    [found] = response.tool_calls
    assert found.invalid_arguments == invalid


def test_call_that_is_not_an_object_raises_a_protocol_violation() -> None:
    with pytest.raises(ProtocolViolation):
        whole(done(message={"tool_calls": [7]}))


def test_null_arguments_become_an_empty_object() -> None:
    for arguments in (None, "null", "", {}):
        response = whole(done(message={"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}))
        assert (response.tool_calls[0].arguments, response.warnings) == ({}, ())


def streamed(*frames: dict[str, Any]) -> Any:
    _, stream = PARSER.stream()
    return fold([event for frame in frames for event in stream.feed(dumps(frame))], "ollama")


def test_unknown_fields_are_metadata_in_streams_and_in_bodies() -> None:
    call = {"type": "function", "confidence": 0.5, "function": {"name": "f", "arguments": {}, "strict": False}}
    message = {"role": "assistant", "content": "a", "tool_calls": [call], "annotations": [1], "empty": []}
    top = {"remote_model": "gpt-oss:120b", "remote_host": "https://ollama.com", "nothing": None}
    first = {"message": {"role": "assistant", "content": "a"}, "done": False, **top}
    second = {"message": {**message, "content": ""}, "done": False, **top}
    for response in (whole(done(message=message, **top)), streamed(first, second, done(message={}, **top))):
        assert response.provider_metadata == {
            "ollama": {"remote_model": "gpt-oss:120b", "remote_host": "https://ollama.com", "annotations": [1]}
        }
        assert response.tool_calls[0].provider_metadata == {"ollama": {"confidence": 0.5, "strict": False}}


def test_image_in_a_message_becomes_a_part() -> None:
    response = whole(done(message={"content": "", "images": ["iVBORw0KGgo="]}))
    assert response.parts == (Image(data=b"\x89PNG\r\n\x1a\n"),)
    with pytest.raises(ProtocolViolation, match="not base64"):
        whole(done(message={"content": "", "images": ["?"]}))


def test_cache_counts_and_durations_are_in_the_usage() -> None:
    usage = whole(done(prompt_eval_count=9, eval_count=5, prompt_eval_cached_count=4, load_duration=7)).usage
    assert usage == Usage(input_tokens=9, output_tokens=5, total_tokens=14, cache_read_tokens=4)
    assert usage.raw["load_duration"] == 7
    assert whole(done(total_duration=7)).usage.raw == {"total_duration": 7}
    assert whole(done()).usage is None


def test_response_without_content_or_reason_raises_an_error() -> None:
    for message in ({"content": ""}, {}, None):
        with pytest.raises(ServerError, match="without content"):
            whole({"model": "m", "message": message, "done": True})
    assert whole(done(message={"content": ""})).text == ""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"error": "error parsing tool call: raw='{', err=unexpected end of JSON input"}, ServerError),
        ({"error": "model 'x' not found"}, NotFound),
        ({"error": '"m" does not support tools'}, BadRequest),
        ({"error": "server busy, please try again"}, Overloaded),
        ({"error": "you have reached your weekly usage limit"}, QuotaExhausted),
        ({"error": "unauthorized"}, AuthenticationError),
        ({"error": "prompt too long"}, ContextTooLong),
        ({"error": {"message": "slow down", "code": 429}}, RateLimited),
        ({"error": "upstream", "StatusCode": 503}, Overloaded),
        ({"detail": "Not authenticated", "status": 401}, AuthenticationError),
        ({"message": "forbidden", "status_code": 403}, PermissionDenied),
        ({"error": ""}, ServerError),
    ],
)
def test_error_in_a_stream_is_raised_as_the_matching_class(error: dict[str, Any], kind: type[RemoteError]) -> None:
    with pytest.raises(kind) as caught:
        streamed({"message": {"content": "Half"}, "done": False}, error)
    assert type(caught.value) is kind


def test_null_error_is_ignored() -> None:
    assert streamed({"message": {"content": "a"}, "error": None, "done": False}, done(error=None)).text == "aa"


def test_logprobs_of_the_text() -> None:
    def entry(token: str, **more: object) -> dict[str, Any]:
        return {"token": token, "logprob": -0.5, "bytes": [1], **more}

    frames = [
        {"message": {"thinking": "hm"}, "logprobs": [entry("hm")]},
        {"message": {"content": "a"}, "logprobs": [entry("a", top_logprobs=[entry("b")])]},
        {"message": {"content": ""}, "logprobs": [entry("c"), {"token": 1}]},
        done(message={"content": ""}),
    ]
    _, stream = PARSER.stream()
    response = fold([event for frame in frames for event in stream.feed(dumps(frame))], "ollama")
    assert [(item.token, [top.token for top in item.top]) for item in response.logprobs] == [("a", ["b"]), ("c", [])]
    # Log probabilities of thinking are metadata.
    tokens = [item["token"] for item in response.provider_metadata["ollama"]["logprobs"]]
    assert tokens == ["hm", "a", "c", 1]


def test_answers_at_other_times_have_calls_with_other_ids() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    first, again, later = (
        whole(done(created_at=time, message={"tool_calls": [call, call]})).tool_calls for time in ("1", "1", "2")
    )
    assert [item.id for item in first] == [item.id for item in again]
    assert len({item.id for item in (*first, *later)}) == 4


def test_log_probability_that_no_float_can_hold_is_left_out() -> None:
    stream = PARSER.stream()[1]
    events = stream.read(done(logprobs=[{"token": "a", "logprob": 10**400}, {"token": "b", "logprob": -1}]))
    deltas = [event for event in events if isinstance(event, TextDelta)]
    assert [(token.token, token.logprob) for delta in deltas for token in delta.logprobs] == [("b", -1.0)]
