"""Limits that instances share by a real Redis server, which restarts, crashes, hangs and forgets."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import anyio
import hammer_limits
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gateway_servers import RedisServer, free_port, redis_server
from trunkline import ConfigurationError, Secret
from trunkline_gateway.limits import Grant, LimiterUnavailable, LimitExceeded, RateLimiter
from trunkline_gateway.redis_limits import RedisLimiter

pytestmark = pytest.mark.anyio

LONG = 20.0
"""Seconds. The machine of the tests may be busy, so only tests of the time limit have a short one."""


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


def closed(server: RedisServer, *, timeout: float = LONG) -> RedisLimiter:
    return RedisLimiter(Secret(server.url), failure="closed", timeout=timeout)


async def granted(limiter: RateLimiter, *, requests: int = 100, tokens: int = 1, limit: int | None = None) -> Grant:
    return await limiter.acquire("key", tokens, requests_per_minute=requests, tokens_per_minute=limit)


async def until_back(limiter: RedisLimiter) -> None:
    """Wait until the limiter has found its server again by itself."""
    with anyio.fail_after(60):
        while True:
            try:
                return await limiter.check()
            except LimiterUnavailable:
                await anyio.sleep(0.01)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "trunkline_gateway"]


async def test_calls_are_refused_while_the_server_is_down(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with closed(redis) as limiter:
        grant = await granted(limiter)
        redis.kill()
        for _ in range(5):
            with pytest.raises(LimiterUnavailable):
                await granted(limiter)
            with pytest.raises(LimiterUnavailable):
                await limiter.check()
        await limiter.settle(grant, 100)
        redis.start()
        await until_back(limiter)
        await granted(limiter, requests=1)
    lost, back = messages(caplog)
    assert lost.startswith(f"Redis at 127.0.0.1:{redis.port} is lost, so calls with limits are refused: ")
    assert back == f"Redis at 127.0.0.1:{redis.port} is back"


async def test_a_server_that_never_was_there_refuses_and_is_found_later(redis: RedisServer) -> None:
    redis.stop()
    async with closed(redis) as limiter:
        with pytest.raises(LimiterUnavailable):
            await granted(limiter)
        redis.start()
        await until_back(limiter)
        await granted(limiter)


async def test_each_instance_goes_on_counting_if_the_policy_is_open(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisLimiter(Secret(redis.url), failure="open", timeout=LONG) as limiter:
        for _ in range(2):
            await limiter.settle(await granted(limiter, requests=3, tokens=40), 1)
        redis.kill()
        # What Redis granted to this instance still counts.
        grant = await granted(limiter, requests=3, tokens=50)
        with pytest.raises(LimitExceeded):
            await granted(limiter, requests=3)
        await limiter.settle(grant, 10)
        window = (await granted(limiter, limit=100)).tokens_window
        assert window is not None
        assert window.remaining == 100 - (1 + 1 + 10 + 1)
        redis.start()
        await until_back(limiter)
        await limiter.settle(grant, 10)
        await granted(limiter, requests=1)
    assert "each instance counts by itself" in messages(caplog)[0]


async def test_counts_survive_a_restart_of_a_durable_server() -> None:
    with redis_server(is_durable=True) as server:
        async with closed(server) as limiter:
            grant = await granted(limiter, requests=2, tokens=60, limit=100)
            server.kill()
            server.start()
            await until_back(limiter)
            await limiter.settle(grant, 40)
            await granted(limiter, requests=2, tokens=60, limit=100)
            with pytest.raises(LimitExceeded):
                await granted(limiter, requests=2)


async def test_scripts_that_the_server_forgot_are_sent_again(redis: RedisServer) -> None:
    async with closed(redis) as limiter:
        grant = await granted(limiter, tokens=10, limit=10)
        assert redis.send("SCRIPT", "FLUSH") == "+OK"
        await limiter.settle(grant, 5)
        redis.send("SCRIPT", "FLUSH")
        await granted(limiter, tokens=5, limit=10)
        with pytest.raises(LimitExceeded):
            await granted(limiter, tokens=1, limit=10)


async def test_counts_that_the_server_forgot_begin_anew(redis: RedisServer) -> None:
    async with closed(redis) as limiter:
        grant = await granted(limiter, requests=1, tokens=10)
        redis.send("FLUSHALL")
        await limiter.settle(grant, 5)
        assert redis.send("DBSIZE") == ":0"
        await granted(limiter, requests=1)


async def test_a_server_that_hangs_is_not_waited_for_twice(redis: RedisServer) -> None:
    async with closed(redis, timeout=0.2) as limiter:
        await until_back(limiter)
        redis.pause()
        with pytest.raises(LimiterUnavailable):
            await granted(limiter)
        # Both fail without waiting: nothing can run between the two lines.
        for _ in range(100):
            with pytest.raises(LimiterUnavailable):
                await granted(limiter)
        redis.resume()
        await until_back(limiter)


@pytest.mark.parametrize("is_connected", [True, False])
async def test_a_blocked_event_loop_does_not_count_as_a_lost_server(
    redis: RedisServer, caplog: pytest.LogCaptureFixture, is_connected: bool
) -> None:
    limit = 0.4
    async with closed(redis, timeout=limit) as limiter:
        if is_connected:
            await until_back(limiter)
            caplog.clear()
        calls = [asyncio.create_task(granted(limiter)) for _ in range(20)]
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        time.sleep(2 * limit)  # noqa: ASYNC251
        assert len(await asyncio.gather(*calls)) == 20
    assert messages(caplog) == []


async def test_a_server_that_accepts_connections_and_never_answers_is_down() -> None:
    async def say_nothing(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, say_nothing)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with RedisLimiter(Secret(f"redis://127.0.0.1:{port}"), failure="closed", timeout=0.2) as limiter:
            for _ in range(3):
                with pytest.raises(LimiterUnavailable):
                    await granted(limiter)
        tasks.cancel_scope.cancel()


async def test_a_caller_that_is_cancelled_disturbs_no_other(redis: RedisServer) -> None:
    async with closed(redis) as limiter:
        await granted(limiter)

        async def cancelled() -> None:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(granted, limiter)
                    await anyio.lowlevel.checkpoint()
                    scope.cancel()

        async def kept(number: int) -> None:
            grant = await limiter.acquire(f"key {number}", number, requests_per_minute=9, tokens_per_minute=1000)
            assert grant.tokens_window is not None
            assert grant.tokens_window.remaining == 1000 - number

        async with anyio.create_task_group() as tasks:
            for number in range(1, 100):
                tasks.start_soon(cancelled)
                tasks.start_soon(kept, number)
        assert redis.send("PING") == "+PONG"


async def test_an_error_of_the_server_counts_as_down(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async with closed(redis) as limiter:
        await granted(limiter)
        redis.send("CONFIG", "SET", "maxmemory", "1")
        for _ in range(2):
            with pytest.raises(LimiterUnavailable):
                await granted(limiter)
        redis.send("CONFIG", "SET", "maxmemory", "0")
        await granted(limiter)
    lost, back = messages(caplog)
    assert "OOM" in lost
    assert back.endswith("is back")


async def test_a_server_that_becomes_a_replica_counts_as_down(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with closed(redis) as limiter:
        await granted(limiter)
        redis.send("REPLICAOF", "127.0.0.1", "1")
        for _ in range(3):
            with pytest.raises(LimiterUnavailable):
                await granted(limiter)
            with pytest.raises(LimiterUnavailable):
                await limiter.check()
        redis.send("REPLICAOF", "NO", "ONE")
        await until_back(limiter)
        await granted(limiter)
    lost, back = messages(caplog)
    assert "read only replica" in lost
    assert back.endswith("is back")


async def test_one_key_of_the_server_holds_a_key_and_expires(redis: RedisServer) -> None:
    async with closed(redis) as limiter:
        grant = await granted(limiter)
        await limiter.settle(grant, 3)
    assert redis.send("DBSIZE") == ":1"
    assert redis.send("TYPE", "trunkline:limits:key") == "+hash"
    assert 60 <= int(redis.send("TTL", "trunkline:limits:key")[1:]) <= 62


@pytest.mark.parametrize("password", ["simple", "p@ss:w/rd?#%&= ü"])
async def test_passwords_and_databases_of_the_url(password: str) -> None:
    with redis_server(password=password) as server:
        url = f"redis://:{quote(password, safe='')}@127.0.0.1:{server.port}/3"
        async with RedisLimiter(Secret(url), failure="closed", timeout=LONG) as limiter:
            await granted(limiter)
        assert server.send("DBSIZE") == ":0"
        url = f"unix://:{quote(password, safe='')}@{server.socket}?db=3"
        async with RedisLimiter(Secret(url), failure="closed", timeout=LONG) as limiter:
            with pytest.raises(LimitExceeded):
                await granted(limiter, requests=1)


async def test_a_wrong_password_is_reported_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with redis_server(password="right-one") as server:
        url = f"redis://:wrong-one@127.0.0.1:{server.port}"
        async with RedisLimiter(Secret(url), failure="closed", timeout=LONG) as limiter:
            with pytest.raises(LimiterUnavailable):
                await granted(limiter)
    assert "invalid username-password pair" in messages(caplog)[0]
    assert "wrong-one" not in caplog.text


async def test_a_server_that_repeats_the_password_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    """Redis 5 answers an unknown command with its arguments, and `HELLO` has the password among them."""

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(
                b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `p@ss`\r\n"
            )
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        url = f"redis://:p%40ss@127.0.0.1:{port}"
        async with RedisLimiter(Secret(url), failure="closed", timeout=LONG) as limiter:
            with pytest.raises(LimiterUnavailable):
                await granted(limiter)
        tasks.cancel_scope.cancel()
    assert "unknown command" in messages(caplog)[0]
    assert "p@ss" not in caplog.text


def certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """Make a self-signed certificate for an address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(*encoding))
    return paths


