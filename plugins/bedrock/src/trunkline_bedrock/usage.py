"""Converse's usage as the core's `Usage`."""

from __future__ import annotations

from typing import Any

from trunkline.response import Usage


def usage_from(raw: Any) -> Usage | None:
    """The usage, or `None` where there is none.

    `inputTokens` leaves out what was read from the cache and written to it; `totalTokens` counts both.
    """
    if not isinstance(raw, dict) or not raw:
        return None
    fresh, output = _count(raw, "inputTokens"), _count(raw, "outputTokens")
    read = _count(raw, "cacheReadInputTokens", "cacheReadInputTokenCount")
    write = _count(raw, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    return Usage(
        input_tokens=fresh + (read or 0) + (write or 0) if fresh is not None else None,
        output_tokens=output,
        total_tokens=_count(raw, "totalTokens"),
        cache_read_tokens=read,
        cache_write_tokens=write,
        raw=raw,
    )


def _count(raw: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = raw.get(name)
        if type(value) is int and value >= 0:
            return value
    return None
