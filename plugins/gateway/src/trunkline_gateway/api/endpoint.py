"""What all endpoints of the API do: authenticate, answer, and turn errors into the client's form."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send
from trunkline import ConfigurationError, PluginError, StreamClosed
from trunkline.authoring.json import JSONObject

from trunkline_gateway.api.exchange import ClientGone, Exchange
from trunkline_gateway.calls import Calls, new_request_id
from trunkline_gateway.keys import Key
from trunkline_gateway.limits import LimitExceeded
from trunkline_gateway.problems import Problem, problem_of
from trunkline_gateway.tracing import make_trace
from trunkline_gateway.wires import Dialect, messages

if TYPE_CHECKING:
    from trunkline_gateway.state import GatewayState

logger = logging.getLogger("trunkline_gateway")


class Endpoint(ABC):
    """An ASGI application for one path of the API."""

    api: str
    dialect: Dialect
    write_error: Callable[[Problem, str], JSONObject]

    def __init__(self, gateway: GatewayState) -> None:
        self.gateway = gateway
        self.calls = Calls(gateway)
        self._trace = make_trace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        dialect = self.dialect_of(scope)
        exchange = Exchange(scope, receive, send, request_id=new_request_id(), dialect=dialect)
        try:
            key = await self.calls.authenticate(exchange.secret)
            with self._trace(exchange.method, self.api, exchange.headers, f"req_{exchange.request_id}"):
                await self.answer(exchange, key)
        except (ClientGone, StreamClosed):
            return  # nobody reads an answer
        except Exception as error:
            problem = problem_of(error)
            if isinstance(error, LimitExceeded):
                exchange.add_limits(error)
            if isinstance(error, ConfigurationError) and not isinstance(error, PluginError):
                logger.error("call %s failed: %s", exchange.request_id, error)
            elif problem.kind == "internal":
                logger.exception("call %s failed", exchange.request_id)
            self.gateway.metrics.count_problem(self.api, problem)
            if exchange.has_started:
                raise
            is_other = dialect != self.dialect
            await exchange.send_problem(problem, messages.write_error if is_other else self.write_error)

    def dialect_of(self, scope: Scope) -> Dialect:
        """Return whose API the client calls. Only the list of models has one path for both."""
        return self.dialect

    @abstractmethod
    async def answer(self, exchange: Exchange, key: Key) -> None:
        """Answer a request. An error that is raised before the response has started is sent to the client."""

    async def read_json(self, exchange: Exchange) -> JSONObject:
        """Read the body."""
        settings = self.gateway.settings
        return await exchange.read_json(max_body=settings.max_body, timeout=settings.idle_timeout)
