"""The limits of a client's connection: the size of heads, and the time in which it has to send and to read."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import sys
import termios
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from trunkline_gateway.gateway import Gateway
from trunkline_gateway.settings import GatewaySettings

SLOWEST = 240
"""The bytes a second that a client has to send of a body, or to read of an answer, at least, while the gateway waits
for it. As in ASP.NET's Kestrel.
"""

_BODY_TIMEOUTS = 2
"""The idle timeouts after which it is checked how much of a body arrived. If no byte does, endpoints have said so by
then, in the client's form.
"""

_MOST_WAITING = 8
"""The requests of a connection that may wait for the answer before them. Then nothing more is read."""

_FRAMING = 16
"""The bytes of chunk sizes that may come with each byte of a body, for clients that send it in tiny chunks."""

_MOST_UNSENT = 64 * 1024
"""The bytes of an answer that the kernel takes before it can send them. Without this limit they can grow to megabytes,
and a stream that nobody reads would be read from its provider until then.
"""


class LimitedProtocol(HttpToolsProtocol):
    """Ends connections whose head is too long, whose request does not arrive in time, or whose client does not read.

    uvicorn does not have these limits with httptools.
    """

    settings: GatewaySettings

    _running: RequestResponseCycle | None = None
    _in_head = True
    _head_size = 0
    _too_long = False
    _timer: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None
    _in_body = False
    _body_size = 0
    _framing_size = 0
    _write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            transport.close()
            return
        connection = transport.get_extra_info("socket")
        if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
            with suppress(OSError):  # the client may have gone
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MOST_UNSENT)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_body_timer()
        self._stop_write_timer()
        # uvicorn tells only the newest of several requests, which may wait for the one that is answered.
        running = self._running
        if running is not None and not running.response_complete:
            running.disconnected = True
            running.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_size += len(data)
        if self._in_body:
            self._framing_size += len(data)
        super().data_received(data)
        # The sizes of chunks, their extensions, and the fields after the last one.
        most = self.settings.max_headers + _FRAMING * self._body_size
        if self._in_body and self._framing_size > most and not self.transport.is_closing():
            if not self.cycle.response_started:
                self.transport.write(_HEAD_TOO_LONG)
            self._end()
        # The rest of a packet may be the body, so only a head that has not ended by now is counted by packets.
        if self._in_head and self._head_size > self.settings.max_headers and not self.transport.is_closing():
            self._too_long = True
            self.send_400_response("")
        # uvicorn stops its own timer at each byte. What arrives between two requests may be the beginning of a
        # head, or the rest of a body that nobody reads; either has to lead to a request in time.
        if self._timer is None and not self._is_answering() and not self.transport.is_closing():
            self._start_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_write_timer()

    def timeout_keep_alive_handler(self) -> None:
        self._end()

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._start_write_timer()

    # A transport that is closed, or is paused, waits for its client to read, which may never happen.
    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_write_timer()

    def _start_write_timer(self) -> None:
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.settings.idle_timeout, self._check_written, self.unread())

    def unread(self) -> int:
        """Return the bytes that were written, and that the client's system has not received."""
        # asyncio writes only when much of the kernel's buffer is free, so its own buffer may stay as it is for long.
        connection = self.transport.get_extra_info("socket")
        in_kernel = 0
        if connection is not None and sys.platform == "linux":
            with suppress(OSError, ValueError):  # it may be closed
                answer = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4))
                in_kernel = int.from_bytes(answer, sys.byteorder)
        return self.transport.get_write_buffer_size() + in_kernel

    def _check_written(self, before: int) -> None:
        self._write_timer = None
        if self.unread() <= before - SLOWEST * self.settings.idle_timeout:
            self._start_write_timer()
        else:
            self.transport.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _is_answering(self) -> bool:
        # The class of requests sets `cycle` only with the first one.
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        self._framing_size -= len(body)
        super().on_body(body)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # fields after a body are dropped: proxies have not checked them as those of the head
            super().on_header(name, value)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._stop_body_timer()
        super().on_message_complete()

    def _start_body_timer(self) -> None:
        # Nothing arrives while an earlier request is answered, or while the endpoint does not take what is there.
        is_read = not self.pipeline and not self.flow.read_paused
        seconds = _BODY_TIMEOUTS * self.settings.idle_timeout
        least = self._body_size + SLOWEST * seconds if is_read else 0
        self._body_timer = self.loop.call_later(seconds, self._check_body, least)

    def _check_body(self, least: float) -> None:
        self._body_timer = None
        if self.pipeline or self.flow.read_paused or self._body_size >= least:
            self._start_body_timer()
        elif not self.transport.is_closing():
            # A request whose answer has begun gets no other one.
            if not self.cycle.response_started:
                self.transport.write(_REQUEST_TIMEOUT)
            self._end()

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_size = 0
        self._stop_timer()
        size = sum(len(name) + len(value) for name, value in self.headers) + len(self.url)
        if size > self.settings.max_headers:
            self._too_long = True
            raise ValueError("the head is too long")  # httptools then calls `send_400_response`
        super().on_headers_complete()
        if self.pipeline and len(self.pipeline) <= _MOST_WAITING:
            self.flow.resume_reading()  # or nobody would see that the client hangs up
        self._in_body = True
        self._body_size = 0
        self._framing_size = 0
        self._start_body_timer()

    def send_400_response(self, msg: str) -> None:
        if self._too_long:
            self.transport.write(_HEAD_TOO_LONG)
            self.transport.close()
        else:
            super().send_400_response(msg)
        self._start_write_timer()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.settings.idle_timeout, self._end)

    def _end(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.close()
            self._start_write_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


_HEAD_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 25\r\nconnection: close\r\n\r\n"
    b"The head is too long.   \n"
)
_REQUEST_TIMEOUT = (
    b"HTTP/1.1 408 Request Timeout\r\n"
    b"content-type: text/plain; charset=utf-8\r\ncontent-length: 36\r\nconnection: close\r\n\r\n"
    b"The request did not arrive in time.\n"
)


def protocol_for(gateway: Gateway) -> type[LimitedProtocol]:
    """Return the protocol of connections with the limits of a gateway's settings. uvicorn creates the instances."""

    class Protocol(LimitedProtocol):
        settings = gateway.settings

    return Protocol
