"""ChatRequest -> POST {root}/models/{model}:generateContent, or :streamGenerateContent?alt=sse. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from trunkline.authoring.json import dumps
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.errors import InvalidRequest
from trunkline.request import ChatRequest, Tool

from trunkline_gemini.contents import Contents
from trunkline_gemini.settings import GeminiSettings
from trunkline_gemini.urls import base_url, method_url

JSON: TypeAlias = dict[str, Any]

SUPPORTED = {
    "tools",
    "tool_choice",
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
}
"""The fields of a request that Gemini has words for."""

STOP_LIMIT = 5
"""How many stop sequences Gemini takes."""

BUDGETS: Mapping[str, int] = {"minimal": 512, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": -1}
"""The thinking, in tokens, that an effort stands for with models before Gemini 3; -1 is as much as the model wants."""

LEVELS: Mapping[str, str] = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
"""The thinking level that an effort stands for, from Gemini 3 on."""

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}
_GENERATION = re.compile(r"gemini-(\d+)")


class GeminiTranslator:
    """Translates requests for one service."""

    def __init__(self, context: ServiceContext[GeminiSettings]) -> None:
        self._provider = context.provider
        self._base, _ = base_url(context.settings.api_url)

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """The wire request. Raises `InvalidRequest` for what can never be sent."""
        warnings = Warnings()
        body = chat_body(request, self._provider, warnings)
        model = str(request.model)
        method, query = ("streamGenerateContent", "alt=sse") if stream else ("generateContent", "")
        wire_request = WireRequest(
            url=method_url(self._base, model, method, query),
            headers={"content-type": "application/json"},
            body=encode(body),
        )
        return Translation(wire_request=wire_request, warnings=warnings.all())


def encode(body: JSON) -> bytes:
    """The body as JSON. Raises `InvalidRequest` for what JSON cannot say."""
    try:
        return dumps(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request holds a value that JSON cannot say: {error}") from None


def generation(model: str | None) -> int:
    """The generation of a model (`gemini-2.5-pro` is of the second); the newest for a name that does not tell."""
    found = _GENERATION.search(model or "")
    return int(found[1]) if found else 3


def chat_body(request: ChatRequest, provider: str, warnings: Warnings) -> JSON:
    """The JSON body."""
    warnings.unsupported(request, supported=SUPPORTED)
    contents = Contents(provider, warnings, signed=generation(request.model) >= 3)
    body: JSON = {"contents": contents.translate(request.messages)}
    if contents.system:
        body["systemInstruction"] = {"parts": contents.system}
    _tools(request, body, provider)
    config: JSON = {}
    _sampling(request, config, warnings)
    _format(request, config)
    _thinking(request, config, warnings)
    options = dict(request.provider_options.get(provider, {}))
    own = options.pop("generationConfig", {})
    if isinstance(own, Mapping):
        config |= own
    if config:
        body["generationConfig"] = config
    return body | options


def _tools(request: ChatRequest, body: JSON, provider: str) -> None:
    declared: list[JSON] = []
    hosted: list[JSON] = []
    for tool in request.tools:
        options = dict(tool.provider_options.get(provider, {}))
        # A hosted tool (googleSearch, codeExecution …) stands beside the declarations, as it is.
        (hosted if options.pop("type", "function") != "function" else declared).append(_tool(tool, options))
    tools = [{"functionDeclarations": declared}] if declared else []
    if tools or hosted:
        body["tools"] = [*tools, *hosted]
    choice = request.tool_choice
    if choice is not None and declared:  # without declarations the API answers 400
        calling: JSON = {"mode": _MODES[choice.mode]}
        if choice.name is not None:
            calling["allowedFunctionNames"] = [choice.name]
        body["toolConfig"] = {"functionCallingConfig": calling}


def _tool(tool: Tool, options: JSON) -> JSON:
    if options and "parametersJsonSchema" not in options and "parameters" not in options:
        return options
    declaration: JSON = {"name": tool.name, "parametersJsonSchema": tool.parameters, **options}
    if tool.description is not None:
        declaration["description"] = tool.description
    return declaration


def _sampling(request: ChatRequest, config: JSON, warnings: Warnings) -> None:
    for name, wire_name in (
        ("max_output_tokens", "maxOutputTokens"),
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("top_k", "topK"),
        ("seed", "seed"),
        ("frequency_penalty", "frequencyPenalty"),
        ("presence_penalty", "presencePenalty"),
    ):
        value = getattr(request, name)
        if value is not None:
            config[wire_name] = value
    if request.stop:
        config["stopSequences"] = list(request.stop[:STOP_LIMIT])
        if len(request.stop) > STOP_LIMIT:
            warnings.add("unsupported", "stop", f"only {STOP_LIMIT} stop sequences are taken; the first were sent")
    if request.logprobs or request.top_logprobs is not None:
        config["responseLogprobs"] = True
        if request.top_logprobs:
            config["logprobs"] = request.top_logprobs


def _format(request: ChatRequest, config: JSON) -> None:
    form = request.response_format
    if form is None or form.type == "text":
        return
    config["responseMimeType"] = "application/json"
    if form.schema is not None:
        config["responseJsonSchema"] = form.schema


def _thinking(request: ChatRequest, config: JSON, warnings: Warnings) -> None:
    options = request.reasoning
    if options is None:
        return
    thinking: JSON = {"includeThoughts": options.effort != "none"}
    if options.summary is not None:
        told = "Gemini has one kind of summary of its thoughts; that was asked for"
        warnings.add("changed", "reasoning.summary", told)
    if options.max_tokens is not None:
        thinking["thinkingBudget"] = options.max_tokens
        if options.effort not in (None, "none"):
            told = "Gemini takes a budget or a level, not both; reasoning.max_tokens was sent"
            warnings.add("unsupported", "reasoning.effort", told)
    elif options.effort is not None and generation(request.model) >= 3:
        thinking["thinkingLevel"] = level = LEVELS[options.effort]
        if level.lower() != options.effort:
            told = f"this model knows no {options.effort!r}; the level {level} was sent"
            warnings.add("changed", "reasoning.effort", told)
    elif options.effort is not None:
        thinking["thinkingBudget"] = budget = 0 if options.effort == "none" else BUDGETS[options.effort]
        if budget > 0:
            told = f"this model counts its thinking in tokens: {options.effort} was sent as a budget of {budget}"
            warnings.add("emulated", "reasoning.effort", told)
    config["thinkingConfig"] = thinking
