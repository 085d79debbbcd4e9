"""The spans and metrics of calls: what they have, when the span is current, and that each ends exactly once."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import anyio
import attrs
import httpx2
import pytest
import trunkline
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import INVALID_SPAN, SpanKind, StatusCode
from trunkline import ChatRequest, ReasoningOptions, ResponseFormat, Secret, hookimpl
from trunkline.authoring.middleware import ChatProceed
from trunkline.authoring.provider import Auth
from trunkline.authoring.wire import WireRequest
from trunkline.testing import Exchange

from .conftest import KEY, Open, Recorder, answer, body, frame, start_stream

pytestmark = pytest.mark.anyio

DURATION = "gen_ai.client.operation.duration"
TOKENS = "gen_ai.client.token.usage"


# What a span has


async def test_chat_is_a_span_with_the_request_and_the_response(opened: Open, recorder: Recorder) -> None:
    request = ChatRequest(
        messages="Why is the sky blue?",
        temperature=1,
        top_p=0.5,
        max_output_tokens=100,
        stop=("END",),
        seed=7,
        response_format=ResponseFormat(type="json"),
        reasoning=ReasoningOptions(effort="low"),
    )
    async with opened() as (service, server):
        await service.chat(request)
    span = recorder.span
    assert (span.name, span.kind, span.status.status_code) == ("chat m", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai-compatible",
        "gen_ai.request.model": "m",
        "server.address": "127.0.0.1",
        "server.port": int(server.url.rpartition(":")[2]),
        "trunkline.service.name": "openai-compatible",
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.stop_sequences": ("END",),
        "gen_ai.request.seed": 7,
        "gen_ai.output.type": "json",
        "gen_ai.request.reasoning.level": "low",
        "gen_ai.response.id": "chat-1",
        "gen_ai.response.model": "m-0603",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 3,
    }


async def test_stream_is_a_span_with_the_time_to_its_first_chunk(opened: Open, recorder: Recorder) -> None:
    async with opened() as (service, _), service.stream("Hi") as stream:
        await stream.finish()
    attributes = dict(recorder.span.attributes or {})
    assert recorder.span.name == "chat m"
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.usage.output_tokens"] == 9
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    first = attributes["gen_ai.response.time_to_first_chunk"]
    assert isinstance(first, float)
    [measured] = recorder.points("gen_ai.client.operation.time_to_first_chunk")
    assert measured.sum == first
    [chunks] = recorder.points("gen_ai.client.operation.time_per_output_chunk")
    assert chunks.count == 2  # of three, without the first
    assert chunks.attributes["gen_ai.response.model"] == "m-0603"


async def test_chunks_are_not_measured_if_the_setting_says_so(opened: Open, recorder: Recorder) -> None:
    async with opened(chunk_times=False) as (service, _), service.stream("Hi") as stream:
        await stream.finish()
    assert recorder.points("gen_ai.client.operation.time_per_output_chunk") == []


async def test_span_of_a_stream_ends_when_it_has_been_read(opened: Open, recorder: Recorder) -> None:
    async with opened() as (service, _), service.stream("Hi") as stream:
        await stream.finish()
        assert recorder.span.name == "chat m"


async def test_embeddings_are_a_span(opened: Open, recorder: Recorder) -> None:
    async with opened() as (service, _):
        await service.embed("sky", dimensions=2)
    attributes = dict(recorder.span.attributes or {})
    assert recorder.span.name == "embeddings m"
    assert attributes["gen_ai.operation.name"] == "embeddings"
    assert attributes["gen_ai.embeddings.dimension.count"] == 2
    assert attributes["gen_ai.usage.input_tokens"] == 5
    assert [point.attributes["gen_ai.token.type"] for point in recorder.points(TOKENS)] == ["input"]


async def test_span_of_a_ranking_has_the_model_and_the_usage(opened: Open, recorder: Recorder) -> None:
    async with opened() as (service, _):
        await service.rerank("sky", ["blue"])
    attributes = dict(recorder.span.attributes or {})
    assert recorder.span.name == "rerank m"
    assert attributes["gen_ai.request.model"] == "m"
    assert attributes["gen_ai.response.model"] == "m-0603"
    assert attributes["gen_ai.usage.input_tokens"] == 7
    assert {point.attributes["gen_ai.token.type"] for point in recorder.points(TOKENS)} >= {"input"}


async def test_other_operations_are_spans_with_their_own_names(opened: Open, recorder: Recorder) -> None:
    async with opened() as (service, _):
        await service.list_models()
        await service.authenticate()
    assert recorder.span.name == "list_models"


async def test_duration_is_that_of_the_span(opened: Open, recorder: Recorder) -> None:
    async with opened() as (service, _):
        await service.chat("Hi")
    [point] = recorder.points(DURATION)
    span = recorder.span
    assert span.start_time is not None
    assert span.end_time is not None
    assert point.sum == pytest.approx((span.end_time - span.start_time) / 1e9, abs=1e-6)


async def test_tokens_are_recorded_by_type(opened: Open, recorder: Recorder) -> None:
    async with opened() as (service, _):
        await service.chat("Hi")
    counts = {point.attributes["gen_ai.token.type"]: point.sum for point in recorder.points(TOKENS)}
    assert counts == {"input": 12, "output": 9}


class Noting(Sampler):
    """Notes the attributes that it is given, and drops every span if `drops` is true."""

    def __init__(self, *, drops: bool = False) -> None:
        self.attributes: list[dict[str, Any]] = []
        self._decision = Decision.DROP if drops else Decision.RECORD_AND_SAMPLE

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        self.attributes.append(dict(kwargs.get("attributes") or args[4]))
        return SamplingResult(self._decision)

    def get_description(self) -> str:
        return "notes attributes"


async def test_sampler_gets_the_attributes_that_it_may_decide_by(opened: Open, recorder: Recorder) -> None:
    sampler = Noting()
    recorder.tracer_provider.sampler = sampler
    async with opened() as (service, _):
        await service.chat("Hi")
    wanted = ["gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "server.address", "server.port"]
    assert set(wanted) <= set(sampler.attributes[0])


async def test_call_that_is_not_sampled_is_still_measured(opened: Open, recorder: Recorder) -> None:
    recorder.tracer_provider.sampler = Noting(drops=True)
    async with opened(content=True) as (service, _):
        await service.chat("Hi")
        async with service.stream("Hi") as stream:
            await stream.finish()
    assert recorder.spans == ()
    assert recorder.points(DURATION)[0].count == 2


# Where the span is current


class HTTPSpans:
    """Makes a span of each HTTP request, as an instrumentation of an HTTP library does."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("http")
        self.reads: list[trace.Span] = []

    @hookimpl(wrapper=True)
    def trunkline_transport(self, context: object) -> Generator[None, Any, Any]:
        inner = yield
        outer = self

        class Transport:
            async def __aenter__(self) -> object:
                return await inner.__aenter__()

            async def __aexit__(self, *exc_info: object) -> bool | None:
                return bool(await inner.__aexit__(*exc_info))

            @asynccontextmanager
            async def send(self, wire_request: Any, options: Any) -> Any:
                with outer._tracer.start_as_current_span("POST", kind=SpanKind.CLIENT):
                    manager = inner.send(wire_request, options)
                    byte_stream = await manager.__aenter__()
                try:
                    yield Bytes(byte_stream)
                finally:
                    outer.reads.append(trace.get_current_span())
                    await manager.__aexit__(None, None, None)

        class Bytes:
            def __init__(self, byte_stream: Any) -> None:
                self._chunks = aiter(byte_stream)
                self.status, self.headers = byte_stream.status, byte_stream.headers

            def __aiter__(self) -> Any:
                return self

            async def __anext__(self) -> bytes:
                outer.reads.append(trace.get_current_span())
                return bytes(await anext(self._chunks))

        return Transport()


