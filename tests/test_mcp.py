"""`mcp_tools` with a server of the official SDK, over stdio and streamable HTTP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import attrs
import odd_mcp_server as odd
import pytest
from mcp import Client, StdioServerParameters
from server_process import server_process
from trunkline import (
    ApprovalRequest,
    Audio,
    Document,
    Image,
    InvalidRequest,
    LocalTool,
    Message,
    Service,
    Text,
    Tool,
    ToolCall,
    ToolFinished,
    ToolResult,
    assistant,
    mcp_tools,
    open_service,
    run_tools,
    user,
)
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

SUPPORT = Path(__file__).parent / "support"
SERVER = str(SUPPORT / "mcp_server.py")
ODD_SERVER = str(SUPPORT / "odd_mcp_server.py")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server_process(sys.executable, SERVER, "http") as url:
        yield url


@pytest.fixture(scope="module")
def odd_url() -> Iterator[str]:
    with server_process(sys.executable, ODD_SERVER, "http") as url:
        yield url


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest) -> StdioServerParameters | str:
    return reached(request, SERVER, "url")


@pytest.fixture(params=["stdio", "http"])
def odd_server(request: pytest.FixtureRequest) -> StdioServerParameters | str:
    return reached(request, ODD_SERVER, "odd_url")


def reached(request: pytest.FixtureRequest, program: str, url: str) -> StdioServerParameters | str:
    """How a client reaches a server: the command that starts it, or the URL from a fixture with this name."""
    if request.param == "http":
        found: str = request.getfixturevalue(url)
        return found
    return started_for_one_session(program, "stdio")


def started_for_one_session(*command: str) -> StdioServerParameters:
    return StdioServerParameters(command=sys.executable, args=list(command))


async def called(tool: LocalTool, **arguments: Any) -> ToolResult:
    result = await tool.run(ToolCall(id="1", name=tool.name, arguments=arguments))
    assert isinstance(result, ToolResult)
    assert (result.tool_call_id, result.name) == ("1", tool.name)
    return result


@pytest.mark.parametrize("direct", [True, False], ids=["client", "session"])
async def test_the_tools_of_a_session_run_on_its_server(server: StdioServerParameters | str, direct: bool) -> None:
    async with Client(server) as client:
        tools = {tool.name: tool for tool in await mcp_tools(client if direct else client.session)}
        assert list(tools) == ["temperature", "weather_map", "structured", "broken", "endless", "started"]
        assert tools["temperature"].description == "Get the temperature in a city."
        assert tools["temperature"].parameters["required"] == ["city"]

        assert (await called(tools["temperature"], city="Oslo")).text.replace(" ", "").replace("\n", "") == (
            '{"city":"Oslo","celsius":7}'
        )
        assert (await called(tools["structured"])).text == '{"celsius":7}'
        parts = (await called(tools["weather_map"])).parts
        assert parts[:4] == (
            Text(text="a map"),
            Image(data=b"\x89PNG\r\n\x1a\n", media_type="image/png"),
            Text(text="a note"),
            Document(data=b"%PDF-", media_type="application/pdf", name="wind.pdf"),
        )
        assert isinstance(parts[4], Text)
        assert "file:///maps/rain.pdf" in parts[4].text
        failed = await called(tools["broken"])
        assert failed.is_error
        assert "broken" in failed.text

        call = uuid.uuid4().hex
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(called, tools["endless"], call=call))
            await called(tools["started"], call=call)
            tasks.cancel_scope.cancel()
        assert "Rome" in (await called(tools["temperature"], city="Rome")).text


async def test_names_of_two_servers_are_kept_apart_by_a_prefix() -> None:
    assert await named("a.b", "c", prefix="x:") == ["x_a_b", "x_c"]


async def test_names_that_become_the_same_get_a_hash() -> None:
    names = await named("a_b", "a.b", "a:b", "погода", "ветер!")
    assert names == ["a_b", "a_b_2e7336dc", "a_b_6783a31e", "_______c1d5a896", "_______f5c4abcc"]
    assert sorted(await named("ветер!", "погода", "a:b", "a.b", "a_b")) == sorted(names)


@pytest.mark.parametrize("prefix", ["", "x" * 70])
async def test_long_names_stay_different_and_are_accepted_by_all_providers(prefix: str) -> None:
    names = await named(*("c" * 80 + end for end in "123"), "", prefix=prefix)
    assert len(set(names)) == 4
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", name) for name in names)


async def named(*names: str, prefix: str = "") -> list[str]:
    page = SimpleNamespace(tools=[tool(name) for name in names], next_cursor=None)
    return [each.name for each in await mcp_tools(Session([page]), prefix=prefix)]


async def test_a_tool_that_cannot_be_sent_is_named() -> None:
    schema = {"type": "object", "properties": {"x": {"default": float("nan")}}}
    page = SimpleNamespace(
        tools=[tool("a"), SimpleNamespace(**{**vars(tool("b")), "input_schema": schema})], next_cursor=None
    )
    with pytest.raises(InvalidRequest, match=r"tool 'b' of an MCP session cannot be sent: .*parameters"):
        await mcp_tools(Session([page]))


async def test_a_session_of_another_library_is_refused() -> None:
    with pytest.raises(
        InvalidRequest, match=r"needs a session of the package mcp, version 2 or later, not .*\.Session"
    ):
        await mcp_tools(Session([SimpleNamespace(tools=[], nextCursor=None)]))


async def test_all_pages_of_the_tools_are_read() -> None:
    pages = [SimpleNamespace(tools=[tool("a")], next_cursor="2"), SimpleNamespace(tools=[tool("b")], next_cursor=None)]
    session = Session(pages)
    assert [each.name for each in await mcp_tools(session)] == ["a", "b"]
    assert session.cursors == [None, "2"]
    session = SessionOfClient(pages)
    assert [each.name for each in await mcp_tools(session)] == ["a", "b"]
    assert session.cursors == [None, "2"]


@asynccontextmanager
async def model() -> AsyncIterator[Service]:
    """A service whose model answers `done`."""

    async def answer(exchange: Exchange) -> None:
        choice = {"index": 0, "delta": {"content": "done"}, "finish_reason": "stop"}
        chunk = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
        body = b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"
        await exchange.respond(body, headers={"content-type": "text/event-stream"})

    async with (
        serve(answer) as server,
        open_service("openai", api_url=server.url, api_key="k", default_model="m", api="chat") as service,
    ):
        yield service


def asked(*names: str, **arguments: str) -> tuple[Message, Message]:
    """A conversation in which the model has called tools."""
    return user("?"), assistant(*(ToolCall(id=name, name=name, arguments=dict(arguments)) for name in names))


async def failures_of(tools: Sequence[Tool], *names: str) -> list[str]:
    """The texts that the model receives for calls of these tools, which all fail. The run goes on after them."""
    async with model() as service:
        run = await run_tools(service, asked(*names), tools)
    assert run.text == "done"
    results = [part for message in run.messages for part in message.parts if isinstance(part, ToolResult)]
    assert all(result.is_error for result in results)
    assert odd.KEY not in repr(results)
    return [result.text for result in results]


@pytest.mark.parametrize("direct", [True, False], ids=["client", "session"])
async def test_a_tool_on_two_pages_of_a_server_is_one_tool(
    odd_server: StdioServerParameters | str, direct: bool
) -> None:
    async with Client(odd_server) as client:
        tools = await mcp_tools(client if direct else client.session)
    assert [tool.name for tool in tools] == list(odd.NAMES)


def shown(part: object) -> object:
    """A part as a text, or as its data and media type."""
    if isinstance(part, Text):
        return part.text
    assert isinstance(part, (Image, Audio, Document))
    return type(part), part.data, part.media_type, *([part.name] if isinstance(part, Document) else [])


async def test_results_have_a_form_that_models_can_read(odd_server: StdioServerParameters | str) -> None:
    async with Client(odd_server) as client:
        tools = {tool.name: tool for tool in await mcp_tools(client)}

        async def parts(name: str) -> list[object]:
            result = await called(tools[name])
            assert not result.is_error
            return [shown(part) for part in result.parts]

        assert await parts("nothing") == []
        assert await parts("empty_text") == [""]
        assert await parts("text_resource") == ["a note"]
        (link,) = await parts("link")
        assert isinstance(link, str)
        assert json.loads(link) == {
            "type": "resource_link",
            "uri": "file:///rain.pdf",
            "name": "rain",
            "mimeType": "application/pdf",
        }
        for name in ("wrong_image_type", "short_image_type", "image_in_lines", "image_for_urls"):
            assert await parts(name) == [(Image, odd.JPEG, "image/jpeg")], name
        assert await parts("broken_image") == [
            "a map",
            "data (image/png) cannot be shown: the MCP server did not send valid base64",
        ]
        assert await parts("empty_image") == ["data (image/png) is empty"]
        assert await parts("drawing") == ["<svg/>"]
        assert await parts("sound") == [(Audio, b"RIFF    WAVE", "audio/wav")]
        assert await parts("text_file") == ["café"]
        assert await parts("image_file") == [(Image, odd.JPEG, "image/jpeg")]
        assert await parts("archive") == [(Document, b"PK\x03\x04", "application/zip", "b c.zip")]
        assert await parts("image_and_data") == [(Image, odd.JPEG, "image/jpeg"), '{"n":1}']
        assert await parts("several") == ["a", "b"]
        assert await parts("huge") == ["x" * 3_000_000]


FAILURES = {
    "failed": "no such city",
    "failed_silently": "the tool failed, and its server did not say why",
    "failed_with_data": '{"code":7}',
    "failed_with_a_key": "401 for ***",
    "refused": "MCPError: no such city",
    "refused_with_data": ('CallError: the MCP server answered with an error: Invalid params: {"city":"is required"}'),
    "refused_with_a_key": 'CallError: the MCP server answered with an error: 401 for ***: {"key":"***"}',
    "raises": "MCPError: Internal server error",
    "missing_output": "RuntimeError: Tool missing_output has an output schema but did not return structured content",
}


async def test_the_model_receives_the_reason_of_a_failed_call(odd_server: StdioServerParameters | str) -> None:
    async with Client(odd_server) as client:
        tools = await mcp_tools(client)
        assert dict(zip(FAILURES, await failures_of(tools, *FAILURES), strict=True)) == FAILURES
        (text,) = await failures_of(tools, "wrong_output")
        assert "Invalid structured content returned by tool wrong_output: 'x' is not of type 'integer'" in text


async def test_a_malformed_result_is_reported_to_the_model_in_one_line() -> None:
    async with Client(started_for_one_session(str(SUPPORT / "raw_mcp_server.py"))) as client:
        tools = await mcp_tools(client)  # whose last page has an empty cursor
        no_list, nothing, unknown_type = await failures_of(tools, "no_list", "nothing", "unknown_type")
    start = "CallError: the MCP server sent a result that does not follow the protocol: content"
    assert no_list == f"{start}: Input should be a valid list"
    assert nothing == f"{start}: Field required"
    assert unknown_type.startswith(f"{start}.0.TextContent.")
    assert unknown_type.endswith(" more")
    assert len(unknown_type) < 300


@pytest.mark.parametrize("end", ["leave", "cancel"])
async def test_the_server_hears_of_the_end_of_a_run_and_the_session_stays_usable(
    odd_server: StdioServerParameters | str, end: str
) -> None:
    call = uuid.uuid4().hex
    async with Client(odd_server) as client, model() as service:
        tools = {tool.name: tool for tool in await mcp_tools(client)}
        with anyio.CancelScope() as scope:
            async with run_tools(service, asked("endless", "started", call=call), tools.values()) as run:
                async for event in run:  # `started` ends while `endless` runs
                    if isinstance(event, ToolFinished):
                        assert event.name == "started"
                        if end == "leave":
                            break
                        scope.cancel()
        assert (await called(tools["ended"], call=call)).text == "it was cancelled"


async def test_approval_is_asked_before_the_server_is_called(odd_server: StdioServerParameters | str) -> None:
    def approve(request: ApprovalRequest) -> bool | str:
        return request.name == "several" or "not now"

    async with Client(odd_server) as client, model() as service:
        tools = [attrs.evolve(tool, needs_approval=True) for tool in await mcp_tools(client)]
        run = await run_tools(service, asked("several", "endless"), tools, approve=approve)
    texts = [part.text for message in run.messages for part in message.parts if isinstance(part, ToolResult)]
    assert texts == ["a\nb", "not now"]


async def test_tools_of_two_open_sessions_need_different_names(odd_url: str) -> None:
    async with Client(odd_url) as first, Client(started_for_one_session(ODD_SERVER, "stdio")) as second:
        same = [*await mcp_tools(first), *await mcp_tools(second)]
        different = [*await mcp_tools(first, prefix="one_"), *await mcp_tools(second, prefix="two_")]
        async with model() as service:
            with pytest.raises(InvalidRequest, match="two tools have the same name: archive, broken_image"):
                run_tools(service, "?", same)
        assert await failures_of(different, "one_failed", "two_failed") == ["no such city", "no such city"]


class OtherError(Exception):
    """An exception of a library that is not the SDK. Its attributes have names of pydantic's and of the SDK's."""

    error = SimpleNamespace(data=object())

    def errors(self) -> list[str]:
        return []


async def test_an_exception_of_another_library_is_raised_unchanged() -> None:
    class Failing(Session):
        async def call_tool(self, name: str, arguments: dict[str, object] | None = None) -> None:
            raise OtherError("no route")

    (found,) = await mcp_tools(Failing([SimpleNamespace(tools=[tool("a")], next_cursor=None)]))
    with pytest.raises(OtherError, match="no route"):
        await called(found)


async def test_a_call_of_a_closed_session_is_reported_to_the_model(odd_server: StdioServerParameters | str) -> None:
    async with Client(odd_server) as client:
        tools, of_session = await mcp_tools(client), await mcp_tools(client.session)
    assert await failures_of(tools, "several") == ["RuntimeError: Client must be used within an async context manager"]
    assert await failures_of(of_session, "several") == ["MCPError: Connection closed"]


async def test_a_run_goes_on_after_the_end_of_a_server() -> None:
    async with Client(started_for_one_session(ODD_SERVER, "stdio")) as client:
        tools = await mcp_tools(client)
        assert await failures_of(tools, "dies", "endless") == ["MCPError: Connection closed"] * 2
        assert await failures_of(tools, "several") == ["MCPError: Connection closed"]


async def test_the_end_of_a_server_over_http_ends_the_block_of_its_session() -> None:
    with server_process(sys.executable, ODD_SERVER, "http") as url, pytest.raises(ExceptionGroup):
        async with Client(url) as client:
            await failures_of(await mcp_tools(client), "dies")


def tool(name: str) -> SimpleNamespace:
    return SimpleNamespace(name=name, description=None, title="Title", input_schema={"type": "object"})


class Session:
    """Some pages of tools."""

    def __init__(self, pages: list[SimpleNamespace]) -> None:
        self.pages = pages
        self.cursors: list[str | None] = []

    async def list_tools(self, *, params: Any = None, cursor: str | None = None) -> SimpleNamespace:
        self.cursors.append(params.cursor if params is not None else cursor)
        return self.pages[len(self.cursors) - 1]

    async def call_tool(self, name: str, arguments: dict[str, object] | None = None) -> None: ...


class SessionOfClient(Session):
    """Some pages of tools, as a `Client` has them."""

    session = None


def test_the_sdk_is_not_imported() -> None:
    code = "import sys, trunkline; trunkline.mcp_tools; sys.exit('mcp' in sys.modules or 'mcp_types' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
