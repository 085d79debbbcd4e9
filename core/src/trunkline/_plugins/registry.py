"""Find, load and check plugins.

Plugins are found through entry points, so finding them imports nothing. Only the plugins that a service uses are
imported: a broken plugin that nobody uses does no harm. When a plugin fails to load or returns something wrong, the
error names the distribution that installed it.

Opening a service goes through these steps:

1. `find_plugin` reads the entry points and returns the one with the provider's name. Two distributions with the same
   name are an error: which one would win depends on the order of `sys.path`.
2. `load_provider` imports it and checks that it is a `Provider` with that name and that it misspells no hook.
3. `load_extension` imports an extension that the service names. An extension with settings is an `Extension`. Its
   settings are made from the configuration like those of the provider, and replace its name in `Settings.extensions`.
4. `open_steps` creates a pluggy `PluginManager` for this service alone, registers the core, the provider and the
   service's extensions, and calls each hook once. A manager for each service means that a hook implementation is
   called only for the services that it belongs to.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires, version
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import attrs
import pluggy

from trunkline import hookspecs
from trunkline._exception_text import exception_text
from trunkline._masking import quoted_name
from trunkline._plugins.hook_results import HookCalls, HookResults, OwnedMiddleware
from trunkline._plugins.plugin_errors import distribution_of, plugin_error, shown, with_article
from trunkline._suggestions import did_you_mean, nearest
from trunkline.authoring.advice import Advice
from trunkline.authoring.extension import Extension, ExtensionSettings
from trunkline.authoring.provider import (
    Auth,
    MediaClass,
    Observer,
    Operations,
    Provider,
    ResponseParser,
    ServiceContext,
    Translator,
    Transport,
    hookimpl,
)
from trunkline.authoring.rate_limits import RateLimitHeaders
from trunkline.errors import ConfigurationError, PluginError, ProviderNotFound, TrunklineError
from trunkline.secrets import Secret
from trunkline.settings import setting_infos

PROVIDERS = "trunkline.providers"
EXTENSIONS = "trunkline.extensions"
COMMANDS = "trunkline.commands"

_OWN_EXTENSIONS = frozenset({"logging", "otel", "prices"})
"""The extras of the core that install an extension. The others that install a plugin install a provider."""

_PREFIX = "trunkline_"

_extensions_of_every_service: list[object] = []

_provider_distributions: WeakKeyDictionary[Provider, str] = WeakKeyDictionary()
"""The distributions of the providers that were loaded. One that is not installed may have the name of another."""


@contextmanager
def extension_in_every_service(extension: object) -> Iterator[None]:
    """Add an extension to every service of this process that opens while the block runs. For tests and tools."""
    _extensions_of_every_service.append(extension)
    try:
        yield
    finally:
        _extensions_of_every_service.remove(extension)


@attrs.frozen(kw_only=True)
class InstalledPlugin:
    """An entry point of one of the three groups, with the distribution that installed it. Nothing is imported."""

    name: str
    distribution: str
    version: str
    value: str
    entry_point: EntryPoint = attrs.field(repr=False, eq=False)


def installed(group: str) -> tuple[InstalledPlugin, ...]:
    """Return the entry points of a group, sorted by name.

    They are read again at each call, since a plugin may be installed while the process runs.
    """
    found = {}
    for entry_point in entry_points(group=group):
        distribution = entry_point.dist
        name = distribution.name if distribution is not None else "an unknown distribution"
        # The same distribution can be on the path twice, as an editable install and as a wheel.
        found[(entry_point.name, name)] = InstalledPlugin(
            name=entry_point.name,
            distribution=name,
            version=distribution.version if distribution is not None else "",
            value=entry_point.value,
            entry_point=entry_point,
        )
    return tuple(found[key] for key in sorted(found))


def find_plugin(group: str, name: str, *, kind: str) -> InstalledPlugin:
    """Return the entry point called `name`. `kind` is the word for the group in errors.

    Raises `ProviderNotFound` (or `ConfigurationError` for the other groups) if there is none, and `PluginError` if
    several distributions have one.
    """
    candidates = installed(group)
    matches = [item for item in candidates if item.name == name]
    if not matches:
        names = sorted({item.name for item in candidates})
        error = ProviderNotFound if group == PROVIDERS else ConfigurationError
        hint = did_you_mean(name, names) if group == COMMANDS else _install_hint(group, name, names)
        raise error(f"no {kind} {quoted_name(name)} is installed{hint} installed: {', '.join(names) or 'none'}")
    if len(matches) > 1:
        distributions = ", ".join(sorted(item.distribution for item in matches))
        raise PluginError(
            f"several distributions have a {kind} {name!r} ({distributions}); uninstall all but one",
            distribution=distributions,
        )
    return matches[0]


def _install_hint(group: str, name: str, names: Sequence[str]) -> str:
    """Return a hint at the plugin that was meant: an installed one, or one of a distribution of this project.

    No name of a package is made from `name`: anyone could have published malware under a name that is one letter off.
    """
    own = _own_distributions()
    known = {
        plugin: own[plugin]
        for plugin in own
        if plugin not in names and (plugin in _OWN_EXTENSIONS) == (group == EXTENSIONS)
    }
    # Whoever writes the name of a distribution means the plugin in it.
    found = nearest(name.removeprefix("trunkline-").removeprefix("trunkline_"), (*names, *known))
    if found is None:
        # A distribution can have several providers, such as `openai-compatible` in `trunkline-openai`.
        found = next((plugin for plugin in known if name.startswith(f"{plugin}-")), None)
        return f"; it may be in {known[found]} (pip install {known[found]});" if found is not None else ";"
    install = f" (pip install {known[found]})" if found in known else ""
    return f"{install};" if found == name else f"; did you mean {found!r}?{install}"


@cache
def _own_distributions() -> dict[str, str]:
    """Return the distributions of this project by the extra of the core that installs each, which names a plugin."""
    try:
        requirements = requires("trunkline") or ()
    except PackageNotFoundError:  # the core runs from its source
        return {}
    found = (_OWN.fullmatch(requirement) for requirement in requirements)
    return {match[2]: match[1] for match in found if match is not None and match[1] == f"trunkline-{match[2]}"}


_OWN = re.compile(r"""(trunkline-[\w-]+)[^;]*;\s*extra\s*==\s*['"]([\w-]+)['"]\s*""")

