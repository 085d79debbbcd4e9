"""Requests of InvokeModel, whose bodies each family of models defines itself. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import encode_request
from trunkline.authoring.wire import WireRequest
from trunkline.messages import Image

from trunkline_bedrock.endpoints import runtime_base
from trunkline_bedrock.model_facts import plain_name
from trunkline_bedrock.settings import BedrockSettings
from trunkline_bedrock.translate import request_headers
from trunkline_bedrock.urls import model_url


def model_request(settings: BedrockSettings, model: str, operation: str, body: dict[str, Any]) -> WireRequest:
    """Return the request for an operation on a model, such as `invoke`."""
    url = model_url(runtime_base(settings), model, operation)
    return WireRequest(url=url, headers=request_headers(), body=encode_request(body))


def known_name(settings: BedrockSettings, model: str) -> str:
    """Return the id of the foundation model that a model is, without the region of an inference profile.

    The `base_model` of the setting `model_facts` names it for a profile or an endpoint of one's own.
    """
    return plain_name(model, settings.model_facts)


def image_format(image: Image) -> str:
    """Return Bedrock's name of an image's format."""
    kind = (image.media_type or "image/png").partition(";")[0].strip().lower().removeprefix("image/")
    return "jpeg" if kind == "jpg" else kind
