"""The base class of all errors, and the errors that messages and requests raise. Import them from `trunkline.errors`.

They have a module of their own because `trunkline.errors` refers to `ChatResponse`, whose module raises these.
"""

from __future__ import annotations

from collections.abc import Mapping
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

    Classes of which applications make many, such as `Text`, call this only if a field is not what it usually is.
    """

    def __init__(self, expected: Mapping[str, tuple[type, ...]], *options: str) -> None:
        self._expected = tuple(expected.items())
        self._options = options

    def check(self, value: object) -> None:
        """Raise `InvalidRequest`, which names the field, if one has another type."""
        for name, kinds in self._expected:
            found = getattr(value, name)
            if type(found) not in kinds and not isinstance(found, kinds):
                raise InvalidRequest(f"{type(value).__name__}.{name} must be {_words(kinds)}, not {_type_name(found)}")
        for name in self._options:
            if (options := getattr(value, name)) or type(options) is not dict:
                _check_options(options, f"{type(value).__name__}.{name}")


def _check_options(options: object, where: str) -> None:
    if not isinstance(options, (dict, Mapping)):
        raise InvalidRequest(f"{where} must be a mapping, not {_type_name(options)}")
    for provider, fields in options.items():
        if not isinstance(fields, (dict, Mapping)):
            raise InvalidRequest(f"{where}[{provider!r}] must be a mapping, not {_type_name(fields)}")


def _type_name(value: object) -> str:
    return "None" if value is None else type(value).__name__


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
