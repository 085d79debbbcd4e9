"""The calls of a service that wait for its retry budget: first come, first served."""

from __future__ import annotations

from collections import OrderedDict

import anyio

from trunkline._calls.retry import RetryBudget


# How a waiting call gets its turn:
#
# - A call that may not retry at once waits in a `_Place`, in the order of arrival.
# - Two events hand out tokens, both in `_let_go`: an attempt of any call succeeds, which returns tokens, or the time of
#   the next probe comes. Only the first place waits with that time as its deadline; the others have none.
# - `changed` wakes a place for two reasons, and `may_go` tells them apart: the place has a token, or it has become the
#   first and has to wait again, now with the deadline.
# - A call that is cancelled in the queue leaves it, and returns its token if it already had one. It then calls
#   `_let_go`, since the next place may be able to go now, or may have become the first.
#
# No wake-up is lost: `turn` replaces `changed` and waits for it without an await in between.
class _Place:
    """A place in the queue. `changed` is set when its call may retry, and when it becomes the first in the queue."""

    __slots__ = ("changed", "may_go")

    def __init__(self) -> None:
        self.changed = anyio.Event()
        self.may_go = False


class RetryQueue:
    """The queue in which retries wait for the budget. The first one also waits for the time of the next probe.

    It needs no task and no lock: the calls that succeed, and the call that is first in the queue, wake the others.
    """

    def __init__(self, budget: RetryBudget | None = None) -> None:
        self.budget = budget or RetryBudget()
        self._places: OrderedDict[_Place, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def succeeded(self) -> None:
        """An attempt of any call succeeded. Costs next to nothing while nothing fails."""
        if not self.budget.full:
            self.budget.succeeded()
            if self._places:
                self._let_go()

    async def turn(self) -> None:
        """Wait until the budget allows this call to retry, and take the token."""
        if not self._places and self.budget.take(anyio.current_time()):
            return
        place = _Place()
        self._places[place] = None
        try:
            while not place.may_go:
                place.changed = anyio.Event()
                first = next(iter(self._places)) is place
                with anyio.CancelScope(deadline=self.budget.next_probe if first else float("inf")):
                    await place.changed.wait()
                if first and not place.may_go:
                    self._let_go()
        except BaseException:
            if place.may_go:
                self.budget.give(1)  # cancelled after it got its token: the next one gets it
            self._places.pop(place, None)
            self._let_go()
            raise

    def _let_go(self) -> None:
        now = anyio.current_time()
        while self._places and self.budget.take(now):
            place, _ = self._places.popitem(last=False)
            place.may_go = True
            place.changed.set()
        if self._places:
            next(iter(self._places)).changed.set()  # it is the first now, and waits for the next probe
