"""The hot paths take no more instructions than was recorded: counted, never timed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

COUNTER = Path(__file__).parent / "bench" / "instructions.py"
RECORDED = json.loads(COUNTER.with_suffix(".json").read_text()).get(
    f"{sys.version_info.major}.{sys.version_info.minor}"
)
ALLOWED = 1.10


@pytest.fixture(scope="module")
def counted() -> dict[str, float]:
    counter = subprocess.run([sys.executable, str(COUNTER)], capture_output=True, text=True, check=True, timeout=120)
    ratios: dict[str, float] = json.loads(counter.stdout)
    return ratios


@pytest.mark.skipif(
    RECORDED is None, reason="nothing is recorded for this version of Python, whose instructions differ"
)
@pytest.mark.parametrize("path", list(RECORDED or {}))
def test_a_hot_path_takes_no_more_instructions_than_recorded(path: str, counted: dict[str, float]) -> None:
    assert counted[path] <= ALLOWED * RECORDED[path], "slower; if that is meant: tests/bench/instructions.py --record"


@pytest.mark.skipif(
    RECORDED is None, reason="nothing is recorded for this version of Python, whose instructions differ"
)
def test_recorded_paths_are_the_counted_ones(counted: dict[str, float]) -> None:
    assert counted.keys() == RECORDED.keys()
