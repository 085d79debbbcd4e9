"""The headers about rate limits that Cohere sends.

They are sent for trial keys, for a minute (recorded in July 2024 and January 2026). The headers about calls in a month
are in `raw` only. `x-ratelimit-reset` is read by Cohere's SDK (cohere-python, `core/http_client.py`).
"""

from __future__ import annotations

from trunkline.authoring.rate_limits import LimitHeaders, RateLimitHeaders

RATE_LIMITS = RateLimitHeaders(
    requests=(
        LimitHeaders(
            limit="x-trial-endpoint-call-limit", remaining="x-trial-endpoint-call-remaining", reset="x-ratelimit-reset"
        ),
    )
)
