"""Responses and streams in the form of OpenAI's Responses API. Pure.

Each text, tool call and reasoning of the core becomes an output item, or a content part of a message. The core's parts
may overlap, and so may items: every event names its item. A message stays open after its text has ended until the next
item starts, because a citation, or another text, may still follow.

Source: the types of the openai SDK 3.57 (`types/responses/response_stream_event.py`, `response_output_item.py`), read
in November 2026.
"""

from __future__ import annotations

import json
import re
from typing import Any

import attrs
from trunkline import (
    Audio,
    ChatResponse,
    Citation,
    Event,
    FinishReason,
    Image,
    Opaque,
    Reasoning,
    Text,
    TokenLogprob,
    Tool,
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
from trunkline.fold import decode_arguments

from trunkline_gateway.problems import Kind, Problem
from trunkline_gateway.wires import Reply
from trunkline_gateway.wires.carried import passable, wrap, wrap_reasoning
from trunkline_gateway.wires.logprobs import write_token
from trunkline_gateway.wires.responses_reader import CUSTOM, GATEWAY_ID, INPUT, WIRE

_INCOMPLETE = {FinishReason.LENGTH: "max_output_tokens", FinishReason.CONTENT_FILTER: "content_filter"}
_ANNOTATIONS = ("url_citation", "file_citation", "container_file_citation", "file_path")
_CODES: dict[Kind, str] = {
    "invalid_request": "invalid_prompt",
    "context_too_long": "context_length_exceeded",
    "content_filtered": "invalid_prompt",
    "too_large": "invalid_prompt",
    "rate_limited": "rate_limit_exceeded",
    "quota": "insufficient_quota",
}
"""The codes of a failed response. All other failures have the code `server_error`."""

_OWN = frozenset(
    {
        *("id", "object", "created_at", "completed_at", "status", "error", "incomplete_details", "model", "output"),
        *("output_text", "usage", "background", "conversation", "previous_response_id", "store"),
        # What the client sent, which the provider may have received in another form.
        *("metadata", "prompt_cache_key", "safety_identifier", "user"),
    }
)
"""The fields of a response that are the gateway's, also if the provider has the same format."""

_FINGERPRINT = 24
"""How many characters of a text are carried with its metadata, to find the text again."""

_JOINED_AT_ONCE = 1024

_OPENING = re.compile(rf'\s*\{{\s*"{INPUT}"\s*:\s*"')
_LONGEST_OPENING = 1000
_CHARACTERS = re.compile(
    r"""(?:
        [^"\\]++
        | \\["\\/bfnrt]
        | \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}
        | \\u(?![dD][89abAB])[0-9a-fA-F]{4}
    )*+""",
    re.VERBOSE,
)
"""The characters of a JSON string whose escapes are complete."""


def write_response(response: ChatResponse, reply: Reply) -> JSONObject:
    """Write a whole response."""
    output = _Output(reply)
    logprobs = response.logprobs  # of all texts together: the first one gets them
    for part in response.parts:
        if isinstance(part, Text):
            own = output.own(part.provider_metadata)
            text = output.text(part.refusal, own.get("id"))
            text.add(part.text)
            if not part.refusal:
                text.logprobs, logprobs = list(logprobs), ()
            text.end(own)
            output.carry(text, part.provider_metadata, part.family)
        elif isinstance(part, ToolCall):
            call = output.call(part.id, part.name, custom=output.own(part.provider_metadata).get("type") == CUSTOM)
            call.add(part.arguments_json)
            call.finish(output.own(part.provider_metadata), replace_id=True)
            output.carry(call, part.provider_metadata, part.family)
        elif isinstance(part, Reasoning):
            item = output.item("reasoning", "rs", {"summary": []})
            output.finish_reasoning(item, part, replace_id=True)
        elif isinstance(part, Citation):
            output.cite(part)
        elif isinstance(part, (Audio, Image, Opaque)):
            output.add_part(part)
    output.finish(response.finish_reason)
    return output.response(response.finish_reason, response.raw_finish_reason, response.usage, response.raw)


class _TextOut:
    """A text or a refusal: a content part of a message."""

    __slots__ = (
        "annotations",
        "chunks",
        "closed",
        "content_index",
        "data",
        "ended",
        "length",
        "logprobs",
        "message",
        "prefix",
        "refusal",
    )

    def __init__(self, message: _Message, refusal: bool) -> None:
        self.message = message
        self.refusal = refusal
        self.content_index = len(message.texts)
        self.chunks: list[str] = []
        self.length = 0
        self.annotations: list[JSONObject] = []
        self.logprobs: list[TokenLogprob] = []
        self.ended = False
        self.closed = False
        self.prefix = b""
        # The content part. It is completed when the text is closed.
        self.data: dict[str, Any] = _text_part(refusal)
        if not refusal:
            self.data["annotations"] = self.annotations

    def add(self, text: str) -> None:
        self.chunks.append(text)
        self.length += len(text)
        if len(self.chunks) == _JOINED_AT_ONCE:
            self.text()

    def text(self) -> str:
        text = "".join(self.chunks)
        self.chunks = [text]
        return text

    def end(self, own: JSONObject) -> None:
        """End the text. `own` is the metadata of a provider with the same format."""
        self.ended = True
        item, known = self.message.data, ("id", "status", "type", "role", "content")
        item.update({name: value for name, value in own.items() if name not in known})

    def close(self) -> None:
        self.closed = True
        self.data["refusal" if self.refusal else "text"] = self.text()
        if not self.refusal:
            self.data["logprobs"] = [write_token(each) for each in self.logprobs]


class _Message:
    """A message of the model: an output item with texts."""

    __slots__ = ("closed", "data", "index", "texts")

    def __init__(self, data: dict[str, Any], index: int) -> None:
        self.data = data
        self.index = index
        self.texts: list[_TextOut] = []
        self.closed = False

    @property
    def ended(self) -> bool:
        return all(text.ended for text in self.texts)


class _CallOut:
    """A call of a function or of a custom tool: an output item."""

    __slots__ = ("chunks", "custom", "data", "free_text", "index", "prefix")

    def __init__(self, data: dict[str, Any], index: int, custom: bool) -> None:
        self.free_text = _FreeText()
        self.data = data
        self.index = index
        self.custom = custom
        self.chunks: list[str] = []
        self.prefix = b""

    def add(self, arguments: str) -> None:
        self.chunks.append(arguments)
        if len(self.chunks) == _JOINED_AT_ONCE:
            self.chunks = ["".join(self.chunks)]

    def finish(self, own: JSONObject, *, replace_id: bool) -> None:
        """Complete the item. `own` is the metadata of a provider with the same format."""
        text = "".join(self.chunks)
        known = ("id", "type", "call_id", "name", "arguments", "input", "status")
        self.data.update({name: value for name, value in own.items() if name not in known})
        if replace_id and isinstance(own.get("id"), str):
            self.data["id"] = own["id"]
        if self.custom:
            arguments, _ = decode_arguments(text)
            value = arguments.get(INPUT)
            self.data["input"] = value if isinstance(value, str) else text
        else:
            self.data["arguments"] = text or "{}"
            self.data["status"] = "completed"


class _FreeText:
    """Decodes the input of a custom tool, a string within JSON arguments, while the arguments arrive."""

    __slots__ = ("_begun", "_ended", "_rest", "_sent")

    def __init__(self) -> None:
        self._rest = ""
        self._begun = self._ended = False
        self._sent: list[str] = []

    def add(self, arguments: str) -> str:
        """Return what a piece of the arguments adds to the input."""
        if self._ended:
            return ""
        rest = self._rest + arguments
        if not self._begun:
            opening = _OPENING.match(rest)
            if opening is None:
                self._rest, self._ended = rest, len(rest) > _LONGEST_OPENING
                return ""
            self._begun, rest = True, rest[opening.end() :]
        whole = _CHARACTERS.match(rest)
        end = whole.end() if whole is not None else 0
        self._rest, self._ended = rest[end:], rest[end : end + 1] == '"'
        try:
            text = str(json.loads(f'"{rest[:end]}"', strict=False))
        except ValueError:
            self._ended = True
            return ""
        self._sent.append(text)
        return text

    def remaining(self, whole: str) -> str:
        """Return what of the whole input no piece has added."""
        sent = "".join(self._sent)
        return whole[len(sent) :] if whole.startswith(sent) else ""


class _Output:
    """The output items of a response, and the response object around them."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._provider = reply.target.provider_speaking(WIRE)
        tools = reply.request.tools if reply.request is not None else ()
        self._custom = {tool.name for tool in tools if _is_custom(tool)}
        self._echo = _echoed(reply)
        self.items: list[dict[str, Any]] = []
        self.messages: list[_Message] = []
        self.texts: list[_TextOut] = []
        self.last: _Message | None = None
        """The message that the next text may belong to: the last item, if it is one."""
        self.streamed = False
        self._pending: list[Citation] = []
        # The parts whose metadata the client has to carry in another item.
        self._carried: list[tuple[_TextOut | _CallOut, ProviderOptions, str | None]] = []

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{GATEWAY_ID}{self._reply.id}_{len(self.items)}"

    def own(self, metadata: ProviderOptions) -> JSONObject:
        """Return the metadata of a provider that has the same format."""
        return metadata.get(self._provider) or {} if self._provider is not None else {}

    def item(self, kind: str, prefix: str, fields: JSONObject) -> dict[str, Any]:
        """Add an item, which is the last one now."""
        data = {"type": kind, "id": self.new_id(prefix), **fields}
        self.items.append(data)
        self.last = None
        return data

    # Messages

    def text(self, refusal: bool, item_id: object = None) -> _TextOut:
        """Start a text, in the last item if it is a message of the same id. `item_id` is known only if not streamed.

        Texts of a provider with the same format may be of messages that differ, which a stream shows too late.
        """
        message = self.last
        if message is None or not self._joins(message, item_id):
            data = self.item("message", "msg", {"role": "assistant", "status": "in_progress", "content": []})
            if isinstance(item_id, str):
                data["id"] = item_id
            message = _Message(data, len(self.items) - 1)
            self.messages.append(message)
        self.last = message
        text = _TextOut(message, refusal)
        message.texts.append(text)
        message.data["content"].append(text.data)
        self.texts.append(text)
        if not refusal and self._pending:
            pending, self._pending = self._pending, []
            for citation in pending:
                self.cite(citation)
        return text

    def _joins(self, message: _Message, item_id: object) -> bool:
        if self._provider is None:
            return True
        return not self.streamed and (message.data["id"] == item_id or (item_id is None and _is_made(message.data)))

    def cite(self, citation: Citation) -> tuple[_TextOut, JSONObject] | None:
        """Add an annotation to the text that a citation is about. Without a text, the next one gets it."""
        texts = [text for text in self.texts if not text.refusal]
        if not texts:
            self._pending.append(citation)
            return None
        found, base = texts[-1], sum(text.length for text in texts[:-1])
        if citation.start is not None:
            for text in reversed(texts[:-1]):
                if citation.start >= base:
                    break
                found, base = text, base - text.length
        annotation = self._annotation(citation, found, base)
        if annotation is None:
            return None
        found.annotations.append(annotation)
        return found, annotation

    def _annotation(self, citation: Citation, text: _TextOut, base: int) -> JSONObject | None:
        own = self.own(citation.provider_metadata)
        if own.get("type") in _ANNOTATIONS:
            return own
        start = text.length if citation.start is None else max(citation.start - base, 0)
        end = text.length if citation.end is None else max(citation.end - base, start)
        title = citation.title or ""
        if citation.url is not None:
            return {
                "type": "url_citation",
                "url": citation.url,
                "title": title,
                "start_index": start,
                "end_index": end,
            }
        # A document of the request, which has a title but neither an id nor an address.
        return {"type": "file_citation", "file_id": "", "filename": title, "index": end} if title else None

    def ready(self) -> list[_Message]:
        """Return the messages that nothing can be added to any more, apart from the last item."""
        return [each for each in self.messages if not each.closed and each.ended and each is not self.last]

    def close_message(self, message: _Message, status: str = "completed") -> list[_TextOut]:
        """Complete a message. Returns its texts that were not complete yet."""
        closed = [text for text in message.texts if not text.closed]
        for text in closed:
            text.close()
        message.closed = True
        message.data["status"] = status
        return closed

    # Other items

    def call(self, call_id: str, name: str, *, custom: bool = False) -> _CallOut:
        custom = custom or name in self._custom
        if custom:
            data = self.item("custom_tool_call", "ctc", {"call_id": call_id, "name": name, "input": ""})
        else:
            fields = {"call_id": call_id, "name": name, "arguments": "", "status": "in_progress"}
            data = self.item("function_call", "fc", fields)
        return _CallOut(data, len(self.items) - 1, custom)

    def finish_reasoning(self, data: dict[str, Any], part: Reasoning, *, replace_id: bool) -> None:
        """Complete a reasoning item.

        The provider can read encrypted reasoning only together with the id that it gave to the item. A stream has
        announced another id by the time that the provider's is known, so it wraps both.
        """
        own = self.own(part.provider_metadata) if part.provider == self._provider else {}
        data["summary"] = [{"type": "summary_text", "text": part.text}] if part.text else []
        if part.provider is None:
            return
        if part.provider != self._provider:
            data["encrypted_content"] = wrap_reasoning(part, part.family)
            return
        if replace_id:
            data.update({name: value for name, value in own.items() if name not in ("type", "encrypted_content")})
            if part.encrypted is not None:
                data["encrypted_content"] = part.encrypted
        elif part.encrypted is not None or own.get("content"):
            if own.get("summary") == data["summary"]:
                own = {name: value for name, value in own.items() if name != "summary"}
            metadata = {**part.provider_metadata, part.provider: own}
            data["encrypted_content"] = wrap_reasoning(part, part.family, metadata=metadata)

    def add_part(self, part: Audio | Image | Opaque) -> dict[str, Any] | None:
        """Add the item of a part that has no item in progress. Returns `None` if the format has none for it."""
        if isinstance(part, Opaque):
            if part.provider != self._provider:
                carried = wrap(
                    part.provider, part.family, kind=part.kind, data=part.data, awaits_answer=part.awaits_answer
                )
                return self.item("reasoning", "rs", {"summary": [], "encrypted_content": carried})
            data = self.item(part.kind, "item", {})
            data.update(part.data)
            return data
        if isinstance(part, Image):
            if part.file_id is not None:
                return None
            result = part.url if part.url is not None else part.base64
            data = self.item("image_generation_call", "ig", {"status": "completed", "result": result})
            own = self.own(part.provider_metadata)
            if own.get("type") == data["type"]:
                data.update(own)
            elif part.media_type is not None:
                data["output_format"] = part.media_type.rpartition("/")[2]
            return data
        if part.transcript is not None:
            text = self.text(refusal=False)
            text.add(part.transcript)
            text.end({})
            self.last = None
            self.close_message(text.message)
            return text.message.data
        return None

    def carry(self, part: _TextOut | _CallOut, metadata: ProviderOptions, family: str | None) -> None:
        """Note metadata of a text or a call that its item has no field for, such as a signature of Gemini's."""
        kept = {name: value for name, value in metadata.items() if value and name != self._provider}
        if kept or isinstance(part, _TextOut):
            self._carried.append((part, kept, family))

    def add_carrier(self) -> dict[str, Any] | None:
        """Add the item that carries such metadata, if there is any."""
        if not any(metadata for _, metadata, _ in self._carried):
            return None
        texts = any(metadata for part, metadata, _ in self._carried if isinstance(part, _TextOut))
        parts: list[JSONObject] = []
        for part, metadata, family in self._carried:
            if isinstance(part, _CallOut):
                parts.append({"call": part.data["call_id"], "family": family, "metadata": metadata})
            elif texts:
                parts.append({"text": part.text()[:_FINGERPRINT], "family": family, "metadata": metadata})
        return self.item("reasoning", "rs", {"summary": [], "encrypted_content": wrap(None, None, parts=parts)})

    def finish(self, reason: FinishReason) -> None:
        """Complete what is not complete yet. Used for a whole response."""
        last = self.last
        for message in self.messages:
            if not message.closed:
                cut = message is last and reason in _INCOMPLETE
                self.close_message(message, "incomplete" if cut else "completed")
        self.add_carrier()

    # The response object

    def base(self, status: str) -> dict[str, Any]:
        """Return the response object with the items so far."""
        reply = self._reply
        return {
            "id": f"resp_{reply.id}",
            "object": "response",
            "created_at": reply.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": reply.target.name,
            "output": self.items,
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "usage": None,
            **self._echo,
        }

    def response(
        self, reason: FinishReason, raw_reason: str | None, usage: Usage | None, raw: JSONValue
    ) -> dict[str, Any]:
        """Return the response object at the end. `raw` is the provider's."""
        status, details = "completed", _INCOMPLETE.get(reason)
        if self._provider is not None and raw_reason is not None and raw_reason.startswith("incomplete:"):
            details = raw_reason.removeprefix("incomplete:")
        if reason is FinishReason.ERROR:
            status = "failed"
        elif reason is FinishReason.PENDING:
            status = "in_progress"
        elif details is not None:
            status = "incomplete"
        data = {**self.base(status), **self._passed_through(raw), "usage": self.usage(usage)}
        if status == "failed":
            data["error"] = {"code": "server_error", "message": "the provider reported a failure without a reason"}
        elif status == "incomplete":
            data["incomplete_details"] = {"reason": details}
        return data

    def _passed_through(self, raw: JSONValue) -> JSONObject:
        """Return what the response of a provider with the same format says of itself, such as `service_tier`."""
        if self._provider is None:
            return {}
        fields = {name: value for name, value in as_object(raw).items() if name not in _OWN and value is not None}
        return passable(fields)

    def usage(self, usage: Usage | None) -> JSONObject | None:
        """Return the token counts, with what else a provider with the same format counts."""
        if usage is None:
            return None
        raw = passable(usage.raw) if self._provider is not None else {}
        read, written = usage.input_tokens or 0, usage.output_tokens or 0
        return {
            **raw,
            "input_tokens": read,
            "input_tokens_details": {
                **as_object(raw.get("input_tokens_details")),
                "cached_tokens": usage.cache_read_tokens or 0,
                "cache_write_tokens": usage.cache_write_tokens or 0,
            },
            "output_tokens": written,
            "output_tokens_details": {
                **as_object(raw.get("output_tokens_details")),
                "reasoning_tokens": usage.reasoning_tokens or 0,
            },
            "total_tokens": read + written if usage.total_tokens is None else usage.total_tokens,
        }


class StreamWriter:
    """Writes the events of a stream as server-sent events."""

    heartbeat: bytes = b": keep-alive\n\n"
    """What keeps an idle connection open."""

    def __init__(self, reply: Reply) -> None:
        self._output = _Output(reply)
        self._output.streamed = True
        self._sequence = -1
        self._usage: Usage | None = None
        self._family: str | None = None
        self._texts: dict[int, _TextOut] = {}
        self._calls: dict[int, _CallOut] = {}
        self._reasoning: dict[int, _ReasoningOut] = {}

    def write(self, event: Event) -> bytes:
        """Return the bytes of an event, empty if the format has nothing for it. `Finished` ends the stream."""
        if type(event) is TextDelta:  # nearly all events are text deltas
            return self._text_delta(event)
        out: list[bytes] = []
        self._write(event, out)
        return b"".join(out)

    def write_error(self, problem: Problem) -> bytes:
        """Return the bytes of an error in the middle of a stream."""
        # Some clients read only the first of these events, and some only the second.
        code = problem.code or _CODES.get(problem.kind, "server_error")
        out: list[bytes] = []
        if self._sequence < 0:  # the SDK takes nothing else as the first event
            self._event(out, "response.created", {"response": self._output.base("in_progress")})
        self._event(out, "error", {"code": code, "message": problem.message, "param": problem.param})
        for text in self._output.texts:
            text.close()
        response = self._output.base("failed")
        response["usage"] = self._output.usage(self._usage)
        response["error"] = {"code": _CODES.get(problem.kind, "server_error"), "message": problem.message}
        self._event(out, "response.failed", {"response": response})
        return b"".join(out)

    def _event(self, out: list[bytes], kind: str, fields: JSONObject) -> None:
        self._sequence += 1
        data = dumps({"type": kind, **fields, "sequence_number": self._sequence})
        out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))

    def _delta(self, prefix: bytes, text: str) -> bytes:
        self._sequence += 1
        return b'%b%b,"sequence_number":%d}\n\n' % (prefix, dumps(text), self._sequence)

    def _write(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, ToolCallDelta):
            call = self._calls[event.index]
            call.add(event.arguments)
            delta = call.free_text.add(event.arguments) if call.custom else event.arguments
            if delta:
                out.append(self._delta(call.prefix, delta))
        elif isinstance(event, ReasoningDelta):
            self._reasoning_delta(event, out)
        elif isinstance(event, TextStart):
            self._text_start(event, out)
        elif isinstance(event, TextEnd):
            text = self._texts[event.index]
            text.end(self._output.own(event.provider_metadata))
            self._output.carry(text, event.provider_metadata, self._family)
            self._close_messages(out)
        elif isinstance(event, ReasoningStart):
            data = self._output.item("reasoning", "rs", {"summary": []})
            self._added(data, out)
            self._reasoning[event.index] = _ReasoningOut(data, len(self._output.items) - 1)
        elif isinstance(event, ReasoningEnd):
            self._reasoning_end(event, out)
        elif isinstance(event, ToolCallStart):
            self._call_start(event, out)
        elif isinstance(event, ToolCallEnd):
            self._call_end(event, out)
        elif isinstance(event, Citation):
            cited = self._output.cite(event)
            if cited is not None:  # the item may be done: providers send some citations at the very end
                self._annotation_added(*cited, len(cited[0].annotations) - 1, out)
        elif isinstance(event, PartAdded):
            if isinstance(event.part, (Audio, Image, Opaque)):
                self._part_added(event.part, out)
        elif isinstance(event, UsageReported):
            self._usage = event.usage
        elif isinstance(event, ResponseStarted):
            self._family = event.family
            for kind in ("response.created", "response.in_progress"):
                self._event(out, kind, {"response": self._output.base("in_progress")})
        elif isinstance(event, Finished):
            self._finish(event, out)

    def _added(self, data: dict[str, Any], out: list[bytes]) -> None:
        """Announce the last item, after what it ends."""
        self._close_messages(out)
        index = len(self._output.items) - 1
        self._event(out, "response.output_item.added", {"output_index": index, "item": data})

    def _done(self, data: dict[str, Any], index: int, out: list[bytes]) -> None:
        self._event(out, "response.output_item.done", {"output_index": index, "item": data})

    # Messages

    def _text_start(self, event: TextStart, out: list[bytes]) -> None:
        messages = len(self._output.messages)
        text = self._output.text(event.refusal)
        self._texts[event.index] = text
        message = text.message
        if len(self._output.messages) > messages:
            self._close_messages(out)
            item = {**message.data, "content": []}
            self._event(out, "response.output_item.added", {"output_index": message.index, "item": item})
        else:
            for before in message.texts[:-1]:
                if before.ended and not before.closed:
                    self._close_text(before, out)
        place = _place(text)
        self._event(out, "response.content_part.added", {**place, "part": _text_part(event.refusal)})
        for position, annotation in enumerate(text.annotations):
            self._annotation_added(text, annotation, position, out)
        kind = "response.refusal.delta" if event.refusal else "response.output_text.delta"
        text.prefix = _prefix(kind, place if event.refusal else {**place, "logprobs": []})

    def _text_delta(self, event: TextDelta) -> bytes:
        text, delta = self._texts[event.index], event.text
        if event.logprobs and not text.refusal:
            text.add(delta)
            text.logprobs.extend(event.logprobs)
            out: list[bytes] = []
            fields = {**_place(text), "delta": delta, "logprobs": [write_token(each) for each in event.logprobs]}
            self._event(out, "response.output_text.delta", fields)
            return out[0]
        if not delta:
            return b""
        text.add(delta)
        self._sequence += 1
        return b'%b%b,"sequence_number":%d}\n\n' % (text.prefix, dumps(delta), self._sequence)

    def _annotation_added(self, text: _TextOut, annotation: JSONObject, position: int, out: list[bytes]) -> None:
        fields = {**_place(text), "annotation_index": position, "annotation": annotation}
        self._event(out, "response.output_text.annotation.added", fields)

    def _close_messages(self, out: list[bytes]) -> None:
        for message in self._output.ready():
            self._close_message(message, "completed", out)

    def _close_message(self, message: _Message, status: str, out: list[bytes]) -> None:
        for text in self._output.close_message(message, status):
            self._text_done(text, out)
        self._done(message.data, message.index, out)

    def _close_text(self, text: _TextOut, out: list[bytes]) -> None:
        text.close()
        self._text_done(text, out)

    def _text_done(self, text: _TextOut, out: list[bytes]) -> None:
        place = _place(text)
        if text.refusal:
            self._event(out, "response.refusal.done", {**place, "refusal": text.data["refusal"]})
        else:
            fields = {**place, "text": text.data["text"], "logprobs": text.data["logprobs"]}
            self._event(out, "response.output_text.done", fields)
        self._event(out, "response.content_part.done", {**place, "part": text.data})

    # Calls, reasoning and other items

    def _call_start(self, event: ToolCallStart, out: list[bytes]) -> None:
        call = self._output.call(event.id, event.name)
        self._added(call.data, out)
        self._calls[event.index] = call
        kind = "response.custom_tool_call_input.delta" if call.custom else "response.function_call_arguments.delta"
        call.prefix = _prefix(kind, _item_place(call.data, call.index))

    def _call_end(self, event: ToolCallEnd, out: list[bytes]) -> None:
        call = self._calls[event.index]
        empty = not any(call.chunks)
        call.finish(self._output.own(event.provider_metadata), replace_id=False)
        self._output.carry(call, event.provider_metadata, self._family)
        place = _item_place(call.data, call.index)
        if call.custom:
            text = call.data["input"]
            if rest := call.free_text.remaining(text):
                out.append(self._delta(call.prefix, rest))
            self._event(out, "response.custom_tool_call_input.done", {**place, "input": text})
        else:
            text = call.data["arguments"]
            if empty:
                out.append(self._delta(call.prefix, text))
            fields = {**place, "name": call.data["name"], "arguments": text}
            self._event(out, "response.function_call_arguments.done", fields)
        self._done(call.data, call.index, out)

    def _reasoning_delta(self, event: ReasoningDelta, out: list[bytes]) -> None:
        if not event.text:
            return
        reasoning = self._reasoning[event.index]
        if not reasoning.chunks:
            place = {**_item_place(reasoning.data, reasoning.index), "summary_index": 0}
            part = {"type": "summary_text", "text": ""}
            self._event(out, "response.reasoning_summary_part.added", {**place, "part": part})
            reasoning.prefix = _prefix("response.reasoning_summary_text.delta", place)
        reasoning.add(event.text)
        out.append(self._delta(reasoning.prefix, event.text))

    def _reasoning_end(self, event: ReasoningEnd, out: list[bytes]) -> None:
        reasoning = self._reasoning[event.index]
        part = Reasoning(
            text="".join(reasoning.chunks),
            provider=event.provider,
            signature=event.signature,
            encrypted=event.encrypted,
            redacted=event.redacted,
            family=self._family,
            provider_metadata=event.provider_metadata,
        )
        self._output.finish_reasoning(reasoning.data, part, replace_id=False)
        self._reasoning_done(reasoning, out)

    def _reasoning_done(self, reasoning: _ReasoningOut, out: list[bytes]) -> None:
        reasoning.closed = True
        if reasoning.chunks:
            text = "".join(reasoning.chunks)
            place = {**_item_place(reasoning.data, reasoning.index), "summary_index": 0}
            summary = {"type": "summary_text", "text": text}
            self._event(out, "response.reasoning_summary_text.done", {**place, "text": text})
            self._event(out, "response.reasoning_summary_part.done", {**place, "part": summary})
        self._done(reasoning.data, reasoning.index, out)

    def _part_added(self, part: Audio | Image | Opaque, out: list[bytes]) -> None:
        if isinstance(part, Audio):
            if part.transcript is not None:  # a text like any other
                index = -1 - len(self._texts)
                self._write(TextStart(index=index), out)
                out.append(self._text_delta(TextDelta(index=index, text=part.transcript)))
                self._write(TextEnd(index=index), out)
            return
        data = self._output.add_part(attrs.evolve(part, family=part.family or self._family))
        if data is not None:
            self._added(data, out)
            self._done(data, len(self._output.items) - 1, out)

    def _finish(self, event: Finished, out: list[bytes]) -> None:
        for reasoning in self._reasoning.values():
            if not reasoning.closed:
                text = "".join(reasoning.chunks)
                reasoning.data["summary"] = [{"type": "summary_text", "text": text}] if text else []
                self._reasoning_done(reasoning, out)
        last = self._output.last
        for message in self._output.messages:
            if not message.closed:
                cut = message is last and event.reason in _INCOMPLETE
                self._close_message(message, "incomplete" if cut else "completed", out)
        carrier = self._output.add_carrier()
        if carrier is not None:
            self._added(carrier, out)
            self._done(carrier, len(self._output.items) - 1, out)
        response = self._output.response(event.reason, event.raw_reason, event.usage or self._usage, event.raw)
        status = response["status"] if response["status"] in ("incomplete", "failed") else "completed"
        self._event(out, f"response.{status}", {"response": response})


