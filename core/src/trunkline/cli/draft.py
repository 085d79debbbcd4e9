"""The service that `trunkline init` is about to write, and what is wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from trunkline._config.sources import make_settings, variable_name, with_extension_settings
from trunkline._masking import is_key_id, looks_like_key, masked, quoted, without_dates
from trunkline._setting_types import extensions, is_blank, is_reference, without_none
from trunkline._urls import split_url, url_secrets
from trunkline.authoring.extension import ExtensionSettings
from trunkline.authoring.provider import Provider
from trunkline.cli.failures import CommandError
from trunkline.cli.references import Reference, reference_problem
from trunkline.errors import ConfigurationError, PluginError
from trunkline.secrets import Secret, header_secrets
from trunkline.settings import SettingInfo, Settings, convert, setting_error, setting_infos

_PACKAGE = re.compile(r"needs [^:]*: (pip install '[^']+')")
"""What an error says about a package that is not installed. The machine that will use the service may have it."""


@attrs.define(kw_only=True)
class Draft:
    """A service: the values of its settings, and the references of those whose value is kept elsewhere.

    `others` are the tables of the other services of the file, `defaults` are the settings that it gives to every
    service, and `folder` is its folder.
    """

    plugin: Provider
    service: str
    values: dict[str, object]
    references: dict[str, Reference]
    others: Mapping[str, object]
    defaults: Mapping[str, object]
    folder: Path

    @property
    def infos(self) -> dict[str, SettingInfo]:
        """The descriptions of the provider's settings, by name."""
        return {info.name: info for info in setting_infos(self.plugin.settings)}

    def table(self) -> dict[str, object]:
        """Return the service's table as the file will have it."""
        table: dict[str, object] = {"provider": self.plugin.name}
        for name, value in self.values.items():
            if name not in self.infos:
                table[name] = value  # reported by `mistakes`, even if it is blank
            elif not is_blank(value):
                table[name] = _typed(self.infos[name], value)
        return {**table, **self.references}

    def refuse_secrets(self) -> None:
        """Raise `CommandError` for values that the file must not show, and for references that it cannot have."""
        problems = [problem for name, value in self.values.items() for problem in self._secrets_in(name, value)]
        problems += [
            f"{name} cannot be read from elsewhere: use --set {name}=…"
            for name in self.references
            if name in self.infos and not may_be_reference(self.infos[name])
        ]
        if problems:
            raise CommandError("\n".join(problems))

    def _secrets_in(self, name: str, value: object) -> Iterator[str]:
        if name in self.infos and self.infos[name].secret and not (is_blank(value) or is_reference(value)):
            yield f"{name} is a secret, which is not written to the file: use --secret {name}=env:NAME and set NAME"
            return
        problem = secret_problem(name, value)
        if problem is not None:
            yield problem

    def mistakes(self) -> tuple[ConfigurationError, ...]:
        """Return every mistake, except packages that are not installed yet.

        What the references name may not exist yet, so their secrets are not checked.
        """
        return tuple(error for error in self._errors() if not _PACKAGE.search(str(error)))

    def _errors(self) -> list[ConfigurationError]:
        found: list[ConfigurationError] = []
        try:
            self.trial()
        except PluginError:
            raise
        except ConfigurationError as error:
            found += error.errors or (error,)
        try:
            self._check_extensions()
        except ConfigurationError as error:
            for single in error.errors or (error,):
                single.setting = "extensions"  # rather than the extension's own setting
                found.append(single)
        return found

    def trial(self) -> Settings:
        """Return the settings, without extensions, with a text in place of each reference.

        What the table leaves out may come from this machine, such as the region from an AWS profile. Raises
        `ConfigurationError`.
        """
        table = {name: placeholder(value) for name, value in {**self.defaults, **self.table()}.items()}
        table.pop("extensions", None)
        return make_settings(
            self.service, self.plugin, arguments={}, table=table, environ=self._environment(), folder=self.folder
        )

    def _environment(self) -> Mapping[str, str]:
        """Return the environment without the variables of secrets and of required settings.

        The file itself must contain these settings, since a process with another environment may read it. The same
        goes for the settings that are taken from one source together with a secret.
        """
        infos = self.infos.values()
        groups = {info.source_group for info in infos if info.secret and info.source_group}
        in_file = [info for info in infos if info.required or info.secret or info.source_group in groups]
        left_out = {name for info in in_file for name in (*info.environment, variable_name(self.service, info.name))}
        return {name: text for name, text in os.environ.items() if name not in left_out}

    def _check_extensions(self) -> None:
        """Raise an error for a mistake in the extensions, or for a secret in their tables."""
        listed = {**self.defaults, **self.table()}.get("extensions", ())
        try:
            converted = extensions(placeholder(listed))
        except ValueError as error:
            raise setting_error("extensions", f"must be {error}", service=self.service) from None
        # Settings of an extension may also come from environment variables, for which `init` has no option.
        made = with_extension_settings(self.service, converted)
        given = self.values.get("extensions")
        tables = given if isinstance(given, (list, tuple)) else ()
        for settings, table in zip(made, tables, strict=False):
            if not isinstance(settings, ExtensionSettings) or not isinstance(table, Mapping):
                continue
            for info in setting_infos(type(settings)):
                if info.secret and isinstance(table.get(info.name), str):
                    raise CommandError(_secret_in_table("extensions", info.name))

    def missing_packages(self) -> list[str]:
        """Return the commands that install what the service needs and this machine lacks."""
        found = (_PACKAGE.search(str(error)) for error in self._errors())
        return list(dict.fromkeys(match[1] for match in found if match))

    def variables(self, info: SettingInfo) -> list[str]:
        """Return names of environment variables for a secret, the best one first. No other service has them."""
        own = variable_name(self.service, info.name)
        names = (*info.environment, own, *(f"{own}_{number}" for number in range(2, len(self.others) + 3)))
        return [name for name in names if self.owner(name, info.name) is None]

    def owner(self, variable: str, setting: str) -> str | None:
        """Return the other service whose secret an environment variable contains, or `None`."""
        return next(
            (
                name
                for name, table in self.others.items()
                if variable in (variable_name(name, setting), *_variables(table))
            ),
            None,
        )

    def settings(self) -> Settings:
        """Return the settings with the secrets that the references name. Raises `ConfigurationError`."""
        table = {**self.defaults, **self.table()}
        return make_settings(self.service, self.plugin, arguments={}, table=table, folder=self.folder)


