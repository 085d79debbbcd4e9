"""The open services: read from a store or a file, held by calls, and replaced."""

from __future__ import annotations

import json
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import anyio
import anyio.abc
import pytest
from trunkline import ConfigurationError, JSONValue, Service, ServiceClosed
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.services import ServiceStore, StoredService
from trunkline_gateway.encryption import Encryption
from trunkline_gateway.models import Models
from trunkline_gateway.problems import GatewayError
from trunkline_gateway.services import Services, ServiceState

from .gateway_store import MemoryStore

pytestmark = pytest.mark.anyio

KEY = "sk-test-0123456789abcdef"


class Backend:
    """A server with OpenAI's API on loopback. It answers with its name, once `answer` is set."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests: list[tuple[str, str]] = []
        """The `Authorization` and the path of each request."""
        self.connections = 0
        self.arrived = anyio.Event()
        self.all_closed = anyio.Event()
        self.answer = anyio.Event()
        self.answer.set()
        self.url = ""

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            self.url = f"http://127.0.0.1:{port}/v1"
            task_status.started()
            await listener.serve(self._handle)

    async def _handle(self, stream: anyio.abc.SocketStream) -> None:
        self.connections += 1
        async with stream:
            buffered = b""
            while True:
                try:
                    while b"\r\n\r\n" not in buffered:
                        buffered += await stream.receive()
                    head, _, rest = buffered.partition(b"\r\n\r\n")
                    lines = head.decode().split("\r\n")
                    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
                    length = int(headers.get("content-length", 0))
                    while len(rest) < length:
                        rest += await stream.receive()
                    buffered = rest[length:]
                    self.requests.append((headers.get("authorization", ""), lines[0].split(" ")[1]))
                    self.arrived.set()
                    await self.answer.wait()
                    await stream.send(self._response(lines[0]))
                except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    break
        self.connections -= 1
        if not self.connections:
            self.all_closed.set()

    def _response(self, line: str) -> bytes:
        if line.startswith("GET"):
            content: object = {"object": "list", "data": [{"id": "m", "object": "model"}]}
        else:
            message = {"role": "assistant", "content": self.name}
            content = {
                "id": "c",
                "object": "chat.completion",
                "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        body = json.dumps(content).encode()
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@pytest.fixture
async def backend() -> AsyncIterator[Callable[[str], Awaitable[Backend]]]:
    """Starts servers, which end with the test."""
    async with anyio.create_task_group() as tasks:

        async def start(name: str) -> Backend:
            server = Backend(name)
            await tasks.start(server.serve)
            return server

        yield start
        tasks.cancel_scope.cancel()


def compatible(name: str, url: str, **settings: object) -> StoredService:
    table = {"provider": "openai-compatible", "api_url": url, "default_model": "m", **settings}
    return StoredService(name=name, table=table, secrets={"api_key": KEY})  # type: ignore[arg-type]


def composed(name: str, **table: object) -> StoredService:
    return StoredService(name=name, table=table)  # type: ignore[arg-type]


def services_of(store: MemoryStore, *networks: str) -> Services:
    return Services(cast("ServiceStore", store), allowed_networks=networks)


def state(services: Services, name: str) -> ServiceState:
    return next(found for found in services.states() if found.name == name)


async def say(services: Services, name: str) -> str | None:
    async with services.use(name) as service:
        return (await service.chat("hello")).text


URL = "http://127.0.0.1:9/v1"


# Names


async def test_a_model_name_is_a_service_and_a_model() -> None:
    services = services_of(MemoryStore(compatible("main", URL)))
    await services.reload()
    target = services.resolve("main/meta/llama-3")
    assert (target.service, target.model, target.provider) == ("main", "meta/llama-3", "openai-compatible")
    assert target.wire == "openai-chat"
    await services.aclose()


async def test_a_service_name_alone_means_its_default_model() -> None:
    services = services_of(MemoryStore(compatible("main", URL)))
    await services.reload()
    target = services.resolve("main")
    assert (target.service, target.model, target.wire) == ("main", "m", "openai-chat")
    await services.aclose()


async def test_an_alias_stands_for_a_service_and_a_model() -> None:
    services = services_of(MemoryStore(compatible("main", URL)))
    await services.reload()
    await services.set_alias("fast", "main/small")
    target = services.resolve("fast")
    assert (target.name, target.service, target.model) == ("fast", "main", "small")
    await services.set_alias("fast", None)
    with pytest.raises(GatewayError):
        services.resolve("fast")
    await services.aclose()


async def test_an_alias_is_listed_for_whoever_may_use_its_model_unless_its_service_is_gone() -> None:
    services = services_of(MemoryStore(compatible("main", URL), compatible("gone", URL)))
    await services.reload()
    for alias, target in (("fast", "main"), ("small", "main/small"), ("dead", "gone/m")):
        await services.set_alias(alias, target)
    await services.delete("gone")
    listed = {model.info.id: model.names for model in await Models(services).list()}
    assert listed == {"fast": ("fast", "main/m"), "small": ("small", "main/small"), "main/m": ("main/m",)}
    await services.aclose()


@pytest.mark.parametrize("name", ["", "/", "other", "other/m", "main/", "/main", "Main", "main\n", "x" * 100_000])
async def test_an_unknown_model_is_not_found_and_no_service_is_named(name: str) -> None:
    services = services_of(MemoryStore(compatible("main", URL), compatible("hidden", URL)))
    await services.reload()
    with pytest.raises(GatewayError) as caught:
        services.resolve(name)
    problem = caught.value.problem
    assert (problem.status, problem.code) == (404, "model_not_found")
    assert "hidden" not in problem.message
    assert len(problem.message) < 300
    assert "\n" not in problem.message
    await services.aclose()


async def test_many_model_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_gateway.services._MAX_TARGETS", 10)
    services = services_of(MemoryStore(compatible("main", URL)))
    await services.reload()
    for number in range(100):
        assert services.resolve(f"main/model-{number}").model == f"model-{number}"
    assert len(services._targets) <= 10
    await services.aclose()


async def test_a_service_with_an_error_answers_503_without_the_reason() -> None:
    store = MemoryStore(StoredService(name="main", table={"provider": "openai-compatible", "api_url": "ftp://x"}))
    services = services_of(store)
    await services.reload()
    assert services.resolve("main/m").service == "main"
    with pytest.raises(GatewayError) as caught:
        await say(services, "main")
    assert caught.value.problem.status == 503
    assert "ftp" not in caught.value.problem.message
    await services.aclose()


# Replacing


async def test_an_unchanged_service_stays_open(backend: Callable[[str], Awaitable[Backend]]) -> None:
    server = await backend("one")
    store = MemoryStore(compatible("main", server.url), compatible("other", server.url))
    services = services_of(store)
    await services.reload()
    async with services.use("main") as before:
        pass
    await store.save(compatible("other", server.url, default_model="n"))
    await services.reload()
    async with services.use("main") as after:
        pass
    assert after is before
    await services.aclose()


async def test_a_call_in_flight_ends_on_the_old_settings(backend: Callable[[str], Awaitable[Backend]]) -> None:
    old, new = await backend("old"), await backend("new")
    store = MemoryStore(compatible("main", old.url))
    services = services_of(store)
    await services.reload()
    old.answer = anyio.Event()
    answers: list[str | None] = []

    async def call() -> None:
        answers.append(await say(services, "main"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await old.arrived.wait()
        await store.save(compatible("main", new.url))
        await services.reload()
        assert state(services, "main").calls == 1
        assert await say(services, "main") == "new"
        assert old.connections == 1
        old.answer.set()
    assert answers == ["old"]
    assert state(services, "main").calls == 0
    await old.all_closed.wait()
    await services.aclose()


async def test_a_call_of_a_composed_service_holds_its_members(backend: Callable[[str], Awaitable[Backend]]) -> None:
    old, new = await backend("old"), await backend("new")
    store = MemoryStore(compatible("a", old.url), compatible("b", old.url), composed("both", fallback=["a", "b"]))
    services = services_of(store)
    await services.reload()
    old.answer = anyio.Event()
    answers: list[str | None] = []

    async def call() -> None:
        answers.append(await say(services, "both"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await old.arrived.wait()
        await store.save(compatible("a", new.url))
        await store.delete("b")
        await store.delete("both")
        await services.reload()
        old.answer.set()
    assert answers == ["old"]
    await old.all_closed.wait()
    await services.aclose()


async def test_a_deleted_service_ends_its_stream_first(backend: Callable[[str], Awaitable[Backend]]) -> None:
    server = await backend("one")
    store = MemoryStore(compatible("main", server.url))
    services = services_of(store)
    await services.reload()
    async with services.use("main") as service:
        await services.delete("main")
        with pytest.raises(GatewayError):
            services.resolve("main")
        assert (await service.chat("hello")).text == "one"
    await server.all_closed.wait()
    await services.aclose()


async def test_a_composed_service_is_kept_while_its_members_are() -> None:
    store = MemoryStore(compatible("a", URL), compatible("b", URL), composed("both", balance={"a": 2, "b": 1}))
    services = services_of(store)
    await services.reload()
    async with services.use("both") as first:
        pass
    await store.save(compatible("other", URL))
    await services.reload()
    async with services.use("both") as second:
        pass
    assert second is first
    await store.save(compatible("a", URL, default_model="n"))
    await services.reload()
    async with services.use("both") as third:
        pass
    assert third is not first
    await services.aclose()


async def test_closing_ends_running_calls(backend: Callable[[str], Awaitable[Backend]]) -> None:
    server = await backend("one")
    server.answer = anyio.Event()
    services = services_of(MemoryStore(compatible("main", server.url)))
    await services.reload()
    errors: list[Exception] = []

    async def call() -> None:
        try:
            await say(services, "main")
        except ServiceClosed as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await server.arrived.wait()
        await services.aclose()
    assert len(errors) == 1
    await services.reload()
    assert services.states() == []


async def test_a_service_that_fails_to_close_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore(compatible("main", URL))
    services = services_of(store)
    await services.reload()
    part = services._entries["main"].parts[0]

    async def fail() -> None:
        raise OSError(KEY)

    part._close = fail
    await store.delete("main")
    await services.reload()
    await services.aclose()
    assert "OSError" in caplog.text
    assert KEY not in caplog.text


# Mistakes


async def test_one_wrong_service_leaves_the_others_working(backend: Callable[[str], Awaitable[Backend]]) -> None:
    server = await backend("one")
    store = MemoryStore(
        compatible("good", server.url),
        StoredService(name="absent", table={"provider": "no-such-provider"}),
        StoredService(name="wrong", table={"provider": "openai-compatible", "api_url": server.url, "api": "nothing"}),
        composed("cycle-1", fallback=["cycle-2"]),
        composed("cycle-2", fallback=["cycle-1"]),
        composed("unknown", fallback=["nobody", "good"]),
        composed("on-wrong", fallback=["wrong", "good"]),
        composed("works", fallback=["good"], limits={"concurrency": 3}, total_timeout="20"),
    )
    services = services_of(store)
    await services.reload()
    errors = {found.name: found.error for found in services.states()}
    assert errors["good"] is None
    assert errors["works"] is None
    assert "no-such-provider" in str(errors["absent"])
    assert "api" in str(errors["wrong"])
    assert "leads back" in f"{errors['cycle-1']} {errors['cycle-2']}"
    assert errors["cycle-1"]
    assert errors["cycle-2"]
    assert "nobody" in str(errors["unknown"])
    assert "wrong" in str(errors["on-wrong"])
    assert await say(services, "good") == "one"
    assert await say(services, "works") == "one"
    await services.aclose()


async def test_composed_services_without_any_provider_are_wrong() -> None:
    services = services_of(MemoryStore(composed("a", fallback=["b"]), composed("b", fallback=["a"])))
    await services.reload()
    assert all(found.error for found in services.states())
    await services.aclose()


async def test_a_composed_service_of_a_wrong_one_works_when_that_one_does() -> None:
    store = MemoryStore(compatible("a", "ftp://x"), composed("b", fallback=["a"]), composed("c", balance=["b"]))
    services = services_of(store)
    await services.reload()
    assert "a" in str(state(services, "b").error)
    assert "b" in str(state(services, "c").error)
    await services.save("a", compatible("a", URL).table, {"api_key": KEY})
    assert [found.error for found in services.states()] == [None, None, None]
    await services.aclose()


async def test_nothing_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("TRUNKLINE_MAIN_API_KEY", KEY)
    services = services_of(MemoryStore(StoredService(name="main", table={"provider": "openai"})))
    await services.reload()
    assert "api_key" in str(state(services, "main").error)
    await services.aclose()


# A file


def write(path: Path, text: str) -> None:
    path.write_text(textwrap.dedent(text))


async def test_services_of_a_file(
    backend: Callable[[str], Awaitable[Backend]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await backend("one")
    monkeypatch.setenv("SOME_KEY", KEY)
    (tmp_path / "key.txt").write_text(KEY)
    path = tmp_path / "trunkline.toml"
    write(
        path,
        f"""
        [defaults]
        default_model = "m"
        [services.a]
        provider = "openai-compatible"
        api_url = "{server.url}"
        api_key = {{ env = "SOME_KEY" }}
        limits = {{ concurrency = 2 }}
        [services.b]
        provider = "openai-compatible"
        api_url = "http://user:password-0123@127.0.0.1:9/v1"
        api_key = {{ file = "key.txt" }}
        [services.c]
        provider = "openai-compatible"
        api_url = "{server.url}"
        api_key = "{KEY}"
        headers = {{ X-Key = "{KEY}" }}
        [services.both]
        fallback = ["a", "b"]
        [services.wrong]
        provider = "openai"
        api_key = "{KEY} "
        api = "nothing"
        [services.on-wrong]
        fallback = ["wrong"]
        """,
    )
    services = Services(path)
    await services.reload()
    assert services.read_only
    assert services.aliases == {}
    assert [found.name for found in services.states()] == ["a", "b", "both", "c", "on-wrong", "wrong"]
    assert state(services, "a").secrets == (("api_key", "from env SOME_KEY"),)
    assert state(services, "b").secrets == (("api_key", "from file"),)
    assert state(services, "c").secrets == (("api_key", "cdef"),)
    assert state(services, "a").default_model == "m"
    assert state(services, "both").default_model == "m"
    assert state(services, "both").display_name == "fallback of a, b"
    assert state(services, "a").display_name == "OpenAI Compatible"
    assert state(services, "wrong").error
    assert state(services, "on-wrong").error
    assert KEY not in repr(services.states())
    assert "password-0123" not in repr(services.states())
    assert await say(services, "a") == "one"
    assert await say(services, "both") == "one"
    assert services.resolve("a/x").wire == "openai-chat"
    with pytest.raises(ConfigurationError, match="file"):
        await services.save("d", {"provider": "openai-compatible", "api_url": URL}, {})
    with pytest.raises(ConfigurationError):
        await services.delete("a")
    with pytest.raises(ConfigurationError):
        await services.set_alias("x", "a/m")
    await services.aclose()


async def test_what_is_wrong_with_a_service_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "trunkline.toml"
    text = f'''
    [services.good]
    provider = "openai-compatible"
    api_url = "{URL}"
    [services.wrong]
    provider = "openai"
    api_key = "{KEY}"
    api = "nothing"
    '''
    write(path, text)
    services = Services(path)
    await services.reload()
    await services.reload()
    [found] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert all(word in found for word in ("wrong", "api", "nothing", "responses"))
    assert KEY not in found
    write(path, text.replace("nothing", "never"))
    await services.reload()
    assert "never" in caplog.records[-1].getMessage()
    await services.aclose()


async def test_a_file_is_replaced_as_a_whole(backend: Callable[[str], Awaitable[Backend]], tmp_path: Path) -> None:
    old, new = await backend("old"), await backend("new")
    path = tmp_path / "trunkline.toml"
    text = '[services.{name}]\nprovider = "openai-compatible"\napi_url = "{url}"\ndefault_model = "m"\n'
    path.write_text(text.format(name="a", url=old.url))
    services = Services(path)
    await services.reload()
    async with services.use("a") as service:
        path.write_text(text.format(name="b", url=new.url))
        await services.reload()
        assert (await service.chat("hello")).text == "old"
        assert old.connections == 1
    await old.all_closed.wait()
    assert await say(services, "b") == "new"
    with pytest.raises(GatewayError):
        services.resolve("a")
    await services.aclose()


@pytest.mark.parametrize("content", [b"not = [toml", b"", b"\xff", None])
async def test_a_file_that_cannot_be_read_changes_nothing(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "trunkline.toml"
    path.write_text(f'[services.a]\nprovider = "openai-compatible"\napi_url = "{URL}"\n')
    services = Services(path)
    await services.reload()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        await services.reload()
    assert services.resolve("a/m").service == "a"
    async with services.use("a") as service:
        assert isinstance(service, Service)
    await services.aclose()


async def test_services_of_a_database(backend: Callable[[str], Awaitable[Backend]], tmp_path: Path) -> None:
    server = await backend("one")
    async with await Database.open(f"sqlite:///{tmp_path / 'gateway.db'}") as database:
        store = ServiceStore(database, Encryption.from_file(tmp_path / "encryption.key"))
        services = Services(store)
        await services.reload()
        table = {"provider": "openai-compatible", "api_url": server.url, "default_model": "m"}
        await services.save("main", {**table, "headers": {"X-Key": KEY}}, {"api_key": KEY})
        await services.save("both", {"fallback": ["main"]}, {})
        await services.set_alias("fast", "both")
        assert await say(services, services.resolve("fast").service) == "one"
        assert server.requests[-1][0] == f"bearer {KEY}"
        assert KEY.encode() not in (tmp_path / "gateway.db").read_bytes()
        with pytest.raises(ConfigurationError):
            await services.delete("main")
        await services.aclose()
        again = Services(store)
        await again.reload()
        assert [found.name for found in again.states()] == ["both", "main"]
        assert again.aliases == {"fast": "both"}
        assert await say(again, "main") == "one"
        await again.aclose()


@pytest.mark.parametrize("moved", ["https://other.example.com/v1", "other.example.com", "http://api.example.com/v1"])
async def test_a_stored_secret_is_not_sent_to_another_server_unless_it_is_entered_again(moved: str) -> None:
    services = Services(MemoryStore())
    table = {"provider": "openai-compatible", "api_url": "https://api.example.com/v1", "default_model": "m"}
    try:
        await services.save("main", table, {"api_key": KEY})
        await services.save("main", {**table, "api_url": "https://api.example.com/v2"}, {"api_key": None})
        with pytest.raises(ConfigurationError, match="has to be entered again, since api_url leads to another server"):
            await services.save("main", {**table, "api_url": moved}, {"api_key": None})
        report = await services.check("main", {**table, "api_url": moved}, {"api_key": ""}, None)
        assert report.ok is False or KEY not in str(report)
        await services.save("main", {**table, "api_url": moved}, {"api_key": KEY})
    finally:
        await services.aclose()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"proxy": "http://127.0.0.1:8"}, "proxy"),
        ({"proxy": "127.0.0.1:8"}, "proxy"),
        ({"proxy": "proxy.example.com"}, "proxy"),
        ({"api_url": "https://api.example.com:8443/v1"}, "api_url"),
        ({"api_url": "https://API.EXAMPLE.COM@other.example.com/v1"}, "api_url"),
        ({"api_url": "https://straße.example/v1"}, "api_url"),
        ({"headers": {"Host": "other.example.com"}}, "headers.host"),
        ({"headers": {"x-forwarded-host": "other.example.com"}}, "headers.x-forwarded-host"),
        ({"headers": {"X-Upstream": "other"}}, "headers.x-upstream"),
        ({"headers": {"Forwarded": "host=other.example.com"}}, "headers.forwarded"),
        ({"headers": {"x-target": "https://other.example.com"}}, "headers.x-target"),
    ],
    ids=str,
)
async def test_a_stored_secret_takes_no_new_way_unless_it_is_entered_again(
    change: dict[str, JSONValue], named: str
) -> None:
    services = Services(MemoryStore())
    before = "https://strasse.example/v1" if "straße" in str(change) else "https://api.example.com/v1"
    table = {"provider": "openai-compatible", "api_url": before, "default_model": "m"}
    wanted = f"since {named} leads to another server"
    try:
        await services.save("main", table, {"api_key": KEY})
        for secrets in ({}, {"api_key": None}):
            with pytest.raises(ConfigurationError, match=wanted):
                await services.save("main", {**table, **change}, secrets)
        report = await services.check("main", {**table, **change}, {}, None)
        assert wanted in str(report)
        await services.save("main", {**table, **change}, {"api_key": KEY})
    finally:
        await services.aclose()


async def test_a_default_that_is_written_out_is_no_new_way_and_a_header_that_is_removed_is_one() -> None:
    services = Services(store := MemoryStore())
    table: dict[str, JSONValue] = {"provider": "openai", "default_model": "m"}
    try:
        await services.save("main", {**table, "headers": {"Host": "one.example.com"}}, {"api_key": KEY})
        with pytest.raises(ConfigurationError, match=r"since headers\.host leads to another server"):
            await services.save("main", table, {})
        await services.save("main", table, {"api_key": KEY})
        await services.save("main", {**table, "api_url": "https://api.openai.com/v1"}, {})
        assert store.services["main"].secrets == {"api_key": KEY}
    finally:
        await services.aclose()


MASKED = {"Authorization": "••••"}


async def test_a_masked_header_keeps_its_secret_only_where_it_was_stored() -> None:
    services = Services(store := MemoryStore())
    table = {"provider": "openai-compatible", "api_url": "http://127.0.0.1:9/v1", "default_model": "m"}
    try:
        await services.save("main", {**table, "headers": {"Authorization": KEY}}, {})
        await services.save("main", {**table, "headers": MASKED, "max_retries": 1}, {})
        assert store.services["main"].secrets == {"headers.Authorization": KEY}
        for changed in (
            {**table, "headers": MASKED, "api_url": "http://127.0.0.1:8/v1"},
            {**table, "headers": MASKED, "provider": "mistral"},
            {**table, "headers": {"X-Other": "••••"}},
        ):
            with pytest.raises(ConfigurationError, match="has to be entered"):
                await services.save("main", changed, {})
        # The same value, entered again.
        await services.save(
            "main", {**table, "api_url": "http://127.0.0.1:8/v1", "headers": {"Authorization": KEY}}, {}
        )
        assert store.services["main"].secrets == {"headers.Authorization": KEY}
    finally:
        await services.aclose()


async def test_a_login_in_a_url_that_is_entered_again_is_no_stored_one() -> None:
    services = Services(store := MemoryStore())
    table = {"provider": "openai-compatible", "api_url": "http://127.0.0.1:9/v1", "default_model": "m"}
    proxy = f"http://ana:{KEY}@127.0.0.1:7"
    try:
        await services.save("main", {**table, "proxy": proxy}, {})
        await services.save("main", {**table, "proxy": "http://127.0.0.1:7"}, {})
        assert store.services["main"].secrets == {"proxy": proxy}
        with pytest.raises(ConfigurationError, match="has to be entered again"):
            await services.save("main", {**table, "proxy": "http://127.0.0.1:7", "api_url": "http://127.0.0.1:8"}, {})
        await services.save("main", {**table, "proxy": proxy, "api_url": "http://127.0.0.1:8"}, {})
    finally:
        await services.aclose()
