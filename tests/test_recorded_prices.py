"""What the recorded responses cost: as the price list itself calculates it, or unknown for a reason.

`genai-prices` reads the usage of a provider's response with rules of its own, and calculates a price from it. That is
the oracle here: it is right wherever it has a price for everything that was used.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import attrs
import pytest
from json_fields import rewritten
from recorded_counts import assert_counts
from recorded_fields import NAMES, SOURCES, Recording, recordings_of
from recordings import FOLDER, report
from trunkline import ChatResponse, Opaque, ServiceContext
from trunkline._plugins.registry import load_provider
from trunkline.authoring.wire import WireResponse
from trunkline_prices import Cost, cost

SERVERS = {
    "cerebras": "cerebras",
    "deepseek": "deepseek",
    "groq": "groq",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "xai": "x-ai",
}
"""The provider in the price list, by the profile for a recording's server."""

FLAVORS = {"anthropic": "default", "bedrock": "default", "cohere": "default", "gemini": "default", "mistral": "default"}
LISTED = {"bedrock": "aws", "gemini": "google", "azure-openai": "azure"}


def provider_of(name: str, recording: Recording) -> str:
    return SERVERS.get(recording.server.split()[0], name) if name in ("openai", "openai-compatible") else name


@cache
def requested_models() -> dict[str, str]:
    """The models of the recorded requests, for providers whose responses do not name theirs."""
    models = {}
    for provider in ("bedrock", "cohere"):
        for file in SOURCES[provider].files:
            for line in (FOLDER / "open" / f"{file}.jsonl").read_text(encoding="utf-8").splitlines():
                exchange = json.loads(line)
                models[exchange["id"]] = exchange["model"]
    return models


@cache
def responses(name: str) -> list[tuple[Recording, ChatResponse, Cost]]:
    found = []
    for recording in recordings_of(name):
        response = recording.read(rewritten(recording.pieces, lambda _, value: value))
        model = requested_models().get(recording.exchange.id) or None
        found.append((recording, response, cost(response, model=model, provider=provider_of(name, recording))))
    return found


def oracle(name: str, recording: Recording, response: ChatResponse, found: Cost) -> Decimal | None:
    """The cost by the price list's own reading of the usage, or `None` if it has no rules for the response."""
    from genai_prices import extract_usage

    assert response.usage is not None
    provider = provider_of(name, recording)
    flavor = FLAVORS.get(provider) or ("responses" if "responses" in recording.server else "chat")
    usage: Any = {**response.usage.raw, **{key: 0 for key, value in response.usage.raw.items() if value is None}}
    data = {"model": found.model, "usage": usage}
    if provider == "gemini":
        data = {"modelVersion": found.model.removeprefix("models/") if found.model else None, "usageMetadata": usage}
    try:
        extracted = extract_usage(data, provider_id=LISTED.get(provider, provider), api_flavor=flavor)
        return extracted.calc_price(
            genai_request_timestamp=found.date, price_context=dict(found.conditions)
        ).total_price
    except (ValueError, LookupError):
        return None


@pytest.mark.parametrize("name", NAMES)
def test_recorded_responses_cost_what_the_price_list_calculates(name: str) -> None:
    compared, wrong = 0, []
    for recording, response, found in responses(name):
        if found.total is None or found.price_provider == "reported":
            continue
        assert response.usage is not None
        assert found.total > 0
        assert sum(part.amount for part in found.parts) == found.total
        hosted = {part.kind for part in response.parts if isinstance(part, Opaque)}
        if hosted & {"web_search_call", "file_search_call"}:  # the list does not count these calls
            continue
        expected = oracle(name, recording, response, found)
        if expected is None or "num_cached_tokens" in response.usage.raw:  # Mistral's, which the oracle does not read
            continue
        compared += 1
        if expected != found.total:
            wrong.append(f"{recording.exchange.id} {found.model}: {found} {found.parts}, not {expected}")
    print(f"{name}: {compared} compared")
    assert not wrong, report(wrong)
    assert_counts(f"prices/{name}", compared=compared)


def test_costs_that_xai_bills_are_those_of_the_list() -> None:
    """xAI reports what it charged for each response, which shows that usage and prices are read as it means them."""
    compared = 0
    for name in ("openai", "openai-compatible"):
        for recording, response, billed in responses(name):
            if provider_of(name, recording) != "x-ai" or billed.price_provider != "reported":
                continue
            assert response.usage is not None
            counts = {key: value for key, value in response.usage.raw.items() if key != "cost_in_usd_ticks"}
            unreported = attrs.evolve(response, usage=attrs.evolve(response.usage, raw=counts))
            found = cost(unreported, provider="x-ai")
            if found.total is None:
                assert found.reason == "usage_key"  # searches and other tools
                continue
            compared += 1
            assert found.total == billed.total
    assert_counts("prices/billed by xai", compared=compared)


