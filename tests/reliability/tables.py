"""Print the tables of `docs/reliability.md` from a run: `python tests/reliability/tables.py FOLDER`.

FOLDER is the folder that `run.py --json FOLDER` wrote.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wires import WIRES


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def truncation(figures: dict[str, Any]) -> Iterator[str]:
    formats: dict[str, dict[str, int]] = figures["by wire format"]
    rows: list[tuple[object, ...]] = [(name, row["streams"], f"{row['cuts']:,}") for name, row in formats.items()]
    yield table(("wire format", "streams", "cuts"), rows)
    alone, checked = (sum(row[fact] for row in formats.values()) for fact in ("decoded_alone", "text_checked"))
    yield f"{alone:,} cuts were also decoded from scratch. The text was checked in {checked:,} streams."
    clients = figures["official clients, cuts reported as success"]
    ours = figures["through sockets"]
    rows = [
        (name, row["cuts"], row["success"], ", ".join(f"{count} {kind}" for kind, count in row["errors"].items()))
        for name, row in clients.items()
    ]
    rows.append(("Trunkline, all wire formats", ours["cuts"], 0, f"{ours['interrupted']} StreamInterrupted"))
    yield table(("client", "cuts", "reported as success", "errors"), rows)


def cancellation(figures: dict[str, Any]) -> Iterator[str]:
    """One row for each state, over all wire formats: medians, worst, and worst with the wait for other programs."""
    wires = [found for name, found in figures.items() if name in WIRES]
    backends = list(next(iter(wires[0].values())))

    def shown(times: Sequence[dict[str, float]]) -> str:
        medians = [found["median_ms"] for found in times]
        worst = max(found["worst_without_wait_ms"] for found in times)
        stalled = max(found["worst_ms"] for found in times)
        return f"{min(medians)} to {max(medians)} / {worst} ({stalled})"

    rows = [(state, *(shown([found[state][backend] for found in wires]) for backend in backends)) for state in wires[0]]
    if "llamacpp" in figures:
        model: dict[str, dict[str, dict[str, float]]] = figures["llamacpp"]
        for state, found in model.items():
            cells = [shown([found[backend]]).partition(" to ")[2] if backend in found else "" for backend in backends]
            rows.append((f"{state}, llamacpp", *cells))
    yield table(("state of the call", *backends), rows)


def by_backend(figures: dict[str, Any]) -> Iterator[str]:
    backends = list(figures)
    names = [name for name in figures[backends[0]] if name not in ("kept", "wrong", "details")]

    def shown(value: object) -> object:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if not isinstance(value, (list, tuple)):
            return value
        if len(value) > 2 and len(set(value)) == 1:
            return f"{value[0]} each time"
        return ", ".join(map(str, value))

    yield table(("", *backends), [(name, *(shown(figures[backend][name]) for backend in backends)) for name in names])


def storm(figures: dict[str, Any]) -> Iterator[str]:
    """One table for each provider. A cell has a value for each backend, or one if all are the same."""
    facts = ("succeeded", "requests per call", "last success", "last error", "longest wait before an error")
    for provider, backends in figures.items():

        def shown(case: str, fact: str, rows: Sequence[Any] = tuple(backends.values())) -> str:
            values = ["–" if row[case][fact] is None else str(row[case][fact]) for row in rows]
            return values[0] if len(set(values)) == 1 else ", ".join(values)

        cases: dict[str, Any] = next(iter(backends.values()))
        rows = [(case, row["calls"], *(shown(case, fact) for fact in facts)) for case, row in cases.items()]
        yield f"{provider}; {', '.join(backends)}; times in seconds:"
        yield table(("the provider answers", "calls", *facts), rows)


def fallback(figures: dict[str, Any]) -> Iterator[str]:
    facts = ("answered", "median seconds", "slowest seconds", "requests to the first service")
    rows = [(figures["versions"][name], *(row[fact] for fact in facts)) for name, row in figures["clients"].items()]
    yield table((f"{figures['callers']} calls", *facts), rows)


def peers(figures: dict[str, Any]) -> Iterator[str]:
    clients = list(figures["outcomes"])
    kinds = ("handled", "foreign", "hung", "silent", "lost", "leaked", "n/a")
    counts = [(client, *(figures["outcomes"][client].get(kind, 0) for kind in kinds)) for client in clients]
    yield table(("", *kinds), counts)
    differing = [row for row in figures["cases"] if {row[client] for client in clients} != {"handled"}]
    rows = [(row["class"], row["fault"], *(row[client] for client in clients)) for row in differing]
    yield table(("class", "fault", *(figures["versions"][client] for client in clients)), rows)
    same = [f"{row['fault']} ({row['class']})" for row in figures["cases"] if row not in differing]
    yield f"Every client handled the other {len(same)} faults: {'; '.join(same)}."


TABLES = {
    "truncation": truncation,
    "cancellation": cancellation,
    "neighbours": by_backend,
    "storm": storm,
    "fallback": fallback,
    "slow_consumer": by_backend,
    "soak": by_backend,
    "chaos": by_backend,
    "peers": peers,
}


def main(folder: Path) -> None:
    for name, tables in TABLES.items():
        path = folder / f"{name}.json"
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            print(f"## {name}\n\n{found['summary']} ({found['size']}, {found['seconds']} s)\n")
            print("\n\n".join(tables(found["figures"])), end="\n\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
