"""Open services: `open_service` from a provider and its settings, `open_services` from a configuration file."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence

import attrs

from trunkline._config.compositions import Compositions
from trunkline._config.configuration import Configuration, provider_of, read_configuration
from trunkline._config.sources import VariableReaders, check_defaults, make_settings, with_extension_settings
from trunkline._http.choice import HTTPTransports
from trunkline._http.common import ConnectionOptions, HTTPClient
from trunkline._masking import listed, quoted
from trunkline._plugins.registry import check_hooks, load_provider
from trunkline._setting_types import trimmed
from trunkline._suggestions import did_you_mean
from trunkline.authoring.provider import Provider
from trunkline.compose import balance, close_services, fallback, limit
from trunkline.errors import ConfigurationError
from trunkline.provider_service import ProviderService
from trunkline.secrets import without_traceback
from trunkline.service import Service
from trunkline.settings import Settings, raise_config_errors, setting_infos

_CONNECTION_SETTINGS = {field.name for field in attrs.fields(ConnectionOptions)}
"""The settings that describe connections. They have no effect on the application's own HTTP client."""


def _check_client(client: HTTPClient | None, settings: Settings, service: str) -> None:
    if client is None:
        return
    for info in setting_infos(Settings):
        name = info.name
        if name in _CONNECTION_SETTINGS and getattr(settings, name) != info.default:
            raise ConfigurationError(
                f"service {service!r}: setting {name!r} has no effect on your own http_client; "
                f"configure the client instead, or remove one of the two",
                service=service,
                setting=name,
            )


def _ineffective(client: HTTPClient | None) -> set[str]:
    """Return the settings that have no effect with this client, so that the machine's values for them are not used."""
    return set() if client is None else _CONNECTION_SETTINGS


def open_service(
    provider: str | Settings | Provider,
    settings_object: Settings | None = None,
    /,
    *,
    name: str | None = None,
    http_client: HTTPClient | None = None,
    **settings: object,
) -> ProviderService:
    """Create one service: `async with open_service("openai", api_key=…, default_model=…) as service: …`.

    `provider` is one of:

    - The name of an installed provider, with its settings as keyword arguments. Settings that are not given come from
      the environment: from `TRUNKLINE_<NAME>_<SETTING>`, then from the provider's own variables.
    - A settings object, which is used as it is. Type checkers find a misspelt setting in it.
    - A `Provider`, which need not be in an installed package. Its settings are keyword arguments and variables, as for
      a name, or a settings object as the second argument: `open_service(acme, AcmeSettings(api_key=…))`.

    `name` is the name of the service, by default the provider's. `http_client` is your own httpx2 (or httpx) client; it
    is used as it is, in one event loop only, and never closed. Nothing is sent before the first call.

    Raises `ProviderNotFound`, `PluginError` or `ConfigurationError`.
    """
    try:
        return _make_service(provider, settings_object, name, http_client, settings)
    except BaseException as error:
        failed = without_traceback(error)
    # The settings may be secret, and error trackers show the local variables of each frame.
    settings.clear()
    raise failed


def _make_service(
    provider: str | Settings | Provider,
    settings_object: Settings | None,
    name: str | None,
    client: HTTPClient | None,
    settings: Mapping[str, object],
) -> ProviderService:
    if not isinstance(name, (str, type(None))):
        raise ConfigurationError(f"the name of a service must be a string, not {type(name).__name__}")
    try:
        return _make_named(provider, settings_object, name, client, settings)
    except ConfigurationError as error:
        error.service = error.service or name
        raise


