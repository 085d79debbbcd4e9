"""Check the built site: `python docs/check_site.py site`.

Each link and anchor must exist, no page may load anything from another host, and the reference must show each public
member of what it documents.

The builder itself checks the links in the text of the pages. This script also checks the navigation, the reference,
what the theme adds, and llms.txt.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import griffe

DOCS = Path(__file__).parent
DOCUMENTED = re.compile(r"^::: (\S+)$", re.MULTILINE)
SIGNATURE = re.compile(
    r'<h\d id="([\w.]+)"(?:(?!<h\d).)*</h\d>\s*<div class="[^"]*doc-signature[^"]*">(.*?)</div>', re.DOTALL
)
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


def public_members(documented: griffe.Object) -> list[str]:
    """Return the names of the public members that a class or a module defines itself."""
    parents = documented.mro() if isinstance(documented, griffe.Class) else []
    inherited = {name for parent in parents for name in parent.members}
    members = [
        (name, member)
        for name, member in documented.members.items()
        if name[0] != "_" and name not in inherited and not member.is_alias
    ]
    if documented.is_module:  # its other members are type variables and constants
        members = [(name, member) for name, member in members if member.is_class or member.is_function]
    return [name for name, _ in members]


def missing_members(site: Path) -> list[str]:
    """Return the public members that the reference neither documents nor names in the signature of their class."""
    loader = griffe.GriffeLoader(search_paths=[DOCS.parent / "core/src", DOCS.parent / "plugins/openai/src"])
    packages = griffe.ModulesCollection()
    for name in ("trunkline", "trunkline_openai"):
        packages[name] = loader.load(name)
    loader.resolve_aliases()
    missing = []
    for source in sorted(DOCS.glob("reference/*.md")):
        text = (site / "reference" / f"{source.stem}.html").read_text(encoding="utf-8")
        anchors = Page(text).anchors
        signatures = {
            path: set(re.findall(r"\w+", re.sub("<.*?>", "", code))) for path, code in SIGNATURE.findall(text)
        }
        for path in DOCUMENTED.findall(source.read_text(encoding="utf-8")):
            documented = packages[path]
            documented = documented.final_target if isinstance(documented, griffe.Alias) else documented
            missing += [
                f"reference/{source.stem}.html: {path}.{name} has no docstring, so it is not shown"
                for name in (public_members(documented) if documented.is_class or documented.is_module else ())
                if f"{path}.{name}" not in anchors
                # The signature of an attrs class lists its fields. Other classes have an `__init__` of their own.
                and ("__init__" in documented.members or name not in signatures.get(path, ()))
            ]
    return missing


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
    return sorted({*found, *missing_members(site)})


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    print("\n".join(wrong) or "every link leads somewhere, and every public member is in the reference")  # noqa: T201
    sys.exit(bool(wrong))
