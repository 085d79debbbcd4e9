"""Decide when a member of a composed service rests. Pure, apart from the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Lock

from trunkline._forks import begin_anew_after_fork
from trunkline.errors import BadRequest, LimitTimeout, NotFound, RemoteError, RequestTimeout


# The life of a member:
#
#              `failures` failures in a row, timeouts among them of `rest` seconds in total, or one Retry-After
#   serving ──────────────────────────────────────────────────────────> resting
#      ^                                                                   │ the rest has passed
#      │                     the probe succeeds                            v
#      └─────────────────────────────────────────────────────────────── probed by one call
#                                            the probe fails: resting, for twice as long
#
# While it rests, it is called only if no other member can serve. The failures of such calls do not make it rest for
# longer, unless they come with Retry-After.
#
# A call that began before a rest says nothing about the member since then. Its success does not end the rest. Its
# failure neither makes the rest longer nor starts another one after it, unless it comes with Retry-After.
#
# A member that hangs costs each call its whole timeout. So timeouts count by the time they took as well.
#
# All event loops and threads share a member. Each method therefore holds the lock, and never for long.
class CircuitBreaker:
    """Whether a member of a composed service may serve a call now, or rests because it keeps failing.

    It rests after `failures` failures in a row, or when the timeouts among them took `rest` seconds in total. It rests
    for `rest` seconds, and for twice as long each further time, up to `longest_rest`. A failure that comes with
    `Retry-After` makes it rest for that time at once. After the rest, one call is let through as a probe: the member
    serves again if it succeeds. `clock` returns seconds.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        rest: float = 30.0,
        longest_rest: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold = failures
        self._rest = rest
        self._longest_rest = longest_rest
        self._clock = clock
        self._lock = Lock()
        self._failures = 0  # in a row
        self._waited = 0.0  # how long the timeouts among them took
        self._next_rest = min(rest, longest_rest)
        self._rests = 0  # how many rests have begun
        self._rests_until = -math.inf
        self._is_resting = False
        self._probe: Attempt | None = None
        begin_anew_after_fork(self)

    def begin_anew(self) -> object:
        """Replace the lock, which another thread of the parent may have held at the moment of the fork."""
        inherited, self._lock = self._lock, Lock()
        return inherited

    def attempt(self) -> Attempt | None:
        """Begin a call of the member, or return `None` if it rests. After a rest, the first call is the probe."""
        with self._lock:
            now = self._clock()
            attempt = Attempt(self, now, self._rests)
            if self._is_resting:
                # The outcome of a probe may never be reported, for example if its stream is dropped without being
                # closed.
                probing = self._probe is not None and now < self._probe.began_at + self._longest_rest
                if now < self._rests_until or probing:
                    return None
                self._probe = attempt
            return attempt

    def last_resort(self) -> Attempt:
        """Begin a call of the member although it rests, since no other one can serve."""
        with self._lock:
            return Attempt(self, self._clock(), self._rests)

    def _succeeded(self, attempt: Attempt, *, is_complete: bool) -> None:
        with self._lock:
            if self._probe is attempt:
                self._probe = None
            if self._is_resting and attempt.rests != self._rests:
                return
            self._is_resting, self._probe = False, None
            self._waited = 0.0
            if is_complete:
                self._failures = 0
                self._next_rest = min(self._rest, self._longest_rest)

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        with self._lock:
            was_probe = self._probe is attempt
            if was_probe:
                self._probe = None
            if not isinstance(error, RemoteError) or isinstance(error, (BadRequest, LimitTimeout, NotFound)):
                return
            now = self._clock()
            rest = min(error.retry_after or 0.0, self._longest_rest)
            if was_probe or not (self._is_resting or attempt.rests != self._rests):
                self._failures += 1
                if isinstance(error, RequestTimeout) and not attempt.has_answered:
                    self._waited += now - attempt.began_at
            if was_probe or self._failures >= self._threshold or self._waited >= self._rest:
                rest = max(rest, self._next_rest)
                self._next_rest = min(self._next_rest * 2, self._longest_rest)
                self._failures, self._waited = 0, 0.0
            if rest <= 0:
                return
            self._is_resting = True
            self._rests += 1
            self._rests_until = max(self._rests_until, now + rest)


class Attempt:
    """One call of a member. Its outcome is reported to the member's breaker.

    `rests` is how many rests of the member had begun before it.
    """

    __slots__ = ("_breaker", "began_at", "has_answered", "rests")

    def __init__(self, breaker: CircuitBreaker, began_at: float, rests: int) -> None:
        self._breaker = breaker
        self.began_at = began_at
        self.rests = rests
        self.has_answered = False

    def answered(self) -> None:
        """A stream of the member has opened: the member serves again, but its failures are not forgotten yet."""
        self.has_answered = True
        self._breaker._succeeded(self, is_complete=False)

    def succeeded(self) -> None:
        """The call succeeded."""
        self._breaker._succeeded(self, is_complete=True)

    def failed(self, error: BaseException) -> None:
        """The call failed. Only an error that is the member's own fault counts."""
        self._breaker._failed(self, error)
