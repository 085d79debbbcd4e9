"""What `ExtensionTests` runs an extension in: a provider, the responses of its server, and probes around the extension.

The provider's wire format is JSON: the core's own form of requests and responses, and a frame for each event.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, TypeVar

import anyio
import attrs

from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.framing import JSONLinesFramer
from trunkline.authoring.http_errors import status_error
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.middleware import ChatProceed, EventStream, Middleware, RunProceed, StreamProceed
from trunkline.authoring.provider import Call, Operation, Operations, Provider, ServiceContext, Translation, hookimpl
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import RemoteError, StreamInterrupted
from trunkline.events import Event, Finished, ReasoningDelta, TextDelta, ToolCallDelta
from trunkline.fold import unfold
from trunkline.messages import Citation, Image, Opaque, Part, Reasoning, Text, ToolCall
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import CallWarning, ChatResponse, EmbedResponse, FinishReason, TokenLogprob, Usage
from trunkline.secrets import Secret
from trunkline.settings import Converted, Settings, setting, settings, url_setting
from trunkline.storage import from_json, to_json
from trunkline.testing.server import Exchange

T = TypeVar("T")

PIECE = 3
"""The number of characters in a delta. It is small, so that a text that an extension looks for is split."""

ASKED = CallWarning(kind="unsupported", subject="toys", message="about the request", lossy=False)
"""A warning of the translator, which streams have in `ResponseStarted`."""

ANSWERED = CallWarning(kind="other", subject="toys", message="about the response", lossy=False)
"""A warning of the parser, which streams have in `Finished`."""


# The provider


def toy_provider(name: str) -> Provider:
    """Make a provider with this name."""

    @settings
    class ToySettings(Settings):
        provider = name
        api_url: str = url_setting("API URL", "URL of the kit's server.", default="http://127.0.0.1:9")
        api_key: Converted[Secret, str] = setting("API Key", "A key.", default=Secret("the-key-of-the-toy"))

    def embed(context: ServiceContext[ToySettings], request: EmbedRequest) -> WireRequest:
        return WireRequest(url=context.settings.api_url + "/embed", body=dumps(list(request.inputs)))

    return Provider(
        name=name,
        settings=ToySettings,
        auth=lambda context: HeaderAuth("authorization", context.settings.api_key, prefix="Bearer "),
        translator=_Translator,
        response_parser=lambda context: _ResponseParser(name),
        operations=lambda context: Operations(embed=Operation(build=embed, parse=_embedded)),
    )


def _embedded(context: ServiceContext[Any], wire_response: WireResponse) -> EmbedResponse:
    return EmbedResponse(embeddings=tuple(map(tuple, loads(wire_response.body))))


class _Translator:
    def __init__(self, context: ServiceContext[Any]) -> None:
        self._url = context.settings.api_url + "/chat"

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        body = {"request": to_json(request), "stream": stream}
        return Translation(wire_request=WireRequest(url=self._url, body=dumps(body)), warnings=(ASKED,))


class _ResponseParser:
    def __init__(self, provider: str) -> None:
        self._provider = provider

    def stream(self) -> tuple[JSONLinesFramer, _Parser]:
        return JSONLinesFramer(), _Parser(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        response = from_json(ChatResponse, loads(wire_response.body))
        return attrs.evolve(response, warnings=(ANSWERED, *response.warnings))

    def error(self, wire_response: WireResponse) -> RemoteError:
        message = wire_response.body.decode("utf-8", "replace")
        status, headers = wire_response.status, wire_response.headers
        return status_error(message, provider=self._provider, status=status, headers=headers)


class _Parser:
    """Reads frames: the first one is the response, and each of the others the number of an event of it."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._events: list[Event] = []

    def feed(self, frame: bytes) -> list[Event]:
        match loads(frame):
            case {"error": int(status)}:
                raise status_error("an error in the stream", provider=self._provider, status=status)
            case {"response": response}:
                self._events = in_pieces(from_json(ChatResponse, response))
                return []
            case number:
                return [self._events[number]]

    def finish(self) -> list[Event]:
        raise StreamInterrupted("the stream ended early")


def in_pieces(response: ChatResponse) -> list[Event]:
    """Return the events of a response, with deltas of `PIECE` characters."""
    events: list[Event] = []
    for event in unfold(response):
        match event:
            case TextDelta() | ReasoningDelta():
                pieces = _pieces(event.text)
                events.append(attrs.evolve(event, text=next(pieces, "")))
                delta = type(event)
                events += [delta(index=event.index, text=piece) for piece in pieces]
            case ToolCallDelta():
                events += [ToolCallDelta(index=event.index, arguments=piece) for piece in _pieces(event.arguments)]
            case Finished():
                events.append(attrs.evolve(event, warnings=(ANSWERED, *event.warnings)))
            case _:
                events.append(event)
    return events


def _pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


# The server


def _echo(text: str) -> ChatResponse:
    parts: tuple[Part, ...] = (
        Reasoning(text=text, signature="signed"),
        Text(text=text),
        Citation(url="http://127.0.0.1/source", cited_text=text),
        ToolCall(id="call-1", name="tool", arguments={"text": text, text: [text]}),
        ToolCall(id="call-2", name="tool", arguments={}),
    )
    usage = Usage(input_tokens=2, output_tokens=3)
    logprobs = (TokenLogprob(token=text[:PIECE], logprob=-0.5),)
    return ChatResponse(parts=parts, finish_reason=FinishReason.TOOL_CALLS, usage=usage, logprobs=logprobs, model="toy")


