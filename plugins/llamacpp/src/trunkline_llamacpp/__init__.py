"""llama.cpp for Trunkline: a GGUF model inside the process.

The wire is the Chat Completions dialect, whose translation and parsing are `trunkline_openai`'s; only the transport is
of its own kind. The model is loaded by the first call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
from trunkline.authoring.auth import NoAuth
from trunkline.authoring.provider import ServiceContext
from trunkline.settings import Settings
from trunkline_openai.dialect import chat_completions
from trunkline_openai.profile import PROFILES

from trunkline_llamacpp.settings import LlamaCppSettings

if TYPE_CHECKING:
    from trunkline_llamacpp.transport import LlamaCppTransport

__all__ = ["LlamaCppSettings", "__version__", "llamacpp"]

__version__ = "0.1.0"


def _url(settings: Settings, path: str, model: str | None) -> str:
    # Never dialled: the transport looks at the path alone.
    return f"llamacpp://in-process/v1{path}"


def _transport(context: ServiceContext[LlamaCppSettings]) -> LlamaCppTransport:
    from trunkline_llamacpp.gguf import find_model
    from trunkline_llamacpp.runtime import Model
    from trunkline_llamacpp.transport import LlamaCppTransport

    settings = context.settings
    return LlamaCppTransport(
        Model(
            service=context.name,
            path=find_model(settings.model_path, service=context.name),
            context_length=settings.context_length,
            threads=settings.threads,
        )
    )


def _no_auth(context: ServiceContext[Any]) -> NoAuth:
    return NoAuth()


llamacpp = attrs.evolve(
    chat_completions(
        name="llamacpp", settings=LlamaCppSettings, profile=PROFILES["llama.cpp"], auth=_no_auth, url=_url
    ),
    transport=_transport,
)
"""The provider: a model that runs here, without a server and without a key."""