class _ReasoningOut:
    __slots__ = ("chunks", "closed", "data", "index", "prefix")

    def __init__(self, data: dict[str, Any], index: int) -> None:
        self.data = data
        self.index = index
        self.chunks: list[str] = []
        self.prefix = b""
        self.closed = False

    def add(self, text: str) -> None:
        self.chunks.append(text)
        if len(self.chunks) == _JOINED_AT_ONCE:
            self.chunks = ["".join(self.chunks)]


def _prefix(kind: str, fields: JSONObject) -> bytes:
    """Return the beginning of a delta's event, up to its text."""
    return b'event: %b\ndata: %b,"delta":' % (kind.encode(), dumps({"type": kind, **fields})[:-1])


def _place(text: _TextOut) -> JSONObject:
    return {**_item_place(text.message.data, text.message.index), "content_index": text.content_index}


def _item_place(data: JSONObject, index: int) -> JSONObject:
    return {"item_id": data["id"], "output_index": index}


def _text_part(refusal: bool) -> dict[str, Any]:
    if refusal:
        return {"type": "refusal", "refusal": ""}
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def _is_made(data: JSONObject) -> bool:
    return GATEWAY_ID in str(data["id"])


def _is_custom(tool: Tool) -> bool:
    return any(options.get("type") == CUSTOM for options in tool.provider_options.values())


