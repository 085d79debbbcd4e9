"""The Protocols that a provider implements, and `Provider`, which bundles the implementations.

Only `Auth.acquire`, the context managers and `Transport.send` may do I/O or wait. All other methods are pure: they do
no I/O and read no clock, so they can be tested without a network.
"""

from __future__ import annotations

import inspect
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from functools import cache
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, runtime_checkable

import attrs
import pluggy

from trunkline._kept import KeptObjects
from trunkline.authoring.advice import Advice
from trunkline.authoring.batches import BatchLimits, BatchOutcome, BatchPage, BatchSubmission
from trunkline.authoring.rate_limits import NO_RATE_LIMITS, RateLimitHeaders
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.batches import Batch
from trunkline.errors import TrunklineError
from trunkline.events import Event, ResumePoint
from trunkline.messages import Audio, Document, Image
from trunkline.operations import (
    ImageRequest,
    ImageResponse,
    ModerationRequest,
    ModerationResponse,
    RerankRequest,
    RerankResponse,
    SpeechRequest,
    SpeechResponse,
    TranscriptionRequest,
    TranscriptionResponse,
)
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import CallWarning, ChatResponse, EmbedResponse, ModelInfo
from trunkline.secrets import Headers, Secret
from trunkline.settings import Settings

hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker("trunkline")
"""Decorator that marks a function as the implementation of a hook in `trunkline.hookspecs`."""

_log = logging.getLogger("trunkline")

T = TypeVar("T")
V_contra = TypeVar("V_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S", bound=Settings)
S_co = TypeVar("S_co", bound=Settings, covariant=True)
F_co = TypeVar("F_co", bound="bytes | HasData", covariant=True)
F_contra = TypeVar("F_contra", contravariant=True)


MediaClass: TypeAlias = type[Image] | type[Document] | type[Audio]
"""A kind of media, given as the class of its parts."""


@attrs.frozen(kw_only=True)
class ServiceContext(Generic[S_co]):
    """The service that a hook is called for.

    `name` is the name of the service, `provider` that of the provider. `transport` is the service's HTTP transport,
    with its proxy and its certificates; an `Auth` sends its token requests through it. It is open as long as the
    service is. It is `None` if no service was opened, for example in a test of a translator.
    """

    name: str
    provider: str
    settings: S_co
    transport: Transport | None = attrs.field(default=None, repr=False, eq=False)
    _kept: KeptObjects = attrs.field(factory=KeptObjects, alias="kept", repr=False, eq=False)

    def keep(self, kind: type[T], make: Callable[[], T]) -> T:
        """Return the service's object of the class `kind`; `make` creates it on the first call.

        A service may be used in several event loops, in several threads at once, and it calls the hooks for each loop.
        Use this for what is too expensive to have twice, such as a loaded model. The object must not belong to an event
        loop, and must be safe to use from several threads. The service drops it when it is closed.

        `make` runs once, whatever number of threads call this: the others wait for it. It should return soon, since
        their event loops wait too, so load the model later. If it raises, the next call tries again. After a fork, the
        child has no objects and makes its own.
        """
        return self._kept.get(kind, make)


@attrs.frozen(kw_only=True)
class Hop:
    """A call of one member of a composed service.

    `service` is the name of the composed service, and `kind` is `fallback`, `balance` or `limit`. `number` counts the
    members that were called for one call of the composed service, from 1. `error` is why the previous member did not
    serve it, and `None` for the first one.
    """

    service: str
    kind: str
    number: int
    error: TrunklineError | None = attrs.field(default=None, repr=False)


