"""The time that one call may take, from opening the service to the last byte of the response."""

from __future__ import annotations

import math
import time

import anyio

from trunkline._calls.options import TimeLimit
from trunkline.errors import TotalTimeout


class CallDeadline:
    """How much of `total_timeout` a call has left. The time that the application takes to read a stream is not counted.

    `total` is the service's `total_timeout`, and `limit` that of a composed service around it.
    `left` is in seconds, and `end` is the time at which nothing is left, by the clock of anyio. `scope` is the cancel
    scope that the call runs in. The code that enters it raises `timeout_error()` if the deadline cancelled it.
    """

    __slots__ = ("_started", "active", "end", "left", "limited_by", "read_started", "scope", "total")

    def __init__(self, total: float | None, limit: TimeLimit | None = None) -> None:
        self.left = math.inf if total is None else total
        self.limited_by = ""
        if limit is not None and limit.left < self.left:
            self.left, total, self.limited_by = limit.left, limit.total, limit.service
        self.total = total
        self.scope = anyio.CancelScope()
        self.end = math.inf
        self.active = False
        """Whether the block is entered."""
        self.read_started: float | None = None
        """When the read in progress began, by the clock of anyio. `left` is not updated until the read ends."""
        self._started = 0.0

    def __enter__(self) -> anyio.CancelScope:
        """Count the time of the block, and cancel `scope` (which is entered already) when no time is left."""
        self._started = time.monotonic()
        self.active = True
        if self.total is not None:
            self.scope.deadline = self.end = anyio.current_time() + max(self.left, 0)
        return self.scope

    def __exit__(self, *exc_info: object) -> None:
        self.active = False
        self.scope.deadline = math.inf
        self.left -= time.monotonic() - self._started

    def within_read(self) -> CallDeadline:
        """Return a deadline for what is sent within a read, which ends at the same time.

        The deadline has no cancel scope and does not count time, since the surrounding read does both.
        """
        inner = CallDeadline(None)
        inner.total, inner.limited_by = self.total, self.limited_by
        if self.total is not None:
            started = anyio.current_time() if self.read_started is None else self.read_started
            inner.end = started + max(self.left, 0)
        return inner

    def suspend(self) -> float:
        """Do not cancel `scope` any more. Returns the seconds that are left.

        An error that has arrived is not replaced by the end of the time: its body is read until then, and it is raised.
        """
        self.scope.deadline = math.inf
        return max(self.end - anyio.current_time(), 0)

    def resume(self) -> None:
        """Cancel `scope` at `end` again, since the call goes on."""
        self.scope.deadline = self.end

    def timeout_error(self, *, provider: str | None = None, service: str | None = None) -> TotalTimeout:
        """Return the error for a call that has no time left."""
        owner = f" of service {self.limited_by!r}" if self.limited_by else ""
        message = f"not complete within total_timeout ({self.total:g} s){owner}"
        return TotalTimeout(message, provider=provider, service=service)
