"""Calls of a toy provider against a real loopback server, on both backends and with both HTTP libraries."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from trunkline import (
    AuthenticationError,
    Call,
    CallError,
    ChatRequest,
    ChunkTimeout,
    ConfigurationError,
    ConnectionFailed,
    Finished,
    FinishReason,
    FirstChunkTimeout,
    Observer,
    PluginError,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    ResponseStarted,
    ServerError,
    ServiceClosed,
    StreamInterrupted,
    TextDelta,
    TotalTimeout,
    UnexpectedRedirect,
    UnsupportedOperation,
    UnsupportedRequest,
    hookimpl,
)
from trunkline.fold import Fold
from trunkline.testing import Exchange, serve
from trunkline.testing.heartbeats import Heartbeats

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

LINES = {"content-type": "application/x-ndjson"}
QUICK = 0.1
"""A timeout under test, in seconds."""
LONG = 30.0
"""A limit that ends a test which hangs, in seconds."""


async def answer(exchange: Exchange) -> None:
    """A whole answer: `hello` or, as a stream, `he` and `llo`."""
    if b'"stream":true' not in exchange.request.body:
        return await exchange.respond(b'{"text":"hello"}')
    await exchange.start(headers=LINES)
    await exchange.chunk(b'{"open":1}\n{"text":"he"}\n')
    await exchange.chunk(b'{"text":"llo"}\n{"done":true}\n')
    return await exchange.end()


async def read(service: Any, request: Any = "hi") -> list[Any]:
    async with service.stream(request) as stream:
        return [event async for event in stream]


async def test_chat_answers(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        response = await service.chat("hi")
    assert (response.text, response.finish_reason, response.provider) == ("hello", "stop", "toy")
    assert server.requests[0].headers["authorization"] == "Bearer toy-secret-key"


async def test_stream_ends_with_finished_and_folds_to_the_response_of_chat(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        async with service.stream("hi") as stream:
            events = [event async for event in stream]
        whole = await service.chat("hi")
    assert [type(event) for event in events].count(Finished) == 1
    assert isinstance(events[-1], Finished)
    assert stream.response.parts == whole.parts
    assert (stream.response.finish_reason, stream.response.usage) == (whole.finish_reason, whole.usage)


async def test_the_whole_response_of_a_stream_is_put_together_only_for_who_asks(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Fold] = []
    response = Fold.response
    monkeypatch.setattr(Fold, "response", lambda fold: (made.append(fold), response(fold))[1])
    async with serve(answer) as server, toy(server.url) as service, service.stream("hi") as stream:
        assert [event async for event in stream]
        assert not made
        assert stream.response.text == "hello"


async def test_a_finished_stream_leaves_its_connection_for_the_next_call(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        await read(service)
        await read(service)
        await service.chat("hi")
        assert server.accepted == 1


async def test_the_models_and_the_headers_of_the_settings_are_sent(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url, headers={"X-Team": "blue"}) as service:
        await service.chat("hi")
        await service.chat(ChatRequest(messages="hi", model="other"))
    assert b'"model":"toy-1"' in server.requests[0].body
    assert b'"model":"other"' in server.requests[1].body
    assert server.requests[0].headers["x-team"] == "blue"


async def test_a_call_without_a_model_fails_before_any_request(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url, default_model=None) as service:
        with pytest.raises(ConfigurationError, match="'default_model'"):
            await service.chat("hi")
        with pytest.raises(ConfigurationError, match="'default_model'"):
            await read(service)
        assert not server.requests


# Warnings


async def test_unsupported_fields_give_warnings_on_the_response(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        response = await service.chat(ChatRequest(messages="hi", seed=1))
        events = await read(service, ChatRequest(messages="hi", seed=1))
    assert [warning.subject for warning in response.warnings] == ["seed"]
    assert isinstance(events[0], ResponseStarted)
    assert events[0].warnings == response.warnings


async def test_a_strict_service_refuses_what_it_would_warn_about(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url, strict=True) as service:
        with pytest.raises(UnsupportedRequest, match="seed"):
            await service.chat(ChatRequest(messages="hi", seed=1))
        assert not server.requests


# Truncation and broken answers


@pytest.mark.parametrize("cut", ["end", "hang_up", "reset"])
async def test_stream_without_terminator_raises_with_partial_response(toy: Any, cut: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open":1}\n{"text":"he"}\n')
        await read_first.wait()
        await getattr(exchange, cut)()

    read_first = anyio.Event()
    async with serve(handler) as server, toy(server.url, max_retries=0) as service, service.stream("hi") as stream:
        with pytest.raises(StreamInterrupted) as caught:
            async for event in stream:
                if isinstance(event, TextDelta):
                    read_first.set()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "he"
    assert caught.value.partial.finish_reason == FinishReason.ERROR
    with pytest.raises(CallError):
        _ = stream.response


async def test_partial_response_includes_an_event_that_lacks_only_its_line_end(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open":1}\n{"text":"he"}\n{"text":"llo"}')
        await exchange.end()

    async with serve(handler) as server, toy(server.url, max_retries=0) as service:
        with pytest.raises(StreamInterrupted) as caught:
            await read(service)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "hello"


async def test_after_finished_a_parked_socket_does_not_matter(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open":1}\n{"done":true}\n')
        await exchange.hung_up()

    async with serve(handler) as server, toy(server.url) as service:
        with anyio.fail_after(LONG):
            events = await read(service)
            await server.wait_idle()
    assert isinstance(events[-1], Finished)


async def test_an_error_inside_a_stream_carries_the_partial(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers={**LINES, "x-toy-request-id": "req-1"})
        await exchange.chunk(b'{"open":1}\n{"text":"he"}\n{"error":500}\n')
        await exchange.end()

    async with serve(handler) as server, toy(server.url, max_retries=0) as service:
        with pytest.raises(ServerError) as caught:
            await read(service)
    assert caught.value.provider == "toy"
    assert caught.value.request_id == "req-1"
    assert caught.value.partial is not None
    assert caught.value.partial.text == "he"


async def test_an_unreadable_body_raises_an_error_with_its_status_and_request_id(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"<html>busy</html>", headers={"x-client-request-id": "c", "x-toy-request-id": "req-1"})

    async with serve(handler) as server, toy(server.url) as service:
        with pytest.raises(ProtocolViolation) as caught:
            await service.chat("hi")
    assert (caught.value.status, caught.value.request_id) == (200, "req-1")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"<html><title>Log in</title></html>", "the response is an HTML page, 'Log in' "),
        (b"<p>" + b"x" * 5_000 + b"<title>late</title>", r"the response is an HTML page \(POST"),
        (b'{"unknown": 1}', r'the response begins: \{"unknown": 1\} '),
    ],
)
async def test_whatever_comes_in_place_of_a_stream_is_named(toy: Any, body: bytes, found: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(body, headers={"content-type": "text/html"})

    async with serve(handler) as server, toy(server.url) as service:
        with pytest.raises(ProtocolViolation, match=f"expected a stream, but {found}"):
            await read(service)


async def test_a_whole_answer_where_a_stream_was_due_is_taken(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'{"text":"hello"}')

    async with serve(handler) as server, toy(server.url) as service:
        events = await read(service)
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["hello"]
    assert isinstance(events[-1], Finished)


# Retries


def failing(times: int, status: int = 500, **headers: str) -> Any:
    async def handler(exchange: Exchange) -> None:
        if len(server_requests(exchange)) <= times:
            await exchange.respond(b"down", status=status, headers=headers)
        else:
            await answer(exchange)

    def server_requests(exchange: Exchange) -> list[Any]:
        return exchange._server.requests

    return handler


async def test_a_failed_call_is_tried_again(toy: Any) -> None:
    async with serve(failing(2, **{"retry-after-ms": "1"})) as server, toy(server.url) as service:
        assert (await service.chat("hi")).text == "hello"
        assert len(server.requests) == 3


async def test_a_failed_stream_is_tried_again_before_its_first_event(toy: Any) -> None:
    async with serve(failing(2, **{"retry-after-ms": "1"})) as server, toy(server.url) as service:
        assert isinstance((await read(service))[-1], Finished)
        assert len(server.requests) == 3


async def test_retries_have_an_end(toy: Any) -> None:
    async with serve(failing(9, **{"retry-after-ms": "1"})) as server, toy(server.url, max_retries=1) as service:
        with pytest.raises(ServerError, match="down"):
            await service.chat("hi")
        assert len(server.requests) == 2


async def test_nothing_is_tried_again_once_an_answer_has_begun(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open":1}\n{"text":"he"}\n')
        await begun.wait()
        await exchange.reset()

    begun = anyio.Event()
    async with serve(handler) as server, toy(server.url) as service, service.stream("hi") as stream:
        with pytest.raises(StreamInterrupted):
            async for _ in stream:
                begun.set()
        assert len(server.requests) == 1


async def test_an_error_in_a_200_stream_before_any_content_is_retried_like_its_status(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        if len(server.requests) > 1:
            return await answer(exchange)
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"started":1}\n')
        await exchange.chunk(b'{"error":500}\n')
        return await exchange.end()

    async with serve(handler) as server, toy(server.url) as service:
        events = await read(service)
    assert sum(isinstance(event, ResponseStarted) for event in events) == 1


async def test_a_wait_longer_than_the_cap_is_left_to_the_application(toy: Any) -> None:
    async with serve(failing(1, 429, **{"retry-after": "3600"})) as server, toy(server.url) as service:
        with pytest.raises(RateLimited) as caught:
            await service.chat("hi")
    assert caught.value.retry_after == 3600


# Timeouts


async def silent(exchange: Exchange) -> None:
    await exchange.hung_up()


async def test_no_answer_at_all_is_a_first_chunk_timeout(toy: Any) -> None:
    async with serve(silent) as server, toy(server.url, first_chunk_timeout=QUICK, max_retries=0) as service:
        with anyio.fail_after(LONG):
            with pytest.raises(FirstChunkTimeout):
                await service.chat("hi")
            with pytest.raises(FirstChunkTimeout):
                await read(service)
            await server.wait_idle()


async def test_headers_and_heartbeats_are_not_a_first_chunk(toy: Any) -> None:
    heartbeats = Heartbeats(b"\n")

    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await heartbeats.send(exchange)

    options = {"first_chunk_timeout": QUICK, "max_retries": 0, "extensions": (heartbeats,)}
    async with serve(handler) as server, toy(server.url, **options) as service:
        with anyio.fail_after(LONG), pytest.raises(FirstChunkTimeout):
            await read(service)


async def test_stalled_stream_raises_chunk_timeout_with_partial_response(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open":1}\n{"text":"he"}\n')
        await exchange.hung_up()

    async with serve(handler) as server, toy(server.url, chunk_timeout=QUICK) as service:
        with anyio.fail_after(LONG), pytest.raises(ChunkTimeout) as caught:
            await read(service)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "he"


async def test_the_first_chunk_timeout_is_for_the_first_chunk_alone(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open":1}\n{"text":"he"}\n')
        await anyio.sleep(2 * QUICK)
        await exchange.chunk(b'{"done":true}\n')
        await exchange.end()

    async with serve(handler) as server, toy(server.url, first_chunk_timeout=QUICK) as service:
        assert isinstance((await read(service))[-1], Finished)


async def test_the_total_timeout_spans_retries(toy: Any) -> None:
    async with serve(silent) as server:
        async with toy(server.url, first_chunk_timeout=QUICK, total_timeout=2 * QUICK, max_retries=50) as service:
            with anyio.fail_after(LONG), pytest.raises((TotalTimeout, FirstChunkTimeout)):
                await service.chat("hi")
        assert len(server.requests) < 5


async def test_the_total_timeout_leaves_out_the_time_that_the_application_takes(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url, total_timeout=QUICK) as service:
        async with service.stream("hi") as stream:
            iterator = stream.__aiter__()
            await iterator.__anext__()
            with anyio.move_on_after(2 * QUICK):
                await anyio.sleep_forever()
            rest = [event async for event in stream]
    assert isinstance(rest[-1], Finished)


async def test_a_trickle_ends_with_the_total_timeout(toy: Any) -> None:
    heartbeats = Heartbeats(b"\n")

    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open":1}\n{"text":"he"}\n')
        await heartbeats.send(exchange)

    async with serve(handler) as server, toy(server.url, total_timeout=QUICK, extensions=(heartbeats,)) as service:
        with anyio.fail_after(LONG), pytest.raises(TotalTimeout, match="total_timeout"):
            await read(service)


async def test_a_refused_connection_names_host_and_port_and_not_the_key(toy: Any) -> None:
    async with serve(answer) as server:
        url = server.url
    async with toy(url, max_retries=0) as service:
        with pytest.raises(ConnectionFailed, match=url.removeprefix("http://")) as caught:
            await service.chat("hi")
    assert "toy-secret-key" not in str(caught.value)


# Cancellation and closing


@pytest.mark.parametrize("leave", ["break", "exception", "cancel"])
async def test_leaving_a_stream_closes_its_connection(toy: Any, leave: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers=LINES)
        await exchange.chunk(b'{"open":1}\n{"text":"he"}\n')
        await exchange.hung_up()
        gone.set()

    async def consume() -> None:
        async with service.stream("hi") as stream:
            async for event in stream:
                if not isinstance(event, TextDelta):
                    continue
                if leave == "break":
                    break
                if leave == "exception":
                    raise ZeroDivisionError
                scope.cancel()

    gone = anyio.Event()
    async with serve(handler) as server, toy(server.url) as service:
        with anyio.fail_after(LONG), contextlib.suppress(ZeroDivisionError):
            with anyio.CancelScope() as scope:
                await consume()
        with anyio.fail_after(LONG):
            await gone.wait()
            await server.wait_idle()


@pytest.mark.parametrize("operation", ["chat", "stream"])
async def test_cancelling_before_the_headers_closes_the_connection(toy: Any, operation: str) -> None:
    async def handler(exchange: Exchange) -> None:
        arrived.set()
        await exchange.hung_up()

    arrived = anyio.Event()
    async with serve(handler) as server, toy(server.url) as service, anyio.create_task_group() as tasks:
        tasks.start_soon(service.chat if operation == "chat" else lambda _: read(service), "hi")
        with anyio.fail_after(LONG):
            await arrived.wait()
            tasks.cancel_scope.cancel()
    with anyio.fail_after(LONG), anyio.CancelScope(shield=True):
        await server.wait_idle()


async def test_closing_a_service_ends_running_calls_with_a_clear_error(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        if b'"stream":true' in exchange.request.body:
            await exchange.start(headers=LINES)
            await exchange.chunk(b'{"open":1}\n{"text":"he"}\n')
        waiting.append(exchange)
        if len(waiting) == 3:
            both.set()
        await exchange.hung_up()

    async def chat() -> None:
        with pytest.raises(ServiceClosed):
            await service.chat("hi")
        ended.append("chat")

    async def stream() -> None:
        with pytest.raises(ServiceClosed) as caught:
            await read(service)
        assert caught.value.partial is not None
        assert caught.value.partial.text == "he"
        ended.append("stream")

    async def idle() -> None:
        async with service.stream("hi") as one:
            await one.__anext__()
            await closed.wait()
            with pytest.raises(ServiceClosed):
                [event async for event in one]
        ended.append("idle")

    waiting: list[Exchange] = []
    ended: list[str] = []
    both, closed = anyio.Event(), anyio.Event()
    async with serve(handler) as server:
        service = toy(server.url)
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                for task in (chat, stream, idle):
                    tasks.start_soon(task)
                await both.wait()
                await anyio.wait_all_tasks_blocked()
                await service.aclose()
                closed.set()
            await server.wait_idle()
        with pytest.raises(ServiceClosed):
            await service.chat("hi")
    assert sorted(ended) == ["chat", "idle", "stream"]


async def test_an_application_s_own_scopes_may_surround_each_step(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url) as service, service.stream("hi") as stream:
        texts = []
        iterator = stream.__aiter__()
        while True:
            with anyio.fail_after(LONG):
                try:
                    event = await iterator.__anext__()
                except StopAsyncIteration:
                    break
            texts.append(type(event).__name__)
    assert texts[-1] == "Finished"


async def test_a_stream_has_to_be_entered_and_is_entered_once(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        stream = service.stream("hi")
        with pytest.raises(CallError, match="async with"):
            await stream.__anext__()
        async with stream:
            pass
        with pytest.raises(CallError, match="once"):
            await stream.__aenter__()


# Authentication


class Tokens:
    """An `Auth` whose token is new after each refresh."""

    def __init__(self) -> None:
        self.token = 0

    @property
    def secrets(self) -> tuple[str, ...]:
        return ()

    async def __aenter__(self) -> Tokens:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    async def acquire(self, *, refresh: bool = False) -> int:
        self.token += refresh
        return self.token

    def sign(self, wire_request: Any, credentials: int) -> Any:
        return wire_request.with_headers({"authorization": f"token {credentials}"})


async def test_an_expired_credential_is_acquired_once_more(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.request.headers["authorization"] == "token 1":
            return await answer(exchange)
        return await exchange.respond(b"expired", status=401)

    async with serve(handler) as server, toy(server.url, {"auth": lambda context: Tokens()}) as service:
        assert (await service.chat("hi")).text == "hello"
        assert len(server.requests) == 2


async def test_a_credential_that_another_call_has_replaced_is_not_acquired_again(toy: Any) -> None:
    calls = 20
    refused = anyio.Event()
    old: list[Exchange] = []

    async def handler(exchange: Exchange) -> None:
        if exchange.request.headers["authorization"] == "token 1":
            return await answer(exchange)
        old.append(exchange)
        if len(old) == calls:
            refused.set()
        # All have been sent with the old token before one is refused.
        await refused.wait()
        return await exchange.respond(b"expired", status=401)

    tokens = Tokens()
    async with serve(handler) as server, toy(server.url, {"auth": lambda context: tokens}) as service:
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                for _ in range(calls):
                    tasks.start_soon(service.chat, "hi")
    assert (tokens.token, len(old)) == (1, calls)


async def test_credentials_are_acquired_without_a_request(toy: Any) -> None:
    class Never(Tokens):
        async def acquire(self, *, refresh: bool = False) -> int:
            await anyio.sleep_forever()
            raise AssertionError

    async with serve(answer) as server:
        async with toy(server.url, {"auth": lambda context: Tokens()}) as service:
            await service.authenticate()
        async with toy(server.url, {"auth": lambda context: Never()}, total_timeout=QUICK) as service:
            with pytest.raises(TotalTimeout):
                await service.authenticate()
        assert not server.requests


async def test_a_wrong_key_is_not_sent_twice(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"wrong", status=401)

    async with serve(handler) as server, toy(server.url) as service:
        with pytest.raises(AuthenticationError):
            await service.chat("hi")
        assert len(server.requests) == 1


async def test_a_key_that_the_provider_echoes_is_scrubbed(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"no such key: toy-secret-key", status=401)

    async with serve(handler) as server, toy(server.url) as service:
        with pytest.raises(AuthenticationError, match=r"no such key: \*\*\*") as caught:
            await service.chat("hi")
    assert "toy-secret-key" not in repr(caught.value)


async def test_an_acquired_secret_that_the_provider_echoes_is_scrubbed(toy: Any) -> None:
    class Holder(Tokens):
        secrets = ("token-secret",)

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"no such token: token-secret", status=401)

    async with serve(handler) as server, toy(server.url, {"auth": lambda context: Holder()}) as service:
        with pytest.raises(AuthenticationError, match=r"no such token: \*\*\*"):
            await service.chat("hi")


async def test_redirect_is_not_followed_and_its_target_is_in_the_error(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(status=307, headers={"location": "https://elsewhere.example/v1?token=secret"})

    async with serve(handler) as server, toy(server.url) as service:
        for call in (service.chat, lambda prompt: read(service, prompt)):
            with pytest.raises(UnexpectedRedirect, match=r"https://elsewhere.example/v1,"):
                await call("hi")
        assert len(server.requests) == 2


# Operations, observers, clients


async def test_models_are_listed_over_all_pages(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        page = exchange.request.target.rpartition("=")[2]
        body = {"1": b'{"models":["a"],"next":"2"}', "2": b'{"models":["b"],"next":null}'}[page]
        await exchange.respond(body)

    async with serve(handler) as server, toy(server.url) as service:
        assert [model.id for model in await service.list_models()] == ["a", "b"]


async def test_texts_are_embedded(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"[[1.0, 2.0]]")

    async with serve(handler) as server, toy(server.url) as service:
        assert (await service.embed("hi")).embeddings == ((1.0, 2.0),)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"[]", "the number of embeddings is 0, but the number of inputs is 2"),
        (b"[[1.0]]", "the number of embeddings is 1, "),
        (b"[[1.0], [2.0], [3.0]]", "the number of embeddings is 3, "),
        (b"[[1.0], []]", "an embedding is empty"),
        (b"[[], []]", "an embedding is empty"),
        (b"[[1.0], [2.0, 3.0]]", "the embeddings have different lengths: 1 and 2 numbers"),
        (b"[[1.0], [NaN]]", "not finite"),
        (b"[[1.0, 1.0, 1.0], [1e999, -1e999, 1.0]]", "not finite"),
    ],
)
async def test_embeddings_that_are_not_one_vector_for_each_text_are_refused(toy: Any, body: bytes, reason: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(body)

    async with serve(handler) as server, toy(server.url, max_retries=2) as service:
        with pytest.raises(ProtocolViolation, match=reason) as caught:
            await service.embed(["one", "two"])
    assert (len(server.requests), caught.value.retryable, caught.value.provider) == (1, False, "toy")
    assert caught.value.endpoint is not None


async def test_embeddings_of_large_numbers_are_finite(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"[[1e308, 1e308]]")

    async with serve(handler) as server, toy(server.url) as service:
        assert (await service.embed("one")).embeddings == ((1e308, 1e308),)


async def test_embeddings_that_a_plugin_did_not_decode_are_its_error(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b'[["a"]]')

    async with serve(handler) as server, toy(server.url) as service:
        with pytest.raises(PluginError, match="an operation of toy failed: TypeError"):
            await service.embed("one")


async def test_an_operation_that_the_provider_has_not_is_named(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url) as service:
        with pytest.raises(UnsupportedOperation, match="count_tokens"):
            await service.count_tokens("hi")


class Held:
    """A transport of its own: each answer gives one text when `ready` is set, and then waits for ever."""

    status = 200
    headers: dict[str, str] = {}

    def __init__(self) -> None:
        self.ready, self.asked, self.closed = anyio.Event(), anyio.Event(), False
        self._texts = iter([b'{"open":1}\n{"text":"he"}\n'])

    @hookimpl(tryfirst=True)
    def trunkline_transport(self, context: Any) -> Any:
        return self

    async def __aenter__(self) -> Held:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    @contextlib.asynccontextmanager
    async def send(self, wire_request: object, timeouts: object) -> Any:
        yield self
        self.closed = True

    def __aiter__(self) -> Held:
        return self

    async def __anext__(self) -> bytes:
        assert not self.closed, "a read of a closed connection"
        self.asked.set()
        await self.ready.wait()
        for text in self._texts:
            return text
        return await anyio.sleep_forever()


async def test_closing_a_service_in_the_moment_in_which_a_stream_opens(toy: Any) -> None:
    held = Held()
    service = toy("http://127.0.0.1:9", extensions=[held])

    async def stream() -> None:
        with pytest.raises(ServiceClosed):
            await read(service)
        ended.append(True)

    ended: list[bool] = []
    with anyio.fail_after(LONG):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream)
            await held.asked.wait()
            held.ready.set()  # and no checkpoint before the closing: what opens has its answer when it is cancelled
            await service.aclose()
    assert ended == [True]


class Diary(Observer):
    """Records the calls of its methods."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    @hookimpl
    def trunkline_observer(self, context: Any) -> Observer:
        return self

    def started(self, call: Call, context: Any, operation: str, request: object) -> None:
        self.calls.append(f"started {operation}")

    def first_event(self, call: Call) -> None:
        self.calls.append("first event")

    def retried(self, call: Call, error: Exception, delay: float) -> None:
        self.calls.append("retried")

    def finished(self, call: Call, response: object) -> None:
        self.calls.append("finished")

    def failed(self, call: Call, error: BaseException) -> None:
        self.calls.append(f"failed {type(error).__name__}")


