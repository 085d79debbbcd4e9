"""Conversations in OpenAI's form, converted to messages: what is read, what is kept, and what is refused."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given, strategies as st
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import InvalidRequest
from trunkline.messages import (
    Audio,
    Citation,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline.request import ChatRequest
from trunkline.secrets import Secret
from trunkline_openai import OpenAISettings, messages_from
from trunkline_openai.profile import PROFILES
from trunkline_openai.translate import ChatTranslator
from trunkline_openai.urls import default_url

MESSAGE: Any = {"role": "user", "content": "hi"}
PART: Any = {"type": "text", "text": "hi"}
PNG = b"\x89PNG\r\n\x1a\n"
WAV = b"RIFF\x00\x00\x00\x00WAVE"


def translator(**profile: Any) -> ChatTranslator:
    context = ServiceContext(name="s", provider="openai", settings=OpenAISettings(api_key=Secret("sk-secret")))
    return ChatTranslator(context, profile=attrs.evolve(PROFILES["openai"], **profile), url=default_url)


def written(*messages: Message, **profile: Any) -> list[dict[str, Any]]:
    """The messages as the translator writes them."""
    request = ChatRequest(messages=messages, model="gpt-4.1")
    body = json.loads(translator(**profile).translate(request, stream=False).wire_request.body)
    found: list[dict[str, Any]] = body["messages"]
    return found


# What the wire can express: one result a tool message, right after its calls; media with a known type and a name.
TEXT = st.text(min_size=1, max_size=12)
OPTIONS = st.sampled_from([{}, {"openai": {"cache_control": {"type": "ephemeral"}}}])
NAME = st.none() | st.sampled_from(["ada", "tim"])
TEXTS = st.builds(Text, text=TEXT, provider_options=OPTIONS)
IMAGES = st.builds(
    Image, data=st.binary(max_size=9), media_type=st.sampled_from(["image/png", "image/jpeg"]), provider_options=OPTIONS
) | st.builds(Image, url=st.just("https://x/a.png"), detail=st.sampled_from([None, "low", "high"]))
AUDIO = st.builds(Audio, data=st.binary(max_size=9), media_type=st.sampled_from(["audio/wav", "audio/mpeg"]))
DOCUMENTS = st.builds(
    Document, data=st.binary(max_size=9), media_type=st.just("application/pdf"), name=TEXT
) | st.builds(Document, file_id=TEXT)
INPUT = st.lists(TEXTS | IMAGES | AUDIO | DOCUMENTS, min_size=1, max_size=3)
ARGUMENTS = st.dictionaries(TEXT, st.integers() | TEXT | st.none() | st.booleans(), max_size=2)


@st.composite
def answers(draw: st.DrawFn, turn: int) -> list[Message]:
    """An assistant's message, and the results of its tool calls."""
    parts: list[Part] = []
    if draw(st.booleans()):
        parts.append(Reasoning(text=draw(TEXT), provider="openai"))
    parts += draw(st.lists(TEXTS | st.builds(Text, text=TEXT, refusal=st.just(True)), max_size=3))
    if draw(st.booleans()):
        parts.append(Opaque(provider="openai", kind="annotation.file_citation", data={"type": "file_citation"}))
    if draw(st.booleans()):
        parts.append(Audio(data=b"", provider_metadata={"openai": {"id": "audio_1"}}))
    calls: list[ToolCall] = []
    for position in range(draw(st.integers(0, 2))):
        call_id, name = f"call_{turn}_{position}", draw(st.sampled_from(["weather", "now"]))
        if draw(st.booleans()):
            custom = {"openai": {"type": "custom"}}
            calls.append(ToolCall(id=call_id, name=name, arguments={"input": draw(TEXT)}, provider_metadata=custom))
        else:
            calls.append(ToolCall(id=call_id, name=name, arguments=draw(ARGUMENTS), provider_options=draw(OPTIONS)))
    if not calls and all(isinstance(part, Reasoning) for part in parts):
        parts.append(draw(TEXTS))  # a message without content is not sent
    results = [
        Message(
            role="tool",
            parts=ToolResult(tool_call_id=call.id, name=call.name, parts=draw(st.lists(TEXTS, min_size=1, max_size=2))),
        )
        for call in calls
    ]
    return [
        Message(role="assistant", parts=[*parts, *calls], name=draw(NAME), provider_options=draw(OPTIONS)),
        *results,
    ]


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages: list[Message] = []
    for turn in range(draw(st.integers(1, 4))):
        role = draw(st.sampled_from(["system", "user", "assistant"]))
        if role == "assistant":
            messages += draw(answers(turn))
        elif role == "user":
            messages.append(Message(role="user", parts=draw(INPUT), name=draw(NAME), provider_options=draw(OPTIONS)))
        else:
            messages.append(Message(role="system", parts=draw(st.lists(TEXTS, min_size=1, max_size=2))))
    return tuple(messages)


