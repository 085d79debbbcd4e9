"""Images by InvokeModel: Amazon Nova Canvas, Amazon Titan Image Generator and Stability AI's models. Pure.

Source: docs.aws.amazon.com, the inference parameters of each model. No recording confirms the bodies.
"""

from __future__ import annotations

import re
from typing import Any

from trunkline.authoring.json import as_list, as_string, decode_object, with_options
from trunkline.authoring.provider import Operation, ServiceContext, Translation
from trunkline.authoring.results import decode_data, image_data
from trunkline.authoring.warnings import Warnings
from trunkline.authoring.wire import WireResponse
from trunkline.errors import ContentFiltered, InvalidRequest, UnsupportedOperation
from trunkline.messages import Image
from trunkline.operations import ImageRequest, ImageResponse

from trunkline_bedrock.invoke import known_name, model_request
from trunkline_bedrock.settings import BedrockSettings

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def build_images(context: ServiceContext[BedrockSettings], request: ImageRequest) -> Translation:
    """Build the InvokeModel request, in the form of the model's family.

    Raises `UnsupportedOperation` for a model of another family.
    """
    warnings = Warnings()
    model = request.model or ""
    name = known_name(context.settings, model)
    if name.startswith(("amazon.nova-canvas", "amazon.titan-image")):
        body = _amazon(request, warnings)
    elif name.startswith("stability."):
        body = _stability(request, warnings)
    else:
        raise UnsupportedOperation(
            f"images on Bedrock are supported for Amazon Nova Canvas, Amazon Titan and Stability AI, not for {model!r}"
        )
    joined = ("imageGenerationConfig", "textToImageParams", "imageVariationParams", "inPaintingParams")
    body = with_options(body, request.provider_options, context.provider, joined=joined)
    wire_request = model_request(context.settings, model, "invoke", body)
    return Translation(wire_request=wire_request, warnings=warnings.all())


def _amazon(request: ImageRequest, warnings: Warnings) -> dict[str, Any]:
    warnings.unsupported(request, supported={"images", "mask", "count", "size", "quality", "seed"})
    images = [image_data(image, provider="Bedrock").base64 for image in request.images]
    if request.mask is not None:
        if len(images) > 1:
            raise InvalidRequest("a mask belongs to one image: send one in images")
        mask = image_data(request.mask, provider="Bedrock").base64
        params: dict[str, Any] = {"image": images[0], "maskImage": mask, "text": request.prompt}
        body: dict[str, Any] = {"taskType": "INPAINTING", "inPaintingParams": params}
    elif images:
        body = {"taskType": "IMAGE_VARIATION", "imageVariationParams": {"images": images, "text": request.prompt}}
    else:
        body = {"taskType": "TEXT_IMAGE", "textToImageParams": {"text": request.prompt}}
    config: dict[str, Any] = {}
    if request.count is not None:
        config["numberOfImages"] = request.count
    if request.size is not None:
        config["width"], config["height"] = _width_and_height(request.size)
    if request.quality is not None:
        config["quality"] = request.quality
    if request.seed is not None:
        config["seed"] = request.seed
    return {**body, "imageGenerationConfig": config} if config else body


def _width_and_height(size: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(size)
    if found is None:
        raise InvalidRequest(
            f"the size of an image on Bedrock is its width and height, such as 1024x1024, not {size!r}"
        )
    return int(found[1]), int(found[2])


def _stability(request: ImageRequest, warnings: Warnings) -> dict[str, Any]:
    warnings.unsupported(request, supported={"images", "count", "aspect_ratio", "format", "seed"})
    if request.count not in (None, 1):
        message = "Stability's models make one image for a request; make several calls for more"
        warnings.add("unsupported", "count", message, lossy=True)
    if len(request.images) > 1:
        raise InvalidRequest("Stability's models edit one image in a request")
    body: dict[str, Any] = {"prompt": request.prompt}
    if request.images:
        body |= {"mode": "image-to-image", "image": image_data(request.images[0], provider="Bedrock").base64}
    if request.aspect_ratio is not None:
        body["aspect_ratio"] = request.aspect_ratio
    if request.format is not None:
        body["output_format"] = request.format
    if request.seed is not None:
        body["seed"] = request.seed
    return body


def parse_images(context: ServiceContext[BedrockSettings], wire_response: WireResponse) -> ImageResponse:
    """Return the images. Raises `ContentFiltered` if the model refused to make any."""
    data = decode_object(wire_response.body, "the response", provider=context.provider)
    found = as_list(data.get("images"))
    # Nova has one `error`, and Stability a reason for each image, which is null for one that was made.
    reasons = [reason for reason in map(as_string, as_list(data.get("finish_reasons"))) if reason]
    problem = as_string(data.get("error")) or ", ".join(reasons)
    if problem and not found:
        raise ContentFiltered(f"the model made no image: {problem[:200]}", provider=context.provider)
    warnings = Warnings()
    if problem:
        warnings.add("other", "images", f"the model made fewer images: {problem[:200]}", lossy=True)
    return ImageResponse(
        images=tuple(Image(data=decode_data(item, "an image", provider=context.provider)) for item in found),
        warnings=warnings.all(),
        raw={name: value for name, value in data.items() if name != "images"},
    )


GENERATE_IMAGES = Operation(build=build_images, parse=parse_images)
"""Generating and editing images."""
