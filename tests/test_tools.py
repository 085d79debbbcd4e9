"""`run_tools`: the rounds of a run over a real connection, the results that the model receives, and how a run ends."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import date
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pydantic
import pytest
from trunkline import (
    AnswerRejected,
    ApprovalRequest,
    Approve,
    Call,
    CallError,
    ChatRequest,
    Finished,
    FinishReason,
    Image,
    InvalidAnswer,
    InvalidRequest,
    JSONObject,
    LocalTool,
    Middleware,
    Opaque,
    ResponseStarted,
    RoundLimitReached,
    ServerError,
    Service,
    StreamClosed,
    StreamInterrupted,
    Tool,
    ToolCall,
    ToolFailed,
    ToolFinished,
    ToolResult,
    ToolRun,
    ToolStarted,
    Usage,
    assistant,
    fallback,
    heartbeats,
    hookimpl,
    open_service,
    run_tools,
    tool,
    tool_result,
    user,
)
from trunkline.authoring.middleware import EventStream, RunProceed, StreamProceed
from trunkline.authoring.provider import CallGroup
from trunkline.testing import Exchange, LoopbackServer, serve

pytestmark = pytest.mark.anyio

SSE = {"content-type": "text/event-stream"}
PNG = b"\x89PNG\r\n\x1a\n"
USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


Turn = str | list[tuple[str, str]]
"""A response of the model: a text, or calls with their arguments as JSON text."""


def chunks(turn: Turn, usage: dict[str, int] | None = USAGE, reason: str | None = None) -> bytes:
    """A streamed response of Chat Completions."""
    deltas: list[dict[str, Any]] = []
    if isinstance(turn, str):
        deltas.append({"content": turn})
    else:
        for index, (name, arguments) in enumerate(turn):
            function = {"name": name, "arguments": arguments}
            deltas.append(
                {"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function", "function": function}]}
            )
    choices: list[list[dict[str, Any]]] = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    ended = reason or ("stop" if isinstance(turn, str) else "tool_calls")
    choices.append([{"index": 0, "delta": {}, "finish_reason": ended}])
    bodies: list[dict[str, Any]] = [
        {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": choice} for choice in choices
    ]
    if usage is not None:
        bodies.append({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": usage})
    return b"".join(b"data: " + json.dumps(body).encode() + b"\n\n" for body in bodies) + b"data: [DONE]\n\n"


@attrs.define
class Model:
    """A server that answers with one turn after another, and the service that calls it."""

    service: Service
    server: LoopbackServer

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.server.requests]

    def results(self, number: int = -1) -> list[str]:
        """The texts of the results in a request."""
        return [message["content"] for message in self.bodies[number]["messages"] if message["role"] == "tool"]


@asynccontextmanager
async def model(*turns: Turn | bytes, extensions: Sequence[object] = ()) -> AsyncIterator[Model]:
    async def answer(exchange: Exchange) -> None:
        turn = turns[min(exchange.number, len(turns)) - 1]
        await exchange.respond(turn if isinstance(turn, bytes) else chunks(turn), headers=SSE)

    async with (
        serve(answer) as server,
        open_service(
            "openai",
            api_url=server.url,
            api_key="k",
            default_model="m",
            api="chat",
            max_retries=0,
            extensions=extensions,
        ) as service,
    ):
        yield Model(service, server)


@tool
async def weather(city: str) -> dict[str, object]:
    """Get the weather in a city.

    Args:
        city: The name of the city.
    """
    return {"city": city, "celsius": 7}


OSLO = ("weather", '{"city": "Oslo"}')
ROME = ("weather", '{"city": "Rome"}')


async def test_a_run_calls_the_tools_and_sends_their_results_until_the_model_answers() -> None:
    async with model([OSLO, ROME], "Both 7 degrees.") as toy:
        run = await run_tools(toy.service, "Oslo or Rome?", [weather], temperature=0)

    assert run.text == "Both 7 degrees."
    assert run.response.finish_reason == "stop"
    assert [len(each.results) for each in run.rounds] == [2, 0]
    assert [message.role for message in run.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert run.usage == Usage(input_tokens=20, output_tokens=4, total_tokens=24)
    assert toy.results() == ['{"city":"Oslo","celsius":7}', '{"city":"Rome","celsius":7}']
    first = toy.bodies[0]
    assert first["temperature"] == 0
    function = first["tools"][0]["function"]
    assert function["name"] == "weather"
    assert function["description"] == "Get the weather in a city."
    assert function["parameters"] == {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The name of the city."}},
        "required": ["city"],
        "additionalProperties": False,
    }


async def test_the_events_of_all_rounds_are_read_in_order_with_those_of_the_tools() -> None:
    async with model([OSLO], "Cold.") as toy:
        kinds: list[str] = []
        async with run_tools(toy.service, "Oslo?", [weather]) as run:
            async for event in run:
                kinds.append(type(event).__name__)
                if isinstance(event, ToolStarted):
                    assert (event.name, toy.server.requests[1:]) == ("weather", [])
                if isinstance(event, ToolFinished):
                    assert isinstance(event.result, ToolResult)
                    assert (event.result.text, event.error) == ('{"city":"Oslo","celsius":7}', None)
    first, second = kinds[: kinds.index("Finished") + 1], kinds[kinds.index("Finished") + 1 :]
    assert first[0] == "ResponseStarted"
    assert "ToolCallStart" in first
    assert second[:3] == ["ToolStarted", "ToolFinished", "ResponseStarted"]
    assert second[-1] == "Finished"
    assert run.text == "Cold."


async def test_plain_functions_and_the_tools_of_the_request_are_tools_of_the_run() -> None:
    def twice(number: int) -> int:
        return 2 * number

    async with model([("twice", '{"number": 4}'), OSLO], "8") as toy:
        run = await run_tools(toy.service, ChatRequest(messages="?", tools=[weather]), [twice])
    assert toy.results() == ["8", '{"city":"Oslo","celsius":7}']
    assert run.text == "8"


async def test_a_sync_function_runs_in_a_thread_with_the_context_of_the_run() -> None:
    user_id = ContextVar("user_id", default="nobody")
    threads = []

    def who() -> str:
        threads.append(threading.current_thread())
        return user_id.get()

    user_id.set("ada")
    async with model([("who", "")], "ada") as toy:
        await run_tools(toy.service, "Who?", [who])
    assert toy.results() == ["ada"]
    assert threads != [threading.current_thread()]


class Account:
    def __init__(self, balance: int) -> None:
        self._balance = balance

    @tool
    def balance(self, currency: str = "EUR") -> str:
        """Return the balance."""
        return f"{self._balance} {currency}"


async def test_the_tool_of_an_object_runs_its_method() -> None:
    async with model([("balance", "{}")], "5") as toy:
        await run_tools(toy.service, "?", [Account(5).balance])
        with pytest.raises(InvalidRequest, match="tool 'balance' is a method: pass the tool of an object"):
            run_tools(toy.service, "?", [Account.balance])
    assert toy.results(1) == ["5 EUR"]
    assert Account(3).balance("USD") == "3 USD"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (("weather", '{"city": 3}'), "wrong arguments: Expected `str`, got `int` - at `$.city`"),
        (("weather", "{}"), "wrong arguments: Object missing required field `city`"),
        (("weather", '{"city": "Oslo", "unit": "c"}'), "wrong arguments: Object contains unknown field `unit`"),
        (("weather", "Oslo"), "the arguments are not a JSON object"),
        (("forecast", "{}"), "there is no tool with this name; the tools are: weather"),
    ],
)
async def test_the_model_receives_the_problem_of_a_wrong_call(call: tuple[str, str], text: str) -> None:
    async with model([call], "Sorry.") as toy:
        run = await run_tools(toy.service, "?", [weather])
    [finished] = run.rounds[0].results
    assert isinstance(finished.result, ToolResult)
    assert finished.result.is_error
    assert finished.result.text == text
    assert text in toy.results()[0]


class Seat(pydantic.BaseModel):
    """A seat, whose validator quotes a key in its problem."""

    row: int

    @pydantic.field_validator("row")
    @classmethod
    def check(cls, row: int) -> int:
        raise ValueError("not a row; the key was sk-proj-abcdefghij0123456789ABCDEF")


@tool
def reserve(seats: list[Seat]) -> str:
    """Reserve seats."""
    return "reserved"


async def test_the_problem_of_wrong_arguments_is_short_and_has_no_key() -> None:
    async with model([("reserve", json.dumps({"seats": [{"row": 1}] * 1000}))], "Sorry.") as toy:
        run = await run_tools(toy.service, "?", [reserve])
    result = run.rounds[0].results[0].result
    assert isinstance(result, ToolResult)
    assert result.text.startswith("wrong arguments: seats.0.row: Value error, not a row; the key was ***")
    assert len(result.text) < 2100


async def test_the_model_receives_a_failure_without_what_looks_like_a_key() -> None:
    failure = ValueError("no such city; the key was sk-proj-abcdefghij0123456789ABCDEF")

    async def find(city: str) -> str:
        raise failure

    async with model([("find", '{"city": "Oslo"}')], "Sorry.") as toy:
        run = await run_tools(toy.service, "?", [find])
    assert "ValueError: no such city; the key was ***" in toy.results()[0]
    assert run.rounds[0].results[0].error is failure


async def test_with_on_tool_error_raise_a_failure_is_raised_and_ends_the_other_tools() -> None:
    ended = []

    async def slow() -> str:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)
        return ""

    async def broken() -> str:
        await anyio.lowlevel.checkpoint()
        raise ValueError("no database")

    async with model([("slow", ""), ("broken", "")]) as toy:
        run = run_tools(toy.service, "?", [slow, broken], on_tool_error="raise")
        with pytest.raises(ToolFailed, match="tool 'broken' failed: ValueError: no database") as caught:
            await run
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.run is run
    assert len(run.messages) == 2
    assert ended == [True]


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("text", "text"),
        (None, "null"),
        ([1, {"a": None}], '[1,{"a":null}]'),
        (Usage(input_tokens=3), None),
        (ToolResult(tool_call_id="other", parts="kept"), "kept"),
        (tool_result("other", {"a": 1}), '{"a":1}'),
        (user("a note"), "a note"),
        ([Image(data=PNG), "a picture"], None),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_results_of_any_kind_are_sent(value: object, sent: str | None) -> None:
    def get() -> object:
        return value

    async with model([("get", "")], "Thanks.") as toy:
        run = await run_tools(toy.service, "?", [get])
    [finished] = run.rounds[0].results
    assert isinstance(finished.result, ToolResult)
    assert finished.result.tool_call_id == "call_0"
    assert not finished.result.is_error
    if sent is not None:
        assert toy.results() == [sent]
    elif isinstance(value, list):
        assert [type(part).__name__ for part in finished.result.parts] == ["Image", "Text"]
    else:
        assert '"input_tokens":3' in finished.result.text


@pytest.mark.parametrize(
    ("value", "error"),
    [(object(), TypeError), (assistant(ToolCall(id="1", name="get")), InvalidRequest)],
    ids=["object", "message with a call"],
)
async def test_a_result_that_cannot_be_sent_is_a_failure_of_the_tool(value: object, error: type[Exception]) -> None:
    async with model([("get", "")], "Sorry.") as toy:
        run = await run_tools(toy.service, "?", [tool(lambda: value, name="get")])
    assert isinstance(run.rounds[0].results[0].error, error)


async def test_null_stands_for_an_optional_argument_that_is_left_out() -> None:
    @tool(strict=True)
    def weather(city: str, days: int = 3, unit: str | None = "C") -> str:
        return f"{city} {days} {unit}"

    async with model([("weather", '{"city": "Oslo", "days": null, "unit": null}')], "Fine.") as server:
        await run_tools(server.service, "Oslo?", [weather])
        assert server.results() == ["Oslo 3 None"]
        [sent] = server.bodies[0]["tools"]
        assert sent["function"]["strict"] is True
        assert sent["function"]["parameters"]["required"] == ["city", "days", "unit"]


async def test_a_tool_that_waited_for_a_cancelled_task_has_failed(anyio_backend: str) -> None:
    if anyio_backend == "trio":
        return  # trio has no exception that a function could raise

    class Passing:
        @hookimpl
        def trunkline_middleware(self) -> Middleware:
            return Middleware()

    @tool
    async def lost() -> None:
        raise asyncio.CancelledError

    what = "RuntimeError: a task that it waited for was cancelled, but the call was not"
    for extensions in ([], [Passing()]):
        async with model([("lost", "{}")], "Fine.", extensions=extensions) as server:
            run = await run_tools(server.service, "Oslo?", [lost])
            assert run.text == "Fine."
            assert server.results() == [f"Error: {what}"]
        async with model([("lost", "{}")], "Fine.", extensions=extensions) as server:
            with pytest.raises(ToolFailed, match="tool 'lost' failed"):
                await run_tools(server.service, "Oslo?", [lost], on_tool_error="raise")


async def test_a_function_that_cancels_its_own_task_has_failed(anyio_backend: str) -> None:
    if anyio_backend == "trio":
        return

    @tool
    async def stop() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.lowlevel.checkpoint()

    async def refuse(request: ApprovalRequest) -> bool:
        raise asyncio.CancelledError

    async with model([("stop", "{}")], "Fine.") as server:
        await run_tools(server.service, "Oslo?", [stop])
        assert server.results() == ["Error: the call was cancelled"]
    async with model([("weather", '{"city": "Oslo"}')], "Fine.") as server:
        await run_tools(server.service, "Oslo?", [weather], approve=refuse)
        assert server.results() == ["Error: the call was cancelled"]
    async with model([("stop", "{}")], "Fine.") as server:
        with pytest.raises(ToolFailed, match="'stop' ended as if it were cancelled"):
            await run_tools(server.service, "Oslo?", [stop], on_tool_error="raise")


async def test_a_function_that_cancels_its_own_task_leaves_the_other_tools_of_its_round_alone(
    anyio_backend: str,
) -> None:
    if anyio_backend == "trio":
        return
    cancelled = asyncio.Event()

    @tool
    async def stop() -> None:
        cancelled.set()
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.lowlevel.checkpoint()

    @tool
    async def stop_late() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "stopped"

    @tool
    async def wait() -> str:
        await cancelled.wait()
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        return "waited"

    async with model([("wait", "{}"), ("stop", "{}"), ("stop_late", "{}")], "Fine.") as server:
        run = await run_tools(server.service, "Oslo?", [wait, stop, stop_late])
        assert server.results() == ["waited", "Error: the call was cancelled", "stopped"]
    assert run.text == "Fine."


async def test_an_exception_that_is_no_failure_is_raised_as_it_is_and_ends_the_other_tools() -> None:
    class Stop(BaseException):
        pass

    ended: list[str] = []

    @tool
    async def stop() -> None:
        raise Stop

    @tool
    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("wait")

    async with model([("wait", "{}"), ("stop", "{}")]) as server:
        with pytest.raises(Stop):
            await run_tools(server.service, "Oslo?", [wait, stop])
    assert ended == ["wait"]


async def test_the_model_receives_the_class_of_a_failure_whose_text_cannot_be_shown() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError

    @tool
    async def fail() -> None:
        raise Unprintable

    async with model([("fail", "{}")], "Fine.") as server:
        await run_tools(server.service, "Oslo?", [fail])
        assert server.results() == ["Error: Unprintable: (its text cannot be shown)"]


async def test_no_more_tools_run_at_once_than_allowed() -> None:
    running, most = 0, 0

    async def count() -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        running -= 1
        return ""

    async with model([("count", "")] * 9, "Done.") as toy:
        await run_tools(toy.service, "?", [count], max_parallel=3)
    assert most == 3


async def test_the_limit_of_rounds_raises_an_error_that_keeps_the_run() -> None:
    ran = []

    @tool
    def weather(city: str) -> str:
        ran.append(city)
        return "rain"

    async with model([OSLO], [ROME], "Wet.") as toy:
        with pytest.raises(RoundLimitReached, match="after 2 rounds") as caught:
            await run_tools(toy.service, "?", [weather], max_rounds=2)
        run = caught.value.run
        assert ran == ["Oslo"]
        assert [message.role for message in run.messages] == ["user", "assistant", "tool", "assistant"]
        assert run.usage.total_tokens == 24
        again = await run_tools(toy.service, run.messages, [weather])
    assert ran == ["Oslo", "Rome"]
    assert again.text == "Wet."
    assert toy.results() == ["rain", "rain"]


async def test_with_at_limit_answer_the_last_round_may_not_call_tools() -> None:
    async with model([OSLO], "Cold.") as toy:
        run = await run_tools(toy.service, "?", [weather], max_rounds=2, at_limit="answer")
    assert [body.get("tool_choice") for body in toy.bodies] == [None, "none"]
    assert run.text == "Cold."


@pytest.mark.parametrize("choice", ["required", "weather"])
async def test_a_forced_call_is_forced_in_the_first_round_only(choice: str) -> None:
    async with model([OSLO], "Cold.") as toy:
        await run_tools(toy.service, "?", [weather], tool_choice=choice)
    assert "tool_choice" in toy.bodies[0]
    assert "tool_choice" not in toy.bodies[1]


async def test_a_call_that_was_cut_off_is_not_run() -> None:
    async with model(chunks([OSLO], reason="length")) as toy:
        run = await run_tools(toy.service, "?", [weather])
    assert run.response.finish_reason == "length"
    assert len(toy.bodies) == 1
    assert run.rounds[0].results == ()


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (True, '{"city":"Oslo","celsius":7}'),
        (False, "the call was not approved"),
        ("ask again tomorrow", "ask again tomorrow"),
        (ToolResult(tool_call_id="", parts="sunny"), "sunny"),
    ],
    ids=["yes", "no", "a reason", "a result"],
)
@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
async def test_a_call_runs_only_if_it_is_approved(verdict: Any, text: str, is_async: bool) -> None:
    asked: list[ApprovalRequest] = []

    async def approve(request: ApprovalRequest) -> Any:
        asked.append(request)
        return verdict

    def approve_in_thread(request: ApprovalRequest) -> Any:
        asked.append(request)
        return verdict

    async with model([OSLO], "Thanks.") as toy:
        run = await run_tools(toy.service, "?", [weather], approve=approve if is_async else approve_in_thread)
    assert [(request.tool, request.arguments) for request in asked] == [(weather, {"city": "Oslo"})]
    [finished] = run.rounds[0].results
    assert isinstance(finished.result, ToolResult)
    assert finished.result.text == text
    assert finished.result.is_error is (verdict is False or isinstance(verdict, str))


async def test_approval_that_is_no_decision_ends_the_run() -> None:
    async with model([OSLO]) as toy:
        with pytest.raises(InvalidRequest, match="approve must return True, False, a reason or a ToolResult, not None"):
            await run_tools(toy.service, "?", [weather], approve=lambda call: None)  # type: ignore[arg-type,return-value]


class Booking:
    """Two tools, of which one ends at once and one only when its event is set, and what they have done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.release = anyio.Event()

    @tool
    async def book(self, city: str, nights: int = 1) -> str:
        self.done.append(f"book {city}")
        return "booked"

    @tool
    async def wait(self) -> str:
        try:
            await self.release.wait()
        finally:
            self.done.append("end of wait")
        return "waited"


