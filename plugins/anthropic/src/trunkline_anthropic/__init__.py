"""Anthropic: the Messages API, and parts for other places that serve it."""

from __future__ import annotations

from trunkline.authoring.provider import Provider

from trunkline_anthropic.endpoint import EndpointFor, MessagesEndpoint, MessagesUrl, at_root
from trunkline_anthropic.model_facts import AnthropicFacts, facts_of
from trunkline_anthropic.provider import MessagesParts, api_key_auth, messages_api, messages_parts
from trunkline_anthropic.settings import AnthropicSettings, anthropic_endpoint

__version__ = "0.1.0"

__all__ = [
    "AnthropicFacts",
    "AnthropicSettings",
    "EndpointFor",
    "MessagesEndpoint",
    "MessagesParts",
    "MessagesUrl",
    "__version__",
    "anthropic",
    "api_key_auth",
    "at_root",
    "facts_of",
    "messages_api",
    "messages_parts",
]


def _load() -> MessagesParts:
    from trunkline_anthropic.advice import advice

    return MessagesParts(advice=advice)


anthropic: Provider = messages_api(
    name="anthropic", settings=AnthropicSettings, endpoint=anthropic_endpoint, load=_load
)
"""Anthropic's own API, and servers that speak its Messages API."""