def _variables(value: object) -> Iterator[object]:
    """Yield the names of the environment variables to which references in a value lead."""
    if isinstance(value, Mapping) and is_reference(value):
        if "env" in value:
            yield value["env"]
    elif isinstance(value, (list, Mapping)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _variables(item)


def may_be_reference(info: SettingInfo) -> bool:
    """Whether the value of a setting may be kept elsewhere: it is a text."""
    return without_none(info.type) in (str, Secret)


def placeholder(value: object) -> object:
    """Return a value with a text in place of each reference in it."""
    if is_reference(value):
        return "set-later"
    if isinstance(value, list):
        return [placeholder(item) for item in value]
    return {name: placeholder(item) for name, item in value.items()} if isinstance(value, Mapping) else value


def secret_problem(name: str, value: object) -> str | None:
    """Return a sentence about a secret in the value of a setting, which the file would show, or `None`."""
    if isinstance(value, Mapping) and is_reference(value):
        [(kind, place)] = value.items()
        problem = reference_problem({kind: str(place)})
        return None if problem is None else f"{quoted(name)}: the reference takes {problem}"
    problems: Iterator[str | None] = iter(())
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, str) and (
                looks_like_key(key)
                or holds_secret(name, item)
                # A setting of an extension may have a name like a secret's but contain a URL, such as `token_url`.
                or (any(header_secrets({key: without_dates(item)})) and not (name == "extensions" and _URL.match(item)))
            ):
                return _secret_in_table(name, key)
        problems = (secret_problem(f"{name}.{key}", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        problems = (secret_problem(name, item) for item in value)
    elif isinstance(value, str) and holds_secret(name, value):
        return (
            f"the value of {quoted(name)} has a part that looks like a secret, which is not written to the file: use "
            f"--secret {masked(name)}=env:NAME and set NAME, or add it to the file yourself"
        )
    return next((problem for problem in problems if problem is not None), None)


def _secret_in_table(name: str, key: str) -> str:
    return (
        f"the value of {quoted(key)} in {name} looks like a secret, which is not written to the file: give "
        f'{{"env": "NAME"}} in its place, and set the environment variable NAME'
    )


_URL = re.compile(r"https?://\S+\Z")
_LACKS_SLASHES = re.compile(r"https?:(?!//)", re.IGNORECASE)
"""The start of a URL such as `https:/host`. Without any scheme, the provider decides which one a URL gets."""


def holds_secret(name: str, text: str) -> bool:
    """Whether the text of a setting is or contains what looks like a key, a login or a secret in the query of a URL.

    The id of a key is accepted in a setting whose name ends in `key_id`. Anywhere else, the user mixed up two fields.
    """
    if name.endswith("key_id") and is_key_id(text):
        return False
    return looks_like_key(text) or (("//" in text or "@" in text) and any(url_secrets(text)))


def _typed(info: SettingInfo, value: object) -> object:
    try:
        converted = convert(info, value)
        if info.base_url is not None and isinstance(converted, str) and _LACKS_SLASHES.match(converted):
            return split_url(converted)[0].geturl()
    except ValueError:
        return value  # reported together with the other mistakes
    if isinstance(converted, tuple) and all(isinstance(item, str) for item in converted):
        return list(converted)
    return converted if isinstance(converted, (bool, int, float, str)) else value
