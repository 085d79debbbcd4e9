"""What a response costs, and when that is unknown."""

from __future__ import annotations

import datetime
import subprocess
import sys
from decimal import Decimal
from typing import Any

import attrs
import genai_prices
import pytest
from hypothesis import given, strategies as st
from trunkline import (
    BadRequest,
    ChatResponse,
    ConnectionFailed,
    ConnectTimeout,
    EmbedResponse,
    FinishReason,
    Image,
    InvalidAnswer,
    InvalidRequest,
    Opaque,
    ProtocolViolation,
    RateLimited,
    RerankResponse,
    ServerError,
    ServiceClosed,
    StreamClosed,
    StreamInterrupted,
    Text,
    TotalTimeout,
    TrunklineError,
    Usage,
)
from trunkline_prices import Cost, CostPart, PricesSettings, UnknownReason, cost, total_cost
from trunkline_prices.price_list import PriceOptions, cost_of
from trunkline_prices.settings import price_options
from trunkline_prices.stored import cost_from_json, cost_to_json, with_cost

DATE = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)


def response(model: str | None = "gpt-4o-mini", provider: str = "openai", **usage: Any) -> ChatResponse:
    usage = {"input_tokens": 1000, "output_tokens": 100, **usage}
    return ChatResponse(
        parts=(Text(text="Hello"),),
        finish_reason=FinishReason.STOP,
        model=model,
        provider=provider,
        usage=Usage(**usage),
    )


def with_options(value: ChatResponse | Usage, requested: str | None = None, **settings: Any) -> Cost:
    options = price_options(PricesSettings(**settings))
    return cost_of(value, requested=requested, provider=None, date=DATE, batch=False, options=options)


def listed(model: str, provider: str, context: dict[str, str] | None = None, **usage: int) -> Decimal:
    return genai_prices.calc_price(
        genai_prices.Usage(**usage),
        model,
        provider_id=provider,
        genai_request_timestamp=DATE,
        price_context=context,
    ).total_price


def test_cost_has_a_part_for_each_kind_of_tokens() -> None:
    found = cost(response(cache_read_tokens=600), date=DATE)
    assert found.total == listed("gpt-4o-mini", "openai", input_tokens=1000, cache_read_tokens=600, output_tokens=100)
    assert found.parts == (
        CostPart(usage="input_tokens", quantity=Decimal(400), amount=Decimal("0.15") * 400 / 10**6),
        CostPart(usage="output_tokens", quantity=Decimal(100), amount=Decimal("0.6") * 100 / 10**6),
        CostPart(usage="cache_read_tokens", quantity=Decimal(600), amount=Decimal("0.075") * 600 / 10**6),
    )
    assert (found.input, found.cache_read, found.cache_write) == (found.parts[0].amount, found.parts[2].amount, 0)
    assert (found.output, found.reasoning) == (found.parts[1].amount, 0)
    assert (found.price_provider, found.price_model, found.date) == ("openai", "gpt-4o-mini", DATE)
    assert str(found) == "$0.000165"


def test_tokens_in_a_cache_for_an_hour_have_their_own_price() -> None:
    raw = {"cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 300}}
    found = cost(response("claude-sonnet-4-5", "anthropic", cache_write_tokens=500, raw=raw), date=DATE)
    assert found.total == listed(
        "claude-sonnet-4-5",
        "anthropic",
        input_tokens=1000,
        cache_write_tokens=500,
        cache_write_5m_tokens=200,
        cache_write_1h_tokens=300,
        output_tokens=100,
    )
    assert found.cache_write == Decimal("3.75") * 200 / 10**6 + Decimal(6) * 300 / 10**6


def test_price_depends_on_the_size_of_the_input() -> None:
    small, large = (
        cost(response("claude-sonnet-4-5", "anthropic", input_tokens=n), date=DATE) for n in (200_000, 200_001)
    )
    assert large.input > small.input * Decimal("1.9")


@pytest.mark.parametrize(
    ("metadata", "context"),
    [
        ({"service_tier": "priority"}, {"service_tier": "priority"}),
        ({"service_tier": "default"}, None),
        ({}, None),
    ],
)
def test_service_tier_that_answered_selects_the_price(metadata: dict[str, str], context: dict[str, str] | None) -> None:
    value = attrs.evolve(response(), provider_metadata={"openai": metadata})
    found = cost(value, date=DATE)
    assert found.total == listed("gpt-4o-mini", "openai", context, input_tokens=1000, output_tokens=100)
    assert found.conditions == (context or {})


def test_batch_has_its_own_price() -> None:
    found = cost(response(), date=DATE, batch=True)
    assert found.total == listed("gpt-4o-mini", "openai", {"processing": "batch"}, input_tokens=1000, output_tokens=100)
    anthropic = response("claude-sonnet-4-5", "anthropic", raw={"service_tier": "batch"})
    assert cost(anthropic, date=DATE).conditions == {"processing": "batch"}


def test_two_conditions_that_have_no_price_together_have_no_price() -> None:
    priority = attrs.evolve(response(), provider_metadata={"openai": {"service_tier": "priority"}})
    found = cost(priority, date=DATE, batch=True)
    assert (found.total, found.reason) == (None, "tier")


@pytest.mark.parametrize(
    ("model", "entry"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "regional.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"),
    ],
)
def test_inference_profiles_of_bedrock_have_the_price_of_their_region(model: str, entry: str) -> None:
    found = cost(response(None, "bedrock"), model=model, date=DATE)
    assert (found.price_provider, found.price_model, found.total is None) == ("aws", entry, False)


