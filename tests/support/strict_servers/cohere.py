"""The requests that Cohere's v2 chat refuses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pydantic

from strict_servers.refusal import Body, Check, Refusal

_API = "docs.cohere.com/reference/chat"
_FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "tool_plan", "citations"},
    "tool": {"role", "content", "tool_call_id"},
}


@cache
def _messages() -> pydantic.TypeAdapter[Any]:
    from cohere.types import ChatMessages  # slow to import

    return pydantic.TypeAdapter(ChatMessages)


def sdk_types(body: Body) -> Iterator[Refusal]:
    """Messages and fields that Cohere's SDK does not know."""
    try:
        _messages().validate_python(body["messages"])
    except pydantic.ValidationError as error:
        yield Refusal(str(error)[:300], "cohere, types/chat_message_v2.py")
    for place, message in enumerate(body["messages"]):
        if unknown := message.keys() - _FIELDS[message["role"]]:
            yield Refusal(f"messages[{place}]: unknown fields {sorted(unknown)}", "cohere, types/chat_message_v2.py")


def results_follow_calls(body: Body) -> Iterator[Refusal]:
    """A call without a result after it, and a result without its call."""
    wanted: list[str] = []
    for place, message in [*enumerate(body["messages"]), (-1, {"role": "end"})]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in wanted:
                yield Refusal(f"messages[{place}]: tool_call_id {message['tool_call_id']!r} not found", _API)
            else:
                wanted.remove(message["tool_call_id"])
            continue
        if wanted:
            yield Refusal(
                f"messages[{place}]: invalid request: An assistant message with 'tool_calls' must be followed by tool "
                f"messages responding to each 'tool_call_id': {', '.join(wanted)}",
                "oracle/langchain-oracle#10 (2025-08)",
            )
        wanted = [call["id"] for call in message.get("tool_calls") or ()]
        if len(set(wanted)) != len(wanted) or "" in wanted:
            yield Refusal(f"messages[{place}]: ids of tool calls must be set and differ: {wanted}", _API)


def content(body: Body) -> Iterator[Refusal]:
    """Messages without content."""
    for place, message in enumerate(body["messages"]):
        if message["role"] != "tool" and not message.get("content") and not message.get("tool_calls"):
            yield Refusal(
                f"messages[{place}]: invalid request: all elements in history must have a message.",
                "langchain-ai/langchain-cohere#15 (2024-04), kwaroran/Risuai#458 (2024-06)",
            )


CHECKS: tuple[Check, ...] = (sdk_types, results_follow_calls, content)
