"""Ollama, held to Trunkline's conformance kit: the samples say what the wire looks like and what it means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import attrs
from trunkline import ChatRequest, FinishReason, Reasoning, Usage, assistant, user
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.wire import WireRequest
from trunkline.response import ModelInfo, TokenLogprob
from trunkline.testing import (
    EMBED_DIMENSIONS,
    EMBED_TEXTS,
    JSON_LINES,
    TOOL_HISTORY,
    WEATHER,
    ProviderTests,
    Sample,
    Step,
    WireFormat,
    canary,
)


def line(**message: object) -> bytes:
    return JSON_LINES.frame(dumps({**HEAD, "message": {"role": "assistant", **message}, "done": False}))


def last(**fields: object) -> bytes:
    return JSON_LINES.frame(dumps({**HEAD, "message": {"role": "assistant", "content": ""}, **END, **fields}))


def body(**message: object) -> bytes:
    return dumps({**HEAD, "message": {"role": "assistant", **message}, **END})


def with_logprobs(answer: bytes, tokens: Sequence[TokenLogprob]) -> bytes:
    def one(token: TokenLogprob) -> dict[str, Any]:
        return {"token": token.token, "logprob": token.logprob, "bytes": list(token.token.encode())}

    found = [{**one(token), "top_logprobs": [one(other) for other in token.top]} for token in tokens]
    value = dumps({**loads(answer), "logprobs": found})
    return JSON_LINES.frame(value) if answer.endswith(b"\n") else value


def call(name: str, **arguments: object) -> dict[str, dict[str, object]]:
    return {"function": {"name": name, "arguments": arguments}}


def first(call: dict[str, dict[str, object]]) -> dict[str, object]:
    """The call with the index 0, as old servers send it for every call."""
    return {"function": {"index": 0, **call["function"]}}


HEAD: dict[str, Any] = {"model": "m", "created_at": "2026-01-01T00:00:00.5Z"}
END: dict[str, Any] = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 20,
    "prompt_eval_count": 9,
    "eval_count": 5,
    "eval_duration": 7,
}
COUNTED = Usage(input_tokens=9, output_tokens=5, total_tokens=14)
TEXT = "Grüß Gott 🌍"
LOGPROBS = (
    TokenLogprob(
        token="Grüß ",
        logprob=-0.25,
        top=(TokenLogprob(token="Grüß ", logprob=-0.25), TokenLogprob(token="Hallo ", logprob=-2.5)),
    ),
    TokenLogprob(token="Gott", logprob=-0.5, top=(TokenLogprob(token="Gott", logprob=-0.5),)),
)
OSLO, ROME = call("weather", city="Oslo"), call("weather", city="Rome")
CALLS = (("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"}))


def steps(body: Any) -> Iterator[Step]:
    for message in body["messages"]:
        if message["role"] == "tool":
            yield Step("result", message["tool_name"])
        elif message.get("tool_calls"):
            for call in message["tool_calls"]:
                yield Step("call", call["function"]["name"], call["function"]["arguments"])
        else:
            yield Step("message")


WIRE = WireFormat(
    framing=JSON_LINES,
    steps=steps,
    merged_options=frozenset({"options"}),
    unkept_fields=dict.fromkeys(("logprobs[]", "logprobs[].top_logprobs[]"), "a TokenLogprob has no metadata"),
    finish="stop",
    finish_reasons={"stop": FinishReason.STOP, "length": FinishReason.LENGTH},
    error_body=lambda message: dumps({"error": message}),
    error_event=lambda message: JSON_LINES.frame(dumps({"error": message})),
    embeddings=lambda vectors, indexes: dumps({"model": "m", "embeddings": list(vectors), "prompt_eval_count": 3}),
    samples=(
        Sample(
            name="text",
            frames=(line(content="Grüß "), line(content="Gott 🌍"), last()),
            body=body(content=TEXT),
            text=TEXT,
            usage=COUNTED,
        ),
        Sample(
            name="log probabilities",
            frames=(
                with_logprobs(line(content="Grüß "), LOGPROBS[:1]),
                with_logprobs(line(content="Gott"), LOGPROBS[1:]),
                last(),
            ),
            body=with_logprobs(body(content="Grüß Gott"), LOGPROBS),
            text="Grüß Gott",
            usage=COUNTED,
            logprobs=LOGPROBS,
        ),
        Sample(
            name="two tool calls, a line each",
            request=ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
            frames=(line(content="", tool_calls=[OSLO]), line(content="", tool_calls=[ROME]), last()),
            body=body(content="", tool_calls=[OSLO, ROME]),
            tool_calls=CALLS,
            finish_reason=FinishReason.TOOL_CALLS,
            usage=COUNTED,
        ),
        Sample(
            name="two tool calls in one line, with ids",
            request=ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
            frames=(line(content="", tool_calls=[{**OSLO, "id": "a"}, {**ROME, "id": "b"}]), last()),
            body=body(content="", tool_calls=[{**OSLO, "id": "a"}, {**ROME, "id": "b"}]),
            tool_calls=CALLS,
            finish_reason=FinishReason.TOOL_CALLS,
            usage=COUNTED,
        ),
        Sample(
            name="every tool call with the index 0",
            request=ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
            frames=(line(content="", tool_calls=[first(OSLO)]), line(content="", tool_calls=[first(ROME)]), last()),
            body=body(content="", tool_calls=[first(OSLO), first(ROME)]),
            tool_calls=CALLS,
            finish_reason=FinishReason.TOOL_CALLS,
            usage=COUNTED,
        ),
        Sample(
            name="thinking",
            request=ChatRequest(
                messages=[user("q"), assistant(Reasoning(text="hm", provider="ollama"), "a"), user("q")]
            ),
            frames=(
                line(content="", thinking="Let me "),
                line(content="", thinking="see."),
                line(content="No."),
                last(),
            ),
            body=body(content="No.", thinking="Let me see."),
            reasoning="Let me see.",
            text="No.",
            usage=COUNTED,
        ),
        Sample(
            name="cut off by the limit, from the cache",
            frames=(line(content="No"), last(done_reason="length", prompt_eval_count=0)),
            body=dumps({**HEAD, "message": {"content": "No"}, **END, "done_reason": "length", "prompt_eval_count": 0}),
            text="No",
            finish_reason=FinishReason.LENGTH,
            usage=Usage(output_tokens=5),
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
                {"id": "abcdefgh1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}},
                {"id": "abcdefgh2", "function": {"name": "weather", "arguments": {"city": "Rome"}}},
            ],
        },
        {"role": "tool", "tool_name": "weather", "tool_call_id": "abcdefgh1", "content": "Sun"},
        {"role": "tool", "tool_name": "weather", "tool_call_id": "abcdefgh2", "content": "Error: Down"},
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
    "options": {
        "num_predict": 4321,
        "temperature": 0.25,
        "top_p": 0.75,
        "top_k": 37,
        "seed": 8765,
        "frequency_penalty": 0.5,
        "presence_penalty": 1.0,
        "stop": ["END"],
    },
    "keep_alive": 300,
    "truncate": False,
    "shift": False,
}

HISTORY = attrs.evolve(
    WIRE.samples[0],
    name="after a history of tools",
    request=TOOL_HISTORY,
    request_wire=WireRequest(url="{url}/api/chat", headers=JSON_TYPE, body=dumps({**HISTORY_BODY, "stream": True})),
    unstreamed_wire=WireRequest(url="{url}/api/chat", headers=JSON_TYPE, body=dumps({**HISTORY_BODY, "stream": False})),
)


class TestOllama(ProviderTests):
    provider = "ollama"
    settings = {"api_url": "{url}", "api_key": canary("api_key"), "keep_alive": "300"}
    credentials = {"authorization": f"Bearer {canary('api_key')}"}
    wire = WIRE
    families = (("qwen3:8b", "qwen3:32b"), ("gpt-oss:20b",), ("deepseek-r1:8b",))
    samples = (HISTORY,)
    model_pages = (dumps({"models": [{"name": "m1", "capabilities": ["completion", "thinking", "new"]}]}),)
    listed_models = (ModelInfo(id="m1", capabilities=frozenset({"chat", "reasoning"})),)
    operation_requests = {
        "model_info": WireRequest(url="{url}/api/show", headers=JSON_TYPE, body=dumps({"model": "m"})),
        "list_models": WireRequest(method="GET", url="{url}/api/tags"),
        "embed": WireRequest(
            url="{url}/api/embed",
            headers=JSON_TYPE,
            body=dumps(
                {
                    "model": "m",
                    "input": EMBED_TEXTS,
                    "keep_alive": 300,
                    "truncate": False,
                    "dimensions": EMBED_DIMENSIONS,
                }
            ),
        ),
    }
