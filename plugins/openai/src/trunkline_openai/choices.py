"""Select the choices of a stream that belong to the answer. Pure.

If a request sets `n`, the response has several answers, and each choice has the `index` of its answer. Only the first
answer is read. But some servers increase the index with each chunk of a single answer (Foundry Local:
github.com/microsoft/foundry-local/issues/144, June 2025). The parser does not know the request, so it looks at the
order. A response has several answers if an index returns after a different index, if a choice has a different index
after the first answer has finished, or if one chunk has two indexes. Until then, choices whose index is not the first
are held back. If the stream ends first, or if the chunks have different ids, all choices are one answer.
"""

from __future__ import annotations

from typing import Any


class Choices:
    """Picks the choices of the answer from the chunks of one response."""

    def __init__(self) -> None:
        self.first: int | None = None
        """The index of the answer's first choice."""
        self.others: set[int] = set()
        """The indexes of the choices that are other answers."""
        self._id: object = None
        self._last: int | None = None
        self._held: list[Any] = []
        self._seen: set[int] = set()
        self._several: bool | None = None  # whether there are several answers; `None` if not known yet

    def of_answer(self, choices: list[Any], chunk_id: object, *, finished: bool) -> list[Any]:
        """Return the choices that belong to the answer, including choices that were held back, in order.

        `finished` is whether the answer has a finish reason.
        """
        if len(choices) == 1:
            index = _index(choices[0])
            if index == self._last == self.first and not self._held:
                return choices
        found: list[Any] = []
        indexes = {_index(choice) for choice in choices}
        if len(indexes) > 1:
            self._decide(several=True)
        for choice in choices:
            found += self._one(choice, _index(choice), chunk_id, finished=finished)
        return found

    def held(self) -> list[Any]:
        """Return the choices that were held back, at the end of the response."""
        held, self._held = self._held, []
        return held

    def _one(self, choice: Any, index: int, chunk_id: object, *, finished: bool) -> list[Any]:
        if self.first is None:
            self.first, self._id = index, chunk_id
        returned = index != self._last and index in self._seen
        self._last = index
        self._seen.add(index)
        if self._several is None and (returned or (finished and index != self.first)):
            self._decide(several=True)
        if index == self.first or self._several is False:
            return [choice]
        if self._several:
            self.others.add(index)
            return []
        self._held.append(choice)
        if chunk_id and self._id and chunk_id != self._id:
            self._several = False
            return self.held()
        return []

    def _decide(self, *, several: bool) -> None:
        if self._several is None:
            self._several = several
            self.others.update(_index(choice) for choice in self.held())


def _index(choice: Any) -> int:
    index = choice.get("index") if isinstance(choice, dict) else None
    return index if isinstance(index, int) else 0
