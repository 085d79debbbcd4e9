"""The applications of docs/howto/web-servers.md, served by uvicorn over real sockets, with clients that hang up."""

from __future__ import annotations

import importlib
import json
import logging
import re
import shutil
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import httpx2
import pytest
import uvicorn
from doc_examples import examples
from starlette.middleware.base import BaseHTTPMiddleware
from trunkline.testing import Exchange, LoopbackServer, serve

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "howto" / "web-servers.md"
MODULES = ("sse", "failures", "fastapi_app", "fastapi_status", "starlette_app", "litestar_app", "quart_app")
GUARD = 5.0
"""How long, in seconds, a test waits for what should happen at once."""


def with_middleware(app: Any) -> Any:
    app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
    return app


def for_newer_asgi(app: Any) -> Any:
    """Tell Starlette that the server raises an error when it sends to a client that has gone, and do so."""

    async def newer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        scope["asgi"]["spec_version"] = "2.4"

        async def send_or_raise(message: Any) -> None:
            await send(message)
            # uvicorn's own `send` returns in silence. Its cycle knows whether the client has gone.
            if send.__self__.disconnected:
                raise OSError("the client has gone")

        await app(scope, receive, send_or_raise)

    return newer


APPLICATIONS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "fastapi": ("fastapi_app", lambda app: app),
    "fastapi-middleware": ("fastapi_app", with_middleware),
    "starlette": ("starlette_app", lambda app: app),
    "litestar": ("litestar_app", lambda app: app),
    "quart": ("quart_app", lambda app: app),
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def loaded(name: str, http_library: str, folder: Path, url: str) -> Iterator[Any]:
    """Load one of the page's applications, which asks the provider at this URL."""
    files = list(examples(PAGE, ROOT))[-1].files
    assert set(files) == {f"{module}.py" for module in MODULES}
    for path, text in files.items():
        (folder / path).write_text(text, encoding="utf-8")
    module, wrap = APPLICATIONS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("OPENAI_API_KEY", "a-key-for-tests")
        patch.setenv("TRUNKLINE_OPENAI_HTTP_LIBRARY", http_library)
        patch.setenv("TRUNKLINE_OPENAI_MAX_RETRIES", "0")
        patch.setenv("TRUNKLINE_OPENAI_API_URL", url)
        try:
            yield wrap(importlib.import_module(module).app)
        finally:
            for loaded_module in MODULES:
                sys.modules.pop(loaded_module, None)


class Log(logging.Handler):
    """What is logged as a warning or an error."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"{record.name}: {record.getMessage()}")


def words(*texts: str) -> bytes:
    chunks = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    return b"".join(b"data: " + json.dumps({"choices": [chunk]}).encode() + b"\n\n" for chunk in chunks)


END = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


CLOSE = {"connection": "close"}


class Provider:
    """A provider that does what the question says. It keeps no connection open, so that none is left after a test."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.asked = anyio.Event()
        self.hung_up = anyio.Event()
        self.go_on = anyio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        body = json.loads(exchange.request.body)
        question = body["messages"][-1]["content"]
        exchange.keep_alive = False
        self.asked.set()
        match question:
            case "busy":
                return await exchange.respond(b'{"error": {"message": "no capacity"}}', status=503, headers=CLOSE)
            case "refuse":
                return await exchange.respond(b'{"error": {"message": "no such model"}}', status=404, headers=CLOSE)
            case "long":
                error = {"message": "too long", "code": "context_length_exceeded", "type": "invalid_request_error"}
                return await exchange.respond(json.dumps({"error": error}).encode(), status=400, headers=CLOSE)
            case "silent":
                return await self._wait(exchange)
        if not body.get("stream"):
            message = {"role": "assistant", "content": "All is well."}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return await exchange.respond(json.dumps({"choices": [choice]}).encode(), headers=CLOSE)
        if question == "late":
            await self.go_on.wait()
        await exchange.start(headers={"content-type": "text/event-stream", **CLOSE})
        await exchange.chunk(words("All ", "is "))
        match question:
            case "then silent":
                return await self._wait(exchange)
            case "then broken":
                return await exchange.hang_up()
            case "then late":
                await self.go_on.wait()
        await exchange.chunk(words("well.") + END)
        return await exchange.end()

    async def _wait(self, exchange: Exchange) -> None:
        await exchange.hung_up()
        self.hung_up.set()


