"""Record the HTTP exchanges of an application with its providers, and replay them in tests.

    with trunkline.testing.record("weather.json"):      # once, against the real provider
        await ask_about_the_weather()

    with trunkline.testing.replay("weather.json"):      # from then on: no network, no credentials
        await ask_about_the_weather()

Every service that opens inside the block is recorded, or answered from the recording. To record or replay a single
service, pass the recorder or player as an extension: `open_service(…, extensions=[replay("weather.json")])`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Generator
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from trunkline import errors
from trunkline._plugins.registry import extension_in_every_service
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.provider import Auth, ByteStream, SendOptions, ServiceContext, Transport, hookimpl
from trunkline.authoring.wire import WireRequest
from trunkline.errors import RemoteError, TrunklineError
from trunkline.secrets import Headers, Secret
from trunkline.testing.recordings import (
    COMPLETE,
    RecordedExchange,
    RecordingMismatch,
    describe,
    describe_response,
    match,
    read,
    write,
)


def record(path: str | os.PathLike[str]) -> Recorder:
    """Record into the file `path`. An existing file is replaced.

    Credentials are redacted: the service's secrets wherever they occur, and each header and query parameter whose name
    suggests a credential. The conversation itself is recorded, so read the file before you commit it.
    """
    return Recorder(Path(path))


def replay(path: str | os.PathLike[str]) -> Player:
    """Answer requests from the recording in the file `path`. Nothing is sent, and no credentials are needed.

    A request is answered by the first unused exchange with the same method, URL and body. A request without such an
    exchange raises `RecordingMismatch`, which shows the difference. Leaving the block while exchanges are unused raises
    it too. Required settings must be set, but any value will do: the recording does not contain them.
    """
    return Player(Path(path))


class _Tape:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.exchanges: list[RecordedExchange] = []
        self._stack = ExitStack()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path.name}: {len(self.exchanges)} exchanges>"

    def __enter__(self) -> Self:
        self._stack.enter_context(extension_in_every_service(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()


class Recorder(_Tape):
    """The return value of `record`: a context manager and an extension."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._auths: dict[str, Auth] = {}
        self._secrets: dict[str, None] = {}

    @hookimpl(wrapper=True)
    def trunkline_auth(self, context: ServiceContext[Any]) -> Generator[None, Auth, Auth]:
        """Remember the service's `Auth`, whose secrets must not be in the file."""
        auth = yield
        self._auths[context.name] = auth
        return auth

    @hookimpl(wrapper=True)
    def trunkline_transport(self, context: ServiceContext[Any]) -> Generator[None, Transport | None, Transport | None]:
        """Record the exchanges of the service's transport."""
        transport = yield
        return None if transport is None else _RecordingTransport(self, context, transport)

    def secrets(self, context: ServiceContext[Any]) -> tuple[str, ...]:
        """All secrets of the recorded services so far, including this one."""
        acquired: tuple[str | Secret, ...] = getattr(self._auths.get(context.name), "secrets", ())
        texts = (secret.reveal() if isinstance(secret, Secret) else secret for secret in acquired)
        known = (*context.settings.secrets(), *texts)
        self._secrets.update(dict.fromkeys(known))
        return tuple(self._secrets)

    def save(self) -> None:
        """Write the file."""
        write(self.path, self.exchanges, tuple(self._secrets))


class Player(_Tape):
    """The return value of `replay`: a context manager and an extension."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.exchanges: list[RecordedExchange] = read(path)
        """The recorded exchanges, in order."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        if error is None:
            self.check()

    @hookimpl(tryfirst=True)
    def trunkline_auth(self, context: ServiceContext[Any]) -> Auth:
        """Sign nothing, since replaying needs no credentials."""
        return NoAuth()

    @hookimpl(tryfirst=True)
    def trunkline_transport(self, context: ServiceContext[Any]) -> Transport:
        """Answer from the recording."""
        return _ReplayingTransport(self, context)

    def check(self) -> None:
        """Raise `RecordingMismatch` if an exchange of the recording was not used."""
        unused = [exchange for exchange in self.exchanges if not exchange.used]
        if unused:
            requests = ", ".join(f"{exchange.request['method']} {exchange.request['url']}" for exchange in unused)
            raise RecordingMismatch(
                f"{len(unused)} of the {len(self.exchanges)} exchanges of {self.path.name} were not used: {requests}"
            )


class _RecordingTransport:
    def __init__(self, tape: Recorder, context: ServiceContext[Any], transport: Transport) -> None:
        self._tape = tape
        self._context = context
        self._transport = transport

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> bool | None:
        return await self._transport.__aexit__(*exc_info)

    def send(self, wire_request: WireRequest, options: SendOptions) -> AbstractAsyncContextManager[ByteStream]:
        exchange = RecordedExchange(
            service=self._context.name, request=describe(wire_request, self._tape.secrets(self._context))
        )
        self._tape.exchanges.append(exchange)
        return _Recording(self._tape, exchange, self._transport.send(wire_request, options))


class _Recording:
    """A response that is recorded while it is read."""

    def __init__(
        self, tape: Recorder, exchange: RecordedExchange, inner: AbstractAsyncContextManager[ByteStream]
    ) -> None:
        self._tape = tape
        self._exchange = exchange
        self._inner = inner
        self._response: ByteStream
        self._chunks: AsyncIterator[bytes]

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Headers:
        return self._response.headers

    async def __aenter__(self) -> Self:
        try:
            self._response = await self._inner.__aenter__()
        except BaseException as error:
            self._end(error)
            self._tape.save()
            raise
        self._chunks = self._response.__aiter__()
        self._exchange.response = describe_response(self._response.status, self._response.headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            return await self._inner.__aexit__(kind, error, traceback)
        finally:
            self._tape.save()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._chunks.__anext__()
        except StopAsyncIteration:
            self._exchange.ended = COMPLETE
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._exchange.chunks.append(chunk)
        return chunk

    def _end(self, error: BaseException) -> None:
        # Other exceptions mean that the reader left: it was cancelled, or a timeout of the call expired.
        if isinstance(error, TrunklineError):
            self._exchange.ended = {"error": type(error).__name__, "message": str(error)}


class _ReplayingTransport:
    def __init__(self, tape: Player, context: ServiceContext[Any]) -> None:
        self._tape = tape
        self._context = context

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def send(self, wire_request: WireRequest, options: SendOptions) -> AbstractAsyncContextManager[ByteStream]:
        request = describe(wire_request, self._context.settings.secrets())
        return _Replay(match(request, self._tape.exchanges, self._tape.path), self._tape.path)


class _Replay:
    """A response from the recording."""

    def __init__(self, exchange: RecordedExchange, path: Path) -> None:
        self._exchange = exchange
        self._chunks = iter(exchange.chunks)
        self._path = path
        response = exchange.response or {}
        self.status: int = response.get("status", 0)
        self.headers = Headers(response.get("headers", {}))

    async def __aenter__(self) -> Self:
        if self._exchange.response is None:
            raise self._error()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        if self._exchange.ended == COMPLETE:
            raise StopAsyncIteration
        raise self._error()

    def _error(self) -> TrunklineError:
        ended = self._exchange.ended
        if isinstance(ended, str):
            return RecordingMismatch(
                f"{self._path.name}: the recording of this response ends here, because its reader stopped; record anew"
            )
        kind = getattr(errors, str(ended.get("error")), None)
        message = str(ended.get("message"))
        if isinstance(kind, type) and issubclass(kind, RemoteError):
            return kind(message)
        return RecordingMismatch(f"{self._path.name}: this response ended with {ended.get('error')}: {message}")
