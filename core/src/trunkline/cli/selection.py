"""Which service a command means, and with which settings."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Parameter

from trunkline._config.sources import Configuration, make_settings, read_configuration
from trunkline._plugins.registry import PROVIDERS, installed, load_provider
from trunkline.cli.failures import CommandError
from trunkline.errors import ConfigurationError, PluginError
from trunkline.settings import Settings

DEFAULT_FILE = "trunkline.toml"


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class ServiceOptions:
    """The options that say which service is meant."""

    provider: Annotated[str | None, Parameter(alias="-p")] = None
    """A provider, with its settings from the environment and `--set`; no file is read."""

    service: Annotated[str | None, Parameter(alias="-s")] = None
    """A service of the configuration file; needed where it has several."""

    config: Annotated[Path | None, Parameter(alias="-c")] = None
    """The configuration file. Default: TRUNKLINE_CONFIG, else trunkline.toml in the current folder."""

    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = ()
    """A setting, as name=value, before the file and the environment; not for secrets. May be repeated."""


@attrs.frozen(kw_only=True)
class SelectedService:
    """The service that a command means: its name and settings, and where they come from, in words."""

    name: str
    settings: Settings
    origin: str


def assignments(pairs: Iterable[str], option: str = "--set") -> dict[str, object]:
    """The settings of `name=value` texts. A value that begins with a brace is JSON, for settings that are tables."""
    values: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            # The text is not repeated: it may be a secret without its name.
            raise CommandError(f"{option} takes name=value")
        values[name] = text
        if text.lstrip().startswith("{"):
            try:
                values[name] = json.loads(text)
            except ValueError as error:
                raise CommandError(f"{option} {name}: it begins with a brace, but is not JSON: {error}") from None
    return values


def configuration_path(options: ServiceOptions) -> Path | None:
    """The configuration file that is meant, if any. A file that is named need not exist; the default must."""
    if options.config is not None:
        return options.config
    named = os.environ.get("TRUNKLINE_CONFIG")
    if named:
        return Path(named)
    return Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None


def _check(options: ServiceOptions) -> None:
    if options.provider is not None and (options.service is not None or options.config is not None):
        raise CommandError("--provider stands alone; --service and --config are for services of a configuration file")


def select_service(options: ServiceOptions) -> SelectedService:
    """The one service that the options name, or that is the only choice.

    Raises `CommandError`, saying what to do, where there is none or more than one; `ConfigurationError` where its
    settings are wrong. Other services of the file, and other plugins, may be as broken as they like.
    """
    _check(options)
    if options.provider is not None:
        return from_provider(options.provider, options)
    path = configuration_path(options)
    if path is None:
        if options.service is not None:
            raise CommandError(
                f"--service {options.service} needs a configuration file: give --config FILE, or make one: "
                f"trunkline init"
            )
        return _only_usable(options)
    configuration = read_configuration(path)
    names = list(configuration.services)
    if options.service is None and len(names) > 1:
        raise CommandError(f"{path} has several services; choose one with --service: {', '.join(names)}")
    return from_file(path, configuration, options.service or names[0], options)


def select_services(options: ServiceOptions) -> dict[str, SelectedService | ConfigurationError]:
    """Every service that the options leave standing, by name; one with wrong settings as its error."""
    _check(options)
    path = configuration_path(options)
    found: dict[str, SelectedService | ConfigurationError] = {}
    if options.provider is not None or path is None:
        if options.provider is None:
            raise CommandError(
                "there is no configuration file: give --config FILE or --provider, or run trunkline init"
            )
        try:
            found[options.provider] = from_provider(options.provider, options)
        except ConfigurationError as error:
            found[options.provider] = error
        return found
    configuration = read_configuration(path)
    for name in configuration.services if options.service is None else [options.service]:
        try:
            found[name] = from_file(path, configuration, name, options)
        except ConfigurationError as error:
            found[name] = error
    return found


def from_provider(name: str, options: ServiceOptions) -> SelectedService:
    """A service made of a provider and the environment."""
    made = make_settings(name, load_provider(name), arguments=assignments(options.set_))
    return SelectedService(name=name, settings=made, origin=f"provider {name}")


def from_file(path: Path, configuration: Configuration, name: str, options: ServiceOptions) -> SelectedService:
    """One service of a configuration file."""
    if name not in configuration.services:
        raise CommandError(f"{path} has no service {name!r}; it has: {', '.join(configuration.services)}")
    table = dict(configuration.services[name])
    provider = table.pop("provider", None)
    if not isinstance(provider, str):
        raise ConfigurationError(
            f"service {name!r}: setting 'provider' is required: the name of an installed provider",
            service=name,
            setting="provider",
        )
    made = make_settings(
        name,
        load_provider(provider),
        arguments=assignments(options.set_),
        table=table,
        folder=configuration.folder,
    )
    return SelectedService(name=name, settings=made, origin=f"service {name} of {path}")


def _only_usable(options: ServiceOptions) -> SelectedService:
    """The one provider whose required settings the environment holds."""
    usable: list[SelectedService] = []
    reasons: dict[str, str] = {}
    for name in sorted({item.name for item in installed(PROVIDERS)}):
        try:
            usable.append(from_provider(name, options))
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
        return "no provider is installed; install one: pip install trunkline-PROVIDER"
    lines = "".join(f"\n  {name}: {reason}" for name, reason in reasons.items())
    first = "several providers are ready" if several else "no provider has what it needs in the environment"
    return f"which service? {first}: name one with --provider, or make a configuration file: trunkline init{lines}"
