"""Vertex AI on Google Cloud, with Google's credentials."""

from __future__ import annotations

from trunkline.authoring.provider import Auth, ProviderParts, ServiceContext, lazy_provider
from trunkline.messages import Audio, Document, Image

from trunkline_vertex.settings import GoogleCloudSettings, VertexSettings

__version__ = "0.1.0"

__all__ = [
    "GoogleCloudSettings",
    "VertexSettings",
    "__version__",
    "vertex",
]


def _auth(context: ServiceContext[VertexSettings]) -> Auth:
    from trunkline_vertex.auth import google_auth

    return google_auth(context, api_key=context.settings.api_key)


def _load() -> ProviderParts[VertexSettings]:
    from trunkline_gemini.parse import GeminiParser

    from trunkline_vertex.advice import advice
    from trunkline_vertex.gemini import translator
    from trunkline_vertex.operations import OPERATIONS

    return ProviderParts(
        auth=_auth,
        translator=translator,
        response_parser=GeminiParser,
        operations=lambda context: OPERATIONS,
        advice=advice,
    )


vertex = lazy_provider(name="vertex", settings=VertexSettings, load=_load, bytes_only_media=(Image, Document, Audio))
"""The provider `vertex`: chat, embeddings, token counts and the list of models."""
