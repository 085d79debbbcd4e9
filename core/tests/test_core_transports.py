"""The two HTTP transports behave alike: they send the same requests, read the same responses, and close alike."""

from __future__ import annotations

import gc
import gzip
import importlib
import socket
import ssl
import sys
import weakref
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import httpx2
import pytest
from anyio.streams.tls import TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from trunkline import (
    ConfigurationError,
    ConnectionFailed,
    ConnectTimeout,
    FirstChunkTimeout,
    ProtocolViolation,
    StreamInterrupted,
    TrunklineError,
)
from trunkline._http.choice import HTTPTransports, http_library as chosen_library
from trunkline._http.httpx2 import HTTPTransport
from trunkline.authoring.provider import SendOptions, Transport
from trunkline.authoring.wire import WireRequest
from trunkline.settings import Settings
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

QUICK = 0.1
"""A timeout under test, in seconds."""
LONG = 30.0
"""A limit that ends a test which hangs, in seconds."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(params=["asyncio-aiohttp", "asyncio-httpx2", "trio-httpx2", "asyncio-client", "trio-client"])
def stack(request: pytest.FixtureRequest) -> str:
    """A backend, and what sends: a library of HTTP, or the application's own client of httpx2."""
    name: str = request.param
    return name


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return stack.partition("-")[0]


@pytest.fixture
def library(stack: str) -> Any:
    return stack.partition("-")[2].replace("client", "httpx2")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def transport(library: Any, stack: str, anyio_backend: str) -> AsyncIterator[Transport]:
    client = httpx2.AsyncClient(limits=httpx2.Limits(max_connections=None)) if stack.endswith("client") else None
    async with HTTPTransports(client).shared(Settings(http_library=library)) as transport:
        yield transport
    if client is not None:
        await client.aclose()


async def whole(transport: Transport, url: str, **request: Any) -> tuple[int, dict[str, str], bytes]:
    async with transport.send(WireRequest(url=url, **request), SendOptions(connect=LONG, headers=LONG)) as answer:
        body = b"".join([chunk async for chunk in answer])
        return answer.status, dict(answer.headers), body


async def failure(transport: Transport, url: str, **timeouts: float) -> TrunklineError:
    with pytest.raises(TrunklineError) as caught, anyio.fail_after(LONG):
        async with transport.send(WireRequest(url=url), SendOptions(**timeouts)) as answer:
            async for _ in answer:
                pass
    return caught.value


async def ok(exchange: Exchange) -> None:
    await exchange.respond(b"{}")


