"""The conformance kit, over the Messages API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
from trunkline.authoring.json import dumps
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, ModelInfo, Usage
from trunkline.testing import NAMED_SSE, TOOL_HISTORY, WEATHER, ProviderTests, Sample, Step, WireFormat, canary

PROMPT = {"input_tokens": 5, "cache_read_input_tokens": 4}
CITATION = {
    "type": "char_location",
    "cited_text": "The grass is green.",
    "document_index": 0,
    "document_title": "Meadows",
    "start_char_index": 0,
    "end_char_index": 19,
}
OSLO, ROME = ("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})


def event(kind: str, **fields: Any) -> bytes:
    return NAMED_SSE.frame(dumps({"type": kind, **fields}), kind)


def sample(name: str, *frames: bytes, content: list[dict[str, Any]], stop: str, **meaning: Any) -> Sample:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    begun = {**head, "content": [], "stop_reason": None, "usage": {**PROMPT, "output_tokens": 1}}
    usage = {**PROMPT, "output_tokens": 5}
    return Sample(
        name=name,
        frames=(
            event("message_start", message=begun),
            *frames,
            event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": 5}),
            event("message_stop"),
        ),
        body=dumps({**head, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}),
        usage=Usage(input_tokens=9, output_tokens=5, total_tokens=14, cache_read_tokens=4),
        **meaning,
    )


def start(index: int, **block: Any) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def delta(index: int, **inner: Any) -> bytes:
    return event("content_block_delta", index=index, delta=inner)


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def call(index: int, **fields: Any) -> bytes:
    return start(index, type="tool_use", id=f"call_{index}", name="weather", input={}, **fields)


def arguments(index: int, text: str) -> bytes:
    return delta(index, type="input_json_delta", partial_json=text)


CALLS = [
    {"type": "tool_use", "id": f"call_{at}", "name": "weather", "input": c[1]} for at, c in enumerate((OSLO, ROME))
]
TOLD_AS_CALLS: dict[str, Any] = {
    "content": CALLS,
    "stop": "tool_use",
    "request": ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
    "tool_calls": (OSLO, ROME),
    "call_ids": ("call_0", "call_1"),
    "finish_reason": FinishReason.TOOL_CALLS,
}


def steps(body: Any) -> Iterator[Step]:
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text"}] if isinstance(content, str) else content
        has_calls = any(block["type"] == "tool_use" for block in blocks)
        for block in blocks:
            if block["type"] == "tool_use":
                yield Step("call", block["id"], block["input"])
            elif block["type"] == "tool_result":
                yield Step("result", block["tool_use_id"])
            elif not has_calls:
                yield Step("message")


MESSAGES = WireFormat(
    framing=NAMED_SSE,
    steps=steps,
    refuses_blank_text=True,
    request_id_header="request-id",
    finish="end_turn",
    finish_reasons={
        "end_turn": FinishReason.STOP,
        "max_tokens": FinishReason.LENGTH,
        "refusal": FinishReason.CONTENT_FILTER,
    },
    signed_reasoning=True,
    error_body=lambda message: dumps({"type": "error", "error": {"message": message}}),
    error_event=lambda message: event("error", error={"type": "api_error", "message": message}),
    samples=(
        sample(
            "text",
            start(0, type="text", text=""),
            event("ping"),
            delta(0, type="text_delta", text="Grüß "),
            delta(0, type="text_delta", text="Gott 🌍"),
            stop(0),
            content=[{"type": "text", "text": "Grüß Gott 🌍"}],
            stop="end_turn",
            text="Grüß Gott 🌍",
        ),
        sample(
            "thinking",
            start(0, type="thinking", thinking="", signature=""),
            delta(0, type="thinking_delta", thinking="Let me "),
            delta(0, type="thinking_delta", thinking="see."),
            delta(0, type="signature_delta", signature="OPAQUE"),
            stop(0),
            start(1, type="text", text=""),
            delta(1, type="text_delta", text="Yes."),
            stop(1),
            content=[
                {"type": "thinking", "thinking": "Let me see.", "signature": "OPAQUE"},
                {"type": "text", "text": "Yes."},
            ],
            stop="end_turn",
            reasoning="Let me see.",
            text="Yes.",
            replays=("Let me see.", "OPAQUE"),
        ),
        sample(
            "hidden thinking",
            start(0, type="redacted_thinking", data="HIDDEN"),
            stop(0),
            start(1, type="text", text=""),
            delta(1, type="text_delta", text="Yes."),
            stop(1),
            content=[{"type": "redacted_thinking", "data": "HIDDEN"}, {"type": "text", "text": "Yes."}],
            stop="end_turn",
            text="Yes.",
            replays=("HIDDEN",),
        ),
        sample(
            "a plain text, and one with a citation",
            start(0, type="text", text=""),
            delta(0, type="text_delta", text="It is said: "),
            stop(0),
            start(1, type="text", text="", citations=[]),
            delta(1, type="citations_delta", citation=CITATION),
            delta(1, type="text_delta", text="Grass is green."),
            stop(1),
            content=[
                {"type": "text", "text": "It is said: "},
                {"type": "text", "text": "Grass is green.", "citations": [CITATION]},
            ],
            stop="end_turn",
            text="It is said: Grass is green.",
            cited=("Grass is green.",),
        ),
        sample(
            "a block of tomorrow",
            start(0, type="block_of_tomorrow", what="UNHEARD-OF"),
            stop(0),
            start(1, type="text", text=""),
            delta(1, type="text_delta", text="Yes."),
            stop(1),
            content=[{"type": "block_of_tomorrow", "what": "UNHEARD-OF"}, {"type": "text", "text": "Yes."}],
            stop="end_turn",
            text="Yes.",
            kept=("block_of_tomorrow", "UNHEARD-OF"),
            replays=("block_of_tomorrow", "UNHEARD-OF"),
        ),
        sample(
            "thinking, a text and a tool call",
            start(0, type="thinking", thinking="", signature=""),
            event("ping"),
            delta(0, type="thinking_delta", thinking="think"),
            delta(0, type="signature_delta", signature="OPAQUE"),
            stop(0),
            start(1, type="text", text=""),
            delta(1, type="text_delta", text="Hi"),
            stop(1),
            call(2),
            arguments(2, ""),
            arguments(2, '{"city":"Oslo"}'),
            stop(2),
            content=[
                {"type": "thinking", "thinking": "think", "signature": "OPAQUE"},
                {"type": "text", "text": "Hi"},
                CALLS[0],
            ],
            stop="tool_use",
            request=ChatRequest(messages="Oslo?", tools=[WEATHER]),
            reasoning="think",
            text="Hi",
            tool_calls=(OSLO,),
            finish_reason=FinishReason.TOOL_CALLS,
        ),
        sample(
            "two tool calls",
            call(0),
            arguments(0, ""),
            arguments(0, '{"city":'),
            arguments(0, '"Oslo"}'),
            stop(0),
            call(1),
            arguments(1, '{"city":"Rome"}'),
            stop(1),
            **TOLD_AS_CALLS,
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
            **TOLD_AS_CALLS,
        ),
    ),
)


HEADERS = {"content-type": "application/json", "anthropic-version": "2026-10-21"}

HISTORY_BODY: dict[str, Any] = {
    "model": "m",
    "system": "Be brief.",
    "messages": [
        {"role": "user", "content": "What is the weather in Oslo and in Rome?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I will look."},
                {"type": "tool_use", "id": "abcdefgh1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "abcdefgh2", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "abcdefgh1", "content": "Sun"},
                {"type": "tool_result", "tool_use_id": "abcdefgh2", "is_error": True, "content": "Down"},
            ],
        },
        {"role": "assistant", "content": "Sun in Oslo."},
        {"role": "user", "content": "Thanks."},
    ],
    "tools": [{"name": "weather", "description": "Tells the weather.", "input_schema": WEATHER.parameters}],
    "tool_choice": {"type": "auto"},
    "max_tokens": 4321,
    "stop_sequences": ["END"],
}

HISTORY = attrs.evolve(
    MESSAGES.samples[0],
    name="after a history of tools",
    request=TOOL_HISTORY,
    request_wire=WireRequest(url="{url}/v1/messages", headers=HEADERS, body=dumps({**HISTORY_BODY, "stream": True})),
    unstreamed_wire=WireRequest(url="{url}/v1/messages", headers=HEADERS, body=dumps(HISTORY_BODY)),
)

# As documented in the anthropic SDK 2.14, types/model_info.py.
MODEL = {
    "type": "model",
    "id": "m1",
    "display_name": "Model 1",
    "max_input_tokens": 200_000,
    "max_tokens": 64_000,
    "capabilities": {
        "batch": {"supported": True},
        "image_input": {"supported": True},
        "pdf_input": {"supported": True},
        "structured_outputs": {"supported": False},
        "thinking": {"supported": True, "types": {"adaptive": {"supported": False}, "enabled": {"supported": True}}},
    },
}


class TestAnthropic(ProviderTests):
    provider = "anthropic"
    # The kit's model does not have a Claude name, so give it the facts of a Claude model.
    settings = {
        "api_url": "{url}",
        "api_key": canary("api_key"),
        "model_facts": {"*": {"signed_thinking": True}},
    }
    credentials = {"x-api-key": canary("api_key")}
    wire = MESSAGES
    families = (("claude-sonnet-4-5", "claude-opus-4-8"), ("deepseek-chat",), ("kimi-k2",))
    samples = (HISTORY,)
    model_pages = (
        dumps({"data": [MODEL], "has_more": True, "first_id": "m1", "last_id": "m1"}),
        dumps({"data": [{"id": "m2", "type": "model"}], "has_more": False, "first_id": "m2", "last_id": "m2"}),
    )
    listed_models = (
        ModelInfo(
            id="m1",
            name="Model 1",
            context_window=200_000,
            output_token_limit=64_000,
            capabilities=frozenset({"vision", "documents", "reasoning"}),
        ),
        ModelInfo(id="m2"),
    )
    operation_requests = {
        "model_info": WireRequest(method="GET", url="{url}/v1/models/m", headers={"anthropic-version": "2026-10-21"}),
        "list_models": WireRequest(
            method="GET", url="{url}/v1/models?limit=1000", headers={"anthropic-version": "2026-10-21"}
        ),
        "count_tokens": WireRequest(
            url="{url}/v1/messages/count_tokens",
            headers=HEADERS,
            body=dumps({key: HISTORY_BODY[key] for key in ("model", "system", "messages", "tools", "tool_choice")}),
        ),
    }
    skips = {"test_output_limit_that_is_not_set_is_not_sent": "the API requires max_tokens"}
