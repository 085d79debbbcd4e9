"""A pytest plugin that reports the results of the fault catalogue: `-p trunkline.testing.report --fault-report PATH`.

The report is a JSON file. For each provider, fault class and backend it says whether the tests passed, failed, did not
apply or were skipped, with the reasons. A test that does not use an anyio backend counts for both. The report also has
the numbers of other tests of the kit that passed and failed, and each test that an author skipped.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from trunkline.testing.catalogue import FAULTS, fault_of

BACKENDS = ("asyncio", "trio")

_GRAVITY = ("failed", "skipped", "passed", "n/a")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--fault-report`."""
    parser.addoption("--fault-report", metavar="PATH", help="write the results of the fault catalogue to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Record the results if the option is given."""
    path = config.getoption("--fault-report")
    if path:
        config.pluginmanager.register(_Recorder(Path(path)), "trunkline-fault-report")


class _Recorder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._cells: dict[tuple[str, int, str], dict[str, set[str]]] = {}
        self._others: dict[str, dict[str, int]] = {}
        self._left_out: dict[str, dict[str, str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        case = getattr(item, "cls", None)
        if case is not None and hasattr(case, "wire") and (report.when == "call" or not report.passed):
            self._record(item, case, report)
        return report

    def _record(self, item: Any, case: Any, report: pytest.TestReport) -> None:
        name = item.originalname
        provider = case.label()
        outcome, reason = _outcome(report)
        if outcome == "skipped":
            self._left_out.setdefault(provider, {})[name] = reason
        fault = fault_of(name)
        if fault is None:
            counts = self._others.setdefault(provider, {"passed": 0, "failed": 0, "skipped": 0})
            counts[outcome] = counts.get(outcome, 0) + 1
            return
        params = item.callspec.params if hasattr(item, "callspec") else {}
        backend = params.get("anyio_backend")
        for one in (backend,) if backend else BACKENDS:
            cell = self._cells.setdefault((provider, fault.number, one), {})
            cell.setdefault(outcome, set()).add(reason)

    def pytest_sessionfinish(self) -> None:
        """Write the report."""
        providers = sorted({provider for provider, _, _ in self._cells})
        results = {
            provider: {
                str(fault.number): {backend: self._cell(provider, fault.number, backend) for backend in BACKENDS}
                for fault in FAULTS
            }
            for provider in providers
        }
        data = {
            "classes": {str(fault.number): fault.title for fault in FAULTS},
            "results": results,
            "conformance": self._others,
            "left_out": self._left_out,
        }
        self._path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def _cell(self, provider: str, number: int, backend: str) -> dict[str, str]:
        outcomes = self._cells.get((provider, number, backend), {"not run": {""}})
        # The worst outcome of a class's tests counts; tests that do not apply count only if there are no others.
        outcome = next((known for known in _GRAVITY if known in outcomes), "not run")
        reasons = "; ".join(sorted(reason for reason in outcomes.get(outcome, ()) if reason))
        return {"outcome": outcome, "reason": reasons} if reasons else {"outcome": outcome}


def _outcome(report: pytest.TestReport) -> tuple[str, str]:
    if not report.skipped:
        return report.outcome, ""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = text.removeprefix("Skipped: ")
    if reason.startswith("n/a: "):
        return "n/a", reason.removeprefix("n/a: ")
    return "skipped", reason
