"""Token usage as Chat Completions servers spell it, as the core's `Usage`. Pure."""

from __future__ import annotations

from typing import Any

import attrs
from trunkline.authoring.json import as_count, as_object
from trunkline.response import Usage


def usage_from(raw: Any) -> Usage | None:
    """The usage, or `None` without any. A field that is missing or not a count is `None`."""
    if not isinstance(raw, dict) or not raw:
        return None
    # Mistral also spells it without the s.
    prompt = as_object(raw.get("prompt_tokens_details") or raw.get("prompt_token_details"))
    completion = as_object(raw.get("completion_tokens_details"))
    input_tokens = as_count(raw.get("prompt_tokens"), raw.get("input_tokens"))
    output_tokens = as_count(raw.get("completion_tokens"), raw.get("output_tokens"))
    total_tokens = as_count(raw.get("total_tokens"))
    reasoning = as_count(completion.get("reasoning_tokens"), raw.get("reasoning_tokens"))
    if (
        reasoning
        and input_tokens is not None
        and output_tokens is not None
        and total_tokens == input_tokens + output_tokens + reasoning
    ):
        # xAI counts reasoning separately from the completion, as its total shows.
        output_tokens += reasoning
    cache_read = as_count(
        prompt.get("cached_tokens"),
        raw.get("prompt_cache_hit_tokens"),
        raw.get("cached_tokens"),
        raw.get("cache_read_input_tokens"),
        raw.get("num_cached_tokens"),
    )
    cache_write = as_count(prompt.get("cache_write_tokens"), raw.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=total_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=reasoning,
        raw=raw,
    )


def larger(usage: Usage, before: Usage) -> Usage:
    """Merge two reports of one response: the later report, but with the larger of each pair of counts.

    Token counts only grow, but some servers end a stream with a report of zeros.
    """
    kept = {
        name: known
        for name in _COUNTS
        if (known := getattr(before, name)) is not None and known > (getattr(usage, name) or 0)
    }
    return attrs.evolve(usage, **kept) if kept else usage


_COUNTS = tuple(field.name for field in attrs.fields(Usage) if field.name != "raw")
