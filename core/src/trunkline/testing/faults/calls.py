"""Fault classes 24 to 30: retries, redirects, fetching, secrets."""

from __future__ import annotations

import contextlib
import logging
import pickle
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import pytest

from trunkline.errors import RemoteError, TrunklineError, UnexpectedRedirect
from trunkline.messages import Audio, Document, Image, Text, user
from trunkline.request import ChatRequest
from trunkline.testing.case import QUICK, ProviderCase, Script, Watcher, in_turn, until_hung_up
from trunkline.testing.server import JSON, Exchange, closed_port, serve

WAYS = pytest.mark.parametrize("way", ["chat", "stream"])

RETRYABLE = (408, 409, 425, 429, 500, 502, 503, 504, 529)


def _in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


class RetryFaults(ProviderCase):
    """The tests of classes 24 to 29 that exercise the core: waiting, redirects, fetching."""

    @pytest.mark.parametrize("value", ["86400", "1e300", "far"])
    async def test_fault_24_absurd(self, value: str) -> None:
        """What is longer than the cap reaches the caller, who is told of it."""
        value = _in(10 * 365 * 86400) if value == "far" else value
        async with serve(self.fails(429, **{"retry-after": value})) as server:
            async with self.service(server.url, max_retries=2) as service:
                with pytest.raises(RemoteError) as caught:
                    await self.chat(service)
            assert len(server.requests) == 1
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 86400

    async def test_fault_24_limit(self) -> None:
        """The cap is a setting."""
        async with serve(self.fails(429, **{"retry-after": "7"})) as server:
            async with self.service(server.url, max_retries=2, retry_after_limit=6) as service:
                with pytest.raises(RemoteError) as caught:
                    await self.chat(service)
            assert len(server.requests) == 1
        assert caught.value.retry_after == 7

    async def test_fault_25_jitter(self) -> None:
        """Waits that nobody asked for differ."""
        watcher = Watcher()
        async with serve(self.fails(500)) as server, anyio.create_task_group() as tasks:
            async with self.service(server.url, watcher=watcher, max_retries=1) as service:
                for _ in range(5):
                    tasks.start_soon(_quietly, service.chat, self.sample_text.request)
                while len(watcher.delays) < 5:
                    watcher.retrying = anyio.Event()
                    await watcher.retrying.wait()
                tasks.cancel_scope.cancel()
        assert len(set(watcher.delays)) == 5

    async def test_fault_26_storm(self) -> None:
        """Callers who are all refused come back once each, spread, and all succeed."""
        callers, refused = 30, 0
        watcher = Watcher()

        async def script(exchange: Exchange) -> None:
            nonlocal refused
            if refused < callers:
                refused += 1
                await self.fails(429, **{"retry-after-ms": "50"})(exchange)
            else:
                await self.answers("chat")(exchange)

        async with serve(script) as server, self.service(server.url, watcher=watcher, max_retries=3) as service:
            async with anyio.create_task_group() as tasks:
                for _ in range(callers):
                    tasks.start_soon(self.chat, service)
            assert refused <= 1.2 * callers
            assert len(server.requests) <= 2 * callers
        assert not watcher.failures
        assert len(set(watcher.delays)) == len(watcher.delays), "the callers come back together"

    @WAYS
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_fault_28_redirect(self, status: int, way: str) -> None:
        """A redirect is not followed, and the error says where it pointed, without what may be secret there."""

        async def redirect(exchange: Exchange) -> None:
            there = f"{other.url}/elsewhere?token={self.canaries()[0]}"
            await exchange.respond(b"", status=status, headers={"location": there})

        async with serve(self.answers(way)) as other, serve(redirect) as server:
            async with self.service(server.url, max_retries=2) as service:
                with pytest.raises(UnexpectedRedirect) as caught:
                    await self.ask(service, way)
            assert not other.requests
            assert len(server.requests) == 1
            assert f"{other.url}/elsewhere" in str(caught.value)
        assert not any(secret in str(caught.value) for secret in self.canaries())

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0.0.0.0", "10.0.0.1"])
    @pytest.mark.parametrize("allowed", [False, True], ids=["not-allowed", "allowed"])
    async def test_fault_29_url_fetching(self, host: str, allowed: bool) -> None:
        """Media by URL are not fetched unless that is allowed, and never from an address inside."""

        async def inside(exchange: Exchange) -> None:
            await exchange.respond(b"GIF89a", headers={"content-type": "image/gif"})

        async with serve(inside) as target, serve(self.answers("chat")) as server:
            for kind in self.plugin().bytes_only_media:
                request = _media_request(kind, f"http://{host}:{target.port}/secret")
                async with self.service(server.url, fetch_urls=allowed) as service:
                    if allowed:
                        with pytest.raises(TrunklineError):
                            await service.chat(request)
                    else:
                        with contextlib.suppress(TrunklineError):
                            await service.chat(request)
            assert not target.requests


