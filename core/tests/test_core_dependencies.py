"""The names and the behaviour of other libraries that the core uses beyond what they document.

They are httpcore2, httpx2, httpx with httpcore, anyio, trio, aiohttp and pluggy. A new version of one that fails here
needs a change in `_plugins/registry.py`, or in the module of `_http/` that uses the thing. The docstrings of these
modules say what each thing is used for.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import tomllib
from collections.abc import AsyncIterator, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import httpcore2
import httpx
import httpx2
import pluggy
import pytest
import trio
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import StreamReader
from anyio.streams.tls import TLSStream
from httpcore2._backends.anyio import AnyIOStream
from trunkline._http.choice import MIN_AIOHTTP
from trunkline._http.unsolicited import _connection, has_unsolicited_bytes, refuse_reuse
from trunkline.testing import Exchange, serve

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
RANGES = [
    *PROJECT["dependencies"],
    *(requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra),
]


# Versions


@pytest.mark.parametrize("name", ["httpcore2", "httpx2", "aiohttp"])
def test_range_is_capped_and_holds_the_installed_version(name: str) -> None:
    [found] = {item for item in RANGES if re.match(rf"{name}\b", item)}
    lowest, cap = (
        tuple(map(int, number.split(".")))
        for number in re.fullmatch(rf"{name}>=([\d.]+),<([\d.]+)", found).groups()  # type: ignore[union-attr]
    )
    installed = tuple(int(number) for number in version(name).split(".")[:3])
    assert lowest <= installed < cap


def test_the_extra_requires_the_oldest_aiohttp_that_is_used() -> None:
    [found] = [item for item in PROJECT["optional-dependencies"]["fast"] if item.startswith("aiohttp")]
    assert found.startswith(f"aiohttp>={MIN_AIOHTTP[0]}.{MIN_AIOHTTP[1]},")


def test_the_extra_aiohttp_is_the_extra_fast() -> None:
    assert PROJECT["optional-dependencies"]["aiohttp"] == ["trunkline[fast]"]


# httpcore2


class RecordingStream(httpcore2.AsyncNetworkStream):
    """A connection that serves one response and records the timeout of each read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = list(pieces)
        self.timeouts: list[float | None] = []

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.timeouts.append(timeout)
        return self.pieces.pop(0) if self.pieces else b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None: ...

    async def aclose(self) -> None: ...

    def get_extra_info(self, info: str) -> Any:
        return None


class RecordingBackend(httpcore2.AsyncNetworkBackend):
    """Hands out one stream, and records what is dialled."""

    def __init__(self, stream: RecordingStream) -> None:
        self.stream = stream
        self.dialled: list[tuple[str, int]] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.dialled.append((host, port))
        return self.stream


