"""Chat Completions at the gateway, against the official SDK and the plugin that speaks the format as a client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from recordings import EXCEPTIONS, FOLDER, PROVIDERS, chats, recorded, response_of as recorded_response
from trunkline import (
    Audio,
    ChatRequest,
    ChatResponse,
    Citation,
    Document,
    Event,
    FinishReason,
    Image,
    Message,
    Opaque,
    Reasoning,
    ReasoningOptions,
    ResponseFormat,
    Secret,
    Text,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
    user,
)
from trunkline.authoring.decoder import StreamDecoder
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import InvalidRequest, RemoteError
from trunkline.events import (
    Finished,
    ResponseStarted,
    TextDelta,
    TextEnd,
    TextStart,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
)
from trunkline.fold import fold, unfold
from trunkline.messages import Part
from trunkline_gateway.problems import GatewayError, Problem
from trunkline_gateway.targets import Target
from trunkline_gateway.wires import Reply, chat
from trunkline_gateway.wires.carried import wrap
from trunkline_openai import OpenAISettings, messages_from
from trunkline_openai.parse import ChatResponseParser
from trunkline_openai.profile import PROFILES
from trunkline_openai.translate import ChatTranslator
from trunkline_openai.urls import default_url

from .gateway_wires import PNG, problem_of_read, reply_to, stream_of

SAME = Target(name="main/gpt", service="main", model="gpt-4.1", provider="openai", wire="openai-chat")
OTHER = Target(name="claude", service="c", model="claude-x", provider="anthropic")
COMPOSED = Target(name="any", service="any", model=None)
USER = {"role": "user", "content": "Hi"}
CONTEXT = ServiceContext(name="s", provider="openai", settings=OpenAISettings(api_key=Secret("sk-secret")))
WAV = b"RIFF\x00\x00\x00\x00WAVE"


def reply(target: Target = OTHER, **fields: Any) -> Reply:
    return reply_to(target, **fields)


def read(target: Target = OTHER, **fields: Any) -> ChatRequest:
    return chat.read_request({"model": "x", "messages": [USER], **fields}, target)


def problem(target: Target = OTHER, **fields: Any) -> Problem:
    return problem_of_read(lambda: read(target, **fields))


def streamed(events: Iterable[Event], to: Reply) -> bytes:
    return stream_of(chat.StreamWriter(to), events)


def chunks_of(written: bytes) -> list[dict[str, Any]]:
    frames = written.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


def completed(written: bytes) -> dict[str, Any]:
    """The stream as the SDK puts it together."""
    state = ChatCompletionStreamState()
    for chunk in chunks_of(written):
        state.handle_chunk(ChatCompletionChunk.model_validate(chunk))
    return state.current_completion_snapshot.model_dump(exclude_unset=True, warnings=False)


# Text has no lone surrogates: pydantic refuses them.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.sampled_from(["weather", "now"])
ARGUMENTS = st.dictionaries(TEXT, st.integers(-(2**53), 2**53) | TEXT | st.none() | st.booleans(), max_size=2)


def metadata(provider: str) -> st.SearchStrategy[dict[str, dict[str, Any]]]:
    return st.just({}) | st.builds(lambda value: {provider: {"signature": value}}, TEXT)


@st.composite
def answers(draw: st.DrawFn, provider: str) -> tuple[Part, ...]:
    """The parts of an answer, in the order in which this format has them."""
    parts: list[Part] = draw(
        st.lists(
            st.builds(
                Reasoning,
                text=TEXT,
                provider=st.just(provider),
                signature=st.none() | TEXT.filter(bool),
                encrypted=st.none() | TEXT.filter(bool),
                redacted=st.booleans(),
                family=st.just("large"),
                provider_metadata=metadata(provider),
            ),
            max_size=4,
        )
    )
    texts = st.builds(Text, text=TEXT, family=st.just("large"), provider_metadata=metadata(provider))
    opaque = st.builds(
        Opaque,
        provider=st.just(provider),
        kind=TEXT,
        data=ARGUMENTS,
        family=st.just("large"),
        awaits_answer=st.booleans(),
    )
    parts += draw(st.lists(texts | opaque, max_size=5))
    parts += draw(st.lists(st.builds(Text, text=TEXT, refusal=st.just(True)), max_size=1))
    offset = st.integers(0, 99)
    citation = st.builds(
        Citation, url=TEXT, title=TEXT, cited_text=st.none() | TEXT.filter(bool), start=offset, end=offset
    )
    parts += draw(st.lists(citation, max_size=2))
    parts += draw(st.lists(st.builds(Image, data=st.binary(max_size=4), media_type=st.just("image/png")), max_size=2))
    parts += draw(st.lists(st.builds(Audio, data=st.binary(max_size=4), transcript=TEXT.filter(bool)), max_size=1))
    for position in range(draw(st.integers(0, 2))):
        parts.append(
            ToolCall(
                id=f"call_{position}",
                name=draw(NAMES),
                arguments=draw(ARGUMENTS),
                family="large",
                provider_metadata=draw(metadata(provider)),
            )
        )
    return tuple(parts)


def joined(parts: Iterable[Part]) -> list[Any]:
    """The parts with everything that has to survive; neighbours that nothing distinguishes are one part."""
    found: list[Any] = []
    for part in parts:
        marked = isinstance(part, Opaque)
        if isinstance(part, Text):
            marked = bool(part.provider_metadata) or part.refusal
            if (not marked and not part.text) or (part.refusal and not part.text):
                continue
        elif isinstance(part, Reasoning):
            marked = bool(part.signature or part.encrypted or part.redacted or part.provider_metadata)
            if not marked and not part.text:
                continue
        elif isinstance(part, ToolCall):
            marked = bool(part.provider_metadata)
        elif isinstance(part, Citation):
            part = attrs.evolve(part, cited_text=part.cited_text or None)
        fields: dict[str, Any] = {field.name: getattr(part, field.name) for field in attrs.fields(type(part))}
        if not marked:
            fields.pop("family", None)
        last = found[-1] if found else {}
        if isinstance(part, (Text, Reasoning)) and last.get("kind") is type(part) and not marked and not last["marked"]:
            last["text"] += part.text
            continue
        found.append({**fields, "kind": fields.pop("kind", type(part)), "class": type(part), "marked": marked})
    return found


def response_of(parts: tuple[Part, ...], provider: str) -> ChatResponse:
    return ChatResponse(parts=parts, finish_reason=FinishReason.STOP, provider=provider)


@given(answers("anthropic"), st.booleans())
def test_an_answer_that_a_client_sends_back_is_the_same_answer(parts: tuple[Part, ...], stream: bool) -> None:
    response, to = response_of(parts, "anthropic"), reply()
    if stream:
        completion = completed(streamed(unfold(response), to))
    else:
        completion = ChatCompletion.model_validate(chat.write_response(response, to)).model_dump(exclude_unset=True)
    message = completion["choices"][0]["message"]
    [_, answer] = read(messages=[USER, message]).messages
    assert joined(answer.parts) == joined(parts)


@given(answers("openai"), st.booleans())
@settings(max_examples=50)
def test_an_answer_of_the_same_format_comes_back_as_well(parts: tuple[Part, ...], stream: bool) -> None:
    response, to = response_of(parts, "openai"), reply(SAME)
    written = completed(streamed(unfold(response), to)) if stream else chat.write_response(response, to)
    message: Any = written["choices"][0]["message"]  # type: ignore[index,call-overload]
    [_, answer] = read(SAME, messages=[USER, message]).messages
    assert joined(answer.parts) == joined(parts)


def parser() -> ChatResponseParser:
    return ChatResponseParser(CONTEXT, profile=PROFILES["openai"])


PLAIN = st.tuples(
    st.lists(st.builds(Text, text=TEXT.filter(bool)), max_size=1),
    st.lists(st.builds(Text, text=TEXT.filter(bool), refusal=st.just(True)), max_size=1),
    st.lists(
        st.builds(ToolCall, id=st.sampled_from("ab"), name=NAMES, arguments=ARGUMENTS),
        max_size=2,
        unique_by=lambda c: c.id,
    ),
).filter(any)


@given(PLAIN, st.booleans(), st.booleans(), st.sampled_from(["stop", "length", "content_filter"]))
def test_the_plugin_reads_what_the_gateway_writes(
    plain: tuple[list[Part], ...], stream: bool, whole_calls: bool, reason: str
) -> None:
    parts = tuple(part for group in plain for part in group)
    calls = any(isinstance(part, ToolCall) for part in parts)
    usage = Usage(
        input_tokens=7, output_tokens=5, total_tokens=12, cache_read_tokens=3, cache_write_tokens=1, reasoning_tokens=2
    )
    response = ChatResponse(
        parts=parts, finish_reason=FinishReason("tool_calls" if calls else reason), usage=usage, provider="openai"
    )
    to = reply(SAME, include_usage=True, whole_calls=whole_calls)
    if stream:
        decoder = StreamDecoder(*parser().stream())
        found = fold([*decoder.feed(streamed(unfold(response), to)), *decoder.finish()], "openai")
    else:
        body = json.loads(json.dumps(chat.write_response(response, to)))
        found = fold(parser().stream()[1].whole(body), "openai")
    assert found.parts == parts
    assert found.finish_reason == response.finish_reason
    assert found.usage == usage
    assert (found.model, found.id) == ("main/gpt", "chatcmpl-" + to.id)


def test_usage_comes_only_if_the_client_asks_for_it() -> None:
    events = unfold(ChatResponse(parts=(Text(text="a"),), finish_reason=FinishReason.STOP, usage=Usage(input_tokens=1)))
    assert all("usage" not in chunk for chunk in chunks_of(streamed(events, reply())))
    *chunks, last = chunks_of(streamed(events, reply(include_usage=True)))
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == last["usage"]["total_tokens"] == 1


def test_log_probabilities_come_with_their_text() -> None:
    token = TokenLogprob(token="a", logprob=-0.5, top=(TokenLogprob(token="b", logprob=-1.0),))
    response = ChatResponse(parts=(Text(text="a"),), finish_reason=FinishReason.STOP, logprobs=(token,))
    written = streamed(unfold(response), reply())
    decoder = StreamDecoder(*parser().stream())
    assert fold([*decoder.feed(written), *decoder.finish()]).logprobs == (token,)
    whole = ChatCompletion.model_validate(chat.write_response(response, reply()))
    assert whole.choices[0].logprobs is not None
    assert whole.choices[0].logprobs.content is not None
    assert whole.choices[0].logprobs.content[0].top_logprobs[0].token == "b"
    assert whole.choices[0].logprobs.content[0].top_logprobs[0].bytes == [98]


def test_a_token_with_a_part_of_a_character_has_its_bytes() -> None:
    tokens = (TokenLogprob(token="\\xf0\\x9f", logprob=-1.0), TokenLogprob(token="é", logprob=-1.0))
    response = ChatResponse(parts=(Text(text="é"),), finish_reason=FinishReason.STOP, logprobs=tokens)
    body: Any = chat.write_response(response, reply())
    assert [token["bytes"] for token in body["choices"][0]["logprobs"]["content"]] == [[240, 159], [195, 169]]


def test_an_empty_answer_is_an_empty_text() -> None:
    empty: Any = chat.write_response(ChatResponse(parts=(), finish_reason=FinishReason.LENGTH), reply())
    assert empty["choices"][0]["message"] == {"role": "assistant", "content": "", "refusal": None}
    call = ToolCall(id="c", name="f")
    called: Any = chat.write_response(ChatResponse(parts=(call,), finish_reason=FinishReason.TOOL_CALLS), reply())
    assert called["choices"][0]["message"]["content"] is None


def test_unknown_fields_of_a_provider_with_the_same_format_pass_through() -> None:
    raw = {
        "id": "theirs",
        "model": "theirs",
        "system_fingerprint": "fp",
        "service_tier": "flex",
        "choices": [{"index": 0, "message": {"context": {"intent": "a"}}, "content_filter_results": {"hate": {}}}],
    }
    own = {"openai": {"service_tier": "flex", "model": "theirs"}}
    response = ChatResponse(parts=(Text(text="a"),), finish_reason=FinishReason.STOP, raw=raw, provider_metadata=own)
    body: Any = chat.write_response(response, reply(SAME))
    assert (body["system_fingerprint"], body["service_tier"], body["model"]) == ("fp", "flex", "main/gpt")
    assert body["choices"][0]["content_filter_results"] == {"hate": {}}
    assert body["choices"][0]["message"]["context"] == {"intent": "a"}
    assert chunks_of(streamed(unfold(response), reply(SAME)))[-1]["service_tier"] == "flex"
    other: Any = chat.write_response(response, reply(OTHER))
    assert "service_tier" not in other


def test_values_that_json_does_not_have_are_not_written() -> None:
    usage = Usage(input_tokens=1, raw={"cost": float("nan")})
    raw: Any = {"x": float("inf"), "choices": []}
    metadata = {"openai": {"x": float("nan")}}
    response = ChatResponse(
        parts=(
            Text(text="a", provider_metadata=metadata),
            Opaque(provider="openai", kind="annotation.x", data={"y": float("nan")}),
        ),
        finish_reason=FinishReason.STOP,
        usage=usage,
        raw=raw,
        provider_metadata=metadata,
    )
    json.dumps(chat.write_response(response, reply(SAME)), allow_nan=False)
    assert b"NaN" not in streamed(unfold(response), reply(SAME, include_usage=True))


def test_lone_surrogates_are_escaped() -> None:
    events: list[Event] = [
        ResponseStarted(),
        TextStart(index=0),
        TextDelta(index=0, text="\ud800"),
        TextEnd(index=0),
        Finished(reason=FinishReason.STOP),
    ]
    assert chunks_of(streamed(events, reply()))[1]["choices"][0]["delta"]["content"] == "\ud800"


def test_a_custom_tool_is_called_with_text() -> None:
    body = {"tools": [{"type": "custom", "custom": {"name": "shell"}}, {"type": "function", "function": {"name": "f"}}]}
    assert chat.custom_tools(body) == {"shell"}
    to = reply(custom_tools=chat.custom_tools(body))
    events: list[Event] = [
        ResponseStarted(),
        ToolCallStart(index=0, id="c", name="shell"),
        ToolCallDelta(index=0, arguments='{"inp'),
        ToolCallDelta(index=0, arguments='ut":"ls"}'),
        ToolCallEnd(index=0),
        Finished(reason=FinishReason.TOOL_CALLS),
    ]
    expected = {"id": "c", "type": "custom", "custom": {"name": "shell", "input": "ls"}}
    [_, chunk, _] = chunks_of(streamed(events, to))
    assert chunk["choices"][0]["delta"] == {"tool_calls": [{"index": 0, **expected}]}
    whole: Any = chat.write_response(fold(events), to)
    assert whole["choices"][0]["message"]["tool_calls"] == [expected]
    tool = read(tools=body["tools"]).tools[0]
    assert tool.parameters["required"] == ["input"]
    call = read(messages=[USER, whole["choices"][0]["message"]]).messages[1].tool_calls[0]
    assert (call.name, call.arguments) == ("shell", {"input": "ls"})


def test_an_error_in_a_stream_is_raised_by_the_plugin() -> None:
    writer = chat.StreamWriter(reply())
    written = writer.write(ResponseStarted()) + writer.heartbeat
    written += writer.write_error(Problem(kind="overloaded", status=503, message="No capacity."))
    decoder = StreamDecoder(*parser().stream())
    with pytest.raises(RemoteError, match="No capacity"):
        list(decoder.feed(written))


# Requests: what the plugin writes is read back.

OPTIONS = st.sampled_from([{}, {"openai": {"extra": {"a": [1]}}}])
TEXTS = st.builds(Text, text=TEXT.filter(str.strip), provider_options=OPTIONS)
MEDIA = (
    st.builds(
        Image, data=st.just(PNG), media_type=st.sampled_from(["image/png", "image/jpeg"]), provider_options=OPTIONS
    )
    | st.builds(Image, url=st.just("https://x/a.png"), detail=st.sampled_from([None, "low", "high"]))
    | st.builds(Audio, data=st.just(WAV), media_type=st.sampled_from(["audio/wav", "audio/mpeg"]))
    | st.builds(Document, data=st.just(b"%PDF-"), media_type=st.just("application/pdf"), name=TEXT.filter(str.strip))
    | st.builds(Document, file_id=TEXT.filter(bool))
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages: list[Message] = []
    name = st.none() | st.sampled_from(["ada", "tim"])
    for turn in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            messages.append(Message(role="system", parts=draw(st.lists(TEXTS, min_size=1, max_size=2))))
        content = st.lists(TEXTS | MEDIA, min_size=1, max_size=3)
        messages.append(Message(role="user", parts=draw(content), name=draw(name), provider_options=draw(OPTIONS)))
        parts: list[Part] = draw(
            st.lists(st.builds(Reasoning, text=TEXT.filter(str.strip), provider=st.just("openai")), max_size=1)
        )
        parts += draw(
            st.lists(
                TEXTS | st.builds(Text, text=TEXT.filter(str.strip), refusal=st.just(True)), min_size=1, max_size=2
            )
        )
        calls = [
            ToolCall(
                id=f"call_{turn}_{position}",
                name=draw(NAMES),
                arguments=draw(ARGUMENTS),
                provider_options=draw(OPTIONS),
            )
            for position in range(draw(st.integers(0, 2)))
        ]
        messages.append(Message(role="assistant", parts=[*parts, *calls], name=draw(name)))
        messages += [
            Message(
                role="tool",
                parts=ToolResult(tool_call_id=call.id, name=call.name, parts=draw(st.lists(TEXTS, min_size=1))),
            )
            for call in calls
        ]
    return (*messages, user("Go on."))


SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@st.composite
def requests(draw: st.DrawFn) -> ChatRequest:
    tools = draw(
        st.lists(
            st.builds(
                Tool,
                name=NAMES,
                description=st.none() | TEXT,
                parameters=st.just(SCHEMA),
                strict=st.sampled_from([None, True, False]),
                provider_options=OPTIONS,
            ),
            max_size=2,
            unique_by=lambda tool: tool.name,
        )
    )
    choices: list[ToolChoice | None] = [None]
    if tools:
        choices += [ToolChoice(mode="none"), ToolChoice(mode="auto"), ToolChoice(mode="required")]
        choices.append(ToolChoice.tool(tools[0].name))
    number = st.none() | st.floats(-2, 2)
    return ChatRequest(
        messages=draw(conversations()),
        model="gpt-4.1",
        tools=tools,
        tool_choice=draw(st.sampled_from(choices)),
        parallel_tool_calls=draw(st.sampled_from([None, True, False])) if tools else None,
        response_format=draw(
            st.none()
            | st.just(ResponseFormat(type="json"))
            | st.builds(ResponseFormat, schema=st.just(SCHEMA), name=NAMES, description=st.none() | TEXT)
        ),
        max_output_tokens=draw(st.none() | st.integers(1, 2**40)),
        temperature=draw(number),
        top_p=draw(number),
        stop=draw(st.lists(TEXT, max_size=3)),
        seed=draw(st.none() | st.integers(-(2**40), 2**40)),
        frequency_penalty=draw(number),
        presence_penalty=draw(number),
        cache_key=draw(st.none() | TEXT.filter(bool)),
        metadata=draw(st.dictionaries(TEXT, TEXT, max_size=2)),
        provider_options=draw(st.sampled_from([{}, {"openai": {"service_tier": "flex", "logit_bias": {"1": 2}}}])),
    )


def translated(request: ChatRequest, *, stream: bool = False, **profile: Any) -> dict[str, Any]:
    translator = ChatTranslator(CONTEXT, profile=attrs.evolve(PROFILES["openai"], **profile), url=default_url)
    body: dict[str, Any] = json.loads(translator.translate(request, stream=stream).wire_request.body)
    return body


@given(requests(), st.sampled_from(["reasoning_content", "reasoning", "thinking"]), st.booleans())
@settings(max_examples=60)
def test_a_request_that_the_plugin_writes_is_read_back_equal(request: ChatRequest, replay: str, stream: bool) -> None:
    body = translated(request, stream=stream, reasoning_replay=replay)
    assert chat.read_request(body, SAME) == request


def test_reasoning_details_of_a_server_go_back_unchanged() -> None:
    details = [{"type": "reasoning.text", "text": "Hm.", "signature": "s", "index": 0}]
    request = read(SAME, messages=[USER, {"role": "assistant", "content": "Yes", "reasoning_details": details}])
    part = request.messages[1].parts[0]
    assert part == Reasoning(text="Hm.", provider="openai", signature="s")
    assert translated(request, reasoning_replay="reasoning_details")["messages"][1]["reasoning_details"] == details
    other = read(OTHER, messages=[USER, {"role": "assistant", "content": "Yes", "reasoning_details": details}])
    assert other.messages[1].parts[0] == Reasoning(text="Hm.", provider="anthropic")


def test_a_signature_in_extra_content_goes_back_unchanged() -> None:
    extra = {"google": {"thought_signature": "sig"}}
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    answer = {"role": "assistant", "content": "Yes", "tool_calls": [call], "extra_content": extra}
    result = {"role": "tool", "tool_call_id": "a", "content": "r"}
    request = read(SAME, messages=[USER, answer, result])
    [_, wire, _] = translated(request)["messages"]
    assert wire["extra_content"] == wire["tool_calls"][0]["extra_content"] == extra
    response = ChatResponse(parts=request.messages[1].parts, finish_reason=FinishReason.STOP)
    message: Any = chat.write_response(response, reply(SAME))
    assert message["choices"][0]["message"]["extra_content"] == extra
    assert message["choices"][0]["message"]["tool_calls"][0]["extra_content"] == extra


def test_every_field_of_a_request_is_read() -> None:
    request = read(
        max_completion_tokens=5,
        max_tokens=9,
        stop="END",
        n=1,
        logprobs=True,
        top_logprobs=3,
        top_k=4,
        reasoning_effort="low",
        safety_identifier="me",
        user="old",
        prompt_cache_key="k",
        metadata={"a": "b"},
        response_format={"type": "text"},
        temperature=None,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert request == ChatRequest(
        messages="Hi",
        model="claude-x",
        max_output_tokens=5,
        stop="END",
        logprobs=True,
        top_logprobs=3,
        top_k=4,
        reasoning=ReasoningOptions(effort="low"),
        user_id="me",
        cache_key="k",
        metadata={"a": "b"},
    )
    assert chat.wants_usage({"stream_options": {"include_usage": True}})
    assert not chat.wants_usage({"stream_options": 1})


def test_older_forms_are_read() -> None:
    request = read(
        messages=[
            {"role": "developer", "content": "Rhyme."},
            {"role": "assistant", "content": None, "function_call": {"name": "now", "arguments": ""}},
            {"role": "function", "name": "now", "content": "noon"},
        ]
    )
    assert [message.role for message in request.messages] == ["system", "assistant", "tool"]
    assert request.messages[2].parts == (
        ToolResult(tool_call_id="function_call_1", name="now", parts=(Text(text="noon"),)),
    )


def test_the_tools_that_are_allowed_are_the_only_ones_for_other_providers() -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in ("a", "b")]
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "b"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    request = read(tools=tools, tool_choice=choice)
    assert [tool.name for tool in request.tools] == ["b"]
    assert request.tool_choice == ToolChoice(mode="required")
    same = read(SAME, tools=tools, tool_choice=choice)
    assert len(same.tools) == 2
    assert translated(same)["tool_choice"] == choice


def test_unknown_fields_go_to_a_provider_with_the_same_format_and_are_named_for_others() -> None:
    body = {
        "model": "x",
        "messages": [USER],
        "store": False,
        "verbosity": "low",
        "logit_bias": {},
        "new": None,
        "service_tier": "flex",
    }
    assert chat.ignored_fields(body, OTHER) == ("verbosity", "service_tier")
    assert chat.ignored_fields(body, SAME) == ()
    assert chat.read_request(body, OTHER).provider_options == {}
    assert chat.read_request(body, COMPOSED).provider_options == {}
    sent = translated(chat.read_request(body, SAME))
    assert (sent["store"], sent["verbosity"], sent["logit_bias"], sent["service_tier"]) == (False, "low", {}, "flex")
    tools = [{"type": "function", "function": {"name": name, "examples": [1], "strict": True}} for name in ("a", "b")]
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "new": 1, "off": False}}
    inner = {"model": "x", "messages": [USER], "tools": tools, "response_format": form}
    assert chat.ignored_fields(inner, OTHER) == ("tools[].function.examples", "response_format.json_schema.new")
    assert chat.ignored_fields(inner, SAME) == ()
    asked = {**inner, "stream": True, "stream_options": {"include_usage": False, "continuous_usage_stats": True}}
    sent = translated(chat.read_request(asked, SAME))
    assert (sent["tools"], sent["response_format"]) == (tools, form)
    assert sent["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    many = {f"f{number}": 1 for number in range(10_000)}
    assert len(chat.ignored_fields(many, OTHER)) == 20


def test_a_breakpoint_of_the_cache_is_one_for_every_provider() -> None:
    marked = [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}},
    ]
    parts = read(messages=[{"role": "user", "content": marked}]).messages[0].parts
    assert parts == (Text(text="a", cache="1h"), Text(text="b", cache="auto"))
    assert translated(read(SAME, messages=[{"role": "user", "content": marked}]))["messages"][0]["content"] == marked


def test_unknown_fields_inside_of_a_part_are_kept() -> None:
    image = {"url": "https://x/a.png", "format": "image/png"}
    content = [{"type": "image_url", "image_url": image}]
    assert translated(read(SAME, messages=[{"role": "user", "content": content}]))["messages"][0]["content"] == content


PART = {"type": "text", "text": "Hi"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["Hi"]}, "messages[0]"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": ["user"], "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "boss", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [PART, {"type": "video"}]}]}, "messages[0].content[1].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
            "messages[0].content[0]",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "input_audio", "input_audio": {"format": "wav", "data": "?"}}],
                    }
                ]
            },
            "messages[0].content[0].input_audio",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0].file"),
        ({"messages": [{"role": "tool", "content": ""}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "name": "f", "content": ""}]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": {}}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}, "messages[0].tool_calls[0].function"),
        (
            {
                "messages": [
                    {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {}}}]}
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"n": 2}, "n"),
        ({"functions": []}, "functions"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -5}, "max_completion_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"stop": [1]}, "stop[0]"),
        ({"stop": {}}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": []}, "stream_options"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, "tools[1]"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": [1]}}]},
            "tools[0].function.parameters",
        ),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    found = problem(**fields)
    assert found.param == param
    assert param.split("[")[0].split(".")[0] in found.message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.sampled_from(["user", "text", "function", "data:,"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "role",
                        "content",
                        "type",
                        "text",
                        "image_url",
                        "url",
                        "file",
                        "file_data",
                        "input_audio",
                        "data",
                    ),
                    *(
                        "format",
                        "tool_calls",
                        "id",
                        "function",
                        "name",
                        "arguments",
                        "extra_content",
                        "trunkline",
                        "audio",
                    ),
                    *(
                        "reasoning_details",
                        "annotations",
                        "url_citation",
                        "custom",
                        "input",
                        "tool_call_id",
                        "thinking",
                    ),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
ROLES = st.sampled_from(["system", "user", "assistant", "tool", "function"])
BODIES = st.fixed_dictionaries(
    {
        "messages": JSON
        | st.lists(
            st.builds(
                lambda role, rest: {**rest, "role": role},
                ROLES,
                st.dictionaries(
                    st.sampled_from(
                        [
                            "content",
                            "tool_calls",
                            "extra_content",
                            "reasoning_details",
                            "audio",
                            "annotations",
                            "images",
                            "refusal",
                            "tool_call_id",
                        ]
                    ),
                    JSON,
                ),
            ),
            min_size=1,
            max_size=3,
        )
    },
    optional=dict.fromkeys(
        ("tools", "tool_choice", "response_format", "stop", "metadata", "n", "stream_options", "x"), JSON
    ),
)


@given(BODIES, st.sampled_from([SAME, OTHER, COMPOSED]))
@settings(max_examples=150)
def test_any_json_is_a_request_or_a_clear_error(body: dict[str, Any], target: Target) -> None:
    chat.custom_tools(body)
    chat.wants_usage(body)
    chat.ignored_fields(body, target)
    try:
        request = chat.read_request(body, target)
    except (GatewayError, InvalidRequest):
        return
    assert request.messages


def deep(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize("target", [SAME, OTHER])
def test_deep_json_does_not_exhaust_the_stack(target: Target) -> None:
    nested = deep(100_000)
    places: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": nested}]},
        {"messages": [{"role": "user", "content": [nested]}]},
        {"messages": [{"role": "user", "content": "Hi", "x": nested}]},
        {"messages": [{"role": "assistant", "content": "Hi", "extra_content": nested}]},
        {"messages": [{"role": "assistant", "content": "Hi", "reasoning_details": [nested]}]},
        {"messages": [{"role": "assistant", "content": "Hi", "annotations": [nested]}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": nested}}]},
        {"tools": [{"type": "custom", "custom": {"name": "f", "format": nested}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": nested}}},
        {"x": nested},
        {"metadata": nested},
        {"tool_choice": nested},
    ]
    for place in places:
        chat.ignored_fields(place, target)
        message = ""
        try:
            read(target, **place)
        except (GatewayError, InvalidRequest) as error:
            message = str(error)
        assert len(message) < 500


def test_a_part_of_a_client_that_claims_to_be_ours_is_only_a_part() -> None:
    parts = [
        {"at": 0, "kind": "x", "data": {}},
        {"at": -1},
        {"at": 10**9, "length": 5},
        7,
        {"at": 1, "length": 1, "metadata": 3},
    ]
    for text in (wrap("p", None, parts=parts), wrap(None, None, parts=parts), "tl1.damaged", wrap("p", None, parts={})):
        answer = {"role": "assistant", "content": "abc", "extra_content": {"trunkline": text}}
        message = read(SAME, messages=[USER, answer]).messages[1]
        assert message.text == "abc"


def test_parts_that_only_the_provider_knows_pass_through() -> None:
    content = [
        {"type": "text", "text": "Watch:"},
        {"type": "video_url", "video_url": {"url": "https://x/a.mp4"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "https://x/a.pdf"}},
    ]
    messages = [{"role": "user", "content": content}]
    assert translated(read(SAME, messages=messages))["messages"] == messages
    assert problem(messages=messages).param == "messages[0].content[1].type"
    other = read(messages=[{"role": "user", "content": [content[2]]}])
    assert other.messages[0].parts == (Document(url="https://x/a.pdf", name="a.pdf"),)


def test_words_of_other_servers_are_understood() -> None:
    tools = [{"function": {"name": "f"}}]
    assert read(tools=tools, tool_choice="any").tool_choice == ToolChoice(mode="required")
    assert translated(read(SAME, reasoning_effort="default"))["reasoning_effort"] == "default"
    form = read(response_format={"type": "json_object", "schema": SCHEMA}).response_format
    assert form == ResponseFormat(schema=SCHEMA)


def test_the_reasoning_of_a_composed_service_keeps_its_provider() -> None:
    parts = (Reasoning(text="Hm.", provider="deepseek"), Text(text="Yes"))
    whole: Any = chat.write_response(response_of(parts, "deepseek"), reply(COMPOSED))
    stream = completed(streamed(unfold(response_of(parts, "deepseek")), reply(COMPOSED)))
    for written in (whole, stream):
        assert read(COMPOSED, messages=[USER, written["choices"][0]["message"]]).messages[1].parts == parts


def test_signed_reasoning_survives_a_client_that_changes_or_drops_its_text() -> None:
    signed = Reasoning(text="Hm.", provider="anthropic", signature="s")
    written: Any = chat.write_response(response_of((signed,), "anthropic"), reply())
    message = written["choices"][0]["message"]
    for text in (None, "", "Other words.", "Hm. Hm."):
        answer = {**message, "reasoning_content": text}
        assert read(messages=[USER, answer]).messages[1].parts[0] == signed
    damaged = [{**detail, "data": detail["data"][:-3]} for detail in message["reasoning_details"]]
    [part] = read(messages=[USER, {**message, "reasoning_details": damaged}]).messages[1].parts
    assert part == Reasoning(text="Hm.", provider="anthropic")


def test_images_and_audio_are_decoded_once() -> None:
    data = base64.b64encode(PNG).decode()
    content = [
        {"type": "image_url", "image_url": f"data:image/png;base64,{data}"},
        {"type": "input_audio", "input_audio": {"data": base64.b64encode(WAV).decode(), "format": "mp3"}},
        {"type": "file", "file": {"file_data": base64.b64encode(b"%PDF-").decode()}},
    ]
    assert read(messages=[{"role": "user", "content": content}]).messages[0].parts == (
        Image(data=PNG, media_type="image/png"),
        Audio(data=WAV, media_type="audio/mpeg"),
        Document(data=b"%PDF-", media_type="application/pdf"),
    )


def recorded_requests(provider: str) -> list[dict[str, Any]]:
    """The bodies of the requests for chat completions that succeeded."""
    recorded(provider)  # skips if there are none
    found = []
    with (FOLDER / "open" / f"{provider}.jsonl").open(encoding="utf-8") as lines:
        for exchange in map(json.loads, lines):
            body = exchange["request_body"]
            chat_completions = exchange["url"].split("?")[0].endswith("/chat/completions")
            if chat_completions and exchange["status"] == 200 and isinstance(body, dict) and "messages" in body:
                found.append(body)
    return found


@pytest.mark.parametrize("provider", [name for name in PROVIDERS if name != "openai-responses"])
def test_requests_of_real_programs_are_read_as_the_plugin_reads_them(provider: str) -> None:
    read_ones = 0
    for body in recorded_requests(provider):
        if body.get("n", 1) != 1 or "functions" in body:
            continue
        request = chat.read_request(body, SAME)
        read_ones += 1
        try:
            expected = messages_from(body["messages"])
        except InvalidRequest:
            continue  # parts that only some servers know
        assert request.messages == expected
        chat.ignored_fields(body, OTHER)
    assert read_ones > 50


@pytest.mark.parametrize("provider", PROVIDERS)
def test_answers_of_real_servers_come_back_from_a_client(provider: str) -> None:
    answered = 0
    for exchange in chats(provider):
        if not exchange.is_success or exchange.id in EXCEPTIONS:
            continue
        response = recorded_response(exchange)
        whole: Any = chat.write_response(response, reply())
        ChatCompletion.model_validate(whole)
        stream: Any = completed(streamed(unfold(response), reply(include_usage=True)))
        for written in (whole, stream):
            [_, answer] = read(messages=[USER, written["choices"][0]["message"]]).messages
            assert answer.text == response.text
            assert answer.reasoning == response.reasoning
            assert answer.tool_calls == response.tool_calls
            kept = [part for part in answer.parts if isinstance(part, Reasoning)]
            for part in response.parts:
                if isinstance(part, Reasoning) and (part.signature or part.encrypted):
                    assert part in kept
        if response.usage is not None:
            assert stream["usage"]["prompt_tokens"] == response.usage.input_tokens
        answered += 1
    assert answered > 50
