"""The conversation in the order that the API demands. Pure.

`authoring.replay` changes a conversation to follow the API's rules, which `rules_for` returns. This module renders the
result. The system prompt is separate from the messages. The results of a turn's tool calls are at the start of the
user message after it. Neighbouring turns of one role become one message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from trunkline.authoring.replay import OPENING, Issuer, ReplayRules, Turn, lacks_reasoning, replay
from trunkline.authoring.warnings import Warnings
from trunkline.errors import InvalidRequest
from trunkline.messages import Audio, Citation, Document, Image, Message, Opaque, Part, Reasoning, Text, ToolCall

from trunkline_anthropic.content import Content, plain
from trunkline_anthropic.model_facts import AnthropicFacts

GO_ON = "Continue."
"""The user message that is added after a final assistant message, for models that do not continue such a message."""

PLACEHOLDER = " "
"""The placeholder for required thinking that is missing. Some servers refuse an empty text."""

_THINKING = ("thinking", "redacted_thinking")

CLAUDE_PROVIDERS = ("anthropic", "bedrock", "vertex", "anthropic-aws", "azure-anthropic", "anthropic-google-cloud")
"""The providers whose Claude models accept each other's signatures.

Source: platform.claude.com, build-with-claude/extended-thinking, preserving thinking blocks (2026-11): signatures are
compatible across the Claude API, Amazon Bedrock and Google Cloud. That this includes the Claude Platform on AWS and
Azure's Foundry is a conclusion, since Anthropic itself runs these models.
"""


def claude_issuers(provider: str) -> tuple[Issuer, ...]:
    """Return the other issuers whose signatures a Claude model of this provider accepts."""
    return tuple(Issuer(provider=name, family="claude") for name in CLAUDE_PROVIDERS if name != provider)


def rules_for(provider: str, facts: AnthropicFacts, family: str | None, *, takes_documents: bool) -> ReplayRules:
    """Return the history rules of a model. `takes_documents` is whether assistant messages may have documents."""
    return ReplayRules(
        provider=provider,
        family=family,
        # docs: build-with-claude/extended-thinking, preserving thinking blocks (2026-11)
        reasoning="signed" if facts.signed_thinking else "own",
        issuers=claude_issuers(provider) if family == "claude" else (),
        # tailcallhq/forgecode#2107 (2025-12): "The final block in an assistant message cannot be `thinking`."
        trailing_reasoning=False,
        # vercel/ai#13013 (2026-03), anomalyco/opencode#7002 (2026-01): text after a call counts as a missing result
        calls_last=True,
        # anomalyco/opencode#1279 (2025-07): "String should match pattern '^[a-zA-Z0-9_-]+$'"; ids are unique
        call_ids=r"[A-Za-z0-9_-]+",
        # docs: api/messages, tools.name (2026-11)
        tool_names=r"[A-Za-z0-9_-]{1,128}",
        # home-assistant/core#175637 (2026-07): "text content blocks must contain non-whitespace text"
        blank_text=False,
        # tailcallhq/forgecode#1872 (2025-11): "final assistant content cannot end with trailing whitespace"
        trailing_space=False,
        # docs: api/versioning, 2026-10-21: no documents in assistant messages
        answer_media=(Document,) if takes_documents else (),
        # docs: api/messages, messages: "first message must use the "user" role"
        starts_with_user=True,
    )


class History:
    """Renders the messages of one request as `system` and `messages`."""

    def __init__(self, rules: ReplayRules, facts: AnthropicFacts, warnings: Warnings) -> None:
        self.system: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.lacks_thinking: bool = False
        """Whether the answer continues a tool loop that began without thinking."""
        self._rules = rules
        self._facts = facts
        self._content = Content(rules.provider, warnings)
        self._provider = rules.provider
        self._warnings = warnings

    @property
    def cached(self) -> bool:
        """Whether a block has a cache breakpoint."""
        return self._content.cached

    def translate(self, messages: tuple[Message, ...], *, thinks: bool = True) -> None:
        """Fill `system`, `messages` and `lacks_thinking`. `thinks` is whether the model may think in its answer.

        Raises `InvalidRequest` for a conversation that cannot be sent.
        """
        turns = replay(messages, self._rules, self._warnings)
        self.lacks_thinking = not self._facts.thinking_on_tool_turns and lacks_reasoning(turns)
        for place, turn in enumerate(turns):
            message = turn.message
            if message.name is not None:
                self._warnings.add(
                    "left_out", "message name", "the API does not accept names of participants", lossy=True
                )
            if message.role == "system":
                self._system(message, turns[place + 1 :])
            elif message.role == "user":
                self._append("user", self._message_options(message, self._blocks(message)))
            elif message.role == "assistant":
                self._assistant(turn, thinks=thinks)
        self._complete()

    def _system(self, message: Message, following: Sequence[Turn]) -> None:
        options = dict(self._content.options(message.provider_options))
        in_place = options.pop("role", None) == "system" or self._may_stay(following)
        blocks: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, (Text, Opaque)):
                blocks += self._content.blocks(part)
            elif isinstance(part, (Image, Document, Audio)):
                self._content.left_out(part, "the API accepts only text in a system message")
        if blocks and options:
            blocks[-1] = {**blocks[-1], **options}
        if in_place and self.messages:
            self._append("system", blocks)
            return
        if self.messages and blocks:
            self._warnings.mended(
                "system message",
                "a system message in the middle of the conversation was moved to the system prompt; if the model "
                f"accepts it there, set the message's provider_options[{self._provider!r}] to {{'role': 'system'}}",
            )
        self.system += blocks

    def _may_stay(self, following: Sequence[Turn]) -> bool:
        """Whether a system message may stay in place: after a user message, and before an answer or at the end."""
        # docs: build-with-claude/mid-conversation-system-messages (2026-11)
        if not self._facts.system_messages or not self.messages or self.messages[-1]["role"] == "assistant":
            return False
        role = next((turn.message.role for turn in following if turn.message.role != "system"), "assistant")
        return role == "assistant"

    def _blocks(self, message: Message) -> list[dict[str, Any]]:
        return [block for part in message.parts for block in self._content.blocks(part)]

    def _message_options(self, message: Message, blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Merge the message's options into its last block that can have options (thinking cannot)."""
        options = self._content.options(message.provider_options)
        if options:
            fitting = [at for at, block in enumerate(blocks) if block.get("type") not in _THINKING]
            if fitting:
                blocks[fitting[-1]] = {**blocks[fitting[-1]], **options}
            else:
                why = "the message has no block that can have options"
                self._warnings.add("left_out", "provider_options", why, lossy=True)
        return blocks

    def _assistant(self, turn: Turn, *, thinks: bool) -> None:
        message = turn.message
        blocks = [block for part in message.parts for block in self._assistant_part(part)]
        if thinks and turn.results and self._facts.thinking_on_tool_turns:
            blocks = self._with_thinking(blocks)
        self._append("assistant", self._message_options(message, blocks))
        self._append("user", [self._content.tool_result(result) for result in turn.results])

    def _with_thinking(self, blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(block.get("type") in _THINKING for block in blocks):
            return blocks
        why = "this model requires thinking before tool calls; blank thinking was sent for a turn without thinking"
        self._warnings.mended("reasoning", why)
        return [{"type": "thinking", "thinking": PLACEHOLDER, "signature": ""}, *blocks]

    def _assistant_part(self, part: Part) -> list[dict[str, Any]]:
        if isinstance(part, Text):
            return self._own_text(part)
        if isinstance(part, Reasoning):
            return self._reasoning(part)
        if isinstance(part, ToolCall):
            return [self._call(part)]
        return [] if isinstance(part, Citation) else self._content.blocks(part, by_model=True)

    def _own_text(self, part: Text) -> list[dict[str, Any]]:
        if part.refusal:
            why = "the API has no refusals; sent as plain text"
            self._warnings.mended("refusal", why)
        blocks = self._content.blocks(part)
        kept = self._content.options(part.provider_metadata)
        if not blocks or blocks[0].get("type") != "text":
            return blocks
        # Options of the application take precedence over fields of the model's answer.
        block = {**{name: value for name, value in kept.items() if name != "citations"}, **blocks[0]}
        citations = kept.get("citations")
        if isinstance(citations, (list, tuple)) and citations:
            # Responses have a `file_id`, which requests must not have.
            cited = [
                {name: value for name, value in citation.items() if name != "file_id"}
                for citation in citations
                if isinstance(citation, dict)
            ]
            block.setdefault("citations", cited)
        return [block]

    def _reasoning(self, part: Reasoning) -> list[dict[str, Any]]:
        if part.provider_options.get(self._provider):
            self._warnings.add(
                "left_out",
                "provider_options",
                "reasoning must be sent back unmodified, so its options were left out",
                lossy=True,
            )
        kept = self._content.options(part.provider_metadata)
        if part.encrypted is None:
            return [{**kept, "type": "thinking", "thinking": part.text, "signature": part.signature or ""}]
        if part.provider == self._provider:
            return [{**kept, "type": "redacted_thinking", "data": part.encrypted}]
        # Amazon Bedrock encodes encrypted thinking in its own way.
        why = "encrypted reasoning of another provider was left out"
        self._warnings.mended("reasoning", why)
        return []

    def _call(self, part: ToolCall) -> dict[str, Any]:
        kept = self._content.options(part.provider_metadata)
        block = {**kept, "type": "tool_use", "id": part.id, "name": part.name, "input": dict(part.arguments)}
        return self._content.block_with_options(block, part.provider_options)

    def _append(self, role: str, blocks: Iterable[dict[str, Any]]) -> None:
        blocks = list(blocks)
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks})

    def _complete(self) -> None:
        if not self.messages:
            raise InvalidRequest("the conversation has no user message with content, which the API requires")
        if self.messages[0]["role"] == "assistant":
            # The earlier user messages had no content that the API accepts.
            self.messages.insert(0, {"role": "user", "content": [{"type": "text", "text": OPENING}]})
            why = f"a user message must come first; {OPENING!r} was inserted"
            self._warnings.mended("messages", why)
        last = self.messages[-1]
        # The model continues a paused turn of a server tool, and a compaction, from the assistant message.
        if last["role"] == "assistant" and not self._facts.prefill and _is_answer(last["content"]):
            self._append("user", [{"type": "text", "text": GO_ON}])
            why = f"this model does not continue an assistant message; the user message {GO_ON!r} was added"
            self._warnings.mended("messages", why)
        for message in self.messages:
            message["content"] = plain(message["content"])


def _is_answer(blocks: Iterable[dict[str, Any]]) -> bool:
    return all(block.get("type") in ("text", *_THINKING) for block in blocks)
