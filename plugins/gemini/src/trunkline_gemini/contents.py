"""The conversation as `contents`: turns of `user` and `model`, and the system instruction. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from trunkline.authoring.json import ProviderOptions
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

JSON: TypeAlias = dict[str, Any]

UNSIGNED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""`skip_thought_signature_validator` in base64: Google's documented word for calls that Gemini did not make."""


class Contents:
    """One conversation. `signed` says that the model wants a signature on the first call of each turn (Gemini 3)."""

    def __init__(self, provider: str, warnings: Warnings, *, signed: bool) -> None:
        self._provider = provider
        self._warnings = warnings
        self._signed = signed
        self.system: list[JSON] = []

    def translate(self, messages: Iterable[Message]) -> list[JSON]:
        """The turns. What the wire cannot hold is left out, with a warning."""
        contents: list[JSON] = []
        for turn in pair_turns(messages, self._warnings):
            message = turn.message
            if message.role == "system":
                self.system += [{"text": text} for text in self._system(message)]
                continue
            parts = self._parts(message)
            if parts:
                contents.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
            answers: list[JSON] = []
            for position, part in enumerate(message.parts):
                if isinstance(part, ToolCall):
                    answers += [self._answer(part, result) for result in turn.results.get(position, ())]
            if answers:
                # Answers stand in a turn of their own: mixed with other parts the API refuses them.
                contents.append({"role": "user", "parts": answers})
        return contents

    def _system(self, message: Message) -> Iterable[str]:
        for part in message.parts:
            if isinstance(part, Text):
                yield part.text
            else:
                told = "Gemini's system instruction is text; it was not sent"
                self._warnings.add("left_out", type(part).__name__.lower(), told)

    def _parts(self, message: Message) -> list[JSON]:
        parts: list[JSON] = []
        unsigned = self._signed
        for part in message.parts:
            made = self._part(part)
            if made is None:
                continue
            if "functionCall" in made:
                if unsigned:
                    made.setdefault("thoughtSignature", UNSIGNED)
                unsigned = False
            parts.append({**made, **self._options(part)})
        return parts

    def _part(self, part: Part) -> JSON | None:
        match part:
            case Text():
                return {"text": part.text, **self._signature(part.provider_metadata)} if self._says(part) else None
            case Reasoning():
                return self._reasoning(part)
            case ToolCall():
                call = {"id": part.id, "name": part.name, "args": part.arguments}
                if part.invalid_arguments is not None:
                    told = f"the arguments of {part.name} are no JSON object; they were left out"
                    self._warnings.add("changed", f"tool call {part.name}", told)
                return {"functionCall": call, **self._signature(part.provider_metadata)}
            case Image() | Document() | Audio():
                return self._media(part)
            case Opaque():
                if part.provider == self._provider:
                    return dict(part.data)
                told = f"a {part.kind} of {part.provider} means nothing to Gemini; it was left out"
                self._warnings.add("left_out", part.kind, told)
            case Citation() | ToolResult():
                pass  # a citation belongs to the text before it; results stand beside their calls
        return None

    def _says(self, part: Text) -> bool:
        return bool(part.text) or bool(self._signature(part.provider_metadata))

    def _reasoning(self, part: Reasoning) -> JSON | None:
        if part.provider != self._provider:
            told = f"reasoning of {part.provider or 'another provider'} means nothing to Gemini; it was left out"
            self._warnings.add("left_out", "reasoning", told)
            return None
        made: JSON = {"text": part.text, "thought": True}
        return made | {"thoughtSignature": part.signature} if part.signature else made

    def _signature(self, metadata: ProviderOptions) -> JSON:
        told = metadata.get(self._provider, {}).get("thoughtSignature")
        return {"thoughtSignature": told} if isinstance(told, str) else {}

    def _media(self, part: Image | Document | Audio) -> JSON:
        if part.data is not None:
            media_type = part.media_type or "application/octet-stream"
            if part.media_type is None:
                told = "its media type is unknown, and Gemini refuses such; set media_type"
                self._warnings.add("other", type(part).__name__.lower(), told)
            made: JSON = {"inlineData": {"mimeType": media_type, "data": part.base64}}
        else:
            made = {"fileData": {"fileUri": part.url or part.file_id}}
            if part.media_type is not None:
                made["fileData"]["mimeType"] = part.media_type
        if isinstance(part, Image) and part.detail in ("low", "high"):
            made["mediaResolution"] = {"level": f"MEDIA_RESOLUTION_{part.detail.upper()}"}
        return made

    def _answer(self, call: ToolCall, result: ToolResult) -> JSON:
        texts = [part.text for part in result.parts if isinstance(part, Text)]
        media = [self._media(part) for part in result.parts if isinstance(part, (Image, Document, Audio))]
        response: JSON = {"id": call.id, "name": call.name}
        response["response"] = {"error" if result.is_error else "output": "".join(texts)}
        if media:
            # From Gemini 3 on; earlier models answer 400, which says so.
            response["parts"] = [
                {key: value for key, value in item.items() if key != "mediaResolution"} for item in media
            ]
        for part in result.parts:
            if isinstance(part, Opaque):
                self._warnings.add("left_out", part.kind, "a tool's result takes text and media; it was left out")
        return {"functionResponse": response, **self._options(result)}

    def _options(self, part: Part) -> Mapping[str, Any]:
        options: ProviderOptions = getattr(part, "provider_options", {})
        return options.get(self._provider, {})
