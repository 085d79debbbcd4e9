"""Chunks -> events; a whole body -> ChatResponse. Pure.

Both go one way: the message of a whole body is taken as one great delta, so that a response is the same however it
came. Parts stand in the order in which they began: in one delta reasoning, text, refusal, pictures, citations, calls.
The dialect has one text and one reasoning for an answer, so what comes later of either continues the one that is open.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import attrs
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.framing import BARE, SSEFrame, SSEOrJSONFramer
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.repeats import Repeats
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, RemoteError, StreamInterrupted
from trunkline.events import (
    Event,
    Finished,
    PartAdded,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    ResponseStarted,
    TextDelta,
    TextEnd,
    TextStart,
    UsageReported,
    text_delta,
)
from trunkline.fold import fold
from trunkline.messages import Citation, Opaque
from trunkline.response import CallWarning, ChatResponse, FinishReason, TokenLogprob, Usage

from trunkline_openai.blocks import ReasoningBlocks, Sound, annotation, image_added, sources
from trunkline_openai.calls import LEGACY, ToolCalls
from trunkline_openai.errors import error_from_body, error_from_response, request_id
from trunkline_openai.fields import (
    detail_text,
    excerpt,
    items,
    logprobs as token_logprobs,
    thinking_text,
)
from trunkline_openai.profile import Profile
from trunkline_openai.thinking import ThinkTags
from trunkline_openai.usage import usage_from

FINISH_REASONS: dict[str, FinishReason] = {
    **dict.fromkeys(
        ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "completed", "complete"), FinishReason.STOP
    ),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length", "max_length"), FinishReason.LENGTH),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), FinishReason.TOOL_CALLS),
    **dict.fromkeys(("content_filter", "content_filtered", "safety", "sensitive"), FinishReason.CONTENT_FILTER),
    **dict.fromkeys(("error", "network_error", "abort", "insufficient_system_resource"), FinishReason.ERROR),
}
"""What servers say, in lower case, as the core's finish reasons; anything else is `other`."""

# What is read elsewhere, or means nothing; every other field is kept in the provider's metadata.
_CHUNK_FIELDS = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation", "error", "p"})
_ERROR_FIELDS = frozenset({"message", "detail", "code", "errors"})
_CHOICE_FIELDS = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "text", "usage"})
_DELTA_FIELDS = frozenset(
    {
        "role",
        "content",
        "refusal",
        "tool_calls",
        "function_call",
        "audio",
        "annotations",
        "images",
        "reasoning_details",
        "padding",
    }
)


_SHORT = 64
"""Only what is shorter can be the terminator or nothing."""


def _content(chunk: dict[str, Any]) -> object:
    return chunk["choices"][0]["delta"]["content"]


def _tells(value: object) -> bool:
    # False and 0 say something; null and what is empty do not.
    return isinstance(value, (bool, int, float))


@lru_cache(maxsize=64)
def _delta_fields(reasoning_fields: tuple[str, ...]) -> frozenset[str]:
    return _DELTA_FIELDS.union(reasoning_fields)


