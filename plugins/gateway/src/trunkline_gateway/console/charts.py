"""Bar charts as SVG. Pure: the template draws what is computed here. The page has the numbers in a table too."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence

import attrs

WIDTH = 420
HEIGHT = 170
_LEFT = 46
_TOP = 8
_BOTTOM = 22
_MOST_LABELS = 6


@attrs.frozen(kw_only=True)
class Bar:
    """A part of a bar."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str


@attrs.frozen(kw_only=True)
class Label:
    """A text at an axis."""

    x: float
    y: float
    text: str
    anchor: str


@attrs.frozen(kw_only=True)
class Chart:
    """Stacked bars, one for each day."""

    title: str
    summary: str
    """What a screen reader says of it."""
    bars: tuple[Bar, ...]
    labels: tuple[Label, ...]
    lines: tuple[float, ...]
    """The heights of the horizontal lines."""
    legend: tuple[str, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT


def nice_ceiling(value: float) -> float:
    """Return the next number of the form 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 2, 5) if value <= step * power * (1 + 1e-9)), 10 * power)


def bars_by_day(
    title: str,
    days: Sequence[datetime.date],
    series: Sequence[tuple[str, Sequence[float]]],
    write: Callable[[float], str],
) -> Chart:
    """Draw a bar for each day, in which the series are stacked. `write` writes a value."""
    totals = [sum(values[index] for _, values in series) for index in range(len(days))]
    top = nice_ceiling(max(totals, default=0))
    inner = HEIGHT - _TOP - _BOTTOM
    slot = (WIDTH - _LEFT) / max(len(days), 1)
    width = min(max(slot * 0.72, 1.0), 40.0)
    bars: list[Bar] = []
    for index, day in enumerate(days):
        y = float(HEIGHT - _BOTTOM)
        for number, (name, values) in enumerate(series):
            height = values[index] / top * inner
            y -= height
            if height > 0:
                bars.append(
                    Bar(
                        x=round(_LEFT + index * slot + (slot - width) / 2, 2),
                        y=round(y, 2),
                        width=round(width, 2),
                        height=round(height, 2),
                        series=number + 1,
                        title=f"{day.isoformat()}: {write(values[index])} {name}".rstrip(),
                    )
                )
    lines = tuple(round(HEIGHT - _BOTTOM - share * inner, 2) for share in (0, 0.5, 1))
    labels = [
        Label(x=_LEFT - 6, y=line + 4, text=write(top * share), anchor="end")
        for line, share in zip(lines, (0, 0.5, 1), strict=True)
    ]
    step = max(1, math.ceil(len(days) / _MOST_LABELS))
    for index in range(0, len(days), step):
        x = round(_LEFT + (index + 0.5) * slot, 2)
        labels.append(Label(x=x, y=HEIGHT - 6, text=f"{days[index]:%d %b}".lstrip("0"), anchor="middle"))
    summary = f"{title}: {write(sum(totals))} in {len(days)} days, at most {write(max(totals, default=0))} in one day"
    return Chart(
        title=title,
        summary=summary,
        bars=tuple(bars),
        labels=tuple(labels),
        lines=lines,
        legend=tuple(name for name, _ in series) if len(series) > 1 else (),
    )
