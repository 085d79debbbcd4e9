"""Middlewares: what they may do to a call, what they are told, and what becomes of their mistakes."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import attrs
import pytest
from trunkline import (
    Call,
    CallError,
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    EmbedResponse,
    Event,
    EventMiddleware,
    Finished,
    FinishReason,
    InvalidRequest,
    Middleware,
    Observer,
    Operation,
    PluginError,
    RateLimited,
    ResponseStarted,
    ServerError,
    ServiceClosed,
    StreamClosed,
    StreamInterrupted,
    Text,
    TextDelta,
    TotalTimeout,
    hookimpl,
    open_service,
    user,
)
from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.middleware import EventStream, response_events
from trunkline.authoring.provider import Operations, Translation, current_call
from trunkline.authoring.wire import WireRequest
from trunkline.fold import fold
from trunkline.secrets import Headers
from trunkline.testing import Exchange, serve

from .conftest import make_toy

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

Toy = Callable[..., Any]

LINES = {"content-type": "application/x-ndjson"}
CHUNK = b'{"open": true, "text": "Hello"}\n'
END = b'{"done": true}\n'


async def answer(exchange: Exchange) -> None:
    target = exchange.request.target
    if target == "/embed":
        await exchange.respond(b"[[1.0, 2.0]]")
    elif target.startswith("/models"):
        await exchange.respond(b'{"models": ["a", "b"], "next": null}')
    elif loads(exchange.request.body)["stream"]:
        await exchange.start(headers=LINES)
        await exchange.chunk(CHUNK)
        await exchange.chunk(END)
        await exchange.end()
    else:
        await exchange.respond(b'{"text": "Hello"}')


async def hang_after_the_first_chunk(exchange: Exchange) -> None:
    await exchange.start(headers=LINES)
    await exchange.chunk(CHUNK)
    await exchange.hung_up()


async def never_answer(exchange: Exchange) -> None:
    await exchange.hung_up()


class Extension:
    """An extension with middlewares or observers."""

    def __init__(self, middleware: Any = None, observer: Observer | None = None) -> None:
        self.middleware = middleware
        self.observer = observer

    @hookimpl
    def trunkline_middleware(self, context: Any) -> Any:
        return self.middleware

    @hookimpl
    def trunkline_observer(self, context: Any) -> Observer | None:
        return self.observer


class Second(Extension):
    """Another extension."""


class Heard(Observer):
    """Notes what it hears, and of which call."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, object]] = []
        self.calls: list[Call] = []

    def started(self, call: Call, context: Any, operation: str, request: object) -> None:
        self.calls.append(call)
        self.heard.append(("started", request))

    def finished(self, call: Call, response: object) -> None:
        self.heard.append(("finished", response))

    def failed(self, call: Call, error: BaseException) -> None:
        self.heard.append(("failed", type(error)))

    def abandoned(self, call: Call, partial: ChatResponse) -> None:
        self.heard.append(("abandoned", partial.text))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.heard]


class Louder(EventMiddleware):
    """Asks louder and answers louder."""

    @contextlib.asynccontextmanager
    async def stream(
        self, call: Call, request: ChatRequest, proceed: Callable[[ChatRequest], EventStream]
    ) -> AsyncIterator[AsyncIterator[Event]]:
        async with proceed(attrs.evolve(request, seed=None, messages=[user("HEY")])) as events:

            async def louder() -> AsyncIterator[Event]:
                async for event in events:
                    yield attrs.evolve(event, text=event.text.upper()) if isinstance(event, TextDelta) else event

            async with contextlib.aclosing(louder()) as changed:
                yield changed


class PassesOn(Middleware):
    """Passes everything on, in methods of its own."""

    async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
        response: ChatResponse = await proceed(request)
        return response

    @contextlib.asynccontextmanager
    async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
        async with proceed(request) as events:
            yield events

    async def run(self, call: Call, operation: str, value: object, proceed: Any) -> object:
        return await proceed(value)


class Suffix(Middleware):
    """Adds a text to the response of a chat, so that the order of several shows."""

    def __init__(self, suffix: str) -> None:
        self.suffix = suffix

    async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
        response: ChatResponse = await proceed(request)
        return attrs.evolve(response, parts=(Text(text=response.text + self.suffix),))


async def finish(service: Any, *args: Any, **params: Any) -> ChatResponse:
    async with service.stream(*args, **params) as stream:
        response: ChatResponse = await stream.finish()
    return response


async def ask(service: Any, call: str) -> ChatResponse:
    """Make a call of `chat` or `stream`, and return its response."""
    response: ChatResponse = await (service.chat("Hi") if call == "chat" else finish(service, "Hi"))
    return response


BOTH = pytest.mark.parametrize("call", ["chat", "stream"])


@BOTH
async def test_middleware_changes_the_request_and_the_response(toy: Toy, call: str) -> None:
    heard = Heard()
    async with serve(answer) as server, toy(server.url, extensions=[Extension(Louder(), heard)]) as service:
        response = await ask(service, call)
    assert (response.text, response.provider, response.service) == ("HELLO", "toy", "toy")
    assert loads(server.requests[0].body)["text"] == ["HEY"]
    assert heard.names == ["started", "finished"]
    sent, received = heard.heard[0][1], heard.heard[1][1]
    assert isinstance(sent, ChatRequest)
    assert isinstance(received, ChatResponse)
    assert (sent.messages[0].text, received.text) == ("HEY", "Hello")


