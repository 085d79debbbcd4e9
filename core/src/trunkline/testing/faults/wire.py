"""Fault classes 13 to 23: what the bytes may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import attrs
import pytest

from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, RemoteError, StreamInterrupted, TrunklineError
from trunkline.events import Finished, UsageReported
from trunkline.response import ChatResponse, FinishReason
from trunkline.testing.case import ProviderCase
from trunkline.testing.server import Exchange, serve
from trunkline.testing.wireformat import Sample

TOMORROW = "of_tomorrow"
"""The name of what no provider has yet."""

MEBIBYTE = b"x" * 1024 * 1024


class WireFaults(ProviderCase):
    """Classes 13 to 23, and truncation (class 8) at every byte."""

    def test_fault_08_truncated_at_every_byte(self) -> None:
        """The same at every byte before the terminator, for every sample, without sockets."""
        for sample in self.all_samples():
            last = b"".join(sample.frames[: len(sample.frames) - self.wire.optional_end])
            for cut in range(len(last.rstrip(b"\r\n"))):
                with pytest.raises(StreamInterrupted):
                    self.decode([last[:cut]])
                    pytest.fail(f"{sample.name!r} cut at byte {cut} is taken for a success")

    def test_fault_13_splits(self, sample: Sample) -> None:
        """The events are the same at every split of the bytes in two, and byte by byte."""
        stream = sample.stream
        whole = self.decode([stream])
        self.check(sample, self.folded(whole), streamed=True)
        for at in range(1, len(stream)):
            assert self.decode([stream[:at], stream[at:]]) == whole, f"split at byte {at}"
        assert self.decode([stream[at : at + 1] for at in range(len(stream))]) == whole

    def test_fault_14_spellings(self, spelling: str) -> None:
        """What the framing allows means the same, split anywhere."""
        for sample in self.all_samples():
            stream = self.wire.framing.spellings(sample.frames)[spelling]
            whole = self.decode([sample.stream])
            assert self.decode([stream]) == whole
            begun = self.decode(sample.frames[:-1], finish=False)
            assert len(self.decode([stream], finish=False)) >= len(begun), "events wait for the end of the file"
            assert self.decode([stream[at : at + 1] for at in range(len(stream))]) == whole

    def test_fault_14_heartbeats(self) -> None:
        """Heartbeats between the frames are no part of the answer."""
        beat = self.wire.framing.heartbeat()
        frames = [piece for frame in self.sample_text.frames for piece in (beat, frame)]
        assert self.decode(frames) == self.decode(self.sample_text.frames)

    @pytest.mark.parametrize("broken", [b'{"a":', b"not JSON", b'{"a":1}}', b"[1,", b"\xff\xfe"])
    async def test_fault_15_malformed_json(self, broken: bytes) -> None:
        """An event that is not JSON is a `ProtocolViolation` with the partial; it is never passed over."""
        opening = self.opening()
        bad = self.wire.framing.replaced(opening.frames[-1], broken)
        script = self.streams([*opening.frames, bad, *self.sample_text.frames[len(opening.frames) :]])
        async with serve(script) as server, self.service(server.url) as service:
            with pytest.raises(ProtocolViolation) as caught:
                await self.read(service)
        assert caught.value.partial is not None
        assert caught.value.partial.text == opening.text

    @pytest.mark.parametrize("value", [[], "text", 1, None, True], ids=str)
    def test_fault_15_other_json(self, value: Any) -> None:
        """JSON that is not what was due is one of our errors, or means nothing; it is never a crash."""
        opening = self.opening()
        bad = self.wire.framing.replaced(opening.frames[-1], json.dumps(value).encode())
        try:
            events = self.decode([*opening.frames, bad, *self.sample_text.frames[len(opening.frames) :]])
        except TrunklineError:
            return
        self.check(self.sample_text, self.folded(events), streamed=True)

    def test_fault_15_missing_fields(self) -> None:
        """A field that is missing is one of our errors, or changes nothing else; it is never a crash."""
        for sample in self.all_samples():
            for name in sorted(_names(sample.frames, self.wire.framing.payload)):
                frames = self.wire.edited(sample, partial(_without, name=name))
                try:
                    self.decode(frames)
                except TrunklineError:
                    continue

    def test_fault_16_large(self) -> None:
        """An event that is large, and within the limit, is taken whole."""
        text = "x" * 200_000
        changed = partial(_renamed, finish=self.opening().text, word=text)
        frames = self.wire.edited(self.sample_text, changed)
        if frames != self.wire.edited(self.sample_text, lambda value: value):
            assert self.folded(self.decode(frames)).text.startswith(text)

    def test_fault_16_oversized(self) -> None:
        """An event that never ends is a `ProtocolViolation` before it has taken all memory."""
        decoder = StreamDecoder(*self.parser().stream())
        frame = self.wire.framing.frame(b'"' + MEBIBYTE, TOMORROW)
        decoder.feed(frame[: len(frame) // 2])
        with pytest.raises(ProtocolViolation):
            for _ in range(80):
                decoder.feed(MEBIBYTE)

    def test_fault_16_nested(self) -> None:
        """Deep nesting is one of our errors, or means nothing."""
        deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
        opening = self.opening()
        for payload in (deep, b"[" * 100_000):
            with pytest.raises(TrunklineError):
                self.decode([*opening.frames, self.wire.framing.replaced(opening.frames[-1], payload)])
            with pytest.raises(TrunklineError):
                self.parser().body(WireResponse(status=200, body=payload))
            assert isinstance(self.parser().error(WireResponse(status=400, body=payload)), RemoteError)

    async def _streamed(self, body: bytes, content_type: str) -> ChatResponse:
        async def script(exchange: Exchange) -> None:
            await exchange.respond(body, headers={"content-type": content_type})

        async with serve(script) as server, self.service(server.url) as service:
            return self.folded(await self.read(service))

    @pytest.mark.parametrize("content_type", ["application/json", "stream"])
    async def test_fault_17_no_stream(self, content_type: str) -> None:
        """A whole answer where a stream was due is taken, whatever the header says."""
        assert self.sample_text.body is not None
        told = self.wire.framing.content_type if content_type == "stream" else content_type
        response = await self._streamed(self.sample_text.body, told)
        self.check(self.sample_text, response, streamed=False)

    @pytest.mark.parametrize("body", [b"<html><title>Sign in</title></html>", b'{"sign": "in"}', b"[1, 2]"])
    async def test_fault_17_page(self, body: bytes) -> None:
        """A page is a `ProtocolViolation` that quotes its beginning; so is JSON that is no answer."""
        with pytest.raises(RemoteError) as caught:
            await self._streamed(body, "text/html")
        assert isinstance(caught.value, ProtocolViolation)
        assert body.decode()[:6] in str(caught.value)

    async def test_fault_17_long_page(self) -> None:
        """What is quoted of a page, and of JSON that is no answer, is short."""
        for body in (b"<html>" + 100 * b"Sign in. " + b"</html>", b'{"sign": "' + 100 * b"Sign in. " + b'"}'):
            with pytest.raises(RemoteError) as streamed:
                await self._streamed(body, "text/html")
            with pytest.raises(RemoteError) as whole:
                self.parser().body(WireResponse(status=200, body=body))
            assert max(len(str(streamed.value)), len(str(whole.value))) < 700

    async def test_fault_17_page_for_a_body(self) -> None:
        """A page in the place of a whole answer is that too, and what is no answer at all."""
        for body in (b"<html>Sign in</html>", b"[]", b'"text"', b"{}", b"", b"null"):

            async def script(exchange: Exchange, body: bytes = body) -> None:
                await exchange.respond(body)

            async with serve(script) as server, self.service(server.url) as service:
                with pytest.raises(ProtocolViolation):
                    await self.chat(service)

    async def test_fault_17_empty(self) -> None:
        """An empty answer is a `StreamInterrupted`."""
        with pytest.raises(StreamInterrupted):
            await self._streamed(b"", self.wire.framing.content_type)

    def _error(self, message: str) -> bytes:
        assert self.wire.error_event is not None
        return self.wire.error_event(message)

    async def test_fault_18_error_event(self) -> None:
        """An error event within a stream is the typed error, with the partial; nothing is sent again."""
        opening = self.opening()
        script = self.streams([*opening.frames, self._error("the model fell over")])
        async with serve(script) as server, self.service(server.url, max_retries=2) as service:
            with pytest.raises(self.wire.error_type, match="the model fell over") as caught:
                await self.read(service)
            assert len(server.requests) == 1
        assert caught.value.partial is not None
        assert caught.value.partial.text == opening.text

    def test_fault_18_kinds_of_errors(self) -> None:
        """Each error that a frame can tell of has its type."""
        for frame, kind in self.wire.errors:
            with pytest.raises(RemoteError) as caught:
                self.decode([*self.opening().frames, frame], finish=False)
            assert type(caught.value) is kind

    @pytest.mark.parametrize("content_type", ["application/json", "stream"])
    async def test_fault_19_bare_error(self, content_type: str) -> None:
        """A bare error in the place of a stream is the typed error."""
        told = self.wire.framing.content_type if content_type == "stream" else content_type
        with pytest.raises(RemoteError, match="the model fell over") as caught:
            await self._streamed(self.wire.error_body("the model fell over"), told)
        assert not isinstance(caught.value, (ProtocolViolation, StreamInterrupted))

    async def test_fault_19_bare_error_for_a_body(self) -> None:
        """So it is in the place of a whole answer."""

        async def script(exchange: Exchange) -> None:
            await exchange.respond(self.wire.error_body("the model fell over"))

        async with serve(script) as server, self.service(server.url) as service:
            with pytest.raises(RemoteError, match="the model fell over") as caught:
                await self.chat(service)
        assert not isinstance(caught.value, (ProtocolViolation, StreamInterrupted))

    @pytest.mark.parametrize("ending", [b"", b"\n", b"\n\n"])
    async def test_fault_19_bare_error_mid_stream(self, ending: bytes) -> None:
        """A bare error between events is not passed over."""
        opening = self.opening()
        script = self.streams([*opening.frames, self.wire.error_body("the model fell over") + ending])
        async with serve(script) as server, self.service(server.url) as service:
            with pytest.raises(RemoteError, match="the model fell over") as caught:
                await self.read(service)
        assert not isinstance(caught.value, (ProtocolViolation, StreamInterrupted))
        assert caught.value.partial is not None
        assert caught.value.partial.text == opening.text

    def test_fault_20_event_stream(self) -> None:
        """No flipped byte goes unseen, and a truncated message is an interruption."""
        sample = self.sample_text
        for at in range(len(sample.stream)):
            stream = bytearray(sample.stream)
            stream[at] ^= 0x55
            with pytest.raises((ProtocolViolation, StreamInterrupted)):
                self.decode([bytes(stream)])
                pytest.fail(f"byte {at} was flipped, and nobody saw it")

    def test_fault_20_broken_message(self) -> None:
        """A message whose checksum is wrong is a `ProtocolViolation`, at once."""
        opening = self.opening()
        broken = bytearray(opening.frames[-1])
        broken[-1] ^= 0xFF
        with pytest.raises(ProtocolViolation):
            self.decode([*opening.frames, bytes(broken)], finish=False)

    def test_fault_21_tool_calls(self, sample: Sample) -> None:
        """Tool calls come out right, however they are told; two are never fused."""
        if not sample.tool_calls:
            return
        events = self.decode(sample.frames)
        self.check(sample, self.folded(events), streamed=True)

    def test_fault_21_two_calls(self) -> None:
        """There is a sample with two calls, so that the class is tested at all."""
        assert any(len(sample.tool_calls) > 1 for sample in self.all_samples()), (
            "the wire needs a sample with two tool calls"
        )

    def test_fault_22_usage(self, sample: Sample) -> None:
        """Usage is counted once, wherever it stands, and stands in `Finished`."""
        events = self.decode(sample.frames)
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.usage == sample.usage
        reports = [event.usage for event in events if isinstance(event, UsageReported)]
        if sample.usage is not None:
            assert reports, "usage that is told is an event"
            assert reports[-1] == sample.usage

    def test_fault_22_usage_told_twice(self, sample: Sample) -> None:
        """A report of usage that comes twice counts once."""
        for at, frame in enumerate(sample.frames):
            frames = (*sample.frames[: at + 1], frame, *sample.frames[at + 1 :])
            before = self.decode(sample.frames[:at], finish=False)
            told = self.decode(sample.frames[: at + 1], finish=False)[len(before) :]
            if any(isinstance(event, UsageReported) for event in told):
                try:
                    finished = self.decode(frames)[-1]
                except TrunklineError:
                    continue
                assert isinstance(finished, Finished)
                assert finished.usage == sample.usage

    def test_fault_22_usage_not_told(self, sample: Sample) -> None:
        """A count that is not told is unknown, and not 0: so where any of the fields or frames is missing."""
        fields = sorted(_names(sample.frames, self.wire.framing.payload))
        lacking = [self.wire.edited(sample, partial(_without, name=name)) for name in fields]
        lacking += [(*sample.frames[:at], *sample.frames[at + 1 :]) for at in range(len(sample.frames))]
        known = attrs.asdict(sample.usage) if sample.usage is not None else {}
        for frames in lacking:
            try:
                finished = self.decode(frames)[-1]
            except TrunklineError:
                continue
            assert isinstance(finished, Finished)
            if finished.usage is not None:
                zeros = {name for name, count in attrs.asdict(finished.usage).items() if count == 0 and name != "raw"}
                assert not {name for name in zeros if known.get(name) != 0}, "what was not told is counted as 0"

    @pytest.mark.parametrize("at", ["first", "middle", "last"])
    def test_fault_23_unknown_event(self, at: str) -> None:
        """An event that does not exist yet is passed over, wherever it comes."""
        for sample in self.all_samples():
            place = {"first": 1, "middle": len(sample.frames) // 2, "last": len(sample.frames) - 1}[at]
            new = self.wire.framing.frame(json.dumps({"type": TOMORROW, "what": ["ever"]}).encode(), TOMORROW)
            events = self.decode([*sample.frames[:place], new, *sample.frames[place:]])
            self.check(sample, self.folded(events), streamed=True)

    def test_fault_23_unknown_fields(self) -> None:
        """Fields that do not exist yet change nothing of what is known."""
        for sample in self.all_samples():
            for new in ({"a": [1]}, "text", 7, None):
                frames = self.wire.edited(sample, partial(_with_field, new=new, free=self.wire.free))
                self.check(sample, self.folded(self.decode(frames)), streamed=True)

    def test_fault_23_unknown_finish(self) -> None:
        """A finish reason that does not exist yet is `other`, and is kept in the provider's own word."""
        finished = self._finished(TOMORROW)
        assert finished.reason is FinishReason.OTHER
        assert TOMORROW in (finished.raw_reason or "")

    def test_fault_23_known_finish(self) -> None:
        """The finish reasons that exist mean what the wire's format says."""
        for word, reason in self.wire.finish_reasons.items():
            assert self._finished(word).reason is reason, f"the finish reason {word!r}"

    def _finished(self, word: str) -> Finished:
        """The end of a sample whose finish reason is another one."""
        ended = [
            self.wire.edited(sample, partial(_renamed, finish=self.wire.finish, word=word))
            for sample in self.wire.samples
        ]
        at = next((at for at, sample in enumerate(self.wire.samples) if self._names(sample)), None)
        assert at is not None, f"the finish reason {self.wire.finish!r} is in no sample"
        finished = self.decode(ended[at])[-1]
        assert isinstance(finished, Finished)
        return finished

    def _names(self, sample: Sample) -> bool:
        """Whether a sample ends with the wire's word for a finish reason."""
        changed = self.wire.edited(sample, partial(_renamed, finish=self.wire.finish, word=TOMORROW))
        return changed != self.wire.edited(sample, lambda value: value)


def _with_field(value: Any, new: Any, free: frozenset[str]) -> Any:
    """The value with a new field in each object, but for those whose fields are the model's own."""
    if isinstance(value, dict):
        kept = {name: item if name in free else _with_field(item, new, free) for name, item in value.items()}
        return {**kept, "x_" + TOMORROW: new}
    return [_with_field(item, new, free) for item in value] if isinstance(value, list) else value


def _names(frames: Iterable[bytes], payload: Callable[[bytes], bytes]) -> set[str]:
    """The names of all fields in these frames."""

    def of(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(of, value.values()))
        return set().union(*map(of, value)) if isinstance(value, list) else set()

    found: set[str] = set()
    for frame in frames:
        try:
            found |= of(json.loads(payload(frame)))
        except ValueError:
            continue
    return found


def _without(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, name) for key, item in value.items() if key != name}
    return [_without(item, name) for item in value] if isinstance(value, list) else value


def _renamed(value: Any, finish: str, word: str) -> Any:
    if isinstance(value, dict):
        return {name: _renamed(item, finish, word) for name, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, finish, word) for item in value]
    return word if value == finish else value
