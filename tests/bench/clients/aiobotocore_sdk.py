"""aiobotocore, Converse, signed with SigV4."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from payloads import MODEL, PROMPT

ASKED = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": PROMPT}]}]}


async def connect(origin: str) -> Any:
    made = get_session().create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=origin,
        aws_access_key_id="REDACTED",
        aws_secret_access_key="REDACTED",
        config=AioConfig(max_pool_connections=2000, retries={"max_attempts": 0}),
    )
    return await made.__aenter__()


async def call(client: Any) -> tuple[str, int]:
    answer = await client.converse(**ASKED)
    return answer["output"]["message"]["content"][0]["text"], answer["usage"]["outputTokens"]


async def stream(client: Any) -> AsyncIterator[str | int]:
    answer = await client.converse_stream(**ASKED)
    async for event in answer["stream"]:
        if "contentBlockDelta" in event:
            yield event["contentBlockDelta"]["delta"]["text"]
        elif "metadata" in event:
            yield event["metadata"]["usage"]["outputTokens"]
