"""`trunkline providers`: lists the plugins of the three entry-point groups, and what is wrong with broken ones."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import attrs
from cyclopts import Parameter

from trunkline._plugins.registry import COMMANDS, EXTENSIONS, PROVIDERS, InstalledPlugin, installed
from trunkline.cli.terminal import print_json, print_result, print_table

_KINDS = {PROVIDERS: "provider", EXTENSIONS: "extension", COMMANDS: "command"}


@attrs.frozen(kw_only=True)
class Row:
    """One installed plugin.

    `problem` describes the error if the plugin cannot be used. `display_name` is the name of a provider as users write
    it, if it was imported.
    """

    kind: str
    item: InstalledPlugin
    problem: str | None
    checked: bool
    display_name: str | None

    @property
    def status(self) -> str:
        """The status to show: `broken`, `ok` or `not checked`."""
        return "broken" if self.problem else "ok" if self.checked else "not checked"


def providers(
    *,
    check: bool = True,
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """List the installed providers, extensions and commands, with their distributions and versions.

    Each is imported in a process of its own, so that a broken one cannot affect the others. `trunkline settings NAME`
    describes the settings of a provider or an extension.

    Parameters
    ----------
    check
        Import each plugin to see whether it works.
    json
        Write a JSON array of objects with the kind, the name, the distribution, the version, the status and the problem
        of each plugin, and the display name of a provider.
    """
    rows = _rows(check)
    if json:
        print_json([_plain(row) for row in rows], indent=2)
        return 0
    if not rows:
        print_result("no plugin is installed; to install one: pip install trunkline-PROVIDER")
        return 0
    print_table(
        ("kind", "name", "distribution", "version", "status"),
        [(row.kind, row.item.name, row.item.distribution, row.item.version, row.status) for row in rows],
    )
    broken = [row for row in rows if row.problem]
    if broken:
        print_result(f"\n{len(broken)} broken:")
    for row in broken:
        print_result(f"  {row.kind} {row.item.name} ({row.item.distribution} {row.item.version}): {row.problem}")
    return 0


def _rows(check: bool) -> list[Row]:
    found = [(group, item) for group in _KINDS for item in installed(group)]
    conflicts = {(group, item): _name_conflict(group, item, found) for group, item in found}
    problems = dict(conflicts)
    names: dict[tuple[str, InstalledPlugin], str | None] = {}
    if check:
        from trunkline.cli.probe import probe_all

        importable = [key for key, problem in conflicts.items() if problem is None]
        findings = probe_all([item for _, item in importable], [group for group, _ in importable])
        for key, finding in zip(importable, findings, strict=True):
            problems[key], names[key] = finding.problem, finding.display_name
    return [
        Row(
            kind=_KINDS[key[0]],
            item=key[1],
            problem=problems[key],
            checked=key in names,
            display_name=names.get(key),
        )
        for key in found
    ]


def _name_conflict(group: str, item: InstalledPlugin, found: list[tuple[str, InstalledPlugin]]) -> str | None:
    """Return why another plugin or command hides this one or is hidden by it, or `None`."""
    from trunkline.cli import BUILT_IN

    claims = Counter((other_group, other.name) for other_group, other in found)
    if claims[group, item.name] > 1:
        others = [
            other.distribution
            for other_group, other in found
            if (other_group, other.name) == (group, item.name) and other.distribution != item.distribution
        ]
        return f"{', '.join(others)} has the same name; uninstall all but one"
    if group == COMMANDS and item.name in BUILT_IN:
        return "trunkline has a command with this name, so this command never runs"
    return None


def _plain(row: Row) -> dict[str, object]:
    return {
        "kind": row.kind,
        "name": row.item.name,
        "display_name": row.display_name,
        "distribution": row.item.distribution,
        "version": row.item.version,
        "status": row.status,
        "problem": row.problem,
    }
