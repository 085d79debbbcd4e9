"""A provider in memory, for the tests of the command: what it answers depends on the model's name."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from trunkline import events
from trunkline.authoring.auth import HeaderAuth
from trunkline.authoring.framing import JSONLinesFramer
from trunkline.authoring.http_errors import retry_after
from trunkline.authoring.json import dumps, loads
from trunkline.authoring.provider import Operation, Operations, Provider, SendOptions, ServiceContext, Translation
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ConnectionFailed,
    RateLimited,
    StreamInterrupted,
    TrunklineError,
)
from trunkline.events import Event, Finished
from trunkline.fold import fold
from trunkline.messages import Citation, Image
from trunkline.request import ChatRequest
from trunkline.response import CallWarning, ChatResponse, FinishReason, ModelInfo, Usage
from trunkline.secrets import Secret
from trunkline.settings import Converted, Settings, setting, settings


@settings
class FakeSettings(Settings):
    """Settings of the fake."""

    provider = "fake"

    api_key: Converted[Secret, str] = setting("API Key", "Its key.", environment=("FAKE_API_KEY",))
    token: Converted[Secret | None, str] = setting("Token", "A second secret, seldom needed.", default=None)
    region: str = setting("Region", "Where it runs.", default="here")
    level: int = setting("Level", "How high.", default=3, minimum=1)


@settings
class SpareSettings(FakeSettings):
    """The same, with something more to ask for."""

    provider = "spare"
    ambient_credentials = "the credentials of the machine"

    place: str = setting("Place", "Where it is.", environment=("SPARE_PLACE",))


class Translator:
    def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
        body = {
            "model": request.model,
            "turns": [[message.role, message.text] for message in request.messages],
            "images": sum(isinstance(part, Image) for message in request.messages for part in message.parts),
            "max": request.max_output_tokens,
            "temperature": request.temperature,
        }
        warned = (CallWarning(kind="unsupported", subject="temperature", message="fakes are always cold", lossy=True),)
        return Translation(
            wire_request=WireRequest(url="fake:/chat", body=dumps(body)),
            warnings=warned if request.temperature is not None else (),
        )


def event(kind: str, **fields: Any) -> bytes:
    return dumps({"kind": kind, **fields}) + b"\n"


def text(*pieces: str) -> list[bytes]:
    return [
        event("TextStart", index=0),
        *(event("TextDelta", index=0, text=piece) for piece in pieces),
        event("TextEnd", index=0),
    ]


DONE = event("Finished", reason="stop")
HOSTILE = (
    "A\x1b]0;owned\x07B\x1b[31mC\x9b2JD\x08E\rF\u202eG\u2066H\u200bI\x00J\x7fK\ufeffL\u2028M\U000e0041N\ud800O\u200fP"
)
"""What a hostile server puts into every text."""
STARTED = event("ResponseStarted", id="r1", model="fake-1")


def answer(asked: Any) -> list[bytes | None]:
    """The lines of an answer; `None` stands for a silence without end."""
    model, turns = asked["model"], asked["turns"]
    if model == "turns":
        return [STARTED, *text(f"{turns} images={asked['images']} max={asked['max']}"), DONE]
    if model == "think":
        return [
            STARTED,
            event("ReasoningStart", index=9),
            event("ReasoningDelta", index=9, text="Hmm, "),
            event("ReasoningDelta", index=9, text="so."),
            event("ReasoningEnd", index=9),
            *text("Yes.\nIndeed"),
            event("Citation", url="https://example.org/a", title="A"),
            DONE,
        ]
    if model == "tools":
        call = [event("ToolCallStart", index=0, id="c1", name="weather")]
        call.append(event("ToolCallDelta", index=0, arguments='{"city":"Oslo"}'))
        return [STARTED, *call, event("ToolCallEnd", index=0), event("Finished", reason="tool_calls")]
    if model == "hostile":
        return [
            event("ResponseStarted", id=HOSTILE, model=HOSTILE),
            event("ReasoningStart", index=9),
            *(event("ReasoningDelta", index=9, text=letter) for letter in HOSTILE),
            event("ReasoningEnd", index=9),
            *text(*HOSTILE),  # each sequence in several pieces
            event("Citation", url="https://example.org/" + HOSTILE, title=HOSTILE),
            event("ToolCallStart", index=1, id=HOSTILE, name=HOSTILE),
            event("ToolCallDelta", index=1, arguments=HOSTILE),
            event("ToolCallEnd", index=1),
            event("Finished", reason="tool_calls"),
        ]
    if model == "emoji":
        return [STARTED, *text(*turns[-1][1]), DONE]
    if model == "escape":
        return [STARTED, *text("a\x1b]0;owned\x07b\x9b31m\tc\nd\r"), DONE]
    if model == "stall" or (model == "stall-once" and len(turns) == 1):
        return [STARTED, event("TextStart", index=0), event("TextDelta", index=0, text="one two"), None]
    if model == "silent":
        return [None]
    if model == "cut":
        return [STARTED, *text("half an ans")]
    if model == "budget":
        return [STARTED, event("Finished", reason="length")]
    return [STARTED, *text("You said: ", turns[-1][1]), DONE]


class ByteStream:
    def __init__(self, status: int, lines: list[bytes | None], headers: dict[str, str] | None = None) -> None:
        self.headers = headers or {"content-type": "application/x-ndjson"}
        self.status = status
        self._lines = iter(lines)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for line in self._lines:
            if line is None:
                await anyio.sleep_forever()
            else:
                return line
        raise StopAsyncIteration


def log(line: str) -> None:
    if name := os.environ.get("FAKE_LOG"):
        with Path(name).open("a") as file:
            file.write(line + "\n")


class Transport:
    async def __aenter__(self) -> Transport:
        log("opened")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        log("closed")

    @asynccontextmanager
    async def send(self, wire_request: WireRequest, options: SendOptions) -> AsyncIterator[ByteStream]:
        key = wire_request.headers["authorization"]
        if "unreachable" in key:
            raise ConnectionFailed("cannot reach fake: with " + key)
        if "wrong" in key:
            yield ByteStream(401, [b"the key " + key.encode() + b" is wrong"])
        elif wire_request.url == "fake:/models":
            yield ByteStream(200, [dumps([HOSTILE] if "hostile" in key else ["echo", "stall"])])
        elif loads(wire_request.body)["model"] == "hostile-error":
            yield ByteStream(401, [HOSTILE.encode("utf-8", "replace")])
        elif "refused" in loads(wire_request.body)["turns"][-1][1]:
            yield ByteStream(400, [b"this text is refused"])
        elif loads(wire_request.body)["model"] == "busy":
            yield ByteStream(429, [b"too many requests"], {"retry-after": "30"})
        else:
            if loads(wire_request.body)["model"] == "logs":
                logging.getLogger("trunkline").warning("a line of the log with \x1b")
            if loads(wire_request.body)["model"] == "gate":
                log(f"asked {loads(wire_request.body)['turns'][-1][1]}")
                while not Path("gate").exists():  # noqa: ASYNC110, ASYNC240  # another process makes it
                    await anyio.sleep(0.01)
            try:
                yield ByteStream(200, answer(loads(wire_request.body)))
            finally:
                log("stream closed")


def build(line: bytes) -> Event:
    fields = loads(line)
    kind = fields.pop("kind")
    if kind == "Finished":
        return Finished(reason=FinishReason(fields["reason"]), usage=Usage(input_tokens=5, output_tokens=7))
    if kind == "Citation":
        return Citation(**fields)
    made: Event = getattr(events, kind)(**fields)
    return made


class StreamParser:
    def feed(self, frame: bytes) -> list[Event]:
        return [build(frame)]

    def finish(self) -> list[Event]:
        raise StreamInterrupted("the stream ended without its last line")


class Parser:
    def stream(self) -> tuple[JSONLinesFramer, StreamParser]:
        return JSONLinesFramer(), StreamParser()

    def body(self, wire_response: WireResponse) -> ChatResponse:
        return fold(map(build, wire_response.body.splitlines()))

    def error(self, wire_response: WireResponse) -> TrunklineError:
        kind = {400: BadRequest, 401: AuthenticationError, 429: RateLimited}[wire_response.status]
        wait = retry_after(wire_response.headers)
        return kind(wire_response.body.decode(), status=wire_response.status, retry_after=wait)


def _models(context: ServiceContext[Any], wire_response: WireResponse) -> tuple[tuple[ModelInfo, ...], str | None]:
    echo = {"context_window": 200_000, "capabilities": frozenset({"tools", "chat"})}
    models = [
        ModelInfo(id=name, created=86400, **(echo if name == "echo" else {})) for name in loads(wire_response.body)
    ]
    return tuple(models), None


def _provider(kind: type[FakeSettings]) -> Provider:
    return Provider(
        name=kind.provider,
        settings=kind,
        auth=lambda context: HeaderAuth("authorization", context.settings.api_key.reveal()),
        translator=lambda context: Translator(),
        response_parser=lambda context: Parser(),
        transport=lambda context: Transport(),
        operations=lambda context: Operations(
            list_models=Operation(
                build=lambda context, cursor: WireRequest(method="GET", url="fake:/models"), parse=_models
            )
        ),
    )


provider = _provider(FakeSettings)
spare = _provider(SpareSettings)


def shout() -> int:
    """Print what a hostile server sent, and warn of it."""
    import logging
    import sys
    import warnings

    print(HOSTILE)
    print(HOSTILE, file=sys.stderr)
    warnings.warn(HOSTILE, stacklevel=1)
    logging.getLogger("other").warning(HOSTILE)
    logging.getLogger("trunkline").warning(HOSTILE)
    raise LookupError(HOSTILE)


def greet(name: str, *, loud: bool = False) -> int:
    """Greet somebody."""
    print(f"Hello, {name}{'!' if loud else '.'}")
    return 3
