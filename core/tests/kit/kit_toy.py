"""A toy provider of server-sent events that passes the kit, unless a subclass of its test plants a bug in it."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

import pytest
from trunkline.authoring.auth import HeaderAuth, NoAuth
from trunkline.authoring.framing import BARE, SSEFrame, SSEFramer, SSEOrJSONFramer
from trunkline.authoring.http_errors import retry_after
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.provider import Auth, Provider, ServiceContext, Translation
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    NotFound,
    PermissionDenied,
    ProtocolViolation,
    RateLimited,
    RemoteError,
    ServerError,
    StreamInterrupted,
)
from trunkline.events import (
    Event,
    Finished,
    ResponseStarted,
    TextDelta,
    TextEnd,
    TextStart,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    UsageReported,
)
from trunkline.fold import fold
from trunkline.request import ChatRequest
from trunkline.response import ChatResponse, FinishReason, Usage
from trunkline.secrets import Secret
from trunkline.settings import Converted, Settings, setting, settings
from trunkline.testing import SSE, WEATHER, ProviderTests, Sample, WireFormat, canary

BUG = ""
REASONS = {"stop": FinishReason.STOP, "calls": FinishReason.TOOL_CALLS}
ERRORS: dict[int, type[RemoteError]] = {
    401: AuthenticationError,
    403: PermissionDenied,
    404: NotFound,
    429: RateLimited,
}


@settings
class ToySettings(Settings):
    """Settings of a provider that exists in these tests alone."""

    provider = "kit-toy"

    url: str = setting("URL", "Where it is.")
    api_key: Converted[Secret, str] = setting("API Key", "Its key.")
    account: str | None = setting("Account", "The account to bill.", default=None)


class LeakyAuth(HeaderAuth):
    def __repr__(self) -> str:
        return f"LeakyAuth({self.secrets})"


def toy_error(status: int | None, body: Any, headers: Any) -> RemoteError:
    message = body.get("error") if isinstance(body, dict) else None
    kind = ERRORS.get(status or 500, ServerError if status is None or status >= 500 else BadRequest)
    retryable = True if status in (408, 409, 425) else None
    if BUG == "status_not_retryable":
        retryable = False
    if BUG == "early_error_final" and status is None:
        retryable = False
    if BUG == "error_retried" and status == 400:
        retryable = True
    error = kind(
        message if isinstance(message, str) else "it failed",
        status=status,
        retry_after=retry_after(headers),
        retryable=retryable,
        body=body if isinstance(body, dict) else None,
    )
    if BUG == "key_in_log":
        logging.getLogger("toy").error("refused the key %s", canary("api_key"))  # the core cannot scrub other logs
    return error


class Translator:
    def __init__(self, context: ServiceContext[ToySettings]) -> None:
        self._settings = context.settings

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        texts = [message.text for message in request.messages]
        body = dumps({"model": request.model, "text": texts, "stream": stream})
        return Translation(wire_request=WireRequest(url=self._settings.url + "/chat", body=body))


class SplitDecoding(SSEOrJSONFramer):
    def feed(self, data: bytes) -> list[SSEFrame]:
        return super().feed(data.decode("utf-8", "replace").encode())


class NoCRLF(SSEOrJSONFramer):
    def feed(self, data: bytes) -> list[SSEFrame]:
        return super().feed(data.replace(b"\r", b"?"))


FRAMERS: dict[str, Any] = {
    "text_decoded_by_read": SplitDecoding,
    "crlf_unknown": NoCRLF,
    "bare_error_ignored": SSEFramer,
}


class Parser:
    def __init__(self) -> None:
        self._events: list[Event] = []
        self._started = False
        self._text: int | None = None
        self._calls: dict[int, int] = {}
        self._next = 0
        self._usage: Usage | None = Usage(output_tokens=0, total_tokens=0) if BUG == "usage_zero" else None

    def feed(self, frame: SSEFrame) -> list[Event]:
        try:
            data = loads(frame.data)
        except (ValueError, RecursionError):
            if BUG == "skips_broken_json":
                return []
            raise ProtocolViolation(f"an event is not JSON: {frame.data[:40]!r}") from None
        if BUG != "crash_on_odd_json" and not isinstance(data, dict):
            raise ProtocolViolation("an event is no object")
        if data.get("error") and BUG != "error_event_ignored":
            raise toy_error(None, data, {})
        if BUG == "whole_answer_refused" and frame.event == BARE:
            raise ProtocolViolation("no event")
        if frame.event == BARE and not isinstance(data.get("type"), str):
            return self.whole(data)
        self._events = [] if self._started else [ResponseStarted(id="1", model=None if BUG == "model_lost" else "m")]
        if not self._started and BUG == "usage_zero":
            self._events.append(UsageReported(usage=self._usage or Usage()))
        self._started = True
        self._take(data)
        return self._events

    def finish(self) -> list[Event]:
        if BUG == "success_at_end_of_file" and self._started:
            self._events = []
            self._end({"reason": "stop"})
            return self._events
        raise StreamInterrupted("no end")

    def whole(self, data: dict[str, Any]) -> list[Event]:
        if data.get("error"):
            raise toy_error(None, data, {})
        if "reason" not in data:
            raise ProtocolViolation(f"no answer: {dumps(data)[:60]!r}")
        self._started, self._events = True, [ResponseStarted(id="1", model="m")]
        if data.get("text"):
            self._take({"type": "text", "text": data["text"]})
        calls = data.get("calls")
        for index, call in enumerate(calls if isinstance(calls, list) else []):
            if isinstance(call, dict):
                self._take({"type": "call", **call, "index": index})
        self._take({"type": "usage", "usage": data.get("usage")})
        self._end(data)
        return self._events

    def _take(self, data: dict[str, Any]) -> None:
        kind, text = data.get("type"), data.get("text")
        if kind == "text":
            if not isinstance(text, str):
                raise ProtocolViolation("a text is none")
            if self._text is None:
                self._text = self._take_index()
                self._events.append(TextStart(index=self._text))
            self._events.append(TextDelta(index=self._text, text=text))
        elif kind == "call":
            self._call(data)
        elif kind == "usage":
            self._count(data.get("usage"))
        elif kind == "end":
            self._end(data)
        elif BUG == "unknown_event_fatal":
            raise ProtocolViolation(f"no event {kind}")

    def _call(self, data: dict[str, Any]) -> None:
        index = 0 if BUG == "calls_fused" else data.get("index")
        if BUG != "crash_on_odd_json" and type(index) is not int:
            raise ProtocolViolation("a call has no index")
        if index not in self._calls:
            if not isinstance(data.get("id"), str) or not isinstance(data.get("name"), str):
                raise ProtocolViolation("a call began without id and name")
            self._calls[index] = self._take_index()
            self._events.append(ToolCallStart(index=self._calls[index], id=data["id"], name=data["name"]))
        arguments = data.get("arguments")
        if isinstance(arguments, str) and arguments:
            self._events.append(ToolCallDelta(index=self._calls[index], arguments=arguments))

    def _count(self, raw: Any) -> None:
        if not isinstance(raw, dict):
            return
        counts = {name: value for name in ("input", "output") if type(value := raw.get(name)) is int}
        if BUG == "usage_added_up" and self._usage is not None and self._usage.output_tokens:
            counts["output"] = counts.get("output", 0) + self._usage.output_tokens
        self._usage = Usage(input_tokens=counts.get("input"), output_tokens=counts.get("output"))
        self._events.append(UsageReported(usage=self._usage))

    def _end(self, data: dict[str, Any]) -> None:
        raw = data.get("reason")
        raw = raw if isinstance(raw, str) else None
        reason = REASONS.get(raw or "", FinishReason.STOP if BUG == "unknown_finish_is_stop" else FinishReason.OTHER)
        if self._text is not None:
            self._events.append(TextEnd(index=self._text))
        self._events += [ToolCallEnd(index=index) for index in self._calls.values()]
        self._events.append(Finished(reason=reason, raw_reason=raw, usage=self._usage))

    def _take_index(self) -> int:
        self._next += 1
        return self._next - 1


class ToyResponses:
    def stream(self) -> tuple[Any, Parser]:
        return FRAMERS.get(BUG, SSEOrJSONFramer)(), Parser()

    def body(self, wire_response: WireResponse) -> ChatResponse:
        try:
            data = loads(wire_response.body)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise ProtocolViolation(f"no answer: {wire_response.body[:40]!r}")
        if BUG == "body_differs":
            data = {**data, "text": str(data.get("text") or "") + "."}
        return fold(Parser().whole(data), "kit-toy")

    def error(self, wire_response: WireResponse) -> RemoteError:
        try:
            data = loads(wire_response.body)
        except (ValueError, RecursionError):
            data = None
        return toy_error(wire_response.status, data, wire_response.headers)


def make_auth(context: ServiceContext[ToySettings]) -> Auth:
    if "authorization" in context.settings.headers:
        return NoAuth()
    kind = LeakyAuth if BUG == "key_in_repr" else HeaderAuth
    return kind("authorization", context.settings.api_key.reveal(), prefix="Bearer ")


TOY = Provider(
    name="kit-toy",
    settings=ToySettings,
    auth=make_auth,
    translator=Translator,
    response_parser=lambda context: ToyResponses(),
)


def event(kind: str, **fields: Any) -> bytes:
    return SSE.frame(dumps({"type": kind, **fields}), kind)


COUNT = {"input": 9, "output": 5}
USED = event("usage", usage=COUNT)
COUNTED = Usage(input_tokens=9, output_tokens=5)
TEXT = (event("text", text="Grüß "), event("text", text="Gott 🌍"))


def text_sample(name: str, *end: bytes) -> Sample:
    return Sample(
        name=name,
        frames=(event("start", model="m"), *TEXT, *end),
        body=dumps({"model": "m", "text": "Grüß Gott 🌍", "usage": COUNT, "reason": "stop"}),
        text="Grüß Gott 🌍",
        usage=COUNTED,
    )


WIRE = WireFormat(
    framing=SSE,
    finish="stop",
    error_body=lambda message: dumps({"error": message}),
    error_event=lambda message: SSE.frame(dumps({"error": message}), "error"),
    samples=(
        text_sample("text", USED, event("end", reason="stop")),
        text_sample("usage twice", USED, USED, event("end", reason="stop")),
        Sample(
            name="two tool calls, interleaved",
            request=ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
            frames=(
                event("call", index=0, id="c0", name="weather"),
                event("call", index=1, id="c1", name="weather"),
                event("call", index=0, arguments='{"city":'),
                event("call", index=1, arguments='{"city":"Rome"}'),
                event("call", index=0, arguments='"Oslo"}'),
                USED,
                event("end", reason="calls"),
            ),
            tool_calls=(("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})),
            finish_reason=FinishReason.TOOL_CALLS,
            usage=COUNTED,
        ),
    ),
)


class TestToy(ProviderTests):
    provider = TOY
    settings = {"url": "{url}", "api_key": canary("api_key")}
    wire = WIRE
    bug: ClassVar[str] = ""

    @pytest.fixture(autouse=True)
    def _plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(globals(), "BUG", self.bug)
