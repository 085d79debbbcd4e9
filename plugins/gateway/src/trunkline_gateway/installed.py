"""The installed providers, by the entry points through which Trunkline finds them."""

from __future__ import annotations

from contextlib import suppress
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
    for entry_point in entry_points(group="trunkline.providers", name=name):
        with suppress(Exception):  # opening a service of this provider says what is wrong with it
            loaded = entry_point.load()
            if isinstance(loaded, Provider):
                return _found.setdefault(name, loaded)
    return None