BOOK = ("book", '{"city": "Oslo"}')
WAIT = ("wait", "{}")


def names(run: ToolRun) -> list[str]:
    return [finished.name for each in run.rounds for finished in each.results]


async def finish(run: ToolRun, ended: anyio.Event) -> None:
    async with run:
        async for event in run:
            if isinstance(event, ToolFinished):
                ended.set()


async def test_a_cancelled_run_keeps_the_results_of_the_tools_that_have_ended() -> None:
    booking, ended = Booking(), anyio.Event()
    tools: list[Tool] = [booking.wait, booking.book]
    async with model([WAIT, BOOK], "Done.") as toy:
        run = run_tools(toy.service, "?", tools)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(finish, run, ended)
            await ended.wait()
            tasks.cancel_scope.cancel()
        assert names(run) == ["book"]
        assert [message.role for message in run.messages] == ["user", "assistant", "tool"]
        booking.release.set()
        await run_tools(toy.service, run.messages, tools)
    assert booking.done == ["book Oslo", "end of wait", "end of wait"]
    assert sorted(toy.results()) == ["booked", "waited"]


async def test_a_failed_run_keeps_the_results_of_the_tools_that_have_ended() -> None:
    booking = Booking()

    async def fail() -> None:
        await anyio.wait_all_tasks_blocked()
        if len(booking.done) < 2:
            raise ValueError("no database")

    tools: list[Callable[..., object]] = [fail, booking.book]
    async with model([("fail", "{}"), BOOK], "Done.") as toy:
        run = run_tools(toy.service, "?", tools, on_tool_error="raise")
        finished = []
        with pytest.raises(ToolFailed, match="no database"):
            async with run:
                finished = [event.name async for event in run if isinstance(event, ToolFinished)]
        assert finished == []
        assert names(run) == ["book"]
        booking.done.append("mended")
        resumed = await run_tools(toy.service, run.messages, tools, on_tool_error="raise")
    assert booking.done == ["book Oslo", "mended"]
    assert resumed.text == "Done."


