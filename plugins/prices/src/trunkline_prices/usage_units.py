"""Which counts of a response are charged, and as what. Pure data and functions, without the price list.

`Usage` has the counts that every provider reports. Its `raw` may have more: audio, searches, tokens in a cache for an
hour. Each count there is known to cost nothing by itself (`INCLUDED`), or is charged as a unit of the price list
(`UNITS`), or makes the cost unknown. The names are those of the providers' documentation and of the recorded traffic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache

import attrs
from trunkline import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, Image, Opaque, Usage
from trunkline.authoring.json import as_count, as_object, as_objects

INCLUDED = (
    # The counts of `Usage`, as each provider spells them, and their sums.
    *("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens"),
    *("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "prompt_cache_miss_tokens"),
    *("cache_read_input_tokens", "cache_creation_input_tokens"),
    *("*_details.cached_tokens", "*_details.cache_write_tokens", "*_details.reasoning_tokens"),
    *("*_details.text_tokens", "*_details.thinking_tokens", "*_details.tool_output_tokens"),
    # Predicted tokens that were rejected are charged as output, and the output includes them.
    *("*_details.accepted_prediction_tokens", "*_details.rejected_prediction_tokens"),
    *("inputTokens", "outputTokens", "totalTokens", "cacheReadInputToken*", "cacheWriteInputToken*"),
    *("promptTokenCount", "candidatesTokenCount", "totalTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount"),
    "cachedContentTokenCount",
    *("prompt_eval_count", "prompt_eval_cached_count", "eval_count", "draft_tokens"),
    # Cohere: `billed_units` is what is charged, and is read by `units`.
    *("tokens.*", "billed_units.input_tokens", "billed_units.output_tokens"),
    # xAI: the size of the context at the end.
    "context_details.*",
    # Anthropic: the rounds of one response, whose sums are the counts. Web fetches cost nothing but their tokens.
    *("iterations.[].*_tokens", "iterations.[].cache_creation.*", "server_tool_use.web_fetch_requests"),
    # Times and speeds, and what a gateway makes of the counts.
    *("*_time", "*_duration", "*_ms", "*_sec", "*_per_sec", "*_per_second", "draft_tokens_acceptance"),
    *("cost", "cost.*", "cost_details.*", "cost_in_usd_ticks", "market_cost", "estimated_cost"),
    "pydantic_ai_gateway.*",
)

UNITS: Mapping[str, str] = {
    "prompt_tokens_details.audio_tokens": "input_audio_tokens",
    "input_tokens_details.audio_tokens": "input_audio_tokens",
    "audio_prompt_tokens": "input_audio_tokens",
    "prompt_tokens_details.image_tokens": "input_image_tokens",
    "input_tokens_details.image_tokens": "input_image_tokens",
    "prompt_tokens_details.video_tokens": "input_video_tokens",
    "completion_tokens_details.audio_tokens": "output_audio_tokens",
    "output_tokens_details.audio_tokens": "output_audio_tokens",
    "completion_tokens_details.image_tokens": "output_image_tokens",
    "output_tokens_details.image_tokens": "output_image_tokens",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m_tokens",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h_tokens",
    "server_tool_use.web_search_requests": "web_searches",
    "server_tool_use_details.web_search_requests": "web_searches",
    "prompt_audio_seconds": "input_audio_seconds",
}

_MODALITIES = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}
_DETAILS: Mapping[str, str] = {
    "promptTokensDetails": "input_{}_tokens",
    "cacheTokensDetails": "cache_{}_read_tokens",
    "candidatesTokensDetails": "output_{}_tokens",
    "toolUsePromptTokensDetails": "input_{}_tokens",
}
"""Gemini's counts by modality, and the unit of each. Text is the rest."""

CHARGED_AS_TEXT = frozenset(
    {
        *("input_image_tokens", "input_video_tokens", "cache_image_read_tokens", "cache_video_read_tokens"),
        *("output_reasoning_tokens", "cache_write_5m_tokens"),
    }
)
"""Units that are charged at the price of what contains them if the list has no other price.

The providers charge reasoning as output, and images and films that a model reads as input.
"""

