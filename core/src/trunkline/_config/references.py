"""Read the values that a configuration refers to instead of containing them, such as secrets.

A reference is `{ env = "NAME" }`, `{ file = "PATH" }` or `{ keyring = "service/user" }`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trunkline._files import UnreadableFile, decoded, read_file
from trunkline._masking import is_name, masked, quoted
from trunkline._setting_types import REFERENCE_KINDS, is_blank, is_reference, takes_reference, trimmed, without_none
from trunkline._suggestions import nearest
from trunkline.errors import ConfigurationError
from trunkline.secrets import Headers, Secret
from trunkline.settings import SettingInfo, raise_config_errors, setting_error

MAX_SECRET_SIZE = 1024 * 1024
"""The largest file to which a reference may lead, in bytes."""

BLANK = object()
"""The result for a reference to blank text. Such a reference sets nothing."""

REFERENCE_NOUNS = {"env": "environment variable", "file": "file", "keyring": "keyring entry"}


def dereferenced(value: object, info: SettingInfo, environ: Mapping[str, str], folder: Path) -> object:
    """Return the value of a setting with what its references lead to. It is `BLANK` if that is blank text."""
    kind = without_none(info.type)
    if isinstance(value, Mapping) and (kind in (str, Secret) or (takes_reference(kind) and is_reference(value))):

        def read() -> str:  # again, after the provider refused the key
            try:
                return resolve_reference(value, environ=environ, folder=folder).reveal()
            except ConfigurationError as error:
                raise setting_error(info.name, str(error)) from None

        secret = resolve_reference(value, environ=environ, folder=folder)
        return BLANK if is_blank(secret) else Secret(secret.reveal(), read=read)
    if kind is Headers and isinstance(value, Mapping):
        headers = dict(value)
        errors: list[ConfigurationError] = []
        for name, text in value.items():
            if isinstance(text, Mapping):
                try:
                    headers[name] = resolve_reference(text, environ=environ, folder=folder).reveal()
                except ConfigurationError as error:
                    errors.append(error)
        raise_config_errors(errors)
        return headers
    return value


def resolve_reference(reference: Mapping[str, object], *, environ: Mapping[str, str], folder: Path) -> Secret:
    """Return the secret that a reference names, without a byte-order mark before it and line breaks after it.

    `folder` is what a relative path of a file reference is resolved against. Raises `ConfigurationError`, which names
    the variable, file or keyring entry but never the value.
    """
    if len(reference) != 1 or next(iter(reference)) not in REFERENCE_KINDS:
        near = nearest(str(next(iter(reference), "")), REFERENCE_KINDS) if len(reference) == 1 else None
        hint = f"; did you mean {near!r}?" if near else ""
        raise ConfigurationError(
            f'must be a string, or a reference {{ env = "…" }}, {{ file = "…" }} or {{ keyring = "…" }}{hint}'
        )
    [(kind, name)] = reference.items()
    if not isinstance(name, str) or is_blank(name):
        raise ConfigurationError(f"needs a name after {kind!r}")
    text = _READERS[kind](trimmed(name), environ, folder)
    # Editors write a byte-order mark at the start of a file, and `echo` a line break at its end.
    return Secret(text.removeprefix("\ufeff").rstrip("\r\n"))


def _from_environment(name: str, environ: Mapping[str, str], folder: Path) -> str:
    if environ.get(name) is None:
        shown = name if is_name(name) else masked(name)
        raise ConfigurationError(f"refers to the environment variable {shown}, which is not set")
    return environ[name]


def _from_file(name: str, environ: Mapping[str, str], folder: Path) -> str:
    try:
        path = folder / Path(name).expanduser()
    except RuntimeError as error:  # `~user` for a user that does not exist
        raise ConfigurationError(f"refers to the file {quoted(name)}: {error}") from None
    shown = quoted(str(path)) if quoted(name) == repr(name) else quoted(name)
    try:
        text = decoded(read_file(path, MAX_SECRET_SIZE))
    except UnreadableFile as error:
        raise ConfigurationError(f"refers to the file {shown}, which {error}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"refers to the file {shown}, which is not text") from None
    except ValueError as error:
        raise ConfigurationError(f"refers to the file {shown}; {error}") from None
    if "\0" in text:  # such as /proc/self/environ
        raise ConfigurationError(f"refers to the file {shown}, which is not text")
    return text


def _from_keyring(name: str, environ: Mapping[str, str], folder: Path) -> str:
    entry = f"refers to the keyring entry {quoted(name)}"
    service, slash, user = name.rpartition("/")
    if not slash:
        raise ConfigurationError(f"{entry}, which must have the form 'service/user'")
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise ConfigurationError("refers to the keyring, which needs: pip install 'trunkline[keyring]'") from None
    try:
        value = keyring.get_password(service, user)
    except KeyringError as error:
        raise ConfigurationError(f"{entry}, which cannot be read: {error}") from None
    if value is None:
        raise ConfigurationError(f"{entry}, which does not exist")
    return value


_READERS = {"env": _from_environment, "file": _from_file, "keyring": _from_keyring}
