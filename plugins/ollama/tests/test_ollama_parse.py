"""What the kit's samples do not cover: unusual answers, log probabilities, and errors classified by their text."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline import (
    BadRequest,
    ContextTooLong,
    FinishReason,
    NotFound,
    Overloaded,
    ProtocolViolation,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    ServerError,
)
from trunkline.authoring.json import dumps
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
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


@pytest.mark.parametrize("call", [7, {}, {"function": None}, {"function": {"arguments": {}}}])
def test_a_call_of_nothing_is_a_violation(call: object) -> None:
    with pytest.raises(ProtocolViolation):
        whole(done(message={"tool_calls": [call]}))


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


def test_answers_at_other_times_have_calls_with_other_ids() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    first, again, later = (
        whole(done(created_at=time, message={"tool_calls": [call, call]})).tool_calls for time in ("1", "1", "2")
    )
    assert [item.id for item in first] == [item.id for item in again]
    assert len({item.id for item in (*first, *later)}) == 4
