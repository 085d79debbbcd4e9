"""The sources of an answer: the citations of `citationMetadata`, and of `groundingMetadata` with their places."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from trunkline.authoring.json import as_count, as_list, as_object, as_objects, as_string, json_text
from trunkline.messages import Citation

_KINDS = ("web", "retrievedContext", "maps", "image")
"""The kinds of sources, as google-genai 3.6.1 has them in `GroundingChunk`."""


def joined_grounding(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of two chunks as one.

    Lists are joined without what repeats. The indexes in `groundingSupports` refer to the `groundingChunks` of the same
    metadata: those are either all sources so far, or new ones.
    """
    joined = {**earlier, **later}
    for name in earlier.keys() & later.keys():
        if isinstance(earlier[name], list) and isinstance(later[name], list):
            known = {json_text(item) for item in earlier[name]}
            joined[name] = [*earlier[name], *(item for item in later[name] if json_text(item) not in known)]
    before, after = as_list(earlier.get("groundingChunks")), as_list(later.get("groundingChunks"))
    if before and after and after[: len(before)] != before and before[: len(after)] != after:
        joined["groundingChunks"] = [*before, *after]
        moved = [_moved(support, len(before)) for support in as_objects(later.get("groundingSupports"))]
        joined["groundingSupports"] = [*as_list(earlier.get("groundingSupports")), *moved]
    elif before and after:
        joined["groundingChunks"] = max(before, after, key=len)
    return joined


def _moved(support: dict[str, Any], by: int) -> dict[str, Any]:
    indexes = as_list(support.get("groundingChunkIndices"))
    return {**support, "groundingChunkIndices": [index + by for index in indexes if type(index) is int]}


def citations(sources: Iterable[Any], grounding: dict[str, Any], text: str, provider: str) -> Iterator[Citation]:
    """Yield the citations of a complete answer. `sources` are those of `citationMetadata`; `text` is the answer's."""
    places = _Places(text)
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
    """Turns places in the bytes of an answer, as Gemini counts, into places in its characters."""

    def __init__(self, text: str) -> None:
        self._text = text
        # The position, in characters, of each byte that starts a character.
        self._starts: dict[int, int] | None = None

    def find(self, segment: dict[str, Any]) -> tuple[int | None, int | None]:
        """Return the start and the end of a segment, or `None` twice if it has none that fits the text."""
        # Proto JSON leaves out a start of 0.
        start, end = as_count(segment.get("startIndex", 0)), as_count(segment.get("endIndex"))
        if start is None or end is None or end <= start:
            return None, None
        if not self._text.isascii():
            if self._starts is None:
                sizes = (len(character.encode("utf-8", "surrogatepass")) for character in self._text)
                self._starts = {at: position for position, at in enumerate(accumulate(sizes, initial=0))}
            start, end = self._starts.get(start), self._starts.get(end)
        if start is None or end is None or end > len(self._text):
            return None, None
        expected = as_string(segment.get("text"))
        if expected is not None and self._text[start:end] != expected:
            return None, None  # it counts from the start of another part
        return start, end
