"""Translating a `ChatRequest` into `POST {endpoint}/model/{id}/converse` or `…/converse-stream`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trunkline.authoring.json import JSONObject, encode_request
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.replay import lacks_reasoning, replay
from trunkline.authoring.response_formats import (
    add_prompt_warning,
    add_schema_warnings,
    enforceable,
    json_instructions,
)
from trunkline.authoring.schemas import tool_parameters
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest, Tool

from trunkline_bedrock.caching import mark, set_cache_points
from trunkline_bedrock.endpoints import runtime_base
from trunkline_bedrock.history import History, merged, rules_of
from trunkline_bedrock.model_facts import BedrockFacts, facts_of
from trunkline_bedrock.reasoning import reasoning_fields, thinks
from trunkline_bedrock.schemas import SUBSET
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.urls import model_url

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
    "cache",
    "metadata",
}
"""The fields of a request that are sent, or that have specific warnings. Any other that is set gives a warning."""

EVENT_STREAM = "application/vnd.amazon.eventstream"
_METADATA = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,\-.]{1,256}")
_METADATA_LIMIT = 16
_NO_TOOLS = "Answer without calling any tool."


def request_headers(accept: str = "application/json") -> dict[str, str]:
    """Return the headers of a request with a body. The core adds those of the settings and the credentials."""
    return {"accept": accept, "content-type": "application/json"}


class ConverseTranslator:
    """Translates requests for one service."""

    def __init__(self, context: ServiceContext[BedrockSettings]) -> None:
        self._provider = context.provider
        self._model_facts = context.settings.model_facts
        self._settings = context.settings

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """Return the wire request. Raises `InvalidRequest` for a request that cannot be sent."""
        warnings = Warnings()
        facts = facts_of(request.model or "", self._model_facts)
        body = converse_body(request, facts, warnings, provider=self._provider)
        wire_request = WireRequest(
            method="POST",
            url=model_url(
                runtime_base(self._settings), request.model or "", "converse-stream" if stream else "converse"
            ),
            headers=request_headers(EVENT_STREAM if stream else "application/json"),
            body=encode_request(body),
        )
        return Translation(wire_request=wire_request, warnings=warnings.all(), family=facts.family)


def converse_body(request: ChatRequest, facts: BedrockFacts, warnings: Warnings, *, provider: str) -> dict[str, Any]:
    """Return the body. The request's `provider_options` are merged into it last, so they win."""
    turns = replay(request.messages, rules_of(facts, provider, request), warnings)
    history = History(provider=provider, facts=facts, warnings=warnings)
    history.translate(turns)
    body: dict[str, Any] = {"messages": history.messages}
    fields, more = reasoning_fields(request, facts, warnings, lacks_reasoning=lacks_reasoning(turns))
    body.update(more)
    _tools(request, body, fields, history, facts, warnings, provider)
    history.finish()
    _format(request, body, history.system, facts, warnings)
    if history.system:
        body["system"] = history.system
    _sampling(request, body, fields, facts, warnings)
    _metadata(request, body, warnings)
    if fields:
        body["additionalModelRequestFields"] = fields
    result: dict[str, Any] = merged(body, request.provider_options.get(provider, {}))
    if request.cache is not None and not facts.cache_points:
        warnings.add("unsupported", "cache", "this model does not cache prompts; ignored", lossy=False)
    elif request.cache is not None or history.cached or any(tool.cache for tool in request.tools):
        result = set_cache_points(result, request.cache, facts, warnings)
    return result


