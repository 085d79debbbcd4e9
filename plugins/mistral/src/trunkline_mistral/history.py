"""Translate the conversation into Mistral's messages: its content chunks, and its rules of order.

Tool messages may have any content and include the tool's name. Mistral has these rules:

- each tool call has exactly one result;
- a user message must not follow a tool result, and a system message must not follow an answer or a tool result;
- an assistant message must not be empty;
- an assistant message at the end of the conversation is the beginning of the next answer and is marked `prefix`.

A conversation that breaks a rule is mended, with a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trunkline.authoring.json import with_options
from trunkline.errors import InvalidRequest
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

CONTINUED = "OK."
"""The assistant message inserted between a tool result and a user message."""

NO_RESULT = "The tool gave no result."
"""The result sent for a tool call that has none."""

_DETAILS = ("low", "auto", "high")


class MistralHistory(History):
    """Translates the messages of one request."""

    def translate(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        """Return the wire messages. Raises `InvalidRequest` for a conversation that cannot be sent."""
        wire: list[dict[str, Any]] = []
        for message in super().translate(messages):
            self._append(message, wire)
        if not wire:
            raise InvalidRequest(
                "the conversation is empty after empty assistant messages were left out; add a user message"
            )
        last = wire[-1]
        if last["role"] == "assistant":
            last.setdefault("prefix", True)
        return wire

    def _append(self, message: dict[str, Any], wire: list[dict[str, Any]]) -> None:
        role = message["role"]
        before = wire[-1]["role"] if wire else None
        if role == "assistant" and not message.get("tool_calls") and not _is_filled(message.get("content")):
            self.warnings.add(
                "left_out", "assistant message", "Mistral refuses empty assistant messages; left out", lossy=False
            )
            return
        if role == "assistant" and message.get("content") is None:
            message = {**message, "content": ""}
        if role == "system" and before in ("assistant", "tool"):
            self.warnings.add(
                "changed",
                "system message",
                "Mistral accepts none after an answer or a tool result; it was sent as a user message",
                lossy=False,
            )
            role, message = "user", {**message, "role": "user"}
        if role == "user" and before == "tool":
            self.warnings.add(
                "changed",
                "message order",
                f"Mistral accepts no user message after a tool result; the answer {CONTINUED!r} was inserted",
                lossy=False,
            )
            wire.append({"role": "assistant", "content": CONTINUED})
        wire.append(message)

    def part(self, part: Part, role: str, only_text: bool) -> dict[str, Any] | None:
        """Return a part as a content chunk, or add a warning and return `None`."""
        if isinstance(part, Citation):
            ids = part.provider_metadata.get(self.provider, {}).get("reference_ids")
            return {"type": "reference", "reference_ids": ids} if role == "assistant" and ids else None
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

    def replays(self, part: Reasoning) -> bool:
        """Return whether reasoning is sent back: only Mistral's own, and only if it is not empty."""
        kept = part.provider_metadata.get(self.provider, {}).get("thinking")
        return part.provider == self.provider and bool(part.text or part.signature or kept)

    def thinking(self, part: Reasoning) -> dict[str, Any]:
        """Return reasoning in the form in which it arrived."""
        metadata = part.provider_metadata.get(self.provider, {})
        item: dict[str, Any] = {"type": "thinking"}
        item["thinking"] = metadata.get("thinking") or ([{"type": "text", "text": part.text}] if part.text else [])
        if part.signature:
            item["signature"] = part.signature
        if metadata.get("closed") is False:
            item["closed"] = False
        return with_options(item, part.provider_options, self.provider)

    def tool_results(self, answered: list[AnsweredCall], wire: list[dict[str, Any]]) -> None:
        """Append exactly one result for each tool call of a message."""
        for call, call_id, results in answered:
            value: dict[str, Any] = {"role": "tool", "tool_call_id": call_id, "name": call.name, "content": NO_RESULT}
            if not results:
                self.warnings.add(
                    "changed",
                    "tool call",
                    f"the call to {call.name!r} has no result; {NO_RESULT!r} was sent",
                    lossy=False,
                )
            elif len(results) > 1:
                self.warnings.add(
                    "changed",
                    "tool result",
                    f"Mistral accepts one result per call; {len(results)} of {call.name!r} were sent as one",
                    lossy=False,
                )
            if results:
                value["content"] = content_of([item for result in results for item in self._result(result)])
            for result in results:
                value = with_options(value, result.provider_options, self.provider)
            wire.append(value)

    def _result(self, result: ToolResult) -> list[dict[str, Any]]:
        items = [item for part in result.parts if (item := self._result_part(part)) is not None]
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


def _is_filled(content: object) -> bool:
    """Return whether content has a non-empty text, or a chunk of another kind."""
    if isinstance(content, list):
        return any(item.get("type") != "text" or item.get("text") for item in content)
    return bool(content)
