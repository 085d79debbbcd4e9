"""Translate a `ChatRequest` into `POST {root}/models/{model}:generateContent`. Does no I/O.

A stream uses `:streamGenerateContent?alt=sse`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from trunkline.authoring.caching import cached_anyway
from trunkline.authoring.json import encode_request, with_options
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.response_formats import add_prompt_warning, with_json_instructions
from trunkline.authoring.schemas import tool_parameters
from trunkline.authoring.warnings import Warnings, changes_effort, nearest_effort
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest, Tool
from trunkline.settings import Settings

from trunkline_gemini.history import history
from trunkline_gemini.model_facts import GeminiFacts, facts_of
from trunkline_gemini.schema import gemini_schema
from trunkline_gemini.tool_names import wire_name
from trunkline_gemini.urls import UrlFor, default_url

HEADERS: Mapping[str, str] = {"content-type": "application/json"}

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
    "cache",
}
"""The fields of a request that are sent. Every other field that is set gives a warning."""

STOP_LIMIT = 5
"""The most stop sequences that Gemini accepts."""

BUDGETS: Mapping[str, int] = {"minimal": 512, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": -1}
"""The thinking budget in tokens for each effort, for models that use budgets; -1 lets the model decide."""

_SAMPLING = ("temperature", "top_p", "top_k")
_PENALTIES = ("frequency_penalty", "presence_penalty")
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}


def default_facts(settings: Settings, model: str | None) -> GeminiFacts:
    """Return the facts about a model, with the overrides of the setting `model_facts`."""
    return facts_of(model, settings.model_facts)  # type: ignore[attr-defined]  # `GeminiSettings` has it


class GeminiTranslator:
    """Translates requests for one service.

    `url` and `facts` are for another place with Gemini's models: the URL of a method, and the facts about a model.
    `labels` is whether that place accepts `labels` for the request's `metadata`.
    """

    def __init__(
        self,
        context: ServiceContext[Settings],
        *,
        url: UrlFor = default_url,
        facts: Callable[[Settings, str | None], GeminiFacts] = default_facts,
        labels: bool = False,
    ) -> None:
        self._provider = context.provider
        self._settings = context.settings
        self._url = url
        self._facts = facts
        self._labels = labels

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """Return the wire request and its warnings. Raises `InvalidRequest` for a request that can never be sent."""
        warnings = Warnings()
        facts = self._facts(self._settings, request.model)
        body = chat_body(request, self._provider, facts, warnings, labels=self._labels)
        method = "streamGenerateContent?alt=sse" if stream else "generateContent"
        wire_request = WireRequest(
            url=self._url(self._settings, str(request.model), method),
            headers=HEADERS,
            body=encode_request(body),
        )
        return Translation(wire_request=wire_request, warnings=warnings.all(), family=facts.family)


def chat_body(
    request: ChatRequest, provider: str, facts: GeminiFacts, warnings: Warnings, *, labels: bool = False
) -> dict[str, Any]:
    """Return the JSON body, with the request's `provider_options` merged in. `labels` carry the `metadata`."""
    warnings.unsupported(request, supported=SUPPORTED | {"metadata"} if labels else SUPPORTED)
    cached_anyway(request, warnings)
    request = _with_instructions(request, facts, warnings)
    contents, system = history(request.messages, provider, facts, warnings)
    body: dict[str, Any] = {"contents": contents}
    if system:
        body["systemInstruction"] = {"parts": system}
    _tools(request, body, provider, facts, warnings)
    config: dict[str, Any] = {}
    _sampling(request, config, facts, warnings)
    _format(request, config, facts, warnings)
    _thinking(request, config, facts, warnings)
    if config:
        body["generationConfig"] = config
    if labels and request.metadata:
        body["labels"] = dict(request.metadata)
    return with_options(body, request.provider_options, provider, joined=("generationConfig",))


def _tools(request: ChatRequest, body: dict[str, Any], provider: str, facts: GeminiFacts, warnings: Warnings) -> None:
    declared: list[dict[str, Any]] = []
    hosted: list[dict[str, Any]] = []
    for tool in request.tools:
        options = dict(tool.provider_options.get(provider, {}))
        if options.pop("type", "function") != "function":
            # A hosted tool (googleSearch, codeExecution …) is sent unchanged, next to the function declarations.
            hosted.append(options)
        else:
            declared.append(_tool(tool, options, facts, warnings))
    if declared and not facts.tools:
        warnings.add("unsupported", "tools", "this model cannot call tools; ignored", lossy=True)
        declared = []
    if any(tool.strict for tool in request.tools):
        warnings.add("unsupported", "strict", "Gemini does not enforce a tool's schema; ignored", lossy=True)
    tools = [{"functionDeclarations": declared}] if declared else []
    if tools or hosted:
        body["tools"] = [*tools, *hosted]
    choice = request.tool_choice
    if choice is not None and declared:  # refused with status 400 if there are no declarations
        calling: dict[str, Any] = {"mode": _MODES[choice.mode]}
        if choice.name is not None:
            calling["allowedFunctionNames"] = [wire_name(choice.name)]
        body["toolConfig"] = {"functionCallingConfig": calling}


def _tool(tool: Tool, options: dict[str, Any], facts: GeminiFacts, warnings: Warnings) -> dict[str, Any]:
    declaration: dict[str, Any] = {"name": wire_name(tool.name), **options}
    if "parametersJsonSchema" not in options and "parameters" not in options:
        parameters = tool_parameters(tool, warnings)
        subject = f"tool {tool.name}"
        declaration["parametersJsonSchema"] = gemini_schema(parameters, facts.refused_keywords, subject, warnings)
    if tool.description is not None:
        declaration["description"] = tool.description
    return declaration


