"""Runs the kit, and tests of the core and of plugins, against the planted bugs of `mutants.toml`.

`python tests/mutants/run.py [--report FILE] [--jobs 2] [ID …]` reports which of them are caught. For each mutant, it
copies the source of a plugin, plants the bug in the copy, and runs the plugin's conformance test against the copy,
which precedes the plugin on the path. The test runs on asyncio, or on trio if the mutant has `backend = "trio"`. A bug
of the core, or of a plugin whose own test must find it, is planted in a copy of it, and the test that the mutant
names must fail. The unchanged plugins and tests run first and must pass.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("mutants.toml")
GLOBEX = "globex"
CORE = "core"
KEPT = ("id", "package", "class", "complaint", "why")
"""The fields of a mutant that the report contains."""

LIMIT = 600.0
"""The time limit for one run of a conformance test, in seconds."""

_COMMAND = "import sys; from trunkline.cli import main; sys.exit(main(sys.argv[1:]))"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (?:\S*::)?([^\s:]\S*)", re.MULTILINE)


class MutantError(Exception):
    """A mutant cannot be planted, or the run of its test has no result."""


class Result(NamedTuple):
    """The result of a run of the kit: the first test that failed, or `None`."""

    test: str | None
    seconds: float


def mutants() -> list[dict[str, Any]]:
    """Return the planted bugs."""
    found: list[dict[str, Any]] = tomllib.loads(TABLE.read_text("utf-8"))["mutant"]
    return found


def make_globex(folder: Path) -> None:
    """Create the package of a new provider with its own wire format, as an author would."""
    made = subprocess.run(
        [sys.executable, "-c", _COMMAND, "new-plugin", GLOBEX, "--folder", str(folder)],
        capture_output=True,
        text=True,
    )
    if made.returncode:
        raise MutantError(f"`trunkline new-plugin` failed:\n{made.stdout}{made.stderr}")


def copy_plugin(package: str, globex: Path, folder: Path, tests: str | None = None) -> tuple[Path, Path]:
    """Copy a package into `folder`. Return the copy and the test.

    The test is the plugin's conformance test. `tests` names another plugin whose test it is, or the file of the test
    that the mutant names.
    """
    if package == CORE:
        copy = folder / "trunkline"
        shutil.copytree(ROOT / CORE / "src" / "trunkline", copy, ignore=shutil.ignore_patterns("__pycache__"))
        return copy, ROOT / CORE / "tests" / str(tests)
    module = f"trunkline_{package.replace('-', '_')}"
    home = globex if package == GLOBEX else ROOT / "plugins" / package
    copy = folder / module
    shutil.copytree(home / "src" / module, copy, ignore=shutil.ignore_patterns("__pycache__"))
    if package != GLOBEX:
        tests = tests or package
        if tests.endswith(".py"):
            return copy, home / "tests" / tests
        return copy, ROOT / "plugins" / tests / "tests" / f"test_{tests.replace('-', '_')}_conformance.py"
    # The copy is not installed, so write the metadata that makes it a distribution.
    written = folder / f"{module}-0.1.0.dist-info"
    written.mkdir()
    (written / "METADATA").write_text(f"Metadata-Version: 2.1\nName: trunkline-{GLOBEX}\nVersion: 0.1.0\n", "utf-8")
    (written / "entry_points.txt").write_text(f"[trunkline.providers]\n{GLOBEX} = {module}:{GLOBEX}\n", "utf-8")
    return copy, home / "tests" / f"test_{GLOBEX}.py"


def plant(edits: Iterable[dict[str, str]], package: Path) -> None:
    """Make the edits. Raises `MutantError` if the old text of one is not exactly once in its file."""
    for edit in edits:
        path = package / edit["file"]
        text = path.read_text("utf-8")
        if (count := text.count(edit["old"])) != 1:
            raise MutantError(f"{edit['file']} contains the old text {count} times, not once: {edit['old'][:80]!r}")
        path.write_text(text.replace(edit["old"], edit["new"]), "utf-8")


def run_kit(test: Path, folder: Path, keyword: str) -> str | None:
    """Run a conformance test against the copy in `folder`; return the first test that failed."""
    paths = [str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    command = [sys.executable, "-m", "pytest", str(test), "-x", "-q", "-k", keyword, "--timeout=60", "--tb=line"]
    if test.is_relative_to(ROOT / "plugins"):
        command.append("--exhaustive")  # each plugin runs every test of the kit, as the plugin of a user does
    try:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return f"the run took more than {LIMIT:g} s"
    if done.returncode == 0:
        return None
    if found := _FAILED.search(done.stdout):
        return found[1]
    if "Timeout" in done.stdout + done.stderr:
        return "a test that took more than 60 s"
    output = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    raise MutantError(f"the run of {test.name} failed without a test (exit {done.returncode}):\n{output}")


def keywords(mutant: dict[str, Any]) -> tuple[str, ...]:
    """Return the expressions that select tests, in order: first those of the mutant's class or complaint, then all.

    If the mutant names the test that must fail, the expression is its name.
    """
    if "test" in mutant:
        return (mutant["test"],)
    if mutant.get("backend") == "trio":
        return ("trio and not fault", "trio")
    near = f"fault_{mutant['class']:02}_" if "class" in mutant else "not fault"
    first = (f"({near}) and not trio",) if mutant["edit"] else ()
    return (*first, "not asyncio and not trio", "asyncio")


def try_kit(mutant: dict[str, Any], globex: Path) -> Result:
    """Plant a bug in a copy of a plugin and run the kit against it."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        copy, test = copy_plugin(mutant["package"], globex, Path(name), mutant.get("tests"))
        plant(mutant["edit"], copy)
        failed: str | None = None
        for keyword in keywords(mutant):
            failed = failed or run_kit(test, Path(name), keyword)
    return Result(failed, time.monotonic() - begun)


