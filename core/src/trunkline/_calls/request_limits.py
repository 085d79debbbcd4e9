"""Apply the settings `input_token_limit`, `output_token_limit` and `input_token_count` to a request."""

from __future__ import annotations

from functools import partial
from typing import Literal

import anyio
import attrs

from trunkline._calls.model_limits import Ask, KnownLimits, ModelLimits, find_limits
from trunkline._calls.token_limits import (
    Conversation,
    Fitted,
    exceeded_message,
    fit_estimate,
    left_out_warning,
    with_margin,
)
from trunkline._excerpts import single_line
from trunkline.authoring.provider import Operation, Operations
from trunkline.authoring.token_estimates import MARGIN
from trunkline.errors import ContextTooLong, ProtocolViolation, TrunklineError
from trunkline.messages import Text
from trunkline.request import ChatRequest
from trunkline.response import CallWarning
from trunkline.settings import Settings

NEAR_LIMIT = 0.75
"""The provider is asked if the estimate is above this part of the limit."""

MAX_COUNTS = 3
"""How many counts the provider is asked for in one call, at most."""

LONGEST_TOKEN = 128
"""How many characters a token has at most. The longest ones of the known tokenizers are spaces."""


@attrs.frozen(kw_only=True)
class RequestLimits:
    """The limits of an open service, for one event loop."""

    settings: Settings
    provider: str
    operations: Operations = attrs.field(repr=False)
    known: KnownLimits = attrs.field(repr=False)
    lookup: anyio.Lock = attrs.field(factory=anyio.Lock, repr=False)

    async def apply(self, request: ChatRequest, ask: Ask) -> tuple[ChatRequest, tuple[CallWarning, ...]]:
        """Return the request that is sent, and warnings about what it lost. The model of `request` is set.

        `max_output_tokens` is set if the request has none. The oldest turns are left out to meet the input limit. If it
        is still exceeded, there is a lossy warning. Raises `ContextTooLong` instead if the service is strict.
        """
        settings = self.settings
        wanted_output = settings.output_token_limit if request.max_output_tokens is None else None
        limit = settings.input_token_limit
        warnings: list[CallWarning] = []
        model = ModelLimits()
        if wanted_output == "auto" or limit == "auto":
            model = await find_limits(self.known, self.lookup, str(request.model), self.provider, self.operations, ask)
        # A server may report the same number for both limits; the request would then have no room for its input.
        most_output = None if model.context_window is None else model.context_window // 2
        if wanted_output == "auto":
            wanted_output = _smaller(model.output_tokens, most_output) if model.output_tokens else None
            if wanted_output is None:
                warnings.append(_unknown("output_token_limit", model, "max_output_tokens is not sent"))
        if wanted_output is not None:
            request = attrs.evolve(request, max_output_tokens=wanted_output)
        if limit == "auto":
            limit = None
            if model.context_window is None:
                warnings.append(_unknown("input_token_limit", model, "no turns are left out"))
            else:
                limit = model.context_window - (_smaller(request.max_output_tokens or 0, most_output) or 0)
        if limit is None:
            return request, tuple(warnings)
        request, further = await self._within(request, limit, ask)
        return request, (*warnings, *further)

    async def _within(self, request: ChatRequest, limit: int, ask: Ask) -> tuple[ChatRequest, tuple[CallWarning, ...]]:
        conversation = Conversation(request)
        fitted = fit_estimate(conversation, limit)
        tokens = with_margin(fitted.estimate)
        source: Literal["estimate", "provider"] = "estimate"
        warnings: list[CallWarning] = []
        near = fitted.left_out or tokens > NEAR_LIMIT * limit
        if near and self.settings.input_token_count == "provider":  # noqa: S105  # no password
            count = self.operations.count_tokens
            try:
                if count is None:
                    warnings.append(_uncounted("the provider cannot count tokens"))
                else:
                    fit = partial(_fit_by_count, conversation, limit, count, ask)
                    fitted, tokens = await self.known.answer(f"tokens for {request.model}", ask.deadline, fit)
                    source = "provider"
            except TimeoutError as error:
                warnings.append(_uncounted(str(error)))
            except TrunklineError as error:
                warnings.append(_uncounted(f"asking failed: {single_line(str(error), 200)}"))
        if fitted.left_out:
            warnings.append(left_out_warning(fitted, limit, source))
        if tokens > limit:
            message = exceeded_message(tokens, limit, source)
            if self.settings.strict:
                raise ContextTooLong(f"{message}; the service is strict, so the request was not sent")
            warnings.append(CallWarning(kind="other", subject="input_token_limit", message=message, lossy=True))
        return fitted.request, tuple(warnings)


async def _fit_by_count(
    conversation: Conversation, limit: int, count: Operation[ChatRequest, int], ask: Ask
) -> tuple[Fitted, int]:
    """Leave out as few turns as possible for a count of at most `limit`. Return the tokens of what is left.

    A count shows how wrong the estimate is. The estimate is corrected by that, and the result counted again. Raises
    `ProtocolViolation` if a count cannot be right.
    """
    fitted = conversation.fit(limit)
    best: tuple[Fitted, int] | None = None
    scale = 1.0
    for _ in range(MAX_COUNTS):
        tokens = await ask(count, fitted.request, int)
        characters = sum(
            len(part.text) for message in fitted.request.messages for part in message.parts if isinstance(part, Text)
        )
        if tokens < max(characters // LONGEST_TOKEN, 1):
            raise ProtocolViolation(f"{tokens} tokens are too few for {characters:,} characters of text")
        if tokens <= limit and (best is None or fitted.left_out < best[0].left_out):
            best = fitted, tokens
        scale = tokens / max(fitted.estimate, 1)
        corrected = conversation.fit(limit / scale)
        if corrected.left_out == fitted.left_out:  # also if nothing more can be left out
            return best or (fitted, tokens)
        fitted = corrected
    if best is None:  # the last correction was not counted
        fitted = conversation.fit(limit / scale / (1 + MARGIN))
        best = fitted, with_margin(fitted.estimate * scale)
    return best


def _smaller(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _unknown(setting: str, model: ModelLimits, consequence: str) -> CallWarning:
    reason = model.problem or "the provider does not report it"
    what = "context window" if setting == "input_token_limit" else "output limit"
    message = f"is 'auto', but the model's {what} is not known ({reason}), so {consequence}; set a number"
    return CallWarning(kind="other", subject=setting, message=message, lossy=False)


def _uncounted(reason: str) -> CallWarning:
    message = f"is 'provider', but the tokens of this request are estimated, because {reason}"
    return CallWarning(kind="other", subject="input_token_count", message=message, lossy=False)
