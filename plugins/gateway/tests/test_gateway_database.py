"""Opening the database: its migrations, several at once, its errors, and what survives."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import PIPE, Popen as Process
from typing import Any

import anyio
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from gateway_servers import PostgresqlServer, postgresql_server
from sqlalchemy import Connection, insert, select, text
from trunkline_gateway.database import connecting, engine, migrate as migrate_module
from trunkline_gateway.database.connecting import DatabaseError
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.keys import KeyStore
from trunkline_gateway.database.migrate import migrate
from trunkline_gateway.database.sessions import SessionStore
from trunkline_gateway.database.tables import metadata, named_values
from trunkline_gateway.database.values import InvalidValueError, check_name, clean
from trunkline_gateway.keys import KeyDraft


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, metadata))


def modes_of(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def table_names(connection: Connection) -> set[str]:
    return set(connection.dialect.get_table_names(connection))


@pytest.mark.anyio
async def test_migrations_go_forward_and_back_and_make_the_tables_of_the_code(database_url: str) -> None:
    for _ in range(2):
        await anyio.to_thread.run_sync(migrate, database_url)
        async with await Database.open(database_url) as database:
            assert await database.read(differences) == []
            assert await database.revision() == 0
        await anyio.to_thread.run_sync(migrate, database_url, "base")
    # Opened, it is at the newest version again.
    async with await Database.open(database_url) as database:
        assert set(metadata.tables) <= await database.read(table_names)


@pytest.mark.anyio
async def test_migrating_back_leaves_no_table(database_url: str) -> None:
    async with await Database.open(database_url) as database:
        await anyio.to_thread.run_sync(migrate, database_url, "base")
        assert await database.read(table_names) == {"alembic_version"}


def test_the_newest_migration_is_the_one_that_the_code_expects() -> None:
    assert ScriptDirectory.from_config(migrate_module._config()).get_heads() == [migrate_module.HEAD]


@pytest.mark.anyio
async def test_a_migration_that_does_not_exist_is_refused(database_url: str) -> None:
    with pytest.raises(DatabaseError, match=r"no migration '9': give head, base or one of 0001"):
        await anyio.to_thread.run_sync(migrate, database_url, "9")


@pytest.mark.anyio
async def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(database_url: str) -> None:
    async with await Database.open(database_url) as database:
        await database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num='9'")))
        with pytest.raises(DatabaseError, match=r"newer trunkline-gateway: it is at 9.*migrate back"):
            await Database.open(database_url)
        for revision in ("head", "base"):
            with pytest.raises(DatabaseError, match="newer trunkline-gateway"):
                await anyio.to_thread.run_sync(migrate, database_url, revision)
        assert "keys" in await database.read(table_names)


@pytest.mark.anyio
async def test_instances_that_start_at_once_migrate_one_after_another(database_url: str) -> None:
    code = """
import asyncio, sys
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.sessions import SessionStore
async def main():
    sys.stdin.read()
    async with await Database.open(sys.argv[1]) as database:
        print(await SessionStore(database).set_value("first", sys.argv[2], only_if_absent=True))
