"""Read settings from arguments, a configuration file (or a mapping), and the environment.

For each setting the first of these sources that sets it wins. Blank text sets nothing, in any of them, and neither does
`None`, except for a limit that it turns off (see `is_given`):

1. an argument (`open_service(…, api_key=…)`, `--set` on the command line)
2. the service's table in the configuration file, then its `[defaults]`
3. the environment variable `TRUNKLINE_<SERVICE>_<SETTING>`
4. the provider's own environment variables (`SettingInfo.environment`), in their order
5. the configuration of other tools on this machine, such as AWS's profiles (`Settings.machine_values`)
6. the setting's default

Settings with the same `source_group` are looked up together: the first source that sets any of them provides all of
them.

The settings of an extension come from its entry in `extensions`, then from `TRUNKLINE_<SERVICE>_<EXTENSION>_<SETTING>`,
then from the extension's own environment variables and the defaults.

In the file, a value may be a reference: `{ env = "NAME" }`, `{ file = "PATH" }` or `{ keyring = "service/user" }`. If
the text to which it refers is blank, the next source is used.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, get_origin

import attrs

from trunkline._config.compositions import KINDS
from trunkline._config.configuration import Configuration, Table, quotes_hint
from trunkline._config.references import BLANK, REFERENCE_NOUNS, dereferenced
from trunkline._masking import masked, quoted
from trunkline._plugins.registry import load_extension
from trunkline._setting_types import ExtensionTable, is_blank, is_reference, trimmed, without_none
from trunkline._suggestions import nearest
from trunkline.authoring.extension import Extension, ExtensionSettings
from trunkline.authoring.provider import Provider
from trunkline.errors import ConfigurationError, PluginError
from trunkline.secrets import Secret
from trunkline.settings import (
    MAX_ERRORS,
    BaseSettings,
    SettingInfo,
    Settings,
    combination_errors,
    convert,
    is_given,
    raise_config_errors,
    setting_error,
    setting_infos,
)

B = TypeVar("B", bound=BaseSettings)


def variable_name(service: str, setting: str) -> str:
    """Return the name of the environment variable for a setting of a service: `TRUNKLINE_<SERVICE>_<SETTING>`."""
    return re.sub(r"[^A-Z0-9]", "_", f"TRUNKLINE_{service}_{setting}".upper())


@attrs.define
class VariableReaders:
    """Which setting each variable `TRUNKLINE_…` was read for, among the services of one configuration.

    Services such as `my-llm` and `my_llm` have the same variables, and `TRUNKLINE_A_B_C` is the setting `c` of the
    service `a-b`, and `b_c` of `a`. Only a variable that is in fact read for both is a mistake: see `errors`.
    """

    readers: dict[str, str] = attrs.field(factory=dict)
    errors: list[ConfigurationError] = attrs.field(factory=list)

    def add(self, variable: str, *, service: str, owner: str, setting: str) -> None:
        """Note that a variable was read for a setting. `owner` names the service, and the extension if it is of one."""
        reader = f"the setting {setting!r} of {owner}"
        other = self.readers.setdefault(variable, reader)
        if other != reader:
            self.errors.append(
                ConfigurationError(
                    f"the environment variable {variable} would set both {other} and {reader}; rename one of the "
                    "services, or set one of these settings in the configuration file",
                    service=service,
                    setting=setting,
                )
            )


def make_settings(
    service: str,
    provider: Provider,
    *,
    arguments: Table,
    table: Table | None = None,
    defaults: Table | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    variables: VariableReaders | None = None,
    not_from_machine: Container[str] = (),
    reported: Mapping[str, ConfigurationError] | None = None,
) -> Settings:
    """Make the settings of one service, and those of its extensions, from all sources.

    `arguments`, `table` and `defaults` map names of settings to values; the `provider` in `table` is ignored. `environ`
    defaults to the process's environment, and `folder`, which the paths in `table` and `defaults` are relative to, to
    the current one. `variables` notes which variables are read. `not_from_machine` names the settings that do not come
    from `Settings.machine_values`. `reported` is that of the configuration. Raises one `ConfigurationError` that lists
    every mistake.
    """
    table = {name: value for name, value in (table or {}).items() if name != "provider"}
    places = _Places(
        environ=os.environ if environ is None else environ,
        folder=folder or Path.cwd(),
        variables=variables,
        reported=reported or {},
    )
    made = _Maker(kind=provider.settings, service=service, places=places)
    values, errors = made.values(arguments, table, defaults or {})
    # A wrong value still counts as given: neither the machine nor a default replaces it.
    found, more = _from_machine(made, {**dict.fromkeys(made.wrong(errors), _WRONG), **values}, not_from_machine)
    values.update(found)
    errors += more
    if "extensions" in values:
        extensions, more = _with_settings(service, values["extensions"], places)
        values["extensions"] = extensions
        errors += more
    return made.settings(values, errors)


_WRONG = object()


def _from_machine(
    made: _Maker[Settings], given: Mapping[str, object], left_out: Container[str]
) -> tuple[dict[str, object], list[ConfigurationError]]:
    """Return the converted values of `Settings.machine_values`, and the errors.

    Settings that are `given` or `left_out` are not among them.
    """
    values: dict[str, object] = {}
    errors: list[ConfigurationError] = []
    try:
        found = made.kind.machine_values(given, made.places.environ)
    except ConfigurationError as error:
        return {}, [made.with_service(error)]
    for info in setting_infos(made.kind):
        if info.name in found and info.name not in given and info.name not in left_out:
            value, origin = found[info.name]
            try:
                values[info.name] = convert(info, value)
            except ValueError as error:
                errors.append(made.error(info.name, f"must be {error} (from {origin})"))
    return values, errors


def check_defaults(
    configuration: Configuration, environ: Mapping[str, str] | None = None
) -> tuple[Configuration, list[ConfigurationError]]:
    """Return the configuration without the defaults that are wrong, and the errors.

    So a mistake in `[defaults]` is reported once, and not for each service.
    """
    places = _Places(environ=os.environ if environ is None else environ, folder=configuration.folder)
    values, errors = _Maker(kind=Settings, service=None, places=places).values({}, {}, configuration.defaults)
    wrong = {error.setting for error in errors}
    _, of_extensions = _with_settings(None, values.get("extensions", ()), places)
    if of_extensions:
        wrong.add("extensions")
    defaults = {name: value for name, value in configuration.defaults.items() if name not in wrong}
    reported = {**configuration.reported, **{error.setting or "": error for error in errors}}
    if of_extensions:
        reported["extensions"] = of_extensions[0]
    return attrs.evolve(configuration, defaults=defaults, reported=reported), [*errors, *of_extensions]


def with_extension_settings(service: str, extensions: Sequence[object]) -> tuple[object, ...]:
    """Return the extensions of a settings object that was made in code, as `make_settings` makes them.

    Their settings come from the tables in `extensions` and from the environment. Raises one `ConfigurationError` that
    lists every mistake.
    """
    found, errors = _with_settings(service, extensions, _Places(environ=os.environ, folder=Path.cwd()))
    raise_config_errors(errors)
    return found


@attrs.frozen(kw_only=True)
class _Places:
    """The environment that references read, and the folder that relative paths start from."""

    environ: Mapping[str, str] = attrs.field(repr=False)
    folder: Path
    variables: VariableReaders | None = None
    reported: Mapping[str, ConfigurationError] = attrs.field(factory=dict, repr=False)


@attrs.frozen(kw_only=True)
class _Maker(Generic[B]):
    """Makes the settings of one plugin.

    `service` is `None` for the settings in `[defaults]`. If the plugin is an extension, `extension` is its name.
    `entry` is its place in the setting `extensions`, such as `extensions[1]`, if several entries have that name.
    """

    kind: type[B]
    service: str | None
    places: _Places
    extension: str = ""
    entry: str = ""

    @property
    def _prefix(self) -> str:
        return f"{self.service}_{self.extension}" if self.extension else f"{self.service}"

    def error(self, setting: str, problem: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._owner}: setting {setting!r} {problem}", service=self.service, setting=setting
        )

    @property
    def _owner(self) -> str:
        entry = f" ({self.entry})" if self.entry else ""
        service = "[defaults]" if self.service is None else f"service {self.service!r}"
        return service + (f", extension {self.extension!r}{entry}" if self.extension else "")

    def values(
        self, arguments: Table, table: Table, defaults: Table
    ) -> tuple[dict[str, Any], list[ConfigurationError]]:
        """Return the converted values of all settings that a source sets, and the errors."""
        environ = self.places.environ
        infos = setting_infos(self.kind)
        known = {info.name for info in infos}
        # Highest precedence first.
        sources: list[Table] = [arguments, table, defaults]
        unknown = [name for source in sources for name in sorted(set(source) - known)]
        errors = [
            self._unknown(name, infos, arguments.get(name, table.get(name))) for name in unknown[: MAX_ERRORS + 1]
        ]
        misspelt = self.wrong(errors)
        from_service_variables: Table = {}
        if self.service is not None:
            from_service_variables = _without_none(
                {info.name: _service_variable(self._prefix, info, environ) for info in infos}
            )
            from_plugin_variables = _without_none({info.name: _plugin_variable(info, environ) for info in infos})
            sources += [from_service_variables, from_plugin_variables]
        values: dict[str, Any] = {}
        for group in _groups(infos):
            # The first source that sets any setting of a group is used for the whole group. Otherwise an access key
            # from the file could be paired with the secret of another account from the environment.
            given: Table = {}
            source: Table = {}
            for source in sources:
                given = self._given(group, source)
                if given:
                    break
            for info in group:
                if info.name not in given:
                    if info.name in self.places.reported and not self.extension:
                        errors.append(self.places.reported[info.name])
                    elif info.required and self.service is not None and info.name not in misspelt:
                        errors.append(self._missing(info, sources))
                    continue
                if source is from_service_variables:
                    self._note_variable(info)
                try:
                    values[info.name] = self._converted(
                        info, given[info.name], in_file=source is table or source is defaults
                    )
                except ValueError as error:
                    errors.append(self.error(info.name, f"must be {error}"))
                except PluginError:
                    raise
                except ConfigurationError as error:
                    errors += [self.error(info.name, str(single)) for single in error.errors or (error,)]
        return values, errors

    def _converted(self, info: SettingInfo, value: object, *, in_file: bool) -> object:
        """Convert one value of `_given`, or raise it if it is an error."""
        if isinstance(value, ConfigurationError):
            raise value
        converted = convert(info, value)
        if info.path and in_file and isinstance(converted, str):
            return str(self.places.folder / converted)  # relative to the file that contains it
        return converted

    def _given(self, group: Sequence[SettingInfo], source: Table) -> dict[str, object]:
        """Return the values of the settings that a source sets, and the error of a reference in place of its value."""
        given: dict[str, object] = {}
        for info in group:
            if info.name not in source or not is_given(info, source[info.name]):
                continue
            try:
                value = dereferenced(source[info.name], info, self.places.environ, self.places.folder)
            except ConfigurationError as error:
                given[info.name] = error
            else:
                if value is not BLANK:
                    given[info.name] = value
        return given

    def _note_variable(self, info: SettingInfo) -> None:
        if self.places.variables is not None and self.service is not None:
            owner = f"the service {self.service!r}" + (f", extension {self.extension!r}" if self.extension else "")
            variable = variable_name(self._prefix, info.name)
            self.places.variables.add(variable, service=self.service, owner=owner, setting=info.name)

    def wrong(self, errors: Sequence[ConfigurationError]) -> set[str]:
        """Return the settings to which errors refer, also those that were meant by a misspelt name."""
        names = [info.name for info in setting_infos(self.kind)]
        meant = {nearest(error.setting, names) for error in errors if error.setting}
        return {name for name in meant if name} | {name for name, e in self.places.reported.items() if e in errors}

    def settings(self, values: Mapping[str, Any], errors: Sequence[ConfigurationError]) -> B:
        """Return the settings with these values. Raises one `ConfigurationError` that lists every mistake.

        `errors` are those that were found so far.
        """
        if errors:
            more = combination_errors(self.kind, values, self.wrong(errors))
            raise_config_errors([*errors, *map(self.with_service, more)])
        try:
            return self.kind(**values)
        except PluginError:
            raise
        except ConfigurationError as error:
            # The settings class names only the plugin in its errors; users look for the service.
            raise_config_errors([self.with_service(single) for single in error.errors or (error,)])
            raise

    def _unknown(self, name: str, infos: tuple[SettingInfo, ...], value: object) -> ConfigurationError:
        names = [info.name for info in infos]
        found = (None if self.extension else _composing_key(name, value)) or nearest(name, names)
        hint = f"; did you mean {found!r}?" if found else f"; the settings are {', '.join(names) or 'none'}"
        if found == name:  # not in a configuration file, where it is a key of the table
            hint = f"; only a configuration file has it. In code, use trunkline.{name.removesuffix('s')}"
        elif name == "ignore_tables":
            hint = "; it belongs at the start of the file, before the first table"
        elif isinstance(value, Mapping) and not self.extension:
            hint = quotes_hint(str(self.service), {name: value}) or hint
        return self.error(masked(name), f"does not exist{hint}")

    def _missing(self, info: SettingInfo, sources: Sequence[Table]) -> ConfigurationError:
        variables = " or ".join((variable_name(self._prefix, info.name), *info.environment))
        where = "in its table in `extensions`" if self.extension else "as an argument, in the configuration file"
        blank = next((source[info.name] for source in sources if source.get(info.name) is not None), None)
        note = "" if blank is None else "; the value that is given is blank"
        if isinstance(blank, Mapping) and is_reference(blank):
            [(kind, name)] = blank.items()
            note = f"; the {REFERENCE_NOUNS[kind]} {quoted(str(name))}, to which it refers, is blank"
        return self.error(info.name, f"({info.label}) is required: set it {where}, or in {variables}{note}")

    def with_service(self, error: ConfigurationError) -> ConfigurationError:
        kind, name = self.kind.belongs_to()
        message = str(error).removeprefix(f"{kind} {name!r}: ")
        message = message.replace("TRUNKLINE_<SERVICE>_", variable_name(self._prefix, ""))
        return ConfigurationError(f"{self._owner}: {message}", service=self.service, setting=error.setting)


def _with_settings(
    service: str | None, extensions: Sequence[object], places: _Places
) -> tuple[tuple[object, ...], list[ConfigurationError]]:
    """Return the extensions, with settings in place of names and tables of those that have settings, and the errors."""
    found: list[object] = []
    errors: list[ConfigurationError] = []
    names = [one.name if isinstance(one, ExtensionTable) else one if isinstance(one, str) else "" for one in extensions]
    for number, extension in enumerate(extensions):
        entry = f"extensions[{number}]" if names.count(names[number]) > 1 else ""
        try:
            found.append(_configured(service, extension, places, entry))
        except PluginError as error:
            error.service = error.service or service
            if service is not None:
                raise
            errors.append(error)
        except ConfigurationError as error:
            error.service = error.service or service
            errors.append(error)
    return tuple(found), errors


def _configured(service: str | None, extension: object, places: _Places, entry: str) -> object:
    if not isinstance(extension, (str, ExtensionTable)):
        return extension
    name, table = (extension, {}) if isinstance(extension, str) else (extension.name, extension.settings)
    loaded = load_extension(name)
    if isinstance(loaded, Extension):
        made: _Maker[ExtensionSettings] = _Maker(
            kind=loaded.settings, service=service, places=places, extension=name, entry=entry
        )
        values, errors = made.values({}, table, {})
        if service is None:
            raise_config_errors(errors)
            return extension
        return made.settings(values, errors)
    if table:
        setting = masked(next(iter(table)))
        raise setting_error(setting, "does not exist: the extension has no settings", service=service, extension=name)
    return name


def _groups(infos: Sequence[SettingInfo]) -> list[list[SettingInfo]]:
    """Return the settings that are taken from one source together, each of the others by itself."""
    groups: dict[str, list[SettingInfo]] = {}
    for info in infos:
        groups.setdefault(f"group {info.source_group}" if info.source_group else info.name, []).append(info)
    return list(groups.values())


def _without_none(values: Table) -> Table:
    return {name: value for name, value in values.items() if value is not None}


def _service_variable(service: str, info: SettingInfo, environ: Mapping[str, str]) -> Any:
    return _parsed(info, environ.get(variable_name(service, info.name)))


def _plugin_variable(info: SettingInfo, environ: Mapping[str, str]) -> Any:
    return _parsed(
        info, next((text for name in info.environment if not is_blank(text := environ.get(name) or "")), None)
    )


def _parsed(info: SettingInfo, text: str | None) -> object:
    try:
        return None if text is None else json_or_text(info, text)
    except ValueError:
        return text


def json_or_text(info: SettingInfo, text: str) -> object:
    """Return the table, the list or the reference that a text means for a setting, or the text.

    Where only text is possible, that is in the environment and on the command line, tables are written as JSON, and
    lists may be. Raises `ValueError` if the setting may be a table or a list, and the text starts as one but is not
    JSON.
    """
    kind = without_none(info.type)
    takes_list = get_origin(kind) is tuple
    if not trimmed(text).startswith(("[", "{") if takes_list else "{"):
        return text
    takes_table = kind not in (str, Secret) or (kind is str and info.convert is not None)
    try:
        value = json.loads(trimmed(text))
    except (ValueError, RecursionError) as error:
        if takes_table and kind is not str:
            raise ValueError(str(error)) from None
        return text
    return value if takes_table or is_reference(value) else text


def _composing_key(name: str, value: object) -> str | None:
    """Return the key of a composed service, or `limits`, if an unknown setting with such a value is probably meant."""
    if isinstance(value, Mapping) and nearest(name, ("limits",)):
        return "limits"
    return nearest(name, KINDS) if isinstance(value, (list, tuple, Mapping)) else None
