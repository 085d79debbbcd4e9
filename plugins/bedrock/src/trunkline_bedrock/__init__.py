"""AWS Bedrock: Converse and ConverseStream."""

from __future__ import annotations

from trunkline.authoring.provider import ProviderParts, lazy_provider
from trunkline.messages import Audio, Document, Image

from trunkline_bedrock.settings import BedrockSettings

__version__ = "0.1.0"

__all__ = ["BedrockSettings", "__version__", "bedrock"]


def _load() -> ProviderParts[BedrockSettings]:
    from trunkline_bedrock.advice import advice
    from trunkline_bedrock.auth import aws_auth
    from trunkline_bedrock.endpoints import signing_scope
    from trunkline_bedrock.operations import OPERATIONS
    from trunkline_bedrock.parse import ConverseParser
    from trunkline_bedrock.translate import ConverseTranslator

    return ProviderParts(
        auth=lambda context: aws_auth(context, signing_scope),
        translator=ConverseTranslator,
        response_parser=ConverseParser,
        operations=lambda context: OPERATIONS,
        advice=advice,
    )


bedrock = lazy_provider(name="bedrock", settings=BedrockSettings, load=_load, bytes_only_media=(Image, Document, Audio))
"""AWS Bedrock, with all of AWS's ways to authenticate."""
