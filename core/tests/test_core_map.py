"""`trunkline.batch.map`: each row once, whatever the provider does, and however the run before has ended."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from trunkline import ChatResponse, InvalidRequest, batch
from trunkline._calls.retry import RetryPolicy
from trunkline.batch import MapStopped, RowResult
from trunkline.batch.journal import encode
from trunkline.batch.row_calls import _pause
from trunkline.testing import Exchange, serve

pytestmark = [pytest.mark.anyio, pytest.mark.each_stack]

Toy = Callable[..., Any]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.provider_service.RetryPolicy", partial(RetryPolicy, first_delay=0.001))
    monkeypatch.setattr("trunkline.batch.row_calls.FIRST_PAUSE", 0.001)
    monkeypatch.setattr("trunkline.batch.row_calls.LONGEST_PAUSE", 0.01)


@attrs.define
class Echo:
    """A server that answers with the text of the request, or with the status that `statuses` has for it."""

    statuses: Callable[[str, int], int] = lambda text, times: 200
    seen: Counter[str] = attrs.field(factory=Counter)

    async def __call__(self, exchange: Exchange) -> None:
        body = json.loads(exchange.request.body)
        texts = body["text"] if isinstance(body, dict) else body
        text = " | ".join(texts)
        self.seen[text] += 1
        status = self.statuses(text, self.seen[text])
        if status != 200:
            await exchange.respond(b"no", status=status)
        elif isinstance(body, list):
            await exchange.respond(json.dumps([[float(len(one)), 1.0] for one in body]).encode())
        else:
            await exchange.respond(json.dumps({"text": f"<{text}>", "usage": [3, 2]}).encode())


def write_rows(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"text": f"t{number}"}) + "\n" for number in range(1, count + 1)))
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def texts(path: Path) -> list[str]:
    return sorted(line["text"] for line in lines(path))


def delete_all_but(kept: str, folder: Path) -> list[str]:
    deleted = [path for path in sorted(folder.iterdir()) if path.name != kept]
    for path in deleted:
        path.unlink()
    return [path.name for path in deleted]


async def test_each_row_is_answered_once_and_recorded(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 50), tmp_path / "out.jsonl"
    echo = Echo()
    results: list[RowResult] = []
    async with serve(echo) as server, toy(server.url) as service:
        summary = await batch.map(service, rows, "Say {text}", output, concurrency=7, on_result=results.append)
    assert (summary.done, summary.failed, summary.skipped, summary.stopped) == (50, 0, 0, False)
    assert (summary.input_tokens, summary.output_tokens) == (150, 100)
    assert echo.seen == {f"Say t{number}": 1 for number in range(1, 51)}
    assert texts(output) == sorted(f"<Say t{number}>" for number in range(1, 51))
    assert {result.id for result in results} == set(map(str, range(1, 51)))
    assert not output.with_name("out.failed.jsonl").exists()
    read = {result.id: result.response for result in batch.read_results(output)}
    first = read["1"]
    assert isinstance(first, ChatResponse)
    assert (first.text, first.service) == ("<Say t1>", "toy")


async def test_second_run_sends_nothing_again(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl"
    echo = Echo()
    async with serve(echo) as server, toy(server.url) as service:
        await batch.map(service, rows, "{text}", output)
        before = output.read_bytes()
        write_rows(rows, 25)
        summary = await batch.map(service, rows, "{text}", output)
    assert (summary.done, summary.skipped) == (5, 20)
    assert set(echo.seen.values()) == {1}
    assert output.read_bytes().startswith(before)


@pytest.mark.parametrize("cut", [1, 5, 60])
async def test_torn_last_line_is_removed_and_its_row_is_sent_again(toy: Toy, tmp_path: Path, cut: int) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 6), tmp_path / "out.jsonl"
    echo = Echo()
    async with serve(echo) as server, toy(server.url) as service:
        await batch.map(service, rows, "{text}", output, concurrency=1)
        output.write_bytes(output.read_bytes()[:-cut])
        summary = await batch.map(service, rows, "{text}", output)
    assert (summary.done, summary.skipped) == (1, 5)
    assert texts(output) == [f"<t{number}>" for number in range(1, 7)]


async def test_damaged_line_is_set_aside_and_its_row_is_sent_again(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 6), tmp_path / "out.jsonl"
    async with serve(Echo()) as server, toy(server.url) as service:
        await batch.map(service, rows, "{text}", output, concurrency=1)
        output.write_bytes(output.read_bytes().replace(b"<t3>", b"<t8>", 1))
        summary = await batch.map(service, rows, "{text}", output)
    assert (summary.done, summary.skipped) == (1, 5)
    assert texts(output) == [f"<t{number}>" for number in range(1, 7)]
    assert b"<t8>" in (tmp_path / "out.jsonl.damaged").read_bytes()


@pytest.mark.parametrize("content", ['{"id":1,"prompt":"mine"}', '{"id":"1"}\n', "[1]\n", "a,b\n1,2\n", "notes"])
async def test_file_that_is_no_output_is_left_alone(toy: Toy, tmp_path: Path, content: str) -> None:
    output = tmp_path / "out.jsonl"
    output.write_text(content)
    with pytest.raises(InvalidRequest, match="is not an output of an earlier run"):
        await batch.map(toy("http://127.0.0.1:1"), [{"text": "a"}], "{text}", output)
    assert output.read_text() == content


async def test_output_of_another_request_is_refused(toy: Toy, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    async with serve(Echo()) as server, toy(server.url) as service:
        await batch.map(service, [{"text": "a"}], "{text}", output)
        with pytest.raises(InvalidRequest, match="the request changed"):
            await batch.map(service, [{"text": "a"}], "Again {text}", output)
        with pytest.raises(InvalidRequest, match="the model or another parameter changed"):
            await batch.map(service, [{"text": "a"}], "{text}", output, params={"temperature": 0.0})


async def test_two_processes_cannot_write_to_one_output(toy: Toy, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    with batch.Journal.open(output), pytest.raises(InvalidRequest, match="another process"):
        await batch.map(toy("http://127.0.0.1:1"), [{"text": "a"}], "{text}", output)


async def test_failures_are_apart_and_tried_again_only_when_asked(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 6), tmp_path / "out.jsonl"
    echo = Echo(lambda text, times: 404 if text == "t4" and times < 2 else 200)
    async with serve(echo) as server, toy(server.url) as service:
        summary = await batch.map(service, rows, "{text}", output)
        assert (summary.done, summary.failed) == (5, 1)
        assert summary.failures == tmp_path / "out.failed.jsonl"
        (failure,) = lines(summary.failures)
        assert (failure["id"], failure["error"]["type"], failure["error"]["status"]) == ("4", "NotFound", 404)
        assert failure["input"] == {"text": "t4"}
        summary = await batch.map(service, rows, "{text}", output)
        assert (summary.done, summary.failed, summary.failed_before, summary.skipped) == (0, 0, 1, 6)
        assert echo.seen["t4"] == 1
        summary = await batch.map(service, rows, "{text}", output, retry_failed=True)
    assert (summary.done, summary.failed_before, summary.failures) == (1, 0, None)
    assert texts(output) == [f"<t{number}>" for number in range(1, 7)]


async def test_row_without_the_column_fails_alone(toy: Toy, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    async with serve(Echo()) as server, toy(server.url) as service:
        summary = await batch.map(service, [{"text": "a"}, {"txt": "b"}], "{text}", output)
    assert (summary.done, summary.failed) == (1, 1)
    (failure,) = lines(tmp_path / "out.failed.jsonl")
    assert failure["error"]["message"] == "the row has no column 'text'; did you mean 'txt'? its columns are txt"


async def test_outage_loses_no_row(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl"
    failing = 60
    waiting: list[str | None] = []

    def statuses(text: str, times: int) -> int:
        nonlocal failing
        failing -= 1
        return 500 if 50 > failing >= 0 else 200

    async with serve(Echo(statuses)) as server, toy(server.url, max_retries=0) as service:
        summary = await batch.map(
            service, rows, "{text}", output, concurrency=4, on_progress=lambda one: waiting.append(one.waiting_for)
        )
    assert (summary.done, summary.failed) == (30, 0)
    assert len(set(texts(output))) == 30


async def test_row_that_always_fails_does_not_stop_the_others(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.batch.row_calls.ROW_PATIENCE", 0.05)  # for when it is the last row
    rows, output = write_rows(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl"
    echo = Echo(lambda text, times: 500 if text == "t2" else 200)
    async with serve(echo) as server, toy(server.url, max_retries=0) as service:
        summary = await batch.map(service, rows, "{text}", output, concurrency=4)
    assert (summary.done, summary.failed) == (29, 1)
    (failure,) = lines(tmp_path / "out.failed.jsonl")
    assert (failure["id"], failure["error"]["retryable"]) == ("2", True)


async def test_wrong_key_stops_the_run_without_recording_failures(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 100), tmp_path / "out.jsonl"
    echo = Echo(lambda text, times: 401 if sum(echo.seen.values()) > 10 else 200)
    async with serve(echo) as server, toy(server.url) as service:
        with pytest.raises(MapStopped, match="the run has stopped") as caught:
            await batch.map(service, rows, "{text}", output, concurrency=4)
        summary = caught.value.summary
        assert summary is not None
        assert (summary.done, summary.failed) == (10, 0)
        echo.statuses = lambda text, times: 200
        assert (await batch.map(service, rows, "{text}", output)).done == 90
    assert len(texts(output)) == 100


async def test_service_that_stays_down_stops_the_run(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 10), tmp_path / "out.jsonl"
    async with serve(Echo(lambda text, times: 503)) as server, toy(server.url, max_retries=0) as service:
        with pytest.raises(MapStopped, match="no request was answered for 0 s"):
            await batch.map(service, rows, "{text}", output, patience=0.05)
    assert lines(output) == []


async def test_run_whose_first_rows_all_fail_stops(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 100), tmp_path / "out.jsonl"
    async with serve(Echo()) as server, toy(server.url) as service:
        with pytest.raises(MapStopped, match="the first 20 rows all failed; the last error is: the row has no column"):
            await batch.map(service, rows, "{wrong}", output, concurrency=4)
        summary = await batch.map(service, rows, "{text}", output)
    assert (summary.done, summary.failed_before) == (100, 0)


async def test_rows_of_a_run_that_no_row_passed_are_sent_again(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 100), tmp_path / "out.jsonl"
    echo = Echo(lambda text, times: 404)
    async with serve(echo) as server, toy(server.url) as service:
        with pytest.raises(MapStopped, match="the first 20 rows all failed"):
            await batch.map(service, rows, "{text}", output, concurrency=4)
        echo.statuses = lambda text, times: 200
        summary = await batch.map(service, rows, "{text}", output)
    assert (summary.done, summary.failed_before, summary.failures) == (100, 0, None)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
async def test_output_of_other_requests_is_refused_with_the_files_to_delete(
    toy: Toy, tmp_path: Path, suffix: str
) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 5), tmp_path / f"out.{suffix}"
    echo = Echo(lambda text, times: 404 if times == 1 and len(echo.seen) == 1 else 200)
    async with serve(echo) as server, toy(server.url) as service:
        await batch.map(service, rows, "{text}", output, concurrency=1)
        with pytest.raises(InvalidRequest, match="the request changed") as caught:
            await batch.map(service, rows, "Other: {text}", output)
        assert sorted(re.findall(r"'([^']+)'", str(caught.value).partition("its files: ")[2])) == delete_all_but(
            "in.jsonl", tmp_path
        )
        assert (await batch.map(service, rows, "Other: {text}", output)).done == 5


async def test_estimated_total_counts_rows_in_flight_as_read(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.batch.mapping.PROGRESS_INTERVAL", 0.001)
    rows, output = write_rows(tmp_path / "in.jsonl", 100), tmp_path / "out.jsonl"
    totals: list[int] = []
    shown = anyio.Event()

    def watch(now: batch.Progress) -> None:
        if now.total is not None and now.done == 0:
            totals.append(now.total)
            shown.set()

    async def wait(exchange: Exchange) -> None:
        with anyio.fail_after(10):
            await shown.wait()
        await Echo()(exchange)

    async with serve(wait) as server, toy(server.url) as service:
        await batch.map(service, rows, "{text}", output, concurrency=40, on_progress=watch)
    assert 80 < totals[0] < 120


async def test_stop_lets_requests_in_flight_finish(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 100), tmp_path / "out.jsonl"
    stop = anyio.Event()
    echo = Echo(lambda text, times: (stop.set(), 200)[1])
    async with serve(echo) as server, toy(server.url) as service:
        summary = await batch.map(service, rows, "{text}", output, concurrency=4, stop=stop)
    assert summary.stopped
    assert sum(echo.seen.values()) == summary.done == len(lines(output)) < 100


async def test_cancelled_run_goes_on_later(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 100), tmp_path / "out.jsonl"
    echo = Echo()
    async with serve(echo) as server, toy(server.url) as service:
        with anyio.CancelScope() as scope:

            def cancel(result: RowResult) -> None:
                if len(echo.seen) >= 20:
                    scope.cancel()

            await batch.map(service, rows, "{text}", output, concurrency=4, on_result=cancel)
        summary = await batch.map(service, rows, "{text}", output)
    assert len(set(texts(output))) == len(lines(output)) == summary.done + summary.skipped == 100
    assert sum(echo.seen.values()) <= 104


async def test_error_of_the_application_is_raised_once_requests_in_flight_are_recorded(
    toy: Toy, tmp_path: Path
) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 100), tmp_path / "out.jsonl"
    echo = Echo()

    def fail(result: RowResult) -> None:
        raise KeyError("mine")

    async with serve(echo) as server, toy(server.url) as service:
        with pytest.raises(KeyError, match="mine"):
            await batch.map(service, rows, "{text}", output, concurrency=4, on_result=fail)
    assert sum(echo.seen.values()) == len(lines(output))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of files")
async def test_full_disk_stops_the_run(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 100), tmp_path / "out.jsonl"
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    async with serve(Echo()) as server, toy(server.url) as service:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
        try:
            with pytest.raises(MapStopped, match=r"cannot be written to .*out\.jsonl.*: File too large"):
                await batch.map(service, rows, "{text}", output, concurrency=2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert all("crc32" in line for line in lines(output))
        await batch.map(service, rows, "{text}", output)
    assert len(set(texts(output))) == len(lines(output)) == 100


async def test_ids_come_from_the_rows(toy: Toy, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    async with serve(Echo()) as server, toy(server.url) as service:
        await batch.map(service, [{"id": 7, "text": "a"}, {"id": "b\ud800é", "text": "b"}], "{text}", output)
        assert {line["id"] for line in lines(output)} == {"7", "b\ud800é"}
        summary = await batch.map(service, [{"id": "b\ud800é", "text": "b"}, {"id": 9, "text": "c"}], "{text}", output)
        assert (summary.done, summary.skipped) == (1, 1)
        with pytest.raises(InvalidRequest, match="the rows 1 and 3 have the same id, 'x'"):
            await batch.map(service, [{"id": one, "text": "c"} for one in "xyx"], "{text}", output)
        with pytest.raises(InvalidRequest, match="row 2 has no id: the column 'key' must be"):
            await batch.map(service, [{"key": 5}, {"key": None}], "x", output.with_name("b.jsonl"), id_column="key")


async def test_embeddings_share_requests_and_a_refused_one_is_split(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 10), tmp_path / "out.jsonl"
    echo = Echo(lambda text, times: 404 if "t4" in text else 200)
    async with serve(echo) as server, toy(server.url) as service:
        summary = await batch.map(
            service, rows, None, output, operation="embed", rows_per_request=5, concurrency=1, params={}
        )
    assert (summary.done, summary.failed) == (9, 1)
    assert list(echo.seen) == ["t1 | t2 | t3 | t4 | t5", "t1", "t2", "t3", "t4", "t5", "t6 | t7 | t8 | t9 | t10"]
    assert [line["embedding"] for line in lines(output)][-1] == [3.0, 1.0]
    results = [result.response for result in batch.read_results(output)]
    assert getattr(results[-2], "embeddings", None) == ((3.0, 1.0),)


async def test_cost_is_summed_and_recorded(toy: Toy, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    async with serve(Echo()) as server, toy(server.url) as service:
        summary = await batch.map(
            service, [{"text": "a"}, {"text": "b"}], "{text}", output, cost=lambda response: Decimal("0.001")
        )
    assert summary.cost == Decimal("0.002")
    assert [line["cost"] for line in lines(output)] == ["0.001", "0.001"]


async def test_error_of_the_cost_function_is_raised_once_the_responses_are_recorded(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 100), tmp_path / "out.jsonl"
    echo = Echo()

    def fail(response: object) -> Decimal:
        raise KeyError("mine")

    async with serve(echo) as server, toy(server.url) as service:
        with pytest.raises(KeyError, match="mine"):
            await batch.map(service, rows, "{text}", output, concurrency=4, cost=fail)
    assert 0 < sum(echo.seen.values()) == len(lines(output)) < 100


async def test_failures_are_kept_after_a_run_in_which_no_row_passed(toy: Toy, tmp_path: Path) -> None:
    rows, output = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    echo = Echo(lambda text, times: 404)
    async with serve(echo) as server, toy(server.url) as service:
        await batch.map(service, rows, "{text}", output)
        summary = await batch.map(service, rows, "{text}", output)
    assert (summary.failed, summary.failed_before) == (0, 3)
    assert sum(echo.seen.values()) == 3


async def test_rows_have_the_conversation_themselves(toy: Toy, tmp_path: Path) -> None:
    echo = Echo()
    rows = [
        {"prompt": "one"},
        {"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "two"}]},
    ]
    async with serve(echo) as server, toy(server.url) as service:
        await batch.map(service, rows, None)
        await batch.map(service, [{"n": "x", "who": "me"}], "{{{n}}}", system="For {who}")
        await batch.map(service, [{"n": 1}], lambda row: f"<{row['n']}>")
    assert set(echo.seen) == {"one", "be | two", "For me | {x}", "<1>"}


@pytest.mark.parametrize("template", ["{", "}", "{}", "{a!r}", "{a:>3}"])
async def test_template_that_cannot_be_read_is_refused(toy: Toy, template: str) -> None:
    with pytest.raises(InvalidRequest, match="the template cannot be read"):
        await batch.map(toy("http://127.0.0.1:1"), [{"a": 1}], template)


async def test_run_does_not_write_to_its_own_input(toy: Toy, tmp_path: Path) -> None:
    rows = tmp_path / "in.jsonl"
    rows.write_bytes(encode({"id": "1", "text": "a"}))
    with pytest.raises(InvalidRequest, match="write to its own input"):
        await batch.map(toy("http://127.0.0.1:1"), rows, "{text}", tmp_path / ".." / tmp_path.name / "in.jsonl")


@attrs.frozen
class Label:
    name: str


async def test_typed_answers_are_recorded_and_read_back(toy: Toy, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"

    async def answer(exchange: Exchange) -> None:
        text = json.loads(exchange.request.body)["text"][0]
        content = json.dumps({"name": text}) if text != "b" else "no JSON"
        await exchange.respond(json.dumps({"text": content, "usage": [3, 2]}).encode())

    results: list[RowResult] = []
    rows = [{"text": "a"}, {"text": "b"}]
    async with serve(answer) as server, toy(server.url) as service:
        summary = await batch.map(service, rows, "{text}", output, answer_type=Label, on_result=results.append)
    assert (summary.done, summary.failed, summary.input_tokens) == (1, 1, 6)
    assert [result.answer for result in results if result.error is None] == [Label("a")]
    assert lines(output)[0]["answer"] == {"name": "a"}
    read = list(batch.read_results(output, answer_type=Label))
    assert [result.answer for result in read] == [Label("a"), None]
    assert read[1].error is not None
    assert read[1].error.type == "InvalidAnswer"
    assert isinstance(read[1].response, ChatResponse)
    assert read[1].response.text == "no JSON"


async def test_row_that_waits_for_a_limit_is_not_a_failure(toy: Toy, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    rows = write_rows(tmp_path / "in.jsonl", 4)
    echo = Echo()
    async with serve(echo) as server, toy(server.url, total_timeout=20) as service:
        stop = anyio.Event()

        def end(progress: batch.Progress) -> None:
            if progress.done:
                stop.set()

        # A limit of one request in a minute: the others time out while they wait for it.
        summary = await batch.map(
            service,
            rows,
            "{text}",
            output,
            concurrency=4,
            requests_per_minute=1,
            stop=stop,
            on_progress=end,
            patience=0,
        )
    assert (summary.done, summary.failed, summary.stopped) == (1, 0, True)


async def test_rows_that_cannot_be_sent_do_not_count_as_answers_of_a_service_that_is_down(
    toy: Toy, tmp_path: Path
) -> None:
    failing = 90

    def statuses(text: str, times: int) -> int:
        nonlocal failing
        failing -= text != "first"
        return 500 if text != "first" and failing > 0 else 200

    rows = [{"text": "first"}, *({"text": f"t{n}"} if n % 10 == 0 else {"other": n} for n in range(300))]
    async with serve(Echo(statuses)) as server, toy(server.url, max_retries=0) as service:
        summary = await batch.map(service, rows, "{text}", tmp_path / "out.jsonl", concurrency=4)
        wrong = [{"text": "first"}, *({"text": f"t{n}", "bad": n % 10} for n in range(300))]
        failing = 90
        again = await batch.map(
            service, wrong, lambda row: [5] if row.get("bad") else row["text"], tmp_path / "b.jsonl", concurrency=4
        )
    assert (summary.done, again.done) == (31, 31)
    errors = [*lines(tmp_path / "out.failed.jsonl"), *lines(tmp_path / "b.failed.jsonl")]
    assert {line["error"]["type"] for line in errors} == {"InvalidRequest"}


def test_pause_before_the_two_thousandth_try_is_the_longest() -> None:
    assert _pause(2000) == _pause(30)


async def test_service_that_asks_for_a_longer_wait_than_the_patience_stops_the_run(toy: Toy, tmp_path: Path) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(b"no", status=429, headers={"retry-after": "250"})

    async with serve(refuse) as server, toy(server.url, max_retries=0) as service:
        with anyio.fail_after(60), pytest.raises(MapStopped, match="no request was answered"):
            await batch.map(service, write_rows(tmp_path / "in.jsonl", 9), "{text}", concurrency=4, patience=0.05)


async def test_run_that_is_stopped_before_it_starts_sends_nothing(toy: Toy, tmp_path: Path) -> None:
    stop = anyio.Event()
    stop.set()
    echo = Echo()
    async with serve(echo) as server, toy(server.url) as service:
        summary = await batch.map(service, [{"text": "a"}], "{text}", stop=stop)
    assert summary.stopped
    assert not echo.seen


async def test_rows_that_wait_for_a_limit_are_not_sent_after_a_stop(toy: Toy, tmp_path: Path) -> None:
    stop = anyio.Event()
    rows, output = write_rows(tmp_path / "in.jsonl", 9), tmp_path / "out.jsonl"
    echo = Echo()
    async with serve(echo) as server, toy(server.url) as service:
        with anyio.fail_after(50):
            summary = await batch.map(
                service,
                rows,
                "{text}",
                output,
                requests_per_minute=2,
                concurrency=8,
                stop=stop,
                on_result=lambda result: stop.set(),
            )
        assert (summary.done, summary.failed, summary.stopped) == (sum(echo.seen.values()), 0, True)
        assert (await batch.map(service, rows, "{text}", output)).done == 9 - summary.done


async def test_total_is_estimated_from_the_rows_that_were_read(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.batch.mapping.PROGRESS_INTERVAL", 0.001)
    seen: list[batch.Progress] = []
    async with serve(Echo()) as server, toy(server.url) as service:
        await batch.map(
            service, write_rows(tmp_path / "in.jsonl", 100), "{text}", concurrency=50, on_progress=seen.append
        )
        await batch.map(service, tmp_path / "in.jsonl", "{text}", limit_rows=7, on_progress=seen.append)
    totals = [progress.total for progress in seen if progress.elapsed and progress.total is not None]
    assert totals.count(100) >= 1
    assert all(total == 7 or 90 <= total <= 110 for total in totals)
    assert (seen[-1].done, seen[-1].total) == (7, 7)


async def test_table_that_is_no_output_is_left_alone(toy: Toy, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    output.write_text("mine\n1\n")
    with pytest.raises(InvalidRequest, match="is not an output of an earlier run"):
        await batch.map(toy("http://127.0.0.1:1"), [{"text": "a"}], "{text}", output)
    assert names(tmp_path) == ["out.csv"]
    assert output.read_text() == "mine\n1\n"


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
async def test_output_of_another_request_can_be_replaced_by_deleting_what_the_error_names(
    toy: Toy, tmp_path: Path, name: str
) -> None:
    output = tmp_path / name
    echo = Echo(lambda text, times: 404 if text == "b" else 200)
    rows = [{"text": "a"}, {"text": "b"}]
    async with serve(echo) as server, toy(server.url) as service:
        await batch.map(service, rows, "{text}", output)
        with pytest.raises(InvalidRequest, match="the request changed") as caught:
            await batch.map(service, rows, "New {text}", output)
        for file in names(tmp_path):
            if repr(file) in str(caught.value):
                (tmp_path / file).unlink()
        summary = await batch.map(service, rows, "New {text}", output)
    assert (summary.done, summary.skipped) == (2, 0)


async def test_outputs_of_two_formats_have_failures_of_their_own(toy: Toy, tmp_path: Path) -> None:
    echo = Echo(lambda text, times: 404 if text == "t2" else 200)
    rows = write_rows(tmp_path / "in.jsonl", 3)
    async with serve(echo) as server, toy(server.url) as service:
        for name in ("out.jsonl", "out.csv", "out.ndjson"):
            summary = await batch.map(service, rows, "{text}", tmp_path / name)
            assert (summary.done, summary.failed, summary.skipped) == (2, 1, 0)


async def test_output_with_ids_of_another_column_is_refused(toy: Toy, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    async with serve(Echo()) as server, toy(server.url) as service:
        await batch.map(service, [{"text": "a"}], "{text}", output)
        with pytest.raises(InvalidRequest, match="the column of the ids changed"):
            await batch.map(service, [{"text": "b", "key": 1}], "{text}", output, id_column="key")


async def test_more_than_twenty_failures_can_be_tried_again(toy: Toy, tmp_path: Path) -> None:
    echo = Echo(lambda text, times: 200 if text == "t1" else 404)
    rows, output = write_rows(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl"
    async with serve(echo) as server, toy(server.url) as service:
        await batch.map(service, rows, "{text}", output, concurrency=1)
        summary = await batch.map(service, rows, "{text}", output, retry_failed=True)
    assert summary.failed == 29


async def test_file_of_failures_may_be_deleted_during_the_run(toy: Toy, tmp_path: Path) -> None:
    async with serve(Echo()) as server, toy(server.url) as service:
        summary = await batch.map(
            service,
            [{"text": "a"}],
            "{text}",
            tmp_path / "out.jsonl",
            on_result=lambda result: (tmp_path / "out.failed.jsonl").unlink(),
        )
    assert summary.done == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no symbolic links for all users")
@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
async def test_output_that_is_a_symbolic_link_stays_one(toy: Toy, tmp_path: Path, name: str) -> None:
    link, target = tmp_path / name, tmp_path / "disk" / name
    target.parent.mkdir()
    link.symlink_to(target)
    rows = [{"text": "a"}, {"text": "b"}]
    async with serve(Echo()) as server, toy(server.url) as service:
        await batch.map(service, rows, "{text}", link)
        if name == "out.jsonl":
            link.write_bytes(link.read_bytes().replace(b"<a>", b"<x>", 1))
        await batch.map(service, rows, "{text}", link)
    assert link.is_symlink()
    assert "<a>" in target.read_text()


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_rows_that_json_cannot_hold_fail_alone(toy: Toy, tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(600):
        deep = [deep]
    odd = [deep, 10**5000, -(10**5000), float("nan"), b"\xff", {1: {2}}, Unprintable()]
    rows = [{"text": "a"}, *({"odd": value} for value in odd), {"text": "b"}]
    output = tmp_path / "out.jsonl"
    async with serve(Echo()) as server, toy(server.url) as service:
        summary = await batch.map(service, rows, "{text}", output)
    assert (summary.done, summary.failed) == (2, len(odd))
    assert sum(result.error is not None for result in batch.read_results(output)) == len(odd)


async def test_response_that_cannot_be_recorded_fails_alone(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record_of(result: RowResult) -> Any:
        if result.number == 1 and result.error is None:
            raise InvalidRequest("the value is nested too deeply")
        return batch.record_of(result)

    monkeypatch.setattr("trunkline.batch.run_files.record_of", record_of)
    async with serve(Echo()) as server, toy(server.url) as service:
        summary = await batch.map(service, [{"text": "a"}, {"text": "b"}], "{text}", tmp_path / "out.jsonl")
    assert (summary.done, summary.failed) == (1, 1)
    (failure,) = lines(tmp_path / "out.failed.jsonl")
    assert failure["error"]["message"] == "the response cannot be recorded: the value is nested too deeply"


async def test_async_function_is_refused(toy: Toy) -> None:
    async def request(row: batch.Row) -> str:
        return "x"

    with pytest.raises(InvalidRequest, match="an async function cannot make the request"):
        await batch.map(toy("http://127.0.0.1:1"), [{"text": "a"}], request)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
async def test_pipe_is_refused_as_output(toy: Toy, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.jsonl")
    with pytest.raises(InvalidRequest, match="is not an ordinary file"):
        await batch.map(toy("http://127.0.0.1:1"), [{"text": "a"}], "{text}", tmp_path / "out.jsonl")