async def test_first_middleware_is_the_outermost(toy: Toy) -> None:
    extensions = [Extension(Suffix("1")), Second(Suffix("2"))]
    async with serve(answer) as server, toy(server.url, extensions=extensions) as service:
        assert (await service.chat("Hi")).text == "Hello21"
    async with serve(answer) as server, toy(server.url, extensions=extensions[::-1]) as service:
        assert (await service.chat("Hi")).text == "Hello12"


async def test_event_middleware_keeps_warnings_logprobs_and_metadata_of_a_chat(toy: Toy) -> None:
    async with serve(answer) as server:
        async with toy(server.url) as service:
            plain = await service.chat("Hi", seed=3)
        async with toy(server.url, extensions=[Extension(EventMiddleware())]) as service:
            assert await service.chat("Hi", seed=3) == plain
    assert plain.warnings


@BOTH
async def test_answer_of_a_middleware_is_no_call_to_the_provider(toy: Toy, call: str) -> None:
    kept = ChatResponse(parts=(Text(text="Kept"),), finish_reason=FinishReason.STOP)

    class Cache(Middleware):
        async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
            assert request.model == "toy-1"
            return kept

        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            yield response_events(kept)

    heard = Heard()
    async with serve(answer) as server, toy(server.url, extensions=[Extension(Cache(), heard)]) as service:
        response = await ask(service, call)
    assert (response.text, response.provider, response.service) == ("Kept", "toy", "toy")
    assert not heard.heard
    assert not server.requests


@BOTH
async def test_middleware_may_call_the_provider_again(toy: Toy, call: str) -> None:
    class Again(Middleware):
        async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
            try:
                response: ChatResponse = await proceed(request)
            except ServerError:
                response = await proceed(request)
            return response

        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            stream = proceed(request)
            try:
                events = await stream.__aenter__()
            except ServerError:
                stream = proceed(request)
                events = await stream.__aenter__()
            try:
                yield events
            finally:
                await stream.__aexit__(None, None, None)

    async def fail_once(exchange: Exchange) -> None:
        await (exchange.respond(b"no", status=500) if exchange.number == 1 else answer(exchange))

    heard = Heard()
    extensions = [Extension(Again(), heard)]
    async with serve(fail_once) as server, toy(server.url, extensions=extensions, max_retries=0) as service:
        assert (await ask(service, call)).text == "Hello"
    assert heard.names == ["started", "failed", "started", "finished"]
    first, second = heard.calls
    assert first.number != second.number
    assert first.state is second.state


async def test_all_who_take_part_in_a_call_share_its_state(toy: Toy) -> None:
    seen: list[object] = []

    def note() -> None:
        call = current_call()
        assert call is not None
        seen.append(call.state["greeting"])

    class Greets(Middleware):
        async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
            call.state["greeting"] = "hello"
            response: ChatResponse = await proceed(request)
            return response

        def stream(self, call: Call, request: ChatRequest, proceed: Any) -> EventStream:
            call.state["greeting"] = "hello"
            stream: EventStream = proceed(request)
            return stream

    plain = toy("http://localhost")._provider

    class Translator:
        def __init__(self, context: Any) -> None:
            self.plain = plain.translator(context)

        def translate(self, request: ChatRequest, *, stream: bool) -> Any:
            note()
            return self.plain.translate(request, stream=stream)

    class Parser:
        def __init__(self, context: Any) -> None:
            self.plain = plain.response_parser(context)
            self.error = self.plain.error

        def stream(self) -> Any:
            note()
            return self.plain.stream()

        def body(self, wire_response: Any) -> ChatResponse:
            note()
            return self.plain.body(wire_response)

    class Auth(HeaderAuth):
        async def acquire(self, *, refresh: bool = False) -> Any:
            note()
            return await super().acquire(refresh=refresh)

        def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
            note()
            return super().sign(wire_request, credentials)

    class Listens(Observer):
        def finished(self, call: Call, response: object) -> None:
            seen.append(call.state["greeting"])

    changes = {
        "translator": Translator,
        "response_parser": Parser,
        "auth": lambda context: Auth("authorization", "key"),
    }
    extensions = [Extension(Greets(), Listens())]
    async with serve(answer) as server, toy(server.url, changes, extensions=extensions) as service:
        for call in ("chat", "stream"):
            await ask(service, call)
            assert seen == ["hello"] * 5
            assert current_call() is None
            seen.clear()


