"""The result of a call that the model receives: what its tool returned, or why it failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import attrs

from trunkline._excerpts import cut
from trunkline._field_types import json_problem
from trunkline._json import JSONValue, dumps
from trunkline._masking import without_keys
from trunkline.messages import Audio, Document, Image, Message, Opaque, Text, ToolCall, ToolResult, ToolResultPart
from trunkline.tools.functions import raise_missing_extra

_PROBLEM_LIMIT = 2000
"""The most characters of an error that the model gets."""

_PARTS = (Text, Image, Document, Audio, Opaque)


def result_of(call: ToolCall, value: object) -> ToolResult:
    """Convert what a tool returned to the result of its call."""
    if isinstance(value, Message) and len(value.parts) == 1 and isinstance(value.parts[0], ToolResult):
        value = value.parts[0]  # a message that `tool_result` made
    if isinstance(value, ToolResult):
        return attrs.evolve(value, tool_call_id=call.id, name=call.name)
    parts: str | Iterable[ToolResultPart]
    if isinstance(value, Message):
        parts = cast("tuple[ToolResultPart, ...]", value.parts)  # `ToolResult` refuses the others
    elif isinstance(value, str):
        parts = value
    elif isinstance(value, _PARTS):
        parts = (value,)
    elif isinstance(value, (list, tuple)) and any(isinstance(each, _PARTS) for each in value):
        parts = [Text(text=each) if isinstance(each, str) else each for each in value]
    else:
        parts = dumps(_as_json(value)).decode()
    return ToolResult(tool_call_id=call.id, name=call.name, parts=parts)


def failed_result(call: ToolCall, problem: str) -> ToolResult:
    """Return the result of a call that failed. The model receives the problem as its text."""
    return ToolResult(tool_call_id=call.id, name=call.name, parts=problem, is_error=True)


def _as_json(value: object) -> JSONValue:
    """Convert the result of a function to a value of JSON: objects of attrs, dataclasses, msgspec, pydantic, and so on.

    Raises `TypeError` for any other value.
    """
    if isinstance(value, (dict, list, tuple, str, int, float, bool, type(None))) and json_problem(value) is None:
        return cast("JSONValue", value)
    try:
        import msgspec
    except ModuleNotFoundError:
        raise_missing_extra()
    converted: JSONValue = msgspec.to_builtins(value, enc_hook=_by_its_model, str_keys=True)
    if (problem := json_problem(converted)) is not None:
        raise TypeError(f"the result{problem}")
    return converted


def _by_its_model(value: object) -> object:
    dump = getattr(value, "model_dump", None)  # pydantic
    if dump is None:
        raise TypeError(f"a value of type {type(value).__name__} cannot be sent to a model")
    return dump(mode="json")


def problem_text(error: BaseException) -> str:
    """Return the text of an exception for the model: without a traceback, and without the parts that look like keys."""
    try:
        text = str(error).strip()
    except Exception:
        text = "(its text cannot be shown)"
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return for_model(text)


def for_model(problem: str) -> str:
    """Return the text of a problem without the parts that look like keys, cut to the most that the model gets."""
    return cut(without_keys(problem), _PROBLEM_LIMIT)
