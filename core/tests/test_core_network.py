"""What lies below a call: connections, certificates, proxies, Unix sockets, keys, headers and the texts of errors.

Each test runs over both HTTP libraries, and expects the same of them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import gzip
import os
import socket
import ssl
import struct
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.abc
import httpx
import httpx2
import pytest
from anyio.streams.tls import TLSStream
from compressors import brotli, zstd
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from trunkline import (
    CallError,
    ConfigurationError,
    ConnectionFailed,
    Observer,
    ProtocolViolation,
    StreamInterrupted,
    hookimpl,
)
from trunkline._config.sources import make_settings
from trunkline._http import aiohttp as aiohttp_transport, common, decompression
from trunkline._http.choice import HTTPTransports
from trunkline._http.common import default_headers, keepalive_options
from trunkline._http.httpx2 import HTTPTransport
from trunkline._http.log_filter import sending
from trunkline._urls import split_url
from trunkline.authoring.provider import ByteStream, Call, SendOptions
from trunkline.authoring.wire import WireRequest
from trunkline.errors import RemoteError, TrunklineError
from trunkline.secrets import Secret
from trunkline.settings import Settings, json_schema
from trunkline.testing import Exchange, serve

from .conftest import ToySettings, make_toy

pytestmark = pytest.mark.anyio

LONG = 30.0
"""A limit that ends a test which hangs, in seconds."""
ANSWER = b'{"text": "Hello"}'
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def anyio_backend(stack: str) -> str:
    return stack.partition("-")[0]


@pytest.fixture
def http_library(stack: str) -> Any:
    return stack.partition("-")[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "ssl_cert_file", "ssl_cert_dir", "sslkeylogfile"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def a_break_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # However slow this machine is.
    monkeypatch.setattr(common, "RESEND_SECONDS", LONG)


@asynccontextmanager
async def sent(url: str, settings: Settings, *, resend: bool = True, **request: Any) -> AsyncIterator[ByteStream]:
    options = SendOptions(connect=LONG, headers=LONG, resend=resend)
    async with HTTPTransports().shared(settings) as transport:
        async with transport.send(WireRequest(url=url, **request), options) as response:
            yield response


async def failure(url: str, settings: Settings, **request: Any) -> TrunklineError:
    with pytest.raises(TrunklineError) as caught, anyio.fail_after(LONG):
        async with sent(url, settings, **request) as response:
            async for _ in response:
                pass
    return caught.value


async def body(url: str, settings: Settings, **request: Any) -> bytes:
    with anyio.fail_after(LONG):
        async with sent(url, settings, **request) as response:
            return b"".join([chunk async for chunk in response])


async def ok(exchange: Exchange) -> None:
    await exchange.respond(ANSWER)


# Stale connections


class ClosingServer:
    """A server that answers the first request on each connection, and then ends the connection at the second request.

    `ends` says how: the second request is read, and then the connection is closed or reset, or the first bytes of a
    response are sent before it is closed.
    """

    def __init__(self, ends: str) -> None:
        self.ends = ends
        self.requests: list[bytes] = []
        self.connections = 0
        self.all_open = anyio.Event()
        self.hold = 0
        """The number of connections to wait for before the first request of each is answered."""

    async def handle(self, stream: anyio.abc.SocketStream) -> None:
        self.connections += 1
        async with stream:
            try:
                self.requests.append(await self._read(stream))
                if self.connections >= self.hold:
                    self.all_open.set()
                await self.all_open.wait()
                await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))
                self.requests.append(await self._read(stream))
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return
            if self.ends == "begins to answer":
                await stream.send(b"HTTP/1.1 200 O")
            if self.ends == "resets":
                raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await anyio.aclose_forcefully(stream)

    @staticmethod
    async def _read(stream: anyio.abc.SocketStream) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive()
        head, _, rest = data.partition(b"\r\n\r\n")
        length = next(
            (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0
        )
        while len(rest) < length:
            rest += await stream.receive()
        return head.split(b" ")[0]


@asynccontextmanager
async def closing_server(ends: str) -> AsyncIterator[tuple[ClosingServer, str]]:
    server = ClosingServer(ends)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.handle)
        with anyio.fail_after(LONG):
            yield server, f"http://127.0.0.1:{port}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("ends", ["closes", "resets"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_request_on_a_stale_connection_is_sent_once_more_on_a_new_one(
    http_library: Any, ends: str, method: str
) -> None:
    options = SendOptions(connect=LONG, headers=LONG, resend=True)
    async with closing_server(ends) as (server, url):
        async with HTTPTransports().shared(Settings(http_library=http_library)) as transport:
            for _ in range(2):
                async with transport.send(WireRequest(url=url, method=method, body=b"1"), options) as response:
                    assert b"".join([chunk async for chunk in response]) == ANSWER
        assert (len(server.requests), server.connections) == (3, 2)


@pytest.mark.parametrize("operation", ["chat", "list_models"])
@pytest.mark.parametrize("ends", ["closes", "resets"])
async def test_request_is_sent_once_if_max_retries_is_zero(toy: Any, operation: str, ends: str) -> None:
    async with closing_server(ends) as (server, url), toy(url, max_retries=0) as service:
        await service.chat("first")
        with pytest.raises(ConnectionFailed):
            await (service.chat("second") if operation == "chat" else service.list_models())
        assert len(server.requests) == 2


async def test_connection_whose_end_the_event_loop_has_not_seen_yet_is_not_used(http_library: Any) -> None:
    def run() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))
                close.wait(LONG)
            closed.set()

    close, closed = threading.Event(), threading.Event()
    options = SendOptions(connect=LONG, headers=LONG)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = threading.Thread(target=run, daemon=True)
        server.start()
        async with HTTPTransports().shared(Settings(http_library=http_library)) as transport:
            for _ in range(2):
                async with transport.send(WireRequest(url=url, method="GET"), options) as response:
                    assert b"".join([chunk async for chunk in response]) == ANSWER
                close.set()
                assert closed.wait(LONG)  # blocks the event loop
        server.join()


@pytest.mark.parametrize("through", ["direct", "proxy"])
@pytest.mark.parametrize("ends", ["closes", "resets"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_request_whose_reused_connection_breaks_later_is_not_sent_again(
    http_library: Any, method: str, ends: str, through: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "RESEND_SECONDS", 0.0)
    options = SendOptions(connect=LONG, headers=LONG, resend=True)
    async with closing_server(ends) as (server, url):
        settings = Settings(http_library=http_library) if through == "direct" else Settings(proxy=url)
        target = url if through == "direct" else "http://provider.example/"
        async with HTTPTransports().shared(settings) as transport:
            async with transport.send(WireRequest(url=target, method=method, body=b"1"), options) as response:
                assert b"".join([chunk async for chunk in response]) == ANSWER
            with pytest.raises(ConnectionFailed) as caught:
                async with transport.send(WireRequest(url=target, method=method, body=b"1"), options):
                    pass
        assert len(server.requests) == 2
    assert caught.value.retryable
    assert "TLS" not in caught.value.message  # the server has just answered over plain HTTP


async def test_request_on_a_stale_connection_costs_no_retry(toy: Any) -> None:
    retried: list[TrunklineError] = []

    class Retries(Observer):
        @hookimpl
        def trunkline_observer(self, context: object) -> Observer:
            return self

        def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
            retried.append(error)

    async with closing_server("closes") as (server, url), toy(url, max_retries=1, extensions=(Retries(),)) as service:
        for _ in range(2):
            assert (await service.chat("hi")).text == "Hello"
        assert len(server.requests) == 3
    assert retried == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_request_whose_response_has_begun_is_not_sent_again(http_library: Any, method: str) -> None:
    options = SendOptions(connect=LONG, headers=LONG, resend=True)
    async with closing_server("begins to answer") as (server, url):
        async with HTTPTransports().shared(Settings(http_library=http_library)) as transport:
            async with transport.send(WireRequest(url=url, method=method), options) as response:
                assert b"".join([chunk async for chunk in response]) == ANSWER
            with pytest.raises(ConnectionFailed):
                async with transport.send(WireRequest(url=url, method=method), options):
                    pass
        assert len(server.requests) == 2


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_request_on_a_first_connection_is_never_sent_again(http_library: Any, size: int) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reset()

    async with serve(handler) as server:
        error = await failure(server.url, Settings(http_library=http_library), body=bytes(size))
        assert (server.accepted, len(server.requests)) == (1, 1)
    assert isinstance(error, ConnectionFailed)
    assert "connection reset by the server" in error.message


@pytest.mark.parametrize("resend", [True, False])
async def test_thirty_stale_connections_fail_one_call_at_most(http_library: Any, resend: bool) -> None:
    options = SendOptions(connect=LONG, headers=LONG, resend=resend)
    async with closing_server("resets") as (server, url):
        server.hold = 30
        async with HTTPTransports().shared(Settings(http_library=http_library)) as transport:

            async def call() -> bytes:
                async with transport.send(WireRequest(url=url), options) as response:
                    return b"".join([chunk async for chunk in response])

            async with anyio.create_task_group() as tasks:
                for _ in range(30):
                    tasks.start_soon(call)
            assert server.connections == 30
            if resend:
                assert await call() == ANSWER
            else:
                with pytest.raises(ConnectionFailed):
                    await call()
            assert await call() == ANSWER
        assert server.connections in (31, 32)


async def test_stale_connections_to_a_proxy_are_replaced_as_well(http_library: Any) -> None:
    options = SendOptions(connect=LONG, headers=LONG, resend=True)
    async with closing_server("closes") as (server, url):
        async with HTTPTransports().shared(Settings(proxy=url)) as transport:
            for _ in range(2):
                async with transport.send(WireRequest(url="http://provider.example/"), options) as response:
                    assert b"".join([chunk async for chunk in response]) == ANSWER
        assert (len(server.requests), server.connections) == (3, 2)


# TLS


class Authority:
    """A certificate authority, and the certificates that it issues, as files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        signed = self._builder(self._name, self._key).add_extension(constraints, critical=True)
        signed = signed.add_extension(usage, critical=True)
        self._public = signed.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._public)

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 1) -> x509.CertificateBuilder:
        # Python 3.13 refuses certificates without these identifiers.
        subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
            .add_extension(subject, critical=False)
            .add_extension(issuer, critical=False)
            .not_valid_before(now - timedelta(days=3))
            .not_valid_after(now + timedelta(days=days))
        )

    def issue(self, address: str = "127.0.0.1", *, days: int = 1, passphrase: bytes | None = None) -> tuple[Path, Path]:
        """The files of a certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
        alternative = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(address))])
        signed = self._builder(name, key, days).add_extension(alternative, critical=False)
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        files = self.folder / f"{address}-{days}.pem", self.folder / f"{address}-{days}.key"
        files[0].write_bytes(signed.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return files


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def tls_server(
    authority: Authority, *, client: bool = False, **certificate: Any
) -> AsyncIterator[tuple[list[bool], str]]:
    """A server over TLS; the list has an item for each connection. `client` requires a certificate of the client."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue(**certificate))
    if client:
        context.load_verify_locations(authority.file)
        context.verify_mode = ssl.CERT_REQUIRED

    async def handle(raw: anyio.abc.SocketStream) -> None:
        connections.append(True)
        with contextlib.suppress(anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError):
            async with raw, await TLSStream.wrap(raw, server_side=True, ssl_context=context) as stream:
                await stream.receive()
                await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))
                await stream.receive()

    connections: list[bool] = []
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        with anyio.fail_after(LONG):
            yield connections, f"https://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        ({}, r"is not trusted .*set 'ca_bundle' to a file"),
        ({"address": "127.0.0.2"}, r"belongs to another host .*check the host in the URL"),
        ({"days": -1}, r"is not valid now .*check the clock"),
    ],
    ids=["untrusted", "another host", "expired"],
)
async def test_certificate_that_cannot_be_trusted_is_not_retried(
    toy: Any, authority: Authority, certificate: Any, text: str
) -> None:
    settings = {} if not certificate else {"ca_bundle": authority.file}
    async with tls_server(authority, **certificate) as (connections, url):
        async with toy(url, max_retries=2, **settings) as service:
            with pytest.raises(ConnectionFailed, match=text) as caught:
                await service.chat("hi")
        assert (len(connections), caught.value.retryable) == (1, False)


