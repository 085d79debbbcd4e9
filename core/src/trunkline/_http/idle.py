"""Close idle connections in time, even if no further call is made.

httpcore2 looks at its idle connections only when the next request is sent. Until then, a connection that has expired
stays open, and so does one that the server has closed. A timer of the event loop therefore looks at them, as long as
there are connections. It keeps neither the loop nor the owner of the connections alive: the loop may end while the
timer runs, and the timer ends when its owner has been dropped. On asyncio it is no task, since a pending task would
warn when the loop closes.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Protocol
from weakref import ref

import anyio

from trunkline._event_loops import asyncio_task
from trunkline._http.common import CLOSE_LIMIT

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Sequence

CHECK_SECONDS = 1.0
"""The time, in seconds, between two looks at idle connections."""


class ConnectionOwner(Protocol):
    """Owns connections that can be idle."""

    def expired(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """Return the functions that close the idle connections that are too old or that the server has closed."""
        ...

    def keep_timer(self) -> bool:
        """Return whether the timer goes on, since there are connections to look at again, and remember it."""
        ...


def check_idle(owner: ConnectionOwner) -> None:
    """Start a timer in the running event loop. It runs until `owner.keep_timer` returns `False`."""
    task = asyncio_task()
    if task is not None:
        _start_timer(task.get_loop(), ref(owner))
        return
    import trio

    trio.lowlevel.spawn_system_task(_check_repeatedly, ref(owner))


def _start_timer(loop: asyncio.AbstractEventLoop, owner: ref[ConnectionOwner]) -> None:
    # An empty context: otherwise the timer would keep the context variables of one call alive.
    loop.call_later(CHECK_SECONDS, _check, loop, owner, context=Context())


def _check(loop: asyncio.AbstractEventLoop, reference: ref[ConnectionOwner]) -> None:
    owner = reference()
    if owner is None:
        return
    expired = owner.expired()
    if expired:
        task = loop.create_task(_close(expired), name="trunkline: close idle connections")
        _closing.add(task)  # the loop has only weak references to its tasks
        task.add_done_callback(_closing.discard)
    if owner.keep_timer():
        _start_timer(loop, reference)


_closing: set[asyncio.Task[None]] = set()


async def _check_repeatedly(reference: ref[ConnectionOwner]) -> None:
    """Check in a system task of trio, which ends with the run."""
    checking = True
    while checking:
        await anyio.sleep(CHECK_SECONDS)
        owner = reference()
        if owner is None:
            return
        await _close(owner.expired())
        checking = owner.keep_timer()
        del owner  # do not keep it alive during the wait


async def _close(expired: Sequence[Callable[[], Awaitable[None]]]) -> None:
    for close in expired:
        # Nobody could handle an error, and one in a system task would end the whole run of trio.
        with suppress(Exception), anyio.move_on_after(CLOSE_LIMIT, shield=True):
            await close()
