"""Converse's usage as the core's `Usage`."""

from __future__ import annotations

from trunkline.authoring.json import as_count
from trunkline.response import Usage


def usage_from(raw: object) -> Usage | None:
    """Return the usage, or `None` if there is none. A count that is missing or invalid is `None`.

    Bedrock's `inputTokens` excludes tokens that were read from the cache or written to it; `totalTokens` and
    `Usage.input_tokens` include them.
    """
    if not isinstance(raw, dict) or not raw:
        return None
    # Models spell the names of the counts of the cache differently.
    fresh, output = as_count(raw.get("inputTokens")), as_count(raw.get("outputTokens"))
    read = as_count(raw.get("cacheReadInputTokens"), raw.get("cacheReadInputTokenCount"))
    write = as_count(raw.get("cacheWriteInputTokens"), raw.get("cacheWriteInputTokenCount"))
    return Usage(
        input_tokens=fresh + (read or 0) + (write or 0) if fresh is not None else None,
        output_tokens=output,
        total_tokens=as_count(raw.get("totalTokens")),
        cache_read_tokens=read,
        cache_write_tokens=write,
        raw=raw,
    )
