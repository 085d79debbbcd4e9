"""Provider batches in a Ray dataset: the actor's class, called as Ray calls it."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import many_batches
import pyarrow as pa
import pytest
import trunkline_ray
from server_process import server_process
from trunkline.batch.journal import Journal
from trunkline.errors import InvalidRequest
from trunkline_ray.batch_stage import BatchStage
from trunkline_ray.stage import StageOptions


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def url() -> Iterator[str]:
    with server_process(sys.executable, many_batches.__file__, "2") as url:
        yield url


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.batch.provider_batches.FIRST_POLL", 0.001)
    monkeypatch.setattr("trunkline.batch.provider_batches.LONGEST_POLL", 0.01)
    monkeypatch.setenv("BATCH_KEY", "k")


@pytest.fixture
def options(url: str, tmp_path: Path) -> StageOptions:
    main = {"provider": "openai", "api_url": f"{url}/v1", "api_key": {"env": "BATCH_KEY"}, "default_model": "gpt-4.1"}
    return StageOptions(
        run="run1",
        config={"services": {"main": main}},
        service="main",
        journal=str(tmp_path / "journal"),
        operation="chat",
        request="{text}",
        system=None,
        params={},
        id_column="id",
        answer_type=None,
        answer_retries=0,
        concurrency=4,
        rows_per_request=1,
        retry_failed=False,
        patience=900.0,
        prefix="",
    )


def submitted(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/stats", timeout=30) as response:
        seen: dict[str, int] = json.load(response)["seen"]
    return seen


def table(*numbers: int) -> pa.Table:
    return pa.table({"id": list(numbers), "text": [f"t{number}" for number in numbers]})


def rows(stage: BatchStage, block: pa.Table) -> list[dict[str, Any]]:
    return [row for piece in stage(block) for row in piece.to_pylist()]


def test_each_row_gets_its_answer_in_order(options: StageOptions, url: str) -> None:
    stage = BatchStage(options)
    with ThreadPoolExecutor() as threads:
        blocks = threads.map(lambda start: rows(stage, table(*range(start, start + 600))), (0, 600, 1200))
    found = [row for block in blocks for row in block]
    assert [row["id"] for row in found] == list(range(1800))
    assert [row["response_text"] for row in found] == [f"T{number}" for number in range(1800)]
    assert submitted(url) == {f"t{number}": 1 for number in range(1800)}


def test_a_row_that_fails_is_a_row_with_an_error(options: StageOptions) -> None:
    block = pa.table({"id": ["a", "b"], "text": ["fail now", "fine"]})
    failed, fine = rows(BatchStage(options), block)
    assert (failed["error_type"], failed["response_text"]) == ("BadRequest", None)
    assert (fine["error_type"], fine["response_text"]) == (None, "FINE")
    again = attrs.evolve(options, retry_failed=True)
    assert [row["error_type"] for row in rows(BatchStage(again), block)] == [None, None]


@pytest.mark.parametrize("number", range(1, 8))
def test_the_next_job_collects_what_a_job_that_died_has_submitted(options: StageOptions, url: str, number: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count = 0
        append = Journal.append

        def dying(self: Journal, record: Any) -> None:
            nonlocal count
            count += 1
            if count > number:
                raise Killed
            append(self, record)

        patch.setattr(Journal, "append", dying)
        with pytest.raises(BaseException):  # noqa: B017
            rows(BatchStage(options), table(1, 2, 3, 4))
    # Ray divides the rows into other blocks.
    stage = BatchStage(options)
    found = [*rows(stage, table(4, 5)), *rows(stage, table(3, 1, 2))]
    assert {row["id"]: row["response_text"] for row in found} == {number: f"T{number}" for number in range(1, 6)}
    assert submitted(url) == {f"t{number}": 1 for number in range(1, 6)}


def test_wrong_uses_are_refused(tmp_path: Path) -> None:
    dataset: Any = None
    given: Any
    for given, why in (({"operation": "embed"}, "is for chats"), ({"actors": 2}, "actors must be 1")):
        with pytest.raises(InvalidRequest, match=why):
            trunkline_ray.map(
                dataset, "{text}", service="main", journal=tmp_path, config={}, provider_batches=True, **given
            )


def test_blocks_that_share_a_file_keep_their_failures_when_failures_are_retried(options: StageOptions) -> None:
    wrong = attrs.evolve(options, request="{no column}")
    errors = [row["error_type"] for row in rows(BatchStage(wrong), table(1, 2))]
    assert errors == ["InvalidRequest", "InvalidRequest"]
    stage = BatchStage(attrs.evolve(wrong, retry_failed=True))
    for number in (1, 2):
        assert [row["error_type"] for row in rows(stage, table(number))] == ["InvalidRequest"]
    lines = [line for path in Path(options.journal).glob("*.failed.jsonl") for line in path.read_text().splitlines()]
    assert sorted(json.loads(line)["id"] for line in lines) == ["1", "2"]
