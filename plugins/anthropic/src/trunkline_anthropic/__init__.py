"""Anthropic: the Messages API."""

from __future__ import annotations

from trunkline.authoring.auth import HeaderAuth, NoAuth
from trunkline.authoring.provider import Auth, Operations, Provider, ResponseParser, ServiceContext, Translator
from trunkline.authoring.urls import plain_http_note

from trunkline_anthropic.settings import AnthropicSettings
from trunkline_anthropic.urls import base_url

__version__ = "0.1.0"

__all__ = ["AnthropicSettings", "__version__", "anthropic"]


def _auth(context: ServiceContext[AnthropicSettings]) -> Auth:
    # The API refuses a request that has both headers, so one of the application's own takes the key's place.
    if any(name.lower() in ("x-api-key", "authorization") for name in context.settings.headers):
        return NoAuth()
    return HeaderAuth("x-api-key", context.settings.api_key.reveal())


def _log_notes(context: ServiceContext[AnthropicSettings]) -> None:
    base, notes = base_url(context.settings.api_url)
    plain = plain_http_note(base)
    if notes or plain:
        import logging

        for note in (*notes, *([plain] if plain else [])):
            logging.getLogger("trunkline.anthropic").warning("service %r: setting 'api_url': %s", context.name, note)


def _translator(context: ServiceContext[AnthropicSettings]) -> Translator:
    from trunkline_anthropic.translate import MessagesTranslator

    _log_notes(context)
    return MessagesTranslator(context)


def _response_parser(context: ServiceContext[AnthropicSettings]) -> ResponseParser:
    from trunkline_anthropic.parse import MessagesParser

    return MessagesParser(context)


def _operations(context: ServiceContext[AnthropicSettings]) -> Operations:
    from trunkline_anthropic.operations import OPERATIONS

    return OPERATIONS


anthropic = Provider(
    name="anthropic",
    settings=AnthropicSettings,
    auth=_auth,
    translator=_translator,
    response_parser=_response_parser,
    operations=_operations,
)
"""Anthropic's own API, and servers that speak its Messages API."""
