"""Cohere's citations as the core's: one for each source, because one passage of a response may rest on several."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.json import as_count, as_objects, as_string
from trunkline.messages import Citation, Part

_PASSAGES = ("text", "snippet", "content", "output")
"""The fields that may hold a source's text, likeliest first. A tool result that was a string returns as `content`."""


def citations_from(raw: Any, text_before: int, provider: str) -> list[Citation]:
    """Return one `Citation` per source of an entry of `citations`, or none if it is not an object.

    `text_before` is how many characters of the response's text precede the cited block: Cohere counts offsets within
    the block, the core within the text. Citations of thinking or of a tool plan have no offsets.
    """
    if not isinstance(raw, dict):
        return []
    start, end = as_count(raw.get("start")), as_count(raw.get("end"))
    if raw.get("type") in ("THINKING_CONTENT", "PLAN"):
        start = end = None
    sources = as_objects(raw.get("sources"))
    return [_citation(raw, source, start, end, text_before, provider) for source in sources or [{}]]


def _citation(
    raw: dict[str, Any], source: dict[str, Any], start: int | None, end: int | None, text_before: int, provider: str
) -> Citation:
    cited = next((value for key in ("document", "tool_output") if isinstance(value := source.get(key), dict)), {})
    return Citation(
        url=as_string(cited.get("url")) or None,
        title=as_string(cited.get("title")) or None,
        cited_text=next((text for key in _PASSAGES if (text := as_string(cited.get(key)))), None),
        start=None if start is None else start + text_before,
        end=None if end is None else end + text_before,
        provider_metadata={provider: {"citation": raw, "source": source}},
    )


def wire_citations(parts: tuple[Part, ...], provider: str) -> list[dict[str, Any]]:
    """Return the wire entries that a turn's citations came from, to be sent back. Other providers' are skipped."""
    found: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Citation):
            raw = part.provider_metadata.get(provider, {}).get("citation")
            # An entry with several sources became several citations, one after another.
            if isinstance(raw, dict) and (not found or found[-1] != raw):
                found.append(raw)
    return found
