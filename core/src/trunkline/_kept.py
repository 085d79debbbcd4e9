"""What the hooks of one service share in all event loops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from trunkline._forks import begin_anew_after_fork

T = TypeVar("T")


class KeptObjects:
    """Objects by their class. In the child of a fork there are none."""

    def __init__(self) -> None:
        self.begin_anew()
        begin_anew_after_fork(self)

    def get(self, kind: type[T], make: Callable[[], T]) -> T:
        """Return the object of a class, made by `make` if there is none. Threads wait for the one that makes it."""
        with self._lock:
            found = self._objects.get(kind)
            if found is None:
                found = self._objects[kind] = make()
        assert isinstance(found, kind)
        return found

    def clear(self) -> None:
        """Drop the objects."""
        self._objects.clear()

    def begin_anew(self) -> object:
        """Forget what the parent of a fork kept, and a lock that one of its threads may have held."""
        inherited = vars(self).copy()
        self._lock = threading.RLock()  # `make` may need an object of another class
        self._objects: dict[type[object], object] = {}
        return inherited
