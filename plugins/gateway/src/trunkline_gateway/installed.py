"""The installed providers, by the entry points through which Trunkline finds them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

from trunkline.authoring.provider import Provider

_found: dict[str, Provider] = {}


def find_provider(name: str) -> Provider | None:
    """Return an installed provider, or `None` if there is none with this name, or it cannot be imported.

    A provider that was found is remembered. One that was not is looked for again, since it may have been installed.
    """
    provider = _found.get(name)
    if provider is not None:
        return provider
    for _, loaded in load_providers(name):
        if isinstance(loaded, Provider):  # otherwise, opening a service of this provider says what is wrong with it
            return _found.setdefault(name, loaded)
    return None


def load_providers(name: str | None = None) -> Iterator[tuple[str, Provider | Exception]]:
    """Import the installed providers, or only the one with `name`.

    Yields each name with its provider, or with the error if the provider cannot be imported.
    """
    installed = entry_points(group="trunkline.providers")
    for entry_point in installed if name is None else installed.select(name=name):
        try:
            loaded = entry_point.load()
            if not isinstance(loaded, Provider):
                raise TypeError(f"{entry_point.value} is not a Provider")
        except Exception as error:  # a broken plugin must not hide the others
            yield entry_point.name, error
        else:
            yield entry_point.name, loaded
