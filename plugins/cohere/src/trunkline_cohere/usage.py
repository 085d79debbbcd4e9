"""Cohere's counts as the core's `Usage`."""

from __future__ import annotations

from typing import Any

from trunkline.response import Usage


def usage_from(raw: Any) -> Usage | None:
    """The usage of a chat, or `None` where nothing was told.

    `tokens` is what the model read and wrote, cached and reasoning tokens counted in. `billed_units`, which leaves out
    Cohere's own preamble, stands in where there is nothing else. The total is their sum: Cohere tells none.
    """
    if not isinstance(raw, dict) or not raw:
        return None
    tokens, billed = raw.get("tokens"), raw.get("billed_units")
    input_tokens = _first("input_tokens", tokens, billed)
    output_tokens = _first("output_tokens", tokens, billed)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=None if input_tokens is None or output_tokens is None else input_tokens + output_tokens,
        cache_read_tokens=count(raw.get("cached_tokens")),
        reasoning_tokens=_first("reasoning_tokens", tokens),
        raw=raw,
    )


def count(value: Any) -> int | None:
    """A count of tokens, which the specification calls a float, or `None` for what is no count."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _first(name: str, *tables: Any) -> int | None:
    found = (count(table.get(name)) for table in tables if isinstance(table, dict))
    return next((value for value in found if value is not None), None)
