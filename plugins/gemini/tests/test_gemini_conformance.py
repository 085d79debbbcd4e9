"""The conformance kit, over generateContent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from trunkline.authoring.json import dumps
from trunkline.authoring.wire import WireRequest
from trunkline.errors import AuthenticationError, RateLimited
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, ModelInfo, TokenLogprob, Usage
from trunkline.testing import (
    EMBED_DIMENSIONS,
    EMBED_TEXTS,
    SSE,
    TOOL_HISTORY,
    WEATHER,
    ProviderTests,
    Sample,
    Step,
    WireFormat,
    canary,
)

OSLO, ROME = ("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})
USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 14}
COUNTED = Usage(input_tokens=9, output_tokens=5, total_tokens=14, reasoning_tokens=2)
HEAD = {"responseId": "r1", "modelVersion": "m"}
LOGPROBS = (
    TokenLogprob(
        token="Grüß ",
        logprob=-0.5,
        top=(TokenLogprob(token="Grüß ", logprob=-0.5), TokenLogprob(token="Hallo", logprob=-1.25)),
    ),
    TokenLogprob(token="Gott", logprob=-0.25, top=(TokenLogprob(token="Gott", logprob=-0.25),)),
)


def answer(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], **HEAD, **fields}


def chunk(*parts: dict[str, Any], finish: str | None = None, **fields: Any) -> bytes:
    return SSE.frame(dumps(answer(*parts, finish=finish, **fields)), "")


def with_logprobs(value: dict[str, Any], tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    def one(token: TokenLogprob) -> dict[str, Any]:
        return {"token": token.token, "logProbability": token.logprob}

    value["candidates"][0]["logprobsResult"] = {
        "chosenCandidates": [one(token) for token in tokens],
        "topCandidates": [{"candidates": [one(other) for other in token.top]} for token in tokens],
    }
    return value


def chunk_with_logprobs(part: dict[str, Any], tokens: Sequence[TokenLogprob], **fields: Any) -> bytes:
    return SSE.frame(dumps(with_logprobs(answer(part, **fields), tokens)), "")


def text(words: str) -> dict[str, Any]:
    return {"text": words}


def call(index: int, tool: tuple[str, dict[str, str]], **fields: Any) -> dict[str, Any]:
    return {"functionCall": {"id": f"c{index}", "name": tool[0], "args": tool[1]}, **fields}


def error(message: str) -> bytes:
    return dumps({"error": {"code": 500, "message": message, "status": "INTERNAL"}})


INVALID_KEY = dumps(
    {
        "error": {
            "code": 400,
            "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT",
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
        }
    }
)


def steps(body: Any) -> Iterator[Step]:
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
    steps=steps,
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
    error_body=error,
    error_event=lambda message: SSE.frame(error(message), ""),
    errors=(
        (SSE.frame(INVALID_KEY, ""), AuthenticationError),
        (SSE.frame(dumps({"error": {"code": 429, "message": "slow down", "status": "ANY"}}), ""), RateLimited),
    ),
    embeddings=lambda vectors, indexes: dumps({"embeddings": [{"values": vector} for vector in vectors]}),
    samples=(
        Sample(
            name="text",
            frames=(
                chunk(text("Grüß "), usageMetadata={"promptTokenCount": 9, "totalTokenCount": 9}),
                chunk(text("Gott 🌍")),
                chunk(text(""), finish="STOP", usageMetadata=USAGE),
            ),
            body=dumps(answer(text("Grüß Gott 🌍"), finish="STOP", usageMetadata=USAGE)),
            text="Grüß Gott 🌍",
            usage=COUNTED,
        ),
        Sample(
            name="thoughts, and a signature on an empty text",
            frames=(
                chunk({"text": "Let me ", "thought": True}),
                chunk({"text": "see.", "thought": True}),
                chunk(text("Yes.")),
                chunk({"text": "", "thoughtSignature": "b3BhcXVl"}, finish="STOP", usageMetadata=USAGE),
            ),
            body=dumps(
                answer(
                    {"text": "Let me see.", "thought": True},
                    {"text": "Yes.", "thoughtSignature": "b3BhcXVl"},
                    finish="STOP",
                    usageMetadata=USAGE,
                )
            ),
            reasoning="Let me see.",
            text="Yes.",
            usage=COUNTED,
        ),
        Sample(
            name="two tool calls",
            request=ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
            frames=(
                chunk(call(0, OSLO, thoughtSignature="b3BhcXVl")),
                chunk(call(1, ROME), finish="STOP", usageMetadata=USAGE),
            ),
            body=dumps(
                answer(call(0, OSLO, thoughtSignature="b3BhcXVl"), call(1, ROME), finish="STOP", usageMetadata=USAGE)
            ),
            tool_calls=(OSLO, ROME),
            finish_reason=FinishReason.TOOL_CALLS,
            usage=COUNTED,
        ),
        Sample(
            name="tool calls without ids",
            request=ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
            frames=(
                chunk(
                    {"functionCall": {"name": "weather", "args": OSLO[1]}},
                    {"functionCall": {"name": "weather", "args": ROME[1]}},
                ),
                chunk(finish="STOP", usageMetadata=USAGE),
            ),
            body=dumps(
                answer(
                    {"functionCall": {"name": "weather", "args": OSLO[1]}},
                    {"functionCall": {"name": "weather", "args": ROME[1]}},
                    finish="STOP",
                    usageMetadata=USAGE,
                )
            ),
            tool_calls=(OSLO, ROME),
            finish_reason=FinishReason.TOOL_CALLS,
            usage=COUNTED,
        ),
        Sample(
            name="a part of tomorrow",
            frames=(
                chunk({"partOfTomorrow": {"what": "UNHEARD-OF"}}),
                chunk(text("Yes."), finish="STOP", usageMetadata=USAGE),
            ),
            body=dumps(
                answer({"partOfTomorrow": {"what": "UNHEARD-OF"}}, text("Yes."), finish="STOP", usageMetadata=USAGE)
            ),
            text="Yes.",
            usage=COUNTED,
            kept=("partOfTomorrow", "UNHEARD-OF"),
        ),
        Sample(
            name="log probabilities",
            frames=(
                chunk_with_logprobs(text("Grüß "), LOGPROBS[:1]),
                chunk_with_logprobs(text("Gott"), LOGPROBS[1:], finish="STOP", usageMetadata=USAGE),
            ),
            body=dumps(with_logprobs(answer(text("Grüß Gott"), finish="STOP", usageMetadata=USAGE), LOGPROBS)),
            text="Grüß Gott",
            usage=COUNTED,
            logprobs=LOGPROBS,
        ),
        Sample(
            name="code that is run: its chunk has a finish reason too",
            frames=(
                chunk({"executableCode": {"code": "6*7", "language": "PYTHON"}}, finish="STOP", usageMetadata=USAGE),
                chunk({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42"}}),
                chunk(text("42."), finish="STOP", usageMetadata=USAGE),
            ),
            body=dumps(
                answer(
                    {"executableCode": {"code": "6*7", "language": "PYTHON"}},
                    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "42"}},
                    text("42."),
                    finish="STOP",
                    usageMetadata=USAGE,
                )
            ),
            text="42.",
            usage=COUNTED,
        ),
    ),
)


# The signature that Google documents for a call of another model: base64 of skip_thought_signature_validator.
UNSIGNED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="

JSON_TYPE = {"content-type": "application/json"}

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
                    "thoughtSignature": UNSIGNED,
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

HISTORY = attrs.evolve(
    GENERATE_CONTENT.samples[0],
    name="after a history of tools",
    request=TOOL_HISTORY,
    request_wire=WireRequest(
        url="{url}/v1beta/models/m:streamGenerateContent?alt=sse", headers=JSON_TYPE, body=dumps(HISTORY_BODY)
    ),
    unstreamed_wire=WireRequest(
        url="{url}/v1beta/models/m:generateContent", headers=JSON_TYPE, body=dumps(HISTORY_BODY)
    ),
)

TUNED = attrs.evolve(
    GENERATE_CONTENT.samples[0],
    name="of a tuned model",
    request=ChatRequest(messages="Hi", model="tunedModels/mine"),
    request_wire=WireRequest(
        url="{url}/v1beta/tunedModels/mine:streamGenerateContent?alt=sse",
        headers=JSON_TYPE,
        body=dumps({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}),
    ),
)


class TestGemini(ProviderTests):
    provider = "gemini"
    settings = {"api_url": "{url}", "api_key": canary("api_key")}
    credentials = {"x-goog-api-key": canary("api_key")}
    wire = GENERATE_CONTENT
    families = (("gemini-3-flash", "gemini-3.5-flash"), ("gemini-4-pro",), ("gemini-2.5-flash",), ("gemma-3-27b-it",))
    samples = (HISTORY, TUNED)
    model_pages = (
        dumps(
            {
                "models": [
                    {
                        "name": "models/m1",
                        "displayName": "Model 1",
                        "inputTokenLimit": 1048576,
                        "outputTokenLimit": 65536,
                        "supportedGenerationMethods": ["generateContent", "countTokens", "createCachedContent"],
                        "thinking": True,
                    }
                ],
                "nextPageToken": "next",
            }
        ),
        dumps({"models": [{"name": "models/m2"}]}),
    )
    listed_models = (
        ModelInfo(
            id="m1",
            name="Model 1",
            context_window=1048576,
            output_token_limit=65536,
            capabilities=frozenset({"chat", "reasoning"}),
        ),
        ModelInfo(id="m2"),
    )
    operation_requests = {
        "model_info": WireRequest(method="GET", url="{url}/v1beta/models/m"),
        "list_models": WireRequest(method="GET", url="{url}/v1beta/models?pageSize=1000"),
        "embed": WireRequest(
            url="{url}/v1beta/models/m:batchEmbedContents",
            headers=JSON_TYPE,
            body=dumps(
                {
                    "requests": [
                        {
                            "model": "models/m",
                            "content": {"parts": [{"text": text}]},
                            "outputDimensionality": EMBED_DIMENSIONS,
                        }
                        for text in EMBED_TEXTS
                    ]
                }
            ),
        ),
        "count_tokens": WireRequest(
            url="{url}/v1beta/models/m:countTokens",
            headers=JSON_TYPE,
            body=dumps({"generateContentRequest": {"model": "models/m", **HISTORY_BODY}}),
        ),
    }
