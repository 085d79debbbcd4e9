"""The stores of keys, services, sessions and usage."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence

import anyio
import attrs
import pytest
from cryptography.fernet import Fernet
from gateway_servers import PostgresqlServer, postgresql_server
from sqlalchemy import event, select, text
from sqlalchemy.engine import Engine
from trunkline import Secret
from trunkline_gateway.database import usage as usage_module
from trunkline_gateway.database.connecting import DatabaseError
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.keys import KeyStore
from trunkline_gateway.database.services import ServiceStore, StoredService
from trunkline_gateway.database.sessions import SessionStore
from trunkline_gateway.database.tables import keys, services
from trunkline_gateway.database.usage import UsageStore
from trunkline_gateway.database.values import InvalidValueError
from trunkline_gateway.encryption import Encryption, EncryptionError
from trunkline_gateway.keys import Budget, KeyDraft, digest
from trunkline_gateway.usage import CallRecord, UsageRow

pytestmark = pytest.mark.anyio

SQL = "'; DROP TABLE keys; --"


def new_encryption() -> tuple[str, Encryption]:
    key = Fernet.generate_key().decode()
    return key, Encryption(Secret(key))


class Counter:
    """Counts the statements that begin so."""

    def __init__(self, start: str) -> None:
        self.start = start
        self.number = 0

    def __call__(self, connection: object, cursor: object, statement: str, *_: object) -> None:
        self.number += statement.startswith(self.start)

    def __enter__(self) -> Counter:
        event.listen(Engine, "before_cursor_execute", self)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self)


# Keys


async def test_a_key_is_stored_with_all_that_was_chosen_and_without_its_secret(database: Database) -> None:
    store = KeyStore(database)
    draft = KeyDraft(
        name=SQL,
        scopes=("main/*", SQL, "señor/😀"),
        expires_at=datetime.datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC),
        requests_per_minute=2**40,
        tokens_per_minute=0,
        budget=Budget(period="total", tokens=2**62, cost=2**62),
    )
    key, secret = await store.create(draft)
    other, _ = await store.create(KeyDraft(name="b"))
    assert key.draft == draft
    assert secret.startswith(key.prefix)
    assert await store.get(key.id) == key
    assert await store.find(secret) == key
    assert await store.list() == [other, key]
    stored = await database.read(lambda connection: str(connection.execute(select(keys)).all()))
    assert secret not in stored
    assert digest(secret) in stored


async def test_a_time_in_another_zone_is_the_same_moment(database: Database) -> None:
    store = KeyStore(database)
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    at = datetime.datetime(2030, 1, 1, 2, 0, tzinfo=zone)
    key, _ = await store.create(KeyDraft(name="a", expires_at=at))
    found = await store.get(key.id)
    assert found is not None
    assert found.draft.expires_at == at


async def test_a_changed_or_revoked_key_is_found_as_it_is_now(database: Database) -> None:
    store, other = KeyStore(database), KeyStore(database)
    key, secret = await store.create(KeyDraft(name="a"))
    assert await other.find(secret) == key
    await store.update(key.id, KeyDraft(name="b", scopes=("x",)))
    found = await store.find(secret)
    assert found is not None
    assert found.draft == KeyDraft(name="b", scopes=("x",))
    await store.revoke(key.id)
    found = await store.find(secret)
    assert found is not None
    assert found.revoked_at is not None
    await store.revoke(key.id)
    assert await store.find(secret) == found
    # Another instance remembers it until it is made to forget.
    assert await other.find(secret) == key
    other.forget()
    assert await other.find(secret) == found


async def test_secrets_are_looked_up_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store = KeyStore(database)
    _, secret = await store.create(KeyDraft(name="a"))
    with Counter("SELECT keys") as counter:
        for _ in range(3):
            assert await store.find(secret) is not None
            assert await store.find(secret + "x") is None
            assert await store.find(secret[:-1]) is None
        assert counter.number == 3
        for wrong in ("", "sk-other", "tlk_" + "x" * 10**6):
            assert await store.find(wrong) is None
        assert counter.number == 3
        for odd in ("tlk_\0", "tlk_\ud800", "tlk_😀", f"tlk_{SQL}"):
            assert await store.find(odd) is None
    monkeypatch.setattr("trunkline_gateway.database.keys._REMEMBERED", 10)
    for number in range(30):
        await store.find(f"tlk_{number}")
    assert len(store._missing) <= 12


@pytest.mark.parametrize(
    "draft",
    [
        KeyDraft(name=""),
        KeyDraft(name="a\0"),
        KeyDraft(name="a\r\nb"),
        KeyDraft(name="a", scopes=("x\0",)),
        KeyDraft(name="a", requests_per_minute=-1),
        KeyDraft(name="a", tokens_per_minute=2**63),
        KeyDraft(name="a", budget=Budget(tokens=-1)),
        KeyDraft(name="a", budget=Budget(cost=2**63)),
    ],
)
async def test_a_key_that_cannot_be_stored_is_refused(database: Database, draft: KeyDraft) -> None:
    store = KeyStore(database)
    key, _ = await store.create(KeyDraft(name="good"))
    with pytest.raises(InvalidValueError):
        await store.create(draft)
    with pytest.raises(InvalidValueError):
        await store.update(key.id, draft)
    assert await store.list() == [key]


@pytest.mark.parametrize("key_id", [-1, 0, 99, 2**31, 2**63, 10**40])
async def test_a_key_that_does_not_exist_is_reported(database: Database, key_id: int) -> None:
    store = KeyStore(database)
    assert await store.get(key_id) is None
    with pytest.raises(InvalidValueError, match="no key with the id"):
        await store.update(key_id, KeyDraft(name="a"))
    with pytest.raises(InvalidValueError, match="no key with the id"):
        await store.revoke(key_id)


# Services


async def test_services_and_aliases_are_stored_and_secrets_encrypted(database: Database) -> None:
    store = ServiceStore(database, new_encryption()[1])
    main = StoredService(name="main", table={"provider": "openai", "x": [1, None, "\0é"]}, secrets={"api_key": "sk-1"})
    plain = StoredService(name=SQL, table={"provider": "ollama"})
    await store.save(main)
    await store.save(plain)
    assert await store.list() == [plain, main]
    rows = await database.read(lambda connection: str(connection.execute(select(services)).all()))
    assert "sk-1" not in rows
    assert "sk-1" not in repr(main)
    changed = attrs.evolve(main, table={"provider": "openai"}, secrets={})
    await store.save(changed)
    await store.delete(SQL)
    await store.delete("nothing")
    assert await store.list() == [changed]
    await store.set_alias("fast", "main/gpt")
    await store.set_alias("fast", f"main/{SQL}")
    await store.set_alias("best", "main/gpt")
    await store.set_alias("best", None)
    assert await store.aliases() == {"fast": f"main/{SQL}"}
    assert await database.revision() == 9


async def test_another_encryption_key_is_noticed_at_the_start(database: Database) -> None:
    key, encryption = new_encryption()
    # Without a service, too.
    assert await ServiceStore(database, encryption).list() == []
    new_key, other = new_encryption()
    store = ServiceStore(database, other)
    for _ in range(2):
        with pytest.raises(EncryptionError, match="another key"):
            await store.list()
        with pytest.raises(EncryptionError, match="another key"):
            await store.save(StoredService(name="a", table={}))
    both = ServiceStore(database, Encryption(Secret(f"{new_key},{key}")))
    saved = StoredService(name="a", table={"provider": "x"}, secrets={"api_key": "sk-1"})
    await ServiceStore(database, encryption).save(saved)
    assert await both.list() == [saved]
    assert await both.reencrypt() == 1
    assert await ServiceStore(database, other).list() == [saved]
    with pytest.raises(EncryptionError):
        await ServiceStore(database, encryption).list()


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "x" * 201])
async def test_a_name_that_cannot_be_stored_is_refused(database: Database, name: str) -> None:
    store = ServiceStore(database, new_encryption()[1])
    with pytest.raises(InvalidValueError):
        await store.save(StoredService(name=name, table={}))
    with pytest.raises(InvalidValueError):
        await store.set_alias(name, "main/gpt")
    with pytest.raises(InvalidValueError):
        await store.set_alias("a", name)
    with pytest.raises(InvalidValueError):
        await SessionStore(database).set_value(name, "x")


# Sessions


async def test_a_session_is_found_by_its_cookie_until_it_ends(database: Database) -> None:
    store = SessionStore(database)
    hour = datetime.timedelta(hours=1)
    cookie, session = await store.create("señor@example.com", hour)
    second, _ = await store.create("admin", hour)
    third, _ = await store.create("admin", hour)
    expired, _ = await store.create("admin", -hour)
    assert await store.find(cookie) == session
    assert await store.find(expired) is None
    for wrong in ("", cookie[:-1], "\0", "\ud800", SQL):
        assert await store.find(wrong) is None
    await store.end(cookie)
    assert await store.find(cookie) is None
    assert await store.find(second) is not None
    await store.end_all()
    assert await store.find(second) is None
    assert await store.find(third) is None
    with pytest.raises(InvalidValueError):
        await store.create("a\0", hour)


async def test_of_several_that_set_a_value_first_one_does(database: Database) -> None:
    store = SessionStore(database)
    done: list[bool] = []

    async def set_value(value: str) -> None:
        done.append(await store.set_value("name", value, only_if_absent=True))

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(set_value, str(number))
    assert sorted(done) == [False] * 9 + [True]
    assert await store.set_value("name", "new")
    assert await store.get_value("name") == "new"
    assert await store.get_value("other") is None


# Usage

START = datetime.datetime(2026, 1, 31, 23, 59, 59, tzinfo=datetime.UTC)
CALL = CallRecord(
    id="r0",
    key_id=7,
    key_name="seven",
    service="main",
    model="gpt",
    api="/v1/responses",
    started_at=START,
    outcome="ok",
    status=200,
    seconds=1.5,
    first_token_seconds=0.25,
    input_tokens=10,
    output_tokens=20,
    cost=30,
)


async def all_usage(store: UsageStore, key_id: int | None = None) -> Sequence[UsageRow]:
    return await store.usage(datetime.date(2000, 1, 1), datetime.date(2100, 1, 1), key_id=key_id)


async def test_calls_are_added_to_the_usage_of_their_day(database: Database) -> None:
    one, two = UsageStore(database, log_days=36500), UsageStore(database, log_days=36500)
    east = datetime.timezone(datetime.timedelta(hours=9))
    one.record(CALL)
    one.record(attrs.evolve(CALL, outcome="error", cost=None, key_name="renamed"))
    two.record(attrs.evolve(CALL, started_at=START.astimezone(east), key_name="renamed"))
    two.record(attrs.evolve(CALL, key_id=None, key_name="", started_at=START + datetime.timedelta(seconds=1)))
    assert await all_usage(one) == []
    async with anyio.create_task_group() as tasks:
        for store in (one, two, one, two):
            tasks.start_soon(store.flush)
    first, second = await all_usage(one)
    assert first.key_name in {"seven", "renamed"}
    assert attrs.evolve(first, key_name="") == UsageRow(
        day=datetime.date(2026, 1, 31),
        key_id=7,
        key_name="",
        service="main",
        model="gpt",
        requests=3,
        errors=1,
        input_tokens=30,
        output_tokens=60,
        cost=60,
        unpriced=1,
    )
    assert (second.day, second.key_id, second.requests) == (datetime.date(2026, 2, 1), None, 1)
    assert await all_usage(one, 7) == [first]
    assert await one.usage(datetime.date(2026, 2, 1), datetime.date(2026, 2, 1)) == [second]


async def test_the_log_has_all_of_a_call_and_pages(database: Database) -> None:
    store = UsageStore(database, log_days=36500)
    calls = [attrs.evolve(CALL, id=f"r{number}", key_id=number % 2) for number in range(25)]
    calls[3] = attrs.evolve(calls[3], error=SQL, request='{"a":"\\u0000é"}', response="{}", estimated=True)
    for call in calls:
        store.record(call)
    await store.flush()
    newest = calls[::-1]
    assert await store.log(limit=10) == newest[:10]
    assert await store.log(limit=10, before="r15") == newest[10:20]
    assert await store.log(before="r0") == []
    assert await store.log(before="nothing\0") == []
    assert await store.log(key_id=1) == [call for call in newest if call.key_id == 1]


async def test_what_cannot_be_stored_is_replaced(database: Database) -> None:
    store = UsageStore(database, log_days=36500)
    odd = attrs.evolve(CALL, model="m\0" * 300, error="\ud800", request="\0", input_tokens=10**40, output_tokens=-1)
    store.record(odd)
    await store.flush()
    [call] = await store.log()
    assert call.model == "m\ufffd" * 100
    assert (call.error, call.request, call.input_tokens, call.output_tokens) == ("\ufffd", "\ufffd", 10**15, 0)


async def test_old_rows_of_the_log_are_deleted_and_usage_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "_DELETED", 2)
    monkeypatch.setattr(usage_module, "WRITE_SECONDS", 0.01)
    store = UsageStore(database, log_days=30)
    now = datetime.datetime.now(datetime.UTC)
    for days in (0, 29, 31, 32, 33, 400, 500):
        store.record(attrs.evolve(CALL, id=str(days), started_at=now - datetime.timedelta(days=days)))
    await store.flush()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.run)
        while len(await store.log()) > 2:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert [call.id for call in await store.log()] == ["29", "0"]
    assert sum(row.requests for row in await all_usage(store)) == 7


async def test_usage_is_written_and_the_gateway_ends_while_many_old_rows_of_the_log_are_deleted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_module, "_DELETED", 1)
    monkeypatch.setattr(usage_module, "WRITE_SECONDS", 3600)
    store = UsageStore(database, log_days=30)
    for number in range(20):
        store.record(attrs.evolve(CALL, id=str(number)))
    await store.flush()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.run)
        while len(await store.log()) == 20:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert len(await store.log()) == 19


async def test_without_days_no_log_is_kept(database: Database) -> None:
    store = UsageStore(database, log_days=0)
    store.record(CALL)
    await store.flush()
    assert await store.log() == []
    assert len(await all_usage(store)) == 1


async def test_what_is_queued_is_written_by_itself(database: Database) -> None:
    store = UsageStore(database, log_days=36500)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.run)
        store.record(CALL)
        while not await all_usage(store):  # noqa: ASYNC110
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()


async def test_while_the_database_is_away_usage_is_kept_and_the_oldest_rows_of_the_log_are_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(usage_module, "MOST_QUEUED", 10)
    with postgresql_server() as server:
        async with await Database.open(server.database("gateway")) as database:
            store = UsageStore(database, log_days=36500)
            server.stop()
            with caplog.at_level(logging.WARNING, logger="trunkline_gateway"):
                for number in range(25):
                    store.record(attrs.evolve(CALL, id=str(number)))
                    if number % 8 == 0:
                        await store.flush()
            assert "usage is written later" in caplog.text
            server.start()
            await store.flush()
            await store.flush()
            assert [call.id for call in await store.log()] == [str(number) for number in range(24, 14, -1)]
            [row] = await all_usage(store)
            assert (row.requests, row.input_tokens) == (25, 250)


async def test_a_failed_write_of_usage_leaves_nothing_half_written(postgresql: PostgresqlServer) -> None:
    url = postgresql.database("half")
    async with await Database.open(url) as database:
        store = UsageStore(database, log_days=36500)
        store.record(CALL)
        await database.write(lambda connection: connection.execute(text("ALTER TABLE log RENAME TO gone")))
        await store.flush()
        assert await all_usage(store) == []
        with pytest.raises(DatabaseError):
            await store.log()
        await database.write(lambda connection: connection.execute(text("ALTER TABLE gone RENAME TO log")))
        await store.flush()
        assert await store.log() == [CALL]
        assert [row.requests for row in await all_usage(store)] == [1]