def _echoed(reply: Reply) -> dict[str, Any]:
    """Return the fields of the request that the response repeats."""
    request = reply.request
    if request is None:
        return {"instructions": None, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}}
    choice, reasoning = request.tool_choice, request.reasoning
    named = None
    if choice is not None and choice.name is not None:
        custom = any(_is_custom(tool) for tool in request.tools if tool.name == choice.name)
        named = {"type": CUSTOM if custom else "function", "name": choice.name}
    return {
        "instructions": reply.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": dict(request.metadata),
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "prompt_cache_key": request.cache_key,
        "reasoning": {
            "effort": None if reasoning is None else reasoning.effort,
            "summary": None if reasoning is None else reasoning.summary,
        },
        "temperature": request.temperature,
        "text": {"format": _format(request.response_format)},
        "tool_choice": named or ("auto" if choice is None else choice.mode),
        "tools": [_tool(tool) for tool in request.tools],
        "top_logprobs": request.top_logprobs,
        "top_p": request.top_p,
    }


def _format(form: Any) -> JSONObject:
    if form is None or form.type == "text":
        return {"type": "text"}
    if form.schema is None:
        return {"type": "json_object"}
    data = {"type": "json_schema", "name": form.name, "schema": form.schema, "strict": form.strict}
    return data if form.description is None else {**data, "description": form.description}


def _tool(tool: Tool) -> JSONObject:
    for options in tool.provider_options.values():
        kind = options.get("type")
        if kind == CUSTOM:
            return {"name": tool.name, "description": tool.description, **options}
        if kind is not None:
            return options
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": bool(tool.strict),
    }
