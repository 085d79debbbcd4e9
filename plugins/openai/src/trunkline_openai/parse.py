"""Responses of Chat Completions: the frames of a stream -> events, a whole body -> ChatResponse. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.framing import BARE, SSEFrame, SSEOrJSONFramer
from trunkline.authoring.http_errors import error_from_json, error_from_response
from trunkline.authoring.json import decode_object, excerpt, loads
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.repeats import Repeats
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, RemoteError, StreamInterrupted
from trunkline.events import Event, text_delta
from trunkline.fold import fold
from trunkline.response import ChatResponse, FinishReason

from trunkline_openai.chunks import ChunkReader
from trunkline_openai.errors import is_error
from trunkline_openai.profile import Profile

_SHORT = 64
"""Frames of this size or more, in bytes, are neither empty nor the terminator."""


def _content(chunk: dict[str, Any]) -> object:
    return chunk["choices"][0]["delta"]["content"]


class ChatParser(ChunkReader):
    """Reads one response: `feed` takes the frames of a stream, `whole` a body that was not streamed.

    A stream ends with the frame `[DONE]`. Servers whose profile has `finish_reason_suffices` do not send it.
    Any server may omit it after the finish reason `content_filter`. Servers that ignore `"stream": true` send a whole
    body, which the framer marks as `BARE`.

    Consecutive chunks of text differ in nothing but the text. `repeats` recognises such a frame by its bytes, so that
    its JSON need not be decoded; `text_events` then takes the texts alone.
    """

    def __init__(self, *, provider: str, profile: Profile) -> None:
        super().__init__(provider=provider, profile=profile)
        self._complete = False
        self._lines = False  # whether chunks came without framing
        self.repeats = Repeats("content", _content, padding=("obfuscation", "p"))
        self._plain = self._think is None and type(self).text is ChatParser.text

    def feed(self, frame: SSEFrame) -> list[Event]:
        """The events of one frame. Raises the error in it, or `ProtocolViolation`."""
        data = frame.data
        if len(data) < _SHORT:
            if data.strip() == b"[DONE]":
                return self.close()
            if not data:
                return []
        known = self.repeats.frame_template
        if known is not None and frame.event == "message" and (texts := known.texts(data)) is not None:
            return self.text_events(texts)
        self.repeats.forget()
        chunk = self._decode(frame)
        if not isinstance(chunk, dict):
            if chunk is None and frame.event not in ("error", BARE):
                return []  # 9router sends `data: null` (github.com/decolua/9router/pull/1648, June 2026)
            raise self._not_an_object(chunk)
        if chunk.get("error") or frame.event == "error" or chunk.get("object") == "error":
            raise self.failure(chunk, frame.status)
        if frame.event == BARE and "choices" not in chunk:
            if is_error(chunk, alone=True):
                raise self.failure(chunk)
            raise _without_choices(data, self.provider)
        if frame.event == BARE:
            # A line may also be a chunk of a stream without framing. Such a stream is complete after its finish reason.
            self._lines = True
            self._whole = _is_whole(chunk)
            self._complete = self._complete or self._whole
        elif chunk.get("object") == "chat.completion" and _is_body(chunk):
            self._whole = self._complete = True  # a whole body in one event or in an array
        self.take(chunk)
        if frame.event == "message" and self._is_text(chunk):
            self.repeats.learn(data, chunk)
        return self.flush()

    def text_events(self, texts: list[str]) -> list[Event]:
        """The events of frames that differ from the frame before in their texts only."""
        index = self._text
        if self._plain and index is not None:
            return [text_delta(index, text) for text in texts]
        for text in texts:
            self.text(text)
        return self.flush()

    def _is_text(self, chunk: dict[str, Any]) -> bool:
        """Whether a chunk has a piece of text and nothing else that repeating would change."""
        choices = chunk.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or chunk.get("usage"):
            return False
        choice = choices[0]
        delta = choice.get("delta")
        more = choice.get("finish_reason") or choice.get("logprobs") or choice.get("message")
        if more or not isinstance(delta, dict) or (choice.get("index") or 0) != self._choices.first:
            return False
        others = any(value for name, value in delta.items() if name not in ("content", "role"))
        return not others and type(delta.get("content")) is str

    def finish(self) -> list[Event]:
        """The last events, at the end of the file. Raises `StreamInterrupted` if the response is not complete."""
        if self._complete or self._is_finished():
            return self.close()
        if self._reason is None:
            raise StreamInterrupted("the stream ended without its terminator [DONE]", provider=self.provider)
        # The response is probably complete, so a retry would not return more.
        error = StreamInterrupted(
            f"the stream ended after its finish reason {self._reason!r}, without its terminator [DONE]",
            provider=self.provider,
            retryable=self._continued,
        )
        if not self._continued:
            error.finish_reason, error.raw_finish_reason = self._finish_reason(), self._reason
        raise error

    def _is_finished(self) -> bool:
        """Whether the response is complete if the stream ends without the terminator."""
        if self._reason is None or self._continued:
            return False
        if self.profile.finish_reason_suffices or self._lines:
            return True
        # Nothing follows a refusal: Azure's DeepSeek models close the connection without a terminator.
        return self._finish_reason() is FinishReason.CONTENT_FILTER

    def whole(self, body: dict[str, Any]) -> list[Event]:
        """The events of a body that was not streamed."""
        self._whole = True
        self.take(body)
        return self.close(raw=body)

    def _decode(self, frame: SSEFrame) -> Any:
        try:
            return loads(frame.data)
        except (ValueError, RecursionError):
            pass
        if frame.event == "error":
            return {"error": {"message": frame.data.decode("utf-8", "replace")}}
        if frame.event not in ("message", BARE):
            return None
        return decode_object(frame.data, "an event of the stream", provider=self.provider)

    def _not_an_object(self, value: object) -> RemoteError:
        if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].get("error"):
            return self.failure(value)
        kind = type(value).__name__
        return ProtocolViolation(f"an event of the stream is a JSON {kind}, not an object", provider=self.provider)


def _is_whole(body: dict[str, Any]) -> bool:
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return not isinstance(first, dict) or "delta" not in first or "message" in first


def _is_body(chunk: dict[str, Any]) -> bool:
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return (
        isinstance(first, dict) and "delta" not in first and bool(first.get("message") and first.get("finish_reason"))
    )


def _without_choices(text: bytes, provider: str) -> ProtocolViolation:
    return ProtocolViolation(f"the response has no 'choices': {excerpt(text)}", provider=provider)


class ChatResponseParser:
    """The `ResponseParser` of one service."""

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
        """The response of a call that was not streamed. A stream that a server sent all the same is read as well.

        Raises the error in the body, or `ProtocolViolation`.
        """
        provider = self.context.provider
        if wire_response.body.lstrip().startswith((b"data:", b": ", b"event:")):
            return self._streamed(wire_response.body)
        body = _object(wire_response.body, provider)
        if is_error(body, alone=not body.get("choices")) or body.get("object") == "error":
            raise error_from_json(body, provider=provider, read=self._parser.error, headers=wire_response.headers)
        if "choices" not in body:
            raise _without_choices(wire_response.body, provider)
        return fold(self._parser(provider=provider, profile=self.profile).whole(body), provider)

    def error(self, wire_response: WireResponse) -> RemoteError:
        """The error for a response with an error status. It never raises."""
        return error_from_response(wire_response, provider=self.context.provider, read=self._parser.error)

    def _streamed(self, body: bytes) -> ChatResponse:
        decoder = StreamDecoder(*self.stream())
        return fold([*decoder.feed(body), *decoder.finish()], self.context.provider)


def _object(body: bytes, provider: str) -> dict[str, Any]:
    """Decode a body. Google's compatible API puts errors into a list of one."""
    try:
        value = loads(body)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        return value[0]
    return value if isinstance(value, dict) else decode_object(body, "the response", provider=provider)
