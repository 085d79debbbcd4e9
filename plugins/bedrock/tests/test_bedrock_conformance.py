"""The conformance kit, over Converse and the AWS event stream."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any
from zlib import crc32

import attrs
import pytest
from trunkline.authoring.json import dumps
from trunkline.authoring.wire import WireRequest
from trunkline.errors import RateLimited, ServerError
from trunkline.messages import Document, user
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, ModelInfo, Usage
from trunkline.testing import (
    EMBED_DIMENSIONS,
    EMBED_TEXTS,
    TOOL_HISTORY,
    WEATHER,
    ProviderTests,
    Sample,
    Step,
    WireFormat,
    canary,
)
from trunkline_anthropic.testing import HEADERS, MESSAGES, NO_LIMIT, counted_request, messages_history
from trunkline_openai.testing import CHAT_COMPLETIONS, RESPONSES, chat_history, responses_history

OSLO, ROME = ("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})
USAGE = {"inputTokens": 9, "outputTokens": 5, "totalTokens": 14}


def message(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack("!II", len(headers) + len(payload) + 16, len(headers))
    checked = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return checked + struct.pack("!I", crc32(checked))


def packed(**headers: str) -> bytes:
    return b"".join(
        bytes([len(name) + 1]) + b":" + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in ((name.replace("_", "-"), value) for name, value in headers.items())
    )


class EventStream:
    """The AWS event stream."""

    name = "AWS event stream"
    content_type = "application/vnd.amazon.eventstream"
    checked = True

    def frame(self, payload: bytes, name: str = "") -> bytes:
        headers = {"event_type": name, "content_type": "application/json", "message_type": "event"}
        return message(packed(**headers), payload)

    def payload(self, frame: bytes) -> bytes:
        return frame[12 + self._headers(frame) : -4]

    def replaced(self, frame: bytes, payload: bytes) -> bytes:
        return message(frame[12 : 12 + self._headers(frame)], payload)

    def heartbeat(self) -> bytes:
        return self.frame(b"{}", "keepAlive")

    def spellings(self, frames: tuple[bytes, ...]) -> Mapping[str, bytes]:
        return {}

    @staticmethod
    def _headers(frame: bytes) -> int:
        return int.from_bytes(frame[4:8], "big")


FRAMING = EventStream()


def event(name: str, **payload: Any) -> bytes:
    return FRAMING.frame(dumps(payload), name)


def failure(text: str) -> bytes:
    headers = packed(
        exception_type="internalServerException", content_type="application/json", message_type="exception"
    )
    return message(headers, dumps({"message": text}))


def throttled() -> bytes:
    headers = packed(exception_type="throttlingException", content_type="application/json", message_type="exception")
    return message(headers, dumps({"message": "slow down"}))


def broken_off() -> bytes:
    return message(packed(error_code="InternalError", error_message="it broke", message_type="error"), b"")


def start(index: int, **inner: Any) -> bytes:
    return event("contentBlockStart", contentBlockIndex=index, start=inner)


def delta(index: int, **inner: Any) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta=inner)


def stop(index: int) -> bytes:
    return event("contentBlockStop", contentBlockIndex=index)


def call(index: int) -> bytes:
    return start(index, toolUse={"toolUseId": f"call_{index}", "name": "weather"})


def arguments(index: int, text: str) -> bytes:
    return delta(index, toolUse={"input": text})


def sample(
    name: str,
    *frames: bytes,
    content: list[dict[str, Any]],
    reason: str = "end_turn",
    late: bool = False,
    **fields: Any,
) -> Sample:
    end = [event("messageStop", stopReason=reason), event("metadata", usage=USAGE, metrics={"latencyMs": 5})]
    body = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": reason, "usage": USAGE}
    return Sample(
        name=name,
        frames=(event("messageStart", role="assistant"), *frames, *(reversed(end) if late else end)),
        body=dumps({**body, "metrics": {"latencyMs": 5}}),
        usage=Usage(input_tokens=9, output_tokens=5, total_tokens=14),
        **fields,
    )


TEXT: dict[str, Any] = {"content": [{"text": "Grüß Gott 🌍"}], "text": "Grüß Gott 🌍"}
CALLS: dict[str, Any] = {
    "content": [
        {"toolUse": {"toolUseId": f"call_{at}", "name": name, "input": given}}
        for at, (name, given) in enumerate((OSLO, ROME))
    ],
    "reason": "tool_use",
    "request": ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
    "tool_calls": (OSLO, ROME),
    "call_ids": ("call_0", "call_1"),
    "finish_reason": FinishReason.TOOL_CALLS,
}


def steps(body: Any) -> Iterator[Step]:
    for message in body["messages"]:
        has_calls = any("toolUse" in block for block in message["content"])
        for block in message["content"]:
            if "toolUse" in block:
                yield Step("call", block["toolUse"]["toolUseId"], block["toolUse"]["input"])
            elif "toolResult" in block:
                yield Step("result", block["toolResult"]["toolUseId"])
            elif not has_calls:
                yield Step("message")


CONVERSE = WireFormat(
    framing=FRAMING,
    steps=steps,
    refuses_blank_text=True,
    merged_options=frozenset({"inferenceConfig"}),
    request_id_header="x-amzn-requestid",
    finish="end_turn",
    error_body=lambda text: dumps({"message": text}),
    error_event=failure,
    embeddings=lambda vectors, indexes: dumps({"embeddings": {"float": list(vectors)}}),
    errors=((throttled(), RateLimited), (broken_off(), ServerError)),
    finish_reasons={
        "end_turn": FinishReason.STOP,
        "max_tokens": FinishReason.LENGTH,
        "content_filtered": FinishReason.CONTENT_FILTER,
    },
    samples=(
        sample("text", delta(0, text="Grüß "), delta(0, text="Gott 🌍"), stop(0), **TEXT),
        sample("usage before the stop", delta(0, text="Grüß "), delta(0, text="Gott 🌍"), stop(0), late=True, **TEXT),
        sample(
            "reasoning",
            delta(0, reasoningContent={"text": "Let me "}),
            delta(0, reasoningContent={"text": "see."}),
            delta(0, reasoningContent={"signature": "OPAQUE"}),
            stop(0),
            delta(1, text="Yes."),
            stop(1),
            content=[
                {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": "OPAQUE"}}},
                {"text": "Yes."},
            ],
            reasoning="Let me see.",
            text="Yes.",
            replays=("Let me see.", "OPAQUE"),
        ),
        sample(
            "redacted reasoning in two pieces of base64, each with its padding",
            delta(0, reasoningContent={"redactedContent": "SElE"}),
            delta(0, reasoningContent={"redactedContent": "RA=="}),
            delta(0, reasoningContent={"redactedContent": "RU4="}),
            stop(0),
            delta(1, text="Yes."),
            stop(1),
            content=[{"reasoningContent": {"redactedContent": "SElEREVO"}}, {"text": "Yes."}],
            text="Yes.",
            replays=("SElEREVO",),
        ),
        sample(
            "a block of tomorrow",
            start(0, blockOfTomorrow={"what": "UNHEARD-OF"}),
            stop(0),
            delta(1, text="Yes."),
            stop(1),
            content=[{"blockOfTomorrow": {"what": "UNHEARD-OF"}}, {"text": "Yes."}],
            text="Yes.",
            kept=("blockOfTomorrow", "UNHEARD-OF"),
        ),
        sample(
            "two tool calls, interleaved",
            call(0),
            call(1),
            arguments(0, '{"city"'),
            arguments(1, '{"city":"Ro'),
            arguments(0, ':"Oslo"}'),
            arguments(1, 'me"}'),
            stop(1),
            stop(0),
            **CALLS,
        ),
    ),
)


JSON_TYPE = {"content-type": "application/json"}

HISTORY_BODY: dict[str, Any] = {
    "system": [{"text": "Be brief."}],
    "messages": [
        {"role": "user", "content": [{"text": "What is the weather in Oslo and in Rome?"}]},
        {
            "role": "assistant",
            "content": [
                {"text": "I will look."},
                {"toolUse": {"toolUseId": "abcdefgh1", "name": "weather", "input": {"city": "Oslo"}}},
                {"toolUse": {"toolUseId": "abcdefgh2", "name": "weather", "input": {"city": "Rome"}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "abcdefgh1", "content": [{"text": "Sun"}]}},
                {
                    "toolResult": {
                        "toolUseId": "abcdefgh2",
                        "content": [{"text": "Down"}],
                        "status": "error",
                    }
                },
            ],
        },
        {"role": "assistant", "content": [{"text": "Sun in Oslo."}]},
        {"role": "user", "content": [{"text": "Thanks."}]},
    ],
    "toolConfig": {
        "tools": [
            {
                "toolSpec": {
                    "name": "weather",
                    "description": "Tells the weather.",
                    "inputSchema": {"json": WEATHER.parameters},
                }
            }
        ],
        "toolChoice": {"auto": {}},
    },
    "inferenceConfig": {"maxTokens": 4321, "temperature": 0.25, "topP": 0.75, "stopSequences": ["END"]},
    "requestMetadata": {"kit": "metadata"},
}

HISTORY = attrs.evolve(
    CONVERSE.samples[0],
    name="after a history of tools",
    request=TOOL_HISTORY,
    request_wire=WireRequest(url="{url}/model/m/converse-stream", headers=JSON_TYPE, body=dumps(HISTORY_BODY)),
    unstreamed_wire=WireRequest(url="{url}/model/m/converse", headers=JSON_TYPE, body=dumps(HISTORY_BODY)),
)

DOCUMENTS = attrs.evolve(
    CONVERSE.samples[0],
    name="after two documents of the same name",
    request=ChatRequest(
        messages=[
            user(
                "Compare these.",
                Document(data=b"one", name="report.txt", media_type="text/plain"),
                Document(data=b"two", name="report.txt", media_type="text/plain"),
            )
        ]
    ),
    request_wire=WireRequest(
        url="{url}/model/m/converse-stream",
        headers=JSON_TYPE,
        body=dumps(
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"text": "Compare these."},
                            {"document": {"name": "report", "format": "txt", "source": {"bytes": "b25l"}}},
                            {"document": {"name": "report (2)", "format": "txt", "source": {"bytes": "dHdv"}}},
                        ],
                    }
                ]
            }
        ),
    ),
)


class TestBedrock(ProviderTests):
    provider = "bedrock"
    settings = {
        "api_url": "{url}",
        "aws_region": "us-east-1",
        "aws_access_key_id": "AKIDEXAMPLE",
        "aws_secret_access_key": canary("aws_secret_access_key"),
        "aws_session_token": canary("aws_session_token"),
    }
    credentials = {"x-amz-security-token": canary("aws_session_token")}
    wire = CONVERSE
    samples = (HISTORY, DOCUMENTS)
    model_pages = (
        dumps(
            {"modelSummaries": [{"modelId": "m1", "inputModalities": ["TEXT", "IMAGE"], "outputModalities": ["TEXT"]}]}
        ),
        dumps({"inferenceProfileSummaries": [{"inferenceProfileId": "p1"}], "nextToken": "next"}),
        dumps({"inferenceProfileSummaries": [{"inferenceProfileId": "p2"}]}),
    )
    listed_models = (
        ModelInfo(id="m1", capabilities=frozenset({"chat", "vision"})),
        ModelInfo(id="p1"),
        ModelInfo(id="p2"),
    )
    operation_requests = {
        "list_models": WireRequest(method="GET", url="{url}/foundation-models"),
        "embed": WireRequest(
            url="{url}/model/cohere.embed-v4%3A0/invoke",
            headers=JSON_TYPE,
            body=dumps(
                {
                    "texts": EMBED_TEXTS,
                    "input_type": "search_document",
                    "embedding_types": ["float"],
                    "output_dimension": EMBED_DIMENSIONS,
                }
            ),
        ),
        "count_tokens": WireRequest(
            url="{url}/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens",
            headers=JSON_TYPE,
            body=dumps(
                {
                    "input": {
                        "converse": {
                            **{key: HISTORY_BODY[key] for key in ("messages", "system", "toolConfig")},
                            "additionalModelRequestFields": {"top_k": 37},
                        }
                    }
                }
            ),
        ),
    }
    families = (
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-opus-4-8"),
        ("openai.gpt-oss-120b-1:0",),
        ("deepseek.r1-v1:0",),
        ("amazon.nova-pro-v1:0",),
    )
    embedding_model = "cohere.embed-v4:0"
    models = (
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "openai.gpt-oss-120b-1:0",
        "deepseek.r1-v1:0",
        "amazon.nova-pro-v1:0",
        "meta.llama4-maverick-17b-instruct-v1:0",
        "anthropic.claude-opus-4-8",
        "mistral.mistral-large-2407-v1:0",
        "writer.palmyra-x4-v1:0",
        "amazon.titan-text-lite-v1",
        "zai.glm-5",
        "m",
    )


# OpenAI's APIs, and Anthropic's

_KEYS = {name: value for name, value in TestBedrock.settings.items() if name != "api_url"}
_LISTED = (dumps({"object": "list", "data": [{"id": "m1", "object": "model"}, {"id": "m2", "object": "model"}]}),)


def of_bedrock(wire: WireFormat) -> WireFormat:
    """The format, with the embeddings of Bedrock's runtime."""
    return attrs.evolve(wire, embeddings=CONVERSE.embeddings)