FREE_PARTS = frozenset(
    {
        # Tools of your own servers, and tools that are run by the application.
        *("mcp_list_tools", "mcp_call", "mcp_approval_request", "mcp_tool_use", "mcp_tool_result"),
        *("local_shell_call", "apply_patch_call", "computer_call", "custom_tool_call", "compaction"),
        # Charged by their tokens alone.
        *("tool_search_call", "tool_search_output", "tool_search_tool_result", "web_fetch_tool_result"),
        *("executableCode", "codeExecutionResult", "annotation.file"),
        # Counted in the usage.
        "web_search_tool_result",
    }
)
"""The kinds of `Opaque` parts that cost nothing by themselves. Parts of other kinds make the cost unknown."""

_FREE_SERVER_TOOLS = frozenset({"web_search", "web_fetch", "tool_search_tool_regex", "tool_search_tool_bm25"})
_SEARCHES = {"web_search_call": "web_searches", "file_search_call": "storage_searches"}

_STANDARD = frozenset({"default", "standard", "on_demand", "not_available", "global"})
_TIERS = frozenset({"priority", "flex", "fast"})


@attrs.frozen(kw_only=True)
class Units:
    """What a response is charged for, by the unit's name in the price list.

    `unknown` names counts that nobody knows the price of. `tools` names tools that the provider ran and that it may
    charge for.
    """

    counts: Mapping[str, int | float]
    unknown: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()


def units(usage: Usage, ignored: Sequence[str] = ()) -> Units:
    """Return what a usage is charged for. `ignored` has patterns of further counts that cost nothing."""
    found: dict[str, int | float] = {
        name: count
        for name, count in (
            ("input_tokens", usage.input_tokens),
            ("output_tokens", usage.output_tokens),
            ("cache_read_tokens", usage.cache_read_tokens),
            ("cache_write_tokens", usage.cache_write_tokens),
            ("output_reasoning_tokens", usage.reasoning_tokens),
        )
        if count is not None
    }
    raw = usage.raw
    if billed := as_object(raw.get("billed_units")):  # Cohere, whose prompt includes a text that is not charged
        found = {
            name: number
            for name in ("input_tokens", "output_tokens")
            if (number := as_count(billed.get(name))) is not None
        }
    unknown: list[str] = []
    for path, count in _counts(raw):
        root = path.partition(".")[0]
        if (unit := UNITS.get(path)) is not None:
            found[unit] = count
        elif root not in _DETAILS and root != "cacheDetails" and not _is_included(path, tuple(ignored)):
            unknown.append(path)
    for name, unit in _DETAILS.items():
        for modality, count in _entries(raw, name, "modality", "tokenCount"):
            if modality in _MODALITIES:
                kind = unit.format(_MODALITIES[modality])
                found[kind] = found.get(kind, 0) + count
            elif modality != "TEXT":
                unknown.append(f"{name} {modality}")
    for lifetime, count in _entries(raw, "cacheDetails", "ttl", "inputTokens"):
        if lifetime in ("5m", "1h"):
            found[f"cache_write_{lifetime}_tokens"] = count
        else:
            unknown.append(f"cacheDetails {lifetime}")
    return Units(counts=found, unknown=tuple(dict.fromkeys(unknown)))