async def test_other_operations_pass_through_run(toy: Toy) -> None:
    seen: list[tuple[str, object]] = []

    class Notes(Middleware):
        async def run(self, call: Call, operation: str, value: object, proceed: Any) -> object:
            seen.append((operation, value))
            assert call.operation == operation
            return await proceed(value)

    async def echo(exchange: Exchange) -> None:
        await (exchange.respond(exchange.request.body) if exchange.request.target == "/echo" else answer(exchange))

    operation: Operation[int, int] = Operation(
        build=lambda context, value: WireRequest(url=f"{context.settings.url}/echo", body=dumps(value)),
        parse=lambda context, response: int(loads(response.body)) + 1,
        name="add",
    )
    async with serve(echo) as server, toy(server.url, extensions=[Extension(Notes())]) as service:
        assert [model.id for model in await service.list_models()] == ["a", "b"]
        assert (await service.embed("Hi")).embeddings == ((1.0, 2.0),)
        assert await service.run(operation, 41) == 42
        await service.authenticate()
    assert [name for name, _ in seen] == ["list_models", "embed", "add"]
    assert isinstance(seen[1][1], EmbedRequest)
    assert server.requests[-1].headers["authorization"] == "Bearer toy-secret-key"


async def test_error_in_an_own_operation_names_its_module(toy: Toy) -> None:
    operation: Operation[None, None] = Operation(
        build=lambda context, value: WireRequest(url=f"{context.settings.url}/embed"),
        parse=lambda context, response: 1 / 0,  # type: ignore[arg-type,return-value]
    )
    async with serve(answer) as server, toy(server.url) as service:
        with pytest.raises(PluginError, match=r"an operation of the module \S*test_core_middleware failed: ZeroDiv"):
            await service.run(operation, None)


def embed_request(context: Any, value: object) -> WireRequest:
    return WireRequest(url=f"{context.settings.url}/embed")


async def async_function(context: Any, value: object) -> None:
    pass


@pytest.mark.parametrize("operation", [None, embed_request], ids=["none", "function"])
async def test_run_refuses_what_is_no_operation(toy: Toy, operation: Any) -> None:
    async with toy("http://localhost:1") as service:
        with pytest.raises(InvalidRequest, match="run takes an Operation, not"):
            await service.run(operation, None)


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (
            Operation(build=lambda context, value: None, parse=loads),
            r"build of 'run' returned a value of type NoneType",
        ),
        (Operation(build=lambda context, value: Translation(wire_request="x"), parse=loads), r"value of type str"),
        (
            Operation(
                build=lambda context, value: Translation(wire_request=embed_request(context, value), warnings=None),
                parse=loads,
            ),
            r"'NoneType' object is not iterable",
        ),
        (Operation(build=embed_request, parse=None), r"'NoneType' object is not callable"),
        (
            Operation(build=embed_request, parse=partial(lambda zero, *_: 1 / zero, 0)),
            r"test_core_middleware failed: ZeroDivisionError",
        ),
        (Operation(build=async_function, parse=loads), r"build of 'run' is an async function"),
        (Operation(build=embed_request, parse=async_function), r"parse of 'run' is an async function"),
    ],
    ids=["no request", "text as request", "no warnings", "no parse", "partial", "async build", "async parse"],
)
async def test_wrong_operation_is_a_plugin_error(toy: Toy, operation: Any, message: str) -> None:
    for extensions in ([], [Extension(PassesOn())]):
        async with serve(answer) as server, toy(server.url, extensions=extensions) as service:
            with pytest.raises(PluginError, match=rf"an operation of the module .*{message}"):
                await service.run(operation, None)


@pytest.mark.parametrize("name", ["chat", "embed", "list_models", "count_tokens"])
async def test_own_operation_may_have_the_name_of_another(toy: Toy, name: str) -> None:
    operation: Operation[str, str] = Operation(build=embed_request, parse=lambda context, response: "done", name=name)
    async with serve(answer) as server, toy(server.url, extensions=[Extension(PassesOn())]) as service:
        assert await service.run(operation, "value") == "done"


# Mistakes


class Broken(Middleware):
    """Fails in every method, without having called the provider."""

    async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
        raise ValueError("toy-secret-key is wrong")

    @contextlib.asynccontextmanager
    async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
        raise ValueError("toy-secret-key is wrong")
        yield

    async def run(self, call: Call, operation: str, value: object, proceed: Any) -> object:
        raise ValueError("toy-secret-key is wrong")


@pytest.mark.parametrize("call", ["chat", "stream", "embed"])
async def test_exception_of_a_middleware_names_its_extension(toy: Toy, call: str) -> None:
    async with serve(answer) as server, toy(server.url, extensions=[Extension(Broken())]) as service:
        with pytest.raises(PluginError, match=r"'toy': a middleware of Extension failed: ValueError") as caught:
            await (service.embed("Hi") if call == "embed" else ask(service, call))
    assert "toy-secret-key" not in str(caught.value)
    assert caught.value.service == "toy"


