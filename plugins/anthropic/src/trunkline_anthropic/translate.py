"""Translating a `ChatRequest` into `POST {root}/v1/messages`. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import encode_request, with_options
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.response_formats import (
    EnforceableSchema,
    add_prompt_warning,
    add_schema_warnings,
    json_instructions,
)
from trunkline.authoring.schemas import tool_parameters
from trunkline.authoring.user_id import user_identifier
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.errors import InvalidRequest
from trunkline.request import ChatRequest, Tool
from trunkline.settings import Settings

from trunkline_anthropic.caching import marked, set_breakpoints
from trunkline_anthropic.content import plain
from trunkline_anthropic.endpoint import SAMPLING_VERSIONS, MessagesEndpoint
from trunkline_anthropic.history import History, rules_for
from trunkline_anthropic.model_facts import AnthropicFacts, family_of
from trunkline_anthropic.schema import StrictSchemas
from trunkline_anthropic.thinking import set_thinking

BINDING = "thinking-binding-controls-2026-08-01"
"""The beta that lets a request choose what happens to thinking if the conversation before it has changed."""

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
    "user_id",
    "metadata",
}
"""The fields of a request that are sent, or that have specific warnings. Any other that is set gives a warning."""


class MessagesTranslator:
    """Translates requests for one service."""

    def __init__(self, context: ServiceContext[Settings], *, endpoint: MessagesEndpoint) -> None:
        self._provider = context.provider
        self._endpoint = endpoint

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """Return the wire request. Raises `InvalidRequest` for a request that cannot be sent."""
        endpoint, model = self._endpoint, request.model or ""
        warnings = Warnings()
        body, betas = messages_body(request, self._provider, endpoint, warnings)
        if not endpoint.model_in_body:
            del body["model"]
        if stream and endpoint.stream_in_body:
            body["stream"] = True
        accept = "text/event-stream" if stream else "application/json"
        return Translation(
            wire_request=WireRequest(
                url=endpoint.address("/v1/messages", model=model, stream=stream),
                headers=endpoint.request_headers(model=model, accept=accept, betas=betas),
                body=encode_request(body),
            ),
            warnings=warnings.all(),
            family=family_of(model),
        )


def messages_body(
    request: ChatRequest, provider: str, endpoint: MessagesEndpoint, warnings: Warnings
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the JSON body, without `stream`, and the beta features that the request needs besides the endpoint's."""
    model = request.model or ""
    betas = _betas((request.provider_options.get(provider) or {}).get("betas", ()))
    facts = endpoint.facts(model)
    version = endpoint.version_of(model)
    older = version in SAMPLING_VERSIONS
    rules = rules_for(provider, facts, family_of(model), takes_documents=older)
    history = History(rules, facts, warnings)
    history.translate(request.messages, thinks=request.reasoning is None or request.reasoning.effort != "none")
    body: dict[str, Any] = {"model": request.model, "messages": history.messages}
    strict = StrictSchemas()
    form = request.response_format
    # The answer comes first, since a tool that is not strict loses less than an answer.
    answer = strict.enforceable(form.schema, tool=False) if form and form.schema is not None and facts.schemas else None
    _tools(request, provider, facts, strict, body, warnings)
    enabled = endpoint.enabled(betas)
    interleaved = any(beta.startswith("interleaved-thinking") for beta in enabled)
    longer = any(beta.startswith("output-") for beta in enabled)
    set_thinking(
        request,
        facts,
        body,
        warnings,
        interleaved=interleaved,
        capped=not longer,
        lacks_thinking=history.lacks_thinking,
    )
    _format(request, answer, body, history.system, warnings)
    if history.system:
        body["system"] = plain(history.system)
    _sampling(request, facts, body, warnings, older=older, version_setting=endpoint.version_setting)
    warnings.unsupported(request, supported=SUPPORTED)
    if request.metadata:
        warnings.add(
            "unsupported", "metadata", "the Messages API has no metadata except a user id; ignored", lossy=True
        )
    user_id = user_identifier(request.user_id, endpoint.send_user_id, endpoint.user_id_key)
    if user_id is not None:
        body["metadata"] = {"user_id": user_id}
    body = with_options(body, request.provider_options, provider, joined=("output_config", "metadata", "tools"))
    body.pop("betas", None)  # sent in a header or in another field
    if request.cache is not None or history.cached or any(tool.cache for tool in request.tools):
        body = set_breakpoints(body, request.cache, warnings, automatic=endpoint.automatic_caching)
    if facts.bound_thinking and endpoint.drops_foreign_thinking and _binds(body):
        betas = (*betas, BINDING)
    body |= {name: value for name, value in endpoint.body_fields(model=model, betas=betas).items() if name not in body}
    return body, betas


def _binds(body: dict[str, Any]) -> bool:
    """Ask the API to leave out thinking that does not fit the conversation, instead of refusing the request.

    Newer models only accept thinking from the history if everything before it is unchanged: the system prompt, the
    tools and the messages. Applications change these, and remove the oldest messages of long conversations. Without the
    beta, the API would refuse to continue such a conversation. The response's `input_transformations` reports the
    thinking that was left out.
    (platform.claude.com, build-with-claude/thinking-troubleshooting; 2026-11)
    """
    thinking = body.get("thinking", {"type": "adaptive"})
    replays = any(
        block.get("type") in ("thinking", "redacted_thinking")
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
    )
    if not replays or thinking.get("type") != "adaptive" or "block_binding" in thinking:
        return False
    body["thinking"] = {**thinking, "block_binding": {"prefix_mismatch_behavior": "drop_block"}}
    return True