@asynccontextmanager
async def listen(handle: Callable[[anyio.abc.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that is given each connection as it is, before it has read anything."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"http://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


# The choice


async def test_aiohttp_is_chosen_on_asyncio_and_httpx2_on_trio(anyio_backend: str) -> None:
    transports = HTTPTransports()
    first, second = [await transports.acquire(Settings()) for _ in range(2)]
    assert isinstance(first.transport, HTTPTransport) is (anyio_backend == "trio")
    assert second is first
    other = await transports.acquire(Settings(http_library="httpx2"))
    assert isinstance(other.transport, HTTPTransport)
    for shared in (first, second, *([other] if other is not first else [])):
        await transports.release(shared)


async def test_httpx2_is_chosen_where_there_is_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_library(Settings(proxy="http://127.0.0.1:9")) == "httpx2"
    with pytest.raises(ConfigurationError, match="'http_library'"):
        chosen_library(Settings(http_library="aiohttp", proxy="http://127.0.0.1:9"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert chosen_library(Settings()) == "httpx2"


@pytest.mark.parametrize("version", [None, (3, 13)])
async def test_httpx2_is_chosen_where_aiohttp_is_missing_or_old(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int] | None
) -> None:
    if version is None:
        monkeypatch.setitem(sys.modules, "trunkline._http.aiohttp", None)
    else:
        monkeypatch.setattr(importlib.import_module("trunkline._http.aiohttp"), "VERSION", version)
    assert chosen_library(Settings()) == "httpx2"
    with pytest.raises(ConfigurationError, match=r"trunkline\[fast\]|needs asyncio"):
        chosen_library(Settings(http_library="aiohttp"))


# What is sent


async def test_request_is_sent_unchanged(transport: Transport) -> None:
    path = "/model/a.b%3A0/arn%3Aaws%2Fx/~'()*+,;=@/%C3%A4?q=a%20b&c=%2F+d&key="
    async with serve(ok) as server:
        await whole(transport, server.url + path, headers={"X-A": "1", "authorization": "k"}, body=b"\x00{}")
        await whole(transport, server.url + "/", method="GET")
    first, second = server.requests
    assert (first.method, first.target, first.body) == ("POST", path, b"\x00{}")
    names = {"host", "accept", "accept-encoding", "user-agent"}
    assert set(first.headers) - {"connection"} == {*names, "x-a", "authorization", "content-length"}
    assert first.headers["accept"] == "*/*"
    assert first.headers["accept-encoding"].startswith("gzip, deflate")
    assert (second.method, set(second.headers) - {"connection"}) == ("GET", names)


async def test_the_request_s_own_headers_come_before_those_of_the_library(transport: Transport) -> None:
    headers = {"user-agent": "mine", "accept": "text/plain", "accept-encoding": "identity", "content-type": "x/y"}
    async with serve(ok) as server:
        await whole(transport, server.url, headers=headers, body=b"1")
    assert server.requests[0].headers.items() >= headers.items()


async def test_empty_body_has_a_content_length(transport: Transport) -> None:
    async with serve(ok) as server:
        await whole(transport, server.url, method="POST")
        await whole(transport, server.url, method="GET")
    first, second = server.requests
    assert (first.headers["content-length"], "content-length" in second.headers) == ("0", False)


async def test_cookies_are_not_kept(transport: Transport, stack: str) -> None:
    if stack.endswith("client"):
        pytest.skip("the application's own client may keep cookies")

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"{}", headers={"set-cookie": "a=b"})

    async with serve(handler) as server:
        await whole(transport, server.url)
        await whole(transport, server.url)
    assert "cookie" not in server.requests[1].headers


async def test_a_header_that_cannot_be_sent_is_an_error_that_does_not_show_it(transport: Transport) -> None:
    async with serve(ok) as server:
        with pytest.raises(ConfigurationError) as caught:
            await whole(transport, server.url, headers={"x-key": "secret\r\nx-other: 1"})
    assert "secret" not in str(caught.value)


# Responses


async def test_the_headers_of_an_answer_are_in_lower_case(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(
            b"HTTP/1.1 429 X\r\nX-One: 1\r\nX-Two: a\r\nx-two: b\r\nX-Odd: \xff\r\nContent-Length: 2\r\n\r\nno"
        )

    async with serve(handler) as server:
        status, headers, body = await whole(transport, server.url)
    assert (status, body, headers["x-one"], headers["x-two"]) == (429, b"no", "1", "a, b")
    assert headers["x-odd"].encode("utf-8")


async def test_redirects_are_not_followed(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(status=307, headers={"location": "/elsewhere"})

    async with serve(handler) as server:
        status, headers, _ = await whole(transport, server.url)
    assert (status, headers["location"], len(server.requests)) == (307, "/elsewhere", 1)


@contextmanager
def encoder(name: str) -> Iterator[Any]:
    yield zlib.compressobj(wbits=31 if name == "gzip" else 15)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_an_encoded_answer_is_decoded_as_it_comes(transport: Transport, encoding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers={"content-encoding": encoding})
        with encoder(encoding) as packer:
            await exchange.chunk(packer.compress(b"one") + packer.flush(zlib.Z_SYNC_FLUSH))
            with anyio.fail_after(LONG):
                await read_one.wait()
            await exchange.chunk(packer.compress(b"two") + packer.flush())
        await exchange.end()

    read_one = anyio.Event()
    async with serve(handler) as server:
        async with transport.send(WireRequest(url=server.url), SendOptions()) as answer:
            iterator = answer.__aiter__()
            assert await iterator.__anext__() == b"one"
            read_one.set()
            assert [chunk async for chunk in iterator] == [b"two"]


async def test_a_small_body_that_unpacks_to_much_is_given_in_pieces(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(gzip.compress(bytes(10_000_000)), headers={"content-encoding": "gzip"})

    async with serve(handler) as server, transport.send(WireRequest(url=server.url), SendOptions()) as answer:
        sizes = [len(chunk) async for chunk in answer]
    assert sum(sizes) == 10_000_000
    assert max(sizes) <= 64 * 1024


@pytest.mark.parametrize("pieces", [1, 3], ids=["in one read", "in several reads"])
async def test_body_of_several_members_of_gzip_is_read_to_its_end(transport: Transport, pieces: int) -> None:
    async def handler(exchange: Exchange) -> None:
        members = [gzip.compress(text) for text in (b"one ", b"", b"two ", b"three")]
        await exchange.start(headers={"content-encoding": "gzip"})
        if pieces == 1:
            await exchange.chunk(b"".join(members))
        else:
            for member in members:
                await exchange.chunk(member)
        await exchange.end()

    async with serve(handler) as server, transport.send(WireRequest(url=server.url), SendOptions()) as answer:
        assert b"".join([chunk async for chunk in answer]) == b"one two three"


BOMBS = {
    "much output": ("gzip", gzip.compress(bytes(8_000_000))),
    "much output in two layers": ("gzip, gzip", gzip.compress(gzip.compress(bytes(8_000_000)))),
    "no output": ("gzip, gzip", gzip.compress(gzip.compress(b"") * 200_000)),
    "no output in one layer": ("gzip", gzip.compress(b"") * 40_000),
}


@pytest.mark.parametrize("bomb", list(BOMBS))
async def test_other_tasks_run_while_a_small_body_is_decompressed(transport: Transport, bomb: str) -> None:
    async def handler(exchange: Exchange) -> None:
        encoding, packed = BOMBS[bomb]
        await exchange.respond(packed, headers={"content-encoding": encoding})

    async def count() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    turns = 0
    async with serve(handler) as server, transport.send(WireRequest(url=server.url), SendOptions()) as answer:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            await anyio.lowlevel.checkpoint()
            before = turns
            async for _ in answer:
                pass
            tasks.cancel_scope.cancel()
    assert turns - before > 80


async def test_body_that_becomes_far_too_large_is_refused(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(gzip.compress(bytes(20_000_000)), headers={"content-encoding": "gzip"})

    async with serve(handler) as server:
        error = await failure(transport, server.url)
    assert isinstance(error, ProtocolViolation)
    assert error.message.endswith("(content-encoding: gzip): it becomes more than 200 times as large")


async def test_body_with_too_many_layers_is_refused(transport: Transport) -> None:
    packed = b"text"
    for _ in range(4):
        packed = gzip.compress(packed)

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(packed, headers={"content-encoding": "gzip, gzip, gzip, gzip"})

    async with serve(handler) as server:
        error = await failure(transport, server.url)
    assert isinstance(error, ProtocolViolation)
    assert error.message.endswith("it is compressed more than 3 times")


@pytest.mark.parametrize("when", ["at once", "later"])
async def test_a_broken_encoding_is_a_protocol_violation(transport: Transport, when: str) -> None:
    async def handler(exchange: Exchange) -> None:
        if when == "at once":
            return await exchange.respond(b"this is no gzip", headers={"content-encoding": "gzip"})
        await exchange.start(headers={"content-encoding": "gzip"})
        with encoder("gzip") as packer:
            await exchange.chunk(packer.compress(b"one") + packer.flush(zlib.Z_SYNC_FLUSH))
        await exchange.chunk(b"\x07\xff\xff")  # a block of a type that there is not
        return await exchange.hung_up()

    async with serve(handler) as server:
        error = await failure(transport, server.url)
    assert isinstance(error, ProtocolViolation)
    assert "cannot be decompressed" in error.message


@pytest.mark.parametrize("tail", [b"\x07\xff\xff", b""], ids=["garbage", "cut off"])
async def test_broken_tail_of_a_compressed_body_is_no_error_of_leaving(transport: Transport, tail: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start(headers={"content-encoding": "gzip"})
        with encoder("gzip") as packer:
            await exchange.chunk(packer.compress(b"one") + packer.flush(zlib.Z_SYNC_FLUSH))
        await read_one.wait()
        if tail:
            await exchange.chunk(tail)
        await exchange.end()

    async with serve(handler) as server:
        for _ in range(2):
            read_one = anyio.Event()
            async with transport.send(WireRequest(url=server.url), SendOptions()) as answer:
                assert await answer.__aiter__().__anext__() == b"one"
                read_one.set()


async def test_broken_encoding_of_an_httpx_client_is_a_protocol_violation() -> None:
    httpx = pytest.importorskip("httpx")

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"this is no gzip", headers={"content-encoding": "gzip"})

    async with httpx.AsyncClient() as client, HTTPTransports(client).shared(Settings()) as sender:
        async with serve(handler) as server:
            error = await failure(sender, server.url)
    assert isinstance(error, ProtocolViolation)


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
SIZED = HEAD + b"Content-Length: 9\r\n\r\none"
OPEN = HEAD + b"\r\none"


@pytest.mark.parametrize("sent", [CHUNKED, CHUNKED + b"5\r\ntw", SIZED, OPEN], ids=["chunked", "cut", "sized", "open"])
@pytest.mark.parametrize("cut", ["hang_up", "reset"])
@pytest.mark.parametrize("reads", ["before", "after"])
async def test_received_data_is_delivered_before_the_connection_error(
    transport: Transport, sent: bytes, cut: str, reads: str
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(sent)
        with anyio.fail_after(LONG):
            await go_on.wait()
        await getattr(exchange, cut)()

    go_on = anyio.Event()
    got = b""
    error: TrunklineError | None = None
    async with serve(handler) as server, transport.send(WireRequest(url=server.url), SendOptions()) as answer:
        iterator = answer.__aiter__()
        if reads == "before":
            got += await iterator.__anext__()
        go_on.set()
        if reads == "after":
            with anyio.fail_after(LONG):
                await server.wait_idle()
                await anyio.wait_all_tasks_blocked()
        try:
            async for chunk in iterator:
                got += chunk
        except TrunklineError as caught:
            error = caught
    assert got.startswith(b"one")
    if sent == OPEN and cut == "hang_up":
        assert error is None
    else:
        assert isinstance(error, StreamInterrupted)


@pytest.mark.parametrize("surplus", [b"x\r\n", b"3\r\nonesurplus"], ids=["size", "end"])
async def test_a_chunk_that_is_none_is_an_interruption(transport: Transport, surplus: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(CHUNKED)
        with anyio.fail_after(LONG):
            await read_one.wait()
        await exchange.raw(surplus)
        await exchange.hung_up()

    read_one = anyio.Event()
    async with serve(handler) as server:
        with pytest.raises(StreamInterrupted):
            async with transport.send(WireRequest(url=server.url), SendOptions()) as answer:
                async for _ in answer:
                    read_one.set()


async def test_complete_response_is_complete_however_the_connection_ends(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(CHUNKED + b"0\r\n\r\n")
        await exchange.reset()

    async with serve(handler) as server, transport.send(WireRequest(url=server.url), SendOptions()) as answer:
        with anyio.fail_after(LONG):
            await server.wait_idle()
            await anyio.wait_all_tasks_blocked()
        assert [chunk async for chunk in answer] == [b"one"]


# TLS


def certificate(folder: Path) -> Path:
    """A new certificate for 127.0.0.1, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(signed.public_bytes(Encoding.PEM) + private)
    return path


async def test_tls_is_checked_and_a_bundle_is_trusted(library: Any, transport: Transport, tmp_path: Path) -> None:
    async def handle(raw: anyio.abc.SocketStream) -> None:
        try:
            async with raw, await TLSStream.wrap(raw, server_side=True, ssl_context=context) as stream:
                await stream.receive()
                await stream.send(CHUNKED)
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
                gone.set()
        except (anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError):
            refused.set()

    bundle = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(bundle)
    gone, refused = anyio.Event(), anyio.Event()
    settings = Settings(http_library=library, ca_bundle=str(bundle))
    async with listen(handle) as url:
        secure = url.replace("http:", "https:")
        with anyio.fail_after(LONG):
            error = await failure(transport, secure)
            assert isinstance(error, ConnectionFailed)
            assert "the server's certificate is not trusted" in error.message
            assert error.problem == "certificate"
            assert "set 'ca_bundle' to a file" in str(error.advice)
            assert not error.retryable
            await refused.wait()
            async with HTTPTransports().shared(settings) as trusting:
                async with trusting.send(WireRequest(url=secure), SendOptions(connect=LONG)) as answer:
                    assert await answer.__aiter__().__anext__() == b"one"
                await gone.wait()


# What fails before an answer


@pytest.mark.parametrize(
    "sent",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nX"],
    ids=["nothing", "garbage", "huge", "cut"],
)
async def test_no_sound_answer_is_a_failed_connection_that_shows_no_query(transport: Transport, sent: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(sent)
        await exchange.hang_up()

    async with serve(handler) as server:
        error = await failure(transport, server.url + "/there?key=secret")
    assert isinstance(error, ConnectionFailed)
    assert error.retryable == (len(sent) < 1000)  # headers that are too large would come again
    assert f"{server.url}/there" in error.message
    assert "secret" not in repr(error)


async def test_a_refused_connection_and_an_unknown_host_are_failed_connections(transport: Transport) -> None:
    async with serve(ok) as server:
        refused = server.url
    for url in (refused, "http://nowhere.invalid"):
        error = await failure(transport, url + "/x?key=secret", connect=LONG)
        assert isinstance(error, ConnectionFailed)
        assert f"cannot reach {url}/x: " in error.message
        assert "secret" not in repr(error)


@pytest.mark.parametrize("url", ["ftp://host/?key=secret", "http:///?key=secret", "http://host:x/?key=secret"])
async def test_an_unfit_url_is_a_configuration_error(transport: Transport, url: str) -> None:
    error = await failure(transport, url)
    assert isinstance(error, ConfigurationError)
    assert "secret" not in repr(error)


async def test_a_black_hole_is_a_connect_timeout(transport: Transport) -> None:
    # The queue of a listener that accepts nothing is full after two connections; the next one is not answered.
    with socket.socket() as listener, socket.socket() as one, socket.socket() as two:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for queued in (one, two):
            queued.setblocking(False)
            queued.connect_ex(listener.getsockname())
        port = listener.getsockname()[1]
        error = await failure(transport, f"http://127.0.0.1:{port}", connect=QUICK, headers=LONG)
    assert isinstance(error, ConnectTimeout)
    assert f"within connect_timeout ({QUICK:g} s)" in error.message


async def test_missing_headers_raise_first_chunk_timeout(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.hung_up()
        gone.set()

    gone = anyio.Event()
    async with serve(handler) as server:
        error = await failure(transport, server.url, connect=LONG, headers=QUICK)
        with anyio.fail_after(LONG):
            await gone.wait()
    assert isinstance(error, FirstChunkTimeout)
    assert f"within first_chunk_timeout ({QUICK:g} s)" in error.message


async def test_the_limit_for_the_headers_is_not_one_for_the_body(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.chunk(b"one")
        await anyio.sleep(2 * QUICK)  # what is shown not to matter is a duration
        await exchange.chunk(b"two")
        await exchange.end()

    async with serve(handler) as server:
        async with transport.send(WireRequest(url=server.url), SendOptions(connect=LONG, headers=QUICK)) as answer:
            assert b"".join([chunk async for chunk in answer]) == b"onetwo"


# What is closed, and when


async def test_an_answer_that_was_read_leaves_its_connection(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.chunk(b"one")
        await exchange.end()

    async with serve(handler) as server:
        await whole(transport, server.url)
        for _ in range(3):
            async with transport.send(WireRequest(url=server.url), SendOptions()) as answer:
                assert await answer.__aiter__().__anext__() == b"one"
        await whole(transport, server.url)
        assert server.accepted == 1


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"{}")
        await exchange.hang_up()

    async with serve(handler) as server:
        for _ in range(3):
            await whole(transport, server.url)
            with anyio.fail_after(LONG):
                await server.wait_idle()
                await anyio.wait_all_tasks_blocked()
        assert server.accepted == 3


async def test_too_much_after_the_end_costs_the_connection(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.chunk(b"one")
        await read_one.wait()
        while True:
            await exchange.chunk(bytes(100_000))

    read_one = anyio.Event()
    async with serve(handler) as server:
        async with transport.send(WireRequest(url=server.url), SendOptions()) as answer:
            await answer.__aiter__().__anext__()
            read_one.set()
        with anyio.fail_after(LONG):
            await server.wait_idle()


@pytest.mark.parametrize("state", ["headers", "stream", "read", "exception", "break"])
async def test_leaving_closes_the_connection(transport: Transport, state: str) -> None:
    async def handler(exchange: Exchange) -> None:
        if state != "headers":
            await exchange.start()
            await exchange.chunk(b"one")
        arrived.set()
        await exchange.hung_up()

    async def call() -> None:
        async with transport.send(WireRequest(url=server.url), SendOptions(connect=LONG, headers=LONG)) as answer:
            async for _ in answer:
                if state == "exception":
                    raise ZeroDivisionError
                if state == "break":
                    break
                if state == "stream":
                    await anyio.sleep_forever()

    arrived = anyio.Event()
    async with serve(handler) as server:
        with anyio.fail_after(LONG):
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(call)
                    await arrived.wait()
                    await anyio.wait_all_tasks_blocked()
                    if state in ("headers", "stream", "read"):
                        tasks.cancel_scope.cancel()
            except* ZeroDivisionError:
                assert state == "exception"
            await server.wait_idle()


async def test_a_request_that_is_half_written_is_cut(transport: Transport) -> None:
    async def handle(stream: anyio.abc.SocketStream) -> None:
        nonlocal taken
        async with stream:
            await stream.receive(1000)
            arrived.set()
            await cancelled.wait()
            try:
                while True:
                    taken += len(await stream.receive())
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                gone.set()

    async def call() -> None:
        request = WireRequest(url=url, body=bytes(size))
        async with transport.send(request, SendOptions(connect=LONG, headers=LONG)):
            pytest.fail("there was no answer")

    taken, size = 0, 64_000_000
    arrived, cancelled, gone = anyio.Event(), anyio.Event(), anyio.Event()
    async with listen(handle) as url:
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                await arrived.wait()
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            cancelled.set()
            await gone.wait()
    assert taken < size / 2


async def test_slow_reader_slows_the_server_down(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.start()
        while sent < 200_000_000:
            await exchange.chunk(bytes(1_000_000))
            sent += 1_000_000

    sent = 0
    async with serve(handler) as server:
        async with transport.send(WireRequest(url=server.url), SendOptions()) as answer:
            await answer.__aiter__().__anext__()
            with anyio.fail_after(LONG):
                await anyio.wait_all_tasks_blocked()
            assert sent < 50_000_000


async def test_any_number_of_streams_may_be_open(transport: Transport) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.chunk(b"one")
        await all_open.wait()
        await exchange.end()

    async def call() -> None:
        nonlocal count
        async with transport.send(WireRequest(url=server.url), SendOptions(connect=LONG, headers=LONG)) as answer:
            async for _ in answer:
                count += 1
                if count == 150:
                    all_open.set()

    count = 0
    all_open = anyio.Event()
    async with serve(handler) as server:
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                for _ in range(150):
                    tasks.start_soon(call)
    assert (count, server.accepted) == (150, 150)


async def test_service_does_not_keep_the_body_of_its_last_request(transport: Any) -> None:
    request = WireRequest(url="http://127.0.0.1:9/v1?key=hidden", body=b"a large image")
    kept = weakref.ref(request)
    transport.send(request, SendOptions(connect=LONG, headers=LONG))
    del request
    gc.collect()
    assert kept() is None
    assert transport.last_endpoint == "POST http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    "client", ["x", object(), httpx2.Client()], ids=["a string", "an object", "a synchronous client"]
)
def test_something_else_than_an_http_client_is_refused_when_the_service_is_made(client: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"http_client must be an httpx2\.AsyncClient"):
        HTTPTransports(client)
