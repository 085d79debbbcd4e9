"""What parsers build answers and errors with."""

from __future__ import annotations

import struct
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, strategies as st
from trunkline import (
    BadRequest,
    ChatRequest,
    Citation,
    Finished,
    FinishReason,
    InvalidRequest,
    Opaque,
    Overloaded,
    ProtocolViolation,
    QuotaExhausted,
    RateLimited,
    Reasoning,
    RemoteError,
    ResponseFormat,
    ResponseStarted,
    ServerError,
    Text,
    TokenLogprob,
    ToolCall,
    Usage,
)
from trunkline.authoring.auth import CachedToken, NoAuth, Token, key_auth, token_auth
from trunkline.authoring.embeddings import decode_vectors
from trunkline.authoring.event_builder import EventBuilder
from trunkline.authoring.http_errors import error_body, status_error
from trunkline.authoring.json import decode_object, encode_request
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.fold import fold
from trunkline.secrets import Secret


def test_an_answer_keeps_the_order_and_ends_each_part() -> None:
    answer = EventBuilder("acme")
    answer.start("r1", "m")
    answer.start("r1", "m")
    answer.reasoning("hm")
    answer.reasoning("", signature="sealed")
    answer.text("a")
    answer.text("")
    answer.text("b")
    answer.add(Citation(url="https://acme.example"))
    answer.tool_call(0, call_id="c0", name="f", arguments='{"x":')
    answer.tool_call(0, arguments="1}")
    answer.text("c")
    answer.add(Opaque(provider="acme", kind="k", data={}))
    answer.usage(Usage(input_tokens=1))
    answer.usage(Usage(input_tokens=1))
    answer.usage(None)
    answer.finish(FinishReason.STOP, raw_reason="end")
    events = answer.take()
    assert [type(event) for event in events].count(ResponseStarted) == 1
    response = fold(events, "acme")
    assert response.parts == (
        Reasoning(text="hm", provider="acme", signature="sealed"),
        Text(text="ab"),
        Citation(url="https://acme.example"),
        ToolCall(id="c0", name="f", arguments={"x": 1}),
        Text(text="c"),
        Opaque(provider="acme", kind="k", data={}),
    )
    assert (response.finish_reason, response.raw_finish_reason) == ("tool_calls", "end")
    assert response.usage == Usage(input_tokens=1)
    assert answer.take() == []


def calls(*pieces: tuple[object, dict[str, str]]) -> list[tuple[str, str, object]]:
    answer = EventBuilder("acme")
    answer.start("r1")
    for key, piece in pieces:
        answer.tool_call(key, **piece)  # type: ignore[arg-type]
    answer.finish(FinishReason.STOP)
    return [(call.id, call.name, call.arguments) for call in fold(answer.take(), "acme").tool_calls]


@pytest.mark.parametrize(
    "pieces",
    [
        [(0, {"call_id": "a", "name": "f", "arguments": "{}"}), (0, {"call_id": "b", "name": "g", "arguments": "{}"})],
        [(0, {"call_id": "a", "name": "f"}), (1, {"call_id": "b", "name": "g"}), (0, {"arguments": "{}"})],
        [(0, {"call_id": "a"}), (1, {"call_id": "b", "name": "g"}), (0, {"name": "f"}), (1, {"arguments": "{}"})],
        [(0, {"call_id": "a", "name": "f"}), (0, {"call_id": "a", "name": "f"}), (1, {"call_id": "b", "name": "g"})],
    ],
    ids=["one key", "interleaved", "name late", "name repeated"],
)
def test_two_calls_are_never_fused(pieces: list[tuple[object, dict[str, str]]]) -> None:
    assert calls(*pieces) == [("a", "f", {}), ("b", "g", {})]


def test_tool_name_in_pieces_is_joined_and_a_generated_id_is_stable() -> None:
    pieces: list[tuple[object, dict[str, str]]] = [(0, {"name": "wea"}), (0, {"name": "ther", "arguments": "{}"})]
    [(made, name, _)] = calls(*pieces)
    assert name == "weather"
    assert made.startswith("call_")
    assert calls(*pieces) == calls(*pieces)