def _unchanged(chosen: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mutants without a bug: one for each plugin, and one for each test that a mutant names."""
    found: dict[str, dict[str, Any]] = {}
    for mutant in chosen:
        if "test" in mutant:
            found[mutant["test"]] = {**mutant, "id": mutant["test"], "edit": []}
        else:
            package = mutant.get("tests", mutant["package"])
            found[package] = {"id": package, "package": package, "edit": []}
    return [found[name] for name in sorted(found)]


def run(chosen: list[dict[str, Any]], jobs: int, *, unchanged: bool = True) -> Iterator[dict[str, Any]]:
    """Run the kit against the chosen mutants, and yield each result. Raises `MutantError`."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name, ThreadPoolExecutor(jobs) as pool:
        globex = Path(name) / "trunkline-globex"
        make_globex(globex)
        plain = _unchanged(chosen) if unchanged else []
        sound = [mutant["id"] for mutant in plain]
        for package, result in zip(sound, pool.map(lambda mutant: try_kit(mutant, globex), plain), strict=True):
            print(f"{'unchanged ' + package:44} {result.test or 'passes'}  {result.seconds:.0f} s", flush=True)
            if result.test is not None:
                raise MutantError(f"{package} fails without a planted bug: {result.test}")
        results = pool.map(lambda mutant: try_kit(mutant, globex), chosen)
        for mutant, result in zip(chosen, results, strict=True):
            print(f"{mutant['id']:44} {result.test or 'SURVIVED'}  {result.seconds:.0f} s", flush=True)
            kept = {key: value for key, value in mutant.items() if key in KEPT}
            yield {**kept, "kit": "test" not in mutant, "test": result.test}


def main() -> None:
    """Run the chosen mutants. Exit with an error if a mutant survived."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ids", nargs="*", help="the mutants to run (default: all)")
    parser.add_argument("--report", type=Path, help="the JSON file to write the results to")
    parser.add_argument("--mutants-only", action="store_true", help="do not run the unchanged plugins first")
    parser.add_argument("--jobs", type=int, default=2, help="the number of mutants to run at a time")
    options = parser.parse_args()
    known = {mutant["id"]: mutant for mutant in mutants()}
    if unknown := set(options.ids) - known.keys():
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [known[name] for name in options.ids] if options.ids else list(known.values())
    try:
        results = list(run(chosen, options.jobs, unchanged=not options.mutants_only))
    except MutantError as error:
        sys.exit(str(error))
    if options.report is not None:
        options.report.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    survived = [result["id"] for result in results if result["test"] is None]
    print(f"{len(results) - len(survived)} of {len(results)} caught")
    if survived:
        sys.exit(f"survived: {', '.join(survived)}")


if __name__ == "__main__":
    main()