class ChatParser:
    """Reads one answer: `feed` takes its frames, `whole` a body that came at once.

    A variant overrides `content_part`, `text`, `reasoning`, `reasoning_end`, `keep`, `sources` or `error`.
    """

    def __init__(self, *, provider: str, profile: Profile) -> None:
        self.provider = provider
        self.profile = profile
        self._events: list[Event] = []
        self._next = 0
        self._started = False
        self._id: str | None = None
        self._model: str | None = None
        self._choice: object = None
        self._others: set[object] = set()
        self._text: int | None = None
        self._refusal: int | None = None
        self._reasoning: int | None = None
        self._blocks = ReasoningBlocks(provider)
        self._pending_logprobs: list[TokenLogprob] = []
        self._think = ThinkTags() if profile.think_tags else None
        self._calls = ToolCalls(self._take_index, provider=provider)
        self._sound = Sound(provider)
        self._reason: str | None = None
        self._whole = False
        self._complete = False
        self._usage: Usage | None = None
        self.metadata: dict[str, Any] = {}
        self.repeats = Repeats("content", _content, padding=("obfuscation", "p"))
        self._plain = self._think is None and type(self).text is ChatParser.text
        self._reasoning_fields = profile.reasoning_fields
        self._delta_fields = _delta_fields(profile.reasoning_fields)

    def feed(self, frame: SSEFrame) -> list[Event]:
        """The events of one frame. Raises the error that it tells of, or `ProtocolViolation`."""
        data = frame.data
        if len(data) < _SHORT:
            if data.strip() == b"[DONE]":
                return self._close()
            if not data:
                return []
        known = self.repeats.frame_template
        if known is not None and frame.event == "message" and (texts := known.texts(data)) is not None:
            return self.text_events(texts)
        self.repeats.forget()
        chunk = self._decode(frame)
        if not isinstance(chunk, dict):
            if chunk is None and frame.event not in ("message", "error", BARE):
                return []
            raise self._odd(chunk, "an event of the stream is not a JSON object")
        if chunk.get("error") or frame.event == "error" or chunk.get("object") == "error":
            raise self.error(chunk, provider=self.provider)
        if frame.event == BARE and "choices" not in chunk:
            if _ERROR_FIELDS & chunk.keys():
                raise self.error(chunk, provider=self.provider)
            raise ProtocolViolation(
                f"the stream holds JSON that is no event: {excerpt(frame.data)}", provider=self.provider
            )
        if frame.event == BARE:
            self._complete = self._whole = True
        self._chunk(chunk)
        if frame.event == "message" and self._is_text(chunk):
            self.repeats.learn(data, chunk)
        return self._flush()

    def text_events(self, texts: list[str]) -> list[Event]:
        """The events of frames that repeat the one before but for their texts."""
        index = self._text
        if self._plain and index is not None:
            return [text_delta(index, text) for text in texts]
        for text in texts:
            self.text(text)
        return self._flush()

    def _is_text(self, chunk: dict[str, Any]) -> bool:
        """Whether a chunk has more text, and besides says nothing that must not be taken twice."""
        choices = chunk.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or chunk.get("usage"):
            return False
        choice = choices[0]
        delta = choice.get("delta")
        told = choice.get("finish_reason") or choice.get("logprobs") or choice.get("message")
        if told or not isinstance(delta, dict) or (choice.get("index") or 0) != self._choice:
            return False
        others = any(value for name, value in delta.items() if name not in ("content", "role"))
        return not others and type(delta.get("content")) is str

    def finish(self) -> list[Event]:
        """The last events, at the end of the file. Raises `StreamInterrupted` where the answer is not complete."""
        if self._complete or (self._reason is not None and self.profile.finish_reason_suffices):
            return self._close()
        after = " after its finish reason" if self._reason is not None else ""
        raise StreamInterrupted(f"the stream ended{after}, without its terminator [DONE]", provider=self.provider)

    def whole(self, body: dict[str, Any]) -> list[Event]:
        """The events of an answer that was not streamed."""
        self._whole = True
        self._chunk(body)
        return self._close()

    def content(self, content: Any, logprobs: tuple[TokenLogprob, ...]) -> None:
        """The `content` of a message or a delta: text, a list of parts, or JSON that a server decoded too early."""
        if isinstance(content, str):
            self.text(content, logprobs)
        elif isinstance(content, list):
            for item in content:
                self.content_part(item)
        else:
            self.text(self._json_text(content), logprobs)

    def text(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """More of the answer's text."""
        if self._think is None:
            self._add_text(text, logprobs)
            return
        for is_reasoning, piece in self._think.feed(text):
            if is_reasoning:
                self.reasoning(piece)
            else:
                self._add_text(piece, logprobs)
                logprobs = ()

    def reasoning(self, text: str) -> None:
        """More of the reasoning's text; it may be empty where the rest of it is opaque."""
        if self._reasoning is None:
            self._reasoning = self._take_index()
            self._events.append(ReasoningStart(index=self._reasoning))
        if text:
            self._events.append(ReasoningDelta(index=self._reasoning, text=text))

    def add(self, event: Citation | PartAdded) -> None:
        """A part that comes whole."""
        self._events.append(event)

    def keep(self, key: str, value: Any) -> None:
        """A field that nothing else reads, for the response's metadata; of several, the last counts."""
        self.metadata[key] = value

    def sources(self) -> list[Citation]:
        """The citations that came beside the answer, once it is complete."""
        return sources(self.metadata)

    def end_text(self) -> None:
        """Complete the text that is open, if one is; what comes later of it is then a part of its own."""
        if self._text is not None:
            self._events.append(TextEnd(index=self._text))
            self._text = None

    def end_reasoning(self) -> None:
        """Complete the reasoning that is open, if one is; what comes later of it is then a part of its own."""
        if self._reasoning is not None:
            self._events.append(self.reasoning_end(self._reasoning))
            self._reasoning = None

    def reasoning_end(self, index: int) -> ReasoningEnd:
        """The event that completes the reasoning."""
        blocks, self._blocks = self._blocks, ReasoningBlocks(self.provider)
        return blocks.end(index)

    @staticmethod
    def error(
        body: object, *, provider: str, status: int | None = None, headers: Mapping[str, str] = {}
    ) -> RemoteError:
        """The error that a decoded body tells of, as `error_from_body` reads it."""
        return error_from_body(body, provider=provider, status=status, headers=headers)

    def _decode(self, frame: SSEFrame) -> Any:
        try:
            return loads(frame.data)
        except (ValueError, RecursionError):
            pass
        if frame.event == "error":
            return {"error": {"message": frame.data.decode("utf-8", "replace")}}
        if frame.event not in ("message", BARE):
            return None
        raise ProtocolViolation(f"an event of the stream is not JSON: {excerpt(frame.data)}", provider=self.provider)

    def _odd(self, value: Any, message: str) -> RemoteError:
        if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].get("error"):
            return self.error(value, provider=self.provider)
        return ProtocolViolation(message, provider=self.provider)

    def _take_index(self) -> int:
        self._next += 1
        return self._next - 1

    def _flush(self) -> list[Event]:
        events = self._events
        if not events:
            return []
        # The list is handed on, and cleared in place, since the tool calls append to it too.
        flushed = events.copy()
        events.clear()
        if not self._started:
            self._started = True
            flushed.insert(0, ResponseStarted(id=self._id, model=self._model))
        return flushed

    def _chunk(self, chunk: dict[str, Any]) -> None:
        try:
            self._take_chunk(chunk)
        except RecursionError:
            raise ProtocolViolation("the answer is nested too deeply", provider=self.provider) from None

    def _take_chunk(self, chunk: dict[str, Any]) -> None:
        if self._id is None and isinstance(chunk.get("id"), str) and chunk["id"]:
            self._id = self._calls.seed = chunk["id"]
        if self._model is None and isinstance(chunk.get("model"), str) and chunk["model"]:
            self._model = chunk["model"]
        for key, value in chunk.items():
            if key not in _CHUNK_FIELDS and (value or _tells(value)):
                if key == "x_groq":
                    self._groq(value)
                self.keep(key, value)
        choices = chunk.get("choices")
        if choices:
            if not isinstance(choices, list):
                raise ProtocolViolation("the answer's choices are not a list", provider=self.provider)
            for choice in choices:
                self._take_choice(choice)
        usage = chunk.get("usage")
        if usage:
            self._report(usage)

    def _groq(self, value: Any) -> None:
        if isinstance(value, dict):
            if value.get("error"):
                raise self.error(value, provider=self.provider)
            if value.get("usage"):
                self._report(value["usage"])

    def _report(self, raw: Any) -> None:
        if self._usage is not None and self._usage.raw == raw:
            return
        usage = usage_from(raw)
        if usage is not None:
            self._usage = usage
            self._events.append(UsageReported(usage=usage))

    def _take_choice(self, choice: Any) -> None:
        if not isinstance(choice, dict):
            raise ProtocolViolation("a choice of the answer is not an object", provider=self.provider)
        index = choice.get("index") or 0
        if not isinstance(index, int):
            index = 0
        if self._choice is None:
            self._choice = index
        elif index != self._choice:
            self._others.add(index)
            return
        if isinstance(choice.get("error"), dict):
            raise self.error(choice, provider=self.provider)
        delta = choice.get("delta")
        message = choice.get("message")
        # Perplexity sends both: an empty delta in a whole answer, all the text so far in the message of a chunk.
        whole = message is not None and (self._whole or delta is None)
        logprobs = choice.get("logprobs")
        self._delta(message if whole else delta, logprobs if isinstance(logprobs, dict) else None, whole=whole)
        reason = choice.get("finish_reason")
        if reason is None and isinstance(choice.get("finish_details"), dict):
            reason = choice["finish_details"].get("type")
        if reason is not None and reason != "":
            self._reason = reason if isinstance(reason, str) else self._json_text(reason)
        for key, value in choice.items():
            if key not in _CHOICE_FIELDS and (value or _tells(value)):
                self.keep(key, value)
        if isinstance(choice.get("usage"), dict):
            self._report(choice["usage"])

    def _delta(self, delta: Any, logprobs: dict[str, Any] | None, *, whole: bool) -> None:
        if delta is None:
            return
        if not isinstance(delta, dict):
            raise ProtocolViolation("a delta of the answer is not an object", provider=self.provider)
        content = delta.get("content")
        tokens = token_logprobs(logprobs, "content") if logprobs is not None else ()
        if len(delta) == 1 and type(content) is str:
            # By far the most frequent delta.
            self.text(content, tokens)
            return
        self._delta_reasoning(delta)
        if content is not None:
            self.content(content, tokens)
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            if self._refusal is None:
                self._refusal = self._take_index()
                self._events.append(TextStart(index=self._refusal, refusal=True))
            refused = token_logprobs(logprobs, "refusal") if logprobs is not None else ()
            self._events.append(TextDelta(index=self._refusal, text=refusal, logprobs=refused))
        for image in items(delta.get("images")):
            self._events.append(image_added(image, self.provider))
        for item in items(delta.get("annotations")):
            found = annotation(item, self.provider)
            if found is not None:
                self._events.append(found)
        self._delta_calls(delta, whole=whole)
        if isinstance(delta.get("audio"), dict):
            self._sound.add(delta["audio"])
        for key, value in delta.items():
            if key not in self._delta_fields and (value or _tells(value)):
                self.keep(key, value)

    def _delta_reasoning(self, delta: dict[str, Any]) -> None:
        text = ""
        for field in self._reasoning_fields:
            value = delta.get(field)
            if isinstance(value, str) and value:
                text = value
                break
        details = [detail for detail in items(delta.get("reasoning_details")) if isinstance(detail, dict)]
        for detail in details:
            self._blocks.add(detail)
        if not text:
            text = "".join(detail_text(detail) for detail in details)
        if text or details:
            self.reasoning(text)

    def _delta_calls(self, delta: dict[str, Any], *, whole: bool) -> None:
        calls = delta.get("tool_calls")
        if calls:
            if not isinstance(calls, list):
                raise ProtocolViolation("the answer's tool calls are not a list", provider=self.provider)
            if whole:
                self._calls.whole(calls, self._events)
            else:
                self._calls.deltas(calls, self._events)
        legacy = delta.get("function_call")
        if isinstance(legacy, dict) and not calls and (legacy.get("name") or legacy.get("arguments")):
            self._calls.delta({"function": legacy}, self._events, key=LEGACY)

    def _add_text(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> None:
        if self._text is None:
            if not text:
                self._pending_logprobs += logprobs
                return
            self._text = self._take_index()
            self._events.append(TextStart(index=self._text))
            if self._pending_logprobs:
                logprobs = (*self._pending_logprobs, *logprobs)
                self._pending_logprobs.clear()
        if text or logprobs:
            self._events.append(TextDelta(index=self._text, text=text, logprobs=logprobs))

    def content_part(self, item: Any) -> None:
        """One item of a `content` that is a list. Raises `ProtocolViolation` for what is none."""
        if isinstance(item, str):
            self.text(item)
            return
        if not isinstance(item, dict):
            raise ProtocolViolation("a part of the answer's content is not an object", provider=self.provider)
        kind = item.get("type")
        if kind in ("text", "output_text", None) and isinstance(item.get("text"), str):
            self.text(item["text"])
        elif kind in ("thinking", "reasoning"):
            self.reasoning(thinking_text(item))
            if isinstance(item.get("signature"), str):
                self._blocks.signature = item["signature"]
        elif kind == "image_url":
            self._events.append(image_added(item, self.provider))
        else:
            name = kind if isinstance(kind, str) else "unknown"
            self._events.append(PartAdded(part=Opaque(provider=self.provider, kind=name, data=item)))

    def _close(self) -> list[Event]:
        if self._think is not None:
            for is_reasoning, piece in self._think.finish():
                if is_reasoning:
                    self.reasoning(piece)
                else:
                    self._add_text(piece, ())
        self._events += self.sources()
        sound = self._sound.end()
        if sound is not None:
            self._events.append(sound)
        self.end_reasoning()
        for index in sorted(index for index in (self._text, self._refusal) if index is not None):
            self._events.append(TextEnd(index=index))
        self._calls.end(self._events)
        self._events.append(
            Finished(
                reason=self._finish_reason(),
                raw_reason=self._reason,
                usage=self._usage,
                warnings=self._warnings(),
                provider_metadata={self.provider: self.metadata} if self.metadata else {},
            )
        )
        return self._flush()

    def _finish_reason(self) -> FinishReason:
        reason = FINISH_REASONS.get((self._reason or "").lower(), FinishReason.OTHER)
        if self._calls and reason in (FinishReason.STOP, FinishReason.OTHER):
            return FinishReason.TOOL_CALLS
        return reason

    def _warnings(self) -> tuple[CallWarning, ...]:
        if self._choice is None:
            return (CallWarning(kind="other", subject="choices", message="the provider answered with no choice"),)
        if not self._others:
            return ()
        count = len(self._others) + 1
        message = f"the answer has {count} choices; one is kept, and the others only in `raw`, unless it was streamed"
        return (CallWarning(kind="other", subject="n", message=message),)

    def _json_text(self, value: Any) -> str:
        try:
            return dumps(value).decode()
        except (TypeError, ValueError, RecursionError):
            raise ProtocolViolation("the answer holds a value that is not JSON", provider=self.provider) from None


class ChatResponseParser:
    """Reads the answers of one service."""

    def __init__(
        self, context: ServiceContext[Any], *, profile: Profile, parser: type[ChatParser] = ChatParser
    ) -> None:
        self.context = context
        self.profile = profile
        self._parser = parser

    def stream(self) -> tuple[SSEOrJSONFramer, ChatParser]:
        """A fresh framer and parser."""
        return SSEOrJSONFramer(), self._parser(provider=self.context.provider, profile=self.profile)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """The response of a call that was not streamed, or an answer that came as a stream all the same.

        Raises the error that the body tells of, or `ProtocolViolation`.
        """
        provider = self.context.provider
        try:
            body = loads(wire_response.body)
        except (ValueError, RecursionError):
            body = None
            if wire_response.body.lstrip().startswith((b"data:", b": ", b"event:")):
                return self._streamed(wire_response.body)
        if isinstance(body, list) and len(body) == 1:
            body = body[0]
        if not isinstance(body, dict):
            raise ProtocolViolation(
                f"the answer is not a JSON object: {excerpt(wire_response.body)}",
                provider=provider,
                status=wire_response.status,
                request_id=request_id(wire_response.headers),
            )
        if body.get("error") or body.get("object") == "error" or "choices" not in body:
            if body.get("error") or _ERROR_FIELDS & body.keys():
                raise self._parser.error(body, provider=provider, headers=wire_response.headers)
            raise ProtocolViolation(
                f"the answer has no choices: {excerpt(wire_response.body)}",
                provider=provider,
                status=wire_response.status,
                request_id=request_id(wire_response.headers),
            )
        response = fold(self._parser(provider=provider, profile=self.profile).whole(body), provider)
        return attrs.evolve(response, raw=body)

    def error(self, wire_response: WireResponse) -> RemoteError:
        """The error that a response with an error status tells of. It never raises."""
        return error_from_response(wire_response, provider=self.context.provider, read=self._parser.error)

    def _streamed(self, body: bytes) -> ChatResponse:
        decoder = StreamDecoder(*self.stream())
        return fold([*decoder.feed(body), *decoder.finish()], self.context.provider)
