"""Facts about the item types of the Responses API other than messages, function calls and reasoning. Pure.

Source: the types of the openai SDK 3.54 (`types/responses/response_output_item.py`, `response_input_item_param.py`),
read in November 2026.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

from trunkline.authoring.json import JSONObject, as_object, as_string
from trunkline.errors import InvalidRequest
from trunkline.messages import Image

IMAGE = "image_generation_call"

CALLS = ("function_call", "custom_tool_call")
"""The calls of functions and custom tools, which become tool calls."""

OUTPUT_ONLY = frozenset({"created_by"})
"""Fields of output items that are not in the schema of input items (`_output_item_to_input_item` in openai-agents
0.24)."""

# The provider runs each tool whose calls have no `call_id`: web and file search, code interpreter, images, MCP calls.
_HOSTED_ENVIRONMENTS = ("container_reference", "container_auto")

_IMAGE_TYPES = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "svg": "image/svg+xml",
}
# The first base64 characters of each image format, for servers that do not name the format.
_IMAGE_STARTS = {"iVBORw": "image/png", "/9j/": "image/jpeg", "UklGR": "image/webp", "R0lGOD": "image/gif"}


def awaited_id(kind: str, data: JSONObject) -> str | None:
    """The id that the application's answer to an item must contain, or `None` if the provider handles the item.

    The application answers shell, patch, computer and client tool search calls with an item whose type ends in
    `_call_output` or `_output`, and approval requests with an `mcp_approval_response`.
    """
    if kind == "mcp_approval_request":
        return as_string(data.get("id"))
    if not kind.endswith("_call"):
        return None
    if data.get("execution") == "server" or as_object(data.get("environment")).get("type") in _HOSTED_ENVIRONMENTS:
        return None
    return as_string(data.get("call_id")) or (as_string(data.get("id")) if kind == "local_shell_call" else None)


def answered_id(kind: str, data: JSONObject) -> str | None:
    """The id of the item that this item answers, if any."""
    if kind.endswith("_output"):
        return as_string(data.get("call_id")) or as_string(data.get("id"))
    return as_string(data.get("approval_request_id"))


def generated_image(data: dict[str, Any], provider: str) -> Image | None:
    """The image of an `image_generation_call`, or `None` if the image is missing or cannot be read.

    The image's `provider_metadata` contains the other fields of the item, so that `image_item` can restore the item.
    """
    result = data.get("result")
    if not isinstance(result, str) or not result:
        return None
    metadata = {provider: {name: value for name, value in data.items() if name != "result" and value is not None}}
    if result.startswith(("http://", "https://", "data:")):
        try:
            return Image(url=result, provider_metadata=metadata)
        except (InvalidRequest, ValueError):
            return None
    try:
        image = b64decode(result, validate=True)
    except (binascii.Error, ValueError):
        return None
    named = _IMAGE_TYPES.get(as_string(data.get("output_format")) or "")
    found = next((media for start, media in _IMAGE_STARTS.items() if result.startswith(start)), None)
    return Image(data=image, media_type=found or named, provider_metadata=metadata)


def image_item(image: Image, metadata: JSONObject) -> dict[str, Any] | None:
    """The `image_generation_call` that an image comes from, or `None` for any other image."""
    if metadata.get("type") != IMAGE:
        return None
    result = image.url if image.url is not None else image.base64
    return {name: value for name, value in metadata.items() if name not in OUTPUT_ONLY} | {"result": result}


def input_item(data: JSONObject) -> JSONObject:
    """Return the item without fields that the API does not accept in the input."""
    output = data.get("output")
    if data.get("type") == "shell_call_output" and isinstance(output, list):
        chunks = [_without_output_fields(chunk) if isinstance(chunk, dict) else chunk for chunk in output]
        data = {**data, "output": chunks}
    return _without_output_fields(data)


def _without_output_fields(data: JSONObject) -> JSONObject:
    if OUTPUT_ONLY.isdisjoint(data):
        return data
    return {name: value for name, value in data.items() if name not in OUTPUT_ONLY}
