"""`run_tools`, the loop that answers a model's calls of tools, and the `ToolRun` that it returns."""

from __future__ import annotations

import copy
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any, Generic, Literal, NoReturn, Self, TypeVar, Unpack, cast, overload

import anyio
import attrs
from anyio.lowlevel import checkpoint_if_cancelled

from trunkline._event_loops import (
    asyncio_task,
    call_soon,
    only_this_task_is_cancelled,
    running_loop,
    start_task,
    take_cancellation,
)
from trunkline._field_types import shown, type_name
from trunkline._masking import quoted
from trunkline._suggestions import check_keywords
from trunkline.answers import AnswerType, TypedResponse, next_request
from trunkline.authoring.provider import CallGroup
from trunkline.errors import CallError, InvalidAnswer, InvalidRequest, StreamClosed, TrunklineError
from trunkline.events import Finished
from trunkline.messages import Message, Opaque, Part, ToolCall, ToolResult, user
from trunkline.request import ChatRequest, RunParams, Tool
from trunkline.response import ChatResponse, FinishReason, Usage, sum_usage
from trunkline.service import Service
from trunkline.stream import Stream
from trunkline.tools.answering import Answering, AnsweringFailed, Approve, Handler, WrongCall
from trunkline.tools.local_tools import LocalTool, check_bound, tool
from trunkline.tools.results import problem_text
from trunkline.tools.run_events import AnswerRejected, RunEvent, ToolFinished, ToolRound, ToolStarted

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


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
    end the run: the model receives the class and the text of the exception as the result of the call, with anything
    that looks like a key removed. With `on_tool_error="raise"` the run raises `ToolFailed`.

    Calls of a `Tool` that has no function are left to you: the run ends with the finish reason `tool_calls`, and
    `run.pending` has the calls. To go on, start another run with `run.messages` and their results. Calls at the end of
    `request` that have no result are run first.

    A run has at most `max_rounds` rounds, which are requests to the model. If the model then still calls tools, the run
    raises `RoundLimitReached`. With `at_limit="answer"` the model may not call tools in the last round.

    `approve` is asked before a tool runs: about each tool, or only about those with `needs_approval` if any tool of the
    run has it. It gets an `ApprovalRequest`, one at a time in the order of the calls, while tools that need no approval
    run. It is not asked about a call with wrong arguments: the model receives the problem as the result. It returns
    `True` to run the tool, `False` or a reason to refuse the call, or a `ToolResult` in place of running the tool. The
    model receives the reason as the result. `approve` may be async; a sync function runs in a worker thread, as a sync
    tool does. If it raises an exception, the run ends with that exception.

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
    `approve`, or if a tool is a method without its object. However a run ends, `run.messages` has the results of the
    tools that had ended. A run that starts with these messages runs only the calls that have no result.
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
    for each in request.tools:
        check_bound(each)
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
        self._answering = Answering(
            tools={each.name: each for each in request.tools},
            handlers=handlers,
            approve=approve,
            raises=raises,
        )
        self._asked = asked
        self._answer_retries = answer_retries
        self._typed: TypedResponse[object] | None = None
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
        self._asking_again = False
        self._reading = False
        self._at_drop: weakref.finalize[..., ToolRun] | None = None

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
        # A run that is dropped without being left has ended, too. Its group ends in the event loop: in a finalizer, the
        # callbacks might wait for a lock that the interrupted code holds.
        self._at_drop = weakref.finalize(self, call_soon, running_loop(), partial(self._group.end, None))
        self._at_drop.atexit = False
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
            if self._at_drop is not None:
                self._at_drop.detach()
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
            if isinstance(part, ToolCall) or (isinstance(part, Opaque) and part.awaits_answer):
                (jobs if self._answering.takes(part) else pending).append(part)
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
            failure, work.failure = work.failure, None
            try:
                if isinstance(failure, AnsweringFailed):
                    raise ToolFailed(str(failure), run=self, service=self._service.name) from failure.__cause__
                raise failure
            finally:
                del failure  # its traceback refers to this frame
        if self._state == "closed":
            self._refuse()
        if not work.is_complete:  # asyncio.run cancels all tasks when it ends, for example
            raise CallError("the task that runs the tools was cancelled", service=self._service.name)
        return None

    async def _do(self, work: _Work) -> None:
        """Answer all calls of a round. Runs in a background task."""
        _runs_around.set((*_runs_around.get(), self))
        answering, host = self._answering, asyncio_task()
        asked = [position for position, job in enumerate(work.jobs) if answering.needs_approval(job)]
        slots = anyio.Semaphore(self._max_parallel)
        try:
            with work.scope:
                async with anyio.create_task_group() as tasks:

                    async def start(position: int, wrong: WrongCall | None = None) -> None:
                        await slots.acquire()
                        if wrong is None:
                            self._emit(ToolStarted(call=work.jobs[position]))
                        tasks.start_soon(run, position, wrong)

                    async def run(position: int, wrong: WrongCall | None) -> None:
                        with work.failing():
                            await checkpoint_if_cancelled()
                            job = work.jobs[position]
                            try:
                                finished = await answering.answer(job, wrong, self._last_stream)
                            except BaseException:
                                # A function that cancels its own task must not end the task group.
                                if not only_this_task_is_cancelled(host):
                                    raise
                                finished = answering.cancelled(job)
                            self._keep(work, position, finished)
                        slots.release()
                        if only_this_task_is_cancelled(host):
                            await take_cancellation()

                    async def start_others() -> None:
                        for position, job in enumerate(work.jobs):
                            if position not in asked:
                                await start(position, answering.wrong_call(job))

                    tasks.start_soon(start_others)
                    with work.failing():
                        for position in asked:
                            decided = await answering.ask(cast("ToolCall", work.jobs[position]))
                            if isinstance(decided, ToolFinished):
                                self._keep(work, position, decided)
                            else:
                                await start(position, decided)
                if not work.scope.cancel_called:
                    for position, job in enumerate(work.jobs):
                        if position not in work.finished:
                            self._keep(work, position, answering.cancelled(job))
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

    def _emit(self, event: RunEvent) -> None:
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
        self._emit(finished)


_runs_around: ContextVar[tuple[ToolRun, ...]] = ContextVar("trunkline_runs_around", default=())
"""The runs whose tools run the current code: a tool may start a run of its own."""


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
