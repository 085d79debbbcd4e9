"""The requests that Chat Completions servers refuse. The servers share a wire format but have different rules."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from strict_servers.refusal import Body, Check, Refusal, typed
from strict_servers.seal import issuer_of

SKIP_SIGNATURE = "skip_thought_signature_validator"
"""The placeholder signature that Google documents for a call that Gemini did not make:
ai.google.dev/gemini-api/docs/thought-signatures."""


def _roles(body: Body) -> list[tuple[int, dict[str, Any]]]:
    return list(enumerate(body["messages"]))


def _calls(message: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    return message.get("tool_calls") or ()


def _is_blank(content: object) -> bool:
    if isinstance(content, list):
        return not any(item.get("type") != "text" or item.get("text") for item in content)
    return not content


def sdk_types(body: Body) -> Iterator[Refusal]:
    """Fields that OpenAI's SDK does not know, and values of other types."""
    from openai.types.chat import completion_create_params as params  # slow to import

    streaming = params.CompletionCreateParamsStreaming
    kind = streaming if body.get("stream") else params.CompletionCreateParamsNonStreaming
    yield from typed(body, kind, "openai-python, types/chat/completion_create_params.py")


def messages(body: Body) -> Iterator[Refusal]:
    """An empty conversation."""
    if not body["messages"]:
        yield Refusal("Invalid 'messages': empty array.", "recorded: openai 8958316a20314b53")


def results_follow_calls(body: Body) -> Iterator[Refusal]:
    """A call without a result after it, a result without its call, and two results for one call."""
    source = "charmbracelet/crush#529 (2025-08), xxynet/KiraAI#118 (2026-06)"
    wanted: list[str] = []
    answered: set[str] = set()
    for place, message in [*_roles(body), (len(body["messages"]), {"role": "end"})]:
        if message["role"] == "tool":
            call_id = message["tool_call_id"]
            if call_id in answered:
                yield Refusal(
                    f"Duplicate value for 'tool_call_id' of {call_id!r} in messages[{place}].",
                    "agno-agi/agno#5116 (2025-10), anomalyco/opencode#1211 (2025-07)",
                )
            elif call_id not in wanted:
                yield Refusal(
                    f"messages[{place}]: messages with role 'tool' must be a response to a preceding message with "
                    f"'tool_calls' ({call_id!r})",
                    "prism-php/prism#175 (2025-02), FoundationAgents/OpenManus#744 (2025-03)",
                )
            else:
                wanted.remove(call_id)
                answered.add(call_id)
            continue
        if wanted:
            yield Refusal(
                f"messages[{place}]: an assistant message with 'tool_calls' must be followed by tool messages "
                f"responding to each 'tool_call_id'. These did not have response messages: {', '.join(wanted)}",
                source,
            )
        wanted = [call["id"] for call in _calls(message)]
        answered = set()
        if len(set(wanted)) != len(wanted):
            yield Refusal(f"messages[{place}]: duplicate tool_call_id", "openclaw/openclaw#47136 (2026-03)")


def call_ids(limit: int, source: str) -> Check:
    """Ids that are empty or longer than the server allows, in characters."""

    def check(body: Body) -> Iterator[Refusal]:
        for place, message in _roles(body):
            for call in _calls(message):
                if not 0 < len(call["id"]) <= limit:
                    yield Refusal(
                        f"Invalid 'messages[{place}].tool_calls.id': {call['id']!r}, not 1 to {limit}", source
                    )

    return check


def function_names(body: Body) -> Iterator[Refusal]:
    """Tool names with characters that OpenAI does not document, in the history and in the tools."""
    names = [(call.get("function") or call["custom"])["name"] for _, m in _roles(body) for call in _calls(m)]
    names += [tool["function"]["name"] for tool in body.get("tools", ()) if "function" in tool]
    for name in names:
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name):
            yield Refusal(
                f"Invalid function name {name!r}: string does not match pattern '^[a-zA-Z0-9_-]+$'",
                "platform.openai.com/docs/api-reference/chat/create, tools.function.name",
            )


