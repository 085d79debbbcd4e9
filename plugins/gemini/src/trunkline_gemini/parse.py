"""Parse the responses of generateContent: one body, or a stream of server-sent events.

Each event contains a complete `GenerateContentResponse` with the next piece of the response. Parsing does no I/O.

Fields without a counterpart in Trunkline's types are kept under Gemini's names, both in streams and in bodies: fields
of a part in the `provider_metadata` of the part, and fields of a candidate or of the whole response in the
`provider_metadata` of the response.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import attrs
from trunkline.authoring.event_builder import EventBuilder
from trunkline.authoring.framing import SSEFrame, SSEOrJSONFramer
from trunkline.authoring.http_errors import error_from_json, error_from_response
from trunkline.authoring.json import (
    ProviderOptions,
    as_list,
    as_object,
    as_objects,
    as_string,
    bounded,
    decode_object,
    json_text,
)
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, StreamInterrupted, TrunklineError
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.messages import Audio, Document, Image, Opaque
from trunkline.response import CallWarning, ChatResponse, FinishReason, TokenLogprob
from trunkline.settings import Settings

from trunkline_gemini.errors import error_from_body
from trunkline_gemini.grounding import citations, joined_grounding
from trunkline_gemini.logprobs import logprobs_from
from trunkline_gemini.streamed_calls import StreamedCall
from trunkline_gemini.tool_names import tool_name
from trunkline_gemini.usage import later_counts, usage_from

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
    # The response reached the limit of one request. Another request can continue the response.
    "CONTINUATION": FinishReason.LENGTH,
    **dict.fromkeys(_FILTERED.split(), FinishReason.CONTENT_FILTER),
    **dict.fromkeys(_FAILED.split(), FinishReason.ERROR),
}
"""The finish reasons (google-genai 3.6.1, `FinishReason`); any other becomes `FinishReason.OTHER`."""

_NUMBERS = ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER")
"""The finish reasons by number, as some proxies send them (recording 5b45c414d069354d). Later ones differ by API."""

_UNSPECIFIED = ("", "FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED", "BLOCKED_REASON_UNSPECIFIED")

# The fields that Trunkline's types have. `createTime` repeats in each chunk, so only the first value is kept.
_CHUNK = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId", "createTime"})
_CANDIDATE = frozenset({"content", "finishReason", "finishMessage", "index"})
_CONTENT = frozenset({"parts", "role"})
_TEXT = frozenset({"text", "thought"})
_SIGNATURE = frozenset({"thoughtSignature", "thought"})
_CALL = frozenset({"id", "name", "args", "partialArgs", "willContinue"})
_MEDIA = frozenset({"mimeType", "data", "fileUri"})

_ERRORS = ("error", "errors", "message", "detail", "error_type")
"""The fields in which a gateway reports an error instead of a response."""


class GeminiParser:
    """Parses the responses of one service."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    def stream(self) -> tuple[SSEOrJSONFramer, GeminiStream]:
        """Return a new framer and parser for one stream."""
        return SSEOrJSONFramer(), GeminiStream(self._provider)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """Return the response of a call that was not streamed. Raises `ProtocolViolation` without a candidate.

        If the server sent a stream anyway, as events, a JSON array or JSON lines, the stream is read.
        """
        body, parser = wire_response.body, GeminiStream(self._provider)
        framer = SSEOrJSONFramer()
        try:
            data = decode_object(body, "the body", provider=self._provider)
        except ProtocolViolation:
            frames = [*framer.feed(body), *framer.finish()]
            if not frames or (len(frames) == 1 and body.lstrip()[:1] == b"{"):
                raise
        else:
            events = [*parser.chunk(data), *parser.end_of_body(data)]
            return attrs.evolve(fold(events, self._provider), raw=data)
        events = [event for frame in frames for event in parser.feed(frame)]
        if not parser.finished:
            events += parser.finish()
        return fold(events, self._provider)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """Return the error of a response with an error status."""
        return error_from_response(wire_response, provider=self._provider, read=error_from_body)


