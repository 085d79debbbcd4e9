"""The official SDKs as clients of a gateway at an address. They do not retry."""

from __future__ import annotations

import anthropic
import openai


def openai_client(address: str, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0)


def anthropic_client(address: str, key: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=address, api_key=key, max_retries=0)
