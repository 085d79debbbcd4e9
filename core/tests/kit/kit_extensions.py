"""An extension that passes `ExtensionTests`, and broken ones that each break one rule."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import anyio
import attrs
from trunkline import (
    CallError,
    ChatRequest,
    ChatResponse,
    EmbedResponse,
    Event,
    EventMiddleware,
    Finished,
    FinishReason,
    InvalidRequest,
    Middleware,
    Observer,
    RemoteError,
    ResponseStarted,
    TextDelta,
    TrunklineError,
    hookimpl,
)
from trunkline.testing import ExtensionTests

SECRET = "the-secret-of-the-extension"


class Refused(CallError):
    """Not this."""


class Sound(EventMiddleware, Observer):
    """Makes texts louder, refuses some requests, and breaks no rule."""

    def __init__(self) -> None:
        self.names: dict[Any, str] = {}

    @hookimpl
    def trunkline_middleware(self, context: Any) -> Middleware | None:
        return self

    @hookimpl
    def trunkline_observer(self, context: Any) -> Observer | None:
        return self

    @contextlib.asynccontextmanager
    async def stream(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        self.check(request)
        async with proceed(request) as events, contextlib.aclosing(self.louder(request, events)) as louder:
            yield louder

    def check(self, request: ChatRequest) -> None:
        if "secret" in request.messages[-1].text:
            raise Refused("no secrets")

    async def louder(self, request: ChatRequest, events: Any) -> Any:
        async for event in events:
            yield self.loud(request, event)

    def loud(self, request: ChatRequest, event: Event) -> Event:
        return attrs.evolve(event, text=event.text.upper()) if isinstance(event, TextDelta) else event

    def started(self, call: Any, context: Any, operation: str, request: object) -> None:
        self.names[call] = operation

    def finished(self, call: Any, response: object) -> None:
        del self.names[call]

    def failed(self, call: Any, error: BaseException) -> None:
        del self.names[call]

    def abandoned(self, call: Any, partial: object) -> None:
        del self.names[call]


class Failing(Sound):
    async def run(self, call: Any, operation: str, value: object, proceed: Any) -> object:
        raise OSError("no disk")

    def check(self, request: ChatRequest) -> None:
        raise OSError("no disk")


class TestSound(ExtensionTests):
    refused = (ChatRequest(messages="A secret"),)
    secrets = (SECRET,)
    kind: type[Sound] = Sound
    failing: type[Sound] = Failing

    def extension(self) -> object:
        assert self.folder.is_dir()
        return self.kind()

    def failing_extension(self) -> object:
        return self.failing()


# Each class breaks the rule of one test.


class StreamsOnly(Sound):
    """`chat` passes unchanged."""

    chat = Middleware.chat


class LooksInPieces(Sound):
    """Looks for a word in each delta, where it is split."""

    async def chat(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        response = await super().chat(call, request, proceed)
        parts = [
            attrs.evolve(part, text=part.text.replace("SKY", "SEA")) if hasattr(part, "refusal") else part
            for part in response.parts
        ]
        return attrs.evolve(response, parts=tuple(parts))

    def loud(self, request: ChatRequest, event: Event) -> Event:
        event = super().loud(request, event)
        return attrs.evolve(event, text=event.text.replace("SKY", "SEA")) if isinstance(event, TextDelta) else event


class LosesWarnings(Sound):
    def loud(self, request: ChatRequest, event: Event) -> Event:
        event = super().loud(request, event)
        return attrs.evolve(event, warnings=()) if isinstance(event, ResponseStarted) else event


class LosesLastWarnings(Sound):
    async def louder(self, request: ChatRequest, events: Any) -> Any:
        async for event in events:
            yield Finished(reason=event.reason) if isinstance(event, Finished) else self.loud(request, event)


class KeepsRequest(Sound):
    """Keeps what belongs to a call in the extension."""

    last: ChatRequest

    def check(self, request: ChatRequest) -> None:
        super().check(request)
        self.last = request

    def loud(self, request: ChatRequest, event: Event) -> Event:
        event = super().loud(request, event)
        text = self.last.messages[-1].text
        return attrs.evolve(event, text=f"{event.text} {text}") if isinstance(event, TextDelta) else event


class CachesOne(Sound):
    """A cache with a constant key."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[object, list[Event]] = {}

    async def louder(self, request: ChatRequest, events: Any) -> Any:
        key, louder = self.key(request), super().louder(request, events)
        if key not in self.kept:
            self.kept[key] = [event async for event in louder]
        for event in self.kept[key]:
            yield event

    def key(self, request: ChatRequest) -> object:
        return "key"


class CachesByLastText(CachesOne):
    def key(self, request: ChatRequest) -> object:
        return request.messages[-1].text


class CachesByMessages(CachesOne):
    def key(self, request: ChatRequest) -> object:
        return str(request.messages)


