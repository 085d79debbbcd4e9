"""Translate the conversation into Ollama's messages, each with a role, text, images, thinking and tool calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trunkline.authoring.json import with_options
from trunkline.authoring.replay import ReplayRules, Turn, join_texts, left_out_note, replay
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


def rules(provider: str, family: str) -> ReplayRules:
    """Return the rules for the histories that a model family accepts through Ollama's API."""
    return ReplayRules(
        provider=provider,
        family=family,
        # The server accepts any string as an id, and templates insert ids unchanged (api/types.go, August 2026).
        call_ids=r"[!-~]{1,128}",
        tool_names=r"\S{1,256}",
        # Images are the only media: each message has a list of images.
        result_media=(Image,),
        readable_media=(Image,),
    )


class History:
    """Translates the messages of one request."""

    def __init__(self, provider: str, family: str, warnings: Warnings) -> None:
        self._provider = provider
        self._family = family
        self._warnings = warnings

    def translate(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        """Return the messages. A part that Ollama does not accept is left out with a warning."""
        wire: list[dict[str, Any]] = []
        for turn in replay(messages, rules(self._provider, self._family), self._warnings):
            if message := self._message(turn):
                wire.append(message)
            wire += [self._result(result) for result in turn.results]
        return wire

    def _message(self, turn: Turn) -> dict[str, Any] | None:
        message = turn.message
        if message.name is not None:
            self._warnings.add("left_out", "message name", "not supported by Ollama; ignored", lossy=True)
        texts, images, thinking, calls = [], [], [], []
        for part in message.parts:
            if isinstance(part, (Text, Image)) and part.provider_options.get(self._provider):
                why = "Ollama's texts and images have no options; set provider_options of the message"
                self._warnings.add("left_out", "provider_options", why, lossy=True)
            match part:
                case Text():
                    texts.append(part.text)
                case ToolCall():
                    calls.append(self._call(part))
                case Reasoning():
                    thinking.append(part.text)
                case Audio() if part.transcript:
                    why = "Ollama does not accept audio; the transcript was sent instead"
                    self._warnings.add("emulated", "audio", why, lossy=message.role != "assistant")
                    texts.append(part.transcript)
                case _:
                    images += self._image(part)
        # The texts of an answer are the pieces of one text. Those of other messages are apart at other providers.
        text = "".join(texts) if message.role == "assistant" else join_texts(texts)
        if not (text or images or thinking or calls):
            return None
        value: dict[str, Any] = {"role": message.role, "content": text}
        if images:
            value["images"] = images
        if thinking:
            value["thinking"] = "".join(thinking)
        if calls:
            value["tool_calls"] = calls
        return with_options(value, message.provider_options, self._provider)

    def _call(self, call: ToolCall) -> dict[str, Any]:
        kept = call.provider_metadata.get(self._provider, {})
        value: dict[str, Any] = {**kept, "id": call.id, "function": {"name": call.name, "arguments": call.arguments}}
        return with_options(value, call.provider_options, self._provider)

    def _result(self, result: ToolResult) -> dict[str, Any]:
        images = [image for part in result.parts if not isinstance(part, Text) for image in self._image(part)]
        text = result.text if images else result.text or left_out_note(result.parts)
        if result.is_error:
            message = "Ollama cannot mark a tool result as failed; its text was prefixed with 'Error: '"
            self._warnings.add("changed", "tool result", message, lossy=False)
            text = f"Error: {text}"
        value: dict[str, Any] = {
            "role": "tool",
            "content": text,
            "tool_name": result.name,
            "tool_call_id": result.tool_call_id,
        }
        if images:
            value["images"] = images
        return with_options(value, result.provider_options, self._provider)

    def _image(self, part: Part) -> list[str]:
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
            case Opaque() | Reasoning() | Citation() | Text() | ToolCall() | ToolResult():
                pass  # Ollama makes no opaque parts and needs no citations back; the callers handle the others
        return []
