"""The SDK of OpenAI, Chat Completions."""

from __future__ import annotations

from collections.abc import AsyncIterator

from openai import AsyncOpenAI
from payloads import MODEL, PROMPT

MESSAGES = [{"role": "user", "content": PROMPT}]


def connect(origin: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=origin + "/v1", api_key="REDACTED", max_retries=0)


async def call(client: AsyncOpenAI) -> tuple[str, int]:
    answer = await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    return answer.choices[0].message.content, answer.usage.completion_tokens


async def stream(client: AsyncOpenAI) -> AsyncIterator[str | int]:
    answer = await client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in answer:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content
        if chunk.usage:
            yield chunk.usage.completion_tokens
