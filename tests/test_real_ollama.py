"""A real model behind Ollama's API, over loopback and on both backends: llama.cpp, with ollama-proxy-plus before it.

It proves the way: the proxy's `done_reason` is always `stop`, its usage counts words, and each error is a bare
500 or 502.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from server_process import server_process
from trunkline import (
    ChatRequest,
    Finished,
    FinishReason,
    RemoteError,
    ResponseFormat,
    ResponseStarted,
    ServerError,
    Service,
    TextDelta,
    assistant,
    open_service,
    system,
    user,
)
from trunkline_llamacpp.model_file import INSTALL_MODEL, packaged_model

pytestmark = pytest.mark.anyio

KEY = "sk-real-ollama-7e02c1"
MODEL = "local/smollm2"

SERVERS = Path(__file__).parent / "servers"


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
    if find_spec("ollama_proxy") is None:
        pytest.skip("needs a server: pip install ollama-proxy-plus")
    llama = (str(SERVERS / "llama_server.py"), str(model), "--key", KEY, "--alias", "smollm2")
    with (
        server_process(sys.executable, *llama) as behind,
        server_process(sys.executable, str(SERVERS / "ollama_proxy_server.py"), behind, "--key", KEY) as found,
    ):
        yield found


def opened(url: str, **settings: Any) -> Service:
    # Without a scheme, as OLLAMA_HOST is set.
    api_url = url.removeprefix("http://")
    return open_service("ollama", **{"api_url": api_url, "default_model": MODEL, "max_retries": 0, **settings})


def asked(*turns: str, **options: Any) -> ChatRequest:
    roles = [user, assistant]
    messages = [system("Be brief."), *(roles[number % 2](turn) for number, turn in enumerate(turns))]
    return ChatRequest(**{"messages": messages, "temperature": 0, "max_output_tokens": 8, **options})


async def test_a_chat_and_a_stream_are_answered_alike(url: str) -> None:
    async with opened(url) as service:
        whole = await service.chat(asked("What is the capital of France?"))
        async with service.stream(asked("What is the capital of France?")) as stream:
            events = [event async for event in stream]
    assert "Paris" in whole.text
    assert whole.text == stream.response.text
    assert (whole.model, whole.finish_reason) == (MODEL, FinishReason.STOP)
    assert stream.response.finish_reason is FinishReason.STOP
    assert type(events[0]) is ResponseStarted
    assert type(events[-1]) is Finished
    assert len([event for event in events if type(event) is TextDelta]) >= 3


async def test_a_stream_that_is_left_lets_the_next_call_be_answered(url: str) -> None:
    async with opened(url) as service:
        async with service.stream(asked("Count to one hundred.", max_output_tokens=300)) as stream:
            async for event in stream:
                if type(event) is TextDelta:
                    break
        answer = await service.chat(asked("Hello", "Hello! How can I help?", "What is the capital of France?"))
    assert answer.text.strip()


async def test_the_model_is_listed(url: str) -> None:
    async with opened(url) as service:
        assert MODEL in [model.id for model in await service.list_models()]


async def test_unknown_model_is_an_error_with_the_message_of_the_proxy(url: str) -> None:
    async with opened(url, default_model="nobody/x") as service:
        with pytest.raises(RemoteError, match="nobody") as caught:
            await service.chat(asked("Hi"))
    assert caught.value.status is not None


async def test_a_failure_in_the_midst_of_a_stream_is_an_error(url: str) -> None:
    """llama.cpp refuses the schema after the proxy has sent status 200, so the error is a line of the stream."""
    async with opened(url) as service:
        with pytest.raises(ServerError, match="schema"):
            async with service.stream(
                asked("Hi", response_format=ResponseFormat(schema={"type": "nothing"}))
            ) as stream:
                async for _ in stream:
                    pass
