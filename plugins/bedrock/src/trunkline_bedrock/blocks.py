"""The content blocks of a response, from whole blocks or from the deltas of a stream.

The life of a block in a stream: only tool calls, tool results and images are announced, by a `contentBlockStart`. Text
and reasoning start with their first `contentBlockDelta`. A `contentBlockStop` completes a block, and so does the end of
the message. `contentBlockIndex` tells blocks apart, and they may interleave; but some models use an index again, or
continue with another kind of block under the same index, which completes the block before.

A part of the response starts with the first content of its block, so that an empty text makes no part.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

from trunkline.authoring.json import as_list, as_object, as_string, json_text
from trunkline.errors import ProtocolViolation
from trunkline.events import (
    Event,
    PartAdded,
    ReasoningDelta,
    ReasoningEnd,
    ReasoningStart,
    TextEnd,
    TextStart,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    text_delta,
)
from trunkline.fold import decode_arguments
from trunkline.messages import Audio, Citation, Image, Opaque

SERVER_TOOL = "server_tool_use"
UNKNOWN = "unknown."
"""The prefix of an `Opaque`'s `kind` if it is made of unknown deltas, which cannot be sent back."""


class _Block:
    """An open block: its kind, the index of its part (`None` before the part has started), and its content so far."""

    __slots__ = ("bytes", "citations", "data", "index", "kind", "pieces", "redacted", "signature")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.index: int | None = None
        self.data: dict[str, Any] = {}
        self.pieces: list[str] = []
        self.signature: list[str] = []
        self.redacted: list[str] = []
        self.citations: list[dict[str, Any]] = []
        self.bytes: list[str] = []


