import json
from typing import Any

import pytest
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireResponse
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ContextTooLong,
    NotFound,
    ProtocolViolation,
    QuotaExhausted,
    RateLimited,
    RemoteError,
    ServerError,
    StreamInterrupted,
)
from trunkline.events import Event, Finished, ResponseStarted, TextDelta, ToolCallDelta, ToolCallStart, UsageReported
from trunkline.fold import fold
from trunkline.messages import Audio, Citation, Image, Opaque, Reasoning, Text, ToolCall
from trunkline.response import ChatResponse, TokenLogprob, Usage
from trunkline.settings import Settings
from trunkline_openai.parse import ChatResponseParser
from trunkline_openai.profile import PROFILES, Profile

GENERIC = PROFILES["generic"]


def reader(profile: Profile = GENERIC) -> ChatResponseParser:
    context = ServiceContext(name="test", provider="acme", settings=Settings())
    return ChatResponseParser(context, profile=profile)


def chunk(delta: object = None, finish: object = None, **fields: object) -> dict[str, object]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c1", "model": "m", "choices": [choice], **fields}


def wire(*chunks: object, done: bool = True) -> bytes:
    lines = [b"data: " + json.dumps(item).encode() + b"\n\n" for item in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def events(data: bytes, profile: Profile = GENERIC) -> list[Event]:
    decoder = StreamDecoder(*reader(profile).stream())
    return [*decoder.feed(data), *decoder.finish()]


def streamed(*chunks: object, profile: Profile = GENERIC) -> ChatResponse:
    return fold(events(wire(*chunks), profile), "acme")


def body(value: object, profile: Profile = GENERIC) -> ChatResponse:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return reader(profile).body(WireResponse(status=200, body=data))


def answer(message: object, finish: object = "stop", **fields: object) -> dict[str, object]:
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **fields}


def call(index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None) -> Any:
    value = {key: item for key, item in (("index", index), ("id", call_id)) if item is not None}
    function = {key: item for key, item in (("name", name), ("arguments", arguments)) if item is not None}
    return {**value, "function": function}


def calls(*deltas: list[Any], finish: object = "tool_calls") -> list[tuple[str, str, Any]]:
    chunks = [chunk({"tool_calls": delta}) for delta in deltas]
    response = streamed(*chunks, chunk({}, finish))
    assert response.finish_reason == "tool_calls"
    return [(item.id, item.name, item.arguments) for item in response.tool_calls]


def test_a_plain_stream_gives_its_events_in_order() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    found = events(
        wire(
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Hel"}),
            chunk({"content": "lo"}),
            chunk({}, "stop"),
            {"choices": [], "usage": usage},
        )
    )
    kinds = [type(event).__name__ for event in found]
    assert kinds == [
        "ResponseStarted",
        "TextStart",
        "TextDelta",
        "TextDelta",
        "UsageReported",
        "TextEnd",
        "Finished",
    ]
    assert found[0] == ResponseStarted(id="c1", model="m")
    assert isinstance(found[-1], Finished)
    assert found[-1].usage == Usage(input_tokens=3, output_tokens=2, total_tokens=5)
    assert found[-1].raw_reason == "stop"


def test_a_profile_may_take_a_finish_reason_for_the_end() -> None:
    profile = Profile(name="p", finish_reason_suffices=True)
    tail = {"choices": [], "usage": {"prompt_tokens": 1}}
    response = fold(events(wire(chunk({"content": "x"}, "length"), tail, done=False), profile))
    assert (response.text, response.finish_reason, response.usage) == ("x", "length", Usage(input_tokens=1))
    with pytest.raises(StreamInterrupted):
        events(wire(chunk({"content": "x"}), done=False), profile)
    with pytest.raises(StreamInterrupted):
        events(wire(chunk({"content": "x"}, "stop"), chunk({"content": "y"}), done=False), profile)


def test_stream_without_terminator_is_complete_after_a_refusal() -> None:
    response = fold(events(wire(chunk({"content": "x"}), chunk({}, "content_filter"), done=False)))
    assert (response.text, response.finish_reason) == ("x", "content_filter")


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
def test_stream_without_terminator_after_another_finish_reason_is_not_retried(reason: str) -> None:
    with pytest.raises(StreamInterrupted, match=f"finish reason '{reason}'") as caught:
        events(wire(chunk({"content": "x"}), chunk({}, reason), done=False))
    assert not caught.value.retryable
    assert (caught.value.finish_reason, caught.value.raw_finish_reason) == (reason, reason)
    with pytest.raises(StreamInterrupted) as caught:
        events(wire(chunk({"content": "x"}), done=False))
    assert caught.value.retryable
    assert caught.value.finish_reason is None


