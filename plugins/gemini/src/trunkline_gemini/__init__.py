"""Google Gemini for Trunkline, through Gemini's own generateContent API."""

from __future__ import annotations

from trunkline.authoring.auth import key_auth
from trunkline.authoring.provider import Auth, ProviderParts, ServiceContext, lazy_provider
from trunkline.messages import Audio, Document, Image

from trunkline_gemini.settings import GeminiSettings

__version__ = "0.1.0"

__all__ = ["GeminiSettings", "__version__", "gemini"]


def _auth(context: ServiceContext[GeminiSettings]) -> Auth:
    return key_auth(context.settings.api_key, "x-goog-api-key", headers=context.settings.headers)


def _load() -> ProviderParts[GeminiSettings]:
    from trunkline_gemini.advice import advice
    from trunkline_gemini.operations import OPERATIONS
    from trunkline_gemini.parse import GeminiParser
    from trunkline_gemini.translate import GeminiTranslator

    return ProviderParts(
        auth=_auth,
        translator=GeminiTranslator,
        response_parser=GeminiParser,
        operations=lambda context: OPERATIONS,
        advice=advice,
    )


gemini = lazy_provider(name="gemini", settings=GeminiSettings, load=_load, bytes_only_media=(Image, Document, Audio))
"""The provider `gemini`: chat, embeddings, token counts and the list of models."""
