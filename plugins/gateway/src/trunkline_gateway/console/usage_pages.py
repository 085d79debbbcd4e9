"""The page of usage, and its numbers as CSV."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Callable, Mapping, Sequence

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trunkline_gateway.budgets import NANO
from trunkline_gateway.console import filters
from trunkline_gateway.console.app import Console, key_id_of
from trunkline_gateway.console.charts import bars_by_day
from trunkline_gateway.database.sessions import Session
from trunkline_gateway.usage import UsageRow

_DAYS = 30
_MOST_DAYS = 400

_GROUPS: Mapping[str, tuple[str, Callable[[UsageRow], str]]] = {
    "day": ("Day", lambda row: row.day.isoformat()),
    "key": ("Key", lambda row: row.key_name),
    "service": ("Service", lambda row: row.service),
    "model": ("Model", lambda row: f"{row.service}/{row.model}"),
}


@attrs.frozen(kw_only=True)
class Sum:
    """The sum of several rows."""

    name: str
    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    unpriced: int = 0


def add_up(name: str, rows: Sequence[UsageRow]) -> Sum:
    """Add rows up."""
    return Sum(
        name=name,
        requests=sum(row.requests for row in rows),
        errors=sum(row.errors for row in rows),
        input_tokens=sum(row.input_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        cost=sum(row.cost for row in rows),
        unpriced=sum(row.unpriced for row in rows),
    )


@attrs.frozen(kw_only=True)
class _Wanted:
    since: datetime.date
    until: datetime.date
    key_id: int | None
    group: str


def _wanted(request: Request) -> _Wanted:
    today = datetime.datetime.now(datetime.UTC).date()
    until = _date(request, "until") or today
    since = _date(request, "since") or until - datetime.timedelta(days=_DAYS - 1)
    if since > until:
        since, until = until, since
    since = max(since, until - datetime.timedelta(days=_MOST_DAYS - 1))
    group = request.query_params.get("by", "model")
    return _Wanted(
        since=since,
        until=until,
        key_id=key_id_of(request),
        group=group if group in _GROUPS else "model",
    )


def _date(request: Request, name: str) -> datetime.date | None:
    try:
        found = datetime.date.fromisoformat(request.query_params.get(name, ""))
    except ValueError:
        return None
    return found if datetime.date(2000, 1, 1) <= found <= datetime.date(9000, 1, 1) else None


async def _rows(console: Console, wanted: _Wanted) -> Sequence[UsageRow]:
    await console.gateway.usage.flush()
    return await console.gateway.usage.usage(wanted.since, wanted.until, key_id=wanted.key_id)


async def show_usage(console: Console, request: Request, session: Session) -> Response:
    """Show the usage of a range of days."""
    wanted = _wanted(request)
    rows = await _rows(console, wanted)
    days = [wanted.since + datetime.timedelta(days=number) for number in range((wanted.until - wanted.since).days + 1)]
    by_day = {day: add_up(day.isoformat(), [row for row in rows if row.day == day]) for day in days}
    sums = list(by_day.values())
    label, name_of = _GROUPS[wanted.group]
    names = dict.fromkeys(name_of(row) for row in rows)
    groups = [add_up(name, [row for row in rows if name_of(row) == name]) for name in names]
    groups.sort(key=lambda item: item.name if wanted.group == "day" else (-item.cost, -item.requests))
    charts = [
        bars_by_day(
            "Requests",
            days,
            [
                ("that succeeded", [item.requests - item.errors for item in sums]),
                ("that failed", [item.errors for item in sums]),
            ],
            filters.short,
        ),
        bars_by_day(
            "Tokens",
            days,
            [("of input", [item.input_tokens for item in sums]), ("of output", [item.output_tokens for item in sums])],
            filters.short,
        ),
        bars_by_day("Cost", days, [("", [item.cost for item in sums])], filters.dollars),
    ]
    context = {
        "wanted": wanted,
        "label": label,
        "groups": groups,
        "total": add_up("Total", rows),
        "charts": charts if rows else [],
        "keys": await console.gateway.keys.list(),
        "choices": {name: texts[0] for name, texts in _GROUPS.items()},
    }
    return console.render(request, "usage.html", context, session=session)


async def usage_as_csv(console: Console, request: Request, session: Session) -> Response:
    """Return the usage of a range of days as CSV: a row for each day, key, service and model."""
    wanted = _wanted(request)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        (
            "day",
            "key_id",
            "key",
            "service",
            "model",
            "requests",
            "errors",
            "input_tokens",
            "output_tokens",
            "cost_usd",
            "unpriced",
        )
    )
    for row in await _rows(console, wanted):
        names = (_plain(row.key_name), _plain(row.service), _plain(row.model))
        numbers = (
            row.requests,
            row.errors,
            row.input_tokens,
            row.output_tokens,
            f"{row.cost / NANO:.9f}",
            row.unpriced,
        )
        writer.writerow((row.day.isoformat(), "" if row.key_id is None else row.key_id, *names, *numbers))
    name = f"usage-{wanted.since}-{wanted.until}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), media_type="text/csv", headers=headers)


def _plain(text: str) -> str:
    """Keep spreadsheets from taking a text for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def routes(console: Console) -> list[Route]:
    """Return the routes of these pages."""
    return [console.page("/usage", show_usage), console.page("/usage.csv", usage_as_csv)]
