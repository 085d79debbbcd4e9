"""A real server and a real model: llama.cpp's own HTTP server with SmolLM2, over loopback, through the public API.

It is reached as `openai-compatible` with the profile `llama.cpp`, over Chat Completions and over the Responses API.
Where it differs from OpenAI, a comment says how.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import httpx2
import jsonschema
import pytest
from backends import one_backend
from server_process import server_process
from trunkline import (
    Audio,
    AuthenticationError,
    Call,
    ChatRequest,
    ChatResponse,
    ContextTooLong,
    Event,
    Finished,
    FinishReason,
    FirstChunkTimeout,
    Image,
    Observer,
    ResponseFormat,
    ResponseStarted,
    ServerError,
    Service,
    ServiceClosed,
    ServiceContext,
    TextDelta,
    TrunklineError,
    UsageReported,
    assistant,
    hookimpl,
    open_service,
    system,
    user,
)
from trunkline.authoring.json import JSONObject
from trunkline.fold import fold
from trunkline_llamacpp.model_file import INSTALL_MODEL, packaged_model

pytestmark = pytest.mark.anyio

KEY = "sk-real-server-1b9f7c"
WRONG_KEY = "sk-wrong-key-77e0a2"
ALIAS = "smollm2"
ENDLESS = 1900
"""Tokens of an answer that is too long to be waited for: three quarters of a minute at the usual 40 a second."""

SERVER = Path(__file__).parent / "servers" / "llama_server.py"

Open: TypeAlias = Callable[..., Service]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def model_file() -> Path:
    path = packaged_model()
    if path is not None:
        return path
    reason = f"needs a model: {INSTALL_MODEL}"
    if "1" in (os.environ.get("TRUNKLINE_REQUIRE_MODEL"), os.environ.get("TRUNKLINE_REQUIRE_RECORDINGS")):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def url(model_file: Path) -> Iterator[str]:
    arguments = (str(SERVER), str(model_file), "--key", KEY, "--alias", ALIAS)
    with server_process(sys.executable, *arguments) as found:
        yield found


@pytest.fixture(scope="session")
def embedding_url(model_file: Path) -> Iterator[str]:
    arguments = (str(SERVER), str(model_file), "--key", KEY, "--alias", ALIAS, "--embeddings")
    with server_process(sys.executable, *arguments) as found:
        yield found


@pytest.fixture(scope="session")
def reranking_url(model_file: Path) -> Iterator[str]:
    arguments = (str(SERVER), str(model_file), "--key", KEY, "--alias", ALIAS, "--rerank")
    with server_process(sys.executable, *arguments) as found:
        yield found


def opener(url: str, api: str) -> Open:
    """Opens a service of the server: over Chat Completions, or over Responses."""
    way = {"api_url": url, "api_key": KEY, "default_model": ALIAS, "max_retries": 0, "profile": "llama.cpp", "api": api}

    def make(**settings: Any) -> Service:
        return open_service("openai-compatible", **{**way, **settings})

    return make


@pytest.fixture
def open_chat(url: str) -> Open:
    return opener(url, "chat")


@pytest.fixture
def open_responses(url: str) -> Open:
    return opener(url, "responses")


either_on_one_backend = pytest.mark.parametrize(
    ("anyio_backend", "open_either"),
    [
        ("asyncio", "chat"),
        ("trio", "responses"),
        pytest.param("asyncio", "responses", marks=pytest.mark.exhaustive),
        pytest.param("trio", "chat", marks=pytest.mark.exhaustive),
    ],
    indirect=["open_either"],
)
"""Each API and each backend, but not each pair of them: for tests that keep the model busy for seconds."""


@pytest.fixture(params=["chat", "responses"])
def open_either(request: pytest.FixtureRequest, url: str) -> Open:
    return opener(url, str(request.param))


def asked(text: str = "Hi", **options: Any) -> ChatRequest:
    """A question that the model answers in the same words each time. Its own system prompt would be longer."""
    messages = [system("Be brief."), user(text)]
    return ChatRequest(**{"messages": messages, "temperature": 0, "max_output_tokens": 8, **options})


def endless(**options: Any) -> ChatRequest:
    """A request whose answer would take a minute: `ignore_eos` prevents an earlier end."""
    passed_on: JSONObject = {"ignore_eos": True}
    return asked(max_output_tokens=ENDLESS, provider_options={"openai-compatible": passed_on}, **options)


async def read(service: Service, request: ChatRequest) -> tuple[list[Event], ChatResponse]:
    async with service.stream(request) as stream:
        return [event async for event in stream], stream.response


class Server:
    """The server's own view of its work."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.AsyncClient(base_url=url, headers={"authorization": f"Bearer {KEY}"}, verify=False)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.aclose()

    async def computes(self) -> bool:
        """Whether its slot is at work."""
        (slot,) = (await self._client.get("/slots")).json()
        return bool(slot["is_processing"])

    async def tokens(self) -> int:
        """How many tokens it has generated since its start."""
        lines = (await self._client.get("/metrics")).text.splitlines()
        return int(next(line for line in lines if line.startswith("llamacpp:tokens_predicted_total")).split()[1])


