"""The routes of the console, mounted at `/console`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import BaseRoute

if TYPE_CHECKING:
    from trunkline_gateway.gateway import Gateway


def console_routes(gateway: Gateway) -> list[BaseRoute]:
    """Return the routes of the console."""
    return []
