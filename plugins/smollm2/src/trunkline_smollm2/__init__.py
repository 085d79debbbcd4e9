"""The file of a small language model, SmolLM2-135M-Instruct. `trunkline-llamacpp` finds it in this package."""

__all__ = ["__version__"]

__version__ = "0.1.0"
