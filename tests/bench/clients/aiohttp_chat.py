"""aiohttp by hand, Chat Completions."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
from clients import _raw


async def connect(origin: str) -> tuple[aiohttp.ClientSession, str]:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None, sock_read=120)
    )
    return session, origin + "/v1/chat/completions"


async def call(state: tuple[aiohttp.ClientSession, str]) -> tuple[str, int]:
    session, url = state
    async with session.post(url, data=_raw.body(_raw.CHAT), headers=_raw.BEARER) as response:
        response.raise_for_status()
        return _raw.chat_answer(await response.read())


async def stream(state: tuple[aiohttp.ClientSession, str]) -> AsyncIterator[str | int]:
    session, url = state
    async with session.post(url, data=_raw.body(_raw.CHAT_STREAM), headers=_raw.BEARER) as response:
        response.raise_for_status()
        async for piece in _raw.chat(response.content.iter_any()):
            yield piece
