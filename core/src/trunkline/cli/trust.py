"""`trunkline trust`: accepts a configuration file that somebody else may have written."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trunkline._config.sources import Configuration, Table, read_configuration, variable_name
from trunkline._plugins.registry import load_provider
from trunkline._setting_types import REFERENCE_KINDS, without_none
from trunkline._urls import redact_url
from trunkline.cli.config_files import (
    DEFAULT_FILE,
    ConfigurationFile,
    distrust_file,
    is_trusted,
    read_safely,
    trust_file,
)
from trunkline.cli.failures import CommandError
from trunkline.cli.terminal import is_terminal, one_line, print_note, write
from trunkline.errors import TrunklineError
from trunkline.secrets import Headers, Secret
from trunkline.settings import SettingInfo, Settings, setting_infos

_LONGEST = 20
"""How many services, and how many lines of one service, are shown: a long file must not push the rest away."""


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
        print_note(f"{file} is not trusted any more." if distrust_file(file) else f"{file} was not trusted.")
        return 0
    found = read_safely(file)
    describe(found)
    trust_file(found)
    print_note(f"{one_line(str(file))} is trusted until it changes. To undo: trunkline trust --revoke {_word(file)}")
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
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        print_note(f"It cannot be remembered that {found.path} is trusted: {error}")


def describe(found: ConfigurationFile) -> None:
    """Show what a file does. Raises `ConfigurationError` if it is no configuration file."""
    configuration = read_configuration(found.path, content=found.content, errors=[])
    for name, table in list(configuration.services.items())[:_LONGEST]:
        print_note(one_line(f"  service {name}, provider {_short(table.get('provider'))}"))
        lines = list(_effects(name, table, configuration))
        for line in lines[:_LONGEST]:
            print_note(one_line(f"    {line}"))
        if len(lines) > _LONGEST:
            print_note(f"    and {len(lines) - _LONGEST} more: read the file")
    if len(configuration.services) > _LONGEST:
        print_note(f"  and {len(configuration.services) - _LONGEST} more services: read the file")


def _effects(service: str, table: Table, configuration: Configuration) -> Iterator[str]:
    """Yield what a service does. Secrets in the file itself are not shown."""
    infos = _infos(table.get("provider"))
    addresses = dict(_addresses(table))
    yield f"sends to: {', '.join(addresses) if addresses else 'the address of the provider'}"
    for setting, reference in _references(table):
        yield f"reads and sends {reference} ({_short(setting)})"
    for info in infos:
        # The provider's variables are read without being named in the file.
        names = (variable_name(service, info.name), *info.environment)
        used = next((name for name in names if os.environ.get(name)), None)
        if used and info.name not in table and without_none(info.type) in (Secret, Headers):
            yield f"reads and sends the environment variable {used} ({info.name})"
    secret = {info.name for info in infos if info.secret}
    for setting, value in table.items():
        if setting == "provider" or setting in addresses.values() or isinstance(value, Mapping):
            continue
        hidden = setting in secret or not infos
        yield f"{_short(setting)} = {'***' if hidden else _short(value)}"


def _infos(provider: object) -> tuple[SettingInfo, ...]:
    if isinstance(provider, str):
        try:
            return setting_infos(load_provider(provider).settings)
        except TrunklineError:
            pass  # reported when the service is used
    return setting_infos(Settings)


def _addresses(table: Table) -> Iterator[tuple[str, str]]:
    for setting, value in table.items():
        if isinstance(value, str) and ("://" in value or re.search("url|endpoint|proxy", setting)):
            yield _short(redact_url(value)), setting


def _references(value: object, setting: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        return
    if len(value) == 1 and (kind := next(iter(value))) in REFERENCE_KINDS and isinstance(value[kind], str):
        words = {"env": "the environment variable", "file": "the file", "keyring": "the keyring entry"}
        yield setting, f"{words[kind]} {_short(value[kind])}"
        return
    for name, item in value.items():
        yield from _references(item, f"{setting}.{name}" if setting else str(name))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"


def _word(path: Path) -> str:
    return "" if str(path) == DEFAULT_FILE else one_line(shlex.quote(str(path)))
