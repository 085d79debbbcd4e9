"""Responses, and the warnings and token counts that come with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import attrs

from trunkline._json import JSONObject, JSONValue, ProviderOptions
from trunkline.messages import Citation, Message, Part, Text, ToolCall

WarningKind: TypeAlias = Literal[
    "unsupported", "emulated", "changed", "left_out", "mended", "truncated", "invalid_arguments", "other"
]

Capability: TypeAlias = Literal[
    "chat", "embeddings", "vision", "audio", "documents", "tools", "json_schema", "reasoning"
]
"""What a model can do, in words that mean the same for every provider; see `ModelInfo`."""


class FinishReason(StrEnum):
    """Why the model stopped. Members are strings: `response.finish_reason == "stop"` works."""

    STOP = "stop"
    """The response is complete, or the model produced a stop sequence."""
    LENGTH = "length"
    """The response reached the output limit or filled the model's context."""
    TOOL_CALLS = "tool_calls"
    """The model calls tools and waits for their results."""
    CONTENT_FILTER = "content_filter"
    """The model refused, or a safety system stopped the response."""
    PAUSED = "paused"
    """The provider paused a tool that it runs itself. To continue, send the conversation with `response.message` at its
    end, as `run_tools` does."""
    PENDING = "pending"
    """The provider makes the response in the background and has not finished it; see `Service.get_response`."""
    ERROR = "error"
    """The provider reported a failure, or the stream broke off."""
    OTHER = "other"
    """Another reason, or none was given; see `ChatResponse.raw_finish_reason`."""


@attrs.frozen(kw_only=True)
class CallWarning:
    """A part of the request that the provider did not receive, or received in another form.

    `lossy` says whether the application loses something by that: it asked for something that was not sent, or that was
    sent with another meaning, so that the model does not see it or the response does not have it. A service with the
    setting `strict` refuses a request with a lossy warning. Content that is sent in another form, and changes to the
    history of the conversation without which the provider would refuse it, are not lossy.

    `kind` is one of:

    - `unsupported`: the provider has no such option; it was not sent
    - `emulated`, `changed`: sent in another form
    - `left_out`: a part of the history was not sent
    - `mended`: the history of the conversation was changed, because the provider would refuse it as it is; never lossy
    - `truncated`: the oldest messages were not sent
    - `invalid_arguments`: the model called a tool with arguments that are not a JSON object
    - `other`

    `subject` names the setting, option or part. `message` says what happened and what to do. `count` is the number of
    parts that the warning is about.
    """

    kind: WarningKind
    subject: str
    message: str
    lossy: bool
    count: int = 1

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{self.subject}: {self.message}{times}"


@attrs.frozen(kw_only=True)
class Usage:
    """Numbers of tokens, as counted by the provider. `None` means that the provider did not report the number.

    For every provider, `input_tokens` includes cached tokens and `output_tokens` includes reasoning. `raw` is the
    object that the provider sent.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: JSONObject = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class RateLimit:
    """One of a provider's limits, as the headers of a response report it. What they do not report is `None`.

    `limit` is how many requests or tokens the provider allows in its window of time, and `remaining` how many of them
    are left. `reset_after` is the number of seconds from this response until the limit resets; for most providers, that
    is when it is full again.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_after: float | None = None


@attrs.frozen(kw_only=True)
class RateLimits:
    """A provider's limits at the time of a response. A limit that the provider does not report is `None`.

    `tokens` are input and output together. If a provider reports several windows, such as a minute and a day, the
    shortest is here; Groq and Cerebras report requests for a day only. `raw` has the headers of the response about
    limits, by lower-case name, also those that no field is made of.
    """

    requests: RateLimit | None = None
    tokens: RateLimit | None = None
    input_tokens: RateLimit | None = None
    output_tokens: RateLimit | None = None
    raw: Mapping[str, str] = attrs.field(factory=dict, eq=False)