class ErrorFaults(ProviderCase):
    """The tests of classes 24 to 30 that exercise the provider: its errors, what they ask for, and what they show."""

    async def _delay(self, **headers: str) -> float:
        """The delay that is told after a 429 with these headers."""
        watcher = Watcher()
        async with serve(self.fails(429, **headers)) as server, anyio.create_task_group() as tasks:
            async with self.service(server.url, watcher=watcher, max_retries=1) as service:
                tasks.start_soon(_quietly, service.chat, self.sample_text.request)
                await watcher.retrying.wait()
                assert len(server.requests) == 1
                tasks.cancel_scope.cancel()
        return watcher.delays[0]

    @pytest.mark.parametrize(
        ("header", "value", "least", "most"),
        [
            ("retry-after", "7", 7, 14),
            ("retry-after", "7.5", 7.5, 15),
            ("retry-after-ms", "7500", 7.5, 15),
            ("retry-after", "+20 s", 17, 40),
            ("retry-after", "-5", 0, 8),
            ("retry-after", "-5 s", 0, 8),
            ("retry-after", "soon", 0, 8),
            ("retry-after", "nan", 0, 8),
            ("retry-after", "", 0, 8),
        ],
    )
    async def test_fault_24_retry_after(self, header: str, value: str, least: float, most: float) -> None:
        """A wait is never shorter than what is asked for; what cannot be read, or has passed, asks for nothing."""
        if value.endswith(" s"):
            value = _in(float(value[:-2]))
        assert least <= await self._delay(**{header: value}) <= most

    @pytest.mark.parametrize("status", RETRYABLE)
    async def test_fault_25_retryable_status(self, status: int) -> None:
        """These are tried again before the first event, after a wait with jitter, and are typed when it is over."""
        script = in_turn(self.fails(status, **{"retry-after-ms": "1"}), self.answers())
        watcher = Watcher()
        async with serve(script) as server, self.service(server.url, max_retries=1, watcher=watcher) as service:
            self.check(self.sample_text, self.folded(await self.read(service)), streamed=True)
            assert len(server.requests) == 2
        assert len(watcher.delays) == 1

    @WAYS
    async def test_fault_25_retries_end(self, way: str) -> None:
        """Retries have an end, and the error then has the status and says what the provider said."""
        script = self.fails(503, "no room today", **{"retry-after-ms": "1"})
        async with serve(script) as server, self.service(server.url, max_retries=1) as service:
            with pytest.raises(RemoteError, match="no room today") as caught:
                await self.ask(service, way)
            assert len(server.requests) == 2
        assert caught.value.status == 503
        assert caught.value.provider == self.plugin().name

    @WAYS
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
    async def test_fault_25_other_status(self, status: int, way: str) -> None:
        """The others are not: the same request would fail again."""
        async with serve(self.fails(status)) as server, self.service(server.url, max_retries=2) as service:
            with pytest.raises(RemoteError) as caught:
                await self.ask(service, way)
            assert len(server.requests) == 1
        assert caught.value.status == status
        assert not caught.value.retryable

    async def test_fault_27_early_error(self) -> None:
        """An error before any output of a stream is tried again like its status."""
        assert self.wire.error_event is not None
        opening = self.opening().frames[:-1]
        early = self.streams([*opening, self.wire.error_event("the model fell over")])
        async with serve(in_turn(early, self.answers())) as server:
            async with self.service(server.url, max_retries=1) as service:
                self.check(self.sample_text, self.folded(await self.read(service)), streamed=True)
            assert len(server.requests) == 2

    @WAYS
    async def test_fault_27_bare_error(self, way: str) -> None:
        """So is an error in the place of an answer, with the status 200."""

        async def early(exchange: Exchange) -> None:
            await exchange.respond(self.wire.error_body("the model fell over"))

        async with serve(in_turn(early, self.answers(way))) as server:
            async with self.service(server.url, max_retries=1) as service:
                await self.ask(service, way)
            assert len(server.requests) == 2

    # Secrets

    def _paths(self) -> Iterator[tuple[str, Script]]:
        told = " ".join(self.canaries())
        for status in (400, 401, 403, 404, 422, 429, 500, 503):
            yield str(status), self._echo(status)
        yield "page", _page(f"<html><title>{told}</title>{told}</html>".encode())
        yield "200 error", _page(self.wire.error_body(told))
        yield "no answer", _page(b'{"what": "' + told.encode() + b'"}')
        yield "truncated", self.streams(self.opening().frames)
        yield "malformed", self.streams([self.wire.framing.replaced(self.opening().frames[-1], told.encode())])
        yield "silent", until_hung_up
        if self.wire.error_event is not None:
            yield "error event", self.streams([*self.opening().frames, self.wire.error_event(told)])
        yield "redirect", _redirect(f"http://user:{told.split()[0]}@127.0.0.1:9/?key={told.split()[-1]}")

    def _echo(self, status: int) -> Script:
        """Answer as a provider that tells back what it got."""

        async def script(exchange: Exchange) -> None:
            told = " ".join([*exchange.request.headers.values(), exchange.request.target, *self.canaries()])
            await exchange.respond(self.wire.error_body(told), status=status, headers=JSON)

        return script

    @WAYS
    async def test_fault_30_secrets(self, way: str, caplog: pytest.LogCaptureFixture) -> None:
        """No secret is in an error, its traceback, its pickle, a log record or a `repr`, on any path to an error."""
        assert len(self.canaries()) > 1, "give a canary() for each secret setting"
        with caplog.at_level(logging.DEBUG):
            for name, script in self._paths():
                async with serve(script) as server, self.service(server.url, first_chunk_timeout=QUICK) as service:
                    with pytest.raises(TrunklineError) as caught:
                        await self.ask(service, way)
                        await self.ask(service, "stream")  # what a whole answer does not meet
                    self.assert_silent(name, caught.value, repr(service), repr(service.settings))
            async with self.service(f"http://127.0.0.1:{closed_port()}") as service:
                with pytest.raises(TrunklineError) as caught:
                    await self.ask(service, way)
                self.assert_silent("refused", caught.value)
        # What the HTTP client says at DEBUG holds whatever headers a server sends.
        records = [one for one in caplog.records if not one.name.startswith(_CLIENTS) or one.levelno > logging.DEBUG]
        logged = [record.getMessage() + str(record.exc_text) for record in records]
        self.assert_silent("the log", *logged)

    def assert_silent(self, path: str, *shown: object) -> None:
        """Assert that nothing of these shows a canary."""
        for value in shown:
            for form, text in _forms(value):
                for secret in self.canaries():
                    assert secret not in text, f"a secret is in the {form} after {path!r}"


_CLIENTS = ("aiohttp", "h2", "hpack", "httpcore", "httpx")


def _forms(value: object) -> Iterator[tuple[str, str]]:
    if not isinstance(value, BaseException):
        yield "text", str(value)
        return
    yield "str", str(value)
    yield "repr", repr(value)
    yield "args", repr(value.args)
    yield "attributes", repr(vars(value))
    yield "traceback", "".join(traceback.format_exception(value))
    yield "pickle", repr(pickle.dumps(value))
    if value.__cause__ is not None:
        yield from _forms(value.__cause__)


def _page(body: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(body)

    return script


def _redirect(location: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(b"", status=307, headers={"location": location})

    return script


async def _quietly(call: Any, request: ChatRequest) -> None:
    """Make a call that is cancelled, or ends as its service closes."""
    with contextlib.suppress(TrunklineError):
        await call(request)


def _media_request(kind: type[Image] | type[Document] | type[Audio], url: str) -> ChatRequest:
    return ChatRequest(messages=[user(Text(text="What is it?"), kind(url=url))])
