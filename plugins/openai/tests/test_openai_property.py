"""An answer is the same however it came: whole, or as a stream cut anywhere."""

import json
from typing import Any

from hypothesis import given, strategies as st
from parser_properties import WHOLE, check_body, check_cut_off, check_same, check_stream, cut, json_of
from trunkline.authoring.provider import ServiceContext
from trunkline.settings import Settings
from trunkline_openai.parse import ChatResponseParser
from trunkline_openai.profile import PROFILES, Profile

TEXT = st.text(max_size=20)
NAMES = st.text("abcdefgh_", min_size=1, max_size=8)
ARGUMENTS = st.dictionaries(TEXT, st.integers() | TEXT | st.none(), max_size=3)
USAGE = st.none() | st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 99), "completion_tokens": st.integers(0, 99)},
    optional={
        "total_tokens": st.integers(0, 300),
        "prompt_tokens_details": st.none() | st.fixed_dictionaries({"cached_tokens": st.integers(0, 9)}),
        "completion_tokens_details": st.none() | st.fixed_dictionaries({"reasoning_tokens": st.integers(0, 9)}),
    },
)
ANNOTATION = st.builds(
    lambda url: {"type": "url_citation", "url_citation": {"url": url, "title": "t", "start_index": 0}}, TEXT
)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | TEXT | st.just("<think>a</think>b"))}
    if draw(st.booleans()):
        message[draw(st.sampled_from(["reasoning", "reasoning_content"]))] = draw(TEXT)
    if draw(st.booleans()):
        message["refusal"] = draw(TEXT)
    if draw(st.booleans()):
        message["annotations"] = draw(st.lists(ANNOTATION, max_size=2))
    count = draw(st.integers(0, 3))
    if count:
        message["tool_calls"] = [
            {
                "id": f"call_{position}",
                "type": "function",
                "function": {
                    "name": draw(NAMES),
                    "arguments": json.dumps(draw(ARGUMENTS)) if draw(st.booleans()) else "",
                },
            }
            for position in range(count)
        ]
    return message


@st.composite
def answers(draw: st.DrawFn) -> tuple[bytes, list[bytes], Profile]:
    """A body, the chunks of bytes of the same as a stream, and a profile."""
    message, usage = draw(messages()), draw(USAGE)
    # An empty answer is an error unless its finish reason explains it.
    is_empty = not any(value for name, value in message.items() if name != "role")
    failing = [] if is_empty else ["tool_calls", None]
    finish = draw(st.sampled_from(["stop", "length", "content_filter", "odd", *failing]))
    whole: dict[str, Any] = {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
    }
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for field in ("reasoning", "reasoning_content", "content", "refusal"):
        if message.get(field):
            deltas += [{field: piece} for piece in cut(draw, message[field])]
    if message.get("annotations"):
        deltas.append({"annotations": message["annotations"]})
    for position, item in enumerate(message.get("tool_calls", ())):
        first, *rest = cut(draw, item["function"]["arguments"])
        function = {**item["function"], "arguments": first}
        deltas.append({"tool_calls": [{**item, "index": position, "function": function}]})
        deltas += [{"tool_calls": [{"index": position, "function": {"arguments": piece}}]} for piece in rest]
    chunks: list[dict[str, Any]] = [
        {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage is not None:
        whole["usage"] = usage
        chunks.append({"id": "c", "model": "m", "choices": [], "usage": usage})
    escape = draw(st.booleans())
    stream = b"".join(b"data: %s\n\n" % json.dumps(chunk, ensure_ascii=escape).encode() for chunk in chunks)
    stream += b"data: [DONE]\n\n"
    profile = draw(st.sampled_from([PROFILES["generic"], PROFILES["openai"], Profile(name="p", think_tags=True)]))
    return json.dumps(whole).encode(), cut(draw, stream, 6), profile


def reader(profile: Profile) -> ChatResponseParser:
    return ChatResponseParser(ServiceContext(name="s", provider="p", settings=Settings()), profile=profile)


@given(answers())
def test_a_folded_stream_equals_the_whole_answer(answer: tuple[bytes, list[bytes], Profile]) -> None:
    whole, chunks, profile = answer
    check_same(reader(profile), "p", whole, chunks, WHOLE)


@given(answers(), st.data())
def test_a_stream_cut_off_is_never_a_success(answer: tuple[bytes, list[bytes], Profile], data: st.DataObject) -> None:
    _, chunks, profile = answer
    stream = b"".join(chunks)
    # Nothing after the D of [DONE] is missed.
    check_cut_off(reader(profile), stream[: data.draw(st.integers(0, len(stream) - len(b"[DONE]\n\n")))])


JSON = json_of(
    """
    choices index delta message content tool_calls function name arguments id audio data annotations type
    url_citation logprobs top_logprobs token logprob usage prompt_tokens prompt_tokens_details x_groq error
    finish_reason finish_details reasoning reasoning_details signature images image_url url text thinking
    function_call custom input citations search_results
    """,
    ["", "x", "stop", "AAEC", "text"],
)


@given(delta=JSON, top=JSON, whole=st.booleans())
def test_no_json_makes_the_parser_raise_anything_but_our_errors(delta: Any, top: Any, whole: bool) -> None:
    parser = reader(Profile(name="p", think_tags=True))
    fields = top if isinstance(top, dict) else {}
    for choice in ({"delta": delta}, {"message": delta}, delta):
        data = json.dumps({**fields, "choices": [choice, choice]}).encode()
        if whole:
            check_body(parser.body, data)
        else:
            check_stream(parser, "p", b"data: %s\n\ndata: [DONE]\n\n" % data)