def test_call_without_a_name_is_metadata_and_the_rest_of_the_response_is_kept() -> None:
    answer = EventBuilder("acme")
    answer.start("r1")
    answer.text("Let me look.")
    answer.tool_call(0, call_id="a", arguments='{"x":')
    answer.tool_call(1, call_id="b", name="g", arguments="{}")
    answer.tool_call(0, arguments="1}")
    answer.finish(FinishReason.STOP)
    response = fold(answer.take(), "acme")
    assert response.parts == (Text(text="Let me look."), ToolCall(id="b", name="g", arguments={}))
    assert response.provider_metadata == {"acme": {"tool_calls": [{"id": "a", "arguments": '{"x":1}'}]}}
    assert [(warning.subject, warning.lossy) for warning in response.warnings] == [("tool call", False)]
    assert response.finish_reason == "tool_calls"


def test_name_may_arrive_after_the_arguments() -> None:
    pieces: list[tuple[object, dict[str, str]]] = [
        (0, {"call_id": "a", "arguments": '{"x":1}'}),
        (1, {"call_id": "b", "name": "g", "arguments": "{}"}),
        (0, {"name": "f"}),
    ]
    assert calls(*pieces) == [("b", "g", {}), ("a", "f", {"x": 1})]


PIECE = st.one_of(
    st.tuples(st.just("text"), st.text(max_size=3)),
    st.tuples(st.just("reasoning"), st.text(max_size=3)),
    st.tuples(st.just("tool_call"), st.integers(0, 3)),
)


@given(st.lists(PIECE, max_size=20))
def test_any_input_gives_events_that_fold_and_end_with_one_finished(pieces: list[tuple[str, object]]) -> None:
    answer = EventBuilder("acme")
    for kind, value in pieces:
        if kind == "tool_call":
            answer.tool_call(value, name="f", arguments="{}")  # type: ignore[arg-type]
        else:
            getattr(answer, kind)(value)
    answer.finish(FinishReason.STOP, raw_reason="stop")
    events = answer.take()
    response = fold(events, "acme")
    assert [event for event in events if isinstance(event, Finished)] == events[-1:]
    assert response.text == "".join(str(value) for kind, value in pieces if kind == "text")
    assert len(response.tool_calls) == len({value for kind, value in pieces if kind == "tool_call"})


def test_response_without_content_or_finish_reason_raises_a_retryable_error() -> None:
    answer = EventBuilder("acme")
    answer.start("r1", "m")
    answer.metadata({"tier": "fast"})
    answer.usage(Usage(input_tokens=3))
    with pytest.raises(ServerError, match="neither content nor a finish reason") as caught:
        answer.finish(FinishReason.OTHER)
    assert caught.value.retryable


def test_a_response_without_content_but_with_a_finish_reason_is_complete() -> None:
    answer = EventBuilder("acme")
    answer.finish(FinishReason.STOP, raw_reason="stop")
    assert fold(answer.take(), "acme").parts == ()


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, BadRequest, False),
        (402, QuotaExhausted, False),
        (408, RemoteError, True),
        (424, RemoteError, True),
        (429, RateLimited, True),
        (500, ServerError, True),
        (501, ServerError, False),
        (529, Overloaded, True),
        (None, ServerError, True),
    ],
)
def test_status_decides_the_error_class(status: int | None, kind: type[RemoteError], retryable: bool) -> None:
    error = status_error("no", provider="acme", status=status)
    assert (type(error), error.retryable) == (kind, retryable)


def test_retry_after_header_overrides_the_body_and_message_is_never_empty() -> None:
    error = status_error(" ", provider="acme", status=429, headers={"retry-after": "3"}, wait=9.0)
    assert (error.retry_after, error.message) == (3.0, "status 429 without a description (Too Many Requests)")
    assert status_error("", provider="acme", status=429, wait=9.0).retry_after == 9.0
    assert "999" in status_error("", provider="acme", status=999).message


