"""Tools, images, structured output and reasoning go from the official SDKs through the gateway to a provider, and back.

The provider answers by what it received (`support/model_server.py`), and its requests are looked at. It speaks Chat
Completions and Anthropic's Messages, so each SDK reaches a provider with its own wire format, and one with another.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import anthropic
import attrs
import httpx
import openai
import pytest
from mistralai.client import Mistral
from model_server import model
from pydantic import BaseModel
from scripted_provider import Provider, served_gateway
from sdk_clients import anthropic_client, openai_client
from trunkline.testing import LoopbackServer, serve
from trunkline_gateway.keys import KeyDraft

pytestmark = pytest.mark.anyio

MORE = """
[services.claude]
provider = "anthropic"
api_key = "sk-1"
api_url = "URL/claude"
default_model = "claude-opus-4-6"
max_retries = 0
"""

PNG = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
IMAGE = b64encode(PNG).decode()
IMAGE_URL = f"data:image/png;base64,{IMAGE}"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "Its English name"}},
    "required": ["city"],
    "additionalProperties": False,
}
ASKED = "What is the weather in Rome and Lima, where this picture was taken?"
RESULTS = ("18 degrees", "21 degrees")
ANSWER = "The tool says: 18 degrees 21 degrees"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@attrs.frozen
class Setup:
    url: str
    key: str
    provider: LoopbackServer

    def openai_client(self) -> openai.AsyncOpenAI:
        return openai_client(self.url, self.key)

    def anthropic_client(self) -> anthropic.AsyncAnthropic:
        return anthropic_client(self.url, self.key)

    def mistral_client(self) -> Mistral:
        return Mistral(api_key=self.key, server_url=self.url)

    def bodies(self) -> list[dict[str, Any]]:
        """What the provider received."""
        return [json.loads(request.body) for request in self.provider.requests]


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    async with (
        serve(model) as provider,
        served_gateway(tmp_path, Provider(url=provider.url), more=MORE) as (gateway, _, url),
    ):
        _, secret = await gateway.keys.create(KeyDraft(name="k"))
        yield Setup(url, secret, provider)


# What the provider received, whatever its wire format


def parts(body: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    contents = [message["content"] for message in body["messages"] if isinstance(message["content"], list)]
    return [part for content in contents for part in content if part["type"] == kind]


def images(body: dict[str, Any]) -> list[bytes]:
    urls = [part["image_url"]["url"].partition(",") for part in parts(body, "image_url")]
    sources = [part["source"] for part in parts(body, "image")]
    assert {head for head, _, _ in urls} <= {"data:image/png;base64"}
    assert {(source["type"], source["media_type"]) for source in sources} <= {("base64", "image/png")}
    return [b64decode(data) for _, _, data in urls] + [b64decode(source["data"]) for source in sources]


def tools(body: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    functions = [tool.get("function", tool) for tool in body["tools"]]
    return [
        (each["name"], each["description"], each["parameters" if "parameters" in each else "input_schema"])
        for each in functions
    ]


def calls_sent_back(body: dict[str, Any]) -> list[tuple[str, str, Any]]:
    calls = [call for message in body["messages"] for call in message.get("tool_calls") or ()]
    return [
        *((call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls),
        *((part["id"], part["name"], part["input"]) for part in parts(body, "tool_use")),
    ]


def results(body: dict[str, Any]) -> list[tuple[str, str]]:
    messages = [message for message in body["messages"] if message["role"] == "tool"]
    return [
        *((message["tool_call_id"], text_of(message["content"])) for message in messages),
        *((part["tool_use_id"], text_of(part["content"])) for part in parts(body, "tool_result")),
    ]


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


# A conversation of two turns with each SDK: it returns the calls of the first turn and the text of the second.

Calls: TypeAlias = list[tuple[str, str, Any]]
Conversation: TypeAlias = Callable[[Setup, str, bool], Awaitable[tuple[Calls, str]]]

FUNCTION: dict[str, Any] = {"name": "get_weather", "description": "The weather of a city", "parameters": SCHEMA}


async def chat_conversation(setup: Setup, service: str, stream: bool) -> tuple[Calls, str]:
    content = [{"type": "text", "text": ASKED}, {"type": "image_url", "image_url": {"url": IMAGE_URL}}]
    conversation: list[Any] = [{"role": "user", "content": content}]
    async with setup.openai_client() as client:

        async def turn() -> Any:
            options: Any = {
                "model": service,
                "messages": conversation,
                "tools": [{"type": "function", "function": FUNCTION}],
            }
            if not stream:
                return (await client.chat.completions.create(**options)).choices[0].message
            async with client.chat.completions.stream(**options) as events:
                return (await events.get_final_completion()).choices[0].message

        asked = await turn()
        calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in asked.tool_calls]
        conversation.append(asked.model_dump(exclude_none=True))
        for (call_id, _, _), result in zip(calls, RESULTS, strict=True):
            conversation.append({"role": "tool", "tool_call_id": call_id, "content": result})
        return calls, (await turn()).content


async def responses_conversation(setup: Setup, service: str, stream: bool) -> tuple[Calls, str]:
    content = [{"type": "input_text", "text": ASKED}, {"type": "input_image", "image_url": IMAGE_URL}]
    conversation: list[Any] = [{"role": "user", "content": content}]
    async with setup.openai_client() as client:

        async def turn() -> Any:
            options: Any = {"model": service, "input": conversation, "tools": [{"type": "function", **FUNCTION}]}
            if not stream:
                return await client.responses.create(**options)
            async with client.responses.stream(**options) as events:
                return await events.get_final_response()

        asked = await turn()
        items = [item for item in asked.output if item.type == "function_call"]
        calls = [(item.call_id, item.name, json.loads(item.arguments)) for item in items]
        conversation += [item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in asked.output]
        for (call_id, _, _), result in zip(calls, RESULTS, strict=True):
            conversation.append({"type": "function_call_output", "call_id": call_id, "output": result})
        return calls, (await turn()).output_text


async def messages_conversation(setup: Setup, service: str, stream: bool) -> tuple[Calls, str]:
    source = {"type": "base64", "media_type": "image/png", "data": IMAGE}
    content: list[Any] = [{"type": "text", "text": ASKED}, {"type": "image", "source": source}]
    conversation: list[Any] = [{"role": "user", "content": content}]
    tool = {"name": FUNCTION["name"], "description": FUNCTION["description"], "input_schema": SCHEMA}
    async with setup.anthropic_client() as client:

        async def turn() -> Any:
            options: Any = {"model": service, "max_tokens": 500, "messages": conversation, "tools": [tool]}
            if not stream:
                return await client.messages.create(**options)
            async with client.messages.stream(**options) as events:
                return await events.get_final_message()

        asked = await turn()
        assert asked.stop_reason == "tool_use"
        calls = [(block.id, block.name, block.input) for block in asked.content if block.type == "tool_use"]
        conversation.append({"role": "assistant", "content": asked.content})
        given = [
            {"type": "tool_result", "tool_use_id": call_id, "content": result}
            for (call_id, _, _), result in zip(calls, RESULTS, strict=True)
        ]
        conversation.append({"role": "user", "content": given})
        return calls, "".join(block.text for block in (await turn()).content)


async def mistral_conversation(setup: Setup, service: str, stream: bool) -> tuple[Calls, str]:
    content = [{"type": "text", "text": ASKED}, {"type": "image_url", "image_url": IMAGE_URL}]
    conversation: list[Any] = [{"role": "user", "content": content}]
    async with setup.mistral_client() as client:

        async def turn() -> tuple[str, Calls]:
            options: Any = {
                "model": service,
                "messages": conversation,
                "tools": [{"type": "function", "function": FUNCTION}],
            }
            if not stream:
                message: Any = (await client.chat.complete_async(**options)).choices[0].message
                made = [
                    (call.id, call.function.name, json.loads(call.function.arguments))
                    for call in message.tool_calls or ()
                ]
                return message.content, made
            text, made = "", []
            async with await client.chat.stream_async(**options) as events:
                async for event in events:
                    for choice in event.data.choices:
                        text += choice.delta.content or ""
                        # As Mistral's own API does, each call comes whole.
                        made += [
                            (call.id, call.function.name, json.loads(call.function.arguments))
                            for call in choice.delta.tool_calls or ()
                        ]
            return text, made

        _, calls = await turn()
        sent_back = [
            {"id": call_id, "function": {"name": name, "arguments": json.dumps(arguments)}}
            for call_id, name, arguments in calls
        ]
        conversation.append({"role": "assistant", "content": "", "tool_calls": sent_back})
        for (call_id, name, _), result in zip(calls, RESULTS, strict=True):
            conversation.append({"role": "tool", "tool_call_id": call_id, "name": name, "content": result})
        return calls, (await turn())[0]


CONVERSATIONS: dict[str, Conversation] = {
    "openai-chat": chat_conversation,
    "openai-responses": responses_conversation,
    "anthropic": messages_conversation,
    "mistral": mistral_conversation,
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("service", ["main", "claude"])
@pytest.mark.parametrize("sdk", CONVERSATIONS)
async def test_an_image_tools_and_their_results_reach_the_provider_and_its_calls_the_client(
    setup: Setup, sdk: str, service: str, stream: bool
) -> None:
    calls, text = await CONVERSATIONS[sdk](setup, service, stream)
    assert [(name, arguments) for _, name, arguments in calls] == [
        ("get_weather", {"city": "Rome"}),
        ("get_weather", {"city": "Lima"}),
    ]
    assert len({call_id for call_id, _, _ in calls}) == 2
    assert text == ANSWER
    first, second = setup.bodies()
    for body in (first, second):
        assert body.get("stream", False) is stream
        assert images(body) == [PNG]
        assert tools(body) == [("get_weather", "The weather of a city", SCHEMA)]
    assert (calls_sent_back(first), results(first)) == ([], [])
    assert calls_sent_back(second) == calls
    assert results(second) == [(call_id, result) for (call_id, _, _), result in zip(calls, RESULTS, strict=True)]


class City(BaseModel):
    name: str
    inhabitants: int


def schema_sent(body: dict[str, Any]) -> dict[str, Any]:
    if "response_format" in body:
        return body["response_format"]["json_schema"]["schema"]
    return body["output_config"]["format"]["schema"]


async def parsed_by_chat(setup: Setup, service: str) -> object:
    async with setup.openai_client() as client:
        answer = await client.chat.completions.parse(
            model=service, messages=[{"role": "user", "content": "Name a city"}], response_format=City
        )
        return answer.choices[0].message.parsed


async def parsed_by_responses(setup: Setup, service: str) -> object:
    async with setup.openai_client() as client:
        return (await client.responses.parse(model=service, input="Name a city", text_format=City)).output_parsed


async def parsed_by_messages(setup: Setup, service: str) -> object:
    async with setup.anthropic_client() as client:
        answer = await client.messages.parse(
            model=service, max_tokens=500, messages=[{"role": "user", "content": "Name a city"}], output_format=City
        )
        return answer.parsed_output


async def parsed_by_mistral(setup: Setup, service: str) -> object:
    async with setup.mistral_client() as client:
        answer = await client.chat.parse_async(
            response_format=City, model=service, messages=[{"role": "user", "content": "Name a city"}]
        )
        message = answer.choices[0].message  # type: ignore[index]
        return message.parsed if message is not None else None


PARSERS: dict[str, Callable[[Setup, str], Awaitable[object]]] = {
    "openai-chat": parsed_by_chat,
    "openai-responses": parsed_by_responses,
    "anthropic": parsed_by_messages,
    "mistral": parsed_by_mistral,
}


@pytest.mark.parametrize("service", ["main", "claude"])
@pytest.mark.parametrize("sdk", PARSERS)
async def test_a_schema_reaches_the_provider_and_the_sdk_parses_the_answer(
    setup: Setup, sdk: str, service: str
) -> None:
    assert await PARSERS[sdk](setup, service) == City(name="Rome", inhabitants=2748109)
    [body] = setup.bodies()
    sent = schema_sent(body)
    assert {name: field["type"] for name, field in sent["properties"].items()} == {
        "name": "string",
        "inhabitants": "integer",
    }
    assert sent["required"] == ["name", "inhabitants"]


SIGNED = {"type": "thinking", "thinking": "Short waves scatter most.", "signature": "c2lnbmVk"}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("sdk", ["openai-chat", "openai-responses", "anthropic"])
async def test_signed_reasoning_reaches_the_client_and_returns_to_the_provider_unchanged(
    setup: Setup, sdk: str, stream: bool
) -> None:
    question = "Why is the sky blue?"
    async with AsyncExitStack() as stack:
        if sdk == "anthropic":
            claude = await stack.enter_async_context(setup.anthropic_client())
            said: list[Any] = [{"role": "user", "content": question}]
            for _ in range(2):
                options: Any = {
                    "model": "claude",
                    "max_tokens": 5000,
                    "messages": said,
                    "thinking": {"type": "enabled", "budget_tokens": 2000},
                }
                if stream:
                    async with claude.messages.stream(**options) as events:
                        answer: Any = await events.get_final_message()
                else:
                    answer = await claude.messages.create(**options)
                assert answer.content[0].model_dump() == SIGNED
                said += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": question}]
        else:
            client = await stack.enter_async_context(setup.openai_client())
            said = [{"role": "user", "content": question}]
            for _ in range(2):
                if sdk == "openai-chat":
                    options = {"model": "claude", "messages": said, "reasoning_effort": "high"}
                    if stream:
                        async with client.chat.completions.stream(**options) as chunks:
                            message: Any = (await chunks.get_final_completion()).choices[0].message
                    else:
                        message = (await client.chat.completions.create(**options)).choices[0].message
                    assert message.reasoning_content == SIGNED["thinking"]
                    said.append(message.model_dump(exclude_none=True))
                else:
                    options = {
                        "model": "claude",
                        "input": said,
                        "reasoning": {"effort": "high", "summary": "auto"},
                        "include": ["reasoning.encrypted_content"],
                        "store": False,
                    }
                    if stream:
                        async with client.responses.stream(**options) as happened:
                            response: Any = await happened.get_final_response()
                    else:
                        response = await client.responses.create(**options)
                    [reasoning] = [item for item in response.output if item.type == "reasoning"]
                    assert reasoning.summary[0].text == SIGNED["thinking"]
                    said += [item.model_dump(exclude_none=True) for item in response.output]
                said.append({"role": "user", "content": question})
    first, second = setup.bodies()
    assert first["thinking"]["type"] in ("enabled", "adaptive")
    assert second["messages"][1]["content"][0] == SIGNED


async def test_what_a_provider_did_not_get_is_in_a_header_of_the_sdks_raw_response(setup: Setup) -> None:
    async with setup.openai_client() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="claude", messages=[{"role": "user", "content": "Why?"}], extra_body={"unheard_of": 1}
        )
        assert "unheard_of: not known to the gateway, and not sent" in raw.headers["x-trunkline-warnings"]
        assert raw.headers["x-trunkline-service"] == "claude"
        assert "unheard_of" not in setup.bodies()[0]
        await client.chat.completions.create(
            model="main", messages=[{"role": "user", "content": "Why?"}], extra_body={"unheard_of": 1}
        )
        assert setup.bodies()[1]["unheard_of"] == 1


async def test_an_image_by_its_address_is_not_fetched_by_the_gateway(setup: Setup) -> None:
    url = f"{setup.provider.url}/picture.png"
    content: Any = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "main", "messages": [{"role": "user", "content": content}]}
    async with httpx.AsyncClient(base_url=setup.url, headers={"x-api-key": setup.key}) as client:
        answer = await client.post("/v1/chat/completions", json=body)
    assert answer.json()["choices"][0]["message"]["content"] == "You sent: image_url"
    [sent] = setup.bodies()
    assert sent["messages"][0]["content"][1]["image_url"]["url"] == url
