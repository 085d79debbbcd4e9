"""Writes the page `mutants.md` from the report of a run: `python docs/mutants.py REPORT`.

The page comes from the report and from nothing else. `nox -s mutants` makes both.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("mutants.md")

HEAD = """\
# Planted bugs

What the conformance kit ([`trunkline.testing`](reference/testing.md)) says of providers with a bug in them: one in
each, planted by someone who had not read the kit, for the fault classes that a provider can get wrong and for what
users complain of in other libraries. Each is what a careless author would do, in a plugin of the workspace or in
`globex`, the package that `trunkline new-plugin globex` makes. This page is made from a run of the kit against each
by `nox -s mutants` (`docs/mutants.py`), and from nothing else; the bugs are in `tests/mutants/mutants.toml`.
"""


def _subject(mutant: dict[str, Any]) -> str:
    told = [f"class {mutant['class']}"] if "class" in mutant else []
    return "; ".join([*told, *([mutant["complaint"]] if "complaint" in mutant else [])])


def page(report: list[dict[str, Any]]) -> str:
    """The page, whole."""
    caught = sum(mutant["test"] is not None for mutant in report)
    lines = [HEAD, f"**{caught} of {len(report)} are caught.**", ""]
    lines += ["| plugin | bug | of | caught by |", "|---|---|---|---|"]
    for mutant in report:
        test = f"`{mutant['test'].partition('[')[0]}`" if mutant["test"] is not None else "**nothing**"
        lines.append(f"| {mutant['package']} | {mutant['why']} | {_subject(mutant)} | {test} |")
    return "\n".join([*lines, ""])


def main(arguments: list[str]) -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(Path(arguments[0]).read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
