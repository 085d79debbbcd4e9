"""The input and output limits of a service, applied to a request before it is translated. Pure."""

from __future__ import annotations

import math
from typing import Literal

import attrs

from trunkline.authoring.token_estimates import MARGIN, estimate_fixed_tokens, estimate_tokens
from trunkline.messages import Message
from trunkline.request import ChatRequest
from trunkline.response import CallWarning


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
