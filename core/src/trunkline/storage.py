"""Store conversations: convert messages, requests, responses and batches to JSON and back. Not stored are `raw`, and
`rate_limits`, which are out of date by then.

The `type` of a part is stored as `text`, `tool_call` and so on; bytes are stored in base64. Fields with their default
value are left out, so that a later version, which may have more fields, can read the data.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from cattrs import Converter, transform_error
from cattrs.errors import (
    BaseValidationError,
    IterableValidationError,
    IterableValidationNote,
    StructureHandlerNotFoundError,
)
from cattrs.gen import make_dict_unstructure_fn, override
from cattrs.strategies import configure_tagged_union
from cattrs.v import format_exception

from trunkline._excerpts import cut
from trunkline._field_types import shown
from trunkline._json import JSONValue, ProviderOptions, type_tag
from trunkline.batches import Batch
from trunkline.errors import InvalidRequest
from trunkline.inputs import Input
from trunkline.messages import Image, Message, Part, ToolResultPart
from trunkline.request import Tool
from trunkline.response import ChatResponse, FinishReason

T = TypeVar("T")

_PROBLEMS = 5
"""How many wrong items of a list are described. Each takes kilobytes and far longer than an item that is right."""

_PROBLEM_LIMIT = 300
"""The longest description of one problem, in characters. It may quote the data."""


def to_json(value: object) -> JSONValue:
    """Convert a message, a request, a response, a batch, or a sequence of them to JSON.

    Raises `InvalidRequest` if the value is nested too deeply, as the arguments of a tool call may be.
    """
    try:
        return _unstructured(value)
    except RecursionError:
        raise InvalidRequest(f"this {type(value).__name__} is nested too deeply to be stored") from None


def _unstructured(value: object) -> JSONValue:
    if isinstance(value, (list, tuple)):
        return [_unstructured(item) for item in value]
    return cast("JSONValue", _converter().unstructure(value))


def from_json(kind: type[T], data: JSONValue) -> T:
    """Convert the result of `to_json` back to a value of the class `kind` (`Message`, `ChatRequest` …).

    Raises `InvalidRequest` for data of another form; its message names the place.
    """
    if not isinstance(kind, type):
        raise InvalidRequest(f"the kind must be a class such as trunkline.Message, not {type(kind).__name__}")
    return _structured(kind, data, "this")


def _structured(kind: type[T], data: JSONValue, what: str) -> T:
    try:
        return _converter().structure(data, kind)
    except (
        BaseValidationError,
        StructureHandlerNotFoundError,
        KeyError,
        TypeError,
        ValueError,
        InvalidRequest,
    ) as error:
        problems = (
            transform_error(error, format_exception=_problem)
            if isinstance(error, BaseValidationError)
            else [str(error)]
        )
        text = "; ".join(cut(problem, _PROBLEM_LIMIT) for problem in problems[:_PROBLEMS])
        more = "; there may be more" if len(problems) >= _PROBLEMS else ""
        # Without the cause, whose text may quote all of the data.
        raise InvalidRequest(f"{what} is not a stored {kind.__name__}: {text}{more}") from None
    except RecursionError:
        raise InvalidRequest(f"{what} is not a stored {kind.__name__}: it is nested too deeply") from None


def messages_from_json(data: JSONValue) -> tuple[Message, ...]:
    """Convert a stored conversation back to messages.

    Raises `InvalidRequest` for data of another form; its message names the place, such as `messages[2]`.
    """
    if not isinstance(data, list):
        hint = "; decode the JSON text first, with json.loads" if isinstance(data, str) else ""
        raise InvalidRequest(f"a stored conversation must be a list of messages, not {type(data).__name__}{hint}")
    return tuple(_structured(Message, item, f"messages[{position}]") for position, item in enumerate(data))


@cache
def _converter() -> Converter:
    converter = Converter(omit_if_default=True, forbid_extra_keys=False)
    converter.register_unstructure_hook(bytes, lambda data: base64.b64encode(data).decode())
    converter.register_structure_hook(bytes, lambda data, _: _bytes(data))
    # Values are checked, not converted: by default cattrs would turn `True` into the string 'True'.
    for plain in (str, int, float, bool):
        converter.register_structure_hook(plain, _plain)
    converter.register_structure_hook_func(lambda kind: _origin(kind) is tuple, partial(_tuple, converter))
    converter.register_structure_hook_func(lambda kind: _origin(kind) is Mapping, _mapping)
    converter.register_structure_hook_func(lambda kind: _origin(kind) is Literal, _literal)
    for kind in (Input, str | Image):
        converter.register_structure_hook_func(partial(_equal, kind), partial(_input, converter))
    converter.register_structure_hook(FinishReason, lambda reason, _: FinishReason(reason))
    for union in (ToolResultPart, Part):
        configure_tagged_union(union, converter, tag_name="type", tag_generator=type_tag)
        types = frozenset(map(type_tag, get_args(union)))
        converter.register_structure_hook(union, partial(_part, converter.get_structure_hook(union), types))
    # A tool that runs in the application is stored as the model sees it, and a typed response without its `answer`,
    # which is a value of any type; the text has it.
    for stored in (Tool, ChatResponse):
        converter.register_unstructure_hook_func(
            partial(_is_derived, stored), partial(converter.unstructure, unstructure_as=stored)
        )
    converter.register_unstructure_hook_factory(
        lambda kind: kind is Batch,
        lambda kind: make_dict_unstructure_fn(kind, converter, _cattrs_omit_if_default=True, raw=override(omit=True)),
    )
    converter.register_unstructure_hook_factory(
        lambda kind: kind is ChatResponse,
        lambda kind: make_dict_unstructure_fn(
            kind, converter, _cattrs_omit_if_default=True, raw=override(omit=True), rate_limits=override(omit=True)
        ),
    )
    return converter


def _is_derived(stored: type, kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, stored) and kind is not stored


def _origin(kind: Any) -> object:
    return get_origin(kind)


def _problem(error: BaseException, kind: type[Any] | None) -> str:
    return str(error) if isinstance(error, InvalidRequest) else format_exception(error, kind)


def _part(convert: Callable[[object, object], object], types: frozenset[str], data: object, kind: object) -> object:
    """Convert a part. cattrs would say of an unknown type only that a field is missing."""
    if isinstance(data, Mapping):
        tag = data.get("type")
        if not isinstance(tag, str) or tag not in types:
            raise InvalidRequest(f"the type must be one of {', '.join(sorted(types))}, not {shown(tag)}")
    return convert(data, kind)


def _equal(wanted: object, kind: object) -> bool:
    return kind == wanted


def _input(converter: Converter, data: object, kind: object) -> object:
    """Structure a text, an image or, for an `Input`, a list of them."""
    if isinstance(data, Mapping):
        return converter.structure(data, Image)
    if isinstance(data, list) and kind == Input:
        return converter.structure(data, tuple[str | Image, ...])
    return _plain(data, str)


def _tuple(converter: Converter, data: object, kind: Any) -> tuple[Any, ...]:
    """Convert a list. Stops after `_PROBLEMS` wrong items, unlike cattrs."""
    if not isinstance(data, (list, tuple)):
        raise InvalidRequest(f"expected a list, not {type(data).__name__}")
    item_kind = get_args(kind)[0]
    convert = converter.get_structure_hook(item_kind)
    items: list[Any] = []
    errors: list[Exception] = []
    for position, item in enumerate(data):
        try:
            items.append(convert(item, item_kind))
        except Exception as error:
            note = IterableValidationNote(f"item {position}", position, item_kind)
            error.add_note(note)
            errors.append(error)
            if len(errors) == _PROBLEMS:
                break
    if errors:
        raise IterableValidationError("wrong items", errors, kind)  # pyright: ignore[reportCallIssue]
    return tuple(items)


def _mapping(data: object, kind: Any) -> dict[Any, Any]:
    """Copy an object. Its values are checked by the class that it is a field of."""
    if not isinstance(data, Mapping):
        raise InvalidRequest(f"expected an object, not {type(data).__name__}")
    if kind == ProviderOptions and (wrong := [name for name in data if not isinstance(data[name], Mapping)]):
        raise InvalidRequest(f"expected an object under {shown(wrong[0])}, not {type(data[wrong[0]]).__name__}")
    return dict(data)


def _literal(data: object, kind: Any) -> object:
    accepted = get_args(kind)
    if data not in accepted:
        raise InvalidRequest(f"expected one of {', '.join(map(str, accepted))}, not {shown(data)}")
    return data


def _bytes(data: object) -> bytes:
    if not isinstance(data, str):
        raise InvalidRequest("bytes must be stored as base64 text")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise InvalidRequest(f"broken base64: {error}") from None


def _plain(data: object, kind: type) -> object:
    accepted = (int, float) if kind is float else kind
    if not isinstance(data, accepted) or (isinstance(data, bool) and kind is not bool):
        raise InvalidRequest(f"expected {kind.__name__}, not {type(data).__name__}")
    return data
