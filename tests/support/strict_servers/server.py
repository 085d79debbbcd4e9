"""A loopback server with the rules of a family's server. Refusals have the provider's error format."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trunkline
from trunkline.testing import Exchange, serve

from strict_servers.answers import Said
from strict_servers.families import Family
from strict_servers.refusal import Body, Refusal

_ERRORS: dict[str, Callable[[str], Any]] = {
    "chat": lambda text: {"error": {"message": text, "type": "invalid_request_error", "param": None, "code": None}},
    "responses": lambda text: {"error": {"message": text, "type": "invalid_request_error", "param": "input"}},
    "anthropic": lambda text: {"type": "error", "error": {"type": "invalid_request_error", "message": text}},
    "converse": lambda text: {"message": text},
    "gemini": lambda text: {"error": {"code": 400, "message": text, "status": "INVALID_ARGUMENT"}},
    "mistral": lambda text: {"object": "error", "message": text, "type": "invalid_request_message_order"},
    "cohere": lambda text: {"id": "c1", "message": text},
    "ollama": lambda text: {"error": text},
}


@attrs.define
class StrictServer:
    """The requests that a family's server received and refused. `says` is its next answer."""

    family: Family
    says: Said = attrs.field(factory=lambda: Said(text="Fine."))
    bodies: list[Body] = attrs.field(factory=list)
    refused: list[Refusal] = attrs.field(factory=list)

    async def handle(self, exchange: Exchange) -> None:
        """Answer a request, or refuse it."""
        body = json.loads(exchange.request.body)
        self.bodies.append(body)
        found = self.family.refusals(body)
        self.refused += found
        if found:
            error = _ERRORS[self.family.wire](found[0].message)
            headers = {"content-type": "application/json", "x-amzn-errortype": "ValidationException"}
            await exchange.respond(json.dumps(error).encode(), status=400, headers=headers)
        else:
            content, headers = self.family.answer(self.says)
            await exchange.respond(content, headers=headers)


def settings(family: Family, url: str) -> dict[str, Any]:
    """Return the settings of a service that reaches a family at a URL."""
    key = {} if family.provider == "ollama" else {"api_key": "bedrock-api-key-AAAA"}
    return {**key, "api_url": url, "default_model": family.model, "max_retries": 0, **family.settings}


@asynccontextmanager
async def strict_service(
    family: Family, *, lenient: bool = False
) -> AsyncIterator[tuple[trunkline.Service, StrictServer]]:
    """Open a service of a family, connected to a strict server of it."""
    strict = StrictServer(family)
    async with serve(strict.handle) as server:
        async with trunkline.open_service(family.provider, **settings(family, server.url)) as service:
            yield service, strict
