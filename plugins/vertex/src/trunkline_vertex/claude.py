"""Claude on Vertex AI: the Messages API of `trunkline_anthropic`, with Vertex AI's URLs.

Source of the differences: anthropic 2.14, `lib/vertex/_client.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from trunkline.authoring.provider import Auth, Operations, ProviderParts, ServiceContext, Translation
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest
from trunkline_anthropic import AnthropicFacts, MessagesEndpoint, MessagesParts, facts_of, messages_parts
from trunkline_anthropic.errors import error_from_body
from trunkline_anthropic.operations import messages_operations
from trunkline_anthropic.parse import MessagesParser

from trunkline_vertex.errors import reader
from trunkline_vertex.settings import VertexSettings
from trunkline_vertex.urls import publisher_and_model, resource_name, resource_url

VERSION = "v1"
"""The version of the API in URLs, as anthropic 2.14 uses it."""


def claude_endpoint(settings: VertexSettings) -> MessagesEndpoint:
    """Return where the Messages API is for these settings."""

    def url(path: str, model: str, stream: bool) -> str:
        if path.endswith("/count_tokens"):
            resource, method = "publishers/anthropic/models/count-tokens", "rawPredict"
        else:
            resource, method = resource_name(model, "anthropic"), "streamRawPredict" if stream else "rawPredict"
        return resource_url(settings.root, VERSION, settings.parent, resource, method)

    def facts(model: str) -> AnthropicFacts:
        return facts_of(publisher_and_model(model)[1], settings.facts_for("messages"))

    return MessagesEndpoint(
        url=url,
        version=settings.anthropic_version,
        version_setting="anthropic_version",
        version_in="body",
        betas=settings.betas,
        model_in_body=False,
        facts=facts,
        # No source says that Vertex AI has this beta.
        drops_foreign_thinking=False,
        has_models=False,
    )


class VertexMessagesParser(MessagesParser):
    """The `ResponseParser` of Claude's models. Errors are Anthropic's or Google's."""

    read_error = staticmethod(reader(error_from_body))


def _operations(context: ServiceContext[VertexSettings]) -> Operations:
    operations = messages_operations(context, claude_endpoint)
    count = operations.count_tokens
    assert count is not None
    build = count.build

    def build_count(context: ServiceContext[VertexSettings], request: ChatRequest) -> WireRequest | Translation:
        # The body has the name of the model alone, since the URL names none.
        return build(context, attrs.evolve(request, model=publisher_and_model(request.model or "")[1]))

    return attrs.evolve(operations, count_tokens=attrs.evolve(count, build=build_count))


def claude_parts(auth: Callable[[ServiceContext[VertexSettings]], Auth]) -> ProviderParts[VertexSettings]:
    """Return the parts for Claude's models."""
    parts = MessagesParts(parser=VertexMessagesParser, operations=_operations)
    return messages_parts(endpoint=claude_endpoint, auth=auth, parts=parts)