async def test_the_answers_of_handlers_do_not_hide_calls_without_a_result() -> None:
    booking = Booking()
    answer = Opaque(provider="openai", kind="shell_call_output", data={"type": "shell_call_output", "call_id": "s"})
    calls = assistant(ToolCall(id="1", name="book", arguments={"city": "Oslo"}))
    async with model("Done.") as toy:
        await run_tools(toy.service, [user("?"), calls, user(answer)], [booking.book])
    assert booking.done == ["book Oslo"]


async def test_results_arrive_as_each_tool_ends_and_are_sent_in_the_order_of_the_calls() -> None:
    booking = Booking()
    async with model([WAIT, BOOK], "Done.") as toy:
        finished: list[str] = []
        async with run_tools(toy.service, "?", [booking.wait, booking.book]) as run:
            async for event in run:
                if isinstance(event, ToolFinished):
                    finished.append(event.name)
                    booking.release.set()
    assert finished == ["book", "wait"]
    assert names(run) == ["wait", "book"]
    assert toy.results() == ["waited", "booked"]


async def test_tools_go_on_while_the_application_does_not_read() -> None:
    booking = Booking()
    async with model([WAIT, BOOK], "Done.") as toy:
        async with run_tools(toy.service, "?", [booking.wait, booking.book]) as run:
            async for event in run:
                if isinstance(event, ToolStarted):
                    booking.release.set()
                    await anyio.wait_all_tasks_blocked()
                    assert len(names(run)) == 2


