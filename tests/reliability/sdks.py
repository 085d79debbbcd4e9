"""Official clients and Trunkline read streams that the server cuts off cleanly.

The server ends the chunked body as HTTP requires, so only the missing terminator shows the cut. This is how a stream
looks when the provider dies behind a proxy.
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import anyio
import attrs
from streams import Recorded
from trunkline.authoring.provider import ResponseParser
from trunkline.errors import StreamInterrupted
from trunkline.testing import Exchange, serve
from wires import WIRES

MESSAGES: Any = [{"role": "user", "content": "hi"}]
LIMIT = 20.0


@attrs.frozen
class Cut:
    stream: Recorded
    at: int

    @property
    def body(self) -> bytes:
        return self.stream.body[: self.at]


async def openai_chat(url: str) -> None:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        async for _ in await client.chat.completions.create(model="m", messages=MESSAGES, stream=True):
            pass


async def openai_responses(url: str) -> None:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        async for _ in await client.responses.create(model="m", input="hi", stream=True):
            pass


async def anthropic(url: str) -> None:
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
        async for _ in await client.messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=True):
            pass


async def anthropic_helper(url: str) -> None:
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
        async with client.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
            await stream.get_final_message()


async def cohere(url: str) -> None:
    from cohere import AsyncClientV2

    async with AsyncClientV2(api_key="k", base_url=url) as client:
        async for _ in client.chat_stream(model="m", messages=MESSAGES):
            pass


async def mistral(url: str) -> None:
    from mistralai.client import Mistral

    async with Mistral(api_key="k", server_url=url) as client:
        async for _ in await client.chat.stream_async(model="m", messages=MESSAGES):
            pass


async def aiobotocore(url: str) -> None:
    from aiobotocore.session import get_session

    facts = {"endpoint_url": url, "region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "k"}
    async with get_session().create_client("bedrock-runtime", **facts) as client:
        answer = await client.converse_stream(modelId="m", messages=[{"role": "user", "content": [{"text": "hi"}]}])
        async for _ in answer["stream"]:
            pass


async def google_genai(url: str) -> None:
    from google import genai

    async with genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=url)).aio as client:
        async for _ in await client.models.generate_content_stream(model="m", contents="hi"):
            pass


async def ollama(url: str) -> None:
    from ollama import AsyncClient

    async for _ in await AsyncClient(host=url).chat(model="m", messages=MESSAGES, stream=True):
        pass


CLIENTS: dict[str, tuple[str, Callable[[str], Awaitable[None]]]] = {
    "openai, Chat Completions": ("chat", openai_chat),
    "openai, Responses": ("responses", openai_responses),
    "anthropic": ("messages", anthropic),
    "anthropic, get_final_message": ("messages", anthropic_helper),
    "cohere": ("cohere", cohere),
    "mistralai": ("mistral", mistral),
    "aiobotocore": ("converse", aiobotocore),
    "google-genai": ("generateContent", google_genai),
    "ollama": ("ollama", ollama),
}
"""By name: the wire format, and a call that returns if the client considers the stream complete."""

_WIRE = {"responses": "openai-responses"}


def cuts_of(taken: Sequence[Recorded], count: int) -> dict[str, list[Cut]]:
    """Cuts of each wire format: half between two events, half anywhere in the response."""
    cuts: dict[str, list[Cut]] = {}
    for dialect in dict.fromkeys(stream.dialect for stream in taken):
        streams = [stream for stream in taken if stream.dialect == dialect]
        random = Random(dialect)
        picked = []
        for number in range(count):
            stream = random.choice(streams)
            at = random.randrange(stream.complete_at // 2, stream.complete_at)
            if number % 2 == 0:
                at = _boundary(stream, at)
            picked.append(Cut(stream, at))
        cuts[dialect] = picked
    return cuts


def _boundary(stream: Recorded, at: int) -> int:
    if stream.dialect == "converse":
        from streams import messages

        return max((end for _, _, end in messages(stream.body) if end <= at), default=at)
    if stream.dialect == "ollama":
        return stream.body.rfind(b"\n", 0, at) + 1 or at
    # The place behind the last blank line.
    ends = [stream.body.rfind(blank, 0, at) + len(blank) for blank in (b"\n\n", b"\r\n\r\n")]
    return max(ends) if max(ends) > 4 else at


def compared(taken: Sequence[Recorded], count: int) -> dict[str, dict[str, Any]]:
    """The outcome of the same cuts for each client; `trunkline` is ours and has a list of problems."""
    cuts = cuts_of(taken, count)
    found: dict[str, dict[str, Any]] = {"trunkline": anyio.run(_ours, cuts)}
    warnings.simplefilter("ignore")
    for name, (dialect, call) in CLIENTS.items():
        if dialect in cuts:
            found[name] = anyio.run(_theirs, cuts[dialect], call)
    return found


async def _theirs(cuts: Sequence[Cut], call: Callable[[str], Awaitable[None]]) -> dict[str, Any]:
    success, errors = 0, {}
    for cut in cuts:
        async with serve(_handler(cut)) as server:
            try:
                with anyio.fail_after(LIMIT):
                    await call(server.url)
            except Exception as error:  # whatever the client raises
                kind = type(error).__name__
                errors[kind] = errors.get(kind, 0) + 1
            else:
                success += 1
    return {"cuts": len(cuts), "success": success, "errors": errors}


def _handler(cut: Cut) -> Callable[[Exchange], Awaitable[None]]:
    async def handle(exchange: Exchange) -> None:
        await exchange.start(headers={"content-type": cut.stream.kind})
        await exchange.chunk(cut.body)
        await exchange.end()

    return handle


@attrs.frozen
class _Steps:
    """Gives a service the parser of a recording, which knows the profile of the server that was recorded."""

    parser: ResponseParser


async def _ours(cuts: dict[str, list[Cut]]) -> dict[str, Any]:
    from trunkline import hookimpl

    total, interrupted, problems = 0, 0, []
    for cut in (cut for some in cuts.values() for cut in some):
        stream = cut.stream

        class Recording:
            @hookimpl(tryfirst=True)
            def trunkline_response_parser(self, context: object, parser: ResponseParser = stream.parser) -> object:
                return parser

        wire = WIRES[_WIRE.get(stream.dialect, stream.provider)]
        total += 1
        async with serve(_handler(cut)) as server:
            async with wire.open(server.url, max_retries=0, extensions=(Recording(),)) as service:
                try:
                    async with service.stream("hi") as answer:
                        async for _ in answer:
                            pass
                except StreamInterrupted as error:
                    interrupted += 1
                    expected = expected_text(cut)
                    found = error.partial.text if error.partial is not None else None
                    if found != expected:
                        problems.append(f"{stream.id} at {cut.at}, through sockets: {found!r}, not {expected!r}")
                except Exception as error:
                    problems.append(f"{stream.id} at {cut.at}, through sockets: {type(error).__name__}: {error}")
                else:
                    problems.append(f"{stream.id} at {cut.at}, through sockets: a success")
    return {"cuts": total, "interrupted": interrupted, "problems": problems}


def expected_text(cut: Cut) -> str:
    """The text before a cut, decoded without I/O."""
    from trunkline.authoring.decoder import StreamDecoder
    from trunkline.fold import Fold

    decoder: StreamDecoder[Any] = StreamDecoder(*cut.stream.parser.stream())
    events = decoder.feed(cut.body)
    try:
        decoder.late = []
        decoder.finish()
    except StreamInterrupted:
        events += decoder.late
    folded = Fold()
    for event in events:
        folded.add(event)
    return folded.response().text