@pytest.mark.parametrize("choice", [{"finishReason": "stop"}, {"finish_reason": "end"}])
def test_the_finish_reason_may_have_another_name(choice: dict[str, str]) -> None:
    response = streamed(chunk({"content": "x"}), {"id": "c1", "choices": [{"index": 0, "delta": {}, **choice}]})
    assert (response.finish_reason, response.provider_metadata) == ("stop", {})


def test_the_text_of_the_older_completions_api_is_the_answer() -> None:
    choice = {"index": 0, "text": "Hello", "finish_reason": "stop"}
    assert streamed({"choices": [choice]}).text == body({"choices": [choice]}).text == "Hello"


def test_a_whole_body_in_one_event_needs_no_terminator() -> None:
    whole = {**answer({"role": "assistant", "content": "Hello"}), "object": "chat.completion"}
    for data in (wire(whole, done=False), json.dumps([whole]).encode()):
        assert fold(events(data), "acme").text == "Hello"


def test_null_among_the_chunks_or_the_calls_is_ignored() -> None:
    call = {"index": 0, "id": "a", "function": {"name": "w", "arguments": "{}"}}
    chunks = wire(chunk({"tool_calls": [None]}), chunk({"tool_calls": [call]}), chunk({}, "tool_calls"))
    assert [one.name for one in fold(events(b"data: null\n\n" + chunks), "acme").tool_calls] == ["w"]
    assert [one.name for one in body(answer({"tool_calls": [None, call]}, "tool_calls")).tool_calls] == ["w"]


def test_finish_reason_tool_calls_without_a_call_raises_server_error() -> None:
    with pytest.raises(ServerError, match="'tool_calls'"):
        streamed(chunk({"content": ""}), chunk({}, "tool_calls"))


EMPTY_STREAMS: dict[str, list[Any]] = {
    "only the terminator": [],
    "no choices": [{"choices": []}],
    "null choices": [{"choices": None, "id": "c1"}],
    "only usage": [{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}],
    "an empty choice": [chunk({"role": "assistant", "content": ""})],
}


@pytest.mark.parametrize("case", EMPTY_STREAMS)
def test_an_empty_stream_raises_server_error(case: str) -> None:
    with pytest.raises(ServerError, match="no error explains why") as caught:
        streamed(*EMPTY_STREAMS[case])
    assert caught.value.retryable


@pytest.mark.parametrize("choices", [[], None, [{"index": 0, "message": {"content": None}, "finish_reason": None}]])
def test_an_empty_body_raises_server_error(choices: Any) -> None:
    with pytest.raises(ServerError, match="no error explains why"):
        body({"id": "c1", "choices": choices, "usage": {"prompt_tokens": 1}})


def test_an_empty_answer_with_a_finish_reason_is_accepted() -> None:
    response = streamed(chunk({"role": "assistant", "content": ""}), chunk({}, "stop"))
    assert (response.parts, response.finish_reason) == ((), "stop")
    assert body(answer({"content": ""})).parts == ()


ERRORS_IN_STREAMS: dict[str, tuple[bytes, type[RemoteError], str]] = {
    "Venice": (
        wire({"error_type": "context_length_exceeded", "error_message": "The maximum context length is 9 tokens."}),
        ContextTooLong,
        "maximum context length",
    ),
    "DeepInfra": (
        wire({"choices": None, "error_type": "invalid_request_error", "error_message": "inference exception"}),
        BadRequest,
        "inference exception",
    ),
    "llama.cpp": (b'error: {"code":400,"message":"bad grammar"}\n\ndata: [DONE]\n\n', BadRequest, "bad grammar"),
    "DashScope, by status": (
        b'id:1\nevent:error\n:HTTP_STATUS/401\ndata:{"code":"X","message":"No.","request_id":"r"}\n\n',
        AuthenticationError,
        "No.",
    ),
    "DashScope, by code": (
        b'event:error\ndata:{"code":"Throttling.RateQuota","message":"Slow down."}\n\n',
        RateLimited,
        "Slow down.",
    ),
    "MiniMax": (
        wire({"choices": None, "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}),
        QuotaExhausted,
        "insufficient balance",
    ),
    "only a message": (wire({"object": "x", "message": "no such model", "code": 404}), NotFound, "no such model"),
    "in a choice, as text": (
        wire({"choices": [{"index": 0, "error": "broken", "delta": {"content": ""}}]}),
        ServerError,
        "broken",
    ),
    "success is false": (wire({"success": False, "errors": [{"code": 7, "message": "m"}]}), ServerError, "m"),
}


@pytest.mark.parametrize("case", ERRORS_IN_STREAMS)
def test_an_error_in_any_form_raises_the_matching_class(case: str) -> None:
    data, kind, message = ERRORS_IN_STREAMS[case]
    with pytest.raises(kind, match=message) as caught:
        events(data)
    assert type(caught.value) is kind
    with pytest.raises(kind, match=message):
        events(wire(chunk({"content": "x"}), done=False) + data)


def test_fields_that_report_success_are_not_an_error() -> None:
    ok = {"base_resp": {"status_code": 0, "status_msg": ""}, "error": None, "Successful": True, "message": "note"}
    assert streamed(chunk({"content": "x"}, "stop", **ok)).text == "x"
    assert body({**answer({"content": "x"}), **ok}).text == "x"


@pytest.mark.parametrize(
    ("native", "reason"), [("network_error", "error"), ("SAFETY", "content_filter"), ("eos", "stop")]
)
def test_the_finish_reason_of_the_provider_behind_a_gateway_is_used(native: str, reason: str) -> None:
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop", "native_finish_reason": native}
    assert streamed({"choices": [choice]}).finish_reason == reason


def test_a_response_that_failed_before_any_content_raises_server_error() -> None:
    for fields in ({"finish_reason": "error"}, {"finish_reason": "stop", "native_finish_reason": "network_error"}):
        with pytest.raises(ServerError, match="before any content") as caught:
            streamed({"choices": [{"index": 0, "delta": {"content": ""}, **fields}]})
        assert caught.value.retryable


def test_choices_with_increasing_indexes_are_one_answer() -> None:
    def one(index: int, text: str, finish: object = None, **fields: object) -> dict[str, object]:
        return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}], **fields}

    for ids in (["a", "b", "c"], ["a", "a", "a"], [None, None, None]):
        response = streamed(one(197, "Moon", id=ids[0]), one(198, ",", id=ids[1]), one(199, " no", "stop", id=ids[2]))
        assert (response.text, response.finish_reason, response.warnings) == ("Moon, no", "stop", ())
    several = streamed(one(0, "a"), one(1, "b"), one(0, "c"), one(1, "d"), one(0, "", "stop"), one(1, "", "stop"))
    assert (several.text, [warning.subject for warning in several.warnings]) == ("ac", ["n"])
    assert streamed(one(0, "a", "stop"), one(1, "b", "stop")).text == "a"


