"""The frame of the console: what is common to all pages.

Each page is a function that gets the `Console`, the request and the session of the administrator. `Console.page` makes
a route of it that first looks for the session and checks where a form comes from.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trunkline_gateway.calls import Calls
from trunkline_gateway.console import filters, security
from trunkline_gateway.console.sign_in_attempts import SignInAttempts
from trunkline_gateway.database.connecting import DatabaseError
from trunkline_gateway.database.sessions import Session
from trunkline_gateway.database.values import InvalidValueError
from trunkline_gateway.problems import GatewayError

if TYPE_CHECKING:
    from trunkline_gateway.console.oidc import OpenIDConnect
    from trunkline_gateway.state import GatewayState

logger = logging.getLogger("trunkline_gateway")

SESSION_COOKIE = "trunkline_session"
LIFETIME = datetime.timedelta(hours=12)

MOST_BODY = 8 * 1024 * 1024
"""The largest body of a request to the console, in bytes."""

_MOST_FIELDS = 2000
_SURROGATE = re.compile("[\ud800-\udfff]")

_SAFE_IN_URLS = "/:?#[]@!$&'()*+,;=%"
"""The characters that a URL may have unquoted (RFC 3986, section 2.2). All others are quoted: a header is ASCII."""

STATIC = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

ADMIN = "admin"
"""The subject of a session that was opened with the admin key."""


class Console:
    """The console of a gateway."""

    def __init__(self, gateway: GatewayState) -> None:
        self.gateway = gateway
        self.calls = Calls(gateway)
        self.sign_in_attempts = SignInAttempts()
        self._templates = Environment(
            loader=PackageLoader("trunkline_gateway.console"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            enable_async=False,
        )
        self._templates.filters.update(filters.FILTERS)
        self._assets = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir()) if path.suffix in _TYPES}
        self._version = sha256(b"".join(self._assets.values())).hexdigest()[:12]

    @property
    def uses_oidc(self) -> bool:
        """Whether administrators sign in by OpenID Connect. The admin key then does not work."""
        return self.gateway.settings.oidc_issuer is not None

    @cached_property
    def oidc(self) -> OpenIDConnect:
        """The OpenID Connect provider."""
        from trunkline_gateway.console.oidc import OpenIDConnect

        return OpenIDConnect(self.gateway.settings)

    def base(self, request: Request) -> str:
        """Return the path of the console as browsers see it: `/console`."""
        return self._prefix(request.scope.get("root_path", ""))

    def api_base(self, request: Request) -> str:
        """Return the URL of the gateway as clients see it: `https://llm.example.com`."""
        path = str(request.scope.get("root_path", "")).rpartition("/")[0]  # without the console's own "/console"
        return security.own_origin(request, self.gateway.settings.public_url) + self._prefix(path)

    def _prefix(self, path: str) -> str:
        prefix = urlsplit(self.gateway.settings.public_url or "").path.rstrip("/")
        return path if path == prefix or path.startswith(f"{prefix}/") else prefix + path

    def is_secure(self, request: Request) -> bool:
        """Whether browsers reach the console over HTTPS."""
        return security.is_secure(request, self.gateway.settings.public_url)

    def cookie(self, request: Request, name: str) -> str | None:
        """Return a cookie of the console."""
        return request.cookies.get(security.cookie_name(name, secure=self.is_secure(request)))

    async def session(self, request: Request) -> Session | None:
        """Return the session of a request, if its administrator may still sign in."""
        cookie = self.cookie(request, SESSION_COOKIE)
        session = await self.gateway.sessions.find(cookie) if cookie else None
        if session is None:
            return None
        if self.uses_oidc:
            admins = {security.folded(address) for address in self.gateway.settings.oidc_admins}
            return session if security.folded(session.subject) in admins else None
        return session if session.subject == ADMIN else None

    async def open_session(self, request: Request, subject: str, response: Response) -> None:
        """Sign in: end the session that the browser has, and begin a new one."""
        old = self.cookie(request, SESSION_COOKIE)
        if old:
            await self.gateway.sessions.end(old)
        cookie, _ = await self.gateway.sessions.create(subject, LIFETIME)
        security.set_cookie(
            response,
            SESSION_COOKIE,
            cookie,
            secure=self.is_secure(request),
            max_age=int(LIFETIME.total_seconds()),
        )

    def render(
        self,
        request: Request,
        template: str,
        context: Mapping[str, object] | None = None,
        *,
        session: Session | None = None,
        status: int = 200,
    ) -> HTMLResponse:
        """Render a template."""
        base = self.base(request)
        text = self._templates.get_template(template).render(
            base=base,
            path=request.scope["path"].removeprefix(request.scope.get("root_path", "")),
            session=session,
            csrf=session.csrf if session is not None else "",
            asset=lambda name: f"{base}/static/{name}?v={self._version}",
            is_partial="hx-request" in request.headers,
            **(context or {}),
        )
        # A provider's JSON may have half of a surrogate pair, such as in the name of a model.
        return HTMLResponse(text.encode("utf-8", "replace"), status)

    def redirect(self, request: Request, path: str, **query: str) -> Response:
        """Go to another page of the console. `query` is shown there, such as `done="The key was revoked"`."""
        url = self.base(request) + path + (f"?{urlencode(query)}" if query else "")
        if "hx-request" in request.headers:
            return Response(headers={"hx-redirect": quote(url, safe=_SAFE_IN_URLS)})
        return RedirectResponse(url, 303)

    def page(self, path: str, function: Page, *, methods: tuple[str, ...] = ("GET",)) -> Route:
        """Make the route of a page for administrators."""

        async def endpoint(request: Request) -> Response:
            session = await self.session(request)
            if session is None:
                return self._ask_to_sign_in(request)
            if request.method not in ("GET", "HEAD"):
                await self.check_origin(request, session.csrf)
            return await function(self, request, session)

        return Route(path, endpoint, methods=list(methods), name=function.__name__)

    def open_page(self, path: str, function: OpenPage, *, methods: tuple[str, ...] = ("GET",)) -> Route:
        """Make the route of a page that needs no session."""

        async def endpoint(request: Request) -> Response:
            return await function(self, request)

        return Route(path, endpoint, methods=list(methods), name=function.__name__)

    def _ask_to_sign_in(self, request: Request) -> Response:
        if request.headers.get("accept") == "text/event-stream":
            raise HTTPException(401, "You are signed out. Reload the page to sign in.")
        if request.method != "GET" or "hx-request" in request.headers:
            return self.redirect(request, "/sign-in")
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        query = f"?{request.url.query}" if request.url.query else ""
        return self.redirect(request, "/sign-in", **({} if path in ("", "/") else {"next": quote(path) + query}))

    async def check_origin(self, request: Request, csrf: str) -> None:
        """Refuse a form that another site sent. Raises `HTTPException`."""
        if not security.comes_from_here(request, self.gateway.settings.public_url):
            raise HTTPException(
                403,
                "The request came from another site. If the gateway is behind a proxy, set its public URL "
                "(TRUNKLINE_GATEWAY_PUBLIC_URL).",
            )
        given = request.headers.get(security.CSRF_HEADER) or (await form_of(request)).get(security.CSRF_FIELD)
        if not security.same_token(given, csrf):
            raise HTTPException(403, "The form is no longer valid. Go back, reload the page and try again.")

    async def show_error(self, request: Request, error: HTTPException) -> Response:
        """Show an error as a page."""
        headers = dict(error.headers or {})
        if request.headers.get("accept") in ("text/event-stream", "application/json"):
            return PlainTextResponse(error.detail, error.status_code, headers)
        titles = {
            401: "Signed out",
            403: "Refused",
            404: "Not found",
            405: "Not possible",
            413: "Too large",
            500: "Failed",
            503: "Not available",
        }
        try:
            session = await self.session(request)
        except DatabaseError:
            session = None
        response = self.render(
            request,
            "error.html",
            {
                "title": titles.get(error.status_code, "Not possible"),
                "message": "There is no such page." if error.detail == "Not Found" else error.detail,
            },
            session=session,
            status=error.status_code,
        )
        response.headers.update(headers)
        return response

    async def asset(self, request: Request) -> Response:
        """Serve a file of the console."""
        name = request.path_params["name"]
        content = self._assets.get(name)
        if content is None:
            raise HTTPException(404)
        is_current = request.query_params.get("v") == self._version
        caching = "public, max-age=31536000, immutable" if is_current else "no-cache"
        media_type = _TYPES[Path(name).suffix]
        return Response(content, media_type=media_type, headers={"cache-control": caching})

    def app(self, router: Router) -> ConsoleApp:
        """Return the ASGI application of the console, with the headers that each response has."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await router(scope, receive, send)
                return
            # The errors of these pages are pages, not what the application around them makes of errors.
            scope = {**scope, "starlette.exception_handlers": ({}, {})}
            received = 0
            has_started = False

            async def receive_some() -> Message:
                nonlocal received
                message = await receive()
                received += len(message.get("body", b""))
                if received > MOST_BODY:
                    raise HTTPException(413, f"The form is larger than {MOST_BODY // 1024**2} MiB.")
                return message

            async def send_with_headers(message: Message) -> None:
                nonlocal has_started
                if message["type"] == "http.response.start":
                    has_started = True
                    present = {name.lower() for name, _ in message["headers"]}
                    added = {**security.HEADERS, "cache-control": "no-store"}
                    message["headers"] = [
                        *message["headers"],
                        *(
                            (name.encode(), text.encode())
                            for name, text in added.items()
                            if name.encode() not in present
                        ),
                    ]
                await send(message)

            try:
                await router(scope, receive_some, send_with_headers)
            except ClientDisconnect:
                return  # nobody reads an answer
            except Exception as error:  # whatever it is, the administrator sees a page
                shown = _shown_error(error)
                if shown.status_code >= 500 and not isinstance(error, HTTPException):
                    _log_failure(scope, error)
                if has_started:
                    raise
                response = await self.show_error(Request(scope), shown)
                await response(scope, receive, send_with_headers)

        return ConsoleApp(serve, router.routes)


