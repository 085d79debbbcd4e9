"""Answers: JSON lines, each a piece of a message, or the whole of it in one body. Pure: no I/O.

Streamed and whole answers are objects of one form; the last, or only, one says `"done": true`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import attrs
from trunkline.authoring.event_builder import EventBuilder
from trunkline.authoring.framing import JSONLinesFramer
from trunkline.authoring.json import decode_object
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.response import ChatResponse, FinishReason, TokenLogprob, Usage
from trunkline.settings import Settings

from trunkline_ollama.errors import error_from, error_of

Data: TypeAlias = dict[str, Any]

REASONS: Mapping[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    # Nothing stands there when the server lost the process that runs the model.
    "": FinishReason.ERROR,
}
"""What a `done_reason` means; any other (`load`, `unload`, a gateway's own) is `OTHER`."""


class OllamaParser:
    """Reads the answers of one service."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    def stream(self) -> tuple[JSONLinesFramer, OllamaStream]:
        """A fresh framer and parser, for one stream."""
        return JSONLinesFramer(), OllamaStream(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """The response of a call that was not streamed: the same events, folded."""
        data = decode_object(wire_response.body, "the body", provider=self._provider)
        stream = OllamaStream(self._provider)
        events = stream.read(data)
        if not stream.finished:
            raise ProtocolViolation("the body does not say that it is done", provider=self._provider)
        return attrs.evolve(fold(events, self._provider), raw=data)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """The error that a response with an error status tells of."""
        return error_of(wire_response, provider=self._provider)


class OllamaStream:
    """Turns the lines of one stream into events. The line with `"done": true` completes it."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._answer = EventBuilder(provider)
        self._calls = 0

    @property
    def finished(self) -> bool:
        """Whether the answer is complete."""
        return self._answer.finished

    def feed(self, frame: bytes) -> list[Event]:
        """The events of one line."""
        return self.read(decode_object(frame, "a line of the stream", provider=self._provider))

    def finish(self) -> list[Event]:
        """The end of the file came before the last line. A truncated stream is never a success."""
        raise StreamInterrupted("the stream ended before its line with 'done': true", provider=self._provider)

    def read(self, data: Data) -> list[Event]:
        """The events of one decoded line, or body."""
        if "error" in data:
            raise error_from(data, provider=self._provider)
        # The wire has no id for an answer; the time of its first line tells it from others.
        self._answer.start(model=_text(data.get("model")) or None, seed=_text(data.get("created_at")))
        message = data.get("message")
        if isinstance(message, dict):
            self._message(message, _logprobs(data.get("logprobs")))
        if data.get("done") is True:
            self._answer.usage(_usage(data))
            raw = _text(data.get("done_reason"))
            self._answer.finish(REASONS.get(raw, FinishReason.OTHER), raw_reason=raw or None)
        return self._answer.take()

    def _message(self, message: Data, logprobs: tuple[TokenLogprob, ...]) -> None:
        thinking, calls = _text(message.get("thinking")), message.get("tool_calls")
        self._answer.reasoning(thinking)
        # Those of thinking and of tool calls are not the text's.
        self._answer.text(_text(message.get("content")), logprobs=() if thinking or calls else logprobs)
        for call in calls if isinstance(calls, list) else []:
            self._call(call)

    def _call(self, call: object) -> None:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict):
            raise ProtocolViolation("a tool call has no function", provider=self._provider)
        # Each comes whole. `index` is missing from old servers' answers, or is 0 for each.
        self._answer.tool_call(
            self._calls,
            call_id=_text(call.get("id")) or None,
            name=_text(function.get("name")),
            arguments=function.get("arguments"),
        )
        self._calls += 1


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _usage(data: Data) -> Usage | None:
    """The usage. Older servers tell no `prompt_eval_count`, or 0, where the prompt was in their cache."""

    def count(name: str) -> int | None:
        told = data.get(name)
        return told if isinstance(told, int) and not isinstance(told, bool) and told >= 0 else None

    input_tokens, output_tokens = count("prompt_eval_count") or None, count("eval_count")
    raw = {name: value for name, value in data.items() if name.endswith(("_count", "_duration"))}
    if input_tokens is None and output_tokens is None:
        return None
    total = None if input_tokens is None or output_tokens is None else input_tokens + output_tokens
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=total, raw=raw)


def _logprobs(value: object) -> tuple[TokenLogprob, ...]:
    entries = value if isinstance(value, list) else []
    return tuple(
        TokenLogprob(token=entry["token"], logprob=float(entry["logprob"]), top=_logprobs(entry.get("top_logprobs")))
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("token"), str) and _is_number(entry.get("logprob"))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
