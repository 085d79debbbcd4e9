"""A `TypedDict` of an official SDK as an oracle: pydantic refuses unknown keys and values of another type.

The SDKs declare what a request may hold in `TypedDict`s, and check nothing themselves. Pydantic could check them, but
would let unknown keys pass and would not look into an `Iterable`. So each `TypedDict` is rebuilt as a strict one.
"""

from __future__ import annotations

import collections.abc
import os
import sys
import typing
from functools import cache
from types import ModuleType, UnionType
from typing import Any, ForwardRef, NotRequired, Required, get_args, get_origin

import pydantic
from typing_extensions import TypedDict, is_typeddict

# A `TypedDict` may hold itself, so the rebuilt ones refer to each other by name, and pydantic looks the names up here.
_HOME = sys.modules[f"{__name__}.rebuilt"] = ModuleType(f"{__name__}.rebuilt")
_NAMES: dict[Any, str] = {}


@cache
def strict_adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    """Make the adapter that validates a request's decoded body against a type of the SDK."""
    return pydantic.TypeAdapter(_looked_up(_strict(kind)))


def _looked_up(strict: Any) -> Any:
    if get_origin(strict) is typing.Union:
        return typing.Union[tuple(map(_looked_up, get_args(strict)))]
    return getattr(_HOME, strict.__forward_arg__) if isinstance(strict, ForwardRef) else strict


def _strict(kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        return ForwardRef(_rebuilt(kind))
    if origin in (typing.Annotated, Required, NotRequired):
        return _strict(arguments[0])
    if origin in (list, collections.abc.Iterable, collections.abc.Sequence):
        return list[_strict(arguments[0])]  # type: ignore[misc]
    if origin in (dict, collections.abc.Mapping):
        return dict[_strict(arguments[0]), _strict(arguments[1])]  # type: ignore[misc]
    if origin in (typing.Union, UnionType):
        return typing.Union[tuple(_strict(member) for member in arguments if not _is_for_python(member))]
    return kind


def _rebuilt(kind: Any) -> str:
    if kind not in _NAMES:
        name = _NAMES[kind] = f"{kind.__name__}{len(_NAMES)}"
        fields = {
            field: (Required if _is_required(kind, field, hint) else NotRequired)[_strict(hint)]
            for field, hint in typing.get_type_hints(kind, include_extras=True).items()
        }
        strict = TypedDict(name, fields)  # type: ignore[misc]
        strict.__pydantic_config__ = pydantic.ConfigDict(extra="forbid", strict=True)  # type: ignore[attr-defined]
        strict.__module__ = _HOME.__name__
        setattr(_HOME, name, strict)
    return _NAMES[kind]


def _is_required(kind: Any, field: str, hint: Any) -> bool:
    # Where annotations are strings, `__required_keys__` knows only of `total`.
    if get_origin(hint) is typing.Annotated:
        return _is_required(kind, field, get_args(hint)[0])
    return get_origin(hint) is Required or (field in kind.__required_keys__ and get_origin(hint) is not NotRequired)


def _is_for_python(kind: Any) -> bool:
    """Whether a member of a union cannot be JSON: an open file, a path, an object of an earlier answer."""
    if get_origin(kind) is typing.Annotated:
        return _is_for_python(get_args(kind)[0])
    if get_origin(kind) in (typing.Union, UnionType):
        return all(map(_is_for_python, get_args(kind)))
    plain = get_origin(kind) or kind
    return isinstance(plain, type) and issubclass(plain, (typing.IO, os.PathLike, pydantic.BaseModel))