def test_searches_that_the_provider_ran_are_charged() -> None:
    calls = [{"action": {"type": "search"}}, {"action": {"type": "open_page"}}, {"action": {"type": "search"}}]
    parts = tuple(Opaque(provider="openai", kind="web_search_call", data=data) for data in calls)
    found = cost(attrs.evolve(response(), parts=parts), date=DATE)
    assert [(part.usage, part.quantity) for part in found.parts][-1] == ("web_searches", Decimal(2))
    anthropic = response("claude-sonnet-4-5", "anthropic", raw={"server_tool_use": {"web_search_requests": 3}})
    assert cost(anthropic, date=DATE).parts[-1].amount == Decimal("0.03")


def test_cohere_is_charged_by_what_it_bills() -> None:
    raw = {
        "billed_units": {"input_tokens": 10, "output_tokens": 5},
        "tokens": {"input_tokens": 1000},
        "cached_tokens": 900,
    }
    found = cost(response(None, "cohere", cache_read_tokens=900, raw=raw), model="command-r-08-2024", date=DATE)
    assert found.total == listed("command-r-08-2024", "cohere", input_tokens=10, output_tokens=5)


def test_embeddings_have_a_cost() -> None:
    value = EmbedResponse(
        embeddings=((1.0,),), model="text-embedding-3-small", provider="openai", usage=Usage(input_tokens=1000)
    )
    assert cost(value, date=DATE).total == Decimal("0.00002")


@pytest.mark.parametrize(
    ("raw", "total"),
    [
        ({"cost": 0.25, "is_byok": False}, "0.25"),
        ({"cost": {"total_cost": 0.006, "request_cost": 0.005}}, "0.006"),
        ({"cost_in_usd_ticks": 37756000}, "0.0037756"),
    ],
)
def test_cost_that_the_provider_reports_is_taken(raw: dict[str, Any], total: str) -> None:
    found = cost(response("a-new-model", "openai-compatible", raw=raw))
    assert (found.total, found.price_provider, found.parts) == (Decimal(total), "reported", ())


def searches(number: float) -> dict[str, Any]:
    return {"server_tool_use": {"web_search_requests": number}}


GROUNDED = {"gemini": {"groundingMetadata": {"webSearchQueries": ["sky"]}}}


