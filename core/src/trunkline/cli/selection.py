"""Select the service that a command uses, and make its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Parameter

from trunkline._config.compositions import Compositions
from trunkline._config.configuration import Configuration, provider_of
from trunkline._config.sources import VariableReaders, check_defaults, json_or_text, make_settings, variable_name
from trunkline._masking import listed
from trunkline._plugins.registry import PROVIDERS, installed, load_provider
from trunkline._setting_types import trimmed
from trunkline._suggestions import did_you_mean
from trunkline.authoring.provider import Provider
from trunkline.cli.config_files import DEFAULT_FILE, ConfigurationFile, configuration_of, named_file, read_safely
from trunkline.cli.failures import CommandError
from trunkline.cli.hidden import hide
from trunkline.errors import ConfigurationError, PluginError
from trunkline.service import Service
from trunkline.settings import SettingInfo, Settings, raise_config_errors, setting_infos


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class ServiceOptions:
    """The options that select a service."""

    provider: Annotated[str | None, Parameter(alias="-p")] = None
    """A provider, with its settings from the environment and from --set. No configuration file is read."""

    service: Annotated[str | None, Parameter(alias="-s")] = None
    """A service of the configuration file. Required if the file has several, except for `check`, which tests all."""

    config: Annotated[Path | None, Parameter(alias="-c")] = None
    """The configuration file. Default: TRUNKLINE_CONFIG, else trunkline.toml in the current folder."""

    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = ()
    """A setting, as name=value; overrides the file and the environment. Not for secrets. May be repeated."""


@attrs.frozen(kw_only=True)
class SelectedService:
    """The service that a command uses: its name, its settings, and a phrase that says where they come from."""

    name: str
    settings: Settings
    origin: str

    @property
    def without_model(self) -> tuple[str, ...]:
        """The name of the service, if it has no model for requests that name none."""
        return () if self.settings.default_model is not None else (self.name,)

    def open(self) -> Service:
        """Open the service."""
        from trunkline.opening import open_service

        return open_service(self.settings, name=self.name)


@attrs.frozen(kw_only=True)
class ComposedService:
    """A service that is made of others: its name, the settings of those, and a phrase that says where it comes from."""

    name: str
    members: Mapping[str, SelectedService]
    """The services with a provider that it is made of, by name."""
    compositions: Compositions = attrs.field(repr=False)
    origin: str

    @property
    def without_model(self) -> tuple[str, ...]:
        """The names of the members that have no model for requests that name none."""
        return tuple(name for member in self.members.values() for name in member.without_model)

    def open(self) -> Service:
        """Open the service. Closing it closes its members."""
        from trunkline.opening import compose

        return compose(self.compositions, {name: member.open() for name, member in self.members.items()})[self.name]


@attrs.frozen(kw_only=True)
class WrongService:
    """A service whose settings are wrong. `provider` is the name of its provider, if it has one that is a text."""

    error: ConfigurationError
    provider: str | None


def assignments(pairs: Iterable[str], option: str = "--set") -> dict[str, str]:
    """Parse `name=value` texts. `option` is the name of the option in errors. Raises `CommandError`."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            # The error does not repeat the text, which may be a secret.
            raise CommandError(f"{option} takes name=value")
        values[name] = text
    return values


def with_tables(values: Mapping[str, str], provider: Provider, option: str = "--set") -> dict[str, object]:
    """Return the values, with those parsed as JSON that start as a table, or a list, which their setting may be.

    Any setting may be a reference, as in `{"env": "NAME"}`. Other texts stay exactly what they are. Raises
    `CommandError` for a table that is not JSON.
    """
    kinds = {info.name: info for info in setting_infos(provider.settings)}
    return {name: _table(name, text, kinds[name], option) if name in kinds else text for name, text in values.items()}


def _table(name: str, text: str, info: SettingInfo, option: str) -> object:
    try:
        return json_or_text(info, text)
    except ValueError as error:
        raise CommandError(
            f"{option} {name}: the value starts with {trimmed(text)[0]}, but is not JSON: {error}"
        ) from None


def _configuration_file(options: ServiceOptions) -> ConfigurationFile | None:
    """Return the configuration file to use. The default is used only if it exists; otherwise returns `None`.

    A file that others can write is refused, and the default, which nobody named, is used if the user trusts it.
    """
    named = options.config or named_file()
    if named:
        hide(str(named))
        return read_safely(named, named=True)
    if not Path(DEFAULT_FILE).is_file():
        return None
    from trunkline.cli.trust import ask_for_trust

    return ask_for_trust(Path(DEFAULT_FILE))


def _check(options: ServiceOptions) -> None:
    if options.provider is not None and (options.service is not None or options.config is not None):
        raise CommandError(
            "--provider cannot be combined with --service or --config, which select a service of a configuration file"
        )


def select_service(options: ServiceOptions) -> SelectedService | ComposedService:
    """Return the service that the options name, or the only one that there is.

    Raises `CommandError`, whose message says what to do, if there is none or more than one, and `ConfigurationError` if
    its settings are wrong. Mistakes in other services of the file and in other plugins do not matter.
    """
    _check(options)
    if options.provider is not None:
        return _from_provider(options.provider, options)
    file = _configuration_file(options)
    if file is None:
        if options.service is not None:
            raise CommandError(
                f"--service {options.service} needs a configuration file: use --config FILE, or create one with "
                f"`trunkline init`"
            )
        return _only_usable(options)
    configuration = _checked(file, options)
    names = configuration.names
    if options.service is None and len(names) > 1:
        raise CommandError(f"{file.path} has several services; select one with --service: {listed(names)}")
    name = next(iter(names)) if options.service is None else options.service
    if name in configuration.compositions.services:
        return _composed(file.path, configuration, name, options)
    return _from_file(file.path, configuration, name, options)