def sum_usage(usages: Sequence[Usage | None]) -> Usage | None:
    """Return the sum of the usage of several calls, or `None` if none of them reported any.

    A number is `None` if one of the calls did not report it. The `raw` of the sum is empty, unless there is one call.
    """
    if not any(usages):
        return None
    if len(usages) == 1:
        return usages[0]

    def total(name: str) -> int | None:
        counts = [None if usage is None else getattr(usage, name) for usage in usages]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    numbers: dict[str, Any] = {field.name: total(field.name) for field in attrs.fields(Usage) if field.name != "raw"}
    return Usage(**numbers)


@attrs.frozen(kw_only=True)
class TokenLogprob:
    """A token with the natural logarithm of its probability. `top` holds the likeliest tokens at this position."""

    token: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@attrs.frozen(kw_only=True)
class ChatResponse:
    """A complete response. `parts` holds its content in order.

    `usage` is `None` if the provider reported no token counts. `raw_finish_reason` is the provider's own finish reason.
    `raw` is the decoded body of a response that was not streamed; for a stream it is the last event if that contains
    the complete response, else `None`. `model` is the model that answered, as the provider names it. `service` is the
    name of the service, by default the provider's. `rate_limits` are the provider's limits when it answered, or `None`
    if it reports none.
    """

    parts: tuple[Part, ...]
    finish_reason: FinishReason
    raw_finish_reason: str | None = attrs.field(default=None, eq=False)
    usage: Usage | None = None
    warnings: tuple[CallWarning, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = attrs.field(default=(), repr=False)
    id: str | None = attrs.field(default=None, eq=False)
    model: str | None = None
    provider: str | None = None
    service: str | None = attrs.field(default=None, eq=False)
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)
    rate_limits: RateLimits | None = attrs.field(default=None, repr=False, eq=False)
    raw: JSONValue = attrs.field(default=None, repr=False, eq=False)

    @property
    def text(self) -> str:
        """The text parts, joined, without refusals."""
        return "".join(part.text for part in self.parts if isinstance(part, Text) and not part.refusal)

    @property
    def refusal(self) -> str | None:
        """The text in which the model declined to answer, or `None`."""
        return "".join(part.text for part in self.parts if isinstance(part, Text) and part.refusal) or None

    @property
    def reasoning(self) -> str:
        """The reasoning parts, joined."""
        return self.message.reasoning

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The citations, in order."""
        return tuple(part for part in self.parts if isinstance(part, Citation))

    @property
    def message(self) -> Message:
        """The response as an assistant message, to append to the conversation."""
        return Message(role="assistant", parts=self.parts)


@attrs.frozen(kw_only=True)
class EmbedResponse:
    """The response to an `EmbedRequest`: one vector for each input, in the same order. All have the same length."""

    embeddings: tuple[tuple[float, ...], ...] = attrs.field(repr=False)
    model: str | None = None
    provider: str | None = None
    service: str | None = attrs.field(default=None, eq=False)
    usage: Usage | None = None
    warnings: tuple[CallWarning, ...] = ()
    rate_limits: RateLimits | None = attrs.field(default=None, repr=False, eq=False)
    raw: JSONValue = attrs.field(default=None, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class ModelInfo:
    """A model that a service offers, with what the provider reports about it.

    `created` is a Unix timestamp. `context_window` is the number of tokens that the model can read in one request; for
    most models, it includes the tokens that the model writes. `output_token_limit` is the number of tokens that it can
    write. Each is `None` if the provider does not report it.

    `capabilities` is empty if the provider reports none; a provider may report some and not others. They are:

    - `chat`, `embeddings`: the model answers chat requests; it embeds texts
    - `vision`, `audio`, `documents`: it reads images, audio, and files such as PDF
    - `tools`: it calls tools
    - `json_schema`: it follows the JSON Schema of a `ResponseFormat`
    - `reasoning`: it reasons before it answers

    `raw` is the object that the provider sent, with everything else.
    """

    id: str
    name: str | None = None
    created: int | None = None
    context_window: int | None = None
    output_token_limit: int | None = None
    capabilities: frozenset[Capability] = frozenset()
    raw: JSONObject = attrs.field(factory=dict, repr=False, eq=False)
