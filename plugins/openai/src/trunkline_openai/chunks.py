"""Chunks of Chat Completions -> events. Pure.

A chunk has `choices`, and a choice has a `delta`: a piece of the response's message. The message of a whole body is
read as one large delta, so that a response is the same whether it was streamed or not.

Parts are in the order in which they started. Within one delta this is reasoning, text, refusal, images, citations, tool
calls. The API has one text and one reasoning for a response, so later pieces continue the part that is open.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

from trunkline.authoring.event_builder import unnamed_calls
from trunkline.authoring.http_errors import error_from_json
from trunkline.authoring.json import JSONValue, as_list, as_objects, as_string, bounded, dumps
from trunkline.errors import ProtocolViolation, RemoteError, ServerError
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
)
from trunkline.messages import Citation, Opaque
from trunkline.response import CallWarning, FinishReason, TokenLogprob, Usage
from trunkline.secrets import Headers, HeaderValues

from trunkline_openai.choices import Choices
from trunkline_openai.errors import ERROR_FIELDS, error_from_body, is_error
from trunkline_openai.logprobs import token_logprobs
from trunkline_openai.profile import Profile
from trunkline_openai.reasoning import ReasoningBlocks, detail_text, thinking_text
from trunkline_openai.response_parts import SENT_BACK, AudioPieces, annotation, image_added, sources
from trunkline_openai.think_tags import ThinkTags
from trunkline_openai.tool_calls import LEGACY, ToolCalls
from trunkline_openai.usage import larger, usage_from

FINISH_REASONS: dict[str, FinishReason] = {
    **dict.fromkeys(
        ("stop", "end", "eos", "eos_token", "end_turn", "stop_sequence", "completed", "complete"), FinishReason.STOP
    ),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length", "max_length"), FinishReason.LENGTH),
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), FinishReason.TOOL_CALLS),
    # Gateways pass on the finish reasons of other APIs: Gemini's, Anthropic's and Bedrock's.
    **dict.fromkeys(
        (
            "content_filter",
            "content_filtered",
            "safety",
            "sensitive",
            "refusal",
            "recitation",
            "prohibited_content",
            "blocklist",
            "spii",
            "guardrail_intervened",
        ),
        FinishReason.CONTENT_FILTER,
    ),
    **dict.fromkeys(
        (
            "error",
            "network_error",
            "abort",
            "insufficient_system_resource",
            "malformed_function_call",
            "unexpected_tool_call",
            "overloaded",
            "timeout",
            "cancelled",
        ),
        FinishReason.ERROR,
    ),
}
"""The finish reasons that servers send, in lower case. Any other becomes `FinishReason.OTHER`."""

# Fields that are read, or that mean nothing. Every other field is kept in the response's `provider_metadata`.
_CHUNK_FIELDS = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation", "error", "p"})
_CHOICE_FIELDS = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "text", "usage", "finishReason"})
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


def _is_set(value: object) -> bool:
    # False and 0 are values that a server chose to send. null and empty containers come from a fixed schema.
    return isinstance(value, (bool, int, float))


@lru_cache(maxsize=64)
def _delta_fields(reasoning_fields: tuple[str, ...]) -> frozenset[str]:
    return _DELTA_FIELDS.union(reasoning_fields)


class ChunkReader:
    """Turns the chunks of one response into events.

    A variant of the API overrides `content_part`, `text`, `reasoning`, `reasoning_end`, `keep`, `sources` or `error`.
    """

    def __init__(self, *, provider: str, profile: Profile) -> None:
        self.provider = provider
        self.profile = profile
        self._events: list[Event] = []
        self._next = 0
        self._started = False
        self._id: str | None = None
        self._model: str | None = None
        self._choices = Choices()
        self._added = False  # whether a complete part was added
        self._text: int | None = None
        self._refusal: int | None = None
        self._reasoning: int | None = None
        self._blocks = ReasoningBlocks(provider)
        self._pending_logprobs: list[TokenLogprob] = []
        self._think = ThinkTags() if profile.think_tags else None
        self._calls = ToolCalls(self._take_index, provider=provider)
        self._audio = AudioPieces(provider)
        self._reason: str | None = None
        self._continued = False  # whether content came after the finish reason
        self._extra: dict[str, Any] = {}
        self._whole = False
        self._usage: Usage | None = None
        self.metadata: dict[str, Any] = {}
        self._reasoning_fields = profile.reasoning_fields
        self._delta_fields = _delta_fields(profile.reasoning_fields)

    def content(self, content: Any, logprobs: tuple[TokenLogprob, ...]) -> None:
        """Read the `content` of a message or a delta: text, a list of parts, or JSON that is not encoded as text."""
        if isinstance(content, str):
            self.text(content, logprobs)
        elif isinstance(content, list):
            for item in content:
                self.content_part(item)
        else:
            self.text(self._json_text(content), logprobs)

    def content_part(self, item: Any) -> None:
        """Read one item of a `content` that is a list. Raises `ProtocolViolation` for an item that is not an object."""
        if isinstance(item, str):
            self.text(item)
            return
        if not isinstance(item, dict):
            raise ProtocolViolation("a part of the response's content is not an object", provider=self.provider)
        kind = item.get("type")
        if kind in ("text", "output_text", None) and isinstance(item.get("text"), str):
            self.text(item["text"])
        elif kind in ("thinking", "reasoning"):
            self.reasoning(thinking_text(item))
            if isinstance(item.get("signature"), str):
                self._blocks.signature = item["signature"]
        elif kind == "image_url":
            self.add(image_added(item, self.provider))
        else:
            opaque = Opaque(provider=self.provider, kind=as_string(kind) or "unknown", data=item)
            self.add(PartAdded(part=opaque))

    def text(self, text: str, logprobs: tuple[TokenLogprob, ...] = ()) -> None:
        """Add to the response's text."""
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
        """Add to the reasoning's text. It may be empty, for reasoning that only the provider can read."""
        if self._reasoning is None:
            self._reasoning = self._take_index()
            self._events.append(ReasoningStart(index=self._reasoning))
        if text:
            self._events.append(ReasoningDelta(index=self._reasoning, text=text))

    def add(self, event: Citation | PartAdded) -> None:
        """Add a part that is complete."""
        self._added = True
        self._events.append(event)

    def keep(self, key: str, value: Any) -> None:
        """Keep an unknown field for `provider_metadata`.

        If the field repeats, the last value wins. Objects are merged.
        """
        known = self.metadata.get(key)
        self.metadata[key] = {**known, **value} if isinstance(known, dict) and isinstance(value, dict) else value

    def keep_logprobs(self, logprobs: Any) -> None:
        """Keep log probabilities of content other than the text, for example of reasoning (Fireworks)."""
        if not isinstance(logprobs, dict):
            self.keep("logprobs", logprobs)
            return
        for name, value in logprobs.items():
            if name not in ("content", "refusal") and value:
                known = self.metadata.get("logprobs")
                if not isinstance(known, dict):
                    known = self.metadata["logprobs"] = {}
                both = isinstance(value, list) and isinstance(known.get(name), list)
                known[name] = [*known[name], *value] if both else value

    def sources(self) -> list[Citation]:
        """The citations outside of the message, once the response is complete."""
        return sources(self.metadata)

    def end_text(self) -> None:
        """End the text part that is open, if any. Later text then starts a new part."""
        if self._text is not None:
            self._events.append(TextEnd(index=self._text))
            self._text = None

    def end_reasoning(self) -> None:
        """End the reasoning part that is open, if any. Later reasoning then starts a new part."""
        if self._reasoning is not None:
            self._events.append(self.reasoning_end(self._reasoning))
            self._reasoning = None

    def reasoning_end(self, index: int) -> ReasoningEnd:
        """The event that ends the reasoning part at `index`."""
        blocks, self._blocks = self._blocks, ReasoningBlocks(self.provider)
        return blocks.end(index)

    @staticmethod
    def error(
        body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError:
        """The error that a decoded body or chunk describes, as `error_from_body` reads it."""
        return error_from_body(body, provider=provider, status=status, headers=headers)

    def failure(self, value: JSONValue, status: int | None = None) -> RemoteError:
        """Return the error that a part of the stream describes. `status` is the HTTP status in the stream, if any."""

        read = self.error if status is None else partial(self.error, status=status)
        return error_from_json(value, provider=self.provider, read=read)

    def _take_index(self) -> int:
        self._next += 1
        return self._next - 1

    def flush(self) -> list[Event]:
        """Return the events since the last call."""
        events = self._events
        if not events:
            return []
        # Return a copy and clear the list in place, because the tool calls hold a reference to it.
        flushed = events.copy()
        events.clear()
        if not self._started:
            self._started = True
            flushed.insert(0, ResponseStarted(id=self._id, model=self._model))
        return flushed

    def take(self, chunk: dict[str, Any]) -> None:
        """Read a chunk, or a whole body. Raises the error in it, or `ProtocolViolation`."""
        try:
            self._take_chunk(chunk)
        except RecursionError:
            raise ProtocolViolation("the response is nested too deeply", provider=self.provider) from None

    def _take_chunk(self, chunk: dict[str, Any]) -> None:
        if self._id is None and isinstance(chunk.get("id"), str) and chunk["id"]:
            self._id = self._calls.seed = chunk["id"]
        if self._model is None and isinstance(chunk.get("model"), str) and chunk["model"]:
            self._model = chunk["model"]
        choices = chunk.get("choices")
        if not chunk.keys() <= _CHUNK_FIELDS:
            self._unknown(chunk, has_choices=bool(choices))
        if choices:
            if not isinstance(choices, list):
                raise ProtocolViolation("the response's choices are not a list", provider=self.provider)
            for choice in self._choices.of_answer(choices, chunk.get("id"), finished=self._reason is not None):
                self._take_choice(choice)
        usage = chunk.get("usage")
        if usage:
            self._report(usage)

    def _unknown(self, chunk: dict[str, Any], *, has_choices: bool) -> None:
        if not ERROR_FIELDS.isdisjoint(chunk) and is_error(chunk, alone=not has_choices):
            raise self.failure(chunk)
        for key, value in chunk.items():
            if key not in _CHUNK_FIELDS and (value or _is_set(value)):
                if key == "x_groq":
                    self._groq(value)
                self.keep(key, value)

    def _groq(self, value: Any) -> None:
        if isinstance(value, dict):
            if value.get("error"):
                raise self.failure(value)
            if value.get("usage"):
                self._report(value["usage"])

    def _report(self, raw: Any) -> None:
        if self._usage is not None and self._usage.raw == raw:
            return
        usage = usage_from(raw)
        if usage is not None:
            self._usage = usage if self._usage is None else larger(usage, self._usage)
            self._events.append(UsageReported(usage=self._usage))

    def _take_choice(self, choice: Any) -> None:
        if not isinstance(choice, dict):
            raise ProtocolViolation("a choice of the response is not an object", provider=self.provider)
        if choice.get("error"):
            raise self.failure(choice)
        delta = choice.get("delta")
        message = choice.get("message")
        # Perplexity sends both: an empty delta in a whole body, and in each chunk a message with all the text so far.
        whole = message is not None and (self._whole or delta is None)
        if delta is None and message is None and isinstance(choice.get("text"), str):
            delta = {"content": choice["text"]}  # a server or a proxy with only the older Completions API
        logprobs = choice.get("logprobs")
        if logprobs:
            self.keep_logprobs(logprobs)
        self._delta(message if whole else delta, logprobs if isinstance(logprobs, dict) else None, whole=whole)
        reason = choice.get("finish_reason")
        if reason is None and isinstance(choice.get("finish_details"), dict):
            reason = choice["finish_details"].get("type")
        if not reason and "finishReason" in choice:
            reason = choice["finishReason"]  # Gemini's compatible API (github.com/jakobdylanc/llmcord/issues/84)
        if reason:
            self._reason = reason if isinstance(reason, str) else self._json_text(reason)
            self._continued = False
        elif self._reason is not None:
            self._continued = True
        for key, value in choice.items():
            if key not in _CHOICE_FIELDS and (value or _is_set(value)):
                self.keep(key, value)
        if isinstance(choice.get("usage"), dict):
            self._report(choice["usage"])

    def _delta(self, delta: Any, logprobs: dict[str, Any] | None, *, whole: bool) -> None:
        if delta is None:
            return
        if not isinstance(delta, dict):
            raise ProtocolViolation("a delta of the response is not an object", provider=self.provider)
        content = delta.get("content")
        tokens = token_logprobs(logprobs.get("content")) if logprobs is not None else ()
        if len(delta) == 1 and type(content) is str:
            # By far the most frequent delta, so it takes a shortcut.
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
            refused = token_logprobs(logprobs.get("refusal")) if logprobs is not None else ()
            self._events.append(TextDelta(index=self._refusal, text=refusal, logprobs=refused))
        for image in as_list(delta.get("images")):
            self.add(image_added(image, self.provider))
        for item in as_list(delta.get("annotations")):
            found = annotation(item, self.provider)
            if found is not None:
                self.add(found)
        self._delta_calls(delta, whole=whole)
        if isinstance(delta.get("audio"), dict):
            self._audio.add(delta["audio"])
        for key, value in delta.items():
            if key in self._delta_fields or not (value or _is_set(value)):
                continue
            if key in SENT_BACK:
                self._extra[key] = value
            else:
                self.keep(key, value)

    def _delta_reasoning(self, delta: dict[str, Any]) -> None:
        text = ""
        for field in self._reasoning_fields:
            value = delta.get(field)
            if isinstance(value, str) and value:
                text = value
                break
        details = as_objects(delta.get("reasoning_details"))
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
                raise ProtocolViolation("the response's tool calls are not a list", provider=self.provider)
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

    def close(self, *, raw: JSONValue = None) -> list[Event]:
        """Return the last events, after the response is complete. `raw` is the body of a response without a stream.

        Raises `ServerError` if the response has no content, and its finish reason is missing or means a failure. A
        server that loses an error ends its response like this.
        """
        for choice in self._choices.held():
            self._take_choice(choice)
        if self._think is not None:
            for is_reasoning, piece in self._think.finish():
                if is_reasoning:
                    self.reasoning(piece)
                else:
                    self._add_text(piece, ())
        for source in self.sources():
            self.add(source)
        audio = self._audio.end()
        if audio is not None:
            self.add(audio)
        self.end_reasoning()
        if self._next == 0 and self._text is None and self._extra:
            self._text = self._take_index()
            self._events.append(TextStart(index=self._text))
        for index in sorted(index for index in (self._text, self._refusal) if index is not None):
            extra = self._extra if index == self._text else {}
            self._events.append(TextEnd(index=index, provider_metadata={self.provider: extra} if extra else {}))
        if self._text is None:
            self.metadata |= self._extra
        self._calls.end(self._events)
        if self._calls.unnamed:
            self.keep("tool_calls", self._calls.unnamed)
        is_empty = not (self._next or self._added or self._calls.unnamed)
        failed = self._reason is None or self._finish_reason() in (FinishReason.ERROR, FinishReason.TOOL_CALLS)
        if is_empty and failed:
            # The model generated nothing, so the call has failed and can be retried.
            raise ServerError(self._empty_message(), provider=self.provider, body=bounded(raw))
        self._events.append(
            Finished(
                reason=self._finish_reason(),
                raw_reason=self._reason,
                usage=self._usage,
                warnings=self._warnings(),
                provider_metadata={self.provider: self.metadata} if self.metadata else {},
                raw=raw,
            )
        )
        return self.flush()

    def _finish_reason(self) -> FinishReason:
        reason = _finish_reason(self._reason)
        # OpenRouter sends `stop` whatever the finish reason of the provider behind it.
        native = _finish_reason(self.metadata.get("native_finish_reason"))
        if reason is FinishReason.STOP and native in (FinishReason.ERROR, FinishReason.CONTENT_FILTER):
            return native
        if self._calls and reason in (FinishReason.STOP, FinishReason.OTHER):
            return FinishReason.TOOL_CALLS
        return reason

    def _warnings(self) -> tuple[CallWarning, ...]:
        warnings: list[CallWarning] = []
        if self._calls.unnamed:
            warnings.append(unnamed_calls(len(self._calls.unnamed)))
        if self._choices.others:
            count = len(self._choices.others) + 1
            message = (
                f"the response has {count} choices; only the first is read (without streaming, `raw` has all of them)"
            )
            warnings.append(CallWarning(kind="other", subject="n", message=message, lossy=False))
        return tuple(warnings)

    def _empty_message(self) -> str:
        if self._choices.first is None:
            return "the response has no choices, and no error explains why"
        if self._reason is not None:
            native = as_string(self.metadata.get("native_finish_reason"))
            return f"the response ended with {(native or self._reason)!r} before any content"
        return "the response has neither content nor a finish reason, and no error explains why"

    def _json_text(self, value: Any) -> str:
        try:
            return dumps(value).decode()
        except (TypeError, ValueError, RecursionError):
            raise ProtocolViolation("the response holds a value that is not JSON", provider=self.provider) from None


def _finish_reason(value: object) -> FinishReason:
    name = value.lower() if isinstance(value, str) else ""
    return FINISH_REASONS.get(name, FinishReason.OTHER)
