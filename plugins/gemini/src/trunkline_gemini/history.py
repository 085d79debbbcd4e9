"""Translate the conversation into `contents`, the turns of `user` and `model`, and the system instruction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trunkline.authoring.json import ProviderOptions, with_options
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

UNSIGNED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""`skip_thought_signature_validator` in base64: the signature that Google documents for calls from other models."""


class History:
    """Translates the messages of one request. `system` collects the parts of the system instruction.

    `needs_signatures` is whether the model requires a signature on the first call of each turn (Gemini 3 and later).
    """

    def __init__(self, provider: str, warnings: Warnings, *, needs_signatures: bool) -> None:
        self._provider = provider
        self._warnings = warnings
        self._needs_signatures = needs_signatures
        self.system: list[dict[str, Any]] = []

    def translate(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        """Return the turns. A part that Gemini does not accept is left out with a warning."""
        contents: list[dict[str, Any]] = []
        for turn in pair_turns(messages, self._warnings):
            message = turn.message
            if message.role == "system":
                self.system += [{"text": text} for text in self._system(message)]
                continue
            parts = self._parts(message)
            if parts:
                contents.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
            results: list[dict[str, Any]] = []
            for position, part in enumerate(message.parts):
                if isinstance(part, ToolCall):
                    results += [self._result(part, result) for result in turn.results.get(position, ())]
            if results:
                # Tool results need a turn of their own; the API refuses them next to other parts.
                contents.append({"role": "user", "parts": results})
        return contents

    def _system(self, message: Message) -> Iterable[str]:
        for part in message.parts:
            if isinstance(part, Text):
                yield part.text
            else:
                reason = "Gemini's system instruction accepts text only; left out"
                self._warnings.add("left_out", type(part).__name__.lower(), reason, lossy=True)

    def _parts(self, message: Message) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        needs_signature = self._needs_signatures
        for part in message.parts:
            wire_part = self._part(part, by_model=message.role == "assistant")
            if wire_part is None:
                continue
            if "functionCall" in wire_part:
                if needs_signature:
                    wire_part.setdefault("thoughtSignature", UNSIGNED)
                needs_signature = False
            options = {} if isinstance(part, (Opaque, Citation)) else part.provider_options
            parts.append(with_options(wire_part, options, self._provider))
        return parts

    def _part(self, part: Part, *, by_model: bool) -> dict[str, Any] | None:
        match part:
            case Text():
                signature = self._signature(part.provider_metadata)
                return {"text": part.text, **signature} if part.text or signature else None
            case Reasoning():
                return self._reasoning(part, by_model=by_model)
            case ToolCall():
                call = {"id": part.id, "name": part.name, "args": part.arguments}
                if part.invalid_arguments is not None:
                    message = f"the arguments of {part.name} are not a JSON object; left out"
                    self._warnings.add("changed", f"tool call {part.name}", message, lossy=False)
                return {"functionCall": call, **self._signature(part.provider_metadata)}
            case Image() | Document() | Audio():
                return self._media(part)
            case Opaque():
                if part.provider == self._provider:
                    return dict(part.data)
                message = f"only {part.provider} understands this part; left out"
                self._warnings.add("left_out", part.kind, message, lossy=not by_model)
            case Citation() | ToolResult():
                pass  # citations are not sent back; results are sent after their calls
        return None

    def _reasoning(self, part: Reasoning, *, by_model: bool) -> dict[str, Any] | None:
        if part.provider != self._provider:
            message = f"reasoning from {part.provider or 'another provider'} cannot be sent to Gemini; left out"
            self._warnings.add("left_out", "reasoning", message, lossy=not by_model)
            return None
        thought: dict[str, Any] = {"text": part.text, "thought": True}
        return thought | {"thoughtSignature": part.signature} if part.signature else thought

    def _signature(self, metadata: ProviderOptions) -> dict[str, Any]:
        signature = metadata.get(self._provider, {}).get("thoughtSignature")
        return {"thoughtSignature": signature} if isinstance(signature, str) else {}

    def _media(self, part: Image | Document | Audio) -> dict[str, Any]:
        if part.data is not None:
            media_type = part.media_type or "application/octet-stream"
            if part.media_type is None:
                message = "the media type is unknown, which Gemini refuses; set media_type"
                self._warnings.add("other", type(part).__name__.lower(), message, lossy=False)
            media: dict[str, Any] = {"inlineData": {"mimeType": media_type, "data": part.base64}}
        else:
            media = {"fileData": {"fileUri": part.url or part.file_id}}
            if part.media_type is not None:
                media["fileData"]["mimeType"] = part.media_type
        if isinstance(part, Image) and part.detail in ("low", "high"):
            media["mediaResolution"] = {"level": f"MEDIA_RESOLUTION_{part.detail.upper()}"}
        return media

    def _result(self, call: ToolCall, result: ToolResult) -> dict[str, Any]:
        texts = [part.text for part in result.parts if isinstance(part, Text)]
        media = [self._media(part) for part in result.parts if isinstance(part, (Image, Document, Audio))]
        response: dict[str, Any] = {"id": call.id, "name": call.name}
        response["response"] = {"error" if result.is_error else "output": "".join(texts)}
        if media:
            # Supported from Gemini 3 on; earlier models refuse it with status 400 and a clear message.
            response["parts"] = [
                {key: value for key, value in item.items() if key != "mediaResolution"} for item in media
            ]
        for part in result.parts:
            if isinstance(part, Opaque):
                self._warnings.add(
                    "left_out", part.kind, "Gemini accepts text and media in tool results; left out", lossy=True
                )
        return with_options({"functionResponse": response}, result.provider_options, self._provider)
