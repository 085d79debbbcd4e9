"""Connections to Unix sockets whose queue is full (fault class 78)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trunkline._http import unix_sockets
from trunkline.errors import ConnectTimeout

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.each_stack,
    # Elsewhere, a full queue refuses the connection.
    pytest.mark.skipif("not sys.platform.startswith('linux')", reason="only Linux waits for a place in the queue"),
]

ANSWER = b'{"text": "hi"}'


class Full:
    """A socket that listens, and whose queue is full until `empty` is called."""

    def __init__(self, path: Path) -> None:
        self.url = "http+unix://" + str(path).replace("/", "%2F")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(0)
        self.waiting: list[socket.socket] = []
        with suppress(BlockingIOError):
            while True:
                client = socket.socket(socket.AF_UNIX)
                self.waiting.append(client)
                client.setblocking(False)
                client.connect(str(path))

    def empty(self) -> None:
        self.listener.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.listener.accept()[0].close()

    def close(self) -> None:
        for opened in (self.listener, *self.waiting):
            opened.close()


@pytest.fixture
def full(socket_folder: Path) -> Iterator[Full]:
    server = Full(socket_folder / "s")
    yield server
    server.close()


class Counting(socket.socket):
    attempts = 0

    def connect(self, address: Any, /) -> None:
        type(self).attempts += 1
        super().connect(address)


@pytest.mark.parametrize("method", ["chat", "stream"])
async def test_full_queue_is_a_connect_timeout_and_tried_again_after_pauses(
    toy: Any, full: Full, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_sockets.socket, "socket", Counting)
    monkeypatch.setattr(Counting, "attempts", 0)
    with anyio.fail_after(30), pytest.raises(ConnectTimeout, match="within connect_timeout"):
        async with toy(full.url, connect_timeout=0.5, max_retries=0) as service:
            if method == "chat":
                await service.chat("hi")
            else:
                async with service.stream("hi") as stream:
                    await stream.finish()
    assert 0 < Counting.attempts < 50


async def test_call_waits_for_a_place_in_the_queue(toy: Any, full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_sockets.socket, "socket", Counting)
    monkeypatch.setattr(Counting, "attempts", 0)
    answers = []

    async def ask(service: Any) -> None:
        answers.append((await service.chat("hi")).text)

    def answer(listener: socket.socket) -> None:
        listener.setblocking(True)
        while True:
            accepted = listener.accept()[0]
            with accepted:
                data = b""
                while b"\r\n\r\n" not in data:
                    received = accepted.recv(65536)
                    if not received:
                        break
                    data += received
                else:
                    accepted.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER))
                    return

    async with toy(full.url, connect_timeout=30, max_retries=0) as service:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, service)
                while not Counting.attempts:
                    await anyio.lowlevel.checkpoint()
                full.empty()
                await anyio.to_thread.run_sync(answer, full.listener)
    assert answers == ["hi"]


async def test_cancelled_attempt_closes_its_socket(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    class Recorded(Counting):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            opened.append(self)

    monkeypatch.setattr(unix_sockets.socket, "socket", Recorded)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(unix_sockets.connect, full.url.partition("://")[2].replace("%2F", "/"))
            while not opened:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    assert [one.fileno() for one in opened] == [-1]
