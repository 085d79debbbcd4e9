"""Cut every recorded stream at every byte before its terminator: each cut raises `StreamInterrupted`, partial included.

For a stream with n bytes before its terminator:

- The framer gets the stream byte by byte. At each of the n positions, a copy of the framer meets the end of the file.
- The parser has already read the frames that are complete at that position. It also gets whatever the copy of the
  framer returns at the end of the file: an event that lacks its blank line, complete or cut in the middle. The parser
  is copied for each frame and for each ending that it accepts. If it rejects an ending, its copy is used again at the
  next position.
- So framer and parser run at every byte of every stream. To check the copying, some positions are also decoded from
  the first byte with a new framer and parser, which must give the same result: all positions of streams up to a
  certain size, and a sample of positions of longer ones.

Three checks of the partial do not depend on it: each content (text, reasoning, the arguments of each tool call) is a
prefix of the same content in the complete answer; no content shrinks as the cut moves on; and the text is the text that
the standard library's JSON decoder finds before the cut. The last check covers the streams in which that decoder finds
the text of the complete answer.

A sample of the cuts also goes through real sockets, to a service and to the official clients.
"""

from __future__ import annotations

import copyreg
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import deepcopy
from random import Random
from typing import Any

import attrs
from measuring import Result, command
from sdks import compared
from streams import Recorded, available, messages, streams
from trunkline.authoring.decoder import StreamDecoder
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event, Finished, ReasoningDelta, TextDelta, TextStart, ToolCallDelta
from trunkline.fold import Fold


@attrs.frozen
class Options:
    every: int
    """One in so many streams of each wire format is taken."""
    longest: int
    """The longest stream that is taken, in bytes."""
    alone: int
    """The longest stream whose every place is also decoded with nothing shared, in bytes."""
    samples: int
    """Places that are decoded so in a longer one."""
    sockets: int
    """Cuts of each wire format that go through a service, and through the official clients."""
    providers: tuple[str, ...] = ()
    """Whose streams are taken; everyone's without."""


SIZES = {
    "smoke": Options(every=60, longest=3000, alone=600, samples=2, sockets=1),
    "ci": Options(every=10, longest=12_000, alone=1200, samples=4, sockets=6),
    "full": Options(every=1, longest=1 << 30, alone=2400, samples=16, sockets=60),
}


# A parser may keep a view of the keys of its last chunk, which it does not change: copies share it.
copyreg.pickle(type({}.keys()), lambda keys: "")


# Copies of framers: flat objects, some of which hold another


def copied(value: Any) -> Any:
    if isinstance(value, (list, bytearray)):
        return value[:]
    if not hasattr(value, "__dict__"):
        return value
    copy = object.__new__(type(value))
    copy.__dict__ = {name: copied(item) for name, item in value.__dict__.items()}
    return copy


class Partial:
    """What the events so far hold: each content by its part's index."""

    def __init__(self) -> None:
        self.contents: dict[tuple[str, int], str] = {}
        self._refusals: set[int] = set()

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, TextStart) and event.refusal:
                self._refusals.add(event.index)
            elif isinstance(event, ToolCallDelta):
                self._more("call", event.index, event.arguments)
            elif isinstance(event, ReasoningDelta):
                self._more("reasoning", event.index, event.text)
            elif isinstance(event, TextDelta):
                # `ChatResponse.text` leaves out what declines to answer.
                self._more("refusal" if event.index in self._refusals else "text", event.index, event.text)

    def copy(self) -> Partial:
        other = Partial()
        other.contents, other._refusals = dict(self.contents), set(self._refusals)
        return other

    @property
    def text(self) -> str:
        return "".join(text for (kind, _), text in sorted(self.contents.items()) if kind == "text")

    def _more(self, kind: str, index: int, text: str) -> None:
        self.contents[kind, index] = self.contents.get((kind, index), "") + text

    def within(self, other: Partial) -> bool:
        return all(other.contents.get(key, "").startswith(text) for key, text in self.contents.items())


def folded(events: Sequence[Event]) -> Fold:
    fold = Fold()
    for event in events:
        fold.add(event)
    return fold


# The text of a stream, found with the standard library alone


def _lines(body: bytes, prefix: bytes = b"data:") -> Iterator[tuple[str, Any, int]]:
    at = 0
    for line in body.split(b"\n"):
        begin, at = at, at + len(line) + 1
        if line.startswith(prefix):
            try:
                yield "", json.loads(line[len(prefix) :]), begin + len(line.rstrip())
            except ValueError:
                continue


