"""llama.cpp for Trunkline: a GGUF model inside the process.

llama.cpp speaks the Chat Completions API, so `trunkline_openai` translates requests and parses responses. Only the
transport is different. The first call loads the model.
"""

from __future__ import annotations

import attrs
from trunkline.authoring.provider import ServiceContext, Transport
from trunkline.settings import Settings
from trunkline_openai import ChatParts, chat_completions
from trunkline_openai.profile import PROFILES

from trunkline_llamacpp.settings import LlamaCppSettings

__all__ = ["LlamaCppSettings", "__version__", "llamacpp"]

__version__ = "0.1.0"


def _url(settings: Settings, path: str, model: str | None) -> str:
    # Nothing connects to this URL. The transport only reads its path.
    return f"llamacpp://in-process/v1{path}"


def _transport(context: ServiceContext[LlamaCppSettings]) -> Transport:
    from trunkline_llamacpp.model_file import find_model
    from trunkline_llamacpp.runtime import Model
    from trunkline_llamacpp.transport import LlamaCppTransport, LoadedModels

    def make() -> LoadedModels:
        settings = context.settings
        model = Model(
            service=context.name,
            path=find_model(settings.model_path, service=context.name),
            context_length=settings.context_length,
            threads=settings.threads,
        )
        return LoadedModels(model)

    return LlamaCppTransport(context.keep(LoadedModels, make))


llamacpp = chat_completions(
    name="llamacpp",
    settings=LlamaCppSettings,
    profile=attrs.evolve(PROFILES["llama.cpp"], operations=()),  # the transport has chat and embeddings only
    url=_url,
    load=lambda: ChatParts(transport=_transport),
)
"""A model in this process, without a server and without a key."""
