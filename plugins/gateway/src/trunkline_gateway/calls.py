"""One call of a client, from its key to its settled usage, whatever the wire format.

    async with calls.admit(key, target, request, api="/v1/chat/completions") as call:
        call.response = await service.chat(request)

Entering the block counts the call in the key's limits and reserves what it may cost of the key's budget. Leaving it
settles both by what the call used, also if it failed, was cancelled or lost its client.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import anyio
import attrs
from trunkline import (
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    EmbedResponse,
    Service,
    Stream,
    StreamClosed,
    TrunklineError,
)
from trunkline.authoring.json import JSONObject

from trunkline_gateway.accounting import Accounting, Used
from trunkline_gateway.budgets import Amount, Reservation
from trunkline_gateway.keys import Key
from trunkline_gateway.limits import Grant
from trunkline_gateway.problems import GatewayError, Problem, invalid, problem_of
from trunkline_gateway.running import RunningCall
from trunkline_gateway.targets import Target
from trunkline_gateway.usage import CallRecord, Outcome

if TYPE_CHECKING:
    from trunkline_gateway.state import GatewayState

RequestT = TypeVar("RequestT", bound=ChatRequest | EmbedRequest)

logger = logging.getLogger("trunkline_gateway")

CONSOLE = "console"
"""The name under which the playground's calls are counted. They have no key."""

LONGEST_MODEL = 2000
"""The most characters of a model's name. Names are remembered and logged; the longest are those of Amazon."""

_OTHER_MODELS = ("models", "fallbacks")
"""The fields in which routers of models, which services may lead to, take further models than that of `model`."""

_MOST_OUTPUT = 10**9
"""The most output tokens that are reserved, more than any model writes. Clients may ask for any number, and larger ones
have no price."""

_SHUTTING_DOWN = Problem(kind="overloaded", status=503, message="the gateway is shutting down", retryable=True)


def new_request_id() -> str:
    """Make the id of a call: 32 hexadecimal digits."""
    return secrets.token_hex(16)


class Calls:
    """The calls of a gateway."""

    def __init__(self, gateway: GatewayState) -> None:
        self._gateway = gateway

    async def authenticate(self, secret: str | None) -> Key:
        """Return the key with this secret. Raises `GatewayError` (401), the same for every key that is not valid.

        A revoked or expired key is named as such, since only its owner has its secret.
        """
        if not secret:
            raise _unauthorized("no key: send it as 'Authorization: Bearer …' or 'x-api-key: …'")
        key = await self._gateway.keys.find(secret)
        if key is None:
            raise _unauthorized("the key is not one of this gateway's")
        if key.revoked_at is not None:
            raise _unauthorized("the key was revoked", code="key_revoked")
        expires_at = key.draft.expires_at
        if expires_at is not None and expires_at <= datetime.datetime.now(datetime.UTC):
            raise _unauthorized("the key has expired", code="key_expired")
        return key

    def find_target(self, key: Key | None, name: object) -> Target:
        """Return what a model name stands for. Raises `GatewayError` if there is no such model for this key (404)."""
        if not isinstance(name, str) or not name:
            message = "the request has no model" if name is None else "model must be a string that is not empty"
            raise invalid(message, param="model")
        if len(name) > LONGEST_MODEL:
            message = f"model has {len(name)} characters; at most {LONGEST_MODEL} are allowed"
            raise invalid(message, param="model")
        target = self._gateway.services.resolve(name)
        # `name` counts only if it is an alias: it is then neither the service nor `service/model`.
        if key is not None and not key.may_use(target.name, f"{target.service}/{target.model or ''}"):
            message = f"the key may not use the model {name!r}"
            raise GatewayError(Problem(kind="permission", status=403, message=message, code="model_not_allowed"))
        return target

    def check_models(self, key: Key, body: JSONObject) -> None:
        """Raise `GatewayError` (403) if a request names models in more places than the scopes of its key look at."""
        named = next((name for name in _OTHER_MODELS if key.draft.scopes and body.get(name)), None)
        if named is not None:
            message = f"the key may use certain models only, so the request cannot name others in {named!r}"
            raise GatewayError(
                Problem(kind="permission", status=403, message=message, code="model_not_allowed", param=named)
            )

    def admit(
        self,
        key: Key | None,
        target: Target,
        request: RequestT,
        *,
        api: str,
        request_id: str | None = None,
        on_grant: Callable[[Grant], None] | None = None,
        is_free: bool = False,
    ) -> AdmittedCall[RequestT]:
        """Return the context manager of a call. `key` is `None` for the console.

        `on_grant` gets the state of the key's limits, before the budget is asked. `is_free` says that the call uses no
        tokens: it counts only as a request.
        """
        call_id = request_id or new_request_id()
        return AdmittedCall(self._gateway, key, target, request, api, call_id, on_grant, is_free)


