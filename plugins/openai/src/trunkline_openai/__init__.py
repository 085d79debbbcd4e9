"""OpenAI, and the servers that speak its Chat Completions dialect."""

from __future__ import annotations

import attrs
from trunkline.authoring.provider import Operations, Provider, ResponseParser, ServiceContext, Translator

from trunkline_openai.dialect import bearer_auth, chat_completions, log_notes, profile_for
from trunkline_openai.from_openai import messages_from
from trunkline_openai.profile import PROFILES, Profile
from trunkline_openai.settings import OpenAICompatibleSettings, OpenAISettings

__version__ = "0.1.0"

__all__ = [
    "OpenAICompatibleSettings",
    "OpenAISettings",
    "Profile",
    "__version__",
    "bearer_auth",
    "chat_completions",
    "messages_from",
    "openai",
    "openai_compatible",
]

_chat = chat_completions(name="openai", settings=OpenAISettings, profile=PROFILES["openai"])


def _translator(context: ServiceContext[OpenAISettings]) -> Translator:
    if context.settings.api == "chat":
        return _chat.translator(context)
    from trunkline_openai.responses_translate import ResponsesTranslator

    log_notes(context)
    return ResponsesTranslator(context)


def _response_parser(context: ServiceContext[OpenAISettings]) -> ResponseParser:
    if context.settings.api == "chat":
        return _chat.response_parser(context)
    from trunkline_openai.responses_parse import ResponsesParser

    return ResponsesParser(context)


def _operations(context: ServiceContext[OpenAISettings]) -> Operations:
    operations = _chat.operations_for(context)
    if context.settings.api == "chat":
        return operations
    from trunkline_openai.responses_operations import count_tokens

    return attrs.evolve(operations, count_tokens=count_tokens)


openai = attrs.evolve(_chat, translator=_translator, response_parser=_response_parser, operations=_operations)
"""OpenAI's own API: Chat Completions, or Responses with the setting `api`."""

openai_compatible: Provider = chat_completions(
    name="openai-compatible", settings=OpenAICompatibleSettings, profile=profile_for
)
"""Any server that speaks the Chat Completions dialect; its quirks are in the setting `profile`."""
