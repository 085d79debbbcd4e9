"""Recorded answers, whole and streamed, against the finish reasons that the recordings tell."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import recordings
from recorded_counts import assert_counts
from recordings import CHAT, EXCEPTIONS, PROVIDERS, RESPONSES, SCOPES, Exchange, chats, recorded, report, response_of
from trunkline.errors import TrunklineError
from trunkline.response import ChatResponse, FinishReason

FINISH: Mapping[str | None, FinishReason] = {
    "stop": FinishReason.STOP,
    "STOP": FinishReason.STOP,
    "eos": FinishReason.STOP,
    "end_turn": FinishReason.STOP,
    "completed": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "MAX_TOKENS": FinishReason.LENGTH,
    "max_output_tokens": FinishReason.LENGTH,
    "incomplete:max_output_tokens": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "tool_call": FinishReason.TOOL_CALLS,
    "tool_use": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    # A response that runs in the background, and servers that tell no reason.
    "queued": FinishReason.PENDING,
    "": FinishReason.OTHER,
    None: FinishReason.OTHER,
}


def first_choice(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """The first choice of a chat completion, or its pieces."""
    for data in decoded(exchange):
        choices = data.get("choices") or []
        yield from (choice for choice in choices if not choice.get("index"))


def decoded(exchange: Exchange) -> list[dict[str, Any]]:
    """The JSON objects of a body."""
    if not exchange.streaming:
        return [json.loads(exchange.body)]
    lines = [line[5:].strip() for line in exchange.body.splitlines() if line.startswith(b"data:")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def told_reason(exchange: Exchange) -> str | None:
    """The reason that stands in the body."""
    if exchange.scope == CHAT:
        reason = None
        for choice in first_choice(exchange):
            reason = choice.get("finish_reason") or (choice.get("finish_details") or {}).get("type") or reason
        return reason
    response = final_response(exchange)
    status = response.get("status")
    return f"incomplete:{response['incomplete_details']['reason']}" if status == "incomplete" else status


def final_response(exchange: Exchange) -> dict[str, Any]:
    """The response object at the end of an answer of Responses."""
    last: dict[str, Any] = next(data for data in reversed(decoded(exchange)) if "response" in data or "output" in data)
    found: dict[str, Any] = last.get("response", last)
    return found


def has_calls(exchange: Exchange) -> bool:
    """Whether the body calls a tool."""
    if exchange.scope == RESPONSES:
        items = [*final_response(exchange)["output"], *(data.get("item") or {} for data in decoded(exchange))]
        kinds = ("function_call", "custom_tool_call")
        # The application runs a search for tools, unless the provider does.
        return any(item.get("type") in kinds or item.get("execution") == "client" for item in items)
    messages = [choice.get("delta") or choice.get("message") or {} for choice in first_choice(exchange)]
    return any(
        message.get("tool_calls") or (message.get("function_call") or {}).get("name")
        for message in messages
        if isinstance(message, dict)
    )


def recorded_reason(exchange: Exchange) -> FinishReason:
    """The reason that the recording tells.

    It may hold a reason for each choice, and a router's own beside its provider's: where they differ in meaning the
    first choice's is taken from the body.
    """
    reasons = {FINISH[reason] for reason in exchange.finish_reasons}
    if len(reasons) != 1:
        reasons = {FINISH[told_reason(exchange)]}
    [reason] = reasons
    return reason


def expected_reason(exchange: Exchange) -> FinishReason:
    """The reason that the response is to have. Some servers say `stop`, or nothing, though the answer calls tools."""
    reason = recorded_reason(exchange)
    calls = reason in (FinishReason.STOP, FinishReason.OTHER) and has_calls(exchange)
    return FinishReason.TOOL_CALLS if calls else reason


@cache
def outcomes(provider: str) -> Mapping[str, ChatResponse | TrunklineError]:
    """The response or the error to each exchange whose recording tells of a success."""
    found: dict[str, ChatResponse | TrunklineError] = {}
    for exchange in chats(provider):
        if exchange.is_success:
            try:
                found[exchange.id] = response_of(exchange)
            except TrunklineError as error:
                found[exchange.id] = error
    return found


def problem(exchange: Exchange, outcome: ChatResponse | TrunklineError) -> str | None:
    """What is wrong with the outcome of a success, if anything."""
    exception = EXCEPTIONS.get(exchange.id)
    if isinstance(outcome, TrunklineError):
        excepted = exception is not None and isinstance(outcome, exception[0])
        return None if excepted else f"{exchange.id}: {type(outcome).__name__}: {outcome}"
    if exception is not None:
        return f"{exchange.id}: no longer an exception ({exception[1]})"
    expected = expected_reason(exchange)
    if outcome.finish_reason is not expected:
        return f"{exchange.id}: finished with {outcome.finish_reason}, not {expected} ({exchange.finish_reasons})"
    return None


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_recorded_success_gives_a_response_with_the_recorded_finish_reason(provider: str) -> None:
    found = outcomes(provider)
    problems = [problem(exchange, found[exchange.id]) for exchange in chats(provider) if exchange.is_success]
    assert not any(problems), report(filter(None, problems))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_numbers_of_recorded_exchanges_are_as_they_were(provider: str) -> None:
    found = outcomes(provider)
    responses = {id_: outcome for id_, outcome in found.items() if isinstance(outcome, ChatResponse)}
    accepted = [exchange for exchange in chats(provider) if exchange.id in responses]
    assert len(responses) == len(accepted)
    agreed = [exchange for exchange in accepted if responses[exchange.id].finish_reason is expected_reason(exchange)]
    assert_counts(
        f"chat/{provider}",
        exchanges=len(recorded(provider)),
        accepted=len(accepted),
        agreed=len(agreed),
        # The recording tells `stop`, or nothing, although the answer calls tools.
        calls=sum(recorded_reason(exchange) is not expected_reason(exchange) for exchange in agreed),
        exceptions=len(found) - len(responses),
        errors=len(chats(provider)) - len(found),
        out_of_scope=Counter(exchange.scope for exchange in recorded(provider) if exchange.scope not in SCOPES),
    )


def test_every_exception_is_recorded() -> None:
    ids = {exchange.id for provider in PROVIDERS for exchange in chats(provider)}
    assert EXCEPTIONS.keys() <= ids


def test_without_recordings_a_test_is_skipped_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(recordings, "FOLDER", tmp_path)
    monkeypatch.delenv("TRUNKLINE_REQUIRE_RECORDINGS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"no recordings: {tmp_path}.*TRUNKLINE_RECORDINGS"):
        recorded("openai")


def test_where_recordings_are_required_a_test_without_them_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(recordings, "FOLDER", tmp_path)
    monkeypatch.setenv("TRUNKLINE_REQUIRE_RECORDINGS", "1")
    with pytest.raises(pytest.fail.Exception, match="TRUNKLINE_REQUIRE_RECORDINGS is 1"):
        recorded("openai")
