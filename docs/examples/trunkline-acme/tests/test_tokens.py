"""The token request, which errors are raised, and Trunkline's tests of an `Auth` that fetches tokens."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trunkline
from trunkline.authoring.wire import WireResponse
from trunkline.testing import AuthTests, Exchange, LoopbackServer, canary, closed_port, serve

from trunkline_acme import AcmeSettings
from trunkline_acme.tokens import ClientCredentials

SECRET = canary("client_secret")
EXTENSION = {
    "name": "acme",
    "token_url": "https://id.acme.example/token",
    "client_id": "reports",
    "client_secret": SECRET,
}

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def token(value: str, **fields: Any) -> bytes:
    return json.dumps({"access_token": value, "token_type": "Bearer", "expires_in": 600, **fields}).encode()


async def issue(exchange: Exchange) -> None:
    """Issue a token whose name has the number of the request."""
    await exchange.respond(token(f"token-{exchange.number}"))


async def gateway(exchange: Exchange) -> None:
    """Respond with the token that was sent."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": exchange.request.headers["authorization"]},
        "finish_reason": "stop",
    }
    await exchange.respond(json.dumps({"choices": [choice]}).encode())


@asynccontextmanager
async def acme(
    endpoint: Callable[[Exchange], Awaitable[None]], **settings: Any
) -> AsyncIterator[tuple[trunkline.Service, LoopbackServer, LoopbackServer]]:
    """Open a service behind the gateway. Yield the service, the token endpoint and the gateway."""
    async with serve(endpoint) as tokens, serve(gateway) as server:
        extension = {**EXTENSION, "token_url": f"{tokens.url}/token", "client_id": "re:ports", "scope": "chat"}
        async with trunkline.open_service(
            "openai-compatible", api_url=server.url, default_model="m", extensions=[extension], **settings
        ) as service:
            yield service, tokens, server


def grant(url: str = "https://id.acme.example/token") -> ClientCredentials:
    return ClientCredentials(token_url=url, client_id="reports", client_secret=trunkline.Secret(SECRET))


class TestTokens(AuthTests):
    """One exchange for all calls that wait, one for a burst of 401s, renewal before expiry, and other such tests."""

    provider = "openai-compatible"
    settings = {"api_url": "{url}/v1", "extensions": [{**EXTENSION, "token_url": "{url}/token"}]}


# The token request


async def test_token_is_fetched_once_and_sent_with_every_request() -> None:
    async with acme(issue) as (service, tokens, _server):
        assert (await service.chat("Hello")).text == "Bearer token-1"
        assert (await service.chat("Hello")).text == "Bearer token-1"
        [asked] = tokens.requests
    assert asked.body == b"grant_type=client_credentials&scope=chat"
    assert b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode() == f"re%3Aports:{SECRET}"


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


async def test_unreachable_endpoint_raises_connection_failed() -> None:
    with pytest.raises(trunkline.ConnectionFailed):
        await ask({**EXTENSION, "token_url": f"http://127.0.0.1:{closed_port()}"})


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

    async with acme(endpoint) as (service, _tokens, server):
        with pytest.raises(trunkline.ProtocolViolation):
            await service.chat("Hello")
        assert not server.requests


@pytest.mark.parametrize("expires_in", [None, 0, -5, True, "600", []])
def test_token_without_a_valid_lifetime_is_used_until_it_is_refused(expires_in: object) -> None:
    response = WireResponse(status=200, body=token("token-1", expires_in=expires_in))
    assert grant().token(response, provider="acme").expires_in is None


# The settings


@pytest.fixture
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACME_TOKEN_URL", "ACME_CLIENT_ID", "ACME_CLIENT_SECRET", "ACME_SCOPE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_environment")
@pytest.mark.parametrize("missing", ["token_url", "client_id", "client_secret"])
async def test_error_for_a_missing_setting_names_its_variable(missing: str) -> None:
    with pytest.raises(trunkline.ConfigurationError, match=f"ACME_{missing.upper()}"):
        await ask({name: value for name, value in EXTENSION.items() if name != missing})


@pytest.mark.parametrize("url", ["http://id.acme.example/token", "ftp://id.acme.example", "two words"])
async def test_a_token_url_that_would_expose_the_secret_is_refused(url: str) -> None:
    with pytest.raises(trunkline.ConfigurationError, match="token_url"):
        await ask({**EXTENSION, "token_url": url})


async def ask(extension: dict[str, str]) -> None:
    async with trunkline.open_service(
        "openai-compatible", api_url="http://127.0.0.1:9", default_model="m", extensions=[extension], max_retries=0
    ) as service:
        await service.chat("Hello")


async def test_reprs_show_no_secret() -> None:
    given = AcmeSettings(token_url="https://id.acme.example", client_id="reports", client_secret=SECRET)
    assert SECRET not in f"{given} {grant()}"