async def test_tls_checks_the_certificate(tmp_path: Path) -> None:
    with redis_server(tls=certificate(tmp_path, "127.0.0.1")) as server:
        async with closed(server) as limiter:
            await granted(limiter)
        # The system does not know the certificate.
        async with RedisLimiter(Secret(server.url.split("?")[0]), failure="closed", timeout=LONG) as limiter:
            with pytest.raises(LimiterUnavailable):
                await granted(limiter)


async def test_tls_checks_the_name_in_the_certificate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server(tls=certificate(tmp_path, "127.0.0.2")) as server:
        async with closed(server) as limiter:
            with pytest.raises(LimiterUnavailable):
                await granted(limiter)
    assert "IP address mismatch" in messages(caplog)[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@127.0.0.1",
        "redis://:secret@127.0.0.1:port",
        "redis://:secret@127.0.0.1:0",
        "redis://:secret@127.0.0.1/first",
        "redis://",
        "unix://:secret@host/path",
        "unix://",
        "rediss://:secret@127.0.0.1?ssl_cert_reqs=none",
        "rediss://:secret@127.0.0.1?ssl_ca_certs=/does/not/exist",
        "",
    ],
)
def test_a_wrong_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        RedisLimiter(Secret(url), failure="closed")
    assert "secret" not in str(refused.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coredis.connection", None)
    with pytest.raises(ConfigurationError, match=r'pip install "trunkline-gateway\[redis\]"'):
        RedisLimiter(Secret("redis://127.0.0.1"), failure="closed")


async def test_a_limiter_that_is_closed_refuses() -> None:
    limiter = RedisLimiter(Secret(f"redis://127.0.0.1:{free_port()}"), failure="closed")
    await limiter.aclose()
    await limiter.aclose()
    with pytest.raises(LimiterUnavailable):
        await granted(limiter)


async def test_closing_ends_the_calls_that_wait(redis: RedisServer) -> None:
    async with closed(redis) as limiter:
        await granted(limiter)
        redis.pause()
        call = asyncio.create_task(granted(limiter))
        await anyio.lowlevel.checkpoint()
        await limiter.aclose()
        with pytest.raises(LimiterUnavailable):
            await call
        redis.resume()


async def test_closing_at_the_moment_of_a_time_limit_ends(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_gateway.redis_link._PARTS", 1)
    limiter = closed(redis, timeout=0.1)
    calls = [asyncio.create_task(granted(limiter)) for _ in range(20)]
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    time.sleep(0.2)  # noqa: ASYNC251
    answers = await asyncio.gather(*calls, return_exceptions=True)
    with anyio.fail_after(LONG):
        await limiter.aclose()
    assert len(answers) == 20


@pytest.mark.parametrize(
    ("requests", "tokens", "limit", "expected"), [(777, 1, 1_000_000, 777), (1_000_000, 7, 3_500, 500)]
)
def test_four_processes_together_get_exactly_the_limit(
    redis: RedisServer, requests: int, tokens: int, limit: int, expected: int
) -> None:
    command = [sys.executable, hammer_limits.__file__, redis.url, *map(str, (400, requests, tokens, limit))]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        redis.send("SCRIPT", "FLUSH")
        got = [int(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sum(got) == expected
