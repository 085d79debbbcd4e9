"""Finds the plugin that is asked for, loads it and no other, and names the culprit when one is broken.

Reading entry points imports nothing. Each service gets a `PluginManager` of its own that holds its provider and its
extensions, so that a hook implementation never has to ask whose call it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import attrs
import pluggy

from trunkline import hookspecs
from trunkline.authoring.provider import (
    Auth,
    Observer,
    Operations,
    Provider,
    ResponseParser,
    ServiceContext,
    Translator,
    Transport,
    hookimpl,
)
from trunkline.errors import ConfigurationError, PluginError, ProviderNotFound
from trunkline.messages import Audio, Document, Image

PROVIDERS = "trunkline.providers"
EXTENSIONS = "trunkline.extensions"
COMMANDS = "trunkline.commands"

_PREFIX = "trunkline_"

_extensions_of_every_service: list[object] = []


@contextmanager
def extension_in_every_service(extension: object) -> Iterator[None]:
    """Have an extension work in every service of this process that opens while the block runs: for tests and tools."""
    _extensions_of_every_service.append(extension)
    try:
        yield
    finally:
        _extensions_of_every_service.remove(extension)


@attrs.frozen(kw_only=True)
class InstalledPlugin:
    """An entry point of one of the three groups, with the distribution that brings it. Nothing is imported."""

    name: str
    distribution: str
    version: str
    value: str
    entry_point: EntryPoint = attrs.field(repr=False, eq=False)


def installed(group: str) -> tuple[InstalledPlugin, ...]:
    """What is installed in a group, by name. Read anew each time, since a plugin may be installed meanwhile."""
    found = {}
    for entry_point in entry_points(group=group):
        distribution = entry_point.dist
        name = distribution.name if distribution is not None else "an unknown distribution"
        # The same distribution can be on the path twice (an editable install beside its wheel).
        found[(entry_point.name, name)] = InstalledPlugin(
            name=entry_point.name,
            distribution=name,
            version=distribution.version if distribution is not None else "",
            value=entry_point.value,
            entry_point=entry_point,
        )
    return tuple(found[key] for key in sorted(found))


def find_plugin(group: str, name: str, *, kind: str) -> InstalledPlugin:
    """The one entry point called `name`. Raises `ProviderNotFound`, or `PluginError` where several claim the name."""
    everything = installed(group)
    matches = [item for item in everything if item.name == name]
    if not matches:
        names = sorted({item.name for item in everything})
        error = ProviderNotFound if group == PROVIDERS else ConfigurationError
        raise error(
            f"no {kind} {name!r} is installed; installed: {', '.join(names) or 'none'}"
            + (f". Perhaps: pip install trunkline-{name}" if group == PROVIDERS else "")
        )
    if len(matches) > 1:
        claimants = ", ".join(sorted(item.distribution for item in matches))
        raise PluginError(
            f"the {kind} {name!r} is claimed by several distributions ({claimants}); uninstall all but one",
            distribution=claimants,
        )
    return matches[0]


def load_plugin(item: InstalledPlugin, *, kind: str) -> object:
    """Import what the entry point names. Raises `PluginError`, naming the distribution, whatever goes wrong."""
    try:
        return item.entry_point.load()
    except (Exception, SystemExit) as error:  # a plugin must not end the program that it is installed in
        raise PluginError(
            f"the {kind} {item.name!r} of the distribution {item.distribution!r} cannot be imported "
            f"({item.value}): {type(error).__name__}: {error}",
            distribution=item.distribution,
        ) from error


def load_provider(name: str) -> Provider:
    """The provider called `name`, imported if need be. Raises `ProviderNotFound` or `PluginError`."""
    item = find_plugin(PROVIDERS, name, kind="provider")
    value = load_plugin(item, kind="provider")
    if not isinstance(value, Provider):
        raise PluginError(
            f"the provider {name!r} of the distribution {item.distribution!r} is a {type(value).__name__}; "
            f"its entry point must name a trunkline.authoring.provider.Provider",
            distribution=item.distribution,
        )
    if value.name != name:
        raise PluginError(
            f"the entry point {name!r} of the distribution {item.distribution!r} brings a provider that calls itself "
            f"{value.name!r}; the two names must agree",
            distribution=item.distribution,
        )
    check_hooks(value, item.distribution)
    return value


@cache
def _hook_names() -> frozenset[str]:
    return frozenset(name for name in vars(hookspecs) if name.startswith(_PREFIX))


def check_hooks(plugin: object, distribution: str) -> None:
    """Raise `PluginError` where something in `plugin` looks like a hook and is not one."""
    for name in dir(plugin):
        if not name.startswith(_PREFIX):
            continue
        if name not in _hook_names():
            raise PluginError(
                f"{distribution!r} has {name}, which is no hook of trunkline; "
                f"the hooks are {', '.join(sorted(_hook_names()))}",
                distribution=distribution,
            )
        if getattr(getattr(plugin, name), "trunkline_impl", None) is None:
            raise PluginError(
                f"{distribution!r} has {name} without the mark @trunkline.hookimpl, so it would never be called",
                distribution=distribution,
            )


@attrs.frozen(kw_only=True)
class Steps:
    """The objects that do a service's work, as its hooks gave them."""

    auth: Auth
    translator: Translator
    parser: ResponseParser
    transport: Transport | None
    observers: tuple[Observer, ...]
    operations: Operations
    bytes_only_media: tuple[type[Image] | type[Document] | type[Audio], ...]


