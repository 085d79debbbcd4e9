"""Opens services from their tables: those of a provider, and those that are composed of others."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio.to_thread
from trunkline import (
    ConfigurationError,
    JSONObject,
    LimitedService,
    ProviderService,
    Service,
    Services as OpenServices,
    Settings,
    balance,
    fallback,
    limit,
    open_services,
)
from trunkline.settings import convert, setting_infos

from trunkline_gateway.attempts import ATTEMPTS
from trunkline_gateway.database.services import StoredService
from trunkline_gateway.networks import NetworkGuard, Networks
from trunkline_gateway.service_tables import is_blank, is_composed, kind_of, merged


async def open_stored(stored: StoredService, networks: Networks) -> tuple[OpenServices, ProviderService]:
    """Open a service with a provider in a worker thread, and return it also without its limits.

    Nothing comes from the environment. The networks that it may reach are checked with each request; check the
    addresses in its settings with `networks.check`. Raises `ConfigurationError`.
    """
    # It imports the provider, and reads files that the settings name.
    opened = await anyio.to_thread.run_sync(_open_stored, stored, networks)
    service = without_limits(opened[stored.name])
    assert service is not None
    return opened, service


def _open_stored(stored: StoredService, networks: Networks) -> OpenServices:
    own = (NetworkGuard(networks), ATTEMPTS)
    return open_services({"services": {stored.name: merged(stored)}}, environ={}, extensions=own)


def without_limits(service: Service) -> ProviderService | None:
    """Return the service with a provider, or `None` for a composed service."""
    inner = service.service if isinstance(service, LimitedService) else service
    return inner if isinstance(inner, ProviderService) else None


def composition_errors(stored: Mapping[str, StoredService]) -> dict[str, ConfigurationError]:
    """Return the mistakes in the tables of services that are composed of others, by name.

    The core finds them. It gets no settings of the members, whose own mistakes are found when they are opened: they
    lack their provider, so nothing is imported.
    """
    composed = [name for name, service in stored.items() if is_composed(service.table)]
    if not composed:
        return {}
    tables = {
        name: service.table
        if is_composed(service.table)
        else {key: value for key, value in service.table.items() if key == "limits"}
        for name, service in stored.items()
    }
    wrong: dict[str, ConfigurationError] = {}
    try:
        open_services({"services": tables}, environ={}, wrong=wrong)
    except ConfigurationError as error:  # all are composed, so none of them leads to a provider
        wrong.update((single.service or "", single) for single in (error.errors or (error,)))
        wrong.update((name, error) for name in composed if name not in wrong)
    # An error that only says that members are wrong is about no setting.
    return {name: wrong[name] for name in composed if name in wrong and (wrong[name].setting or wrong[name].errors)}


def compose(name: str, table: JSONObject, members: Sequence[Service]) -> Service:
    """Compose a service whose table is right, as the core does for one of a file."""
    kind = kind_of(table)
    value = table.get(kind or "")
    total = _total_timeout(table.get("total_timeout"))
    composed: Service
    if kind == "balance":
        weights = [float(str(weight)) for weight in value.values()] if isinstance(value, Mapping) else None
        composed = balance(*members, weights=weights, name=name, total_timeout=total)
    else:
        composed = fallback(*members, name=name, total_timeout=total)
    given = table.get("limits")
    counts = (
        {key: count for key, count in given.items() if isinstance(count, int)} if isinstance(given, Mapping) else {}
    )
    if not counts:
        return composed
    return limit(
        composed,
        concurrency=counts.get("concurrency"),
        requests_per_minute=counts.get("requests_per_minute"),
        tokens_per_minute=counts.get("tokens_per_minute"),
        name=name,
    )


def _total_timeout(value: object) -> float | None:
    (info,) = (info for info in setting_infos(Settings) if info.name == "total_timeout")
    seconds = None if is_blank(value) else convert(info, value)
    return seconds if isinstance(seconds, (int, float)) else None


def file_tables(path: Path) -> dict[str, dict[str, object]]:
    """Return the tables of a file that has been read without an error, each with its defaults."""
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError):  # it has just been replaced, and is read again at the next reload
        return {}
    services, defaults = data.get("services"), data.get("defaults")
    common = defaults if isinstance(defaults, dict) else {}
    return {
        name: table if is_composed(table) else {**common, **table}
        for name, table in (services if isinstance(services, dict) else {}).items()
        if isinstance(table, dict)
    }
