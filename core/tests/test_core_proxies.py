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
from trunkline.errors import ConnectTimeout, FirstChunkTimeout, RemoteError, StreamInterrupted, TrunklineError
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
    assert error.proxy == f"{scheme}://{address}"
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
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
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


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scheme", "url", "answers"),
    [("http", SECURE, [CONNECTED]), ("http", PLAIN, []), ("socks5", PLAIN, [METHOD, DONE])],
)
async def test_timeout_behind_a_proxy_names_both(scheme: str, url: str, answers: list[bytes]) -> None:
    if scheme == "socks5":
        pytest.importorskip("socksio")
    async with proxy(answers, silent=True) as address:
        login = f"user:hidden-word@{address}" if scheme == "http" else address
        settings = Settings(proxy=f"{scheme}://{login}")
        with pytest.raises(RemoteError) as caught, anyio.fail_after(LONG):
            async with HTTPTransports(None).shared(settings) as transport:
                async with transport.send(WireRequest(url=url), SendOptions(connect=0.3, headers=0.3)):
                    pass
    error = caught.value
    assert isinstance(error, (FirstChunkTimeout, ConnectTimeout))
    assert f"{redacted(url)} through the proxy {scheme}://{address} (setting 'proxy')" in error.message
    assert error.proxy == f"{scheme}://{address}"
    assert "hidden-word" not in str(error)


@pytest.mark.anyio
async def test_stream_that_breaks_behind_a_proxy_names_it() -> None:
    async with proxy([b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc"], closes=True) as address:
        with pytest.raises(StreamInterrupted) as caught:
            async with HTTPTransports(None).shared(Settings(proxy=f"http://{address}")) as transport:
                async with transport.send(WireRequest(url=PLAIN), SendOptions(connect=LONG, headers=LONG)) as response:
                    async for _ in response:
                        pass
    assert f"to {redacted(PLAIN)} through the proxy http://{address} (setting 'proxy') was lost" in caught.value.message
    assert caught.value.proxy == f"http://{address}"


@pytest.mark.anyio
@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_name_of_a_proxy_that_cannot_be_resolved_is_named(scheme: str) -> None:
    if scheme == "socks5":
        pytest.importorskip("socksio")
    error = await failure(PLAIN, Settings(proxy=f"{scheme}://proxy.invalid:3128"))
    assert isinstance(error, ConnectionFailed)
    assert error.message.startswith(f"cannot reach the proxy {scheme}://proxy.invalid:3128 (setting 'proxy'): the name")
    assert error.proxy == f"{scheme}://proxy.invalid:3128"


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "retryable"), [("403 Forbidden", False), ("502 Bad Gateway", True)])
async def test_refusal_to_connect_names_the_proxy(status: str, retryable: bool) -> None:
    async with proxy([f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode()]) as address:
        error = await failure(SECURE, Settings(proxy=f"http://user:hidden-word@{address}"))
    assert isinstance(error, ConnectionFailed)
    name = f"the proxy http://{address} (setting 'proxy')"
    assert error.message == f"{name} did not connect to {redacted(SECURE)}: status {status[:3]}"
    assert (error.proxy, error.retryable) == (f"http://{address}", retryable)


PAGE = b"HTTP/1.1 503 Busy\r\ncontent-type: text/html\r\ncontent-length: 17\r\n\r\n<title>No</title>"
JSON = b'HTTP/1.1 503 Busy\r\ncontent-type: application/json\r\ncontent-length: 25\r\n\r\n{"error":{"message":"x"}}'


