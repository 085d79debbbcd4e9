"""The API over loopback: keys, limits, budgets, errors and streams, with a provider whose every answer is a script."""

from __future__ import annotations

import asyncio
import datetime
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal

import attrs
import httpx
import pytest
import uvicorn
from cryptography.fernet import Fernet
from gateway_servers import redis_server
from scripted_provider import SERVICES, Call, Provider, scripted_provider, served_gateway
from starlette.applications import Starlette
from trunkline import CallError, ChatRequest, ChatResponse, FinishReason, Secret, StreamClosed, Usage, user
from trunkline_gateway import Gateway, GatewaySettings
from trunkline_gateway.api.exchange import _limit_headers
from trunkline_gateway.calls import Calls
from trunkline_gateway.connections import protocol_for
from trunkline_gateway.database.budgets import BudgetStore
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.services import ServiceStore, StoredService
from trunkline_gateway.database.sessions import SessionStore
from trunkline_gateway.database.usage import UsageStore
from trunkline_gateway.encryption import Encryption, encryption_of
from trunkline_gateway.keys import Budget, Key, KeyDraft
from trunkline_gateway.limits import LimiterUnavailable, Window
from trunkline_gateway.services import Services

pytestmark = pytest.mark.anyio

MORE = """
[services.priced]
provider = "openai"
api_key = "sk-1"
api_url = "URL/priced/v1"
default_model = "gpt-4o-mini"
max_retries = 0

[services.own]
provider = "openai-compatible"
api_url = "URL/own/v1"
default_model = "m"
max_retries = 0
extensions = [{name = "prices", prices = {m = {input = 1000000, output = 2000000}}}]

[services.claude]
provider = "anthropic"
api_key = "sk-1"
api_url = "URL/claude"
default_model = "claude-haiku-4-5"
max_retries = 0

[services.again]
provider = "openai"
api_key = "sk-1"
api_url = "URL/again/v1"
default_model = "gpt-4o-mini"
max_retries = 1

[services.wrong]
provider = "openai"
api_key = "sk-1"
nonsense = true

[services.pair]
fallback = ["priced", "again"]

[services.both]
fallback = ["priced", "own"]

[services.partly]
fallback = ["priced", "main"]

[services.local-first]
fallback = ["main", "priced"]
"""


@attrs.frozen
class Setup:
    provider: Provider
    gateway: Gateway
    client: httpx.AsyncClient
    server: uvicorn.Server

    def connections(self) -> int:
        """The number of the gateway's connections."""
        return len(self.server.server_state.connections)

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def key(self, **options: Any) -> tuple[Key, dict[str, str]]:
        key, secret = await self.gateway.keys.create(KeyDraft(name="k", **options))
        return key, {"authorization": f"Bearer {secret}"}

    async def chat(self, headers: Any, model: str = "main", **fields: Any) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)

    async def spent(self, key: Key) -> tuple[int, int]:
        """Wait until nothing is reserved of a key's budget, and return the tokens and nano-dollars that were spent."""
        while True:
            balance = await self.gateway.budgets.balance(key)
            assert balance is not None
            if not balance.reserved.tokens and not balance.reserved.cost:
                return balance.spent.tokens, balance.spent.cost
            await asyncio.sleep(0.01)


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with scripted_provider() as provider:
        async with served_gateway(tmp_path, provider, more=MORE, heartbeat=0.05, idle_timeout=1.0) as (
            gateway,
            server,
            url,
        ):
            async with httpx.AsyncClient(base_url=url, timeout=20) as client:
                yield Setup(provider, gateway, client, server)


async def test_a_refusal_by_a_limit_has_the_headers_of_the_limits_in_both_dialects(setup: Setup) -> None:
    _, headers = await setup.key(requests_per_minute=1, tokens_per_minute=50_000)
    assert (await setup.chat(headers)).headers["x-ratelimit-remaining-requests"] == "0"
    refused = await setup.chat(headers)
    assert refused.status_code == 429
    assert refused.headers["x-ratelimit-limit-requests"] == "1"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-limit-tokens"] == "50000"
    body = {"model": "main", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    refused = await setup.client.post("/v1/messages", json=body, headers=headers)
    assert refused.status_code == 429
    assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert refused.headers["request-id"] == refused.headers["x-request-id"]


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, 0), (0.2, 1), (59.0, 59), (59.2, 60)])
def test_the_time_until_a_limit_is_free_is_rounded_up(seconds: float, shown: int) -> None:
    window = Window(limit=2, remaining=0, reset_after=seconds)
    assert dict(_limit_headers("requests", window, "openai"))[b"x-ratelimit-reset-requests"] == f"{shown}s".encode()
    now = datetime.datetime.now(datetime.UTC)
    reset = dict(_limit_headers("requests", window, "anthropic"))[b"anthropic-ratelimit-requests-reset"].decode()
    assert datetime.datetime.fromisoformat(reset) - now >= datetime.timedelta(seconds=seconds)


async def test_a_refusal_by_a_budget_has_the_headers_of_the_limits(setup: Setup) -> None:
    _, headers = await setup.key(requests_per_minute=10, budget=Budget(period="total", tokens=5))
    refused = await setup.chat(headers)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "insufficient_quota"
    assert refused.headers["x-ratelimit-remaining-requests"] == "9"


async def test_a_service_can_be_looked_up_by_its_name_alone_as_it_can_be_called(setup: Setup) -> None:
    _, headers = await setup.key(scopes=("main/*", "own/m"))
    for name, status in (("main", 200), ("own", 200), ("priced", 404), ("nobody", 404)):
        answer = await setup.client.get(f"/v1/models/{name}", headers=headers)
        assert answer.status_code == status
        if status == 200:
            assert answer.json()["id"] == name
    ids = [model["id"] for model in (await setup.client.get("/v1/models", headers=headers)).json()["data"]]
    assert "main" not in ids


