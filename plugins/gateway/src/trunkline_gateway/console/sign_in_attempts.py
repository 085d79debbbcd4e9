"""Limits how often people may try to sign in."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable

WINDOW = 60.0
"""The seconds in which attempts are counted."""

_MOST_ADDRESSES = 10_000


class SignInAttempts:
    """Counts attempts to sign in that failed, of each address and of all, over the last minute."""

    def __init__(self, *, per_address: int = 10, of_all: int = 60, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_address = per_address
        self._of_all = of_all
        self._clock = clock
        self._all: deque[float] = deque()
        self._addresses: OrderedDict[str, deque[float]] = OrderedDict()

    def begin(self, address: str) -> bool:
        """Count an attempt, and return whether it is allowed. Attempts at the same time are all counted."""
        now = self._clock()
        own = self._addresses.setdefault(address, deque())
        self._addresses.move_to_end(address)
        while len(self._addresses) > _MOST_ADDRESSES:
            self._addresses.popitem(last=False)
        for times in (self._all, own):
            while times and times[0] <= now - WINDOW:
                times.popleft()
        if len(own) >= self._per_address or len(self._all) >= self._of_all:
            return False
        own.append(now)
        self._all.append(now)
        return True

    def succeeded(self, address: str) -> None:
        """Do not count the last attempt of an address, because it succeeded."""
        own = self._addresses.get(address)
        if own:
            last = own.pop()
            if last in self._all:
                self._all.remove(last)
