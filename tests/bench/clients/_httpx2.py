"""The floor: httpx2 by hand. `client` makes the functions of one wire format's client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from types import SimpleNamespace
from typing import Any

import httpx2
from clients import _raw

Texts = Callable[[AsyncIterator[bytes]], AsyncIterator[str | int]]


def client(
    url: str,
    stream_url: str,
    headers: Mapping[str, str],
    body: Mapping[str, Any],
    stream_body: Mapping[str, Any],
    answer: Callable[[bytes], tuple[str, int]],
    texts: Texts,
) -> SimpleNamespace:
    def connect(origin: str) -> tuple[httpx2.AsyncClient, str]:
        # With a limit of connections the pool of httpx2 would let streams wait for each other.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        return httpx2.AsyncClient(timeout=120, limits=limits), origin

    async def call(state: tuple[httpx2.AsyncClient, str]) -> tuple[str, int]:
        http, origin = state
        response = await http.post(origin + url, content=_raw.body(body), headers=headers)
        response.raise_for_status()
        return answer(response.content)

    async def stream(state: tuple[httpx2.AsyncClient, str]) -> AsyncIterator[str | int]:
        http, origin = state
        content = _raw.body(stream_body)
        async with http.stream("POST", origin + stream_url, content=content, headers=headers) as response:
            response.raise_for_status()
            async for piece in texts(response.aiter_bytes()):
                yield piece

    return SimpleNamespace(connect=connect, call=call, stream=stream)
