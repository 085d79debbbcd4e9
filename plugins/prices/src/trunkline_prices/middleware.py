"""The middleware and the observer of the extension: costs of the calls of a service, and budgets."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import anyio
import anyio.to_thread
import attrs
from anyio.lowlevel import RunVar
from trunkline import (
    Call,
    CallError,
    CallWarning,
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    EmbedResponse,
    Event,
    Finished,
    Middleware,
    Observer,
    ServiceContext,
    Settings,
    TrunklineError,
    Usage,
)
from trunkline.authoring.middleware import ChatProceed, RunProceed, StreamProceed
from trunkline.authoring.token_estimates import estimate_request, estimate_tokens
from trunkline.fold import Fold

from trunkline_prices.ledger import Ledger, Reservation, utc_now
from trunkline_prices.price_list import (
    Entry,
    PriceOptions,
    Unpriced,
    calculate,
    cost_of,
    find_entry,
    is_loaded,
    is_plausible,
    load,
)
from trunkline_prices.refusals import was_refused
from trunkline_prices.settings import PricesSettings, price_options
from trunkline_prices.stored import KEY, cost_to_json, with_cost
from trunkline_prices.usage_units import requested_conditions
from trunkline_prices.values import Charge, Cost, UnknownPrice

STATE = "trunkline-prices.cost"
"""The key of `Call.state` under which other extensions find the `Cost` of a call."""
_REFUSED = "trunkline-prices.refused"
"""The key of `Call.state` for how many requests of a call were sent before the provider refused the last one."""

_UNPRICED = frozenset({"submit_batch", "rerank", "transcribe", "generate_speech", "generate_images"})
"""The operations that cost money and whose prices the price list does not have. OpenAI moderates free of charge."""

_log = logging.getLogger("trunkline")
_loading: RunVar[anyio.Lock] = RunVar("trunkline-prices-loading")


async def ensure_loaded() -> None:
    """Import the price list in a worker thread, once for all calls that wait for it in an event loop."""
    if is_loaded():
        return
    try:
        lock = _loading.get()
    except LookupError:
        lock = anyio.Lock()
        _loading.set(lock)
    async with lock:
        if not is_loaded():
            await anyio.to_thread.run_sync(load, abandon_on_cancel=True)


def _label(call: Call) -> str | None:
    label = call.state.get("label")
    if label is None or isinstance(label, str):
        return label
    # A call that is not counted for its label would evade the label's budget.
    raise CallError(
        f"the label of a call, state['label'], is a str, not {type(label).__name__}", service=call.context.name
    )


def options_of(settings: PricesSettings, context: ServiceContext[Settings]) -> PriceOptions:
    """Return where the prices of a service come from."""
    url = getattr(context.settings, "api_url", None)
    return price_options(settings, url if isinstance(url, str) else None)


def _cost(
    response: ChatResponse | EmbedResponse, request: object, context: ServiceContext[Settings], options: PriceOptions
) -> Cost:
    model = request.model if isinstance(request, (ChatRequest, EmbedRequest)) else None
    return cost_of(
        response,
        requested=model or context.settings.default_model,
        provider=context.provider,
        date=utc_now(),
        batch=False,
        options=options,
    )


class PricesObserver(Observer):
    """Puts the cost of each call into its state."""

    def __init__(self, options: PriceOptions, context: ServiceContext[Settings]) -> None:
        self._options = options
        self._context = context
        self._requests: dict[Call, object] = {}

    def started(self, call: Call, context: ServiceContext[Settings], operation: str, request: object) -> None:
        self._requests[call] = request
        call.state.pop(STATE, None)  # of an earlier call to the provider, which a middleware made

    def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
        if was_refused(error):
            call.state[_REFUSED] = call.requests

    def finished(self, call: Call, response: object) -> None:
        request = self._requests.pop(call, None)
        if isinstance(response, (ChatResponse, EmbedResponse)) and is_loaded():  # the middleware has loaded it
            call.state[STATE] = _cost(response, request, self._context, self._options)

    def failed(self, call: Call, error: BaseException) -> None:
        self._requests.pop(call, None)

    def abandoned(self, call: Call, partial: ChatResponse) -> None:
        self.finished(call, partial)  # its cost is unknown, with a lower bound


class PricesMiddleware(Middleware):
    def __init__(self, settings: PricesSettings, ledger: Ledger, context: ServiceContext[Settings]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._context = context
        self._options = options_of(settings, context)

    async def chat(self, call: Call, request: ChatRequest, proceed: ChatProceed) -> ChatResponse:
        account = await self._open(call, request)
        try:
            response = await proceed(request)
        except BaseException as error:
            account.failed(error)
            raise
        cost = account.finished(response)
        return with_cost(attrs.evolve(response, warnings=(*response.warnings, *account.warnings)), cost)

    @asynccontextmanager
    async def stream(
        self, call: Call, request: ChatRequest, proceed: StreamProceed
    ) -> AsyncGenerator[AsyncIterator[Event]]:
        account = await self._open(call, request)
        fold = Fold(call.context.provider, call.context.name)
        try:
            async with proceed(request) as events:
                yield _PricedEvents(events, fold, account)
        except BaseException as error:
            account.failed(error, fold.response())
            raise
        if not account.is_charged:  # the application left early
            account.left(fold.response())

    async def run(self, call: Call, operation: str, value: object, proceed: RunProceed) -> object:
        if operation in _UNPRICED:
            return await self._run_unpriced(call, operation, value, proceed)
        if not isinstance(value, EmbedRequest):
            return await proceed(value)
        account = await self._open(call, value)
        try:
            result = await proceed(value)
        except BaseException as error:
            account.failed(error)
            raise
        if isinstance(result, EmbedResponse):
            account.finished(result)
            return attrs.evolve(result, warnings=(*result.warnings, *account.warnings))
        account.left()
        return result

    async def _run_unpriced(self, call: Call, operation: str, value: object, proceed: RunProceed) -> object:
        """Make a call whose price is unknown, unless there is a budget that it might exceed."""
        label, service = _label(call), call.context.name
        if not self._ledger.has_limit(label):
            return await proceed(value)
        problem = f"the extension has no prices for {operation}"
        if self._settings.unknown_prices == "refuse":
            raise UnknownPrice(
                f"there is a budget, and {problem}: call a service without a budget, or set unknown_prices to 'allow'",
                service=service,
                cost=Cost(reason="operation", problem=problem),
            )
        result = await proceed(value)
        self._ledger.settle(self._ledger.reserve(label, Decimal(), service=service), Decimal(), is_unpriced=True)
        return result

    async def _open(self, call: Call, request: ChatRequest | EmbedRequest) -> _Account:
        """Reserve what a call may cost. Raises `BudgetExceeded` or `UnknownPrice`."""
        label = _label(call)
        await ensure_loaded()
        inputs = estimate_request(request)
        outputs = 0
        if isinstance(request, ChatRequest):
            limit = self._context.settings.output_token_limit
            outputs = request.max_output_tokens or (limit if isinstance(limit, int) else 0)
            outputs = outputs or self._settings.budget_output_tokens
        entry, problem = self._entry(request, inputs, outputs)
        amount = Decimal() if entry is None else _estimate(entry, inputs, outputs, _asks_for_an_hour(request))
        warnings: tuple[CallWarning, ...] = ()
        service = call.context.name
        if entry is None and self._ledger.has_limit(label):
            assert problem is not None
            if self._settings.unknown_prices == "refuse":
                raise UnknownPrice(
                    f"there is a budget, and the price of this call is unknown: {problem.problem}; or set "
                    "unknown_prices to 'allow'",
                    service=service,
                    cost=problem,
                )
            warnings = (
                CallWarning(
                    kind="other",
                    subject="prices",
                    message=f"not charged to the budget, because the price is unknown: {problem.problem}",
                    lossy=False,
                ),
            )
        reservation = self._ledger.reserve(label, amount, service=service)
        return _Account(self, call, request, label, entry, inputs, outputs, reservation, warnings)

    def _entry(
        self, request: ChatRequest | EmbedRequest, inputs: int, outputs: int
    ) -> tuple[Entry | None, Cost | None]:
        """Return the prices of a request, or why they are unknown."""
        model = request.model or self._context.settings.default_model
        if model is None:  # the provider refuses the call
            return None, Cost(reason="model", problem="the request names no model")
        wanted, problem = requested_conditions(request), Cost()
        for selected in (wanted, {}) if wanted else ({},):  # the provider may answer in the standard tier
            try:
                entry = find_entry(
                    model, self._context.provider, self._options, requested=model, date=utc_now(), selected=selected
                )
                _estimate(entry, inputs, outputs)
            except Unpriced as error:
                problem = Cost(model=model, reason=error.reason, problem=error.problem)
            else:
                return entry, None
        return None, problem

    def cost(self, response: ChatResponse | EmbedResponse, request: ChatRequest | EmbedRequest) -> Cost:
        return _cost(response, request, self._context, self._options)

    def charge(
        self,
        account: _Account,
        amount: Decimal,
        *,
        usage: Usage,
        model: str | None,
        is_estimate: bool,
        cost: Cost | None,
        is_unpriced: bool = False,
    ) -> None:
        """Settle the reservation of a call."""
        states = self._ledger.settle(account.reservation, amount, is_estimate=is_estimate, is_unpriced=is_unpriced)
        on_charge = self._ledger.on_charge
        if on_charge is None:
            return
        charge = Charge(
            service=account.call.context.name,
            label=account.label,
            model=model or account.request.model or self._context.settings.default_model,
            usage=usage,
            amount=amount,
            is_estimate=is_estimate,
            cost=cost,
            spent=states,
        )
        try:
            on_charge(charge)
        except Exception as error:  # the call was made, and its response is worth more than the report
            _log.error("on_charge of the extension 'prices' failed: %s", type(error).__name__)


def _estimate(entry: Entry, inputs: int, outputs: int, for_an_hour: bool = False) -> Decimal:
    """Return what tokens may cost at most: none are read from a cache, and all may be written to one."""
    counts: dict[str, int | float] = {"input_tokens": inputs, **({"output_tokens": outputs} if outputs else {})}
    amounts = [_total(entry, counts)]
    if entry.has("cache_write_mtok"):
        amounts.append(_total(entry, {**counts, "cache_write_tokens": inputs}))
    if for_an_hour and entry.has("cache_write_1h_mtok"):
        amounts.append(_total(entry, {**counts, "cache_write_tokens": inputs, "cache_write_1h_tokens": inputs}))
    return max(amounts)


def _asks_for_an_hour(request: ChatRequest | EmbedRequest) -> bool:
    """Whether a request asks the provider to cache a part of it for an hour, which may cost more."""
    if isinstance(request, EmbedRequest):
        return False
    parts = [part for message in request.messages for part in message.parts]
    return "1h" in (request.cache, *(getattr(one, "cache", None) for one in (*request.tools, *parts)))


def _total(entry: Entry, counts: dict[str, int | float]) -> Decimal:
    return sum((part.amount for part in calculate(entry, counts)), Decimal())


@attrs.define(eq=False)
class _Account:
    """One call that was reserved for, until it is charged."""

    middleware: PricesMiddleware
    call: Call
    request: ChatRequest | EmbedRequest
    label: str | None
    entry: Entry | None
    inputs: int
    outputs: int
    reservation: Reservation
    warnings: tuple[CallWarning, ...]
    is_charged: bool = False
    requests_before: int = attrs.field(default=attrs.Factory(lambda self: self.call.requests, True), init=False)

    def finished(self, response: ChatResponse | EmbedResponse) -> Cost:
        """Charge the cost of a response, or an estimate if it is unknown."""
        cost = self.middleware.cost(response, self.request)
        usage = self._usage(response)
        if cost.total is not None:
            self._charge(cost.total, usage, cost=cost, model=response.model)
        elif self.entry is None:
            self._charge(Decimal(), usage, cost=cost, model=response.model, is_unpriced=True)
        else:
            amount = self._of_partial(response) if isinstance(response, ChatResponse) else self.reservation.amount
            self._charge(amount, usage, cost=cost, model=response.model, is_estimate=True)
        return cost

    def failed(self, error: BaseException, partial: ChatResponse | None = None) -> None:
        """Charge a call that failed or was cancelled: an estimate, unless it was not sent or was refused."""
        has_arrived = partial is not None and (partial.parts or partial.usage is not None)
        refused = self.call.state.get(_REFUSED)  # when the call waited to be sent again
        was_sent = self.call.requests > max(self.requests_before, refused if isinstance(refused, int) else 0)
        if not has_arrived and (not was_sent or was_refused(error)):
            self._charge(Decimal(), Usage(input_tokens=0, output_tokens=0, total_tokens=0))
        else:
            self.left(partial)

    def left(self, partial: ChatResponse | None = None) -> None:
        """Charge an estimate for a call of which no whole response arrived: what was reserved, or less for a stream."""
        if partial is None:
            amount, usage, model = self.reservation.amount, _with_estimates(None, self.inputs, self.outputs), None
        else:
            amount, usage, model = self._of_partial(partial), self._usage(partial, at_least=True), partial.model
        self._charge(amount, usage, model=model, is_estimate=True, is_unpriced=self.entry is None)

    def _usage(self, response: ChatResponse | EmbedResponse, *, at_least: bool = False) -> Usage:
        """Return the counts of a response, with estimates of those that were not reported.

        `at_least` says that the count of the output may be too small, because the response broke off.
        """
        is_reported = response.usage is not None and _plausible(response.usage.output_tokens) is not None
        outputs = 0
        if isinstance(response, ChatResponse) and response.parts and (at_least or not is_reported):
            outputs = estimate_tokens(response.message)
        return _with_estimates(response.usage, self.inputs, outputs, at_least=at_least)

    def _of_partial(self, response: ChatResponse) -> Decimal:
        """Return an estimate of what a response costs that broke off, or whose cost is unknown.

        It takes the larger of the output that the provider reported and of what was estimated from the texts.
        """
        if self.entry is None:
            return Decimal()
        usage = self._usage(response, at_least=True)
        return _estimate(self.entry, usage.input_tokens or 0, usage.output_tokens or 0)

    def _charge(
        self,
        amount: Decimal,
        usage: Usage,
        *,
        model: str | None = None,
        is_estimate: bool = False,
        is_unpriced: bool = False,
        cost: Cost | None = None,
    ) -> None:
        if not self.is_charged:
            self.is_charged = True
            self.middleware.charge(
                self, amount, usage=usage, model=model, is_estimate=is_estimate, is_unpriced=is_unpriced, cost=cost
            )


def _plausible(count: int | None) -> int | None:
    return count if count is not None and is_plausible(count) else None


def _with_estimates(usage: Usage | None, inputs: int, outputs: int, *, at_least: bool = False) -> Usage:
    """Return counts, with estimates of those that were not reported."""
    usage = usage or Usage()
    counted_inputs = _plausible(usage.input_tokens) or inputs
    reported = _plausible(usage.output_tokens)
    counted_outputs = outputs if reported is None else reported
    if at_least:
        counted_outputs = max(counted_outputs, outputs)
    return attrs.evolve(
        usage,
        input_tokens=counted_inputs,
        output_tokens=counted_outputs,
        total_tokens=counted_inputs + counted_outputs if at_least or usage.total_tokens is None else usage.total_tokens,
    )


class _PricedEvents:
    """The events of a stream. Charges the call when the last one has arrived, and adds the cost to it."""

    def __init__(self, events: AsyncIterator[Event], fold: Fold, account: _Account) -> None:
        self._events = events
        self._fold = fold
        self._account = account

    def __aiter__(self) -> _PricedEvents:
        return self

    async def __anext__(self) -> Event:
        event = await self._events.__anext__()
        self._fold.add(event)
        if not isinstance(event, Finished):
            return event
        cost = self._account.finished(self._fold.response())
        return attrs.evolve(
            event,
            warnings=(*event.warnings, *self._account.warnings),
            provider_metadata={**event.provider_metadata, KEY: cost_to_json(cost)},
        )
