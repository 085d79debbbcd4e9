"""Subcommands from other distributions, through the entry-point group `trunkline.commands`.

An entry point names a function, whose signature becomes the arguments of the subcommand, or a cyclopts `App`. It is
imported when the subcommand runs; the help shows only its name and its distribution.
"""

from __future__ import annotations

from collections.abc import Container
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from trunkline.errors import PluginError

if TYPE_CHECKING:
    from cyclopts import App


GROUP = "trunkline.commands"


def add_external_commands(app: App, command: str | None, *, built_in: Container[str]) -> None:
    """Add the installed commands to the help, and import `command`, which is about to run, if it is one of them.

    The commands in `built_in` are never replaced. Raises `PluginError` if `command` is broken, or if several
    distributions have it.
    """
    # `registry.installed` does the same, but importing the registry takes several times as long as showing the help.
    owners: dict[str, set[str]] = {}
    for entry_point in entry_points(group=GROUP):
        distribution = entry_point.dist
        if entry_point.name not in built_in and not entry_point.name.startswith("-"):
            owner = f"{distribution.name} {distribution.version}" if distribution is not None else "an unknown package"
            owners.setdefault(entry_point.name, set()).add(owner)
    for name, distributions in owners.items():
        if name == command:
            _import_command(app, name)
        else:
            app.command(_placeholder, name=name, help=f"From {', '.join(sorted(distributions))}.")


def _placeholder() -> None:
    raise AssertionError("a placeholder in the help was run")


def _import_command(app: App, name: str) -> None:
    from cyclopts import App

    from trunkline._plugins.registry import COMMANDS, find_plugin, load_plugin

    item = find_plugin(COMMANDS, name, kind="command")
    value = load_plugin(item, kind="command")
    if isinstance(value, App) or callable(value):
        app.command(value, name=name)
    else:
        raise PluginError(
            f"the command {name!r} of the distribution {item.distribution!r} is a {type(value).__name__}; "
            f"its entry point must name a function or a cyclopts App",
            distribution=item.distribution,
        )
