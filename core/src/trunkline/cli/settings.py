"""`trunkline settings NAME`: shows the settings of a provider or of an extension."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from trunkline._config.sources import variable_name
from trunkline._masking import quoted_name
from trunkline._plugins.registry import EXTENSIONS, PROVIDERS, installed, load_extension, load_provider
from trunkline._suggestions import nearest
from trunkline.authoring.extension import Extension
from trunkline.cli.terminal import print_json, print_result, print_table
from trunkline.errors import ConfigurationError
from trunkline.settings import BaseSettings, SettingInfo, json_schema, setting_infos


def settings(
    name: str,
    /,
    *,
    extension: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    schema: Annotated[bool, Parameter(negative="", show_default=False)] = False,
) -> int:
    """Show the settings of a provider or of an extension: its own first, then those that all providers have.

    Parameters
    ----------
    name
        The name of a provider or an extension; `trunkline providers` lists the installed ones.
    extension
        Show the extension, if a provider has the same name.
    schema
        Write the JSON Schema of the settings instead.
    """
    kind, prefix = _settings_class(name, extension)
    if kind is None:
        print_result(f"the extension {name} has no settings")
        return 0
    if schema:
        print_json(json_schema(kind), indent=2)
        return 0
    rows = [
        (
            info.label,
            info.name,
            "required" if info.required else "",
            "secret" if info.secret else "",
            _default(info),
            " ".join((variable_name(prefix, info.name), *info.environment)),
            info.description,
        )
        for info in setting_infos(kind)
    ]
    print_table(("label", "setting", "required", "secret", "default", "environment", "description"), rows)
    return 0


def _settings_class(name: str, extension: bool) -> tuple[type[BaseSettings] | None, str]:
    """Return the class of the settings, or `None` if there are none, and the prefix of their variables."""
    providers, extensions = ({item.name for item in installed(group)} for group in (PROVIDERS, EXTENSIONS))
    meant = name if name in providers else nearest(name, (*providers, *extensions))
    if not extension and meant is None and extensions:
        known = f"providers: {', '.join(sorted(providers)) or 'none'}; extensions: {', '.join(sorted(extensions))}"
        raise ConfigurationError(f"no provider or extension {quoted_name(name)} is installed; {known}")
    if not extension and (meant in providers or meant not in extensions):
        return load_provider(name).settings, name
    loaded = load_extension(name)
    return (loaded.settings if isinstance(loaded, Extension) else None), f"SERVICE_{name}"


def _default(info: SettingInfo) -> str:
    value = info.default
    if info.required or value is None or value in ((), {}, ""):
        return ""
    if info.secret:
        return "***"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
