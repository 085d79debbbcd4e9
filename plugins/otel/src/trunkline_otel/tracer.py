"""`Tracer`, which starts the spans of one service."""

from __future__ import annotations

from urllib.parse import urlsplit

from opentelemetry.context import get_current
from trunkline import Call, ChatRequest, EmbedRequest, ServiceContext, Settings, ToolCall

from trunkline_otel import conventions as names
from trunkline_otel.auth import service_secrets
from trunkline_otel.content import Content
from trunkline_otel.operation import AgentSpan, Instruments, Operation, ToolSpan, Value

_AGENT = "trunkline-otel.agent"
"""The key of the `AgentSpan` in the state of a group of calls."""


class Tracer:
    """Starts the spans of one service."""

    def __init__(
        self, instruments: Instruments, context: ServiceContext[Settings], *, content: bool, metric_label: bool
    ) -> None:
        self._instruments = instruments
        self._content = Content(lambda: service_secrets(context)) if content else None
        self._attributes = service_attributes(context)
        self._metric_label = metric_label

    def operation(self, call: Call, request: object) -> Operation:
        """Start the operation of a call."""
        name = names.OPERATIONS.get(call.operation, call.operation)
        named = getattr(request, "model", "")
        model = call.context.settings.default_model if named is None else named if isinstance(named, str) else None
        details: dict[str, Value] = {}
        if isinstance(request, ChatRequest):
            details = _chat_attributes(request)
            if call.operation == "stream":
                details[names.STREAM] = True
        elif isinstance(request, EmbedRequest) and request.dimensions is not None:
            details[names.DIMENSIONS] = request.dimensions
        shared: dict[str, Value] = {names.OPERATION: name, **self._attributes}
        if model:
            shared[names.REQUEST_MODEL] = model
        details[names.SERVICE] = call.context.name
        label = _label(call)
        if label is not None:
            (shared if self._metric_label else details)[names.LABEL] = label
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
            model = None if call.hops else model
            agent = group.state[_AGENT] = AgentSpan(self._instruments, group.name, model, _label(call))
            group.on_end(agent.ended)
        return agent


def _label(call: Call) -> str | None:
    """Return the label that the application gave with `state`: whom the call is for."""
    label = call.state.get("label")
    return label if isinstance(label, str) else None


def service_attributes(context: ServiceContext[Settings]) -> dict[str, Value]:
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
