"""The endpoints for whoever runs the gateway: health, readiness and metrics."""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from trunkline_gateway.database.connecting import DatabaseError
from trunkline_gateway.limits import LimiterUnavailable

if TYPE_CHECKING:
    from trunkline_gateway.state import GatewayState

READY_LIMIT = 2.0
"""The seconds in which the database has to answer for the gateway to be ready."""


def operation_routes(gateway: GatewayState) -> list[BaseRoute]:
    """Return the routes."""

    async def healthz(request: Request) -> Response:
        """The process runs. It says no more, so that a database that is down does not restart every instance."""
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        """The gateway takes calls: it is not draining, and what they need can be reached."""
        problem = await _reason_not_ready(gateway)
        return JSONResponse({"status": problem or "ready"}, status_code=503 if problem else 200)

    async def metrics(request: Request) -> Response:
        if not _may_read_metrics(request, gateway):
            return PlainTextResponse("metrics need the bearer token of the setting metrics_token\n", status_code=401)
        return Response(gateway.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]


async def _reason_not_ready(gateway: GatewayState) -> str | None:
    if gateway.is_draining:
        return "draining"
    try:
        with anyio.fail_after(READY_LIMIT):
            await gateway.database.ping()
    except (DatabaseError, TimeoutError):
        return "the database cannot be reached"
    if gateway.settings.redis_failure == "closed":
        try:
            await gateway.limiter.check()
        except LimiterUnavailable:
            return "Redis cannot be reached"
    return None


def _may_read_metrics(request: Request, gateway: GatewayState) -> bool:
    token = gateway.settings.metrics_token
    if token is not None:
        given = request.headers.get("authorization", "").encode()
        return hmac.compare_digest(given, f"Bearer {token.reveal()}".encode())
    # Behind a proxy on the same machine every address is loopback, so a forwarded request needs the token.
    if request.client is None or "x-forwarded-for" in request.headers or "forwarded" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False
