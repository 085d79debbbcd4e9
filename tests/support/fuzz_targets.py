"""What is fuzzed: every framer and parser, as functions of bytes that raise only where a promise is broken.

The table is built from the providers that are installed, so a new plugin is in it without being named. Each target
checks the rules of docs/reference/contracts.md itself: no input raises anything but Trunkline's errors, the events and
the error's class are the same however the bytes are cut, and `Finished` is the last event, or there is an error.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args, get_origin
from zlib import crc32

import attrs
from trunkline import storage
from trunkline._config import sources
from trunkline._config.configuration import read_configuration
from trunkline._plugins.registry import installed, load_provider, open_steps
from trunkline.authoring import http_errors, urls
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.framing import BodyFramer, JSONLinesFramer, SSEFramer, SSEOrJSONFramer
from trunkline.authoring.provider import Framer, Provider, ResponseParser, ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import CallError, ConfigurationError, RemoteError, TrunklineError
from trunkline.events import Event, Finished
from trunkline.fold import Fold, fold, unfold
from trunkline.messages import Message
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse
from trunkline.settings import Settings, setting_infos

SMALL = 200
"""Up to this length an input is also fed byte by byte."""


@attrs.frozen(kw_only=True)
class Target:
    """A function of bytes, and the kind of its input: the folder of its seeds."""

    name: str
    kind: str
    run: Callable[[bytes], object] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of a stream: its events, and the error that ended it."""

    events: tuple[Event, ...]
    error: TrunklineError | None

    def outcome(self) -> tuple[str, str | None]:
        """The outcome in a form that can be compared: NaN equals itself."""
        return repr(self.events), type(self.error).__name__ if self.error is not None else None


# Splits