class CallGroup:
    """What several calls belong to, such as one run of tools: see `Call.group`.

    `number` is different for each group of the process. `operation` is what the calls are made for, such as
    `run_tools`, and `name` is the name that the application gave it, if any. `state` holds values that the extensions
    of all calls in the group share; begin each key with the name of your distribution.
    """

    def __init__(self, operation: str, name: str | None = None) -> None:
        self.number: int = next(_group_numbers)
        self.operation: str = operation
        self.name: str | None = name
        self.state: dict[str, object] = {}
        self._callbacks: list[Callable[[BaseException | None], None]] = []
        self._outcome: tuple[BaseException | None] | None = None

    def __repr__(self) -> str:
        return f"<CallGroup {self.number} of {self.operation}>"

    def on_end(self, callback: Callable[[BaseException | None], None]) -> None:
        """Call `callback` once when the group has ended, with its error or `None`; at once if it has ended already.

        A run of tools that was entered and is dropped without being left ends when Python collects it as garbage. The
        callback then runs in the event loop of the run, with `None`; if that loop has ended, it does not run.

        An exception that it raises is logged; it affects neither the group nor the other callbacks.
        """
        if self._outcome is None:
            self._callbacks.append(callback)
        else:
            _call_back(callback, self._outcome[0])

    def end(self, error: BaseException | None) -> None:
        """End the group. Ending it again does nothing."""
        if self._outcome is None:
            self._outcome = (error,)
            while self._callbacks:
                _call_back(self._callbacks.pop(0), error)


_group_numbers = itertools.count(1)


def _call_back(callback: Callable[[BaseException | None], None], error: BaseException | None) -> None:
    try:
        callback(error)
    except Exception as failed:
        # Without the text of the exception, which may contain a secret.
        _log.error("a callback of CallGroup.on_end failed: %s", type(failed).__name__)


@attrs.frozen(kw_only=True, eq=False)
class Call:
    """One call of a service, which its middlewares, observers, translator, `Auth` and parser share.

    `number` is different for each call of the process. `operation` is `chat`, `stream`, `embed`, `list_models`,
    `count_tokens`, `authenticate`, the name of another method of `Service`, or that of the `Operation` that
    `Service.run` was called with. `context` is the service. `state` holds values that they share; begin each key with
    the name of your distribution. It starts with the `state` of `Service.with_options`, in which the key `label` says
    whom the call is for.

    `hops` has one `Hop` for each composed service around this call, the outermost first. `group` is what this call and
    others belong to, such as one run of tools.

    Each call is equal only to itself, so it can be the key of a mapping.
    """

    number: int
    operation: str
    context: ServiceContext[Settings] = attrs.field(repr=False)
    state: dict[str, object] = attrs.field(factory=dict, repr=False)
    hops: tuple[Hop, ...] = ()
    group: CallGroup | None = attrs.field(default=None, repr=False)
    # One element for each request that was sent. A list, because a call that a middleware repeats is a copy of this one
    # with another number, and counts its requests here too.
    _sent: list[None] = attrs.field(factory=list, repr=False)

    @property
    def requests(self) -> int:
        """How many requests were sent, retries included. 0 while a call waits for credentials or for a limit."""
        return len(self._sent)

    def _count_request(self) -> None:
        self._sent.append(None)


call_variable: ContextVar[Call | None] = ContextVar("trunkline.current_call", default=None)
"""What `current_call` returns. Only the core sets it."""


def current_call() -> Call | None:
    """Return the call that is being made, or `None` outside of a call.

    For the parts of a provider, whose methods have no argument for it: `Translator.translate`, `Auth.acquire` and
    `sign`, `ResponseParser.stream`, `body` and `error`, and the functions of an `Operation`. If the parser of a stream
    needs the call, pass it in `ResponseParser.stream`: when its events are read, this function may return `None`.
    """
    return call_variable.get()


@attrs.frozen(kw_only=True)
class Translation:
    """A request in the provider's wire format, with warnings about what the wire format cannot express.

    `family` is the family of the model that the request goes to, such as `claude`, if the provider has several whose
    reasoning or signatures the others do not accept. The core sets it as the `family` of the response's parts.
    """

    wire_request: WireRequest
    warnings: tuple[CallWarning, ...] = ()
    family: str | None = None


