"""Rows of JSONL, CSV and Parquet files, and of memory."""

import functools
import io
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from contextlib import closing
from datetime import date
from pathlib import Path

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trunkline
from trunkline import batch
from trunkline.batch import rows as module
from trunkline.batch.rows import read_rows
from trunkline.batch.stable_text import stable_text
from trunkline.errors import ConfigurationError, InvalidRequest
from trunkline.testing import serve


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(tmp_path, name, content):
    source = read_rows(written(tmp_path, name, content))
    try:
        return list(source)
    finally:
        source.close()


TWO = [(1, {"id": "a", "text": "grün"}), (2, {"id": "b", "text": "x\ny"})]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.jsonl", '{"id":"a","text":"grün"}\n{"id":"b","text":"x\\ny"}\n'),
        ("in.jsonl", '{"id":"a","text":"grün"}\n{"id":"b","text":"x\\ny"}'),  # no line end
        ("in.ndjson", '\ufeff{"id":"a","text":"grün"}\r\n\r\n  \n{"id":"b","text":"x\\ny"}\r\n'),
        ("in.JSONL", '{"id":"a","text":"gr\\u00fcn"}\n{"id":"b","text":"x\\ny"}\n'),
        ("in.csv", 'id,text\na,grün\nb,"x\ny"\n'),
        ("in.csv", '\ufeffid,text\r\na,grün\r\n\r\nb,"x\ny"'),
        ("in.CSV", '"id","text"\n"a","grün"\n"b","x\ny"\n'),
    ],
)
def test_text_files_give_numbered_rows(tmp_path, name, content):
    assert read(tmp_path, name, content) == TWO


def test_values_of_json_keep_their_types_and_values_of_csv_are_strings(tmp_path):
    assert read(tmp_path, "in.jsonl", '{"a":1,"b":[1.5,null,true],"c":{"d":"\\ud83d\\ude00"}}') == [
        (1, {"a": 1, "b": [1.5, None, True], "c": {"d": "😀"}})
    ]
    assert read(tmp_path, "in.csv", ',a,b\n0,1,""\n') == [(1, {"": "0", "a": "1", "b": ""})]


def test_separators_of_unicode_do_not_end_a_line(tmp_path):
    text = "a\u2028b\u0085c\x0b"
    assert read(tmp_path, "in.jsonl", f'{{"t":"{text[:-1]}"}}\n') == [(1, {"t": text[:-1]})]
    assert read(tmp_path, "in.csv", f"t\n{text}\n") == [(1, {"t": text})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", "", "in.jsonl is empty"),
        ("in.csv", "", "in.csv is empty"),
        ("in.jsonl", b'{"a":1}\n{"a":"gr\xfcn"}\n', r"line 2: byte 9 of the line \(0xfc\) is not UTF-8; save"),
        ("in.jsonl", '{"a":1}'.encode("utf-16"), "in.jsonl: it is UTF-16, .* save it as UTF-8"),
        ("in.csv", b"a\n\xff\n", r"in.csv, line 2: byte 1 of the line \(0xff\) is not UTF-8"),
        ("in.jsonl", '{"a":1}\n\n{"a" 1}\n', "in.jsonl, line 3: not valid JSON: Expecting ':' delimiter, column 6"),
        ("in.jsonl", '{"a":1}\n{"a":"cut o', "line 2: the line ends in the middle of a JSON value"),
        ("in.jsonl", '[\n {"a":1}\n]\n', "line 1: the line ends in the middle .* one whole JSON object"),
        ("in.jsonl", '[{"a":1}]', "line 1: an array, not a JSON object; each line must be one JSON object"),
        ("in.jsonl", "17", "line 1: a int, not a JSON object"),
        ("in.jsonl", "null", "line 1: null, not a JSON object"),
        ("in.jsonl", '{"a":NaN}', "line 1: not valid JSON: NaN is not a JSON number"),
        ("in.jsonl", '{"a":1e999}', "line 1: not valid JSON: 1e999 is not a JSON number"),
        ("in.jsonl", '{"a":' + "[" * 200_000 + "]" * 200_000 + "}", "line 1: the JSON is nested too deeply"),
        ("in.csv", "a,b\n1,2\n1,2,3\n", "line 3: 3 fields, but the first line names 2 columns; put a field"),
        ("in.csv", 'a,b\n"1\n\n",2\n1\n', "line 5: 1 fields, but the first line names 2"),
        ("in.csv", "a,b,a\n", "line 1: two columns are named 'a'"),
        ("in.csv", 'a,b\n1,"2\n3,4\n', "line 2: a quoted field of this row has no closing quote"),
        ("in.csv", 'a,b\n1,"2"3\n', "line 2: not valid CSV: .*; write a quote within a quoted field twice"),
        ("in.csv", "a,b\r1,2\r", "line 1: the row contains a carriage return without a line feed"),
        ("in.csv", "id;text\n1;a\n", "line 1: the columns must be separated by commas"),
        ("in.txt", "a", r"in.txt: the name must end in .jsonl, .csv or .parquet"),
        ("in.parquet", "PAR1 no", "in.parquet cannot be read: Parquet"),
    ],
)
def test_errors_name_the_file_and_the_line(tmp_path, name, content, message):
    with pytest.raises(InvalidRequest, match=message) as caught:
        read(tmp_path, name, content)
    assert str(tmp_path / name) in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_rows_before_a_broken_line_are_given(tmp_path):
    with closing(read_rows(written(tmp_path, "in.jsonl", '{"a":1}\n{"a":'))) as source:
        rows = iter(source)
        assert next(rows) == (1, {"a": 1})
        with pytest.raises(InvalidRequest, match="line 2"):
            next(rows)


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.csv", "missing.parquet"])
def test_missing_file_is_an_error_before_the_first_row(tmp_path, name):
    with pytest.raises(InvalidRequest, match=f"{name} cannot be read: .*No such file"):
        read_rows(tmp_path / name)


