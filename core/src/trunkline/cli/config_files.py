"""Which configuration files the commands use: files that only the user can change, and that the user has accepted.

A file that is named (`--config`, TRUNKLINE_CONFIG) is used. A `trunkline.toml` of the current folder may come from
somebody else, with a repository or an archive, and says to which host a secret is sent. It is used once the user has
accepted its content: see `ask_for_trust`. The accepted files are remembered in the user's state folder, one entry for
each path, with the hash of the content and of where its links lead.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shlex
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from trunkline._config.configuration import MAX_FILE_SIZE, Configuration, read_configuration
from trunkline._files import UnreadableFile, open_file, read_descriptor
from trunkline._masking import without_keys
from trunkline._setting_types import is_reference, trimmed
from trunkline.cli.hidden import hide
from trunkline.errors import ConfigurationError

DEFAULT_FILE = "trunkline.toml"

_ACL = "system.posix_acl_access"
_DESCRIPTORS = re.compile(r"/proc/\d+(?:/task/\d+)?/fd")
"""Where Linux lists the open files of a process: `/dev/stdin` and the `/dev/fd/63` of a shell's `<(…)` lead there."""


@attrs.frozen
class ConfigurationFile:
    """A configuration file as it was read, once: what is hashed is what is used."""

    path: Path
    content: bytes = attrs.field(repr=False)


def read_safely(path: Path, *, named: bool = False) -> ConfigurationFile:
    """Read a file that only the user and root can change. Raises `ConfigurationError`, which says what to do.

    With `named`, the user has named the file for this command, and it may be a pipe, such as `<(…)` of a shell.
    """
    try:
        descriptor = open_file(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        # Checked on the open file: the path may lead to another one a moment later.
        status = os.fstat(descriptor)
        if not named and not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{str(path)!r} is not used: it is not a regular file")
        if os.name == "posix":
            _check_owner_and_mode(path, status, descriptor)
            _check_path(path)
        content = read_descriptor(descriptor, MAX_FILE_SIZE)
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnreadableFile as error:
        raise ConfigurationError(f"the configuration file {str(path)!r} {error}") from None
    finally:
        os.close(descriptor)
    return ConfigurationFile(path, content)


def configuration_of(file: ConfigurationFile, errors: list[ConfigurationError] | None = None) -> Configuration:
    """Parse a file as `read_configuration` does. What looks like a key in it is hidden from now on."""
    configuration = read_configuration(file.path, content=file.content, errors=errors)
    hide(configuration.tables)
    hide(configuration.defaults)
    return configuration


def named_file() -> Path | None:
    """Return the configuration file that the environment variable TRUNKLINE_CONFIG names, if it does."""
    name = trimmed(os.environ.get("TRUNKLINE_CONFIG", ""))
    return Path(name) if name else None


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"the configuration file {str(path)!r} cannot be read: {error.strerror}")


