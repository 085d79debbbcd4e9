"""The rate limits in the headers of recorded responses, beside a count of the headers that does not use the plugins."""

from __future__ import annotations

from collections import Counter

import pytest
from recorded_counts import assert_counts
from recordings import SCOPES, recorded
from trunkline._plugins.registry import load_provider
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.rate_limits import read_rate_limits
from trunkline.response import RateLimit

FILES = {
    "openai": "openai",
    "openai-responses": "openai",
    "azure-openai": "azure-openai",
    "groq": "openai-compatible",
    "deepseek": "openai-compatible",
    "openrouter": "openai-compatible",
    "other": "openai-compatible",
    "anthropic": "anthropic",
    "cohere": "cohere",
    "mistral": "mistral",
    "gemini": "gemini",
    "ollama": "ollama",
    "bedrock-converse": "bedrock",
}

KINDS = ("requests", "tokens", "input_tokens", "output_tokens")
SETTINGS = {
    "openai-compatible": {"api_url": "http://localhost"},
    "azure-openai": {"api_url": "http://localhost", "api_key": "k"},
    "bedrock": {"aws_region": "us-east-1"},
    "ollama": {},
}
NOT_CHAT = (
    "audio",
    "image",
    "month",
    "usage",
    "characters",
    "project",
    "cost",
    "renewal",
    "penalty",
    "key",
    "-type",
    "day",
    "hour",
    "timeremaining",
)
"""Headers about other limits than those of requests and tokens, and about longer windows."""
UNREAD = ("x-ratelimit-requests", "x-ratelimit-tokens")
"""Anthropic's endpoint for Chat Completions names the limits in this way; they are in `raw`."""


@pytest.mark.parametrize("name", FILES)
def test_every_recorded_number_about_requests_and_tokens_is_read(name: str) -> None:
    provider = load_provider(FILES[name])
    settings = provider.settings(**SETTINGS.get(provider.name, {"api_key": "k"}))  # type: ignore[arg-type]
    names = provider.rate_limits(ServiceContext(name="recorded", provider=provider.name, settings=settings))
    counts: Counter[str] = Counter()
    for exchange in recorded(name):
        if name == "other" and exchange.scope not in SCOPES:
            continue  # a gateway to Anthropic, and others that are not compatible
        limits = read_rate_limits(exchange.headers, names)
        numbers = {
            header: value
            for header, value in exchange.headers.items()
            if "limit" in header and value.isdigit() and len(value) < 16
        }
        if limits is None:
            assert not numbers
            continue
        read = [limit for kind in KINDS if (limit := getattr(limits, kind)) is not None]
        counts.update(kind for kind in KINDS if getattr(limits, kind) is not None)
        found = {value for limit in read for value in (limit.limit, limit.remaining, limit.reset_after)}
        for header, value in numbers.items():
            if header not in UNREAD and not any(word in header for word in NOT_CHAT) and int(value) < 10**9:
                assert int(value) in found, f"{exchange.id}: {header}: {value} is not in {limits}"
    assert_counts(f"rate limits/{name}", **{kind: counts[kind] for kind in KINDS})


def test_recorded_resets_are_read_in_seconds() -> None:
    found = {}
    for name in ("openai", "groq", "anthropic", "openrouter"):
        provider = load_provider(FILES[name])
        settings = provider.settings(**SETTINGS.get(provider.name, {"api_key": "k"}))  # type: ignore[arg-type]
        names = provider.rate_limits(ServiceContext(name="recorded", provider=provider.name, settings=settings))
        for exchange in recorded(name):
            limits = read_rate_limits(exchange.headers, names)
            if limits is not None and limits.requests is not None:
                found[name, exchange.headers.get("x-ratelimit-reset-requests")] = limits.requests
                if exchange.headers.get("anthropic-ratelimit-requests-reset") == "2024-10-16T05:02:55Z":
                    assert exchange.headers["date"] == "Wed, 16 Oct 2024 05:02:23 GMT"
                    assert limits.requests == RateLimit(limit=50, remaining=49, reset_after=32.0)
                if exchange.headers.get("x-ratelimit-reset") == "1754667660000":
                    assert limits.requests == RateLimit(limit=1, remaining=0, reset_after=26.0)
    assert found["openai", "6ms"].reset_after == pytest.approx(0.006)
    assert found["groq", "20m9.6s"].reset_after == pytest.approx(1209.6)