class OpenAIEndpoint(ProviderTests):
    provider = "bedrock"
    credentials = TestBedrock.credentials
    embedding_model = TestBedrock.embedding_model
    model_pages = _LISTED
    listed_models = (ModelInfo(id="m1"), ModelInfo(id="m2"))


@pytest.mark.tests_more
class TestBedrockChat(OpenAIEndpoint):
    variant = "chat"
    settings = {**_KEYS, "api_url": "{url}", "api": "chat"}
    wire = of_bedrock(CHAT_COMPLETIONS)
    samples = (chat_history("{url}/v1/chat/completions", max_tokens=None, max_completion_tokens=4321),)
    operation_requests = {
        "embed": TestBedrock.operation_requests["embed"],
        "list_models": WireRequest(method="GET", url="{url}/v1/models"),
    }


@pytest.mark.tests_more
class TestBedrockResponses(OpenAIEndpoint):
    variant = "responses"
    settings = {**_KEYS, "api_url": "{url}", "api": "responses", "endpoint": "runtime"}
    wire = of_bedrock(RESPONSES)
    samples = (responses_history("{url}/openai/v1/responses"),)
    operation_requests = {
        "embed": TestBedrock.operation_requests["embed"],
        "list_models": WireRequest(method="GET", url="{url}/openai/v1/models"),
    }


@pytest.mark.tests_more
class TestBedrockMessages(OpenAIEndpoint):
    variant = "messages"
    # The kit's model does not have a Claude name, so give it the facts of a Claude model.
    settings = {
        **_KEYS,
        "api_url": "{url}",
        "api": "messages",
        "model_facts": {"m*": {"base_model": "anthropic.claude-sonnet-4-5"}},
    }
    wire = of_bedrock(MESSAGES)
    families = (("anthropic.claude-sonnet-4-5", "anthropic.claude-opus-4-8"),)
    samples = (messages_history("{url}/anthropic/v1/messages", headers=HEADERS),)
    operation_requests = {
        "embed": TestBedrock.operation_requests["embed"],
        "list_models": WireRequest(method="GET", url="{url}/v1/models"),
        "count_tokens": counted_request("{url}/anthropic/v1/messages/count_tokens", headers=HEADERS),
    }
    skips = NO_LIMIT
