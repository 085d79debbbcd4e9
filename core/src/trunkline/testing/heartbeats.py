"""Heartbeats in step with their reader: the server sends one whenever the client has read the previous one."""

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
    """Sends heartbeats from a server's script, each after the client has read the last one.

    It is also an extension of the client's service, to see what the client reads.
    """

    def __init__(self, heartbeat: bytes) -> None:
        self._heartbeat = heartbeat
        self._seen = anyio.Event()
        self._looked = time.monotonic()
        self.longest_pause: float = 0.0
        """The longest time between two reads, in seconds, from the start to the last `look`. It is short unless the
        machine was too busy to run the test."""

    def look(self) -> None:
        """Note that the client has read, or has stopped reading."""
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
