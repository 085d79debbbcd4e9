"""End single reads of a stream, at a deadline or from another task, at almost no cost for a read that succeeds.

A cancel scope around every read would cost more than everything else that is done for it. On asyncio, a stream instead
has one timer, which is not reset for each read: when it fires, it checks whether the read that is then in progress has
taken too long. Such a read is ended the way `asyncio.timeout` ends its block: the task is cancelled, and the
cancellation is taken back where the block is left. On trio, where scopes are cheap, each read has one. On both, nothing
stays open while the application's code runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import anyio

from trunkline._event_loops import asyncio_task

if TYPE_CHECKING:
    import asyncio

_FOREVER = float("inf")

_AGAIN = 0.05
"""Seconds after which a read is looked at again that could not be ended."""


class ReadTimeout(Protocol):
    """The time limit of one stream's reads, one at a time: `with read_timeout: await …`, any number of times.

    A block that was ended is left without an exception, and `ended` is then true.
    """

    active: bool
    """Whether a read is in progress."""
    ended: bool
    """Whether the last read was ended."""
    time: Callable[[], float]
    """The clock, in seconds."""

    def extend(self, seconds: float) -> float:
        """Allow the current read, or the next one, this many seconds from now. Returns the clock's time."""
        ...

    @property
    def usable(self) -> bool:
        """Whether the running event loop can use it: a timer belongs to the loop that started it."""
        ...

    def end(self) -> None:
        """End the read that is in progress, from another task."""
        ...

    def close(self) -> None:
        """Release the timer. There must be no read afterwards."""
        ...

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...


def new_read_timeout() -> ReadTimeout:
    """Return a new read timeout, for a stream that is read in the running event loop."""
    return ScopeReadTimeout() if asyncio_task() is None else TaskReadTimeout()


class ReadTimeouts:
    """The unused read timeouts of one service. Each keeps its timer, so that most calls need not start one."""

    def __init__(self) -> None:
        self._free: list[ReadTimeout] = []
        self._closed = False

    def acquire(self) -> ReadTimeout:
        """Return an unused read timeout for the running event loop, or a new one."""
        while self._free:
            known = self._free.pop()
            if known.usable:
                return known
        return new_read_timeout()

    def release(self, used: ReadTimeout) -> None:
        """Take a read timeout back. Its stream has been read."""
        if self._closed:
            used.close()
        else:
            self._free.append(used)

    def close(self) -> None:
        """Release all timers, when the service closes. Timers that are in use are released when they are given back."""
        self._closed = True
        while self._free:
            self._free.pop().close()


# The timer: `_deadline` is the time at which the current read has taken too long, and `_due` the time at which the
# timer fires. A read normally only moves `_deadline`. The timer is set again in two cases: by `extend` if it would fire
# too late for the new deadline, and by `_look` if it fired before the deadline. If it fires while nothing is being
# read, it stays off until the next `extend`.
#
# The cancellation: `end` cancels the task, and `__exit__` takes that back with `uncancel`. Other code, such as a task
# group, may cancel the same task. `_cancelling` is the number of cancellations that were pending when the block was
# entered. If there are more in `end`, other code was first, and the read is looked at again later: normally it has
# ended by then, but a scope inside the read may have taken its cancellation back. If there are more after `uncancel`,
# other code came second, and the `CancelledError` has to leave the block.
class TaskReadTimeout:
    """A read timeout on asyncio: one timer for all reads."""

    __slots__ = ("_cancelling", "_current", "_deadline", "_due", "_loop", "_task", "_timer", "active", "ended")
    time = staticmethod(time.monotonic)

    def __init__(self) -> None:
        import asyncio

        self._loop: asyncio.AbstractEventLoop | None = None  # the loop that the timer belongs to
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
        task = self._task
        if task is None or self.ended:
            return
        if task.cancelling() == self._cancelling:
            self.ended = True
            task.cancel()
        else:  # other code is cancelling the task already, and it must not look as if we did
            self._deadline = self.time()
            self._set_timer(_AGAIN)

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
            return False  # other code is cancelling the task as well, and its cancellation must go on
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
    """A read timeout on trio, and on any other backend of anyio: a cancel scope for each read."""

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
        """Do nothing: a scope is closed by its block."""

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


class TimedReader:
    """The base class of the readers of a `Stream`: each read has a time limit, and another task may end it."""

    __slots__ = ("_read_timeout", "_read_timeouts")

    def __init__(self, read_timeouts: ReadTimeouts) -> None:
        self._read_timeouts = read_timeouts
        self._read_timeout = read_timeouts.acquire()

    @property
    def is_reading(self) -> bool:
        """Whether a task is waiting in `next` at this moment."""
        return self._read_timeout.active

    def cancel_read(self) -> bool:
        """End the read that another task is waiting in: its `next` returns `None`. Returns whether there was one."""
        active = self._read_timeout.active
        if active:
            self._read_timeout.end()
        return active
