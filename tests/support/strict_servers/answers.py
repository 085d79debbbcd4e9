"""Streamed answers in each wire format, in the form of recorded streams.

`Said` describes an answer, independent of the wire format. A renderer turns it into bytes. The bytes end like a real
stream, or in the middle if the answer is `cut`.
"""

from __future__ import annotations

import json
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs

from strict_servers.seal import seal

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 16
SSE = {"content-type": "text/event-stream"}
NDJSON = {"content-type": "application/x-ndjson"}
EVENTSTREAM = {"content-type": "application/vnd.amazon.eventstream"}


@attrs.frozen(kw_only=True)
class Said:
    """The content of one answer. `calls` are pairs of a tool's name and the arguments as text.

    `hosted` is whether the answer has a call of a tool that the provider runs, and its result. `number` is the number
    of the answer in the conversation, from 1. The ids in the answer are derived from this number.
    """

    number: int = 1
    reasoning: str = ""
    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    image: bool = False
    hosted: bool = False
    cut: bool = False


Reply: TypeAlias = tuple[bytes, Mapping[str, str]]
Renderer: TypeAlias = Callable[[Said], Reply]
CallId: TypeAlias = Callable[[Said, int], str]


def _sse(*frames: object, events: bool = False, end: str = "") -> bytes:
    out = ""
    for frame in frames:
        name = f"event: {frame['type']}\n" if events and isinstance(frame, dict) else ""
        out += f"{name}data: {json.dumps(frame)}\n\n"
    return (out + end).encode()


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _image_url() -> str:
    return f"data:image/png;base64,{b64encode(PNG).decode()}"


# Chat Completions


