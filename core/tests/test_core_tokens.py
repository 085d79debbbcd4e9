"""Tokens that expire: when one is fetched, which calls wait for it, what is raised, and what is not shown."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from trunkline.authoring.auth import RETRY_EARLY, CachedToken, HeaderAuth, Token, fetch_response
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireRequest
from trunkline.errors import (
    AuthenticationError,
    CallError,
    ConnectionFailed,
    PluginError,
    ProtocolViolation,
    ServerError,
    TrunklineError,
)
from trunkline.secrets import Secret
from trunkline.settings import Settings
from trunkline.testing import Exchange, closed_port, serve

pytestmark = pytest.mark.anyio

HOUR = 3600.0
LIMIT = 30.0


class Clock:
    """A clock that stands until it is set."""

    time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("trunkline.authoring.auth.monotonic", clock)
    return clock


class Source:
    """Gives numbered tokens. `go` lets the exchanges end that wait."""

    def __init__(self, expires_in: float | str | None = HOUR) -> None:
        self.expires_in = expires_in
        self.count = 0
        self.failure: Exception | None = None
        self.go = anyio.Event()
        self.go.set()

    async def __call__(self) -> Token:
        self.count += 1
        number = self.count
        await checkpoint()
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return Token(f"token-{number}", self.expires_in)


async def together(count: int, call: Callable[[], Awaitable[Any]], go: anyio.Event | None = None) -> list[Any]:
    """Make several calls at once, and return their results and errors."""
    found: list[Any] = []

    async def one() -> None:
        try:
            found.append(await call())
        except Exception as error:
            found.append(error)

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(one)
            if go is not None:
                await anyio.wait_all_tasks_blocked()
                go.set()
    return found


async def add_token(auth: CachedToken, found: list[str]) -> None:
    found.append((await auth.acquire()).reveal())


async def due_token(clock: Clock) -> tuple[Source, CachedToken]:
    """Return an `Auth` with a token that is due for renewal, and its source, which holds up the renewal."""
    source = Source()
    auth = CachedToken(source)
    await auth.acquire()
    clock.time += HOUR - 59
    source.go = anyio.Event()
    return source, auth


# The life of a token


@pytest.mark.parametrize(("expires_in", "kept_for"), [(HOUR, HOUR - 60), (100.0, 50.0), (120.0, 60.0), (2.0, 1.0)])
async def test_token_is_kept_until_the_margin_or_half_its_life(
    expires_in: float, kept_for: float, clock: Clock
) -> None:
    auth = CachedToken(Source(expires_in))
    for passed, value in [(0.0, "token-1"), (kept_for - 0.5, "token-1"), (0.5, "token-2")]:
        clock.time += passed
        assert (await auth.acquire()).reveal() == value


async def test_service_for_tokens_may_ask_for_an_earlier_renewal(clock: Clock) -> None:
    source = Source()

    async def fetch() -> Token:
        token = await source()
        return Token(token.value, token.expires_in, renew_in=600.0)

    auth = CachedToken(fetch)
    for passed, value in [(0.0, "token-1"), (599.0, "token-1"), (1.0, "token-2")]:
        clock.time += passed
        assert (await auth.acquire()).reveal() == value


async def test_token_without_expiry_is_kept_until_it_is_refused(clock: Clock) -> None:
    auth = CachedToken(Source(None))
    await auth.acquire()
    clock.time += 1000 * HOUR
    assert (await auth.acquire()).reveal() == "token-1"
    assert (await auth.acquire(refresh=True)).reveal() == "token-2"
    assert (await auth.acquire()).reveal() == "token-2"


@pytest.mark.parametrize("expires_in", [0.0, -5.0, float("nan")])
async def test_token_that_expired_already_is_used_by_those_who_wait(expires_in: float) -> None:
    source = Source(expires_in)
    source.go = anyio.Event()
    auth = CachedToken(source)
    assert {token.reveal() for token in await together(5, auth.acquire, source.go)} == {"token-1"}
    assert (await auth.acquire()).reveal() == "token-2"


async def test_life_as_text_or_of_any_size_is_accepted(clock: Clock) -> None:
    for expires_in in ("3600", 10**400, float("inf")):
        auth = CachedToken(Source(expires_in))
        for passed, value in [(0.0, "token-1"), (HOUR - 61, "token-1")]:
            clock.time += passed
            assert (await auth.acquire()).reveal() == value
    with pytest.raises(ProtocolViolation, match="the life of a token is not a number of seconds"):
        Token("token", "soon")


@pytest.mark.parametrize("renew_in", [0.0, -5.0, float("nan")])
async def test_time_of_renewal_that_is_over_does_not_renew_with_each_call(renew_in: float, clock: Clock) -> None:
    source = Source()

    async def fetch() -> Token:
        return Token((await source()).value, HOUR, renew_in=renew_in)

    auth = CachedToken(fetch)
    for passed, value in [(0.0, "token-1"), (29.0, "token-1"), (1.0, "token-2")]:
        clock.time += passed
        assert (await auth.acquire()).reveal() == value


async def test_wall_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = CachedToken(Source())
    await auth.acquire()
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert (await auth.acquire()).reveal() == "token-1"


# Who waits


@pytest.mark.parametrize("refresh", [False, True])
async def test_all_who_wait_share_one_exchange(refresh: bool) -> None:
    source = Source()
    source.go = anyio.Event()
    auth = CachedToken(source)
    found = await together(100, partial(auth.acquire, refresh=refresh), source.go)
    assert found == [Secret("token-1")] * 100
    assert source.count == 1


async def test_others_use_the_old_token_while_one_call_renews_it(clock: Clock) -> None:
    source, auth = await due_token(clock)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(auth.acquire)
            await anyio.wait_all_tasks_blocked()
            assert (await auth.acquire()).reveal() == "token-1"
            source.go.set()
    assert (await auth.acquire()).reveal() == "token-2"
    assert source.count == 2


async def test_next_call_in_the_queue_repeats_a_cancelled_exchange() -> None:
    source = Source()
    source.go = anyio.Event()
    auth = CachedToken(source)
    found: list[str] = []
    first = anyio.CancelScope()

    async def cancelled() -> None:
        with first:
            await auth.acquire()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancelled)
            await anyio.wait_all_tasks_blocked()
            for _ in range(5):
                tasks.start_soon(add_token, auth, found)
            await anyio.wait_all_tasks_blocked()
            first.cancel()
            await anyio.wait_all_tasks_blocked()
            source.go.set()
    assert found == ["token-2"] * 5
    assert source.count == 2


async def test_cancelled_waiter_does_not_end_the_exchange_of_the_others() -> None:
    source = Source()
    source.go = anyio.Event()
    auth = CachedToken(source)
    found: list[str] = []
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(add_token, auth, found)
            await anyio.wait_all_tasks_blocked()
            async with anyio.create_task_group() as others:
                others.start_soon(add_token, auth, found)
                await anyio.wait_all_tasks_blocked()
                others.cancel_scope.cancel()
            source.go.set()
    assert found == ["token-1"]
    assert source.count == 1


async def test_renewal_that_is_cancelled_holds_up_no_other_call(clock: Clock) -> None:
    source, auth = await due_token(clock)
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(auth.acquire)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        assert (await auth.acquire()).reveal() == "token-1"
        source.go.set()
        clock.time += RETRY_EARLY
        assert (await auth.acquire()).reveal() == "token-3"


# A 401


async def test_refused_token_is_asked_for_again_once_if_it_stays_the_same(clock: Clock) -> None:
    count = 0

    async def fetch() -> Token:
        nonlocal count
        count += 1
        return Token("the same", HOUR)

    auth = CachedToken(lambda: fetch_other(fetch))
    await auth.acquire()
    for _ in range(20):
        assert (await auth.acquire(refresh=True)).reveal() == "the-same"
    assert count == 2
    clock.time += RETRY_EARLY
    await auth.acquire(refresh=True)
    assert count == 3


async def fetch_other(fetch: Callable[[], Awaitable[Token]]) -> Token:
    token = await fetch()
    return Token(token.value.reveal().replace(" ", "-"), token.expires_in)


class Gate:
    """A server that refuses some tokens, all requests with a token together. `refused` is their number."""

    def __init__(self, refuse: Callable[[str], bool], hold: int) -> None:
        self.refuse = refuse
        self.hold = hold
        self.refused = 0
        self.held = anyio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        given = exchange.request.headers["authorization"]
        if not self.refuse(given):
            return await exchange.respond(b'{"text": "Hello"}')
        self.refused += 1
        if self.refused == self.hold:
            self.held.set()
        await self.held.wait()
        return await exchange.respond(f"no {given}".encode(), status=401)


async def test_twenty_refused_calls_make_two_exchanges(toy: Any) -> None:
    source = Source()
    gate = Gate(lambda given: given.endswith("token-1"), 20)
    async with serve(gate) as server, toy(server.url, {"auth": lambda context: CachedToken(source)}) as service:
        answers = await together(20, lambda: service.chat("Hello"))
    assert [answer.text for answer in answers] == ["Hello"] * 20
    assert (source.count, gate.refused) == (2, 20)


async def test_twenty_calls_whose_tokens_are_all_refused_make_two_exchanges(toy: Any) -> None:
    source = Source()
    gate = Gate(lambda given: True, 20)
    async with serve(gate) as server, toy(server.url, {"auth": lambda context: CachedToken(source)}) as service:
        errors = await together(20, lambda: service.chat("Hello"))
    assert {type(error) for error in errors} == {AuthenticationError}
    assert (source.count, gate.refused) == (2, 40)
    assert "token-" not in "".join(f"{error!r} {vars(error)}" for error in errors)


# Failures


async def test_all_who_wait_share_one_failure_and_the_next_call_tries_again() -> None:
    source = Source()
    source.failure = ServerError("no token today", status=500)
    source.go = anyio.Event()
    auth = CachedToken(source)
    errors = await together(50, auth.acquire, source.go)
    assert source.count == 1
    assert {str(error) for error in errors} == {str(source.failure)}
    assert len({id(error) for error in errors}) == 50
    source.failure = None
    assert (await auth.acquire()).reveal() == "token-2"


async def test_shared_exception_of_another_library_does_not_collect_tracebacks() -> None:
    source = Source()
    source.failure = OSError("no route")
    source.go = anyio.Event()
    errors = await together(50, CachedToken(source).acquire, source.go)
    assert {id(error) for error in errors} == {id(source.failure)}
    length, traceback = 0, source.failure.__traceback__
    while traceback is not None:
        length, traceback = length + 1, traceback.tb_next
    assert length < 10


async def test_failed_renewal_leaves_a_valid_token_in_use(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    source = Source()
    auth = CachedToken(source)
    await auth.acquire()
    clock.time += HOUR - 59
    source.failure = OSError("the secret is s3cr3t")
    with caplog.at_level(logging.WARNING, logger="trunkline.auth"):
        for _ in range(3):
            assert (await auth.acquire()).reveal() == "token-1"
    message = "renewing a token failed (OSError); the old one is valid for another 59 s"
    assert [record.getMessage() for record in caplog.records] == [message]
    clock.time += 59
    with pytest.raises(OSError, match="s3cr3t"):
        await auth.acquire()
    source.failure = None
    assert (await auth.acquire()).reveal() == "token-4"


async def test_failed_renewal_leaves_a_token_without_expiry_in_use(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()

    async def fetch() -> Token:
        return Token((await source()).value, None, renew_in=600.0)

    auth = CachedToken(fetch)
    await auth.acquire()
    clock.time += 600
    source.failure = OSError("unreachable")
    with caplog.at_level(logging.WARNING, logger="trunkline.auth"):
        assert (await auth.acquire()).reveal() == "token-1"
    message = "renewing a token failed (OSError); the old one is valid until it is refused"
    assert [record.getMessage() for record in caplog.records] == [message]


@pytest.mark.parametrize("expires_in", [0.0, float("nan")])
async def test_expired_token_is_not_used_after_a_failed_renewal(expires_in: float) -> None:
    source = Source(expires_in)
    auth = CachedToken(source)
    await auth.acquire()
    source.failure = OSError("unreachable")
    with pytest.raises(OSError, match="unreachable"):
        await auth.acquire()


async def test_failed_refresh_does_not_remove_a_token_that_is_still_valid() -> None:
    source = Source()
    auth = CachedToken(source)
    await auth.acquire()
    source.failure = OSError("unreachable")
    with pytest.raises(OSError, match="unreachable"):
        await auth.acquire(refresh=True)
    assert (await auth.acquire()).reveal() == "token-1"


async def test_exchange_that_hangs_ends_for_all_who_wait() -> None:
    source = Source()
    source.go = anyio.Event()
    errors = await together(20, CachedToken(source, timeout=0.01).acquire)
    assert {type(error) for error in errors} == {ConnectionFailed}
    assert {str(error) for error in errors} == {"the provider: fetching a token did not end within 0.01 s"}
    assert source.count == 1


@pytest.mark.parametrize(
    ("value", "problem"), [("", "not empty"), ("two words", "a space"), ("a\nb", "a line break"), ("tök", "DIAERESIS")]
)
async def test_token_that_cannot_be_sent_is_refused_without_showing_it(value: str, problem: str) -> None:
    async def fetch() -> Token:
        return Token(value, HOUR)

    with pytest.raises(ProtocolViolation, match=problem) as caught:
        await CachedToken(fetch).acquire()
    assert not value or value not in str(caught.value)


async def test_other_exception_of_fetch_becomes_a_plugin_error(toy: Any) -> None:
    source = Source()
    source.failure = KeyError("access_token")
    async with toy("http://127.0.0.1:9", {"auth": lambda context: CachedToken(source)}) as service:
        with pytest.raises(PluginError, match="access_token"):
            await service.chat("Hello")


# What is sent and what is shown


async def test_token_is_sent_in_the_chosen_header() -> None:
    auth = CachedToken(Source(), header="x-token", prefix="")
    signed = auth.sign(WireRequest(url="https://x"), await auth.acquire())
    assert dict(signed.headers) == {"x-token": "token-1"}
    plain = CachedToken(Source())
    signed = plain.sign(WireRequest(url="https://x"), await plain.acquire())
    assert dict(signed.headers) == {"authorization": "Bearer token-1"}


async def test_secrets_are_the_current_token_and_those_before_it() -> None:
    auth = CachedToken(Source(), secrets=["client-secret", Secret("another")])
    await auth.acquire()
    await auth.acquire(refresh=True)
    assert {"token-1", "token-2", "Bearer token-1", "Bearer token-2"} < set(auth.secrets)
    assert {"client-secret", "another"} < set(auth.secrets)
    shown = f"{auth!r} {await auth.acquire()!r} {Token('token-1', HOUR)!r} {vars(auth)!r}"
    assert "token-" not in shown
    assert "client-secret" not in shown


async def test_several_headers_are_sent() -> None:
    auth = HeaderAuth(
        {"Authorization": Secret("key"), "x-account": "acct-5f27c1", "x-team": "reports"}, prefix="Bearer "
    )
    signed = auth.sign(WireRequest(url="https://x"), await auth.acquire())
    assert dict(signed.headers) == {"authorization": "Bearer key", "x-account": "acct-5f27c1", "x-team": "reports"}
    assert set(auth.secrets) == {"key", "Bearer key", "acct-5f27c1"}, "a word would be removed from ordinary text"
    assert repr(auth) == "HeaderAuth('Authorization', 'x-account', 'x-team')"


async def test_each_header_that_can_be_read_anew_is_read_after_a_401() -> None:
    keys = iter(["first", "second"])
    auth = HeaderAuth({"x-key": Secret("", read=lambda: next(keys)), "x-account": Secret("acct-5f27c1")})
    assert dict(await auth.acquire()) == {"x-key": "first", "x-account": "acct-5f27c1"}
    assert dict(await auth.acquire()) == {"x-key": "first", "x-account": "acct-5f27c1"}
    assert dict(await auth.acquire(refresh=True)) == {"x-key": "second", "x-account": "acct-5f27c1"}
    assert set(auth.secrets) == {"first", "second", "acct-5f27c1"}


def test_prefix_without_its_header_is_refused() -> None:
    with pytest.raises(TypeError, match="authorization"):
        HeaderAuth({"x-key": "key"}, prefix="Bearer ")
    with pytest.raises(TypeError, match="value"):
        HeaderAuth("x-key")  # type: ignore[call-overload]


# The exchange


def exchanging(url: str, **options: Any) -> dict[str, Any]:
    """A provider whose `Auth` fetches its token from `url`."""

    def auth(context: ServiceContext[Settings]) -> CachedToken:
        async def fetch() -> Token:
            response = await fetch_response(context, WireRequest(url=url, body=b"give"), **options)
            return Token(f"{response.status}-{response.body.decode()}", None)

        return CachedToken(fetch)

    return {"auth": auth}


async def echo(exchange: Exchange) -> None:
    await exchange.respond(f'{{"text": "{exchange.request.headers["authorization"]}"}}'.encode())


@pytest.mark.parametrize("status", [200, 307, 500])
async def test_response_is_fetched_through_the_transport_of_the_service(toy: Any, status: int) -> None:
    async def tokens(exchange: Exchange) -> None:
        assert exchange.request.body == b"give"
        await exchange.start(status=status, headers={"location": "http://127.0.0.1:9"})
        await exchange.chunk(b"a")
        await exchange.chunk(b"b")
        await exchange.end()

    async with serve(tokens) as issuer, serve(echo) as server:
        async with toy(server.url, exchanging(issuer.url)) as service:
            assert (await service.chat("Hello")).text == f"Bearer {status}-ab"


async def test_token_request_goes_through_the_proxy_of_the_service(toy: Any) -> None:
    async def proxy(exchange: Exchange) -> None:
        await (echo(exchange) if "authorization" in exchange.request.headers else exchange.respond(b"t"))

    async with serve(proxy) as server:
        url = "http://tokens.example/token"
        async with toy("http://api.example", exchanging(url), proxy=server.url) as service:
            assert (await service.chat("Hello")).text == "Bearer 200-t"
        assert [request.target for request in server.requests] == [url, "http://api.example/chat"]


async def large(exchange: Exchange) -> None:
    await exchange.respond(b"x" * 101)


async def silent(exchange: Exchange) -> None:
    await exchange.start()
    await exchange.hung_up()


async def cut(exchange: Exchange) -> None:
    await exchange.start()
    await exchange.chunk(b"x")
    await exchange.hang_up()


@pytest.mark.parametrize(
    ("script", "options", "kind", "message"),
    [
        (large, {"limit": 100}, "ProtocolViolation", "larger than 100 bytes"),
        (silent, {"timeout": 0.05}, "ConnectionFailed", "within 0.05 s"),
        (cut, {}, "StreamInterrupted", "."),
    ],
)
async def test_response_that_is_too_large_late_or_cut_raises(
    toy: Any, script: Callable[[Exchange], Awaitable[None]], options: dict[str, Any], kind: str, message: str
) -> None:
    async with serve(script) as issuer:
        async with toy("http://127.0.0.1:9", exchanging(issuer.url, **options), max_retries=0) as service:
            with pytest.raises(TrunklineError, match=message) as caught:
                await service.chat("Hello")
        assert type(caught.value).__name__ == kind
        await issuer.wait_idle()


async def test_unreachable_service_for_tokens_raises_connection_failed(toy: Any) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    async with toy("http://127.0.0.1:9", exchanging(url), max_retries=0) as service:
        with pytest.raises(ConnectionFailed):
            await service.chat("Hello")


async def test_context_without_a_service_has_no_transport() -> None:
    context = ServiceContext(name="mine", provider="toy", settings=Settings())
    with pytest.raises(CallError, match="no transport"):
        await fetch_response(context, WireRequest(url="https://x"))


@pytest.mark.parametrize("value", [None, b"key", 1])
def test_value_of_a_header_that_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="the value of the header 'x-key' must be a str or a Secret"):
        HeaderAuth({"x-key": value})
