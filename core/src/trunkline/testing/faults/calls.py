"""Fault classes 24 to 30, 41, 42, 49 and 77: retries, redirects, fetching of URLs, errors and secrets."""

from __future__ import annotations

import contextlib
import logging
import pickle
import traceback
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from trunkline._calls.retry import RetryPolicy
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.http_errors import error_class
from trunkline.authoring.provider import Auth, hookimpl
from trunkline.authoring.wire import WireResponse
from trunkline.errors import AuthenticationError, RemoteError, TrunklineError, UnexpectedRedirect
from trunkline.messages import Audio, Document, Image, Text, user
from trunkline.provider_service import ProviderService
from trunkline.request import ChatRequest
from trunkline.secrets import Headers
from trunkline.testing.case import QUICK, ProviderCase, Script, Watcher, in_turn, until_hung_up
from trunkline.testing.kit import LIMIT
from trunkline.testing.server import JSON, Exchange, closed_port

METHODS = pytest.mark.parametrize("method", ["chat", "stream"])

RETRYABLE = (408, 409, 425, 429, 500, 502, 503, 504, 529)


def _in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


class RetryFaults(ProviderCase):
    """The tests of classes 24 to 29 that test the core: retries, redirects, fetching of URLs."""

    @pytest.mark.parametrize("value", ["86400", "1e300", "far"])
    async def test_fault_24_wait_above_the_limit(self, value: str) -> None:
        """If the requested wait is above the limit, the call is not retried, and its error has the wait."""
        value = _in(10 * 365 * 86400) if value == "far" else value
        async with self.serve(self.fails(429, **{"retry-after": value})) as server:
            async with self.service(server.url, max_retries=2) as service:
                with pytest.raises(RemoteError) as caught:
                    await self.chat(service)
            assert len(server.requests) == 1
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 86400

    async def test_fault_24_limit_is_a_setting(self) -> None:
        """The setting `retry_after_limit` is the limit."""
        async with self.serve(self.fails(429, **{"retry-after": "7"})) as server:
            async with self.service(server.url, max_retries=2, retry_after_limit=6) as service:
                with pytest.raises(RemoteError) as caught:
                    await self.chat(service)
            assert len(server.requests) == 1
        assert caught.value.retry_after == 7

    async def test_fault_25_jitter(self) -> None:
        """If the provider requests no wait, the waits of different calls differ."""
        watcher = Watcher()
        async with self.serve(self.fails(500)) as server, anyio.create_task_group() as tasks:
            async with self.service(server.url, watcher=watcher, max_retries=1) as service:
                for _ in range(5):
                    tasks.start_soon(_quietly, service.chat, self.sample_text.request)
                while len(watcher.delays) < 5:
                    watcher.retrying = anyio.Event()
                    await watcher.retrying.wait()
                tasks.cancel_scope.cancel()
        assert len(set(watcher.delays)) == 5

    async def test_fault_26_storm(self) -> None:
        """If the provider refuses many calls and names a wait, each waits a different time, and its retry succeeds.

        They are more calls than the retry budget has tokens: a retry after a `Retry-After` that was read needs none.
        """
        callers, refused = 110, 0
        all_sent = anyio.Event()
        watcher = Watcher()

        async def script(exchange: Exchange) -> None:
            nonlocal refused
            if refused < callers:
                refused += 1
                if refused == callers:
                    all_sent.set()
                await all_sent.wait()  # so that no retry is among the requests that are refused
                await self.fails(429, **{"retry-after-ms": "50"})(exchange)
            else:
                await self.responds("chat")(exchange)

        async with self.serve(script) as server, self.service(server.url, watcher=watcher, max_retries=3) as service:
            async with anyio.create_task_group() as tasks:
                for _ in range(callers):
                    tasks.start_soon(self.chat, service)
            assert len(server.requests) == 2 * callers
        assert not watcher.failures
        assert len(set(watcher.delays)) == len(watcher.delays), "several calls waited for the same time"

    @METHODS
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    async def test_fault_28_redirect(self, status: int, method: str) -> None:
        """A redirect is not followed. The error has its target, without parts of the URL that may be secret."""

        async def redirect(exchange: Exchange) -> None:
            target = f"{other.url}/elsewhere?token={self.canaries()[0]}"
            await exchange.respond(b"", status=status, headers={"location": target})

        async with self.serve(self.responds(method)) as other, self.serve(redirect) as server:
            async with self.service(server.url, max_retries=2) as service:
                with pytest.raises(UnexpectedRedirect) as caught:
                    await self.ask(service, method)
            assert not other.requests
            assert len(server.requests) == 1
            assert f"{other.url}/elsewhere" in str(caught.value)
        assert not any(secret in str(caught.value) for secret in self.canaries())

    @pytest.mark.parametrize(
        ("host", "allowed"),
        [
            pytest.param("127.0.0.1", False, id="not-allowed"),
            *((host, True) for host in ("127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0.0.0.0", "10.0.0.1")),
        ],
    )
    async def test_fault_29_url_fetching(self, host: str, allowed: bool) -> None:
        """Media URLs are not fetched unless a setting allows it, and never from an address in the internal network."""

        async def internal(exchange: Exchange) -> None:
            await exchange.respond(b"GIF89a", headers={"content-type": "image/gif"})

        async with self.serve(internal) as target, self.serve(self.responds("chat")) as server:
            async with self.service(server.url, fetch_urls=allowed) as service:
                for kind in self.plugin().bytes_only_media:
                    request = _media_request(kind, f"http://{host}:{target.port}/secret")
                    if allowed:
                        with pytest.raises(TrunklineError):
                            await service.chat(request)
                    else:
                        with contextlib.suppress(TrunklineError):
                            await service.chat(request)
            assert not target.requests


