"""Requests: the conversation to send, and the options that shape the response."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, TypedDict, cast, get_args

import attrs

from trunkline._base_errors import InvalidRequest, refuse_dict
from trunkline._field_types import (
    COUNT_OR_NONE,
    FLAG_OR_NONE,
    JSON_OBJECT,
    NUMBER_OR_NONE,
    OPTIONS,
    TEXT,
    TEXT_OR_NONE,
    TEXTS,
    FieldTypes,
    Kind,
    shown,
)
from trunkline._json import JSONObject, ProviderOptions
from trunkline._masking import listed
from trunkline.inputs import Input, as_inputs, as_strings, as_tuple
from trunkline.messages import CacheLifetime, Message, check_cache, user

ToolChoiceMode: TypeAlias = Literal["auto", "none", "required", "tool"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_EMPTY_SCHEMA: JSONObject = {"type": "object", "properties": {}}


@attrs.frozen(kw_only=True)
class Tool:
    """A function that the model may call.

    `parameters` is the JSON Schema of the arguments, which must be an object. `strict=True` asks the provider to
    enforce the schema. `cache` asks the provider to cache the tools up to this one, as that of a part does. For a
    provider's hosted tool, put its complete definition, with its `type`, in `provider_options`.
    """

    name: str
    description: str | None = None
    parameters: JSONObject = attrs.field(factory=lambda: dict(_EMPTY_SCHEMA))
    strict: bool | None = None
    cache: CacheLifetime | None = attrs.field(default=None, repr=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        _TOOL_TYPES.check(self)
        check_cache(self.cache, "Tool")


_TOOL_TYPES = FieldTypes(
    {
        "name": TEXT,
        "description": TEXT_OR_NONE,
        "parameters": JSON_OBJECT,
        "strict": FLAG_OR_NONE,
        "provider_options": OPTIONS,
    }
)


@attrs.frozen(kw_only=True)
class ToolChoice:
    """Whether the model may (`auto`), must not (`none`) or must (`required`) call a tool, or must call one (`tool`)."""

    mode: ToolChoiceMode
    name: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.mode not in ("auto", "none", "required", "tool"):
            raise InvalidRequest(
                f"the mode of a tool choice must be auto, none, required or tool (with a name), not {shown(self.mode)}"
            )
        if (self.mode == "tool") != (self.name is not None):
            raise InvalidRequest("a tool choice needs a name if its mode is 'tool', and takes none otherwise")
        if not isinstance(self.name, (str, type(None))):
            raise InvalidRequest(f"the name of a tool choice must be a string, not {type(self.name).__name__}")

    @staticmethod
    def tool(name: str) -> ToolChoice:
        """Create the choice that makes the model call the tool `name`."""
        return ToolChoice(mode="tool", name=name)


@attrs.frozen(kw_only=True)
class ResponseFormat:
    """The form of the response's text: free text, any JSON, or JSON that follows `schema`.

    `name` and `description` tell the model what the schema is for. `strict=True` asks the provider to enforce the
    schema. It is then sent in the part of JSON Schema that the provider enforces: for example, objects are closed, and
    for OpenAI, optional properties are required and may be `null`.
    """

    type: Literal["text", "json", "json_schema"] = "json_schema"
    schema: JSONObject | None = None
    name: str = "answer"
    description: str | None = None
    strict: bool | None = True

    def __attrs_post_init__(self) -> None:
        if self.type not in ("text", "json", "json_schema"):
            raise InvalidRequest(
                f"the type of a response format must be text, json or json_schema, not {shown(self.type)}"
            )
        if (self.type == "json_schema") != (self.schema is not None):
            raise InvalidRequest(
                "a response format needs a schema if its type is 'json_schema', and takes none otherwise"
            )
        _FORMAT_TYPES.check(self)


_FORMAT_TYPES = FieldTypes(
    {
        "schema": JSON_OBJECT.optional(),
        "name": TEXT,
        "description": TEXT_OR_NONE,
        "strict": FLAG_OR_NONE,
    }
)


@attrs.frozen(kw_only=True)
class ReasoningOptions:
    """How much the model should reason, and how much of its reasoning the response shows.

    `effort` is a level, for providers that define levels; `effort="none"` turns reasoning off. `max_tokens` is a budget
    in tokens, for providers that use budgets. `summary` asks for a summary of the reasoning.
    """

    effort: Effort | None = None
    max_tokens: int | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None

    def __attrs_post_init__(self) -> None:
        _REASONING_TYPES.check(self)
        if self.effort not in _EFFORTS:
            levels = ", ".join(get_args(Effort))
            raise InvalidRequest(f"the effort of reasoning must be one of {levels}, not {shown(self.effort)}")
        if self.summary not in _SUMMARIES:
            raise InvalidRequest(
                f"the summary of reasoning must be auto, concise or detailed, not {shown(self.summary)}"
            )


_REASONING_TYPES = FieldTypes({"effort": TEXT_OR_NONE, "max_tokens": COUNT_OR_NONE, "summary": TEXT_OR_NONE})
_EFFORTS = (None, *get_args(Effort))
_SUMMARIES = (None, "auto", "concise", "detailed")


def _messages(value: str | Message | Iterable[Message]) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (user(value),)
    if isinstance(value, Message):
        return (value,)
    refuse_dict(value, "messages", "a string, a trunkline.Message or an iterable of them")
    messages: tuple[object, ...] = as_tuple(value, "messages", "a string, a trunkline.Message or an iterable of them")
    for position, message in enumerate(messages):
        if not isinstance(message, Message):
            where = f"messages[{position}]"
            refuse_dict(message, where, "a trunkline.Message")
            raise InvalidRequest(f"{where} must be a trunkline.Message, not {type(message).__name__}")
    return cast("tuple[Message, ...]", messages)


def _stop(value: str | Iterable[str]) -> tuple[str, ...]:
    return () if type(value) is tuple and not value else as_strings(value, "stop")


def _tools(value: Iterable[Tool]) -> tuple[Tool, ...]:
    if type(value) is tuple and not value:  # the default
        return ()
    tools: tuple[object, ...] = as_tuple(value, "tools", "an iterable of trunkline.Tool")
    for position, tool in enumerate(tools):
        if not isinstance(tool, Tool):
            raise InvalidRequest(f"tools[{position}] must be a trunkline.Tool, not {type(tool).__name__}")
    return cast("tuple[Tool, ...]", tools)


def _tool_choice(value: ToolChoice | str | None) -> ToolChoice | None:
    if value is None or isinstance(value, ToolChoice):
        return value
    if not isinstance(cast("object", value), str):
        accepted = "auto, none, required, the name of a tool or a ToolChoice"
        raise InvalidRequest(f"tool_choice must be {accepted}, not {type(value).__name__}")
    if value in ("auto", "none", "required"):
        return ToolChoice(mode=value)  # type: ignore[arg-type]  # checked just above
    return ToolChoice.tool(value)


def _is_usual(value: object, kind: type[float]) -> bool:
    return type(value) is kind and 0 <= value < _UNUSUAL


_UNUSUAL = 2**63


@attrs.frozen(kw_only=True)
class ChatRequest:
    """A chat request: the conversation and the options that shape the response.

    `messages` accepts a string (one user message), a message, or an iterable of messages. `model` defaults to the
    service's `default_model`. `tool_choice` accepts `auto`, `none`, `required`, the name of a tool, or a `ToolChoice`.
    Fields that are `None` or empty are not sent. `max_output_tokens` includes reasoning. `top_logprobs` implies
    `logprobs`.

    `cache` asks the provider to cache the prompt for later requests that begin in the same way: the tools, the system
    prompt and the conversation up to its end, for 5 minutes (`5m`), for an hour (`1h`), or for the provider's usual
    time (`auto`). Parts and tools have a `cache` of their own, for other places. `cache_key` is a name for the requests
    of one conversation or application, which some providers use to find the cached prompt. Both change the price and
    the time of a call, never its answer, so their warnings are not lossy.

    `background` asks the provider to make the response in the background, so that no connection has to stay open. The
    response of `chat` is then `PENDING`: `Service.get_response` returns it later. A stream can be read again from each
    `ResumePoint` (`Service.resume_stream`). The provider stores such a response. Providers without this make the
    response as usual, with a warning that is not lossy.

    `provider_options` maps a provider's name to fields that are added to the body of the request unchanged.

    Raises `InvalidRequest` if the request contradicts itself, or has a value that no provider can receive, such as NaN.
    """

    messages: tuple[Message, ...] = attrs.field(converter=_messages)
    model: str | None = None
    tools: tuple[Tool, ...] = attrs.field(converter=_tools, default=())
    tool_choice: ToolChoice | None = attrs.field(converter=_tool_choice, default=None)
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning: ReasoningOptions | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = attrs.field(converter=_stop, default=())
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    cache: CacheLifetime | None = None
    cache_key: str | None = None
    background: bool | None = None
    user_id: str | None = attrs.field(default=None, repr=False)
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.messages:
            raise InvalidRequest("a request needs at least one message")
        # Checking each field takes two microseconds, and most requests set only a few.
        if (
            (self.model is not None and type(self.model) is not str)
            or not (self.max_output_tokens is None or _is_usual(self.max_output_tokens, int))
            or not (self.temperature is None or _is_usual(self.temperature, float))
            or self.parallel_tool_calls is not None
            or self.response_format is not None
            or self.reasoning is not None
            or self.top_p is not None
            or self.top_k is not None
            or self.seed is not None
            or self.frequency_penalty is not None
            or self.presence_penalty is not None
            or self.logprobs is not None
            or self.top_logprobs is not None
            or self.cache_key is not None
            or self.background is not None
            or self.user_id is not None
            or type(self.metadata) is not dict
            or self.metadata
            or type(self.provider_options) is not dict
            or self.provider_options
        ):
            _REQUEST_TYPES.check(self)
        if self.cache is not None:
            check_cache(self.cache, "ChatRequest")
        if self.tools or self.tool_choice is not None:
            self._check_tools()

    def _check_tools(self) -> None:
        names = [tool.name for tool in self.tools]
        if len(set(names)) != len(names):
            doubled = sorted(name for name, count in Counter(names).items() if count > 1)
            raise InvalidRequest(f"two tools have the same name: {listed(doubled)}")
        choice = self.tool_choice
        if choice is not None and choice.mode == "tool" and choice.name not in names:
            raise InvalidRequest(
                f"tool_choice names {choice.name!r}, which is not one of the tools ({', '.join(names) or 'none given'})"
            )
        if choice is not None and choice.mode == "required" and not names:
            raise InvalidRequest("tool_choice is 'required', but the request has no tools")

    def with_messages(self, *messages: Message) -> ChatRequest:
        """Return a copy of the request with `messages` appended to its conversation."""
        return attrs.evolve(self, messages=(*self.messages, *messages))


_REQUEST_TYPES = FieldTypes(
    {
        "model": TEXT_OR_NONE,
        "parallel_tool_calls": FLAG_OR_NONE,
        "response_format": Kind((ResponseFormat,), "ResponseFormat").optional(),
        "reasoning": Kind((ReasoningOptions,), "ReasoningOptions").optional(),
        "max_output_tokens": COUNT_OR_NONE,
        "temperature": NUMBER_OR_NONE,
        "top_p": NUMBER_OR_NONE,
        "top_k": COUNT_OR_NONE,
        "seed": COUNT_OR_NONE,
        "frequency_penalty": NUMBER_OR_NONE,
        "presence_penalty": NUMBER_OR_NONE,
        "logprobs": FLAG_OR_NONE,
        "top_logprobs": COUNT_OR_NONE,
        "cache_key": TEXT_OR_NONE,
        "background": FLAG_OR_NONE,
        "user_id": TEXT_OR_NONE,
        "metadata": TEXTS,
        "provider_options": OPTIONS,
    }
)


class RunParams(TypedDict, total=False):
    """The keywords of `run_tools` for its requests: the fields of a `ChatRequest` but for `messages` and `tools`."""

    model: str | None
    tool_choice: ToolChoice | str | None
    parallel_tool_calls: bool | None
    response_format: ResponseFormat | None
    reasoning: ReasoningOptions | None
    max_output_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    stop: str | Iterable[str]
    seed: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logprobs: bool | None
    top_logprobs: int | None
    cache: CacheLifetime | None
    cache_key: str | None
    background: bool | None
    user_id: str | None
    metadata: Mapping[str, str]
    provider_options: ProviderOptions


class ChatParams(RunParams, total=False):
    """The keywords of `Service.chat`, `stream` and `count_tokens`: the fields of a `ChatRequest` but for `messages`."""

    tools: Iterable[Tool]


InputType: TypeAlias = Literal["document", "query"]
"""What is embedded: documents to search in, or a query that searches them."""


@attrs.frozen(kw_only=True)
class EmbedRequest:
    """Texts and images to embed.

    `inputs` accepts a string, an `Image`, or an iterable of them. A list among the inputs holds what gets one vector
    together, such as an image with its caption. `input_type` is `document` or `query`, for models that embed the two
    differently. `dimensions` is the length of the vectors, for models that support a choice. Raises `InvalidRequest` if
    there is no input.
    """

    inputs: tuple[Input, ...] = attrs.field(converter=as_inputs)
    model: str | None = None
    input_type: InputType | None = None
    dimensions: int | None = None
    user_id: str | None = attrs.field(default=None, repr=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.inputs:
            raise InvalidRequest("an embedding request needs at least one input")
        if self.input_type not in (None, "document", "query"):
            raise InvalidRequest(f"EmbedRequest.input_type must be document or query, not {shown(self.input_type)}")
        if (
            (self.model is not None and type(self.model) is not str)
            or self.dimensions is not None
            or self.user_id is not None
            or type(self.provider_options) is not dict
            or self.provider_options
        ):
            _EMBED_TYPES.check(self)


_EMBED_TYPES = FieldTypes(
    {"model": TEXT_OR_NONE, "dimensions": COUNT_OR_NONE, "user_id": TEXT_OR_NONE, "provider_options": OPTIONS}
)


class EmbedParams(TypedDict, total=False):
    """The keywords of `Service.embed`: the fields of an `EmbedRequest` but for `inputs`."""

    model: str | None
    input_type: InputType | None
    dimensions: int | None
    user_id: str | None
    provider_options: ProviderOptions
