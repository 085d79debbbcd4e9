"""The settings of `mistral`, and the features of its API."""

from __future__ import annotations

from typing import ClassVar

from trunkline.authoring.model_facts import ModelFactsSetting, model_facts_setting
from trunkline.secrets import Secret
from trunkline.settings import Converted, KeySource, Settings, setting, settings, url_setting
from trunkline_openai.model_facts import ModelFacts
from trunkline_openai.profile import Profile
from trunkline_openai.urls import base_url

from trunkline_mistral.model_facts import MODELS

PROFILE = Profile(
    name="mistral",
    answer_schemas="closed",
    user_id_field=None,
    # Without `tool_choice_none`: if tools are sent but forbidden, models answer with garbled tool calls.
    takes={
        "tools",
        "tool_choice_required",
        "tool_choice_named",
        "parallel_tool_calls",
        "strict_tools",
        "json_object",
        "json_schema",
        "reasoning_effort",
        "top_p",
        "top_k",
        "logprobs",
        "stop",
        "seed",
        "penalties",
        "metadata",
        "cache_key",
        "image_url",
        "image_data",
        "audio_data",
        "document_data",
        "document_file_id",
    },
    stop_limit=None,
    # Models with a tokenizer older than version 13 accept only such ids; newer models accept any.
    call_id_pattern=r"[A-Za-z0-9]{9}",
    call_id_length=9,
    reasoning_fields=(),
    reasoning_replay="thinking",
    null_content=False,
    models=MODELS,
)
"""Features according to Mistral's published specification (21 August 2026), and `top_k` and `logprobs` according to
mistralai 3.7.0. The API refuses any other field.
"""


@settings
class MistralSettings(Settings):
    """Settings of the provider `mistral`."""

    provider: ClassVar[str] = "mistral"
    display_name: ClassVar[str] = "Mistral"
    model_examples: ClassVar[tuple[str, ...]] = ("mistral-large-latest",)

    api_key: Converted[Secret, KeySource] = setting(
        "API Key",
        "API key of the workspace.",
        environment=("MISTRAL_API_KEY",),
        from_function=True,
        group="Authentication",
    )
    api_url: str = url_setting(
        "API URL",
        "Root URL of the API, with or without `/v1`.",
        default="https://api.mistral.ai",
        base_url=base_url,
        advanced=True,
    )
    model_facts: ModelFactsSetting = model_facts_setting(ModelFacts)
