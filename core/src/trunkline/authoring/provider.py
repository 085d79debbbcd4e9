"""The Protocols that a provider's steps follow, and `Provider`, the value that bundles them.

Everything here but `Auth.acquire`, the context managers and `Transport.send` is pure: no I/O, no clock, no waiting.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import attrs
import pluggy

from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import TrunklineError
from trunkline.events import Event
from trunkline.messages import Audio, Document, Image
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import CallWarning, ChatResponse, EmbedResponse, ModelInfo
from trunkline.settings import Settings

hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker("trunkline")
"""Marks a function as the implementation of one of the hooks in `trunkline.hookspecs`."""

Frame = TypeVar("Frame")
S = TypeVar("S", bound=Settings)
S_co = TypeVar("S_co", bound=Settings, covariant=True)
T = TypeVar("T")
A_contra = TypeVar("A_contra", contravariant=True)
F_co = TypeVar("F_co", bound="bytes | HasData", covariant=True)
F_contra = TypeVar("F_contra", contravariant=True)


@attrs.frozen(kw_only=True)
class ServiceContext(Generic[S_co]):
    """What a hook knows of the service that it is called for.

    `name` is the service's, `provider` the provider's. `transport` is the service's own HTTP transport, with its proxy
    and its certificate authorities: an `Auth` sends its token requests with it. It is open while the service is, and
    `None` only where no service was opened, as in a test of a translator.
    """

    name: str
    provider: str
    settings: S_co
    transport: Transport | None = attrs.field(default=None, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class Translation:
    """A request in the provider's wire format, and what could not be said in it."""

    wire_request: WireRequest
    warnings: tuple[CallWarning, ...] = ()


@runtime_checkable
class Auth(Protocol):
    """How requests are authenticated. An async context manager that lives as long as its service.

    `acquire` gives the credentials for the next request; it may wait and do I/O, caches what it found, and lets any
    number of waiting calls share one refresh. `refresh` is true for the one attempt after a 401: cached credentials
    are then not good enough. `sign` is pure. The context must hold no task group and no cancel scope open, since it is
    entered by the first call and left by whoever closes the service.

    An `Auth` that acquires secrets which the settings do not hold may have them, as strings, in a property `secrets`;
    the core takes them out of errors.
    """

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *exc_info: object) -> bool | None: ...

    async def acquire(self, *, refresh: bool = False) -> object:
        """The credentials, opaque to the core."""
        ...

    def sign(self, wire_request: WireRequest, credentials: Any) -> WireRequest:
        """The request with its credentials on it."""
        ...


@runtime_checkable
class Translator(Protocol):
    """Turns a request into the provider's wire format."""

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """Translate. `request.model` is set; limits are applied. Raises `CallError` for what can never be sent."""
        ...


class HasData(Protocol):
    """A frame that is more than its bytes."""

    @property
    def data(self) -> bytes: ...


class Framer(Protocol[F_co]):
    """Cuts bytes into frames.

    A frame is `bytes`, or has what it carries as `data`. The limits of size and nesting are the core's to keep.
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
    """Reads the provider's answers."""

    def stream(self) -> tuple[Framer[Any], Parser[Any]]:
        """A fresh framer and parser, for one stream."""
        ...

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """The response of a call that was not streamed. Raises as `Parser.feed` does."""
        ...

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """The error that a response with an error status tells of. It never raises."""
        ...