def _counts(value: object, path: str = "") -> Iterator[tuple[str, int | float]]:
    """Yield each number of a usage object that is not 0, with its path. It may be negative, or no finite number."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _counts(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _counts(item, f"{path}.[]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value != 0:
        yield path, value


@cache
def _is_included(path: str, ignored: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in (*INCLUDED, *ignored))


def _entries(raw: Mapping[str, object], name: str, key: str, count: str) -> Iterator[tuple[str, int]]:
    for entry in as_objects(raw.get(name)):
        number = as_count(entry.get(count))
        if number:
            yield str(entry.get(key)), number


def hosted_tools(response: ChatResponse) -> Units:
    """Return what the tools that the provider ran are charged for, as far as the response tells."""
    found: dict[str, int | float] = {}
    tools: list[str] = []
    for part in response.parts:
        if isinstance(part, Opaque):
            data = part.data if isinstance(part.data, Mapping) else {}
            if part.kind in _SEARCHES:
                if _is_search(data):
                    unit = _SEARCHES[part.kind]
                    found[unit] = found.get(unit, 0) + 1
            elif part.kind == "server_tool_use":
                if (name := str(data.get("name"))) not in _FREE_SERVER_TOOLS:
                    tools.append(name)
            elif part.kind not in FREE_PARTS:
                tools.append(part.kind)
        elif isinstance(part, Image) and "candidatesTokensDetails" not in (response.usage or Usage()).raw:
            tools.append("image generation")
    fields = _metadata(response)
    if fields.get("executed_tools"):
        tools.append("executed_tools")
    if fields.get("search_results") or fields.get("citations"):
        tools.append("search")  # Perplexity, whose newer responses report the cost
    grounding = as_object(fields.get("groundingMetadata"))
    if grounding.get("webSearchQueries") or grounding.get("searchEntryPoint"):
        tools.append("search grounding")  # with a free allowance a day
    if as_object(fields.get("usage_breakdown")).get("models"):
        tools.append("several models")
    # A round may be that of an advisor, which is another model.
    rounds = [one.get("type") for one in as_objects((response.usage or Usage()).raw.get("iterations"))]
    tools += [str(kind) for kind in rounds if kind not in (None, "message", "compaction")]
    if "search-preview" in (response.model or "") or "search-api" in (response.model or ""):
        tools.append("web search")  # of Chat Completions, which does not count the searches
    return Units(counts=found, tools=tuple(dict.fromkeys(tools)))


def _is_search(data: Mapping[str, object]) -> bool:
    """Whether a call of a search tool is charged: not one that opens a page that was found."""
    action = data.get("action")
    return not isinstance(action, Mapping) or action.get("type") in (None, "search")


def conditions(usage: Usage | None, response: ChatResponse | EmbedResponse | None) -> tuple[dict[str, str], str | None]:
    """Return what selects a price, such as `{"service_tier": "flex"}`, and the name of a tier that none is known for.

    Where each provider reports it: OpenAI, Azure and Groq as `service_tier` of the response; Anthropic and Mistral as
    `service_tier` of the usage, Anthropic also `speed` and `inference_geo`; Gemini as `serviceTier` and `trafficType`
    of the usage; Bedrock as `serviceTier` and `performanceConfig` of the response.
    """
    raw = usage.raw if usage is not None else {}
    fields = _metadata(response) if isinstance(response, ChatResponse) else {}
    tiers = [fields.get("service_tier"), fields.get("serviceTier"), raw.get("service_tier"), raw.get("serviceTier")]
    tiers = [tier.get("type") if isinstance(tier, Mapping) else tier for tier in tiers]
    tiers.append(str(raw.get("trafficType", "")).lower().removeprefix("on_demand_"))
    found: dict[str, str] = {}
    problem: str | None = None
    for tier in tiers:
        if not isinstance(tier, str) or not tier or tier.lower() in _STANDARD:
            continue
        if tier.lower() in _TIERS:
            found["service_tier"] = tier.lower()
        elif tier == "batch":
            found["processing"] = "batch"
        else:
            problem = f"service tier {tier!r}"
    speed, place = raw.get("speed"), raw.get("inference_geo")
    latency = as_object(fields.get("performanceConfig")).get("latency")
    if isinstance(speed, str) and speed not in _STANDARD:
        found["speed"] = speed
    if isinstance(place, str) and place and place not in _STANDARD:
        problem = f"inference in {place!r}"
    if latency not in (None, "standard"):
        problem = f"latency {latency!r}"
    return found, problem


def requested_conditions(request: ChatRequest | EmbedRequest) -> dict[str, str]:
    """Return what selects a price, as far as the request asks for a tier or a speed in its `provider_options`."""
    found: dict[str, str] = {}
    for fields in request.provider_options.values():
        tier = fields.get("service_tier") or fields.get("serviceTier")
        tier = tier.get("type") if isinstance(tier, Mapping) else tier
        if isinstance(tier, str) and tier.lower() in _TIERS:
            found["service_tier"] = tier.lower()
        if isinstance(speed := fields.get("speed"), str) and speed not in _STANDARD:
            found["speed"] = speed
    return found


def _metadata(response: ChatResponse) -> dict[str, object]:
    return {key: value for fields in response.provider_metadata.values() for key, value in fields.items()}
