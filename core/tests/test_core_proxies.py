"""Proxies that fail: the error names the proxy and where it is configured, and not only the provider."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import httpx2
import pytest
from anyio.streams.tls import TLSListener
from trunkline import ConfigurationError, ConnectionFailed
from trunkline._http.choice import HTTPTransports
from trunkline._http.proxies import Proxies
from trunkline.authoring.provider import SendOptions
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConnectTimeout, TrunklineError
from trunkline.settings import Settings

from .test_core_network import Authority

LONG = 30.0
"""A limit that ends a test which hangs, in seconds."""
SECURE, PLAIN = "https://provider.example/x?key=hidden-word", "http://provider.example/x?key=hidden-word"


@asynccontextmanager
async def proxy(
    answers: Sequence[bytes],
    *,
    silent: bool = False,
    tls: ssl.SSLContext | None = None,
    in_bytes: bool = False,
    closes: bool = False,
) -> AsyncIterator[str]:
    """A proxy that answers each message with the next of `answers`, and then closes or is silent.

    It closes when the next message arrives or, if `closes` is set, at once. If `in_bytes` is set, each byte of an
    answer arrives in a separate read.
    """

    async def handle(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                for answer in answers:
                    await stream.receive()
                    for piece in [bytes([byte]) for byte in answer] if in_bytes else [answer]:
                        await stream.send(piece)
                        for _ in range(10 if in_bytes else 0):
                            await anyio.lowlevel.checkpoint()  # the client reads
                if not closes:
                    await stream.receive()
                if silent:
                    await anyio.sleep_forever()

    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    if tls is not None:
        listener = TLSListener(listener, tls, standard_compatible=False)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


async def failure(url: str, settings: Settings, *, client: Any = None, connect: float = LONG) -> TrunklineError:
    with pytest.raises(TrunklineError) as caught, anyio.fail_after(LONG):
        async with HTTPTransports(client).shared(settings) as transport:
            async with transport.send(WireRequest(url=url), SendOptions(connect=connect, headers=LONG)):
                pass
    assert "hidden-word" not in str(caught.value)
    return caught.value


def redacted(url: str) -> str:
    return url.partition("?")[0]


ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
UNKNOWN = b"\x05\x63\x00\x01\x00\x00\x00\x00\x00\x00"
CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"
METHOD, DONE = b"\x05\x00", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scheme", "url", "answers", "reason", "retryable"),
    [
        ("http", SECURE, [], "it closed the connection", True),
        (
            "http",
            SECURE,
            [b"\x15\x03\x01\x00\x02\x02\x46"],
            "it expects TLS; use https instead of http in its URL",
            False,
        ),
        ("http", SECURE, [b"hello\r\n\r\n"], "its answer is not valid HTTP", False),
        ("socks5", PLAIN, [], "it closed the connection", True),
        ("socks5", PLAIN, [METHOD], "it closed the connection", True),
        ("socks5", SECURE, [METHOD], "it closed the connection", True),
        (
            "socks5",
            SECURE,
            [METHOD, UNKNOWN],
            "its answer is not valid SOCKS5",
            False,
        ),
        (
            "socks5",
            SECURE,
            [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
            "it is an HTTP proxy; use http instead of socks5 in its URL",
            False,
        ),
    ],
)
async def test_proxy_that_fails_before_it_has_connected_is_named(
    scheme: str, url: str, answers: list[bytes], reason: str, retryable: bool
) -> None:
    if scheme == "socks5":
        pytest.importorskip("socksio")
    async with proxy(answers) as address:
        error = await failure(url, Settings(proxy=f"{scheme}://{address}"))
    assert isinstance(error, ConnectionFailed)
    text = f"the proxy {scheme}://{address} (setting 'proxy') did not connect to {redacted(url)}: {reason}"
    assert (error.problem, "; ".join(filter(None, (error.message, error.advice)))) == ("proxy", text)
    assert error.retryable is retryable


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scheme", "url", "answers", "reason", "retryable"),
    [
        ("http", SECURE, [b"H"], "it closed the connection", True),
        ("http", SECURE, [b"HTTP/1.1 200"], "it closed the connection", True),
        ("http", SECURE, [b"HTTP/1.1 200 OK\r\nx: y\r\n"], "it closed the connection", True),
        ("http", SECURE, [b"SSH-2.0-x\r\n"], "its answer is not valid HTTP", False),
        ("socks5", SECURE, [b"\x05"], "it closed the connection", True),
        ("socks5", PLAIN, [METHOD, b"\x05\x00\x00"], "it closed the connection", True),
        ("socks5", SECURE, [METHOD, DONE[:-1]], "it closed the connection", True),
        ("socks5", SECURE, [b"\x04"], "its answer is not valid SOCKS5", False),
        ("socks5", SECURE, [METHOD, b"\x05\x00\x00\x02\x00"], "its answer is not valid SOCKS5", False),
    ],
)
async def test_answer_of_a_proxy_that_breaks_off_is_retryable(
    scheme: str, url: str, answers: list[bytes], reason: str, retryable: bool
) -> None:
    if scheme == "socks5":
        pytest.importorskip("socksio")
    async with proxy(answers, closes=True) as address:
        error = await failure(url, Settings(proxy=f"{scheme}://{address}"))
    assert isinstance(error, ConnectionFailed)
    assert error.message.endswith(f"(setting 'proxy') did not connect to {redacted(url)}: {reason}")
    assert error.retryable is retryable


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scheme", "url", "answers"),
    [
        ("http", SECURE, []),
        ("http", SECURE, [b"HTTP/1.1 200"]),
        ("socks5", SECURE, []),
        ("socks5", PLAIN, [METHOD]),
        ("socks5", PLAIN, [METHOD, DONE[:-1]]),
    ],
)
async def test_silent_proxy_is_limited_by_the_connect_timeout(
    scheme: str, url: str, answers: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    if scheme == "socks5":
        pytest.importorskip("socksio")
    async with proxy(answers, silent=True) as address:
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://{address}")
        error = await failure(url, Settings(), connect=0.2)
    assert isinstance(error, ConnectTimeout)
    name = f"the proxy {scheme}://{address} (environment variable ALL_PROXY)"
    assert error.message == f"{name} did not connect to {redacted(url)} within 0.2 s"


ANSWERED = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.anyio
@pytest.mark.parametrize("login", ["", "user:password@"])
@pytest.mark.parametrize("address", [b"\x01\x7f\x00\x00\x01", b"\x03\x09localhost", b"\x03\x00", b"\x04" + bytes(16)])
async def test_replies_of_a_socks_proxy_may_arrive_in_pieces(login: str, address: bytes) -> None:
    pytest.importorskip("socksio")
    handshake = [b"\x05\x02", b"\x01\x00"] if login else [METHOD]
    answers = [*handshake, b"\x05\x00\x00" + address + b"\x12\x34", ANSWERED]
    async with proxy(answers, in_bytes=True) as host:
        async with HTTPTransports(None).shared(Settings(proxy=f"socks5://{login}{host}")) as transport:
            async with transport.send(WireRequest(url=PLAIN), SendOptions(connect=LONG, headers=LONG)) as response:
                assert response.status == 200


@pytest.mark.anyio
@pytest.mark.parametrize("library", ["httpx2", "httpx"])
async def test_socks_proxy_of_a_client_may_answer_in_pieces_or_break_off(library: str) -> None:
    pytest.importorskip("socksio")
    module = pytest.importorskip(library)
    async with proxy([b"\x05\x02", b"\x01\x00", DONE, ANSWERED], in_bytes=True) as host:
        async with module.AsyncClient(proxy=f"socks5://user:password@{host}") as client:
            async with HTTPTransports(client).shared(Settings()) as transport:
                async with transport.send(WireRequest(url=PLAIN), SendOptions(connect=LONG, headers=LONG)) as response:
                    assert response.status == 200
    for answers in ([], [b"\x05"], [METHOD], [METHOD, DONE[:-1]]):
        async with proxy(answers, closes=True) as host:
            async with module.AsyncClient(proxy=f"socks5://{host}") as client:
                error = await failure(SECURE, Settings(), client=client)
        assert isinstance(error, ConnectionFailed)
        assert error.retryable


@pytest.mark.anyio
async def test_refusals_of_a_socks_proxy_may_arrive_in_pieces() -> None:
    pytest.importorskip("socksio")
    async with proxy([METHOD, b"\x05\x05" + DONE[2:]], in_bytes=True) as host:
        error = await failure(SECURE, Settings(proxy=f"socks5://{host}"))
    assert str(error).endswith("did not connect to https://provider.example/x: connection refused")
    async with proxy([b"\x05\x02", b"\x01\x01"], in_bytes=True) as host:
        error = await failure(SECURE, Settings(proxy=f"socks5://user:password@{host}"))
    assert isinstance(error, ConfigurationError)


@pytest.mark.anyio
@pytest.mark.parametrize("url", [SECURE, PLAIN])
async def test_certificate_of_a_proxy_that_is_not_trusted_is_blamed_on_the_proxy(url: str, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path).issue())
    async with proxy([], tls=context) as address:
        error = await failure(url, Settings(proxy=f"https://{address}"))
    assert isinstance(error, ConnectionFailed)
    name = f"the proxy https://{address} (setting 'proxy')"
    assert error.message.startswith(f"no secure connection to {name}: the server's certificate is not trusted")
    assert not error.retryable


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scheme", "url", "answers"),
    [
        ("http", SECURE, [CONNECTED]),
        ("http", PLAIN, []),
        ("socks5", SECURE, [METHOD, DONE]),
        ("socks5", PLAIN, [METHOD, DONE]),
    ],
)
async def test_connection_that_breaks_behind_a_proxy_names_both(scheme: str, url: str, answers: list[bytes]) -> None:
    if scheme == "socks5":
        pytest.importorskip("socksio")
    async with proxy(answers) as address:
        error = await failure(url, Settings(proxy=f"{scheme}://{address}"))
    assert isinstance(error, ConnectionFailed)
    assert f"cannot reach {redacted(url)} through the proxy {scheme}://{address} (setting 'proxy'): " in error.message
    assert error.retryable


@pytest.mark.anyio
async def test_malformed_answer_to_the_socks_proxy_of_a_client_is_an_error_of_that_proxy() -> None:
    socksio = pytest.importorskip("socksio")

    def fail(request: object) -> httpx2.Response:
        raise socksio.ProtocolError("Malformed reply")  # a real proxy would leave an open connection behind

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(fail)) as client:
        error = await failure(SECURE, Settings(), client=client)
    assert isinstance(error, ConnectionFailed)
    assert "the proxy of your http_client did not connect to https://provider.example/x" in error.message
    assert not error.retryable


PASSWORDS = [
    "p@hidden-word/w",
    "hidden-word/w",
    "12/hidden-word",
    "p?hidden-word",
    "p#hidden-word",
    "1@2/hidden-word@3",
]


@pytest.mark.parametrize("password", PASSWORDS)
def test_password_that_is_not_percent_encoded_is_refused_and_not_shown(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{password}@127.0.0.1:3128")
    with pytest.raises(
        ConfigurationError, match="environment variable HTTPS_PROXY must be the URL of a proxy"
    ) as caught:
        Proxies(None).find("https", "provider.example", 443)
    assert "hidden-word" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        Proxies(f"http://user:{password}@127.0.0.1:3128")
    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize("blank", ["   ", "\t"])
def test_blank_variable_is_no_proxy(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", blank)
    assert Proxies(None).find("https", "provider.example", 443) is None
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:3128")
    found = Proxies(None).find("https", "provider.example", 443)
    assert found is not None
    assert found.origin == "environment variable ALL_PROXY"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9\\@x/",
        "http://h\\x:9",
        "http://u:\ud800@h:9",
        "http://h:9/?\ud800",
        "http://[v1.x]:9",
        "http://a%20b:9",
        "http://a..b:9",
        "http://\ud800:9",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
def test_proxy_url_that_libraries_read_differently_is_refused(scheme: str, url: str) -> None:
    with pytest.raises(ConfigurationError, match="setting 'proxy' must be the URL of a proxy"):
        Proxies(url.replace("http", scheme))


@pytest.mark.parametrize("host", ["h", "a_b", "bücher.example", "[::1]", "[fe80::1%eth0]", "1.2.3.4", "h."])
def test_proxy_url_with_any_valid_host_is_accepted(host: str) -> None:
    assert Proxies(f"http://u:p%5C@{host}:9").find("http", "provider.example", 80) is not None
