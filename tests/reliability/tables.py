"""The figures of a run as the tables of `docs/reliability.md`: `python tests/reliability/tables.py FOLDER`.

FOLDER is what `run.py --json` wrote.
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
    head = ("wire format", "streams", "cuts", "decoded alone besides", "text held against the standard library's")
    facts = ("streams", "cuts", "decoded_alone", "text_found_besides")
    yield table(head, [(name, *(f"{row[fact]:,}" for fact in facts)) for name, row in formats.items()])
    clients = figures["official clients, cuts that pass for a success"]
    ours = figures["through sockets"]
    rows = [
        (name, row["cuts"], row["success"], ", ".join(f"{count} {kind}" for kind, count in row["errors"].items()))
        for name, row in clients.items()
    ]
    rows.append(("Trunkline, all of them", ours["cuts"], 0, f"{ours['interrupted']} StreamInterrupted"))
    yield table(("client", "cuts", "taken for a success", "errors"), rows)


def cancellation(figures: dict[str, Any]) -> Iterator[str]:
    wires = {name: found for name, found in figures.items() if name in WIRES}
    first = next(iter(wires.values()))
    states = list(first)

    def shown(times: dict[str, float]) -> str:
        return f"{times['median_ms']} / {times['worst_without_wait_ms']} ({times['worst_ms']})"

    for backend in first[states[0]]:
        rows = [(name, *(shown(found[state][backend]) for state in states)) for name, found in wires.items()]
        yield table((backend, *states), rows)
    if "llamacpp" in figures:
        model: dict[str, dict[str, dict[str, float]]] = figures["llamacpp"]
        rows = [(state, *(shown(times) for times in found.values())) for state, found in model.items()]
        yield table(("llamacpp", "asyncio", "trio"), rows)


def by_backend(figures: dict[str, Any]) -> Iterator[str]:
    backends = list(figures)
    names = [name for name in figures[backends[0]] if name not in ("kept", "wrong")]

    def shown(value: object) -> object:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    yield table(("", *backends), [(name, *(shown(figures[backend][name]) for backend in backends)) for name in names])


def peers(figures: dict[str, Any]) -> Iterator[str]:
    clients = list(figures["outcomes"])
    rows = [(row["class"], row["fault"], *(row[client] for client in clients)) for row in figures["cases"]]
    yield table(("class", "fault", *(figures["versions"][client] for client in clients)), rows)
    kinds = ("handled", "raw", "hung", "silent", "lost", "leaked", "n/a")
    counts = [(client, *(figures["outcomes"][client].get(kind, 0) for kind in kinds)) for client in clients]
    yield table(("", *kinds), counts)


TABLES = {
    "truncation": truncation,
    "cancellation": cancellation,
    "neighbours": by_backend,
    "slow_consumer": by_backend,
    "soak": by_backend,
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
