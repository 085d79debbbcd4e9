"""ChatRequest -> POST {base}/responses. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from trunkline.authoring.json import encode_request, with_options
from trunkline.authoring.provider import MediaClass, Translation
from trunkline.authoring.replay import join_texts
from trunkline.authoring.response_formats import add_prompt_warning, with_json_instructions
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.messages import Audio, Document, Image, Message, Text
from trunkline.request import ChatRequest, Tool

from trunkline_openai.caching import set_breakpoints, set_lifetime, wants_breakpoints, wire_key
from trunkline_openai.features import Feature
from trunkline_openai.model_facts import ModelFacts, accepted_effort
from trunkline_openai.profile_translator import ProfileTranslator
from trunkline_openai.responses_history import HistoryOptions, takes_no_reasoning, turns
from trunkline_openai.responses_input import InputItems
from trunkline_openai.schemas import SUBSETS, accepted_schema, named_schema, strict_schema
from trunkline_openai.translate import request_headers, sent_user_id

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
    "background",
    "user_id",
    "metadata",
}
"""The fields of a request that are sent, or that have specific warnings. Any other that is set gives a warning."""


class ResponsesTranslator(ProfileTranslator):
    """Translates requests for one service. A variant overrides `body`, which runs on the translator of one model.

    The provider is asked not to store the response (`store` is false), and to send reasoning in encrypted form instead.
    The request then has the whole history. `provider_options` can change this and continue a stored response.
    """

    @property
    def accepted(self) -> frozenset[str]:
        """The features that the server and the model support on this API."""
        return self.profile.responses

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """The request to send. Raises `InvalidRequest` for a request that can never be sent."""
        warnings = Warnings()
        translator = self.for_model(request.model or "")
        body = translator.whole_body(request, warnings, stream=stream)
        return Translation(
            wire_request=self.wire_request("/responses", request.model, body, stream=stream),
            warnings=warnings.all(),
            family=self.family(request.model or "", translator.facts),
        )

    def wire_request(
        self, path: str, model: str | None, body: dict[str, Any] | None, *, stream: bool = False
    ) -> WireRequest:
        """A request to an endpoint of this API: a POST of `body`, or a GET without one."""
        settings = self.context.settings
        accept = "text/event-stream" if stream else "application/json"
        return WireRequest(
            method="GET" if body is None else "POST",
            url=self.url(settings, path, model),
            headers=request_headers(settings, accept=accept, further=self.headers(settings)),
            body=b"" if body is None else encode_request(body),
        )

    def whole_body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, with the request's `provider_options`."""
        body = self.body(request, warnings, stream=stream)
        return with_options(body, request.provider_options, self.context.provider, joined=JOINED)

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, without the request's `provider_options`."""
        request = self._with_instructions(request, warnings)
        takes, facts = self.accepted, self.facts
        body: dict[str, Any] = {"model": request.model}
        self._conversation(request, body, warnings)
        set_lifetime(request, facts if "cache_key" in takes else ModelFacts(), body, warnings)
        if request.cache_key is not None and self.takes("cache_key", "cache_key", warnings, lossy=False):
            body["prompt_cache_key"] = wire_key(request.cache_key)
        if request.background and self.takes("background", "background", warnings, lossy=False):
            body |= {"background": True, "store": True}
        elif "store" in takes:
            body["store"] = False
        include = [ENCRYPTED_REASONING] if self.wants_encrypted_reasoning(request) else []
        self._tools(request, body, warnings)
        self._format(request, body, warnings)
        self._reasoning(request, body, warnings)
        self._sampling(request, body, include, warnings)
        if include:
            body["include"] = include
        if request.metadata and self.takes("metadata", "metadata", warnings):
            body["metadata"] = dict(request.metadata)
        user_id, field = sent_user_id(request.user_id, self.context.settings), self.profile.user_id_field
        if user_id is not None and field is not None:
            body[field] = user_id
        elif user_id is not None:
            warnings.add("unsupported", "user_id", "not supported by this server; ignored", lossy=True)
        if stream:
            body["stream"] = True
            if "stream_options" in takes:
                body["stream_options"] = {"include_obfuscation": False}
        return body

    def wants_encrypted_reasoning(self, request: ChatRequest) -> bool:
        """Whether to ask for reasoning in encrypted form, which only the model can read."""
        return "encrypted_reasoning" in self.accepted and not takes_no_reasoning(self.facts)

    def _conversation(self, request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
        provider, facts, messages = self.context.provider, self.facts, request.messages
        options = request.provider_options.get(provider, {})
        custom = {tool.name for tool in request.tools if self._kind(tool) == "custom"}
        breakpoints = facts.cache == "breakpoints" and "cache_breakpoints" in self.accepted
        breakpoints = breakpoints and wants_breakpoints(request)
        items = InputItems(
            provider,
            warnings,
            custom_tools=custom,
            breakpoints=breakpoints,
            takes=self.accepted,
        )
        images: tuple[MediaClass, ...] = (Image,) if self.accepted & {"image_url", "image_data"} else ()
        history = HistoryOptions(
            provider=provider,
            family=self.family(request.model or "", facts),
            readable_media=(*images, Document, Audio),
            stored=bool(options.get("store") or (request.background and "background" in self.accepted)),
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

    def _kind(self, tool: Tool) -> str:
        kind = tool.provider_options.get(self.context.provider, {}).get("type", "function")
        return kind if isinstance(kind, str) else "function"

    def _tools(self, request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
        choice = request.tool_choice
        if not request.tools or not self.takes("tools", "tools", warnings):
            return
        if choice is not None and choice.mode == "none" and "tool_choice_none" not in self.accepted:
            why = "this server cannot forbid tool calls, so the tools were not sent"
            warnings.add("emulated", "tool_choice", why, lossy=False)
            return
        body["tools"] = [self._tool(tool, warnings) for tool in request.tools]
        parallel = request.parallel_tool_calls
        if parallel is not None and self.takes(
            "parallel_tool_calls", "parallel_tool_calls", warnings, lossy=not parallel
        ):
            body["parallel_tool_calls"] = parallel
        if choice is None:
            return
        if choice.mode == "tool":
            if self.takes("tool_choice_named", "tool_choice", warnings):
                kind = next(self._kind(tool) for tool in request.tools if tool.name == choice.name)
                named = kind in ("function", "custom")
                body["tool_choice"] = {"type": kind, "name": choice.name} if named else {"type": kind}
        elif choice.mode != "required" or self.takes("tool_choice_required", "tool_choice", warnings):
            body["tool_choice"] = choice.mode

    def _tool(self, tool: Tool, warnings: Warnings) -> dict[str, Any]:
        options = tool.provider_options.get(self.context.provider, {})
        kind = self._kind(tool)
        if kind not in ("function", "custom"):
            return dict(options)
        data: dict[str, Any] = {"type": kind, "name": tool.name}
        if tool.description is not None:
            data["description"] = tool.description
        if kind == "function":
            schema, strict = accepted_schema(tool, self.profile.schemas, warnings), None
            if "strict_tools" in self.accepted:
                schema, strict = strict_schema(tool, schema, SUBSETS[self.profile.answer_schemas], warnings)
            elif tool.strict:
                self.takes("strict_tools", "strict tools", warnings)
            # Without `strict` the server assumes true, and then refuses most schemas.
            data |= {"parameters": schema, "strict": bool(strict)}
        return {**data, **options}

    def _with_instructions(self, request: ChatRequest, warnings: Warnings) -> ChatRequest:
        """Ask for JSON in the system prompt if the server cannot be asked for it, or for this schema."""
        form, takes = request.response_format, self.accepted
        if (
            form is None
            or form.type == "text"
            or ("json_schema" if form.schema is not None else "json_object") in takes
        ):
            return request
        what = "schemas" if form.schema is not None and "json_object" in takes else "structured output"
        add_prompt_warning(f"this server or model does not support {what}", warnings)
        return attrs.evolve(request, messages=with_json_instructions(request.messages, form))

    def _format(self, request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
        form, takes = request.response_format, self.accepted
        if form is None or form.type == "text":
            return
        if form.type == "json_schema" and "json_schema" in takes:
            schema = named_schema(form, SUBSETS[self.profile.answer_schemas], warnings)
            body["text"] = {"format": {"type": "json_schema", **schema}}
        elif "json_object" in takes:
            body["text"] = {"format": {"type": "json_object"}}

    def _reasoning(self, request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
        options, facts = request.reasoning, self.facts
        if options is None:
            return
        reasoning: dict[str, Any] = {}
        if options.effort is not None and self.takes("reasoning_effort", "reasoning.effort", warnings):
            reasoning["effort"] = accepted_effort(options, facts, request.model or "", warnings)
        if options.summary is not None and takes_no_reasoning(facts):
            warnings.add("unsupported", "reasoning.summary", f"{request.model} does not reason; ignored", lossy=True)
        elif options.summary is not None and self.takes("reasoning_summary", "reasoning.summary", warnings):
            reasoning["summary"] = options.summary
        if reasoning := {name: value for name, value in reasoning.items() if value is not None}:
            body["reasoning"] = reasoning
        if options.max_tokens is not None:
            why = "not supported by the Responses API; ignored, use effort"
            warnings.add("unsupported", "reasoning.max_tokens", why, lossy=True)

    def _sampling(self, request: ChatRequest, body: dict[str, Any], include: list[str], warnings: Warnings) -> None:
        limit = request.max_output_tokens
        if limit is not None:
            # Other servers with this API accept any limit. Their models are of other families.
            least = MIN_OUTPUT_TOKENS if self.facts.family == "gpt" else 1
            body["max_output_tokens"] = max(limit, least)
            if limit < least:
                why = f"the lowest limit of the Responses API is {MIN_OUTPUT_TOKENS}; {MIN_OUTPUT_TOKENS} was sent"
                warnings.add("changed", "max_output_tokens", why, lossy=True)
        reasoning = self.facts.is_reasoning(body.get("reasoning", {}).get("effort"))
        for name, feature, value in _sampled(request):
            if value is None:
                continue
            if reasoning and feature in self.facts.refuses_while_reasoning:
                why = f"{request.model} does not accept it while reasoning; ignored"
                warnings.add("unsupported", name, why, lossy=True)
            elif feature == "temperature":
                if feature in self.facts.refuses:
                    why = f"{request.model} does not accept it; ignored"
                    warnings.add("unsupported", name, why, lossy=True)
                else:
                    body[name] = value
            elif not self.takes(feature, name, warnings):
                continue
            elif name == "logprobs":
                include.append(LOGPROBS)
            else:
                body[name] = value
        warnings.unsupported(request, supported=SUPPORTED)


class CompatibleResponsesTranslator(ResponsesTranslator):
    """Translates for any server. An unknown model gets only its own reasoning back."""

    def family(self, model: str, facts: ModelFacts) -> str | None:
        """The family of a model, or the model's name if the family is not known."""
        return facts.family or model.rpartition("/")[2].lower() or None


def _sampled(request: ChatRequest) -> Iterable[tuple[str, Feature, Any]]:
    return (
        ("temperature", "temperature", request.temperature),
        ("top_p", "top_p", request.top_p),
        ("logprobs", "logprobs", request.logprobs or None if request.top_logprobs is None else True),
        ("top_logprobs", "logprobs", request.top_logprobs),
    )


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
