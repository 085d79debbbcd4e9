"""What to do about errors of an Ollama server. Pure."""

from __future__ import annotations

from trunkline.authoring.advice import Advice, find_advice
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.urls import has_host
from trunkline.errors import AuthenticationError, ConnectionFailed, NotFound, RemoteError, TrunklineError

from trunkline_ollama.settings import OllamaSettings


def advice(context: ServiceContext[OllamaSettings], error: TrunklineError) -> Advice | None:
    """Return what to do about an error, or `None`.

    The keys of another server, such as a gateway in front of Ollama, do not come from ollama.com.
    """
    table = (*_TABLE, _KEY) if has_host(context.settings.api_url, "ollama.com") else _TABLE
    model = getattr(error, "model", None) or context.settings.default_model
    if model is not None:
        pull = (
            f"fetch it on the server with `ollama pull {model}`, or set default_model to one that `ollama list` shows"
        )
        table = (Advice(pull, problem="model", kind=NotFound, message="model"), *table)
    return find_advice(error, table)


_KEY = Advice("make a new key at https://ollama.com/settings/keys", problem="key", kind=AuthenticationError)
_TABLE = (
    Advice(
        "start the server with `ollama serve`, and check the host and the port in api_url (11434 is Ollama's)",
        problem="refused",
        kind=ConnectionFailed,
        message="connection refused",
    ),
    Advice(
        "set default_model to a smaller model, or a smaller num_ctx: the server lacks memory",
        problem="model",
        kind=RemoteError,
        message="more system memory|out of memory|requires more memory",
    ),
    Advice("set default_model to a model for chat", problem="model", message="does not support (chat|generate)"),
)
