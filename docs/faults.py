"""Writes the page `faults.md` from the report of a run: `python docs/faults.py REPORT`; with `--check`, prints it.

`--check` ends with an error where a class failed.

The page comes from the report and from nothing else. `nox -s faults` makes both.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("faults.md")

MARKS = {"passed": "✓", "failed": "**✗**", "n/a": "–", "skipped": "skipped", "not run": "not run"}

HEAD = """\
# The fault catalogue

What a client of LLM providers meets in the field, in 39 classes, and what became of each with every provider. This page
is made from a run of the tests by `nox -s faults` (`docs/faults.py`), and from nothing else. The tests are those of the
kit that a plugin's author installs (`trunkline[testing]`, `trunkline.testing.ProviderTests`).

A provider whose transport is inside the process has its wire led to the kit's server for these tests; what its own
transport does is for the tests of its plugin.

✓ passed on asyncio and trio · **✗** failed · – does not apply, for the reason below. A cell that differs between the
backends shows both, asyncio first.
"""


def cell(result: dict[str, dict[str, str]]) -> str:
    """One provider and class: both backends in one mark where they agree."""
    marks = [MARKS[result[backend]["outcome"]] for backend in ("asyncio", "trio")]
    return marks[0] if marks[0] == marks[1] else "/".join(marks)


def not_applicable(report: dict[str, Any]) -> Iterator[str]:
    """The reasons for which classes do not apply, each with where it holds."""
    found: dict[str, dict[str, list[str]]] = {}
    for provider, classes in report["results"].items():
        for number, result in classes.items():
            one = result["asyncio"]
            if one["outcome"] == "n/a":
                found.setdefault(one["reason"], {}).setdefault(provider, []).append(number)
    for reason in sorted(found):
        places = "; ".join(
            f"{provider}: {', '.join(sorted(numbers, key=int))}" for provider, numbers in sorted(found[reason].items())
        )
        yield f"- {reason} ({places})"


def page(report: dict[str, Any]) -> str:
    """The page, whole."""
    providers = sorted(report["results"])
    lines = [HEAD, f"| # | class | {' | '.join(providers)} |", f"|---|---|{'---|' * len(providers)}"]
    for number, title in sorted(report["classes"].items(), key=lambda item: int(item[0])):
        cells = [cell(report["results"][provider][number]) for provider in providers]
        lines.append(f"| {number} | {title} | {' | '.join(cells)} |")
    lines += ["", "## What does not apply, and why", "", *not_applicable(report)]
    lines += ["", "## Conformance besides the faults", "", "| provider | passed | failed |", "|---|---|---|"]
    for provider in providers:
        counts = report["conformance"].get(provider, {"passed": 0, "failed": 0})
        lines.append(f"| {provider} | {counts['passed']} | {counts['failed']} |")
    left_out = [
        f"- {provider}, {test}: {reason}"
        for provider, tests in sorted(report["left_out"].items())
        for test, reason in sorted(tests.items())
    ]
    lines += ["", "## Tests that an author left out", "", *(left_out or ["None."]), ""]
    return "\n".join(lines)


def failed(report: dict[str, Any]) -> bool:
    """Whether a test of the run failed."""
    cells = (result for classes in report["results"].values() for cell in classes.values() for result in cell.values())
    others = (counts["failed"] for counts in report["conformance"].values())
    return any(result["outcome"] in ("failed", "not run") for result in cells) or any(others)


def main(arguments: list[str]) -> None:
    """Write the page, or print and check it."""
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    if "--check" in arguments:
        sys.stdout.write(page(report))
        if failed(report):
            sys.exit("some fault classes failed")
    else:
        PAGE.write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