def test_folder_is_an_error(tmp_path):
    (tmp_path / "in.jsonl").mkdir()
    with pytest.raises(InvalidRequest, match=r"in.jsonl cannot be read: Is a directory"):
        read_rows(str(tmp_path / "in.jsonl"))


def test_csv_without_rows_has_none(tmp_path):
    assert read(tmp_path, "in.csv", "a,b\n") == []


def test_field_longer_than_the_csv_modules_default_limit_is_read(tmp_path):
    text = "x, " * 100_000
    assert read(tmp_path, "in.csv", f'a\n"{text}"\n') == [(1, {"a": text})]


def test_endless_line_and_endless_field_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LINE_LIMIT", 2 << 20)
    with pytest.raises(InvalidRequest, match=r"in.jsonl, line 1: the line is longer than 2 MB"):
        read(tmp_path, "in.jsonl", b'{"a":"' + b"x" * (3 << 20))
    with pytest.raises(InvalidRequest, match=r"in.csv, line 2: the line is longer than 2 MB"):
        read(tmp_path, "in.csv", b"a\n" + b"x" * (3 << 20))


def test_memory_does_not_grow_with_the_file(tmp_path):
    line = '{"id":1,"text":"' + "x" * 1000 + '"}\n'
    path = written(tmp_path, "in.jsonl", line * 20_000)
    tracemalloc.start()
    try:
        with closing(read_rows(path)) as source:
            assert sum(1 for _ in source) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_fraction_of_a_text_file_grows_to_one(tmp_path):
    source = read_rows(written(tmp_path, "in.jsonl", ('{"a":"' + "x" * 992 + '"}\n') * 1000))
    assert source.total is None
    assert source.fraction == 0
    seen = [source.fraction for number, _ in source if number % 100 == 0]
    assert seen == pytest.approx([0.1 * step for step in range(1, 11)], abs=0.02)
    assert source.fraction == 1
    source.close()


def test_fraction_stays_after_closing(tmp_path):
    source = read_rows(written(tmp_path, "in.csv", "a\n1\n2\n" + "3" * 14))
    next(iter(source))
    before = source.fraction
    source.close()
    source.close()
    assert source.fraction == before


def test_rows_in_memory_have_a_total():
    source = read_rows([{"a": 1}, {"a": 2}])
    rows = iter(source)
    assert (source.total, source.fraction) == (2, 0)
    assert next(rows) == (1, {"a": 1})
    assert source.fraction == 0.5
    assert list(rows) == [(2, {"a": 2})]
    assert source.fraction == 1
    assert list(read_rows([])) == []