async def test_a_request_with_several_keys_is_refused(setup: Setup) -> None:
    _, headers = await setup.key()
    right = headers["authorization"]
    for sent in (
        [("authorization", "Bearer tlk_x"), ("authorization", right)],
        [("authorization", right), ("authorization", right)],
        [("x-api-key", "a"), ("x-api-key", right.removeprefix("Bearer "))],
    ):
        assert (await setup.client.get("/v1/models", headers=sent)).status_code == 401
    for value in (right.replace("Bearer", "bEARER"), right.replace(" ", "\t"), right.replace(" ", "   ")):
        assert (await setup.client.get("/v1/models", headers={"authorization": value})).status_code == 200


async def test_the_name_of_a_service_stands_for_its_default_model_in_scopes_and_prices(setup: Setup) -> None:
    _, headers = await setup.key(scopes=("priced/gpt-4o-mini",))
    assert (await setup.chat(headers, "priced")).status_code == 200
    assert (await setup.chat(headers, "priced/gpt-4o")).status_code == 403
    key, headers = await setup.key(budget=Budget(period="total", cost=10**9))
    assert (await setup.chat(headers, "priced")).status_code == 200
    assert await setup.spent(key) == (14, 10 * 150 + 4 * 600)


@pytest.mark.parametrize("field", ["models", "fallbacks"])
async def test_a_key_for_certain_models_reaches_no_others_through_a_router(setup: Setup, field: str) -> None:
    more: Any = {field: ["other"]}
    _, headers = await setup.key()
    assert (await setup.chat(headers, **more)).status_code == 200
    assert setup.provider.calls[0].body[field] == ["other"]
    _, headers = await setup.key(scopes=("main/m",))
    assert (await setup.chat(headers, **{field: []})).status_code == 200
    refused = await setup.chat(headers, **more)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert len(setup.provider.calls) == 2


async def test_the_name_of_a_model_is_bounded(setup: Setup) -> None:
    _, headers = await setup.key()
    refused = await setup.chat(headers, "main/" + "x" * 100_000)
    assert refused.status_code == 400
    assert len(refused.content) < 1000


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -5, "completion_tokens": -7},
        {"prompt_tokens": 10**30, "completion_tokens": 10**40},
        {"prompt_tokens": "5"},
        {"prompt_tokens": True},
        {"prompt_tokens": 1.5},
        {"prompt_tokens": 0, "completion_tokens": 0},
        [1],
        None,
    ],
)
async def test_wrong_usage_is_replaced_by_an_estimate(setup: Setup, usage: object, stream: bool) -> None:
    async def script(call: Call) -> None:
        await call.answer(usage)

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", tokens=10**6), tokens_per_minute=10**6)
    assert (await setup.chat(headers, stream=stream)).status_code == 200
    tokens, _ = await setup.spent(key)
    assert 0 < tokens < 100


async def test_output_that_the_provider_does_not_count_is_estimated(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.answer({"prompt_tokens": 10}, text="x" * 400)

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", tokens=10**6))
    for stream in (False, True):
        assert (await setup.chat(headers, stream=stream)).status_code == 200
    assert await setup.spent(key) == (2 * (10 + 100), 0)


async def test_a_model_with_another_name_in_the_response_is_charged_by_the_price_of_the_request(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.answer(model="a-name-that-the-price-list-does-not-have")

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", cost=10**9))
    assert (await setup.chat(headers, "priced/gpt-4o-mini")).status_code == 200
    assert await setup.spent(key) == (14, 3900)


async def test_the_prices_of_a_services_extension_count_in_budgets(setup: Setup) -> None:
    key, headers = await setup.key(budget=Budget(period="total", cost=10**13))
    assert (await setup.chat(headers, "own", max_tokens=100)).status_code == 200
    assert await setup.spent(key) == (14, 18 * 10**9)
    poor, headers = await setup.key(budget=Budget(period="total", cost=10**9))
    assert (await setup.chat(headers, "own", max_tokens=100)).status_code == 429
    assert await setup.spent(poor) == (0, 0)


async def test_a_service_whose_settings_are_wrong_is_not_taken_for_a_model_without_a_price(setup: Setup) -> None:
    key, headers = await setup.key(budget=Budget(period="total", cost=10**9))
    refused = await setup.chat(headers, "wrong")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "service_unavailable")
    assert await setup.spent(key) == (0, 0)


async def test_a_call_that_asks_for_any_number_of_tokens_is_refused_by_the_budget(setup: Setup) -> None:
    for budget in (Budget(period="total", cost=10**9), Budget(period="total", tokens=10**6)):
        key, headers = await setup.key(budget=budget)
        refused = await setup.chat(headers, "priced", max_tokens=2**63 - 1)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert await setup.spent(key) == (0, 0)


async def test_a_composed_service_reserves_the_price_of_its_most_expensive_member(setup: Setup) -> None:
    _, headers = await setup.key(budget=Budget(period="total", cost=10**9))
    assert (await setup.chat(headers, "both", max_tokens=100)).status_code == 429
    key, headers = await setup.key(budget=Budget(period="total", cost=10**13))
    assert (await setup.chat(headers, "both", max_tokens=100)).status_code == 200
    tokens, cost = await setup.spent(key)
    assert (tokens, cost > 0) == (14, True)
    refused = await setup.chat(headers, "partly")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "price_unknown")


# Connections


