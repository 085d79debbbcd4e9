"""Answers that the kit has no samples of."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline.authoring.framing import SSEFrame
from trunkline.authoring.http_errors import LONGEST_WAIT
from trunkline.authoring.json import dumps
from trunkline.events import TextDelta
from trunkline.fold import fold
from trunkline.response import FinishReason
from trunkline_gemini.errors import error_from_body
from trunkline_gemini.parse import GeminiStream


def parsed(data: bytes) -> Any:
    return fold(GeminiStream("gemini").feed(SSEFrame(data)), "gemini")


@pytest.mark.parametrize("number", [b"NaN", b"1e400"])
def test_arguments_that_json_cannot_say_are_invalid_and_no_error(number: bytes) -> None:
    answer = (
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":%s}}}]},"finishReason":"STOP"}]}'
    )
    [call] = parsed(answer % number).tool_calls
    assert call.invalid_arguments is not None


@pytest.mark.parametrize(
    ("data", "reason", "raw"),
    [
        ({"candidates": [{"finishReason": 2}]}, FinishReason.LENGTH, "MAX_TOKENS"),
        ({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]}, FinishReason.ERROR, "MALFORMED_FUNCTION_CALL"),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, FinishReason.CONTENT_FILTER, "SAFETY"),
    ],
)
def test_reasons_by_number_of_failures_and_of_refused_prompts(
    data: dict[str, Any], reason: FinishReason, raw: str
) -> None:
    response = parsed(dumps(data))
    assert (response.finish_reason, response.raw_finish_reason) == (reason, raw)


@pytest.mark.parametrize(
    ("delay", "wait"),
    [("17s", 17.0), ("0.5s", 0.5), ("9" * 250 + "s", LONGEST_WAIT), ("9" * 400 + "s", None), ("-1s", None), (5, 5.0)],
)
def test_delay_in_an_error_is_bounded(delay: object, wait: float | None) -> None:
    body: Any = {"error": {"code": 429, "message": "m", "details": [{"retryDelay": delay}]}}
    assert error_from_body(body, provider="gemini", status=429).retry_after == wait


def test_log_probability_that_no_float_can_hold_is_left_out() -> None:
    tokens = [{"token": "a", "logProbability": 10**400}, {"token": "b", "logProbability": -1}, {"token": "c"}]
    candidate = {
        "content": {"parts": [{"text": "abc"}]},
        "finishReason": "STOP",
        "logprobsResult": {"chosenCandidates": tokens},
    }
    events = GeminiStream("gemini").feed(SSEFrame(dumps({"candidates": [candidate]})))
    deltas = [event for event in events if isinstance(event, TextDelta)]
    assert [(token.token, token.logprob) for delta in deltas for token in delta.logprobs] == [("b", -1.0), ("c", 0.0)]
