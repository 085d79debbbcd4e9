"""Azure OpenAI and Azure AI Foundry: the Chat Completions and Responses dialects, reached Azure's way."""

from __future__ import annotations

import attrs
from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.provider import Auth, Operations, Provider, ResponseParser, ServiceContext, Translator
from trunkline_openai import chat_completions
from trunkline_openai.dialect import log_notes

from trunkline_azure_openai.profiles import profile_for
from trunkline_azure_openai.settings import (
    AzureOpenAISettings,
    TokenCredential,
    TokenProvider,
    endpoint_url,
    url_notes,
)

__version__ = "0.1.0"

__all__ = ["AzureOpenAISettings", "TokenCredential", "TokenProvider", "__version__", "azure_openai"]


def _auth(context: ServiceContext[AzureOpenAISettings]) -> Auth:
    if context.settings.api_key is not None:
        return HeaderAuth("api-key", context.settings.api_key.reveal())
    from trunkline_azure_openai.auth import TokenAuth

    return TokenAuth(context)


def _chat_translator() -> type:
    from trunkline_azure_openai.translate import AzureTranslator

    return AzureTranslator


def _chat_parser() -> type:
    from trunkline_azure_openai.parse import AzureParser

    return AzureParser


def _operations(context: ServiceContext[AzureOpenAISettings]) -> Operations:
    from trunkline_openai.operations import chat_operations

    # /models tells of one deployment, and lists none.
    return chat_operations(profile_for, endpoint_url, list_models=context.settings.surface.kind != "inference")


_chat = chat_completions(
    name="azure-openai",
    settings=AzureOpenAISettings,
    profile=profile_for,
    auth=_auth,
    url=endpoint_url,
    notes=url_notes,
    translator=_chat_translator,
    parser=_chat_parser,
    operations=_operations,
)


def _translator(context: ServiceContext[AzureOpenAISettings]) -> Translator:
    if context.settings.api == "chat":
        return _chat.translator(context)
    from trunkline_azure_openai.translate import AzureResponsesTranslator

    log_notes(context, url_notes)
    return AzureResponsesTranslator(context, url=endpoint_url)


def _response_parser(context: ServiceContext[AzureOpenAISettings]) -> ResponseParser:
    if context.settings.api == "chat":
        return _chat.response_parser(context)
    from trunkline_azure_openai.parse import AzureResponsesParser

    return AzureResponsesParser(context)


azure_openai: Provider = attrs.evolve(_chat, translator=_translator, response_parser=_response_parser)
"""A resource of Azure: its deployments, over the classic surface, `/openai/v1` or `/models`."""
