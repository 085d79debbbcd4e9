"""What a run of tools consists of: its events and its rounds."""

from __future__ import annotations

from typing import TypeAlias, Union

import attrs

from trunkline.errors import AnswerProblem, InvalidAnswer
from trunkline.events import Event
from trunkline.messages import Opaque, ToolCall, ToolResult
from trunkline.response import ChatResponse


def call_name(call: ToolCall | Opaque) -> str:
    """Return the name of a tool, or the `kind` of a part that a handler answers."""
    return call.name if isinstance(call, ToolCall) else call.kind


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
        return call_name(self.call)


@attrs.frozen(kw_only=True)
class ToolFinished:
    """The result of a call, which the model receives in the next round. The event comes as soon as the call has ended.

    `error` is the exception that the tool raised, or `None`. Its text may have details that `result`, which
    the model receives, leaves out.
    """

    call: ToolCall | Opaque
    result: ToolResult | Opaque
    error: Exception | None = attrs.field(default=None, repr=False, eq=False)

    @property
    def name(self) -> str:
        """The name of the tool, or the `kind` of the part."""
        return call_name(self.call)


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
