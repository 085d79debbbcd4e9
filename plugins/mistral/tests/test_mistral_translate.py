"""Requests on the wire, checked by the specification, by mistral-common and by the official client's models."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from trunkline import messages as m
from trunkline._plugins.registry import open_steps
from trunkline.authoring.provider import ServiceContext, Translation
from trunkline.errors import InvalidRequest
from trunkline.messages import (
    Audio,
    Citation,
    Document,
    Image,
    Message,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
    assistant,
    system,
    tool_result,
    user,
)
from trunkline.request import ChatRequest, ReasoningOptions, ResponseFormat, Tool, ToolChoice
from trunkline.secrets import Secret
from trunkline_mistral import MistralSettings, mistral

ROOT = Path(__file__).resolve().parents[3]
SPECIFICATION = (
    ROOT / os.environ.get("TRUNKLINE_ORACLES", "../shared/oracles")
).resolve() / "mistral-openapi-public.yaml"

PNG = b"\x89PNG\r\n\x1a\n"
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
WAV = b"RIFF\x00\x00\x00\x00WAVE"
WEATHER = Tool(name="weather", description="d", parameters={"type": "object", "properties": {}}, strict=True)
CALL = ToolCall(id="a1B2c3D4e", name="weather", arguments={"city": "Oslo"})
FILE = "0b2ac2a5-3d8e-4a0c-9b47-6f0f2f2a8a11"
LIBRARY = {"type": "document_library", "library_ids": ["x"]}
THOUGHT = Reasoning(text="hm", provider="mistral", family="mistral", signature="sig")


def translate(request: ChatRequest | str, *, stream: bool = False, **fields: Any) -> Translation:
    if isinstance(request, str):
        request = ChatRequest(**{"messages": request, "model": "mistral-small-latest", **fields})
    context = ServiceContext(name="s", provider="mistral", settings=MistralSettings(api_key=Secret("secret")))
    return open_steps(mistral, context).translator.translate(request, stream=stream)


def body_of(translation: Translation) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(translation.wire_request.body)
    return found


def kinds(translation: Translation) -> list[tuple[str, str]]:
    return [(warning.kind, warning.subject) for warning in translation.warnings]


def conversation(*turns: Message, **fields: Any) -> tuple[list[Any], list[tuple[str, str]]]:
    translation = translate(ChatRequest(messages=turns, model="m", **fields))
    return body_of(translation)["messages"], kinds(translation)


@cache
def specification() -> Any:
    """The published specification as validators by name, or `None` if it is not here."""
    if not SPECIFICATION.exists():
        if os.environ.get("TRUNKLINE_REQUIRE_RECORDINGS") == "1":
            pytest.fail(f"the oracle is required and is not at {SPECIFICATION}")
        return None
    yaml = pytest.importorskip("yaml")
    jsonschema = pytest.importorskip("jsonschema")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    components = yaml.load(SPECIFICATION.read_text(encoding="utf-8"), Loader=loader)["components"]
    return lambda name: jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": components}
    )


def check_specification(body: Any) -> None:
    """Check a body against the specification, if it is here; the official client checks every body too."""
    if specification() is not None:
        specification()("ChatCompletionRequest").validate(body)


def check_client(body: Any) -> None:
    models = pytest.importorskip("mistralai.client.models")
    kind = models.ChatCompletionStreamRequest if body.get("stream") else models.ChatCompletionRequest
    read = kind.model_validate(body).model_dump(mode="json", by_alias=True, exclude_unset=True)
    # The client passes over what it does not know: that all of it comes back shows that it knows all.
    assert read == body


def check_common(body: Any, *versions: str) -> None:
    """The body as mistral-common has it: its thinking is plain text, and it does not know every field."""
    request = pytest.importorskip("mistral_common.protocol.instruct.request")
    validator = pytest.importorskip("mistral_common.protocol.instruct.validator")
    known = request.ChatCompletionRequest.model_fields.keys()
    known_fields = json.loads(json.dumps({key: value for key, value in body.items() if key in known}))
    for message in known_fields["messages"]:
        content = message.get("content")
        for chunk in content if isinstance(content, list) else ():
            if chunk["type"] == "thinking":
                chunk["thinking"] = "".join(piece["text"] for piece in chunk["thinking"])
                chunk.pop("signature", None)
    parsed = request.ChatCompletionRequest.model_validate(known_fields)
    for version in versions:
        kind = getattr(validator, f"MistralRequestValidator{version}")
        kind(mode=validator.ValidationMode.serving).validate_request(parsed)


ALL = ("V3", "V5", "V11", "V13", "V15")
# Documents, files and references are not in mistral-common: the API takes them apart before.
BODIES: dict[str, tuple[ChatRequest, tuple[str, ...]]] = {
    "bare": (ChatRequest(messages="hi", model="m"), ALL),
    "the example of the wire notes": (
        ChatRequest(
            model="mistral-medium-3-5",
            messages=[
                system("Be brief."),
                user("Weather here?", Image(data=PNG)),
                assistant(ToolCall(id="call_1", name="weather", arguments={"city": "Oslo"})),
                tool_result("call_1", "timeout", is_error=True),
            ],
            tools=[WEATHER],
            tool_choice="required",
            parallel_tool_calls=False,
            response_format=ResponseFormat(schema={"type": "object"}, name="out", description="d"),
            max_output_tokens=512,
            temperature=0.2,
            top_p=0.9,
            seed=7,
            stop=["END"],
            frequency_penalty=0.1,
            presence_penalty=0.2,
            metadata={"k": "v"},
        ),
        ALL,
    ),
    "parallel calls": (
        ChatRequest(
            model="m",
            messages=[
                user("q"),
                assistant(CALL, ToolCall(id="toolu_2", name="weather")),
                tool_result("toolu_2", "b"),
                tool_result(CALL, "a"),
            ],
            tools=[WEATHER],
            tool_choice="weather",
        ),
        ALL,
    ),
    "text beside a call": (
        ChatRequest(model="m", messages=[user("q"), assistant("Well", CALL), tool_result(CALL, "r")], tools=[WEATHER]),
        ("V5", "V11", "V13", "V15"),
    ),
    "reasoning": (
        ChatRequest(
            model="m",
            messages=[user("q"), assistant(THOUGHT, "Well", CALL), tool_result(CALL, "r")],
            tools=[WEATHER],
            reasoning=ReasoningOptions(effort="high"),
        ),
        ("V15",),
    ),
    "a picture as a result": (
        ChatRequest(
            model="m", messages=[user("q"), assistant(CALL), tool_result(CALL, [Text(text="r"), Image(data=PNG)])]
        ),
        ("V15",),
    ),
    "sound": (ChatRequest(model="m", messages=[user("q", Audio(data=WAV))]), ("V5", "V11", "V13", "V15")),
    "a beginning": (ChatRequest(model="m", messages=[user("q"), assistant("It is")]), ALL),
    "documents and files": (
        ChatRequest(
            model="m",
            messages=[
                user(
                    Document(data=b"%PDF-1", name="a.pdf"),
                    Document(url="https://x/b.pdf"),
                    Document(file_id=FILE),
                    Image(file_id=FILE),
                    Image(url="https://x/y.png", detail="low"),
                    Audio(url="https://x/y.mp3"),
                )
            ],
        ),
        (),
    ),
    "a history of another provider": (
        ChatRequest(
            model="m",
            messages=[
                system("s"),
                user("q"),
                assistant(Reasoning(text="x", provider="anthropic", signature="y"), ToolCall(id="toolu_01", name="f")),
                tool_result("toolu_01", {"ok": True}),
                assistant(
                    Citation(url="u"), Opaque(provider="openai", kind="k", data={}), Text(text="no", refusal=True)
                ),
                system("now brief"),
                user("more"),
            ],
        ),
        ALL,
    ),
    "a citation sent back": (
        ChatRequest(
            model="m",
            messages=[
                user("q"),
                assistant("So", Citation(provider_metadata={"mistral": {"reference_ids": [1, "b"]}}), " it is"),
                user("r"),
            ],
        ),
        (),
    ),
    "options of its own": (
        ChatRequest(
            model="m",
            messages=[user("q")],
            tools=[WEATHER, Tool(name="library", provider_options={"mistral": LIBRARY})],
            provider_options={
                "mistral": {
                    "safe_prompt": True,
                    "prompt_cache_key": "k",
                    "service_tier": "auto",
                    "prediction": {"type": "content", "content": "x"},
                    "guardrails": [{"block_on_error": True}],
                    "n": 2,
                }
            },
        ),
        (),
    ),
}


@pytest.mark.parametrize("case", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_bodies_are_what_the_oracles_accept(case: str, stream: bool) -> None:
    request, versions = BODIES[case]
    body = body_of(translate(request, stream=stream))
    check_specification(body)
    check_client(body)
    if versions:
        check_common(body, *versions)


def test_the_oracles_refuse_what_other_servers_take() -> None:
    body = body_of(translate("hi", stream=True))
    if specification() is not None:
        with pytest.raises(Exception, match="stream_options"):
            check_specification({**body, "stream_options": {"include_usage": True}})
    with pytest.raises(AssertionError):
        check_client({**body, "stream_options": {"include_usage": True}})
    late = [*body["messages"], {"role": "assistant", "content": "x"}]
    with pytest.raises(Exception, match="last role"):
        check_common({**body, "messages": late}, "V15")


def test_the_whole_request_is_on_the_wire() -> None:
    translation = translate(BODIES["the example of the wire notes"][0], stream=True)
    call_id = body_of(translation)["messages"][2]["tool_calls"][0]["id"]
    assert body_of(translation) == {
        "model": "mistral-medium-3-5",
        "stream": True,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Weather here?"}, PICTURE]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": call_id, "name": "weather", "content": "Error: timeout"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "d",
                    "parameters": {**WEATHER.parameters, "additionalProperties": False},
                    "strict": True,
                },
            }
        ],
        "tool_choice": "any",
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "out", "schema": {"type": "object"}, "description": "d", "strict": True},
        },
        "max_tokens": 512,
        "temperature": 0.2,
        "top_p": 0.9,
        "random_seed": 7,
        "stop": ["END"],
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
        "metadata": {"k": "v"},
    }
    assert kinds(translation) == [("mended", "tool call id"), ("changed", "tool result")]


def test_where_it_goes() -> None:
    request = translate("hi", stream=True).wire_request
    assert (request.method, request.url) == ("POST", "https://api.mistral.ai/v1/chat/completions")
    assert request.headers == {"content-type": "application/json", "accept": "text/event-stream"}


@pytest.mark.parametrize(
    ("fields", "sent", "expected"),
    [
        ({"tool_choice": "none", "tools": [WEATHER]}, {}, [("emulated", "tool_choice")]),
        ({"tool_choice": "auto", "tools": [WEATHER]}, {"tool_choice": "auto"}, []),
        ({"tool_choice": ToolChoice.tool("weather"), "tools": [WEATHER]}, {"tool_choice": {"type": "function", "function": {"name": "weather"}}}, []),  # noqa: E501
        ({"tool_choice": "web", "tools": [Tool(name="web", provider_options={"mistral": {"type": "web_search"}})]}, {"tools": [{"type": "web_search"}]}, [("unsupported", "tool_choice")]),  # noqa: E501
        ({"response_format": ResponseFormat(type="json")}, {"response_format": {"type": "json_object"}}, []),
        ({"response_format": ResponseFormat(type="text")}, {}, []),
        ({"reasoning": ReasoningOptions(effort="none")}, {"reasoning_effort": "none"}, []),
        ({"reasoning": ReasoningOptions(effort="high")}, {"reasoning_effort": "high"}, []),
        ({"reasoning": ReasoningOptions(effort="max")}, {"reasoning_effort": "high"}, [("changed", "reasoning.effort")]),  # noqa: E501
        ({"reasoning": ReasoningOptions(effort="low")}, {"reasoning_effort": "high"}, [("changed", "reasoning.effort")]),  # noqa: E501
        ({"temperature": 2.0}, {"temperature": 1.5}, [("changed", "temperature")]),
        ({"temperature": 0.0, "top_p": 0.5}, {"temperature": 0.0}, [("changed", "top_p")]),
        ({"temperature": 0.0, "top_p": 1.0}, {"temperature": 0.0, "top_p": 1.0}, []),
        ({"reasoning": ReasoningOptions(max_tokens=9, summary="auto")}, {}, [("unsupported", "reasoning.max_tokens"), ("unsupported", "reasoning.summary")]),  # noqa: E501
        ({"top_k": 3}, {"top_k": 3}, []),
        ({"top_logprobs": 3}, {}, [("unsupported", "logprobs"), ("unsupported", "top_logprobs")]),
        ({"user_id": "u"}, {}, [("unsupported", "user_id")]),
        ({"stop": list("abcdef")}, {"stop": list("abcdef")}, []),
        ({"seed": 0}, {"random_seed": 0}, []),
        ({"provider_options": {"mistral": {"logprobs": True}, "openai": {"store": True}}}, {"logprobs": True}, []),
    ],
)  # fmt: skip
def test_what_is_said_otherwise_or_not_at_all(
    fields: dict[str, Any], sent: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    translation = translate("hi", **fields)
    body = body_of(translation)
    assert kinds(translation) == expected
    for key in ("model", "messages"):
        del body[key]
    if "tools" not in sent:
        body.pop("tools", None)
    assert body == sent
    if fields.get("tool_choice") == "none":
        assert "tools" not in body_of(translation)


FACTS: list[tuple[str, dict[str, Any], dict[str, Any], list[tuple[str, str, bool]]]] = [
    ("mistral-large-latest", {"reasoning": ReasoningOptions(effort="high")}, {}, [("unsupported", "reasoning.effort", True)]),  # noqa: E501
    ("mistral-large-latest", {"reasoning": ReasoningOptions(effort="none")}, {}, []),
    ("zai-glm-5-3", {"reasoning": ReasoningOptions(effort="none")}, {"reasoning_effort": "low"}, [("changed", "reasoning.effort", True)]),  # noqa: E501
    ("zai-glm-5-2", {"reasoning": ReasoningOptions(effort="none")}, {"reasoning_effort": "none"}, []),
    ("zai-glm-5-2", {"reasoning": ReasoningOptions(effort="max")}, {"reasoning_effort": "max"}, []),
    ("mistral-huge-1", {"reasoning": ReasoningOptions(effort="max")}, {"reasoning_effort": "max"}, []),
    ("mistral-huge-1", {"top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}, []),
    ("ministral-3b-latest", {"logprobs": True}, {}, [("unsupported", "logprobs", True)]),
]  # fmt: skip


@pytest.mark.parametrize(("model", "fields", "sent", "expected"), FACTS)
def test_options_that_a_model_refuses_are_not_sent(
    model: str, fields: dict[str, Any], sent: dict[str, Any], expected: list[tuple[str, str, bool]]
) -> None:
    translation = translate("hi", **{"model": model, **fields})
    body = body_of(translation)
    del body["model"], body["messages"]
    assert body == sent
    assert [(one.kind, one.subject, one.lossy) for one in translation.warnings] == expected


def test_new_parameters_have_the_names_of_the_official_client() -> None:
    body = body_of(translate("hi", model="mistral-huge-1", top_k=3, top_logprobs=2))
    check_client(body)


def test_no_images_are_sent_to_a_model_that_cannot_read_images() -> None:
    translation = translate(ChatRequest(messages=user("a", Image(data=PNG)), model="codestral-2508"))
    assert body_of(translation)["messages"] == [{"role": "user", "content": "a"}]
    assert [(one.subject, one.lossy) for one in translation.warnings] == [("image", True)]


def test_configuration_overrides_the_facts_about_a_model() -> None:
    facts = {"mistral-large-*": {"efforts": ["none", "max"]}, "codestral-*": {"refuses": []}}
    settings = MistralSettings(api_key=Secret("k"), model_facts=facts)
    translator = open_steps(mistral, ServiceContext(name="s", provider="mistral", settings=settings)).translator
    for request, field, value in (
        (ChatRequest(messages="a", model="mistral-large-latest", reasoning=ReasoningOptions(effort="max")), "reasoning_effort", "max"),  # noqa: E501
        (ChatRequest(messages=user("a", Image(data=PNG)), model="codestral-2508"), "model", "codestral-2508"),
    ):  # fmt: skip
        translation = translator.translate(request, stream=False)
        assert (body_of(translation)[field], translation.warnings) == (value, ())


@pytest.mark.parametrize(
    ("model", "family", "kept"),
    [
        ("mistral-small-latest", "mistral", True),
        ("mistral-medium-3-5", "mistral", True),
        ("mistral-small-latest", "glm", False),
        ("zai-glm-5-3", "mistral", False),
        ("zai-glm-5-3", "glm", True),
        ("mistral-large-latest", "mistral", False),
        ("open-mistral-nemo", "mistral", False),
    ],
)
def test_reasoning_is_sent_back_to_reasoning_models_of_the_same_family(model: str, family: str, kept: bool) -> None:
    answer = assistant(Reasoning(text="hm", provider="mistral", family=family), "Well")
    translation = translate(ChatRequest(messages=[user("q"), answer, user("r")], model=model))
    content = body_of(translation)["messages"][1]["content"]
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    assert content == ([thought, {"type": "text", "text": "Well"}] if kept else "Well")
    assert [(one.kind, one.lossy) for one in translation.warnings] == ([] if kept else [("mended", False)])
    assert translation.family == ("glm" if "glm" in model else "mistral")


def test_arguments_that_are_not_an_object_are_sent_as_json() -> None:
    broken = ToolCall(id="a1B2c3D4e", name="my tool", invalid_arguments="{")
    sent, warned = conversation(user("q"), assistant(broken), tool_result(broken, "no JSON"))
    function = sent[1]["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("my_tool", {"invalid_arguments": "{"})
    assert sent[2]["name"] == "my_tool"
    assert warned == [("mended", "tool call"), ("mended", "tool call")]


MEDIA: list[tuple[m.Part, dict[str, Any] | None, list[tuple[str, str]]]] = [
    (Image(data=PNG, detail="high"), {"type": "image_url", "image_url": {**PICTURE["image_url"], "detail": "high"}}, []),  # type: ignore[dict-item]  # noqa: E501
    (Image(url="https://x/y", detail="original"), {"type": "image_url", "image_url": {"url": "https://x/y"}}, [("unsupported", "image detail")]),  # noqa: E501
    (Image(file_id=FILE), {"type": "file", "file_id": FILE}, []),
    (Document(url="https://x/y"), {"type": "document_url", "document_url": "https://x/y"}, []),
    (Document(data=b"%PDF-", name="a"), {"type": "document_url", "document_url": "data:application/pdf;base64,JVBERi0=", "document_name": "a"}, []),  # noqa: E501
    (Document(data=b"PK", name="a"), {"type": "document_url", "document_url": "data:application/pdf;base64,UEs=", "document_name": "a"}, [("changed", "document")]),  # noqa: E501
    (Document(data=b"Hi", media_type="text/plain", name="a"), {"type": "text", "text": "a\n\nHi"}, [("emulated", "document")]),  # noqa: E501
    (Document(file_id=FILE), {"type": "file", "file_id": FILE}, []),
    (Audio(data=b"abc"), {"type": "input_audio", "input_audio": "YWJj"}, []),
    (Audio(url="https://x/y"), {"type": "input_audio", "input_audio": "https://x/y"}, []),
    (Audio(file_id=FILE), {"type": "file", "file_id": FILE}, []),
    (Text(text="t", provider_options={"mistral": {"x": 1}}), {"type": "text", "text": "t", "x": 1}, []),
    (Opaque(provider="mistral", kind="k", data={"type": "k"}), {"type": "k"}, []),
    (Opaque(provider="openai", kind="k", data={"type": "k"}), None, [("left_out", "opaque part")]),
]  # fmt: skip


@pytest.mark.parametrize(("part", "chunk", "expected"), MEDIA)
def test_media_in_a_user_message_and_in_a_result(
    part: m.Part, chunk: dict[str, Any] | None, expected: list[tuple[str, str]]
) -> None:
    sent, warned = conversation(user(part, "?"))
    question = {"type": "text", "text": "?"}
    assert sent == [{"role": "user", "content": [chunk, question] if chunk else "?"}]
    assert warned == expected
    result = ToolResult(tool_call_id=CALL.id, parts=(part, Text(text="?")))  # type: ignore[arg-type]
    sent, warned = conversation(user("q"), assistant(CALL), Message(role="tool", parts=result))
    assert sent[2]["content"] == ([chunk, question] if chunk else "?")
    assert warned == expected


def test_reasoning_is_sent_back_as_it_came_and_in_its_place() -> None:
    kept: list[Any] = [{"type": "text", "text": "a"}, {"type": "reference", "reference_ids": [1]}]
    second = Reasoning(text="a", provider="mistral", provider_metadata={"mistral": {"thinking": kept, "closed": False}})
    sent, warned = conversation(
        user("q"),
        assistant(THOUGHT, "x", second, Reasoning(provider="mistral", family="mistral", signature="only"), "y"),
        user("r"),
    )
    assert sent[1]["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "signature": "sig"},
        {"type": "text", "text": "x"},
        {"type": "thinking", "thinking": kept, "closed": False},
        {"type": "thinking", "thinking": [], "signature": "only"},
        {"type": "text", "text": "y"},
    ]
    assert warned == []


def test_reasoning_of_others_is_left_out_with_one_warning() -> None:
    others = [Reasoning(text="x", provider=name) for name in ("anthropic", "openai", None)]
    sent, warned = conversation(user("q"), assistant(*others, "x"), user("r"), assistant(*others, "y"), user("s"))
    assert [message["content"] for message in sent] == ["q", "x", "r", "y", "s"]
    assert warned == [("mended", "reasoning")]


def test_ids_that_others_made_are_replaced_for_call_and_result_alike() -> None:
    calls = [ToolCall(id=name, name="f") for name in ("call_abcdefgh", "toolu_01", "a1B2c3D4e", "")]
    sent, _ = conversation(user("q"), assistant(*calls), *(tool_result(call, call.id) for call in reversed(calls)))
    ids = [call["id"] for call in sent[1]["tool_calls"]]
    assert [message["tool_call_id"] for message in sent[2:]] == ids
    assert [message["content"] for message in sent[2:]] == [call.id for call in calls]
    assert all(len(found) == 9 and found.isalnum() and found.isascii() for found in ids)
    assert len(set(ids)) == 4
    assert ids[2] == "a1B2c3D4e"


ORDERS: list[tuple[list[Message], list[tuple[str, Any]], list[tuple[str, str]]]] = [
    (
        [user("q"), assistant(CALL), tool_result(CALL, "r"), user("s")],
        [("user", "q"), ("assistant", ""), ("tool", "r"), ("assistant", "OK."), ("user", "s")],
        [("mended", "messages")],
    ),
    (
        [user("q"), assistant(CALL), user("s")],
        [
            ("user", "q"),
            ("assistant", ""),
            ("tool", "Error: No result of this call is known."),
            ("assistant", "OK."),
            ("user", "s"),
        ],
        [("mended", "tool result"), ("mended", "messages"), ("changed", "tool result")],
    ),
    (
        [user("q"), assistant(CALL), tool_result(CALL, "a"), tool_result(CALL, "b")],
        [("user", "q"), ("assistant", ""), ("tool", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])],
        [("mended", "tool result")],
    ),
    (
        [user("q"), tool_result("nobody", "a")],
        [("user", "q")],
        [("mended", "tool result")],
    ),
    (
        [user("q"), assistant(""), assistant(), assistant(Text(text=""), Text(text="")), user("r")],
        [("user", "q"), ("user", "r")],
        [("mended", "message")],
    ),
    (
        [user("q"), assistant("a"), system("s"), user("r")],
        [("user", "q"), ("assistant", "a"), ("user", "s"), ("user", "r")],
        [("mended", "system message")],
    ),
    (
        [user("q"), assistant(CALL), tool_result(CALL, "r"), system("s")],
        [("user", "q"), ("assistant", ""), ("tool", "r"), ("assistant", "OK."), ("user", "s")],
        [("mended", "system message"), ("mended", "messages")],
    ),
    (
        [system("a"), system("b"), user("q"), system("c"), user("r")],
        [("system", "a"), ("system", "b"), ("user", "q"), ("system", "c"), ("user", "r")],
        [],
    ),
    (
        [user("q"), assistant(CALL), tool_result(CALL, [Image(data=PNG)], is_error=True)],
        [("user", "q"), ("assistant", ""), ("tool", [{"type": "text", "text": "Error: "}, PICTURE])],
        [("changed", "tool result")],
    ),
    (
        [Message(role="user", parts="q", name="ann")],
        [("user", "q")],
        [("left_out", "message name")],
    ),
]


@pytest.mark.parametrize(("turns", "sent", "expected"), ORDERS)
def test_the_rules_of_order_are_kept(
    turns: list[Message], sent: list[tuple[str, Any]], expected: list[tuple[str, str]]
) -> None:
    messages, warned = conversation(*turns)
    assert [(message["role"], message["content"]) for message in messages] == sent
    assert warned == expected
    body = {"model": "m", "messages": messages}
    check_specification(body)
    pictured = any(isinstance(content, list) and PICTURE in content for _, content in sent)
    check_common(body, *(("V15",) if pictured else ALL))


def test_an_answer_at_the_end_is_the_beginning_of_the_next() -> None:
    sent, warned = conversation(user("q"), assistant("It"), assistant("is"))
    assert [message.get("prefix") for message in sent] == [None, None, True]
    assert warned == []
    chosen = Message(role="assistant", parts="is", provider_options={"mistral": {"prefix": False}})
    assert conversation(user("q"), chosen)[0][1]["prefix"] is False


def test_a_conversation_of_empty_answers_cannot_be_sent() -> None:
    with pytest.raises(InvalidRequest, match="no part of the conversation"):
        conversation(assistant(""))


def test_conversation_that_begins_with_an_answer_gets_a_user_message_before_it() -> None:
    call = ToolCall(id="abcdefghi", name="weather")
    sent, warnings = conversation(assistant(call), tool_result(call, "7 C"))
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert warnings == [("mended", "messages")]
