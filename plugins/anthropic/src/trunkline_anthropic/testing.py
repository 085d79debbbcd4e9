"""Samples of the Messages API for the conformance kit. Needs `trunkline[testing]`.

The test of a provider that speaks it:

    class TestAcme(ProviderTests):
        provider = "acme"
        settings = {"api_url": "{url}", "api_key": canary("api_key"), "model_facts": SIGNED}
        wire = MESSAGES
        samples = (messages_history("{url}/v1/messages", headers=HEADERS),)
        operation_requests = messages_operation_requests("{url}", headers=HEADERS)
        model_pages = MODEL_PAGES
        listed_models = LISTED_MODELS
        skips = NO_LIMIT
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from trunkline.authoring.json import JSONValue, dumps
from trunkline.authoring.wire import WireRequest
from trunkline.request import ChatRequest
from trunkline.response import FinishReason, ModelInfo, Usage
from trunkline.testing.wireformat import NAMED_SSE, TOOL_HISTORY, WEATHER, Sample, Step, WireFormat

HEADERS: Mapping[str, str] = {"anthropic-version": "2026-10-21"}
"""The headers of each request, at a place that takes the version in a header."""

SIGNED: Mapping[str, Any] = {"*": {"signed_thinking": True}}
"""For the setting `model_facts`. The kit's model has no name of Claude; this gives it the facts of a Claude model."""

NO_LIMIT: Mapping[str, str] = {"test_output_limit_that_is_not_set_is_not_sent": "the API requires max_tokens"}
"""For `ProviderTests.skips`."""

