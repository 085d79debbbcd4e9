"""The middlewares of the guide do what the guide says, in chats and in streams, on both backends."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trunkline
from doc_examples import examples
from trunkline.storage import to_json
from trunkline.testing import Exchange, ExtensionTests, serve

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
MIDDLEWARES = SimpleNamespace()
for example in examples(ROOT / "docs" / "howto" / "middleware.md", ROOT):
    if (
        example.language == "python"
        and "await trunkline" not in example.code
        and "async with trunkline" not in example.code
    ):
        exec(compile(example.code, example.where, "exec", dont_inherit=True), vars(MIDDLEWARES))

BOTH = pytest.mark.parametrize("method", ["chat", "stream"])


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.exhaustive)])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Sent(trunkline.Observer):
    """Notes what observers hear."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.ends: list[str] = []

    @trunkline.hookimpl
    def trunkline_observer(self, context: Any) -> trunkline.Observer:
        return self

    def started(self, call: Any, context: Any, operation: str, request: Any) -> None:
        self.requests.append(request)

    def finished(self, call: Any, response: Any) -> None:
        self.ends.append("finished")

    def failed(self, call: Any, error: BaseException) -> None:
        self.ends.append("failed")


def answers(*deltas: str, arguments: tuple[str, ...] = (), status: int = 200, cut: bool = False) -> Any:
    """Make a server of Chat Completions that answers with the deltas of a text and of a tool call's arguments."""

    async def answer(exchange: Exchange) -> None:
        body = json.loads(exchange.request.body)
        call = {"id": "c", "type": "function"}
        if exchange.request.target.endswith("/embeddings"):
            await exchange.respond(b'{"data": [{"index": 0, "embedding": [1.0]}]}')
        elif status != 200:
            await exchange.respond(b'{"error": {"message": "no"}}', status=status)
        elif not body.get("stream"):
            whole = {"name": "mail", "arguments": "".join(arguments)}
            message = {"content": "".join(deltas), "tool_calls": [{**call, "function": whole}] if arguments else []}
            await exchange.respond(json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode())
        else:
            await exchange.start()
            chunks: list[Any] = [{"content": delta} for delta in deltas]
            for number, piece in enumerate(arguments):
                function = {"arguments": piece, **({} if number else {"name": "mail"})}
                chunks.append({"tool_calls": [{"index": 0, **({} if number else call), "function": function}]})
            for delta in chunks:
                await exchange.chunk(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")
            if not cut:
                await exchange.chunk(b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
            await exchange.end()

    return answer


def opened(url: str, *extensions: object) -> trunkline.Service:
    return trunkline.open_service(
        "openai-compatible", api_url=url, default_model="m", extensions=list(extensions), max_retries=0
    )


async def ask(service: trunkline.Service, method: str, *args: Any, **params: Any) -> trunkline.ChatResponse:
    if method == "chat":
        return await service.chat(*args, **params)
    async with service.stream(*args, **params) as stream:
        return await stream.finish()


# The cache


@BOTH
@pytest.mark.parametrize("again", ["chat", "stream"])
async def test_cache_answers_the_same_request_without_a_call(method: str, again: str) -> None:
    sent, cache = Sent(), MIDDLEWARES.Cache({})
    async with serve(answers("Hel", "lo")) as server, opened(server.url, cache, sent) as service:
        first = await ask(service, method, "Hi")
        assert await ask(service, again, "Hi") == first
        assert len(server.requests) == len(sent.requests) == 1
        for other in ({"model": "n"}, {"seed": 1}):
            await ask(service, again, "Hi", **other)
        await ask(service, again, "Hi!")
        assert len(server.requests) == len(sent.requests) == 4


@BOTH
async def test_cache_keeps_no_error(method: str) -> None:
    cache = MIDDLEWARES.Cache({})
    async with serve(answers(status=500)) as server, opened(server.url, cache) as service:
        with pytest.raises(trunkline.ServerError):
            await ask(service, method, "Hi")
    assert not cache.kept


async def test_cache_keeps_no_stream_that_is_cut_off_or_left_early() -> None:
    cache = MIDDLEWARES.Cache({})
    async with serve(answers("Hel", cut=True)) as server, opened(server.url, cache) as service:
        with pytest.raises(trunkline.StreamInterrupted):
            await ask(service, "stream", "Hi")
    async with serve(answers("Hel", "lo")) as server, opened(server.url, cache) as service:
        async with service.stream("Hi") as stream:
            async for event in stream:
                if isinstance(event, trunkline.TextDelta):
                    break
    assert not cache.kept


# The redactor

CONVERSATION = [
    trunkline.system("Ask bo@acme.example if in doubt; [email-2] is no address."),
    trunkline.user("Write to ann@acme.example."),
    trunkline.Message(
        role="assistant", parts=[trunkline.ToolCall(id="1", name="mail", arguments={"to": ["ann@acme.example"]})]
    ),
    trunkline.tool_result("1", "cy@acme.example answered"),
]


@BOTH
async def test_redactor_sends_no_address_and_restores_them_all(method: str) -> None:
    deltas = ("For [em", "ail-3", "] and [email-1][", "email-4] but [email-2] [emai")
    arguments = ('{"to": "[ema', "il-", '3]", "cc": ["[email-4]"]}')
    sent = Sent()
    async with (
        serve(answers(*deltas, arguments=arguments)) as server,
        opened(server.url, MIDDLEWARES.Redactor(), sent) as service,
    ):
        response = await ask(service, method, CONVERSATION, tools=[trunkline.Tool(name="mail")])
    assert response.text == "For ann@acme.example and bo@acme.examplecy@acme.example but [email-2] [emai"
    assert response.tool_calls[0].arguments == {"to": "ann@acme.example", "cc": ["cy@acme.example"]}
    body = server.requests[0].body.decode()
    assert "acme.example" not in body
    assert [body.count(f"[email-{number}]") for number in (1, 2, 3, 4)] == [1, 1, 2, 1]
    observed = sent.requests[0].messages[1].text
    assert observed == "Write to [email-3]."


async def test_redactor_covers_embeddings() -> None:
    async with serve(answers()) as server, opened(server.url, MIDDLEWARES.Redactor()) as service:
        await service.embed("ann@acme.example")
    assert json.loads(server.requests[0].body)["input"] in ("[email-1]", ["[email-1]"])


@BOTH
async def test_cache_inside_the_redactor_holds_no_address(method: str) -> None:
    cache = MIDDLEWARES.Cache({})
    async with (
        serve(answers("To [email-", "1]")) as server,
        opened(server.url, MIDDLEWARES.Redactor(), cache) as service,
    ):
        for name in ("ann@acme.example", "bo@acme.example"):
            assert (await ask(service, method, f"Write to {name}")).text == f"To {name}"
    assert len(server.requests) == 1
    assert "acme" not in json.dumps([*cache.kept, *map(to_json, cache.kept.values())])


# The router


async def test_router_sends_each_request_to_the_service_of_its_model() -> None:
    async with serve(answers("one")) as one, serve(answers("two")) as two, opened(two.url) as other:
        async with opened(one.url, MIDDLEWARES.Router({"n": other})) as service:
            for method in ("chat", "stream"):
                assert (await ask(service, method, "Hi")).text == "one"
                assert (await ask(service, method, "Hi", model="n")).text == "two"
            await service.embed("Hi", model="m")
            await service.embed("Hi", model="n")
        assert (len(one.requests), len(two.requests)) == (3, 3)


# The guard


async def test_guard_refuses_before_anything_is_sent() -> None:
    sent, refused = Sent(), MIDDLEWARES.Refused
    async with serve(answers("Hi")) as server, opened(server.url, MIDDLEWARES.Guard(["falcon"]), sent) as service:
        calls: list[Callable[[], Any]] = [
            lambda: ask(service, "chat", "When is FALCON ready?"),
            lambda: ask(service, "stream", "When is FALCON ready?"),
            lambda: service.embed("falcon", model="m"),
        ]
        for make in calls:
            with pytest.raises(refused, match="must not mention 'falcon'"):
                await make()
        assert not server.requests
        assert not sent.requests
        assert (await service.chat("Hello")).text == "Hi"


# The audit log


def entries(path: Path) -> list[str]:
    return [list(json.loads(line))[-1] for line in path.read_text(encoding="utf-8").splitlines()]


@BOTH
async def test_audit_log_has_the_request_and_the_response(tmp_path: Path, method: str) -> None:
    path = tmp_path / "log"
    async with serve(answers("Hel", "lo")) as server, opened(server.url, MIDDLEWARES.Audit(path)) as service:
        response = await ask(service, method, "Hi")
        await service.embed("Hi", model="m")
    assert entries(path) == ["asked", "answered"] * 2
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[1])["answered"] == to_json(response)


@BOTH
async def test_nothing_is_sent_if_the_audit_log_cannot_be_written(tmp_path: Path, method: str) -> None:
    async with serve(answers("Hi")) as server, opened(server.url, MIDDLEWARES.Audit(tmp_path)) as service:
        with pytest.raises(trunkline.PluginError, match="a middleware of Audit failed: IsADirectoryError"):
            await ask(service, method, "Hi")
    assert not server.requests


@pytest.mark.parametrize("method", ["chat", "embed"])
async def test_no_result_is_delivered_without_its_entry(tmp_path: Path, method: str) -> None:
    path = tmp_path / "log"

    async def break_the_log(exchange: Exchange) -> None:
        path.unlink()
        path.mkdir()
        await answers("Hi")(exchange)

    async with serve(break_the_log) as server, opened(server.url, MIDDLEWARES.Audit(path)) as service:
        with pytest.raises(trunkline.PluginError, match="a middleware of Audit failed: IsADirectoryError"):
            await (service.chat("Hi") if method == "chat" else service.embed("Hi", model="m"))
    assert len(server.requests) == 1


async def test_finished_is_withheld_without_the_entry_of_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with serve(answers("Hel", "lo")) as server, opened(server.url, MIDDLEWARES.Audit(path)) as service:
        with pytest.raises(trunkline.PluginError, match="a middleware of Audit failed: IsADirectoryError"):
            async with service.stream("Hi") as stream:
                path.unlink()
                path.mkdir()
                async for event in stream:
                    assert not isinstance(event, trunkline.Finished)
    assert stream.partial.text == "Hello"


async def test_cancelled_stream_has_one_entry(tmp_path: Path) -> None:
    path = tmp_path / "log"
    async with (
        serve(lambda exchange: exchange.hung_up()) as server,
        opened(server.url, MIDDLEWARES.Audit(path)) as service,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, service, "stream", "Hi")
            while not server.requests:
                await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert entries(path) == ["asked"]


# The rules for extensions

ADDRESS = trunkline.ChatRequest(messages="Write to ann@acme.example.")


class TestCache(ExtensionTests):
    def extension(self) -> object:
        return MIDDLEWARES.Cache({})


class TestRedactor(ExtensionTests):
    request = ADDRESS

    def extension(self) -> object:
        return MIDDLEWARES.Redactor()


class TestRouter(ExtensionTests):
    def extension(self) -> object:
        return MIDDLEWARES.Router({})


class TestGuard(ExtensionTests):
    refused = (trunkline.ChatRequest(messages="Falcon"),)

    def extension(self) -> object:
        return MIDDLEWARES.Guard(["falcon"])


FOLDER = Path(tempfile.mkdtemp())
"""For the log of `TestAudit`, whose tests may run in processes of their own, without fixtures."""
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


class TestAudit(ExtensionTests):
    def extension(self) -> object:
        return MIDDLEWARES.Audit(FOLDER / "log")

    def failing_extension(self) -> object:
        return MIDDLEWARES.Audit(FOLDER)
