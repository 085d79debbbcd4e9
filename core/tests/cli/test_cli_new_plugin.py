"""`trunkline new-plugin`: what it writes. That the package works is tested where packages are built."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest

COMMON = {".github/workflows/ci.yml", ".gitignore", "CHANGELOG.md", "README.md", "pyproject.toml"}
OWN = {
    "chat": {"__init__.py", "py.typed"},
    "wire": {"__init__.py", "errors.py", "parse.py", "py.typed", "settings.py", "translate.py"},
}


@pytest.mark.parametrize("flavour", OWN)
def test_a_package_is_made_of_files_that_read_well(call: Any, flavour: str) -> None:
    status, out, err = call("new-plugin", "acme-two", "--flavour", flavour)
    assert (status, out) == (0, "")
    assert "cd trunkline-acme-two" in err
    folder = Path("trunkline-acme-two")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    sources = {f"src/trunkline_acme_two/{name}" for name in OWN[flavour]}
    assert files == {*COMMON, *sources, "tests/test_acme_two.py"}
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["trunkline.providers"] == {"acme-two": "trunkline_acme_two:acme_two"}
    assert "ACME_TWO_API_KEY" in (folder / "README.md").read_text()
    assert "${{ matrix.python }}" in (folder / ".github/workflows/ci.yml").read_text()
    for path in folder.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_the_variant_of_a_dialect_has_few_lines_of_its_own(call: Any) -> None:
    call("new-plugin", "acme", "--flavour", "chat")
    tree = ast.parse(Path("trunkline-acme/src/trunkline_acme/__init__.py").read_text())
    statements = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt)
        and not isinstance(node, (ast.Import, ast.ImportFrom))
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    assert len(statements) < 10


def test_a_name_that_is_a_word_of_python_still_gives_a_module(call: Any) -> None:
    assert call("new-plugin", "yield", "-o", "elsewhere")[0] == 0
    project = tomllib.loads(Path("elsewhere/pyproject.toml").read_text())["project"]
    assert project["entry-points"]["trunkline.providers"] == {"yield": "trunkline_yield:yield_"}


@pytest.mark.parametrize("name", ["Acme", "acme_two", "-acme", "2acme", "acme--two", "ac/me", ""])
def test_invalid_plugin_name_is_refused(call: Any, name: str) -> None:
    status, _, err = call("new-plugin", "--", name)
    assert status == 2
    assert "lower-case letters" in err
    assert not list(Path().iterdir())


def test_a_folder_with_something_in_it_is_left_alone(call: Any) -> None:
    Path("trunkline-acme").mkdir()
    Path("trunkline-acme/mine.txt").write_text("mine")
    status, _, err = call("new-plugin", "acme")
    assert status == 2
    assert "already exists" in err
    assert [path.name for path in Path("trunkline-acme").iterdir()] == ["mine.txt"]
