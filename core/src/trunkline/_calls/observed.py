"""The calls to the provider as their observers see them.

Without middlewares, a call of the application is one call to the provider. A middleware may answer it itself, or call
the provider several times.
"""

from __future__ import annotations

import itertools
import logging
import re
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import attrs

from trunkline._calls.deadline import CallDeadline
from trunkline._calls.options import NO_OPTIONS, CallOptions
from trunkline._calls.pipeline import Pipeline
from trunkline._masking import without_keys
from trunkline.authoring.provider import Call, Observer, call_variable
from trunkline.errors import CallError, PluginError, RemoteError, TrunklineError
from trunkline.response import ChatResponse
from trunkline.secrets import scrub

T = TypeVar("T")
V = TypeVar("V")

_log = logging.getLogger("trunkline")
_numbers = itertools.count(1)

_LOGGED_WAIT = 1.0
"""A wait before a retry is logged if it is longer than this, in seconds."""
_SHORT_WAIT = 10.0
"""A shorter wait, in seconds, is logged with one decimal."""


class ObservedCall:
    """One call to the provider: its deadline, and the observers to notify of its steps."""

    __slots__ = ("_model", "_observers", "_pipeline", "call", "deadline")

    def __init__(self, pipeline: Pipeline, call: Call, request: object, deadline: CallDeadline) -> None:
        self._pipeline = pipeline
        self._observers = pipeline.steps.observers
        self.call = call
        self.deadline = deadline
        self._model: str | None = None
        if hasattr(request, "model"):
            self._model = getattr(request, "model", None) or pipeline.settings.default_model
        self._notify(lambda observer: observer.started(call, call.context, call.operation, request))

    @property
    def observed(self) -> bool:
        """Whether any observer is registered; if not, callers skip building its arguments."""
        return bool(self._observers)

    def _notify(self, notify: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                notify(observer)
            except Exception as error:  # an observer's mistake must not affect the call
                # Not `_log.exception`: the text may contain a secret, and handlers may show the variables of frames.
                try:
                    report = scrub("".join(traceback.format_exception(error)), self._pipeline.known_secrets())
                except PluginError as broken:
                    report = f"{type(error).__name__} (its text is not shown: {broken})"
                _log.error("an observer failed: %s\n%s", type(observer).__name__, report)

    def retried(self, error: TrunklineError, delay: float) -> None:
        """An attempt failed; another follows in `delay` seconds. Called before the wait."""
        self._add_model(error)
        self._notify(lambda observer: observer.retried(self.call, error, delay))
        if delay > _LOGGED_WAIT:
            service = self._pipeline.context.name
            # Whole seconds, except for a short wait, which they would show as up to twice too short.
            seconds = f"{delay:.1f}" if delay < _SHORT_WAIT else f"{int(delay)}"
            _log.warning("service %r: %s; trying again in %s s", without_keys(service), _reason(error), seconds)

    def first_event(self) -> None:
        """The first event of a stream has arrived."""
        self._notify(lambda observer: observer.first_event(self.call))

    def finished(self, response: object) -> None:
        """The call succeeded."""
        self._notify(lambda observer: observer.finished(self.call, response))

    def at_border(self, error: BaseException) -> BaseException:
        """Return the exception to raise for one that reading the response raised; see `Pipeline.at_border`."""
        return self._pipeline.at_border(error)

    def abandoned(self, partial: ChatResponse) -> None:
        """The application left the stream before its end."""
        self._notify(lambda observer: observer.abandoned(self.call, partial))

    def failed(self, error: BaseException) -> None:
        """The call failed, or the application was cancelled."""
        if isinstance(error, TrunklineError):
            self._pipeline.finalize_error(error)
            self._add_model(error)
        self._notify(lambda observer: observer.failed(self.call, error))

    def _add_model(self, error: TrunklineError) -> None:
        if isinstance(error, RemoteError):
            error.model = error.model or self._model


class ServiceCall:
    """One call of the application: its deadline, and the calls to the provider that it leads to.

    A call to the provider that was cancelled cannot know why: the application cancelled it, the deadline has passed, or
    the service was closed. Its observers are notified when the whole call has ended, with the error of the whole call.
    """

    __slots__ = ("_is_first", "_outcome", "_unsettled", "call", "deadline", "is_closing", "open_streams", "pipeline")

    def __init__(
        self, pipeline: Pipeline, operation: str, deadline: CallDeadline, options: CallOptions = NO_OPTIONS
    ) -> None:
        self.pipeline = pipeline
        self.call = Call(
            number=next(_numbers),
            operation=operation,
            context=pipeline.context,
            state=dict(options.state),
            hops=options.hops,
            group=options.group,
        )
        self.deadline = deadline
        self.is_closing = False
        """Whether the application is leaving the stream."""
        self.open_streams: list[AbstractAsyncContextManager[object]] = []
        """The streams of the provider that were entered and not left."""
        self._is_first = True
        self._unsettled: list[Callable[[BaseException | None], None]] = []
        self._outcome: tuple[BaseException | None] | None = None

    def observed_call(self, request: object) -> ObservedCall:
        """Start a call to the provider. The first one has the number of the whole call.

        Raises `CallError` if the whole call has ended: nothing would limit the time of the new one, or close it with
        the service.
        """
        if self._outcome is not None:
            raise CallError("the call has ended, so its middleware cannot proceed", service=self.call.context.name)
        call = self.call if self._is_first else attrs.evolve(self.call, number=next(_numbers))
        self._is_first = False
        return ObservedCall(self.pipeline, call, request, self.deadline)

    async def make(self, send: Callable[[Pipeline, V, ObservedCall], Awaitable[T]], request: V) -> T:
        """Make one call to the provider, as `send` does, and notify its observers."""
        call = self.observed_call(request)
        token = call_variable.set(call.call)
        try:
            result = await send(self.pipeline, request, call)
        except Exception as error:
            call.failed(error)
            self.deadline.resume()  # a middleware may go on
            raise
        except BaseException as error:
            cancellation = error
            self.settle_later(lambda error: call.failed(error or cancellation))
            self.deadline.resume()
            raise
        finally:
            call_variable.reset(token)
        call.finished(result)
        return result

    def settle_later(self, settle: Callable[[BaseException | None], None]) -> None:
        """Call `settle` when the whole call has ended: with its error, or `None` if it did not fail."""
        if self._outcome is None:
            self._unsettled.append(settle)
        else:
            settle(self._outcome[0])

    def _settle(self, error: BaseException | None) -> None:
        self._outcome = (error,)
        while self._unsettled:
            self._unsettled.pop(0)(error)

    # A `Stream` calls these members of a `ServiceCall` or an `ObservedCall`.

    observed = True

    def first_event(self) -> None:
        """Do nothing: the calls to the provider notify their observers."""

    def at_border(self, error: BaseException) -> BaseException:
        """Return the exception to raise for one that reading the response raised; see `Pipeline.at_border`."""
        return self.pipeline.at_border(error)

    def finished(self, response: object) -> None:
        """The call succeeded."""
        self._settle(None)

    def abandoned(self, partial: ChatResponse) -> None:
        """The application left the stream before its end."""
        self._settle(None)

    def failed(self, error: BaseException) -> None:
        """The call failed, or the application was cancelled."""
        if isinstance(error, TrunklineError):
            self.pipeline.finalize_error(error)
        self._settle(error)


def _reason(error: TrunklineError) -> str:
    """Return the kind of an error in words: "rate limited" for `RateLimited`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
