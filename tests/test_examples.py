"""The example repositories under docs/examples, each built and tested as its author would."""

from __future__ import annotations

from pathlib import Path

import pytest
from built_packages import BuiltPackage, build

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.parent for path in ROOT.glob("docs/examples/*/pyproject.toml"))

CHOSEN = "not TestAcme or not trio and (not fault or fault_25 or fault_28 or fault_30)"
"""The package's own tests, and of the kit, on one backend, what an override of authentication can break."""


@pytest.fixture(scope="module", params=EXAMPLES, ids=[path.name for path in EXAMPLES])
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BuiltPackage:
    """An example, built."""
    return build(request.param, tmp_path_factory.mktemp(request.param.name))


def test_an_example_passes_its_own_tests(example: BuiltPackage) -> None:
    assert " passed" in example.run("pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN)


def test_an_example_passes_its_linter_and_type_checker(example: BuiltPackage) -> None:
    example.check()
