"""OpenAI's Chat Completions: requests, responses, streams and errors.

Reasoning is written as `reasoning_content`, as most servers with this format do. If it has a signature or is encrypted,
`reasoning_details` has it in wrapped form (`wires.carried`), with the text that was signed. Metadata of tool calls goes
into their `extra_content`, that of texts and parts that only the provider understands into the `extra_content` of the
message. A client that sends the message back whole thus sends all of it back.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Collection, Iterable, Mapping
from json.encoder import encode_basestring
from typing import Any, TypeAlias

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
    ToolCall,
    Usage,
)
from trunkline.authoring.json import JSONObject, JSONValue, ProviderOptions, as_object, as_string, dumps
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
)
from trunkline.fold import decode_arguments

from trunkline_gateway.problems import Kind, Problem
from trunkline_gateway.wires import Reply
from trunkline_gateway.wires.carried import passable, wrap, wrap_reasoning
from trunkline_gateway.wires.chat_reader import (
    CARRIED,
    OWN_AUDIO,
    WIRE,
    custom_tools,
    ignored_fields,
    read_request,
    wants_usage,
)
from trunkline_gateway.wires.logprobs import write_token

__all__ = [
    "StreamWriter",
    "custom_tools",
    "ignored_fields",
    "read_request",
    "wants_usage",
    "write_error",
    "write_response",
]

Fields: TypeAlias = dict[str, JSONValue]

_FINISH_REASONS: Mapping[FinishReason, str] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.ERROR: "error",
}
"""OpenAI has no word for the others, which end a response as `stop` does."""

_ERROR_TYPES: Mapping[Kind, str] = {
    "invalid_request": "invalid_request_error",
    "context_too_long": "invalid_request_error",
    "content_filtered": "invalid_request_error",
    "authentication": "authentication_error",
    "permission": "permission_error",
    "not_found": "invalid_request_error",
    "too_large": "invalid_request_error",
    "rate_limited": "rate_limit_error",
    "quota": "insufficient_quota",
    "upstream": "server_error",
    "overloaded": "server_error",
    "timeout": "server_error",
    "internal": "server_error",
}

_BODY_FIELDS = frozenset({"id", "object", "created", "model", "choices", "usage", "error", "obfuscation"})
_MESSAGE_FIELDS = frozenset(
    {
        *("role", "content", "refusal", "tool_calls", "function_call", "annotations", "images", "audio"),
        *("reasoning", "reasoning_content", "reasoning_details", "extra_content"),
    }
)
_CHOICE_FIELDS = frozenset({"index", "message", "delta", "finish_reason", "logprobs"})


def write_error(problem: Problem, request_id: str) -> JSONObject:
    """Write the body of an error."""
    return {
        "error": {
            "message": problem.message,
            "type": _ERROR_TYPES[problem.kind],
            "param": problem.param,
            "code": problem.code,
        }
    }


def write_response(response: ChatResponse, reply: Reply) -> JSONObject:
    """Write a whole response."""
    same = reply.target.wire == WIRE
    raw = passable(as_object(response.raw)) if same else {}
    message = _Message(reply, response.provider)
    for part in response.parts:
        message.add(part)
    choices = raw.get("choices")
    raw_choice = as_object(choices[0]) if isinstance(choices, list) and choices else {}
    choice = _unknown(raw_choice, _CHOICE_FIELDS)
    choice |= {
        "index": 0,
        "message": {**_unknown(as_object(raw_choice.get("message")), _MESSAGE_FIELDS), **message.fields()},
        "logprobs": _logprobs(response.logprobs, refused=not message.text and bool(message.refusal)),
        "finish_reason": _FINISH_REASONS.get(response.finish_reason, "stop"),
    }
    body = _unknown(raw, _BODY_FIELDS)
    body |= {
        "id": f"chatcmpl-{reply.id}",
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.target.name,
        "choices": [choice],
        "usage": _usage(response.usage, same=same),
    }
    return body


def _unknown(fields: JSONObject, known: Collection[str]) -> Fields:
    return {name: value for name, value in fields.items() if name not in known and value is not None}


class _Message:
    """Collects the parts of a response into the fields of one message."""

    def __init__(self, reply: Reply, provider: str | None) -> None:
        self._reply = reply
        self.text: list[str] = []
        self.refusal: list[str] = []
        self._reasoning: list[str] = []
        self._details: list[JSONValue] = []
        self._calls: list[JSONValue] = []
        self._images: list[JSONValue] = []
        self._audio: JSONObject | None = None
        self._extra = _Extra(reply, provider)

    def add(self, part: object) -> None:
        if isinstance(part, Text):
            if part.refusal:
                self.refusal.append(part.text)
            else:
                self.text.append(part.text)
                self._extra.text(part.text, part.provider_metadata, part.family)
        elif isinstance(part, Reasoning):
            detail = _detail(
                part, part.text, part.family, self._reply, index=len(self._details), at=sum(map(len, self._reasoning))
            )
            self._reasoning.append(part.text)
            if detail is not None:
                self._details.append(detail)
        elif isinstance(part, ToolCall):
            self._calls.append(self._call(part))
        elif isinstance(part, Citation):
            self._extra.citation(part)
        elif isinstance(part, Opaque):
            self._extra.opaque(part)
        elif isinstance(part, Image):
            self._images += _image(part, len(self._images))
        elif isinstance(part, Audio) and self._audio is None:
            self._audio = _audio(part, self._reply)

    def _call(self, call: ToolCall) -> JSONObject:
        if call.name in self._reply.custom_tools or any(
            data.get("type") == "custom" for data in call.provider_metadata.values()
        ):
            text = _custom_input(call.arguments, call.arguments_json)
            fields: Fields = {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": text}}
        else:
            function: Fields = {"name": call.name, "arguments": call.arguments_json}
            fields = {"id": call.id, "type": "function", "function": function}
        extra = _call_extra(call.provider_metadata, call.family, self._reply)
        return {**fields, "extra_content": extra} if extra else fields

    def fields(self) -> JSONObject:
        fields: Fields = {
            "role": "assistant",
            # An answer of nothing else is an empty text.
            "content": None if not self.text and (self.refusal or self._calls or self._audio) else "".join(self.text),
            "refusal": "".join(self.refusal) or None,
        }
        more: Fields = {
            "reasoning_content": "".join(self._reasoning),
            "reasoning_details": self._details,
            "tool_calls": self._calls,
            "annotations": self._extra.annotations,
            "images": self._images,
            "audio": self._audio,
            "extra_content": self._extra.content(),
        }
        return {**fields, **{name: value for name, value in more.items() if value}}


class _Extra:
    """What a message has at its end: annotations, the metadata of texts, and parts that only the provider understands.

    The clients' libraries join the deltas of a stream in their own ways, so a stream has all of it in one delta.
    """

    def __init__(self, reply: Reply, provider: str | None, family: str | None = None) -> None:
        self._same = reply.target.wire == WIRE
        self._provider = reply.target.provider or provider
        self.provider = provider
        self.family = family
        self.annotations: list[JSONValue] = []
        self._length = 0
        self._parts: list[JSONValue] = []
        self._own: Fields = {}

    def text(self, text: str, metadata: ProviderOptions, family: str | None) -> None:
        self.text_of(len(text), metadata, family)

    def text_of(self, length: int, metadata: ProviderOptions, family: str | None) -> None:
        """Add a text by its length, in characters."""
        at, self._length = self._length, self._length + length
        if not metadata:
            return
        own = as_object(as_object(metadata.get(self._provider or "")).get("extra_content")) if self._same else {}
        if own and len(metadata) == 1:
            self._own |= passable(own)
            return
        self.family = family or self.family
        self._parts.append({"at": at, "length": length, "metadata": metadata})

    def citation(self, citation: Citation) -> None:
        fields: Fields = {
            "start_index": citation.start or 0,
            "end_index": citation.end or 0,
            "title": citation.title or "",
            "url": citation.url or "",
        }
        if citation.cited_text:
            fields["content"] = citation.cited_text
        self.annotations.append({"type": "url_citation", "url_citation": fields})

    def opaque(self, part: Opaque) -> None:
        if self._same and part.kind.startswith("annotation."):
            if data := passable(part.data):
                self.annotations.append(data)
            return
        self.family = part.family or self.family
        self.provider = part.provider
        fields: Fields = {"at": self._length, "kind": part.kind, "data": part.data}
        self._parts.append({**fields, "awaits_answer": True} if part.awaits_answer else fields)

    def content(self) -> JSONObject:
        """Return the message's `extra_content`."""
        if not self._parts:
            return self._own
        return {**self._own, CARRIED: wrap(self.provider, self.family, parts=self._parts)}


