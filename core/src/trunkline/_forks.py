"""Objects that begin anew in the child of a fork.

The child has copies of the parent's objects. Some of them must neither be used nor freed there: sockets that the parent
goes on using, locks that a thread of the parent held, and libraries whose threads exist in the parent only.
"""

from __future__ import annotations

import os
from typing import Any, Protocol
from weakref import WeakSet


class BeginsAnew(Protocol):
    """An object with a method for the child of a fork."""

    def begin_anew(self) -> object:
        """Forget what the parent made, and return it. It is kept for ever, and nobody uses it."""
        ...


_all: WeakSet[Any] = WeakSet()
_inherited: list[object] = []


def begin_anew_after_fork(known: BeginsAnew) -> None:
    """Call `known.begin_anew()` in each child of this process, as long as the object exists."""
    _all.add(known)


def _begin_anew() -> None:
    _inherited.extend(known.begin_anew() for known in tuple(_all))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
