"""The installed providers, as the console lists them."""

from __future__ import annotations

from functools import cache

import attrs
from trunkline.authoring.json import JSONObject
from trunkline.settings import SettingInfo, json_schema, setting_infos

from trunkline_gateway.installed import load_providers


@attrs.frozen(kw_only=True)
class InstalledProvider:
    """A provider whose form can be drawn."""

    name: str
    display_name: str
    schema: JSONObject
    infos: tuple[SettingInfo, ...] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class BrokenProvider:
    """A provider that cannot be imported, and why."""

    name: str
    problem: str


@cache
def installed_providers() -> tuple[dict[str, InstalledProvider], tuple[BrokenProvider, ...]]:
    """Return the providers by name in the order of their display names, and those that are broken.

    Imports them, which takes a while: call it in a worker thread first.
    """
    found: list[InstalledProvider] = []
    broken: list[BrokenProvider] = []
    for name, provider in load_providers():
        try:
            if isinstance(provider, Exception):
                raise provider
            schema = json_schema(provider.settings)
        except Exception as error:  # a broken plugin must not hide the others
            broken.append(BrokenProvider(name=name, problem=f"{type(error).__name__}: {error}"))
            continue
        found.append(
            InstalledProvider(
                name=name,
                display_name=str(schema["title"]),
                schema=schema,
                infos=setting_infos(provider.settings),
            )
        )
    found.sort(key=lambda item: item.display_name.casefold())
    return {item.name: item for item in found}, tuple(broken)
