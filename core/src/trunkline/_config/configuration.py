"""Read a configuration file, or a mapping of the same form. The values of its settings are not checked here."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from trunkline._config.compositions import KINDS, Compositions, split_tables
from trunkline._files import UnreadableFile, decoded, read_file
from trunkline._masking import masked, quoted
from trunkline._plugins.registry import PROVIDERS, installed, load_provider
from trunkline._setting_types import is_blank, trimmed
from trunkline._suggestions import nearest
from trunkline.errors import ConfigurationError
from trunkline.settings import MAX_ERRORS, Settings, is_given, raise_config_errors, setting_infos

Table: TypeAlias = Mapping[str, object]

_TOP_LEVEL = ("services", "defaults", "ignore_tables")

MAX_FILE_SIZE = 1024 * 1024
"""The largest configuration file, in bytes."""


@attrs.frozen(kw_only=True)
class Configuration:
    """The content of a configuration file: a table of unchecked settings for each service, and those for all."""

    tables: Mapping[str, Table] = attrs.field(repr=False)
    """The tables of the services that have a provider, by name, without their limits."""
    defaults: Table = attrs.field(repr=False)
    folder: Path
    """The folder that relative paths in the file are resolved against."""
    reported: Mapping[str, ConfigurationError] = attrs.field(factory=dict, repr=False)
    """The errors of wrong settings in `[defaults]`, by setting. No service gets these settings, and none lacks them."""

    compositions: Compositions = attrs.field(factory=Compositions, repr=False)
    names: tuple[str, ...] = ()
    """The names of all services, in the order of the file."""

    @property
    def services(self) -> dict[str, Table]:
        """The table of each service with the defaults that apply to it. References are not followed."""
        infos = {info.name: info for info in setting_infos(Settings)}
        return {
            service: {
                **self.defaults,
                **{
                    name: value
                    for name, value in table.items()
                    if name not in self.defaults or is_given(infos[name], value)
                },
            }
            for service, table in self.tables.items()
        }


_MAX_PARTS = 100
"""How many parts a dotted key may have. The time that `tomllib` takes grows with the square of their number."""

_STRING_OR_COMMENT = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5})?|"(?:[^"\\\n]|\\.)*+"?'
    r"|\'\'\'(?:[^\']|\'(?!\'\'))*+(?:\'{3,5})?|\'[^\'\n]*+\'?|#[^\n]*+",
    re.DOTALL,
)
"""A string or a comment in TOML. A string without an end reaches as far as it can, so that the search takes linear
time."""

_KEY = re.compile(r"[\w-]++(?:[ \t]*+\.[ \t]*+[\w-]++)*+")


def _parsed_toml(content: bytes) -> dict[str, Any]:
    """Parse TOML in a time that is proportional to its size. Raises `ValueError` and `RecursionError`."""
    text = decoded(content)
    if text.count(".") >= _MAX_PARTS:
        # A string may be a part of a key, and the dots in it separate no parts.
        keys = _KEY.finditer(_STRING_OR_COMMENT.sub("s", text))
        if any(found[0].count(".") >= _MAX_PARTS for found in keys):
            raise ValueError(f"a key has more than {_MAX_PARTS} parts")
    return tomllib.loads(text)


def read_configuration(
    source: str | os.PathLike[str] | Table,
    *,
    content: bytes | None = None,
    errors: list[ConfigurationError] | None = None,
) -> Configuration:
    """Read a TOML file, or a mapping of the same form.

    Each table `[services.NAME]` has a `provider` and its settings; `[defaults]` holds settings for all services. The
    tables of other programs, `[tool.…]` and those that match a pattern in the list `ignore_tables`, are left out.
    Raises `ConfigurationError` for a file that cannot be read or has another form. If a list of `errors` is given, the
    errors of single names are added to it instead, for a caller that raises them together with those of the services.
    `content` is what was read from the file, if the caller has checked it.
    """
    if isinstance(source, Mapping):
        data, folder, origin = source, Path.cwd(), "the configuration"
    elif not isinstance(source, (str, os.PathLike)) or not isinstance(os.fspath(source), str):
        raise ConfigurationError(f"the configuration must be the path of a file or a mapping; it is {_kind(source)}")
    else:
        path = Path(source)
        folder, origin = path.absolute().parent, f"the configuration file {str(source)!r}"
        data = _read_toml(path, content, origin)
    _check_names(data, f"{origin}: at the top level")
    found: list[ConfigurationError] = []
    unknown = _unknown_at_top_level(data, origin, found)
    # The services of a table with a misspelt name are checked as well, so that all mistakes are reported at once.
    named = {_meant(name, data[name]): name for name in unknown}
    services = data.get("services", data.get(named.get("services", ""), {}))
    defaults = data.get("defaults", data.get(named.get("defaults", ""), {}))
    if not isinstance(defaults, Mapping):
        found.append(ConfigurationError(f"{origin}: [defaults] must be a table"))
        defaults = {}
    if isinstance(services, list) and services:
        found.append(
            ConfigurationError(f"{origin}: services is a list; write [services.NAME] in place of [[services]]")
        )
        services = {}
    elif not isinstance(services, Mapping) or not services:
        found.append(ConfigurationError(f"{origin} has no services; add a table [services.NAME] for each service"))
        services = {}
    _check_names(services, f"{origin}: in services")
    _check_names(defaults, f"{origin}: in [defaults]")
    every = _service_tables(services, origin, found)
    tables, compositions = split_tables(every, found)
    common = {info.name for info in setting_infos(Settings)}
    reported: dict[str, ConfigurationError] = {}
    if not defaults.keys() <= common:
        for meant, single in _unknown_defaults(defaults, common, tables, origin):
            found.append(single)
            reported[meant] = single
    if errors is None or not tables:
        raise_config_errors([*(errors or ()), *found])
    else:
        errors.extend(found)
    return Configuration(
        tables=tables,
        compositions=compositions,
        names=tuple(every),
        defaults={name: value for name, value in defaults.items() if name in common},
        folder=folder,
        reported=reported,
    )


def _read_toml(path: Path, content: bytes | None, origin: str) -> Table:
    """Return the content of a TOML file, which is read unless `content` is given. Raises `ConfigurationError`."""
    try:
        return _parsed_toml(read_file(path, MAX_FILE_SIZE) if content is None else content)
    except UnreadableFile as error:
        raise ConfigurationError(f"{origin} {error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(f"{origin} is not UTF-8 (in line {line}); save it as UTF-8") from None
    except ValueError as error:  # also a number of more than 4,300 digits
        raise ConfigurationError(f"{origin} is not TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{origin} is nested too deeply") from None


def _service_tables(services: Table, origin: str, errors: list[ConfigurationError]) -> dict[str, Table]:
    """Return the tables of the services, and add an error for each service that is no table."""
    tables: dict[str, Table] = {}
    for name, table in services.items():
        if isinstance(table, Mapping):
            _check_names(table, f"{origin}: in the service {quoted(name)}")
            if is_blank(name) or trimmed(name) != name or not name.isprintable():
                errors.append(
                    ConfigurationError(
                        f"{origin}: in services, {quoted(name)} cannot be the name of a service, which is visible text "
                        "without spaces around it"
                    )
                )
            provider = table.get("provider")
            tables[name] = {**table, "provider": trimmed(provider)} if isinstance(provider, str) else table
        else:
            errors.append(
                ConfigurationError(
                    f"{origin}: in services, {quoted(name)} is no table; each service must be one: [services.NAME]"
                )
            )
    return tables


def _unknown_at_top_level(data: Table, origin: str, errors: list[ConfigurationError]) -> list[str]:
    """Return the names at the top level that are neither known nor to be ignored, and add an error for each."""
    patterns = data.get("ignore_tables", ())
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) for pattern in patterns):
        errors.append(
            ConfigurationError(
                f"{origin}: ignore_tables must be a list of names at the top level, or patterns such as 'acme-*'"
            )
        )
        patterns = ()
    known = ("tool", *_TOP_LEVEL, *map(trimmed, patterns))
    unknown = [name for name in data if not any(fnmatchcase(name, pattern) for pattern in known)]
    providers = {item.name for item in installed(PROVIDERS)} if unknown else set()
    for name in unknown[: MAX_ERRORS + 1]:
        table = data[name]
        meant = _meant(name, table)
        hint = f"; did you mean {meant!r}?" if meant else ";"
        if isinstance(table, Mapping) and ("provider" in table or name in providers):
            hint = f"; did you mean [services.{masked(name)}]?"
        elif not isinstance(table, Mapping) and hint == ";":
            hint = "; settings belong in a table [services.NAME] or in [defaults];"
        errors.append(
            ConfigurationError(
                f"{origin} has {quoted(name)} at the top level{hint} only the tables services and defaults may be "
                "there, and those of other programs: [tool.…] and those that the list ignore_tables names, "
                f"as in ignore_tables = [{json.dumps(masked(name))}] at the start of the file"
            )
        )
    return unknown


def _meant(name: str, value: object) -> str | None:
    """Return the name that was probably meant at the top level. `services` is, if the tables in it have a provider."""
    found = nearest(name, _TOP_LEVEL)
    if found == "services" and isinstance(value, Mapping):
        tables = [table for table in value.values() if isinstance(table, Mapping)]
        return found if not value or any(nearest(key, ["provider"]) for table in tables for key in table) else None
    return found


def _unknown_defaults(
    defaults: Table, common: set[str], tables: Mapping[str, Table], origin: str
) -> Iterator[tuple[str, ConfigurationError]]:
    """Yield an error for each name in `[defaults]` that is not a setting of every service, with the one it means."""
    owners: dict[str, str] = {}
    for service, table in tables.items():
        with suppress(ConfigurationError):  # reported with the service
            provider = load_provider(provider_of(service, table))
            owners.update((info.name, provider.name) for info in setting_infos(provider.settings))
    for name in defaults:
        if name in common:
            continue
        found = nearest(name, (*common, *owners))
        if name == "ignore_tables":
            hint = "; it belongs at the start of the file, before the first table"
        elif found is None:
            hint = f"; the settings of every service are {', '.join(sorted(common))}"
        elif found in common:
            hint = f"; did you mean {found!r}?"
        elif found == name:
            hint = f"; it is a setting of the provider {owners[name]!r}, so set it in [services.NAME]"
        else:
            hint = f"; did you mean {found!r} of the provider {owners[found]!r}? Set it in [services.NAME]"
        text = f"{origin}: [defaults] has {quoted(name)}, which is not a setting of every service{hint}"
        yield found or name, ConfigurationError(text, setting=masked(name))


def _check_names(table: Mapping[Any, object], where: str) -> None:
    """Raise `ConfigurationError` if a name is not a string, which only a mapping of the application can contain."""
    for name in table:
        if not isinstance(name, str):
            raise ConfigurationError(f"{where}, all names must be strings, but one is {_kind(name)}")


def _kind(value: object) -> str:
    return "None" if value is None else f"of the type {type(value).__name__}"


def provider_of(service: str, table: Table) -> str:
    """Return the name of the provider in a service's table. Raises `ConfigurationError` if there is none."""
    provider = table.get("provider")
    if provider is not None and not isinstance(provider, str):
        raise ConfigurationError(
            f"service {service!r}: setting 'provider' must be the name of an installed provider, "
            f"not {type(provider).__name__}",
            service=service,
            setting="provider",
        )
    if provider is None or is_blank(provider):
        similar = next((name for name in table if name != "provider" and nearest(name, ["provider"])), None)
        kind = next((kind for name in table if (kind := nearest(name, KINDS)) is not None), None)
        if similar is not None:
            hint = f"; did you mean it by {masked(similar)!r}?"
        else:
            hint = f"; did you mean {kind!r}?" if kind is not None else quotes_hint(service, table)
        raise ConfigurationError(
            f"service {service!r}: setting 'provider' is required: the name of an installed provider{hint}",
            service=service,
            setting="provider",
        )
    return trimmed(provider)


def quotes_hint(service: str, table: Table) -> str:
    """Return what to say if the name of a service with a dot has no quotes: `[services.gpt-5.4]`."""
    for name, inner in table.items():
        if isinstance(inner, Mapping) and isinstance(name, str):
            full = f"{service}.{masked(name)}"
            if isinstance(inner.get("provider"), str):
                return f"; the name of a service with a dot needs quotes: [services.{json.dumps(full)}]"
            if hint := quotes_hint(full, inner):
                return hint
    return ""
