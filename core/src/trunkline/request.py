"""What goes into a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, TypedDict

import attrs

from trunkline._base_errors import InvalidRequest, refuse_dict
from trunkline._json import JSONObject, ProviderOptions
from trunkline.messages import Message, user

ToolChoiceMode: TypeAlias = Literal["auto", "none", "required", "tool"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_EMPTY_SCHEMA: JSONObject = {"type": "object", "properties": {}}


@attrs.frozen(kw_only=True)
class Tool:
    """A function that the model may ask for.

    `parameters` is the JSON Schema of its arguments, an object. `strict` asks the provider to hold the model to the
    schema. A hosted tool of a provider's own is given whole in `provider_options`, with its own `type`.
    """

    name: str
    description: str | None = None
    parameters: JSONObject = attrs.field(factory=lambda: dict(_EMPTY_SCHEMA))
    strict: bool | None = None
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class ToolChoice:
    """Whether the model may, must not, or must call a tool; with the mode `tool`, the one called `name`."""

    mode: ToolChoiceMode
    name: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.mode not in ("auto", "none", "required", "tool"):
            raise InvalidRequest(f"a tool choice is auto, none, required or tool (with a name), not {self.mode!r}")
        if (self.mode == "tool") != (self.name is not None):
            raise InvalidRequest("a tool choice has a name exactly when its mode is 'tool'")

    @staticmethod
    def tool(name: str) -> ToolChoice:
        """The choice that forces the tool called `name`."""
        return ToolChoice(mode="tool", name=name)


@attrs.frozen(kw_only=True)
class ResponseFormat:
    """The form of the answer's text: free, any JSON, or JSON that follows `schema`.

    `name` and `description` tell the model what the schema is for; `strict` asks the provider to enforce it.
    """

    type: Literal["text", "json", "json_schema"] = "json_schema"
    schema: JSONObject | None = None
    name: str = "answer"
    description: str | None = None
    strict: bool | None = True

    def __attrs_post_init__(self) -> None:
        if self.type not in ("text", "json", "json_schema"):
            raise InvalidRequest(f"a response format's type is text, json or json_schema, not {self.type!r}")
        if (self.type == "json_schema") != (self.schema is not None):
            raise InvalidRequest("a response format has a schema exactly when its type is 'json_schema'")


@attrs.frozen(kw_only=True)
class ReasoningOptions:
    """How much a model should think, and what it shows of it.

    `effort` is in words, `max_tokens` in tokens, for the providers that count; `effort="none"` switches reasoning off.
    `summary` asks for a summary of the reasoning (`auto`, `concise`, `detailed`).
    """

    effort: Effort | None = None
    max_tokens: int | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


def _messages(value: str | Message | Iterable[Message]) -> tuple[Message, ...]:
    if isinstance(value, str):
        return (user(value),)
    refuse_dict(value, "messages", "a string, a trunkline.Message or several")
    messages = (value,) if isinstance(value, Message) else tuple(value)
    for position, message in enumerate(messages):
        refuse_dict(message, f"messages[{position}]", "a trunkline.Message")
    return messages


def _stop(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _tools(value: Iterable[Tool]) -> tuple[Tool, ...]:
    return tuple(value)


def _tool_choice(value: ToolChoice | str | None) -> ToolChoice | None:
    if value is None or isinstance(value, ToolChoice):
        return value
    if value in ("auto", "none", "required"):
        return ToolChoice(mode=value)  # type: ignore[arg-type]  # checked just above
    return ToolChoice.tool(value)


@attrs.frozen(kw_only=True)
class ChatRequest:
    """One call: the conversation and everything that shapes the answer.

    `messages` takes a string (one user message), a message or several. `tool_choice` takes `auto`, `none`, `required`,
    a tool's name or a `ToolChoice`. What is `None` or empty is not sent. `max_output_tokens` counts reasoning in;
    `top_logprobs` implies `logprobs`. `provider_options` are passed on as they are, by provider name.

    Raises `InvalidRequest` where the request contradicts itself.
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
    user_id: str | None = attrs.field(default=None, repr=False)
    metadata: Mapping[str, str] = attrs.field(factory=dict)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.messages:
            raise InvalidRequest("a request needs at least one message")
        names = [tool.name for tool in self.tools]
        if len(set(names)) != len(names):
            raise InvalidRequest("two tools have the same name")
        choice = self.tool_choice
        if choice is not None and choice.mode == "tool" and choice.name not in names:
            raise InvalidRequest(
                f"tool_choice names {choice.name!r}, which is not among the tools ({', '.join(names) or 'none given'})"
            )
        if choice is not None and choice.mode == "required" and not names:
            raise InvalidRequest("tool_choice is 'required', but the request has no tools")

    def with_messages(self, *messages: Message) -> ChatRequest:
        """The same request with `messages` at the end of its conversation."""
        return attrs.evolve(self, messages=(*self.messages, *messages))


class ChatParams(TypedDict, total=False):
    """The keywords of `Service.chat`, `stream` and `count_tokens`: the fields of a `ChatRequest` but for `messages`."""

    model: str | None
    tools: Iterable[Tool]
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
    user_id: str | None
    metadata: Mapping[str, str]
    provider_options: ProviderOptions


@attrs.frozen(kw_only=True)
class EmbedRequest:
    """Texts to embed. `dimensions` shortens the vectors, where the model can."""

    texts: tuple[str, ...] = attrs.field(converter=_stop)
    model: str | None = None
    dimensions: int | None = None
    user_id: str | None = attrs.field(default=None, repr=False)
    provider_options: ProviderOptions = attrs.field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.texts:
            raise InvalidRequest("an embedding request needs at least one text")


class EmbedParams(TypedDict, total=False):
    """The keywords of `Service.embed`: the fields of an `EmbedRequest` but for `texts`."""

    model: str | None
    dimensions: int | None
    user_id: str | None
    provider_options: ProviderOptions
