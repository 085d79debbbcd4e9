"""What a call uses: estimated before it, and counted after it from its response and its requests that failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import attrs
from trunkline import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, FinishReason, Usage
from trunkline.authoring.token_estimates import TOKENS_PER_MESSAGE, estimate_request, estimate_tokens

from trunkline_gateway.attempts import Attempts, FailedAttempt, FinishedCall
from trunkline_gateway.pricing import cost_of, estimated_cost, is_free, listed_cost
from trunkline_gateway.targets import Target


@attrs.frozen(kw_only=True)
class Used:
    """What a call used. `cost` is in nano-dollars, or `None` if its price is not known."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = 0
    estimated: bool = False


class Accounting:
    """Estimates and counts what one call uses.

    `providers_of` returns the services with a provider that a call may be sent to: `Services.providers_of`.
    """

    def __init__(
        self,
        request: ChatRequest | EmbedRequest,
        target: Target,
        providers_of: Callable[[Target], Sequence[Target]],
    ) -> None:
        self.attempts = Attempts()
        self._request = request
        self._target = target
        self._providers_of = providers_of

    @cached_property
    def input_estimate(self) -> int:
        """An estimate of the input's tokens."""
        return estimate_request(self._request)

    def estimated_cost(self, input_tokens: int, output_tokens: int) -> int | None:
        """Return the price of so many tokens: that of the most expensive member, if the service is composed."""
        return estimated_cost(input_tokens, output_tokens, self._providers_of(self._target))

    def used(
        self, answered: ChatResponse | EmbedResponse | None, error: BaseException | None, *, is_whole: bool
    ) -> Used:
        """Return what all requests of the call used: those that were answered, and those that failed.

        `answered` is the whole response (`is_whole`), or what has arrived of a stream, and `error` is what ended the
        call. The last request that was answered has the response, unless a cancellation or a middleware lost it.
        """
        has_arrived = isinstance(answered, EmbedResponse) or (
            answered is not None and bool(answered.parts or answered.usage)
        )
        attempts, finished = self.attempts, self.attempts.finished
        if not has_arrived and not is_whole and attempts.answering is None and not finished:
            return _sum(self._failed(attempt) for attempt in attempts.failed)
        others = [self._failed(attempt) for attempt in attempts.before_answer()]
        others += [self._finished(one) for one in finished[:-1]]
        if finished and not is_whole and (error is not None or not has_arrived):
            answer = self._finished(finished[-1])
        elif not has_arrived and error is not None and is_free(error):
            return _sum(others)
        else:
            arrived = answered if has_arrived else None
            cost = None if arrived is None else cost_of(arrived, self._target)
            answer = self._answer(arrived, self._answer_targets(), cost)
        return _sum((answer, *others)) if others else answer

    def input_used(self) -> Used:
        """Return the estimate of the input, as what a call used of which nothing else is known."""
        return self._estimate(None, (self._target,))

    def _finished(self, one: FinishedCall) -> Used:
        return self._answer(one.response, (one.target,), listed_cost(one.response, one.target))

    def _failed(self, attempt: FailedAttempt) -> Used:
        return self._estimate(attempt.partial, (attempt.target,))

    def _answer(
        self, response: ChatResponse | EmbedResponse | None, targets: Sequence[Target], cost: int | None
    ) -> Used:
        usage = _counted(response)
        if usage is None or usage.input_tokens is None or not _is_final(response, usage):
            return self._estimate(response, targets)
        tokens = usage.input_tokens, usage.output_tokens or 0
        # The price list may not know the name that the provider gives the model.
        return Used(
            input_tokens=tokens[0],
            output_tokens=tokens[1],
            cost=estimated_cost(*tokens, targets) if cost is None else cost,
        )

    def _answer_targets(self) -> Sequence[Target]:
        """Return who answers, or all who may, if that is not known."""
        known = self.attempts.answering_target
        return self._providers_of(self._target) if known is None else (known,)

    def _estimate(self, response: ChatResponse | EmbedResponse | None, targets: Sequence[Target]) -> Used:
        """Estimate a request that did not end, or whose provider did not count all: by its reports, or by length."""
        usage = _counted(response)
        reported_input = None if usage is None else usage.input_tokens
        reported_output = (usage.output_tokens or 0) if usage is not None else 0
        written = 0
        if isinstance(response, ChatResponse) and response.parts:
            written = estimate_tokens(response.message) - TOKENS_PER_MESSAGE
        input_tokens = self.input_estimate if reported_input is None else reported_input
        output_tokens = max(reported_output, written)
        cost = estimated_cost(input_tokens, output_tokens, targets)
        return Used(input_tokens=input_tokens, output_tokens=output_tokens, cost=cost, estimated=True)


def _counted(response: ChatResponse | EmbedResponse | None) -> Usage | None:
    """Return the usage of a response, or `None` if its provider did not count: some servers report zeros."""
    usage = None if response is None else response.usage
    return usage if usage is not None and (usage.input_tokens or usage.output_tokens) else None


def _is_final(response: ChatResponse | EmbedResponse | None, usage: Usage) -> bool:
    """Whether a response is complete, and all its tokens are counted."""
    if not isinstance(response, ChatResponse):
        return True
    return response.finish_reason is not FinishReason.ERROR and usage.output_tokens is not None


def _sum(parts: Iterable[Used]) -> Used:
    """Return what several requests used. The cost is that of the requests whose price is known."""
    used = tuple(parts)
    costs = [one.cost for one in used if one.cost is not None]
    return Used(
        input_tokens=sum(one.input_tokens for one in used),
        output_tokens=sum(one.output_tokens for one in used),
        cost=sum(costs) if costs or not used else None,
        estimated=any(one.estimated for one in used),
    )
