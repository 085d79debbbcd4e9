"""Translate a `ChatRequest` into `POST {root}/api/chat`. Does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.authoring.caching import cached_anyway
from trunkline.authoring.json import JSONObject, JSONValue, encode_request, with_options
from trunkline.authoring.model_facts import facts_about
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.response_formats import SchemaSubset, add_schema_warnings, enforceable
from trunkline.authoring.schemas import tool_parameters
from trunkline.authoring.urls import endpoint_url
from trunkline.authoring.warnings import Warnings, changes_effort, nearest_effort
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest, Tool

from trunkline_ollama.history import History
from trunkline_ollama.model_facts import ROWS, UNKNOWN, OllamaFacts, family_of
from trunkline_ollama.settings import OllamaSettings
from trunkline_ollama.urls import base_url

# The server makes a grammar of the schema, as llama.cpp does.
SUBSET = SchemaSubset(moved=frozenset({"not"}), patterns="grammar", maps=True, tuples=True)
"""What the server enforces in the schema of an answer."""

HEADERS: Mapping[str, str] = {"content-type": "application/json"}

JOINED = ("options",)
"""Fields of the body that `provider_options` extend instead of replacing them."""

OPTIONS: Mapping[str, str] = {
    "max_output_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""The fields of a request that are sent in `options`, with Ollama's names for them."""

SUPPORTED = {
    *OPTIONS,
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning",
    "stop",
    "logprobs",
    "top_logprobs",
    "cache",
}
"""The fields of a request that are sent, or that have specific warnings. Any other that is set gives a warning."""


class OllamaTranslator:
    """Translates requests for one service."""

    def __init__(self, context: ServiceContext[OllamaSettings]) -> None:
        self._provider = context.provider
        self._settings = context.settings
        self._url = endpoint_url(base_url(context.settings.api_url)[0], "/api/chat")

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """Return the wire request and its warnings. Raises `InvalidRequest` for a request that can never be sent."""
        warnings = Warnings()
        warnings.unsupported(request, supported=SUPPORTED)
        cached_anyway(request, warnings)
        settings = self._settings
        family = family_of(request.model or "")
        facts = facts_about(family, ROWS, UNKNOWN, {})
        facts = facts_about(request.model or "", (), facts, settings.model_facts)
        body: dict[str, Any] = {
            "model": request.model,
            "messages": History(self._provider, family, warnings).translate(request.messages),
            # Must be sent: the server's default is true.
            "stream": stream,
            # Must be sent: by default the server silently drops old messages before the answer (`truncate`), and the
            # beginning of the context while the answer grows (`shift`).
            "truncate": settings.truncate,
            "shift": settings.truncate,
        }
        _tools(request, body, self._provider, facts, warnings)
        _format(request, body, warnings)
        _thinking(request, body, facts, warnings)
        if request.logprobs or request.top_logprobs is not None:
            body["logprobs"] = True
            if request.top_logprobs is not None:
                body["top_logprobs"] = request.top_logprobs
        add_settings(body, settings, _options(request))
        body = with_options(body, request.provider_options, self._provider, joined=JOINED)
        wire_request = WireRequest(url=self._url, headers=HEADERS, body=encode_request(body))
        return Translation(wire_request=wire_request, warnings=warnings.all(), family=family)


def add_settings(body: dict[str, Any], settings: OllamaSettings, options: dict[str, Any]) -> None:
    """Add the settings to the body, and the `options` of the request, which take precedence."""
    if settings.context_length is not None:
        options = {"num_ctx": settings.context_length, **options}
    if settings.keep_alive is not None:
        # The server accepts seconds as a number only; a string needs a unit.
        text = settings.keep_alive
        body["keep_alive"] = int(text) if text.lstrip("-").isdigit() else text
    if options:
        body["options"] = options


def _options(request: ChatRequest) -> dict[str, Any]:
    options: dict[str, Any] = {
        wire_name: value for name, wire_name in OPTIONS.items() if (value := getattr(request, name)) is not None
    }
    return {**options, "stop": list(request.stop)} if request.stop else options


