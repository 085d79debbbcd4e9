"""Texts and images as parts of Gemini's contents, for the operations other than chat. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.inputs import Input, parts_of
from trunkline.messages import Image

TASKS = {"document": "RETRIEVAL_DOCUMENT", "query": "RETRIEVAL_QUERY"}
"""The task types of embeddings, by `EmbedRequest.input_type`."""

MULTIMODAL = "gemini-embedding-2"
"""What the names of the models that embed images contain. Their documentation has no task types."""

NO_TASKS = "this model has no types of inputs; write the task before the text, as its documentation shows"


def content_parts(value: Input) -> list[dict[str, Any]]:
    """Return the parts of one input."""
    return [{"text": part} if isinstance(part, str) else image_part(part) for part in parts_of(value)]


def image_part(image: Image) -> dict[str, Any]:
    """Return the part of an image: its data, or the URL or file that Gemini reads itself."""
    if image.data is not None:
        return {"inlineData": {"mimeType": image.media_type or "image/png", "data": image.base64}}
    file: dict[str, Any] = {"fileUri": image.url or image.file_id}
    if image.media_type is not None:
        file["mimeType"] = image.media_type
    return {"fileData": file}
