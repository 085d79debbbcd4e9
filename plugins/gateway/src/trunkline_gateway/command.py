"""The commands `trunkline serve` and `trunkline gateway`."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import anyio
import attrs
import cyclopts
from cyclopts import App, Parameter
from cyclopts.validators import Number
from trunkline import ConfigurationError, Secret

from trunkline_gateway.budgets import NANO
from trunkline_gateway.keys import Period
from trunkline_gateway.settings import GatewaySettings, data_dir_of, list_of, secret_of

VARIABLES = "TRUNKLINE_GATEWAY_"
"""How the environment variables of the settings begin."""


class _Variables(cyclopts.config.Env):
    """Reads settings from variables.

    A blank variable, as container files often have, sets nothing. Neither does what Kubernetes sets for a Service named
    `trunkline-gateway`, such as `TRUNKLINE_GATEWAY_PORT=tcp://10.0.0.1:8080`.
    """

    def __call__(self, app: App, commands: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
        """Add the variables to the arguments that are settings, not to those that other commands have themselves."""
        settings = arguments.copy()
        settings[:] = (argument for argument in arguments if argument.keys or argument.name == "--log-format")
        super().__call__(app, commands, settings)
        for argument in settings:
            argument.tokens[:] = [token for token in argument.tokens if token.source != self.source or _sets(token)]


def _sets(variable: cyclopts.Token) -> bool:
    return bool(variable.value.strip()) and not variable.keys and not variable.value.startswith("tcp://")


_variables = _Variables(VARIABLES, command=False, show=False)

serve_app = App(name="serve", config=_variables)
app = App(
    name="gateway",
    help="Administer the gateway: its database, its keys, and the key of its console.\n\n"
    "The options that say where its data is are also read from variables: --data-dir from TRUNKLINE_GATEWAY_DATA_DIR.",
    config=_variables,
)


@attrs.frozen(kw_only=True)
class DataSettings:
    """The settings that say where the data of a gateway is, for commands that do not serve."""

    data_dir: Path = attrs.field(factory=data_dir_of, converter=data_dir_of)
    """The folder of the SQLite database and of the encryption key."""
    database: Secret | None = attrs.field(default=None, converter=secret_of)
    """The URL of a database: `postgresql://user:password@host/name`. Default: SQLite in `data_dir`."""
    encryption_key: Secret | None = attrs.field(default=None, converter=secret_of)
    """The key that encrypts the services' secrets in the database. Default: the file `encryption.key` in `data_dir`.
    Several keys separated by commas: the first encrypts, all decrypt."""

    def checked(self) -> GatewaySettings:
        """Return them as the settings of a gateway whose folder of data exists. Raises `ConfigurationError`."""
        settings = GatewaySettings(data_dir=self.data_dir, database=self.database, encryption_key=self.encryption_key)
        _make_data_dir(settings)
        return settings


def _make_data_dir(settings: GatewaySettings) -> None:
    """Make the folder of the data. Raises `ConfigurationError`."""
    try:
        settings.make_data_dir()
    except OSError as error:
        raise ConfigurationError(
            f"the gateway's setting data_dir: the folder {settings.data_dir} cannot be made: {error.strerror}. Choose "
            "another one: --data-dir",
            setting="data_dir",
        ) from None


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
    # A reload while the gateway starts has nothing to read again; by default the signal ends the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    checked = settings or GatewaySettings()
    _make_data_dir(checked)
    return anyio.run(_serve, checked, backend_options={"use_uvloop": _has_uvloop()})


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def _configuration_errors() -> Iterator[None]:
    """Raise errors of the database and of encryption as `ConfigurationError`, which the command line reports."""
    from trunkline_gateway.database.connecting import DatabaseError
    from trunkline_gateway.encryption import EncryptionError

    try:
        yield
    except (DatabaseError, EncryptionError) as error:
        raise ConfigurationError(str(error)) from None


async def _serve(settings: GatewaySettings) -> int:
    from trunkline_gateway.embedded_model import missing_model
    from trunkline_gateway.gateway import Gateway
    from trunkline_gateway.server import listen, serve as run

    gateway = Gateway(settings)
    missing: str | None = None

    def announce(address: str) -> None:
        lines = [
            f"API      {address}/v1  (base URL of OpenAI clients; Anthropic clients: {address})",
            f"Console  {address}/console",
        ]
        if gateway.new_admin_key is not None:
            lines.append(f"Key      {gateway.new_admin_key}  (to sign in to the console; it is not shown again)")
            gateway.new_admin_key = None
        if missing is not None:
            lines.append(f"Model    {missing}")
        print("\n".join(lines), flush=True)  # noqa: T201  # to the log of a container at once

    with _configuration_errors():
        # Listening comes first: if it failed after the database is made, the key of the first start would be lost.
        async with listen(settings) as sockets, gateway:
            missing = await missing_model(gateway.services)
            await run(gateway, sockets, announce)
            # What calls used is written now. Further signals must not cut that off.
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
    return 0


@app.command
def migrate(
    revision: str = "head",
    *,
    settings: Annotated[DataSettings | None, Parameter(name="*")] = None,
) -> int:
    """Migrate the database to a revision, forward or back: `head`, `base` or the number of a migration.

    `trunkline serve` migrates forward by itself. Stop all instances before migrating back.

    Parameters
    ----------
    revision
        The revision to migrate to.
    """
    from trunkline_gateway.database.migrate import migrate

    checked = (settings or DataSettings()).checked()
    with _configuration_errors():
        migrate(checked.database_url, revision)
    print(f"the database is at {revision}")  # noqa: T201
    return 0


@app.command(name="reset-admin-key")
def reset_admin_key(*, settings: Annotated[DataSettings | None, Parameter(name="*")] = None) -> int:
    """Make a new key to sign in to the console with, print it, and end all sessions."""
    if os.environ.get(f"{VARIABLES}ADMIN_KEY", "").strip():
        raise ConfigurationError(
            f"the key is that of the variable {VARIABLES}ADMIN_KEY, which the gateway takes at each start; change or "
            "unset the variable instead"
        )
    from trunkline_gateway.console.admin_key import replace_admin_key
    from trunkline_gateway.database.engine import Database
    from trunkline_gateway.database.sessions import SessionStore

    checked = (settings or DataSettings()).checked()

    async def run() -> str:
        async with await Database.open(checked.database_url) as database:
            return await replace_admin_key(SessionStore(database))

    with _configuration_errors():
        print(anyio.run(run))  # noqa: T201
    return 0


_MOST_DOLLARS = 10**9


def _check_dollars(type_: object, dollars: Decimal | None) -> None:
    """Refuse an amount that cannot be a budget, such as NaN."""
    if dollars is None or dollars == 0:
        return
    if not dollars.is_finite() or not Decimal(1) / NANO <= dollars <= _MOST_DOLLARS:
        raise ValueError(f"Must be an amount in US dollars, from 0 to {_MOST_DOLLARS}.")


@app.command(name="create-key")
def create_key(
    name: str,
    *,
    models: tuple[str, ...] = (),
    expires_after_days: Annotated[int | None, Parameter(validator=Number(gte=1, lte=36_500))] = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    budget_tokens: int | None = None,
    budget_usd: Annotated[Decimal | None, Parameter(validator=_check_dollars)] = None,
    budget_period: Period = "month",
    settings: Annotated[DataSettings | None, Parameter(name="*")] = None,
) -> int:
    """Make a key for clients, and print it. It is not shown again. A gateway that runs accepts it within a second.

    Parameters
    ----------
    name
        What the key is for, as the console shows it.
    models
        The models that the key may use: patterns of `service/model`, or aliases. Give the option several times, or
        once with commas. Default: all.
    expires_after_days
        The days after which the key stops working.
    requests_per_minute
        The most requests within any 60 seconds.
    tokens_per_minute
        The most tokens within any 60 seconds.
    budget_tokens
        The most tokens in a period.
    budget_usd
        The most US dollars in a period.
    budget_period
        The period of the budget, in UTC.
    """
    from trunkline_gateway.database.engine import Database
    from trunkline_gateway.database.keys import KeyStore
    from trunkline_gateway.keys import Budget, KeyDraft

    cost = None if budget_usd is None else int(budget_usd * NANO)
    has_budget = budget_tokens is not None or cost is not None
    scopes = list_of(models)
    if models and not scopes:  # such as an empty variable, which must not allow all
        raise ConfigurationError("--models is blank: name models, or leave the option out to allow all")
    days = None if expires_after_days is None else datetime.timedelta(days=expires_after_days)
    draft = KeyDraft(
        name=name,
        scopes=scopes,
        expires_at=None if days is None else datetime.datetime.now(datetime.UTC) + days,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        budget=Budget(period=budget_period, tokens=budget_tokens, cost=cost) if has_budget else None,
    )
    checked = (settings or DataSettings()).checked()

    async def run() -> str:
        async with await Database.open(checked.database_url) as database:
            return (await KeyStore(database).create(draft))[1]

    with _configuration_errors():
        print(anyio.run(run))  # noqa: T201
    return 0


@app.command
def reencrypt(*, settings: Annotated[DataSettings | None, Parameter(name="*")] = None) -> int:
    """Encrypt the services' secrets again, with the first of the keys in `encryption_key`. The others can then go."""
    from trunkline_gateway.database.engine import Database
    from trunkline_gateway.database.services import ServiceStore
    from trunkline_gateway.encryption import encryption_of

    checked = (settings or DataSettings()).checked()

    async def run() -> None:
        async with await Database.open(checked.database_url) as database:
            await ServiceStore(database, encryption_of(checked)).reencrypt()

    with _configuration_errors():
        anyio.run(run)
    print("the secrets are encrypted with the first key")  # noqa: T201
    return 0
