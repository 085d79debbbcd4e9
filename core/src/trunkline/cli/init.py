"""`trunkline init`: writes a configuration file for one service. It refers to secrets and never contains them."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trunkline._config.sources import make_settings, with_extension_settings
from trunkline._masking import looks_like_key, masked, quoted, without_dates
from trunkline._plugins.registry import load_provider
from trunkline._setting_types import extensions, is_reference, without_none
from trunkline._urls import url_secrets
from trunkline._visible_text import one_line
from trunkline.authoring.extension import ExtensionSettings
from trunkline.authoring.provider import Provider
from trunkline.cli.config_files import DEFAULT_FILE, read_safely
from trunkline.cli.failures import CommandError
from trunkline.cli.interview import Interview
from trunkline.cli.references import Reference, parse_reference, reference_problem
from trunkline.cli.selection import assignments, with_tables
from trunkline.cli.terminal import is_terminal, print_note
from trunkline.cli.tomltext import toml_key, toml_value
from trunkline.cli.trust import remember
from trunkline.errors import ConfigurationError
from trunkline.secrets import Secret, header_secrets
from trunkline.settings import SettingInfo, convert, setting_error, setting_infos

_HEADER = """\
# Services of trunkline. To test them: trunkline check
# Secrets are references: { env = "NAME" }, { file = "PATH" } or { keyring = "service/user" }.
"""


def init(
    *,
    provider: Annotated[str | None, Parameter(alias="-p")] = None,
    service: Annotated[str | None, Parameter(alias="-s")] = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = (),
    secret: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    config: Annotated[Path | None, Parameter(alias="-c")] = None,
    force: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Write a configuration file for one service. On a terminal, ask for the settings that the options do not give.

    Secrets are never written to the file. It names the environment variable, file or keyring entry of each secret.

    Parameters
    ----------
    provider
        The provider; `trunkline providers` lists the installed ones.
    service
        The name of the service. Default: the provider's name.
    set_
        A setting, as name=value. May be repeated.
    secret
        Where a secret is kept, as setting=env:NAME, setting=file:PATH or setting=keyring:SERVICE/USER. May be repeated.
    config
        The file to write. Default: TRUNKLINE_CONFIG, else trunkline.toml in the current folder.
    force
        Replace an existing file.
    """
    path = config or Path(os.environ.get("TRUNKLINE_CONFIG") or DEFAULT_FILE)
    if path.exists() and not force:
        raise CommandError(f"{path} already exists; use --force to replace it, or --config for another file")
    given = assignments(set_)
    values: dict[str, object] = {**given}
    references = dict(_secret_option(pair) for pair in secret)
    if is_terminal(sys.stdin):
        interview = Interview(values, references)
        provider = provider or interview.provider()
        plugin = load_provider(provider)
        values.update(with_tables(given, plugin))
        service = service or interview.service(provider)
        interview.settings(plugin, service)
    elif provider is None:
        raise CommandError("--provider is required, since stdin is not a terminal and no question can be asked")
    else:
        plugin = load_provider(provider)
        values.update(with_tables(given, plugin))
    name = service or provider
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise CommandError(f"the name of a service may have letters, digits, - and _ only, not {quoted(name)}")
    if looks_like_key(name):
        raise CommandError("the name of the service looks like a key, which is not written to the file")
    table = _table(plugin, name, values, references)
    _write(path, _text(name, table), replace=force)
    print_note(one_line(f"Wrote {path}. Only you can read it (mode 0600)."))
    try:
        remember(read_safely(path))
    except ConfigurationError as error:
        print_note(str(error))
    for reference in references.values():
        variable = reference.get("env")
        if variable and not os.environ.get(variable):
            print_note(f"Set the environment variable {variable} before you use the service.")
    print_note(one_line(f"To test it: trunkline check --config {shlex.quote(str(path))}"))
    return 0


def _secret_option(pair: str) -> tuple[str, Reference]:
    name, _, text = pair.partition("=")
    reference = parse_reference(text)
    if not name or reference is None:
        # The error does not repeat the text, which may be the secret itself.
        raise CommandError("--secret takes setting=env:NAME, setting=file:PATH or setting=keyring:SERVICE/USER")
    problem = reference_problem(reference)
    if problem is not None:
        raise CommandError(f"--secret {name}={next(iter(reference))}:… takes {problem}")
    return name.strip().replace("-", "_"), reference


