"""A provider of Chat Completions whose every answer is a script, and a gateway in front of it, in one event loop."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import uvicorn
from trunkline_gateway import Gateway, GatewaySettings
from trunkline_gateway.connections import protocol_for

Script = Callable[["Call"], Awaitable[None]]

USAGE: dict[str, object] = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


@attrs.define
class Call:
    """A request to the provider."""

    body: dict[str, object]
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader
    head: bytes = b""
    """The request line and the headers."""

    async def send(self, status: int, body: object, *headers: str) -> None:
        """Send a whole answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(data)}", *headers]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await self.writer.drain()

    async def answer(self, usage: object = USAGE, text: str = "blue", **fields: object) -> None:
        """Answer with a text, as a stream if the request asks for one."""
        if self.body.get("stream"):
            await self.start()
            await self.event(text)
            await self.finish(usage)
            return
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        answer = {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **fields}
        await self.send(200, answer if usage is None else {**answer, "usage": usage})

    async def start(self) -> None:
        """Send the head of a stream."""
        self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        await self.writer.drain()

    async def event(self, text: str | None, **fields: object) -> None:
        """Send a piece of a text; `None` sends an end without one."""
        delta = {} if text is None else {"content": text}
        choice = {"index": 0, "delta": delta, "finish_reason": None if text is not None else "stop"}
        await self.chunk({"choices": [choice], **fields})

    async def chunk(self, fields: dict[str, object]) -> None:
        """Send an event of a stream."""
        chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}
        self.writer.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await self.writer.drain()

    async def finish(self, usage: object = USAGE) -> None:
        """End a stream."""
        await self.event(None)
        if usage is not None:
            await self.chunk({"choices": [], "usage": usage})
        self.writer.write(b"data: [DONE]\n\n")
        await self.writer.drain()


@attrs.define
class Provider:
    """The provider. `script` answers each request."""

    url: str = ""
    script: Script = Call.answer
    calls: list[Call] = attrs.field(factory=list)
    open_calls: int = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the one request of a connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ),
                0,
            )
            call = Call(json.loads(await reader.readexactly(length) or b"{}"), writer, reader, head)
            self.calls.append(call)
            self.open_calls += 1
            try:
                await self.script(call)
            finally:
                self.open_calls -= 1
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted_provider() -> AsyncIterator[Provider]:
    """Run the provider on loopback."""
    provider = Provider()
    server = await asyncio.start_server(provider.handle, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()
        for call in provider.calls:
            call.writer.close()
        await asyncio.sleep(0)


SERVICES = """
[services.main]
provider = "openai-compatible"
api_url = "{url}/main/v1"
default_model = "m"
max_retries = 0
{more}
"""


@asynccontextmanager
async def served_gateway(
    folder: Path, provider: Provider, *, more: str = "", **settings: object
) -> AsyncIterator[tuple[Gateway, uvicorn.Server, str]]:
    """Run a gateway on loopback, in this event loop; gives it, its server and its address."""
    file = folder / "trunkline.toml"
    file.write_text(SERVICES.format(url=provider.url, more=more.replace("URL", provider.url)))
    options = {"port": 0, "data_dir": folder, "services": file, **settings}
    async with Gateway(GatewaySettings(**options)) as gateway:  # type: ignore[arg-type]
        config = uvicorn.Config(
            gateway.app,
            port=0,
            http=protocol_for(gateway),
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=max(1, math.ceil(gateway.settings.idle_timeout)),
        )
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield gateway, server, f"http://127.0.0.1:{port}"
        finally:
            gateway.running.cancel_all()
            await server.shutdown()
