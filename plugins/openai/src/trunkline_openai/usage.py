"""The usage of the Chat Completions dialect, in its servers' spellings, as the core's `Usage`."""

from __future__ import annotations

from typing import Any

from trunkline.response import Usage


def usage_from(raw: Any) -> Usage | None:
    """The usage, or `None` where there is none. What is not told, or no count, stays `None`."""
    if not isinstance(raw, dict) or not raw:
        return None
    # Mistral has had it without the s.
    prompt = _object(raw.get("prompt_tokens_details") or raw.get("prompt_token_details"))
    completion = _object(raw.get("completion_tokens_details"))
    input_tokens = _first(raw, "prompt_tokens", "input_tokens")
    output_tokens = _first(raw, "completion_tokens", "output_tokens")
    total_tokens = _count(raw.get("total_tokens"))
    reasoning = _count(completion.get("reasoning_tokens"))
    if reasoning is None:
        reasoning = _count(raw.get("reasoning_tokens"))
    if (
        reasoning
        and input_tokens is not None
        and output_tokens is not None
        and total_tokens == input_tokens + output_tokens + reasoning
    ):
        # xAI counts reasoning beside the completion; its total tells.
        output_tokens += reasoning
    cache_read = _count(prompt.get("cached_tokens"))
    if cache_read is None:
        cache_read = _first(
            raw, "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens", "num_cached_tokens"
        )
    cache_write = _count(prompt.get("cache_write_tokens"))
    if cache_write is None:
        cache_write = _count(raw.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=total_tokens,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=reasoning,
        raw=raw,
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(raw: dict[str, Any], *keys: str) -> int | None:
    return next((count for key in keys if (count := _count(raw.get(key))) is not None), None)


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
