"""Cohere's token counts as the core's `Usage`."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_count, as_object
from trunkline.response import Usage


def usage_from(raw: Any) -> Usage | None:
    """Return the usage of a chat, or `None` if the response reports none.

    `tokens` counts everything the model read and wrote, including cached and reasoning tokens. `billed_units`, which
    excludes Cohere's own preamble, is used only where `tokens` is missing. The total is their sum, because Cohere
    reports none.
    """
    if not isinstance(raw, dict) or not raw:
        return None
    tokens, billed = as_object(raw.get("tokens")), as_object(raw.get("billed_units"))
    input_tokens = as_count(tokens.get("input_tokens"), billed.get("input_tokens"))
    output_tokens = as_count(tokens.get("output_tokens"), billed.get("output_tokens"))
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=None if input_tokens is None or output_tokens is None else input_tokens + output_tokens,
        cache_read_tokens=as_count(raw.get("cached_tokens")),
        reasoning_tokens=as_count(tokens.get("reasoning_tokens")),
        raw=raw,
    )


def embedding_usage(meta: Any) -> Usage | None:
    """Return the usage of an embedding request, or `None` if the response reports none."""
    fields = as_object(meta)
    counted, billed = as_object(fields.get("tokens")), as_object(fields.get("billed_units"))
    tokens = as_count(counted.get("input_tokens"), billed.get("input_tokens"))
    images = as_count(billed.get("image_tokens"))
    if images is not None and "input_tokens" not in counted:
        tokens = images + (tokens or 0)
    return None if tokens is None else Usage(input_tokens=tokens, total_tokens=tokens, raw=fields)
