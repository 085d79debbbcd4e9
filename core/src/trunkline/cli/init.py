"""`trunkline init`: adds a service to a configuration file. The file refers to secrets and never contains them."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Parameter

from trunkline._config.configuration import read_configuration
from trunkline._files import decoded
from trunkline._masking import looks_like_key, quoted
from trunkline._plugins.registry import load_provider
from trunkline._setting_types import is_blank, trimmed
from trunkline._visible_text import one_line
from trunkline.cli.config_files import DEFAULT_FILE, configuration_of, is_trusted, named_file, read_safely
from trunkline.cli.draft import Draft
from trunkline.cli.failures import CommandError
from trunkline.cli.file_edit import HEADER, service_text, with_service, write_file
from trunkline.cli.interview import Interview, ask_provider, ask_service
from trunkline.cli.references import Reference, missing_now, parse_reference, reference_problem
from trunkline.cli.selection import assignments, with_tables
from trunkline.cli.terminal import is_terminal, print_note
from trunkline.cli.trust import ask_for_trust, remember
from trunkline.errors import ConfigurationError
from trunkline.settings import Settings, raise_config_errors, setting_error, setting_infos


def init(
    *,
    provider: Annotated[str | None, Parameter(alias="-p")] = None,
    service: Annotated[str | None, Parameter(alias="-s")] = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = (),
    secret: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    config: Annotated[Path | None, Parameter(alias="-c")] = None,
    force: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Add a service to a configuration file. On a terminal, ask for the settings that the options do not give.

    The rest of an existing file stays as it is. Secrets are never written to the file. It names the environment
    variable, file or keyring entry of each secret.

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
        Replace the service of this name, if the file has one.
    """
    file = _file(config)
    given = assignments(set_)
    references = dict(_secret_option(pair) for pair in secret)
    if not is_terminal(sys.stdin):
        if provider is None:
            raise CommandError("--provider is required, since stdin is not a terminal and no question can be asked")
        draft = _draft(file, provider, service or provider, given, references, force=force)
        raise_config_errors([_with_option(draft, error) for error in draft.mistakes()])
    else:
        try:
            provider = provider or ask_provider()
            load_provider(provider)
            service = service or ask_service(
                file.free_name(provider), lambda name: file.problem(name, provider, force=force)
            )
            draft = _draft(file, provider, service, given, references, force=force)
            Interview(draft).run()
        except KeyboardInterrupt:
            print_note("\nNothing was written.")
            raise
    file.add(draft.service, draft.table(), replace=force)
    _report(file.path, draft)
    return 0


def _draft(
    file: _File,
    provider: str,
    service: str,
    given: Mapping[str, str],
    references: dict[str, Reference],
    *,
    force: bool,
) -> Draft:
    plugin = load_provider(provider)
    problem = file.problem(service, provider, force=force)
    if problem is not None:
        raise CommandError(f"--service takes {problem}")
    draft = Draft(
        plugin=plugin,
        service=service,
        values=with_tables(given, plugin),
        references=references,
        others={name: table for name, table in file.services.items() if name != service},
        defaults=file.defaults,
        folder=file.path.absolute().parent,
    )
    draft.refuse_secrets()
    return draft


def _with_option(draft: Draft, error: ConfigurationError) -> ConfigurationError:
    """Return the error about a missing setting with the option that sets it."""
    info = draft.infos.get(error.setting or "")
    if info is None or info.name in draft.table() or not (info.required or info.secret):
        return error
    option = f"--secret {info.name}=env:{draft.variables(info)[0]}" if info.secret else f"--set {info.name}=…"
    if info.required:
        return setting_error(info.name, f"({info.label}) is required: add {option}", service=draft.service)
    return ConfigurationError(f"{error}; add {option}", service=draft.service, setting=info.name)


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


