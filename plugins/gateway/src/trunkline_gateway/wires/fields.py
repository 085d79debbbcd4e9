"""Reads the fields of a client's JSON, and names the place of what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from itertools import islice

import attrs
from trunkline.authoring.json import JSONObject, JSONValue, ProviderOptions

from trunkline_gateway.problems import GatewayError
from trunkline_gateway.targets import Target, Wire

MOST_IGNORED = 20
"""The most ignored fields that are named. The names are put into a header."""

_JSON_TYPES = {bool: "a boolean", str: "a string", int: "an integer", float: "a number", list: "an array"}


@attrs.frozen(kw_only=True)
class FieldReader:
    """Reads fields as one API has them. Its methods raise the `GatewayError` that the API's functions here make.

    `at` is the place of the object that has the field, or "" for the request itself. A field that is null counts as
    absent.
    """

    wrong_type: Callable[[str, str, object], GatewayError]
    """Makes the error for the place of a value, what is expected there, and the value."""
    missing: Callable[[str], GatewayError]
    """Makes the error for the place of a field that is required."""
    out_of_range: Callable[[str, str, str], GatewayError]
    """Makes the error for a number: from the path of its field, what is accepted, and OpenAI's code."""
    place: str
    """How an item of an array is named, given the array and the position, such as `{}[{}]`."""
    drops_nulls: bool = False
    """Whether the objects that are returned are without the fields that are null."""

    def object(self, value: JSONValue, at: str, expected: str = "an object") -> JSONObject:
        if not isinstance(value, dict):
            raise self.wrong_type(at, expected, value)
        return present(value) if self.drops_nulls else value

    def optional_object(self, fields: JSONObject, name: str, at: str = "") -> JSONObject | None:
        value = fields.get(name)
        return None if value is None else self.object(value, join(at, name))

    def required_object(self, fields: JSONObject, name: str, at: str) -> JSONObject:
        value = fields.get(name)
        if value is None:
            raise self.missing(join(at, name))
        return self.object(value, join(at, name))

    def objects(self, fields: JSONObject, name: str, at: str = "") -> Iterator[tuple[str, JSONObject]]:
        """Yield the objects in an array, each with its place."""
        items = fields.get(name)
        if items is None:
            return
        if not isinstance(items, list):
            raise self.wrong_type(join(at, name), "an array of objects", items)
        for position, item in enumerate(items):
            where = self.place.format(join(at, name), position)
            yield where, self.object(item, where)

    def text(self, fields: JSONObject, name: str, at: str = "") -> str | None:
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong_type(join(at, name), "a string", value)
        return value

    def required_text(self, fields: JSONObject, name: str, at: str) -> str:
        value = self.text(fields, name, at)
        if value is None:
            raise self.missing(join(at, name))
        return value

    def texts(self, fields: JSONObject, name: str, expected: str = "an array of strings") -> tuple[str, ...]:
        value = fields.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.wrong_type(name, expected, value)
        found: list[str] = []
        for position, item in enumerate(value):
            if not isinstance(item, str):
                raise self.wrong_type(self.place.format(name, position), "a string", item)
            found.append(item)
        return tuple(found)

    def text_values(self, fields: JSONObject, name: str) -> Mapping[str, str]:
        """Read an object whose values are strings."""
        found: dict[str, str] = {}
        for key, value in (self.optional_object(fields, name) or {}).items():
            if not isinstance(value, str):
                raise self.wrong_type(join(name, key[:50]), "a string", value)
            found[key] = value
        return found

    def flag(self, fields: JSONObject, name: str, at: str = "") -> bool | None:
        value = fields.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong_type(join(at, name), "a boolean", value)
        return value

    def number(self, fields: JSONObject, name: str) -> float | None:
        value = fields.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong_type(name, "a number", value)
        return value

    def integer(self, fields: JSONObject, name: str, at: str = "", *, least: int | None = None) -> int | None:
        value, at = fields.get(name), join(at, name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong_type(at, "an integer", value)
        if least is not None and value < least:
            raise self.out_of_range(at, f"at least {least}", "integer_below_min_value")
        if not -(2**63) <= value < 2**63:
            raise self.out_of_range(at, "an integer of at most 64 bits", "integer_above_max_value")
        return value


class RequestReader:
    """What the readers of requests share: what becomes of the fields for which the core has no place."""

    def __init__(self, target: Target, wire: Wire) -> None:
        self._target = target
        self._own = target.provider_speaking(wire)
        """The provider if it speaks this format too, so that it gets these fields as options."""

    def _options(self, fields: JSONObject) -> ProviderOptions:
        """Return fields as options (or metadata) of the provider, if it speaks this format."""
        return {self._own: fields} if fields and self._own is not None else {}

    def _rest(self, fields: JSONObject, known: Set[str]) -> ProviderOptions:
        """Return the fields that are not known, as options (or metadata) of the provider."""
        if self._own is None or fields.keys() <= known:
            return {}
        return self._options(without(fields, known))


def without(fields: JSONObject, known: Collection[str]) -> dict[str, JSONValue]:
    """Return the fields that are neither known nor null."""
    return {name: value for name, value in fields.items() if name not in known and value is not None}


def join(at: str, name: str) -> str:
    """Return the place of a field in the object at a place."""
    return f"{at}.{name}" if at else name


def present(fields: JSONObject) -> JSONObject:
    """Return the fields that are not null, which counts as absent."""
    return {name: value for name, value in fields.items() if value is not None} if None in fields.values() else fields


def type_name(value: object) -> str:
    """Return the JSON type of a value, for an error."""
    return "null" if value is None else _JSON_TYPES.get(type(value), "an object")


def shown(value: str) -> str:
    """Return a client's text for an error: visible, and not long."""
    return repr(value if len(value) <= 50 else value[:49] + "…")


def ignored_names(
    body: JSONObject,
    known: Collection[str],
    usual: Mapping[str, Collection[object]],
    inner: Mapping[str, Set[str]],
) -> tuple[str, ...]:
    """Return the fields of a request that are not known and ask for something: not for one of their usual values.

    `inner` has the known fields of objects inside of the request, by their path: `tools[].function`.
    """
    names = [name for name, value in body.items() if name not in known and _asks(value, usual.get(name, ()))]
    names += inner_names(body, inner)
    return tuple(names[:MOST_IGNORED])


def inner_names(body: JSONObject, inner: Mapping[str, Set[str]]) -> tuple[str, ...]:
    """Return the fields inside of a request's objects that are not known, each once: `tools[].function.examples`."""
    found: dict[str, None] = {}
    for path, known in inner.items():
        for fields in _objects_at(body, path.split(".")):
            if not fields.keys() <= known:
                asked = (name for name, value in fields.items() if name not in known and _asks(value, (False,)))
                found.update(dict.fromkeys(f"{path}.{name}" for name in asked))
    return tuple(islice(found, MOST_IGNORED))


def _objects_at(fields: JSONObject, path: Sequence[str]) -> Iterator[JSONObject]:
    """Yield the objects at a path. `tools[]` means each item of an array."""
    first, *rest = path
    value = fields.get(first.removesuffix("[]"))
    for item in value if first.endswith("[]") and isinstance(value, list) else (value,):
        if isinstance(item, dict):
            yield from _objects_at(item, rest) if rest else (item,)


def _asks(value: object, usual: Collection[object]) -> bool:
    return value is not None and value != {} and value != [] and value not in usual
