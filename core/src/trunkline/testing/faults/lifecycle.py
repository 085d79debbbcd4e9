"""Fault classes 31 to 40, 43, 44, 50 and 51: cancellation, closing, slow readers, event loops, and fuzzed bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import attrs
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.wire import WireResponse
from trunkline.errors import CallError, RemoteError, ServiceClosed, StreamInterrupted, TotalTimeout, TrunklineError
from trunkline.events import Finished, TextDelta, UsageReported
from trunkline.provider_service import ProviderService
from trunkline.response import Usage
from trunkline.testing.case import QUICK, ProviderCase, Watcher
from trunkline.testing.server import Exchange
from trunkline.testing.wire_values import decoded_body, json_leaves
from trunkline.testing.wireformat import Sample

METHODS = pytest.mark.parametrize("method", ["chat", "stream"])

FUZZ = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow],
)


class _Stalling:
    """A script that starts a response and stalls. Its events say that a request came and that the client left."""

    def __init__(self, case: ProviderCase, *, headers: bool = True) -> None:
        self.asked = anyio.Event()
        self.gone = anyio.Event()
        self._case = case
        self._headers = headers

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.set()
        if self._headers:
            await exchange.start(headers=self._case.head())
            await exchange.chunk(self._case.opening().stream)
        await exchange.hung_up()
        self.gone.set()


class LifecycleFaults(ProviderCase):
    """The tests of classes 31 to 36, 38, 40, 43, 44, 50 and 51."""

    @METHODS
    async def test_fault_31_cancelled_before_headers(self, method: str) -> None:
        """Cancelling a call that waits for its response closes the connection."""
        script = _Stalling(self, headers=False)
        async with self.serve(script) as server, self.service(server.url) as service:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.ask, service, method)
                await script.asked.wait()
                tasks.cancel_scope.cancel()
            await script.gone.wait()
            await server.wait_idle()

    async def test_fault_32_cancelled_mid_stream(self) -> None:
        """Cancelling the reader of a stream closes the connection."""
        script = _Stalling(self)
        async with self.serve(script) as server, self.service(server.url) as service:
            with anyio.CancelScope() as scope:
                async with service.stream(self.sample_text.request) as stream:
                    async for event in stream:
                        if isinstance(event, TextDelta):
                            scope.cancel()
            assert scope.cancelled_caught
            await script.gone.wait()
            await server.wait_idle()

    async def test_fault_32_exception_mid_stream(self) -> None:
        """An exception in the reader's code closes the connection and is raised unchanged."""
        script = _Stalling(self)
        async with self.serve(script) as server, self.service(server.url) as service:
            with pytest.raises(LookupError):
                await self._break(service)
            await script.gone.wait()
            await server.wait_idle()

    async def _break(self, service: ProviderService) -> None:
        async with service.stream(self.sample_text.request) as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    raise LookupError("the application's own")

    async def test_fault_33_early_break(self) -> None:
        """Leaving the loop and the block early closes the connection."""
        script = _Stalling(self)
        async with self.serve(script) as server, self.service(server.url) as service:
            async with service.stream(self.sample_text.request) as stream:
                async for event in stream:
                    if isinstance(event, TextDelta):
                        break
            await script.gone.wait()
            await server.wait_idle()

    @METHODS
    async def test_fault_34_cancelled_in_backoff(self, method: str) -> None:
        """A call that is cancelled while it waits for a retry ends at once and sends no further request."""
        watcher = Watcher()

        async def failing(exchange: Exchange) -> None:
            await exchange.start(headers=self.head())
            await exchange.reset()

        script = failing if self.in_process() else self.fails(429, **{"retry-after": "20"})
        async with self.serve(script) as server:
            async with self.service(server.url, watcher=watcher, max_retries=3) as service:
                with anyio.fail_after(10):
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self.ask, service, method)
                        await watcher.retrying.wait()
                        tasks.cancel_scope.cancel()
            assert len(server.requests) == len(watcher.delays)

    async def test_fault_35_slow_consumer(self) -> None:
        """A reader that stops reading slows the provider down. The unread data is not buffered in the process."""
        opening = self.opening()
        repeated = opening.frames[-1] * max(1, 65536 // len(opening.frames[-1]))
        held_back, sent = anyio.Event(), 0

        async def script(exchange: Exchange) -> None:
            nonlocal sent
            await exchange.start(headers=self.head())
            await exchange.chunk(opening.stream)
            while sent < 256 * 1024 * 1024:
                with anyio.move_on_after(QUICK) as scope:
                    await exchange.chunk(repeated)
                if scope.cancelled_caught:
                    break
                sent += len(repeated)
            held_back.set()
            await exchange.hung_up()

        async with self.serve(script) as server, self.service(server.url) as service:
            async with service.stream(self.sample_text.request) as stream:
                await anext(stream)
                await held_back.wait()
                assert sent < 64 * 1024 * 1024, "unread data is buffered without a limit"
            await server.wait_idle()

    async def test_fault_36_neighbours(self) -> None:
        """Cancelling streams does not affect other streams, and leaves no connection open."""
        sample, cancelled, whole = self.sample_text, 40, 8
        responses: list[Any] = []
        stalled = anyio.Event()
        stalling = 0

        async def script(exchange: Exchange) -> None:
            nonlocal stalling
            await exchange.start(headers=self.head())
            if b"stalls" in exchange.request.body:
                await exchange.chunk(self.opening().stream)
                stalling += 1
                if stalling == cancelled:
                    stalled.set()
                await exchange.hung_up()
                return
            for at, frame in enumerate(sample.frames):
                if at == len(sample.frames) // 2:
                    await stalled.wait()
                await exchange.chunk(frame)
            await exchange.end()

        async def leave(service: Any) -> None:
            async with service.stream("stalls") as stream:
                async for _ in stream:
                    await stalled.wait()
                    scope.cancel()

        async def stay(service: Any) -> None:
            responses.append(self.folded(await self.read(service)))

        async with self.serve(script) as server, self.service(server.url) as service:
            async with anyio.create_task_group() as tasks:
                for _ in range(whole):
                    tasks.start_soon(stay, service)
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as leaving:
                        for _ in range(cancelled):
                            leaving.start_soon(leave, service)
            assert len(responses) == whole
            for response in responses:
                self.check(sample, response)
            await service.aclose()
            await server.wait_idle()

    async def test_fault_38_service_closed(self) -> None:
        """Closing a service ends its streams and calls with `ServiceClosed`, and leaves no connection open."""
        script = _Stalling(self)
        ended: list[BaseException] = []

        async def use(service: Any, method: str) -> None:
            try:
                if method == "chat":
                    await service.chat(self.sample_text.request)
                else:
                    async with service.stream(self.sample_text.request) as stream:
                        async for event in stream:
                            if isinstance(event, TextDelta):
                                streaming.set()
            except TrunklineError as error:
                ended.append(error)

        streaming = anyio.Event()
        async with self.serve(script) as server, self.service(server.url) as service:
            async with anyio.create_task_group() as tasks:
                for method in ("stream", "chat", "stream"):
                    tasks.start_soon(use, service, method)
                await streaming.wait()
                await script.asked.wait()
                await service.aclose()
            assert [type(error) for error in ended] == [ServiceClosed] * 3
            await server.wait_idle()
            with pytest.raises(ServiceClosed):
                await self.chat(service)

    async def test_fault_40_cancelled_read(self) -> None:
        """After a cancelled read, the next read raises `StreamInterrupted`, so the loop never just ends."""
        script, opening = _Stalling(self), self.opening()
        async with self.serve(script) as server, self.service(server.url) as service:
            async with service.stream(self.sample_text.request) as stream:
                async for event in stream:
                    if isinstance(event, TextDelta) and stream.partial.text == opening.text:
                        break
                with anyio.move_on_after(QUICK) as scope:
                    while True:
                        await anext(stream)
                assert scope.cancelled_caught
                with pytest.raises(StreamInterrupted, match="cancelled") as caught:
                    async for _ in stream.text:
                        pass
                assert caught.value.partial is not None
                assert caught.value.partial.text == opening.text
                with pytest.raises(CallError):
                    _ = stream.response
            await script.gone.wait()
            await server.wait_idle()

    @METHODS
    async def test_fault_43_hanging(self, method: str) -> None:
        """A call that hangs ends after `total_timeout`, and closes its connection."""
        script = _Stalling(self, headers=False)
        async with self.serve(script) as server, self.service(server.url, total_timeout=QUICK) as service:
            with pytest.raises(TotalTimeout):
                await self.ask(service, method)
            await server.wait_idle()

    async def test_fault_44_event_loops(self, anyio_backend_name: str) -> None:
        """One service works in several event loops, in threads at the same time."""

        async def call() -> None:
            self.check(self.sample_text, self.folded(await self.read(service)))

        async with self.serve(self.responds()) as server, self.service(server.url) as service:
            await call()
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(anyio.to_thread.run_sync, partial(anyio.run, call, backend=anyio_backend_name))
            await call()

    async def test_fault_50_repeated_frames(self) -> None:
        """A stream whose frames come twice gives a response or an error with the partial, which is raised again."""
        for sample in self.all_samples():
            frames = [frame for frame in sample.frames for _ in range(2)]
            async with self.serve(self.streams(frames)) as server, self.service(server.url, max_retries=0) as service:
                stream, failure = service.stream(sample.request), None
                try:
                    async with stream:
                        await stream.finish()
                except RemoteError as error:
                    failure = error
                if failure is not None:
                    assert failure.partial is not None
                    with pytest.raises(type(failure)):
                        await anext(stream)

    async def test_fault_51_abandoned(self) -> None:
        """Observers hear that a stream was abandoned, not that it failed, with what had been read and its usage."""
        script, watcher = _Stalling(self), Watcher()
        async with self.serve(script) as server, self.service(server.url, watcher=watcher) as service:
            async with service.stream(self.sample_text.request) as stream:
                async for event in stream:
                    if isinstance(event, TextDelta):
                        break
            assert watcher.abandonments == [stream.partial]
            assert stream.partial.text
            assert not watcher.failures
            await server.wait_idle()


class FuzzFaults(ProviderCase):
    """The tests of classes 37 and 39, which test the provider's parser."""

    async def test_fault_37_usage_on_abort(self) -> None:
        """The usage of an interrupted stream is what was reported before, and otherwise unknown, not 0."""
        frames = self.opening().frames
        async with self.serve(self.streams(frames)) as server, self.service(server.url) as service:
            with pytest.raises(StreamInterrupted) as caught:
                await self.read(service)
        assert caught.value.partial is not None
        usage = caught.value.partial.usage
        reports = [event.usage for event in self.decode(frames, finish=False) if isinstance(event, UsageReported)]
        assert usage == (reports[-1] if reports else None), "the usage is not the last one that was reported"
        zeros = [name for name, count in attrs.asdict(usage or Usage()).items() if count == 0 and name != "raw"]
        assert not zeros or self._reports_zero(frames), f"{', '.join(zeros)} is 0, but no frame reports a count of 0"

    def _reports_zero(self, frames: Iterable[bytes]) -> bool:
        """Whether a field of these frames that looks like a count is 0."""
        names = [
            ".".join(map(str, leaf.path)).lower()
            for frame in frames
            for leaf in json_leaves(decoded_body(self.wire.framing.payload(frame)))
            if type(leaf.value) is int and leaf.value == 0
        ]
        return any(word in name for name in names for word in ("usage", "token", "count"))

    def _survives(self, pieces: list[bytes]) -> None:
        decoder = StreamDecoder(*self.parser().stream())
        try:
            events = [event for piece in pieces for event in decoder.feed(piece)]
            events += decoder.finish()
        except TrunklineError:
            return
        assert isinstance(events[-1], Finished)
        self.folded(events)

    @pytest.mark.parametrize("read", ["stream", "body", "error"])
    def test_fault_39_fuzzed_bytes(self, read: str) -> None:
        """Any bytes give either a response or a `TrunklineError`."""
        parser = self.parser()

        @FUZZ
        @given(_bytes(self.all_samples(), read), st.integers(0, 4096), st.sampled_from([200, 400, 401, 429, 500]))
        def run(data: bytes, cut: int, status: int) -> None:
            if read == "stream":
                self._survives([data[:cut], data[cut:]])
            elif read == "body":
                with contextlib.suppress(TrunklineError):
                    parser.body(WireResponse(status=200, body=data))
            else:
                error = parser.error(WireResponse(status=status, body=data))
                assert isinstance(error, TrunklineError)
                assert str(error)

        run()

    def test_fault_39_fuzzed_json(self) -> None:
        """Frames in which any JSON value is replaced by an unexpected one give a response or a `TrunklineError`."""
        odd: st.SearchStrategy[Any] = st.sampled_from(
            [None, True, -1, 1e308, "", "x", [], [None], [[]], {}, {"a": None}, {"type": []}]
        )
        paths = [
            (sample, at, path)
            for sample in self.all_samples()
            for at, value in enumerate(_values(self.wire, sample))
            for path in _paths(value)
        ]

        @FUZZ
        @given(st.sampled_from(paths), odd)
        def run(place: Any, value: Any) -> None:
            sample, at, path = place
            position = iter(range(len(sample.frames)))
            frames = self.wire.edited(
                sample, lambda found: _replaced(found, path, value) if next(position) == at else found
            )
            self._survives(list(frames))

        run()


def _values(wire: Any, sample: Sample) -> list[Any]:
    found: list[Any] = []

    def keep(value: Any) -> Any:
        found.append(value)
        return value

    wire.edited(sample, keep)
    return found


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, ...]] = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        inner += _paths(item, (*path, name))
    return inner


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copy


def _bytes(samples: tuple[Sample, ...], read: str) -> st.SearchStrategy[bytes]:
    known = [sample.stream for sample in samples] if read == "stream" else [sample.body or b"" for sample in samples]

    @st.composite
    def mutated(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from(known)))
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, len(data)))
            end = min(len(data), start + draw(st.integers(0, 12)))
            data[start:end] = draw(st.binary(max_size=6))
        return bytes(data)

    return st.one_of(mutated(), st.binary(max_size=200), st.text(max_size=80).map(str.encode))
