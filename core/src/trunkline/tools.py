"""Tools that run in your program, and `run_tools`, the loop that answers a model's calls of them."""

from __future__ import annotations

import copy
import inspect
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import FunctionType, MethodType, TracebackType
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Self,
    TypeAlias,
    TypeVar,
    Union,
    Unpack,
    cast,
    overload,
)

import anyio
import attrs
from anyio.lowlevel import checkpoint_if_cancelled

from trunkline._calls.borders import is_foreign_cancellation
from trunkline._event_loops import start_task
from trunkline._field_types import shown, type_name
from trunkline._json import JSONObject, ProviderOptions, dumps
from trunkline._masking import listed, quoted
from trunkline._suggestions import check_keywords
from trunkline._tool_functions import (
    ArgumentError,
    Structure,
    call_by_name,
    call_function,
    function_signature,
    problem_text,
    to_json,
)
from trunkline.answers import AnswerType, TypedResponse, next_request, without_nulls
from trunkline.authoring.provider import CallGroup
from trunkline.errors import AnswerProblem, CallError, InvalidAnswer, InvalidRequest, StreamClosed, TrunklineError
from trunkline.events import Event, Finished
from trunkline.messages import (
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Text,
    ToolCall,
    ToolResult,
    ToolResultPart,
    user,
)
from trunkline.request import ChatRequest, RunParams, Tool
from trunkline.response import ChatResponse, FinishReason, Usage, sum_usage
from trunkline.service import Service
from trunkline.stream import Stream

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S")


# Tools


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
    argument. The arguments of a call are converted and checked before the function runs; the model is told of wrong
    ones. A sync function runs in a worker thread.

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


async def _refuse_unbound(call: ToolCall) -> object:
    raise InvalidRequest(f"tool {call.name!r} is a method: pass the tool of an object, not that of its class")


# What a run consists of


@attrs.frozen(kw_only=True)
class ToolStarted:
    """A tool starts to run for a call of the model: after its approval, and when `max_parallel` allows it.

    A call that is refused, or that does not fit the tool, has a `ToolFinished` only. `call` is the `ToolCall`, or the
    `Opaque` part that a handler answers.
    """

    call: ToolCall | Opaque

    @property
    def name(self) -> str:
        """The name of the tool, or the `kind` of the part."""
        return _name(self.call)


@attrs.frozen(kw_only=True)
class ToolFinished:
    """A call has its result, which the model gets in the next round. It comes as soon as the call has ended.

    `error` is the exception that the tool raised, or `None`. Its text may have more than the model is told.
    """

    call: ToolCall | Opaque
    result: ToolResult | Opaque
    error: Exception | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def name(self) -> str:
        """The name of the tool, or the `kind` of the part."""
        return _name(self.call)


@attrs.frozen(kw_only=True)
class AnswerRejected:
    """The model's answer does not fit the `answer_type` of the run, and the model is asked again (`answer_retries`).

    `error` is the `InvalidAnswer` that would end a run without retries. It has the response.
    """

    error: InvalidAnswer

    @property
    def reason(self) -> AnswerProblem:
        """Why the answer was rejected, as in `InvalidAnswer.reason`."""
        return self.error.reason


RunEvent: TypeAlias = Union[Event, ToolStarted, ToolFinished, AnswerRejected]
"""An event of `run_tools`: any event of a stream, the start and the result of each tool, and a rejected answer."""


@attrs.frozen(kw_only=True)
class ToolRound:
    """One round of a run: the model's response, and the results of the calls in it, in the order of the calls.

    If a run ends early, the round has the results of the calls that had ended.
    """

    response: ChatResponse
    results: tuple[ToolFinished, ...] = ()


class ToolRunError(TrunklineError):
    """A run of tools ended without an answer. `run` is the run: its messages, rounds and usage so far."""

    def __init__(self, message: str, *, run: ToolRun, service: str | None = None) -> None:
        super().__init__(message, service=service)
        self.run = run
        """The run: its messages, rounds and usage so far."""


class RoundLimitReached(ToolRunError):
    """The model still calls tools after `max_rounds` rounds. The calls of the last round were not run.

    To go on, start another run with `error.run.messages`, which runs these calls first.
    """


