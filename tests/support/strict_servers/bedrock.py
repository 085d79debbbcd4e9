"""The requests that Bedrock's Converse refuses: by botocore's service model, for all models, and by model family."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any

from strict_servers.anthropic import calling
from strict_servers.refusal import Body, Check, Refusal
from strict_servers.seal import issuer_of

_API = "docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html"


@cache
def _input_shape() -> Any:
    from botocore.session import Session  # slow to import

    model = Session().get_service_model("bedrock-runtime").operation_model("ConverseStream")
    return model.input_shape


def _checked(value: Any, shape: Any, where: str, problems: list[str]) -> Any:
    """Return the value in botocore's form, with bytes for base64. Note problems that botocore does not check."""
    kind = shape.type_name
    if kind == "structure" and not getattr(shape, "is_document_type", False) and isinstance(value, dict):
        if shape.is_tagged_union and len(value) != 1:
            problems.append(f"{where} must have exactly one of its members, not {sorted(value)}")
        known = {key: item for key, item in value.items() if key in shape.members}
        problems += [f"{where} has unknown members {unknown}" for unknown in [sorted(value.keys() - known)] if unknown]
        return {key: _checked(item, shape.members[key], f"{where}.{key}", problems) for key, item in known.items()}
    if kind == "list" and isinstance(value, list):
        return [_checked(item, shape.member, f"{where}.{place}", problems) for place, item in enumerate(value)]
    if kind == "blob":
        return b64decode(value)
    if kind == "string" and isinstance(value, str):
        if shape.enum and value not in shape.enum:
            problems.append(f"{where}: {value!r} is not one of {shape.enum}")
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(pattern, value):
            problems.append(f"{where}: {value!r} does not match {pattern}")
        if len(value) > shape.metadata.get("max", len(value)):
            problems.append(f"{where}: {value!r} is longer than {shape.metadata['max']}")
    return value


def botocore_form(body: Body) -> Body:
    """Return a body in the form that botocore takes, with bytes for base64."""
    form: Body = _checked(body, _input_shape(), "body", [])
    return form


def service_model(body: Body) -> Iterator[Refusal]:
    """Requests that botocore refuses to send: unknown members, and wrong types, lengths, patterns and enum values."""
    from botocore.validate import ParamValidator  # slow to import

    problems: list[str] = []
    params = {"modelId": "m", **_checked(body, _input_shape(), "body", problems)}
    report = ParamValidator().validate(params, _input_shape())
    if report.has_errors():
        problems.append(report.generate_report())
    for problem in problems:
        yield Refusal(problem, "botocore, data/bedrock-runtime/2023-09-30/service-2.json")


def _turns(body: Body) -> list[tuple[int, str, list[dict[str, Any]]]]:
    return [(place, message["role"], message["content"]) for place, message in enumerate(body["messages"])]


