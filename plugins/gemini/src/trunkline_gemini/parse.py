"""Parse the responses of generateContent: one body, or a stream of server-sent events.

Each event contains a complete `GenerateContentResponse` with the next piece of the response. Parsing does no I/O.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import attrs
from trunkline.authoring.event_builder import EventBuilder
from trunkline.authoring.framing import SSEFrame, SSEOrJSONFramer
from trunkline.authoring.http_errors import error_from_json, error_from_response
from trunkline.authoring.json import ProviderOptions, as_list, as_object, as_string, decode_object
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.messages import Audio, Citation, Document, Image, Opaque
from trunkline.response import CallWarning, ChatResponse, FinishReason
from trunkline.settings import Settings

from trunkline_gemini.errors import error_from_body
from trunkline_gemini.usage import usage_from

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
"""The finish reasons; any other becomes `FinishReason.OTHER`."""

_NUMBERS = ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER")
"""The finish reasons by number, as some proxies send them (recording 5b45c414d069354d). Later ones differ by API."""

_UNSPECIFIED = ("", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED")


class GeminiParser:
    """Parses the responses of one service."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    def stream(self) -> tuple[SSEOrJSONFramer, GeminiStream]:
        """Return a new framer and parser for one stream."""
        return SSEOrJSONFramer(), GeminiStream(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """Return the response of a call that was not streamed. Raises `ProtocolViolation` without a candidate."""
        data = decode_object(wire_response.body, "the body", provider=self._provider)
        parser = GeminiStream(self._provider)
        events = [*parser.chunk(data), *parser.end_of_body(data)]
        return attrs.evolve(fold(events, self._provider), raw=data)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error of a response with an error status."""
        return error_from_response(wire_response, provider=self._provider, read=error_from_body)


class GeminiStream:
    """Turns the chunks of one stream into events.

    A finish reason completes the stream; it has no other end marker. There is one exception: when the model runs code,
    the chunk that ends with the code also has a finish reason, although the code's result and the rest of the response
    follow (recordings 04a59751d29d53f7, f32e2446a758532a). That finish reason is ignored.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._builder = EventBuilder(provider)
        self._calls = 0
        self._ended_with_code = False

    def feed(self, frame: SSEFrame) -> list[Event]:
        """Return the events of one frame."""
        return self.chunk(decode_object(frame.data, "an event of the stream", provider=self._provider))

    def finish(self) -> list[Event]:
        """Raise `StreamInterrupted`: the stream ended before a finish reason."""
        raise StreamInterrupted("the stream ended before a finish reason", provider=self._provider)

    def chunk(self, data: dict[str, Any]) -> list[Event]:
        """Return the events of one `GenerateContentResponse`. Raises the error that it carries, if it does."""
        if data.get("error"):
            raise error_from_json(data, provider=self._provider, read=error_from_body)
        builder = self._builder
        builder.start(as_string(data.get("responseId")) or None, as_string(data.get("modelVersion")) or None)
        candidates = data.get("candidates")
        candidate = candidates[0] if isinstance(candidates, list) and candidates else {}
        if not isinstance(candidate, dict):
            raise ProtocolViolation("a candidate is not an object", provider=self._provider)
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        for part in as_list(parts):
            if not isinstance(part, dict):
                raise ProtocolViolation("a part of the response is not an object", provider=self._provider)
            self._part(part)
            self._ended_with_code = "executableCode" in part
        for citation in _citations(candidate, self._provider):
            builder.add(citation)
        # Each chunk of a stream repeats the usage so far; the last report counts.
        is_final = "finishReason" in candidate or not candidate
        builder.usage(usage_from(data.get("usageMetadata"), is_final=is_final))
        self._end(data, candidate)
        return builder.take()

    def end_of_body(self, data: dict[str, Any]) -> list[Event]:
        """Return the last events of a whole body, which may lack a finish reason but needs a candidate."""
        if self._builder.finished:
            return []
        if not data.get("candidates"):
            raise ProtocolViolation("the body has no candidate", provider=self._provider)
        self._builder.finish(FinishReason.OTHER)
        return self._builder.take()

    def _part(self, part: dict[str, Any]) -> None:
        signature = as_string(part.get("thoughtSignature")) or None
        metadata: ProviderOptions = {self._provider: {"thoughtSignature": signature}} if signature else {}
        if isinstance(call := part.get("functionCall"), dict):
            self._call(call, metadata)
        elif isinstance(part.get("inlineData"), dict):
            self._builder.add(self._media(part["inlineData"], metadata))
        elif isinstance(part.get("text"), str):
            if part.get("thought") is True:
                self._builder.reasoning(part["text"], signature=signature)
            else:
                self._builder.text(part["text"], metadata=metadata)
        else:
            # Parts that only Gemini understands, such as executableCode, are kept as they came and sent back.
            kind = next((key for key in part if key not in ("thought", "thoughtSignature")), "thoughtSignature")
            if part:
                self._builder.add(Opaque(provider=self._provider, kind=kind, data=part))

    def _call(self, call: dict[str, Any], metadata: ProviderOptions) -> None:
        name = call.get("name")
        if not isinstance(name, str) or not name:
            raise ProtocolViolation("the response calls a tool without a name", provider=self._provider)
        arguments = call.get("args")
        self._builder.tool_call(
            self._calls,
            call_id=as_string(call.get("id")) or None,
            name=name,
            arguments=arguments if arguments is not None else "",
            metadata=metadata,
        )
        self._calls += 1

    def _media(self, data: dict[str, Any], metadata: ProviderOptions) -> Image | Audio | Document:
        media_type = as_string(data.get("mimeType")) or None
        try:
            content = b64decode(as_string(data.get("data")) or "", validate=True)
        except ValueError:
            raise ProtocolViolation("the media in the response is not valid base64", provider=self._provider) from None
        kind = (media_type or "").partition("/")[0]
        part_type = Image if kind == "image" else Audio if kind == "audio" else Document
        return part_type(data=content, media_type=media_type, provider_metadata=metadata)

    def _end(self, data: dict[str, Any], candidate: dict[str, Any]) -> None:
        raw = _reason(candidate.get("finishReason"))
        feedback = as_object(data.get("promptFeedback"))
        blocked = as_string(feedback.get("blockReason")) or ""
        warnings: tuple[CallWarning, ...] = ()
        if raw not in _UNSPECIFIED:
            if self._ended_with_code and raw == "STOP":
                return
            reason = REASONS.get(raw, FinishReason.OTHER)
            if message := as_string(candidate.get("finishMessage")):
                warnings = (CallWarning(kind="other", subject="finish_reason", message=message, lossy=False),)
        elif blocked not in _UNSPECIFIED:
            # If the prompt is refused, there are no candidates at all.
            raw, reason = blocked, FinishReason.CONTENT_FILTER
            message = as_string(feedback.get("blockReasonMessage")) or "the prompt was refused"
            warnings = (CallWarning(kind="other", subject="prompt", message=message, lossy=False),)
        else:
            return
        self._builder.finish(reason, raw_reason=raw, warnings=warnings)


def _citations(candidate: dict[str, Any], provider: str) -> list[Citation]:
    metadata = as_object(candidate.get("citationMetadata"))
    # The API's first version called the field citationSources.
    sources = as_list(metadata.get("citations") or metadata.get("citationSources"))
    found = [
        Citation(
            url=as_string(source.get("uri")) or None,
            title=as_string(source.get("title")) or None,
            provider_metadata={provider: source},
        )
        for source in sources
        if isinstance(source, dict)
    ]
    for chunk in as_list(as_object(candidate.get("groundingMetadata")).get("groundingChunks")):
        web = chunk.get("web") or chunk.get("retrievedContext") if isinstance(chunk, dict) else None
        if isinstance(web, dict):
            found.append(
                Citation(
                    url=as_string(web.get("uri")) or None,
                    title=as_string(web.get("title")) or None,
                    cited_text=as_string(web.get("text")) or None,
                    provider_metadata={provider: {"groundingChunk": chunk}},
                )
            )
    return found


def _reason(value: object) -> str:
    if type(value) is int:
        return _NUMBERS[value] if 0 <= value < len(_NUMBERS) else str(value)
    return as_string(value) or ""
