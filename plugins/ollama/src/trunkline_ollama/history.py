"""Translate the conversation into Ollama's messages, each with a role, text, images, thinking and tool calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from trunkline.authoring.json import with_options
from trunkline.authoring.tool_results import pair_turns
from trunkline.authoring.warnings import Warnings
from trunkline.messages import (
    Audio,
    Citation,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)


class History:
    """Translates the messages of one request."""

    def __init__(self, provider: str, warnings: Warnings) -> None:
        self._provider = provider
        self._warnings = warnings

    def translate(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        """Return the messages. A part that Ollama does not accept is left out with a warning."""
        wire: list[dict[str, Any]] = []
        for turn in pair_turns(messages, self._warnings):
            if message := self._message(turn.message):
                wire.append(message)
            for position, part in enumerate(turn.message.parts):
                if isinstance(part, ToolCall):
                    wire += [self._result(part, result) for result in turn.results.get(position, ())]
        return wire

    def _message(self, message: Message) -> dict[str, Any] | None:
        if message.name is not None:
            self._warnings.add("left_out", "message name", "not supported by Ollama; ignored", lossy=True)
        texts, images, thinking, calls = [], [], [], []
        for part in message.parts:
            match part:
                case Text():
                    texts.append(part.text)
                case ToolCall():
                    calls.append(self._call(part))
                case Reasoning() if part.provider == self._provider:
                    thinking.append(part.text)
                case Audio() if part.transcript:
                    why = "Ollama does not accept audio; the transcript was sent instead"
                    self._warnings.add("emulated", "audio", why, lossy=message.role != "assistant")
                    texts.append(part.transcript)
                case _:
                    images += self._image(part, by_model=message.role == "assistant")
        if not ("".join(texts) or images or thinking or calls):
            return None
        value: dict[str, Any] = {"role": message.role, "content": "".join(texts)}
        if images:
            value["images"] = images
        if thinking:
            value["thinking"] = "".join(thinking)
        if calls:
            value["tool_calls"] = calls
        return with_options(value, message.provider_options, self._provider)

    def _call(self, call: ToolCall) -> dict[str, Any]:
        if call.invalid_arguments is not None:
            message = f"the arguments of {call.name} are not a JSON object; left out"
            self._warnings.add("changed", f"tool call {call.name}", message, lossy=False)
        value: dict[str, Any] = {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
        return with_options(value, call.provider_options, self._provider)

    def _result(self, call: ToolCall, result: ToolResult) -> dict[str, Any]:
        text = "".join(self._texts(result.parts))
        if result.is_error:
            message = "Ollama cannot mark a tool result as failed; its text was prefixed with 'Error: '"
            self._warnings.add("changed", "tool result", message, lossy=False)
            text = f"Error: {text}"
        value: dict[str, Any] = {"role": "tool", "content": text, "tool_name": call.name, "tool_call_id": call.id}
        images = [
            image for part in result.parts if not isinstance(part, Text) for image in self._image(part, by_model=False)
        ]
        if images:
            value["images"] = images
        return with_options(value, result.provider_options, self._provider)

    def _texts(self, parts: Sequence[Part]) -> Iterator[str]:
        return (part.text for part in parts if isinstance(part, Text))

    def _image(self, part: Part, *, by_model: bool) -> list[str]:
        match part:
            case Image() if part.data is not None:
                if part.detail is not None:
                    self._warnings.add(
                        "unsupported", "image detail", "not supported by Ollama; ignored", lossy=part.detail != "auto"
                    )
                return [part.base64]
            case Image():
                message = (
                    "Ollama accepts images as bytes only; set fetch_urls = true to fetch URLs, or send data; left out"
                )
                self._warnings.add("left_out", "image", message, lossy=True)
            case Document() | Audio():
                subject = type(part).__name__.lower()
                advice = "convert it to text" if isinstance(part, Document) else "send a transcript"
                self._warnings.add(
                    "left_out", subject, f"Ollama accepts text and images only; {advice}; left out", lossy=True
                )
            case Reasoning():
                message = f"reasoning from {part.provider or 'another provider'} cannot be sent to Ollama; left out"
                self._warnings.add("left_out", "reasoning", message, lossy=not by_model)
            case Opaque():
                message = f"only {part.provider} understands this part; left out"
                self._warnings.add("left_out", part.kind, message, lossy=not by_model)
            case Citation() | Text() | ToolCall() | ToolResult():
                pass  # citations are not sent back; the others are handled by the callers
        return []