def schemas_are_objects(body: Body) -> Iterator[Refusal]:
    """Tool parameters whose root is not an object."""
    for tool in body.get("tools", ()):
        parameters = tool.get("function", {}).get("parameters")
        if parameters is not None and parameters.get("type") != "object":
            yield Refusal(
                f"Invalid schema for function {tool['function']['name']!r}: schema must be a JSON Schema of "
                f"'type: \"object\"', got {parameters.get('type')!r}",
                "chatanywhere/GPT_API_free#403 (2025-06)",
            )


def no_union_at_root(body: Body) -> Iterator[Refusal]:
    """OpenAI: a tool whose parameters are a union at their root."""
    for tool in body.get("tools", ()):
        if tool.get("function", {}).get("parameters", {}).keys() & {"oneOf", "anyOf", "allOf", "enum", "not"}:
            yield Refusal(
                f"Invalid schema for function {tool['function']['name']!r}: schema must have type 'object' and not "
                "have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level.",
                "langchain-ai/langchainjs#9804 (2026-01), nspady/google-calendar-mcp#39 (2025-06)",
            )


def content_is_set(body: Body) -> Iterator[Refusal]:
    """`null` as the content of a message without calls, and an empty list of calls."""
    for place, message in _roles(body):
        if message.get("tool_calls") == []:
            yield Refusal(
                f"Invalid 'messages[{place}].tool_calls': empty array. Expected an array with minimum length 1.",
                "home-assistant/core#118577 (2024-05), openai/openai-node#1341 (2025-02)",
            )
        content = message.get("content")
        if content is None and not (_calls(message) or message.get("audio") or message.get("refusal")):
            yield Refusal(
                f"Invalid value for 'messages[{place}].content': expected a string, got null.",
                "openai-python, types/chat/chat_completion_assistant_message_param.py: required unless tool_calls",
            )


def arguments_are_json(status: str) -> Check:
    """Arguments in the history that are not a JSON object. Servers with a chat template decode the arguments."""

    def check(body: Body) -> Iterator[Refusal]:
        for _, message in _roles(body):
            for call in _calls(message):
                try:
                    value = json.loads(call["function"]["arguments"])
                except ValueError:
                    value = None
                if not isinstance(value, dict):
                    yield Refusal(
                        f"Failed to parse tool call arguments as JSON: {call['function']['arguments']!r}", status
                    )

    return check


def known_fields(fields: Mapping[str, str], source: str) -> Check:
    """Fields of a message that the server does not know. `fields` has a role's fields, separated by spaces."""

    def check(body: Body) -> Iterator[Refusal]:
        for place, message in _roles(body):
            role = message["role"]
            if role not in fields:
                yield Refusal(f"messages.{place}: role {role!r} is unsupported", source)
                continue
            for name in message.keys() - set(fields[role].split()):
                yield Refusal(
                    f"'messages.{place}' : for 'role:{role}' the following must be satisfied"
                    f"[('messages.{place}' : property {name!r} is unsupported)]",
                    source,
                )

    return check


def parts_are(kinds: str, source: str) -> Check:
    """Content items of a kind that the server does not support. `kinds` are separated by spaces."""

    def check(body: Body) -> Iterator[Refusal]:
        for place, message in _roles(body):
            content = message.get("content")
            for item in content if isinstance(content, list) else ():
                if item.get("type") not in kinds.split():
                    yield Refusal(f"messages[{place}]: unknown variant `{item.get('type')}`, expected {kinds}", source)

    return check


def reasoning_on_tool_turns(*, empty: bool, source: str) -> Check:
    """A turn with calls but without `reasoning_content`, while the model thinks. If `empty`, an empty text suffices."""

    def check(body: Body) -> Iterator[Refusal]:
        if body.get("thinking", {}).get("type") == "disabled":
            return
        for place, message in _roles(body):
            text = message.get("reasoning_content")
            if _calls(message) and not (isinstance(text, str) and (empty or text)):
                yield Refusal(
                    f"thinking is enabled but reasoning_content is missing in assistant tool call message at index "
                    f"{place}",
                    source,
                )

    return check


def assistant_has_content(source: str) -> Check:
    """An assistant message that has neither content nor calls. An empty text is content."""

    def check(body: Body) -> Iterator[Refusal]:
        for place, message in _roles(body):
            if message["role"] == "assistant" and message.get("content") is None and not _calls(message):
                yield Refusal(f"message {place}: Expected 'content' or 'tool_calls'", source)

    return check


