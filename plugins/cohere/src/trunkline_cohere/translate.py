"""Translate a `ChatRequest` into `POST {root}/v2/chat`. Does no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from trunkline.authoring.caching import cached_anyway
from trunkline.authoring.json import encode_request, with_options
from trunkline.authoring.model_facts import facts_about
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.response_formats import (
    SchemaSubset,
    add_prompt_warning,
    add_schema_warnings,
    enforceable,
    with_json_instructions,
)
from trunkline.authoring.schemas import tool_parameters
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest, Tool

from trunkline_cohere.history import History
from trunkline_cohere.model_facts import ROWS, UNKNOWN, CohereFacts
from trunkline_cohere.settings import CohereSettings
from trunkline_cohere.urls import base_url

# docs.cohere.com/docs/structured-outputs, "Schema constraints" and "Unsupported schema features". The page also lists
# `additionalProperties`, but recorded requests have `false`, and Cohere accepts it.
SUBSET = SchemaSubset(
    moved=frozenset(
        {
            *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
            *("minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "not"),
        }
    ),
    formats=frozenset({"date-time", "uuid", "date", "time"}),
    closed=False,
    some_required=True,
    unions=False,
    intersections=False,
)
"""What Cohere enforces in the schema of an answer, and of the tools if they are strict."""

STOP_LIMIT = 5
"""The most stop sequences that Cohere accepts."""

BUDGETS: Mapping[str, int | None] = {
    "minimal": 512,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": None,
    "max": None,
}
"""The thinking budget, in tokens, sent for each effort; `None` is no limit."""

ANSWER_ROOM = 1024
"""Tokens of the output limit to reserve for the answer when an effort becomes a budget, as Cohere recommends."""

# The ranges in the API specification. Values outside them are refused with status 400.
_RANGES: tuple[tuple[str, str, float, float], ...] = (
    ("top_p", "p", 0.01, 0.99),
    ("top_k", "k", 0, 500),
    ("frequency_penalty", "frequency_penalty", 0, 1),
    ("presence_penalty", "presence_penalty", 0, 1),
)

SUPPORTED = {
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "logprobs",
    "top_logprobs",
    "cache",
}
"""The fields of a request that are sent, or that have specific warnings. Any other that is set gives a warning."""

HEADERS: Mapping[str, str] = {"content-type": "application/json", "accept": "application/json"}


class CohereTranslator:
    """Translates requests for one service."""

    def __init__(self, context: ServiceContext[CohereSettings]) -> None:
        self._context = context
        self._url = endpoint_url(base_url(context.settings.api_url)[0], "/v2/chat")

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """Return the wire request and its warnings. Raises `InvalidRequest` for a request that can never be sent."""
        warnings = Warnings()
        facts = facts_about(request.model or "", ROWS, UNKNOWN, self._context.settings.model_facts)
        body = chat_body(request, self._context.provider, facts, warnings)
        if stream:
            body["stream"] = True
        body = with_options(body, request.provider_options, self._context.provider, joined=("documents", "tools"))
        headers = {**HEADERS, "accept": "text/event-stream"} if stream else HEADERS
        wire_request = WireRequest(url=self._url, headers=headers, body=encode_request(body))
        return Translation(wire_request=wire_request, warnings=warnings.all())


def chat_body(request: ChatRequest, provider: str, facts: CohereFacts, warnings: Warnings) -> dict[str, Any]:
    """Return the JSON body, without `stream` and the request's `provider_options`."""
    body: dict[str, Any] = {"model": request.model}
    _tools(request, body, provider, facts, warnings)
    request = _format(request, body, warnings)
    history = History(
        provider=provider,
        warnings=warnings,
        takes_documents="response_format" not in body,
        takes_images=facts.images,
    )
    body["messages"] = history.translate(request.messages)
    if history.documents:
        body["documents"] = history.documents
    _reasoning(request, body, facts, warnings)
    _sampling(request, body, warnings)
    warnings.unsupported(request, supported=SUPPORTED)
    cached_anyway(request, warnings)
    return body


def _tools(request: ChatRequest, body: dict[str, Any], provider: str, facts: CohereFacts, warnings: Warnings) -> None:
    tools, choice = request.tools, request.tool_choice
    if not tools:
        return
    if not facts.tools:
        warnings.add("unsupported", "tools", f"{request.model} cannot call tools; the tools were not sent", lossy=True)
        return
    if choice is not None and choice.mode == "none" and not facts.tool_choice:
        message = f"{request.model} cannot be forbidden to call tools, so the tools were left out"
        warnings.add("emulated", "tool_choice", message, lossy=False)
        return
    if request.parallel_tool_calls is False:
        warnings.add(
            "unsupported",
            "parallel_tool_calls",
            "Cohere cannot disable parallel tool calls; the model may make several",
            lossy=True,
        )
    form = request.response_format
    if choice is not None and choice.mode == "none" and form is not None and form.type != "text":
        message = "Cohere does not accept tools with a response format; tool_choice is 'none', so they were not sent"
        warnings.add("emulated", "tools", message, lossy=False)
        return
    if choice is not None and choice.mode == "tool" and len(tools) > 1:
        tools = tuple(tool for tool in tools if tool.name == choice.name)
        message = f"Cohere cannot force a tool by name; only {choice.name} was sent, and a tool call is required"
        warnings.add("emulated", "tool_choice", message, lossy=False)
    strict = _are_strict(tools, provider, warnings)
    body["tools"] = [_tool(tool, provider, warnings, strict=strict) for tool in tools]
    if choice is not None and choice.mode != "auto" and not facts.tool_choice:
        message = f"{request.model} cannot be forced to call a tool; the answer may contain no call"
        warnings.add("unsupported", "tool_choice", message, lossy=True)
    elif choice is not None and choice.mode != "auto":
        body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    if strict:
        body["strict_tools"] = True


