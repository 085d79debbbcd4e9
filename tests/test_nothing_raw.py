"""Only a `TrunklineError` leaves a public call, whatever a server sends, and whatever a request or a setting contains.

A `PluginError` counts as a failure here: it hides an exception that nobody expected. An answer of a server may only
lead to an error that blames the server. With `--exhaustive`, the examples are other ones in each run.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib.util import find_spec
from typing import Any, get_args

import anyio
import attrs
import httpx
import httpx2
import pytest
import trunkline
from hypothesis import HealthCheck, given, settings, strategies as st
from raw_server import RawServer
from trunkline._plugins.registry import load_provider
from trunkline.fold import fold
from trunkline.settings import setting_infos
from trunkline.storage import from_json, to_json
from wires import WIRES

HEALTH = settings(
    derandomize=settings.get_current_profile_name() != "exhaustive",
    max_examples=settings.default.max_examples // 2,  # an example opens a service and starts an event loop
    suppress_health_check=list(HealthCheck),
)

TRANSPORTS = (
    *("asyncio-aiohttp", "asyncio-httpx2", "asyncio-client", "asyncio-httpx", "trio-httpx2", "trio-client"),
    *(("uvloop-aiohttp", "uvloop-httpx2", "uvloop-client") if find_spec("uvloop") else ()),
)

ODD_TEXTS = (
    *("", "m", ".", "..", "../..", "a/b", "a/../b", "a?b=c&d", "a#b", "a%2Fb", "a b", "a\r\nb: c", "a\x00b", "\ud800"),
    *("ä", "a:b", "a\\b", "\u202e", "\x1b[31m", "x" * 5000, "arn:aws:bedrock:us-east-1::a/b", "_", "😀", "\udc80"),
)
texts = st.sampled_from(ODD_TEXTS) | st.text(st.characters(exclude_categories=()), max_size=20)
numbers = st.sampled_from((0, -1, 1, 10**400, 2**63, 2**64, 1e308, float("nan"), float("inf"), -0.0)) | st.floats()
scalars = st.none() | st.booleans() | numbers | st.integers() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)
things = values | st.sampled_from((b"bytes", object(), int, {1}, 1j))


# Answers

STATUSES = (
    *("200", "200", "200", "200", "201", "204", "205", "206", "299", "301", "302", "304", "400", "401", "403", "404"),
    *("408", "413", "429", "500", "503", "529", "600", "999", "100", "101", "103", "000", "099", "1000", "-1", "abc"),
)
HEADERS = (
    *("content-type: application/json", "content-type: text/event-stream", "content-type: application/x-ndjson"),
    *("content-type: application/vnd.amazon.eventstream", "content-type: text/html; charset=\xff", "content-type:"),
    *("content-encoding: gzip", "content-encoding: br", "content-encoding: deflate, gzip", "content-encoding: x"),
    *("content-length: 0", "content-length: 7", "content-length: -1", "content-length: x", "content-length: 5, 6"),
    *("transfer-encoding: chunked", "transfer-encoding: x", "connection: close", "connection: upgrade", "upgrade: x"),
    *("location: http://[::1", "location: //", "location: \xff", "location: http://h:99999/", "location: /x"),
    *("retry-after: 0", "retry-after: nan", "retry-after: -1", "retry-after: 1e999", "retry-after: \xb2"),
    *("retry-after: Fri, 31 Dec 9999 23:59:59 GMT", "retry-after: Fri, 99 Foo", "retry-after-ms: \u0660", "date: x"),
    *("x: a\r\n folded", "x: \x00", "x: \xff\xfe", "\xff: x", "x y: z", ": x", "no colon", "x: " + "y" * 70000),
    *("set-cookie: \xff=\x01", "x-request-id: \xff", "request-id: \ud800", "x-amzn-errortype: :\xff#"),
    *("x-amzn-bedrock-input-token-count: \xb2", "x-amzn-requestid: a\tb"),
)
REASONS = (" OK", "", " ", " \xff\xfe", " \x00", " a  b", " " + "x" * 9000)


NAMES = (
    *("choices", "message", "delta", "content", "usage", "error", "type", "index", "id", "model", "output", "role"),
    *("finish_reason", "tool_calls", "function", "arguments", "name", "data", "object", "created", "embedding"),
    *("candidates", "parts", "text", "usageMetadata", "promptFeedback", "functionCall", "args", "output_index"),
    *("models", "nextPageToken", "next_page_token", "has_more", "last_id", "modelSummaries", "embeddings", "float"),
    *("response", "item", "item_id", "content_index", "status", "content_block", "stop_reason", "prompt_tokens"),
    *("completion_tokens", "input_tokens", "output_tokens", "totalTokens", "done", "done_reason", "thinking"),
    *("inputTokens", "metrics", "citations", "annotations", "logprobs", "reasoning_content", "code", "details"),
)
KINDS = (
    *("message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "error"),
    *("response.created", "response.output_item.added", "response.output_text.delta", "response.completed"),
    *("message-start", "content-start", "content-delta", "tool-call-start", "message-end", "text", "function"),
    *(
        "thinking",
        "tool_use",
        "text_delta",
        "input_json_delta",
        "reasoning",
        "function_call",
        "STOP",
        "stop",
        "COMPLETE",
    ),
)
bodies_json = st.recursive(
    scalars | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=14,
)


def _dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def _framed(value: object) -> bytes:
    data = _dumped(value)
    kind = value.get("type") if isinstance(value, dict) else None
    event = f"event: {kind}\n".encode("utf-8", "replace") if isinstance(kind, str) and kind.isprintable() else b""
    return event + b"data: " + data + b"\n\n"


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid stream of a provider in which values of its JSON have been replaced."""
    wire = draw(st.sampled_from(list(WIRES.values())))
    stream = b"".join(wire.stream(["hel", "lo"]))
    at = draw(st.integers(0, len(stream)))
    how = draw(st.sampled_from(("cut", "insert", "value", "twice")))
    if how == "cut":
        return stream[:at]
    if how == "insert":
        return stream[:at] + draw(st.binary(max_size=4)) + stream[at:]
    if how == "twice":
        return stream + stream
    old = draw(st.sampled_from((b'"hel"', b"0", b"1", b"5", b"7", b"null", b'"m"', b"[]", b'"stop"', b'""')))
    return stream.replace(old, _dumped(draw(values)))


