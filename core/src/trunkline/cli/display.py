"""Shows the events of a stream on a terminal: text on stdout as it arrives, everything else on stderr."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from trunkline._visible_text import TextPieces, one_line
from trunkline.cli.eventjson import event_fields
from trunkline.cli.terminal import (
    DIM,
    is_terminal,
    print_json,
    print_note,
    stdout,
    write_visible,
)
from trunkline.events import (
    Event,
    Finished,
    PartAdded,
    ReasoningDelta,
    ReasoningStart,
    ResponseStarted,
    TextDelta,
)
from trunkline.messages import Audio, Citation, Document, Image, Opaque
from trunkline.response import ChatResponse, FinishReason, Usage
from trunkline.stream import Stream


async def show_stream(stream: Stream, *, as_json: bool) -> None:
    """Enter the stream, show each event as it arrives, and end with a summary. Raises what the stream raises."""
    display = JSONDisplay() if as_json else Display()
    started = time.monotonic()
    response = None
    try:
        async with stream:
            async for event in stream:
                display.show(event)
            response = stream.response
    finally:
        display.close(response, seconds=time.monotonic() - started)


class Display:
    """Shows one answer. Call `show` with each event, then `close`.

    On a terminal, text and reasoning share the screen, so each starts on a new line. If stdout is not a terminal, it
    gets exactly the text of the answer and a line break at the end. Everything else is shown in a visible form.
    """

    def __init__(self) -> None:
        self._out: TextIO = stdout()
        self._error: TextIO = sys.stderr
        self._terminal = is_terminal(self._out)
        # A character or a sequence may arrive in two pieces.
        self._answer = TextPieces(escaped=self._terminal)
        self._thoughts = TextPieces(escaped=True)
        # The stream that was written to last, if its last line has no line break yet.
        self._open: TextIO | None = None
        self._text_open = False

    def show(self, event: Event) -> None:
        """Show an event, if there is anything to show."""
        if isinstance(event, TextDelta):
            self._text(event.text)
        elif isinstance(event, ReasoningDelta):
            self._reasoning(event.text)
        elif isinstance(event, ReasoningStart):
            self._end_line()
            self._write(self._error, "[reasoning] ", style=DIM)
        elif isinstance(event, PartAdded):
            if not isinstance(event.part, Opaque):
                self._note(one_line(_media(event.part)))
        elif isinstance(event, (ResponseStarted, Finished)):
            for warning in event.warnings:
                self._note(one_line(f"warning: {warning}"))

    def _text(self, text: str) -> None:
        if self._open is self._error:
            self._end_line()
        self._write(self._out, self._answer.feed(text))

    def _reasoning(self, text: str) -> None:
        if self._open is self._out:
            self._end_line()
        self._write(self._error, self._thoughts.feed(text), style=DIM)

    def _write(self, stream: TextIO, text: str, *, style: str | None = None) -> None:
        write_visible(text, stream, style=style)
        if text:
            ends = text.endswith("\n")
            self._open = None if ends else stream
            if stream is self._out:
                self._text_open = not ends

    def _end_line(self) -> None:
        self._write(self._out, self._answer.finish())
        self._write(self._error, self._thoughts.finish(), style=DIM)
        # Text that goes into a file or a pipe must have no line break that the model did not write.
        if self._open is not None and (self._open is self._error or self._terminal):
            self._write(self._open, "\n")

    def _note(self, text: str) -> None:
        self._end_line()
        print_note(text, style=DIM)

    def close(self, response: ChatResponse | None, *, seconds: float = 0) -> None:
        """End the last line. Then show the tool calls, sources, warnings and a summary of a complete response.

        `response` is `None` if the answer is not complete. `seconds` is how long the call took.
        """
        self._end_line()
        if self._text_open:
            self._write(self._out, "\n")
        if response is None:
            return
        for call in response.tool_calls:
            self._note(one_line(f"[tool call] {call.name}({call.arguments_json}) id={call.id}"))
        for part in response.parts:
            if isinstance(part, Citation):
                source = " ".join(filter(None, (part.title, part.url))) or part.cited_text or "unnamed"
                self._note(one_line(f"[source] {source}"))
            elif isinstance(part, Opaque):
                self._note(f"[{one_line(part.kind)}] content that only {part.provider} understands; --json shows it")
        for warning in response.warnings:
            if warning.kind == "invalid_arguments":
                self._note(one_line(f"warning: {warning}"))
        for hint in _hints(response):
            self._note(hint)
        self._note(one_line(_summary(response, seconds)))


class JSONDisplay(Display):
    """Writes each event as a JSON line on stdout, and nothing else."""

    def show(self, event: Event) -> None:
        """Write the event. What the model wrote may repeat the question, whatever that contains."""
        print_json(event_fields(event), whole=not isinstance(event, (ResponseStarted, Finished)))

    def close(self, response: ChatResponse | None, *, seconds: float = 0) -> None:
        """Do nothing: the last event contains the summary."""


def _media(part: Audio | Image | Document) -> str:
    size = f", {len(part.data)} bytes" if part.data is not None else ""
    return f"[{type(part).__name__.lower()}] {part.media_type or 'of unknown type'}{size}; --json shows it"


def _hints(response: ChatResponse) -> list[str]:
    hints = []
    if response.refusal:
        hints.append("the model declined to answer")
    if not response.parts or not (response.text or response.refusal or response.tool_calls):
        if response.finish_reason is FinishReason.LENGTH:
            hints.append(
                "no text: the output limit was reached before the answer started, often because of reasoning; "
                "raise --max-output-tokens"
            )
        elif all(not isinstance(part, Opaque) for part in response.parts):
            hints.append("the model sent an empty answer")
    elif response.finish_reason is FinishReason.LENGTH:
        hints.append("the answer was cut off at the output limit; raise --max-output-tokens")
    elif response.finish_reason is FinishReason.CONTENT_FILTER:
        hints.append("a safety system ended the answer")
    return hints


def _summary(response: ChatResponse, seconds: float) -> str:
    reason = str(response.finish_reason)
    if response.raw_finish_reason not in (None, reason) and response.finish_reason is FinishReason.OTHER:
        reason = f"{reason} ({response.raw_finish_reason})"
    facts = [reason, _usage(response.usage), response.model or "", f"{seconds:.1f} s"]
    return f"[{' · '.join(fact for fact in facts if fact)}]"


def _usage(usage: Usage | None) -> str:
    if usage is None:
        return "usage not reported"
    tokens = {
        "in": usage.input_tokens,
        "out": usage.output_tokens,
        "cached": usage.cache_read_tokens,
        "reasoning": usage.reasoning_tokens,
    }
    counts = [f"{count} {name}" for name, count in tokens.items() if count or (count == 0 and name in ("in", "out"))]
    return f"tokens: {', '.join(counts)}" if counts else "usage not reported"
