"""Cohere's citations as the core's: one for each source, since one passage of an answer may rest on several."""

from __future__ import annotations

from typing import Any

from trunkline.messages import Citation, Part

_PASSAGES = ("text", "snippet", "content", "output")
"""Where a source keeps its words, likeliest first. A tool result that was a string comes back as `content`."""


def citations_from(raw: Any, text_before: int, provider: str) -> list[Citation]:
    """The citations that an entry of `citations` makes; none for what is no entry.

    `text_before` counts the characters of the answer's text that stand before the cited block: Cohere counts within the
    block, the core within the text. What is cited of thinking or of a tool plan has no place in the text.
    """
    if not isinstance(raw, dict):
        return []
    start, end = _offset(raw.get("start")), _offset(raw.get("end"))
    if raw.get("type") in ("THINKING_CONTENT", "PLAN"):
        start = end = None
    sources = raw.get("sources")
    listed = [source for source in sources if isinstance(source, dict)] if isinstance(sources, list) else []
    return [
        Citation(
            url=_string(told.get("url")),
            title=_string(told.get("title")),
            cited_text=next((text for key in _PASSAGES if (text := _string(told.get(key)))), None),
            start=None if start is None else start + text_before,
            end=None if end is None else end + text_before,
            provider_metadata={provider: {"citation": raw, "source": source}},
        )
        for source in listed or [{}]
        for told in (_told(source),)
    ]


def wire_citations(parts: tuple[Part, ...], provider: str) -> list[dict[str, Any]]:
    """The entries of `citations` that a turn's citations came from, to be sent back; none for another provider's."""
    found: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, Citation):
            raw = part.provider_metadata.get(provider, {}).get("citation")
            if isinstance(raw, dict) and (not found or found[-1] != raw):
                found.append(raw)
    return found


def _told(source: dict[str, Any]) -> dict[str, Any]:
    for key in ("document", "tool_output"):
        told = source.get(key)
        if isinstance(told, dict):
            return told
    return {}


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _offset(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
