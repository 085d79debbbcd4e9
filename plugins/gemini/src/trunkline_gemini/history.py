"""Translate the conversation into `contents`, the turns of `user` and `model`, and the system instruction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from trunkline.authoring.json import ProviderOptions, with_options
from trunkline.authoring.replay import OPENING, ReplayRules, left_out_note, replay
from trunkline.authoring.warnings import Warnings
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

from trunkline_gemini.model_facts import GeminiFacts
from trunkline_gemini.tool_names import wire_name

UNSIGNED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""`skip_thought_signature_validator` in base64: the signature that Google documents for parts of other models.

Source: https://ai.google.dev/gemini-api/docs/thought-signatures, November 2026.
"""

_MEDIA = (Image, Document, Audio)


def rules(provider: str, facts: GeminiFacts) -> ReplayRules:
    """Return the rules for the histories that a Gemini model accepts."""
    return ReplayRules(
        provider=provider,
        # A signature of another generation is refused or ignored:
        # https://ai.google.dev/gemini-api/docs/thought-signatures, November 2026.
        family=facts.family,
        # Ids are optional, and Gemini documents no pattern for them (google-genai 3.6.1, `FunctionCall.id`).
        call_ids=r"[!-~]{1,128}",
        # google-genai 3.6.1, `FunctionDeclaration.name`; older models accept 64 characters
        # (wonderwhy-er/DesktopCommanderMCP#79, 2025).
        # `tool_names` adds a prefix to names that begin with a digit or `-`.
        tool_names=r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}|[0-9-][A-Za-z0-9_.:-]{0,61}",
        # Models that make pictures return them in answers. Other models can read pictures in answers.
        answer_media=_MEDIA,
        # https://ai.google.dev/gemini-api/docs/function-calling#multimodal: pictures and documents, since Gemini 3.
        result_media=(Image, Document) if facts.result_media else (),
        # There is one system instruction, which is separate from the conversation.
        system="first",
        # `contents` must begin with a user turn. A turn with calls must follow a user turn or a turn with results:
        # "Please ensure that function call turn comes immediately after a user turn or after a function response turn".
        starts_with_user=True,
        # "Requests ending with a model turn are not supported." (Zoo-Code-Org/Zoo-Code#1052, July 2026).
        ends_with_answer=facts.ends_with_answer,
    )


