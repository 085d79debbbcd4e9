"""The requests that Gemini's generateContent refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pydantic

from strict_servers.refusal import Body, Check, Refusal
from strict_servers.seal import issuer_of

SKIP_SIGNATURES = ("skip_thought_signature_validator", "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=")
"""The documented text, and its bytes in base64 as Google's Python SDK sends them (pydantic-ai 2.68, tried in 2026)."""
_SIGNATURES = "ai.google.dev/gemini-api/docs/thought-signatures"
_TURNS = "google-gemini/gemini-cli#11814 (2025-10), quarkiverse/quarkus-langchain4j#1271 (2025-02)"
_DATA = (
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult",
    "toolCall", "toolResponse",
)  # fmt: skip


@cache
def _types() -> dict[str, pydantic.TypeAdapter[Any]]:
    from google.genai import types  # slow to import

    return {
        "contents": pydantic.TypeAdapter(list[types.Content]),
        "systemInstruction": pydantic.TypeAdapter(types.Content),
        "tools": pydantic.TypeAdapter(list[types.Tool]),
        "toolConfig": pydantic.TypeAdapter(types.ToolConfig),
        "generationConfig": pydantic.TypeAdapter(types.GenerationConfig),
    }


def sdk_types(body: Body) -> Iterator[Refusal]:
    """Fields that Google's SDK does not know, and values of other types."""
    for name, value in body.items():
        if name not in (known := _types()):
            if name not in ("safetySettings", "cachedContent", "labels", "serviceTier", "store"):
                yield Refusal(f"Invalid JSON payload received. Unknown name {name!r}", "google-genai, types.py")
            continue
        try:
            known[name].validate_json(pydantic.TypeAdapter(Any).dump_json(value))
        except pydantic.ValidationError as error:
            found = error.errors(include_url=False)[0]
            place = ".".join(map(str, (name, *found["loc"])))
            yield Refusal(f"{place}: {found['msg']} ({str(found.get('input'))[:80]})", "google-genai, types.py")


def _turns(body: Body) -> list[tuple[int, str, list[dict[str, Any]]]]:
    return [(place, turn.get("role", "user"), turn["parts"]) for place, turn in enumerate(body["contents"])]


def parts(body: Body) -> Iterator[Refusal]:
    """Turns without parts, and parts without data. An empty text counts as no data."""
    if not body["contents"]:
        yield Refusal("contents is not specified", "ai.google.dev/api/generate-content")
    system = body.get("systemInstruction", {}).get("parts", [])
    for place, _, items in [*_turns(body), (-1, "system", system)]:
        if not items and place >= 0:
            yield Refusal(
                f"GenerateContentRequest.contents[{place}].parts: contents.parts must not be empty.",
                "egoist/chatwise-releases#250 (2025-02)",
            )
        for number, part in enumerate(items):
            data = [name for name in _DATA if name in part and part[name] != ""]
            if len(data) != 1 and not ("text" in part and "thoughtSignature" in part):
                yield Refusal(
                    f"GenerateContentRequest.contents[{place}].parts[{number}].data: required oneof field 'data' must "
                    f"have one initialized field, not {data}",
                    "router-for-me/CLIProxyAPI#1292 (2026-01)",
                )


