"""Hostile bytes, for every framer and parser of the core and of the providers that are installed.

What must hold is checked by the targets themselves (tests/support/fuzz_targets.py). Here they get raw bytes, our own
inputs with something broken in them, and what the coverage-guided fuzzer has kept (tests/fuzz/).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

import pytest
from fuzz_mutation import mutate
from fuzz_targets import Target, check_stream, parsers, targets
from hypothesis import given, strategies as st
from trunkline._plugins.registry import installed

FUZZ = Path(__file__).parent / "fuzz"
TARGETS = targets()
FRAGMENTS = (b"data: ", b"data:", b"event: error", b"\n", b"\r", b"\r\n\r\n", b"{", b"}", b'"', b"\\", b":", b"[DONE]")
FRAGMENTS += (
    b"\xef\xbb\xbf",
    b"\x00\x00\x00\x10",
    b"[",
    b"]",
    b"null",
    b"1e400",
    b"[services.a]\n",
    b"=",
    b"\xff",
    b"<",
)

BYTES = st.binary(max_size=100) | st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=3), max_size=30).map(
    b"".join
)


@cache
def seeds(kind: str) -> tuple[bytes, ...]:
    """Our own inputs of a kind."""
    return tuple(path.read_bytes() for path in sorted((FUZZ / "seeds" / kind).iterdir()))


def kept(target: Target) -> list[Path]:
    """The seeds of a target, and the inputs that the fuzzer has kept for it."""
    folders = (FUZZ / "seeds" / target.kind, FUZZ / "corpus" / target.name)
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]


def broken(kind: str, number: int) -> bytes:
    """One of our inputs, with one to four things in it broken; the same for the same number."""
    random = Random(number)
    known = seeds(kind)
    data = random.choice(known)
    for _ in range(random.choice((1, 1, 2, 4))):
        data = mutate(data, random, random.choice(known)) or data
    return data


@pytest.fixture(params=TARGETS.values(), ids=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.param
    return found


def test_every_installed_provider_is_fuzzed() -> None:
    for item in installed("trunkline.providers"):
        assert {f"stream-{item.name}", f"answer-{item.name}"} <= TARGETS.keys()


def test_kept_inputs_are_read(target: Target) -> None:
    for path in kept(target):
        target.run(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@given(data=BYTES)
def test_raw_bytes_raise_our_errors_alone(name: str, data: bytes) -> None:
    TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
@given(number=st.integers(0, 2**32))
def test_broken_inputs_raise_our_errors_alone(name: str, number: int) -> None:
    target = TARGETS[name]
    target.run(broken(target.kind, number))


PARSERS = {name: parser for name, _, _, parser in parsers()}


@pytest.mark.parametrize("name", PARSERS)
def test_each_parser_reads_some_of_the_seeds_whole(name: str) -> None:
    """Without an input in its own wire format a parser would be fuzzed on its first step alone."""
    outcomes = [check_stream(PARSERS[name], data) for data in seeds("streams")]
    whole = [outcome.events for outcome in outcomes if outcome.error is None]
    assert any(len(events) > 3 for events in whole), f"add a stream for {name} to tests/fuzz/seeds/streams"
