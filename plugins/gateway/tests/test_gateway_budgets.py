"""Budgets: reserved, settled and recovered, each once."""

from __future__ import annotations

import asyncio
import datetime
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from subprocess import PIPE, Popen as Process
from typing import TypeVar

import anyio
import attrs
import pytest
from gateway_servers import PostgresqlServer, postgresql_server
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, func, select, update
from trunkline_gateway.budgets import Amount, Balance, BudgetExceeded, Reservation
from trunkline_gateway.database import budgets as module
from trunkline_gateway.database.budgets import BudgetStore
from trunkline_gateway.database.engine import Database, DatabaseError
from trunkline_gateway.database.keys import KeyStore
from trunkline_gateway.database.tables import budgets, instances, reservations
from trunkline_gateway.keys import Budget, Key, KeyDraft
from trunkline_gateway.usage import CallRecord

T = TypeVar("T")


async def make_key(database: Database, budget: Budget | None) -> Key:
    return (await KeyStore(database).create(KeyDraft(name="a", budget=budget)))[0]


async def reserve(store: BudgetStore, key: Key, tokens: int, cost: int = 0, *, of_input: int = 0) -> Reservation:
    made = await store.reserve(key, Amount(tokens=tokens, cost=cost), input_amount=Amount(tokens=of_input))
    assert made is not None
    return made


async def balance(store: BudgetStore, key: Key) -> Balance:
    found = await store.balance(key)
    assert found is not None
    return found


async def make_old(database: Database) -> None:
    """Make all heartbeats and reservations older than the time after which an instance is dead."""

    def work(connection: object) -> None:
        connection.execute(update(instances).values(beat_at=instances.c.beat_at - 31))  # type: ignore[attr-defined]
        connection.execute(update(reservations).values(created_at=1))  # type: ignore[attr-defined]

    await database.write(work)


