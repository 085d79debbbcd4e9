"""The usage of the Messages API as the core's `Usage`."""

from __future__ import annotations

from trunkline.authoring.json import as_count, as_object
from trunkline.response import Usage


def usage_from(raw: object) -> Usage | None:
    """Return the usage, or `None` if there is none. A count that is missing or invalid is `None`.

    The API counts cached tokens separately from `input_tokens`; `Usage.input_tokens` includes them.
    """
    if not isinstance(raw, dict) or not raw:
        return None
    fresh, output = as_count(raw.get("input_tokens")), as_count(raw.get("output_tokens"))
    cache_read = as_count(raw.get("cache_read_input_tokens"))
    cache_write = as_count(raw.get("cache_creation_input_tokens"))
    whole = None if fresh is None else fresh + (cache_read or 0) + (cache_write or 0)
    return Usage(
        input_tokens=whole,
        output_tokens=output,
        total_tokens=None if whole is None or output is None else whole + output,
        cache_read_tokens=cache_read,
        cache_write_tokens=cache_write,
        reasoning_tokens=as_count(as_object(raw.get("output_tokens_details")).get("thinking_tokens")),
        raw=raw,
    )