def _text(dialect: str, kind: str, data: Any) -> str:
    if not isinstance(data, dict):
        return ""
    try:
        if dialect in ("chat", "mistral"):
            return data["choices"][0]["delta"]["content"] or ""
        if dialect == "responses":
            return data["delta"] if data["type"] == "response.output_text.delta" else ""
        if dialect == "messages":
            if data["type"] == "content_block_start":
                return data["content_block"]["text"]
            return data["delta"]["text"] if data["type"] == "content_block_delta" else ""
        if dialect == "cohere":
            return data["delta"]["message"]["content"]["text"] if data["type"] == "content-delta" else ""
        if dialect == "generateContent":
            parts = data["candidates"][0]["content"]["parts"]
            return "".join(part.get("text", "") for part in parts if not part.get("thought"))
        if dialect == "ollama":
            return data["message"]["content"]
        return data["delta"]["text"] if kind == "contentBlockDelta" else ""
    except (KeyError, IndexError, TypeError):
        return ""


def text_pieces(stream: Recorded) -> list[tuple[int, str]]:
    """The pieces of text of a stream, each with the least number of bytes that hold it."""
    if stream.dialect == "converse":
        found = ((kind, json.loads(payload), end) for kind, payload, end in messages(stream.body))
    else:
        found = _lines(stream.body, b"" if stream.dialect == "ollama" else b"data:")
    pieces = ((end, _text(stream.dialect, kind, data)) for kind, data, end in found)
    return [(end, text) for end, text in pieces if isinstance(text, str) and text]


# One stream


class Cutter:
    """Cuts one stream everywhere before its terminator, and notes what is wrong."""

    def __init__(self, stream: Recorded) -> None:
        self.stream = stream
        self.problems: list[str] = []
        self.cuts = 0
        self.alone = 0
        self.endings: Counter[str] = Counter()
        self.partials: list[tuple[int, Partial]] = []

    def run(self) -> None:
        stream = self.stream
        framer, parser = stream.parser.stream()
        seen: list[Event] = []
        partial = Partial()
        spare = None
        for at in range(stream.complete_at):
            if at:
                for frame in framer.feed(stream.body[at - 1 : at]):
                    events = parser.feed(frame)
                    if any(isinstance(event, Finished) for event in events):
                        self.problems.append(f"finished after {at} of {stream.complete_at} bytes")
                    seen += events
                    partial.add(events)
                    spare = None
            self.cuts += 1
            ending = self._framed(framer)
            if spare is None:
                spare = deepcopy(parser)
            events, refused = self._parsed(spare, ending, at)
            if not refused:
                spare = None
            if events or not self.partials or spare is None:
                late = partial.copy()
                late.add(events)
                self._note(at, late, [*seen, *events])

    def _framed(self, framer: Any) -> list[Any] | None:
        """What the framer has left at the end of the file, `None` where that is the middle of a frame."""
        copy = copied(framer)
        try:
            ending: list[Any] = copy.finish()
        except ProtocolViolation:
            return None
        return ending

    def _parsed(self, parser: Any, ending: list[Any] | None, at: int) -> tuple[list[Event], bool]:
        """The events that the end of the file gives, and whether the parser refused the first frame of the ending."""
        if ending is None:
            self.endings["in the middle of a frame, to the framer"] += 1
            return [], True
        events: list[Event] = []
        for frame in ending:
            try:
                events += parser.feed(frame)
            except ProtocolViolation:
                self.endings["in the middle of a frame, to the parser"] += 1
                return events, not events
            except TrunklineError as error:
                self.problems.append(f"{type(error).__name__} at {at}")
                return events, False
        try:
            events += parser.finish()
        except StreamInterrupted:
            self.endings["between frames" if not ending else "after a frame without its end"] += 1
        else:
            self.problems.append(f"a success at {at} of {self.stream.complete_at} bytes")
        return events, False

    def _note(self, at: int, partial: Partial, events: list[Event]) -> None:
        if self.partials and self.partials[-1][1].contents == partial.contents:
            return
        if self.partials and not self.partials[-1][1].within(partial):
            self.problems.append(f"the partial shrinks at {at}")
        if folded(events).response().text != partial.text:
            self.problems.append(f"the folded text differs from its pieces at {at}")
        self.partials.append((at, partial))

    # What the partials are held against

    def check(self) -> bool:
        """Whether the standard library's reading could be held against ours."""
        stream = self.stream
        everything = Partial()
        events = decoded(stream, stream.body)
        everything.add(events)
        if not any(isinstance(event, Finished) for event in decoded(stream, stream.body[: stream.complete_at])):
            self.problems.append("not complete with its terminator")
        for at, partial in self.partials:
            if not partial.within(everything):
                self.problems.append(f"the partial at {at} is no prefix of the answer")
        pieces = text_pieces(stream)
        if "".join(text for _, text in pieces) != folded(events).response().text:
            return False
        for at, partial in self.partials:
            expected = "".join(text for end, text in pieces if end <= at)
            if partial.text != expected:
                difference = f"{partial.text[-20:]!r}, not {expected[-20:]!r}"
                self.problems.append(f"the text of the partial at {at} is {difference}")
        return True

    def decode_alone(self, places: Sequence[int]) -> None:
        """Decode the bytes before each place with a fresh framer and parser."""
        notes = iter([*self.partials, (1 << 62, Partial())])
        current, following = Partial(), next(notes)
        for at in sorted(places):
            while following[0] <= at:
                current, following = following[1], next(notes)
            partial = Partial()
            decoder: StreamDecoder[Any] = StreamDecoder(*self.stream.parser.stream())
            try:
                partial.add(decoder.feed(self.stream.body[:at]))
                decoder.late = []
                decoder.finish()
            except StreamInterrupted:
                partial.add(decoder.late)
                if partial.contents != current.contents:
                    self.problems.append(f"decoded alone, the partial at {at} differs")
            except TrunklineError as error:
                self.problems.append(f"decoded alone, {type(error).__name__} at {at}")
            else:
                self.problems.append(f"decoded alone, a success at {at}")
            self.alone += 1


