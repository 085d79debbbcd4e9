"""Parse the responses of the chat API: a stream of JSON lines, each a piece of the message, or one body.

The lines of a stream and a whole body are objects of the same form. The last line, or the body, has `"done": true`.
Parsing does no I/O.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import attrs
from trunkline.authoring.event_builder import EventBuilder
from trunkline.authoring.framing import JSONLinesFramer
from trunkline.authoring.http_errors import error_from_json, error_from_response
from trunkline.authoring.json import (
    as_count,
    as_list,
    as_number,
    as_object,
    as_objects,
    as_string,
    decode_object,
    unknown_fields,
)
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.messages import Image
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

# The fields that the parser reads, and fields without information. Every other field is kept in `provider_metadata`.
_LINE_FIELDS = frozenset({"model", "created_at", "message", "done", "done_reason", "logprobs", "error"})
_MESSAGE_FIELDS = frozenset({"role", "content", "thinking", "tool_calls", "images"})
_CALL_FIELDS = frozenset({"id", "type", "function"})
_FUNCTION_FIELDS = frozenset({"index", "name", "arguments"})
_COUNTS = ("_count", "_duration")
"""`Usage.raw` has the fields whose names end like this."""
_ERROR_FIELDS = frozenset({"error", "errors", "detail", "error_type"})


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
        self._is_empty = True
        self._logprobs: list[Any] = []  # unchanged
        self._has_other_logprobs = False  # whether some belong to thinking or tool calls

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
        if _is_error(data):
            raise error_from_json(data, provider=self._provider, read=error_from_body)
        # Responses have no id. The time of the first line makes the ids of tool calls differ between responses.
        self._builder.start(model=as_string(data.get("model")) or None, seed=as_string(data.get("created_at")))
        if not data.keys() <= _LINE_FIELDS:
            self._builder.metadata(_unknown(data, _LINE_FIELDS))
        message = data.get("message")
        if isinstance(message, dict):
            self._message(message, data.get("logprobs"))
        if data.get("done") is True:
            self._end(data)
        return self._builder.take()

    def _message(self, message: dict[str, Any], logprobs: object) -> None:
        thinking, calls = as_string(message.get("thinking")) or "", message.get("tool_calls")
        text = as_string(message.get("content")) or ""
        if text or thinking or calls:
            self._is_empty = False
        if not message.keys() <= _MESSAGE_FIELDS:
            self._builder.metadata(_unknown(message, _MESSAGE_FIELDS))
        found: tuple[TokenLogprob, ...] = ()
        if logprobs:
            # In a line with thinking or tool calls, the log probabilities do not belong to the text.
            found = () if thinking or calls else _logprobs(logprobs)
            self._logprobs += as_list(logprobs)
            self._has_other_logprobs |= bool(thinking or calls)
        self._builder.reasoning(thinking)
        self._builder.text(text, logprobs=found)
        if message.get("images"):
            self._images(as_list(message["images"]))
        for call in as_list(calls):
            self._call(call)

    def _images(self, images: list[Any]) -> None:
        for image in images:
            try:
                self._builder.add(Image(data=b64decode(image, validate=True)))
            except (binascii.Error, TypeError, ValueError):
                raise ProtocolViolation("an image in the response is not base64", provider=self._provider) from None
            self._is_empty = False

    def _call(self, call: object) -> None:
        if not isinstance(call, dict):
            raise ProtocolViolation("a tool call in the response is not an object", provider=self._provider)
        function = as_object(call.get("function"))
        fields = {**_unknown(call, _CALL_FIELDS), **_unknown(function, _FUNCTION_FIELDS)}
        # Each call arrives complete. Old servers send no `index`, or 0 for every call, so the calls are counted here.
        self._builder.tool_call(
            self._calls,
            call_id=as_string(call.get("id")) or None,
            name=as_string(function.get("name")) or "",
            arguments=function.get("arguments"),
            metadata={self._provider: fields} if fields else None,
        )
        self._calls += 1

    def _end(self, data: dict[str, Any]) -> None:
        raw_reason = as_string(data.get("done_reason")) or ""
        if self._is_empty and not raw_reason:
            # Nothing was generated, so this is a failed call, which can be retried, rather than a response.
            body = {"error": "the response ended without content and without a reason"}
            raise error_from_json(body, provider=self._provider, read=error_from_body)
        if self._has_other_logprobs:
            self._builder.metadata({"logprobs": self._logprobs})
        self._builder.usage(_usage(data))
        self._builder.finish(REASONS.get(raw_reason, FinishReason.OTHER), raw_reason=raw_reason or None)


def _is_error(data: dict[str, Any]) -> bool:
    """Return whether a line or a body describes an error. The errors of gateways have other forms."""
    if data.get("error"):
        return True
    if "done" in data or isinstance(data.get("message"), dict):
        return False
    return not data.keys().isdisjoint(_ERROR_FIELDS) or isinstance(data.get("message"), str)


def _unknown(data: dict[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in unknown_fields(data, known).items() if not name.endswith(_COUNTS)}


def _usage(data: dict[str, Any]) -> Usage | None:
    # Older servers leave `prompt_eval_count` out, or send 0, if the prompt was in their cache: 0 means unknown.
    input_tokens, output_tokens = as_count(data.get("prompt_eval_count")) or None, as_count(data.get("eval_count"))
    raw = {name: value for name, value in data.items() if name.endswith(_COUNTS)}
    if not raw:
        return None
    total = None if input_tokens is None or output_tokens is None else input_tokens + output_tokens
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=total,
        cache_read_tokens=as_count(data.get("prompt_eval_cached_count")),
        raw=raw,
    )


def _logprobs(value: object) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(token=entry["token"], logprob=logprob, top=_logprobs(entry.get("top_logprobs")))
        for entry in as_objects(value)
        if isinstance(entry.get("token"), str) and (logprob := as_number(entry.get("logprob"))) is not None
    )
