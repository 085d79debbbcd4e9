"""Tools that run in your program, and `tool`, which makes one from a function."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Concatenate, Generic, ParamSpec, TypeVar, cast, overload

import attrs

from trunkline._field_types import type_name
from trunkline._json import ProviderOptions
from trunkline.errors import InvalidRequest
from trunkline.messages import ToolCall
from trunkline.request import Tool
from trunkline.tools.functions import Structure, call_by_name, function_signature

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)
S = TypeVar("S")


@attrs.frozen(kw_only=True)
class LocalTool(Tool):
    """A tool that runs in your program. `run` gets the model's call and returns the result.

    `run` is given here for tools whose schema you have, such as one of a database; `tool` makes one from a function and
    its annotations. The result is a string, any JSON value, an object of attrs, pydantic, msgspec or a dataclass, a
    part such as `Image`, a list of parts and strings, or a `ToolResult`. If `run` raises, the model gets the error.

    With `needs_approval`, a run has to have `approve`, which is asked before the tool runs.
    """

    run: Callable[[ToolCall], Awaitable[object]] = attrs.field(repr=False, eq=False)
    needs_approval: bool = False


@attrs.frozen(kw_only=True)
class FunctionTool(LocalTool, Generic[P, R]):
    """A tool made from a function by `tool`. Calling it calls the function."""

    function: Callable[P, R] = attrs.field(repr=False)
    _bind: Callable[[object], FunctionTool[..., object]] | None = attrs.field(default=None, repr=False, eq=False)
    _structure: Structure | None = attrs.field(default=None, alias="structure", repr=False, eq=False)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> FunctionTool[P, R]: ...
    @overload
    def __get__(
        self: FunctionTool[Concatenate[S, Q], R], instance: S, owner: type | None = None
    ) -> FunctionTool[Q, R]: ...
    def __get__(self, instance: object, owner: type | None = None) -> FunctionTool[..., object]:
        """Return the tool of a method, bound to its object."""
        return self if instance is None or self._bind is None else self._bind(instance)


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
    needs_approval: bool = False,
    provider_options: ProviderOptions | None = None,
) -> FunctionTool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
    needs_approval: bool = False,
    provider_options: ProviderOptions | None = None,
) -> Callable[[Callable[P, R]], FunctionTool[P, R]]: ...
def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
    needs_approval: bool = False,
    provider_options: ProviderOptions | None = None,
) -> FunctionTool[P, R] | Callable[[Callable[P, R]], FunctionTool[P, R]]:
    """Make a tool from a function: `@tool`, `@tool(strict=True)` or `tool(function)`.

    The function may be sync or async, a method, or a `functools.partial`. Its annotations give the schema of the
    arguments, and its docstring (in the style of Google, NumPy or reST) the descriptions of the tool and of each
    argument. The arguments of a call are converted and checked before the function runs. If they are wrong, it does not
    run, and the model receives the problem as the result. A sync function runs in a worker thread.

    The conversion is strict: no number is made of the text `"3"`, for example. Text is converted to dates, enumerations
    and other types that JSON does not have.

    `name` and `description` replace those of the function, and `strict` and `provider_options` are those of `Tool`.
    With `needs_approval`, a run has to have `approve`, which is asked before the tool runs.

    Raises `InvalidRequest` if an argument has no annotation or one without a JSON Schema, or if the name of the
    function cannot be that of a tool, and `ConfigurationError` if the extra `tools` is not installed.
    """
    options = partial(
        _function_tool,
        name=name,
        description=description,
        strict=strict,
        needs_approval=needs_approval,
        provider_options=provider_options or {},
    )
    make = cast("Callable[[Callable[P, R]], FunctionTool[P, R]]", options)
    return make if function is None else make(function)


def _function_tool(
    function: Callable[..., object],
    *,
    name: str | None = None,
    description: str | None = None,
    strict: bool | None = None,
    needs_approval: bool = False,
    provider_options: ProviderOptions,
) -> FunctionTool[..., object]:
    if not callable(function):
        raise InvalidRequest(f"a tool is made from a function, not from {type_name(function)}")
    if isinstance(function, type):
        raise InvalidRequest(f"a tool is made from a function, not from the class {function.__name__}")
    is_method = _is_method(function)
    read = function_signature(function, skip_first=is_method)
    if name is None and _NAME.fullmatch(read.name) is None:
        raise InvalidRequest(f"not every provider accepts {read.name!r} as the name of a tool; pass name=…")
    whole: FunctionTool[..., object] = FunctionTool(
        name=read.name if name is None else name,
        description=read.description if description is None else description,
        parameters=read.parameters,
        strict=strict,
        needs_approval=needs_approval,
        provider_options=provider_options,
        function=function,
        run=partial(_call, function, read.structure),
        structure=read.structure,
    )

    def bind(instance: object) -> FunctionTool[..., object]:
        bound = MethodType(function, instance)
        return attrs.evolve(whole, function=bound, run=partial(_call, bound, read.structure), bind=None)

    return attrs.evolve(whole, run=_refuse_unbound, bind=bind) if is_method else whole


_NAME = re.compile("[A-Za-z0-9_-]{1,64}")
"""The names of tools that all providers accept."""


def _is_method(function: Callable[..., object]) -> bool:
    """Return whether a function is defined in the body of a class and takes its object, which has no annotation."""
    if not isinstance(function, FunctionType):
        return False
    owner = function.__qualname__.rpartition(".")[0]
    parameters = list(inspect.signature(function).parameters.values())
    in_class = bool(owner) and not owner.endswith("<locals>")
    return in_class and bool(parameters) and parameters[0].annotation is inspect.Parameter.empty


async def _call(function: Callable[..., object], structure: Structure, call: ToolCall) -> object:
    return await call_by_name(function, structure(call.arguments))


def check_bound(given: Tool) -> None:
    """Raise `InvalidRequest` for the tool of a method that belongs to no object."""
    if isinstance(given, FunctionTool) and given._bind is not None:
        raise _unbound(given.name)


async def _refuse_unbound(call: ToolCall) -> object:
    raise _unbound(call.name)


def _unbound(name: str) -> InvalidRequest:
    return InvalidRequest(f"tool {name!r} is a method: pass the tool of an object, not that of its class")
