"""Parse what the Responses API sends: streams of typed server-sent events, and whole bodies. Pure.

This module finds the item that an event belongs to; `responses_output` turns what an item receives into events.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar

import attrs
from trunkline.authoring.framing import BARE, SSEFrame, SSEOrJSONFramer
from trunkline.authoring.http_errors import ErrorReader, error_from_json, error_from_response
from trunkline.authoring.json import (
    JSONValue,
    append_field,
    as_count,
    as_object,
    as_objects,
    as_string,
    decode_object,
    loads,
    unknown_fields,
)
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ProtocolViolation, RemoteError, ServerError, StreamInterrupted, TrunklineError
from trunkline.events import Event, Finished, ResponseStarted, ResumePoint, UsageReported
from trunkline.fold import Fold
from trunkline.response import CallWarning, ChatResponse, FinishReason, Usage
from trunkline.secrets import Headers, HeaderValues
from trunkline.settings import Settings

from trunkline_openai.errors import error_from_body, is_error
from trunkline_openai.response_parts import AudioPieces
from trunkline_openai.responses_output import (
    CallItem,
    Item,
    MessageItem,
    OutputState,
    ReasoningItem,
    argument_text,
    is_set,
    new_item,
)
from trunkline_openai.responses_progress import UnmatchedItems

ItemT = TypeVar("ItemT", bound=Item)

_INCOMPLETE = {
    "max_output_tokens": FinishReason.LENGTH,
    "max_messages": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
}
_TERMINALS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
_UNFINISHED = ("queued", "in_progress")
_STATUSES = (*_UNFINISHED, "completed", "incomplete", "failed", "cancelled")

READ_FIELDS = frozenset({"id", "model", "status", "output", "usage", "error", "incomplete_details"})
"""The fields of a response object that become fields of `ChatResponse`."""

ECHOED_FIELDS = frozenset(
    {
        "access_programs",
        "background",
        "context_management",
        "frequency_penalty",
        "image",
        "include",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "parallel_tool_calls",
        "presence_penalty",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    }
)
"""The fields of a response object that repeat a parameter of the request, or the default of a parameter."""

SILENT_FIELDS = frozenset({"object", "created_at", "completed_at", "output_text"})
"""The fields of a response object without new information: its type, the server's clock, and the text of the items."""

REPEATED_EVENTS = frozenset(
    {
        "response.apply_patch_call_operation_diff.delta",
        "response.apply_patch_call_operation_diff.done",
        "response.code_interpreter_call_code.delta",
        "response.code_interpreter_call_code.done",
        "response.image_generation_call.partial_image",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
        "response.shell_call_command.added",
        "response.shell_call_command.delta",
        "response.shell_call_command.done",
        "response.shell_call_output_content.delta",
        "response.shell_call_output_content.done",
    }
)
"""Events whose complete content is repeated when their item is done."""

# The fields of an event without content: its type, its position and padding.
_PLACE = frozenset({"type", "sequence_number", "obfuscation", "output_index", "item_id", "content_index"})
EVENT_FIELDS = _PLACE | {
    "annotation",
    "annotation_index",
    "arguments",
    "code",
    "delta",
    "error",
    "input",
    "item",
    "logprobs",
    "message",
    "name",
    "param",
    "part",
    "refusal",
    "response",
    "summary_index",
    "text",
}
"""The event fields that are handled. All others are kept in the metadata of the response."""

_NOT_KEPT = READ_FIELDS | ECHOED_FIELDS | SILENT_FIELDS


