"""Translate single parts into content blocks, and documents, which Cohere keeps apart from the messages."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import loads, with_options
from trunkline.authoring.warnings import Warnings
from trunkline.messages import Audio, Document, Image, Part, Text

_TEXT_TYPES = frozenset(
    {"application/json", "application/xml", "application/yaml", "application/x-yaml", "application/markdown"}
)


def content(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return a plain string if the blocks are a single text, else the blocks."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} and blocks[0]["type"] == "text":
        return str(blocks[0]["text"])
    return blocks


class Blocks:
    """Translates single parts for one request."""

    def __init__(self, *, provider: str, warnings: Warnings, takes_images: bool = True) -> None:
        self._provider = provider
        self._warnings = warnings
        self._takes_images = takes_images

    def text(self, part: Text) -> dict[str, Any]:
        """Return a text block."""
        if part.refusal:
            self._warnings.add(
                "changed", "refusal", "Cohere cannot mark refusals; the refusal was sent as plain text", lossy=False
            )
        block = {**part.provider_metadata.get(self._provider, {}), "type": "text", "text": part.text}
        return with_options(block, part.provider_options, self._provider)

    def image(self, part: Image) -> dict[str, Any] | None:
        """Return an image block, or add a warning and return `None`."""
        if not self._takes_images:
            self._refuse(part, "this model cannot read images; left out")
            return None
        if part.file_id is not None:
            self._refuse(part, "Cohere has no uploaded files; send the image's bytes or its URL")
            return None
        url = part.url
        if url is None:
            if part.media_type is None:
                message = "the media type is unknown and was sent as image/png; set media_type"
                self._warnings.add("changed", "image", message, lossy=False)
            url = f"data:{part.media_type or 'image/png'};base64,{part.base64}"
        image = {"url": url} if part.detail is None else {"url": url, "detail": part.detail}
        return with_options({"type": "image_url", "image_url": image}, part.provider_options, self._provider)

    def audio(self, part: Audio, *, by_model: bool) -> dict[str, Any] | None:
        """Return the audio's transcript as text, or `None` if it has none. Adds a warning in both cases.

        `by_model` says that the part is in an assistant message, whose transcript says the same.
        """
        if part.transcript:
            self._warnings.add(
                "emulated", "audio", "Cohere does not accept audio; the transcript was sent instead", lossy=not by_model
            )
            return {"type": "text", "text": part.transcript}
        self._refuse(part, "Cohere does not accept audio; set its transcript")
        return None

    def document(self, part: Document) -> dict[str, Any] | None:
        """Return a document as Cohere's `{"data": {…}}`, or add a warning and return `None` if it has no text.

        A JSON object is sent as it is, so that its fields can be cited. Any other text is sent in the field `text`,
        with the document's name in `title`. `provider_options` are merged in, for example an `id` for citations.
        """
        if part.data is None:
            advice = "set fetch_urls = true to fetch it, or send its text" if part.url else "send its text"
            self._refuse(part, f"Cohere accepts documents as text, not by URL or file id; {advice}")
            return None
        text = document_text(part)
        if text is None:
            self._refuse(part, f"Cohere accepts documents as text, not as {part.media_type or 'bytes'}; send its text")
            return None
        data: dict[str, Any] = {}
        if part.name is not None:
            data["title"] = part.name
        fields = _json_object(text) if "json" in (part.media_type or "") else None
        data |= fields if fields is not None else {"text": text}
        return with_options({"data": data}, part.provider_options, self._provider)

    def inline(self, part: Document) -> dict[str, Any] | None:
        """Return a document as a text block that begins with its name, for requests that cannot contain documents."""
        text = document_text(part) if part.data is not None else None
        if text is None:
            self.document(part)
            return None
        self._warnings.add(
            "emulated",
            "document",
            "Cohere does not accept documents with a response format; the document was sent as text",
            lossy=False,
        )
        return {"type": "text", "text": f"{part.name}\n\n{text}" if part.name else text}

    def refuse(self, part: Part, place: str) -> None:
        """Add a warning for a part that is not allowed in this place."""
        self._refuse(part, f"not allowed in {place} by Cohere; left out")

    def _refuse(self, part: Part, why: str) -> None:
        self._warnings.add("unsupported", type(part).__name__.lower(), why, lossy=True)


def document_text(part: Document) -> str | None:
    """Return the text of a document that has bytes, or `None` if it is not text."""
    data, media_type = part.data or b"", (part.media_type or "").partition(";")[0].strip().lower()
    if media_type.startswith("text/") or media_type in _TEXT_TYPES or media_type.endswith(("+json", "+xml")):
        return data.decode("utf-8", "replace")
    if media_type or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value else None
