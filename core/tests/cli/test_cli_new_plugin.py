"""`trunkline new-plugin`: what it writes. That the package works is tested where packages are built."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from trunkline.cli.new_plugin import plugin_files

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
COMMON = {".github/workflows/ci.yml", ".gitignore", "CHANGELOG.md", "README.md", "pyproject.toml"}
OWN = {
    "chat": {"__init__.py", "py.typed"},
    "extension": {"__init__.py", "py.typed"},
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
    group = "trunkline.extensions" if flavour == "extension" else "trunkline.providers"
    assert project["entry-points"] == {group: {"acme-two": "trunkline_acme_two:acme_two"}}
    assert ("ACME_TWO_API_KEY" in (folder / "README.md").read_text()) is (flavour != "extension")
    assert "${{ matrix.python }}" in (folder / ".github/workflows/ci.yml").read_text()
    for path in folder.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("flavour", OWN)
def test_requirements_exclude_the_next_version_that_may_break_the_package(flavour: str) -> None:
    project = tomllib.loads(plugin_files("acme", flavour)["pyproject.toml"])
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    ours = [requirement for requirement in wanted if requirement.startswith("trunkline") and "[" not in requirement]
    assert ours[0] == "trunkline>=0.1,<0.2"
    assert all(re.fullmatch(r"trunkline(-openai)?>=0\.1,<0\.2", requirement) for requirement in ours)


@pytest.mark.parametrize(
    ("version", "wanted"), [("0.1.0", ">=0.1,<0.2"), ("0.12.3.dev1", ">=0.12,<0.13"), ("2.3.1", ">=2.3,<3")]
)
def test_a_new_core_gives_packages_its_own_range(monkeypatch: pytest.MonkeyPatch, version: str, wanted: str) -> None:
    monkeypatch.setattr("trunkline.cli.new_plugin.__version__", version)
    project = tomllib.loads(plugin_files("acme", "wire")["pyproject.toml"])["project"]
    assert f"trunkline{wanted}" in project["dependencies"]


@pytest.mark.parametrize("flavour", OWN)
def test_a_package_imports_only_documented_names(flavour: str) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
    documented = set(re.findall(r'<a id="([\w.]+)"></a>', pages))
    imported = {
        (node.module or "", alias.name)
        for path, text in plugin_files("acme", flavour).items()
        if path.endswith(".py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    ours = {f"{module}.{name}" for module, name in imported if re.match(r"trunkline(_openai)?(\.|$)", module)}
    assert ours
    assert sorted(ours - documented) == []


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


def test_name_of_a_builtin_does_not_hide_it(call: Any) -> None:
    assert call("new-plugin", "str", "--flavour", "chat")[0] == 0
    project = tomllib.loads(Path("trunkline-str/pyproject.toml").read_text())["project"]
    assert project["entry-points"]["trunkline.providers"] == {"str": "trunkline_str:str_"}


@pytest.mark.parametrize(
    ("name", "flavour"),
    [
        ("settings", "chat"),  # the function that is imported
        ("parse", "wire"),  # the module of the package
        ("middleware", "extension"),  # the class that is imported
        ("true", "extension"),  # `class True`
    ],
)
def test_name_that_the_package_needs_itself_is_refused(call: Any, name: str, flavour: str) -> None:
    status, _, err = call("new-plugin", name, "--flavour", flavour)
    assert status == 2
    assert f"{name!r} would clash with a name that the package needs itself; choose another name" in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("name", "flavour", "owner"),
    [
        ("spare", "wire", "the provider of trunkline-fake"),
        ("spare", "chat", "the provider of trunkline-fake"),
        ("call-log", "extension", "the extension of dist-logs"),
        ("fake", "extension", "the distribution trunkline-fake"),
    ],
)
def test_names_of_installed_plugins_are_refused(call: Any, site: Any, name: str, flavour: str, owner: str) -> None:
    site.install("dist-logs", {"trunkline.extensions": {"call-log": "logs:log"}})
    status, _, err = call("new-plugin", name, "--flavour", flavour)
    assert status == 2
    assert f"{name!r} is the name of {owner}, which is installed" in err
    assert not list(Path().iterdir())


def test_a_provider_may_have_the_name_of_an_extension_of_another_distribution(call: Any, site: Any) -> None:
    site.install("dist-logs", {"trunkline.extensions": {"call-log": "logs:log"}})
    assert call("new-plugin", "call-log")[0] == 0


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
