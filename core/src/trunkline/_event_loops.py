"""Keep what belongs to one event loop apart from what belongs to none.

A service belongs to no event loop. It may be made at import, used in several `asyncio.run` one after another, and in
several threads at once, each with a loop. What it opens, such as connections and locks, belongs to one loop. `PerLoop`
keeps one value for each loop, and closes it when the loop ends:

- **A loop that ends.** When a loop ends, asyncio and trio close the async generators that are still suspended: asyncio
  with `loop.shutdown_asyncgens`, which `asyncio.run` calls, and trio at the end of `trio.run`. Each value therefore has
  a suspended generator whose `finally` closes the value. A loop that is closed without that leaves its value behind.
  The value is dropped when the next loop is used, and the garbage collector closes its sockets.
- **Two ways to close.** `aclose` and the end of the loop may come at the same time. The first one closes the value; the
  other waits for it.
- **A fork.** The child inherits sockets that its parent goes on using. It must neither use nor close them: if the child
  removes a socket from its selector, it may vanish from the parent's, since both processes share the selector. So every
  `PerLoop` is empty in the child, and what was inherited is kept for ever and never touched.
"""

from __future__ import annotations

import contextvars
import math
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio

from trunkline._forks import begin_anew_after_fork

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


def asyncio_task() -> asyncio.Task[Any] | None:
    """Return the running task of asyncio, or `None` in a task of trio and outside of event loops.

    In trio's guest mode, one thread has tasks of both. A loop of asyncio then runs while a task of trio does, but none
    of its tasks; and a run of trio is in progress while a task of asyncio runs. So only the task tells the two apart.
    """
    asyncio = sys.modules.get("asyncio")
    try:
        return asyncio.current_task() if asyncio is not None else None
    except RuntimeError:
        return None


def start_task(run: Coroutine[Any, Any, None], name: str, on_end: Callable[[], None] | None = None) -> object:
    """Run a coroutine in a new task that belongs to no task group, with a copy of this task's context variables.

    On trio it must raise nothing. `on_end` is called at the end also if asyncio cancels the task before it has begun.
    """
    task = asyncio_task()
    if task is not None:
        started = task.get_loop().create_task(run, name=name)
        if on_end is not None:
            started.add_done_callback(lambda _: on_end())
        return started
    import trio

    return trio.lowlevel.spawn_system_task(lambda: run, name=name, context=contextvars.copy_context())


def call_soon(loop: object, function: Callable[[], None]) -> None:
    """Call a function in an event loop as soon as the loop runs. If the loop has ended, do nothing.

    Any thread may call this, and so may a finalizer: it never waits for a lock that the interrupted code might hold.
    """
    schedule: Callable[[Callable[[], None]], object]
    schedule = getattr(loop, "call_soon_threadsafe", None) or cast("Any", loop).run_sync_soon
    with suppress(RuntimeError):  # the loop has ended
        schedule(function)


def only_this_task_is_cancelled(host: asyncio.Task[Any] | None) -> bool:
    """Return whether asyncio's `Task.cancel` was called for the running task, but not for the task of its task group.

    It is `False` if a scope around the task is cancelled. `asyncio.run` cancels both tasks when it ends.
    """
    task = asyncio_task()
    if task is None or not task.cancelling() or anyio.current_effective_deadline() == -math.inf:
        return False
    return host is None or not host.cancelling()


async def take_cancellation() -> None:
    """Take a cancellation that asyncio has not delivered yet. A task that returned without it would be cancelled."""
    import asyncio

    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)


def running_loop() -> object:
    """Return the running event loop: that of asyncio, or trio's token. Raises `RuntimeError` if there is none."""
    task = asyncio_task()
    if task is not None:
        return task.get_loop()
    trio = sys.modules.get("trio")
    if trio is None:
        raise RuntimeError("no running event loop")
    token: object = trio.lowlevel.current_trio_token()
    return token


def is_closed(loop: object) -> bool:
    """Whether an event loop is known to have ended. trio does not say."""
    closed: Callable[[], bool] | None = getattr(loop, "is_closed", None)
    return closed is not None and closed()


class PerLoop(Generic[T]):
    """One value for each event loop, made by `make` on its first use, and closed by `close` when the loop ends."""

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._entries: dict[object, _Entry[T]] = {}
        begin_anew_after_fork(self)

    def get(self) -> T:
        """Return the value of the running event loop. Raises `RuntimeError` if none is running."""
        loop = running_loop()
        entry = self._entries.get(loop)
        return self._add(loop).value if entry is None else entry.value

    async def aclose(self) -> None:
        """Close the value of the running event loop, and return when it is closed."""
        entry = self._entries.get(running_loop())
        if entry is not None:
            await entry.aclose()

    def _add(self, loop: object) -> _Entry[T]:
        for known in tuple(self._entries):
            if is_closed(known):
                self._entries.pop(known, None)
        value = self._make()
        entry = self._entries[loop] = _Entry(value, partial(self._end, loop, value))
        return entry

    async def _end(self, loop: object, value: T) -> None:
        try:
            await self._close(value)
        finally:
            self._entries.pop(loop, None)

    def begin_anew(self) -> object:
        """Forget the values of the parent of a fork."""
        inherited, self._entries = self._entries, {}
        return inherited


class _Entry(Generic[T]):
    """The value of one event loop, and the generator that the loop closes at its end."""

    def __init__(self, value: T, close: Callable[[], Awaitable[None]]) -> None:
        self.value = value
        self._close = close
        self._closed: anyio.Event | None = None
        self._at_end = self._close_at_end_of_loop()
        with suppress(StopIteration):
            # Run up to the `yield`. Nothing is awaited before it, so that no event loop is needed for that.
            self._at_end.asend(None).send(None)

    async def _close_at_end_of_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self._close_once()

    async def _close_once(self) -> None:
        if self._closed is not None:
            if not self._closed.is_set():
                await self._closed.wait()
            return
        self._closed = anyio.Event()
        try:
            with anyio.CancelScope(shield=True):
                await self._close()
        finally:
            self._closed.set()

    async def aclose(self) -> None:
        await self._close_once()
        await self._at_end.aclose()  # waits for nothing, since the value is closed
