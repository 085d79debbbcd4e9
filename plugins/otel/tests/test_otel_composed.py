"""The spans of composed services and of groups of calls, such as runs of tools."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trunkline
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from trunkline import ToolCall, tool_result
from trunkline.authoring.provider import CallGroup
from trunkline.testing import Exchange, serve

from .conftest import KEY, USAGE, Recorder, answer, frame
from .test_otel_spans import failing

pytestmark = pytest.mark.anyio

CALLS = [ToolCall(id=f"call-{number}", name="look", arguments={"where": "up-canary"}) for number in range(3)]


def facts(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_each_call_of_a_fallback_is_a_span_that_says_why(recorder: Recorder, method: str) -> None:
    tracer = recorder.tracer_provider.get_tracer("application")
    settings: Any = {"default_model": "m", "api_key": KEY, "extensions": [recorder.telemetry()]}
    async with serve(failing(503)) as down, serve(answer) as up:
        first = trunkline.open_service("openai-compatible", name="first", api_url=down.url, **settings)
        second = trunkline.open_service("openai-compatible", name="second", api_url=up.url, **settings)
        async with trunkline.fallback(first, second, name="main") as service:
            with tracer.start_as_current_span("application") as own:
                if method == "chat":
                    await service.chat("Hi")
                else:
                    async with service.stream("Hi") as stream:
                        await stream.finish()
    failed, answered, _ = recorder.spans
    assert [span.parent for span in (failed, answered)] == [own.get_span_context()] * 2
    assert facts(failed)["error.type"] == "Overloaded"
    for number, (span, name) in enumerate(((failed, "first"), (answered, "second")), 1):
        assert facts(span)["trunkline.service.name"] == name
        assert facts(span)["trunkline.hop.services"] == ("main",)
        assert facts(span)["trunkline.hop.numbers"] == (number,)
    assert failed.events == ()
    [event] = answered.events
    assert (event.name, dict(event.attributes or {})) == (
        "trunkline.hop",
        {
            "trunkline.hop.service": "main",
            "trunkline.hop.kind": "fallback",
            "trunkline.hop.number": 2,
            "error.type": "Overloaded",
        },
    )


async def run_group(recorder: Recorder, look: Any, *, content: bool = False, name: str | None = "painter") -> None:
    """Make two rounds of calls, with three runs of a tool between them, as `run_tools` does."""
    telemetry = recorder.telemetry(content=content)
    async with serve(answer) as server:
        async with trunkline.open_service(
            "openai-compatible", api_url=server.url, default_model="m", api_key=KEY, extensions=[telemetry]
        ) as service:
            group = CallGroup("run_tools", name)
            try:
                view = service.with_options(state={"label": "customer-7"})._in_group(group)
                async with view.stream("Hi") as stream:
                    await stream.finish()
                async with anyio.create_task_group() as tasks:
                    for call in CALLS:
                        tasks.start_soon(stream._run_locally, "execute_tool", call, look, object)
                await view.chat("Hi")
            except BaseException as error:
                group.end(error)
                raise
            group.end(None)


async def test_calls_and_tools_of_a_group_are_children_of_its_span(recorder: Recorder) -> None:
    tracer = recorder.tracer_provider.get_tracer("application")
    current = []

    async def look(call: ToolCall) -> object:
        current.append(trace.get_current_span().get_span_context())
        with tracer.start_as_current_span(f"inside {call.id}"):
            await anyio.lowlevel.checkpoint()
        return tool_result(call, "blue")

    with tracer.start_as_current_span("application") as own:
        await run_group(recorder, look)
        assert trace.get_current_span() is own
    [agent] = recorder.named("invoke_agent painter")
    assert agent.parent == own.get_span_context()
    assert agent.kind is SpanKind.INTERNAL
    chats, tools = recorder.named("chat m"), recorder.named("execute_tool look")
    assert [span.parent for span in (*chats, *tools)] == [agent.context] * 5
    assert [span for span in tools if span.context not in current] == []
    for tool in tools:
        [inside] = recorder.named(f"inside {facts(tool)['gen_ai.tool.call.id']}")
        assert inside.parent == tool.context
    assert facts(agent) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "painter",
        "gen_ai.request.model": "m",
        "trunkline.label": "customer-7",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 24,
        "gen_ai.usage.output_tokens": 18,
        "gen_ai.usage.cache_read.input_tokens": 8,
    }
    assert {facts(span)["trunkline.label"] for span in (*chats, *tools)} == {"customer-7"}
    assert recorder.points("gen_ai.invoke_agent.duration")[0].count == 1
    assert recorder.points("gen_ai.execute_tool.duration")[0].count == 3


async def test_group_without_a_name(recorder: Recorder) -> None:
    async def look(call: ToolCall) -> object:
        return tool_result(call, "blue")

    await run_group(recorder, look, name=None)
    assert len(recorder.named("invoke_agent")) == 1


async def test_tool_that_raises_ends_its_span_and_that_of_the_group(recorder: Recorder) -> None:
    async def look(call: ToolCall) -> object:
        raise trunkline.CallError("secret-canary")

    with pytest.raises(BaseExceptionGroup):
        await run_group(recorder, look)
    tools = recorder.named("execute_tool look")
    assert tools
    assert facts(tools[0])["error.type"] == "CallError"
    [agent] = recorder.named("invoke_agent painter")
    assert agent.status.status_code is StatusCode.ERROR
    assert "canary" not in "".join(span.to_json() for span in recorder.spans)


async def test_result_that_tells_the_model_about_a_failure_is_an_error_of_the_tool(recorder: Recorder) -> None:
    async def look(call: ToolCall) -> object:
        return tool_result(call, "no sky", is_error=True)

    await run_group(recorder, look)
    assert {facts(span)["error.type"] for span in recorder.named("execute_tool look")} == {"tool_error"}
    assert recorder.named("invoke_agent painter")[0].status.is_unset


@pytest.mark.parametrize("content", [False, True])
async def test_arguments_and_results_of_tools_are_content(recorder: Recorder, content: bool) -> None:
    async def look(call: ToolCall) -> object:
        return tool_result(call, "result-canary")

    await run_group(recorder, look, content=content)
    shown = "".join(span.to_json() for span in recorder.spans)
    for canary in ("up-canary", "result-canary"):
        assert (canary in shown) is content
    if content:
        tool = facts(recorder.named("execute_tool look")[0])
        assert json.loads(tool["gen_ai.tool.call.arguments"]) == {"where": "up-canary"}
        assert json.loads(tool["gen_ai.tool.call.result"]) == "result-canary"


class ToolModel:
    """Calls the tool `look` twice in the first round, and answers in the second."""

    async def __call__(self, exchange: Exchange) -> None:
        body = json.loads(exchange.request.body)
        await exchange.start(headers={"content-type": "text/event-stream"})
        if any(message["role"] == "tool" for message in body["messages"]):
            await exchange.chunk(frame({"content": "Blue."}) + frame({}, "stop"))
        else:
            function = {"name": "look", "arguments": '{"where": "up"}'}
            calls = [{"index": n, "id": f"call-{n}", "type": "function", "function": function} for n in range(2)]
            await exchange.chunk(frame({"tool_calls": calls}) + frame({}, "tool_calls"))
        await exchange.chunk(frame(usage=USAGE) + b"data: [DONE]\n\n")
        await exchange.end()


@asynccontextmanager
async def tool_service(recorder: Recorder, answer: Any) -> AsyncIterator[trunkline.Service]:
    for name in ("docstring_parser", "msgspec"):  # the extra `tools` of the core
        pytest.importorskip(name)
    async with serve(answer) as server:
        async with trunkline.open_service(
            "openai-compatible", api_url=server.url, default_model="m", api_key=KEY, extensions=[recorder.telemetry()]
        ) as service:
            yield service


async def test_run_of_tools_is_one_tree_and_leaks_no_span_to_its_reader(recorder: Recorder) -> None:
    tracer = recorder.tracer_provider.get_tracer("application")
    current = []

    async def look(where: str) -> str:
        """Look."""
        current.append(trace.get_current_span().get_span_context())
        return "blue"

    async with tool_service(recorder, ToolModel()) as service:
        with tracer.start_as_current_span("application") as own:
            async with trunkline.run_tools(service, "Sky?", [look], name="painter") as run:
                async for _ in run:
                    assert trace.get_current_span() is own
    assert [span.context in current for span in recorder.named("execute_tool look")] == [True, True]
    [agent] = recorder.named("invoke_agent painter")
    assert agent.parent == own.get_span_context()
    children = [span.name for span in recorder.spans if span.parent == agent.context]
    assert sorted(children) == ["chat m", "chat m", "execute_tool look", "execute_tool look"]
    assert facts(agent)["gen_ai.usage.output_tokens"] == 18
    assert agent.status.is_unset


@pytest.mark.parametrize("where", ["left", "cancelled in a tool", "failed"])
async def test_run_of_tools_that_does_not_end_well_ends_each_span_once(recorder: Recorder, where: str) -> None:
    running = anyio.Event()

    async def look(where: str) -> str:
        """Look."""
        running.set()
        await anyio.sleep_forever()
        return ""

    async def use(service: trunkline.Service) -> None:
        async with trunkline.run_tools(service, "Sky?", [look]) as run:
            async for _ in run:
                if where == "left":
                    break

    async with tool_service(recorder, failing(401) if where == "failed" else ToolModel()) as service:
        if where == "cancelled in a tool":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(use, service)
                await running.wait()
                tasks.cancel_scope.cancel()
        elif where == "failed":
            with pytest.raises(trunkline.AuthenticationError):
                await use(service)
        else:
            await use(service)
    [agent] = recorder.named("invoke_agent")
    wanted = {"left": None, "cancelled in a tool": "cancelled", "failed": "AuthenticationError"}[where]
    assert facts(agent).get("error.type") == wanted
    tools = [facts(span)["error.type"] for span in recorder.named("execute_tool look")]
    assert tools == (["cancelled"] * 2 if where == "cancelled in a tool" else [])
    assert len(recorder.named("chat m")) == 1
    assert recorder.points("gen_ai.invoke_agent.duration")[0].count == 1
