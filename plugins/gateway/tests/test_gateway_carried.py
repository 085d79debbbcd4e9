"""Opaque data of providers comes through a client unchanged, and nothing else is taken for it."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest
from hypothesis import given, strategies as st
from trunkline_gateway.wires.carried import PREFIX, unwrap, wrap

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), lambda inner: st.lists(inner, max_size=3)
)
METADATA = st.dictionaries(st.text(), st.dictionaries(st.text(), JSON, max_size=3), max_size=3)


@given(provider=st.none() | st.text(), family=st.none() | st.text(), signature=st.text(min_size=1), metadata=METADATA)
def test_wrapped_data_comes_back_as_it_was(
    provider: str | None, family: str | None, signature: str, metadata: dict[str, dict[str, object]]
) -> None:
    fields = unwrap(wrap(provider, family, signature=signature, metadata=metadata))
    expected = {"provider": provider, "family": family, "signature": signature}
    assert fields == (expected | {"metadata": metadata} if metadata else expected)


@given(st.text() | st.binary().map(lambda data: PREFIX + urlsafe_b64encode(data).decode()))
def test_any_text_can_be_unwrapped_without_an_error(text: str) -> None:
    fields = unwrap(text)
    assert fields is None or "provider" in fields


def test_each_damaged_text_is_refused() -> None:
    whole = wrap("anthropic", "claude", signature="s" * 50)
    for end in range(len(whole)):
        assert unwrap(whole[:end]) is None
    for damaged in (
        whole + "=",
        whole + "!",
        whole.replace(".", ". ", 1),
        whole[:10] + "\n" + whole[10:],
        "tl2" + whole[3:],
    ):
        assert unwrap(damaged) is None


def _as_ours(encoded: bytes) -> str:
    return PREFIX + urlsafe_b64encode(encoded).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "encoded",
    [
        b"[]",
        b"{}",
        b'{"provider":1,"family":null}',
        b'{"provider":null}',
        b'{"provider":null,"family":null,"signature":[]}',
        b'{"provider":null,"family":null,"redacted":1}',
        b'{"provider":null,"family":null,"metadata":{"a":1}}',
        b'{"provider":null,"family":null,"metadata":[]}',
        b'{"provider":null,"family":null,"metadata":{"a":{"b":' + b"[" * 200 + b"]" * 200 + b"}}}",
        b'{"provider":null,"family":null,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_data_of_another_shape_is_refused(encoded: bytes) -> None:
    assert unwrap(_as_ours(encoded)) is None


def test_many_brackets_are_not_deep() -> None:
    metadata = {"a": {"b": [[] for _ in range(1000)]}}
    fields = unwrap(wrap("p", None, metadata=metadata))
    assert fields is not None
    assert fields["metadata"] == metadata


def test_data_that_is_not_json_leaves_the_signature() -> None:
    fields = unwrap(wrap("p", None, signature="s", metadata={"p": {"x": float("nan")}}))
    assert fields == {"provider": "p", "family": None, "signature": "s"}
