"""The requests that Anthropic's Messages API and servers compatible with it refuse."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from strict_servers.refusal import Body, Check, Refusal, typed
from strict_servers.seal import issuer_of

_THINKING = ("thinking", "redacted_thinking")
_TOOL_USE = "docs: build-with-claude/tool-use, handling tool use and tool result content blocks"


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _turns(body: Body) -> Iterator[tuple[int, dict[str, Any], list[dict[str, Any]]]]:
    for place, message in enumerate(body["messages"]):
        yield place, message, _blocks(message)


def sdk_types(body: Body) -> Iterator[Refusal]:
    """Fields that Anthropic's SDK does not know, and values of other types."""
    from anthropic.types.message_create_params import MessageCreateParams  # slow to import

    yield from typed(body, MessageCreateParams, "anthropic-sdk-python, types/message_create_params.py")


def roles(body: Body) -> Iterator[Refusal]:
    """A conversation that does not start with the user."""
    if not body["messages"] or body["messages"][0]["role"] != "user":
        yield Refusal('messages: first message must use the "user" role', "docs: api/messages")


def tool_use(body: Body) -> Iterator[Refusal]:
    """Calls and results that do not match, or are not in the order that the API requires."""
    seen: set[str] = set()
    wanted: list[str] = []
    for place, message, blocks in [*_turns(body), (-1, {"role": "end"}, [])]:
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if missing := [call for call in wanted if call not in results]:
            yield Refusal(
                f"messages.{place}: `tool_use` ids were found without `tool_result` blocks immediately after: "
                f"{', '.join(missing)}",
                "lidge-jun/opencodex#620 (2026-07)",
            )
        for call in results:
            if call not in wanted:
                yield Refusal(
                    f"messages.{place}: unexpected `tool_use_id` found in `tool_result` blocks: {call}", _TOOL_USE
                )
        if len(set(results)) != len(results):
            yield Refusal(f"messages.{place}: each tool_use must have a single result.", _TOOL_USE)
        kinds = [block["type"] == "tool_result" for block in blocks]
        if message["role"] == "user" and kinds != sorted(kinds, reverse=True):
            yield Refusal(f"messages.{place}: tool_result blocks must come first in the content", _TOOL_USE)
        wanted = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for call in wanted:
            if call in seen:
                yield Refusal(f"messages.{place}: `tool_use` ids must be unique", "trycua/cua#524 (2025-10)")
            seen.add(call)
            if not re.fullmatch(r"[a-zA-Z0-9_-]+", call):
                yield Refusal(
                    f"messages.{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$' ({call!r})",
                    "anomalyco/opencode#1279 (2025-07)",
                )
        for block in blocks:
            name = block.get("name")
            if block["type"] == "tool_use" and not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", str(name)):
                pattern = "^[a-zA-Z0-9_-]{1,128}$"
                yield Refusal(
                    f"messages.{place}.tool_use.name: String should match pattern '{pattern}' ({name!r})",
                    "docs: api/messages, tools.name",
                )


def calls_last(body: Body) -> Iterator[Refusal]:
    """Anything but calls after a call of the same turn. In that case the API does not find the result."""
    for place, message, blocks in _turns(body):
        kinds = [block["type"] == "tool_use" for block in blocks]
        if message["role"] == "assistant" and kinds != sorted(kinds):
            yield Refusal(
                f"messages.{place}: `tool_use` ids were found without `tool_result` blocks immediately after",
                "vercel/ai#13013 (2026-03), anomalyco/opencode#7002 (2026-01)",
            )


def texts(body: Body) -> Iterator[Refusal]:
    """Blank texts, empty contents, and white space at the end of the last assistant message."""
    for place, message, blocks in _turns(body):
        last = place == len(body["messages"]) - 1
        if not blocks:
            yield Refusal(
                f"messages.{place}: all messages must have non-empty content except for the optional final assistant "
                "message",
                "anthropics/claude-code#6774 (2025-08)",
            )
        inner = [item for block in blocks for item in _inner(block)]
        for block in [*blocks, *inner]:
            if block["type"] == "text" and not block["text"].strip():
                yield Refusal(
                    f"messages.{place}: text content blocks must contain non-whitespace text",
                    "home-assistant/core#175637 (2026-07)",
                )
        final = blocks[-1] if blocks else {"type": "none"}
        if (
            message["role"] == "assistant"
            and last
            and final["type"] == "text"
            and final["text"] != final["text"].rstrip()
        ):
            yield Refusal(
                "messages: final assistant content cannot end with trailing whitespace",
                "tailcallhq/forgecode#1872 (2025-11)",
            )
    system = body.get("system")
    for block in system if isinstance(system, list) else ():
        if not block["text"].strip():
            yield Refusal("system: text content blocks must be non-empty", "home-assistant/core#175637 (2026-07)")


