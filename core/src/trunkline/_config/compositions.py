"""The composed services of a configuration: services that are made of other services of the same file.

```toml
[services.main]
fallback = ["fast", "spare"]     # or balance = ["fast", "spare"], or balance = { fast = 3, spare = 1 }
total_timeout = 60
limits = { concurrency = 50, requests_per_minute = 600 }
```

A service with a provider may have `limits` too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias, cast

import attrs

from trunkline._masking import listed, masked, quoted
from trunkline._setting_types import is_blank
from trunkline._suggestions import did_you_mean, nearest
from trunkline.errors import ConfigurationError
from trunkline.settings import Settings, convert, setting_error, setting_infos

Kind: TypeAlias = Literal["fallback", "balance"]
KINDS: tuple[Kind, ...] = ("fallback", "balance")

HIGHEST_WEIGHT = 1e100
"""The sum of weights must be a finite number."""

MAX_NESTING = 50
"""How deep composed services may be nested. A call passes through each level, and Python limits the depth of calls."""

_COMPOSING = (*KINDS, "limits")
_KEYS = (*_COMPOSING, "total_timeout")
_COUNTS = ("concurrency", "requests_per_minute", "tokens_per_minute")


@attrs.frozen(kw_only=True)
class Limits:
    """The limits of a service: how many calls at once, and how many requests and tokens a minute."""

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@attrs.frozen(kw_only=True)
class Composition:
    """A composed service: its kind, the names of its members with their weights, and its `total_timeout` in seconds."""

    kind: Kind
    members: Mapping[str, float]
    total_timeout: float | None = None


@attrs.frozen(kw_only=True)
class Compositions:
    """The composed services of a configuration, and the limits of all its services, by name.

    A service comes after its members.
    """

    services: Mapping[str, Composition] = attrs.field(factory=dict)
    limits: Mapping[str, Limits] = attrs.field(factory=dict)

    def members(self, name: str) -> Iterator[str]:
        """Yield the services that a service is made of, without those that are composed themselves."""
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            member = waiting.pop()
            if member in seen:
                continue
            seen.add(member)
            composition = self.services.get(member)
            if composition is None:
                yield member
            else:
                waiting.extend(reversed(tuple(composition.members)))


def is_composed(table: Mapping[str, object]) -> bool:
    """Whether a service's table makes it of other services."""
    return any(kind in table for kind in KINDS)


def split_tables(
    tables: Mapping[str, Mapping[str, object]], errors: list[ConfigurationError]
) -> tuple[dict[str, Mapping[str, object]], Compositions]:
    """Return the tables of the services that have a provider, without their limits, and the composed services.

    Adds an error for each mistake. A composed service with a mistake is left out.
    """
    simple: dict[str, Mapping[str, object]] = {}
    composed: dict[str, Composition] = {}
    limits: dict[str, Limits] = {}
    for name, given_table in tables.items():
        table = {key: value for key, value in given_table.items() if key not in _COMPOSING or not _is_blank(value)}
        given = table.get("limits")
        if given is not None:
            found = _limits(name, given, errors)
            if found is not None:
                limits[name] = found
        if is_composed(table):
            composition = _composition(name, table, tables, errors)
            if composition is not None:
                composed[name] = composition
        else:
            simple[name] = {key: value for key, value in table.items() if key != "limits"}
    return simple, Compositions(services=_in_order(composed, limits, errors), limits=limits)


def _composition(
    name: str,
    table: Mapping[str, object],
    tables: Mapping[str, Mapping[str, object]],
    errors: list[ConfigurationError],
) -> Composition | None:
    before = len(errors)
    given = frozenset[object](table)
    kinds: list[Kind] = [kind for kind in KINDS if kind in given]
    if len(kinds) > 1:
        problem = "cannot be combined with 'fallback'; make another service of one, and name it in the other"
        errors.append(setting_error("balance", problem, service=name))
    for key in table:
        if key == "provider":
            problem = f"cannot be combined with {kinds[0]!r}, which makes a service of others; remove one of the two"
            errors.append(setting_error(key, problem, service=name))
        elif key not in _KEYS:
            meant = nearest(key, _KEYS)
            hint = f"did you mean {meant!r}?" if meant else f"the settings of a composed service are {', '.join(_KEYS)}"
            problem = f"is not a setting of a composed service; {hint}"
            errors.append(setting_error(masked(key), problem, service=name))
    kind = kinds[0]
    members = _members(name, kind, table[kind], errors)
    for member in members:
        if member not in tables:
            hint = did_you_mean(member, tables)
            problem = (
                f"names {quoted(member)}, which is not a service of the configuration{hint} it has: {listed(tables)}"
            )
            errors.append(setting_error(kind, problem, service=name))
    total = _total_timeout(name, table, errors)
    if len(errors) > before:
        return None
    return Composition(kind=kind, members=members, total_timeout=total)


