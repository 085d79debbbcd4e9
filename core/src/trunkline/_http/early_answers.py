"""Notice a response that arrives while its request is still being written.

A server may refuse a request before it has read all of it: 413 for the size, 401, 429. It then often stops reading, so
the rest could never be written, and the client would wait for that instead of reading the response. RFC 9112, section
9.5, asks clients to watch for such a response.
"""

from __future__ import annotations

import socket
from contextlib import suppress

import anyio.lowlevel

from trunkline._http.common import END_OF_HEAD
from trunkline._http.unsolicited import Socket, is_readable

LARGE_WRITE = 64 * 1024
"""While more bytes than these are written, a response is watched for. Fewer fit into the buffers of the sockets."""

WRITE_SIZE = 256 * 1024
"""The size of the pieces in which a large body is written."""


async def read_first(connection: Socket | None) -> None:
    """Let the event loop read what has arrived on a connection before the next piece is written to it.

    The first run of the loop only notices that the socket is readable, and the second reads it.
    """
    for _ in range(3):
        if connection is None or not is_readable(connection):
            return
        await anyio.lowlevel.checkpoint()


class UnreadBytes:
    """What has arrived on a connection without TLS and was not read before the connection broke.

    If the server answers and then resets the connection, a write fails, and asyncio closes the socket without reading
    the answer. The operating system keeps the answer as long as a second descriptor of the socket is open.
    """

    __slots__ = ("_socket",)

    def __init__(self, connection: Socket) -> None:
        self._socket: socket.socket | None = None
        with suppress(OSError):  # too many open files
            # The family does not matter for reading.
            self._socket = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
            self._socket.setblocking(False)

    def read(self) -> bytes:
        """Return the bytes, at most `LARGE_WRITE`."""
        if self._socket is not None:
            with suppress(OSError):
                return self._socket.recv(LARGE_WRITE)
        return b""

    def close(self) -> None:
        """Close the second descriptor. The connection ends only then."""
        if self._socket is not None:
            self._socket.close()


class EarlyAnswer:
    """The bytes that arrived while a request was written, without complete interim responses (1xx)."""

    __slots__ = ("_data", "size")

    def __init__(self) -> None:
        self._data = b""
        self.size = 0
        """How many bytes have arrived."""

    def __bool__(self) -> bool:
        return bool(self._data)

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        self._data += data
        while self._data[9:10] == b"1":
            end = END_OF_HEAD.search(self._data)
            if end is None:
                return
            self._data = self._data[end.end() :]

    def take(self) -> bytes:
        """Return the bytes, and forget them."""
        data, self._data = self._data, b""
        return data

    @property
    def is_final(self) -> bool:
        """Whether the response has begun, and not an interim one."""
        return len(self._data) >= 10 and self._data[9:10] != b"1"

    @property
    def is_refusal(self) -> bool:
        """Whether the response is an error or a redirect, so that the rest of the request is of no use."""
        return self.is_final and self._data[9:10] != b"2"
