"""Anthropic: the Messages API."""

from __future__ import annotations

from trunkline.authoring.auth import key_auth
from trunkline.authoring.provider import Auth, ProviderParts, ServiceContext, lazy_provider

from trunkline_anthropic.settings import AnthropicSettings

__version__ = "0.1.0"

__all__ = ["AnthropicSettings", "__version__", "anthropic"]


def _auth(context: ServiceContext[AnthropicSettings]) -> Auth:
    settings = context.settings
    return key_auth(settings.api_key, "x-api-key", headers=settings.headers)


def _load() -> ProviderParts[AnthropicSettings]:
    from trunkline_anthropic.advice import advice
    from trunkline_anthropic.operations import OPERATIONS
    from trunkline_anthropic.parse import MessagesParser
    from trunkline_anthropic.rate_limits import RATE_LIMITS
    from trunkline_anthropic.translate import MessagesTranslator

    return ProviderParts(
        auth=_auth,
        translator=MessagesTranslator,
        response_parser=MessagesParser,
        operations=lambda context: OPERATIONS,
        advice=advice,
        rate_limits=RATE_LIMITS,
    )


anthropic = lazy_provider(name="anthropic", settings=AnthropicSettings, load=_load)
"""Anthropic's own API, and servers that speak its Messages API."""
