"""Add a service to the text of a configuration file, and write the file so that it is never half written.

The rest of the text stays as it is: comments, order, formatting and line ends. What comes out is parsed again and
compared with what was meant, so that a form of TOML that is not edited correctly is an error.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Comment, InlineTable, Item, Table, Whitespace

from trunkline.errors import ConfigurationError

HEADER = """\
# Services of trunkline. To test them: trunkline check
# Secrets are references: { env = "NAME" }, { file = "PATH" } or { keyring = "service/user" }.
"""
"""The start of a new file."""


def service_text(name: str, table: Mapping[str, object]) -> str:
    """Return the table of a service in TOML. Raises `ConfigurationError` for a value that TOML does not have."""
    lines = [f"[services.{_key(name)}]", *(f"{_key(key)} = {_value(value)}" for key, value in table.items())]
    text = "\n".join(lines) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError("a setting cannot be written: it contains half of a surrogate pair") from None
    return text


def with_service(text: str, name: str, table: Mapping[str, object], *, replace: bool = False) -> str:
    """Return the text of a configuration file with one more service, after the last one.

    With `replace`, a service of this name is changed in its place: settings that `table` lacks are removed from it.
    Raises `ConfigurationError` if the text is not TOML, if it has the service already, or if its form is not one that
    can be edited.
    """
    mark = text[: text.startswith("\ufeff")]  # a byte-order mark, which TOML does not allow
    text = text.removeprefix(mark)
    added = service_text(name, table).replace("\n", "\r\n" if "\r\n" in text else "\n")
    try:
        document, data = tomlkit.parse(text), tomllib.loads(text)
    except (TOMLKitError, ValueError) as error:
        raise ConfigurationError(f"it is not TOML: {error}") from None
    services = data.get("services", {})
    if not isinstance(services, dict):
        raise ConfigurationError("services is not a table")
    exists = name in services
    if exists and not replace:
        raise ConfigurationError(f"it already has a service {name!r}")
    expected = {**data, "services": {**services, name: dict(table)}}
    for edited in _replaced(document, name, table) if exists else _added(text, document, name, table, added):
        with contextlib.suppress(ValueError):
            if tomllib.loads(edited) == expected:
                return mark + edited
    raise ConfigurationError(f"it has a form that cannot be edited; add the service yourself:\n{added}")


def _added(
    text: str, document: tomlkit.TOMLDocument, name: str, table: Mapping[str, object], added: str
) -> Iterator[str]:
    """Yield the text with the new service in the places where it may belong, the best one first."""
    services = document.get("services")
    if isinstance(services, InlineTable):
        services[name] = tomlkit.value(_value(table))
        yield document.as_string()
        return
    places = [index for index, (key, _) in enumerate(document.body) if key is not None and key.key == "services"]
    if places:
        # tomlkit would put the service beside the first one, before tables in between. Its items are in the order of
        # the text, so the text up to the last service is that of the items up to there.
        start = tomlkit.document()
        start.body.extend(document.body[: places[-1] + 1])
        before = start.as_string()
        if text.startswith(before) and before != text:
            own = _without_comment_of_next(before)
            yield _joined(own, added, text[len(own) :])
    yield _joined(text, added, "")


def _without_comment_of_next(text: str) -> str:
    """Return a text without the comment at its end that stands, after an empty line, right before the next table."""
    found = re.search(r"(?<=\n)[ \t]*\r?\n((?:[ \t]*#[^\n]*\n)+)\Z", text)
    return text[: found.start(1)] if found else text


def _joined(before: str, added: str, after: str) -> str:
    """Return the three texts with one empty line between them."""
    end = "\r\n" if "\r\n" in added else "\n"
    if before and not before.endswith("\n"):
        before += end
    if before and not re.search(r"(?:\A|\n)[ \t]*\r?\n\Z", before):
        before += end
    return before + added + (end if after and not re.match(r"[ \t]*\r?\n", after) else "") + after


def _replaced(document: tomlkit.TOMLDocument, name: str, table: Mapping[str, object]) -> Iterator[str]:
    services = cast("Table", document["services"])
    old = services[name]
    if isinstance(old, InlineTable):
        services[name] = tomlkit.value(_value(table))
        yield document.as_string()
        return
    rest = _cut_end(old) if isinstance(old, Table) else ""
    for key in list(old):
        item = old[key]
        if key not in table or isinstance(item, (Table, AoT)):
            rest += _comments_after(item) if isinstance(item, (Table, AoT)) else ""
            del old[key]
    for key, value in table.items():
        current = old.get(key)
        if current is None or _plain(current) != value:
            old[key] = tomlkit.value(_value(value))
    if rest and isinstance(old, Table):
        old.value.append(None, Whitespace(rest))
    yield document.as_string()


def _cut_end(table: Table) -> str:
    """Take the empty lines and the comments after them off the end of a table, and return them.

    They may belong to what follows the table. tomlkit would put new settings after them.
    """
    body = table.value.body
    end = len(body)
    while end and isinstance(body[end - 1][1], (Comment, Whitespace)):
        end -= 1
    while end < len(body) and isinstance(body[end][1], Comment):
        end += 1
    rest = "".join(item.as_string() for _, item in body[end:])
    del body[end:]
    return rest


def _plain(item: object) -> object:
    return item.unwrap() if isinstance(item, Item) else item


def _comments_after(item: Item) -> str:
    """Return the comments and empty lines at the end of a table, which may belong to what follows it."""
    found = re.search(r"(?:\A|(?<=\n))(?:[ \t]*(?:#[^\n]*)?\n)*\Z", item.as_string())
    return found[0] if found else ""


def _key(name: str) -> str:
    return tomlkit.key(name).as_string()


def _value(value: object) -> str:
    """Return a value in TOML, with tables inline and spaces in their braces."""
    if isinstance(value, Mapping):
        pairs = (f"{_key(str(name))} = {_value(item)}" for name, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    try:
        return tomlkit.item(value).as_string()
    except (TOMLKitError, ValueError, TypeError):
        raise ConfigurationError(f"a setting cannot be written: TOML has no {type(value).__name__}") from None


def write_file(path: Path, text: str) -> None:
    """Replace the content of a file, or make it, in one step. Raises `OSError`.

    A file that is there keeps its mode, and a symbolic link still leads to it. A new one is only for the user.
    """
    target = Path(os.path.realpath(path))
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).chmod(stat.S_IMODE(target.stat().st_mode))
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
