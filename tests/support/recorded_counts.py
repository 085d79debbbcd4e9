"""How many recordings there are of each kind, in one data file that `nox -s recount` writes.

A test that reads fewer recordings than before, or finds less in them, fails: a loop over nothing proves nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "recorded_counts.json"

REWRITE = os.environ.get("TRUNKLINE_RECOUNT") == "1"
"""Whether the file is written instead of compared with. The tests must then run in one process."""


def assert_counts(subject: str, **counts: int | Mapping[Any, int]) -> None:
    """Assert that the counts of a subject, such as `cohere/cohere`, are those in the file.

    A mapping counts by key: a class goes by its name, a tuple by its items.
    """
    found = {name: _plain(value) for name, value in counts.items()}
    table: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    known = table.setdefault(subject, {})
    if REWRITE:
        known.update(found)
        FILE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return
    expected = {name: known.get(name) for name in found}
    assert found == expected, f"{subject} in {FILE.name}: if the recordings have changed, run `nox -s recount`"


def _plain(value: int | Mapping[Any, int]) -> int | dict[str, int]:
    return {_name(key): count for key, count in value.items() if count} if isinstance(value, Mapping) else value


def _name(key: object) -> str:
    if isinstance(key, tuple):
        return " ".join(map(_name, key))
    return key.__name__ if isinstance(key, type) else str(key)
