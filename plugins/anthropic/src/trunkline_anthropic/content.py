"""Message parts as content blocks of the API. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.caching import result_lifetime
from trunkline.authoring.json import JSONObject, ProviderOptions
from trunkline.authoring.replay import left_out_note
from trunkline.authoring.warnings import Warnings
from trunkline.messages import Audio, CacheLifetime, Document, Image, Opaque, Part, Text, ToolResult

from trunkline_anthropic.caching import marked, without_mark

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
"""The media types of images that the API accepts."""

_TEXT_TYPES = (
    "application/json",
    "application/xml",
    "application/yaml",
    "application/x-yaml",
    "application/javascript",
)


class Content:
    """Makes the blocks of texts, media and tool results."""

    def __init__(self, provider: str, warnings: Warnings) -> None:
        self.provider = provider
        self.cached: bool = False
        """Whether a block has a cache breakpoint."""
        self._warnings = warnings

    def options(self, options: ProviderOptions) -> JSONObject:
        """Return the options of a message or part that are meant for this provider."""
        return options.get(self.provider) or {}

    def block_with_options(self, block: dict[str, Any], options: ProviderOptions) -> dict[str, Any]:
        """Return the block with a part's options merged in; options with a `type` replace the whole block."""
        own = self.options(options)
        return dict(own) if "type" in own else {**block, **own}

    def with_breakpoint(self, block: dict[str, Any], lifetime: CacheLifetime | None) -> dict[str, Any]:
        """Return the block with the cache breakpoint of a part."""
        if lifetime is None:
            return block
        self.cached = True
        return marked(block, lifetime)

    def blocks(self, part: Part, *, by_model: bool = False) -> list[dict[str, Any]]:
        """Return the block of a text, a medium or an opaque part; a part that cannot be sent adds a warning instead.

        `by_model` says that the part is in an assistant message, so the application does not lose what it asked for.
        """
        if isinstance(part, Text):
            return self._text(part)
        if isinstance(part, Opaque):
            return [dict(part.data)]
        if isinstance(part, Audio):
            return self._audio(part, by_model)
        if isinstance(part, (Image, Document)):
            source = self._image_source(part) if isinstance(part, Image) else self._document_source(part)
            if source is None and "type" not in self.options(part.provider_options):
                return []
            block: dict[str, Any] = {"type": "image" if isinstance(part, Image) else "document", "source": source}
            if isinstance(part, Document) and part.name is not None:
                block["title"] = part.name
            if isinstance(part, Image) and part.detail not in (None, "auto"):
                self._warnings.add(
                    "unsupported", "image detail", "not supported by the Messages API; ignored", lossy=True
                )
            return [self.with_breakpoint(self.block_with_options(block, part.provider_options), part.cache)]
        return []

    def left_out(self, part: Part, why: str) -> None:
        """Warn that a part was not sent."""
        self._warnings.add("left_out", type(part).__name__.lower(), why, lossy=True)

    def _text(self, part: Text) -> list[dict[str, Any]]:
        block = self.block_with_options({"type": "text", "text": part.text}, part.provider_options)
        block = self.with_breakpoint(block, part.cache)
        text = block.get("text")
        if block["type"] != "text" or not isinstance(text, str) or text.strip():
            return [block]
        # The API refuses blank text. Leaving it out loses nothing, except for its options.
        if self.options(part.provider_options):
            self._warnings.add(
                "left_out",
                "provider_options",
                "the options of an empty text were left out, since the API refuses empty text",
                lossy=True,
            )
        return []

    def _audio(self, part: Audio, by_model: bool) -> list[dict[str, Any]]:
        if part.transcript:
            self._warnings.add(
                "emulated",
                "audio",
                "the API does not accept audio; the transcript was sent instead",
                lossy=not by_model,
            )
            return [{"type": "text", "text": part.transcript}]
        self.left_out(part, "the API does not accept audio; send a transcript")
        return []

    def _image_source(self, part: Image) -> dict[str, Any] | None:
        if part.file_id is not None:
            return {"type": "file", "file_id": part.file_id}
        if part.url is not None:
            return {"type": "url", "url": part.url}
        media_type = "image/jpeg" if part.media_type == "image/jpg" else part.media_type
        if media_type is not None and media_type not in IMAGE_TYPES:
            self.left_out(part, f"the API accepts {', '.join(IMAGE_TYPES)}, not {media_type}")
            return None
        if media_type is None:
            self._warnings.add(
                "changed", "image", "its media type is not set; sent as image/png; set media_type", lossy=False
            )
        return {"type": "base64", "media_type": media_type or "image/png", "data": part.base64}

    def _document_source(self, part: Document) -> dict[str, Any] | None:
        if part.file_id is not None:
            return {"type": "file", "file_id": part.file_id}
        media_type = (part.media_type or "").partition(";")[0].strip().lower()
        is_text = media_type.startswith("text/") or media_type in _TEXT_TYPES
        if part.url is not None:
            if media_type not in ("", "application/pdf"):
                self.left_out(part, f"the API accepts only PDFs by URL, not {media_type}; send the bytes")
                return None
            return {"type": "url", "url": part.url}
        if is_text:
            assert part.data is not None
            return {"type": "text", "media_type": "text/plain", "data": self._decoded(part.data)}
        if media_type not in ("", "application/pdf"):
            self.left_out(part, f"the API accepts application/pdf and text, not {media_type}")
            return None
        if not media_type:
            message = "its media type is not set; sent as application/pdf; set media_type"
            self._warnings.add("changed", "document", message, lossy=False)
        return {"type": "base64", "media_type": "application/pdf", "data": part.base64}

    def _decoded(self, data: bytes) -> str:
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            self._warnings.add("changed", "document", "it is not valid UTF-8; invalid bytes were replaced", lossy=True)
            return data.decode("utf-8", "replace")

    def tool_result(self, result: ToolResult) -> dict[str, Any]:
        """Return the block for the result of a tool call."""
        # The breakpoint of a part of the result moves to its end. The API caches whole blocks of a message.
        lifetime = result_lifetime(result)
        content = [without_mark(block) for part in result.parts for block in self.blocks(part)]
        if not content and (note := left_out_note(result.parts)):
            content = [{"type": "text", "text": note}]
        block: dict[str, Any] = {"type": "tool_result", "tool_use_id": result.tool_call_id}
        if result.is_error:
            block["is_error"] = True
            # The API refuses an error without content.
            content = content or [{"type": "text", "text": "Error"}]
        if content:
            block["content"] = plain(content)
        return self.with_breakpoint(self.block_with_options(block, result.provider_options), lifetime)


def plain(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return a plain string if the blocks are a single text: every server that imitates the API accepts that form."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"} and blocks[0]["type"] == "text":
        return str(blocks[0]["text"])
    return blocks