class OtherError(Sound):
    async def chat(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        try:
            return await super().chat(call, request, proceed)
        except RemoteError as error:
            raise InvalidRequest(error.message) from None


class FallsBack(Sound):
    async def run(self, call: Any, operation: str, value: object, proceed: Any) -> object:
        try:
            return await proceed(value)
        except TrunklineError:
            return EmbedResponse(embeddings=((0.0,),))


class EndsWell(Sound):
    """Turns an error in a stream into its end."""

    async def louder(self, request: ChatRequest, events: Any) -> Any:
        try:
            async for event in events:
                yield self.loud(request, event)
        except RemoteError:
            yield Finished(reason=FinishReason.OTHER)


class RefusesLate(Sound):
    """Sends the request that it refuses."""

    @contextlib.asynccontextmanager
    async def stream(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        async with proceed(request) as events:
            self.check(request)
            yield events


class RefusesPlainly(Sound):
    def check(self, request: ChatRequest) -> None:
        if "secret" in request.messages[-1].text:
            raise InvalidRequest("no secrets")


class RefusesWithOwnException(Sound):
    def check(self, request: ChatRequest) -> None:
        if "secret" in request.messages[-1].text:
            raise ValueError("no secrets")


class RefusesChatOnly(Sound):
    async def chat(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        Sound.check(self, request)
        return await super().chat(call, request, proceed)

    def check(self, request: ChatRequest) -> None:
        pass


class FailsQuietly(Sound):
    """Does its work without what it needs."""


class FailsWithSecret(Sound):
    def check(self, request: ChatRequest) -> None:
        raise OSError(SECRET)

    async def run(self, call: Any, operation: str, value: object, proceed: Any) -> object:
        raise OSError("no disk")


class DropsGenerator(Sound):
    """Its generator has the stream open, and is not closed."""

    @contextlib.asynccontextmanager
    async def stream(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        async def events() -> Any:
            async with proceed(request) as inner:
                async for event in inner:
                    yield event

        self.check(request)
        yield events()


class NeverLeaves(Sound):
    @contextlib.asynccontextmanager
    async def stream(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        self.check(request)
        yield await proceed(request).__aenter__()


class LeavesOnlyAfterSuccess(Sound):
    @contextlib.asynccontextmanager
    async def stream(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        self.check(request)
        stream = proceed(request)
        yield await stream.__aenter__()
        await stream.__aexit__(None, None, None)


class LeavesAfterExceptions(Sound):
    """Leaves the stream after an error, but not after a cancellation."""

    @contextlib.asynccontextmanager
    async def stream(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        self.check(request)
        stream = proceed(request)
        try:
            yield await stream.__aenter__()
        except Exception:
            await stream.__aexit__(None, None, None)
            raise
        await stream.__aexit__(None, None, None)


class SwallowsCancellation(Sound):
    async def chat(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        try:
            return await super().chat(call, request, proceed)
        except BaseException as error:
            if isinstance(error, Refused):
                raise
            return ChatResponse(parts=(), finish_reason=FinishReason.OTHER)


class RenamesCancellation(Sound):
    async def run(self, call: Any, operation: str, value: object, proceed: Any) -> object:
        try:
            return await proceed(value)
        except anyio.get_cancelled_exc_class():
            raise Refused("cancelled") from None


class ShieldsForever(Sound):
    async def run(self, call: Any, operation: str, value: object, proceed: Any) -> object:
        with anyio.CancelScope(shield=True):
            return await proceed(value)


class ScopeInStream(Sound):
    @contextlib.asynccontextmanager
    async def stream(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        self.check(request)
        with anyio.move_on_after(60):
            async with proceed(request) as events:
                yield events


class ScopeInEvents(Sound):
    async def louder(self, request: ChatRequest, events: Any) -> Any:
        with anyio.move_on_after(60):
            async for event in events:
                yield self.loud(request, event)


class TasksInStream(Sound):
    @contextlib.asynccontextmanager
    async def stream(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        self.check(request)
        async with anyio.create_task_group(), proceed(request) as events:
            yield events


class AsyncioTimeoutInStream(Sound):
    @contextlib.asynccontextmanager
    async def stream(self, call: Any, request: ChatRequest, proceed: Any) -> Any:
        self.check(request)
        async with asyncio.timeout(60), proceed(request) as events:
            yield events


class AsyncioTasksInEvents(Sound):
    async def louder(self, request: ChatRequest, events: Any) -> Any:
        async with asyncio.TaskGroup():
            async for event in events:
                yield self.loud(request, event)


class ShowsSecret(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.key = SECRET


class ShowsSecretAfterCall(Sound):
    def started(self, call: Any, context: Any, operation: str, request: object) -> None:
        super().started(call, context, operation, request)
        self.key = SECRET


class ObserverExpectsChats(Sound):
    def started(self, call: Any, context: Any, operation: str, request: Any) -> None:
        super().started(call, context, operation, request)
        assert request.messages


class ObserverForgetsAbandoned(Sound):
    """Waits for the end of each call, and knows only two ends."""

    def abandoned(self, call: Any, partial: Any) -> None:
        raise KeyError(call)


class AnswersOddly(Sound):
    """Knows only some events."""

    def loud(self, request: ChatRequest, event: Event) -> Event:
        assert not hasattr(event, "part")
        return super().loud(request, event)