def _betas(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name.isascii() for name in names):
        raise InvalidRequest("provider_options 'betas' must be a list of names of beta features, in ASCII")
    return tuple(names)


def _tools(
    request: ChatRequest,
    provider: str,
    facts: AnthropicFacts,
    strict: StrictSchemas,
    body: dict[str, Any],
    warnings: Warnings,
) -> None:
    if not request.tools:
        return
    body["tools"] = [_tool(tool, provider, strict, warnings) for tool in request.tools]
    choice = request.tool_choice
    wanted: dict[str, Any] | None = None
    if choice is not None:
        kind = {"required": "any"}.get(choice.mode, choice.mode)
        wanted = {"type": kind}
        if choice.mode == "tool":
            tool = next(tool for tool in request.tools if tool.name == choice.name)
            wanted["name"] = tool.provider_options.get(provider, {}).get("name", tool.name)
        if kind in ("any", "tool") and facts.forced_tools == "no":
            warnings.add(
                "changed", "tool_choice", "this model cannot be forced to call a tool; sent as 'auto'", lossy=True
            )
            wanted = {"type": "auto"}
    if request.parallel_tool_calls is False and (wanted is None or wanted["type"] != "none"):
        wanted = {**(wanted or {"type": "auto"}), "disable_parallel_tool_use": True}
    if wanted is not None:
        body["tool_choice"] = wanted


def _tool(tool: Tool, provider: str, strict: StrictSchemas, warnings: Warnings) -> dict[str, Any]:
    options = tool.provider_options.get(provider) or {}
    if options.get("type", "custom") not in ("custom", None):
        return _cached(tool, dict(options), warnings)
    data: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        data["description"] = tool.description
    schema = dict(tool_parameters(tool, warnings))
    if tool.strict:
        enforced = strict.enforceable(schema, tool=True)
        if enforced.obstacle is None:
            add_schema_warnings(enforced, f"tool {tool.name}", warnings)
            schema = dict(enforced.schema)
            data["strict"] = True
        else:
            why = f"the API cannot enforce its schema, because {enforced.obstacle}; it was sent as not strict"
            warnings.add("changed", f"tool {tool.name}", why, lossy=True)
    return _cached(tool, {**data, "input_schema": schema, **options}, warnings)


def _cached(tool: Tool, data: dict[str, Any], warnings: Warnings) -> dict[str, Any]:
    if tool.cache is None:
        return data
    if data.get("defer_loading"):
        why = "a tool that is loaded later cannot end a cached prefix; its breakpoint was left out"
        warnings.add("left_out", "cache", why, lossy=False)
        return data
    return marked(data, tool.cache)


def _format(
    request: ChatRequest,
    answer: EnforceableSchema | None,
    body: dict[str, Any],
    system: list[dict[str, Any]],
    warnings: Warnings,
) -> None:
    form = request.response_format
    if form is None or form.type == "text":
        return
    why = "the API lacks JSON without a schema" if form.schema is None else "this model lacks structured output"
    if answer is not None and answer.obstacle is None:
        add_schema_warnings(answer, "response_format", warnings)
        schema = dict(answer.schema)
        if form.description is not None:
            schema.setdefault("description", form.description)
        output_format = {"type": "json_schema", "schema": schema}
        body["output_config"] = {**body.get("output_config", {}), "format": output_format}
        return
    if answer is not None:
        why = f"the API cannot enforce this schema, because {answer.obstacle}"
    add_prompt_warning(why, warnings)
    system.append({"type": "text", "text": json_instructions(form)})


def _sampling(
    request: ChatRequest,
    facts: AnthropicFacts,
    body: dict[str, Any],
    warnings: Warnings,
    *,
    older: bool,
    version_setting: str | None,
) -> None:
    stop = [text for text in request.stop if text.strip()]
    if len(stop) < len(request.stop):
        warnings.add("unsupported", "stop", "the API refuses blank stop sequences; they were left out", lossy=True)
    if stop:
        body["stop_sequences"] = stop
    wanted = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
    thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    for name, value in wanted.items():
        if value is None:
            continue
        if not older:
            how = f" (setting {version_setting})" if version_setting is not None else ""
            why = f"only the older version of the API supports it{how}; ignored"
        elif not facts.samples:
            why = f"{request.model} accepts only its default; ignored"
        elif thinks and not (name == "top_p" and value >= 0.95):
            why = "the API refuses it while the model thinks; ignored"
        elif name == "top_p" and "temperature" in body and not facts.samples_both:
            why = f"{request.model} accepts either temperature or top_p; temperature was sent"
        else:
            if name == "temperature" and value > 1:
                warnings.add("changed", name, "the maximum is 1; lowered to 1", lossy=True)
                value = 1
            body[name] = value
            continue
        warnings.add("unsupported", name, why, lossy=True)