@pytest.mark.anyio
@pytest.mark.parametrize("origin", ["proxy", "HTTP_PROXY"])
async def test_web_page_may_be_the_answer_of_a_proxy_that_forwards(
    toy: Any, origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy([PAGE, PAGE]) as address:
        url = f"http://user:hidden-word@{address}"
        if origin != "proxy":
            monkeypatch.setenv(origin, url)
        async with toy(
            "http://gpu.internal", max_retries=0, **({"proxy": url} if origin == "proxy" else {})
        ) as service:
            with pytest.raises(RemoteError) as caught:
                await service.chat("hi")
    error = caught.value
    where = "setting 'proxy'" if origin == "proxy" else "environment variable HTTP_PROXY"
    assert f"this may be the answer of the proxy http://{address} ({where}), not of the server" in str(error)
    assert ("NO_PROXY" in str(error)) is (origin != "proxy")
    assert (error.proxy, error.status) == (f"http://{address}", 503)
    assert "hidden-word" not in str(error)


@pytest.mark.anyio
async def test_error_of_the_api_is_not_that_of_the_proxy(toy: Any) -> None:
    async with proxy([JSON, JSON]) as address:
        async with toy("http://gpu.internal", max_retries=0, proxy=f"http://{address}") as service:
            with pytest.raises(RemoteError) as caught:
                await service.chat("hi")
    assert caught.value.proxy is None
    assert "proxy" not in str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("library", ["httpx2", "aiohttp"])
async def test_error_without_a_proxy_says_nothing_of_one(library: str, anyio_backend_name: str) -> None:
    if library == "aiohttp" and anyio_backend_name == "trio":
        pytest.skip("aiohttp needs asyncio")
    async with proxy([], closes=True) as address:
        for url in (f"http://{address}/", f"https://{address}/", "http://provider.invalid/"):
            error = await failure(url, Settings(http_library=library))
            assert "proxy" not in error.args[0].replace("certificate authority or a proxy", "")
            assert isinstance(error, RemoteError)
            assert error.proxy is None


@pytest.mark.anyio
async def test_localhost_is_reached_without_the_environments_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    async with proxy([ANSWERED]) as address:
        url = f"http://localhost:{address.partition(':')[2]}/"
        async with HTTPTransports(None).shared(Settings()) as transport:
            async with transport.send(WireRequest(url=url), SendOptions(connect=LONG, headers=LONG)) as response:
                assert response.status == 200
        error = await failure(url, Settings(proxy="http://proxy.invalid:3128"))
        assert "proxy.invalid" in str(error)  # the setting is for all addresses


@pytest.mark.anyio
async def test_aiohttp_is_refused_only_where_a_proxy_would_be_used(
    monkeypatch: pytest.MonkeyPatch, anyio_backend_name: str
) -> None:
    if anyio_backend_name == "trio":
        pytest.skip("aiohttp needs asyncio")
    settings = Settings(http_library="aiohttp")
    monkeypatch.setenv("HTTP_PROXY", "http://user:hidden-word@proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with proxy([ANSWERED]) as address, HTTPTransports(None).shared(settings) as transport:
        request, options = WireRequest(url=f"http://{address}/"), SendOptions(connect=LONG, headers=LONG)
        async with transport.send(request, options) as response:
            assert response.status == 200
    error = await failure(PLAIN, settings)
    assert isinstance(error, ConfigurationError)
    assert error.setting == "http_library"
    assert "the proxy http://proxy.invalid:3128 (environment variable HTTP_PROXY)" in str(error)
    monkeypatch.delenv("HTTP_PROXY")
    with pytest.raises(ConfigurationError, match=r"setting 'http_library' is 'aiohttp', but .* 'proxy'"):
        async with HTTPTransports(None).shared(Settings(http_library="aiohttp", proxy="http://proxy.invalid:3128")):
            pass


GO = "golang.org/x/net, http/httpproxy/proxy_test.go, UseProxyTests"
CURL = "curl, tests/unit/unit1614.c"
OURS = "ours: spaces and line breaks separate, as in older versions of curl"
LIST = (
    "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, "
    "2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64"
)
NO_PROXY = [
    # The value of NO_PROXY, the host, the port, whether it is reached without the proxy, and the source.
    ("", "localhost", 80, True, GO),
    ("", "127.0.0.1", 80, False, "curl; Go differs"),
    ("127.0.0.0/8,::1", "127.0.0.2", 80, True, GO),
    ("127.0.0.0/8,::1", "[::1]", 80, True, GO),
    ("", "api.localhost", 80, True, "RFC 6761, section 6.3: names under localhost are this machine; Go differs"),
    ("", "LOCALHOST.", 80, True, "the same"),
    (LIST, "[::2]", 80, False, GO),
    (LIST, "192.168.1.1", 80, True, GO),
    (LIST, "192.168.1.2", 80, False, GO),
    (LIST, "192.168.1.2", 81, True, GO),
    (LIST, "192.168.1.3", 80, True, GO),
    (LIST, "192.168.1.4", 80, False, GO),
    (LIST, "10.0.0.2", 80, True, GO),
    (LIST, "10.0.0.4", 80, False, GO),
    (LIST, "[2001:db8::52:0:1]", 80, True, GO),
    (LIST, "[2001:db8::52:0:2]", 80, False, GO),
    (LIST, "[2001:db8::52:0:3]", 80, True, GO),
    (LIST, "[2002:db8:a::123]", 80, True, GO),
    (LIST, "[fe80::424b:c8be:1643:a1b6]", 80, False, GO),
    (LIST, "www.barbaz.net", 80, True, GO),
    (LIST, "barbaz.net", 80, True, f"{CURL}; Go differs"),
    (LIST, "foobar.com", 80, True, GO),
    (LIST, "www.foobar.com", 80, True, GO),
    (LIST, "foofoobar.com", 80, False, GO),
    (LIST, "baz.com", 80, False, GO),
    (LIST, "localhost.net", 80, False, GO),
    (LIST, "barbarbaz.net", 80, False, GO),
    (LIST, "wildcard.io", 80, False, GO),
    (LIST, "nested.wildcard.io", 80, True, GO),
    (LIST, "awildcard.io", 80, False, GO),
    (":1", "example.com", 80, False, "Go, TestInvalidNoProxy"),
    (":80", "example.com", 80, False, "the same"),
    ("*", "example.com", 80, True, "Go, TestAllNoProxy"),
    ("*", "10.1.2.3", 80, True, "Go, TestAllNoProxy"),
    ("a.example,*", "example.com", 80, True, "Go, config.init: an entry of the list"),
    ("ample.com", "example.com", 80, False, "Go, proxyForURLTests"),
    (".示例.com", "www.xn--fsq092h.com", 80, True, "Go, proxyForURLTests"),
    ("xn--fsq092h.com", "www.xn--fsq092h.com", 80, True, "Go, proxyForURLTests"),
    ("example.com", "[1000::%.example.com]", 123, False, "Go, proxyForURLTests"),
    ("localhost,.example.com.,.example.de", "www.example.com", 80, True, CURL),
    ("localhost,.example.com,.example.de", "www.example.com.", 80, True, CURL),
    ("localhost,example.com,.example.de", "nonexample.com", 80, False, CURL),
    ("192.168.0.0/16", "192.168.0.1", 80, True, CURL),
    ("192.168.0.0/32", "192.168.0.1", 80, False, CURL),
    ("192.168.0.0", "192.168.0.1", 80, False, CURL),
    ("foo, bar, 192.168.0.0/24", "192.168.1.1", 80, False, CURL),
    ("foo, bar, 2001:db8::1/64", "[2001:db8::2]", 80, True, CURL),
    ("foo,,,,,              bar, ::1/64", "BAr", 80, True, CURL),
    ("10.0.0.1/33", "10.0.0.1", 80, False, CURL),
    ("10.0.0.0/8", "10.example", 80, False, "a network has no names"),
    ("10.0.0.0/8", "[::ffff:10.1.2.3]", 80, True, "Go: net.IP.To4"),
    ("[2001:db8::]/32", "[2001:db8::2]", 80, True, "ours: brackets are accepted"),
    ("example.com:8080", "api.example.com", 8080, True, "Go: domainMatch with a port"),
    ("example.com:8080", "example.com", 443, False, "Go: domainMatch with a port"),
    ("*.example.com:443", "a.example.com", 443, True, "Go: domainMatch with a port"),
    ("example.com:x", "example.com", 80, False, "Go and curl: no address has such a port"),
    ("example.com:800000", "example.com", 80, False, "the same"),
    ("*:x", "example.com", 80, False, "the same"),
    ("*:8080", "example.com", 8080, True, "ours: all hosts, with a port"),
    ("*:8080", "example.com", 80, False, "the same"),
    ("*.*", "example.com", 80, False, "Go and curl: no host has such a name"),
    ("*.*", "10.1.2.3", 80, False, "the same"),
    ("stra\u00dfe.example", "xn--strae-oqa.example", 80, True, "IDNA 2008"),
    ("xn--strae-oqa.example", "strasse.example", 80, False, "IDNA 2008"),
    ("[::1]:x", "[::1]", 80, False, "the same"),
    ("EXAMPLE.com", "api.Example.COM", 80, True, "Go: strings.ToLower"),
    ("a.example b.example", "b.example", 80, True, OURS),
    ("a.example,\n  b.example\n", "b.example", 80, True, OURS),
    ("a.example\r\nb.example", "b.example", 80, True, OURS),
    ("a.example;b.example", "b.example", 80, False, "neither Go nor curl"),
    ("http://a.example", "a.example", 80, True, "ours: a scheme is ignored"),
    ("   ", "example.com", 80, False, "nothing in the list"),
]


@pytest.mark.parametrize(("no_proxy", "host", "port", "direct", "source"), NO_PROXY)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_addresses_that_need_no_proxy(
    variable: str, no_proxy: str, host: str, port: int, direct: bool, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "proxy.example:3128")
    monkeypatch.setenv(variable, no_proxy)
    found = Proxies(None).find("http", host, port)
    assert (found is None) is direct, source
    assert found is None or found.url == "http://proxy.example:3128"


ENVIRONMENTS = [
    ({"http_proxy": "http://lower:1", "HTTP_PROXY": "http://upper:1"}, "http", "lower", "curl: lower case first"),
    ({"https_proxy": "http://lower:1", "HTTPS_PROXY": "http://upper:1"}, "https", "lower", "curl"),
    ({"HTTP_PROXY": "http://upper:1"}, "http", "upper", "Go, TestFromEnvironment; curl differs"),
    ({"HTTP_PROXY": "http://upper:1"}, "https", None, "Go, proxyForURLTests"),
    ({"HTTPS_PROXY": "http://upper:1"}, "http", None, "Go, proxyForURLTests"),
    ({"ALL_PROXY": "http://all:1"}, "https", "all", "curl"),
    ({"all_proxy": "http://all:1", "HTTPS_PROXY": "http://upper:1"}, "https", "upper", "curl"),
    ({"HTTP_PROXY": "http://upper:1", "REQUEST_METHOD": "GET"}, "http", None, "golang.org/s/cgihttpproxy"),
    ({"http_proxy": "http://lower:1", "REQUEST_METHOD": "GET"}, "http", "lower", "curl"),
    ({"HTTPS_PROXY": "http://upper:1", "REQUEST_METHOD": "GET"}, "https", "upper", "Go, proxyForURLTests"),
    ({"http_proxy": "proxy.example:3128"}, "http", "proxy.example", "Go, proxyForURLTests: no scheme"),
    ({"http_proxy": "localhost"}, "http", "localhost", "Go, proxyForURLTests: one label"),
    ({"http_proxy": " http://lower:1\n"}, "http", "lower", "ours: white space is removed"),
    ({"no_proxy": "other.example", "NO_PROXY": "provider.example", "http_proxy": "http://l:1"}, "http", "l", "curl"),
    ({}, "http", None, "Go, proxyForURLTests"),
    ({"https_proxy": "", "HTTPS_PROXY": "http://upper:1"}, "https", "upper", "Go: getEnvAny takes the first not empty"),
    ({"https_proxy": " ", "HTTPS_PROXY": "http://upper:1"}, "https", "upper", "ours: blank is not set"),
    ({"https_proxy": "\u200b", "ALL_PROXY": "http://all:1"}, "https", "all", "the same"),
    ({"all_proxy": "", "ALL_PROXY": "http://all:1"}, "https", "all", "Go and curl"),
    ({"no_proxy": "", "NO_PROXY": "provider.example", "http_proxy": "http://l:1"}, "http", None, "Go and curl"),
    ({"no_proxy": " ", "NO_PROXY": "provider.example", "http_proxy": "http://l:1"}, "http", None, "blank is not set"),
    ({"no_proxy": "*", "HTTP_PROXY": "http://upper:1"}, "http", None, "both"),
]


@pytest.mark.parametrize(("environment", "scheme", "host", "source"), ENVIRONMENTS)
def test_proxy_of_the_environment(
    environment: dict[str, str], scheme: str, host: str | None, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = Proxies(None).find(scheme, "provider.example", 443 if scheme == "https" else 80)
    assert (None if found is None else found.url.partition("://")[2].partition(":")[0]) == host, source