def _tools(request: ChatRequest, body: dict[str, Any], provider: str, facts: OllamaFacts, warnings: Warnings) -> None:
    choice, tools = request.tool_choice, request.tools
    if tools and not facts.tools:
        warnings.add("unsupported", "tools", f"{request.model} cannot call tools; the tools were not sent", lossy=True)
        return
    if request.parallel_tool_calls is False:
        message = "Ollama cannot disable parallel tool calls; ignored"
        warnings.add("unsupported", "parallel_tool_calls", message, lossy=True)
    if choice is not None and choice.mode == "none":
        return  # the tools are not sent, so none can be called
    if choice is not None and choice.mode in ("required", "tool"):
        message = "Ollama cannot force a tool call; the model may answer without one"
        if choice.name is not None:
            tools = tuple(tool for tool in tools if tool.name == choice.name)
            message = f"Ollama cannot force a tool call; only {choice.name!r} was sent, but the model may not call it"
        warnings.add("unsupported", "tool_choice", message, lossy=True)
    if any(tool.strict for tool in tools):
        warnings.add("unsupported", "strict", "Ollama does not enforce a tool's schema; ignored", lossy=True)
    if tools:
        body["tools"] = [_tool(tool, provider, warnings) for tool in tools]


def _tool(tool: Tool, provider: str, warnings: Warnings) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": _decodable(tool_parameters(tool, warnings))}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function, **tool.provider_options.get(provider, {})}


def _decodable(schema: JSONObject) -> JSONObject:
    """Replace `true` and `false` as schemas of properties, because the server's decoder refuses them."""

    def one(value: JSONValue) -> JSONValue:
        if isinstance(value, bool):
            return {} if value else {"not": {}}
        return _decodable(value) if isinstance(value, dict) else value

    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return schema
    return {**schema, "properties": {name: one(value) for name, value in properties.items()}}


def _format(request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
    form = request.response_format
    if form is None or form.type == "text":
        return
    body["format"] = "json"
    if form.schema is not None:
        enforced = enforceable(form.schema, SUBSET)
        add_schema_warnings(enforced, "response_format", warnings)
        body["format"] = enforced.schema


def _thinking(request: ChatRequest, body: dict[str, Any], facts: OllamaFacts, warnings: Warnings) -> None:
    reasoning = request.reasoning
    if reasoning is None:
        return
    if reasoning.max_tokens is not None:
        message = "Ollama has thinking levels but no token budget; ignored"
        warnings.add("unsupported", "reasoning.max_tokens", message, lossy=True)
    if reasoning.summary is not None:
        message = "Ollama returns the full thinking and no summaries; ignored"
        warnings.add("unsupported", "reasoning.summary", message, lossy=reasoning.summary != "auto")
    effort = reasoning.effort
    if not facts.thinking:
        if effort not in (None, "none"):
            warnings.add("unsupported", "reasoning.effort", f"{request.model} does not think; ignored", lossy=True)
    elif effort is None:
        body["think"] = True
    elif effort == "none" and not facts.thinking_off:
        body["think"] = lowest = facts.thinking_levels[0] if facts.thinking_levels else True
        message = f"thinking of {request.model} cannot be switched off; {lowest!r} was sent"
        warnings.add("changed", "reasoning.effort", message, lossy=True)
    elif effort == "none":
        body["think"] = False
    elif not facts.thinking_levels:
        body["think"] = True
        message = f"{request.model} has no thinking levels; {effort!r} was sent as true"
        warnings.add("changed", "reasoning.effort", message, lossy=changes_effort(effort))
    else:
        body["think"] = level = nearest_effort(effort, facts.thinking_levels)
        if level != effort:
            message = f"{request.model} has no thinking level {effort!r}; {level!r} was sent"
            warnings.add("changed", "reasoning.effort", message, lossy=changes_effort(effort))
