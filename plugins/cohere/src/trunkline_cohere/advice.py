"""What to do about errors of Cohere's API. Pure."""

from __future__ import annotations

from trunkline.authoring.advice import Advice, find_advice, unknown_model
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.urls import has_host
from trunkline.errors import AuthenticationError, QuotaExhausted, RateLimited, TrunklineError

from trunkline_cohere.settings import CohereSettings

_TABLE = (
    Advice("make a new key at https://dashboard.cohere.com/api-keys", problem="key", kind=AuthenticationError),
    Advice(
        "make a production key at https://dashboard.cohere.com/api-keys: trial keys have a monthly limit",
        problem="quota",
        kind=QuotaExhausted,
    ),
    Advice(
        "trial keys allow few requests a minute: wait, or make a production key at https://dashboard.cohere.com/api-keys",
        problem="rate-limit",
        kind=RateLimited,
        message="trial",
    ),
    unknown_model("https://docs.cohere.com/docs/models"),
)


def advice(context: ServiceContext[CohereSettings], error: TrunklineError) -> Advice | None:
    """Return what to do about an error, or `None`.

    Nothing is known about another server, such as a gateway, which has its own keys and limits.
    """
    return find_advice(error, _TABLE) if has_host(context.settings.api_url, "cohere.com", "cohere.ai") else None
