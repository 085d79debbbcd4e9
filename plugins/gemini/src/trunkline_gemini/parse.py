"""Answers of generateContent: one body, or server-sent events that each hold a whole `GenerateContentResponse`."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, TypeAlias

import attrs
from trunkline.authoring.event_builder import EventBuilder
from trunkline.authoring.framing import SSEFrame, SSEOrJSONFramer
from trunkline.authoring.json import ProviderOptions, decode_object
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.messages import Audio, Citation, Document, Image, Opaque
from trunkline.response import CallWarning, ChatResponse, FinishReason, Usage
from trunkline.settings import Settings

from trunkline_gemini.errors import error_from, error_of

Data: TypeAlias = dict[str, Any]

_FILTERED = (
    "SAFETY RECITATION BLOCKLIST PROHIBITED_CONTENT SPII IMAGE_SAFETY IMAGE_PROHIBITED_CONTENT IMAGE_RECITATION "
    "MODEL_ARMOR ESCALATION"
)
_FAILED = (
    "MALFORMED_FUNCTION_CALL UNEXPECTED_TOOL_CALL TOO_MANY_TOOL_CALLS MISSING_THOUGHT_SIGNATURE MALFORMED_RESPONSE "
    "NO_IMAGE LANGUAGE PUP_LIMITED_DISABLED"
)
REASONS = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    **dict.fromkeys(_FILTERED.split(), FinishReason.CONTENT_FILTER),
    **dict.fromkeys(_FAILED.split(), FinishReason.ERROR),
}
"""What the finish reasons mean; every other is `other`."""

_NUMBERS = ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER")
"""The reasons by number, as some proxies write them (recording 5b45c414d069354d); the later ones differ by API."""

_UNSPECIFIED = ("", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED")


class GeminiParser:
    """Reads the answers of one service."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    def stream(self) -> tuple[SSEOrJSONFramer, GeminiStream]:
        """A fresh framer and parser, for one stream."""
        return SSEOrJSONFramer(), GeminiStream(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """The response of a call that was not streamed. Raises `ProtocolViolation` for one that never finished."""
        data = decode_object(wire_response.body, "the body", provider=self._provider)
        parser = GeminiStream(self._provider)
        events = [*parser.chunk(data), *parser.unfinished(data)]
        return attrs.evolve(fold(events, self._provider), raw=data)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """The error that a response with an error status tells of."""
        return error_of(wire_response, provider=self._provider)


class GeminiStream:
    """Turns the chunks of one stream into events. A finish reason completes it; there is no other terminator.

    Where the model runs code, a chunk that ends with the code has a finish reason too, though the code's result and
    the answer are still to come (recordings 04a59751d29d53f7, f32e2446a758532a): that one completes nothing.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._answer = EventBuilder(provider)
        self._calls = 0
        self._runs_code = False

    def feed(self, frame: SSEFrame) -> list[Event]:
        """The events of one frame."""
        return self.chunk(decode_object(frame.data, "an event of the stream", provider=self._provider))

    def finish(self) -> list[Event]:
        """The end of the file came before a finish reason: raises `StreamInterrupted`."""
        raise StreamInterrupted("the stream ended before a finish reason", provider=self._provider)

    def chunk(self, data: Data) -> list[Event]:
        """The events of one `GenerateContentResponse`. Raises the error that it holds."""
        if data.get("error"):
            raise error_from(data, provider=self._provider)
        answer = self._answer
        answer.start(_text(data.get("responseId")) or None, _text(data.get("modelVersion")) or None)
        candidates = data.get("candidates")
        candidate = candidates[0] if isinstance(candidates, list) and candidates else {}
        if not isinstance(candidate, dict):
            raise ProtocolViolation("a candidate is not an object", provider=self._provider)
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in parts if isinstance(parts, list) else []:
            if not isinstance(part, dict):
                raise ProtocolViolation("a part of the answer is not an object", provider=self._provider)
            self._part(part)
            self._runs_code = "executableCode" in part
        for citation in _citations(candidate, self._provider):
            answer.add(citation)
        # In a stream it is repeated, and grows; only the last counts.
        ends = "finishReason" in candidate or not candidate
        answer.usage(_usage(data.get("usageMetadata"), ends=ends))
        self._end(data, candidate)
        return answer.take()

    def unfinished(self, data: Data) -> list[Event]:
        """The end of a whole body whose candidate tells no finish reason. Raises `ProtocolViolation` without one."""
        if self._answer.finished:
            return []
        if not data.get("candidates"):
            raise ProtocolViolation("the body has no candidate", provider=self._provider)
        self._answer.finish(FinishReason.OTHER)
        return self._answer.take()

    def _part(self, part: Data) -> None:
        signature = _text(part.get("thoughtSignature")) or None
        metadata: ProviderOptions = {self._provider: {"thoughtSignature": signature}} if signature else {}
        if isinstance(call := part.get("functionCall"), dict):
            self._call(call, metadata)
        elif isinstance(part.get("inlineData"), dict):
            self._answer.add(self._media(part["inlineData"], metadata))
        elif isinstance(part.get("text"), str):
            if part.get("thought") is True:
                self._answer.reasoning(part["text"], signature=signature)
            else:
                self._answer.text(part["text"], metadata=metadata)
        else:
            kind = next((key for key in part if key not in ("thought", "thoughtSignature")), "thoughtSignature")
            if part:
                self._answer.add(Opaque(provider=self._provider, kind=kind, data=part))

    def _call(self, call: Data, metadata: ProviderOptions) -> None:
        name = call.get("name")
        if not isinstance(name, str) or not name:
            raise ProtocolViolation("the answer calls a tool without a name", provider=self._provider)
        arguments = call.get("args")
        self._answer.tool_call(
            self._calls,
            call_id=_text(call.get("id")) or None,
            name=name,
            arguments=arguments if arguments is not None else "",
            metadata=metadata,
        )
        self._calls += 1

    def _media(self, data: Data, metadata: ProviderOptions) -> Image | Audio | Document:
        media_type = _text(data.get("mimeType")) or None
        try:
            content = b64decode(_text(data.get("data")), validate=True)
        except ValueError:
            raise ProtocolViolation("the answer holds broken base64", provider=self._provider) from None
        kind = (media_type or "").partition("/")[0]
        made = Image if kind == "image" else Audio if kind == "audio" else Document
        return made(data=content, media_type=media_type, provider_metadata=metadata)

    def _end(self, data: Data, candidate: Data) -> None:
        raw = _reason(candidate.get("finishReason"))
        feedback = data.get("promptFeedback")
        blocked = _text(feedback.get("blockReason")) if isinstance(feedback, dict) else ""
        warnings: tuple[CallWarning, ...] = ()
        if raw not in _UNSPECIFIED:
            if self._runs_code and raw == "STOP":
                return
            reason = REASONS.get(raw, FinishReason.OTHER)
            if message := _text(candidate.get("finishMessage")):
                warnings = (CallWarning(kind="other", subject="finish_reason", message=message),)
        elif blocked not in _UNSPECIFIED:
            # A prompt that was refused has no candidates at all.
            raw, reason = blocked, FinishReason.CONTENT_FILTER
            message = _text(feedback.get("blockReasonMessage")) if isinstance(feedback, dict) else ""
            told = message or "the prompt was refused"
            warnings = (CallWarning(kind="other", subject="prompt", message=told),)
        else:
            return
        self._answer.finish(reason, raw_reason=raw, warnings=warnings)


def _citations(candidate: Data, provider: str) -> list[Citation]:
    metadata = candidate.get("citationMetadata")
    # The field had another name in the first version.
    sources = (metadata.get("citations") or metadata.get("citationSources")) if isinstance(metadata, dict) else None
    found = [
        Citation(
            url=_text(source.get("uri")) or None,
            title=_text(source.get("title")) or None,
            provider_metadata={provider: source},
        )
        for source in (sources if isinstance(sources, list) else [])
        if isinstance(source, dict)
    ]
    grounding = candidate.get("groundingMetadata")
    chunks = grounding.get("groundingChunks") if isinstance(grounding, dict) else None
    for chunk in chunks if isinstance(chunks, list) else []:
        web = chunk.get("web") or chunk.get("retrievedContext") if isinstance(chunk, dict) else None
        if isinstance(web, dict):
            found.append(
                Citation(
                    url=_text(web.get("uri")) or None,
                    title=_text(web.get("title")) or None,
                    cited_text=_text(web.get("text")) or None,
                    provider_metadata={provider: {"groundingChunk": chunk}},
                )
            )
    return found


def _reason(value: object) -> str:
    if type(value) is int:
        return _NUMBERS[value] if 0 <= value < len(_NUMBERS) else str(value)
    return _text(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _usage(value: object, *, ends: bool) -> Usage | None:
    """The usage, at the end or before it.

    `candidatesTokenCount` leaves thoughts out, `promptTokenCount` the prompts of hosted tools.
    """
    if not isinstance(value, dict) or not value:
        return None

    def count(name: str) -> int | None:
        told = value.get(name)
        return told if isinstance(told, int) and not isinstance(told, bool) and told >= 0 else None

    def total(*names: str) -> int | None:
        told = [counted for name in names if (counted := count(name)) is not None]
        return sum(told) if told else None

    output = total("candidatesTokenCount", "thoughtsTokenCount")
    return Usage(
        input_tokens=total("promptTokenCount", "toolUsePromptTokenCount"),
        output_tokens=output,
        # Before there is output it repeats the prompt's count.
        total_tokens=count("totalTokenCount") if ends or output is not None else None,
        cache_read_tokens=count("cachedContentTokenCount"),
        reasoning_tokens=count("thoughtsTokenCount"),
        raw=value,
    )
