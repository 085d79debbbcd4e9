"""The usage of the Messages API as the core's `Usage`."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_count, as_object
from trunkline.response import Usage

_INPUT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def later_usage(earlier: dict[str, Any], later: dict[str, Any], *, both_total: bool) -> dict[str, Any]:
    """Merge two usage reports. The counts of the later report are totals, so they replace the earlier counts.

    Some servers send 0 for all input counts in their last report. Such counts do not replace the earlier counts. If
    `both_total`, the earlier output count is also a total, not the placeholder in `message_start`, so the larger output
    count is used.
    """
    given = {name: value for name, value in later.items() if value is not None}
    if not any(map(given.get, _INPUT)) and any(map(earlier.get, _INPUT)):
        for name in _INPUT:
            given.pop(name, None)
    if both_total:
        output, before = as_count(given.get("output_tokens")), as_count(earlier.get("output_tokens"))
        if output is not None and before is not None and output < before:
            del given["output_tokens"]
    return {**earlier, **given}


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
