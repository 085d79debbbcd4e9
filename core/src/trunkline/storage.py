"""Store conversations: convert messages, requests and responses to JSON and back. Only `raw` is not stored.

The `type` of a part is stored as `text`, `tool_call` and so on; bytes are stored in base64. Fields with their default
value are left out, so that a later version, which may have more fields, can read the data.
"""

from __future__ import annotations

import base64
import binascii
from functools import cache
from typing import TypeVar, cast

from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError, StructureHandlerNotFoundError
from cattrs.gen import make_dict_unstructure_fn, override
from cattrs.strategies import configure_tagged_union

from trunkline._excerpts import cut
from trunkline._json import JSONValue, type_tag
from trunkline.errors import InvalidRequest
from trunkline.messages import Message, Part, ToolResultPart
from trunkline.response import ChatResponse, FinishReason

T = TypeVar("T")

_PROBLEMS = 5
"""How many of the problems in stored data an error describes. The others are counted."""

_PROBLEM_LIMIT = 300
"""The longest description of one problem, in characters. It may quote the data."""


def to_json(value: object) -> JSONValue:
    """Convert a message, a request, a response, or a sequence of them to JSON.

    Raises `InvalidRequest` if the value is nested too deeply, as the arguments of a tool call may be.
    """
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    try:
        return cast("JSONValue", _converter().unstructure(value))
    except RecursionError:
        raise InvalidRequest(f"this {type(value).__name__} is nested too deeply to be stored") from None


def from_json(kind: type[T], data: JSONValue) -> T:
    """Convert the result of `to_json` back to a value of the class `kind` (`Message`, `ChatRequest` …).

    Raises `InvalidRequest` for data of another form; its message names the place.
    """
    try:
        return _converter().structure(data, kind)
    except (BaseValidationError, StructureHandlerNotFoundError, KeyError, TypeError, ValueError) as error:
        problems = transform_error(error) if isinstance(error, BaseValidationError) else [str(error)]
        shown = "; ".join(cut(problem, _PROBLEM_LIMIT) for problem in problems[:_PROBLEMS])
        omitted = len(problems) - _PROBLEMS
        more = f"; and {omitted} more" if omitted > 0 else ""
        raise InvalidRequest(f"this is not a stored {kind.__name__}: {shown}{more}") from error
    except RecursionError:
        raise InvalidRequest(f"this is not a stored {kind.__name__}: it is nested too deeply") from None


def messages_from_json(data: JSONValue) -> tuple[Message, ...]:
    """Convert a stored conversation back to messages. Raises `InvalidRequest` for data of another form."""
    if not isinstance(data, list):
        raise InvalidRequest("a stored conversation must be a list of messages")
    return tuple(from_json(Message, item) for item in data)


@cache
def _converter() -> Converter:
    converter = Converter(omit_if_default=True, forbid_extra_keys=False)
    converter.register_unstructure_hook(bytes, lambda data: base64.b64encode(data).decode())
    converter.register_structure_hook(bytes, lambda data, _: _bytes(data))
    # Values are checked, not converted: by default cattrs would turn `True` into the string 'True'.
    for plain in (str, int, float, bool):
        converter.register_structure_hook(plain, _plain)
    converter.register_structure_hook(FinishReason, lambda reason, _: FinishReason(reason))
    for union in (ToolResultPart, Part):
        configure_tagged_union(union, converter, tag_name="type", tag_generator=type_tag)
    converter.register_unstructure_hook_factory(
        lambda kind: kind is ChatResponse,
        lambda kind: make_dict_unstructure_fn(kind, converter, _cattrs_omit_if_default=True, raw=override(omit=True)),
    )
    return converter


def _bytes(data: object) -> bytes:
    if not isinstance(data, str):
        raise TypeError("bytes must be stored as base64 text")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError(f"broken base64: {error}") from None


def _plain(data: object, kind: type) -> object:
    accepted = (int, float) if kind is float else kind
    if not isinstance(data, accepted) or (isinstance(data, bool) and kind is not bool):
        raise TypeError(f"expected {kind.__name__}, not {type(data).__name__}")
    return data