def assistant_message_is_not_empty(source: str, *, calls_suffice: bool = True) -> Check:
    """An assistant message without text. If `calls_suffice`, a message with calls needs no text."""

    def check(body: Body) -> Iterator[Refusal]:
        for place, message in _roles(body):
            excused = calls_suffice and _calls(message)
            if message["role"] == "assistant" and _is_blank(message.get("content")) and not excused:
                yield Refusal(f"the message at position {place} with role 'assistant' must not be empty", source)

    return check


def content_element(body: Body) -> Iterator[Refusal]:
    """xAI: a message without a content element. In a message with calls, an empty text is enough."""
    for place, message in _roles(body):
        content = message.get("content")
        if content is None or content == []:
            yield Refusal(
                f"message {place}: Each message must have at least one content element.",
                "langchain-ai/langchain#34140 (2025-11), AstrBotDevs/AstrBot#6447 (2026-03)",
            )
        elif _is_blank(content) and not _calls(message) and message["role"] != "tool":
            yield Refusal(
                f"message {place}: Every message needs at least one non-empty content element.",
                "langbot-app/LangBot#1205 (2025-03)",
            )


def _current_turn(body: Body) -> list[tuple[int, dict[str, Any]]]:
    """Return the messages after the last user message. Gemini verifies only their signatures."""
    last = max((place for place, message in _roles(body) if message["role"] == "user"), default=-1)
    return [(place, message) for place, message in _roles(body) if place > last]


def _missing_signature(place: int, call: Mapping[str, Any]) -> str:
    name = call["function"]["name"]
    return f"Function call is missing a thought_signature in functionCall parts: `default_api:{name}`, position {place}"


def gemini_signatures(accepted: str) -> Check:
    """Gemini's own endpoint: a missing or foreign signature in the first call of a step of the current turn."""

    def check(body: Body) -> Iterator[Refusal]:
        source = "ai.google.dev/gemini-api/docs/thought-signatures#openai, securo-finance/securo#884 (2026-09)"
        current = {place for place, _ in _current_turn(body)}
        for place, message in _roles(body):
            for number, call in enumerate(_calls(message)):
                value = call.get("extra_content", {}).get("google", {}).get("thought_signature")
                if value is None and number == 0 and place in current:
                    yield Refusal(_missing_signature(place, call), source)
                if value is not None and value != SKIP_SIGNATURE and issuer_of(value) != accepted:
                    yield Refusal("Thought signature is not valid.", source)

    return check


def openrouter_gemini(accepted: str) -> Check:
    """OpenRouter with Gemini 3: a step of the current turn whose reasoning details have no encrypted entry."""

    def check(body: Body) -> Iterator[Refusal]:
        source = "LibreChat-AI/agents#37 (2025-11), RooCodeInc/Roo-Code#10759 (2026-01)"
        current = {place for place, _ in _current_turn(body)}
        for place, message in _roles(body):
            details = message.get("reasoning_details") or ()
            sealed = [item.get("data") for item in details if item.get("type") == "reasoning.encrypted"]
            if _calls(message) and place in current and not sealed:
                yield Refusal(_missing_signature(place, _calls(message)[0]), source)
            for value in sealed:
                if value != SKIP_SIGNATURE and issuer_of(value) != accepted:
                    yield Refusal("Unable to submit request because Thought signature is not valid.", source)

    return check


# Chat templates

Template = Callable[[Sequence[dict[str, Any]]], Iterator[str]]


