"""Google Gemini, over its own generateContent API."""

from __future__ import annotations

from trunkline.authoring.auth import HeaderAuth, NoAuth
from trunkline.authoring.provider import Auth, Operations, Provider, ResponseParser, ServiceContext, Translator
from trunkline.messages import Audio, Document, Image

from trunkline_gemini.settings import GeminiSettings

__version__ = "0.1.0"

__all__ = ["GeminiSettings", "__version__", "gemini"]


def _auth(context: ServiceContext[GeminiSettings]) -> Auth:
    settings = context.settings
    # A gateway's own way to authenticate takes the key's place.
    if {name.lower() for name in settings.headers} & {"authorization", "x-goog-api-key"}:
        return NoAuth()
    return HeaderAuth("x-goog-api-key", settings.api_key.reveal())


def _translator(context: ServiceContext[GeminiSettings]) -> Translator:
    from trunkline_gemini.translate import GeminiTranslator
    from trunkline_gemini.urls import log_notes

    log_notes(context)
    return GeminiTranslator(context)


def _response_parser(context: ServiceContext[GeminiSettings]) -> ResponseParser:
    from trunkline_gemini.parse import GeminiParser

    return GeminiParser(context)


def _operations(context: ServiceContext[GeminiSettings]) -> Operations:
    from trunkline_gemini.operations import operations

    return operations


gemini = Provider(
    name="gemini",
    settings=GeminiSettings,
    auth=_auth,
    translator=_translator,
    response_parser=_response_parser,
    operations=_operations,
    bytes_only_media=(Image, Document, Audio),
)
"""Gemini's API: generateContent, embeddings, the count of tokens and the list of models."""
