"""What of an answer of the Responses API was told so far. All of it costs time in proportion to what came."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Told:
    """A text that comes in pieces and, besides, whole."""

    __slots__ = ("_pieces", "length")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.length = 0

    def add(self, piece: str) -> None:
        """A piece was told."""
        if piece:
            self._pieces.append(piece)
            self.length += len(piece)

    def rest(self, whole: str) -> str:
        """What of the whole was not told yet. Where the two disagree, what was told stands."""
        if len(whole) <= self.length:
            return ""
        at = 0
        for piece in self._pieces:
            if not whole.startswith(piece, at):
                return ""
            at += len(piece)
        return whole[at:]

    def text(self) -> str:
        """All that was told."""
        return "".join(self._pieces)


class Lengths:
    """The lengths of texts in their order, and how much stands before each (a Fenwick tree)."""

    def __init__(self) -> None:
        self._sums = [0]

    def append(self) -> int:
        """A text begins; gives its position."""
        position = len(self._sums) - 1
        self._sums.append(self.before(position) - self.before(position + 1 - ((position + 1) & -(position + 1))))
        return position

    def add(self, position: int, length: int) -> None:
        """The text at a position is longer by this."""
        at = position + 1
        while at < len(self._sums):
            self._sums[at] += length
            at += at & -at

    def before(self, position: int) -> int:
        """The length of all texts before a position."""
        total, at = 0, position
        while at:
            total += self._sums[at]
            at -= at & -at
        return total


class Unclaimed(Generic[T]):
    """Items that wait to be told of once more: each is claimed once, by its kind and the id of its call."""

    def __init__(self) -> None:
        self._items: dict[int, T] = {}
        self._of_kind: dict[str, deque[T]] = {}
        self._of_call: dict[tuple[str, str], deque[T]] = {}

    def add(self, item: T, kind: str, call_id: str) -> None:
        """An item; `call_id` is empty where it has none."""
        self._items[id(item)] = item
        self._of_kind.setdefault(kind, deque()).append(item)
        self._of_call.setdefault((kind, call_id), deque()).append(item)

    def __contains__(self, item: T) -> bool:
        return id(item) in self._items

    def claim(self, item: T) -> None:
        """Take an item out."""
        del self._items[id(item)]

    def find(self, kind: str, call_id: str) -> T | None:
        """The first item of a kind whose call is this one or not known; of any call, where `call_id` is empty."""
        if not call_id:
            return self._first(self._of_kind.get(kind))
        return self._first(self._of_call.get((kind, call_id))) or self._first(self._of_call.get((kind, "")))

    def rest(self) -> list[T]:
        """What nobody claimed, in order."""
        return list(self._items.values())

    def _first(self, queue: deque[T] | None) -> T | None:
        while queue and id(queue[0]) not in self._items:
            queue.popleft()
        return queue[0] if queue else None
