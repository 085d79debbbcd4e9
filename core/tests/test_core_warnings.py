"""Warnings about requests: which of them a strict service refuses, and how they are merged."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from trunkline import CallWarning, ChatRequest, EmbedRequest, UnsupportedRequest, assistant, user
from trunkline.authoring.provider import Translation
from trunkline.authoring.warnings import Warnings, changes_effort, merged, nearest_effort
from trunkline.authoring.wire import WireRequest
from trunkline.response import ChatResponse, FinishReason
from trunkline.storage import from_json, to_json
from trunkline.testing import Exchange, serve

LOSSY = CallWarning(kind="unsupported", subject="seed", message="toys have no seed", lossy=True)
OTHER = CallWarning(kind="unsupported", subject="top_k", message="toys have no top_k", lossy=True)
HARMLESS = CallWarning(kind="changed", subject="tool result", message="marked in its text", lossy=False)


async def answer(exchange: Exchange) -> None:
    await exchange.respond(b'{"text":"hello"}')


def translator(*warnings: CallWarning) -> Any:
    """A provider's translator that gives these warnings for each request."""

    class Warns:
        def __init__(self, context: Any) -> None:
            self._url = context.settings.url

        def translate(self, request: ChatRequest, *, stream: bool) -> Translation:
            return Translation(wire_request=WireRequest(url=self._url), warnings=warnings)

    return {"translator": Warns}


@pytest.mark.anyio
async def test_a_strict_service_accepts_warnings_that_are_not_lossy(toy: Any) -> None:
    async with serve(answer) as server, toy(server.url, strict=True, provider=translator(HARMLESS)) as service:
        assert (await service.chat("hi")).warnings == (HARMLESS,)


@pytest.mark.anyio
async def test_a_strict_service_lists_the_lossy_warnings_alone_in_one_line_each(toy: Any) -> None:
    provider = translator(HARMLESS, LOSSY, LOSSY, OTHER)
    async with serve(answer) as server, toy(server.url, strict=True, provider=provider) as service:
        with pytest.raises(UnsupportedRequest) as caught:
            await service.chat("hi")
        with pytest.raises(UnsupportedRequest):
            async with service.stream("hi"):
                pass
    assert str(caught.value).splitlines() == [
        "service 'toy' is strict, so the request was not sent. Without strict, it would be sent with these warnings:",
        "  - seed: toys have no seed (2 times)",
        "  - top_k: toys have no top_k",
    ]
    assert not server.requests


@pytest.mark.anyio
async def test_equal_warnings_of_a_translation_are_merged_whatever_the_plugin_does(toy: Any) -> None:
    provider = translator(*[HARMLESS] * 30, LOSSY)
    async with serve(answer) as server, toy(server.url, provider=provider) as service:
        warnings = (await service.chat("hi")).warnings
    assert [(warning.subject, warning.count) for warning in warnings] == [("tool result", 30), ("seed", 1)]
    assert str(warnings[0]) == "tool result: marked in its text (30 times)"


@pytest.mark.anyio
async def test_turns_that_exceed_the_input_limit_are_lossy(toy: Any) -> None:
    request = ChatRequest(messages=[user("x" * 4000), assistant("y"), user("z")])
    async with serve(answer) as server, toy(server.url, input_token_limit=100, strict=True) as service:
        with pytest.raises(UnsupportedRequest, match="the 1 oldest of 2 turns were left out"):
            await service.chat(request)


def test_warnings_of_one_cause_are_merged_into_the_first() -> None:
    warnings = Warnings()
    for number in range(30):
        warnings.add("left_out", "tool result", f"no call has the id {number}", lossy=False, cause="no call has the id")
        warnings.add("left_out", "reasoning", "not this provider's", lossy=False)
    warnings.add("left_out", "reasoning", "not this provider's", lossy=True)
    assert [(warning.message, warning.lossy, warning.count) for warning in warnings.all()] == [
        ("no call has the id 0", False, 30),
        ("not this provider's", False, 30),
        ("not this provider's", True, 1),
    ]


def test_merging_keeps_the_order_and_adds_the_counts() -> None:
    thirty = attrs.evolve(LOSSY, count=30)
    assert merged([LOSSY, HARMLESS, thirty]) == (attrs.evolve(LOSSY, count=31), HARMLESS)
    assert merged([]) == ()


def test_a_field_that_is_not_supported_is_lossy_unless_it_asks_for_what_happens_anyway() -> None:
    warnings = Warnings()
    warnings.unsupported(ChatRequest(messages="hi", seed=1, parallel_tool_calls=True), supported=())
    warnings.unsupported(ChatRequest(messages="hi", parallel_tool_calls=False, logprobs=False), supported=())
    warnings.unsupported(EmbedRequest(inputs="hi", dimensions=8), supported=())
    assert sorted((warning.subject, warning.lossy) for warning in warnings.all()) == [
        ("dimensions", True),
        ("parallel_tool_calls", False),
        ("parallel_tool_calls", True),
        ("seed", True),
    ]


def test_the_least_and_the_most_effort_have_an_equal_level_in_every_model() -> None:
    assert not changes_effort("minimal")
    assert not changes_effort("max")
    assert changes_effort("xhigh")
    assert changes_effort("none")


def test_a_warning_is_stored_with_lossy_and_count() -> None:
    response = ChatResponse(
        parts=(), finish_reason=FinishReason.STOP, warnings=(HARMLESS, attrs.evolve(LOSSY, count=3))
    )
    assert from_json(ChatResponse, to_json(response)).warnings == response.warnings


@pytest.mark.parametrize(
    ("effort", "levels", "expected"),
    [
        ("medium", ("low", "medium", "high"), "medium"),
        ("minimal", ("low", "high"), "low"),
        ("medium", ("low", "high"), "low"),
        ("medium", ("max", "high"), "high"),
        ("xhigh", ("low", "high", "max"), "high"),
        ("max", ("low", "high"), "high"),
        ("low", ("high",), "high"),
        ("none", ("low", "none", "high"), "none"),
        ("none", ("medium", "low"), "low"),
        ("minimal", ("none", "low"), "low"),
        ("minimal", ("none",), "none"),
    ],
)
def test_nearest_effort_is_the_lower_of_two_equally_near_levels(
    effort: str, levels: tuple[str, ...], expected: str
) -> None:
    assert nearest_effort(effort, levels) == expected


def test_mended_history_gives_a_warning_that_is_not_lossy() -> None:
    warnings = Warnings()
    warnings.mended("tool result", "no call 'a'", cause="no call")
    warnings.mended("tool result", "no call 'b'", cause="no call")
    [warning] = warnings.all()
    assert warning == CallWarning(kind="mended", subject="tool result", message="no call 'a'", lossy=False, count=2)
