"""Two and four gateways on one PostgreSQL and one Redis server: limits and budgets hold across all of them."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import httpx
import pytest
from gateway_process import GatewayProcess, gateway_process
from gateway_servers import PostgresqlServer, RedisServer, postgresql_server, redis_server
from streaming_server import service, streaming_server

PATIENCE = 90.0
"""Seconds until what has to happen by itself counts as missing."""

AT_ONCE = 24
"""Calls at once, over all instances."""

OUTPUT = 10
"""The tokens that each call may write. With its input it is counted with a little more than it uses."""

USED = 14
"""The tokens that the provider reports for each whole answer."""


@attrs.define
class Cluster:
    """Gateways that share a database and a Redis server."""

    folder: Path
    postgresql: PostgresqlServer
    redis: RedisServer
    services: str
    environment: dict[str, str]
    gateways: list[GatewayProcess] = attrs.field(factory=list)
    stack: ExitStack = attrs.field(factory=ExitStack)
    numbers: Iterator[int] = attrs.field(factory=itertools.count)

    def start(self) -> GatewayProcess:
        folder = self.folder / str(next(self.numbers))
        gateway = self.stack.enter_context(
            gateway_process(folder, services=self.services, environment=self.environment)
        )
        self.gateways.append(gateway)
        return gateway

    def rows(self, statement: str) -> list[list[str]]:
        return [line.split("|") for line in self.postgresql.execute(statement).splitlines()]

    def number(self, statement: str) -> int:
        return int(self.postgresql.execute(statement) or 0)


@contextmanager
def cluster(folder: Path, *, policy: str = "closed") -> Iterator[Cluster]:
    with postgresql_server() as postgresql, redis_server() as redis, streaming_server() as url:
        environment = {
            "TRUNKLINE_GATEWAY_DATABASE": postgresql.url,
            "TRUNKLINE_GATEWAY_REDIS": redis.url,
            "TRUNKLINE_GATEWAY_REDIS_FAILURE": policy,
        }
        services = service(url) + service(f"{url}/endless", "endless")
        made = Cluster(folder, postgresql, redis, services, environment)
        with made.stack:
            yield made


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("four")) as made:
        for _ in range(4):
            made.start()
        yield made


def body(model: str = "main", *, stream: bool = False) -> dict[str, object]:
    messages = [{"role": "user", "content": "hello"}]
    return {"model": model, "messages": messages, "stream": stream, "max_tokens": OUTPUT}


Call = Callable[[httpx.AsyncClient, GatewayProcess], Awaitable[object]]


async def calls(gateways: Sequence[GatewayProcess], key: str, count: int, call: Call, at_once: int) -> None:
    """Make calls through all gateways in turn."""
    turns = iter([gateways[number % len(gateways)] for number in range(count)])
    headers = {"authorization": f"Bearer {key}"}

    async with httpx.AsyncClient(headers=headers, timeout=PATIENCE, trust_env=False) as client:

        async def work() -> None:
            for gateway in turns:
                await call(client, gateway)

        await asyncio.gather(*(work() for _ in range(at_once)))


async def statuses(gateways: Sequence[GatewayProcess], key: str, count: int, *, at_once: int = AT_ONCE) -> Counter[int]:
    """Make calls, and count the statuses of their answers."""
    found: Counter[int] = Counter()

    async def call(client: httpx.AsyncClient, gateway: GatewayProcess) -> None:
        answer = await client.post(f"{gateway.url}/v1/chat/completions", json=body())
        found[answer.status_code] += 1
        if answer.status_code == 429:
            assert "error" in answer.json()

    await calls(gateways, key, count, call, at_once)
    return found


async def used_up(gateways: Sequence[GatewayProcess], key: str, count: int) -> Counter[int]:
    """Make calls until nothing is left, also not of what calls in flight had reserved and did not use."""
    found = await statuses(gateways, key, count)
    return found + await statuses(gateways, key, 8, at_once=1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await asyncio.to_thread(condition):
                return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("instances", [2, 4])
def test_requests_a_minute_hold_across_all_instances(four: Cluster, instances: int) -> None:
    gateways = four.gateways[:instances]
    key = gateways[0].create_key("requests", "--requests-per-minute", "200")
    assert asyncio.run(used_up(gateways, key, 300)) == {200: 200, 429: 108}


@pytest.mark.parametrize("instances", [2, 4])
def test_tokens_a_minute_hold_across_all_instances(four: Cluster, instances: int) -> None:
    gateways = four.gateways[:instances]
    limit = 2800
    key = gateways[0].create_key("tokens", "--tokens-per-minute", str(limit))
    found = asyncio.run(used_up(gateways, key, 300))
    assert set(found) == {200, 429}
    assert found[200] * USED == pytest.approx(limit, rel=0.01)


@pytest.mark.parametrize("instances", [2, 4])
def test_a_budget_is_used_up_and_never_exceeded(four: Cluster, instances: int) -> None:
    gateways = four.gateways[:instances]
    limit = 2000
    key = gateways[0].create_key("budget", "--budget-tokens", str(limit), "--budget-period", "total")
    which = "WHERE key_id = (SELECT max(id) FROM keys)"

    async def run() -> Counter[int]:
        load = asyncio.create_task(used_up(gateways, key, 250))
        while not load.done():
            total = await asyncio.to_thread(
                four.number, f"SELECT coalesce(sum(spent_tokens + reserved_tokens), 0) FROM budgets {which}"
            )
            assert total <= limit
        return await load

    found = asyncio.run(run())
    assert set(found) == {200, 429}
    ((spent, reserved),) = four.rows(f"SELECT spent_tokens, reserved_tokens FROM budgets {which}")
    assert int(reserved) == 0
    assert int(spent) == found[200] * USED
    assert limit - 30 < int(spent) <= limit


def test_a_killed_instance_is_charged_once_by_the_others(tmp_path: Path) -> None:
    with cluster(tmp_path) as made:
        doomed = made.start()
        ((instance,),) = made.rows("SELECT id FROM instances")
        others = [made.start(), made.start()]
        options = ("--budget-tokens", "1000000", "--budget-period", "total", "--requests-per-minute", "100000")
        key = doomed.create_key("killed", *options)
        busy = doomed.create_key("busy", *options)
        streams = 20

        async def run() -> Counter[int]:
            begun = asyncio.Semaphore(0)

            async def read(client: httpx.AsyncClient) -> None:
                address = f"{doomed.url}/v1/chat/completions"
                with pytest.raises(httpx.TransportError):
                    async with client.stream("POST", address, json=body("endless", stream=True)) as answer:
                        async for _ in answer.aiter_raw():
                            begun.release()

            headers = {"authorization": f"Bearer {key}"}
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(headers=headers, limits=limits, timeout=PATIENCE, trust_env=False) as client:
                async with asyncio.TaskGroup() as tasks:
                    for _ in range(streams):
                        tasks.create_task(read(client))
                    for _ in range(streams):
                        await begun.acquire()
                    load = tasks.create_task(statuses(others, busy, 100))
                    await until(lambda: made.number(reservations_of) == streams)
                    doomed.kill()
            return load.result()

        reservations_of = f"SELECT count(*) FROM reservations WHERE instance = '{instance}'"
        found = asyncio.run(run())
        # The death of one instance fails no call of another.
        assert found == {200: 100}
        ((left, input_tokens),) = made.rows(
            f"SELECT count(*), sum(input_tokens) FROM reservations WHERE instance = '{instance}'"
        )
        assert int(left) == streams
        # As if nothing had been heard of it for a while.
        made.postgresql.execute(f"UPDATE instances SET beat_at = beat_at - 600 WHERE id = '{instance}'")
        made.postgresql.execute(f"UPDATE reservations SET created_at = created_at - 600 WHERE instance = '{instance}'")
        # The others watch it for two of their heartbeats.
        asyncio.run(until(lambda: made.number(reservations_of) == 0))
        spent = "SELECT spent_tokens, reserved_tokens FROM budgets ORDER BY key_id"
        assert made.rows(spent) == [[input_tokens, "0"], [str(100 * USED), "0"]]
        made.start()
        assert made.rows(spent) == [[input_tokens, "0"], [str(100 * USED), "0"]]
        # The instance that recovers writes its log within a second.
        interrupted = "FROM log WHERE outcome = 'interrupted' AND key_name = 'killed'"
        asyncio.run(until(lambda: made.number(f"SELECT count(*) {interrupted}") == streams))
        assert made.rows(f"SELECT count(DISTINCT id), sum(input_tokens) {interrupted}") == [
            [str(streams), input_tokens]
        ]


def test_calls_with_limits_are_refused_while_redis_is_down_if_the_policy_is_closed(tmp_path: Path) -> None:
    with cluster(tmp_path, policy="closed") as made:
        gateways = [made.start(), made.start()]
        limited = gateways[0].create_key("limited", "--requests-per-minute", "100")
        free = gateways[0].create_key("free")
        assert asyncio.run(statuses(gateways, limited, 20)) == {200: 20}
        made.redis.kill()
        assert asyncio.run(statuses(gateways, limited, 50)) == {503: 50}
        assert asyncio.run(statuses(gateways, free, 50)) == {200: 50}
        made.redis.start()
        asyncio.run(until_answered(gateways, limited))
        # The server lost its data, so the limit begins anew.
        found = asyncio.run(statuses(gateways, limited, 150))
        assert set(found) == {200, 429}
        assert 90 <= found[200] <= 100


def test_each_instance_counts_by_itself_while_redis_is_down_if_the_policy_is_open(tmp_path: Path) -> None:
    with cluster(tmp_path, policy="open") as made:
        gateways = [made.start(), made.start()]
        key = gateways[0].create_key("limited", "--requests-per-minute", "50")
        assert asyncio.run(statuses(gateways, key, 20)) == {200: 20}
        made.redis.kill()
        found = asyncio.run(statuses(gateways, key, 150))
        assert found == {200: 2 * 50 - 20, 429: 150 - 80}


@pytest.mark.parametrize("policy", ["closed", "open"])
def test_redis_restarts_under_load(tmp_path: Path, policy: str) -> None:
    with cluster(tmp_path, policy=policy) as made:
        gateways = [made.start(), made.start()]
        key = gateways[0].create_key("limited", "--requests-per-minute", "100000", "--tokens-per-minute", "100000000")

        async def run() -> Counter[int]:
            load = asyncio.create_task(statuses(gateways, key, 400))
            for end in (made.redis.stop, made.redis.kill):
                await asyncio.to_thread(end)
                await asyncio.to_thread(made.redis.start)
            return await load

        found = asyncio.run(run())
        assert found.total() == 400
        assert set(found) <= ({200, 503} if policy == "closed" else {200})
        assert found[200] > 0
        asyncio.run(until_answered(gateways, key))
        made.redis.send("FLUSHALL")
        assert asyncio.run(statuses(gateways, key, 50)) == {200: 50}
        # The instances count in the server again.
        assert made.redis.send("DBSIZE") == ":1"


async def until_answered(gateways: Sequence[GatewayProcess], key: str) -> None:
    """Wait until each instance has found Redis again."""
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(headers=headers, timeout=PATIENCE, trust_env=False) as client:
        for gateway in gateways:
            async with asyncio.timeout(PATIENCE):
                while True:
                    answer = await client.post(f"{gateway.url}/v1/chat/completions", json=body())
                    if answer.status_code != 503:
                        break
                    await asyncio.sleep(0.05)
