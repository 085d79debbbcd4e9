"""What becomes of each field of the recordings when the plugins read them.

A field *arrives* if a value that occurs nowhere else, planted in its place in a recording, is found in the response.
That proves the way of the value through the parser. To look for the recorded values would not: a 0 or a `stop` is found
somewhere in every response. `ChatResponse.raw` does not count, since streams have none.
"""

from __future__ import annotations

import base64
import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import json_fields
from json_fields import Piece, array_pieces, body_pieces, event_stream_pieces, line_pieces
from recordings import AZURE, EXCEPTIONS, PROVIDERS, SCOPES, Exchange, parser_for, profile_name, recorded
from trunkline._plugins.registry import load_provider
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ResponseParser, ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import TrunklineError
from trunkline.fold import fold
from trunkline.response import ChatResponse

SAMPLES = 4
"""In how many recordings of each server a field is tried."""

SILENT = Path(__file__).with_name("silent_fields.toml")


class Fate(StrEnum):
    """What becomes of a field."""

    TYPED = "typed"
    """The planted value arrives in a field of the response or of a part."""
    METADATA = "metadata"
    """The planted value arrives in `provider_metadata`."""
    READ = "read"
    """The planted value changes the response or is refused, for example the type of a block or a finish reason."""
    SILENT = "silent"
    """The field is in the list of those that say nothing."""
    EMPTY = "empty"
    """The recordings have only null, empty texts, empty lists and empty objects here."""
    PARTLY = "partly"
    """Some of the planted values arrive, some do not."""
    VANISHED = "vanished"
    """None of the planted values arrives."""


@attrs.frozen(eq=False)
class Recording:
    """An answer with the parser that reads it."""

    exchange: Exchange
    parser: ResponseParser
    provider: str
    streamed: bool
    server: str
    pieces: list[Piece]

    def read(self, body: bytes) -> ChatResponse:
        """The response to a body. Raises as the parser does."""
        if not self.streamed:
            headers = self.exchange.headers
            return self.parser.body(WireResponse(status=self.exchange.status, headers=headers, body=body))
        decoder = StreamDecoder(*self.parser.stream())
        return fold([*decoder.feed(body), *decoder.finish()], self.provider)


# The recordings of each provider


def _own(provider: str, **settings: Any) -> ResponseParser:
    plugin = load_provider(provider)
    context = ServiceContext(name="recorded", provider=provider, settings=plugin.settings(**settings))
    return plugin.response_parser(context)


def _path(exchange: Exchange) -> str:
    return urlsplit(exchange.url).path


def _is_anthropic(exchange: Exchange) -> bool:
    path = _path(exchange)
    cloud = "/publishers/anthropic/" in path and path.endswith(("rawPredict", "RawPredict"))
    return cloud or (exchange.method == "POST" and path.endswith("/messages"))


@attrs.frozen
class Source:
    """Where the answers of a provider are."""

    files: tuple[str, ...]
    settings: Mapping[str, object]
    takes: Callable[[Exchange], bool]
    pieces: Callable[[bytes], list[Piece]] = line_pieces


SOURCES: Mapping[str, Source] = {
    "anthropic": Source(("anthropic", "other"), {"api_key": "REDACTED"}, _is_anthropic),
    "bedrock": Source(
        ("bedrock-converse", "bedrock-converse-stream"),
        {"aws_region": "us-east-1", "api_key": "REDACTED"},
        lambda exchange: True,
        event_stream_pieces,
    ),
    "cohere": Source(("cohere",), {"api_key": "REDACTED"}, lambda exchange: _path(exchange) == "/v2/chat"),
    "gemini": Source(
        ("gemini",),
        {"api_key": "REDACTED"},
        lambda exchange: _path(exchange).endswith((":generateContent", ":streamGenerateContent")),
    ),
    "mistral": Source(
        ("mistral",),
        {"api_key": "REDACTED"},
        lambda exchange: (
            exchange.method == "POST" and _path(exchange).endswith(("/chat/completions", "/agents/completions"))
        ),
    ),
    "ollama": Source(("ollama",), {}, lambda exchange: _path(exchange) == "/api/chat"),
    "llamacpp": Source(
        ("other",),
        {"model_path": "model.gguf"},
        lambda exchange: exchange.variant == "llamacpp" and exchange.scope in SCOPES,
    ),
}
"""The providers with a file of their own. `recordings` knows those of the other providers."""