def _tools(
    request: ChatRequest,
    body: dict[str, Any],
    fields: dict[str, Any],
    history: History,
    facts: BedrockFacts,
    warnings: Warnings,
    provider: str,
) -> None:
    if not facts.tools:
        if request.tools:
            warnings.add("unsupported", "tools", "this model cannot call tools; ignored", lossy=True)
        return
    choice = request.tool_choice
    forbidden = not request.tools or (choice is not None and choice.mode == "none")
    if forbidden and not history.tool_names and not history.system_tools:
        if request.tools:
            warnings.add(
                "emulated", "tool_choice", "Converse cannot forbid tool calls, so the tools were left out", lossy=False
            )
        return
    wanted = request.tools
    wire: dict[str, Any] | None = None
    if choice is not None and not forbidden:
        wire = {"auto": {}}
        named = choice.mode == "tool" and "tool" not in facts.tool_choices and "any" in facts.tool_choices
        if named and not history.tool_names and any(tool.name == choice.name for tool in wanted):
            wanted = tuple(tool for tool in wanted if tool.name == choice.name)
            why = "this model cannot be forced to call a tool by name, so only this tool was sent"
            warnings.add("emulated", "tool_choice", why, lossy=False)
            wire = {"any": {}}
        elif choice.mode == "required" and "any" in facts.tool_choices:
            wire = {"any": {}}
        elif choice.mode == "tool" and "tool" in facts.tool_choices:
            wire = {"tool": {"name": choice.name}}
        elif choice.mode != "auto":
            why = f"models of the family {facts.family!r} cannot be forced to make this call; sent as 'auto'"
            warnings.add("unsupported", "tool_choice", why, lossy=True)
    tools = [block for tool in wanted for block in _tool(tool, facts, warnings, provider)]
    specs = [block["toolSpec"] for block in tools if isinstance(block.get("toolSpec"), Mapping)]
    known = [spec.get("name") for spec in specs]  # `provider_options` may replace a name by anything
    # If the history has tool calls, Converse requires the definitions of tools, even if none is offered any more.
    past = [name for name in history.tool_names if name not in known] if not request.tools else []
    tools += [{"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}} for name in past]
    if not request.tools:
        tools += [{"systemTool": {"name": name}} for name in history.system_tools]
    config: dict[str, Any] = {"tools": tools}
    if forbidden and facts.forbids_tools:
        fields["tool_choice"] = {"type": "none"}
    elif forbidden:
        why = "Converse cannot forbid tool calls after earlier ones; the system prompt forbids them instead"
        warnings.add("emulated", "tool_choice" if request.tools else "tools", why, lossy=bool(request.tools))
        history.system.append({"text": _NO_TOOLS})
    elif wire is not None:
        config["toolChoice"] = wire
    body["toolConfig"] = config
    if request.parallel_tool_calls is False and not forbidden:
        if not facts.one_call:
            warnings.add("unsupported", "parallel_tool_calls", "not supported by this model; ignored", lossy=True)
        else:
            # If `toolConfig` has a tool choice, Converse refuses a second type here (litellm 1.110.2).
            kind = {"type": "auto"} if wire is None else {}
            fields["tool_choice"] = {**kind, "disable_parallel_tool_use": True}


def _tool(tool: Tool, facts: BedrockFacts, warnings: Warnings, provider: str) -> list[dict[str, Any]]:
    options = dict(tool.provider_options.get(provider, {}))
    point = options.pop("cachePoint", None)
    if point is not None and not facts.cache_points:
        warnings.mended("cache point", "this model does not accept cache points; left out")
        point = None
    after = [{"cachePoint": point}] if point is not None else []
    if point is None and tool.cache is not None:
        if facts.cache_tools and facts.cache_points:
            after = mark(tool.cache)
        else:
            warnings.add("unsupported", "cache", "this model does not cache tools; ignored", lossy=False)
    if "systemTool" in options or "toolSpec" in options:
        return [options, *after]
    schema = tool_parameters(tool, warnings)
    strict = tool.strict
    if strict and facts.schemas:
        subset = _strict(schema, f"tool {tool.name}", warnings)
        schema, strict = (schema, False) if subset is None else (subset, True)
    spec: dict[str, Any] = {"name": tool.name, "inputSchema": {"json": schema}}
    if tool.description:
        spec["description"] = tool.description
    if strict is not None and facts.schemas:
        spec["strict"] = strict
    elif tool.strict:
        warnings.add(
            "unsupported", f"tool {tool.name}", "this model does not support strict tools; ignored", lossy=True
        )
    return [{"toolSpec": merged(spec, options)}, *after]


def _strict(schema: JSONObject, subject: str, warnings: Warnings) -> JSONObject | None:
    """Return the schema in Bedrock's subset, or `None` with a warning if Bedrock cannot enforce it."""
    enforced = enforceable(schema, SUBSET)
    if enforced.obstacle is None:
        add_schema_warnings(enforced, subject, warnings)
        return enforced.schema
    why = f"Bedrock cannot enforce its schema, because {enforced.obstacle}; it was sent as not strict"
    warnings.add("changed", subject, why, lossy=True)
    return None


def _sampling(
    request: ChatRequest, body: dict[str, Any], fields: dict[str, Any], facts: BedrockFacts, warnings: Warnings
) -> None:
    config: dict[str, Any] = {}
    bare = fields.get("reasoningConfig", {}).get("maxReasoningEffort") in facts.bare_efforts
    if request.max_output_tokens is not None and bare:
        why = "this model accepts no output limit at this reasoning effort; ignored"
        warnings.add("unsupported", "max_output_tokens", why, lossy=True)
    elif request.max_output_tokens is not None:
        config["maxTokens"] = max(request.max_output_tokens, facts.least_output_tokens)
        if config["maxTokens"] != request.max_output_tokens:
            why = f"raised to {facts.least_output_tokens}, the minimum of this model"
            warnings.add("changed", "max_output_tokens", why, lossy=True)
    refused = "" if facts.sampling else "this model refuses it"
    refused = refused or ("this model refuses it while it reasons" if thinks(fields) or bare else "")
    for name, key in (("temperature", "temperature"), ("top_p", "topP")):
        value = getattr(request, name)
        if value is None:
            continue
        if refused:
            warnings.add("unsupported", name, f"{refused}; ignored", lossy=True)
        elif name == "top_p" and facts.one_of_sampling and request.temperature is not None:
            warnings.add("unsupported", name, "this model refuses it together with temperature; ignored", lossy=True)
        else:
            if not 0 <= value <= 1:
                warnings.add(
                    "changed",
                    name,
                    f"Converse accepts 0 to 1; {value:g} was sent as {min(max(value, 0), 1)}",
                    lossy=True,
                )
            config[key] = min(max(value, 0), 1)
    stop = [text for text in request.stop if text]
    if not facts.blank_stops and any(not text.strip() for text in stop):
        # "each stop sequence must contain non-whitespace": BerriAI/litellm#3286, 2024.
        stop = [text for text in stop if text.strip()]
        warnings.add("unsupported", "stop", "this model refuses blank stop sequences; they were left out", lossy=True)
    if len(stop) > facts.stop_sequences:
        limit = facts.stop_sequences
        problem = (
            f"this model accepts at most {limit}; the others were ignored" if limit else "not accepted by this model"
        )
        warnings.add("unsupported", "stop", problem, lossy=True)
        stop = stop[: facts.stop_sequences]
    if stop:
        config["stopSequences"] = stop
    if config:
        body["inferenceConfig"] = config
    if request.top_k is not None:
        if refused or facts.top_k is None:
            why = refused or f"models of the family {facts.family!r} have no known field for it"
            warnings.add("unsupported", "top_k", f"{why}; ignored", lossy=True)
        else:
            *parents, name = facts.top_k
            target = fields
            for parent in parents:
                target = target.setdefault(parent, {})
            target[name] = request.top_k
    warnings.unsupported(request, supported=SUPPORTED)


def _format(
    request: ChatRequest, body: dict[str, Any], system: list[dict[str, Any]], facts: BedrockFacts, warnings: Warnings
) -> None:
    form = request.response_format
    if form is None or form.type == "text":
        return
    why = "Converse supports JSON only with a schema"
    if form.schema is not None:
        enforced = enforceable(form.schema, SUBSET)
        if facts.schemas and enforced.obstacle is None:
            add_schema_warnings(enforced, "response_format", warnings)
            json_schema = {"schema": encode_request(dict(enforced.schema)).decode(), "name": form.name}
            if form.description is not None:
                json_schema["description"] = form.description
            text_format = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": json_schema}}}
            body["outputConfig"] = {**body.get("outputConfig", {}), **text_format}
            return
        why = "this model does not support structured output"
        if facts.schemas:
            why = f"Bedrock cannot enforce this schema, because {enforced.obstacle}"
    add_prompt_warning(why, warnings)
    system.append({"text": json_instructions(form)})


def _metadata(request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
    if not request.metadata:
        return
    valid = {
        key: value
        for key, value in request.metadata.items()
        if _METADATA.fullmatch(key) and (not value or _METADATA.fullmatch(value))
    }
    sent = dict(list(valid.items())[:_METADATA_LIMIT])
    if len(sent) < len(request.metadata):
        why = (
            f"Bedrock accepts {_METADATA_LIMIT} entries of up to 256 letters, digits, spaces and :_@$#=/+,-. ; "
            f"{len(request.metadata) - len(sent)} left out"
        )
        warnings.add("left_out", "metadata", why, lossy=True)
    if sent:
        body["requestMetadata"] = sent
