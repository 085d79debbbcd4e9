"""What a tool needs to know of a function: the schema of its arguments, its description, and how to call it.

`msgspec` makes the schema and checks the arguments. If an annotation contains a class of pydantic, or a union that
msgspec does not support, pydantic does both: the library that made a schema also checks what the model sends.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast, get_type_hints

import anyio.to_thread
import attrs

from trunkline._annotations import has_pydantic
from trunkline._exception_text import first_line
from trunkline._json import JSONObject, JSONValue, dumps
from trunkline.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from docstring_parser import Docstring

Structure = Callable[[Mapping[str, JSONValue]], dict[str, Any]]
"""Convert the arguments of a call. Raises `ArgumentError` if they do not fit the function's annotations."""


class ArgumentError(Exception):
    """The model called a function with wrong arguments. The text is for the model."""


@attrs.frozen(kw_only=True)
class Signature:
    """A function as the model sees it, and the conversion of its arguments."""

    name: str
    description: str | None
    parameters: JSONObject
    structure: Structure


@attrs.frozen
class _Argument:
    name: str
    annotation: Any
    description: str | None
    default: object = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


def function_signature(function: Callable[..., object], *, skip_first: bool = False) -> Signature:
    """Read the signature, the annotations and the docstring of a function.

    `skip_first` leaves out the first argument, which is the object of a method. Raises `InvalidRequest` if an argument
    has no annotation, or one that has no schema, and `ConfigurationError` if the extra `tools` is not installed.
    """
    inner = _inner(function)
    name = getattr(inner, "__name__", None) or type(inner).__name__
    docstring = _docstring(inspect.getdoc(inner) or "") if inspect.isroutine(inner) else None
    arguments = _arguments(function, inner, name, docstring, skip_first=skip_first)
    schema, structure = _converter(name, arguments)
    for argument in arguments:
        if not argument.required and _is_plain(argument.default):
            properties = cast("dict[str, dict[str, JSONValue]]", schema["properties"])
            properties[argument.name].setdefault("default", cast("JSONValue", argument.default))
    parts = (docstring.short_description, docstring.long_description) if docstring is not None else ()
    description = "\n\n".join(part.strip() for part in parts if part)
    return Signature(name=name, description=description or None, parameters=schema, structure=structure)


def _inner(function: Callable[..., object]) -> Callable[..., object]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _bound_names(function: Callable[..., object]) -> set[str]:
    """Return the arguments that partials give by keyword, which the model does not choose."""
    names: set[str] = set()
    while isinstance(function, functools.partial):
        names |= function.keywords.keys()
        function = function.func
    return names


