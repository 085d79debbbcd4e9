"""Ending single reads of a stream, at a deadline or from another task, at next to no cost for a read that goes well.

A cancel scope for every read would cost more than all the rest of it. On asyncio a stream has one timer, which is not
set anew for each read: when it goes off it looks whether the read that is then going on is too long. Such a read is
ended as `asyncio.timeout` ends its block. On trio, where scopes are cheap, each read has one. On both, nothing is open
while the application's code runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    import asyncio

_FOREVER = float("inf")


class ReadTimeout(Protocol):
    """The reads of one stream, one at a time: `with read_timeout: await …`, any number of times.

    The block is left quietly when it was ended; `ended` then says so.
    """

    active: bool
    """Whether a read is going on."""
    ended: bool
    time: Callable[[], float]
    """The clock, in seconds."""

    def extend(self, seconds: float) -> float:
        """Let the read that goes on, or the next one, take so many seconds from now. Gives the time."""
        ...

    @property
    def usable(self) -> bool:
        """Whether the running task can use it: it belongs to an event loop."""
        ...

    def end(self) -> None:
        """End the read that is going on, from another task."""
        ...

    def close(self) -> None:
        """There will be no more reads."""
        ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...


def new_read_timeout() -> ReadTimeout:
    """For a stream that the running task reads."""
    asyncio = sys.modules.get("asyncio")
    try:
        task = asyncio.current_task() if asyncio is not None else None
    except RuntimeError:
        task = None
    return ScopeReadTimeout() if task is None else TaskReadTimeout()


class ReadTimeouts:
    """The readings of one service that are not in use, each with its timer, so that a call need not set one anew."""

    def __init__(self) -> None:
        self._free: list[ReadTimeout] = []

    def acquire(self) -> ReadTimeout:
        """For an answer that the running task reads."""
        while self._free:
            known = self._free.pop()
            if known.usable:
                return known
        return new_read_timeout()

    def release(self, used: ReadTimeout) -> None:
        """No more is read with it."""
        self._free.append(used)

    def close(self) -> None:
        """None is needed any more."""
        while self._free:
            self._free.pop().close()


class TaskReadTimeout:
    """On asyncio."""

    __slots__ = ("_cancelling", "_current", "_deadline", "_due", "_loop", "_task", "_timer", "active", "ended")
    time = staticmethod(time.monotonic)

    def __init__(self) -> None:
        import asyncio

        self._loop: asyncio.AbstractEventLoop | None = None  # whose the timer is
        self._current = asyncio.current_task
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._deadline = self._due = _FOREVER
        self._timer: asyncio.TimerHandle | None = None
        self.active = self.ended = False

    @property
    def usable(self) -> bool:
        from asyncio import get_running_loop

        try:
            return self._loop is None or get_running_loop() is self._loop
        except RuntimeError:
            return False

    def extend(self, seconds: float) -> float:
        now = self.time()
        self._deadline = deadline = now + seconds
        if deadline < self._due:
            self._set_timer(seconds)
        return now

    def end(self) -> None:
        # Where the task is being cancelled already, that ends the read.
        task = self._task
        if task is not None and not self.ended and task.cancelling() == self._cancelling:
            self.ended = True
            task.cancel()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        self._task = task = self._current()
        assert task is not None
        self._cancelling = task.cancelling()
        self.active, self.ended = True, False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        self.active = False
        if not self.ended or task is None:
            return False
        if task.uncancel() > self._cancelling:
            return False  # somebody else cancels the task as well, and must see it happen
        from asyncio import CancelledError

        return kind is not None and issubclass(kind, CancelledError)

    def _set_timer(self, seconds: float) -> None:
        from asyncio import get_running_loop

        self.close()
        self._loop = get_running_loop()
        self._due = self.time() + seconds
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer, self._due = None, _FOREVER
        if self._task is None or self._deadline == _FOREVER:
            return
        left = self._deadline - time.monotonic()
        if left > 0:
            self._set_timer(left)
        else:
            self.end()


class ScopeReadTimeout:
    """On trio, and wherever else anyio runs."""

    __slots__ = ("_deadline", "_scope", "active", "ended")
    time = staticmethod(anyio.current_time)
    usable = False

    def __init__(self) -> None:
        self._scope: anyio.CancelScope | None = None
        self._deadline = _FOREVER
        self.active = self.ended = False

    def extend(self, seconds: float) -> float:
        now = self.time()
        self._deadline = now + seconds
        if self._scope is not None:
            self._scope.deadline = self._deadline
        return now

    def end(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def close(self) -> None:
        """Nothing is left behind."""

    def __enter__(self) -> None:
        self.active, self.ended = True, False
        self._scope = anyio.CancelScope(deadline=self._deadline)
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        scope, self._scope, self.active = self._scope, None, False
        assert scope is not None
        quiet = scope.__exit__(kind, error, traceback)
        self.ended = scope.cancelled_caught
        return quiet
