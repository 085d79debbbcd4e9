"""Recorded answers and errors of each provider, through the gateway and the official SDKs.

Each client has to get what Trunkline itself reads in the same recording: texts, calls of tools, or an error.
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import attrs
import openai
import pytest
from recordings import Exchange, recorded, report
from replay_server import replay_server
from scripted_provider import Provider, served_gateway
from sdk_clients import anthropic_client, openai_client
from trunkline import Audio, ChatRequest, ChatResponse, FinishReason, Service, Text, TrunklineError, open_service
from trunkline_gateway.keys import KeyDraft
from trunkline_gateway.problems import problem_of

STREAMS, WHOLE, ERRORS = 8, 4, 3
"""How many recordings of each kind are tried for each provider; with `--exhaustive` all."""


@attrs.frozen(kw_only=True)
class Case:
    """The recordings of one API of a provider, and a service that reads them. `URL` is the server's."""

    file: str
    variant: str | None = None
    paths: tuple[str, ...]
    settings: dict[str, str]

    def exchanges(self, *, every: bool) -> list[Exchange]:
        """The recordings, spread over the file."""
        found = [
            exchange
            for exchange in recorded(self.file)
            if urlsplit(exchange.url).path.endswith(self.paths)
            and self.variant in (None, exchange.variant)
            and exchange.method == "POST"
        ]
        kinds = {
            (True, True): STREAMS,
            (False, True): WHOLE,
            (True, False): 0,
            (False, False): ERRORS,
        }
        chosen = []
        for (is_stream, is_success), few in kinds.items():
            group = [each for each in found if (each.streaming, each.status < 400) == (is_stream, is_success)]
            most = len(group) if every else min(few, len(group))
            chosen += group[:: len(group) // most][:most] if most else []
        return chosen


def case(file: str, provider: str, *paths: str, variant: str | None = None, **settings: str) -> Case:
    defaults = {"provider": provider, "default_model": "m", "api_url": "URL"}
    return Case(file=file, variant=variant, paths=paths, settings=defaults | settings)


CASES = {
    "openai": case("openai", "openai", "/chat/completions", api="chat", api_key="k"),
    "responses": case("openai-responses", "openai", "/responses", api="responses", api_key="k"),
    "azure": case("azure-openai", "azure-openai", "/completions", variant="azure", api="chat", api_key="k"),
    "anthropic": case("anthropic", "anthropic", "/messages", api_key="k"),
    "bedrock": case("bedrock-converse", "bedrock", "/converse", api_key="k", aws_region="us-east-1"),
    "bedrock-stream": case(
        "bedrock-converse-stream", "bedrock", "/converse-stream", api_key="k", aws_region="us-east-1"
    ),
    "cohere": case("cohere", "cohere", "/v2/chat", api_key="k"),
    "gemini": case("gemini", "gemini", "enerateContent", variant="gemini", api_key="k"),
    "vertex": case("gemini", "vertex", "enerateContent", variant="vertex", project="p", access_token="k"),
    "mistral": case("mistral", "mistral", "/chat/completions", api_key="k"),
    "ollama": case("ollama", "ollama", "/api/chat"),
    "groq": case("groq", "openai-compatible", "/chat/completions", profile="groq"),
    "deepseek": case("deepseek", "openai-compatible", "/chat/completions", profile="deepseek"),
    "openrouter": case("openrouter", "openai-compatible", "/chat/completions", profile="openrouter"),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@attrs.frozen
class Outcome:
    """What a client got. `error` is the status of the error, `True` for one in the middle of a stream.

    The arguments of a call that was cut off are `None` in what Trunkline reads: each SDK shows them in its own way.
    """

    text: str = ""
    calls: tuple[tuple[str, str, Any], ...] = ()
    error: int | bool | None = None
    is_failed: bool = False
    """Whether the provider ended its answer with an error, which only the Responses API can express."""

    def same(self, found: Outcome) -> bool:
        """Whether a client found this."""
        cut_off = {index for index, call in enumerate(self.calls) if call[2] is None}
        calls = tuple((*call[:2], None) if index in cut_off else call for index, call in enumerate(found.calls))
        return (found.text, calls, found.error) == (self.text, self.calls, self.error)


def arguments_of(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


@attrs.frozen
class Clients:
    """A service of Trunkline, and the SDKs in front of a gateway with the same service."""

    service: Service
    openai: openai.AsyncOpenAI
    anthropic: anthropic.AsyncAnthropic

    async def direct(self, question: str, stream: bool) -> Outcome:
        request = ChatRequest(messages=question)
        started = False
        try:
            if stream:
                async with self.service.stream(request) as events:
                    async for _ in events:
                        started = True
                response: ChatResponse = events.response
            else:
                response = await self.service.chat(request)
        except TrunklineError as error:
            return Outcome(error=started or problem_of(error).status)
        # Refusals, and what was spoken.
        said = "".join(
            part.text if isinstance(part, Text) else part.transcript or ""
            for part in response.parts
            if isinstance(part, (Text, Audio))
        )
        calls = tuple(
            (call.id, call.name, call.arguments if call.invalid_arguments is None else None)
            for call in response.tool_calls
        )
        return Outcome(said, calls, is_failed=response.finish_reason is FinishReason.ERROR)

    async def chat(self, question: str, stream: bool) -> Outcome:
        options: Any = {"model": "main", "messages": [{"role": "user", "content": question}]}
        try:
            if stream:
                async with self.openai.chat.completions.stream(**options) as events:
                    async for _ in events:
                        pass
                    message: Any = events.current_completion_snapshot.choices[0].message
            else:
                message = (await self.openai.chat.completions.create(**options)).choices[0].message
        except openai.APIError as error:
            return Outcome(error=getattr(error, "status_code", True))
        calls = [
            (call.id, call.function.name, arguments_of(call.function.arguments)) for call in message.tool_calls or ()
        ]
        audio = getattr(message, "audio", None)
        spoken = audio.transcript if audio is not None else ""
        return Outcome((message.content or "") + (message.refusal or "") + spoken, tuple(calls))

    async def responses(self, question: str, stream: bool) -> Outcome:
        options: Any = {"model": "main", "input": question}
        try:
            if stream:
                async with self.openai.responses.stream(**options) as events:
                    last: Any = [event async for event in events][-1]
                if last.type == "response.failed":
                    return Outcome(error=True)
                response = last.response
            else:
                response = await self.openai.responses.create(**options)
        except openai.APIError as error:
            return Outcome(error=getattr(error, "status_code", True))
        parts = [part for item in response.output if item.type == "message" for part in item.content]
        text = "".join(part.text if part.type == "output_text" else part.refusal for part in parts)
        items = [item for item in response.output if item.type == "function_call"]
        return Outcome(text, tuple((item.call_id, item.name, arguments_of(item.arguments)) for item in items))

    async def messages(self, question: str, stream: bool) -> Outcome:
        options: Any = {"model": "main", "max_tokens": 100, "messages": [{"role": "user", "content": question}]}
        try:
            if stream:
                async with self.anthropic.messages.stream(**options) as events:
                    message: Any = await events.get_final_message()
            else:
                message = await self.anthropic.messages.create(**options)
        except anthropic.APIError as error:
            status = getattr(error, "status_code", 200)
            return Outcome(error=True if status == 200 else status)
        text = "".join(block.text for block in message.content if block.type == "text")
        uses = [block for block in message.content if block.type == "tool_use"]
        return Outcome(text, tuple((block.id, block.name, block.input) for block in uses))


@pytest.mark.anyio
@pytest.mark.timeout(900)  # with --exhaustive, it takes minutes
# The SDK writes what it read to JSON and back while it collects a stream, and complains of values newer than itself.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
@pytest.mark.parametrize("name", CASES)
async def test_recordings_of_a_provider_reach_each_sdk_as_trunkline_reads_them(
    name: str, tmp_path: Path, exhaustive: bool
) -> None:
    case = CASES[name]
    exchanges = case.exchanges(every=exhaustive)
    assert exchanges
    problems = []
    with replay_server(exchanges) as url:
        settings = {key: value.replace("URL", url) for key, value in case.settings.items()}
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        services = tmp_path / "services.toml"
        services.write_text(f"[services.main]\nmax_retries = 0\n{lines}")
        async with AsyncExitStack() as stack:
            gateway, _, address = await stack.enter_async_context(
                served_gateway(tmp_path, Provider(url=url), services=services)
            )
            _, key = await gateway.keys.create(KeyDraft(name="k"))
            provider = settings.pop("provider")
            clients = Clients(
                await stack.enter_async_context(open_service(provider, max_retries=0, **settings)),
                await stack.enter_async_context(openai_client(address, key)),
                await stack.enter_async_context(anthropic_client(address, key)),
            )
            for exchange in exchanges:
                question = f"recording {exchange.id}"
                stream = exchange.streaming
                expected = await clients.direct(question, stream)
                for ask in (clients.chat, clients.responses, clients.messages):
                    found = await ask(question, stream)
                    if ask == clients.responses and expected.is_failed:
                        assert found.error
                    elif not expected.same(found):
                        problems.append(f"{exchange.id} {ask.__name__}: {found}, not {expected}")
    assert not problems, report(problems)
