"""How a gateway's process behaves: heads, bodies and connections that are too much, draining, reloading, crashing."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from gateway_process import TRUNKLINE, GatewayProcess, gateway_process
from streaming_server import service, streaming_server


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with streaming_server() as url:
        yield url


@pytest.fixture(scope="module")
def gateway(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    options = ("--idle-timeout", "2", "--max-body", "1000000")
    with gateway_process(folder, *options, services=service(provider)) as process:
        yield process


def address(gateway: GatewayProcess) -> tuple[str, int]:
    url = httpx.URL(gateway.url)
    assert url.port is not None
    return url.host, url.port


def exchange(gateway: GatewayProcess, *parts: bytes, timeout: float = 20) -> bytes:
    """Send bytes, and return all that comes back until the connection is closed."""
    with socket.create_connection(address(gateway), timeout=timeout) as connection:
        received = b""
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except ConnectionResetError:
            pass
        return received


def test_the_first_lines_say_that_a_model_is_missing(tmp_path: Path) -> None:
    services = '[services.small]\nprovider = "llamacpp"\nmodel_path = "/nowhere/model.gguf"\n'
    with gateway_process(tmp_path, services=services) as gateway:
        assert gateway.process.stdout is not None
        assert gateway.process.stdout.readline().startswith("Console ")
        assert gateway.process.stdout.readline().startswith("Model    service 'small': ")


def test_health_and_readiness_need_no_key(gateway: GatewayProcess) -> None:
    assert httpx.get(f"{gateway.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{gateway.url}/readyz").json() == {"status": "ready"}


def test_metrics_count_calls_and_have_no_key(gateway: GatewayProcess) -> None:
    key = gateway.create_key("metrics")
    body = {"model": "main", "messages": [{"role": "user", "content": "hello"}]}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers={"x-api-key": key})
    assert answer.status_code == 200
    text = httpx.get(f"{gateway.url}/metrics").text
    assert 'trunkline_gateway_calls_total{api="/v1/chat/completions",outcome="ok",service="main"} 1.0' in text
    assert key not in text
    assert httpx.get(f"{gateway.url}/metrics", headers={"x-forwarded-for": "203.0.113.1"}).status_code == 401


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01nonsense\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
    ],
)
def test_wrong_requests_do_not_fill_the_log(gateway: GatewayProcess, sent: bytes) -> None:
    before = gateway.log.read_text()
    assert exchange(gateway, sent).startswith(b"HTTP/1.1 ")
    assert gateway.log.read_text() == before


def test_a_head_that_is_too_long_is_refused(gateway: GatewayProcess) -> None:
    head = b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"a: " + b"b" * 70_000 + b"\r\n\r\n"
    assert b" 431 " in exchange(gateway, head)
    endless = [b"GET /healthz HTTP/1.1\r\nhost: x\r\n", *(b"a%d: b\r\n" % number for number in range(20_000))]
    assert b" 431 " in exchange(gateway, *endless)


def test_a_head_that_does_not_arrive_ends_the_connection(gateway: GatewayProcess) -> None:
    assert exchange(gateway, b"") == b""
    assert exchange(gateway, b"GET /healthz HTTP/1.1\r\nhost: x\r\n") == b""


def test_a_body_that_is_too_large_is_refused_before_it_is_read(gateway: GatewayProcess) -> None:
    key = gateway.create_key("large").encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: " + key + b"\r\n"
    declared = exchange(gateway, head + b"content-length: 1073741824\r\n\r\n", b"[" * 1000)
    assert b" 413 " in declared
    piece = b"%x\r\n%s\r\n" % (65536, b"[" * 65536)
    undeclared = exchange(gateway, head + b"transfer-encoding: chunked\r\n\r\n", *[piece] * 64)
    assert b" 413 " in undeclared


def test_a_body_that_does_not_arrive_is_refused(gateway: GatewayProcess) -> None:
    key = gateway.create_key("slow").encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: " + key + b"\r\ncontent-length: 100\r\n\r\n"
    assert b" 408 " in exchange(gateway, head + b"{")


def test_a_body_without_a_valid_key_is_not_read(gateway: GatewayProcess) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n"
    assert b" 401 " in exchange(gateway, head)


def test_ten_thousand_idle_connections_are_closed_and_others_are_served(gateway: GatewayProcess) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 10_000
    if hard != resource.RLIM_INFINITY and hard < count + 500:
        pytest.skip(f"this process may open only {hard} files")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 500, hard))
    try:
        with ExitStack() as stack:
            connections = [
                stack.enter_context(closing(socket.create_connection(address(gateway), timeout=30)))
                for _ in range(count)
            ]
            assert httpx.get(f"{gateway.url}/healthz", timeout=30).status_code == 200
            assert all(connection.recv(1) == b"" for connection in connections)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _read_stream(url: str, key: str, lines: list[str], started: threading.Event) -> None:
    body = {"model": "main", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    with httpx.stream(
        "POST", f"{url}/v1/chat/completions", json=body, headers={"x-api-key": key}, timeout=60
    ) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            started.set()


def test_streams_in_flight_end_by_themselves_after_sigterm(provider: str, tmp_path: Path) -> None:
    services = service(f"{provider}/slow")
    with gateway_process(tmp_path, "--drain-timeout", "20", services=services) as gateway:
        lines: list[str] = []
        started = threading.Event()
        thread = threading.Thread(target=_read_stream, args=(gateway.url, gateway.create_key(), lines, started))
        thread.start()
        assert started.wait(30)
        assert gateway.stop() == 0
        thread.join(30)
        assert "data: [DONE]" in lines
        log = gateway.log.read_text()
        assert '"ok"' in log or "chat/completions ok" in log


def test_streams_that_do_not_end_are_ended_when_the_drain_time_is_over(provider: str, tmp_path: Path) -> None:
    services = service(f"{provider}/endless")
    with gateway_process(tmp_path, "--drain-timeout", "1", services=services) as gateway:
        lines: list[str] = []
        started = threading.Event()
        thread = threading.Thread(target=_read_stream, args=(gateway.url, gateway.create_key(), lines, started))
        thread.start()
        assert started.wait(30)
        began = time.monotonic()
        assert gateway.stop(timeout=15) == 0
        assert time.monotonic() - began < 15
        thread.join(30)
        data = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
        assert "error" in data[-1]
        assert "data: [DONE]" not in lines


def test_a_changed_file_of_services_is_read_after_sighup(provider: str, tmp_path: Path) -> None:
    with gateway_process(tmp_path, services=service(provider)) as gateway:
        key = gateway.create_key()
        body = {"model": "second", "messages": [{"role": "user", "content": "hello"}]}

        def status() -> int:
            url = f"{gateway.url}/v1/chat/completions"
            return httpx.post(url, json=body, headers={"x-api-key": key}).status_code

        assert status() == 404
        (tmp_path / "trunkline.toml").write_text(service(provider, "second"))
        gateway.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while (found := status()) != 200 and time.monotonic() < deadline:
            pass
        assert found == 200
        (tmp_path / "trunkline.toml").write_text("[services.second\n")
        gateway.process.send_signal(signal.SIGHUP)
        while "not reloaded" not in gateway.log.read_text() and time.monotonic() < deadline:
            pass
        assert status() == 200


def test_a_reload_during_the_start_does_not_end_the_gateway(tmp_path: Path) -> None:
    pytest.importorskip("asyncpg")
    with socket.create_server(("127.0.0.1", 0)) as database:
        url = f"postgresql://user@127.0.0.1:{database.getsockname()[1]}/gateway"
        command = [*TRUNKLINE, "serve", "--port", "0", "--data-dir", str(tmp_path), "--database", url]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        database.settimeout(60)
        connection, _ = database.accept()  # so it starts
        process.send_signal(signal.SIGHUP)
        connection.close()
        database.close()
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.startswith("trunkline: the database")) == (1, True)


def start(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `trunkline serve` where it cannot start."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLINE_GATEWAY_")}
    command = [*TRUNKLINE, "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment | variables, check=False)


def test_a_port_in_use_is_reported_in_one_line_and_the_key_of_the_first_start_is_not_lost(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = start("--port", str(other.getsockname()[1]), "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"trunkline: cannot listen on host 127.0.0.1, port \d+: .*--port\n", done.stderr)
    assert not (tmp_path / "data" / "gateway.sqlite3").exists()


def test_a_blank_variable_or_one_of_kubernetes_sets_nothing_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    blanks = dict.fromkeys(("PORT", "SERVICES", "HOST", "OIDC_ISSUER", "OIDC_ADMINS", "LOG_FORMAT"), "")
    kubernetes = {"PORT": "tcp://10.0.0.1:8080", "PORT_8080_TCP_PORT": "8080", "SERVICE_HOST": "10.0.0.1"}
    variables = {f"TRUNKLINE_GATEWAY_{name}": value for name, value in {**blanks, **kubernetes}.items()}
    done = start("--data-dir", str(tmp_path), **{**variables, "TRUNKLINE_GATEWAY_PUBLIC_URL": "nonsense"})
    assert done.returncode == 1
    assert re.fullmatch(r"trunkline: the gateway's setting public_url must be .*\n", done.stderr)
