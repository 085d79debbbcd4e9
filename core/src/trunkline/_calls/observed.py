"""One call as its observers see it."""

from __future__ import annotations

import itertools
import logging
import re
import traceback
from collections.abc import Callable

from trunkline._calls.deadline import CallDeadline
from trunkline._calls.pipeline import Pipeline
from trunkline._masking import without_keys
from trunkline.authoring.provider import Observer
from trunkline.errors import PluginError, RemoteError, TrunklineError
from trunkline.request import ChatRequest, EmbedRequest
from trunkline.response import ChatResponse
from trunkline.secrets import scrub

_log = logging.getLogger("trunkline")
_numbers = itertools.count(1)

_LOGGED_WAIT = 1.0
"""A wait before a retry is logged if it is longer than this, in seconds."""
_SHORT_WAIT = 10.0
"""A shorter wait, in seconds, is logged with one decimal."""


class ObservedCall:
    """One call: its number, its deadline, and the observers to notify of its steps."""

    __slots__ = ("_model", "_observers", "_pipeline", "deadline", "number")

    def __init__(self, pipeline: Pipeline, operation: str, request: object, deadline: CallDeadline) -> None:
        self._pipeline = pipeline
        self._observers = pipeline.steps.observers
        self.number = next(_numbers)
        self.deadline = deadline
        self._model: str | None = None
        if isinstance(request, (ChatRequest, EmbedRequest)):
            self._model = request.model or pipeline.settings.default_model
        context = pipeline.context
        self._notify(lambda observer: observer.started(self.number, context, operation, request))

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
        self._notify(lambda observer: observer.retried(self.number, error, delay))
        if delay > _LOGGED_WAIT:
            service = self._pipeline.context.name
            # Whole seconds, except for a short wait, which they would show as up to twice too short.
            seconds = f"{delay:.1f}" if delay < _SHORT_WAIT else f"{int(delay)}"
            _log.warning("service %r: %s; trying again in %s s", without_keys(service), _reason(error), seconds)

    def first_event(self) -> None:
        """The first event of a stream has arrived."""
        self._notify(lambda observer: observer.first_event(self.number))

    def finished(self, response: object) -> None:
        """The call succeeded."""
        self._notify(lambda observer: observer.finished(self.number, response))

    def at_border(self, error: BaseException) -> BaseException:
        """Return the exception to raise for one that reading the response raised; see `Pipeline.at_border`."""
        return self._pipeline.at_border(error)

    def abandoned(self, partial: ChatResponse) -> None:
        """The application left the stream before its end."""
        self._notify(lambda observer: observer.abandoned(self.number, partial))

    def failed(self, error: BaseException) -> None:
        """The call failed, or the application was cancelled."""
        if isinstance(error, TrunklineError):
            self._pipeline.finalize_error(error)
            self._add_model(error)
        self._notify(lambda observer: observer.failed(self.number, error))

    def _add_model(self, error: TrunklineError) -> None:
        if isinstance(error, RemoteError):
            error.model = error.model or self._model


def _reason(error: TrunklineError) -> str:
    """Return the kind of an error in words: "rate limited" for `RateLimited`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
