"""The pytest fixture `trunkline_recording`: run once with `--trunkline-record`, later runs replay the recording."""

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
        help="record anew: send the requests of tests that use the fixture trunkline_recording to the providers",
    )


@pytest.fixture
def trunkline_recording(request: pytest.FixtureRequest) -> Iterator[Recorder | Player]:
    """Answer every service that the test opens from the test's own recording.

    The recording is in `recordings/<test file>/<test>.json`, next to the test file. Runs of the test on different
    anyio backends share one recording. With `--trunkline-record`, requests are sent to the providers and recorded.
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
