"""The gateway's settings. `trunkline serve` reads them from its options and from `TRUNKLINE_GATEWAY_…` variables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import attrs
from cyclopts import Parameter
from platformdirs import user_data_path
from trunkline import ConfigurationError, Secret


# Cyclopts reads the type of the converter's parameter. The value of the option is the text of the secret.
def secret_of(value: Annotated[str | Secret | None, Parameter(accepts_keys=False)]) -> Secret | None:
    """Wrap the text of a secret. A blank one, such as that of an empty variable, is none."""
    text = value.reveal() if isinstance(value, Secret) else value or ""
    return Secret(text.strip()) if text.strip() else None


def _text_of(value: str | None) -> str | None:
    """Return a text without the space around it; a blank one is none."""
    return (value or "").strip() or None


def _path_of(value: str | Path | None) -> Path | None:
    """Return a path; a blank text, such as that of a variable of a shell that is not set, is none."""
    text = "" if value is None else str(value)
    return Path(text) if text.strip() else None


def data_dir_of(value: str | Path | None = None) -> Path:
    """Return the folder of the data: by default that of the user. A blank text is none, not the current folder."""
    return _path_of(value) or user_data_path("trunkline-gateway")


def _host_of(value: str) -> str:
    """Return an address without the space around it."""
    return value.strip()


# An option is given several times, or once with commas, as in a variable.
def list_of(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts of a list, without blank ones."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


_LAST_PORT = 65535
_MOST_DAYS = 36_500


def _is_address(text: str) -> bool:
    """Whether a text is a URL of a web server, without a login, a query or a fragment."""
    try:
        parts = urlsplit(text)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    is_plain = text.isprintable() and not re.search(r"[\s\\?#@]", text)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and has_port and is_plain


def is_secure_url(text: str) -> bool:
    """Whether a text is a URL in ASCII that is HTTPS, or HTTP on this machine."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    if not text.isascii():
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))


