"""Heartbeats in step with their reader: the server sends each when the client has read the one before."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from typing import Any

import anyio
import attrs

from trunkline.authoring.provider import Framer, Parser, ResponseParser, ServiceContext, hookimpl
from trunkline.authoring.wire import WireResponse
from trunkline.errors import TrunklineError
from trunkline.response import ChatResponse
from trunkline.testing.server import Exchange


class Heartbeats:
    """An extension of the client that sees what it reads, and a script's way to send `heartbeat` in step with that."""

    def __init__(self, heartbeat: bytes) -> None:
        self._heartbeat = heartbeat
        self._seen = anyio.Event()
        self._looked = time.monotonic()
        self.longest_pause: float = 0.0
        """The longest time without a read, in seconds, from the beginning to the last `look`. In step it is short,
        unless the machine stood still."""

    def look(self) -> None:
        """Something was read, or reading has ended."""
        now = time.monotonic()
        self.longest_pause = max(self.longest_pause, now - self._looked)
        self._looked = now
        self._seen.set()

    async def send(self, exchange: Exchange) -> None:
        """Send heartbeats until the client hangs up."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send, exchange)
            await exchange.hung_up()
            tasks.cancel_scope.cancel()

    async def _send(self, exchange: Exchange) -> None:
        with contextlib.suppress(anyio.BrokenResourceError):
            while True:
                self._seen = anyio.Event()
                await exchange.chunk(self._heartbeat)
                await self._seen.wait()

    @hookimpl(wrapper=True)
    def trunkline_response_parser(
        self, context: ServiceContext[Any]
    ) -> Generator[None, ResponseParser, ResponseParser]:
        """Implements the hook."""
        return _SeenParser((yield), self)


@attrs.frozen
class _SeenParser:
    parser: ResponseParser
    heartbeats: Heartbeats

    def stream(self) -> tuple[Framer[Any], Parser[Any]]:
        framer, parser = self.parser.stream()
        return _SeenFramer(framer, self.heartbeats), parser

    def body(self, wire_response: WireResponse) -> ChatResponse:
        return self.parser.body(wire_response)

    def error(self, wire_response: WireResponse) -> TrunklineError:
        return self.parser.error(wire_response)


@attrs.frozen
class _SeenFramer:
    framer: Framer[Any]
    heartbeats: Heartbeats

    def feed(self, data: bytes, /) -> Sequence[Any]:
        self.heartbeats.look()
        return self.framer.feed(data)

    def finish(self) -> Sequence[Any]:
        return self.framer.finish()