def pieces(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """The data cut at these places."""
    at = 0
    for place in [*sorted(place for place in places if place < len(data)), len(data)]:
        yield data[at:place]
        at = place


def splits(data: bytes) -> Iterator[list[int]]:
    """Places to cut: none, a few (the same for the same data), and every byte of a small input."""
    yield []
    random = Random(crc32(data))
    yield [random.randrange(len(data) + 1) for _ in range(random.randrange(1, 8))]
    if len(data) <= SMALL:
        yield list(range(1, len(data)))


# Streams


def decoded(parser: ResponseParser, parts: Iterator[bytes]) -> Outcome:
    """What comes of a stream in these pieces. Raises what is none of Trunkline's errors."""
    decoder: StreamDecoder[Any] = StreamDecoder(*parser.stream())
    events: list[Event] = []
    try:
        for part in parts:
            ended = decoder.finished
            found = decoder.feed(part)
            assert not (ended and found), "events after Finished"
            events += found
        events += decoder.finish()
    except RemoteError as error:
        return Outcome(events=(*events, *decoder.late), error=error)
    return Outcome(events=tuple(events), error=None)


def check_stream(parser: ResponseParser, data: bytes) -> Outcome:
    """The outcome of a stream, once all that holds for every stream was checked."""
    outcomes = [decoded(parser, pieces(data, places)) for places in splits(data)]
    first = outcomes[0]
    for other in outcomes[1:]:
        assert other.outcome() == first.outcome(), f"cut otherwise:\n{first.outcome()}\n{other.outcome()}"
    finished = [type(event) is Finished for event in first.events]
    assert finished.count(True) == (0 if first.error is not None else 1)
    assert first.error is not None or finished[-1]
    check_error(first.error)
    folded = Fold()
    for event in first.events:
        folded.add(event)
    check_response(folded.response())
    return first


def check_error(error: TrunklineError | None) -> None:
    """An error says something."""
    assert error is None or (isinstance(error, TrunklineError) and str(error).strip())


def check_response(response: ChatResponse) -> None:
    """A response can be shown, stored and streamed again."""
    repr(response)
    assert fold(unfold(response)).parts == response.parts or "nan" in repr(response)
    try:
        stored = json.dumps(storage.to_json(response.message), allow_nan=True)
        storage.from_json(Message, json.loads(stored))
    except CallError:
        pass


def check_answer(provider: Provider, context: ServiceContext[Any], parser: ResponseParser, data: bytes) -> None:
    """Everything that reads a whole body: answers, errors, operations."""
    headers = {"content-type": "application/json", "retry-after": data[:40].decode("latin-1")}
    answer = WireResponse(status=200, headers=headers, body=data)
    try:
        check_response(parser.body(answer))
    except RemoteError as error:
        check_error(error)
    for status in (200, 400, 401, 429, 500, 599):
        failed = parser.error(WireResponse(status=status, headers=headers, body=data))
        assert isinstance(failed, RemoteError)
        check_error(failed)
        repr(failed)
    operations = provider.operations(context)
    for parse in (operations.embed, operations.count_tokens, operations.model_info):
        if parse is not None:
            try:
                parse.parse(context, answer)
            except RemoteError as error:
                check_error(error)
    if operations.list_models is not None:
        try:
            _, cursor = operations.list_models.parse(context, answer)
        except RemoteError as error:
            check_error(error)
        else:
            url = operations.list_models.build(context, cursor).url
            assert url.isascii(), url
            assert url.isprintable(), url
            assert " " not in url, url


# Framers


def check_framer(make: Callable[[], Framer[Any]], data: bytes) -> None:
    """A framer's frames are the same at any split."""
    outcomes = [_framed(make(), pieces(data, places)) for places in splits(data)]
    for other in outcomes[1:]:
        assert other == outcomes[0], f"cut otherwise:\n{outcomes[0]}\n{other}"


def _framed(framer: Framer[Any], parts: Iterator[bytes]) -> tuple[list[Any], str | None]:
    frames: list[Any] = []
    try:
        for part in parts:
            frames.extend(framer.feed(part))
        frames.extend(framer.finish())
    except RemoteError as error:
        return frames, type(error).__name__
    return frames, None


# Other readers


def check_stored(data: bytes) -> None:
    """Stored conversations of any form."""
    try:
        stored = json.loads(data)
    except (ValueError, RecursionError):
        return
    for kind in (Message, ChatRequest, ChatResponse):
        try:
            value = storage.from_json(kind, stored)
            assert storage.from_json(kind, storage.to_json(value)) == value or b"NaN" in data
        except CallError as error:
            check_error(error)
    try:
        storage.messages_from_json(stored)
    except CallError as error:
        check_error(error)


def check_configuration(data: bytes) -> None:
    """A configuration file of any content, up to the settings of its services."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trunkline.toml"
        path.write_bytes(data)
        try:
            found = read_configuration(path)
        except ConfigurationError as error:
            check_error(error)
            return
        for name, table in found.services.items():
            for provider in _providers():
                settings = {key: value for key, value in table.items() if key != "provider"}
                try:
                    sources.make_settings(name, provider, arguments={}, table=settings, environ={}, folder=found.folder)
                except ConfigurationError as error:
                    check_error(error)


def check_retry_after(data: bytes) -> None:
    """The headers that tell when to try again; the input is both."""
    text = data.decode("latin-1")
    for headers in ({"retry-after": text}, {"retry-after-ms": text}):
        wait = http_errors.retry_after(headers, now=lambda: 1.0e9)
        assert wait is None or 0 <= wait < float("inf")


def check_url(data: bytes) -> None:
    """A URL as someone pastes it, for the core's rule and for each provider's setting."""
    text = data.decode("utf-8", "replace")
    urls.redact_url(text)
    try:
        url, _ = urls.split_url(text)
    except ValueError:
        pass
    else:
        urls.plain_http_note(urls.endpoint_url(url.geturl(), "/path", "a=b"))
    for provider in _providers():
        if any(info.name == "api_url" for info in setting_infos(provider.settings)):
            try:
                settings = _settings(provider, api_url=text)
            except ConfigurationError as error:
                check_error(error)
                continue
            context = ServiceContext(name="fuzz", provider=provider.name, settings=settings)
            operations = provider.operations(context)
            if operations.list_models is not None:
                operations.list_models.build(context, None)


# The table


@cache
def _providers() -> tuple[Provider, ...]:
    return tuple(load_provider(item.name) for item in installed("trunkline.providers"))


def _settings(provider: Provider, **given: object) -> Settings:
    """Settings that are enough to open a service without I/O."""
    infos = {info.name: info for info in setting_infos(provider.settings)}
    known = {"api_url": "http://127.0.0.1:9", "aws_region": "us-east-1"}
    wanted = {name for name, info in infos.items() if info.required or info.form_required} | (
        {"api_key"} & infos.keys()
    )
    values = {name: known.get(name, "fuzz") for name in wanted}
    return sources.make_settings("fuzz", provider, arguments={**values, **given}, environ={})


def _variants(provider: Provider) -> Iterator[dict[str, object]]:
    """The settings that choose among parsers: each value of each choice, and a profile that splits thoughts."""
    yield {}
    for info in setting_infos(provider.settings):
        if get_origin(info.type) is Literal:
            yield from ({info.name: value} for value in get_args(info.type))
        if info.name == "profile":
            yield {info.name: {"base": "generic", "think_tags": True, "finish_reason_suffices": True}}


def parsers() -> Iterator[tuple[str, Provider, ServiceContext[Any], ResponseParser]]:
    """The parsers of the installed providers, each with its name and what it was made from."""
    for provider in _providers():
        seen: set[tuple[type, ...]] = set()
        for given in _variants(provider):
            context = ServiceContext(name="fuzz", provider=provider.name, settings=_settings(provider, **given))
            parser = open_steps(provider, context).parser
            kinds = (type(parser), *map(type, parser.stream()))
            if kinds in seen and "profile" not in given:
                continue
            seen.add(kinds)
            ending = "".join(f"-{name if isinstance(value, dict) else value}" for name, value in given.items())
            yield provider.name + ending, provider, context, parser


def _stream_target(name: str, parser: ResponseParser) -> Target:
    return Target(name=f"stream-{name}", kind="streams", run=lambda data: check_stream(parser, data))


def _answer_target(name: str, provider: Provider, context: ServiceContext[Any], parser: ResponseParser) -> Target:
    return Target(name=f"answer-{name}", kind="answers", run=lambda data: check_answer(provider, context, parser, data))


def _framer_target(make: Callable[[], Framer[Any]]) -> Target:
    name = getattr(make, "__name__", "framer")
    return Target(name=name, kind="streams", run=lambda data: check_framer(make, data))


@cache
def targets() -> dict[str, Target]:
    """All targets, by name."""
    framers: tuple[Callable[[], Framer[Any]], ...] = (SSEFramer, SSEOrJSONFramer, JSONLinesFramer, BodyFramer)
    found = [_framer_target(make) for make in framers]
    found += [
        Target(name="stored", kind="stored", run=check_stored),
        Target(name="configuration", kind="configurations", run=check_configuration),
        Target(name="retry-after", kind="headers", run=check_retry_after),
        Target(name="url", kind="urls", run=check_url),
    ]
    for name, provider, context, parser in parsers():
        found += [_stream_target(name, parser), _answer_target(name, provider, context, parser)]
    return {target.name: target for target in found}