@attrs.frozen(kw_only=True)
class GatewaySettings:
    """The settings of a gateway. All have defaults that suit one instance on loopback."""

    host: str = attrs.field(default="127.0.0.1", converter=_host_of)
    """The address to listen on. Anything but loopback offers the gateway to other machines."""
    port: int = 8080
    """The port to listen on; 0 takes any that is free."""
    data_dir: Path = attrs.field(factory=data_dir_of, converter=data_dir_of)
    """The folder of the SQLite database and of the encryption key, which is made at the first start."""
    database: Secret | None = attrs.field(default=None, converter=secret_of)
    """The URL of a database: `postgresql://user:password@host/name`. Default: SQLite in `data_dir`."""
    services: Path | None = attrs.field(default=None, converter=_path_of)
    """A configuration file of services, `trunkline.toml`. The console then shows them and cannot change them."""
    redis: Secret | None = attrs.field(default=None, converter=secret_of)
    """The URL of a Redis or Valkey server, by which several instances share the limits of keys."""
    redis_failure: Literal["closed", "open"] = "closed"
    """What happens to calls with limits without Redis: they are refused, or each instance counts alone."""
    encryption_key: Secret | None = attrs.field(default=None, converter=secret_of)
    """The key that encrypts the services' secrets in the database. Default: the file `encryption.key` in `data_dir`.
    Several keys separated by commas: the first encrypts, all decrypt."""
    admin_key: Secret | None = attrs.field(default=None, converter=secret_of)
    """The key to sign in to the console with. Default: one that is made and printed once, at the first start."""
    oidc_issuer: str | None = attrs.field(default=None, converter=_text_of)
    """The URL of an OpenID Connect provider, by which administrators then sign in instead of with the admin key."""
    oidc_client_id: str | None = attrs.field(default=None, converter=_text_of)
    """The client id of the gateway at the OpenID Connect provider."""
    oidc_client_secret: Secret | None = attrs.field(default=None, converter=secret_of)
    """The client secret of the gateway at the OpenID Connect provider."""
    oidc_admins: tuple[str, ...] = attrs.field(default=(), converter=list_of)
    """The verified e-mail addresses of the administrators. Nobody else may sign in."""
    public_url: str | None = attrs.field(default=None, converter=_text_of)
    """The address at which browsers reach the gateway, if it is behind a proxy: `https://llm.example.com`."""
    log_contents: bool = False
    """Whether the log of calls holds the messages and answers."""
    log_days: int = 30
    """How many days the log of calls is kept."""
    max_body: int = 32 * 1024 * 1024
    """The largest body of a request, in bytes."""
    max_headers: int = 64 * 1024
    """The largest head of a request, in bytes."""
    max_connections: int = 20_000
    """The number of connections that may be open at once. Further ones are closed at once."""
    idle_timeout: float = 30.0
    """The seconds after which a connection is closed that sends nothing, whose request does not arrive, or whose client
    does not read."""
    heartbeat: float = 15.0
    """The seconds of silence after which a stream gets a comment, so that proxies keep its connection open."""
    drain_timeout: float = 30.0
    """The seconds that calls in flight get after SIGTERM. Then they are ended, and their usage is settled."""
    reserved_output_tokens: int = 4096
    """The output tokens that are reserved for a request that does not set a maximum itself."""
    allowed_networks: tuple[str, ...] = attrs.field(default=(), converter=list_of)
    """The networks outside the public Internet and loopback that a service's URL may lead to, such as `10.0.0.0/8`, or
    `private` for all private networks. Addresses of cloud metadata services are always refused."""
    metrics_token: Secret | None = attrs.field(default=None, converter=secret_of)
    """The bearer token for `/metrics`. Without it, metrics are served to loopback addresses only."""

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigurationError` for settings with which the gateway cannot run."""
        errors = [
            ConfigurationError(f"the gateway's setting {name} {problem}", setting=name)
            for name, problem in self._problems()
        ]
        if errors:
            raise ConfigurationError("; ".join(map(str, errors)), setting=errors[0].setting, errors=errors)

    def _problems(self) -> Iterator[tuple[str, str]]:
        """Yield the settings that are wrong, each with what is accepted."""
        if not self.host:
            yield "host", "is blank; give an address to listen on, such as 127.0.0.1, or 0.0.0.0 for all"
        if not 0 <= self.port <= _LAST_PORT:
            yield "port", f"is {self.port}; it must be from 0 to {_LAST_PORT}, where 0 takes any port that is free"
        for name in ("max_body", "max_headers", "max_connections", "idle_timeout", "heartbeat"):
            if not 0 < getattr(self, name) < math.inf:
                yield name, f"is {getattr(self, name)}; it must be a number above 0"
        for name in ("drain_timeout", "log_days", "reserved_output_tokens"):
            if not 0 <= getattr(self, name) < math.inf:
                yield name, f"is {getattr(self, name)}; it must be 0 or a number above it"
        if self.log_days > _MOST_DAYS:
            yield "log_days", f"is {self.log_days}; it must be at most {_MOST_DAYS}"
        if self.public_url is not None and not _is_address(self.public_url):
            yield "public_url", "must be the address of the gateway in browsers, such as https://llm.example.com"
        if self.oidc_issuer is not None:
            if not _is_address(self.oidc_issuer) or not is_secure_url(self.oidc_issuer):
                yield "oidc_issuer", "must be the HTTPS URL of the provider, such as https://login.example.com"
            if self.oidc_client_id is None:
                yield "oidc_client_id", "is required with oidc_issuer"
            if not self.oidc_admins:
                yield "oidc_admins", "is required with oidc_issuer; nobody could sign in"
        elif self.oidc_client_id is not None or self.oidc_client_secret is not None or self.oidc_admins:
            yield "oidc_issuer", "is required with the other settings of OpenID Connect"

    @property
    def database_url(self) -> str:
        """The URL of the database: that of the setting, or of the SQLite file in `data_dir`. It may have a password."""
        return f"sqlite:///{self.data_dir / 'gateway.sqlite3'}" if self.database is None else self.database.reveal()

    def make_data_dir(self) -> None:
        """Make the folder of the data, for its owner alone, if it does not exist. Raises `OSError`."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