class Blocks:
    """The blocks of one response, as events."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._open: dict[int, _Block] = {}
        self._next = 0
        self.has_calls = False

    def whole(self, block: Any, events: list[Event]) -> None:
        """Add the events of a block that arrived whole."""
        if not isinstance(block, dict) or not block:
            raise self._violation("a content block is not an object")
        kind = next((key for key in _WHOLE if key in block), None)
        if kind is not None:
            _WHOLE[kind](self, block[kind], events)
            self.stop(_WHOLE_INDEX, events)
            return
        name = next((key for key in block if key != "type"), "type")
        inner = block[name]
        media = self._media(name, inner) if isinstance(inner, dict) else None
        events.append(PartAdded(part=media or Opaque(provider=self._provider, kind=name, data=block)))

    def start(self, index: int, start: dict[str, Any], events: list[Event]) -> None:
        """Start an announced block."""
        self.stop(index, events)
        for kind, inner in start.items():
            if not isinstance(inner, dict):
                raise self._violation(f"the start of a {kind} is not an object")
            if kind == "toolUse":
                self._call(index, inner, events)
            else:
                block = self._open[index] = _Block(kind if kind in ("toolResult", "image") else UNKNOWN + kind)
                block.data = dict(inner)
            return

    def delta(self, index: int, delta: dict[str, Any], events: list[Event]) -> None:
        """Add a delta to a block, and start the block if it was not announced."""
        text = delta.get("text")
        if type(text) is str:  # nearly every delta
            self._text(index, text, events)
            return
        known = [kind for kind in delta if kind in _DELTAS]
        for kind in known:
            _DELTAS[kind](self, index, delta[kind], events)
        # An unknown field next to a known one is ignored; alone it makes an opaque block.
        for kind, value in delta.items() if not known else ():
            if kind == "text":
                raise self._violation("the text of a delta is not a string")
            block = self._block(index, UNKNOWN + kind, events)
            deltas = block.data.setdefault("deltas", [])
            if not isinstance(deltas, list):
                raise self._violation("the deltas of a content block are not a list")
            deltas.append({kind: value})

    def stop(self, index: int, events: list[Event]) -> None:
        """Complete a block. If it is not open, as after an empty text, do nothing."""
        block = self._open.pop(index, None)
        if block is None:
            return
        if block.kind == "text":
            self._end_text(block, events)
        elif block.kind == "reasoning":
            self._end_reasoning(block, events)
        elif block.kind == "toolUse":
            assert block.index is not None
            events.append(ToolCallEnd(index=block.index))
        else:
            self._end_opaque(block, events)

    def stop_all(self, events: list[Event]) -> None:
        """Complete all open blocks, at the end of the message."""
        for index in list(self._open):
            self.stop(index, events)

    def _violation(self, message: str) -> ProtocolViolation:
        return ProtocolViolation(message, provider=self._provider)

    def _string(self, value: Any, what: str) -> str:
        if not isinstance(value, str):
            raise self._violation(f"{what} is not a string")
        return value

    def _block(self, index: int, kind: str, events: list[Event]) -> _Block:
        block = self._open.get(index)
        if block is None or block.kind != kind:
            self.stop(index, events)
            block = self._open[index] = _Block(kind)
        return block

    def _new_index(self) -> int:
        self._next += 1
        return self._next - 1

    def _text(self, index: int, text: str, events: list[Event]) -> None:
        block = self._open.get(index)
        if block is None or block.kind != "text":
            block = self._block(index, "text", events)
        if not text:
            return
        if block.index is None:
            block.index = self._new_index()
            events.append(TextStart(index=block.index))
        events.append(text_delta(block.index, text))

    def _citation(self, index: int, value: Any, events: list[Event]) -> None:
        if not isinstance(value, dict):
            raise self._violation("a citation is not an object")
        self._block(index, "text", events).citations.append(value)

    def _end_text(self, block: _Block, events: list[Event]) -> None:
        if block.index is not None:
            metadata = {self._provider: {"citations": block.citations}} if block.citations else {}
            events.append(TextEnd(index=block.index, provider_metadata=metadata))
        events += [citation_from(value, self._provider) for value in block.citations]

    def _whole_text(self, value: Any, events: list[Event]) -> None:
        self._text(_WHOLE_INDEX, self._string(value, "a text"), events)

    def _whole_citations(self, value: Any, events: list[Event]) -> None:
        if not isinstance(value, dict):
            raise self._violation("citationsContent is not an object")
        content, citations = value.get("content") or [], value.get("citations") or []
        if not isinstance(content, list) or not isinstance(citations, list):
            raise self._violation("the content or the citations of citationsContent are not a list")
        for item in content:
            text = item.get("text") if isinstance(item, dict) else None
            if isinstance(text, str):
                self._text(_WHOLE_INDEX, text, events)
        for citation in citations:
            self._citation(_WHOLE_INDEX, citation, events)

    def _reasoning(self, index: int, value: Any, events: list[Event]) -> None:
        if not isinstance(value, dict):
            raise self._violation("reasoningContent is not an object")
        block = self._block(index, "reasoning", events)
        text = self._string(value.get("text") or "", "reasoning")
        signature = self._string(value.get("signature") or "", "a signature")
        redacted = self._string(value.get("redactedContent") or "", "redacted reasoning")
        if block.index is None and (text or signature or redacted):
            block.index = self._new_index()
            events.append(ReasoningStart(index=block.index))
        if text and block.index is not None:
            events.append(ReasoningDelta(index=block.index, text=text))
        if signature:
            block.signature.append(signature)
        if redacted:
            block.redacted.append(redacted)

    def _end_reasoning(self, block: _Block, events: list[Event]) -> None:
        if block.index is None:
            return
        events.append(
            ReasoningEnd(
                index=block.index,
                provider=self._provider,
                signature="".join(block.signature) or None,
                encrypted=self._joined(block.redacted) or None,
                redacted=bool(block.redacted),
            )
        )

    def _whole_reasoning(self, value: Any, events: list[Event]) -> None:
        inner = value.get("reasoningText") if isinstance(value, dict) else None
        if inner is not None and not isinstance(inner, dict):
            raise self._violation("reasoningText is not an object")
        self._reasoning(_WHOLE_INDEX, {**value, **inner} if inner else value, events)

    def _joined(self, pieces: list[str]) -> str:
        """Join pieces of base64, each of which has its own padding. A single piece stays as it arrived."""
        if len(pieces) < 2:
            return "".join(pieces)
        return b64encode(b"".join(self._bytes(piece) for piece in pieces)).decode()

    def _bytes(self, text: str) -> bytes:
        try:
            return b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise self._violation("binary content of the response is not base64") from None

    def _call(self, index: int, value: Any, events: list[Event]) -> None:
        if not isinstance(value, dict):
            raise self._violation("toolUse is not an object")
        call_id = self._string(value.get("toolUseId"), "the id of a tool call")
        name = self._string(value.get("name"), "the name of a tool")
        if value.get("type") == SERVER_TOOL:
            block = self._open[index] = _Block(SERVER_TOOL)
            block.data = dict(value)
            return
        block = self._open[index] = _Block("toolUse")
        block.index = self._new_index()
        self.has_calls = True
        events.append(ToolCallStart(index=block.index, id=call_id, name=name))

    def _arguments(self, index: int, value: Any, events: list[Event]) -> None:
        text = self._string(value.get("input", "") if isinstance(value, dict) else value, "the input of a tool")
        block = self._open.get(index)
        if block is None or block.kind not in ("toolUse", SERVER_TOOL):
            raise self._violation("the input of a tool call arrived before its start")
        if block.kind == SERVER_TOOL:
            block.pieces.append(text)
        elif text and block.index is not None:
            events.append(ToolCallDelta(index=block.index, arguments=text))

    def _whole_call(self, value: Any, events: list[Event]) -> None:
        self._call(_WHOLE_INDEX, value, events)
        block, arguments = self._open[_WHOLE_INDEX], value.get("input")
        if block.kind == SERVER_TOOL or arguments is None:
            return
        try:
            text = json_text(arguments)
        except RecursionError:
            raise self._violation("the input of a tool call is nested too deeply") from None
        self._arguments(_WHOLE_INDEX, {"input": text}, events)

    def _result(self, index: int, value: Any, events: list[Event]) -> None:
        if not isinstance(value, list):
            raise self._violation("a delta of a tool result is not a list")
        content = self._block(index, "toolResult", events).data.setdefault("content", [])
        if not isinstance(content, list):
            raise self._violation("the content of a tool result is not a list")
        content += value

    def _image(self, index: int, value: Any, events: list[Event]) -> None:
        if not isinstance(value, dict):
            raise self._violation("a delta of an image is not an object")
        block = self._block(index, "image", events)
        source = value.get("source")
        piece = source.get("bytes") if isinstance(source, dict) else None
        if isinstance(piece, str):
            block.bytes.append(piece)
        else:
            block.data.update(value)

    def _end_opaque(self, block: _Block, events: list[Event]) -> None:
        kind, data = block.kind, block.data
        if kind == SERVER_TOOL:
            if block.pieces:
                arguments, invalid = decode_arguments("".join(block.pieces))
                data["input"] = arguments if invalid is None else invalid
            kind = "toolUse"
            data.setdefault("input", {})
        elif kind == "toolResult":
            content = data.get("content")
            data["content"] = _merged_texts(content) if isinstance(content, list) else []
        elif kind == "image" and block.bytes:
            data["source"] = {"bytes": self._joined(block.bytes)}
        media = self._media(kind, data)
        events.append(PartAdded(part=media or Opaque(provider=self._provider, kind=kind, data={kind: data})))

    def _media(self, kind: str, data: dict[str, Any]) -> Image | Audio | None:
        """Return an image or audio as the core's part, or `None` if it is neither or cannot be read."""
        source = data.get("source")
        if kind not in ("image", "audio") or not isinstance(source, dict):
            return None
        form = data.get("format")
        media_type = f"{kind}/{form}" if isinstance(form, str) else None
        part_type = Image if kind == "image" else Audio
        if isinstance(source.get("bytes"), str):
            return part_type(data=self._bytes(source["bytes"]), media_type=media_type)
        url = as_string(as_object(source.get("s3Location")).get("uri")) or ""
        return part_type(url=url, media_type=media_type) if url.startswith("s3://") else None


