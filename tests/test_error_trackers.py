"""No credential is in what error trackers store of a failed call, whatever sends it and however it fails.

Error trackers keep the local variables of each frame of a traceback. These tests pass the errors of calls to the
serializer of the Sentry SDK, which also shows the items of every mapping and sequence, and to the standard library's
`TracebackException`. The frames of this file are the application's own, and are left out.
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import anyio
import anyio.lowlevel
import httpx
import httpx2
import pytest
import trunkline
from sentry_sdk.consts import DEFAULT_OPTIONS
from sentry_sdk.serializer import serialize
from sentry_sdk.utils import event_from_exception
from trunkline.errors import PluginError, TrunklineError
from trunkline.service import Service
from trunkline.testing import Exchange, serve

KEY = "sk-canary/Ab+9=Zz0-key"
TOKEN = "token-canary-Qq7-0123456789"
PASSWORD = "canary-password-0123456789"
SECRETS = (KEY, TOKEN, PASSWORD, quote(KEY, safe=""))
SOON = 0.05
LONG = 20.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stored(error: BaseException) -> str:
    """Return what error trackers store: the text of the errors and the local variables of each frame."""
    event, _ = event_from_exception(error, client_options={**DEFAULT_OPTIONS, "max_value_length": None})
    for value in event["exception"]["values"]:
        frames = value.get("stacktrace", {}).get("frames", [])
        frames[:] = [frame for frame in frames if frame.get("abs_path") != __file__]
    found = [json.dumps(serialize(event), ensure_ascii=False)]
    waiting: list[traceback.TracebackException | None] = [
        traceback.TracebackException.from_exception(error, capture_locals=True)
    ]
    while waiting:
        current = waiting.pop()
        if current is None:
            continue
        found += list(current.format_exception_only())
        found += [f"{line.name}: {line.locals}" for line in current.stack if line.filename != __file__]
        waiting += [current.__cause__, current.__context__, *(current.exceptions or ())]
    return "\n".join(found)


def leaks(text: str) -> list[str]:
    """Return where a secret shows. The start of one is enough."""
    positions = [text.find(secret[:14]) for secret in SECRETS]
    return [text[max(position - 300, 0) : position + 60] for position in positions if position >= 0]


# The ways to send a request


@asynccontextmanager
async def opened(way: str, url: str, **settings: Any) -> AsyncIterator[Service]:
    """Open a service that sends in one of the ways."""
    options: dict[str, Any] = {"api_key": KEY, "api_url": url, "default_model": "m", "max_retries": 0, **settings}
    client: Any = None
    provider = "openai"
    if way in ("aiohttp", "httpx2"):
        options["http_library"] = way
    elif way == "proxy":
        options |= {"api_url": "http://api.example/v1", "proxy": url.replace("//", f"//user:{PASSWORD}@")}
    elif way == "bedrock":
        provider = "bedrock"
        options |= {"aws_region": "us-east-1", "aws_access_key_id": "AKIA1234567890", "aws_secret_access_key": KEY}
        options |= {"aws_session_token": TOKEN}
        del options["api_key"]
    else:
        client = {"own httpx": httpx.AsyncClient, "own httpx2": httpx2.AsyncClient}[way](headers={"x-own": TOKEN})
    async with trunkline.open_service(provider, http_client=client, **options) as service:
        yield service
    if client is not None:
        await client.aclose()


WAYS = ["aiohttp", "httpx2", "proxy", "own httpx", "own httpx2", "bedrock"]


async def chat(service: Service) -> None:
    await service.chat("Hello?")


async def read(service: Service) -> None:
    async with service.stream("Hello?") as stream:
        async for _ in stream:
            pass


# The ways to fail


FIRST = b'data: {"id": "1", "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}}]}\n\n'


def echo(exchange: Exchange) -> bytes:
    """The secrets, as a careless server says them."""
    return " ".join(["Bearer", KEY, *exchange.request.headers.values()]).encode()


async def refused(exchange: Exchange) -> None:
    await exchange.respond(echo(exchange), status=400, headers={"content-type": "text/plain"})


async def lost(exchange: Exchange) -> None:
    await exchange.reset()


async def garbled(exchange: Exchange) -> None:
    await exchange.respond(b'{"choices": "' + echo(exchange))


async def cut(exchange: Exchange) -> None:
    await exchange.start()
    await exchange.chunk(FIRST)
    await exchange.chunk(b"data: " + echo(exchange))
    await exchange.reset()


async def silent(exchange: Exchange) -> None:
    await exchange.hung_up()


async def stalled(exchange: Exchange) -> None:
    await exchange.start()
    await exchange.chunk(FIRST)
    await exchange.hung_up()


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("answer", [refused, lost, garbled, cut])
@pytest.mark.parametrize("call", [chat, read])
async def test_failed_call(
    way: str, answer: Any, call: Callable[[Service], Awaitable[None]], anyio_backend: str
) -> None:
    if way == "aiohttp" and anyio_backend == "trio":
        pytest.skip("aiohttp runs on asyncio only")
    async with serve(answer) as server, opened(way, server.url) as service:
        with pytest.raises(TrunklineError) as caught:
            await call(service)
    assert not leaks(stored(caught.value))


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", [b"", FIRST])
@pytest.mark.parametrize("call", [chat, read])
async def test_timeout_of_the_application(
    way: str, first: bytes, call: Callable[[Service], Awaitable[None]], anyio_backend: str
) -> None:
    if way == "aiohttp" and anyio_backend == "trio":
        pytest.skip("aiohttp runs on asyncio only")
    if way == "bedrock" and first:
        pytest.skip("the stream is not in the wire format of Bedrock")
    expire: Callable[[], None] = lambda: None  # noqa: E731

    async def handler(exchange: Exchange) -> None:
        if first:
            await exchange.start()
            await exchange.chunk(first)
        expire()
        await exchange.hung_up()

    def expire_scope() -> None:
        scope.deadline = anyio.current_time()

    def expire_timeout() -> None:
        timeout.reschedule(asyncio.get_running_loop().time())

    async with serve(handler) as server, opened(way, server.url) as service:
        expire = expire_scope
        with pytest.raises(TimeoutError) as caught:
            with anyio.fail_after(LONG) as scope:
                await call(service)
        assert not leaks(stored(caught.value))
        if anyio_backend == "asyncio":
            expire = expire_timeout
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(LONG) as timeout:
                    await call(service)
            assert caught.value.__cause__ is not None
            assert not leaks(stored(caught.value))


@pytest.mark.anyio
@pytest.mark.parametrize("way", WAYS)
async def test_timeouts_of_the_service(way: str, anyio_backend: str) -> None:
    if way == "aiohttp" and anyio_backend == "trio":
        pytest.skip("aiohttp runs on asyncio only")
    limits: list[dict[str, Any]] = [{"total_timeout": SOON}, {"first_chunk_timeout": SOON}, {"chunk_timeout": SOON}]
    for options in limits:
        async with serve(stalled if "chunk_timeout" in options else silent) as server:
            async with opened(way, server.url, **options) as service:
                for call in (chat, read):
                    if "chunk_timeout" in options and (way == "bedrock" or call is chat):
                        continue  # a stream without a frame has no first content
                    with pytest.raises(TrunklineError) as caught:
                        await call(service)
                    assert not leaks(stored(caught.value))


@pytest.mark.anyio
async def test_exception_that_the_application_is_handling_stays_the_context(anyio_backend: str) -> None:
    async with serve(lost) as server, opened("httpx2", server.url) as service:
        for call in (chat, read):
            with pytest.raises(TrunklineError) as caught:
                try:
                    raise LookupError("the application's own")
                except LookupError as error:
                    own = error
                    await call(service)
            assert caught.value.__context__ is own
            assert own.__traceback__ is not None
            assert own.__context__ is None


# Errors before a call


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": [KEY]},
        {"api_key": KEY, "timeout": KEY},
        {"api_key": KEY, "chunk_timeout": "soon"},
        {"api_key": KEY, "headers": {"authorization": 3, "x": KEY}},
    ],
)
def test_wrong_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(TrunklineError) as caught:
        trunkline.open_service("openai", **settings)
    assert not leaks(stored(caught.value))
    table = {"services": {"a": {"provider": "openai", **settings}}}
    with pytest.raises(TrunklineError) as caught:
        trunkline.open_services(table)
    assert not leaks(stored(caught.value))


# Steps of plugins


@pytest.mark.anyio
async def test_stored_error_is_raised_anew_in_each_task(anyio_backend: str) -> None:
    caught: list[TrunklineError] = []

    async def call(service: Service, done: anyio.Event) -> None:
        try:
            await service.chat("Hello?")
        except TrunklineError as error:
            caught.append(error)
            await (
                anyio.lowlevel.checkpoint()
            )  # before Python 3.13, clearing the frames of the error killed the task here
            if len(caught) == 3:
                done.set()
            await done.wait()

    error = trunkline.AuthenticationError("the token endpoint refuses", code="no")
    error.add_note("asked once")
    auth = KeptFailure(error)
    async with trunkline.open_service("openai", api_key=KEY, default_model="m", extensions=[auth]) as service:
        with anyio.fail_after(LONG):
            done = anyio.Event()
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(call, service, done)
    assert len({id(each) for each in [*caught, error]}) == 4
    assert {type(each) for each in caught} == {trunkline.AuthenticationError}
    assert all((each.code, each.__notes__) == ("no", ["asked once"]) for each in caught)
    caught[0].add_note("one more")
    assert error.__notes__ == caught[1].__notes__ == ["asked once"]
    assert not any(leaks(stored(each)) for each in caught)


class KeptFailure:
    """An extension whose `Auth` raises one error object to every call."""

    secrets = (TOKEN,)

    def __init__(self, error: Exception) -> None:
        self._error = error

    @trunkline.hookimpl(tryfirst=True)
    def trunkline_auth(self, context: Any) -> Any:
        return self

    async def __aenter__(self) -> KeptFailure:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    async def acquire(self, *, refresh: bool = False) -> str:
        await anyio.lowlevel.checkpoint()
        raise self._error

    def sign(self, wire_request: Any, credentials: str) -> Any:
        return wire_request


@pytest.mark.anyio
async def test_foreign_exception_becomes_a_plugin_error(anyio_backend: str) -> None:
    auth = KeptFailure(LookupError(f"no entry for {KEY} and {TOKEN}"))
    async with trunkline.open_service("openai", api_key=KEY, default_model="m", extensions=[auth]) as service:
        for call in (chat, read, Service.authenticate):
            with pytest.raises(
                PluginError, match="the authentication of KeptFailure failed: LookupError: no entry"
            ) as it:
                await call(service)
            assert it.value.distribution == "KeptFailure"
            assert "in acquire" in "".join(it.value.__notes__)
            assert not leaks(stored(it.value))
