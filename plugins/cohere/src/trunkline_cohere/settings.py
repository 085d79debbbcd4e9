"""The settings of `cohere`."""

from __future__ import annotations

from typing import ClassVar

from trunkline.authoring.urls import redact_url
from trunkline.secrets import Secret
from trunkline.settings import Settings, setting, settings

from trunkline_cohere.urls import base_url

DEFAULT_URL = "https://api.cohere.com"


def _convert_url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a URL, not {type(value).__name__}")
    base_url(value)
    return value.strip()


def _show_url(value: object) -> str:
    return repr(redact_url(value) if isinstance(value, str) else value)


@settings
class CohereSettings(Settings):
    """How Cohere is reached."""

    provider: ClassVar[str] = "cohere"

    api_key: Secret = setting("API key", "A trial or production key.", environment=("COHERE_API_KEY", "CO_API_KEY"))
    api_url: str = setting(
        "API URL",
        "The root of the API, or of a private deployment of it; with or without `/v1` or `/v2`.",
        default=DEFAULT_URL,
        environment=("CO_API_URL",),
        convert=_convert_url,
        show=_show_url,
        schema={"type": "string", "format": "uri"},
    )
