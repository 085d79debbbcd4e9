"""Settings from where people keep them: arguments, a TOML file or a mapping, and the environment.

Precedence: explicit argument > configuration file > `TRUNKLINE_<SERVICE>_<SETTING>` > the provider's customary variable
> default. A secret may be a reference: `{ env = "NAME" }`, `{ file = "…" }`, `{ keyring = "service/user" }`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, get_origin

import attrs

from trunkline.authoring.provider import Provider
from trunkline.errors import ConfigurationError
from trunkline.secrets import Secret
from trunkline.settings import SettingInfo, Settings, _plain, convert, raise_config_errors, setting_error, setting_infos

Table: TypeAlias = Mapping[str, object]

_REFERENCES = ("env", "file", "keyring")
_TOP_LEVEL = ("services", "defaults")


@attrs.frozen(kw_only=True)
class Configuration:
    """What a configuration file says, before any provider is known: a table of settings for each service."""

    services: Mapping[str, Table] = attrs.field(repr=False)
    folder: Path
    """The folder that references to files start from."""


def read_configuration(source: str | os.PathLike[str] | Table) -> Configuration:
    """Read a TOML file, or a mapping of the same form.

    Each table `[services.NAME]` has a `provider` and its settings; `[defaults]` holds settings for all of them. Raises
    `ConfigurationError` for a file that cannot be read or has another form.
    """
    if isinstance(source, Mapping):
        data, folder, where = source, Path.cwd(), "the configuration"
    else:
        path = Path(source)
        folder, where = path.absolute().parent, f"the configuration file {str(source)!r}"
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"{where} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{where} is not TOML: {error}") from None
        except RecursionError:
            raise ConfigurationError(f"{where} is nested too deeply") from None
    unknown = sorted(set(data) - set(_TOP_LEVEL))
    if unknown:
        raise ConfigurationError(
            f"{where} has {unknown[0]!r} at its top; it takes the tables {' and '.join(_TOP_LEVEL)}"
        )
    services, defaults = data.get("services", {}), data.get("defaults", {})
    if not isinstance(services, Mapping) or not services:
        raise ConfigurationError(f"{where} has no services; it takes a table [services.NAME] for each")
    if not isinstance(defaults, Mapping) or not all(isinstance(table, Mapping) for table in services.values()):
        raise ConfigurationError(f"{where}: defaults and each of services must be tables")
    common = {info.name for info in setting_infos(Settings)}
    for name in defaults:
        if name not in common:
            raise ConfigurationError(
                f"{where}: [defaults] has {name!r}; it takes what all services share: {', '.join(sorted(common))}",
                setting=name,
            )
    return Configuration(services={name: {**defaults, **table} for name, table in services.items()}, folder=folder)


def variable_name(service: str, setting: str) -> str:
    """The environment variable for a setting of a service: `TRUNKLINE_<SERVICE>_<SETTING>`."""
    return re.sub(r"[^A-Z0-9]", "_", f"TRUNKLINE_{service}_{setting}".upper())


def make_settings(
    service: str,
    provider: Provider,
    *,
    arguments: Table,
    table: Table | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """The settings of one service, from all sources. Raises `ConfigurationError` with every mistake at once."""
    environ = os.environ if environ is None else environ
    infos = setting_infos(provider.settings)
    own = {info.name: _own(service, info, environ) for info in infos}
    customary = {info.name: _customary(info, environ) for info in infos}
    sources: list[Mapping[str, object]] = [arguments, table or {}, _present(own), _present(customary)]
    errors = [_unknown(service, name, infos) for source in sources[:2] for name in sorted(set(source) - set(own))]
    values: dict[str, object] = {}
    for info in infos:
        group = [item for item in infos if item.group == info.group] if info.group else [info]
        source = next((source for source in sources if any(_gives(source, item) for item in group)), {})
        if not _gives(source, info):
            if info.required:
                errors.append(_missing(service, info))
            continue
        value = source[info.name]
        try:
            values[info.name] = convert(info, _dereferenced(value, info, environ, folder or Path.cwd()))
        except ValueError as error:
            errors.append(setting_error(info.name, f"takes {error}", service=service))
        except ConfigurationError as error:
            errors.append(setting_error(info.name, str(error), service=service))
    raise_config_errors(errors)
    try:
        return provider.settings(**values)  # type: ignore[arg-type]  # converted one by one above
    except ConfigurationError as error:
        # The settings class knows its provider; here the service is known.
        found = error.errors or (error,)
        raise_config_errors([_renamed(single, service, provider.name) for single in found])
        raise


def _gives(source: Mapping[str, object], info: SettingInfo) -> bool:
    # `None` is a value where it switches a default off; elsewhere it is how code says "not given".
    return info.name in source and (source[info.name] is not None or info.default is not None)


def _present(values: Mapping[str, str | None]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _own(service: str, info: SettingInfo, environ: Mapping[str, str]) -> Any:
    return _parsed(info, environ.get(variable_name(service, info.name)))


def _customary(info: SettingInfo, environ: Mapping[str, str]) -> Any:
    return _parsed(info, next((text for name in info.environment if (text := environ.get(name))), None))


def _parsed(info: SettingInfo, text: str | None) -> Any:
    # An empty variable is how a shell takes one back. Tables are written as JSON.
    if not text:
        return None
    origin = get_origin(_plain(info.type))
    if text.lstrip().startswith("{") and (
        info.convert is not None or (origin is not None and issubclass(origin, Mapping))
    ):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _unknown(service: str, name: str, infos: tuple[SettingInfo, ...]) -> ConfigurationError:
    names = [info.name for info in infos]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; it takes {', '.join(names)}"
    return setting_error(name, f"is not known{hint}", service=service)


def _missing(service: str, info: SettingInfo) -> ConfigurationError:
    variables = " or ".join((variable_name(service, info.name), *info.environment))
    return setting_error(
        info.name,
        f"({info.label}) is required: give it as an argument, in the configuration file, or as {variables}",
        service=service,
    )


def _renamed(error: ConfigurationError, service: str, provider: str) -> ConfigurationError:
    message = str(error).removeprefix(f"provider {provider!r}: ")
    return ConfigurationError(f"service {service!r}: {message}", service=service, setting=error.setting)


def _dereferenced(value: object, info: SettingInfo, environ: Mapping[str, str], folder: Path) -> object:
    kind = _plain(info.type)
    if kind in (str, Secret) and isinstance(value, Mapping):
        return resolve_reference(value, environ=environ, folder=folder)
    if info.name == "headers" and isinstance(value, Mapping):
        return {
            name: resolve_reference(text, environ=environ, folder=folder).reveal()
            if isinstance(text, Mapping)
            else text
            for name, text in value.items()
        }
    return value


def resolve_reference(reference: Table, *, environ: Mapping[str, str], folder: Path) -> Secret:
    """The secret that a reference names. Raises `ConfigurationError`, which names the place and never the value."""
    if len(reference) != 1 or next(iter(reference)) not in _REFERENCES:
        raise ConfigurationError('takes a string, or a reference { env = "…" }, { file = "…" } or { keyring = "…" }')
    [(kind, name)] = reference.items()
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"takes a name after {kind!r}")
    if kind == "env":
        if not environ.get(name):
            raise ConfigurationError(f"refers to the environment variable {name}, which is not set")
        return Secret(environ[name])
    if kind == "file":
        try:
            path = folder / Path(name).expanduser()
        except RuntimeError as error:  # no such user
            raise ConfigurationError(f"refers to the file {name!r}: {error}") from None
        try:
            return Secret(path.read_text(encoding="utf-8").strip())
        except OSError as error:
            raise ConfigurationError(
                f"refers to the file {str(path)!r}, which cannot be read: {error.strerror}"
            ) from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"refers to the file {str(path)!r}, which is not text") from None
    return _from_keyring(name)


def _from_keyring(name: str) -> Secret:
    service, slash, user = name.rpartition("/")
    if not slash:
        raise ConfigurationError(f"refers to the keyring entry {name!r}; it takes 'service/user'")
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise ConfigurationError("refers to the keyring, which needs: pip install 'trunkline[keyring]'") from None
    try:
        value = keyring.get_password(service, user)
    except KeyringError as error:
        raise ConfigurationError(f"refers to the keyring entry {name!r}, which cannot be read: {error}") from None
    if not value:
        raise ConfigurationError(f"refers to the keyring entry {name!r}, which does not exist")
    return Secret(value)
