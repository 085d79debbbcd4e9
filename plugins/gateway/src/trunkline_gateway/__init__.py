"""A gateway with a console: every configured service for OpenAI and Anthropic clients.

`trunkline serve` runs it. `Gateway` is the same as an ASGI application, to mount in an application of your own.
"""

from __future__ import annotations

from trunkline_gateway.gateway import Gateway
from trunkline_gateway.settings import GatewaySettings

__version__ = "0.1.0"

__all__ = ["Gateway", "GatewaySettings", "__version__"]
