"""Run one client's fallback. `fallback.py` starts this with the client's own Python, which may lack Trunkline.

`python fallback_client.py CLIENT URL CALLERS`: the first service is at URL/down/v1, the second at URL/spare/v1. The
result is printed as a line of JSON. A call to the second service comes first and does not count, so that lazy imports
are not measured.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

KEY = "sk-0123456789abcdef"
Ask = Callable[[], Awaitable[str]]


async def openai(down: str, spare: str) -> tuple[Ask, Ask]:
    from openai import APIConnectionError, AsyncOpenAI, InternalServerError, RateLimitError

    services = [AsyncOpenAI(base_url=url, api_key=KEY) for url in (down, spare)]

    async def complete(service: Any) -> str:
        response = await service.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        return str(response.choices[0].message.content)

    async def ask() -> str:
        try:
            return await complete(services[0])
        except (InternalServerError, RateLimitError, APIConnectionError):
            return await complete(services[1])

    return ask, lambda: complete(services[1])


async def pydantic_ai(down: str, spare: str) -> tuple[Ask, Ask]:
    from pydantic_ai import Agent
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    models = [OpenAIChatModel("m", provider=OpenAIProvider(base_url=url, api_key=KEY)) for url in (down, spare)]
    both, second = Agent(FallbackModel(*models)), Agent(models[1])

    async def run(agent: Any) -> str:
        return str((await agent.run("hi")).output)

    return lambda: run(both), lambda: run(second)


async def litellm(down: str, spare: str) -> tuple[Ask, Ask]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm as library

    library.suppress_debug_info = True
    models = [
        {"model_name": name, "litellm_params": {"model": "openai/m", "api_base": url, "api_key": KEY}}
        for name, url in (("main", down), ("spare", spare))
    ]
    router = library.Router(model_list=models, fallbacks=[{"main": ["spare"]}])

    async def complete(model: str) -> str:
        response = await router.acompletion(model=model, messages=[{"role": "user", "content": "hi"}])
        return str(response.choices[0].message.content)

    return lambda: complete("main"), lambda: complete("spare")


async def trunkline(down: str, spare: str) -> tuple[Ask, Ask]:
    import trunkline as library

    members = {
        name: {"provider": "openai-compatible", "api_url": url, "api_key": KEY, "default_model": "m"}
        for name, url in (("first", down), ("spare", spare))
    }
    services = library.open_services({"services": {**members, "main": {"fallback": list(members)}}})

    async def ask() -> str:
        return (await services["main"].chat("hi")).text

    async def second() -> str:
        return (await services["spare"].chat("hi")).text

    return ask, second


CLIENTS = {"trunkline": trunkline, "openai": openai, "litellm": litellm, "pydantic-ai": pydantic_ai}


async def main(name: str, url: str, callers: int) -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    ask, warm_up = await CLIENTS[name](f"{url}/down/v1", f"{url}/spare/v1")
    await warm_up()
    times: list[float] = []
    errors: Counter[str] = Counter()

    async def call() -> None:
        begun = time.monotonic()
        try:
            text = await ask()
        except Exception as error:
            errors[repr(error)[:200]] += 1
        else:
            assert text == "hello", text
            times.append(time.monotonic() - begun)

    await asyncio.gather(*(call() for _ in range(callers)))
    found = {
        "answered": len(times),
        "median seconds": round(statistics.median(times), 2) if times else None,
        "slowest seconds": round(max(times), 2) if times else None,
        "errors": dict(errors.most_common(3)),
    }
    print("RESULT " + json.dumps(found), flush=True)
    os._exit(0)  # some clients leave tasks and sockets behind


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
