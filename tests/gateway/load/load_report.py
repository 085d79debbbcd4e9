"""The tables of the load comparison, from the figures that `run.py --json` wrote.

`docs/generate.py` makes the tables of `docs/gateway-figures.md` from `docs/gateway-figures.json`.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Found = dict[str, Any]
OURS = "trunkline"
WIRES = {"chat": "Chat Completions", "messages": "Messages"}


def condensed(result: Found) -> Found:
    """Return a result with the samples of all rounds put together, and with percentiles instead of all times."""
    gateways = {}
    for name, taken in result["samples"].items():
        rounds = [sample for sample in taken if "error" not in sample["start"]]
        found: Found = {"errors": [sample["start"]["error"] for sample in taken if "error" in sample["start"]]}
        if rounds:
            found["start"] = _start([sample["start"] for sample in rounds])
            for measure, function in (("cpu", _cpu), ("latency", _latency), ("memory", _memory)):
                if parts := [sample[measure] for sample in rounds if measure in sample]:
                    found[measure] = function(parts)
        gateways[name] = found
    return {key: value for key, value in result.items() if key != "samples"} | {"gateways": gateways}


def percentiles(times: Sequence[float]) -> Found | None:
    """Return the median and the 99th percentile, in milliseconds."""
    if not times:
        return None
    ordered = sorted(times)
    p99 = ordered[math.ceil(len(ordered) * 0.99) - 1]
    return {"median": round(statistics.median(ordered) * 1e3, 2), "p99": round(p99 * 1e3, 2)}


def _faults(parts: Iterable[Found]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part["failed"])
    return dict(total)


def _start(parts: Sequence[Found]) -> Found:
    return {
        "seconds": round(min(part["seconds"] for part in parts), 2),
        "mib": round(min(part["mib"] for part in parts), 1),
        "processes": max(part["processes"] for part in parts),
    }


def _cpu(parts: Sequence[Found]) -> Found:
    found: Found = {}
    for wire in parts[0]:
        found[wire] = {}
        for service in parts[0][wire]:
            taken = [part[wire][service] for part in parts]
            figure = "per_request" if service == "whole" else "per_chunk"
            micros = [round(sample[figure] * 1e6, 1) for sample in taken]
            found[wire][service] = {
                "microseconds": min(micros),
                "rounds": micros,
                "requests": sum(sample["requests"] for sample in taken),
                "failed": _faults(taken),
                "requests_per_second": round(max(sample["requests"] / sample["seconds"] for sample in taken)),
                "client_share": round(max(sample["client_cpu"] / sample["seconds"] for sample in taken), 2),
            }
    return found


def _latency(parts: Sequence[Found]) -> Found:
    found: Found = {}
    for streams in parts[0]:
        taken = [part[streams] for part in parts]
        found[streams] = {
            "streams": sum(sample["requests"] for sample in taken),
            "failed": _faults(taken),
            "first": percentiles([one for sample in taken for one in sample["first"]]),
            "whole": percentiles([one for sample in taken for one in sample["whole"]]),
        }
    return found


def _memory(parts: Sequence[Found]) -> Found:
    best = min(parts, key=lambda part: (-part["open"], part["mib"]))
    beside = percentiles([one for part in parts for one in part["beside"]["whole"]])
    return {
        "streams": best["streams"],
        "open": min(part["open"] for part in parts),
        "still_open": min(part["still_open"] for part in parts),
        "failed": _faults(parts),
        "before_mib": round(best["before_mib"], 1),
        "mib": round(best["mib"], 1),
        "after_mib": round(best["after_mib"], 1),
        "beside": beside,
        "after_failed": sum(sum(part["after"].values()) for part in parts),
        "beside_failed": sum(sum(part["beside"]["failed"].values()) for part in parts),
    }


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table. Whole numbers get separators."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in line) + " |" for line in lines
    )


def _each(figures: Found, measure: str) -> Iterable[tuple[str, str, Found]]:
    for name, found in figures["gateways"].items():
        if measure in found:
            yield name, figures["titles"][name], found[measure]


def _share(value: float, other: float | None) -> str:
    return "" if not other else f"{value / other:.2f}"


def cpu(figures: Found) -> str:
    """A table for each API: CPU time, and as a share of litellm's."""
    parts = []
    for wire, title in WIRES.items():
        rows = []
        base = figures["gateways"].get("litellm", {}).get("cpu", {}).get(wire)
        for name, label, found in _each(figures, "cpu"):
            if wire not in found or name == "direct":
                continue
            cells: list[object] = [label]
            for service in ("whole", "paced", "fast"):
                value = found[wire][service]["microseconds"]
                cells += [f"{value:.0f} µs", _share(value, base and base[service]["microseconds"])]
            rows.append((*cells, found[wire]["whole"]["requests_per_second"], _failed(found[wire].values())))
        if rows:
            share = "of litellm's"
            head = (title, "a request", share, "a chunk, 10 ms apart", share, "a chunk, at full speed", share)
            parts.append(table((*head, "requests a second", "failed"), rows))
    return "\n\n".join(parts)


