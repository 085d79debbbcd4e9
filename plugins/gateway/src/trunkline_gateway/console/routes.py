"""The routes of the console, mounted at `/console`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router

from trunkline_gateway.console import about, call_pages, key_pages, playground, service_pages, sign_in, usage_pages
from trunkline_gateway.console.app import Console
from trunkline_gateway.database.sessions import Session

if TYPE_CHECKING:
    from trunkline_gateway.state import GatewayState


def console_routes(gateway: GatewayState) -> list[BaseRoute]:
    """Return the routes of the console.

    Mount them at a path: `Mount("/console", routes=console_routes(gateway))`. The gateway must be open when the first
    request comes.
    """
    console = Console(gateway)
    router = Router(
        [
            Route("/static/{name}", console.asset),
            console.page("/", _to_services),
            *sign_in.routes(console),
            *service_pages.routes(console),
            *playground.routes(console),
            *key_pages.routes(console),
            *usage_pages.routes(console),
            *call_pages.routes(console),
            *about.routes(console),
        ],
        redirect_slashes=False,
    )
    return [Mount("", app=console.app(router))]


async def _to_services(console: Console, request: Request, session: Session) -> Response:
    return console.redirect(request, "/services")