NAMES = (*SOURCES, "azure-openai", "openai", "openai-compatible")


def _is_stream(exchange: Exchange) -> bool:
    # Some recorders kept no flag; a body that is one JSON object is no stream.
    start = exchange.body.lstrip()[:1]
    if exchange.streaming:
        return True
    return start not in (b"{", b"")


@cache
def recordings_of(provider: str) -> tuple[Recording, ...]:
    """The answers that the provider's plugin reads."""
    return tuple(_recordings_of(provider))


def _recordings_of(provider: str) -> Iterator[Recording]:
    source = SOURCES.get(provider)
    if source is None:
        for file in PROVIDERS:
            for exchange in recorded(file):
                if exchange.scope in SCOPES and _dialect_provider(exchange) == provider:
                    name = profile_name(exchange)
                    yield from _recording(exchange, parser_for(exchange), provider, f"{name} {exchange.scope}")
        return
    parser = _own(provider, **source.settings)
    for file in source.files:
        for exchange in recorded(file):
            if source.takes(exchange):
                yield from _recording(exchange, parser, provider, urlsplit(exchange.url).netloc, source.pieces)


def _dialect_provider(exchange: Exchange) -> str:
    if exchange.variant in AZURE:
        return "azure-openai"
    openai = exchange.scope == "responses" or profile_name(exchange) == "openai"
    return "openai" if openai else "openai-compatible"


def _recording(
    exchange: Exchange,
    parser: ResponseParser,
    provider: str,
    server: str,
    split: Callable[[bytes], list[Piece]] = line_pieces,
) -> Iterator[Recording]:
    if exchange.status != 200 or not exchange.body or exchange.id in EXCEPTIONS:
        return
    streamed = _is_stream(exchange)
    array = exchange.body.lstrip()[:1] == b"["
    try:
        pieces = (array_pieces if array else split if streamed else body_pieces)(exchange.body)
    except (ValueError, LookupError):
        return
    found = Recording(exchange, parser, provider, streamed, server, pieces)
    try:
        found.read(json_fields.rewritten(pieces, lambda _, value: value))
    except TrunklineError:
        return  # the other tests of the recordings know these
    yield found


# What a response holds


ARGUMENTS = "arguments as JSON"
"""The place of the JSON text of a tool call's arguments."""


