"""Conversations of every model family, replayed to every family: none is refused, and nothing is lost needlessly."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator

import attrs
import pytest
from backends import one_backend
from recordings import report
from strict_servers import matrix
from strict_servers.answers import Said
from strict_servers.conversations import WEATHER, request_of
from strict_servers.families import ALL, Family
from strict_servers.matrix import YOUR_CODE, Conversation, Replayed, replayed
from strict_servers.server import strict_service
from trunkline import Text, ToolCall, ToolResult, tool_result, user
from trunkline.storage import messages_from_json, to_json

FAMILIES = {family.name: family for family in ALL}
IMAGES = ("an image made by the model", "an image in a result")
WHOLE = ("text and reasoning", "repeated ids", "an image made by the model", "a tool that the provider runs")


@pytest.fixture(scope="module")
def conversations() -> list[Conversation]:
    """The conversations of all families and the conversations that an application makes."""
    return matrix.everything()


@pytest.fixture(scope="module", params=FAMILIES)
def target(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def replays(conversations: list[Conversation], target: Family) -> list[Replayed]:
    """All conversations, as the target's service sends them."""
    return [replayed(conversation, target) for conversation in conversations]


def _name(conversation: Conversation) -> str:
    return f"{conversation.issuer}, {conversation.trouble}"


def test_there_are_conversations_with_each_trouble(conversations: list[Conversation]) -> None:
    issuers: dict[str, set[str]] = defaultdict(set)
    for conversation in conversations:
        issuers[conversation.trouble].add(conversation.issuer)

    assert set().union(*issuers.values()) == {*FAMILIES, YOUR_CODE}
    assert len(issuers["text and reasoning"]) == 32
    assert len(issuers["parallel calls: one failed, one has no result"]) == 29
    assert len(issuers["arguments that are not JSON"]) == 26
    assert len(issuers["reasoning alone"]) == 25
    assert len(issuers["a tool that the provider runs"]) == 7
    assert len(issuers["an image made by the model"]) == 3


def test_no_conversation_is_refused(replays: list[Replayed]) -> None:
    problems = [f"{_name(found.conversation)}: {refusal}" for found in replays for refusal in found.refusals]
    assert not problems, report(problems)


def test_only_images_that_the_model_cannot_read_are_lost(replays: list[Replayed], target: Family) -> None:
    problems = [
        f"{_name(found.conversation)}: {warning}"
        for found in replays
        if target.sees or found.conversation.trouble not in IMAGES
        for warning in found.warnings
        if warning.lossy
    ]
    assert not problems, report(problems)


def test_every_text_call_and_result_is_sent(replays: list[Replayed]) -> None:
    problems = [
        f"{_name(found.conversation)}: {text!r} was not sent"
        for found in replays
        for text in _texts(found.conversation)
        if json.dumps(text)[1:-1] not in found.body and json.dumps(text, ensure_ascii=False)[1:-1] not in found.body
    ]
    assert not problems, report(problems)


def _texts(conversation: Conversation) -> Iterator[str]:
    """Yield the texts of a conversation, the arguments of its calls, and the results that have a call."""
    for message in conversation.messages:
        for part in message.parts:
            if isinstance(part, Text):
                yield part.text.strip()
            elif isinstance(part, ToolCall):
                yield from part.arguments.values() if part.invalid_arguments is None else ("Os",)
            elif isinstance(part, ToolResult) and part.tool_call_id != "call_9":
                yield part.text.strip()


def test_a_stored_conversation_is_sent_as_before(replays: list[Replayed], target: Family) -> None:
    problems = []
    for found in replays:
        stored = json.dumps(to_json(found.conversation.messages))
        restored = attrs.evolve(found.conversation, messages=messages_from_json(json.loads(stored)))
        if replayed(restored, target).body != found.body:
            problems.append(_name(found.conversation))
    assert not problems, report(problems)


def test_results_stay_with_their_calls(replays: list[Replayed]) -> None:
    problems = [
        _name(found.conversation)
        for found in replays
        if found.conversation.trouble.startswith("parallel calls")
        # The application gave them in the other order.
        if not found.body.index("Oslo")
        < found.body.index("Rome")
        < found.body.index("7 C")
        < found.body.index("timeout")
    ]
    assert not problems, report(problems)


def test_opaque_parts_and_signatures_are_sent_back_to_the_same_family(replays: list[Replayed], target: Family) -> None:
    problems = [
        f"{_name(found.conversation)}: {warning}"
        for found in replays
        if found.conversation.issuer == target.name and found.conversation.trouble in WHOLE
        for warning in found.warnings
        if warning.subject in ("opaque part", "signature")
    ]
    assert not problems, report(problems)


@one_backend
async def test_conversation_of_each_family_can_be_continued_by_a_service_and_then_by_the_family(
    conversations: list[Conversation], target: Family, anyio_backend: str
) -> None:
    # Use the last state of each conversation, in which both rounds of calls are answered.
    states = {found.issuer: found for found in conversations if found.trouble == WHOLE[1]}
    problems: list[str] = []
    async with strict_service(target) as (service, strict):
        calls = (("weather", '{"city": "Lima"}'),) if target.tools else ()
        strict.says = Said(number=9, reasoning="Now Lima.", text="One more.", calls=calls)
        for issuer, conversation in states.items():
            async with service.stream(request_of(target, conversation.messages)) as stream:
                turn = (await stream.finish()).message
            assert [call.name for call in turn.tool_calls] == [WEATHER.name for _ in calls]
            results = [tool_result(call, "20 C") for call in turn.tool_calls]
            longer = attrs.evolve(conversation, messages=(*conversation.messages, turn, *results, user("Thanks")))
            problems += [f"back to {issuer}: {found}" for found in replayed(longer, FAMILIES[issuer]).refusals]
    assert strict.refused == []
    assert not problems, report(problems)
