"""Write the page `faults.md` from the report of a test run: `python docs/faults.py REPORT`.

With `--check`, print the page instead, and exit with an error if a test failed. `nox -s faults` makes both the
report and the page.
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
# Fault catalogue

The results of testing every provider against COUNT classes of faults: network failures, broken streams, errors in odd
places, cancellation. The numbers without a row are classes that only the core's own tests cover. `nox -s faults` runs
the tests of the conformance kit
([`trunkline.testing.ProviderTests`](reference/testing.md#trunkline.testing.ProviderTests)) and writes this page.
Plugin authors run the same tests with `pip install "trunkline[testing]"`.

✓ passed on asyncio and trio · **✗** failed · – does not apply, for the reason [below](#classes-that-do-not-apply). If
the backends differ, the cell shows both, asyncio first.

`llamacpp` runs its model inside the process. In these tests its wire format is read from the kit's HTTP server. The
plugin's own tests cover its real transport.
"""


def cell(result: dict[str, dict[str, str]]) -> str:
    """The marks of one provider and class: one mark if both backends agree, else both."""
    marks = [MARKS[result[backend]["outcome"]] for backend in ("asyncio", "trio")]
    return marks[0] if marks[0] == marks[1] else "/".join(marks)


def not_applicable(report: dict[str, Any]) -> Iterator[str]:
    """A line for each reason why classes do not apply, with the providers and classes."""
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
    """The complete page."""
    providers = sorted(report["results"])
    head = HEAD.replace("COUNT", str(len(report["classes"])))
    lines = [head, f"| # | class | {' | '.join(providers)} |", f"|---|---|{'---|' * len(providers)}"]
    for number, title in sorted(report["classes"].items(), key=lambda item: int(item[0])):
        cells = [cell(report["results"][provider][number]) for provider in providers]
        lines.append(f"| {number} | {title} | {' | '.join(cells)} |")
    lines += ["", "## Classes that do not apply", "", *not_applicable(report)]
    lines += ["", "## Other conformance tests", "", "| provider | passed | failed |", "|---|---|---|"]
    for provider in providers:
        counts = report["conformance"].get(provider, {"passed": 0, "failed": 0})
        lines.append(f"| {provider} | {counts['passed']} | {counts['failed']} |")
    left_out = [
        f"- {provider}, {test}: {reason}"
        for provider, tests in sorted(report["left_out"].items())
        for test, reason in sorted(tests.items())
    ]
    lines += ["", "## Skipped tests", "", *(left_out or ["None."]), ""]
    return "\n".join(lines)


def failed(report: dict[str, Any]) -> bool:
    """Whether any test failed or did not run."""
    cells = (result for classes in report["results"].values() for cell in classes.values() for result in cell.values())
    others = (counts["failed"] for counts in report["conformance"].values())
    return any(result["outcome"] in ("failed", "not run") for result in cells) or any(others)


def main(arguments: list[str]) -> None:
    """Write the page, or print and check it."""
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    if "--check" in arguments:
        sys.stdout.write(page(report))
        if failed(report):
            sys.exit("some tests failed or did not run; the table above shows which")
    else:
        PAGE.write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
