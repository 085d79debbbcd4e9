"""The headers about rate limits that Anthropic sends.

Source: https://docs.anthropic.com/en/api/rate-limits#response-headers. A reset is the time at which the limit is full
again (RFC 3339). Azure, which serves the same API, sends the headers of its other models (recorded in November 2025).
"""

from __future__ import annotations

from trunkline.authoring.rate_limits import LimitHeaders, RateLimitHeaders


def _named(kind: str) -> LimitHeaders:
    prefix = f"anthropic-ratelimit-{kind}"
    return LimitHeaders(limit=f"{prefix}-limit", remaining=f"{prefix}-remaining", reset=f"{prefix}-reset")


def _of_azure(kind: str) -> LimitHeaders:
    return LimitHeaders(
        limit=f"x-ratelimit-limit-{kind}", remaining=f"x-ratelimit-remaining-{kind}", reset=f"x-ratelimit-reset-{kind}"
    )


RATE_LIMITS = RateLimitHeaders(
    requests=(_named("requests"), _of_azure("requests")),
    tokens=(_named("tokens"), _of_azure("tokens")),
    input_tokens=(_named("input-tokens"),),
    output_tokens=(_named("output-tokens"),),
)