class Clock:
    """The time of a store, which stands still."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def end_period(database: Database) -> None:
    await database.write(lambda connection: connection.execute(update(budgets).values(period_start="2001-01")))


@pytest.mark.anyio
async def test_a_key_without_a_budget_reserves_nothing(database: Database) -> None:
    store = BudgetStore(database, instance="one")
    key = await make_key(database, None)
    assert await store.reserve(key, Amount(tokens=10**40), input_amount=Amount()) is None
    assert await store.balance(key) is None


@pytest.mark.anyio
async def test_a_reservation_is_replaced_by_what_the_call_used_once(database: Database) -> None:
    store = BudgetStore(database, instance="one")
    key = await make_key(database, Budget(tokens=100, cost=50))
    made = await reserve(store, key, 60, 20)
    assert await balance(store, key) == Balance(
        budget=Budget(tokens=100, cost=50), spent=Amount(), reserved=Amount(tokens=60, cost=20)
    )
    for _ in range(3):
        await store.settle(made, Amount(tokens=25, cost=7))
    found = await balance(store, key)
    assert (found.spent, found.reserved) == (Amount(tokens=25, cost=7), Amount())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("budget", "amount", "words"),
    [
        (
            Budget(period="day", tokens=100),
            Amount(tokens=41),
            "of 100 tokens a day, 40 are left, and the call may need 41",
        ),
        (
            Budget(period="month", cost=1_000_000_000),
            Amount(cost=900_000_000),
            r"of \$1 a month, \$0.5 are left, and the call may cost up to \$0.9",
        ),
    ],
)
async def test_a_call_over_the_budget_is_refused_until_the_period_ends(
    database: Database, budget: Budget, amount: Amount, words: str
) -> None:
    store = BudgetStore(database, instance="one")
    key = await make_key(database, budget)
    await store.settle(await reserve(store, key, 30, 500_000_000), Amount(tokens=30, cost=400_000_000))
    await reserve(store, key, 30, 100_000_000)
    before = await balance(store, key)
    with pytest.raises(BudgetExceeded, match=words) as raised:
        await store.reserve(key, amount, input_amount=Amount())
    assert await balance(store, key) == before
    assert raised.value.resets_after is not None
    assert 0 < raised.value.resets_after <= 31 * 24 * 3600
    await end_period(database)
    await store.reserve(key, amount, input_amount=Amount())
    assert (await balance(store, key)).spent == Amount()


@pytest.mark.anyio
async def test_what_can_never_succeed_has_no_time_to_wait(database: Database) -> None:
    store = BudgetStore(database, instance="one")
    key = await make_key(database, Budget(period="total", tokens=10))
    await reserve(store, key, 10)
    with pytest.raises(BudgetExceeded) as raised:
        await reserve(store, key, 1)
    assert raised.value.resets_after is None
    key = await make_key(database, Budget(period="day", tokens=10))
    for tokens in (11, 10**40):
        with pytest.raises(BudgetExceeded) as raised:
            await reserve(store, key, tokens)
        assert raised.value.resets_after is None


def test_a_period_ends_at_midnight_utc() -> None:
    now = int(datetime.datetime(2028, 2, 28, 23, 0, 0, tzinfo=datetime.UTC).timestamp())
    assert module._seconds_left(Budget(period="day"), now) == 3600
    assert module._seconds_left(Budget(period="month"), now) == 3600 + 24 * 3600
    december = int(datetime.datetime(2028, 12, 31, 23, 59, 59, tzinfo=datetime.UTC).timestamp())
    assert module._seconds_left(Budget(period="month"), december) == 1
    assert module._seconds_left(Budget(period="total"), now) is None


@pytest.mark.anyio
async def test_a_call_over_the_end_of_a_period_counts_in_the_next(database: Database) -> None:
    store = BudgetStore(database, instance="one")
    key = await make_key(database, Budget(period="month", tokens=100))
    await store.settle(await reserve(store, key, 50), Amount(tokens=50))
    made = await reserve(store, key, 40)
    await end_period(database)
    found = await balance(store, key)
    assert (found.spent.tokens, found.reserved.tokens) == (0, 40)
    await store.settle(made, Amount(tokens=33))
    found = await balance(store, key)
    assert (found.spent.tokens, found.reserved.tokens) == (33, 0)


@pytest.mark.anyio
async def test_a_clock_that_is_set_back_does_not_begin_the_period_again(database: Database) -> None:
    store = BudgetStore(database, instance="one")
    key = await make_key(database, Budget(period="day", tokens=100))
    await store.settle(await reserve(store, key, 90), Amount(tokens=90))
    await database.write(lambda connection: connection.execute(update(budgets).values(period_start="2999-01-01")))
    with pytest.raises(BudgetExceeded):
        await reserve(store, key, 20)
    await store.settle(await reserve(store, key, 10), Amount(tokens=10))
    assert (await balance(store, key)).spent.tokens == 100


@pytest.mark.anyio
async def test_changed_limits_hold_at_once_and_keep_what_was_spent(database: Database) -> None:
    store, keys = BudgetStore(database, instance="one"), KeyStore(database)
    key = await make_key(database, Budget(period="month", tokens=100))
    await store.settle(await reserve(store, key, 50), Amount(tokens=50))
    made = await reserve(store, key, 10)
    await keys.update(key.id, KeyDraft(name="a", budget=Budget(period="month", tokens=65)))
    with pytest.raises(BudgetExceeded):
        await reserve(store, key, 10)
    await keys.update(key.id, KeyDraft(name="a"))
    changed = await keys.get(key.id)
    assert changed is not None
    assert changed.draft.budget is None
    assert await store.balance(key) is None
    await store.settle(made, Amount(tokens=10))
    await keys.update(key.id, KeyDraft(name="a", budget=Budget(period="month", tokens=65)))
    assert (await balance(store, key)).spent.tokens == 60
    await keys.update(key.id, KeyDraft(name="a", budget=Budget(period="day", tokens=65)))
    assert (await balance(store, key)).spent.tokens == 0


@pytest.mark.anyio
async def test_reservations_of_a_dead_instance_are_charged_for_their_input_once(database: Database) -> None:
    clock = Clock()
    dead, one, two = (BudgetStore(database, instance=name, clock=clock) for name in ("dead", "one", "two"))
    key = await make_key(database, Budget(period="total", tokens=1000))
    await dead.beat()
    left = [await reserve(dead, key, 100, of_input=7) for _ in range(3)]
    await one.beat()
    alive = await reserve(one, key, 50, of_input=5)
    assert await two.recover() == 0
    await make_old(database)
    await one.beat()
    found: list[int] = []
    assert await one.recover() == await two.recover() == 0
    clock.now += 10

    async def recover(store: BudgetStore) -> None:
        found.append(await store.recover())

    async with anyio.create_task_group() as tasks:
        for store in (one, two, one, two):
            tasks.start_soon(recover, store)
        # It was only slow: what it settles now was charged already.
        tasks.start_soon(dead.settle, left[0], Amount(tokens=7))
    assert sum(found) in {2, 3}
    state = await balance(one, key)
    assert (state.spent.tokens, state.reserved.tokens) == (21, 50)
    await one.settle(alive, Amount(tokens=10))
    assert (await balance(one, key)).spent.tokens == 31


@pytest.mark.anyio
async def test_calls_of_a_dead_instance_are_recorded_as_interrupted_once(database: Database) -> None:
    recorded: list[CallRecord] = []
    dead = BudgetStore(database, instance="dead")
    clock = Clock()
    one, two = (BudgetStore(database, instance=name, record=recorded.append, clock=clock) for name in ("one", "two"))
    key = await make_key(database, Budget(period="total", tokens=1000))
    call = CallRecord(
        id="1",
        key_id=key.id,
        key_name="a",
        service="main",
        model="m\0\ud800\N{SNOWMAN}",
        api="/v1/messages",
        started_at=datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.UTC),
        outcome="interrupted",
        status=500,
        seconds=0.0,
        input_tokens=7,
        estimated=True,
        cost=None,
    )
    await dead.beat()
    await dead.reserve(key, Amount(tokens=100), input_amount=Amount(tokens=7), call=call)
    settled = await dead.reserve(
        key, Amount(tokens=100), input_amount=Amount(tokens=7), call=attrs.evolve(call, id="2")
    )
    assert settled is not None
    await dead.settle(settled, Amount(tokens=9))
    await make_old(database)
    await one.recover()
    await two.recover()
    clock.now += 10
    async with anyio.create_task_group() as tasks:
        for store in (one, two, one, two):
            tasks.start_soon(store.recover)
    assert recorded == [call]


@pytest.mark.anyio
async def test_an_instance_that_was_only_stopped_keeps_new_reservations(database: Database) -> None:
    slow, other = (BudgetStore(database, instance=name) for name in ("slow", "other"))
    key = await make_key(database, Budget(period="total", tokens=1000))
    await slow.beat()
    await make_old(database)
    await other.recover()
    await reserve(slow, key, 10)
    assert await other.recover() == 0


@pytest.mark.anyio
async def test_instances_that_live_keep_their_reservations_after_an_outage_of_the_database(database: Database) -> None:
    clock = Clock()
    one, two = (BudgetStore(database, instance=name, clock=clock) for name in ("one", "two"))
    key = await make_key(database, Budget(period="total", tokens=1000))
    made = await reserve(two, key, 100, of_input=7)
    await two.beat()
    for _ in range(3):  # heartbeats of both are old when the database answers again
        await make_old(database)
        await one.beat()
        assert await one.recover() == 0
        clock.now += 10
        await two.beat()
        assert await one.recover() == 0
    # What was suspected before an outage is not dead after it.
    await make_old(database)
    assert await one.recover() == 0
    clock.now += 100
    assert await one.recover() == 0
    await two.settle(made, Amount(tokens=33))
    assert (await balance(one, key)).spent.tokens == 33


@pytest.mark.anyio
async def test_what_a_killed_process_reserved_in_sqlite_is_settled_at_the_next_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.sqlite3'}"
    async with await Database.open(url) as database:
        key = await make_key(database, Budget(period="total", tokens=1000))
    code = """
