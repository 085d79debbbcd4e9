"""Stored conversations."""

from __future__ import annotations

import gc
import json
import traceback
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import trunkline
from trunkline import (
    Audio,
    ChatRequest,
    ChatResponse,
    Citation,
    Document,
    FinishReason,
    Image,
    InvalidRequest,
    Message,
    Opaque,
    Reasoning,
    ResponseFormat,
    Text,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline.authoring.json import JSONValue
from trunkline.storage import from_json, messages_from_json, to_json

PICTURE = trunkline.Image(data=b"\x89PNG", media_type="image/png")
CALL = ToolCall(id="c1", name="weather", arguments={"city": "Oslo", "days": [1, 2.5, None, True]})
CONVERSATION = (
    system("Be brief."),
    user("Look:", Image(data=b"\x89PNG\r\n\x1a\n"), Document(url="https://x.example/a.pdf"), Audio(file_id="f1")),
    assistant(
        Reasoning(
            text="hm", provider="toy", signature="s", encrypted="e", redacted=True, provider_metadata={"toy": {"id": 1}}
        ),
        Text(text="no", refusal=True),
        CALL,
        ToolCall(id="c2", name="weather", invalid_arguments='{"city":'),
        Citation(url="https://x.example", start=0, end=2),
        Opaque(provider="toy", kind="search", data={"a": {"b": [1]}}),
    ),
    tool_result(CALL, [Text(text="rain"), Image(url="https://x.example/a.png")], is_error=True),
)


def test_conversation_survives_a_round_trip() -> None:
    stored = json.loads(json.dumps(to_json(CONVERSATION)))
    assert messages_from_json(stored) == CONVERSATION
    assert messages_from_json(stored)[2].parts[0].provider_metadata == {"toy": {"id": 1}}  # type: ignore[union-attr]


def test_request_survives_a_round_trip() -> None:
    request = ChatRequest(
        messages=CONVERSATION,
        model="m",
        tools=[Tool(name="weather", parameters={"type": "object"}, strict=True)],
        tool_choice=ToolChoice.tool("weather"),
        response_format=ResponseFormat(schema={"type": "object"}),
        stop="END",
        temperature=0,
        provider_options={"toy": {"x": [1, {"y": None}]}},
    )
    assert from_json(ChatRequest, json.loads(json.dumps(to_json(request)))) == request


@pytest.mark.parametrize(
    "request_",
    [
        trunkline.EmbedRequest(inputs=["a", PICTURE, ["b", PICTURE]], model="m"),
        trunkline.ModerationRequest(inputs=["a", [PICTURE, "b"]]),
        trunkline.RerankRequest(query="q", documents=["a", "b"], top_n=1),
        trunkline.TranscriptionRequest(audio=trunkline.Audio(data=b"RIFF", media_type="audio/wav")),
        trunkline.SpeechRequest(text="a", voice="v"),
        trunkline.ImageRequest(prompt="p", images=[PICTURE]),
    ],
    ids=lambda request: type(request).__name__,
)
def test_request_of_another_operation_survives_a_round_trip(request_: object) -> None:
    assert from_json(type(request_), json.loads(json.dumps(to_json(request_)))) == request_


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ([1], r"expected str, not int @ \$\.inputs\[0\]"),
        ([[["a"]]], "expected str, not list"),
        ("a", "expected a list"),
    ],
)
def test_inputs_of_another_form_are_a_clear_error(inputs: object, problem: str) -> None:
    with pytest.raises(trunkline.InvalidRequest, match=problem):
        from_json(trunkline.EmbedRequest, {"inputs": inputs})  # type: ignore[dict-item]


def test_response_without_raw_survives_a_round_trip() -> None:
    response = ChatResponse(
        parts=CONVERSATION[2].parts,
        finish_reason=FinishReason.TOOL_CALLS,
        usage=Usage(input_tokens=0, raw={"prompt_tokens": 0}),
        logprobs=(TokenLogprob(token="a", logprob=-0.5, top=(TokenLogprob(token="b", logprob=-1),)),),
        raw={"secret": "large"},
    )
    stored = to_json(response)
    assert "secret" not in json.dumps(stored)
    assert from_json(ChatResponse, json.loads(json.dumps(stored))) == response


@pytest.mark.parametrize(
    "data",
    [
        None,
        "hi",
        {},
        {"role": "user"},
        {"role": "king", "parts": []},
        {"role": "user", "parts": [{"type": "dance"}]},
        {"role": "user", "parts": [{"type": "text", "text": 1}]},
        {"role": "user", "parts": [{"type": "image", "data": "*"}]},
        {"role": "user", "parts": [{"type": "image"}]},
    ],
)
def test_data_of_another_form_is_a_clear_error(data: object) -> None:
    with pytest.raises(InvalidRequest):
        from_json(Message, data)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        messages_from_json([data])  # type: ignore[list-item]


