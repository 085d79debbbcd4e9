"""The transport: against scripted models for what must be timed exactly, and against a real one."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import pytest
from trunkline.authoring.provider import SendOptions, ServiceContext, Transport
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConfigurationError, FirstChunkTimeout, ServiceClosed, StreamInterrupted
from trunkline.settings import Settings
from trunkline_llamacpp.runtime import Model
from trunkline_llamacpp.transport import LlamaCppTransport, LoadedModels, _Turn

pytestmark = pytest.mark.anyio

LIMIT = 10.0


def request(path: str = "/v1/chat/completions", **body: Any) -> WireRequest:
    return WireRequest(url=f"http://localhost{path}", body=json.dumps(body).encode())


def chat(text: str = "Hi", **options: Any) -> WireRequest:
    return request(messages=[{"role": "user", "content": text}], temperature=0, **options)


async def answer(transport: LlamaCppTransport, wire_request: WireRequest) -> tuple[int, bytes]:
    async with transport.send(wire_request, SendOptions()) as wire_response:
        body = b"".join([chunk async for chunk in wire_response])
    return wire_response.status, body


def token(text: str) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]})


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "trunkline-llamacpp"]


def assert_no_thread_stays(limit: float = 0.1) -> None:
    """A thread says that it has ended a moment before it has."""
    for thread in workers():
        thread.join(limit)
    assert workers() == []


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert_no_thread_stays(LIMIT)


class Script:
    """A model that answers as scripted, and waits for `go` before each piece after the first."""

    def __init__(self, *texts: str, error: Exception | None = None, endless: bool = False) -> None:
        self.texts = texts
        self.error = error
        self.endless = endless
        self.go = threading.Semaphore(0)
        self.loading = threading.Event()
        self.loading.set()
        self.loads = 0
        self.running = 0
        self.most_running = 0
        self.called = 0
        self.stopped = 0
        self.bodies: list[dict[str, Any]] = []

    def model(self) -> Model:
        script = self

        class Scripted(Model):
            def load(self, purpose: str) -> Any:
                script.loads += 1
                assert script.loading.wait(LIMIT)
                if script.loads == 1 and isinstance(script.error, ConfigurationError):
                    raise script.error
                return script

        return Scripted(service="mine", path=Path("tiny.gguf"), context_length=512, threads=1)

    def handle_chat_completions(self, body: str, callback: Callable[[str], bool]) -> None:
        self.bodies.append(json.loads(body))
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            for number, text in enumerate(self.texts):
                if number:
                    assert self.go.acquire(timeout=LIMIT)
                self.called += 1
                if callback(text):
                    self.stopped += 1
                    return
            while self.endless:
                self.called += 1
                if callback(token(".")):
                    self.stopped += 1
                    return
            if self.error is not None:
                raise self.error
        finally:
            self.running -= 1

    def handle_embeddings(self, body: str) -> str:
        return self.texts[0]


async def test_it_is_a_transport() -> None:
    assert isinstance(LlamaCppTransport(LoadedModels(Script().model())), Transport)


async def test_bare_json_becomes_server_sent_events_with_a_terminator() -> None:
    script = Script(token("a"), token("b"))
    script.go.release()
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        status, body = await answer(transport, chat(stream=True))
    assert (status, body) == (200, f"data: {token('a')}\n\ndata: {token('b')}\n\ndata: [DONE]\n\n".encode())


async def test_each_piece_arrives_when_it_is_made() -> None:
    script = Script(token("a"), token("b"))
    async with (
        LlamaCppTransport(LoadedModels(script.model())) as transport,
        transport.send(chat(stream=True), SendOptions()) as wire_response,
    ):
        chunks = aiter(wire_response)
        assert await anext(chunks) == f"data: {token('a')}\n\n".encode()
        assert (wire_response.status, wire_response.headers["content-type"]) == (200, "text/event-stream")
        script.go.release()
        assert await anext(chunks) == f"data: {token('b')}\n\n".encode()


async def test_progress_with_the_prompt_is_a_comment_unless_it_is_asked_for() -> None:
    progress = '{"choices":[],"prompt_progress":{"total":9,"processed":4}}'
    script = Script(progress)
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        assert (await answer(transport, chat(stream=True)))[1].startswith(b": ")
        asked = await answer(transport, chat(stream=True, return_progress=True))
    assert asked[1].startswith(f"data: {progress}".encode())


async def test_a_whole_answer_is_computed_as_a_stream_and_shows_that_it_lives() -> None:
    script = Script(token("a"), token("b"))
    script.go.release()
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        status, body = await answer(transport, chat())
    assert status == 200
    assert body.startswith(b"  {")
    assert json.loads(body)["choices"][0]["message"]["content"] == "ab"
    assert script.bodies[0]["stream"] is True
    assert script.bodies[0]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("stream", [True, False])
async def test_leaving_stops_the_computing(stream: bool) -> None:
    script = Script(endless=True)
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        with anyio.fail_after(LIMIT):
            async with transport.send(chat(stream=stream), SendOptions()) as wire_response:
                await anext(aiter(wire_response))
        called = script.called
        assert (script.running, script.stopped) == (0, 1)
        assert_no_thread_stays()
        assert script.called == called


async def test_cancelling_a_reader_stops_the_computing() -> None:
    script = Script(endless=True)
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        with anyio.CancelScope() as scope:
            async with transport.send(chat(stream=True), SendOptions()) as wire_response:
                async for _ in wire_response:
                    scope.cancel()
        assert scope.cancelled_caught
        assert (script.stopped, script.running) == (1, 0)


async def test_concurrent_first_calls_load_once_and_compute_in_turn() -> None:
    script = Script(token("a"))
    script.loading.clear()
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(answer, transport, chat())
            await anyio.wait_all_tasks_blocked()
            script.loading.set()
        assert (script.loads, len(script.bodies), script.most_running) == (1, 5, 1)


async def test_cancelling_one_caller_leaves_the_loading_to_the_others() -> None:
    script = Script(token("a"))
    script.loading.clear()
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        async with anyio.create_task_group() as tasks:
            cancelled = anyio.CancelScope()

            async def give_up() -> None:
                with cancelled:
                    await answer(transport, chat())

            tasks.start_soon(give_up)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(answer, transport, chat())
            await anyio.wait_all_tasks_blocked()
            cancelled.cancel()
            await anyio.wait_all_tasks_blocked()
            assert cancelled.cancelled_caught
            script.loading.set()
        assert (script.loads, len(script.bodies)) == (1, 1)


async def test_a_load_that_failed_is_tried_again() -> None:
    script = Script(token("a"), error=ConfigurationError("broken", setting="model_path"))
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        with pytest.raises(ConfigurationError, match="broken"):
            await answer(transport, chat())
        script.error = None
        assert (await answer(transport, chat()))[0] == 200


async def test_a_reader_that_waits_does_not_keep_the_model_from_others() -> None:
    script = Script(token("a"), token("b"))
    async with (
        LlamaCppTransport(LoadedModels(script.model())) as transport,
        transport.send(chat(stream=True), SendOptions()) as wire_response,
    ):
        chunks = aiter(wire_response)
        await anext(chunks)
        script.go.release(2)
        with anyio.fail_after(LIMIT):
            assert (await answer(transport, chat()))[0] == 200
        assert await anext(chunks) == f"data: {token('b')}\n\n".encode()


async def test_who_waits_for_a_turn_can_be_cancelled() -> None:
    script = Script(token("a"), token("b"))
    async with (
        LlamaCppTransport(LoadedModels(script.model())) as transport,
        transport.send(chat(stream=True), SendOptions()),
    ):
        with pytest.raises(FirstChunkTimeout, match=r"within first_chunk_timeout \(0\.01 s\)"):
            async with transport.send(chat(), SendOptions(headers=0.01)):
                pass
        script.go.release(2)
        assert (await answer(transport, chat()))[0] == 200
    assert len(script.bodies) == 2


async def test_request_that_is_cancelled_just_after_it_was_given_the_turn_passes_it_on() -> None:
    # The request must be cancelled before its event loop wakes it, which only the order of these calls ensures.
    turn, cancelled = _Turn(), anyio.CancelScope()

    async def wait() -> None:
        with cancelled:
            await turn.acquire()

    await turn.acquire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        turn.release()
        cancelled.cancel()
    assert cancelled.cancelled_caught
    with anyio.fail_after(LIMIT):
        await turn.acquire()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (Script('{"error":{"code":400,"type":"exceed_context_size_error","message":"long"}}'), 400, 400),
        (Script('{"error":{"code":503,"type":"unavailable_error","message":"loading"}}'), 503, 503),
        (Script('{"error":{"code":"odd","message":"?"}}'), 500, "odd"),
        (Script('{"error":"odd"}'), 500, None),
        (Script(error=ValueError("Expected 'messages' to be an array")), 400, 400),
        (Script(error=RuntimeError("image input is not supported")), 400, 400),
    ],
    ids=["context", "unavailable", "odd code", "odd error", "ValueError", "RuntimeError"],
)
async def test_an_error_before_the_answer_has_its_status(
    script: Script, status: int, code: object, stream: bool
) -> None:
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        found, body = await answer(transport, chat(stream=stream))
    assert found == status
    error = json.loads(body)["error"]
    assert (error["code"] if isinstance(error, dict) else None) == code


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "script",
    [
        Script(token("a"), '{"error":{"code":500,"message":"out of memory"}}'),
        Script(token("a"), error=RuntimeError("out of memory")),
    ],
    ids=["error chunk", "exception"],
)
async def test_an_error_within_the_answer_interrupts_it(script: Script, stream: bool) -> None:
    script.go.release()
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        with pytest.raises(StreamInterrupted, match="out of memory"):
            await answer(transport, chat(stream=stream))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"1", b"[" * 100_000], ids=lambda body: repr(body[:4]))
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
async def test_a_body_that_is_no_object_is_refused(body: bytes, path: str) -> None:
    script = Script()
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        status, _ = await answer(transport, WireRequest(url=f"http://localhost{path}", body=body))
    assert (status, script.loads) == (400, 0)


async def test_the_model_is_listed_without_being_loaded_and_other_paths_are_not_found() -> None:
    script = Script()
    async with LlamaCppTransport(LoadedModels(script.model())) as transport:
        status, body = await answer(transport, request("/v1/models"))
        assert status == 200
        described = {"id": "tiny", "object": "model", "meta": {"n_ctx": script.model().context_length}}
        assert json.loads(body)["data"] == [described]
        assert (await answer(transport, request("/v1/audio/speech")))[0] == 404
    assert script.loads == 0


async def test_closing_ends_streams_in_flight_and_refuses_new_ones() -> None:
    script = Script(endless=True)
    transport = LlamaCppTransport(LoadedModels(script.model()))
    await transport.__aenter__()
    async with transport.send(chat(stream=True), SendOptions()) as wire_response:
        await anext(aiter(wire_response))
        await transport.__aexit__(None, None, None)
        assert (script.running, script.stopped) == (0, 1)
    with pytest.raises(ServiceClosed):
        transport.send(chat(), SendOptions())


async def test_closing_while_the_model_loads_ends_the_call_that_waits_for_it() -> None:
    script = Script(token("a"))
    script.loading.clear()
    transport = LlamaCppTransport(LoadedModels(script.model()))
    await transport.__aenter__()
    failures: list[Exception] = []

    async def call() -> None:
        try:
            await answer(transport, chat())
        except ServiceClosed as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(transport.__aexit__, None, None, None)
        await anyio.wait_all_tasks_blocked()
        script.loading.set()
    assert len(failures) == 1
    assert script.bodies == []


# Several event loops. These tests have no backend: they run their own loops.


async def answer_in_new_transport(models: LoadedModels) -> int:
    async with LlamaCppTransport(models) as transport:
        return (await answer(transport, chat()))[0]


def test_one_event_loop_after_another_loads_the_model_once() -> None:
    script = Script(token("a"))
    models = LoadedModels(script.model())
    for backend in ("asyncio", "asyncio", "trio"):
        assert anyio.run(answer_in_new_transport, models, backend=backend) == 200
    assert (script.loads, len(script.bodies)) == (1, 3)


def test_event_loops_in_threads_load_the_model_once_and_compute_in_turn() -> None:
    script = Script(token("a"), token("b"))
    script.go.release(100)
    models, together = LoadedModels(script.model()), threading.Barrier(4)

    def work(number: int) -> int:
        together.wait(LIMIT)
        return anyio.run(answer_in_new_transport, models, backend=("asyncio", "trio")[number % 2])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(8))) == [200] * 8
    assert (script.loads, len(script.bodies), script.most_running) == (1, 8, 1)


def test_load_that_failed_fails_the_requests_of_each_event_loop() -> None:
    script = Script(token("a"), error=ConfigurationError("broken", setting="model_path"))
    script.loading.clear()
    models, errors = LoadedModels(script.model()), []

    async def fail() -> None:
        async with LlamaCppTransport(models) as transport, anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(caught, transport)
            await anyio.wait_all_tasks_blocked()
            waiting.wait(LIMIT)
            script.loading.set()

    async def caught(transport: LlamaCppTransport) -> None:
        with pytest.raises(ConfigurationError, match="broken") as found:
            await answer(transport, chat())
        errors.append(found.value)

    waiting = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(asyncio.run, fail()) for _ in range(2)]:
            job.result(LIMIT)
    assert len(errors) == 4


def test_event_loop_that_is_closed_while_the_model_computes_gives_the_turn_to_others() -> None:
    script = Script(token("a"), token("b"))
    models = LoadedModels(script.model())

    async def begin() -> None:
        transport = LlamaCppTransport(models)
        opened.append(transport.send(chat(stream=True), SendOptions()))
        await opened[0].__aenter__()

    opened: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    script.go.release(3)
    assert anyio.run(answer_in_new_transport, models) == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_child_of_a_fork_loads_the_model_again() -> None:
    script = Script(token("a"))
    context = ServiceContext(name="mine", provider="llamacpp", settings=Settings())

    def run() -> int:
        models = context.keep(LoadedModels, lambda: LoadedModels(script.model()))
        return asyncio.run(answer_in_new_transport(models))

    assert run() == 200
    child = os.fork()
    if not child:
        status = run()
        os._exit(0 if (status, script.loads) == (200, 2) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert script.loads == 1


# A real model


@pytest.fixture
def model(model_file: Path) -> Model:
    return Model(service="mine", path=model_file, context_length=1024, threads=1)


async def test_a_real_model_answers_whole_streams_in_pieces_and_refuses_what_is_too_long(model: Model) -> None:
    async with LlamaCppTransport(LoadedModels(model)) as transport:
        status, body = await answer(transport, chat(max_tokens=8))
        text = json.loads(body)["choices"][0]["message"]["content"]
        assert (status, bool(text)) == (200, True)

        async with transport.send(chat(max_tokens=8, stream=True), SendOptions()) as wire_response:
            arrivals = [(anyio.current_time(), chunk) async for chunk in wire_response]
        assert arrivals[-1][1] == b"data: [DONE]\n\n"
        assert len({round(time, 3) for time, _ in arrivals}) >= 4

        status, body = await answer(transport, chat("word " * 2000, stream=True))
        assert (status, json.loads(body)["error"]["type"]) == (400, "exceed_context_size_error")

        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
        status, _ = await answer(transport, request(messages=[{"role": "user", "content": [image]}]))
        assert status == 400


async def test_a_real_model_stops_while_it_reads_a_long_prompt(model: Model) -> None:
    async with LlamaCppTransport(LoadedModels(model)) as transport:
        async with transport.send(chat("word " * 900, stream=True), SendOptions()) as wire_response:
            await anext(aiter(wire_response))
            computed = time.process_time()
        assert_no_thread_stays(LIMIT)
        # Reading the whole prompt takes some seven seconds of one processor. Their number does not depend on the load.
        assert time.process_time() - computed < 3
        assert (await answer(transport, chat(max_tokens=1)))[0] == 200


async def test_the_event_loop_runs_while_a_real_model_computes(model: Model) -> None:
    ticks, possible = 0, 0.0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.005)
            ticks += 1

    async with LlamaCppTransport(LoadedModels(model)) as transport:
        await answer(transport, chat(max_tokens=1))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            started = anyio.current_time()
            await answer(transport, chat("Tell me a story", max_tokens=16))
            possible = (anyio.current_time() - started) / 0.005
            tasks.cancel_scope.cancel()
    assert ticks > possible / 4


async def test_a_real_model_embeds_and_refuses_what_is_too_long(model: Model) -> None:
    async with LlamaCppTransport(LoadedModels(model)) as transport:
        status, body = await answer(transport, request("/v1/embeddings", input=["a cat", "a kitten", "tax law"]))
        vectors = [item["embedding"] for item in json.loads(body)["data"]]
        assert (status, [len(vector) for vector in vectors]) == (200, [576, 576, 576])
        near, far = (sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:])
        assert near > far
        status, body = await answer(transport, request("/v1/embeddings", input="word " * 1500))
        assert (status, json.loads(body)["error"]["type"]) == (400, "exceed_context_size_error")


async def test_a_broken_file_is_a_configuration_error(model_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    with model_file.open("rb") as file:
        path.write_bytes(file.read(100_000))
    async with LlamaCppTransport(
        LoadedModels(Model(service="mine", path=path, context_length=512, threads=1))
    ) as transport:
        with pytest.raises(ConfigurationError, match=r"cut\.gguf.*cannot load") as caught:
            await answer(transport, chat())
    assert (caught.value.service, caught.value.setting) == ("mine", "model_path")