bodies = st.one_of(
    st.binary(max_size=40),
    bodies_json.map(_dumped),
    st.lists(bodies_json.map(_framed), max_size=5).map(b"".join),
    st.lists(bodies_json.map(lambda value: _dumped(value) + b"\n"), max_size=4).map(b"".join),
    mutated(),
    st.sampled_from((b"<html>", b'{"a":' * 3000, b"[" * 100_000, b"data: [DONE]\n\n", b"\xff\xfe{\x00}\x00", b"NaN")),
)
heads = st.tuples(
    st.sampled_from(("HTTP/1.1 ", "HTTP/1.1 ", "HTTP/1.1 ", "HTTP/1.0 ", "HTTP/9.9 ", "ICY ")),
    st.sampled_from(STATUSES),
    st.sampled_from(REASONS),
    st.lists(st.sampled_from(HEADERS), max_size=4),
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """An HTTP response, valid or not."""
    version, status, reason, headers = draw(heads)
    body = draw(bodies)
    if draw(st.booleans()):
        headers = [*headers, "transfer-encoding: chunked"]
        body = b"%x\r\n%s\r\n" % (len(body), body) + draw(st.sampled_from((b"0\r\n\r\n", b"", b"x\r\n")))
    if draw(st.integers(0, 2)):
        # Mostly an answer that is good enough to be read.
        version, status, reason = "HTTP/1.1 ", draw(st.sampled_from(("200", "400", "503", "302"))), " OK"
        headers = [
            line for line in headers if line.startswith(("content-type", "retry", "location", "transfer-encoding: c"))
        ]
    text = "\r\n".join([f"{version}{status}{reason}", *headers])
    return text.encode("latin-1", "replace") + b"\r\n\r\n" + body


# Calls

Call = Callable[[trunkline.Service, trunkline.ChatRequest], Awaitable[object]]


async def _read(service: trunkline.Service, request: trunkline.ChatRequest, way: str) -> object:
    async with service.stream(request) as stream:
        repr(stream), repr(stream.partial)
        if way == "text":
            return [text async for text in stream.text]
        if way == "finish":
            return await stream.finish()
        async for event in stream:
            repr(event)
            if way == "break":
                break
            if way == "aclose":
                await stream.aclose()
                break
        return stream.partial


async def _heartbeats(service: trunkline.Service, request: trunkline.ChatRequest) -> object:
    async with trunkline.heartbeats(service.stream(request), 30) as events:
        return [event async for event in events]


CALLS: dict[str, Call] = {
    "chat": lambda service, request: service.chat(request),
    **{
        way: lambda service, request, way=way: _read(service, request, way)  # type: ignore[misc]
        for way in ("text", "finish", "events", "break", "aclose")
    },
    "heartbeats": _heartbeats,
    "embed": lambda service, request: service.embed("text"),
    "list_models": lambda service, request: service.list_models(),
    "count_tokens": lambda service, request: service.count_tokens(request),
    "authenticate": lambda service, request: service.authenticate(),
}

HELLO = trunkline.ChatRequest(messages="hello", model="m")


def _use(result: object) -> None:
    """Do with a result what applications do."""
    repr(result)
    if isinstance(result, trunkline.ChatResponse):
        str((result.text, result.usage, [call.arguments_json for call in result.tool_calls]))
        stored = json.loads(json.dumps(to_json(result)))
        from_json(trunkline.ChatResponse, stored)


def _show(error: BaseException) -> None:
    str(error), repr(error)
    "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
    pickle.loads(pickle.dumps(error))


OF_A_SERVER = (trunkline.RemoteError, trunkline.UnsupportedOperation)
"""The errors that an answer may lead to. The others would blame the application or its configuration."""


def allowed(error: BaseException) -> bool:
    """Whether a call may raise this. Errors of configuration are allowed where a request holds no valid header."""
    return isinstance(error, trunkline.TrunklineError) and not isinstance(error, trunkline.PluginError)


@contextlib.asynccontextmanager
async def opened(name: str, transport: str, url: str, **more: object) -> AsyncIterator[trunkline.Service]:
    """A service of a provider, over one of `TRANSPORTS`."""
    library = transport.partition("-")[2]
    clients = {"client": httpx2.AsyncClient, "httpx": httpx.AsyncClient}
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(clients[library]()) if library in clients else None
        options: dict[str, Any] = {} if client is not None else {"http_library": library}
        wire = WIRES[name]
        arguments = {"default_model": "m", **wire.settings, "api_url": url, "max_retries": 0, **options, **more}
        yield await stack.enter_async_context(trunkline.open_service(wire.provider, http_client=client, **arguments))


def held(
    transport: str,
    main: Callable[[], Awaitable[object]],
    kinds: tuple[type[Exception], ...] = (trunkline.TrunklineError,),
) -> None:
    """Run a call in an event loop. It may only raise one of `kinds` that `allowed` accepts."""

    async def limited() -> object:
        with anyio.fail_after(60):
            return await main()

    backend = transport.partition("-")[0]
    options = {"use_uvloop": True} if backend == "uvloop" else {}
    try:
        result = anyio.run(limited, backend="trio" if backend == "trio" else "asyncio", backend_options=options)
    except Exception as error:
        if not allowed(error) or not isinstance(error, kinds):
            raise
        _show(error)
        partial = getattr(error, "partial", None)
        if partial is not None:
            _use(partial)
    else:
        _use(result)


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    server = RawServer()
    yield server
    server.close()


transports = st.sampled_from(TRANSPORTS)
providers = st.sampled_from(sorted(WIRES))
calls = st.sampled_from(sorted(CALLS))


@HEALTH
@given(name=providers, transport=transports, call=calls, answer=answers())
def test_answers(server: RawServer, name: str, transport: str, call: str, answer: bytes) -> None:
    async def main() -> object:
        async with opened(name, transport, server.url) as service:
            return await CALLS[call](service, HELLO)

    server.answer = answer
    held(transport, main, OF_A_SERVER)


# Requests

# A request refuses most odd values when it is made, so these are drawn for one request in four only. The others have
# odd values that a request accepts, and that reach the translators.
good_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
WORDS = (
    *(
        "type",
        "name",
        "content",
        "messages",
        "tools",
        "function",
        "properties",
        "items",
        "anyOf",
        "$ref",
        "$defs",
        "id",
    ),
    *("required", "enum", "cachePoint", "cache_control", "toolSpec", "systemTool", "thinking", "options", "metadata"),
    *(
        "generationConfig",
        "additionalModelRequestFields",
        "inferenceConfig",
        "toolConfig",
        "documents",
        "model",
        "text",
    ),
    *(
        "stream_options",
        "stream",
        "reasoning",
        "system",
        "input_type",
        "role",
        "betas",
        "additionalProperties",
        "format",
    ),
)
named = st.dictionaries(texts | st.sampled_from(WORDS), good_values, max_size=3)
objects = st.recursive(
    named, lambda inner: st.dictionaries(st.sampled_from(WORDS), inner | st.lists(inner), max_size=2), max_leaves=4
)
optional_texts = st.none() | texts
provider_names = st.sampled_from(sorted({wire.provider for wire in WIRES.values()}))
options = st.just({}) | st.dictionaries(provider_names, objects, max_size=2)
WITH_OPTIONS: dict[str, Any] = {"provider_options": options, "provider_metadata": options}
lifetimes = st.sampled_from((None, "auto", "5m", "1h"))
good_parts = st.one_of(
    texts,
    st.builds(trunkline.Text, text=texts, refusal=st.booleans(), cache=lifetimes, **WITH_OPTIONS),
    st.builds(trunkline.ToolCall, id=texts, name=texts, arguments=objects, **WITH_OPTIONS),
    st.builds(trunkline.ToolCall, id=texts, name=texts, invalid_arguments=texts),
    st.builds(
        trunkline.ToolResult,
        tool_call_id=texts,
        name=optional_texts,
        parts=texts,
        is_error=st.booleans(),
        cache=lifetimes,
    ),
    st.builds(
        trunkline.Reasoning, text=texts, provider=provider_names, signature=optional_texts, encrypted=optional_texts
    ),
    st.builds(trunkline.Opaque, provider=provider_names, kind=texts, data=objects | st.just({"a": float("nan")})),
    st.builds(trunkline.Document, data=st.binary(max_size=4), name=texts, media_type=optional_texts, **WITH_OPTIONS),
    st.builds(trunkline.Audio, data=st.binary(max_size=4), media_type=optional_texts),
    st.builds(trunkline.Image, data=st.binary(max_size=4), media_type=optional_texts, detail=optional_texts),
    st.builds(trunkline.Image, url=texts.filter(bool).filter(lambda text: not text.startswith("data:"))),
    st.builds(trunkline.Document, file_id=texts),
    st.builds(trunkline.Citation, url=optional_texts, cited_text=optional_texts),
)
counts = st.sampled_from((0, 1, -1, 2**63, 2**64 - 1, -(2**63))) | st.integers(0, 100)
sizes = st.sampled_from((0, -1, 1, 2, 1e308, -1e308, 5e-324, -0.0, 2**63)) | st.floats(0, 2)
good_tools = st.builds(
    trunkline.Tool,
    name=texts.filter(bool),
    description=optional_texts,
    parameters=objects,
    strict=st.none() | st.booleans(),
    cache=lifetimes,
    provider_options=options,
)
GOOD: dict[str, st.SearchStrategy[object]] = {
    "model": texts | st.sampled_from(("gpt-5", "anthropic.claude-3-7", "us.amazon.nova-pro-v1:0", "gemini-3-pro")),
    "tools": st.lists(good_tools, max_size=2, unique_by=lambda tool: tool.name),
    "tool_choice": st.sampled_from(("auto", "none")),
    "response_format": st.builds(
        trunkline.ResponseFormat, schema=objects, name=texts, description=optional_texts, strict=st.booleans()
    )
    | st.just(trunkline.ResponseFormat(type="json")),
    "reasoning": st.builds(
        trunkline.ReasoningOptions,
        effort=st.sampled_from((None, "none", "minimal", "low", "max")),
        max_tokens=st.none() | counts,
        summary=st.sampled_from((None, "auto", "detailed")),
    ),
    "stop": st.lists(texts, max_size=6),
    "cache": lifetimes,
    "cache_key": texts,
    "user_id": texts,
    "metadata": st.dictionaries(texts, texts, max_size=20),
    "provider_options": options,
    **{name: st.booleans() for name in ("parallel_tool_calls", "logprobs")},
    **dict.fromkeys(("max_output_tokens", "top_k", "seed", "top_logprobs"), counts),
    **dict.fromkeys(("temperature", "top_p", "frequency_penalty", "presence_penalty"), sizes),
}
TOOLS = st.dictionaries(
    st.sampled_from(("name", "description", "parameters", "strict", "cache", "provider_options")), things
)


@st.composite
def requests(draw: st.DrawFn) -> Callable[[], trunkline.ChatRequest]:
    """A function that makes a request, with odd values in its fields."""
    roles = draw(st.lists(st.sampled_from(("system", "user", "assistant", "tool")), min_size=1, max_size=3))
    wild = draw(st.integers(0, 3)) == 0
    contents = [draw(st.lists(good_parts | things if wild else good_parts, max_size=2)) for _ in roles]
    names = draw(st.lists(st.sampled_from(sorted(GOOD)), max_size=3, unique=True))
    fields = {name: draw(GOOD[name] | things if wild else GOOD[name]) for name in names}
    tool = draw(TOOLS) if wild else None

    def make() -> trunkline.ChatRequest:
        messages = [trunkline.Message(role=role, parts=content) for role, content in zip(roles, contents, strict=True)]  # type: ignore[arg-type]
        if tool is not None:
            fields["tools"] = [trunkline.Tool(**{"name": "f", **tool})]
        return trunkline.ChatRequest(**{"model": "m", **fields, "messages": messages})  # type: ignore[arg-type]

    return make


def _answer(name: str, stream: bool) -> bytes:
    wire = WIRES[name]
    body = b"".join(wire.stream(["hello"])) if stream else b"{}"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {wire.headers['content-type']}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


@HEALTH
@given(name=providers, transport=transports, call=calls, make=requests())
def test_requests(
    server: RawServer, name: str, transport: str, call: str, make: Callable[[], trunkline.ChatRequest]
) -> None:
    async def main() -> object:
        async with opened(name, transport, server.url) as service:
            return await CALLS[call](service, make())

    server.answer = _answer(name, call not in ("chat", "embed", "list_models", "count_tokens"))
    held(transport, main)


@HEALTH
@given(
    name=providers,
    texts=st.lists(texts, min_size=1, max_size=3),
    fields=st.fixed_dictionaries(
        {"model": texts | st.sampled_from(("amazon.titan-embed-text-v2:0", "cohere.embed-v4", "m"))},
        optional={"dimensions": counts, "user_id": texts, "provider_options": options},
    ),
    wild=st.just({}) | st.just({}) | st.dictionaries(st.sampled_from(("model", "dimensions", "user_id")), things),
)
def test_embedding_requests(server: RawServer, name: str, texts: Any, fields: Any, wild: Any) -> None:
    async def main() -> object:
        async with opened(name, "asyncio-httpx2", server.url) as service:
            return await service.embed(texts, **{**fields, **wild})

    server.answer = _answer(name, False)
    held("asyncio-httpx2", main)


# Settings in calls

odd_hosts = st.sampled_from(
    (
        *("http://127.0.0.1:1", "https://127.0.0.1:1", "http://127.0.0.1:0", "http://[::1]:1", "http://[::1%25lo]:1"),
        *("http://127.1:1", "http://0x7f.1:1", "http://127.0.0.1:99999", "http://u:p@127.0.0.1:1", "http://[v1.x]/"),
        *("http://u:\ud800@127.0.0.1:1", "http://u%ff:p%00@127.0.0.1:1", "http://127.0.0.1:1\\@x/", "http://:1", "x"),
        *("socks5://127.0.0.1:1", "unix:/nowhere", "unix://" + "x" * 200, "http+unix://x", "HTTP://127.0.0.1:1", "//"),
        *(
            "http://" + "a" * 64 + ".invalid",
            "http://" + "a." * 130 + "invalid",
            "http://\xad.invalid",
            "http://\u0660:1",
        ),
        *("http://xn--a.invalid", "http://xn--zz.invalid:1", "http://\uff11.\uff10:1", "http://_._", "http://-"),
    )
)


@st.composite
def addresses(draw: st.DrawFn) -> Callable[[str], str]:
    """A function that makes an odd address from that of the server."""
    how = draw(st.sampled_from(("path", "query", "login", "text", "host")))
    if how == "host":
        host = draw(odd_hosts)
        return lambda url: host
    text = draw(texts)
    if how == "login":
        return lambda url: url.replace("://", f"://{text}:{text}@")
    return lambda url: url + {"path": "/", "query": "?", "text": ""}[how] + text


seconds = st.sampled_from((0.001, 1e-300, 1e308, float("inf"), 10**400, 1e18, 5e-324, "1e400", "inf", "0.5", 3))
amounts = st.sampled_from((1, 2, 10**30, 10**400, 2**63, 2**31, "7", "9" * 5000))
tables = st.dictionaries(texts | st.sampled_from(("Host", "x", "Content-Length", "Authorization", "accept")), texts)
SETTINGS: dict[str, st.SearchStrategy[object]] = {
    "headers": tables,
    "api_key": texts,
    "default_model": texts,
    "profile": texts | st.sampled_from(("ollama", "vllm", "openrouter")),
    "tcp_keepalive": seconds | st.booleans(),
    "betas": st.lists(texts, max_size=2),
    "aws_region": texts | st.sampled_from(("us-east-1", "a.b", "x@y", "-")),
    **{f"{name}_timeout": seconds for name in ("connect", "first_chunk", "chunk", "total")},
    **{f"{name}_limit": amounts for name in ("frame", "body", "header", "nesting", "input_token", "output_token")},
    "context_length": amounts,
}
"""Values that a setting may accept. Any other setting gets a text."""


@HEALTH
@given(name=providers, transport=transports, call=calls, data=st.data())
def test_calls_with_odd_settings(server: RawServer, name: str, transport: str, call: str, data: st.DataObject) -> None:
    known = [info.name for info in setting_infos(load_provider(WIRES[name].provider).settings)]
    # The others are covered by `test_settings`: they are read when a service opens.
    known = [name for name in known if name not in ("extensions", "http_library", "max_retries")]
    chosen = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=2, unique=True))
    values: dict[str, Any] = {}
    for setting in chosen:
        if setting in ("api_url", "proxy"):
            values[setting] = data.draw(addresses())(server.url)
        else:
            values[setting] = data.draw(SETTINGS.get(setting, texts))

    async def main() -> object:
        more = {"connect_timeout": 2, "total_timeout": 20, **values}
        async with opened(name, transport, str(more.pop("api_url", server.url)), **more) as service:
            return await CALLS[call](service, HELLO)

    server.answer = _answer(name, call not in ("chat", "embed", "list_models", "count_tokens"))
    held(transport, main)


