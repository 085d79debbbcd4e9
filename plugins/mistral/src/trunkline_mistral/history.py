"""Translate the conversation into Mistral's messages: its content chunks, and its rules of order.

Tool messages may have any content and include the tool's name. Mistral has these rules:

- each tool call has exactly one result;
- a user message must not follow a tool result, and a system message must not follow an answer or a tool result;
- an assistant message must not be empty, and must not come first;
- an assistant message at the end of the conversation is the beginning of the next answer and is marked `prefix`.

A conversation that breaks a rule is mended, with a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
from trunkline.authoring.json import with_options
from trunkline.authoring.replay import ReplayRules, left_out_note
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
    ToolResult,
)
from trunkline_openai.history import AnsweredCall, History, content_of

_DETAILS = ("low", "auto", "high")


class MistralHistory(History):
    """Translates the messages of one request."""

    def rules(self) -> ReplayRules:
        """Return the rules for the histories that Mistral accepts."""
        return attrs.evolve(
            super().rules(),
            # Stored reasoning without a family is sent back, signed or not, since Mistral's models make both kinds.
            unknown_family=True,
            blank_text=False,
            result_media=(Image, Document, Audio),
            readable_media=(Image, Document, Audio) if "image_data" in self.profile.takes else (Document, Audio),
            system="not_after_answer",
            user_after_results=False,
            # mistral-common's validator overlooks the calls of the first message, and so refuses their results.
            starts_with_user=True,
        )

    def translate(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        """Return the wire messages. Raises `InvalidRequest` for a conversation that cannot be sent."""
        wire = super().translate(messages)
        last = wire[-1]
        if last["role"] == "assistant" and not last.get("tool_calls"):
            last.setdefault("prefix", True)
        return wire

    def part(self, part: Part, role: str, only_text: bool) -> dict[str, Any] | None:
        """Return a part as a content chunk, or add a warning and return `None`."""
        if isinstance(part, Citation):
            fields = part.provider_metadata.get(self.provider, {})
            return {**fields, "type": "reference"} if role == "assistant" and fields.get("reference_ids") else None
        return super().part(part, role, only_text)

    def image(self, part: Image) -> dict[str, Any] | None:
        """Return an image by its bytes, its URL, or the id of an uploaded file."""
        if part.file_id is not None:
            return {"type": "file", "file_id": part.file_id}
        item = super().image(part)
        if item is not None and part.detail is not None and part.detail not in _DETAILS:
            del item["image_url"]["detail"]
            self.warnings.add(
                "unsupported",
                "image detail",
                f"Mistral accepts low, auto and high; {part.detail!r} was ignored",
                lossy=True,
            )
        return item

    def document(self, part: Document) -> dict[str, Any] | None:
        """Return a document by its bytes, its URL, or the id of an uploaded file; plain text as a text chunk."""
        if part.file_id is not None:
            return {"type": "file", "file_id": part.file_id}
        url = part.url
        if url is None:
            if (part.media_type or "").startswith("text/"):
                return super().document(part)
            url = f"data:{self.media_type(part, 'application/pdf')};base64,{part.base64}"
        item: dict[str, Any] = {"type": "document_url", "document_url": url}
        return item if part.name is None else {**item, "document_name": part.name}

    def audio(self, part: Audio) -> dict[str, Any] | None:
        """Return audio as a plain string, which is base64 or a URL, or by the id of an uploaded file."""
        if part.file_id is not None:
            return {"type": "file", "file_id": part.file_id}
        return {"type": "input_audio", "input_audio": part.url if part.url is not None else part.base64}

    def thinking(self, part: Reasoning) -> dict[str, Any]:
        """Return reasoning in the form in which it arrived."""
        metadata = part.provider_metadata.get(self.provider, {})
        item: dict[str, Any] = {**metadata, "type": "thinking"}
        item["thinking"] = metadata.get("thinking") or ([{"type": "text", "text": part.text}] if part.text else [])
        if part.signature:
            item["signature"] = part.signature
        return with_options(item, part.provider_options, self.provider)

    def tool_results(self, answered: list[AnsweredCall], wire: list[dict[str, Any]]) -> None:
        """Append the results of a message's tool calls."""
        for call, result in answered:
            value: dict[str, Any] = {"role": "tool", "tool_call_id": call.id, "name": call.name}
            value["content"] = content_of(self._result(result))
            wire.append(with_options(value, result.provider_options, self.provider))

    def _result(self, result: ToolResult) -> list[dict[str, Any]]:
        items = [item for part in result.parts if (item := self._result_part(part)) is not None]
        if not items and (note := left_out_note(result.parts)):
            items.append({"type": "text", "text": note})
        if result.is_error:
            self.warnings.add(
                "changed",
                "tool result",
                "Mistral cannot mark a tool result as failed; its text was prefixed with 'Error: '",
                lossy=False,
            )
            if items and items[0].get("type") == "text":
                items[0] = {**items[0], "text": f"Error: {items[0].get('text', '')}"}
            else:
                items.insert(0, {"type": "text", "text": "Error: "})
        return items

    def _result_part(self, part: Text | Image | Document | Audio | Opaque) -> dict[str, Any] | None:
        return self.part(part, "tool", False)