class Retries(Observer):
    """Counts attempts that are followed by another."""

    def __init__(self) -> None:
        self.count = 0

    @hookimpl
    def trunkline_observer(self, context: ServiceContext[Any]) -> Observer:
        return self

    def retried(self, call: Call, error: TrunklineError, delay: float) -> None:
        self.count += 1


# Answers


@one_backend
async def test_a_chat_is_answered_with_its_model_finish_reason_and_usage(open_either: Open) -> None:
    async with open_either() as service:
        response = await service.chat(asked(max_output_tokens=60))
    assert response.text.strip()
    assert response.model == ALIAS
    assert response.finish_reason is FinishReason.STOP
    assert response.warnings == ()
    usage = response.usage
    assert usage is not None
    assert usage.input_tokens
    assert usage.output_tokens
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.reasoning_tokens is None
    assert 0 < usage.output_tokens < 60


async def test_stream_arrives_token_by_token_and_reports_usage(open_either: Open) -> None:
    async with open_either() as service:
        events, response = await read(service, asked())
    deltas = [event for event in events if type(event) is TextDelta]
    assert len(deltas) >= 6
    assert "".join(delta.text for delta in deltas) == response.text
    assert type(events[0]) is ResponseStarted
    finished = events[-1]
    assert type(finished) is Finished
    (usage,) = (event.usage for event in events if type(event) is UsageReported)
    assert finished.usage == usage == response.usage
    assert usage.output_tokens == 8
    assert usage.input_tokens


@one_backend
@pytest.mark.parametrize("options", [{}, {"seed": 7}, {"max_output_tokens": 60}], ids=["length", "seed", "stop"])
async def test_the_events_of_a_stream_fold_to_the_answer_of_a_chat(open_chat: Open, options: dict[str, Any]) -> None:
    async with open_chat() as service:
        whole = await service.chat(asked(**options))
        events, response = await read(service, asked(**options))
    assert fold(events, "openai-compatible") == response == whole


@one_backend
async def test_the_events_of_a_stream_of_responses_fold_to_the_answer_of_a_chat(open_responses: Open) -> None:
    async with open_responses() as service:
        whole = await service.chat(asked())
        events, response = await read(service, asked())
    folded = fold(events, "openai")
    assert folded == response
    assert (folded.parts, folded.finish_reason, folded.usage) == (whole.parts, whole.finish_reason, whole.usage)
    # Unlike OpenAI's, the server's `response.created` names no model, and by the last event the stream has begun.
    assert (whole.model, folded.model) == (ALIAS, None)


@one_backend
async def test_a_limit_of_tokens_ends_the_answer_with_length(open_chat: Open) -> None:
    async with open_chat() as service:
        response = await service.chat(asked(max_output_tokens=3))
    assert (response.finish_reason, response.raw_finish_reason) == (FinishReason.LENGTH, "length")
    assert response.usage is not None
    assert response.usage.output_tokens == 3


@one_backend
async def test_responses_api_of_the_server_reports_a_cut_answer_as_completed(open_responses: Open) -> None:
    # OpenAI says `incomplete`, with the reason `max_output_tokens`. The server does not distinguish the two.
    async with open_responses() as service:
        response = await service.chat(asked(max_output_tokens=3))
    assert (response.finish_reason, response.raw_finish_reason) == (FinishReason.STOP, "completed")
    assert response.usage is not None
    assert response.usage.output_tokens == 3


@one_backend
async def test_the_limit_of_the_settings_is_sent(open_either: Open) -> None:
    async with open_either(output_token_limit=2) as service:
        response = await service.chat(asked(max_output_tokens=None))
    assert response.usage is not None
    assert response.usage.output_tokens == 2


