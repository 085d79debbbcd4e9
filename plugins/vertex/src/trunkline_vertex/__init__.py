"""Vertex AI, and Claude as Anthropic manages it on Google Cloud, with Google's credentials."""

from __future__ import annotations

from collections.abc import Mapping

from trunkline.authoring.advice import Advice
from trunkline.authoring.provider import Auth, Operations, Provider, ProviderParts, ServiceContext
from trunkline.authoring.wire_formats import provider_with_formats
from trunkline.errors import TrunklineError
from trunkline.messages import Audio, Document, Image
from trunkline_anthropic import MessagesParts, messages_api

from trunkline_vertex.google_cloud_settings import AnthropicGoogleCloudSettings, anthropic_google_cloud_endpoint
from trunkline_vertex.settings import GoogleCloudSettings, VertexSettings
from trunkline_vertex.urls import format_of

__version__ = "0.1.0"

__all__ = [
    "AnthropicGoogleCloudSettings",
    "GoogleCloudSettings",
    "VertexSettings",
    "__version__",
    "anthropic_google_cloud",
    "vertex",
]


def _auth(context: ServiceContext[VertexSettings]) -> Auth:
    from trunkline_vertex.auth import google_auth

    return google_auth(context, api_key=context.settings.api_key)


def _format_of(context: ServiceContext[VertexSettings], model: str) -> str:
    return format_of(model)


def _load() -> Mapping[str, ProviderParts[VertexSettings]]:
    from trunkline_gemini.parse import GeminiParser

    from trunkline_vertex.claude import claude_parts
    from trunkline_vertex.gemini import translator
    from trunkline_vertex.operations import GEMINI
    from trunkline_vertex.responses import responses_parts

    gemini = ProviderParts(
        auth=_auth, translator=translator, response_parser=GeminiParser, operations=lambda context: GEMINI
    )
    return {"gemini": gemini, "messages": claude_parts(_auth), "responses": responses_parts(_auth)}


def _shared_operations(context: ServiceContext[VertexSettings]) -> Operations:
    from trunkline_vertex.operations import SHARED

    return SHARED


def _advice(context: ServiceContext[VertexSettings], error: TrunklineError) -> Advice | None:
    from trunkline_vertex.advice import advice

    return advice(context, error)


vertex: Provider = provider_with_formats(
    name="vertex",
    settings=VertexSettings,
    auth=_auth,
    format_of=_format_of,
    load=_load,
    shared_operations=_shared_operations,
    advice=_advice,
    bytes_only_media=(Image, Document, Audio),
)
"""Vertex AI: Gemini, Claude, and OpenAI's models, each with its own API."""


def _anthropic_auth(context: ServiceContext[AnthropicGoogleCloudSettings]) -> Auth:
    from trunkline_vertex.auth import google_auth

    return google_auth(context)


def _load_anthropic() -> MessagesParts:
    from trunkline_vertex.advice import anthropic_advice
    from trunkline_vertex.claude import VertexMessagesParser

    return MessagesParts(parser=VertexMessagesParser, advice=anthropic_advice)


anthropic_google_cloud: Provider = messages_api(
    name="anthropic-google-cloud",
    settings=AnthropicGoogleCloudSettings,
    endpoint=anthropic_google_cloud_endpoint,
    auth=_anthropic_auth,
    load=_load_anthropic,
)
"""The Claude models on Google Cloud that Anthropic manages."""
