"""The application of docs/howto/chat-backend.md, with a provider that fails and one that answers."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trunkline
from doc_examples import examples
from trunkline import opening
from trunkline.testing import Exchange, serve
from trunkline_prices import prices_of

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "howto" / "chat-backend.md"
GUARD = 5.0
"""How long, in seconds, a test waits for what should happen at once."""

CLOSE = {"connection": "close"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Answering:
    """An OpenAI server: it answers with the number of messages, and never ends or waits if the question says so."""

    def __init__(self) -> None:
        self.hung_up = anyio.Event()
        self.asked_slowly = anyio.Event()
        self.go_on = anyio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        body = json.loads(exchange.request.body)
        exchange.keep_alive = False
        await exchange.start(headers={"content-type": "text/event-stream", **CLOSE})
        await exchange.chunk(event(choices=[{"index": 0, "delta": {"content": f"{len(body['messages'])} messages"}}]))
        if body["messages"][-1]["content"] == "wait":
            await exchange.hung_up()
            self.hung_up.set()
            return
        if body["messages"][-1]["content"] == "slowly":
            self.asked_slowly.set()
            await self.go_on.wait()
        usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
        await exchange.chunk(event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
        await exchange.chunk(event(choices=[], usage=usage) + b"data: [DONE]\n\n")
        await exchange.end()


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps({"id": "1", "model": "gpt-5.4-mini", **fields}).encode() + b"\n\n"


async def overloaded(exchange: Exchange) -> None:
    exchange.keep_alive = False
    await exchange.respond(b'{"type": "error"}', status=529, headers=CLOSE)


class Backend:
    """The application, called as a web server calls it."""

    def __init__(self, module: Any, state: dict[str, Any], services: trunkline.Services) -> None:
        self._app = module.app
        self._state = state
        self.database = module.database
        self.services = services

    async def request(
        self, method: str, path: str, body: object = None, *, hangs_up: anyio.Event | None = None
    ) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
        status, received = 0, b""

        async def receive() -> dict[str, Any]:
            if sent:
                return sent.pop()
            await (hangs_up or anyio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, received
            status = message.get("status", status)
            received += message.get("body", b"")
            if b"data:" in received and hangs_up is not None:
                hangs_up.set()

        headers = [(b"content-type", b"application/json"), (b"host", b"x")]
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path}
        scope |= {"raw_path": path.encode(), "query_string": b"", "headers": headers, "state": dict(self._state)}
        with anyio.fail_after(GUARD):
            await self._app(scope, receive, send)
        return status, received

    async def ask(self, text: str, **options: Any) -> bytes:
        status, received = await self.request("POST", "/ann/chats/1", {"text": text}, **options)
        assert status == 200
        return received

    async def spent(self, user: str) -> float:
        _, spent = await self.request("GET", f"/{user}/spending")
        dollars: float = json.loads(spent)["dollars"]
        return dollars

    def rows(self) -> list[Any]:
        """Return the rows of the accounting: user, service, model, tokens, dollars, estimate."""
        found = self.database.execute("select user, service, model, tokens, dollars + 0, estimate from spending")
        return list(found)


@asynccontextmanager
async def backend(folder: Path, monkeypatch: pytest.MonkeyPatch, answering: Any) -> AsyncIterator[Backend]:
    for path, text in list(examples(PAGE, ROOT))[-1].files.items():
        (folder / path).write_text(text, encoding="utf-8")
    for name in [name for name in os.environ if name.startswith(("TRUNKLINE_", "OPENAI_", "ANTHROPIC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key-for-tests")
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-for-tests")
    async with serve(overloaded) as first, serve(answering) as second:
        monkeypatch.setenv("TRUNKLINE_CLAUDE_API_URL", first.url)
        monkeypatch.setenv("TRUNKLINE_GPT_API_URL", second.url)
        monkeypatch.delitem(sys.modules, "backend", raising=False)
        opened: list[trunkline.Services] = []

        def open_services(path: str) -> trunkline.Services:
            opened.append(opening.open_services(path))
            return opened[-1]

        monkeypatch.setattr(trunkline, "open_services", open_services)
        module = importlib.import_module("backend")
        try:
            async with module.lifespan(module.app) as state:
                yield Backend(module, state, opened[0])
        finally:
            module.database.close()
            sys.modules.pop("backend")


async def test_second_provider_answers_and_the_conversation_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backend(tmp_path, monkeypatch, Answering()) as app:
        first = await app.ask("Hello")
        assert first == b'data: {"text": "1 messages"}\n\nevent: done\ndata: {}\n\n'
        assert b"3 messages" in await app.ask("And then?")
        assert await app.spent("ann") == pytest.approx(2 * (1000 * 0.75 + 100 * 4.5) / 1e6)
        assert await app.spent("bob") == 0


async def test_of_two_questions_at_once_the_first_answer_is_stored_and_the_other_client_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = Answering()
    answers: list[bytes] = []
    async with backend(tmp_path, monkeypatch, answering) as app:

        async def ask_slowly() -> None:
            answers.append(await app.ask("slowly"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_slowly)
            await answering.asked_slowly.wait()
            assert b"event: done" in await app.ask("Hello")
            answering.go_on.set()
        [answer] = answers
        assert answer.endswith(b'event: error\ndata: {"error": "Conflict"}\n\n')
        assert b"3 messages" in await app.ask("And then?")
        found = app.database.execute("select number, messages from turns order by number").fetchall()
    texts = [[message["parts"][0]["text"] for message in json.loads(messages)] for _, messages in found]
    assert [number for number, _ in found] == [0, 1]
    assert texts == [["Hello", "1 messages"], ["And then?", "3 messages"]]


async def test_client_that_hangs_up_ends_the_call_and_leaves_no_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = Answering()
    async with backend(tmp_path, monkeypatch, answering) as app:
        await app.ask("wait", hangs_up=anyio.Event())
        with anyio.fail_after(GUARD):
            await answering.hung_up.wait()
        assert b"1 messages" in await app.ask("Hello")


async def test_client_that_hangs_up_is_accounted_with_an_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with backend(tmp_path, monkeypatch, Answering()) as app:
        await app.ask("wait", hangs_up=anyio.Event())
        assert await app.spent("ann") > 0
        refused, interrupted = app.rows()
    assert refused == ("ann", "claude", "claude-sonnet-5", 0, 0, 0)
    assert interrupted[:3] == ("ann", "gpt", "gpt-5.4-mini")
    assert interrupted[3] > 0
    assert interrupted[5] == 1


async def test_user_who_hangs_up_uses_up_the_budget_also_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pathlib.Path.write_text", with_budget(Path.write_text, "0.04"))
    async with backend(tmp_path, monkeypatch, Answering()) as app:
        await app.ask("wait", hangs_up=anyio.Event())
        first = await app.spent("ann")
        app.database.execute("update spending set dollars = '0.039' where estimate")
    assert first > 0
    async with backend(tmp_path, monkeypatch, Answering()) as app:
        assert b'"error": "BudgetExceeded"' in await app.ask("Hello")


async def test_both_providers_share_the_budget_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with backend(tmp_path, monkeypatch, Answering()) as app:
        await app.ask("Hello")
        of_fallback = [prices_of(app.services[name]).spent("ann") for name in ("claude", "gpt")]
    assert of_fallback[0] == of_fallback[1]
    assert of_fallback[0].limit == 5
    assert float(of_fallback[0].spent) > 0


async def test_failure_of_all_providers_is_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_GPT_MAX_RETRIES", "0")

    async def refuse(exchange: Exchange) -> None:
        exchange.keep_alive = False
        await exchange.respond(b'{"error": {"message": "no"}}', status=404, headers=CLOSE)

    async with backend(tmp_path, monkeypatch, refuse) as app:
        assert b'event: error\ndata: {"error": "NotFound"}' in await app.ask("Hello")


async def test_user_without_budget_gets_an_error_and_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(exchange: Exchange) -> None:
        raise AssertionError("a request was sent")

    monkeypatch.setattr("pathlib.Path.write_text", with_budget(Path.write_text, "1e-9"))
    async with backend(tmp_path, monkeypatch, fail) as app:
        assert b'"error": "BudgetExceeded"' in await app.ask("Hello")


def with_budget(write: Any, budget: str) -> Any:
    """Return `Path.write_text`, with another budget in what it writes."""
    return lambda path, text, **options: write(
        path, text.replace("label_budget = 5", f"label_budget = {budget}"), **options
    )
