"""Fault classes 13 to 23 and 53 to 60: unusual and invalid bytes in a response."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

import attrs
import pytest

from trunkline._excerpts import single_line
from trunkline.authoring import http_errors
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, RemoteError, StreamInterrupted, TrunklineError
from trunkline.events import Finished, UsageReported
from trunkline.response import ChatResponse, FinishReason
from trunkline.storage import to_json
from trunkline.testing.case import ProviderCase
from trunkline.testing.server import Exchange
from trunkline.testing.wireformat import Sample

TOMORROW = "of_tomorrow"
"""A name that no provider uses, for events, fields and finish reasons that do not exist yet."""

_EMPTY: tuple[Any, ...] = (None, [], {}, "")

_KEPT = "kept-5e7fc0de"
"""The value of an unknown field. No response contains it by chance."""

MEBIBYTE = b"x" * 1024 * 1024


_LARGE = "wait " * 200_000


def _messages_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which `status_error` adds the texts that a plugin passes to it."""
    messages: list[str] = []

    def recorded(text: str, limit: int) -> str:
        messages.append(text)
        return single_line(text, limit)

    monkeypatch.setattr(http_errors, "single_line", recorded)
    return messages


def _assert_excerpts(messages: list[str], error: RemoteError) -> None:
    assert max(map(len, (*messages, str(error)))) < len(_LARGE) // 4, (
        "the error is made from the whole event or body: pass it to `error_from_json`"
    )


