"""`trunkline init`: writes a configuration file with one service; secrets stand in it by reference alone."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trunkline._config.sources import make_settings
from trunkline._plugins.registry import load_provider
from trunkline.authoring.provider import Provider
from trunkline.cli.failures import CommandError
from trunkline.cli.interview import Interview
from trunkline.cli.selection import DEFAULT_FILE, assignments
from trunkline.cli.terminal import is_terminal, print_note
from trunkline.cli.tomltext import toml_key, toml_value
from trunkline.errors import ConfigurationError
from trunkline.settings import SettingInfo, convert, setting_infos

REFERENCES = ("env", "file", "keyring")

_HEADER = """\
# Services of trunkline. Try them: trunkline check
# Secrets stand here by reference: { env = "NAME" }, { file = "PATH" } or { keyring = "service/user" }.
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
    """Write a configuration file with one service; on a terminal, ask for what the options do not say.

    Secrets are never written: the file says where each is found, in an environment variable, a file or the keyring.

    Parameters
    ----------
    provider
        The provider; `trunkline providers` lists those that are installed.
    service
        The service's name; by default the provider's.
    set_
        A setting, as name=value. May be repeated.
    secret
        Where a secret is, as setting=env:NAME, setting=file:PATH or setting=keyring:SERVICE/USER. May be repeated.
    config
        The file to write. Default: TRUNKLINE_CONFIG, else trunkline.toml in the current folder.
    force
        Replace a file that is there.
    """
    path = config or Path(os.environ.get("TRUNKLINE_CONFIG") or DEFAULT_FILE)
    if path.exists() and not force:
        raise CommandError(f"{path} is there already; --force replaces it, --config names another")
    values = assignments(set_)
    references = dict(_reference(pair) for pair in secret)
    if is_terminal(sys.stdin):
        interview = Interview(values, references)
        provider = provider or interview.provider()
        plugin = load_provider(provider)
        service = service or interview.service(provider)
        interview.settings(plugin, service)
    elif provider is None:
        raise CommandError("--provider is needed, since there is no terminal to ask on")
    else:
        plugin = load_provider(provider)
    name = service or provider
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise CommandError(f"a service's name has letters, digits, - and _, unlike {name!r}")
    table = _table(plugin, name, values, references)
    _write(path, _text(name, table), replace=force)
    print_note(f"{path} is written, for your eyes alone (mode 0600).")
    for reference in references.values():
        variable = reference.get("env")
        if variable and not os.environ.get(variable):
            print_note(f"Set the environment variable {variable} before you use the service.")
    print_note(f"Try it: trunkline check --config {path}")
    return 0


def _reference(pair: str) -> tuple[str, dict[str, str]]:
    name, _, text = pair.partition("=")
    kind, _, place = text.partition(":")
    if not name or kind not in REFERENCES or not place:
        # The text is not repeated: it may be the secret itself.
        raise CommandError("--secret takes setting=env:NAME, setting=file:PATH or setting=keyring:SERVICE/USER")
    if kind == "env" and not is_variable(place):
        raise CommandError(
            f"--secret {name}=env:… takes the NAME of an environment variable (capitals, digits and _), not a value"
        )
    return name.strip().replace("-", "_"), {kind: place}


def is_variable(name: str) -> bool:
    """Whether the text is the name of an environment variable, and not a key that was pasted in its place."""
    return name in os.environ or re.fullmatch(r"[A-Z_][A-Z0-9_]*", name) is not None


def _table(
    plugin: Provider, service: str, values: Mapping[str, object], references: Mapping[str, Mapping[str, str]]
) -> dict[str, object]:
    """The service's table. Raises `ConfigurationError` with every mistake in it."""
    infos = {info.name: info for info in setting_infos(plugin.settings)}
    for name in values:
        if name in infos and infos[name].secret:
            raise CommandError(
                f"{name} is a secret, which is not written to a file: give --secret {name}=env:NAME and set NAME"
            )
    for name in references:
        if name in infos and not infos[name].secret:
            raise CommandError(f"{name} is no secret: give --set {name}=…")
    table: dict[str, object] = {"provider": plugin.name}
    for name, value in values.items():
        table[name] = _typed(infos[name], value) if name in infos else value
    table.update(references)
    # What a reference leads to may not be there yet; everything else must be right.
    trial = {name: "set-later" if name in references else value for name, value in table.items() if name != "provider"}
    make_settings(service, plugin, arguments={}, table=trial, environ={})
    return table


def _typed(info: SettingInfo, value: object) -> object:
    try:
        converted = convert(info, value)
    except ValueError:
        return value  # told with the other mistakes
    return list(converted) if isinstance(converted, tuple) else converted if _is_plain(converted) else value


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float, str))


def _text(service: str, table: Mapping[str, object]) -> str:
    try:
        lines = [f"{toml_key(name)} = {toml_value(value)}" for name, value in table.items()]
    except TypeError as error:
        raise ConfigurationError(f"service {service!r}: a setting cannot be written: {error}") from None
    return "\n".join([_HEADER, f"[services.{toml_key(service)}]", *lines, ""])


def _write(path: Path, text: str, *, replace: bool) -> None:
    try:
        if replace:
            # A new file takes the old one's place, so that nobody who could read the old one can read this.
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
        else:
            handle, temporary = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), ""
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        if temporary:
            Path(temporary).replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None