# Settings, stored data and events


class Cycle(dict[str, Any]):
    """A value that contains itself."""

    def __repr__(self) -> str:
        return "Cycle()"


CYCLE = Cycle()
CYCLE["self"] = CYCLE


@HEALTH
@given(name=providers, data=st.data())
def test_settings(name: str, data: st.DataObject) -> None:
    provider = WIRES[name].provider
    known = [info.name for info in setting_infos(load_provider(provider).settings)]
    value = things | st.sampled_from((CYCLE, {"a": CYCLE})) | texts.map(lambda text: f"https://{text}")
    changes = data.draw(st.dictionaries(st.sampled_from(known), value, min_size=1, max_size=2))
    way = data.draw(st.sampled_from(("keywords", "mapping", "environment")))
    arguments = {"default_model": "m", **WIRES[name].settings, "api_url": "http://127.0.0.1:9", **changes}
    try:
        if way == "keywords":
            made = trunkline.open_service(provider, **arguments)
        elif way == "mapping":
            made = trunkline.open_services({"services": {"s": {"provider": provider, **arguments}}})["s"]
        else:
            environ = {f"TRUNKLINE_S_{key.upper()}": str(value) for key, value in changes.items()}
            made = trunkline.open_services({"services": {"s": {"provider": provider}}}, environ=environ)["s"]
    except trunkline.ConfigurationError as error:
        if not allowed(error):
            raise
        _show(error)
    else:
        repr(made), repr(made.settings)


