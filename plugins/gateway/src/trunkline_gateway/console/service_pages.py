"""The pages of services: the list, the forms to add and change one, and its test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from urllib.parse import quote

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from trunkline import ConfigurationError
from trunkline.authoring.json import JSONObject

from trunkline_gateway.console import forms
from trunkline_gateway.console.app import Console, texts_of
from trunkline_gateway.console.composed_forms import COMPOSED, Member, members_of, read_composed
from trunkline_gateway.console.form_values import shown
from trunkline_gateway.console.providers import InstalledProvider, installed_providers
from trunkline_gateway.database.sessions import Session
from trunkline_gateway.service_tables import kind_of, name_problem
from trunkline_gateway.services import UNNAMED, ServiceState


async def list_services(console: Console, request: Request, session: Session) -> Response:
    """Show all services, and the aliases."""
    return await _list(console, request, session)


async def _list(
    console: Console,
    request: Request,
    session: Session,
    *,
    alias: Mapping[str, str] | None = None,
    error: str = "",
) -> Response:
    services = console.gateway.services
    context = {
        "states": services.states(),
        "aliases": sorted(services.aliases.items()),
        "alias": alias or {"name": "", "target": ""},
        "alias_error": error,
        "read_only": services.read_only,
        "file": console.gateway.settings.services,
        "done": request.query_params.get("done", ""),
    }
    return console.render(request, "services.html", context, session=session, status=422 if error else 200)


async def choose_provider(console: Console, request: Request, session: Session) -> Response:
    """Show the providers to choose from."""
    _refuse_read_only(console)
    providers, broken = await anyio.to_thread.run_sync(installed_providers)
    context = {"providers": providers.values(), "broken": broken, "composed": COMPOSED}
    return console.render(request, "providers.html", context, session=session)


async def new_service(console: Console, request: Request, session: Session) -> Response:
    """Show the form of a new service, and store it."""
    _refuse_read_only(console)
    kind = request.path_params["provider"]
    if kind in COMPOSED:
        return await _composed(console, request, session, kind, None)
    provider = await _provider(kind)
    if request.method == "GET":
        form = forms.draw(provider)
        return _show(console, request, session, provider, form, name=_free_name(console, provider.name))
    return await _save(console, request, session, provider, None)


async def edit_service(console: Console, request: Request, session: Session) -> Response:
    """Show the form of a service, and store it."""
    state = _state(console, request)
    kind = kind_of(state.table)
    if kind is not None:
        return await _composed(console, request, session, kind, state)
    provider = await _provider(state.provider or "")
    if request.method == "GET":
        form = forms.draw(
            provider, values=state.table, stored=dict(state.secrets), read_only=console.gateway.services.read_only
        )
        return _show(console, request, session, provider, form, name=state.name, state=state)
    _refuse_read_only(console)
    return await _save(console, request, session, provider, state)


async def _save(
    console: Console, request: Request, session: Session, provider: InstalledProvider, state: ServiceState | None
) -> Response:
    texts = await texts_of(request)
    submitted = forms.read(provider, texts, is_new=state is None)
    name = state.name if state is not None else texts.get("name", "").strip()
    errors, general = await _store(console, name, submitted, is_new=state is None)
    if not errors and not general:
        return console.redirect(request, "/services", done=f"{name} is saved.")
    drawn = forms.draw(
        provider,
        values=state.table if state is not None else None,
        stored=dict(state.secrets) if state is not None else None,
        submitted=submitted,
        errors=errors,
    )
    known = {field.setting for field in drawn.fields if field.error}
    general += [f"{setting}: {text}" for setting, text in errors.items() if setting not in known and setting != "name"]
    return _show(console, request, session, provider, drawn, name=name, state=state, errors=errors, general=general)


async def _store(
    console: Console, name: str, submitted: forms.Submitted, *, is_new: bool
) -> tuple[dict[str, str], list[str]]:
    """Store a service, or return its mistakes: by the setting that each names, and those without one."""
    errors = {**submitted.errors, **(_name_errors(console, name) if is_new else {})}
    if errors:
        return errors, []
    try:
        await console.gateway.services.save(name, submitted.table, submitted.secrets)
    except ConfigurationError as error:
        return _sorted_errors(error)
    return {}, []


def _show(
    console: Console,
    request: Request,
    session: Session,
    provider: InstalledProvider,
    form: forms.ServiceForm,
    *,
    name: str,
    state: ServiceState | None = None,
    errors: Mapping[str, str] | None = None,
    general: Sequence[str] = (),
) -> Response:
    errors = errors or {}
    context = {
        "provider": provider,
        "form": form,
        "name": name,
        "name_error": errors.get("name", ""),
        "state": state,
        "general": general,
        "wrong": [field for field in form.fields if field.error],
        "read_only": console.gateway.services.read_only,
    }
    status = 422 if errors or general else 200
    return console.render(request, "service.html", context, session=session, status=status)


async def _composed(
    console: Console, request: Request, session: Session, kind: str, state: ServiceState | None
) -> Response:
    services = console.gateway.services
    names = [other.name for other in services.states() if state is None or other.name != state.name]
    table: JSONObject = state.table if state is not None else {}
    name = state.name if state is not None else _free_name(console, kind)
    submitted: forms.Submitted | None = None
    errors: dict[str, str] = {}
    general: list[str] = []
    members = members_of(kind, table, names)
    if request.method == "POST":
        _refuse_read_only(console)
        texts = await texts_of(request)
        submitted = read_composed(kind, texts, [member.name for member in members])
        members = [Member(name=member.name, text=texts.get(f"m.{member.name}", "")) for member in members]
        if state is None:
            name = texts.get("name", "").strip()
        errors, general = await _store(console, name, submitted, is_new=state is None)
        if not errors and not general:
            return console.redirect(request, "/services", done=f"{name} is saved.")
    limits = table.get("limits")
    fields = forms.limit_fields(limits if isinstance(limits, Mapping) else {}, submitted, errors)
    shown_errors = {kind, "name", "total_timeout", *(field.setting for field in fields)}
    general += [f"{setting}: {text}" for setting, text in errors.items() if setting not in shown_errors]
    timeout = submitted.texts.get("total_timeout", "") if submitted else shown(table.get("total_timeout"))
    context = {
        "kind": kind,
        "title": COMPOSED[kind][0],
        "description": COMPOSED[kind][1],
        "name": name,
        "name_error": errors.get("name", ""),
        "members": members,
        "members_error": errors.get(kind, ""),
        "total_timeout": timeout,
        "total_timeout_error": errors.get("total_timeout", ""),
        "limits": fields,
        "state": state,
        "general": general,
        "read_only": services.read_only,
    }
    status = 422 if errors or general else 200
    return console.render(request, "composed.html", context, session=session, status=status)


async def check_service(console: Console, request: Request, session: Session) -> Response:
    """Test the settings in a form, without storing them."""
    texts = await texts_of(request)
    name = texts.get("name", "").strip()
    states = {state.name: state for state in console.gateway.services.states()}
    state = states.get(name) if texts.get("existing") else None
    provider = await _provider(texts.get("provider", ""))
    submitted = forms.read(provider, texts, is_new=state is None)
    labels = {info.name: info.label for info in provider.infos}
    errors = [f"{labels.get(setting, setting)}: {text}" for setting, text in submitted.errors.items()]
    report = None
    if not errors:
        model = texts.get("check_model", "").strip() or None
        report = await console.gateway.services.check(name or UNNAMED, submitted.table, submitted.secrets, model)
    models = sorted(report.models) if report is not None else []
    context = {"report": report, "errors": errors, "models": models}
    return console.render(request, "check_result.html", context, session=session)


async def check_stored_service(console: Console, request: Request, session: Session) -> Response:
    """Test a service as it is stored."""
    state = _state(console, request)
    report = await console.gateway.services.check(state.name, state.table, {}, None)
    context = {"report": report, "errors": [], "models": []}
    return console.render(request, "check_result.html", context, session=session)


async def delete_service(console: Console, request: Request, session: Session) -> Response:
    """Ask whether to delete a service, and delete it."""
    _refuse_read_only(console)
    state = _state(console, request)
    error = ""
    if request.method == "POST":
        try:
            await console.gateway.services.delete(state.name)
        except ConfigurationError as problem:
            error = _text(problem)
        else:
            return console.redirect(request, "/services", done=f"{state.name} is deleted.")
    aliases = [alias for alias, target in console.gateway.services.aliases.items() if _service_of(target) == state.name]
    context = {
        "title": f"Delete {state.name}?",
        "text": "Clients that use it will get an error. Calls in flight go on to their end.",
        "details": [f"The alias {alias} leads to it." for alias in aliases],
        "error": error,
        "action": f"/service/delete/{quote(state.name)}",
        # Without the provider there is no form.
        "back": "/services" if state.error else f"/service/edit/{quote(state.name)}",
        "verb": "Delete",
    }
    return console.render(request, "confirm.html", context, session=session, status=422 if error else 200)


async def set_alias(console: Console, request: Request, session: Session) -> Response:
    """Add an alias or change it."""
    _refuse_read_only(console)
    texts = await texts_of(request)
    alias = {"name": texts.get("name", "").strip(), "target": texts.get("target", "").strip()}
    if not alias["name"] or not alias["target"]:
        return await _list(console, request, session, alias=alias, error="An alias needs a name and a model.")
    try:
        await console.gateway.services.set_alias(alias["name"], alias["target"])
    except ConfigurationError as error:
        return await _list(console, request, session, alias=alias, error=_text(error))
    return console.redirect(request, "/services", done=f"The alias {alias['name']} is saved.")


async def delete_alias(console: Console, request: Request, session: Session) -> Response:
    """Delete an alias."""
    _refuse_read_only(console)
    name = (await texts_of(request)).get("name", "")
    try:
        await console.gateway.services.set_alias(name, None)
    except ConfigurationError as error:
        return await _list(console, request, session, error=_text(error))
    return console.redirect(request, "/services", done=f"The alias {name} is deleted.")


def _refuse_read_only(console: Console) -> None:
    if console.gateway.services.read_only:
        raise HTTPException(403, "The services come from a file, and can only be changed there.")


def _state(console: Console, request: Request) -> ServiceState:
    name = request.path_params["name"]
    for state in console.gateway.services.states():
        if state.name == name:
            return state
    raise HTTPException(404, "There is no service with this name. It may have been deleted.")


async def _provider(name: str) -> InstalledProvider:
    providers, broken = await anyio.to_thread.run_sync(installed_providers)
    if name in providers:
        return providers[name]
    for item in broken:
        if item.name == name:
            raise HTTPException(404, f"The provider {name} cannot be used: {item.problem}")
    raise HTTPException(404, f"The provider {name} is not installed.")


def _free_name(console: Console, name: str) -> str:
    taken = {state.name for state in console.gateway.services.states()} | console.gateway.services.aliases.keys()
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return name if name not in taken else next(other for other in numbered if other not in taken)


def _name_errors(console: Console, name: str) -> dict[str, str]:
    if not name:
        return {"name": "Required"}
    services = console.gateway.services
    if any(state.name == name for state in services.states()):
        return {"name": "There is already a service with this name"}
    problem = name_problem(name, services.aliases)
    return {} if problem is None else {"name": problem}


def _text(error: ConfigurationError) -> str:
    return "; ".join(map(str, error.errors)) if error.errors else str(error)


def _sorted_errors(error: ConfigurationError) -> tuple[dict[str, str], list[str]]:
    """Return the mistakes by the setting that each names, and those without one."""
    found: dict[str, str] = {}
    general: list[str] = []
    for mistake in error.errors or (error,):
        if mistake.setting is None:
            general.append(str(mistake))
        else:
            found.setdefault(mistake.setting, str(mistake))
    return found, general


def _service_of(target: str) -> str:
    return target.partition("/")[0]


def routes(console: Console) -> list[Route]:
    """Return the routes of these pages."""
    page = partial(console.page)
    both = ("GET", "POST")
    return [
        page("/services", list_services),
        page("/services/new", choose_provider),
        page("/services/new/{provider}", new_service, methods=both),
        page("/services/check", check_service, methods=("POST",)),
        page("/service/edit/{name:path}", edit_service, methods=both),
        page("/service/check/{name:path}", check_stored_service, methods=("POST",)),
        page("/service/delete/{name:path}", delete_service, methods=both),
        page("/aliases", set_alias, methods=("POST",)),
        page("/aliases/delete", delete_alias, methods=("POST",)),
    ]
