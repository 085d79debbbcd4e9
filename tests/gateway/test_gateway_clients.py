"""Other people's clients of a gateway that runs as a process: LangChain, pydantic-ai, `llm` and curl.

The service `local` is a real model. `rules` is a provider that answers by what it received
(`support/model_server.py`), since so small a model calls no tools.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio.from_thread
import openai
import pytest
from gateway_process import GatewayProcess, gateway_process
from model_server import model
from pydantic import BaseModel
from sdk_clients import anthropic_client, openai_client
from trunkline.testing import LoopbackServer, serve

SERVICES = """
[services.local]
provider = "llamacpp"

[services.rules]
provider = "openai-compatible"
api_url = "{url}/v1"
default_model = "m"
max_retries = 0

[services.claude]
provider = "anthropic"
api_key = "sk-1"
api_url = "{url}"
default_model = "claude-opus-4-6"
max_retries = 0
"""
QUESTION = "Name the colour of the sky."
WEATHER = "What is the weather in Rome?"
WRONG_KEY = "tlk_wrong"


class City(BaseModel):
    """A city."""

    name: str
    country: str


class Place(BaseModel):
    """Where it is."""

    city: str


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def provider() -> Iterator[LoopbackServer]:
    with anyio.from_thread.start_blocking_portal() as portal, portal.wrap_async_context_manager(serve(model)) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(provider: LoopbackServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    services = SERVICES.format(url=provider.url)
    with gateway_process(tmp_path_factory.mktemp("gateway"), services=services) as process:
        yield process


@pytest.fixture(scope="module")
def key(gateway: GatewayProcess) -> str:
    return gateway.create_key("clients")


@pytest.fixture
def embedded_model() -> None:
    from trunkline_llamacpp.model_file import INSTALL_MODEL, packaged_model

    if find_spec("xllamacpp") is None or packaged_model() is None:
        pytest.skip(f"needs a model: {INSTALL_MODEL}")


# LangChain


@pytest.fixture
def langchain(gateway: GatewayProcess, key: str) -> Any:
    """Makes a chat model of LangChain."""
    module = pytest.importorskip("langchain_openai", reason="needs the package langchain-openai")

    def make(service: str, **options: Any) -> Any:
        given = {"base_url": f"{gateway.url}/v1", "api_key": key, "max_retries": 0, **options}
        return module.ChatOpenAI(model=service, **given)

    return make


@pytest.mark.usefixtures("embedded_model")
def test_langchain_gets_an_answer_and_streams_one(langchain: Any) -> None:
    chat = langchain("local", max_tokens=12)
    answer = chat.invoke(QUESTION)
    assert answer.content
    assert answer.usage_metadata["input_tokens"] > 0
    chunks = list(langchain("local", max_tokens=12, stream_usage=True).stream(QUESTION))
    assert len([chunk for chunk in chunks if chunk.content]) > 1
    whole = sum(chunks[1:], chunks[0])
    assert whole.content
    assert whole.usage_metadata["output_tokens"] > 0


@pytest.mark.parametrize("service", ["rules", "claude"])
@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_langchain_calls_a_tool_and_sends_its_result(langchain: Any, service: str, responses: bool) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    chat = langchain(service, use_responses_api=responses).bind_tools([get_weather])
    said: list[Any] = [HumanMessage(WEATHER)]
    chunks = list(chat.stream(said))
    asked = sum(chunks[1:], chunks[0])
    [call] = asked.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Rome"})
    said += [asked, ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])]
    assert chat.invoke(said).text == "The tool says: sunny in Rome"


@pytest.mark.parametrize("service", ["rules", "claude"])
def test_langchain_parses_structured_output(langchain: Any, service: str) -> None:
    assert langchain(service).with_structured_output(City).invoke("Name a city") == City(name="Rome", country="Italy")


def test_langchain_raises_the_error_of_a_wrong_key(langchain: Any) -> None:
    with pytest.raises(openai.AuthenticationError):
        langchain("rules", api_key=WRONG_KEY).invoke(QUESTION)


# pydantic-ai


@pytest.fixture
async def pydantic_ai_model(gateway: GatewayProcess, key: str) -> AsyncIterator[Any]:
    """Makes a model of pydantic-ai, whose connections are closed at the end."""
    pytest.importorskip("pydantic_ai", reason="needs the package pydantic-ai-slim[openai,anthropic]")
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider

    async with AsyncExitStack() as stack:

        async def make(api: str, service: str, key: str = key) -> Any:
            if api == "messages":
                claude = anthropic_client(gateway.url, key)
                await stack.enter_async_context(claude)
                return AnthropicModel(service, provider=AnthropicProvider(anthropic_client=claude))
            client = openai_client(gateway.url, key)
            await stack.enter_async_context(client)
            kind = OpenAIResponsesModel if api == "responses" else OpenAIChatModel
            return kind(service, provider=OpenAIProvider(openai_client=client))

        yield make


APIS = ["chat", "responses", "messages"]


@pytest.mark.anyio
@pytest.mark.usefixtures("embedded_model")
@pytest.mark.parametrize("api", APIS)
async def test_pydantic_ai_gets_an_answer_and_streams_one(pydantic_ai_model: Any, api: str) -> None:
    from pydantic_ai import Agent

    agent = Agent(await pydantic_ai_model(api, "local"), model_settings={"max_tokens": 12})
    result = await agent.run(QUESTION)
    assert result.output
    assert result.usage.input_tokens > 0
    async with agent.run_stream(QUESTION) as answer:
        texts = [text async for text in answer.stream_text(delta=True, debounce_by=None)]
    assert len(texts) > 1


@pytest.mark.anyio
@pytest.mark.parametrize("service", ["rules", "claude"])
@pytest.mark.parametrize("api", APIS)
async def test_pydantic_ai_runs_a_tool_and_returns_typed_output(pydantic_ai_model: Any, api: str, service: str) -> None:
    from pydantic_ai import Agent, NativeOutput, ToolOutput

    agent = Agent(await pydantic_ai_model(api, service))
    asked = []

    @agent.tool_plain
    def get_weather(city: str) -> str:
        asked.append(city)
        return f"sunny in {city}"

    assert (await agent.run(WEATHER)).output == "The tool says: sunny in Rome"
    assert asked == ["Rome"]
    by_tool = Agent(await pydantic_ai_model(api, service), output_type=ToolOutput(Place))
    assert (await by_tool.run("Is it Rome?")).output == Place(city="Rome")
    if api != "messages":  # pydantic-ai allows it only for some of the models' names there
        native = Agent(await pydantic_ai_model(api, service), output_type=NativeOutput(City))
        assert (await native.run("Name a city")).output == City(name="Rome", country="Italy")


@pytest.mark.anyio
@pytest.mark.parametrize("api", APIS)
async def test_pydantic_ai_raises_the_error_of_a_wrong_key(pydantic_ai_model: Any, api: str) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.exceptions import ModelHTTPError

    with pytest.raises(ModelHTTPError) as refused:
        await Agent(await pydantic_ai_model(api, "rules", WRONG_KEY)).run(QUESTION)
    assert refused.value.status_code == 401


# llm

LLM_MODELS = """
- model_id: local
  model_name: local
  api_base: {url}/v1
  api_key_name: gateway