def devstral(turns: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Devstral: after a system message, user and assistant messages alternate, not counting calls and results."""
    place = 0
    for turn in turns[1:] if turns and turns[0]["role"] == "system" else turns:
        if turn["role"] == "system":
            yield "Only user, assistant and tool roles are supported after the optional system message."
        if turn["role"] == "user" or (turn["role"] == "assistant" and not _calls(turn)):
            if (turn["role"] == "user") != (place % 2 == 0):
                yield (
                    "After the optional system message, conversation roles must alternate user and assistant roles "
                    "except for tool calls and results."
                )
            place += 1


def perplexity(turns: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Perplexity: system messages come first. Then user or tool messages alternate with answers."""
    roles = [turn["role"] for turn in turns]
    while roles and roles[0] == "system":
        del roles[0]
    for before, role in pairwise(["assistant", *roles]):
        if role == "system" or (role == before != "tool") or (before == "tool" and role == "user"):
            yield (
                "After the (optional) system message(s), user or tool message(s) should alternate with assistant "
                "message(s)."
            )


def qwen(turns: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Qwen 3.5: a system message must come first, and there must be a user message."""
    if any(turn["role"] == "system" for turn in turns[1:]):
        yield "System message must be at the beginning."
    if not any(turn["role"] == "user" for turn in turns):
        yield "No user query found in messages."


def ordered(template: Template, source: str) -> Check:
    """Roles in an order that a model's chat template, or the server, refuses."""

    def check(body: Body) -> Iterator[Refusal]:
        for message in template(body["messages"]):
            yield Refusal(message, source)

    return check


_DEVSTRAL = ordered(devstral, "ggml-org/llama.cpp#19851 (2026-02)")
_QWEN = ordered(qwen, "joshuadavidthomas/opencode-agent-memory#11 (2026-04)")

_OPENAI: tuple[Check, ...] = (
    messages,
    results_follow_calls,
    call_ids(40, "agno-agi/agno#5382 (2025-11)"),
    function_names,
    schemas_are_objects,
    content_is_set,
)
_LLAMACPP: tuple[Check, ...] = (
    messages,
    arguments_are_json("OpenHands/software-agent-sdk#2887 (2026-04)"),
    parts_are("text image_url input_audio", "recorded: other 3d46c135bdc5d559"),
    assistant_has_content("ggml-org/llama.cpp#12279 (2025-03), common/chat.cpp: Expected 'content' or 'tool_calls'"),
)
_FIELDS = {"system": "role content name", "user": "role content name", "tool": "role content tool_call_id name"}

CHECKS: Mapping[str, tuple[Check, ...]] = {
    "openai": (sdk_types, *_OPENAI, no_union_at_root),
    "azure": (sdk_types, *_OPENAI, no_union_at_root),
    "deepseek": (
        *_OPENAI,
        known_fields(
            {**_FIELDS, "assistant": "role content name prefix reasoning_content tool_calls"},
            "api-docs.deepseek.com/api/create-chat-completion",
        ),
        parts_are("text", "recorded: deepseek 00722585baeb372d, 0b65ddf43c297bfa, bb75360dd6a9574e"),
        reasoning_on_tool_turns(
            empty=True, source="api-docs.deepseek.com/guides/thinking_mode, earendil-works/pi#3636 (2026-04)"
        ),
    ),
    "kimi": (
        *_OPENAI,
        parts_are("text image_url video_url", "MoonshotAI/kimi-cli#788 (2026-01)"),
        assistant_message_is_not_empty("MoonshotAI/kimi-code#1985 (2026-07)"),
        reasoning_on_tool_turns(
            empty=False, source="earendil-works/pi#4179 (2026-05), theopenco/llmgateway#2093 (2026-04)"
        ),
    ),
    "groq": (
        *_OPENAI,
        known_fields(
            {**_FIELDS, "assistant": "role content name reasoning tool_calls"},
            "janhq/jan#8136 (2026-05), console.groq.com/docs/api-reference#chat-create",
        ),
        parts_are("text image_url document", "console.groq.com/docs/api-reference#chat-create"),
    ),
    "cerebras": (
        *_OPENAI,
        known_fields(
            {**_FIELDS, "assistant": "role content name reasoning tool_calls"},
            "Kilo-Org/kilocode#10375 (2026-05), inference-docs.cerebras.ai",
        ),
        parts_are("text image_url", "inference-docs.cerebras.ai/api-reference/chat-completions"),
    ),
    "xai": (*_OPENAI, content_element),
    "openrouter (gemini)": (*_OPENAI, openrouter_gemini("gemini-3")),
    "google": (*_OPENAI, gemini_signatures("gemini-3")),
    "perplexity": (
        *_OPENAI,
        ordered(perplexity, "perplexityai/api-discussion#265 (2025-04), bieniu/ha-perplexity#117 (2026-04)"),
    ),
    "llama.cpp (devstral)": (*_LLAMACPP, _DEVSTRAL),
    "llama.cpp (qwen)": (*_LLAMACPP, _QWEN),
    "vllm": (messages, arguments_are_json("local-inference-lab/vllm#684 (2026-09)"), _QWEN),
}
"""The checks of each server."""