@pytest.mark.anyio
async def test_httpcore2_reads_the_timeout_of_the_body_when_its_iteration_starts() -> None:
    stream = RecordingStream([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", b"ok"])
    limits: dict[str, float | None] = {"connect": 1.0, "read": 2.0, "write": 3.0, "pool": None}
    async with httpcore2.AsyncConnectionPool(network_backend=RecordingBackend(stream)) as pool:
        request = httpcore2.Request("GET", "http://example.com/", headers=[("Host", "example.com")])
        request.extensions = {"timeout": limits}
        response = await pool.handle_async_request(request)
        limits["read"] = None
        assert await response.aread() == b"ok"
        await response.aclose()
    assert stream.timeouts == [2.0, None]


@pytest.mark.anyio
async def test_httpcore2_dials_through_the_network_backend_by_host_and_port() -> None:
    backend = RecordingBackend(RecordingStream([b"HTTP/1.1 204 No Content\r\n\r\n"]))
    async with httpcore2.AsyncConnectionPool(network_backend=backend) as pool:
        response = await pool.request("GET", "http://example.com:81/")
    assert response.status == 204
    assert backend.dialled == [("example.com", 81)]


def test_httpcore2_has_the_signatures_that_dialling_overrides_and_calls() -> None:
    parameters = ["self", "host", "port", "timeout", "local_address", "socket_options"]
    assert list(inspect.signature(httpcore2.AsyncNetworkBackend.connect_tcp).parameters) == parameters
    assert list(inspect.signature(httpcore2.AnyIOBackend.connect_tcp).parameters) == parameters


@pytest.mark.anyio
async def test_httpcore2_names_the_protocol_of_a_response() -> None:
    stream = RecordingStream([b"HTTP/1.1 204 No Content\r\nX-Upper: 1\r\n\r\n"])
    async with httpcore2.AsyncConnectionPool(network_backend=RecordingBackend(stream)) as pool:
        response = await pool.request("GET", "http://example.com/")
    assert response.extensions["http_version"] == b"HTTP/1.1"
    assert (b"X-Upper", b"1") in response.headers


def test_httpcore2_has_the_names_that_the_pool_calls_on_connections() -> None:
    assert isinstance(inspect.getattr_static(httpcore2.AsyncConnectionPool, "connections"), property)
    for name in ("is_idle", "can_handle_request", "aclose"):
        assert callable(getattr(httpcore2.AsyncConnectionInterface, name))
    assert list(inspect.signature(httpcore2.AsyncNetworkBackend.connect_unix_socket).parameters)[1:3] == [
        "path",
        "timeout",
    ]
    assert list(inspect.signature(AnyIOStream).parameters) == ["stream"]


class EndingStream(RecordingStream):
    """A connection that ends once its responses are served, and records what is written."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__(pieces)
        self.written: list[bytes] = []

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.written.append(buffer)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("pieces", "text"),
    [([], "Server disconnected"), ([b"HTTP/1.1 2"], "Server disconnected"), ([b"x\r\n\r\n"], "illegal status line")],
)
async def test_httpcore2_says_whether_a_server_closed_or_sent_no_http(pieces: list[bytes], text: str) -> None:
    async with httpcore2.AsyncConnectionPool(network_backend=RecordingBackend(EndingStream(pieces))) as pool:
        with pytest.raises(httpcore2.RemoteProtocolError, match=text):
            await pool.request("GET", "http://example.com/")


@pytest.mark.anyio
async def test_httpcore2_says_that_a_body_was_cut() -> None:
    stream = EndingStream([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"one"])
    async with httpcore2.AsyncConnectionPool(network_backend=RecordingBackend(stream)) as pool:
        with pytest.raises(httpcore2.RemoteProtocolError, match="peer closed connection"):
            await pool.request("GET", "http://example.com/")


@pytest.mark.anyio
async def test_httpcore2_keeps_no_connection_in_a_pool_without_idle_ones() -> None:
    backend = RecordingBackend(RecordingStream([b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"] * 2))
    async with httpcore2.AsyncConnectionPool(network_backend=backend, max_keepalive_connections=0) as pool:
        for _ in range(2):
            await pool.request("GET", "http://example.com/")
            assert pool.connections == []
    assert len(backend.dialled) == 2


# httpx2 and httpx


@pytest.mark.parametrize("library", [httpx2, httpx])
def test_a_client_shows_its_default_headers(library: Any) -> None:
    client = library.AsyncClient(transport=library.MockTransport(lambda request: library.Response(200)))
    assert {"accept", "accept-encoding", "connection", "user-agent"} <= {name.lower() for name in client.headers}


class Chunks(httpx2.AsyncByteStream, httpx.AsyncByteStream):
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async def aclose(self) -> None: ...


@pytest.mark.anyio
@pytest.mark.parametrize("library", [httpx2, httpx])
async def test_the_undecoded_stream_of_a_response_can_be_read_directly(library: Any) -> None:
    response = library.Response(200, stream=Chunks())
    assert response.is_stream_consumed is False
    assert [chunk async for chunk in response.stream] == [b"a", b"b"]


# The connection behind the stream of a response, of httpcore2 and of httpcore, and what it holds


@pytest.mark.anyio
@pytest.mark.parametrize("library", [httpx2, httpx])
async def test_the_connection_of_a_response_can_be_reached_from_a_client(library: Any) -> None:
    async with serve(two_chunks) as server, library.AsyncClient() as client:
        async with client.stream("GET", server.url) as response:
            connection = _connection(response.stream)
            assert (connection.is_idle(), connection._network_stream is None) == (False, False)
            assert [chunk async for chunk in response.stream] == [b"ab"]
            assert connection._h11_state.trailing_data == (b"", False)
            assert not has_unsolicited_bytes(response.stream)
        assert connection.is_idle()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_anyio_has_the_queue_that_is_checked(anyio_backend: str) -> None:
    async with serve(two_chunks) as server, await anyio.connect_tcp("127.0.0.1", server.port) as stream:
        assert len(stream._protocol.read_queue) == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["_ssl_object", "transport_stream"])
def test_tls_streams_have_the_names_that_are_checked(name: str) -> None:
    assert name in TLSStream.__annotations__
    assert f"self.{name}" in inspect.getsource(trio.SSLStream.__init__)


@pytest.mark.anyio
@pytest.mark.parametrize("ends", ["marked", "clean"])
async def test_httpcore2_closes_a_connection_whose_h11_has_failed(ends: str) -> None:
    stream = RecordingStream([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" + (b"x" if ends == "marked" else b"")])
    async with httpcore2.AsyncConnectionPool(network_backend=RecordingBackend(stream)) as pool:
        request = httpcore2.Request("GET", "http://example.com/", headers=[("Host", "example.com")])
        response = await pool.handle_async_request(request)
        await response.aread()
        assert has_unsolicited_bytes(response.stream) == (ends == "marked")
        if ends == "marked":
            refuse_reuse(response.stream)
        await response.aclose()
        [connection] = pool.connections or [None]
        assert (connection is None) == (ends == "marked")


# aiohttp


def test_aiohttp_has_the_names_that_the_transport_overrides_and_reads() -> None:
    assert list(inspect.signature(aiohttp.ClientResponse.start).parameters) == ["self", "connection"]
    assert isinstance(inspect.getattr_static(Connection, "protocol"), property)
    assert isinstance(inspect.getattr_static(Connection, "transport"), property)
    timeout = inspect.getattr_static(ResponseHandler, "read_timeout")
    assert isinstance(timeout, property)
    assert timeout.fset is not None
    assert isinstance(inspect.getattr_static(ResponseHandler, "closed"), property)
    assert callable(ResponseHandler.exception)
    assert isinstance(inspect.getattr_static(StreamReader, "total_raw_bytes"), property)
    assert list(inspect.signature(aiohttp.ClientRequest.send).parameters) == ["self", "conn"]
    names = ["self", "writer", "conn", "content_length"]
    assert list(inspect.signature(aiohttp.ClientRequest.write_bytes).parameters) == names
    assert list(inspect.signature(ResponseHandler.data_received).parameters) == ["self", "data"]
    assert callable(ResponseHandler.abort)
    assert callable(ResponseHandler.force_close)
    assert isinstance(inspect.getattr_static(ResponseHandler, "should_close"), property)
    made = inspect.signature(aiohttp.UnixConnector._create_connection)
    assert list(made.parameters) == ["self", "req", "traces", "timeout"]
    assert "self._factory, self._path" in inspect.getsource(aiohttp.UnixConnector._create_connection)
    assert list(inspect.signature(aiohttp.BaseConnector.connect).parameters) == ["self", "req", "traces", "timeout"]
    for name in ("exception", "set_exception", "read_nowait", "readany", "is_eof"):
        assert callable(getattr(StreamReader, name))


def test_aiohttp_has_the_exceptions_that_the_transport_distinguishes() -> None:
    assert issubclass(LineTooLong, HttpProcessingError)
    assert issubclass(aiohttp.ConnectionTimeoutError, aiohttp.ClientError)
    assert issubclass(aiohttp.SocketTimeoutError, aiohttp.ClientError)
    assert issubclass(aiohttp.ServerDisconnectedError, aiohttp.ClientConnectionError)
    assert issubclass(aiohttp.ClientConnectionResetError, aiohttp.ClientConnectionError)
    assert issubclass(aiohttp.ClientOSError, OSError)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_aiohttp_has_the_names_that_the_transport_sets_and_reads_on_a_session(anyio_backend: str) -> None:
    async with serve(two_chunks) as server, aiohttp.ClientSession() as session:
        assert session._retry_connection is True
        await (await session.get(server.url)).read()
        assert session.connector is not None
        [(key, connections)] = session.connector._conns.items()
        assert (key.host, key.port) == ("127.0.0.1", server.port)
        [(protocol, _)] = connections
        assert isinstance(protocol, ResponseHandler)
        assert vars(protocol) is not None


async def two_chunks(exchange: Exchange) -> None:
    await exchange.respond(b"ab")


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_aiohttp_starts_a_response_with_the_connection_that_it_reads(anyio_backend: str) -> None:
    seen: list[Connection] = []

    class Recording(aiohttp.ClientResponse):
        async def start(self, connection: Connection) -> aiohttp.ClientResponse:
            seen.append(connection)
            assert connection.protocol is not None
            assert connection.protocol.read_timeout == 7.0
            assert isinstance(connection.protocol.closed, asyncio.Future)
            assert connection.transport is not None
            return await super().start(connection)

    async with (
        serve(two_chunks) as server,
        aiohttp.ClientSession(response_class=Recording) as session,
        session.get(server.url, timeout=aiohttp.ClientTimeout(sock_read=7.0)) as response,
    ):
        assert await response.read() == b"ab"
    assert len(seen) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_aiohttp_keeps_the_bytes_that_arrived_before_an_error(anyio_backend: str) -> None:
    protocol = ResponseHandler(asyncio.get_running_loop())
    content = StreamReader(protocol, 2**16, loop=asyncio.get_running_loop())
    content.feed_data(b"ab")
    error = OSError("reset")
    content.set_exception(error)
    with pytest.raises(OSError, match="reset"):
        await content.readany()
    content.set_exception(None)  # type: ignore[arg-type]  # what the transport does
    assert content.read_nowait() == b"ab"
    content.set_exception(error)
    with pytest.raises(OSError, match="reset"):
        await content.readany()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("rest", "begun"), [(b"", False), (b"H", True), (b"HTTP/1.1 200 OK\r\na", True)])
async def test_aiohttp_returns_a_response_that_has_begun(anyio_backend: str, rest: bytes, begun: bool) -> None:
    protocol = ResponseHandler(asyncio.get_running_loop())
    protocol.set_response_params()
    parser: Any = protocol._parser
    parser.feed_data(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" + rest)
    assert (parser.feed_eof() is not None) == begun


# pluggy


def test_pluggy_calls_the_function_that_replaces_the_one_of_an_implementation() -> None:
    class Plugin:
        @pluggy.HookimplMarker("test")
        def greet(self) -> str:
            return "hello"

    manager = pluggy.PluginManager("test")
    manager.register(Plugin(), name="plugin")
    [implementation] = manager.hook.greet.get_hookimpls()
    assert implementation.plugin_name == "plugin"
    assert implementation.opts["specname"] is None
    assert (implementation.wrapper, implementation.hookwrapper) == (False, False)
    implementation.function = lambda: "replaced"  # type: ignore[misc]
    assert manager.hook.greet() == ["replaced"]