# A requirement on the core in a distribution's metadata, such as `trunkline[cli]>=0.2,<0.3`. A requirement with a
# marker after `;` belongs to an extra or a platform, and does not match.
_CORE_REQUIREMENT = re.compile(r"trunkline(?![\w.-])\s*(?:\[[^\]]*\])?\s*\(?([^;()]*)\)?\s*", re.IGNORECASE)
_LOWER_BOUND = re.compile(r"(?:>=|~=|===?|>)\s*([\w.]+)")


def _release(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with, without zeros at the end: `(0, 2)` for `0.2` and for `0.2.0.dev1`."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match is not None else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


@cache  # reading the metadata takes milliseconds, and services of one provider may be opened often
def _check_core_version(item: InstalledPlugin, *, kind: str) -> None:
    """Raise `PluginError` if the plugin's metadata requires a newer core than the one that is installed.

    Installers prevent this, but not after `pip install --no-deps`. Such a plugin would fail with an error that does not
    name the cause: an `ImportError`, or in the middle of a call a `TypeError`.
    """
    distribution = item.entry_point.dist
    try:
        core = version("trunkline")
    except PackageNotFoundError:  # the core runs from a folder that no installer knows
        return
    for requirement in (distribution.requires if distribution is not None else None) or ():
        match = _CORE_REQUIREMENT.fullmatch(requirement)
        bounds = _LOWER_BOUND.findall(match[1]) if match is not None else []
        if match is not None and any(_release(bound) > _release(core) for bound in bounds):
            raise PluginError(
                f"the {kind} {item.name!r} of the distribution {item.distribution!r} {item.version} needs "
                f"trunkline{match[1].strip()}, and {core} is installed: pip install -U trunkline",
                distribution=item.distribution,
            )


def load_plugin(item: InstalledPlugin, *, kind: str) -> object:
    """Import and return the object of an entry point. Raises `PluginError` if anything goes wrong."""
    _check_core_version(item, kind=kind)
    try:
        return item.entry_point.load()
    except (Exception, SystemExit) as error:  # a module that calls `sys.exit` must not end the application
        raise PluginError(
            f"the {kind} {item.name!r} of the distribution {item.distribution!r} cannot be imported "
            f"({item.value}): {exception_text(error)}",
            distribution=item.distribution,
        ) from error


def load_provider(name: str) -> Provider:
    """Return the provider called `name`, importing it if necessary. Raises `ProviderNotFound` or `PluginError`."""
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
            f"the entry point {name!r} of the distribution {item.distribution!r} leads to a provider with the name "
            f"{value.name!r}; the two names must be equal",
            distribution=item.distribution,
        )
    check_hooks(value, item.distribution)
    _provider_distributions[value] = item.distribution
    return value


