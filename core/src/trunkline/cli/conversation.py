"""The conversation of `trunkline chat` on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable

from trunkline.cli.display import show_stream
from trunkline.cli.eventjson import error_fields
from trunkline.cli.failures import INTERRUPTED
from trunkline.cli.selection import ComposedService, SelectedService
from trunkline.cli.terminal import DIM, is_terminal, print_json, print_note, write
from trunkline.errors import CallError, ConfigurationError, TrunklineError
from trunkline.messages import Message, Part, Text, user
from trunkline.request import ChatRequest
from trunkline.service import Service
from trunkline.stream import Stream

PROMPT = "> "


class Conversation:
    """Reads questions and prints answers until an empty line or the end of the input; keeps the history.

    Ctrl-C stops an answer, and the text so far stays in the history. At the prompt, Ctrl-C ends the conversation.
    """

    def __init__(
        self,
        selected: SelectedService | ComposedService,
        request: Callable[..., ChatRequest],
        *,
        history: tuple[Message, ...],
        attached: tuple[Part, ...],
        as_json: bool,
    ) -> None:
        self._selected = selected
        self._request = request
        self._history = history
        self._attached = attached
        self._as_json = as_json

    def run(self) -> int:
        """Run the conversation and return the exit status."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # importing it gives `input` line editing
        print_note("[an empty line or Ctrl-D ends the conversation; Ctrl-C stops an answer]", style=DIM)
        # The whole conversation uses one event loop, since `asyncio.run` and `anyio.run` would close the loop, and the
        # service's connections with it, after each turn. The loop runs only while an answer is read. During that time
        # the runner turns Ctrl-C into the cancellation of the turn; at the prompt, Ctrl-C raises KeyboardInterrupt.
        with asyncio.Runner() as runner:
            service = self._selected.open()
            try:
                while line := _ask():
                    self._turn(runner, service, line)
            except KeyboardInterrupt:
                print_note("")
                return INTERRUPTED
            finally:
                runner.run(service.aclose())
        return 0

    def _turn(self, runner: asyncio.Runner, service: Service, line: str) -> None:
        turn = user(line, *self._attached)
        stream = service.stream(self._request(messages=(*self._history, turn)))
        try:
            runner.run(show_stream(stream, as_json=self._as_json))
        except KeyboardInterrupt:
            print_note("[stopped]", style=DIM)
        except ConfigurationError:
            raise
        except TrunklineError as error:
            # The conversation goes on: the next question may succeed.
            if self._as_json:
                print_json(error_fields(error))
            print_note(f"trunkline: {error}")
        answer = _history_message(stream)
        if answer is not None:
            self._history = (*self._history, turn, answer)
            self._attached = ()


def _history_message(stream: Stream) -> Message | None:
    """Return the message for the history: the complete answer, or only the text of an unfinished one.

    No provider accepts half a tool call, or reasoning without its signature. Nor does one accept a tool call without a
    result, and there are no tools here to produce one. If there is no text, the result is `None`, and the question is
    not kept either.
    """
    message = stream.partial.message
    texts = tuple(part for part in message.parts if isinstance(part, Text) and part.text)
    if not texts:
        return None
    try:
        complete = not stream.response.tool_calls
    except CallError:
        complete = False
    return message if complete else Message(role="assistant", parts=texts)


def _ask() -> str:
    """Read the next question. Returns an empty string at the end of the input."""
    try:
        if is_terminal(sys.stdout):
            return input(PROMPT).strip()
        # `input` would write its prompt to stdout, where only the answers may go.
        write(PROMPT, sys.stderr)
        return input().strip()
    except EOFError:
        print_note("")
        return ""
