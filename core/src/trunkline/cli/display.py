"""Shows a stream's events to a person: the text on stdout as it comes, everything else on stderr."""

from __future__ import annotations

import sys
from typing import TextIO

from trunkline.cli.eventjson import event_line
from trunkline.cli.terminal import DIM, is_terminal, print_note, safe, styled
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


class Display:
    """Shows one answer. `show` takes each event, `close` the whole response, or what there is of it.

    On a terminal text and reasoning share the screen, so each begins on a line of its own. Elsewhere stdout gets the
    text alone, exactly as it came, and a line break at its end.
    """

    def __init__(self) -> None:
        self._out: TextIO = sys.stdout
        self._error: TextIO = sys.stderr
        self._terminal = is_terminal(sys.stdout)
        # What was written last, where its line is still open.
        self._open: TextIO | None = None
        self._text_open = False

    def show(self, event: Event) -> None:
        """Show what there is to show of an event."""
        if isinstance(event, TextDelta):
            self._text(event.text)
        elif isinstance(event, ReasoningDelta):
            self._reasoning(event.text)
        elif isinstance(event, ReasoningStart):
            self._end_line()
            self._write(self._error, styled("[reasoning] ", DIM, self._error))
        elif isinstance(event, PartAdded):
            if not isinstance(event.part, Opaque):
                self._note(_media(event.part))
        elif isinstance(event, (ResponseStarted, Finished)):
            for warning in event.warnings:
                self._note(f"warning: {warning}")

    def _text(self, text: str) -> None:
        if self._open is self._error:
            self._end_line()
        self._write(self._out, safe(text) if self._terminal else text)

    def _reasoning(self, text: str) -> None:
        if self._open is self._out:
            self._end_line()
        self._write(self._error, styled(safe(text), DIM, self._error))

    def _write(self, stream: TextIO, text: str) -> None:
        stream.write(text)
        stream.flush()
        if text:
            ends = text.endswith("\n")
            self._open = None if ends else stream
            if stream is self._out:
                self._text_open = not ends

    def _end_line(self) -> None:
        # A line break in the middle of piped text would not be the model's.
        if self._open is not None and (self._open is self._error or self._terminal):
            self._write(self._open, "\n")

    def _note(self, text: str) -> None:
        self._end_line()
        print_note(text, style=DIM)

    def close(self, response: ChatResponse | None, *, seconds: float = 0) -> None:
        """End the text's line; then the tool calls, sources, warnings and the summary of a whole response."""
        self._end_line()
        if self._text_open:
            self._write(self._out, "\n")
        if response is None:
            return
        for call in response.tool_calls:
            self._note(f"[tool call] {call.name}({call.arguments_json}) id={call.id}")
        for part in response.parts:
            if isinstance(part, Citation):
                self._note(f"[source] {' '.join(filter(None, (part.title, part.url))) or part.cited_text or 'unnamed'}")
            elif isinstance(part, Opaque):
                self._note(f"[{part.kind}] a block of {part.provider}; --json shows it")
        for warning in response.warnings:
            if warning.kind == "invalid_arguments":
                self._note(f"warning: {warning}")
        for hint in _hints(response):
            self._note(hint)
        self._note(_summary(response, seconds))


class JSONDisplay(Display):
    """Writes each event as a JSON line on stdout, and nothing else."""

    def show(self, event: Event) -> None:
        """Write the event."""
        self._out.write(event_line(event) + "\n")
        self._out.flush()

    def close(self, response: ChatResponse | None, *, seconds: float = 0) -> None:
        """Nothing: the last event says it."""


def _media(part: Audio | Image | Document) -> str:
    size = f", {len(part.data)} bytes" if part.data is not None else ""
    return f"[{type(part).__name__.lower()}] {part.media_type or 'of unknown type'}{size}; --json has it"


def _hints(response: ChatResponse) -> list[str]:
    hints = []
    if response.refusal:
        hints.append("the model declined to answer")
    if not response.parts or not (response.text or response.refusal or response.tool_calls):
        if response.finish_reason is FinishReason.LENGTH:
            hints.append(
                "no text: the output budget was used up before the answer began, often by reasoning; "
                "raise --max-output-tokens"
            )
        elif all(not isinstance(part, Opaque) for part in response.parts):
            hints.append("the model answered with an empty message")
    elif response.finish_reason is FinishReason.LENGTH:
        hints.append("the answer was cut at the output limit; raise --max-output-tokens")
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
        return "usage not told"
    told = {
        "in": usage.input_tokens,
        "out": usage.output_tokens,
        "cached": usage.cache_read_tokens,
        "reasoning": usage.reasoning_tokens,
    }
    counts = [f"{count} {name}" for name, count in told.items() if count or (count == 0 and name in ("in", "out"))]
    return f"tokens: {', '.join(counts)}" if counts else "usage not told"
