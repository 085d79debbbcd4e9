"""`trunkline.batch.map` with provider batches: each row once in the output, and submitted once, however a run ends."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.request import urlopen

import anyio
import attrs
import pytest
from many_batches import ManyBatches, ManyMessageBatches
from server_process import server_process
from trunkline import InvalidRequest, Service, batch, open_service
from trunkline.batch import MapStopped, Progress, RowResult
from trunkline.batch.journal import Journal
from trunkline.testing import serve
from trunkline_openai.batches import LIMITS

pytestmark = pytest.mark.anyio

MODULE = "trunkline.batch.provider_batches"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}.FIRST_POLL", 0.001)
    monkeypatch.setattr(f"{MODULE}.LONGEST_POLL", 0.01)


@asynccontextmanager
async def opened(provider: ManyBatches, **settings: Any) -> AsyncIterator[Service]:
    name, model = ("openai", "gpt-4.1")
    if isinstance(provider, ManyMessageBatches):
        name, model = ("anthropic", "claude-haiku-4-5")
    async with serve(provider) as server:
        provider.url = server.url
        url = server.url if name == "anthropic" else f"{server.url}/v1"
        values = {"api_key": "k", "api_url": url, "default_model": model, "max_retries": 0, **settings}
        async with open_service(name, **values) as service:
            yield service


async def run(service: Service, rows: object, output: Path, **options: Any) -> batch.Summary:
    return await batch.map(service, rows, "{text}", output, provider_batches=True, **options)  # type: ignore[arg-type]


def texts(count: int) -> list[dict[str, str]]:
    return [{"text": f"t{number}"} for number in range(count)]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def answers(path: Path) -> Counter[str]:
    return Counter(line["text"] for line in lines(path))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.mark.parametrize("kind", [ManyBatches, ManyMessageBatches])
async def test_each_row_is_answered_by_a_batch(kind: type[ManyBatches], output: Path) -> None:
    provider = kind(polls=3)
    seen: list[RowResult] = []
    async with opened(provider) as service:
        summary = await run(service, texts(20), output, on_result=seen.append)
    assert (summary.done, summary.failed, summary.stopped) == (20, 0, False)
    assert (summary.input_tokens, summary.output_tokens) == (400, 100)
    assert answers(output) == {f"T{number}": 1 for number in range(20)}
    assert [line["row"] for line in sorted(lines(output), key=lambda line: line["row"])] == list(range(1, 21))
    assert {result.id for result in seen} == {str(number) for number in range(1, 21)}
    assert len(provider.batches) == 1


async def test_rows_are_divided_among_several_batches(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.batch.batch_state.MOST_ROWS", 4)
    provider = ManyBatches(polls=2)
    async with opened(provider) as service:
        summary = await run(service, texts(30), output, concurrency=3)
    assert summary.done == 30
    assert len(provider.batches) == 8
    assert provider.most_running == 3
    assert answers(output) == {f"T{number}": 1 for number in range(30)}
    assert set(provider.seen.values()) == {1}


@contextmanager
def provider_limits(**values: int) -> Iterator[None]:
    """Give OpenAI other limits."""
    before = {name: getattr(LIMITS, name) for name in values}
    for name, value in values.items():
        object.__setattr__(LIMITS, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            object.__setattr__(LIMITS, name, value)


async def test_batches_have_as_many_requests_as_the_provider_accepts(output: Path) -> None:
    provider = ManyBatches()
    async with opened(provider) as service:
        with provider_limits(requests=5):
            assert (await run(service, texts(12), output)).done == 12
    assert [len(one["lines"]) for one in provider.batches.values()] == [5, 5, 2]
    assert answers(output) == {f"T{number}": 1 for number in range(12)}


async def test_batches_have_as_many_bytes_as_the_provider_accepts(output: Path) -> None:
    provider = ManyBatches()
    async with opened(provider) as service:
        with provider_limits(bytes=1500):
            summary = await run(service, [{"text": "too long " * 1000}, *texts(12)], output)
    assert (summary.done, summary.failed) == (12, 1)
    assert len(provider.batches) > 2
    assert answers(output) == {f"T{number}": 1 for number in range(12)}
    (failure,) = lines(output.with_name("out.failed.jsonl"))
    assert "at most 1500 bytes" in failure["error"]["message"]


async def test_a_batch_has_the_requests_of_one_model(output: Path) -> None:
    from trunkline import ChatRequest

    provider = ManyBatches()
    async with opened(provider) as service:
        summary = await batch.map(
            service,
            [{"text": f"t{number}", "model": f"m{number % 3}"} for number in range(9)],
            lambda row: ChatRequest(messages=str(row["text"]), model=str(row["model"])),
            output,
            provider_batches=True,
        )
    assert summary.done == 9
    models = [{line["body"]["model"] for line in one["lines"]} for one in provider.batches.values()]
    assert sorted(map(sorted, models)) == [["m0"], ["m1"], ["m2"]]


async def test_rows_that_fail_are_recorded_and_those_that_may_pass_are_tried_again(output: Path) -> None:
    rows = [{"text": text} for text in ("one", "fail now", "flaky a", "lost b", "late c")]
    rows.append({"other": "column"})
    provider = ManyBatches()
    async with opened(provider) as service:
        summary = await run(service, rows, output)
        assert (summary.done, summary.failed) == (4, 2)
        assert answers(output) == {"ONE": 1, "FLAKY A": 1, "LOST B": 1, "LATE C": 1}
        failures = {line["id"]: line for line in lines(output.with_name("out.failed.jsonl"))}
        assert failures["2"]["error"]["type"] == "BadRequest"
        assert failures["2"]["input"] == {"text": "fail now"}
        assert failures["6"]["input"] == {"other": "column"}
        assert provider.seen["fail now"] == 1
        # What has failed is not submitted again, unless it is asked for.
        count = len(provider.batches)
        assert (await run(service, rows, output)).failed_before == 2
        assert len(provider.batches) == count
        again = await run(service, rows, output, retry_failed=True)
    assert (again.done, again.failed) == (1, 1)
    assert answers(output)["FAIL NOW"] == 1


async def test_a_row_that_always_fails_is_submitted_three_times(output: Path) -> None:
    class Failing(ManyBatches):
        def _outcome(self, batch: dict[str, Any], text: str) -> str:
            return {"a": "flaky", "b": "skip"}.get(text, "answered")

    provider = Failing()
    async with opened(provider) as service:
        summary = await run(service, [{"text": "a"}, {"text": "b"}, {"text": "c"}], output)
    assert (summary.done, summary.failed) == (1, 2)
    assert provider.seen == {"a": 3, "b": 3, "c": 1}
    errors = {line["id"]: line["error"]["type"] for line in lines(output.with_name("out.failed.jsonl"))}
    assert errors == {"1": "ServerError", "2": "ProtocolViolation"}


class Killed(BaseException):
    """Stands for the end of the process."""


def die_at(monkeypatch: pytest.MonkeyPatch, number: int, *, before: bool) -> None:
    """Let the process end at a write to one of the files, before or after it."""
    count = 0
    append = Journal.append

    def dying(self: Journal, record: Any) -> None:
        nonlocal count
        count += 1
        if count == number and before:
            raise Killed
        append(self, record)
        if count == number:
            raise Killed

    monkeypatch.setattr(Journal, "append", dying)


@pytest.mark.parametrize("kind", [ManyBatches, ManyMessageBatches])
@pytest.mark.parametrize("before", [True, False])
async def test_no_row_is_lost_or_submitted_twice_wherever_a_run_ends(
    kind: type[ManyBatches], before: bool, tmp_path: Path
) -> None:
    for number in range(1, 14):
        output = tmp_path / f"{number}.jsonl"
        provider = kind(polls=2)
        async with opened(provider) as service:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("trunkline.batch.batch_state.MOST_ROWS", 3)
                die_at(patch, number, before=before)
                with pytest.raises(BaseException) as ended:
                    await run(service, texts(7), output, concurrency=2)
                assert Killed in ended_by(ended.value)
            summary = await run(service, texts(7), output, concurrency=2)
        assert answers(output) == {f"T{row}": 1 for row in range(7)}, number
        assert not summary.stopped
        assert provider.seen == {f"t{row}": 1 for row in range(7)}, number


def ended_by(error: BaseException) -> set[type[BaseException]]:
    if isinstance(error, BaseExceptionGroup):
        return {kind for one in error.exceptions for kind in ended_by(one)}
    return {type(error)}


@pytest.mark.parametrize("kind", [ManyBatches, ManyMessageBatches])
async def test_a_batch_whose_acceptance_was_not_heard_is_found_and_not_repeated(
    kind: type[ManyBatches], output: Path
) -> None:
    provider = kind()
    provider.lost_answers = 1
    async with opened(provider) as service:
        summary = await run(service, texts(5), output)
    assert summary.done == 5
    assert len(provider.batches) == 1
    assert provider.listed == 1


async def test_a_batch_of_another_program_is_not_taken_for_the_own(output: Path) -> None:
    provider = ManyMessageBatches()
    async with opened(provider) as service:
        await service.submit_batch({f"theirs-{number}": "other" for number in range(5)})
        provider.refusals = [(500, b"{}")]
        summary = await run(service, texts(5), output)
    assert summary.done == 5
    assert answers(output) == {f"T{row}": 1 for row in range(5)}
    assert len(provider.batches) == 2


async def test_a_refused_submission_is_not_looked_for(output: Path) -> None:
    provider = ManyBatches()
    provider.refusals = [(429, b'{"error":{"message":"slow down"}}')]
    async with opened(provider) as service:
        assert (await run(service, texts(5), output)).done == 5
        provider.refusals = [(401, b'{"error":{"message":"wrong key"}}')]
        with pytest.raises(MapStopped, match="cannot be submitted"):
            await run(service, texts(9), output)
        assert (await run(service, texts(9), output)).done == 4
    assert provider.listed == 0
    assert set(provider.seen.values()) == {1}


async def test_an_outage_is_waited_for_and_ends_the_run_only_after_its_patience(output: Path) -> None:
    provider = ManyBatches(polls=2)
    reported: list[Progress] = []
    async with opened(provider) as service:
        provider.down = 3
        summary = await run(service, texts(5), output, on_progress=reported.append)
        assert summary.done == 5
        provider.down = 1000
        with pytest.raises(MapStopped, match="down for 0 s") as stopped:
            await run(service, texts(6), output, patience=0.0)
        assert stopped.value.summary is not None
        provider.down = 0
        assert (await run(service, texts(6), output)).done == 1
    assert set(provider.seen.values()) == {1}


async def test_a_batch_that_the_provider_fails_as_a_whole_is_submitted_again(output: Path) -> None:
    provider = ManyBatches()
    provider.failures = 2
    async with opened(provider) as service:
        assert (await run(service, texts(5), output)).done == 5
        provider.failures = 1000
        with pytest.raises(MapStopped, match="too many tokens are enqueued"):
            await run(service, texts(6), output)
        provider.failures = 0
        assert (await run(service, texts(6), output)).done == 1
    assert set(provider.seen.values()) == {1}


async def test_a_run_that_is_stopped_leaves_its_batches_to_the_next_run(output: Path) -> None:
    provider = ManyBatches(polls=1000000)
    stop = anyio.Event()
    async with opened(provider) as service, anyio.create_task_group() as tasks:

        async def work() -> None:
            summary = await run(service, texts(5), output, stop=stop)
            assert (summary.done, summary.stopped) == (0, True)

        provider.on_poll = stop.set
        tasks.start_soon(work)
    provider.polls = 0
    async with opened(provider) as service:
        with pytest.raises(InvalidRequest, match="pass provider_batches"):
            await batch.map(service, texts(5), "{text}", output)
        with pytest.raises(InvalidRequest, match="the request changed"):
            await batch.map(service, texts(5), "Other {text}", output, provider_batches=True)
        assert (await run(service, texts(5), output)).done == 5
    assert len(provider.batches) == 1


async def test_cancelled_batches_are_collected_and_the_rest_is_submitted_when_asked(output: Path) -> None:
    provider = ManyBatches(polls=1000000)
    rows = [{"text": "quick"}, {"text": "slow one"}]
    async with opened(provider) as service:
        with anyio.CancelScope() as scope:
            provider.on_poll = scope.cancel
            await run(service, rows, output)
        provider.on_poll = int
        (cancelled,) = await batch.cancel_batches(service, output)
        assert cancelled.status == "cancelling"
        summary = await run(service, rows, output)
        assert (summary.done, summary.stopped) == (1, True)
        provider.polls = 0
        assert (await run(service, rows, output)).done == 1
    assert provider.seen == {"quick": 1, "slow one": 2}
    assert answers(output) == {"QUICK": 1, "SLOW ONE": 1}


async def test_typed_answers_are_read_from_batches(output: Path) -> None:
    @attrs.frozen
    class Label:
        N: int

    seen: list[RowResult] = []
    provider = ManyBatches()
    async with opened(provider) as service:
        rows = [{"text": '{"n": 3}'}, {"text": "no JSON"}]
        summary = await run(service, rows, output, answer_type=Label, answer_retries=1, on_result=seen.append)
    assert (summary.done, summary.failed) == (1, 1)
    assert [result.answer for result in seen if result.error is None] == [Label(3)]
    assert provider.seen["no JSON"] == 2
    assert lines(output)[0]["answer"] == {"N": 3}


async def test_wrong_uses_are_refused(output: Path) -> None:
    provider = ManyBatches()
    async with opened(provider) as service:
        with pytest.raises(InvalidRequest, match="provider_batches is for chats"):
            await batch.map(service, texts(1), "{text}", output, operation="embed", provider_batches=True)
        with pytest.raises(InvalidRequest, match="needs an output"):
            await batch.map(service, texts(1), "{text}", provider_batches=True)
        with pytest.raises(MapStopped, match="none of the first 20 rows can be sent"):
            await batch.map(service, texts(30), "{wrong}", output, provider_batches=True)
    assert not provider.batches


async def test_results_in_any_order_and_twice_are_recorded_once(output: Path) -> None:
    class Untidy(ManyBatches):
        def _finish(self, batch: dict[str, Any]) -> None:
            super()._finish(batch)
            name = f"{batch['name']}-out"
            made = self.files[name].splitlines()
            self.files[name] = b"\n".join([*reversed(made), *made, b'{"broken'])

    provider = Untidy()
    async with opened(provider) as service:
        summary = await run(service, texts(5), output)
    assert (summary.done, summary.input_tokens, summary.output_tokens) == (5, 100, 25)
    assert answers(output) == {f"T{row}": 1 for row in range(5)}


@pytest.mark.parametrize("refusal", [(500, b"{}"), (429, b"{}")])
async def test_a_provider_that_accepts_no_batch_ends_the_run_after_its_patience(
    refusal: tuple[int, bytes], output: Path
) -> None:
    provider = ManyBatches()
    provider.refusals = [refusal] * 1000
    async with opened(provider) as service:
        with pytest.raises(MapStopped, match="the service was down"):
            await run(service, texts(5), output, patience=0.05)
    assert not provider.batches


class OneAtATime(ManyBatches):
    """Refuses a batch while another one runs."""

    refusal = 429, b'{"error":{"message":"too many batches run"}}'

    def _accept(self, created: dict[str, Any], lines: list[dict[str, Any]]) -> tuple[int, Any, bytes]:
        if any(one["status"] == "running" for one in self.batches.values()):
            return self.refusal[0], {"content-type": "application/json"}, self.refusal[1]
        return super()._accept(created, lines)


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "insufficient_quota"])
async def test_batches_that_run_are_collected_while_the_provider_accepts_no_others(
    code: str, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.batch.batch_state.MOST_ROWS", 2)
    provider = OneAtATime(polls=3)
    provider.refusal = 429, json.dumps({"error": {"message": "too many batches run", "code": code}}).encode()
    async with opened(provider) as service:
        assert (await run(service, texts(6), output, patience=0.0)).done == 6
    assert set(provider.seen.values()) == {1}


async def submit_without_hearing(provider: ManyBatches, service: Service, output: Path, rows: int = 3) -> None:
    """Let a run end between the acceptance of its batch and its record."""
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, 3, before=True)
        with pytest.raises(BaseException) as ended:
            await run(service, texts(rows), output)
        assert Killed in ended_by(ended.value)
    assert len(provider.batches) == 1


@pytest.mark.parametrize("hours", [-13, 13])
async def test_a_batch_is_found_although_the_clocks_differ(hours: int, output: Path) -> None:
    provider = ManyMessageBatches()
    async with opened(provider) as service:
        await submit_without_hearing(provider, service, output)
        provider.batches["batch_0"]["created"] += hours * 3600
        assert (await run(service, texts(3), output)).done == 3
    assert len(provider.batches) == 1


class Pages(ManyMessageBatches):
    """A list whose pages have one batch, or none."""

    def answer(self, method: str, path: str, query: Any, headers: Any, body: bytes) -> tuple[int, Any, bytes]:
        status, more, content = super().answer(method, path, query, headers, body)
        if (method, path) == ("GET", "/v1/messages/batches"):
            batches = json.loads(content)["data"]
            place = int(query.get("after_id", 0))
            page = {"data": batches[place // 2 :][: place % 2], "has_more": place < 2 * len(batches)}
            content = json.dumps({**page, "last_id": str(place + 1)}).encode()
        return status, more, content


async def test_a_batch_is_found_behind_empty_pages_of_the_list(output: Path) -> None:
    provider = Pages()
    async with opened(provider) as service:
        await submit_without_hearing(provider, service, output)
        for _ in range(3):
            await service.submit_batch({"theirs-1": "other"})
        assert len(await service.list_batches()) == 4
        assert (await run(service, texts(3), output)).done == 3
    assert len(provider.batches) == 4


async def test_rows_without_a_result_in_a_batch_that_was_found_are_submitted_again(output: Path) -> None:
    class Short(ManyMessageBatches):
        def _finish(self, batch: dict[str, Any]) -> None:
            super()._finish(batch)
            if batch["name"] == "batch_0":
                self.files["batch_0"] = b"\n".join(self.files["batch_0"].splitlines()[:-1])

    provider = Short()
    provider.lost_answers = 1
    async with opened(provider) as service:
        assert (await run(service, texts(3), output)).done == 3
    assert provider.seen == {"t0": 1, "t1": 1, "t2": 2}


async def test_batches_of_others_are_not_cancelled(output: Path) -> None:
    cancelled: list[str] = []

    class Watched(ManyMessageBatches):
        def answer(self, method: str, path: str, *rest: Any) -> tuple[int, Any, bytes]:
            cancelled.extend([path] * path.endswith("/cancel"))
            return super().answer(method, path, *rest)

    provider = Watched(polls=1000000)
    async with opened(provider) as service:
        await service.submit_batch({f"theirs-{number}": "other" for number in range(3)})
        with anyio.CancelScope() as scope:
            provider.refusals = [(500, b"{}")]
            provider.on_poll = scope.cancel
            await run(service, texts(3), output)
        provider.on_poll = int
        assert await batch.cancel_batches(service, output) == ()
    assert not cancelled


async def test_batches_are_cancelled_although_others_have_ended(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.batch.batch_state.MOST_ROWS", 2)

    class Strict(ManyBatches):
        def answer(self, method: str, path: str, *rest: Any) -> tuple[int, Any, bytes]:
            name = path.removesuffix("/cancel").rpartition("/")[2]
            if path.endswith("/cancel") and self.batches[name]["status"] == "completed":
                return 409, {"content-type": "application/json"}, b'{"error":{"message":"it has ended"}}'
            return super().answer(method, path, *rest)

    provider = Strict(polls=1000000)
    async with opened(provider) as service:
        with anyio.CancelScope() as scope:
            provider.on_poll = scope.cancel
            await run(service, texts(4), output)
        provider.on_poll = int
        first = provider.batches["batch_0"]
        first["status"] = "completed"
        provider._finish(first)
        assert [one.id for one in await batch.cancel_batches(service, output)] == ["batch_1"]


async def test_a_batch_is_not_looked_for_with_another_service(output: Path) -> None:
    provider = ManyBatches()
    async with opened(provider) as service:
        await submit_without_hearing(provider, service, output)
    async with opened(ManyMessageBatches()) as other:
        with pytest.raises(MapStopped, match="Run again with that service"):
            await run(other, texts(3), output)
    async with opened(provider) as service:
        assert (await run(service, texts(3), output)).done == 3
    assert len(provider.batches) == 1


@pytest.mark.parametrize("kind", ["requests", "batch_intent", "batch_submitted"])
async def test_rows_are_not_submitted_again_because_the_state_file_is_damaged(kind: str, output: Path) -> None:
    provider = ManyBatches(polls=1000000)
    state = output.with_name("out.jsonl.state.jsonl")
    async with opened(provider) as service:
        with anyio.CancelScope() as scope:
            provider.on_poll = scope.cancel
            await run(service, texts(3), output)
        provider.on_poll = int
        provider.polls = 0
        state.write_bytes(state.read_bytes().replace(f'"kind":"{kind}"'.encode(), b'"kind":"damaged"'))
        with pytest.raises(InvalidRequest, match=r"lines of .* were damaged"):
            await run(service, texts(3), output)
        state.with_name(f"{state.name}.damaged").unlink()
        if kind != "batch_intent":
            assert (await run(service, texts(3), output)).done == 3
    assert len(provider.batches) == 1


async def test_a_failed_batch_of_another_program_is_not_taken_for_the_own(output: Path) -> None:
    provider = ManyBatches(polls=2)
    async with opened(provider) as service:
        await submit_without_hearing(provider, service, output)
        own = provider.batches["batch_0"]
        # The provider has lost the metadata of the own batch, and another one of that time has failed.
        own["metadata"] = None
        provider.batches["theirs"] = {**own, "name": "theirs", "status": "failed"}
        assert (await run(service, texts(3), output)).done == 3
    assert len(provider.batches) == 2


async def test_rows_are_not_lost_if_time_runs_out_while_they_are_translated(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trunkline import TotalTimeout
    from trunkline._calls.pipeline import Pipeline

    prepare = Pipeline.prepare
    count = 0

    async def slow(self: Pipeline, request: Any, deadline: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise TotalTimeout("the time of the call has run out")
        return await prepare(self, request, deadline)

    monkeypatch.setattr(Pipeline, "prepare", slow)
    provider = ManyBatches()
    async with opened(provider) as service:
        summary = await run(service, texts(5), output)
    assert (summary.done, summary.failed) == (5, 0)
    assert set(provider.seen.values()) == {1}


async def test_ids_of_any_text_survive_the_end_of_a_run(output: Path) -> None:
    rows = [{"id": "\ud800", "text": "t0"}, {"id": 'a"\n', "text": "t1"}, {"id": "é" * 300, "text": "t2"}]
    provider = ManyBatches(polls=2)
    async with opened(provider) as service:
        with anyio.CancelScope() as scope:
            provider.on_poll = scope.cancel
            await run(service, rows, output)
        provider.on_poll = int
        assert (await run(service, rows, output)).done == 3
    assert {result.id for result in batch.read_results(output)} == {row["id"] for row in rows}
    assert set(provider.seen.values()) == {1}


async def test_rows_can_be_mappings_of_any_class(output: Path) -> None:
    async with opened(ManyBatches()) as service:
        assert (await run(service, [MappingProxyType(row) for row in texts(2)], output)).done == 2


PROGRAM = """
import sys, trunkline, trunkline.batch, anyio
from trunkline.batch import batch_state, provider_batches
provider_batches.FIRST_POLL = provider_batches.LONGEST_POLL = 0.01
batch_state.MOST_ROWS = 10