class ToolFailed(ToolRunError):
    """A handler raised an exception, or a tool in a run with `on_tool_error="raise"`. The exception is the cause."""


@attrs.frozen(kw_only=True)
class ApprovalRequest:
    """A call that `approve` of `run_tools` decides about. Its arguments have been checked.

    `tool` is the tool that would run. Compare it rather than its name, in which a typing mistake would go unnoticed:
    `request.tool == book`. `arguments` are converted as the function gets them, without those that the model left out.
    For a `LocalTool` that `tool` did not make, they are the JSON of the call.
    """

    call: ToolCall
    tool: LocalTool
    arguments: Mapping[str, object]

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.call.name


Approve: TypeAlias = Callable[
    [ApprovalRequest], Union[bool, str, ToolResult, Awaitable[bool], Awaitable[str], Awaitable[ToolResult]]
]
"""The type of `approve` in `run_tools`."""

Handler: TypeAlias = Callable[[Opaque], Union[JSONObject, Opaque, Awaitable[JSONObject], Awaitable[Opaque]]]
"""The type of a handler in `run_tools`: it gets a part that waits for an answer, and returns the answer."""


@overload
def run_tools(
    service: Service,
    request: ChatRequest | str | Message | Iterable[Message],
    tools: Iterable[Tool | Callable[..., object]] = (),
    *,
    max_rounds: int = 20,
    at_limit: Literal["raise", "answer"] = "raise",
    max_parallel: int = 8,
    approve: Approve | None = None,
    on_tool_error: Literal["report", "raise"] = "report",
    handlers: Mapping[str, Handler] | None = None,
    name: str | None = None,
    answer_type: type[T],
    answer_retries: int = 0,
    **params: Unpack[RunParams],
) -> TypedToolRun[T]: ...
@overload
def run_tools(
    service: Service,
    request: ChatRequest | str | Message | Iterable[Message],
    tools: Iterable[Tool | Callable[..., object]] = (),
    *,
    max_rounds: int = 20,
    at_limit: Literal["raise", "answer"] = "raise",
    max_parallel: int = 8,
    approve: Approve | None = None,
    on_tool_error: Literal["report", "raise"] = "report",
    handlers: Mapping[str, Handler] | None = None,
    name: str | None = None,
    answer_type: None = None,
    **params: Unpack[RunParams],
) -> ToolRun: ...
@overload
def run_tools(
    service: Service,
    request: ChatRequest | str | Message | Iterable[Message],
    tools: Iterable[Tool | Callable[..., object]] = (),
    *,
    max_rounds: int = 20,
    at_limit: Literal["raise", "answer"] = "raise",
    max_parallel: int = 8,
    approve: Approve | None = None,
    on_tool_error: Literal["report", "raise"] = "report",
    handlers: Mapping[str, Handler] | None = None,
    name: str | None = None,
    answer_type: object,
    answer_retries: int = 0,
    **params: Unpack[RunParams],
) -> TypedToolRun[object]: ...
def run_tools(
    service: Service,
    request: ChatRequest | str | Message | Iterable[Message],
    tools: Iterable[Tool | Callable[..., object]] = (),
    *,
    max_rounds: int = 20,
    at_limit: Literal["raise", "answer"] = "raise",
    max_parallel: int = 8,
    approve: Approve | None = None,
    on_tool_error: Literal["report", "raise"] = "report",
    handlers: Mapping[str, Handler] | None = None,
    name: str | None = None,
    answer_type: object = None,
    answer_retries: int = 0,
    **params: Unpack[RunParams],
) -> ToolRun:
    """Ask a model, run the tools that it calls, and send it the results, until it answers without a call.

    `run = await run_tools(service, "…", [weather])` returns the whole run. To read the events of all rounds as they
    arrive: `async with run_tools(…) as run: async for event in run: …`.

    `tools` are functions, tools that `tool` or `mcp_tools` made, and any other `Tool`. They are added to those of
    `request`. The calls of a round run at the same time, at most `max_parallel` of them. A tool that raises does not
    end the run: the model is told the class and the text of the exception, without what looks like a key in it. With
    `on_tool_error="raise"` the run raises `ToolFailed`.

    Calls of a `Tool` that has no function are left to you: the run ends with the finish reason `tool_calls`, and
    `run.pending` has the calls. To go on, start another run with `run.messages` and their results. Calls at the end of
    `request` that have no result are run first.

    A run has at most `max_rounds` rounds, which are requests to the model. If the model then still calls tools, the run
    raises `RoundLimitReached`. With `at_limit="answer"` the model may not call tools in the last round.

    `approve` is asked before a tool runs: about each tool, or only about those with `needs_approval` if any tool of the
    run has it. It gets an `ApprovalRequest`, one at a time in the order of the calls, while tools that need no approval
    run. Calls with wrong arguments are told to the model without asking. It returns `True`, or `False` or a reason to
    refuse the call, which the model is told, or a `ToolResult` in place of running the tool. It may be async; a sync
    function runs in a worker thread, as a sync tool does. If it raises an exception, the run ends with that exception.

    `handlers` answer the calls of a provider's own tools that run in your program, such as `shell_call` of OpenAI's
    Responses API. The key is the `kind` of the `Opaque` part, which the handler gets. It returns the answer as the item
    that the provider documents, or as an `Opaque` part.

    `tool_choice` applies to the first round if it makes the model call a tool. Cancelling the run ends its request and
    its tools; a sync function that already runs goes on in its thread, and its result is dropped.

    `name` is what telemetry calls the run, such as the name of an agent.

    With an `answer_type`, the run is a `TypedToolRun`: `run.answer` is the model's answer as a value of the type, as in
    `Service.chat`. If it does not fit, the model is asked again in at most `answer_retries` more rounds. Then the run
    raises `InvalidAnswer`.

    Raises what `Service.stream` and `approve` raise, and `InvalidRequest` if a tool needs approval but there is no
    `approve`. However a run ends, `run.messages` has the results of the tools that had ended. A run that starts with
    these messages runs only the calls that have no result.
    """
    check_keywords(params, ChatRequest, "run_tools")
    added = tuple(each if isinstance(each, Tool) else tool(each) for each in tools)
    if isinstance(request, ChatRequest):
        request = attrs.evolve(request, tools=(*request.tools, *added), **params)
    else:
        request = ChatRequest(messages=request, tools=added, **params)
    for option, value in (("max_rounds", max_rounds), ("max_parallel", max_parallel)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidRequest(f"{option} must be an integer of at least 1, not {value!r}")
    for option, word, words in (
        ("at_limit", at_limit, ("raise", "answer")),
        ("on_tool_error", on_tool_error, ("report", "raise")),
    ):
        if word not in words:
            raise InvalidRequest(f"{option} must be {' or '.join(map(repr, words))}, not {shown(word)}")
    for option, function in (("approve", approve), *(handlers or {}).items()):
        if function is not None and not callable(function):
            raise InvalidRequest(f"{option!r} must be a function, not {type_name(function)}")
    unasked = next((each.name for each in request.tools if isinstance(each, LocalTool) and each.needs_approval), None)
    if unasked is not None and approve is None:
        raise InvalidRequest(f"tool {quoted(unasked)} needs approval: pass approve to run_tools")
    asked = None
    if answer_type is not None:
        asked, request = service._typed(request, answer_type, answer_retries)
    elif answer_retries:
        raise InvalidRequest("answer_retries needs an answer_type", service=service.name)
    return (ToolRun if asked is None else TypedToolRun)(
        service,
        request,
        max_rounds=max_rounds,
        answers_at_limit=at_limit == "answer",
        max_parallel=max_parallel,
        approve=approve,
        raises=on_tool_error == "raise",
        handlers=handlers or {},
        name=name,
        asked=asked,
        answer_retries=answer_retries,
    )


class ToolRun:
    """A run of tools: what `run_tools` returns. Awaitable, an async context manager, and an async iterator of events.

    One task at a time may read. If a read fails or is cancelled, the run cannot be read on, but keeps what was done.
    """

    # The life of a run. Each round reads the events of one stream. When it has finished, `_jobs` are the calls that
    # have to be answered. The next read starts a background task for them, `_work`, as `heartbeats` does: a task group
    # would be open while the application's code runs, which may be an asynchronous generator that is closed in another
    # task. The reads then wait for events of the background task. It ends when all calls are answered. A read that is
    # cancelled, and leaving the block, cancel it and wait for its end.

    def __init__(
        self,
        service: Service,
        request: ChatRequest,
        *,
        max_rounds: int,
        answers_at_limit: bool,
        max_parallel: int,
        approve: Approve | None,
        raises: bool,
        handlers: Mapping[str, Handler],
        name: str | None,
        asked: AnswerType[object] | None,
        answer_retries: int,
    ) -> None:
        self._group = CallGroup("run_tools", name)
        self._service = service._in_group(self._group)
        self._request = request
        self._max_rounds = max_rounds
        self._answers_at_limit = answers_at_limit
        self._max_parallel = max_parallel
        self._approve = approve
        self._raises = raises
        self._handlers = handlers
        self._asked = asked
        self._answer_retries = answer_retries
        self._typed: TypedResponse[object] | None = None
        self._tools = {each.name: each for each in request.tools}
        self._messages = request.messages
        self._rounds: list[ToolRound] = []
        self._pending: tuple[ToolCall | Opaque, ...] = ()
        self._state: Literal["new", "open", "ended", "closed"] = "new"
        self._stream: Stream | None = None  # the one that is read
        self._last_stream: Stream | None = None
        self._jobs: list[ToolCall | Opaque] = []
        self._events: deque[RunEvent] = deque()
        self._failure: TrunklineError | None = None
        self._work: _Work | None = None
        self._news: anyio.Event | None = None  # set while a read waits for the tools
        self._selective = any(isinstance(each, LocalTool) and each.needs_approval for each in request.tools)
        self._asking_again = False
        self._reading = False

    def __repr__(self) -> str:
        return f"<ToolRun of {self._service!r}: {len(self._rounds)} rounds>"

    @property
    def response(self) -> ChatResponse:
        """The response of the last round. Raises `CallError` if no round has finished."""
        if not self._rounds:
            raise CallError("no round of this run has finished; read it first", service=self._service.name)
        return self._rounds[-1].response

    @property
    def text(self) -> str:
        """The text of the last round's response."""
        return self.response.text

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation: the messages of the request, the responses and the results of tools."""
        return self._messages

    @property
    def rounds(self) -> tuple[ToolRound, ...]:
        """The rounds that have finished."""
        return tuple(self._rounds)

    @property
    def pending(self) -> tuple[ToolCall | Opaque, ...]:
        """The calls of the last round that your program has to answer, because the run has no function for them."""
        return self._pending

    @property
    def usage(self) -> Usage:
        """The tokens of all rounds. A number is `None` if a round did not report it."""
        return sum_usage([each.response.usage for each in self._rounds]) or Usage()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._finish().__await__()

    async def _finish(self) -> Self:
        async with self:
            async for _ in self:
                pass
        return self

    async def __aenter__(self) -> Self:
        if self._state != "new":
            raise CallError("a run can be read only once; call run_tools again", service=self._service.name)
        self._state = "open"
        self._plan(_unanswered(self._messages))
        try:
            if not self._jobs:
                await self._open_stream()
        except BaseException as error:
            self._fail(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stream, self._stream = self._stream, None
        if self._state == "open":
            self._state = "closed"
        self._events.clear()
        try:
            try:
                await self._end_work()
            finally:
                if stream is not None:
                    await stream.__aexit__(kind, error, traceback)
        finally:
            self._group.end(None if error is None or isinstance(error, (Exception, GeneratorExit)) else error)

    async def aclose(self) -> None:
        """End the run: close its connection and cancel the tools that run. Closing it again does nothing."""
        await self.__aexit__(None, None, None)

    async def _end_work(self) -> None:
        """Cancel the tools, and wait until they have ended."""
        if self._work is None:
            return
        self._work.scope.cancel()
        if self not in _runs_around.get():  # a tool that closes its own run would wait for itself
            with anyio.CancelScope(shield=True):
                await self._work.ended.wait()

    def __aiter__(self) -> AsyncIterator[RunEvent]:
        return self

    async def __anext__(self) -> RunEvent:
        if self._events:
            return self._events.popleft()
        if self._state != "open" or self._failure is not None or self._reading:
            self._refuse()
        self._reading = True
        try:
            return await self._next()
        except StopAsyncIteration:
            self._state = "ended"
            self._group.end(None)
            raise
        except GeneratorExit as error:  # the coroutine is closed, and may not wait
            if self._work is not None:
                self._work.scope.cancel()
            self._fail(error)
            raise
        except BaseException as error:
            try:
                await self._end_work()
            finally:
                self._fail(error)
            raise
        finally:
            self._reading = False

    def _refuse(self) -> NoReturn:
        name = self._service.name
        if self._failure is not None:
            raise copy.copy(self._failure)
        if self._state == "ended":
            raise StopAsyncIteration
        if self._state == "closed":
            raise StreamClosed("a run of tools was closed before it was read to its end", service=name)
        if self._state == "new":
            raise CallError("enter the run before reading it: async with run_tools(…) as run", service=name)
        raise CallError("another task is reading this run; only one at a time may", service=name)

    def _fail(self, error: BaseException) -> None:
        self._events.clear()
        self._group.end(error)
        if isinstance(error, TrunklineError):
            self._failure = copy.copy(error)  # the exception itself refers to the frames that it passed through
        else:
            message = "an earlier read of this run was cancelled; a run cannot be read on after that"
            if isinstance(error, Exception):
                message = f"an earlier read of this run failed: {problem_text(error)}"
            self._failure = CallError(message, service=self._service.name)

    async def _next(self) -> RunEvent:
        if self._stream is None and (self._jobs or self._work is not None):
            event = await self._next_of_tools()
            if event is not None:
                return event
        if self._stream is None:
            if self._has_ended and not self._asking_again:
                rejected = self._rejected_answer()
                if rejected is None:
                    raise StopAsyncIteration
                self._asking_again = True
                return AnswerRejected(error=rejected)
            self._asking_again = False
            await self._open_stream()
        stream = cast("Stream", self._stream)
        event = await stream.__anext__()
        if isinstance(event, Finished):
            await stream.aclose()
            self._stream, self._last_stream = None, stream
            response = stream.response
            self._rounds.append(ToolRound(response=response))
            self._messages = (*self._messages, response.message)
            # A call that was cut off, by the output limit for example, must not be run.
            if response.finish_reason in (FinishReason.TOOL_CALLS, FinishReason.STOP, FinishReason.PAUSED):
                self._plan(response.parts)
        return event

    @property
    def _has_ended(self) -> bool:
        """Whether there is nothing to send after the last round."""
        if not self._rounds:
            return False
        last = self._rounds[-1]
        return bool(self._pending) or not (last.results or last.response.finish_reason is FinishReason.PAUSED)

    def _rejected_answer(self) -> InvalidAnswer | None:
        """Read the answer of a run that has ended. Return why the model is asked for another one, if it is."""
        if self._asked is None or self._pending:
            return None
        try:
            self._typed = self._asked.read(self.response)
        except InvalidAnswer as error:
            before = attrs.evolve(self._request, messages=self._messages[:-1])
            again = next_request(before, error)
            if again is None or self._answer_retries <= 0 or len(self._rounds) >= self._max_rounds:
                raise
            self._answer_retries -= 1
            self._messages = again.messages
            return error
        return None

    async def _open_stream(self) -> None:
        if len(self._rounds) >= self._max_rounds:
            raise self._limit_error()
        request = attrs.evolve(self._request, messages=self._messages)
        choice = request.tool_choice
        if self._rounds and choice is not None and choice.mode in ("required", "tool"):
            request = attrs.evolve(request, tool_choice=None)
        if self._answers_at_limit and len(self._rounds) == self._max_rounds - 1:
            request = attrs.evolve(request, tool_choice="none")
        self._stream = stream = self._service.stream(request)
        try:
            await stream.__aenter__()
        except BaseException:
            self._stream = None
            raise
        if self._state == "closed":  # `aclose` was called at the moment when it opened
            await stream.aclose()
            self._refuse()

    def _limit_error(self) -> RoundLimitReached:
        return RoundLimitReached(
            f"the model still calls tools after {self._max_rounds} rounds; raise max_rounds, or set at_limit='answer'",
            run=self,
            service=self._service.name,
        )

    # Running tools

    def _plan(self, parts: Sequence[Part]) -> None:
        """Find the calls that the run answers, and those that are left to the application."""
        jobs: list[ToolCall | Opaque] = []
        pending: list[ToolCall | Opaque] = []
        for part in parts:
            if isinstance(part, ToolCall):
                named = self._tools.get(part.name)
                (jobs if named is None or isinstance(named, LocalTool) else pending).append(part)
            elif isinstance(part, Opaque) and part.awaits_answer:
                (jobs if part.kind in self._handlers else pending).append(part)
        self._pending = tuple(pending)
        self._jobs = jobs

    async def _next_of_tools(self) -> RunEvent | None:
        """Return the next event of the tools, or `None` when all calls of the round have their results."""
        work = self._work
        if work is None:
            if len(self._rounds) >= self._max_rounds and not self._pending:
                raise self._limit_error()
            jobs, self._jobs = self._jobs, []
            self._work = work = _Work(jobs=jobs, messages=self._messages, in_round=bool(self._rounds))
            work.task = start_task(self._do(work), "trunkline.run_tools", lambda: self._end(work))
        while not self._events and not work.ended.is_set():
            self._news = anyio.Event()
            await self._news.wait()
        if self._events:
            return self._events.popleft()
        self._work = None
        if work.failure is not None:
            try:
                raise work.failure
            finally:
                work.failure = None  # the traceback refers to this frame
        if self._state == "closed":
            self._refuse()
        if not work.is_complete:  # asyncio.run cancels all tasks when it ends, for example
            raise CallError("the task that runs the tools was cancelled", service=self._service.name)
        return None

    async def _do(self, work: _Work) -> None:
        """Answer all calls of a round, in a task of its own."""
        _runs_around.set((*_runs_around.get(), self))
        asked = [position for position, job in enumerate(work.jobs) if self._needs_approval(job)]
        slots = anyio.Semaphore(self._max_parallel)
        try:
            with work.scope:
                async with anyio.create_task_group() as tasks:

                    async def start(position: int, wrong: Exception | None = None) -> None:
                        await slots.acquire()
                        if wrong is None:
                            self._tell(ToolStarted(call=work.jobs[position]))
                        tasks.start_soon(run, position, wrong)

                    async def run(position: int, wrong: Exception | None) -> None:
                        with work.failing():
                            await checkpoint_if_cancelled()
                            self._keep(work, position, await self._answer(work.jobs[position], wrong))
                        slots.release()

                    async def start_others() -> None:
                        for position, job in enumerate(work.jobs):
                            if position not in asked:
                                await start(position, self._problem(job))

                    tasks.start_soon(start_others)
                    with work.failing():
                        for position in asked:
                            await self._ask(work, position, start)
                if not work.scope.cancel_called:
                    for position, job in enumerate(work.jobs):
                        if position not in work.finished:
                            self._keep(work, position, self._cancelled(job))
                    work.is_complete = True
        except (GeneratorExit, anyio.get_cancelled_exc_class()):
            raise
        except BaseException as error:  # trio ends its whole run if such a task raises anything
            work.failure = error
        finally:
            self._end(work)

    def _end(self, work: _Work) -> None:
        work.ended.set()
        if self._news is not None:
            self._news.set()

    def _tell(self, event: RunEvent) -> None:
        if self._state == "open" and self._failure is None:
            self._events.append(event)
            if self._news is not None:
                self._news.set()

    def _keep(self, work: _Work, position: int, finished: ToolFinished) -> None:
        """Add the result of a call to its round and to the conversation. They have the order of the calls."""
        work.finished[position] = finished
        results = tuple(work.finished[each] for each in sorted(work.finished))
        if work.in_round:
            self._rounds[-1] = attrs.evolve(self._rounds[-1], results=results)
        self._messages = work.messages + tuple(
            Message(role="tool", parts=each.result) if isinstance(each.result, ToolResult) else user(each.result)
            for each in results
        )
        self._tell(finished)

    def _needs_approval(self, job: ToolCall | Opaque) -> bool:
        tool = self._tools.get(job.name) if isinstance(job, ToolCall) else None
        return (
            self._approve is not None and isinstance(tool, LocalTool) and (tool.needs_approval or not self._selective)
        )

    async def _ask(self, work: _Work, position: int, start: Callable[[int, Exception | None], Awaitable[None]]) -> None:
        """Ask whether a call may run, and start or refuse it."""
        call = cast("ToolCall", work.jobs[position])
        try:
            tool, arguments = self._read(call)
        except Exception as wrong:
            await start(position, wrong)
            return
        approval = ApprovalRequest(call=call, tool=tool, arguments=arguments)
        try:
            verdict = await call_function(cast("Approve", self._approve), approval)
        except StopAsyncIteration as error:  # raised by a read, it would say that the run has ended
            raise RuntimeError("approve raised StopAsyncIteration") from error
        except BaseException as error:
            if not is_foreign_cancellation(error):
                raise
            self._keep(work, position, self._cancelled(call))
            return
        if verdict is True:
            await start(position, None)
        elif isinstance(verdict, ToolResult):
            self._keep(work, position, ToolFinished(call=call, result=_result(call, verdict)))
        elif verdict is False or isinstance(verdict, str):
            reason = verdict or "the call was not approved"
            self._keep(work, position, ToolFinished(call=call, result=_failed(call, reason)))
        else:
            accepted = "True, False, a reason or a ToolResult"
            raise InvalidRequest(f"approve must return {accepted}, not {type_name(verdict)}")

    def _cancelled(self, job: ToolCall | Opaque) -> ToolFinished:
        """Return the result of a call that ended with asyncio's `CancelledError`, though nobody cancelled the run.

        The function cancelled the task that it runs in, or is no tool and waited for a task that was cancelled.
        """
        if self._raises or isinstance(job, Opaque):
            what = f"the call of {quoted(_name(job))} ended as if it were cancelled"
            raise ToolFailed(what, run=self, service=self._service.name)
        return ToolFinished(call=job, result=_failed(job, "the call was cancelled"))

    async def _answer(self, job: ToolCall | Opaque, wrong: Exception | None) -> ToolFinished:
        if isinstance(job, Opaque):
            return ToolFinished(call=job, result=await self._handle(job))
        return await self._run_tool(job, wrong if self._needs_approval(job) else None)

    async def _run_tool(self, call: ToolCall, wrong: Exception | None) -> ToolFinished:
        """Run a tool through the middlewares of the service that answered. They see a failure as a result.

        With `wrong`, the tool does not run, even if a middleware corrects the call: nobody has approved it.
        """
        error: Exception | None = None

        async def proceed(call: ToolCall) -> ToolResult:
            nonlocal error
            result, error = await self._call_tool(call, wrong)
            return result

        if self._last_stream is None:  # the call was in the history
            result = await proceed(call)
        else:
            result = await self._last_stream._run_locally("execute_tool", call, proceed, ToolResult)
        if error is not None and self._raises:
            raise self._tool_error(f"tool {quoted(call.name)} failed", error) from error
        return ToolFinished(call=call, result=result, error=error)

    async def _call_tool(self, call: ToolCall, wrong: Exception | None) -> tuple[ToolResult, Exception | None]:
        try:
            if wrong is not None:
                raise wrong
            tool, _ = self._read(call)
            return _result(call, await tool.run(_without_nulls(call, tool))), None
        except _WrongCall as problem:
            return _failed(call, str(problem)), None
        except Exception as error:
            return _failed(call, problem_text(error)), error
        except BaseException as error:
            if not is_foreign_cancellation(error):
                raise
            lost = RuntimeError("a task that it waited for was cancelled, but the call was not")
            return _failed(call, problem_text(lost)), lost

    def _problem(self, job: ToolCall | Opaque) -> Exception | None:
        """Return why the tool of a call cannot run, if it cannot."""
        try:
            if isinstance(job, ToolCall):
                self._read(job)
        except Exception as error:
            return error
        return None

    def _read(self, call: ToolCall) -> tuple[LocalTool, Mapping[str, object]]:
        """Return the tool of a call, and the arguments as it gets them. Raises `_WrongCall` if they do not fit."""
        tool = self._tools.get(call.name)
        if not isinstance(tool, LocalTool):
            raise _WrongCall(f"there is no tool with this name; the tools are: {listed(self._tools) or 'none'}")
        if call.invalid_arguments is not None:
            raise _WrongCall("the arguments are not a JSON object")
        arguments = _without_nulls(call, tool).arguments
        if not isinstance(tool, FunctionTool) or tool._structure is None:
            return tool, arguments
        try:
            return tool, tool._structure(arguments)
        except ArgumentError as problem:
            raise _WrongCall(f"wrong arguments: {problem}") from None

    async def _handle(self, part: Opaque) -> Opaque:
        what = f"the handler of {quoted(part.kind)}"
        try:
            answer = await call_function(self._handlers[part.kind], part)
        except Exception as error:
            raise self._tool_error(f"{what} failed", error) from error
        if isinstance(answer, Opaque):
            return answer
        kind = answer.get("type") if isinstance(answer, Mapping) else None
        if not isinstance(kind, str):
            raise InvalidRequest(f"{what} must return an object with a 'type', not {type_name(answer)}")
        return Opaque(provider=part.provider, kind=kind, data=cast("JSONObject", answer))

    def _tool_error(self, what: str, error: Exception) -> ToolFailed:
        return ToolFailed(f"{what}: {problem_text(error)}", run=self, service=self._service.name)


class _WrongCall(Exception):
    """A call does not fit its tool. The text is for the model."""


_runs_around: ContextVar[tuple[ToolRun, ...]] = ContextVar("trunkline_runs_around", default=())
"""The runs of whose tools the running code is a part."""


@attrs.define(eq=False)
class _Work:
    """The answering of a round's calls in a background task. Made in the event loop."""

    jobs: list[ToolCall | Opaque]
    messages: tuple[Message, ...]
    """The conversation before the results."""
    in_round: bool
    """Whether the calls are those of the last round, not of the history."""
    finished: dict[int, ToolFinished] = attrs.field(factory=dict)
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    ended: anyio.Event = attrs.field(factory=anyio.Event)
    is_complete: bool = False
    failure: BaseException | None = None
    task: object = None  # asyncio keeps only a weak reference to its tasks

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Keep the first exception, which is raised once and not in a group, and end the other tools."""
        try:
            yield
        except (GeneratorExit, anyio.get_cancelled_exc_class()):
            raise
        except BaseException as error:
            if self.failure is None:
                self.failure = error
            self.scope.cancel()


class TypedToolRun(ToolRun, Generic[T_co]):
    """A run of tools with an `answer_type`."""

    @property
    def answer(self) -> T_co:
        """The answer. Raises `CallError` if the run has not ended, or ended with calls that you have to answer."""
        if self._typed is None:
            raise CallError("this run has no answer yet; read it to its end, and see run.pending")
        return cast("T_co", self._typed.answer)


def _name(call: ToolCall | Opaque) -> str:
    return call.name if isinstance(call, ToolCall) else call.kind


_PARTS = (Text, Image, Document, Audio, Opaque)


def _result(call: ToolCall, value: object) -> ToolResult:
    """Return the result of a call for what a tool returned."""
    if isinstance(value, ToolResult):
        return attrs.evolve(value, tool_call_id=call.id, name=call.name)
    parts: str | Iterable[ToolResultPart]
    if isinstance(value, str):
        parts = value
    elif isinstance(value, _PARTS):
        parts = (value,)
    elif isinstance(value, (list, tuple)) and any(isinstance(each, _PARTS) for each in value):
        parts = [Text(text=each) if isinstance(each, str) else each for each in value]
    else:
        parts = dumps(to_json(value)).decode()
    return ToolResult(tool_call_id=call.id, name=call.name, parts=parts)


def _without_nulls(call: ToolCall, tool: LocalTool) -> ToolCall:
    """Return a call without the `null`s that stand for arguments that are left out: strict schemas require them all."""
    return attrs.evolve(call, arguments=cast("JSONObject", without_nulls(call.arguments, tool.parameters)))


def _failed(call: ToolCall, problem: str) -> ToolResult:
    return ToolResult(tool_call_id=call.id, name=call.name, parts=problem, is_error=True)


def _unanswered(messages: Sequence[Message]) -> list[Part]:
    """Return the calls at the end of a conversation that have no result."""
    answered: set[str] = set()
    for message in reversed(messages):
        if message.role == "assistant":
            return [call for call in message.tool_calls if call.id not in answered]
        if message.role == "user" and all(isinstance(part, Opaque) for part in message.parts):
            continue  # the answers of handlers
        if message.role != "tool":
            break
        answered |= {part.tool_call_id for part in message.parts if isinstance(part, ToolResult)}
    return []
