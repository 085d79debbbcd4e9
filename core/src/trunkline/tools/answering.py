"""How a run answers one call of the model: the approval, the tool, or the handler of a provider's own tool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, Union, cast

import attrs

from trunkline._calls.borders import is_foreign_cancellation
from trunkline._field_types import type_name
from trunkline._json import JSONObject
from trunkline._masking import listed, quoted
from trunkline.answers import without_nulls
from trunkline.errors import InvalidRequest
from trunkline.messages import Opaque, ToolCall, ToolResult
from trunkline.request import Tool
from trunkline.stream import Stream
from trunkline.tools.functions import ArgumentError, call_function
from trunkline.tools.local_tools import FunctionTool, LocalTool
from trunkline.tools.results import failed_result, for_model, problem_text, result_of
from trunkline.tools.run_events import ToolFinished, call_name


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


@attrs.frozen
class WrongCall:
    """Why the tool of a call cannot run: the model named no tool, or its arguments do not fit.

    `problem` is for the model. `error` is the exception that the application's code raised while it checked the
    arguments, or `None`.
    """

    problem: str
    error: Exception | None = None


class AnsweringFailed(Exception):
    """A failure that ends the run, which raises `ToolFailed` with this text and this cause."""


@attrs.frozen(kw_only=True)
class Answering:
    """How a run answers calls: with which tools and handlers, and whether the failure of a tool ends the run."""

    tools: Mapping[str, Tool]
    handlers: Mapping[str, Handler]
    approve: Approve | None
    raises: bool

    @property
    def _asks_about_some(self) -> bool:
        return any(isinstance(each, LocalTool) and each.needs_approval for each in self.tools.values())

    def takes(self, part: ToolCall | Opaque) -> bool:
        """Return whether the run answers a call. The others are left to the application."""
        if isinstance(part, Opaque):
            return part.kind in self.handlers
        return part.name not in self.tools or isinstance(self.tools[part.name], LocalTool)

    def needs_approval(self, job: ToolCall | Opaque) -> bool:
        """Return whether `approve` is asked before a call is answered."""
        tool = self.tools.get(job.name) if isinstance(job, ToolCall) else None
        if self.approve is None or not isinstance(tool, LocalTool):
            return False
        return tool.needs_approval or not self._asks_about_some

    async def ask(self, call: ToolCall) -> ToolFinished | WrongCall | None:
        """Ask whether a call may run. Return `None` if it may, why it cannot, or its result if it was refused."""
        read = self._read(call)
        if isinstance(read, WrongCall):
            return read
        tool, arguments = read
        approval = ApprovalRequest(call=call, tool=tool, arguments=arguments)
        try:
            verdict = await call_function(cast("Approve", self.approve), approval)
        except StopAsyncIteration as error:  # raised by a read, it would say that the run has ended
            raise RuntimeError("approve raised StopAsyncIteration") from error
        except BaseException as error:
            if not is_foreign_cancellation(error):
                raise
            return self.cancelled(call)
        if verdict is True:
            return None
        if isinstance(verdict, ToolResult):
            return ToolFinished(call=call, result=result_of(call, verdict))
        if verdict is False or isinstance(verdict, str):
            return ToolFinished(call=call, result=failed_result(call, verdict or "the call was not approved"))
        accepted = "True, False, a reason or a ToolResult"
        raise InvalidRequest(f"approve must return {accepted}, not {type_name(verdict)}")

    def cancelled(self, job: ToolCall | Opaque) -> ToolFinished:
        """Return the result of a call that ended with asyncio's `CancelledError`, though nobody cancelled the run.

        A function cancelled the task that it runs in, or a handler or `approve` waited for a task that was cancelled.
        """
        if self.raises or isinstance(job, Opaque):
            what = f"the call of {quoted(call_name(job))} ended as if it were cancelled"
            raise AnsweringFailed(what)
        return ToolFinished(call=job, result=failed_result(job, "the call was cancelled"))

    async def answer(self, job: ToolCall | Opaque, wrong: WrongCall | None, stream: Stream | None) -> ToolFinished:
        """Answer a call that came with `stream`, or that is in the history if `stream` is `None`.

        `wrong` says why the tool cannot run. It is `None` if the tool can run.
        """
        if isinstance(job, Opaque):
            return ToolFinished(call=job, result=await self._handle(job))
        # A middleware may correct a call whose tool needs no approval.
        return await self._run_tool(job, wrong if self.needs_approval(job) else None, stream)

    async def _run_tool(self, call: ToolCall, wrong: WrongCall | None, stream: Stream | None) -> ToolFinished:
        """Run a tool through the middlewares of the service that answered. They see a failure as a result.

        With `wrong`, the tool does not run, even if a middleware corrects the call: nobody has approved it.
        """
        error: Exception | None = None

        async def proceed(call: ToolCall) -> ToolResult:
            nonlocal error
            result, error = await self._call_tool(call, wrong)
            return result

        if stream is None:  # the call was in the history
            result = await proceed(call)
        else:
            result = await stream._run_locally("execute_tool", call, proceed, ToolResult)
        if error is not None and self.raises:
            raise AnsweringFailed(f"tool {quoted(call.name)} failed: {problem_text(error)}") from error
        return ToolFinished(call=call, result=result, error=error)

    async def _call_tool(self, call: ToolCall, wrong: WrongCall | None) -> tuple[ToolResult, Exception | None]:
        read = wrong or self._read(call)
        if isinstance(read, WrongCall):
            return failed_result(call, read.problem), read.error
        tool, _ = read
        try:
            return result_of(call, await tool.run(_without_nulls(call, tool))), None
        except Exception as error:  # the tool is the application's code
            return failed_result(call, problem_text(error)), error
        except BaseException as error:
            if not is_foreign_cancellation(error):
                raise
            lost = RuntimeError("a task that it waited for was cancelled, but the call was not")
            return failed_result(call, problem_text(lost)), lost

    def wrong_call(self, job: ToolCall | Opaque) -> WrongCall | None:
        """Return why the tool of a call cannot run, or `None` if it can."""
        read = self._read(job) if isinstance(job, ToolCall) else None
        return read if isinstance(read, WrongCall) else None

    def _read(self, call: ToolCall) -> tuple[LocalTool, Mapping[str, object]] | WrongCall:
        """Return the tool of a call and the arguments as the tool gets them, or why the tool cannot run."""
        tool = self.tools.get(call.name)
        if not isinstance(tool, LocalTool):
            return WrongCall(f"there is no tool with this name; the tools are: {listed(self.tools) or 'none'}")
        if call.invalid_arguments is not None:
            return WrongCall("the arguments are not a JSON object")
        try:
            arguments = _without_nulls(call, tool).arguments
            if not isinstance(tool, FunctionTool) or tool._structure is None:
                return tool, arguments
            return tool, tool._structure(arguments)
        except ArgumentError as problem:  # a validator may quote anything, and each item of a list may be wrong
            return WrongCall(for_model(f"wrong arguments: {problem}"))
        except Exception as error:  # a validator of the application's class may raise anything
            return WrongCall(problem_text(error), error)

    async def _handle(self, part: Opaque) -> Opaque:
        what = f"the handler of {quoted(part.kind)}"
        try:
            answer = await call_function(self.handlers[part.kind], part)
        except Exception as error:
            raise AnsweringFailed(f"{what} failed: {problem_text(error)}") from error
        if isinstance(answer, Opaque):
            return answer
        kind = answer.get("type") if isinstance(answer, Mapping) else None
        if not isinstance(kind, str):
            raise InvalidRequest(f"{what} must return an object with a 'type', not {type_name(answer)}")
        return Opaque(provider=part.provider, kind=kind, data=cast("JSONObject", answer))


def _without_nulls(call: ToolCall, tool: LocalTool) -> ToolCall:
    """Return a call without the `null`s that stand for arguments that are left out: strict schemas require them all."""
    return attrs.evolve(call, arguments=cast("JSONObject", without_nulls(call.arguments, tool.parameters)))
