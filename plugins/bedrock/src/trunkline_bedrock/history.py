"""The conversation in the order that Converse demands. Pure.

`rules_of` derives the rules for a history from the model's `model_facts`. `trunkline.authoring.replay` changes the
history to follow these rules, and this module renders the resulting turns: the system prompt is separate; consecutive
messages of one role are merged; tool results are in a user message; no text is blank; a document needs a text next to
it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.authoring.caching import result_lifetime
from trunkline.authoring.json import ProviderOptions, loads_finite
from trunkline.authoring.provider import MediaClass
from trunkline.authoring.replay import GO_ON, ReplayRules, Turn, left_out_note
from trunkline.authoring.warnings import Warnings
from trunkline.errors import InvalidRequest
from trunkline.messages import (
    Audio,
    CacheLifetime,
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
from trunkline.request import ChatRequest
from trunkline_anthropic.history import claude_issuers

from trunkline_bedrock.blocks import UNKNOWN
from trunkline_bedrock.caching import mark
from trunkline_bedrock.media import Media
from trunkline_bedrock.model_facts import BedrockFacts, Medium

_RESULT_BLOCKS = ("json", "text", "image", "document", "video", "searchResult")
_TOOL_CHANGES = ("toolAddition", "toolRemoval")
"""Blocks that only a system message between other messages may contain (botocore 1.43.117, `ToolAdditionBlock`)."""

_IDS = {"converse": "[a-zA-Z0-9_.:-]{1,64}", "plain": "[a-zA-Z0-9_-]{1,64}", "nine": "[a-zA-Z0-9]{9}"}

_MEDIA: tuple[tuple[Medium, MediaClass], ...] = (("image", Image), ("document", Document), ("audio", Audio))


def rules_of(facts: BedrockFacts, provider: str, request: ChatRequest) -> ReplayRules:
    """Return the rules for the history of a request to a model."""
    claude = facts.family == "claude"
    anywhere = facts.system == "anywhere" or any(
        _changes_tools(message, provider) for message in request.messages if message.role == "system"
    )
    return ReplayRules(
        provider=provider,
        family=facts.family,
        reasoning={"none": "never", "all": "own", "signed": "signed"}[facts.replays],  # type: ignore[arg-type]
        # Anthropic: signatures are valid on its API, on Bedrock and on Vertex AI ("Extended thinking", November 2026);
        # pydantic-ai 2.68.0 also sends them from one of these services to another.
        issuers=claude_issuers(provider) if claude and facts.replays == "signed" else (),
        # Anthropic: "The final block in an assistant message cannot be `thinking`".
        trailing_reasoning=False,
        # If a text follows a call, Claude's API reports that the call has no result (vercel/ai#13013, March 2026).
        calls_last=claude,
        # botocore 1.43.117: `ToolUseId` and `ToolName`. Claude's own API accepts no dots and colons.
        # Mistral's models accept only ids of nine letters and digits (vercel/ai#11802, January 2026;
        # anomalyco/opencode#48843, September 2026).
        call_ids=_IDS[facts.ids],
        new_id_prefix="" if facts.ids == "nine" else "call_",
        new_id_length=9 if facts.ids == "nine" else 29,
        tool_names="[a-zA-Z0-9_-]{1,64}",
        # "The text field in the ContentBlock object is blank"; "text content blocks must contain non-whitespace text"
        # (hermes-agent#63983, July 2026).
        blank_text=False,
        # "final assistant content cannot end with trailing whitespace" (Anthropic; langchain-aws 1.9.1 strips it).
        trailing_space=False,
        # AWS's guide to Converse allows media only in user messages.
        answer_media=(),
        readable_media=tuple(kind for name, kind in _MEDIA if name in facts.media),
        result_media=tuple(kind for name, kind in _MEDIA if name in facts.result_media),
        system="anywhere" if anywhere else "first",
        # "A conversation must start with a user message" (pydantic-ai 2.68.0).
        starts_with_user=not facts.leading_assistant,
        # "Conversation blocks and tool result blocks cannot be provided in the same turn" (pydantic-ai#6081).
        user_after_results=facts.tool_turns == "mixed" or not facts.tools,
        # "This model does not support assistant message prefill. The conversation must end with a user message."
        # With a thinking budget, no Claude model accepts prefill (Anthropic, "Extended thinking").
        ends_with_answer=facts.prefill and not (facts.reasoning == "budget" and _reasons(request)),
    )


def _reasons(request: ChatRequest) -> bool:
    return request.reasoning is not None and request.reasoning.effort != "none"


def _changes_tools(message: Message, provider: str) -> bool:
    return any(name in message.provider_options.get(provider, {}) for name in _TOOL_CHANGES) or any(
        isinstance(part, Opaque) and part.kind in _TOOL_CHANGES for part in message.parts
    )


class History:
    """Translates the turns of one request into `system`, `messages` and `tool_names`."""

    def __init__(self, *, provider: str, facts: BedrockFacts, warnings: Warnings) -> None:
        self._provider = provider
        self._facts = facts
        self._warnings = warnings
        self._media = Media(warnings, facts)
        self._late: list[dict[str, Any]] = []  # system blocks to add before the next answer
        self.system: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.tool_names: dict[str, None] = {}
        """The names of the tools that the history calls, in order of their first call."""
        self.system_tools: dict[str, None] = {}
        """The names of Bedrock's own tools that the history calls."""
        self.cached: bool = False
        """Whether a part has a mark for a cache point."""

    def translate(self, turns: Sequence[Turn]) -> None:
        """Fill `system`, `messages` and `tool_names`. Raises `InvalidRequest` if there is nothing to send."""
        for turn in turns:
            message = turn.message
            if message.name is not None:
                self._warnings.add(
                    "left_out", "message name", "Converse does not accept names of participants", lossy=True
                )
            if message.role == "system":
                self._system(message)
            elif message.role == "assistant":
                self._add_late()
                self._assistant(turn)
            else:
                content = [block for part in message.parts for block in self._part(part)]
                self._add("user", content, message)
        self._add_late()
        if not self.messages:
            raise InvalidRequest("the conversation has no message with content that can be sent")
        self._beside_documents()

    def finish(self) -> None:
        """Move the system prompt to the first user message if the model accepts no system prompt."""
        texts = [block for block in self.system if "text" in block]
        if self._facts.system != "none" or not self.system:
            return
        # "This model doesn't support system messages."
        first = next((message for message in self.messages if message["role"] == "user"), None)
        if first is not None:
            first["content"] = [*texts, *first["content"]]
        why = "this model accepts no system prompt; the text was moved to the first user message"
        self._warnings.add("emulated", "system message", why, lossy=False)
        self.system = []

    def _add(self, role: str, content: list[dict[str, Any]], message: Message | None) -> None:
        """Append content to the conversation. Consecutive messages of one role are merged."""
        if message is not None and message.provider_options:
            content = [*content, *self._blocks(self._options(message.provider_options))]
        if not content:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += content
        else:
            self.messages.append({"role": role, "content": content})

    def _options(self, options: ProviderOptions) -> dict[str, Any]:
        """Return the options for this provider, without a cache point that the model would refuse."""
        own = dict(options.get(self._provider, {}))
        if "cachePoint" in own and not self._facts.cache_points:
            del own["cachePoint"]
            self._warnings.mended("cache point", "this model does not accept cache points; left out")
        return own

    @staticmethod
    def _blocks(options: dict[str, Any]) -> list[dict[str, Any]]:
        """Return options as blocks. A list of added or removed tools becomes one block for each tool."""
        return [
            {key: item}
            for key, value in options.items()
            for item in (value if key in _TOOL_CHANGES and isinstance(value, (list, tuple)) else [value])
        ]

    def _marked(self, blocks: list[dict[str, Any]], lifetime: CacheLifetime | None) -> list[dict[str, Any]]:
        """Return the blocks of a part with a mark for a cache point, unless they have a cache point."""
        if lifetime is None or not blocks or "cachePoint" in blocks[-1]:
            return blocks
        if not self._facts.cache_points:
            self._warnings.mended("cache", "this model does not cache prompts; ignored")
            return blocks
        self.cached = True
        return [*blocks, *mark(lifetime)]

    def _system(self, message: Message) -> None:
        blocks: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, Text):
                blocks += self._text(part)
            elif isinstance(part, Opaque):
                blocks += self._opaque(part)
            elif isinstance(part, (Image, Document, Audio, Reasoning)):
                kind = type(part).__name__.lower()
                self._warnings.add("left_out", kind, "Converse accepts only text in a system message", lossy=True)
        blocks += self._blocks(self._options(message.provider_options))
        if _changes_tools(message, self._provider) or (self._facts.system == "anywhere" and self.messages):
            self._late += blocks
            return
        if self.messages:
            self._warnings.mended(
                "system message", "a system message in the middle of the conversation was moved to the front"
            )
        self.system += blocks

    def _add_late(self) -> None:
        """Add a system message where Claude accepts one: after the user's message and before an answer.

        A system message after an answer becomes a user message (Anthropic's page "Mid-conversation system messages",
        November 2026).
        """
        blocks, self._late = self._late, []
        if not blocks:
            return
        after_user = bool(self.messages) and self.messages[-1]["role"] == "user"
        if after_user or any(name in block for block in blocks for name in _TOOL_CHANGES):
            self.messages.append({"role": "system", "content": blocks})
            return
        self._warnings.mended("system message", "a system message cannot follow an answer; sent as a user message")
        self._add("user", blocks, None)

    def _text(self, part: Text) -> list[dict[str, Any]]:
        """Return the block of a text, guarded if its options say so, and those of its other options (a cache point)."""
        options = self._options(part.provider_options) if part.provider_options else {}
        blocks: list[dict[str, Any]] = []
        guard = options.pop("guardContent", None)
        if guard is not None and part.text:
            blocks.append(
                {"guardContent": {"text": {"text": part.text, **(guard if isinstance(guard, Mapping) else {})}}}
            )
        elif part.text.strip():
            blocks.append({"text": part.text})
        if part.refusal and part.text:
            self._warnings.add("changed", "refusal", "Converse has no refusals; sent as plain text", lossy=False)
        return self._marked(blocks + self._blocks(options) if options else blocks, part.cache)

    def _part(self, part: Part) -> list[dict[str, Any]]:
        if isinstance(part, Text):
            return self._text(part)
        if isinstance(part, (Image, Document, Audio)):
            block = self._media.block(part)
            blocks = self._with_options(block, part.provider_options) if block is not None else []
            return blocks if isinstance(part, Audio) else self._marked(blocks, part.cache)
        return self._opaque(part) if isinstance(part, Opaque) else []

    def _opaque(self, part: Opaque) -> list[dict[str, Any]]:
        if part.kind.startswith(UNKNOWN):
            self._warnings.mended("opaque part", "a block of unknown form cannot be sent back; left out")
            return []
        if part.kind == "cachePoint" and not self._facts.cache_points:
            return self._blocks(self._options({self._provider: {"cachePoint": part.data.get("cachePoint")}}))
        call = part.data.get(part.kind)
        if part.kind == "toolUse" and isinstance(call, Mapping) and isinstance(name := call.get("name"), str):
            self.system_tools.setdefault(name)
        # A block in a request may have only one field, which names its kind. The other fields are from the response.
        return [{part.kind: part.data[part.kind]} if part.kind in part.data else dict(part.data)]

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
        calls: list[dict[str, Any]] = []
        apart = self._facts.tools and self._facts.tool_turns == "alone"
        for part in turn.message.parts:
            if isinstance(part, ToolCall):
                (calls if apart else content).extend(self._call(part))
            elif isinstance(part, Reasoning):
                content += self._reasoning(part)
            elif isinstance(part, Text):
                content += self._cited(part)
            elif isinstance(part, Audio):
                content += self._spoken(part)
            elif not isinstance(part, (Citation, ToolResult)):
                content += self._part(part)
        if calls and content:
            self._add("assistant", content, None)
            self._add("user", [{"text": GO_ON}], None)
            why = f"tool calls must be alone in a message; the user message {GO_ON!r} was inserted before them"
            self._warnings.mended("messages", why)
        self._add("assistant", calls or content, turn.message)
        results = [block for result in turn.results for block in self._result(result)]
        if results:
            self._add("user", results, None)

    def _cited(self, part: Text) -> list[dict[str, Any]]:
        citations = part.provider_metadata.get(self._provider, {}).get("citations")
        if not part.text.strip() or not isinstance(citations, (list, tuple)) or self._options(part.provider_options):
            return self._text(part)
        block = {"citationsContent": {"content": [{"text": part.text}], "citations": list(citations)}}
        return self._marked([block], part.cache)

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
        blocks: list[dict[str, Any]] = []
        if part.text or part.signature is not None:
            reasoning: dict[str, Any] = {"text": part.text, **self._unknown_fields(part)}
            if part.signature is not None:
                reasoning["signature"] = part.signature
            blocks.append({"reasoningContent": {"reasoningText": reasoning}})
        if part.encrypted is not None:
            encrypted = part.encrypted
            if part.provider != self._provider:  # Anthropic sends text; Converse has bytes, which are base64 in JSON
                encrypted = b64encode(encrypted.encode("utf-8", "surrogatepass")).decode()
            blocks.append({"reasoningContent": {"redactedContent": encrypted}})
        return blocks + self._blocks(self._options(part.provider_options))

    def _unknown_fields(self, part: Reasoning | ToolCall) -> dict[str, Any]:
        """Return the unknown fields that the provider sent inside the block of a part."""
        fields = part.provider_metadata.get(self._provider, {})
        return {name: value for name, value in fields.items() if name != "block"}

    def _call(self, call: ToolCall) -> list[dict[str, Any]]:
        if not self._facts.tools:
            self._tools_as_text()
            return [{"text": f"[Call of the tool {call.name}: {call.arguments_json}]"}]
        self.tool_names.setdefault(call.name)
        block = {"toolUseId": call.id, "name": call.name, "input": call.arguments, **self._unknown_fields(call)}
        return self._with_options({"toolUse": block}, call.provider_options)

    def _tools_as_text(self) -> None:
        # "This model doesn't support tool use."
        self._warnings.mended(
            "tool call", "this model cannot call tools; calls and results in the history were sent as text"
        )

    def _failed(self, call_id: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        if self._facts.result_status:
            return {"toolUseId": call_id, "content": content, "status": "error"}
        why = "this model does not support the error status; 'Error:' was put before the result"
        self._warnings.add("changed", "tool result", why, lossy=False)
        return {"toolUseId": call_id, "content": [{"text": "Error:"}, *content]}

    def _result(self, result: ToolResult) -> list[dict[str, Any]]:
        if not self._facts.tools:
            failed = "Error of" if result.is_error else "Result of"
            media = [block for part in result.parts if not isinstance(part, Text) for block in self._part(part)]
            text = result.text if media else result.text or left_out_note(result.parts)
            return [{"text": f"[{failed} the tool {result.name}: {text}]"}, *media]
        call_id = result.tool_call_id
        content = [block for part in result.parts for block in self._result_part(part)]
        if not content and (note := left_out_note(result.parts)):
            content = self._result_part(Text(text=note))
        inner = self._failed(call_id, content) if result.is_error else {"toolUseId": call_id, "content": content}
        if not inner["content"]:
            # Several models refuse an empty list.
            inner["content"] = [{"json": {}} if self._facts.json_results else {"text": "(no output)"}]
        # A result cannot contain a cache point, so that of one of its parts follows the result.
        lifetime = result_lifetime(result)
        return self._marked(self._with_options({"toolResult": inner}, result.provider_options), lifetime)

    def _result_part(self, part: ToolResultPart) -> list[dict[str, Any]]:
        if isinstance(part, Text):
            if not part.text.strip():
                return []
            return [{"json": _as_object(part.text)}] if self._facts.json_results else [{"text": part.text}]
        if isinstance(part, Opaque):
            return self._opaque(part)
        block = self._media.block(part)
        if block is None:
            return []
        kind = next(iter(block))
        if kind not in _RESULT_BLOCKS or (kind == "video" and kind not in self._facts.result_media):
            self._warnings.add("left_out", kind, "not supported in a tool result; left out", lossy=True)
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
