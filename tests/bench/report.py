"""Benchmark results as Markdown tables and as an SVG plot."""

from __future__ import annotations

import statistics
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LABELS = {
    "cold": ("cold start and first call", "cpu", "ms"),
    "call": ("one call, not streamed", "cpu", "µs"),
    "first": ("time to the first event", "wall", "µs"),
    "chunk": ("per chunk, 1 chunk per write", "cpu", "µs"),
    "chunk_32": ("per chunk, 32 chunks per write", "cpu", "µs"),
    "chunk_paced": ("per chunk, 1 ms apart", "cpu", "µs"),
    "own": ("per chunk, without the transport", "cpu", "µs"),
    "idle": ("memory per idle stream", "kib", "KiB"),
    "together_1": ("per chunk, 1 stream", "cpu", "µs"),
    "together_10": ("per chunk, 10 concurrent streams", "cpu", "µs"),
    "together_50": ("per chunk, 50 concurrent streams", "cpu", "µs"),
    "together_200": ("per chunk, 200 concurrent streams", "cpu", "µs"),
    "together_1000": ("1,000 concurrent streams, wall time", "wall", "s"),
}
"""For each measure: its label, the field of a sample to report, and the unit."""

NAMES = {
    "trunkline_chat": "Trunkline",
    "trunkline_chat_fast": "Trunkline, aiohttp",
    "trunkline_anthropic": "Trunkline",
    "trunkline_anthropic_fast": "Trunkline, aiohttp",
    "trunkline_bedrock": "Trunkline",
    "trunkline_bedrock_fast": "Trunkline, aiohttp",
    "openai_sdk": "openai",
    "pydantic_ai_sdk": "pydantic-ai",
    "any_llm_sdk": "any-llm",
    "litellm_sdk": "litellm",
    "anthropic_sdk": "anthropic",
    "boto3_sdk": "boto3",
    "aiobotocore_sdk": "aiobotocore",
}
"""The clients' display names, in the order of the columns."""

BY_HAND = "hand-written httpx2"

BARS = {
    ("cold", "trunkline_chat"): 1.25,
    ("call", "trunkline_chat"): 1.15,
    ("call", "trunkline_chat_fast"): 0.6,
    ("first", "trunkline_chat"): 1.15,
    ("first", "trunkline_chat_fast"): 0.6,
    ("chunk", "trunkline_chat"): 1.35,
    ("chunk", "trunkline_chat_fast"): 0.35,
    ("chunk", "trunkline_anthropic"): 1.35,
    ("chunk", "trunkline_anthropic_fast"): 0.4,
    ("chunk", "trunkline_bedrock"): 1.3,
    ("chunk", "trunkline_bedrock_fast"): 0.6,
    ("chunk_32", "trunkline_chat"): 2.0,
    ("chunk_32", "trunkline_chat_fast"): 1.8,
    ("together_200", "trunkline_chat"): 1.2,
    ("together_200", "trunkline_chat_fast"): 0.35,
    ("together_1000", "trunkline_chat"): 1.15,
    ("together_1000", "trunkline_chat_fast"): 0.3,
    ("chunk_paced", "trunkline_chat"): 1.05,
    ("chunk_paced", "trunkline_chat_fast"): 0.8,
    ("idle", "trunkline_chat"): 1.1,
    ("idle", "trunkline_chat_fast"): 1.0,
}
"""The targets: highest acceptable ratio to the hand-written client."""

OWN_SHARE = 6.0
"""The target for the time per chunk without the transport, in microseconds."""

WIRES = {"chat": "Chat Completions", "anthropic": "Anthropic's Messages", "bedrock": "Bedrock's ConverseStream"}

# When the machine stalls, the packets of a paced stream arrive together, which makes the lowest sample too low.
_BY_MEDIAN = {"chunk_paced", "idle"}
_SCALES = {"ms": 1e3, "µs": 1.0, "s": 1e6, "KiB": 1.0}