def test_later_smaller_counts_do_not_replace_larger_counts() -> None:
    first = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    response = streamed(chunk({"content": "x"}, "stop", usage=first), {"choices": [], "usage": zeros})
    assert response.usage == Usage(input_tokens=7, output_tokens=5, total_tokens=12)


def test_chunks_without_framing_are_complete_after_their_finish_reason() -> None:
    lines = [json.dumps(chunk({"content": text})).encode() + b"\n" for text in ("a", "b")]
    end = json.dumps(chunk({}, "stop")).encode() + b"\n"
    assert fold(events(b"".join([*lines, end]))).text == "ab"
    with pytest.raises(StreamInterrupted):
        events(b"".join(lines))


TWO = [("a", "f", {"x": 1}), ("b", "g", {"y": 2})]

PATHOLOGIES = {
    "no index, whole, in one chunk": ([[call(None, "a", "f", '{"x":1}'), call(None, "b", "g", '{"y":2}')]], TWO),
    "every index 0": (
        [
            [call(0, "a", "f", "")],
            [call(0, arguments='{"x":1}')],
            [call(0, "b", "g", "")],
            [call(0, arguments='{"y":2}')],
        ],
        TWO,
    ),
    "every index 0, in one chunk": ([[call(0, "a", "f", '{"x":1}'), call(0, "b", "g", '{"y":2}')]], TWO),
    "every index 0, id in each delta, interleaved": (
        [
            [call(0, "a", "f", '{"x"'), call(0, "b", "g", '{"y"')],
            [call(0, "a", arguments=":1}"), call(0, "b", arguments=":2}")],
        ],
        TWO,
    ),
    "id after the name": (
        [[call(0, name="f")], [call(0, "a", arguments='{"x":1}')], [call(1, "b", "g", '{"y":2}')]],
        TWO,
    ),
    "id and name in each delta": (
        [[call(0, "a", "f", '{"x"')], [call(0, "a", "f", ":1}")], [call(1, "b", "g", '{"y":2}')]],
        TWO,
    ),
    "name split": (
        [[call(0, "a", "get_")], [call(0, name="it")], [call(0, arguments="{}")]],
        [("a", "get_it", {})],
    ),
    "name split, id repeated": (
        [[call(0, "a", "get_")], [call(0, "a", "it", "{}")]],
        [("a", "get_it", {})],
    ),
    "another id in each delta": (
        [[call(0, "a", "f", '{"x"')], [call(0, "z", arguments=":1}")], [call(1, "b", "g", '{"y":2}')]],
        TWO,
    ),
    "null arguments": ([[call(0, "a", "f", "null")]], [("a", "f", {})]),
    "null inside the arguments": (
        [[call(0, "a", "f", '{"x":')], [call(0, arguments="null")], [call(0, arguments="}")]],
        [("a", "f", {"x": None})],
    ),
    "arguments as an object": ([[call(0, "a", "f", {"x": 1})]], [("a", "f", {"x": 1})]),
    "a different id in each delta, some without arguments": (
        [
            [call(0, "a", "f", "")],
            [call(0, "z1", arguments='{"x"')],
            [call(0, "z2", arguments="")],
            [call(0, "z3", arguments=":1}")],
            [call(0, "z4", arguments="")],
        ],
        TWO[:1],
    ),
    "the rest of the arguments under another index": (
        [[call(0, "a", "f", '{"x":1}')], [call(0, "b", "g", '{"y"')], [call(1, arguments=":2}")]],
        TWO,
    ),
    "the rest of the arguments under another index, with another id": (
        [[call(0, "a", "f", '{"x":1}')], [call(1, "b", "g", '{"y"')], [call(2, "z", arguments=":2}")]],
        TWO,
    ),
    "the name after the arguments": (
        [[call(0, "a", arguments='{"x":1}')], [call(0, "a", "f")], [call(1, "b", "g", '{"y":2}')]],
        TWO,
    ),
    "without arguments, then another": (
        [[call(0, "a", "f")], [call(1, "b", "g", '{"y":2}')]],
        [("a", "f", {}), TWO[1]],
    ),
}