@BOTH
async def test_middleware_refuses_with_an_error_of_its_own(toy: Toy, call: str) -> None:
    class Refused(CallError):
        pass

    class Guard(EventMiddleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            raise Refused("not this question")
            yield

    async with serve(answer) as server, toy(server.url, extensions=[Extension(Guard())]) as service:
        with pytest.raises(Refused, match="not this question") as caught:
            await ask(service, call)
    assert caught.value.service == "toy"
    assert not server.requests


class Bad(Middleware):
    """Does one thing wrong: `how` makes it, given the request and `proceed`."""

    def __init__(self, how: Any) -> None:
        self.how = how

    async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
        return await self.how(request, proceed)

    def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
        return self.how(request, proceed)

    async def run(self, call: Call, operation: str, value: object, proceed: Any) -> object:
        return await self.how(value, proceed)


async def returns_none(request: Any, proceed: Any) -> Any:
    await proceed(request)


async def proceeds_with_text(request: Any, proceed: Any) -> Any:
    return await proceed("Hi")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (returns_none, r"Bad.chat returned None, not a value of type ChatResponse"),
        (proceeds_with_text, r"Bad.chat calls proceed with a value of type str, not a value of type ChatRequest"),
    ],
)
async def test_wrong_values_in_chat_are_plugin_errors(toy: Toy, how: Any, message: str) -> None:
    async with serve(answer) as server, toy(server.url, extensions=[Extension(Bad(how))]) as service:
        with pytest.raises(PluginError, match=message):
            await service.chat("Hi")


async def test_wrong_result_of_an_operation_is_a_plugin_error(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url, extensions=[Extension(Bad(returns_none))]) as service:
        with pytest.raises(PluginError, match=r"Bad.run returned None, not a value of type EmbedResponse"):
            await service.embed("Hi")
        with pytest.raises(PluginError, match=r"Bad.run returned None, not a value of type tuple"):
            await service.list_models()


async def names_of_models(request: Any, proceed: Any) -> Any:
    return ("toy-1",)


async def test_list_of_models_with_other_values_is_a_plugin_error(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url, extensions=[Extension(Bad(names_of_models))]) as service:
        with pytest.raises(PluginError, match=r"Bad.run returned a tuple with a value of type str, not .* ModelInfo"):
            await service.list_models()


async def answers_true(request: Any, proceed: Any) -> Any:
    return True


async def test_true_is_no_count_of_tokens(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url, extensions=[Extension(Bad(answers_true))]) as service:
        with pytest.raises(PluginError, match=r"Bad.run returned a value of type bool, not a value of type int"):
            await service.count_tokens("Hi")


@pytest.mark.parametrize("count", [True, None, "3"])
async def test_count_of_tokens_that_is_no_int_is_an_error_of_the_plugin(count: Any) -> None:
    operation = Operation(build=lambda context, request: _plain(context), parse=lambda context, response: count)
    provider = make_toy(operations=lambda context: Operations(count_tokens=operation))
    async with serve(answer) as server, open_service(provider, url=server.url, default_model="m") as service:
        with pytest.raises(PluginError, match="count_tokens must return an int, not a value of type"):
            await service.count_tokens("Hi")


def _plain(context: Any) -> WireRequest:
    return WireRequest(url=context.settings.url, body=dumps({"stream": False}))


@pytest.mark.parametrize("embeddings", [((0.5,),), ((0.5,), (0.5, 1.0)), None], ids=["too few", "lengths", "none"])
async def test_wrong_embeddings_of_a_middleware_are_a_plugin_error(toy: Toy, embeddings: Any) -> None:
    async def answers(request: Any, proceed: Any) -> Any:
        return EmbedResponse(embeddings=embeddings)

    async with toy("http://localhost:1", extensions=[Extension(Bad(answers))]) as service:
        with pytest.raises(PluginError, match=r"Bad.run returned a wrong result: "):
            await service.embed(["Hi", "there"])


async def generator(request: Any, proceed: Any) -> Any:
    async with proceed(request) as events:
        yield events


@contextlib.asynccontextmanager
async def yields_none(request: Any, proceed: Any) -> Any:
    async with proceed(request):
        yield None


@contextlib.asynccontextmanager
async def proceeds_with_none(request: Any, proceed: Any) -> Any:
    async with proceed(None) as events:
        yield events


async def coroutine(request: Any, proceed: Any) -> Any:
    return proceed(request)


@contextlib.asynccontextmanager
async def drops_finished(request: Any, proceed: Any) -> Any:
    async with proceed(request) as events:
        yield (event async for event in events if not isinstance(event, Finished))


@contextlib.asynccontextmanager
async def gives_text(request: Any, proceed: Any) -> Any:
    async with proceed(request):
        yield response_events(["Hello"])  # type: ignore[list-item]


@contextlib.asynccontextmanager
async def starts_no_part(request: Any, proceed: Any) -> Any:
    async with proceed(request):
        yield response_events([TextDelta(index=7, text="x"), Finished(reason=FinishReason.STOP)])


