"""What the hand-written clients share: loops that do for one wire format what is needed, and no more."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Any
from zlib import crc32

from payloads import MODEL, PROMPT

try:
    from msgspec.json import decode as loads  # what Trunkline decodes with where it is installed
except ImportError:
    from json import loads
from json import dumps

MESSAGES = [{"role": "user", "content": PROMPT}]
CHAT = {"model": MODEL, "messages": MESSAGES}
CHAT_STREAM = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
ANTHROPIC = {"model": MODEL, "messages": MESSAGES, "max_tokens": 4096}
BEDROCK = {"messages": [{"role": "user", "content": [{"text": PROMPT}]}]}
BEARER = {"authorization": "Bearer REDACTED", "content-type": "application/json"}
KEYED = {"x-api-key": "REDACTED", "anthropic-version": "2023-06-01", "content-type": "application/json"}


def body(value: object) -> bytes:
    return dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def data_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                yield line[6:]


async def chat(chunks: AsyncIterator[bytes]) -> AsyncIterator[str | int]:
    async for data in data_lines(chunks):
        if data == b"[DONE]":
            continue
        value = loads(data)
        for choice in value["choices"]:
            if text := choice["delta"].get("content"):
                yield text
        if usage := value.get("usage"):
            yield usage["completion_tokens"]


async def anthropic(chunks: AsyncIterator[bytes]) -> AsyncIterator[str | int]:
    async for data in data_lines(chunks):
        value = loads(data)
        if value["type"] == "content_block_delta":
            yield value["delta"]["text"]
        elif value["type"] == "message_delta":
            yield value["usage"]["output_tokens"]


def messages(data: bytes) -> tuple[list[tuple[dict[bytes, bytes], bytes]], bytes]:
    """The whole messages of an AWS event stream in `data`, checked, and what is left."""
    at, size, found = 0, len(data), []
    while size - at >= 16:
        total, headers_size, check = struct.unpack_from("!III", data, at)
        if crc32(data[at : at + 8]) != check:
            raise ValueError("the prelude is broken")
        end = at + total
        if end > size:
            break
        if crc32(data[at : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError("a message is broken")
        headers, cursor, stop = {}, at + 12, at + 12 + headers_size
        while cursor < stop:
            name_end = cursor + 1 + data[cursor]
            value_at = name_end + 3
            value_end = value_at + int.from_bytes(data[name_end + 1 : value_at], "big")
            headers[data[cursor + 1 : name_end]] = data[value_at:value_end]
            cursor = value_end
        found.append((headers, data[stop : end - 4]))
        at = end
    return found, data[at:]


async def bedrock(chunks: AsyncIterator[bytes]) -> AsyncIterator[str | int]:
    rest = b""
    async for chunk in chunks:
        found, rest = messages(rest + chunk)
        for headers, payload in found:
            if headers[b":message-type"] != b"event":
                raise ValueError(payload)
            kind = headers[b":event-type"]
            if kind == b"contentBlockDelta":
                yield loads(payload)["delta"]["text"]
            elif kind == b"metadata":
                yield loads(payload)["usage"]["outputTokens"]


def chat_answer(data: bytes) -> tuple[str, int]:
    value: Any = loads(data)
    return value["choices"][0]["message"]["content"], value["usage"]["completion_tokens"]


def anthropic_answer(data: bytes) -> tuple[str, int]:
    value: Any = loads(data)
    return value["content"][0]["text"], value["usage"]["output_tokens"]


def bedrock_answer(data: bytes) -> tuple[str, int]:
    value: Any = loads(data)
    return value["output"]["message"]["content"][0]["text"], value["usage"]["outputTokens"]
