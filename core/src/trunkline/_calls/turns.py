"""Share calls among services by weight. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from trunkline._forks import begin_anew_after_fork


class Turns:
    """Whose turn it is: the smooth weighted round robin of nginx, which spreads the turns of each evenly.

    Event loops and threads share it, so it is changed with a lock.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = tuple(weights)
        self._total = sum(weights)
        self._credits = [0.0] * len(weights)
        self._lock = Lock()
        begin_anew_after_fork(self)

    def begin_anew(self) -> object:
        """Replace the lock, which another thread of the parent may have held at the moment of the fork."""
        inherited, self._lock = self._lock, Lock()
        return inherited

    def next(self) -> list[int]:
        """Take a turn. Returns the numbers of all, the one whose turn it is first."""
        with self._lock:
            for number, weight in enumerate(self._weights):
                self._credits[number] += weight
            order = sorted(range(len(self._weights)), key=lambda number: -self._credits[number])
            self._credits[order[0]] -= self._total
        return order
