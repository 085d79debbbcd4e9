"""Typed answers: the schema of a type for the request, and a value of the type from the response.

The library that makes the schema also structures the answer: `msgspec` for attrs classes, dataclasses, TypedDicts,
Structs and plain types, `pydantic` for its own classes and for unions that `msgspec` refuses. Neither is imported
before a call asks for a typed answer.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Generic, TypeVar, cast

import attrs

from trunkline._annotations import has_pydantic
from trunkline._exception_text import first_line
from trunkline._field_types import json_problem
from trunkline._json import JSONObject, JSONValue, dumps, loads, loads_finite
from trunkline._masking import without_keys
from trunkline.authoring.response_formats import accepts_null, resolved, with_constant_types
from trunkline.authoring.schemas import with_subschemas
from trunkline.errors import AnswerProblem, ConfigurationError, InvalidAnswer, InvalidRequest
from trunkline.messages import Text, user
from trunkline.request import ChatRequest, ResponseFormat
from trunkline.response import CallWarning, ChatResponse, FinishReason, Usage

T_co = TypeVar("T_co", covariant=True)

_WRAPPED = "answer"
"""The property that holds an answer that is not an object, since most APIs accept only objects."""

_FENCED = re.compile(r"```[A-Za-z]*\s*\n(.*?)(?:\n\s*```|\Z)", re.DOTALL)
_INSTALL = "install trunkline[answers]"
_ASK_AGAIN: frozenset[AnswerProblem] = frozenset({"not_json", "does_not_fit", "empty"})
"""The problems after which the model is asked again. A refusal or the output limit would recur."""


@attrs.frozen(kw_only=True)
class TypedResponse(ChatResponse, Generic[T_co]):
    """A complete response with its text as a value of the type that was asked for, in `answer`.

    If the model was asked more than once, `usage` is the sum over all attempts; the rest is the last response.
    """

    answer: T_co


@attrs.frozen
class _Unfit(Exception):
    """A value does not fit the type. `path` is a JSON path such as `$.places[0].name`. Never leaves this module."""

    path: str
    message: str


@attrs.frozen(kw_only=True)
class AnswerType(Generic[T_co]):
    """What a call with `answer_type` sends, and how it reads the response. `answer_type_of` makes one."""

    name: str
    format: ResponseFormat
    wrapped: bool
    structure: Callable[[JSONValue], T_co] = attrs.field(repr=False)

    def request(self, request: ChatRequest) -> ChatRequest:
        """Return the request with the format of the answer. Raises `InvalidRequest` if it has another format."""
        if request.response_format is not None:
            raise InvalidRequest("the call has both an answer_type and a response_format; leave one out")
        return attrs.evolve(request, response_format=self.format)

    def read(self, response: ChatResponse, *, usage: Usage | None = None) -> TypedResponse[T_co]:
        """Return the response with its answer. Raises `InvalidAnswer` if it has none.

        `usage` replaces that of the response, if it is not `None`.
        """
        # The reading reverses these changes to the schema, so the application need not know of them.
        warnings = tuple(one for one in response.warnings if not _is_reversed(one))
        response = attrs.evolve(response, warnings=warnings, usage=usage or response.usage)
        answer = self._answer(response)
        fields = {field.name: getattr(response, field.name) for field in attrs.fields(ChatResponse)}
        return TypedResponse(**fields, answer=answer)

    def partial(self, value: JSONValue) -> JSONValue:
        """Return the answer in the beginning of a response's JSON, or `None` if it has not started."""
        return value.get(_WRAPPED) if self.wrapped and isinstance(value, dict) else value

    def value(self, response: ChatResponse) -> JSONValue:
        """Return the answer as JSON, before it is structured. Raises `InvalidAnswer` if the response has none."""
        if response.refusal or (response.finish_reason is FinishReason.CONTENT_FILTER and not response.text.strip()):
            raise _error("refused", "the model refused to answer, or a safety system stopped the answer", response)
        try:
            value = _decoded(response)
        except (ValueError, RecursionError) as error:
            raise self._no_json(response, error) from None
        schema = cast(JSONObject, self.format.schema)
        value = without_nulls(value, schema)
        if self.wrapped:
            if not isinstance(value, dict) or _WRAPPED not in value:
                raise self._unfit("$", f"expected an object with the property {_WRAPPED!r}", response)
            value = value[_WRAPPED]
        return value

    def restore(self, value: JSONValue) -> T_co:
        """Return the answer that `value` returned as JSON. Raises `InvalidRequest` if it does not fit the type."""
        try:
            return self.structure(value)
        except _Unfit as error:
            message = f"the stored answer does not fit {self.name}: {error.message} (at {error.path})"
        raise InvalidRequest(without_keys(message))

    def _answer(self, response: ChatResponse) -> T_co:
        value = self.value(response)
        try:
            return self.structure(value)
        except _Unfit as error:
            unfit = error
        root = f"$.{_WRAPPED}" if self.wrapped else "$"
        raise self._unfit(root + unfit.path.removeprefix("$"), unfit.message, response)

    def _no_json(self, response: ChatResponse, error: Exception) -> InvalidAnswer:
        if response.finish_reason is FinishReason.LENGTH:
            return _error("cut_off", "the output limit cut the answer off; raise max_output_tokens", response)
        if response.finish_reason is FinishReason.CONTENT_FILTER:
            return _error("refused", "a safety system stopped the answer", response)
        if response.tool_calls:
            why = "the model called a tool instead of answering; use run_tools, or run the call and send its result"
            return _error("tool_calls", why, response)
        if response.finish_reason is FinishReason.PENDING:
            return _error("empty", "the response is still being made in the background", response)
        if not response.text.strip():
            return _error("empty", "the response has no text", response)
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        return _error("not_json", f"the answer is not JSON: {why}", response)

    def _unfit(self, path: str, message: str, response: ChatResponse) -> InvalidAnswer:
        # A validator may quote the value.
        message = without_keys(f"the answer does not fit {self.name}: {message} (at {path})")
        return _error("does_not_fit", message, response, without_keys(path))


