"""The kit catches planted bugs: three of `tests/mutants/mutants.toml` here, all of them with `nox -s mutants`."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import load_script

ROOT = Path(__file__).parents[1]
RUN = ROOT / "tests" / "mutants" / "run.py"
REPRESENTATIVE = {
    "globex-auth-shows-the-key": "test_reprs_show_no_secret",
}


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    return load_script(RUN, "trunkline_mutants")


@pytest.fixture(scope="module")
def globex(runner: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutants") / "trunkline-globex"
    runner.make_globex(folder)
    return folder


@pytest.mark.parametrize(("name", "test"), REPRESENTATIVE.items())
def test_the_kit_catches_a_planted_bug(name: str, test: str, runner: ModuleType, globex: Path, tmp_path: Path) -> None:
    mutant = next(mutant for mutant in runner.mutants() if mutant["id"] == name)
    package, conformance = runner.copy_plugin("globex", globex, tmp_path)
    assert runner.run_kit(conformance, tmp_path, test) is None
    runner.plant(mutant["edit"], package)
    assert runner.run_kit(conformance, tmp_path, test).startswith(test)


def test_each_planted_bug_can_be_planted(runner: ModuleType, globex: Path, tmp_path: Path) -> None:
    found: list[dict[str, Any]] = runner.mutants()
    assert len({mutant["id"] for mutant in found}) == len(found)
    assert set(range(8, 24)) <= {mutant.get("class") for mutant in found}
    for mutant in found:
        assert mutant.keys() & {"class", "complaint"}, mutant["id"]
        package, conformance = runner.copy_plugin(
            mutant["package"], globex, tmp_path / mutant["id"], mutant.get("tests")
        )
        runner.plant(mutant["edit"], package)
        assert conformance.is_file()
        assert "test" not in mutant or f"def {mutant['test']}(" in conformance.read_text("utf-8")
        for edit in mutant["edit"]:
            compile((package / edit["file"]).read_text("utf-8"), edit["file"], "exec")


def test_the_page_lists_every_planted_bug(runner: ModuleType) -> None:
    page = (ROOT / "docs" / "mutants.md").read_text(encoding="utf-8")
    found = runner.mutants()
    core = sum(mutant["package"] == "core" for mutant in found)
    plugins = sum("test" not in mutant for mutant in found)
    own = len(found) - core - plugins
    assert f"**The kit catches {plugins} of {plugins} bugs.**" in page, "run: nox -s mutants"
    assert f"**The core's tests catch {core} of {core} bugs.**" in page, "run: nox -s mutants"
    assert f"**The plugins' own tests catch {own} of {own} bugs.**" in page, "run: nox -s mutants"
    assert all(f"| {mutant['package']} | {mutant['why']} |" in page for mutant in found), "run: nox -s mutants"
