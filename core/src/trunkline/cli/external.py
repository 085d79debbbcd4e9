"""Subcommands that other distributions bring, from the entry-point group `trunkline.commands`.

The value is a function, whose signature becomes the subcommand's arguments, or a cyclopts `App`. It is imported when
the subcommand runs; in the help it stands with its distribution.
"""

from __future__ import annotations

from collections.abc import Container
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from trunkline.errors import PluginError

if TYPE_CHECKING:
    from cyclopts import App


GROUP = "trunkline.commands"


def add_external_commands(app: App, asked: str | None, *, built_in: Container[str]) -> None:
    """Add what is installed to the help, and import the one that is `asked` for.

    A name of trunkline's own is never taken over. Raises `PluginError` where the one asked for is broken, or claimed by
    several distributions.
    """
    # Not by `plugins.installed`, whose module brings the model of a conversation along: the help would wait for it.
    owners: dict[str, set[str]] = {}
    for entry_point in entry_points(group=GROUP):
        distribution = entry_point.dist
        if entry_point.name not in built_in and not entry_point.name.startswith("-"):
            owner = f"{distribution.name} {distribution.version}" if distribution is not None else "somewhere"
            owners.setdefault(entry_point.name, set()).add(owner)
    for name, distributions in owners.items():
        if name == asked:
            _add_loaded(app, name)
        else:
            app.command(_never, name=name, help=f"From {', '.join(sorted(distributions))}.")


def _never() -> None:
    raise AssertionError("a placeholder in the help was run")


def _add_loaded(app: App, name: str) -> None:
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
