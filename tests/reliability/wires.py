"""The providers that are reached over HTTP: how a service of each is opened, and streams in its wire format.

The streams are made here, of as many pieces of text as a measurement wants.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import trunkline
from measuring import http_library
from trunkline import Service

SSE = {"content-type": "text/event-stream"}
EVENT_STREAM = {"content-type": "application/vnd.amazon.eventstream"}
JSON_LINES = {"content-type": "application/x-ndjson"}


@attrs.frozen
class Wire:
    """A provider: its settings without the URL, the headers of its streams, and functions that build them."""

    provider: str
    settings: Mapping[str, object]
    headers: Mapping[str, str]
    begin: Callable[[], bytes]
    text: Callable[[str], bytes]
    end: Callable[[], bytes]

    def stream(self, texts: Iterable[str]) -> list[bytes]:
        """A whole stream: its beginning, a piece for each text, and its end with the terminator."""
        return [self.begin(), *map(self.text, texts), self.end()]

    def open(self, url: str, **settings: object) -> Service:
        """A service of the provider at a URL."""
        return trunkline.open_service(
            self.provider,
            **{
                "default_model": "m",
                "http_library": http_library.get(),
                **self.settings,
                "api_url": url,
                **settings,
            },
        )


def _sse(data: Mapping[str, Any], event: str | None = None) -> bytes:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _typed(data: Mapping[str, Any]) -> bytes:
    return _sse(data, data["type"])


# Chat Completions, Mistral, Azure

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def _chunk(delta: Mapping[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return _sse(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": None,
        }
    )


def _chat_end() -> bytes:
    usage = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    return _chunk({}, "stop") + _sse({**usage, "usage": USAGE}) + b"data: [DONE]\n\n"


CHAT: Mapping[str, Any] = {
    "headers": SSE,
    "begin": lambda: _chunk({"role": "assistant", "content": ""}),
    "text": lambda text: _chunk({"content": text}),
    "end": _chat_end,
}


# Responses


def _response(kind: str, **more: object) -> bytes:
    response = {"id": "resp_1", "model": "m", "output": [], "error": None, **more}
    return _typed({"type": kind, "response": response})


def _responses_begin() -> bytes:
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": []}
    where = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
    return (
        _response("response.created", status="in_progress")
        + _typed({"type": "response.output_item.added", "output_index": 0, "item": item})
        + _typed({"type": "response.content_part.added", **where, "part": part})
    )


def _responses_text(text: str) -> bytes:
    where = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
    return _typed({"type": "response.output_text.delta", **where, "delta": text})


def _responses_end() -> bytes:
    usage = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    return _response("response.completed", status="completed", usage=usage)


# Anthropic


def _messages_begin() -> bytes:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 1},
    }
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    return _typed({"type": "message_start", "message": message}) + _typed(block)


def _messages_text(text: str) -> bytes:
    return _typed({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})


def _messages_end() -> bytes:
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    return (
        _typed({"type": "content_block_stop", "index": 0})
        + _typed({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 7}})
        + _typed({"type": "message_stop"})
    )


# ConverseStream


def event_stream_message(kind: str, data: Mapping[str, Any]) -> bytes:
    """One message of an AWS event stream."""
    facts = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        struct.pack(f"!B{len(name)}sBH{len(value)}s", len(name), name.encode(), 7, len(value), value.encode())
        for name, value in facts.items()
    )
    payload = json.dumps(data).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def _converse_text(text: str) -> bytes:
    return event_stream_message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})


def _converse_end() -> bytes:
    usage = {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}
    return (
        event_stream_message("contentBlockStop", {"contentBlockIndex": 0})
        + event_stream_message("messageStop", {"stopReason": "end_turn"})
        + event_stream_message("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})
    )


# Cohere


def _cohere_begin() -> bytes:
    message = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    start = {"id": "1", "type": "message-start", "delta": {"message": message}}
    content = {"message": {"content": {"type": "text", "text": ""}}}
    return _typed(start) + _typed({"type": "content-start", "index": 0, "delta": content})


def _cohere_text(text: str) -> bytes:
    return _typed({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": text}}}})


def _cohere_end() -> bytes:
    counts = {"input_tokens": 5, "output_tokens": 7}
    delta = {"finish_reason": "COMPLETE", "usage": {"billed_units": counts, "tokens": counts}}
    return _typed({"type": "content-end", "index": 0}) + _typed({"type": "message-end", "id": "1", "delta": delta})


# Gemini


def _generated(text: str, **more: object) -> bytes:
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0, **more}
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}
    return _sse({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m", "responseId": "r1"})


# Ollama


def _line(text: str, **more: object) -> bytes:
    message = {"role": "assistant", "content": text}
    line = {"model": "m", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False, **more}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _ollama_end() -> bytes:
    return _line("", done=True, done_reason="stop", prompt_eval_count=5, eval_count=7)


_KEY: Mapping[str, object] = {"api_key": "a-key-for-measuring"}

WIRES: Mapping[str, Wire] = {
    "openai": Wire("openai", {**_KEY, "api": "chat"}, **CHAT),
    "openai-responses": Wire(
        "openai", {**_KEY, "api": "responses"}, SSE, _responses_begin, _responses_text, _responses_end
    ),
    "openai-compatible": Wire("openai-compatible", _KEY, **CHAT),
    "azure-openai": Wire("azure-openai", _KEY, **CHAT),
    "anthropic": Wire("anthropic", _KEY, SSE, _messages_begin, _messages_text, _messages_end),
    "bedrock": Wire(
        "bedrock",
        {**_KEY, "aws_region": "us-east-1"},
        EVENT_STREAM,
        lambda: event_stream_message("messageStart", {"role": "assistant"}),
        _converse_text,
        _converse_end,
    ),
    "cohere": Wire("cohere", _KEY, SSE, _cohere_begin, _cohere_text, _cohere_end),
    "mistral": Wire("mistral", _KEY, **CHAT),
    "gemini": Wire(
        "gemini", _KEY, SSE, lambda: _generated(""), _generated, lambda: _generated("", finishReason="STOP")
    ),
    "vertex": Wire(
        "vertex", _KEY, SSE, lambda: _generated(""), _generated, lambda: _generated("", finishReason="STOP")
    ),
    "ollama": Wire("ollama", {}, JSON_LINES, lambda: _line(""), _line, _ollama_end),
}
"""By name. The provider `openai` has two entries, one for each of its wire formats."""