@pytest.mark.parametrize("case", PATHOLOGIES)
def test_tool_calls_come_out_right(case: str) -> None:
    deltas, expected = PATHOLOGIES[case]
    assert calls(*deltas) == expected


def test_calls_without_ids_get_some_and_are_not_fused() -> None:
    found = calls([call(0, name="f", arguments='{"x":1}')], [call(0, name="f", arguments='{"x":2}')])
    assert [item[1:] for item in found] == [("f", {"x": 1}), ("f", {"x": 2})]
    assert found[0][0] != found[1][0]
    assert all(item[0] for item in found)


def test_one_id_for_two_calls_is_told_apart() -> None:
    entries = [call(0, "a", "f", '{"x":1}'), call(1, "a", "f", '{"x":2}')]
    found = calls(entries)
    assert [item[2] for item in found] == [{"x": 1}, {"x": 2}]
    assert found[0][0] != found[1][0]
    whole = body(answer({"tool_calls": entries})).tool_calls
    assert [(item.id, item.arguments) for item in whole] == [(item[0], item[2]) for item in found]


def test_a_call_without_a_name_is_kept_as_metadata_and_the_text_is_kept() -> None:
    nameless = call(0, "a", arguments='{"x":1}')
    for response in (
        streamed(chunk({"content": "Look:"}), chunk({"tool_calls": [nameless]}), chunk({}, "tool_calls")),
        body(answer({"content": "Look:", "tool_calls": [nameless]}, "tool_calls")),
    ):
        assert response.parts == (Text(text="Look:"),)
        assert response.provider_metadata == {"acme": {"tool_calls": [{"id": "a", "arguments": '{"x":1}'}]}}
        assert [warning.subject for warning in response.warnings] == ["tool call"]


def test_a_repeated_call_is_one_call_unless_its_arguments_differ() -> None:
    again = [[call(0, "a", "f", "")], [call(0, "a", arguments='{"x":1}')], [call(1, "a", "f", '{"x":1}')]]
    assert calls(*again) == TWO[:1]
    assert calls(*again[:2], [call(0, "a", "f", '{"x":1}')]) == TWO[:1]
    twice = body(answer({"tool_calls": [call(None, "a", "f", '{"x":1}'), call(None, "a", "f", '{"x":1}')]}))
    assert len(twice.tool_calls) == 1


def test_unknown_fields_of_a_call_are_kept_in_its_metadata() -> None:
    extra = {"google": {"thought_signature": "s"}}
    entry = {**call(0, "a", "f", '{"x":1}'), "extra_content": extra, "type": "builtin_function"}
    entry["function"]["thought"] = True
    response = streamed(chunk({"tool_calls": [entry]}), chunk({}, "stop"))
    assert response.parts == body(answer({"tool_calls": [entry]})).parts
    assert response.tool_calls[0].provider_metadata == {
        "acme": {"extra_content": extra, "type": "builtin_function", "function": {"thought": True}}
    }


def test_a_signature_of_the_message_is_kept_in_the_metadata_of_its_text() -> None:
    extra = {"google": {"thought_signature": "s"}}
    for response in (
        streamed(chunk({"content": "x"}), chunk({"content": "", "extra_content": extra}, "stop")),
        body(answer({"content": "x", "extra_content": extra})),
    ):
        assert response.parts == (Text(text="x"),)
        text = response.parts[0]
        assert isinstance(text, Text)
        assert text.provider_metadata == {"acme": {"extra_content": extra}}


def test_arguments_that_are_no_object_are_kept_with_a_warning() -> None:
    response = streamed(chunk({"tool_calls": [call(0, "a", "f", '{"x": "uncl')]}, "length"))
    assert response.tool_calls[0].invalid_arguments == '{"x": "uncl'
    assert [warning.kind for warning in response.warnings] == ["invalid_arguments"]
    assert response.finish_reason == "length"


