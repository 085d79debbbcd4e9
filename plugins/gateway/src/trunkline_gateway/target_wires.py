"""Which wire format a service is asked in.

It is read from what the provider itself would send: its translator, which does no I/O, translates a tiny request for
the model. So a provider that chooses a format by a setting or by the model needs no entry here, and neither does one of
another distribution.
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from trunkline import ChatRequest, ProviderService, ServiceContext, TrunklineError, user

from trunkline_gateway.installed import find_provider
from trunkline_gateway.targets import Wire

_ENDPOINTS: dict[str, Wire] = {
    "/chat/completions": "openai-chat",
    "/responses": "openai-responses",
    "/messages": "anthropic-messages",
}
"""The end of the path to which a request in each format is sent."""

_VERSION_FIELD = "anthropic_version"
"""The field of the body by which clouds that host Anthropic's models know its format, at paths of other forms."""


def wire_of(service: ProviderService, model: str | None) -> Wire | None:
    """Return the format that the requests for a model have, or `None` if it is not one of the gateway's."""
    chosen = model or service.settings.default_model
    provider = find_provider(service.provider)
    if chosen is None or provider is None:
        return None
    context = ServiceContext(name=service.name, provider=provider.name, settings=service.settings)
    request = ChatRequest(messages=user("ok"), model=chosen, max_output_tokens=16)
    try:
        sent = provider.translator(context).translate(request, stream=False).wire_request
    except TrunklineError:  # a call for this model will say why
        return None
    path = urlsplit(sent.url).path
    for end, wire in _ENDPOINTS.items():
        if path.endswith(end):
            return wire
    return "anthropic-messages" if _has_version_field(sent.body) else None


def _has_version_field(body: bytes) -> bool:
    try:
        content = json.loads(body)
    except ValueError:
        return False
    return isinstance(content, dict) and _VERSION_FIELD in content
