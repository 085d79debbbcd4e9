"""Keys and tokens: what is sent, when a token is acquired anew, and how often."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest
from trunkline._plugins.registry import open_steps
from trunkline.authoring.auth import RETRY_EARLY
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireRequest
from trunkline.errors import AuthenticationError, PermissionDenied
from trunkline.opening import open_service
from trunkline.secrets import Secret
from trunkline.service import Service
from trunkline.testing import Exchange, serve
from trunkline_azure_openai import AzureOpenAISettings, TokenProvider, azure_openai
from trunkline_azure_openai.auth import MARGIN, TokenAuth
from trunkline_azure_openai.tokens import UNKNOWN_LIFETIME, token_from
from trunkline_azure_openai.urls import PUBLIC

SCOPE = PUBLIC.scope

MANY = 500
IN_FLIGHT = 150
HOUR = 3600.0
ANSWER = b'{"id":"c","model":"m","choices":[{"index":0,"message":{"content":"hello"},"finish_reason":"stop"}]}'
LIMIT = 60.0
"""Seconds after which a test that hangs fails."""


@attrs.define
class Clock:
    """A clock that stands until it is set."""

    time: float = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@attrs.frozen
class AccessToken:
    """What azure-identity gives."""

    token: str
    expires_on: float
    refresh_on: float | None = None


class Source:
    """A token provider that numbers its tokens; each is good for an hour."""

    def __init__(self, clock: Clock, life: float = HOUR) -> None:
        self.clock = clock
        self.life = life
        self.count = 0
        self.failure: Exception | None = None

    def give(self) -> AccessToken:
        if self.failure is not None:
            raise self.failure
        self.count += 1
        return AccessToken(f"token-{self.count}", self.clock() + self.life)

    async def __call__(self) -> AccessToken:
        await anyio.lowlevel.checkpoint()
        return self.give()


@pytest.fixture(autouse=True)
def _clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.authoring.auth.monotonic", lambda: CLOCKS["monotonic"]())
    monkeypatch.setattr("trunkline_azure_openai.auth.wall_clock", lambda: CLOCKS["wall"]())


CLOCKS = {"monotonic": Clock(), "wall": Clock()}


def auth_for(provider: TokenProvider, clock: Clock, *, wall: Clock | None = None, **fields: Any) -> TokenAuth:
    CLOCKS.update(monotonic=clock, wall=wall or clock)
    settings = AzureOpenAISettings(api_url="https://r.openai.azure.com", token_provider=provider, **fields)
    return TokenAuth(ServiceContext(name="mine", provider="azure-openai", settings=settings))


# What is sent


def steps(**fields: Any) -> Any:
    settings = AzureOpenAISettings(**{"api_url": "https://r.openai.azure.com", **fields})
    return open_steps(azure_openai, ServiceContext(name="mine", provider="azure-openai", settings=settings))


@pytest.mark.anyio
async def test_a_key_goes_into_its_header_alone() -> None:
    auth = steps(api_key="key-REDACTED").auth
    signed = auth.sign(WireRequest(url="https://x"), await auth.acquire())
    assert dict(signed.headers) == {"api-key": "key-REDACTED"}
    assert "REDACTED" not in repr(auth)


@pytest.mark.anyio
async def test_a_token_goes_into_its_header_alone() -> None:
    auth = steps(token_provider=lambda: "token-REDACTED").auth
    async with auth:
        credentials = await auth.acquire()
        signed = auth.sign(WireRequest(url="https://x"), credentials)
    assert dict(signed.headers) == {"authorization": "Bearer token-REDACTED"}
    assert "REDACTED" not in repr(auth) + repr(credentials)


# Kinds of providers


class SyncCredential:
    def __init__(self) -> None:
        self.scopes: tuple[str, ...] = ()
        self.thread: int | None = None

    def get_token(self, *scopes: str) -> AccessToken:
        self.scopes, self.thread = scopes, threading.get_ident()
        return AccessToken("t", 2e9)


class AsyncCredential:
    def __init__(self) -> None:
        self.scopes: tuple[str, ...] = ()

    async def get_token(self, *scopes: str) -> AccessToken:
        self.scopes = scopes
        await anyio.lowlevel.checkpoint()
        return AccessToken("t", 2e9)


async def from_coroutine() -> str:
    await anyio.lowlevel.checkpoint()
    return "t"


class AsyncCallable:
    async def __call__(self) -> Secret:
        await anyio.lowlevel.checkpoint()
        return Secret("t")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "make",
    [
        lambda: lambda: "t",
        lambda: lambda: AccessToken("t", 2e9),
        lambda: lambda: from_coroutine(),
        lambda: from_coroutine,
        AsyncCallable,
        SyncCredential,
        AsyncCredential,
    ],
)
async def test_a_token_comes_from_any_kind_of_provider(make: Callable[[], TokenProvider]) -> None:
    assert (await auth_for(make(), Clock()).acquire()).reveal() == "t"


@pytest.mark.anyio
@pytest.mark.parametrize("make", [SyncCredential, AsyncCredential])
async def test_a_credential_is_asked_for_the_scope(make: Callable[[], Any]) -> None:
    credential = make()
    await auth_for(credential, Clock()).acquire()
    assert credential.scopes == (SCOPE,)
    await auth_for(credential, Clock(), scope="https://ai.azure.com/.default").acquire()
    assert credential.scopes == ("https://ai.azure.com/.default",)


@pytest.mark.anyio
async def test_a_sync_provider_runs_in_a_worker_thread() -> None:
    credential = SyncCredential()
    await auth_for(credential, Clock()).acquire()
    assert credential.thread not in (None, threading.get_ident())


@pytest.mark.anyio
async def test_a_call_that_waits_for_a_sync_provider_can_be_cancelled() -> None:
    released = threading.Event()

    def provider() -> str:
        released.wait(LIMIT)
        return "t"

    auth = auth_for(provider, Clock())
    try:
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(auth.acquire)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
    finally:
        released.set()
    assert (await auth.acquire()).reveal() == "t"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("host", "variable", "scope", "options"),
    [
        ("r.openai.azure.com", "", SCOPE, {}),
        ("gateway.example", "", SCOPE, {}),
        ("r.openai.azure.us", "", "https://cognitiveservices.azure.us/.default", {"authority": "US"}),
        ("R.Services.AI.Azure.US.", "", "https://cognitiveservices.azure.us/.default", {"authority": "US"}),
        ("virginia.api.cognitive.microsoft.us", "", "https://cognitiveservices.azure.us/.default", {"authority": "US"}),
        ("r.openai.azure.cn", "", "https://cognitiveservices.azure.cn/.default", {"authority": "CHINA"}),
        ("r.openai.azure.us", "login.example", "https://cognitiveservices.azure.us/.default", {}),
    ],
)
async def test_tokens_come_from_the_cloud_of_the_resource(
    host: str, variable: str, scope: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = pytest.importorskip("azure.identity")
    authorities = {
        "US": identity.AzureAuthorityHosts.AZURE_GOVERNMENT,
        "CHINA": identity.AzureAuthorityHosts.AZURE_CHINA,
    }
    made: list[tuple[SyncCredential, dict[str, str]]] = []

    class Default(SyncCredential):
        def __init__(self, **options: str) -> None:
            super().__init__()
            made.append((self, options))

        def close(self) -> None:
            pass

    monkeypatch.setattr(identity, "DefaultAzureCredential", Default)
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", variable)
    async with steps(api_url=f"https://{host}/", token_provider="azure-identity").auth as auth:
        await auth.acquire()
    [(credential, given)] = made
    assert credential.scopes == (scope,)
    assert given == {name: authorities[value] for name, value in options.items()}


@pytest.mark.anyio
async def test_azure_identity_gives_its_default_credential_which_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = pytest.importorskip("azure.identity")
    made: list[Any] = []

    class Default(SyncCredential):
        closed = False

        def __init__(self) -> None:
            super().__init__()
            made.append(self)

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(identity, "DefaultAzureCredential", Default)
    async with auth_for("azure-identity", Clock()) as auth:
        await auth.acquire()
        await auth.acquire(refresh=True)
        [credential] = made
        assert credential.scopes == (SCOPE,)
        assert not credential.closed
    assert credential.closed


@pytest.mark.anyio
async def test_a_real_credential_without_an_environment_tells_what_it_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = pytest.importorskip("azure.identity")
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_USERNAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AuthenticationError, match="EnvironmentCredential authentication unavailable"):
        await auth_for(identity.EnvironmentCredential(), Clock()).acquire()


# How long a token is kept


def jwt(claims: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.c2ln"


NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("given", "expires_in", "renew_in"),
    [
        ("opaque", UNKNOWN_LIFETIME, None),
        (" opaque\n", UNKNOWN_LIFETIME, None),
        (jwt({"exp": NOW + HOUR}), HOUR, None),
        (jwt({}), UNKNOWN_LIFETIME, None),
        (jwt([]), UNKNOWN_LIFETIME, None),
        ("a.!!.c", UNKNOWN_LIFETIME, None),
        (AccessToken("t", NOW + HOUR), HOUR, None),
        (AccessToken("t", NOW - 5), UNKNOWN_LIFETIME, None),
        (AccessToken("t", NOW + HOUR, NOW + 60), HOUR, 60),
        (AccessToken("t", NOW + HOUR, NOW - 60), HOUR, None),
        (AccessToken("t", str(NOW + HOUR)), HOUR, None),  # type: ignore[arg-type]
        (AccessToken("t", datetime.fromtimestamp(NOW + HOUR, UTC)), HOUR, None),  # type: ignore[arg-type]
        (AccessToken("t", float("nan")), UNKNOWN_LIFETIME, None),
        (AccessToken("t", "soon"), UNKNOWN_LIFETIME, None),  # type: ignore[arg-type]
    ],
)
def test_a_token_tells_how_long_it_is_good(given: object, expires_in: float, renew_in: float | None) -> None:
    token = token_from(given, NOW)
    assert (token.expires_in, token.renew_in) == (expires_in, renew_in)


@pytest.mark.parametrize("given", [None, "", " ", 7, b"t", AccessToken("", 1), "two words", "ü", "a\nb"])
def test_what_is_no_token_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="token"):
        token_from(given, NOW)


@pytest.mark.anyio
async def test_a_token_is_kept_until_shortly_before_it_expires() -> None:
    clock = Clock()
    source = Source(clock)
    auth = auth_for(source, clock)
    for passed, value in [(0, "token-1"), (HOUR - MARGIN - 1, "token-1"), (1, "token-2"), (HOUR / 2, "token-2")]:
        clock.time += passed
        assert (await auth.acquire()).reveal() == value


@pytest.mark.anyio
async def test_a_refused_token_is_acquired_anew() -> None:
    clock = Clock()
    auth = auth_for(Source(clock), clock)
    assert (await auth.acquire()).reveal() == "token-1"
    assert (await auth.acquire(refresh=True)).reveal() == "token-2"
    assert (await auth.acquire()).reveal() == "token-2"


class Slow(Source):
    """A provider that waits until it is let go."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.go = anyio.Event()

    async def __call__(self) -> AccessToken:
        await self.go.wait()
        return self.give()


