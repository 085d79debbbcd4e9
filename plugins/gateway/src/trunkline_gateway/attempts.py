"""The requests of a call to providers: those that failed or were retried, and those that were answered.

The core reports them to observers. `ATTEMPTS` is an extension of every service of the gateway whose observer adds each
one to the `Attempts` of the gateway's call, which the call's options carry in their `state`.
"""

from __future__ import annotations

import attrs
from trunkline import (
    Call,
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    EmbedResponse,
    Observer,
    ServiceContext,
    Settings,
    TrunklineError,
    hookimpl,
)
from trunkline_prices import PricesSettings

from trunkline_gateway.pricing import is_free
from trunkline_gateway.targets import Target

STATE = "trunkline-gateway.attempts"
"""The key of a call's state."""

_COUNTED = frozenset({"chat", "stream", "embed"})
"""The operations that use tokens."""


@attrs.frozen(kw_only=True)
class FailedAttempt:
    """A request that the provider may have charged for, although it failed or was cancelled."""

    call: Call
    target: Target
    """The service with a provider, and the model."""
    partial: ChatResponse | None
    """What had arrived."""
    has_begun: bool
    """Whether the stream of its answer had begun."""


@attrs.frozen(kw_only=True)
class FinishedCall:
    """A request that the provider has answered. Its response may be lost on the way to the client."""

    target: Target
    response: ChatResponse | EmbedResponse


@attrs.define
class Attempts:
    """What is known of the requests of one call of the gateway."""

    failed: list[FailedAttempt] = attrs.field(factory=list)
    finished: list[FinishedCall] = attrs.field(factory=list)
    """Usually one; more if a middleware repeats the call."""
    answering: Call | None = None
    """The call to a provider whose stream has begun. No other one follows."""
    answering_target: Target | None = None
    """The service and model that answer: those of `answering`, or of the last request that has ended well."""
    _counted: dict[Call, int] = attrs.field(factory=dict)

    def before_answer(self) -> list[FailedAttempt]:
        """Return the failed requests without that of the stream that has begun, which may have failed later."""
        return [one for one in self.failed if one.call is not self.answering or not one.has_begun]

    def begin(self, call: Call) -> None:
        """Begin to count the requests of a call to a provider."""
        self._counted[call] = call.requests

    def fail(self, call: Call, target: Target, partial: ChatResponse | None, *, free: bool) -> None:
        """Add a request, unless none was sent since the last one that failed, or the provider refused it."""
        sent = call.requests > self._counted.get(call, 0)
        self._counted[call] = call.requests
        if sent and not free:
            has_begun = call is self.answering
            self.failed.append(FailedAttempt(call=call, target=target, partial=partial, has_begun=has_begun))


class _AttemptObserver(Observer):
    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider
        self._default_model = context.settings.default_model
        extensions = context.settings.extensions
        self._prices = next((one for one in extensions if isinstance(one, PricesSettings)), None)
        self._models: dict[Call, str | None] = {}

    def started(self, call: Call, context: ServiceContext[Settings], operation: str, request: object) -> None:
        attempts = _attempts_of(call)
        if attempts is not None:
            attempts.begin(call)
            model = request.model if isinstance(request, (ChatRequest, EmbedRequest)) else None
            self._models[call] = model or self._default_model

    def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
        self._fail(call, getattr(error, "partial", None), self._models.get(call), free=is_free(error))

    def first_event(self, call: Call) -> None:
        attempts = _attempts_of(call)
        if attempts is not None:
            attempts.answering, attempts.answering_target = call, self._target(call, self._models.get(call))

    def finished(self, call: Call, response: object) -> None:
        attempts, model = _attempts_of(call), self._models.pop(call, None)
        if attempts is not None:
            attempts.answering_target = target = self._target(call, model)
            if isinstance(response, (ChatResponse, EmbedResponse)):
                attempts.finished.append(FinishedCall(target=target, response=response))

    def failed(self, call: Call, error: BaseException) -> None:
        self._fail(call, getattr(error, "partial", None), self._models.pop(call, None), free=is_free(error))

    def abandoned(self, call: Call, partial: ChatResponse) -> None:
        self._fail(call, partial, self._models.pop(call, None), free=False)

    def _fail(self, call: Call, partial: object, model: str | None, *, free: bool) -> None:
        attempts = _attempts_of(call)
        if attempts is not None:
            arrived = partial if isinstance(partial, ChatResponse) else None
            attempts.fail(call, self._target(call, model), arrived, free=free)

    def _target(self, call: Call, model: str | None) -> Target:
        name = call.context.name
        return Target(name=name, service=name, model=model, provider=self._provider, prices=self._prices)


def _attempts_of(call: Call) -> Attempts | None:
    found = call.state.get(STATE)
    return found if isinstance(found, Attempts) and call.operation in _COUNTED else None


class _AttemptsExtension:
    @hookimpl
    def trunkline_observer(self, context: ServiceContext[Settings]) -> Observer:
        return _AttemptObserver(context)


ATTEMPTS: object = _AttemptsExtension()
"""The extension."""
