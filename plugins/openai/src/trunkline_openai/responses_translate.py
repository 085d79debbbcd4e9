"""ChatRequest -> POST {base}/responses. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import JSONObject, encode_request, with_options
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.authoring.replay import join_texts
from trunkline.authoring.schemas import tool_parameters
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.messages import Message, Text
from trunkline.request import ChatRequest, Tool

from trunkline_openai.caching import set_breakpoints, set_lifetime, wants_breakpoints, wire_key
from trunkline_openai.model_facts import OPENAI_MODELS, ModelFacts, accepted_effort, facts_of
from trunkline_openai.responses_history import HistoryOptions, takes_no_reasoning, turns
from trunkline_openai.responses_input import InputItems
from trunkline_openai.schemas import OPENAI_SUBSET, named_schema, strict_schema
from trunkline_openai.translate import request_headers, sent_user_id
from trunkline_openai.urls import UrlFor, default_url

ENCRYPTED_REASONING = "reasoning.encrypted_content"
LOGPROBS = "message.output_text.logprobs"

MIN_OUTPUT_TOKENS = 16
"""The lowest output limit that the API accepts. Source: recorded responses with status 400."""

JOINED = ("text", "reasoning", "metadata", "stream_options", "tool_choice", "include", "tools")
"""Fields of the body that `provider_options` extend instead of replacing them."""

SUPPORTED = {
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning",
    "max_output_tokens",
    "temperature",
    "top_p",
    "logprobs",
    "top_logprobs",
    "cache",
    "cache_key",
    "user_id",
    "metadata",
}
"""The fields of a request that are sent, or that have specific warnings. Any other that is set gives a warning."""


class ResponsesTranslator:
    """Translates requests for one service. A variant overrides `body`.

    OpenAI is asked not to store the response (`store` is false), and to send reasoning in encrypted form instead. The
    request then has the whole history. `provider_options` can change this and continue a stored response.
    """

    def __init__(self, context: ServiceContext[Any], *, url: UrlFor[Any] = default_url) -> None:
        self.context = context
        self._url = url

    def facts_about(self, model: str) -> ModelFacts:
        """The facts about a model, including overrides from the setting `model_facts`."""
        return openai_facts(self.context, model)

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """The request to send. Raises `InvalidRequest` for a request that can never be sent."""
        warnings = Warnings()
        facts = self.facts_about(request.model or "")
        body = self.body(request, facts, warnings, stream=stream)
        settings = self.context.settings
        body = with_options(body, request.provider_options, self.context.provider, joined=JOINED)
        return Translation(
            wire_request=WireRequest(
                url=self._url(settings, "/responses", request.model),
                headers=request_headers(settings, accept="text/event-stream" if stream else "application/json"),
                body=encode_request(body),
            ),
            warnings=warnings.all(),
            family=facts.family,
        )

    def body(self, request: ChatRequest, facts: ModelFacts, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, without the request's `provider_options`."""
        body = responses_body(request, self.context, facts, warnings)
        if stream:
            body["stream"] = True
            body["stream_options"] = {"include_obfuscation": False}
        return body


def openai_facts(context: ServiceContext[Any], model: str) -> ModelFacts:
    """The facts about one of OpenAI's models."""
    return facts_of(model, OPENAI_MODELS, context.settings.model_facts)


def responses_body(
    request: ChatRequest, context: ServiceContext[Any], facts: ModelFacts, warnings: Warnings
) -> dict[str, Any]:
    """The JSON body, without streaming and the request's `provider_options`."""
    provider = context.provider
    options = request.provider_options.get(provider, {})
    body: dict[str, Any] = {"model": request.model}
    _conversation(request, body, facts, warnings, provider, options)
    set_lifetime(request, facts, body, warnings)
    if request.cache_key is not None:
        body["prompt_cache_key"] = wire_key(request.cache_key)
    body["store"] = False
    body["include"] = [] if takes_no_reasoning(facts) else [ENCRYPTED_REASONING]
    _tools(request, body, provider, warnings)
    _format(request, body, warnings)
    _reasoning(request, body, facts, warnings)
    _sampling(request, body, facts, warnings)
    if not body["include"]:
        del body["include"]
    if request.metadata:
        body["metadata"] = dict(request.metadata)
    user_id = sent_user_id(request.user_id, context.settings)
    if user_id is not None:
        body["safety_identifier"] = user_id
    return body


