"""OpenAI, and the servers that are compatible with its Chat Completions API or its Responses API."""

from __future__ import annotations

from trunkline.authoring.auth import NoAuth
from trunkline.authoring.provider import Auth, Provider, ServiceContext

from trunkline_openai.azure_key import AzureKey
from trunkline_openai.features import Feature, ResponsesFeature
from trunkline_openai.from_openai import messages_from
from trunkline_openai.profile import BASIC_FEATURES, BASIC_RESPONSES_FEATURES, PROFILES, Profile, ProfileFor
from trunkline_openai.provider import (
    ChatParts,
    ResponsesParts,
    bearer_auth,
    chat_completions,
    chat_or_responses,
    responses,
)
from trunkline_openai.settings import OpenAICompatibleSettings, OpenAISettings
from trunkline_openai.urls import HeadersFor, UrlFor, base_url, default_url, is_azure

__version__ = "0.1.0"

__all__ = [
    "BASIC_FEATURES",
    "BASIC_RESPONSES_FEATURES",
    "ChatParts",
    "Feature",
    "HeadersFor",
    "OpenAICompatibleSettings",
    "OpenAISettings",
    "Profile",
    "ProfileFor",
    "ResponsesFeature",
    "ResponsesParts",
    "UrlFor",
    "__version__",
    "bearer_auth",
    "chat_completions",
    "chat_or_responses",
    "default_url",
    "messages_from",
    "openai",
    "openai_compatible",
    "responses",
]


def _load_responses() -> ResponsesParts:
    from trunkline_openai.advice import openai_advice
    from trunkline_openai.batches import batch_operations

    return ResponsesParts(advice=openai_advice, batches=batch_operations("/v1/responses"))


def _load_chat() -> ChatParts:
    from trunkline_openai.advice import openai_advice
    from trunkline_openai.batches import batch_operations

    return ChatParts(advice=openai_advice, batches=batch_operations("/v1/chat/completions"))


openai: Provider = chat_or_responses(
    chat_completions(name="openai", settings=OpenAISettings, profile=PROFILES["openai"], load=_load_chat),
    responses(name="openai", settings=OpenAISettings, profile=PROFILES["openai"], load=_load_responses),
)
"""OpenAI's own API: Chat Completions, or Responses with the setting `api`."""


def _profile(settings: OpenAICompatibleSettings) -> Profile:
    return settings.server


def _compatible_auth(context: ServiceContext[OpenAICompatibleSettings]) -> Auth:
    settings = context.settings
    if settings.api_key is None or not is_azure(base_url(settings.api_url)[0]):
        return bearer_auth(context)
    if any(name.lower() in ("api-key", "authorization") for name in settings.headers):
        return NoAuth()
    return AzureKey(settings.api_key)


def _load_compatible() -> ChatParts:
    from trunkline_openai.translate import CompatibleTranslator

    return ChatParts(translator=CompatibleTranslator)


def _load_compatible_responses() -> ResponsesParts:
    from trunkline_openai.responses_translate import CompatibleResponsesTranslator

    return ResponsesParts(translator=CompatibleResponsesTranslator)


openai_compatible: Provider = chat_or_responses(
    chat_completions(
        name="openai-compatible",
        settings=OpenAICompatibleSettings,
        profile=_profile,
        auth=_compatible_auth,
        load=_load_compatible,
    ),
    responses(
        name="openai-compatible",
        settings=OpenAICompatibleSettings,
        profile=_profile,
        auth=_compatible_auth,
        load=_load_compatible_responses,
    ),
)
"""Any server that speaks Chat Completions or Responses. The setting `profile` says how it differs from OpenAI."""
