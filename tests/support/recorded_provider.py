"""The checks that hold for the recordings of each provider with a wire format of its own.

A test module subclasses `RecordedTests`, says in its attributes what its recordings look like, and adds the checks that
its provider alone needs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any, ClassVar

import attrs
import pytest
from recorded_counts import assert_counts
from recordings import Exchange, cut, recorded, report
from splits import SHORT, cut_at_every_place, sampled_places
from trunkline._plugins.registry import Steps, load_provider, open_steps
from trunkline.answers import AnswerType
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import RemoteError, StreamInterrupted, TrunklineError
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.request import ResponseFormat
from trunkline.response import ChatResponse, FinishReason

ANSWER, ERROR = "answer", "error"

JSON_OBJECT: AnswerType[Any] = AnswerType(
    name="dict", format=ResponseFormat(schema={"type": "object"}), wrapped=False, structure=lambda value: value
)
"""How to read an answer that is any JSON object."""


class RecordedTests:
    """Tests of one provider's recordings.

    `files` are the names of its files of recordings. `settings` are those of its service. `finish` maps the wire's
    finish reasons. `every_split` streams of each file are cut in two at every place, the others at `splits` places (see
    `splits.py`). Each stream is cut off at `cuts` places.
    """

    provider: ClassVar[str]
    files: ClassVar[tuple[str, ...]]
    settings: ClassVar[Mapping[str, object]] = {}
    finish: ClassVar[Mapping[str, FinishReason]]
    every_split: ClassVar[int] = 5
    splits: ClassVar[int] = 6
    cuts: ClassVar[int] = 10
    piece: ClassVar[int] = 60
    """The most bytes of a small piece."""
    long_byte_by_byte: ClassVar[bool] = False
    """Whether long streams are fed byte by byte, too."""
    unread: ClassVar[frozenset[str]] = frozenset()
    """The ids of answers that the provider's own client does not read."""
    errors_by_id: ClassVar[Mapping[str, tuple[type[RemoteError], int, str | None]] | None] = None
    """Class, status and code of every recorded error, where there are few."""

    _responses: ClassVar[dict[str, ChatResponse]]

    def __init_subclass__(cls) -> None:
        cls._responses = {}

    # What a subclass says of an exchange

    @classmethod
    def kind(cls, exchange: Exchange) -> str | None:
        """Say what an exchange is: `ANSWER`, `ERROR`, why it is neither, or `None` for one with another API."""
        raise NotImplementedError

    def is_stream(self, exchange: Exchange) -> bool:
        """Whether an answer is streamed."""
        return exchange.streaming

    def reason(self, exchange: Exchange, response: ChatResponse) -> tuple[FinishReason, str | None]:
        """The finish reason that an answer must have, and the wire's own word for it."""
        [word] = exchange.finish_reasons
        return self.finish[word], word

    def cut_off(self, exchange: Exchange, random: Random) -> Iterator[bytes]:
        """The beginnings of a stream that are no success."""
        raise NotImplementedError

    def error_problems(self, exchange: Exchange, error: RemoteError) -> Iterator[str]:
        """What is wrong with an error, beside its class and status."""
        return iter(())

    def ours(self, exchange: Exchange) -> Any:
        """What Trunkline finds in an answer, to be compared."""
        raise NotImplementedError

    def theirs(self, exchange: Exchange) -> Any:
        """What the provider's own client finds in an answer."""
        raise NotImplementedError

    # What the tests stand on

    @classmethod
    @cache
    def context(cls) -> ServiceContext[Any]:
        """The context of a service of the provider."""
        provider = load_provider(cls.provider)
        return ServiceContext(name="recorded", provider=cls.provider, settings=provider.settings(**cls.settings))

    @classmethod
    @cache
    def steps(cls) -> Steps:
        """The steps of a service of the provider."""
        return open_steps(load_provider(cls.provider), cls.context())

    @classmethod
    def of_kind(cls, kind: str, file: str) -> list[Exchange]:
        """The exchanges of a kind in a file."""
        return [exchange for exchange in recorded(file) if cls.kind(exchange) == kind]

    def answers(self, file: str | None = None) -> list[Exchange]:
        """The answers in a file, or in all."""
        files = self.files if file is None else (file,)
        return [exchange for name in files for exchange in self.of_kind(ANSWER, name)]

    def streams(self, file: str) -> list[Exchange]:
        """The streamed answers in a file."""
        return [exchange for exchange in self.answers(file) if self.is_stream(exchange)]

    def events_of(self, pieces: Sequence[bytes]) -> list[Event]:
        """The events of a stream that comes in these pieces."""
        decoder = StreamDecoder(*self.steps().parser.stream())
        events = [event for piece in pieces for event in decoder.feed(piece)]
        return [*events, *decoder.finish()]

    def response_of(self, exchange: Exchange) -> ChatResponse:
        """The response that an answer gives. Raises as the parser does."""
        known = self._responses
        if exchange.id not in known:
            if self.is_stream(exchange):
                known[exchange.id] = fold(self.events_of(exchange.chunks), self.provider)
            else:
                known[exchange.id] = self.steps().parser.body(exchange.wire_response)
        return known[exchange.id]

    def subject(self, file: str) -> str:
        """What the file of counts calls a file of recordings."""
        return f"{self.provider}/{file}"

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """A test of `file` runs for each file of recordings."""
        if "file" in metafunc.fixturenames:
            metafunc.parametrize("file", cls.files)

    # The tests

    def test_each_exchange_is_an_answer_an_error_or_out_of_scope(self, file: str) -> None:
        kinds = Counter(kind for exchange in recorded(file) if (kind := self.kind(exchange)) is not None)
        assert_counts(self.subject(file), kinds=kinds, streams=len(self.streams(file)))

    def test_each_answer_is_read_with_the_recorded_finish_reason(self, file: str) -> None:
        problems = []
        for exchange in self.answers(file):
            try:
                response = self.response_of(exchange)
            except TrunklineError as error:
                problems.append(f"{exchange.id}: {error}")
                continue
            found = (response.finish_reason, response.raw_finish_reason)
            if found != (expected := self.reason(exchange, response)):
                problems.append(f"{exchange.id}: {found}, not {expected}")
        assert not problems, report(problems)

    def test_each_answer_to_a_schema_is_read_as_json(self, file: str) -> None:
        for exchange in self.answers(file):
            response = self.response_of(exchange) if "json-schema" in exchange.tags else None
            # Some of these recordings have the schema in the prompt, and an answer in words.
            if response is None or response.tool_calls or response.finish_reason is FinishReason.LENGTH:
                continue
            if response.text.lstrip().startswith("{"):
                assert isinstance(JSON_OBJECT.read(response).answer, dict), exchange.id

    @pytest.mark.timeout(900)  # with --exhaustive, it takes minutes
    def test_each_stream_gives_the_same_events_however_it_is_split(self, file: str, exhaustive: bool) -> None:
        streams = self.streams(file)
        every_split = cut_at_every_place(streams, None if exhaustive else self.every_split)
        problems = []
        for exchange in streams:
            differing = self._differing(exchange, exchange.id in every_split)
            problems += [f"{exchange.id}: {problem}" for problem in differing]
        assert not problems, report(problems)
        assert_counts(self.subject(file), short_streams=sum(len(exchange.body) <= SHORT for exchange in streams))

    def _differing(self, exchange: Exchange, at_every_place: bool) -> Iterator[str]:
        body, random = exchange.body, Random(exchange.id)
        expected = self.events_of([body])
        for at in range(1, len(body)) if at_every_place else sampled_places(body, random, self.splits):
            if self.events_of([body[:at], body[at:]]) != expected:
                yield f"split at {at}"
        lengths = [random.randint(1, self.piece) for _ in range(3 * len(body) // self.piece)]
        pieces = {"as it was read": exchange.chunks, "in small pieces": list(cut(body, lengths))}
        if len(body) <= SHORT or self.long_byte_by_byte:
            pieces["byte by byte"] = [body[at : at + 1] for at in range(len(body))]
        for how, chunks in pieces.items():
            if self.events_of(chunks) != expected:
                yield how

    def test_no_stream_that_is_cut_off_is_a_success(self, file: str) -> None:
        problems, cut_off = [], 0
        for exchange in self.streams(file):
            for beginning in self.cut_off(exchange, Random(exchange.id)):
                cut_off += 1
                try:
                    self.events_of([beginning])
                except StreamInterrupted:
                    continue
                problems.append(f"{exchange.id}: a success after {len(beginning)} of {len(exchange.body)} bytes")
        assert not problems, report(problems)
        assert cut_off >= self.cuts * len(self.streams(file))

    def test_each_error_has_its_class(self, file: str) -> None:
        problems: list[str] = []
        found: dict[str, tuple[type[RemoteError], int | None, str | None]] = {}
        for exchange in recorded(file):
            if self.kind(exchange) != ERROR:
                continue
            error = self.steps().parser.error(exchange.wire_response)
            assert isinstance(error, RemoteError)
            found[exchange.id] = (type(error), error.status, error.code)
            assert error.message, exchange.id
            assert error.status == exchange.status, exchange.id
            problems += [f"{exchange.id}: {problem}" for problem in self.error_problems(exchange, error)]
        assert not problems, report(problems)
        if self.errors_by_id is not None:
            assert found == self.errors_by_id
        assert_counts(self.subject(file), errors=Counter((status, kind) for kind, status, _ in found.values()))

    def test_the_providers_own_client_finds_the_same(self, file: str) -> None:
        problems, agreed = [], 0
        for exchange in self.answers(file):
            if exchange.id in self.unread:
                continue
            found, expected = self.ours(exchange), self.theirs(exchange)
            agreed += found == expected
            problems += [f"{exchange.id}: {difference}" for difference in _differences(found, expected)]
        assert not problems, report(problems)
        assert_counts(self.subject(file), agreed=agreed)


def _differences(found: Any, expected: Any) -> Iterator[str]:
    if found == expected:
        return
    if type(found) is not type(expected) or not attrs.has(type(found)):
        yield f"{found!r:.300} is not {expected!r:.300}"
        return
    for name in attrs.fields_dict(type(found)):
        if (ours := getattr(found, name)) != (theirs := getattr(expected, name)):
            yield f"{name}: {ours!r:.200}, and the client {theirs!r:.200}"
