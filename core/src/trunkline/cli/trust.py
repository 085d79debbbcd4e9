"""`trunkline trust`: accepts a configuration file that somebody else may have written."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trunkline._config.configuration import Table
from trunkline._config.sources import variable_name
from trunkline._masking import MASK, looks_like_key, without_keys
from trunkline._plugins.registry import load_extension, load_provider
from trunkline._setting_types import ExtensionTable, extensions, is_blank, is_reference, safe_repr, without_none
from trunkline._urls import ascii_host, clean_url, redact_url, split_url
from trunkline._visible_text import one_line
from trunkline.authoring.extension import Extension, ExtensionSettings
from trunkline.cli.config_files import (
    DEFAULT_FILE,
    ConfigurationFile,
    configuration_of,
    distrust_file,
    is_trusted,
    link_target,
    read_safely,
    trust_file,
)
from trunkline.cli.failures import CommandError
from trunkline.cli.terminal import is_terminal, print_note, write
from trunkline.errors import ConfigurationError, TrunklineError
from trunkline.secrets import Headers, Secret, header_secrets
from trunkline.settings import SettingInfo, Settings, setting_infos

MAX_LINES = 20
"""How many services, and how many other settings of one, are shown: a long file must not push the rest away."""

MAX_SENT = 100
"""How many hosts and secrets of one service are shown. A file with more is not trusted, since nobody would read it."""

MAX_HOST = 300
"""The longest host that is shown whole, in characters. A valid one has at most 253, and a port."""

MAX_PATH = 400
"""The longest path of a file that is shown whole, in characters."""


def trust(
    file: Path = Path(DEFAULT_FILE), /, *, revoke: Annotated[bool, Parameter(negative="", show_default=False)] = False
) -> int:
    """Accept a configuration file: commands in its folder then use it without a question, until it changes.

    Shows what the file does: to which hosts it sends which variables and files.

    Parameters
    ----------
    file
        The configuration file. Default: trunkline.toml in the current folder.
    revoke
        Forget that the file was accepted.
    """
    if revoke:
        shown = one_line(str(file))
        print_note(f"{shown} is not trusted any more." if distrust_file(file) else f"{shown} was not trusted.")
        return 0
    found = read_safely(file)
    describe(found)
    trust_file(found)
    undo = "trunkline trust --revoke" + ("" if str(file) == DEFAULT_FILE else f" {shlex.quote(str(file))}")
    print_note(one_line(f"{file} is trusted until it changes. To undo: {undo}"))
    return 0


def ask_for_trust(path: Path) -> ConfigurationFile:
    """Read a file that was found rather than named. Unless its content is trusted, show what it does, and ask.

    Raises `CommandError` if the answer is no, or if there is no terminal to ask on.
    """
    found = read_safely(path)
    if is_trusted(found):
        return found
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise CommandError(
            f"{one_line(str(path.absolute()))} may come from somebody else and is not trusted yet. Read it, and run "
            f"`trunkline trust`, or name it with --config"
        )
    print_note(f"{one_line(str(path.absolute()))} may come from somebody else, and is new or has changed.")
    describe(found)
    write("Trust this file? [y/N] ", sys.stderr)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError("the configuration file is not trusted, and nothing was sent")
    remember(found)
    return found


def remember(found: ConfigurationFile) -> None:
    """Trust a file from now on, or say why it cannot be remembered."""
    try:
        trust_file(found)
    except OSError as error:
        print_note(one_line(f"It cannot be remembered that {found.path} is trusted: {error.strerror}"))


def describe(found: ConfigurationFile) -> None:
    """Show what a file does. Raises `ConfigurationError` if it is no configuration file, or does too much to show."""
    configuration = configuration_of(found, errors=[])
    for name, table in list(configuration.services.items())[:MAX_LINES]:
        print_note(one_line(f"  service {_short(name)}, provider {_short(table.get('provider'))}"))
        sent, others = _effects(name, table, configuration.folder)
        # A default is used in place of a reference to a blank text.
        hidden = {key for key in configuration.defaults if is_reference(table.get(key))}
        others += (f"{key} = {_short(configuration.defaults[key])} if its reference is blank" for key in hidden)
        if len(sent) > MAX_SENT:
            raise ConfigurationError(
                f"{found.path}: service {_short(name)!r} sends {len(sent)} values to hosts, too many to be shown; read "
                "the file, and name it with --config"
            )
        for line in (*sent, *others[:MAX_LINES]):
            print_note(one_line(f"    {line}"))
        if len(others) > MAX_LINES:
            print_note(f"    and {len(others) - MAX_LINES} more: read the file")
    if len(configuration.services) > MAX_LINES:
        print_note(f"  and {len(configuration.services) - MAX_LINES} more services: read the file")


def _effects(service: str, table: Table, folder: Path) -> tuple[list[str], list[str]]:
    """Return to whom a service sends which secrets, and its other settings. Secrets in the file are not shown."""
    provider = _settings_class(table.get("provider"))
    infos = setting_infos(provider)
    known = {info.name: info for info in infos}
    # Settings that do not exist come last: they could push the others off the screen.
    settings = {name: table[name] for name in sorted(table, key=lambda name: name not in known) if name != "provider"}
    addresses = {name: value for name, value in settings.items() if _is_address(name, value)}
    sent = [f"sends to: {_address(str(value))} ({_short(name)})" for name, value in addresses.items()]
    if not addresses.keys() & {info.name for info in infos if info.base_url is not None}:
        sent.append("sends to: the address of the provider")
    others: list[str] = []
    for setting, literal in _literals("headers", settings.get("headers")):
        # The header `Host` decides who gets the request.
        (sent if setting.lower() == "headers.host" else others).append(f"{_short(setting)} = {literal}")
    for name, value in settings.items():
        sent += (f"reads and sends {reference} ({_short(at)})" for at, reference in _references(value, name, folder))
    credentials = {info.name for info in infos if info.secret} - {info.name for info in setting_infos(Settings)}
    # A blank text, and a reference to one, leave the choice to the next source.
    set_here = {name for name, value in settings.items() if not is_blank(value) and not is_reference(value)}
    has_credentials = not credentials.isdisjoint(set_here)
    for info in infos:
        # The provider's variables are read without being named in the file.
        used = _variable_in_use(service, info)
        if used is not None and info.name not in set_here and settings.get(info.name) != {"env": used}:
            has_credentials = has_credentials or info.name in credentials
            sent.append(f"reads and sends the environment variable {used} ({info.name})")
    if provider.ambient_credentials and not has_credentials:
        sent.append(f"sends {provider.ambient_credentials}")
    named = _extensions(settings.get("extensions"))
    if named:
        others.append(f"extensions = {_short(', '.join(extension.name for extension in named))}")
    for extension in named:
        more, rest = _effects_of_extension(service, extension, folder)
        sent += more
        others += rest
    for name, value in settings.items():
        if name == "headers" or (name == "extensions" and named):
            continue
        if isinstance(value, Mapping):
            others += (f"{_short(setting)} = {literal}" for setting, literal in _literals(name, value))
        elif name not in addresses:
            hidden = name not in known or known[name].secret
            others.append(f"{_short(name)} = {MASK if hidden else _short(value)}")
    return sent, others


def _extensions(value: object) -> tuple[ExtensionTable, ...]:
    """Return the extensions that a service names, or none if the value has another form, which is an error later."""
    try:
        found = () if value is None else extensions(value)
    except ValueError:
        return ()
    return tuple(
        item if isinstance(item, ExtensionTable) else ExtensionTable(item, {})
        for item in found
        if isinstance(item, (str, ExtensionTable))
    )


def _effects_of_extension(service: str, extension: ExtensionTable, folder: Path) -> tuple[list[str], list[str]]:
    """Return to whom an extension of a service sends which secrets, and its other settings, as `_effects` does."""
    known = {info.name: info for info in setting_infos(_settings_of_extension(extension.name))}
    values = {name: extension.settings[name] for name in sorted(extension.settings, key=lambda name: name not in known)}
    sent: list[str] = []
    others: list[str] = []
    for name, value in values.items():
        at = f"extensions.{extension.name}.{name}"
        sent += (
            f"reads and sends {reference} ({_short(place)})" for place, reference in _references(value, at, folder)
        )
        if _is_address(name, value):
            sent.append(f"sends to: {_address(str(value))} ({_short(at)})")
        elif isinstance(value, Mapping):
            others += (f"{_short(setting)} = {literal}" for setting, literal in _literals(at, value))
        else:
            hidden = name not in known or known[name].secret
            others.append(f"{_short(at)} = {MASK if hidden else _short(value)}")
    for info in known.values():
        used = _variable_in_use(f"{service}_{extension.name}", info)
        value = values.get(info.name)
        if used is not None and value != {"env": used} and (value is None or is_blank(value) or is_reference(value)):
            sent.append(f"reads and sends the environment variable {used} ({_short(extension.name)}.{info.name})")
    return sent, others


def _variable_in_use(owner: str, info: SettingInfo) -> str | None:
    """Return the environment variable that a setting with credentials comes from, if one is set.

    `owner` is the service, or the service and the extension, as in the names of variables.
    """
    if without_none(info.type) not in (Secret, Headers):
        return None
    names = (variable_name(owner, info.name), *info.environment)
    return next((name for name in names if not is_blank(os.environ.get(name, ""))), None)


def _settings_of_extension(name: str) -> type[ExtensionSettings]:
    try:
        loaded = load_extension(name)
    except TrunklineError:  # reported when the service is used
        return ExtensionSettings
    return loaded.settings if isinstance(loaded, Extension) else ExtensionSettings


def _literals(setting: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the names and values that a table contains, except references."""
    if is_reference(value) or not isinstance(value, Mapping):
        return
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _literals(f"{setting}.{name}", item)
            continue
        hidden = name.lower() != "host" and any(header_secrets({name: str(item)}))
        yield f"{setting}.{name}", MASK if hidden else _short(item)


