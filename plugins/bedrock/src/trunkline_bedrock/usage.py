"""Converse's usage as the core's `Usage`."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_count
from trunkline.response import Usage


def usage_from(raw: object) -> Usage | None:
    """Return the usage, or `None` if there is none. A count that is missing or invalid is `None`.

    Bedrock's `inputTokens` excludes tokens that were read from the cache or written to it; `totalTokens` and
    `Usage.input_tokens` include them.
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
    """Return the first valid count under one of the names, which models spell differently."""
    counts = (as_count(raw.get(name)) for name in names)
    return next((count for count in counts if count is not None), None)
