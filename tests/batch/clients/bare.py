"""The baseline: read the same file, send the same requests, write as much, and do nothing else.

    python bare.py (aiohttp | httpx2) URL IN OUT CONCURRENCY

No retries, no limits, no resuming, no checks of the answer.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

TEMPLATE = "[row {id}] {text}"
HEADERS = {"content-type": "application/json", "authorization": "Bearer REDACTED"}
encode, decode = msgspec.json.encode, msgspec.json.decode


async def work(post: Callable[[bytes], Awaitable[bytes]], source: str, output: str, concurrency: int) -> None:
    """Send the rows of a file with so many workers."""
    with Path(source).open("rb") as rows, Path(output).open("ab", buffering=0) as answers:

        async def worker() -> None:
            for line in rows:
                row = decode(line)
                prompt = TEMPLATE.format_map(row)
                body = {"model": "batch", "messages": [{"role": "user", "content": prompt}]}
                response = decode(await post(encode(body)))
                text = response["choices"][0]["message"]["content"]
                answers.write(encode({"id": row["id"], "text": text, "response": response}) + b"\n")

        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(worker())


async def with_aiohttp(url: str, source: str, output: str, concurrency: int) -> None:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:

        async def post(body: bytes) -> bytes:
            async with session.post(f"{url}/chat/completions", data=body) as response:
                assert response.status == 200, response.status
                return await response.read()

        await work(post, source, output, concurrency)


async def with_httpx2(url: str, source: str, output: str, concurrency: int) -> None:
    import httpx2

    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    async with httpx2.AsyncClient(limits=limits, headers=HEADERS) as client:

        async def post(body: bytes) -> bytes:
            response = await client.post(f"{url}/chat/completions", content=body)
            assert response.status_code == 200, response.status_code
            return response.content

        await work(post, source, output, concurrency)


if __name__ == "__main__":
    library, url, source, output, concurrency = sys.argv[1:]
    run = with_aiohttp if library == "aiohttp" else with_httpx2
    asyncio.run(run(url, source, output, int(concurrency)))