class _Core:
    """What the core itself gives where neither the provider nor an extension does."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @hookimpl(trylast=True)
    def trunkline_transport(self, context: ServiceContext[Any]) -> Transport:
        return self._transport


def open_steps(
    provider: Provider,
    context: ServiceContext[Any],
    extensions: Sequence[object] = (),
    transport: Transport | None = None,
) -> Steps:
    """Call the hooks of one service. `transport` is the core's own, for a provider that is reached over HTTP.

    `extensions` are names or objects. Raises `PluginError` for one that is broken: an override of authentication, say,
    must never be skipped.
    """
    manager = pluggy.PluginManager("trunkline")
    manager.add_hookspecs(hookspecs)
    if transport is not None:
        manager.register(_Core(transport), name="trunkline")
    manager.register(provider, name=provider.name)
    for extension in (*extensions, *_extensions_of_every_service):
        value, label = _extension(extension)
        try:
            check_hooks(value, label)
            manager.register(value, name=label)
        except (ValueError, pluggy.PluginValidationError) as error:
            raise PluginError(
                f"the extension {label!r} cannot be used: {error}", distribution=label, service=context.name
            ) from error
    hook = manager.hook
    return Steps(
        auth=_required(hook.trunkline_auth, context, Auth),
        translator=_required(hook.trunkline_translator, context, Translator),
        parser=_required(hook.trunkline_response_parser, context, ResponseParser),
        transport=_optional(hook.trunkline_transport, context, Transport),
        observers=_observers(hook.trunkline_observer, context),
        operations=provider.operations_for(context),
        bytes_only_media=provider.bytes_only_media,
    )


def _extension(extension: object) -> tuple[object, str]:
    if not isinstance(extension, str):
        return extension, getattr(extension, "__name__", None) or type(extension).__name__
    item = find_plugin(EXTENSIONS, extension, kind="extension")
    return load_plugin(item, kind="extension"), item.distribution


def _optional(hook: Any, context: ServiceContext[Any], wanted: type) -> Any:
    try:
        result = hook(context=context)
    except (ConfigurationError, RecursionError):
        raise
    except Exception as error:
        raise PluginError(
            f"service {context.name!r}: the hook {hook.name} of {_implementers(hook)} failed: "
            f"{type(error).__name__}: {error}",
            distribution=_implementers(hook),
            service=context.name,
        ) from error
    if result is not None and not isinstance(result, wanted):
        raise PluginError(
            f"service {context.name!r}: the hook {hook.name} of {_implementers(hook)} returned a "
            f"{type(result).__name__}; it must return {wanted.__name__}",
            distribution=_implementers(hook),
            service=context.name,
        )
    return result


def _required(hook: Any, context: ServiceContext[Any], wanted: type) -> Any:
    result = _optional(hook, context, wanted)
    if result is None:
        raise PluginError(
            f"service {context.name!r}: the hook {hook.name} returned nothing; "
            f"a provider must return {wanted.__name__}",
            service=context.name,
        )
    return result


def _observers(hook: Any, context: ServiceContext[Any]) -> tuple[Observer, ...]:
    results = _optional(hook, context, list) or []
    for result in results:
        if not isinstance(result, Observer):
            raise PluginError(
                f"service {context.name!r}: the hook {hook.name} of {_implementers(hook)} returned a "
                f"{type(result).__name__}; it must return an Observer",
                distribution=_implementers(hook),
                service=context.name,
            )
    return tuple(results)


def _implementers(hook: Any) -> str:
    return ", ".join(implementation.plugin_name for implementation in hook.get_hookimpls())
