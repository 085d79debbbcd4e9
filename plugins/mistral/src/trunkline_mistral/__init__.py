"""Mistral for Trunkline: Chat Completions with Mistral's extensions and restrictions."""

from __future__ import annotations

from trunkline.authoring.provider import Provider
from trunkline_openai import ChatParts, chat_completions

from trunkline_mistral.settings import PROFILE, MistralSettings

__version__ = "0.1.0"

__all__ = ["MistralSettings", "__version__", "mistral"]


def _load() -> ChatParts:
    from trunkline_mistral.advice import advice
    from trunkline_mistral.operations import OPERATIONS
    from trunkline_mistral.parse import MistralParser
    from trunkline_mistral.rate_limits import RATE_LIMITS
    from trunkline_mistral.translate import MistralTranslator

    return ChatParts(
        translator=MistralTranslator,
        parser=MistralParser,
        operations=lambda context: OPERATIONS,
        advice=advice,
        rate_limits=RATE_LIMITS,
    )


mistral: Provider = chat_completions(name="mistral", settings=MistralSettings, profile=PROFILE, load=_load)
"""The provider `mistral`: chat, embeddings and the list of models."""