def _total_timeout(name: str, table: Mapping[str, object], errors: list[ConfigurationError]) -> float | None:
    if _is_blank(table.get("total_timeout")):
        return None
    (info,) = (info for info in setting_infos(Settings) if info.name == "total_timeout")
    try:
        return cast("float | None", convert(info, table["total_timeout"]))
    except ValueError as error:
        errors.append(setting_error("total_timeout", f"must be {error}", service=name))
    return None


def _members(name: str, kind: Kind, value: object, errors: list[ConfigurationError]) -> dict[str, float]:
    """Return the names of the members with their weights."""
    if kind == "balance" and isinstance(value, Mapping) and value:
        wrong = [member for member, weight in value.items() if not _is_positive(weight)]
        for member in wrong:
            problem = (
                f"must have a weight above 0, and at most {HIGHEST_WEIGHT:g}, for each service, which that of "
                f"{quoted(str(member))} is not"
            )
            errors.append(setting_error(kind, problem, service=name))
        return {} if wrong else {str(member): float(weight) for member, weight in value.items()}
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        or_weights = ", or a table of their weights" if kind == "balance" else ""
        problem = f"must be a list of names of other services{or_weights}"
        errors.append(setting_error(kind, problem, service=name))
        return {}
    if not all(isinstance(member, str) for member in value):
        errors.append(setting_error(kind, "must be a list of names, which are strings", service=name))
        return {}
    if len(set(value)) != len(value):
        errors.append(setting_error(kind, "names the same service twice", service=name))
        return {}
    return dict.fromkeys(value, 1.0)


def _in_order(
    composed: Mapping[str, Composition], limits: Mapping[str, Limits], errors: list[ConfigurationError]
) -> dict[str, Composition]:
    """Return the composed services, each after its members. Adds an error for each one that is a member of itself."""
    ordered: dict[str, Composition] = {}
    depths = {name: 1 for name in limits if name not in composed}
    for start in composed:
        path = {} if start in ordered else {start: iter(composed[start].members)}
        while path:
            name = next(reversed(path))
            # Each service is visited once, so each cycle is found once.
            for member in path[name]:
                if member in path:
                    visited = list(path)
                    cycle = (*visited[visited.index(member) :], member)
                    problem = f"leads back to the service itself: {' -> '.join(quoted(other) for other in cycle)}"
                    errors.append(setting_error(composed[member].kind, problem, service=member))
                elif member in composed and member not in ordered:
                    path[member] = iter(composed[member].members)
                    break
            else:
                del path[name]
                composition = ordered[name] = composed[name]
                below = max((depths.get(member, 0) for member in composition.members), default=0)
                depths[name] = below + (2 if name in limits else 1)
                if below <= MAX_NESTING < depths[name]:
                    problem = f"nests services more than {MAX_NESTING} deep, with their limits; name fewer in between"
                    errors.append(setting_error(composition.kind, problem, service=name))
    return ordered


def _limits(name: str, value: object, errors: list[ConfigurationError]) -> Limits | None:
    accepted = f"must be a table of {', '.join(_COUNTS)}, each a whole number above 0"
    if not isinstance(value, Mapping) or not value:
        errors.append(setting_error("limits", accepted, service=name))
        return None
    before = len(errors)
    for key, count in value.items():
        if key not in _COUNTS:
            meant = nearest(str(key), _COUNTS)
            hint = f"; did you mean {meant!r}?" if meant else ""
            problem = f"{accepted}, but it has {quoted(str(key))}{hint}"
        elif not _is_blank(count) and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
            problem = f"{accepted}, which {key} is not"
        else:
            continue
        errors.append(setting_error("limits", problem, service=name))
    given = {key: count for key, count in value.items() if not _is_blank(count)}
    return Limits(**given) if given and len(errors) == before else None


def _is_blank(value: object) -> bool:
    return value is None or is_blank(value)


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= HIGHEST_WEIGHT
