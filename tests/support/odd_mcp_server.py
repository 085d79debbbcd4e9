"""A server of the official MCP SDK with odd tools, over stdio or over streamable HTTP. It lists two tools a page.

Call `raw_mcp_server.py` for what a server of the SDK does not send.
"""

from __future__ import annotations

import base64
import os
import socket
import sys
from collections import defaultdict
from typing import Any

import anyio
import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ListToolsResult,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)

PAGE = 2
KEY = "sk-abcdefghijklmnopqrstuv0123456789"
JPEG = b"\xff\xd8\xff\xe0 jpeg"
OUTPUT = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def blob(data: bytes, media_type: str | None, uri: str) -> EmbeddedResource:
    return EmbeddedResource(resource=BlobResourceContents(uri=uri, blob=b64(data), mime_type=media_type))


def text(value: str) -> TextContent:
    return TextContent(text=value)


RESULTS: dict[str, CallToolResult] = {
    "nothing": CallToolResult(content=[]),
    "empty_text": CallToolResult(content=[text("")]),
    "text_resource": CallToolResult(
        content=[EmbeddedResource(resource=TextResourceContents(uri="file:///note.txt", text="a note"))]
    ),
    "link": CallToolResult(
        content=[ResourceLink(uri="file:///rain.pdf", name="rain", mime_type="application/pdf", _meta={"k": 1})]
    ),
    "wrong_image_type": CallToolResult(content=[ImageContent(data=b64(JPEG), mime_type="image/png")]),
    "short_image_type": CallToolResult(content=[ImageContent(data=b64(JPEG), mime_type="jpg")]),
    "image_in_lines": CallToolResult(content=[ImageContent(data="/9j/4CBq\ncGVn\n", mime_type="IMAGE/JPEG; q=1")]),
    "image_for_urls": CallToolResult(content=[ImageContent(data="_9j_4CBqcGVn", mime_type="image/jpeg")]),
    "broken_image": CallToolResult(content=[text("a map"), ImageContent(data="?", mime_type="image/png")]),
    "empty_image": CallToolResult(content=[ImageContent(data="", mime_type="image/png")]),
    "drawing": CallToolResult(content=[ImageContent(data=b64(b"<svg/>"), mime_type="image/svg+xml")]),
    "sound": CallToolResult(content=[AudioContent(data=b64(b"RIFF    WAVE"), mime_type="audio/x-wav")]),
    "text_file": CallToolResult(content=[blob(b"caf\xc3\xa9", "text/plain; charset=utf-8", "file:///a.txt")]),
    "image_file": CallToolResult(content=[blob(JPEG, None, "db://pictures/7")]),
    "archive": CallToolResult(content=[blob(b"PK\x03\x04", "application/zip", "file:///a/b%20c.zip?v=2")]),
    "image_and_data": CallToolResult(
        content=[ImageContent(data=b64(JPEG), mime_type="image/jpeg")], structured_content={"n": 1}
    ),
    "several": CallToolResult(content=[text("a"), text("b")], structured_content={"n": 1}),
    "huge": CallToolResult(content=[text("x" * 3_000_000)]),
    "failed": CallToolResult(content=[text("no such city")], is_error=True),
    "failed_silently": CallToolResult(content=[], is_error=True),
    "failed_with_data": CallToolResult(content=[], structured_content={"code": 7}, is_error=True),
    "failed_with_a_key": CallToolResult(content=[text(f"401 for {KEY}")], is_error=True),
    "wrong_output": CallToolResult(content=[text("{}")], structured_content={"n": "x"}),
    "missing_output": CallToolResult(content=[text("{}")]),
}
NAMES = (
    *RESULTS,
    "refused",
    "refused_with_data",
    "refused_with_a_key",
    "raises",
    "dies",
    "endless",
    "started",
    "ended",
)
TOOLS = [
    Tool(
        name=name,
        input_schema={"type": "object", "properties": {"call": {"type": "string"}}},
        output_schema=OUTPUT if name.endswith("_output") else None,
    )
    for name in NAMES
]
started: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)
ended: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)


async def list_tools(context: Any, params: Any) -> ListToolsResult:
    start = int(params.cursor) if params is not None and params.cursor else 0
    end = start + PAGE
    # Each page begins with the last tool of the page before, as if a tool had been added meanwhile.
    return ListToolsResult(tools=TOOLS[max(start - 1, 0) : end], next_cursor=str(end) if end < len(TOOLS) else None)


async def call_tool(context: Any, params: Any) -> CallToolResult:
    call = (params.arguments or {}).get("call", "")
    match params.name:
        case "refused":
            raise MCPError(-32602, "no such city")
        case "refused_with_data":
            raise MCPError(-32602, "Invalid params", {"city": "is required"})
        case "refused_with_a_key":
            raise MCPError(-32000, f"401 for {KEY}", {"key": KEY})
        case "raises":
            raise ValueError(f"no sensor {KEY}")
        case "dies":
            os._exit(1)
        case "endless":
            started[call].set()
            try:
                await anyio.sleep_forever()
            finally:
                ended[call].set()
        case "started":
            await started[call].wait()
            return CallToolResult(content=[text("it runs")])
        case "ended":
            await ended[call].wait()
            return CallToolResult(content=[text("it was cancelled")])
    await context.session.report_progress(1, 2, "half")
    return RESULTS[params.name]


server = Server("odd", on_list_tools=list_tools, on_call_tool=call_tool)


async def serve_stdio() -> None:
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


if __name__ == "__main__":
    if sys.argv[1:] == ["stdio"]:
        anyio.run(serve_stdio)
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        print(f"ready http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
        config = uvicorn.Config(server.streamable_http_app(), log_level="warning")
        uvicorn.Server(config).run(sockets=[listener])
