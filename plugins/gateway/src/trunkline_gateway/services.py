"""The open services: from the database or from a file, replaced without a restart."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import attrs
from trunkline import Service
from trunkline.authoring.json import JSONObject
from trunkline.cli.check import Report

from trunkline_gateway.database.services import ServiceStore
from trunkline_gateway.targets import Target


@attrs.frozen(kw_only=True)
class ServiceState:
    """A service as the console shows it."""

    name: str
    provider: str | None
    """The name of the provider, or `None` for a composed service."""
    display_name: str
    """What people call the provider, or `fallback of a, b`."""
    table: JSONObject
    """Its settings without secrets."""
    secrets: tuple[tuple[str, str], ...] = ()
    """The secret settings that are set, with their last four characters, or none of a secret that is short."""
    default_model: str | None = None
    error: str | None = None
    """Why the service cannot be used."""
    calls: int = 0
    """The number of calls that run."""


class Services:
    """The services that calls are made with.

    A service whose settings have not changed stays open. One that has changed is closed when its last call has ended;
    new calls take the new one. A service that is wrong has an `error`, and the others work.
    """

    def __init__(self, source: ServiceStore | Path, *, allowed_networks: Sequence[str] = ()) -> None: ...

    @property
    def read_only(self) -> bool:
        """Whether the services come from a file."""
        raise NotImplementedError

    async def reload(self) -> None:
        """Read the services again. Never raises for a wrong service; a file that cannot be read leaves all as it was,
        and raises `ConfigurationError`."""
        raise NotImplementedError

    def states(self) -> list[ServiceState]:
        """Return all services by name."""
        raise NotImplementedError

    @property
    def aliases(self) -> dict[str, str]:
        """The aliases, each with its `service/model`."""
        raise NotImplementedError

    def resolve(self, name: str) -> Target:
        """Return what a model name stands for: an alias, `service/model` (the first slash splits), or a service.

        Raises `GatewayError` (404, code `model_not_found`) that does not tell which services there are.
        """
        raise NotImplementedError

    def use(self, name: str) -> AbstractAsyncContextManager[Service]:
        """Hold a service open for one call: `async with services.use(target.service) as service: …`."""
        raise NotImplementedError

    async def save(self, name: str, table: JSONObject, secrets: dict[str, str | None]) -> None:
        """Validate a service and store it. A secret that is `None` or not given stays as it is; "" removes it.

        Raises `ConfigurationError`, whose `errors` each name the setting.
        """
        raise NotImplementedError

    async def delete(self, name: str) -> None:
        """Delete a service. Raises `ConfigurationError` if another one is composed of it."""
        raise NotImplementedError

    async def set_alias(self, name: str, target: str | None) -> None:
        """Set an alias, or delete it. Raises `ConfigurationError` for a name or target that is wrong."""
        raise NotImplementedError

    async def check(self, name: str, table: JSONObject, secrets: dict[str, str | None], model: str | None) -> Report:
        """Test settings as `trunkline check` does, without storing them. Secrets are as in `save`."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close all services. Their calls end with `ServiceClosed`."""
        raise NotImplementedError
