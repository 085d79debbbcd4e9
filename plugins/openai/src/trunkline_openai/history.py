"""A request's messages, as Chat Completions takes them. Pure.

The API has one string or list of parts for a message's content; reasoning, tool calls, audio and annotations of a
response are separate fields. Each tool result is a message, which must follow the message with its call.

`trunkline.authoring.replay` first changes the conversation to follow the rules of the server's profile. This module
renders the result. It also adds placeholders for models that refuse a tool call without their own reasoning
(`Profile.reasoning_filler`) or without their own signature (`Profile.signed_calls`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from trunkline.authoring.json import JSONValue, as_object, with_options
from trunkline.authoring.provider import MediaClass
from trunkline.authoring.replay import ReplayRules, Turn, left_out_note, replay
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

from trunkline_openai.caching import marked
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

SKIP_SIGNATURE = "skip_thought_signature_validator"
"""The signature for calls that Gemini did not make: ai.google.dev/gemini-api/docs/thought-signatures, 2026-11."""


class AnsweredCall(NamedTuple):
    """A tool call of the history, and its result."""

    call: ToolCall
    result: ToolResult


class History:
    """Translates the messages of one request. A variant of the API overrides the methods with public names.

    `family` is the family of the requested model (`trunkline.authoring.provider.Translation.family`).
    """

    def __init__(
        self, *, provider: str, profile: Profile, system_role: str, warnings: Warnings, family: str | None = None
    ) -> None:
        self.provider = provider
        self.profile = profile
        self.family = family
        self._system_role = system_role
        self.warnings = warnings

    def rules(self) -> ReplayRules:
        """The rules of the server and the model for the conversation history."""
        profile = self.profile
        return ReplayRules(
            provider=self.provider,
            family=self.family,
            reasoning="never" if profile.reasoning_replay is None else "own",
            # Whether the details are signed depends on the model behind the gateway.
            unknown_family=profile.reasoning_replay == "reasoning_details",
            call_ids=profile.call_id_pattern,
            new_id_prefix="call_" if profile.call_id_length >= _LONG_ID else "",
            new_id_length=profile.call_id_length,
            blank_text=profile.blank_text,
            result_media=(),
            readable_media=_readable(profile),
            system=profile.system_messages,
            # Chat templates accept one system message: Qwen3.5's raises "System message must be at the beginning.",
            # if a second one follows the first (joshuadavidthomas/opencode-agent-memory#11, April 2026).
            one_system=profile.system_messages == "first",
            starts_with_user=profile.alternates or profile.starts_with_user,
            user_after_results=profile.user_after_results and not profile.alternates,
            alternates=profile.alternates,
        )

    def translate(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        """The messages to send. Raises `InvalidRequest` for a conversation that no provider could accept."""
        wire: list[dict[str, Any]] = []
        for turn in replay(messages, self.rules(), self.warnings):
            message = turn.message
            if message.role == "assistant":
                self._assistant(turn, wire)
            elif message.role == "system":
                self._simple(message, self._system_role, wire)
            elif message.role == "user":
                self._simple(message, "user", wire)
        if not wire:
            raise InvalidRequest("no part of the conversation can be sent; add a user message with content")
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
        content = [item for part in message.parts if (item := self.part(part, message.role, only_text)) is not None]
        if not content and role == "user" and (note := left_out_note(message.parts)):
            content = [{"type": "text", "text": note}]
        value = {**self._message(role, message), "content": content_of(content)}
        wire.append(with_options(value, message.provider_options, self.provider))

    def part(self, part: Part, role: str, only_text: bool) -> dict[str, Any] | None:
        """A part of a message as an item of its content, or `None`, with a warning."""
        if isinstance(part, Text):
            text = with_options({"type": "text", "text": part.text}, part.provider_options, self.provider)
            return self._cached(text, part)
        if isinstance(part, (Image, Document, Audio)):
            item = None if only_text else self.media(part)
            if role == "tool" and only_text:
                self.left_out(part, "this server does not accept it")
            elif only_text:
                self.left_out(part, f"a {role} message can contain only text here")
            if item is None:
                return None
            return self._cached(with_options(item, part.provider_options, self.provider), part)
        if isinstance(part, Opaque):
            return dict(part.data)
        return None

    def _cached(self, item: dict[str, Any], part: Part) -> dict[str, Any]:
        """The item of a part with a mark for its cache breakpoint, if the server has breakpoints."""
        return marked(item, part) if self.profile.takes & {"cache_breakpoints", "cache_control"} else item

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
            text = decoded_text(part.data, self.warnings)
            return {"type": "text", "text": f"{part.name}\n\n{text}" if part.name else text}
        if part.data is not None and "document_data" in takes:
            media_type = self.media_type(part, "application/pdf")
            data = f"data:{media_type};base64,{part.base64}"
            return {"type": "file", "file": {"filename": part.name or "document.pdf", "file_data": data}}
        self.left_out(part, "this server does not accept this document (as bytes, URL or file id); send its text")
        return None

    def _assistant(self, turn: Turn, wire: list[dict[str, Any]]) -> None:
        message = turn.message
        value = self._message("assistant", message)
        content: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        reasoning: list[Reasoning] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                calls.append(with_options(self._call(part), part.provider_options, self.provider))
            elif isinstance(part, Reasoning):
                if self.profile.reasoning_replay == "thinking":
                    if part.text or part.signature or part.provider_metadata.get(self.provider):
                        content.append(self.thinking(part))
                else:
                    reasoning.append(part)
            elif isinstance(part, Text) and part.refusal:
                content.append(self._refusal(part))
            elif isinstance(part, Audio):
                self._spoken(part, value, content)
            elif isinstance(part, Opaque) and part.kind.startswith(ANNOTATION):
                value.setdefault("annotations", []).append(dict(part.data))
            elif isinstance(part, Opaque) and not self.profile.other_content:
                why = f"a part of kind {part.kind!r} is for another API of this provider; left out"
                self.warnings.mended("opaque part", why)
            elif item := self.part(part, "assistant", True):
                content.append(item)
            if isinstance(part, Text):
                kept = part.provider_metadata.get(self.provider, {})
                value |= {key: kept[key] for key in SENT_BACK & kept.keys()}
        self._replay(reasoning, value)
        no_content = None if self.profile.null_content else ""
        value["content"] = content_of(content) if content or not (calls or "audio" in value) else no_content
        if calls:
            value["tool_calls"] = calls
            self._required_with_calls(value)
        wire.append(with_options(value, message.provider_options, self.provider))
        self.tool_results(list(map(AnsweredCall, message.tool_calls, turn.results)), wire)

    def _call(self, part: ToolCall) -> dict[str, Any]:
        # Unknown fields of a call are sent back to the server that sent them: see `trunkline_openai.tool_calls`.
        kept = dict(part.provider_metadata.get(self.provider, {}))
        if "id" in kept:  # the item id of the Responses API; Chat Completions refuses the item's other fields
            kept = {"type": "custom"} if kept.get("type") == "custom" else {}
        kind, more = kept.pop("type", "function"), as_object(kept.pop("function", None))
        if kind == "custom":
            text = part.arguments.get("input", part.arguments_json)
            return {"id": part.id, "type": "custom", "custom": {"name": part.name, "input": text, **more}, **kept}
        function = {"name": part.name, "arguments": part.arguments_json, **more}
        return {"id": part.id, "type": kind, "function": function, **kept}

    def _required_with_calls(self, value: dict[str, Any]) -> None:
        """Add the fields that the model requires in a message with tool calls, if they are missing."""
        field, filler = self.profile.reasoning_replay, self.profile.reasoning_filler
        if filler is not None and field is not None and not value.get(field):
            value[field] = filler
            why = "this model requires reasoning in a message with tool calls; blank reasoning was sent"
            self.warnings.mended("reasoning", why)
        if self.profile.signed_calls and not _is_signed(value, field):
            first = value["tool_calls"][0]
            if field == "reasoning_details":
                kind = {"type": "reasoning.encrypted", "format": "google-gemini-v1", "index": 0}
                value[field] = [*value.get(field, ()), {**kind, "id": first["id"], "data": SKIP_SIGNATURE}]
            else:
                first["extra_content"] = {"google": {"thought_signature": SKIP_SIGNATURE}}
            why = "this model requires a signature on each call; a placeholder that skips verification was sent"
            self.warnings.mended("tool call", why)

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

    def thinking(self, part: Reasoning) -> dict[str, Any]:
        """Reasoning as an item of the content, for servers that expect it there."""
        item: dict[str, Any] = {"type": "thinking", "thinking": [{"type": "text", "text": part.text}]}
        return {**item, "signature": part.signature} if part.signature else item

    def _replay(self, parts: list[Reasoning], value: dict[str, Any]) -> None:
        field = self.profile.reasoning_replay
        if field is None:
            return
        if field == "reasoning_details":
            sent: object = [detail for part in parts for detail in _details(part, self.provider)]
        else:
            sent = "".join(part.text for part in parts)
        if sent:
            value[field] = sent

    def tool_results(self, answered: list[AnsweredCall], wire: list[dict[str, Any]]) -> None:
        """Append the results of the tool calls of one message."""
        for call, result in answered:
            texts = [item for part in result.parts if (item := self.part(part, "tool", True)) is not None]
            texts = texts or [{"type": "text", "text": left_out_note(result.parts)}]
            if result.is_error:
                self.warnings.add(
                    "changed",
                    "tool result",
                    "Chat Completions cannot mark a result as failed, so its text was prefixed with 'Error: '",
                    lossy=False,
                )
                texts[0] = {**texts[0], "text": f"Error: {texts[0].get('text', '')}"}
            texts[-1] = self._cached(texts[-1], result)
            value = {"role": "tool", "tool_call_id": call.id, "content": content_of(texts)}
            wire.append(with_options(value, result.provider_options, self.provider))


_LONG_ID = 16
"""The shortest length, in characters, at which a replacement id gets a prefix."""


def decoded_text(data: bytes, warnings: Warnings) -> str:
    """The text of a document. Invalid bytes are replaced, with a warning."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        warnings.add("changed", "document", "it is not valid UTF-8; invalid bytes were replaced", lossy=True)
        return data.decode("utf-8", "replace")


def _readable(profile: Profile) -> tuple[MediaClass, ...]:
    images: tuple[MediaClass, ...] = (Image,) if profile.takes & {"image_url", "image_data"} else ()
    return (*images, Document, Audio) if "audio_data" in profile.takes else (*images, Document)


def _is_signed(value: dict[str, Any], field: str | None) -> bool:
    if field == "reasoning_details":
        return any(as_object(item).get("data") for item in value.get(field, ()))
    extra = as_object(value["tool_calls"][0].get("extra_content"))
    return bool(as_object(extra.get("google")).get("thought_signature"))


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
