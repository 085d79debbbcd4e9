"""What comes out of a call."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

import attrs

from trunkline._json import JSONObject, JSONValue, ProviderOptions
from trunkline.messages import Citation, Message, Part, Text, ToolCall

WarningKind: TypeAlias = Literal[
    "unsupported", "emulated", "changed", "left_out", "truncated", "invalid_arguments", "other"
]


class FinishReason(StrEnum):
    """Why the model stopped. Members equal their strings: `response.finish_reason == "stop"`."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    ERROR = "error"
    OTHER = "other"


@attrs.frozen(kw_only=True)
class CallWarning:
    """Something that the provider did not get, or got in another form than it was asked for.

    `kind`: `unsupported` (the wire has no word for it), `emulated` and `changed` (expressed otherwise), `left_out` (a
    part of the history), `truncated` (the oldest turns), `invalid_arguments` (a tool call that is not a JSON object).
    `subject` names the setting, option or part. `message` says what happened and what to do.
    """

    kind: WarningKind
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens, as the provider counted them. `None` means that it did not tell, which is not 0.

    `input_tokens` counts cached tokens in and `output_tokens` reasoning, whatever the provider's habit. `raw` is what
    the provider sent.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    raw: JSONObject = attrs.field(factory=dict, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class TokenLogprob:
    """The natural logarithm of a token's probability, with the likeliest alternatives in its place."""

    token: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@attrs.frozen(kw_only=True)
class ChatResponse:
    """A whole answer. `parts` is everything that came, in its order.

    `raw` is the decoded body of an answer that was not streamed, or a stream's last word where that holds the whole;
    `raw_finish_reason` is the provider's own. `usage` is `None` where the provider told nothing.
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
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False, eq=False)
    raw: JSONValue = attrs.field(default=None, repr=False, eq=False)

    @property
    def text(self) -> str:
        """The text parts, joined; refusals are left out."""
        return "".join(part.text for part in self.parts if isinstance(part, Text) and not part.refusal)

    @property
    def refusal(self) -> str | None:
        """The words in which the model declined to answer, if it did."""
        return "".join(part.text for part in self.parts if isinstance(part, Text) and part.refusal) or None

    @property
    def reasoning(self) -> str:
        """The reasoning that the provider shows, joined."""
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
        """The turn to append to the conversation."""
        return Message(role="assistant", parts=self.parts)


@attrs.frozen(kw_only=True)
class EmbedResponse:
    """One vector for each text, in the order of the request."""

    embeddings: tuple[tuple[float, ...], ...] = attrs.field(repr=False)
    model: str | None = None
    usage: Usage | None = None
    warnings: tuple[CallWarning, ...] = ()
    raw: JSONValue = attrs.field(default=None, repr=False, eq=False)


@attrs.frozen(kw_only=True)
class ModelInfo:
    """A model that a service offers. `raw` is what the provider told of it."""

    id: str
    name: str | None = None
    created: int | None = None
    raw: JSONObject = attrs.field(factory=dict, repr=False, eq=False)