def _is_reversed(warning: CallWarning) -> bool:
    return warning.subject == "response_format" and warning.kind == "changed" and not warning.lossy


def _error(reason: AnswerProblem, message: str, response: ChatResponse, path: str | None = None) -> InvalidAnswer:
    return InvalidAnswer(
        message,
        reason=reason,
        path=path,
        response=response,
        provider=response.provider,
        service=response.service,
        model=response.model,
    )


def _decoded(response: ChatResponse) -> JSONValue:
    """Return the JSON of a response's text. Raises `ValueError` or `RecursionError` for the text as a whole."""
    try:
        return cast(JSONValue, loads_finite(response.text))
    except ValueError:
        for text in _other_texts(response):
            try:
                return cast(JSONValue, loads_finite(text))
            except ValueError:
                continue
        raise


def _other_texts(response: ChatResponse) -> Iterator[str]:
    """Yield what may be the answer if the whole text is not JSON.

    It is the inside of a code fence, the last part, or what is between the first and the last brace. Models that are
    asked in the prompt write code fences and sentences around the answer, and some models write a sentence before they
    call a hosted tool, such as a search.
    """
    fenced = _FENCED.search(response.text)
    if fenced is not None:
        yield fenced[1]
    texts = [part.text for part in response.parts if isinstance(part, Text) and not part.refusal]
    if len(texts) > 1:
        yield texts[-1]
    start, end = response.text.find("{"), response.text.rfind("}")
    if 0 <= start < end:
        yield response.text[start : end + 1]


def without_nulls(value: JSONValue, schema: JSONObject) -> JSONValue:
    """Return a value without the properties that are `null`, but by the schema may only be left out.

    Some APIs make models write every property, and `null` stands for one that is left out.
    """
    return _without_nulls(value, schema, schema)


def _without_nulls(value: JSONValue, schema: JSONValue, root: JSONObject) -> JSONValue:
    if not isinstance(schema, dict) or not isinstance(value, (dict, list)):
        return value
    schema = _alternative(value, resolved(schema, root), root)
    if isinstance(value, list):
        first = schema.get("prefixItems")
        places = first if isinstance(first, (list, tuple)) else ()
        rest = schema.get("items")
        return [
            _without_nulls(item, places[number] if number < len(places) else rest, root)
            for number, item in enumerate(value)
        ]
    properties = schema.get("properties")
    named = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    needed = required if isinstance(required, (list, tuple)) else ()
    kept: dict[str, JSONValue] = {}
    for name, item in value.items():
        of_item = named.get(name, schema.get("additionalProperties"))
        if item is None and name in named and name not in needed and not _may_be_null(of_item, root):
            continue
        kept[name] = _without_nulls(item, of_item, root)
    return kept


