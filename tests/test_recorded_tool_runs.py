"""`run_tools` with recorded conversations: the responses of real providers, served again in their order."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from recordings import recorded
from trunkline import FinishReason, LocalTool, ToolCall, ToolResult, open_service, run_tools
from trunkline.testing import Exchange, serve

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@attrs.frozen(kw_only=True)
class Conversation:
    """Recorded exchanges of one conversation, whose responses but the last call tools."""

    provider: str
    file: str
    ids: tuple[str, ...]
    tools: tuple[str, ...]
    """The names of the tools that are called, in order."""
    settings: dict[str, Any] = attrs.field(factory=dict)


CONVERSATIONS = (
    Conversation(
        provider="openai", file="openai", ids=("56596f0e8b9939f7", "28090a87f57949a7"), tools=("get_weather",)
    ),
    Conversation(
        provider="anthropic", file="anthropic", ids=("00dcfd3b3d9f1a28", "e65b136c7c8b0348"), tools=("get_book_info",)
    ),
    Conversation(provider="gemini", file="gemini", ids=("0e8fc0e93070ab92", "a163d106375bbdf6"), tools=("weather",)),
    Conversation(provider="mistral", file="mistral", ids=("67170688e0f57569", "17f1858e7aabcb79"), tools=("weather",)),
    Conversation(
        provider="bedrock",
        file="bedrock-converse-stream",
        ids=("edbb1125e374f761", "6120014242c7f6fd"),
        tools=("get_temperature",),
        settings={"aws_region": "us-east-1"},
    ),
)


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=[each.file for each in CONVERSATIONS])
async def test_a_recorded_conversation_is_a_run_that_ends_with_its_answer(conversation: Conversation) -> None:
    exchanges = {exchange.id: exchange for exchange in recorded(conversation.file)}
    bodies = [exchanges[each] for each in conversation.ids]
    ran: list[str] = []

    async def run_one(call: ToolCall) -> str:
        ran.append(call.name)
        return f"the result of {call.name}"

    async def answer(exchange: Exchange) -> None:
        found = bodies[exchange.number - 1]
        await exchange.respond(
            found.body, headers={"content-type": found.headers.get("content-type", "text/event-stream")}
        )

    tools = [LocalTool(name=name, run=run_one) for name in dict.fromkeys(conversation.tools)]
    async with (
        serve(answer) as server,
        open_service(
            conversation.provider, api_url=server.url, api_key="k", default_model="m", **conversation.settings
        ) as service,
    ):
        run = await run_tools(service, "?", tools)

    assert tuple(ran) == conversation.tools
    assert len(run.rounds) == len(server.requests) == len(bodies)
    assert run.response.finish_reason is FinishReason.STOP
    assert run.text
    for name in conversation.tools:
        assert f"the result of {name}".encode() in server.requests[-1].body
    results = [finished.result for each in run.rounds for finished in each.results]
    assert [result.is_error for result in results if isinstance(result, ToolResult)] == [False] * len(ran)
    counts = [usage.output_tokens for each in run.rounds if (usage := each.response.usage) is not None]
    assert run.usage.output_tokens == (sum(filter(None, counts)) if len(counts) == len(run.rounds) else None)
