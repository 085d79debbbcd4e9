"""Bytes that a server sends without being asked, on connections of httpcore2, and of httpcore below a client of httpx.

HTTP/1.1 has no numbers for its responses: the client takes what arrives next for the response to its next request. So
bytes that follow a complete response would become the answer to the next call, which may be that of another user. They
come from a server that sends a response twice, from a gateway that miscounts `Content-Length` by a byte, from a load
balancer that sends a 408 before it closes an idle connection, and from an attacker who splits responses.

These bytes can be in four places:

1. in h11, which parses the responses: they came in the same read as the end of the response
2. in the queue of anyio's stream on asyncio, which cuts what it has received into pieces of 64 KiB
3. in TLS: decrypted but not read, or received but not decrypted
4. in the socket: they arrived while the connection was idle

Nobody reads from an idle connection, so the first three are checked once, when a response is closed (here). The fourth
is checked by httpcore2 and httpcore when they choose a connection, and by `_http/connection.py` before it writes a
request. `_http/aiohttp.py` checks its connections itself, and shares `is_readable`.

**Names that httpcore2, httpcore and anyio do not document**, and which `test_core_dependencies.py` checks. If one is
missing, a connection counts as clean; a stream of another transport, such as `httpx2.MockTransport`, has none of them.

- `_stream`, `_httpcore_stream` and `_connection`, which lead from the stream of a response to its connection, and from
  the network stream of a connection to its socket
- `_h11_state`, the h11 connection, which has `trailing_data` and `send_failed()`; and `_network_stream`
- `_ssl_object` of the TLS streams of anyio and trio. Their `transport_stream` is public
- `_protocol.read_queue` of anyio's socket stream on asyncio
"""

from __future__ import annotations

import select
import ssl
from typing import Any, Protocol

_LINKS = ("_stream", "_httpcore_stream", "_connection")
_MAX_LINKS = 16
"""How many links to follow. Fewer than ten are needed; an object that has every attribute would have no end."""


class Socket(Protocol):
    """A socket, or what asyncio and trio show of one."""

    def fileno(self) -> int: ...


def is_readable(socket: Socket) -> bool:
    """Whether reading a socket would not wait: something has arrived, or the server or the client has closed it.

    The event loop receives what has arrived only when it next waits, which may be after the next request. anyio takes
    ten times as long for the answer, since it collects all attributes of a connection first.
    """
    number = socket.fileno()
    if number < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([number], [], [], 0)[0])
    poll = select.poll()
    poll.register(number, select.POLLIN)
    return bool(poll.poll(0))


def has_unsolicited_bytes(response_stream: object) -> bool:
    """Whether bytes follow a response. Call this after it was read to its end and before it is closed."""
    connection = _connection(response_stream)
    return connection is not None and _has_unsolicited_bytes(connection)


def refuse_reuse(response_stream: object) -> None:
    """Mark the connection of a response, so that closing the response closes it."""
    connection = _connection(response_stream)
    if connection is not None:
        # The connection is reused only if h11 knows both the request and the response to be complete.
        connection._h11_state.send_failed()


async def close_idle(response_stream: object) -> None:
    """Close the connection of a response that was already closed, if bytes follow the response.

    A connection that another request has taken meanwhile is left alone.
    """
    connection = _connection(response_stream)
    if connection is not None and connection.is_idle() and _has_unsolicited_bytes(connection):
        await connection.aclose()


def _connection(stream: Any) -> Any:
    """Return the HTTP/1.1 connection of a response, or `None` if it has none, or one of HTTP/2."""
    for _ in range(_MAX_LINKS):
        if hasattr(stream, "_h11_state"):
            return stream
        for link in _LINKS:
            found = getattr(stream, link, None)
            if found is not None:
                stream = found
                break
        else:
            return None
    return None


def _has_unsolicited_bytes(connection: Any) -> bool:
    data, _ = connection._h11_state.trailing_data
    if data:
        return True
    stream = connection._network_stream
    for _ in range(_MAX_LINKS):
        if stream is None:
            break
        tls = getattr(stream, "_ssl_object", None)
        if tls is not None and _has_data(tls):
            return True
        protocol = getattr(stream, "_protocol", None)
        if getattr(protocol, "read_queue", None):
            return True
        stream = getattr(stream, "_stream", None) or getattr(stream, "transport_stream", None)
    return False


def _has_data(tls: ssl.SSLObject) -> bool:
    """Whether TLS holds data of the application, or the end of the connection.

    Only a read tells these from the messages of TLS itself: session tickets are no reason to drop a connection. If it
    returns data, the connection is dropped, so the data is not missed.
    """
    try:
        tls.read(1)
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        pass
    return True
