"""Chunks become the body that llama.cpp sends without streaming."""

import json
from pathlib import Path
from typing import Any

import pytest
from trunkline_llamacpp.runtime import Model
from trunkline_llamacpp.whole_response import whole_response


def _delta(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {
        "id": "1",
        "model": "m",
        "created": 5,
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


@pytest.mark.parametrize(
    ("chunks", "message", "finish_reason"),
    [
        (
            [
                _delta({"role": "assistant", "content": None}),
                _delta({"content": "a"}),
                _delta({"content": "b"}, "stop"),
            ],
            {"role": "assistant", "content": "ab"},
            "stop",
        ),
        ([_delta({"content": None}), _delta({}, "length")], {"role": "assistant", "content": ""}, "length"),
        (
            [
                _delta({"reasoning_content": "th"}),
                _delta({"reasoning_content": "ink"}),
                _delta({"content": "x"}, "stop"),
            ],
            {"role": "assistant", "content": "x", "reasoning_content": "think"},
            "stop",
        ),
        (
            [
                _delta({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f"}}]}),
                _delta({"tool_calls": [{"index": 1, "id": "d", "function": {"name": "g", "arguments": "{}"}}]}),
                _delta({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}),
                _delta({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}, "tool_calls"),
            ],
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"type": "function", "id": "c", "function": {"name": "f", "arguments": '{"a":1}'}},
                    {"type": "function", "id": "d", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            "tool_calls",
        ),
    ],
    ids=["text", "nothing", "reasoning", "tool calls"],
)
def test_deltas_are_joined(chunks: list[dict[str, Any]], message: dict[str, Any], finish_reason: str) -> None:
    usage = {"choices": [], "usage": {"total_tokens": 3}}
    body = json.loads(whole_response([*chunks, usage]))
    assert body["choices"] == [{"index": 0, "message": message, "finish_reason": finish_reason}]
    assert (body["id"], body["model"], body["object"], body["usage"]) == (
        "1",
        "m",
        "chat.completion",
        {"total_tokens": 3},
    )


def test_progress_is_left_out() -> None:
    body = json.loads(
        whole_response([{**_delta({}), "prompt_progress": {"total": 4}}, _delta({"content": "a"}, "stop")])
    )
    assert "prompt_progress" not in body


def test_it_is_what_the_model_itself_answers(model_file: Path) -> None:
    server = Model(service="s", path=model_file, context_length=512, threads=1).load("chat")
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 6}}, "required": ["city"]}
    for options in (
        # Four tokens: at a stop of its own, llama.cpp adds to a whole answer the log probability of that token.
        {"logprobs": True, "top_logprobs": 2, "max_tokens": 4},
        {"stop": ["can"]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}},
    ):
        request = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 14, "temperature": 0, **options}
        asked = {**request, "stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
        expected: dict[str, Any] = {}
        for body in (request, request, asked):  # the first fills the cache, which usage tells of
            texts: list[str] = []
            server.handle_chat_completions(json.dumps(body), lambda text, texts=texts: bool(texts.append(text)))  # type: ignore[misc]
            if body is request:
                expected = json.loads(texts[0])
        found = json.loads(whole_response(map(json.loads, texts)))
        for body in (expected, found):
            for name in ("id", "created", "timings"):
                del body[name]
        assert _rounded(found) == _rounded(expected)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return {name: _rounded(item) for name, item in value.items()} if isinstance(value, dict) else value