@runtime_checkable
class Auth(Protocol):
    """Authenticates requests. An async context manager that is open as long as its service, in one event loop.

    The hook is called for each event loop in which the service is used, so locks and connections of an `Auth` belong to
    one loop. The context manager is entered by the first call and left by the task that closes the service. These may
    be different tasks, so no task group and no cancel scope may stay open in it. Entering is within the `total_timeout`
    of the call, and may be cancelled; the next call then enters a new `Auth`.
    """

    @property
    def secrets(self) -> tuple[str | Secret, ...]:
        """The secrets that it acquired and that are not in the settings, such as the current token and the one before.

        The core removes them from errors. It reads them from every `Auth` that an implementation of `trunkline_auth`
        returns, also from one that a hook wrapper puts into another. A value of another type, or a property that
        raises, is a `PluginError`, which replaces every error of the service.
        """
        ...

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *exc_info: object) -> bool | None: ...

    async def acquire(self, *, refresh: bool = False) -> object:
        """Return the credentials for the next attempt of a call. The core only passes them to `sign`.

        May do I/O. Should cache the credentials, and let all waiting calls share one refresh, as `CachedToken` does.
        `refresh` is true for the one attempt that follows a 401: cached credentials must not be used then.
        """
        ...

    def sign(self, wire_request: WireRequest, credentials: Any) -> WireRequest:
        """Return the request with the credentials added. Pure; called for each attempt."""
        ...


@runtime_checkable
class Translator(Protocol):
    """Translates requests to the provider's wire format."""

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """Translate a request. `request.model` is set, and the service's limits are applied already.

        Raises a `CallError`, such as `InvalidRequest`, if the request can never be sent to this provider.
        """
        ...


class HasData(Protocol):
    """A frame that has other fields in addition to its bytes, such as the type of an event."""

    @property
    def data(self) -> bytes: ...


class Framer(Protocol[F_co]):
    """Cuts the bytes of one stream into frames.

    A frame is `bytes`, or an object whose attribute `data` is the content. The core checks the limits for size and
    nesting.
    """

    def feed(self, data: bytes, /) -> Sequence[F_co]:
        """Take the next bytes of the stream and return the frames that they complete."""
        ...

    def finish(self) -> Sequence[F_co]:
        """Return the last frames. Called at the end of the stream."""
        ...


class Parser(Protocol[F_contra]):
    """Turns the frames of one stream into events."""

    def feed(self, frame: F_contra, /) -> list[Event]:
        """Return the events of one frame.

        Raises a `RemoteError` for an error that the stream carries, and `ProtocolViolation` for a frame that is not in
        the wire format.
        """
        ...

    def finish(self) -> list[Event]:
        """Handle the end of the stream. Called only if no `Finished` came.

        Returns the events that complete the stream, if its format allows it to end here. Raises `StreamInterrupted`
        otherwise.
        """
        ...


