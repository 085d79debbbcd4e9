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

    def __iter__(self) -> Iterator[RunningCall]:
        return iter(list(self._calls.values()))

    def __len__(self) -> int:
        return len(self._calls)

    def start(self, call: RunningCall) -> None:
        """Add a call."""
        self._calls[call.id] = call

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