@one_backend
async def test_a_stop_sequence_ends_the_answer_before_it(open_chat: Open) -> None:
    async with open_chat() as service:
        free = await service.chat(asked(max_output_tokens=20))
        word = free.text.split()[3]
        response = await service.chat(asked(max_output_tokens=20, stop=("not in it", word)))
        _, streamed = await read(service, asked(max_output_tokens=20, stop=("not in it", word)))
    assert response.text == free.text[: free.text.index(word)]
    assert response.finish_reason is FinishReason.STOP
    assert streamed == response


@one_backend
async def test_log_probabilities_come_with_their_tokens_whole_and_streamed(open_chat: Open) -> None:
    async with open_chat() as service:
        whole = await service.chat(asked(top_logprobs=3))
        events, streamed = await read(service, asked(top_logprobs=3))
    assert "".join(item.token for item in whole.logprobs) == whole.text
    assert all(item.logprob <= 0 and len(item.top) == 3 for item in whole.logprobs)
    # At temperature 0 the token that came is the likeliest.
    assert all(item.token == item.top[0].token for item in whole.logprobs)
    assert [item.token for item in streamed.logprobs] == [item.token for item in whole.logprobs]
    deltas = [event for event in events if type(event) is TextDelta]
    assert all("".join(item.token for item in delta.logprobs) == delta.text for delta in deltas)


@one_backend
async def test_over_responses_log_probabilities_are_not_asked_for(open_responses: Open) -> None:
    # The server would refuse `top_logprobs`: it wants the field `logprobs`, which the Responses API does not have.
    async with open_responses() as service:
        whole = await service.chat(asked(top_logprobs=3))
    assert {warning.subject for warning in whole.warnings} == {"logprobs", "top_logprobs"}


SCHEMA: JSONObject = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Oslo", "Paris", "Rome"]},
        "sunny": {"type": "boolean"},
    },
    "required": ["city", "sunny"],
    "additionalProperties": False,
}


# Over Responses the server reads no `text.format`: the model is asked for JSON, and answers freely.
@one_backend
async def test_json_follows_its_schema_whole_and_streamed(open_chat: Open) -> None:
    request = asked("The weather in Rome is fine.", response_format=ResponseFormat(schema=SCHEMA), max_output_tokens=60)
    async with open_chat() as service:
        whole = await service.chat(request)
        _, streamed = await read(service, request)
    jsonschema.validate(json.loads(whole.text), dict(SCHEMA))
    assert whole.finish_reason is FinishReason.STOP
    assert streamed == whole


# The conversation


async def prompt_of(url: str, messages: list[dict[str, str]]) -> str:
    """The prompt that the server makes of a conversation, by its own template."""
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, verify=False) as client:
        answer = await client.post(f"{url}/apply-template", json={"messages": messages})
    return str(answer.json()["prompt"])


@one_backend
async def test_a_system_prompt_and_several_turns_reach_the_model_in_their_places(url: str, open_chat: Open) -> None:
    conversation = [
        system("Do as you are told."),
        user("Repeat: The word is banana."),
        assistant("The word is banana."),
        user("Repeat: The word is cherry."),
        assistant("The word is cherry."),
        user("Repeat: The word is walnut."),
    ]
    # With `verbose` llama.cpp's answer holds the prompt that the model got.
    verbose: dict[str, JSONObject] = {"openai-compatible": {"verbose": True}}
    async with open_chat() as service:
        response = await service.chat(ChatRequest(messages=conversation, temperature=0, provider_options=verbose))
    assert isinstance(response.raw, dict)
    expected = await prompt_of(url, [{"role": turn.role, "content": turn.text} for turn in conversation])
    assert response.raw["__verbose"]["prompt"] == expected
    assert "walnut" in response.text


@one_backend
async def test_a_system_prompt_and_several_turns_count_as_input_over_responses(open_responses: Open) -> None:
    conversation = [system("Do as you are told."), user("Say one."), assistant("One."), user("Say two.")]
    counts: list[int | None] = []
    async with open_responses() as service:
        for turns in (conversation[:1] + conversation[3:], conversation):
            response = await service.chat(ChatRequest(messages=turns, temperature=0, max_output_tokens=8))
            assert response.text
            counts.append(response.usage.input_tokens if response.usage else None)
            counted = await service.count_tokens(ChatRequest(messages=turns))
            assert counted == counts[-1]
    assert counts[0] is not None
    assert counts[1] is not None
    assert counts[0] < counts[1]


