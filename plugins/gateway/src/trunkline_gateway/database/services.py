"""The stored services and aliases."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from trunkline.authoring.json import JSONObject

from trunkline_gateway.database.engine import Database
from trunkline_gateway.encryption import Encryption


@attrs.frozen(kw_only=True)
class StoredService:
    """A service as it is stored.

    `table` is its table in a configuration file (`provider`, settings, `limits`, or `fallback` and `balance`) without
    secret settings; `secrets` holds those, by the name of the setting, in clear.
    """

    name: str
    table: JSONObject
    secrets: Mapping[str, str] = attrs.field(factory=dict, repr=False)


class ServiceStore:
    """The services and aliases in the database. Secrets are encrypted there."""

    def __init__(self, database: Database, encryption: Encryption) -> None: ...

    async def list(self) -> list[StoredService]:
        """Return all services by name, with their secrets. Raises `EncryptionError` if the key is not theirs."""
        raise NotImplementedError

    async def save(self, service: StoredService) -> None:
        """Store a service, or replace it."""
        raise NotImplementedError

    async def delete(self, name: str) -> None:
        """Delete a service."""
        raise NotImplementedError

    async def aliases(self) -> dict[str, str]:
        """Return the aliases: a name, and the `service/model` that it stands for."""
        raise NotImplementedError

    async def set_alias(self, name: str, target: str | None) -> None:
        """Set an alias, or delete it."""
        raise NotImplementedError
