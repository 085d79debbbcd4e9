"""A package that is not of the workspace, built and put beside it: what its author and its users would have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import attrs


@attrs.frozen
class BuiltPackage:
    """A package's folder, and where its wheel was unpacked. Nothing is downloaded."""

    folder: Path
    site: Path

    def run(self, *command: str) -> str:
        """Run a module of this Python in the package's folder, and give its output. A failure fails the test."""
        # The packages share what mypy finds in their dependencies.
        cache = self.site.parents[1] / "mypy"
        environ = {**os.environ, "PYTHONPATH": str(self.site), "RUFF_NO_CACHE": "true", "MYPY_CACHE_DIR": str(cache)}
        done = _python(command, self.folder, environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def check(self) -> None:
        """The author's own linter and type checker, with the settings of the package."""
        # A folder above may have a `.gitignore` that leaves everything out, as the folders of nox do.
        self.run("ruff", "check", "--no-respect-gitignore")
        self.run("ruff", "format", "--check", "--no-respect-gitignore")
        self.run("mypy")


def build(folder: Path, scratch: Path) -> BuiltPackage:
    """Build the wheel of the package in `folder` and unpack it; unpacked, a wheel of pure Python is installed."""
    done = _python(["hatchling", "build", "-t", "wheel", "-d", str(scratch / "dist")], folder, dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel] = scratch.glob("dist/*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(scratch / "site")
    return BuiltPackage(folder, scratch / "site")


def _python(arguments: Sequence[str], folder: Path, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
