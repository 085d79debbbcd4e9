"""Removing secrets leaves recorded responses as they are."""

from __future__ import annotations

import random

import pytest
from random_secrets import random_secrets
from recordings import recorded
from trunkline.secrets import scrub

EACH = 40
"""How many bodies of each file are read, chosen at random."""


@pytest.mark.parametrize(
    "file",
    [
        "anthropic",
        "azure-openai",
        "bedrock-converse",
        "bedrock-converse-stream",
        "bedrock-invoke",
        "cohere",
        "deepseek",
        "gemini",
        "groq",
        "mistral",
        "ollama",
        "openai",
        "openai-responses",
        "openrouter",
        "other",
    ],
)
def test_recorded_responses_are_left_alone(file: str) -> None:
    exchanges = recorded(file)
    for exchange in random.Random(7).sample(exchanges, min(len(exchanges), EACH)):
        text = exchange.body[: 256 * 1024].decode("utf-8", "replace")
        assert scrub(text, random_secrets()) is text, exchange.id
