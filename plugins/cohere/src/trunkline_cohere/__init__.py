"""Cohere, over its own v2 chat API."""

from __future__ import annotations

from trunkline.authoring.auth import HeaderAuth, NoAuth
from trunkline.authoring.provider import Auth, Operations, Provider, ResponseParser, ServiceContext, Translator
from trunkline.messages import Document

from trunkline_cohere.settings import CohereSettings

__version__ = "0.1.0"

__all__ = ["CohereSettings", "__version__", "cohere"]


def _auth(context: ServiceContext[CohereSettings]) -> Auth:
    settings = context.settings
    if any(name.lower() == "authorization" for name in settings.headers):
        return NoAuth()
    return HeaderAuth("authorization", settings.api_key.reveal(), prefix="Bearer ")


def _translator(context: ServiceContext[CohereSettings]) -> Translator:
    from trunkline_cohere.translate import CohereTranslator
    from trunkline_cohere.urls import log_notes

    log_notes(context)
    return CohereTranslator(context)


def _response_parser(context: ServiceContext[CohereSettings]) -> ResponseParser:
    from trunkline_cohere.parse import CohereParser

    return CohereParser(context)


def _operations(context: ServiceContext[CohereSettings]) -> Operations:
    from trunkline_cohere.operations import operations

    return operations


cohere = Provider(
    name="cohere",
    settings=CohereSettings,
    auth=_auth,
    translator=_translator,
    response_parser=_response_parser,
    operations=_operations,
    needs_bytes=(Document,),
)
"""Cohere's v2 API: chat, embeddings and the list of models."""
