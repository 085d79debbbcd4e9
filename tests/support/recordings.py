"""Recorded provider traffic: where it is, what an exchange holds, and the parser that is to read it.

The recordings stay out of the project. `TRUNKLINE_RECORDINGS` names their folder, from the project's root where it is
relative; without them the tests that use them are skipped, or fail where `TRUNKLINE_REQUIRE_RECORDINGS` is 1.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import pytest
from trunkline._plugins.registry import load_provider, open_steps
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ResponseParser, ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import BadRequest, ProtocolViolation, ServerError, StreamInterrupted, TrunklineError
from trunkline.events import Event
from trunkline.fold import fold
from trunkline.response import ChatResponse

ROOT = Path(__file__).parents[2]
FOLDER = (ROOT / (os.environ.get("TRUNKLINE_RECORDINGS") or "../shared/recordings")).resolve()

PROVIDERS = ("openai", "openai-responses", "azure-openai", "groq", "deepseek", "openrouter", "other")
"""The files of recordings whose servers speak Chat Completions or Responses."""

PROFILES = {
    "api.openai.com": "openai",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "openrouter.ai": "openrouter",
    "api.x.ai": "xai",
    "api.together.ai": "together",
    "api.together.xyz": "together",
    "router.huggingface.co": "huggingface",
    "api.cerebras.ai": "cerebras",
    "api.perplexity.ai": "perplexity",
    "localhost:1234": "lm-studio",
}
"""The profile for a host; for the others `profile_name` decides."""

AZURE = ("azure", "azure-responses", "azure-ai-inference")
"""The variants that Azure answered; its own plugin reads them."""

CHAT, RESPONSES = SCOPES = ("chat", "responses")

# The last steps of the path, in order; the first that fits names why an exchange is not a chat.
_OTHER_ENDPOINTS = (
    ("/messages", "another dialect"),
    (":rawPredict", "another dialect"),
    (":streamRawPredict", "another dialect"),
    (":generateContent", "another dialect"),
    ("/v1/chat", "a path of its own"),
    ("/models/HuggingFaceH4/zephyr-7b-beta", "another dialect"),
    ("/completions", "legacy completions"),
    ("/input_tokens", "token counting"),
    ("/count-tokens", "token counting"),
    ("/embeddings", "embeddings"),
    ("/rerank", "rerank"),
    ("/moderations", "moderations"),
    ("/apply", "guardrails"),
)
_OTHER_AREAS = ("audio", "images", "videos", "files", "batches", "fine_tuning", "threads", "vector_stores", "models")


EXCEPTIONS: Mapping[str, tuple[type[TrunklineError], str]] = {
    "967cca27005c00d9": (StreamInterrupted, "a stream of Chat Completions; the URL of a Responses endpoint is a guess"),
    "58acf4997f4840cd": (BadRequest, "the stream holds an error event, which its tags do not tell"),
    "6aee8b9d8d5965cd": (BadRequest, "the stream holds an error event, which its tags do not tell"),
    "31689b95ad96aec4": (ServerError, "the body is an error, which its tags do not tell"),
    "aeabfc3d2da288f7": (ServerError, "the body is an error, which its tags do not tell"),
    "3c370f4ecded0b69": (ServerError, "the stream holds a choice without content or a finish reason, and 0 tokens"),
    "3dea6361d36d345a": (ProtocolViolation, "the body is empty"),
}
"""Successes that give no response: the error that is raised, and why."""


@attrs.frozen(kw_only=True)
class Exchange:
    """One recorded request with its answer."""

    id: str
    method: str
    url: str
    variant: str
    status: int
    headers: dict[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    streaming: bool
    finish_reasons: tuple[str, ...]
    chunk_lengths: tuple[int, ...] = attrs.field(repr=False)
    tags: frozenset[str]
    notes: frozenset[str]

    @property
    def scope(self) -> str:
        """`chat`, `responses`, or why the exchange is neither."""
        path = urlsplit(self.url).path
        if self.method == "POST" and path.endswith("/chat/completions"):
            return CHAT
        if self.method == "POST" and path.endswith("/responses"):
            return RESPONSES
        if "/responses/" in path and not path.endswith("/input_tokens"):
            return "stored responses"
        for end, reason in _OTHER_ENDPOINTS:
            if path.endswith(end):
                return reason
        return next(area for area in _OTHER_AREAS if f"/{area}" in path)

    @property
    def is_success(self) -> bool:
        """Whether a whole answer is to be expected."""
        return self.status == 200 and not self.tags & {"error", "truncated-stream", "mid-stream-error"}

    @property
    def wire_response(self) -> WireResponse:
        """The answer, as a transport gives it."""
        return WireResponse(status=self.status, headers=self.headers, body=self.body)

    @property
    def chunks(self) -> list[bytes]:
        """The body as it was read, where the recorder kept that; else in one piece."""
        return list(cut(self.body, self.chunk_lengths)) if self.chunk_lengths else [self.body]


def cut(body: bytes, lengths: Sequence[int]) -> Iterator[bytes]:
    """The body in pieces of these lengths; what is left over is the last."""
    at = 0
    for length in lengths:
        yield body[at : at + length]
        at += length
    if at < len(body):
        yield body[at:]


def _body(data: dict[str, Any]) -> tuple[bytes, bool]:
    """The body, and whether it is a stream."""
    if data.get("response_body_b64"):
        return b64decode(data["response_body_b64"]), data["streaming"]
    text = data.get("response_body_text") or ""
    if text.startswith('{"b64":'):
        # A recorder that wrapped what it could not read as JSON: streams, and a body that was empty.
        body = b64decode(json.loads(text)["b64"])
        return body, bool(body)
    return text.encode(), data["streaming"]


def _exchange(line: str) -> Exchange:
    data: dict[str, Any] = json.loads(line)
    body, streaming = _body(data)
    return Exchange(
        id=data["id"],
        method=data["method"],
        url=data["url"],
        variant=data["variant"],
        status=data["status"],
        headers=data["response_headers"] or {},
        body=body,
        streaming=streaming,
        finish_reasons=tuple(data["finish_reasons"]),
        chunk_lengths=tuple(data.get("chunk_lengths") or ()),
        tags=frozenset(data["tags"]),
        notes=frozenset(data["notes"]),
    )


@cache
def _read(path: Path) -> tuple[Exchange, ...]:
    with path.open(encoding="utf-8") as lines:
        return tuple(_exchange(line) for line in lines)


def recorded(provider: str) -> tuple[Exchange, ...]:
    """The exchanges of a file of recordings. Skips the test, or fails it, where there are none."""
    path = FOLDER / "open" / f"{provider}.jsonl"
    if not path.is_file():
        reason = f"no recordings: {path} is not there (TRUNKLINE_RECORDINGS names their folder)"
        if os.environ.get("TRUNKLINE_REQUIRE_RECORDINGS") == "1":
            pytest.fail(f"{reason}, and TRUNKLINE_REQUIRE_RECORDINGS is 1")
        pytest.skip(reason)
    return _read(path)


def chats(provider: str) -> list[Exchange]:
    """The exchanges with the endpoints that create chat completions and responses, whatever came of them."""
    return [exchange for exchange in recorded(provider) if exchange.scope in SCOPES]


def successful_streams(provider: str) -> list[Exchange]:
    """The streams of chats that came to their end."""
    streams = [exchange for exchange in chats(provider) if exchange.streaming and exchange.is_success]
    return [exchange for exchange in streams if exchange.id not in EXCEPTIONS]


def profile_name(exchange: Exchange) -> str:
    """The built-in profile for the server of an exchange."""
    host = urlsplit(exchange.url).netloc
    if host in PROFILES:
        return PROFILES[host]
    if exchange.variant == "llamacpp":
        return "llama.cpp"
    return "openai" if exchange.variant == "azure" else "generic"


@cache
def _parser(scope: str, profile: str) -> ResponseParser:
    provider = load_provider("openai" if scope == RESPONSES or profile == "openai" else "openai-compatible")
    if provider.name == "openai":
        settings = provider.settings(api_key="REDACTED", api=scope)  # type: ignore[call-arg]
    else:
        settings = provider.settings(api_url="http://localhost", profile=profile)  # type: ignore[call-arg]
    context = ServiceContext(name="recorded", provider=provider.name, settings=settings)
    return open_steps(provider, context).parser


@cache
def _azure_parser(scope: str) -> ResponseParser:
    provider = load_provider("azure-openai")
    settings = provider.settings(api_url="http://localhost", api_key="REDACTED", api=scope)  # type: ignore[call-arg]
    return open_steps(provider, ServiceContext(name="recorded", provider=provider.name, settings=settings)).parser


def parser_for(exchange: Exchange) -> ResponseParser:
    """The parser that a service for the exchange's server has, as the hooks give it."""
    if exchange.variant in AZURE:
        return _azure_parser(exchange.scope)
    return _parser(exchange.scope, profile_name(exchange))


def events_of(exchange: Exchange, pieces: Sequence[bytes] | None = None) -> list[Event]:
    """The events of a stream that comes in these pieces; as it was read, without them."""
    decoder = StreamDecoder(*parser_for(exchange).stream())
    events: list[Event] = []
    for piece in pieces if pieces is not None else exchange.chunks:
        events += decoder.feed(piece)
    return events + decoder.finish()


def response_of(exchange: Exchange) -> ChatResponse:
    """The answer. Raises as the parser does."""
    return fold(events_of(exchange)) if exchange.streaming else parser_for(exchange).body(exchange.wire_response)


def report(problems: Iterable[str]) -> str:
    """The problems as one message."""
    return "".join(f"\n  - {problem}" for problem in problems)