def calling(
    turns: list[tuple[str, list[dict[str, Any]]]], is_result: Callable[[dict[str, Any]], bool]
) -> list[list[dict[str, Any]]]:
    """Return the blocks of the assistant messages of the tool loop that a conversation ends in, the last one first."""
    found: list[list[dict[str, Any]]] = []
    place = len(turns) - 1
    while place > 0 and turns[place][0] == "user" and any(map(is_result, turns[place][1])):
        found.append(turns[place - 1][1])
        place -= 2
    return found


def _inner(block: dict[str, Any]) -> list[dict[str, Any]]:
    content = block.get("content")
    return content if block["type"] == "tool_result" and isinstance(content, list) else []


def no_prefill(body: Body) -> Iterator[Refusal]:
    """An assistant message at the end, which models since 4.6 refuse."""
    if body["messages"] and body["messages"][-1]["role"] == "assistant":
        yield Refusal(
            "This model does not support assistant message prefill. The conversation must end with a user message.",
            "recorded: anthropic a07877c50f3d868d",
        )


def signatures(*accepted: str) -> Check:
    """Thinking without a signature of this issuer, or at the end of a turn."""

    def check(body: Body) -> Iterator[Refusal]:
        source = "docs: build-with-claude/extended-thinking, preserving thinking blocks"
        for place, message, blocks in _turns(body):
            for block in blocks:
                value = block.get("signature") if block["type"] == "thinking" else block.get("data")
                if block["type"] in _THINKING and issuer_of(value) not in accepted:
                    yield Refusal(f"messages.{place}: Invalid `signature` in `thinking` block", source)
            if message["role"] == "assistant" and blocks and blocks[-1]["type"] in _THINKING:
                yield Refusal(
                    f"messages.{place}: The final block in an assistant message cannot be `thinking`.",
                    "tailcallhq/forgecode#2107 (2025-12)",
                )

    return check


def thinking_on_tool_turns(body: Body) -> Iterator[Refusal]:
    """Thinking with a budget, in a loop of tool calls that began without thinking.

    The first or the last assistant message of the loop must begin with thinking. Claude need not think between calls.
    """
    thinking = body.get("thinking", {})
    if thinking.get("type") != "enabled" or not body["messages"]:
        return
    if body["max_tokens"] <= thinking["budget_tokens"]:
        yield Refusal(
            "`max_tokens` must be greater than `thinking.budget_tokens`", "recorded: anthropic 617c2ca7bcdb7393"
        )
    loop = calling(
        [(message["role"], blocks) for _, message, blocks in _turns(body)], lambda block: block["type"] == "tool_result"
    )
    if loop and not any(blocks[0]["type"] in _THINKING for blocks in (loop[0], loop[-1])):
        yield Refusal(
            f"messages.content.0.type: Expected `thinking` or `redacted_thinking`, but found `{loop[0][0]['type']}`. "
            "When `thinking` is enabled, a final `assistant` message must start with a thinking block",
            "langgenius/dify-official-plugins#1672 (2025-09)",
        )


def tools(body: Body) -> Iterator[Refusal]:
    """Tool schemas whose root is not an object."""
    for place, tool in enumerate(body.get("tools", ())):
        schema = tool.get("input_schema")
        if schema is not None and schema.get("type") != "object":
            yield Refusal(
                f"tools.{place}.custom.input_schema.type: Field required", "recorded: anthropic 40abb9b2e7015c21"
            )
        if schema is not None and schema.keys() & {"oneOf", "allOf", "anyOf"}:
            yield Refusal(
                f"tools.{place}.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top "
                "level",
                "anthropics/claude-code#5973 (2025-08), anomalyco/opencode#37916 (2026-07)",
            )


def thinking_on_every_tool_turn(body: Body) -> Iterator[Refusal]:
    """Kimi and DeepSeek: a turn with calls but without thinking. Their thinking has no signature."""
    if body.get("thinking", {}).get("type") == "disabled":
        return
    for place, message, blocks in _turns(body):
        kinds = {block["type"] for block in blocks}
        if message["role"] == "assistant" and "tool_use" in kinds and "thinking" not in kinds:
            yield Refusal(
                f"thinking is enabled but reasoning_content is missing in assistant tool call message at index {place}",
                "NousResearch/hermes-agent#14018 (2026-04), decolua/9router#2397 (2026-07)",
            )


CLAUDE: tuple[Check, ...] = (
    sdk_types,
    roles,
    tool_use,
    calls_last,
    texts,
    signatures("claude"),
    thinking_on_tool_turns,
    tools,
)
"""Anthropic's own models."""

COMPATIBLE: tuple[Check, ...] = (roles, tool_use, texts, tools, thinking_on_every_tool_turn)
"""Kimi and DeepSeek, through their endpoints for Anthropic clients."""
