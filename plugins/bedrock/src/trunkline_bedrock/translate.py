"""ChatRequest -> POST {endpoint}/model/{id}/converse, or converse-stream. Pure."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any

from trunkline.authoring.json import dumps
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.urls import plain_http_note
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.errors import InvalidRequest
from trunkline.request import ChatRequest, Tool

from trunkline_bedrock.families import Family, family_of
from trunkline_bedrock.history import History, merged
from trunkline_bedrock.reasoning import reasoning_fields, thinks
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.urls import base_url, model_url, runtime_base

Body = dict[str, Any]

_log = logging.getLogger("trunkline.bedrock")

EVENT_STREAM = "application/vnd.amazon.eventstream"
_METADATA = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,\-.]{1,256}")
_METADATA_LIMIT = 16
_NO_TOOLS = "Answer without calling any tool."


def request_headers(
    settings: BedrockSettings, *, accept: str = "application/json", body: bool = True
) -> dict[str, str]:
    """The headers of a request but for its credentials. Those of the settings win."""
    headers = {"accept": accept, **({"content-type": "application/json"} if body else {})}
    return {**headers, **{name.lower(): value for name, value in settings.headers.items()}}


def log_notes(context: ServiceContext[BedrockSettings]) -> None:
    """Log, at WARNING, what should be known of the service's URL. Called when the service opens."""
    settings = context.settings
    if settings.api_url is None:
        return
    base, notes = base_url(settings.api_url)
    plain = plain_http_note(base)
    for note in (*notes, *([plain] if plain else [])):
        _log.warning("service %r: setting 'api_url': %s", context.name, note)


