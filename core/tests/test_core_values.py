"""Messages, requests, events, limits, retries and errors: the values of the core."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest
import trunkline
from hypothesis import given, strategies as st
from trunkline import (
    Audio,
    ChatRequest,
    ChatResponse,
    Citation,
    Document,
    Event,
    Finished,
    FinishReason,
    Image,
    InvalidRequest,
    Message,
    Opaque,
    PartAdded,
    ProtocolViolation,
    RateLimited,
    Reasoning,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    RemoteError,
    ResponseFormat,
    ResponseStarted,
    Secret,
    ServerError,
    StreamInterrupted,
    Text,
    TextDelta,
    TextEnd,
    TextStart,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    ToolChoice,
    Usage,
    UsageReported,
    assistant,
    tool_result,
    user,
)
from trunkline._calls.retry import RetryPolicy
from trunkline.authoring.http_errors import LONGEST_WAIT, parse_wait, retry_after, server_time
from trunkline.authoring.urls import redact_url
from trunkline.authoring.wire import WireRequest
from trunkline.fold import Fold, decode_arguments, fold, unfold
from trunkline.response import sum_usage
from trunkline.secrets import scrub

PNG = b"\x89PNG\r\n\x1a\n0000"


def test_every_public_name_is_there() -> None:
    for name in trunkline.__all__:
        assert getattr(trunkline, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = trunkline.nothing  # type: ignore[attr-defined]


# Messages


def test_message_accepts_strings_and_parts() -> None:
    assert user("Look:", Image(data=PNG)).parts == (Text(text="Look:"), Image(data=PNG, media_type="image/png"))
    assert Message(role="user", parts="hi") == user("hi")
    assert Message(role="user", parts=Text(text="hi")) == user("hi")  # type: ignore[arg-type]


def test_a_media_type_is_found_out_and_a_data_url_taken_apart() -> None:
    assert Image(url="data:image/gif;base64,R0lGODlh") == Image(data=b"GIF89a", media_type="image/gif")
    assert Document(url="data:,a%20b").data == b"a b"
    assert Document(data=b"%PDF-1.7").media_type == "application/pdf"
    assert Audio(data=b"RIFF0000WAVEfmt ").media_type == "audio/wav"
    assert Image(data=b"?").media_type is None


@pytest.mark.parametrize(
    "fields",
    [{}, {"data": PNG, "url": "https://x.example/a.png"}, {"url": "data:image/png;base64,*"}, {"url": "data:nothing"}],
)
def test_a_picture_has_exactly_one_source(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        Image(**fields)


def test_bytes_and_opaque_state_stay_out_of_reprs() -> None:
    shown = repr((Image(data=b"SECRET"), Reasoning(signature="SECRET", encrypted="SECRET"), Image(url="SECRET")))
    assert "SECRET" not in shown


CALL = ToolCall(id="c1", name="weather", arguments={"city": "Oslo"})


@pytest.mark.parametrize(
    ("result", "parts"),
    [
        ("rain", (Text(text="rain"),)),
        ({"rain": 1}, (Text(text='{"rain":1}'),)),
        ([1, 2], (Text(text="[1,2]"),)),
        (None, (Text(text="null"),)),
        (Text(text="a"), (Text(text="a"),)),
        ([Text(text="a"), Image(data=PNG)], (Text(text="a"), Image(data=PNG))),
        ([], (Text(text="[]"),)),
    ],
)
def test_tool_result_accepts_text_parts_or_json(result: Any, parts: tuple[Any, ...]) -> None:
    [answer] = tool_result(CALL, result, is_error=True).parts
    assert answer == trunkline.ToolResult(tool_call_id="c1", name="weather", parts=parts, is_error=True)


def test_a_tool_result_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="object"):
        tool_result("c1", object())  # type: ignore[arg-type]


# Requests


def test_a_string_is_one_user_message() -> None:
    assert ChatRequest(messages="hi").messages == (user("hi"),)
    assert ChatRequest(messages="hi").with_messages(assistant("yes")).messages == (user("hi"), assistant("yes"))


def test_a_tool_choice_is_a_word_or_a_tool_s_name() -> None:
    tools = [Tool(name="weather")]
    assert ChatRequest(messages="hi", tools=tools, tool_choice="required").tool_choice == ToolChoice(mode="required")
    assert ChatRequest(messages="hi", tools=tools, tool_choice="weather").tool_choice == ToolChoice.tool("weather")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "at least one message"),
        ({"tool_choice": "wether", "tools": [Tool(name="weather")]}, "'wether'.*weather"),
        ({"tool_choice": "required"}, "no tools"),
        ({"tools": [Tool(name="a"), Tool(name="a")]}, "same name"),
    ],
)
def test_contradictory_request_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        ChatRequest(**{"messages": "hi", **fields})


@pytest.mark.parametrize(
    "make",
    [
        lambda: ToolChoice(mode="tool"),
        lambda: ToolChoice(mode="sometimes"),  # type: ignore[arg-type]
        lambda: ResponseFormat(),
        lambda: ResponseFormat(type="json", schema={}),
        lambda: ResponseFormat(type="xml"),  # type: ignore[arg-type]
        lambda: Message(role="king", parts="hi"),  # type: ignore[arg-type]
        lambda: trunkline.EmbedRequest(inputs=[]),
    ],
)
def test_a_value_that_contradicts_itself_is_refused(make: Any) -> None:
    with pytest.raises(InvalidRequest):
        make()


# Events


EVENTS: list[Event] = [
    ResponseStarted(id="r1", model="m"),
    ReasoningStart(index=0),
    ReasoningDelta(index=0, text="hm"),
    TextStart(index=1),
    ToolCallStart(index=2, id="c1", name="weather"),
    ToolCallDelta(index=2, arguments='{"city":'),
    TextDelta(index=1, text="He"),
    ReasoningEnd(index=0, provider="toy", signature="s"),
    ToolCallDelta(index=2, arguments='"Oslo"}'),
    TextDelta(index=1, text="llo"),
    TextEnd(index=1),
    Citation(url="https://x.example"),
    ToolCallEnd(index=2),
    PartAdded(part=Opaque(provider="toy", kind="search", data={})),
    UsageReported(usage=Usage(output_tokens=1)),
    Finished(reason=FinishReason.TOOL_CALLS, raw_reason="calls", usage=Usage(output_tokens=2)),
]


def test_fold_separates_interleaved_parts_in_order_of_their_start() -> None:
    response = fold(EVENTS, "toy")
    assert response.parts == (
        Reasoning(text="hm", provider="toy", signature="s"),
        Text(text="Hello"),
        CALL,
        Citation(url="https://x.example"),
        Opaque(provider="toy", kind="search", data={}),
    )
    assert (response.text, response.reasoning, response.tool_calls) == ("Hello", "hm", (CALL,))
    assert (response.id, response.model, response.provider) == ("r1", "m", "toy")
    assert response.usage == Usage(output_tokens=2)
    assert response.message.role == "assistant"


def test_long_response_in_small_pieces_needs_little_more_memory_than_its_text() -> None:
    pieces = 20_000
    folded = Fold()
    folded.add(TextStart(index=0))
    tracemalloc.start()
    try:
        for number in range(pieces):
            folded.add(TextDelta(index=0, text=f"{number:04}"[:4]))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 5 * 4 * pieces
    assert folded.response().text == "".join(f"{number:04}"[:4] for number in range(pieces))
    folded.add(TextDelta(index=0, text="!"))
    assert folded.response().text.endswith("1999!")


def test_unfold_and_fold_are_inverse() -> None:
    response = fold(EVENTS, "toy")
    assert fold(unfold(response), "toy") == response


@pytest.mark.parametrize(
    ("text", "arguments", "invalid"),
    [
        ("", {}, None),
        (" ", {}, None),
        ("{}", {}, None),
        ("[1]", {}, "[1]"),
        ('{"a"', {}, '{"a"'),
        ("[" * 100_000, {}, "[" * 100_000),
    ],
)
def test_arguments_that_are_not_an_object_are_kept_with_a_warning(
    text: str, arguments: Any, invalid: str | None
) -> None:
    response = fold(
        [
            ToolCallStart(index=0, id="c", name="t"),
            ToolCallDelta(index=0, arguments=text),
            ToolCallEnd(index=0),
            Finished(reason=FinishReason.TOOL_CALLS),
        ]
    )
    [call] = response.tool_calls
    assert (call.arguments, call.invalid_arguments) == (arguments, invalid)
    assert [warning.kind for warning in response.warnings] == (["invalid_arguments"] if invalid else [])
    assert call.arguments_json == (invalid or "{}")


@pytest.mark.parametrize(
    "events",
    [
        [],
        [TextStart(index=0)],
        [TextDelta(index=0, text="a")],
        [TextStart(index=0), TextStart(index=0)],
        [Finished(reason=FinishReason.STOP), Finished(reason=FinishReason.STOP)],
    ],
)
def test_events_out_of_order_are_a_protocol_violation(events: list[Event]) -> None:
    with pytest.raises(ProtocolViolation):
        fold(events)


def test_a_finish_reason_equals_its_word() -> None:
    assert ChatResponse(parts=(), finish_reason=FinishReason.STOP).finish_reason == "stop"


# Retries

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "1m2.5s"}, 62.5),
        ({"retry-after": "250ms"}, 0.25),
        ({"retry-after": "1m 30s"}, 90),
        ({"retry-after": "5, 5"}, 5),
        ({"retry-after": "30, 60, soon"}, 60),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT, 60"}, 60),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT, Tue, 14 Nov 2023 22:13:40 GMT"}, 20),
        ({"retry-after-ms": "1500, 2500"}, 2.5),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:00 GMT"}, None),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:30"}, 10),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1_000"}, None),
        ({"retry-after": "1e3"}, 1000.0),
        ({"retry-after": "1e300"}, LONGEST_WAIT),
        ({"retry-after": "1e999"}, LONGEST_WAIT),
        ({"retry-after": "9" * 250}, LONGEST_WAIT),
        ({"retry-after": "9" * 250 + "h"}, LONGEST_WAIT),
        ({"retry-after": "9" * 300}, None),
        ({"retry-after-ms": "1e300"}, LONGEST_WAIT),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, LONGEST_WAIT),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 -2359"}, LONGEST_WAIT),
        ({"retry-after": "Fri, 31 Dec 99999 23:59:59 GMT"}, None),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}, None),
        ({"retry-after": "\N{ARABIC-INDIC DIGIT THREE}"}, None),
        ({"retry-after": "1m 30"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Tue, 99 Nov 2023 22:13:30 GMT"}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=lambda: NOW) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("wrong_by", [-3600.0, 0.0, 3600.0])
def test_date_of_a_retry_after_is_compared_with_the_date_of_the_response(wrong_by: float) -> None:
    """Fault class 81."""
    headers = {"date": "Thu, 01 Jan 2026 00:00:00 GMT", "retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}
    here = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + wrong_by
    assert retry_after(headers, now=lambda: here) == 30.0
    without = {"date": "yesterday", "retry-after": headers["retry-after"]}
    assert retry_after(without, now=lambda: here) == (None if wrong_by > 0 else 30.0 - wrong_by)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (2, 2.0),
        ("2", 2.0),
        ("1m 2.5s", 62.5),
        (" 17s ", 17.0),
        (10**400, LONGEST_WAIT),
        (math.inf, LONGEST_WAIT),
        ("9" * 250 + "s", LONGEST_WAIT),
        ("9" * 400 + "s", None),
        ("inf", None),
        ("1_0s", None),
        (-math.inf, None),
        (-1, None),
        (math.nan, None),
        (True, None),
        (b"2", None),
        ({"seconds": 2}, None),
        (None, None),
    ],
)
def test_wait_is_between_zero_and_the_longest_one(value: object, seconds: float | None) -> None:
    assert parse_wait(value) == seconds


@given(st.text() | st.dates().map(str) | st.datetimes().map(format_datetime))
def test_no_date_of_a_response_raises(text: str) -> None:
    assert isinstance(server_time({"date": text}), float)
    wait = retry_after({"date": text, "retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"})
    assert wait is None or 0 <= wait <= LONGEST_WAIT


@given(st.text())
def test_no_retry_after_header_raises(text: str) -> None:
    wait = retry_after({"retry-after": text, "retry-after-ms": text})
    assert wait is None or wait >= 0


def test_wait_is_the_requested_one_or_grows_with_jitter() -> None:
    policy = RetryPolicy(max_retries=9)
    longest, shortest = (lambda low, high: high), (lambda low, high: low)
    assert [policy.delay(n, ServerError("x"), uniform=longest) for n in (1, 2, 3, 6)] == [0.5, 1.0, 2.0, 8.0]
    assert policy.delay(1, ServerError("x"), uniform=shortest) == pytest.approx(0.375)
    assert policy.delay(1, RateLimited("x", retry_after=5), uniform=shortest) == 5
    assert policy.delay(1, RateLimited("x", retry_after=5), uniform=longest) == pytest.approx(5.6)


def test_other_errors_are_not_retried() -> None:
    policy = RetryPolicy(max_retries=2)
    assert policy.delay(3, ServerError("x")) is None
    assert policy.delay(1, RemoteError("x")) is None
    assert policy.delay(1, ServerError("x", retryable=False)) is None
    assert policy.delay(1, RateLimited("x", retry_after=61)) is None
    assert RetryPolicy(retry_after_limit=120).delay(1, RateLimited("x", retry_after=61)) is not None
    assert RetryPolicy(retry_after_limit=None).delay(1, RateLimited("x", retry_after=1e7)) is not None
    assert RetryPolicy(retry_after_limit=None).delay(1, RateLimited("x", retry_after=LONGEST_WAIT)) is None
    assert policy.delay(1, ValueError("x")) is None


# Errors and secrets


def test_an_error_says_what_happened_where() -> None:
    error = RateLimited("slow down", provider="toy", status=429, code="rpm", request_id="req-1", retry_after=2)
    assert str(error) == "toy: slow down (status 429, code rpm, request id req-1)"
    assert error.retryable


def test_errors_keep_their_attributes_when_pickled() -> None:
    error = StreamInterrupted("cut", provider="toy", request_id="r", partial=fold(EVENTS))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.partial, again.request_id) == (str(error), error.partial, "r")


def test_a_secret_never_shows_itself() -> None:
    secret = Secret("canary")
    assert secret.reveal() == "canary"
    assert "canary" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("canary")
    assert hash(secret) == hash(Secret("canary"))
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(secret)


def test_wire_requests_show_no_headers_no_body_and_no_query() -> None:
    request = WireRequest(
        url="https://u:canary@x.example/v1?key=canary#canary", headers={"A": "canary"}, body=b"canary"
    )
    assert "canary" not in repr(request)
    assert redact_url("https://u:canary@x.example/v1?key=canary") == "https://x.example/v1"
    assert redact_url("x.example") == "x.example"
    for pasted in (
        "'https://u:canary@x.example/v1'",
        ' "https://u:canary@x.example/v1"',
        "<https://u:canary@x.example>",
    ):
        assert "canary" not in redact_url(pasted)


def test_scrubbing_leaves_short_secrets_alone() -> None:
    assert scrub("key canary-1 and ab", ("canary-1", "ab")) == "key *** and ab"


@pytest.mark.parametrize("text", ["", " ", "null", " null\n"])
def test_empty_and_null_arguments_are_an_empty_object(text: str) -> None:
    assert decode_arguments(text) == ({}, None)


def test_object_after_an_empty_object_is_the_arguments() -> None:
    assert decode_arguments('{}{"city":"Oslo"}') == ({"city": "Oslo"}, None)
    for text in ('{}{"city', "{}{}{}", "{}[1]", '{"a":1}{"b":2}', "{}{" * 10_000):
        assert decode_arguments(text) == ({}, text)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400", "-1e400"])
def test_arguments_with_a_number_that_json_cannot_hold_are_kept_as_text(number: str) -> None:
    text = '{"x":' + number + "}"
    assert decode_arguments(text) == ({}, text)


@pytest.mark.parametrize("levels", [129, 900, 100_000])
def test_arguments_that_are_nested_too_deeply_are_kept_as_text(levels: int) -> None:
    text = '{"x":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"
    assert decode_arguments(text) == ({}, text)
    shallow = '{"[[[[": "' + "{[" * 200 + '", "x": [' + "[], " * 200 + "1]}"
    assert decode_arguments(shallow)[1] is None


@pytest.mark.parametrize("event", ["x", None, Usage(), TextDelta, {"type": "text_delta"}])
def test_folding_other_values_than_events_is_an_invalid_request(event: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"events\[1\] must be an event, not"):
        fold([TextStart(index=0), event])
    with pytest.raises(ProtocolViolation, match="is no event"):
        Fold().add(event)


@pytest.mark.parametrize(
    "events",
    [
        [TextStart(index=[])],  # type: ignore[arg-type]
        [TextDelta(index=[], text="x")],  # type: ignore[arg-type]
        [TextStart(index=0), *[TextDelta(index=0, text=b"x")] * 2000],  # type: ignore[arg-type]
        [TextStart(index=0), TextDelta(index=0, text=None)],  # type: ignore[arg-type]
        [TextStart(index=0), TextDelta(index=0, text="x", logprobs=5)],  # type: ignore[arg-type]
        [TextStart(index=0), TextEnd(index=0, provider_metadata=5)],  # type: ignore[arg-type]
        [ToolCallStart(index=0, id=None, name="f")],  # type: ignore[arg-type]
        [ReasoningStart(index=0), ReasoningEnd(index=0, signature=5)],  # type: ignore[arg-type]
        [ResponseStarted(warnings=None)],  # type: ignore[arg-type]
    ],
)
def test_event_with_a_field_of_a_wrong_type_is_a_protocol_violation(events: list[Event]) -> None:
    with pytest.raises(ProtocolViolation, match="wrong type"):
        fold([*events, Finished(reason=FinishReason.STOP)])


def test_sum_of_usage_is_unknown_where_one_call_did_not_report_a_number() -> None:
    first, second = Usage(input_tokens=1, output_tokens=2, raw={"a": 1}), Usage(input_tokens=3)
    assert sum_usage([first, second]) == Usage(input_tokens=4)
    assert sum_usage([first, None]) == Usage()
    assert sum_usage([first]) is first
    assert sum_usage([None, None]) is None
    assert sum_usage([]) is None