class ResponsesParser:
    """The `ResponseParser` of one service with the Responses API. A variant overrides `read_error`."""

    def __init__(self, context: ServiceContext[Settings]) -> None:
        self._provider = context.provider

    @staticmethod
    def read_error(
        body: JSONValue, *, provider: str, status: int | None = None, headers: HeaderValues = Headers()
    ) -> RemoteError:
        """The error that a decoded body describes. It never raises."""
        return error_from_body(body, provider=provider, status=status, headers=headers)

    def stream(self) -> tuple[SSEOrJSONFramer, ResponsesStreamParser]:
        """A fresh framer and parser, for one stream."""
        return SSEOrJSONFramer(), self._stream_parser()

    def resumed(self, point: ResumePoint) -> tuple[SSEOrJSONFramer, ResponsesStreamParser]:
        """A fresh framer and parser, for a stream that is read on from a point."""
        return SSEOrJSONFramer(), self._stream_parser(point)

    def _stream_parser(self, resumed: ResumePoint | None = None) -> ResponsesStreamParser:
        return ResponsesStreamParser(self._provider, read_error=self.read_error, resumed=resumed)

    def body(self, wire_response: WireResponse) -> ChatResponse:
        """The response of a call that was not streamed.

        Raises the error in a body with the status `failed`, even if the HTTP status is 200, and `ProtocolViolation`
        for a body that is not a response object.
        """
        data = decode_object(wire_response.body, "the body", provider=self._provider)
        if "output" not in data and data.get("status") not in _STATUSES and not data.get("error"):
            raise ProtocolViolation("the body is not a response object: it has no output", provider=self._provider)
        # A body is read as a stream with only its last event.
        folded = Fold(self._provider)
        parser = self._stream_parser()
        for event in parser.whole(data, wire_response.headers):
            folded.add(event)
        # The core adds the warnings about broken arguments itself.
        return attrs.evolve(folded.response(), warnings=parser.warnings)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        """The error for a response with an error status. It never raises."""
        return error_from_response(wire_response, provider=self._provider, read=self.read_error)


Handler: TypeAlias = Callable[["ResponsesStreamParser", dict[str, Any], "list[Event]"], None]


