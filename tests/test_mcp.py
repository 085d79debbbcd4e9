"""`mcp_tools` with a server of the official SDK, over stdio and streamable HTTP."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from server_process import server_process
from trunkline import Document, Image, InvalidRequest, LocalTool, Text, ToolCall, ToolResult, mcp_tools

pytestmark = pytest.mark.anyio

SERVER = str(Path(__file__).parent / "support" / "mcp_server.py")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server_process(sys.executable, SERVER, "http") as url:
        yield url


@pytest.fixture(params=["stdio", "http"])
def server(request: pytest.FixtureRequest) -> StdioServerParameters | str:
    if request.param == "http":
        found: str = request.getfixturevalue("url")
        return found
    return StdioServerParameters(command=sys.executable, args=[SERVER, "stdio"])


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
    page = SimpleNamespace(tools=[tool("a.b"), tool("c" * 80)], next_cursor=None)
    names = [each.name for each in await mcp_tools(Session([page]), prefix="x:")]
    assert names == ["x_a_b", "x_" + "c" * 62]


async def test_tools_whose_names_become_the_same_are_refused() -> None:
    page = SimpleNamespace(tools=[tool("a.b"), tool("a_b")], next_cursor=None)
    with pytest.raises(InvalidRequest, match="two tools of an MCP session have the same name: a_b"):
        await mcp_tools(Session([page]))


async def test_all_pages_of_the_tools_are_read() -> None:
    pages = [SimpleNamespace(tools=[tool("a")], next_cursor="2"), SimpleNamespace(tools=[tool("b")], next_cursor=None)]
    session = Session(pages)
    assert [each.name for each in await mcp_tools(session)] == ["a", "b"]
    assert session.cursors == [None, "2"]
    session = SessionOfClient(pages)
    assert [each.name for each in await mcp_tools(session)] == ["a", "b"]
    assert session.cursors == [None, "2"]


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
