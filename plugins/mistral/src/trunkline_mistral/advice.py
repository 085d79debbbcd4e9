"""What to do about errors of Mistral's API. Pure."""

from __future__ import annotations

from trunkline.authoring.advice import Advice, find_advice, unknown_model
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.urls import has_host
from trunkline.errors import AuthenticationError, QuotaExhausted, TrunklineError

from trunkline_mistral.settings import MistralSettings

_TABLE = (
    Advice(
        "make a new key at https://console.mistral.ai/api-keys; one that was just made works after some minutes",
        problem="key",
        kind=AuthenticationError,
    ),
    Advice("choose a plan or add a payment method at https://admin.mistral.ai", problem="quota", kind=QuotaExhausted),
    unknown_model("https://docs.mistral.ai/getting-started/models"),
)


def advice(context: ServiceContext[MistralSettings], error: TrunklineError) -> Advice | None:
    """Return what to do about an error, or `None`.

    Nothing is known about another server, such as a gateway, which has its own keys and limits.
    """
    return find_advice(error, _TABLE) if has_host(context.settings.api_url, "mistral.ai") else None
