"""The sources of an answer: citations from `citationMetadata` and from `groundingMetadata`, with positions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import Any

from trunkline.authoring.json import as_count, as_list, as_object, as_objects, as_string, json_text
from trunkline.messages import Citation

_BLOCK = 4096
_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))
"""The continuation bytes of UTF-8."""

_CONTINUATION = frozenset(bytes([byte]) for byte in _CONTINUATION_BYTES)
_KINDS = ("web", "retrievedContext", "maps", "image")
"""The kinds of sources in `GroundingChunk` of google-genai 3.6.1."""


def joined_grounding(pieces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the merged metadata of all chunks.

    Lists are joined without repeated items. The indexes in `groundingSupports` refer to the `groundingChunks` of the
    same chunk, which contain either all sources so far or only the new sources.
    """
    if len(pieces) == 1:
        return pieces[0]
    joined: dict[str, Any] = {}
    known: dict[str, dict[str, Any]] = {}
    chunks: list[Any] = []
    for piece in pieces:
        more, shift = as_list(piece.get("groundingChunks")), 0
        if more[: len(chunks)] == chunks:
            chunks = [*more]
        elif chunks[: len(more)] != more:
            shift = len(chunks)
            chunks += more
        for name, value in piece.items():
            if name == "groundingSupports" and shift:
                value = [_moved(support, shift) for support in as_objects(value)]
            if isinstance(value, list) and name != "groundingChunks":
                known.setdefault(name, {}).update((json_text(item), item) for item in value)
            else:
                joined[name] = value
    lists: dict[str, list[Any]] = {name: [*items.values()] for name, items in known.items()}
    return {**joined, **lists, **({"groundingChunks": chunks} if chunks else {})}


def _moved(support: dict[str, Any], by: int) -> dict[str, Any]:
    indexes = as_list(support.get("groundingChunkIndices"))
    return {**support, "groundingChunkIndices": [index + by for index in indexes if type(index) is int]}


def citations(sources: Collection[Any], grounding: dict[str, Any], text: str, provider: str) -> Iterator[Citation]:
    """Yield the citations of a complete answer: its `text`, its `grounding` and the `sources` of `citationMetadata`."""
    places = _Places(text if sources or grounding else "")
    for source in sources:
        start, end = places.find(source)
        yield Citation(
            url=as_string(source.get("uri")) or None,
            title=as_string(source.get("title")) or None,
            start=start,
            end=end,
            provider_metadata={provider: source},
        )
    chunks = as_list(grounding.get("groundingChunks"))
    cited: set[int] = set()
    for support in as_objects(grounding.get("groundingSupports")):
        start, end = places.find(as_object(support.get("segment")))
        for index in as_list(support.get("groundingChunkIndices")):
            if type(index) is int and 0 <= index < len(chunks) and isinstance(chunks[index], dict):
                cited.add(index)
                yield _citation(chunks[index], {"groundingSupport": support}, start, end, provider)
    for index, chunk in enumerate(chunks):
        if index not in cited and isinstance(chunk, dict):
            yield _citation(chunk, {}, None, None, provider)


def _citation(
    chunk: dict[str, Any], fields: dict[str, Any], start: int | None, end: int | None, provider: str
) -> Citation:
    source = next((as_object(chunk[kind]) for kind in _KINDS if kind in chunk), {})
    return Citation(
        url=as_string(source.get("uri")) or as_string(source.get("sourceUri")) or None,
        title=as_string(source.get("title")) or None,
        cited_text=as_string(source.get("text")) or None,
        start=start,
        end=end,
        provider_metadata={provider: {"groundingChunk": chunk, **fields}},
    )


class _Places:
    """Converts byte positions in an answer, which Gemini sends, to character positions.

    The characters of each block of bytes are counted once, so a lookup reads at most one block.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._bytes = b"" if text.isascii() else text.encode("utf-8", "surrogatepass")
        sizes = (self._characters(at, at + _BLOCK) for at in range(0, len(self._bytes), _BLOCK))
        self._counts = [*accumulate(sizes, initial=0)]

    def find(self, segment: dict[str, Any]) -> tuple[int | None, int | None]:
        """Return the start and the end of a segment, or `None` twice if they are missing or do not fit the text."""
        # Proto JSON leaves out a start of 0.
        start, end = as_count(segment.get("startIndex", 0)), as_count(segment.get("endIndex"))
        if start is None or end is None or end <= start:
            return None, None
        if self._bytes:
            start, end = self._position(start), self._position(end)
        if start is None or end is None or end > len(self._text):
            return None, None
        expected = as_string(segment.get("text"))
        if expected is not None and self._text[start:end] != expected:
            return None, None  # the positions count from the start of another part
        return start, end

    def _position(self, at: int) -> int | None:
        """Return the number of characters before a byte, or `None` if the byte is not at a character boundary."""
        if at > len(self._bytes) or self._bytes[at : at + 1] in _CONTINUATION:
            return None
        block = at // _BLOCK
        return self._counts[block] + self._characters(block * _BLOCK, at)

    def _characters(self, start: int, end: int) -> int:
        return len(self._bytes[start:end].translate(None, _CONTINUATION_BYTES))
