"""The conformance tests of credentials: they are sent, and fetched and renewed when that is needed."""

from __future__ import annotations

import asyncio
import os
import random
import re
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, TypeAlias

import anyio
import attrs
import pytest

from trunkline._http.choice import HTTPTransports
from trunkline._plugins.registry import open_steps
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import ConfigurationError, TrunklineError
from trunkline.provider_service import ProviderService
from trunkline.request import ChatRequest
from trunkline.secrets import Secret
from trunkline.settings import SettingInfo, setting_infos
from trunkline.testing.case import ProviderCase, Script, in_turn
from trunkline.testing.kit import LIMIT, canaries_in, replaced
from trunkline.testing.server import JSON, Exchange, LoopbackServer, ReceivedRequest
from trunkline.testing.wireformat import CANARY, canary

EXCHANGE_LIMIT = 120.0
"""The longest time that fetching credentials may take, in seconds."""

Sent: TypeAlias = tuple[ReceivedRequest, ...] | str
"""The requests of a call, or the name of the error that it raised."""


class CredentialTests(ProviderCase):
    """The conformance tests of credentials."""

    # What is sent

    async def test_each_request_is_signed(self) -> None:
        """Every request is signed, has no secret in its URL, and signing does not block the event loop."""
        blocking: list[str] = []
        async with self.serve(self.responds("chat")) as server, AsyncExitStack() as resources:
            made = self.made_settings(server.url)
            transport = HTTPTransports().shared(made)  # an `Auth` may send requests, for a token
            resources.push_async_exit(transport)
            plugin = self.plugin()
            context = ServiceContext(name="tested", provider=plugin.name, settings=made, transport=transport)
            steps = open_steps(plugin, context, self.extensions(server.url))
            request = ChatRequest(messages="Hi", model="m")
            plain = steps.translator.translate(request, stream=True).wire_request
            with pytest.MonkeyPatch.context() as monkeypatch:
                _watch(monkeypatch, blocking)
                await resources.enter_async_context(steps.auth)
                signed = [steps.auth.sign(plain, await steps.auth.acquire()) for _ in range(2)]
        assert set(signed[0].headers) == set(signed[1].headers), "the second request has different headers"
        for secret in self.canaries():
            assert secret not in signed[0].url, "the URL contains a secret; servers and proxies log URLs"
        assert not blocking, f"{blocking[0]} was called in the thread of the event loop"

    @pytest.mark.parametrize("method", ["chat", "stream"])
    async def test_credentials_are_in_their_headers(self, method: str) -> None:
        """Each request has the headers of the settings and of `credentials`, and no secret in another place."""
        async with self.serve(self.responds(method)) as server, self.service(server.url) as service:
            for _ in range(2):
                await self.ask(service, method)
        assert len(server.requests) == 2
        for request in server.requests:
            assert request.headers.get("x-canary") == canary("headers"), "the setting 'headers' is not sent"
            for name, value in self.credentials.items():
                found = request.headers.get(name.lower())
                assert found is not None, f"the header {name!r} in 'credentials' is not sent"
                assert found == value, f"the header {name!r} does not have the value in 'credentials'"
            for secret in self.canaries():
                assert secret not in request.target, "the URL contains a secret; servers and proxies log URLs"
                assert secret.encode() not in request.body, "the body of a chat request contains a secret"
                places = {name for name, value in request.headers.items() if secret in value and name != "x-canary"}
                others = sorted(places - {name.lower() for name in self.credentials})
                assert not others, f"a secret is sent in {', '.join(others)}, which 'credentials' lacks"
        if not self.credentials and self.facts().credentials:
            pytest.skip(
                "not tested: the headers with credentials. None of them has a secret as it is in the settings, and the "
                "test class has no 'credentials'"
            )

    @pytest.mark.parametrize("method", ["chat", "stream"])
    async def test_authorization_in_headers_replaces_the_key(self, method: str) -> None:
        """If the setting `headers` contains `Authorization`, it replaces the credentials, or the settings refuse it."""
        own = f"Bearer {canary('headers')}"
        headers = {"Authorization": own}
        if "extensions" in self.settings:
            return  # an extension may authenticate in the provider's place
        try:
            self.made_settings(headers=headers)
        except ConfigurationError:
            return
        async with self.serve(self.responds(method)) as server, self.service(server.url, headers=headers) as service:
            await self.ask(service, method)
        [request] = server.requests
        found = request.headers.get("authorization")
        assert found == own, "the header Authorization of the setting 'headers' is replaced; use `key_auth`"
        for name in self.credentials:
            assert name.lower() == "authorization" or name.lower() not in request.headers, (
                f"the header {name!r} is sent although the setting 'headers' contains Authorization, and APIs may "
                "refuse requests that authenticate twice; use `key_auth`"
            )

    async def test_each_secret_setting_is_sent(self) -> None:
        """If a secret setting changes, the requests or the token exchange change."""
        unclear: list[str] = []
        async with self.serve(self.responds("chat")) as server:
            for secret in self._secret_settings(server.url):
                used = [await self._is_used(server, secret, other) for other in _variants(secret.value)]
                assert False not in used, (
                    f"the setting {secret.name!r} is secret, but a call sends the same after it has changed: all of it "
                    "must be sent, or sign what is sent, in the request or in a token exchange"
                )
                if None in used and secret.given:
                    unclear.append(secret.name)
        if unclear:
            pytest.skip(f"two equal calls send different requests, or no other value is accepted: {', '.join(unclear)}")

    def _secret_settings(self, url: str) -> Iterator[_SecretSetting]:
        made = self.made_settings(url)
        for info in self.own_settings():
            if not info.secret:
                continue
            value = _revealed(getattr(made, info.name))
            given = bool(value)
            if not given and "extensions" in self.settings:
                continue  # an extension may authenticate in the provider's place
            # Another way to authenticate may take its place.
            others = {} if given else dict.fromkeys(self._group(info))
            yield _SecretSetting(
                name=info.name,
                value=value or canary(info.name),
                given=given,
                setting=value or canary(info.name),
                others=others,
            )
        for name, setting in self.settings.items():
            if not isinstance(setting, str):
                for value in sorted(canaries_in(setting)):
                    yield _SecretSetting(name=name, value=value, setting=replaced(setting, "{url}", url))

    def _group(self, info: SettingInfo) -> Iterator[str]:
        for other in setting_infos(self.plugin().settings):
            if (
                info.source_group is not None
                and other.source_group == info.source_group
                and other.name in self.settings
            ):
                yield other.name

    async def _is_used(self, server: LoopbackServer, secret: _SecretSetting, other: str) -> bool | None:
        """Return whether a change of a setting changes what a call sends, or `None` if the two cannot be compared."""
        plain, changed = secret.changed_to(secret.value), secret.changed_to(other)
        try:
            for settings in (plain, changed):
                self.made_settings(server.url, **settings)
        except ConfigurationError:
            return None
        # A signature may depend on a clock that stands still for a second only.
        for _ in range(5):
            with _same_time_and_randomness():
                before, after, again = [await self._what_is_sent(server, one) for one in (plain, changed, plain)]
            if isinstance(before, str):
                return None  # this value, which the kit made up, is refused
            if isinstance(after, tuple) and any(other in _text(request) for request in after):
                return True
            if before == again:
                return after != before
        return None

    async def _what_is_sent(self, server: LoopbackServer, changes: dict[str, object]) -> Sent:
        """Return what a call in a new service with these changes sends, or the error that it raises."""
        direct, routed = len(server.requests), len(server.routed)
        try:
            async with self.service(server.url, **changes) as service:
                await self.chat(service)
        except TrunklineError as error:
            return type(error).__name__
        return (*server.routed[routed:], *server.requests[direct:])

    # New credentials

    async def test_refused_credentials_are_renewed(self) -> None:
        """After a 401, the call asks for new credentials, with `refresh`, and the next attempt has them."""
        script = in_turn(self.fails(401), self.responds("chat"))
        for info in self.own_settings():
            if info.from_function and getattr(self.made_settings(), info.name):
                read = _Numbered(canary(info.name))
                async with self.serve(script) as server, self.service(server.url, **{info.name: read}) as service:
                    await self._check_renewal(service, server)
        if await self._exchanges():
            asked: list[int] = []

            async def noted(exchange: Exchange) -> None:
                asked.append(len(server.routed))
                await script(exchange)

            routes = {path: _numbered(body) for path, body in self.route_bodies().items()}
            async with self.serve(noted, routes) as server, self.service(server.url) as service:
                await self._check_renewal(service, server)
            assert asked[1] > asked[0], "after a 401, no new token is asked for"

    async def _check_renewal(self, service: ProviderService, server: LoopbackServer) -> None:
        message = "after a 401, the credentials stay the same: `acquire(refresh=True)` must not return those it has"
        with _same_time_and_randomness():
            try:
                await self.chat(service)
                await self.chat(service)
            except TrunklineError as error:
                raise AssertionError(f"{message} (the call failed: {error})") from error
        refused, *others = [(request.target, request.headers) for request in server.requests]
        assert refused not in others, message

    async def _exchanges(self) -> bool:
        """Whether a call asks one of the `routes` for something, such as a token."""
        if not self.routes:
            return False
        async with self.serve(self.responds("chat")) as server, self.service(server.url) as service:
            await self.chat(service)
            return bool(server.routed)

    # Token exchanges that hang

    @pytest.mark.parametrize("hangs", ["at-once", "in-the-body"])
    def test_hung_token_exchange_ends(self, hangs: str, anyio_backend_name: str) -> None:
        """A token exchange that hangs fails the call within two minutes, and the next call tries again."""
        _run_with_jumps(anyio_backend_name, partial(self._hung_exchange_ends, in_body=hangs == "in-the-body"))

    async def _hung_exchange_ends(self, jump: Callable[[float], None], *, in_body: bool) -> None:
        if not await self._exchanges():
            pytest.skip("n/a: no call asks one of the `routes` for a token")
        async with self._hung_exchange(in_body=in_body, first_chunk_timeout=60, chunk_timeout=60) as (service, hung):
            ended = anyio.Event()

            async def call() -> None:
                with suppress(TrunklineError):
                    await self.chat(service)
                ended.set()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await hung.wait()
                await anyio.wait_all_tasks_blocked()  # until the client has read what there is
                jump(EXCHANGE_LIMIT)
                with anyio.move_on_after(LIMIT):
                    await ended.wait()
                tasks.cancel_scope.cancel()
            assert ended.is_set(), f"a token exchange that hangs must end after {EXCHANGE_LIMIT:g} s at most"
            await self._check_recovery(service)

    async def test_cancelled_token_exchange_is_repeated(self) -> None:
        """If the call that waits for a token is cancelled, the next call gets a token."""
        async with self._hung_exchange() as (service, hung):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.chat, service)
                await hung.wait()
                tasks.cancel_scope.cancel()
            await self._check_recovery(service)

    async def _check_recovery(self, service: ProviderService) -> None:
        message = "after a token exchange that hung, the next call {} too"
        try:
            with anyio.move_on_after(LIMIT) as limit:
                await self.chat(service)
        except TrunklineError as error:
            raise AssertionError(f"{message.format('fails')}: {error}") from error
        assert not limit.cancelled_caught, message.format("hangs")

    @asynccontextmanager
    async def _hung_exchange(
        self, *, in_body: bool = False, **changes: object
    ) -> AsyncIterator[tuple[ProviderService, anyio.Event]]:
        """Open a service whose first token exchange hangs. The event is set when it has begun."""
        hung = anyio.Event()

        def route(body: bytes) -> Script:
            async def script(exchange: Exchange) -> None:
                if hung.is_set():
                    await exchange.respond(body)
                    return
                if in_body:
                    await exchange.start(headers=JSON)
                    await exchange.chunk(body[:1])
                hung.set()
                await exchange.hung_up()

            return script

        routes = {path: route(body) for path, body in self.route_bodies().items()}
        async with self.serve(self.responds("chat"), routes) as server:
            async with self.new_service(server.url, total_timeout=None, **changes) as service:
                yield service, hung


