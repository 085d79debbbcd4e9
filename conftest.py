"""What holds for all tests of the workspace."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A loaded machine makes an example slow, not wrong: speed is shown by the benchmark.
# The same examples in each run, so that a change is not refused for an example that nobody had tried before;
# `--exhaustive` tries new ones.
settings.register_profile("trunkline", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("exhaustive", deadline=None, max_examples=400, derandomize=False)

# Many tests start pytest. It would load these plugins each time, which takes a second and more.
os.environ.setdefault("PYTEST_ADDOPTS", "-p no:schemathesis -p no:faker -p no:llmock")

TRANSPORT_ONCE = frozenset({"TestGemini", "TestOllama", "TestBedrock"})
"""The conformance classes that run the kit's tests of the core (`TransportTests`): one for each framing.

Server-sent events or JSON, JSON lines, and the AWS event stream. Each runs over aiohttp on asyncio and over httpx2's
connection pool on trio; `core/tests/test_core_kit_transports.py` adds the other ways to send. See `tests/README.md`.
"""

SAME_STREAM_PARSER = frozenset({"TestOpenAI", "TestAzureOpenAIResponses", "TestLlamaCpp"})
"""The conformance classes whose samples another class has too, with the same framer and parser.

They leave out the tests of `OF_THE_PARSER`, and so do the classes marked `tests_more`. See `tests/README.md`.
"""

OF_THE_PARSER = frozenset(
    {"test_fault_08_truncated_at_every_byte", "test_fault_13_splits", "test_fault_56_another_framing"}
)
"""The longest tests of only the framer and the parser."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--exhaustive`."""
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="run what tests/README.md lists as left out: the kit's tests of the core for every provider, recorded "
        "streams cut at every place, and more examples of each kind",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and choose how many examples Hypothesis tries."""
    config.addinivalue_line("markers", "exhaustive: run only with --exhaustive; tests/README.md says why")
    config.addinivalue_line(
        "markers", "tests_more: run by the session tests_more, not by tests; tests/README.md says why"
    )
    settings.load_profile("exhaustive" if config.getoption("--exhaustive") else "trunkline")


@pytest.fixture(scope="session")
def exhaustive(request: pytest.FixtureRequest) -> bool:
    """Whether the option `--exhaustive` is given."""
    return bool(request.config.getoption("--exhaustive"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests marked `exhaustive`, and those of the kit that repeat others. See `tests/README.md`."""
    if config.getoption("--exhaustive"):
        return
    dropped = [*_repeated(items), *(item for item in items if item.get_closest_marker("exhaustive"))]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        left_out = set(dropped)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Let the garbage collector ignore what exists now: the modules, and thousands of tests."""
    gc.collect()
    gc.freeze()


def _repeated(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    tests_of_the_core: set[str] | None = None
    for item in items:
        if not item.path.name.endswith("_conformance.py") or not isinstance(item, pytest.Function):
            continue
        if tests_of_the_core is None:
            from trunkline.testing.conformance import TransportTests

            tests_of_the_core = {name for name in dir(TransportTests) if name.startswith("test_")}
        name = item.cls.__name__
        is_repeated_format = item.get_closest_marker("tests_more") is not None
        same_parser = name in SAME_STREAM_PARSER or is_repeated_format
        on_trio = "callspec" in vars(item) and item.callspec.params.get("anyio_backend") == "trio"
        of_the_core = item.originalname in tests_of_the_core and name not in TRANSPORT_ONCE
        if of_the_core or (same_parser and item.originalname in OF_THE_PARSER) or (is_repeated_format and on_trio):
            yield item
