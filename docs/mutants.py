"""Write the page `mutants.md` from the report of a test run: `python docs/mutants.py REPORT`.

`nox -s mutants` makes the report and the page.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("mutants.md")

HEAD = """\
# Planted bugs

Does the conformance kit ([`trunkline.testing`](reference/testing.md)) find real bugs? This page shows the kit's
result for providers with one planted bug each. The bugs were planted by someone who had not read the kit. They are
mistakes that a careless plugin author could make, or that users of other libraries complain about.

"Plugin" is a plugin of this project, or `globex`, the package that `trunkline new-plugin globex` makes. "Class" is a
class of the [fault catalogue](faults.md). "Caught by" is the first test that failed. `nox -s mutants` runs the kit
and writes this page from `tests/mutants/mutants.toml`.
"""


def _subject(mutant: dict[str, Any]) -> str:
    class_ = [f"class {mutant['class']}"] if "class" in mutant else []
    complaint = [mutant["complaint"]] if "complaint" in mutant else []
    return "; ".join(class_ + complaint)


def page(report: list[dict[str, Any]]) -> str:
    """The complete page."""
    core = [mutant for mutant in report if mutant["package"] == "core"]
    plugins = [mutant for mutant in report if mutant["package"] != "core"]
    return "\n".join(
        [
            HEAD,
            f"**The kit catches {_caught(plugins)} bugs.**",
            "",
            *_table("plugin", plugins),
            "",
            "## Bugs in the core",
            "",
            "The core's tests (`core/tests/`) are tested in the same way.",
            "",
            f"**The core's tests catch {_caught(core)} bugs.**",
            "",
            *_table("package", core),
            "",
        ]
    )


def _caught(report: list[dict[str, Any]]) -> str:
    return f"{sum(mutant['test'] is not None for mutant in report)} of {len(report)}"


def _table(head: str, report: list[dict[str, Any]]) -> list[str]:
    lines = [f"| {head} | bug | class; complaint of users | caught by |", "|---|---|---|---|"]
    for mutant in report:
        test = f"`{mutant['test'].partition('[')[0]}`" if mutant["test"] is not None else "**nothing**"
        lines.append(f"| {mutant['package']} | {mutant['why']} | {_subject(mutant)} | {test} |")
    return lines


def main(arguments: list[str]) -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(Path(arguments[0]).read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