@attrs.frozen(kw_only=True)
class Chat:
    """A Chat Completions server: the name of its reasoning field, its ids, and the fields that it adds to calls."""

    reasoning: str = "reasoning_content"
    call_id: CallId
    sealed: str | None = None
    signs: str = ""
    thinking_chunks: bool = False
    model: str = "m"

    def __call__(self, said: Said) -> Reply:
        """Render an answer."""
        return _sse(*self._chunks(said), end="" if said.cut else "data: [DONE]\n\n"), SSE

    def _chunks(self, said: Said) -> Iterator[dict[str, Any]]:
        yield self._chunk({"role": "assistant", "content": ""})
        if said.reasoning:
            for delta in self._reasoning(said):
                yield self._chunk(delta)
        if said.text:
            for half in _halves(said.text):
                yield self._chunk({"content": half})
        if said.image:
            image = {"type": "image_url", "image_url": {"url": _image_url()}, "index": 0}
            yield self._chunk({"images": [image]})
        for index, (name, arguments) in enumerate(said.calls):
            first, second = _halves(arguments)
            head: dict[str, Any] = {"index": index, "id": self.call_id(said, index), "type": "function"}
            if self.signs == "calls" and index == 0:
                head["extra_content"] = {"google": {"thought_signature": seal(str(self.sealed), f"{said.number}")}}
            yield self._chunk({"tool_calls": [{**head, "function": {"name": name, "arguments": first}}]})
            yield self._chunk({"tool_calls": [{"index": index, "function": {"arguments": second}}]})
        if self.signs == "details" and (said.calls or said.reasoning) and not said.cut:
            detail = {"type": "reasoning.encrypted", "data": seal(str(self.sealed), f"{said.number}"), "index": 0}
            if said.calls:
                detail["id"] = self.call_id(said, 0)
            yield self._chunk({"content": "", "reasoning_details": [{**detail, "format": "google-gemini-v1"}]})
        if not said.cut:
            usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
            yield {**self._chunk({}, "tool_calls" if said.calls else "stop"), "usage": usage}

    def _reasoning(self, said: Said) -> Iterator[dict[str, Any]]:
        for half in _halves(said.reasoning):
            if self.thinking_chunks:
                yield {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": half}]}]}
            elif self.signs == "details":
                detail = {"type": "reasoning.text", "text": half, "index": 0, "format": "google-gemini-v1"}
                yield {"content": "", "reasoning": half, "reasoning_details": [detail]}
            else:
                yield {self.reasoning: half}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": self.model, "choices": [choice]}


# Responses


@attrs.frozen(kw_only=True)
class Responses:
    """The Responses API, whose encrypted reasoning names an issuer."""

    sealed: str

    def __call__(self, said: Said) -> Reply:
        """Render an answer."""
        turn = f"{said.number}r{said.number}" if said.reasoning else f"{said.number}"
        frames: list[dict[str, Any]] = []
        output: list[dict[str, Any]] = []

        def add(kind: str, **fields: Any) -> None:
            frames.append({"type": f"response.{kind}", "sequence_number": len(frames), **fields})

        def item(value: dict[str, Any], *deltas: tuple[str, dict[str, Any]], start: dict[str, Any]) -> None:
            at = len(output)
            add("output_item.added", output_index=at, item={**value, **start})
            for kind, fields in deltas:
                add(kind, output_index=at, item_id=value["id"], **fields)
            add("output_item.done", output_index=at, item=value)
            output.append(value)

        response = {"id": f"resp_{said.number}", "object": "response", "created_at": 1, "model": "gpt-5.6"}
        add("created", response={**response, "status": "in_progress", "output": []})
        if said.reasoning:
            summary = [{"type": "summary_text", "text": said.reasoning}]
            item(
                {
                    "type": "reasoning",
                    "id": f"rs_{turn}",
                    "summary": summary,
                    "encrypted_content": seal(self.sealed, turn),
                },
                ("reasoning_summary_part.added", {"summary_index": 0, "part": {"type": "summary_text", "text": ""}}),
                ("reasoning_summary_text.delta", {"summary_index": 0, "delta": said.reasoning}),
                ("reasoning_summary_part.done", {"summary_index": 0, "part": summary[0]}),
                start={"summary": []},
            )
        if said.hosted:
            search = {"type": "web_search_call", "id": f"ws_{turn}", "status": "completed"}
            item({**search, "action": {"type": "search", "query": "Oslo"}}, start={"status": "in_progress"})
        if said.image:
            image = {"type": "image_generation_call", "id": f"ig_{turn}", "status": "completed"}
            item({**image, "result": b64encode(PNG).decode()}, start={"status": "in_progress", "result": None})
        if said.text:
            part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
            message = {"type": "message", "id": f"msg_{turn}", "role": "assistant", "status": "completed"}
            deltas = [("output_text.delta", {"content_index": 0, "delta": half}) for half in _halves(said.text)]
            item(
                {**message, "content": [part]},
                ("content_part.added", {"content_index": 0, "part": {**part, "text": ""}}),
                *deltas,
                ("output_text.done", {"content_index": 0, "text": said.text}),
                start={"content": [], "status": "in_progress"},
            )
        for index, (name, arguments) in enumerate(said.calls):
            call = {"type": "function_call", "id": f"fc_{turn}{'abcdef'[index]}", "call_id": f"call_{turn}{index}"}
            item(
                {**call, "name": name, "arguments": arguments, "status": "completed"},
                *(("function_call_arguments.delta", {"delta": half}) for half in _halves(arguments)),
                start={"arguments": "", "status": "in_progress"},
            )
        if said.cut:
            return _sse(*frames[:-1], events=True), SSE
        usage = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
        add("completed", response={**response, "status": "completed", "output": output, "usage": usage})
        return _sse(*frames, events=True), SSE


# Anthropic


@attrs.frozen(kw_only=True)
class Anthropic:
    """The Messages API. `sign` makes the signature of a thinking block; `None` for a server without signatures."""

    sign: Callable[[Said], str | None]

    def __call__(self, said: Said) -> Reply:
        """Render an answer."""
        frames: list[dict[str, Any]] = []

        def block(start: dict[str, Any], *deltas: dict[str, Any]) -> None:
            index = sum(frame["type"] == "content_block_start" for frame in frames)
            frames.append({"type": "content_block_start", "index": index, "content_block": start})
            frames.extend({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
            frames.append({"type": "content_block_stop", "index": index})

        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
        usage = {"input_tokens": 3, "output_tokens": 1}
        frames.append({"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}})
        if said.reasoning:
            signature = self.sign(said)
            deltas = [{"type": "thinking_delta", "thinking": half} for half in _halves(said.reasoning)]
            if signature is not None and not said.cut:
                deltas.append({"type": "signature_delta", "signature": signature})
            start = {"type": "thinking", "thinking": "", **({} if signature is None else {"signature": ""})}
            block(start, *deltas)
        if said.hosted:
            search = {"id": f"srvtoolu_{said.number}", "name": "web_search", "input": {}}
            block(
                {"type": "server_tool_use", **search},
                {"type": "input_json_delta", "partial_json": '{"query": "Oslo"}'},
            )
            found = {"type": "web_search_result", "url": "https://example.com", "title": "Oslo"}
            content = [{**found, "encrypted_content": seal("claude", "search"), "page_age": None}]
            block({"type": "web_search_tool_result", "tool_use_id": search["id"], "content": content})
        if said.text:
            halves = [{"type": "text_delta", "text": half} for half in _halves(said.text)]
            block({"type": "text", "text": ""}, *halves)
        for index, (name, arguments) in enumerate(said.calls):
            call = {"type": "tool_use", "id": f"toolu_{said.number}{index}", "name": name, "input": {}}
            block(call, *({"type": "input_json_delta", "partial_json": half} for half in _halves(arguments)))
        if said.cut:
            return _sse(*frames[:-1], events=True), SSE
        stop = {"stop_reason": "tool_use" if said.calls else "end_turn", "stop_sequence": None}
        frames.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 7}})
        frames.append({"type": "message_stop"})
        return _sse(*frames, events=True), SSE


# Bedrock


def _event(name: str, payload: object) -> bytes:
    """One message of an AWS event stream."""

    def header(key: str, value: str) -> bytes:
        return bytes([len(key)]) + key.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()

    headers = header(":event-type", name) + header(":content-type", "application/json")
    headers += header(":message-type", "event")
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(body), len(headers))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + body
    return message + struct.pack("!I", zlib.crc32(message))


@attrs.frozen(kw_only=True)
class Converse:
    """Bedrock's Converse. Claude signs reasoning; other families do not."""

    call_id: CallId
    signed: bool = False

    def __call__(self, said: Said) -> Reply:
        """Render an answer."""
        events: list[bytes] = [_event("messageStart", {"role": "assistant"})]
        blocks = 0

        def block(*deltas: dict[str, Any], start: dict[str, Any] | None = None) -> None:
            nonlocal blocks
            index = {"contentBlockIndex": blocks}
            if start is not None:
                events.append(_event("contentBlockStart", {**index, "start": start}))
            events.extend(_event("contentBlockDelta", {**index, "delta": delta}) for delta in deltas)
            events.append(_event("contentBlockStop", index))
            blocks += 1

        if said.reasoning:
            deltas = [{"reasoningContent": {"text": half}} for half in _halves(said.reasoning)]
            if self.signed and not said.cut:
                deltas.append({"reasoningContent": {"signature": seal("claude", f"{said.number}")}})
            block(*deltas)
        if said.text:
            block(*({"text": half} for half in _halves(said.text)))
        for index, (name, arguments) in enumerate(said.calls):
            call = {"toolUse": {"toolUseId": self.call_id(said, index), "name": name}}
            block(*({"toolUse": {"input": half}} for half in _halves(arguments)), start=call)
        if said.cut:
            return b"".join(events[:-1]), EVENTSTREAM
        events.append(_event("messageStop", {"stopReason": "tool_use" if said.calls else "end_turn"}))
        usage = {"inputTokens": 3, "outputTokens": 7, "totalTokens": 10}
        events.append(_event("metadata", {"usage": usage, "metrics": {"latencyMs": 5}}))
        return b"".join(events), EVENTSTREAM


# Gemini


@attrs.frozen(kw_only=True)
class Gemini:
    """Gemini's generateContent, which signs the first call of a turn and its pictures."""

    sealed: str

    def __call__(self, said: Said) -> Reply:
        """Render an answer."""
        signature = {"thoughtSignature": seal(self.sealed, f"{said.number}")}
        parts: list[dict[str, Any]] = []
        if said.reasoning:
            parts.append({"text": said.reasoning, "thought": True})
        if said.hosted:
            parts.append({"executableCode": {"language": "PYTHON", "code": "print(1)"}})
            parts.append({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}})
        if said.text:
            parts.append({"text": said.text, **({} if said.calls or said.image or said.cut else signature)})
        if said.image:
            parts.append({"inlineData": {"mimeType": "image/png", "data": b64encode(PNG).decode()}, **signature})
        for index, (name, arguments) in enumerate(said.calls):
            call = {"functionCall": {"name": name, "args": json.loads(arguments)}}
            parts.append({**call, **({} if index else signature)})
        frames = [{"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]} for part in parts]
        if not said.cut:
            usage = {"promptTokenCount": 3, "candidatesTokenCount": 7, "totalTokenCount": 10}
            end = {"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}
            frames.append({"candidates": [end], "usageMetadata": usage, "modelVersion": "gemini"})  # type: ignore[dict-item]
        return _sse(*frames), SSE


# Cohere and Ollama


def cohere(said: Said) -> Reply:
    """Render an answer of Cohere's v2 chat. With calls, the reasoning is a tool plan."""
    frames: list[dict[str, Any]] = [
        {"type": "message-start", "id": "c1", "delta": {"message": {"role": "assistant", "content": []}}}
    ]

    def content(kind: str, text: str) -> None:
        index = sum(frame["type"] == "content-start" for frame in frames)
        start = {"message": {"content": {"type": kind, kind: ""}}}
        frames.append({"type": "content-start", "index": index, "delta": start})
        deltas = [{"message": {"content": {kind: half}}} for half in _halves(text)]
        frames.extend({"type": "content-delta", "index": index, "delta": delta} for delta in deltas)
        frames.append({"type": "content-end", "index": index})

    if said.reasoning and said.calls:
        frames.append({"type": "tool-plan-delta", "delta": {"message": {"tool_plan": said.reasoning}}})
    elif said.reasoning:
        content("thinking", said.reasoning)
    if said.text:
        content("text", said.text)
    for index, (name, arguments) in enumerate(said.calls):
        call = {"id": f"{name}_{said.number}x{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        frames.append({"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": call}}})
        for half in _halves(arguments):
            delta = {"message": {"tool_calls": {"function": {"arguments": half}}}}
            frames.append({"type": "tool-call-delta", "index": index, "delta": delta})
        frames.append({"type": "tool-call-end", "index": index})
    if said.cut:
        return _sse(*frames[:-1], events=True), SSE
    usage = {"tokens": {"input_tokens": 3, "output_tokens": 7}}
    finish = "TOOL_CALL" if said.calls else "COMPLETE"
    frames.append({"type": "message-end", "delta": {"finish_reason": finish, "usage": usage}})
    return _sse(*frames, events=True), SSE


def ollama(said: Said) -> Reply:
    """Render an answer of Ollama's chat."""
    head = {"model": "qwen3", "created_at": "2026-11-26T00:00:00Z"}
    messages: list[dict[str, Any]] = []
    if said.reasoning:
        messages += [{"role": "assistant", "content": "", "thinking": half} for half in _halves(said.reasoning)]
    if said.text:
        messages += [{"role": "assistant", "content": half} for half in _halves(said.text)]
    for index, (name, arguments) in enumerate(said.calls):
        function = {"index": index, "name": name, "arguments": json.loads(arguments)}
        call = {"id": f"call_{said.number}x{index}", "function": function}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
    lines: list[dict[str, Any]] = [{**head, "message": message, "done": False} for message in messages]
    if not said.cut:
        end = {"role": "assistant", "content": ""}
        lines.append({**head, "message": end, "done": True, "done_reason": "stop", "eval_count": 7})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines), NDJSON
