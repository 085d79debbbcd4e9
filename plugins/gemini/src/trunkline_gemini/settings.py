"""The settings of `gemini`."""

from __future__ import annotations

from typing import ClassVar

from trunkline.authoring.urls import redact_url
from trunkline.secrets import Secret
from trunkline.settings import Converted, Settings, setting, settings

from trunkline_gemini.urls import base_url

DEFAULT_URL = "https://generativelanguage.googleapis.com/v1beta"


def _convert_url(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a URL, not {type(value).__name__}")
    base_url(value)
    return value.strip()


def _show_url(value: object) -> str:
    return repr(redact_url(value) if isinstance(value, str) else value)


@settings
class GeminiSettings(Settings):
    """How Gemini is reached."""

    provider: ClassVar[str] = "gemini"

    api_key: Converted[Secret, str] = setting(
        "API key", "A key of Google AI Studio.", environment=("GEMINI_API_KEY", "GOOGLE_API_KEY")
    )
    api_url: str = setting(
        "API URL",
        "The root of the API, with its version (`/v1beta`, `/v1`); without one, `/v1beta`.",
        default=DEFAULT_URL,
        convert=_convert_url,
        show=_show_url,
        schema={"type": "string", "format": "uri"},
    )
