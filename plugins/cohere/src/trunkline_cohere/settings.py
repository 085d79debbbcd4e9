"""The settings of `cohere`."""

from __future__ import annotations

from typing import ClassVar

from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.secrets import Secret
from trunkline.settings import Converted, KeySource, Settings, setting, settings, url_setting

from trunkline_cohere.model_facts import CohereFacts
from trunkline_cohere.urls import base_url

DEFAULT_URL = "https://api.cohere.com"


@settings
class CohereSettings(Settings):
    """Settings of the provider `cohere`."""

    provider: ClassVar[str] = "cohere"
    display_name: ClassVar[str] = "Cohere"
    model_examples: ClassVar[tuple[str, ...]] = ("command-a-03-2025",)

    api_key: Converted[Secret, KeySource] = setting(
        "API Key",
        "Trial or production key.",
        environment=("COHERE_API_KEY", "CO_API_KEY"),
        from_function=True,
        group="Authentication",
    )
    api_url: str = url_setting(
        "API URL",
        "Root URL of the API or of a private deployment, with or without `/v1` or `/v2`.",
        default=DEFAULT_URL,
        environment=("CO_API_URL",),
        base_url=base_url,
        advanced=True,
    )
    model_facts: ModelFactsSetting = model_facts_setting(CohereFacts)