def versions() -> dict[str, str]:
    """Versions of the packages that affect the result."""
    found = {}
    for name in ("trunkline", "httpx2", "httpcore2", "h11", "anyio", "attrs", "msgspec", "uvloop"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "-"
    return found


def row(result: dict[str, Any], measure: str, client: str) -> dict[str, float] | None:
    """The figures of one client (`median`, `low`, `high`, `ratio`, `paired`, `failed`, `peak`); `None` if it failed."""
    _, key, unit = LABELS[measure]
    good = [taken for taken in result["samples"][measure][client] if "error" not in taken]
    values = [taken[key] / _SCALES[unit] for taken in good]
    if not values:
        return None
    found = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    floor = result["floors"][result["clients"][client]["wire"]]
    pairs = [
        (ours[key], theirs[key])
        for ours, theirs in zip(
            result["samples"][measure][client], result["samples"][measure].get(floor, ()), strict=False
        )
        if "error" not in ours and "error" not in theirs
    ]
    if pairs:
        choose = statistics.median if measure in _BY_MEDIAN else min
        found["ratio"] = choose([ours for ours, _ in pairs]) / choose([theirs for _, theirs in pairs])
        found["paired"] = statistics.median(ours / theirs for ours, theirs in pairs)
    if "failed" in good[0]:
        found["failed"] = sum(taken["failed"] for taken in good)
        found["peak"] = statistics.median(taken["peak_kib"] for taken in good) / 1024
        found["chunk"] = min(taken["cpu"] for taken in good)
    return found


def table(result: dict[str, Any]) -> str:
    """A Markdown table of every measure and client, with the versions below it."""
    lines = [
        "| measure | client | median | range | ratio of lowest samples | median ratio per round | details |",
        "|---|---|---|---|---|---|---|",
    ]
    for measure, samples in result["samples"].items():
        label, _, unit = LABELS[measure]
        order = sorted(samples, key=lambda name: list(result["floors"]).index(result["clients"][name]["wire"]))
        for client in order:
            figures = row(result, measure, client)
            if figures is None:
                reason = samples[client][-1]["error"].splitlines()[-1][:80] if samples[client] else "no sample"
                lines.append(f"| {label} | {client} | failed | | | | {reason} |")
                continue
            details = ""
            if "failed" in figures:
                failed, peak, chunk = figures["failed"], figures["peak"], figures["chunk"]
                details = f"{failed:.0f} failed, peak memory {peak:.0f} MiB, {chunk:.1f} µs per chunk"
            ratio = f"{figures['ratio']:.2f} ×" if "ratio" in figures else ""
            paired = f"{figures['paired']:.2f} ×" if "paired" in figures else ""
            spread = f"{figures['low']:.1f} to {figures['high']:.1f}"
            lines.append(
                f"| {label} | {client} | {figures['median']:.1f} {unit} | {spread} | {ratio} | {paired} | {details} |"
            )
    return "\n".join(lines) + f"\n\n{environment(result)}"


def environment(result: dict[str, Any]) -> str:
    """One sentence with the version of Python and of the packages that affect the result."""
    packages = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return f"Versions: Python {result['python']}, {packages}.\n"


def _ratio(result: dict[str, Any], measure: str, client: str) -> str:
    if client not in result["samples"][measure]:
        return ""
    figures = row(result, measure, client)
    if measure == "own" and figures is not None:
        return f"{figures['low']:.1f} µs (≤ {OWN_SHARE:g})"
    if figures is None or "ratio" not in figures:
        return "failed"
    bar = BARS.get((measure, client))
    ratio = f"{figures['ratio']:.2f} ×"
    if bar is not None:
        ratio = f"**{ratio}** (≤ {bar:g})" if figures["ratio"] <= bar else f"{ratio} (**missed**: ≤ {bar:g})"
    return f"{ratio}, {figures['failed']:.0f} failed" if figures.get("failed") else ratio


def matrix(result: dict[str, Any]) -> str:
    """Ratios to the hand-written client: a table for each wire format, a row for each measure.

    Measures that `growth` reports and that have no target are left out.
    """
    parts = []
    for wire, title in WIRES.items():
        clients = [name for name in NAMES if result["clients"].get(name, {}).get("wire") == wire]
        rows = [
            f"| {title} | {BY_HAND} | " + " | ".join(NAMES[name] for name in clients) + " |",
            "|---|---|" + "---|" * len(clients),
        ]
        for measure, samples in result["samples"].items():
            if measure.startswith("together_") and not any(target == measure for target, _ in BARS):
                continue
            figures = row(result, measure, result["floors"][wire]) if result["floors"][wire] in samples else None
            if figures is not None:
                label, _, unit = LABELS[measure]
                ratios = " | ".join(_ratio(result, measure, client) for client in clients)
                rows.append(f"| {label} | {figures['median']:.1f} {unit} | {ratios} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def growth(result: dict[str, Any]) -> str:
    """CPU time per chunk by number of concurrent streams, its ratio to one stream, and the highest peak memory."""
    numbers = [int(measure.rpartition("_")[2]) for measure in result["samples"] if measure.startswith("together_")]
    head = ("concurrent streams", *(f"{number:,}" for number in numbers), f"peak memory at {numbers[-1]:,}")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for client in (
        result["floors"]["chat"],
        *(name for name in NAMES if result["clients"].get(name, {}).get("wire") == "chat"),
    ):
        cells, one, peak = [], 0.0, "failed"
        for number in numbers:
            figures = (
                row(result, f"together_{number}", client) if client in result["samples"][f"together_{number}"] else None
            )
            chunk = figures["chunk"] if figures is not None else 0.0
            one = one or chunk
            cells.append(f"{chunk:.1f} µs, {chunk / one:.2f} ×" if chunk and one else "failed")
            peak = f"{figures['peak']:.0f} MiB" if figures is not None else "failed"
        lines.append("| " + " | ".join((NAMES.get(client, BY_HAND), *cells, peak)) + " |")
    return "\n".join(lines) + "\n"


def missed(result: dict[str, Any]) -> str:
    """The targets that are not met."""
    lines = []
    for (measure, client), bar in BARS.items():
        figures = row(result, measure, client) if client in result["samples"].get(measure, {}) else None
        if figures is not None and figures["ratio"] > bar:
            wire = WIRES[result["clients"][client]["wire"]]
            lines.append(f"| {LABELS[measure][0]} | {NAMES[client]}, {wire} | {figures['ratio']:.2f} × | {bar:g} × |")
    if not lines:
        return "Every target is met.\n"
    return "\n".join(["| measure | client | measured | target |", "|---|---|---|---|", *lines]) + "\n"


def plot(result: dict[str, Any]) -> str:
    """An SVG bar chart of the ratios to the hand-written client, on a logarithmic scale."""
    import math

    bars: list[tuple[str, str, float]] = []
    for measure, samples in result["samples"].items():
        for client in samples:
            figures = row(result, measure, client)
            if figures and "ratio" in figures and client not in result["floors"].values():
                bars.append((LABELS[measure][0], client, figures["ratio"]))
    left, width, step = 430, 420, 18
    top = max([2.0, *(ratio for _, _, ratio in bars)])
    low = 0.5

    def at(ratio: float) -> float:
        return left + width * math.log(max(ratio, low) / low) / math.log(top / low)

    height = step * (len(bars) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<text x="{at(1):.0f}" y="12" text-anchor="middle">{BY_HAND} = 1</text>',
    ]
    for number, (label, client, ratio) in enumerate(bars):
        y = step * (number + 1)
        color = "#2a6fbb" if client.startswith("trunkline") else "#9aa5b1"
        name = f"{NAMES[client]}, {WIRES[result['clients'][client]['wire']]}"
        parts += [
            f'<text x="{left - 6}" y="{y + 11}" text-anchor="end">{label}: {name}</text>',
            f'<rect x="{left}" y="{y + 2}" width="{max(at(ratio) - left, 1):.0f}" height="12" fill="{color}"/>',
            f'<text x="{at(ratio) + 4:.0f}" y="{y + 11}">{ratio:.2f}</text>',
        ]
    parts.append(f'<line x1="{at(1):.0f}" x2="{at(1):.0f}" y1="16" y2="{height - step}" stroke="#c0392b"/>')
    return "\n".join([*parts, "</svg>", ""])
