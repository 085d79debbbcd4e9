"""How the pages write numbers, money and times."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping

from markupsafe import Markup, escape

from trunkline_gateway.budgets import NANO

_DASH = "–"


def count(value: float | None) -> str:
    """Write a number with separators of thousands: `12,345`."""
    return _DASH if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """Write a number with three digits: `12.3K`."""
    if value is None:
        return _DASH
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}" if abs(value) < size * 999.5 else f"{value / size:,.0f}{unit}"
    return f"{value:.3g}"


def dollars(nano: float | None) -> str:
    """Write nano-dollars in US dollars, with cents, or more digits for a small amount."""
    if nano is None:
        return "unknown"
    value = nano / NANO
    if value and abs(value) < 0.01:
        text = f"${value:.6f}".rstrip("0")
        return "$0.00" if text.endswith(".") else text
    return f"${value:,.2f}"


def seconds(value: float | None) -> str:
    """Write a time in seconds or minutes."""
    if value is None:
        return _DASH
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h"


def when(value: datetime.datetime | None) -> Markup:
    """Write a time in UTC, as an element that programs can read."""
    if value is None:
        return Markup("–")
    utc = value.astimezone(datetime.UTC) if value.tzinfo is not None else value.replace(tzinfo=datetime.UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        utc.isoformat(timespec="seconds"), utc.strftime("%Y-%m-%d %H:%M:%S")
    )


def last_day(value: datetime.datetime) -> str:
    """Write the last day (UTC) that ends before a time or contains it."""
    return (value.astimezone(datetime.UTC) - datetime.timedelta(microseconds=1)).date().isoformat()


def prose(text: object) -> Markup:
    """Write a text with `code` between backticks."""
    parts = str(text).split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def sentence(text: object) -> str:
    """Begin a text with a capital letter, unless its first word is a setting or the name of a service."""
    string = str(text)
    first, _, rest = string.partition(" ")
    if "_" in first or rest.startswith("("):
        return string
    return string[:1].upper() + string[1:]


FILTERS: Mapping[str, Callable[..., object]] = {
    "count": count,
    "short": short,
    "dollars": dollars,
    "seconds": seconds,
    "when": when,
    "last_day": last_day,
    "prose": prose,
    "sentence": sentence,
}
