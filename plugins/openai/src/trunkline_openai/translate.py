"""ChatRequest -> POST {base}/chat/completions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
from trunkline.authoring.json import as_object, encode_request, with_options
from trunkline.authoring.provider import Translation
from trunkline.authoring.response_formats import add_prompt_warning, with_json_instructions
from trunkline.authoring.user_id import user_identifier
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest, ReasoningOptions, Tool
from trunkline.secrets import Secret
from trunkline.settings import Settings

from trunkline_openai.caching import header_key, set_breakpoints, set_cache_control, set_lifetime, wire_key
from trunkline_openai.features import Feature, ReasoningOff
from trunkline_openai.history import History
from trunkline_openai.model_facts import ModelFacts, accepted_effort
from trunkline_openai.profile import Profile
from trunkline_openai.profile_translator import ProfileTranslator
from trunkline_openai.schemas import SUBSETS, accepted_schema, named_schema, strict_schema

_NONE: Mapping[str, str] = {}


def request_headers(
    settings: Settings, *, accept: str = "application/json", further: Mapping[str, str] = _NONE
) -> Mapping[str, str]:
    """The headers of a request, except for credentials. The setting `headers` takes precedence, then `further`."""
    headers = {"content-type": "application/json", "accept": accept}
    for setting, header in (("organization_id", "openai-organization"), ("project_id", "openai-project")):
        value = getattr(settings, setting, None)
        if isinstance(value, str):
            headers[header] = value
    for added in (further, settings.headers):
        headers |= {name.lower(): value for name, value in added.items()}
    return headers


_OFF: Mapping[ReasoningOff, Mapping[str, Any]] = {
    "reasoning_effort": {"reasoning_effort": "none"},
    "thinking": {"thinking": {"type": "disabled"}},
    "enable_thinking": {"enable_thinking": False},
}


class ChatTranslator(ProfileTranslator):
    """Translates requests for one service. A variant of the API overrides `body`, or sets its own `history`.

    `profile`, `url` and `headers` are those of `chat_completions`. `body` runs on a copy of the translator that has the
    `facts` and the `profile` of the requested model.
    """

    history: ClassVar[type[History]] = History

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """The request to send. Raises `InvalidRequest` for a request that can never be sent."""
        warnings = Warnings()
        translator = self.for_model(request.model or "")
        body = translator.body(request, warnings, stream=stream)
        body = with_options(body, request.provider_options, self.context.provider)
        settings = self.context.settings
        wire_request = WireRequest(
            method="POST",
            url=self.url(settings, "/chat/completions", request.model),
            headers=request_headers(
                settings,
                accept="text/event-stream" if stream else "application/json",
                further={**self.headers(settings), **self._key_header(request)},
            ),
            body=encode_request(body),
        )
        family = self.family(request.model or "", translator.facts)
        return Translation(wire_request=wire_request, warnings=warnings.all(), family=family)

    def body(self, request: ChatRequest, warnings: Warnings, *, stream: bool) -> dict[str, Any]:
        """The JSON body, without the request's `provider_options`."""
        request = self._with_instructions(request, warnings)
        developer = self.profile.developer_role and self.facts.reasons != "never"
        history = self.history(
            provider=self.context.provider,
            profile=self._profile_for_history(request),
            system_role="developer" if developer else self.profile.system_role,
            warnings=warnings,
            family=self.family(request.model or "", self.facts),
        )
        body: dict[str, Any] = {"model": request.model, "messages": history.translate(request.messages)}
        self._cache(request, body, warnings)
        if stream:
            body["stream"] = True
            options = {"include_usage": True} if self.profile.stream_options else {}
            if self.profile.obfuscation:
                options["include_obfuscation"] = False
            if options:
                body["stream_options"] = options
        self._tools(request, body, warnings)
        self._format(request, body, warnings)
        effort = self._reasoning(request, body, warnings)
        reasoning = self.facts.is_reasoning(effort)
        if reasoning:
            self._choice_while_reasoning(request, body, warnings)
        self._sampling(request, body, warnings, reasoning=reasoning)
        self._identity(request, body, warnings)
        if request.background:
            why = "not supported by Chat Completions; ignored, use the Responses API"
            warnings.add("unsupported", "background", why, lossy=False)
        return body

    def _cache(self, request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
        takes = self.profile.takes
        if "cache_control" in takes:
            body["messages"] = set_cache_control(body["messages"], warnings, lifetime=request.cache)
        else:
            if "cache_breakpoints" in takes:
                body["messages"] = set_breakpoints(body["messages"], warnings, lifetime=request.cache)
            if request.cache is not None:
                set_lifetime(request, self.facts if "cache_key" in takes else ModelFacts(), body, warnings)
        if request.cache_key is None or self._key_header(request):
            return
        if self.takes("cache_key", "cache_key", warnings, lossy=False):
            body["prompt_cache_key"] = wire_key(request.cache_key)

    def _key_header(self, request: ChatRequest) -> dict[str, str]:
        """The header with the request's `cache_key`, for servers that have one."""
        header = self.profile.cache_key_header
        return {header: header_key(request.cache_key)} if header is not None and request.cache_key else {}

    def _profile_for_history(self, request: ChatRequest) -> Profile:
        # If the model does not reason in this call, it needs no reasoning in the history.
        if self.profile.reasoning_filler is None or self.facts.reasons in ("always", "never"):
            return self.profile
        effort = request.reasoning.effort if request.reasoning is not None else None
        thinking = as_object(request.provider_options.get(self.context.provider, {}).get("thinking"))
        if self.facts.is_reasoning(effort) and thinking.get("type") != "disabled":
            return self.profile
        return attrs.evolve(self.profile, reasoning_filler=None)

    def _tools(self, request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
        choice = request.tool_choice
        if not request.tools or not self.takes("tools", "tools", warnings):
            return
        if choice is not None and choice.mode == "none" and "tool_choice_none" not in self.profile.takes:
            warnings.add(
                "emulated",
                "tool_choice",
                "this server cannot forbid tool calls, so the tools were not sent",
                lossy=False,
            )
            return
        body["tools"] = [self._tool(tool, warnings) for tool in request.tools]
        parallel = request.parallel_tool_calls
        # To allow several calls is the default of every model.
        if parallel is not None and self.takes(
            "parallel_tool_calls", "parallel_tool_calls", warnings, lossy=not parallel
        ):
            body["parallel_tool_calls"] = parallel
        if choice is None:
            return
        if choice.mode == "tool":
            if self.takes("tool_choice_named", "tool_choice", warnings):
                body["tool_choice"] = self._named(request.tools, choice.name)
        elif choice.mode != "required" or self.takes("tool_choice_required", "tool_choice", warnings):
            body["tool_choice"] = choice.mode

    def _named(self, tools: tuple[Tool, ...], name: str | None) -> dict[str, Any]:
        tool = next(tool for tool in tools if tool.name == name)
        kind = tool.provider_options.get(self.context.provider, {}).get("type", "function")
        if kind == "custom":
            return {"type": "custom", "custom": {"name": name}}
        return {"type": "function", "function": {"name": name}} if kind == "function" else {"type": kind}

    def _tool(self, tool: Tool, warnings: Warnings) -> dict[str, Any]:
        options = tool.provider_options.get(self.context.provider, {})
        if options.get("type", "function") != "function":
            return dict(options)
        function: dict[str, Any] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        schema, strict = accepted_schema(tool, self.profile.schemas, warnings), None
        if "strict_tools" in self.profile.takes:
            schema, strict = strict_schema(tool, schema, SUBSETS[self.profile.answer_schemas], warnings)
        elif tool.strict:
            self.takes("strict_tools", "strict tools", warnings)
        function["parameters"] = schema
        if strict is not None:
            function["strict"] = strict
        return {"type": "function", "function": function, **options}

    def _with_instructions(self, request: ChatRequest, warnings: Warnings) -> ChatRequest:
        """Ask for JSON in the system prompt if the server cannot be asked for it, or for this schema."""
        form, takes = request.response_format, self.profile.takes
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
        form, takes = request.response_format, self.profile.takes
        if form is None or form.type == "text":
            return
        if form.type == "json_schema" and "json_schema" in takes:
            schema = named_schema(form, SUBSETS[self.profile.answer_schemas], warnings)
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif "json_object" in takes:
            body["response_format"] = {"type": "json_object"}

    def _reasoning(self, request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> str | None:
        """Add the options of reasoning to the body, and return the effort that is sent."""
        options = request.reasoning
        effort = self._effort(options, request.model or "", body, warnings) if options is not None else None
        for name in ("max_tokens", "summary"):
            if getattr(options, name, None) is not None:
                warnings.add(
                    "unsupported",
                    f"reasoning.{name}",
                    "not supported by Chat Completions; ignored, use effort",
                    lossy=True,
                )
        return self._tools_or_reasoning(request, effort, body, warnings)

    def _effort(self, options: ReasoningOptions, model: str, body: dict[str, Any], warnings: Warnings) -> str | None:
        off = self.facts.reasoning_off
        if options.effort == "none" and self.facts.reasons in ("default", "opt_in"):
            refused = "reasoning_effort" in self.facts.refuses
            if refused or off != "reasoning_effort":
                body |= _OFF[off]
                return "none"
        if options.effort is None or not self.takes("reasoning_effort", "reasoning.effort", warnings):
            return None
        effort = accepted_effort(options, self.facts, model, warnings)
        if effort is not None:
            body["reasoning_effort"] = effort
            if off == "enable_thinking" and self.facts.reasons == "opt_in":
                body["enable_thinking"] = True
        return effort

    def _choice_while_reasoning(self, request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
        choice = body.get("tool_choice")
        if choice == "required":
            feature: Feature = "tool_choice_required"
        elif isinstance(choice, dict):
            feature = "tool_choice_named"
        else:
            return
        if feature in self.facts.refuses_while_reasoning:
            del body["tool_choice"]
            why = f"{request.model} cannot be forced to call a tool unless reasoning is off; ignored"
            warnings.add("unsupported", "tool_choice", why, lossy=True)

    def _tools_or_reasoning(
        self, request: ChatRequest, effort: str | None, body: dict[str, Any], warnings: Warnings
    ) -> str | None:
        """Turn reasoning off if the model refuses tools while it reasons. Returns the effort that is sent."""
        if self.facts.tools_while_reasoning or "tools" not in body or not self.facts.is_reasoning(effort):
            return effort
        if "none" not in (self.facts.efforts or ()):
            return effort
        body["reasoning_effort"] = "none"
        why = (
            f"in Chat Completions, {request.model} accepts tools only without reasoning; use the Responses API for both"
        )
        warnings.add("changed", "reasoning.effort", why, lossy=effort is not None)
        return "none"

    def _sampling(self, request: ChatRequest, body: dict[str, Any], warnings: Warnings, *, reasoning: bool) -> None:
        if request.max_output_tokens is not None:
            body[self.profile.max_tokens_field] = request.max_output_tokens
        wanted: list[tuple[str, Feature, Any]] = [
            ("temperature", "temperature", request.temperature),
            ("top_p", "top_p", request.top_p),
            ("frequency_penalty", "penalties", request.frequency_penalty),
            ("presence_penalty", "penalties", request.presence_penalty),
            ("logprobs", "logprobs", True if request.top_logprobs is not None else request.logprobs or None),
            ("top_logprobs", "logprobs", request.top_logprobs),
            ("stop", "stop", list(request.stop) or None),
        ]
        for name, feature, value in wanted:
            if value is None:
                continue
            if reasoning and feature in self.facts.refuses_while_reasoning:
                warnings.add(
                    "unsupported", name, f"{request.model} does not accept it while reasoning; ignored", lossy=True
                )
            elif feature == "temperature":
                if feature in self.facts.refuses:
                    why = f"{request.model} does not accept it; ignored"
                    warnings.add("unsupported", name, why, lossy=True)
                else:
                    body[name] = value
            elif self.takes(feature, name, warnings):
                body[name] = value
        for name in ("seed", "top_k"):
            value = getattr(request, name)
            if value is not None and self.takes(name, name, warnings):
                body[name] = value
        limit = self.profile.stop_limit
        if limit is not None and len(body.get("stop", ())) > limit:
            body["stop"] = body["stop"][:limit]
            warnings.add(
                "unsupported",
                "stop",
                f"this server accepts {limit} stop sequences; only the first {limit} were sent",
                lossy=True,
            )

    def _identity(self, request: ChatRequest, body: dict[str, Any], warnings: Warnings) -> None:
        if request.metadata and self.takes("metadata", "metadata", warnings):
            body["metadata"] = dict(request.metadata)
        field, user_id = self.profile.user_id_field, sent_user_id(request.user_id, self.context.settings)
        if user_id is not None and field is not None:
            body[field] = user_id
        elif user_id is not None:
            warnings.add("unsupported", "user_id", "not supported by this server; ignored", lossy=True)


class CompatibleTranslator(ChatTranslator):
    """Translates for any server. An unknown model gets only its own reasoning back."""

    def family(self, model: str, facts: ModelFacts) -> str | None:
        """The family of a model, or the model's name if the family is not known."""
        return facts.family or model.rpartition("/")[2].lower() or None


def sent_user_id(user_id: str | None, settings: Settings) -> str | None:
    """The user's id as it is sent with these settings, or `None`."""
    api_key = getattr(settings, "api_key", None)
    send = getattr(settings, "send_user_id", False)
    return user_identifier(user_id, send, api_key if isinstance(api_key, Secret) else None)
