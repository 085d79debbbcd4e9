"""Workers of the real Ray share limits, and the provider, a process of its own, measures them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NAMESPACE = ("unshare", "--map-root-user", "--net")
PERIOD = 3
"""The window of the limits in these tests, in seconds."""


def can_make_a_namespace() -> bool:
    """Whether this user may have a network of their own, which Ray needs: it listens on every address."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run([*NAMESPACE, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(
    not can_make_a_namespace(), reason="Ray listens on every address, and no network namespace can be made here"
)


def run(folder: Path, program: str = "limited_workers.py", **options: Any) -> dict[str, Any]:
    given = json.dumps({"folder": str(folder), "period": PERIOD, "workers": 2, **options})
    command = [*NAMESPACE, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable]
    command += [str(Path(__file__).with_name(program)), given]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    assert result.get("errors", []) == []
    return result


def test_limiter_that_is_killed_never_lets_more_requests_through(tmp_path: Path) -> None:
    result = run(
        tmp_path, limits={"requests_per_minute": 200}, requests=500, kills=[[300, "limiter"], [700, "limiter"]]
    )
    assert result["restarted"]
    assert (result["accepted"], result["repeated"]) == (1000, 0)
    assert result["busiest"]["arrived"] <= 200 * 1.01
    assert (result["running"], result["waiting"]) == (0, 0)


def test_worker_that_is_killed_leaves_the_limit_to_the_others(tmp_path: Path) -> None:
    limits = {"requests_per_minute": 200, "tokens_per_minute": 10**6}
    result = run(tmp_path, limits=limits, requests=500, kills=[[300, "worker"]])
    assert result["busiest"]["arrived"] <= 200 * 1.01
    assert result["sent"] == 500  # those of the other one


def test_tokens_and_concurrency_are_limited_for_all_workers_together(tmp_path: Path) -> None:
    limits = {"tokens_per_minute": 4000, "concurrency": 5}
    result = run(tmp_path, limits=limits, requests=300, provider={"latency": 0.01, "answer_words": 10})
    assert result["accepted"] == 600
    assert result["most_in_flight"] <= 5
    assert result["busiest"]["tokens"] <= 4000 * 1.01


def test_wait_that_the_provider_asks_one_worker_for_holds_up_all(tmp_path: Path) -> None:
    provider = {"requests_per_minute": 100}  # within the same window, and less than the limit of the workers
    result = run(tmp_path, limits={"requests_per_minute": 200}, requests=200, provider=provider, concurrency=4)
    assert result["accepted"] == 400
    assert result["statuses"]["429"] <= 40
    assert result["early"] == 0


def test_actors_of_a_dataset_share_the_limits_of_map(tmp_path: Path) -> None:
    limits = {"requests_per_minute": 150}
    result = run(tmp_path, "limited_dataset.py", limits=limits, rows=500, provider={"unavailable": 0.1})
    assert (result["accepted"], result["repeated"]) == (500, 0)
    assert result["requests"] > 500
    assert result["busiest"]["arrived"] <= 150 * 1.01


def test_metrics_that_prometheus_scrapes_are_those_that_the_provider_has_seen(tmp_path: Path) -> None:
    provider = {"rate_limited": 0.1, "retry_after": 0.01, "unavailable": 0.05, "bad": 0.05}
    result = run(tmp_path, "metered_stage.py", limits={"requests_per_minute": 10**6}, rows=300, provider=provider)
    metrics, statuses = result["metrics"], result["statuses"]
    refused = statuses["400"]
    assert metrics["rows_done"] == statuses["200"] == 300 - refused
    assert metrics["rows_failed"] == refused > 0
    assert metrics["rows_recorded"] == 300  # the same rows once more
    assert metrics["requests"] == result["requests"]
    assert metrics["retries"] == result["requests"] - 300 > 0
    assert metrics["input_tokens"] + metrics["output_tokens"] == result["busiest"]["tokens"]
    assert (metrics["rows_in_flight"], metrics["requests_waiting"]) == (0, 0)
    assert result["services"] == ["main"]
