"""Parse the responses of the chat API: a stream of JSON lines, each a piece of the message, or one body.

The lines of a stream and a whole body are objects of the same form. The last line, or the body, has `"done": true`.
Parsing does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from trunkline.authoring.event_builder import EventBuilder
from trunkline.authoring.framing import JSONLinesFramer
from trunkline.authoring.http_errors import error_from_json, error_from_response
from trunkline.authoring.json import as_count, as_list, as_string, decode_object
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.response import ChatResponse, FinishReason, TokenLogprob, Usage
from trunkline.settings import Settings

from trunkline_ollama.errors import error_from_body

REASONS: Mapping[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    # The server sends an empty reason when the process that runs the model has died.
    "": FinishReason.ERROR,
}
"""The values of `done_reason`; any other (`load`, `unload`, a gateway's own) becomes `FinishReason.OTHER`."""


class OllamaParser:
    """Parses the responses of one service."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    def stream(self) -> tuple[JSONLinesFramer, OllamaStream]:
        """Return a new framer and parser for one stream."""
        return JSONLinesFramer(), OllamaStream(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """Return the response of a call that was not streamed. Raises `ProtocolViolation` if it is incomplete."""
        data = decode_object(wire_response.body, "the body", provider=self._provider)
        stream = OllamaStream(self._provider)
        events = stream.read(data)
        if not stream.finished:
            raise ProtocolViolation("the body is incomplete: it does not have 'done': true", provider=self._provider)
        return attrs.evolve(fold(events, self._provider), raw=data)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error of a response with an error status."""
        return error_from_response(wire_response, provider=self._provider, read=error_from_body)


class OllamaStream:
    """Turns the lines of one stream into events. The line with `"done": true` completes the stream."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._builder = EventBuilder(provider)
        self._calls = 0

    @property
    def finished(self) -> bool:
        """Whether the response is complete."""
        return self._builder.finished

    def feed(self, frame: bytes) -> list[Event]:
        """Return the events of one line."""
        return self.read(decode_object(frame, "a line of the stream", provider=self._provider))

    def finish(self) -> list[Event]:
        """Raise `StreamInterrupted`: the stream ended before the line with `"done": true`."""
        raise StreamInterrupted("the stream ended before a line with 'done': true", provider=self._provider)

    def read(self, data: dict[str, Any]) -> list[Event]:
        """Return the events of one decoded line or body. Raises the error that it carries, if it does."""
        if "error" in data:
            raise error_from_json(data, provider=self._provider, read=error_from_body)
        # Responses have no id. The time of the first line makes the ids of tool calls differ between responses.
        self._builder.start(model=as_string(data.get("model")) or None, seed=as_string(data.get("created_at")))
        message = data.get("message")
        if isinstance(message, dict):
            self._message(message, _logprobs(data.get("logprobs")))
        if data.get("done") is True:
            self._builder.usage(_usage(data))
            raw_reason = as_string(data.get("done_reason")) or ""
            self._builder.finish(REASONS.get(raw_reason, FinishReason.OTHER), raw_reason=raw_reason or None)
        return self._builder.take()

    def _message(self, message: dict[str, Any], logprobs: tuple[TokenLogprob, ...]) -> None:
        thinking, calls = as_string(message.get("thinking")) or "", message.get("tool_calls")
        self._builder.reasoning(thinking)
        # A line with thinking or tool calls has their log probabilities, not those of the text.
        self._builder.text(as_string(message.get("content")) or "", logprobs=() if thinking or calls else logprobs)
        for call in as_list(calls):
            self._call(call)

    def _call(self, call: object) -> None:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict):
            raise ProtocolViolation("a tool call in the response has no function", provider=self._provider)
        # Each call arrives complete. Old servers send no `index`, or 0 for every call, so the calls are counted here.
        self._builder.tool_call(
            self._calls,
            call_id=as_string(call.get("id")) or None,
            name=as_string(function.get("name")) or "",
            arguments=function.get("arguments"),
        )
        self._calls += 1


def _usage(data: dict[str, Any]) -> Usage | None:
    # Older servers leave `prompt_eval_count` out, or send 0, if the prompt was in their cache: 0 means unknown.
    input_tokens, output_tokens = as_count(data.get("prompt_eval_count")) or None, as_count(data.get("eval_count"))
    raw = {name: value for name, value in data.items() if name.endswith(("_count", "_duration"))}
    if input_tokens is None and output_tokens is None:
        return None
    total = None if input_tokens is None or output_tokens is None else input_tokens + output_tokens
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=total, raw=raw)


def _logprobs(value: object) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(token=entry["token"], logprob=float(entry["logprob"]), top=_logprobs(entry.get("top_logprobs")))
        for entry in as_list(value)
        if isinstance(entry, dict) and isinstance(entry.get("token"), str) and _is_number(entry.get("logprob"))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
