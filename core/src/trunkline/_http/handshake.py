"""Close a connection whose TLS handshake does not end well.

httpcore and httpcore2 close a connection after an error in the handshake, but not after a cancellation: the socket then
stays open until the garbage collector finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio

from trunkline._http.common import CLOSE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

T = TypeVar("T")


class _Closable(Protocol):
    def aclose(self) -> Awaitable[None]: ...


async def close_now(stream: _Closable) -> None:
    """Close a connection, also if the call was cancelled. There is no TLS to close in order, so this does not wait."""
    with anyio.CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_LIMIT):
        await stream.aclose()


async def finish_handshake(stream: _Closable, handshake: Awaitable[T]) -> T:
    """Await a handshake on a connection, which is closed if that fails or is cancelled."""
    try:
        return await handshake
    except BaseException:
        await close_now(stream)
        raise


class Handshake:
    """Finds the connection of a request that an application's own client sends, while its handshake is in progress.

    The request's extension `trace`, which both libraries document, has to pass on each step to `note`.
    """

    def __init__(self) -> None:
        self._stream: _Closable | None = None
        self._in_progress = False

    def note(self, event: str, info: Mapping[str, object]) -> None:
        """Note a step: its name is `connection.start_tls.started`, for example."""
        # A transport of the application may report steps with names of any form.
        step, _, state = event.partition(".")[2].partition(".")
        if step in ("start_tls", "setup_socks5_connection"):
            self._in_progress = state != "complete"
        if state == "complete" and step in ("connect_tcp", "connect_unix_socket", "start_tls"):
            self._stream = info.get("return_value")  # type: ignore[assignment]  # its type is that of any value

    async def close(self) -> None:
        """Close the connection if its handshake, with the server or a SOCKS proxy, has not ended."""
        if self._in_progress and self._stream is not None:
            await close_now(self._stream)