def provider_label(provider: Provider) -> str:
    """Return how errors name a provider: by its distribution, or by its name if it is not an installed one."""
    return _provider_distributions.get(provider, provider.name)


def load_extension(name: str) -> object:
    """Return the extension called `name`: an `Extension`, or an object with hooks. Imports it if necessary.

    Raises `ConfigurationError` if it is not installed, and `PluginError` if it is broken.
    """
    return _find_extension(name)[0]


def _find_extension(name: str) -> tuple[object, InstalledPlugin]:
    """Return the extension called `name`, and its entry point."""
    item = find_plugin(EXTENSIONS, name, kind="extension")
    value = load_plugin(item, kind="extension")
    problem = _extension_problem(name, value) if isinstance(value, Extension) else None
    if problem is not None:
        raise PluginError(
            f"the extension {name!r} of the distribution {item.distribution!r} {problem}",
            distribution=item.distribution,
        )
    return value, item


def _extension_problem(name: str, extension: Extension[Any]) -> str | None:
    """Return what is wrong with an extension as the end of a sentence, or `None`."""
    kind: object = extension.settings
    if not isinstance(kind, type) or not issubclass(kind, ExtensionSettings):
        return "must have a subclass of trunkline.authoring.extension.ExtensionSettings as its settings"
    names = {name, extension.name, kind.extension}
    if len(names) > 1:
        listed = ", ".join(map(repr, sorted(names)))
        return f"has several names ({listed}): its entry point, its Extension and its settings must have the same one"
    if any(info.name == "name" for info in setting_infos(kind)):
        return "has a setting called 'name', which the configuration uses for the name of the extension"
    return None


@cache
def _hook_names() -> frozenset[str]:
    return frozenset(name for name in vars(hookspecs) if name.startswith(_PREFIX))


def check_hooks(plugin: object, distribution: str) -> None:
    """Raise `PluginError` if `plugin` has a hook implementation that would never be called, or called wrongly.

    pluggy ignores an implementation of an unknown hook, and whatever is not a function with the marker. A misspelt
    override of authentication would be skipped silently. An implementation marked with `optionalhook=True` may be for a
    newer core, and is ignored by this one.
    """
    manager = pluggy.PluginManager("trunkline")
    if isinstance(plugin, type) and any(
        isinstance(inspect.getattr_static(plugin, name, None), FunctionType) for name in _hook_names()
    ):  # pluggy would call the methods of the class without an instance
        raise PluginError(
            f"{distribution!r} is a class; pass an instance of it: {plugin.__name__}(…)", distribution=distribution
        )
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None and not _named_like_hook(plugin, name):
            continue
        hook = name if options is None else options["specname"] or name
        if hook not in _hook_names():
            if options is not None and options["optionalhook"]:
                continue
            raise PluginError(
                f"{distribution!r} has {hook}, which is not a hook of trunkline; "
                f"the hooks are {', '.join(sorted(_hook_names()))}",
                distribution=distribution,
            )
        if options is None:
            raise PluginError(
                f"{distribution!r} has {name}, which would never be called: it must be a function with the decorator "
                "@trunkline.hookimpl",
                distribution=distribution,
            )


def _named_like_hook(plugin: object, name: str) -> bool:
    # An extension that is a module may import `trunkline_openai`.
    return name.startswith(_PREFIX) and not inspect.ismodule(inspect.getattr_static(plugin, name, None))


@attrs.frozen(kw_only=True)
class Steps:
    """The objects that the hooks of one service returned; they do the service's work.

    `auths` holds every `Auth` that an implementation of `trunkline_auth` returned: `auth`, and those inside it.
    `auth_owners` has the names of the plugins that returned those, in the same order, and `owners` the name of the
    plugin that returned each object, by the name of the field. The first of the `middlewares` is the outermost.
    """

    auth: Auth
    auths: tuple[Auth, ...]
    auth_owners: tuple[str, ...]
    translator: Translator
    parser: ResponseParser
    transport: Transport | None
    observers: tuple[Observer, ...]
    middlewares: tuple[OwnedMiddleware, ...] = ()
    operations: Operations
    bytes_only_media: tuple[MediaClass, ...]
    advice: Callable[[ServiceContext[Any], TrunklineError], Advice | None]
    rate_limits: RateLimitHeaders
    owners: Mapping[str, str]


