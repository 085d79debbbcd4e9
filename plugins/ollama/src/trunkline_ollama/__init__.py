"""Ollama, over its own chat API."""

from __future__ import annotations

from trunkline.authoring.auth import HeaderAuth, NoAuth
from trunkline.authoring.provider import Auth, Operations, Provider, ResponseParser, ServiceContext, Translator
from trunkline.messages import Image

from trunkline_ollama.settings import OllamaSettings

__version__ = "0.1.0"

__all__ = ["OllamaSettings", "__version__", "ollama"]


def _auth(context: ServiceContext[OllamaSettings]) -> Auth:
    settings = context.settings
    # A gateway's own way to authenticate takes the key's place.
    if settings.api_key is None or any(name.lower() == "authorization" for name in settings.headers):
        return NoAuth()
    return HeaderAuth("authorization", settings.api_key.reveal(), prefix="Bearer ")


def _translator(context: ServiceContext[OllamaSettings]) -> Translator:
    from trunkline_ollama.translate import OllamaTranslator
    from trunkline_ollama.urls import log_notes

    log_notes(context)
    return OllamaTranslator(context)


def _response_parser(context: ServiceContext[OllamaSettings]) -> ResponseParser:
    from trunkline_ollama.parse import OllamaParser

    return OllamaParser(context)


def _operations(context: ServiceContext[OllamaSettings]) -> Operations:
    from trunkline_ollama.operations import operations

    return operations


ollama = Provider(
    name="ollama",
    settings=OllamaSettings,
    auth=_auth,
    translator=_translator,
    response_parser=_response_parser,
    operations=_operations,
    bytes_only_media=(Image,),
)
"""Ollama's native API: chat, embeddings and the list of models."""
