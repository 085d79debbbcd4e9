"""ChatRequest -> POST {root}/v2/chat. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.authoring.json import JSONObject, dumps
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.errors import InvalidRequest
from trunkline.request import ChatRequest, Tool
from trunkline.settings import Settings

from trunkline_cohere.content import JSON
from trunkline_cohere.history import History
from trunkline_cohere.settings import CohereSettings
from trunkline_cohere.urls import base_url

STOP_LIMIT = 5
"""How many stop sequences Cohere takes."""

BUDGETS: Mapping[str, int | None] = {
    "minimal": 512,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": None,
    "max": None,
}
"""The thinking, in tokens, that an effort stands for; `None` for as much as the model wants."""

ANSWER_ROOM = 1024
"""The tokens of the output limit that a budget made of an effort leaves for the answer, as Cohere advises."""

# The ranges that the specification gives; beyond them the API answers 400.
_RANGES: tuple[tuple[str, str, float, float], ...] = (
    ("top_p", "p", 0.01, 0.99),
    ("top_k", "k", 0, 500),
    ("frequency_penalty", "frequency_penalty", 0, 1),
    ("presence_penalty", "presence_penalty", 0, 1),
)

_NO_WORD = "Cohere has no word for it; it was not sent"
_JOINED = ("documents", "tools")


def request_headers(settings: Settings, *, accept: str = "application/json") -> Mapping[str, str]:
    """The headers of a request but for its credentials. Those of the settings win."""
    headers = {"content-type": "application/json", "accept": accept}
    return {**headers, **{name.lower(): value for name, value in settings.headers.items()}}


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Raises `InvalidRequest` for what JSON cannot say."""
    try:
        return dumps(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request holds a value that JSON cannot say: {error}") from None


class CohereTranslator:
    """Translates requests for one service."""

    def __init__(self, context: ServiceContext[CohereSettings]) -> None:
        self._context = context
        self._url = endpoint_url(base_url(context.settings.api_url)[0], "/v2/chat")

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """The wire request. Raises `InvalidRequest` for what can never be sent."""
        warnings = Warnings()
        body = chat_body(request, self._context.provider, warnings)
        if stream:
            body["stream"] = True
        _merge(body, request.provider_options.get(self._context.provider, {}))
        accept = "text/event-stream" if stream else "application/json"
        wire_request = WireRequest(
            url=self._url, headers=request_headers(self._context.settings, accept=accept), body=encode(body)
        )
        return Translation(wire_request=wire_request, warnings=warnings.all())


def chat_body(request: ChatRequest, provider: str, warnings: Warnings) -> JSON:
    """The JSON body, but for streaming and the request's `provider_options`."""
    body: JSON = {"model": request.model}
    _tools(request, body, provider, warnings)
    _format(request, body, warnings)
    history = History(provider=provider, warnings=warnings, takes_documents="response_format" not in body)
    body["messages"] = history.translate(request.messages)
    if history.documents:
        body["documents"] = history.documents
    _reasoning(request, body, warnings)
    _sampling(request, body, warnings)
    if request.user_id is not None:
        warnings.add("unsupported", "user_id", _NO_WORD)
    if request.metadata:
        warnings.add("unsupported", "metadata", _NO_WORD)
    return body


def _merge(body: JSON, options: JSONObject) -> None:
    """Bring a request's `provider_options` into the body; documents and tools join those that are there."""
    for name, value in options.items():
        there = body.get(name)
        if name in _JOINED and isinstance(value, (list, tuple)) and isinstance(there, list):
            body[name] = [*there, *value]
        else:
            body[name] = value


def _tools(request: ChatRequest, body: JSON, provider: str, warnings: Warnings) -> None:
    tools, choice = request.tools, request.tool_choice
    if not tools:
        return
    if request.parallel_tool_calls is False:
        warnings.add("unsupported", "parallel_tool_calls", "Cohere cannot forbid parallel calls; it may make several")
    form = request.response_format
    if choice is not None and choice.mode == "none" and form is not None and form.type != "text":
        told = "Cohere takes no tools beside a response format; since none may be called, they were not sent"
        warnings.add("emulated", "tools", told)
        return
    if choice is not None and choice.mode == "tool" and len(tools) > 1:
        tools = tuple(tool for tool in tools if tool.name == choice.name)
        told = f"Cohere cannot name the tool to call: {choice.name} alone was sent, with the duty to call a tool"
        warnings.add("emulated", "tool_choice", told)
    body["tools"] = [_tool(tool, provider) for tool in tools]
    if choice is not None and choice.mode != "auto":
        body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    if any(tool.strict for tool in tools):
        body["strict_tools"] = True
        if any(tool.strict is False for tool in tools):
            told = "Cohere is strict with all tools or with none: all are held to their schemas"
            warnings.add("changed", "strict tools", told)


def _tool(tool: Tool, provider: str) -> JSON:
    options = tool.provider_options.get(provider, {})
    if options.get("type", "function") != "function":
        return dict(options)
    function: JSON = {"name": tool.name, "parameters": tool.parameters}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function, **options}