async def test_a_tool_that_waits_for_its_turn_has_not_started() -> None:
    async with model([OSLO, ROME], "Done.") as toy:
        async with run_tools(toy.service, "?", [weather], max_parallel=1) as run:
            kinds = [type(event).__name__ async for event in run]
    assert [kind for kind in kinds if kind.startswith("Tool") and "Call" not in kind] == [
        "ToolStarted",
        "ToolFinished",
        "ToolStarted",
        "ToolFinished",
    ]


@pytest.mark.parametrize("call", [("weather", '{"city": 5}'), ("weather", "["), ("rm", "{}")])
async def test_nobody_is_asked_about_a_wrong_call_which_never_starts(call: tuple[str, str]) -> None:
    asked: list[str] = []

    def approve(request: ApprovalRequest) -> bool:
        asked.append(request.name)
        return False

    async with model([call, OSLO], "Done.") as toy:
        async with run_tools(toy.service, "?", [weather], approve=approve) as run:
            started = [event.name async for event in run if isinstance(event, ToolStarted)]
    assert asked == ["weather"]
    assert started == []
    assert "not approved" in toy.results()[1]
    assert "not approved" not in toy.results()[0]


async def test_a_call_that_is_wrong_does_not_run_if_an_extension_corrects_it() -> None:
    class Correct(Middleware):
        @hookimpl
        def trunkline_middleware(self, context: Any) -> Middleware:
            return self

        async def run(self, call: Call, operation: str, value: object, proceed: RunProceed) -> object:
            assert isinstance(value, ToolCall)
            return await proceed(attrs.evolve(value, arguments={"city": "Oslo"}))

    booking = Booking()
    cases: list[tuple[Approve | None, list[str]]] = [(lambda _: True, []), (None, ["book Oslo"])]
    for approve, done in cases:
        async with model([("book", '{"city": 5}')], "Done.") as toy:
            options: dict[str, Any] = {"api_key": "k", "default_model": "m", "api": "chat", "extensions": [Correct()]}
            async with open_service("openai", api_url=toy.server.url, **options) as service:
                await run_tools(service, "?", [booking.book], approve=approve)
        assert booking.done == done


