"""The family of the model that made a part: how it is set and stored, and what it does not affect."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline import Opaque, Reasoning, Text, ToolCall, assistant
from trunkline.authoring.event_builder import EventBuilder
from trunkline.authoring.framing import JSONLinesFramer
from trunkline.authoring.provider import Translation
from trunkline.authoring.wire import WireRequest, WireResponse
from trunkline.events import Event, ReasoningDelta, ReasoningEnd, ReasoningStart, ResponseStarted
from trunkline.fold import Fold, fold, unfold
from trunkline.messages import Message
from trunkline.response import ChatResponse, FinishReason
from trunkline.storage import from_json, to_json
from trunkline.testing import Exchange, serve


def reasoned() -> list[Event]:
    """Reasoning with a signature, a plain text, and a call with a signature in its metadata."""
    builder = EventBuilder("toy")
    builder.start("r1", "m")
    builder.reasoning("Because.", signature="signed")
    builder.text("Yes.")
    builder.tool_call(0, call_id="c1", name="look", arguments="{}", metadata={"toy": {"signature": "s"}})
    builder.finish(FinishReason.STOP)
    return builder.take()


class Reasoner:
    """Answers everything with `reasoned()`."""

    def __init__(self, context: Any) -> None:
        self._url = context.settings.url

    def translate(self, request: Any, *, stream: bool) -> Translation:
        return Translation(wire_request=WireRequest(url=self._url), family="toy-2")

    def stream(self) -> Any:
        return JSONLinesFramer(), self

    def feed(self, frame: bytes) -> list[Event]:
        return reasoned()

    def finish(self) -> list[Event]:
        return []

    def body(self, wire_response: WireResponse) -> ChatResponse:
        return fold(reasoned(), "toy")

    def error(self, wire_response: WireResponse) -> Any:
        raise AssertionError


async def answer(exchange: Exchange) -> None:
    await exchange.respond(b'{"any":"answer"}\n', headers={"content-type": "application/x-ndjson"})


@pytest.mark.anyio
async def test_parts_with_data_of_a_model_get_the_family_from_the_translator(toy: Any) -> None:
    parts = {"translator": Reasoner, "response_parser": Reasoner}
    async with serve(answer) as server, toy(server.url, provider=parts) as service:
        whole = await service.chat("hi")
        async with service.stream("hi") as stream:
            streamed = [event async for event in stream]
    for response in (whole, stream.partial, fold(streamed)):
        assert [getattr(part, "family", None) for part in response.parts] == ["toy-2", None, "toy-2"]


def test_parser_may_set_the_family() -> None:
    part = Opaque(provider="toy", kind="k", data={}, family="toy-1")
    builder = EventBuilder("toy")
    builder.start("r1")
    builder.add(part)
    builder.finish(FinishReason.STOP)
    response = fold([ResponseStarted(family="toy-2"), *builder.take()[1:]])
    assert [part.family for part in response.parts if isinstance(part, Opaque)] == ["toy-1"]


def test_family_survives_storage_and_unfolding_and_is_stored_only_if_set() -> None:
    message = assistant(Reasoning(text="a", provider="toy", family="toy-2"), Text(text="b"))
    stored: Any = to_json(message)
    assert stored["parts"] == [
        {"type": "reasoning", "text": "a", "provider": "toy", "family": "toy-2"},
        {"type": "text", "text": "b"},
    ]
    assert [getattr(part, "family", None) for part in from_json(Message, stored).parts] == ["toy-2", None]
    response = ChatResponse(parts=message.parts, finish_reason=FinishReason.STOP)
    assert [getattr(part, "family", None) for part in fold(unfold(response)).parts] == ["toy-2", None]


def test_parts_that_differ_only_in_family_are_equal() -> None:
    assert ToolCall(id="a", name="b", family="x") == ToolCall(id="a", name="b", family="y")


def test_the_builder_keeps_metadata_of_the_response_of_reasoning_and_of_calls() -> None:
    builder = EventBuilder("toy")
    builder.start("r1")
    builder.reasoning("Because.", metadata={"toy": {"depth": 2}})
    builder.metadata({"tier": "slow", "region": "north"})
    builder.tool_call(0, call_id="c1", name="look", metadata={"toy": {"signature": "s"}})
    builder.tool_call(0, arguments="{}", metadata={"toy": {"order": 1}})
    builder.metadata({"tier": "fast"})
    builder.finish(FinishReason.STOP)
    events = builder.take()
    response = fold(events)
    assert response.provider_metadata == {"toy": {"tier": "fast", "region": "north"}}
    assert [part.provider_metadata for part in response.parts if isinstance(part, (Reasoning, ToolCall))] == [
        {"toy": {"depth": 2}},
        {"toy": {"signature": "s", "order": 1}},
    ]
    assert [event.signature for event in events if isinstance(event, ReasoningEnd)] == [None]


def test_interrupted_reasoning_is_sent_back_to_the_same_model() -> None:
    interrupted = Fold("toy")
    for event in (ResponseStarted(family="toy-2"), ReasoningStart(index=0), ReasoningDelta(index=0, text="Perhaps")):
        interrupted.add(event)
    [part] = interrupted.response().parts
    assert part == Reasoning(text="Perhaps", provider="toy")
    assert getattr(part, "family", None) == "toy-2"