def encode(body: Mapping[str, Any]) -> bytes:
    """The body as JSON. Raises `InvalidRequest` for what JSON cannot say."""
    try:
        return dumps(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the request holds a value that JSON cannot say: {error}") from None


class ConverseTranslator:
    """Translates requests for one service."""

    def __init__(self, context: ServiceContext[BedrockSettings]) -> None:
        self._settings = context.settings
        self._provider = context.provider
        self._base = runtime_base(context.settings.aws_region, context.settings.api_url)

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """The wire request. Raises `InvalidRequest` for what can never be sent."""
        warnings = Warnings()
        body = converse_body(request, warnings, provider=self._provider)
        wire_request = WireRequest(
            method="POST",
            url=model_url(self._base, request.model or "", "converse-stream" if stream else "converse"),
            headers=request_headers(self._settings, accept=EVENT_STREAM if stream else "application/json"),
            body=encode(body),
        )
        return Translation(wire_request=wire_request, warnings=warnings.all())


def converse_body(request: ChatRequest, warnings: Warnings, *, provider: str) -> Body:
    """The body, the request's `provider_options` merged into it last."""
    family = family_of(request.model or "")
    history = History(provider=provider, family=family, warnings=warnings)
    history.translate(request.messages)
    body: Body = {"messages": history.messages}
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
    result: Body = merged(body, request.provider_options.get(provider, {}))
    return result


def _tools(
    request: ChatRequest,
    body: Body,
    fields: Body,
    history: History,
    family: Family,
    warnings: Warnings,
    provider: str,
) -> None:
    choice = request.tool_choice
    forbidden = not request.tools or (choice is not None and choice.mode == "none")
    if forbidden and not history.tool_names:
        if request.tools:
            warnings.add("emulated", "tool_choice", "Converse cannot forbid tools, so the tools were not sent")
        return
    tools = [block for tool in request.tools for block in _tool(tool, warnings, provider)]
    known = {block["toolSpec"]["name"] for block in tools if isinstance(block.get("toolSpec"), Mapping)}
    # The wire asks for the tools of a conversation that has calls, whether or not they are still offered.
    past = [name for name in history.tool_names if name not in known] if not request.tools else []
    tools += [{"toolSpec": {"name": name, "inputSchema": {"json": {"type": "object"}}}} for name in past]
    config: Body = {"tools": tools}
    if forbidden:
        why = "Converse cannot forbid tools in a conversation that has calls: the model was told in words not to"
        warnings.add("emulated", "tool_choice" if request.tools else "tools", why)
        history.system.append({"text": _NO_TOOLS})
    elif choice is not None:
        wire: Body = {"auto": {}}
        if choice.mode != "auto" and not family.forced_tools:
            why = f"a model of the family {family.name!r} cannot be made to call a tool; it was left to choose"
            warnings.add("unsupported", "tool_choice", why)
        elif choice.mode == "required":
            wire = {"any": {}}
        elif choice.mode == "tool":
            wire = {"tool": {"name": choice.name}}
        config["toolChoice"] = wire
    body["toolConfig"] = config
    if request.parallel_tool_calls is False and not forbidden:
        if not family.one_call:
            warnings.add("unsupported", "parallel_tool_calls", "this model cannot be kept to one call at a time")
        else:
            mode = choice.mode if choice is not None else "auto"
            kind: Body = {
                "type": {"required": "any", "tool": "tool"}.get(mode, "auto"),
                "disable_parallel_tool_use": True,
            }
            if choice is not None and choice.name is not None:
                kind["name"] = choice.name
            fields["tool_choice"] = kind


def _tool(tool: Tool, warnings: Warnings, provider: str) -> list[Body]:
    options = dict(tool.provider_options.get(provider, {}))
    after = [{"cachePoint": options.pop("cachePoint")}] if "cachePoint" in options else []
    if "systemTool" in options or "toolSpec" in options:
        return [options, *after]
    spec: Body = {"name": tool.name, "inputSchema": {"json": tool.parameters}}
    if tool.description:
        spec["description"] = tool.description
    if tool.strict is not None:
        spec["strict"] = tool.strict
    return [{"toolSpec": merged(spec, options)}, *after]


def _sampling(request: ChatRequest, body: Body, fields: Body, family: Family, warnings: Warnings) -> None:
    config: Body = {}
    if request.max_output_tokens is not None:
        config["maxTokens"] = request.max_output_tokens
    refused = "" if family.sampling else "this model refuses it"
    refused = refused or ("this model refuses it while it reasons" if thinks(fields) else "")
    for name, key in (("temperature", "temperature"), ("top_p", "topP")):
        value = getattr(request, name)
        if value is None:
            continue
        if refused:
            warnings.add("unsupported", name, f"{refused}; it was not sent")
        elif name == "top_p" and family.one_of_sampling and request.temperature is not None:
            warnings.add("unsupported", name, "this model refuses it beside temperature; it was not sent")
        else:
            if not 0 <= value <= 1:
                warnings.add(
                    "changed", name, f"Converse takes it from 0 to 1; {value:g} was sent as {min(max(value, 0), 1)}"
                )
            config[key] = min(max(value, 0), 1)
    stop = [text for text in request.stop if text]
    if stop:
        config["stopSequences"] = stop
    if config:
        body["inferenceConfig"] = config
    if request.top_k is not None:
        if refused or family.top_k is None:
            why = refused or f"the field for it of a model of the family {family.name!r} is not known"
            warnings.add("unsupported", "top_k", f"{why}; it was not sent")
        else:
            *way, last = family.top_k
            at = fields
            for step in way:
                at = at.setdefault(step, {})
            at[last] = request.top_k
    for name in ("seed", "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "user_id"):
        value = getattr(request, name)
        if value is not None and value is not False:
            warnings.add("unsupported", name, "Converse has no word for it; it was not sent")


def _format(request: ChatRequest, body: Body, warnings: Warnings) -> None:
    form = request.response_format
    if form is None or form.type == "text":
        return
    if form.type == "json":
        why = "Converse has JSON that follows a schema alone; give a schema, or ask for JSON in words"
        warnings.add("unsupported", "response_format", why)
        return
    try:
        schema = json.dumps(form.schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the schema of the response format is not JSON: {error}") from None
    told: Body = {"schema": schema, "name": form.name}
    if form.description is not None:
        told["description"] = form.description
    text_format = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": told}}}
    body["outputConfig"] = {**body.get("outputConfig", {}), **text_format}


def _metadata(request: ChatRequest, body: Body, warnings: Warnings) -> None:
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
            f"Bedrock takes {_METADATA_LIMIT} entries of up to 256 letters, digits, spaces and :_@$#=/+,-. ; "
            f"{len(request.metadata) - len(sent)} were not sent"
        )
        warnings.add("left_out", "metadata", why)
    if sent:
        body["requestMetadata"] = sent
