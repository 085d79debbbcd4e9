"""`Telemetry`, the object with the hooks of the extension."""

from __future__ import annotations

from collections.abc import Generator

from opentelemetry.context import get_value
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from trunkline import (
    Call,
    ChatResponse,
    Middleware,
    Observer,
    ServiceContext,
    Settings,
    TrunklineError,
    hookimpl,
)
from trunkline.authoring.provider import Auth

from trunkline_otel.auth import PropagatingAuth, keep_auth
from trunkline_otel.middleware import TracingMiddleware
from trunkline_otel.operation import Instruments, Operation
from trunkline_otel.tracer import Tracer


class Telemetry:
    """Makes a span of each call of a service, and records metrics.

    The extension `otel` uses the global providers of OpenTelemetry. To use others, put an object of this class into
    `extensions`. `content`, `propagate`, `chunk_times` and `metric_label` are the settings of the extension.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        content: bool = False,
        propagate: bool = False,
        chunk_times: bool = True,
        metric_label: bool = False,
    ) -> None:
        self._instruments = Instruments(tracer_provider, meter_provider, chunk_times=chunk_times)
        self._content = content
        self._propagate = propagate
        self._metric_label = metric_label

    @hookimpl
    def trunkline_middleware(self, context: ServiceContext[Settings]) -> Middleware:
        """Return the middleware of a service, which makes the spans."""
        return TracingMiddleware(
            Tracer(self._instruments, context, content=self._content, metric_label=self._metric_label)
        )

    @hookimpl
    def trunkline_observer(self, context: ServiceContext[Settings]) -> Observer:
        """Return the observer of a service, which adds what happens in the calls to the provider."""
        return _CallObserver(self._instruments.key)

    @hookimpl(wrapper=True)
    def trunkline_auth(self, context: ServiceContext[Settings]) -> Generator[None, Auth, Auth]:
        """Let the service's `Auth` send the headers of the trace, if the setting says so."""
        auth = yield
        if self._content:
            keep_auth(context, auth)
        return PropagatingAuth(auth) if self._propagate else auth


class _CallObserver(Observer):
    """Tells the running operation what happens in its calls to the provider."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._operations: dict[Call, Operation] = {}

    def started(self, call: Call, context: ServiceContext[Settings], operation: str, request: object) -> None:
        # The operation is in the context, not in `call.state`, since a middleware may proceed several times at once.
        found = get_value(self._key)
        if isinstance(found, Operation):
            self._operations[call] = found
            found.started(call, request)

    def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
        if call in self._operations:
            self._operations[call].retried(error, delay)

    def first_event(self, call: Call) -> None:
        if call in self._operations:
            self._operations[call].first_event()

    def finished(self, call: Call, response: object) -> None:
        self._settle(call, response)

    def failed(self, call: Call, error: BaseException) -> None:
        self._settle(call, getattr(error, "partial", None), error)

    def abandoned(self, call: Call, partial: ChatResponse) -> None:
        self._settle(call, partial, abandoned=True)

    def _settle(
        self, call: Call, result: object, error: BaseException | None = None, *, abandoned: bool = False
    ) -> None:
        operation = self._operations.pop(call, None)
        if operation is not None:
            operation.settled(call, result, error, abandoned=abandoned)