async def main(url, rows, output):
    async with trunkline.open_service("openai", api_key="k", api_url=url, default_model="gpt-4.1") as service:
        await trunkline.batch.map(service, rows, "{text}", output, provider_batches=True, concurrency=3)

anyio.run(main, *sys.argv[1:])
"""


def test_a_killed_process_submits_and_records_each_row_once(tmp_path: Path) -> None:
    rows, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in texts(60)))
    server = str(Path(__file__).parent / "support/many_batches.py")
    chance = random.Random(18)
    kills = 0
    with server_process(sys.executable, server, "5") as url:
        command = [sys.executable, "-c", PROGRAM, f"{url}/v1", str(rows), str(output)]
        while True:
            process = subprocess.Popen(command)
            if kills < 5:
                wait_for_growth(output.with_name("out.jsonl.state.jsonl"), process, chance.randrange(1, 4))
                process.send_signal(signal.SIGKILL)
            if process.wait() == 0:
                break
            assert process.returncode == -signal.SIGKILL
            kills += 1
        with urlopen(f"{url}/stats") as response:
            stats = json.load(response)
    assert kills == 5
    assert answers(output) == {f"T{row}": 1 for row in range(60)}
    assert stats["seen"] == {f"t{row}": 1 for row in range(60)}


def wait_for_growth(path: Path, process: subprocess.Popen[bytes], lines: int) -> None:
    """Wait until the process has written some lines to a file, or has ended."""

    def count() -> int:
        return path.read_bytes().count(b"\n") if path.exists() else 0

    start = count()
    while count() < start + lines and process.poll() is None:
        os.sched_yield()
