"""The load comparison, with a few requests to the gateway alone. Its figures are not checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "load" / "run.py"


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_load_comparison_measures_the_gateway_without_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, str(RUN), "--size", "tiny", "--gateways", "trunkline-limits", "--json", str(file)]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found = json.loads(file.read_text(encoding="utf-8"))["gateways"]["trunkline-limits"]
    services = [service for wire in found["cpu"].values() for service in wire.values()]
    assert len(services) == 6
    assert [service["failed"] for service in (*services, *found["latency"].values())] == [{}] * 8
    assert (found["memory"]["open"], found["memory"]["still_open"]) == (20, 20)
    assert found["memory"]["beside_failed"] == 0
