"""The pages of calls: those in flight, and the log."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trunkline_gateway.console.app import Console, key_id_of, texts_of
from trunkline_gateway.database.sessions import Session
from trunkline_gateway.usage import CallRecord

_PAGE = 50
_READ_AT_ONCE = 200
_MOST_READ = 5000
"""The most rows of the log that are looked at for one page."""

_OUTCOMES = {"ok": "Succeeded", "error": "Failed", "cancelled": "Cancelled", "interrupted": "Interrupted"}


async def show_calls(console: Console, request: Request, session: Session) -> Response:
    """Show the calls in flight. The page asks for its list again every two seconds."""
    calls = sorted(console.gateway.running, key=lambda call: call.started)
    context = {"calls": calls, "now": time.monotonic(), "done": request.query_params.get("done", "")}
    template = "calls_list.html" if "hx-request" in request.headers else "calls.html"
    return console.render(request, template, context, session=session)


async def cancel_call(console: Console, request: Request, session: Session) -> Response:
    """End a call."""
    call_id = (await texts_of(request)).get("id", "")
    found = console.gateway.running.cancel(call_id)
    done = "The call is cancelled." if found else "The call had already ended."
    return console.redirect(request, "/calls", done=done)


async def show_log(console: Console, request: Request, session: Session) -> Response:
    """Show the log of calls, page by page."""
    query = request.query_params
    key_id = key_id_of(request)
    outcome = query.get("outcome", "") if query.get("outcome", "") in _OUTCOMES else ""
    name = query.get("model", "").strip()
    before = query.get("before") or None
    await console.gateway.usage.flush()
    found: list[CallRecord] = []
    cursor, read = before, 0
    more = True
    while more and len(found) <= _PAGE and read < _MOST_READ:
        rows = await console.gateway.usage.log(limit=_READ_AT_ONCE, before=cursor, key_id=key_id)
        read += len(rows)
        more = len(rows) == _READ_AT_ONCE
        cursor = rows[-1].id if rows else cursor
        found += [row for row in rows if _matches(row, outcome, name)]
    shown = found[:_PAGE]
    if len(found) > _PAGE:
        following: str | None = shown[-1].id
    else:
        following = cursor if more else None
    context = {
        "rows": shown,
        "following": following,
        "before": before,
        "key_id": key_id,
        "outcome": outcome,
        "model": name,
        "outcomes": _OUTCOMES,
        "keys": await console.gateway.keys.list(),
        "has_contents": console.gateway.settings.log_contents,
        "days": console.gateway.settings.log_days,
    }
    return console.render(request, "log.html", context, session=session)


def _matches(row: CallRecord, outcome: str, name: str) -> bool:
    return (not outcome or row.outcome == outcome) and (not name or name in f"{row.service}/{row.model}")


def routes(console: Console) -> list[Route]:
    """Return the routes of these pages."""
    return [
        console.page("/calls", show_calls),
        console.page("/calls/cancel", cancel_call, methods=("POST",)),
        console.page("/log", show_log),
    ]
