"""Fault classes 1 to 12, 45, 48 and 78, which concern the transport, and tests of 13, 16 and 18 that need a socket."""

from __future__ import annotations

import gzip
import socket
import zlib
from collections.abc import Mapping
from typing import Any

import anyio
import httpx2
import pytest

from trunkline.errors import (
    ChunkTimeout,
    ConfigurationError,
    ConnectionFailed,
    ConnectTimeout,
    FirstChunkTimeout,
    ProtocolViolation,
    RemoteError,
    StreamInterrupted,
    TotalTimeout,
)
from trunkline.events import Finished, TextDelta
from trunkline.response import FinishReason
from trunkline.testing.case import QUICK, ProviderCase, Watcher, until_hung_up
from trunkline.testing.faults.wire import MEBIBYTE, TOMORROW
from trunkline.testing.heartbeats import Heartbeats
from trunkline.testing.http2 import HTTP2Exchange
from trunkline.testing.server import JSON, Exchange, black_hole, closed_port
from trunkline.testing.wireformat import CANARY

METHODS = pytest.mark.parametrize("method", ["chat", "stream"])


class ConnectionFaults(ProviderCase):
    """The tests of classes 1 to 12, and the tests of classes 13, 16 and 18 that test the core."""

    def check_partial(self, error: RemoteError) -> None:
        """Assert that the error's partial response is the opening of the first sample."""
        assert error.partial is not None, "an error in a stream must have a partial response"
        assert error.partial.text == self.opening().text
        assert error.partial.finish_reason is FinishReason.ERROR

    async def _check_raised_and_retried(self, url: str, method: str, place: str) -> None:
        watcher = Watcher()
        async with self.service(url) as service:
            with pytest.raises(ConnectionFailed) as caught:
                await self.ask(service, method)
        assert place in str(caught.value)
        assert not any(secret in str(caught.value) for secret in self.canaries())
        async with self.service(url, watcher=watcher, max_retries=1) as service, anyio.create_task_group() as tasks:
            tasks.start_soon(self.ask, service, method)
            await watcher.retrying.wait()
            tasks.cancel_scope.cancel()

    @METHODS
    async def test_fault_01_refused_connection(self, method: str) -> None:
        """A refused connection raises `ConnectionFailed`, which names host and port, and is retried."""
        port = closed_port()
        await self._check_raised_and_retried(f"http://127.0.0.1:{port}", method, f"127.0.0.1:{port}")

    @METHODS
    async def test_fault_01_name_not_found(self, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A host name that cannot be resolved raises `ConnectionFailed` and is retried."""
        known = socket.getaddrinfo

        def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
            if host in ("trunkline.invalid", b"trunkline.invalid"):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return known(host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        await self._check_raised_and_retried("http://trunkline.invalid:8080", method, "trunkline.invalid:8080")

    @METHODS
    async def test_fault_02_connect_black_hole(self, method: str) -> None:
        """A connection attempt that is not answered raises `ConnectTimeout`."""
        with black_hole() as url:
            async with self.service(url, connect_timeout=QUICK) as service:
                with pytest.raises(ConnectTimeout):
                    await self.ask(service, method)

    @METHODS
    async def test_fault_03_no_headers(self, method: str) -> None:
        """A server that accepts and sends nothing raises `FirstChunkTimeout`, and the connection is closed."""
        async with self.serve(until_hung_up) as server, self.service(server.url, first_chunk_timeout=QUICK) as service:
            with pytest.raises(FirstChunkTimeout):
                await self.ask(service, method)
            await server.wait_idle()

    @METHODS
    @pytest.mark.parametrize("piece", [b"x: y\r\n", b"HTTP/1.1 103 X\r\n\r\n"], ids=["headers", "interim"])
    async def test_fault_78_slow_limits(self, piece: bytes, method: str) -> None:
        """Headers or interim responses that never end raise `FirstChunkTimeout`, although each read is in time."""

        async def script(exchange: Exchange) -> None:
            if piece.startswith(b"x"):
                await exchange.raw(b"HTTP/1.1 200 X\r\n")
            while True:
                await exchange.raw(piece)
                await anyio.sleep(QUICK / 5)

        async with self.serve(script) as server, self.service(server.url, first_chunk_timeout=QUICK) as service:
            with pytest.raises(FirstChunkTimeout):
                await self.ask(service, method)
            await server.wait_idle()

    async def test_fault_04_no_first_chunk(self) -> None:
        """A stream that sends only headers raises `FirstChunkTimeout`."""

        async def script(exchange: Exchange) -> None:
            await exchange.start(headers=self.head())
            await exchange.hung_up()

        async with self.serve(script) as server, self.service(server.url, first_chunk_timeout=QUICK) as service:
            with pytest.raises(FirstChunkTimeout):
                await self.read(service)
            await server.wait_idle()

    async def test_fault_05_stall(self) -> None:
        """A stream that stalls raises `ChunkTimeout` with the partial response."""

        async def script(exchange: Exchange) -> None:
            await exchange.start(headers=self.head())
            await exchange.chunk(self.opening().stream)
            await exchange.hung_up()

        async with self.serve(script) as server, self.service(server.url, chunk_timeout=QUICK) as service:
            with pytest.raises(ChunkTimeout) as caught:
                await self.read(service)
            await server.wait_idle()
        self.check_partial(caught.value)

    async def test_fault_05_stall_of_a_body(self) -> None:
        """A body that stalls raises `ChunkTimeout`."""

        async def script(exchange: Exchange) -> None:
            await exchange.start(headers={"content-type": "application/json"})
            assert self.sample_text.body is not None
            await exchange.chunk(self.sample_text.body[:20])
            await exchange.hung_up()

        async with self.serve(script) as server, self.service(server.url, chunk_timeout=QUICK) as service:
            with pytest.raises(ChunkTimeout):
                await self.chat(service)
            await server.wait_idle()

    @pytest.mark.parametrize("begun", [False, True], ids=["before", "after"])
    async def test_fault_06_heartbeats(self, begun: bool) -> None:
        """Heartbeats do not count as the first chunk. After it, they reset `chunk_timeout` but not `total_timeout`."""
        for limit in (QUICK, 4 * QUICK, 16 * QUICK):
            limits = {"chunk_timeout" if begun else "first_chunk_timeout": limit, "total_timeout": 2 * limit}
            error, longest_pause = await self._under_heartbeats(begun, limits)
            # A pause that long means that the machine was too busy: try again with longer limits.
            if longest_pause < 0.8 * limit:
                break
        assert isinstance(error, TotalTimeout if begun else FirstChunkTimeout), repr(error)
        if begun:
            self.check_partial(error)

    async def _under_heartbeats(self, begun: bool, limits: Mapping[str, float]) -> tuple[RemoteError, float]:
        """Read endless heartbeats. Return the error, and the longest pause between two reads in seconds."""
        heartbeats = Heartbeats(self.wire.framing.heartbeat())

        async def script(exchange: Exchange) -> None:
            await exchange.start(headers=self.head())
            if begun:
                await exchange.chunk(self.opening().stream)
            await heartbeats.send(exchange)

        async with self.serve(script) as server, self.service(server.url, watcher=heartbeats, **limits) as service:
            with pytest.raises(RemoteError) as caught:
                await self.read(service)
            heartbeats.look()
            await server.wait_idle()
        return caught.value, heartbeats.longest_pause

    async def test_fault_07_reset(self) -> None:
        """A connection reset mid-stream raises `StreamInterrupted` with the partial response. It is not retried."""
        seen = anyio.Event()

        async def script(exchange: Exchange) -> None:
            await exchange.start(headers=self.head())
            await exchange.chunk(self.opening().stream)
            await seen.wait()
            await exchange.reset()

        async with self.serve(script) as server, self.service(server.url, max_retries=2) as service:
            async with service.stream(self.sample_text.request) as stream:
                with pytest.raises(StreamInterrupted) as caught:
                    async for event in stream:
                        if isinstance(event, TextDelta):
                            seen.set()
            assert len(server.requests) == 1
        self.check_partial(caught.value)

    @pytest.mark.parametrize("end", [True, False], ids=["end", "hang-up"])
    async def test_fault_08_truncated(self, end: bool) -> None:
        """A stream that ends cleanly but without its terminator raises `StreamInterrupted`."""
        sample = self.sample_text
        async with self.serve(lambda exchange: scripts[exchange.number - 1](exchange)) as server:
            async with self.service(server.url) as service:
                cuts = [sample.frames[:count] for count in range(len(sample.frames))]
                cuts += [(*sample.frames[:at], frame[: len(frame) // 2]) for at, frame in enumerate(sample.frames)]
                scripts = [self.streams(frames, end=end) for frames in cuts]
                for frames in cuts:
                    arrived = "".join(
                        event.text for event in self.decode(frames, finish=False) if isinstance(event, TextDelta)
                    )
                    with pytest.raises(StreamInterrupted) as caught:
                        await self.read(service)
                    assert caught.value.partial is not None
                    assert caught.value.partial.text.startswith(arrived)
                    assert sample.text.startswith(caught.value.partial.text)
                    assert caught.value.partial.finish_reason is FinishReason.ERROR

    async def test_fault_08_truncated_body(self) -> None:
        """A body without a length that breaks off or is empty raises `StreamInterrupted`, which can be retried."""
        body = self.sample_text.body
        if body is None:
            pytest.skip("n/a: the first sample has no body")

        async def script(exchange: Exchange) -> None:
            head = b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
            await exchange.raw(head + body[: cuts[exchange.number - 1]])
            await exchange.hang_up()

        cuts = (0, 1, len(body) // 2, len(body.rstrip()) - 1)
        async with self.serve(script) as server, self.service(server.url, max_retries=0) as service:
            for _ in cuts:
                with pytest.raises(StreamInterrupted) as caught:
                    await self.chat(service)
                assert caught.value.retryable

    @pytest.mark.parametrize("after", ["parked", "reset"])
    async def test_fault_09_parked_socket(self, after: str) -> None:
        """After the terminator, a reset is ignored, and a connection that the server leaves open is closed."""

        async def script(exchange: Exchange) -> None:
            await exchange.start(headers=self.head())
            await exchange.chunk(self.sample_text.stream)
            if after == "reset":
                await finished.wait()
                await exchange.reset()
            else:
                await exchange.hung_up()

        finished = anyio.Event()
        async with self.serve(script) as server, self.service(server.url) as service:
            async with service.stream(self.sample_text.request) as stream:
                async for event in stream:
                    if isinstance(event, Finished):
                        finished.set()
                self.check(self.sample_text, stream.response)
            await server.wait_idle()

    @METHODS
    async def test_fault_10_stale_connection(self, method: str) -> None:
        """If the server closes an idle connection as a request arrives, the request is retried on a new one."""

        async def script(exchange: Exchange) -> None:
            if exchange.number == 2:
                exchange.keep_alive = False  # close when the second request arrives, without a response
            else:
                await self.responds(method)(exchange)

        async with self.serve(script) as server, self.service(server.url, max_retries=1) as service:
            await self.ask(service, method)
            await self.ask(service, method)
            assert server.accepted == 2

    @METHODS
    async def test_fault_10_connection_closed_while_idle(self, method: str) -> None:
        """If the server closed the idle connection before a call, the call succeeds without a retry."""

        async def script(exchange: Exchange) -> None:
            await self.responds(method)(exchange)
            exchange.keep_alive = False

        async with self.serve(script) as server, self.service(server.url, max_retries=0) as service:
            await self.ask(service, method)
            await server.wait_idle()
            await self.ask(service, method)

    @METHODS
    async def test_fault_45_sent_once(self, method: str) -> None:
        """With `max_retries` 0, a request on a reused connection that closes is sent once."""

        async def script(exchange: Exchange) -> None:
            if exchange.number == 1:
                await self.responds(method)(exchange)
            else:
                exchange.keep_alive = False  # close when the request has been read, without a response

        async with self.serve(script) as server, self.service(server.url, max_retries=0) as service:
            await self.ask(service, method)
            with pytest.raises(ConnectionFailed):
                await self.ask(service, method)
            assert len(server.requests) == 2

    @pytest.mark.parametrize("wrong", ["\n", "\u2014", " ", "\ufeff"], ids=["line break", "dash", "space", "mark"])
    def test_fault_48_wrong_key(self, wrong: str) -> None:
        """A key that no HTTP header can hold is a `ConfigurationError` that names its setting, before any request."""
        elsewhere = {info.name for info in self.own_settings() if info.secret and not info.in_header}
        keys = {
            name: value for name, value in self.settings.items() if isinstance(value, str) and value.startswith(CANARY)
        }
        for name, value in keys.items():
            if name in elsewhere:
                continue
            with pytest.raises(ConfigurationError, match=repr(name)) as caught:
                self.made_settings(**{name: value[:9] + wrong + value[9:]})
            assert value not in str(caught.value)

    @pytest.mark.parametrize("fault", ["goaway", "reset"])
    async def test_fault_11_http2(self, fault: str) -> None:
        """GOAWAY or RST_STREAM mid-stream raises `StreamInterrupted` with the partial response."""
        seen = anyio.Event()

        async def script(exchange: HTTP2Exchange) -> None:
            await exchange.start(headers=self.head())
            await exchange.chunk(self.opening().stream)
            await seen.wait()
            await (exchange.go_away(processed=True) if fault == "goaway" else exchange.reset_stream())

        async with self.serve_http2(script) as server, httpx2.AsyncClient(http1=False, http2=True) as client:
            async with self.service(server.url, client=client) as service:
                async with service.stream(self.sample_text.request) as stream:
                    with pytest.raises(StreamInterrupted) as caught:
                        async for event in stream:
                            if isinstance(event, TextDelta):
                                seen.set()
        self.check_partial(caught.value)

    @pytest.mark.parametrize("fault", ["goaway", "reset"])
    async def test_fault_11_http2_before_the_response(self, fault: str) -> None:
        """GOAWAY or RST_STREAM before the response is retried."""

        async def script(exchange: HTTP2Exchange) -> None:
            if exchange.number == 1:
                await (exchange.go_away(processed=False) if fault == "goaway" else exchange.reset_stream())
                return
            await exchange.start(headers=self.head())
            await exchange.chunk(self.sample_text.stream)
            await exchange.end()

        async with self.serve_http2(script) as server, httpx2.AsyncClient(http1=False, http2=True) as client:
            async with self.service(server.url, client=client, max_retries=1) as service:
                self.check(self.sample_text, self.folded(await self.read(service)))
        assert server.requests == 2

    async def test_fault_12_content_encoding(self) -> None:
        """A compressed stream is decompressed as it arrives."""
        seen = anyio.Event()
        opening = self.opening()

        async def script(exchange: Exchange) -> None:
            packer = zlib.compressobj(wbits=31)
            await exchange.start(headers={**self.head(), "content-encoding": "gzip"})
            await exchange.chunk(packer.compress(opening.stream) + packer.flush(zlib.Z_SYNC_FLUSH))
            await seen.wait()
            rest = self.sample_text.stream[len(opening.stream) :]
            await exchange.chunk(packer.compress(rest) + packer.flush())
            await exchange.end()

        async with self.serve(script) as server, self.service(server.url) as service:
            async with service.stream(self.sample_text.request) as stream:
                async for event in stream:
                    if isinstance(event, TextDelta):
                        seen.set()
                self.check(self.sample_text, stream.response)

    @pytest.mark.parametrize("status", [200, 400])
    async def test_fault_12_content_encoding_of_a_body(self, status: int) -> None:
        """A compressed body of a response or an error is decompressed once."""
        assert self.sample_text.body is not None
        body = self.sample_text.body if status == 200 else self.wire.error_body("the model fell over")

        async def script(exchange: Exchange) -> None:
            await exchange.respond(gzip.compress(body), status=status, headers={**JSON, "content-encoding": "gzip"})

        async with self.serve(script) as server, self.service(server.url) as service:
            if status == 200:
                self.check(self.sample_text, await self.chat(service))
            else:
                with pytest.raises(RemoteError, match="the model fell over"):
                    await self.chat(service)

    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    async def test_fault_12_wrong_encoding(self, encoding: str) -> None:
        """A `content-encoding` that the body does not have raises `ProtocolViolation`."""

        async def script(exchange: Exchange) -> None:
            await exchange.start(headers={**self.head(), "content-encoding": encoding})
            await exchange.chunk(self.sample_text.stream)
            await exchange.end()

        async with self.serve(script) as server, self.service(server.url) as service:
            with pytest.raises(ProtocolViolation):
                await self.read(service)

    async def test_fault_12_broken_encoding(self) -> None:
        """Compressed data that is broken mid-stream raises `ProtocolViolation` with the partial response."""
        seen = anyio.Event()

        async def script(exchange: Exchange) -> None:
            packer = zlib.compressobj(wbits=31)
            await exchange.start(headers={**self.head(), "content-encoding": "gzip"})
            await exchange.chunk(packer.compress(self.opening().stream) + packer.flush(zlib.Z_SYNC_FLUSH))
            await seen.wait()
            await exchange.chunk(b"\xff" * 64)
            await exchange.end()

        async with self.serve(script) as server, self.service(server.url) as service:
            async with service.stream(self.sample_text.request) as stream:
                with pytest.raises(ProtocolViolation) as caught:
                    async for event in stream:
                        if isinstance(event, TextDelta):
                            seen.set()
        self.check_partial(caught.value)

    async def test_fault_13_bytes_one_by_one(self) -> None:
        """A stream that arrives byte by byte on a socket gives the same response."""
        stream = self.sample_text.stream
        script = self.streams(stream[at : at + 1] for at in range(len(stream)))
        async with self.serve(script) as server, self.service(server.url) as service:
            self.check(self.sample_text, self.folded(await self.read(service)))

    @pytest.mark.parametrize("method", ["chat", "stream"])
    async def test_fault_16_limits_are_settings(self, method: str) -> None:
        """The settings `frame_limit` and `body_limit` limit the size of an event and of a body."""

        async def script(exchange: Exchange) -> None:
            if method == "stream":
                await exchange.start(headers=self.head())
                await exchange.chunk(self.opening().stream)
                await exchange.chunk(self.wire.framing.frame(b'"' + MEBIBYTE + b'"', TOMORROW))
            else:
                await exchange.start(headers=JSON)
                await exchange.chunk(MEBIBYTE)
            await exchange.hung_up()

        limits: dict[str, Any] = {"frame_limit": 65536} if method == "stream" else {"body_limit": 65536}
        async with self.serve(script) as server, self.service(server.url, **limits) as service:
            with pytest.raises(ProtocolViolation, match="65536"):
                await self.ask(service, method)
            await server.wait_idle()

    async def test_fault_18_connection_is_closed(self) -> None:
        """After an error event, the connection is closed without waiting for the end of the stream."""
        error_event = self.wire.error_event
        assert error_event is not None

        async def script(exchange: Exchange) -> None:
            await exchange.start(headers=self.head())
            await exchange.chunk(self.opening().stream + error_event("the model fell over"))
            await exchange.hung_up()

        async with self.serve(script) as server, self.service(server.url) as service:
            with pytest.raises(self.wire.error_type):
                await self.read(service)
            await server.wait_idle()
