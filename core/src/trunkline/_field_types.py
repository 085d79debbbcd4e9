"""Check the values of fields when a message or a request is made, so that the traceback shows the mistake.

What is accepted here can be shown, stored and translated. A plugin need not expect a value that JSON does not have.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from trunkline._base_errors import InvalidRequest
from trunkline._excerpts import cut
from trunkline._json import NESTING_LIMIT

_SHOWN = 80
"""How many characters of a wrong value an error quotes."""

_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
"""What a field of 64 bits holds, signed or not."""


@attrs.frozen
class Kind:
    """What a field accepts: values of `classes`, which are named by `words`.

    `check` returns what else is wrong with a value that is neither `None` nor empty, as text that continues the name of
    the field, or `None` if nothing is.
    """

    classes: tuple[type, ...]
    words: str
    check: Callable[[Any], str | None] | None = None

    def optional(self) -> Kind:
        """Return the kind that also accepts `None`."""
        return Kind((*self.classes, type(None)), f"{self.words} or None", self.check)


class FieldTypes:
    """The kinds of an object's fields.

    Classes of which applications make many, such as `Text`, call `check` only if a field is not what it usually is.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self.names = frozenset(kinds)
        """The fields that are checked."""
        self._kinds = tuple((name, kind.classes, kind.words, kind.check) for name, kind in kinds.items())

    def check(self, value: object) -> None:
        """Raise `InvalidRequest`, which names the field, if one has another type or a value that cannot be sent."""
        for name, classes, words, check in self._kinds:
            found = getattr(value, name)
            if type(found) not in classes and not isinstance(found, classes):
                raise InvalidRequest(f"{type(value).__name__}.{name} must be {words}, not {type_name(found)}")
            if check is not None and found and (problem := check(found)) is not None:
                raise InvalidRequest(f"{type(value).__name__}.{name}{problem}")


def type_name(value: object) -> str:
    """Return the name of a value's type, for an error."""
    return "None" if value is None else type(value).__name__


def shown(value: object) -> str:
    """Return a wrong value for an error: the beginning of a string, in quotes, or the type of anything else."""
    return repr(cut(str(value), _SHOWN)) if isinstance(value, str) else type_name(value)


def json_problem(value: object) -> str | None:
    """Return where a value contains something that JSON does not have, and what, or `None`.

    The text continues the name of the value: `['a'][0] is NaN, …`. Values nested deeper than `NESTING_LIMIT`, which
    includes those that contain themselves, exhaust the stack of decoders and of `repr`, so they are a problem too.
    """
    # The deepest container comes first, so a value that contains itself is found without visiting every path in it.
    pending: list[tuple[Any, _Place | None, int]] = [([value], None, 0)]
    while pending:
        container, place, depth = pending.pop()
        if depth > NESTING_LIMIT:
            return f"{_path(place)[:_SHOWN]}… is nested deeper than {NESTING_LIMIT} levels"
        if type(container) is list:
            items: Iterable[tuple[Any, Any]] = enumerate(container)
        elif isinstance(container, (dict, Mapping)):
            for key in container:
                if type(key) is not str and not isinstance(key, str):
                    return f"{_path(place)} has a key that is not a string, but {type_name(key)}"
            items = container.items()
        else:
            items = enumerate(container)
        for key, item in items:
            kind = type(item)
            # The usual types first: asking whether a value is a `Mapping` takes longer than all other checks.
            if kind is str or kind is bool or item is None or (kind is int and -_USUAL < item < _USUAL):
                continue
            if kind is dict or kind is list or (kind is not int and kind is not float and _is_container(item)):
                pending.append((item, (place, key), depth + 1))
            elif (problem := _leaf_problem(item)) is not None:
                return f"{_path((place, key))} {problem}"
    return None


_USUAL = 2**63


def _is_container(value: object) -> bool:
    return isinstance(value, (tuple, Mapping)) or (
        isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview))
    )


_Place = tuple[Any, Any]
"""The place of a container, and a key or position in it."""


def _path(place: _Place | None) -> str:
    keys: list[str] = []
    while place is not None:
        place, key = place
        if place is not None:  # the first container is the list around the value itself
            keys.append(f"[{key if isinstance(key, int) else shown(key)}]")
    return "".join(reversed(keys))


def _leaf_problem(item: object) -> str | None:
    if isinstance(item, int):
        return None if _has_text(item) else "has too many digits"
    if isinstance(item, float):
        return None if item - item == 0 else f"is {float(item)}, which JSON does not have"
    return None if isinstance(item, str) else f"is of the type {type_name(item)}, which JSON does not have"


def _has_text(number: int) -> bool:
    # Python converts only so many digits, since that takes quadratic time.
    limit = sys.get_int_max_str_digits()
    return not limit or number.bit_length() * 0.30103 < limit


def _number_problem(number: float) -> str | None:
    if isinstance(number, int):
        return None if _SMALLEST <= number <= _LARGEST else " must be an integer of at most 64 bits"
    return None if number - number == 0 else f" must be finite, not {float(number)}"


def _options_problem(options: Mapping[Any, Any]) -> str | None:
    for provider, fields in options.items():
        if not isinstance(fields, (dict, Mapping)):
            return f"[{shown(provider)}] must be a mapping, not {type_name(fields)}"
    return None


def _sent_options_problem(options: Mapping[Any, Any]) -> str | None:
    return _options_problem(options) or json_problem(options)


def _texts_problem(texts: Mapping[Any, Any]) -> str | None:
    for name, text in texts.items():
        if not isinstance(name, str):
            return f" has a key that is not a string, but {type_name(name)}"
        if not isinstance(text, str):
            return f"[{shown(name)}] must be a string, not {type_name(text)}"
    return None


TEXT = Kind((str,), "a string")
FLAG = Kind((bool,), "a bool")
OFFSET = Kind((int,), "an integer", lambda offset: None if _has_text(offset) else " has too many digits")
"""An integer that only providers send."""
COUNT = Kind((int,), "an integer", _number_problem)
NUMBER = Kind((float, int), "a number", _number_problem)
DATA = Kind((bytes, bytearray, memoryview), "bytes or bytearray or memoryview")
JSON_OBJECT = Kind((dict, Mapping), "a mapping", json_problem)
TEXTS = Kind((dict, Mapping), "a mapping", _texts_problem)
PROVIDER_OBJECT = Kind((dict, Mapping), "a mapping")
"""An object that a provider sent. It may contain NaN, which some servers send, and is checked when it is sent back."""
OPTIONS = Kind((dict, Mapping), "a mapping", _sent_options_problem)
METADATA = Kind((dict, Mapping), "a mapping", _options_problem)
"""As `OPTIONS`, but sent by a provider, as `PROVIDER_OBJECT`."""

TEXT_OR_NONE, FLAG_OR_NONE, OFFSET_OR_NONE = TEXT.optional(), FLAG.optional(), OFFSET.optional()
COUNT_OR_NONE, NUMBER_OR_NONE = COUNT.optional(), NUMBER.optional()