@one_backend
async def test_response_can_be_sent_back_in_the_conversation(open_either: Open) -> None:
    request = asked("Name a colour.")
    async with open_either() as service:
        first = await service.chat(request)
        _, second = await read(service, request.with_messages(first.message, user("And another?")))
    assert second.text
    assert first.usage is not None
    assert second.usage is not None
    assert (second.usage.input_tokens or 0) > (first.usage.input_tokens or 0) + (first.usage.output_tokens or 0)


@one_backend
async def test_options_of_the_provider_are_passed_on_and_cached_tokens_are_counted(open_chat: Open) -> None:
    # The server starts without its cache of prompts; each request may switch it on.
    request = asked("Why is the sky blue?", provider_options={"openai-compatible": {"cache_prompt": True}})
    async with open_chat() as service:
        first = await service.chat(request)
        second = await service.chat(request)
    assert second.usage is not None
    assert first.usage is not None
    assert (second.usage.cache_read_tokens or 0) > 10
    assert second.usage.input_tokens == first.usage.input_tokens
    assert second.text == first.text


# Other operations


async def test_models_are_listed(open_either: Open) -> None:
    async with open_either() as service:
        (model,) = await service.list_models()
    assert model.id == ALIAS
    assert model.raw["owned_by"] == "llamacpp"
    assert model.context_window is not None


