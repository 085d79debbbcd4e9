"""What requests other than chat contain: texts and images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias, TypeVar, Union, cast

from trunkline._base_errors import InvalidRequest
from trunkline.messages import Image

T = TypeVar("T")

Input: TypeAlias = Union[str, Image, tuple[Union[str, Image], ...]]
"""A text, an image, or several of them that belong together, such as an image with its caption."""

Inputs: TypeAlias = Union[str, Image, Iterable[Union[str, Image, Sequence[Union[str, Image]]]]]
"""What a request accepts for its inputs: one, or an iterable of them."""

_ACCEPTED = "a string, a trunkline.Image, or a list of them that belong together"


def as_tuple(value: Iterable[T], name: str, accepted: str) -> tuple[T, ...]:
    """Return the items of an iterable. Raises `InvalidRequest` for anything else; `name` is the field."""
    try:
        items = iter(value)
    except TypeError:
        raise InvalidRequest(f"{name} must be {accepted}, not {type(value).__name__}") from None
    return tuple(items)


def as_strings(value: str | Iterable[str], name: str) -> tuple[str, ...]:
    """Return a string, or the strings of an iterable, as a tuple. Raises `InvalidRequest` for anything else."""
    strings = (value,) if isinstance(value, str) else as_tuple(value, name, "a string or an iterable of strings")
    if set(map(type, strings)) == {str}:  # fast for many texts
        return strings
    for position, item in enumerate(strings):
        if not isinstance(item, str):
            raise InvalidRequest(f"{name}[{position}] must be a string, not {type(item).__name__}")
    return strings


def as_inputs(value: Inputs) -> tuple[Input, ...]:
    """Return one input, or those of an iterable, as a tuple. Raises `InvalidRequest` for anything else."""
    if isinstance(value, (str, Image)):
        return (value,)
    items: tuple[object, ...] = as_tuple(value, "inputs", "a string, a trunkline.Image or an iterable of them")
    if set(map(type, items)) == {str}:  # fast for many texts
        return cast("tuple[str, ...]", items)
    return tuple(_input(item, f"inputs[{position}]") for position, item in enumerate(items))


def _input(item: object, name: str) -> Input:
    if isinstance(item, (str, Image)):
        return item
    if not isinstance(item, (list, tuple)) or not item:
        raise InvalidRequest(f"{name} must be {_ACCEPTED}, not {_described(item)}")
    for position, part in enumerate(cast("Sequence[object]", item)):
        if not isinstance(part, (str, Image)):
            raise InvalidRequest(f"{name}[{position}] must be a string or a trunkline.Image, not {_described(part)}")
    return tuple(cast("Sequence[str | Image]", item))


def _described(item: object) -> str:
    return "an empty one" if isinstance(item, (list, tuple)) and not item else type(item).__name__


def parts_of(value: Input) -> tuple[str | Image, ...]:
    """Return the texts and images of one input."""
    return value if isinstance(value, tuple) else (value,)