def _make_named(
    provider: str | Settings | Provider,
    settings_object: Settings | None,
    name: str | None,
    client: HTTPClient | None,
    settings: Mapping[str, object],
) -> ProviderService:
    if isinstance(provider, Settings) and settings_object is None:
        plugin, settings_object = load_provider(provider.provider), provider
    elif isinstance(provider, Provider):
        check_hooks(provider, provider.name)
        plugin = provider
    elif settings_object is not None:
        raise ConfigurationError("open_service takes a second argument, a settings object, only after a Provider")
    elif not isinstance(provider, str):
        expected = "the name of a provider, a settings object or a Provider"
        raise ConfigurationError(f"open_service takes {expected}, not {type(provider).__name__}", service=name)
    else:
        plugin = load_provider(trimmed(provider))
    service_name = name or plugin.name
    if settings_object is None:
        checked = make_settings(service_name, plugin, arguments=settings, not_from_machine=_ineffective(client))
    elif settings:
        raise ConfigurationError("open_service takes a settings object or settings by keyword, not both")
    elif not isinstance(settings_object, plugin.settings):
        raise ConfigurationError(
            f"the provider {plugin.name!r} takes {plugin.settings.__name__}, not {type(settings_object).__name__}"
        )
    else:
        checked = settings_object
        extensions = with_extension_settings(service_name, checked.extensions)
        if extensions != checked.extensions:
            checked = attrs.evolve(checked, extensions=extensions)  # type: ignore[misc]  # see settings.py
    _check_client(client, checked, service_name)
    return ProviderService(service_name, plugin, checked, transports=HTTPTransports(client))


