"""The settings of the provider `llamacpp`."""

from __future__ import annotations

import os
from typing import ClassVar

from trunkline.settings import Converted, Settings, path_setting, setting, settings


@settings
class LlamaCppSettings(Settings):
    """Settings for a GGUF model inside the process. None is required if the package trunkline-smollm2 is installed.

    A service has one model, so `default_model` is only a label; it defaults to `local`.
    """

    provider: ClassVar[str] = "llamacpp"
    display_name: ClassVar[str] = "llama.cpp"
    needs_model: ClassVar[bool] = False

    model_path: Converted[str | None, str | os.PathLike[str]] = path_setting(
        "Model File",
        "The GGUF file to load. The default is the small model in the package trunkline-smollm2, if it is installed "
        '(`pip install "trunkline-llamacpp[model]"`).',
        default=None,
        group="Model",
    )
    context_length: int = setting(
        "Context Length",
        "The maximum number of tokens of a conversation and its answer together. More tokens need more memory. The "
        "model's own maximum is never exceeded.",
        default=4096,
        minimum=256,
        group="Limits",
    )
    threads: int = setting(
        "Threads",
        "The number of threads that compute. Use more than one only if as many cores are free: the threads wait for "
        "each other by spinning, so on shared cores two are several times slower than one.",
        default=1,
        minimum=1,
        group="Model",
        advanced=True,
    )
    default_model: str | None = setting(
        "Default Model",
        "The model's name in requests and responses. It does not select a model.",
        default="local",
        group="Model",
    )
