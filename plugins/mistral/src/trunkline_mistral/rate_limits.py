"""The headers about rate limits that Mistral sends: for a minute, without a reset (recorded in August 2026).

Until 2025 there was another header for tokens, with the reset in seconds (recorded in January 2025). Limits for a month
are in `raw` only.
"""

from __future__ import annotations

from trunkline.authoring.rate_limits import LimitHeaders, RateLimitHeaders

RATE_LIMITS = RateLimitHeaders(
    requests=(LimitHeaders(limit="x-ratelimit-limit-req-minute", remaining="x-ratelimit-remaining-req-minute"),),
    tokens=(
        LimitHeaders(limit="x-ratelimit-limit-tokens-minute", remaining="x-ratelimit-remaining-tokens-minute"),
        LimitHeaders(
            limit="ratelimitbysize-limit", remaining="ratelimitbysize-remaining", reset="ratelimitbysize-reset"
        ),
    ),
)
