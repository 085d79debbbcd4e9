"""The time of one call."""

from __future__ import annotations

import math
import time

import anyio

from trunkline.errors import TotalTimeout


class CallDeadline:
    """The time that a call may take in all. The time that the application takes to read a stream is left out.

    `left` is the seconds that are left. `scope` is the one scope that the call is sent in. Whoever enters it raises
    `timeout_error()` where it was cancelled by its deadline.
    """

    __slots__ = ("_started", "left", "scope", "total")

    def __init__(self, total: float | None) -> None:
        self.left = float("inf") if total is None else total
        self.total = total
        self.scope = anyio.CancelScope()
        self._started = 0.0

    def __enter__(self) -> anyio.CancelScope:
        """Count the time of the block; `scope`, which is entered, ends at the deadline."""
        self._started = time.monotonic()
        if self.total is not None:
            self.scope.deadline = anyio.current_time() + max(self.left, 0)
        return self.scope

    def __exit__(self, *exc_info: object) -> None:
        self.scope.deadline = math.inf
        self.left -= time.monotonic() - self._started

    def timeout_error(self) -> TotalTimeout:
        """The error for a call that has reached its deadline."""
        return TotalTimeout(f"not complete within total_timeout ({self.total:g} s)")
