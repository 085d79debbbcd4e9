"""The base class of all errors, and the errors that messages and requests raise. Import them from `trunkline.errors`.

They have a module of their own because `trunkline.errors` refers to `ChatResponse`, whose module raises these.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any


class TrunklineError(Exception):
    """The base class of all errors of Trunkline and its plugins."""

    def __init__(self, *args: object, service: str | None = None) -> None:
        super().__init__(*args)
        self.service = service
        """The name of the service that raised the error, or `None` if no service was involved."""

    def __str__(self) -> str:
        text = super().__str__()
        # Many messages name the service themselves.
        if self.service is None or f"service {self.service!r}" in text:
            return text
        return f"service {self.service!r}: {text}"

    def __reduce__(self) -> tuple[Any, ...]:
        # `Exception` would call the class with `args` alone, but an error of a plugin may have other parameters.
        state = dict(vars(self))
        if "__notes__" in state:
            state["__notes__"] = list(state["__notes__"])  # a copy gets its own list
        return _rebuild, (type(self), self.args), state


def _rebuild(cls: type[TrunklineError], args: tuple[object, ...]) -> TrunklineError:
    return cls.__new__(cls, *args)


class CallError(TrunklineError):
    """The call is wrong and cannot be made as written, or the service or the stream was closed."""


class InvalidRequest(CallError):
    """The request is invalid before any provider sees it: a message, a tool or an option contradicts another."""


def refuse_dict(value: object, where: str, expected: str) -> None:
    """Raise `InvalidRequest` for a dict where a message or a part belongs, and name the function that converts it."""
    if isinstance(value, dict):
        # Most applications come with conversations in OpenAI's form, so this error names one plugin's function.
        raise InvalidRequest(
            f"{where} is a dict, not {expected}; to convert a conversation in OpenAI's form, call "
            "trunkline_openai.messages_from(messages), from the package trunkline-openai"
        )


class FieldTypes:
    """Checks the types of an object's fields. `options` are further fields: they map providers to their own fields.

    Only the types decide, so combinations that were accepted are kept: the check takes less than a microsecond.
    """

    def __init__(self, expected: Mapping[str, tuple[type, ...]], *options: str) -> None:
        self._expected = {**expected, **dict.fromkeys(options, (dict, Mapping))}
        self._options = options
        self._first_option = len(expected)
        self._get = attrgetter(*self._expected)
        self._accepted: set[tuple[type, ...]] = set()

    def check(self, value: object) -> None:
        """Raise `InvalidRequest`, which names the field, if one has another type."""
        values = self._get(value)
        types = tuple(map(type, values))
        if types not in self._accepted:
            self._check_types(value, types)
        if any(values[self._first_option :]):
            self._check_options(value)

    def _check_types(self, value: object, types: tuple[type, ...]) -> None:
        for found, (name, kinds) in zip(types, self._expected.items(), strict=True):
            if not issubclass(found, kinds):
                raise InvalidRequest(f"{type(value).__name__}.{name} must be {_words(kinds)}, not {found.__name__}")
        if len(self._accepted) < MAX_ACCEPTED:
            self._accepted.add(types)

    def _check_options(self, value: object) -> None:
        for name in self._options:
            for provider, fields in getattr(value, name).items():
                if not isinstance(fields, Mapping):
                    where = f"{type(value).__name__}.{name}[{provider!r}]"
                    raise InvalidRequest(f"{where} must be a mapping, not {type(fields).__name__}")


MAX_ACCEPTED = 256
"""How many combinations of types are kept for a class. An application has a few."""

_NAMES = {type(None): "None", str: "a string", int: "an integer", float: "a number", bool: "a bool", bytes: "bytes"}


def _words(kinds: tuple[type, ...]) -> str:
    words = ["a mapping"] if Mapping in kinds else [_NAMES.get(kind, kind.__name__) for kind in kinds]
    if float in kinds:
        words.remove("an integer")  # a number as well
    if type(None) in kinds and "None" not in words:
        words.append("None")
    return " or ".join(words)


for _error in (TrunklineError, CallError, InvalidRequest):
    _error.__module__ = "trunkline.errors"  # the module that applications import from, so tracebacks show it
