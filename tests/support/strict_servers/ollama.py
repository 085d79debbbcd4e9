"""The requests that Ollama's chat refuses, because its server decodes requests into Go structures."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator

from strict_servers.refusal import Body, Check, Refusal

_API = "ollama, api/types.go"


def decoding(body: Body) -> Iterator[Refusal]:
    """Values of a type that the server does not accept."""
    for place, message in enumerate(body["messages"]):
        if not isinstance(message.get("content", ""), str):
            yield Refusal(
                "json: cannot unmarshal array into Go struct field ChatRequest.messages of type string",
                "ollama/ollama#6451 (2024-08)",
            )
        if message["role"] not in ("system", "user", "assistant", "tool"):
            yield Refusal(f"messages[{place}]: invalid role: {message['role']!r}", _API)
        if not isinstance(message.get("thinking", ""), str):
            yield Refusal(f"messages[{place}]: thinking is not a string", _API)
        for call in message.get("tool_calls") or ():
            if not isinstance(call["function"]["arguments"], dict):
                yield Refusal(
                    "json: cannot unmarshal string into Go struct field "
                    "ChatRequest.messages.tool_calls.function.arguments of type api.ToolCallFunctionArguments",
                    "neuron-core/neuron-ai#219 (2025-07), aliasrobotics/cai#76",
                )
        for image in message.get("images") or ():
            try:
                b64decode(image, validate=True)
            except ValueError:
                yield Refusal(f"messages[{place}]: illegal base64 data", _API)


CHECKS: tuple[Check, ...] = (decoding,)
