"""Recorded answers, read by OpenAI's own client and by us: both have to find the same in them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import attrs
import httpx2
import openai
import pytest
from recorded_counts import assert_counts
from recordings import CHAT, EXCEPTIONS, PROVIDERS, Exchange, chats, report, response_of
from trunkline.authoring.json import dumps
from trunkline.fold import decode_arguments
from trunkline.response import ChatResponse

_DIFFERENCES: tuple[tuple[str, str, str], ...] = (
    (
        "finish",
        "the client does not know finish_details, the older form",
        "b427db478f09c949",
    ),
    (
        "text",
        "edited by hand: the deltas and the whole text are not the same, and we keep what was streamed",
        "accc2df263a66190",
    ),
    (
        "usage",
        "usage stands in x_groq alone",
        "360deeaa4754a3ff 4edcd7faac4e5f38 cc7c772105c81029",
    ),
    (
        "usage",
        "cached or reasoning tokens stand elsewhere than where OpenAI has them",
        "15c8537d219c8979 1cd6e965dc97dac8 1d374e80fad38c25 20de810b1a621639 29a728ef16217c68 "
        "2dfba84f4aa58f0f 390abf2747d93e29 4941341bf232f6cc 576515170a126f80 6d7031744b1d1aa3 "
        "8d5b5b02a823b302 9154ad665ed486ae 94265a86a6a987bb a68c1e19048ca6e5 c13d9d7c086f355b "
        "c688b1840e2eb019 d52304ddaa620905 dd024e40857837ea",
    ),
    (
        "usage",
        "reasoning is counted beside the output, as the total tells: counted in",
        "04dd9423cc28fa5e 0d315b3105c098b6 1e2fb520b0df8b75 394e90105100ee5a 4eef6ec44e0195bf a8294e727bf7f867",
    ),
)
"""What differs, why, and in which exchanges."""

DIFFERENCES: Mapping[str, tuple[str, ...]] = {id_: (name,) for name, _, ids in _DIFFERENCES for id_ in ids.split()}


@attrs.frozen(kw_only=True)
class Found:
    """What there is in an answer. Usage is input, output, total, cached and reasoning tokens."""

    text: str
    refusal: str
    calls: tuple[tuple[str, str], ...]
    finish: str | None
    usage: tuple[int | None, ...]


def usage_of(*counts: int | None) -> tuple[int | None, ...]:
    return counts


def call(name: str | None, text: str | None) -> tuple[str, str]:
    """A call, its arguments as JSON text of one form, or as they came where they are no object."""
    arguments, invalid = decode_arguments(text or "")
    return name or "", invalid if invalid is not None else json.dumps(arguments, sort_keys=True)


# Ours


def ours(response: ChatResponse) -> Found:
    usage = response.usage
    counts = (
        (
            usage.input_tokens,
            usage.output_tokens,
            usage.total_tokens,
            usage.cache_read_tokens,
            usage.reasoning_tokens,
        )
        if usage is not None
        else (None,) * 5
    )
    return Found(
        text=response.text,
        refusal=response.refusal or "",
        calls=tuple(call(part.name, part.arguments_json) for part in response.tool_calls),
        finish=response.raw_finish_reason,
        usage=usage_of(*counts),
    )


# The client's

TERMINALS = ("response.completed", "response.incomplete", "response.failed")


def client_for(exchange: Exchange) -> openai.OpenAI:
    headers = dict(exchange.headers)
    headers.setdefault("content-type", "text/event-stream" if exchange.streaming else "application/json")

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(exchange.status, headers=headers, content=exchange.body)

    transport = httpx2.Client(transport=httpx2.MockTransport(answer))
    return openai.OpenAI(api_key="REDACTED", base_url="http://recorded", http_client=transport, max_retries=0)


class ChatAccumulator:
    """The first choice of a chat completion, put together from what the client gives."""

    def __init__(self) -> None:
        self.text = ""
        self.refusal = ""
        self.calls: dict[object, list[str]] = {}
        self.finish: str | None = None
        self.usage: Any = None

    def add(self, chunk: Any, *, streaming: bool) -> None:
        self.usage = getattr(chunk, "usage", None) or self.usage
        for choice in chunk.choices or []:
            if choice.index in (0, None):
                self.finish = choice.finish_reason or self.finish
                self._message(choice.delta if streaming else choice.message)

    def _message(self, message: Any) -> None:
        if message is None:
            return
        content = message.content
        # A server may decode the JSON that the model wrote.
        self.text += dumps(content).decode() if isinstance(content, dict) else content or ""
        self.refusal += getattr(message, "refusal", None) or ""
        for position, piece in enumerate(message.tool_calls or []):
            index = getattr(piece, "index", None)
            self._call(position if index is None else index, piece.function)
        legacy = getattr(message, "function_call", None)
        if legacy is not None and (legacy.name or legacy.arguments):
            self._call("function_call", legacy)

    def _call(self, index: object, function: Any) -> None:
        pieces = self.calls.setdefault(index, ["", ""])
        pieces[0] += function.name or ""
        pieces[1] += function.arguments or ""

    def found(self) -> Found:
        usage = self.usage
        prompt, completion = (
            getattr(usage, "prompt_tokens_details", None),
            getattr(usage, "completion_tokens_details", None),
        )
        return Found(
            text=self.text,
            refusal=self.refusal,
            calls=tuple(call(name, arguments) for name, arguments in self.calls.values()),
            finish=self.finish,
            usage=usage_of(
                getattr(usage, "prompt_tokens", None),
                getattr(usage, "completion_tokens", None),
                getattr(usage, "total_tokens", None),
                getattr(prompt, "cached_tokens", None),
                getattr(completion, "reasoning_tokens", None),
            ),
        )


def chat_of_the_client(exchange: Exchange) -> Found:
    create: Any = client_for(exchange).chat.completions.create
    answer = create(model="m", messages=[{"role": "user", "content": "x"}], stream=exchange.streaming)
    accumulator = ChatAccumulator()
    for chunk in answer if exchange.streaming else [answer]:
        accumulator.add(chunk, streaming=exchange.streaming)
    return accumulator.found()


def response_of_the_client(exchange: Exchange) -> Found:
    create: Any = client_for(exchange).responses.create
    answer = create(model="m", input="x", stream=exchange.streaming)
    items = [] if exchange.streaming else answer.output
    if exchange.streaming:
        events = list(answer)
        answer = next(event.response for event in reversed(events) if event.type in TERMINALS)
        # Some servers leave the items out of the last event.
        done = [event.item for event in events if event.type == "response.output_item.done"]
        items = answer.output or done
    usage, details = answer.usage, answer.incomplete_details
    calls = [item for item in items if item.type in ("function_call", "custom_tool_call")]
    return Found(
        text="".join(texts(items, "output_text", "text")),
        refusal="".join(texts(items, "refusal", "refusal")),
        calls=tuple(
            call(item.name, item.arguments if item.type == "function_call" else json.dumps({"input": item.input}))
            for item in calls
        ),
        finish=f"incomplete:{details.reason}" if answer.status == "incomplete" else answer.status,
        usage=usage_of(
            getattr(usage, "input_tokens", None),
            getattr(usage, "output_tokens", None),
            getattr(usage, "total_tokens", None),
            getattr(getattr(usage, "input_tokens_details", None), "cached_tokens", None),
            getattr(getattr(usage, "output_tokens_details", None), "reasoning_tokens", None),
        ),
    )


def texts(items: list[Any], kind: str, name: str) -> Iterator[str]:
    for item in items:
        if item.type == "message":
            yield from (getattr(part, name) for part in item.content if part.type == kind)


def the_clients(exchange: Exchange) -> Found | str:
    """What the client finds, or the error that it raises."""
    try:
        return chat_of_the_client(exchange) if exchange.scope == CHAT else response_of_the_client(exchange)
    except (openai.OpenAIError, ValueError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"


@cache
def compared(provider: str) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, str]]:
    """The names of what differs, for each exchange that both accept; and what the client says to the others."""
    differences: dict[str, tuple[str, ...]] = {}
    refused: dict[str, str] = {}
    for exchange in chats(provider):
        if not exchange.is_success or exchange.id in EXCEPTIONS:
            continue
        theirs = the_clients(exchange)
        if isinstance(theirs, str):
            refused[exchange.id] = theirs
            continue
        mine = ours(response_of(exchange))
        names = [field.name for field in attrs.fields(Found)]
        differences[exchange.id] = tuple(name for name in names if getattr(mine, name) != getattr(theirs, name))
    return differences, refused


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_official_client_finds_the_same_in_every_answer(provider: str) -> None:
    differences, _ = compared(provider)
    problems = [
        f"{id_}: {differing or 'nothing'} differs, where {DIFFERENCES.get(id_) or 'nothing'} was to"
        for id_, differing in differences.items()
        if differing != DIFFERENCES.get(id_, ())
    ]
    assert not problems, report(problems)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_numbers_of_compared_answers_are_as_they_were(provider: str) -> None:
    differences, refused = compared(provider)
    agreed = sum(not differing for differing in differences.values())
    assert_counts(f"compared/{provider}", compared=len(differences), agreed=agreed, refused=Counter(refused.values()))


def test_every_difference_is_among_the_answers_that_were_compared() -> None:
    assert DIFFERENCES.keys() <= {id_ for provider in PROVIDERS for id_ in compared(provider)[0]}
