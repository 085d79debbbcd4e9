"""`AuthTests` passes a `CachedToken`, and catches the mistakes of those who write such an `Auth` themselves."""

from __future__ import annotations

import pytest
from trunkline.testing import AuthTests

from .kit.kit_runs import failures

pytestmark = pytest.mark.tests_more

BUGS = {
    "not_shared": ("test_waiting_calls_share_one_exchange", "test_token_is_reused"),
    "never_renewed": ("test_token_is_renewed_before_it_expires",),
    "own": (
        "test_burst_of_refused_calls_makes_one_more_exchange",
        "test_failed_renewal_keeps_a_valid_token",
        "test_waiting_calls_share_a_failure",
        "test_exchange_has_a_time_limit",
    ),
    "failure_is_kept": ("test_waiting_calls_share_a_failure",),
    "hangs_after_cancellation": ("test_cancelled_call_does_not_hold_up_the_others",),
    "forgets_old_tokens": ("test_tokens_and_credentials_are_not_shown",),
    "token_in_repr": ("test_tokens_and_credentials_are_not_shown",),
    "token_not_sent": ("test_burst_of_refused_calls_makes_one_more_exchange",),
    "fragile": ("test_response_without_a_token_is_an_error_of_the_provider",),
    "status_ignored": ("test_refused_exchange_is_an_error_of_the_provider",),
}
"""The bugs that can be planted, each with the tests that must fail. `own` has no bug but what it lacks."""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Run the tests without a bug, and each bug's tests, on asyncio. Return the pairs of bug and test that failed."""
    classes = "".join(f"class Test_{bug}(TestToken):\n    bug = {bug!r}\n" for bug in BUGS)
    # A call that hangs forever should not take 30 s here.
    source = f"from trunkline.testing import auth\nfrom kit_auth import TestToken\n\nauth.LIMIT = 2.0\n{classes}"
    chosen = [f"Test_{bug}::{test}" for bug, tests in BUGS.items() for test in tests]
    return failures(source, ["TestToken", *chosen], tmp_path_factory.mktemp("kit"))


def test_cached_token_passes(failed: set[tuple[str, str]]) -> None:
    assert not [test for case, test in failed if case == "TestToken"]


@pytest.mark.parametrize(("bug", "test"), [(bug, test) for bug, tests in BUGS.items() for test in tests])
def test_a_planted_bug_is_caught(bug: str, test: str, failed: set[tuple[str, str]]) -> None:
    assert (bug, test) in failed, "the kit passes an Auth with this bug"


def test_skips_need_a_test_and_a_reason() -> None:
    with pytest.raises(TypeError, match="is not a test of the kit"):
        type("Wrong", (AuthTests,), {"skips": {"test_x": "why"}})
    with pytest.raises(TypeError, match="no reason"):
        type("Silent", (AuthTests,), {"skips": {"test_token_is_reused": " "}})
    with pytest.raises(TypeError, match="replaces a test of the kit"):
        type("Own", (AuthTests,), {"test_token_is_reused": lambda self: None})
