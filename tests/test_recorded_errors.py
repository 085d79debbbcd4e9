"""Recorded errors: each must get the class that a table of statuses and codes, independent of the plugins, gives it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from recorded_counts import assert_counts
from recordings import PROVIDERS, Exchange, chats, parser_for, report, response_of
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContentFiltered,
    ContextTooLong,
    NotFound,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    ServerError,
)

BY_STATUS: Mapping[int, type[RemoteError]] = {
    400: BadRequest,
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    422: BadRequest,
    429: RateLimited,
    500: ServerError,
}

BY_CODE: Mapping[tuple[int, str], type[RemoteError]] = {
    (400, "model_decommissioned"): NotFound,
    (400, "model_not_found"): NotFound,
    (400, "too_many_prompt_tokens"): ContextTooLong,
    (429, "insufficient_quota"): QuotaExhausted,
}
"""The codes and types that say more than the status."""

BY_WORDING: Mapping[str, tuple[type[RemoteError], str]] = {
    "3665622a047991f1": (AuthenticationError, "Incorrect API key provided"),
    "e2c82200971c0b29": (AuthenticationError, "Incorrect API key provided"),
    "bd6ce88068b633c9": (NotFound, "Model not found"),
    "cade854318a27371": (ContentFiltered, "Content violates usage guidelines"),
    "d9dd171f21d025c0": (ContentFiltered, "Content violates usage guidelines"),
    "f1c0756f9bc192c6": (ContentFiltered, "Content violates usage guidelines"),
}
"""The answers whose status and code mislead, and whose words tell."""

IN_SUCCESSES: Mapping[str, tuple[type[RemoteError], str | None, int | None]] = {
    "aa6c1980e4574824": (BadRequest, "tool_use_failed", 400),
    "58acf4997f4840cd": (BadRequest, "tool_use_failed", 400),
    "6aee8b9d8d5965cd": (BadRequest, "tool_use_failed", 400),
    "316da373568e2d87": (BadRequest, "400", 400),
    "2758c8dd155ab681": (ServerError, "unknown-error", None),
    "cf8f79ac26b2d32a": (QuotaExhausted, "insufficient_quota", None),
    "31689b95ad96aec4": (ServerError, "502", 502),
    "aeabfc3d2da288f7": (ServerError, "502", 502),
}
"""Errors inside answers with the status 200, most in the middle of a stream: class, code and status."""

REQUEST_ID_HEADERS = ("x-request-id", "request-id", "apim-request-id", "x-github-request-id", "cf-ray")


def expected(exchange: Exchange) -> type[RemoteError]:
    """The class that the tables tell."""
    if exchange.id in BY_WORDING:
        return BY_WORDING[exchange.id][0]
    by_code = (BY_CODE.get((exchange.status, code)) for code in codes(exchange.body))
    return next(filter(None, by_code), BY_STATUS[exchange.status])


def codes(body: bytes) -> list[str]:
    """The code and the type in a body."""
    try:
        data: Any = json.loads(body)
    except ValueError:
        return []
    error = data.get("error", data) if isinstance(data, dict) else data[0]
    return [str(error[key]) for key in ("code", "type") if isinstance(error, dict) and error.get(key)]


def problems_of(exchange: Exchange, error: RemoteError) -> list[str]:
    """What is wrong with the error to an exchange."""
    found = []
    if type(error) is not expected(exchange):
        found.append(f"{type(error).__name__}, not {expected(exchange).__name__}: {error}")
    if exchange.id in BY_WORDING and BY_WORDING[exchange.id][1] not in error.message:
        found.append(f"the message does not say {BY_WORDING[exchange.id][1]!r}: {error.message}")
    if not error.message.strip():
        found.append("the message is empty")
    if error.status != exchange.status:
        found.append(f"the status is {error.status}, not {exchange.status}")
    sent = next((exchange.headers[name] for name in REQUEST_ID_HEADERS if name in exchange.headers), None)
    if error.request_id != sent:
        found.append(f"the request id is {error.request_id}, not {sent}")
    if {"retry-after", "retry-after-ms"} & exchange.headers.keys() and error.retry_after is None:
        found.append("retry_after is missing")
    if error.retryable is not (exchange.status >= 429 and type(error) is not QuotaExhausted):
        found.append(f"retryable is {error.retryable}")
    return [f"{exchange.id}: {problem}" for problem in found]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_recorded_error_has_the_right_class_a_message_and_its_request_id(provider: str) -> None:
    counts: Counter[type[RemoteError]] = Counter()
    problems: list[str] = []
    for exchange in chats(provider):
        if exchange.status >= 400:
            error = parser_for(exchange).error(exchange.wire_response)
            assert isinstance(error, RemoteError)
            counts[type(error)] += 1
            problems += problems_of(exchange, error)
    assert not problems, report(problems)
    assert_counts(f"errors/{provider}", classes=counts)


@pytest.mark.parametrize("id_", IN_SUCCESSES)
def test_an_error_inside_a_recorded_success_is_raised_typed(id_: str) -> None:
    [exchange] = [exchange for provider in PROVIDERS for exchange in chats(provider) if exchange.id == id_]
    with pytest.raises(RemoteError) as caught:
        response_of(exchange)
    error = caught.value
    assert (type(error), error.code, error.status) == IN_SUCCESSES[id_]
    assert error.message.strip()


def test_every_recorded_success_that_is_tagged_as_an_error_is_among_those_inside_successes() -> None:
    tagged = {
        exchange.id
        for provider in PROVIDERS
        for exchange in chats(provider)
        if exchange.status == 200 and not exchange.is_success
    }
    assert tagged <= IN_SUCCESSES.keys()