def _may_be_null(schema: JSONValue, root: JSONObject) -> bool:
    return not isinstance(schema, dict) or accepts_null(schema, root)


def _alternative(value: JSONValue, schema: JSONObject, root: JSONObject) -> JSONObject:
    """Return the alternative of a union that a value belongs to, by its type, its names and its tags."""
    waiting, seen = [schema], set[int]()
    while waiting:
        one = resolved(waiting.pop(), root)
        if id(one) in seen:  # unions may refer to each other, in a circle or many times
            continue
        seen.add(id(one))
        union = one.get("anyOf", one.get("oneOf"))
        if isinstance(union, (list, tuple)):
            waiting += (each for each in reversed(union) if isinstance(each, dict))
        elif len(seen) == 1 or _looks_like(value, one, root):
            return one
    return {}


def _looks_like(value: JSONValue, schema: JSONObject, root: JSONObject) -> bool:
    if isinstance(value, list):
        return schema.get("type") == "array"
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(value, dict) or not isinstance(properties, dict):
        return isinstance(value, dict) and schema.get("type") == "object"
    if any(name not in properties for name in value):
        return False
    if isinstance(required, (list, tuple)) and any(name not in value for name in required):
        return False
    for name, item in value.items():
        one = properties[name]
        one = resolved(one, root) if isinstance(one, dict) else {}
        tags = one.get("enum", [one["const"]] if "const" in one else None)
        if isinstance(tags, (list, tuple)) and item not in tags and item is not None:
            return False
    return True


def answer_type_of(type_: object) -> AnswerType[object]:
    """Return how to ask for a value of a type, and how to read it. The result is cached.

    Raises `InvalidRequest` for a type that has no JSON Schema, and `ConfigurationError` if a library is not installed.
    """
    try:
        return _cached(type_)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _made(type_)


def _made(type_: object) -> AnswerType[object]:
    name = _type_name(type_)
    schema, structure = _library(type_, name)
    try:
        plain = cast(JSONObject, loads(dumps(schema)))  # defaults may be tuples
    except (ValueError, TypeError, RecursionError):
        raise _no_schema(name, "its schema is not JSON") from None
    definitions = plain.get("$defs")
    root = dict(resolved({keyword: value for keyword, value in plain.items() if keyword != "$defs"}, plain))
    description = root.pop("description", None)
    wrapped = root.get("type") != "object" or not isinstance(root.get("properties"), dict)
    if wrapped:
        root = {"type": "object", "properties": {_WRAPPED: root}, "required": [_WRAPPED]}
    cleaned = {**_cleaned(root)}
    if isinstance(definitions, dict):
        used = _used(cleaned, definitions)
        if used:
            cleaned["$defs"] = {key: _cleaned(one) for key, one in definitions.items() if key in used}
    format_ = ResponseFormat(
        schema=cleaned,
        name=re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:64] or "answer",
        description=description if isinstance(description, str) else None,
    )
    return AnswerType(name=name, format=format_, wrapped=wrapped, structure=structure)


_cached = lru_cache(maxsize=256)(_made)


def _cleaned(schema: JSONValue) -> JSONObject:
    """Return the schema without what tells a model nothing, and with the types of its constants."""
    if not isinstance(schema, dict):
        return cast(JSONObject, schema)
    changed = {keyword: value for keyword, value in schema.items() if keyword not in ("title", "discriminator")}
    return with_subschemas(with_constant_types(changed), lambda one: _cleaned(one) if isinstance(one, dict) else one)


def _used(schema: JSONValue, definitions: JSONObject) -> set[str]:
    """Return the names of the definitions that a schema needs."""
    used, waiting = set[str](), [schema]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
            reference = value.get("$ref")
            name = (
                reference.rpartition("/")[2].replace("~1", "/").replace("~0", "~") if isinstance(reference, str) else ""
            )
            if name in definitions and name not in used:
                used.add(name)
                waiting.append(definitions[name])
        elif isinstance(value, (list, tuple)):
            waiting += value
    return used


def _type_name(type_: object) -> str:
    if isinstance(type_, type) and not typing.get_args(type_):
        return type_.__name__
    return re.sub(r"(?:\w+\.|<locals>\.)+(?=\w)", "", str(type_)) if not isinstance(type_, str) else repr(type_)


# The libraries