- model_id: rules
  model_name: rules
  api_base: {url}/v1
  api_key_name: gateway
  supports_tools: true
  supports_schema: true
  vision: true
"""
LLM_TOOL = """
def get_weather(city: str) -> str:
    "The weather of a city"
    return f"sunny in {city}"
"""


@pytest.fixture
def llm(gateway: GatewayProcess, key: str, tmp_path: Path) -> Any:
    """Runs the command `llm`."""
    if find_spec("llm") is None:
        pytest.skip("needs the package llm")
    (tmp_path / "extra-openai-models.yaml").write_text(LLM_MODELS.format(url=gateway.url))
    (tmp_path / "keys.json").write_text(json.dumps({"gateway": key}))

    def run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", "-m", "llm", "--no-log", *arguments]
        environment = {**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=60, stdin=subprocess.DEVNULL
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.mark.usefixtures("embedded_model")
def test_llm_streams_an_answer(llm: Any) -> None:
    assert llm("-m", "local", "-o", "max_tokens", "12", QUESTION).stdout.strip()


def test_llm_runs_a_tool_parses_a_schema_and_sends_an_image(llm: Any, tmp_path: Path) -> None:
    assert "sunny in Rome" in llm("-m", "rules", "--functions", LLM_TOOL, WEATHER).stdout
    answer = llm("-m", "rules", "--no-stream", "--schema", "name, country", "Name a city").stdout
    assert json.loads(answer) == {"name": "Rome", "country": "Italy"}
    image = tmp_path / "a.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 32)
    assert llm("-m", "rules", "-a", str(image), "What is this?").stdout.strip() == "You sent: image_url"


def test_llm_reports_a_wrong_key(llm: Any) -> None:
    done = llm("-m", "rules", "--key", WRONG_KEY, QUESTION, check=False)
    assert done.returncode != 0
    assert "the key is not one of this gateway's" in done.stderr


# curl


@pytest.fixture
def curl(gateway: GatewayProcess, key: str) -> Any:
    """Runs curl, and returns its output."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")

    def run(path: str, body: object, *options: str, key: str = key) -> str:
        authorization = f"Authorization: Bearer {key}"
        command = ["curl", "-sSN", f"{gateway.url}{path}", "-H", authorization, "-d", json.dumps(body), *options]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    return run


def events(output: str) -> list[Any]:
    data = [line.removeprefix("data: ") for line in output.splitlines() if line.startswith("data: {")]
    return [json.loads(each) for each in data]


@pytest.mark.usefixtures("embedded_model")
def test_curl_gets_an_answer_and_streams_one(curl: Any) -> None:
    body = {"model": "local", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 5}
    assert json.loads(curl("/v1/chat/completions", body))["choices"][0]["message"]["content"]
    output = curl("/v1/chat/completions", {**body, "stream": True})
    assert output.endswith("data: [DONE]\n\n")
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events(output))
    assert json.loads(curl("/v1/messages", body))["content"][0]["text"]
    assert events(curl("/v1/messages", {**body, "stream": True}))[-1] == {"type": "message_stop"}
    asked = {"model": "local", "input": QUESTION, "max_output_tokens": 16}
    assert json.loads(curl("/v1/responses", asked))["output"]
    assert events(curl("/v1/responses", {**asked, "stream": True}))[-1]["type"] in (
        "response.completed",
        "response.incomplete",
    )


def test_curl_gets_a_call_of_a_tool(curl: Any) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": schema}}
    body = {"model": "rules", "messages": [{"role": "user", "content": WEATHER}], "tools": [tool]}
    [choice] = json.loads(curl("/v1/chat/completions", body))["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city":"Rome"}'}


def test_curl_gets_the_error_of_a_wrong_key(curl: Any) -> None:
    body = {"model": "rules", "messages": [{"role": "user", "content": QUESTION}]}
    answer, status = curl("/v1/chat/completions", body, "-w", "\n%{http_code}", key=WRONG_KEY).rsplit("\n", 1)
    assert status == "401"
    assert json.loads(answer)["error"]["code"] == "invalid_api_key"
