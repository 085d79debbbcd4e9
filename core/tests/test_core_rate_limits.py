"""Rate limits in the headers of responses: read, and given to the application."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st
from trunkline import (
    ChatResponse,
    FinishReason,
    RateLimit,
    RateLimited,
    RateLimits,
    RemoteError,
    ResponseStarted,
    StreamInterrupted,
    Text,
)
from trunkline.authoring.http_errors import LONGEST_WAIT
from trunkline.authoring.rate_limits import LimitHeaders, RateLimitHeaders, parse_reset, read_rate_limits
from trunkline.fold import fold, unfold
from trunkline.storage import from_json, to_json
from trunkline.testing import Exchange, serve

NOW = 1_754_667_600.0  # Fri, 08 Aug 2025 15:40:00 GMT
NAMES = RateLimitHeaders(
    requests=(LimitHeaders(limit="r-limit", remaining="r-limit-left", reset="r-limit-reset"),),
    tokens=(LimitHeaders(limit="new-limit"), LimitHeaders(limit="old-limit", remaining="old-limit-left")),
)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("17", 17.0),
        ("3.543672561645508", 3.543672561645508),
        ("6ms", 0.006),
        ("1m6.5s", 66.5),
        ("20m9.6s", 1209.6),
        ("1h 2m", 3720.0),
        ("1d1h", 90_000.0),
        ("500µs", 0.0005),
        ("2025-08-08T15:40:30Z", 30.0),
        ("2025-08-08T17:40:30.5+02:00", 30.5),
        ("2025-08-08T15:39:59Z", 0.0),
        ("Fri, 08 Aug 2025 15:41:00 GMT", 60.0),
        ("1754667660", 60.0),
        ("1754667660000", 60.0),
        ("999999999", LONGEST_WAIT),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("1,5", None),
        ("1e3", None),
        ("٣", None),
        ("9" * 300, None),
        ("REDACTED", None),
        (None, None),
    ],
)
def test_reset_of_any_form_is_read_in_seconds(value: str | None, seconds: float | None) -> None:
    read = parse_reset(value, now=lambda: NOW)
    assert read == (None if seconds is None else pytest.approx(seconds))


@given(st.text())
def test_no_reset_raises(value: str) -> None:
    read = parse_reset(value, now=lambda: NOW)
    assert read is None or 0 <= read <= LONGEST_WAIT


def test_date_of_reset_is_compared_with_the_clock_of_the_server() -> None:
    headers = {"r-limit-reset": "2025-08-08T15:40:30Z", "date": "Fri, 08 Aug 2025 15:40:10 GMT"}
    limits = read_rate_limits(headers, NAMES, now=lambda: 0.0)
    assert limits is not None
    assert limits.requests == RateLimit(reset_after=20.0)


def test_first_headers_that_were_sent_are_used() -> None:
    limits = read_rate_limits({"old-limit": "100", "old-limit-left": "0"}, NAMES)
    assert limits == RateLimits(tokens=RateLimit(limit=100, remaining=0))
    limits = read_rate_limits({"new-limit": "7", "old-limit": "100"}, NAMES)
    assert limits == RateLimits(tokens=RateLimit(limit=7))


@pytest.mark.parametrize("value", ["-1", "9223372036854775807", "many", "", "1.5", "٣"])
def test_number_that_cannot_be_read_is_unknown(value: str) -> None:
    limits = read_rate_limits({"r-limit": value, "r-limit-left": value, "r-limit-reset": "soon"}, NAMES)
    assert limits is not None
    assert limits.requests is None
    assert limits.raw == {"r-limit": value, "r-limit-left": value, "r-limit-reset": "soon"}


def test_unknown_headers_about_limits_are_kept_and_others_are_not() -> None:
    headers = {"x-ratelimit-limit-images": "3", "x-ratelimit-key": "secret", "content-type": "text/plain"}
    limits = read_rate_limits(headers, NAMES)
    assert limits is not None
    assert limits.raw == {"x-ratelimit-limit-images": "3"}
    assert read_rate_limits({"content-type": "text/plain"}, NAMES) is None


HEADERS = {"r-limit": "10", "r-limit-left": "9", "r-limit-reset": "1m0s"}
EXPECTED = RateLimits(requests=RateLimit(limit=10, remaining=9, reset_after=60.0))


async def answer(exchange: Exchange) -> None:
    if exchange.request.target.endswith("/embed"):
        return await exchange.respond(b"[[1.0, 2.0]]", headers=HEADERS)
    if b'"stream":true' not in exchange.request.body:
        return await exchange.respond(b'{"text":"hello"}', headers=HEADERS)
    lines = {"content-type": "application/x-ndjson", **HEADERS}
    return await exchange.respond(b'{"open":1}\n{"text":"he"}\n{"text":"llo"}\n{"done":true}\n', headers=lines)


async def refuse(exchange: Exchange) -> None:
    await exchange.respond(b"slow down", status=429, headers=HEADERS)


async def break_off(exchange: Exchange) -> None:
    lines = {"content-type": "application/x-ndjson", **HEADERS}
    await exchange.respond(b'{"open":1}\n{"text":"he"}\n', headers=lines)


LIMITED = {"rate_limits": lambda context: NAMES}


@pytest.mark.anyio
async def test_responses_have_the_rate_limits_of_their_headers(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url, provider=LIMITED) as service:
        whole = await service.chat("hi")
        async with service.stream("hi") as stream:
            events = [event async for event in stream]
        vectors = await service.embed("hi")
    started = events[0]
    assert isinstance(started, ResponseStarted)
    found = (whole.rate_limits, stream.response.rate_limits, started.rate_limits, vectors.rate_limits)
    assert found == (EXPECTED,) * 4


@pytest.mark.anyio
async def test_errors_have_the_rate_limits_of_their_headers(toy: Any) -> None:
    async with serve(refuse) as server, toy(server.url, provider=LIMITED, max_retries=0) as service:
        for call in (service.chat("hi"), service.stream("hi").__aenter__(), service.embed("hi")):
            with pytest.raises(RateLimited) as caught:
                await call
            assert caught.value.rate_limits == EXPECTED


@pytest.mark.anyio
async def test_stream_that_breaks_off_has_the_rate_limits_of_its_headers(toy: Any) -> None:
    async with serve(break_off) as server, toy(server.url, provider=LIMITED) as service:
        with pytest.raises(StreamInterrupted) as caught:
            async with service.stream("hi") as stream:
                await stream.finish()
    assert caught.value.partial is not None
    assert (caught.value.rate_limits, caught.value.partial.rate_limits) == (EXPECTED, EXPECTED)


@pytest.mark.anyio
async def test_provider_without_declared_headers_has_the_raw_ones(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        response = await service.chat("hi")
    assert response.rate_limits == RateLimits(raw=HEADERS)
    assert response.rate_limits.raw == HEADERS


@pytest.mark.anyio
async def test_secret_in_a_header_about_limits_is_not_in_the_error(toy: Any) -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.respond(b"no", status=429, headers={**HEADERS, "x-limit": "toy-secret-key"})

    async with serve(echo) as server, toy(server.url, provider=LIMITED, max_retries=0) as service:
        with pytest.raises(RemoteError) as caught:
            await service.chat("hi")
    assert "toy-secret-key" not in repr(vars(caught.value))


def test_rate_limits_survive_unfolding_and_are_not_stored() -> None:
    response = ChatResponse(parts=(Text(text="hi"),), finish_reason=FinishReason.STOP, rate_limits=EXPECTED)
    assert fold(unfold(response)).rate_limits == EXPECTED
    assert from_json(ChatResponse, to_json(response)) == response
    assert from_json(ChatResponse, to_json(response)).rate_limits is None
