"""Gemini's token counts as the core's `Usage`."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_count
from trunkline.response import Usage


def usage_from(raw: object, *, is_final: bool) -> Usage | None:
    """Return the usage that a chunk reports, or `None`. `is_final` is whether the chunk ends the response.

    `candidatesTokenCount` excludes thoughts, and `promptTokenCount` excludes the prompts of hosted tools; both are
    added here.
    """
    if not isinstance(raw, dict) or not raw:
        return None
    thoughts = as_count(raw.get("thoughtsTokenCount"))
    output = _sum(as_count(raw.get("candidatesTokenCount")), thoughts)
    return Usage(
        input_tokens=_sum(as_count(raw.get("promptTokenCount")), as_count(raw.get("toolUsePromptTokenCount"))),
        output_tokens=output,
        # Until there is output, Gemini's total is the prompt's count.
        total_tokens=as_count(raw.get("totalTokenCount")) if is_final or output is not None else None,
        cache_read_tokens=as_count(raw.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
        raw=raw,
    )


def later_counts(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of a later chunk, which replace the earlier counts unless they start again at 0.

    A count may decrease, because Gemini corrects its estimates (recording 2b64aecdb8256015). But if a count was more
    than 0 and is now 0, or missing since proto JSON leaves out 0, the new count belongs to another part of the answer
    (class 57).
    """
    if earlier.keys() <= later.keys() and 0 not in later.values():  # nearly always
        return later
    kept = {name: count for name, count in earlier.items() if type(count) is int and count and not later.get(name)}
    if not kept:
        return later
    totals = [counts.get("totalTokenCount") for counts in (earlier, later)]
    return {**later, **kept, "totalTokenCount": max((total for total in totals if type(total) is int), default=None)}


def _sum(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second