@contextlib.asynccontextmanager
async def goes_on_after_finished(request: Any, proceed: Any) -> Any:
    async with proceed(request):
        yield response_events([Finished(reason=FinishReason.STOP)] * 2)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (generator, r"Bad.stream returned a value of type async_generator, not an async context manager; decorate"),
        (coroutine, r"Bad.stream returned a value of type coroutine, not an async context manager; decorate"),
        (yields_none, r"Bad.stream yielded None, not an async iterator"),
        (proceeds_with_none, r"Bad.stream calls proceed with None"),
        (drops_finished, r"Bad.stream ended the events without Finished"),
        (gives_text, r"Bad.stream gave a value of type str, no event"),
        (starts_no_part, r"a middleware of Extension failed: TypeError: .*no part has the index 7"),
        (goes_on_after_finished, r"Bad.stream gave a value of type Finished after Finished"),
    ],
)
async def test_wrong_streams_are_plugin_errors_and_are_closed(toy: Toy, how: Any, message: str) -> None:
    async with serve(answer) as server, toy(server.url, extensions=[Extension(Bad(how))]) as service:
        with pytest.raises(PluginError, match=message) as caught:
            await finish(service, "Hi")
        assert "Extension" in str(caught.value)


@pytest.mark.parametrize("events", [[], [TextDelta(index=0, text="x")]], ids=["no Finished", "no start"])
async def test_event_middleware_with_impossible_events_names_its_extension(toy: Toy, events: list[Event]) -> None:
    class Impossible(EventMiddleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            yield response_events(events)

    async with serve(answer) as server, toy(server.url, extensions=[Extension(Impossible())]) as service:
        with pytest.raises(PluginError, match=r"a middleware of Extension failed: ValueError"):
            await service.chat("Hi")


async def test_event_middleware_that_swallows_an_error_of_its_events_names_its_extension(toy: Toy) -> None:
    class Swallows(EventMiddleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            async def fails() -> AsyncIterator[Event]:
                raise KeyError("x")
                yield

            with contextlib.suppress(KeyError):
                yield fails()

    async with serve(answer) as server, toy(server.url, extensions=[Extension(Swallows())]) as service:
        with pytest.raises(PluginError, match="Extension failed: ValueError: the events end without Finished"):
            await service.chat("Hi")


@pytest.mark.parametrize("call", ["chat", "stream", "embed"])
async def test_no_frame_of_an_error_shows_a_middleware(toy: Toy, call: str) -> None:
    class Signs(PassesOn):
        def __repr__(self) -> str:
            return "Signs(key='s3cret-of-middleware')"

    async def fail(exchange: Exchange) -> None:
        await exchange.respond(b"no", status=500)

    extensions = [Extension(Signs()), Second(Signs())]
    async with serve(fail) as server, toy(server.url, extensions=extensions, max_retries=0) as service:
        with pytest.raises(ServerError) as caught:
            await (service.embed("Hi") if call == "embed" else ask(service, call))
    for frame, _ in traceback.walk_tb(caught.value.__traceback__):
        for name, value in frame.f_locals.items():
            assert frame.f_code.co_filename == __file__ or "s3cret" not in repr(value), (frame, name)


async def test_hook_that_returns_no_middleware_is_a_plugin_error(toy: Toy) -> None:
    async with toy("http://localhost", extensions=[Extension("middleware")]) as service:
        with pytest.raises(PluginError, match="trunkline_middleware of Extension returned a str; it must"):
            await service.chat("Hi")


# Ends


async def test_code_after_the_last_event_runs_before_the_application_gets_finished(toy: Toy) -> None:
    done: list[str] = []

    class Audit(Middleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            async def events() -> AsyncIterator[Event]:
                async with proceed(request) as inner:
                    async for event in inner:
                        yield event
                done.append("written")

            yield events()

    async with serve(answer) as server, toy(server.url, extensions=[Extension(Audit())]) as service:
        async with service.stream("Hi") as stream:
            async for event in stream:
                if isinstance(event, Finished):
                    assert done == ["written"]
        assert done == ["written"]


@pytest.mark.parametrize("lazily", [False, True])
async def test_leaving_early_closes_the_connection_and_the_stream_is_abandoned(toy: Toy, lazily: bool) -> None:
    class Wraps(Middleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            async def events() -> AsyncIterator[Event]:
                async with proceed(request) as inner:
                    async for event in inner:
                        yield event

            async with contextlib.aclosing(events()) as made:
                if not lazily:  # send the request before the first event is asked for
                    first = await anext(made)
                    async with contextlib.aclosing(chain(first, made)) as rest:
                        yield rest
                else:
                    yield made

    async def chain(first: Event, rest: AsyncIterator[Event]) -> AsyncIterator[Event]:
        yield first
        async for event in rest:
            yield event

    heard = Heard()
    extensions = [Extension(Wraps(), heard)]
    async with serve(hang_after_the_first_chunk) as server, toy(server.url, extensions=extensions) as service:
        async with service.stream("Hi") as stream:
            async for event in stream:
                if isinstance(event, TextDelta):
                    break
    assert heard.heard[1:] == [("abandoned", "Hello")]


@pytest.mark.parametrize("inner", [[], [Second(Louder())]], ids=["innermost", "outer"])
async def test_stream_of_proceed_can_be_entered_only_once(toy: Toy, inner: list[Extension]) -> None:
    class Twice(Middleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            stream = proceed(request)
            async with stream as events:
                with pytest.raises(CallError, match="entered only once; call proceed for another"):
                    await stream.__aenter__()
                yield events

    heard = Heard()
    extensions = [Extension(Twice(), heard), *inner]
    async with serve(answer) as server, toy(server.url, extensions=extensions) as service:
        assert (await finish(service, "Hi")).text.lower() == "hello"
    assert heard.names == ["started", "finished"]


@contextlib.asynccontextmanager
async def fails_when_left(request: Any, proceed: Any) -> Any:
    async with proceed(request) as events:
        yield events
    raise ValueError("left")


async def test_observers_hear_of_the_end_though_a_middleware_fails_when_it_is_left(toy: Toy) -> None:
    heard = Heard()
    async with serve(answer) as server, toy(server.url, extensions=[Extension(Bad(fails_when_left), heard)]) as service:
        with pytest.raises(PluginError, match="Extension failed: ValueError: left"):
            async with service.stream("Hi") as stream:
                await anext(stream)
    assert heard.heard[1:] == [("abandoned", "")]


async def test_interrupt_of_the_application_keeps_its_traceback(toy: Toy) -> None:
    async def interrupted() -> None:
        raise SystemExit

    async with serve(answer) as server, toy(server.url, extensions=[Extension(PassesOn())]) as service:
        with pytest.raises(SystemExit) as caught:
            async with service.stream("Hi"):
                await interrupted()
    assert [frame.name for frame in caught.traceback][-1] == "interrupted"


@contextlib.asynccontextmanager
async def leaves_two_open(request: Any, proceed: Any) -> Any:
    await proceed(request).__aenter__()
    yield await proceed(request).__aenter__()


async def test_streams_that_a_middleware_leaves_open_are_closed(toy: Toy) -> None:
    heard = Heard()
    async with serve(hang_after_the_first_chunk) as server:
        async with toy(server.url, extensions=[Extension(Bad(leaves_two_open), heard)]) as service:
            async with service.stream("Hi") as stream:
                await anext(stream)
            with anyio.fail_after(5):
                await server.wait_idle()
    assert heard.names == ["started", "started", "abandoned", "abandoned"]


class FailsToClose:
    """A transport that fails when one of its responses is closed."""

    status = 200
    headers = Headers(LINES)

    def __init__(self) -> None:
        self.closed = 0

    @contextlib.asynccontextmanager
    async def send(self, wire_request: WireRequest, options: Any) -> Any:
        try:
            yield self
        finally:
            self.closed += 1
            raise ValueError("closed")

    def __aiter__(self) -> FailsToClose:
        return self

    async def __anext__(self) -> bytes:
        return CHUNK

    async def __aenter__(self) -> FailsToClose:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass


async def test_each_stream_that_is_left_open_is_closed_even_if_closing_another_fails(toy: Toy) -> None:
    transport = FailsToClose()
    provider = {"transport": lambda context: transport}
    async with toy("http://localhost", provider=provider, extensions=[Extension(Bad(leaves_two_open))]) as service:
        with pytest.raises(PluginError, match="the transport of toy failed: ValueError: closed"):
            async with service.stream("Hi") as stream:
                await anext(stream)
    assert transport.closed == 2


async def test_closing_from_another_task_ends_the_wait_of_a_middleware(toy: Toy) -> None:
    ended: list[str] = []

    class Waits(Middleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            async with proceed(request) as events:

                async def slow() -> AsyncIterator[Event]:
                    async for event in events:
                        yield event
                        try:
                            await anyio.sleep_forever()
                        except BaseException:
                            ended.append("cancelled")
                            raise

                async with contextlib.aclosing(slow()) as made:
                    yield made

    heard = Heard()
    async with serve(answer) as server, toy(server.url, extensions=[Extension(Waits(), heard)]) as service:
        stream = service.stream("Hi")
        async with stream, anyio.create_task_group() as tasks:
            await anext(stream)

            async def read() -> None:
                with pytest.raises(StreamClosed):
                    await anext(stream)

            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()
    assert ended == ["cancelled"]
    assert heard.names == ["started", "abandoned"]


async def test_stream_that_is_read_in_another_task_ends_once(toy: Toy) -> None:
    raised: list[BaseException] = []

    class ReadsInTask(Middleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            ended = anyio.Event()

            async def read(events: AsyncIterator[Event]) -> None:
                try:
                    async for _ in events:
                        pass
                except Exception as error:
                    raised.append(error)
                ended.set()

            async with proceed(request) as events:
                tasks.start_soon(read, events)
                await anyio.wait_all_tasks_blocked()
                yield response_events([ResponseStarted()])
            await ended.wait()

    heard = Heard()
    extensions = [Extension(ReadsInTask(), heard)]
    async with serve(hang_after_the_first_chunk) as server, toy(server.url, extensions=extensions) as service:
        async with anyio.create_task_group() as tasks:
            async with service.stream("Hi") as stream:
                await anext(stream)
            await server.wait_idle()
    assert [str(error) for error in raised] == ["another task left the block of this stream while it was being read"]
    assert heard.heard[1:] == [("abandoned", "Hello")]


async def test_call_that_begins_late_in_a_read_is_not_retried_past_total_timeout(toy: Toy) -> None:
    class Late(Middleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            async def late() -> AsyncIterator[Event]:
                yield ResponseStarted()
                await anyio.sleep(0.8)
                async with proceed(request) as events:
                    async for event in events:
                        yield event

            async with contextlib.aclosing(late()) as events:
                yield events

    async def fail(exchange: Exchange) -> None:
        await exchange.respond(b"no", status=500, headers={"retry-after": "1"})

    extensions = [Extension(Late())]
    async with serve(fail) as server, toy(server.url, extensions=extensions, total_timeout=1.5) as service:
        await service.authenticate()  # opens it
        with pytest.raises(ServerError, match="would exceed total_timeout"):
            await finish(service, "Hi")


async def test_total_timeout_applies_after_a_call_that_the_middleware_gave_up(toy: Toy) -> None:
    class GivesUp(Middleware):
        async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            with anyio.move_on_after(0.1):
                await proceed(request)
            await anyio.sleep_forever()

    async def fail_slowly(exchange: Exchange) -> None:
        await exchange.start(status=500)
        await exchange.chunk(b"n")
        await exchange.hung_up()

    heard = Heard()
    extensions = [Extension(GivesUp(), heard)]
    async with serve(fail_slowly) as server, toy(server.url, extensions=extensions, total_timeout=0.3) as service:
        with anyio.fail_after(3), pytest.raises(TotalTimeout):
            await service.chat("Hi")
    assert heard.heard[1:] == [("failed", TotalTimeout)]


@pytest.mark.parametrize("ends", ["timeout", "aclose"])
async def test_read_ends_though_a_scope_in_the_middleware_was_being_cancelled(toy: Toy, ends: str) -> None:
    class Tidies(Middleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            async def slow() -> AsyncIterator[Event]:
                yield ResponseStarted()
                with anyio.move_on_after(0.01):
                    try:
                        await anyio.sleep_forever()
                    finally:
                        with anyio.CancelScope(shield=True):
                            tidying.set()
                            await anyio.sleep(0.4)
                await anyio.sleep_forever()

            async with contextlib.aclosing(slow()) as events:
                yield events

    tidying = anyio.Event()
    values = {"total_timeout": 0.2} if ends == "timeout" else {}
    async with toy("http://localhost:1", extensions=[Extension(Tidies())], **values) as service:
        stream = service.stream("Hi")
        started = anyio.current_time()
        with anyio.fail_after(3):
            async with stream, anyio.create_task_group() as tasks:

                async def read() -> None:
                    with pytest.raises(TotalTimeout if ends == "timeout" else StreamClosed):
                        await stream.finish()

                tasks.start_soon(read)
                await tidying.wait()
                if ends == "aclose":
                    await stream.aclose()
        assert anyio.current_time() - started < 2


async def test_observers_hear_of_a_timeout_while_a_middleware_that_leaves_streams_open_waits(toy: Toy) -> None:
    class Forgets(Middleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            await proceed(request).__aenter__()
            await anyio.sleep_forever()
            yield

    heard = Heard()
    extensions = [Extension(Forgets(), heard)]
    async with serve(answer) as server, toy(server.url, extensions=extensions, total_timeout=0.3) as service:
        with pytest.raises(TotalTimeout):
            await finish(service, "Hi")
    assert heard.heard[1:] == [("failed", TotalTimeout)]


@BOTH
async def test_total_timeout_includes_the_wait_of_a_middleware(toy: Toy, call: str) -> None:
    class Waits(EventMiddleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            async with proceed(request) as events:

                async def never() -> AsyncIterator[Event]:
                    yield await anext(events)
                    await anyio.sleep_forever()

                async with contextlib.aclosing(never()) as made:
                    yield made

    heard = Heard()
    extensions = [Extension(Waits(), heard)]
    async with serve(answer) as server, toy(server.url, extensions=extensions, total_timeout=0.2) as service:
        with pytest.raises(TotalTimeout, match=r"total_timeout \(0.2 s\)"):
            await ask(service, call)
    # The chat to the provider had succeeded before the wait.
    assert heard.names == (["started", "failed"] if call == "stream" else ["started", "finished"])


@pytest.mark.parametrize("call", ["chat", "stream"])
async def test_observers_hear_why_a_call_through_a_middleware_was_cancelled(toy: Toy, call: str) -> None:
    heard = Heard()
    extensions = [Extension(Louder(), heard)]
    async with serve(never_answer) as server, toy(server.url, extensions=extensions, total_timeout=0.2) as service:
        with pytest.raises(TotalTimeout):
            await ask(service, call)
    assert heard.heard[1:] == [("failed", TotalTimeout)]

    heard.heard.clear()
    async with serve(never_answer) as server, toy(server.url, extensions=extensions) as service:
        async with anyio.create_task_group() as tasks:

            async def make() -> None:
                with pytest.raises(ServiceClosed):
                    await ask(service, call)

            tasks.start_soon(make)
            while not server.requests:
                await anyio.wait_all_tasks_blocked()
            await service.aclose()
    assert heard.heard[1:] == [("failed", ServiceClosed)]


async def test_cancellation_passes_through_a_middleware(toy: Toy) -> None:
    heard = Heard()
    async with serve(never_answer) as server, toy(server.url, extensions=[Extension(Louder(), heard)]) as service:
        for call in ("chat", "stream"):
            heard.heard.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, service, call)
                while len(server.requests) < (1 if call == "chat" else 2):
                    await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            assert heard.heard[1:] == [("failed", anyio.get_cancelled_exc_class())]


async def test_partial_response_is_what_the_application_got(toy: Toy) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(CHUNK)
        await exchange.end()

    heard = Heard()
    async with serve(cut) as server, toy(server.url, extensions=[Extension(Louder(), heard)]) as service:
        with pytest.raises(StreamInterrupted) as caught:
            await finish(service, "Hi")
    assert caught.value.partial is not None
    assert caught.value.partial.text == "HELLO"
    assert heard.names == ["started", "failed"]


async def test_error_of_the_provider_passes_through_and_ends_the_context_of_the_middleware(toy: Toy) -> None:
    left: list[object] = []

    class Tracer(Middleware):
        @contextlib.asynccontextmanager
        async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            try:
                async with proceed(request) as events:
                    yield events
            except BaseException as error:
                left.append(type(error))
                raise

    async def fail_halfway(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(CHUNK)
        await exchange.chunk(b'{"error": 429}\n')
        await exchange.end()

    async with serve(fail_halfway) as server, toy(server.url, extensions=[Extension(Tracer())]) as service:
        with pytest.raises(RateLimited):
            await finish(service, "Hi")
    assert left == [RateLimited]


async def test_router_gives_a_call_to_another_service(toy: Toy) -> None:
    async with serve(answer) as server, toy(server.url, name="other") as other:

        class Router(Middleware):
            async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
                return await other.chat(request)

            @contextlib.asynccontextmanager
            async def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
                async with other.stream(request) as stream:
                    yield stream

        async with toy("http://localhost:1", extensions=[Extension(Router())]) as service:
            for call in ("chat", "stream"):
                response = await ask(service, call)
                assert (response.text, response.service) == ("Hello", "other")


async def test_embeddings_may_come_from_a_middleware(toy: Toy) -> None:
    class Cache(Middleware):
        async def run(
            self, call: Call, operation: str, value: object, proceed: Callable[[object], Awaitable[object]]
        ) -> object:
            return EmbedResponse(embeddings=((0.5,),))

    async with toy("http://localhost:1", extensions=[Extension(Cache())]) as service:
        response = await service.embed("Hi")
    assert (response.embeddings, response.provider, response.service) == (((0.5,),), "toy", "toy")


def test_events_of_a_response_fold_to_it_with_warnings_and_logprobs() -> None:
    from trunkline import CallWarning, TokenLogprob
    from trunkline.fold import unfold

    response = ChatResponse(
        parts=(Text(text="Hi"), Text(text="you")),
        finish_reason=FinishReason.STOP,
        warnings=(CallWarning(kind="other", subject="x", message="y", lossy=False),),
        logprobs=(TokenLogprob(token="Hi", logprob=-0.5),),
        provider="toy",
        service="one",
    )
    assert fold(unfold(response)) == response


class Refused(CallError):
    """A middleware refuses the call."""


async def test_method_that_is_set_on_an_instance_is_called(toy: Toy) -> None:
    async def refuse(call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
        raise Refused("not allowed")

    guard = Middleware()
    guard.chat = refuse  # type: ignore[method-assign]
    async with serve(answer) as server, toy(server.url, extensions=[Extension(guard)]) as service:
        with pytest.raises(Refused):
            await service.chat("Hi")
    assert not server.requests


class FailsWhenCancelled(Middleware):
    """Has a task that fails while the call is being cancelled."""

    async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
        async def fail() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("toy-secret-key")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            response: ChatResponse = await proceed(request)
        return response


async def test_error_beside_a_cancellation_names_the_extension(toy: Toy) -> None:
    extensions = [Extension(FailsWhenCancelled())]
    async with serve(never_answer) as server, toy(server.url, extensions=extensions, total_timeout=0.05) as service:
        with pytest.raises(PluginError, match=r"a middleware of Extension failed: ValueError") as caught:
            await service.chat("Hi")
    assert "toy-secret-key" not in "".join(traceback.format_exception(caught.value))


@BOTH
async def test_proceed_is_refused_after_the_end_of_the_call(toy: Toy, call: str) -> None:
    kept: list[Any] = []

    class Keeps(PassesOn):
        async def chat(self, call: Call, request: ChatRequest, proceed: Any) -> ChatResponse:
            kept.append(partial(proceed, request))
            return await super().chat(call, request, proceed)

        def stream(self, call: Call, request: ChatRequest, proceed: Any) -> Any:
            kept.append(partial(proceed, request))
            return proceed(request)

    async with serve(answer) as server, toy(server.url, extensions=[Extension(Keeps())]) as service:
        await ask(service, call)
        with pytest.raises(CallError, match=r"the call has ended, so its middleware cannot proceed"):
            if call == "chat":
                await kept[0]()
            else:
                await kept[0]().__aenter__()
    assert len(server.requests) == 1
