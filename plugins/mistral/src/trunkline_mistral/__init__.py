"""Mistral: the Chat Completions dialect with Mistral's differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trunkline.authoring.provider import Operations, Provider, ServiceContext
from trunkline_openai.dialect import chat_completions

from trunkline_mistral.settings import PROFILE, MistralSettings

if TYPE_CHECKING:
    from trunkline_mistral.parse import MistralParser
    from trunkline_mistral.translate import MistralTranslator

__version__ = "0.1.0"

__all__ = ["MistralSettings", "__version__", "mistral"]


def _translator() -> type[MistralTranslator]:
    from trunkline_mistral.translate import MistralTranslator

    return MistralTranslator


def _parser() -> type[MistralParser]:
    from trunkline_mistral.parse import MistralParser

    return MistralParser


def _operations(context: ServiceContext[Any]) -> Operations:
    from trunkline_mistral.operations import OPERATIONS

    return OPERATIONS


mistral: Provider = chat_completions(
    name="mistral",
    settings=MistralSettings,
    profile=PROFILE,
    translator=_translator,
    parser=_parser,
    operations=_operations,
)
"""Mistral's API."""
