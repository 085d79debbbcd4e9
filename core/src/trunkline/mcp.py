"""The tools of an MCP server, as tools of a run. The application opens the session, with the official SDK.

Nothing is imported from the SDK, which takes a second: its objects are used as the application passes them.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, cast

from trunkline._json import dumps
from trunkline.errors import InvalidRequest
from trunkline.messages import Audio, Document, Image, Text, ToolCall, ToolResult, ToolResultPart
from trunkline.tools import LocalTool

_LONGEST_NAME = 64
"""The longest name of a tool that all providers accept."""


class MCPSession(Protocol):
    """What `mcp_tools` uses of a session: a `ClientSession` or a `Client` of the package `mcp`, from version 2 on."""

    def call_tool(self, name: str, arguments: dict[str, object] | None = None) -> Awaitable[object]:
        """Call a tool, and return its `CallToolResult`."""
        ...

    @property
    def list_tools(self) -> Callable[..., Awaitable[object]]:
        """List a page of the tools."""
        ...


async def mcp_tools(session: MCPSession, *, prefix: str = "") -> tuple[LocalTool, ...]:
    """Return the tools of an MCP session, for `run_tools`.

    `session` is an open `ClientSession` or `Client` of the package `mcp` (extra `mcp`). It has to stay open while the
    tools run. `prefix` is put before each name, so that the tools of two servers do not have the same names. Characters
    that providers do not accept in a name are replaced by `_`.

    Text, images, audio and the contents of resources in a result are sent to the model as parts, links to resources as
    JSON, and structured content as JSON if there is nothing else. Cancelling a call leaves the session usable.

    Raises what the session raises, and `InvalidRequest` if two tools would have the same name.
    """
    tools = [_tool(session, each, prefix) for each in await _listed(session)]
    names = [tool.name for tool in tools]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidRequest(f"two tools of an MCP session have the same name: {', '.join(doubled)}")
    return tuple(tools)


async def _listed(session: MCPSession) -> list[Any]:
    page = cast("Any", await session.list_tools())
    tools = list(page.tools)
    seen: set[str] = set()
    while (cursor := page.next_cursor) is not None and cursor not in seen:
        seen.add(cursor)
        if hasattr(session, "session"):  # a `Client`
            page = cast("Any", await session.list_tools(cursor=cursor))
        else:
            from mcp_types import PaginatedRequestParams  # which the session has imported already

            page = cast("Any", await session.list_tools(params=PaginatedRequestParams(cursor=cursor)))
        tools += page.tools
    return tools


def _tool(session: MCPSession, found: Any, prefix: str) -> LocalTool:
    return LocalTool(
        name=re.sub("[^A-Za-z0-9_-]", "_", prefix + found.name)[:_LONGEST_NAME],
        description=found.description or found.title,
        parameters=found.input_schema,
        run=partial(_call, session, found.name),
    )


async def _call(session: MCPSession, name: str, call: ToolCall) -> ToolResult:
    result = cast("Any", await session.call_tool(name, dict(call.arguments)))
    parts = [_part(block) for block in result.content]
    if not parts and result.structured_content is not None:
        parts = [Text(text=dumps(result.structured_content).decode())]
    return ToolResult(tool_call_id=call.id, name=call.name, parts=parts, is_error=result.is_error)


def _part(block: Any) -> ToolResultPart:
    match block.type:
        case "text":
            return Text(text=block.text)
        case "image":
            return Image(data=b64decode(block.data), media_type=block.mime_type)
        case "audio":
            return Audio(data=b64decode(block.data), media_type=block.mime_type)
        case "resource":
            return _resource(block.resource)
        case _:  # a link, which the model may name in a call
            return Text(text=dumps(block.model_dump(mode="json", exclude_none=True)).decode())


def _resource(resource: Any) -> ToolResultPart:
    text = getattr(resource, "text", None)
    if text is not None:
        return Text(text=text)
    data, media_type = b64decode(resource.blob), resource.mime_type or None
    if (media_type or "").startswith("image/"):
        return Image(data=data, media_type=media_type)
    if (media_type or "").startswith("audio/"):
        return Audio(data=data, media_type=media_type)
    return Document(data=data, media_type=media_type, name=resource.uri.rstrip("/").rpartition("/")[2] or None)
