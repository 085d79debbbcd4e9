"""`trunkline map`, as a user runs it: its options, its progress on a terminal, and how it is interrupted."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
import trunkline
from trunkline import batch
from trunkline.batch import Progress, Summary
from trunkline.cli.map_display import duration, progress_line, summary_line

RUN = [sys.executable, "-c", "import sys; from trunkline.cli import main; sys.exit(main())"]
FAKE = ("--provider", "fake", "--model", "echo")
GATE = ("map", "rows.jsonl", "out.jsonl", "--provider", "fake", "--model", "gate", "--concurrency", "4")
"""Answers nothing before there is a file `gate`."""


@pytest.fixture(autouse=True)
def _imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the files of the user that a command has imported in this process."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in set(sys.modules) - before:
        if Path(f"{name}.py").exists():
            del sys.modules[name]


def write_rows(*texts: str) -> None:
    lines = [json.dumps({"id": f"r{number}", "text": text}) for number, text in enumerate(texts)]
    Path("rows.jsonl").write_text("\n".join(lines) + "\n")


def many_rows(count: int) -> None:
    lines = [json.dumps({"id": f"r{number}", "prompt": f"row {number}"}) for number in range(count)]
    Path("rows.jsonl").write_text("\n".join(lines) + "\n")


def answers(name: str = "out.jsonl") -> dict[str, Any]:
    """The answers in an output, by id."""
    return {record["id"]: record for record in map(json.loads, Path(name).read_text().splitlines())}


def asked(tmp_path: Path) -> list[str]:
    """The prompts that the provider got."""
    return [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("asked ")]


def test_prompt_is_filled_from_the_columns_of_each_row(call: Any, key: str) -> None:
    write_rows("one", "two")
    status, out, err = call("map", "rows.jsonl", "out.jsonl", *FAKE, "--prompt", "Label {id}: {text}")
    assert (status, out) == (0, ""), err
    assert {row_id: record["text"] for row_id, record in answers().items()} == {
        "r0": "You said: Label r0: one",
        "r1": "You said: Label r1: two",
    }
    assert "Done: 2 rows in " in err
    assert "tokens: 10 in, 14 out" in err


def test_rows_of_a_pipe_are_read_as_json_lines(piped: Any, key: str) -> None:
    done = piped("map", "-", "out.jsonl", *FAKE, stdin='{"prompt": "Hello"}\n')
    assert done.returncode == 0, done.stderr
    assert answers()["1"]["text"] == "You said: Hello"


def test_function_of_a_file_makes_the_request(call: Any, key: str) -> None:
    write_rows("one")
    Path("words.py").write_text("LOUD = '!'\n")
    Path("asking.py").write_text(
        "import trunkline\nfrom words import LOUD\n"
        "def request(row):\n    return [trunkline.user(row['text'].upper() + LOUD)]\n"
    )
    assert call("map", "rows.jsonl", "out.jsonl", *FAKE, "--request", "asking.py:request")[0] == 0
    assert answers()["r0"]["text"] == "You said: ONE!"


def test_options_reach_the_request(call: Any, key: str) -> None:
    write_rows("one")
    options = ["--system", "Be {text}", "--max-output-tokens", "9", "--model", "turns"]
    assert call("map", "rows.jsonl", "out.jsonl", *FAKE[:2], *options, "--prompt", "{text}")[0] == 0
    assert answers()["r0"]["text"] == "[['system', 'Be one'], ['user', 'one']] images=0 max=9"


def test_fields_are_given_as_json_or_as_text(call: Any, key: str) -> None:
    many_rows(1)
    fields = ["--param", "temperature=0.5", "--param", "user_id=me", "--param", 'reasoning={"effort": "low"}']
    assert call("map", "rows.jsonl", "out.jsonl", *FAKE, *fields)[0] == 0
    assert [warning["subject"] for warning in answers()["r0"]["response"]["warnings"]] == ["temperature"]


def test_answers_are_values_of_a_class(call: Any, key: str) -> None:
    pytest.importorskip("msgspec")
    write_rows('{"label": "spam"}', "not JSON")
    Path("labels.py").write_text("import attrs\n@attrs.define\nclass Label:\n    label: str\n")
    Path("requests_of_labels.py").write_text("def request(row):\n    return row['text']\n")
    arguments = ["--provider", "fake", "--model", "emoji", "--request", "requests_of_labels.py:request"]
    status, _, err = call("map", "rows.jsonl", "out.jsonl", *arguments, "--answer-type", "labels.py:Label")
    assert status == 1
    assert answers()["r0"]["answer"] == {"label": "spam"}
    assert "1 × InvalidAnswer: " in err


def test_schema_of_a_file_is_sent_with_each_request(call: Any, key: str) -> None:
    many_rows(1)
    Path("label.json").write_text('{"type": "object", "properties": {"label": {"type": "string"}}}')
    assert call("map", "rows.jsonl", "out.jsonl", *FAKE, "--schema", "label.json")[0] == 0
    status, _, err = call("map", "rows.jsonl", "out.jsonl", *FAKE)
    assert status == 1
    assert "has the results of other requests: the model or another parameter changed" in err


def test_failed_row_is_written_apart_and_sent_again_when_asked(call: Any, key: str) -> None:
    write_rows("fine", "refused")
    command = ("map", "rows.jsonl", "out.jsonl", *FAKE, "--prompt", "{text}")
    status, _, err = call(*command)
    assert status == 1
    assert "1 × BadRequest: fake: this text is refused" in err
    assert "1 row failed; the errors are in out.failed.jsonl. --retry-failed sends them again." in err
    assert set(answers()) == {"r0"}
    assert set(answers("out.failed.jsonl")) == {"r1"}
    status, _, err = call(*command)
    assert status == 1
    assert re.search(r"Done: 0 rows in \S+ s · 1 done before", err)
    assert "1 row failed (1 in earlier runs)" in err
    status, _, err = call(*command, "--retry-failed")
    assert status == 1
    assert "1 × BadRequest" in err


def test_summary_is_json_on_stdout(call: Any, key: str) -> None:
    write_rows("fine", "refused")
    status, out, _ = call("map", "rows.jsonl", "out.jsonl", *FAKE, "--prompt", "{text}", "--json")
    summary = json.loads(out)
    assert status == 1
    assert (summary["done"], summary["failed"], summary["skipped"], summary["stopped"]) == (1, 1, 0, False)
    assert (summary["output"], summary["failures"]) == ("out.jsonl", "out.failed.jsonl")


def test_first_rows_can_be_tried_alone(call: Any, key: str) -> None:
    many_rows(9)
    assert call("map", "rows.jsonl", "out.jsonl", *FAKE, "--limit-rows", "3")[0] == 0
    assert set(answers()) == {"r0", "r1", "r2"}
    assert call("map", "rows.jsonl", "out.jsonl", *FAKE)[0] == 0
    assert len(answers()) == 9


def test_first_rows_are_not_read_from_a_file_of_the_run(call: Any, key: str) -> None:
    many_rows(1)
    status, _, err = call("map", "rows.jsonl", "rows.jsonl", *FAKE, "--limit-rows", "1")
    assert status == 1
    assert "would write to its own input" in err


def test_run_that_no_row_passes_is_reported_with_its_reason(call: Any, key: str) -> None:
    many_rows(30)
    status, _, err = call("map", "rows.jsonl", "out.jsonl", *FAKE, "--prompt", "{texts}")
    assert status == 1
    assert "Stopped: 0 rows" in err
    assert "trunkline: the run has stopped, since the first 20 rows all failed" in err


def test_wrong_key_stops_the_run_and_is_not_shown(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "wrong-key-1234567890")
    many_rows(3)
    status, out, err = call("map", "rows.jsonl", "out.jsonl", *FAKE)
    assert status == 1
    assert "The same command goes on from here." in err
    assert "wrong-key-1234567890" not in out + err
    assert not Path("out.failed.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt", "x", "--request", "a.py:b"), "--prompt and --request"),
        (("--schema", "s.json", "--answer-type", "a.py:b"), "--schema and --answer-type"),
        (("--limit-rows", "0"), "--limit-rows takes a number from 1"),
        (("--param", "temprature=1"), "chat has no field temprature; did you mean 'temperature'?"),
        (("--param", "model=x"), "--param model and --model are the same"),
        (("--operation", "embed", "--temperature", "0"), "embed has no field temperature"),
        (("--request", "asking"), "--request takes FILE.py:NAME"),
        (("--request", "missing.py:request"), "--request: there is no file 'missing.py'"),
        (("--request", "broken.py:request"), "--request: 'broken.py' cannot be run: ZeroDivisionError"),
        (("--request", "fine.py:reqest"), "--request: 'fine.py' has no 'reqest'; did you mean 'request'?"),
        (("--request", "fine.py:NUMBER"), "--request: fine.py:NUMBER is not a function, but a int"),
        (("--request", "json.py:request"), "--request: a module named json is already imported; rename 'json.py'"),
        (("--answer-type", "fine.py:Lable"), "--answer-type: 'fine.py' has no 'Lable'"),
        (("--schema", "missing.json"), "--schema: the file 'missing.json' cannot be read"),
        (("--schema", "fine.py"), "--schema: the file 'fine.py' is not JSON"),
        (("--schema", "list.json"), "--schema: a JSON Schema is an object"),
    ],
)
def test_mistake_on_the_command_line_is_found_before_anything_is_sent(
    call: Any, key: str, arguments: tuple[str, ...], message: str
) -> None:
    many_rows(1)
    Path("fine.py").write_text("NUMBER = 3\ndef request(row):\n    return 'x'\n")
    Path("broken.py").write_text("1 / 0\n")
    Path("json.py").write_text("")
    Path("list.json").write_text("[]")
    status, _, err = call("map", "rows.jsonl", "out.jsonl", *FAKE, *arguments)
    assert status == 2
    assert message in err
    assert not Path("out.jsonl").exists()


def test_service_without_a_model_is_reported_before_anything_is_sent(call: Any, key: str) -> None:
    many_rows(1)
    status, _, err = call("map", "rows.jsonl", "out.jsonl", "--provider", "fake")
    assert status == 2
    assert "no model is given; use --model, or set default_model" in err


def test_provider_without_batches_is_reported(call: Any, key: str) -> None:
    many_rows(1)
    status, _, err = call("map", "rows.jsonl", "out.jsonl", *FAKE, "--provider-batches")
    assert status == 1
    assert "batch" in err.splitlines()[-1]
    assert call("map", "rows.jsonl", "out.jsonl", *FAKE, "--cancel-batches")[2] == "Cancelled 0 batches.\n"


def test_output_is_never_the_input(call: Any, key: str) -> None:
    many_rows(1)
    before = Path("rows.jsonl").read_text()
    status, _, err = call("map", "rows.jsonl", "rows.jsonl", *FAKE)
    assert status == 1
    assert "would write to its own input" in err
    assert Path("rows.jsonl").read_text() == before


def test_progress_on_a_terminal_is_one_line_that_changes(terminal: Any, key: str) -> None:
    many_rows(8)
    screen = terminal(*GATE, kind="xterm")
    screen.wait_for(r"0 of \d+ rows|0 rows")
    Path("gate").touch()
    status, shown = screen.end()
    assert status == 0
    assert "Done: 8 rows in " in shown


def test_ctrl_c_finishes_what_is_in_flight_and_the_same_command_goes_on(
    terminal: Any, call: Any, key: str, tmp_path: Path
) -> None:
    many_rows(20)
    screen = terminal(*GATE, kind="xterm")
    screen.wait_for("0 of ")
    screen.wait_for("Finishing the requests in flight", press="\x03")
    Path("gate").touch()
    status, shown = screen.end()
    assert status == 130
    assert "Stopped: 4 rows in " in shown
    assert "The same command goes on from here." in shown
    assert len(answers()) == 4
    assert call(*GATE)[0] == 0
    assert len(answers()) == len(asked(tmp_path)) == 20


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_run_whose_calls_never_wait_can_be_stopped(site: Any, key: str, backend: str) -> None:
    async def run() -> Summary:
        stop = anyio.Event()
        async with trunkline.open_service("fake", default_model="echo") as service:
            rows = [{"prompt": "Hello"}] * 1000
            return await batch.map(service, rows, stop=stop, on_result=lambda result: stop.set())

    summary = anyio.run(run, backend=backend)
    assert summary.stopped
    assert summary.done < 500


def test_second_ctrl_c_stops_at_once(terminal: Any, call: Any, key: str, tmp_path: Path) -> None:
    many_rows(20)
    screen = terminal(*GATE)
    while len(asked(tmp_path) if (tmp_path / "log").exists() else ()) < 4:
        assert screen.process.poll() is None
    screen.wait_for("Finishing the requests in flight", press="\x03")
    status, shown = screen.end(press="\x03")
    assert status == 130
    assert "Stopped. The same command goes on" in shown
    assert answers() == {}
    Path("gate").touch()
    assert call(*GATE)[0] == 0
    assert len(answers()) == 20
    assert len(asked(tmp_path)) == 24


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_run_that_is_terminated_or_killed_goes_on_with_the_same_command(
    call: Any, key: str, tmp_path: Path, number: signal.Signals
) -> None:
    many_rows(20)
    process = subprocess.Popen([*RUN, *GATE], stderr=subprocess.PIPE, text=True)
    while len(asked(tmp_path) if (tmp_path / "log").exists() else ()) < 4:
        assert process.poll() is None
    process.send_signal(number)
    if number == signal.SIGTERM:
        assert process.stderr is not None
        assert "Finishing the requests in flight" in process.stderr.readline()
        Path("gate").touch()
    process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -number)
    Path("gate").touch()
    assert call(*GATE)[0] == 0
    assert len(answers()) == 20
    # Only what was in flight when the process was killed is sent again.
    assert len(asked(tmp_path)) == (20 if number == signal.SIGTERM else 24)


def progress(**changes: Any) -> Progress:
    fields: dict[str, Any] = {
        "done": 1200, "failed": 0, "skipped": 34, "total": 12_340, "elapsed": 61.0, "rate": 20.0, "input_tokens": 0,
        "output_tokens": 0, "cost": None, "seconds_left": 555.0, "waiting_for": None,
    }  # fmt: skip
    return Progress(**{**fields, **changes})


def test_line_of_progress_has_what_is_known() -> None:
    assert progress_line(progress()) == "1,234 of 12,340 rows (10%) · 20/s · 9 min 15 s left"
    assert progress_line(progress(total=None, seconds_left=None)) == "1,234 rows · 20/s"
    spent = progress(failed=3, rate=0.25, input_tokens=1_234_567, output_tokens=9_999, cost=Decimal("1.234"))
    assert progress_line(spent) == (
        "1,237 of 12,340 rows (10%) · 3 failed · 0.2/s · tokens: 1.2M in, 9,999 out · $1.23 · 9 min 15 s left"
    )
    assert progress_line(progress(waiting_for="no answer")).endswith(" · waiting: no answer")
    assert progress_line(progress(), stopping=True).endswith(" · stopping")


def test_summary_has_the_cost_and_what_was_done_before() -> None:
    summary = Summary(
        done=7, failed=0, skipped=5, failed_before=2, elapsed=75.0, input_tokens=20_000, output_tokens=1,
        cost=Decimal("0.12346"), output=Path("out.csv"), failures=None, stopped=False,
    )  # fmt: skip
    assert summary_line(summary) == (
        "Done: 7 rows in 1 min 15 s · 3 done before · tokens: 20.0k in, 1 out · $0.1235 · out.csv"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min"), (3600.0, "1 h"), (90_000.0, "1 d 1 h")],
)
def test_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
