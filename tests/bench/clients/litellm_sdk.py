"""litellm, Chat Completions."""

from __future__ import annotations

from collections.abc import AsyncIterator

import litellm
from payloads import MODEL, PROMPT

MESSAGES = [{"role": "user", "content": PROMPT}]


def connect(origin: str) -> dict[str, object]:
    return {"model": f"openai/{MODEL}", "api_base": origin + "/v1", "api_key": "REDACTED", "messages": MESSAGES}


async def call(asked: dict[str, object]) -> tuple[str, int]:
    answer = await litellm.acompletion(**asked)
    return answer.choices[0].message.content, answer.usage.completion_tokens


async def stream(asked: dict[str, object]) -> AsyncIterator[str | int]:
    answer = await litellm.acompletion(**asked, stream=True, stream_options={"include_usage": True})
    async for chunk in answer:
        if chunk.choices and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content
        if getattr(chunk, "usage", None):
            yield chunk.usage.completion_tokens
