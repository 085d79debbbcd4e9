"""Which configuration files the commands obey: files that only the user can change, and that the user has accepted.

A file that is named (`--config`, TRUNKLINE_CONFIG) is obeyed. A `trunkline.toml` of the current folder may come from
somebody else, with a repository or an archive, and says to which host a secret is sent. It is obeyed once the user has
accepted its content: see `ask_for_trust`. The accepted files are remembered in the user's state folder, one entry for
each path, with the hash of the content.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import stat
import sys
import tempfile
from pathlib import Path

import attrs

from trunkline.errors import ConfigurationError

DEFAULT_FILE = "trunkline.toml"

_ACL = "system.posix_acl_access"
_LONGEST = 16 * 1024 * 1024
"""The largest configuration file, in bytes."""


@attrs.frozen
class ConfigurationFile:
    """A configuration file as it was read, once: what is hashed is what is used."""

    path: Path
    content: bytes = attrs.field(repr=False)


def read_safely(path: Path) -> ConfigurationFile:
    """Read a file that only the user and root can change. Raises `ConfigurationError`, which says what to do."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        # Checked on the open file: the path may lead to another one a moment later.
        if os.name == "posix":
            _check_owner_and_mode(path, os.fstat(descriptor), descriptor)
            _check_folders(path)
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(_LONGEST + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    finally:
        os.close(descriptor)
    if len(content) > _LONGEST:
        raise ConfigurationError(f"the configuration file {str(path)!r} has more than {_LONGEST} bytes")
    return ConfigurationFile(path, content)


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"the configuration file {str(path)!r} cannot be read: {error.strerror}")


def _refused(path: Path, reason: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(
        f"{str(path)!r} is not used: {reason}, and the file decides to whom secrets are sent; {remedy}"
    )


def _check_owner_and_mode(path: Path, status: os.stat_result, descriptor: int | None = None) -> None:
    """Refuse a file or a folder that another user than root can change."""
    if stat.S_ISCHR(status.st_mode):
        return  # such as /dev/null
    if status.st_uid not in (0, os.geteuid()):
        raise _refused(path, f"it belongs to another user (uid {status.st_uid})", "make a copy that belongs to you")
    if _others_can_write(status, descriptor):
        raise _refused(path, "other users can write to it", f"run: chmod go-w {shlex.quote(str(path))}")


def _others_can_write(status: os.stat_result, descriptor: int | None = None) -> bool:
    if status.st_mode & stat.S_IWOTH:
        return True
    if not status.st_mode & stat.S_IWGRP:
        return False
    return not _is_private(status.st_gid) or (descriptor is not None and _has_acl(descriptor))


def _is_private(group: int) -> bool:
    """Whether a group is the user's own, in which nobody else is: many systems create one for each user."""
    import grp
    import pwd

    try:
        user, entry = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return user.pw_gid == group and entry.gr_name == user.pw_name and set(entry.gr_mem) <= {user.pw_name}


def _has_acl(descriptor: int) -> bool:
    # With an access control list, the bits of the group are the most that any user in the list may do.
    if sys.platform != "linux":
        return False
    try:
        return _ACL in os.listxattr(descriptor)
    except OSError:
        return False


def _check_folders(path: Path) -> None:
    """Refuse a path in which another user could put another file, also behind symbolic links."""
    for _ in range(40):  # as many links as Linux follows
        folder = Path(os.path.realpath(path.parent))
        for number, parent in enumerate((folder, *folder.parents)):
            status = parent.stat()
            if number == 0 and status.st_uid not in (0, os.geteuid()):
                reason = f"its folder {str(parent)!r} belongs to another user (uid {status.st_uid})"
                raise _refused(path, reason, "make a copy in a folder of yours")
            # In a folder with the sticky bit, such as /tmp, users cannot replace the files of others.
            if not status.st_mode & stat.S_ISVTX and _others_can_write(status):
                reason = f"other users can write to the folder {str(parent)!r}"
                raise _refused(path, reason, f"run: chmod go-w {shlex.quote(str(parent))}")
        link = folder / path.name
        status = link.lstat()
        if not stat.S_ISLNK(status.st_mode):
            return
        if status.st_uid not in (0, os.geteuid()):
            raise _refused(path, f"the link {str(link)!r} belongs to another user", "make a copy that belongs to you")
        path = folder / link.readlink()


def state_folder() -> Path:
    """Return the folder for what trunkline remembers between two commands."""
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "trunkline"
    named = os.environ.get("XDG_STATE_HOME", "")
    if Path(named).is_absolute():  # others are to be ignored (XDG Base Directory Specification)
        return Path(named) / "trunkline"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "trunkline"
    return Path.home() / ".local" / "state" / "trunkline"


def _entry(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()
    return state_folder() / "trusted" / f"{name}.json"


def is_trusted(file: ConfigurationFile) -> bool:
    """Whether the user has accepted this content at this path. Raises `ConfigurationError` if others can say so."""
    try:
        entry = _entry(file.path)
        if not entry.exists():
            return False
    except (OSError, RuntimeError):  # it cannot be read, or there is no home folder
        return False
    try:
        remembered = json.loads(read_safely(entry).content)
    except ValueError:
        return False
    return isinstance(remembered, dict) and remembered.get("sha256") == hashlib.sha256(file.content).hexdigest()


def trust_file(file: ConfigurationFile) -> None:
    """Remember that the user has accepted this content. Raises `OSError`."""
    entry = _entry(file.path)
    entry.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = {"path": ascii(str(file.path.absolute())), "sha256": hashlib.sha256(file.content).hexdigest()}
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