_CLIENTS_OF_WHOLE_CALLS = ("mistral-client-",)
"""How the user agents begin of clients that take each streamed call of a function only in one chunk, with its name."""


def wants_whole_calls(user_agent: str) -> bool:
    """Whether a client needs each call of a function in one chunk of a stream, by the header `user-agent`."""
    return user_agent.lower().startswith(_CLIENTS_OF_WHOLE_CALLS)


class StreamWriter:
    """Writes the events of a stream as server-sent events."""

    heartbeat: bytes = b": keep-alive\n\n"
    """What keeps an idle connection open."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._same = reply.target.wire == WIRE
        usage = b',"usage":null' if reply.include_usage else b""
        head: Fields = {
            "id": f"chatcmpl-{reply.id}",
            "object": "chat.completion.chunk",
            "created": reply.created,
            "model": reply.target.name,
        }
        self._head = b"data: " + dumps(head)[:-1]
        # A stream is mostly deltas of text. Their chunks differ in nothing but the text.
        self._delta = self._head + b',"choices":[{"index":0,"delta":'
        self._text = self._delta + b'{"content":'
        self._reasoning = self._delta + b'{"reasoning_content":'
        self._refusal = self._delta + b'{"refusal":'
        self._delta_end = b',"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        self._text_end = b"}" + self._delta_end
        self._usage_null = usage
        self._refusals: set[int] = set()
        self._lengths: dict[int, int] = {}  # of texts, for the metadata at their ends
        self._thoughts: dict[int, list[str]] = {}
        self._thought = 0  # characters of reasoning that have ended
        self._details = 0
        self._calls: dict[int, _Call] = {}
        self._images = 0
        self._spoke = False
        self._family: str | None = None
        self._extra = _Extra(reply, reply.target.provider)
        self._usage: Usage | None = None

    def write(self, event: Event) -> bytes:
        """Return the bytes of an event, empty if the format has nothing for it. `Finished` ends the stream."""
        if type(event) is TextDelta and not event.logprobs and event.index not in self._refusals:
            text = event.text
            self._lengths[event.index] += len(text)
            try:
                return self._text + encode_basestring(text).encode() + self._text_end
            except UnicodeEncodeError:  # a lone surrogate
                return self._text + dumps(text) + self._text_end
        write = _WRITERS.get(type(event))
        return b"" if write is None else write(self, event)

    def write_error(self, problem: Problem) -> bytes:
        """Return the bytes of an error in the middle of a stream."""
        return b"data: " + dumps(write_error(problem, self._reply.id)) + b"\n\n"

    def _chunk(self, delta: JSONObject) -> bytes:
        return self._delta + dumps(delta) + self._delta_end

    def _started(self, event: ResponseStarted) -> bytes:
        self._family = event.family
        self._extra.family = event.family
        self._extra.provider = event.provider or self._extra.provider
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def _text_start(self, event: TextStart) -> bytes:
        if event.refusal:
            self._refusals.add(event.index)
        self._lengths[event.index] = 0
        return b""

    def _text_delta(self, event: TextDelta) -> bytes:
        refused = event.index in self._refusals
        prefix = self._refusal if refused else self._text
        if not refused:
            self._lengths[event.index] += len(event.text)
        if not event.logprobs:
            return prefix + dumps(event.text) + self._text_end
        logprobs = dumps(_logprobs(event.logprobs, refused=refused))
        end = b'},"logprobs":' + logprobs + b',"finish_reason":null}]' + self._usage_null + b"}\n\n"
        return prefix + dumps(event.text) + end

    def _text_finished(self, event: TextEnd) -> bytes:
        length = self._lengths.pop(event.index)
        if event.index not in self._refusals:
            self._extra.text_of(length, event.provider_metadata, self._family)
        return b""

    def _reasoning_start(self, event: ReasoningStart) -> bytes:
        self._thoughts[event.index] = []
        return b""

    def _reasoning_delta(self, event: ReasoningDelta) -> bytes:
        if not event.text:
            return b""
        self._thoughts[event.index].append(event.text)
        return self._reasoning + dumps(event.text) + self._text_end

    def _reasoning_end(self, event: ReasoningEnd) -> bytes:
        text = "".join(self._thoughts.pop(event.index))
        detail = _detail(event, text, self._family, self._reply, index=self._details, at=self._thought)
        self._thought += len(text)
        if detail is None:
            return b""
        self._details += 1
        return self._chunk({"reasoning_details": [detail]})

    def _call_start(self, event: ToolCallStart) -> bytes:
        call = self._calls[event.index] = _Call(len(self._calls), event, custom=event.name in self._reply.custom_tools)
        if call.custom or self._reply.whole_calls:
            return b""  # the text of a custom call is inside of JSON, so it is written when the JSON is complete
        function: Fields = {"name": event.name, "arguments": ""}
        return self._call_chunk(call, {"id": event.id, "type": "function", "function": function})

    def _call_chunk(self, call: _Call, fields: JSONObject) -> bytes:
        return self._chunk({"tool_calls": [{"index": call.index, **fields}]})

    def _call_delta(self, event: ToolCallDelta) -> bytes:
        call = self._calls[event.index]
        if call.custom or self._reply.whole_calls:
            call.arguments.append(event.arguments)
            return b""
        if not event.arguments:
            return b""
        prefix = b'{"tool_calls":[{"index":%d,"function":{"arguments":' % call.index
        return self._delta + prefix + dumps(event.arguments) + b"}}]}" + self._delta_end

    def _call_end(self, event: ToolCallEnd) -> bytes:
        call = self._calls[event.index]
        extra = _call_extra(event.provider_metadata, self._family, self._reply)
        more: Fields = {"extra_content": extra} if extra else {}
        if call.custom:
            text = "".join(call.arguments)
            custom: Fields = {"name": call.start.name, "input": _custom_input(decode_arguments(text)[0], text)}
            return self._call_chunk(call, {"id": call.start.id, "type": "custom", "custom": custom, **more})
        if self._reply.whole_calls:
            function: Fields = {"name": call.start.name, "arguments": "".join(call.arguments)}
            return self._call_chunk(call, {"id": call.start.id, "type": "function", "function": function, **more})
        # The official client library takes no delta of a function's call without the field `function`.
        return self._call_chunk(call, {"function": {"arguments": ""}, **more}) if more else b""

    def _citation(self, event: Citation) -> bytes:
        self._extra.citation(event)
        return b""

    def _part_added(self, event: PartAdded) -> bytes:
        part = event.part
        if isinstance(part, Opaque):
            self._extra.opaque(part)
        elif isinstance(part, Image):
            images = _image(part, self._images)
            self._images += len(images)
            return self._chunk({"images": images}) if images else b""
        elif isinstance(part, Audio) and not self._spoke:
            self._spoke = True
            return self._chunk({"audio": _audio(part, self._reply)})
        return b""

    def _finished(self, event: Finished) -> bytes:
        chunks: list[bytes] = []
        end: Fields = {"annotations": self._extra.annotations, "extra_content": self._extra.content()}
        end = {name: value for name, value in end.items() if value}
        if end:
            chunks.append(self._chunk(end))
        reason = dumps(_FINISH_REASONS.get(event.reason, "stop"))
        choice = b"{}" + b',"logprobs":null,"finish_reason":' + reason + b"}]" + self._usage_null
        chunks.append(self._delta + choice + self._passed_through(event) + b"}\n\n")
        if self._reply.include_usage:
            usage = dumps(_usage(event.usage, same=self._same))
            chunks.append(self._head + b',"choices":[],"usage":' + usage + b"}\n\n")
        chunks.append(b"data: [DONE]\n\n")
        return b"".join(chunks)

    def _passed_through(self, event: Finished) -> bytes:
        """Unknown fields of the chunks of a provider that speaks this format too, such as `service_tier`."""
        if not self._same or not event.provider_metadata:
            return b""
        own = as_object(event.provider_metadata.get(self._reply.target.provider or ""))
        fields = passable({name: value for name, value in own.items() if name not in _BODY_FIELDS | _CHOICE_FIELDS})
        return b"," + dumps(fields)[1:-1] if fields else b""


class _Call:
    __slots__ = ("arguments", "custom", "index", "start")

    def __init__(self, index: int, start: ToolCallStart, *, custom: bool) -> None:
        self.index = index
        self.start = start
        self.custom = custom
        self.arguments: list[str] = []


# Each function takes the events of its class.
_WRITERS: Mapping[type, Callable[[StreamWriter, Any], bytes]] = {
    ResponseStarted: StreamWriter._started,
    TextStart: StreamWriter._text_start,
    TextDelta: StreamWriter._text_delta,
    TextEnd: StreamWriter._text_finished,
    ReasoningStart: StreamWriter._reasoning_start,
    ReasoningDelta: StreamWriter._reasoning_delta,
    ReasoningEnd: StreamWriter._reasoning_end,
    ToolCallStart: StreamWriter._call_start,
    ToolCallDelta: StreamWriter._call_delta,
    ToolCallEnd: StreamWriter._call_end,
    Citation: StreamWriter._citation,
    PartAdded: StreamWriter._part_added,
    Finished: StreamWriter._finished,
}


def _detail(
    part: Reasoning | ReasoningEnd, text: str, family: str | None, reply: Reply, *, index: int, at: int
) -> JSONObject | None:
    """An entry of `reasoning_details` for reasoning that only the provider can verify or read.

    `at` is where its text begins in `reasoning_content`. If the service is composed of others, all reasoning has an
    entry, since nothing else says whose it is.
    """
    whose = reply.target.provider is None and part.provider is not None
    if not (whose or part.signature or part.encrypted or part.redacted or part.provider_metadata):
        return None
    data = wrap_reasoning(part, family, at=at, text=text)
    return {"type": "reasoning.encrypted", "format": CARRIED, "index": index, "data": data}


def _call_extra(metadata: ProviderOptions, family: str | None, reply: Reply) -> JSONObject:
    if not metadata:
        return {}
    if reply.target.wire == WIRE and reply.target.provider is not None and len(metadata) == 1:
        own = as_object(metadata.get(reply.target.provider))
        extra = as_object(own.get("extra_content"))
        if own and own.keys() <= {"extra_content", "type"} and (extra or own.get("type") == "custom"):
            return passable(extra)
    provider = next(iter(metadata))
    return {CARRIED: wrap(provider, family, metadata=metadata)}


def _custom_input(arguments: JSONObject, text: str) -> str:
    value = arguments.get("input")
    return value if isinstance(value, str) else text


def _image(part: Image, index: int) -> list[JSONValue]:
    """An image of the response, as OpenRouter writes it. One that is only a file at the provider has no form here."""
    if part.data is not None:
        url = f"data:{part.media_type or 'image/png'};base64,{part.base64}"
    elif part.url is not None:
        url = part.url
    else:
        return []
    return [{"type": "image_url", "image_url": {"url": url}, "index": index}]


def _audio(part: Audio, reply: Reply) -> JSONObject:
    ids = (as_string(data.get("id")) for data in part.provider_metadata.values())
    return {
        "id": next((found for found in ids if found), OWN_AUDIO + reply.id),
        "data": b64encode(part.data or b"").decode(),
        "expires_at": reply.created + 3600,
        "transcript": part.transcript or "",
    }


def _logprobs(tokens: Iterable[TokenLogprob], *, refused: bool = False) -> JSONObject | None:
    entries: list[JSONValue] = [write_token(token) for token in tokens]
    if not entries:
        return None
    return {"content": None, "refusal": entries} if refused else {"content": entries, "refusal": None}


def _usage(usage: Usage | None, *, same: bool) -> JSONObject | None:
    if usage is None:
        return None
    raw = passable(usage.raw) if same else {}
    prompt, completion = as_object(raw.get("prompt_tokens_details")), as_object(raw.get("completion_tokens_details"))
    input_tokens, output_tokens = usage.input_tokens or 0, usage.output_tokens or 0
    return {
        **raw,
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": usage.total_tokens or input_tokens + output_tokens,
        "prompt_tokens_details": {
            **prompt,
            **_counts(cached_tokens=usage.cache_read_tokens, cache_write_tokens=usage.cache_write_tokens),
        },
        "completion_tokens_details": {**completion, **_counts(reasoning_tokens=usage.reasoning_tokens)},
    }


def _counts(**counts: int | None) -> Fields:
    return {name: count for name, count in counts.items() if count is not None}
