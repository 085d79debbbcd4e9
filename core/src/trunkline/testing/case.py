"""The base class of the kit's tests: the provider under test, its services, and scripted responses for them."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
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
from trunkline.authoring.provider import Call, Observer, Provider, ResponseParser, ServiceContext, hookimpl
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConfigurationError, TrunklineError
from trunkline.events import Event, TextDelta
from trunkline.fold import fold
from trunkline.messages import Reasoning, Text, ToolCall
from trunkline.provider_service import ProviderService
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, ModelInfo
from trunkline.settings import SettingInfo, Settings, setting_infos
from trunkline.storage import to_json
from trunkline.testing.catalogue import Facts, not_applicable
from trunkline.testing.detour import Detour
from trunkline.testing.http2 import Handler as HTTP2Script, HTTP2Server, serve_http2
from trunkline.testing.kit import LIMIT, KitTests, canaries_in, replaced
from trunkline.testing.server import JSON, Exchange, LoopbackServer, serve
from trunkline.testing.wireformat import Sample, ServerSentEvents, WireFormat, canary

QUICK = 0.1
"""The value of a timeout that a test waits for, in seconds."""

NOWHERE = "http://127.0.0.1:9"
"""A URL for tests that send nothing."""

Script = Callable[[Exchange], Awaitable[None]]


class Watcher(Observer):
    """An extension that records a service's retries, and its calls that fail or are abandoned."""

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.failures: list[BaseException] = []
        self.abandonments: list[ChatResponse] = []
        self.retrying: anyio.Event = anyio.Event()

    @hookimpl
    def trunkline_observer(self, context: ServiceContext[Any]) -> Observer:
        """Observe the service."""
        return self

    def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
        """Record the delay."""
        self.delays.append(delay)
        self.retrying.set()

    def failed(self, call: Call, error: BaseException) -> None:
        """Record the error."""
        self.failures.append(error)

    def abandoned(self, call: Call, partial: ChatResponse) -> None:
        """Record what the application had read."""
        self.abandonments.append(partial)


@attrs.frozen
class Opening:
    """The frames of the first sample up to its first text delta, and the text of that delta."""

    frames: tuple[bytes, ...]
    text: str

    @property
    def stream(self) -> bytes:
        """The bytes of the frames."""
        return b"".join(self.frames)


