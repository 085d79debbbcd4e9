"""A server of the official MCP SDK, over stdio or over streamable HTTP on a free port of the loopback address."""

from __future__ import annotations

import base64
import socket
import sys
from collections import defaultdict
from typing import Any

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp_types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

server = MCPServer("weather")
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


@server.tool()
def temperature(city: str) -> dict[str, Any]:
    """Get the temperature in a city."""
    return {"city": city, "celsius": 7}


@server.tool(name="weather.map")
def weather_map() -> CallToolResult:
    """Draw a map."""
    link = ResourceLink(uri="file:///maps/rain.pdf", name="rain")
    note = TextResourceContents(uri="file:///note.txt", text="a note")
    pdf = BlobResourceContents(uri="file:///maps/wind.pdf", mime_type="application/pdf", blob="JVBERi0=")
    return CallToolResult(
        content=[
            TextContent(text="a map"),
            ImageContent(data=PNG, mime_type="image/png"),
            EmbeddedResource(resource=note),
            EmbeddedResource(resource=pdf),
            link,
        ]
    )


@server.tool()
def structured() -> CallToolResult:
    return CallToolResult(content=[], structured_content={"celsius": 7})


@server.tool()
def broken() -> str:
    raise ValueError("no sensor")


started_calls: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)


@server.tool()
async def endless(call: str) -> str:
    started_calls[call].set()
    await anyio.sleep_forever()
    return ""


@server.tool()
async def started(call: str) -> str:
    """Wait until a call of `endless` runs."""
    await started_calls[call].wait()
    return ""


if __name__ == "__main__":
    if sys.argv[1:] == ["stdio"]:
        server.run("stdio")
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        print(f"ready http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
        config = uvicorn.Config(server.streamable_http_app(), log_level="warning")
        uvicorn.Server(config).run(sockets=[listener])
