"""Name the plugin that an error belongs to.

Each plugin of a service has a label, which is its name in pluggy:

- a provider has the name of its distribution, or its own name if it is not installed
- an installed extension has `DISTRIBUTION:NAME`
- an extension that was passed as an object has the name of its class or module

A number follows if several extensions of a service have the same label: `Watch#2`.
"""

from __future__ import annotations

import traceback

from trunkline._exception_groups import described, singles
from trunkline.errors import PluginError

STACK_LINES = 8
"""How many of the innermost functions the note of an error lists."""


SEPARATOR = ", "
"""What separates the labels of several plugins, if any of them may have made an object."""


def distribution_of(plugin: str) -> str:
    """Return the distribution of a plugin, given its label. An object that is not installed has its label instead."""
    return SEPARATOR.join(dict.fromkeys(label.partition(":")[0] for label in plugin.split(SEPARATOR)))


def shown(plugin: str) -> str:
    """Return how errors name a plugin, given its label."""
    owners = [(label, label.partition(":")) for label in plugin.split(SEPARATOR)]
    return SEPARATOR.join(
        f"the extension {name!r} of {distribution}" if colon else distribution_of(label)
        for label, (distribution, colon, name) in owners
    )


def plugin_error(service: str, step: str, plugin: str, error: Exception) -> PluginError:
    """Return the error for an exception that a plugin did not mean to raise.

    `step` says in words what failed, and `plugin` is the label of the plugin. A note lists the innermost functions that
    the exception was raised in, since its traceback is not kept.
    """
    failed = PluginError(
        f"service {service!r}: {step} of {shown(plugin)} failed: {described(error)}",
        distribution=distribution_of(plugin),
        service=service,
    )
    first = next(singles(error))
    failed.add_note("".join(["Raised in:\n", *traceback.format_tb(first.__traceback__)[-STACK_LINES:]]).rstrip())
    return failed


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"
