"""The token limits of a service, applied to a request before it is translated."""

from __future__ import annotations

import attrs

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
from trunkline.request import ChatRequest
from trunkline.response import CallWarning
from trunkline.settings import Settings

# Measured on English and code, the tokenizers of the large providers average 3.5 to 4.5 characters a token. Scripts
# with more bytes a character average fewer characters a token, so bytes are counted.
BYTES_A_TOKEN = 4
# The providers document between 85 and about 1,600 tokens for an image.
TOKENS_AN_IMAGE = 1000
TOKENS_A_MESSAGE = 4


def estimate_tokens(message: Message) -> int:
    """Estimate the tokens of a message from its size in bytes, without a tokenizer."""
    return TOKENS_A_MESSAGE + sum(_part_tokens(part) for part in message.parts)


def _part_tokens(part: Part) -> int:
    if isinstance(part, Text):
        return _text_tokens(part.text)
    if isinstance(part, Reasoning):
        return _text_tokens(part.text) + len(part.encrypted or "") // BYTES_A_TOKEN
    if isinstance(part, ToolCall):
        return _text_tokens(part.name) + _text_tokens(part.arguments_json) + TOKENS_A_MESSAGE
    if isinstance(part, ToolResult):
        return TOKENS_A_MESSAGE + sum(_part_tokens(item) for item in part.parts)
    if isinstance(part, Image):
        return TOKENS_AN_IMAGE
    if isinstance(part, (Document, Audio)):
        return TOKENS_AN_IMAGE if part.data is None else max(TOKENS_AN_IMAGE, len(part.data) // (8 * BYTES_A_TOKEN))
    assert isinstance(part, (Citation, Opaque))
    return 0


def _text_tokens(text: str) -> int:
    return -(-len(text.encode("utf-8", "replace")) // BYTES_A_TOKEN)


def apply_limits(request: ChatRequest, settings: Settings) -> tuple[ChatRequest, tuple[CallWarning, ...]]:
    """Apply the service's token limits to a request. Returns it with a warning if turns were removed.

    The output limit is set where the request has none. To meet the input limit, the oldest turns are removed first. A
    turn is a user's message with everything that answers it, so that a tool call never loses its result. System
    messages and the newest turn stay, even if they alone are over the limit.
    """
    if request.max_output_tokens is None and settings.output_token_limit is not None:
        request = attrs.evolve(request, max_output_tokens=settings.output_token_limit)
    limit = settings.input_token_limit
    if limit is None:
        return request, ()
    turns = _turns(request.messages)
    sizes = [estimate_tokens(message) for message in request.messages]
    size = sum(sizes)
    dropped: set[int] = set()
    gone = 0
    for turn in turns[:-1]:
        if size <= limit:
            break
        size -= sum(sizes[place] for place in turn)
        dropped.update(turn)
        gone += 1
    if not gone:
        return request, ()
    kept = tuple(message for place, message in enumerate(request.messages) if place not in dropped)
    warning = CallWarning(
        kind="truncated",
        subject="input_token_limit",
        message=f"the {gone} oldest of {len(turns)} turns were left out to stay within {limit} tokens (our estimate)",
        lossy=True,
    )
    return attrs.evolve(request, messages=kept), (warning,)


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
