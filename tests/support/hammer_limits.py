"""Asks a Redis server for grants of one key, many at a time, and prints how many it got.

    python hammer_limits.py URL ATTEMPTS REQUESTS_PER_MINUTE TOKENS TOKENS_PER_MINUTE

It prints `ready`, and begins when it reads a line.
"""

from __future__ import annotations

import asyncio
import sys

from trunkline import Secret
from trunkline_gateway.limits import LimitExceeded
from trunkline_gateway.redis_limits import RedisLimiter

AT_ONCE = 16


async def main(url: str, attempts: int, requests: int, tokens: int, limit: int) -> None:
    granted = 0

    async def ask(numbers: list[int]) -> None:
        nonlocal granted
        while numbers:
            numbers.pop()
            try:
                await limiter.acquire("key", tokens, requests_per_minute=requests, tokens_per_minute=limit)
            except LimitExceeded:
                continue
            granted += 1

    async with RedisLimiter(Secret(url), failure="closed", timeout=20) as limiter:
        await limiter.check()
        print("ready", flush=True)
        sys.stdin.readline()
        left = list(range(attempts))
        await asyncio.gather(*(ask(left) for _ in range(AT_ONCE)))
    print(granted, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
