"""Cache points: blocks of their own after the tools, the system prompt or a block of a message. Pure.

While a request is translated, a mark stands where a cache point may follow. `set_cache_points` replaces the marks at
the end, when it knows all of them. Source: docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html; 2026-11.
"""

from __future__ import annotations

from typing import Any, get_args

from trunkline.authoring.caching import Breakpoint, CacheLifetime, Section, plan_breakpoints, stated_lifetime
from trunkline.authoring.warnings import Warnings

from trunkline_bedrock.model_facts import BedrockFacts

LIMIT = 4
"""How many cache points Converse accepts in a request."""

_MARK = "trunkline.cache"
_SECTIONS: tuple[Section, ...] = get_args(Section)
_NO_POINT_AFTER = ("document", "video")
"""The blocks that a cache point may not directly follow. Source: pydantic-ai 2.68, models/bedrock.py."""


def mark(lifetime: CacheLifetime | None) -> list[dict[str, Any]]:
    """Return the mark of a part, or nothing."""
    return [{_MARK: lifetime}] if lifetime is not None else []


def is_mark(block: dict[str, Any]) -> bool:
    """Return whether a block is a mark."""
    return _MARK in block


def set_cache_points(
    body: dict[str, Any], lifetime: CacheLifetime | None, facts: BedrockFacts, warnings: Warnings
) -> dict[str, Any]:
    """Return the body with cache points in place of the marks.

    With a `lifetime`, that of the request, the tools, the system prompt and the conversation get a cache point at their
    ends, unless they have one there.
    """
    body = dict(body)
    lists: list[tuple[Section, list[Any]]] = []
    if isinstance(body.get("toolConfig"), dict) and isinstance(body["toolConfig"].get("tools"), list):
        body["toolConfig"] = {**body["toolConfig"], "tools": list(body["toolConfig"]["tools"])}
        lists.append(("tools", body["toolConfig"]["tools"]))
    if isinstance(body.get("system"), list):
        body["system"] = list(body["system"])
        lists.append(("system", body["system"]))
    if isinstance(body.get("messages"), list):
        body["messages"] = [
            {**message, "content": list(message["content"])} if _has_content(message) else message
            for message in body["messages"]
        ]
        lists.extend(("messages", message["content"]) for message in body["messages"] if _has_content(message))
    own: set[int] = set()
    if lifetime is not None:
        for section in _SECTIONS:
            if section == "tools" and not facts.cache_tools:
                continue
            blocks = next((blocks for kind, blocks in reversed(lists) if kind == section and blocks), None)
            if blocks is not None and not (
                _is_object(blocks[-1]) and (is_mark(blocks[-1]) or "cachePoint" in blocks[-1])
            ):
                [added] = mark(lifetime)
                blocks.insert(_end(blocks), added)
                own.add(id(added))
    found: list[tuple[Section, dict[str, Any]]] = [
        (section, block) for section, blocks in lists for block in blocks if _is_object(block)
    ]
    points = [pair for pair in found if is_mark(pair[1]) or "cachePoint" in pair[1]]
    asked = [
        Breakpoint(
            section,
            block[_MARK] if is_mark(block) else stated_lifetime(block["cachePoint"]),
            automatic=id(block) in own,
            fixed=not is_mark(block),
        )
        for section, block in points
    ]
    plan = plan_breakpoints(asked, warnings, limit=LIMIT, one_hour=facts.cache_hour)
    lifetimes = {id(block): planned for (_, block), planned in zip(points, plan, strict=True) if is_mark(block)}
    for _, blocks in lists:
        blocks[:] = [new for at, block in enumerate(blocks) for new in _point(block, blocks[:at], lifetimes, warnings)]
    return body


def _point(block: Any, before: list[Any], lifetimes: dict[int, Any], warnings: Warnings) -> list[Any]:
    if id(block) not in lifetimes:
        return [block]
    planned = lifetimes[id(block)]
    if planned is None:
        return []
    # Five minutes is the default. Models without a choice refuse `ttl`.
    point = {"cachePoint": {"type": "default", "ttl": "1h"} if planned == "1h" else {"type": "default"}}
    document = before[-1].get("document") if before and _is_object(before[-1]) else None
    if not isinstance(document, dict):
        return [point]
    why = "Bedrock refuses a cache point directly after a document; a text that names the document was added"
    warnings.add("emulated", "cache", why, lossy=False)
    return [{"text": f"See the document {document.get('name')}."}, point]


def _end(blocks: list[Any]) -> int:
    """Return where a cache point can be added: at the end, but before documents and videos."""
    at = len(blocks)
    while at > 1 and _is_object(blocks[at - 1]) and any(kind in blocks[at - 1] for kind in _NO_POINT_AFTER):
        at -= 1
    return at


def _is_object(block: object) -> bool:
    return isinstance(block, dict)


def _has_content(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("content"), list)
