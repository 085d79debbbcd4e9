"""Borders between the core and what it calls: the steps of plugins and the transports.

An exception that crosses a border leaves all frames below it behind. Those frames belong to plugins and HTTP libraries,
their local variables hold credentials, and error trackers show the local variables of every frame of a traceback. Above
the borders, our own frames hold credentials only in objects whose `repr` shows nothing: `Secret`, `Headers`,
`WireRequest` and `Credentials`.

The rules, for a function that calls a step:

- The `except` block only passes the exception to `Pipeline.at_border`. What that returns is raised after the block, so
  that the exception below does not become its `__context__`.
- No frame is cleared. `traceback.clear_frames` closes the coroutines that it finds suspended, also those of the
  application, if one exception object is raised in several tasks.
- An error of Trunkline is copied. The object may be shared: a plugin may keep the failure of a token refresh, or of
  loading a model, and raise it to each call that waited.
- An exception that is not ours becomes a `PluginError`. Those that are no `Exception`, such as a cancellation, stay the
  same object, since event loops compare it. Only their traceback, cause and context are removed.
- A cancellation of something else, such as a task that several calls wait for, also becomes a `PluginError`. The call
  that only waited was not cancelled, and its caller could not tell the difference.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, Protocol, TypeAlias, TypeVar

import anyio
import attrs

from trunkline._excerpts import single_line
from trunkline.authoring.http_errors import MESSAGE_LIMIT, NAME_LIMIT
from trunkline.authoring.provider import Framer, Parser, ResponseParser
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    CallError,
    ConfigurationError,
    FetchFailed,
    InvalidRequest,
    ProtocolViolation,
    RemoteError,
    TrunklineError,
)
from trunkline.response import ChatResponse

P = ParamSpec("P")
T = TypeVar("T")

Step: TypeAlias = Literal["auth", "translator", "parser", "transport", "operations", "middlewares"]
"""A step of a plugin, by the name of its field in `Steps`."""

STEPS: dict[Step, str] = {
    "auth": "the authentication",
    "translator": "the translator",
    "parser": "the response parser",
    "transport": "the transport",
    "operations": "an operation",
    "middlewares": "a middleware",
}
"""What errors call the steps."""


class AtBorder(Protocol):
    """Returns the exception to raise for one that a step raised; see `Pipeline.at_border`."""

    def __call__(self, error: BaseException, step: Step) -> BaseException: ...


@attrs.frozen
class Credentials:
    """What `Auth.acquire` returned. Its `repr` shows nothing, since the value may be a plain string."""

    value: Any = attrs.field(repr=False)


def without_cancellations(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the rest of a group without its cancellations, or one of them if there is nothing else.

    trio raises such groups while it connects, and if a task fails while its task group is being cancelled.
    """
    cancelled: BaseException | None
    cancelled, other = group.split(anyio.get_cancelled_exc_class())
    while isinstance(cancelled, BaseExceptionGroup):
        cancelled = cancelled.exceptions[0]
    return other or cancelled or group


def is_foreign_cancellation(error: BaseException) -> bool:
    """Whether an exception is a cancellation of asyncio, but not one of the running task.

    `Task.cancelling` counts the cancellations of the task, whether by `Task.cancel` or by a scope. A scope that ends
    takes its own back, although an outer scope may be cancelled as well; the effective deadline shows such a scope.
    """
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and not task.cancelling() and anyio.current_effective_deadline() != -math.inf


def blamed_on_provider(error: BaseException) -> BaseException:
    """Return the error to raise for one that reading a response raised.

    Messages and parts refuse wrong values with `InvalidRequest`. Here the value came from the provider.
    """
    if isinstance(error, InvalidRequest):
        return ProtocolViolation(f"the response has an invalid value: {error}")
    return error


def run_step(at_border: AtBorder, step: Step, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function of a plugin."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        failed = at_border(error, step)
    raise failed


_MESSAGE_LIMIT = 2 * MESSAGE_LIMIT
"""The longest message that a caller gets, in characters. Plugins and the core may add words to a server's message."""


def show_in_one_line(error: TrunklineError) -> None:
    """Bound what a server may have put into the text of an error: its message, its code and its request id.

    Every error of a call passes here, whichever code made it: a plugin may make an error without `status_error`, and an
    event hook of an own client may quote a body in its exception. A line break in a code would look like another line
    of a log, and a control character would reach the terminal on which the log is read. The secrets must have been
    removed, since they are not found in parts.
    An error that lists several mistakes of the application, one in each line, keeps its lines.
    """
    if isinstance(error, RemoteError):
        error.message = single_line(error.message, _MESSAGE_LIMIT)
        error.args = (error.message,)
        for name in ("code", "request_id"):
            value = getattr(error, name)
            if isinstance(value, str):
                setattr(error, name, single_line(value, NAME_LIMIT))
    elif (
        isinstance(error, FetchFailed)
        or type(error) is CallError
        or (isinstance(error, ConfigurationError) and not error.errors)
    ):
        error.args = tuple(single_line(arg, _MESSAGE_LIMIT) if isinstance(arg, str) else arg for arg in error.args)


class GuardedParser:
    """A plugin's `ResponseParser` behind a border. The framer and the parser of a stream are not, for speed.

    Whoever calls those passes their exceptions to `broken`. `stream` replaces the plugin's, for a stream that another
    operation than a chat reads.
    """

    def __init__(
        self,
        parser: ResponseParser,
        at_border: AtBorder,
        stream: Callable[[], tuple[Framer[Any], Parser[Any]]] | None = None,
    ) -> None:
        self._parser = parser
        self._at_border = at_border
        self._stream = stream

    def stream(self) -> tuple[Framer[Any], Parser[Any]]:
        """Return a new framer and a new parser."""
        return run_step(self._at_border, "parser", self._stream or self._parser.stream)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """Parse the response of a call that was not streamed."""
        return run_step(self._at_border, "parser", self._parser.body, wire_response)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error for a response with an error status."""
        return run_step(self._at_border, "parser", self._parser.error, wire_response)

    def broken(self, error: Exception) -> TrunklineError:
        """Return the error for an exception of a stream's framer or parser."""
        failed = self._at_border(error, "parser")
        assert isinstance(failed, TrunklineError)
        return failed