class Services(Mapping[str, Service]):
    """The services of a configuration: a mapping from names to services, and an async context manager.

    Each service opens at its first call. Leaving the context manager closes all of them.
    """

    def __init__(self, services: Mapping[str, Service]) -> None:
        self._services = dict(services)

    def __getitem__(self, name: str) -> Service:
        try:
            return self._services[name]
        except KeyError:
            hint = did_you_mean(name, self._services)
            raise KeyError(f"no service {quoted(name)}{hint} the services are {listed(self._services)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)

    async def __aenter__(self) -> Services:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all services, as `Service.aclose` does. Returns when all of them are closed.

        If closing fails, raises the error of the first service that failed, with those of others as notes.
        """
        await close_services(self._services.values())


def open_services(
    source: str | os.PathLike[str] | Mapping[str, object] = "trunkline.toml",
    *,
    http_client: HTTPClient | None = None,
    environ: Mapping[str, str] | None = None,
    wrong: MutableMapping[str, ConfigurationError] | None = None,
    extensions: Sequence[object] = (),
) -> Services:
    """Create all services of a configuration file, or of a mapping of the same form.

    The file decides which secrets are sent to which host, so name only a file that nobody else can change.

    Services with the same network settings share connections. `http_client` is your own httpx2 (or httpx) client, used
    for all services, in one event loop only, and never closed. `environ` replaces the process's environment variables.
    If `wrong` is given, a mistake in one service does not raise: the service is left out, as are those that are
    composed of it, and its error is added to `wrong` under its name. `extensions` are the application's own: objects
    with hooks, for every service with a provider, before the extensions in its settings.

    Raises `ConfigurationError` for a file that cannot be read or is wrong. One error lists every mistake in the
    settings of all services.
    """
    try:
        return _make_services(source, http_client, environ, wrong, tuple(extensions))
    except BaseException as error:
        failed = without_traceback(error)
    source, environ = "", None  # for the reason given in `open_service`
    raise failed


def _make_services(
    source: str | os.PathLike[str] | Mapping[str, object],
    http_client: HTTPClient | None,
    environ: Mapping[str, str] | None,
    wrong: MutableMapping[str, ConfigurationError] | None,
    extensions: tuple[object, ...],
) -> Services:
    if environ is not None and not _are_variables(environ):
        raise ConfigurationError("environ must be a mapping of strings")
    errors: list[ConfigurationError] = []
    configuration, wrong_defaults = check_defaults(read_configuration(source, errors=errors), environ)
    errors += wrong_defaults
    transports = HTTPTransports(http_client)
    variables = VariableReaders()
    made: dict[str, Service] = {}
    for name in configuration.tables:
        try:
            settings, plugin = _configured(name, configuration, environ, http_client, variables)
            if extensions:
                every = (*extensions, *settings.extensions)
                settings = attrs.evolve(settings, extensions=every)  # type: ignore[misc]  # see settings.py
            _check_client(http_client, settings, name)
            made[name] = ProviderService(name, plugin, settings, transports=transports)
        except ConfigurationError as error:
            errors.append(error)
    errors += variables.errors
    if wrong is not None:
        errors = _sort_out(errors, configuration.names, wrong)
        made = {name: service for name, service in made.items() if name not in wrong}
    raise_config_errors(errors)
    composed = compose(configuration.compositions, made)
    if wrong is None:
        return Services({name: composed[name] for name in configuration.names})
    for name in configuration.names:
        if name not in composed and name not in wrong:
            wrong[name] = _wrong_members(name, configuration.compositions.services[name].members, wrong)
    return Services({name: composed[name] for name in configuration.names if name not in wrong})


def _sort_out(
    errors: list[ConfigurationError], names: Collection[str], wrong: MutableMapping[str, ConfigurationError]
) -> list[ConfigurationError]:
    """Add to `wrong` one error for each service that has mistakes, and return the errors that belong to no service."""
    of_services: dict[str, list[ConfigurationError]] = {}
    others: list[ConfigurationError] = []
    for error in errors:
        if error.service is not None and error.service in names:
            of_services.setdefault(error.service, []).append(error)
        else:
            others.append(error)
    for name, found in of_services.items():
        try:
            raise_config_errors(found)
        except ConfigurationError as error:
            wrong[name] = error
    return others


def _wrong_members(name: str, members: Iterable[str], wrong: Mapping[str, ConfigurationError]) -> ConfigurationError:
    """Return the error of a service that is composed of others, of which some are wrong."""
    names = [member for member in members if member in wrong]
    problem = f"names {listed(names)}, which cannot be used" if names else "cannot be used"
    return ConfigurationError(f"service {name!r} {problem}", service=name)


def compose(compositions: Compositions, made: Mapping[str, Service]) -> dict[str, Service]:
    """Return services with those that are composed of them. All members must have been made."""
    services = {name: _limited(name, service, compositions) for name, service in made.items()}
    for name, composition in compositions.services.items():
        if any(member not in services for member in composition.members):
            continue
        members = {services[member]: weight for member, weight in composition.members.items()}
        total = composition.total_timeout
        if composition.kind == "balance":
            service = balance(*members, weights=tuple(members.values()), name=name, total_timeout=total)
        else:
            service = fallback(*members, name=name, total_timeout=total)
        services[name] = _limited(name, service, compositions)
    return services


def _limited(name: str, service: Service, compositions: Compositions) -> Service:
    limits = compositions.limits.get(name)
    if limits is None:
        return service
    return limit(
        service,
        concurrency=limits.concurrency,
        requests_per_minute=limits.requests_per_minute,
        tokens_per_minute=limits.tokens_per_minute,
        name=name,
    )


def _are_variables(environ: object) -> bool:
    return isinstance(environ, Mapping) and all(
        isinstance(name, str) and (value is None or isinstance(value, str)) for name, value in environ.items()
    )


def _configured(
    name: str,
    configuration: Configuration,
    environ: Mapping[str, str] | None,
    client: HTTPClient | None,
    variables: VariableReaders,
) -> tuple[Settings, Provider]:
    table = configuration.tables[name]
    try:
        plugin = load_provider(provider_of(name, table))
        made = make_settings(
            name,
            plugin,
            arguments={},
            table=table,
            defaults=configuration.defaults,
            environ=environ,
            folder=configuration.folder,
            variables=variables,
            not_from_machine=_ineffective(client),
            reported=configuration.reported,
        )
    except ConfigurationError as error:
        if error not in configuration.reported.values():
            error.service = error.service or name
        raise
    return made, plugin