OPENAI = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "model": "gpt-5.4"}
TOKENS = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
RESPONSES = {
    "object": "response",
    "status": "completed",
    "model": "gpt-5.4",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}],
    "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
}
MESSAGES = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "a"}],
    "stop_reason": "end_turn",
    "model": "claude-sonnet-4-6",
}
GEMINI = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "a"}]}, "finishReason": "STOP"}],
    "modelVersion": "gemini-3.8-flash-tts",  # one of few with prices for tiers
}
COUNTS = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "a"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15},
}


@pytest.mark.parametrize(
    ("provider", "settings", "body", "found"),
    [
        (
            "openai",
            {"api": "chat"},
            {**OPENAI, "usage": TOKENS, "service_tier": "priority"},
            {"service_tier": "priority"},
        ),
        ("openai", {"api": "chat"}, {**OPENAI, "usage": TOKENS, "service_tier": "default"}, {}),
        ("openai", {"api": "chat"}, {**OPENAI, "usage": TOKENS, "service_tier": "scale"}, "'scale'"),
        ("openai", {"api": "responses"}, {**RESPONSES, "service_tier": "flex"}, {"service_tier": "flex"}),
        (
            "anthropic",
            {},
            {**MESSAGES, "usage": {"input_tokens": 10, "output_tokens": 5, "service_tier": "batch"}},
            {"processing": "batch"},
        ),
        (
            "anthropic",
            {},
            {**MESSAGES, "usage": {"input_tokens": 10, "output_tokens": 5, "service_tier": "priority"}},
            "'priority'",
        ),
        (
            "mistral",
            {},
            {**OPENAI, "model": "mistral-small-latest", "usage": {**TOKENS, "service_tier": "standard"}},
            {},
        ),
        ("gemini", {}, {**GEMINI, "usageMetadata": {**COUNTS, "serviceTier": "flex"}}, {"service_tier": "flex"}),
        (
            "gemini",
            {},
            {**GEMINI, "usageMetadata": {**COUNTS, "trafficType": "ON_DEMAND_FLEX"}},
            {"service_tier": "flex"},
        ),
        ("gemini", {}, {**GEMINI, "usageMetadata": {**COUNTS, "trafficType": "ON_DEMAND"}}, {}),
        ("gemini", {}, {**GEMINI, "usageMetadata": {**COUNTS, "trafficType": "PROVISIONED_THROUGHPUT"}}, "provisioned"),
        ("bedrock", {"aws_region": "us-east-1"}, {**CONVERSE, "serviceTier": {"type": "default"}}, {}),
        ("bedrock", {"aws_region": "us-east-1"}, {**CONVERSE, "serviceTier": {"type": "priority"}}, "'priority'"),
        (
            "bedrock",
            {"aws_region": "us-east-1"},
            {**CONVERSE, "performanceConfig": {"latency": "optimized"}},
            "'optimized'",
        ),
    ],
)
def test_service_tier_is_found_where_each_provider_reports_it(
    provider: str, settings: dict[str, Any], body: dict[str, Any], found: dict[str, str] | str
) -> None:
    """The price of the tier is used, or the cost is unknown because the list has none."""
    plugin: Any = load_provider(provider)
    checked = plugin.settings(api_key="REDACTED", **settings)
    context = ServiceContext(name="recorded", provider=provider, settings=checked)
    response = plugin.response_parser(context).body(WireResponse(status=200, body=json.dumps(body).encode()))
    model = "amazon.nova-pro-v1:0" if provider == "bedrock" else None
    value = cost(attrs.evolve(response, provider=provider), model=model, date=datetime(2026, 11, 20, tzinfo=UTC))
    if isinstance(found, str):
        assert (value.total, value.reason) == (None, "tier")
        assert found in value.problem
    else:
        assert value.total
        assert value.conditions == found


@pytest.mark.parametrize("name", NAMES)
def test_cost_of_a_recorded_response_is_known_or_unknown_for_a_reason(name: str) -> None:
    counts: Counter[str] = Counter()
    for _, _, found in responses(name):
        assert (found.total is None) == (found.reason is not None) == bool(found.problem)
        counts["known" if found.reason is None else found.reason] += 1
    print(name, dict(counts))
    assert_counts(f"prices/{name}", reasons=counts)
