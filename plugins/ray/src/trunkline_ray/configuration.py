"""Prepare a configuration that Ray pickles, and workers in other folders and on other machines read.

Ray keeps the pickle on every machine and shows parts of it in its dashboard. So its secrets must be references, which
are followed in each worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from os import PathLike, fspath
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from trunkline.authoring.extension import Extension
from trunkline.authoring.provider import Provider
from trunkline.errors import ConfigurationError
from trunkline.secrets import Headers, Secret, header_secrets
from trunkline.settings import BaseSettings, Settings, setting_infos


def check_no_secrets(configuration: Mapping[str, object]) -> None:
    """Raise `ConfigurationError` if a configuration contains a secret, and not a reference to it."""
    found = list(_secrets(configuration))
    if found:
        raise ConfigurationError(
            f"the configuration contains secrets: {', '.join(found)}. Ray would copy them in clear to every machine; "
            'use a reference such as {"env": "NAME"} or {"file": "/path"}, or pass the name of a configuration file '
            "that each machine has"
        )


def _secrets(configuration: Mapping[str, object]) -> Iterator[str]:
    defaults, services = configuration.get("defaults"), configuration.get("services")
    yield from _of_table("defaults", defaults, Settings)
    if isinstance(services, Mapping):
        for name, table in services.items():
            yield from _of_table(f"services.{name}", table, _settings_of(name, table))


def _settings_of(name: object, table: object) -> type[BaseSettings]:
    """Return the class of a service's settings."""
    plugin = _plugin("trunkline.providers", table.get("provider", name) if isinstance(table, Mapping) else None)
    return plugin.settings if isinstance(plugin, Provider) else Settings


def _of_table(place: str, table: object, kind: type[BaseSettings]) -> Iterator[str]:
    if not isinstance(table, Mapping):
        return
    infos = {info.name: info for info in setting_infos(kind)}
    for name, value in table.items():
        info = infos.get(name)
        if name == "extensions" and isinstance(value, (list, tuple)):
            yield from _of_extensions(f"{place}.extensions", value)
        elif isinstance(value, (Secret, Headers)):
            yield f"{place}.{name}"
        elif (_names_credential(str(name)) and not _is_limit(value)) if info is None else info.secret:
            if value is not None and not _is_reference(value):
                yield f"{place}.{name}"
        elif isinstance(value, str):
            if _has_credentials(value):
                yield f"{place}.{name}"
        elif isinstance(value, Mapping) and info is not None and info.type is Headers:
            given = {str(header): text for header, text in value.items() if isinstance(text, str)}
            yield from (
                f"{place}.{name}.{header}" for header, text in given.items() if any(header_secrets({header: text}))
            )
            yield from (
                f"{place}.{name}.{header}"
                for header, text in value.items()
                if text is not None and not isinstance(text, str) and not _is_reference(text)
            )


def with_absolute_paths(configuration: Mapping[str, object]) -> dict[str, object]:
    """Return a configuration whose relative paths are relative to the folder of this process, and so absolute.

    A worker may run in another folder.
    """
    prepared = dict(configuration)
    if isinstance(defaults := configuration.get("defaults"), Mapping):
        prepared["defaults"] = _absolute_table(defaults, Settings)
    if isinstance(services := configuration.get("services"), Mapping):
        prepared["services"] = {
            name: _absolute_table(table, _settings_of(name, table)) if isinstance(table, Mapping) else table
            for name, table in services.items()
        }
    return prepared


def _absolute_table(table: Mapping[str, object], kind: type[BaseSettings]) -> dict[str, object]:
    paths = {info.name for info in setting_infos(kind) if info.path}
    prepared = {
        name: _absolute(value) if name in paths else _absolute_reference(value) for name, value in table.items()
    }
    if isinstance(entries := table.get("extensions"), (list, tuple)):
        prepared["extensions"] = [_absolute_extension(entry) for entry in entries]
    return prepared


def _absolute_extension(entry: object) -> object:
    plugin = _plugin("trunkline.extensions", entry.get("name")) if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(plugin, Extension):
        return entry
    return _absolute_table(entry, plugin.settings)


def _absolute_reference(value: object) -> object:
    """Make the path of a reference absolute. A table of headers may have references, too."""
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"file"}:
        return {"file": _absolute(value["file"])}
    return {name: _absolute_reference(item) for name, item in value.items()}


def _absolute(path: object) -> object:
    if not isinstance(path, (str, PathLike)):
        return path
    text = fspath(path)
    # "~" is the home folder on the machine of the worker.
    return (
        text
        if not isinstance(text, str) or not text.strip() or text.lstrip().startswith("~")
        else str(Path(text.strip()).absolute())
    )


def _of_extensions(place: str, entries: list[object] | tuple[object, ...]) -> Iterator[str]:
    for entry in entries:
        if isinstance(entry, Mapping):
            plugin = _plugin("trunkline.extensions", entry.get("name"))
            if isinstance(plugin, Extension):
                yield from _of_table(f"{place}.{entry['name']}", entry, plugin.settings)
        elif isinstance(entry, BaseSettings):
            yield place


def _plugin(group: str, name: object) -> object:
    """Return an installed plugin, or `None`. What is wrong with it, the worker reports."""
    if not isinstance(name, str):
        return None
    for entry in entry_points(group=group, name=name.strip()):
        return entry.load()
    return None


def _is_reference(value: object) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and set(value) <= {"env", "file", "keyring"}


def _is_limit(value: object) -> bool:
    """Return whether a value is that of a limit, such as `tokens_per_minute` of a fallback."""
    return isinstance(value, (int, float)) or (isinstance(value, str) and value.strip() in ("", "none"))


def _names_credential(name: str) -> bool:
    """Return whether a name says that its value is a credential. Then even a word is a secret."""
    return any(header_secrets({name: "word"}))


def _has_credentials(text: str) -> bool:
    """Return whether a text is a URL with credentials."""
    try:
        url = urlsplit(text)
    except ValueError:
        return False
    return bool(url.netloc and "@" in url.netloc) or any(_names_credential(name) for name, _ in parse_qsl(url.query))
