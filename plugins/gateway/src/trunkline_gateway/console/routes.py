"""The routes of the console, mounted at `/console`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router

from trunkline_gateway.console import about, call_pages, key_pages, playground, service_pages, sign_in, usage_pages
from trunkline_gateway.console.app import Console, Page
from trunkline_gateway.database.sessions import Session

if TYPE_CHECKING:
    from trunkline_gateway.state import GatewayState


def console_routes(gateway: GatewayState) -> list[BaseRoute]:
    """Return the routes of the console.

    Mount them at a path: `Mount("/console", routes=console_routes(gateway))`. The gateway must be open when the first
    request comes.
    """
    console = Console(gateway)

    async def home(console: Console, request: Request, session: Session) -> Response:
        return console.redirect(request, "/services")

    async def show_sign_in(request: Request) -> Response:
        return await sign_in.show_sign_in(console, request)

    async def submit_sign_in(request: Request) -> Response:
        return await sign_in.sign_in(console, request)

    async def start_oidc(request: Request) -> Response:
        return await sign_in.start_oidc(console, request)

    async def finish_oidc(request: Request) -> Response:
        return await sign_in.finish_oidc(console, request)

    first: Page = home
    router = Router(
        [
            Route("/static/{name}", console.asset),
            Route("/sign-in", show_sign_in),
            Route("/sign-in", submit_sign_in, methods=["POST"]),
            Route("/oidc/start", start_oidc),
            Route("/oidc/callback", finish_oidc),
            console.page("/sign-out", sign_in.sign_out, methods=("POST",)),
            console.page("/", first),
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
