"""Cohere for Trunkline, through Cohere's own v2 chat API."""

from __future__ import annotations

from trunkline.authoring.auth import key_auth
from trunkline.authoring.provider import Auth, ProviderParts, ServiceContext, lazy_provider
from trunkline.messages import Document

from trunkline_cohere.settings import CohereSettings

__version__ = "0.1.0"

__all__ = ["CohereSettings", "__version__", "cohere"]


def _auth(context: ServiceContext[CohereSettings]) -> Auth:
    settings = context.settings
    return key_auth(settings.api_key, "authorization", prefix="Bearer ", headers=settings.headers)


def _load() -> ProviderParts[CohereSettings]:
    from trunkline_cohere.advice import advice
    from trunkline_cohere.operations import OPERATIONS
    from trunkline_cohere.parse import CohereParser
    from trunkline_cohere.rate_limits import RATE_LIMITS
    from trunkline_cohere.translate import CohereTranslator

    return ProviderParts(
        auth=_auth,
        translator=CohereTranslator,
        response_parser=CohereParser,
        operations=lambda context: OPERATIONS,
        advice=advice,
        rate_limits=RATE_LIMITS,
    )


cohere = lazy_provider(name="cohere", settings=CohereSettings, load=_load, bytes_only_media=(Document,))
"""The provider `cohere`: chat, embeddings and the list of models."""
