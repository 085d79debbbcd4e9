"""Tools that run in your program, and `run_tools`, the loop that answers a model's calls of them."""

from trunkline.tools.answering import ApprovalRequest, Approve, Handler
from trunkline.tools.local_tools import FunctionTool, LocalTool, tool
from trunkline.tools.run_events import AnswerRejected, RunEvent, ToolFinished, ToolRound, ToolStarted
from trunkline.tools.runs import RoundLimitReached, ToolFailed, ToolRun, ToolRunError, TypedToolRun, run_tools

__all__ = [
    "AnswerRejected",
    "ApprovalRequest",
    "Approve",
    "FunctionTool",
    "Handler",
    "LocalTool",
    "RoundLimitReached",
    "RunEvent",
    "ToolFailed",
    "ToolFinished",
    "ToolRound",
    "ToolRun",
    "ToolRunError",
    "ToolStarted",
    "TypedToolRun",
    "run_tools",
    "tool",
]

for _error in (ToolRunError, RoundLimitReached, ToolFailed):
    _error.__module__ = __name__  # the module that applications import from, so tracebacks show it
