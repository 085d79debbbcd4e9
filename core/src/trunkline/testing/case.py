"""What every test of the kit stands on: a provider under test, services of it, and answers for them."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, ClassVar

import anyio
import attrs
import httpcore2
import pytest

from trunkline._config.sources import make_settings
from trunkline._http.choice import HTTPTransports
from trunkline._json import JSONObject
from trunkline._plugins.registry import Steps, load_provider, open_steps
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import Observer, Provider, ResponseParser, ServiceContext, hookimpl
from trunkline.errors import ConfigurationError, TrunklineError
from trunkline.events import Event, TextDelta
from trunkline.fold import fold
from trunkline.messages import Reasoning, Text, ToolCall
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse
from trunkline.service import Service
from trunkline.settings import Settings
from trunkline.testing.catalogue import Facts, not_applicable
from trunkline.testing.detour import Detour
from trunkline.testing.server import JSON, Exchange
from trunkline.testing.wireformat import CANARY, Sample, ServerSentEvents, WireFormat, canary

QUICK = 0.1
"""A timeout under test, in seconds."""

LIMIT = 30.0
"""Seconds after which a test that hangs fails."""

NOWHERE = "http://127.0.0.1:9"

Script = Callable[[Exchange], Awaitable[None]]


class Watcher(Observer):
    """An extension that watches a service's calls; tests wait for what it sees."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.failures: list[BaseException] = []
        self.retrying: anyio.Event = anyio.Event()

    @hookimpl
    def trunkline_observer(self, context: ServiceContext[Any]) -> Observer:
        """Implements the hook."""
        return self

    def retried(self, call: int, error: TrunklineError, delay: float) -> None:
        """Keeps the delay."""
        self.delays.append(delay)
        self.retrying.set()

    def failed(self, call: int, error: BaseException) -> None:
        """Keeps the error."""
        self.failures.append(error)


@attrs.frozen
class Opening:
    """The frames of the first sample up to its first text, and that text."""

    frames: tuple[bytes, ...]
    text: str

    @property
    def stream(self) -> bytes:
        """Their bytes."""
        return b"".join(self.frames)