@attrs.frozen
class Running:
    """The application, served by uvicorn, and the provider that it calls."""

    url: str
    port: int
    server: uvicorn.Server
    provider: Provider
    upstream: LoopbackServer
    logged: list[str]

    async def ask(self, path: str, question: str) -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=GUARD) as client:
            return await client.post(f"{self.url}{path}", json={"text": question})

    def connect(self, path: str, question: str) -> socket.socket:
        """Send a request over a socket, which the test closes."""
        body = json.dumps({"text": question}).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=GUARD)
        connection.sendall(head.encode() + body)
        return connection

    def heartbeat_interval(self, seconds: float) -> None:
        """Set the interval of the heartbeats. By default no test waits for one."""
        sys.modules["sse"].SECONDS = seconds  # type: ignore[attr-defined]

    async def still_works(self) -> None:
        """Check that no connection to the provider is open, and that the next call works."""
        with anyio.fail_after(GUARD):
            await self.upstream.wait_idle()
        assert (await self.ask("/chat", "fine")).json() == {"text": "All is well."}


@asynccontextmanager
async def running(
    name: str, http_library: str, folder: Path, *, wrap: Callable[[Any], Any] = lambda app: app, shutdown: int = 3
) -> AsyncIterator[Running]:
    log = Log()
    async with serve(Provider()) as upstream:
        with loaded(name, http_library, folder, upstream.url) as app:
            options: dict[str, Any] = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": shutdown}
            server = uvicorn.Server(uvicorn.Config(wrap(app), port=0, lifespan="on", **options))
            thread = threading.Thread(target=server.run)
            logging.getLogger().addHandler(log)
            thread.start()
            try:
                while not server.started:
                    assert thread.is_alive(), log.messages
                    await anyio.sleep(0.01)
                port = server.servers[0].sockets[0].getsockname()[1]
                provider: Any = upstream._handler
                web = Running(f"http://127.0.0.1:{port}", port, server, provider, upstream, log.messages)
                web.heartbeat_interval(600)
                yield web
            finally:
                server.should_exit = True
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(thread.join, GUARD)
                logging.getLogger().removeHandler(log)
            assert not thread.is_alive()
        with anyio.fail_after(GUARD):
            await upstream.wait_idle()