def select_services(options: ServiceOptions) -> dict[str, SelectedService | ComposedService | WrongService]:
    """Return all services that the options select, by name. The members of a composed service come with it."""
    _check(options)
    if options.provider is not None:
        try:
            return {options.provider: _from_provider(options.provider, options)}
        except ConfigurationError as error:
            return {options.provider: WrongService(error=error, provider=options.provider)}
    file = _configuration_file(options)
    if file is None:
        raise CommandError(
            "there is no configuration file: use --config FILE or --provider, or create one with `trunkline init`"
        )
    configuration = _checked(file, options)
    found: dict[str, SelectedService | ComposedService | WrongService] = {}
    compositions = configuration.compositions
    chosen = configuration.names if options.service is None else (options.service,)
    for name in dict.fromkeys(inner for outer in chosen for inner in (*compositions.members(outer), outer)):
        try:
            if name in compositions.services:
                found[name] = _composed(file.path, configuration, name, options)
            else:
                found[name] = _from_file(file.path, configuration, name, options)
        except ConfigurationError as error:
            provider = configuration.tables.get(name, {}).get("provider")
            found[name] = WrongService(error=error, provider=provider if isinstance(provider, str) else None)
    order = [name for name in configuration.names if name in found]
    return {name: found[name] for name in order}


def _composed(path: Path, configuration: Configuration, name: str, options: ServiceOptions) -> ComposedService:
    """Return a composed service of a configuration file. Its members have no `--set`, which is for one service."""
    if options.set_:
        raise CommandError(f"--set changes a service with a provider; {name} is made of others: select one of those")
    members = {
        member: _from_file(path, configuration, member, options) for member in configuration.compositions.members(name)
    }
    return ComposedService(
        name=name, members=members, compositions=configuration.compositions, origin=f"service {name} of {path}"
    )


def _checked(file: ConfigurationFile, options: ServiceOptions) -> Configuration:
    """Parse a file.

    If names or defaults in it are wrong, raises one `ConfigurationError` for them and all mistakes of the services that
    the options select.
    """
    errors: list[ConfigurationError] = []
    configuration, wrong_defaults = check_defaults(configuration_of(file, errors))
    errors += wrong_defaults
    if errors:
        members = () if options.service is None else tuple(configuration.compositions.members(options.service))
        for name in configuration.tables:
            if options.service is None or name in members:
                try:
                    _from_file(file.path, configuration, name, options)
                except ConfigurationError as error:
                    errors.append(error)
        raise_config_errors(errors)
    return configuration


def _from_provider(name: str, options: ServiceOptions) -> SelectedService:
    """Return a service whose settings come from the environment and `--set`."""
    provider = load_provider(name)
    settings = make_settings(name, provider, arguments=with_tables(assignments(options.set_), provider))
    hide(settings.secrets())
    return SelectedService(name=name, settings=settings, origin=f"provider {name}")


def _from_file(path: Path, configuration: Configuration, name: str, options: ServiceOptions) -> SelectedService:
    """Return one service of a configuration file."""
    if name not in configuration.tables:
        hint = did_you_mean(name, configuration.names)
        raise CommandError(f"{path} has no service {name!r}{hint} it has: {listed(configuration.names)}")
    variables = VariableReaders()
    settings = _configured(name, configuration, assignments(options.set_), variables)
    for other in configuration.tables:
        # Another service may have the same variables. It is read only in this case, and its own mistakes do not matter.
        if other != name and any(variable.startswith(variable_name(other, "")) for variable in variables.readers):
            with suppress(ConfigurationError):
                _configured(other, configuration, {}, variables)
    raise_config_errors(variables.errors)
    hide(settings.secrets())
    return SelectedService(name=name, settings=settings, origin=f"service {name} of {path}")


def _configured(
    name: str, configuration: Configuration, given: Mapping[str, str], variables: VariableReaders
) -> Settings:
    table = configuration.tables[name]
    try:
        provider = load_provider(provider_of(name, table))
    except ConfigurationError as error:
        error.service = name
        raise
    return make_settings(
        name,
        provider,
        arguments=with_tables(given, provider),
        table=table,
        defaults=configuration.defaults,
        folder=configuration.folder,
        variables=variables,
        reported=configuration.reported,
    )


def _only_usable(options: ServiceOptions) -> SelectedService:
    """Return the only installed provider whose required settings are in the environment."""
    usable: list[SelectedService] = []
    reasons: dict[str, str] = {}
    for name in sorted({item.name for item in installed(PROVIDERS)}):
        try:
            usable.append(_from_provider(name, options))
            reasons[name] = "ready"
        except PluginError as error:
            reasons[name] = f"broken: {error}"
        except ConfigurationError as error:
            reasons[name] = _needs(error)
    if len(usable) == 1:
        return usable[0]
    raise CommandError(_what_to_do(reasons, several=bool(usable)))


def _needs(error: ConfigurationError) -> str:
    names = [single.setting for single in (error.errors or (error,)) if single.setting]
    return f"needs {', '.join(names)}" if names else str(error)


def _what_to_do(reasons: Mapping[str, str], *, several: bool) -> str:
    if not reasons:
        return "no provider is installed; to install one: pip install trunkline-PROVIDER"
    lines = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items())
    problem = (
        "several providers are ready to use" if several else "no provider has its required settings in the environment"
    )
    return (
        f"no service is selected, and {problem}. Select one with --provider, or create a configuration file with "
        f"`trunkline init`.{lines}"
    )
