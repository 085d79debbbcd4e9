"""JSON: whichever decoder is installed, the same values and the same refusals."""

import json
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, strategies as st
from trunkline.authoring.json import JSONObject, append_field, as_count, as_number, loads, with_options

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.characters(categories=["Cs"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Equal, with their types; NaN equals NaN."""
    return repr(left) == repr(right)


@pytest.fixture(params=["msgspec", "json"])
def decode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "msgspec":
        pytest.importorskip("msgspec", reason="the extra `fast` is not installed")
    else:
        monkeypatch.setattr("trunkline._json._decode", json.loads)
    return loads


@pytest.mark.parametrize(
    "text",
    [
        b"NaN",
        b"[-Infinity]",
        b"1e400",
        b"-0",
        b"-0.0",
        b"123456789012345678901234567890",
        b"18446744073709551616",
        b"12345678901234567890.5",
        b'{"a": 1, "a": 2}',
        b'"\\ud800"',
        b'"\xed\xa0\x80"',
        b'"\\ud83d\\ude00"',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        " [1] ",
        '"\ud800"',
    ],
)
def test_unusual_json_is_decoded_like_the_standard_library_does(text: bytes | str, decode: Any) -> None:
    assert same(decode(text), json.loads(text))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[1,]", b"01", b'"\xff"', b'["\x01"]', b"{} x", b"tru", "\ufeff{}", b"\x0c1"]
)
def test_invalid_json_raises_value_error(text: bytes | str, decode: Any) -> None:
    with pytest.raises(ValueError):
        decode(text)


def test_too_deep_is_a_recursion_error(decode: Any) -> None:
    with pytest.raises(RecursionError):
        decode(b"[" * 100_000 + b"]" * 100_000)


@given(VALUES)
def test_any_value_survives_a_round_trip(value: Any) -> None:
    text = json.dumps(value)
    assert same(loads(text.encode()), json.loads(text))


@given(st.binary(max_size=40) | st.text(alphabet='[]{},:"\\0123456789eE+-.truefalsn ', max_size=20).map(str.encode))
def test_any_bytes_are_taken_or_refused_as_the_standard_library_does(data: bytes) -> None:
    try:
        expected: Any = json.loads(data)
    except ValueError:
        with pytest.raises(ValueError):
            loads(data)
    else:
        assert same(loads(data), expected)


def test_a_float_keeps_its_value() -> None:
    assert loads(b"0.1") == 0.1
    assert math.copysign(1, loads(b"-0.0")) == -1


def test_without_the_extra_the_standard_library_decodes() -> None:
    program = (
        "import sys; sys.modules['msgspec'] = None; import json; from trunkline import _json;"
        "assert _json._decode is json.loads; assert _json.loads(b'[1]') == [1]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ((3,), 3),
        ((3.0,), 3),
        ((0,), 0),
        ((-1,), None),
        ((True,), None),
        ((2**53 - 1,), 2**53 - 1),
        ((2**53,), None),
        ((1.5,), None),
        (("3",), None),
        ((), None),
    ],
)
def test_count_is_a_whole_number_of_at_least_zero(values: tuple[object, ...], count: int | None) -> None:
    assert as_count(*values) == count


def test_first_valid_count_is_used() -> None:
    assert as_count(None, "7", 5, 6) == 5


def test_option_replaces_the_field_of_its_name() -> None:
    body: JSONObject = {"model": "m", "thinking": {"type": "enabled", "budget": 1}}
    merged = with_options(body, {"acme": {"thinking": {"type": "disabled"}, "x": 1}, "other": {"y": 2}}, "acme")
    assert merged == {"model": "m", "thinking": {"type": "disabled"}, "x": 1}
    assert body == {"model": "m", "thinking": {"type": "enabled", "budget": 1}}


def test_option_extends_a_joined_field() -> None:
    body: JSONObject = {"config": {"a": 1, "b": 1}, "tools": [{"name": "search"}]}
    options: JSONObject = {"config": {"b": 2}, "tools": ({"name": "search"}, {"name": "fetch"}), "new": [1]}
    assert with_options(body, {"acme": options}, "acme", joined=("config", "tools", "new")) == {
        "config": {"a": 1, "b": 2},
        "tools": [{"name": "search"}, {"name": "fetch"}],
        "new": [1],
    }


def test_option_of_another_type_replaces_a_joined_field() -> None:
    body: JSONObject = {"config": {"a": 1}, "tools": [1]}
    merged = with_options(body, {"acme": {"config": None, "tools": {}}}, "acme", joined=("config", "tools"))
    assert merged == {"config": None, "tools": {}}


def test_without_options_the_value_is_copied() -> None:
    body = {"model": "m"}
    copy = with_options(body, {}, "acme")
    assert copy == body
    assert copy is not body


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3.0), (-1.5, -1.5), (0, 0.0), (True, None), ("3", None), (10**400, None), (1e999, None), (None, None)],
)
def test_number_is_finite(value: object, number: float | None) -> None:
    assert as_number(value) == number


def test_appended_field_keeps_earlier_values() -> None:
    fields: dict[str, Any] = {"price": 3}
    append_field(fields, "price", {"a": 1})
    append_field(fields, "price", {"a": 2})
    append_field(fields, "event", "x")
    assert fields == {"price": [3, {"a": 1}, {"a": 2}], "event": ["x"]}