async def acquire_many(auth: TokenAuth, source: Slow, count: int, **options: bool) -> list[str]:
    found: list[str] = []

    async def one() -> None:
        try:
            found.append((await auth.acquire(**options)).reveal())
        except AuthenticationError as error:
            found.append(str(error))

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            source.go.set()
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("refresh", [False, True])
async def test_all_who_wait_share_one_renewal(refresh: bool) -> None:
    clock = Clock()
    source = Slow(clock)
    assert await acquire_many(auth_for(source, clock), source, MANY, refresh=refresh) == ["token-1"] * MANY
    assert source.count == 1


@pytest.mark.anyio
async def test_all_who_wait_share_one_failure_and_the_next_call_tries_again() -> None:
    clock = Clock()
    source = Slow(clock)
    source.failure = OSError("no route to the identity endpoint")
    calls: list[int] = []
    give = source.give
    source.give = lambda: (calls.append(1), give())[1]  # type: ignore[method-assign]
    auth = auth_for(source, clock)
    found = await acquire_many(auth, source, 50)
    assert len(calls) == 1
    assert len(found) == 50
    assert all("OSError: no route to the identity endpoint" in text for text in found)
    source.failure = None
    assert (await auth.acquire()).reveal() == "token-1"


@pytest.mark.anyio
async def test_while_one_call_renews_early_the_others_go_on_with_the_token_they_have() -> None:
    clock = Clock()
    source = Slow(clock)
    source.go.set()
    auth = auth_for(source, clock)
    await auth.acquire()
    clock.time += HOUR - MARGIN + 1
    source.go = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(auth.acquire)
        await anyio.wait_all_tasks_blocked()
        assert (await auth.acquire()).reveal() == "token-1"
        source.go.set()
    assert (await auth.acquire()).reveal() == "token-2"


