"""Ollama for Trunkline, through Ollama's own chat API."""

from __future__ import annotations

from trunkline.authoring.auth import key_auth
from trunkline.authoring.provider import Auth, ProviderParts, ServiceContext, lazy_provider
from trunkline.messages import Image

from trunkline_ollama.settings import OllamaSettings

__version__ = "0.1.0"

__all__ = ["OllamaSettings", "__version__", "ollama"]


def _auth(context: ServiceContext[OllamaSettings]) -> Auth:
    settings = context.settings
    return key_auth(settings.api_key, "authorization", prefix="Bearer ", headers=settings.headers)


def _load() -> ProviderParts[OllamaSettings]:
    from trunkline_ollama.advice import advice
    from trunkline_ollama.operations import OPERATIONS
    from trunkline_ollama.parse import OllamaParser
    from trunkline_ollama.translate import OllamaTranslator

    return ProviderParts(
        auth=_auth,
        translator=OllamaTranslator,
        response_parser=OllamaParser,
        operations=lambda context: OPERATIONS,
        advice=advice,
    )


ollama = lazy_provider(name="ollama", settings=OllamaSettings, load=_load, bytes_only_media=(Image,))
"""The provider `ollama`: chat, embeddings and the list of models."""
