"""The settings of `gemini`."""

from __future__ import annotations

from typing import ClassVar

from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.secrets import Secret
from trunkline.settings import Converted, KeySource, Settings, setting, settings, url_setting

from trunkline_gemini.model_facts import GeminiFacts
from trunkline_gemini.urls import base_url

DEFAULT_URL = "https://generativelanguage.googleapis.com/v1beta"


@settings
class GeminiSettings(Settings):
    """Settings of the provider `gemini`."""

    provider: ClassVar[str] = "gemini"
    display_name: ClassVar[str] = "Google Gemini"
    model_examples: ClassVar[tuple[str, ...]] = (
        "gemini-2.5-pro",
        "gemini-2.5-flash",
    )

    api_key: Converted[Secret, KeySource] = setting(
        "API Key",
        "API key from Google AI Studio.",
        environment=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        from_function=True,
        group="Authentication",
    )
    api_url: str = url_setting(
        "API URL",
        "Root URL of the API with its version, such as `/v1beta` or `/v1`; `/v1beta` is added if the URL has no path.",
        default=DEFAULT_URL,
        base_url=base_url,
        advanced=True,
    )
    model_facts: ModelFactsSetting = model_facts_setting(GeminiFacts)
