"""The conversation in the order that Converse demands. Pure.

Bedrock's rules: the system prompt is separate; roles alternate; every tool call is answered in the next turn; ids and
names of tool calls are short and of a small alphabet; no text is blank; a document needs a text next to it. Models add
their own (see `model_families`). History that breaks a rule is mended, with a warning, rather than refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import attrs
from trunkline.authoring.json import ProviderOptions, loads_finite
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
from trunkline_bedrock.media import Media
from trunkline_bedrock.model_families import Family

_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_STRICT_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9_-]")

_UNANSWERED = "This tool call was not answered."
_OPENING = "(The conversation begins here.)"
_RESULT_BLOCKS = ("json", "text", "image", "document", "video", "searchResult")


class History:
    """Translates the messages of one request into `system`, `messages` and `tool_names`."""

    def __init__(self, *, provider: str, family: Family, warnings: Warnings) -> None:
        self._provider = provider
        self._family = family
        self._warnings = warnings
        self._media = Media(warnings)
        self._ids: dict[str, str] = {}
        self._unnamed = 0
        self.system: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.tool_names: dict[str, None] = {}
        """The names of the tools that the history calls, in order of their first call."""

    def translate(self, messages: Iterable[Message]) -> None:
        """Fill `system`, `messages` and `tool_names`. Raises `InvalidRequest` if there is nothing to send."""
        for turn in pair_turns(messages, self._warnings):
            message = turn.message
            if message.name is not None:
                self._warnings.add(
                    "left_out", "message name", "Converse does not accept names of participants", lossy=True
                )
            if message.role == "system":
                self._system(message)
            elif message.role == "assistant":
                self._assistant(turn)
            else:
                self._add("user", self._content(message, "user"), message)
        self._beside_documents()
        if not self.messages:
            raise InvalidRequest("the conversation has no message with content that can be sent")
        if self.messages[0]["role"] == "assistant" and not self._family.leading_assistant:
            self.messages.insert(0, {"role": "user", "content": [{"text": _OPENING}]})
            why = f"this model requires a user message first; {_OPENING!r} was inserted"
            self._warnings.add("emulated", "messages", why, lossy=False)

    def _add(self, role: str, content: list[dict[str, Any]], message: Message | None) -> None:
        """Append content to the conversation. Consecutive messages of one role are merged."""
        options = self._options(message.provider_options) if message is not None else {}
        content += [{key: value} for key, value in options.items()]
        if not content:
            if message is not None and not any(isinstance(part, ToolResult) for part in message.parts):
                why = f"an empty {role} message was left out, since Bedrock refuses it"
                self._warnings.add("left_out", "message", why, lossy=False)
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += content
        else:
            self.messages.append({"role": role, "content": content})

    def _options(self, options: ProviderOptions) -> dict[str, Any]:
        return dict(options.get(self._provider, {}))

    def _system(self, message: Message) -> None:
        if self.messages:
            why = "a system message in the middle of the conversation was moved to the system prompt"
            self._warnings.add("changed", "system message", why, lossy=False)
        for part in message.parts:
            if isinstance(part, Text):
                self.system += self._text(part)
            elif isinstance(part, Opaque) and part.provider == self._provider:
                self.system.append(dict(part.data))
            elif isinstance(part, Opaque):
                self._lose_opaque(part, lossy=True)
            elif isinstance(part, (Image, Document, Audio, Reasoning)):
                kind = type(part).__name__.lower()
                self._warnings.add("left_out", kind, "Converse accepts only text in a system message", lossy=True)
        self.system += [{key: value} for key, value in self._options(message.provider_options).items()]

    def _text(self, part: Text) -> list[dict[str, Any]]:
        """Return the block of a text, guarded if its options say so, and those of its other options (a cache point)."""
        options = self._options(part.provider_options)
        blocks: list[dict[str, Any]] = []
        guard = options.pop("guardContent", None)
        if guard is not None and part.text:
            blocks.append(
                {"guardContent": {"text": {"text": part.text, **(guard if isinstance(guard, Mapping) else {})}}}
            )
        elif part.text.strip():
            blocks.append({"text": part.text})
        elif part.text:
            self._warnings.add("left_out", "text", "a blank text was left out, since Bedrock refuses it", lossy=False)
        if part.refusal and part.text:
            self._warnings.add("changed", "refusal", "Converse has no refusals; sent as plain text", lossy=False)
        return blocks + [{key: value} for key, value in options.items()]

    def _content(self, message: Message, role: str) -> list[dict[str, Any]]:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                raise InvalidRequest(f"a {role} message cannot contain a tool call; put it in an assistant message")
            content += self._part(part)
        return content

    def _part(self, part: Part, *, by_model: bool = False) -> list[dict[str, Any]]:
        if isinstance(part, Text):
            return self._text(part)
        if isinstance(part, (Image, Document, Audio)):
            block = self._media.block(part)
            return self._with_options(block, part.provider_options) if block is not None else []
        if isinstance(part, Opaque):
            if part.provider == self._provider and not part.kind.startswith(UNKNOWN):
                return [dict(part.data)]
            self._lose_opaque(part, lossy=not by_model)
        elif isinstance(part, Reasoning):
            self._lose_reasoning("it is not in an assistant message", lossy=True)
        return []

    def _with_options(self, block: dict[str, Any], options: ProviderOptions) -> list[dict[str, Any]]:
        """Merge options into a block. A cache point among them becomes a block of its own after it."""
        extra = self._options(options)
        if not extra:
            return [block]
        after = [{"cachePoint": extra.pop("cachePoint")}] if "cachePoint" in extra else []
        [(kind, inner)] = block.items()
        return [{kind: merged(inner, extra)}, *after]

    def _assistant(self, turn: Turn) -> None:
        content: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        for position, part in enumerate(turn.message.parts):
            if isinstance(part, ToolCall):
                call_id = self._call_id(part.id)
                content += self._call(part, call_id)
                results += self._results(call_id, part, turn.results.get(position, []))
            elif isinstance(part, Reasoning):
                content += self._reasoning(part)
            elif isinstance(part, Text):
                content += self._cited(part)
            elif isinstance(part, Audio):
                content += self._spoken(part)
            elif isinstance(part, (Image, Document)):
                kind = type(part).__name__.lower()
                self._warnings.add("left_out", kind, "Converse does not accept media in assistant messages", lossy=True)
            elif not isinstance(part, (Citation, ToolResult)):
                content += self._part(part, by_model=True)
        self._add("assistant", content, turn.message)
        if results:
            self._add("user", results, None)

    def _cited(self, part: Text) -> list[dict[str, Any]]:
        citations = part.provider_metadata.get(self._provider, {}).get("citations")
        if not part.text or not isinstance(citations, (list, tuple)) or self._options(part.provider_options):
            return self._text(part)
        return [{"citationsContent": {"content": [{"text": part.text}], "citations": list(citations)}}]

    def _spoken(self, part: Audio) -> list[dict[str, Any]]:
        if part.transcript:
            self._warnings.add(
                "emulated",
                "audio",
                "Converse does not accept audio in assistant messages; the transcript was sent instead",
                lossy=False,
            )
            return self._text(Text(text=part.transcript))
        self._warnings.add(
            "left_out",
            "audio",
            "Converse does not accept audio in assistant messages, and this one has no transcript",
            lossy=True,
        )
        return []

    def _reasoning(self, part: Reasoning) -> list[dict[str, Any]]:
        if part.provider != self._provider:
            self._lose_reasoning("it is from another provider")
        elif self._family.replays == "none":
            self._lose_reasoning("this model does not accept it back")
        elif self._family.replays == "signed" and part.signature is None and part.encrypted is None:
            self._lose_reasoning("it has no signature, which this model requires")
        else:
            blocks: list[dict[str, Any]] = []
            if part.text or part.signature is not None:
                reasoning: dict[str, Any] = {"text": part.text}
                if part.signature is not None:
                    reasoning["signature"] = part.signature
                blocks.append({"reasoningContent": {"reasoningText": reasoning}})
            if part.encrypted is not None:
                blocks.append({"reasoningContent": {"redactedContent": part.encrypted}})
            return blocks + [{key: value} for key, value in self._options(part.provider_options).items()]
        return []

    def _lose_reasoning(self, why: str, *, lossy: bool = False) -> None:
        self._warnings.add("left_out", "reasoning", f"reasoning of the history was left out: {why}", lossy=lossy)

    def _lose_opaque(self, part: Opaque, *, lossy: bool) -> None:
        why = f"only {part.provider} understands it; left out"
        self._warnings.add("left_out", "opaque part", why, lossy=lossy)

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

    def _call(self, call: ToolCall, call_id: str) -> list[dict[str, Any]]:
        name = call.name
        if not _NAME.fullmatch(name):
            name = _NOT_IN_NAME.sub("_", name)[:64] or "unnamed"
            self._warnings.add(
                "changed", "tool call", f"Bedrock refuses the name {call.name!r}; sent as {name!r}", lossy=False
            )
        arguments: Any = call.arguments
        if call.invalid_arguments is not None:
            arguments = {"invalid_arguments": call.invalid_arguments}
            why = "arguments that are not a JSON object were sent inside one, as 'invalid_arguments'"
            self._warnings.add("changed", "tool call", why, lossy=False)
        self.tool_names.setdefault(name)
        block: dict[str, Any] = {"toolUse": {"toolUseId": call_id, "name": name, "input": arguments}}
        return self._with_options(block, call.provider_options)

    def _results(self, call_id: str, call: ToolCall, results: list[ToolResult]) -> list[dict[str, Any]]:
        if not results:
            why = f"Bedrock requires a result for each call; an error was sent for the call to {call.name}"
            self._warnings.add("emulated", "tool result", why, lossy=False)
            return [{"toolResult": self._failed(call_id, [{"text": _UNANSWERED}])}]
        if len(results) > 1:
            why = f"the {len(results)} results of the call to {call.name} were merged"
            self._warnings.add("changed", "tool result", why, lossy=False)
            parts = tuple(part for result in results for part in result.parts)
            failed = any(result.is_error for result in results)
            results = [attrs.evolve(results[-1], parts=parts, is_error=failed)]
        return self._result(call_id, results[0])

    def _failed(self, call_id: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        if self._family.result_status:
            return {"toolUseId": call_id, "content": content, "status": "error"}
        why = "this model does not support the error status; 'Error:' was put before the result"
        self._warnings.add("changed", "tool result", why, lossy=False)
        return {"toolUseId": call_id, "content": [{"text": "Error:"}, *content]}

    def _result(self, call_id: str, result: ToolResult) -> list[dict[str, Any]]:
        content = [block for part in result.parts for block in self._result_part(part)]
        inner = self._failed(call_id, content) if result.is_error else {"toolUseId": call_id, "content": content}
        if not inner["content"]:
            # Several models refuse an empty list.
            inner["content"] = [{"json": {}} if self._family.json_results else {"text": "(no output)"}]
        return self._with_options({"toolResult": inner}, result.provider_options)

    def _result_part(self, part: ToolResultPart) -> list[dict[str, Any]]:
        if isinstance(part, Text):
            if not part.text.strip():
                return []
            return [{"json": _as_object(part.text)}] if self._family.json_results else [{"text": part.text}]
        if isinstance(part, Opaque):
            if part.provider == self._provider:
                return [dict(part.data)]
            self._lose_opaque(part, lossy=True)
            return []
        block = self._media.block(part)
        if block is not None and next(iter(block)) not in _RESULT_BLOCKS:
            self._warnings.add("left_out", next(iter(block)), "not supported in a tool result; left out", lossy=True)
            return []
        if block is None:
            return []
        return [inner for inner in self._with_options(block, part.provider_options) if "cachePoint" not in inner]

    def _beside_documents(self) -> None:
        for message in self.messages:
            content = message["content"]
            document = next((block["document"] for block in content if "document" in block), None)
            if document is not None and not any("text" in block for block in content):
                content.append({"text": f"See the document {document['name']}."})
                why = "Bedrock requires a text next to a document; one that names it was added"
                self._warnings.add("emulated", "document", why, lossy=False)


def merged(inner: Any, extra: Mapping[str, Any]) -> Any:
    """Return `inner` with `extra` merged into it, level by level. `extra` wins."""
    if not isinstance(inner, Mapping):
        return dict(extra)
    result = dict(inner)
    for key, value in extra.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result


def _as_object(text: str) -> Any:
    try:
        value = loads_finite(text)
    except (ValueError, RecursionError):
        value = text
    return value if isinstance(value, dict) else {"result": value}
