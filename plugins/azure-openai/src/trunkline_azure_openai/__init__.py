"""Azure OpenAI and Azure AI Foundry: OpenAI's APIs and Claude, with Azure's URLs, credentials and content filters."""

from __future__ import annotations

import attrs
from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.provider import Auth, Operations, Provider, ServiceContext
from trunkline_anthropic import MessagesParts, messages_api
from trunkline_openai import ChatParts, ResponsesParts, chat_completions, chat_or_responses, responses

from trunkline_azure_openai.anthropic_settings import AzureAnthropicSettings, azure_anthropic_endpoint
from trunkline_azure_openai.credentials import TokenCredential, TokenProvider
from trunkline_azure_openai.profiles import profile_for
from trunkline_azure_openai.settings import AzureOpenAISettings, endpoint_url

__version__ = "0.1.0"

__all__ = [
    "AzureAnthropicSettings",
    "AzureOpenAISettings",
    "TokenCredential",
    "TokenProvider",
    "__version__",
    "azure_anthropic",
    "azure_openai",
]


def _auth(context: ServiceContext[AzureOpenAISettings]) -> Auth:
    if context.settings.api_key is not None:
        return HeaderAuth("api-key", context.settings.api_key)
    from trunkline_azure_openai.auth import TokenAuth

    return TokenAuth(context)


def _operations(context: ServiceContext[AzureOpenAISettings]) -> Operations:
    from trunkline_openai.batches import batch_operations
    from trunkline_openai.operations import chat_operations

    operations = chat_operations(profile_for(context.settings), endpoint_url)
    if context.settings.surface.kind == "inference":
        # On this surface, /models describes one deployment and lists none.
        return attrs.evolve(operations, list_models=None)
    # The path of the requests is that of learn.microsoft.com/azure/foundry/openai/how-to/batch (2026-11).
    return attrs.evolve(operations, batches=batch_operations("/chat/completions", endpoint_url))


def _load_chat() -> ChatParts:
    from trunkline_azure_openai.advice import advice
    from trunkline_azure_openai.parse import AzureParser
    from trunkline_azure_openai.translate import AzureTranslator

    return ChatParts(translator=AzureTranslator, parser=AzureParser, operations=_operations, advice=advice)


def _load_responses() -> ResponsesParts:
    from trunkline_azure_openai.advice import advice
    from trunkline_azure_openai.parse import AzureResponsesParser
    from trunkline_azure_openai.translate import AzureResponsesTranslator

    return ResponsesParts(translator=AzureResponsesTranslator, parser=AzureResponsesParser, advice=advice)


azure_openai: Provider = chat_or_responses(
    chat_completions(
        name="azure-openai",
        settings=AzureOpenAISettings,
        profile=profile_for,
        auth=_auth,
        url=endpoint_url,
        load=_load_chat,
    ),
    responses(
        name="azure-openai",
        settings=AzureOpenAISettings,
        profile=profile_for,
        auth=_auth,
        url=endpoint_url,
        load=_load_responses,
    ),
)
"""A resource of Azure: its deployments, on the classic surface, `/openai/v1` or `/models`."""


def _anthropic_auth(context: ServiceContext[AzureAnthropicSettings]) -> Auth:
    key = context.settings.api_key
    if key is not None:
        # Both headers, as the anthropic SDK 2.14 sends them (lib/foundry.py): the second is an older name.
        return HeaderAuth({"x-api-key": key, "api-key": key})
    from trunkline_azure_openai.auth import TokenAuth

    return TokenAuth(context)


def _load_anthropic() -> MessagesParts:
    from trunkline_azure_openai.anthropic import AzureMessagesParser, advice

    return MessagesParts(parser=AzureMessagesParser, advice=advice)


azure_anthropic: Provider = messages_api(
    name="azure-anthropic",
    settings=AzureAnthropicSettings,
    endpoint=azure_anthropic_endpoint,
    auth=_anthropic_auth,
    load=_load_anthropic,
)
"""Claude in Azure's Foundry: the Messages API of a resource, with a key or Entra ID."""