@given(conversations(), st.sampled_from(["reasoning_content", "reasoning", "thinking"]))
def test_what_the_translator_writes_is_read_back_equal(conversation: tuple[Message, ...], field: str) -> None:
    wire = written(*conversation, reasoning_replay=field)
    assert messages_from(wire) == conversation
    assert written(*messages_from(wire), reasoning_replay=field) == wire


def test_each_role_and_each_form_of_content_is_read() -> None:
    assert messages_from(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Rhyme."}]},
            {
                "role": "user",
                "name": "ada",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
                    {"type": "image_url", "image_url": {"url": "https://x/a.png"}},
                    {"type": "input_audio", "input_audio": {"data": "UklGRgAAAABXQVZF", "format": "wav"}},
                    {
                        "type": "file",
                        "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
                    },
                    {"type": "file", "file": {"filename": "b.pdf", "file_data": "JVBERi0="}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                ],
            },
            {"role": "assistant", "content": "Fine.", "refusal": "But not that.", "reasoning_content": "Hm."},
        ]
    ) == (
        system("Be brief."),
        system("Rhyme."),
        Message(
            role="user",
            name="ada",
            parts=[
                "Look:",
                Image(data=PNG, media_type="image/png", detail="low"),
                Image(url="https://x/a.png"),
                Audio(data=WAV, media_type="audio/wav"),
                Document(data=b"%PDF-", media_type="application/pdf", name="a.pdf"),
                Document(data=b"%PDF-", media_type="application/pdf", name="b.pdf"),
                Document(file_id="file-1"),
            ],
        ),
        assistant(Reasoning(text="Hm.", provider="openai"), "Fine.", Text(text="But not that.", refusal=True)),
    )


def test_tool_calls_and_their_results_are_read() -> None:
    function = {"name": "weather", "arguments": '{"city":"Oslo"}'}
    assert messages_from(
        [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "a", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": "a", "content": "cold"},
            {"role": "assistant", "content": "", "function_call": {"name": "now", "arguments": ""}},
            {"role": "function", "name": "now", "content": "noon"},
        ]
    ) == (
        assistant(call := ToolCall(id="a", name="weather", arguments={"city": "Oslo"})),
        tool_result(call, "cold"),
        assistant(legacy := ToolCall(id="function_call_2", name="now")),
        tool_result(legacy, "noon"),
    )


def test_a_message_dumped_by_the_openai_package_is_read() -> None:
    dumped = {
        "role": "assistant",
        "content": "Yes [1].",
        "refusal": None,
        "annotations": [{"type": "url_citation", "url_citation": {"url": "https://x", "start_index": 4}}],
        "audio": {"id": "audio_1", "data": "AAEC", "expires_at": 5, "transcript": "Yes"},
        "function_call": None,
        "tool_calls": None,
    }
    [message] = messages_from([dumped])
    assert message == assistant("Yes [1].", Citation(url="https://x", start=4), Audio(data=b"\0\1\2", transcript="Yes"))
    [wire] = written(message)
    assert wire["audio"] == {"id": "audio_1"}


def test_reasoning_details_go_back_unchanged() -> None:
    details = [{"type": "reasoning.text", "text": "Hm.", "signature": "s", "index": 0}]
    [message] = messages_from([{"role": "assistant", "content": "Yes", "reasoning_details": details}])
    assert message == assistant(Reasoning(text="Hm.", provider="openai", signature="s"), "Yes")
    [wire] = written(message, reasoning_replay="reasoning_details")
    assert wire["reasoning_details"] == details


