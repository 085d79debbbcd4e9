"""The usage of the Messages API as the core's `Usage`."""

from __future__ import annotations

from typing import Any

from trunkline.response import Usage


def usage_from(raw: Any) -> Usage | None:
    """The usage, or `None` where there is none. What is not told, or no count, stays `None`.

    The provider counts cached tokens apart from `input_tokens`; here they are in.
    """
    if not isinstance(raw, dict) or not raw:
        return None
    fresh, output = _count(raw.get("input_tokens")), _count(raw.get("output_tokens"))
    cache_read = _count(raw.get("cache_read_input_tokens"))
    cache_write = _count(raw.get("cache_creation_input_tokens"))
    details = raw.get("output_tokens_details")
    whole = None if fresh is None else fresh + (cache_read or 0) + (cache_write or 0)
    return Usage(
        input_tokens=whole,
        output_tokens=output,
        total_tokens=None if whole is None or output is None else whole + output,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=_count(details.get("thinking_tokens")) if isinstance(details, dict) else None,
        raw=raw,
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
