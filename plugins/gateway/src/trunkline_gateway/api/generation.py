"""The endpoints whose answers a model writes: chat completions, responses and messages."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import attrs
from trunkline import (
    ChatRequest,
    ChatResponse,
    Event,
    Heartbeat,
    ResponseStarted,
    Service,
    StreamClosed,
    TextDelta,
    heartbeats,
)
from trunkline.authoring.json import JSONObject, as_string, dumps

from trunkline_gateway.api.endpoint import CallEndpoint
from trunkline_gateway.api.exchange import Exchange
from trunkline_gateway.calls import AdmittedCall
from trunkline_gateway.keys import Key
from trunkline_gateway.problems import GatewayError, Problem, problem_of
from trunkline_gateway.targets import Target
from trunkline_gateway.wires import Dialect, Reply, chat, messages, responses

if TYPE_CHECKING:
    from trunkline_gateway.state import GatewayState


class Writer(Protocol):
    """Writes a stream in one format."""

    heartbeat: bytes

    def write(self, event: Event) -> bytes: ...

    def write_error(self, problem: Problem) -> bytes: ...


class WireModule(Protocol):
    """What the module of a wire format has."""

    def read_request(self, body: JSONObject, target: Target) -> ChatRequest: ...

    def ignored_fields(self, body: JSONObject, target: Target) -> tuple[str, ...]: ...

    def write_response(self, response: ChatResponse, reply: Reply) -> JSONObject: ...

    def StreamWriter(self, reply: Reply) -> Writer: ...


@attrs.frozen
class WireFormat:
    """A wire format, and where clients call it."""

    api: str
    dialect: Dialect
    module: WireModule


CHAT = WireFormat("/v1/chat/completions", "openai", chat)
RESPONSES = WireFormat("/v1/responses", "openai", responses)
MESSAGES = WireFormat("/v1/messages", "anthropic", messages)


class GenerationEndpoint(CallEndpoint):
    """The endpoint of one wire format."""

    def __init__(self, gateway: GatewayState, wire: WireFormat) -> None:
        super().__init__(gateway)
        self._wire = wire
        self.api, self.dialect = wire.api, wire.dialect

    async def answer(self, exchange: Exchange, key: Key) -> None:
        """Generate an answer, whole or as a stream."""
        read = self._wire.module.read_request
        if self._wire is MESSAGES:
            read = partial(messages.read_request, betas=exchange.header(b"anthropic-beta"))
        body, call = await self.admit(exchange, key, read)
        ignored = self._wire.module.ignored_fields(body, call.target)
        async with call:
            exchange.add_service(call.target.service)
            if self.gateway.settings.log_contents:
                call.contents = (dumps(body).decode(), None)
            reply = self._reply(exchange, call, body)
            async with call.use_service() as service:
                if body.get("stream") is True:
                    await self._stream(exchange, call, service, reply, ignored)
                else:
                    await self._whole(exchange, call, service, reply, ignored)

    def _reply(self, exchange: Exchange, call: AdmittedCall[ChatRequest], body: JSONObject) -> Reply:
        return Reply(
            target=call.target,
            id=call.id,
            created=int(time.time()),
            custom_tools=chat.custom_tools(body) if self._wire is CHAT else frozenset(),
            whole_calls=chat.wants_whole_calls(exchange.header(b"user-agent")),
            include_usage=chat.wants_usage(body),
            input_tokens=call.input_estimate if self._wire is MESSAGES else 0,
            instructions=as_string(body.get("instructions")) if self._wire is RESPONSES else None,
            request=call.request,
        )

    async def _whole(
        self,
        exchange: Exchange,
        call: AdmittedCall[ChatRequest],
        service: Service,
        reply: Reply,
        ignored: tuple[str, ...],
    ) -> None:
        call.response = response = await self.ask(exchange, call, service.chat(call.request))
        exchange.add_warnings(response.warnings, ignored)
        written = self._wire.module.write_response(response, reply)
        if self.gateway.settings.log_contents:
            call.contents = (call.contents[0], dumps(written).decode())
        await exchange.send_json(written)

    async def _stream(
        self,
        exchange: Exchange,
        call: AdmittedCall[ChatRequest],
        service: Service,
        reply: Reply,
        ignored: tuple[str, ...],
    ) -> None:
        writer = self._wire.module.StreamWriter(reply)
        call.stream = stream = service.stream(call.request)
        seconds = self.gateway.settings.heartbeat
        try:
            with call.running.scope:
                async with heartbeats(stream, seconds, receive=exchange.receive) as events:
                    async for event in events:
                        await self._send(exchange, call, writer, event, ignored)
        except StreamClosed:
            if not call.running.is_cancelled:
                raise  # the client has hung up
        except Exception as error:  # whatever it is, the client learns of it in the stream
            if not exchange.has_started:
                raise
            call.failure = error
            await self._end_with(exchange, writer, problem_of(error))
            return
        if call.running.is_cancelled:
            if not exchange.has_started:
                raise GatewayError(call.ending)
            await self._end_with(exchange, writer, call.ending)
            return
        if self.gateway.settings.log_contents:
            written = self._wire.module.write_response(stream.response, reply)
            call.contents = (call.contents[0], dumps(written).decode())
        await exchange.end_events()

    async def _send(
        self,
        exchange: Exchange,
        call: AdmittedCall[ChatRequest],
        writer: Writer,
        event: Event | Heartbeat,
        ignored: tuple[str, ...],
    ) -> None:
        if not exchange.has_started:
            # The headers wait for the first event, so that an error before it has its status, and warnings are known.
            exchange.add_warnings(event.warnings if isinstance(event, ResponseStarted) else (), ignored)
            await exchange.start_events()
        if isinstance(event, Heartbeat):
            await exchange.send_events(writer.heartbeat)
            return
        if call.first_token_at is None and not isinstance(event, ResponseStarted):
            call.first_token_at = time.monotonic()
        if type(event) is TextDelta:
            call.running.output_characters += len(event.text)
        content = writer.write(event)
        if content:
            await exchange.send_events(content)

    async def _end_with(self, exchange: Exchange, writer: Writer, problem: Problem) -> None:
        with anyio.move_on_after(self.gateway.settings.idle_timeout):
            await exchange.send_events(writer.write_error(problem))
            await exchange.end_events()