async def test_an_exception_of_approve_ends_the_run_and_its_tools() -> None:
    booking = Booking()

    async def approve(request: ApprovalRequest) -> bool:
        if request.tool == booking.book:
            raise KeyError("no database of approvals")
        return True

    async with model([WAIT, BOOK]) as toy:
        run = run_tools(toy.service, "?", [booking.wait, booking.book], approve=approve)
        with pytest.raises(KeyError, match="approvals"):
            await run
    assert booking.done in ([], ["end of wait"])
    assert names(run) == []


async def test_a_run_does_not_end_as_if_it_were_complete_if_approve_finds_no_more_decisions() -> None:
    async def decide() -> AsyncIterator[bool]:
        return
        yield

    decisions = decide()

    async def approve(request: ApprovalRequest) -> bool:
        return await anext(decisions)

    async with model([OSLO], "Cold.") as toy:
        with pytest.raises(RuntimeError, match="approve raised StopAsyncIteration"):
            await run_tools(toy.service, "?", [weather], approve=approve)


async def test_calls_that_need_no_approval_run_while_a_person_decides_in_the_order_of_the_calls() -> None:
    booked = anyio.Event()
    asked: list[object] = []

    @tool(needs_approval=True)
    async def pay(amount: int) -> str:
        return "paid"

    @tool
    async def book() -> str:
        booked.set()
        return "booked"

    async def approve(request: ApprovalRequest) -> bool:
        asked.append(request.arguments["amount"])
        await booked.wait()
        return request.tool == pay

    calls = [("pay", json.dumps({"amount": number})) for number in range(6)]
    async with model([*calls, ("book", "{}")], "Done.") as toy:
        async with run_tools(toy.service, "?", [pay, book], approve=approve, max_parallel=2) as run:
            started = [event.name async for event in run if isinstance(event, ToolStarted)]
    assert started == ["book", *["pay"] * 6]
    assert asked == list(range(6))
    assert len(names(run)) == 7


async def test_approve_gets_the_arguments_as_the_function_does() -> None:
    @tool
    def pay(day: date, amount: int = 1) -> str:
        return "paid"

    async with model([("pay", '{"day": "2026-11-27"}')], "Done.") as toy:
        await run_tools(toy.service, "?", [pay], approve=lambda each: each.arguments == {"day": date(2026, 11, 27)})
    assert toy.results() == ["paid"]


async def test_a_tool_that_needs_approval_needs_somebody_to_ask() -> None:
    async with model("Hi") as toy:
        with pytest.raises(InvalidRequest, match="tool 'weather' needs approval: pass approve"):
            run_tools(toy.service, "?", [attrs.evolve(weather, needs_approval=True)])


async def test_a_tool_may_close_its_own_run() -> None:
    async with model([("stop", "{}")]) as toy:

        async def stop() -> None:
            await run.aclose()

        run = run_tools(toy.service, "?", [stop])
        with pytest.raises(StreamClosed):
            await run


async def test_a_dropped_generator_that_reads_a_run_ends_its_tools() -> None:
    booking = Booking()
    async with model([WAIT, BOOK]) as toy:

        async def read() -> AsyncIterator[str]:
            async with run_tools(toy.service, "?", [booking.wait, booking.book]) as run:
                async for event in run:
                    if isinstance(event, ToolFinished):
                        yield event.name

        reader = read()
        assert await anext(reader) == "book"
        async with anyio.create_task_group() as tasks:  # closed in another task than the one that has read
            tasks.start_soon(reader.aclose)  # type: ignore[attr-defined]
    assert booking.done == ["book Oslo", "end of wait"]


async def test_leaving_the_block_while_tools_run_ends_them() -> None:
    booking = Booking()
    async with model([WAIT, BOOK]) as toy:
        async with run_tools(toy.service, "?", [booking.wait, booking.book]) as run:
            async for event in run:
                if isinstance(event, ToolFinished):
                    break
        assert booking.done == ["book Oslo", "end of wait"]
        assert names(run) == ["book"]


