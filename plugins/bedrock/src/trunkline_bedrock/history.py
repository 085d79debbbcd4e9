"""The conversation as Converse's messages: turns that alternate, and tool results in the turn after their calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import attrs
from trunkline.authoring.json import ProviderOptions, loads
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
    ToolResultPart,
)

from trunkline_bedrock.blocks import UNKNOWN
from trunkline_bedrock.families import Family
from trunkline_bedrock.media import Block, Media

_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_STRICT_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]")

_UNANSWERED = "This tool call was not answered."
_OPENING = "(The conversation begins here.)"
_RESULT_BLOCKS = ("json", "text", "image", "document", "video", "searchResult")


class History:
    """Translates the messages of one request."""

    def __init__(self, *, provider: str, family: Family, warnings: Warnings) -> None:
        self._provider = provider
        self._family = family
        self._warnings = warnings
        self._media = Media(warnings)
        self._ids: dict[str, str] = {}
        self._unnamed = 0
        self._lost_reasoning: dict[str, int] = {}
        self._lost_opaque = 0
        self.system: list[Block] = []
        self.messages: list[Block] = []
        self.tool_names: dict[str, None] = {}
        """The names of the tools that the history has calls of, in order."""

    def translate(self, messages: Iterable[Message]) -> None:
        """Fill `system`, `messages` and `tool_names`. Raises `InvalidRequest` where nothing is left to send."""
        for turn in pair_turns(messages, self._warnings):
            message = turn.message
            if message.name is not None:
                self._warnings.add("left_out", "message name", "Converse has no names of participants")
            if message.role == "system":
                self._system(message)
            elif message.role == "assistant":
                self._assistant(turn)
            else:
                self._add("user", self._content(message, "user"), message)
        self._report_losses()
        self._beside_documents()
        if not self.messages:
            raise InvalidRequest("the conversation has nothing that can be sent: no turn with content")
        if self.messages[0]["role"] == "assistant" and not self._family.leading_assistant:
            self.messages.insert(0, {"role": "user", "content": [{"text": _OPENING}]})
            why = "this model's conversations begin with the user; a short turn was put before the first one"
            self._warnings.add("emulated", "messages", why)

    def _report_losses(self) -> None:
        if self._lost_reasoning:
            told = "; ".join(f"{count}: {why}" for why, count in self._lost_reasoning.items())
            self._warnings.add("left_out", "reasoning", f"reasoning of the history was not sent ({told})")
        if self._lost_opaque:
            why = f"{self._lost_opaque} part(s) of the history that only their provider understands were not sent"
            self._warnings.add("left_out", "opaque part", why)

    def _add(self, role: str, content: list[Block], message: Message | None) -> None:
        """Add content to the conversation; turns of one role that follow each other become one."""
        options = self._options(message.provider_options) if message is not None else {}
        content += [{key: value} for key, value in options.items()]
        if not content:
            if message is not None and not any(isinstance(part, ToolResult) for part in message.parts):
                why = f"an empty {role} message was not sent, since Bedrock refuses it"
                self._warnings.add("left_out", "message", why)
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += content
        else:
            self.messages.append({"role": role, "content": content})

    def _options(self, options: ProviderOptions) -> dict[str, Any]:
        return dict(options.get(self._provider, {}))

    # Parts

    def _system(self, message: Message) -> None:
        if self.messages:
            why = "a system message in the middle of the conversation was put before all of it"
            self._warnings.add("changed", "system message", why)
        for part in message.parts:
            if isinstance(part, Text):
                self.system += self._text(part)
            elif isinstance(part, Opaque) and part.provider == self._provider:
                self.system.append(dict(part.data))
            elif isinstance(part, (Image, Document, Audio)):
                kind = type(part).__name__.lower()
                self._warnings.add("left_out", kind, "a system message holds only text here")
        self.system += [{key: value} for key, value in self._options(message.provider_options).items()]

    def _text(self, part: Text) -> list[Block]:
        """The text, and the blocks that its options are: a cache point after it, or the text as guarded content."""
        options = self._options(part.provider_options)
        blocks: list[Block] = []
        guard = options.pop("guardContent", None)
        if guard is not None and part.text:
            blocks.append(
                {"guardContent": {"text": {"text": part.text, **(guard if isinstance(guard, Mapping) else {})}}}
            )
        elif part.text.strip():
            blocks.append({"text": part.text})
        elif part.text:
            self._warnings.add("left_out", "text", "a text of spaces alone was not sent, since Bedrock refuses it")
        if part.refusal and part.text:
            self._warnings.add("changed", "refusal", "Converse has no word for refusals; one was sent as plain text")
        return blocks + [{key: value} for key, value in options.items()]

    def _content(self, message: Message, role: str) -> list[Block]:
        content: list[Block] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                raise InvalidRequest(f"a {role} message cannot call a tool; tool calls stand in assistant messages")
            content += self._part(part)
        return content

    def _part(self, part: Part) -> list[Block]:
        if isinstance(part, Text):
            return self._text(part)
        if isinstance(part, (Image, Document, Audio)):
            block = self._media.block(part)
            return self._dressed(block, part.provider_options) if block is not None else []
        if isinstance(part, Opaque):
            if part.provider == self._provider and not part.kind.startswith(UNKNOWN):
                return [dict(part.data)]
            self._lost_opaque += 1
        elif isinstance(part, Reasoning):
            self._lose_reasoning("it stands in a turn that is not the model's")
        return []

    def _dressed(self, block: Block, options: ProviderOptions) -> list[Block]:
        """A block with its options in it, and the cache point that is among them after it."""
        extra = self._options(options)
        if not extra:
            return [block]
        after = [{"cachePoint": extra.pop("cachePoint")}] if "cachePoint" in extra else []
        [(kind, inner)] = block.items()
        return [{kind: merged(inner, extra)}, *after]

    # The model's turns

    def _assistant(self, turn: Turn) -> None:
        content: list[Block] = []
        answers: list[Block] = []
        for position, part in enumerate(turn.message.parts):
            if isinstance(part, ToolCall):
                call_id = self._call_id(part.id)
                content += self._call(part, call_id)
                answers += self._answers(call_id, part, turn.results.get(position, []))
            elif isinstance(part, Reasoning):
                content += self._reasoning(part)
            elif isinstance(part, Text):
                content += self._cited(part)
            elif isinstance(part, Audio):
                content += self._spoken(part)
            elif isinstance(part, (Image, Document)):
                kind = type(part).__name__.lower()
                self._warnings.add("left_out", kind, "an assistant message takes no media here")
            elif not isinstance(part, (Citation, ToolResult)):
                content += self._part(part)
        self._add("assistant", content, turn.message)
        if answers:
            self._add("user", answers, None)

    def _cited(self, part: Text) -> list[Block]:
        citations = part.provider_metadata.get(self._provider, {}).get("citations")
        if not part.text or not isinstance(citations, (list, tuple)) or self._options(part.provider_options):
            return self._text(part)
        return [{"citationsContent": {"content": [{"text": part.text}], "citations": list(citations)}}]

    def _spoken(self, part: Audio) -> list[Block]:
        if part.transcript:
            self._warnings.add("emulated", "audio", "a spoken answer of another provider was sent as its transcript")
            return self._text(Text(text=part.transcript))
        self._warnings.add("left_out", "audio", "a spoken answer can be sent back only by its transcript")
        return []

    def _reasoning(self, part: Reasoning) -> list[Block]:
        if part.provider != self._provider:
            self._lose_reasoning("another provider made it")
        elif self._family.replays == "none":
            self._lose_reasoning("this model does not take it back")
        elif self._family.replays == "signed" and part.signature is None and part.encrypted is None:
            self._lose_reasoning("it has no signature, which this model asks for")
        else:
            blocks: list[Block] = []
            if part.text or part.signature is not None:
                told: Block = {"text": part.text}
                if part.signature is not None:
                    told["signature"] = part.signature
                blocks.append({"reasoningContent": {"reasoningText": told}})
            if part.encrypted is not None:
                blocks.append({"reasoningContent": {"redactedContent": part.encrypted}})
            return blocks + [{key: value} for key, value in self._options(part.provider_options).items()]
        return []

    def _lose_reasoning(self, why: str) -> None:
        self._lost_reasoning[why] = self._lost_reasoning.get(why, 0) + 1

    def _call_id(self, call_id: str) -> str:
        if not call_id:
            self._unnamed += 1
            return f"call_{self._unnamed}"
        pattern = _STRICT_ID if self._family.strict_ids else _ID
        if pattern.fullmatch(call_id):
            return call_id
        if call_id not in self._ids:
            self._ids[call_id] = f"call_{sha256(call_id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"
        return self._ids[call_id]

    def _call(self, call: ToolCall, call_id: str) -> list[Block]:
        name = call.name
        if not _NAME.fullmatch(name):
            name = _NOT_IN_NAME.sub("_", name)[:64] or "unnamed"
            self._warnings.add(
                "changed", "tool call", f"the name {call.name!r} was sent as {name!r}, which Bedrock takes"
            )
        arguments: Any = call.arguments
        if call.invalid_arguments is not None:
            arguments = {"invalid_arguments": call.invalid_arguments}
            why = "arguments that are no JSON object were sent within one, since Converse takes nothing else"
            self._warnings.add("changed", "tool call", why)
        self.tool_names.setdefault(name)
        block: Block = {"toolUse": {"toolUseId": call_id, "name": name, "input": arguments}}
        return self._dressed(block, call.provider_options)

    def _answers(self, call_id: str, call: ToolCall, results: list[ToolResult]) -> list[Block]:
        if not results:
            why = f"the call of {call.name} has no result, which Bedrock asks for; it was told so in its place"
            self._warnings.add("emulated", "tool result", why)
            return [{"toolResult": self._failed(call_id, [{"text": _UNANSWERED}])}]
        if len(results) > 1:
            why = f"the call of {call.name} has {len(results)} results, which were sent as one"
            self._warnings.add("changed", "tool result", why)
            parts = tuple(part for result in results for part in result.parts)
            failed = any(result.is_error for result in results)
            results = [attrs.evolve(results[-1], parts=parts, is_error=failed)]
        return self._result(call_id, results[0])

    def _failed(self, call_id: str, content: list[Block]) -> Block:
        if self._family.result_status:
            return {"toolUseId": call_id, "content": content, "status": "error"}
        why = "this model takes no mark for a failed tool: the result begins with 'Error:'"
        self._warnings.add("changed", "tool result", why)
        return {"toolUseId": call_id, "content": [{"text": "Error:"}, *content]}

    def _result(self, call_id: str, result: ToolResult) -> list[Block]:
        content = [block for part in result.parts for block in self._result_part(part)]
        inner = self._failed(call_id, content) if result.is_error else {"toolUseId": call_id, "content": content}
        if not inner["content"]:
            # An empty list is refused by several models.
            inner["content"] = [{"json": {}} if self._family.json_results else {"text": "(no output)"}]
        return self._dressed({"toolResult": inner}, result.provider_options)

    def _result_part(self, part: ToolResultPart) -> list[Block]:
        if isinstance(part, Text):
            if not part.text.strip():
                return []
            return [{"json": _as_object(part.text)}] if self._family.json_results else [{"text": part.text}]
        if isinstance(part, Opaque):
            if part.provider == self._provider:
                return [dict(part.data)]
            self._lost_opaque += 1
            return []
        block = self._media.block(part)
        if block is not None and next(iter(block)) not in _RESULT_BLOCKS:
            self._warnings.add("left_out", next(iter(block)), "a tool result takes none here")
            return []
        if block is None:
            return []
        return [inner for inner in self._dressed(block, part.provider_options) if "cachePoint" not in inner]

    def _beside_documents(self) -> None:
        for message in self.messages:
            content = message["content"]
            document = next((block["document"] for block in content if "document" in block), None)
            if document is not None and not any("text" in block for block in content):
                content.append({"text": f"See the document {document['name']}."})
                why = "Bedrock asks for a text beside a document; one that names it was added"
                self._warnings.add("emulated", "document", why)


def merged(inner: Any, extra: Mapping[str, Any]) -> Any:
    """A mapping with another merged into it, level by level; the other wins."""
    if not isinstance(inner, Mapping):
        return dict(extra)
    result = dict(inner)
    for key, value in extra.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result


def _as_object(text: str) -> Any:
    try:
        value = loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        value = text
    return value if isinstance(value, dict) else {"result": value}