@pytest.mark.parametrize(
    ("status", "should_retry", "retryable", "expected"),
    [(400, "true", None, True), (529, "false", None, False), (500, "?", None, True), (None, "", False, False)],
)
def test_provider_may_say_whether_to_retry(
    status: int | None, should_retry: str, retryable: bool | None, expected: bool
) -> None:
    headers = {"x-should-retry": should_retry}
    error = status_error("no", provider="acme", status=status, headers=headers, retryable=retryable)
    assert error.retryable is expected


@pytest.mark.parametrize(
    ("key", "headers", "sent"),
    [
        (Secret("k"), {}, {"x-key": "k"}),
        (Secret("k"), {"X-Key": "own"}, {}),
        (Secret("k"), {"Authorization": "own"}, {}),
        (None, {}, {}),
    ],
)
def test_api_key_is_sent_unless_the_headers_authenticate(
    key: Secret | None, headers: dict[str, str], sent: dict[str, str]
) -> None:
    auth = key_auth(key, "x-key", headers=headers)
    assert auth.sign(WireRequest(url="https://host"), None).headers == sent


@pytest.mark.parametrize("name", ["X-Token", "Authorization"])
def test_tokens_are_sent_unless_the_headers_authenticate(name: str) -> None:
    async def fetch() -> Token:
        raise AssertionError("not called")

    assert type(token_auth(fetch, headers={name: "own"}, header="x-token", prefix="")) is NoAuth
    auth = token_auth(fetch, headers={"x-other": "1"}, header="x-token", prefix="", secrets=["s"])
    assert isinstance(auth, CachedToken)
    assert auth.secrets == ("s",)
    assert auth.sign(WireRequest(url="https://host"), Secret("t")).headers == {"x-token": "t"}


def test_the_body_of_an_error_may_be_anything() -> None:
    assert error_body(WireResponse(status=500, body=b'{"a": 1}')) == {"a": 1}
    assert error_body(WireResponse(status=500, body=b" no \xff\n")) == "no �"
    assert error_body(WireResponse(status=500, body=b"<p>\xff</p>")) == "an HTML page"
    page = b"<html><title>502 Bad Gateway</title></html>"
    assert error_body(WireResponse(status=502, body=page)) == "an HTML page, '502 Bad Gateway'"


def test_embeddings_are_numbers_or_base64() -> None:
    packed = b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
    assert decode_vectors([[0.5, 1], packed, []], provider="acme") == ((0.5, 1.0), (0.5, -1.0), ())


def test_embeddings_are_put_in_the_order_of_their_indexes() -> None:
    def decoded(*indexes: object) -> tuple[float, ...]:
        vectors = decode_vectors([[float(at)] for at in range(len(indexes))], provider="acme", indexes=indexes)
        return tuple(number for (number,) in vectors)

    assert decoded(2, 0, 1) == (1.0, 2.0, 0.0)
    assert decoded(None, None, None) == (0.0, 1.0, 2.0)
    assert decoded(1, None, 2) == (1.0, 0.0, 2.0), "some servers leave out an index that is 0"


@pytest.mark.parametrize(
    "indexes", [(0, 0), (1, 2), (-1, 0), (0, 2), (0, None), (0, True), (0, "1"), (0, 1.0), (0, []), (0, 10**400), (0,)]
)
def test_wrong_indexes_of_embeddings_are_refused(indexes: Any) -> None:
    with pytest.raises(ProtocolViolation, match="acme: the indexes of the embeddings are not the numbers from 0 to 1"):
        decode_vectors([[0.0], [1.0]], provider="acme", indexes=indexes)