@attrs.frozen(kw_only=True)
class _SecretSetting:
    """A secret: the whole value of a setting, or a part of it, such as one in a table.

    `setting` contains the secret `value`. `others` are further settings that change with it.
    """

    name: str
    value: str
    setting: object
    given: bool = True
    others: dict[str, None] = attrs.field(factory=dict)

    def changed_to(self, value: str) -> dict[str, object]:
        """Return the settings in which the secret has another value."""
        return {**self.others, self.name: replaced(self.setting, self.value, value)}


class _Numbered:
    """A function for a setting with `from_function` that returns another key each time."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._calls = 0

    def __call__(self) -> str:
        self._calls += 1
        return f"{self._key}-{self._calls}"


def _numbered(body: bytes) -> Script:
    """Return a script that adds the number of the response to each canary in it."""
    count = 0

    async def script(exchange: Exchange) -> None:
        nonlocal count
        count += 1
        text = re.sub(rf"{CANARY}[\w-]*", rf"\g<0>-{count}", body.decode("utf-8", "surrogateescape"))
        await exchange.respond(text.encode("utf-8", "surrogateescape"))

    return script


def _revealed(value: object) -> str:
    if not isinstance(value, Secret):
        return ""
    return value.reveal() or (value.read() if value.read is not None else "")


def _variants(value: str) -> tuple[str, str]:
    """Return the value with another character at its start, and with one in another case at its end.

    They show that all of it is used, and that its case is kept.
    """
    end = value[-1].swapcase() if value[-1].isalpha() else ("1" if value[-1] != "1" else "2")
    return ("x" if value[0] != "x" else "y") + value[1:], value[:-1] + end


def _text(request: ReceivedRequest) -> str:
    return "\n".join([request.target, *request.headers.values(), request.body.decode("latin-1")])


@contextmanager
def _same_time_and_randomness() -> Iterator[None]:
    """Make `time.time()` stand still, and random numbers repeat, so that equal calls have equal signatures."""
    state, now, now_ns = random.getstate(), time.time(), time.time_ns()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(time, "time", lambda: now)
        monkeypatch.setattr(time, "time_ns", lambda: now_ns)
        # `uuid` and `secrets` take their random bytes from these two.
        monkeypatch.setattr(os, "urandom", lambda size: b"\x5e" * size)
        monkeypatch.setattr(random, "_urandom", lambda size: b"\x5e" * size)
        random.seed(0)
        try:
            yield
        finally:
            random.setstate(state)


def _run_with_jumps(backend: str, function: Callable[[Callable[[float], None]], Awaitable[None]]) -> None:
    """Run a function in a new event loop, with a function that moves the loop's clock by some seconds."""
    if backend == "trio":
        from trio.testing import MockClock

        clock = MockClock(rate=1)
        anyio.run(function, clock.jump, backend="trio", backend_options={"clock": clock})
        return

    skipped = 0.0

    class Loop(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return super().time() + skipped

    def jump(seconds: float) -> None:
        nonlocal skipped
        skipped += seconds

    anyio.run(function, jump, backend="asyncio", backend_options={"loop_factory": Loop})


def _watch(monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    """Record calls of blocking functions that this thread makes."""
    here = threading.get_ident()

    def watched(owner: Any, name: str) -> None:
        known = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            # trio calls `getaddrinfo` for addresses in numbers, which does not block.
            flags = options.get("flags", arguments[5] if len(arguments) > 5 else 0)
            numeric = name == "getaddrinfo" and flags & socket.AI_NUMERICHOST
            if threading.get_ident() == here and not numeric:
                found.append(name)
            return known(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    watched(time, "sleep")
    watched(socket, "getaddrinfo")
    watched(socket, "create_connection")
    watched(subprocess, "run")
