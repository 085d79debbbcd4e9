"""`ExtensionTests` finds broken extensions: a sound one passes, and each of its broken variants fails one test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from trunkline.testing import ExtensionTests

pytestmark = pytest.mark.tests_more

KIT = Path(__file__).with_name("kit")

BROKEN = {
    "StreamsOnly": "test_chat_and_stream_give_the_same_response",
    "LooksInPieces": "test_chat_and_stream_give_the_same_response",
    "AnswersOddly": "test_chat_and_stream_give_the_same_response",
    "LosesWarnings": "test_warnings_are_kept",
    "LosesLastWarnings": "test_warnings_are_kept",
    "KeepsRequest": "test_concurrent_calls_do_not_mix",
    "CachesOne": "test_different_requests_get_their_own_responses",
    "CachesByLastText": "test_different_requests_get_their_own_responses",
    "CachesByMessages": "test_different_requests_get_their_own_responses",
    "OtherError": "test_error_of_the_provider_passes",
    "FallsBack": "test_error_of_the_provider_passes",
    "EndsWell": "test_error_in_a_stream_passes",
    "RefusesLate": "test_refused_calls_are_not_sent",
    "RefusesPlainly": "test_refused_calls_are_not_sent",
    "RefusesWithOwnException": "test_refused_calls_are_not_sent",
    "RefusesChatOnly": "test_refused_calls_are_not_sent",
    "FailsQuietly": "test_failure_names_the_extension",
    "FailsWithSecret": "test_failure_names_the_extension",
    "DropsGenerator": "test_stream_is_closed",
    "NeverLeaves": "test_stream_is_closed",
    "LeavesOnlyAfterSuccess": "test_stream_is_closed",
    "LeavesAfterExceptions": "test_stream_is_closed",
    "SwallowsCancellation": "test_cancellation_passes",
    "RenamesCancellation": "test_cancellation_passes",
    "ShieldsForever": "test_cancellation_passes",
    "ScopeInStream": "test_no_scope_is_open_at_a_yield",
    "ScopeInEvents": "test_no_scope_is_open_at_a_yield",
    "TasksInStream": "test_no_scope_is_open_at_a_yield",
    "AsyncioTimeoutInStream": "test_no_scope_is_open_at_a_yield",
    "AsyncioTasksInEvents": "test_no_scope_is_open_at_a_yield",
    "ShowsSecret": "test_nothing_secret_is_shown",
    "ShowsSecretAfterCall": "test_nothing_secret_is_shown",
    "ObserverExpectsChats": "test_observers_do_not_raise",
    "ObserverForgetsAbandoned": "test_observers_do_not_raise",
}
"""The broken extensions of `kit/kit_extensions.py`, each with the test that must fail on both backends."""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Run all tests of the sound extension, and one test of each broken one. Return the failures of each class."""
    folder = tmp_path_factory.mktemp("extensions")
    lines = ["import kit_extensions as kit", "class TestSound(kit.TestSound): pass"]
    for name in BROKEN:
        attribute = "failing" if name.startswith("Fails") else "kind"
        lines.append(f"class Test{name}(kit.TestSound): {attribute} = kit.{name}")
    (folder / "test_extensions.py").write_text("\n".join(lines), encoding="utf-8")
    chosen = [f"test_extensions.py::Test{name}::{test}" for name, test in BROKEN.items()]
    options = ["-q", "-rf", "--tb=line", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_extensions.py::TestSound", *chosen],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(KIT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found = defaultdict(set)
    line = r"^FAILED test_extensions\.py::Test(\w+)::(\w+\[(?:asyncio|trio))"
    for name, test in re.findall(line, done.stdout, re.MULTILINE):
        found[name].add(test)
    return found


def test_sound_extension_passes(failed: dict[str, set[str]]) -> None:
    assert not failed.get("Sound")


@pytest.mark.parametrize("name", BROKEN)
def test_broken_extension_is_found(name: str, failed: dict[str, set[str]]) -> None:
    assert failed[name] == {f"{BROKEN[name]}[asyncio", f"{BROKEN[name]}[trio"}


def test_every_test_of_the_kit_finds_a_broken_extension() -> None:
    assert {name for name in dir(ExtensionTests) if name.startswith("test_")} == set(BROKEN.values())


def test_skips_need_a_test_and_a_reason() -> None:
    with pytest.raises(TypeError, match="is not a test of the kit"):
        type("Wrong", (ExtensionTests,), {"skips": {"test_x": "why"}})
    with pytest.raises(TypeError, match="no reason"):
        type("Silent", (ExtensionTests,), {"skips": {"test_warnings_are_kept": " "}})
    with pytest.raises(TypeError, match="replaces a test of the kit"):
        type("Own", (ExtensionTests,), {"test_warnings_are_kept": lambda self: None})


@pytest.mark.parametrize("made", [lambda self, tmp_path: None, pytest.fixture(lambda self: None)])
def test_extension_cannot_use_fixtures(made: object) -> None:
    with pytest.raises(TypeError, match=r"cannot use fixtures of pytest.* self\.folder"):
        type("Wrong", (ExtensionTests,), {"extension": made})