def _library(type_: object, name: str) -> tuple[JSONObject, Callable[[JSONValue], object]]:
    """Return the schema of a type, and the function that structures a value, from the library that knows the type."""
    if isinstance(type_, Mapping):
        raise InvalidRequest(
            "answer_type is a schema, not a type; use response_format=ResponseFormat(schema=…) instead"
        )
    if inspect.isroutine(type_):  # pydantic would call it with the answer
        raise _no_schema(name, "it is a function")
    if has_pydantic(type_):
        return _pydantic(type_, name, None)
    try:
        import msgspec
    except ImportError:
        raise ConfigurationError(f"typed answers need the package msgspec; {_INSTALL}") from None
    try:
        schema = msgspec.json.schema(type_)
    except (TypeError, NameError, ValueError, NotImplementedError) as error:
        return _pydantic(type_, name, error)

    def structure(value: JSONValue) -> object:
        try:
            return msgspec.convert(value, cast("type[object]", type_), strict=True, str_keys=True)
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `")
            unfit = _Unfit(path.rstrip("`") or "$", message)
        except Exception as error:  # of a validator or `__post_init__` of the class
            unfit = _Unfit("$", f"{type(error).__name__} in the class")
        raise unfit

    return schema, structure


def _pydantic(type_: object, name: str, before: Exception | None) -> tuple[JSONObject, Callable[[JSONValue], object]]:
    try:
        import pydantic
        from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
    except ImportError:
        why = "it needs pydantic, which is not installed" if before is None else first_line(before)
        raise _no_schema(name, why) from None
    try:
        adapter: pydantic.TypeAdapter[object] = pydantic.TypeAdapter(cast("type[object]", type_))
        schema = adapter.json_schema()
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError, NameError, AttributeError) as error:
        why = f"{first_line(before)}. pydantic: {first_line(error)}" if before is not None else first_line(error)
        raise _no_schema(name, why) from None

    def structure(value: JSONValue) -> object:
        try:
            return adapter.validate_json(dumps(value), strict=True)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            unfit = _Unfit(_path(first["loc"]), first["msg"])
        except Exception as error:  # of a validator of the class
            unfit = _Unfit("$", f"{type(error).__name__} in the class")
        raise unfit

    return schema, structure


def _path(location: Sequence[int | str]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)


def _no_schema(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"no JSON Schema can be made of answer_type {name}: {why}. Use attrs classes, dataclasses, TypedDicts, "
        "msgspec.Structs, pydantic models, and lists and unions of them. A union of several classes needs pydantic "
        "(for dataclasses and its models) or tagged Structs"
    )


# Asking again


def check_retries(answer_retries: object) -> None:
    """Raise `InvalidRequest` for a number of retries that makes no sense."""
    if type(answer_retries) is not int or answer_retries < 0:
        raise InvalidRequest("answer_retries must be a whole number of at least 0")


def next_request(request: ChatRequest, error: InvalidAnswer) -> ChatRequest | None:
    """Return the request that tells the model what was wrong with its answer, or `None` if asking again is useless."""
    response = error.response
    if error.reason not in _ASK_AGAIN or response.tool_calls:
        return None
    again = user(f"Your answer cannot be used: {error.message}. Answer again, with JSON that follows the schema.")
    return request.with_messages(*([response.message] if response.text.strip() else []), again)


# Partial answers


def partial_json(text: bytearray) -> JSONValue:
    """Return the value that the beginning of some JSON has so far. Raises `ValueError` if it is not JSON."""
    try:
        import jiter
    except ImportError:
        raise ConfigurationError(f"partial answers need the package jiter; {_INSTALL}") from None
    start = text.find(b"{")
    if start < 0:
        return None
    before = text[:start]
    if before.strip() and b"```" not in before and (fence := text.find(b"```", start)) >= 0:
        start = text.find(b"{", fence)  # the first brace was one of words before the code fence
        if start < 0:
            raise ValueError("the JSON has not started")
    end = text.find(b"\n```", start)  # the end of a code fence; a string in JSON has no line break
    data = bytes(memoryview(text)[start : len(text) if end < 0 else end])
    value = cast(JSONValue, jiter.from_json(data, partial_mode="trailing-strings", allow_inf_nan=False))
    if json_problem(value) is not None:  # a number that is too large, such as 1e999, becomes infinite
        raise ValueError("a number is too large")
    return value