def _table(
    plugin: Provider, service: str, values: Mapping[str, object], references: Mapping[str, Reference]
) -> dict[str, object]:
    """Return the service's table. Raises `ConfigurationError` that lists every mistake in it."""
    infos = {info.name: info for info in setting_infos(plugin.settings)}
    for name, value in values.items():
        if name in infos and infos[name].secret:
            raise CommandError(
                f"{name} is a secret, which is not written to the file: use --secret {name}=env:NAME and set NAME"
            )
        _refuse_secret(name, value)
    for name in references:
        if name in infos and without_none(infos[name].type) not in (str, Secret):
            raise CommandError(f"{name} cannot be read from elsewhere: use --set {name}=…")
    table: dict[str, object] = {"provider": plugin.name}
    for name, value in values.items():
        table[name] = _typed(infos[name], value) if name in infos else value
    table.update(references)
    # Check everything except the secrets: what the references name may not exist yet.
    trial = {name: _placeholder(value) for name, value in table.items()}
    listed = trial.pop("extensions", ())
    make_settings(service, plugin, arguments={}, table=trial, environ={})
    _check_extensions(service, listed, values.get("extensions"))
    return table


def _check_extensions(service: str, trial: object, given: object) -> None:
    """Raise an error for a mistake in the extensions, or for a secret in their tables."""
    try:
        converted = extensions(trial)
    except ValueError as error:
        raise setting_error("extensions", f"must be {error}", service=service) from None
    # Settings of an extension may also come from environment variables, for which `init` has no option.
    made = with_extension_settings(service, converted)
    tables = given if isinstance(given, (list, tuple)) else ()
    for settings, table in zip(made, tables, strict=False):
        if not isinstance(settings, ExtensionSettings) or not isinstance(table, Mapping):
            continue
        for info in setting_infos(type(settings)):
            if info.secret and isinstance(table.get(info.name), str):
                raise CommandError(_secret_in_table("extensions", info.name))


def _secret_in_table(name: str, key: str) -> str:
    return (
        f"the value of {quoted(key)} in {name} looks like a secret, which is not written to the file: give "
        f'{{"env": "NAME"}} in its place, and set the environment variable NAME'
    )


def _placeholder(value: object) -> object:
    """Return a value with a text in place of each reference in it."""
    if is_reference(value):
        return "set-later"
    if isinstance(value, list):
        return [_placeholder(item) for item in value]
    return {name: _placeholder(item) for name, item in value.items()} if isinstance(value, Mapping) else value


def _refuse_secret(name: str, value: object) -> None:
    """Raise `CommandError` for a value that holds a secret. The file would show it."""
    if isinstance(value, Mapping) and is_reference(value):
        [(kind, place)] = value.items()
        problem = reference_problem({kind: str(place)})
        if problem is not None:
            raise CommandError(f"{quoted(name)}: the reference takes {problem}")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, str) and (
                looks_like_key(key)
                or _holds_secret(item)
                # A setting of an extension may have a name like a secret's but contain a URL, such as `token_url`.
                or (any(header_secrets({key: without_dates(item)})) and not (name == "extensions" and _URL.match(item)))
            ):
                raise CommandError(_secret_in_table(name, key))
            _refuse_secret(f"{name}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_secret(name, item)
    elif isinstance(value, str) and _holds_secret(value):
        raise CommandError(
            f"the value of {quoted(name)} has a part that looks like a secret, which is not written to the file: use "
            f"--secret {masked(name)}=env:NAME and set NAME, or add it to the file yourself"
        )


_URL = re.compile(r"https?://\S+\Z")


def _holds_secret(text: str) -> bool:
    return looks_like_key(text) or (("//" in text or "@" in text) and any(url_secrets(text)))


def _typed(info: SettingInfo, value: object) -> object:
    try:
        converted = convert(info, value)
    except ValueError:
        return value  # reported together with the other mistakes
    if isinstance(converted, tuple) and all(isinstance(item, str) for item in converted):
        return list(converted)
    return converted if isinstance(converted, (bool, int, float, str)) else value


def _text(service: str, table: Mapping[str, object]) -> str:
    try:
        lines = [f"{toml_key(name)} = {toml_value(value)}" for name, value in table.items()]
    except TypeError as error:
        raise ConfigurationError(f"service {service!r}: a setting cannot be written: {error}") from None
    return "\n".join([_HEADER, f"[services.{toml_key(service)}]", *lines, ""])


def _write(path: Path, text: str, *, replace: bool) -> None:
    try:
        if replace:
            # Write a new file and rename it, so that the permissions of the old file do not apply to the new one.
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
        else:
            handle, temporary = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), ""
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        if temporary:
            Path(temporary).replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