async def test_tls_to_a_plain_port_is_not_retried(toy: Any) -> None:
    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            connections.append(await stream.receive())
            await stream.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    connections: list[bytes] = []
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"https://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        async with toy(url, max_retries=2) as service:
            with pytest.raises(ConnectionFailed, match=r"does not use TLS on this port; .* http instead of https"):
                await service.chat("hi")
        tasks.cancel_scope.cancel()
    assert len(connections) == 1


async def test_call_that_is_cancelled_during_the_tls_handshake_closes_its_connection(toy: Any) -> None:
    hello, closed = anyio.Event(), anyio.Event()

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive()
                hello.set()
                while True:
                    await stream.receive()
        closed.set()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    url = f"https://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
    gc.disable()  # it would close the socket some time later
    try:
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handle)
            async with toy(url, max_retries=0) as service:
                with anyio.fail_after(LONG):
                    async with anyio.create_task_group() as calls:
                        calls.start_soon(service.chat, "hi")
                        await hello.wait()
                        calls.cancel_scope.cancel()
                    await closed.wait()
            tasks.cancel_scope.cancel()
    finally:
        gc.enable()


async def test_plain_http_to_a_tls_port_says_what_to_do(authority: Authority, http_library: Any) -> None:
    async with tls_server(authority) as (_, url):
        error = await failure(url.replace("https:", "http:"), Settings(http_library=http_library))
    assert isinstance(error, ConnectionFailed)
    assert error.advice == "if it expects TLS, use https in the URL"
    assert str(error).endswith(f"; {error.advice}")