class ProviderCase(KitTests):
    """The provider under test. `ProviderTests` describes the attributes."""

    provider: ClassVar[str | Provider]
    variant: ClassVar[str | None] = None
    settings: ClassVar[Mapping[str, object]] = {}
    wire: ClassVar[WireFormat]
    samples: ClassVar[Sequence[Sample]] = ()
    models: ClassVar[Sequence[str]] = ("m",)
    families: ClassVar[Sequence[Sequence[str]]] = ()
    secrets: ClassVar[Sequence[str]] = ()
    embedding_model: ClassVar[str] = "m"
    operation_requests: ClassVar[Mapping[str, WireRequest]] = {}
    model_pages: ClassVar[Sequence[bytes]] = ()
    listed_models: ClassVar[Sequence[ModelInfo]] = ()
    routes: ClassVar[Mapping[str, JSONObject | bytes]] = {}
    credentials: ClassVar[Mapping[str, str]] = {}

    # Fixtures and parameters

    @pytest.fixture(autouse=True)
    def _applicable(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, _skipping: None) -> None:
        # Each service opens its own client, and loading the certificate authorities would take most of a short test.
        monkeypatch.setattr(httpcore2, "default_ssl_context", _tls_context)
        reason = not_applicable(request.node.originalname, self.facts())
        if reason is not None:
            pytest.skip(f"n/a: {reason}")
        without_route = self.without_route()
        if without_route is not None:
            # Most tests would fail or hang, and none would say why.
            pytest.fail(without_route, pytrace=False)

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Run tests with `sample` for each sample, `spelling` for each spelling, and `asked` for each model."""
        cls._check_that_it_can_run()
        if "sample" in metafunc.fixturenames:
            samples = cls.all_samples()
            metafunc.parametrize("sample", samples, ids=[sample.name.replace(" ", "-") for sample in samples])
        if "spelling" in metafunc.fixturenames:
            names = list(cls.wire.framing.spellings(cls.wire.samples[0].frames)) or ["none"]
            metafunc.parametrize("spelling", names, ids=[name.replace(" ", "-") for name in names])
        if "asked" in metafunc.fixturenames:
            metafunc.parametrize("asked", cls.models)

    @classmethod
    def _check_that_it_can_run(cls) -> None:
        """Raise one error while tests are collected, instead of one for each test."""
        try:
            cls.plugin()
            try:
                cls.made_settings()
            except ConfigurationError as error:
                problem = f"{error}\nIf a setting is missing, add it to `settings` of {cls.__name__}."
            else:
                cls.facts()
                return
        except Exception as error:  # the plugin's code, which may raise anything
            problem = f"The provider of {cls.__name__} cannot be used: {type(error).__name__}: {error}"
        raise pytest.Collector.CollectError(problem)

    # Facts

    @classmethod
    @cache
    def without_route(cls) -> str | None:
        """The failure of a provider whose `Auth` sends a request that is not in `routes`, or `None`."""
        return None if cls.in_process() or not cls.facts().credentials else anyio.run(cls._without_route)

    @classmethod
    async def _without_route(cls) -> str | None:
        case = cls()
        async with case.serve(_nothing) as server:
            with anyio.move_on_after(LIMIT), suppress(TrunklineError):
                async with case.new_service(server.url) as service:
                    await service.authenticate()
            if not server.requests:
                return None
            request, known = server.requests[0], ", ".join(cls.routes) or "empty"
            path = request.target.partition("?")[0]
            return f"the Auth sent a request for {request.method} {path}, which is not in 'routes' ({known})"

    @classmethod
    @cache
    def facts(cls) -> Facts:
        """The facts that decide which fault classes apply."""
        return Facts(
            in_process=cls.in_process(),
            server_sent_events=isinstance(cls.wire.framing, ServerSentEvents),
            checked_frames=cls.wire.framing.checked,
            error_events=cls.wire.error_event is not None,
            fetches=bool(cls.plugin().bytes_only_media),
            credentials=type(cls.open_steps().auth) is not NoAuth,
            embeds=cls.open_steps().operations.embed is not None,
            secret_settings=any(info.secret for info in cls.own_settings()) or bool(canaries_in(cls.settings)),
            routes=bool(cls.routes),
        )

    @classmethod
    @cache  # finding a provider reads the metadata of every installed distribution
    def plugin(cls) -> Provider:
        """The provider."""
        return load_provider(cls.provider) if isinstance(cls.provider, str) else cls.provider

    @classmethod
    def label(cls) -> str:
        """The provider's name in reports, with the variant if there is one."""
        name = cls.provider if isinstance(cls.provider, str) else cls.provider.name
        return f"{name} ({cls.variant})" if cls.variant else name

    @classmethod
    @cache
    def in_process(cls) -> bool:
        """Whether the provider has its own transport, and no setting with the URL of a server."""
        if any("{url}" in str(value) for value in cls.settings.values()):
            return False
        try:
            return cls.plugin().transport(cls.context()) is not None
        except ConfigurationError:
            return True  # it has its own transport, which cannot be made from these settings

    @classmethod
    def made_settings(cls, url: str = NOWHERE, /, **changes: object) -> Settings:
        """The settings of a service whose server is at `url`."""
        values: dict[str, object] = {
            "default_model": "m",
            "max_retries": 0,
            "headers": {"x-canary": canary("headers")},
            **replaced(cls.settings, "{url}", url),
            **changes,
        }
        return make_settings("tested", cls.plugin(), arguments=values, environ={})

    @classmethod
    def own_settings(cls) -> list[SettingInfo]:
        """The settings that the provider has in addition to those of all providers."""
        common = {info.name for info in setting_infos(Settings)}
        return [info for info in setting_infos(cls.plugin().settings) if info.name not in common]

    @classmethod
    def context(cls) -> ServiceContext[Settings]:
        """A context to make the provider's steps without a service."""
        return ServiceContext(name="tested", provider=cls.plugin().name, settings=cls.made_settings())

    @classmethod
    def all_samples(cls) -> tuple[Sample, ...]:
        """The samples of the wire format and of the test class."""
        return (*cls.wire.samples, *cls.samples)

    @classmethod
    def extensions(cls, url: str = NOWHERE, /, **changes: object) -> list[object]:
        """The extensions in the settings; for an in-process provider also one that sends requests to `url`."""
        return [*cls.made_settings(url, **changes).extensions, *([Detour(url)] if cls.in_process() else [])]

    @property
    def sample_text(self) -> Sample:
        """The first sample, which is plain text."""
        return self.wire.samples[0]

    @classmethod
    def canaries(cls) -> tuple[str, ...]:
        """The secrets that must not appear anywhere."""
        found = {canary("headers"), *cls.secrets}
        for value in (*cls.settings.values(), *cls.route_bodies().values()):
            found |= canaries_in(value)
        return tuple(found)

    # Without I/O

    @classmethod
    def open_steps(cls) -> Steps:
        """Open the provider's steps with the extensions, as a service does."""
        return open_steps(cls.plugin(), cls.context(), cls.extensions())

    @classmethod
    @cache
    def parser(cls) -> ResponseParser:
        """The provider's response parser."""
        return cls.open_steps().parser

    def decode(self, pieces: Iterable[bytes], *, finish: bool = True) -> list[Event]:
        """Return the events of a stream that arrives in these pieces."""
        decoder = StreamDecoder(*self.parser().stream())
        events = [event for piece in pieces for event in decoder.feed(piece)]
        return [*events, *decoder.finish()] if finish else events

    def folded(self, events: Iterable[Event]) -> ChatResponse:
        """Return the response that the events fold to."""
        return fold(events, self.plugin().name)

    def opening(self) -> Opening:
        """Return the first sample up to its first text delta."""
        frames = self.sample_text.frames
        for count in range(1, len(frames)):
            deltas = [event for event in self.decode(frames[:count], finish=False) if isinstance(event, TextDelta)]
            if deltas:
                return Opening(frames[:count], "".join(delta.text for delta in deltas))
        raise AssertionError("the first sample of the wire format must be plain text in at least two deltas")

    def check(self, sample: Sample, response: ChatResponse) -> None:
        """Assert that a response has the content that the sample declares."""
        parts = response.parts
        calls = [part for part in parts if isinstance(part, ToolCall)]
        assert len({call.id for call in calls}) == len(calls), "two tool calls have the same id"
        found = {
            "text": "".join(part.text for part in parts if isinstance(part, Text)),
            "refusal": "".join(part.text for part in parts if isinstance(part, Text) and part.refusal),
            "cited": tuple(response.text[cited.start : cited.end] for cited in response.citations)
            if sample.cited
            else (),
            "reasoning": "".join(part.text for part in parts if isinstance(part, Reasoning)),
            "tool_calls": tuple((call.name, call.arguments) for call in calls),
            "call_ids": tuple(call.id for call in calls) if sample.call_ids else (),
            "finish_reason": response.finish_reason,
            "usage": response.usage,
            "logprobs": response.logprobs,
            "parts": tuple(type(part) for part in parts) if sample.parts else (),
            "kept": tuple(text for text in sample.kept if text in json.dumps(to_json(response))),
        }
        for field, value in found.items():
            expected = getattr(sample, field)
            assert value == expected, f"the parser's {field} is not the {field} of the sample {sample.name!r}"

    # With I/O

    def serve(
        self, script: Script, routes: Mapping[str, Script] | None = None
    ) -> AbstractAsyncContextManager[LoopbackServer]:
        """Run a server with this script. `routes` replace the endpoints in the attribute `routes`."""
        return serve(script, routes=routes or {path: page(body) for path, body in self.route_bodies().items()})

    def serve_http2(self, script: HTTP2Script) -> AbstractAsyncContextManager[HTTP2Server]:
        """Run an HTTP/2 server with this script and the endpoints in the attribute `routes`."""
        return serve_http2(script, routes=self.route_bodies())

    @classmethod
    def route_bodies(cls) -> dict[str, bytes]:
        """The bodies of the responses of `routes`."""
        return {
            path: body if isinstance(body, bytes) else json.dumps(body).encode() for path, body in cls.routes.items()
        }

    def new_service(
        self, url: str, /, *, client: Any = None, watcher: object = None, **changes: object
    ) -> ProviderService:
        """Return a service whose server is at `url`. `changes` are settings, and `watcher` is a further extension."""
        extensions = self.extensions(url, **changes) + ([watcher] if watcher is not None else [])
        made = self.made_settings(url, **{**changes, "extensions": extensions})
        return ProviderService("tested", self.plugin(), made, transports=HTTPTransports(client))

    @asynccontextmanager
    async def service(
        self, url: str, /, *, client: Any = None, watcher: object = None, **changes: object
    ) -> AsyncIterator[ProviderService]:
        """Open a new service, as `new_service` returns it. The block fails if it takes longer than `LIMIT`."""
        service = self.new_service(url, client=client, watcher=watcher, **changes)
        with anyio.fail_after(LIMIT):
            async with service:
                yield service

    async def read(self, service: ProviderService, request: ChatRequest | None = None) -> list[Event]:
        """Return all events of a stream."""
        async with service.stream(request or self.sample_text.request) as stream:
            return [event async for event in stream]

    async def chat(self, service: ProviderService) -> ChatResponse:
        """Return a response that is not streamed."""
        return await service.chat(self.sample_text.request)

    async def ask(self, service: ProviderService, method: str) -> object:
        """Call `chat` or `stream`, as `method` says."""
        return await (self.chat(service) if method == "chat" else self.read(service))

    def head(self) -> dict[str, str]:
        """Return the headers of a streamed response."""
        return {"content-type": self.wire.framing.content_type}

    def streams(self, frames: Iterable[bytes], *, end: bool = True) -> Script:
        """Return a script that responds with these frames. Without `end`, it closes the connection instead."""

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

    def responds(self, method: str = "stream", sample: Sample | None = None) -> Script:
        """Return a script that responds with a sample, by default with the first one."""
        sample = sample or self.sample_text
        if method == "stream":
            return self.streams(sample.frames)

        async def script(exchange: Exchange) -> None:
            assert sample.body is not None
            await exchange.respond(sample.body)

        return script

    def fails(self, status: int, message: str = "it failed", **headers: str) -> Script:
        """Return a script that responds with an error status."""

        async def script(exchange: Exchange) -> None:
            body = self.wire.error_body(message)
            await exchange.respond(body, status=status, headers={**JSON, **headers})

        return script


@cache
def _tls_context(**options: Any) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def in_turn(*scripts: Script) -> Script:
    """Return a script that runs the first script for the first request, and so on, and the last for all others."""

    async def script(exchange: Exchange) -> None:
        await scripts[min(exchange.number, len(scripts)) - 1](exchange)

    return script


async def until_hung_up(exchange: Exchange) -> None:
    """Send nothing, and wait until the client closes the connection."""
    await exchange.hung_up()


async def _nothing(exchange: Exchange) -> None:
    await exchange.respond(b"", status=404)


def page(body: bytes) -> Script:
    """Return a script that responds with this body."""

    async def script(exchange: Exchange) -> None:
        await exchange.respond(body)

    return script
