"""Run one client through the faults. `peers.py` starts this with the client's own Python, which may lack Trunkline.

Each line of standard input is a case as JSON; the result is printed as a line of JSON. Every timeout of the client is
0.3 s. If the client can limit the whole call, that limit is 1.5 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
import traceback
import urllib.request
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

KEY = "sk-canary-0123456789abcdef"
TIMEOUT, TOTAL = 0.3, 1.5
LIMIT = 4.0
"""After how many seconds a call counts as hung."""

GRACE = 0.5
"""How many seconds a connection may stay open after its stream was left."""

PROMPT: Any = [{"role": "user", "content": "hi"}]
Each = Callable[[str], Awaitable[bool]]


class OpenAI:
    """The SDK as its pages show it."""

    def __init__(self, url: str, retries: int) -> None:
        from openai import AsyncOpenAI

        self.client = AsyncOpenAI(base_url=url, api_key=KEY, timeout=TIMEOUT, max_retries=retries)

    async def read(self, each: Each) -> None:
        async for chunk in await self.client.chat.completions.create(model="m", messages=PROMPT, stream=True):
            if chunk.choices and chunk.choices[0].delta.content and await each(chunk.choices[0].delta.content):
                break

    async def close(self) -> None:
        await self.client.close()


class LiteLLM:
    def __init__(self, url: str, retries: int) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import litellm

        litellm.suppress_debug_info = True
        self.call = litellm.acompletion
        self.facts = {
            "model": "openai/m",
            "api_base": url,
            "api_key": KEY,
            "timeout": TIMEOUT,
            "stream_timeout": TIMEOUT,
            "max_retries": retries,
        }

    async def read(self, each: Each) -> None:
        async for chunk in await self.call(messages=PROMPT, stream=True, **self.facts):
            if chunk.choices and chunk.choices[0].delta.content and await each(chunk.choices[0].delta.content):
                break

    close = None


class AnyLLM:
    def __init__(self, url: str, retries: int) -> None:
        from any_llm import AnyLLM as Library

        self.client = Library.create("openai", api_key=KEY, api_base=url, timeout=TIMEOUT, max_retries=retries)

    async def read(self, each: Each) -> None:
        async for chunk in await self.client.acompletion(model="m", messages=PROMPT, stream=True):
            if chunk.choices and chunk.choices[0].delta.content and await each(chunk.choices[0].delta.content):
                break

    close = None


class PydanticAI:
    def __init__(self, url: str, retries: int) -> None:
        from openai import AsyncOpenAI
        from pydantic_ai import messages
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        client = AsyncOpenAI(base_url=url, api_key=KEY, timeout=TIMEOUT, max_retries=retries)
        self.model = OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client))
        self.prompt = [messages.ModelRequest(parts=[messages.UserPromptPart("hi")])]
        self.parameters = ModelRequestParameters()
        self.messages = messages

    async def read(self, each: Each) -> None:
        async with self.model.request_stream(self.prompt, None, self.parameters) as stream:
            async for event in stream:
                text = ""
                if isinstance(event, self.messages.PartDeltaEvent):
                    text = event.delta.content_delta
                elif isinstance(event, self.messages.PartStartEvent):
                    text = event.part.content
                if text and await each(text):
                    break

    close = None


class Trunkline:
    def __init__(self, url: str, retries: int) -> None:
        import trunkline

        self.service = trunkline.open_service(
            "openai-compatible",
            api_url=url,
            api_key=KEY,
            default_model="m",
            connect_timeout=TIMEOUT,
            first_chunk_timeout=TIMEOUT,
            chunk_timeout=TIMEOUT,
            # A call that is tried again needs its time, as it has with the others.
            total_timeout=None if retries else TOTAL,
            max_retries=retries,
        )

    async def read(self, each: Each) -> None:
        from trunkline import TextDelta

        async with self.service.stream("hi") as stream:
            async for event in stream:
                if isinstance(event, TextDelta) and event.text and await each(event.text):
                    break

    async def close(self) -> None:
        await self.service.aclose()


CLIENTS: dict[str, Any] = {
    "trunkline": Trunkline,
    "openai": OpenAI,
    "litellm": LiteLLM,
    "any-llm": AnyLLM,
    "pydantic-ai": PydanticAI,
}


class Case:
    """One fault, met once."""

    def __init__(self, client: Any, url: str, fault: str, action: str) -> None:
        self.client = client
        self.root = url.partition(f"/{fault}/")[0]
        self.fault = fault
        self.action = action
        self.texts: list[str] = []
        self.first = asyncio.Event()
        self.sent = 0

    def facts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.root}/_facts/{self.fault}", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    async def each(self, text: str) -> bool:
        self.texts.append(text)
        self.first.set()
        if self.action == "read slowly":
            await asyncio.sleep(1)
            self.sent = self.facts()["sent"]
            return True
        return self.action == "break"

    async def run(self) -> dict[str, Any]:
        if self.action == "read twice":
            await self.client.read(self.each)
            self.texts.clear()
        begun = time.monotonic()
        task = asyncio.ensure_future(self.client.read(self.each))
        if self.action == "cancel before headers":
            await self._until_requested()
            task.cancel()
        elif self.action == "cancel in backoff":
            await self._until_requested()
            await asyncio.sleep(0.3)
            begun = time.monotonic()
            task.cancel()
        elif self.action in ("cancel in mid-stream", "close the client"):
            await asyncio.wait_for(self.first.wait(), LIMIT)
            # Within the timeouts, and when the client waits for more.
            await asyncio.sleep(0.05)
            if self.action == "close the client":
                await self.client.close()
            else:
                task.cancel()
        done, _ = await asyncio.wait([task], timeout=LIMIT)
        found: dict[str, Any] = {"seconds": time.monotonic() - begun, "text": "".join(self.texts)}
        if not done:
            task.cancel()
            return {**found, "ended": "not"}
        found |= {**outcome(task), "sent": self.sent}
        if self.action != "read":
            before = self.facts()["requests"] if self.root else 0
            await asyncio.sleep(GRACE if self.action != "cancel in backoff" else 3.5)
            after = self.facts() if self.root else {}
            found |= {"after": after, "requests after": after.get("requests", 0) - before}
        return found

    async def _until_requested(self) -> None:
        while not self.facts()["requests"]:  # noqa: ASYNC110  # the state is in another process
            await asyncio.sleep(0.01)


def outcome(task: asyncio.Future[None]) -> dict[str, Any]:
    if task.cancelled():
        return {"ended": "cancelled"}
    error = task.exception()
    if error is None:
        return {"ended": "success"}
    text = "".join(traceback.format_exception(error)) + repr(error) + str(error)
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    return {"ended": "error", "kinds": kinds, "message": str(error)[:300], "key": KEY in text}


async def main(name: str) -> None:
    loop = asyncio.get_running_loop()
    warnings.simplefilter("ignore")
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        case = json.loads(line)
        client = CLIENTS[name](case["url"], case["retries"])
        found: dict[str, Any]
        if case["action"] == "close the client" and client.close is None:
            found = {"ended": "n/a"}
        else:
            try:
                found = await Case(client, case["url"], case["fault"], case["action"]).run()
            except Exception as error:
                found = {"ended": "broken", "message": repr(error)}
        if client.close is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(client.close(), 2)
        print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
