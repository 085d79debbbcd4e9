"""AWS Bedrock: Converse, and OpenAI's and Anthropic's APIs. The Claude Platform on AWS: the Messages API."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
from trunkline.authoring.advice import Advice
from trunkline.authoring.provider import Auth, Operations, Provider, ProviderParts, ServiceContext
from trunkline.authoring.wire_formats import provider_with_formats
from trunkline.errors import TrunklineError
from trunkline.messages import Audio, Document, Image
from trunkline_anthropic import MessagesParts, messages_api

from trunkline_bedrock.anthropic_aws_settings import AnthropicAWSSettings, anthropic_aws_endpoint
from trunkline_bedrock.settings import BedrockSettings

__version__ = "0.1.0"

__all__ = ["AnthropicAWSSettings", "BedrockSettings", "__version__", "anthropic_aws", "bedrock"]


def _auth(context: ServiceContext[BedrockSettings]) -> Auth:
    from trunkline_bedrock.auth import aws_auth
    from trunkline_bedrock.endpoints import signing_scope

    return aws_auth(context, lambda url: signing_scope(context.settings, url))


def _format_of(context: ServiceContext[BedrockSettings], model: str) -> str:
    from trunkline_bedrock.routing import api_for

    return api_for(context.settings, model)


def _load() -> Mapping[str, ProviderParts[BedrockSettings]]:
    from trunkline_bedrock.openai_wire import chat_parts, claude_parts, responses_parts
    from trunkline_bedrock.operations import CONVERSE
    from trunkline_bedrock.parse import ConverseParser
    from trunkline_bedrock.translate import ConverseTranslator

    converse = ProviderParts(
        auth=_auth,
        translator=ConverseTranslator,
        response_parser=ConverseParser,
        operations=lambda context: CONVERSE,
    )
    return {
        "converse": converse,
        "chat": chat_parts(_auth),
        "responses": responses_parts(_auth),
        "messages": claude_parts(_auth),
    }


def _shared_operations(context: ServiceContext[BedrockSettings]) -> Operations:
    from trunkline_bedrock.operations import SHARED

    return SHARED


def _advice(context: ServiceContext[BedrockSettings], error: TrunklineError) -> Advice | None:
    from trunkline_bedrock.advice import advice

    return advice(context, error)


_provider = provider_with_formats(
    name="bedrock",
    settings=BedrockSettings,
    auth=_auth,
    format_of=_format_of,
    load=_load,
    shared_operations=_shared_operations,
    advice=_advice,
    bytes_only_media=(Image, Document, Audio),
)


def _operations(context: ServiceContext[BedrockSettings]) -> Operations:
    operations = _provider.operations(context)
    # Bedrock counts tokens for Converse and Messages only.
    uncounted = context.settings.api in ("chat", "responses")
    return attrs.evolve(operations, count_tokens=None) if uncounted else operations


bedrock: Provider = attrs.evolve(_provider, operations=_operations)
"""AWS Bedrock, with all of AWS's ways to authenticate."""


def _anthropic_aws_auth(context: ServiceContext[AnthropicAWSSettings]) -> Auth:
    from trunkline_bedrock.auth import aws_auth
    from trunkline_bedrock.claude_platform import signing_scope

    return aws_auth(context, signing_scope)


def _load_anthropic_aws() -> MessagesParts:
    from trunkline_bedrock.claude_platform import AnthropicAWSParser, advice

    return MessagesParts(parser=AnthropicAWSParser, advice=advice)


anthropic_aws: Provider = messages_api(
    name="anthropic-aws",
    settings=AnthropicAWSSettings,
    endpoint=anthropic_aws_endpoint,
    auth=_anthropic_aws_auth,
    load=_load_anthropic_aws,
)
"""The Claude Platform on AWS, with an API key of a workspace or any of AWS's ways to authenticate."""