def test_a_call_starts_before_its_arguments_are_complete() -> None:
    decoder = StreamDecoder(*reader().stream())
    found = decoder.feed(wire(chunk({"tool_calls": [call(0, "a", "f", '{"x"')]}), done=False))
    assert found[1:] == [ToolCallStart(index=0, id="a", name="f"), ToolCallDelta(index=0, arguments='{"x"')]


def test_the_legacy_function_call_is_a_tool_call() -> None:
    response = streamed(
        chunk({"function_call": {"name": "f", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"x":1}'}}),
        chunk({}, "function_call"),
    )
    assert [(item.name, item.arguments) for item in response.tool_calls] == [("f", {"x": 1})]
    assert response.finish_reason == "tool_calls"
    assert body(answer({"function_call": {"name": "f", "arguments": '{"x":1}'}})).parts == response.parts


def test_a_custom_call_keeps_its_free_text() -> None:
    value = {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    found = body(answer({"tool_calls": [value]})).tool_calls[0]
    assert (found.name, found.arguments) == ("sql", {"input": "SELECT 1"})
    assert found.provider_metadata == {"acme": {"type": "custom"}}


FINISH = [
    ("stop", "stop"),
    ("STOP", "stop"),
    ("eos", "stop"),
    ("end_turn", "stop"),
    ("completed", "stop"),
    ("length", "length"),
    ("MAX_TOKENS", "length"),
    ("max_tokens", "length"),
    ("tool_calls", "tool_calls"),
    ("tool_call", "tool_calls"),
    ("function_call", "tool_calls"),
    ("content_filter", "content_filter"),
    ("error", "error"),
    ("something new", "other"),
    (7, "other"),
    (None, "other"),
    ("", "other"),
]


@pytest.mark.parametrize(("said", "reason"), FINISH)
def test_finish_reasons_are_mapped_and_kept(said: object, reason: str) -> None:
    for response in (streamed(chunk({"content": "x"}), chunk({}, said)), body(answer({"content": "x"}, said))):
        assert response.finish_reason == reason
        assert response.raw_finish_reason == (str(said) if said not in (None, "") else None)


@pytest.mark.parametrize("said", ["stop", None, "something new"])
def test_a_call_makes_an_unsure_reason_tool_calls(said: object) -> None:
    assert body(answer({"tool_calls": [call(0, "a", "f", "{}")]}, said)).finish_reason == "tool_calls"


USAGES = [
    ({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}, Usage(input_tokens=1, output_tokens=2, total_tokens=3)),  # noqa: E501
    ({"prompt_tokens": 0}, Usage(input_tokens=0)),
    (
        {
            "prompt_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
            "completion_tokens": 5,
            "completion_tokens_details": {"reasoning_tokens": 3},
            "total_tokens": 14,
        },
        Usage(
            input_tokens=9,
            output_tokens=5,
            total_tokens=14,
            cache_read_tokens=4,
            cache_write_tokens=2,
            reasoning_tokens=3,
        ),
    ),
    ({"prompt_tokens": 9, "prompt_cache_hit_tokens": 0}, Usage(input_tokens=9, cache_read_tokens=0)),
    (
        {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "total_tokens": 32,
            "completion_tokens_details": {"reasoning_tokens": 20},
        },
        Usage(input_tokens=10, output_tokens=22, total_tokens=32, reasoning_tokens=20),
    ),
    ({"prompt_tokens": "9", "completion_tokens": None, "prompt_tokens_details": [], "total_tokens": True}, Usage()),
    (None, None),
    ({}, None),
    ("many", None),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "usage"), USAGES)
def test_usage_is_normalised_and_what_is_not_told_is_none(raw: object, usage: Usage | None) -> None:
    assert body(answer({"content": "x"}, usage=raw)).usage == usage
    assert streamed(chunk({"content": "x"}, "stop", usage=raw)).usage == usage


def test_usage_in_every_chunk_counts_once_and_the_last_counts() -> None:
    chunks = [chunk({"content": "x"}, usage={"prompt_tokens": 3, "completion_tokens": n}) for n in (1, 1, 2)]
    found = events(wire(*chunks, chunk({}, "stop")))
    assert [event.usage.output_tokens for event in found if isinstance(event, UsageReported)] == [1, 2]
    assert fold(found).usage == Usage(input_tokens=3, output_tokens=2)


def test_usage_in_x_groq_counts() -> None:
    response = streamed(chunk({"content": "x"}, "stop", x_groq={"id": "r", "usage": {"prompt_tokens": 3}}))
    assert response.usage == Usage(input_tokens=3)


def test_an_azure_prelude_has_no_choices_and_no_model() -> None:
    prelude = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    response = streamed(prelude, chunk({"content": "x"}, "stop"))
    assert (response.id, response.model, response.text) == ("c1", "m", "x")
    assert response.provider_metadata == {"acme": {"prompt_filter_results": [{"prompt_index": 0}]}}


def test_two_choices_are_never_fused() -> None:
    def one(index: int, text: str) -> dict[str, object]:
        return {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": "stop"}]}

    response = streamed(one(0, "a"), one(1, "b"), one(0, "c"))
    assert response.text == "ac"
    assert [warning.subject for warning in response.warnings] == ["n"]
    both = {
        "choices": [{"index": n, "message": {"content": t}, "finish_reason": "stop"} for n, t in ((0, "a"), (1, "b"))]
    }
    assert body(both).text == "a"
    assert [warning.subject for warning in body(both).warnings] == ["n"]


def test_a_refusal_is_a_text_of_its_own() -> None:
    response = streamed(chunk({"refusal": "I "}), chunk({"refusal": "won't"}), chunk({}, "stop"))
    assert response.parts == (Text(text="I won't", refusal=True),)
    assert body(answer({"content": None, "refusal": "I won't"})).parts == response.parts


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_read_from_the_profiles_fields(field: str) -> None:
    response = streamed(chunk({field: "hm"}), chunk({field: "m", "content": None}), chunk({"content": "x"}, "stop"))
    assert response.parts == (Reasoning(text="hmm", provider="acme"), Text(text="x"))
    assert body(answer({"content": "x", field: "hmm"})).parts == response.parts


def test_reasoning_in_two_fields_at_once_is_read_once() -> None:
    response = body(answer({"content": "x", "reasoning": "hm", "reasoning_content": "hm"}))
    assert response.reasoning == "hm"


def test_reasoning_details_come_back_whole() -> None:
    def piece(**fields: object) -> dict[str, object]:
        return chunk({"reasoning_details": [fields]})

    response = streamed(
        piece(type="reasoning.text", index=0, text="th"),
        piece(type="reasoning.text", index=0, text="ink", signature="s"),
        piece(type="reasoning.encrypted", index=1, data="e"),
        chunk({"content": "x"}, "stop"),
    )
    reasoning = response.parts[0]
    assert reasoning == Reasoning(text="think", provider="acme", signature="s", encrypted="e")
    assert isinstance(reasoning, Reasoning)
    assert reasoning.provider_metadata["acme"]["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "text": "think", "signature": "s"},
        {"type": "reasoning.encrypted", "index": 1, "data": "e"},
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>hm</think>\n\nx", (Reasoning(text="hm", provider="acme"), Text(text="x"))),
        (" \n<think>a</thin b</think>x", (Reasoning(text="a</thin b", provider="acme"), Text(text="x"))),
        ("<think>never closed", (Reasoning(text="never closed", provider="acme"),)),
        ("x <think>no</think>", (Text(text="x <think>no</think>"),)),
        ("<thinking>x", (Text(text="<thinking>x"),)),
        ("<thi", (Text(text="<thi"),)),
    ],
)
def test_think_tags_are_taken_apart_at_any_cut(text: str, parts: tuple[object, ...]) -> None:
    profile = Profile(name="p", think_tags=True)
    for size in (1, 2, 3, 5, 100):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        response = streamed(*[chunk({"content": piece}) for piece in pieces], chunk({}, "stop"), profile=profile)
        assert response.parts == parts
    assert body(answer({"content": text}), profile).parts == parts
    assert body(answer({"content": text})).text == text


def test_content_may_be_a_list_of_parts() -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "signature": "s"},
        {"type": "text", "text": "x"},
        {"type": "reference", "reference_ids": [1]},
    ]
    response = body(answer({"content": content}))
    assert response.parts == (
        Reasoning(text="hm", provider="acme", signature="s"),
        Text(text="x"),
        Opaque(provider="acme", kind="reference", data={"type": "reference", "reference_ids": [1]}),
    )
    assert streamed(chunk({"content": content}, "stop")).parts == response.parts