def test_a_run_that_asyncio_cancels_with_all_its_tasks_ends() -> None:
    booking = asyncio.run(_leave_a_run_to_the_end_of_the_loop())
    assert booking.done == ["book Oslo", "end of wait"]


async def _leave_a_run_to_the_end_of_the_loop() -> Booking:
    booking, ended, opened = Booking(), anyio.Event(), anyio.Event()

    async def go() -> None:
        async with model([WAIT, BOOK]) as toy:
            opened.set()
            await finish(run_tools(toy.service, "?", [booking.wait, booking.book]), ended)

    task = asyncio.create_task(go())
    await ended.wait()
    assert not task.done()
    return booking


async def test_calls_without_a_function_are_left_to_the_application() -> None:
    async with model([OSLO, ("ask_user", "{}")], "Fine.") as toy:
        tools = [weather, Tool(name="ask_user")]
        run = await run_tools(toy.service, "?", tools)
        assert run.response.finish_reason is FinishReason.TOOL_CALLS
        [call] = run.pending
        assert isinstance(call, ToolCall)
        assert call.name == "ask_user"
        assert len(toy.bodies) == 1
        run = await run_tools(toy.service, [*run.messages, tool_result(call, "yes")], tools)
    assert toy.results() == ['{"city":"Oslo","celsius":7}', "yes"]
    assert (run.text, run.pending) == ("Fine.", ())


async def test_unknown_numbers_of_tokens_stay_unknown() -> None:
    async with model(chunks([OSLO]), chunks("Cold.", usage=None)) as toy:
        run = await run_tools(toy.service, "?", [weather])
    assert run.usage == Usage()


async def test_cancelling_a_run_ends_its_tools() -> None:
    ended = []
    started = anyio.Event()

    async def slow() -> str:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)
        return ""

    async with model([("slow", ""), ("slow", "")]) as toy:
        run = run_tools(toy.service, "?", [slow])
        async with anyio.create_task_group() as tasks:

            async def go() -> None:
                await run

            tasks.start_soon(go)
            await started.wait()
            tasks.cancel_scope.cancel()
        assert ended == [True, True]
        assert len(run.rounds) == 1
        with pytest.raises(CallError, match="an earlier read of this run was cancelled"):
            async for _ in run:
                pass


async def test_closing_a_run_ends_its_tools_and_the_read() -> None:
    started = anyio.Event()

    async def slow() -> str:
        started.set()
        await anyio.sleep_forever()
        return ""

    async with model([("slow", "")]) as toy:
        run = run_tools(toy.service, "?", [slow])
        async with anyio.create_task_group() as tasks:

            async def go() -> None:
                with pytest.raises(StreamClosed, match="was closed before it was read to its end"):
                    await run

            tasks.start_soon(go)
            await started.wait()
            await run.aclose()


async def test_a_run_may_be_closed_at_any_moment_of_its_first_requests() -> None:
    async def close_after(steps: int, service: Service) -> None:
        run = run_tools(service, "?", [weather], max_rounds=1000)
        begun = anyio.Event()

        async def go() -> None:
            begun.set()
            with pytest.raises(StreamClosed):
                await run

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(go)
            await begun.wait()
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            await run.aclose()

    for steps in range(40):
        async with model([OSLO]) as toy:
            await close_after(steps, toy.service)


async def test_leaving_the_block_early_closes_the_connection_and_runs_no_tool() -> None:
    async with model([OSLO]) as toy:
        async with run_tools(toy.service, "?", [weather]) as run:
            async for event in run:
                if isinstance(event, Finished):
                    break
            await anyio.wait_all_tasks_blocked()
        assert run.rounds[0].results == ()
        with pytest.raises(StreamClosed):
            await run.__anext__()


async def test_an_error_of_the_provider_ends_the_run_which_keeps_its_rounds() -> None:
    async def answer(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.respond(chunks([OSLO]), headers=SSE)
        else:
            await exchange.respond(b"{}", status=500)

    async with (
        serve(answer) as server,
        open_service(
            "openai", api_url=server.url, api_key="k", default_model="m", api="chat", max_retries=0
        ) as service,
    ):
        run = run_tools(service, "?", [weather])
        with pytest.raises(ServerError):
            await run
        assert [message.role for message in run.messages] == ["user", "assistant", "tool"]
        with pytest.raises(ServerError):
            await run.__anext__()


async def test_a_truncated_stream_is_never_an_answer() -> None:
    async with model([OSLO], chunks("Cold.")[:-40]) as toy:
        run = run_tools(toy.service, "?", [weather])
        with pytest.raises(StreamInterrupted):
            await run
    assert len(run.rounds) == 1


async def test_a_tool_may_be_made_from_a_schema() -> None:
    async def look(call: ToolCall) -> object:
        return {"looked for": call.arguments["name"]}

    schema: JSONObject = {"type": "object", "properties": {"name": {"type": "string"}}}
    async with model([("look", '{"name": "x"}')], "Found.") as toy:
        await run_tools(toy.service, "?", [LocalTool(name="look", parameters=schema, run=look)])
    assert toy.results() == ['{"looked for":"x"}']


def shell_call(response_id: str) -> bytes:
    call = {
        "type": "shell_call",
        "id": "sh_1",
        "call_id": "call_9",
        "status": "completed",
        "action": {"commands": ["ls"]},
    }
    return responses(response_id, call)


def responses(response_id: str, *items: dict[str, Any]) -> bytes:
    whole = {"id": response_id, "object": "response", "model": "m", "status": "completed", "output": list(items)}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}}
    ]
    for index, item in enumerate(items):
        events.append({"type": "response.output_item.added", "output_index": index, "item": item})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return b"".join(b"event: %s\ndata: %s\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "One file.", "annotations": []}],
}


