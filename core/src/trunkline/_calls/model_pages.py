"""Collect the pages of a list of models, and notice a list that does not end."""

from __future__ import annotations

from collections.abc import Iterable

from trunkline.response import ModelInfo

MAX_PAGES = 1000
"""How many pages of models are read. The longest known list has a few dozen."""

MAX_MODELS = 100_000
"""How many models are listed. The longest known list, that of a hub of open models, has some ten thousand."""


class ModelPages:
    """The models of the pages so far, and the cursor of the next page.

    What a server sent stays in this object, whose `repr` shows nothing: error trackers show local variables, and a
    server may repeat a key in a cursor or a name.
    """

    def __init__(self) -> None:
        self._models: list[ModelInfo] = []
        self._ids: set[str] = set()
        self._cursors: set[str] = set()
        self.cursor: str | None = None
        """The cursor of the next page; `None` before the first one, and after the last one."""

    @property
    def models(self) -> tuple[ModelInfo, ...]:
        """The models of all pages."""
        return tuple(self._models)

    def add(self, page: tuple[Iterable[ModelInfo], str | None]) -> str | None:
        """Add a page and the cursor of the next one. Returns why the list has no end, or `None`."""
        models, self.cursor = page
        count, known = len(self._models), len(self._ids)
        self._models.extend(models)
        if self.cursor is None:
            return None
        self._ids.update(model.id for model in self._models[count:])
        cursor = str(self.cursor)  # what a server sent, unless the plugin checked it
        pages = len(self._cursors) + 1
        if cursor in self._cursors:
            return "the provider repeats a page: its cursor is one that it has sent before"
        if len(self._models) > count and len(self._ids) == known:
            return "the provider repeats a page under another cursor: it has no model that is new"
        if pages >= MAX_PAGES or len(self._models) > MAX_MODELS:
            return f"there are more after {pages} pages with {len(self._models)} models"
        self._cursors.add(cursor)
        return None
