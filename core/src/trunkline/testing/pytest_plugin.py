"""The fixture `trunkline_recording`, for pytest: record once with `--trunkline-record`, replay from then on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trunkline.testing.tapes import Player, Recorder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("trunkline").addoption(
        "--trunkline-record",
        action="store_true",
        help="send what tests with the fixture trunkline_recording ask for, and record it anew",
    )


@pytest.fixture
def trunkline_recording(request: pytest.FixtureRequest) -> Iterator[Recorder | Player]:
    """Every service that the test opens is answered from a recording of the test's own.

    It lies beside the test file, in `recordings/<test file>/<test>.json`. The backends of anyio share one. With
    `--trunkline-record` the services are reached, and the recording is made.
    """
    from trunkline.testing.tapes import record, replay

    path = _path(request)
    with (record if request.config.getoption("--trunkline-record") else replay)(path) as tape:
        yield tape


def _path(request: pytest.FixtureRequest) -> Path:
    name: str = getattr(request.node, "originalname", None) or request.node.name
    parameters = {**getattr(getattr(request.node, "callspec", None), "params", {})}
    parameters.pop("anyio_backend", None)
    if parameters:
        name += "-" + "-".join(f"{parameter}={value}" for parameter, value in sorted(parameters.items()))
    safe = re.sub(r"[^\w.=-]+", "_", name)[:120]
    return request.path.parent / "recordings" / request.path.stem / f"{safe}.json"
