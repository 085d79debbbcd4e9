"""`Telemetry`, the object with the hooks of the extension."""

from __future__ import annotations

from collections.abc import Generator
from urllib.parse import urlsplit

from opentelemetry.context import get_current, get_value
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from trunkline import (
    Call,
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    Middleware,
    Observer,
    ServiceContext,
    Settings,
    ToolCall,
    TrunklineError,
    hookimpl,
)
from trunkline.authoring.provider import Auth

from trunkline_otel import conventions as names
from trunkline_otel.auth import PropagatingAuth
from trunkline_otel.middleware import TracingMiddleware
from trunkline_otel.operation import AgentSpan, Instruments, Operation, ToolSpan, Value

_AGENT = "trunkline-otel.agent"
"""The key of the `AgentSpan` in the state of a group of calls."""


class Telemetry:
    """Makes a span of each call of a service, and records metrics.

    The extension `otel` uses the global providers of OpenTelemetry. To use others, put an object of this class into
    `extensions`. `content`, `propagate` and `chunk_times` are the settings of the extension.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        content: bool = False,
        propagate: bool = False,
        chunk_times: bool = True,
    ) -> None:
        self._instruments = Instruments(tracer_provider, meter_provider, chunk_times=chunk_times)
        self._content = content
        self._propagate = propagate

    @hookimpl
    def trunkline_middleware(self, context: ServiceContext[Settings]) -> Middleware:
        """Return the middleware of a service, which makes the spans."""
        return TracingMiddleware(_ServiceTracer(self._instruments, context, content=self._content))

    @hookimpl
    def trunkline_observer(self, context: ServiceContext[Settings]) -> Observer:
        """Return the observer of a service, which adds what happens in the calls to the provider."""
        return _CallObserver(self._instruments.key)

    @hookimpl(wrapper=True)
    def trunkline_auth(self, context: ServiceContext[Settings]) -> Generator[None, Auth, Auth]:
        """Let the service's `Auth` send the headers of the trace, if the setting says so."""
        auth = yield
        return PropagatingAuth(auth) if self._propagate else auth


class _ServiceTracer:
    """Starts the spans of one service."""

    def __init__(self, instruments: Instruments, context: ServiceContext[Settings], *, content: bool) -> None:
        self._instruments = instruments
        self._content = content
        self._attributes = _service_attributes(context)

    def operation(self, call: Call, request: object) -> Operation:
        """Start the operation of a call."""
        name = names.OPERATIONS.get(call.operation, call.operation)
        model = None
        details: dict[str, Value] = {}
        if isinstance(request, ChatRequest):
            model, details = request.model, _chat_attributes(request)
            if call.operation == "stream":
                details[names.STREAM] = True
        elif isinstance(request, EmbedRequest):
            model = request.model
            if request.dimensions is not None:
                details[names.DIMENSIONS] = request.dimensions
        if isinstance(request, (ChatRequest, EmbedRequest)):
            model = model or call.context.settings.default_model
        shared: dict[str, Value] = {names.OPERATION: name, **self._attributes}
        if model:
            shared[names.REQUEST_MODEL] = model
        details[names.SERVICE] = call.context.name
        label = call.state.get("label")
        if isinstance(label, str):
            details[names.LABEL] = label
        if call.hops:
            details[names.HOP_SERVICES] = [hop.service for hop in call.hops]
            details[names.HOP_NUMBERS] = [hop.number for hop in call.hops]
        agent = self._agent(call, model)
        current = get_current()
        operation = Operation(
            self._instruments,
            f"{name} {model}" if model else name,
            {**shared, **details},
            shared,
            content=self._content,
            parent=current if agent is None else agent.around(current),
            agent=agent,
        )
        for hop in call.hops:
            if hop.error is not None:
                operation.hopped(hop, hop.error)
        return operation

    def tool_span(self, call: Call, tool_call: ToolCall) -> ToolSpan:
        """Start the run of a tool."""
        return ToolSpan(self._instruments, tool_call, self._agent(call, None), content=self._content)

    def _agent(self, call: Call, model: str | None) -> AgentSpan | None:
        """Return the span of the group that a call belongs to. The first call of the group starts it."""
        group = call.group
        if group is None:
            return None
        agent = group.state.get(_AGENT)
        if not isinstance(agent, AgentSpan):
            # The members of a composed service may have other models.
            agent = group.state[_AGENT] = AgentSpan(self._instruments, group.name, None if call.hops else model)
            group.on_end(agent.ended)
        return agent


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


def _service_attributes(context: ServiceContext[Settings]) -> dict[str, Value]:
    """Return the attributes that are the same for all calls of a service."""
    found: dict[str, Value] = {names.PROVIDER: names.PROVIDERS.get(context.provider, context.provider)}
    url = getattr(context.settings, "api_url", None)
    try:
        parts = urlsplit(url or "")
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except (TypeError, ValueError):
        return found
    if host:
        found[names.PROVIDER] = names.HOSTS.get(host, found[names.PROVIDER])
        found[names.SERVER_ADDRESS] = host
        if port:
            found[names.SERVER_PORT] = port
    return found


def _chat_attributes(request: ChatRequest) -> dict[str, Value]:
    """Return the attributes of a request that are no content."""
    numbers = {
        names.TEMPERATURE: request.temperature,
        names.TOP_P: request.top_p,
        names.FREQUENCY_PENALTY: request.frequency_penalty,
        names.PRESENCE_PENALTY: request.presence_penalty,
    }
    counts = {names.MAX_TOKENS: request.max_output_tokens, names.TOP_K: request.top_k, names.SEED: request.seed}
    found: dict[str, Value] = {name: float(number) for name, number in numbers.items() if number is not None}
    found |= {name: count for name, count in counts.items() if count is not None}
    if request.stop:
        found[names.STOP] = request.stop
    if request.response_format is not None:
        found[names.OUTPUT_TYPE] = "text" if request.response_format.type == "text" else "json"
    if request.reasoning is not None and request.reasoning.effort is not None:
        found[names.REASONING_LEVEL] = request.reasoning.effort
    return found
