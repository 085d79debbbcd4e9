"""`trunkline settings PROVIDER`: shows the settings of a provider."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from trunkline._config.sources import variable_name
from trunkline._plugins.registry import load_provider
from trunkline.cli.terminal import print_json, print_table
from trunkline.settings import SettingInfo, json_schema, setting_infos


def settings(provider: str, /, *, schema: Annotated[bool, Parameter(negative="", show_default=False)] = False) -> int:
    """Show the settings of a provider: its own first, then those that all providers have.

    Parameters
    ----------
    provider
        The name of a provider; `trunkline providers` lists the installed ones.
    schema
        Write the JSON Schema of the settings instead.
    """
    plugin = load_provider(provider)
    if schema:
        print_json(json_schema(plugin.settings), indent=2)
        return 0
    rows = [
        (
            info.label,
            info.name,
            "required" if info.required else "",
            "secret" if info.secret else "",
            _default(info),
            " ".join((variable_name(provider, info.name), *info.environment)),
            info.description,
        )
        for info in setting_infos(plugin.settings)
    ]
    print_table(("label", "setting", "required", "secret", "default", "environment", "description"), rows)
    return 0


def _default(info: SettingInfo) -> str:
    value = info.default
    if info.required or value is None or value in ((), {}, ""):
        return ""
    if info.secret:
        return "***"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