asyncio.run(main())
"""
    started = [
        Process(  # noqa: ASYNC220
            [sys.executable, "-c", code, database_url, str(number)],
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    ended = [await anyio.to_thread.run_sync(process.communicate) for process in started]
    assert sorted(output.strip() for output, _ in ended) == ["False", "False", "False", "True"], ended


@pytest.mark.anyio
async def test_several_databases_are_opened_in_one_process_at_once(tmp_path: Path) -> None:
    async def open_one(name: str) -> None:
        async with await Database.open(f"sqlite:///{tmp_path / name}") as database:
            assert await database.revision() == 0

    async with anyio.create_task_group() as tasks:
        for name in ("a", "b", "b", "b", "c with % and ?"):
            tasks.start_soon(open_one, name)


@pytest.mark.anyio
async def test_the_files_of_sqlite_are_for_their_owner_and_in_wal_mode(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.sqlite3'}"
    async with await Database.open(url) as database:
        await SessionStore(database).set_value("a", "b")
        modes = modes_of(tmp_path)
        assert modes == dict.fromkeys((f"gateway.sqlite3{end}" for end in ("", "-wal", "-shm", ".lock")), 0o600)
        for pragma, value in (("journal_mode", "wal"), ("foreign_keys", 1)):
            statement = text(f"PRAGMA {pragma}")
            assert await database.read(lambda connection, s=statement: connection.execute(s).scalar()) == value


@pytest.mark.anyio
async def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    def work(connection: Connection) -> None:
        connection.execute(insert(named_values).values(name="a", value="b"))
        raise KeyError("stop")

    with pytest.raises(KeyError):
        await database.write(work)
    assert await SessionStore(database).get_value("a") is None


@pytest.mark.anyio
async def test_a_cancelled_write_is_whole(database: Database) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await database.write(lambda connection: connection.execute(insert(named_values).values(name="a", value="b")))
    assert await SessionStore(database).get_value("a") == "b"


@pytest.mark.anyio
async def test_each_change_counts_in_the_revision(database: Database) -> None:
    keys = KeyStore(database)
    seen = [await database.revision()]
    key, _ = await keys.create(KeyDraft(name="a"))
    seen.append(await database.revision())
    await keys.update(key.id, KeyDraft(name="b"))
    seen.append(await database.revision())
    await keys.revoke(key.id)
    seen.append(await database.revision())
    assert seen == [0, 1, 2, 3]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:hunter2@host/name", "there is no database 'mysql'"),
        ("hunter2", "is not one: give sqlite"),
        ("postgresql://u:hunter2@host:port/name", "is not one"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:////nowhere/at/all.sqlite3", "unable to open database file; does its folder exist"),
        ("postgresql://u:hunter2@127.0.0.1:1/name", r"u:\*\*\*@127.0.0.1:1/name: .*is its server running"),
        ("postgres://u:hunter2@127.0.0.1:1/name?sslmode=disable", r"u:\*\*\*@127.0.0.1:1/name: "),
        ("postgresql://u:hunter2@127.0.0.1:1/name?sslmode=hunter2", "sslmode"),
    ],
)
async def test_a_url_that_leads_nowhere_is_reported_without_its_password(url: str, message: str) -> None:
    with pytest.raises(DatabaseError, match=message) as raised:
        await Database.open(url)
    assert "hunter2" not in str(raised.value).replace("sslmode", "").replace("'hunter2'", "")
    with pytest.raises(DatabaseError):
        await anyio.to_thread.run_sync(migrate, url)


@pytest.mark.anyio
async def test_a_file_that_is_no_database_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("this is a text and not a database\n" * 100)
    with pytest.raises(DatabaseError, match=re.escape(f"sqlite:///{path}: file is not a database")):
        await Database.open(f"sqlite:///{path}")


@pytest.mark.anyio
async def test_sqlite_that_stays_locked_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "BUSY_SECONDS", 0.01)
    path = tmp_path / "gateway.sqlite3"
    async with await Database.open(f"sqlite:///{path}") as database:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match="database is locked"):
            await SessionStore(database).set_value("a", "b")
        # Reading goes on.
        await database.ping()
        other.close()
        assert await SessionStore(database).set_value("a", "b")


@pytest.mark.anyio
async def test_connections_are_made_again_after_the_server_restarts() -> None:
    with postgresql_server() as server:
        async with await Database.open(server.database("gateway")) as database:
            values = SessionStore(database)
            await values.set_value("a", "b")
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(database.ping)
            server.stop()
            with pytest.raises(DatabaseError):
                await database.ping()
            server.start()
            assert await values.get_value("a") == "b"
            server.kill()
            with pytest.raises(DatabaseError, match="is its server running"):
                await values.set_value("a", "c")
            server.start()
            assert await values.set_value("a", "c")


@pytest.mark.anyio
async def test_postgresql_ends_the_transactions_of_a_machine_that_has_vanished(
    postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "IDLE_SECONDS", 0.1)
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'idle' AND state LIKE 'idle in transaction%'"

    def vanish(connection: Connection) -> None:
        # The event loop waits, so the server gets no more statements.
        connection.execute(text("SELECT 1"))
        for _ in range(200):
            if postgresql.execute(idle) == "0":
                return

    async with await Database.open(postgresql.database("idle")) as database:
        with pytest.raises(DatabaseError):
            await database.write(vanish)
        await database.ping()


@pytest.mark.anyio
async def test_a_connection_that_cannot_be_set_up_is_closed(
    postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncpg = pytest.importorskip("asyncpg")
    url = postgresql.database("set_up")
    async with await Database.open(url):
        pass
    made: list[Any] = []

    async def execute(connection: object, statement: str) -> None:
        made.append(connection)
        await anyio.sleep_forever()  # as PgBouncer does while its server is away

    monkeypatch.setattr(asyncpg.Connection, "execute", execute)
    with anyio.move_on_after(0.1):
        await Database.open(url)
    assert [connection.is_closed() for connection in made] == [True]


@pytest.mark.anyio
async def test_more_calls_than_connections_all_get_theirs(postgresql: PostgresqlServer) -> None:
    async with await Database.open(postgresql.database("many")) as database:
        numbers: list[int] = []

        async def look() -> None:
            numbers.append(await database.revision())

        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(look)
        assert numbers == [0] * 100
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'many'"
        assert int(postgresql.execute(count)) <= 2 * engine.CONNECTIONS


@pytest.mark.anyio
async def test_what_was_written_survives_kill_9(database_url: str) -> None:
    code = """