def _are_strict(tools: Sequence[Tool], provider: str, warnings: Warnings) -> bool:
    """Return whether Cohere is asked to enforce the schemas of the tools: of all if one is strict, or of none."""
    if not any(tool.strict for tool in tools):
        return False
    for tool in tools:
        if not _is_function(tool, provider):
            continue
        # docs.cohere.com/docs/tool-use-parameter-types: at least one parameter must be required.
        obstacle = enforceable(tool_parameters(tool, Warnings()), SUBSET).obstacle
        if obstacle is not None:
            message = f"Cohere cannot enforce the schema of {tool.name}, because {obstacle}; no tool was sent as strict"
            warnings.add("changed", "strict tools", message, lossy=True)
            return False
    if any(tool.strict is False for tool in tools):
        message = "Cohere applies strict to all tools or to none; it was applied to all"
        warnings.add("changed", "strict tools", message, lossy=True)
    return True


def _is_function(tool: Tool, provider: str) -> bool:
    return tool.provider_options.get(provider, {}).get("type", "function") == "function"


def _tool(tool: Tool, provider: str, warnings: Warnings, *, strict: bool) -> dict[str, Any]:
    options = tool.provider_options.get(provider, {})
    if not _is_function(tool, provider):
        return dict(options)
    schema = tool_parameters(tool, warnings)
    if strict:
        enforced = enforceable(schema, SUBSET)
        add_schema_warnings(enforced, f"tool {tool.name}", warnings)
        schema = enforced.schema
    function: dict[str, Any] = {"name": tool.name, "parameters": schema}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function, **options}


def _format(request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> ChatRequest:
    """Add the response format. Returns the request, with a prompt for JSON if Cohere cannot enforce the format."""
    form = request.response_format
    if form is None or form.type == "text":
        return request
    why = None
    wire: dict[str, Any] = {"type": "json_object"}
    if "tools" in body:
        why = "Cohere does not accept a response format with tools"
    elif form.schema is not None:
        enforced = enforceable(form.schema, SUBSET)
        if enforced.obstacle is not None:
            why = f"Cohere cannot enforce this schema, because {enforced.obstacle}"
        else:
            add_schema_warnings(enforced, "response_format", warnings)
            wire["json_schema"] = dict(enforced.schema)
            if form.description is not None:
                wire["json_schema"].setdefault("description", form.description)
    if "tools" not in body:
        body["response_format"] = wire
    if why is None:
        return request
    add_prompt_warning(why, warnings)
    return attrs.evolve(request, messages=with_json_instructions(request.messages, form))


def _reasoning(request: ChatRequest, body: dict[str, Any], facts: CohereFacts, warnings: Warnings) -> None:
    options = request.reasoning
    if options is None:
        return
    if not facts.reasoning:
        asks = options.effort not in (None, "none") or bool(options.max_tokens)
        if asks:
            warnings.add("unsupported", "reasoning", f"{request.model} does not reason; ignored", lossy=True)
        return
    if options.summary is not None:
        warnings.add(
            "unsupported",
            "reasoning.summary",
            "Cohere returns its full thinking and no summaries; ignored",
            lossy=options.summary != "auto",
        )
    effort, budget = options.effort, options.max_tokens
    if effort == "none" or budget == 0:
        body["thinking"] = {"type": "disabled"}
    elif budget is not None:
        body["thinking"] = {"type": "enabled", "token_budget": budget}
        if effort is not None:
            message = "Cohere expects a token budget for thinking; reasoning.max_tokens was sent and the effort ignored"
            warnings.add("unsupported", "reasoning.effort", message, lossy=False)
    elif effort is not None:
        budget = BUDGETS[effort]
        if budget is not None and request.max_output_tokens is not None:
            budget = max(1, min(budget, request.max_output_tokens - ANSWER_ROOM))
        body["thinking"] = {"type": "enabled"} if budget is None else {"type": "enabled", "token_budget": budget}
        amount = "without a limit" if budget is None else f"with a budget of {budget} tokens"
        message = f"Cohere expects a token budget for thinking; the effort {effort!r} was sent as thinking {amount}"
        warnings.add("emulated", "reasoning.effort", message, lossy=False)


def _sampling(request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
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
            message = f"Cohere accepts {low:g} to {high:g}; {value:g} was sent as {body[wire_name]:g}"
            warnings.add("changed", name, message, lossy=True)
    if request.stop:
        body["stop_sequences"] = list(request.stop[:STOP_LIMIT])
        if len(request.stop) > STOP_LIMIT:
            message = f"Cohere accepts at most {STOP_LIMIT} stop sequences; the first {STOP_LIMIT} were sent"
            warnings.add("unsupported", "stop", message, lossy=True)
    if request.logprobs or request.top_logprobs is not None:
        body["logprobs"] = True
    if request.top_logprobs:
        message = "Cohere reports the log probabilities of chosen tokens only; those were requested"
        warnings.add("unsupported", "top_logprobs", message, lossy=True)
