"""What is known about the limits of a model: what the provider reports, else the table of `genai-prices`.

A model is looked up when a call first needs its limits. The other calls of the event loop wait for the result, and the
other event loops of the service use it later. The lookup is part of the first call, and takes at most a part of what is
left of its deadline. If that call is cancelled, the next one looks the model up, until this happened `MOST_CANCELLED`
times. A failed lookup does not fail the call. It is repeated by the first call after `FORGET_AFTER` seconds, or sooner
if there was no answer at all: after `SILENCE` times as long as it was waited for.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

import anyio
import attrs
from anyio import to_thread

from trunkline._calls.deadline import CallDeadline
from trunkline._calls.model_pages import ModelPages
from trunkline._excerpts import single_line
from trunkline.authoring.json import as_count
from trunkline.authoring.provider import Operation, Operations
from trunkline.errors import TrunklineError
from trunkline.response import ModelInfo

V = TypeVar("V")
R = TypeVar("R")

ASK_LIMIT = 15.0
"""How long the provider may take for a lookup or a count, in seconds. Models are listed within one or two."""

ASK_PART = 0.25
"""The part of what is left of the call's deadline that a lookup or a count may take."""

MOST_CANCELLED = 2
"""After so many calls were cancelled while they waited for an answer, the question counts as not answered."""

FORGET_AFTER = 300.0
"""After how many seconds a lookup that failed or found no limits is repeated."""

SILENCE = 20.0
"""A question that was not answered is asked again after this many times the seconds that a call waited for the answer.

With `ASK_LIMIT`, this is `FORGET_AFTER`. A call with hardly any time left shows little about the provider.
"""


class Ask(Protocol):
    """Sends the request of an operation, and returns the result. Raises `PluginError` if that is not a `kind`."""

    @property
    def deadline(self) -> CallDeadline:
        """The deadline of the call."""
        ...

    async def __call__(self, operation: Operation[V, R], value: V, kind: type[object]) -> R: ...


@attrs.frozen(kw_only=True)
class ModelLimits:
    """The limits of a model. `problem` says why they are not known, if a request failed.

    `until` is when the model is looked up again, in seconds by the monotonic clock.
    """

    context_window: int | None = None
    output_tokens: int | None = None
    problem: str = ""
    until: float = math.inf


class KnownLimits:
    """The limits that a service has looked up, in all its event loops, and the questions that were not answered."""

    def __init__(self) -> None:
        self._found: dict[str, ModelLimits] = {}
        self._cancelled: dict[str, tuple[int, float]] = {}
        self._silent_until: dict[str, float] = {}

    def get(self, model: str) -> ModelLimits | None:
        """Return what is known about a model, or `None` if it must be looked up."""
        limits = self._found.get(model)
        return limits if limits is not None and time.monotonic() < limits.until else None

    def add(self, model: str, limits: ModelLimits) -> None:
        """Remember the result of a lookup."""
        self._found[model] = limits

    def silent_until(self, question: str) -> float:
        """Return when the provider may be asked `question` again, by the monotonic clock."""
        return self._silent_until.get(question, 0.0)

    async def answer(self, question: str, deadline: CallDeadline, ask: Callable[[], Awaitable[R]]) -> R:
        """Return what `ask` returns. Raises `TimeoutError` if the provider does not answer in time, or did not lately.

        `question` says what is asked; it is remembered if there was no answer.
        """
        started = time.monotonic()
        if started < self.silent_until(question):
            raise TimeoutError("the provider did not answer the last time")
        seconds = min(ASK_LIMIT, ASK_PART * (deadline.end - anyio.current_time()))
        try:
            with anyio.move_on_after(seconds):
                result = await ask()
                self._cancelled.pop(question, None)
                return result
        except anyio.get_cancelled_exc_class():
            count, waited = self._cancelled.get(question, (0, 0.0))
            count, waited = count + 1, waited + time.monotonic() - started
            self._cancelled[question] = count, waited
            if count >= MOST_CANCELLED:
                self._give_up(question, waited)
            raise
        self._give_up(question, time.monotonic() - started)
        raise TimeoutError(f"the provider did not answer within {max(seconds, 0):.2g} s")

    def _give_up(self, question: str, waited: float) -> None:
        self._cancelled.pop(question, None)
        self._silent_until[question] = time.monotonic() + min(FORGET_AFTER, SILENCE * waited)


async def find_limits(
    known: KnownLimits, lookup: anyio.Lock, model: str, provider: str, operations: Operations, ask: Ask
) -> ModelLimits:
    """Return the limits of a model. `lookup` allows one lookup at a time in an event loop."""
    limits = known.get(model)
    if limits is None:
        async with lookup:
            limits = known.get(model)
            if limits is None:
                limits = await _look_up(known, model, provider, operations, ask)
                known.add(model, limits)
    return limits


async def _look_up(known: KnownLimits, model: str, provider: str, operations: Operations, ask: Ask) -> ModelLimits:
    limits, question = ModelLimits(), f"limits of {model}"
    try:
        info = await known.answer(question, ask.deadline, partial(_ask_provider, model, operations, ask))
        if info is not None:
            limits = ModelLimits(
                context_window=as_count(info.context_window) or None,
                output_tokens=as_count(info.output_token_limit) or None,
            )
    except TimeoutError as error:
        limits = ModelLimits(problem=str(error), until=known.silent_until(question))
    except Exception as error:  # a plugin may also return a list of something else
        reason = single_line(str(error), 200) if isinstance(error, TrunklineError) else type(error).__name__
        limits = ModelLimits(problem=f"asking failed: {reason}", until=time.monotonic() + FORGET_AFTER)
    if limits.context_window is None and importlib.util.find_spec("genai_prices") is not None:
        # The import takes up to half a second.
        window = await to_thread.run_sync(_window_from_table, model, provider, abandon_on_cancel=True)
        limits = attrs.evolve(limits, context_window=window)
    if limits == ModelLimits():
        limits = attrs.evolve(limits, until=time.monotonic() + FORGET_AFTER)
    return limits


async def _ask_provider(model: str, operations: Operations, ask: Ask) -> ModelInfo | None:
    if operations.model_info is not None:
        return await ask(operations.model_info, model, ModelInfo)
    if operations.list_models is None:
        return None
    pages = ModelPages()
    problem = pages.add(await ask(operations.list_models, None, tuple))
    while problem is None and pages.cursor is not None:
        problem = pages.add(await ask(operations.list_models, pages.cursor, tuple))
    found = next((info for info in pages.models if info.id == model), None)
    # A local server may have one model, and serve it under any name.
    return pages.models[0] if found is None and len(pages.models) == 1 else found


def _window_from_table(model: str, provider: str) -> int | None:
    from genai_prices.data_snapshot import get_snapshot

    snapshot = get_snapshot()
    for provider_id in (provider, None):
        try:
            return snapshot.find_provider_model(model, None, provider_id, None)[1].context_window
        except LookupError:
            continue
    return None
