"""The form of a service that is made of others. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from trunkline.authoring.json import JSONValue

from trunkline_gateway.console.form_values import list_of, shown, value_of
from trunkline_gateway.console.forms import Submitted, read_limits

COMPOSED: Mapping[str, tuple[str, str]] = {
    "fallback": ("Fallback", "Tries services one after another until one can answer."),
    "balance": ("Load balancing", "Spreads calls over several services by weight."),
}
"""The kinds of services that are made of others, with a title and a description."""


@attrs.frozen(kw_only=True)
class Member:
    """A service that a composed service may have as a member, with its position or weight as text."""

    name: str
    text: str


def members_of(kind: str, table: Mapping[str, JSONValue], names: Sequence[str]) -> list[Member]:
    """Return the services that can be members, with their places in a composed service's table."""
    given = table.get(kind)
    places: dict[str, str] = {}
    if isinstance(given, Mapping):
        places = {name: shown(weight) for name, weight in given.items()}
    else:
        ordered = [str(name) for name in list_of(given)]
        places = {name: "1" if kind == "balance" else str(number) for number, name in enumerate(ordered, 1)}
    # Members that no longer exist are shown too, to be taken out.
    return [Member(name=name, text=places.get(name, "")) for name in dict.fromkeys([*names, *places])]


def read_composed(kind: str, form: Mapping[str, object], names: Sequence[str]) -> Submitted:
    """Read the form of a composed service: `m.<service>` has the position of a member, or its weight."""
    texts = {name: value for name, value in form.items() if isinstance(value, str)}
    errors: dict[str, str] = {}
    numbers: dict[str, float] = {}
    for name in names:
        text = texts.get(f"m.{name}", "").strip()
        if not text:
            continue
        try:
            numbers[name] = float(text)
        except ValueError:
            errors[kind] = f"The number of {name} must be a number"
    ordered = sorted(numbers, key=lambda name: numbers[name])
    table: dict[str, JSONValue] = {}
    if kind == "fallback":
        table[kind] = list(ordered)
    else:
        table[kind] = {name: int(weight) if weight.is_integer() else weight for name, weight in numbers.items()}
    if not numbers and not errors:
        errors[kind] = "Choose at least one service"
    if texts.get("total_timeout", "").strip():
        table["total_timeout"] = value_of({"type": "number"}, texts["total_timeout"])
    limits = read_limits(texts)
    if limits:
        table["limits"] = limits
    return Submitted(table=table, secrets={}, texts=texts, way=None, errors=errors)
