"""A request's messages, as Chat Completions takes them. Pure.

The API has one string or list of parts for a message's content; reasoning, tool calls, audio and annotations of a
response are separate fields. Each tool result is a message, which must follow the message with its call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

from trunkline.authoring.json import JSONValue, as_object, with_options
from trunkline.authoring.tool_results import Turn, pair_turns
from trunkline.authoring.warnings import Warnings
from trunkline.errors import InvalidRequest
from trunkline.messages import (
    Audio,
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

from trunkline_openai.profile import Profile
from trunkline_openai.response_parts import ANNOTATION, SENT_BACK

AUDIO_FORMATS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}
"""The media types that `input_audio` accepts, and its names for them."""

_MEDIA_FOLLOWS = "The result follows in the next message."


class AnsweredCall(NamedTuple):
    """A tool call of the history, its id as sent, and its results: one, unless the history is incomplete."""

    call: ToolCall
    call_id: str
    results: tuple[ToolResult, ...]


class History:
    """Translates the messages of one request. A variant of the API overrides the methods with public names."""

    def __init__(self, *, provider: str, profile: Profile, system_role: str, warnings: Warnings) -> None:
        self.provider = provider
        self.profile = profile
        self._system_role = system_role
        self.warnings = warnings
        self._ids: dict[str, str] = {}
        self._id_pattern = re.compile(profile.call_id_pattern)
        self._unnamed = 0

    def translate(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        """The messages to send. Raises `InvalidRequest` for a conversation that no provider could accept."""
        wire: list[dict[str, Any]] = []
        for turn in pair_turns(messages, self.warnings):
            message = turn.message
            if message.role == "assistant":
                self._assistant(turn, wire)
            elif message.role == "system":
                self._simple(message, self._system_role, wire)
            elif message.role == "user":
                self._simple(message, "user", wire)
        return wire

    def _message(self, role: str, message: Message) -> dict[str, Any]:
        wire: dict[str, Any] = {"role": role}
        if message.name is not None:
            if "names" in self.profile.takes:
                wire["name"] = message.name
            else:
                self.warnings.add(
                    "left_out",
                    "message name",
                    "names of participants are not supported by this server; ignored",
                    lossy=True,
                )
        return wire

    def _simple(self, message: Message, role: str, wire: list[dict[str, Any]]) -> None:
        only_text = message.role == "system"
        content = [
            item
            for part in message.parts
            if not isinstance(part, ToolResult) and (item := self.part(part, message.role, only_text)) is not None
        ]
        if not content and any(isinstance(part, ToolResult) for part in message.parts):
            return
        value = {**self._message(role, message), "content": content_of(content)}
        wire.append(with_options(value, message.provider_options, self.provider))

    def part(self, part: Part, role: str, only_text: bool) -> dict[str, Any] | None:
        """A part of a message as an item of its content, or `None`, with a warning."""
        if isinstance(part, Text):
            return with_options({"type": "text", "text": part.text}, part.provider_options, self.provider)
        if isinstance(part, (Image, Document, Audio)):
            item = None if only_text else self.media(part)
            if only_text:
                self.left_out(part, f"a {role} message can contain only text here")
            return with_options(item, part.provider_options, self.provider) if item is not None else None
        if isinstance(part, Opaque):
            if part.provider == self.provider and not part.kind.startswith(ANNOTATION):
                return dict(part.data)
            self._lose_opaque(part, lossy=role != "assistant")
        elif isinstance(part, Reasoning):
            self.left_out(part, f"a {role} message cannot contain reasoning")
        elif isinstance(part, ToolCall):
            raise InvalidRequest(f"a {role} message cannot contain a tool call; only an assistant message can")
        return None

    def _lose_opaque(self, part: Opaque, *, lossy: bool) -> None:
        why = f"only {part.provider} understands it; not sent"
        self.warnings.add("left_out", "opaque part", why, lossy=lossy)

    def left_out(self, part: Part, why: str) -> None:
        """Warn that a part was not sent."""
        self.warnings.add("left_out", type(part).__name__.lower(), why, lossy=True)

    def media(self, part: Image | Document | Audio) -> dict[str, Any] | None:
        """An image, document or audio as an item of the content, or `None`, with a warning."""
        if isinstance(part, Image):
            return self.image(part)
        return self.audio(part) if isinstance(part, Audio) else self.document(part)

    def image(self, part: Image) -> dict[str, Any] | None:
        """An image as an item of the content, or `None`, with a warning."""
        takes = self.profile.takes
        if part.file_id is not None:
            self.left_out(part, "Chat Completions does not accept file ids for images; pass bytes or a URL")
            return None
        if part.url is not None:
            if "image_url" not in takes:
                self.left_out(part, "this server does not accept URLs of images; pass the bytes")
                return None
            url = part.url
        elif "image_data" not in takes:
            self.left_out(part, "this server does not accept images")
            return None
        else:
            url = f"data:{self.media_type(part, 'image/png')};base64,{part.base64}"
        image = {"url": url} if part.detail is None else {"url": url, "detail": part.detail}
        return {"type": "image_url", "image_url": image}

    def media_type(self, part: Image | Document, fallback: str) -> str:
        """The media type, or `fallback` with a warning if it is unknown."""
        if part.media_type is None:
            kind = type(part).__name__.lower()
            self.warnings.add(
                "changed", kind, f"its media type is unknown, so it was sent as {fallback}; set media_type", lossy=False
            )
        return part.media_type or fallback

    def audio(self, part: Audio) -> dict[str, Any] | None:
        """Audio as an item of the content, or `None`, with a warning."""
        form = AUDIO_FORMATS.get((part.media_type or "").lower())
        if part.data is None or "audio_data" not in self.profile.takes:
            self.left_out(part, "this server does not accept audio" if part.data else "audio must be bytes")
            return None
        if form is None:
            self.left_out(part, f"audio must be audio/wav or audio/mpeg, not {part.media_type}")
            return None
        return {"type": "input_audio", "input_audio": {"data": part.base64, "format": form}}

    def document(self, part: Document) -> dict[str, Any] | None:
        """A document as an item of the content, or `None`, with a warning."""
        takes = self.profile.takes
        if part.file_id is not None and "document_file_id" in takes:
            return {"type": "file", "file": {"file_id": part.file_id}}
        if part.data is not None and (part.media_type or "").startswith("text/"):
            self.warnings.add(
                "emulated", "document", "a text document was sent as text, preceded by its name", lossy=False
            )
            text = self._decoded(part.data)
            return {"type": "text", "text": f"{part.name}\n\n{text}" if part.name else text}
        if part.data is not None and "document_data" in takes:
            media_type = self.media_type(part, "application/pdf")
            data = f"data:{media_type};base64,{part.base64}"
            return {"type": "file", "file": {"filename": part.name or "document.pdf", "file_data": data}}
        self.left_out(part, "this server does not accept this document (as bytes, URL or file id); send its text")
        return None

    def _decoded(self, data: bytes) -> str:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            self.warnings.add("changed", "document", "it is not valid UTF-8; invalid bytes were replaced", lossy=True)
            return data.decode("utf-8", "replace")

    def _assistant(self, turn: Turn, wire: list[dict[str, Any]]) -> None:
        message = turn.message
        value = self._message("assistant", message)
        content: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        answered: list[AnsweredCall] = []
        reasoning: list[Reasoning] = []
        for position, part in enumerate(message.parts):
            if isinstance(part, ToolCall):
                call_id = self._call_id(part.id)
                calls.append(with_options(self._call(part, call_id), part.provider_options, self.provider))
                answered.append(AnsweredCall(part, call_id, tuple(turn.results.get(position, ()))))
            elif isinstance(part, Reasoning):
                if not self.replays(part):
                    why = "another provider made it, or this one does not accept it back"
                    text = f"reasoning of the history was not sent: {why}"
                    self.warnings.add("left_out", "reasoning", text, lossy=False)
                elif self.profile.reasoning_replay == "thinking":
                    content.append(self.thinking(part))
                else:
                    reasoning.append(part)
            elif isinstance(part, Text) and part.refusal:
                content.append(self._refusal(part))
            elif isinstance(part, (Image, Document)):
                self.left_out(part, "an assistant message cannot contain media here")
            elif isinstance(part, Audio):
                self._spoken(part, value, content)
            elif isinstance(part, Opaque) and part.provider == self.provider and part.kind.startswith(ANNOTATION):
                value.setdefault("annotations", []).append(dict(part.data))
            elif not isinstance(part, ToolResult) and (item := self.part(part, "assistant", True)):
                content.append(item)
            if isinstance(part, Text):
                kept = part.provider_metadata.get(self.provider, {})
                value |= {key: kept[key] for key in SENT_BACK & kept.keys()}
        self._replay(reasoning, value)
        value["content"] = content_of(content) if content or not (calls or "audio" in value) else None
        if calls:
            value["tool_calls"] = calls
        wire.append(with_options(value, message.provider_options, self.provider))
        self.tool_results(answered, wire)

    def _call_id(self, call_id: str) -> str:
        if not call_id:
            self._unnamed += 1
            return f"call{self._unnamed:0{max(self.profile.call_id_length - 4, 1)}}"
        if self._id_pattern.fullmatch(call_id):
            return call_id
        if call_id not in self._ids:
            self._ids[call_id] = sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[
                : self.profile.call_id_length
            ]
        return self._ids[call_id]

    def _call(self, part: ToolCall, call_id: str) -> dict[str, Any]:
        # Unknown fields of a call go back to the server that sent them: see `trunkline_openai.tool_calls`.
        kept = dict(part.provider_metadata.get(self.provider, {}))
        kind, more = kept.pop("type", "function"), as_object(kept.pop("function", None))
        if kind == "custom":
            text = part.arguments.get("input", part.arguments_json)
            return {"id": call_id, "type": "custom", "custom": {"name": part.name, "input": text, **more}, **kept}
        function = {"name": part.name, "arguments": part.arguments_json, **more}
        return {"id": call_id, "type": kind, "function": function, **kept}

    def _refusal(self, part: Text) -> dict[str, Any]:
        if "refusals" in self.profile.takes:
            return {"type": "refusal", "refusal": part.text}
        self.warnings.add(
            "changed", "refusal", "this server does not support refusals; a refusal was sent as plain text", lossy=False
        )
        return {"type": "text", "text": part.text}

    def _spoken(self, part: Audio, value: dict[str, Any], content: list[dict[str, Any]]) -> None:
        audio_id = part.provider_metadata.get(self.provider, {}).get("id")
        if isinstance(audio_id, str):
            value["audio"] = {"id": audio_id}
        elif part.transcript:
            self.warnings.add(
                "emulated", "audio", "a spoken answer from another provider was sent as its transcript", lossy=False
            )
            content.append({"type": "text", "text": part.transcript})
        else:
            self.left_out(part, "a spoken answer can be sent back only by its id or as its transcript")

    def replays(self, part: Reasoning) -> bool:
        """Whether to send reasoning back: only to the provider that made it, if it accepts it."""
        field = self.profile.reasoning_replay
        if field is None or part.provider != self.provider:
            return False
        return bool(part.text or (field == "reasoning_details" and part.provider_metadata.get(self.provider)))

    def thinking(self, part: Reasoning) -> dict[str, Any]:
        """Reasoning as an item of the content, for servers that expect it there."""
        item: dict[str, Any] = {"type": "thinking", "thinking": [{"type": "text", "text": part.text}]}
        return {**item, "signature": part.signature} if part.signature else item

    def _replay(self, parts: list[Reasoning], value: dict[str, Any]) -> None:
        field = self.profile.reasoning_replay
        if not parts or field is None:
            return
        if field == "reasoning_details":
            value[field] = [detail for part in parts for detail in _details(part, self.provider)]
        else:
            value[field] = "".join(part.text for part in parts)

    def tool_results(self, answered: list[AnsweredCall], wire: list[dict[str, Any]]) -> None:
        """Append the results of the tool calls of one message."""
        media: list[dict[str, Any]] = []
        for call_id, result in [(call.call_id, result) for call in answered for result in call.results]:
            found: list[dict[str, Any]] = []
            texts: list[dict[str, Any]] = []
            for part in result.parts:
                if isinstance(part, Text):
                    options = part.provider_options
                    texts.append(with_options({"type": "text", "text": part.text}, options, self.provider))
                elif isinstance(part, Opaque):
                    self._lose_opaque(part, lossy=True)
                elif item := self.media(part):
                    found.append(item)
            if found:
                self.warnings.add(
                    "changed",
                    "tool result",
                    "its media was sent in a user message after it, because a result can contain only text",
                    lossy=False,
                )
                media += found
            if not texts:
                texts.append({"type": "text", "text": _MEDIA_FOLLOWS if found else ""})
            if result.is_error:
                self.warnings.add(
                    "changed",
                    "tool result",
                    "Chat Completions cannot mark a result as failed, so its text was prefixed with 'Error: '",
                    lossy=False,
                )
                texts[0] = {**texts[0], "text": f"Error: {texts[0].get('text', '')}"}
            value = {"role": "tool", "tool_call_id": call_id, "content": content_of(texts)}
            wire.append(with_options(value, result.provider_options, self.provider))
        if media:
            wire.append({"role": "user", "content": media})


def content_of(items: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """The content as a plain string if possible, because every server accepts one."""
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
