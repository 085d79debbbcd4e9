"""The conformance kit finds providers that do not send, renew or protect their credentials."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

PROVIDERS = Path(__file__).with_name("kit")

sys.path.insert(0, str(PROVIDERS))

import kit_credentials  # noqa: E402
from kit_credentials import BUGS, GOOD  # noqa: E402

pytestmark = pytest.mark.tests_more

TESTS = sorted({test for test, _ in BUGS.values()})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], str]:
    """Return the message of each failure, and "" for each success, by class, test and backend."""
    folder = tmp_path_factory.mktemp("kit")
    (folder / "test_kit.py").write_text("from kit_credentials import *\n", encoding="utf-8")
    installed = folder / "kit_corp-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: kit-corp\nVersion: 1.0\n", encoding="utf-8")
    entry_point = "[trunkline.extensions]\nkit-corp = kit_credentials:CORP\n"
    (installed / "entry_points.txt").write_text(entry_point, encoding="utf-8")
    chosen = [f"test_kit.py::Test{bug}::{test}" for bug, (test, _) in BUGS.items()]
    chosen += [f"test_kit.py::Test{name}::{test}" for name in GOOD for test in TESTS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rpfE", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROVIDERS), str(folder)]), "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert " passed" in done.stdout, done.stdout + done.stderr
    found: dict[tuple[str, str, str], str] = {}
    for line in done.stdout.splitlines():
        match = re.match(r"(PASSED|FAILED|ERROR) test_kit.py::Test(\w+)::(\w+)\[([\w-]+)\](.*)", line)
        if match:
            outcome, case, test, parameters, message = match.groups()
            backend = "trio" if "trio" in parameters else "asyncio"
            found[case, test, backend] = message if outcome != "PASSED" else found.get((case, test, backend), "")
    return found


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("case", GOOD)
def test_credentials_that_are_sent_and_renewed_pass(
    case: str, backend: str, results: dict[tuple[str, str, str], str]
) -> None:
    failures = {test: message for (name, test, on), message in results.items() if (name, on) == (case, backend)}
    assert len(failures) >= 3  # where the headers with a signature are is not tested
    assert not any(failures.values()), failures


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_credentials_fails_with_a_clear_message(
    bug: str, backend: str, results: dict[tuple[str, str, str], str]
) -> None:
    test, message = BUGS[bug]
    assert message in results[bug, test, backend]


def test_a_secret_that_is_sent_in_no_header_may_have_any_character() -> None:
    kit_credentials.TestTokens().test_fault_48_wrong_key("\n")


def test_signed_requests_without_declared_headers_are_skipped_visibly() -> None:
    test = kit_credentials.TestSignature().test_credentials_are_in_their_headers
    with pytest.raises(pytest.skip.Exception, match=r"not tested: .* has no 'credentials'"):
        anyio.run(test, "chat")


def test_tool_calls_without_steps_are_skipped_visibly() -> None:
    wire = attrs.evolve(kit_credentials.WIRE, steps=None)
    case: Any = type("TestWithoutSteps", (kit_credentials.TestKey,), {"wire": wire})
    with pytest.raises(pytest.skip.Exception, match=r"not tested: .* 'steps' in the WireFormat"):
        case().test_arguments_of_calls_are_unchanged("m")
