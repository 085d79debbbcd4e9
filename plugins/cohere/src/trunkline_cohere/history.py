"""Translate the conversation into Cohere's v2 messages, with documents apart and tool results after their calls."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from trunkline.authoring.json import with_options
from trunkline.authoring.tool_results import Turn, pair_turns
from trunkline.authoring.warnings import Warnings
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
    ToolCall,
    ToolResult,
)

from trunkline_cohere.citations import wire_citations
from trunkline_cohere.content import Blocks, content, without_empty_texts

TOOL_PLAN = "tool_plan"
"""The wire field of a tool plan, and the mark in a `Reasoning`'s metadata that it came as one."""

NO_RESULT = "No result."
_MEDIA_FOLLOWS = "The result follows in the next message."
_ERROR = "Error: "
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class History:
    """Translates the messages of one request. `documents` collects the documents, which are sent apart.

    If `takes_documents` is false, documents are sent as text in the messages instead.
    """

    def __init__(self, *, provider: str, warnings: Warnings, takes_documents: bool = True) -> None:
        self.documents: list[dict[str, Any]] = []
        self._provider = provider
        self._warnings = warnings
        self._takes_documents = takes_documents
        self._blocks = Blocks(provider=provider, warnings=warnings)
        self._ids: set[str] = set()

    def translate(self, messages: Iterable[Message]) -> list[dict[str, Any]]:
        """Return the wire messages. Raises `InvalidRequest` for a conversation that can never be sent."""
        wire: list[dict[str, Any]] = []
        for turn in pair_turns(messages, self._warnings):
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
        blocks = [block for part in message.parts if (block := self._block(part, message.role)) is not None]
        blocks = without_empty_texts(blocks) or blocks[:1]
        # If nothing remains (only documents, say, or parts that were left out), no message is sent.
        if blocks or not message.parts:
            value = {**self._message(message), "content": content(blocks) or ""}
            wire.append(with_options(value, message.provider_options, self._provider))

    def _block(self, part: Part, role: str) -> dict[str, Any] | None:
        if isinstance(part, Text):
            return self._blocks.text(part)
        if isinstance(part, Document):
            return self._document(part)
        if isinstance(part, Opaque):
            return self._blocks.opaque(part, by_model=role == "assistant")
        if isinstance(part, Reasoning):
            self._lose_reasoning(f"a {role} message cannot contain it", lossy=True)
        elif isinstance(part, ToolCall):
            raise InvalidRequest(f"a {role} message contains a tool call; tool calls belong in assistant messages")
        elif isinstance(part, Audio):
            return self._blocks.audio(part, by_model=role == "assistant")
        elif isinstance(part, Image):
            if role == "user":
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
        calls_with_results: list[tuple[str, ToolCall, list[ToolResult]]] = []
        for position, part in enumerate(message.parts):
            if isinstance(part, ToolCall):
                call_id = self._call_id(part.id)
                calls.append(with_options(_call(part, call_id), part.provider_options, self._provider))
                calls_with_results.append((call_id, part, turn.results.get(position, [])))
            elif isinstance(part, Reasoning):
                self._reasoning(part, blocks, plans)
            elif isinstance(part, (Image, Document)):
                self._blocks.refuse(part, "assistant messages")
            elif not isinstance(part, (Citation, ToolResult)):
                block = self._block(part, "assistant")
                if block is not None:
                    blocks.append(block)
        value = self._message(message)
        blocks = without_empty_texts(blocks)
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
            self._warnings.add("left_out", "assistant message", reason, lossy=False)
            return
        wire.append(value)
        self._results(calls_with_results, wire)

    def _reasoning(self, part: Reasoning, blocks: list[dict[str, Any]], plans: list[str]) -> None:
        if part.provider != self._provider or not part.text:
            self._lose_reasoning("it comes from another provider")
        elif part.provider_metadata.get(self._provider, {}).get("type") == TOOL_PLAN:
            plans.append(part.text)
        else:
            block = {"type": "thinking", "thinking": part.text}
            blocks.append(with_options(block, part.provider_options, self._provider))

    def _lose_reasoning(self, why: str, *, lossy: bool = False) -> None:
        self._warnings.add("left_out", "reasoning", f"reasoning of the history was left out: {why}", lossy=lossy)

    def _call_id(self, call_id: str) -> str:
        # Cohere documents no rule for ids but names citation sources after them: make each one plain, set and unique.
        plain = call_id if _PLAIN_ID.fullmatch(call_id) else f"call_{_digest(call_id)}"
        found, number = plain, 1
        while found in self._ids:
            number += 1
            found = f"{plain}_{number}"
        self._ids.add(found)
        return found

    def _results(
        self, calls_with_results: list[tuple[str, ToolCall, list[ToolResult]]], wire: list[dict[str, Any]]
    ) -> None:
        media: list[dict[str, Any]] = []
        for call_id, call, results in calls_with_results:
            if not results:
                message = f"the call to {call.name} has no result, which Cohere refuses; {NO_RESULT!r} was sent as one"
                self._warnings.add("changed", "tool call", message, lossy=False)
                wire.append({"role": "tool", "tool_call_id": call_id, "content": NO_RESULT})
                continue
            blocks: list[dict[str, Any]] = []
            value: dict[str, Any] = {"role": "tool", "tool_call_id": call_id}
            for result in results:
                blocks += self._result(result, media)
                value = with_options(value, result.provider_options, self._provider)
            blocks = without_empty_texts(blocks) or blocks[:1]
            wire.append({**value, "content": value.get("content", content(blocks))})
        if media:
            wire.append({"role": "user", "content": media})

    def _result(self, result: ToolResult, media: list[dict[str, Any]]) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        images: list[dict[str, Any]] = []
        for part in result.parts:
            block: dict[str, Any] | None = None
            if isinstance(part, Image):
                image = self._blocks.image(part)
                images += [image] if image is not None else []
            elif isinstance(part, Document):
                document = self._blocks.document(part)
                block = {"type": "document", "document": document} if document is not None else None
            else:
                block = self._block(part, "tool")
            if block is not None:
                blocks.append(block)
        if images:
            message = "Cohere accepts no images in tool results; they were sent in a user message that follows"
            self._warnings.add("changed", "tool result", message, lossy=False)
            media += images
        if not blocks:
            blocks.append({"type": "text", "text": _MEDIA_FOLLOWS if images else ""})
        if result.is_error:
            message = "Cohere cannot mark a tool result as failed; its text was prefixed with 'Error: '"
            self._warnings.add("changed", "tool result", message, lossy=False)
            if blocks[0].get("type") == "text":
                blocks[0] = {**blocks[0], "text": f"{_ERROR}{blocks[0].get('text', '')}"}
            else:
                blocks.insert(0, {"type": "text", "text": _ERROR.strip()})
        return blocks


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _call(part: ToolCall, call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": part.name, "arguments": part.arguments_json}}
