"""Stand-ins for the gateway's parts, until they exist."""

from __future__ import annotations

import datetime
import secrets
from typing import Any

import attrs
import trunkline
from trunkline import ConfigurationError
from trunkline.cli.check import Report, Step
from trunkline.cli.diagnosis import Diagnosis
from trunkline_gateway.database.sessions import Session
from trunkline_gateway.running import RunningCalls
from trunkline_gateway.services import ServiceState
from trunkline_gateway.settings import GatewaySettings


class Sessions:
    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self.values: dict[str, str] = {}

    async def create(self, subject: str, lifetime: datetime.timedelta) -> tuple[str, Session]:
        cookie = secrets.token_urlsafe()
        session = Session(
            subject=subject, csrf=secrets.token_urlsafe(), expires_at=datetime.datetime.now(datetime.UTC) + lifetime
        )
        self.sessions[cookie] = session
        return cookie, session

    async def find(self, cookie: str) -> Session | None:
        return self.sessions.get(cookie)

    async def end(self, cookie: str) -> None:
        self.sessions.pop(cookie, None)

    async def end_all(self) -> None:
        self.sessions.clear()

    async def get_value(self, name: str) -> str | None:
        return self.values.get(name)

    async def set_value(self, name: str, value: str, *, only_if_absent: bool = False) -> bool:
        if only_if_absent and name in self.values:
            return False
        self.values[name] = value
        return True


class FakeServices:
    read_only = False

    def __init__(self) -> None:
        self.tables: dict[str, tuple[dict[str, Any], dict[str, str]]] = {}
        self.aliases: dict[str, str] = {}

    def states(self) -> list[ServiceState]:
        return [
            ServiceState(
                name=name,
                provider=table.get("provider"),
                display_name=str(table.get("provider") or f"fallback of {table}"),
                table=table,
                secrets=tuple((key, value[-4:]) for key, value in kept.items()),
                default_model=table.get("default_model"),
            )
            for name, (table, kept) in sorted(self.tables.items())
        ]

    async def save(self, name: str, table: Any, secret_values: dict[str, str | None]) -> None:
        kept = dict(self.tables.get(name, ({}, {}))[1])
        for key, value in secret_values.items():
            if value:
                kept[key] = value
            elif value == "":
                kept.pop(key, None)
        tables = {other: {**t, **k} for other, (t, k) in self.tables.items()}
        opened = trunkline.open_services({"services": {**tables, name: {**table, **kept}}}, environ={})
        del opened
        self.tables[name] = (dict(table), kept)

    async def delete(self, name: str) -> None:
        del self.tables[name]

    async def set_alias(self, name: str, target: str | None) -> None:
        if target is None:
            self.aliases.pop(name, None)
        else:
            if "/" in name:
                raise ConfigurationError("an alias has no slash", setting="name")
            self.aliases[name] = target

    async def check(self, name: str, table: Any, secret_values: Any, model: str | None) -> Report:
        report = Report(name=name, provider=table.get("provider"), url="POST https://api.example.com/v1", running=None)
        report.steps.append(Step(name="settings", status="ok", seconds=0.001, detail="settings"))
        report.steps.append(Step(name="models", status="unavailable", seconds=0.2, detail="no list"))
        if table.get("default_model") == "wrong":
            report.fail(
                "request",
                Diagnosis(problem="model", message="no such model", advice="set default_model to another"),
                0.3,
            )
        report.notes.append("a note")
        return report


@attrs.define
class Stub:
    settings: GatewaySettings = attrs.field(factory=GatewaySettings)
    sessions: Sessions = attrs.field(factory=Sessions)
    services: FakeServices = attrs.field(factory=FakeServices)
    running: RunningCalls = attrs.field(factory=RunningCalls)
