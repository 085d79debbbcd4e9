"""One call as its observers see it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable

from trunkline._calls.deadline import CallDeadline
from trunkline._calls.pipeline import Pipeline
from trunkline.authoring.provider import Observer
from trunkline.errors import TrunklineError
from trunkline.secrets import forget_locals

_log = logging.getLogger("trunkline")
_numbers = itertools.count(1)


class ObservedCall:
    """One call as its observers see it."""

    __slots__ = ("_context", "_observers", "_pipeline", "deadline", "number")

    def __init__(self, pipeline: Pipeline, operation: str, request: object) -> None:
        self._pipeline = pipeline
        self._observers = pipeline.steps.observers
        self.number = next(_numbers)
        self.deadline = CallDeadline(pipeline.settings.total_timeout)
        context = pipeline.context
        self._tell(lambda observer: observer.started(self.number, context, operation, request))

    @property
    def observed(self) -> bool:
        """Whether anybody watches; else what they would be told need not be made."""
        return bool(self._observers)

    def _tell(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception:  # an observer only watches: its mistakes must not reach the call
                _log.exception("an observer failed: %s", type(observer).__name__)

    def retried(self, error: TrunklineError, delay: float) -> None:
        self._tell(lambda observer: observer.retried(self.number, error, delay))

    def first_event(self) -> None:
        self._tell(lambda observer: observer.first_event(self.number))

    def finished(self, response: object) -> None:
        self._tell(lambda observer: observer.finished(self.number, response))

    def failed(self, error: BaseException, outer: BaseException | None = None) -> None:
        """Report the end. `outer` is the exception that the application was handling when it made the call."""
        if isinstance(error, TrunklineError):
            self._pipeline.finalize_error(error)
        forget_locals(error, outer)
        self._tell(lambda observer: observer.failed(self.number, error))