@pytest.mark.parametrize(
    ("value", "reason", "words"),
    [
        (attrs.evolve(response(), usage=None), "no_usage", "no token counts"),
        (response(output_tokens=None), "no_usage", "numbers of input and output"),
        (response(input_tokens=0), "no_usage", "numbers of input and output"),
        (response("gpt-99"), "model", "no model 'gpt-99' of openai"),
        (response(None), "model", "does not name its model"),
        (response("qwen3", "ollama"), "model", "no provider 'ollama'"),
        (response("m", "openai-compatible"), "model", "no provider 'openai-compatible'"),
        (response("mistral-large-latest", "mistral", cache_read_tokens=10), "no_price", "cache_read_tokens"),
        (response(raw={"prompt_tokens_details": {"audio_tokens": 5}}), "no_price", "input_audio_tokens"),
        (response(raw={"prompt_tokens_details": {"smell_tokens": 5}}), "usage_key", "smell_tokens"),
        (response(raw={"num_sources_used": 3}), "usage_key", "num_sources_used"),
        (response("claude-sonnet-4-5", "anthropic", raw={"service_tier": "priority"}), "tier", "'priority'"),
        (response("claude-sonnet-4-5", "anthropic", raw={"inference_geo": "us"}), "tier", "'us'"),
        (attrs.evolve(response(), provider_metadata={"o": {"service_tier": "scale"}}), "tier", "'scale'"),
        (
            attrs.evolve(response(provider="azure-openai"), provider_metadata={"o": {"service_tier": "priority"}}),
            "tier",
            "'priority'",
        ),
        (attrs.evolve(response("gemini-2.5-flash", "gemini"), provider_metadata=GROUNDED), "tool", "grounding"),
        (attrs.evolve(response(), parts=(Opaque(provider="o", kind="shell_call", data={}),)), "tool", "shell_call"),
        (attrs.evolve(response(), parts=(Image(data=b"x", media_type="image/png"),)), "tool", "image"),
        (response("gpt-4o-search-preview"), "tool", "web search"),
        (response(cache_read_tokens=1001), "invalid_usage", "contradict"),
        (response(output_tokens=5, reasoning_tokens=6), "invalid_usage", "contradict"),
        (response(input_tokens=-1), "invalid_usage", "no call can have: input_tokens"),
        (response(input_tokens=2**53 - 1), "invalid_usage", "no call can have: input_tokens"),
        *(
            (
                response("claude-sonnet-4-5", "anthropic", raw=searches(n)),
                "invalid_usage",
                "no call can have: web_searches",
            )
            for n in (-1, float("nan"), float("inf"), 10**400)
        ),
        *(
            (response(raw=form), "invalid_usage", "cost that no call can have")
            for n in (-1, float("nan"), float("inf"), 1e300, 10**400)
            for form in ({"cost": n, "is_byok": False}, {"cost": {"total_cost": n}}, {"cost_in_usd_ticks": n})
        ),
        (response(raw={"smell_tokens": float("nan")}), "usage_key", "smell_tokens"),
        (response("m", "openai-compatible", raw={"cost": 0, "is_byok": True}), "byok", "a key of yours"),
    ],
)
def test_unknown_cost_is_none_and_has_a_reason(value: ChatResponse, reason: UnknownReason, words: str) -> None:
    found = cost(value, date=DATE)
    assert (found.total, found.parts, found.reason) == (None, (), reason)
    assert words in found.problem
    assert str(found) == f"unknown: {found.problem}"


def test_cost_of_an_interrupted_response_is_a_lower_bound() -> None:
    found = cost(attrs.evolve(response(), finish_reason=FinishReason.ERROR), date=DATE)
    assert (found.total, found.reason) == (None, "incomplete")
    assert found.at_least == listed("gpt-4o-mini", "openai", input_tokens=1000, output_tokens=100)
    nothing = cost(attrs.evolve(response(), finish_reason=FinishReason.ERROR, usage=None))
    assert (nothing.total, nothing.reason, nothing.at_least) == (None, "incomplete", None)


@pytest.mark.parametrize(
    ("error", "total"),
    [
        (BadRequest("no", status=400), 0),
        (RateLimited("later", status=429), 0),
        (InvalidRequest("two systems"), 0),
        (ConnectTimeout("no connection"), 0),
        (ConnectionFailed("no connection"), 0),
        (ProtocolViolation("no JSON"), None),
        (TotalTimeout("too long"), None),
        (StreamInterrupted("broke off"), None),
        (StreamClosed("closed"), None),
        (ServiceClosed("closed"), None),
    ],
)
def test_call_that_was_refused_or_not_sent_costs_nothing(error: TrunklineError, total: int | None) -> None:
    found = cost(error, model="gpt-4o-mini")
    assert (found.total, found.model) == (total, "gpt-4o-mini")
    assert (found.price_provider, found.reason) == (("refused", None) if total == 0 else (None, "incomplete"))


def test_call_that_was_refused_after_a_part_arrived_may_cost() -> None:
    partial = attrs.evolve(response(), finish_reason=FinishReason.ERROR)
    found = cost(ServerError("overloaded", partial=partial), date=DATE)
    assert (found.total, found.reason) == (None, "incomplete")
    assert found.at_least == cost(response(), date=DATE).total


def test_answer_that_does_not_fit_its_type_costs_what_its_response_does() -> None:
    error = InvalidAnswer("no JSON", reason="not_json", response=response())
    assert cost(error, date=DATE) == cost(response(), date=DATE)


def test_problem_of_a_response_of_which_nothing_arrived_says_to_pass_the_error() -> None:
    found = cost(attrs.evolve(response(), parts=(), usage=None, finish_reason=FinishReason.ERROR))
    assert (found.total, found.reason) == (None, "incomplete")
    assert "pass the error to cost()" in found.problem


