"""The responses of the benchmark's provider: bytes in three wire formats, made once."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from zlib import crc32

WORDS = ("river ", "stone ", "maple ", "cloud ", "brick ", "light ", "ocean ", "field ")
"""The deltas of a stream, repeated in turn. They have the same length, so a lost or doubled one changes the count."""

SIZE = len(WORDS[0])
ANSWER = "".join(WORDS) * 8
ANSWER_TOKENS = 64
PROMPT = "Write down what you see from the window, one thing after the other."
MODEL = "bench-model"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _words(n: int) -> list[str]:
    return [WORDS[i % len(WORDS)] for i in range(n)]


def _chat_usage(tokens: int) -> dict[str, object]:
    return {
        "prompt_tokens": 21,
        "completion_tokens": tokens,
        "total_tokens": 21 + tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def chat_body() -> bytes:
    """A Chat Completions response."""
    message = {"role": "assistant", "content": ANSWER, "refusal": None, "annotations": []}
    return _json(
        {
            "id": "chatcmpl-bench0000000000000000000001",
            "object": "chat.completion",
            "created": 1760000000,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _chat_usage(ANSWER_TOKENS),
            "service_tier": "default",
            "system_fingerprint": "fp_bench00001",
        }
    )


def _chat_chunk(delta: object, finish: str | None = None, usage: object = None, last: bool = False) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return b"data: %s\n\n" % _json(
        {
            "id": "chatcmpl-bench0000000000000000000001",
            "object": "chat.completion.chunk",
            "created": 1760000000,
            "model": MODEL,
            "service_tier": "default",
            "system_fingerprint": "fp_bench00001",
            "choices": [] if last else [choice],
            "usage": usage,
            "obfuscation": "Zr1Qk9w",
        }
    )


def chat_events(n: int) -> list[bytes]:
    """A Chat Completions stream of `n` texts."""
    return [
        _chat_chunk({"role": "assistant", "content": "", "refusal": None}),
        *(_chat_chunk({"content": word}) for word in _words(n)),
        _chat_chunk({}, "stop"),
        _chat_chunk(None, usage=_chat_usage(n), last=True),
        b"data: [DONE]\n\n",
    ]


def anthropic_body() -> bytes:
    """A Messages response."""
    return _json(
        {
            "id": "msg_bench000000000000000001",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [{"type": "text", "text": ANSWER}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 21, "output_tokens": ANSWER_TOKENS, "service_tier": "standard"},
        }
    )


def anthropic_events(n: int) -> list[bytes]:
    """A Messages stream of `n` texts."""

    def event(kind: str, **fields: object) -> bytes:
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), _json({"type": kind, **fields}))

    message = json.loads(anthropic_body()) | {"content": [], "stop_reason": None}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    return [
        event("message_start", message=message | {"usage": {"input_tokens": 21, "output_tokens": 1}}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("ping"),
        *(event("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in _words(n)),
        event("content_block_stop", index=0),
        event("message_delta", delta=ended, usage={"input_tokens": 21, "output_tokens": n}),
        event("message_stop"),
    ]


def bedrock_body() -> bytes:
    """A Converse response."""
    return _json(
        {
            "metrics": {"latencyMs": 400},
            "output": {"message": {"role": "assistant", "content": [{"text": ANSWER}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 21, "outputTokens": ANSWER_TOKENS, "totalTokens": 21 + ANSWER_TOKENS},
        }
    )


def event_stream_message(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of `application/vnd.amazon.eventstream`, with string headers."""
    packed = b"".join(
        struct.pack("!B", len(name)) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack("!I", crc32(prelude)) + packed + payload
    return message + struct.pack("!I", crc32(message))


def bedrock_events(n: int) -> list[bytes]:
    """A ConverseStream of `n` texts."""

    def event(kind: str, **fields: object) -> bytes:
        headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
        return event_stream_message(headers, _json({**fields, "p": "abcdefghijklmnopqrst"}))

    return [
        event("messageStart", role="assistant"),
        *(event("contentBlockDelta", contentBlockIndex=0, delta={"text": word}) for word in _words(n)),
        event("contentBlockStop", contentBlockIndex=0),
        event("messageStop", stopReason="end_turn"),
        event(
            "metadata",
            metrics={"latencyMs": 400},
            usage={"inputTokens": 21, "outputTokens": n, "totalTokens": 21 + n},
        ),
    ]


WIRES: dict[str, tuple[Callable[[], bytes], Callable[[int], list[bytes]], bytes]] = {
    "chat": (chat_body, chat_events, b"text/event-stream; charset=utf-8"),
    "anthropic": (anthropic_body, anthropic_events, b"text/event-stream; charset=utf-8"),
    "bedrock": (bedrock_body, bedrock_events, b"application/vnd.amazon.eventstream"),
}
"""For each wire format: a response body, the events of a stream, and the content type of the stream."""