class ByteStream(Protocol):
    """An answer whose body is still to come: chunks of bytes, decompressed."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the answer, their names in lower case."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]: ...


@attrs.frozen(kw_only=True)
class Timeouts:
    """The limits, in seconds, that a transport keeps while it sends: for the connection, and for the headers."""

    connect: float | None = None
    headers: float | None = None


@runtime_checkable
class Transport(Protocol):
    """Carries wire requests. An async context manager that lives as long as its service."""

    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *exc_info: object) -> bool | None: ...

    def send(self, wire_request: WireRequest, timeouts: Timeouts) -> AbstractAsyncContextManager[ByteStream]:
        """Send a request. Leaving the returned context manager closes the answer and its connection.

        Raises `ConnectionFailed`, `ConnectTimeout` or `FirstChunkTimeout`, and `StreamInterrupted` while the body is
        read.
        """
        ...


class Observer:
    """Watches calls: telemetry, cost, audit. Override what is needed; nothing here may wait.

    `call` is the same number in each method of one call. An exception that an observer raises is logged, and stops
    neither the call nor the other observers.
    """

    def started(self, call: int, context: ServiceContext[Settings], operation: str, request: object) -> None:
        """A call begins: `chat`, `stream`, `embed`, `list_models`, `count_tokens` or `authenticate`."""

    def retried(self, call: int, error: TrunklineError, delay: float) -> None:
        """An attempt failed and another follows in `delay` seconds, or later where the retry budget is spent."""

    def first_event(self, call: int) -> None:
        """The first piece of the answer is here."""

    def finished(self, call: int, response: object) -> None:
        """The call succeeded."""

    def failed(self, call: int, error: BaseException) -> None:
        """The call failed, or was cancelled."""


@attrs.frozen(kw_only=True)
class ListModels:
    """How models are listed: `build(context, cursor)` asks for a page, `parse` reads it and gives the next cursor."""

    build: Callable[[ServiceContext[Any], str | None], WireRequest]
    parse: Callable[[ServiceContext[Any], WireResponse], tuple[tuple[ModelInfo, ...], str | None]]


@attrs.frozen(kw_only=True)
class Embed:
    """How texts are embedded: a pure pair."""

    build: Callable[[ServiceContext[Any], EmbedRequest], Translation]
    parse: Callable[[ServiceContext[Any], WireResponse], EmbedResponse]


@attrs.frozen(kw_only=True)
class CountTokens:
    """How the provider counts the tokens of a request: a pure pair."""

    build: Callable[[ServiceContext[Any], ChatRequest], Translation]
    parse: Callable[[ServiceContext[Any], WireResponse], int]


@attrs.frozen(kw_only=True)
class Operations:
    """What a provider offers besides chat. One that is `None` raises `UnsupportedOperation`."""

    list_models: ListModels | None = None
    embed: Embed | None = None
    count_tokens: CountTokens | None = None


def _no_transport(context: ServiceContext[Any]) -> Transport | None:
    return None


@attrs.frozen(kw_only=True, eq=False)
class Provider:
    """A provider as a plain value. Registered with pluggy it implements the hooks from its fields.

    Each field but `name`, `settings` and `operations` is a function of the `ServiceContext`, called once when a service
    opens. `operations` may be a function as well. `bytes_only_media`
    names the media that the wire cannot take by URL: the core fetches them where the setting `fetch_urls` allows it.
    """

    name: str
    settings: type[Settings]
    auth: Callable[[ServiceContext[Any]], Auth]
    translator: Callable[[ServiceContext[Any]], Translator]
    response_parser: Callable[[ServiceContext[Any]], ResponseParser]
    transport: Callable[[ServiceContext[Any]], Transport | None] = _no_transport
    operations: Operations | Callable[[ServiceContext[Any]], Operations] = Operations()
    bytes_only_media: tuple[type[Image] | type[Document] | type[Audio], ...] = ()

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

    def operations_for(self, context: ServiceContext[Any]) -> Operations:
        """The operations, as they are for these settings."""
        return _operations(self.operations, context)


@attrs.frozen(kw_only=True)
class ProviderParts(Generic[S]):
    """What `lazy_provider` loads: the class or function that makes each part of a provider from a `ServiceContext`."""

    auth: Callable[[ServiceContext[S]], Auth]
    translator: Callable[[ServiceContext[S]], Translator]
    response_parser: Callable[[ServiceContext[S]], ResponseParser]
    transport: Callable[[ServiceContext[S]], Transport | None] = _no_transport
    operations: Operations | Callable[[ServiceContext[S]], Operations] = Operations()


def lazy_provider(
    *,
    name: str,
    settings: type[S],
    load: Callable[[], ProviderParts[S]],
    bytes_only_media: tuple[type[Image] | type[Document] | type[Audio], ...] = (),
) -> Provider:
    """A `Provider` whose modules are imported when its first service opens.

    `load` imports them and returns the parts; it is called once. The module that calls `lazy_provider` thus imports the
    settings and nothing else, which keeps listing and configuring providers fast.
    """
    parts = cache(load)
    return Provider(
        name=name,
        settings=settings,
        auth=lambda context: parts().auth(context),
        translator=lambda context: parts().translator(context),
        response_parser=lambda context: parts().response_parser(context),
        transport=lambda context: parts().transport(context),
        operations=lambda context: _operations(parts().operations, context),
        bytes_only_media=bytes_only_media,
    )


def _operations(
    operations: Operations | Callable[[ServiceContext[S]], Operations], context: ServiceContext[S]
) -> Operations:
    return operations if isinstance(operations, Operations) else operations(context)