class WireFaults(ProviderCase):
    """The tests of classes 13 to 23, and truncation (class 8) at every byte."""

    def test_fault_08_truncated_at_every_byte(self) -> None:
        """A stream cut at any byte before its terminator raises `StreamInterrupted`. This test uses no sockets."""
        for sample in self.all_samples():
            stream = sample.stream
            for cut in range(len(stream.rstrip(b"\r\n"))):
                with pytest.raises(StreamInterrupted):
                    self.decode([stream[:cut]])
                    pytest.fail(f"{sample.name!r}, cut at byte {cut}, is accepted as complete")

    def test_fault_13_splits(self, sample: Sample) -> None:
        """The events are the same if the stream is split in two at any byte, and if it arrives byte by byte."""
        stream = sample.stream
        whole = self.decode([stream])
        self.check(sample, self.folded(whole))
        for at in range(1, len(stream)):
            assert self.decode([stream[:at], stream[at:]]) == whole, f"split at byte {at}"
        assert self.decode([stream[at : at + 1] for at in range(len(stream))]) == whole

    def test_fault_14_spellings(self, spelling: str) -> None:
        """Other valid encodings of the stream give the same events, also if they arrive byte by byte."""
        for sample in self.all_samples():
            stream = self.wire.framing.spellings(sample.frames)[spelling]
            whole = self.decode([sample.stream])
            assert self.decode([stream]) == whole
            begun = self.decode(sample.frames[:-1], finish=False)
            assert len(self.decode([stream], finish=False)) >= len(begun), (
                "events are delayed until the end of the stream"
            )
            assert self.decode([stream[at : at + 1] for at in range(len(stream))]) == whole

    def test_fault_14_heartbeats(self) -> None:
        """Heartbeats between the frames are ignored."""
        beat = self.wire.framing.heartbeat()
        frames = [piece for frame in self.sample_text.frames for piece in (beat, frame)]
        assert self.decode(frames) == self.decode(self.sample_text.frames)

    @pytest.mark.parametrize("broken", [b'{"a":', b"not JSON", b'{"a":1}}', b"[1,", b"\xff\xfe"])
    async def test_fault_15_malformed_json(self, broken: bytes) -> None:
        """An event that is not JSON raises `ProtocolViolation` with the partial response. It is never ignored."""
        opening = self.opening()
        bad = self.wire.framing.replaced(opening.frames[-1], broken)
        script = self.streams([*opening.frames, bad, *self.sample_text.frames[len(opening.frames) :]])
        async with self.serve(script) as server, self.service(server.url) as service:
            with pytest.raises(ProtocolViolation) as caught:
                await self.read(service)
        assert caught.value.partial is not None
        assert caught.value.partial.text == opening.text

    @pytest.mark.parametrize("value", [[], "text", 1, None, True], ids=str)
    def test_fault_15_other_json(self, value: Any) -> None:
        """An event with unexpected JSON raises a `TrunklineError` or is ignored. No other exception is raised."""
        opening = self.opening()
        bad = self.wire.framing.replaced(opening.frames[-1], json.dumps(value).encode())
        try:
            events = self.decode([*opening.frames, bad, *self.sample_text.frames[len(opening.frames) :]])
        except TrunklineError:
            return
        self.check(self.sample_text, self.folded(events))

    def test_fault_15_missing_fields(self) -> None:
        """A stream without one of its fields is accepted or raises a `TrunklineError`, no other exception."""
        for sample in self.all_samples():
            for name in sorted(_names(sample.frames, self.wire.framing.payload)):
                frames = self.wire.edited(sample, partial(_without, name=name))
                try:
                    self.decode(frames)
                except TrunklineError:
                    continue

    def test_fault_16_large(self) -> None:
        """A large event within the limit is accepted."""
        text = "x" * 200_000
        changed = partial(_renamed, finish=self.opening().text, word=text)
        frames = self.wire.edited(self.sample_text, changed)
        if frames != self.wire.edited(self.sample_text, lambda value: value):
            assert self.folded(self.decode(frames)).text.startswith(text)

    def test_fault_16_oversized(self) -> None:
        """An event that never ends raises `ProtocolViolation` before it fills the memory."""
        decoder = StreamDecoder(*self.parser().stream())
        frame = self.wire.framing.frame(b'"' + MEBIBYTE, TOMORROW)
        decoder.feed(frame[: len(frame) // 2])
        with pytest.raises(ProtocolViolation):
            for _ in range(80):
                decoder.feed(MEBIBYTE)

    def test_fault_16_nested(self) -> None:
        """Deeply nested JSON raises a `TrunklineError`."""
        deep = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
        opening = self.opening()
        for payload in (deep, b"[" * 100_000):
            with pytest.raises(TrunklineError):
                self.decode([*opening.frames, self.wire.framing.replaced(opening.frames[-1], payload)])
            with pytest.raises(TrunklineError):
                self.parser().body(WireResponse(status=200, body=payload))
            assert isinstance(self.parser().error(WireResponse(status=400, body=payload)), RemoteError)

    async def _read_stream(self, body: bytes, content_type: str) -> ChatResponse:
        async def script(exchange: Exchange) -> None:
            await exchange.respond(body, headers={"content-type": content_type})

        async with self.serve(script) as server, self.service(server.url) as service:
            return self.folded(await self.read(service))

    @pytest.mark.parametrize("content_type", ["application/json", "stream"])
    async def test_fault_17_no_stream(self, content_type: str) -> None:
        """A non-streamed body instead of a stream is accepted, whatever its content type is."""
        assert self.sample_text.body is not None
        if content_type == "stream":
            content_type = self.wire.framing.content_type
        response = await self._read_stream(self.sample_text.body, content_type)
        self.check(self.sample_text, response)

    @pytest.mark.parametrize(
        ("body", "named"),
        [
            (b"<html><title>Sign in</title></html>", "an HTML page, 'Sign in'"),
            (b'{"sign": "in"}', '{"sign'),
            (b"[1, 2]", "[1, 2]"),
        ],
    )
    async def test_fault_17_page(self, body: bytes, named: str) -> None:
        """A web page, or JSON that is no response, raises `ProtocolViolation`, which names or quotes it."""
        with pytest.raises(RemoteError) as caught:
            await self._read_stream(body, "text/html")
        assert isinstance(caught.value, ProtocolViolation)
        assert named in str(caught.value)

    async def test_fault_17_long_page(self) -> None:
        """The error quotes only a short piece of a page, or of JSON that is not a response."""
        for body in (b"<html>" + 100 * b"Sign in. " + b"</html>", b'{"sign": "' + 100 * b"Sign in. " + b'"}'):
            with pytest.raises(RemoteError) as streamed:
                await self._read_stream(body, "text/html")
            with pytest.raises(RemoteError) as whole:
                self.parser().body(WireResponse(status=200, body=body))
            assert max(len(str(streamed.value)), len(str(whole.value))) < 700

    async def test_fault_17_page_for_a_body(self) -> None:
        """An HTML page, or JSON that is not a response, raises `ProtocolViolation` for `chat` too."""
        for body in (b"<html>Sign in</html>", b"[]", b'"text"', b"{}", b"", b"null"):

            async def script(exchange: Exchange, body: bytes = body) -> None:
                await exchange.respond(body)

            async with self.serve(script) as server, self.service(server.url) as service:
                with pytest.raises(ProtocolViolation):
                    await self.chat(service)

    async def test_fault_17_empty(self) -> None:
        """An empty stream raises `StreamInterrupted`."""
        with pytest.raises(StreamInterrupted):
            await self._read_stream(b"", self.wire.framing.content_type)

    def _error(self, message: str) -> bytes:
        assert self.wire.error_event is not None
        return self.wire.error_event(message)

    async def test_fault_18_error_event(self) -> None:
        """An error event mid-stream raises `error_type` with the partial response. It is not retried."""
        opening = self.opening()
        script = self.streams([*opening.frames, self._error("the model fell over")])
        async with self.serve(script) as server, self.service(server.url, max_retries=2) as service:
            with pytest.raises(self.wire.error_type, match="the model fell over") as caught:
                await self.read(service)
            assert len(server.requests) == 1
        assert caught.value.partial is not None
        assert caught.value.partial.text == opening.text

    def test_fault_18_kinds_of_errors(self) -> None:
        """Each error frame in `errors` raises its error class."""
        for frame, kind in self.wire.errors:
            with pytest.raises(RemoteError) as caught:
                self.decode([*self.opening().frames, frame], finish=False)
            assert type(caught.value) is kind

    def test_fault_18_large_error_event(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error of a large event is made from an excerpt of it: to search many megabytes takes seconds."""
        read = _messages_read(monkeypatch)
        with pytest.raises(RemoteError) as caught:
            self.decode([*self.opening().frames, self._error(_LARGE)], finish=False)
        _assert_excerpts(read, caught.value)

    @pytest.mark.parametrize("content_type", ["application/json", "stream"])
    async def test_fault_19_bare_error(self, content_type: str) -> None:
        """An error body with status 200 instead of a stream raises an error with its message."""
        if content_type == "stream":
            content_type = self.wire.framing.content_type
        with pytest.raises(RemoteError, match="the model fell over") as caught:
            await self._read_stream(self.wire.error_body("the model fell over"), content_type)
        assert not isinstance(caught.value, (ProtocolViolation, StreamInterrupted))

    async def test_fault_19_bare_error_for_a_body(self) -> None:
        """An error body with status 200 instead of a response body raises an error with its message."""

        async def script(exchange: Exchange) -> None:
            await exchange.respond(self.wire.error_body("the model fell over"))

        async with self.serve(script) as server, self.service(server.url) as service:
            with pytest.raises(RemoteError, match="the model fell over") as caught:
                await self.chat(service)
        assert not isinstance(caught.value, (ProtocolViolation, StreamInterrupted))

    def test_fault_19_large_bare_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error of a large body with status 200 is made from an excerpt of it, whatever the operation."""
        read = _messages_read(monkeypatch)
        wire_response = WireResponse(status=200, body=self.wire.error_body(_LARGE))
        found = self.open_steps().operations
        parsers: list[Callable[[WireResponse], object]] = [
            self.parser().body,
            *(
                partial(operation.parse, self.context())
                for operation in (found.list_models, found.embed, found.count_tokens)
                if operation is not None
            ),
        ]
        for parse in parsers:
            with pytest.raises(RemoteError) as caught:
                parse(wire_response)
            _assert_excerpts(read, caught.value)

    @pytest.mark.parametrize("ending", [b"", b"\n", b"\n\n"])
    async def test_fault_19_bare_error_mid_stream(self, ending: bytes) -> None:
        """An error body between events, outside the framing, is not ignored."""
        opening = self.opening()
        script = self.streams([*opening.frames, self.wire.error_body("the model fell over") + ending])
        async with self.serve(script) as server, self.service(server.url) as service:
            with pytest.raises(RemoteError, match="the model fell over") as caught:
                await self.read(service)
        assert not isinstance(caught.value, (ProtocolViolation, StreamInterrupted))
        assert caught.value.partial is not None
        assert caught.value.partial.text == opening.text

    def test_fault_20_event_stream(self) -> None:
        """Every flipped byte raises `ProtocolViolation` or `StreamInterrupted`."""
        sample = self.sample_text
        for at in range(len(sample.stream)):
            stream = bytearray(sample.stream)
            stream[at] ^= 0x55
            with pytest.raises((ProtocolViolation, StreamInterrupted)):
                self.decode([bytes(stream)])
                pytest.fail(f"byte {at} was flipped without an error")

    def test_fault_20_broken_message(self) -> None:
        """A message with a wrong checksum raises `ProtocolViolation` at once."""
        opening = self.opening()
        broken = bytearray(opening.frames[-1])
        broken[-1] ^= 0xFF
        with pytest.raises(ProtocolViolation):
            self.decode([*opening.frames, bytes(broken)], finish=False)

    def test_fault_21_tool_calls(self, sample: Sample) -> None:
        """Tool calls are complete and separate, in whatever pieces the stream delivers them."""
        if not sample.tool_calls:
            return
        events = self.decode(sample.frames)
        self.check(sample, self.folded(events))

    def test_fault_21_two_calls(self) -> None:
        """The samples contain one with two tool calls, without which this class would test little."""
        assert any(len(sample.tool_calls) > 1 for sample in self.all_samples()), (
            "the wire format needs a sample with two tool calls"
        )

    def test_fault_22_usage(self, sample: Sample) -> None:
        """Usage is counted once, wherever it is in the stream, and `Finished` has it."""
        events = self.decode(sample.frames)
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.usage == sample.usage
        reports = [event.usage for event in events if isinstance(event, UsageReported)]
        if sample.usage is not None:
            assert reports, "reported usage must give a UsageReported event"
            assert reports[-1] == sample.usage

    def test_fault_22_usage_reported_twice(self, sample: Sample) -> None:
        """A frame with usage that is sent twice counts once."""
        for at, frame in enumerate(sample.frames):
            frames = (*sample.frames[: at + 1], frame, *sample.frames[at + 1 :])
            before = self.decode(sample.frames[:at], finish=False)
            events = self.decode(sample.frames[: at + 1], finish=False)[len(before) :]
            if any(isinstance(event, UsageReported) for event in events):
                try:
                    finished = self.decode(frames)[-1]
                except TrunklineError:
                    continue
                assert isinstance(finished, Finished)
                assert finished.usage == sample.usage

    def test_fault_22_missing_usage_is_not_zero(self, sample: Sample) -> None:
        """If any field or frame is missing, counts that are no longer reported are unknown, not 0."""
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
                assert not {name for name in zeros if known.get(name) != 0}, (
                    "counts that were not reported are 0, not None"
                )

    @pytest.mark.parametrize("at", ["first", "middle", "last"])
    def test_fault_23_unknown_event(self, at: str) -> None:
        """An event of an unknown type is ignored, wherever it is in the stream."""
        for sample in self.all_samples():
            place = {"first": 1, "middle": len(sample.frames) // 2, "last": len(sample.frames) - 1}[at]
            new = self.wire.framing.frame(json.dumps({"type": TOMORROW, "what": ["ever"]}).encode(), TOMORROW)
            events = self.decode([*sample.frames[:place], new, *sample.frames[place:]])
            self.check(sample, self.folded(events))

    def test_fault_23_unknown_fields(self) -> None:
        """Unknown fields are ignored."""
        for sample in self.all_samples():
            for new in ({"a": [1]}, "text", 7, None):
                frames = self.wire.edited(sample, partial(_with_field, new=new, free_form=self.wire.free_form_fields))
                try:
                    self.check(sample, self.folded(self.decode(frames)))
                except (AssertionError, TrunklineError) as error:
                    known = ", ".join(sorted(self.wire.free_form_fields))
                    raise AssertionError(
                        f"each object of the stream got an unknown field with the value {new!r}: {error}. If the model "
                        "writes such an object, as it does the arguments of a tool call, name its field in "
                        f"'free_form_fields' of the WireFormat, which names: {known}"
                    ) from error

    def test_fault_23_unknown_block(self) -> None:
        """A content block of an unknown kind is kept, and leaves the rest of the response as it is."""
        samples = [sample for sample in self.all_samples() if sample.kept]
        if not samples:
            pytest.skip(
                "not tested: content blocks of an unknown kind. If responses of the format have blocks, add a sample "
                "with a block of a kind that does not exist, and its texts in 'kept'"
            )
        for sample in samples:
            self.check(sample, self.folded(self.decode(sample.frames)))
            if sample.body is not None:
                self.check(sample, self.parser().body(WireResponse(status=200, body=sample.body)))

    def test_fault_23_unknown_finish(self) -> None:
        """An unknown finish reason is `other`, and `raw_reason` has the provider's value."""
        finished = self._finished(TOMORROW)
        assert finished.reason is FinishReason.OTHER
        assert TOMORROW in (finished.raw_reason or "")

    def test_fault_23_known_finish(self) -> None:
        """Each finish reason of the wire format has the meaning that `finish_reasons` declares."""
        for word, reason in self.wire.finish_reasons.items():
            assert self._finished(word).reason is reason, f"the finish reason {word!r}"

    def test_fault_53_silent_ending(self, sample: Sample) -> None:
        """A stream that ends without an answer raises an error, unless the provider gave a finish reason."""
        frames = sample.frames
        for some in (frames, frames[-1:], (frames[0], frames[-1]), frames[-2:]):
            short = attrs.evolve(sample, frames=some)
            streams = [some]
            for name in sorted(_names(some, self.wire.framing.payload)):
                streams.append(self.wire.edited(short, partial(_without, name=name)))
                streams += [self.wire.edited(short, partial(_emptied, names=(name,), new=new)) for new in _EMPTY]
            for stream in streams:
                try:
                    response = self.folded(self.decode(stream))
                except TrunklineError:
                    continue
                data = b"".join(stream)
                assert _has_content(response, data), (
                    f"this stream contains no answer, but no error was raised: {data!r}"
                )

    def test_fault_53_silent_ending_of_a_body(self, sample: Sample) -> None:
        """A body without an answer raises an error, unless the provider gave a finish reason."""
        if sample.body is None:
            return
        data = json.loads(sample.body)
        for name in sorted(_names_of(data)):
            for body in (_without(data, name), *(_emptied(data, (name,), new) for new in _EMPTY)):
                encoded = json.dumps(body).encode()
                try:
                    response = self.parser().body(WireResponse(status=200, body=encoded))
                except TrunklineError:
                    continue
                assert _has_content(response, encoded), f"this body contains no answer, but no error was raised: {body}"

    @pytest.mark.parametrize("content_type", ["application/json", "stream"])
    @pytest.mark.parametrize("form", ["array", "array on lines", "lines"])
    async def test_fault_56_another_framing(self, form: str, content_type: str) -> None:
        """A JSON array of the events, or JSON lines, are read to their end or refused, but never read in part."""
        if content_type == "stream":
            content_type = self.wire.framing.content_type
        for sample in self.all_samples():
            values = _decoded(map(self.wire.framing.payload, sample.frames))
            text = {
                "array": json.dumps(values),
                "array on lines": "[" + "\n,\r\n".join(json.dumps(value, indent=2) for value in values) + "\n]\n",
                "lines": "".join(json.dumps(value) + "\n" for value in values),
            }[form]
            try:
                response = await self._read_stream(text.encode(), content_type)
            except TrunklineError:
                continue
            self.check(sample, response)

    @pytest.mark.parametrize("new", [None, ""], ids=["null", "empty"])
    def test_fault_58_odd_tool_calls(self, new: str | None) -> None:
        """A call without a name, or with null as its arguments, does not fail the response."""
        for sample in self.all_samples():
            names = {name for name, _ in sample.tool_calls}
            if not names:
                continue
            nameless = self.wire.edited(sample, partial(_replaced, old=names, new=new))
            self._assert_answered(sample, nameless, "without a name")
            arguments = sorted(self.wire.free_form_fields)
            without = self.wire.edited(sample, partial(_emptied, names=arguments, new=new))
            response = self._assert_answered(sample, without, f"with {new!r} as arguments")
            assert [call.name for call in response.tool_calls] == [name for name, _ in sample.tool_calls]

    def _assert_answered(self, sample: Sample, frames: Iterable[bytes], what: str) -> ChatResponse:
        try:
            return self.folded(self.decode(frames))
        except TrunklineError as error:
            raise AssertionError(f"{sample.name}: a tool call {what} loses the answer: {error!r}") from error

    def test_fault_60_unknown_fields_kept(self, sample: Sample) -> None:
        """An unknown field in any object of a stream is in the response, for example in `provider_metadata`."""
        payload = self.wire.framing.payload
        values = _decoded(map(payload, sample.frames))
        lost = []
        for place in dict.fromkeys(place for value in values for place in self._places(value, _event(value))):
            frames = self.wire.edited(sample, partial(self._marked_event, marked=place))
            if self._is_lost(self.folded(self.decode(frames)), place):
                lost.append(place)
        assert not lost, f"an unknown field of these objects of a stream is not in the response: {lost}"

    def test_fault_60_unknown_fields_kept_of_a_body(self, sample: Sample) -> None:
        """An unknown field in any object of a body is in the response. `raw` does not count: streams have none."""
        if sample.body is None:
            return
        data = json.loads(sample.body)
        lost = []
        for place in dict.fromkeys(self._places(data, "")):
            body = json.dumps(self._marked(data, "", place)).encode()
            if self._is_lost(self.parser().body(WireResponse(status=200, body=body)), place):
                lost.append(place)
        assert not lost, f"an unknown field of these objects of a body is not in the response: {lost}"

    def _is_lost(self, response: ChatResponse, place: str) -> bool:
        return place not in self.wire.unkept_fields and _KEPT not in json.dumps(to_json(response))

    def _places(self, value: Any, place: str) -> Iterable[str]:
        """Yield the paths of the objects in a JSON value, except for objects that the model writes."""
        if isinstance(value, dict):
            yield place
            for name, item in value.items():
                if name not in self.wire.free_form_fields:
                    yield from self._places(item, f"{place}.{name}" if place and place[-1] != ":" else place + name)
        elif isinstance(value, list):
            for item in value:
                yield from self._places(item, place + "[]")

    def _marked_event(self, value: Any, marked: str) -> Any:
        return self._marked(value, _event(value), marked)

    def _marked(self, value: Any, place: str, marked: str) -> Any:
        """Return the value with an unknown field in each object whose path is `marked`."""
        if isinstance(value, dict):
            new = {}
            for name, item in value.items():
                below = f"{place}.{name}" if place and place[-1] != ":" else place + name
                new[name] = item if name in self.wire.free_form_fields else self._marked(item, below, marked)
            return {**new, "x_" + TOMORROW: _KEPT} if place == marked else new
        return [self._marked(item, place + "[]", marked) for item in value] if isinstance(value, list) else value

    def _finished(self, word: str) -> Finished:
        """Return the `Finished` event of a sample whose finish reason is replaced by `word`."""
        ended = [
            self.wire.edited(sample, partial(_renamed, finish=self.wire.finish, word=word))
            for sample in self.wire.samples
        ]
        at = next((at for at, sample in enumerate(self.wire.samples) if self._names(sample)), None)
        assert at is not None, f"no sample contains the finish reason {self.wire.finish!r}"
        finished = self.decode(ended[at])[-1]
        assert isinstance(finished, Finished)
        return finished

    def _names(self, sample: Sample) -> bool:
        """Whether a sample contains the finish reason `finish` of the wire format."""
        changed = self.wire.edited(sample, partial(_renamed, finish=self.wire.finish, word=TOMORROW))
        return changed != self.wire.edited(sample, lambda value: value)


def _with_field(value: Any, new: Any, free_form: frozenset[str]) -> Any:
    """Return the value with a new field in each object, except in objects that the model writes."""
    if isinstance(value, dict):
        kept = {name: item if name in free_form else _with_field(item, new, free_form) for name, item in value.items()}
        return {**kept, "x_" + TOMORROW: new}
    return [_with_field(item, new, free_form) for item in value] if isinstance(value, list) else value


def _has_content(response: ChatResponse, data: bytes) -> bool:
    """Return whether a response has content, or a finish reason from the provider."""
    words = re.findall(r"\w+", response.raw_finish_reason or "")
    return bool(response.parts) or (bool(words) and all(word.encode() in data for word in words))


def _names_of(value: Any) -> set[str]:
    """Return the names of all fields in a JSON value."""
    if isinstance(value, dict):
        return set(value).union(*map(_names_of, value.values()))
    return set().union(*map(_names_of, value)) if isinstance(value, list) else set()


def _names(frames: Iterable[bytes], payload: Callable[[bytes], bytes]) -> set[str]:
    """Return the names of all fields in these frames."""
    return _names_of(_decoded(map(payload, frames)))


def _decoded(payloads: Iterable[bytes]) -> list[Any]:
    """Return the JSON values among these payloads."""
    found = []
    for payload in payloads:
        try:
            found.append(json.loads(payload))
        except ValueError:
            continue
    return found


def _event(value: Any) -> str:
    """Return the type of an event, with which the paths in the event begin."""
    kind = value.get("type") if isinstance(value, dict) else None
    return f"{kind}:" if isinstance(kind, str) else ""


def _emptied(value: Any, names: Sequence[str], new: Any) -> Any:
    """Return the value with `new` in each field that has one of these names."""
    if isinstance(value, dict):
        return {key: new if key in names else _emptied(item, names, new) for key, item in value.items()}
    return [_emptied(item, names, new) for item in value] if isinstance(value, list) else value


def _replaced(value: Any, old: Collection[str], new: Any) -> Any:
    """Return the value with `new` in place of each of these texts."""
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return new if isinstance(value, str) and value in old else value


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