def test_generated_rows_have_no_total():
    source = read_rows({"a": number} for number in range(3))
    assert (source.total, source.fraction) == (None, None)
    assert list(source) == [(1, {"a": 0}), (2, {"a": 1}), (3, {"a": 2})]


@pytest.mark.parametrize("source", [{"a": 1}, b"in.jsonl", 17, None])
def test_source_that_is_no_rows_is_refused(source):
    with pytest.raises(InvalidRequest, match=f"an iterable of dicts, not {type(source).__name__}|of dicts, not"):
        read_rows(source)


@pytest.mark.parametrize(
    ("row", "message"),
    [("text", "row 2 must be a dict of columns, not str"), ({1: "a"}, "row 2: the name .* a string, not int")],
)
def test_row_in_memory_of_another_form_is_refused(row, message):
    with pytest.raises(InvalidRequest, match=message):
        list(read_rows([{"a": 1}, row]))


def test_standard_input_is_jsonl(monkeypatch):
    buffer = io.BytesIO(b'{"a":1}\n{"a":}\n')
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(buffer))
    source = read_rows("-")
    rows = iter(source)
    assert next(rows) == (1, {"a": 1})
    assert (source.total, source.fraction) == (None, None)
    with pytest.raises(InvalidRequest, match="standard input, line 2: not valid JSON"):
        next(rows)
    source.close()
    assert not buffer.closed


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_is_read(tmp_path):
    path = tmp_path / "in.jsonl"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b'{"a":1}\n',))
    writer.start()
    source = read_rows(path)
    assert (list(source), source.total) == ([(1, {"a": 1})], None)
    writer.join()
    source.close()


def parquet(path: Path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_parquet_rows_keep_their_types(tmp_path):
    columns = {
        "id": [1, 2],
        "text": ["grün", None],
        "vector": [[0.5, 1.0], []],
        "day": [date(2026, 11, 28), None],
        "image": [{"bytes": b"\x89PNG"}, None],
    }
    source = read_rows(parquet(tmp_path / "in.parquet", columns))
    assert source.total == 2
    assert list(source) == [
        (number, {name: values[number - 1] for name, values in columns.items()}) for number in (1, 2)
    ]
    source.close()


def test_fraction_of_parquet_grows_by_rows(tmp_path):
    source = read_rows(parquet(tmp_path / "in.parquet", {"a": range(1000)}, row_group_size=100))
    assert [source.fraction for number, _ in source if number % 250 == 0] == [0.25, 0.5, 0.75, 1]
    source.close()


def test_parquet_with_two_columns_of_a_name_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(InvalidRequest, match="two columns are named 'a'"):
        read_rows(tmp_path / "in.parquet")


def test_damaged_parquet_page_is_an_error_that_names_the_file(tmp_path):
    path = parquet(tmp_path / "in.parquet", {"a": [f"text {number}" for number in range(5000)]}, compression="zstd")
    data = bytearray(path.read_bytes())
    data[100:2000] = bytes(1900)
    path.write_bytes(data)
    with pytest.raises(InvalidRequest, match=r"in.parquet cannot be read: "):
        list(read_rows(path))


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"needs the package pyarrow; install trunkline\[parquet\]"):
        read_rows(tmp_path / "in.parquet")


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory from /proc")
def test_parquet_in_one_row_group_takes_little_memory(tmp_path):
    text = ["x" * 1000 + str(number) for number in range(100_000)]
    path = parquet(tmp_path / "in.parquet", {"text": text}, use_dictionary=False, compression="none")
    program = (
        "import sys, pyarrow.parquet\n"
        "from trunkline.batch.rows import read_rows\n"
        "def peak():\n"
        "    return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "before = peak()\n"
        "assert sum(1 for _ in read_rows(sys.argv[1])) == 100_000\n"
        "print(peak() - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", program, path], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 40_000  # kB; the file has 100 MB


