"""The options of a call, which `Service.with_options` and composed services set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, TypedDict, cast

import anyio
import attrs

from trunkline._suggestions import keyword_hint
from trunkline.authoring.provider import CallGroup, Hop
from trunkline.errors import ConfigurationError, RemoteError
from trunkline.response import RateLimits
from trunkline.secrets import Headers
from trunkline.settings import Settings, convert, setting_error, setting_infos


class OptionParams(TypedDict, total=False):
    """The keywords of `Service.with_options`. All but `state` are settings of every service."""

    headers: Mapping[str, str]
    max_retries: int
    retry_after_limit: float | None
    total_timeout: float | None
    connect_timeout: float | None
    first_chunk_timeout: float | None
    chunk_timeout: float | None
    strict: bool
    state: Mapping[str, object]


@attrs.frozen(kw_only=True)
class TimeLimit:
    """The `total_timeout` of a composed service, which limits the calls of its members.

    `end` is by the clock of anyio, `total` is in seconds, and `service` is the name of the composed service.
    """

    end: float
    total: float
    service: str

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.end - anyio.current_time()


class Gate(Protocol):
    """What a limit around a service does before and after each request that a call sends."""

    async def attempt(self) -> None:
        """Wait until the next request of the call may be sent. The first one was admitted already."""

    def sent(self) -> None:
        """The request is being sent, since all limits allow it."""

    def answered(self, limits: RateLimits | None) -> None:
        """A request was answered; the response reports the provider's `limits`."""

    def failed(self, error: RemoteError) -> None:
        """A request failed."""


@attrs.frozen(kw_only=True)
class CallOptions:
    """What one call of a service does differently."""

    settings: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    """Checked values that replace those of the service's settings, by name. `headers` are added to those."""
    state: Mapping[str, object] = attrs.field(factory=dict, repr=False)
    """The values that `Call.state` starts with."""
    hops: tuple[Hop, ...] = ()
    group: CallGroup | None = None
    time_limit: TimeLimit | None = None
    gates: tuple[Gate, ...] = attrs.field(default=(), repr=False)
    """The limits around the service, the outermost first. Each request of the call passes through them."""
    is_not_last: bool = False
    """Whether another member serves the call if this one fails. A service retries such a call only if an option sets
    its `max_retries`, or if that setting differs from the default."""

    def within(self, outer: CallOptions) -> CallOptions:
        """Return these options of a view with those of the call around it, which replace them."""
        if outer is NO_OPTIONS:
            return self
        if self is NO_OPTIONS:
            return outer
        settings = {**self.settings, **outer.settings}
        if "headers" in self.settings and "headers" in outer.settings:
            settings["headers"] = _with_headers(self.settings["headers"], outer.settings["headers"])
        return attrs.evolve(
            outer,
            settings=settings,
            state={**self.state, **outer.state},
            group=outer.group or self.group,
        )

    def settings_for(self, settings: Settings) -> dict[str, object]:
        """Return what to change in the settings of a service, without `total_timeout`, which `deadline` needs."""
        changes = {name: value for name, value in self.settings.items() if name != "total_timeout"}
        if "headers" in changes:
            changes["headers"] = _with_headers(settings.headers, changes["headers"])
        return changes

    def total_timeout(self, default: float | None) -> float | None:
        """Return the `total_timeout` of a service whose setting or argument is `default`."""
        return cast("float | None", self.settings.get("total_timeout", default))


NO_OPTIONS = CallOptions()


def time_limit(options: CallOptions, default: float | None, service: str) -> TimeLimit | None:
    """Return the limit for a call of the composed service `service`, whose own `total_timeout` is `default`."""
    total, outer = options.total_timeout(default), options.time_limit
    end = math.inf if total is None else anyio.current_time() + total
    if outer is not None and outer.end <= end:
        return outer
    return None if total is None else TimeLimit(end=end, total=total, service=service)


def checked_options(params: OptionParams, service: str) -> CallOptions:
    """Return options from the keywords of `with_options`.

    Raises `TypeError` for an unknown keyword and `ConfigurationError` for a value that its setting does not accept.
    """
    given = dict(params)
    state = given.pop("state", {})
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise ConfigurationError(
            f"service {service!r}: state must be a mapping whose keys are strings", service=service, setting="state"
        )
    known = OptionParams.__annotations__
    infos = {info.name: info for info in setting_infos(Settings)}
    settings: dict[str, object] = {}
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"with_options has no keyword {name!r}{keyword_hint(name, known)}")
        info = infos[name]
        try:
            settings[name] = convert(info, value)
        except ValueError as error:
            raise setting_error(name, f"must be {error}", service=service) from None
    return CallOptions(settings=settings, state=dict(state))


def _with_headers(given: object, more: object) -> Headers:
    """Return headers with `more`, which replace those of the same name in any case."""
    assert isinstance(given, Headers)
    assert isinstance(more, Headers)
    replaced = {name.lower() for name in more}
    return Headers({**{name: given[name] for name in given if name.lower() not in replaced}, **dict(more)})
