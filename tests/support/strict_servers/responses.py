"""The requests that the Responses API refuses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from strict_servers.refusal import Body, Check, Refusal, typed
from strict_servers.seal import issuer_of

_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "web_search_call": "ws",
    "image_generation_call": "ig",
}
_CALLS = ("function_call", "custom_tool_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output")


def _items(body: Body) -> list[dict[str, Any]]:
    found = body["input"]
    return [{"type": "message", "role": "user", "content": found}] if isinstance(found, str) else found


def _kind(item: dict[str, Any]) -> str:
    return str(item.get("type", "message"))


def sdk_types(body: Body) -> Iterator[Refusal]:
    """Fields that OpenAI's SDK does not know, and values of other types."""
    from openai.types.responses import response_create_params as params  # slow to import

    streaming = params.ResponseCreateParamsStreaming
    kind = streaming if body.get("stream") else params.ResponseCreateParamsNonStreaming
    yield from typed(body, kind, "openai-python, types/responses/response_create_params.py")


def outputs_match_calls(body: Body) -> Iterator[Refusal]:
    """A call without an output, an output without its call, and several outputs of one call."""
    calls = Counter(item["call_id"] for item in _items(body) if _kind(item) in _CALLS)
    outputs = Counter(item["call_id"] for item in _items(body) if _kind(item) in _OUTPUTS)
    for call_id in calls - outputs:
        yield Refusal(f"No tool output found for function call {call_id}.", "router-for-me/CLIProxyAPI#2368 (2026-03)")
    if not body.get("previous_response_id"):
        for call_id in outputs - calls:
            yield Refusal(
                f"No tool call found for function call output with call_id {call_id}.",
                "continuedev/continue#10092 (2026-02)",
            )
    seen: set[str] = set()
    for item in _items(body):
        if _kind(item) in _CALLS:
            seen.add(item["call_id"])
        elif _kind(item) in _OUTPUTS and item["call_id"] not in seen and item["call_id"] in calls:
            yield Refusal(
                f"The output of {item['call_id']} comes before its call.", "continuedev/continue#10092 (2026-02)"
            )
    for call_id, number in calls.items():
        if number > 1:
            yield Refusal(f"Duplicate item found with call_id {call_id}.", "vercel/ai#13383 (2026-03)")


def ids(body: Body) -> Iterator[Refusal]:
    """Ids of items that repeat or have the prefix of another kind, and call ids that are too long."""
    numbers = Counter(item["id"] for item in _items(body) if item.get("id"))
    for item_id, number in numbers.items():
        if number > 1:
            yield Refusal(f"Duplicate item found with id {item_id}.", "earendil-works/pi#5151 (2026-05)")
    for place, item in enumerate(_items(body)):
        prefix = _PREFIXES.get(_kind(item))
        item_id = item.get("id")
        if item_id is not None and prefix and not re.fullmatch(rf"{prefix}[A-Za-z0-9_-]*", item_id):
            yield Refusal(
                f"Invalid 'input[{place}].id': {item_id!r}. Expected an ID that begins with '{prefix}'.",
                "nodetool-ai/nodetool#4252 (2026-07)",
            )
        call_id = item.get("call_id")
        if call_id is not None and not 0 < len(call_id) <= 64:
            yield Refusal(
                f"Invalid 'input[{place}].call_id': {call_id!r}, maximum length 64.", "decolua/9router#393 (2026-03)"
            )


def reasoning_has_its_item(body: Body) -> Iterator[Refusal]:
    """Reasoning without a following item of the model, and an item whose reasoning was left out.

    In the fixtures, the id of an item contains the id of its reasoning: `fc_1r2` belongs to `rs_1r2`.
    """
    items = _items(body)
    found = {item.get("id") for item in items if _kind(item) == "reasoning"}
    for place, item in enumerate(items):
        following = items[place + 1] if place + 1 < len(items) else {"role": "user"}
        if _kind(item) == "reasoning" and (_kind(following) in _OUTPUTS or following.get("role") in ("user", "system")):
            yield Refusal(
                f"Item {item.get('id')!r} of type 'reasoning' was provided without its required following item.",
                "continuedev/continue#8933 (2025-11)",
            )
        wanted = re.fullmatch(r"[a-z]+_(\d+r\d+)[a-z]*", item.get("id") or "")
        if wanted and _kind(item) != "reasoning" and f"rs_{wanted[1]}" not in found:
            yield Refusal(
                f"Item {item['id']!r} of type {_kind(item)!r} was provided without its required 'reasoning' item.",
                "continuedev/continue#10018 (2026-01)",
            )


def encrypted_content(accepted: str) -> Check:
    """Encrypted reasoning of another issuer, and an item that was not stored."""

    def check(body: Body) -> Iterator[Refusal]:
        for item in _items(body):
            if _kind(item) != "reasoning":
                continue
            value = item.get("encrypted_content")
            if value is None and body.get("store") is False:
                yield Refusal(
                    f"Item with id {item.get('id')!r} not found. Items are not persisted when `store` is set to false.",
                    "anomalyco/opencode#7724 (2026-01)",
                )
            if value is not None and issuer_of(value) != accepted:
                yield Refusal("The encrypted content could not be verified.", "openai/codex#8145 (2025-12)")

    return check


def names(body: Body) -> Iterator[Refusal]:
    """Function names with undocumented characters."""
    found = [item["name"] for item in _items(body) if _kind(item) in _CALLS]
    found += [tool["name"] for tool in body.get("tools", ()) if tool["type"] == "function"]
    for name in found:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", name):
            yield Refusal(
                f"Invalid 'name' {name!r}: string does not match pattern '^[a-zA-Z0-9_-]+$'",
                "platform.openai.com/docs/api-reference/responses/create",
            )


def schemas_are_objects(body: Body) -> Iterator[Refusal]:
    """Function parameters whose root is not an object."""
    for tool in body.get("tools", ()):
        parameters = tool.get("parameters")
        if tool["type"] == "function" and parameters is not None and parameters.get("type") != "object":
            yield Refusal(
                f"Invalid schema for function {tool['name']!r}: schema must be a JSON Schema of 'type: \"object\"'",
                "chatanywhere/GPT_API_free#403 (2025-06)",
            )


def no_union_at_root(body: Body) -> Iterator[Refusal]:
    """A function whose parameters are a union at their root."""
    for tool in body.get("tools", ()):
        if (tool.get("parameters") or {}).keys() & {"oneOf", "anyOf", "allOf", "enum", "not"}:
            yield Refusal(
                f"Invalid schema for function {tool['name']!r}: schema must have type 'object' and not "
                "have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level.",
                "langchain-ai/langchainjs#9804 (2026-01), nspady/google-calendar-mcp#39 (2025-06)",
            )


def checks(accepted: str) -> tuple[Check, ...]:
    """Return the checks of a server whose encrypted reasoning has this issuer."""
    return (
        sdk_types,
        outputs_match_calls,
        ids,
        reasoning_has_its_item,
        encrypted_content(accepted),
        names,
        schemas_are_objects,
        no_union_at_root,
    )
