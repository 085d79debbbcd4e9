"""The conversation, in the Chat Completions dialect: messages, their parts, and tool results beside their calls."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from trunkline.errors import InvalidChatRequest
from trunkline.jsonvalue import JSONValue, ProviderOptions
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
from trunkline.response import CallWarning, WarningKind

from trunkline_openai.profile import Profile

JSON = dict[str, Any]

AUDIO_FORMATS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
"""The media types of `input_audio`, and what the wire calls them."""

ANNOTATION = "annotation."
"""What the `kind` of an `Opaque` begins with that came as an annotation of a message."""

_MEDIA_FOLLOWS = "The result follows in the next message."


class Warnings:
    """Collects the warnings of one translation, each once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], CallWarning] = {}

    def add(self, kind: WarningKind, subject: str, message: str) -> None:
        """Note a warning."""
        self._found.setdefault((kind, subject, message), CallWarning(kind=kind, subject=subject, message=message))

    def all(self) -> tuple[CallWarning, ...]:
        """The warnings, in order."""
        return tuple(self._found.values())


class _Turn:
    """A message, and the results of the tool calls in it, wherever they stood."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.results: dict[int, list[ToolResult]] = {}


def _with_options(value: JSON, options: ProviderOptions, provider: str) -> JSON:
    extra = options.get(provider)
    return {**value, **extra} if extra else value


class History:
    """Translates the messages of one request."""

    def __init__(self, *, provider: str, profile: Profile, system_role: str, warnings: Warnings) -> None:
        self._provider = provider
        self._profile = profile
        self._system_role = system_role
        self._warnings = warnings
        self._ids: dict[str, str] = {}
        self._id_pattern = re.compile(profile.call_id_pattern)
        self._lost_reasoning = 0
        self._lost_opaque = 0
        self._unnamed = 0

    def translate(self, messages: Iterable[Message]) -> list[JSON]:
        """The wire's messages. Raises `InvalidChatRequest` for a conversation that no wire could carry."""
        wire: list[JSON] = []
        for turn in self._turns(messages):
            message = turn.message
            if message.role == "assistant":
                self._assistant(turn, wire)
            elif message.role == "system":
                self._simple(message, self._system_role, wire)
            elif message.role == "user":
                self._simple(message, "user", wire)
        self._report_losses()
        return wire

    def _turns(self, messages: Iterable[Message]) -> list[_Turn]:
        # Some servers give the same ids in each turn, so a result belongs to the nearest call before it.
        turns: list[_Turn] = []
        owners: dict[str, tuple[_Turn, int]] = {}
        for message in messages:
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            for result in results:
                owner = owners.get(result.tool_call_id)
                if owner is None:
                    self._warnings.add(
                        "left_out",
                        "tool result",
                        f"no tool call {result.tool_call_id!r} stands before this result; keep the two together",
                    )
                else:
                    owner[0].results.setdefault(owner[1], []).append(result)
            if message.role == "tool":
                if len(results) != len(message.parts):
                    raise InvalidChatRequest("a tool message holds ToolResult parts and nothing else")
                continue
            turn = _Turn(message)
            turns.append(turn)
            for position, part in enumerate(message.parts):
                if isinstance(part, ToolCall):
                    owners[part.id] = (turn, position)
        return turns

    def _report_losses(self) -> None:
        if self._lost_reasoning:
            self._warnings.add(
                "left_out",
                "reasoning",
                f"{self._lost_reasoning} reasoning part(s) of the history were not sent: another provider made them, "
                "or this one does not take them back",
            )
        if self._lost_opaque:
            self._warnings.add(
                "left_out",
                "opaque part",
                f"{self._lost_opaque} part(s) of the history that only another provider understands were not sent",
            )

    def _message(self, role: str, message: Message) -> JSON:
        wire: JSON = {"role": role}
        if message.name is not None:
            if "names" in self._profile.takes:
                wire["name"] = message.name
            else:
                self._warnings.add("left_out", "message name", "this server takes no names of participants")
        return wire

    def _simple(self, message: Message, role: str, wire: list[JSON]) -> None:
        only_text = message.role == "system"
        content = [
            item
            for part in message.parts
            if not isinstance(part, ToolResult) and (item := self._part(part, message.role, only_text)) is not None
        ]
        if not content and any(isinstance(part, ToolResult) for part in message.parts):
            return
        value = {**self._message(role, message), "content": _content(content)}
        wire.append(_with_options(value, message.provider_options, self._provider))

    def _part(self, part: Part, role: str, only_text: bool) -> JSON | None:
        if isinstance(part, Text):
            return _with_options({"type": "text", "text": part.text}, part.provider_options, self._provider)
        if isinstance(part, (Image, Document, Audio)):
            item = None if only_text else self.media(part)
            if only_text:
                self._left_out(part, f"a {role} message holds only text here")
            return _with_options(item, part.provider_options, self._provider) if item is not None else None
        if isinstance(part, Opaque):
            if part.provider == self._provider and not part.kind.startswith(ANNOTATION):
                return dict(part.data)
            self._lost_opaque += 1
        elif isinstance(part, Reasoning):
            self._lost_reasoning += 1
        elif isinstance(part, ToolCall):
            raise InvalidChatRequest(f"a {role} message cannot call a tool; tool calls stand in assistant messages")
        return None

    def _left_out(self, part: Part, why: str) -> None:
        self._warnings.add("left_out", type(part).__name__.lower(), why)

    def media(self, part: Image | Document | Audio) -> JSON | None:
        """A picture, document or sound as a content part, or `None`, with a warning."""
        if isinstance(part, Image):
            return self._image(part)
        return self._audio(part) if isinstance(part, Audio) else self._document(part)

    def _image(self, part: Image) -> JSON | None:
        takes = self._profile.takes
        if part.file_id is not None:
            self._left_out(part, "the Chat Completions dialect takes no file ids for images; pass bytes or a URL")
            return None
        if part.url is not None:
            if "image_url" not in takes:
                self._left_out(part, "this server takes no URLs of images; pass the bytes")
                return None
            url = part.url
        elif "image_data" not in takes:
            self._left_out(part, "this server takes no images")
            return None
        else:
            url = f"data:{self._media_type(part, 'image/png')};base64,{part.base64}"
        image = {"url": url} if part.detail is None else {"url": url, "detail": part.detail}
        return {"type": "image_url", "image_url": image}

    def _media_type(self, part: Image | Document, fallback: str) -> str:
        if part.media_type is None:
            kind = type(part).__name__.lower()
            self._warnings.add("changed", kind, f"its media type is unknown and was sent as {fallback}; set media_type")
        return part.media_type or fallback

    def _audio(self, part: Audio) -> JSON | None:
        form = AUDIO_FORMATS.get((part.media_type or "").lower())
        if part.data is None or "audio_data" not in self._profile.takes:
            self._left_out(part, "this server takes no audio" if part.data else "audio is taken as bytes only")
            return None
        if form is None:
            self._left_out(part, f"audio is taken as audio/wav or audio/mpeg, not {part.media_type}")
            return None
        return {"type": "input_audio", "input_audio": {"data": part.base64, "format": form}}

    def _document(self, part: Document) -> JSON | None:
        takes = self._profile.takes
        if part.file_id is not None and "document_file_id" in takes:
            return {"type": "file", "file": {"file_id": part.file_id}}
        if part.data is not None and (part.media_type or "").startswith("text/"):
            self._warnings.add("emulated", "document", "a text document was sent as a text part, after its name")
            text = part.data.decode("utf-8", "replace")
            return {"type": "text", "text": f"{part.name}\n\n{text}" if part.name else text}
        if part.data is not None and "document_data" in takes:
            media_type = self._media_type(part, "application/pdf")
            data = f"data:{media_type};base64,{part.base64}"
            return {"type": "file", "file": {"filename": part.name or "document.pdf", "file_data": data}}
        self._left_out(part, "this server takes no documents of this kind (bytes, URL or file id); send its text")
        return None

    def _assistant(self, turn: _Turn, wire: list[JSON]) -> None:
        message = turn.message
        value = self._message("assistant", message)
        content: list[JSON] = []
        calls: list[JSON] = []
        answers: list[tuple[str, ToolResult]] = []
        reasoning: list[Reasoning] = []
        for position, part in enumerate(message.parts):
            if isinstance(part, ToolCall):
                call_id = self._call_id(part.id)
                calls.append(_with_options(self._call(part, call_id), part.provider_options, self._provider))
                answers += [(call_id, result) for result in turn.results.get(position, ())]
            elif isinstance(part, Reasoning):
                if self._replays(part):
                    reasoning.append(part)
                else:
                    self._lost_reasoning += 1
            elif isinstance(part, Text) and part.refusal:
                content.append(self._refusal(part))
            elif isinstance(part, (Image, Document)):
                self._left_out(part, "an assistant message takes no media here")
            elif isinstance(part, Audio):
                self._spoken(part, value, content)
            elif isinstance(part, Opaque) and part.provider == self._provider and part.kind.startswith(ANNOTATION):
                value.setdefault("annotations", []).append(dict(part.data))
            elif not isinstance(part, (Citation, ToolResult)) and (item := self._part(part, "assistant", True)):
                content.append(item)
        self._replay(reasoning, value, content)
        value["content"] = _content(content) if content or not (calls or "audio" in value) else None
        if calls:
            value["tool_calls"] = calls
        wire.append(_with_options(value, message.provider_options, self._provider))
        self._answers(answers, wire)

    def _call_id(self, call_id: str) -> str:
        if not call_id:
            self._unnamed += 1
            return f"call{self._unnamed}".ljust(self._profile.call_id_length, "0")[: self._profile.call_id_length]
        if self._id_pattern.fullmatch(call_id):
            return call_id
        if call_id not in self._ids:
            self._ids[call_id] = sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[
                : self._profile.call_id_length
            ]
        return self._ids[call_id]

    def _call(self, part: ToolCall, call_id: str) -> JSON:
        metadata = part.provider_metadata.get(self._provider, {})
        if metadata.get("type") == "custom":
            text = part.arguments.get("input", part.arguments_json)
            return {"id": call_id, "type": "custom", "custom": {"name": part.name, "input": text}}
        function = {"name": part.name, "arguments": part.arguments_json}
        return {"id": call_id, "type": "function", "function": function}

    def _refusal(self, part: Text) -> JSON:
        if "refusals" in self._profile.takes:
            return {"type": "refusal", "refusal": part.text}
        self._warnings.add("changed", "refusal", "this server has no word for refusals; one was sent as plain text")
        return {"type": "text", "text": part.text}

    def _spoken(self, part: Audio, value: JSON, content: list[JSON]) -> None:
        audio_id = part.provider_metadata.get(self._provider, {}).get("id")
        if isinstance(audio_id, str):
            value["audio"] = {"id": audio_id}
        elif part.transcript:
            self._warnings.add("emulated", "audio", "a spoken answer of another provider was sent as its transcript")
            content.append({"type": "text", "text": part.transcript})
        else:
            self._left_out(part, "a spoken answer can be sent back only by its id or its transcript")

    def _replays(self, part: Reasoning) -> bool:
        field = self._profile.reasoning_replay
        if field is None or part.provider != self._provider:
            return False
        return bool(part.text or (field == "reasoning_details" and part.provider_metadata.get(self._provider)))

    def _replay(self, parts: list[Reasoning], value: JSON, content: list[JSON]) -> None:
        field = self._profile.reasoning_replay
        if not parts or field is None:
            return
        if field == "reasoning_details":
            value[field] = [detail for part in parts for detail in _details(part, self._provider)]
        elif field == "thinking":
            content[:0] = [_thinking(part) for part in parts]
        else:
            value[field] = "".join(part.text for part in parts)

    def _answers(self, answers: list[tuple[str, ToolResult]], wire: list[JSON]) -> None:
        media: list[JSON] = []
        for call_id, result in answers:
            found: list[JSON] = []
            texts: list[JSON] = []
            for part in result.parts:
                if isinstance(part, Text):
                    options = part.provider_options
                    texts.append(_with_options({"type": "text", "text": part.text}, options, self._provider))
                elif isinstance(part, Opaque):
                    self._lost_opaque += 1
                elif item := self.media(part):
                    found.append(item)
            if found:
                self._warnings.add(
                    "changed",
                    "tool result",
                    "its media was sent in a user message after it, since a result holds only text",
                )
                media += found
            if not texts:
                texts.append({"type": "text", "text": _MEDIA_FOLLOWS if found else ""})
            if result.is_error:
                self._warnings.add(
                    "changed",
                    "tool result",
                    "the dialect has no mark for a failed tool: its text begins with 'Error: '",
                )
                texts[0] = {**texts[0], "text": f"Error: {texts[0].get('text', '')}"}
            value = {"role": "tool", "tool_call_id": call_id, "content": _content(texts)}
            wire.append(_with_options(value, result.provider_options, self._provider))
        if media:
            wire.append({"role": "user", "content": media})


def _content(items: list[JSON]) -> str | list[JSON]:
    """A plain string where that says it all, since every server takes one."""
    if not items:
        return ""
    if len(items) == 1 and items[0].keys() == {"type", "text"} and items[0]["type"] == "text":
        return str(items[0]["text"])
    return items


def _details(part: Reasoning, provider: str) -> list[JSONValue]:
    kept = part.provider_metadata.get(provider, {}).get("reasoning_details")
    if isinstance(kept, (list, tuple)) and kept:
        return list(kept)
    return [{"type": "reasoning.text", "text": part.text}] if part.text else []


def _thinking(part: Reasoning) -> JSON:
    item: JSON = {"type": "thinking", "thinking": [{"type": "text", "text": part.text}]}
    return {**item, "signature": part.signature} if part.signature else item
