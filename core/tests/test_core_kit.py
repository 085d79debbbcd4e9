"""The conformance kit catches bugs: a toy provider passes, and fails with each bug that is planted in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from trunkline import ServiceContext, Settings, hookimpl
from trunkline.authoring.auth import HeaderAuth, NoAuth
from trunkline.authoring.provider import Auth, Provider
from trunkline.settings import settings
from trunkline.testing import SSE, ProviderTests, canary
from trunkline.testing.catalogue import FAULTS, fault_of

from .kit.kit_runs import failures

pytestmark = pytest.mark.tests_more

PROVIDER = Path(__file__).with_name("kit") / "kit_toy.py"

BUGS = {
    "success_at_end_of_file": "test_fault_08_truncated",
    "text_decoded_by_read": "test_fault_13_splits",
    "crlf_unknown": "test_fault_14_spellings",
    "skips_broken_json": "test_fault_15_malformed_json",
    "whole_answer_refused": "test_fault_17_no_stream",
    "error_event_ignored": "test_fault_18_error_event",
    "bare_error_ignored": "test_fault_19_bare_error_mid_stream",
    "calls_fused": "test_fault_21_tool_calls",
    "usage_added_up": "test_fault_22_usage",
    "unknown_event_fatal": "test_fault_23_unknown_event",
    "unknown_finish_is_stop": "test_fault_23_unknown_finish",
    "status_not_retryable": "test_fault_25_retryable_status",
    "error_retried": "test_fault_25_other_status",
    "early_error_final": "test_fault_27_bare_error",
    "key_in_log": "test_fault_30_secrets",
    "usage_zero": "test_fault_37_usage_on_abort",
    "crash_on_odd_json": "test_fault_39_fuzzed_json",
    "key_in_repr": "test_reprs_show_no_secret",
    "body_differs": "test_streamed_equals_whole",
    "model_lost": "test_response_has_the_model_of_the_body",
}
"""The bugs that can be planted in the toy, each with the test that must fail."""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Run each bug's test with and without the bug, on asyncio. Return the pairs of bug and test that failed."""
    classes = "".join(f"class Test_{bug}(TestToy):\n    bug = {bug!r}\n" for bug in BUGS)
    chosen = [f"Test_{bug}::{test}" for bug, test in BUGS.items()]
    chosen += [f"TestToy::{test}" for test in sorted(set(BUGS.values()))]
    return failures(f"from kit_toy import TestToy\n{classes}", chosen, tmp_path_factory.mktemp("kit"))


def test_a_provider_without_a_bug_passes(failed: set[tuple[str, str]]) -> None:
    assert not [test for case, test in failed if case == "TestToy"]


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug: str, failed: set[tuple[str, str]]) -> None:
    assert (bug, BUGS[bug]) in failed, "the kit passes a provider with this bug"


def test_each_fault_class_has_a_test() -> None:
    tests = [name for name in dir(ProviderTests) if name.startswith("test_fault_")]
    for fault in FAULTS:
        assert any(name.startswith(f"test_fault_{fault.number:02}_{fault.slug}") for name in tests), fault
    numbers = [fault.number for fault in FAULTS]
    assert numbers == sorted(set(numbers))
    assert all(fault_of(name) for name in tests)


def test_skipping_a_test_of_the_kit_needs_a_reason() -> None:
    with pytest.raises(TypeError, match="replaces a test of the kit"):
        type("TestAcme", (ProviderTests,), {"test_fault_13_splits": None})
    with pytest.raises(TypeError, match="is not a test of the kit"):
        type("TestAcme", (ProviderTests,), {"skips": {"test_fault_13": "why"}})
    with pytest.raises(TypeError, match="has no reason"):
        type("TestAcme", (ProviderTests,), {"skips": {"test_fault_13_splits": " "}})
    kept: Any = type("TestAcme", (ProviderTests,), {"skips": {"test_fault_13_splits": "the wire has one byte"}})
    assert issubclass(kept, ProviderTests)


@settings
class OpenSettings(Settings):
    provider: ClassVar[str] = "open"


class Override:
    """An extension that puts another authentication in the place of the provider's."""

    @hookimpl(tryfirst=True)
    def trunkline_auth(self, context: ServiceContext[Settings]) -> Auth:
        return HeaderAuth("x-token", canary("token"))


def test_extensions_in_the_settings_are_tested_too() -> None:
    step = SimpleNamespace(translate=print, stream=print, body=print, error=print)
    without = Provider(
        name="open",
        settings=OpenSettings,
        auth=lambda context: NoAuth(),
        translator=lambda context: step,
        response_parser=lambda context: step,
    )
    wire = SimpleNamespace(framing=SSE, error_event=None)
    plain: Any = type("TestPlain", (ProviderTests,), {"provider": without, "wire": wire})
    overridden: Any = type(
        "TestOverridden", (plain,), {"settings": {"extensions": [Override()]}, "secrets": (canary("token"),)}
    )
    assert not plain.facts().credentials
    assert overridden.facts().credentials
    assert isinstance(overridden.open_steps().auth, HeaderAuth)
    assert canary("token") in overridden.canaries()


BROKEN = {
    "a required setting is missing": (
        "TOY",
        "setting 'api_key' (API Key) is required",
        "If a setting is missing, add it to `settings` of TestBroken.",
    ),
    "a module cannot be imported": (
        "attrs.evolve(TOY, translator=lambda context: __import__('not_there'))",
        "The provider of TestBroken cannot be used",
        "No module named 'not_there'",
    ),
}
"""Providers, and what the one error must say."""


@pytest.mark.parametrize("case", BROKEN)
def test_a_provider_that_cannot_be_used_gives_one_error(case: str, tmp_path: Path) -> None:
    provider, *messages = BROKEN[case]
    settings = {"url": "{url}"} if "required" in case else {"url": "{url}", "api_key": canary("api_key")}
    (tmp_path / "test_broken.py").write_text(
        "import attrs\nfrom kit_toy import TOY, WIRE\nfrom trunkline.testing import ProviderTests\n"
        f"class TestBroken(ProviderTests):\n    provider = {provider}\n    settings = {settings}\n    wire = WIRE\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_broken.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROVIDER.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 error" in done.stdout
    for message in messages:
        assert message in done.stdout
    assert len(done.stdout.splitlines()) < 20
