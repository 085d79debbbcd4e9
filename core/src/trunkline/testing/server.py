"""A loopback HTTP/1.1 server that tests script byte by byte. It uses real sockets, not a mock transport.

The server calls a handler for each request, which decides what the server does, including faults. The server runs in
the event loop of the test, on asyncio or trio. It counts its open connections and notices when a client closes one, so
tests wait for events and need no sleeps.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Self, TypeAlias

import anyio
import anyio.abc
import attrs
import h11

SSE: Mapping[str, str] = {"content-type": "text/event-stream"}
JSON: Mapping[str, str] = {"content-type": "application/json"}


@attrs.frozen(kw_only=True)
class ReceivedRequest:
    """A request that the server received. Header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Exchange:
    """One request, and the methods that answer it."""

    def __init__(self, server: LoopbackServer, stream: anyio.abc.SocketStream, request: ReceivedRequest) -> None:
        self.request = request
        """The received request: method, target, headers and body."""
        self.keep_alive: bool = True
        """Whether the connection stays open after the handler returns."""
        self.number: int = len(server.requests)
        """The number of the request on this server, from 1. Requests to `routes` are not counted."""
        self._server = server
        self._stream = stream

    async def raw(self, data: bytes) -> None:
        """Send these bytes unchanged."""
        await self._stream.send(data)

    async def respond(self, body: bytes = b"", *, status: int = 200, headers: Mapping[str, str] = JSON) -> None:
        """Send a complete response."""
        head = self._head(status, {**headers, "content-length": str(len(body))})
        await self.raw(head + body)

    async def start(self, *, status: int = 200, headers: Mapping[str, str] = SSE) -> None:
        """Send the status and headers of a chunked response."""
        await self.raw(self._head(status, {**headers, "transfer-encoding": "chunked"}))

    async def chunk(self, data: bytes) -> None:
        """Send one chunk."""
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        """Send the end of a chunked response."""
        await self.raw(b"0\r\n\r\n")

    async def hang_up(self) -> None:
        """Close the connection cleanly (FIN)."""
        self.keep_alive = False
        await self._stream.send_eof()

    async def reset(self) -> None:
        """Reset the connection (RST)."""
        self.keep_alive = False
        raw: socket.socket = self._stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await anyio.aclose_forcefully(self._stream)

    async def hung_up(self) -> None:
        """Wait until the client has closed its side."""
        self.keep_alive = False
        try:
            while True:
                await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return

    @staticmethod
    def _head(status: int, headers: Mapping[str, str]) -> bytes:
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]


class LoopbackServer:
    """A running server on 127.0.0.1.

    Requests to `routes` are only in `routed`: they count neither as requests nor, if a connection has no others, as a
    connection. So a test sees the same requests and connections whether or not a client gets a token first.
    """

    def __init__(self, handler: Handler, port: int, routes: Mapping[str, Handler]) -> None:
        self._handler = handler
        self._routes = routes
        self.port = port
        """The server's port."""
        self.url: str = f"http://127.0.0.1:{port}"
        """The server's URL."""
        self.requests: list[ReceivedRequest] = []
        """The received requests, in order."""
        self.routed: list[ReceivedRequest] = []
        """The received requests to `routes`, in order."""
        self.connections: int = 0
        """The number of open connections."""
        self.accepted: int = 0
        """The number of connections accepted so far."""
        self._changed = anyio.Event()

    async def wait_idle(self) -> None:
        """Wait until no connection is open."""
        while self.connections:
            await self._changed.wait()

    def _count(self, difference: int) -> None:
        self.connections += difference
        self.accepted += difference > 0
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def _serve(self, stream: anyio.abc.SocketStream) -> None:
        self._count(1)
        counted, direct = True, False
        try:
            async with _Connection(stream) as connection:
                while (request := await connection.next_request()) is not None:
                    route = self._route(request)
                    (self.requests if route is None else self.routed).append(request)
                    direct = direct or route is None
                    if direct != counted:
                        counted = direct
                        self._count(1 if direct else -1)
                        self.accepted -= not direct
                    exchange = Exchange(self, stream, request)
                    await (route or self._handler)(exchange)
                    if not exchange.keep_alive:
                        return
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            return  # a client may close its connection at any time
        finally:
            if counted:
                self._count(-1)

    def _route(self, request: ReceivedRequest) -> Handler | None:
        path = request.target.partition("?")[0]
        return self._routes.get(f"{request.method} {path}") or self._routes.get(path)


class _Connection:
    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._stream = stream
        self._left = b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(self._stream)

    async def next_request(self) -> ReceivedRequest | None:
        reader = h11.Connection(h11.SERVER)
        if self._left:
            reader.receive_data(self._left)
        head: h11.Request | None = None
        body: list[bytes] = []
        while True:
            try:
                event = reader.next_event()
            except h11.RemoteProtocolError:  # no HTTP, such as TLS: the client must fail, not the test
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._stream.send(
                        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                    )
                return None
            if event is h11.NEED_DATA:
                try:
                    reader.receive_data(await self._stream.receive())
                except anyio.EndOfStream:
                    return None
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                self._left = reader.trailing_data[0]
                return ReceivedRequest(
                    method=head.method.decode(),
                    target=head.target.decode(),
                    headers={name.decode(): value.decode("latin-1") for name, value in head.headers},
                    body=b"".join(body),
                )
            else:
                return None


def closed_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens, so that connections are refused."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@contextmanager
def black_hole() -> Iterator[str]:
    """Yield the URL of a listener that never accepts and has a full backlog, so that connecting never succeeds.

    On systems other than Linux, the kernel may accept the connections nevertheless. Then they stay silent.
    """
    waiting: list[socket.socket] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        try:
            for _ in range(4):
                one = socket.socket()
                one.setblocking(False)
                waiting.append(one)
                one.connect_ex(address)
            yield f"http://127.0.0.1:{address[1]}"
        finally:
            for one in waiting:
                one.close()


@asynccontextmanager
async def serve(handler: Handler, *, routes: Mapping[str, Handler] | None = None) -> AsyncIterator[LoopbackServer]:
    """Run a server on a free port of 127.0.0.1 until the block ends.

    `routes` are handlers of further endpoints, such as one for tokens, by path (`/token`) or by method and path
    (`POST /token`).
    """
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port: int = listener.extra(anyio.abc.SocketAttribute.local_port)
    server = LoopbackServer(handler, port, routes or {})
    failure: Exception | None = None
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server._serve)
        try:
            yield server
        except Exception as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure  # outside of the task group, which would wrap it in an exception group
