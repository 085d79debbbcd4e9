"""OpenAI, and the servers that are compatible with its Chat Completions API."""

from __future__ import annotations

import attrs
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.provider import Auth, Provider, ProviderParts, ServiceContext, lazy_provider

from trunkline_openai.azure_key import AzureKey
from trunkline_openai.features import Feature
from trunkline_openai.from_openai import messages_from
from trunkline_openai.profile import BASIC_FEATURES, PROFILES, Profile, ProfileFor
from trunkline_openai.provider import ChatParts, bearer_auth, chat_completions, chat_or_responses
from trunkline_openai.settings import OpenAICompatibleSettings, OpenAISettings
from trunkline_openai.urls import HeadersFor, UrlFor, base_url, default_url, is_azure

__version__ = "0.1.0"

__all__ = [
    "BASIC_FEATURES",
    "ChatParts",
    "Feature",
    "HeadersFor",
    "OpenAICompatibleSettings",
    "OpenAISettings",
    "Profile",
    "ProfileFor",
    "UrlFor",
    "__version__",
    "bearer_auth",
    "chat_completions",
    "default_url",
    "messages_from",
    "openai",
    "openai_compatible",
]


def _load_responses() -> ProviderParts[OpenAISettings]:
    from trunkline_openai.advice import openai_advice
    from trunkline_openai.operations import chat_operations
    from trunkline_openai.rate_limits import RATE_LIMITS
    from trunkline_openai.responses_count_tokens import count_tokens
    from trunkline_openai.responses_parse import ResponsesParser
    from trunkline_openai.responses_translate import ResponsesTranslator

    operations = attrs.evolve(chat_operations(PROFILES["openai"], default_url), count_tokens=count_tokens)
    return ProviderParts(
        auth=bearer_auth,
        translator=ResponsesTranslator,
        response_parser=ResponsesParser,
        operations=lambda context: operations,
        advice=openai_advice,
        rate_limits=RATE_LIMITS,
    )


def _load_chat() -> ChatParts:
    from trunkline_openai.advice import openai_advice

    return ChatParts(advice=openai_advice)


openai: Provider = chat_or_responses(
    chat_completions(name="openai", settings=OpenAISettings, profile=PROFILES["openai"], load=_load_chat),
    lazy_provider(name="openai", settings=OpenAISettings, load=_load_responses),
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


openai_compatible: Provider = chat_completions(
    name="openai-compatible",
    settings=OpenAICompatibleSettings,
    profile=_profile,
    auth=_compatible_auth,
    load=_load_compatible,
)
"""Any server that speaks the Chat Completions API. The setting `profile` says how it differs from OpenAI."""
