"""What the endpoints of the API have in common: they authenticate, make a call, and answer in the client's form."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from starlette.types import Receive, Scope, Send
from trunkline import ConfigurationError, PluginError, StreamClosed, until_disconnect
from trunkline.authoring.json import JSONObject

from trunkline_gateway.api.exchange import ClientGone, Exchange
from trunkline_gateway.calls import AdmittedCall, Calls, RequestT, new_request_id
from trunkline_gateway.database.connecting import DatabaseError
from trunkline_gateway.keys import Key
from trunkline_gateway.limits import LimitExceeded
from trunkline_gateway.problems import GatewayError, Problem, problem_of
from trunkline_gateway.targets import Target
from trunkline_gateway.tracing import make_trace
from trunkline_gateway.wires import Dialect

if TYPE_CHECKING:
    from trunkline_gateway.state import GatewayState

T = TypeVar("T")

_DATABASE_AWAY = Problem(
    kind="overloaded",
    status=503,
    message="The gateway's database cannot be reached at the moment. Try again later.",
    retryable=True,
)

logger = logging.getLogger("trunkline_gateway")


class Endpoint(ABC):
    """An ASGI application for one path of the API."""

    api: str
    dialect: Dialect

    def __init__(self, gateway: GatewayState) -> None:
        self.gateway = gateway
        self.calls = Calls(gateway)
        self._trace = make_trace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, request_id=new_request_id(), dialect=self.dialect_of(scope))
        try:
            key = await self.calls.authenticate(exchange.secret)
            with self._trace(exchange.method, self.api, exchange.headers, f"req_{exchange.request_id}"):
                await self.answer(exchange, key)
        except (ClientGone, StreamClosed):
            return  # nobody reads an answer
        except Exception as error:  # whatever it is, the client learns of it in the form of its API
            problem = problem_of(error)
            if isinstance(error, LimitExceeded):
                exchange.add_limits(error)
            if isinstance(error, ConfigurationError) and not isinstance(error, PluginError):
                logger.error("call %s failed: %s", exchange.request_id, error)
            elif isinstance(error, DatabaseError):
                problem = _DATABASE_AWAY
                logger.error("call %s was refused: %s", exchange.request_id, error)
            elif problem.kind == "internal":
                logger.exception("call %s failed", exchange.request_id)
            self.gateway.metrics.count_problem(self.api, problem)
            if exchange.has_started:
                raise
            await exchange.send_problem(problem)

    def dialect_of(self, scope: Scope) -> Dialect:
        """Return whose API the client calls. Only the list of models has one path for both."""
        return self.dialect

    @abstractmethod
    async def answer(self, exchange: Exchange, key: Key) -> None:
        """Answer a request. An error that is raised before the response has started is sent to the client."""


class CallEndpoint(Endpoint):
    """An endpoint that makes a call of a service from each request."""

    is_free = False
    """Whether its calls use no tokens."""

    async def admit(
        self, exchange: Exchange, key: Key, read: Callable[[JSONObject, Target], RequestT]
    ) -> tuple[JSONObject, AdmittedCall[RequestT]]:
        """Read a request, and return its body and its call, which is to be entered."""
        settings = self.gateway.settings
        body = await exchange.read_json(max_body=settings.max_body, timeout=settings.idle_timeout)
        target = self.calls.find_target(key, body.get("model"))
        self.calls.check_models(key, body)
        request = await exchange.in_thread_if_large(lambda: read(body, target))
        call = self.calls.admit(
            key,
            target,
            request,
            api=self.api,
            request_id=exchange.request_id,
            on_grant=exchange.add_limits,
            is_free=self.is_free,
        )
        return body, call

    async def ask(self, exchange: Exchange, call: AdmittedCall[RequestT], asked: Awaitable[T]) -> T:
        """Wait for the whole answer to a call.

        Raises `GatewayError` if the call was cancelled, and `StreamClosed` if the client has gone.
        """
        answer: T | None = None
        with call.running.scope:
            answer = await until_disconnect(asked, receive=exchange.receive)
        if answer is not None:
            return answer
        if call.running.is_cancelled:
            raise GatewayError(call.ending)
        raise StreamClosed("the client has disconnected", service=call.target.service)