def test_fields_without_a_place_are_kept_for_the_provider_that_is_named() -> None:
    image = {"url": "https://x/a.png", "format": "image/png"}
    wire: list[dict[str, Any]] = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": image},
            ],
        },
        {"role": "assistant", "content": "{", "prefix": True, "reasoning_content": "Hm."},
    ]
    question, answer = messages_from(wire, provider="openai-compatible")
    assert question == user(
        Text(text="Hi", provider_options={"openai-compatible": {"cache_control": {"type": "ephemeral"}}}),
        Image(url="https://x/a.png", provider_options={"openai-compatible": {"image_url": image}}),
    )
    assert answer.provider_options == {"openai-compatible": {"prefix": True}}
    assert answer.parts[0] == Reasoning(text="Hm.", provider="openai-compatible")
    assert written(*messages_from(wire)) == [wire[0], {key: wire[1][key] for key in ("role", "content", "prefix")}]


class Dumpable:
    def model_dump(self) -> dict[str, str]:
        return {}


PART_KINDS = "text, image_url, input_audio, file"


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("hi", "messages[1] must be a dict with a role and content, not 'hi'"),
        (Dumpable(), "messages[1] must be a dict with a role and content, not a Dumpable; call its model_dump() first"),
        (
            {"content": "hi"},
            "messages[1].role is missing; it must be system, developer, user, assistant, tool or function",
        ),
        (
            {"role": "human"},
            "messages[1].role must be system, developer, user, assistant, tool or function, not 'human'",
        ),
        ({"role": "user"}, "messages[1].content is missing; it must be a string or a list of parts"),
        ({"role": "user", "content": {"a": 1}}, "messages[1].content must be a string or a list of parts, not a dict"),
        ({"role": "user", "content": ["hi"]}, "messages[1].content[0] must be a dict, not 'hi'"),
        ({"role": "user", "content": [{}]}, f"messages[1].content[0].type is missing; it must be one of {PART_KINDS}"),
        (
            {"role": "user", "content": [{"type": "video_url"}]},
            f"messages[1].content[0].type must be one of {PART_KINDS}, not 'video_url'",
        ),
        (
            {"role": "assistant", "content": [{"type": "image"}]},
            f"messages[1].content[0].type must be one of {PART_KINDS}, refusal, thinking, not 'image'",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": 5}]},
            "messages[1].content[0].text must be a string, not a int",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]},
            "messages[1].content[0]: a data: URL needs a comma before its data (RFC 2397)",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "ogg"}}]},
            "messages[1].content[0].input_audio.format must be wav or mp3, not 'ogg'",
        ),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}]},
            "messages[1].content[0].input_audio has data that is not base64",
        ),
        (
            {"role": "user", "content": [{"type": "file", "file": {}}]},
            "messages[1].content[0].file must have either file_id or file_data",
        ),
        ({"role": "tool", "content": "x"}, "messages[1].tool_call_id is missing; it must be a string"),
        (
            {"role": "function", "name": "now", "content": "x"},
            "messages[1] is a result of 'now', but no function_call of it comes before",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "type": "magic"}]},
            "messages[1].tool_calls[0].type must be function or custom, not 'magic'",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]},
            "messages[1].tool_calls[0].function.arguments must be a string, not a dict",
        ),
        ({"role": "assistant", "audio": {"id": "a", "data": "?"}}, "messages[1].audio.data must be base64"),
    ],
)
def test_an_error_names_the_position_and_what_is_accepted(message: Any, error: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        messages_from([{"role": "user", "content": "hi"}, message])
    assert str(caught.value).startswith(error)


def test_an_error_does_not_show_what_the_conversation_says() -> None:
    diary: Any = "My secret diary: today I was at the seaside."
    with pytest.raises(InvalidRequest, match=r"messages\[0\] must be a dict with a role and content, not a str"):
        messages_from([diary])


@pytest.mark.parametrize(("value", "kind"), [(MESSAGE, "dict"), (None, "NoneType"), (5, "int")])
def test_value_in_place_of_a_list_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"messages must be a list of dicts, not a {kind}"):
        messages_from(value)


@pytest.mark.parametrize(
    "build",
    [
        lambda: ChatRequest(messages=[MESSAGE]),
        lambda: ChatRequest(messages=MESSAGE),
        lambda: user(PART),
        lambda: Message(role="user", parts=PART),
    ],
)
def test_the_core_refuses_a_dict_and_names_this_function(build: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"is a dict, not .* call trunkline_openai\.messages_from\(messages\)"):
        build()