def test_content_that_a_server_decoded_is_json_text() -> None:
    assert body(answer({"content": {"a": [1]}})).text == '{"a":[1]}'
    assert streamed(chunk({"content": 2}, "stop")).text == "2"


def test_annotations_are_citations() -> None:
    note = {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 1, "end_index": 3}}
    other: Any = {"type": "file", "file": {"hash": "h"}}
    response = body(answer({"content": "x", "annotations": [note, other, None]}))
    assert response.parts == (
        Text(text="x"),
        Citation(url="u", title="t", start=1, end=3),
        Opaque(provider="acme", kind="annotation.file", data=other),
    )


def test_sources_beside_the_choices_are_citations() -> None:
    response = streamed(chunk({"content": "x"}, citations=["u1"]), chunk({}, "stop", citations=["u1", "u2"]))
    assert [item.url for item in response.citations] == ["u1", "u2"]


def test_audio_comes_as_one_part() -> None:
    response = streamed(
        chunk({"audio": {"id": "a1", "transcript": "He"}}),
        chunk({"audio": {"data": "AAEC", "transcript": "llo"}}),
        chunk({"audio": {"data": "AwQ="}}),
        chunk({"audio": {"expires_at": 9}}, "stop"),
    )
    part = response.parts[0]
    assert part == Audio(data=bytes(range(5)), transcript="Hello")
    assert isinstance(part, Audio)
    assert part.provider_metadata == {"acme": {"id": "a1", "expires_at": 9}}
    whole = {"id": "a1", "data": "AAECAwQ=", "transcript": "Hello", "expires_at": 9}
    assert body(answer({"content": None, "audio": whole})).parts == response.parts