async def test_observers_see_each_step(toy: Any) -> None:
    diary = Diary()
    handler = failing(1, **{"retry-after-ms": "1"})
    async with serve(handler) as server, toy(server.url, extensions=[diary]) as service:
        await service.chat("hi")
        await read(service)
    assert diary.calls == ["started chat", "retried", "finished", "started stream", "first event", "finished"]


async def test_observers_see_each_failure_once(toy: Any) -> None:
    diary = Diary()
    async with serve(failing(9)) as server, toy(server.url, extensions=[diary], max_retries=0) as service:
        with pytest.raises(ServerError):
            await service.chat("hi")
        with pytest.raises(ServerError):
            await read(service)
    assert diary.calls == ["started chat", "failed ServerError", "started stream", "failed ServerError"]


async def test_an_observer_that_fails_is_logged_and_harms_no_call(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Diary):
        def finished(self, call: Call, response: object) -> None:
            raise ZeroDivisionError

    async with serve(answer) as server, toy(server.url, extensions=[Broken()]) as service:
        with caplog.at_level(logging.ERROR, "trunkline"):
            assert (await service.chat("hi")).text == "hello"
    assert "Broken" in caplog.text


@pytest.mark.parametrize("library", [httpx2, httpx])
async def test_an_application_s_own_client_is_used_and_left_open(toy: Any, library: Any) -> None:
    async with library.AsyncClient(headers={"x-app": "mine"}) as client, serve(answer) as server:
        async with toy(server.url, client=client, max_retries=0) as service:
            assert (await service.chat("hi")).text == "hello"
            assert isinstance((await read(service))[-1], Finished)
        assert server.requests[0].headers["x-app"] == "mine"
        assert not client.is_closed
        dead = server.url
    async with library.AsyncClient() as client, toy(dead, client=client, max_retries=0) as service:
        with pytest.raises(ConnectionFailed):
            await service.chat("hi")


async def test_the_proxy_of_the_settings_is_used(toy: Any) -> None:
    async with serve(answer) as proxy, toy("http://provider.example", proxy=proxy.url) as service:
        await service.chat("hi")
    assert proxy.requests[0].target == "http://provider.example/chat"


async def test_the_proxy_of_the_environment_is_used(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(answer) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        async with toy("http://provider.example") as service:
            await service.chat("hi")
    assert proxy.requests[0].target == "http://provider.example/chat"


async def test_invalid_ca_bundle_is_named_in_the_error(toy: Any, tmp_path: Any) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("nothing")
    async with toy("https://provider.example", ca_bundle=str(bundle)) as service:
        with pytest.raises(ConfigurationError, match="ca_bundle"):
            await service.chat("hi")


async def test_every_error_status_reaches_the_plugin_s_own_classes(toy: Any) -> None:
    async with serve(failing(9, 413)) as server, toy(server.url, max_retries=0) as service:
        with pytest.raises(RemoteError) as caught:
            await service.chat("hi")
    assert caught.value.status == 413
    assert type(caught.value) is ServerError  # the toy has no other class for it