def _inner(blocks: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [block[kind] for block in blocks if kind in block]


def roles(body: Body) -> Iterator[Refusal]:
    """Two turns of one role."""
    turns = _turns(body)
    for (_, before, _), (place, role, _) in pairwise(turns):
        if role == before:
            yield Refusal(
                f"messages.{place}: A conversation must alternate between user and assistant roles.",
                "microsoft/semantic-kernel#10281 (2025-03), cline/cline#431 (2024-10)",
            )


def starts_with_user(body: Body) -> Iterator[Refusal]:
    """A conversation that starts with an answer, which only Claude accepts."""
    if not body["messages"] or body["messages"][0]["role"] != "user":
        yield Refusal("A conversation must start with a user message.", "docs: conversation-inference-call.html")


def texts(body: Body) -> Iterator[Refusal]:
    """Blank texts, and turns and results without content."""
    system = [(-1, "system", body.get("system", []))]
    for place, role, blocks in [*_turns(body), *system]:
        if not blocks and role != "system":
            yield Refusal(f"The content field in the Message object at messages.{place} is empty.", _API)
        results = [block for result in _inner(blocks, "toolResult") for block in result["content"]]
        for block in [*blocks, *results]:
            if "text" in block and not block["text"].strip():
                yield Refusal(
                    f"The text field in the ContentBlock object at messages.{place}.content is blank.",
                    "langchain-ai/langchain-aws#403 (2025-03), earendil-works/pi#4975 (2026-05)",
                )
        for result in _inner(blocks, "toolResult"):
            if not result["content"]:
                yield Refusal(
                    f"The content field in the ToolResultBlock object at messages.{place} is empty.",
                    "aws-samples/sample-multi-agent-orchestration#15 (2026-06)",
                )


def tool_use(body: Body) -> Iterator[Refusal]:
    """Calls and results that do not match, repeated ids, and a history of calls without `toolConfig`."""
    wanted: list[str] = []
    for place, _, blocks in [*_turns(body), (len(body["messages"]), "end", [])]:
        results = [result["toolUseId"] for result in _inner(blocks, "toolResult")]
        calls = [call["toolUseId"] for call in _inner(blocks, "toolUse")]
        if missing := [call for call in wanted if call not in results]:
            yield Refusal(
                f"Expected toolResult blocks at messages.{place}.content for the following Ids: {', '.join(missing)}",
                "NousResearch/hermes-agent#108584 (2026-09)",
            )
        if [result for result in results if result not in wanted]:
            yield Refusal(
                f"The number of toolResult blocks at messages.{place}.content exceeds the number of toolUse blocks of "
                "previous turn.",
                "pydantic/pydantic-ai#2327 (2025-07), strands-agents/harness-sdk#1435 (2026-01)",
            )
        for name, ids in (("toolUse", calls), ("toolResult", results)):
            if len(set(ids)) != len(ids):
                yield Refusal(
                    f"The {name} blocks at messages.{place}.content contain duplicate Ids: {ids}",
                    "BerriAI/litellm#20047 (2026-01), double16/Cyber-AutoAgent-ng#27 (2026-03)",
                )
        if (calls or results) and not body.get("toolConfig", {}).get("tools"):
            yield Refusal(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks.",
                "langgenius/dify#17545 (2025-04)",
            )
        wanted = calls


def tools(body: Body) -> Iterator[Refusal]:
    """Tool schemas whose root is not an object."""
    for place, tool in enumerate(body.get("toolConfig", {}).get("tools", ())):
        schema = tool.get("toolSpec", {}).get("inputSchema", {}).get("json")
        if schema is not None and schema.get("type") != "object":
            yield Refusal(
                f"The value at toolConfig.tools.{place}.toolSpec.inputSchema.json.type must be one of: object.",
                "earendil-works/pi#8279 (2026-08), aaif-goose/goose#5064 (2025-10)",
            )


def documents(body: Body) -> Iterator[Refusal]:
    """Names of documents that repeat or have other characters, and a document without a text next to it."""
    names = [document["name"] for _, _, blocks in _turns(body) for document in _inner(blocks, "document")]
    if len(set(names)) != len(names):
        yield Refusal("Messages contain duplicate document names.", "zendev-sh/goai#5 (2026-03)")
    for place, _, blocks in _turns(body):
        if _inner(blocks, "document") and not _inner(blocks, "text"):
            yield Refusal(f"messages.{place}: a text is required next to a document.", _API)


def no_reasoning(source: str) -> Check:
    """Reasoning, which the family refuses."""

    def check(body: Body) -> Iterator[Refusal]:
        for place, _, blocks in _turns(body):
            if _inner(blocks, "reasoningContent"):
                yield Refusal(
                    f"messages.{place}: User messages cannot contain reasoning content. Please remove the reasoning "
                    "content and try again.",
                    source,
                )

    return check


def no_signature(body: Body) -> Iterator[Refusal]:
    """A signature in reasoning, which only Claude accepts."""
    for place, _, blocks in _turns(body):
        for block in _inner(blocks, "reasoningContent"):
            if "signature" in block.get("reasoningText", {}) or "redactedContent" in block:
                yield Refusal(
                    f"messages.{place}: This model doesn't support the reasoningContent.reasoningText.signature field.",
                    "earendil-works/pi#686 (2026-01)",
                )


def claude_signatures(body: Body) -> Iterator[Refusal]:
    """Reasoning that Claude did not sign, and reasoning at the end of a turn."""
    for place, _, blocks in _turns(body):
        for block in _inner(blocks, "reasoningContent"):
            text = block.get("reasoningText")
            value = text.get("signature") if text is not None else block.get("redactedContent")
            if issuer_of(value) != "claude":
                yield Refusal(
                    f"messages.{place}: Invalid `signature` in `thinking` block",
                    "UKGovernmentBEIS/inspect_ai#5300 (2026-09)",
                )
        if blocks and "reasoningContent" in blocks[-1]:
            yield Refusal(
                f"messages.{place}: The final block in an assistant message cannot be `thinking`.",
                "tailcallhq/forgecode#2107 (2025-12)",
            )


def claude_ids(body: Body) -> Iterator[Refusal]:
    """Ids that Claude refuses although Converse accepts them."""
    for place, _, blocks in _turns(body):
        for call in _inner(blocks, "toolUse"):
            if not re.fullmatch(r"[a-zA-Z0-9_-]+", call["toolUseId"]):
                yield Refusal(
                    f"messages.{place}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'",
                    "earendil-works/pi#781 (2026-01)",
                )


def claude_calls_last(body: Body) -> Iterator[Refusal]:
    """Anything but calls after a call of the same turn."""
    for place, _, blocks in _turns(body):
        kinds = ["toolUse" in block for block in blocks]
        if kinds != sorted(kinds):
            yield Refusal(
                f"messages.{place}: `tool_use` ids were found without `tool_result` blocks immediately after",
                "vercel/ai#13013 (2026-03), anomalyco/opencode#7002 (2026-01)",
            )


def claude_thinking(body: Body) -> Iterator[Refusal]:
    """Thinking with a budget, in a loop of tool calls that began without reasoning."""
    thinking = body.get("additionalModelRequestFields", {}).get("thinking", {})
    loop = calling([(role, blocks) for _, role, blocks in _turns(body)], lambda block: "toolResult" in block)
    if thinking.get("type") != "enabled" or not loop:
        return
    if not any("reasoningContent" in blocks[0] for blocks in (loop[0], loop[-1])):
        yield Refusal(
            "messages.content.0.type: Expected `thinking` or `redacted_thinking`. When `thinking` is enabled, a final "
            "`assistant` message must start with a thinking block",
            "langgenius/dify-official-plugins#1672 (2025-09)",
        )


def no_tools(body: Body) -> Iterator[Refusal]:
    """Tools and tool calls, which some models do not support."""
    if "toolConfig" in body or any("toolUse" in block for _, _, blocks in _turns(body) for block in blocks):
        yield Refusal("This model doesn't support tool use.", "recorded: bedrock-converse ba84953e175dc98a")


def results_alone(source: str) -> Check:
    """Anything next to a tool result."""

    def check(body: Body) -> Iterator[Refusal]:
        for place, _, blocks in _turns(body):
            if 0 < len(_inner(blocks, "toolResult")) < len(blocks):
                yield Refusal(
                    f"messages.{place}.content: Conversation blocks and tool result blocks cannot be provided in the "
                    "same turn.",
                    source,
                )

    return check


_CLAUDE: tuple[Check, ...] = (service_model, roles, texts, tool_use, tools, documents)
_EVERY: tuple[Check, ...] = (*_CLAUDE, starts_with_user)
_REASONING = "earendil-works/pi#727 (2026-01), zed-industries/zed#32341 (2025-06)"

CHECKS: Mapping[str, tuple[Check, ...]] = {
    "claude": (*_CLAUDE, claude_signatures, claude_ids, claude_calls_last, claude_thinking),
    "nova": (*_EVERY, no_reasoning(_REASONING)),
    "deepseek": (
        *_EVERY,
        no_tools,
        no_reasoning("langchain-ai/langchain-aws#401 (2025-03), zed-industries/zed#32341 (2025-06)"),
    ),
    "gpt-oss": (*_EVERY, no_signature),
    "llama": (
        *_EVERY,
        no_reasoning(_REASONING),
        results_alone("strands-agents/harness-sdk#1223 (2025-11), langchain-ai/langchain-aws#141 (2024-08)"),
    ),
    "mistral": (
        *_EVERY,
        no_reasoning(_REASONING),
        results_alone("strands-agents/harness-sdk#1223 (2025-11), langchain-ai/langchain-aws#141 (2024-08)"),
    ),
}
"""The checks of each family."""