def test_empty_fields_of_a_fixed_schema_are_nothing() -> None:
    empty = {
        "audio": {"data": "", "id": ""},
        "function_call": {"name": "", "arguments": ""},
        "refusal": "",
        "tool_calls": [],
    }
    assert body(answer({"content": "x", **empty})).parts == (Text(text="x"),)


def test_pictures_are_parts() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAEC"}}
    response = body(answer({"content": "x", "images": [picture]}))
    assert response.parts[1] == Image(data=b"\x00\x01\x02", media_type="image/png")


def test_logprobs_are_read() -> None:
    tokens = [{"token": "x", "logprob": -1, "top_logprobs": [{"token": "y", "logprob": -2.5}]}, {"token": 3}, None]
    expected = (TokenLogprob(token="x", logprob=-1.0, top=(TokenLogprob(token="y", logprob=-2.5),)),)
    item = chunk({"content": "x"}, "stop")
    item["choices"][0]["logprobs"] = {"content": tokens}  # type: ignore[index]
    assert streamed(item).logprobs == expected
    whole = answer({"content": "x"})
    whole["choices"][0]["logprobs"] = {"content": tokens}  # type: ignore[index]
    assert body(whole).logprobs == expected


def test_unknown_fields_and_events_are_kept_or_passed_over() -> None:
    item = chunk({"content": "x", "mood": "good"}, "stop", service_tier="flex", system_fingerprint="f")
    item["choices"][0]["stop_reason"] = "END"  # type: ignore[index]
    data = b"event: ping\ndata: still here\n\n: comment\n\ndata:\n\n" + wire(item)
    response = fold(events(data), "acme")
    assert response.text == "x"
    assert response.provider_metadata["acme"] == {
        "service_tier": "flex",
        "system_fingerprint": "f",
        "stop_reason": "END",
        "mood": "good",
    }


@pytest.mark.parametrize("read", [body, lambda value: fold(events(json.dumps(value).encode()))])
def test_the_message_of_a_whole_answer_counts_and_not_an_empty_delta_beside_it(read: Any) -> None:
    # As Perplexity answers. Its streams have both as well, with all the text so far in the message.
    value = answer({"role": "assistant", "content": "Four"})
    value["choices"][0]["delta"] = {"role": "assistant", "content": ""}  # type: ignore[index]
    assert read(value).text == "Four"


def test_the_delta_of_a_chunk_counts_and_not_the_message_beside_it() -> None:
    first, second = chunk({"content": "Fo"}), chunk({"content": "ur"}, "stop")
    first["choices"][0]["message"] = {"content": "Fo"}  # type: ignore[index]
    second["choices"][0]["message"] = {"content": "Four"}  # type: ignore[index]
    assert streamed(first, second).text == "Four"


def test_a_bodys_raw_is_what_came() -> None:
    value = answer({"content": "x"})
    assert body(value).raw == value
    assert body([value]).text == "x"


