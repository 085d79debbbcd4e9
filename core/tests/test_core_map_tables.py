"""Journals written as CSV and Parquet files."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st
from trunkline import batch
from trunkline.batch import export as module
from trunkline.batch.export import export, require_library
from trunkline.batch.journal import Journal
from trunkline.batch.rows import read_rows
from trunkline.errors import ConfigurationError, InvalidRequest
from trunkline.testing import serve


def journal(path: Path, records) -> Path:
    with Journal.open(path) as written:
        for record in records:
            written.append(record)
    return path


@pytest.fixture
def exported(tmp_path):
    def export_records(suffix, *records):
        path = tmp_path / f"out{suffix}"
        export(journal(tmp_path / f"out{suffix}.journal.jsonl", records), path)
        return path

    return export_records


def chat(number, text, **more):
    return {
        "id": f"r{number}",
        "row": number,
        "text": text,
        "finish_reason": "stop",
        "model": "m",
        "input_tokens": 3,
        **more,
        "response": {"type": "chat_response", "message": {"parts": [{"type": "text", "text": text}]}},
    }


def test_csv_has_the_rows_in_order_and_their_columns(exported):
    path = exported(".csv", chat(3, "c"), chat(1, 'a, "ä"\r\nb\rc'), chat(2, "", output_tokens=1, cost="0.00001"))
    assert path.read_bytes().decode() == (
        "id,row,text,finish_reason,model,input_tokens,output_tokens,cost\r\n"
        'r1,1,"a, ""ä""\r\nb\rc",stop,m,3,,\r\n'
        "r2,2,,stop,m,3,1,0.00001\r\n"
        "r3,3,c,stop,m,3,,\r\n"
    )


def test_parquet_has_typed_columns(exported):
    table = pq.read_table(exported(".parquet", chat(2, "b", cost="0.1"), chat(1, "ä\n", output_tokens=2**40)))
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("id", "string"),
        ("row", "int64"),
        ("text", "string"),
        ("finish_reason", "string"),
        ("model", "string"),
        ("input_tokens", "int64"),
        ("output_tokens", "int64"),
        ("cost", "double"),
    ]
    assert table.select(["id", "text", "output_tokens", "cost"]).to_pylist() == [
        {"id": "r1", "text": "ä\n", "output_tokens": 2**40, "cost": None},
        {"id": "r2", "text": "b", "output_tokens": None, "cost": 0.1},
    ]


def test_embeddings_become_lists_of_small_numbers(exported):
    records = [{"id": "a", "row": 1, "embedding": [0.5, -1, 0.25]}, {"id": "b", "row": 2, "embedding": [0.1, 1.5, 2.0]}]
    table = pq.read_table(exported(".parquet", *records))
    assert table.schema.field("embedding").type == pa.list_(pa.float32())
    assert table.column("embedding").to_pylist()[0] == [0.5, -1, 0.25]
    assert [json.loads(row["embedding"]) for _, row in read_rows(exported(".csv", *records))] == [
        [0.5, -1, 0.25],
        [0.1, 1.5, 2.0],
    ]


def test_fields_of_an_answer_become_columns(exported):
    records = [
        {"id": "a", "row": 1, "answer": {"label": "x", "score": 1, "tags": []}, "text": "{}"},
        {"id": "b", "row": 2, "answer": {"label": None, "score": 0.5, "tags": ["p", "q"], "more": {"k": 1}}},
    ]
    table = pq.read_table(exported(".parquet", *records))
    assert table.to_pylist() == [
        {"id": "a", "row": 1, "answer.label": "x", "answer.score": 1.0, "answer.tags": [], "text": "{}"}
        | {"answer.more": None},
        {"id": "b", "row": 2, "answer.label": None, "answer.score": 0.5, "answer.tags": ["p", "q"], "text": None}
        | {"answer.more": '{"k":1}'},
    ]
    rows = [row for _, row in read_rows(exported(".csv", *records))]
    assert [(row["answer.tags"], row["answer.more"]) for row in rows] == [("[]", ""), ('["p","q"]', '{"k":1}')]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([True, False, None], "bool", None),
        ([1, 0.5], "double", [1.0, 0.5]),
        ([1, True], "string", ["1", "true"]),
        ([1, "1"], "string", ["1", "1"]),
        ([2**63, 1], "string", ["9223372036854775808", "1"]),
        ([[1], [], [2]], "list<element: int64>", None),
        ([[1], [0.5]], "list<element: double>", [[1.0], [0.5]]),
        ([[1], ["a"]], "string", ["[1]", '["a"]']),
        ([[1, None], [2]], "string", ["[1,null]", "[2]"]),
        ([[], []], "list<element: string>", None),
        ([None, None], "string", None),
        (["\ud800x", "ok"], "string", ["?x", "ok"]),
    ],
)
def test_column_of_parquet_has_the_type_of_its_values(exported, values, kind, expected):
    table = pq.read_table(
        exported(".parquet", *({"id": str(row), "row": row, "x": value} for row, value in enumerate(values, 1)))
    )
    assert str(table.schema.field("x").type) == kind
    assert table.column("x").to_pylist() == (expected or values)


def test_response_is_kept_if_there_is_nothing_else(exported):
    record = {"id": "a", "row": 1, "model": "m", "response": {"type": "speech_response", "audio": "AAAA"}}
    (row,) = pq.read_table(exported(".parquet", record)).to_pylist()
    assert json.loads(row["response"]) == record["response"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_of_an_empty_journal_is_empty(exported, suffix):
    assert list(read_rows(exported(suffix))) == []


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_damaged_lines_are_left_out(tmp_path, suffix):
    source = journal(tmp_path / "j.jsonl", [chat(1, "a"), chat(2, "b"), chat(3, "c")])
    lines = source.read_bytes().splitlines(keepends=True)
    source.write_bytes(lines[0] + lines[1].replace(b'"b"', b'"B"') + lines[2] + b'{"id":"r4","ro')
    export(source, tmp_path / f"out{suffix}")
    assert [row["id"] for _, row in read_rows(tmp_path / f"out{suffix}")] == ["r1", "r3"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_failed_export_leaves_the_earlier_table(exported, tmp_path, monkeypatch, suffix):
    path = exported(suffix, chat(1, "a"))
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", fail)
    with pytest.raises(InvalidRequest, match=rf"the table '.*out{suffix}' cannot be written: No space left on device"):
        export(tmp_path / f"out{suffix}.journal.jsonl", path)
    assert path.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == [f"out{suffix}", f"out{suffix}.journal.jsonl"]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    require_library(tmp_path / "out.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    require_library("out.csv")
    for call in (lambda: require_library("o.parquet"), lambda: export("o.journal.jsonl", "o.parquet")):
        with pytest.raises(ConfigurationError, match=r"o\.parquet: .*pyarrow; install trunkline\[parquet\]"):
            call()


def test_missing_journal_and_other_suffix_are_errors(tmp_path):
    with pytest.raises(InvalidRequest, match=r"cannot be written: No such file"):
        export(tmp_path / "none.jsonl", tmp_path / "out.csv")
    with pytest.raises(InvalidRequest, match=r"must end in \.csv or \.parquet"):
        export(tmp_path / "none.jsonl", tmp_path / "out.xlsx")


TEXTS = st.text(st.characters(codec="utf-8"))
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS, st.lists(TEXTS)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(TEXTS.filter(lambda name: name not in ("id", "row", "crc32", "answer")), VALUES)))
def test_any_records_can_be_read_from_their_table(tmp_path_factory, columns):
    folder = tmp_path_factory.mktemp("tables")
    records = [{**cells, "id": f"{row}", "row": row} for row, cells in enumerate(columns, 1)]
    source = journal(folder / "j.jsonl", [{"id": record["id"], **record} for record in reversed(records)])
    export(source, folder / "out.parquet")
    export(source, folder / "out.csv")
    table = pq.read_table(folder / "out.parquet")
    assert table.column("id").to_pylist() == [record["id"] for record in records] if records else not table.num_rows
    with (folder / "out.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    for record, cells in zip(records, read, strict=True):
        for name, value in record.items():
            if name == "cost" or name == "response":
                continue
            if isinstance(value, str):
                assert cells[name] == value
            elif isinstance(value, float):
                assert math.isclose(float(cells[name]), value)
            else:
                assert json.loads(cells[name] or "null") == value


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory from /proc")
def test_memory_does_not_grow_with_the_journal(tmp_path):
    program = (
        "import sys, pyarrow.parquet\n"
        "from trunkline.batch import export\n"
        "export._GROUP_SIZE = 2 << 20\n"
        "def peak():\n"
        "    return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\n"
        "export.export(sys.argv[1], sys.argv[2])\n"
        "print(peak() - before)\n"
    )

    def grown(rows, suffix):
        source = tmp_path / f"{rows}.jsonl"
        if not source.exists():
            journal(source, ({"id": str(row), "row": row, "text": f"{row} " * 250} for row in range(rows, 0, -1)))
        command = [sys.executable, "-c", program, source, tmp_path / f"out{suffix}"]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    # The journals have 4 and 30 MB.
    assert grown(20_000, ".parquet") < grown(3_000, ".parquet") + 20_000  # kB
    assert grown(20_000, ".csv") < 10_000


@pytest.mark.anyio
@pytest.mark.each_stack
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
async def test_map_writes_a_table_and_adds_to_it(toy, tmp_path, suffix):
    async def answer(exchange):
        (text,) = json.loads(exchange.request.body)["text"]
        if text == "b":
            await exchange.respond(b"no", status=404)
        else:
            await exchange.respond(json.dumps({"text": f"<{text}>", "usage": [3, 2]}).encode())

    rows, output = tmp_path / "in.csv", tmp_path / f"out{suffix}"
    async with serve(answer) as server, toy(server.url) as service:
        for content in ("key,text\nk1,a\nk2,b\n", "key,text\nk1,a\nk2,b\nk3,c\n"):
            rows.write_text(content)
            await batch.map(service, rows, "{text}", output, id_column="key", patience=5)
    read = [(row["id"], row["text"], int(row["row"])) for _, row in read_rows(output)]
    assert read == [("k1", "<a>", 1), ("k3", "<c>", 3)]


@pytest.mark.anyio
async def test_map_to_parquet_without_pyarrow_fails_before_the_first_request(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    async with toy("http://127.0.0.1:9") as service:
        with pytest.raises(ConfigurationError, match="package pyarrow"):
            await batch.map(service, [{"text": "a"}], "{text}", tmp_path / "out.parquet")
    assert not list(tmp_path.iterdir())
