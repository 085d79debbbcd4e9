"""Call the hooks of one service, check what they return, and note which plugin returned it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

import attrs
import pluggy

from trunkline._plugins.plugin_errors import SEPARATOR, distribution_of, plugin_error, shown, with_article
from trunkline.authoring.middleware import Middleware
from trunkline.authoring.provider import Auth, ServiceContext
from trunkline.errors import PluginError, TrunklineError

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class OwnedMiddleware:
    """A middleware, with the name of the extension that returned it."""

    middleware: Middleware = attrs.field(repr=False)  # error trackers show the `repr` of variables
    owner: str


class HookResults:
    """What each hook implementation of one service returned, and which plugin it belongs to.

    pluggy gives only the final result of a hook. The secrets of an `Auth` that a wrapper puts into another are needed
    too, and errors name the plugin that an object comes from.
    """

    def __init__(self) -> None:
        self.auths: list[Auth] = []
        self.dropped: dict[str, str] = {}
        """The labels of the wrappers that returned nothing although their hook had a result, by the hook's name."""
        self._with_result: set[str] = set()
        self._owners: list[tuple[object, str]] = []

    def watch(self, implementation: pluggy.HookImpl) -> None:
        """Note what an implementation returns, or yields as the result of a wrapper, from now on."""
        function: Callable[..., Any] = implementation.function
        hook, label = implementation.opts["specname"] or function.__name__, implementation.plugin_name

        def watched(*args: object, **kwargs: object) -> object:
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                self._note(hook, label, error)
                raise
            if implementation.wrapper:
                return watched_wrapper(result)
            if not implementation.hookwrapper:
                self._note(hook, label, result)
            return result

        def watched_wrapper(generator: Generator[None, object, object]) -> Generator[None, object, object]:
            try:
                result = yield from generator
            except Exception as error:
                self._note(hook, label, error)
                raise
            if result is None and hook in self._with_result:
                self.dropped.setdefault(hook, label)
            self._note(hook, label, result)
            return result

        implementation.function = watched  # type: ignore[misc]

    def _note(self, hook: str, label: str, result: object) -> None:
        if result is not None:
            self._with_result.add(hook)
        if self.owner_of(result) is not None:
            return
        self._owners.append((result, label))
        if hook == "trunkline_auth" and isinstance(result, Auth):
            self.auths.append(result)

    def auths_with(self, auth: Auth) -> tuple[Auth, ...]:
        """Return the noted `Auth`s and `auth`, which is not among them if an old-style wrapper has made it."""
        return tuple(self.auths) if any(known is auth for known in self.auths) else (*self.auths, auth)

    def owner_of(self, value: object) -> str | None:
        """Return the name of the plugin that returned an object, or raised an exception, first."""
        return next((label for known, label in self._owners if known is value), None)


@attrs.frozen(kw_only=True)
class HookCalls:
    """Calls the hooks of one service and checks their results. An error names the plugin that it belongs to."""

    context: ServiceContext[Any]
    results: HookResults

    def optional(self, hook: pluggy.HookCaller, wanted: type) -> Any:
        try:
            result = hook(context=self.context)
        except TrunklineError:
            raise
        except Exception as error:
            plugin = self.owner(hook, error)
            failed = plugin_error(self.context.name, f"the hook {hook.name}", plugin, error)
        else:
            if result is not None:
                self._check(hook, result, wanted)
            return result
        raise failed

    def required(self, hook: pluggy.HookCaller, wanted: type) -> Any:
        result = self.optional(hook, wanted)
        if result is None and (plugin := self.results.dropped.get(hook.name)) is not None:
            raise PluginError(
                f"service {self.context.name!r}: the wrapper of the hook {hook.name} of {shown(plugin)} returned "
                f"nothing; it must return {wanted.__name__}",
                distribution=distribution_of(plugin),
                service=self.context.name,
            )
        if result is None:
            raise PluginError(
                f"service {self.context.name!r}: the hook {hook.name} returned nothing; "
                f"a provider must return {wanted.__name__}",
                service=self.context.name,
            )
        return result

    def every(self, hook: pluggy.HookCaller, wanted: type[T]) -> tuple[T, ...]:
        results = self.optional(hook, list) or []
        for result in results:
            self._check(hook, result, wanted)
        return tuple(results)

    def middlewares(self, hook: pluggy.HookCaller) -> tuple[OwnedMiddleware, ...]:
        return tuple(
            OwnedMiddleware(middleware=middleware, owner=self.owner(hook, middleware))
            for middleware in self.every(hook, Middleware)
        )

    def owner(self, hook: pluggy.HookCaller, value: object) -> str:
        """Return the label of the plugin that a value or an error comes from, or of all that implement the hook."""
        implementations = hook.get_hookimpls()
        return self.results.owner_of(value) or SEPARATOR.join(item.plugin_name for item in implementations)

    def _check(self, hook: pluggy.HookCaller, result: object, wanted: type) -> None:
        if not isinstance(result, wanted):
            plugin = self.owner(hook, result)
            members = [name for name in dir(wanted) if not name.startswith("_")]
            missing = [name for name in members if not hasattr(result, name)]
            lacks = f", and lacks {', '.join(missing)}" if 0 < len(missing) < len(members) else ""
            raise PluginError(
                f"service {self.context.name!r}: the hook {hook.name} of {shown(plugin)} returned "
                f"{with_article(type(result).__name__)}; it must return {wanted.__name__}{lacks}",
                distribution=distribution_of(plugin),
                service=self.context.name,
            )
