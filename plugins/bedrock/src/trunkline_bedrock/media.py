"""Images, documents, audio and video as content blocks. Pure."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

from trunkline.authoring.warnings import Warnings
from trunkline.messages import Audio, Document, Image

from trunkline_bedrock.model_facts import BedrockFacts

_IMAGES = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "text/x-markdown": "md",
}
_AUDIO = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/ogg": "ogg",
    "audio/opus": "opus",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/aac": "aac",
    "audio/x-aac": "x-aac",
    "audio/mp4": "mp4",
    "audio/m4a": "m4a",
    "audio/x-m4a": "m4a",
    "audio/webm": "webm",
    "audio/x-matroska": "mka",
    "audio/pcm": "pcm",
}
_VIDEO = {
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/mpeg": "mpeg",
    "video/x-ms-wmv": "wmv",
    "video/3gpp": "three_gp",
}
_SUFFIXES = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "htm": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "ogg": "audio/ogg",
    "flac": "audio/flac",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "mkv": "video/x-matroska",
    "webm": "video/webm",
}
_TYPES: tuple[tuple[type, str, dict[str, str], str], ...] = (
    (Image, "image", _IMAGES, "image/png"),
    (Document, "document", _DOCUMENTS, "application/pdf"),
    (Audio, "audio", _AUDIO, "audio/mpeg"),
)

_UNNAMED = "document"
_NAME_LIMIT = 200


class Media:
    """Translates the media of one request. Document names are made valid and unique within it, as Bedrock requires."""

    def __init__(self, warnings: Warnings, facts: BedrockFacts) -> None:
        self._warnings = warnings
        self._facts = facts
        self._names: set[str] = set()

    def block(self, part: Image | Document | Audio) -> dict[str, Any] | None:
        """Return the block, or `None`, with a warning, for media that Bedrock does not accept."""
        kind, formats, fallback = next(
            (kind, formats, fallback) for cls, kind, formats, fallback in _TYPES if isinstance(part, cls)
        )
        media_type = (part.media_type or _by_suffix(part) or "").partition(";")[0].strip().lower()
        if isinstance(part, Document) and media_type.startswith("video/"):
            kind, formats = "video", _VIDEO
        if kind not in self._facts.media:
            self._left_out(kind, "this model cannot read it")
            return None
        source = self._source(part, kind)
        if source is None:
            return None
        if not media_type:
            media_type = fallback
            self._warnings.add(
                "changed", kind, f"its media type is not set; sent as {fallback}; set media_type", lossy=False
            )
        form = formats.get(media_type)
        if form is None and isinstance(part, Document) and media_type.startswith("text/"):
            form = "txt"
        if form is None:
            self._left_out(kind, f"Bedrock accepts {', '.join(formats)}, not {media_type}")
            return None
        if isinstance(part, Image) and part.detail is not None:
            self._warnings.add(
                "unsupported", "image detail", "not supported by Converse; ignored", lossy=part.detail != "auto"
            )
        inner: dict[str, Any] = {"format": form, "source": source}
        if kind == "document":
            assert isinstance(part, Document)
            inner = {"name": self._name(part.name, form), **inner}
        return {kind: inner}

    def _source(self, part: Image | Document | Audio, kind: str) -> dict[str, Any] | None:
        if part.data is not None:
            if part.data:
                return {"bytes": b64encode(part.data).decode()}
            self._left_out(kind, "it is empty")
        elif part.url is not None and part.url.lower().startswith("s3://"):
            if self._facts.s3:
                return {"s3Location": {"uri": part.url}}
            self._left_out(kind, "this model does not accept s3:// URLs; send the bytes")
        elif part.url is not None:
            self._warnings.add(
                "unsupported",
                kind,
                "Bedrock accepts only bytes and s3:// URLs; left out; set fetch_urls = true, or send the bytes",
                lossy=True,
            )
        else:
            self._left_out(kind, "Bedrock has no uploaded files; send the bytes or an s3:// URL")
        return None

    def _left_out(self, kind: str, why: str) -> None:
        self._warnings.add("left_out", kind, why, lossy=True)

    def _name(self, given: str | None, form: str) -> str:
        name = given or _UNNAMED
        stem, dot, suffix = name.rpartition(".")
        if dot and stem and (suffix.lower() == form or _DOCUMENTS.get(_SUFFIXES.get(suffix.lower(), "")) == form):
            name = stem  # the block states the format separately
        # Bedrock accepts letters, digits, single spaces, hyphens, parentheses and square brackets.
        valid = re.sub(r"[^A-Za-z0-9\s()\[\]-]+", "-", name)
        valid = re.sub(r"\s+", " ", valid).strip()[:_NAME_LIMIT].strip()
        if not re.search(r"[A-Za-z0-9]", valid):
            valid = _UNNAMED
        unique, count = valid, 1
        while unique.lower() in self._names:
            count += 1
            unique = f"{valid[: _NAME_LIMIT - 8]} ({count})"
        self._names.add(unique.lower())
        if unique != name and given is not None:
            cause = "Bedrock refuses"
            why = f"{cause} {given!r} here; sent as {unique!r}"
            self._warnings.add("changed", "document name", why, lossy=False, cause=cause)
        return unique


def _by_suffix(part: Image | Document | Audio) -> str | None:
    name = part.url if part.url is not None else part.name if isinstance(part, Document) else None
    return _SUFFIXES.get(name.rpartition(".")[2].lower()) if name else None
