"""Tokens read from a prompt cache and written to it, as recorded servers report them, are in `Usage`."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from recorded_counts import assert_counts
from recorded_fields import NAMES, recordings_of
from trunkline.errors import TrunklineError

READ = (
    *("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens"),
    *("cacheReadInputTokens", "cacheReadInputTokenCount", "cachedContentTokenCount", "prompt_eval_cached_count"),
)
WRITTEN = (
    *("cache_write_tokens", "cache_creation_input_tokens"),
    *("cacheWriteInputTokens", "cacheWriteInputTokenCount"),
)
"""The names that servers have for these counts."""


def largest(body: bytes, names: tuple[str, ...]) -> int | None:
    """Return the largest count that a body has under one of these names, or `None`."""
    # In a body of ours, JSON that is inside of a string has escaped quotes, and so is not found.
    found = re.findall(rb'(?<!\\)"(?:' + "|".join(names).encode() + rb')"\s*:\s*(\d+)(?:\.0)?\b', body)
    return max(map(int, found), default=None)


@pytest.mark.parametrize("provider", NAMES)
def test_cached_tokens_that_a_server_reports_are_in_the_usage(provider: str) -> None:
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for recording in recordings_of(provider):
        body = recording.exchange.body
        read, written = largest(body, READ), largest(body, WRITTEN)
        if read is None and written is None:
            continue
        try:
            usage = recording.read(body).usage
        except TrunklineError:
            continue
        if usage is None:
            wrong.append(f"{recording.exchange.id}: no usage")
            continue
        for name, expected, found in (
            ("read", read, usage.cache_read_tokens),
            ("written", written, usage.cache_write_tokens),
        ):
            if expected is None:
                continue
            counts[name] += 1
            counts[f"{name}, more than 0"] += expected > 0
            if found != expected:
                wrong.append(f"{recording.exchange.id}: {name} {expected}, in the usage {found}")
    assert not wrong, "\n".join(wrong[:20])
    assert_counts(f"caching/{provider}", responses=counts)
