"""The open services: from the database or from a file, replaced without a restart.

The connections are held in parts, which are closed separately. A service with a provider has one part; a service that
is composed of others uses the parts of its members; the services of a file share one part. A call holds the parts of
its service. `reload` replaces the parts whose settings have changed. A replaced part is closed in the background when
its last call has ended, so no call waits for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from types import TracebackType

import anyio
import attrs
from trunkline import ConfigurationError, ProviderService, Service, TrunklineError, open_services
from trunkline.authoring.json import JSONObject
from trunkline.cli.check import Report, check_service
from trunkline.cli.selection import SelectedService, WrongService
from trunkline_prices import PricesSettings

from trunkline_gateway.attempts import ATTEMPTS, STATE, Attempts
from trunkline_gateway.background import Background
from trunkline_gateway.database.services import ServiceStore, StoredService
from trunkline_gateway.networks import Networks
from trunkline_gateway.problems import GatewayError, Problem
from trunkline_gateway.service_checks import check_draft, check_members, one_error, validate
from trunkline_gateway.service_opening import compose, composition_errors, file_tables, open_stored, without_limits
from trunkline_gateway.service_tables import (
    ServiceDraft,
    check_alias,
    display_name,
    hint_of,
    is_composed,
    kind_of,
    members_of,
    name_problem,
    shown_secrets,
    shown_table,
)
from trunkline_gateway.target_wires import wire_of
from trunkline_gateway.targets import Target

_log = logging.getLogger("trunkline_gateway")

_MAX_TARGETS = 10_000
"""How many resolved names are remembered. Clients choose the names of models, so their number has no other bound."""

UNNAMED = "new-service"
"""The name of a service, in the report of its test, that has no name yet."""


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
    """The secret settings that are set, each with its last four characters, or "" for a secret of less than 12. In a
    file, a reference is shown as `from env NAME`, `from file` or `from keyring`."""
    default_model: str | None = None
    error: str | None = None
    """Why the service cannot be used."""
    calls: int = 0
    """The number of calls that run."""


class _Part:
    """Connections that are closed together, after the last call that holds them."""

    __slots__ = ("_background", "_close", "_closed", "_holds", "_retired")

    def __init__(self, close: Callable[[], Awaitable[None]], background: Background) -> None:
        self._close = close
        self._background = background
        self._holds = 0
        self._retired = False
        self._closed = False

    def hold(self) -> None:
        self._holds += 1

    def release(self) -> None:
        self._holds -= 1
        if self._retired and not self._holds:
            self._close_soon()

    def retire(self) -> None:
        """Close the part when its last call has ended."""
        self._retired = True
        if not self._holds:
            self._close_soon()

    def _close_soon(self) -> None:
        if not self._closed:
            self._background.start(self.aclose())

    async def aclose(self) -> None:
        """Close the part now. Calls that run end with `ServiceClosed`."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._close()
        except Exception as error:  # whatever it is, the other services are closed too
            # Without the text of the exception, which may contain a secret if it is of another library.
            reason = str(error) if isinstance(error, TrunklineError) else type(error).__name__
            _log.error("closing the connections of a service failed: %s", reason)


@attrs.frozen(kw_only=True, eq=False)
class _Entry:
    """A service that calls may use, or one with an error."""

    name: str
    service: Service | None = None
    settings: ProviderService | None = None
    """The service with a provider, without its limits. `None` for a composed service."""
    parts: tuple[_Part, ...] = ()
    digest: bytes = b""
    table: JSONObject = attrs.field(factory=dict)
    secrets: tuple[tuple[str, str], ...] = ()
    error: str | None = None
    members: tuple[Service, ...] = ()
    """The members that a composed service was made of."""

    @property
    def provider(self) -> str | None:
        if self.settings is not None:
            return self.settings.provider
        provider = self.table.get("provider")
        return provider if isinstance(provider, str) and not is_composed(self.table) else None


class _Hold(AbstractAsyncContextManager[Service]):
    """Holds the parts of a service for one call. The service is looked up when the context manager is entered."""

    __slots__ = ("_attempts", "_entry", "_name", "_services")

    def __init__(self, services: Services, name: str, attempts: Attempts | None) -> None:
        self._services = services
        self._name = name
        self._attempts = attempts
        self._entry: _Entry | None = None

    async def __aenter__(self) -> Service:
        # Nothing waits in here, so the service cannot be closed between finding and holding it.
        entry = self._services._entry_for_call(self._name)
        assert entry.service is not None
        self._entry = entry
        self._services._calls[entry.name] += 1
        for part in entry.parts:
            part.hold()
        return entry.service if self._attempts is None else entry.service.with_options(state={STATE: self._attempts})

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            self._services._calls[entry.name] -= 1
            for part in entry.parts:
                part.release()


