"""A real server that speaks Anthropic's Messages API: llama.cpp's own, with SmolLM2, over loopback, on both backends.

Where it differs from Anthropic, a comment says how.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from backends import one_backend
from server_process import server_process
from trunkline import (
    AuthenticationError,
    ChatRequest,
    ChatResponse,
    ContextTooLong,
    Event,
    Finished,
    FinishReason,
    Image,
    ResponseStarted,
    ServerError,
    Service,
    TextDelta,
    UsageReported,
    assistant,
    open_service,
    system,
    user,
)
from trunkline.fold import fold
from trunkline_llamacpp.model_file import INSTALL_MODEL, packaged_model

pytestmark = pytest.mark.anyio

KEY = "sk-real-messages-4c1d9a"
ALIAS = "smollm2"
ENDLESS = 1900
"""Tokens of an answer that is too long to be waited for: three quarters of a minute at the usual 40 a second."""

SERVER = Path(__file__).parent / "servers" / "llama_server.py"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    model = packaged_model()
    if model is None:
        reason = f"needs a model: {INSTALL_MODEL}"
        if "1" in (os.environ.get("TRUNKLINE_REQUIRE_MODEL"), os.environ.get("TRUNKLINE_REQUIRE_RECORDINGS")):
            pytest.fail(reason)
        pytest.skip(reason)
    with server_process(sys.executable, str(SERVER), str(model), "--key", KEY, "--alias", ALIAS) as found:
        yield found


def opened(url: str, **settings: Any) -> Service:
    """A service of the server. The older version of the API is the one that takes a temperature."""
    chosen = {"api_key": KEY, "default_model": ALIAS, "max_retries": 0, "api_version": "2023-06-01", **settings}
    return open_service("anthropic", api_url=url, **chosen)


def asked(text: str = "Hi", **options: Any) -> ChatRequest:
    """A question that the model answers in the same words each time. Its own system prompt would be longer."""
    messages = [system("Be brief."), user(text)]
    return ChatRequest(**{"messages": messages, "temperature": 0, "max_output_tokens": 8, **options})


def endless() -> ChatRequest:
    """A request that this model answers with the same word, for as long as it may."""
    question = user("Write the word yes five hundred times.")
    return ChatRequest(messages=question, temperature=0, max_output_tokens=ENDLESS)


async def read(service: Service, request: ChatRequest) -> tuple[list[Event], ChatResponse]:
    async with service.stream(request) as stream:
        return [event async for event in stream], stream.response


# Answers


@one_backend
async def test_a_chat_is_answered_with_its_model_finish_reason_and_usage(url: str) -> None:
    async with opened(url) as service:
        response = await service.chat(asked(max_output_tokens=60))
    assert response.text.strip()
    assert (response.model, response.finish_reason) == (ALIAS, FinishReason.STOP)
    assert response.warnings == ()
    usage = response.usage
    assert usage is not None
    assert usage.input_tokens
    assert usage.output_tokens
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert 0 < usage.output_tokens < 60
    assert (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (0, None, None)


async def test_stream_arrives_token_by_token_and_reports_usage(url: str) -> None:
    async with opened(url) as service:
        events, response = await read(service, asked())
    deltas = [event for event in events if type(event) is TextDelta]
    assert len(deltas) >= 6
    assert "".join(delta.text for delta in deltas) == response.text
    assert type(events[0]) is ResponseStarted
    assert type(events[-1]) is Finished
    first, last = (event.usage for event in events if type(event) is UsageReported)
    assert (first.input_tokens, first.output_tokens) == (last.input_tokens, None)
    assert last == response.usage
    assert last.output_tokens == 8


@one_backend
@pytest.mark.parametrize("limit", [3, 60], ids=["length", "stop"])
async def test_the_events_of_a_stream_fold_to_the_answer_of_a_chat(url: str, limit: int) -> None:
    async with opened(url) as service:
        whole = await service.chat(asked(max_output_tokens=limit))
        events, streamed = await read(service, asked(max_output_tokens=limit))
    assert fold(events, "anthropic") == streamed == whole
    assert whole.finish_reason is (FinishReason.LENGTH if limit == 3 else FinishReason.STOP)


@one_backend
async def test_a_stop_sequence_ends_the_answer_before_it(url: str) -> None:
    async with opened(url) as service:
        free = await service.chat(asked(max_output_tokens=20))
        word = free.text.split()[3]
        _, response = await read(service, asked(max_output_tokens=20, stop=("not in it", word)))
    assert response.text == free.text[: free.text.index(word)]
    # Anthropic would say `stop_sequence` in place of `end_turn`.
    assert (response.finish_reason, response.raw_finish_reason) == (FinishReason.STOP, "end_turn")
    assert response.provider_metadata["anthropic"]["stop_sequence"] == word


@one_backend
async def test_a_conversation_of_several_turns_is_understood(url: str) -> None:
    conversation = (
        system("Do as you are told."),
        user("Repeat: The word is banana."),
        assistant("The word is banana."),
        user("Repeat: The word is cherry."),
        assistant("The word is cherry."),
        user("Repeat: The word is walnut."),
    )
    async with opened(url) as service:
        response = await service.chat(ChatRequest(messages=conversation, temperature=0, max_output_tokens=20))
    assert "walnut" in response.text


@one_backend
async def test_the_newer_version_leaves_the_temperature_out_and_says_so(url: str) -> None:
    async with opened(url, api_version="2026-10-21") as service:
        response = await service.chat(asked())
    assert [warning.subject for warning in response.warnings] == ["temperature"]


# Operations


@one_backend
async def test_tokens_are_counted_as_the_usage_has_them(url: str) -> None:
    async with opened(url) as service:
        counted = await service.count_tokens(asked())
        response = await service.chat(asked())
        longer = await service.count_tokens(asked("Hi, " + "how are you? " * 20))
    assert response.usage is not None
    assert counted == response.usage.input_tokens
    assert longer > counted + 60


async def test_models_are_listed(url: str) -> None:
    # The list has OpenAI's form.
    async with opened(url) as service:
        (model,) = await service.list_models()
    assert model.id == ALIAS
    assert model.created


# Errors


async def test_a_wrong_key_is_refused(url: str) -> None:
    async with opened(url, api_key="sk-wrong-key-77e0a2") as service:
        with pytest.raises(AuthenticationError) as raised:
            await service.chat(asked())
    assert (raised.value.status, raised.value.code) == (401, "authentication_error")
    assert "sk-wrong-key-77e0a2" not in str(raised.value)


@pytest.mark.parametrize("streaming", [False, True])
async def test_conversation_that_does_not_fit_is_an_error(url: str, streaming: bool) -> None:
    request = asked("yes " * 3000)
    async with opened(url) as service:
        with pytest.raises(ContextTooLong) as raised:
            await (read(service, request) if streaming else service.chat(request))
    assert (raised.value.status, raised.value.code) == (400, "exceed_context_size_error")
    assert not raised.value.retryable


async def test_an_image_is_more_than_this_model_can_see(url: str) -> None:
    # Anthropic would answer 400.
    picture = user("What is it?", Image(data=b"\x89PNG\r\n\x1a\n"))
    async with opened(url) as service:
        with pytest.raises(ServerError, match="image input is not supported"):
            await service.chat(ChatRequest(messages=picture))


# Cancellation


async def generated(client: httpx2.AsyncClient) -> int:
    """How many tokens the server has generated since its start."""
    lines = (await client.get("/metrics")).text.splitlines()
    return int(next(line for line in lines if line.startswith("llamacpp:tokens_predicted_total")).split()[1])


@asynccontextmanager
async def cut_short(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A block whose endless generation must have been stopped by its end; gives a client of the server.

    The only slot is free when the next call is answered. It is no proof that the call comes soon, since machines differ
    in speed; the server's count of the tokens that it generated is.
    """
    headers = {"authorization": f"Bearer {KEY}"}
    async with opened(url) as service, httpx2.AsyncClient(base_url=url, headers=headers, verify=False) as client:
        with anyio.fail_after(60):
            await service.chat(asked(max_output_tokens=1))
            before = await generated(client)
            yield client
            await service.chat(asked(max_output_tokens=1))
            count = await generated(client) - before - 1
    assert count < ENDLESS / 2


class Left(Exception):
    """Raised by an application in the middle of a stream."""


async def leave(service: Service, how: str) -> None:
    """Read the first deltas of an endless stream, and leave it."""
    with anyio.CancelScope() as scope:
        async with service.stream(endless()) as stream:
            deltas = 0
            async for event in stream:
                deltas += type(event) is TextDelta
                if deltas < 3:
                    continue
                if how == "break":
                    return
                if how == "exception":
                    raise Left
                scope.cancel()


@pytest.mark.parametrize("how", ["break", "cancel", "exception"])
async def test_leaving_a_stream_stops_the_generation(url: str, how: str) -> None:
    async with opened(url) as service, cut_short(url):
        try:
            await leave(service, how)
        except Left:
            assert how == "exception"


async def test_cancelling_a_call_that_is_not_streamed_stops_the_generation(url: str) -> None:
    async with opened(url) as service, cut_short(url) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.chat, endless())
            while not (await client.get("/slots")).json()[0]["is_processing"]:
                pass
            tasks.cancel_scope.cancel()
