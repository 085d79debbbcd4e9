"""Decide when a member of a composed service rests. Pure, apart from the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Lock

from trunkline._forks import begin_anew_after_fork
from trunkline.errors import BadRequest, LimitTimeout, NotFound, RemoteError


# The life of a member:
#
#              `failures` failures in a row, or one with Retry-After
#   serving ──────────────────────────────────────────────────────────> resting
#      ^                                                                   │ the rest has passed
#      │                     the probe succeeds                            v
#      └─────────────────────────────────────────────────────────────── probed by one call
#                                            the probe fails: resting, for twice as long
#
# While it rests, it is called only if no other member can serve. Such calls, and those that had begun before the rest,
# are no reason to rest for longer, unless they come with Retry-After.
#
# All event loops and threads share a member. Each method therefore holds the lock, and never for long.
class CircuitBreaker:
    """Whether a member of a composed service may serve a call now, or rests because it keeps failing.

    It rests after `failures` failures in a row, for `rest` seconds, and for twice as long each further time, up to
    `longest_rest`. A failure that comes with `Retry-After` makes it rest for that time at once. After the rest, one
    call is let through as a probe: the member serves again if it succeeds. `clock` returns seconds.
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
        self._next_rest = min(rest, longest_rest)
        self._rests_until = -math.inf
        self._is_resting = False
        self._probed_since: float | None = None
        begin_anew_after_fork(self)

    def begin_anew(self) -> object:
        """Replace the lock, which another thread of the parent may have held at the moment of the fork."""
        inherited, self._lock = self._lock, Lock()
        return inherited

    def allows(self) -> bool:
        """Return whether the member may serve a call now. After a rest, the call that asks first is the probe."""
        with self._lock:
            if not self._is_resting:
                return True
            now = self._clock()
            # The outcome of a probe may never be reported, for example if its stream is dropped without being closed.
            probing = self._probed_since is not None and now < self._probed_since + self._longest_rest
            if now < self._rests_until or probing:
                return False
            self._probed_since = now
            return True

    def answered(self) -> None:
        """A stream of the member has opened: the member serves again, but its failures are not forgotten yet."""
        with self._lock:
            self._is_resting, self._probed_since = False, None

    def succeeded(self) -> None:
        """A call of the member succeeded."""
        with self._lock:
            self._is_resting, self._probed_since = False, None
            self._failures = 0
            self._next_rest = min(self._rest, self._longest_rest)

    def failed(self, error: BaseException) -> None:
        """A call of the member failed. Only an error that is the member's own fault counts."""
        with self._lock:
            was_probe, self._probed_since = self._probed_since is not None, None
            if not isinstance(error, RemoteError) or isinstance(error, (BadRequest, LimitTimeout, NotFound)):
                return
            rest = min(error.retry_after or 0.0, self._longest_rest)
            if was_probe or not self._is_resting:
                self._failures += 1
            if was_probe or self._failures >= self._threshold:
                rest = max(rest, self._next_rest)
                self._next_rest = min(self._next_rest * 2, self._longest_rest)
                self._failures = 0
            if rest <= 0:
                return
            self._is_resting = True
            self._rests_until = max(self._rests_until, self._clock() + rest)
