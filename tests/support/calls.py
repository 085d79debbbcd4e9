"""Call an operation of a service by its name."""

from __future__ import annotations

from typing import Any


async def call(service: Any, operation: str) -> object:
    """Call `chat`, `stream`, `embed` or `list_models`, and read a stream to its end."""
    if operation == "stream":
        async with service.stream("hi") as stream:
            return [event async for event in stream]
    return await getattr(service, operation)(*(() if operation == "list_models" else ("hi",)))