import asyncio, os, signal, sys
from trunkline_gateway.budgets import Amount
from trunkline_gateway.database.budgets import BudgetStore
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.keys import KeyStore
async def main():
    database = await Database.open(sys.argv[1])
    store, [key] = BudgetStore(database, instance="killed"), await KeyStore(database).list()
    await store.beat()
    for _ in range(5):
        await store.reserve(key, Amount(tokens=100), input_amount=Amount(tokens=3))
    print("reserved", flush=True)
    sys.stdin.read()
asyncio.run(main())
"""
    process = Process([sys.executable, "-c", code, url], stdin=PIPE, stdout=PIPE)  # noqa: ASYNC220
    with process:
        assert process.stdout is not None
        assert await anyio.to_thread.run_sync(process.stdout.readline) == b"reserved\n"
        # While it lives, another process settles nothing of it.
        async with await Database.open(url) as database:
            store = BudgetStore(database, instance="other")
            assert await store.recover() == 0
        process.kill()
    async with await Database.open(url) as database:
        store = BudgetStore(database, instance="next")
        await store.beat()
        assert await store.recover() == 5
        state = await balance(store, key)
        assert (state.spent.tokens, state.reserved.tokens) == (15, 0)


@pytest.mark.anyio
async def test_of_two_processes_that_want_the_last_part_of_a_budget_one_gets_it(database_url: str) -> None:
    async with await Database.open(database_url) as database:
        key = await make_key(database, Budget(period="day", tokens=105))
        code = """
