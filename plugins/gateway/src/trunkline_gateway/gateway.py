"""`Gateway`: the parts of a gateway, and its ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from http import HTTPStatus
from typing import Self

import anyio
import trunkline_prices
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from trunkline import ConfigurationError

from trunkline_gateway.api.exchange import ERROR_WRITERS
from trunkline_gateway.api.routes import api_routes
from trunkline_gateway.calls import new_request_id
from trunkline_gateway.console.admin_key import ensure_admin_key
from trunkline_gateway.console.routes import console_routes
from trunkline_gateway.database.budgets import BudgetStore
from trunkline_gateway.database.connecting import DatabaseError
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.keys import KeyStore
from trunkline_gateway.database.services import ServiceStore
from trunkline_gateway.database.sessions import SessionStore
from trunkline_gateway.database.usage import WRITE_SECONDS, UsageStore
from trunkline_gateway.embedded_model import add_embedded_model
from trunkline_gateway.encryption import EncryptionError, encryption_of
from trunkline_gateway.limits import LocalLimiter, RateLimiter
from trunkline_gateway.models import Models
from trunkline_gateway.operations import operation_routes
from trunkline_gateway.problems import Problem
from trunkline_gateway.redis_limits import RedisLimiter
from trunkline_gateway.services import Services
from trunkline_gateway.settings import GatewaySettings
from trunkline_gateway.state import GatewayState

logger = logging.getLogger("trunkline_gateway")

REVISION_INTERVAL = 1.0
"""The seconds after which a change by another instance is seen."""

HEARTBEAT_INTERVAL = 5.0
"""The seconds between heartbeats of an instance. Its reservations are settled by others when it has none for longer."""

SETTLING = 5
"""The seconds that calls get to settle their usage after they were ended."""


class Gateway(GatewayState):
    """A gateway: `async with Gateway(settings) as gateway: …`, with its ASGI application in `gateway.app`.

    To mount it in an application of your own, enter it in the lifespan of that application, and give
    `parent.mount("/llm", gateway.app)`. `app` can be mounted before the gateway is entered.
    """

    def __init__(self, settings: GatewaySettings | None = None) -> None:
        super().__init__(settings or GatewaySettings())
        self._stack = AsyncExitStack()
        self._revision = -1
        self.app = self._make_app()

    def _make_app(self) -> Starlette:
        async def to_console(request: Request) -> Response:
            return RedirectResponse(f"{request.scope.get('root_path', '')}/console/")

        app = Starlette(
            routes=[
                *api_routes(self),
                *operation_routes(self),
                Mount("/console", routes=console_routes(self), name="console"),
                Route("/", to_console),
                Route("/console", to_console),
            ],
            exception_handlers={HTTPException: _not_found},
            middleware=[Middleware(_WhenOpen, gateway=self)],
        )
        # A redirect of a call would lead clients behind a proxy that speaks TLS to an address without.
        app.router.redirect_slashes = False
        return app

    async def __aenter__(self) -> Self:
        if self.is_open or self.is_draining:
            raise RuntimeError("a gateway can be entered only once; make another one")
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        self.is_open = True
        return self

    async def _open(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        settings.make_data_dir()
        self.database = database = await Database.open(settings.database_url)
        stack.push_async_callback(database.aclose)
        self.sessions = SessionStore(database)
        self.keys = KeyStore(database)
        self.budgets = BudgetStore(database, instance=self.instance, record=self.record)
        stack.push_async_callback(self.budgets.flush)
        self.usage = UsageStore(database, log_days=settings.log_days)
        stack.push_async_callback(self.usage.flush)
        self.limiter = self._make_limiter()
        stack.push_async_callback(self.limiter.aclose)
        source = settings.services if settings.services is not None else ServiceStore(database, encryption_of(settings))
        self.services = Services(source, allowed_networks=settings.allowed_networks)
        stack.push_async_callback(self.services.aclose)
        await self.budgets.beat()
        await self.budgets.recover()
        # Before the services are read, so that `_watch` sees what another instance changes meanwhile.
        self._revision = await database.revision()
        await self.services.reload()
        await add_embedded_model(self.services, self.sessions)
        self.models = Models(self.services)
        self.new_admin_key = await ensure_admin_key(self.sessions, settings)
        tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        tasks.start_soon(self._write_usage)
        tasks.start_soon(self._watch)
        tasks.start_soon(self._beat)
        tasks.start_soon(self._load_prices)

    def _make_limiter(self) -> RateLimiter:
        if self.settings.redis is None:
            return LocalLimiter()
        return RedisLimiter(self.settings.redis, failure=self.settings.redis_failure)

    async def __aexit__(self, *exc_info: object) -> None:
        self.start_draining()
        self.running.close()
        try:
            # What they used is written before the database is closed.
            with anyio.move_on_after(SETTLING):
                await self.running.wait_settled()
        finally:
            try:
                await self._stack.aclose()
            finally:
                self.is_open = False

    async def _watch(self) -> None:
        """Read again what another instance, or the console, has changed."""
        while True:
            await anyio.sleep(REVISION_INTERVAL)
            with _logged("changes could not be read"):
                revision = await self.database.revision()
                if revision != self._revision:
                    await self.reload()
                    self._revision = revision

    async def _beat(self) -> None:
        while True:
            await anyio.sleep(HEARTBEAT_INTERVAL)
            with _logged("the heartbeat could not be written"):
                await self.budgets.beat()
                await self.budgets.recover()

    async def _write_usage(self) -> None:
        while True:
            with _logged("usage could not be written"):
                await self.usage.run()
            await anyio.sleep(WRITE_SECONDS)

    async def _load_prices(self) -> None:
        # The first call would stop the event loop for up to half a second.
        with _logged("the price list could not be read"):
            await anyio.to_thread.run_sync(trunkline_prices.load_prices)


@contextmanager
def _logged(failure: str) -> Iterator[None]:
    """Log an error instead of raising it. An error in one of the gateway's own tasks would end all calls."""
    try:
        yield
    except (DatabaseError, ConfigurationError, EncryptionError) as error:
        logger.warning("%s: %s", failure, error)
    except Exception:  # whatever it is, the calls go on
        logger.exception("%s", failure)


class _WhenOpen:
    """Refuses requests while the gateway is not entered: it then has no database."""

    def __init__(self, app: ASGIApp, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._gateway.is_open or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        message = "the gateway is not running; enter it in the lifespan of your application"
        problem = Problem(kind="overloaded", status=503, message=message, retryable=True)
        await _response_for(Request(scope), problem)(scope, receive, send)


def _not_found(request: Request, error: Exception) -> Response:
    """Answer a path or method that there is not, in the form of the client's SDK."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    message = f"there is no {request.method} {request.url.path[:500]}"
    if status == HTTPStatus.NOT_FOUND:
        problem = Problem(kind="not_found", status=status, message=message, code="not_found")
    else:
        problem = Problem(kind="invalid_request", status=status, message=message)
    return _response_for(request, problem, headers)


def _response_for(request: Request, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    is_anthropic = "anthropic-version" in request.headers or "/v1/messages" in request.url.path
    request_id = f"req_{new_request_id()}"
    every = {**(headers or {}), "x-request-id": request_id, "x-should-retry": str(problem.retryable).lower()}
    if is_anthropic:
        every["request-id"] = request_id
    write_error = ERROR_WRITERS["anthropic" if is_anthropic else "openai"]
    return JSONResponse(write_error(problem, request_id), status_code=problem.status, headers=every)