def _format(request: ChatRequest, body: JSON, warnings: Warnings) -> None:
    form = request.response_format
    if form is None or form.type == "text":
        return
    if "tools" in body:
        told = "Cohere takes no response format beside tools; it was not sent. Ask for the form in the prompt"
        warnings.add("unsupported", "response_format", told)
        return
    wire: JSON = {"type": "json_object"}
    if form.schema is not None:
        wire["json_schema"] = dict(form.schema)
        if form.description is not None:
            wire["json_schema"].setdefault("description", form.description)
    body["response_format"] = wire


def _reasoning(request: ChatRequest, body: JSON, warnings: Warnings) -> None:
    options = request.reasoning
    if options is None:
        return
    if options.summary is not None:
        warnings.add("unsupported", "reasoning.summary", "Cohere shows its thinking whole; there are no summaries")
    effort, budget = options.effort, options.max_tokens
    if effort == "none" or budget == 0:
        body["thinking"] = {"type": "disabled"}
    elif budget is not None:
        body["thinking"] = {"type": "enabled", "token_budget": budget}
        if effort is not None:
            told = "Cohere counts its thinking in tokens; reasoning.max_tokens was sent in its place"
            warnings.add("unsupported", "reasoning.effort", told)
    elif effort is not None:
        budget = BUDGETS[effort]
        if budget is not None and request.max_output_tokens is not None:
            budget = max(1, min(budget, request.max_output_tokens - ANSWER_ROOM))
        body["thinking"] = {"type": "enabled"} if budget is None else {"type": "enabled", "token_budget": budget}
        amount = "without a limit" if budget is None else f"with a budget of {budget} tokens"
        told = f"Cohere counts its thinking in tokens: {effort} was sent as thinking {amount}"
        warnings.add("emulated", "reasoning.effort", told)


def _sampling(request: ChatRequest, body: JSON, warnings: Warnings) -> None:
    for name, wire_name in (("max_output_tokens", "max_tokens"), ("temperature", "temperature"), ("seed", "seed")):
        value = getattr(request, name)
        if value is not None:
            body[wire_name] = value
    for name, wire_name, low, high in _RANGES:
        value = getattr(request, name)
        if value is None:
            continue
        body[wire_name] = min(max(value, low), high)
        if body[wire_name] != value:
            told = f"Cohere takes {low:g} to {high:g}: {value:g} was sent as {body[wire_name]:g}"
            warnings.add("changed", name, told)
    if request.stop:
        body["stop_sequences"] = list(request.stop[:STOP_LIMIT])
        if len(request.stop) > STOP_LIMIT:
            told = f"only {STOP_LIMIT} stop sequences are taken; the first {STOP_LIMIT} were sent"
            warnings.add("unsupported", "stop", told)
    if request.logprobs or request.top_logprobs is not None:
        body["logprobs"] = True
    if request.top_logprobs:
        told = "Cohere tells the probabilities of the chosen tokens alone; those were asked for"
        warnings.add("unsupported", "top_logprobs", told)