@pytest.fixture
def standard_input(monkeypatch):
    """A pipe as standard input; what is written to the file that this fixture gives is read there."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as source, os.fdopen(writing, "wb", buffering=0) as writer:
        monkeypatch.setattr(sys, "stdin", source)
        yield writer


def test_pipe_is_read_by_lines(standard_input, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 5)
    standard_input.write(b'\xef\xbb\xbf{"a":"gr\xc3\xbcn"}\r\n\n{"a":2}\n{"a":3}')
    standard_input.close()
    source = read_rows("-")
    assert list(source) == [(1, {"a": "grün"}), (2, {"a": 2}), (3, {"a": 3})]
    assert source.total is None
    assert source.fraction == 1


def test_endless_line_of_a_pipe_is_refused(standard_input, monkeypatch):
    monkeypatch.setattr(module, "LINE_LIMIT", 1 << 10)
    standard_input.write(b"x" * (1 << 15))
    with pytest.raises(InvalidRequest, match="standard input, line 1: the line is longer"):
        list(read_rows("-"))


async def echo(exchange):
    text = json.loads(exchange.request.body)["text"]
    await exchange.respond(json.dumps({"text": f"<{''.join(text)}>", "usage": [1, 1]}).encode())


@pytest.mark.anyio
@pytest.mark.each_stack
async def test_requests_go_on_while_a_pipe_is_empty(toy, standard_input):
    done = []

    def on_result(result):
        done.append(result.id)
        if len(done) < 5:  # the next row comes only after the result of this one
            standard_input.write(b'{"text":"b"}\n')
        else:
            standard_input.close()

    standard_input.write(b'{"text":"a"}\n')
    async with serve(echo) as server, toy(server.url) as service:
        summary = await batch.map(service, "-", "{text}", on_result=on_result, patience=5)
    assert done == ["1", "2", "3", "4", "5"]
    assert (summary.done, summary.stopped) == (5, False)


@pytest.mark.anyio
@pytest.mark.each_stack
async def test_run_can_be_stopped_while_a_pipe_is_empty(toy, standard_input):
    stop = anyio.Event()
    standard_input.write(b'{"text":"a"}\n')
    async with serve(echo) as server, toy(server.url) as service:
        summary = await batch.map(service, "-", "{text}", on_result=lambda _: stop.set(), stop=stop, patience=5)
    assert (summary.done, summary.stopped) == (1, True)


def tool_of_another_process():
    namespace = {}
    exec("def weather(city: str) -> str:\n    'Tell the weather.'\n    return city", namespace)  # another address
    return namespace["weather"]


def test_identity_of_requests_with_tools_is_the_same_in_every_process():
    first, second = (
        batch.row_requests(
            params={"tools": [tool, functools.partial(tool, "Bonn")], "provider_options": {"a": 1, "b": 2}}
        )
        for tool in (tool_of_another_process(), tool_of_another_process())
    )
    assert first.identity == second.identity


def test_messages_that_a_function_yields_can_be_sent_several_times():
    def conversation(row):
        yield trunkline.user(row["text"])
        yield trunkline.assistant("1" + row["end"])

    requests = batch.row_requests(request=conversation, system="Be brief.")
    assert [message.role for message in requests.request({"text": "a", "end": "b"})] == ["system", "user", "assistant"]
    assert len(batch.row_requests(request=conversation).request({"text": "a", "end": "b"})) == 2
    with pytest.raises(InvalidRequest, match="the function that makes the request failed"):
        requests.request({"text": "a"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (trunkline.Image(data=b"1", media_type="image/png"), trunkline.Image(data=b"2", media_type="image/png")),
        ({"a": 1}, {"a": "1"}),
        ([1, 2], [2, 1]),
        ({1}, {2}),
        (b"1", b"2"),
    ],
)
def test_values_that_differ_have_different_texts(one, other):
    assert stable_text(one) != stable_text(other)


def test_order_of_a_mapping_or_a_set_does_not_change_its_text():
    assert stable_text({"a": 1, "b": {"x", "y"}}) == stable_text({"b": {"y", "x"}, "a": 1})


def test_closed_standard_input_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InvalidRequest, match="standard input is closed"):
        read_rows("-")


def test_date_that_python_cannot_hold_is_an_error_that_names_the_file(tmp_path):
    pq.write_table(pa.table({"x": pa.array([2**31 - 1], pa.date32())}), tmp_path / "far.parquet")
    with pytest.raises(InvalidRequest, match=r"far\.parquet cannot be read"):
        list(read_rows(tmp_path / "far.parquet"))
