"""The body of a response that was not requested as a stream. Pure.

llama.cpp computes every response as a stream here, because only a stream can be stopped. This module joins its chunks
to the body that llama.cpp would have sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trunkline.authoring.json import dumps

_TEXTS = ("content", "reasoning_content")


def whole_response(chunks: Iterable[dict[str, Any]]) -> bytes:
    """Join the chunks of a stream to a Chat Completions body with one choice."""
    body: dict[str, Any] = {}
    message: dict[str, Any] = {"role": "assistant", "content": None}
    calls: dict[int, dict[str, Any]] = {}
    logprobs: list[Any] = []
    finish_reason = None
    for chunk in chunks:
        body.update((name, value) for name, value in chunk.items() if name not in ("choices", "prompt_progress"))
        for choice in chunk.get("choices", ()):
            finish_reason = choice.get("finish_reason") or finish_reason
            logprobs += (choice.get("logprobs") or {}).get("content") or ()
            _add(message, calls, choice.get("delta") or {})
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    elif message["content"] is None:
        message["content"] = ""
    choice = {"finish_reason": finish_reason, "index": 0, "message": message}
    if logprobs:
        choice["logprobs"] = {"content": logprobs}
    return dumps({**body, "choices": [choice], "object": "chat.completion"})


def _add(message: dict[str, Any], calls: dict[int, dict[str, Any]], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name in _TEXTS:
            message[name] = (message.get(name) or "") + value if value is not None else message.get(name)
        elif name == "tool_calls":
            for part in value:
                call = calls.setdefault(part.get("index", 0), {"type": "function", "function": {}})
                call.update((key, part[key]) for key in ("id", "type") if part.get(key))
                function = call["function"]
                for key, text in (part.get("function") or {}).items():
                    function[key] = function.get(key, "") + (text or "")
        else:
            message[name] = value