def _settings_class(provider: object) -> type[Settings]:
    if isinstance(provider, str):
        try:
            return load_provider(provider).settings
        except TrunklineError:
            pass  # reported when the service is used
    return Settings


def _is_address(setting: str, value: object) -> bool:
    return isinstance(value, str) and ("://" in value or bool(re.search("url|endpoint|proxy", setting)))


def _address(url: str) -> str:
    """Return a URL without its secrets. Only its path is cut: the end of a host says whose it is."""
    url = clean_url(url)
    if re.match(r"https?:[/\\]?(?![/\\])|https?:\\", url, re.IGNORECASE):
        with suppress(ValueError):
            url = split_url(url)[0].geturl()  # `https:/host` leads to this host
    scheme, separator, rest = redact_url(url).rpartition("://")
    host, slash, path = rest.partition("/")
    shown = _short(host, MAX_HOST)
    if not host.isascii():
        name, colon, port = host.partition(":")
        name = ascii_host(name)
        shown += f" (in ASCII: {_short(f'{name}{colon}{port}' if name else 'no valid name', MAX_HOST)})"
    hidden = " (a part that looks like a key is hidden: read the file)" if looks_like_key(host) else ""
    return f"{_short(scheme)}{separator}{shown}{slash}{_short(path)}{hidden}"


def _references(value: object, setting: str, folder: Path) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return
    if is_reference(value):
        [(kind, name)] = value.items()
        words = {"env": "the environment variable", "file": "the file", "keyring": "the keyring entry"}
        text = f"{words[kind]} {_short(name, MAX_PATH)}"
        if kind == "file" and isinstance(name, str) and (target := link_target(name, folder)) is not None:
            text += f", a link to {_short(target, MAX_PATH)}"
        yield setting, text
        return
    for name, item in value.items():
        yield from _references(item, f"{setting}.{name}", folder)


def _short(value: object, limit: int = 120) -> str:
    """Return a text, or its start and its end if it is longer than `limit` characters."""
    text = without_keys(value if isinstance(value, str) else safe_repr(value))
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"