def _conversation(
    request: ChatRequest,
    body: dict[str, Any],
    facts: ModelFacts,
    warnings: Warnings,
    provider: str,
    options: JSONObject,
) -> None:
    messages = request.messages
    custom = {tool.name for tool in request.tools if _kind(tool, provider) == "custom"}
    breakpoints = facts.cache == "breakpoints" and wants_breakpoints(request)
    items = InputItems(provider, warnings, custom_tools=custom, breakpoints=breakpoints)
    history = HistoryOptions(
        provider=provider,
        stored=bool(options.get("store")),
        continued=any(options.get(name) for name in ("previous_response_id", "conversation", "prompt")),
    )
    # `instructions` cannot have a breakpoint, but a stored response would keep the items that replace them.
    if (not breakpoints or history.continued) and _is_instructions(messages[0], request, provider):
        body["instructions"] = join_texts(part.text for part in messages[0].parts if isinstance(part, Text))
        messages = messages[1:]
    for turn in turns(messages, history, facts, warnings):
        items.add(turn)
    body["input"] = items.items
    if breakpoints:
        body["input"] = set_breakpoints(items.items, warnings, lifetime=request.cache, text_type="input_text")


def _is_instructions(message: Message, request: ChatRequest, provider: str) -> bool:
    """Whether a message can become the `instructions`, which are a plain string."""
    if message.role != "system" or message.name is not None or message.provider_options.get(provider):
        return False
    if not all(
        isinstance(part, Text) and not part.refusal and not part.provider_options.get(provider)
        for part in message.parts
    ):
        return False
    # JSON mode requires the word JSON in the input items. The instructions do not count.
    form = request.response_format
    return not (form is not None and form.type == "json" and "json" in message.text.lower())


def _kind(tool: Tool, provider: str) -> str:
    kind = tool.provider_options.get(provider, {}).get("type", "function")
    return kind if isinstance(kind, str) else "function"


def _tools(request: ChatRequest, body: dict[str, Any], provider: str, warnings: Warnings) -> None:
    if not request.tools:
        return
    body["tools"] = [_tool(tool, provider, warnings) for tool in request.tools]
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    choice = request.tool_choice
    if choice is None:
        return
    body["tool_choice"] = choice.mode
    if choice.mode == "tool":
        kind = next(_kind(tool, provider) for tool in request.tools if tool.name == choice.name)
        named = kind in ("function", "custom")
        body["tool_choice"] = {"type": kind, "name": choice.name} if named else {"type": kind}


def _tool(tool: Tool, provider: str, warnings: Warnings) -> dict[str, Any]:
    options = tool.provider_options.get(provider, {})
    kind = _kind(tool, provider)
    if kind not in ("function", "custom"):
        return dict(options)
    data: dict[str, Any] = {"type": kind, "name": tool.name}
    if tool.description is not None:
        data["description"] = tool.description
    if kind == "function":
        schema, strict = strict_schema(tool, tool_parameters(tool, warnings), OPENAI_SUBSET, warnings)
        # Without `strict` the server assumes true, and then refuses most schemas.
        data |= {"parameters": schema, "strict": bool(strict)}
    return {**data, **options}


def _format(request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
    form = request.response_format
    if form is None or form.type == "text":
        return
    if form.type == "json":
        body["text"] = {"format": {"type": "json_object"}}
        return
    data = {"type": "json_schema", **named_schema(form, OPENAI_SUBSET, warnings)}
    body["text"] = {"format": data}


def _reasoning(request: ChatRequest, body: dict[str, Any], facts: ModelFacts, warnings: Warnings) -> None:
    options = request.reasoning
    if options is None:
        return
    wanted = {"effort": accepted_effort(options, facts, request.model or "", warnings), "summary": options.summary}
    if takes_no_reasoning(facts) and wanted.pop("summary") is not None:
        warnings.add("unsupported", "reasoning.summary", f"{request.model} does not reason; ignored", lossy=True)
    if reasoning := {name: value for name, value in wanted.items() if value is not None}:
        body["reasoning"] = reasoning
    if options.max_tokens is not None:
        warnings.add(
            "unsupported", "reasoning.max_tokens", "not supported by the Responses API; ignored, use effort", lossy=True
        )


def _sampling(request: ChatRequest, body: dict[str, Any], facts: ModelFacts, warnings: Warnings) -> None:
    limit = request.max_output_tokens
    if limit is not None:
        # Other servers with this API accept any limit. Their models are not in the table.
        least = MIN_OUTPUT_TOKENS if facts.family is not None else 1
        body["max_output_tokens"] = max(limit, least)
        if limit < least:
            why = f"the lowest limit of the Responses API is {MIN_OUTPUT_TOKENS}; {MIN_OUTPUT_TOKENS} was sent"
            warnings.add("changed", "max_output_tokens", why, lossy=True)
    wanted: list[tuple[str, Any]] = [
        ("temperature", request.temperature),
        ("top_p", request.top_p),
        ("logprobs", request.logprobs or None if request.top_logprobs is None else True),
        ("top_logprobs", request.top_logprobs),
    ]
    reasoning = facts.is_reasoning(body.get("reasoning", {}).get("effort"))
    for name, value in wanted:
        if value is None:
            continue
        if reasoning:
            warnings.add(
                "unsupported", name, f"{request.model} does not accept it while reasoning; ignored", lossy=True
            )
        elif name == "logprobs":
            body["include"].append(LOGPROBS)
        else:
            body[name] = value
    warnings.unsupported(request, supported=SUPPORTED)