class Services:
    """The services that calls are made with.

    A service whose settings have not changed stays open. One that has changed is closed when its last call has ended;
    new calls take the new one. A service that is wrong has an `error`, and the others work.

    The services of a file are replaced together, and their settings come from the environment too. Those of the store
    take nothing from the environment. `allowed_networks` names the private networks that the URLs of the store's
    services may lead to: see `trunkline_gateway.networks`.
    """

    def __init__(self, source: ServiceStore | Path, *, allowed_networks: Sequence[str] = ()) -> None:
        self._path = source if isinstance(source, Path) else None
        self._store = None if isinstance(source, Path) else source
        self._networks = Networks(allowed_networks)
        self._background = Background()
        self._entries: dict[str, _Entry] = {}
        self._aliases: dict[str, str] = {}
        self._targets: dict[str, Target] = {}
        self._calls: Counter[str] = Counter()
        self._changing = anyio.Lock()
        self._closed = False

    @property
    def read_only(self) -> bool:
        """Whether the services come from a file."""
        return self._store is None

    async def reload(self) -> None:
        """Read the services again. Never raises for a wrong service; a file that cannot be read leaves all as it was,
        and raises `ConfigurationError`."""
        async with self._changing:
            if not self._closed:
                await self._reload()

    async def _reload(self) -> None:
        if self._store is None:
            assert self._path is not None
            entries = await anyio.to_thread.run_sync(self._read_file, self._path)
            aliases: dict[str, str] = {}
        else:
            entries = await self._open_stored(await self._store.list())
            aliases = await self._store.aliases()
        before, self._entries, self._aliases, self._targets = self._entries, entries, aliases, {}
        for entry in entries.values():
            if entry.error is not None and (entry.name not in before or before[entry.name].error != entry.error):
                _log.error("service %s cannot be used: %s", entry.name, entry.error)
        kept = {id(part) for entry in entries.values() for part in entry.parts}
        replaced = {id(part): part for entry in before.values() for part in entry.parts if id(part) not in kept}
        for part in replaced.values():
            part.retire()

    # A file

    def _read_file(self, path: Path) -> dict[str, _Entry]:
        wrong: dict[str, ConfigurationError] = {}
        opened = open_services(path, wrong=wrong, extensions=(ATTEMPTS,))
        tables = file_tables(path)
        part = _Part(opened.aclose, self._background)
        entries: dict[str, _Entry] = {}
        for name in (*opened, *wrong):
            table = tables.get(name, {})
            entry = _Entry(
                name=name,
                table=shown_table(table),
                secrets=shown_secrets(table, {}),
                error=str(wrong[name]) if name in wrong else None,
            )
            if name not in wrong:
                service = opened[name]
                entry = attrs.evolve(entry, service=service, settings=without_limits(service), parts=(part,))
            entries[name] = entry
        return entries

    # The store

    async def _open_stored(self, stored: Iterable[StoredService]) -> dict[str, _Entry]:
        by_name = {service.name: service for service in stored}
        entries: dict[str, _Entry] = {}
        for service in by_name.values():
            if not is_composed(service.table):
                entries[service.name] = await self._leaf(service)
        wrong = composition_errors(by_name)
        for service in by_name.values():
            if is_composed(service.table):
                self._compose(service, by_name, wrong, entries)
        return {name: entries[name] for name in by_name}

    async def _leaf(self, stored: StoredService) -> _Entry:
        digest = _digest(stored)
        before = self._entries.get(stored.name)
        if before is not None and before.digest == digest and before.service is not None:
            return before
        entry = _Entry(
            name=stored.name,
            digest=digest,
            table=shown_table(stored.table, stored.secrets),
            secrets=shown_secrets(stored.table, stored.secrets),
        )
        try:
            opened, provider_service = await open_stored(stored, self._networks)
            await self._networks.check(provider_service.settings, service=stored.name)
        except ConfigurationError as error:
            return attrs.evolve(entry, error=str(error))
        except Exception as error:  # a mistake in one plugin must not take the other services along
            _log.error("service %s: opening it failed: %s", stored.name, type(error).__name__)
            return attrs.evolve(entry, error=f"opening it failed with an unexpected {type(error).__name__}")
        part = _Part(opened.aclose, self._background)
        return attrs.evolve(entry, service=opened[stored.name], settings=provider_service, parts=(part,))

    def _compose(
        self,
        service: StoredService,
        stored: Mapping[str, StoredService],
        wrong: Mapping[str, ConfigurationError],
        entries: dict[str, _Entry],
    ) -> _Entry:
        """Add the entry of a composed service, and those of its members that are composed, and return it."""
        found = entries.get(service.name)
        if found is not None:
            return found
        entry = _Entry(name=service.name, digest=_digest(service), table=shown_table(service.table))
        if service.name in wrong:
            entry = attrs.evolve(entry, error=str(wrong[service.name]))
        else:  # there is no cycle, and all members exist
            names = members_of(service.table)
            members = [self._compose(stored[name], stored, wrong, entries) for name in names]
            entry = self._composed(entry, members)
        entries[service.name] = entry
        return entry

    def _composed(self, entry: _Entry, members: Sequence[_Entry]) -> _Entry:
        wrong = [member.name for member in members if member.service is None]
        if wrong:
            return attrs.evolve(entry, error=f"service {entry.name!r} names {', '.join(wrong)}, which cannot be used")
        services = tuple(member.service for member in members if member.service is not None)
        before = self._entries.get(entry.name)
        if (
            before is not None
            and before.digest == entry.digest
            and len(before.members) == len(services)
            and all(one is other for one, other in zip(before.members, services, strict=True))
        ):
            return before  # it knows which members rest, and what its limits have counted
        parts = {id(part): part for member in members for part in member.parts}
        try:
            service = compose(entry.name, entry.table, services)
        except ConfigurationError as error:
            return attrs.evolve(entry, error=str(error))
        return attrs.evolve(entry, service=service, parts=tuple(parts.values()), members=services)

    # What calls and the console ask for

    def states(self) -> list[ServiceState]:
        """Return all services by name."""
        return [self._state(self._entries[name]) for name in sorted(self._entries)]

    def _state(self, entry: _Entry) -> ServiceState:
        return ServiceState(
            name=entry.name,
            provider=entry.provider,
            display_name=display_name(entry.provider, entry.table),
            table=entry.table,
            secrets=entry.secrets,
            default_model=self._default_model(entry, frozenset()),
            error=entry.error,
            calls=self._calls[entry.name],
        )

    def _default_model(self, entry: _Entry, above: frozenset[str]) -> str | None:
        if entry.settings is not None:
            return entry.settings.settings.default_model
        if entry.name in above:
            return None
        members = [self._entries[name] for name in members_of(entry.table) if name in self._entries]
        return self._default_model(members[0], above | {entry.name}) if members else None

    @property
    def aliases(self) -> dict[str, str]:
        """The aliases, each with its `service/model`."""
        return dict(self._aliases)

    def resolve(self, name: str) -> Target:
        """Return what a model name stands for: an alias, `service/model` (the first slash splits), or a service.

        Raises `GatewayError` (404, code `model_not_found`) that does not tell which services there are.
        """
        target = self._targets.get(name)
        if target is None:
            target = self._resolve(name)
            if len(self._targets) >= _MAX_TARGETS:
                self._targets.clear()
            self._targets[name] = target
        return target

    def _resolve(self, name: str) -> Target:
        service, slash, model = self._aliases.get(name, name).partition("/")
        entry = self._entries.get(service)
        if entry is None or (slash and not model):
            raise _not_found(name)
        # Scopes of keys and prices are looked up by model, so a service's name alone means its default model.
        chosen = model or (None if entry.settings is None else entry.settings.settings.default_model)
        return self._target(entry, name, chosen)

    def _target(self, entry: _Entry, name: str, model: str | None) -> Target:
        extensions = () if entry.settings is None else entry.settings.settings.extensions
        return Target(
            name=name,
            service=entry.name,
            model=model,
            provider=entry.provider,
            wire=None if entry.settings is None else wire_of(entry.settings, model),
            prices=next((extension for extension in extensions if isinstance(extension, PricesSettings)), None),
        )

    def providers_of(self, target: Target) -> tuple[Target, ...]:
        """Return which services with a provider a call may be sent to: the members of a composed service."""
        return tuple(self._providers_of(target, frozenset()))

    def _providers_of(self, target: Target, above: frozenset[str]) -> Iterator[Target]:
        entry = self._entries.get(target.service)
        if entry is None or not is_composed(entry.table):
            yield target
            return
        for name in members_of(entry.table):
            member = self._entries.get(name)
            if member is not None and name not in above:
                model = target.model or self._default_model(member, frozenset())
                yield from self._providers_of(self._target(member, name, model), above | {name})

    def use(self, name: str, attempts: Attempts | None = None) -> AbstractAsyncContextManager[Service]:
        """Hold a service open for one call: `async with services.use(target.service) as service: …`.

        The requests of its calls that fail are added to `attempts`.

        Entering it raises `GatewayError`: 404 if the service no longer exists, 503 if its settings are wrong.
        """
        return _Hold(self, name, attempts)

    def check_usable(self, name: str) -> None:
        """Raise the `GatewayError` that entering `use` would raise now."""
        self._entry_for_call(name)

    def _entry_for_call(self, name: str) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise _not_found(name)
        if entry.service is None:
            message = f"the service {name!r} cannot be used at the moment; ask the administrator of this gateway"
            raise GatewayError(Problem(kind="upstream", status=503, message=message, code="service_unavailable"))
        return entry

    # What the console changes

    async def save(self, name: str, table: JSONObject, secrets: dict[str, str | None]) -> None:
        """Validate a service and store it. A secret that is `None` or not given stays as it is; "" removes it.

        The secrets of another provider are not kept. Raises `ConfigurationError`, whose `errors` each name the setting.
        """
        store = self._writable()
        async with self._changing:
            stored = {service.name: service for service in await store.list()}
            draft = ServiceDraft(name=name, table=table, secrets=secrets, before=stored.get(name))
            problem = name_problem(name, await store.aliases())
            if problem is not None:  # its other mistakes are found under another name
                draft = attrs.evolve(draft, name=UNNAMED)
            service, errors = await validate(draft, stored, self._networks)
            if problem is not None:
                errors = [ConfigurationError(problem, setting="name"), *errors]
            if errors:
                raise one_error(errors, name)
            await store.save(service)
            await self._reload()

    async def delete(self, name: str) -> None:
        """Delete a service. Raises `ConfigurationError` if another one is composed of it."""
        store = self._writable()
        async with self._changing:
            users = [
                service.name
                for service in await store.list()
                if is_composed(service.table) and name in members_of(service.table) and service.name != name
            ]
            if users:
                raise ConfigurationError(
                    f"service {name!r} is part of {', '.join(sorted(users))}: take it out there first", service=name
                )
            await store.delete(name)
            await self._reload()

    async def set_alias(self, name: str, target: str | None) -> None:
        """Set an alias, or delete it. Raises `ConfigurationError` for a name or target that is wrong."""
        store = self._writable()
        async with self._changing:
            if target is not None:
                check_alias(name, target, {service.name for service in await store.list()})
            await store.set_alias(name, target)
            await self._reload()

    async def check(self, name: str, table: JSONObject, secrets: dict[str, str | None], model: str | None) -> Report:
        """Test settings as `trunkline check` does, without storing them. Secrets are as in `save`.

        A service of a file is tested as the file has it; `table` and `secrets` do not matter then.
        """
        if self._store is None:
            return await self._check_opened(name, model)
        stored = {service.name: service for service in await self._store.list()}
        draft = ServiceDraft(name=name, table=table, secrets=secrets, before=stored.get(name))
        return await check_draft(draft, stored, model, self._networks)

    async def _check_opened(self, name: str, model: str | None) -> Report:
        """Test a service of the file."""
        entry = self._entries.get(name)
        problem = "does not exist" if entry is None else entry.error
        if entry is None or problem is not None:
            error = ConfigurationError(f"service {name!r}: {problem}", service=name)
            return await check_service(WrongService(error=error, provider=entry.provider if entry else None))
        if entry.settings is not None:
            selected = SelectedService(name=name, settings=entry.settings.settings, origin=f"the file {self._path}")
            return await check_service(selected, model=model)
        names = [member for member in members_of(entry.table) if member in self._entries]
        checks = {member: partial(self._check_opened, member, None) for member in names}
        return await check_members(name, kind_of(entry.table), checks)

    def _writable(self) -> ServiceStore:
        if self._store is None:
            raise ConfigurationError(f"the services come from the file {self._path}: change them there")
        return self._store

    async def aclose(self) -> None:
        """Close all services. Their calls end with `ServiceClosed`."""
        async with self._changing:
            self._closed = True
            parts = {id(part): part for entry in self._entries.values() for part in entry.parts}
            self._entries, self._targets = {}, {}
            async with anyio.create_task_group() as tasks:
                for part in parts.values():
                    tasks.start_soon(part.aclose)
            await self._background.aclose()


def _not_found(name: str) -> GatewayError:
    message = f"the model {hint_of(name)} does not exist or you do not have access to it"
    return GatewayError(Problem(kind="not_found", status=404, message=message, code="model_not_found", param="model"))


def _digest(stored: StoredService) -> bytes:
    """Return a digest of what a service is made of. It is keyed by nothing, so it stays in memory."""
    text = json.dumps([stored.table, dict(stored.secrets)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
