"""The pages of keys: the list, the forms to make and change one, and its end."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

import attrs
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trunkline_gateway.budgets import NANO, Balance
from trunkline_gateway.console.app import Console, texts_of
from trunkline_gateway.database.sessions import Session
from trunkline_gateway.keys import Budget, Key, KeyDraft, Period

_PERIODS: Mapping[Period, str] = {"day": "a day", "month": "a month", "total": "in total"}
_MOST = 10**15
_LONGEST_NAME = 100
_MOST_SCOPES = 100
_LONGEST_SCOPE = 200


@attrs.frozen(kw_only=True)
class ShownKey:
    """A key with what the list shows of it."""

    key: Key
    state: str
    """`active`, `expired` or `revoked`."""
    balance: Balance | None


def _state_of(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    expires_at = key.draft.expires_at
    return "expired" if expires_at is not None and expires_at <= datetime.datetime.now(datetime.UTC) else "active"


async def list_keys(console: Console, request: Request, session: Session) -> Response:
    """Show all keys."""
    keys = []
    for key in await console.gateway.keys.list():
        balance = await console.gateway.budgets.balance(key) if key.draft.budget is not None else None
        keys.append(ShownKey(key=key, state=_state_of(key), balance=balance))
    keys.sort(key=lambda shown: shown.state != "active")
    context = {"keys": keys, "periods": _PERIODS, "nano": NANO, "done": request.query_params.get("done", "")}
    return console.render(request, "keys.html", context, session=session)


async def new_key(console: Console, request: Request, session: Session) -> Response:
    """Show the form of a new key, and make it. Its secret is shown once."""
    if request.method == "GET":
        return _form(console, request, session, None, {})
    texts = await texts_of(request)
    draft, errors = read_draft(texts)
    if draft is None:
        return _form(console, request, session, None, texts, errors)
    key, secret = await console.gateway.keys.create(draft)
    scopes = key.draft.scopes
    model = next((scope for scope in scopes if not any(char in scope for char in "*?[")), "SERVICE/MODEL")
    context = {"key": key, "secret": secret, "api_base": console.api_base(request), "model": model}
    return console.render(request, "key_made.html", context, session=session)


async def edit_key(console: Console, request: Request, session: Session) -> Response:
    """Show the form of a key, and change it."""
    key = await _key(console, request)
    if request.method == "GET":
        return _form(console, request, session, key, _texts(key.draft))
    texts = await texts_of(request)
    draft, errors = read_draft(texts)
    if draft is None:
        return _form(console, request, session, key, texts, errors)
    await console.gateway.keys.update(key.id, draft)
    return console.redirect(request, "/keys", done=f"{draft.name} is saved.")


async def revoke_key(console: Console, request: Request, session: Session) -> Response:
    """Ask whether to revoke a key, and revoke it."""
    key = await _key(console, request)
    if request.method == "POST":
        await console.gateway.keys.revoke(key.id)
        return console.redirect(request, "/keys", done=f"{key.draft.name} is revoked.")
    context = {
        "title": f"Revoke {key.draft.name}?",
        "text": f"Clients that use the key {key.prefix}… are refused from now on. This cannot be undone.",
        "details": ["Calls in flight go on to their end."],
        "error": "",
        "action": f"/key/revoke/{key.id}",
        "back": "/keys",
        "verb": "Revoke key",
    }
    return console.render(request, "confirm.html", context, session=session)


async def _key(console: Console, request: Request) -> Key:
    key = await console.gateway.keys.get(request.path_params["key_id"])
    if key is None:
        raise HTTPException(404, "There is no such key.")
    return key


def _form(
    console: Console,
    request: Request,
    session: Session,
    key: Key | None,
    texts: Mapping[str, str],
    errors: Mapping[str, str] | None = None,
) -> Response:
    services = console.gateway.services
    names = [*services.aliases, *(f"{state.name}/*" for state in services.states())]
    context = {
        "key": key,
        "texts": {name: texts.get(name, "") for name in _FIELDS},
        "errors": {name: (errors or {}).get(name, "") for name in _FIELDS},
        "periods": _PERIODS,
        "scopes": names,
    }
    return console.render(request, "key.html", context, session=session, status=422 if errors else 200)


_FIELDS = (
    "name",
    "scopes",
    "expires",
    "requests_per_minute",
    "tokens_per_minute",
    "period",
    "budget_tokens",
    "budget_cost",
)


def _texts(draft: KeyDraft) -> dict[str, str]:
    budget = draft.budget
    expires = draft.expires_at
    if expires is not None:  # the date is the last day on which the key works
        expires = expires.astimezone(datetime.UTC) - datetime.timedelta(microseconds=1)
    cost = None if budget is None or budget.cost is None else Decimal(budget.cost) / NANO
    return {
        "name": draft.name,
        "scopes": "\n".join(draft.scopes),
        "expires": "" if expires is None else expires.date().isoformat(),
        "requests_per_minute": _text(draft.requests_per_minute),
        "tokens_per_minute": _text(draft.tokens_per_minute),
        "period": "month" if budget is None else budget.period,
        "budget_tokens": _text(None if budget is None else budget.tokens),
        "budget_cost": "" if cost is None else f"{cost.normalize():f}",
    }


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def read_draft(texts: Mapping[str, str]) -> tuple[KeyDraft | None, dict[str, str]]:
    """Read the form of a key. Returns what is wrong instead, by the name of the field."""
    errors: dict[str, str] = {}
    name = texts.get("name", "").strip()
    if not name:
        errors["name"] = "Required"
    elif len(name) > _LONGEST_NAME or not name.isprintable():
        errors["name"] = f"A name has at most {_LONGEST_NAME} visible characters"
    scopes = tuple(dict.fromkeys(line.strip() for line in texts.get("scopes", "").splitlines() if line.strip()))
    if len(scopes) > _MOST_SCOPES or any(len(each) > _LONGEST_SCOPE or not each.isprintable() for each in scopes):
        errors["scopes"] = (
            f"At most {_MOST_SCOPES} models of at most {_LONGEST_SCOPE} visible characters, one in each line"
        )
    requests = _whole(texts, "requests_per_minute", errors)
    tokens = _whole(texts, "tokens_per_minute", errors)
    budget_tokens = _whole(texts, "budget_tokens", errors)
    cost = _cost(texts, errors)
    expires = _expiry(texts, errors)
    period: Period | None = next((known for known in _PERIODS if known == texts.get("period")), None)
    if period is None and texts.get("period"):
        errors["period"] = "One of the list"
    if errors:
        return None, errors
    budget = None
    if budget_tokens is not None or cost is not None:
        budget = Budget(period=period or "month", tokens=budget_tokens, cost=cost)
    draft = KeyDraft(
        name=name,
        scopes=scopes,
        expires_at=expires,
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        budget=budget,
    )
    return draft, {}


def _whole(texts: Mapping[str, str], name: str, errors: dict[str, str]) -> int | None:
    text = texts.get(name, "").strip().replace(",", "").replace("_", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(_MOST)) or not 1 <= int(text) <= _MOST:
        errors[name] = "Must be a whole number of at least 1"
        return None
    return int(text)


def _cost(texts: Mapping[str, str], errors: dict[str, str]) -> int | None:
    text = texts.get("budget_cost", "").strip().lstrip("$").replace(",", "")
    if not text:
        return None
    try:
        dollars = Decimal(text)
    except InvalidOperation:
        dollars = Decimal("NaN")
    nano = dollars * NANO if dollars.is_finite() and abs(dollars.adjusted()) < 12 else Decimal(0)
    if not 1 <= nano <= Decimal(10) ** 18:
        errors["budget_cost"] = "Must be an amount in US dollars, such as 25 or 0.50"
        return None
    return int(nano)


def _expiry(texts: Mapping[str, str], errors: dict[str, str]) -> datetime.datetime | None:
    text = texts.get("expires", "").strip()
    if not text:
        return None
    try:
        day = datetime.date.fromisoformat(text) + datetime.timedelta(days=1)
        return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC)
    except (ValueError, OverflowError):
        errors["expires"] = "Must be a date, such as 2027-12-31"
        return None


def routes(console: Console) -> list[Route]:
    """Return the routes of these pages."""
    both = ("GET", "POST")
    return [
        console.page("/keys", list_keys),
        console.page("/keys/new", new_key, methods=both),
        console.page("/key/edit/{key_id:int}", edit_key, methods=both),
        console.page("/key/revoke/{key_id:int}", revoke_key, methods=both),
    ]
