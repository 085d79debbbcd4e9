"""The headers about rate limits that OpenAI and compatible servers send."""

from __future__ import annotations

from trunkline.authoring.rate_limits import LimitHeaders, RateLimitHeaders


def _named(kind: str) -> LimitHeaders:
    prefix = "x-ratelimit"
    return LimitHeaders(
        limit=f"{prefix}-limit-{kind}", remaining=f"{prefix}-remaining-{kind}", reset=f"{prefix}-reset-{kind}"
    )


_PLAIN = LimitHeaders(limit="x-ratelimit-limit", remaining="x-ratelimit-remaining", reset="x-ratelimit-reset")

RATE_LIMITS = RateLimitHeaders(
    requests=(
        # OpenAI, https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers. Azure: resets in seconds
        # (recorded in August 2026). Groq: of a day, https://console.groq.com/docs/rate-limits. Also xAI, GitHub Models
        _named("requests"),
        # Mistral (recorded in August 2026)
        _named("req-minute"),
        # Hugging Face (recorded in December 2025)
        _named("requests-minute"),
        # Cerebras, https://inference-docs.cerebras.ai/support/rate-limits
        _named("requests-day"),
        # Together, https://docs.together.ai/docs/rate-limits, and OpenRouter (errors only, the reset as a timestamp in
        # milliseconds; recorded in August 2025)
        _PLAIN,
        # https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/ in versions up to 05
        LimitHeaders(limit="ratelimit-limit", remaining="ratelimit-remaining", reset="ratelimit-reset"),
    ),
    tokens=(
        _named("tokens"),
        _named("tokens-minute"),  # Cerebras, Mistral, Hugging Face
        LimitHeaders(
            limit="x-tokenlimit-limit", remaining="x-tokenlimit-remaining", reset="x-tokenlimit-reset"
        ),  # Together
    ),
    # Fireworks, https://docs.fireworks.ai/guides/quotas_usage/rate-limits
    input_tokens=(_named("tokens-prompt"),),
    output_tokens=(_named("tokens-generated"),),
)
"""All that the known servers send. Their names differ, so one table serves any of them, and a gateway before them."""