@runtime_checkable
class ResponseParser(Protocol):
    """Parses the provider's responses."""

    def stream(self) -> tuple[Framer[Any], Parser[Any]]:
        """Return a new framer and a new parser, for one stream."""
        ...

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """Parse the response of a call that was not streamed. Raises the same errors as `Parser.feed`."""
        ...

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error for a response with an error status. Must not raise, whatever the body is."""
        ...


class ByteStream(Protocol):
    """A response whose body has not been read. Iterating gives the chunks of the body, decompressed."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Headers:
        """The headers of the response, with names in lower case."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


def _unsigned(wire_request: WireRequest) -> WireRequest:
    return wire_request


@attrs.frozen(kw_only=True)
class SendOptions:
    """How `Transport.send` sends a request.

    `connect` and `headers` are limits in seconds: for making the connection, and for the headers of the response.

    `resend` allows the transport to send the request once more, on a new connection, if a connection that it reused
    breaks at once, before any byte of the response has arrived. The server has probably closed the idle connection, but
    it may also have read the request.

    `sign` is for a transport that sends further requests to answer one, as a `PollingTransport` does. It returns the
    request with the setting `headers` and with the same credentials as the first one, which is signed already. It
    raises `ProtocolViolation` for a request to another server: the URL may come from a response, and must not decide
    who gets the credentials. Without a service, it returns the request unchanged.
    """

    connect: float | None = None
    headers: float | None = None
    resend: bool = False
    sign: Callable[[WireRequest], WireRequest] = attrs.field(default=_unsigned, repr=False, eq=False)


@runtime_checkable
class Transport(Protocol):
    """Sends requests. An async context manager that is open as long as its service, in one event loop.

    The hook is called for each event loop in which the service is used. What all loops share, such as a loaded model,
    belongs in `ServiceContext.keep`.
    """

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *exc_info: object) -> bool | None: ...

    def send(self, wire_request: WireRequest, options: SendOptions) -> AbstractAsyncContextManager[ByteStream]:
        """Send a request. Leaving the returned context manager closes the response and its connection.

        Raises `ConnectionFailed`, `ConnectTimeout` or `FirstChunkTimeout`, and `StreamInterrupted` while the body is
        read.
        """
        ...


class Observer:
    """Observes calls, for telemetry, cost or audit. Override the methods you need; they must not block.

    `call` is the same object in all methods for one call. An observer sees the calls that reach the provider, with what
    the middlewares made of the request: no call if a middleware answered it, and several if one repeated it, each with
    a number of its own and the same `state`. An exception that an observer raises is logged; it affects
    neither the call nor the other observers.
    """

    def started(self, call: Call, context: ServiceContext[Settings], operation: str, request: object) -> None:
        """A call starts. `operation` is that of the call: `chat`, `stream`, `embed`, …

        `request` is a `ChatRequest` for `chat`, `stream` and `count_tokens`, an `EmbedRequest` for `embed`, `None` for
        `list_models` and `authenticate`, and the value of a `Service.run`. For the calls about batches, it is a
        `BatchRequests` for `submit_batch`, the limit for `list_batches`, and the `Batch` for the others.
        """

    def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
        """An attempt failed, and the next one is sent in `delay` seconds. Called before the wait."""

    def first_event(self, call: Call) -> None:
        """The first event of a stream has arrived."""

    def finished(self, call: Call, response: object) -> None:
        """The call succeeded."""

    def failed(self, call: Call, error: BaseException) -> None:
        """The call failed, or was cancelled."""

    def abandoned(self, call: Call, partial: ChatResponse) -> None:
        """A stream was left before its end, by the application or because the client of a web server disconnected.

        `partial` has what the application had read, and its usage.
        """


ModelPage: TypeAlias = tuple[tuple[ModelInfo, ...], str | None]
"""A page of a list of models, and the cursor of the next page, or `None` after the last one."""


@attrs.frozen(kw_only=True)
class Operation(Generic[V_contra, R_co]):
    """A request other than chat, as two pure functions.

    `build(context, value)` makes the request for a value, as a `WireRequest`, or as a `Translation` if there are
    warnings. `parse(context, wire_response)` returns the result of a response whose status is 2xx. Observers and
    middlewares see `name` as `Call.operation`.

    `repeatable` is false if the request must not be sent twice, because the server would do its work twice. It is then
    retried only if the server has certainly not accepted it: after a 401, a 429 and a `ConnectTimeout`.

    `has_lines` is true if the body of the response is a file with a JSON value on each line, which `parse` returns
    unread: the limits on the nesting and the size of JSON then do not apply to the file as a whole, and whoever reads a
    line applies them, as `trunkline.authoring.batches.ResultLines` does.

    `Service.run` sends any operation with the service's credentials, deadline and retries.
    """

    build: Callable[[ServiceContext[Any], V_contra], WireRequest | Translation]
    parse: Callable[[ServiceContext[Any], WireResponse], R_co]
    name: str = "run"
    repeatable: bool = True
    has_lines: bool = False

    def translation(self, context: ServiceContext[Any], value: V_contra) -> Translation:
        """Return what `build` makes, as a `Translation`."""
        built = self._not_async("build", self.build(context, value))
        translation = built if isinstance(built, Translation) else Translation(wire_request=built)
        made: Any = translation.wire_request
        if not isinstance(made, WireRequest):
            raise TypeError(f"build of {self.name!r} returned a value of type {type(made).__name__}, not a WireRequest")
        return translation

    def result(self, context: ServiceContext[Any], wire_response: WireResponse) -> R_co:
        """Return what `parse` returns."""
        return self._not_async("parse", self.parse(context, wire_response))

    def _not_async(self, function: str, value: T) -> T:
        if inspect.iscoroutine(value):
            value.close()
            raise TypeError(f"{function} of {self.name!r} is an async function; it must be an ordinary function")
        return value


@attrs.frozen(kw_only=True)
class BatchOperations:
    """The operations on batches. All functions are pure.

    `submit` returns the operations that submit a batch, one after another: each gets the submission with the result of
    the one before as `previous`, and the last one returns the `Batch`. Set `repeatable` of an operation to false if
    sending it twice would make two batches.

    `get`, `cancel` and the operations of `results` get a `Batch` of which only the `id` is certain for `get` and
    `cancel`; for `results` it is what `get` returned. `cancel` returns the batch, or `None` if the response does not
    describe it. `results` returns the operations whose outcomes together are the results.

    `translator` and `response_parser` are those of the requests in a batch, if they are not those of `chat`.
    """

    limits: BatchLimits
    submit: Callable[[ServiceContext[Any], BatchSubmission], Sequence[Operation[BatchSubmission, Any]]]
    get: Operation[Batch, Batch]
    results: Callable[[ServiceContext[Any], Batch], Sequence[Operation[Batch, Iterable[BatchOutcome]]]]
    cancel: Operation[Batch, Batch | None]
    list: Operation[str | None, BatchPage] | None = None
    translator: Callable[[ServiceContext[Any]], Translator] | None = None
    response_parser: Callable[[ServiceContext[Any]], ResponseParser] | None = None


@attrs.frozen(kw_only=True)
class StreamOperation(Generic[V_contra]):
    """A request other than chat whose response is a stream of events, as two pure functions.

    `build(context, value)` makes the request. `stream(context, value)` returns a new framer and a new parser for its
    response. Errors are read by the service's `ResponseParser`.
    """

    build: Callable[[ServiceContext[Any], V_contra], WireRequest]
    stream: Callable[[ServiceContext[Any], V_contra], tuple[Framer[Any], Parser[Any]]]


@attrs.frozen(kw_only=True)
class Operations:
    """The operations of a provider other than chat. An operation that is `None` raises `UnsupportedOperation`.

    `list_models` is built from the cursor of the page; that of the first page is `None`. `embed` parses the vectors in
    the order of the inputs; the core checks that there is one for each. Their names are those of the fields.

    `model_info` takes the name of a model, and returns what the provider reports about it. The core uses it for
    settings that are `"auto"`. A provider needs it only if its list of models has no limits, or lacks names that
    requests may use, such as aliases; otherwise the core looks the model up in the list.

    `get_response` and `cancel_response` take the id of a response that runs in the background, and return its present
    state. `resume_stream` takes a `ResumePoint` that the parser of a stream has returned.

    `batches` are the operations on batches: see `trunkline.authoring.batches`.

    `rerank`, `transcribe`, `generate_speech`, `generate_images` and `moderate` are the methods of `Service` with these
    names. The core checks the ranking, and that there is a result for each input and at least one image.
    """

    list_models: Operation[str | None, ModelPage] | None = None
    embed: Operation[EmbedRequest, EmbedResponse] | None = None
    count_tokens: Operation[ChatRequest, int] | None = None
    model_info: Operation[str, ModelInfo] | None = None
    get_response: Operation[str, ChatResponse] | None = None
    cancel_response: Operation[str, ChatResponse] | None = None
    resume_stream: StreamOperation[ResumePoint] | None = None
    batches: BatchOperations | None = None
    rerank: Operation[RerankRequest, RerankResponse] | None = None
    transcribe: Operation[TranscriptionRequest, TranscriptionResponse] | None = None
    generate_speech: Operation[SpeechRequest, SpeechResponse] | None = None
    generate_images: Operation[ImageRequest, ImageResponse] | None = None
    moderate: Operation[ModerationRequest, ModerationResponse] | None = None


def _no_transport(context: ServiceContext[Any]) -> Transport | None:
    return None


def _chat_only(context: ServiceContext[Any]) -> Operations:
    return Operations()


def _no_rate_limits(context: ServiceContext[Any]) -> RateLimitHeaders:
    return NO_RATE_LIMITS


def _no_advice(context: ServiceContext[Any], error: TrunklineError) -> Advice | None:
    return None


@attrs.frozen(kw_only=True, eq=False)
class Provider:
    """A provider, described by its parts. The entry point of a plugin names one; pluggy calls its hooks.

    `name` is the name that `open_service` takes, and must equal that of the entry point. `settings` is the class of its
    settings. Each other part is a function of the `ServiceContext` that is called once, when a service opens.
    `bytes_only_media` lists the types of media that the provider does not accept by URL: the core fetches them if the
    setting `fetch_urls` allows it. `advice` returns what to do about an error: see `trunkline.authoring.advice`.
    `rate_limits` returns the names of the headers about rate limits: see `trunkline.authoring.rate_limits`.

    Use `lazy_provider` to import the modules of the parts only when a service opens.
    """

    name: str = attrs.field(validator=attrs.validators.min_len(1))
    settings: type[Settings]
    auth: Callable[[ServiceContext[Any]], Auth]
    translator: Callable[[ServiceContext[Any]], Translator]
    response_parser: Callable[[ServiceContext[Any]], ResponseParser]
    transport: Callable[[ServiceContext[Any]], Transport | None] = _no_transport
    operations: Callable[[ServiceContext[Any]], Operations] = _chat_only
    bytes_only_media: tuple[MediaClass, ...] = ()
    advice: Callable[[ServiceContext[Any], TrunklineError], Advice | None] = _no_advice
    rate_limits: Callable[[ServiceContext[Any]], RateLimitHeaders] = _no_rate_limits

    @hookimpl
    def trunkline_auth(self, context: ServiceContext[Any]) -> Auth:
        """Implements the hook."""
        return self.auth(context)

    @hookimpl
    def trunkline_translator(self, context: ServiceContext[Any]) -> Translator:
        """Implements the hook."""
        return self.translator(context)

    @hookimpl
    def trunkline_response_parser(self, context: ServiceContext[Any]) -> ResponseParser:
        """Implements the hook."""
        return self.response_parser(context)

    @hookimpl
    def trunkline_transport(self, context: ServiceContext[Any]) -> Transport | None:
        """Implements the hook."""
        return self.transport(context)


@attrs.frozen(kw_only=True)
class ProviderParts(Generic[S]):
    """The parts of a provider that `lazy_provider` loads: functions (or classes) that take a `ServiceContext`.

    `advice` also takes an error, and returns what to do about it: see `trunkline.authoring.advice`. `rate_limits` has
    the names of the provider's headers about rate limits: see `trunkline.authoring.rate_limits`.
    """

    auth: Callable[[ServiceContext[S]], Auth]
    translator: Callable[[ServiceContext[S]], Translator]
    response_parser: Callable[[ServiceContext[S]], ResponseParser]
    transport: Callable[[ServiceContext[S]], Transport | None] = _no_transport
    operations: Callable[[ServiceContext[S]], Operations] = _chat_only
    advice: Callable[[ServiceContext[S], TrunklineError], Advice | None] = _no_advice
    rate_limits: RateLimitHeaders = NO_RATE_LIMITS


def lazy_provider(
    *,
    name: str,
    settings: type[S],
    load: Callable[[], ProviderParts[S]],
    bytes_only_media: tuple[MediaClass, ...] = (),
) -> Provider:
    """Create a `Provider` whose modules are imported when its first service opens.

    `load` imports the modules and returns the parts; it is called once. The module that calls `lazy_provider` should
    import only the settings, so that listing and configuring providers stays fast.
    """
    parts = cache(load)
    return Provider(
        name=name,
        settings=settings,
        auth=lambda context: parts().auth(context),
        translator=lambda context: parts().translator(context),
        response_parser=lambda context: parts().response_parser(context),
        transport=lambda context: parts().transport(context),
        operations=lambda context: parts().operations(context),
        advice=lambda context, error: parts().advice(context, error),
        rate_limits=lambda context: parts().rate_limits,
        bytes_only_media=bytes_only_media,
    )
