"""The conformance kit, over the v2 chat API."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from trunkline.authoring.json import dumps
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, ModelInfo, TokenLogprob, Usage
from trunkline.testing import (
    EMBED_DIMENSIONS,
    EMBED_TEXTS,
    NAMED_SSE,
    TOOL_HISTORY,
    WEATHER,
    ProviderTests,
    Sample,
    Step,
    WireFormat,
    canary,
)

OSLO, ROME = ("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})
USAGE = {"billed_units": {"input_tokens": 3, "output_tokens": 5}, "tokens": {"input_tokens": 9, "output_tokens": 5}}


def event(kind: str, **fields: Any) -> bytes:
    return NAMED_SSE.frame(dumps({"type": kind, **fields}), kind)


def message(kind: str, index: int | None = None, **inner: Any) -> bytes:
    where = {} if index is None else {"index": index}
    return event(kind, **where, delta={"message": inner})


def content(kind: str, index: int, **block: Any) -> bytes:
    return message(f"content-{kind}", index, content=block)


def call(kind: str, index: int, **fields: Any) -> bytes:
    return message(f"tool-call-{kind}", index, tool_calls=fields)


def arguments(index: int, text: str) -> bytes:
    return call("delta", index, function={"arguments": text})


def begin(index: int) -> bytes:
    return call("start", index, id=f"call_{index}", type="function", function={"name": "weather", "arguments": ""})


def words(text: str) -> dict[str, Any]:
    return {"message": {"content": {"text": text}}}


def tokens(text: str, *numbers: float) -> dict[str, Any]:
    return {"text": text, "token_ids": [7], "logprobs": list(numbers)}


def sample(
    name: str,
    *frames: bytes,
    whole: dict[str, Any],
    finish: str = "COMPLETE",
    logprobs_of_body: Sequence[dict[str, Any]] = (),
    **meaning: Any,
) -> Sample:
    body = {"id": "m1", "message": {"role": "assistant", **whole}, "finish_reason": finish, "usage": USAGE}
    if logprobs_of_body:
        body["logprobs"] = logprobs_of_body
    return Sample(
        name=name,
        frames=(
            event("message-start", id="m1", delta={"message": {"role": "assistant", "content": []}}),
            *frames,
            event("message-end", delta={"finish_reason": finish, "usage": USAGE}),
        ),
        body=dumps(body),
        usage=Usage(input_tokens=9, output_tokens=5, total_tokens=14),
        **meaning,
    )


CITATION = {
    "start": 6,
    "end": 11,
    "text": "sunny",
    "content_index": 1,
    "type": "TEXT_CONTENT",
    "sources": [{"type": "document", "id": "d1", "document": {"id": "d1", "text": "Sun"}}],
}

CALLS: dict[str, Any] = {
    "whole": {
        "tool_calls": [
            {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": dumps(given).decode()}}
            for at, (name, given) in enumerate((OSLO, ROME))
        ]
    },
    "finish": "TOOL_CALL",
    "request": ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
    "tool_calls": (OSLO, ROME),
    "finish_reason": FinishReason.TOOL_CALLS,
}


def steps(body: Any) -> Iterator[Step]:
    for message in body["messages"]:
        if message["role"] == "tool":
            yield Step("result", message["tool_call_id"])
        elif message.get("tool_calls"):
            for call in message["tool_calls"]:
                yield Step("call", call["id"], call["function"]["arguments"])
        else:
            yield Step("message")


CHAT = WireFormat(
    framing=NAMED_SSE,
    steps=steps,
    refuses_blank_text=True,
    request_id_header="x-debug-trace-id",
    finish="COMPLETE",
    finish_reasons={
        "COMPLETE": FinishReason.STOP,
        "MAX_TOKENS": FinishReason.LENGTH,
        "STOP_SEQUENCE": FinishReason.STOP,
        "ERROR_TOXIC": FinishReason.CONTENT_FILTER,
    },
    error_body=lambda text: dumps({"message": text}),
    error_event=lambda text: event("error", message=text),
    embeddings=lambda vectors, indexes: dumps({"id": "e1", "embeddings": {"float": list(vectors)}, "texts": []}),
    samples=(
        sample(
            "text",
            content("start", 0, type="text", text=""),
            content("delta", 0, text="Grüß "),
            content("delta", 0, text="Gott 🌍"),
            message("content-end", 0),
            whole={"content": [{"type": "text", "text": "Grüß Gott 🌍"}]},
            text="Grüß Gott 🌍",
        ),
        sample(
            "a citation of the second text",
            content("start", 0, type="text", text=""),
            content("delta", 0, text="Yes. "),
            message("content-end", 0),
            content("start", 1, type="text", text=""),
            content("delta", 1, text="It is sunny."),
            message("citation-start", 0, citations=CITATION),
            event("citation-end", index=0),
            message("content-end", 1),
            whole={
                "content": [{"type": "text", "text": "Yes. "}, {"type": "text", "text": "It is sunny."}],
                "citations": [CITATION],
            },
            text="Yes. It is sunny.",
            cited=("sunny",),
        ),
        sample(
            "log probabilities",
            content("start", 0, type="text", text=""),
            event("content-delta", index=0, delta=words("Grüß "), logprobs=tokens("Grüß ", -0.25)),
            event("content-delta", index=0, delta=words("Gott"), logprobs=tokens("Gott", -0.5)),
            message("content-end", 0),
            whole={"content": [{"type": "text", "text": "Grüß Gott"}]},
            logprobs_of_body=[tokens("Grüß ", -0.25), tokens("Gott", -0.5)],
            text="Grüß Gott",
            logprobs=(TokenLogprob(token="Grüß ", logprob=-0.25), TokenLogprob(token="Gott", logprob=-0.5)),
        ),
        sample(
            "thinking",
            content("start", 0, type="thinking", thinking=""),
            content("delta", 0, thinking="Let me "),
            content("delta", 0, thinking="see."),
            message("content-end", 0),
            content("start", 1, type="text", text=""),
            content("delta", 1, text="Yes."),
            message("content-end", 1),
            whole={"content": [{"type": "thinking", "thinking": "Let me see."}, {"type": "text", "text": "Yes."}]},
            reasoning="Let me see.",
            text="Yes.",
        ),
        sample(
            "a block of tomorrow",
            content("start", 0, type="block_of_tomorrow", what="UNHEARD-OF"),
            message("content-end", 0),
            content("start", 1, type="text", text=""),
            content("delta", 1, text="Yes."),
            message("content-end", 1),
            whole={"content": [{"type": "block_of_tomorrow", "what": "UNHEARD-OF"}, {"type": "text", "text": "Yes."}]},
            text="Yes.",
            kept=("block_of_tomorrow", "UNHEARD-OF"),
        ),
        sample(
            "a text, and a tool call that comes whole",
            content("start", 0, type="text", text=""),
            content("delta", 0, text="héllo"),
            message("content-end", 0),
            call("start", 0, id="c", type="function", function={"name": "now", "arguments": "{}"}),
            event("tool-call-end", index=0),
            whole={
                "content": [{"type": "text", "text": "héllo"}],
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
            },
            finish="TOOL_CALL",
            text="héllo",
            tool_calls=(("now", {}),),
            finish_reason=FinishReason.TOOL_CALLS,
        ),
        sample(
            "two tool calls",
            begin(0),
            arguments(0, '{"city":'),
            arguments(0, '"Oslo"}'),
            event("tool-call-end", index=0),
            begin(1),
            arguments(1, '{"city":"Rome"}'),
            event("tool-call-end", index=1),
            **CALLS,
        ),
        sample(
            "two tool calls, interleaved",
            begin(0),
            begin(1),
            arguments(0, '{"city"'),
            arguments(1, '{"city":"Ro'),
            arguments(0, ':"Oslo"}'),
            arguments(1, 'me"}'),
            event("tool-call-end", index=1),
            event("tool-call-end", index=0),
            **CALLS,
        ),
    ),
)


JSON_TYPE = {"content-type": "application/json"}

HISTORY_BODY: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the weather in Oslo and in Rome?"},
        {
            "role": "assistant",
            "content": "I will look.",
            "tool_calls": [
                {
                    "id": "abcdefgh1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Oslo"}'},
                },
                {
                    "id": "abcdefgh2",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "abcdefgh1", "content": "Sun"},
        {"role": "tool", "tool_call_id": "abcdefgh2", "content": "Error: Down"},
        {"role": "assistant", "content": "Sun in Oslo."},
        {"role": "user", "content": "Thanks."},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Tells the weather.",
                "parameters": WEATHER.parameters,
            },
        }
    ],
    "max_tokens": 4321,
    "temperature": 0.25,
    "p": 0.75,
    "k": 37,
    "seed": 8765,
    "frequency_penalty": 0.5,
    "presence_penalty": 1.0,
    "stop_sequences": ["END"],
}

HISTORY = attrs.evolve(
    CHAT.samples[0],
    name="after a history of tools",
    request=TOOL_HISTORY,
    request_wire=WireRequest(url="{url}/v2/chat", headers=JSON_TYPE, body=dumps({**HISTORY_BODY, "stream": True})),
    unstreamed_wire=WireRequest(url="{url}/v2/chat", headers=JSON_TYPE, body=dumps(HISTORY_BODY)),
)


class TestCohere(ProviderTests):
    provider = "cohere"
    settings = {"api_url": "{url}", "api_key": canary("api_key")}
    credentials = {"authorization": f"Bearer {canary('api_key')}"}
    wire = CHAT
    samples = (HISTORY,)
    model_pages = (
        dumps(
            {
                "models": [
                    {
                        "name": "m1",
                        "endpoints": ["chat"],
                        "context_length": 288000.0,
                        "features": ["json_mode", "json_schema", "strict_tools", "tools"],
                    }
                ],
                "next_page_token": "next",
            }
        ),
        dumps({"models": [{"name": "m2"}]}),
    )
    listed_models = (
        ModelInfo(id="m1", context_window=288_000, capabilities=frozenset({"chat", "json_schema", "tools"})),
        ModelInfo(id="m2"),
    )
    operation_requests = {
        "list_models": WireRequest(method="GET", url="{url}/v1/models?page_size=1000"),
        "embed": WireRequest(
            url="{url}/v2/embed",
            headers=JSON_TYPE,
            body=dumps(
                {
                    "model": "m",
                    "texts": EMBED_TEXTS,
                    "input_type": "search_document",
                    "embedding_types": ["float"],
                    "output_dimension": EMBED_DIMENSIONS,
                }
            ),
        ),
    }
