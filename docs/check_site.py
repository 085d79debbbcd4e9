"""Check the built site: `python docs/check_site.py site`.

Each link and anchor must exist, and no page may load anything from another host.

The builder itself checks the links in the text of the pages. This script also checks the navigation, the anchors of the
reference, what the theme adds, and llms.txt.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LISTED = re.compile(r"^- \[.+?\]\((.+?)\)", re.MULTILINE)
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src")}


class Page(HTMLParser):
    """The links and anchors of a page, and the files that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("id", "name"):
                self.anchors.add(value)
            if tag == "a" and name == "href":
                self.links.append(value)
            if (tag, name) in LOADED:
                self.loaded.append(value)


def problems(site: Path) -> list[str]:
    """Return what is wrong, in one line each."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site.resolve())
        if where.name == "404.html":  # its links are from the root, wherever that will be
            continue
        found += [f"{where}: loads {url}" for url in page.loaded if urlsplit(url).netloc]
        for link in (*page.links, *page.loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target = target / "index.html"
            if not target.exists():
                found.append(f"{where}: no such page: {link}")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{where}: no such place: {link}")
    for link in LISTED.findall((site / "llms.txt").read_text(encoding="utf-8")):
        if not (site / link).is_file():
            found.append(f"llms.txt: no such page: {link}")
    return sorted(set(found))


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong) or "every link leads somewhere")  # noqa: T201
    sys.exit(bool(wrong))
