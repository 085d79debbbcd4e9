"""The replies of a SOCKS5 proxy (RFC 1928 and 1929).

httpcore and httpcore2 read each reply with one read, and take what arrives for all of it. TCP may deliver a reply in
pieces.
"""

from __future__ import annotations

from collections.abc import Awaitable
from time import monotonic
from typing import Protocol

from trunkline.errors import ConnectionFailed

_IPV4, _NAME, _IPV6 = 1, 3, 4


def is_message(data: bytes) -> bool:
    """Whether this is a message to a SOCKS proxy, and not the request behind it.

    A message begins with the version: 5, or 1 for the login.
    """
    return data[:1] in (b"\x05", b"\x01")


def is_incomplete(reply: bytes, message: bytes) -> bool:
    """Whether a reply to `message` is only the beginning of one. A reply that is not valid is not incomplete."""
    if reply[:1] != message[:1]:
        return False  # of another version, or no SOCKS
    # The message that offers methods has as many bytes after its second byte as that says. The one that asks for a
    # connection has 1 for its command there, and more bytes.
    if message[:1] == b"\x01" or len(message) == 2 + message[1]:
        return len(reply) < 2
    if len(reply) < 5:
        return reply[3:4] in (b"", b"\x01", b"\x03", b"\x04")
    lengths = {_IPV4: 10, _NAME: 7 + reply[4], _IPV6: 22}
    return len(reply) < lengths.get(reply[3], 0)


class SocksStream(Protocol):
    """A connection of httpcore or httpcore2, as far as the handshake with a SOCKS proxy uses it."""

    def read(self, max_bytes: int, timeout: float | None = None) -> Awaitable[bytes]: ...
    def write(self, buffer: bytes, timeout: float | None = None) -> Awaitable[None]: ...


class CompleteReplies:
    """The connection of an application's own client during its handshake with a SOCKS proxy.

    Each read returns a complete reply, or raises `ConnectionFailed` if the proxy closes the connection before that.
    """

    def __init__(self, stream: SocksStream) -> None:
        self._stream = stream
        self._message = b""

    def write(self, buffer: bytes, timeout: float | None = None) -> Awaitable[None]:
        """Write a message to the proxy."""
        self._message = buffer
        return self._stream.write(buffer, timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read the reply to the last message."""
        deadline = None if timeout is None else monotonic() + timeout
        reply = b""
        while not reply or is_incomplete(reply, self._message):
            left = None if deadline is None else max(0.0, deadline - monotonic())
            piece = await self._stream.read(max_bytes, left)
            if not piece:
                raise ConnectionFailed("the proxy of your http_client closed the connection before it had connected")
            reply += piece
        return reply
