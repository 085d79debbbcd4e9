"""Run Trunkline's conformance kit on `openai-compatible` with Acme's authentication."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal
from trunkline.testing import Exchange, ProviderTests, canary, serve
from trunkline_openai.testing import CHAT_COMPLETIONS, chat_history

SECRET, TOKEN = canary("client_secret"), canary("token")


@pytest.fixture(scope="module", autouse=True)
def _token_endpoint() -> Iterator[None]:
    """Acme's token endpoint, in its own thread so that it serves the tests on both backends."""

    async def issue(exchange: Exchange) -> None:
        token = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 600}
        await exchange.respond(json.dumps(token).encode())

    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(issue)) as server,
        pytest.MonkeyPatch.context() as environment,
    ):
        environment.setenv("ACME_TOKEN_URL", f"{server.url}/token")
        environment.setenv("ACME_CLIENT_ID", "reports")
        environment.setenv("ACME_CLIENT_SECRET", SECRET)
        yield


class TestAcme(ProviderTests):
    provider = "openai-compatible"
    variant = "acme"
    settings = {"api_url": "{url}/v1", "extensions": ["acme"]}
    secrets = (SECRET, TOKEN)
    wire = CHAT_COMPLETIONS
    samples = (chat_history("{url}/v1/chat/completions"),)
