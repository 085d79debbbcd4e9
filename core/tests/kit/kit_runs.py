"""Run tests of the kit in a process of their own, since some of them must fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def failures(source: str, chosen: list[str], folder: Path) -> set[tuple[str, str]]:
    """Run the `chosen` tests, each `CLASS::TEST`, of a module with the `source`, on asyncio.

    Returns the class, without `Test_` in front, and the name of each test that failed.
    """
    (folder / "test_toy.py").write_text(source, encoding="utf-8")
    options = ["-q", "-rf", "--tb=no", "-p", "no:cacheprovider", "-k", "not trio"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"test_toy.py::{test}" for test in chosen)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert " passed" in done.stdout, done.stdout + done.stderr
    failed = [line.split()[1].split("::") for line in done.stdout.splitlines() if line.startswith("FAILED")]
    return {(case.removeprefix("Test_"), test.partition("[")[0]) for _, case, test in failed}
