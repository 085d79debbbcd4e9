"""Jobs of the real Ray, whose processes are killed. The provider, a process of its own, counts what it is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NAMESPACE = ("unshare", "--map-root-user", "--net")
ROWS = 600
CONCURRENCY = 8
ACTORS = 2


def can_make_a_namespace() -> bool:
    """Whether this user may have a network of their own, which Ray needs: it listens on every address."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run([*NAMESPACE, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.skipif(
        not can_make_a_namespace(), reason="Ray listens on every address, and no network namespace can be made here"
    ),
    pytest.mark.timeout(600),  # Ray takes up to half a minute to start, and the scenario of the driver starts it twice
]


def run(scenario: str) -> dict[str, Any]:
    program = str(Path(__file__).parents[3] / "tests" / "support" / "ray_run.py")
    size = (f"--rows={ROWS}", f"--actors={ACTORS}", f"--concurrency={CONCURRENCY}")
    ran = subprocess.run([*NAMESPACE, sys.executable, program, scenario, *size], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    result: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return result


def assert_each_row_is_answered_once(result: dict[str, Any]) -> None:
    assert (result["rows"], result["lost"], result["twice"], result["wrong"]) == (ROWS, 0, 0, 0)


def test_a_killed_worker_repeats_at_most_the_rows_in_flight() -> None:
    result = run("worker")
    assert_each_row_is_answered_once(result)
    assert result["failed"] == 0
    assert result["provider"]["repeated"] <= CONCURRENCY
    assert result["provider"]["most_in_flight"] <= ACTORS * CONCURRENCY


def test_a_job_that_runs_again_after_its_driver_was_killed_repeats_at_most_the_rows_in_flight() -> None:
    result = run("driver")
    assert_each_row_is_answered_once(result)
    assert result["failed"] == 0
    assert result["provider"]["repeated"] <= ACTORS * CONCURRENCY


def test_rows_that_the_provider_refuses_are_error_rows_and_other_faults_lose_none() -> None:
    result = run("faults")
    assert_each_row_is_answered_once(result)
    assert result["errors"] == ["BadRequest"]
    assert 0 < result["failed"] < ROWS // 10
    assert result["provider"]["repeated"] == 0


def test_an_outage_loses_no_row() -> None:
    result = run("outage")
    assert_each_row_is_answered_once(result)
    assert result["failed"] == 0
    assert result["provider"]["statuses"]["503"]