class _CoreHooks:
    """The core's own hook implementations. They are called last (`trylast`)."""

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
    """Call the hooks of one service.

    `extensions` are names, objects with hooks, or settings of an extension. `transport` is the core's HTTP transport,
    used unless a plugin returns another. Raises `PluginError` if a plugin fails or returns an object of the wrong type.
    A broken extension is never skipped, since it may be the one that adds authentication.
    """
    manager = pluggy.PluginManager("trunkline")
    manager.add_hookspecs(hookspecs)
    if transport is not None:
        manager.register(_CoreHooks(transport), name="trunkline")
    manager.register(provider, name=provider_label(provider))
    # A recorder is outside all other extensions. Those of the service are made once, for all its event loops.
    outermost_first = (
        *_load_extensions(context.name, _extensions_of_every_service).loaded,
        *context.keep(_Extensions, lambda: _load_extensions(context.name, extensions)).loaded,
    )
    # pluggy calls the plugins that were registered last first.
    for extension in reversed(_with_distinct_labels(outermost_first, [name for name, _ in manager.list_name_plugin()])):
        _register(manager, extension, context.name)
    results = HookResults()
    for name in _hook_names():
        for implementation in getattr(manager.hook, name).get_hookimpls():
            results.watch(implementation)
    calls = HookCalls(context=context, results=results)
    hooks = manager.hook
    auth = calls.required(hooks.trunkline_auth, Auth)
    translator = calls.required(hooks.trunkline_translator, Translator)
    parser = calls.required(hooks.trunkline_response_parser, ResponseParser)
    returned_transport = calls.optional(hooks.trunkline_transport, Transport)
    auths = results.auths_with(auth)
    opened = Steps(
        auth=auth,
        auths=auths,
        auth_owners=tuple(calls.owner(hooks.trunkline_auth, one) for one in auths),
        translator=translator,
        parser=parser,
        transport=returned_transport,
        observers=calls.every(hooks.trunkline_observer, Observer),
        middlewares=calls.middlewares(hooks.trunkline_middleware),
        operations=_operations(provider, context),
        bytes_only_media=provider.bytes_only_media,
        advice=provider.advice,
        rate_limits=provider.rate_limits(context),
        owners={
            "auth": calls.owner(hooks.trunkline_auth, auth),
            "translator": calls.owner(hooks.trunkline_translator, translator),
            "parser": calls.owner(hooks.trunkline_response_parser, parser),
            "transport": calls.owner(hooks.trunkline_transport, returned_transport),
            "operations": provider_label(provider),
        },
    )
    acquired_secrets(context, opened)
    return opened


@attrs.frozen
class _LoadedExtension:
    """An object with hooks, its label (see `plugin_errors`), and its entry point, class or module."""

    hooks: object
    label: str
    origin: str

    def __str__(self) -> str:
        return f"{shown(self.label)} ({self.origin})"


@attrs.frozen
class _Extensions:
    """The extensions of one service, in their order."""

    loaded: tuple[_LoadedExtension, ...]


def _load_extensions(service: str, extensions: Sequence[object]) -> _Extensions:
    loaded: list[_LoadedExtension] = []
    for extension in extensions:
        found = _load_hooks(service, extension)
        if any(found.hooks is other.hooks for other in loaded):
            raise PluginError(
                f"service {service!r}: {found} is listed twice in the extensions; remove one",
                distribution=distribution_of(found.label),
                service=service,
            )
        loaded.append(found)
    return _Extensions(tuple(loaded))


def _load_hooks(service: str, extension: object) -> _LoadedExtension:
    if not isinstance(extension, (str, ExtensionSettings)):
        if inspect.ismodule(extension):
            return _LoadedExtension(extension, extension.__name__, "a module")
        kind = extension if isinstance(extension, type) else type(extension)
        return _LoadedExtension(extension, kind.__name__, f"the class {kind.__module__}.{kind.__qualname__}")
    name = extension if isinstance(extension, str) else extension.extension
    value, item = _find_extension(name)
    label, origin = f"{item.distribution}:{name}", f"the entry point {item.value}"
    if isinstance(extension, str) and not isinstance(value, Extension):
        return _LoadedExtension(value, label, origin)
    if not isinstance(value, Extension) or not isinstance(extension, value.settings):
        expected = value.settings.__name__ if isinstance(value, Extension) else "no settings"
        raise PluginError(
            f"service {service!r}: {shown(label)} takes {expected}, not {type(extension).__name__}",
            distribution=distribution_of(label),
            service=service,
        )
    try:
        return _LoadedExtension(value.make(extension), label, origin)
    except TrunklineError:
        raise
    except Exception as error:
        failed = plugin_error(service, "making the hooks", label, error)
    raise failed