@HEALTH
@given(kind=st.sampled_from((trunkline.Message, trunkline.ChatRequest, trunkline.ChatResponse)), data=st.data())
def test_stored_data(kind: type, data: st.DataObject) -> None:
    names = [field.name for field in attrs.fields(kind)]
    inner = st.dictionaries(st.sampled_from(("type", "text", "id", "name", "arguments", "data", "url")), things | texts)
    stored = data.draw(things | st.dictionaries(st.sampled_from(names), things | st.lists(inner, max_size=2)))
    try:
        _use(from_json(kind, stored))
    except trunkline.TrunklineError as error:
        _show(error)


EVENTS = get_args(trunkline.Event)
_KINDS: dict[object, st.SearchStrategy[object]] = {
    "int": st.integers(0, 2),
    "str": texts,
    "str | None": st.none() | texts,
    "Usage": st.builds(trunkline.Usage),
    "FinishReason": st.sampled_from(trunkline.FinishReason),
    "Audio | Image | Document | Opaque": st.just(trunkline.Opaque(provider="openai", kind="x", data={})),
}


@st.composite
def events(draw: st.DrawFn) -> trunkline.Event:
    """An event with odd values in the fields that it needs."""
    cls = draw(st.sampled_from(EVENTS))
    needed = [field for field in attrs.fields(cls) if field.default is attrs.NOTHING]
    made: trunkline.Event = cls(**{field.name: draw(_KINDS[str(field.type)]) for field in needed})
    return made


@HEALTH
@given(made=st.lists(events(), max_size=6))
def test_events(made: list[trunkline.Event]) -> None:
    try:
        _use(fold(made))
    except trunkline.TrunklineError as error:
        _show(error)
