"""A store of services in memory, for tests that need no database."""

from __future__ import annotations

import json

from trunkline_gateway.database.services import StoredService


class MemoryStore:
    """The services and aliases, without a database."""

    def __init__(self, *services: StoredService) -> None:
        self.services = {service.name: service for service in services}
        self.stored_aliases: dict[str, str] = {}

    async def list(self) -> list[StoredService]:
        return [self.services[name] for name in sorted(self.services)]

    async def save(self, service: StoredService) -> None:
        json.dumps(service.table)  # as a database stores it
        self.services[service.name] = service

    async def delete(self, name: str) -> None:
        self.services.pop(name, None)

    async def aliases(self) -> dict[str, str]:
        return dict(self.stored_aliases)

    async def set_alias(self, name: str, target: str | None) -> None:
        if target is None:
            self.stored_aliases.pop(name, None)
        else:
            self.stored_aliases[name] = target