import asyncio, os, signal, sys
from trunkline_gateway.database.engine import Database
from trunkline_gateway.database.sessions import SessionStore
async def main():
    database = await Database.open(sys.argv[1])
    for number in range(20):
        await SessionStore(database).set_value(str(number), "x")
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run([sys.executable, "-c", code, database_url], check=False, capture_output=True)
    )
    assert done.returncode == -9, done.stderr
    async with await Database.open(database_url) as database:
        rows = await database.read(lambda connection: connection.execute(select(named_values)).all())
        assert len(rows) == 20


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "a\nb", "\x1b[31m", "\ud800", "x" * 201, "\u202e"])
def test_names_with_control_characters_are_refused(name: str) -> None:
    with pytest.raises(InvalidValueError, match="the name of the thing") as raised:
        check_name(name, "the thing")
    assert "\0" not in str(raised.value)


def test_text_is_cleaned_of_what_cannot_be_stored() -> None:
    assert clean("a\0b") == "a\ufffdb"
    assert clean("\ud83d") == "\ufffd"
    assert clean("\ud83d\ude00") == "😀"
    assert clean("señor", 3) == "señ"


CLOSED_AGAIN = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(*(name for name, in connection.execute("SELECT name FROM keys ORDER BY id")))
connection.close()
"""


@pytest.mark.anyio
async def test_another_process_that_opens_and_closes_the_file_disturbs_no_connection(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sqlite3"
    async with await Database.open(f"sqlite:///{path}") as database:
        keys = KeyStore(database)
        await keys.create(KeyDraft(name="first"))
        # More connections than one, which are made while others hold their locks.
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(database.ping)
                tasks.start_soon(keys.list)
        await anyio.run_process([sys.executable, "-c", CLOSED_AGAIN, str(path)])
        await keys.create(KeyDraft(name="second"))
        seen = await anyio.run_process([sys.executable, "-c", CLOSED_AGAIN, str(path)])
        assert seen.stdout.decode().split() == ["first", "second"]


@pytest.mark.anyio
async def test_writes_at_once_are_all_committed_in_order_except_one_that_fails(database: Database) -> None:
    def add(number: int) -> Callable[[Connection], int]:
        def work(connection: Connection) -> int:
            connection.execute(insert(named_values).values(name=f"n{number}", value="x"))
            if number == 7:
                raise InvalidValueError("7 is wrong")
            return number

        return work

    results = await asyncio.gather(*[database.write(add(number)) for number in range(20)], return_exceptions=True)
    assert [str(result) for result in results] == ["7 is wrong" if number == 7 else str(number) for number in range(20)]
    names = await database.read(lambda connection: connection.execute(select(named_values.c.name)).scalars().all())
    added = [name for name in names if name.startswith("n")]
    assert sorted(added) == sorted(f"n{number}" for number in range(20) if number != 7)


@pytest.mark.anyio
async def test_a_write_that_is_cancelled_before_its_turn_is_not_made(tmp_path: Path) -> None:
    made = []
    async with await Database.open(f"sqlite:///{tmp_path / 'gateway.sqlite3'}") as database:
        tasks = [
            asyncio.ensure_future(database.write(lambda _, number=number: made.append(number))) for number in range(3)
        ]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait(tasks)
    assert made == [0, 2]


@pytest.mark.anyio
async def test_a_database_that_closes_ends_its_writes_and_takes_no_more(database: Database) -> None:
    def add(connection: Connection) -> str:
        connection.execute(insert(named_values).values(name="last", value="x"))
        return "added"

    last = asyncio.ensure_future(database.write(add))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(database.aclose())
    await asyncio.sleep(0)
    for use in (database.write, database.read):
        with pytest.raises(DatabaseError, match="the database is closed"):
            await use(add)
    await closing
    await database.aclose()
    assert await last == "added"


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [StopIteration, GeneratorExit])
async def test_writes_that_are_broken_off_fail_and_later_ones_are_made(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    def broken(_: Connection) -> None:
        raise kind

    async with await Database.open(f"sqlite:///{tmp_path / 'gateway.sqlite3'}") as database:
        works: list[Callable[[Connection], object]] = [broken, broken, lambda _: "made"]
        async with asyncio.timeout(20):
            results = await asyncio.gather(*[database.write(work) for work in works], return_exceptions=True)
            assert isinstance(results[0], DatabaseError)
            assert await database.write(lambda _: "later") == "later"