def _odd(text: str) -> ChatResponse:
    parts: tuple[Part, ...] = (
        Reasoning(text="", redacted=True, encrypted="x"),
        Text(text=""),
        Text(text="I cannot help with that.", refusal=True),
        Image(data=b"\x89PNG\r\n\x1a\n"),
        Opaque(provider="kit", kind="block", data={"text": text}),
        ToolCall(id="call-1", name="tool", arguments={}, invalid_arguments='{"text": '),
    )
    return ChatResponse(parts=parts, finish_reason=FinishReason.CONTENT_FILTER, raw_finish_reason="filter")


def _empty(text: str) -> ChatResponse:
    return ChatResponse(parts=(), finish_reason=FinishReason.LENGTH)


RESPONSES: Mapping[str, Callable[[str], ChatResponse]] = {"echo": _echo, "odd parts": _odd, "nothing": _empty}
"""The responses of the server, made from the text of the last message of the request."""


@attrs.define
class Answer:
    """A script of the server.

    `response` is one of `RESPONSES`, made from the text of the last message, or with `echoes_all` from the texts of all
    messages and `max_output_tokens`. `status` is the status of all responses; `error` is the status of an error that
    follows the first text of a stream. With `hangs` the server sends nothing; with `hangs_in_stream`, only the first
    events of a stream. Then it waits until `released` is set, and closes the connection.
    """

    response: str = "echo"
    status: int = 200
    error: int | None = None
    hangs: bool = False
    hangs_in_stream: bool = False
    echoes_all: bool = False
    released: anyio.Event = attrs.field(factory=anyio.Event, eq=False)

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        if self.hangs:
            await self._hang(exchange)
        elif self.status != 200:
            await exchange.respond(b"it failed", status=self.status, headers={"retry-after": "7"})
        elif exchange.request.target == "/embed":
            await exchange.respond(json.dumps([[1.0] for _ in loads(exchange.request.body)]).encode())
        else:
            await self._chat(exchange)

    async def _chat(self, exchange: Exchange) -> None:
        body = loads(exchange.request.body)
        request = from_json(ChatRequest, body["request"])
        text = request.messages[-1].text
        if self.echoes_all:
            text = f"{' '.join(message.text for message in request.messages)} {request.max_output_tokens}"
        response = RESPONSES[self.response](text)
        if not body["stream"]:
            await exchange.respond(dumps(to_json(response)))
            return
        events = in_pieces(response)
        await exchange.start(headers={"content-type": "application/x-ndjson"})
        await exchange.chunk(dumps({"response": to_json(response)}) + b"\n")
        for number, event in enumerate(events):
            await exchange.chunk(b"%d\n" % number)
            if isinstance(event, TextDelta):
                if self.error is not None:
                    await exchange.chunk(b'{"error": %d}\n' % self.error)
                    break
                if self.hangs_in_stream:
                    await self._hang(exchange)
                    return
        await exchange.end()

    async def _hang(self, exchange: Exchange) -> None:
        exchange.keep_alive = False
        await self.released.wait()


# The probes


class Probe(Middleware):
    """A middleware on one side of the tested extension: it notes what passes, and changes nothing.

    The probe inside of the extension is the `inner` one of the probe around it.
    """

    def __init__(self, inner: Probe | None = None) -> None:
        self.ends: list[str] = []
        """How each call and each read of a stream ended: with the name of an exception, or with `returned`."""
        self.open: int = 0
        """How many streams were entered and not left."""
        self.calls: int = 0
        """How many calls reached this probe."""
        self.left_open: int = 0
        """How many streams of the inner probe were still open after a stream of this probe had been left."""
        self._inner = inner

    @hookimpl
    def trunkline_middleware(self, context: ServiceContext[Settings]) -> Middleware:
        """Take part in the calls."""
        return self

    async def noted(self, awaitable: Awaitable[T]) -> T:
        """Wait for something, and note how it ended."""
        try:
            result = await awaitable
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        self.ends.append("returned")
        return result

    def note_open_streams(self) -> None:
        """Note the streams of the inner probe that are open."""
        if self._inner is not None:
            self.left_open += self._inner.open

    async def chat(self, call: Call, request: ChatRequest, proceed: ChatProceed) -> ChatResponse:
        """Note how the call ends."""
        self.calls += 1
        return await self.noted(proceed(request))

    def stream(self, call: Call, request: ChatRequest, proceed: StreamProceed) -> EventStream:
        """Note how the stream is entered, read and left."""
        self.calls += 1
        return _ProbedStream(self, proceed(request))

    async def run(self, call: Call, operation: str, value: object, proceed: RunProceed) -> object:
        """Note how the call ends."""
        self.calls += 1
        return await self.noted(proceed(value))


class _ProbedStream:
    # No generator: it would be closed late, like that of the extension, if the extension drops it.
    def __init__(self, probe: Probe, stream: EventStream) -> None:
        self._probe = probe
        self._stream = stream

    async def __aenter__(self) -> AsyncIterator[Event]:
        try:
            events = await self._probe.noted(self._stream.__aenter__())
        except BaseException:
            self._probe.note_open_streams()
            raise
        self._probe.open += 1
        return _ProbedEvents(self._probe, events)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._probe.open -= 1
        try:
            return await self._stream.__aexit__(kind, error, traceback)
        finally:
            self._probe.note_open_streams()


class _ProbedEvents:
    def __init__(self, probe: Probe, events: AsyncIterator[Event]) -> None:
        self._probe = probe
        self._events = events

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await self._probe.noted(self._events.__anext__())