class _Hooks:
    """The hook implementations of an extension. pluggy compares plugins by their value, and refuses equal ones."""

    def __init__(self, manager: pluggy.PluginManager, extension: object) -> None:
        for name in dir(extension):
            if manager.parse_hookimpl_opts(extension, name) is not None:
                setattr(self, name, getattr(extension, name))


def _with_distinct_labels(extensions: Iterable[_LoadedExtension], taken: Iterable[str]) -> list[_LoadedExtension]:
    """Add a number to each label that is taken already, such as that of a second instance of a class."""
    labels = set(taken)
    distinct = []
    for extension in extensions:
        label, number = extension.label, 1
        while label in labels:
            number += 1
            label = f"{extension.label}#{number}"
        labels.add(label)
        distinct.append(attrs.evolve(extension, label=label))
    return distinct


def check_extension(name: str) -> None:
    """Raise `PluginError` if an installed extension is broken, as far as this is seen without a service."""
    value = load_extension(name)
    if not isinstance(value, Extension):
        manager = pluggy.PluginManager("trunkline")
        manager.add_hookspecs(hookspecs)
        _register(manager, _load_hooks("", name), None)


def _register(manager: pluggy.PluginManager, extension: _LoadedExtension, service: str | None) -> None:
    label = extension.label
    distribution = label.partition(":")[0]
    try:
        check_hooks(extension.hooks, distribution)
        hooks = _Hooks(manager, extension.hooks)
        if not vars(hooks):
            raise PluginError(_no_hooks(extension.hooks))
        manager.register(hooks, name=label)
    except (PluginError, pluggy.PluginValidationError) as error:
        # Those of pluggy have several lines, the first of which has the name of the plugin.
        text = str(error) if isinstance(error, PluginError) else _hook_problem(error)
        where = "" if service is None else f"service {service!r}: "
        failed = PluginError(f"{where}{extension} cannot be used: {text}", distribution=distribution, service=service)
    else:
        return
    raise failed


def _no_hooks(extension: object) -> str:
    if isinstance(extension, Extension):
        return f"it has settings; pass them in its place: {extension.settings.__name__}(…)"
    return f"{with_article(type(extension).__name__)} without any hook would do nothing"


def _hook_problem(error: pluggy.PluginValidationError) -> str:
    """Return what is wrong with a hook implementation in one line, without the plugin's name."""
    return " ".join(str(error).split("\n", 1)[-1].split())


def acquired_secrets(context: ServiceContext[Any], steps: Steps) -> tuple[str, ...]:
    """Return the secrets that each `Auth` of a service acquired. Raises `PluginError` if one of them is no text."""
    found: list[str] = []
    for auth, plugin in zip(steps.auths, steps.auth_owners, strict=True):
        problem = ""
        try:
            secrets: object = auth.secrets
            if isinstance(secrets, (str, bytes, Mapping)) or not isinstance(secrets, Iterable):
                problem = f"is of type {type(secrets).__name__}"
            else:
                for secret in secrets:
                    if isinstance(secret, Secret):
                        found.append(secret.reveal())
                    elif isinstance(secret, str):
                        found.append(secret)
                    else:
                        problem = f"holds a value of type {type(secret).__name__}"
        except Exception as error:
            problem = f"cannot be read ({type(error).__name__})"  # its text may show what was acquired
        if problem:
            raise PluginError(
                f"service {context.name!r}: `secrets` of the {type(auth).__name__} of {shown(plugin)} {problem}; it "
                "must be a tuple of `str` and `Secret`, since the secrets in it are removed from errors",
                distribution=distribution_of(plugin),
                service=context.name,
            )
    return tuple(found)


def _operations(provider: Provider, context: ServiceContext[Any]) -> Operations:
    try:
        return provider.operations(context)
    except TrunklineError:
        raise
    except Exception as error:
        failed = plugin_error(context.name, "the function operations", provider_label(provider), error)
    raise failed
