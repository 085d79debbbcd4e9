"""The conformance kit, over Mistral's form of the Chat Completions dialect."""

from __future__ import annotations

from typing import Any

import attrs
from trunkline.authoring.json import dumps
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, Usage
from trunkline.testing import SSE, WEATHER, ProviderTests, Sample, canary
from trunkline_openai.testing import CHAT_COMPLETIONS

USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
CALLS = [
    {"id": f"a1b2c3d4{at}", "function": {"name": "weather", "arguments": dumps({"city": city}).decode()}}
    for at, city in enumerate(("Oslo", "Rome"))
]
TOOLS: dict[str, Any] = {
    "request": ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
    "finish_reason": FinishReason.TOOL_CALLS,
}


def thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


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


class TestMistral(ProviderTests):
    provider = "mistral"
    settings = {"api_url": "{url}/v1", "api_key": canary("api_key")}
    wire = attrs.evolve(CHAT_COMPLETIONS, call_id_pattern="[A-Za-z0-9]{9}")
    samples = (
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
            "two tool calls in one chunk, without an index",
            {"role": "assistant", "content": ""},
            {"tool_calls": CALLS},
            whole={"content": "", "tool_calls": CALLS},
            tool_calls=(("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})),
        ),
    )
    request_body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
