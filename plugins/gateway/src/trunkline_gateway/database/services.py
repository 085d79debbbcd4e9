"""The stored services and aliases."""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs
from sqlalchemy import Connection, delete, select, update
from trunkline.authoring.json import JSONObject

from trunkline_gateway.database.engine import Database, grow_revision
from trunkline_gateway.database.tables import aliases, named_values, services
from trunkline_gateway.database.upserts import upsert
from trunkline_gateway.database.values import check_name
from trunkline_gateway.encryption import Encryption

_CHECK = "encryption_check"
"""The named value by which a start with another encryption key is noticed, also while no secret is stored."""


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

    def __init__(self, database: Database, encryption: Encryption) -> None:
        self._database = database
        self._encryption = encryption
        self._is_checked = False

    async def list(self) -> list[StoredService]:
        """Return all services by name, with their secrets. Raises `EncryptionError` if the key is not theirs."""
        await self._check()
        statement = select(services).order_by(services.c.name)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [
            StoredService(name=row.name, table=json.loads(row.settings), secrets=self._decrypted(row.secrets))
            for row in rows
        ]

    async def save(self, service: StoredService) -> None:
        """Store a service, or replace it. Raises `InvalidValueError` and `EncryptionError`."""
        await self._check()
        values = {
            "name": check_name(service.name, "the service"),
            # JSON in ASCII: a NUL, which PostgreSQL refuses, is written as an escape.
            "settings": json.dumps(service.table),
            "secrets": self._encryption.encrypt(json.dumps(dict(service.secrets))) if service.secrets else None,
        }

        def work(connection: Connection) -> None:
            statement = upsert(connection, services).values(values)
            new = {"settings": statement.excluded.settings, "secrets": statement.excluded.secrets}
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=new))
            grow_revision(connection)

        await self._database.write(work)

    async def delete(self, name: str) -> None:
        """Delete a service."""

        def work(connection: Connection) -> None:
            connection.execute(delete(services).where(services.c.name == name))
            grow_revision(connection)

        await self._database.write(work)

    async def aliases(self) -> dict[str, str]:
        """Return the aliases: a name, and the `service/model` that it stands for."""
        statement = select(aliases).order_by(aliases.c.name)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return {row.name: row.target for row in rows}

    async def set_alias(self, name: str, target: str | None) -> None:
        """Set an alias, or delete it. Raises `InvalidValueError`."""
        values = {"name": check_name(name, "the alias")}
        if target is not None:
            values["target"] = check_name(target, "the alias's model")

        def work(connection: Connection) -> None:
            if target is None:
                connection.execute(delete(aliases).where(aliases.c.name == name))
            else:
                statement = upsert(connection, aliases).values(values)
                new = {"target": statement.excluded.target}
                connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=new))
            grow_revision(connection)

        await self._database.write(work)

    async def reencrypt(self) -> int:
        """Encrypt all secrets with the first encryption key, and return the number of services that have some.

        To change the key: put a new one first, start, call this, and take the old one away.
        """
        await self._check()

        def work(connection: Connection) -> int:
            connection.execute(update(named_values).where(named_values.c.name == _CHECK).values(value=self._mark()))
            statement = select(services.c.name, services.c.secrets).where(services.c.secrets.is_not(None))
            rows = connection.execute(statement.with_for_update()).all()
            for row in rows:
                token = self._encryption.rotate(row.secrets)
                connection.execute(update(services).where(services.c.name == row.name).values(secrets=token))
            return len(rows)

        return await self._database.write(work)

    async def _check(self) -> None:
        if self._is_checked:
            return

        def work(connection: Connection) -> str:
            statement = upsert(connection, named_values).values(name=_CHECK, value=self._mark())
            connection.execute(statement.on_conflict_do_nothing(index_elements=["name"]))
            return str(
                connection.execute(select(named_values.c.value).where(named_values.c.name == _CHECK)).scalar_one()
            )

        self._encryption.decrypt(await self._database.write(work))
        self._is_checked = True

    def _mark(self) -> str:
        return self._encryption.encrypt(_CHECK)

    def _decrypted(self, token: str | None) -> Mapping[str, str]:
        secrets: dict[str, str] = {} if token is None else json.loads(self._encryption.decrypt(token))
        return secrets
