"""A scripted loopback HTTP/2 server without TLS (prior knowledge), like the one for HTTP/1.1. Needs `h2`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

import anyio
import anyio.abc
import h2.config
import h2.connection
import h2.errors
import h2.events

from trunkline.testing.server import JSON, SSE


class HTTP2Exchange:
    """One request, and the methods that answer it."""

    def __init__(
        self,
        connection: h2.connection.H2Connection,
        stream: anyio.abc.SocketStream,
        stream_id: int,
        number: int,
        route: bytes | None = None,
    ) -> None:
        self.number = number
        """The number of the request on this server, from 1. Requests to `routes` are not counted."""
        self.body = b""
        """The body of the request."""
        self.route = route
        """The body of the response, if the request is for one of the server's `routes`."""
        self._connection = connection
        self._stream = stream
        self._id = stream_id

    async def start(self, *, status: int = 200, headers: Mapping[str, str] = SSE) -> None:
        """Send the status and headers of a response."""
        self._connection.send_headers(self._id, [(":status", str(status)), *headers.items()])
        await self._flush()

    async def chunk(self, data: bytes) -> None:
        """Send a piece of the body."""
        self._connection.send_data(self._id, data)
        await self._flush()

    async def end(self) -> None:
        """Send the end of the body."""
        self._connection.end_stream(self._id)
        await self._flush()

    async def reset_stream(self) -> None:
        """Send RST_STREAM, which ends this response but not the connection."""
        self._connection.reset_stream(self._id, h2.errors.ErrorCodes.INTERNAL_ERROR)
        await self._flush()

    async def go_away(self, *, processed: bool) -> None:
        """Send GOAWAY and close the connection. `processed` says whether GOAWAY reports this request as processed."""
        self._connection.close_connection(last_stream_id=self._id if processed else 0)
        await self._flush()
        await self._stream.aclose()

    async def _flush(self) -> None:
        await self._stream.send(self._connection.data_to_send())


Handler: TypeAlias = Callable[[HTTP2Exchange], Awaitable[None]]


class HTTP2Server:
    """A running HTTP/2 server on 127.0.0.1."""

    def __init__(self, handler: Handler, port: int, routes: Mapping[str, bytes]) -> None:
        self._handler = handler
        self._routes = routes
        self.url: str = f"http://127.0.0.1:{port}"
        """The server's URL."""
        self.requests: int = 0
        """The number of requests received."""
        self.accepted: int = 0
        """The number of connections accepted."""

    async def _serve(self, stream: anyio.abc.SocketStream) -> None:
        self.accepted += 1
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        try:
            async with stream, anyio.create_task_group() as tasks:
                connection.initiate_connection()
                await stream.send(connection.data_to_send())
                open_exchanges: dict[int, HTTP2Exchange] = {}
                while True:
                    for event in connection.receive_data(await stream.receive()):
                        self._take(event, connection, stream, open_exchanges, tasks)
                    if data := connection.data_to_send():
                        await stream.send(data)
        except* (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            pass  # the client or the script closed the connection

    async def _handle(self, exchange: HTTP2Exchange) -> None:
        if exchange.route is None:
            await self._handler(exchange)
            return
        await exchange.start(headers=JSON)
        await exchange.chunk(exchange.route)
        await exchange.end()

    def _take(
        self,
        event: h2.events.Event,
        connection: h2.connection.H2Connection,
        stream: anyio.abc.SocketStream,
        exchanges: dict[int, HTTP2Exchange],
        tasks: anyio.abc.TaskGroup,
    ) -> None:
        if isinstance(event, h2.events.RequestReceived):
            assert event.stream_id is not None
            headers = {bytes(name): bytes(value).decode() for name, value in event.headers or ()}
            path = headers[b":path"].partition("?")[0]
            route = self._routes.get(f"{headers[b':method']} {path}", self._routes.get(path))
            self.requests += route is None
            exchanges[event.stream_id] = HTTP2Exchange(connection, stream, event.stream_id, self.requests, route)
        elif isinstance(event, h2.events.DataReceived):
            assert event.stream_id is not None
            exchanges[event.stream_id].body += event.data or b""
            connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            assert event.stream_id is not None
            tasks.start_soon(self._handle, exchanges[event.stream_id])


@asynccontextmanager
async def serve_http2(handler: Handler, *, routes: Mapping[str, bytes] | None = None) -> AsyncIterator[HTTP2Server]:
    """Run a server on a free port of 127.0.0.1 until the block ends.

    The client must be configured to use HTTP/2 only: `httpx2.AsyncClient(http1=False, http2=True)`. `routes` are the
    JSON responses of further endpoints, by path (`/token`) or by method and path (`POST /token`).
    """
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port: int = listener.extra(anyio.abc.SocketAttribute.local_port)
    server = HTTP2Server(handler, port, routes or {})
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
