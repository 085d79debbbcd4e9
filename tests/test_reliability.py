"""The measurements of reliability, at their smallest: each runs, and finds its promise kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "reliability"
MEASUREMENTS = ("cancellation", "storm", "fallback", "peers")
LONG = ("truncation", "neighbours", "slow_consumer", "soak", "chaos")


@pytest.mark.parametrize("name", [*MEASUREMENTS, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in LONG)])
def test_a_measurement_runs_and_its_promise_is_kept(name: str, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--size", "smoke", "--json", str(figures)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert (found["measurement"], found["size"], found["kept"]) == (name, "smoke", True)
    assert run.stdout.startswith(f"{name}: kept: {found['summary']}")