def function_turns(body: Body) -> Iterator[Refusal]:
    """Calls and responses in a wrong order or of different numbers, and other parts next to responses."""
    turns = _turns(body)
    if turns and turns[0][1] != "user":
        yield Refusal("Please ensure that multiturn requests start with a user turn.", _TURNS)
    for number, (place, role, items) in enumerate(turns):
        calls = [part["functionCall"] for part in items if "functionCall" in part]
        responses = [part["functionResponse"] for part in items if "functionResponse" in part]
        before = turns[number - 1] if number else None
        if calls and (before is None or before[1] != "user"):
            yield Refusal(
                f"contents[{place}]: Please ensure that function call turn comes immediately after a user turn or "
                "after a function response turn.",
                _TURNS,
            )
        following = turns[number + 1][2] if number + 1 < len(turns) else []
        answers = [part["functionResponse"] for part in following if "functionResponse" in part]
        if calls and len(answers) != len(calls):
            yield Refusal(
                f"contents[{place}]: Please ensure that the number of function response parts is equal to the number "
                "of function call parts of the function call turn.",
                "microsoft/vscode#299295 (2026-03)",
            )
        if calls and [call["name"] for call in calls] != [answer["name"] for answer in answers]:
            yield Refusal(f"contents[{place}]: the names of responses differ from those of their calls", _TURNS)
        if calls and [call.get("id") for call in calls] != [answer.get("id") for answer in answers]:
            yield Refusal(f"contents[{place}]: the ids of responses differ from those of their calls", _TURNS)
        if responses and (before is None or not any("functionCall" in part for part in before[2])):
            yield Refusal(
                f"contents[{place}]: Please ensure that function response turn comes immediately after a function call "
                "turn.",
                _TURNS,
            )
        if responses and len(responses) != len(items):
            yield Refusal(
                f"contents[{place}]: a function response turn must contain only function responses",
                "anomalyco/opencode#43479 (2026-08)",
            )
        for call in calls:
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}", call["name"]):
                yield Refusal(
                    f"contents[{place}]: Invalid function name {call['name']!r}",
                    "google-genai, types.py: FunctionDeclaration.name",
                )
        if role not in ("user", "model"):
            yield Refusal("Please use a valid role: user, model.", "ai.google.dev/api/caching#Content")


def signatures(accepted: str, *, required: bool) -> Check:
    """Signatures of another issuer. If `required` (Gemini 3), also calls of the current turn without one."""

    def check(body: Body) -> Iterator[Refusal]:
        turns = _turns(body)
        asked = [place for place, role, items in turns if role == "user" and any("text" in part for part in items)]
        for place, role, items in turns:
            for part in items:
                value = part.get("thoughtSignature")
                if value is not None and value not in SKIP_SIGNATURES and issuer_of(value) != accepted:
                    yield Refusal(f"contents[{place}]: Corrupted thought signature.", "massgen/MassGen#665 (2025-12)")
            first = next((part for part in items if "functionCall" in part), None)
            current = required and role == "model" and place > max(asked, default=-1)
            if current and first is not None and "thoughtSignature" not in first:
                name = first["functionCall"]["name"]
                yield Refusal(
                    "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                    f"work correctly. function call `default_api:{name}`, position {place}.",
                    _SIGNATURES,
                )

    return check


def image_signatures(body: Body) -> Iterator[Refusal]:
    """Gemini 3's image models: a picture made by the model, without a signature."""
    for place, role, items in _turns(body):
        for number, part in enumerate(items):
            if role == "model" and "inlineData" in part and "thoughtSignature" not in part and not part.get("thought"):
                yield Refusal(
                    f"Image part is missing a thought_signature in content position {place}, part position {number}.",
                    "archestra-ai/archestra#2548 (2026-01), langchain-ai/langchain-google#1431 (2025-12)",
                )


def no_media_in_responses(body: Body) -> Iterator[Refusal]:
    """Models before Gemini 3: media in a function response."""
    for place, _, items in _turns(body):
        if any(part.get("functionResponse", {}).get("parts") for part in items):
            yield Refusal(
                f"contents[{place}]: Multimodal function responses are not supported by this model.",
                "ai.google.dev/gemini-api/docs/function-calling#multimodal",
            )


_EVERY: tuple[Check, ...] = (sdk_types, parts, function_turns)
CHECKS: dict[str, tuple[Check, ...]] = {
    "gemini-2.5": (*_EVERY, signatures("gemini-2.5", required=False), no_media_in_responses),
    "gemini-3": (*_EVERY, signatures("gemini-3", required=True)),
    "gemini-3 (images)": (*_EVERY, signatures("gemini-3", required=True), image_signatures),
}
"""The checks of each family."""
