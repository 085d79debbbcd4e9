"""The figures of batch work as Markdown tables.

    python tests/batch/report.py kills.json memory.json ... > docs/batch-figures.json

combines the files that `run.py --json` wrote. `docs/generate.py` makes the tables of `docs/batch-figures.md` from it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Found = dict[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table. Whole numbers get separators."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in line) + " |" for line in lines
    )


def kills(found: Found) -> str:
    """One line for the run that was killed."""
    head = ("rows", "kills", "rows in the output once", "lost", "requests sent again", "allowed: kills × concurrency")
    allowed = found["kills"] * found["concurrency"]
    counts = (found[name] for name in ("rows", "kills", "right", "lost", "repeated_requests"))
    return table(head, [(*counts, allowed)])


def throughput(found: Found) -> str:
    """One line for each client: its best round."""
    rows = []
    for name, samples in found["samples"].items():
        best = max(samples, key=lambda sample: sample["rows_per_second"])
        library = name.removeprefix("bare ").removeprefix("map, ")
        share = f"{found['ratios'][library]:.2f}" if name.startswith("map") else ""
        cpu = min(sample["cpu_seconds"] for sample in samples) / found["rows"] * 1e6
        label = f"`trunkline map`, {library}" if name.startswith("map") else name
        rows.append((label, best["rows_per_second"], share, f"{cpu:.0f} µs", f"{best['peak_mib']:.0f} MiB"))
    return table(("client", "rows a second", "share of the bare client's", "CPU time for a row", "peak memory"), rows)


def memory(found: Found) -> str:
    """One line for the run."""
    head = ("rows", "rows a second", "CPU time", "memory after a tenth of the time", "at the end", "peak")
    sizes = (f"{found[name]:.0f} MiB" for name in ("first_tenth_mib", "last_mib", "peak_mib"))
    return table(head, [(found["rows"], found["rows_per_second"], f"{found['cpu_seconds']} s", *sizes)])


def _disturbed(label: str, found: Found) -> tuple[object, ...]:
    provider = found["provider"]
    counts = (found[name] for name in ("rows", "right", "failed", "lost"))
    return (label, *counts, provider["injected"], provider["repeated"], provider["early"], f"{found['seconds']} s")


_DISTURBED = ("", "rows", "answered", "failed", "lost", "faults", "answered twice", "sent before `Retry-After`", "time")


def faults(found: Found) -> str:
    """One line for the run."""
    return table(_DISTURBED, [_disturbed("429, 503, resets, slow answers", found)])


def outage(found: Found) -> str:
    """One line for each kind of outage."""
    labels = {"503": "status 503", "reset": "connections reset"}
    return table(
        _DISTURBED,
        [
            _disturbed(f"{labels[kind]} for {run['settings']['outage']:g} s", run)
            for kind, run in found.items()
            if kind in labels
        ],
    )


def limit(found: Found) -> str:
    """One line for the run."""
    most = found["provider"]["busiest"]["arrived"]
    head = ("rows", "requests a minute allowed", "most requests of any 60 s", "refused by the provider")
    return table(head, [(found["rows"], found["limit"], most, found["provider"]["requests"] - found["rows"])])


def peers(found: Found) -> str:
    """A table for each kind of disturbance."""
    parts = []
    for label in ("without faults", "with faults", "down for a time"):
        rows = []
        for name, row in found[label].items():
            times = (f"{row['seconds']} s", f"{row['cpu_seconds']} s", f"{row['peak_mib']:.0f} MiB")
            counts = (row.get("right", 0), row.get("failed", 0), row["lost"], row["provider"]["repeated"])
            rows.append((name, *times, *counts, row["code"]))
        head = (label, "time", "CPU time", "peak memory", "answered", "failed", "lost", "answered twice", "exit status")
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def ray(found: Found) -> str:
    """One line for each way to disturb it."""
    rows = []
    for name, row in found.items():
        if isinstance(row, dict) and "actors" in row:
            counts = (row.get(fact, 0) for fact in ("right", "failed", "lost", "repeated"))
            rows.append((name, *counts, row["provider"]["repeated"], row["allowed"], f"{row['seconds']} s"))
    head = ("", "answered", "failed", "lost", "twice in the output", "requests sent again", "allowed", "time")
    return table(head, rows)


TABLES: dict[str, Callable[[Found], str]] = {
    function.__name__: function for function in (kills, throughput, memory, outage, faults, limit, peers, ray)
}


def named(figures: dict[str, Found], name: str) -> str:
    """Return the tables of one measurement."""
    return TABLES[figures[name]["scenario"]](figures[name])


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[1:]]
    print(json.dumps({file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}, indent=1))