class ResponsesStreamParser:
    """Turns the events of one stream into the core's.

    An event belongs to the item of its type with its id, else with its `output_index`. Either alone is not enough: some
    servers send a different id with each event, others give every item the index 0. If both match an item that has
    another call's id or has ended, the event is about a new item.
    """

    def __init__(
        self, provider: str, *, read_error: ErrorReader = error_from_body, resumed: ResumePoint | None = None
    ) -> None:
        self._provider = provider
        self._read_error = read_error
        self._output = OutputState(provider)
        self._started = False
        # Whether the response runs in the background, so that its stream can be resumed after each event.
        self._background = resumed is not None
        # Whether the stream continues one whose events came before, so that items are in the last event alone.
        self._continues = resumed is not None and resumed.after is not None
        if resumed is not None:
            self._output.response_id = resumed.response_id
        self._items: list[Item] = []
        self._by_id: dict[tuple[str, str], Item] = {}
        self._by_index: dict[tuple[str, int], Item] = {}
        self._audio = AudioPieces(provider)
        # Other fields of the response, under their names in the API.
        self._metadata: dict[str, Any] = {}
        # The HTTP status in the stream, if any.
        self._status: int | None = None
        self._fields: tuple[str, ...] | None = None  # the fields of the last event, if all of them are known
        # A failure without a reason. A later event may contain the reason.
        self._unexplained: RemoteError | None = None

    @property
    def warnings(self) -> tuple[CallWarning, ...]:
        """The warnings about the response."""
        return tuple(self._output.warnings)

    def feed(self, frame: SSEFrame) -> list[Event]:
        """The events of one frame. Raises the error in an `error` or `response.failed` event."""
        text, event, status = frame
        if not text or text in (b"[DONE]", b"null") or text.isspace():
            return []
        if status is not None:
            self._status = status
        try:
            data = loads(text)
        except (ValueError, RecursionError):
            data = None
        if type(data) is not dict:
            data = self._not_an_object(text, event)
        kind = data.get("type")
        if type(kind) is not str:
            kind = "error" if data.get("error") else event
        handler = _HANDLERS.get(kind)
        events: list[Event] = []
        if handler is None:
            self._other(kind, data, frame, events)
            return events
        # Nearly all events have the same fields as the previous event.
        fields = tuple(data)
        if fields != self._fields:
            self._fields = fields
            if not data.keys() <= EVENT_FIELDS:
                self._fields = None
                self._keep(data, EVENT_FIELDS)
        handler(self, data, events)
        if self._background:
            self._add_point(data.get("sequence_number"), events)
        if events and not self._started:
            self._start(data, events)
        return events

    def _add_point(self, sequence: object, events: list[Event]) -> None:
        """Add the point after an event of the wire, even if it gave no events. There is nothing after the last one."""
        finished = bool(events) and type(events[-1]) is Finished
        if type(sequence) is int and not finished and self._output.response_id:
            events.append(ResumePoint(response_id=self._output.response_id, after=sequence))

    def finish(self) -> list[Event]:
        """Raise the failure whose reason did not arrive, or `StreamInterrupted` if the last event is missing."""
        if self._unexplained is not None:
            raise self._unexplained
        raise StreamInterrupted(
            "the stream ended before response.completed, response.incomplete or response.failed",
            provider=self._provider,
        )

    def whole(self, response: dict[str, Any], headers: HeaderValues = Headers()) -> list[Event]:
        """The events of a body that was not streamed. Raises the error in it."""
        status = response.get("status")
        if status == "failed" or (response.get("error") and status not in ("completed", "incomplete", "cancelled")):
            raise self._failure(_reason_of(response), headers)
        events: list[Event] = [self._response_started(response)]
        self._finish_response(response, as_string(status) or "", events)
        return events

    def _not_an_object(self, text: bytes, event: str) -> dict[str, Any]:
        """Return data for an event whose text is not a JSON object. Raises `ProtocolViolation` if it must be one."""
        if event == "error":
            return {"type": "error", "message": text.decode("utf-8", "replace")}
        if event not in _HANDLERS and event not in ("message", BARE):
            return {"type": event}
        return decode_object(text, "an event of the stream", provider=self._provider)

    def _other(self, kind: str, data: dict[str, Any], frame: SSEFrame, events: list[Event]) -> None:
        """Handle an event of an unknown type: an error under another name, a whole body, or data to keep."""
        if frame.event == BARE and ("output" in data or data.get("object") == "response"):
            # A server that ignores `"stream": true` sends a whole body.
            events += self.whole(data)
        elif _is_error(kind, data, frame):
            self._error(data, events)
        elif kind not in REPEATED_EVENTS:
            kept = unknown_fields(data, _PLACE)
            if kept:
                append_field(self._metadata, kind, kept)

    def _keep(self, data: dict[str, Any], known: frozenset[str]) -> None:
        self._metadata.update(unknown_fields(data, known))

    def _start(self, data: dict[str, Any], events: list[Event]) -> None:
        self._started = True
        if type(events[0]) is not ResponseStarted:
            response = data.get("response")
            events.insert(0, self._response_started(response if isinstance(response, dict) else {}))

    def _response_started(self, response: dict[str, Any]) -> ResponseStarted:
        self._output.response_id = as_string(response.get("id")) or self._output.response_id
        return ResponseStarted(id=self._output.response_id or None, model=as_string(response.get("model")) or None)

    # Items

    def _find(self, kind: str, index: object, item_id: object) -> Item | None:
        item = self._by_id.get((kind, item_id)) if isinstance(item_id, str) else None
        if item is None and type(index) is int:
            item = self._by_index.get((kind, index))
        return item

    def _add(self, kind: str, index: object, data: dict[str, Any]) -> Item:
        item = new_item(self._output, kind, data)
        self._items.append(item)
        item_id = data.get("id")
        if isinstance(item_id, str):
            self._by_id[kind, item_id] = item
        if type(index) is int:
            self._by_index[kind, index] = item
        return item

    def _item(self, data: dict[str, Any], kind: str, cls: type[ItemT]) -> ItemT:
        """The item that a delta belongs to. It is created if the server did not announce it."""
        index, item_id = data.get("output_index"), data.get("item_id")
        item = self._find(kind, index, item_id)
        if item is None:
            if type(index) is not int and not isinstance(item_id, str):
                raise ProtocolViolation(
                    f"{data.get('type')} has neither an output_index nor an item_id", provider=self._provider
                )
            item = self._add(kind, index, {"id": item_id} if isinstance(item_id, str) else {})
            item.begun_before = self._continues
        assert isinstance(item, cls)
        return item

    def _item_data(self, data: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        item = data.get("item")
        if not isinstance(item, dict) or not isinstance(item.get("type"), str):
            raise ProtocolViolation(f"{data.get('type')} has no item with a type", provider=self._provider)
        return item["type"], item

    def _item_added(self, data: dict[str, Any], events: list[Event]) -> None:
        kind, item_data = self._item_data(data)
        index = data.get("output_index")
        item = self._find(kind, index, item_data.get("id"))
        if item is None or _another(item, item_data):
            item = self._add(kind, index, item_data)
        item.start(events)

    def _item_done(self, data: dict[str, Any], events: list[Event]) -> None:
        kind, item_data = self._item_data(data)
        index = data.get("output_index")
        item = self._find(kind, index, item_data.get("id"))
        if item is None or _another(item, item_data):
            item = self._add(kind, index, item_data)
            item.begun_before = self._continues
        item.finish(item_data, events)

    # Texts, calls, reasoning

    def _part(self, data: dict[str, Any], events: list[Event]) -> None:
        part = data.get("part")
        if not isinstance(part, dict) or part.get("type") not in ("output_text", "text", "refusal"):
            return
        self._item(data, "message", MessageItem).part(data.get("content_index"), part, events)

    def _text_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        item = self._item(data, "message", MessageItem)
        piece = item.piece(data.get("content_index"), events)
        item.delta(piece, self._text(data, "delta"), data.get("logprobs"), events)

    def _text_done(self, data: dict[str, Any], events: list[Event]) -> None:
        item = self._item(data, "message", MessageItem)
        item.done(data.get("content_index"), as_string(data.get("text")) or "", data.get("logprobs"), events)

    def _refusal_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        item = self._item(data, "message", MessageItem)
        item.delta(item.piece(data.get("content_index"), events, refusal=True), self._text(data, "delta"), None, events)

    def _refusal_done(self, data: dict[str, Any], events: list[Event]) -> None:
        item = self._item(data, "message", MessageItem)
        item.done(data.get("content_index"), as_string(data.get("refusal")) or "", None, events, refusal=True)

    def _annotation(self, data: dict[str, Any], events: list[Event]) -> None:
        item = self._item(data, "message", MessageItem)
        item.annotate(item.piece(data.get("content_index"), events), data.get("annotation"), events)

    def _arguments_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        delta = argument_text(data.get("delta"), self._provider)
        self._item(data, "function_call", CallItem).delta(delta, events)

    def _arguments_done(self, data: dict[str, Any], events: list[Event]) -> None:
        self._item(data, "function_call", CallItem).complete(data.get("arguments"), events)

    def _input_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        self._item(data, "custom_tool_call", CallItem).delta(self._text(data, "delta"), events)

    def _input_done(self, data: dict[str, Any], events: list[Event]) -> None:
        self._item(data, "custom_tool_call", CallItem).complete(data.get("input"), events)

    def _summary_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        item = self._item(data, "reasoning", ReasoningItem)
        item.delta("summary", data.get("summary_index"), self._text(data, "delta"), events)

    def _summary_done(self, data: dict[str, Any], events: list[Event]) -> None:
        item = self._item(data, "reasoning", ReasoningItem)
        item.complete("summary", data.get("summary_index"), as_string(data.get("text")) or "", events)

    def _reasoning_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        item = self._item(data, "reasoning", ReasoningItem)
        item.delta("content", data.get("content_index"), self._text(data, "delta"), events)

    def _reasoning_done(self, data: dict[str, Any], events: list[Event]) -> None:
        item = self._item(data, "reasoning", ReasoningItem)
        item.complete("content", data.get("content_index"), as_string(data.get("text")) or "", events)

    def _audio_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        self._audio.add({"data": self._text(data, "delta")})

    def _transcript_delta(self, data: dict[str, Any], events: list[Event]) -> None:
        self._audio.add({"transcript": self._text(data, "delta")})

    def _text(self, data: dict[str, Any], name: str) -> str:
        value = data.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise ProtocolViolation(f"{data.get('type')} has a {name} that is not text", provider=self._provider)
        return value

    # The response

    def _created(self, data: dict[str, Any], events: list[Event]) -> None:
        response = data.get("response")
        if isinstance(response, dict) and response.get("background") is True:
            self._background = True
        if isinstance(response, dict) and not response.keys() <= _NOT_KEPT:
            self._keep(response, _NOT_KEPT)
        if not self._started:
            events.append(self._response_started(response if isinstance(response, dict) else {}))

    def _terminal(self, data: dict[str, Any], events: list[Event]) -> None:
        response = data.get("response")
        if not isinstance(response, dict):
            raise ProtocolViolation(f"{data.get('type')} has no response object", provider=self._provider)
        status = _TERMINALS.get(as_string(data.get("type")) or "", "")
        if status == "failed" or response.get("status") == "failed":
            self._fail(_reason_of(response))
            return
        stated = response.get("status")
        status = stated if stated in ("completed", "incomplete", "cancelled") else status
        self._finish_response(response, status, events)

    def _error(self, data: dict[str, Any], events: list[Event]) -> None:
        error = data.get("error")
        for name in ("status_code", "status"):  # the Codex endpoint sends the status next to `error`
            if type(data.get(name)) is int and data[name] >= 400:
                self._status = data[name]
        if not error:
            error = {name: value for name, value in data.items() if name not in _PLACE and value is not None}
            if "error_type" in error:
                error["type"] = error["error_type"]
        self._fail(error)

    def _fail(self, error: object) -> None:
        # Servers send a failure and its reason in two events, in either order. The first event with a reason is raised.
        if not error:
            self._unexplained = self._failure(error)
        else:
            raise self._failure(error)

    def _failure(self, error: object, headers: HeaderValues = Headers()) -> RemoteError:
        read = self._read_error if self._status is None else partial(self._read_error, status=self._status)
        return error_from_json(_error_body(error), provider=self._provider, read=read, headers=headers)

    def _finish_response(self, response: dict[str, Any], status: str, events: list[Event]) -> None:
        output = as_objects(response.get("output"))
        if status in ("completed", "") and not output and not self._items and not _counted(response.get("usage")):
            # If there are no items and no token counts, no model has answered. Gateways send such a response instead
            # of an error (github.com/Wei-Shaw/sub2api/pull/5415, August 2026).
            raise ServerError(
                "the response has neither output nor usage, and no error explains why", provider=self._provider
            )
        self._finish_items(output, events)
        audio = self._audio.end()
        if audio is not None and not self._output.has_audio:
            events.append(audio)
        usage = read_usage(response.get("usage"))
        if usage is not None:
            events.append(UsageReported(usage=usage))
        reason, raw_reason = _finish_reason(response, status, calls=self._output.awaits_the_application)
        self._keep(response, _NOT_KEPT)
        details = as_object(response.get("incomplete_details"))
        if not details.keys() <= {"reason"}:
            self._metadata["incomplete_details"] = details
        events.append(
            Finished(
                reason=reason,
                raw_reason=raw_reason,
                usage=usage,
                warnings=self.warnings,
                provider_metadata={self._provider: self._metadata} if self._metadata else {},
                raw=response,
            )
        )

    def _finish_items(self, output: list[dict[str, Any]], events: list[Event]) -> None:
        """Match the items in the last event with the streamed ones, so that each is finished once."""
        unmatched: UnmatchedItems[Item] = UnmatchedItems()
        for item in self._items:
            unmatched.add(
                item, item.kind, as_string(item.data.get("call_id")) or "" if isinstance(item, CallItem) else ""
            )
        for index, data in enumerate(output):
            kind = data.get("type")
            if not isinstance(kind, str):
                raise ProtocolViolation("an output item has no type", provider=self._provider)
            found = self._find(kind, index, data.get("id"))
            if found is None or found not in unmatched or _other_call(found, data):
                found = unmatched.find(kind, as_string(data.get("call_id")) or "")
            if found is None and self._continues:
                self._output.note(kind, data)
                continue
            if found is None:
                found = self._add(kind, index, data)
            else:
                unmatched.remove(found)
                if found.finished and (late := _unseen(found.data, data)):
                    append_field(self._metadata, "output", {"id": data.get("id"), **late})
            found.finish(data, events)
        for item in unmatched.rest():
            item.finish({}, events)


def _another(item: Item, data: dict[str, Any]) -> bool:
    """Whether `data` is a different item than `item`, although their id or index is the same."""
    if isinstance(item, CallItem) and as_string(data.get("call_id")) and (as_string(item.data.get("call_id")) or ""):
        return _other_call(item, data)
    known = item.data.get("id")
    return item.finished and (known is None or known != data.get("id"))


def _other_call(item: Item, data: dict[str, Any]) -> bool:
    known, other = as_string(item.data.get("call_id")) or "", as_string(data.get("call_id")) or ""
    return isinstance(item, CallItem) and bool(known and other) and known != other


def _is_error(kind: str, data: dict[str, Any], frame: SSEFrame) -> bool:
    """Whether an event of an unknown type describes an error."""
    if frame.event == "error" or (frame.status or 0) >= 400 or kind.endswith((".error", "_error")):
        return True
    return is_error(data, alone="type" not in data)


def _reason_of(response: dict[str, Any]) -> object:
    """Return the reason for a failure, or an empty value."""
    if error := response.get("error"):
        return error
    reason = as_object(response.get("incomplete_details")).get("reason")
    return {"code": reason, "message": f"the response failed: {reason}"} if isinstance(reason, str) else None


def _unseen(known: Any, data: Any) -> Any:
    """Return the fields of `data` that are missing in `known`, at any depth. The last event may add fields to items."""
    if isinstance(known, dict) and isinstance(data, dict):
        late = {name: value if name not in known else _unseen(known[name], value) for name, value in data.items()}
        return {name: value for name, value in late.items() if is_set(value)}
    if isinstance(known, list) and isinstance(data, list):
        return [late for before, after in zip(known, data, strict=False) if (late := _unseen(before, after))]
    return None


def _error_body(error: object) -> dict[str, Any]:
    """The error in the form of an error response's body."""
    if isinstance(error, dict):
        return {"error": error}
    return {"error": {"message": as_string(error) or "the provider reported a failure without a reason"}}


def _counted(usage: object) -> bool:
    """Whether any token count is above zero."""
    return isinstance(usage, dict) and any(type(count) is int and count > 0 for count in usage.values())


def _finish_reason(response: dict[str, Any], status: str, *, calls: bool) -> tuple[FinishReason, str | None]:
    if status == "incomplete":
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        if not isinstance(reason, str):
            return FinishReason.OTHER, status
        # A call that the limit cut off must not be run, so the reason is not `tool_calls`.
        return _INCOMPLETE.get(reason, FinishReason.OTHER), f"incomplete:{reason}"
    if status in _UNFINISHED:
        return FinishReason.PENDING, status
    if status == "cancelled":
        return FinishReason.OTHER, status
    if calls:
        return FinishReason.TOOL_CALLS, status or None
    return (FinishReason.STOP if status == "completed" else FinishReason.OTHER), status or None


def read_usage(data: object) -> Usage | None:
    """The usage, if any. Input tokens include cached ones, and output tokens include reasoning."""
    if not isinstance(data, dict):
        return None

    details = {name: as_object(data.get(name)) for name in ("input_tokens_details", "output_tokens_details")}
    return Usage(
        input_tokens=as_count(data.get("input_tokens")),
        output_tokens=as_count(data.get("output_tokens")),
        total_tokens=as_count(data.get("total_tokens")),
        cache_read_tokens=as_count(details["input_tokens_details"].get("cached_tokens")),
        cache_write_tokens=as_count(details["input_tokens_details"].get("cache_write_tokens")),
        reasoning_tokens=as_count(details["output_tokens_details"].get("reasoning_tokens")),
        raw=data,
    )


_HANDLERS: dict[str, Handler] = {
    "response.created": ResponsesStreamParser._created,
    "response.queued": ResponsesStreamParser._created,
    "response.in_progress": ResponsesStreamParser._created,
    "response.output_item.added": ResponsesStreamParser._item_added,
    "response.output_item.done": ResponsesStreamParser._item_done,
    "response.content_part.added": ResponsesStreamParser._part,
    "response.content_part.done": ResponsesStreamParser._part,
    "response.output_text.delta": ResponsesStreamParser._text_delta,
    "response.output_text.done": ResponsesStreamParser._text_done,
    "response.output_text.annotation.added": ResponsesStreamParser._annotation,
    "response.refusal.delta": ResponsesStreamParser._refusal_delta,
    "response.refusal.done": ResponsesStreamParser._refusal_done,
    "response.function_call_arguments.delta": ResponsesStreamParser._arguments_delta,
    "response.function_call_arguments.done": ResponsesStreamParser._arguments_done,
    "response.custom_tool_call_input.delta": ResponsesStreamParser._input_delta,
    "response.custom_tool_call_input.done": ResponsesStreamParser._input_done,
    "response.reasoning_summary_text.delta": ResponsesStreamParser._summary_delta,
    "response.reasoning_summary_text.done": ResponsesStreamParser._summary_done,
    "response.reasoning_text.delta": ResponsesStreamParser._reasoning_delta,
    "response.reasoning_text.done": ResponsesStreamParser._reasoning_done,
    "response.completed": ResponsesStreamParser._terminal,
    "response.incomplete": ResponsesStreamParser._terminal,
    "response.failed": ResponsesStreamParser._terminal,
    "response.cancelled": ResponsesStreamParser._terminal,
    "response.audio.delta": ResponsesStreamParser._audio_delta,
    "response.audio.transcript.delta": ResponsesStreamParser._transcript_delta,
    "error": ResponsesStreamParser._error,
}
