"""The SDK of Anthropic, Messages: its plain stream, which accumulates nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

from anthropic import AsyncAnthropic
from payloads import MODEL, PROMPT

ASKED = {"model": MODEL, "max_tokens": 4096, "messages": [{"role": "user", "content": PROMPT}]}


def connect(origin: str) -> AsyncAnthropic:
    return AsyncAnthropic(base_url=origin, api_key="REDACTED", max_retries=0)


async def call(client: AsyncAnthropic) -> tuple[str, int]:
    answer = await client.messages.create(**ASKED)
    return answer.content[0].text, answer.usage.output_tokens


async def stream(client: AsyncAnthropic) -> AsyncIterator[str | int]:
    async for event in await client.messages.create(**ASKED, stream=True):
        if event.type == "content_block_delta":
            yield event.delta.text
        elif event.type == "message_delta":
            yield event.usage.output_tokens
