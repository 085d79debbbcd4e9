"""What the model name of a request stands for: a service, and a model of it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs
from trunkline_prices import PricesSettings

Wire: TypeAlias = Literal["openai-chat", "openai-responses", "anthropic-messages"]
"""A wire format that the gateway itself speaks."""


@attrs.frozen(kw_only=True)
class Target:
    """A service and one of its models, as a request names them."""

    name: str
    """The name as the client wrote it: an alias, `service/model`, or the name of a service."""
    service: str
    model: str | None
    """The model, or `None` for the service's `default_model`."""
    provider: str | None = None
    """The name of the service's provider, or `None` for a service that is composed of others."""
    wire: Wire | None = None
    """The wire format in which the service is asked, if the gateway speaks it too. Unknown fields then pass through."""
    prices: PricesSettings | None = None
    """The prices that the service's extension `prices` sets."""

    def provider_speaking(self, wire: Wire) -> str | None:
        """Return the provider if it is asked in this wire format, so that what only the format has passes through."""
        return self.provider if self.wire == wire else None
