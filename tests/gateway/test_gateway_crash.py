"""A gateway that is killed while calls run loses nothing of a budget, and charges nothing twice."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from gateway_process import gateway_process
from streaming_server import service, streaming_server

STREAMS = 200


def body(model: str, *, stream: bool) -> dict[str, object]:
    messages = [{"role": "user", "content": "hello"}]
    return {"model": model, "messages": messages, "stream": stream, "max_tokens": 50}


# A connection that is reset while it is made is left to the garbage collector by httpcore.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_gateway_frees_what_its_streams_had_reserved_and_charges_each_once(tmp_path: Path) -> None:
    with streaming_server() as url:
        services = service(url) + service(f"{url}/endless", "endless")
        budget = ("--budget-tokens", "100000", "--budget-period", "total")
        with gateway_process(tmp_path, services=services) as gateway:
            key = gateway.create_key("crash", *budget)
            headers = {"x-api-key": key}
            whole = httpx.post(f"{gateway.url}/v1/chat/completions", json=body("main", stream=False), headers=headers)
            assert whole.json()["usage"]["total_tokens"] == 14
            started = threading.Semaphore(0)

            def read() -> None:
                try:
                    with httpx.stream(
                        "POST",
                        f"{gateway.url}/v1/chat/completions",
                        json=body("endless", stream=True),
                        headers=headers,
                        timeout=60,
                    ) as answer:
                        for number, _ in enumerate(answer.iter_raw()):
                            if number == 0:
                                started.release()
                except (httpx.HTTPError, httpx.StreamError):
                    pass

            threads = [threading.Thread(target=read) for _ in range(STREAMS)]
            for thread in threads:
                thread.start()
            for _ in threads:
                assert started.acquire(timeout=60)
            gateway.kill()
            for thread in threads:
                thread.join(30)
        with closing(sqlite3.connect(tmp_path / "gateway.sqlite3")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("SELECT count(*) FROM reservations").fetchone() == (STREAMS,)
        spent = []
        for _ in range(2):  # a second start charges nothing again
            with gateway_process(tmp_path, services=services) as gateway:
                with closing(sqlite3.connect(tmp_path / "gateway.sqlite3")) as database:
                    assert database.execute("SELECT count(*) FROM reservations").fetchone() == (0,)
                    columns = "sum(spent_tokens), sum(reserved_tokens)"
                    spent.append(database.execute(f"SELECT {columns} FROM budgets").fetchone())
                again = httpx.post(
                    f"{gateway.url}/v1/chat/completions", json=body("main", stream=False), headers={"x-api-key": key}
                )
                assert again.status_code == 200
                gateway.stop()
        (first, reserved), (second, _) = spent
        assert reserved == 0
        assert 14 + STREAMS <= first <= 14 + STREAMS * 50
        assert second == first + 14
    with closing(sqlite3.connect(tmp_path / "gateway.sqlite3")) as database:
        outcomes = database.execute("SELECT outcome, count(*) FROM log WHERE service = 'endless' GROUP BY outcome")
        assert outcomes.fetchall() == [("interrupted", STREAMS)]
        columns = "requests, errors, input_tokens, output_tokens"
        counted = database.execute(f"SELECT {columns} FROM usage WHERE service = 'endless'").fetchone()
        assert counted == (STREAMS, STREAMS, first - 14, 0)
