"""Notice a response that arrives while its request is still being written.

A server may refuse a request before it has read all of it: 413 for the size, 401, 429. It then often stops reading, so
the rest could never be written, and the client would wait for that instead of reading the response. RFC 9112, section
9.5, asks clients to watch for such a response.
"""

from __future__ import annotations


class EarlyAnswer:
    """What has arrived while a request was written, without interim responses (1xx) that are complete."""

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
            _, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return
            self._data = rest

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
