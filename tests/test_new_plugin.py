"""What `trunkline new-plugin` makes works as it is: it builds, and passes its tests and its author's own checks."""

from __future__ import annotations

from pathlib import Path

import pytest
from built_packages import BuiltPackage, build
from trunkline.cli import main
from trunkline.testing.conformance import TransportTests

ROOT = Path(__file__).parents[1]
FLAVOURS = {"chat": "acme", "extension": "house-style", "wire": "bolt-two"}

SLOW = ("fault_16", "fault_26", "fault_36", "fault_39")
"""The slowest tests of the kit. The providers of the workspace pass all of it."""
OF_THE_CORE = tuple(name for name in dir(TransportTests) if name.startswith("test_"))
"""The kit's tests of the core, which is the same for every provider."""


@pytest.fixture(scope="module", params=FLAVOURS)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BuiltPackage:
    """A package of each flavour, built."""
    scratch = tmp_path_factory.mktemp(request.param)
    name = FLAVOURS[request.param]
    folder = scratch / name
    assert main(["new-plugin", name, "--flavour", request.param, "--folder", str(folder)]) == 0
    return build(folder, scratch)


def test_the_tests_of_a_new_package_pass(package: BuiltPackage, exhaustive: bool) -> None:
    """A provider's run the conformance kit. They run on one backend."""
    left_out = SLOW if exhaustive else (*SLOW, *OF_THE_CORE)
    output = package.run("pytest", "-q", "-p", "no:cacheprovider", "-k", f"not trio and not ({' or '.join(left_out)})")
    assert " passed" in output
    assert "failed" not in output


def test_a_new_package_passes_its_linter_and_type_checker(package: BuiltPackage) -> None:
    package.check()


def test_a_new_package_is_typed_and_has_its_entry_point(package: BuiltPackage) -> None:
    [info] = package.site.glob("*.dist-info")
    name = package.folder.name
    group = "trunkline.extensions" if name == FLAVOURS["extension"] else "trunkline.providers"
    assert f"[{group}]\n{name} = " in (info / "entry_points.txt").read_text(encoding="utf-8")
    assert list(package.site.glob("*/py.typed"))


def test_the_wheel_of_the_core_has_the_templates(tmp_path: Path) -> None:
    templates = ROOT / "core" / "src" / "trunkline" / "cli" / "templates"
    built = build(ROOT / "core", tmp_path)
    wanted = {path.relative_to(templates) for path in templates.rglob("*.tmpl")}
    found = built.site / "trunkline" / "cli" / "templates"
    assert {path.relative_to(found) for path in found.rglob("*.tmpl")} == wanted
    assert wanted