async def test_tls_alert_in_answer_to_plain_http_is_not_retried(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(b"\x15\x03\x01\x00\x02\x02\x46")
        await exchange.hang_up()

    async with serve(handler) as server, toy(server.url, max_retries=2) as service:
        with pytest.raises(ConnectionFailed, match="the server expects TLS; use https instead of http") as caught:
            await service.chat("hi")
    assert not caught.value.retryable


async def test_certificates_are_not_checked_if_verify_is_false(authority: Authority, http_library: Any) -> None:
    settings = Settings(http_library=http_library, verify=False)
    assert [name for name, _ in settings.notes()] == ["verify"]
    async with tls_server(authority, address="127.0.0.2") as (_, url):
        assert await body(url, settings) == ANSWER


@pytest.mark.parametrize("passphrase", [None, b"a p\xc3\xa4ssphrase"])
async def test_client_certificate_is_shown(authority: Authority, http_library: Any, passphrase: bytes | None) -> None:
    certificate, key = authority.issue("127.0.0.3", passphrase=passphrase)
    settings = Settings(
        http_library=http_library,
        ca_bundle=authority.file,
        client_certificate=certificate,
        client_key=key,
        client_key_passphrase=passphrase.decode() if passphrase else None,
    )
    async with tls_server(authority, client=True) as (_, url):
        assert await body(url, settings) == ANSWER


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", None])
async def test_authorities_are_read_from_files_and_from_folders(
    authority: Authority, http_library: Any, variable: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(http_library=http_library)
    certificate = x509.load_pem_x509_certificate(authority.file.read_bytes())
    folder = tmp_path / "folder"
    folder.mkdir()
    # The name that `openssl rehash` gives: a hash of the subject, which only OpenSSL computes.
    context = ssl.create_default_context(cafile=authority.file)
    assert context.get_ca_certs()
    hashed = folder / f"{_subject_hash(certificate)}.0"
    hashed.write_bytes(authority.file.read_bytes())
    if variable == "SSL_CERT_FILE":
        monkeypatch.setenv(variable, str(authority.file))
    elif variable == "SSL_CERT_DIR":
        monkeypatch.setenv(variable, os.pathsep.join((str(tmp_path / "gone"), str(folder))))
    else:
        settings = Settings(http_library=http_library, ca_bundle=folder)
    async with tls_server(authority) as (_, url):
        assert await body(url, settings) == ANSWER


def _subject_hash(certificate: x509.Certificate) -> str:
    # X509_NAME_hash: the first four bytes, in little-endian order, of SHA-1 over the canonical form of the subject.
    text = b"test authority"
    value = b"\x0c" + bytes([len(text)]) + text  # UTF8String, in lower case
    attribute = b"\x06\x03\x55\x04\x03" + value
    sequence = b"\x30" + bytes([len(attribute)]) + attribute
    canonical = b"\x31" + bytes([len(sequence)]) + sequence
    digest = hashes.Hash(hashes.SHA1())
    digest.update(canonical)
    return f"{int.from_bytes(digest.finalize()[:4], 'little'):08x}"


def unusable_files(folder: Path, authority: Authority) -> dict[str, tuple[dict[str, Any], str, str]]:
    """Settings or variables, the setting or variable that the error must name, and the rest of its text."""
    gone, text, empty = folder / "gone.pem", folder / "text.pem", folder / "empty"
    text.write_text("no certificate")
    empty.mkdir()
    certificate, key = authority.issue("127.0.0.4", passphrase=b"secret")
    _, other = authority.issue("127.0.0.5")
    pair = {"client_certificate": certificate, "client_key": key}
    return {
        "file gone": ({"SSL_CERT_FILE": gone}, "SSL_CERT_FILE", f"'{gone}' cannot be read: No such file"),
        "file without certificates": ({"SSL_CERT_FILE": text}, "SSL_CERT_FILE", f"'{text}' is not a file of PEM"),
        "folder gone": ({"SSL_CERT_DIR": gone}, "SSL_CERT_DIR", f"'{gone}' cannot be read: No such file"),
        "empty folder": ({"SSL_CERT_DIR": empty}, "SSL_CERT_DIR", f"'{empty}' has no certificates"),
        "bundle gone": ({"ca_bundle": gone}, "ca_bundle", f"'{gone}' cannot be read: No such file"),
        "bundle without certificates": ({"ca_bundle": text}, "ca_bundle", f"'{text}' is not a file of PEM"),
        "empty bundle folder": ({"ca_bundle": empty}, "ca_bundle", f"'{empty}' has no certificates"),
        "certificate gone": ({"client_certificate": gone}, "client_certificate", f"'{gone}' cannot be read"),
        "certificate without key": ({"client_certificate": certificate}, "client_certificate", "its private key"),
        "key gone": ({**pair, "client_key": gone}, "client_key", f"'{gone}' cannot be read"),
        "key of another": ({**pair, "client_key": other}, "client_key", "is not the PEM key of"),
        "no passphrase": (pair, "client_key_passphrase", "is required"),
        "wrong passphrase": ({**pair, "client_key_passphrase": "wrong"}, "client_key_passphrase", "is wrong"),
    }


@pytest.mark.parametrize(
    "case",
    [
        *("file gone", "file without certificates", "folder gone", "empty folder", "bundle gone"),
        *("bundle without certificates", "empty bundle folder", "certificate gone", "certificate without key"),
        *("key gone", "key of another", "no passphrase", "wrong passphrase"),
    ],
)
async def test_file_that_cannot_be_used_is_named_before_anything_is_sent(
    authority: Authority, http_library: Any, case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values, name, text = unusable_files(tmp_path, authority)[case]
    for variable in [variable for variable in values if variable.isupper()]:
        monkeypatch.setenv(variable, str(values.pop(variable)))
    settings = Settings(http_library=http_library, **values)
    async with tls_server(authority) as (connections, url):
        error = await failure(url, settings)
    assert isinstance(error, ConfigurationError)
    assert name in str(error)
    assert text in str(error)
    assert error.setting == (None if name.isupper() else name)
    assert connections == []
    assert "wrong" not in str(error).replace("is wrong", "")


async def test_plain_http_needs_no_certificates(http_library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/gone.pem")
    async with serve(ok) as server:
        assert await body(server.url, Settings(http_library=http_library)) == ANSWER


# Proxies


@asynccontextmanager
async def nobody() -> AsyncIterator[str]:
    """The address of a port where nothing listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


@pytest.mark.parametrize("origin", ["proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_that_is_not_there_is_named_and_not_retried(
    toy: Any, origin: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nobody() as address:
        proxy = f"{scheme}://user:hidden-word@{address}"
        if origin != "proxy":
            monkeypatch.setenv(origin, proxy)
        values = {"proxy": proxy} if origin == "proxy" else {}
        async with toy("https://provider.example", max_retries=2, http_library="auto", **values) as service:
            with pytest.raises(ConnectionFailed) as caught:
                await service.chat("hi")
    where = "setting 'proxy'" if origin == "proxy" else f"environment variable {origin}"
    assert f"cannot reach the proxy {scheme}://{address} ({where}): connection refused" in caught.value.message
    assert not caught.value.retryable


@pytest.mark.parametrize("url", ["http://provider.example", "https://provider.example"])
@pytest.mark.parametrize("login", ["", "user:hidden-word@"])
async def test_login_that_a_proxy_requires_is_a_problem_of_the_proxy(toy: Any, url: str, login: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"who are you?", status=407)

    async with serve(handler) as proxy:
        configured = proxy.url.replace("//", f"//{login}")
        async with toy(url, proxy=configured, max_retries=2, http_library="auto") as service:
            with pytest.raises(ConfigurationError) as caught:
                await service.chat("hi")
        assert len(proxy.requests) == 1
    assert caught.value.setting == "proxy"
    assert f"the proxy {proxy.url} (setting 'proxy')" in str(caught.value)
    assert ("refuses the user name" if login else "requires a user name") in str(caught.value)
    assert ("correct them in its URL" if login else "put them in its URL") in str(caught.value)
    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize(("status", "retryable"), [(403, False), (502, True)])
async def test_proxy_that_does_not_connect_is_named(status: int, retryable: bool) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"no", status=status)

    async with serve(handler) as proxy:
        error = await failure("https://provider.example/x?key=hidden-word", Settings(proxy=proxy.url))
    assert isinstance(error, ConnectionFailed)
    assert error.retryable is retryable
    text = f"the proxy {proxy.url} (setting 'proxy') did not connect to https://provider.example/x: status {status}"
    assert error.message == text


async def test_login_in_the_url_of_a_proxy_is_sent() -> None:
    async with serve(ok) as proxy:
        settings = Settings(proxy=proxy.url.replace("//", "//us%2Fer:p%40ss%20w%25rd@") + "/")
        await body("http://provider.example/x", settings)
    expected = base64.b64encode(b"us/er:p@ss w%rd").decode()
    assert proxy.requests[0].headers["proxy-authorization"] == f"Basic {expected}"
    assert proxy.requests[0].target == "http://provider.example/x"


@pytest.mark.parametrize("text", ["socks4://host:1", "gopher://host", "http://", "http://pro xy:80", "http://host:x"])
async def test_proxy_that_cannot_be_one_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="setting 'proxy' must be the URL of a proxy"):
        Settings(proxy=text)


async def test_proxy_of_the_environment_counts_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://pro xy:80")
    async with serve(ok) as server:
        assert await body(server.url, Settings()) == ANSWER
        with pytest.raises(ConfigurationError, match="environment variable HTTPS_PROXY must be the URL of a proxy"):
            await body("https://provider.example", Settings())


@pytest.mark.parametrize("origin", ["proxy", "ALL_PROXY"])
async def test_socks_without_its_package_says_what_to_install(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline._http.proxies.find_spec", lambda name: None)
    values = {"proxy": "socks5://127.0.0.1:9"} if origin == "proxy" else {}
    if not values:
        monkeypatch.setenv(origin, "socks5h://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match=r"pip install 'trunkline\[socks\]'") as caught:
        await body("http://provider.example", Settings(**values))
    assert origin in str(caught.value)


async def test_socks_proxy_is_used() -> None:
    pytest.importorskip("socksio")
    targets = []

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            assert await stream.receive() == b"\x05\x01\x00"
            await stream.send(b"\x05\x00")
            request = await stream.receive()
            targets.append(request[5:-2])
            await stream.send(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        assert await body("http://provider.example", Settings(proxy=f"socks5://127.0.0.1:{port}")) == ANSWER
        tasks.cancel_scope.cancel()
    assert targets == [b"provider.example"]


# Unix sockets


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this platform has no Unix sockets")
async def test_url_of_a_unix_socket_is_used(toy: Any, socket_folder: Path) -> None:
    requests = []

    async def handle(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                while data := await stream.receive():
                    if data.startswith(b"POST"):
                        requests.append(data)
                    if b"messages" in data or b'"text"' in data:
                        await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))

    path = socket_folder / "server.sock"
    url = "http+unix://" + str(path).replace("/", "%2F") + "/v1"
    async with toy(url, max_retries=0) as service:
        with pytest.raises(ConnectionFailed, match="no such file or directory"):
            await service.chat("hi")
        listener = await anyio.create_unix_listener(path)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handle)
            with anyio.fail_after(LONG):
                assert (await service.chat("hi")).text == "Hello"
            tasks.cancel_scope.cancel()
    assert requests[0].startswith(b"POST /v1/chat HTTP/1.1\r\n")
    assert b"\r\nhost: localhost\r\n" in requests[0].lower()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this platform has no Unix sockets")
async def test_path_of_a_unix_socket_that_is_too_long_is_refused(http_library: Any) -> None:
    error = await failure("http+unix://%2Ftmp%2F" + "a" * 120, Settings(http_library=http_library))
    assert isinstance(error, ConfigurationError)
    assert "the path of the Unix socket is too long: 125 bytes" in str(error)


# Keys and headers

KEY = "sk-proj-0123456789abcdef"


def toy_settings(folder: Path | None = None, environ: Any = None, **table: object) -> ToySettings:
    made = make_settings(
        "toy", make_toy(), arguments={}, table={"url": "http://x", **table}, environ=environ or {}, folder=folder
    )
    assert isinstance(made, ToySettings)
    return made


@pytest.mark.parametrize("before", ["", " ", "\n", "\u00a0"])
@pytest.mark.parametrize("after", ["", "\n", "\r\n", " \t", "\u00a0"])
async def test_white_space_around_a_key_is_removed(before: str, after: str, tmp_path: Path) -> None:
    text = before + KEY + after
    environ = {"TOY_KEY": text, "KEY": text}
    (tmp_path / "key").write_text(text, encoding="utf-8")
    for made in (
        toy_settings(environ=environ),
        toy_settings(api_key=text),
        toy_settings(api_key=Secret(text)),
        toy_settings(environ=environ, api_key={"env": "KEY"}),
        toy_settings(tmp_path, api_key={"file": "key"}),
        ToySettings(url="http://x", api_key=text),
    ):
        assert made.api_key == Secret(KEY)
        assert toy_settings(environ=environ, headers={"X-Key": {"env": "KEY"}}).headers["X-Key"] == KEY
        assert toy_settings(tmp_path, headers={"X-Key": {"file": "key"}}).headers["X-Key"] == KEY


async def test_byte_order_mark_of_a_file_is_no_part_of_the_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n", encoding="utf-8-sig")
    assert toy_settings(tmp_path, api_key={"file": "key"}).api_key == Secret(KEY)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (KEY[:9] + "\n" + KEY[9:], "a line break"),
        (KEY[:9] + "\r" + KEY[9:], "a line break"),
        (KEY[:9] + " " + KEY[9:], "a space"),
        (KEY[:9] + "\ufeff" + KEY[9:], "a byte-order mark"),
        (KEY[:9] + "\u200b" + KEY[9:], "ZERO WIDTH SPACE"),
        (KEY.replace("-", "\u2014"), "EM DASH"),
        (KEY.replace("p", "\u0440"), "CYRILLIC SMALL LETTER ER"),
        (KEY + "\0", "x00"),
    ],
)
async def test_key_that_no_header_can_hold_is_refused_before_a_request(wrong: str, named: str) -> None:
    for make in (lambda: ToySettings(url="http://x", api_key=wrong), lambda: toy_settings(api_key=wrong)):
        with pytest.raises(ConfigurationError, match="'api_key' must be printable ASCII") as caught:
            make()
        assert named in str(caught.value)
        assert wrong not in str(caught.value)
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", ["X Team", "", "X:Team", "X-T\u00e4m", "X(Team)", "X-A\r\nX-B", "X-A\tb"])
async def test_header_name_that_http_does_not_allow_is_refused(name: str, http_library: Any) -> None:
    with pytest.raises(ConfigurationError, match="'headers' must be a table of HTTP headers"):
        Settings(headers={name: "hidden-word"})
    async with serve(ok) as server:
        error = await failure(server.url, Settings(http_library=http_library), headers={name: "hidden-word"})
        assert server.accepted == 0
    assert isinstance(error, ConfigurationError)
    assert "HTTP does not allow the header name" in str(error)
    assert "hidden-word" not in str(error)


@pytest.mark.parametrize("value", ["Z\u00fcrich", "a\nb", "a\r\nb: c", "a\0"])
async def test_header_value_that_http_does_not_allow_is_refused(value: str, http_library: Any) -> None:
    with pytest.raises(ConfigurationError, match="the value of the header 'X-Team' is not printable ASCII"):
        Settings(headers={"X-Team": value})
    async with serve(ok) as server:
        error = await failure(server.url, Settings(http_library=http_library), headers={"x-team": value})
        assert server.accepted == 0
    assert isinstance(error, ConfigurationError)
    assert "the value of the header 'x-team' is not printable ASCII" in str(error)


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding", "trailer", "UPGRADE"])
async def test_header_that_decides_where_the_body_ends_is_refused(name: str, http_library: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"table of HTTP headers; the HTTP library sets the header '{name}'"):
        Settings(headers={name: "5"})
    async with serve(ok) as server:
        error = await failure(server.url, Settings(http_library=http_library), headers={name: "5"}, body=b"123456")
        assert server.accepted == 0
    assert isinstance(error, ConfigurationError)
    assert f"cannot be sent: the HTTP library sets the header {name.lower()!r}" in str(error)


async def test_header_that_makes_a_request_wait_is_refused(http_library: Any) -> None:
    with pytest.raises(ConfigurationError, match="table of HTTP headers; the header 'Expect' is not supported"):
        Settings(headers={"Expect": "100-continue"})
    async with serve(ok) as server:
        error = await failure(server.url, Settings(http_library=http_library), headers={"expect": "100-continue"})
        assert server.accepted == 0
    assert isinstance(error, ConfigurationError)


async def test_response_may_have_many_small_headers(http_library: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(ANSWER, headers={f"x-{number}": "v" for number in range(2000)})

    async with serve(handler) as server:
        assert await body(server.url, Settings(http_library=http_library)) == ANSWER


async def test_header_host_may_be_set(http_library: Any) -> None:
    async with serve(ok) as server:
        await body(server.url, Settings(http_library=http_library), headers={"Host": "gateway.example"})
    assert server.requests[0].headers["host"] == "gateway.example"


# Files relative to the configuration file


async def test_paths_in_a_configuration_file_are_relative_to_it(
    authority: Authority, http_library: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.file.read_bytes())
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    table = {"ca_bundle": "ca.pem", "client_certificate": "~/client.pem"}
    made = toy_settings(tmp_path, environ={"TRUNKLINE_TOY_CLIENT_KEY": "key.pem"}, **table)
    assert (made.ca_bundle, made.client_certificate) == (str(tmp_path / "ca.pem"), str(home / "client.pem"))
    assert made.client_key == "key.pem"  # from the environment: relative to the current folder


# Other settings


@pytest.mark.parametrize("seconds", [45.0, None])
async def test_tcp_keepalive_is_set_on_connections(
    http_library: Any, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: list[int] = []
    client_ports: list[int] = []

    async def handler(exchange: Exchange) -> None:
        client_ports.append(exchange._stream.extra(anyio.abc.SocketAttribute.remote_port))
        await exchange.respond(ANSWER)

    async with serve(handler) as server:
        async with sent(server.url, Settings(http_library=http_library, tcp_keepalive=seconds)) as response:
            async for _ in response:
                pass
            for found in (item for item in gc.get_objects() if isinstance(item, socket.socket)):
                with contextlib.suppress(OSError):
                    if found.family == socket.AF_INET and found.getsockname()[1] == client_ports[0]:
                        options.append(found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
                        if seconds and hasattr(socket, "TCP_KEEPIDLE"):
                            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 45
    assert options
    assert set(options) == {int(seconds is not None)}


async def test_tcp_keepalive_is_on_by_default() -> None:
    assert Settings().tcp_keepalive == 60
    assert (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1) in keepalive_options(Settings().tcp_keepalive)


@pytest.mark.parametrize("seconds", [0.5, 32768, float("inf"), float("nan")])
async def test_tcp_keepalive_that_the_operating_system_does_not_accept_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="setting 'tcp_keepalive' must be a number of"):
        Settings(tcp_keepalive=seconds)
    assert json_schema(Settings)["properties"]["tcp_keepalive"]["maximum"] == 32767  # type: ignore[index, call-overload]


async def test_user_agent_names_trunkline_and_its_version(http_library: Any) -> None:
    async with serve(ok) as server:
        settings = Settings(http_library=http_library)
        await body(server.url, settings)
        await body(server.url, settings, headers={"User-Agent": "mine"})
        for agent in (None, "theirs"):
            headers = {"user-agent": agent} if agent else {}
            async with httpx2.AsyncClient(headers=headers) as client, HTTPTransports(client).shared(settings) as own:
                async with own.send(WireRequest(url=server.url), SendOptions()) as response:
                    assert response.status == 200
    import trunkline

    ours = f"trunkline/{trunkline.__version__}"
    assert [request.headers["user-agent"] for request in server.requests] == [ours, "mine", ours, "theirs"]


async def test_client_that_the_application_has_closed_is_a_call_error(toy: Any) -> None:
    client = httpx2.AsyncClient()
    await client.aclose()
    async with toy("http://provider.example", client=client) as service:
        with pytest.raises(CallError, match="http_client that the application passed is closed"):
            await service.chat("hi")


# Encodings


@pytest.mark.parametrize("encoding", ["zzz", "gzip, zzz"])
async def test_encoding_that_was_not_asked_for_is_a_protocol_violation(http_library: Any, encoding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"???", status=200, headers={"content-encoding": encoding})

    async with serve(handler) as server:
        error = await failure(server.url, Settings(http_library=http_library))
        assert "zzz" not in server.requests[0].headers["accept-encoding"]
    assert isinstance(error, ProtocolViolation)
    assert "its content-encoding is 'zzz', which the request did not ask for" in error.message


@pytest.mark.parametrize(
    "encoding", ["none", "utf-8", "UTF8", "aws-chunked", "identity", "none, identity", "x-gzip", "aws-chunked, gzip"]
)
async def test_content_encoding_that_is_no_compression_is_ignored(http_library: Any, encoding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        packed = gzip.compress(ANSWER) if "gzip" in encoding else ANSWER
        await exchange.respond(packed, headers={"content-encoding": encoding})

    async with serve(handler) as server:
        assert await body(server.url, Settings(http_library=http_library)) == ANSWER


async def test_status_of_an_error_counts_if_its_body_cannot_be_decompressed(toy: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"???", status=429, headers={"content-encoding": "zzz"})

    async with serve(handler) as server, toy(server.url, max_retries=0) as service:
        with pytest.raises(RemoteError) as caught:
            await service.chat("hi")
    assert caught.value.status == 429


@pytest.mark.parametrize(("encoding", "compress"), [("br", brotli.compress), ("zstd", zstd.compress)])
async def test_encodings_that_a_package_decompresses_are_asked_for(
    http_library: Any, encoding: str, compress: Callable[[bytes], bytes]
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(compress(ANSWER), headers={"content-encoding": encoding})

    async with serve(handler) as server:
        assert await body(server.url, Settings(http_library=http_library)) == ANSWER
    assert encoding in server.requests[0].headers["accept-encoding"]


class OldBrotli:
    """The decompressor of the package brotli before 1.2, which takes no limit."""

    def process(self, data: bytes) -> bytes:
        return data


async def test_brotli_that_is_too_old_is_neither_asked_for_nor_used(
    http_library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"\x8b\x00\x80ok\x03", headers={"content-encoding": "br"})

    monkeypatch.setitem(sys.modules, "brotli", SimpleNamespace(Decompressor=OldBrotli, error=ValueError))
    decompression._factories.cache_clear()
    default_headers.cache_clear()
    aiohttp_transport._default_headers.cache_clear()
    try:
        async with serve(handler) as server, httpx2.AsyncClient(headers={"accept-encoding": "gzip, br"}) as client:
            with pytest.raises(ProtocolViolation, match="br"):
                await body(server.url, Settings(http_library=http_library))
            async with HTTPTransport(client=client) as transport:
                with pytest.raises(ProtocolViolation, match="br"):
                    async with transport.send(WireRequest(url=server.url), SendOptions()) as response:
                        async for _ in response:
                            pass
        assert "br" not in server.requests[0].headers["accept-encoding"]
    finally:
        monkeypatch.undo()
        decompression._factories.cache_clear()
        aiohttp_transport._default_headers.cache_clear()
        default_headers.cache_clear()


# The texts of errors


async def test_failures_have_the_same_text_with_each_library(http_library: Any) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await exchange.hang_up()

    async def short(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\none")
        await exchange.hang_up()

    async def silent(exchange: Exchange) -> None:
        await exchange.hang_up()

    async def garbage(exchange: Exchange) -> None:
        await exchange.raw(b"garbage\r\n\r\n")
        await exchange.hang_up()

    async def huge(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 200 OK\r\nx: " + b"a" * 300_000 + b"\r\n\r\n")
        await exchange.hang_up()

    async def broken_gzip(exchange: Exchange) -> None:
        await exchange.respond(b"no gzip", headers={"content-encoding": "gzip"})

    settings = Settings(http_library=http_library)
    cases: list[tuple[Callable[[Exchange], Any], type[TrunklineError], str]] = [
        (
            cut,
            StreamInterrupted,
            "the connection to {} was lost: the server closed it before the response was complete",
        ),
        (
            short,
            StreamInterrupted,
            "the connection to {} was lost: the server closed it before the response was complete",
        ),
        (
            silent,
            ConnectionFailed,
            "cannot reach {}: the server closed the connection without a response; if it expects TLS, use https in the "
            "URL",
        ),
        (garbage, ConnectionFailed, "cannot reach {}: what the server sent is not valid HTTP"),
        (huge, ConnectionFailed, "cannot reach {}: the headers of the response are too large"),
        (broken_gzip, ProtocolViolation, "the response from {} cannot be decompressed (content-encoding: gzip)"),
    ]
    for handler, kind, text in cases:
        async with serve(handler) as server:
            error = await failure(server.url, settings)
        assert type(error) is kind
        assert "; ".join(filter(None, (error.message, error.advice))) == text.format(server.url)  # type: ignore[attr-defined]
    async with nobody() as address:
        error = await failure(f"http://{address}", settings)
        assert str(error) == f"the provider: cannot reach http://{address}: connection refused"
    error = await failure("http://nowhere.invalid", settings)
    assert "cannot reach http://nowhere.invalid: the name of the host cannot be resolved" in str(error)


@pytest.mark.parametrize(("status", "kind"), [(204, ProtocolViolation), (304, RemoteError), (101, ConnectionFailed)])
async def test_response_that_has_no_body_is_an_error_of_the_provider(
    toy: Any, status: int, kind: type[TrunklineError]
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.raw(b"HTTP/1.1 %d X\r\n\r\n" % status)
        await exchange.hang_up()

    async with serve(handler) as server, toy(server.url, max_retries=0) as service:
        with pytest.raises(kind):
            await service.chat("hi")


@pytest.mark.parametrize("trusted", [True, False])
async def test_key_log_that_cannot_be_written_is_named(
    authority: Authority, http_library: Any, trusted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = {"ca_bundle": str(authority.file)} if trusted else {}
    log = tmp_path / "missing" / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    error = await failure("https://127.0.0.1:9", Settings(http_library=http_library, **values))
    assert isinstance(error, ConfigurationError)
    assert "the environment variable SSLKEYLOGFILE" in str(error)
    assert f"{str(log)!r} cannot be written" in str(error)
    assert "ca_bundle" not in str(error)


async def test_name_of_a_host_with_a_part_that_is_too_long_is_named(http_library: Any) -> None:
    url = f"https://{'a' * 64}.example"
    with pytest.raises(ValueError, match="a URL whose host has at most 63 characters between two dots, not 64"):
        split_url(url)
    error = await failure(url.replace("https", "http"), Settings(http_library=http_library))
    assert isinstance(error, ConnectionFailed)
    assert "the name of the host cannot be resolved" in error.message


def resolve_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    known = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        return [] if host in ("empty.example", b"empty.example") else known(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_name_of_a_host_without_an_address_is_named(http_library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to_nothing(monkeypatch)
    error = await failure("http://empty.example", Settings(http_library=http_library))
    assert isinstance(error, ConnectionFailed)
    assert (
        error.message
        == "cannot reach http://empty.example: the name of the host cannot be resolved (it has no address)"
    )


async def test_name_of_a_proxy_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to_nothing(monkeypatch)
    for scheme in ("http", "socks5"):
        settings = Settings(http_library="httpx2", proxy=f"{scheme}://empty.example:1")
        error = await failure("https://127.0.0.1:9", settings)
        assert isinstance(error, ConnectionFailed)
        assert "it has no address" in error.message
        assert "cannot reach the proxy" in error.message


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_name_without_an_address_is_named_with_the_client_of_the_application(
    library: Any, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to_nothing(monkeypatch)
    async with library.AsyncClient() as client, toy("http://empty.example", client=client, max_retries=0) as service:
        with pytest.raises(ConnectionFailed, match="it has no address"):
            await service.chat("hi")


async def test_body_that_is_not_http_has_the_same_text_with_each_library(http_library: Any) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.chunk(b"one")
        await read_one.wait()
        await exchange.raw(b"zzz\r\n")
        await exchange.hung_up()

    read_one = anyio.Event()
    async with serve(handler) as server:
        with pytest.raises(StreamInterrupted, match="was lost: what the server sent is not valid HTTP"):
            async with sent(server.url, Settings(http_library=http_library)) as response:
                async for _ in response:
                    read_one.set()


# What is left behind


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("stack", ["asyncio-httpx2"])
async def test_log_filter_is_off_after_a_call_that_was_cancelled_while_it_closed(toy: Any, anyio_backend: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.chunk(b'{"open": 1, "text": "one"}\n{"done": 1}\n')
        await exchange.hung_up()

    async def call() -> bool:
        with contextlib.suppress(asyncio.CancelledError):
            async with service.stream("hi") as stream:
                async for _ in stream:
                    pass
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_later(0.01, task.cancel)
        return sending.get()

    async with serve(handler) as server, toy(server.url) as service:
        assert await asyncio.create_task(call()) is False


@pytest.mark.filterwarnings("ignore:unclosed", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_connections_of_an_event_loop_that_has_ended_are_freed() -> None:
    from trunkline._http import aiohttp

    async def call(close: bool) -> None:
        context = HTTPTransports().shared(Settings(http_library="aiohttp"))
        async with serve(ok) as server:
            transport = await context.__aenter__()
            async with transport.send(WireRequest(url=server.url), SendOptions()) as response:
                async for _ in response:
                    pass
            if close:
                await context.__aexit__(None, None, None)

    before = len(aiohttp._reading)
    for close in (True, False):
        for _ in range(5):
            anyio.run(call, close)
        gc.collect()
        assert len(aiohttp._reading) <= before


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_loopback_server_answers_what_is_not_http(scheme: str) -> None:
    """A client that uses TLS, or sends anything else that is not HTTP, gets an error. The test itself goes on."""

    async def handler(exchange: Exchange) -> None:
        await exchange.respond(b"{}")

    async with serve(handler) as server:
        if scheme == "https":
            error = await failure(server.url.replace("http:", "https:"), Settings())
            assert "does not use TLS on this port" in error.message
        else:
            async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
                await stream.send(b"\x16\x03\x01 hello\r\n\r\n")
                assert (await stream.receive()).startswith(b"HTTP/1.1 400 ")
        assert not server.requests


@pytest.mark.parametrize("password", ["pass word", "pass/word"])
def test_password_of_a_proxy_that_is_not_percent_encoded_is_explained(password: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
        Settings(proxy=f"http://user:{password}@127.0.0.1:8080")
    assert "word" not in str(caught.value).replace("password", "")


def test_unix_url_names_the_right_scheme() -> None:
    with pytest.raises(ValueError, match=r"starts with http\+unix:// for a Unix socket"):
        split_url("unix:///tmp/s.sock")
