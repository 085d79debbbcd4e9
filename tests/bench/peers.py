"""The other libraries of the benchmark, each in its own environment under `out/venvs`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

VENVS = Path(__file__).resolve().parent / "out" / "venvs"


@dataclass(frozen=True)
class Peer:
    """A library: the wire format to measure it with, and the packages to install."""

    wire: str
    requirements: tuple[str, ...]


PEERS = {
    "openai_sdk": Peer("chat", ("openai>=3",)),
    "litellm_sdk": Peer("chat", ("litellm",)),
    "any_llm_sdk": Peer("chat", ("any-llm-sdk[openai]",)),
    "pydantic_ai_sdk": Peer("chat", ("pydantic-ai-slim[openai]",)),
    "anthropic_sdk": Peer("anthropic", ("anthropic>=2",)),
    "boto3_sdk": Peer("bedrock", ("boto3",)),
    "aiobotocore_sdk": Peer("bedrock", ("aiobotocore",)),
}


def python(name: str) -> Path:
    """Return the Python of a peer's environment. Create the environment if it does not exist."""
    venv = VENVS / name
    found = venv / "bin" / "python"
    if not found.exists():
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(found), "-m", "pip", "install", "-q", *PEERS[name].requirements], check=True)
    return found
