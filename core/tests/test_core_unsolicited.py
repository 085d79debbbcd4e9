"""Bytes that a server sends behind a complete response, or while a connection is idle (fault class 76).

They must never be taken for the response to the next request, whoever has sent it: the connection is dropped. The tests
run over sockets, on each event loop, with each HTTP library and each kind of client.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import httpcore2
import httpx
import httpx2
import pytest
from trunkline import EmbedRequest, ServerError
from trunkline._http import aiohttp as aiohttp_transport
from trunkline._http.choice import HTTPTransports
from trunkline._http.early_answers import LARGE_WRITE
from trunkline._http.framing_headers import with_one_length
from trunkline.authoring.provider import SendOptions
from trunkline.authoring.wire import WireRequest
from trunkline.errors import RateLimited
from trunkline.settings import Settings

from .test_core_network import PROXIES, Authority

pytestmark = pytest.mark.anyio

LONG = 30.0
"""A limit that ends a test which hangs, in seconds."""

STACKS = [
    "asyncio/aiohttp",
    "asyncio/httpx2",
    "asyncio/client of httpx2",
    "asyncio/client of httpx",
    "uvloop/aiohttp",
    "uvloop/httpx2",
    "uvloop/client of httpx2",
    "trio/httpx2",
    "trio/client of httpx2",
    "trio/client of httpx",
]
RARE_STACKS = ("uvloop/client of httpx2", "trio/client of httpx")
"""Both parts of each are tested with another part."""
NETWORKS = ["tcp", "unix", "tls", "forward proxy", "tunnel", "socks"]


def marked(stacks: list[str]) -> list[Any]:
    return [pytest.param(stack, marks=pytest.mark.exhaustive if stack in RARE_STACKS else ()) for stack in stacks]


@pytest.fixture(params=marked(STACKS))
def stack(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name.startswith("uvloop"):
        pytest.importorskip("uvloop")
    return name


@pytest.fixture
def anyio_backend(stack: str) -> Any:
    backend = stack.partition("/")[0]
    return ("asyncio", {"use_uvloop": True}) if backend == "uvloop" else backend


@pytest.fixture
def http_library(stack: str) -> str:
    library = stack.partition("/")[2]
    return library if library in ("aiohttp", "httpx2") else "auto"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "ssl_cert_file", "ssl_cert_dir", "sslkeylogfile"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


# The server


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body


SECOND = response(b'{"text": "second"}')
EVIL = response(b'{"text": "evil"}')
EXTRA = {
    "a response": EVIL,
    "a stream": chunked(b'{"open": 1, "text": "evil"}\n{"done": true}\n'),
    "a status 408": response(b"idle", "connection: close", status="408 Request Timeout"),
    "a response without a body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "headers": b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n",
    "half a status line": b"HTTP/1.1 20",
    "half a header": b"HTTP/1.1 204 No Content\r\nx-header:",
    "one byte": b"}",
    "an informational response": b"HTTP/1.1 100 Continue\r\n\r\n",
    "many bytes": b"x" * 300_000,
}


class Channel:
    """The server's end of a connection, over TLS or not. `send` passes all its pieces to the socket at once."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.data = b""
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()

    def start_tls(self, context: ssl.SSLContext) -> None:
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._retry(self._tls.do_handshake)

    def _retry(self, function: Callable[..., Any], *arguments: Any) -> Any:
        while True:
            try:
                return function(*arguments)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                self._flush()
                data = self.sock.recv(2**16)
                if not data:
                    return b""
                self._in.write(data)

    def _flush(self) -> None:
        if self._out.pending:
            self.sock.sendall(self._out.read())

    def receive(self) -> bytes:
        """Read until there is more, and return all that was not used; the end of the connection raises `EOFError`."""
        read = self.sock.recv(2**16) if self._tls is None else self._retry(self._tls.read, 2**16)
        if not read:
            raise EOFError
        self.data += read
        return self.data

    def take(self, size: int) -> bytes:
        while len(self.data) < size:
            self.receive()
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def headers(self) -> bytes:
        while b"\r\n\r\n" not in self.data:
            self.receive()
        return self.take(self.data.index(b"\r\n\r\n") + 4)

    def request(self) -> bytes:
        headers = self.headers()
        lines = headers.lower().split(b"\r\n")
        self.take(next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0))
        return headers

    def send(self, *pieces: bytes) -> None:
        if self._tls is None:
            self.sock.sendall(b"".join(pieces))
            return
        for piece in pieces:
            self._tls.write(piece)
        self._flush()

    def end_tls(self, data: bytes) -> None:
        """Send the end of TLS (close_notify) together with `data`."""
        assert self._tls is not None
        self._tls.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()