def request_of(headers: dict[str, str], **fields: object) -> bytes:
    body = json.dumps({"model": "main", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: x", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def until_closed(setup: Setup, first: bytes, *later: bytes) -> bytes:
    """Send bytes, the later ones after the first answer, and return what arrives until the connection is closed."""
    url = setup.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(first)
        received = await reader.readuntil(b"\r\n\r\n")
        for part in later:
            writer.write(part)
        async with asyncio.timeout(20):
            return received + await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n", b"x"),
        (b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n", b"xx"),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"G"),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"\r\n"),
        (b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b""),
    ],
)
async def test_a_connection_that_has_its_answer_and_sends_no_whole_request_is_closed(
    setup: Setup, first: bytes, later: bytes
) -> None:
    assert (await until_closed(setup, first, later)).count(b"HTTP/1.1 ") == 1


async def test_requests_that_are_sent_before_the_answers_are_answered_in_order(setup: Setup) -> None:
    _, headers = await setup.key()
    sent = request_of(headers, stream=True) + request_of(headers) + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    received = await until_closed(setup, sent)
    assert received.count(b"HTTP/1.1 200 ") == 3
    assert received.index(b"[DONE]") < received.index(b'"chat.completion"') < received.index(b'{"status":"ok"}')


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_with_more_requests_sent_ends_the_call_that_is_answered(
    setup: Setup, stream: bool
) -> None:
    async def script(call: Call) -> None:
        if stream:
            await call.start()
            await call.event("blue")
        await call.reader.read()

    setup.provider.script = script
    key, headers = await setup.key()
    url = setup.client.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(request_of(headers, stream=stream) + request_of(headers) + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    await setup.wait_for(lambda: setup.provider.open_calls == 1)
    writer.close()
    await setup.wait_for(lambda: not setup.provider.open_calls and not len(setup.gateway.running))
    assert len(setup.provider.calls) == 1
    async with asyncio.timeout(20):
        while not (logged := await setup.gateway.usage.log(key_id=key.id)):
            await setup.gateway.usage.flush()
    assert [one.outcome for one in logged] == ["cancelled"]


@pytest.mark.parametrize("ends_by", ["the client", "the gateway"])
async def test_a_stream_that_nobody_reads_is_ended_with_its_connection_and_charged(setup: Setup, ends_by: str) -> None:
    written = 0

    async def script(call: Call) -> None:
        nonlocal written
        await call.start()
        while True:
            await call.event("x" * 5000)
            written += 5000

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", tokens=10**9))
    url = setup.client.base_url
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((url.host, url.port))
        client.sendall(request_of(headers, stream=True))
        await setup.wait_for(lambda: written > 10_000)
        if ends_by == "the gateway":
            await setup.wait_for(lambda: not len(setup.gateway.running))
            await setup.wait_for(lambda: not setup.connections())
    await setup.wait_for(lambda: not len(setup.gateway.running) and not setup.provider.open_calls)
    assert (await setup.spent(key))[0] > 100
    assert written < 100_000_000


async def test_an_answer_that_nobody_reads_is_ended_with_its_connection(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.answer(text="x" * 20_000_000)

    setup.provider.script = script
    _, headers = await setup.key()
    url = setup.client.base_url
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((url.host, url.port))
        client.sendall(request_of(headers))
        await setup.wait_for(lambda: bool(setup.connections()))
        await setup.wait_for(lambda: not setup.connections())


# Paths and life


async def test_paths_and_methods_that_there_are_not_are_refused_in_the_clients_form(setup: Setup) -> None:
    for method, path, status in (
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/nothing", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1/" + "x" * 5000, 404),
    ):
        answer = await setup.client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")
        assert answer.headers["x-request-id"].startswith("req_")
        assert len(answer.content) < 1000
    answer = await setup.client.get("/v1/messages")
    assert (answer.status_code, answer.json()["type"], answer.headers["allow"]) == (405, "error", "POST")
    assert answer.json()["request_id"] == answer.headers["request-id"]


async def test_the_models_refuse_a_wrong_key_in_the_clients_form(setup: Setup) -> None:
    answer = await setup.client.get("/v1/models", headers={"x-api-key": "tlk_x", "anthropic-version": "2023-06-01"})
    assert (answer.status_code, answer.json()["type"]) == (401, "error")
    assert answer.json()["request_id"] == answer.headers["request-id"]
    assert "type" not in (await setup.client.get("/v1/models", headers={"x-api-key": "tlk_x"})).json()


async def test_a_mounted_gateway_answers_below_its_path_once_it_is_entered(tmp_path: Path) -> None:
    gateway = Gateway(GatewaySettings(data_dir=tmp_path))
    app = Starlette()
    app.mount("/llm", gateway.app)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        assert (await client.get("/llm/readyz")).status_code == 503
        assert (await client.get("/llm/v1/models")).status_code == 503
        async with gateway:
            assert (await client.get("/llm/readyz")).status_code == 200
            assert (await client.get("/llm/v1/models")).status_code == 401
            for path in ("/llm/", "/llm/console"):
                assert (await client.get(path)).headers["location"] == "/llm/console/"
            with pytest.raises(RuntimeError, match="only once"):
                await gateway.__aenter__()
            assert (await client.get("/llm/readyz")).status_code == 200
        assert (await client.get("/llm/v1/models")).status_code == 503
        with pytest.raises(RuntimeError, match="only once"):
            await gateway.__aenter__()


@pytest.mark.parametrize(("failure", "status"), [("closed", 503), ("open", 200)])
async def test_a_gateway_is_ready_without_redis_if_it_takes_calls_without(
    failure: Literal["closed", "open"], status: int, tmp_path: Path
) -> None:
    with redis_server() as redis:
        settings = GatewaySettings(data_dir=tmp_path, redis=Secret(redis.url), redis_failure=failure)
        async with Gateway(settings) as gateway:
            transport = httpx.ASGITransport(gateway.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:

                async def wait_for(status: int) -> str:
                    async with asyncio.timeout(20):
                        while (answer := await client.get("/readyz")).status_code != status:
                            pass
                    return str(answer.json()["status"])

                assert await wait_for(200) == "ready"
                redis.kill()
                with pytest.raises(LimiterUnavailable):
                    while True:
                        await gateway.limiter.check()
                        await asyncio.sleep(0)
                assert await wait_for(status) == ("ready" if status == 200 else "Redis cannot be reached")
                assert (await client.get("/healthz")).status_code == 200
                redis.start()
                assert await wait_for(200) == "ready"


# Endings


async def test_a_call_of_which_the_client_hangs_up_before_the_first_byte_is_charged_and_ended(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.reader.read()

    setup.provider.script = script
    for stream in (False, True):
        key, headers = await setup.key(budget=Budget(period="total", tokens=10**6))
        url = setup.client.base_url
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(request_of(headers, stream=stream))
        await setup.wait_for(lambda: setup.provider.open_calls == 1)
        writer.close()
        await setup.wait_for(lambda: not setup.provider.open_calls and not len(setup.gateway.running))
        assert 0 < (await setup.spent(key))[0] < 100


async def test_tokens_are_embedded_by_a_provider_of_the_format(setup: Setup) -> None:
    async def script(call: Call) -> None:
        vectors = [{"index": index, "embedding": [0.5]} for index in range(2)]
        await call.send(200, {"data": vectors, "usage": {"prompt_tokens": 3, "total_tokens": 3}})

    setup.provider.script = script
    _, headers = await setup.key()
    body = {"model": "own", "input": [[1, 2], [3]]}
    answered = await setup.client.post("/v1/embeddings", json=body, headers=headers)
    assert answered.status_code == 200
    assert setup.provider.calls[-1].body["input"] == [[1, 2], [3]]
    assert [one["embedding"] for one in answered.json()["data"]] == [[0.5], [0.5]]


async def test_embeddings_of_which_the_client_hangs_up_are_logged_as_cancelled(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.reader.read()

    setup.provider.script = script
    key, headers = await setup.key()
    body = {"model": "own", "input": "hi"}
    call = asyncio.ensure_future(setup.client.post("/v1/embeddings", json=body, headers=headers))
    await setup.wait_for(lambda: setup.provider.open_calls == 1)
    call.cancel()
    async with asyncio.timeout(20):
        while not (logged := await setup.gateway.usage.log(key_id=key.id)):
            await setup.gateway.usage.flush()
    assert [(one.outcome, one.status) for one in logged] == [("cancelled", 499)]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_an_administrator_ends_a_call_before_and_after_its_first_event(setup: Setup, path: str) -> None:
    is_begun = False

    async def script(call: Call) -> None:
        if is_begun:
            await call.start()
            await call.event("blue")
        await call.reader.read()

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", tokens=10**6))
    body: dict[str, object] = {"model": "main", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
    if path == "/v1/responses":
        body = {"model": "main", "input": "hi"}
    spent = 0
    for is_begun, stream in ((False, False), (True, True)):
        call = asyncio.ensure_future(setup.client.post(path, json={**body, "stream": stream}, headers=headers))
        await setup.wait_for(lambda: setup.provider.open_calls == 1)
        least = 1 if is_begun else 0
        await setup.wait_for(lambda least=least: any(c.output_characters >= least for c in setup.gateway.running))
        setup.gateway.running.cancel_all()
        answer = await call
        assert answer.status_code == (200 if stream else 503)
        assert "an administrator of the gateway has ended the call" in answer.text
        await setup.wait_for(lambda: not setup.provider.open_calls)
        before, spent = spent, (await setup.spent(key))[0]
        assert 0 < spent - before < 100


async def test_a_key_that_is_revoked_or_expires_ends_no_stream_but_the_next_call(setup: Setup) -> None:
    go = asyncio.Event()

    async def script(call: Call) -> None:
        await call.start()
        await call.event("blue")
        await go.wait()
        await call.finish()

    setup.provider.script = script
    key, headers = await setup.key()
    running = asyncio.ensure_future(setup.chat(headers, stream=True))
    await setup.wait_for(lambda: setup.provider.open_calls == 1)
    await setup.gateway.keys.revoke(key.id)
    refused = await setup.chat(headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "key_revoked")
    go.set()
    assert "[DONE]" in (await running).text
    now = datetime.datetime.now(datetime.UTC)
    _, headers = await setup.key(expires_at=now)
    assert (await setup.chat(headers)).json()["error"]["code"] == "key_expired"


async def test_many_calls_at_once_do_not_spend_more_than_the_budget(setup: Setup) -> None:
    key, headers = await setup.key(budget=Budget(period="total", tokens=60), requests_per_minute=100)
    answers = await asyncio.gather(*[setup.chat(headers, max_tokens=20) for _ in range(20)])
    assert {answer.status_code for answer in answers} == {200, 429}
    served = sum(answer.status_code == 200 for answer in answers)
    assert await setup.spent(key) == (served * 14, 0)
    assert served * 14 <= 60


async def test_a_call_that_the_end_of_the_gateway_cuts_off_may_be_sent_again(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.reader.read()

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", tokens=10**6))
    call = asyncio.ensure_future(setup.chat(headers))
    await setup.wait_for(lambda: setup.provider.open_calls == 1)
    setup.gateway.start_draining()
    refused = await setup.chat(headers)
    setup.gateway.running.cancel_all()
    for answer in (refused, await call):
        assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "true")
        assert answer.json()["error"]["message"] == "the gateway is shutting down"
    assert 0 < (await setup.spent(key))[0] < 100


async def test_a_call_that_is_cancelled_while_it_is_settled_is_recorded_and_settled_by_the_end(tmp_path: Path) -> None:
    request = ChatRequest(messages=(user("hi"),))
    url = f"sqlite:///{tmp_path / 'gateway.sqlite3'}"

    async def make(gateway: Gateway, key: Key, answered: asyncio.Event) -> None:
        calls = Calls(gateway)
        async with calls.admit(key, calls.find_target(key, "main"), request, api="/x") as call:
            usage = Usage(input_tokens=10, output_tokens=4)
            call.response = ChatResponse(parts=(), finish_reason=FinishReason.STOP, usage=usage)
            answered.set()

    async with scripted_provider() as provider:
        async with served_gateway(tmp_path, provider) as (gateway, _, _):
            budget = Budget(period="total", tokens=10**6)
            key, _ = await gateway.keys.create(KeyDraft(name="k", requests_per_minute=1000, budget=budget))
            for steps in range(20):
                # By asyncio itself, which no shield holds back; after more and more steps of the event loop.
                answered = asyncio.Event()
                task = asyncio.ensure_future(make(gateway, key, answered))
                await answered.wait()
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() or task.exception() is None
    async with await Database.open(url) as database:
        balance = await BudgetStore(database, instance="next").balance(key)
        assert balance is not None
        assert (balance.spent.tokens, balance.reserved.tokens) == (20 * 14, 0)
        assert len(await UsageStore(database, log_days=1).log()) == 20


@pytest.mark.parametrize(("model", "cost"), [("priced", 3900), ("both", 3900), ("own", 18 * 10**9)])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_is_lost_on_its_way_to_the_client_is_charged(
    setup: Setup, model: str, cost: int, stream: bool
) -> None:
    key, _ = await setup.key(budget=Budget(period="total", cost=10**13))
    calls = Calls(setup.gateway)
    request = ChatRequest(messages=(user("hi"),), max_output_tokens=100)
    for error in (StreamClosed("the client has disconnected"), asyncio.CancelledError(), CallError("a middleware")):
        before = await setup.spent(key)
        with pytest.raises(type(error)):
            async with calls.admit(key, calls.find_target(key, model), request, api="/x") as call:
                async with call.use_service() as service:
                    if stream:
                        async with service.stream(request) as call.stream:
                            await call.stream.finish()
                            raise error
                    await service.chat(request)
                    raise error
        tokens, spent = await setup.spent(key)
        assert (tokens - before[0], spent - before[1]) == (14, cost)


COUNT: dict[str, object] = {"model": "main", "messages": [{"role": "user", "content": "hi"}]}


async def test_a_count_of_tokens_is_a_request_of_the_limits_and_costs_nothing(setup: Setup) -> None:
    key, headers = await setup.key(requests_per_minute=2, tokens_per_minute=1, budget=Budget(period="total", tokens=0))
    for left in ("1", "0"):
        answer = await setup.client.post("/v1/messages/count_tokens", json=COUNT, headers=headers)
        assert (answer.status_code, answer.json()["input_tokens"] > 0) == (200, True)
        assert answer.headers["anthropic-ratelimit-requests-remaining"] == left
    refused = await setup.client.post("/v1/messages/count_tokens", json=COUNT, headers=headers)
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    assert await setup.spent(key) == (0, 0)
    await setup.gateway.usage.flush()
    counted = await setup.gateway.usage.log(key_id=key.id)
    assert [(call.api, call.outcome, call.input_tokens, call.cost) for call in counted] == [
        ("/v1/messages/count_tokens", "ok", 0, 0)
    ] * 2


async def test_a_count_of_tokens_asks_for_the_beta_features_and_names_what_it_leaves_out(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.send(200, {"input_tokens": 7})

    setup.provider.script = script
    _, headers = await setup.key()
    body = {**COUNT, "context_management": {"edits": []}}
    for model in ("claude", "main"):
        sent = {**headers, "anthropic-beta": "context-management-2025-06-27"}
        answer = await setup.client.post("/v1/messages/count_tokens", json={**body, "model": model}, headers=sent)
        warnings = answer.headers.get("x-trunkline-warnings", "")
        assert ("context_management" in warnings, "estimate" in warnings) == (model == "main", model == "main")
    [call] = setup.provider.calls
    assert call.body["context_management"] == body["context_management"]
    assert b"anthropic-beta: context-management-2025-06-27" in call.head.lower()


async def test_the_drain_waits_for_a_count_of_tokens_and_admits_no_more(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.reader.read()

    setup.provider.script = script
    _, headers = await setup.key()
    body = {**COUNT, "model": "claude"}
    count = asyncio.ensure_future(setup.client.post("/v1/messages/count_tokens", json=body, headers=headers))
    await setup.wait_for(lambda: setup.provider.open_calls == 1)
    assert [call.api for call in setup.gateway.running] == ["/v1/messages/count_tokens"]
    setup.gateway.start_draining()
    refused = await setup.client.post("/v1/messages/count_tokens", json=COUNT, headers=headers)
    setup.gateway.running.cancel_all()
    for answer in (refused, await count):
        assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "true")
    await setup.wait_for(lambda: not len(setup.gateway.running))


@pytest.mark.parametrize("state", ["reserves", "runs"])
async def test_the_usage_of_a_call_that_the_end_of_the_gateway_cuts_off_is_written(tmp_path: Path, state: str) -> None:
    services = tmp_path / "trunkline.toml"
    services.write_text(SERVICES.format(url="http://127.0.0.1:1", more=""))
    settings = GatewaySettings(port=0, data_dir=tmp_path, services=services)
    request = ChatRequest(messages=(user("hi"),))
    async with Gateway(settings) as gateway:
        key, _ = await gateway.keys.create(KeyDraft(name="k", budget=Budget(period="total", tokens=10**6)))
        calls = Calls(gateway)

        async def make() -> None:
            async with calls.admit(key, calls.find_target(key, "main"), request, api="/x") as call:
                with call.running.scope:
                    await asyncio.Event().wait()

        task = asyncio.ensure_future(make())
        await asyncio.sleep(0)
        while state == "runs" and not len(gateway.running):  # noqa: ASYNC110
            await asyncio.sleep(0)
    await task
    async with await Database.open(settings.database_url) as database:
        balance = await BudgetStore(database, instance="next").balance(key)
        assert balance is not None
        assert balance.reserved.tokens == 0
        assert [one.outcome for one in await UsageStore(database, log_days=1).log()] == ["cancelled"]


async def test_a_gateway_goes_on_when_it_cannot_read_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("trunkline_gateway.gateway.REVISION_INTERVAL", 0.01)
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    service = StoredService(name="a", table={"provider": "openai"}, secrets={"api_key": "sk-1"})
    async with Gateway(GatewaySettings(data_dir=tmp_path, encryption_key=Secret(old))) as gateway:
        async with await Database.open(gateway.settings.database_url) as database:  # of an instance with a newer key
            await ServiceStore(database, Encryption(Secret(f"{new},{old}"))).save(service)
        async with asyncio.timeout(20):
            while "changes could not be read: the secrets in the database were encrypted" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await gateway.keys.create(KeyDraft(name="k"))


async def test_a_change_that_another_instance_makes_while_the_gateway_starts_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline_gateway.gateway.REVISION_INTERVAL", 0.01)
    settings = GatewaySettings(data_dir=tmp_path, encryption_key=Secret(Fernet.generate_key().decode()))
    service = StoredService(name="a", table={"provider": "openai"}, secrets={"api_key": "sk-1"})

    async def change(services: Services, sessions: SessionStore) -> None:
        async with await Database.open(settings.database_url) as database:  # of another instance
            await ServiceStore(database, encryption_of(settings)).save(service)

    # The services have been read by then.
    monkeypatch.setattr("trunkline_gateway.gateway.add_embedded_model", change)
    async with Gateway(settings) as gateway, asyncio.timeout(20):
        while [state.name for state in gateway.services.states()] != ["a"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_call_is_refused_for_now_while_the_database_is_away(setup: Setup) -> None:
    _, headers = await setup.key()
    await setup.gateway.database.aclose()
    refused = await setup.chat(headers)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (503, "true")
    assert "database" in refused.json()["error"]["message"]


async def test_models_are_asked_again_after_a_change_and_not_of_a_service_that_was_deleted(setup: Setup) -> None:
    released = asyncio.Event()

    async def script(call: Call) -> None:
        await released.wait()
        await call.send(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})

    setup.provider.script = script
    models = setup.gateway.models
    assert await models.of_service("deleted") == ()
    first = asyncio.ensure_future(models.of_service("main"))
    await setup.wait_for(lambda: setup.provider.open_calls == 1)
    models.forget()
    released.set()
    await first
    assert [info.id for info in await models.of_service("main")] == ["m"]
    assert len(setup.provider.calls) == 2


async def test_a_list_of_models_stays_while_its_service_cannot_be_asked(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline_gateway.models.KEPT", 0.0)
    monkeypatch.setattr("trunkline_gateway.models.KEPT_AFTER_FAILURE", 0.0)
    answers = [
        (200, {"object": "list", "data": [{"id": "m", "object": "model"}]}),
        (500, {"error": {"message": "down"}}),
        (200, {"object": "list", "data": []}),
    ]

    async def script(call: Call) -> None:
        await call.send(*answers[len(setup.provider.calls) - 1])

    setup.provider.script = script
    listed = [[info.id for info in await setup.gateway.models.of_service("main")] for _ in answers]
    assert listed == [["m"], ["m"], []]


# Requests that fail before the one that is answered


def failing_first(setup: Setup, how: str) -> None:
    """Let the first request to the provider fail, and answer the others."""

    async def script(call: Call) -> None:
        if len(setup.provider.calls) > 1:
            await call.answer()
        elif how == "refused":
            await call.send(503, {"error": {"message": "full"}})
        elif how == "broken off" and not call.body.get("stream"):
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n{"
            call.writer.write(head)
            await call.writer.drain()
        elif how == "broken off":
            await call.start()

    setup.provider.script = script


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["again", "pair"])
async def test_a_request_that_broke_off_before_another_one_was_answered_is_charged(
    setup: Setup, model: str, stream: bool
) -> None:
    failing_first(setup, "broken off")
    key, headers = await setup.key(budget=Budget(period="total", cost=10**12), tokens_per_minute=10**6)
    assert (await setup.chat(headers, model, stream=stream)).status_code == 200
    assert len(setup.provider.calls) == 2
    tokens, cost = await setup.spent(key)
    first = tokens - 14
    assert (first > 0, cost) == (True, (10 + first) * 150 + 4 * 600)
    await setup.gateway.usage.flush()
    (call,) = await setup.gateway.usage.log(key_id=key.id)
    assert (call.input_tokens, call.output_tokens, call.estimated) == (10 + first, 4, True)
    assert call.cost == (10 + first) * 150 + 4 * 600


async def test_a_request_of_unknown_price_leaves_the_cost_of_the_answered_one(setup: Setup) -> None:
    failing_first(setup, "broken off")
    key, headers = await setup.key(budget=Budget(period="total", tokens=10**6))
    assert (await setup.chat(headers, "local-first")).status_code == 200
    tokens, cost = await setup.spent(key)
    assert (tokens > 14, cost) == (True, 10 * 150 + 4 * 600)
    await setup.gateway.usage.flush()
    (call,) = await setup.gateway.usage.log(key_id=key.id)
    assert call.cost == cost


@pytest.mark.parametrize("model", ["again", "pair"])
async def test_a_request_that_the_provider_refused_costs_nothing(setup: Setup, model: str) -> None:
    failing_first(setup, "refused")
    key, headers = await setup.key(budget=Budget(period="total", cost=10**12))
    assert (await setup.chat(headers, model)).status_code == 200
    assert await setup.spent(key) == (14, 10 * 150 + 4 * 600)


@pytest.mark.parametrize("stream", [False, True])
async def test_all_requests_of_a_call_that_failed_are_charged(setup: Setup, stream: bool) -> None:
    async def script(call: Call) -> None:
        if stream:
            await call.start()

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", tokens=10**6))
    assert "error" in (await setup.chat(headers, "priced", stream=stream)).text
    once = (await setup.spent(key))[0]
    assert once > 0 or not stream  # a connection that ends before any byte counts as not sent
    assert "error" in (await setup.chat(headers, "pair", stream=stream)).text
    assert len(setup.provider.calls) == 4
    assert (await setup.spent(key))[0] == 4 * once


async def test_a_stream_that_broke_off_is_charged_once(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.start()
        await call.event("x" * 400)

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", tokens=10**6))
    assert "error" in (await setup.chat(headers, "pair", stream=True)).text
    assert 100 <= (await setup.spent(key))[0] < 150


async def test_calls_of_tools_in_a_stream_that_broke_off_are_charged(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.start()
        function = {"name": "look", "arguments": '{"place": "' + "x" * 4000}
        calls = [{"index": 0, "id": "t1", "type": "function", "function": function}]
        await call.chunk({"choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": None}]})

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", tokens=10**6))
    assert "error" in (await setup.chat(headers, stream=True)).text
    assert (await setup.spent(key))[0] >= 1000


async def test_a_stream_of_a_composed_service_that_broke_off_has_the_price_of_the_member_that_answered(
    setup: Setup,
) -> None:
    async def script(call: Call) -> None:
        await call.start()
        await call.event("x" * 400)

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", cost=10**15))
    assert "error" in (await setup.chat(headers, "both", stream=True)).text
    _, cost = await setup.spent(key)
    await setup.gateway.usage.flush()
    (call,) = await setup.gateway.usage.log(key_id=key.id)
    assert call.output_tokens >= 50
    assert cost == call.cost == call.input_tokens * 150 + call.output_tokens * 600


async def test_a_call_that_is_cancelled_while_it_waits_to_be_sent_again_is_charged_for_what_was_sent(
    setup: Setup,
) -> None:
    async def script(call: Call) -> None:
        await call.send(429, {"error": {"message": "full"}}, "retry-after: 30")

    setup.provider.script = script
    key, headers = await setup.key(budget=Budget(period="total", tokens=10**6))
    call = asyncio.ensure_future(setup.chat(headers, "again"))
    await setup.wait_for(lambda: bool(setup.provider.calls) and not setup.provider.open_calls)
    setup.gateway.running.cancel_all()
    assert (await call).status_code == 503
    assert await setup.spent(key) == (0, 0)


# The time for a request, and for reading its answer


class Loop:
    """The timers of a protocol, which the test ends itself."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.tasks: list[asyncio.Task[None]] = []

    def call_later(self, seconds: float, function: Callable[..., None], *arguments: object) -> Timer:
        self.timers.append(Timer(seconds, lambda: function(*arguments), self))
        return self.timers[-1]

    def create_task(self, work: Any) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    def end(self, seconds: float) -> None:
        """End the one timer of so many seconds."""
        (timer,) = (timer for timer in self.timers if timer.seconds == seconds)
        timer.cancel()
        timer.function()


@attrs.frozen(eq=False)
class Timer:
    seconds: float
    function: Callable[[], None]
    loop: Loop

    def cancel(self) -> None:
        if self in self.loop.timers:
            self.loop.timers.remove(self)


class Connection(asyncio.Transport):
    """The other end of a protocol."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.buffered = 0
        self.state = "open"

    def write(self, data: Any) -> None:
        self.sent += data

    def close(self) -> None:
        self.state = "closing"

    def abort(self) -> None:
        self.state = "aborted"

    def is_closing(self) -> bool:
        return self.state != "open"

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def connected(setup: Setup) -> tuple[Any, Loop, Connection]:
    config = setup.server.config
    loop, connection = Loop(), Connection()
    state = uvicorn.server.ServerState()
    protocol: Any = protocol_for(setup.gateway)(config, state, {}, _loop=loop)  # type: ignore[arg-type]
    protocol.connection_made(connection)
    return protocol, loop, connection


@pytest.mark.parametrize(("arrived", "state"), [(479, "closing"), (480, "open")])
async def test_a_body_that_arrives_too_slowly_is_refused(setup: Setup, arrived: int, state: str) -> None:
    _, headers = await setup.key()
    protocol, loop, connection = connected(setup)
    head, _, body = request_of(headers, user="x" * 2000).partition(b"\r\n\r\n")
    protocol.data_received(head + b"\r\n\r\n" + body[:200])
    for number in range(200, arrived):
        protocol.data_received(body[number : number + 1])
    loop.end(2.0)
    assert connection.state == state
    if state == "open":
        protocol.data_received(body[arrived : arrived + 479])
        loop.end(2.0)
    assert (connection.sent[:13], connection.state) == (b"HTTP/1.1 408 ", "closing")
    protocol.connection_lost(None)
    await asyncio.wait(loop.tasks)
    assert not loop.timers
    assert not setup.provider.calls


CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"


@pytest.mark.parametrize("sent", [b"0\r\n" + b"a: b\r\n" * 20_000, b"0\r\na: " + b"b" * 99_999, b"1;" + b"b" * 99_999])
async def test_what_is_sent_around_a_body_is_limited(setup: Setup, sent: bytes) -> None:
    protocol, loop, connection = connected(setup)
    protocol.data_received(CHUNKED + b"\r\n")
    for start in range(0, len(sent), 10_000):
        if not connection.is_closing():
            protocol.data_received(sent[start : start + 10_000])
    assert (connection.sent[:13], connection.state) == (b"HTTP/1.1 431 ", "closing")
    protocol.connection_lost(None)
    await asyncio.wait(loop.tasks)
    assert not loop.timers


async def test_a_body_in_tiny_chunks_is_read_and_fields_after_it_are_dropped(setup: Setup) -> None:
    _, headers = await setup.key()
    protocol, loop, connection = connected(setup)
    body = request_of({}, user="x" * 40_000).partition(b"\r\n\r\n")[2]
    protocol.data_received(CHUNKED + f"authorization: {headers['authorization']}\r\n\r\n".encode())
    for start in range(0, len(body), 1000):
        protocol.data_received(b"".join(b"1\r\n%c\r\n" % byte for byte in body[start : start + 1000]))
    protocol.data_received(b"0\r\nauthorization: Bearer other\r\n\r\n")
    await asyncio.wait(loop.tasks)
    assert connection.sent.startswith(b"HTTP/1.1 200 ")
    protocol.connection_lost(None)


async def test_a_body_that_the_gateway_does_not_read_is_not_too_slow(setup: Setup) -> None:
    protocol, loop, connection = connected(setup)
    protocol.data_received(request_of({}, user="x" * 200_000)[:100_000])
    loop.end(2.0)  # the body waits for the endpoint
    assert connection.state == "open"
    protocol.connection_lost(None)
    await asyncio.wait(loop.tasks)


async def test_the_time_for_a_request_ends_with_its_last_byte(setup: Setup) -> None:
    _, headers = await setup.key()
    protocol, loop, connection = connected(setup)
    protocol.data_received(request_of(headers))
    assert not loop.timers
    await asyncio.wait(loop.tasks)
    assert connection.sent.startswith(b"HTTP/1.1 200 ")
    protocol.connection_lost(None)


async def test_the_beginning_of_the_next_request_ends_no_answer(setup: Setup) -> None:
    _, headers = await setup.key()
    protocol, loop, connection = connected(setup)
    protocol.data_received(request_of(headers) + b"GET ")
    assert not loop.timers
    await asyncio.wait(loop.tasks)
    assert connection.sent.startswith(b"HTTP/1.1 200 ")
    protocol.data_received(b"/")
    loop.end(1.0)
    assert connection.state == "closing"
    protocol.connection_lost(None)


@pytest.mark.parametrize(
    ("sent", "status"), [(b"nonsense\r\n\r\n", b"400"), (b"GET / HTTP/1.1\r\na: " + b"b" * 70_000, b"431")]
)
async def test_a_client_that_does_not_read_that_its_request_is_wrong_is_cut_off(
    setup: Setup, sent: bytes, status: bytes
) -> None:
    protocol, loop, connection = connected(setup)
    protocol._stop_timer()
    protocol.data_received(sent)
    assert (connection.sent[9:12], connection.state) == (status, "closing")
    loop.end(1.0)
    assert connection.state == "aborted"
    protocol.connection_lost(None)


async def test_what_a_client_has_not_received_is_counted_in_the_kernel_too(setup: Setup) -> None:
    async def script(call: Call) -> None:
        await call.answer(text="x" * 400_000)

    setup.provider.script = script
    _, headers = await setup.key()
    url = setup.client.base_url
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((url.host, url.port))
        client.sendall(request_of(headers))
        await setup.wait_for(lambda: bool(setup.connections()))
        protocol: Any = next(iter(setup.server.server_state.connections))
        await setup.wait_for(lambda: protocol.cycle is not None and protocol.cycle.response_complete)
        accepted = protocol.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 64 * 1024
        if sys.platform == "linux":
            assert protocol.unread() > protocol.transport.get_write_buffer_size()
        client.setblocking(False)
        received = 0
        loop = asyncio.get_running_loop()
        while received < 400_000:
            received += len(await loop.sock_recv(client, 65536))
        await setup.wait_for(lambda: protocol.unread() == 0)


@pytest.mark.parametrize(("read", "state"), [(239, "aborted"), (240, "open")])
async def test_a_client_that_reads_too_slowly_is_cut_off(setup: Setup, read: int, state: str) -> None:
    protocol, loop, connection = connected(setup)
    loop.timers.clear()
    connection.buffered = 100_000
    protocol.pause_writing()
    connection.buffered -= read
    loop.end(1.0)
    assert connection.state == state
    protocol.connection_lost(None)


async def test_a_stream_waits_for_a_client_that_reads_slowly_and_ends_with_one_that_stops(setup: Setup) -> None:
    paused = asyncio.Event()

    async def script(call: Call) -> None:
        await call.start()
        await call.event("blue")
        await paused.wait()
        await call.event("green")
        await call.reader.read()

    setup.provider.script = script
    key, headers = await setup.key()
    protocol, loop, connection = connected(setup)
    protocol.data_received(request_of(headers, stream=True))
    await setup.wait_for(lambda: b"blue" in connection.sent)
    connection.buffered = 100_000
    protocol.pause_writing()
    paused.set()
    (call,) = setup.gateway.running
    await setup.wait_for(lambda: call.output_characters == len("bluegreen"))
    for _ in range(3):
        connection.buffered -= 1000
        loop.end(1.0)
    assert (connection.state, len(setup.gateway.running)) == ("open", 1)
    loop.end(1.0)
    assert connection.state == "aborted"
    protocol.connection_lost(None)
    await asyncio.wait(loop.tasks)
    async with asyncio.timeout(20):
        while not (logged := await setup.gateway.usage.log(key_id=key.id)):
            await setup.gateway.usage.flush()
    assert [(one.outcome, one.status) for one in logged] == [("cancelled", 499)]
    await setup.wait_for(lambda: not setup.provider.open_calls)
