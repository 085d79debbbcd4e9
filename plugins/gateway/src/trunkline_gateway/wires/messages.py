"""Anthropic's Messages: requests, responses, streams and errors.

Thinking has the provider's signature if the provider speaks this format too. Otherwise the field `signature` has the
signature, or whatever else the provider needs to take its reasoning back, in wrapped form (`wires.carried`). Data for
which this format has no field is wrapped in a `redacted_thinking` block, which clients send back unchanged: the
metadata of a tool call before the call, that of a text after the text, and a part that only the provider understands in
its place.

A stream has one block open at a time. Events of a part that overlaps another one wait until the other part is complete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from typing import Any, TypeAlias

from trunkline import (
    Audio,
    ChatResponse,
    Citation,
    Document,
    Event,
    FinishReason,
    Image,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)
from trunkline.authoring.json import JSONObject, JSONValue, ProviderOptions, as_object, dumps
from trunkline.events import (
    Finished,
    PartAdded,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    ResponseStarted,
    TextDelta,
    TextEnd,
    TextStart,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    UsageReported,
)

from trunkline_gateway.problems import Kind, Problem
from trunkline_gateway.wires import Reply
from trunkline_gateway.wires.carried import passable, wrap, wrap_reasoning
from trunkline_gateway.wires.messages_reader import (
    WIRE,
    ignored_fields,
    read_count_request,
    read_request,
)

__all__ = [
    "StreamWriter",
    "ignored_fields",
    "read_count_request",
    "read_request",
    "write_count",
    "write_error",
    "write_response",
]

Fields: TypeAlias = dict[str, JSONValue]

_STOP_REASONS: Mapping[FinishReason, str] = {
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
    FinishReason.PAUSED: "pause_turn",
}
"""Anthropic has no word for the others, which end a response as `end_turn` does."""

_OWN_REASONS: Mapping[str, FinishReason] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "compaction": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "refusal": FinishReason.CONTENT_FILTER,
    "pause_turn": FinishReason.PAUSED,
}
"""Anthropic's stop reasons, which are more exact than the core's."""

_ERROR_TYPES: Mapping[Kind, str] = {
    "invalid_request": "invalid_request_error",
    "context_too_long": "invalid_request_error",
    "content_filtered": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "not_found_error",
    "too_large": "request_too_large",
    "rate_limited": "rate_limit_error",
    "quota": "billing_error",
    "upstream": "api_error",
    "overloaded": "overloaded_error",
    "timeout": "timeout_error",
    "internal": "api_error",
}

_TOO_LONG = "prompt is too long"
"""The words by which clients of Anthropic know that a conversation has to be shortened."""

_DIRECT: JSONObject = {"type": "direct"}
"""The usual `caller` of a tool call: the model itself."""

_MESSAGE_FIELDS = frozenset({"id", "type", "role", "model", "content", "stop_reason", "usage", "ping", "error"})
_DELTA_FIELDS = frozenset({"stop_sequence", "stop_details", "container"})
"""Fields of a message that `message_delta` has in its `delta`."""
_DELTA_EVENT_FIELDS = _DELTA_FIELDS | {"delta", "index", "message", "content_block"}
_BLOCK_FIELDS = frozenset({"type", "id", "name", "input", "text", "citations", "thinking", "signature", "data"})


def write_error(problem: Problem, request_id: str) -> JSONObject:
    """Write the body of an error. `request_id` may be empty."""
    message = problem.message
    if problem.kind == "context_too_long" and _TOO_LONG not in message.lower():
        message = f"{_TOO_LONG}: {message}"
    error: Fields = {"type": _ERROR_TYPES[problem.kind], "message": message}
    if problem.code is not None:
        error["details"] = {"error_code": problem.code}
    body: Fields = {"type": "error", "error": error}
    return {**body, "request_id": request_id} if request_id else body


def write_count(tokens: int) -> JSONObject:
    """Write the answer to a request to count tokens."""
    return {"input_tokens": tokens}


def write_response(response: ChatResponse, reply: Reply) -> JSONObject:
    """Write a whole response."""
    provider = reply.target.provider_speaking(WIRE)
    own = passable(as_object(response.provider_metadata.get(provider))) if provider is not None else {}
    message: Fields = {name: value for name, value in own.items() if name not in _MESSAGE_FIELDS}
    message |= {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.target.name,
        "content": _content(response, provider),
        "stop_reason": _stop_reason(response.finish_reason, response.raw_finish_reason, provider),
        "usage": _usage(response.usage, reply, provider),
    }
    return {"stop_sequence": None, **message}


def _content(response: ChatResponse, provider: str | None) -> list[JSONValue]:
    content: list[JSONValue] = []
    cited: list[JSONValue] = []  # the citations of the last text, or those before the first one
    text: Fields | None = None
    for part in response.parts:
        if isinstance(part, Text):
            blocks = _text_blocks(part, provider)
            if part.text:
                text, cited = _with_citations(text, blocks[0], cited)
            content += blocks
        elif isinstance(part, Citation):
            cited.append(_citation(part, provider))
        elif isinstance(part, Reasoning):
            content += _reasoning_blocks(part, part.text, part.family, provider)
        elif isinstance(part, ToolCall):
            content += _call_blocks(part, provider)
        elif isinstance(part, (Opaque, Image, Audio, Document)):
            content += _added_blocks(part, provider)
    if text is not None:
        text["citations"] = cited or None
    elif cited:
        content.append({"type": "text", "text": "", "citations": cited})
    return content


def _with_citations(before: Fields | None, block: Fields, cited: list[JSONValue]) -> tuple[Fields, list[JSONValue]]:
    """Give the text before a block its citations. Returns the block and the list for its own."""
    if before is None:
        return block, cited
    before["citations"] = cited or None
    return block, []


class _Part:
    """A part of a stream whose events are written as they come."""

    __slots__ = ("arguments", "index", "is_open", "start")

    def __init__(self, start: TextStart | ReasoningStart | ToolCallStart) -> None:
        self.start = start
        self.index = start.index
        self.is_open = False
        """Whether its block has started."""
        self.arguments = ""
        """The arguments of a tool call whose block has not started."""


class StreamWriter:
    """Writes the events of a stream as server-sent events."""

    heartbeat: bytes = b'event: ping\ndata: {"type": "ping"}\n\n'
    """What keeps an idle connection open."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._provider = reply.target.provider_speaking(WIRE)
        self._family: str | None = None
        self._usage: Usage | None = None
        self._block = -1  # the index of the last block that has started
        self._is_open = False
        self._part: _Part | None = None
        self._written = -1  # the index of the text whose block is open, for `write`
        self._queue: deque[list[Event]] = deque()  # the events of each part that waits
        self._queued: dict[int, list[Event]] = {}
        self._citations: list[Citation] = []
        self._after: list[Fields] = []  # blocks that follow the open one
        self._delta = b""
        self._text = b""

    def write(self, event: Event) -> bytes:
        """Return the bytes of an event, empty if the format has nothing for it. `Finished` ends the stream."""
        if type(event) is TextDelta and event.index == self._written:
            text = event.text
            if not text:
                return b""
            try:
                return self._text + encode_basestring(text).encode() + b"}}\n\n"
            except UnicodeEncodeError:  # a lone surrogate
                return self._text + dumps(text) + b"}}\n\n"
        if type(event) is Finished:
            return self._finished(event)
        content = b""
        if self._part is None and self._queue and type(event) is not Citation:
            content = self._drain()
        if self._part is not None and self._waits(event):
            return content
        content += self._write(event)
        if self._part is None and self._queue and not self._is_open:  # an open text waits for its citations
            content += self._drain()
        return content

    def write_error(self, problem: Problem) -> bytes:
        """Return the bytes of an error in the middle of a stream."""
        return _event(b"error", write_error(problem, ""))

    # Order

    def _waits(self, event: Event) -> bool:
        """Keep the event of a part that overlaps the one that is being written, and return whether it is one."""
        assert self._part is not None
        index = getattr(event, "index", None)
        if index == self._part.index or isinstance(event, (ResponseStarted, UsageReported)):
            return False
        queued: list[Event] | None
        if isinstance(event, Citation):
            queued = next((one for one in reversed(self._queue) if isinstance(one[0], TextStart)), None)
            if queued is None and self._is_citable():
                return False
        else:
            queued = self._queued.get(index) if isinstance(index, int) else None
        if queued is None:
            queued = []
            self._queue.append(queued)
            if isinstance(index, int):
                self._queued[index] = queued
        queued.append(event)
        return True

    def _drain(self) -> bytes:
        """Write the parts that have waited, up to the first one that is not complete."""
        content: list[bytes] = []
        while self._queue:
            content += map(self._write, self._queue.popleft())
            if self._part is not None:
                self._queued.pop(self._part.index, None)
                break
        return b"".join(content)

    def _write(self, event: Event) -> bytes:
        write = _WRITERS.get(type(event))
        return b"" if write is None else write(self, event)

    # Blocks

    def _open(self, block: JSONObject) -> bytes:
        content = self._close()
        self._block += 1
        self._is_open = True
        self._delta = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":' % self._block
        )
        return content + self._start(block)

    def _start(self, block: JSONObject) -> bytes:
        return _event(
            b"content_block_start", {"type": "content_block_start", "index": self._block, "content_block": block}
        )

    def _close(self) -> bytes:
        """End the open block, and write the blocks that belong to it."""
        content = self._stop() if self._is_open else b""
        self._is_open = False
        after, self._after = self._after, []
        return content + b"".join(map(self._whole, after))

    def _stop(self) -> bytes:
        return b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n' % self._block

    def _whole(self, block: JSONObject) -> bytes:
        """Write a block that has all of its content in its start."""
        content = self._close() if self._is_open or self._after else b""
        self._block += 1
        return content + self._start(block) + self._stop()

    def _piece(self, kind: bytes, name: bytes, text: str) -> bytes:
        return self._delta + b'"' + kind + b'","' + name + b'":' + dumps(text) + b"}}\n\n"

    # Events

    def _started(self, event: ResponseStarted) -> bytes:
        self._family = event.family
        usage: Fields = {"input_tokens": self._reply.input_tokens, "output_tokens": 0}
        message: Fields = {
            "id": f"msg_{self._reply.id}",
            "type": "message",
            "role": "assistant",
            "model": self._reply.target.name,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return _event(b"message_start", {"type": "message_start", "message": message})

    def _part_start(self, event: TextStart | ReasoningStart | ToolCallStart) -> bytes:
        self._part = _Part(event)
        return b""  # the block starts when it has content

    def _open_text(self) -> bytes:
        content = self._open({"type": "text", "text": "", "citations": None})
        self._text = self._delta + b'"text_delta","text":'
        waiting, self._citations = self._citations, []
        return content + b"".join(map(self._cite, waiting))

    def _text_delta(self, event: TextDelta) -> bytes:
        part = self._part
        if part is None or not event.text:
            return b""
        content = b"" if part.is_open else self._open_text()
        part.is_open = True
        self._written = part.index
        return content + self._text + dumps(event.text) + b"}}\n\n"

    def _text_end(self, event: TextEnd) -> bytes:
        """End a text, but not its block: the citations that follow belong to it."""
        part, self._part, self._written = self._part, None, -1
        has_text = part is not None and part.is_open
        carried = _carried_text(event.provider_metadata, self._family, self._provider, alone=not has_text)
        if has_text:
            self._after += carried
            return b""
        return b"".join(map(self._whole, carried))

    def _citation(self, event: Citation) -> bytes:
        if self._is_citable():
            return self._cite(event)
        self._citations.append(event)
        return b""

    def _is_citable(self) -> bool:
        """Whether the open block is a text: the one that is being written, or the last one."""
        part = self._part
        return self._is_open and (part is None or not part.is_open or isinstance(part.start, TextStart))

    def _cite(self, citation: Citation) -> bytes:
        delta: Fields = {"type": "citations_delta", "citation": _citation(citation, self._provider)}
        return _event(b"content_block_delta", {"type": "content_block_delta", "index": self._block, "delta": delta})

    def _reasoning_delta(self, event: ReasoningDelta) -> bytes:
        part = self._part
        if part is None or not event.text:
            return b""
        content = b""
        if not part.is_open:
            part.is_open = True
            content = self._open({"type": "thinking", "thinking": "", "signature": ""})
        return content + self._piece(b"thinking_delta", b"thinking", event.text)

    def _reasoning_end(self, event: ReasoningEnd) -> bytes:
        part, self._part = self._part, None
        if part is not None and part.is_open:
            signature = _signature(event, self._family, self._provider)
            content = self._piece(b"signature_delta", b"signature", signature) if signature else b""
            return content + self._close()
        return b"".join(map(self._unseen, _reasoning_blocks(event, "", self._family, self._provider)))

    def _unseen(self, block: JSONObject) -> bytes:
        """Write a block of reasoning without text."""
        signed = block.get("signature")
        if not isinstance(signed, str):
            return self._whole(block)
        content = self._open({**block, "signature": ""})
        return content + self._piece(b"signature_delta", b"signature", signed) + self._close()

    def _call_delta(self, event: ToolCallDelta) -> bytes:
        """Write more arguments. The first ones wait, since the call's metadata must come before it.

        Providers that send metadata with a call send its arguments in one piece.
        """
        part = self._part
        if part is None or not event.arguments:
            return b""
        if part.is_open:
            return self._piece(b"input_json_delta", b"partial_json", event.arguments)
        if not part.arguments:
            part.arguments = event.arguments
            return b""
        return self._open_call(part, {}) + self._piece(b"input_json_delta", b"partial_json", event.arguments)

    def _open_call(self, part: _Part, fields: JSONObject) -> bytes:
        assert isinstance(part.start, ToolCallStart)
        part.is_open = True
        content = self._open({**fields, "type": "tool_use", "id": part.start.id, "name": part.start.name, "input": {}})
        return content + (self._piece(b"input_json_delta", b"partial_json", part.arguments) if part.arguments else b"")

    def _call_end(self, event: ToolCallEnd) -> bytes:
        part, self._part = self._part, None
        if part is None or not isinstance(part.start, ToolCallStart):
            return b""
        fields, carried = _call_data(part.start.id, event.provider_metadata, self._family, self._provider)
        if not part.is_open:
            return b"".join(map(self._whole, carried)) + self._open_call(part, fields) + self._close()
        if fields.get("caller", _DIRECT) != _DIRECT or fields.keys() - {"caller"}:  # the block has started without them
            carried = [_carried_call(part.start.id, event.provider_metadata, self._family)]
        self._after += carried
        return self._close()

    def _part_added(self, event: PartAdded) -> bytes:
        return b"".join(map(self._whole, _added_blocks(event.part, self._provider)))

    def _usage_reported(self, event: UsageReported) -> bytes:
        self._usage = event.usage
        return b""

    def _finished(self, event: Finished) -> bytes:
        content: list[bytes] = []
        for _ in range(len(self._queue) + 1):
            self._part, self._written = None, -1
            content.append(self._drain())
        if self._citations:
            content.append(self._open_text())
        content.append(self._close())
        own = self._own_fields(event)
        delta: Fields = {
            "stop_reason": _stop_reason(event.reason, event.raw_reason, self._provider),
            "stop_sequence": None,
            **{name: value for name, value in own.items() if name in _DELTA_FIELDS},
        }
        last: Fields = {name: value for name, value in own.items() if name not in _DELTA_EVENT_FIELDS}
        last |= {
            "type": "message_delta",
            "delta": delta,
            "usage": _usage(event.usage or self._usage, self._reply, self._provider),
        }
        content += (_event(b"message_delta", last), b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
        return b"".join(content)

    def _own_fields(self, event: Finished) -> JSONObject:
        """Unknown fields of the message, if the provider speaks this format too."""
        if self._provider is None or not event.provider_metadata:
            return {}
        own = as_object(event.provider_metadata.get(self._provider))
        return passable({name: value for name, value in own.items() if name not in _MESSAGE_FIELDS})


# Each function takes the events of its class.
_WRITERS: Mapping[type, Callable[[StreamWriter, Any], bytes]] = {
    ResponseStarted: StreamWriter._started,
    TextStart: StreamWriter._part_start,
    TextDelta: StreamWriter._text_delta,
    TextEnd: StreamWriter._text_end,
    ReasoningStart: StreamWriter._part_start,
    ReasoningDelta: StreamWriter._reasoning_delta,
    ReasoningEnd: StreamWriter._reasoning_end,
    ToolCallStart: StreamWriter._part_start,
    ToolCallDelta: StreamWriter._call_delta,
    ToolCallEnd: StreamWriter._call_end,
    Citation: StreamWriter._citation,
    PartAdded: StreamWriter._part_added,
    UsageReported: StreamWriter._usage_reported,
}


def _event(name: bytes, data: JSONObject) -> bytes:
    return b"event: " + name + b"\ndata: " + dumps(data) + b"\n\n"


# Blocks. `provider` is the provider if it speaks this format too, otherwise None.


def _text_blocks(part: Text, provider: str | None) -> list[Fields]:
    carried = _carried_text(part.provider_metadata, part.family, provider, alone=not part.text)
    if not part.text:
        return carried  # clients send a response back, and Anthropic refuses an empty text
    own = _own_fields(part.provider_metadata, provider) or {}
    return [{**own, "type": "text", "text": part.text, "citations": None}, *carried]


def _carried_text(metadata: ProviderOptions, family: str | None, provider: str | None, *, alone: bool) -> list[Fields]:
    """The metadata of a text, to follow it. `alone` is whether there is no block of the text."""
    if not metadata or _own_fields(metadata, provider) is not None:
        return []
    return [_redacted(wrap(next(iter(metadata)), family, carries="text", alone=alone, metadata=metadata))]


def _reasoning_blocks(
    part: Reasoning | ReasoningEnd, text: str, family: str | None, provider: str | None
) -> list[Fields]:
    if text:
        return [{"type": "thinking", "thinking": text, "signature": _signature(part, family, provider)}]
    if part.encrypted or part.redacted:
        is_own = part.encrypted and part.provider == provider and not (part.signature or part.provider_metadata)
        return [_redacted(part.encrypted if is_own and part.encrypted else wrap_reasoning(part, family))]
    if part.signature or part.provider_metadata:
        return [{"type": "thinking", "thinking": "", "signature": _signature(part, family, provider)}]
    return []


def _signature(part: Reasoning | ReasoningEnd, family: str | None, provider: str | None) -> str:
    is_own = provider is not None and part.provider in (None, provider)
    if is_own and not (part.encrypted or part.redacted or part.provider_metadata):
        return part.signature or ""
    return wrap_reasoning(part, family)


def _call_blocks(call: ToolCall, provider: str | None) -> list[Fields]:
    fields, carried = _call_data(call.id, call.provider_metadata, call.family, provider)
    # Anthropic's documentation of fine-grained tool streaming has this form for text that is not JSON.
    given = call.arguments if call.invalid_arguments is None else {"INVALID_JSON": call.invalid_arguments}
    return [*carried, {**fields, "type": "tool_use", "id": call.id, "name": call.name, "input": given}]


def _call_data(
    call_id: str, metadata: ProviderOptions, family: str | None, provider: str | None
) -> tuple[JSONObject, list[Fields]]:
    """The fields of a call's block that the provider itself added, and the blocks that carry other metadata."""
    if not metadata:
        return {}, []
    own = _own_fields(metadata, provider)
    return (own, []) if own is not None else ({}, [_carried_call(call_id, metadata, family)])


def _carried_call(call_id: str, metadata: ProviderOptions, family: str | None) -> Fields:
    return _redacted(wrap(next(iter(metadata)), family, carries="call", call=call_id, metadata=metadata))


def _own_fields(metadata: ProviderOptions, provider: str | None) -> JSONObject | None:
    """The fields that a provider of this format added to a block, or `None` if there are other data or they are bad."""
    if provider is None or metadata.keys() - {provider}:
        return None
    own = {name: value for name, value in metadata.get(provider, {}).items() if name not in _BLOCK_FIELDS}
    return own if not own or passable(own) else None


def _redacted(data: str) -> Fields:
    return {"type": "redacted_thinking", "data": data}


def _added_blocks(part: Opaque | Image | Audio | Document, provider: str | None) -> list[Fields]:
    """The blocks of a complete part. Images and documents have the form that they have in requests."""
    if isinstance(part, Opaque):
        if part.provider == provider and isinstance(part.data.get("type"), str) and passable(part.data):
            return [dict(part.data)]
        carried = wrap(
            part.provider,
            part.family,
            carries="opaque",
            kind=part.kind,
            content=part.data,
            awaits_answer=part.awaits_answer,
        )
        return [_redacted(carried)]
    if isinstance(part, Audio):
        return [{"type": "text", "text": part.transcript, "citations": None}] if part.transcript else []
    source: Fields
    if part.data is not None:
        usual = "image/png" if isinstance(part, Image) else "application/pdf"
        source = {"type": "base64", "media_type": part.media_type or usual, "data": part.base64}
    elif part.url is not None:
        source = {"type": "url", "url": part.url}
    else:
        return []  # a file at the provider, which the client cannot read
    return [{"type": "image" if isinstance(part, Image) else "document", "source": source}]


def _citation(citation: Citation, provider: str | None) -> JSONObject:
    own = passable(as_object(citation.provider_metadata.get(provider))) if provider is not None else {}
    if own:
        return own
    cited, title = citation.cited_text or "", citation.title
    if citation.url is not None:
        return {
            "type": "web_search_result_location",
            "url": citation.url,
            "title": title,
            "cited_text": cited,
            "encrypted_index": "",
        }
    return {
        "type": "search_result_location",
        "source": title or "",
        "title": title,
        "cited_text": cited,
        "search_result_index": 0,
        "start_block_index": 0,
        "end_block_index": 0,
    }


def _stop_reason(reason: FinishReason, raw: str | None, provider: str | None) -> str:
    if provider is not None and raw and _OWN_REASONS.get(raw, FinishReason.OTHER) is reason:
        return raw
    return _STOP_REASONS.get(reason, "end_turn")


def _usage(usage: Usage | None, reply: Reply, provider: str | None) -> JSONObject:
    """The token counts. Anthropic's `input_tokens` excludes cached tokens, which the core's includes."""
    if usage is None:
        return {"input_tokens": reply.input_tokens, "output_tokens": 0}
    raw = passable(usage.raw) if provider is not None else {}
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    counts: Fields = {
        "input_tokens": max(0, (usage.input_tokens or 0) - (read or 0) - (written or 0)),
        "output_tokens": usage.output_tokens or 0,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
    }
    if usage.reasoning_tokens is not None:
        details = as_object(raw.get("output_tokens_details"))
        counts["output_tokens_details"] = {**details, "thinking_tokens": usage.reasoning_tokens}
    return {**raw, **counts}
