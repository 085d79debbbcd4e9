"""The conversation as Ollama's messages: a role, a text, pictures, thinking and tool calls each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from trunkline.authoring.tool_results import pair_turns
from trunkline.authoring.warnings import Warnings
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

JSON: TypeAlias = dict[str, Any]


class History:
    """Translates one conversation."""

    def __init__(self, provider: str, warnings: Warnings) -> None:
        self._provider = provider
        self._warnings = warnings

    def translate(self, messages: Iterable[Message]) -> list[JSON]:
        """The messages. What the wire cannot hold is left out, with a warning."""
        found: list[JSON] = []
        for turn in pair_turns(messages, self._warnings):
            if made := self._message(turn.message):
                found.append(made)
            for position, part in enumerate(turn.message.parts):
                if isinstance(part, ToolCall):
                    found += [self._result(part, result) for result in turn.results.get(position, ())]
        return found

    def _message(self, message: Message) -> JSON | None:
        if message.name is not None:
            self._warnings.add("left_out", "message name", "Ollama takes no names of participants")
        texts, images, thinking, calls = [], [], [], []
        for part in message.parts:
            match part:
                case Text():
                    texts.append(part.text)
                case ToolCall():
                    calls.append(self._call(part))
                case Reasoning() if part.provider == self._provider:
                    thinking.append(part.text)
                case _:
                    images += self._image(part)
        if not ("".join(texts) or images or thinking or calls):
            return None
        made: JSON = {"role": message.role, "content": "".join(texts)}
        if images:
            made["images"] = images
        if thinking:
            made["thinking"] = "".join(thinking)
        if calls:
            made["tool_calls"] = calls
        return {**made, **message.provider_options.get(self._provider, {})}

    def _call(self, call: ToolCall) -> JSON:
        if call.invalid_arguments is not None:
            told = f"the arguments of {call.name} are no JSON object; they were left out"
            self._warnings.add("changed", f"tool call {call.name}", told)
        return {"id": call.id, "function": {"name": call.name, "arguments": call.arguments}, **self._options(call)}

    def _result(self, call: ToolCall, result: ToolResult) -> JSON:
        text = "".join(self._texts(result.parts))
        if result.is_error:
            told = "Ollama has no mark for a failed tool: its text begins with 'Error: '"
            self._warnings.add("changed", "tool result", told)
            text = f"Error: {text}"
        made: JSON = {"role": "tool", "content": text, "tool_name": call.name, "tool_call_id": call.id}
        images = [image for part in result.parts if not isinstance(part, Text) for image in self._image(part)]
        if images:
            made["images"] = images
        return {**made, **self._options(result)}

    def _texts(self, parts: Sequence[Part]) -> Iterator[str]:
        return (part.text for part in parts if isinstance(part, Text))

    def _image(self, part: Part) -> list[str]:
        match part:
            case Image() if part.data is not None:
                if part.detail is not None:
                    self._warnings.add("unsupported", "image detail", "Ollama has no word for it; it was not sent")
                return [part.base64]
            case Image():
                told = "Ollama takes a picture's bytes alone; give data, or switch the setting fetch_urls on for a URL"
                self._warnings.add("left_out", "image", f"{told}; it was left out")
            case Document() | Audio():
                subject = type(part).__name__.lower()
                told = "turn it into text first" if isinstance(part, Document) else "write down what is said"
                self._warnings.add("left_out", subject, f"Ollama takes text and pictures; {told}; it was left out")
            case Reasoning():
                told = f"reasoning of {part.provider or 'another provider'} means nothing to Ollama; it was left out"
                self._warnings.add("left_out", "reasoning", told)
            case Opaque():
                told = f"a {part.kind} of {part.provider} means nothing to Ollama; it was left out"
                self._warnings.add("left_out", part.kind, told)
            case Citation() | Text() | ToolCall() | ToolResult():
                pass  # a citation belongs to the text before it; the others have places of their own
        return []

    def _options(self, part: ToolCall | ToolResult) -> Mapping[str, Any]:
        return part.provider_options.get(self._provider, {})