class Server:
    """A server in a thread, so that its bytes can arrive while the event loop of the test does something else.

    `first` answers the first request. The others get `SECOND`.
    """

    def __init__(self, network: str, tls: ssl.SSLContext | None, first: Callable[[Channel], None]) -> None:
        self.network = network
        self.connections = 0
        self.requests: list[int] = []
        """The number of the connection of each request."""
        self.go = threading.Event()
        self.sent = threading.Event()
        self.failed: list[BaseException] = []
        self._tls = tls
        self._first = first
        self._threads: list[threading.Thread] = []
        self._folder = tempfile.TemporaryDirectory(prefix="tl", dir="/tmp")  # a short path, as in `socket_folder`
        self.path = f"{self._folder.name}/s"
        if network == "unix":
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.path)
            self._listener.listen(128)
        else:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    @contextmanager
    def running(self) -> Iterator[Server]:
        accepting = threading.Thread(target=self._accept, daemon=True)
        accepting.start()
        try:
            yield self
        finally:
            # `close` alone does not wake a thread that waits in `accept`.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self.go.set()
            for thread in (accepting, *self._threads):
                thread.join(LONG)
                assert not thread.is_alive()
            self._folder.cleanup()
        if self.failed:
            raise self.failed[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(LONG)
            if self.network != "unix":
                # Otherwise what is sent waits until the client has acknowledged what was sent before.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(sock, self.connections), daemon=True)
            self.connections += 1
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        with sock:
            channel = Channel(sock)
            try:
                self._open(channel)
                while True:
                    channel.request()
                    self.requests.append(number)
                    if len(self.requests) == 1:
                        self._first(channel)
                    else:
                        channel.send(SECOND)
            except (EOFError, ConnectionError):
                return
            except BaseException as error:
                self.failed.append(error)

    def _open(self, channel: Channel) -> None:
        if self.network == "tunnel":
            channel.headers()
            channel.send(b"HTTP/1.1 200 OK\r\n\r\n")
        if self.network == "socks":
            channel.take(channel.take(2)[1])
            channel.send(b"\x05\x00")
            kind = channel.take(4)[3]
            channel.take({1: 4, 4: 16}.get(kind) or channel.take(1)[0])
            channel.take(2)
            channel.send(b"\x05\x00\x00\x01" + bytes(6))
        if self._tls is not None and self.network in ("tls", "tunnel"):
            channel.start_tls(self._tls)


class Client:
    """Sends requests over the transport of a test."""

    def __init__(self, transport: Any, url: str, resend: bool = False) -> None:
        self._transport = transport
        self._url = url
        self._options = SendOptions(connect=LONG, headers=LONG, resend=resend)

    @asynccontextmanager
    async def sent(self, body: bytes = b"{}") -> AsyncIterator[Any]:
        async with self._transport.send(WireRequest(url=self._url, body=body), self._options) as answer:
            yield answer

    async def get(self) -> tuple[int, bytes]:
        with anyio.fail_after(LONG):
            async with self.sent() as answer:
                return answer.status, b"".join([chunk async for chunk in answer])


@asynccontextmanager
async def own_client(
    stack: str, server: Server, authority: Authority | None, **options: Any
) -> AsyncIterator[tuple[Any, dict[str, Any], str]]:
    """The application's client (or `None`), the settings, and the URL, for a server."""
    library: Any = {"client of httpx2": httpx2, "client of httpx": httpx}.get(stack.partition("/")[2])
    network = server.network
    host = "https://127.0.0.1:9" if network == "tunnel" else "http://127.0.0.1:9"
    url = {"tcp": f"http://{server.address}", "tls": f"https://{server.address}"}.get(network, host) + "/chat"
    proxy = None
    if network in ("forward proxy", "tunnel", "socks"):
        proxy = f"{'socks5' if network == 'socks' else 'http'}://{server.address}"
    if library is None:
        settings: dict[str, Any] = {"http_library": stack.partition("/")[2]}
        if authority is not None:
            settings["ca_bundle"] = authority.file
        if proxy is not None:
            settings["proxy"] = proxy
        yield None, settings, f"http+unix://{server.path.replace('/', '%2F')}/chat" if network == "unix" else url
        return
    verify = False if authority is None else ssl.create_default_context(cafile=str(authority.file))
    if network == "unix":
        options["transport"] = library.AsyncHTTPTransport(uds=server.path)
    async with library.AsyncClient(proxy=proxy, verify=verify, **options) as client:
        yield client, {}, url


@asynccontextmanager
async def connected(
    stack: str,
    first: Callable[[Channel], None],
    network: str = "tcp",
    authority: Authority | None = None,
    resend: bool = False,
    **options: Any,
) -> AsyncIterator[tuple[Server, Client]]:
    """A server whose first response is that of `first`, and a client of it."""
    if network == "unix" and not hasattr(socket, "AF_UNIX"):
        pytest.skip("this platform has no Unix sockets")
    if network in ("forward proxy", "tunnel", "socks") and stack.endswith("aiohttp"):
        pytest.skip("aiohttp is not used with proxies")
    tls = None
    if network in ("tls", "tunnel"):
        assert authority is not None
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(*authority.issue())
    trusted = authority if tls is not None else None
    with Server(network, tls, first).running() as server:
        async with (
            own_client(stack, server, trusted, **options) as (client, settings, url),
            HTTPTransports(client).shared(Settings(**settings)) as transport,
        ):
            yield server, Client(transport, url, resend)


async def settle() -> None:
    """Let the event loop receive what has arrived."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


FIRST = response(b'{"text": "first"}')
BODY = (200, b'{"text": "first"}')
NEXT = (200, b'{"text": "second"}')


# Reuse


@pytest.mark.parametrize("network", NETWORKS)
async def test_connection_is_reused_if_nothing_follows_a_response(
    stack: str, network: str, authority: Authority
) -> None:
    async with connected(stack, lambda channel: channel.send(FIRST), network, authority) as (server, client):
        assert await client.get() == BODY
        for _ in range(3):
            await settle()
            assert await client.get() == NEXT
        assert server.requests == [0, 0, 0, 0]


# Behind a response


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("extra", ["a response", "one byte"])
async def test_what_follows_a_response_is_not_the_next_response(
    stack: str, network: str, extra: str, authority: Authority
) -> None:
    async with connected(stack, lambda channel: channel.send(FIRST, EXTRA[extra]), network, authority) as (
        server,
        client,
    ):
        assert await client.get() == BODY
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


@pytest.mark.parametrize("extra", EXTRA)
async def test_nothing_that_follows_a_response_is_the_next_response(stack: str, extra: str) -> None:
    async with connected(stack, lambda channel: channel.send(FIRST, EXTRA[extra])) as (server, client):
        assert await client.get() == BODY
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


@pytest.mark.parametrize("size", [1, 2])
async def test_line_break_behind_a_response_does_no_harm(stack: str, size: int) -> None:
    # aiohttp's parser ignores it and keeps the connection, as RFC 9112 asks of servers (section 2.2).
    async with connected(stack, lambda channel: channel.send(FIRST, b"\r\n"[-size:])) as (_, client):
        assert await client.get() == BODY
        assert await client.get() == NEXT


@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("network", ["tcp", "tls"])
async def test_what_comes_with_the_end_of_a_body_is_not_the_next_response(
    stack: str, network: str, extra: str, authority: Authority
) -> None:
    def first(channel: Channel) -> None:
        channel.send(FIRST[:-5])
        assert server.go.wait(LONG)
        channel.send(FIRST[-5:], EXTRA[extra])

    async with connected(stack, first, network, authority) as (server, client):
        with anyio.fail_after(LONG):
            async with client.sent() as answer:
                server.go.set()
                body = b"".join([chunk async for chunk in answer])
        assert (answer.status, body) == BODY
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


@pytest.mark.parametrize("extra", ["a response", "one byte"])
@pytest.mark.parametrize(
    ("first", "status", "body"),
    [
        (chunked(b"ab", b"c"), 200, b"abc"),
        (response(gzip.compress(b"abc"), "content-encoding: gzip"), 200, b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304, b""),
        (response(b""), 200, b""),
        (response(b"slow", status="429 Too Many Requests"), 429, b"slow"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + response(b"abc"), 200, b"abc"),
        (b"HTTP/1.1 200 OK\ncontent-length: 3\n\nabc", 200, b"abc"),
        (b"HTTP/2.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", 200, b"abc"),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc", 200, b"abc"),
    ],
    ids=["chunked", "gzip", "204", "304", "empty", "429", "informational", "line feeds", "2.0", "1.0"],
)
async def test_what_follows_each_kind_of_body_is_not_the_next_response(
    stack: str, first: bytes, status: int, body: bytes, extra: str
) -> None:
    async with connected(stack, lambda channel: channel.send(first, EXTRA[extra])) as (server, client):
        assert await client.get() == (status, body)
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


BODY_IN_A_CHUNK = chunked(BODY[1]).partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\ncontent-length: 9\r\n\r\n", BODY_IN_A_CHUNK),
        ("HTTP/1.1 200 OK\r\ncontent-length: 17\r\nTRANSFER-ENCODING:Chunked \r\n\r\n", BODY_IN_A_CHUNK),
        ("HTTP/1.1 200 OK\r\nContent-Length: 17\r\nx: y\r\nContent-Length:17 \r\n\r\n", BODY[1]),
        ("HTTP/1.1 200 OK\ncontent-length: 17 , 17,17\n\n", BODY[1]),
    ],
    ids=["coding first", "length first", "same length twice", "list of lengths"],
)
async def test_response_that_states_its_length_twice_is_read_and_its_connection_closed(
    stack: str, head: str, body: bytes
) -> None:
    async with connected(stack, lambda channel: channel.send(head.encode() + body)) as (server, client):
        assert await client.get() == BODY
        assert await client.get() == NEXT
        # h11 does not show that equal lengths were sent twice. That is not ambiguous.
        assert server.requests == [0, 1] or "chunked" not in head.lower()


@pytest.mark.parametrize(
    "fields",
    [
        "content-length: 17\r\ncontent-length: 18",
        "content-length: 17, 18",
        "content-length: 17\r\n , 17",
        "content-length: +17\r\ncontent-length: +17",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\ncontent-length: 17",
        "transfer-encoding: gzip, chunked\r\ncontent-length: 17",
        "transfer-encoding: chunked\r\ncontent-length: 17\r\ncontent-length: 18",
        "content-length : 17\r\ncontent-length: 17",
    ],
)
def test_response_whose_length_is_not_clear_is_not_changed(fields: str) -> None:
    head = f"HTTP/1.1 200 OK\r\n{fields}\r\n\r\n".encode()
    checked = with_one_length(head)
    assert checked == head or b"content-length : 17" in checked  # which both libraries refuse


async def test_interim_response_with_headers_of_a_connection_is_ignored(stack: str) -> None:
    interim = b"HTTP/1.1 100 Continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\n"
    async with connected(stack, lambda channel: channel.send(interim + FIRST)) as (server, client):
        assert await client.get() == BODY
        assert await client.get() == NEXT
        assert server.requests == [0, 0]


async def test_headers_that_are_split_anywhere_are_followed_by_a_complete_response(stack: str) -> None:
    length = len(FIRST) - len(BODY[1])

    def first(channel: Channel) -> None:
        for index in range(length - 1):
            channel.send(FIRST[index : index + 1])
        channel.send(FIRST[length - 1 :] + b"}")

    async with connected(stack, first) as (server, client):
        assert await client.get() == BODY
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


@pytest.mark.parametrize("distance", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("network", ["tcp", "tls"])
async def test_response_that_ends_where_a_read_ends_is_not_followed_by_another(
    stack: str, network: str, times: int, distance: int, authority: Authority
) -> None:
    # anyio reads up to 256 KiB and hands them out in pieces of 64 KiB.
    size = times * 2**16 + distance
    body = b"x" * (size - len(response(b"x" * size)) + size)
    assert len(response(body)) == size

    def answer(channel: Channel) -> None:
        channel.send(response(body), EVIL)
        server.sent.set()

    async with connected(stack, answer, network, authority) as (server, client):
        assert await client.get() == (200, body)
        assert server.sent.wait(LONG)  # so much is sent in several segments, and the last one may come late
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


async def test_rest_of_a_stream_that_was_left_is_not_followed_by_another_response(stack: str) -> None:
    async with connected(stack, lambda channel: channel.send(chunked(b"a", b"b", b"c"), EVIL)) as (server, client):
        with anyio.fail_after(LONG):
            async with client.sent() as answer:
                async for _ in answer:
                    break
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


async def test_end_of_tls_behind_a_response_ends_the_connection(stack: str, authority: Authority) -> None:
    async with connected(stack, lambda channel: channel.end_tls(FIRST), "tls", authority) as (server, client):
        assert await client.get() == BODY
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


# While a connection is idle


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("is_seen", [True, False], ids=["received", "not received"])
@pytest.mark.parametrize("extra", ["a response", pytest.param("half a status line", marks=pytest.mark.exhaustive)])
async def test_what_arrives_at_an_idle_connection_is_not_the_next_response(
    stack: str, network: str, is_seen: bool, extra: str, authority: Authority
) -> None:
    def first(channel: Channel) -> None:
        channel.send(FIRST)
        assert server.go.wait(LONG)
        channel.send(EXTRA[extra])
        server.sent.set()

    async with connected(stack, first, network, authority) as (server, client):
        assert await client.get() == BODY
        server.go.set()
        assert server.sent.wait(LONG)  # blocks the event loop
        if is_seen:
            await settle()
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


@pytest.mark.parametrize("extra", EXTRA)
async def test_nothing_that_arrives_at_an_idle_connection_is_the_next_response(stack: str, extra: str) -> None:
    def first(channel: Channel) -> None:
        channel.send(FIRST)
        assert server.go.wait(LONG)
        channel.sock.send(EXTRA[extra])  # or as much of it as the client's socket holds
        server.sent.set()

    async with connected(stack, first) as (server, client):
        assert await client.get() == BODY
        server.go.set()
        assert server.sent.wait(LONG)
        await settle()
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


async def test_all_idle_connections_are_checked(stack: str) -> None:
    held: list[Channel] = []
    all_held = threading.Event()

    async with connected(stack, lambda channel: None) as (server, client):

        def answer(channel: Channel) -> None:
            held.append(channel)
            if len(held) == 5:
                all_held.set()
            assert all_held.wait(LONG)
            channel.send(FIRST)

        original, server._first = server._serve, answer

        def serve(sock: socket.socket, number: int) -> None:
            if number >= 5:
                original(sock, number)
                return
            with sock, contextlib.suppress(EOFError, ConnectionError):
                channel = Channel(sock)
                channel.request()
                answer(channel)
                channel.request()
                server.failed.append(AssertionError("the connection was reused"))

        server._serve = serve  # type: ignore[method-assign]

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(client.get)
        for channel in held:
            channel.send(EVIL)
        server.requests.append(0)
        assert [await client.get() for _ in range(3)] == [NEXT] * 3


@pytest.mark.parametrize("stack", [stack for stack in STACKS if stack.endswith("/httpx2")], indirect=True)
async def test_what_arrives_after_a_connection_was_chosen_is_not_the_response(
    stack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first(channel: Channel) -> None:
        channel.send(FIRST)
        assert server.go.wait(LONG)
        channel.send(EVIL)
        server.sent.set()

    async with connected(stack, first) as (server, client):
        assert await client.get() == BODY
        server.go.set()
        assert server.sent.wait(LONG)
        # As if the bytes had arrived since the library looked.
        monkeypatch.setattr(httpcore2._async.http11.AsyncHTTP11Connection, "has_expired", lambda self: False)
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 300_000], ids=["no body", "small body", "large body"])
@pytest.mark.parametrize(
    ("extra", "ends"),
    [("a response", False), ("a response", True), ("half a status line", False), ("an informational response", False)],
    ids=["response", "end", "half", "informational"],
)
@pytest.mark.parametrize("network", ["tcp", "unix", "tls"])
@pytest.mark.parametrize("stack", [stack for stack in STACKS if stack.endswith("/aiohttp")], indirect=True)
async def test_what_arrives_before_the_request_is_written_is_not_the_response(
    stack: str, network: str, extra: str, ends: bool, body: bytes, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Since Python 3.12, aiohttp writes a small body in the turn of the event loop in which it chose the connection.
    writes_at_once = not body or (len(body) < LARGE_WRITE and sys.version_info >= (3, 12))

    def first(channel: Channel) -> None:
        channel.send(FIRST)
        assert server.go.wait(LONG)
        channel.send(EXTRA[extra])
        if ends:
            channel.sock.shutdown(socket.SHUT_RDWR)
        server.sent.set()

    async with connected(stack, first, network, authority) as (server, client):
        assert await client.get() == BODY
        original = aiohttp_transport._Connector.connect
        chosen = []

        def let_arrive() -> None:
            server.go.set()
            assert server.sent.wait(LONG)

        async def connect(self: Any, *arguments: Any, **options: Any) -> Any:
            connection = await original(self, *arguments, **options)
            if not chosen:
                if writes_at_once:
                    let_arrive()
                else:
                    asyncio.get_running_loop().call_soon(let_arrive)  # as another task that holds up the event loop
            chosen.append(connection)
            return connection

        for connector in (aiohttp_transport._TCPConnector, aiohttp_transport._UnixConnector):
            monkeypatch.setattr(connector, "connect", connect)
        # `resend` is not set: nothing of the request was sent on the first connection.
        with anyio.fail_after(LONG):
            async with client.sent(body) as answer:
                assert (answer.status, b"".join([chunk async for chunk in answer])) == NEXT
        assert server.requests == [0, 1]
        assert len(chosen) == 2


# The application's own client

CLIENTS = marked([stack for stack in STACKS if "client" in stack])


@pytest.mark.parametrize("stack", CLIENTS, indirect=True)
async def test_body_that_an_event_hook_has_read_is_not_followed_by_another_response(stack: str) -> None:
    async def read(answer: Any) -> None:
        await answer.aread()

    options = {"event_hooks": {"response": [read]}}
    async with connected(stack, lambda channel: channel.send(FIRST, EVIL), **options) as (server, client):
        assert await client.get() == BODY
        assert await client.get() == NEXT
        assert server.requests == [0, 1]


@pytest.mark.parametrize("stack", CLIENTS, indirect=True)
async def test_client_without_a_network_works(stack: str) -> None:
    library: Any = httpx2 if stack.endswith("httpx2") else httpx

    def respond(request: Any) -> Any:
        return library.Response(200, content=BODY[1])

    async with (
        library.AsyncClient(transport=library.MockTransport(respond)) as own,
        HTTPTransports(own).shared(Settings()) as transport,
    ):
        for _ in range(2):
            assert await Client(transport, "http://127.0.0.1:9/").get() == BODY


# Calls

ANSWERS = {
    "chat": FIRST,
    "stream": chunked(b'{"open": 1, "text": "first"}\n', b'{"done": true}\n'),
    "left stream": chunked(b'{"open": 1, "text": "first"}\n', b'{"text": "more"}\n', b'{"done": true}\n'),
    "closed stream": chunked(b'{"open": 1, "text": "first"}\n', b'{"done": true}\n'),
    "embed": response(b"[[1.0]]"),
    "list_models": response(b'{"models": ["a"], "next": null}'),
    "refused": response(b"slow", status="429 Too Many Requests"),
}


async def call(service: Any, operation: str) -> object:
    if operation == "chat":
        return (await service.chat("1")).text
    if operation == "embed":
        return (await service.embed(EmbedRequest(inputs=("1",), model="toy-1"))).embeddings
    if operation == "list_models":
        return [model.id for model in await service.list_models()]
    if operation == "refused":
        with pytest.raises(RateLimited):
            await service.chat("1")
        return None
    async with service.stream("1") as stream:
        async for _ in stream:
            if operation == "left stream":
                break
            if operation == "closed stream":
                await stream.aclose()
                break
    return None


@pytest.mark.parametrize("is_idle", [False, True], ids=["at once", "idle"])
@pytest.mark.parametrize("operation", ANSWERS)
async def test_no_call_gets_the_answer_of_another(stack: str, toy: Any, operation: str, is_idle: bool) -> None:
    def first(channel: Channel) -> None:
        if is_idle:
            channel.send(ANSWERS[operation])
            assert server.go.wait(LONG)
            channel.send(EVIL)
            server.sent.set()
        else:
            channel.send(ANSWERS[operation], EVIL)

    expected = {"chat": "first", "embed": ((1.0,),), "list_models": ["a"]}
    with Server("tcp", None, first).running() as server, anyio.fail_after(LONG):
        async with own_client(stack, server, None) as (client, settings, url):
            url = url.removesuffix("/chat")
            async with toy(url, client=client, max_retries=0, **settings) as service:
                assert await call(service, operation) == expected.get(operation)
                if is_idle:
                    server.go.set()
                    await anyio.to_thread.run_sync(server.sent.wait, LONG)
                assert (await service.chat("2")).text == "second"
        assert server.requests[-1] == 1


async def test_status_408_of_an_idle_connection_fails_no_call(stack: str, toy: Any) -> None:
    def first(channel: Channel) -> None:
        channel.send(FIRST)
        assert server.go.wait(LONG)
        channel.send(EXTRA["a status 408"])
        channel.sock.shutdown(socket.SHUT_RDWR)
        server.sent.set()

    with Server("tcp", None, first).running() as server, anyio.fail_after(LONG):
        async with own_client(stack, server, None) as (client, settings, url):
            async with toy(url.removesuffix("/chat"), client=client, max_retries=0, **settings) as service:
                assert (await service.chat("1")).text == "first"
                server.go.set()
                assert server.sent.wait(LONG)
                assert (await service.chat("2")).text == "second"
        assert server.requests == [0, 1]


async def test_status_408_that_answers_a_request_is_raised(stack: str, toy: Any) -> None:
    def first(channel: Channel) -> None:
        channel.send(EXTRA["a status 408"])

    with Server("tcp", None, first).running() as server, anyio.fail_after(LONG):
        async with own_client(stack, server, None) as (client, settings, url):
            async with toy(url.removesuffix("/chat"), client=client, max_retries=0, **settings) as service:
                with pytest.raises(ServerError):
                    await service.chat("1")
