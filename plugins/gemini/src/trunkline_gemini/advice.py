"""What to do about errors of the Gemini API. Pure."""

from __future__ import annotations

from trunkline.authoring.advice import Advice, find_advice, unknown_model
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.urls import has_host
from trunkline.errors import AuthenticationError, PermissionDenied, QuotaExhausted, TrunklineError

from trunkline_gemini.settings import GeminiSettings

_LOCATION = Advice(
    "use it from a supported country: https://ai.google.dev/gemini-api/docs/available-regions",
    problem="region",
    message="location is not supported",
)
_TABLE = (
    Advice(
        "make a new key at https://aistudio.google.com/apikey: this one was found in public and is blocked",
        problem="key",
        message="reported as leaked",
    ),
    Advice(
        "make a new key at https://aistudio.google.com/apikey: this one has expired",
        problem="key",
        message="API key expired",
    ),
    Advice("make a new key at https://aistudio.google.com/apikey", problem="key", kind=AuthenticationError),
    Advice("set api_key: the request had none", problem="key", message="unregistered callers|API key should be set"),
    Advice(
        "change the restrictions of the key in the Google Cloud console: they exclude this application",
        problem="permission",
        kind=PermissionDenied,
        message="blocked|referer|IP address restriction",
    ),
    Advice(
        "enable the Generative Language API for the project of the key, and wait some minutes",
        problem="permission",
        kind=PermissionDenied,
        message="has not been used in project|is disabled",
    ),
    _LOCATION,
    Advice(
        "enable billing for the project at https://aistudio.google.com/apikey: the free tier has a daily limit",
        problem="quota",
        kind=QuotaExhausted,
    ),
    unknown_model("https://ai.google.dev/gemini-api/docs/models"),
)


def advice(context: ServiceContext[GeminiSettings], error: TrunklineError) -> Advice | None:
    """Return what to do about an error, or `None`.

    Another server, such as a gateway, has its own keys and limits, and passes on what Google says about its location.
    """
    return find_advice(error, _TABLE if has_host(context.settings.api_url, "googleapis.com") else (_LOCATION,))
