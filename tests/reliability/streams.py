"""The recorded streams of every provider, with the parser that is to read each and the place of its terminator."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import attrs
from trunkline._plugins.registry import load_provider, open_steps
from trunkline.authoring.provider import ResponseParser, ServiceContext

sys.path.append(str(Path(__file__).parents[1] / "support"))

from recordings import (
    AZURE,
    CHAT,
    EXCEPTIONS,
    FOLDER,
    PROVIDERS,
    Exchange,
    chats,
    parser_for,
    profile_name,
    recorded,
)
from trunkline_openai.profile import PROFILES

_LINE = re.compile(rb"^data:[ ]?(.*?)\r?$", re.MULTILINE)
_REASON = re.compile(rb'"finish_reason"\s*:\s*"')

_KINDS = {"converse": "application/vnd.amazon.eventstream", "ollama": "application/x-ndjson"}

PRELUDE = 8
"""The size of the two lengths at the start of an AWS message: of the message and of its headers."""


@attrs.frozen
class Recorded:
    """A stream. `complete_at` is the least number of its bytes that hold the terminator, found without our parsers."""

    id: str
    provider: str
    dialect: str
    body: bytes = attrs.field(repr=False)
    parser: ResponseParser = attrs.field(repr=False)
    complete_at: int

    @property
    def kind(self) -> str:
        """The content type that it is served with."""
        return _KINDS.get(self.dialect, "text/event-stream")


def available() -> bool:
    return (FOLDER / "open").is_dir()


# Where a stream is complete


def _event_type(exchange: Exchange, types: tuple[str, ...]) -> int | None:
    for line in _LINE.finditer(exchange.body):
        if line[1].startswith(b"{") and json.loads(line[1]).get("type") in types:
            return line.start(1) + len(line[1].rstrip())
    return None


def _chat(exchange: Exchange, suffices: bool) -> int | None:
    for line in _LINE.finditer(exchange.body):
        if line[1].strip() == b"[DONE]":
            return line.start(1) + len(b"[DONE]")
        if suffices and _REASON.search(line[1]):
            return line.start(1) + len(line[1].rstrip())
    return None


def messages(body: bytes) -> Iterator[tuple[str, bytes, int]]:
    """The messages of an AWS event stream: type, payload, and where each ends."""
    at = 0
    while at < len(body):
        length = int.from_bytes(body[at : at + 4], "big")
        headers = int.from_bytes(body[at + 4 : at + PRELUDE], "big")
        begin = at + PRELUDE + 4
        found = re.search(rb":event-type\x07..([A-Za-z]+)", body[begin : begin + headers], re.DOTALL)
        at += length
        yield found[1].decode() if found else "", body[begin + headers : at - 4], at


def _converse(exchange: Exchange) -> int | None:
    ends = {kind: end for kind, _, end in messages(exchange.body) if kind in ("messageStop", "metadata")}
    return max(ends.values()) if len(ends) == 2 else None


def _gemini(exchange: Exchange) -> int | None:
    for line in _LINE.finditer(exchange.body):
        data = json.loads(line[1])
        # A prompt that was refused has no candidates, and a proxy writes its reasons as numbers.
        candidate = (data.get("candidates") or [{}])[0]
        reason = candidate.get("finishReason") or data.get("promptFeedback", {}).get("blockReason")
        parts = candidate.get("content", {}).get("parts") or [{}]
        if reason and "executableCode" not in parts[-1]:
            return line.end(1) - (len(line[1]) - len(line[1].rstrip()))
    return None


def _ollama(exchange: Exchange) -> int | None:
    for line in re.finditer(rb"\S.*", exchange.body):
        if json.loads(line[0])["done"]:
            return line.start() + len(line[0].rstrip())
    return None


# Which exchanges are whose


def _steps(provider: str, **settings: str) -> ResponseParser:
    plugin = load_provider(provider)
    context = ServiceContext(name="recorded", provider=provider, settings=plugin.settings(**settings))
    return open_steps(plugin, context).parser


def _found(
    exchange: Exchange, provider: str, dialect: str, parser: ResponseParser, place: Callable[[Exchange], int | None]
) -> Recorded | str:
    end = place(exchange)
    if end is None:
        return exchange.id
    return Recorded(exchange.id, provider, dialect, exchange.body, parser, end)


def _whole(exchange: Exchange) -> bool:
    return exchange.streaming and exchange.is_success and exchange.id not in EXCEPTIONS


def _chat_dialects() -> Iterator[Recorded | str]:
    for file in PROVIDERS:
        for exchange in filter(_whole, chats(file)):
            if exchange.scope == CHAT:
                suffices = PROFILES[profile_name(exchange)].finish_reason_suffices
                provider = "azure-openai" if exchange.variant in AZURE else _provider(exchange)
                yield _found(
                    exchange, provider, "chat", parser_for(exchange), lambda found, flag=suffices: _chat(found, flag)
                )
            else:
                terminals = ("response.completed", "response.incomplete", "response.failed")
                yield _found(
                    exchange,
                    "azure-openai" if exchange.variant in AZURE else "openai",
                    "responses",
                    parser_for(exchange),
                    lambda found, types=terminals: _event_type(found, types),
                )


def _provider(exchange: Exchange) -> str:
    return "openai" if profile_name(exchange) == "openai" else "openai-compatible"


def _anthropic() -> Iterator[Recorded | str]:
    parser = _steps("anthropic", api_key="REDACTED")
    for exchange in (*recorded("anthropic"), *recorded("other")):
        path = urlsplit(exchange.url).path
        clouds = "/publishers/anthropic/" in path and path.endswith(("rawPredict", "RawPredict"))
        if _whole(exchange) and exchange.method == "POST" and (path.endswith("/messages") or clouds):
            yield _found(exchange, "anthropic", "messages", parser, lambda found: _event_type(found, ("message_stop",)))


def _bedrock() -> Iterator[Recorded | str]:
    parser = _steps("bedrock", aws_region="us-east-1", api_key="REDACTED")
    for exchange in filter(_whole, recorded("bedrock-converse-stream")):
        yield _found(exchange, "bedrock", "converse", parser, _converse)


def _cohere() -> Iterator[Recorded | str]:
    parser = _steps("cohere", api_key="REDACTED")
    for exchange in filter(_whole, recorded("cohere")):
        if urlsplit(exchange.url).path == "/v2/chat":
            yield _found(exchange, "cohere", "cohere", parser, lambda found: _event_type(found, ("message-end",)))


def _mistral() -> Iterator[Recorded | str]:
    parser = _steps("mistral", api_key="REDACTED")
    for exchange in filter(_whole, recorded("mistral")):
        if urlsplit(exchange.url).path.endswith(("/chat/completions", "/agents/completions")):
            yield _found(exchange, "mistral", "mistral", parser, lambda found: _chat(found, False))


def _generate_content() -> Iterator[Recorded | str]:
    parser = _steps("gemini", api_key="REDACTED")
    for exchange in filter(_whole, recorded("gemini")):
        # Without `alt=sse` a stream is a JSON array, which the provider never asks for.
        if urlsplit(exchange.url).path.endswith(":streamGenerateContent") and exchange.body.startswith(b"data:"):
            yield _found(exchange, "gemini", "generateContent", parser, _gemini)


def _ollama_chats() -> Iterator[Recorded | str]:
    parser = _steps("ollama")
    for exchange in filter(_whole, recorded("ollama")):
        if urlsplit(exchange.url).path == "/api/chat":
            yield _found(exchange, "ollama", "ollama", parser, _ollama)


@cache
def streams() -> tuple[tuple[Recorded, ...], tuple[str, ...]]:
    """Every stream that came to its end, and the ids of those that hold no terminator."""
    found = [
        *_chat_dialects(),
        *_anthropic(),
        *_bedrock(),
        *_cohere(),
        *_mistral(),
        *_generate_content(),
        *_ollama_chats(),
    ]
    return (
        tuple(item for item in found if isinstance(item, Recorded)),
        tuple(item for item in found if isinstance(item, str)),
    )
