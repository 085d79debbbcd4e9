"""OpenAI's models on Vertex AI: the Responses API of `trunkline_openai`, with Vertex AI's URLs.

Source of the URL: openai 3.57, `providers/vertex.py`, except for the hosts of the multi-regions `us` and `eu`, which
are those of Google's and Anthropic's libraries here. No recording and no documentation confirms what the API accepts.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
from trunkline.authoring.model_facts import FactOverrides
from trunkline.authoring.provider import Auth, ProviderParts, ServiceContext, Translation
from trunkline.request import ChatRequest
from trunkline_openai.errors import error_from_body
from trunkline_openai.profile import PROFILES
from trunkline_openai.responses_parse import ResponsesParser
from trunkline_openai.responses_translate import ResponsesTranslator

from trunkline_vertex.errors import reader
from trunkline_vertex.settings import VertexSettings
from trunkline_vertex.urls import publisher_and_model, resource_url

_OPENAI = PROFILES["openai"]

PROFILE = attrs.evolve(
    _OPENAI,
    name="vertex",
    user_id_field=None,
    responses=_OPENAI.responses - {"background", "count_tokens", "stream_options"},
    obfuscation=False,
)
"""What is accepted: what OpenAI's own API accepts, without a user's id, what needs further endpoints, and padding."""


def responses_url(settings: VertexSettings, path: str, model: str | None) -> str:
    """Return the URL of an endpoint of the Responses API."""
    return resource_url(settings.root, "v1", settings.parent, f"publishers/openai/v1{path}")


class VertexResponsesTranslator(ResponsesTranslator):
    """Translates requests for OpenAI's models. The body has the name of the model without its publisher."""

    @property
    def _configured_facts(self) -> FactOverrides:
        settings = self.context.settings
        assert isinstance(settings, VertexSettings)
        return settings.facts_for("responses")

    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        """The request to send. Raises `InvalidRequest` for a request that can never be sent."""
        name = publisher_and_model(request.model or "")[1]
        return super().translate(attrs.evolve(request, model=name), stream=stream)


class VertexResponsesParser(ResponsesParser):
    """The `ResponseParser` of OpenAI's models. Errors are OpenAI's or Google's."""

    read_error = staticmethod(reader(error_from_body))


def responses_parts(auth: Callable[[ServiceContext[VertexSettings]], Auth]) -> ProviderParts[VertexSettings]:
    """Return the parts for OpenAI's models."""
    return ProviderParts(
        auth=auth,
        translator=lambda context: VertexResponsesTranslator(context, profile=PROFILE, url=responses_url),
        response_parser=VertexResponsesParser,
    )