def _arguments(
    function: Callable[..., object],
    inner: Callable[..., object],
    name: str,
    docstring: Docstring | None,
    *,
    skip_first: bool,
) -> list[_Argument]:
    try:
        found = list(inspect.signature(function).parameters.values())[skip_first:]
        annotated = inner if inspect.isroutine(inner) else type(inner).__call__
        hints = get_type_hints(annotated, include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise InvalidRequest(
            f"the annotations of tool {name!r} cannot be read: {error}; define their types at the top of a module"
        ) from None
    help_texts = {each.arg_name.lstrip("*"): each.description for each in docstring.params} if docstring else {}
    bound = _bound_names(function)
    arguments = []
    for each in found:
        if each.name in bound:
            continue
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise InvalidRequest(f"tool {name!r} takes any arguments ({each}); a model needs the names of all of them")
        if each.name not in hints:
            raise InvalidRequest(f"argument {each.name!r} of tool {name!r} needs an annotation")
        arguments.append(_Argument(each.name, hints[each.name], help_texts.get(each.name) or None, each.default))
    return arguments


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (str, bool, int) or (type(value) is float and math.isfinite(value))


def _docstring(text: str) -> Docstring | None:
    if not text:
        return None
    try:
        from docstring_parser import parse
    except ModuleNotFoundError:
        raise_missing_extra()
    return parse(text)


def raise_missing_extra() -> NoReturn:
    """Raise the error for a missing extra `tools`."""
    raise ConfigurationError("making a tool from a function needs: pip install 'trunkline[tools]'") from None


def _converter(name: str, arguments: list[_Argument]) -> tuple[dict[str, JSONValue], Structure]:
    try:
        if any(has_pydantic(argument.annotation) for argument in arguments):
            return _by_pydantic(name, arguments)
        try:
            return _by_msgspec(name, arguments)
        except TypeError:
            try:
                return _by_pydantic(name, arguments)
            except ModuleNotFoundError:
                pass
            raise
    except InvalidRequest:
        raise
    except ModuleNotFoundError:
        raise_missing_extra()
    except Exception as error:  # each library has its own classes for types that it does not support
        raise InvalidRequest(f"tool {name!r} has an argument without a JSON Schema: {first_line(error)}") from None


def _by_msgspec(name: str, arguments: list[_Argument]) -> tuple[dict[str, JSONValue], Structure]:
    import msgspec

    fields: list[Any] = []
    for each in arguments:
        annotation = each.annotation
        if each.description:
            annotation = Annotated[annotation, msgspec.Meta(description=each.description)]
        if each.required:
            fields.append((each.name, annotation))
        else:  # left out of the call, so that the function's own default applies
            fields.append((each.name, annotation | msgspec.UnsetType, msgspec.UNSET))
    struct = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    whole = msgspec.json.schema(struct)
    definitions = whole.pop("$defs")
    schema = definitions.pop(whole["$ref"].rpartition("/")[2])
    schema.pop("title", None)
    schema.setdefault("properties", {})
    if definitions:
        schema["$defs"] = definitions

    def structure(given: Mapping[str, JSONValue]) -> dict[str, Any]:
        try:
            # Strings are converted as in JSON: to dates, enumerations and so on. Numbers are not made of them.
            values = msgspec.convert(given, struct, str_keys=True)
        except msgspec.ValidationError as error:
            raise ArgumentError(str(error)) from None
        found = {field: getattr(values, field) for field in struct.__struct_fields__}
        return {field: value for field, value in found.items() if value is not msgspec.UNSET}

    return schema, structure


_META = (
    "gt",
    "ge",
    "lt",
    "le",
    "multiple_of",
    "pattern",
    "min_length",
    "max_length",
    "title",
    "description",
    "examples",
)
"""The restrictions and descriptions of msgspec that pydantic has under the same names."""


def _by_pydantic(name: str, arguments: list[_Argument]) -> tuple[dict[str, JSONValue], Structure]:
    import msgspec
    from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

    # pydantic refuses the `TypedDict` of `typing` before Python 3.12, and requires this package.
    typing_extensions: Any = import_module("typing_extensions")

    fields: dict[str, Any] = {}
    for each in arguments:
        annotation = each.annotation
        for meta in getattr(annotation, "__metadata__", ()):
            if isinstance(meta, msgspec.Meta):  # which pydantic does not know
                known = {name: value for name in _META if (value := getattr(meta, name)) is not None}
                annotation = Annotated[annotation, Field(**known)]
        if each.description:
            annotation = Annotated[annotation, Field(description=each.description)]
        fields[each.name] = annotation if each.required else typing_extensions.NotRequired[annotation]
    shape: Any = typing_extensions.TypedDict(name, fields)
    shape.__pydantic_config__ = ConfigDict(extra="forbid")
    adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(shape)
    schema = adapter.json_schema()
    schema.pop("title", None)

    def structure(given: Mapping[str, JSONValue]) -> dict[str, Any]:
        try:
            # As JSON, in which strict validation accepts strings for dates and enumerations.
            return adapter.validate_json(dumps(given), strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found]
            raise ArgumentError("; ".join(problems)) from None

    return schema, structure


def _is_async(function: Callable[..., object]) -> bool:
    """Return whether calling a function gives a coroutine."""
    inner = _inner(function)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__)


async def call_function(function: Callable[..., object], *args: object, **kwargs: object) -> object:
    """Call a function, and return its result.

    An async function runs in this task, any other one in a worker thread, with a copy of the context variables. If the
    call is cancelled, a thread goes on to its end, and its result is dropped.
    """
    if _is_async(function):
        return await cast("Awaitable[object]", function(*args, **kwargs))
    bound = functools.partial(function, *args, **kwargs)
    result = await anyio.to_thread.run_sync(bound, abandon_on_cancel=True)
    return await result if inspect.isawaitable(result) else result


async def call_by_name(function: Callable[..., object], arguments: Mapping[str, object]) -> object:
    """Call a function by the names of its arguments, as `call_function` does."""
    by_name = dict(arguments)
    positional = [
        by_name.pop(each.name, each.default)
        for each in inspect.signature(function).parameters.values()
        if each.kind is each.POSITIONAL_ONLY
    ]
    return await call_function(function, *positional, **by_name)