def contents(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each value of a response with its place, except for `raw` of the response."""
    if isinstance(value, (str, int, float, bool, type(None))):
        yield place, value
    elif isinstance(value, bytes):
        yield place, base64.b64encode(value).decode()
    elif isinstance(value, Mapping):
        if place[-1:] == ("arguments",):
            yield (ARGUMENTS,), _canonical(value)
        for key, item in value.items():
            yield from contents(item, (*place, str(key)))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from contents(item, (*place, "[]"))
    elif attrs.has(type(value)):
        for name in attrs.fields_dict(type(value)):
            if not (name == "raw" and isinstance(value, ChatResponse)):
                yield from contents(getattr(value, name), (*place, name))
    else:
        yield place, str(value)


_MADE = re.compile("call_[0-9a-f]{24}")


def _comparable(response: ChatResponse) -> list[tuple[tuple[str, ...], Any]]:
    """The contents without the ids that Trunkline derives from other fields."""
    return [
        (place, _MADE.sub("call_", value) if isinstance(value, str) else value) for place, value in contents(response)
    ]


@cache
def _unchanged(recording: Recording) -> list[tuple[tuple[str, ...], Any]]:
    return _comparable(recording.read(json_fields.rewritten(recording.pieces, lambda _, value: value)))


def planted(original: Any, number: int) -> Any:
    """A value of the same type that occurs nowhere else. Texts are valid base64, as images and signatures must be."""
    if isinstance(original, bool):
        return not original
    if isinstance(original, int):
        return 918_000_000 + number * 7
    if isinstance(original, float):
        return -0.918_000_1 - number / 1e6 if original < 0 else 918_000_000.5 + number * 7
    return f"Zq{number:06}vX7k"


def _is_there(value: Any, found: list[tuple[tuple[str, ...], Any]]) -> tuple[str, ...] | None:
    """The best place of a planted value: typed before metadata."""
    places = [
        place
        for place, there in found
        if (
            value in there
            if isinstance(value, str) and isinstance(there, str)
            else str(value) in there
            if isinstance(there, str)
            else type(there) is not bool and there == value
        )
    ]
    return min(places, key=lambda place: "provider_metadata" in place, default=None)


# The fields that are known to say nothing


@attrs.frozen
class Entry:
    """An entry of `silent_fields.toml`, which explains it."""

    kind: str
    why: str
    fields: tuple[str, ...] = attrs.field(converter=tuple)
    only: tuple[str, ...] = attrs.field(converter=tuple, default=NAMES)


@cache
def silent_fields() -> tuple[Entry, ...]:
    """The entries of `silent_fields.toml`."""
    return tuple(Entry(**entry) for entry in tomllib.loads(SILENT.read_text(encoding="utf-8"))["silent"])


@cache
def _pattern(field: str) -> re.Pattern[str]:
    pieces = {"<*>": "<[^>]*>", "**": ".*", "*": "[^.]*"}
    return re.compile("".join(pieces.get(piece, re.escape(piece)) for piece in re.split(r"(<\*>|\*\*?)", field)))


def known_silent(provider: str, path: str, trial: Trial) -> tuple[Entry, str] | None:
    """The entry that explains why a field did not arrive in a recording, and its pattern that matches."""
    for entry in silent_fields():
        if provider not in entry.only or not _explains(entry.kind, trial):
            continue
        for field in entry.fields:
            if _pattern(field).fullmatch(path):
                return entry, field
    return None


def _explains(kind: str, trial: Trial) -> bool:
    if kind == "latest":
        return trial.fate is Fate.PARTLY and trial.latest
    return kind == "nothing" or trial.repeated


def _is_repeated(value: Any, found: list[tuple[tuple[str, ...], Any]]) -> bool:
    """Whether a recorded value is in the response. Arguments of a tool call are compared as JSON."""
    if _is_there(value, found) is not None:
        return True
    try:
        arguments = json.loads(value) if isinstance(value, str) else None
    except ValueError:
        return False
    return isinstance(arguments, dict) and ((ARGUMENTS,), _canonical(arguments)) in found


def _canonical(arguments: object) -> str:
    return json.dumps(arguments, sort_keys=True)


@attrs.frozen
class Trial:
    """What became of a field in one recording."""

    fate: Fate
    recording: str
    place: tuple[str, ...] = ()
    missing: tuple[Any, ...] = ()
    repeated: bool = False
    """Whether the recorded values are found in the response all the same."""
    latest: bool = False
    """Whether the last of the planted values arrives."""


def try_field(recording: Recording, path: str, values: list[Any]) -> Trial:
    """Plant values in the place of a field's and look for them in the response."""
    distinct: dict[str, Any] = {}
    for value in values:
        if value not in (None, "", [], {}) or value is False or (value == 0 and not isinstance(value, str)):
            distinct.setdefault(json.dumps(value), planted(value, len(distinct) + 1))
    if not distinct:
        return Trial(Fate.EMPTY, recording.exchange.id)

    def change(place: str, value: Any) -> Any:
        return distinct.get(json.dumps(value), value) if place == path else value

    before = _unchanged(recording)
    id_ = recording.exchange.id
    try:
        response = recording.read(json_fields.rewritten(recording.pieces, change))
    except TrunklineError:
        return Trial(Fate.READ, id_)
    found = list(contents(response))
    unique = [value for value in distinct.values() if not isinstance(value, bool)]
    places = {value: _is_there(value, found) for value in unique}
    there = [place for place in places.values() if place is not None]
    if unique and len(there) == len(unique):
        metadata = all("provider_metadata" in place for place in there)
        return Trial(Fate.METADATA if metadata else Fate.TYPED, id_, there[0])
    after = _comparable(response)
    if not there and after != before:
        changes = [place for (place, new), (_, old) in zip(after, before, strict=False) if new != old]
        metadata = bool(changes) and all("provider_metadata" in place for place in changes)
        fate = Fate.READ if unique or not metadata else Fate.METADATA
        return Trial(fate, id_, changes[0] if changes else ())
    missing = tuple(json.loads(text) for text, new in distinct.items() if places.get(new) is None)
    repeated = all(_is_repeated(value, before) for value in missing)
    latest = json.loads(list(distinct)[-1]) not in missing
    return Trial(Fate.PARTLY if there else Fate.VANISHED, id_, there[0] if there else (), missing, repeated, latest)


def trials(provider: str, streamed: bool) -> dict[str, list[Trial]]:
    """Try each field of the provider's bodies or streams, in the smallest recordings of each server that have it."""
    having: dict[str, dict[str, list[tuple[int, Recording, list[Any]]]]] = defaultdict(lambda: defaultdict(list))
    for recording in recordings_of(provider):
        if recording.streamed is not streamed:
            continue
        values: dict[str, list[Any]] = defaultdict(list)
        for path, value in json_fields.fields(recording.pieces):
            values[path].append(value)
        for path, found in values.items():
            having[path][recording.server].append((len(recording.exchange.body), recording, found))
    tried: dict[str, list[Trial]] = {}
    for path, servers in having.items():
        results = []
        for candidates in servers.values():
            full = [item for item in candidates if any(value not in (None, "", [], {}) for value in item[2])]
            chosen = sorted(full or candidates[:1], key=lambda item: (item[0], item[1].exchange.id))
            # The smallest ones, and the largest, which has the field in the most places.
            chosen = [*chosen[: SAMPLES - 1], *chosen[SAMPLES - 1 :][-1:]]
            results += [try_field(recording, path, found) for _, recording, found in chosen]
        tried[path] = results
    return tried


@attrs.frozen
class Finding:
    """What becomes of a field of a provider's bodies or streams. Of several recordings, the worst counts."""

    path: str
    fate: Fate
    trial: Trial
    """A recording with that fate."""
    used: frozenset[tuple[str, str]]
    """The entries of `silent_fields.toml` that explain the field, by reason and pattern."""

    def __str__(self) -> str:
        missing = json.dumps(self.trial.missing[:2])[:80]
        return f"{self.fate}: {self.path} (in {self.trial.recording}: {missing})"


_WORST_FIRST = (Fate.VANISHED, Fate.PARTLY, Fate.SILENT, Fate.READ, Fate.METADATA, Fate.TYPED, Fate.EMPTY)


@cache
def findings(provider: str, streamed: bool) -> tuple[Finding, ...]:
    """What becomes of each field of the provider's bodies or streams."""
    return tuple(_finding(provider, path, results) for path, results in sorted(trials(provider, streamed).items()))


def _finding(provider: str, path: str, results: list[Trial]) -> Finding:
    used: set[tuple[str, str]] = set()
    explained: list[Trial] = []
    for trial in results:
        if trial.fate in (Fate.VANISHED, Fate.PARTLY) and (known := known_silent(provider, path, trial)):
            entry, field = known
            used.add((entry.why, field))
            trial = attrs.evolve(trial, fate=Fate.SILENT)
        explained.append(trial)
    worst = min(explained, key=lambda trial: _WORST_FIRST.index(trial.fate))
    return Finding(path, worst.fate, worst, frozenset(used))