@asynccontextmanager
async def responses_model(*turns: bytes) -> AsyncIterator[Model]:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(turns[min(exchange.number, len(turns)) - 1], headers=SSE)

    async with (
        serve(answer) as server,
        open_service("openai", api_url=server.url, api_key="k", default_model="m", api="responses") as service,
    ):
        yield Model(service, server)


async def test_a_handler_answers_calls_of_the_provider_s_own_tools() -> None:
    def shell(part: Opaque) -> dict[str, Any]:
        outcome = {"type": "exit", "exit_code": 0}
        output = [{"stdout": "a.txt", "stderr": "", "outcome": outcome}]
        return {"type": "shell_call_output", "call_id": part.data["call_id"], "output": output}

    async with responses_model(shell_call("resp_1"), responses("resp_2", MESSAGE)) as toy:
        run = await run_tools(toy.service, "Which files?", handlers={"shell_call": shell})
    sent = toy.bodies[1]["input"]
    assert [item.get("type") for item in sent][-2:] == ["shell_call", "shell_call_output"]
    assert sent[-1]["output"][0]["stdout"] == "a.txt"
    assert run.text == "One file."


CLIENT_RUN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "apply_patch_call": (
        {"id": "ap_1", "call_id": "call_9", "operation": {"type": "delete_file", "path": "a.txt"}},
        {"type": "apply_patch_call_output", "call_id": "call_9", "status": "completed", "output": "deleted"},
    ),
    "computer_call": (
        {"id": "cu_1", "call_id": "call_9", "action": {"type": "screenshot"}, "pending_safety_checks": []},
        {
            "type": "computer_call_output",
            "call_id": "call_9",
            "output": {"type": "computer_screenshot", "image_url": "data:image/png;base64,AAAA"},
        },
    ),
    "local_shell_call": (
        {"id": "lsh_1", "call_id": "call_9", "action": {"type": "exec", "command": ["ls"], "env": {}}},
        {"type": "local_shell_call_output", "id": "call_9", "output": "a.txt"},
    ),
    "mcp_approval_request": (
        {"id": "mcpr_1", "name": "book", "server_label": "travel", "arguments": "{}"},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    ),
}


@pytest.mark.parametrize("kind", CLIENT_RUN)
async def test_a_handler_answers_each_kind_of_call_that_the_client_runs(kind: str) -> None:
    fields, answer = CLIENT_RUN[kind]
    call = {"type": kind, "status": "completed", **fields}
    asked: list[Opaque] = []

    async def handle(part: Opaque) -> dict[str, Any]:
        asked.append(part)
        return answer

    async with responses_model(responses("resp_1", call), responses("resp_2", MESSAGE)) as toy:
        run = await run_tools(toy.service, "Go on.", handlers={kind: handle})
    assert [part.data["id"] for part in asked] == [fields["id"]]
    sent = toy.bodies[1]["input"]
    assert [item.get("type") for item in sent][-2:] == [kind, answer["type"]]
    assert sent[-1].items() >= answer.items()
    assert run.text == "One file."


async def test_a_call_of_the_provider_s_own_tools_without_a_handler_ends_the_run() -> None:
    async with responses_model(shell_call("resp_1")) as toy:
        run = await run_tools(toy.service, "Which files?")
    [part] = run.pending
    assert isinstance(part, Opaque)
    assert part.kind == "shell_call"


async def test_a_handler_that_fails_ends_the_run() -> None:
    def shell(part: Opaque) -> dict[str, Any]:
        raise OSError("no shell")

    async with responses_model(shell_call("resp_1")) as toy:
        with pytest.raises(ToolFailed, match="the handler of 'shell_call' failed: OSError: no shell"):
            await run_tools(toy.service, "Which files?", handlers={"shell_call": shell})


async def test_a_turn_that_the_provider_paused_is_continued() -> None:
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "news"}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "usage": {}}
    turns: list[dict[str, Any]] = [
        {**message, "content": [search], "stop_reason": "pause_turn"},
        {**message, "content": [found, {"type": "text", "text": "No news."}], "stop_reason": "end_turn"},
    ]

    async def answer(exchange: Exchange) -> None:
        await exchange.respond(json.dumps(turns[exchange.number - 1]).encode())

    hosted = Tool(name="web_search", provider_options={"anthropic": {"type": "web_search_20250305"}})
    async with (
        serve(answer) as server,
        open_service("anthropic", api_url=server.url, api_key="k", default_model="claude") as service,
    ):
        run = await run_tools(service, "News?", [hosted])
    assert run.text == "No news."
    assert [each.response.finish_reason for each in run.rounds] == ["paused", "stop"]
    assert json.loads(server.requests[1].body)["messages"][-1] == {"role": "assistant", "content": [search]}


async def test_results_that_the_history_has_are_not_asked_for_again() -> None:
    calls = assistant(ToolCall(id="1", name="weather", arguments={"city": "Oslo"}), ToolCall(id="2", name="weather"))
    async with model("Cold.") as toy:
        run = await run_tools(toy.service, [user("?"), calls, tool_result("2", "rain")], [weather])
    assert len(run.rounds) == 1
    assert sorted(toy.results()) == sorted(["rain", '{"city":"Oslo","celsius":7}'])


async def test_a_run_of_a_composed_service_goes_on_with_the_member_that_serves() -> None:
    seen = Seen()

    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"{}", status=503)

    async with model([OSLO], "Cold.") as toy, serve(refuse) as broken:
        options: dict[str, Any] = {"api_key": "k", "default_model": "m", "api": "chat", "max_retries": 0}
        first = open_service("openai", name="first", api_url=broken.url, **options)
        spare = open_service("openai", name="spare", api_url=toy.server.url, extensions=[seen], **options)
        async with fallback(first, spare) as service:
            run = await run_tools(service, "?", [weather])
    assert run.text == "Cold."
    assert [each.response.service for each in run.rounds] == ["spare", "spare"]
    assert [name for name, _ in seen.tools] == ["execute_tool weather"]


