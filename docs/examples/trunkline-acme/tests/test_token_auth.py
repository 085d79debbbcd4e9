"""When a token is fetched, which calls wait for it, which errors are raised, and what stays secret."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trunkline
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.provider import Auth
from trunkline.testing import Exchange, LoopbackServer, canary, closed_port, serve

from trunkline_acme import Acme
from trunkline_acme.auth import TokenAuth
from trunkline_acme.tokens import ClientCredentials

SECRET = canary("client_secret")

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def token(value: str, **fields: Any) -> bytes:
    return json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": 600, **fields}).encode()


async def issue(exchange: Exchange) -> None:
    """Issue a new token for each request: token-1, token-2 …"""
    await exchange.respond(token(f"token-{exchange.number}"))


def gateway(*refused: str) -> Callable[[Exchange], Awaitable[None]]:
    """Return a handler for the gateway. It responds to requests with any token except those in `refused`."""

    async def answer(exchange: Exchange) -> None:
        given = exchange.request.headers.get("authorization", "")
        if not given.startswith("Bearer token-") or given.removeprefix("Bearer ") in refused:
            error = json.dumps({"error": {"message": f"{given} is no good"}}).encode()
            await exchange.respond(error, status=401)
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": given}, "finish_reason": "stop"}
        await exchange.respond(json.dumps({"choices": [choice]}).encode())

    return answer


@asynccontextmanager
async def acme(
    endpoint: Callable[[Exchange], Awaitable[None]], *refused: str, **settings: object
) -> AsyncIterator[tuple[trunkline.Service, LoopbackServer, LoopbackServer]]:
    """Open a service behind the gateway. Yield the service, the token endpoint and the gateway."""
    async with serve(endpoint) as tokens, serve(gateway(*refused)) as server:
        extension = Acme(token_url=f"{tokens.url}/token", client_id="re:ports", client_secret=SECRET, scope="chat")
        async with trunkline.open_service(
            "openai-compatible", api_url=server.url, default_model="m", extensions=[extension], **settings
        ) as service:
            yield service, tokens, server


class ContextRecorder:
    """An extension that records the context of its service, and signs nothing."""

    context: trunkline.ServiceContext[trunkline.Settings]

    @trunkline.hookimpl(tryfirst=True)
    def trunkline_auth(self, context: trunkline.ServiceContext[trunkline.Settings]) -> Auth:
        self.context = context
        return NoAuth()


@asynccontextmanager
async def auth(url: str, **options: Any) -> AsyncIterator[TokenAuth]:
    """A `TokenAuth` with the transport of an open service."""
    recorder = ContextRecorder()
    async with trunkline.open_service(
        "openai-compatible", api_url="http://127.0.0.1:9", extensions=[recorder]
    ) as service:
        await service.authenticate()
        yield TokenAuth(grant(url), recorder.context, **options)


def grant(url: str) -> ClientCredentials:
    return ClientCredentials(token_url=url, client_id="reports", client_secret=trunkline.Secret(SECRET))


async def all_at_once(count: int, call: Callable[[], Awaitable[Any]]) -> list[Any]:
    found: list[Any] = []

    async def one() -> None:
        try:
            found.append(await call())
        except trunkline.RemoteError as error:
            found.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return found


# When a token is fetched


async def test_token_is_fetched_once_and_sent_with_every_request() -> None:
    async with acme(issue) as (service, tokens, _server):
        assert (await service.chat("Hello")).text == "Bearer token-1"
        assert (await service.chat("Hello")).text == "Bearer token-1"
        [asked] = tokens.requests
    assert asked.body == b"grant_type=client_credentials&scope=chat"
    assert b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode() == f"re%3Aports:{SECRET}"


async def test_waiting_calls_share_one_token_request() -> None:
    async with acme(issue) as (service, tokens, _server):
        answers = await all_at_once(20, lambda: service.chat("Hello"))
        assert {answer.text for answer in answers} == {"Bearer token-1"}
        assert len(tokens.requests) == 1


async def test_new_token_is_fetched_once_for_all_calls_after_a_401() -> None:
    async with acme(issue, "token-1") as (service, tokens, _server):
        answers = await all_at_once(20, lambda: service.chat("Hello"))
        assert {answer.text for answer in answers} == {"Bearer token-2"}
        assert len(tokens.requests) == 2


async def test_error_for_a_refused_token_does_not_show_the_token() -> None:
    async with acme(issue, "token-1", "token-2") as (service, _tokens, server):
        with pytest.raises(trunkline.AuthenticationError, match="is no good") as caught:
            await service.chat("Hello")
        assert len(server.requests) == 2
    assert "token-" not in f"{caught.value} {caught.value.body}"


async def test_token_is_renewed_before_it_expires_without_blocking_other_calls() -> None:
    now, begun, go_on = 0.0, anyio.Event(), anyio.Event()

    async def endpoint(exchange: Exchange) -> None:
        if exchange.number == 2:
            begun.set()
            await go_on.wait()
        await issue(exchange)

    async with serve(endpoint) as tokens, auth(tokens.url, now=lambda: now) as tested:
        assert await tested.acquire() == "token-1"
        now = 539.0
        assert await tested.acquire() == "token-1"
        now = 541.0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tested.acquire)
            await begun.wait()
            assert await tested.acquire() == "token-1"
            go_on.set()
        assert await tested.acquire() == "token-2"
        assert "token-1" in tested.secrets, "an error of a call in progress may still contain it"


async def test_next_waiting_call_repeats_a_cancelled_token_request() -> None:
    begun = anyio.Event()

    async def endpoint(exchange: Exchange) -> None:
        if exchange.number == 1:
            begun.set()
            await exchange.hung_up()
        else:
            await issue(exchange)

    async with serve(endpoint) as tokens, auth(tokens.url) as tested, anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def cancelled() -> None:
            with first:
                await tested.acquire()

        tasks.start_soon(cancelled)
        await begun.wait()
        tasks.start_soon(tested.acquire)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        assert await tested.acquire() == "token-2"
        assert len(tokens.requests) == 2


# Errors


async def test_waiting_calls_share_a_failure_but_not_the_error_object() -> None:
    async def endpoint(exchange: Exchange) -> None:
        await exchange.respond(b"", status=500)

    async with serve(endpoint) as tokens, auth(tokens.url) as tested:
        errors = await all_at_once(10, tested.acquire)
        assert len(tokens.requests) == 1
    assert {type(error) for error in errors} == {trunkline.ServerError}
    assert len({id(error) for error in errors}) == 10


async def test_failed_renewal_keeps_a_valid_token() -> None:
    now = 0.0

    async def endpoint(exchange: Exchange) -> None:
        if exchange.number == 1:
            await issue(exchange)
        else:
            await exchange.respond(b"", status=503)

    async with serve(endpoint) as tokens, auth(tokens.url, now=lambda: now) as tested:
        await tested.acquire()
        now = 550.0
        assert await tested.acquire() == "token-1"
        now = 600.0
        with pytest.raises(trunkline.Overloaded):
            await tested.acquire()


async def test_temporary_failure_of_the_endpoint_is_retried() -> None:
    async def endpoint(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.respond(b"", status=503, headers={"retry-after-ms": "1"})
        else:
            await issue(exchange)

    async with acme(endpoint, max_retries=1) as (service, _tokens, _server):
        assert (await service.chat("Hello")).text == "Bearer token-2"


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_refused_client_raises_and_sends_no_chat_request(status: int) -> None:
    async def endpoint(exchange: Exchange) -> None:
        given = exchange.request.headers["authorization"]
        body = {"error": "invalid_client", "error_description": f"no client {SECRET} ({given})"}
        await exchange.respond(json.dumps(body).encode(), status=status)

    async with acme(endpoint, max_retries=2) as (service, tokens, server):
        with pytest.raises(trunkline.AuthenticationError, match="the token endpoint returned no token") as caught:
            await service.chat("Hello")
        assert caught.value.code == "invalid_client"
        assert (len(tokens.requests), len(server.requests)) == (1, 0)
        given = tokens.requests[0].headers["authorization"].removeprefix("Basic ")
    shown = f"{caught.value!r} {vars(caught.value)}"
    assert SECRET not in shown
    assert given not in shown


async def test_unreachable_or_silent_endpoint_raises_connection_failed() -> None:
    async def endpoint(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.hung_up()

    async with auth(f"http://127.0.0.1:{closed_port()}") as tested:
        with pytest.raises(trunkline.ConnectionFailed):
            await tested.acquire()
    async with serve(endpoint) as tokens, auth(tokens.url, timeout=0.1) as tested:
        with pytest.raises(trunkline.ConnectionFailed, match=r"within 0\.1 s"):
            await tested.acquire()
        await tokens.wait_idle()


async def test_a_redirect_is_not_followed() -> None:
    async def endpoint(exchange: Exchange) -> None:
        await exchange.respond(b"", status=307, headers={"location": elsewhere.url})

    async with serve(issue) as elsewhere, serve(endpoint) as tokens, auth(tokens.url) as tested:
        with pytest.raises(trunkline.RemoteError):
            await tested.acquire()
        assert not elsewhere.requests


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        token("t", token_type="mac"),
        token("t", token_type=None),
        token(""),
        token("a\nb"),
        token("t\u00f6"),
        json.dumps({"access_token": ["t"], "token_type": "Bearer"}).encode(),
        b" " * 65537,
    ],
)
async def test_invalid_token_response_raises_protocol_violation(body: bytes) -> None:
    async def endpoint(exchange: Exchange) -> None:
        await exchange.respond(body)

    async with serve(endpoint) as tokens, auth(tokens.url) as tested:
        with pytest.raises(trunkline.ProtocolViolation):
            await tested.acquire()


@pytest.mark.parametrize("expires_in", [None, 0, -5, True, "600", [], 1e308])
async def test_missing_or_invalid_lifetime_uses_the_default(expires_in: object) -> None:
    async def endpoint(exchange: Exchange) -> None:
        await exchange.respond(token("token-1", expires_in=expires_in))

    async with serve(endpoint) as tokens, auth(tokens.url) as tested:
        assert await tested.acquire() == "token-1"


# The settings


@pytest.fixture
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACME_TOKEN_URL", "ACME_CLIENT_ID", "ACME_CLIENT_SECRET", "ACME_SCOPE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_environment")
@pytest.mark.parametrize("missing", ["token_url", "client_id", "client_secret"])
async def test_error_for_a_missing_setting_names_its_variable(missing: str) -> None:
    given = {"token_url": "https://id.acme.example/token", "client_id": "reports", "client_secret": SECRET}
    extension = Acme(**{name: value for name, value in given.items() if name != missing})  # type: ignore[arg-type]
    with pytest.raises(trunkline.ConfigurationError, match=f"ACME_{missing.upper()}") as caught:
        await ask(extension)
    assert caught.value.setting == missing


@pytest.mark.parametrize("url", ["http://id.acme.example/token", "ftp://id.acme.example", "two words"])
async def test_a_token_url_that_would_expose_the_secret_is_refused(url: str) -> None:
    with pytest.raises(trunkline.ConfigurationError, match="token_url"):
        await ask(Acme(token_url=url, client_id="reports", client_secret=SECRET))


async def ask(extension: Acme) -> None:
    async with trunkline.open_service(
        "openai-compatible", api_url="http://127.0.0.1:9", default_model="m", extensions=[extension]
    ) as service:
        await service.chat("Hello")


async def test_reprs_show_no_secret() -> None:
    extension = Acme(token_url="https://id.acme.example", client_id="reports", client_secret=SECRET)
    async with auth("https://id.acme.example") as tested:
        assert SECRET not in f"{extension} {tested} {grant('https://id.acme.example')}"
