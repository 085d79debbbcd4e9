"""The input and output limits of a service, applied to a request before it is translated. Pure.

The number of tokens is estimated from the number of bytes, since each model has its own tokenizer. `MARGIN` is added to
the estimate, because a conversation that is too long fails, and one that is cut early loses little.
"""

from __future__ import annotations

import math
from typing import Literal

import attrs

from trunkline._json import dumps
from trunkline.messages import (
    Audio,
    Citation,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from trunkline.request import ChatRequest, Tool
from trunkline.response import CallWarning

# Measured on English and code, the tokenizers of the large providers average 3.5 to 4.5 characters a token. Scripts
# with more bytes a character average fewer characters a token, so bytes are counted.
BYTES_PER_TOKEN = 4
# The providers document between 85 and about 1,600 tokens for an image.
TOKENS_PER_IMAGE = 1000
TOKENS_PER_MESSAGE = 4
# The providers tell the model how to call tools. In recorded traffic, that is between 0 and about 600 tokens.
TOKENS_FOR_TOOLS = 500
MARGIN = 0.1
"""The part of an estimate that is added to it. With it, 88 of 100 recorded requests are at most 100 tokens too low."""


def estimate_tokens(message: Message) -> int:
    """Estimate the tokens of a message from its size in bytes, without a tokenizer and without `MARGIN`."""
    return TOKENS_PER_MESSAGE + sum(_part_tokens(part) for part in message.parts)


def estimate_fixed_tokens(request: ChatRequest) -> int:
    """Estimate the tokens of what a request sends besides its messages: tools, and the schema of the response."""
    tokens = TOKENS_FOR_TOOLS * bool(request.tools) + sum(_tool_tokens(tool) for tool in request.tools)
    if (wanted := request.response_format) is not None:
        tokens += _text_tokens(wanted.description or "") + (_json_tokens(wanted.schema) if wanted.schema else 0)
    return tokens


def _tool_tokens(tool: Tool) -> int:
    texts = _text_tokens(tool.name) + _text_tokens(tool.description or "")
    return TOKENS_PER_MESSAGE + texts + _json_tokens(tool.parameters) + _json_tokens(tool.provider_options)


def _part_tokens(part: Part) -> int:
    if isinstance(part, Text):
        return _text_tokens(part.text)
    if isinstance(part, Reasoning):
        return _text_tokens(part.text) + len(part.encrypted or "") // BYTES_PER_TOKEN
    if isinstance(part, ToolCall):
        return _text_tokens(part.name) + _text_tokens(part.arguments_json) + TOKENS_PER_MESSAGE
    if isinstance(part, ToolResult):
        return TOKENS_PER_MESSAGE + sum(_part_tokens(item) for item in part.parts)
    if isinstance(part, Image):
        return TOKENS_PER_IMAGE
    if isinstance(part, (Document, Audio)):
        return _file_tokens(part)
    if isinstance(part, Opaque):
        return _json_tokens(part.data)
    assert isinstance(part, Citation)
    return 0


def _file_tokens(part: Document | Audio) -> int:
    if part.data is None:
        return TOKENS_PER_IMAGE
    has_text_type = (part.media_type or "").startswith("text/")
    if has_text_type or (isinstance(part, Document) and _is_text(part.data)):  # many documents have no media type
        return -(-len(part.data) // BYTES_PER_TOKEN)
    return max(TOKENS_PER_IMAGE, len(part.data) // (8 * BYTES_PER_TOKEN))


def _is_text(data: bytes) -> bool:
    if data.startswith(b"%PDF"):  # may consist of ASCII alone
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in data


def _text_tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def _json_tokens(value: object) -> int:
    if not value:
        return 0
    try:
        return -(-len(dumps(value)) // BYTES_PER_TOKEN)
    except (TypeError, ValueError, RecursionError):  # the translator raises the error, which names the value
        return 0


@attrs.frozen(kw_only=True)
class Fitted:
    """A request without its oldest turns. `estimate` is the tokens of the rest, without `MARGIN`."""

    request: ChatRequest
    left_out: int
    turns: int
    estimate: int


class Conversation:
    """A request whose oldest turns can be left out.

    A turn is a user's message with everything that answers it, so that a tool call never loses its result. System
    messages and the newest turn stay, even if they alone are over the limit.
    """

    def __init__(self, request: ChatRequest) -> None:
        self._request = request
        self._turns = _turns(request.messages)
        self._sizes = [estimate_tokens(message) for message in request.messages]
        self._size = estimate_fixed_tokens(request) + sum(self._sizes)

    def fit(self, limit: float) -> Fitted:
        """Leave out as few turns as possible for an estimate of at most `limit` tokens."""
        size = self._size
        dropped: set[int] = set()
        gone = 0
        for turn in self._turns[:-1]:
            if size <= limit:
                break
            size -= sum(self._sizes[place] for place in turn)
            dropped.update(turn)
            gone += 1
        request = self._request
        if gone:
            kept = tuple(message for place, message in enumerate(request.messages) if place not in dropped)
            request = attrs.evolve(request, messages=kept)
        return Fitted(request=request, left_out=gone, turns=len(self._turns), estimate=size)


def with_margin(estimate: float) -> int:
    """Return an estimate with `MARGIN`."""
    return math.ceil(estimate * (1 + MARGIN))


def fit_estimate(conversation: Conversation, limit: int) -> Fitted:
    """Leave out as few turns as possible for an estimate that, with `MARGIN`, is at most `limit`."""
    return conversation.fit(limit / (1 + MARGIN))


def left_out_warning(fitted: Fitted, limit: int, source: Literal["estimate", "provider"]) -> CallWarning:
    """Return the warning about turns that are not sent."""
    counted = "our estimate" if source == "estimate" else "as the provider counts"
    return CallWarning(
        kind="truncated",
        subject="input_token_limit",
        message=f"the {fitted.left_out} oldest of {fitted.turns} turns were left out to stay within {limit} tokens "
        f"({counted})",
        lossy=True,
    )


def exceeded_message(tokens: int, limit: int, source: Literal["estimate", "provider"]) -> str:
    """Return the message that a request is too long even with its newest turn only."""
    counted = "by our estimate" if source == "estimate" else "as the provider counts"
    return (
        f"the system messages, the tools, the response's schema and the newest turn have {tokens:,} tokens {counted}, "
        f"more than the limit of {limit:,}, and none of them can be left out"
    )


def _turns(messages: tuple[Message, ...]) -> list[list[int]]:
    """Return the places of the messages of each turn. A conversation may contain one object in several places."""
    turns: list[list[int]] = []
    before: str | None = None
    for place, message in enumerate(messages):
        if message.role == "system":
            continue
        if not turns or (message.role == "user" and before != "user"):
            turns.append([])
        turns[-1].append(place)
        before = message.role
    return turns
