"""Signing in and out."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from trunkline_gateway.console import security
from trunkline_gateway.console.admin_key import is_admin_key
from trunkline_gateway.console.app import ADMIN, SESSION_COOKIE, Console, texts_of
from trunkline_gateway.database.sessions import Session

logger = logging.getLogger("trunkline_gateway")

_FORM_COOKIE = "trunkline_sign_in"
"""The token of the form to sign in, for browsers that have no session yet."""

_FORM_LIFETIME = 3600


def _next(path: str) -> str:
    """Return a path in the console to go to afterwards. Anything else leads to the first page."""
    parts = urlsplit(path)
    is_path = path.startswith("/") and not path.startswith(("//", "/\\", "/sign-in", "/oidc"))
    return path if is_path and not parts.scheme and not parts.netloc and "\\" not in path else "/"


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


async def show_sign_in(console: Console, request: Request) -> Response:
    """Show the form to sign in."""
    if await console.session(request) is not None:
        return console.redirect(request, "/")
    return _form(console, request, next_path=request.query_params.get("next", ""))


def _form(
    console: Console, request: Request, *, next_path: str, error: str = "", status: int = 200, retry: bool = False
) -> Response:
    token = console.cookie(request, _FORM_COOKIE) or security.new_token()
    response = console.render(
        request,
        "sign_in.html",
        {"token": token, "next": _next(next_path), "error": error, "uses_oidc": console.uses_oidc},
        status=status,
    )
    if retry:
        response.headers["retry-after"] = "60"
    security.set_cookie(response, _FORM_COOKIE, token, secure=console.is_secure(request), max_age=_FORM_LIFETIME)
    return response


def _too_many(console: Console, request: Request, next_path: str = "") -> Response:
    error = "Too many attempts. Wait a minute, then try again."
    return _form(console, request, next_path=next_path, error=error, status=429, retry=True)


async def sign_in(console: Console, request: Request) -> Response:
    """Check the admin key."""
    form = await texts_of(request)
    next_path = form.get("next", "")
    if console.uses_oidc:
        raise HTTPException(403, "The admin key does not work, because OpenID Connect is configured.")
    token = console.cookie(request, _FORM_COOKIE)
    from_here = security.comes_from_here(request, console.gateway.settings.public_url)
    if not from_here or not security.same_token(form.get(security.CSRF_FIELD), token or ""):
        error = "The form was no longer valid. Try again."
        return _form(console, request, next_path=next_path, error=error, status=403)
    if not console.sign_in_attempts.begin(_address(request)):
        return _too_many(console, request, next_path)
    if not await is_admin_key(console.gateway.sessions, form.get("key", "")):
        return _form(console, request, next_path=next_path, error="This is not the admin key.", status=401)
    console.sign_in_attempts.succeeded(_address(request))
    response = console.redirect(request, _next(next_path))
    await console.open_session(request, ADMIN, response)
    security.delete_cookie(response, _FORM_COOKIE, secure=console.is_secure(request))
    return response


async def sign_out(console: Console, request: Request, session: Session) -> Response:
    """End the session."""
    cookie = console.cookie(request, SESSION_COOKIE)
    if cookie:
        await console.gateway.sessions.end(cookie)
    response = console.redirect(request, "/sign-in")
    security.delete_cookie(response, SESSION_COOKIE, secure=console.is_secure(request))
    return response


def _refused_oidc(console: Console, request: Request) -> Response | None:
    """Count an attempt. Return the answer if there were too many; raises `HTTPException` without OpenID Connect."""
    if not console.uses_oidc:
        raise HTTPException(404)
    return None if console.sign_in_attempts.begin(_address(request)) else _too_many(console, request)


async def start_oidc(console: Console, request: Request) -> Response:
    """Go to the OpenID Connect provider."""
    from trunkline_gateway.console.oidc import STATE_COOKIE, STATE_LIFETIME, OIDCError

    refusal = _refused_oidc(console, request)
    if refusal is not None:
        return refusal
    try:
        url, state = await console.oidc.begin(_callback(console, request), _next(request.query_params.get("next", "")))
    except OIDCError as error:
        _log_failure(error)
        return _form(console, request, next_path="", error=str(error), status=502)
    console.sign_in_attempts.succeeded(_address(request))
    response = RedirectResponse(url, 303)
    security.set_cookie(response, STATE_COOKIE, state, secure=console.is_secure(request), max_age=STATE_LIFETIME)
    return response


async def finish_oidc(console: Console, request: Request) -> Response:
    """Take the answer of the OpenID Connect provider."""
    from trunkline_gateway.console.oidc import STATE_COOKIE, OIDCError

    refusal = _refused_oidc(console, request)
    if refusal is not None:
        return refusal
    try:
        email, next_path = await console.oidc.finish(
            dict(request.query_params), console.cookie(request, STATE_COOKIE) or "", _callback(console, request)
        )
    except OIDCError as error:
        _log_failure(error)
        response = _form(console, request, next_path="", error=str(error), status=403)
    else:
        console.sign_in_attempts.succeeded(_address(request))
        response = console.redirect(request, _next(next_path))
        await console.open_session(request, email, response)
    security.delete_cookie(response, STATE_COOKIE, secure=console.is_secure(request))
    return response


def _log_failure(error: Exception) -> None:
    cause = error.__cause__
    logger.warning("signing in by OpenID Connect failed: %s%s", error, "" if cause is None else f" ({cause!r})")


def _callback(console: Console, request: Request) -> str:
    origin = security.own_origin(request, console.gateway.settings.public_url)
    return f"{origin}{console.base(request)}/oidc/callback"


def routes(console: Console) -> list[Route]:
    """Return the routes of these pages."""
    return [
        console.open_page("/sign-in", show_sign_in),
        console.open_page("/sign-in", sign_in, methods=("POST",)),
        console.open_page("/oidc/start", start_oidc),
        console.open_page("/oidc/callback", finish_oidc),
        console.page("/sign-out", sign_out, methods=("POST",)),
    ]