@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_span_is_current_while_the_http_library_works(opened: Open, recorder: Recorder, method: str) -> None:
    http = HTTPSpans(recorder.tracer_provider)
    async with opened(inside=[http]) as (service, _):
        if method == "chat":
            await service.chat("Hi")
        else:
            async with service.stream("Hi") as stream:
                await stream.finish()
    [chat], [post] = recorder.named("chat m"), recorder.named("POST")
    assert post.parent == chat.context
    assert http.reads
    assert all(span.get_span_context() == chat.context for span in http.reads)


@pytest.mark.parametrize("library", ["aiohttp", "httpx2"])
async def test_span_is_current_where_http_libraries_are_instrumented(
    opened: Open, recorder: Recorder, library: str, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    seen: list[trace.Span] = []
    options: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        if library == "aiohttp":
            if anyio_backend == "trio":
                pytest.skip("aiohttp runs on asyncio only")
            aiohttp = pytest.importorskip("aiohttp", reason="the extra `fast` is not installed")
            # As opentelemetry-instrumentation-aiohttp-client does it.
            config, create = aiohttp.TraceConfig(), aiohttp.ClientSession.__init__

            async def on_start(*_: object) -> None:
                seen.append(trace.get_current_span())

            def traced(*args: Any, **kwargs: Any) -> None:
                create(*args, **{**kwargs, "trace_configs": [config]})

            config.on_request_start.append(on_start)
            monkeypatch.setattr(aiohttp.ClientSession, "__init__", traced)
            options["http_library"] = "aiohttp"
        else:
            # As opentelemetry-instrumentation-httpx does it, which also instruments httpx2.
            handle = httpx2.AsyncHTTPTransport.handle_async_request

            async def handled(self: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
                seen.append(trace.get_current_span())
                return await handle(self, request)

            monkeypatch.setattr(httpx2.AsyncHTTPTransport, "handle_async_request", handled)
            options["http_client"] = await stack.enter_async_context(httpx2.AsyncClient())
        service, _ = await stack.enter_async_context(opened(**options))
        await service.chat("Hi")
        async with service.stream("Hi") as stream:
            await stream.finish()
    assert [span.get_span_context() for span in seen] == [span.context for span in recorder.named("chat m")]
    assert len(seen) == 2


@pytest.mark.parametrize("end", ["read", "left", "failed"])
async def test_span_is_not_current_in_the_application(opened: Open, recorder: Recorder, end: str) -> None:
    async def interrupted(exchange: Exchange) -> None:
        await start_stream(exchange)
        if end != "failed":
            await exchange.chunk(frame({}, "stop") + b"data: [DONE]\n\n")
        await exchange.end()

    seen = []
    async with opened(interrupted) as (service, _):
        try:
            async with service.stream("Hi") as stream:
                seen.append(trace.get_current_span())
                async for _event in stream:
                    seen.append(trace.get_current_span())
                    if end == "left":
                        break
        except trunkline.StreamInterrupted:
            assert end == "failed"
        seen.append(trace.get_current_span())
    assert len(seen) > 2
    assert set(seen) == {INVALID_SPAN}
    assert len(recorder.spans) == 1


async def test_parent_is_the_span_of_the_task_that_calls(opened: Open, recorder: Recorder) -> None:
    tracer = recorder.tracer_provider.get_tracer("application")
    async with opened() as (service, _):

        async def work(number: int) -> None:
            with tracer.start_as_current_span(f"work {number}") as own:
                async with service.stream(f"Hi {number}") as stream:
                    async for _ in stream:
                        assert trace.get_current_span() is own
                        await anyio.lowlevel.checkpoint()
                await service.chat(f"Hi {number}")

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(work, number)
    parents = [span.parent for span in recorder.named("chat m")]
    for number in range(5):
        [work_span] = recorder.named(f"work {number}")
        assert parents.count(work_span.context) == 2


async def test_stream_may_be_read_and_left_in_other_tasks(
    opened: Open, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as (service, _):
        stream = service.stream("Hi")

        async def enter() -> None:
            await stream.__aenter__()
            await anext(stream)

        async def leave() -> None:
            await stream.finish()
            await stream.__aexit__(None, None, None)

        for part in (enter, leave):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(part)
    assert len(recorder.spans) == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# Ends


def failing(status: int, text: str = "it failed", **headers: str) -> Any:
    async def fail(exchange: Exchange) -> None:
        await exchange.respond(json.dumps({"error": {"message": text}}).encode(), status=status, headers=headers)

    return fail


@pytest.mark.parametrize("method", ["chat", "stream", "embed"])
async def test_error_of_the_provider_ends_the_span(opened: Open, recorder: Recorder, method: str) -> None:
    async with opened(failing(400)) as (service, _):
        with pytest.raises(trunkline.BadRequest):
            if method == "stream":
                async with service.stream("Hi"):
                    pass
            else:
                await getattr(service, method)("Hi")
    span = recorder.span
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None  # a message may quote the request
    assert (span.attributes or {})["error.type"] == "BadRequest"
    [point] = recorder.points(DURATION)
    assert point.attributes["error.type"] == "BadRequest"


async def hang(exchange: Exchange) -> None:
    exchange.keep_alive = False
    if json.loads(exchange.request.body).get("stream"):
        await start_stream(exchange)
    await anyio.sleep_forever()


@pytest.mark.parametrize("method", ["chat", "stream", "between reads"])
async def test_cancelled_call_ends_its_span_once(opened: Open, recorder: Recorder, method: str) -> None:
    reached = anyio.Event()

    async def hang_and_tell(exchange: Exchange) -> None:
        exchange.keep_alive = False
        if json.loads(exchange.request.body).get("stream"):
            await start_stream(exchange)
        reached.set()
        await anyio.sleep_forever()

    async with opened(hang_and_tell) as (service, _):

        async def call() -> None:
            if method == "chat":
                await service.chat("Hi")
            async with service.stream("Hi") as stream:
                async for _ in stream:
                    if method == "between reads":
                        await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await reached.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    span = recorder.span
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "cancelled"
    assert recorder.points(DURATION)[0].attributes["error.type"] == "cancelled"


@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_call_that_takes_too_long_ends_its_span_with_the_timeout(
    opened: Open, recorder: Recorder, method: str
) -> None:
    async with opened(hang) as (service, _):
        await service.authenticate()  # opening the service is within the timeout of the first call
        limited = service.with_options(total_timeout=0.1)
        with pytest.raises(trunkline.TotalTimeout):
            if method == "chat":
                await limited.chat("Hi")
            async with limited.stream("Hi") as stream:
                await stream.finish()
    assert (recorder.span.attributes or {})["error.type"] == "TotalTimeout"


@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_call_that_the_service_ends_has_its_error(opened: Open, recorder: Recorder, method: str) -> None:
    async with opened(hang) as (service, server):

        async def call() -> None:
            with pytest.raises(trunkline.ServiceClosed):
                if method == "chat":
                    await service.chat("Hi")
                async with service.stream("Hi") as stream:
                    await stream.finish()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            while not server.requests:
                await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
            await service.aclose()
    assert (recorder.span.attributes or {})["error.type"] == "ServiceClosed"


async def test_stream_that_is_left_early_is_abandoned_and_no_error(opened: Open, recorder: Recorder) -> None:
    async with opened() as (service, _), service.stream("Hi") as stream:
        await anext(stream)
    span = recorder.span
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["trunkline.abandoned"] is True
    assert "gen_ai.response.finish_reasons" not in (span.attributes or {})


async def test_stream_whose_client_has_disconnected_is_abandoned(opened: Open, recorder: Recorder) -> None:
    async with opened(hang) as (service, server):

        async def use() -> None:
            async with service.stream("Hi") as stream:
                await stream.finish()

        async def receive() -> Any:
            while not server.requests:
                await anyio.wait_all_tasks_blocked()
            await anyio.wait_all_tasks_blocked()
            return {"type": "http.disconnect"}

        await trunkline.until_disconnect(use(), receive=receive)
    span = recorder.span
    assert span.status.status_code is StatusCode.UNSET
    assert (span.attributes or {})["trunkline.abandoned"] is True


async def test_exception_of_the_application_is_no_error_of_the_call(opened: Open, recorder: Recorder) -> None:
    async with opened() as (service, _):
        with pytest.raises(KeyError):
            async with service.stream("Hi") as stream:
                await anext(stream)
                raise KeyError("of the application")
    assert "error.type" not in (recorder.span.attributes or {})


async def test_broken_stream_has_its_error_and_what_arrived(opened: Open, recorder: Recorder) -> None:
    async def interrupted(exchange: Exchange) -> None:
        await start_stream(exchange)
        await exchange.chunk(frame(usage={"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 13}))
        await exchange.end()

    async with opened(interrupted) as (service, _):
        with pytest.raises(trunkline.StreamInterrupted):
            async with service.stream("Hi") as stream:
                await stream.finish()
    attributes = recorder.span.attributes or {}
    assert attributes["error.type"] == "StreamInterrupted"
    assert attributes["gen_ai.usage.input_tokens"] == 12
    assert "gen_ai.response.finish_reasons" not in attributes
    assert len(recorder.points(TOKENS)) == 2


async def test_retries_are_events_of_one_span(opened: Open, recorder: Recorder) -> None:
    answers = iter([failing(503, **{"retry-after": "0"}), failing(429, **{"retry-after": "0"}), answer])

    async def later(exchange: Exchange) -> None:
        await next(answers)(exchange)

    async with opened(later, max_retries=2) as (service, _):
        await service.chat("Hi")
    span = recorder.span
    assert [(event.name, (event.attributes or {})["error.type"]) for event in span.events] == [
        ("trunkline.retry", "Overloaded"),
        ("trunkline.retry", "RateLimited"),
    ]
    assert (span.attributes or {})["trunkline.retries"] == 2
    assert span.status.status_code is StatusCode.UNSET


class Twice(trunkline.Middleware):
    """Makes each call twice at the same time, and gives the response that comes first."""

    @hookimpl
    def trunkline_middleware(self, context: object) -> trunkline.Middleware:
        return self

    async def chat(self, call: Any, request: Any, proceed: Any) -> Any:
        responses: list[Any] = []

        async def once() -> None:
            responses.append(await proceed(request))
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(once)
            tasks.start_soon(once)
        return responses[0]


@pytest.mark.parametrize("place", ["inside", "outside"])
async def test_call_that_a_middleware_makes_twice_at_once(opened: Open, recorder: Recorder, place: str) -> None:
    reached = []

    async def only_second(exchange: Exchange) -> None:
        reached.append(exchange)
        if len(reached) < 2:
            exchange.keep_alive = False
            await anyio.sleep_forever()
        await answer(exchange)

    middlewares: dict[str, Any] = {place: [Twice()]}
    async with opened(only_second, **middlewares) as (service, _):
        await service.chat("Hi")
    types = sorted(str((span.attributes or {}).get("error.type")) for span in recorder.spans)
    assert types == (["None"] if place == "inside" else ["None", "cancelled"])


async def test_two_telemetries_of_a_service_each_record_the_call_once(opened: Open, recorder: Recorder) -> None:
    other = Recorder()
    async with opened(inside=[other.telemetry()]) as (service, _):
        await service.chat("Hi")
    for each in (recorder, other):
        assert (each.span.attributes or {})["gen_ai.usage.input_tokens"] == 12
        assert [point.sum for point in each.points(TOKENS)] == [12, 9]
    assert other.span.parent == recorder.span.context
    other.close()


class Prices(trunkline.Observer):
    """Tells what a call costs, as the extension `prices` does."""

    @hookimpl(tryfirst=True)
    def trunkline_observer(self, context: object) -> trunkline.Observer:
        return self

    def finished(self, call: trunkline.Call, response: object) -> None:
        call.state["trunkline-prices.cost"] = SimpleNamespace(total=Decimal("0.25"))


@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_label_and_cost_of_a_call_are_in_its_span(opened: Open, recorder: Recorder, method: str) -> None:
    async with opened(outside=[Prices()]) as (service, _):
        labelled = service.with_options(state={"label": "customer-7"})
        if method == "chat":
            await labelled.chat("Hi")
        else:
            async with labelled.stream("Hi") as stream:
                await stream.finish()
    attributes = recorder.span.attributes or {}
    assert (attributes["trunkline.label"], attributes["trunkline.cost.usd"]) == ("customer-7", 0.25)
    assert not any("customer-7" in repr(metric) for metric in recorder.metrics.values())


async def test_label_is_in_the_metrics_if_the_setting_says_so(opened: Open, recorder: Recorder) -> None:
    async with opened(metric_label=True) as (service, _):
        async with service.with_options(state={"label": "customer-7"}).stream("Hi") as stream:
            await stream.finish()
        await service.chat("Hi")
    assert (recorder.spans[0].attributes or {})["trunkline.label"] == "customer-7"
    for metric in recorder.metrics:
        labels = {point.attributes.get("trunkline.label") for point in recorder.points(metric)}
        assert "customer-7" in labels, metric
    assert {point.attributes.get("trunkline.label") for point in recorder.points(TOKENS)} == {"customer-7", None}


# Content and secrets


def everything(recorder: Recorder) -> str:
    spans = [span.to_json() for span in recorder.spans]
    return "\n".join([*spans, *(repr(metric) for metric in recorder.metrics.values())])


QUESTION = ChatRequest(
    messages=(
        trunkline.system("Instructions-canary"),
        trunkline.user("Question-canary", trunkline.Image(data=b"\x89PNG\r\n\x1a\n")),
    ),
    tools=(trunkline.Tool(name="look", description="Description-canary"),),
)


@pytest.mark.parametrize("content", [False, True])
async def test_content_is_recorded_only_if_the_setting_says_so(opened: Open, recorder: Recorder, content: bool) -> None:
    async with opened(content=content) as (service, _):
        await service.chat(QUESTION)
        async with service.stream(QUESTION) as stream:
            await stream.finish()
    shown = everything(recorder)
    for canary in ("Instructions-canary", "Question-canary", "Description-canary", "Rayleigh"):
        assert (canary in shown) is content
    if content:
        for span in recorder.spans:
            attributes: Any = span.attributes
            [message] = json.loads(attributes["gen_ai.input.messages"])
            assert message["role"] == "user"
            assert [part["type"] for part in message["parts"]] == ["text", "blob"]
            [reply] = json.loads(attributes["gen_ai.output.messages"])
            text = {"type": "text", "content": "Rayleigh scattering."}
            assert reply == {"role": "assistant", "parts": [text], "finish_reason": "stop"}


@pytest.mark.parametrize("content", [False, True])
async def test_error_text_is_recorded_only_with_content_and_never_with_a_secret(
    opened: Open, recorder: Recorder, content: bool
) -> None:
    async with opened(failing(401, f"wrong key {KEY}, asked Question-canary"), content=content) as (service, _):
        with pytest.raises(trunkline.AuthenticationError):
            await service.chat("Hi")
        with pytest.raises(trunkline.AuthenticationError):
            async with service.stream("Hi"):
                pass
    shown = everything(recorder)
    assert "gen_ai.output.messages" not in shown  # nothing has arrived
    assert ("asked Question-canary" in shown) is content
    assert KEY not in shown


class Failing(trunkline.Middleware):
    """Raises an exception that quotes the key of the service."""

    @hookimpl
    def trunkline_middleware(self, context: trunkline.ServiceContext[trunkline.Settings]) -> trunkline.Middleware:
        return self

    async def chat(self, call: trunkline.Call, request: ChatRequest, proceed: ChatProceed) -> trunkline.ChatResponse:
        raise ValueError(f"the key {KEY} of Question-canary")


@pytest.mark.parametrize("content", [False, True])
async def test_error_of_another_extension_shows_no_secret(opened: Open, recorder: Recorder, content: bool) -> None:
    async with opened(inside=[Failing()], content=content) as (service, _):
        with pytest.raises(Exception, match="the key"):
            await service.chat("Hi")
    assert ("Question-canary" in everything(recorder)) is content
    assert KEY not in everything(recorder)


async def test_no_secret_is_in_spans_metrics_and_logs(
    opened: Open, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened(content=True, propagate=True) as (service, _):
        await service.chat("Hi")
        async with service.stream("Hi") as stream:
            await stream.finish()
        await service.embed("Hi")
    assert KEY not in everything(recorder)
    assert KEY not in caplog.text


# Propagation


@pytest.mark.parametrize("propagate", [False, True])
async def test_traceparent_is_sent_only_if_the_setting_says_so(
    opened: Open, recorder: Recorder, propagate: bool
) -> None:
    from opentelemetry import baggage, context

    token = context.attach(baggage.set_baggage("user", "ann"))
    try:
        async with opened(propagate=propagate) as (service, server):
            await service.chat("Hi")
            async with service.stream("Hi") as stream:
                await stream.finish()
    finally:
        context.detach(token)
    sent: Sequence[Any] = [request.headers for request in server.requests]
    assert all("baggage" not in headers for headers in sent)
    if not propagate:
        assert all("traceparent" not in headers for headers in sent)
        return
    for headers, span in zip(sent, recorder.spans, strict=True):
        assert span.context is not None
        assert headers["traceparent"].startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")
        assert headers["authorization"] == f"Bearer {KEY}"


@attrs.define(weakref_slot=False)  # neither can be hashed nor has weak references
class TokenAuth:
    """Acquires a token, as OAuth does."""

    secrets: tuple[Secret, ...] = (Secret("acquired-canary-token-1"),)

    @hookimpl(tryfirst=True)
    def trunkline_auth(self, context: trunkline.ServiceContext[trunkline.Settings]) -> Auth:
        return self

    async def __aenter__(self) -> object:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        return None

    async def acquire(self, *, refresh: bool = False) -> object:
        return None

    def sign(self, wire_request: WireRequest, credentials: object) -> WireRequest:
        return wire_request.with_headers({"authorization": "Bearer " + self.secrets[0].reveal()})


@pytest.mark.parametrize("propagate", [False, True])
async def test_acquired_token_that_the_server_echoes_is_not_recorded(
    opened: Open, recorder: Recorder, propagate: bool
) -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.respond(body(f"You sent {exchange.request.headers['authorization']}."))

    async with opened(echo, inside=[TokenAuth()], content=True, propagate=propagate) as (service, _):
        response = await service.chat("Hi")
    assert "acquired-canary-token-1" in response.text
    attributes = str(dict(recorder.span.attributes or {}))
    assert "You sent" in attributes
    assert "acquired-canary-token-1" not in attributes
