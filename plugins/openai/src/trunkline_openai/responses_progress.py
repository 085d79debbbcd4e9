"""How much of a response of the Responses API has been turned into events so far.

A stream repeats everything that it said: in deltas, when a piece is done, when an item is done, and in the last event.
These classes find the rest that is new in linear time, however many pieces and items there are.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class EmittedText:
    """The part of a text that has been emitted as events. It came in pieces, and comes again as a whole."""

    __slots__ = ("_pieces", "length")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self.length = 0

    def add(self, piece: str) -> None:
        """Record that a piece was emitted."""
        if piece:
            self._pieces.append(piece)
            self.length += len(piece)

    def rest(self, whole: str) -> str:
        """The rest of `whole` that was not emitted yet. Empty if the two differ: events cannot be taken back."""
        if len(whole) <= self.length:
            return ""
        at = 0
        for piece in self._pieces:
            if not whole.startswith(piece, at):
                return ""
            at += len(piece)
        return whole[at:]

    def text(self) -> str:
        """All the text that was emitted."""
        return "".join(self._pieces)


class TextOffsets:
    """Where each of several growing texts begins in their concatenation. A Fenwick tree: each operation is O(log n)."""

    def __init__(self) -> None:
        self._sums = [0]

    def append(self) -> int:
        """Add an empty text at the end. Returns its position."""
        position = len(self._sums) - 1
        self._sums.append(self.before(position) - self.before(position + 1 - ((position + 1) & -(position + 1))))
        return position

    def add(self, position: int, length: int) -> None:
        """Record that the text at `position` grew by `length` characters."""
        at = position + 1
        while at < len(self._sums):
            self._sums[at] += length
            at += at & -at

    def before(self, position: int) -> int:
        """The total length, in characters, of the texts before `position`."""
        total, at = 0, position
        while at:
            total += self._sums[at]
            at -= at & -at
        return total


class UnmatchedItems(Generic[T]):
    """Streamed items that the last event has not repeated yet. Each is matched once, by its kind and its call's id."""

    def __init__(self) -> None:
        self._items: dict[int, T] = {}
        self._of_kind: dict[str, deque[T]] = {}
        self._of_call: dict[tuple[str, str], deque[T]] = {}

    def add(self, item: T, kind: str, call_id: str) -> None:
        """Add an item. `call_id` is empty for an item that is not a call."""
        self._items[id(item)] = item
        self._of_kind.setdefault(kind, deque()).append(item)
        self._of_call.setdefault((kind, call_id), deque()).append(item)

    def __contains__(self, item: T) -> bool:
        return id(item) in self._items

    def remove(self, item: T) -> None:
        """Remove an item, which has been matched."""
        del self._items[id(item)]

    def find(self, kind: str, call_id: str) -> T | None:
        """The first item of a kind with this call id or without one. If `call_id` is empty, the first with any."""
        if not call_id:
            return self._first(self._of_kind.get(kind))
        return self._first(self._of_call.get((kind, call_id))) or self._first(self._of_call.get((kind, "")))

    def rest(self) -> list[T]:
        """The items that were not matched, in order."""
        return list(self._items.values())

    def _first(self, queue: deque[T] | None) -> T | None:
        while queue and id(queue[0]) not in self._items:
            queue.popleft()
        return queue[0] if queue else None
