"""The names in the documentation exist, and every public name is in its reference."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import trunkline
import trunkline.testing
from trunkline_otel import conventions

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("core/*.md"), *ROOT.glob("plugins/*/*.md")])
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
OTHER = (".toml", ".py", ".providers", ".extensions", ".commands", ".calls")
"""Ends of dotted names that are files, groups of entry points, or the logger of trunkline-logging."""
TELEMETRY = frozenset(value for value in vars(conventions).values() if isinstance(value, str))
"""The names of attributes and events that trunkline-otel records."""


def exists(dotted: str) -> bool:
    """Whether a dotted name leads to a module, an attribute, or what a class is made with."""
    first, *rest = dotted.split(".")
    value: Any = importlib.import_module(first)
    for position, part in enumerate(rest, 2):
        if hasattr(value, part):
            value = getattr(value, part)
        elif inspect.ismodule(value):
            try:
                value = importlib.import_module(".".join(dotted.split(".")[:position]))
            except ImportError:
                return False
        else:
            # An error keeps its facts in attributes with the names of its arguments.
            return part in inspect.signature(value).parameters
    return True


@functools.cache
def evidence() -> frozenset[str]:
    """The tests of the repository, which pages name as evidence."""
    kit = ROOT / "core" / "src" / "trunkline" / "testing"
    files = [
        *kit.glob("**/*.py"),
        *ROOT.glob("core/tests/**/*.py"),
        *ROOT.glob("plugins/*/tests/*.py"),
        *ROOT.glob("tests/*.py"),
    ]
    defined = re.compile(r"^ *(?:async )?def (test_\w+)", re.MULTILINE)
    return frozenset(name for path in files for name in defined.findall(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_names_in_the_text_exist(page: Path) -> None:
    """`trunkline.x.y`, `Class.attribute` of the public classes, and the tests that stand as evidence."""
    codes = CODE.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    dotted = [name for code in codes for name in re.findall(r"(?<![\w./\[\"-])trunkline\.[\w.]*\w", code)]
    members = [name for code in codes for name in re.findall(r"(?<![\w.])([A-Z]\w+\.\w+)", code)]
    dotted += [f"trunkline.{name}" for name in members if name.split(".")[0] in trunkline.__all__]
    wrong = [name for name in dotted if not name.endswith(OTHER) and name not in TELEMETRY and not exists(name)]
    wrong += [code for code in codes if re.fullmatch(r"test_\w+", code) and code not in evidence()]
    assert not wrong


def test_no_page_and_no_example_imports_an_internal_module() -> None:
    shown = [*PAGES, *ROOT.glob("docs/examples/**/*.py")]
    internal = re.compile(
        r"^ *(?:from|import) +trunkline(?:_\w+)?(?:\.\w+)*\._.*|^ *from trunkline\S* import .*\b_[a-z].*", re.MULTILINE
    )
    found = [
        (str(path.relative_to(ROOT)), line) for path in shown for line in internal.findall(path.read_text("utf-8"))
    ]
    assert not found


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("docs/reference/*.md"))
    documented = set(re.findall(r'<a id="([\w.]+)"></a>', text))
    public = {f"trunkline.{name}" for name in trunkline.__all__}
    assert not public - documented
    assert {f"trunkline.testing.{name}" for name in trunkline.testing.__all__} <= documented


def test_every_page_of_the_navigation_exists() -> None:
    summary = (ROOT / "docs" / "SUMMARY.md").read_text(encoding="utf-8")
    assert not [path for path in re.findall(r"\]\((.*?)\)", summary) if not (ROOT / "docs" / path).exists()]
