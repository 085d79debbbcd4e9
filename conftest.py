"""What holds for all tests of the workspace."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

# A loaded machine makes an example slow, not wrong: speed is shown by the benchmark.
settings.register_profile("trunkline", deadline=None)
settings.load_profile("trunkline")

TRANSPORT_ONCE = frozenset({"TestGemini", "TestOllama", "TestBedrock"})
"""The conformance classes that run the kit's tests of the core (`TransportTests`): one for each framing.

Server-sent events or JSON, JSON lines, and the AWS event stream. Each runs over aiohttp on asyncio and over httpx2's
connection pool on trio; `core/tests/test_core_kit_transports.py` adds the other ways to send. See `tests/README.md`.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `--whole-kit`."""
    parser.addoption(
        "--whole-kit",
        action="store_true",
        help="run the conformance kit's tests of the core for every provider, not once for each framing",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the kit's tests of the core for all providers but those of `TRANSPORT_ONCE`."""
    if config.getoption("--whole-kit"):
        return
    dropped = list(_repeated(items))
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        left_out = set(dropped)
        items[:] = [item for item in items if item not in left_out]


def _repeated(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    tests_of_the_core: set[str] | None = None
    for item in items:
        if not item.path.name.endswith("_conformance.py") or not isinstance(item, pytest.Function):
            continue
        if tests_of_the_core is None:
            from trunkline.testing.conformance import TransportTests

            tests_of_the_core = {name for name in dir(TransportTests) if name.startswith("test_")}
        if item.originalname in tests_of_the_core and item.cls.__name__ not in TRANSPORT_ONCE:
            yield item