ERRORS = {
    "in a chunk": (wire({"error": {"message": "m", "code": 502}}, done=False), ServerError),
    "in a chunk with choices": (
        wire({**chunk({"content": ""}), "error": {"message": "m", "code": 400}}),
        BadRequest,
    ),
    "in a choice": (wire({"choices": [{"index": 0, "error": {"message": "m", "code": 502}}]}), ServerError),
    "as an event": (b'event: error\ndata: {"message": "m", "type": "server_error"}\n\n', ServerError),
    "as an event of plain text": (b"event: error\ndata: m\n\n", ServerError),
    "of Mistral": (wire({"object": "error", "message": "m", "code": "1300"}), ServerError),
    "of Groq": (wire(chunk({}, x_groq={"error": "m"})), ServerError),
    "in a list": (wire([{"error": {"message": "m", "code": 400}}]), BadRequest),
    "bare": (wire(chunk({"content": "x"}), done=False) + b'{"error": {"message": "m", "code": 400}}', BadRequest),
    "bare, on several lines": (b'{\n  "error": {\n    "message": "m"\n  }\n}\n', ServerError),
    "bare, detail": (b'{"detail": "m"}\n', ServerError),
    "context": (wire({"error": {"message": "m", "code": "context_length_exceeded"}}), ContextTooLong),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_inside_a_stream_is_raised(case: str) -> None:
    data, kind = ERRORS[case]
    for size in (1, 7, len(data)):
        decoder = StreamDecoder(*reader().stream())
        with pytest.raises(RemoteError) as caught:
            for at in range(0, len(data), size):
                decoder.feed(data[at : at + size])
            decoder.finish()
        assert type(caught.value) is kind
        assert caught.value.message == "m"
        assert caught.value.provider == "acme"


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_whole_answer_in_place_of_a_stream_counts(size: int) -> None:
    data = json.dumps(answer({"content": "x"}), indent=1).encode()
    decoder = StreamDecoder(*reader().stream())
    found = [event for at in range(0, len(data), size) for event in decoder.feed(data[at : at + size])]
    assert fold([*found, *decoder.finish()]).text == "x"


def test_a_stream_in_place_of_a_whole_answer_counts() -> None:
    assert body(wire(chunk({"content": "x"}, "stop"))).text == "x"
    with pytest.raises(StreamInterrupted):
        body(wire(chunk({"content": "x"}, "stop"), done=False))


@pytest.mark.parametrize(
    "data",
    [
        b"data: 7\n\n",
        b"data: []\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        wire({"choices": {"index": 0}}),
        wire({"choices": [7]}),
        wire(chunk("text")),
        wire(chunk({"tool_calls": {"id": "a"}})),
        wire(chunk({"tool_calls": ["a"]})),
        wire(chunk({"content": [7]})),
        wire(chunk({"images": [{"image_url": {"url": "data:image/png;base64,!"}}]})),
        wire(chunk({"images": [{}]})),
        wire(chunk({"audio": {"data": "!!!!"}})),
    ],
)
def test_what_is_not_the_format_is_a_protocol_violation(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        events(data + wire(chunk({}, "stop")))


@pytest.mark.parametrize("data", [b"7", b'{"choices": 7}', b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_answer_is_a_protocol_violation(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        body(data)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"error": {"message": "m", "code": 502}}, ServerError),
        ({"error": "m", "choices": []}, ServerError),
        ({"object": "error", "message": "m", "type": "invalid_request_error"}, BadRequest),
        ({"detail": "m"}, ServerError),
    ],
)
def test_an_error_inside_a_200_body_is_raised(value: object, kind: type[RemoteError]) -> None:
    with pytest.raises(kind, match="m"):
        body(value)


def test_many_calls_and_long_arguments_take_linear_time() -> None:
    piece = [call(0, name="f", arguments="}")]
    many = [chunk({"tool_calls": piece}) for _ in range(3000)]
    response = streamed(chunk({"tool_calls": [call(0, "a", "f", '{"x": "')]}), *many, chunk({}, "stop"))
    assert len(response.tool_calls[0].invalid_arguments or "") == 3000 + 7
    entries = [call(n, f"c{n}", "f", "") for n in range(5000)]
    assert len(body(answer({"tool_calls": entries})).tool_calls) == 5000


def test_the_first_event_is_the_start_and_text_comes_at_once() -> None:
    decoder = StreamDecoder(*reader().stream())
    assert decoder.feed(b": hello\n\n") == []
    found = decoder.feed(wire(chunk({"content": "x"}), done=False))
    assert isinstance(found[0], ResponseStarted)
    assert found[-1] == TextDelta(index=0, text="x")


def test_a_tool_call_is_a_part_after_the_text() -> None:
    response = body(answer({"content": "x", "tool_calls": [call(0, "a", "f", "{}")]}))
    assert response.parts == (Text(text="x"), ToolCall(id="a", name="f"))


def test_logprobs_of_reasoning_and_fields_of_merged_objects_are_kept() -> None:
    """Fireworks sends logprobs of reasoning. Groq sends `x_groq` twice: first with a seed, then with usage."""
    token = {"token": "We", "logprob": -0.5}
    thought = {"content": None, "reasoning_content": [token]}
    chunks = (
        {**chunk({"reasoning_content": "We"}), "x_groq": {"id": "r1", "seed": 7}},
        chunk({"content": "Hi"}, "stop"),
        {"id": "c1", "choices": [], "x_groq": {"id": "r1", "tier": "on_demand"}},
    )
    for first in chunks[:1]:
        first["choices"][0]["logprobs"] = thought  # type: ignore[index]
    again = chunk({"reasoning_content": " see"})
    again["choices"][0]["logprobs"] = thought  # type: ignore[index]
    response = streamed(chunks[0], again, *chunks[1:])
    assert response.provider_metadata["acme"] == {
        "x_groq": {"id": "r1", "seed": 7, "tier": "on_demand"},
        "logprobs": {"reasoning_content": [token, token]},
    }
    whole = answer({"content": "Hi"})
    whole["choices"][0]["logprobs"] = -0.25
    assert body(whole).provider_metadata["acme"] == {"logprobs": -0.25}
