"""The wire formats of the gateway's clients: OpenAI's Chat Completions and Responses, and Anthropic's Messages.

Pure: each module reads a request's JSON into a `ChatRequest`, and writes responses, streams and errors. It is the
reverse of what a provider's plugin does.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs
from trunkline import ChatRequest

from trunkline_gateway.targets import Target

Dialect: TypeAlias = Literal["openai", "anthropic"]
"""Whose API a client calls: the names of headers depend on it."""


@attrs.frozen(kw_only=True)
class Reply:
    """What a writer has to know of the call, apart from the response."""

    target: Target
    id: str
    """The id of the response, without the prefix that each format puts before it: 32 hexadecimal digits."""
    created: int
    """The Unix time of the call."""
    custom_tools: frozenset[str] = frozenset()
    """For Chat Completions: the names of the request's custom tools, whose calls have text instead of JSON."""
    whole_calls: bool = False
    """Whether a Chat Completions stream has each call of a function in one chunk (`chat.wants_whole_calls`)."""
    include_usage: bool = False
    """Whether a Chat Completions stream ends with a chunk of usage (`stream_options.include_usage`)."""
    input_tokens: int = 0
    """An estimate of the input, which Anthropic's format reports at the start of a stream."""
    instructions: str | None = None
    """The instructions of a request of the Responses API, which its response repeats."""
    request: ChatRequest | None = None
    """The request, whose fields OpenAI's Responses format repeats in the response. It also names the custom tools."""