class ErrorFaults(ProviderCase):
    """The tests of classes 24 to 30 that test the provider: its errors, the waits they request, and hidden secrets."""

    async def _delay(self, **headers: str) -> float:
        """Return the wait before the retry after a 429 with these headers, in seconds."""
        watcher = Watcher()
        async with self.serve(self.fails(429, **headers)) as server, anyio.create_task_group() as tasks:
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
        """The wait is at least as long as requested. A value that is invalid or in the past requests no wait."""
        if value.endswith(" s"):
            value = _in(float(value[:-2]))
        assert least <= await self._delay(**{header: value}) <= most

    @pytest.mark.parametrize("status", RETRYABLE)
    async def test_fault_25_retryable_status(self, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request that fails with one of these statuses is retried after a wait."""
        _shorten_first_delay(monkeypatch)
        script = in_turn(self.fails(status), self.responds())
        watcher = Watcher()
        async with self.serve(script) as server, self.service(server.url, max_retries=1, watcher=watcher) as service:
            self.check(self.sample_text, self.folded(await self.read(service)))
            assert len(server.requests) == 2
        assert len(watcher.delays) == 1

    @METHODS
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 503])
    async def test_fault_77_cut_error_body(self, status: int, method: str) -> None:
        """If the connection ends in the body of an error, the error has the status, its class and the headers."""
        body = self.wire.error_body("it failed")

        async def script(exchange: Exchange) -> None:
            headers = {**JSON, "x-request-id": "id-of-the-request", "retry-after": "7"}
            await exchange.start(status=status, headers={**headers, "connection": "close"})
            await exchange.chunk(body[: len(body) // 2])
            await exchange.hang_up()

        async with self.serve(script) as server, self.service(server.url) as service:
            with pytest.raises(error_class(status), match="incomplete") as caught:
                await self.ask(service, method)
        error = caught.value
        assert error.status == status
        assert error.request_id == "id-of-the-request"
        assert error.retry_after == 7
        assert error.retryable == (status in RETRYABLE)

    @pytest.mark.parametrize("status", [400, 429, 500])
    def test_error_has_the_id_of_its_request(self, status: int) -> None:
        """An error has the id of the request from the header `request_id_header` of the wire format."""
        headers = Headers({**JSON, self.wire.request_id_header: "id-of-the-request"})
        error = self.parser().error(
            WireResponse(status=status, headers=headers, body=self.wire.error_body("it failed"))
        )
        assert isinstance(error, RemoteError)
        assert error.request_id == "id-of-the-request"

    def test_fault_77_error_body_cut_anywhere(self) -> None:
        """`ResponseParser.error` returns an error with the status for every part of a body, and never raises."""
        body, parser = self.wire.error_body("it failed"), self.parser()
        for end in range(len(body) + 1):
            response = WireResponse(status=429, headers=Headers(JSON), body=body[:end])
            error = parser.error(response)
            assert isinstance(error, RemoteError), f"after {end} bytes: {error!r}"
            assert error.status == 429

    @METHODS
    async def test_fault_25_retries_end(self, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """After the last retry, the error has the status and the provider's message."""
        _shorten_first_delay(monkeypatch)
        script = self.fails(503, "no room today")
        async with self.serve(script) as server, self.service(server.url, max_retries=1) as service:
            with pytest.raises(RemoteError, match="no room today") as caught:
                await self.ask(service, method)
            assert len(server.requests) == 2
        assert caught.value.status == 503
        assert caught.value.provider == self.plugin().name

    @METHODS
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
    async def test_fault_25_other_status(self, status: int, method: str) -> None:
        """Other statuses are not retried, because the same request would fail again."""
        async with self.serve(self.fails(status)) as server, self.service(server.url, max_retries=2) as service:
            with pytest.raises(RemoteError) as caught:
                await self.ask(service, method)
            renewed = status == 401 and bool(self.routes)  # a 401 is sent once more if there is a new token
            assert 1 <= len(server.requests) <= 1 + renewed
        assert caught.value.status == status
        assert not caught.value.retryable

    async def test_fault_27_early_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A stream that reports an error before any output is retried."""
        _shorten_first_delay(monkeypatch)
        assert self.wire.error_event is not None
        opening = self.opening().frames[:-1]
        early = self.streams([*opening, self.wire.error_event("the model fell over")])
        async with self.serve(in_turn(early, self.responds())) as server:
            async with self.service(server.url, max_retries=1) as service:
                self.check(self.sample_text, self.folded(await self.read(service)))
            assert len(server.requests) == 2

    @METHODS
    async def test_fault_27_bare_error(self, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An error body with status 200 instead of a response is retried."""
        _shorten_first_delay(monkeypatch)

        async def early(exchange: Exchange) -> None:
            await exchange.respond(self.wire.error_body("the model fell over"))

        async with self.serve(in_turn(early, self.responds(method))) as server:
            async with self.service(server.url, max_retries=1) as service:
                await self.ask(service, method)
            assert len(server.requests) == 2

    async def test_fault_41_service_down(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If a provider only answers 503, each call fails with that error, and all together send 100 retries."""
        _shorten_first_delay(monkeypatch)
        watcher, callers, errors = Watcher(), 60, list[RemoteError]()

        async def call() -> None:
            try:
                await self.chat(service)
            except RemoteError as error:
                errors.append(error)

        async with self.serve(self.fails(503, "no room today")) as server:
            async with self.service(server.url, watcher=watcher, max_retries=2) as service:
                with anyio.fail_after(LIMIT):
                    async with anyio.create_task_group() as tasks:
                        for _ in range(callers):
                            tasks.start_soon(call)
            assert len(server.requests) == callers + 100
        assert len(errors) == callers
        assert all(error.status == 503 and "no room today" in str(error) for error in errors)
        assert max(watcher.delays) < 1, "the plugin adds to the waits"

    # Secrets

    def _paths(self) -> Iterator[tuple[str, Script]]:
        secrets = " ".join(self.canaries())
        for status in (400, 401, 403, 404, 422, 429, 500, 503):
            yield str(status), self._echo(status)
        yield "page", _page(f"<html><title>{secrets}</title>{secrets}</html>".encode())
        yield "200 error", _page(self.wire.error_body(secrets))
        yield "other JSON", _page(b'{"what": "' + secrets.encode() + b'"}')
        yield "truncated", self.streams(self.opening().frames)
        yield "malformed", self.streams([self.wire.framing.replaced(self.opening().frames[-1], secrets.encode())])
        yield "silent", until_hung_up
        if self.wire.error_event is not None:
            yield "error event", self.streams([*self.opening().frames, self.wire.error_event(secrets)])
        yield "redirect", _redirect(f"http://user:{secrets.split()[0]}@127.0.0.1:9/?key={secrets.split()[-1]}")

    def _echo(self, status: int) -> Script:
        """Return a script that responds with an error whose message quotes the request's headers and URL."""

        async def script(exchange: Exchange) -> None:
            message = " ".join([*exchange.request.headers.values(), exchange.request.target, *self.canaries()])
            await exchange.respond(self.wire.error_body(message), status=status, headers=JSON)

        return script

    @METHODS
    async def test_fault_30_secrets(self, method: str, caplog: pytest.LogCaptureFixture) -> None:
        """However a call fails, no secret is in the error, its traceback or pickle, a log record or a `repr`."""
        assert len(self.canaries()) > 1, "the class's settings need a canary() for each secret setting"
        current: Script = until_hung_up

        async def respond(exchange: Exchange) -> None:
            await current(exchange)

        with caplog.at_level(logging.DEBUG):
            async with self.serve(respond) as server, self.service(server.url, first_chunk_timeout=QUICK) as service:
                for name, script in self._paths():
                    current = script
                    with pytest.raises(TrunklineError) as caught:
                        await self.ask(service, method)
                        await self.ask(service, "stream")  # for faults that only a stream has
                    self.assert_no_secret(name, caught.value, repr(service), repr(service.settings))
            async with self.service(f"http://127.0.0.1:{closed_port()}") as service:
                with pytest.raises(TrunklineError) as caught:
                    await self.ask(service, method)
                self.assert_no_secret("refused", caught.value)
        # HTTP clients log all headers of a response at DEBUG, which may echo the secrets.
        records = [
            record
            for record in caplog.records
            if not record.name.startswith(_CLIENTS) or record.levelno > logging.DEBUG
        ]
        logged = [record.getMessage() + str(record.exc_text) for record in records]
        self.assert_no_secret("the log", *logged)

    async def test_fault_42_shared_error(self) -> None:
        """If the authentication raises one error object to several calls, each call gets its own error object."""
        kept = AuthenticationError("no token today", code="no")
        caught: list[TrunklineError] = []

        async def call(service: ProviderService) -> None:
            try:
                await self.chat(service)
            except TrunklineError as error:
                caught.append(error)
                if len(caught) == 3:
                    all_failed.set()
                await all_failed.wait()  # a task that was ended here would hang

        async with self.service(f"http://127.0.0.1:{closed_port()}", watcher=_FailingAuth(kept)) as service:
            all_failed = anyio.Event()
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(call, service)
        assert len({id(error) for error in (*caught, kept)}) == 4
        assert all(isinstance(error, AuthenticationError) and error.code == "no" for error in caught)

    @METHODS
    async def test_fault_49_secrets_below(self, method: str) -> None:
        """No secret is in the error for an exception of another library, wherever that exception has it."""
        for secret in self.canaries():
            with_note = AuthenticationError("no token")
            with_note.add_note(secret)
            with_cause = AuthenticationError("no token")
            with_cause.__cause__ = ExceptionGroup("all attempts failed", [OSError(secret)])
            for error in (LookupError(secret), with_note, with_cause):
                watcher = _FailingAuth(error, acquire=True)
                async with (
                    self.serve(self.responds()) as server,
                    self.service(server.url, watcher=watcher) as service,
                ):
                    with pytest.raises(TrunklineError) as caught:
                        await self.ask(service, method)
                self.assert_no_secret(type(error).__name__, caught.value)

    def assert_no_secret(self, path: str, *shown: object) -> None:
        """Assert that none of these values, seen after the fault `path`, contains a canary."""
        for value in shown:
            for form, text in _forms(value):
                for secret in self.canaries():
                    assert secret not in text, f"the {form} contains a secret after the fault {path!r}"


class _FailingAuth(NoAuth):
    """An extension that wraps the provider's `Auth`. Acquiring credentials raises the same object to each call.

    With `acquire`, the provider acquires its own first: the core cannot know a secret before that.
    """

    def __init__(self, error: Exception, *, acquire: bool = False) -> None:
        self._error = error
        self._acquire = acquire
        self._wrapped: Auth = NoAuth()

    @hookimpl(wrapper=True)
    def trunkline_auth(self, context: object) -> Generator[None, Auth, Auth]:
        self._wrapped = yield
        return self

    async def __aenter__(self) -> _FailingAuth:
        await self._wrapped.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._wrapped.__aexit__(*exc_info)

    async def acquire(self, *, refresh: bool = False) -> None:
        await anyio.lowlevel.checkpoint()
        if self._acquire:
            await self._wrapped.acquire()
        raise self._error


def _shorten_first_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry after a few milliseconds. A wait that the provider requests is spread over a tenth of a second."""
    monkeypatch.setattr("trunkline.provider_service.RetryPolicy", partial(RetryPolicy, first_delay=0.005))


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
    """Make a call that is cancelled, or fails because its service closes."""
    with contextlib.suppress(TrunklineError):
        await call(request)


def _media_request(kind: type[Image] | type[Document] | type[Audio], url: str) -> ChatRequest:
    return ChatRequest(messages=[user(Text(text="What is it?"), kind(url=url))])