def _sampling(request: ChatRequest, config: dict[str, Any], facts: GeminiFacts, warnings: Warnings) -> None:
    refused = (*(() if facts.sampling else _SAMPLING), *(() if facts.penalties else _PENALTIES))
    for name, field in (
        ("max_output_tokens", "maxOutputTokens"),
        ("temperature", "temperature"),
        ("top_p", "topP"),
        ("top_k", "topK"),
        ("seed", "seed"),
        ("frequency_penalty", "frequencyPenalty"),
        ("presence_penalty", "presencePenalty"),
    ):
        value = getattr(request, name)
        if value is None:
            continue
        if name in refused:
            warnings.add("unsupported", name, "this model does not support it; ignored", lossy=True)
        else:
            config[field] = value
    if request.stop:
        config["stopSequences"] = list(request.stop[:STOP_LIMIT])
        if len(request.stop) > STOP_LIMIT:
            warnings.add(
                "unsupported",
                "stop",
                f"Gemini accepts at most {STOP_LIMIT} stop sequences; the first {STOP_LIMIT} were sent",
                lossy=True,
            )
    if (request.logprobs or request.top_logprobs is not None) and not facts.logprobs:
        warnings.add("unsupported", "logprobs", "this model does not support it; ignored", lossy=True)
    elif request.logprobs or request.top_logprobs is not None:
        config["responseLogprobs"] = True
        if request.top_logprobs:
            config["logprobs"] = request.top_logprobs


def _with_instructions(request: ChatRequest, facts: GeminiFacts, warnings: Warnings) -> ChatRequest:
    """Ask for JSON in the system prompt if the model has no JSON mode, or none beside functions."""
    form = request.response_format
    why = _without_json(request, facts)
    if form is None or form.type == "text" or why is None:
        return request
    add_prompt_warning(why, warnings)
    return attrs.evolve(request, messages=with_json_instructions(request.messages, form))


def _without_json(request: ChatRequest, facts: GeminiFacts) -> str | None:
    """Return why the model cannot be asked for JSON, or `None` if it can."""
    if not facts.json:
        return "this model has no JSON mode"
    if request.tools and facts.tools and not facts.json_with_tools:
        return "this model has no JSON mode beside tools"
    return None


def _format(request: ChatRequest, config: dict[str, Any], facts: GeminiFacts, warnings: Warnings) -> None:
    form = request.response_format
    if form is None or form.type == "text" or _without_json(request, facts) is not None:
        return
    config["responseMimeType"] = "application/json"
    if form.schema is not None:
        config["responseJsonSchema"] = gemini_schema(form.schema, facts.refused_keywords, "response_format", warnings)


def _thinking(request: ChatRequest, config: dict[str, Any], facts: GeminiFacts, warnings: Warnings) -> None:
    options = request.reasoning
    if options is None:
        return
    if not facts.thinking_levels and facts.thinking_budget is None:
        if options.effort != "none":
            warnings.add("unsupported", "reasoning", "this model does not think; ignored", lossy=True)
        return
    thinking: dict[str, Any] = {"includeThoughts": options.effort != "none"}
    if options.summary not in (None, "auto"):
        message = "Gemini has only one kind of thought summary; it was requested"
        warnings.add("changed", "reasoning.summary", message, lossy=True)
    if options.max_tokens is not None:
        thinking["thinkingBudget"] = _budget(options.max_tokens, facts, "reasoning.max_tokens", warnings)
        if options.effort not in (None, "none"):
            message = "Gemini accepts a thinking budget or a level, not both; reasoning.max_tokens was sent"
            warnings.add("unsupported", "reasoning.effort", message, lossy=False)
    elif options.effort is not None and facts.thinking_levels:
        level = nearest_effort(options.effort, facts.thinking_levels)
        thinking["thinkingLevel"] = level.upper()
        if level != options.effort:
            message = f"this model has no thinking level {options.effort!r}; {level.upper()} was sent"
            warnings.add("changed", "reasoning.effort", message, lossy=changes_effort(options.effort))
    elif options.effort == "none":
        thinking["thinkingBudget"] = 0 if facts.thinking_off else _budget(0, facts, "reasoning.effort", warnings)
    elif options.effort is not None:
        smallest, largest = facts.thinking_budget or (0, 0)
        budget = BUDGETS[options.effort]
        thinking["thinkingBudget"] = budget = budget if budget < 0 else min(max(budget, smallest), largest)
        if budget > 0:
            message = f"this model expects a thinking budget; {options.effort!r} was sent as {budget} tokens"
            warnings.add("emulated", "reasoning.effort", message, lossy=False)
    config["thinkingConfig"] = thinking


def _budget(tokens: int, facts: GeminiFacts, subject: str, warnings: Warnings) -> int:
    """Return the thinking budget nearest to a number of tokens that the model accepts."""
    if facts.thinking_budget is None:  # models with levels accept budgets too; their limits are unknown
        return tokens
    smallest, largest = facts.thinking_budget
    budget = min(max(tokens, smallest), largest)
    if budget != tokens:
        message = f"this model accepts a thinking budget from {smallest} to {largest} tokens; {budget} was sent"
        warnings.add("changed", subject, message, lossy=True)
    return budget
