"""Listing models and counting tokens: pure pairs of functions that build a request and parse its response."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_count, as_objects, as_string, decode_object
from trunkline.authoring.model_facts import capabilities_from
from trunkline.authoring.provider import Operation, Operations, ServiceContext, Translation
from trunkline.authoring.urls import query_string
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import ProtocolViolation
from trunkline.request import ChatRequest
from trunkline.response import Capability, ModelInfo

from trunkline_bedrock.batches import BATCHES
from trunkline_bedrock.embeddings import EMBED
from trunkline_bedrock.endpoints import control_base
from trunkline_bedrock.images import GENERATE_IMAGES
from trunkline_bedrock.invoke import model_request
from trunkline_bedrock.model_facts import facts_of
from trunkline_bedrock.rerank import RERANK
from trunkline_bedrock.routing import openai_address
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.translate import converse_body

_PROFILES = "profiles"
"""The cursor of the first page of inference profiles, which follow the foundation models."""

_COUNTED = ("messages", "system", "toolConfig", "additionalModelRequestFields")


def build_models(context: ServiceContext[BedrockSettings], cursor: str | None) -> WireRequest:
    """Build the request for the foundation models, which are one page, or for a page of inference profiles.

    If the settings name an API of OpenAI's or Anthropic's, or `bedrock-mantle`, it lists the models there.
    Raises `UnsupportedOperation` as `control_base` does.
    """
    settings = context.settings
    if settings.only_mantle or settings.api not in ("auto", "converse"):
        url = openai_address(settings, "/models", None)
        return WireRequest(method="GET", url=url, headers={"accept": "application/json"})
    base = control_base(settings)
    path = "/foundation-models"
    if cursor is not None:
        query = {"maxResults": "1000"}
        if cursor.partition(":")[2]:
            query["nextToken"] = cursor.partition(":")[2]
        path = f"/inference-profiles?{query_string(query)}"
    return WireRequest(method="GET", url=base + path, headers={"accept": "application/json"})


def parse_models(
    context: ServiceContext[BedrockSettings], wire_response: WireResponse
) -> tuple[tuple[ModelInfo, ...], str | None]:
    """Return the models of a page and the cursor of the next page."""
    data = decode_object(wire_response.body, "the list of models", provider=context.provider)
    if isinstance(data.get("data"), list):
        models = as_objects(data["data"])
        infos = (ModelInfo(id=item["id"], raw=item) for item in models if isinstance(item.get("id"), str))
        return tuple(infos), None
    if isinstance(data.get("modelSummaries"), list):
        return _infos(data["modelSummaries"], "modelId", "modelName"), _PROFILES
    profiles = data.get("inferenceProfileSummaries")
    if not isinstance(profiles, list):
        raise ProtocolViolation("the response has no list of models", provider=context.provider)
    token = as_string(data.get("nextToken"))
    cursor = f"{_PROFILES}:{token}" if token and profiles else None
    return _infos(profiles, "inferenceProfileId", "inferenceProfileName"), cursor


_INPUTS: dict[str, Capability] = {"IMAGE": "vision", "SPEECH": "audio", "AUDIO": "audio"}
_OUTPUTS: dict[str, Capability] = {"TEXT": "chat", "EMBEDDING": "embeddings"}


def _infos(items: list[Any], key: str, name: str) -> tuple[ModelInfo, ...]:
    # The control plane reports modalities, but neither the context window nor the output limit.
    return tuple(
        ModelInfo(
            id=item[key],
            name=as_string(item.get(name)),
            capabilities=capabilities_from(item.get("inputModalities"), _INPUTS)
            | capabilities_from(item.get("outputModalities"), _OUTPUTS),
            raw=item,
        )
        for item in as_objects(items)
        if isinstance(item.get(key), str)
    )


def build_count(context: ServiceContext[BedrockSettings], request: ChatRequest) -> Translation:
    """Build the request that counts the tokens of `request`."""
    warnings = Warnings()
    facts = facts_of(request.model or "", context.settings.model_facts)
    body = converse_body(request, facts, warnings, provider=context.provider)
    counted = {"input": {"converse": {key: body[key] for key in _COUNTED if key in body}}}
    return Translation(
        wire_request=model_request(context.settings, request.model or "", "count-tokens", counted),
        warnings=warnings.all(),
    )


def parse_count(context: ServiceContext[BedrockSettings], wire_response: WireResponse) -> int:
    """Return the number of tokens. Raises `ProtocolViolation` if the response has none."""
    data = decode_object(wire_response.body, "the count of tokens", provider=context.provider)
    count = as_count(data.get("inputTokens"))
    if count is None:
        raise ProtocolViolation("the count of tokens has no inputTokens", provider=context.provider)
    return count


SHARED = Operations(
    list_models=Operation(build=build_models, parse=parse_models),
    embed=EMBED,
    rerank=RERANK,
    generate_images=GENERATE_IMAGES,
    batches=BATCHES,
)
"""What Bedrock offers besides chat, whatever the API for chat is."""

CONVERSE = Operations(count_tokens=Operation(build=build_count, parse=parse_count))
"""What Bedrock offers besides chat for models that are called with Converse."""
