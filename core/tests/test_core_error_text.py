"""What a server or a plugin may put into the fields and the text of an error (fault classes 75, 78 and 80)."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

import pytest
from calls import call
from hypothesis import given, strategies as st
from trunkline._excerpts import single_line
from trunkline.authoring.framing import JSONLinesFramer
from trunkline.authoring.http_errors import LONGEST_WAIT
from trunkline.authoring.wire import WireResponse
from trunkline.errors import NotFound, ProtocolViolation, RateLimited, TrunklineError, UnexpectedRedirect
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]


@pytest.mark.parametrize("method", ["chat", "stream", "embed", "list_models"])
@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        pytest.param(10**400, LONGEST_WAIT, id="huge"),
        (math.inf, LONGEST_WAIT),
        (1e300, LONGEST_WAIT),
        ("1e300", LONGEST_WAIT),
        (math.nan, None),
        (-1, None),
        (b"soon", None),
    ],
)
async def test_wait_of_any_error_is_bounded(toy: Any, wait: Any, expected: float | None, method: str) -> None:
    """An error of a plugin may have a wait that nobody checked. It is raised at once, even if no setting limits it."""

    class Parser:
        body = feed = finish = NotImplemented

        def stream(self) -> Any:
            return JSONLinesFramer(), self

        def error(self, wire_response: WireResponse) -> TrunklineError:
            return RateLimited("slow down", status=429, retry_after=wait, retryable=expected is not None)

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"{}", status=429)

    provider = {"response_parser": lambda context: Parser()}
    limits = {"retry_after_limit": None, "total_timeout": None}
    async with serve(refuse) as server:
        async with toy(server.url, provider=provider, **limits) as service:
            with pytest.raises(RateLimited) as caught:
                await call(service, method)
        assert len(server.requests) == 1
    assert caught.value.retry_after == expected
    assert len(str(caught.value)) < 300


FORGED = [
    "x\n2026-11-26 12:00:00 INFO root: user admin logged in",
    "x\r\x85\u2028y",
    "\x1b]0;title\x07\x1b[2J\x9b31m",
    "\u202ehidden\u200b\ufeff",
    "\udc80",
    "a" * 60_000,
    "\n" * 60_000 + "x",
    "\x1b" * 60_000,
]


def _is_line(text: str) -> bool:
    return not any(unicodedata.category(character) in ("Cc", "Cs", "Cf", "Zl", "Zp") for character in text)


def _assert_one_bounded_line(error: BaseException) -> None:
    for text in (
        str(error),
        getattr(error, "message", ""),
        getattr(error, "code", ""),
        getattr(error, "request_id", ""),
    ):
        text = text or ""
        assert _is_line(text), text[:200]
        assert len(text) < 3000


@pytest.mark.parametrize("kind", [RateLimited, ProtocolViolation, NotFound, ValueError])
@pytest.mark.parametrize("method", ["chat", "stream", "embed", "list_models"])
async def test_text_of_an_error_is_one_bounded_line(toy: Any, method: str, kind: Any) -> None:
    """Also of an error that a plugin made without `status_error`, and of an exception that it did not mean to raise."""
    texts = iter(FORGED)

    class Parser:
        body = feed = finish = NotImplemented

        def stream(self) -> Any:
            return JSONLinesFramer(), self

        def error(self, wire_response: WireResponse) -> TrunklineError:
            text = next(texts)
            if kind is ValueError:
                raise ValueError(text)
            error: TrunklineError = kind(text, status=404, code=text, request_id=text)
            return error

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"{}", status=404)

    async with serve(refuse) as server:
        provider = {"response_parser": lambda context: Parser()}
        async with toy(server.url, provider=provider, max_retries=0) as service:
            for _ in FORGED:
                with pytest.raises(TrunklineError) as caught:
                    await call(service, method)
                _assert_one_bounded_line(caught.value)


@pytest.mark.parametrize("method", ["chat", "stream", "embed", "list_models"])
async def test_headers_of_a_redirect_and_of_an_error_are_one_bounded_line(toy: Any, method: str) -> None:
    long = b"\x1b]0;pwn\x07\x9b" + b"a" * 30_000

    async def redirect(exchange: Exchange) -> None:
        head = b"HTTP/1.1 302 Found\r\nlocation: https://x/" + long + b"\r\nx-request-id: r" + long
        await exchange.raw(head + b"\r\ncontent-length: 0\r\n\r\n")

    async with serve(redirect) as server, toy(server.url, max_retries=0) as service:
        with pytest.raises(TrunklineError) as caught:
            await call(service, method)
    _assert_one_bounded_line(caught.value)
    if isinstance(caught.value, UnexpectedRedirect):
        assert "set it as api_url" in str(caught.value)


async def test_error_in_the_middle_of_a_stream_is_one_bounded_line(toy: Any) -> None:
    async def answer(exchange: Exchange) -> None:
        headers = {"content-type": "application/x-ndjson", "x-request-id": "i" * 30_000}
        await exchange.start(headers=headers)
        await exchange.chunk(b'{"open":1,"text":"a"}\n')
        await exchange.chunk(b"no JSON\n")

    async with serve(answer) as server, toy(server.url, max_retries=0) as service:
        with pytest.raises(ProtocolViolation) as caught:
            async with service.stream("x") as stream:
                async for _ in stream:
                    pass
    _assert_one_bounded_line(caught.value)


@given(st.text(), st.integers(50, 100))
def test_single_line_is_bounded_and_the_same_the_second_time(text: str, limit: int) -> None:
    line = single_line(text, limit)
    assert len(line) <= limit
    assert "\n" not in line
    assert single_line(line, limit) == line


def test_ordinary_text_of_all_scripts_stays() -> None:
    for text in ("a message", "مرحبا", "可能です", "👩‍👧 emoji", "می‌خواهم"):
        assert single_line(text, 100) == text
