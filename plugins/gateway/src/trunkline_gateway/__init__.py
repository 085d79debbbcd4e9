"""A gateway with a console: every configured service for OpenAI and Anthropic clients.

`trunkline serve` runs it. `Gateway` is the same as an ASGI application, to mount in an application of your own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trunkline_gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from trunkline_gateway.gateway import Gateway

__version__ = "0.1.0"

__all__ = ["Gateway", "GatewaySettings", "__version__"]


def __getattr__(name: str) -> object:
    # The commands import this package, and need the database and the web framework only when they run.
    if name == "Gateway":
        from trunkline_gateway.gateway import Gateway

        return Gateway
    raise AttributeError(f"module 'trunkline_gateway' has no attribute {name!r}")