async def test_heartbeats_come_while_a_tool_runs() -> None:
    beaten = anyio.Event()

    async def slow() -> str:
        await beaten.wait()
        return "done"

    async with model([("slow", "")], "Done.") as toy:
        kinds = []
        async with heartbeats(run_tools(toy.service, "?", [slow]), 0.01) as events:
            async for event in events:
                kinds.append(type(event).__name__)
                if kinds[-2:] == ["ToolStarted", "Heartbeat"]:
                    beaten.set()
    assert kinds[-1] == "Finished"
    assert "ToolFinished" in kinds


@attrs.define
class Place:
    name: str
    warm: bool


FITS = '{"name": "Rome", "warm": true}'


async def test_a_run_gives_the_answer_as_a_value_of_a_type() -> None:
    async with model([OSLO], FITS) as toy:
        run = await run_tools(toy.service, "Oslo or Rome?", [weather], answer_type=Place)
    assert run.answer == Place("Rome", True)
    assert [body["response_format"]["json_schema"]["name"] for body in toy.bodies] == ["Place", "Place"]


async def test_the_model_is_asked_again_for_an_answer_that_does_not_fit() -> None:
    async with model([OSLO], '{"name": 5}', FITS) as toy:
        async with run_tools(toy.service, "?", [weather], answer_type=Place, answer_retries=1) as run:
            events = [event async for event in run]
        with pytest.raises(InvalidAnswer):
            await run_tools(toy.service, [*run.messages[:3], assistant("{}"), user("?")], answer_type=list[Place])
    assert run.answer.name == "Rome"
    [rejected] = [number for number, event in enumerate(events) if isinstance(event, AnswerRejected)]
    assert isinstance(events[rejected - 1], Finished)
    assert isinstance(events[rejected + 1], ResponseStarted)
    assert events[rejected].reason == "does_not_fit"  # type: ignore[union-attr]
    assert len(run.rounds) == 3
    assert [message.role for message in run.messages][-4:] == ["tool", "assistant", "user", "assistant"]
    assert "cannot be used" in run.messages[-2].text


async def test_an_answer_that_does_not_fit_ends_the_run_with_an_error() -> None:
    async with model([OSLO], "Cold.") as toy:
        run = run_tools(toy.service, "?", [weather], answer_type=Place)
        with pytest.raises(InvalidAnswer):
            await run
        assert run.text == "Cold."
        with pytest.raises(CallError, match="no answer yet"):
            _ = run.answer


async def test_a_run_that_leaves_calls_to_the_application_has_no_answer_yet() -> None:
    async with model([OSLO]) as toy:
        run = await run_tools(toy.service, "?", [Tool(name="weather")], answer_type=Place)
    assert run.pending
    with pytest.raises(CallError, match="no answer yet"):
        _ = run.answer


class Seen(Middleware):
    """An extension that notes the tools that run, and the groups of the calls."""

    def __init__(self) -> None:
        self.tools: list[tuple[str, object]] = []
        self.groups: list[CallGroup | None] = []
        self.ended: list[BaseException | None] = []

    @hookimpl
    def trunkline_middleware(self, context: Any) -> Middleware:
        return self

    def stream(self, call: Call, request: ChatRequest, proceed: StreamProceed) -> EventStream:
        if call.group is not None and call.group not in self.groups:
            call.group.on_end(self.ended.append)
        self.groups.append(call.group)
        return super().stream(call, request, proceed)

    async def run(self, call: Call, operation: str, value: object, proceed: RunProceed) -> object:
        result = await proceed(value)
        assert isinstance(value, ToolCall)
        assert isinstance(result, ToolResult)
        self.tools.append((f"{operation} {value.name}", result.text))
        self.groups.append(call.group)
        return attrs.evolve(result, parts=result.text.replace("Oslo", "***"))


async def test_a_run_that_is_dropped_without_being_left_ends_its_group_in_the_event_loop() -> None:
    ended = anyio.Event()
    threads = []

    def end(error: BaseException | None) -> None:
        threads.append(threading.get_ident())
        assert error is None
        ended.set()

    seen = Seen()
    async with model([OSLO], "Cold.", extensions=[seen]) as toy:
        run = run_tools(toy.service, "Oslo?", [weather])
        await run.__aenter__()
        await anext(run)
        assert seen.groups[0] is not None
        seen.groups[0].on_end(end)
        dropped = weakref.ref(run)
        del run
        thread = threading.Thread(target=gc.collect)
        thread.start()
        thread.join()
        assert dropped() is None
        assert not threads
        with anyio.fail_after(5):
            await ended.wait()
    assert threads == [threading.get_ident()]


async def test_extensions_see_the_run_as_a_group_and_its_tools() -> None:
    seen = Seen()
    async with model([OSLO], "Cold.") as toy:
        service = open_service(
            "openai", api_url=toy.server.url, api_key="k", default_model="m", api="chat", extensions=[seen]
        )
        async with service:
            await run_tools(service, "?", [weather], name="forecaster")
            await service.chat("Hi")
    assert seen.tools == [("execute_tool weather", '{"city":"Oslo","celsius":7}')]
    assert toy.results(1) == ['{"city":"***","celsius":7}']
    group = seen.groups[0]
    assert group is not None
    assert (group.operation, group.name) == ("run_tools", "forecaster")
    assert seen.groups == [group] * 3
    assert seen.ended == [None]


@pytest.mark.parametrize(
    "options",
    [
        {"max_rounds": 0},
        {"max_parallel": True},
        {"temprature": 0},
        {"answer_retries": 1},
        {"at_limit": "stop"},
        {"on_tool_error": "ignore"},
        {"approve": True},
    ],
)
async def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    async with model("Hi") as toy:
        with pytest.raises((InvalidRequest, TypeError)):
            run_tools(toy.service, "?", [weather], **options)
