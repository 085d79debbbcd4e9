"""Mock servers that others wrote: whole tool round trips, which a small model cannot make, and faults on demand.

`llmock` (a Python package) is part of the tests' dependencies. `aimock` (an npm package, `@copilotkit/aimock`) is used
where it is installed: its program on the PATH, or named by TRUNKLINE_AIMOCK.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import pytest
from server_process import server_process
from trunkline import (
    BadRequest,
    ChatRequest,
    ChatResponse,
    ChunkTimeout,
    ContextTooLong,
    Event,
    FinishReason,
    FirstChunkTimeout,
    ProtocolViolation,
    QuotaExhausted,
    RateLimited,
    Reasoning,
    RemoteError,
    ResponseFormat,
    ServerError,
    Service,
    StreamInterrupted,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallEnd,
    ToolCallStart,
    ToolChoice,
    open_service,
    tool_result,
    user,
)
from trunkline._calls.retry import RetryPolicy
from trunkline.authoring.json import JSONObject
from trunkline.fold import fold

pytestmark = pytest.mark.anyio

SERVER = Path(__file__).parent / "servers" / "llmock_server.py"

WIRES: dict[str, dict[str, Any]] = {
    "openai-chat": {"provider": "openai"},
    "openai-responses": {"provider": "openai", "api": "responses"},
    "openai-compatible": {"provider": "openai-compatible", "profile": "vllm"},
}

WEATHER = Tool(
    name="get_weather",
    description="The weather in a city.",
    parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TIME = Tool(
    name="get_time",
    description="The time in a zone.",
    parameters={"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
)
ASKED = ChatRequest(messages="The weather in Oslo, and the time in CET?", tools=[WEATHER, TIME])
CALLS: list[JSONObject] = [
    {"name": "get_weather", "arguments": {"city": "Oslo"}},
    {"name": "get_time", "arguments": {"zone": "CET"}},
]

Open: TypeAlias = Callable[..., Service]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=list(WIRES))
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opener(url: str, wire: str) -> Open:
    settings = dict(WIRES[wire])
    provider = settings.pop("provider")

    def make(**more: Any) -> Service:
        common = {"api_url": url, "api_key": "sk-mock", "default_model": "gpt-4o", "max_retries": 0}
        return open_service(provider, **{**common, **settings, **more})

    return make


async def read(service: Service, request: ChatRequest | str) -> tuple[list[Event], ChatResponse]:
    async with service.stream(request) as stream:
        return [event async for event in stream], stream.response


async def answer(service: Service, request: ChatRequest, streamed: bool) -> ChatResponse:
    return (await read(service, request))[1] if streamed else await service.chat(request)


def results(response: ChatResponse) -> list[Any]:
    """The turns that answer a response's calls: each gives back what it was called with."""
    return [tool_result(call, call.arguments) for call in response.tool_calls]


# llmock: a queue of scripted behaviour, and a journal of what clients did