def _failed(parts: Iterable[Found]) -> str:
    total = _faults(parts)
    kinds = ", ".join(f"{kind}: {number:,}" for kind, number in sorted(total.items()))
    return f"{sum(total.values()):,}" + (f" ({kinds})" if kinds else "")


def _milliseconds(found: Found | None, scale: float = 1.0) -> list[str]:
    return ["—", "—"] if found is None else [f"{found[name] * scale:.{1 if scale == 1 else 0}f}" for name in found]


def latency(figures: Found) -> str:
    """A table for each number of streams at once."""
    counts = next((list(found) for _, _, found in _each(figures, "latency")), [])
    parts = []
    for streams in counts:
        rows = [
            (
                label,
                *_milliseconds(found[streams]["first"]),
                *_milliseconds(found[streams]["whole"]),
                found[streams]["streams"],
                _failed([found[streams]]),
            )
            for _, label, found in _each(figures, "latency")
        ]
        title = "1 stream" if streams == "1" else f"{streams} streams at once"
        head = (title, "first text, median, ms", "p99", "whole stream, median, ms", "p99", "streams", "failed")
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def memory(figures: Found) -> str:
    """One line for each gateway."""
    rows = []
    for name, label, found in _each(figures, "memory"):
        if name == "direct":
            continue
        each = (found["mib"] - found["before_mib"]) * 1024 / found["open"] if found["open"] else math.nan
        sizes = (f"{found['before_mib']:.0f} MiB", f"{found['mib']:.0f} MiB", f"{each:.0f} KiB")
        beside = "none answered" if found["beside"] is None else f"{found['beside']['median']:.1f} ms"
        rows.append((label, found["streams"], found["open"], found["still_open"], *sizes, beside))
    head = ("", "streams", "open with all texts", "open at the end", "memory before", "memory with them", "a stream")
    return table((*head, "a request beside them"), rows)


def start(figures: Found) -> str:
    """One line for each gateway."""
    rows = [
        (label, f"{found['seconds']:.2f} s", f"{found['mib']:.0f} MiB", found["processes"])
        for name, label, found in _each(figures, "start")
        if name != "direct"
    ]
    return table(("", "until the first answer", "memory then", "processes"), rows)


def versions(figures: Found) -> str:
    """One line for each program."""
    rows = []
    for name, found in figures["versions"].items():
        if found not in [seen for _, seen in rows]:
            rows.append((figures["titles"][name], found))
    return table(
        ("", "versions"),
        [(label, ", ".join(f"{package} {version}" for package, version in found.items())) for label, found in rows],
    )


TABLES: dict[str, Callable[[Found], str]] = {
    function.__name__: function for function in (cpu, latency, memory, start, versions)
}


def all_tables(figures: Found) -> str:
    """Return all tables, and the load of the machine."""
    loads = [", ".join(f"{load:.1f}" for load in figures[when]) for when in ("load_before", "load_after")]
    parts = [function(figures) for function in TABLES.values()]
    return "\n\n".join((*parts, f"Load average before: {loads[0]}; after: {loads[1]}."))
