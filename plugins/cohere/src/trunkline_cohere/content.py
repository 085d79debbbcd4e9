"""The blocks of a message's content: text, pictures, and documents, which this wire keeps beside the messages."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import ProviderOptions, loads
from trunkline.authoring.warnings import Warnings
from trunkline.messages import Audio, Document, Image, Opaque, Part, Text

JSON = dict[str, Any]

_TEXT_TYPES = frozenset(
    {"application/json", "application/xml", "application/yaml", "application/x-yaml", "application/markdown"}
)


def with_options(value: JSON, options: ProviderOptions, provider: str) -> JSON:
    """A value of the wire, with what `provider_options` add to it."""
    extra = options.get(provider)
    return {**value, **extra} if extra else value


def content(blocks: list[JSON]) -> str | list[JSON]:
    """A plain string where that says it all."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} and blocks[0]["type"] == "text":
        return str(blocks[0]["text"])
    return blocks


def without_empty_texts(blocks: list[JSON]) -> list[JSON]:
    """The blocks but for texts with nothing in them, which say nothing and are refused in places."""
    return [block for block in blocks if block != {"type": "text", "text": ""}]


class Blocks:
    """Translates single parts for one request."""

    def __init__(self, *, provider: str, warnings: Warnings) -> None:
        self._provider = provider
        self._warnings = warnings
        self.lost_opaque = 0

    def text(self, part: Text) -> JSON:
        """A text."""
        if part.refusal:
            self._warnings.add("changed", "refusal", "Cohere has no word for refusals; one was sent as plain text")
        return with_options({"type": "text", "text": part.text}, part.provider_options, self._provider)

    def opaque(self, part: Opaque) -> JSON | None:
        """A block of this provider's own as it came; `None` for one of another's, which is counted."""
        if part.provider == self._provider:
            return dict(part.data)
        self.lost_opaque += 1
        return None

    def image(self, part: Image) -> JSON | None:
        """A picture, or `None`, with a warning."""
        if part.file_id is not None:
            self._refuse(part, "Cohere has no files; send the image's bytes or its URL")
            return None
        url = part.url
        if url is None:
            if part.media_type is None:
                told = "its media type is unknown and was sent as image/png; set media_type"
                self._warnings.add("changed", "image", told)
            url = f"data:{part.media_type or 'image/png'};base64,{part.base64}"
        image = {"url": url} if part.detail is None else {"url": url, "detail": part.detail}
        return with_options({"type": "image_url", "image_url": image}, part.provider_options, self._provider)

    def audio(self, part: Audio) -> JSON | None:
        """The words of a sound, with a warning; `None`, with a warning, where they are not known."""
        if part.transcript:
            self._warnings.add("emulated", "audio", "Cohere takes no sound; its transcript was sent in its place")
            return {"type": "text", "text": part.transcript}
        self._refuse(part, "Cohere takes no sound; send a transcript")
        return None

    def document(self, part: Document) -> JSON | None:
        """A document as Cohere's `{"data": {…}}`, or `None`, with a warning, for one that has no text.

        A JSON object is the data as it is, so that its fields can be cited; any other text stands in the field `text`,
        below its name in `title`. `provider_options` add to it, an `id` for the citations say.
        """
        if part.data is None:
            told = "fetch_urls = true lets it be fetched, else send its text" if part.url else "send its text"
            self._refuse(part, f"Cohere takes documents as text, not by URL or file id; {told}")
            return None
        text = document_text(part)
        if text is None:
            self._refuse(part, f"Cohere takes documents as text, not as {part.media_type or 'bytes'}; send its text")
            return None
        data: JSON = {}
        if part.name is not None:
            data["title"] = part.name
        fields = _json_object(text) if "json" in (part.media_type or "") else None
        data |= fields if fields is not None else {"text": text}
        return with_options({"data": data}, part.provider_options, self._provider)

    def inline(self, part: Document) -> JSON | None:
        """A document as a text, after its name; for where the wire takes none."""
        text = document_text(part) if part.data is not None else None
        if text is None:
            self.document(part)
            return None
        self._warnings.add(
            "emulated", "document", "Cohere takes no documents beside a response format; one was sent as a text"
        )
        return {"type": "text", "text": f"{part.name}\n\n{text}" if part.name else text}

    def refuse(self, part: Part, place: str) -> None:
        """Warn of a part that cannot stand where it stands."""
        self._refuse(part, f"Cohere takes none in {place}; it was not sent")

    def _refuse(self, part: Part, why: str) -> None:
        self._warnings.add("unsupported", type(part).__name__.lower(), why)


def document_text(part: Document) -> str | None:
    """The text of a document with bytes, or `None` where it is of another kind."""
    data, media_type = part.data or b"", (part.media_type or "").partition(";")[0].strip().lower()
    if media_type.startswith("text/") or media_type in _TEXT_TYPES or media_type.endswith(("+json", "+xml")):
        return data.decode("utf-8", "replace")
    if media_type or b"\0" in data:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _json_object(text: str) -> JSON | None:
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value else None
