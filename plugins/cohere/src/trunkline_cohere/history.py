"""Translate the conversation into Cohere's v2 messages, with documents apart and tool results after their calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trunkline.authoring.json import with_options
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

from trunkline_cohere.citations import wire_citations
from trunkline_cohere.content import Blocks, content

TOOL_PLAN = "tool_plan"
"""The wire field of a tool plan, and the mark in a `Reasoning`'s metadata that it came as one."""

_ERROR = "Error: "


def rules(provider: str, *, takes_images: bool) -> ReplayRules:
    """Return the rules for the histories that Cohere's API accepts."""
    return ReplayRules(
        provider=provider,
        # All of Cohere's models may read each other's thinking, since thinking is plain text
        # (docs.cohere.com/docs/reasoning).
        reasoning="own",
        # Cohere documents no pattern for ids, but citations name their sources with these ids, as `id:0`.
        call_ids=r"[A-Za-z0-9_.:-]{1,128}",
        # "message must be at least 1 token long": kwaroran/Risuai issue 504 (June 2024).
        blank_text=False,
        # In cohere 7.3.1, a tool message may contain text and documents. For audio, the transcript is sent.
        result_media=(Document, Audio),
        readable_media=(Document, Audio, Image) if takes_images else (Document, Audio),
    )


class History:
    """Translates the messages of one request. `documents` collects the documents, which are sent in a separate field.

    If `takes_documents` is false, documents are sent as text in the messages instead. If `takes_images` is false, the
    model cannot read images.
    """

    def __init__(
        self, *, provider: str, warnings: Warnings, takes_documents: bool = True, takes_images: bool = True
    ) -> None:
        self.documents: list[dict[str, Any]] = []
        self._provider = provider
        self._warnings = warnings
        self._takes_documents = takes_documents
        self._takes_images = takes_images
        self._blocks = Blocks(provider=provider, warnings=warnings, takes_images=takes_images)

    def translate(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        """Return the wire messages. Raises `InvalidRequest` for a conversation that can never be sent."""
        wire: list[dict[str, Any]] = []
        for turn in replay(messages, rules(self._provider, takes_images=self._takes_images), self._warnings):
            if turn.message.role == "assistant":
                self._assistant(turn, wire)
            else:
                self._simple(turn.message, wire)
        if not wire:
            raise InvalidRequest(
                "no message of the conversation can be sent to Cohere: it needs at least one with text or an image, "
                "besides any documents"
            )
        return wire

    def _message(self, message: Message) -> dict[str, Any]:
        if message.name is not None:
            self._warnings.add("left_out", "message name", "not supported by Cohere; ignored", lossy=True)
        return {"role": message.role}

    # System and user messages

    def _simple(self, message: Message, wire: list[dict[str, Any]]) -> None:
        documents = len(self.documents)
        blocks = [block for part in message.parts if (block := self._block(part, message.role)) is not None]
        if not blocks and not message.parts:
            self._warnings.mended("message", f"a {message.role} message without content was left out")
        # A result says that its media follow.
        follows_result = bool(wire) and wire[-1]["role"] == "tool" and message.role == "user"
        if follows_result and not blocks and len(self.documents) == documents:
            blocks = [{"type": "text", "text": note}] if (note := left_out_note(message.parts)) else []
        # If nothing remains (only documents, say), no message is sent.
        if blocks:
            value = {**self._message(message), "content": content(blocks)}
            wire.append(with_options(value, message.provider_options, self._provider))

    def _block(self, part: Part, role: str) -> dict[str, Any] | None:
        if isinstance(part, Text):
            return self._blocks.text(part)
        if isinstance(part, Document):
            return self._document(part)
        if isinstance(part, Opaque):
            return dict(part.data)
        if isinstance(part, Audio):
            return self._blocks.audio(part, by_model=role == "assistant")
        if isinstance(part, Image):
            if role == "user" or not self._takes_images:
                return self._blocks.image(part)
            self._blocks.refuse(part, f"{role} messages")
        return None

    def _document(self, part: Document) -> dict[str, Any] | None:
        if not self._takes_documents:
            return self._blocks.inline(part)
        document = self._blocks.document(part)
        if document is not None:
            self.documents.append(document)
        return None

    # Assistant messages and the results of their tool calls

    def _assistant(self, turn: Turn, wire: list[dict[str, Any]]) -> None:
        message = turn.message
        blocks: list[dict[str, Any]] = []
        plans: list[str] = []
        calls: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                calls.append(self._call(part))
            elif isinstance(part, Reasoning):
                self._reasoning(part, blocks, plans)
            elif (block := self._block(part, "assistant")) is not None:
                blocks.append(block)
        value = self._message(message)
        if blocks:
            value["content"] = content(blocks)
        if calls:
            value["tool_calls"] = calls
        if plans and calls:
            value[TOOL_PLAN] = "".join(plans)
        elif plans:
            self._lose_reasoning("it is a tool plan without its tool calls")
        citations = wire_citations(message.parts, self._provider)
        if citations:
            value["citations"] = citations
        value = with_options(value, message.provider_options, self._provider)
        if not value.get("content") and not value.get("tool_calls"):
            reason = "Cohere refuses assistant messages without text or tool calls; left out"
            self._warnings.mended("assistant message", reason)
            return
        wire.append(value)
        wire += [self._result(result) for result in turn.results]

    def _reasoning(self, part: Reasoning, blocks: list[dict[str, Any]], plans: list[str]) -> None:
        kept = part.provider_metadata.get(self._provider, {})
        if not part.text:
            self._lose_reasoning("its text is empty")
        elif kept.get("type") == TOOL_PLAN:
            plans.append(part.text)
        else:
            block = {**kept, "type": "thinking", "thinking": part.text}
            blocks.append(with_options(block, part.provider_options, self._provider))

    def _lose_reasoning(self, why: str) -> None:
        self._warnings.mended("reasoning", f"reasoning in the history was left out: {why}")

    def _call(self, part: ToolCall) -> dict[str, Any]:
        kept = part.provider_metadata.get(self._provider, {})
        function = kept.get("function")
        value = {
            **kept,
            "id": part.id,
            "type": "function",
            "function": {
                **(function if isinstance(function, dict) else {}),
                "name": part.name,
                "arguments": part.arguments_json,
            },
        }
        return with_options(value, part.provider_options, self._provider)

    def _result(self, result: ToolResult) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = []
        for part in result.parts:
            block: dict[str, Any] | None
            if isinstance(part, Document):
                document = self._blocks.document(part)
                block = {"type": "document", "document": document} if document is not None else None
            else:
                block = self._block(part, "tool")
            if block is not None:
                blocks.append(block)
        if not blocks and (note := left_out_note(result.parts)):
            blocks.append({"type": "text", "text": note})
        if result.is_error:
            message = "Cohere cannot mark a tool result as failed; its text was prefixed with 'Error: '"
            self._warnings.add("changed", "tool result", message, lossy=False)
            if blocks and blocks[0].get("type") == "text":
                blocks[0] = {**blocks[0], "text": f"{_ERROR}{blocks[0].get('text', '')}"}
            else:
                blocks.insert(0, {"type": "text", "text": _ERROR.strip()})
        value = {"role": "tool", "tool_call_id": result.tool_call_id, "content": content(blocks) or ""}
        return with_options(value, result.provider_options, self._provider)