def _shown_error(error: Exception) -> HTTPException:
    """Return what an administrator sees of an error that no page has handled."""
    match error:
        case HTTPException():
            return error
        case GatewayError():
            return HTTPException(error.problem.status, f"{error.problem.message}.")
        case InvalidValueError():
            return HTTPException(400, f"This cannot be stored: {error}.")
        case DatabaseError():
            return HTTPException(503, "The database does not answer. Try again; the log of the gateway says more.")
    return HTTPException(500, "The console failed at this request. The log of the gateway says more.")


def _log_failure(scope: Scope, error: Exception) -> None:
    text = "the console failed at %s %r"
    if isinstance(error, DatabaseError):
        logger.error(f"{text}: %s", scope["method"], scope["path"], error)
    else:
        logger.error(text, scope["method"], scope["path"], exc_info=error)


class ConsoleApp:
    """An ASGI application with `routes`, so that Starlette finds the URLs of its pages by their names."""

    def __init__(self, app: ASGIApp, routes: list[BaseRoute]) -> None:
        self._app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


Page: TypeAlias = Callable[[Console, Request, Session], Awaitable[Response]]
OpenPage: TypeAlias = Callable[[Console, Request], Awaitable[Response]]


async def form_of(request: Request) -> FormData:
    """Return the form of a request, which is read once. Raises `HTTPException`."""
    form = await request.form(max_files=0, max_fields=_MOST_FIELDS, max_part_size=MOST_BODY)
    # Some charsets of multipart forms can write a surrogate, which can neither be stored nor shown.
    if any(_SURROGATE.search(text) for item in form.multi_items() for text in item if isinstance(text, str)):
        raise HTTPException(400, "The form contains characters that are not valid.")
    return form


def key_id_of(request: Request) -> int | None:
    """Return the id of the key in a page's query, or `None`."""
    text = request.query_params.get("key", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else None


async def texts_of(request: Request) -> dict[str, str]:
    """Return the fields of a form that are text."""
    return {name: value for name, value in (await form_of(request)).items() if isinstance(value, str)}
