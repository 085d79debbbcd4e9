"""The tests of an `Auth` that exchanges credentials for a token which expires."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import ClassVar

import anyio
import pytest

from trunkline._config.sources import make_settings
from trunkline._http.choice import HTTPTransports, SharedTransport
from trunkline._plugins.registry import load_provider
from trunkline.authoring.provider import Auth, ByteStream, Provider, SendOptions, ServiceContext, hookimpl
from trunkline.authoring.wire import WireRequest
from trunkline.errors import AuthenticationError, RemoteError, TrunklineError
from trunkline.provider_service import ProviderService
from trunkline.secrets import Secret
from trunkline.settings import Settings
from trunkline.testing.kit import LIMIT, KitTests, assert_no_secret, canaries_in, check_subclass, replaced
from trunkline.testing.server import Exchange, LoopbackServer, ReceivedRequest, serve
from trunkline.testing.wireformat import canary

LONGEST = 600.0
"""The longest time limit of an exchange that passes, in seconds."""

CALLS = 20
"""How many calls are made at once."""

Script = Callable[[Exchange], Awaitable[None]]
TokenScript = Callable[[Exchange, Callable[[], Awaitable[None]]], Awaitable[None]]
"""Answers a request for a token. Its second argument sends the next token."""


class _Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.time: float = 1_000_000.0

    def __call__(self) -> float:
        return self.time


class _Capture:
    """An extension that keeps the `Auth` of the service. It is registered last, so it gets what the core gets."""

    auth: Auth

    @hookimpl(wrapper=True)
    def trunkline_auth(self, context: ServiceContext[Settings]) -> Generator[None, Auth, Auth]:
        self.auth = yield
        return self.auth


class _Opened:
    """A service, and the requests that arrived for it."""

    def __init__(self, service: ProviderService, capture: _Capture, path: str, server: LoopbackServer) -> None:
        self.service = service
        self._capture = capture
        self._path = path
        self._server = server

    @property
    def auth(self) -> Auth:
        """The `Auth`. There is one as soon as the service is used."""
        return self._capture.auth

    @property
    def exchanges(self) -> list[ReceivedRequest]:
        """The requests for tokens."""
        return [request for request in self._server.requests if _is_exchange(request, self._path)]

    @property
    def calls(self) -> list[ReceivedRequest]:
        """The other requests."""
        return [request for request in self._server.requests if not _is_exchange(request, self._path)]


class AuthTests(KitTests):
    """The tests of an `Auth` that fetches tokens. Subclass it, and set these attributes:

    - `provider`: the provider's name, or the `Provider` itself. Its API need not be described: the kit's server refuses
      every call with 401.
    - `settings`: settings of the service, with a `canary(…)` for each secret. `{url}` is replaced with the URL of the
      kit's server, for the API and for tokens.
    - `token_path`: the path of the requests for tokens on that server, `/token` by default.
    - `secrets`: canaries that do not come from the settings.
    - `lifetime`: how long the tokens live, in seconds, an hour by default.
    - `clock`: the dotted name of the function that tells the `Auth` the time, which the tests replace. By default it is
      the one of `CachedToken`.
    - `skips`: tests to leave out, by name, each with the reason.

    Override `extensions` if the `Auth` is one of an extension that is made in code, and `token_response` if the
    response with the token is not that of OAuth 2.0. If a library or a function fetches the tokens, override
    `settings_for`, and set a function that requests each token from the kit's server.
    """

    provider: ClassVar[str | Provider]
    settings: ClassVar[Mapping[str, object]] = {}
    token_path: ClassVar[str] = "/token"  # noqa: S105
    secrets: ClassVar[Sequence[str]] = ()
    lifetime: ClassVar[int] = 3600
    clock: ClassVar[str] = "trunkline.authoring.auth.monotonic"

    def extensions(self, url: str) -> list[object]:
        """Return further extensions of the service, for the kit's server at `url`."""
        return []

    def settings_for(self, url: str) -> dict[str, object]:
        """Return the settings of the service, for the kit's server at `url`."""
        settings: dict[str, object] = replaced(self.settings, "{url}", url)
        return settings

    def token_response(self, token: str) -> bytes:
        """Return the body of the response with a token: that of OAuth 2.0 (RFC 6749, section 5.1)."""
        body = {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime}
        return json.dumps(body).encode()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        check_subclass(cls, AuthTests)

    # Fixtures and helpers

    @pytest.fixture
    def now(self, monkeypatch: pytest.MonkeyPatch) -> _Clock:
        """A clock for the `Auth`."""
        clock = _Clock()
        monkeypatch.setattr(self.clock, clock)
        return clock

    @classmethod
    @cache
    def plugin(cls) -> Provider:
        """The provider."""
        return load_provider(cls.provider) if isinstance(cls.provider, str) else cls.provider

    @classmethod
    def token(cls, number: int) -> str:
        """Return the token of the exchange with this number, from 1."""
        return canary(f"token-{number}")

    def canaries(self) -> list[str]:
        """The secrets that must not appear anywhere: those of the settings, `secrets`, and the tokens."""
        return [*canaries_in(self.settings), *self.secrets, *map(self.token, range(1, 3))]

    @asynccontextmanager
    async def opened(self, exchange: TokenScript | None = None, call: Script | None = None) -> AsyncIterator[_Opened]:
        """Open a service. `exchange` answers requests for tokens, and `call` all others.

        The block fails if it takes longer than `LIMIT`.
        """
        numbers = iter(range(1, 1000))

        asked, misrouted = False, list[ReceivedRequest]()

        async def answer(received: Exchange) -> None:
            nonlocal asked

            async def issue() -> None:
                await received.respond(self.token_response(self.token(next(numbers))))

            if _is_exchange(received.request, self.token_path):
                asked = True
                await (issue() if exchange is None else exchange(received, issue))
            elif asked:
                await (call or _refuse)(received)
            else:
                misrouted.append(received.request)
                limit.cancel()  # the test waits for a request for a token

        async with serve(answer) as server:
            capture = _Capture()
            given = self.settings_for(server.url)
            listed = given.get("extensions", ())
            assert isinstance(listed, Sequence)
            extensions = [*listed, *self.extensions(server.url), capture]
            values = {"default_model": "m", "max_retries": 0, **given, "extensions": extensions}
            settings = make_settings("tested", self.plugin(), arguments=values, environ={})
            service = ProviderService("tested", self.plugin(), settings, transports=HTTPTransports(None))
            with anyio.fail_after(LIMIT) as limit:
                async with service:
                    yield _Opened(service, capture, self.token_path, server)
        for wrong in misrouted:
            path = wrong.target.partition("?")[0]
            pytest.fail(
                f"the first request is for {wrong.method} {path}, and not for 'token_path', {self.token_path!r}",
                pytrace=False,
            )

    def assert_no_secret(self, *shown: object) -> None:
        """Assert that the text, the `repr` and the attributes of these objects contain no secret."""
        for value in shown:
            assert_no_secret(type(value).__name__, value, self.canaries())

    # When a token is fetched

    async def test_waiting_calls_share_one_exchange(self) -> None:
        """Any number of calls that wait for a token share one exchange."""
        begun, go = anyio.Event(), anyio.Event()

        async def slow(exchange: Exchange, issue: Callable[[], Awaitable[None]]) -> None:
            begun.set()
            await go.wait()
            await issue()

        async with self.opened(slow) as opened, anyio.create_task_group() as tasks:
            for _ in range(CALLS):
                tasks.start_soon(opened.service.authenticate)
            await begun.wait()
            await anyio.wait_all_tasks_blocked()
            go.set()
        assert len(opened.exchanges) == 1, f"{CALLS} calls that waited made {len(opened.exchanges)} exchanges"

    async def test_token_is_reused(self, now: _Clock) -> None:
        """A token is used again while it is valid."""
        async with self.opened() as opened:
            for _ in range(3):
                await opened.service.authenticate()
                now.time += self.lifetime / 10
        assert len(opened.exchanges) == 1

    async def test_burst_of_refused_calls_makes_one_more_exchange(self) -> None:
        """When 20 calls get a 401, one exchange is made for all, and each sends its request with the new token."""
        refused, all_refused = list[Exchange](), anyio.Event()

        async def refuse(exchange: Exchange) -> None:
            refused.append(exchange)
            if len(refused) == CALLS:
                all_refused.set()
            await all_refused.wait()  # so that all have sent the first token
            await _refuse(exchange)

        async with self.opened(call=refuse) as opened:
            errors = await _together(lambda: opened.service.chat("Hello"))
        for error in errors:
            assert isinstance(error, AuthenticationError), f"a 401 raised {error!r}"
        assert len(opened.exchanges) == 2, f"{CALLS} refused calls made {len(opened.exchanges) - 1} more exchanges"
        assert len(opened.calls) == 2 * CALLS, "a request was not sent again after a 401"
        first, second = _content(opened.calls[0]), _content(opened.calls[-1])
        assert first != second, "the request is the same with both tokens, so the token is not sent"
        self.assert_no_secret(*errors)

    async def test_token_is_renewed_before_it_expires(self, now: _Clock) -> None:
        """Shortly before a token expires, the next one is fetched."""
        async with self.opened() as opened:
            await opened.service.authenticate()
            now.time += self.lifetime - 1
            await opened.service.authenticate()
        assert len(opened.exchanges) == 2, "the token was not renewed one second before it expires"

    async def test_failed_renewal_keeps_a_valid_token(self, now: _Clock) -> None:
        """If a renewal fails, the old token is used until it expires. Then the failure is raised."""

        async def once(exchange: Exchange, issue: Callable[[], Awaitable[None]]) -> None:
            if len(opened.exchanges) == 1:
                await issue()
            else:
                await exchange.respond(b"", status=503)

        async with self.opened(once) as opened:
            await opened.service.authenticate()
            now.time += self.lifetime - 1
            await opened.service.authenticate()
            now.time += 2
            with pytest.raises(RemoteError):
                await opened.service.authenticate()

    # Failures

    async def test_waiting_calls_share_a_failure(self) -> None:
        """Calls that wait share one failure, and the next call tries again."""
        begun, go = anyio.Event(), anyio.Event()

        async def down(exchange: Exchange, issue: Callable[[], Awaitable[None]]) -> None:
            begun.set()
            await go.wait()
            if len(opened.exchanges) == 1:
                await exchange.respond(b"", status=500)
            else:
                await issue()

        async def call() -> None:
            try:
                await opened.service.authenticate()
            except TrunklineError as error:
                errors.append(error)

        errors: list[TrunklineError] = []
        async with self.opened(down) as opened:
            async with anyio.create_task_group() as tasks:
                for _ in range(CALLS):
                    tasks.start_soon(call)
                await begun.wait()
                await anyio.wait_all_tasks_blocked()
                go.set()
            assert len(errors) == CALLS, "a call that waited for a failed exchange did not fail with it"
            assert len(opened.exchanges) == 1
            await opened.service.authenticate()
            assert len(opened.exchanges) == 2

    async def test_cancelled_call_does_not_hold_up_the_others(self) -> None:
        """If the call that makes an exchange is cancelled, the others get a token nevertheless."""
        begun, first = anyio.Event(), anyio.CancelScope()

        async def slow(exchange: Exchange, issue: Callable[[], Awaitable[None]]) -> None:
            if len(opened.exchanges) == 1:
                begun.set()
                await exchange.hung_up()
            else:
                await issue()

        async def cancelled() -> None:
            with first:
                await opened.service.authenticate()

        async with self.opened(slow) as opened, anyio.create_task_group() as tasks:
            tasks.start_soon(cancelled)
            await begun.wait()
            for _ in range(3):
                tasks.start_soon(opened.service.authenticate)
            await anyio.wait_all_tasks_blocked()
            first.cancel()
        assert len(opened.exchanges) == 2

    async def test_exchange_has_a_time_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An exchange is sent through the service's transport, and ends within ten minutes, also if it hangs."""
        limits: list[float] = []
        send = SharedTransport.send

        def watched(
            transport: SharedTransport, wire_request: WireRequest, options: SendOptions
        ) -> AbstractAsyncContextManager[ByteStream]:
            limits.append(anyio.current_effective_deadline() - anyio.current_time())
            return send(transport, wire_request, options)

        monkeypatch.setattr(SharedTransport, "send", watched)
        # The limit of the test itself does not count, so it is lifted for the call.
        async with self.opened() as opened:
            await _without_deadline(opened.service.authenticate)
        assert limits, "the exchange does not use the service's transport, with its proxy and certificates"
        assert max(limits) <= LONGEST, f"the exchange has no time limit of at most {LONGEST:g} s"

    async def test_redirect_is_not_followed(self) -> None:
        """A redirect of the service for tokens is not followed, since the credentials would go along."""

        async def redirect(exchange: Exchange, _: object) -> None:
            await exchange.respond(b"", status=307, headers={"location": f"{elsewhere.url}{self.token_path}"})

        async with serve(_refuse) as elsewhere, self.opened(redirect) as opened:
            with pytest.raises(TrunklineError):
                await opened.service.authenticate()
        assert not elsewhere.requests, "credentials were sent to the target of a redirect"

    @pytest.mark.parametrize("body", [b"{}", b"[]", b'""', b"", b"<html>"], ids=repr)
    async def test_response_without_a_token_is_an_error_of_the_provider(self, body: bytes) -> None:
        """A response without a token raises a `RemoteError`, and no `PluginError`."""
        await self._fails_with_remote_error(200, body)

    @pytest.mark.parametrize("body", [b"{}", b"[]", b"", b"<html>"], ids=repr)
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
    async def test_refused_exchange_is_an_error_of_the_provider(self, status: int, body: bytes) -> None:
        """A refused exchange raises a `RemoteError` whatever its body is, and no `PluginError`."""
        await self._fails_with_remote_error(status, body)

    async def _fails_with_remote_error(self, status: int, body: bytes) -> None:
        async def respond(exchange: Exchange, _: object) -> None:
            await exchange.respond(body, status=status)

        async with self.opened(respond) as opened:
            errors = await _together(opened.service.authenticate, calls=1)
        caught = errors[0] if errors else None
        wanted = AuthenticationError if status == 401 else RemoteError
        assert isinstance(caught, wanted), (
            f"a response with status {status} and the body {body!r} raised {caught!r}, and no {wanted.__name__}. Check "
            "the status, and read the body with 'decode_object' and 'as_string' of trunkline.authoring.json"
        )

    # Secrets

    async def test_tokens_and_credentials_are_not_shown(self) -> None:
        """`secrets` has the current token and the one before, and nothing shows one of them or a setting's secret."""
        async with self.opened() as opened:
            await opened.service.authenticate()
            await opened.auth.acquire(refresh=True)
            assert len(opened.exchanges) == 2, "`refresh` made no new exchange"
            given = [secret.reveal() if isinstance(secret, Secret) else secret for secret in opened.auth.secrets]
            for number in (1, 2):
                assert self.token(number) in given, f"`secrets` does not have token {number}"
            self.assert_no_secret(opened.auth, opened.service)

    @pytest.mark.parametrize("status", [400, 401, 403, 500])
    async def test_error_of_an_exchange_shows_no_secret(self, status: int) -> None:
        """The error of a refused exchange shows no secret, also if the response quotes the request."""
        quoted: list[str] = []

        async def refuse(exchange: Exchange, _: object) -> None:
            quoted.extend(exchange.request.headers.values())
            quote = " ".join([*exchange.request.headers.values(), exchange.request.body.decode("utf-8", "replace")])
            body = {"error": "invalid_client", "error_description": quote, "message": quote}
            await exchange.respond(json.dumps(body).encode(), status=status)

        async with self.opened(refuse) as opened:
            with pytest.raises(TrunklineError) as caught:
                await opened.service.authenticate()
        self.assert_no_secret(caught.value)
        shown = f"{caught.value} {vars(caught.value)}"
        for value in quoted:
            # A header with a secret in an encoded form, such as `Basic`.
            assert len(value) < 40 or value.rpartition(" ")[2] not in shown, "the error shows an encoded secret"


def _is_exchange(request: ReceivedRequest, path: str) -> bool:
    return request.target.partition("?")[0] == path


def _content(request: ReceivedRequest) -> object:
    return request.target, dict(request.headers), request.body


async def _refuse(exchange: Exchange) -> None:
    quoted = " ".join(exchange.request.headers.values())
    body = {"error": {"message": f"refused {quoted}", "type": "authentication_error"}}
    await exchange.respond(json.dumps(body).encode(), status=401)


async def _together(call: Callable[[], Awaitable[object]], *, calls: int = CALLS) -> list[BaseException]:
    errors: list[BaseException] = []

    async def one() -> None:
        try:
            await call()
        except TrunklineError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(calls):
            tasks.start_soon(one)
    return errors


async def _without_deadline(call: Callable[[], Awaitable[object]]) -> None:
    """Make a call in a scope whose deadline does not come from the test."""
    with anyio.CancelScope(shield=True):
        await call()
