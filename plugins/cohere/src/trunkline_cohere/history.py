"""The conversation in Cohere's v2 form: messages, their blocks, documents, and tool results beside their calls."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256

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
from trunkline_cohere.content import JSON, Blocks, content, with_options, without_empty_texts

TOOL_PLAN = "tool_plan"
"""What the metadata of a `Reasoning` calls one that came as a tool plan, and the field that it goes back in."""

NO_RESULT = "No result."
_MEDIA_FOLLOWS = "The result follows in the next message."
_ERROR = "Error: "
_PLAIN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class History:
    """Translates the messages of one request. `documents` then holds what Cohere keeps beside the messages.

    `takes_documents` says whether there may be any; where not, they are sent as text in their place.
    """

    def __init__(self, *, provider: str, warnings: Warnings, takes_documents: bool = True) -> None:
        self.documents: list[JSON] = []
        self._provider = provider
        self._warnings = warnings
        self._takes_documents = takes_documents
        self._blocks = Blocks(provider=provider, warnings=warnings)
        self._ids: set[str] = set()
        self._lost_reasoning = 0

    def translate(self, messages: Iterable[Message]) -> list[JSON]:
        """The wire's messages. Raises `InvalidRequest` for a conversation that can never be sent."""
        wire: list[JSON] = []
        for turn in pair_turns(messages, self._warnings):
            if turn.message.role == "assistant":
                self._assistant(turn, wire)
            else:
                self._simple(turn.message, wire)
        self._report_losses()
        if not wire:
            raise InvalidRequest(
                "nothing of the conversation can be sent to Cohere: beside documents it takes at least one message "
                "with text or a picture"
            )
        return wire

    def _report_losses(self) -> None:
        if self._lost_reasoning:
            self._warnings.add(
                "left_out",
                "reasoning",
                f"{self._lost_reasoning} reasoning part(s) of the history were not sent: another provider made them, "
                "or they are a tool plan without its calls",
            )
        if self._blocks.lost_opaque:
            self._warnings.add(
                "left_out",
                "opaque part",
                f"{self._blocks.lost_opaque} part(s) of the history that only another provider understands "
                "were not sent",
            )

    def _message(self, message: Message) -> JSON:
        if message.name is not None:
            self._warnings.add("left_out", "message name", "Cohere takes no names of participants")
        return {"role": message.role}

    # System and user turns

    def _simple(self, message: Message, wire: list[JSON]) -> None:
        blocks = [block for part in message.parts if (block := self._block(part, message.role)) is not None]
        blocks = without_empty_texts(blocks) or blocks[:1]
        # What holds nothing but documents, results or what had to be left out makes no message of its own.
        if blocks or not message.parts:
            value = {**self._message(message), "content": content(blocks) or ""}
            wire.append(with_options(value, message.provider_options, self._provider))

    def _block(self, part: Part, role: str) -> JSON | None:
        if isinstance(part, Text):
            return self._blocks.text(part)
        if isinstance(part, Document):
            return self._document(part)
        if isinstance(part, Opaque):
            return self._blocks.opaque(part)
        if isinstance(part, Reasoning):
            self._lost_reasoning += 1
        elif isinstance(part, ToolCall):
            raise InvalidRequest(f"a {role} message cannot call a tool; tool calls stand in assistant messages")
        elif isinstance(part, Audio):
            return self._blocks.audio(part)
        elif isinstance(part, Image):
            if role == "user":
                return self._blocks.image(part)
            self._blocks.refuse(part, f"{role} messages")
        return None

    def _document(self, part: Document) -> JSON | None:
        if not self._takes_documents:
            return self._blocks.inline(part)
        document = self._blocks.document(part)
        if document is not None:
            self.documents.append(document)
        return None

    # The model's turns and what its tools answered

    def _assistant(self, turn: Turn, wire: list[JSON]) -> None:
        message = turn.message
        blocks: list[JSON] = []
        plans: list[str] = []
        calls: list[JSON] = []
        answers: list[tuple[str, ToolCall, list[ToolResult]]] = []
        for position, part in enumerate(message.parts):
            if isinstance(part, ToolCall):
                call_id = self._call_id(part.id)
                calls.append(with_options(_call(part, call_id), part.provider_options, self._provider))
                answers.append((call_id, part, turn.results.get(position, [])))
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
            self._lost_reasoning += len(plans)
        citations = wire_citations(message.parts, self._provider)
        if citations:
            value["citations"] = citations
        value = with_options(value, message.provider_options, self._provider)
        if not value.get("content") and not value.get("tool_calls"):
            told = "a turn of the model without text or tool calls was not sent, since Cohere refuses it"
            self._warnings.add("left_out", "assistant message", told)
            return
        wire.append(value)
        self._answers(answers, wire)

    def _reasoning(self, part: Reasoning, blocks: list[JSON], plans: list[str]) -> None:
        if part.provider != self._provider or not part.text:
            self._lost_reasoning += 1
        elif part.provider_metadata.get(self._provider, {}).get("type") == TOOL_PLAN:
            plans.append(part.text)
        else:
            block = {"type": "thinking", "thinking": part.text}
            blocks.append(with_options(block, part.provider_options, self._provider))

    def _call_id(self, call_id: str) -> str:
        # No rule for ids is known, but sources are named after them: each has to be there, plain, and only once.
        plain = call_id if _PLAIN_ID.fullmatch(call_id) else f"call_{_digest(call_id)}"
        found, number = plain, 1
        while found in self._ids:
            number += 1
            found = f"{plain}_{number}"
        self._ids.add(found)
        return found

    def _answers(self, answers: list[tuple[str, ToolCall, list[ToolResult]]], wire: list[JSON]) -> None:
        media: list[JSON] = []
        for call_id, call, results in answers:
            if not results:
                told = f"the call of {call.name} has no result, and Cohere refuses such; 'No result.' was sent as one"
                self._warnings.add("changed", "tool call", told)
                wire.append({"role": "tool", "tool_call_id": call_id, "content": NO_RESULT})
                continue
            blocks: list[JSON] = []
            value: JSON = {"role": "tool", "tool_call_id": call_id}
            for result in results:
                blocks += self._result(result, media)
                value = with_options(value, result.provider_options, self._provider)
            blocks = without_empty_texts(blocks) or blocks[:1]
            wire.append({**value, "content": value.get("content", content(blocks))})
        if media:
            wire.append({"role": "user", "content": media})

    def _result(self, result: ToolResult, media: list[JSON]) -> list[JSON]:
        blocks: list[JSON] = []
        found: list[JSON] = []
        for part in result.parts:
            block: JSON | None = None
            if isinstance(part, Image):
                image = self._blocks.image(part)
                found += [image] if image is not None else []
            elif isinstance(part, Document):
                document = self._blocks.document(part)
                block = {"type": "document", "document": document} if document is not None else None
            else:
                block = self._block(part, "tool")
            if block is not None:
                blocks.append(block)
        if found:
            told = "its pictures were sent in a user message after it, since a result holds text and documents only"
            self._warnings.add("changed", "tool result", told)
            media += found
        if not blocks:
            blocks.append({"type": "text", "text": _MEDIA_FOLLOWS if found else ""})
        if result.is_error:
            told = "Cohere has no mark for a failed tool: its text begins with 'Error: '"
            self._warnings.add("changed", "tool result", told)
            if blocks[0].get("type") == "text":
                blocks[0] = {**blocks[0], "text": f"{_ERROR}{blocks[0].get('text', '')}"}
            else:
                blocks.insert(0, {"type": "text", "text": _ERROR.strip()})
        return blocks


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _call(part: ToolCall, call_id: str) -> JSON:
    return {"id": call_id, "type": "function", "function": {"name": part.name, "arguments": part.arguments_json}}
