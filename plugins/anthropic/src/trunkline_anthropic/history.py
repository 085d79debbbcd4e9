"""The conversation in the order that the API demands. Pure.

The API's rules: the system prompt is separate from the messages; the first message is the user's; the roles alternate;
every tool call of a turn is answered at the start of the next turn; the ids of calls are unique and consist of letters,
digits, `_` and `-`; thinking is only accepted with the signature that this provider gave it. History that breaks a rule
is mended, with a warning, rather than refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import attrs
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

from trunkline_anthropic.content import Content, plain

_ID = re.compile(r"[A-Za-z0-9_-]+")
_THINKING = ("thinking", "redacted_thinking")
_NO_RESULT = "No result of this call is known."
_OPENING = "(The conversation goes on.)"


@attrs.define
class _Call:
    """A tool call: the id that is sent for it, and its results."""

    id: str
    results: list[ToolResult] = attrs.field(factory=list)


class History:
    """Translates the messages of one request into `system` and `messages`."""

    def __init__(self, provider: str, warnings: Warnings, *, takes_documents: bool = False) -> None:
        self.system: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self._content = Content(provider, warnings)
        self._provider = provider
        self._warnings = warnings
        self._takes_documents = takes_documents
        self._calls: dict[tuple[int, int], _Call] = {}

    def translate(self, messages: tuple[Message, ...]) -> None:
        """Fill `system` and `messages`. Raises `InvalidRequest` for a conversation that cannot be sent."""
        self._pair(messages)
        for position, message in enumerate(messages):
            if message.name is not None:
                self._warnings.add(
                    "left_out", "message name", "the API does not accept names of participants", lossy=True
                )
            if message.role == "system":
                self._system(message)
            elif message.role == "user":
                self._append("user", self._message_options(message, self._user(message)))
            elif message.role == "assistant":
                self._assistant(position, message)
        self._complete()

    def _pair(self, messages: tuple[Message, ...]) -> None:
        """Give every call a unique id, and assign each result to the nearest unanswered call before it."""
        open_calls: dict[str, list[_Call]] = {}
        used: set[str] = set()
        for position, message in enumerate(messages):
            results = [part for part in message.parts if isinstance(part, ToolResult)]
            if message.role == "tool" and len(results) != len(message.parts):
                raise InvalidRequest("a tool message may contain only ToolResult parts")
            for number, result in enumerate(results):
                is_last = message.role == "tool" and number == len(results) - 1
                self._give(result, message if is_last else None, open_calls)
            fresh: dict[str, list[_Call]] = {}
            for place, part in enumerate(message.parts):
                if isinstance(part, ToolCall):
                    call = self._calls[position, place] = _Call(_wire_id(part.id, used))
                    fresh.setdefault(part.id, []).append(call)
            open_calls.update(fresh)

    def _give(self, result: ToolResult, message: Message | None, open_calls: dict[str, list[_Call]]) -> None:
        calls = open_calls.get(result.tool_call_id)
        if calls is None:
            cause = "no tool call before this result has the id"
            why = f"{cause} {result.tool_call_id!r}; keep the two together"
            self._warnings.add("left_out", "tool result", why, lossy=False, cause=cause)
            return
        if message is not None and message.provider_options:
            options = {
                **self._content.options(message.provider_options),
                **self._content.options(result.provider_options),
            }
            result = attrs.evolve(result, provider_options={self._provider: options})
        call = next((call for call in calls if not call.results), calls[-1])
        call.results.append(result)

    def _system(self, message: Message) -> None:
        options = dict(self._content.options(message.provider_options))
        in_place = options.pop("role", None) == "system"
        blocks: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, (Text, Opaque)):
                blocks += self._content.blocks(part)
            elif isinstance(part, (Image, Document, Audio, Reasoning)):
                self._content.left_out(part, "the API accepts only text in a system message")
            elif isinstance(part, ToolCall):
                raise InvalidRequest("a system message cannot contain a tool call; put it in an assistant message")
        if blocks and options:
            blocks[-1] = {**blocks[-1], **options}
        if in_place and self.messages:
            self._append("system", blocks)
            return
        if self.messages and blocks:
            self._warnings.add(
                "changed",
                "system message",
                "a system message in the middle of the conversation was moved to the system prompt; if the model "
                f"accepts it there, set the message's provider_options[{self._provider!r}] to {{'role': 'system'}}",
                lossy=False,
            )
        self.system += blocks

    def _user(self, message: Message) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, ToolCall):
                raise InvalidRequest("a user message cannot contain a tool call; put it in an assistant message")
            if isinstance(part, Reasoning):
                self._content.left_out(part, "a user message cannot contain reasoning")
            blocks += self._content.blocks(part)
        return blocks

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

    def _assistant(self, position: int, message: Message) -> None:
        blocks: list[dict[str, Any]] = []
        calls: list[_Call] = []
        for place, part in enumerate(message.parts):
            if isinstance(part, ToolCall):
                call = self._calls[position, place]
                calls.append(call)
                blocks.append(self._call(part, call.id))
            else:
                blocks += self._assistant_part(part)
        self._append("assistant", self._message_options(message, blocks))
        self._append("user", [self._result(call) for call in calls])

    def _assistant_part(self, part: Part) -> list[dict[str, Any]]:
        if isinstance(part, Text):
            return self._own_text(part)
        if isinstance(part, Reasoning):
            return self._reasoning(part)
        if isinstance(part, Image) or (isinstance(part, Document) and not self._takes_documents):
            self._content.left_out(part, "the API does not accept media in assistant messages")
            return []
        return [] if isinstance(part, Citation) else self._content.blocks(part, by_model=True)

    def _own_text(self, part: Text) -> list[dict[str, Any]]:
        if part.refusal:
            why = "the API has no refusals; sent as plain text"
            self._warnings.add("changed", "refusal", why, lossy=False)
        blocks = self._content.blocks(part)
        citations = self._content.options(part.provider_metadata).get("citations")
        if blocks and blocks[0].get("type") == "text" and isinstance(citations, (list, tuple)) and citations:
            # Responses have a `file_id`, which requests must not have.
            kept = [
                {name: value for name, value in citation.items() if name != "file_id"}
                for citation in citations
                if isinstance(citation, dict)
            ]
            blocks[0].setdefault("citations", kept)
        return blocks

    def _reasoning(self, part: Reasoning) -> list[dict[str, Any]]:
        if part.provider_options.get(self._provider):
            self._warnings.add(
                "left_out",
                "provider_options",
                "reasoning must be sent back unmodified, so its options were left out",
                lossy=True,
            )
        if part.provider == self._provider and part.encrypted is not None:
            return [{"type": "redacted_thinking", "data": part.encrypted}]
        if part.provider == self._provider and part.signature:
            return [{"type": "thinking", "thinking": part.text, "signature": part.signature}]
        why = "reasoning of the history was left out: it is from another provider or has no signature"
        self._warnings.add("left_out", "reasoning", why, lossy=False)
        return []

    def _call(self, part: ToolCall, call_id: str) -> dict[str, Any]:
        arguments = dict(part.arguments)
        if part.invalid_arguments is not None:
            why = "arguments that are not a JSON object were sent inside one, as 'invalid_arguments'"
            self._warnings.add("changed", f"tool call {part.name}", why, lossy=False)
            arguments = {"invalid_arguments": part.invalid_arguments}
        kept = self._content.options(part.provider_metadata)
        block = {**kept, "type": "tool_use", "id": call_id, "name": part.name, "input": arguments}
        return self._content.block_with_options(block, part.provider_options)

    def _result(self, call: _Call) -> dict[str, Any]:
        if call.results:
            return self._content.tool_result(call.id, call.results)
        why = "the API requires a result for each call; an error was sent for a call that has none"
        self._warnings.add("emulated", "tool result", why, lossy=False)
        return {"type": "tool_result", "tool_use_id": call.id, "is_error": True, "content": _NO_RESULT}

    def _append(self, role: str, blocks: Iterable[dict[str, Any]]) -> None:
        blocks = list(blocks)
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks})

    def _complete(self) -> None:
        self._strip_end()
        if not self.messages:
            raise InvalidRequest("the conversation has no user message with content, which the API requires")
        if self.messages[0]["role"] == "assistant":
            self.messages.insert(0, {"role": "user", "content": [{"type": "text", "text": _OPENING}]})
            why = f"the API requires a user message first; {_OPENING!r} was inserted"
            self._warnings.add("emulated", "messages", why, lossy=False)
        for message in self.messages:
            message["content"] = plain(message["content"])

    def _strip_end(self) -> None:
        """Remove trailing white space from an assistant message that the model is to continue: the API refuses it."""
        last = self.messages[-1] if self.messages else None
        if last is None or last["role"] != "assistant" or last["content"][-1].get("type") != "text":
            return
        text = last["content"][-1]["text"]
        if isinstance(text, str) and text != text.rstrip():
            last["content"][-1]["text"] = text.rstrip()
            self._warnings.add(
                "changed", "messages", "trailing white space was removed from the final assistant message", lossy=False
            )


def _wire_id(call_id: str, used: set[str]) -> str:
    """Return an id that the API accepts and that is not in `used`: the call's own id if possible, else a hash of it."""
    found, number = call_id, 0
    while not _ID.fullmatch(found) or found in used:
        number += 1
        found = "call_" + sha256(f"{number}:{call_id}".encode("utf-8", "surrogatepass")).hexdigest()[:24]
    used.add(found)
    return found