@one_backend
async def test_texts_are_embedded_in_their_order(embedding_url: str) -> None:
    async with opener(embedding_url, "chat")() as service:
        response = await service.embed(["a cat", "the national debt", "a kitten"])
        (alone,) = (await service.embed("the national debt")).embeddings
    assert [len(vector) for vector in response.embeddings] == [576, 576, 576]
    cat, debt, kitten = response.embeddings
    assert debt == pytest.approx(alone, abs=0.01)

    def likeness(one: tuple[float, ...], other: tuple[float, ...]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert likeness(cat, kitten) > likeness(cat, debt)
    assert response.model == ALIAS
    assert response.usage is not None
    assert response.usage.input_tokens
    assert response.usage.output_tokens in (0, None)


@one_backend
async def test_documents_are_reranked(reranking_url: str) -> None:
    # SmolLM2 is no rerank model, so its scores mean nothing; the server computes them all the same.
    async with opener(reranking_url, "chat")() as service:
        response = await service.rerank("Which pet purrs?", ["a cat", "the national debt", "a dog"])
        assert sorted(ranked.index for ranked in response.results) == [0, 1, 2]
        assert [ranked.score for ranked in response.results] == sorted(
            (ranked.score for ranked in response.results), reverse=True
        )
        assert response.usage is not None
        assert response.usage.input_tokens
        best = await service.rerank("Which pet purrs?", ["a cat", "the national debt", "a dog"], top_n=1)
        assert len(best.results) == 1


@one_backend
async def test_a_server_that_does_not_rerank_or_transcribe_says_so(open_chat: Open) -> None:
    async with open_chat() as service:
        with pytest.raises(ServerError, match="does not support reranking"):
            await service.rerank("q", ["a"])
        with pytest.raises(ServerError, match="does not support audio"):
            await service.transcribe(Audio(data=b"RIFF\x00\x00\x00\x00WAVE"))


async def test_disabled_embeddings_are_an_error(open_chat: Open) -> None:
    async with open_chat() as service:
        with pytest.raises(ServerError, match="does not support embeddings") as caught:
            await service.embed("a cat")
    assert caught.value.status == 501


# Refusals


@one_backend
async def test_an_unknown_model_is_answered_by_the_model_that_is_loaded(open_either: Open) -> None:
    # OpenAI answers 404. The server has one model, answers with it whatever is asked for, and says which it was.
    async with open_either() as service:
        response = await service.chat(asked(model="no-such-model"))
    assert response.text
    assert response.model == ALIAS


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_too_long_prompt_has_its_own_error_and_is_not_retried(open_either: Open, streamed: bool) -> None:
    retries = Retries()
    request = asked("word " * 3000)
    async with open_either(max_retries=3, extensions=[retries]) as service:
        with pytest.raises(ContextTooLong, match=r"\d+ tokens\) exceeds .* \(2048 tokens\)") as caught:
            await (read(service, request) if streamed else service.chat(request))
    assert (caught.value.status, caught.value.code) == (400, "exceed_context_size_error")
    assert retries.count == 0


@one_backend
async def test_an_input_limit_makes_a_long_conversation_fit(open_chat: Open) -> None:
    turns = [turn for _ in range(30) for turn in (user("word " * 20), assistant("Yes."))]
    async with open_chat(input_token_limit=200) as service:
        response = await service.chat(ChatRequest(messages=[*turns, user("Hi")], temperature=0, max_output_tokens=2))
    assert [warning.kind for warning in response.warnings] == ["truncated"]
    assert response.usage is not None
    assert (response.usage.input_tokens or 0) < 300


async def test_an_image_that_the_model_cannot_take_is_an_error_that_says_so(open_either: Open) -> None:
    # The server answers 500, as if it had failed; a service with retries would try again.
    image = Image(data=b"\x89PNG\r\n\x1a\n" + bytes(16))
    async with open_either() as service:
        with pytest.raises(ServerError, match="image input is not supported") as caught:
            await service.chat(ChatRequest(messages=user("What is this?", image), max_output_tokens=8))
    assert caught.value.status == 500


async def test_wrong_key_is_refused_and_not_in_the_error(open_either: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_either(api_key=WRONG_KEY) as service:
        for streamed in (False, True):
            with pytest.raises(AuthenticationError, match="Invalid API Key") as caught:
                await (read(service, asked()) if streamed else service.chat(asked()))
            error = caught.value
            assert error.status == 401
            shown = [str(error), repr(error), repr(vars(error)), repr(service), repr(service.settings)]
            shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
            assert WRONG_KEY not in "".join(shown)
            assert WRONG_KEY.encode() not in pickle.dumps((error.args, error.body, error.partial))
    assert WRONG_KEY not in caplog.text


# Cancellation, and calls at the same time


@asynccontextmanager
async def cut_short(url: str) -> AsyncIterator[None]:
    """A block whose endless generation must have been stopped by its end.

    The only slot is free when the next call is answered. It is no proof that the call comes soon, since machines differ
    in speed; the server's count of the tokens that it generated is. Where nothing is streamed llama.cpp looks once a
    second whether its client is still there.
    """
    async with opener(url, "chat")() as service, Server(url) as server:
        with anyio.fail_after(60):
            await service.chat(asked(max_output_tokens=1))
            before = await server.tokens()
            yield
            await service.chat(asked(max_output_tokens=1))
            generated = await server.tokens() - before - 1
    assert generated < ENDLESS / 2


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


@either_on_one_backend
@pytest.mark.parametrize("how", ["break", "cancel", "exception"])
async def test_leaving_a_stream_stops_the_generation(url: str, open_either: Open, how: str) -> None:
    async with open_either() as service, cut_short(url):
        try:
            await leave(service, how)
        except Left:
            assert how == "exception"


@either_on_one_backend
async def test_cancelling_a_call_that_is_not_streamed_stops_the_generation(url: str, open_either: Open) -> None:
    async with open_either() as service, Server(url) as server, cut_short(url):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.chat, endless())
            while not await server.computes():
                pass
            tasks.cancel_scope.cancel()


@either_on_one_backend
async def test_a_timeout_stops_the_generation(url: str, open_either: Open) -> None:
    async with open_either(first_chunk_timeout=0.3) as service, cut_short(url):
        # The headers of a whole answer come with its end.
        with pytest.raises(FirstChunkTimeout):
            await service.chat(endless())


async def test_closing_the_service_ends_its_streams_and_their_generation(url: str, open_chat: Open) -> None:
    async with cut_short(url):
        service = open_chat()
        async with service.stream(endless()) as stream:
            await anext(stream)
            await service.aclose()
            with pytest.raises(ServiceClosed):
                async for _ in stream:
                    pass


@either_on_one_backend
async def test_calls_at_once_are_all_answered_and_equal_the_call_alone(open_either: Open) -> None:
    answers: list[str] = []
    async with open_either() as service:
        alone = await service.chat(asked())

        async def streamed() -> None:
            answers.append((await read(service, asked()))[1].text)

        async def whole() -> None:
            answers.append((await service.chat(asked())).text)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(streamed)
            tasks.start_soon(whole)
    assert answers == [alone.text, alone.text]


async def test_a_cancelled_stream_leaves_its_neighbour_alone(open_chat: Open) -> None:
    answers: list[ChatResponse] = []
    async with open_chat() as service:
        alone = await service.chat(asked())

        async def neighbour() -> None:
            answers.append((await read(service, asked()))[1])

        async with anyio.create_task_group() as tasks:
            async with service.stream(endless()) as stream:
                await anext(stream)
                # It waits for the slot until the first stream is left.
                tasks.start_soon(neighbour)
                await anext(stream)
    assert answers == [alone]
