"""pydantic-ai's model of OpenAI, without an agent."""

from __future__ import annotations

from collections.abc import AsyncIterator

from payloads import MODEL, PROMPT
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import ModelRequest, PartDeltaEvent, PartStartEvent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

MESSAGES = [ModelRequest.user_text_prompt(PROMPT)]


def connect(origin: str) -> OpenAIChatModel:
    return OpenAIChatModel(MODEL, provider=OpenAIProvider(base_url=origin + "/v1", api_key="REDACTED"))


async def call(model: OpenAIChatModel) -> tuple[str, int]:
    answer = await model_request(model, MESSAGES)
    return answer.parts[0].content, answer.usage.output_tokens


async def stream(model: OpenAIChatModel) -> AsyncIterator[str | int]:
    async with model_request_stream(model, MESSAGES) as answer:
        async for event in answer:
            if isinstance(event, PartStartEvent) and event.part.content:
                yield event.part.content
            elif isinstance(event, PartDeltaEvent) and event.delta.content_delta:
                yield event.delta.content_delta
    yield answer.usage.output_tokens