class ProviderCase:
    """A provider under test. The attributes are those of `ProviderTests`."""

    provider: ClassVar[str | Provider]
    variant: ClassVar[str | None] = None
    settings: ClassVar[Mapping[str, object]] = {}
    wire: ClassVar[WireFormat]
    samples: ClassVar[Sequence[Sample]] = ()
    secrets: ClassVar[Sequence[str]] = ()
    request_body: ClassVar[JSONObject | None] = None
    skips: ClassVar[Mapping[str, str]] = {}

    pytestmark: pytest.MarkDecorator = pytest.mark.anyio

    # What pytest does with the class

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """Both backends."""
        return str(request.param)

    @pytest.fixture(autouse=True)
    def _skipping(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        # Each service opens a client of its own, and reading the certificate authorities takes most of a short test.
        monkeypatch.setattr(httpcore2, "default_ssl_context", _tls_context)
        name = request.node.originalname
        reason = not_applicable(name, self.facts())
        if reason is not None:
            pytest.skip(f"n/a: {reason}")
        if name in self.skips:
            pytest.skip(f"skipped by {type(self).__name__}: {self.skips[name]}")

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """A test of `sample` runs for each sample, a test of `spelling` for each spelling of the framing."""
        if "sample" in metafunc.fixturenames:
            samples = cls.all_samples()
            metafunc.parametrize("sample", samples, ids=[sample.name.replace(" ", "-") for sample in samples])
        if "spelling" in metafunc.fixturenames:
            names = list(cls.wire.framing.spellings(cls.wire.samples[0].frames)) or ["none"]
            metafunc.parametrize("spelling", names, ids=[name.replace(" ", "-") for name in names])

    # Facts

    @classmethod
    @cache
    def facts(cls) -> Facts:
        """What decides which classes apply."""
        return Facts(
            in_process=cls.in_process(),
            server_sent_events=isinstance(cls.wire.framing, ServerSentEvents),
            checked_frames=cls.wire.framing.checked,
            error_events=cls.wire.error_event is not None,
            fetches=bool(cls.plugin().bytes_only_media),
            credentials=type(cls.open_steps().auth) is not NoAuth,
        )

    @classmethod
    @cache  # finding a provider reads the metadata of every installed distribution
    def plugin(cls) -> Provider:
        """The provider."""
        return load_provider(cls.provider) if isinstance(cls.provider, str) else cls.provider

    @classmethod
    def label(cls) -> str:
        """What a report calls the provider."""
        name = cls.provider if isinstance(cls.provider, str) else cls.provider.name
        return f"{name} ({cls.variant})" if cls.variant else name

    @classmethod
    @cache
    def in_process(cls) -> bool:
        """Whether the provider has a transport of its own, and no setting that leads it to a server."""
        if any("{url}" in str(value) for value in cls.settings.values()):
            return False
        try:
            return cls.plugin().transport(cls.context()) is not None
        except ConfigurationError:
            return True  # its own one, which something is missing for

    @classmethod
    def made_settings(cls, url: str = NOWHERE, **changes: object) -> Settings:
        """The settings for a server at `url`."""
        values: dict[str, object] = {
            "default_model": "m",
            "max_retries": 0,
            "headers": {"x-canary": canary("headers")},
            **{name: _with_url(value, url) for name, value in cls.settings.items()},
            **changes,
        }
        return make_settings("tested", cls.plugin(), arguments=values, environ={})

    @classmethod
    def context(cls) -> ServiceContext[Settings]:
        """A context for steps that are used without a service."""
        return ServiceContext(name="tested", provider=cls.plugin().name, settings=cls.made_settings())

    @classmethod
    def all_samples(cls) -> tuple[Sample, ...]:
        """The samples of the wire, and the class's own."""
        return (*cls.wire.samples, *cls.samples)

    @classmethod
    def extensions(cls, url: str = NOWHERE) -> list[object]:
        """The extensions in the settings, and what leads a transport inside the process to a server at `url`."""
        return [*cls.made_settings().extensions, *([Detour(url)] if cls.in_process() else [])]

    @property
    def sample_text(self) -> Sample:
        """The first sample: plain text."""
        return self.wire.samples[0]

    @classmethod
    def canaries(cls) -> tuple[str, ...]:
        """The secrets that must show up nowhere."""
        found = {canary("headers"), *cls.secrets}
        for value in cls.settings.values():
            found |= {text for text in re.split(r"[^\w-]", str(value)) if text.startswith(CANARY)}
        return tuple(found)

    # Without I/O

    @classmethod
    def open_steps(cls) -> Steps:
        """The provider's steps, as a service with the extensions has them."""
        return open_steps(cls.plugin(), cls.context(), cls.extensions())

    @classmethod
    @cache
    def parser(cls) -> ResponseParser:
        """The provider's parser."""
        return cls.open_steps().parser

    def decode(self, pieces: Iterable[bytes], *, finish: bool = True) -> list[Event]:
        """The events of a stream that comes in these pieces."""
        decoder = StreamDecoder(*self.parser().stream())
        events = [event for piece in pieces for event in decoder.feed(piece)]
        return [*events, *decoder.finish()] if finish else events

    def folded(self, events: Iterable[Event]) -> ChatResponse:
        """The response that the events make."""
        return fold(events, self.plugin().name)

    def opening(self) -> Opening:
        """The beginning of the first sample."""
        frames = self.sample_text.frames
        for count in range(1, len(frames)):
            deltas = [event for event in self.decode(frames[:count], finish=False) if isinstance(event, TextDelta)]
            if deltas:
                return Opening(frames[:count], "".join(delta.text for delta in deltas))
        raise AssertionError("the first sample of the wire has to be a plain text of two deltas or more")

    def check(self, sample: Sample, response: ChatResponse, *, streamed: bool) -> None:
        """Assert that a response is what the sample says."""
        parts = response.parts
        assert "".join(part.text for part in parts if isinstance(part, Text)) == sample.text
        assert "".join(part.text for part in parts if isinstance(part, Reasoning)) == sample.reasoning
        calls = [part for part in parts if isinstance(part, ToolCall)]
        assert [(call.name, call.arguments) for call in calls] == list(sample.tool_calls)
        assert len({call.id for call in calls}) == len(calls), "every call has an id of its own"
        if sample.call_ids:
            assert tuple(call.id for call in calls) == sample.call_ids
        assert response.finish_reason is sample.finish_reason
        if streamed or sample.same_usage:
            assert response.usage == sample.usage

    # With I/O

    @asynccontextmanager
    async def service(
        self, url: str, *, client: Any = None, watcher: object = None, **changes: object
    ) -> AsyncIterator[Service]:
        """A service for a server at `url`; `changes` are settings, `watcher` is one more extension.

        A test that hangs in the block fails.
        """
        extensions = self.extensions(url) + ([watcher] if watcher is not None else [])
        made = self.made_settings(url, extensions=extensions, **changes)
        service = Service("tested", self.plugin(), made, transports=HTTPTransports(client), owns_transports=True)
        with anyio.fail_after(LIMIT):
            async with service:
                yield service

    async def read(self, service: Service, request: ChatRequest | None = None) -> list[Event]:
        """All events of a stream."""
        async with service.stream(request or self.sample_text.request) as stream:
            return [event async for event in stream]

    async def chat(self, service: Service) -> ChatResponse:
        """A whole answer."""
        return await service.chat(self.sample_text.request)

    async def ask(self, service: Service, way: str) -> object:
        """A call made in a `way`: `chat` or `stream`."""
        return await (self.chat(service) if way == "chat" else self.read(service))

    def head(self) -> dict[str, str]:
        """The headers of a streamed answer."""
        return {"content-type": self.wire.framing.content_type}

    def streams(self, frames: Iterable[bytes], *, end: bool = True) -> Script:
        """Answer with a stream of these frames, and end it."""

        async def script(exchange: Exchange) -> None:
            await exchange.start(headers=self.head())
            for frame in frames:
                if frame:
                    await exchange.chunk(frame)
            if end:
                await exchange.end()
            else:
                await exchange.hang_up()

        return script

    def answers(self, way: str = "stream", sample: Sample | None = None) -> Script:
        """Answer as a sample does."""
        sample = sample or self.sample_text
        if way == "stream":
            return self.streams(sample.frames)

        async def script(exchange: Exchange) -> None:
            assert sample.body is not None
            await exchange.respond(sample.body)

        return script

    def fails(self, status: int, message: str = "it failed", **headers: str) -> Script:
        """Answer with an error status."""

        async def script(exchange: Exchange) -> None:
            body = self.wire.error_body(message)
            await exchange.respond(body, status=status, headers={**JSON, **headers})

        return script


@cache
def _tls_context(**options: Any) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def in_turn(*scripts: Script) -> Script:
    """The first request gets the first script, and so on; the last one serves all others."""

    async def script(exchange: Exchange) -> None:
        await scripts[min(exchange.number, len(scripts)) - 1](exchange)

    return script


async def until_hung_up(exchange: Exchange) -> None:
    """Answer nothing, and wait until the client has gone."""
    await exchange.hung_up()


def _with_url(value: object, url: str) -> object:
    if isinstance(value, str):
        return value.replace("{url}", url)
    return value
