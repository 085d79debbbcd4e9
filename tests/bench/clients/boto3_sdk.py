"""boto3, Converse, signed with SigV4. It blocks, so it takes part only where one thing happens at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import boto3
from payloads import MODEL, PROMPT

ASKED = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": PROMPT}]}]}


def connect(origin: str) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=origin,
        aws_access_key_id="REDACTED",
        aws_secret_access_key="REDACTED",
    )


async def call(client: Any) -> tuple[str, int]:
    answer = client.converse(**ASKED)
    return answer["output"]["message"]["content"][0]["text"], answer["usage"]["outputTokens"]


async def stream(client: Any) -> AsyncIterator[str | int]:
    for event in client.converse_stream(**ASKED)["stream"]:
        if "contentBlockDelta" in event:
            yield event["contentBlockDelta"]["delta"]["text"]
        elif "metadata" in event:
            yield event["metadata"]["usage"]["outputTokens"]
