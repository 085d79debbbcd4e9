"""The page about the gateway: its address for clients, its settings, and its version."""

from __future__ import annotations

import platform
from urllib.parse import urlsplit

import anyio.to_thread
import trunkline
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trunkline_gateway.console.app import Console
from trunkline_gateway.console.providers import installed_providers
from trunkline_gateway.database.sessions import Session

_DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "postgres": "PostgreSQL"}


async def show_about(console: Console, request: Request, session: Session) -> Response:
    """Show how clients reach the gateway, and how it is set up."""
    import trunkline_gateway

    settings = console.gateway.settings
    providers, broken = await anyio.to_thread.run_sync(installed_providers)
    if settings.database is None:
        database = f"SQLite in {settings.data_dir}"
    else:
        parts = urlsplit(settings.database.reveal())
        scheme = parts.scheme.split("+")[0]
        database = _DATABASES.get(scheme, scheme) + (f" at {parts.hostname}" if parts.hostname else "")
    redis = "not used; limits hold in this instance" if settings.redis is None else "used for limits"
    if settings.redis is not None:
        redis += "; while it cannot be reached, calls with limits are " + (
            "refused" if settings.redis_failure == "closed" else "limited by each instance alone"
        )
    sign_in = f"OpenID Connect ({settings.oidc_issuer})" if console.uses_oidc else "admin key"
    services = "the console" if settings.services is None else str(settings.services)
    rows = [
        ("Trunkline", trunkline.__version__),
        ("Gateway", trunkline_gateway.__version__),
        ("Python", platform.python_version()),
        ("Database", database),
        ("Redis", redis),
        ("Services from", services),
        ("Sign-in", sign_in),
        ("Log of calls", f"{settings.log_days} days, {'with' if settings.log_contents else 'without'} contents"),
        ("Largest body", f"{settings.max_body / 1024**2:g} MiB"),
        ("Connections", f"at most {settings.max_connections:,}"),
        ("Idle timeout", f"{settings.idle_timeout:g} s"),
        ("Time to drain", f"{settings.drain_timeout:g} s after SIGTERM"),
        ("Networks of services", ", ".join(["the Internet", "loopback", *settings.allowed_networks])),
    ]
    context = {
        "rows": rows,
        "api_base": console.api_base(request),
        "providers": providers.values(),
        "broken": broken,
    }
    return console.render(request, "about.html", context, session=session)


def routes(console: Console) -> list[Route]:
    """Return the routes of this page."""
    return [console.page("/about", show_about)]