@attrs.define
class _File:
    """The configuration file to write: its text if it exists, and whether the user trusts it."""

    path: Path
    text: str | None
    trusted: bool

    @property
    def _data(self) -> Mapping[str, object]:
        return tomllib.loads(decoded((self.text or "").encode()))

    @property
    def services(self) -> Mapping[str, object]:
        """The tables of the services in the file."""
        services = self._data.get("services", {})
        return services if isinstance(services, Mapping) else {}

    @property
    def defaults(self) -> Mapping[str, object]:
        """The settings that the file gives to every service."""
        table = self._data.get("defaults", {})
        common = {info.name for info in setting_infos(Settings)}
        if not isinstance(table, Mapping):
            return {}
        return {name: value for name, value in table.items() if name in common and not is_blank(value)}

    def free_name(self, wanted: str) -> str:
        """Return a name that no service has: the one that is wanted, or that with a number."""
        names = (wanted, *(f"{wanted}-{number}" for number in range(2, len(self.services) + 3)))
        return next(name for name in names if name not in self.services)

    def check(self) -> None:
        """Raise `ConfigurationError` if the file is wrong, or has a form to which no service can be added."""
        self._edited(self.free_name("new"), {"provider": "new"}, replace=False)

    def problem(self, name: str, provider: str, *, force: bool) -> str | None:
        """Return what is expected instead of the name of a service, or `None`."""
        if not re.fullmatch(r"[._-]*[A-Za-z0-9][A-Za-z0-9._-]*", name):
            return "the name of a service, which may have letters from A to Z, digits, - _ and . only"
        if looks_like_key(name):
            return "the name of a service that does not look like a key: the file would show it"
        if name in self.services and not force:
            return (
                f"another name: {self.path} already has a service {quoted(name)}, which only --force replaces "
                "(--config writes another file)"
            )
        try:
            self._edited(name, {"provider": provider}, replace=force)
        except ConfigurationError as error:
            return f"another name: {error}"
        return None

    def _edited(self, name: str, table: Mapping[str, object], *, replace: bool) -> str:
        """Return the text with the service, once `read_configuration` accepts it. Raises `ConfigurationError`."""
        try:
            edited = with_service(HEADER if self.text is None else self.text, name, table, replace=replace)
        except ConfigurationError as error:
            raise ConfigurationError(f"{self.path} cannot be changed: {error}") from None
        read_configuration(self.path, content=edited.encode())
        return edited

    def add(self, name: str, table: Mapping[str, object], *, replace: bool) -> None:
        """Write the file with the service, whatever was changed in it in the meantime. Raises `ConfigurationError`."""
        try:
            if self.path.exists():
                text = _read(self.path)
                # Trust covers what the user has seen. Somebody may have changed the file since, such as `git pull`.
                self.trusted, self.text = self.trusted and text == self.text, text
            write_file(self.path, self._edited(name, table, replace=replace))
        except (OSError, ConfigurationError) as error:
            reason = f"{self.path} cannot be written: {error.strerror}" if isinstance(error, OSError) else str(error)
            print_note(f"Nothing was written. The service would have been:\n{service_text(name, table)}")
            raise ConfigurationError(reason) from None
        if self.trusted:
            try:
                remember(read_safely(self.path))
            except ConfigurationError as error:
                print_note(str(error))


def _file(config: Path | None) -> _File:
    """Read the file to write, if it exists, and check that it can be written, before any question is asked."""
    named = config or named_file()
    path = named or Path(DEFAULT_FILE)
    if path.is_symlink() and not path.exists():
        raise CommandError(f"{path} is a symbolic link to a file that does not exist")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise ConfigurationError(f"{path} cannot be written: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{path} cannot be written: the folder {folder} is read-only for you")
    if not path.exists():
        return _File(path, None, trusted=True)
    found = _File(path, _read(path), trusted=True)
    found.check()
    if found.services:
        file = read_safely(path) if named else ask_for_trust(path)
        configuration_of(file)  # hides the keys in it
        found.trusted = is_trusted(file)
    elif found.defaults and not named:
        raise CommandError(f"{path} has no service, but [defaults] that may come from somebody else: name it with -c")
    return found


def _read(path: Path) -> str:
    """Return the text of a file that only the user can change. Raises `ConfigurationError` if it is not TOML."""
    try:
        content = read_safely(path).content
        tomllib.loads(decoded(content))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not TOML, so no service can be added to it: {error}") from None
    return content.decode()  # with its byte-order mark


def _report(path: Path, draft: Draft) -> None:
    mode = "" if os.name != "posix" or path.stat().st_mode & 0o077 else " Only you can read it (mode 0600)."
    print_note(one_line(f"Wrote the service {draft.service} to {path}.{mode}"))
    for name, reference in draft.references.items():
        variable = reference.get("env")
        if variable and not os.environ.get(variable):
            print_note(f"Set the environment variable {variable} before you use the service.")
        # The interview on a terminal has shown it already.
        missing = None if is_terminal(sys.stdin) else missing_now(reference, draft.folder)
        if missing is not None:
            print_note(one_line(f"Before you use the service: {name} {missing}."))
    for name, value in draft.table().items():
        is_path = isinstance(value, str) and name in draft.infos and draft.infos[name].path
        if is_path and not (draft.folder / Path(trimmed(str(value))).expanduser()).exists():
            print_note(one_line(f"Before you use the service: {name} needs {value}, which does not exist."))
    for command in draft.missing_packages():
        print_note(one_line(f"Before you use the service: {command}"))
    settings = draft.plugin.settings
    if settings.needs_model and "default_model" not in {**draft.defaults, **draft.table()}:
        print_note("It has no default_model, so each request must name its model.")
    print_note(one_line(f"To test it: trunkline check --config {shlex.quote(str(path))} --service {draft.service}"))