@pytest.fixture(scope="module", params=["httpx2", "aiohttp"])
def http_library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module", params=APPLICATIONS)
async def shared(
    request: pytest.FixtureRequest, http_library: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    async with running(request.param, http_library, tmp_path_factory.mktemp("web")) as web:
        yield web


@pytest.fixture
async def web(shared: Running) -> AsyncIterator[Running]:
    """A running application. Nothing that it does may be logged as a warning or an error."""
    shared.provider.reset()
    shared.heartbeat_interval(600)
    yield shared
    assert shared.logged == []


async def read_until(connection: socket.socket, what: bytes) -> bytes:
    def read() -> bytes:
        got = b""
        while what not in got:
            more = connection.recv(65536)
            assert more, got
            got += more
        return got

    return await anyio.to_thread.run_sync(read)


def events(text: str) -> list[tuple[str, Any]]:
    found = re.findall(r"(?:event: (\w+)\n)?data: (.*)\n\n", text)
    return [(name or "text", json.loads(data)) for name, data in found]


async def test_answers_arrive_whole_and_as_a_stream(web: Running) -> None:
    assert (await web.ask("/chat", "fine")).json() == {"text": "All is well."}
    response = await web.ask("/stream", "fine")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    *texts, last = events(response.text)
    assert "".join(data["text"] for _, data in texts) == "All is well."
    assert last == ("done", {})


@pytest.mark.parametrize("path", ["/chat", "/stream"])
async def test_client_that_hangs_up_before_the_first_token_ends_the_call(path: str, web: Running) -> None:
    connection = web.connect(path, "silent")
    with anyio.fail_after(GUARD):
        await web.provider.asked.wait()
        connection.close()
        await web.provider.hung_up.wait()
    await web.still_works()


async def test_client_that_hangs_up_in_the_middle_of_a_stream_ends_the_call(web: Running) -> None:
    connection = web.connect("/stream", "then silent")
    await read_until(connection, b"is ")
    connection.close()
    with anyio.fail_after(GUARD):
        await web.provider.hung_up.wait()
    await web.still_works()


@pytest.mark.parametrize("question", ["late", "then late"])
async def test_heartbeats_arrive_before_the_first_token_and_between_tokens(question: str, web: Running) -> None:
    web.heartbeat_interval(0.01)
    with web.connect("/stream", question) as connection:
        if question == "then late":
            await read_until(connection, b"is ")
        got = await read_until(connection, b": heartbeat\n\n")
        assert b"data" not in got
        web.provider.go_on.set()
        await read_until(connection, b"event: done")
    await web.still_works()


async def test_client_that_hangs_up_among_heartbeats_ends_the_call(web: Running) -> None:
    web.heartbeat_interval(0.01)
    connection = web.connect("/stream", "silent")
    with anyio.fail_after(GUARD):
        await web.provider.asked.wait()
        await read_until(connection, b": heartbeat\n\n")
        connection.close()
        await web.provider.hung_up.wait()
    await web.still_works()


async def test_errors_have_a_status_or_are_an_event_of_the_stream(web: Running) -> None:
    busy, refused = await web.ask("/chat", "busy"), await web.ask("/chat", "refuse")
    assert (busy.status_code, busy.json()) == (503, {"error": "Overloaded"})
    assert (refused.status_code, refused.json()) == (502, {"error": "NotFound"})
    long = await web.ask("/chat", "long")
    assert (long.status_code, long.json()) == (422, {"error": "ContextTooLong"})
    response = await web.ask("/stream", "busy")
    assert (response.status_code, events(response.text)) == (200, [("error", {"error": "Overloaded"})])
    response = await web.ask("/stream", "then broken")
    assert [name for name, _ in events(response.text)] == ["text", "text", "error"]
    logged = [message.split(": ")[:2] for message in web.logged]
    assert logged == [["failures", "a call failed"]] * 3 + [["sse", "a stream failed"]] * 2
    web.logged.clear()
    await web.still_works()


async def test_many_clients_that_hang_up_leave_nothing_behind(web: Running) -> None:
    before = len(web.upstream.requests)
    connections = [web.connect("/stream", "then silent") for _ in range(20)]
    connections += [web.connect("/chat", "silent") for _ in range(20)]
    with anyio.fail_after(GUARD):
        while len(web.upstream.requests) < before + 40:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    for connection in connections:
        connection.close()
    await web.still_works()


async def test_stream_can_be_opened_before_the_response_has_a_status(http_library: str, tmp_path: Path) -> None:
    async with running("fastapi", http_library, tmp_path) as web:
        importlib.import_module("fastapi_status")
        assert (await web.ask("/stream-with-status", "refuse")).status_code == 502
        assert len(web.logged) == 1
        web.logged.clear()
        assert "event: done" in (await web.ask("/stream-with-status", "fine")).text
        for question in ("silent", "then silent"):
            web.provider.reset()
            connection = web.connect("/stream-with-status", question)
            with anyio.fail_after(GUARD):
                await web.provider.asked.wait()
                if question == "then silent":
                    await read_until(connection, b"is ")
                connection.close()
                await web.provider.hung_up.wait()
        await web.still_works()
    assert web.logged == []


async def test_server_with_newer_asgi_ends_the_call_at_once(http_library: str, tmp_path: Path) -> None:
    async with running("fastapi", http_library, tmp_path, wrap=for_newer_asgi) as web:
        connection = web.connect("/stream", "silent")
        with anyio.fail_after(GUARD):
            await web.provider.asked.wait()
            connection.close()
            await web.provider.hung_up.wait()
        await web.still_works()


async def test_stopping_the_server_ends_open_streams(http_library: str, tmp_path: Path) -> None:
    async with running("fastapi", http_library, tmp_path, shutdown=1) as web:
        connection = web.connect("/stream", "then silent")
        await read_until(connection, b"is ")
        web.server.should_exit = True
        with anyio.fail_after(GUARD):
            await web.provider.hung_up.wait()
        rest = await anyio.to_thread.run_sync(connection.recv, 65536)
        assert b"event: done" not in rest
        connection.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_shows_the_events_as_they_arrive(web: Running) -> None:
    web.heartbeat_interval(0.01)
    body = json.dumps({"text": "then silent"})
    command = ["curl", "-sN", "-H", "content-type: application/json", "-d", body, f"{web.url}/stream"]
    async with await anyio.open_process(command, stderr=None) as curl:
        assert curl.stdout is not None
        got = b""
        while b"heartbeat" not in got or b"is " not in got:
            got += await curl.stdout.receive()
        curl.terminate()
    with anyio.fail_after(GUARD):
        await web.provider.hung_up.wait()
    await web.still_works()
