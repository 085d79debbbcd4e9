"""Translating a `ChatRequest` into `POST {endpoint}/model/{id}/converse` or `…/converse-stream`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trunkline.authoring.json import encode_request
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest, Tool

from trunkline_bedrock.history import History, merged
from trunkline_bedrock.model_families import Family, family_of
from trunkline_bedrock.reasoning import reasoning_fields, thinks
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.urls import model_url, runtime_base

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
        self._base = runtime_base(context.settings.aws_region, context.settings.api_url)

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """Return the wire request. Raises `InvalidRequest` for a request that cannot be sent."""
        warnings = Warnings()
        body = converse_body(request, warnings, provider=self._provider)
        wire_request = WireRequest(
            method="POST",
            url=model_url(self._base, request.model or "", "converse-stream" if stream else "converse"),
            headers=request_headers(EVENT_STREAM if stream else "application/json"),
            body=encode_request(body),
        )
        return Translation(wire_request=wire_request, warnings=warnings.all())


def converse_body(request: ChatRequest, warnings: Warnings, *, provider: str) -> dict[str, Any]:
    """Return the body. The request's `provider_options` are merged into it last, so they win."""
    family = family_of(request.model or "")
    history = History(provider=provider, family=family, warnings=warnings)
    history.translate(request.messages)
    body: dict[str, Any] = {"messages": history.messages}
    fields, more = reasoning_fields(request, family, warnings)
    body.update(more)
    _tools(request, body, fields, history, family, warnings, provider)
    if history.system:
        body["system"] = history.system
    _sampling(request, body, fields, family, warnings)
    _format(request, body, warnings)
    _metadata(request, body, warnings)
    if fields:
        body["additionalModelRequestFields"] = fields
    result: dict[str, Any] = merged(body, request.provider_options.get(provider, {}))
    return result


def _tools(
    request: ChatRequest,
    body: dict[str, Any],
    fields: dict[str, Any],
    history: History,
    family: Family,
    warnings: Warnings,
    provider: str,
) -> None:
    choice = request.tool_choice
    forbidden = not request.tools or (choice is not None and choice.mode == "none")
    if forbidden and not history.tool_names:
        if request.tools:
            warnings.add(
                "emulated", "tool_choice", "Converse cannot forbid tool calls, so the tools were left out", lossy=False
            )
        return
    tools = [block for tool in request.tools for block in _tool(tool, warnings, provider)]
    specs = [block["toolSpec"] for block in tools if isinstance(block.get("toolSpec"), Mapping)]
    known = [spec.get("name") for spec in specs]  # `provider_options` may replace a name by anything
    # If the history has tool calls, Converse requires the definitions of tools, even if none is offered any more.
    past = [name for name in history.tool_names if name not in known] if not request.tools else []
    tools += [{"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}} for name in past]
    config: dict[str, Any] = {"tools": tools}
    if forbidden:
        why = "Converse cannot forbid tool calls after earlier ones; the system prompt forbids them instead"
        warnings.add("emulated", "tool_choice" if request.tools else "tools", why, lossy=bool(request.tools))
        history.system.append({"text": _NO_TOOLS})
    elif choice is not None:
        wire: dict[str, Any] = {"auto": {}}
        if choice.mode != "auto" and not family.forced_tools:
            why = f"models of the family {family.name!r} cannot be forced to call a tool; sent as 'auto'"
            warnings.add("unsupported", "tool_choice", why, lossy=True)
        elif choice.mode == "required":
            wire = {"any": {}}
        elif choice.mode == "tool":
            wire = {"tool": {"name": choice.name}}
        config["toolChoice"] = wire
    body["toolConfig"] = config
    if request.parallel_tool_calls is False and not forbidden:
        if not family.one_call:
            warnings.add("unsupported", "parallel_tool_calls", "not supported by this model; ignored", lossy=True)
        else:
            mode = choice.mode if choice is not None else "auto"
            kind: dict[str, Any] = {
                "type": {"required": "any", "tool": "tool"}.get(mode, "auto"),
                "disable_parallel_tool_use": True,
            }
            if choice is not None and choice.name is not None:
                kind["name"] = choice.name
            fields["tool_choice"] = kind


def _tool(tool: Tool, warnings: Warnings, provider: str) -> list[dict[str, Any]]:
    options = dict(tool.provider_options.get(provider, {}))
    after = [{"cachePoint": options.pop("cachePoint")}] if "cachePoint" in options else []
    if "systemTool" in options or "toolSpec" in options:
        return [options, *after]
    spec: dict[str, Any] = {"name": tool.name, "inputSchema": {"json": tool.parameters}}
    if tool.description:
        spec["description"] = tool.description
    if tool.strict is not None:
        spec["strict"] = tool.strict
    return [{"toolSpec": merged(spec, options)}, *after]


def _sampling(
    request: ChatRequest, body: dict[str, Any], fields: dict[str, Any], family: Family, warnings: Warnings
) -> None:
    config: dict[str, Any] = {}
    if request.max_output_tokens is not None:
        config["maxTokens"] = request.max_output_tokens
    refused = "" if family.sampling else "this model refuses it"
    refused = refused or ("this model refuses it while it reasons" if thinks(fields) else "")
    for name, key in (("temperature", "temperature"), ("top_p", "topP")):
        value = getattr(request, name)
        if value is None:
            continue
        if refused:
            warnings.add("unsupported", name, f"{refused}; ignored", lossy=True)
        elif name == "top_p" and family.one_of_sampling and request.temperature is not None:
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
    if stop:
        config["stopSequences"] = stop
    if config:
        body["inferenceConfig"] = config
    if request.top_k is not None:
        if refused or family.top_k is None:
            why = refused or f"models of the family {family.name!r} have no known field for it"
            warnings.add("unsupported", "top_k", f"{why}; ignored", lossy=True)
        else:
            *parents, name = family.top_k
            target = fields
            for parent in parents:
                target = target.setdefault(parent, {})
            target[name] = request.top_k
    warnings.unsupported(request, supported=SUPPORTED)


def _format(request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
    form = request.response_format
    if form is None or form.type == "text":
        return
    if form.type == "json":
        why = "Converse supports JSON only with a schema; give a schema, or ask for JSON in the prompt"
        warnings.add("unsupported", "response_format", why, lossy=True)
        return
    json_schema: dict[str, Any] = {"schema": encode_request(form.schema).decode(), "name": form.name}
    if form.description is not None:
        json_schema["description"] = form.description
    text_format = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": json_schema}}}
    body["outputConfig"] = {**body.get("outputConfig", {}), **text_format}


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
