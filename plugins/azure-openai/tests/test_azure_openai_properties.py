"""What holds for every answer: it is the same however it came and wherever it was cut; nothing breaks the parser."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, strategies as st
from parser_properties import WHOLE, check_body, check_same, check_stream, cut, json_of
from trunkline._plugins.registry import open_steps
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import RemoteError
from trunkline_azure_openai import AzureOpenAISettings, azure_openai
from trunkline_azure_openai.errors import error_from_body

TEXT = st.text(max_size=12)
FOUND = st.fixed_dictionaries(
    {"filtered": st.booleans()},
    optional={"severity": st.sampled_from(["safe", "low", "medium", "high"]), "detected": st.booleans()},
)
FILTERS = st.dictionaries(st.sampled_from(["hate", "sexual", "jailbreak"]), FOUND, max_size=3)
_settings = AzureOpenAISettings(api_url="https://r.openai.azure.com", api_key="key-REDACTED")  # type: ignore[arg-type]
PARSER = open_steps(azure_openai, ServiceContext(name="mine", provider="azure-openai", settings=_settings)).parser


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A body, and the chunks of bytes of the same as a stream, with the events of Azure's filters."""
    texts = draw(st.lists(TEXT, min_size=1, max_size=4))
    reasoning = draw(st.lists(TEXT, max_size=2))
    calls = [
        {
            "id": f"call_{position}",
            "type": "function",
            "function": {"name": f"tool_{position}", "arguments": json.dumps(draw(st.dictionaries(TEXT, TEXT)))},
        }
        for position in range(draw(st.integers(0, 2)))
    ]
    finish = draw(st.sampled_from(["stop", "length", "tool_calls", "tool_call", "content_filter", "odd", None]))
    usage = draw(st.none() | st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9)}))
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts)}
    if reasoning:
        message["reasoning_content"] = "".join(reasoning)
    if calls:
        message["tool_calls"] = calls
    whole: dict[str, Any] = {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": text} for text in reasoning]
    deltas += [{"content": text} for text in texts]
    deltas += [{"tool_calls": [{"index": position, **call}]} for position, call in enumerate(calls)]
    chunks: list[dict[str, Any]] = [{"id": "", "model": "", "choices": [], "prompt_filter_results": []}]
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None, "content_filter_results": draw(FILTERS)}
        chunks.append({"id": "c", "model": "m", "choices": [choice]})
    chunks.append({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if draw(st.booleans()):
        late = {"index": 0, "delta": {}, "content_filter_results": draw(FILTERS), "content_filter_offsets": {"x": 1}}
        chunks.append({"id": "", "model": "", "choices": [late]})
    if usage is not None:
        whole["usage"] = usage
        chunks.append({"id": "c", "model": "m", "choices": [], "usage": usage})
    stream = b"".join(b"data: %s\n\n" % json.dumps(item, ensure_ascii=False).encode() for item in chunks)
    stream += b"data: [DONE]\n\n"
    return json.dumps(whole).encode(), cut(draw, stream, 6)


@given(answers())
def test_a_folded_stream_equals_the_whole_answer_wherever_it_is_cut(answer: tuple[bytes, list[bytes]]) -> None:
    check_same(PARSER, "azure-openai", *answer, WHOLE)


JSON = json_of(
    """
    choices index delta message content content_filter_results content_filter_offsets prompt_filter_results
    hate filtered severity detected context citations error innererror inner_error code finish_reason usage
    """,
    ["", "x", "stop", "safe", "401"],
)


@given(first=JSON, second=JSON, top=JSON)
def test_no_json_makes_the_parser_raise_anything_but_our_errors(first: Any, second: Any, top: Any) -> None:
    fields = top if isinstance(top, dict) else {}
    for choice in ({"delta": first, "content_filter_results": second}, {"message": first}, first):
        data = json.dumps({**fields, "choices": [choice, choice]}).encode()
        check_body(PARSER.body, data)
        check_stream(PARSER, "azure-openai", b"data: %s\n\n" % data * 2 + b"data: [DONE]\n\n")
    assert isinstance(error_from_body(top, provider="p", status=401), RemoteError)
