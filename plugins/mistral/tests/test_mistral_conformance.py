"""The conformance kit, over Mistral's form of the Chat Completions dialect."""

from __future__ import annotations

from typing import Any

import attrs
from trunkline.authoring.json import dumps
from trunkline.authoring.wire import WireRequest
from trunkline.messages import Reasoning, Text, ToolCall
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, ModelInfo, Usage
from trunkline.testing import EMBED_DIMENSIONS, EMBED_TEXTS, SSE, TOOL_HISTORY, WEATHER, ProviderTests, Sample, canary
from trunkline_openai.testing import CHAT_COMPLETIONS

USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
CALLS = [
    {"id": f"a1b2c3d4{at}", "function": {"name": "weather", "arguments": dumps({"city": city}).decode()}}
    for at, city in enumerate(("Oslo", "Rome"))
]
CHUNK_OF_TOMORROW = {"type": "chunk_of_tomorrow", "what": "UNHEARD-OF"}
TOOLS: dict[str, Any] = {
    "request": ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
    "finish_reason": FinishReason.TOOL_CALLS,
}


def thinking(text: str, **fields: object) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}], **fields}


def sample(name: str, *deltas: dict[str, Any], whole: dict[str, Any], **meaning: Any) -> Sample:
    """The last chunk has the finish reason and the usage."""
    head = {"id": "c1", "model": "m"}
    chunks: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "p": "abc"} for delta in deltas
    ]
    chunks[-1]["choices"][0]["finish_reason"] = "tool_calls"
    chunks[-1]["usage"] = USAGE
    choice = {"index": 0, "message": {"role": "assistant", **whole}, "finish_reason": "tool_calls"}
    return Sample(
        name=name,
        frames=(*(SSE.frame(dumps(chunk), "") for chunk in chunks), SSE.frame(b"[DONE]", "")),
        body=dumps({**head, "choices": [choice], "usage": USAGE}),
        usage=Usage(input_tokens=9, output_tokens=5, total_tokens=14),
        **TOOLS,
        **meaning,
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
                    "id": call_id,
                    "type": "function",
                    "function": {"name": "weather", "arguments": dumps({"city": city}).decode()},
                }
                for call_id, city in (("abcdefgh1", "Oslo"), ("abcdefgh2", "Rome"))
            ],
        },
        {"role": "tool", "tool_call_id": "abcdefgh1", "name": "weather", "content": "Sun"},
        {"role": "tool", "tool_call_id": "abcdefgh2", "name": "weather", "content": "Error: Down"},
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
    "tool_choice": "auto",
    "max_tokens": 4321,
    "temperature": 0.25,
    "top_p": 0.75,
    "top_k": 37,
    "random_seed": 8765,
    "frequency_penalty": 0.5,
    "presence_penalty": 1.0,
    "stop": ["END"],
    "metadata": {"kit": "metadata"},
}

HISTORY = attrs.evolve(
    CHAT_COMPLETIONS.samples[0],
    name="after a history of tools",
    request=TOOL_HISTORY,
    request_wire=WireRequest(
        url="{url}/v1/chat/completions", headers=JSON_TYPE, body=dumps({**HISTORY_BODY, "stream": True})
    ),
    unstreamed_wire=WireRequest(url="{url}/v1/chat/completions", headers=JSON_TYPE, body=dumps(HISTORY_BODY)),
)


class TestMistral(ProviderTests):
    provider = "mistral"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key")}
    credentials = {"authorization": f"Bearer {canary('api_key')}"}
    wire = attrs.evolve(CHAT_COMPLETIONS, call_id_pattern="[A-Za-z0-9]{9}", request_id_header="mistral-correlation-id")
    families = (("mistral-large-latest", "magistral-medium-latest"), ("deepseek-v3",))
    model_pages = (
        dumps(
            {
                "object": "list",
                "data": [
                    {
                        "id": "m1",
                        "max_context_length": 131072,
                        "capabilities": {"completion_chat": True, "function_calling": True, "vision": False},
                    }
                ],
            }
        ),
    )
    listed_models = (ModelInfo(id="m1", context_window=131072, capabilities=frozenset({"chat", "tools"})),)
    operation_requests = {
        "list_models": WireRequest(method="GET", url="{url}/v1/models"),
        "embed": WireRequest(
            url="{url}/v1/embeddings",
            headers=JSON_TYPE,
            body=dumps(
                {
                    "model": "m",
                    "input": EMBED_TEXTS,
                    "encoding_format": "float",
                    "output_dimension": EMBED_DIMENSIONS,
                }
            ),
        ),
    }
    samples = (
        HISTORY,
        sample(
            "thinking, a text and a whole tool call",
            {"role": "assistant", "content": ""},
            {"content": [thinking("thi")]},
            {"content": [thinking("nk")]},
            {"content": "Hi"},
            {"tool_calls": [{**CALLS[0], "index": 0}]},
            whole={"content": [thinking("think"), {"type": "text", "text": "Hi"}], "tool_calls": CALLS[:1]},
            reasoning="think",
            text="Hi",
            tool_calls=(("weather", {"city": "Oslo"}),),
        ),
        sample(
            "text, thinking and more text",
            {"role": "assistant", "content": "Well. "},
            {"content": [thinking("think")]},
            {"content": "Hi"},
            {"tool_calls": [{**CALLS[0], "index": 0}]},
            whole={
                "content": [{"type": "text", "text": "Well. "}, thinking("think"), {"type": "text", "text": "Hi"}],
                "tool_calls": CALLS[:1],
            },
            reasoning="think",
            text="Well. Hi",
            parts=(Text, Reasoning, Text, ToolCall),
            tool_calls=(("weather", {"city": "Oslo"}),),
        ),
        sample(
            "two thinking chunks, each with its signature",
            {"role": "assistant", "content": ""},
            {"content": [thinking("One. ", signature="SIGNED-1")]},
            {"content": [thinking("Two.", signature="SIGNED-2")]},
            {"tool_calls": [{**CALLS[0], "index": 0}]},
            whole={
                "content": [thinking("One. ", signature="SIGNED-1"), thinking("Two.", signature="SIGNED-2")],
                "tool_calls": CALLS[:1],
            },
            reasoning="One. Two.",
            tool_calls=(("weather", {"city": "Oslo"}),),
            replays=("One. ", "SIGNED-1", "Two.", "SIGNED-2"),
        ),
        sample(
            "a chunk of tomorrow, and a whole tool call",
            {"role": "assistant", "content": [CHUNK_OF_TOMORROW]},
            {"content": "Hi"},
            {"tool_calls": [{**CALLS[0], "index": 0}]},
            whole={"content": [CHUNK_OF_TOMORROW, {"type": "text", "text": "Hi"}], "tool_calls": CALLS[:1]},
            text="Hi",
            tool_calls=(("weather", {"city": "Oslo"}),),
            kept=("chunk_of_tomorrow", "UNHEARD-OF"),
        ),
        sample(
            "two tool calls in one chunk, without an index",
            {"role": "assistant", "content": ""},
            {"tool_calls": CALLS},
            whole={"content": "", "tool_calls": CALLS},
            tool_calls=(("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})),
        ),
    )