_NO_HEADERS: Mapping[str, str] = {}
_JSON = {"content-type": "application/json"}
_PROMPT = {"input_tokens": 5, "cache_read_input_tokens": 4}
_CITATION = {
    "type": "char_location",
    "cited_text": "The grass is green.",
    "document_index": 0,
    "document_title": "Meadows",
    "start_char_index": 0,
    "end_char_index": 19,
}
_OSLO, _ROME = ("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})


def _event(kind: str, **fields: Any) -> bytes:
    return NAMED_SSE.frame(dumps({"type": kind, **fields}), kind)


def _sample(name: str, *frames: bytes, content: list[dict[str, Any]], stop: str, **meaning: Any) -> Sample:
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    begun: dict[str, Any] = {**head, "content": [], "stop_reason": None, "usage": {**_PROMPT, "output_tokens": 1}}
    usage = {**_PROMPT, "output_tokens": 5}
    return Sample(
        name=name,
        frames=(
            _event("message_start", message=begun),
            *frames,
            _event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": 5}),
            _event("message_stop"),
        ),
        body=dumps({**head, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}),
        usage=Usage(input_tokens=9, output_tokens=5, total_tokens=14, cache_read_tokens=4),
        **meaning,
    )


def _start(index: int, **block: Any) -> bytes:
    return _event("content_block_start", index=index, content_block=block)


def _delta(index: int, **inner: Any) -> bytes:
    return _event("content_block_delta", index=index, delta=inner)


def _stop(index: int) -> bytes:
    return _event("content_block_stop", index=index)


def _call(index: int, **fields: Any) -> bytes:
    return _start(index, type="tool_use", id=f"call_{index}", name="weather", input={}, **fields)


def _arguments(index: int, text: str) -> bytes:
    return _delta(index, type="input_json_delta", partial_json=text)


_CALLS = [
    {"type": "tool_use", "id": f"call_{at}", "name": "weather", "input": c[1]} for at, c in enumerate((_OSLO, _ROME))
]
_TOLD_AS_CALLS: dict[str, Any] = {
    "content": _CALLS,
    "stop": "tool_use",
    "request": ChatRequest(messages="Oslo and Rome?", tools=[WEATHER]),
    "tool_calls": (_OSLO, _ROME),
    "call_ids": ("call_0", "call_1"),
    "finish_reason": FinishReason.TOOL_CALLS,
}


def message_steps(body: Any) -> Iterator[Step]:
    """Return the steps of the conversation in the body of a request."""
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


MESSAGES: WireFormat = WireFormat(
    framing=NAMED_SSE,
    steps=message_steps,
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
    error_event=lambda message: _event("error", error={"type": "api_error", "message": message}),
    samples=(
        _sample(
            "text",
            _start(0, type="text", text=""),
            _event("ping"),
            _delta(0, type="text_delta", text="Grüß "),
            _delta(0, type="text_delta", text="Gott 🌍"),
            _stop(0),
            content=[{"type": "text", "text": "Grüß Gott 🌍"}],
            stop="end_turn",
            text="Grüß Gott 🌍",
        ),
        _sample(
            "thinking",
            _start(0, type="thinking", thinking="", signature=""),
            _delta(0, type="thinking_delta", thinking="Let me "),
            _delta(0, type="thinking_delta", thinking="see."),
            _delta(0, type="signature_delta", signature="OPAQUE"),
            _stop(0),
            _start(1, type="text", text=""),
            _delta(1, type="text_delta", text="Yes."),
            _stop(1),
            content=[
                {"type": "thinking", "thinking": "Let me see.", "signature": "OPAQUE"},
                {"type": "text", "text": "Yes."},
            ],
            stop="end_turn",
            reasoning="Let me see.",
            text="Yes.",
            replays=("Let me see.", "OPAQUE"),
        ),
        _sample(
            "hidden thinking",
            _start(0, type="redacted_thinking", data="HIDDEN"),
            _stop(0),
            _start(1, type="text", text=""),
            _delta(1, type="text_delta", text="Yes."),
            _stop(1),
            content=[{"type": "redacted_thinking", "data": "HIDDEN"}, {"type": "text", "text": "Yes."}],
            stop="end_turn",
            text="Yes.",
            replays=("HIDDEN",),
        ),
        _sample(
            "a plain text, and one with a citation",
            _start(0, type="text", text=""),
            _delta(0, type="text_delta", text="It is said: "),
            _stop(0),
            _start(1, type="text", text="", citations=[]),
            _delta(1, type="citations_delta", citation=_CITATION),
            _delta(1, type="text_delta", text="Grass is green."),
            _stop(1),
            content=[
                {"type": "text", "text": "It is said: "},
                {"type": "text", "text": "Grass is green.", "citations": [_CITATION]},
            ],
            stop="end_turn",
            text="It is said: Grass is green.",
            cited=("Grass is green.",),
        ),
        _sample(
            "a block of tomorrow",
            _start(0, type="block_of_tomorrow", what="UNHEARD-OF"),
            _stop(0),
            _start(1, type="text", text=""),
            _delta(1, type="text_delta", text="Yes."),
            _stop(1),
            content=[{"type": "block_of_tomorrow", "what": "UNHEARD-OF"}, {"type": "text", "text": "Yes."}],
            stop="end_turn",
            text="Yes.",
            kept=("block_of_tomorrow", "UNHEARD-OF"),
            replays=("block_of_tomorrow", "UNHEARD-OF"),
        ),
        _sample(
            "thinking, a text and a tool call",
            _start(0, type="thinking", thinking="", signature=""),
            _event("ping"),
            _delta(0, type="thinking_delta", thinking="think"),
            _delta(0, type="signature_delta", signature="OPAQUE"),
            _stop(0),
            _start(1, type="text", text=""),
            _delta(1, type="text_delta", text="Hi"),
            _stop(1),
            _call(2),
            _arguments(2, ""),
            _arguments(2, '{"city":"Oslo"}'),
            _stop(2),
            content=[
                {"type": "thinking", "thinking": "think", "signature": "OPAQUE"},
                {"type": "text", "text": "Hi"},
                _CALLS[0],
            ],
            stop="tool_use",
            request=ChatRequest(messages="Oslo?", tools=[WEATHER]),
            reasoning="think",
            text="Hi",
            tool_calls=(_OSLO,),
            finish_reason=FinishReason.TOOL_CALLS,
        ),
        _sample(
            "two tool calls",
            _call(0),
            _arguments(0, ""),
            _arguments(0, '{"city":'),
            _arguments(0, '"Oslo"}'),
            _stop(0),
            _call(1),
            _arguments(1, '{"city":"Rome"}'),
            _stop(1),
            **_TOLD_AS_CALLS,
        ),
        _sample(
            "two tool calls, interleaved",
            _call(0),
            _call(1),
            _arguments(0, '{"city"'),
            _arguments(1, '{"city":"Ro'),
            _arguments(0, ':"Oslo"}'),
            _arguments(1, 'me"}'),
            _stop(1),
            _stop(0),
            **_TOLD_AS_CALLS,
        ),
    ),
)
"""The Messages API. Its samples are for `ProviderTests.wire`."""

_HISTORY: dict[str, Any] = {
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


def messages_history(
    url: str,
    *,
    stream_url: str | None = None,
    headers: Mapping[str, str] = _NO_HEADERS,
    model_in_body: bool = True,
    stream_in_body: bool = True,
    **fields: JSONValue,
) -> Sample:
    """Return a sample after a history of tools, with the request that the provider must send to `url`.

    `stream_url` is the URL of a streamed request, if that is another. `headers` and `fields` are those that the request
    must also have.
    """
    body = {name: value for name, value in _HISTORY.items() if model_in_body or name != "model"} | fields
    streamed = body | {"stream": True} if stream_in_body else body
    headers = {**_JSON, **headers}
    return attrs.evolve(
        MESSAGES.samples[0],
        name="after a history of tools",
        request=TOOL_HISTORY,
        request_wire=WireRequest(url=stream_url or url, headers=headers, body=dumps(streamed)),
        unstreamed_wire=WireRequest(url=url, headers=headers, body=dumps(body)),
    )


def counted_request(url: str, *, headers: Mapping[str, str] = _NO_HEADERS, **fields: JSONValue) -> WireRequest:
    """Return the request that counts the tokens of the kit's history, for `ProviderTests.operation_requests`."""
    counted = {key: _HISTORY[key] for key in ("model", "system", "messages", "tools", "tool_choice")}
    return WireRequest(url=url, headers={**_JSON, **headers}, body=dumps(counted | fields))


def messages_operation_requests(root: str, *, headers: Mapping[str, str] = _NO_HEADERS) -> dict[str, WireRequest]:
    """Return `ProviderTests.operation_requests` for a place that has the paths of Anthropic's own API below a root."""
    return {
        "model_info": WireRequest(method="GET", url=f"{root}/v1/models/m", headers=headers),
        "list_models": WireRequest(method="GET", url=f"{root}/v1/models?limit=1000", headers=headers),
        "count_tokens": counted_request(f"{root}/v1/messages/count_tokens", headers=headers),
    }


# As documented in the anthropic SDK 2.14, types/model_info.py.
_MODEL = {
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

MODEL_PAGES: tuple[bytes, ...] = (
    dumps({"data": [_MODEL], "has_more": True, "first_id": "m1", "last_id": "m1"}),
    dumps({"data": [{"id": "m2", "type": "model"}], "has_more": False, "first_id": "m2", "last_id": "m2"}),
)
"""Two pages of models, for `ProviderTests.model_pages`."""

LISTED_MODELS: tuple[ModelInfo, ...] = (
    ModelInfo(
        id="m1",
        name="Model 1",
        context_window=200_000,
        output_token_limit=64_000,
        capabilities=frozenset({"vision", "documents", "reasoning"}),
    ),
    ModelInfo(id="m2"),
)
"""What the pages of models say, for `ProviderTests.listed_models`."""
