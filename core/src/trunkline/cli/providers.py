"""`trunkline providers`: what is installed in the three entry-point groups, and what is broken and why."""

from __future__ import annotations

import json as jsonlib
from collections import Counter
from typing import Annotated

import attrs
from cyclopts import Parameter

from trunkline._plugins.registry import COMMANDS, EXTENSIONS, PROVIDERS, InstalledPlugin, installed
from trunkline.cli.terminal import print_table, safe

_KINDS = {PROVIDERS: "provider", EXTENSIONS: "extension", COMMANDS: "command"}


@attrs.frozen(kw_only=True)
class Row:
    """One installed plugin. `problem` is what is wrong with it; `checked` says whether it was imported to find out."""

    kind: str
    item: InstalledPlugin
    problem: str | None
    checked: bool

    @property
    def status(self) -> str:
        """The state in one word or two."""
        return "broken" if self.problem else "ok" if self.checked else "not checked"


def providers(
    *,
    check: bool = True,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """List the installed providers, extensions and commands, with their distributions and versions.

    Each is imported in a process of its own, so that a broken one is found and harms nothing.

    Parameters
    ----------
    check
        Import each to see whether it works.
    json
        Write a JSON array.
    """
    rows = _rows(check)
    if json:
        print(jsonlib.dumps([_plain(row) for row in rows], indent=2))
        return 0
    if not rows:
        print("no plugin is installed; install one: pip install trunkline-PROVIDER")
        return 0
    print_table(
        ("kind", "name", "distribution", "version", "status"),
        [(row.kind, row.item.name, row.item.distribution, row.item.version, row.status) for row in rows],
    )
    broken = [row for row in rows if row.problem]
    if broken:
        print(f"\n{len(broken)} broken:")
    for row in broken:
        print(safe(f"  {row.kind} {row.item.name} ({row.item.distribution} {row.item.version}): {row.problem}"))
    return 0


def _rows(check: bool) -> list[Row]:
    found = [(group, item) for group in _KINDS for item in installed(group)]
    seen = {(group, item): _visible(group, item, found) for group, item in found}
    results: dict[tuple[str, InstalledPlugin], str | None] = {}
    if check:
        from trunkline.cli.probe import probe_all

        unclear = [key for key, problem in seen.items() if problem is None]
        problems = probe_all([item for _, item in unclear], [group for group, _ in unclear])
        results = dict(zip(unclear, problems, strict=True))
    return [
        Row(
            kind=_KINDS[group],
            item=item,
            problem=seen[group, item] or results.get((group, item)),
            checked=(group, item) in results,
        )
        for group, item in found
    ]


def _visible(group: str, item: InstalledPlugin, found: list[tuple[str, InstalledPlugin]]) -> str | None:
    """What is wrong with an entry point as it stands, without importing it."""
    from trunkline.cli import BUILT_IN

    claims = Counter((other_group, other.name) for other_group, other in found)
    if claims[group, item.name] > 1:
        others = [
            other.distribution
            for other_group, other in found
            if (other_group, other.name) == (group, item.name) and other.distribution != item.distribution
        ]
        return f"{', '.join(others)} claims the same name; uninstall all but one"
    if group == COMMANDS and item.name in BUILT_IN:
        return "trunkline has a command of this name itself, which comes first"
    return None


def _plain(row: Row) -> dict[str, object]:
    return {
        "kind": row.kind,
        "name": row.item.name,
        "distribution": row.item.distribution,
        "version": row.item.version,
        "value": row.item.value,
        "status": row.status,
        "problem": row.problem,
    }
