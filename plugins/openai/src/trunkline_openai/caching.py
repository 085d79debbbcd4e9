"""Prompt caching in OpenAI's APIs. Pure.

OpenAI caches every prompt by itself. Newer models also accept breakpoints at the end of parts, and read a cached prompt
only up to a breakpoint; the API itself sets one at the end of the conversation. OpenRouter accepts Anthropic's
`cache_control` and translates it for the model behind it.

Sources: the openai SDK 3.54, types/responses/response_create_params.py and response_input_text_param.py;
developers.openai.com/api/docs/guides/prompt-caching; openrouter.ai/docs/guides/best-practices/prompt-caching; 2026-11.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from trunkline.authoring.caching import Breakpoint, CacheLifetime, cached_anyway, plan_breakpoints, stated_lifetime
from trunkline.authoring.warnings import Warnings
from trunkline.messages import Document, Image, Part, Text, ToolResult
from trunkline.request import ChatRequest

from trunkline_openai.model_facts import ModelFacts

BREAKPOINT = "prompt_cache_breakpoint"
KEY_LENGTH = 64
"""The longest `prompt_cache_key`, in characters."""

_MARK = "trunkline.cache"
_LONGER = "this model keeps a prompt for 30 minutes or longer; for 12 hours, set prompt_cache_options.ttl"
_INSTRUCTIONS = ("system", "developer")


def lifetime_of(part: Part) -> CacheLifetime | None:
    """The `cache` of a part that can have one."""
    return part.cache if isinstance(part, (Text, Image, Document, ToolResult)) else None


def marked(item: dict[str, Any], part: Part) -> dict[str, Any]:
    """The item of a part, with a mark if the part has a breakpoint. `set_breakpoints` replaces the marks."""
    lifetime = lifetime_of(part)
    return item if lifetime is None or BREAKPOINT in item or "cache_control" in item else {**item, _MARK: lifetime}


def wants_breakpoints(request: ChatRequest) -> bool:
    """Whether the request or a part of its messages asks for a breakpoint."""
    return request.cache is not None or any(
        lifetime_of(part) is not None
        or (isinstance(part, ToolResult) and any(lifetime_of(inner) is not None for inner in part.parts))
        for message in request.messages
        for part in message.parts
    )


def wire_key(key: str) -> str:
    """The `prompt_cache_key` for a key: the key itself, or its hash if it is too long.

    "string too long. Expected a string with maximum length 64": vybestack/llxprt-code#2135, 2026-06.
    """
    return key if len(key) <= KEY_LENGTH else _hash(key)


def header_key(key: str) -> str:
    """The value of a header for a key: the key itself, or its hash if a header cannot have it."""
    return key if key.isascii() and key.isprintable() and key == key.strip() else _hash(key)


def _hash(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def set_lifetime(request: ChatRequest, facts: ModelFacts, body: dict[str, Any], warnings: Warnings) -> None:
    """Add what a request can say about the lifetime of the whole prompt, for models that cache by themselves."""
    if request.cache == "1h" and facts.cache == "breakpoints":
        warnings.add("changed", "cache", _LONGER, lossy=False)
    elif request.cache == "1h" and facts.cache == "retention":
        body["prompt_cache_retention"] = "24h"
        why = "this model keeps a prompt for a few minutes or for up to 24 hours; '1h' was sent as '24h'"
        warnings.add("changed", "cache", why, lossy=False)
    else:
        cached_anyway(request, warnings)


def set_breakpoints(
    messages: list[dict[str, Any]], warnings: Warnings, *, lifetime: CacheLifetime | None, text_type: str = "text"
) -> list[dict[str, Any]]:
    """Return messages or items with OpenAI's breakpoints in place of the marks.

    With a `lifetime`, that of the request, the system prompt gets a breakpoint at its end. The API sets the one at the
    end of the conversation, and uses the latest breakpoints if there are too many. `text_type` is the type of a text.
    """
    messages = [_with_items(message) for message in messages]
    if lifetime is not None:
        _mark_end(_leading(messages), "auto", text_type)
    for item in _marks(messages):
        if item.pop(_MARK) == "1h" and lifetime != "1h":  # else `set_lifetime` adds the warning
            warnings.mended("cache", _LONGER)
        item[BREAKPOINT] = {"mode": "explicit"}
    return messages


def set_cache_control(
    messages: list[dict[str, Any]], warnings: Warnings, *, lifetime: CacheLifetime | None
) -> list[dict[str, Any]]:
    """Return messages with `cache_control` in place of the marks.

    With a `lifetime`, that of the request, the system prompt and the conversation get one at their ends.
    """
    messages = [_with_items(message) for message in messages]
    added: set[int] = set()
    if lifetime is not None:
        leading = _leading(messages)
        added = _mark_end(leading, lifetime) | _mark_end(messages[len(leading) :], lifetime)
    system = {id(item) for message in _leading(messages) for item in _items(message)}
    items = [item for message in messages for item in _items(message) if _MARK in item or "cache_control" in item]
    points = [
        Breakpoint(
            "system" if id(item) in system else "messages",
            item[_MARK] if _MARK in item else stated_lifetime(item["cache_control"]),
            automatic=id(item) in added,
            fixed=_MARK not in item,
        )
        for item in items
    ]
    for item, planned in zip(items, plan_breakpoints(points, warnings), strict=True):
        if item.pop(_MARK, None) is None:
            continue
        if planned is not None:
            item["cache_control"] = {"type": "ephemeral", "ttl": "1h"} if planned == "1h" else {"type": "ephemeral"}
    return messages


_CONTENT = ("content", "output")


def _with_items(message: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a message whose items can be changed."""
    message = dict(message)
    for name in _CONTENT:
        if isinstance(message.get(name), list):
            message[name] = [dict(item) if isinstance(item, dict) else item for item in message[name]]
    return message


def _items(message: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for name in _CONTENT:
        if isinstance(message.get(name), list):
            yield from (item for item in message[name] if isinstance(item, dict))


def _marks(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for message in messages for item in _items(message) if _MARK in item]


def _leading(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages of the system prompt."""
    count = next((at for at, message in enumerate(messages) if message.get("role") not in _INSTRUCTIONS), len(messages))
    return messages[:count]


def _mark_end(messages: list[dict[str, Any]], lifetime: CacheLifetime, text_type: str = "text") -> set[int]:
    """Mark the last item of the last message, unless it has a breakpoint. Returns the id of the item."""
    if not messages:
        return set()
    last = messages[-1]
    if isinstance(last.get("content"), str) and last["content"]:
        last["content"] = [{"type": text_type, "text": last["content"]}]
    items = list(_items(last))
    if not items or any(name in items[-1] for name in (_MARK, BREAKPOINT, "cache_control")):
        return set()
    items[-1][_MARK] = lifetime
    return {id(items[-1])}