def _merged_texts(content: list[Any]) -> list[Any]:
    """Join adjacent texts, which a stream cuts anywhere."""
    result: list[Any] = []
    pieces: list[str] = []
    for item in [*content, None]:
        if isinstance(item, dict) and item.keys() == {"text"} and isinstance(item["text"], str):
            pieces.append(item["text"])
            continue
        if pieces:
            result.append({"text": "".join(pieces)})
            pieces = []
        if item is not None:
            result.append(item)
    return result


def citation_from(value: dict[str, Any], provider: str) -> Citation:
    """Return a citation. Its location in the source stays in `provider_metadata`."""
    url = as_string(as_object(as_object(value.get("location")).get("web")).get("url"))
    source = as_string(value.get("source")) or ""
    if url is None and source.startswith(("http://", "https://")):
        url = source
    texts = [as_string(as_object(item).get("text")) or "" for item in as_list(value.get("sourceContent"))]
    return Citation(
        url=url,
        title=as_string(value.get("title")),
        cited_text="".join(texts) or None,
        provider_metadata={provider: value},
    )


_WHOLE_INDEX = -1
"""The index of blocks that arrived whole, one of which is open at a time."""

_WHOLE: dict[str, Callable[[Blocks, Any, list[Event]], None]] = {
    "text": Blocks._whole_text,
    "toolUse": Blocks._whole_call,
    "reasoningContent": Blocks._whole_reasoning,
    "citationsContent": Blocks._whole_citations,
}
_DELTAS: dict[str, Callable[[Blocks, int, Any, list[Event]], None]] = {
    "toolUse": Blocks._arguments,
    "reasoningContent": Blocks._reasoning,
    "citation": Blocks._citation,
    "toolResult": Blocks._result,
    "image": Blocks._image,
}
