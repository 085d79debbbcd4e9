"""Close a connection whose TLS handshake fails or is cancelled.

httpcore and httpcore2 close a connection after an error in the handshake, but not after a cancellation: the socket then
stays open until the garbage collector finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio

from trunkline._http.common import CLOSE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


class Closable(Protocol):
    """A connection."""

    def aclose(self) -> Awaitable[None]: ...


async def close_now(stream: Closable) -> None:
    """Close a connection, also if the call was cancelled. It skips the TLS shutdown, so it does not wait."""
    with anyio.move_on_after(CLOSE_LIMIT, shield=True):
        await stream.aclose()


async def finish_handshake(stream: Closable, handshake: Awaitable[T]) -> T:
    """Await a handshake on a connection, which is closed if that fails or is cancelled."""
    try:
        return await handshake
    except BaseException:
        await close_now(stream)
        raise
