"""What the conformance kit needs to know about generateContent, for providers with Gemini's models.

Importing this module requires the extra `testing` of the core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trunkline.authoring.json import dumps
from trunkline.errors import AuthenticationError, RateLimited
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, TokenLogprob, Usage
from trunkline.testing import SSE, WEATHER, Sample, Step, WireFormat

_OSLO, _ROME = ("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})
_USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 14}
_COUNTED = Usage(input_tokens=9, output_tokens=5, total_tokens=14, reasoning_tokens=2)
_HEAD = {"responseId": "r1", "modelVersion": "m"}


def _logprob(text: str, logprob: float, *top: TokenLogprob) -> TokenLogprob:
    return TokenLogprob(token=text, logprob=logprob, top=top)


_LOGPROBS = (
    _logprob("Grüß ", -0.5, _logprob("Grüß ", -0.5), _logprob("Hallo", -1.25)),
    _logprob("Gott", -0.25, _logprob("Gott", -0.25)),
)


def _answer(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **_HEAD, **fields}


def _chunk(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
    return SSE.frame(dumps(_answer(*parts, finish=finish, **fields)), "")


def _with_logprobs(value: dict[str, Any], tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    def one(token: TokenLogprob) -> dict[str, Any]:
        return {"token": token.token, "logProbability": token.logprob}

    value["candidates"][0]["logprobsResult"] = {
        "chosenCandidates": [one(token) for token in tokens],
        "topCandidates": [{"candidates": [one(other) for other in token.top]} for token in tokens],
    }
    return value


def _chunk_with_logprobs(part: dict[str, Any], tokens: Sequence[TokenLogprob], **fields: Any) -> bytes:
    return SSE.frame(dumps(_with_logprobs(_answer(part, **fields), tokens)), "")


def _text(words: str) -> dict[str, Any]:
    return {"text": words}


def _call(index: int, tool: tuple[str, dict[str, str]], **fields: Any) -> dict[str, Any]:
    return {"functionCall": {"id": f"c{index}", "name": tool[0], "args": tool[1]}, **fields}


def _error(message: str) -> bytes:
    return dumps({"error": {"code": 500, "message": message, "status": "INTERNAL"}})


_INVALID_KEY = dumps(
    {
        "error": {
            "code": 400,
            "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT",
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
        }
    }
)


def _steps(body: Any) -> Iterator[Step]:
    for content in body["contents"]:
        has_calls = any("functionCall" in part for part in content["parts"])
        for part in content["parts"]:
            if "functionCall" in part:
                yield Step("call", part["functionCall"]["name"], part["functionCall"]["args"])
            elif "functionResponse" in part:
                yield Step("result", part["functionResponse"]["name"])
            elif not has_calls:
                yield Step("message")


GENERATE_CONTENT = WireFormat(
    framing=SSE,
    steps=_steps,
    merged_options=frozenset({"generationConfig"}),
    finish="STOP",
    finish_reasons={
        "STOP": FinishReason.STOP,
        "MAX_TOKENS": FinishReason.LENGTH,
        "SAFETY": FinishReason.CONTENT_FILTER,
    },
    free_form_fields=frozenset({"args"}),
    unkept_fields=dict.fromkeys(
        (
            f"candidates[].logprobsResult.{place}[]"
            for place in ("chosenCandidates", "topCandidates", "topCandidates[].candidates")
        ),
        "a TokenLogprob has no metadata",
    ),
    error_body=_error,
    error_event=lambda message: SSE.frame(_error(message), ""),
    errors=(
        (SSE.frame(_INVALID_KEY, ""), AuthenticationError),
        (SSE.frame(dumps({"error": {"code": 429, "message": "slow down", "status": "ANY"}}), ""), RateLimited),
    ),
    embeddings=lambda vectors, indexes: dumps({"embeddings": [{"values": vector} for vector in vectors]}),
    samples=(
        Sample(
            name="text",
            frames=(
                _chunk(_text("Grüß "), usageMetadata={"promptTokenCount": 9, "totalTokenCount": 9}),
                _chunk(_text("Gott 🌍")),
                _chunk(_text(""), finish="STOP", usageMetadata=_USAGE),
            ),
            body=dumps(_answer(_text("Grüß Gott 🌍"), finish="STOP", usageMetadata=_USAGE)),
            text="Grüß Gott 🌍",
            usage=_COUNTED,
        ),
        Sample(
            name="thoughts, and a signature on an empty text",
            frames=(
                _chunk({"text": "Let me ", "thought": True}),
                _chunk({"text": "see.", "thought": True}),
                _chunk(_text("Yes.")),
                _chunk({"text": "", "thoughtSignature": "b3BhcXVl"}, finish="STOP", usageMetadata=_USAGE),
            ),
            body=dumps(
                _answer(
                    {"text": "Let me see.", "thought": True},
                    {"text": "Yes.", "thoughtSignature": "b3BhcXVl"},
                    finish="STOP",
                    usageMetadata=_USAGE,
                )
            ),
            reasoning="Let me see.",
            text="Yes.",
            usage=_COUNTED,
        ),
        Sample(
            name="two tool calls",
            request=ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
            frames=(
                _chunk(_call(0, _OSLO, thoughtSignature="b3BhcXVl")),
                _chunk(_call(1, _ROME), finish="STOP", usageMetadata=_USAGE),
            ),
            body=dumps(
                _answer(
                    _call(0, _OSLO, thoughtSignature="b3BhcXVl"), _call(1, _ROME), finish="STOP", usageMetadata=_USAGE
                )
            ),
            tool_calls=(_OSLO, _ROME),
            finish_reason=FinishReason.TOOL_CALLS,
            usage=_COUNTED,
        ),
        Sample(
            name="tool calls without ids",
            request=ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
            frames=(
                _chunk(
                    {"functionCall": {"name": "weather", "args": _OSLO[1]}},
                    {"functionCall": {"name": "weather", "args": _ROME[1]}},
                ),
                _chunk(finish="STOP", usageMetadata=_USAGE),
            ),
            body=dumps(
                _answer(
                    {"functionCall": {"name": "weather", "args": _OSLO[1]}},
                    {"functionCall": {"name": "weather", "args": _ROME[1]}},
                    finish="STOP",
                    usageMetadata=_USAGE,
                )
            ),
            tool_calls=(_OSLO, _ROME),
            finish_reason=FinishReason.TOOL_CALLS,
            usage=_COUNTED,
        ),
        Sample(
            name="a part of tomorrow",
            frames=(
                _chunk({"partOfTomorrow": {"what": "UNHEARD-OF"}}),
                _chunk(_text("Yes."), finish="STOP", usageMetadata=_USAGE),
            ),
            body=dumps(
                _answer({"partOfTomorrow": {"what": "UNHEARD-OF"}}, _text("Yes."), finish="STOP", usageMetadata=_USAGE)
            ),
            text="Yes.",
            usage=_COUNTED,
            kept=("partOfTomorrow", "UNHEARD-OF"),
        ),
        Sample(
            name="log probabilities",
            frames=(
                _chunk_with_logprobs(_text("Grüß "), _LOGPROBS[:1]),
                _chunk_with_logprobs(_text("Gott"), _LOGPROBS[1:], finish="STOP", usageMetadata=_USAGE),
            ),
            body=dumps(_with_logprobs(_answer(_text("Grüß Gott"), finish="STOP", usageMetadata=_USAGE), _LOGPROBS)),
            text="Grüß Gott",
            usage=_COUNTED,
            logprobs=_LOGPROBS,
        ),
        Sample(
            name="code that is run: its chunk has a finish reason too",
            frames=(
                _chunk({"executableCode": {"code": "6*7", "language": "PYTHON"}}, finish="STOP", usageMetadata=_USAGE),
                _chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42"}}),
                _chunk(_text("42."), finish="STOP", usageMetadata=_USAGE),
            ),
            body=dumps(
                _answer(
                    {"executableCode": {"code": "6*7", "language": "PYTHON"}},
                    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42"}},
                    _text("42."),
                    finish="STOP",
                    usageMetadata=_USAGE,
                )
            ),
            text="42.",
            usage=_COUNTED,
        ),
    ),
)

# The signature that Google documents for a call of another model: base64 of skip_thought_signature_validator.
_UNSIGNED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="

JSON_TYPE = {"content-type": "application/json"}
"""The headers of a request with a body."""

HISTORY_BODY: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "What is the weather in Oslo and in Rome?"}]},
        {
            "role": "model",
            "parts": [
                {"text": "I will look."},
                {
                    "functionCall": {"id": "abcdefgh1", "name": "weather", "args": {"city": "Oslo"}},
                    "thoughtSignature": _UNSIGNED,
                },
                {"functionCall": {"id": "abcdefgh2", "name": "weather", "args": {"city": "Rome"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "abcdefgh1", "name": "weather", "response": {"output": "Sun"}}},
                {"functionResponse": {"id": "abcdefgh2", "name": "weather", "response": {"error": "Down"}}},
            ],
        },
        {"role": "model", "parts": [{"text": "Sun in Oslo."}]},
        {"role": "user", "parts": [{"text": "Thanks."}]},
    ],
    "tools": [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "Tells the weather.",
                    "parametersJsonSchema": WEATHER.parameters,
                }
            ]
        }
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
    "generationConfig": {
        "maxOutputTokens": 4321,
        "temperature": 0.25,
        "topP": 0.75,
        "topK": 37,
        "seed": 8765,
        "frequencyPenalty": 0.5,
        "presencePenalty": 1.0,
        "stopSequences": ["END"],
    },
}
"""The body of `TOOL_HISTORY`."""