def test_error_about_a_stored_conversation_names_the_message_and_what_is_accepted() -> None:
    good: Any = {"role": "user", "parts": []}
    with pytest.raises(InvalidRequest, match=r"^messages\[1\] is not a stored Message: .*parts"):
        messages_from_json([good, {"role": "user"}])
    with pytest.raises(InvalidRequest, match=r"expected one of system, user, assistant, tool, not 'king' @ \$\.role"):
        messages_from_json([good, {"role": "king", "parts": []}])
    with pytest.raises(InvalidRequest, match=r"a list of messages, not str; decode the JSON text first"):
        messages_from_json("[]")


def test_arguments_that_are_nested_too_deeply_cannot_be_stored() -> None:
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    call = ToolCall(id="c", name="n", arguments={})
    call.arguments["x"] = deep  # type: ignore[index]
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        to_json(call)


def test_error_of_hostile_data_is_short() -> None:
    wrong: Any = {"role": "user", "parts": [{"type": "text", "text": 1}] * 1000}
    with pytest.raises(InvalidRequest, match="there may be more") as caught:
        from_json(Message, wrong)
    assert len("".join(traceback.format_exception(caught.value))) < 5000
    with pytest.raises(InvalidRequest) as caught:
        from_json(Message, {"role": "user", "parts": [{"type": "A" * 1_000_000}]})
    assert len(str(caught.value)) < 2000


HOSTILE: dict[str, Callable[[int], object]] = {
    "items of another type": lambda count: {"role": "user", "parts": [1] * count},
    "unknown types": lambda count: {"role": "user", "parts": [{"type": "x"}] * count},
    "fields of another type": lambda count: {"role": "user", "parts": [{"type": "text", "text": 1}] * count},
    "missing fields": lambda count: {"role": "user", "parts": [{"type": "tool_call"}] * count},
    "refused parts": lambda count: {"role": "user", "parts": [{"type": "image"}] * count},
    "wrong items in results": lambda count: {
        "role": "tool",
        "parts": [{"type": "tool_result", "tool_call_id": "1", "parts": [1] * count}] * 5,
    },
    "text for a list": lambda count: {"role": "user", "parts": "x" * count},
    "an object for a list": lambda count: {"role": "user", "parts": dict.fromkeys(map(str, range(count)), 1)},
    "options": lambda count: {
        "role": "user",
        "parts": [],
        "provider_options": dict.fromkeys(map(str, range(count)), 1),
    },
    "arguments": lambda count: {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": [float("nan")] * count}}],
    },
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_number_of_mistakes_does_not_multiply_their_cost(data: Callable[[int], object]) -> None:
    def allocated(count: int) -> int:
        hostile: Any = data(count)
        gc.collect()
        tracemalloc.start()
        try:
            with pytest.raises(InvalidRequest):
                from_json(Message, hostile)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    allocated(10)
    assert allocated(3000) < allocated(300) + 500_000  # an error of each item would take megabytes


def test_wrong_item_is_named() -> None:
    parts: list[JSONValue] = [{"type": "text", "text": "x"}, {"type": "tool_result", "tool_call_id": "1", "parts": [1]}]
    with pytest.raises(InvalidRequest, match=r"\$\.parts\[1\]\.parts\[0\]"):
        from_json(Message, {"role": "user", "parts": parts})
    with pytest.raises(InvalidRequest, match=r"expected a list, not str.*\$\.parts"):
        from_json(Message, {"role": "user", "parts": "x"})
    with pytest.raises(InvalidRequest, match=r"expected an object under 'a', not int.*\$\.provider_options"):
        from_json(Message, {"role": "user", "parts": [], "provider_options": {"a": 1}})


def test_list_that_is_nested_too_deeply_cannot_be_stored() -> None:
    value: object = []
    for _ in range(50_000):
        value = [value]
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        to_json(value)


@pytest.mark.parametrize("kind", [5, None, "Message", list[str]])
def test_a_kind_that_is_not_a_class_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidRequest, match="the kind must be a class such as"):
        from_json(kind, {})


@pytest.mark.parametrize(("tag", "named"), [("txt", "'txt'"), (None, "None"), (["text"], "list")])
def test_error_about_a_part_of_an_unknown_type_names_the_type_and_the_known_ones(tag: JSONValue, named: str) -> None:
    data: JSONValue = [{"role": "user", "parts": [{"type": tag, "text": "Hi"}]}]
    with pytest.raises(InvalidRequest) as caught:
        messages_from_json(data)
    assert "the type must be one of audio, citation" in str(caught.value)
    assert f"not {named}" in str(caught.value)
