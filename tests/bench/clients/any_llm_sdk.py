"""any-llm, Chat Completions, with a client that is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from any_llm import AnyLLM
from payloads import MODEL, PROMPT

MESSAGES = [{"role": "user", "content": PROMPT}]


def connect(origin: str) -> Any:
    return AnyLLM.create("openai", api_key="REDACTED", api_base=origin + "/v1")


async def call(client: Any) -> tuple[str, int]:
    answer = await client.acompletion(model=MODEL, messages=MESSAGES)
    return answer.choices[0].message.content, answer.usage.completion_tokens


async def stream(client: Any) -> AsyncIterator[str | int]:
    answer = await client.acompletion(
        model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in answer:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content
        if chunk.usage:
            yield chunk.usage.completion_tokens
