"""The documentation says what the code does."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script
from trunkline._plugins.registry import PROVIDERS, installed

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("core/*.md"), *ROOT.glob("plugins/*/*.md")])
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (f"{page.relative_to(ROOT)}:{page.read_text(encoding='utf-8')[: found.start()].count(chr(10)) + 1}", found[2])
        for page in PAGES
        for found in FENCE.finditer(page.read_text(encoding="utf-8"))
        if found[1] == language
    ]


def generator() -> ModuleType:
    """Import `docs/generate.py`."""
    return load_script(ROOT / "docs" / "generate.py", "docs_generate")


def test_the_generated_parts_are_up_to_date() -> None:
    assert generator().main(check=True) == 0, "run: python docs/generate.py"


@pytest.mark.parametrize("name", ["trunkline.Gone", "trunkline.gone.Name"])
def test_documented_name_that_is_gone_is_reported_with_its_page(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.md").write_text(f"::: {name}\n", encoding="utf-8")
    generate = generator()
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    with pytest.raises(LookupError, match=rf"page\.md: {re.escape(name)} does not exist"):
        generate.main(check=True)


def test_every_installed_provider_of_the_workspace_has_its_settings_in_the_docs() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for item in installed(PROVIDERS):
        assert f"<!-- settings: {item.name} -->" in pages


@pytest.mark.parametrize(("where", "code"), blocks("python"), ids=[where for where, _ in blocks("python")])
def test_python_in_the_docs_is_python(where: str, code: str) -> None:
    assert ast.parse(code, where).body


@pytest.mark.parametrize(("where", "text"), blocks("toml"), ids=[where for where, _ in blocks("toml")])
def test_toml_in_the_docs_is_toml(where: str, text: str) -> None:
    assert tomllib.loads(text), where


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [found[1] for found in LINK.finditer(prose) if "://" not in found[1]]
    missing = [target for target in targets if not (page.parent / target).exists() and not target.startswith("mailto:")]
    assert not missing


def test_the_fault_matrix_has_the_classes_and_providers_of_the_kit() -> None:
    from trunkline.testing.catalogue import FAULTS

    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    header, classes = rows[0], [row for row in rows[1:] if row[0].strip("| ").isdigit()]
    assert [(int(row[0].strip("| ")), row[1]) for row in classes] == [(fault.number, fault.title) for fault in FAULTS]
    named = [re.sub(r" \(.*\)$", "", name.strip("| ")) for name in header[2:]]
    assert set(named) == {item.name for item in installed(PROVIDERS)}, "run: nox -s faults"
    assert not re.search("✗|not run", "".join("".join(row) for row in classes)), "run: nox -s faults"