import asyncio, sys
from trunkline_gateway.budgets import Amount, BudgetExceeded
from trunkline_gateway.database.budgets import BudgetStore
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.keys import KeyStore
async def main():
    async with await Database.open(sys.argv[1]) as database:
        store, [key] = BudgetStore(database, instance=sys.argv[2]), await KeyStore(database).list()
        print("ready", flush=True)
        sys.stdin.read()
        async def take():
            try:
                await store.reserve(key, Amount(tokens=10), input_amount=Amount())
                return 1
            except BudgetExceeded:
                return 0
        print(sum(await asyncio.gather(*[take() for _ in range(40)])))
asyncio.run(main())
"""
        started = [
            Process(  # noqa: ASYNC220
                [sys.executable, "-c", code, database_url, name],
                stdin=PIPE,
                stdout=PIPE,
                text=True,
            )
            for name in ("one", "two")
        ]
        for process in started:
            assert process.stdout is not None
            assert await anyio.to_thread.run_sync(process.stdout.readline) == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        taken = [int((await anyio.to_thread.run_sync(process.communicate))[0]) for process in started]
        assert sum(taken) == 10, taken
        assert (await balance(BudgetStore(database, instance="three"), key)).reserved.tokens == 100


@pytest.mark.anyio
@pytest.mark.parametrize("by", ["a heartbeat", "the end of the gateway"])
async def test_what_could_not_be_settled_is_settled_later(by: str) -> None:
    with postgresql_server() as server:
        async with await Database.open(server.database("gateway")) as database:
            store = BudgetStore(database, instance="one")
            key = await make_key(database, Budget(period="total", tokens=100))
            made = await reserve(store, key, 60)
            server.stop()
            await store.settle(made, Amount(tokens=20))
            await store.flush()
            server.start()
            await (store.beat() if by == "a heartbeat" else store.flush())
            state = await balance(store, key)
            assert (state.spent.tokens, state.reserved.tokens) == (20, 0)


@pytest.mark.anyio
async def test_heartbeats_are_in_time_after_an_outage_in_which_many_calls_ended_or_were_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with postgresql_server() as server:
        async with await Database.open(server.database("gateway")) as database:
            store = BudgetStore(database, instance="one")
            keys = [await make_key(database, Budget(period="total", tokens=1000)) for _ in range(2)]
            made = [await reserve(store, key, 20) for key in keys for _ in range(25)]
            server.stop()
            for one in made:
                await store.settle(one, Amount(tokens=7))
            for _ in range(20):
                with pytest.raises(DatabaseError):
                    await reserve(store, keys[0], 20)
            server.start()
            writes = 0
            write = database.write

            async def counted(work: Callable[[Connection], object]) -> object:
                nonlocal writes
                writes += 1
                return await write(work)

            monkeypatch.setattr(database, "write", counted)
            await store.beat()
            assert writes == 2
            for key in keys:
                state = await balance(store, key)
                assert (state.spent.tokens, state.reserved.tokens) == (25 * 7, 0)


@pytest.mark.anyio
async def test_reservations_that_no_call_of_an_instance_holds_any_more_are_charged_for_their_input(
    database: Database,
) -> None:
    recorded: list[CallRecord] = []
    store = BudgetStore(database, instance="one", record=recorded.append)
    key = await make_key(database, Budget(period="total", tokens=1000))
    held = await reserve(store, key, 100, of_input=5)
    # As if it were committed after its connection was lost, or as if the server had lost that it was settled.
    late = BudgetStore(database, instance="one")
    await reserve(late, key, 60, of_input=7)
    assert await store.recover() == 0
    assert (await balance(store, key)).reserved.tokens == 160
    await make_old(database)
    await store.beat()
    for _ in range(2):
        assert await store.recover() == 0
        state = await balance(store, key)
        assert (state.spent.tokens, state.reserved.tokens) == (7, 100)
    await store.settle(held, Amount(tokens=20))
    with pytest.raises(BudgetExceeded):
        await reserve(store, key, 1000)
    state = await balance(store, key)
    assert (state.spent.tokens, state.reserved.tokens) == (27, 0)
    assert not store._held
    assert not recorded


@pytest.mark.anyio
async def test_a_call_that_began_while_recovering_waited_for_the_database_keeps_its_reservation(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BudgetStore(database, instance="one")
    key = await make_key(database, Budget(period="total", tokens=1000))
    await store.beat()
    write, made = database.write, list[Reservation]()

    async def write_late(work: Callable[[Connection], T]) -> T:
        monkeypatch.setattr(database, "write", write)
        made.append(await reserve(store, key, 100, of_input=5))
        await make_old(database)
        return await write(work)

    monkeypatch.setattr(database, "write", write_late)
    await store.recover()
    state = await balance(store, key)
    assert (state.spent.tokens, state.reserved.tokens) == (0, 100)
    await store.settle(made[0], Amount(tokens=20))
    state = await balance(store, key)
    assert (state.spent.tokens, state.reserved.tokens) == (20, 0)


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_while_it_reserves_holds_nothing(database: Database) -> None:
    store = BudgetStore(database, instance="one")
    key = await make_key(database, Budget(period="total", tokens=10_000))
    await store.beat()
    # By asyncio itself, which no shield holds back; after more and more steps of the event loop.
    for steps in range(30):
        task = asyncio.ensure_future(reserve(store, key, 10))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        try:
            made = await task
        except asyncio.CancelledError:
            pass
        else:
            await store.settle(made, Amount())
    await store.beat()
    state = await balance(store, key)
    assert (state.spent, state.reserved) == (Amount(), Amount())


class Budgets(RuleBasedStateMachine):
    """A budget never goes over its limits, and what is reserved is the sum of what is open."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.database = self.run(Database.open(self.url))
        self.stores = [BudgetStore(self.database, instance=name) for name in ("one", "two")]
        for store in self.stores:
            self.run(store.beat())
        self.limit = Amount(tokens=1000, cost=500)
        self.key = self.run(
            make_key(self.database, Budget(period="month", tokens=self.limit.tokens, cost=self.limit.cost))
        )
        self.open: list[tuple[Reservation, int]] = []
        self.ended: list[Reservation] = []
        self.spent = Amount()

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        for made, _ in self.open:
            self.run(self.stores[0].settle(made, Amount()))
        self.run(self.database.aclose())
        self.runner.close()

    amounts = st.builds(Amount, tokens=st.integers(0, 600), cost=st.integers(0, 300))

    @rule(store=st.integers(0, 1), amount=amounts, part=st.integers(0, 20))
    def reserve(self, store: int, amount: Amount, part: int) -> None:
        of_input = min(part, amount.tokens)
        held = [made.amount for made, _ in self.open]
        fits = (
            self.spent.tokens + sum(one.tokens for one in held) + amount.tokens <= self.limit.tokens
            and self.spent.cost + sum(one.cost for one in held) + amount.cost <= self.limit.cost
        )
        try:
            made = self.run(self.stores[store].reserve(self.key, amount, input_amount=Amount(tokens=of_input)))
        except BudgetExceeded:
            assert not fits
        else:
            assert fits
            assert made is not None
            self.open.append((made, of_input))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.integers(0, 4))
    def settle(self, data: st.DataObject, share: int) -> None:
        made, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        used = Amount(tokens=made.amount.tokens * share // 4, cost=made.amount.cost * share // 4)
        self.run(self.stores[0].settle(made, used))
        self.ended.append(made)
        self.spent = Amount(tokens=self.spent.tokens + used.tokens, cost=self.spent.cost + used.cost)

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        self.run(self.stores[1].settle(data.draw(st.sampled_from(self.ended)), Amount(tokens=99, cost=99)))

    @rule()
    def recover_nothing_of_the_living(self) -> None:
        assert self.run(self.stores[1].recover()) == 0

    @precondition(lambda self: self.open)
    @rule()
    def both_die(self) -> None:
        self.run(make_old(self.database))
        clock = Clock()
        store = BudgetStore(self.database, instance="three", clock=clock)
        assert self.run(store.recover()) == 0
        clock.now += 10
        assert self.run(store.recover()) == len(self.open)
        self.spent = Amount(tokens=self.spent.tokens + sum(part for _, part in self.open), cost=self.spent.cost)
        self.ended += [made for made, _ in self.open]
        self.open.clear()
        for one in self.stores:
            self.run(one.beat())

    @rule()
    def end_period(self) -> None:
        self.run(end_period(self.database))
        self.spent = Amount()

    @invariant()
    def the_stored_sums_are_right(self) -> None:
        state = self.run(balance(self.stores[0], self.key))
        held = [made.amount for made, _ in self.open]
        assert state.spent == self.spent
        assert state.reserved == Amount(tokens=sum(one.tokens for one in held), cost=sum(one.cost for one in held))
        assert state.spent.tokens + state.reserved.tokens <= self.limit.tokens
        assert state.spent.cost + state.reserved.cost <= self.limit.cost
        sums = select(func.coalesce(func.sum(reservations.c.tokens), 0)).where(reservations.c.key_id == self.key.id)
        stored = self.run(self.database.read(lambda connection: connection.execute(sums).scalar_one()))
        assert stored == state.reserved.tokens


_steps = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_budgets_hold_in_any_order_of_steps_on_sqlite() -> None:
    with tempfile.TemporaryDirectory() as folder:
        machine = type("OnSQLite", (Budgets,), {"url": f"sqlite:///{folder}/gateway.sqlite3"})
        run_state_machine_as_test(machine, settings=_steps)  # type: ignore[no-untyped-call]


def test_budgets_hold_in_any_order_of_steps_on_postgresql(postgresql: PostgresqlServer) -> None:
    machine = type("OnPostgreSQL", (Budgets,), {"url": postgresql.database("steps")})
    run_state_machine_as_test(machine, settings=_steps)  # type: ignore[no-untyped-call]