@pytest.mark.anyio
async def test_a_renewal_that_is_cancelled_is_taken_up_by_the_next_in_line() -> None:
    clock = Clock()
    source = Slow(clock)
    auth = auth_for(source, clock)
    values: list[str] = []

    async def wait() -> None:
        values.append((await auth.acquire()).reveal())

    async with anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def cancelled() -> None:
            with first:
                await auth.acquire()

        tasks.start_soon(cancelled)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        source.go.set()
    assert values == ["token-1"]
    assert source.count == 1


@pytest.mark.anyio
async def test_a_failed_early_renewal_leaves_a_good_token_in_use(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    source = Source(clock)
    auth = auth_for(source, clock)
    await auth.acquire()
    clock.time += HOUR - MARGIN + 1
    source.failure = OSError(f"unreachable, with {jwt({'a': 1})}")
    with caplog.at_level(logging.WARNING, logger="trunkline.auth"):
        assert (await auth.acquire()).reveal() == "token-1"
        assert (await auth.acquire()).reveal() == "token-1"
    assert [record.getMessage() for record in caplog.records] == [
        "renewing a token failed (AuthenticationError); the old one is valid for another 299 s"
    ]
    clock.time += RETRY_EARLY
    source.failure = None
    assert (await auth.acquire()).reveal() == "token-2"
    clock.time += 2 * HOUR
    source.failure = OSError("unreachable")
    with pytest.raises(AuthenticationError, match="unreachable"):
        await auth.acquire()


@pytest.mark.anyio
async def test_what_a_provider_gives_that_is_no_token_is_told_without_its_value() -> None:
    auth = auth_for(lambda: {"token": "token-REDACTED"}, Clock())
    with pytest.raises(AuthenticationError, match="'token', not dict") as caught:
        await auth.acquire()
    assert "REDACTED" not in str(caught.value)


# Through a service


@pytest.fixture
def clock() -> Clock:
    """The clock of every service that the test opens."""
    clock = Clock()
    CLOCKS.update(monotonic=clock, wall=clock)
    return clock


class Gate:
    """A server that takes one token; what is sent with another is answered with 401."""

    def __init__(self, good: str, *, hold: int = 0) -> None:
        self.good = good
        self.hold = hold
        self.held = anyio.Event()
        self.refused = 0

    async def __call__(self, exchange: Exchange) -> None:
        assert "api-key" not in exchange.request.headers
        if exchange.request.headers["authorization"] == f"Bearer {self.good}":
            return await exchange.respond(ANSWER)
        self.refused += 1
        if self.refused >= self.hold:
            self.held.set()
        # All are refused together: each has been sent with the old token.
        await self.held.wait()
        return await exchange.respond(b'{"error":{"code":"401","message":"expired"}}', status=401)


async def chat_many(service: Service, count: int) -> int:
    answers: list[str] = []

    async def one() -> None:
        answers.append((await service.chat("hi")).text)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(one)
    return answers.count("hello")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_many_concurrent_calls_across_an_expiry_cause_one_refresh_and_no_failure(
    clock: Clock, kind: str, exhaustive: bool
) -> None:
    source = Source(clock)
    provider: TokenProvider = source if kind == "async" else source.give
    gate = Gate("token-1")
    async with serve(gate) as server:
        async with open_service(
            "azure-openai", api_url=server.url, token_provider=provider, default_model="m", max_retries=0
        ) as service:
            assert await chat_many(service, 1) == 1
            clock.time += HOUR + 1
            gate.good = "token-2"
            count = MANY if exhaustive else 120
            assert await chat_many(service, count) == count
    assert (source.count, gate.refused) == (2, 0)


@pytest.mark.anyio
async def test_calls_that_are_refused_in_flight_cause_one_refresh_and_no_failure(clock: Clock) -> None:
    source = Source(clock)
    gate = Gate("token-1")
    async with serve(gate) as server:
        async with open_service(
            "azure-openai", api_url=server.url, token_provider=source, default_model="m", max_retries=0
        ) as service:
            assert await chat_many(service, 1) == 1
            # The token is revoked: our clock says that it is good. All are sent with it before one is refused.
            gate.good, gate.hold = "token-2", IN_FLIGHT
            assert await chat_many(service, IN_FLIGHT) == IN_FLIGHT
    assert (source.count, gate.refused) == (2, IN_FLIGHT)


@pytest.mark.anyio
async def test_a_token_that_stays_refused_is_renewed_once_and_the_error_is_clear(clock: Clock) -> None:
    source = Source(clock)

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(
            b'{"error":{"code":"401","message":"expired"}}', status=401, headers={"apim-request-id": "r1"}
        )

    async with serve(refuse) as server:
        async with open_service(
            "azure-openai", api_url=server.url, token_provider=source, default_model="m"
        ) as service:
            with pytest.raises(AuthenticationError, match="expired") as caught:
                await service.chat("hi")
        assert len(server.requests) == 2
    assert source.count == 2
    assert (caught.value.request_id, caught.value.retryable) == ("r1", False)


@pytest.mark.anyio
async def test_a_token_that_the_service_echoes_is_scrubbed(clock: Clock) -> None:
    source = Source(clock)

    async def refuse(exchange: Exchange) -> None:
        sent = exchange.request.headers["authorization"]
        body = {"error": {"code": "401", "message": f"refused {sent}", "details": [sent, "token-1"]}}
        await exchange.respond(json.dumps(body).encode(), status=401)

    async with serve(refuse) as server:
        async with open_service(
            "azure-openai", api_url=server.url, token_provider=source, default_model="m"
        ) as service:
            with pytest.raises(AuthenticationError, match=r"refused Bearer \*\*\*") as caught:
                await service.chat("hi")
    assert source.count == 2
    assert "token-" not in f"{caught.value} {caught.value.body}"


@pytest.mark.anyio
async def test_a_failed_refresh_does_not_stand_in_the_way_of_a_token_that_is_still_good() -> None:
    clock = Clock()
    source = Source(clock)
    auth = auth_for(source, clock)
    await auth.acquire()
    source.failure = OSError("unreachable")
    with pytest.raises(AuthenticationError):
        await auth.acquire(refresh=True)
    clock.time += HOUR - MARGIN + 1
    assert (await auth.acquire()).reveal() == "token-1"


@pytest.mark.anyio
async def test_a_missing_role_is_told_and_no_token_is_acquired_for_it() -> None:
    source = Source(Clock())

    async def refuse(exchange: Exchange) -> None:
        body = {"error": {"code": "PermissionDenied", "message": "The principal `p` lacks the required data action"}}
        await exchange.respond(json.dumps(body).encode(), status=401)

    async with serve(refuse) as server:
        async with open_service(
            "azure-openai", api_url=server.url, token_provider=source, default_model="m"
        ) as service:
            with pytest.raises(PermissionDenied, match="Cognitive Services OpenAI User"):
                await service.chat("hi")
        assert len(server.requests) == 1
    assert source.count == 1


@pytest.mark.anyio
async def test_cancelled_call_does_not_wait_for_the_thread_that_makes_the_credential(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started, release, released = threading.Event(), threading.Event(), threading.Event()

    def block(authority: str) -> None:
        started.set()
        release.wait(10)
        released.set()

    monkeypatch.setattr("trunkline_azure_openai.auth._default_credential", block)
    try:
        async with (
            open_service(
                "azure-openai",
                api_url="http://127.0.0.1:9",
                token_provider="azure-identity",
                default_model="m",
                max_retries=0,
            ) as service,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(service.chat, "hi")
            while not started.is_set():
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert not released.is_set(), "the call waited for the thread"
    finally:
        release.set()


@pytest.mark.anyio
@pytest.mark.parametrize("jump", [-HOUR, HOUR])
async def test_wall_clock_that_is_set_changes_nothing(jump: float) -> None:
    """Fault class 81."""
    clock, wall = Clock(), Clock()
    auth = auth_for(Source(wall), clock, wall=wall)
    await auth.acquire()
    wall.time += jump
    assert (await auth.acquire()).reveal() == "token-1"
    clock.time += HOUR
    wall.time += HOUR
    assert (await auth.acquire()).reveal() == "token-2"


@pytest.mark.anyio
@pytest.mark.parametrize("wrong_by", [-2 * HOUR, 2 * HOUR])
async def test_token_is_used_although_the_wall_clock_is_wrong(wrong_by: float) -> None:
    """Fault class 81."""
    clock, wall, server = Clock(), Clock(), Clock()
    wall.time += wrong_by
    auth = auth_for(Source(server), clock, wall=wall)
    for _ in range(3):
        assert (await auth.acquire()).reveal() == "token-1"
    assert (await auth.acquire(refresh=True)).reveal() == "token-2"