def history(
    messages: Iterable[Message], provider: str, facts: GeminiFacts, warnings: Warnings
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the turns, and the parts of the system instruction."""
    renderer = _Renderer(provider, facts, warnings)
    contents: list[dict[str, Any]] = []
    system: list[dict[str, Any]] = []
    for turn in replay(messages, rules(provider, facts), warnings):
        message = turn.message
        renderer.check_fields(message)
        if message.role == "system":
            system += ({"text": text} for text in renderer.system(message) if text)
            continue
        by_model = message.role == "assistant"
        parts = renderer.parts(_complete_pairs(message.parts, warnings))
        if by_model and contents and contents[-1]["role"] == "model":
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": "model" if by_model else "user", "parts": parts})
        if turn.results:
            # The API refuses results next to other parts, and requires one result for each call: "Please ensure that
            # the number of function response parts is equal to the number of function call parts" (gemini-cli#16543).
            contents.append({"role": "user", "parts": [renderer.result(result) for result in turn.results]})
    for content in contents:
        if content["role"] == "model":
            renderer.sign(content["parts"])
    if system and not facts.system_instruction:
        warnings.add(
            "changed", "system message", "this model has no system instruction; sent as a user message", lossy=False
        )
        contents[:0] = [{"role": "user", "parts": system}]
        system = []
    if not contents:
        warnings.mended("messages", f"Gemini needs a user message; {OPENING!r} was inserted")
        contents.append({"role": "user", "parts": [{"text": OPENING}]})
    return contents, system


_PAIRS = {"executableCode": "codeExecutionResult", "toolCall": "toolResponse"}
"""Parts that are valid only as a pair: a call that Gemini runs itself, and its result."""


def _complete_pairs(parts: Sequence[Part], warnings: Warnings) -> Sequence[Part]:
    """Leave out hosted calls without a result, for example of an interrupted answer, and results without a call."""
    kinds = (*_PAIRS, *_PAIRS.values())
    hosted = [(at, part) for at, part in enumerate(parts) if isinstance(part, Opaque) and part.kind in kinds]
    if not hosted:
        return parts
    alone: set[int] = set()
    waiting: list[tuple[int, Opaque]] = []
    for at, part in hosted:
        if part.kind in _PAIRS:
            waiting.append((at, part))
            alone.add(at)
            continue
        calls = [one for one in waiting if _PAIRS[one[1].kind] == part.kind]
        call = next((one for one in calls if _hosted_id(one[1]) == _hosted_id(part)), None)
        if call is None:
            alone.add(at)
        else:
            waiting.remove(call)
            alone.discard(call[0])
    if alone:
        why = "a hosted call without a result, or a result without a hosted call, was left out"
        warnings.mended("opaque part", why)
    return [part for at, part in enumerate(parts) if at not in alone]


def _hosted_id(part: Opaque) -> object:
    data = part.data.get(part.kind)
    return data.get("id") if isinstance(data, dict) else None


class _Renderer:
    """Renders the parts of messages after `replay` has changed them."""

    def __init__(self, provider: str, facts: GeminiFacts, warnings: Warnings) -> None:
        self._provider = provider
        self._facts = facts
        self._warnings = warnings

    def check_fields(self, message: Message) -> None:
        """Warn about fields of a message that no turn has: a turn consists of its role and its parts."""
        if message.name is not None:
            self._warnings.add("left_out", "message name", "not supported by Gemini; ignored", lossy=True)
        if message.provider_options.get(self._provider):
            why = "Gemini's turns have no options; set provider_options of the message's parts"
            self._warnings.add("left_out", "provider_options", why, lossy=True)

    def system(self, message: Message) -> Iterable[str]:
        for part in message.parts:
            if isinstance(part, Text):
                yield part.text
            else:
                reason = "Gemini's system instruction accepts text only; left out"
                self._warnings.add("left_out", type(part).__name__.lower(), reason, lossy=True)

    def parts(self, parts: Iterable[Part]) -> list[dict[str, Any]]:
        rendered = []
        for part in parts:
            wire_part = self._part(part)
            if wire_part is not None:
                options = part.provider_options if isinstance(part, (Text, Reasoning, ToolCall, *_MEDIA)) else {}
                rendered.append(with_options(wire_part, options, self._provider))
        return rendered

    def _part(self, part: Part) -> dict[str, Any] | None:
        match part:
            case Text():
                wire_part = self._with_metadata({"text": part.text}, part.provider_metadata)
                return wire_part if part.text or len(wire_part) > 1 else None
            case Reasoning():
                thought: dict[str, Any] = {"text": part.text, "thought": True}
                if part.signature:
                    thought["thoughtSignature"] = part.signature
                return self._with_metadata(thought, part.provider_metadata)
            case ToolCall():
                call = {"id": part.id, "name": wire_name(part.name), "args": part.arguments}
                return self._with_metadata({"functionCall": call}, part.provider_metadata)
            case Image() | Document() | Audio():
                return self._with_metadata(self._media(part), part.provider_metadata)
            case Opaque():
                return dict(part.data)
        return None  # citations are not sent back

    def _with_metadata(self, wire_part: dict[str, Any], metadata: ProviderOptions) -> dict[str, Any]:
        """Add the fields that Gemini sent with a part, such as the signature."""
        for name, value in metadata.get(self._provider, {}).items():
            present = wire_part.get(name)
            if isinstance(present, dict) and isinstance(value, dict):
                wire_part[name] = {**value, **present}
            else:
                wire_part.setdefault(name, value)
        return wire_part

    def _media(self, part: Image | Document | Audio) -> dict[str, Any]:
        if part.data is not None:
            media_type = part.media_type or "application/octet-stream"
            if part.media_type is None:
                message = "the media type is unknown, which Gemini refuses; set media_type"
                self._warnings.add("other", type(part).__name__.lower(), message, lossy=False)
            media: dict[str, Any] = {"inlineData": {"mimeType": media_type, "data": part.base64}}
        else:
            media = {"fileData": {"fileUri": part.url or part.file_id}}
            if part.media_type is not None:
                media["fileData"]["mimeType"] = part.media_type
        if isinstance(part, Document) and part.name is not None:
            self._warnings.add("left_out", "document name", "not supported by Gemini; ignored", lossy=True)
        if isinstance(part, Image) and part.detail in ("low", "high"):
            media["mediaResolution"] = {"level": f"MEDIA_RESOLUTION_{part.detail.upper()}"}
        return media

    def sign(self, parts: list[dict[str, Any]]) -> None:
        """Add the placeholder signature to the parts of one answer that require a signature but have none.

        Only the first function call of a step has a signature. A picture without a signature is refused too
        (langchain-ai/langchain-google#1431), and models that make pictures refuse text without a signature
        (googleapis/js-genai#1116).
        """
        if self._facts.signatures == "none":
            return
        spoken = [part for part in parts if not part.get("thought")]
        needed = [part for part in spoken if "functionCall" in part][:1]
        needed += (part for part in spoken if "inlineData" in part or "fileData" in part)
        if self._facts.signatures == "answers" and not any("thoughtSignature" in part for part in parts):
            needed += spoken[:1]
        for part in needed:
            if "thoughtSignature" not in part:
                part["thoughtSignature"] = UNSIGNED
                why = "a part without a signature was sent with a placeholder, for which Gemini skips verification"
                self._warnings.mended("signature", why)

    def result(self, result: ToolResult) -> dict[str, Any]:
        response: dict[str, Any] = {"id": result.tool_call_id, "name": wire_name(result.name or "")}
        media = [self._media(part) for part in result.parts if isinstance(part, _MEDIA)]
        text = result.text if media else result.text or left_out_note(result.parts)
        response["response"] = {"error" if result.is_error else "output": text}
        if media:
            response["parts"] = [
                {key: value for key, value in item.items() if key != "mediaResolution"} for item in media
            ]
        for part in result.parts:
            if isinstance(part, Opaque):
                why = "Gemini accepts only text and media in tool results; left out"
                self._warnings.add("left_out", part.kind, why, lossy=True)
        return with_options({"functionResponse": response}, result.provider_options, self._provider)
