"""Recording and replay with real providers, and the fixture as the author of an application uses it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from backends import one_backend
from server_process import server_process
from trunkline import ChatRequest, open_service, user
from trunkline.testing import Exchange, record, replay, serve
from trunkline_llamacpp.model_file import INSTALL_MODEL, packaged_model

pytestmark = pytest.mark.anyio

KEY = "sk-recorded-5d1e8a"
SERVER = Path(__file__).parent / "servers" / "llama_server.py"
REQUEST = ChatRequest(messages=[user("Say one word.")], max_output_tokens=8, temperature=0)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model_file() -> Path:
    path = packaged_model()
    if path is not None:
        return path
    reason = f"needs a model: {INSTALL_MODEL}"
    if os.environ.get("TRUNKLINE_REQUIRE_RECORDINGS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def url(model_file: Path) -> Iterator[str]:
    with server_process(sys.executable, str(SERVER), str(model_file), "--key", KEY, "--alias", "smollm2") as found:
        yield found


SERVICES = {
    "chat": ("openai-compatible", {"profile": "llama.cpp"}),
    "responses": ("openai", {"api": "responses"}),
    "anthropic": ("anthropic", {}),
}


async def ask(provider: str, settings: dict[str, Any]) -> tuple[Any, ...]:
    async with open_service(provider, default_model="smollm2", **settings) as service:
        async with service.stream(REQUEST) as stream:
            events = [event async for event in stream]
        whole = await service.chat(REQUEST)
    return [type(event) for event in events], stream.response.parts, stream.response.usage, whole.parts, whole.usage


@one_backend
@pytest.mark.parametrize("name", SERVICES)
async def test_responses_of_a_real_server_are_replayed_unchanged(name: str, url: str, tmp_path: Path) -> None:
    provider, settings = SERVICES[name]
    with record(tmp_path / "tape.json"):
        recorded = await ask(provider, {**settings, "api_url": url, "api_key": KEY})
    assert KEY not in (tmp_path / "tape.json").read_text(encoding="utf-8")
    with replay(tmp_path / "tape.json"):
        assert await ask(provider, {**settings, "api_url": url, "api_key": "unused"}) == recorded


@one_backend
async def test_a_model_inside_the_process_is_recorded_too(model_file: Path, tmp_path: Path) -> None:
    with record(tmp_path / "tape.json"):
        recorded = await ask("llamacpp", {})
    with replay(tmp_path / "tape.json"):
        assert await ask("llamacpp", {"model_path": "/nowhere.gguf"}) == recorded


TESTS = """
import os
import pytest
from trunkline import open_service

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.mark.parametrize("word", ["hi", "ho"])
async def test_it(trunkline_recording, word):
    url = os.environ["SERVER"]
    async with open_service("openai-compatible", api_url=url, api_key="k-12345678", default_model="m") as service:
        assert (await service.chat(word)).text == "hello"
"""


def recordings(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json"))


@one_backend  # the tests that it runs use both
async def test_the_fixture_records_with_the_option_and_replays_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "test_words.py").write_text(TESTS)

    async def answer(exchange: Exchange) -> None:
        await exchange.respond(
            b'{"id":"1","model":"m","choices":[{"index":0,"finish_reason":"stop",'
            b'"message":{"role":"assistant","content":"hello"}}]}'
        )

    async def pytest_run(*options: str, server: str) -> str:
        result = await anyio.run_process(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(tmp_path)],
            check=False,
            env={**os.environ, "SERVER": server},
        )
        return result.stdout.decode()

    async with serve(answer) as server:
        url = server.url
        assert "4 errors" in await pytest_run(server=url)
        assert server.requests == []
        assert "4 passed" in await pytest_run("--trunkline-record", server=url)
        assert len(server.requests) == 4
    assert "4 passed" in await pytest_run(server=url)
    assert recordings(tmp_path) == [
        "recordings/test_words/test_it-word=hi.json",
        "recordings/test_words/test_it-word=ho.json",
    ]