class AdmittedCall(Generic[RequestT]):
    """A call within its key's limits and budget. Entering raises `LimitExceeded`, `BudgetExceeded` or `GatewayError`.

    Whoever makes the call sets `stream`, or `response` when it has arrived.
    """

    def __init__(
        self,
        gateway: GatewayState,
        key: Key | None,
        target: Target,
        request: RequestT,
        api: str,
        request_id: str,
        on_grant: Callable[[Grant], None] | None,
        is_free: bool,
    ) -> None:
        self._gateway = gateway
        self._key = key
        self._is_free = is_free
        self.target = target
        self.request = request
        self.stream: Stream | None = None
        self.response: ChatResponse | EmbedResponse | None = None
        self.first_token_at: float | None = None
        self._grant: Grant | None = None
        self._on_grant = on_grant
        self.failure: BaseException | None = None
        """The error that ended a stream, if whoever makes the call has written it into the stream."""
        self.contents: tuple[str | None, str | None] = (None, None)
        """The JSON of the request and of the response, if contents are logged."""
        self._accounting = Accounting(request, target, gateway.services.providers_of)
        self._reservation: Reservation | None = None
        self._started_at = datetime.datetime.now(datetime.UTC)
        self.running = RunningCall(
            id=request_id,
            key_name=CONSOLE if key is None else key.draft.name,
            key_id=None if key is None else key.id,
            service=target.service,
            model=target.model or "",
            api=api,
        )

    @property
    def id(self) -> str:
        """The id of the call."""
        return self.running.id

    @property
    def ending(self) -> Problem:
        """What the client learns of a call that was cancelled. After a drain, another instance may take it."""
        if self._gateway.is_draining:
            return _SHUTTING_DOWN
        return Problem(kind="overloaded", status=503, message="an administrator of the gateway has ended the call")

    @property
    def input_estimate(self) -> int:
        """An estimate of the input's tokens."""
        return self._accounting.input_estimate

    def use_service(self) -> AbstractAsyncContextManager[Service]:
        """Hold the service open for this call, and count its requests that fail. See `Services.use`."""
        return self._gateway.services.use(self.target.service, self._accounting.attempts)

    async def __aenter__(self) -> Self:
        gateway, key = self._gateway, self._key
        if gateway.is_draining:
            raise GatewayError(_SHUTTING_DOWN)
        gateway.running.enter()
        try:
            if key is not None:
                await self._reserve(key)
        except BaseException:
            gateway.running.leave()
            raise
        gateway.running.start(self.running)
        return self

    async def _reserve(self, key: Key) -> None:
        gateway, draft = self._gateway, key.draft
        if self._is_free:  # also if no tokens are left
            draft = attrs.evolve(draft, tokens_per_minute=None, budget=None)
        has_rates = draft.requests_per_minute is not None or draft.tokens_per_minute is not None
        if not has_rates and draft.budget is None:
            return
        counts_tokens = draft.tokens_per_minute is not None or draft.budget is not None
        input_tokens = self.input_estimate if counts_tokens else 0
        tokens = input_tokens + (self._most_output() if counts_tokens else 0)
        if has_rates:
            self._grant = await gateway.limiter.acquire(
                str(key.id),
                tokens,
                requests_per_minute=draft.requests_per_minute,
                tokens_per_minute=draft.tokens_per_minute,
            )
            if self._on_grant is not None:
                self._on_grant(self._grant)
        if draft.budget is None:
            return
        try:
            needs_price = draft.budget.cost is not None
            self._reservation = await gateway.budgets.reserve(
                key,
                self._amount(input_tokens, tokens - input_tokens, needs_price),
                input_amount=self._amount(input_tokens, 0, needs_price),
                call=self._interrupted(input_tokens),
            )
        except BaseException:
            if self._grant is not None:
                with anyio.CancelScope(shield=True):
                    await gateway.limiter.settle(self._grant, 0)
            raise

    def _interrupted(self, input_tokens: int) -> CallRecord:
        """How the call is recorded if the gateway's process dies: how long it ran and what was answered is lost."""
        running = self.running
        return CallRecord(
            id=running.id,
            key_id=running.key_id,
            key_name=running.key_name,
            service=running.service,
            model=running.model,
            api=running.api,
            started_at=self._started_at,
            outcome="interrupted",
            status=500,
            seconds=0.0,
            input_tokens=input_tokens,
            estimated=True,
            cost=self._accounting.estimated_cost(input_tokens, 0),
            error="the gateway's process ended during the call; only its input was charged",
        )

    def _most_output(self) -> int:
        if isinstance(self.request, EmbedRequest):
            return 0
        wanted = self.request.max_output_tokens
        return min(self._gateway.settings.reserved_output_tokens if wanted is None else wanted, _MOST_OUTPUT)

    def _amount(self, input_tokens: int, output_tokens: int, needs_price: bool) -> Amount:
        cost = self._accounting.estimated_cost(input_tokens, output_tokens) if needs_price else 0
        if cost is None:
            self._gateway.services.check_usable(self.target.service)
            message = (
                f"the key has a budget in money, and the price of the model {self.target.name!r} is not known; "
                "set one with the service's extension 'prices', or give the key a budget in tokens"
            )
            raise GatewayError(Problem(kind="permission", status=403, message=message, code="price_unknown"))
        return Amount(tokens=input_tokens + output_tokens, cost=cost)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._gateway.running.end(self.running)
        try:
            # A client that hangs up cancels this task. Settling must not be lost by that.
            with anyio.CancelScope(shield=True):
                await self._settle(error)
        finally:
            self._gateway.running.leave()

    async def _settle(self, error: BaseException | None) -> None:
        error = error or self.failure
        is_whole = self.response is not None
        answered: ChatResponse | EmbedResponse | None = None
        try:
            answered = self.response if is_whole or self.stream is None else self.stream.partial
            used = Used() if self._is_free else self._accounting.used(answered, error, is_whole=is_whole)
        except Exception:  # a plugin's mistake must not keep what is reserved
            logger.exception("call %s: what it used is not known, so its input is charged", self.id)
            used = self._accounting.input_used()
        tokens = used.input_tokens + used.output_tokens
        # asyncio itself can cancel what a shield of anyio holds: each step follows also if the one before is cancelled.
        try:
            if self._grant is not None:
                await self._gateway.limiter.settle(self._grant, tokens)
        finally:
            try:
                if self._reservation is not None:
                    await self._gateway.budgets.settle(self._reservation, Amount(tokens=tokens, cost=used.cost or 0))
            finally:
                self._record(used, answered, error)

    def _record(self, used: Used, answered: ChatResponse | EmbedResponse | None, error: BaseException | None) -> None:
        running = self.running
        outcome: Outcome = "ok"
        problem: Problem | None = None
        if running.is_cancelled or isinstance(error, (StreamClosed, asyncio.CancelledError)):
            outcome = "cancelled"
        elif error is not None:
            outcome, problem = "error", problem_of(error)
        model = self.target.model or (answered.model if answered is not None else None) or ""
        record = CallRecord(
            id=running.id,
            key_id=running.key_id,
            key_name=running.key_name,
            service=running.service,
            model=model,
            api=running.api,
            started_at=self._started_at,
            outcome=outcome,
            status=499 if outcome == "cancelled" else 200 if problem is None else problem.status,
            seconds=time.monotonic() - running.started,
            first_token_seconds=None if self.first_token_at is None else self.first_token_at - running.started,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            estimated=used.estimated,
            cost=used.cost,
            error=None if problem is None else _explained(problem, error),
            request=self.contents[0],
            response=self.contents[1],
        )
        self._gateway.record(record)


def _unauthorized(message: str, *, code: str = "invalid_api_key") -> GatewayError:
    return GatewayError(Problem(kind="authentication", status=401, message=message, code=code))


def _explained(problem: Problem, error: BaseException | None) -> str:
    """Return what the log says of an error: more than the client sees. Errors of Trunkline have no secrets."""
    return str(error) if isinstance(error, TrunklineError) else problem.message
