"""AWS Bedrock: Converse and ConverseStream."""

from __future__ import annotations

from trunkline.authoring.provider import Auth, Operations, Provider, ResponseParser, ServiceContext, Translator
from trunkline.messages import Audio, Document, Image

from trunkline_bedrock.settings import BedrockSettings

__version__ = "0.1.0"

__all__ = ["BedrockSettings", "__version__", "bedrock"]


def _auth(context: ServiceContext[BedrockSettings]) -> Auth:
    from trunkline_bedrock.auth import bedrock_auth

    return bedrock_auth(context)


def _translator(context: ServiceContext[BedrockSettings]) -> Translator:
    from trunkline_bedrock.translate import ConverseTranslator, log_notes

    log_notes(context)
    return ConverseTranslator(context)


def _response_parser(context: ServiceContext[BedrockSettings]) -> ResponseParser:
    from trunkline_bedrock.parse import ConverseParser

    return ConverseParser(context)


def _operations(context: ServiceContext[BedrockSettings]) -> Operations:
    from trunkline_bedrock.operations import OPERATIONS

    return OPERATIONS


bedrock = Provider(
    name="bedrock",
    settings=BedrockSettings,
    auth=_auth,
    translator=_translator,
    response_parser=_response_parser,
    operations=_operations,
    bytes_only_media=(Image, Document, Audio),
)
"""AWS Bedrock, with every way that AWS has to authenticate."""
