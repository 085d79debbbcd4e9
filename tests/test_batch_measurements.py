"""The measurements of batch work, at a small size: each runs, and finds its promises kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parent / "batch" / "run.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they read /proc")


def measure(folder: Path, *arguments: str) -> dict[str, Any]:
    figures = folder / "figures.json"
    command = [sys.executable, str(FILE), *arguments, "--folder", str(folder), "--json", str(figures)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    found: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))
    assert found["broken"] == []
    return found


def test_killed_runs_lose_no_row_and_repeat_at_most_those_in_flight(tmp_path: Path) -> None:
    found = measure(tmp_path, "kills", "--rows", "300", "--kills", "3", "--latency", "0.02", "--concurrency", "8")
    assert (found["right"], found["lost"], found["repeated"]) == (300, 0, 0)
    assert found["repeated_requests"] <= 3 * 8


def test_a_provider_with_faults_costs_no_row(tmp_path: Path) -> None:
    found = measure(tmp_path, "faults", "--rows", "300")
    assert (found["right"], found["failed"], found["provider"]["repeated"], found["provider"]["early"]) == (
        300,
        0,
        0,
        0,
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize("scenario", ["throughput", "memory", "outage"])
def test_the_other_measurements_run(tmp_path: Path, scenario: str) -> None:
    measure(tmp_path, scenario, "--rows", "300", "--rounds", "1", "--outage", "1")