def decoded(stream: Recorded, body: bytes) -> list[Event]:
    decoder: StreamDecoder[Any] = StreamDecoder(*stream.parser.stream())
    return [*decoder.feed(body), *decoder.finish()]


def chosen(options: Options) -> list[Recorded]:
    """Some streams of each wire format."""
    found, _ = streams()
    by_kind: dict[str, list[Recorded]] = {}
    for stream in found:
        if stream.complete_at <= options.longest and stream.provider in (options.providers or [stream.provider]):
            by_kind.setdefault(f"{stream.provider}, {stream.dialect}", []).append(stream)
    return [stream for kind in by_kind.values() for stream in kind[:: options.every]]


def measure(options: Options) -> Result:
    if not available():
        return Result(True, "not measured: no recordings found (set TRUNKLINE_RECORDINGS)", {})
    table: dict[str, Counter[str]] = {}
    problems: list[str] = []
    endings: Counter[str] = Counter()
    taken = chosen(options)
    for stream in taken:
        cutter = Cutter(stream)
        cutter.run()
        held = cutter.check()
        end = stream.complete_at
        random = Random(stream.id)
        alone = range(end) if end <= options.alone else random.sample(range(end), min(end, options.samples))
        cutter.decode_alone(alone)
        row = table.setdefault(f"{stream.provider}, {stream.dialect}", Counter())
        row.update(streams=1, cuts=cutter.cuts, decoded_alone=cutter.alone, text_checked=int(held))
        endings.update(cutter.endings)
        problems += [f"{stream.id} ({stream.provider}): {problem}" for problem in cutter.problems]
    clients = compared(taken, options.sockets)
    ours = clients.pop("trunkline")
    problems += ours.pop("problems")
    cuts = sum(row["cuts"] for row in table.values())
    successes = {name: f"{row['success']} of {row['cuts']}" for name, row in clients.items()}
    figures = {
        "by wire format": {name: dict(row) for name, row in table.items()},
        "positions of the cuts": dict(endings),
        "skipped streams without a terminator": list(streams()[1]),
        "through sockets": ours,
        "official clients, cuts reported as success": clients,
        "problems": problems[:50],
    }
    summary = (
        f"{len(problems)} problems in {cuts} cuts of {len(taken)} streams; over sockets {ours['interrupted']} of "
        f"{ours['cuts']} cuts raised StreamInterrupted; cuts that the official clients reported as success: {successes}"
    )
    return Result(not problems, summary, figures)


if __name__ == "__main__":
    command("truncation", SIZES, measure)
