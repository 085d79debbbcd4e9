"""The calls that run."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anyio
import attrs


@attrs.define(kw_only=True, eq=False)
class RunningCall:
    """A call in flight, as the console shows it. `cancel` ends it."""

    id: str
    key_name: str
    key_id: int | None
    service: str
    model: str
    api: str
    started: float = attrs.field(factory=time.monotonic)
    output_characters: int = 0
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope, repr=False)
    is_cancelled: bool = False
    """Whether an administrator, or the end of the gateway, has ended it."""

    def cancel(self) -> None:
        """End the call. Its client gets an error."""
        self.is_cancelled = True
        self.scope.cancel()


class RunningCalls:
    """All calls in flight of this instance."""

    def __init__(self) -> None:
        self._calls: dict[str, RunningCall] = {}
        self._is_closed = False
        self._unsettled = 0
        self._settled: anyio.Event | None = None

    def __iter__(self) -> Iterator[RunningCall]:
        return iter(list(self._calls.values()))

    def __len__(self) -> int:
        return len(self._calls)

    def start(self, call: RunningCall) -> None:
        """Add a call. It is ended at once if all calls were ended for good."""
        self._calls[call.id] = call
        if self._is_closed:
            call.cancel()

    def end(self, call: RunningCall) -> None:
        """Remove a call."""
        self._calls.pop(call.id, None)

    def cancel(self, call_id: str) -> bool:
        """End a call. Returns whether it was there."""
        call = self._calls.get(call_id)
        if call is not None:
            call.cancel()
        return call is not None

    def cancel_all(self) -> None:
        """End all calls."""
        for call in self:
            call.cancel()

    def close(self) -> None:
        """End all calls, also those that were admitted and have not started yet."""
        self._is_closed = True
        self.cancel_all()

    def enter(self) -> None:
        """Count a call that begins to reserve what it may cost. `leave` follows when it is settled."""
        self._unsettled += 1

    def leave(self) -> None:
        """Count a call that is settled, or was not admitted."""
        self._unsettled -= 1
        if not self._unsettled and self._settled is not None:
            self._settled.set()

    async def wait_settled(self) -> None:
        """Wait until no call reserves, runs or settles."""
        while self._unsettled:
            self._settled = anyio.Event()
            await self._settled.wait()
