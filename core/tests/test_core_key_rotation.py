"""An API key from a file or a function is read again after a 401, so a key can be replaced without a restart."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from trunkline._config.sources import make_settings
from trunkline.authoring.provider import Provider
from trunkline.errors import AuthenticationError, ConfigurationError, PluginError, RemoteError
from trunkline.secrets import Secret
from trunkline.settings import Settings
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio

OLD, NEW = "first-key-0123456789", "second-key-9876543210"


class Server:
    """Accepts one key, and notes the keys that it got."""

    def __init__(self) -> None:
        self.accepted = OLD
        self.seen: list[str] = []
        self.url = ""

    async def answer(self, exchange: Exchange) -> None:
        key = exchange.request.headers["authorization"].removeprefix("Bearer ")
        self.seen.append(key)
        if key == self.accepted:
            await exchange.respond(b'{"text": "hello"}')
        else:
            await exchange.respond(f"wrong key {key}".encode(), status=401)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    async with serve(made.answer) as running:
        made.url = running.url
        yield made


def referring(provider: Provider, folder: Path, reference: dict[str, str], environ: dict[str, str]) -> Secret:
    """Return the key that a configuration file in `folder` refers to."""
    table = {"url": "http://localhost", "api_key": reference}
    made: Any = make_settings("main", provider, arguments={}, table=table, environ=environ, folder=folder)
    key: Secret = made.api_key
    return key


@pytest.mark.parametrize("kind", ["file", "env"])
async def test_key_of_a_reference_is_read_again_after_a_401(
    toy: Any, server: Server, tmp_path: Path, kind: str
) -> None:
    environ = {"KEY": OLD}
    (tmp_path / "key").write_text(f"{OLD}\n")
    key = referring(toy(server.url)._provider, tmp_path, {"file": "key"} if kind == "file" else {"env": "KEY"}, environ)
    async with toy(server.url, api_key=key) as service:
        assert (await service.chat("hi")).text == "hello"
        server.accepted = environ["KEY"] = NEW
        (tmp_path / "key").write_text(f"{NEW}\n")
        for _ in range(2):
            assert (await service.chat("hi")).text == "hello"
        assert server.seen == [OLD, OLD, NEW, NEW]
        server.accepted = "neither"
        with pytest.raises(AuthenticationError) as caught:
            await service.chat("hi")
        assert server.seen[4:] == [NEW], "the same key was sent again"
        assert NEW not in str(caught.value)
        (tmp_path / "key").unlink()
        del environ["KEY"]
        with pytest.raises(ConfigurationError, match="setting 'api_key' refers to"):
            await service.chat("hi")


async def test_function_gives_the_key_before_the_first_request_and_after_a_401(toy: Any, server: Server) -> None:
    threads = []

    def key() -> str:
        threads.append(threading.current_thread())
        return f"{server.accepted}\n"

    async with toy(server.url, api_key=key) as service:
        assert threads == []
        for accepted in (OLD, OLD, NEW):
            server.accepted = accepted
            assert (await service.chat("hi")).text == "hello"
    assert server.seen == [OLD, OLD, OLD, NEW]
    assert len(threads) == 2
    assert threading.current_thread() not in threads


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (lambda: "", "must be a string that is not empty"),
        (lambda: None, "must be a string, not NoneType"),
        (lambda: "a key\nof two lines", "printable ASCII"),
    ],
)
async def test_function_that_returns_no_key_is_a_configuration_error(
    toy: Any, server: Server, key: Callable[[], str], message: str
) -> None:
    async with toy(server.url, api_key=key) as service:
        with pytest.raises(ConfigurationError, match=message):
            await service.chat("hi")
    assert server.seen == []


async def test_function_that_fails_is_reported_without_the_key(toy: Any, server: Server) -> None:
    def key() -> str:
        if server.seen:
            raise LookupError(f"no key after {OLD}")
        return OLD

    async with toy(server.url, api_key=key) as service:
        await service.chat("hi")
        server.accepted = NEW
        with pytest.raises(PluginError, match=r"LookupError: no key after \*\*\*"):
            await service.chat("hi")


def test_only_a_key_that_is_declared_for_it_may_be_a_function() -> None:
    with pytest.raises(ConfigurationError, match="client_key_passphrase"):
        Settings(client_certificate="c", client_key="k", client_key_passphrase=lambda: OLD)  # type: ignore[arg-type]


async def test_error_of_a_call_with_an_old_key_does_not_show_it(toy: Any) -> None:
    keys = iter([f"key-number-{number}-0123456789" for number in range(9)])
    slow = anyio.Event()

    async def answer(exchange: Exchange) -> None:
        if b"slow" in exchange.request.body:
            await slow.wait()
            await exchange.respond(exchange.request.headers["authorization"].encode(), status=400)
        else:
            await exchange.respond(b"expired", status=401)

    async def call() -> None:
        with pytest.raises(RemoteError) as caught:
            await service.chat("slow")
        assert "0123456789" not in str(caught.value)

    async with serve(answer) as server, toy(server.url, api_key=lambda: next(keys)) as service:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
            for _ in range(6):
                with pytest.raises(AuthenticationError):
                    await service.chat("fast")
            slow.set()
