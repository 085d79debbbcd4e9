"""Write the documentation for language models into the built site: `python docs/llms.py site`.

`llms.txt` (https://llmstxt.org) lists the pages, each with the first sentence of its text. `llms-full.txt` has the
text of all pages. Both follow the navigation in SUMMARY.md.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import attrs

DOCS = Path(__file__).parent
ENTRY = re.compile(r"^(?P<indent> *)- (?:\[(?P<title>.+)\]\((?P<page>.+)\)|(?P<text>.+))$")
COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
FENCE = re.compile(r"^```.*?^```\n", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\](?:\([^)\s]+\)|\[[^\]]*\])")
ANCHOR = re.compile(r"<a id=[^>]*></a>\n*")
TARGET = re.compile(r"^\[[\w.]+\]: \S+\n", re.MULTILINE)
"""The target of a link, which stands at the end of a page."""


@attrs.frozen(kw_only=True)
class Page:
    """A page of the documentation, as the navigation lists it."""

    section: str
    title: str
    path: Path

    @property
    def text(self) -> str:
        text = self.path.read_text(encoding="utf-8")
        for left_out in (COMMENT, ANCHOR, TARGET):
            text = left_out.sub("", text)
        return text.strip()

    @property
    def url(self) -> str:
        """Where the built page is, relative to the site's root."""
        return self.path.relative_to(DOCS).with_suffix(".html").as_posix()


def navigation() -> Iterator[Page]:
    """Yield each page once, in the order of SUMMARY.md. A pattern stands for the pages not listed before it."""
    section, seen = "", {DOCS / "SUMMARY.md"}
    for line in (DOCS / "SUMMARY.md").read_text(encoding="utf-8").splitlines():
        entry = ENTRY.match(line)
        if entry is None:
            continue
        if not entry["indent"]:
            section = ""
        if entry["page"]:
            paths = [DOCS / entry["page"]]
        elif "*" in entry["text"]:
            paths = sorted(DOCS.glob(entry["text"]))
        else:
            section = entry["text"]
            continue
        for path in paths:
            if path not in seen:
                seen.add(path)
                heading = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
                yield Page(section=section, title=entry["title"] or heading, path=path)


def description(page: Page) -> str:
    """The first sentence of the page's text, without links."""
    blocks = FENCE.sub("", page.text).split("\n\n")[1:]
    prose = next((block for block in blocks if block and not block.startswith(("#", "|", "- ", "1. "))), "")
    sentence = re.split(r"(?<=\.)\s", " ".join(prose.split()), maxsplit=1)[0]
    return LINK.sub(r"\1", sentence)


def index() -> str:
    """The text of llms.txt."""
    with (DOCS.parent / "zensical.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    lines, section = [f"# {project['site_name']}", "", f"> {project['site_description']}"], None
    for page in navigation():
        if page.section != section:
            section = page.section
            lines += ["", f"## {section or 'Start here'}", ""]
        lines.append(f"- [{page.title}]({page.url}): {description(page)}")
    return "\n".join(lines) + "\n"


def full() -> str:
    """The text of llms-full.txt."""
    return "\n\n".join(page.text for page in navigation()) + "\n"


if __name__ == "__main__":
    site = Path(sys.argv[1])
    (site / "llms.txt").write_text(index(), encoding="utf-8")
    (site / "llms-full.txt").write_text(full(), encoding="utf-8")
