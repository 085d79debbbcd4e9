"""The events of a streamed response, and `fold`, which makes of them the response that a plain call would give.

Every stream is `ResponseStarted`, then parts, then exactly one `Finished`. A part has a start, any number of deltas and
an end, told apart by `index`; parts may overlap, and stand in the response in the order of their starts. What comes
whole (`Citation`, `PartAdded`) has no start and no end.
"""

from __future__ import annotations

from typing import Any, TypeAlias, Union

import attrs

from trunkline._json import JSONValue, ProviderOptions
from trunkline.messages import Audio, Citation, Document, Image, Opaque
from trunkline.response import CallWarning, FinishReason, TokenLogprob, Usage


@attrs.frozen(kw_only=True)
class ResponseStarted:
    """The provider began to answer. `warnings` are those of the request's translation."""

    id: str | None = None
    model: str | None = None
    warnings: tuple[CallWarning, ...] = ()


@attrs.frozen(kw_only=True)
class TextStart:
    """A text begins; `refusal` says that it declines to answer."""

    index: int
    refusal: bool = False


@attrs.frozen(kw_only=True)
class TextDelta:
    """More of a text, with the log probabilities of its tokens where they were asked for."""

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


_members: Any = TextDelta
_new, _set_index, _set_text, _set_logprobs = (
    object.__new__,
    _members.index.__set__,
    _members.text.__set__,
    _members.logprobs.__set__,
)


def text_delta(index: int, text: str) -> TextDelta:
    """A `TextDelta` without log probabilities, at half the cost of its constructor: for parsers, which make so many."""
    event = _new(TextDelta)
    _set_index(event, index)
    _set_text(event, text)
    _set_logprobs(event, ())
    return event


@attrs.frozen(kw_only=True)
class TextEnd:
    """A text is complete."""

    index: int
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class ReasoningStart:
    """Reasoning begins."""

    index: int


@attrs.frozen(kw_only=True)
class ReasoningDelta:
    """More of the reasoning's text."""

    index: int
    text: str


@attrs.frozen(kw_only=True)
class ReasoningEnd:
    """Reasoning is complete; the fields are those of `Reasoning`."""

    index: int
    provider: str | None = None
    signature: str | None = attrs.field(default=None, repr=False)
    encrypted: str | None = attrs.field(default=None, repr=False)
    redacted: bool = False
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class ToolCallStart:
    """The model begins to call a tool."""

    index: int
    id: str
    name: str


@attrs.frozen(kw_only=True)
class ToolCallDelta:
    """More of the arguments' JSON text."""

    index: int
    arguments: str


@attrs.frozen(kw_only=True)
class ToolCallEnd:
    """A tool call is complete; its arguments are the deltas, joined and decoded."""

    index: int
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class PartAdded:
    """A part that comes whole: sound, a picture, a hosted tool's block."""

    part: Audio | Image | Document | Opaque


@attrs.frozen(kw_only=True)
class UsageReported:
    """What has been used so far. The last report is the true one; `Finished` repeats it."""

    usage: Usage


@attrs.frozen(kw_only=True)
class Finished:
    """The response is complete. Always the last event, and never sent for a stream that was cut off."""

    reason: FinishReason
    raw_reason: str | None = None
    usage: Usage | None = None
    warnings: tuple[CallWarning, ...] = ()
    provider_metadata: ProviderOptions = attrs.field(factory=dict, repr=False)
    raw: JSONValue = attrs.field(default=None, repr=False)


Event: TypeAlias = Union[
    ResponseStarted,
    TextStart,
    TextDelta,
    TextEnd,
    ReasoningStart,
    ReasoningDelta,
    ReasoningEnd,
    ToolCallStart,
    ToolCallDelta,
    ToolCallEnd,
    Citation,
    PartAdded,
    UsageReported,
    Finished,
]
"""The closed union of stream events."""
