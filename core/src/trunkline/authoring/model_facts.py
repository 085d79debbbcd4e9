"""Facts about models: what each family accepts, as a table that a user's configuration can override. For translators.

`capabilities_from` reads what a provider itself reports about a model.

A provider declares an attrs class with one field for each fact (`thinking_levels`, `stop`, …) and a table of
`ModelRow`s. The setting `model_facts` overrides the table, for models that are newer than the plugin:

    [services.gemini.model_facts."gemini-5*"]
    thinking_levels = ["low", "high"]
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Generic, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import attrs

from trunkline._setting_schemas import fields_schema as fields_schema
from trunkline._setting_types import safe_repr
from trunkline._suggestions import did_you_mean
from trunkline.response import Capability
from trunkline.settings import Converted, setting

F = TypeVar("F", bound=attrs.AttrsInstance)

FactOverrides: TypeAlias = Mapping[str, Mapping[str, object]]
"""Facts by patterns of model names (`gemini-3*`), as the setting `model_facts` holds them."""

ModelFactsSetting: TypeAlias = Converted[FactOverrides, FactOverrides]

NO_OTHERS: Mapping[str, tuple[str, type[attrs.AttrsInstance]]] = types.MappingProxyType({})
"""No other kinds of models: see `model_facts_setting`."""


@attrs.frozen
class ModelRow(Generic[F]):
    """The facts about the models whose names match `pattern` (`*`, `?` and `[…]` as in file names).

    `source` is where the facts are from, with a date: a page of documentation, an SDK, an issue.
    """

    pattern: str
    facts: F
    source: str


def rows_for(facts: F, source: str, *patterns: str) -> tuple[ModelRow[F], ...]:
    """Return one row for each pattern, with the same facts and source."""
    return tuple(ModelRow(pattern, facts, source) for pattern in patterns)


def facts_about(
    model: str, rows: Sequence[ModelRow[F]], default: F, overrides: FactOverrides, *, known_as: str | None = None
) -> F:
    """Return the facts about a model: those of the first row that matches, or `default`, changed by the overrides.

    `known_as` is the model's name in the table, if `model` is longer, for example because of the prefix `models/`. All
    overrides whose patterns match either name are applied, in order. Case is ignored.
    """
    given = model.lower()
    name = given if known_as is None else known_as.lower()
    facts = next((row.facts for row in rows if fnmatchcase(name, row.pattern)), default)
    for pattern, changes in overrides.items():
        if fnmatchcase(name, pattern.lower()) or fnmatchcase(given, pattern.lower()):
            facts = attrs.evolve(facts, **changes)  # type: ignore[misc]  # `F` is bound to attrs classes
    return facts


def capabilities_from(value: object, known: Mapping[str, Capability]) -> frozenset[Capability]:
    """Return the `ModelInfo.capabilities` for a provider's own names, which `known` maps to ours.

    `value` is what the provider sent: a list of names, or an object that has `true` for each name that applies. Names
    that are not `known` are left out, and so is anything of another form.
    """
    if isinstance(value, Mapping):
        value = [name for name, applies in value.items() if applies is True]
    names = value if isinstance(value, list) else []
    return frozenset(known[name] for name in names if isinstance(name, str) and name in known)


def model_facts_setting(
    facts: type[attrs.AttrsInstance], *, others: Mapping[str, tuple[str, type[attrs.AttrsInstance]]] = NO_OTHERS
) -> Any:
    """Declare the setting `model_facts`, whose tables have the fields of `facts`, an attrs class.

    A validator of a field raises `ValueError` with a noun phrase that names the accepted values.

    `others` are for a provider of several kinds of models with different facts: by a regular expression that is
    searched in the pattern of a table, the name of the kind and its class. No pattern may contain two of them.
    """
    names = ", ".join(f"`{name}`" for name in _fields(facts))
    names += "".join(f"; of {kind}: {', '.join(f'`{name}`' for name in _fields(one))}" for kind, one in others.values())
    nothing = (None, "none")
    schema: dict[str, Any] = {"type": "object", "additionalProperties": fields_schema(facts, nothing=nothing)}
    if others:
        schema["patternProperties"] = {
            expression: fields_schema(one, nothing=nothing) for expression, (_, one) in others.items()
        }
    return setting(
        "Model Facts",
        "Facts about models that the built-in table does not have or gets wrong, keyed by patterns of model names: "
        f'`{{"name*" = {{fact = value}}}}`. The facts are {names}.',
        factory=dict,
        convert=_converter(facts, {expression: one for expression, (_, one) in others.items()}),
        schema=schema,
        group="Model",
        advanced=True,
    )


@cache
def _fields(facts: type[attrs.AttrsInstance]) -> dict[str, object]:
    hints = get_type_hints(facts)
    return {field.name: hints[field.name] for field in attrs.fields(facts)}


def _converter(
    of_others: type[attrs.AttrsInstance], kinds: Mapping[str, type[attrs.AttrsInstance]]
) -> Callable[[object], FactOverrides]:
    def convert(value: object) -> FactOverrides:
        fields = _fields(of_others)
        if isinstance(value, str):  # from an environment variable, or in the place of a table
            raise ValueError(f'a table or JSON, such as {{"name*": {{"{next(iter(fields))}": …}}}}')
        if not isinstance(value, Mapping):
            raise ValueError("a table of facts by patterns of model names")
        converted: dict[str, dict[str, object]] = {}
        problems: list[str] = []
        for pattern, changes in value.items():
            if not isinstance(changes, Mapping):
                problems.append(f"the value of {pattern!r} is not a table; facts belong in the table of a pattern")
                continue
            facts = next((kind for expression, kind in kinds.items() if re.search(expression, str(pattern))), of_others)
            fields = _fields(facts)
            converted[str(pattern)] = {}
            for name, fact in changes.items():
                if name not in fields:
                    problems.append(_unknown(str(name), str(pattern), fact, fields))
                    continue
                try:
                    converted[str(pattern)][name] = checked = _fact(fields[name], fact)
                    if (validator := attrs.fields_dict(facts)[name].validator) is not None:
                        validator(None, attrs.fields_dict(facts)[name], checked)
                except ValueError as error:
                    problems.append(f"the fact {name!r} of {pattern!r} must be {error}, not {safe_repr(fact)}")
        if problems:
            raise ValueError(f"a table of facts by patterns of model names: {'; '.join(problems)}")
        return converted

    return convert


def _unknown(name: str, pattern: str, value: object, fields: Iterable[str]) -> str:
    if isinstance(value, Mapping):  # `model_facts.gpt-5.4` in TOML is the table `4` in the table `gpt-5`
        return f"{pattern!r} has the table {name!r}; put quotes around a pattern that has a dot in it"
    hint = did_you_mean(name, fields)
    return f"{pattern!r} has the unknown fact {name!r}{hint}" + (
        f" the facts are {', '.join(fields)}" if hint == ";" else ""
    )


def _fact(kind: object, value: object) -> object:
    """Return the value of a fact as its type. Raises `ValueError` with a noun phrase that names the accepted values."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        # TOML has no null.
        if type(None) in arguments and value in (None, "none"):
            return None
        return _fact(next(argument for argument in arguments if argument is not type(None)), value)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"one of {', '.join(map(str, arguments))}")
        return value
    if origin in (tuple, frozenset):
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, Iterable) or isinstance(items, Mapping):
            raise ValueError("a list")
        converted = [_fact(arguments[0], item) for item in items]
        if origin is tuple and arguments[-1] is not Ellipsis and len(converted) != len(arguments):
            raise ValueError(f"a list of {len(arguments)} values")
        return tuple(converted) if origin is tuple else frozenset(converted)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # JSON and TOML may write 5 as 5.0
    if isinstance(kind, type) and type(value) is not kind:
        names = {bool: "true or false", int: "a whole number", str: "a string"}
        raise ValueError(names.get(kind, kind.__name__))
    return value