def _refused(path: Path, reason: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(
        f"{str(path)!r} is not used: {reason}, and the file decides to whom secrets are sent; {remedy}"
    )


def _check_owner_and_mode(path: Path, status: os.stat_result, descriptor: int) -> None:
    """Refuse a file that another user than root can change."""
    if stat.S_ISCHR(status.st_mode):
        return  # such as /dev/null, which is not read
    if status.st_uid not in (0, os.geteuid()):
        raise _refused(path, f"it belongs to another user (uid {status.st_uid})", "make a copy that belongs to you")
    if _others_can_write(status, descriptor):
        raise _refused(path, "other users can write to it", f"run: chmod go-w {shlex.quote(str(path))}")


def _others_can_write(status: os.stat_result, file: int | Path) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    if not status.st_mode & stat.S_IWGRP:
        return False
    return not _is_private(status.st_gid) or _has_acl(file)


def _is_private(group: int) -> bool:
    """Whether a group is the user's own, in which nobody else is: many systems create one for each user."""
    import grp
    import pwd

    try:
        user, entry = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and entry.gr_name == user.pw_name and set(entry.gr_mem) <= {user.pw_name}


def _has_acl(file: int | Path) -> bool:
    # With an access control list, the bits of the group are the most that any user in the list may do.
    if sys.platform != "linux":
        return False
    try:
        return _ACL in os.listxattr(file)
    except OSError:
        return False


def _check_path(path: Path) -> None:
    """Refuse a path in which another user could put another file: check each folder and each symbolic link in it."""
    path = path.absolute()
    folder, names = Path(path.anchor), [*reversed(path.parts[1:])]
    _check_folder(path, folder)
    for _ in range(10_000):  # `open` has followed the links, so they have an end, unless somebody changes them now
        if not names:
            return
        name = names.pop()
        if name == "..":
            folder = folder.parent  # the real one, since `folder` contains no link
            continue
        if _DESCRIPTORS.fullmatch(str(folder)):
            return  # an open file, such as a pipe: no name that others could give to another file
        entry = folder / name
        status = entry.lstat()
        is_link = stat.S_ISLNK(status.st_mode)
        owner = folder.stat().st_uid
        if (is_link or not names) and owner not in (0, os.geteuid()):
            reason = f"its folder {str(folder)!r} belongs to another user (uid {owner})"
            raise _refused(path, reason, "make a copy in a folder of yours")
        if is_link:
            if status.st_uid not in (0, os.geteuid()):
                reason = f"the link {str(entry)!r} belongs to another user"
                raise _refused(path, reason, "make a copy that belongs to you")
            target = entry.readlink()
            if target.is_absolute():
                folder = Path(target.anchor)
            names += reversed(target.parts[1:] if target.is_absolute() else target.parts)
        elif names:
            folder = entry
            _check_folder(path, folder)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _check_folder(path: Path, folder: Path) -> None:
    """Refuse a folder in which another user could replace what is on the path."""
    status = folder.stat()
    # In a folder with the sticky bit, such as /tmp, users cannot replace the files of others.
    if not status.st_mode & stat.S_ISVTX and _others_can_write(status, folder):
        reason = f"other users can write to the folder {str(folder)!r}"
        raise _refused(path, reason, f"run: chmod go-w {shlex.quote(str(folder))}")


def state_folder() -> Path:
    """Return the folder for what trunkline remembers between two commands. Raises `OSError` if there is none."""
    # A relative path would lead into the current folder, which may belong to somebody else.
    if os.name == "nt":
        named = os.environ.get("LOCALAPPDATA", "")
        return (Path(named) if Path(named).is_absolute() else _home() / "AppData" / "Local") / "trunkline"
    named = os.environ.get("XDG_STATE_HOME", "")
    if Path(named).is_absolute():  # others are to be ignored (XDG Base Directory Specification)
        return Path(named) / "trunkline"
    if sys.platform == "darwin":
        return _home() / "Library" / "Application Support" / "trunkline"
    return _home() / ".local" / "state" / "trunkline"


def _home() -> Path:
    try:
        home = Path.home()
    except RuntimeError:
        raise OSError(errno.ENOENT, "there is no home folder") from None
    if not home.is_absolute():
        raise OSError(errno.ENOENT, "the path of the home folder is not absolute")
    return home


def _entry(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
    return state_folder() / "trusted" / f"{name}.json"


def link_target(name: str, folder: Path) -> str | None:
    """Return where the file of a reference is, if symbolic links lead elsewhere than its name says, or `None`."""
    try:
        path = Path(os.path.realpath(folder)) / Path(trimmed(name)).expanduser()
        expected, target = os.path.normpath(path), os.path.realpath(path)
    except (OSError, RuntimeError, ValueError):  # there is no such user or no such name; reading the file says so
        return None
    return target if target != expected else None


def _fingerprint(file: ConfigurationFile) -> str:
    """Return a hash of the content, and of the references to files through links, with where each of them leads."""
    digest = hashlib.sha256(file.content)
    try:
        configuration = read_configuration(file.path, content=file.content, errors=[])
    except ConfigurationError:  # raised again when the file is used
        return digest.hexdigest()
    for name, target in _links([*configuration.tables.values(), configuration.defaults], configuration.folder):
        digest.update(b"\0" + os.fsencode(name) + b"\0" + os.fsencode(target))
    return digest.hexdigest()


def _links(value: object, folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name in each reference to a file that links lead elsewhere, and where they lead."""
    if isinstance(value, list):  # the extensions
        for item in value:
            yield from _links(item, folder)
    if not isinstance(value, Mapping):
        return
    if is_reference(value):
        [(kind, name)] = value.items()
        target = link_target(name, folder) if kind == "file" and isinstance(name, str) else None
        if target is not None:
            yield name, target
    else:
        for item in value.values():
            yield from _links(item, folder)


def is_trusted(file: ConfigurationFile) -> bool:
    """Whether the user has accepted this content at this path, and its links to other files lead where they did.

    Raises `ConfigurationError` if another user can write to the record.
    """
    try:
        entry = _entry(file.path)
        if not entry.exists():
            return False
    except OSError:  # it cannot be read, or there is no home folder
        return False
    try:
        remembered = json.loads(read_safely(entry).content)
    except (ValueError, RecursionError):
        return False
    return isinstance(remembered, dict) and remembered.get("sha256") == _fingerprint(file)


def trust_file(file: ConfigurationFile) -> None:
    """Remember that the user has accepted this content. Raises `OSError`."""
    entry = _entry(file.path)
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = {
        "path": ascii(without_keys(str(file.path.absolute()))),
        "sha256": _fingerprint(file),
    }
    handle, temporary = tempfile.mkstemp(dir=entry.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as written:
            json.dump(content, written)
        Path(temporary).replace(entry)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def distrust_file(path: Path) -> bool:
    """Forget an accepted file; return whether there was one. Raises `OSError`."""
    try:
        _entry(path).unlink()
    except FileNotFoundError:
        return False
    return True
