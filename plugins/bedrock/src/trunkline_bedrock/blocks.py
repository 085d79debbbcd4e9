"""The content blocks of a response, from whole blocks or from the deltas of a stream.

The life of a block in a stream: only tool calls, tool results and images are announced, by a `contentBlockStart`. Text
and reasoning start with their first `contentBlockDelta`. A `contentBlockStop` completes a block, and so does the end of
the message. `contentBlockIndex` tells blocks apart, and they may interleave; but some models use an index again, or
continue with another kind of block under the same index, which completes the block before.

A part of the response starts with the first content of its block, so that an empty text makes no part.

Unknown fields are kept in the `provider_metadata` of the block's part: fields inside the block under their own names,
and fields next to the block's content or in its events under `block`. Unknown fields of a block that makes no part are
kept in `unplaced`.
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

    __slots__ = ("beside", "bytes", "citations", "data", "extra", "index", "kind", "pieces", "redacted", "signature")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.index: int | None = None
        self.data: dict[str, Any] = {}
        self.pieces: list[str] = []
        self.signature: list[str] = []
        self.redacted: list[str] = []
        self.citations: list[dict[str, Any]] = []
        self.bytes: list[str] = []
        self.extra: dict[str, Any] = {}  # unknown fields inside the block
        self.beside: dict[str, Any] = {}  # unknown fields next to the block's content, or in its events

    def unknown(self) -> dict[str, Any]:
        return {**self.extra, "block": self.beside} if self.beside else self.extra


class Blocks:
    """The blocks of one response, as events."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._open: dict[int, _Block] = {}
        self._next = 0
        self.has_calls = False
        self.has_content = False
        self.unplaced: dict[str, Any] = {}
        """Unknown fields of blocks that made no part, by block kind."""
        self.unnamed: list[dict[str, Any]] = []
        """The tool calls without a name, which cannot be run."""

    def whole(self, block: Any, events: list[Event]) -> None:
        """Add the events of a block that arrived whole."""
        if not isinstance(block, dict) or not block:
            raise self._violation("a content block is not an object")
        kind = next((key for key in _WHOLE if key in block), None)
        if kind is not None:
            _WHOLE[kind](self, block[kind], events)
            if len(block) > 1:
                self.keep(_WHOLE_INDEX, {key: value for key, value in block.items() if key != kind})
            self.stop(_WHOLE_INDEX, events)
            return
        name = next((key for key in block if key != "type"), "type")
        inner = block[name]
        beside = {key: value for key, value in block.items() if key != name}
        media = self._media(name, inner, beside) if isinstance(inner, dict) else None
        self._add_part(media or Opaque(provider=self._provider, kind=name, data=block), events)

    def keep(self, index: int, fields: dict[str, Any]) -> None:
        """Keep unknown fields of a block's event, or unknown fields next to the block's content."""
        block = self._open.get(index)
        if block is not None:
            block.beside.update(fields)
        else:
            self.unplaced.update(fields)

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
            if len(start) > 1:
                self.keep(index, {key: value for key, value in start.items() if key != kind})
            return

    def delta(self, index: int, delta: dict[str, Any], events: list[Event]) -> None:
        """Add a delta to a block, and start the block if it was not announced."""
        text = delta.get("text")
        if type(text) is str:  # nearly every delta
            self._text(index, text, events)
            if len(delta) == 1:
                return
        known = {kind for kind in delta if kind in _DELTAS}
        for kind in known:
            _DELTAS[kind](self, index, delta[kind], events)
        if type(text) is str:
            known.add("text")
        # An unknown field next to a known field belongs to the block. A delta of unknown fields only makes an opaque
        # block.
        if known and len(delta) > len(known):
            self.keep(index, {kind: value for kind, value in delta.items() if kind not in known})
        for kind, value in delta.items() if not known else ():
            if kind == "text" and value is None:
                continue
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
            self._end_call(block, events)
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
        self.has_content = True
        self._next += 1
        return self._next - 1

    def _add_part(self, part: Image | Audio | Opaque, events: list[Event]) -> None:
        self.has_content = True
        events.append(PartAdded(part=part))

    def _metadata(self, block: _Block) -> dict[str, dict[str, Any]]:
        """Return the `provider_metadata` of the block's part: its unknown fields."""
        unknown = block.unknown()
        return {self._provider: unknown} if unknown else {}

    def _made_no_part(self, block: _Block) -> None:
        if unknown := block.unknown():
            self.unplaced[block.kind] = unknown

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
            metadata = self._metadata(block)
            if block.citations:
                metadata = {self._provider: {"citations": block.citations, **block.unknown()}}
            events.append(TextEnd(index=block.index, provider_metadata=metadata))
        else:
            self._made_no_part(block)
        self.has_content = self.has_content or bool(block.citations)
        events += [citation_from(value, self._provider) for value in block.citations]

    def _whole_text(self, value: Any, events: list[Event]) -> None:
        self._text(_WHOLE_INDEX, self._string("" if value is None else value, "a text"), events)

    def _whole_citations(self, value: Any, events: list[Event]) -> None:
        if not isinstance(value, dict):
            raise self._violation("citationsContent is not an object")
        content, citations = value.get("content") or [], value.get("citations") or []
        if not isinstance(content, list) or not isinstance(citations, list):
            raise self._violation("the content or the citations of citationsContent are not a list")
        others: list[Any] = []
        for item in content:
            text = item.get("text") if isinstance(item, dict) else None
            if isinstance(text, str):
                self._text(_WHOLE_INDEX, text, events)
            if not isinstance(item, dict) or item.keys() != {"text"}:
                others.append(item)
        for citation in citations:
            self._citation(_WHOLE_INDEX, citation, events)
        block = self._block(_WHOLE_INDEX, "text", events)
        block.extra.update({key: item for key, item in value.items() if key not in ("content", "citations")})
        if others:
            block.extra["content"] = others

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
        if not value.keys() <= _REASONING:
            block.extra.update({key: item for key, item in value.items() if key not in _REASONING})

    def _end_reasoning(self, block: _Block, events: list[Event]) -> None:
        if block.index is None:
            self._made_no_part(block)
            return
        events.append(
            ReasoningEnd(
                index=block.index,
                provider=self._provider,
                signature="".join(block.signature) or None,
                encrypted=self._joined(block.redacted) or None,
                redacted=bool(block.redacted),
                provider_metadata=self._metadata(block),
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
        if value.get("type") == SERVER_TOOL:
            block = self._open[index] = _Block(SERVER_TOOL)
            block.data = dict(value)
            return
        self._open[index] = _Block("toolUse")
        self._call_fields(self._open[index], value, events)

    def _call_fields(self, block: _Block, value: dict[str, Any], events: list[Event]) -> None:
        """Read the fields of a tool call. The call starts when its name has arrived."""
        data = block.data
        data["toolUseId"] = data.get("toolUseId") or self._string(value.get("toolUseId") or "", "the id of a tool call")
        data["name"] = data.get("name") or self._string(value.get("name") or "", "the name of a tool")
        if not value.keys() <= _TOOL_USE:
            block.extra.update({key: item for key, item in value.items() if key not in _TOOL_USE})
        if block.index is None and data["name"]:
            block.index = self._new_index()
            self.has_calls = True
            call_id = data["toolUseId"] or f"call_{block.index}"
            events.append(ToolCallStart(index=block.index, id=call_id, name=data["name"]))
            events += [ToolCallDelta(index=block.index, arguments=piece) for piece in block.pieces]

    def _arguments(self, index: int, value: Any, events: list[Event]) -> None:
        block = self._open.get(index)
        if block is None or block.kind not in ("toolUse", SERVER_TOOL):
            self._call(index, value, events)  # the start event is missing
            block = self._open[index]
        elif isinstance(value, dict) and len(value) > 1 and block.kind == "toolUse":
            self._call_fields(block, value, events)
        arguments = value.get("input") if isinstance(value, dict) else value
        if arguments is None or arguments == "":
            return
        if not isinstance(arguments, str):
            try:
                arguments = json_text(arguments)
            except RecursionError:
                raise self._violation("the input of a tool call is nested too deeply") from None
        if block.index is not None:
            events.append(ToolCallDelta(index=block.index, arguments=arguments))
        else:
            block.pieces.append(arguments)

    def _whole_call(self, value: Any, events: list[Event]) -> None:
        self._call(_WHOLE_INDEX, value, events)
        if self._open[_WHOLE_INDEX].kind == "toolUse":
            self._arguments(_WHOLE_INDEX, {"input": value.get("input")}, events)

    def _end_call(self, block: _Block, events: list[Event]) -> None:
        if block.index is not None:
            events.append(ToolCallEnd(index=block.index, provider_metadata=self._metadata(block)))
            return
        call = {"id": block.data["toolUseId"] or None, "arguments": "".join(block.pieces), **block.unknown()}
        self.unnamed.append(call)
        self.has_content = True

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
            rest = {key: item for key, item in as_object(source).items() if key != "bytes"}
            block.data.update({key: item for key, item in value.items() if key != "source"})
            block.data["source"] = {**as_object(block.data.get("source")), **rest}
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
            data["source"] = {**as_object(data.get("source")), "bytes": self._joined(block.bytes)}
        media = self._media(kind, data, block.beside)
        self._add_part(media or Opaque(provider=self._provider, kind=kind, data={kind: data, **block.beside}), events)

    def _media(self, kind: str, data: dict[str, Any], beside: dict[str, Any]) -> Image | Audio | None:
        """Return an image or audio as the core's part, or `None` if it is neither or cannot be read."""
        source = data.get("source")
        if kind not in ("image", "audio") or not isinstance(source, dict):
            return None
        form = data.get("format")
        media_type = f"{kind}/{form}" if isinstance(form, str) else None
        part_type = Image if kind == "image" else Audio
        location = as_object(source.get("s3Location"))
        extra = {key: value for key, value in data.items() if key not in ("format", "source")}
        for place, known in ((source, ("bytes", "s3Location")), (location, ("uri",))):
            extra.update({key: value for key, value in place.items() if key not in known})
        if beside:
            extra["block"] = beside
        metadata = {self._provider: extra} if extra else {}
        if isinstance(source.get("bytes"), str):
            data_bytes = self._bytes(source["bytes"])
            return part_type(data=data_bytes, media_type=media_type, provider_metadata=metadata)
        url = as_string(location.get("uri")) or ""
        if not url.startswith("s3://"):
            return None
        return part_type(url=url, media_type=media_type, provider_metadata=metadata)


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


_REASONING = frozenset({"text", "signature", "redactedContent", "reasoningText"})
_TOOL_USE = frozenset({"toolUseId", "name", "input"})

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