class LLMock:
    """The control of a running llmock server."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.AsyncClient(base_url=f"{url}/_llmock", verify=False)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def script(self, *behaviors: JSONObject) -> None:
        """Say what the next requests meet."""
        (await self._client.post("/scenario", json={"behaviors": behaviors})).raise_for_status()

    async def reset(self) -> None:
        (await self._client.post("/reset")).raise_for_status()

    async def requests(self) -> int:
        """How many requests it got."""
        return int((await self._client.get("/requests")).json()["count"])

    async def findings(self) -> list[str]:
        """What llmock itself finds wrong with how its client took the faults."""
        return [str(finding["code"]) for finding in (await self._client.get("/verdict")).json()["findings"]]


@pytest.fixture(scope="session")
def llmock_url() -> Iterator[str]:
    if importlib.util.find_spec("llmock") is None:
        reason = "needs the package llmock"
        if os.environ.get("TRUNKLINE_REQUIRE_RECORDINGS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with server_process(sys.executable, str(SERVER)) as url:
        yield url


@pytest.fixture
async def mock(llmock_url: str, anyio_backend: str) -> AsyncIterator[LLMock]:
    mock = LLMock(llmock_url)
    await mock.reset()
    yield mock
    await mock.aclose()


@pytest.fixture
def open_wire(llmock_url: str, wire: str) -> Open:
    return opener(llmock_url, wire)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_tool_is_called_and_its_result_answered(mock: LLMock, open_wire: Open, streamed: bool) -> None:
    request = ChatRequest(messages="What is the weather in Oslo?", tools=[WEATHER, TIME])
    async with open_wire() as service:
        first = await answer(service, request, streamed)
        (call,) = first.tool_calls
        last = await answer(service, request.with_messages(first.message, *results(first)), streamed)
    # llmock calls the tool whose words fit the question, with arguments made from its schema.
    assert (call.name, call.arguments, first.finish_reason) == (
        "get_weather",
        {"city": "mock-city"},
        FinishReason.TOOL_CALLS,
    )
    # It answers with the texts that it was sent, the tool's result among them, where a result stands at the end.
    assert last.finish_reason is FinishReason.STOP
    assert last.tool_calls == ()
    assert "mock-city" in last.text
    assert first.warnings == last.warnings == ()
    assert first.usage is not None
    assert last.usage is not None


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_parallel_calls_are_made_and_each_result_finds_its_call(
    mock: LLMock, open_wire: Open, streamed: bool
) -> None:
    await mock.script({"type": "reply", "text": "Let me look.", "tool_calls": CALLS})
    async with open_wire() as service:
        first = await answer(service, ASKED, streamed)
        last = await answer(service, ASKED.with_messages(first.message, *reversed(results(first))), streamed)
    assert first.text == "Let me look."
    assert [(call.name, call.arguments) for call in first.tool_calls] == [
        ("get_weather", {"city": "Oslo"}),
        ("get_time", {"zone": "CET"}),
    ]
    assert len({call.id for call in first.tool_calls}) == 2
    assert first.finish_reason is FinishReason.TOOL_CALLS
    assert last.finish_reason is FinishReason.STOP
    # The mock reads back both results; each went to it under its call's id, whatever their order.
    assert '{"city":"Oslo"}' in last.text
    assert '{"zone":"CET"}' in last.text


async def test_streamed_calls_fold_to_those_of_a_whole_answer(mock: LLMock, open_wire: Open) -> None:
    await mock.script({"type": "reply", "text": "Let me look.", "tool_calls": CALLS, "times": 2})
    async with open_wire() as service:
        whole = await service.chat(ASKED)
        events, response = await read(service, ASKED)
    folded = fold(events, service.provider)
    assert folded == response
    assert (folded.text, folded.finish_reason, folded.usage) == (whole.text, whole.finish_reason, whole.usage)
    # The mock gives every call an id of its own.
    assert [(call.name, call.arguments) for call in folded.tool_calls] == [
        (call.name, call.arguments) for call in whole.tool_calls
    ]
    # Arguments come in pieces.
    starts = [event.index for event in events if type(event) is ToolCallStart]
    assert starts == [event.index for event in events if type(event) is ToolCallEnd]
    for index in starts:
        assert sum(type(event) is ToolCallDelta and event.index == index for event in events) > 1


CHOICES = [("auto", ["get_weather"]), ("none", []), ("required", ["get_weather"]), ("get_time", ["get_time"])]


@pytest.mark.parametrize(("choice", "called"), CHOICES, ids=[choice for choice, _ in CHOICES])
async def test_a_tool_choice_is_understood_in_its_four_forms(
    mock: LLMock, open_wire: Open, choice: str, called: list[str]
) -> None:
    request = ChatRequest(messages="What is the weather in Oslo?", tools=[WEATHER, TIME], tool_choice=choice)
    assert isinstance(request.tool_choice, ToolChoice)
    async with open_wire() as service:
        response = await service.chat(request)
    assert [call.name for call in response.tool_calls] == called


async def test_invalid_arguments_are_kept_and_reported(mock: LLMock, open_wire: Open) -> None:
    await mock.script({"type": "tool_fault", "kind": "malformed_arguments", "times": 2})
    async with open_wire() as service:
        for response in (await service.chat(ASKED), (await read(service, ASKED))[1]):
            (call,) = response.tool_calls
            assert call.arguments == {}
            assert call.invalid_arguments
            assert [warning.kind for warning in response.warnings] == ["invalid_arguments"]
            # It can go back all the same, with an error for its result.
            failed = tool_result(call, "the arguments are not JSON", is_error=True)
            assert (await service.chat(ASKED.with_messages(response.message, failed))).text


async def test_a_schema_reaches_the_mock(mock: LLMock, open_wire: Open) -> None:
    schema: JSONObject = {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["mauve"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"],
        "additionalProperties": False,
    }
    async with open_wire() as service:
        response = await service.chat(ChatRequest(messages="?", response_format=ResponseFormat(schema=schema)))
    answered = json.loads(response.text)
    assert answered["colour"] == "mauve"
    assert isinstance(answered["count"], int)


# Faults: after six events each wire has text, and none of them its end

TEXT = "one two three four five six seven eight nine ten"


def fault(kind: str, **more: Any) -> list[JSONObject]:
    """A text that breaks after some words."""
    return [{"type": "reply", "text": TEXT}, {"type": "stream_fault", "kind": kind, "after_chunks": 6, **more}]


FAULTS: dict[str, type[RemoteError]] = {
    "truncate": StreamInterrupted,
    "disconnect": StreamInterrupted,
    "malformed": ProtocolViolation,
    "stall": ChunkTimeout,
}


@pytest.mark.parametrize("kind", FAULTS)
async def test_broken_stream_raises_with_partial_response(mock: LLMock, open_wire: Open, kind: str) -> None:
    await mock.script(*fault(kind, **({"stall_seconds": 20} if kind == "stall" else {})))
    text = ""
    async with open_wire(chunk_timeout=0.15, max_retries=2) as service:
        with pytest.raises(FAULTS[kind]) as caught:
            async with service.stream("?") as stream:
                async for event in stream:
                    text += event.text if type(event) is TextDelta else ""
    partial = caught.value.partial
    assert partial is not None
    assert partial.finish_reason is FinishReason.ERROR
    assert text
    assert partial.text == text
    assert TEXT.startswith(text)
    assert len(text) < len(TEXT)
    # After the first event nothing is sent again.
    assert await mock.requests() == 1


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_broken_tool_call_is_never_a_whole_one(mock: LLMock, open_wire: Open, kind: str) -> None:
    # The fault falls into the second call's arguments, or before them.
    broken: JSONObject = {"type": "stream_fault", "kind": kind, "after_chunks": 5, "stall_seconds": 20}
    await mock.script({"type": "reply", "tool_calls": CALLS}, broken)
    async with open_wire(chunk_timeout=0.15) as service:
        with pytest.raises(FAULTS[kind]) as caught:
            await read(service, ASKED)
    partial = caught.value.partial
    assert partial is not None
    assert partial.finish_reason is FinishReason.ERROR
    assert partial.tool_calls
    assert partial.tool_calls[0].name == "get_weather"


@pytest.mark.parametrize("kind", ["truncate", "disconnect"])
async def test_a_stream_that_breaks_before_its_first_event_is_asked_for_again(
    mock: LLMock, open_wire: Open, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trunkline.provider_service.RetryPolicy", partial(RetryPolicy, first_delay=0.005))
    await mock.script({"type": "stream_fault", "kind": kind, "after_chunks": 0})
    async with open_wire(max_retries=1) as service:
        _, response = await read(service, "?")
    assert response.finish_reason is FinishReason.STOP
    assert await mock.requests() == 2


async def test_missing_first_event_raises_a_timeout(mock: LLMock, open_wire: Open) -> None:
    await mock.script({"type": "slow_first_token", "seconds": 20})
    async with open_wire(first_chunk_timeout=0.15) as service:
        with pytest.raises(FirstChunkTimeout):
            await read(service, "?")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_rate_limit_is_waited_for_as_long_as_the_server_asks(
    mock: LLMock, open_wire: Open, streamed: bool
) -> None:
    await mock.script({"type": "fail", "status": 429, "retry_after": 0.1})
    async with open_wire(max_retries=1) as service:
        response = await answer(service, ChatRequest(messages="?"), streamed)
    assert response.finish_reason is FinishReason.STOP
    assert await mock.requests() == 2
    assert await mock.findings() == []


async def test_a_rate_limit_that_stays_is_raised(mock: LLMock, open_wire: Open) -> None:
    await mock.script({"type": "fail", "status": 429, "retry_after": 0.1, "times": None})
    async with open_wire(max_retries=1) as service:
        with pytest.raises(RateLimited, match="Rate limit exceeded") as caught:
            await service.chat("?")
    assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
    assert caught.value.retry_after == pytest.approx(0.1)
    assert await mock.requests() == 2


ERRORS = [
    (400, None, BadRequest, 1),
    (400, "context_length_exceeded", ContextTooLong, 1),
    (429, "insufficient_quota", QuotaExhausted, 1),
    (500, None, ServerError, 2),
]


@pytest.mark.parametrize(("status", "code", "kind", "requests"), ERRORS)
async def test_errors_have_their_class_and_only_those_that_may_pass_are_tried_again(
    mock: LLMock, open_wire: Open, status: int, code: str | None, kind: type[RemoteError], requests: int
) -> None:
    await mock.script({"type": "fail", "status": status, "code": code, "retry_after": 0.01, "times": None})
    async with open_wire(max_retries=1) as service:
        with pytest.raises(kind) as caught:
            await service.chat("?")
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert await mock.requests() == requests


# aimock: fixtures by what is asked, with reasoning

FIXTURES: list[JSONObject] = [
    {
        "match": {"userMessage": "weather", "hasToolResult": False},
        "response": {"reasoning": "Two tools will do.", "toolCalls": CALLS},
    },
    {
        "match": {"userMessage": "weather", "hasToolResult": True, "toolResultContains": "CET"},
        "response": {"reasoning": "Both are here.", "content": "Seven degrees, and noon."},
    },
]


@pytest.fixture(scope="session")
def aimock_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = os.environ.get("TRUNKLINE_AIMOCK") or shutil.which("aimock")
    if program is None:
        pytest.skip("needs aimock: npm install @copilotkit/aimock, and TRUNKLINE_AIMOCK for its program")
    folder = tmp_path_factory.mktemp("aimock")
    (folder / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}))
    (folder / "aimock.json").write_text(json.dumps({"llm": {"fixtures": str(folder / "fixtures.json")}}))
    command = (program, "--config", str(folder / "aimock.json"), "--host", "127.0.0.1", "--port", "0")
    with server_process(*command, ready=r"listening on (http://\S+)") as url:
        yield url


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_reasoning_and_parallel_calls_make_a_round_trip(aimock_url: str, wire: str, streamed: bool) -> None:
    model = "o4-mini" if wire == "openai-responses" else "gpt-4o"
    request = ChatRequest(messages=user("The weather in Oslo, and the time?"), tools=[WEATHER, TIME])
    async with opener(aimock_url, wire)(default_model=model) as service:
        first = await answer(service, request, streamed)
        last = await answer(service, request.with_messages(first.message, *results(first)), streamed)
    assert first.reasoning == "Two tools will do."
    assert [type(part) for part in first.parts] == [Reasoning, ToolCall, ToolCall]
    assert [call.arguments for call in first.tool_calls] == [call["arguments"] for call in CALLS]
    assert first.finish_reason is FinishReason.TOOL_CALLS
    assert (last.reasoning, last.text) == ("Both are here.", "Seven degrees, and noon.")
    assert last.finish_reason is FinishReason.STOP
    # Chat Completions has no place for reasoning on its way back; the Responses API takes it.
    left_out = [warning.subject for warning in last.warnings]
    assert left_out == ([] if wire == "openai-responses" else ["reasoning"])
