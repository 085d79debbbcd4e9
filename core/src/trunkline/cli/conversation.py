"""A conversation on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable

from trunkline.cli.display import Display, JSONDisplay
from trunkline.cli.eventjson import error_line
from trunkline.cli.failures import INTERRUPTED
from trunkline.cli.selection import SelectedService
from trunkline.cli.terminal import DIM, is_terminal, print_note
from trunkline.errors import CallError, ConfigurationError, TrunklineError
from trunkline.messages import Message, Part, Text, user
from trunkline.opening import open_service
from trunkline.request import ChatRequest
from trunkline.service import Service, Stream

PROMPT = "> "


class Conversation:
    """Asks, answers, and keeps the history, until an empty line or the end of the input.

    Ctrl-C stops an answer, whose text so far stays in the history; at the prompt it ends the conversation.
    """

    def __init__(
        self,
        chosen: SelectedService,
        request: Callable[..., ChatRequest],
        *,
        history: tuple[Message, ...],
        attached: tuple[Part, ...],
        as_json: bool,
    ) -> None:
        self._chosen = chosen
        self._request = request
        self._history = history
        self._attached = attached
        self._as_json = as_json
        self._stream: Stream | None = None

    def run(self) -> int:
        """Hold the conversation and return the exit status."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # gives `input` its line editing
        print_note("[an empty line or Ctrl-D ends the conversation; Ctrl-C stops an answer]", style=DIM)
        # One event loop for the whole conversation, which runs only while there is an answer to read: `asyncio.run`
        # and `anyio.run` would close it, and the service with it, after each turn. The runner turns Ctrl-C into the
        # cancellation of the turn; at the prompt the loop stands still, and Ctrl-C is the interpreter's own.
        with asyncio.Runner() as runner:
            service = open_service(self._chosen.settings, name=self._chosen.name)
            try:
                while line := _ask():
                    self._turn(runner, service, line)
            except KeyboardInterrupt:
                print(file=sys.stderr)
                return INTERRUPTED
            finally:
                runner.run(service.aclose())
        return 0

    def _turn(self, runner: asyncio.Runner, service: Service, line: str) -> None:
        turn = user(line, *self._attached)
        self._stream = None
        try:
            runner.run(self._answer(service, (*self._history, turn)))
        except KeyboardInterrupt:
            print_note("[stopped]", style=DIM)
        except ConfigurationError:
            raise
        except TrunklineError as error:
            # The next try may go well; what was shown of this one stays.
            if self._as_json:
                print(error_line(error), flush=True)
            print_note(f"trunkline: {error}")
        answer = _remembered(self._stream)
        if answer is not None:
            self._history = (*self._history, turn, answer)
            self._attached = ()

    async def _answer(self, service: Service, messages: tuple[Message, ...]) -> None:
        display = JSONDisplay() if self._as_json else Display()
        started = time.monotonic()
        response = None
        try:
            async with service.stream(self._request(messages=messages)) as stream:
                self._stream = stream
                async for event in stream:
                    display.show(event)
                response = stream.response
        finally:
            display.close(response, seconds=time.monotonic() - started)


def _remembered(stream: Stream | None) -> Message | None:
    """The turn for the history: a whole answer as it is, of an unfinished one its text.

    Half a tool call, or reasoning without its signature, is accepted back by no provider; nor is a call without its
    result, and there is no tool here to give one. Where no text is left, the question goes as well.
    """
    if stream is None:
        return None
    message = stream.partial.message
    texts = tuple(part for part in message.parts if isinstance(part, Text) and part.text)
    if not texts:
        return None
    try:
        whole = not stream.response.tool_calls
    except CallError:
        whole = False
    return message if whole else Message(role="assistant", parts=texts)


def _ask() -> str:
    """The next line; an empty one at the end of the input."""
    try:
        if is_terminal(sys.stdout):
            return input(PROMPT).strip()
        # `input` writes its prompt to stdout, which belongs to the answer.
        print(PROMPT, end="", file=sys.stderr, flush=True)
        return input().strip()
    except EOFError:
        print(file=sys.stderr)
        return ""