@pytest.mark.parametrize("value", [None, {}, [None], [["a"]], [[True]], [{}], ["AAA="], ["?"], ["ü"], [[10**400]]])
def test_other_values_are_not_embeddings(value: object) -> None:
    with pytest.raises(ProtocolViolation, match=r"acme: .*embedding"):
        decode_vectors(value, provider="acme")


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff", b"[" * 100_000, b"1" * 10_000])
def test_json_that_is_not_an_object_raises_protocol_violation(text: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="acme: the body is"):
        decode_object(text, "the body", provider="acme")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "the body is empty$"),
        ("\ufeff \n", "the body is empty$"),
        (b"\n<!doctype html><html><head><title> Sign in </title>", "the body is an HTML page, 'Sign in'$"),
        ("<p>" + "x" * 10_000 + "<title>late</title>", "the body is an HTML page$"),
        (b"oops <html>", "the body is not JSON: 'oops <html>'$"),
        (b'<?xml version="1.0"?>\n<Error>denied</Error>', "the body is not JSON: .*denied"),
        (b"<ErrorResponse>expired</ErrorResponse>", "the body is not JSON: .*expired"),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html>\n<HTML>', "the body is an HTML page$"),
    ],
)
def test_web_page_or_nothing_in_place_of_json_is_named(text: bytes | str, what: str) -> None:
    with pytest.raises(ProtocolViolation, match=what):
        decode_object(text, "the body", provider="acme")


def test_each_unsupported_field_gives_a_warning() -> None:
    warnings = Warnings()
    request = ChatRequest(
        messages="hi",
        model="m",
        temperature=0.0,
        seed=0,
        metadata={"a": "b"},
        response_format=ResponseFormat(type="json"),
    )
    warnings.unsupported(request, supported={"temperature"})
    assert [warning.subject for warning in warnings.all()] == ["response_format", "seed", "metadata"]


def test_logprobs_that_are_not_wanted_give_no_warning() -> None:
    warnings = Warnings()
    warnings.unsupported(ChatRequest(messages="hi", model="m", logprobs=False), supported=())
    assert warnings.all() == ()


def test_decoded_arguments_are_accepted() -> None:
    def calls(arguments: object) -> ToolCall:
        answer = EventBuilder("acme")
        answer.start()
        answer.tool_call(0, name="f", arguments=arguments)  # type: ignore[arg-type]
        answer.finish(FinishReason.STOP)
        [call] = fold(answer.take(), "acme").tool_calls
        return call

    assert calls({"city": "Grüß"}).arguments == {"city": "Grüß"}
    assert calls('{"city":"Oslo"}').arguments == {"city": "Oslo"}
    for nothing in (None, {}):
        assert (calls(nothing).arguments, calls(nothing).invalid_arguments) == ({}, None)
    # Values that JSON cannot express, or that are not objects, become `invalid_arguments`; nothing is raised.
    assert calls({"a": float("nan")}).invalid_arguments == '{"a":NaN}'
    assert calls([1]).invalid_arguments == "[1]"
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ProtocolViolation, match="nested"):
        calls(deep)


def test_ids_that_are_made_differ_between_answers_by_their_seed() -> None:
    def call_id(response_id: str | None, seed: str | None) -> str:
        answer = EventBuilder("acme")
        answer.start(response_id, seed=seed)
        answer.tool_call(0, name="f")
        answer.finish(FinishReason.STOP)
        response = fold(answer.take(), "acme")
        assert response.id == response_id
        return response.tool_calls[0].id

    assert call_id(None, "1") == call_id(None, "1") != call_id(None, "2")
    assert call_id("r1", "1") == call_id("r1", "2")


def test_logprobs_go_with_the_text() -> None:
    one, two = (TokenLogprob(token=token, logprob=-1.0) for token in "ab")
    answer = EventBuilder("acme")
    answer.start()
    answer.text("", logprobs=(one,))
    answer.text("a", logprobs=(one,))
    answer.text("", logprobs=(two,))
    answer.finish(FinishReason.STOP)
    response = fold(answer.take(), "acme")
    assert (response.text, response.logprobs) == ("a", (one, two))


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
def test_a_request_that_json_cannot_say_is_an_error_of_the_request(value: object) -> None:
    with pytest.raises(InvalidRequest, match="not valid in JSON"):
        encode_request({"options": value})
