"""The documentation for language models: every page is in llms.txt and in llms-full.txt."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def llms() -> ModuleType:
    return load_script(DOCS / "llms.py", "docs_llms")


def test_llms_txt_begins_with_the_name_and_the_description_of_the_site(llms: ModuleType) -> None:
    project = tomllib.loads((DOCS.parent / "zensical.toml").read_text(encoding="utf-8"))["project"]
    assert llms.index().startswith(f"# {project['site_name']}\n\n> {project['site_description']}\n\n## ")


def test_llms_txt_lists_every_page_once_with_a_sentence(llms: ModuleType) -> None:
    entries = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): (\S.+)$", llms.index(), re.MULTILINE)
    pages = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    built = {page for page in pages if page != "SUMMARY.html" and not page.startswith("examples/")}
    assert sorted(url for url, _ in entries) == sorted(built)
    assert [sentence for _, sentence in entries if sentence.startswith(("`" * 3, "|", "<"))] == []


def test_the_sections_of_llms_txt_are_those_of_the_navigation(llms: ModuleType) -> None:
    sections = re.findall(r"^- ([^\[*]+)$", (DOCS / "SUMMARY.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"^## (.+)$", llms.index(), re.MULTILINE) == ["Start here", *sections]


def test_llms_full_txt_has_the_text_of_the_pages_and_of_the_docstrings(llms: ModuleType) -> None:
    import trunkline

    text = llms.full()
    assert (DOCS / "tutorial.md").read_text(encoding="utf-8").splitlines()[0] in text
    assert (trunkline.open_service.__doc__ or "").splitlines()[0] in text
    assert (trunkline.Service.chat.__doc__ or "").splitlines()[0] in text
    assert not re.search(r"^::: |<!--|<a id|^\[[\w.]+\]: | at 0x", text, re.MULTILINE)