def test_usage_has_a_cost_unless_it_depends_on_the_size_of_each_call() -> None:
    small = Usage(input_tokens=100_000, output_tokens=1)
    assert cost(small, model="claude-sonnet-4-5", provider="anthropic", date=DATE).total == Decimal("0.300015")
    large = cost(attrs.evolve(small, input_tokens=300_000), model="claude-sonnet-4-5", provider="anthropic", date=DATE)
    assert (large.total, large.reason) == (None, "tier")
    assert cost(small).reason == "model"


def test_total_is_unknown_if_a_cost_is() -> None:
    found = cost(response())
    assert found.total is not None
    assert total_cost([response(), response()]) == 2 * found.total
    assert total_cost([response(), response("gpt-99")]) is None
    assert total_cost([]) == 0


# Settings


def test_own_price_is_used_for_a_model_without_one() -> None:
    prices = {"qwen3": {"input": "0.5", "output": 2}}
    value = response("qwen3:4b", "ollama", cache_read_tokens=400, raw={"smell_tokens": 3})
    found = with_options(value, "qwen3", prices=prices)
    assert (found.total, found.price_provider) == (Decimal("0.0007"), "own")
    assert with_options(value, "qwen3", prices={"qwen3": {"input": 0}}).total == 0  # known to be free
    with_cache = with_options(value, "qwen3", prices={"qwen3": {"input": 1, "cache_read": "0.5", "cache_write_1h": 2}})
    assert with_cache.total == Decimal("0.0008")


def test_deployment_has_the_price_of_its_model() -> None:
    value = response("prod-chat", "azure-openai")
    assert cost(value).reason == "model"
    found = with_options(value, "prod-chat", models={"prod-chat": "gpt-4o"})
    assert (found.price_provider, found.price_model) == ("azure", "gpt-4o")


def test_url_of_the_server_tells_whose_prices_apply() -> None:
    options = PriceOptions(api_url="https://api.groq.com/openai/v1")
    value = response("llama-3.3-70b-versatile", "openai-compatible")
    found = cost_of(value, requested=None, provider="openai-compatible", date=DATE, batch=False, options=options)
    assert (found.price_provider, found.total is None) == ("groq", False)
    assert with_options(value, price_provider="groq").price_provider == "groq"


def test_ignored_usage_costs_nothing() -> None:
    value = response(raw={"smell_details": {"tokens": 5}})
    assert with_options(value, ignored_usage=["smell_details.*"]).total == cost(response(), date=DATE).total


# Storage


AMOUNTS = st.decimals(0, 100, places=7)
COSTS = st.builds(
    Cost,
    total=AMOUNTS,
    parts=st.lists(st.builds(CostPart, usage=st.text(), quantity=AMOUNTS, amount=AMOUNTS)).map(tuple),
    model=st.none() | st.text(min_size=1),
    date=st.datetimes(timezones=st.just(datetime.UTC)),
    conditions=st.dictionaries(st.text(), st.text()),
)


@given(COSTS | st.just(Cost(reason="tier", problem="why", at_least=Decimal("0.1"))))
def test_cost_is_the_same_after_it_was_stored(value: Cost) -> None:
    assert cost_from_json(cost_to_json(value)) == value
    assert cost(with_cost(response(), value)) == value


@pytest.mark.parametrize("data", [{}, {"total": "x"}, {"total": "1", "parts": [1]}, {"reason": "whim"}, {"total": []}])
def test_what_is_no_stored_cost_is_not_read(data: dict[str, Any]) -> None:
    value: Any = attrs.evolve(response(), provider_metadata={"trunkline-prices": data})
    assert cost(value).price_model == "gpt-4o-mini"


def test_cost_of_a_response_without_prices_is_unknown() -> None:
    found = cost(RerankResponse(results=(), model="rerank-v3.5"))
    assert (found.total, found.reason, found.model) == (None, "operation", "rerank-v3.5")
    assert found.problem == "there are no prices for a RerankResponse"


def test_importing_the_module_does_not_import_the_price_list() -> None:
    code = "import sys, trunkline_prices\nassert not {'genai_prices', 'pydantic', 'httpx2', 'anyio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_parts_are_named_in_the_price_list() -> None:
    from genai_prices.data_units import unit_data
    from trunkline_prices.usage_units import CHARGED_AS_TEXT, UNITS

    assert {*CHARGED_AS_TEXT, *UNITS.values()} <= set(unit_data)
