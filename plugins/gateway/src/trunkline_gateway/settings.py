"""The gateway's settings. `trunkline serve` reads them from its options and from `TRUNKLINE_GATEWAY_…` variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import attrs
from cyclopts import Parameter
from platformdirs import user_data_path
from trunkline import Secret


# Cyclopts reads the type of the converter's parameter. The value of the option is the text of the secret.
def secret_of(value: Annotated[str | Secret | None, Parameter(accepts_keys=False)]) -> Secret | None:
    """Wrap the text of a secret."""
    return Secret(value) if isinstance(value, str) else value


@attrs.frozen(kw_only=True)
class GatewaySettings:
    """The settings of a gateway. All have defaults that suit one instance on loopback."""

    host: str = "127.0.0.1"
    """The address to listen on. Anything but loopback offers the gateway to other machines."""
    port: int = 8080
    """The port to listen on; 0 takes any that is free."""
    data_dir: Path = attrs.field(factory=lambda: user_data_path("trunkline-gateway"))
    """The folder of the SQLite database and of the encryption key, which is made at the first start."""
    database: Secret | None = attrs.field(default=None, converter=secret_of)
    """The URL of a database: `postgresql://user:password@host/name`. Default: SQLite in `data_dir`."""
    services: Path | None = None
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
    oidc_issuer: str | None = None
    """The URL of an OpenID Connect provider, by which administrators then sign in instead of with the admin key."""
    oidc_client_id: str | None = None
    """The client id of the gateway at the OpenID Connect provider."""
    oidc_client_secret: Secret | None = attrs.field(default=None, converter=secret_of)
    """The client secret of the gateway at the OpenID Connect provider."""
    oidc_admins: tuple[str, ...] = ()
    """The verified e-mail addresses of the administrators. Nobody else may sign in."""
    public_url: str | None = None
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
    allowed_networks: tuple[str, ...] = ()
    """The networks outside the public Internet and loopback that a service's URL may lead to, such as `10.0.0.0/8`, or
    `private` for all private networks. Addresses of cloud metadata services are always refused."""
    metrics_token: Secret | None = attrs.field(default=None, converter=secret_of)
    """The bearer token for `/metrics`. Without it, metrics are served to loopback addresses only."""

    @property
    def database_url(self) -> str:
        """The URL of the database: that of the setting, or of the SQLite file in `data_dir`. It may have a password."""
        return f"sqlite:///{self.data_dir / 'gateway.sqlite3'}" if self.database is None else self.database.reveal()

    def make_data_dir(self) -> None:
        """Make the folder of the data, for its owner alone, if it does not exist. Raises `OSError`."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
