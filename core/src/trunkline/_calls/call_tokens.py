"""Estimate how many tokens a call will use, and read from its response how many it did use."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trunkline.authoring.token_estimates import MARGIN, estimate_fixed_tokens, estimate_input, estimate_tokens
from trunkline.inputs import Input
from trunkline.messages import Message
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, FinishReason, Usage

_FIRST_OUTPUT = 256
"""How many tokens of output are expected before any response was seen, if the request does not limit them."""
_SHARE_OF_LIMIT = 10
"""That expectation is at most this part of the limit, so that a small limit lets several calls through."""
_MOST_TOKENS = 10**9
"""A larger count is a mistake of the provider. It would hold up all calls for a minute."""
_SMOOTHING = 0.1
"""How much a new response changes the expectation."""


class TokenEstimate:
    """What the calls of one service are expected to use.

    The input is estimated from its size. The output is the request's `max_output_tokens`; without it, the average of
    the responses so far, of which later ones count more.
    """

    def __init__(self) -> None:
        self._output: float | None = None

    def of_chat(self, request: ChatRequest, limit: int | None) -> int:
        """Return the tokens of input and output that a request will probably use; 0 if there is no `limit`."""
        if limit is None:
            return 0
        messages = sum(estimate_tokens(message) for message in request.messages)
        expected = request.max_output_tokens
        if expected is None:
            expected = min(_FIRST_OUTPUT, limit // _SHARE_OF_LIMIT) if self._output is None else round(self._output)
        return math.ceil((messages + estimate_fixed_tokens(request)) * (1 + MARGIN)) + expected

    def of_inputs(self, inputs: Sequence[Input]) -> int:
        """Return the tokens of inputs to embed."""
        return sum(math.ceil(estimate_input(value) * (1 + MARGIN)) for value in inputs)

    def used(self, response: ChatResponse) -> int | None:
        """Return the tokens that a response used, or `None` if that is not known.

        The usage of a stream that was interrupted may be from its start. So the output counts as what has arrived, if
        that is more.
        """
        usage = _plausible(response.usage)
        if response.finish_reason is not FinishReason.ERROR:
            if usage is not None and usage.output_tokens is not None:
                before = usage.output_tokens if self._output is None else self._output
                self._output = before + _SMOOTHING * (usage.output_tokens - before)
            return used_tokens(usage)
        if usage is None or usage.input_tokens is None:
            return None
        arrived = estimate_tokens(Message(role="assistant", parts=response.parts)) if response.parts else 0
        return usage.input_tokens + max(usage.output_tokens or 0, arrived)


def used_tokens(usage: Usage | None) -> int | None:
    """Return the tokens of input and output together, or `None` if they are not known."""
    if (usage := _plausible(usage)) is None:
        return None
    if usage.total_tokens is not None:
        return usage.total_tokens
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    return usage.input_tokens + usage.output_tokens


def _plausible(usage: Usage | None) -> Usage | None:
    """Return a usage, or `None` if it has a number that no call can have."""
    if usage is None:
        return None
    counts = (usage.input_tokens, usage.output_tokens, usage.total_tokens)
    return usage if all(count is None or 0 <= count <= _MOST_TOKENS for count in counts) else None