class GeminiStream:
    """Turns the chunks of one stream into events.

    A finish reason completes the stream; it has no other end marker. There are three exceptions:

    - When the model runs code, the chunk that ends with the code also has a finish reason, although the code's result
      and the rest of the response follow (recordings 04a59751d29d53f7, f32e2446a758532a). This finish reason is
      ignored.
    - A `STOP` before any content may come from a gateway that adds `STOP` to each chunk without parts. Such a `STOP`
      completes the stream only if no content follows.
    - If there are several candidates, the last chunks of the other candidates may follow. Then the response is complete
      when the stream ends.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._builder = EventBuilder(provider)
        self._calls = 0
        self._streamed: StreamedCall | None = None
        self._ended_with_code = False
        self._has_answer = False
        self._text: list[str] = []  # the answer's text, for the positions of citations
        self._text_is_open = False
        self._usage: dict[str, Any] = {}
        self._index: object = None  # the index of the candidate that is the answer
        self._others: dict[str, dict[str, Any]] = {}
        self._grounding: list[dict[str, Any]] = []
        self._ratings: dict[str, Any] = {}  # keys are JSON text, since chunks may repeat ratings and sources
        self._sources: dict[str, dict[str, Any]] = {}
        self._warnings: list[CallWarning] = []
        self._reason: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the response is complete."""
        return self._builder.finished

    def feed(self, frame: SSEFrame) -> list[Event]:
        """Return the events of one frame. Frames after the end of the response are ignored."""
        if self.finished or frame.data in (b"[DONE]", b"null"):  # from a proxy
            return []
        if frame.event == "error" and not frame.data.lstrip().startswith(b"{"):
            raise error_from_body(frame.data.decode("utf-8", "replace"), provider=self._provider)
        text = frame.data.strip()
        if text.startswith(b"[{") and text.endswith(b"}]"):
            text = text[1:-1]  # the API puts errors into a list of one
        data = decode_object(text, "an event of the stream", provider=self._provider)
        if frame.event == "error" or (frame.status or 0) >= 400:
            raise error_from_body(bounded(data), provider=self._provider, status=frame.status)
        return self.chunk(data)

    def finish(self) -> list[Event]:
        """Return the last events. Raises `StreamInterrupted` if the stream ended before a finish reason."""
        if self._reason is None:
            raise StreamInterrupted("the stream ended before a finish reason", provider=self._provider)
        self._finish(self._reason)
        return self._builder.take()

    def chunk(self, data: dict[str, Any]) -> list[Event]:
        """Return the events of one `GenerateContentResponse`. Raises the error that it carries, if it does."""
        if data.get("error") or ("candidates" not in data and _is_error(data)):
            raise error_from_json(data, provider=self._provider, read=error_from_body)
        builder = self._builder
        if not builder.started:
            if created := data.get("createTime"):
                builder.metadata({"createTime": created})
            builder.start(as_string(data.get("responseId")) or None, as_string(data.get("modelVersion")) or None)
        if not _CHUNK.issuperset(data):
            # A null or empty error is ignored, since the next event may contain the error (class 55).
            builder.metadata({name: value for name, value in data.items() if name not in _CHUNK and name != "error"})
        candidate = self._candidate(data.get("candidates"))
        content = candidate.get("content")
        parts: object = None
        if isinstance(content, dict):
            parts = content.get("parts")
            if not _CONTENT.issuperset(content):
                builder.metadata({name: value for name, value in content.items() if name not in _CONTENT})
        logprobs: tuple[TokenLogprob, ...] = ()
        if not _CANDIDATE.issuperset(candidate):
            logprobs = self._fields(candidate)
        for part in parts if isinstance(parts, list) else ():
            if not isinstance(part, dict):
                raise ProtocolViolation("a part of the response is not an object", provider=self._provider)
            if logprobs and isinstance(part.get("text"), str) and not part.get("thought"):
                self._part(part, logprobs)
                logprobs = ()
            else:
                self._part(part, ())
            self._ended_with_code = "executableCode" in part
        if logprobs:
            self._logprobs_apart(logprobs, candidate)
        # Each chunk of a stream repeats the usage so far; the last report counts.
        usage = data.get("usageMetadata")
        if isinstance(usage, dict) and usage:
            self._usage = later_counts(self._usage, usage)
            is_final = "finishReason" in candidate or not candidate
            builder.usage(usage_from(self._usage, is_final=is_final))
        self._end(data, candidate)
        return builder.take()

    def end_of_body(self, data: dict[str, Any]) -> list[Event]:
        """Return the last events of a whole body, which may lack a finish reason but needs a candidate."""
        if self.finished:
            return []
        if self._reason is None and not data.get("candidates"):
            raise ProtocolViolation("the body has no candidate", provider=self._provider)
        self._finish(self._reason)
        return self._builder.take()

    def _candidate(self, candidates: object) -> dict[str, Any]:
        """Return the candidate that is the answer: the first candidate of the first chunk. The others become metadata.

        Candidates with other indexes never become pieces of the answer. Streams have no end marker, so an interrupted
        stream of several candidates would look like one complete answer.
        """
        if not isinstance(candidates, list) or not candidates:
            return {}
        if len(candidates) == 1 and isinstance(candidates[0], dict):  # nearly always
            index = candidates[0].get("index") or 0  # proto JSON leaves out an index of 0
            if self._index is None:
                self._index = index
            if index == self._index:
                return candidates[0]
        answer: dict[str, Any] | None = None
        for candidate in candidates:
            if not isinstance(candidate, dict):
                raise ProtocolViolation("a candidate is not an object", provider=self._provider)
            index = candidate.get("index") or 0
            if self._index is None:
                self._index = index
            if answer is None and index == self._index:
                answer = candidate
            else:
                self._add_other(str(index), candidate)
        return answer if answer is not None else {}

    def _add_other(self, index: str, candidate: dict[str, Any]) -> None:
        """Add a piece to another candidate, which becomes metadata."""
        content = as_object(candidate.get("content"))
        before = self._others.setdefault(index, {})
        parts = as_object(before.get("content")).get("parts", [])
        parts += as_list(content.get("parts"))
        before.update(candidate)
        before["content"] = {**content, "parts": parts}

    def _fields(self, candidate: dict[str, Any]) -> tuple[TokenLogprob, ...]:
        """Keep a candidate's other fields as metadata, and return its log probabilities."""
        fields = {name: value for name, value in candidate.items() if name not in _CANDIDATE}
        logprobs: tuple[TokenLogprob, ...] = ()
        if isinstance(result := fields.pop("logprobsResult", None), dict):
            logprobs = logprobs_from(result)
            rest = {name: result[name] for name in result if name not in ("chosenCandidates", "topCandidates")}
            if rest:
                fields["logprobsResult"] = rest
        if isinstance(grounding := fields.get("groundingMetadata"), dict):
            self._grounding.append(grounding)
            del fields["groundingMetadata"]
        if isinstance(ratings := fields.get("safetyRatings"), list):
            # Each chunk has a list of ratings, and most ratings repeat.
            self._ratings.update((json_text(rating), rating) for rating in ratings)
            del fields["safetyRatings"]
        if isinstance(cited := fields.get("citationMetadata"), dict):
            # The API's first version called the field citationSources.
            sources = as_objects(cited.get("citations") or cited.get("citationSources"))
            self._sources.update((json_text(source), source) for source in sources)
            del fields["citationMetadata"]
        self._builder.metadata(fields)
        return logprobs

    def _logprobs_apart(self, logprobs: tuple[TokenLogprob, ...], candidate: dict[str, Any]) -> None:
        """Keep the log probabilities of a chunk without text. These belong to earlier text or to a function call."""
        if self._text_is_open:
            self._builder.text("", logprobs=logprobs)
        else:
            self._builder.metadata({"logprobsResult": candidate["logprobsResult"]})

    def _part(self, part: dict[str, Any], logprobs: tuple[TokenLogprob, ...]) -> None:
        text = part.get("text")
        if isinstance(text, str) and _TEXT.issuperset(part):  # nearly all parts
            if part.get("thought") is True:
                self._text_is_open = False
                self._builder.reasoning(text)
            elif text or logprobs:
                self._has_answer = self._text_is_open = True
                self._text.append(text)
                self._builder.text(text, logprobs=logprobs)
            return
        if text is None and part.keys() <= _SIGNATURE:
            text = ""  # such a signature belongs to the text so far, and is sent back on an empty text
        is_thought = part.get("thought") is True
        self._has_answer = self._has_answer or not is_thought
        self._text_is_open = False
        if isinstance(text, str):
            signature = as_string(part.get("thoughtSignature")) or None
            if is_thought:
                metadata = self._metadata(part, "text", "thoughtSignature")
                self._builder.reasoning(text, signature=signature, metadata=metadata)
            else:
                self._text.append(text)
                self._builder.text(text, logprobs=logprobs, metadata=self._metadata(part, "text"))
        elif isinstance(call := part.get("functionCall"), dict):
            self._call(call, self._metadata(part, "functionCall", inner=_CALL))
        elif isinstance(data := part.get("inlineData"), dict) and not is_thought:
            self._builder.add(self._media(data, self._metadata(part, "inlineData", inner=_MEDIA)))
        elif isinstance(data := part.get("fileData"), dict) and data.get("fileUri") and not is_thought:
            self._builder.add(self._media(data, self._metadata(part, "fileData", inner=_MEDIA)))
        elif part:
            # Parts that only Gemini understands, such as executableCode and the drafts of pictures that are marked as
            # thoughts, are kept unchanged and sent back.
            kind = next(key for key in part if key not in _SIGNATURE)
            self._builder.add(Opaque(provider=self._provider, kind=kind, data=part))

    def _metadata(self, part: dict[str, Any], *typed: str, inner: frozenset[str] = frozenset()) -> ProviderOptions:
        """Return the fields of a part that are not `typed`. `inner` names the typed fields of its first `typed`
        field."""
        fields = {name: value for name, value in part.items() if name not in typed and name != "thought"}
        if inner and not part[typed[0]].keys() <= inner:
            fields[typed[0]] = {name: value for name, value in part[typed[0]].items() if name not in inner}
        return {self._provider: fields} if fields else {}

    def _call(self, call: dict[str, Any], metadata: ProviderOptions) -> None:
        name, call_id = tool_name(as_string(call.get("name")) or ""), as_string(call.get("id")) or None
        streamed = self._streamed
        if streamed is not None:
            is_same = call_id == streamed.call_id if call_id and streamed.call_id else "partialArgs" in call
            if not name or (name == streamed.name and is_same):
                streamed.add(call)
                self._builder.tool_call(streamed.key, metadata=metadata)
                if call.get("willContinue") is not True:
                    self._end_call(is_complete=True)
                return
            self._end_call(is_complete=True)
        if not name and call.keys() <= {"willContinue"}:
            return  # the end marker of a call that has already ended
        key, self._calls = self._calls, self._calls + 1
        if call.get("willContinue") is True or "partialArgs" in call:
            self._streamed = StreamedCall(key, name, call_id)
            self._streamed.add(call)
            self._builder.tool_call(key, call_id=call_id, name=name, metadata=metadata)
            if call.get("willContinue") is not True:
                self._end_call(is_complete=True)
            return
        arguments = call.get("args")
        self._builder.tool_call(
            key,
            call_id=call_id,
            name=name,
            arguments=arguments if arguments is not None else "",
            metadata=metadata,
        )

    def _end_call(self, *, is_complete: bool) -> None:
        if self._streamed is not None:
            self._builder.tool_call(self._streamed.key, arguments=self._streamed.text(is_complete=is_complete))
            self._streamed = None

    def _media(self, data: dict[str, Any], metadata: ProviderOptions) -> Image | Audio | Document:
        media_type = as_string(data.get("mimeType")) or None
        kind = (media_type or "").partition("/")[0]
        part_type = Image if kind == "image" else Audio if kind == "audio" else Document
        if url := as_string(data.get("fileUri")):
            return part_type(url=url, media_type=media_type, provider_metadata=metadata)
        try:
            encoded = (as_string(data.get("data")) or "").replace("-", "+").replace("_", "/")
            content = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except ValueError:
            raise ProtocolViolation("the media in the response is not valid base64", provider=self._provider) from None
        return part_type(data=content, media_type=media_type, provider_metadata=metadata)

    def _warn(self, subject: str, message: str) -> None:
        self._warnings.append(CallWarning(kind="other", subject=subject, message=message, lossy=False))

    def _end(self, data: dict[str, Any], candidate: dict[str, Any]) -> None:
        raw = _reason(candidate.get("finishReason"))
        if raw in _UNSPECIFIED:
            feedback = as_object(data.get("promptFeedback"))
            raw = as_string(feedback.get("blockReason")) or ""
            if raw in _UNSPECIFIED:
                if self._has_answer and candidate.get("content"):
                    self._reason = None  # content follows, so the finish reason was premature
                return
            # If the prompt is refused, there are no candidates at all.
            self._warn("prompt", as_string(feedback.get("blockReasonMessage")) or "the prompt was refused")
            self._finish(raw, FinishReason.CONTENT_FILTER)
            return
        if self._ended_with_code and raw == "STOP":
            return
        if message := as_string(candidate.get("finishMessage")):
            self._warn("finish_reason", message)
        if raw == "CONTINUATION":
            message = "the answer is incomplete; repeat the request with the continuationToken in provider_metadata"
            self._warn("finish_reason", message)
        self._reason = raw
        if (self._has_answer or raw != "STOP") and not self._others:
            self._finish(raw)

    def _finish(self, raw: str | None, reason: FinishReason | None = None) -> None:
        builder = self._builder
        if reason is None:
            reason = REASONS.get(raw or "", FinishReason.OTHER)
        if self._streamed is not None:  # the response ended before the call
            self._end_call(is_complete=reason is FinishReason.STOP and not self._streamed.is_open)
        grounding = joined_grounding(self._grounding)
        for citation in citations(self._sources.values(), grounding, "".join(self._text), self._provider):
            builder.add(citation)
        if grounding:
            builder.metadata({"groundingMetadata": grounding})
        if self._ratings:
            builder.metadata({"safetyRatings": list(self._ratings.values())})
        if self._others:
            builder.metadata({"candidates": list(self._others.values())})
            message = "the response has several candidates; the others are in provider_metadata"
            self._warn("candidates", message)
        builder.finish(reason, raw_reason=raw, warnings=tuple(self._warnings))


def _is_error(data: dict[str, Any]) -> bool:
    return any(data.get(name) for name in _ERRORS)


def _reason(value: object) -> str:
    if type(value) is int:
        return _NUMBERS[value] if 0 <= value < len(_NUMBERS) else str(value)
    return as_string(value) or ""
