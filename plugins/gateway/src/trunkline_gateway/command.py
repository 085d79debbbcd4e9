"""The commands `trunkline serve` and `trunkline gateway`."""

from __future__ import annotations

from typing import Annotated, Literal

import anyio
import cyclopts
from cyclopts import App, Parameter
from trunkline import ConfigurationError

from trunkline_gateway.settings import GatewaySettings

VARIABLES = "TRUNKLINE_GATEWAY_"
"""How the environment variables of the settings begin."""

_variables = cyclopts.config.Env(VARIABLES, command=False)

serve_app = App(name="serve", config=_variables)
app = App(name="gateway", help="Administer the gateway's database.", config=_variables)


@serve_app.default
def serve(
    *,
    settings: Annotated[GatewaySettings | None, Parameter(name="*")] = None,
    log_format: Literal["text", "json"] = "text",
) -> int:
    """Serve the configured services to OpenAI and Anthropic clients, with a console in the browser.

    Without any option it listens on loopback, keeps its data in the user's data folder, and prints the key to sign in
    with at the first start. Each option is also read from a variable: --max-body from TRUNKLINE_GATEWAY_MAX_BODY.
    Secrets are best given as variables, since other users of the machine can read the arguments of a process.

    Parameters
    ----------
    log_format
        How the log on standard error is written: for people, or one JSON object a line.
    """
    from trunkline_gateway.logs import configure

    configure(log_format)
    checked = settings or GatewaySettings()
    return anyio.run(_serve, checked, backend_options={"use_uvloop": _has_uvloop()})


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True


async def _serve(settings: GatewaySettings) -> int:
    from trunkline_gateway.database.engine import DatabaseError
    from trunkline_gateway.encryption import EncryptionError
    from trunkline_gateway.gateway import Gateway
    from trunkline_gateway.server import serve as run

    gateway = Gateway(settings)

    def announce(address: str) -> None:
        print(f"API      {address}/v1  (base URL of OpenAI clients; Anthropic clients: {address})")  # noqa: T201
        print(f"Console  {address}/console")  # noqa: T201
        if gateway.new_admin_key is not None:
            print(f"Key      {gateway.new_admin_key}  (to sign in to the console; it is not shown again)")  # noqa: T201
            gateway.new_admin_key = None

    try:
        async with gateway:
            await run(gateway, announce)
    except (DatabaseError, EncryptionError) as error:
        raise ConfigurationError(str(error)) from None
    return 0


@app.command
def migrate(
    revision: str = "head",
    *,
    settings: Annotated[GatewaySettings | None, Parameter(name="*")] = None,
) -> int:
    """Migrate the database to a revision, forward or back: `head`, `base` or the number of a migration.

    `trunkline serve` migrates forward by itself. Stop all instances before migrating back.

    Parameters
    ----------
    revision
        The revision to migrate to.
    """
    from trunkline_gateway.database.engine import DatabaseError, migrate

    checked = settings or GatewaySettings()
    try:
        migrate(checked.database_url, revision)
    except DatabaseError as error:
        raise ConfigurationError(str(error)) from None
    print(f"the database is at {revision}")  # noqa: T201
    return 0


@app.command(name="reset-admin-key")
def reset_admin_key(*, settings: Annotated[GatewaySettings | None, Parameter(name="*")] = None) -> int:
    """Make a new key to sign in to the console with, print it, and end all sessions."""
    from trunkline_gateway.console.admin_key import reset
    from trunkline_gateway.database.engine import Database, DatabaseError
    from trunkline_gateway.database.sessions import SessionStore

    checked = settings or GatewaySettings()

    async def run() -> str:
        async with await Database.open(checked.database_url) as database:
            return await reset(SessionStore(database))

    try:
        print(anyio.run(run))  # noqa: T201
    except DatabaseError as error:
        raise ConfigurationError(str(error)) from None
    return 0
