"""Trunkline, as an application uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trunkline
from payloads import MODEL, PROMPT
from trunkline import Service

OUTPUT_LIMIT = 4096


def connect(provider: str, **settings: object) -> Service:
    # By name, since the faster library would be taken wherever it is installed.
    return trunkline.open_service(provider, default_model=MODEL, **{"http_library": "httpx2", **settings})


async def call(service: Service) -> tuple[str, int | None]:
    response = await service.chat(PROMPT)
    assert response.usage is not None
    return response.text, response.usage.output_tokens


async def stream(service: Service) -> AsyncIterator[str | int | None]:
    async with service.stream(PROMPT) as answer:
        async for event in answer:
            if type(event) is trunkline.TextDelta:
                yield event.text
    assert answer.response.usage is not None
    yield answer.response.usage.output_tokens
