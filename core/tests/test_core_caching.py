"""Which cache breakpoints are sent, and what the fields of a request accept."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline import (
    ChatRequest,
    Document,
    Image,
    InvalidRequest,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    assistant,
    tool_result,
    user,
)
from trunkline.authoring.caching import Breakpoint, cached_anyway, plan_breakpoints, stated_lifetime
from trunkline.authoring.replay import ReplayRules, replay
from trunkline.authoring.warnings import Warnings
from trunkline.storage import from_json, to_json


def plan(*points: Breakpoint, **options: Any) -> tuple[list[str | None], Warnings]:
    warnings = Warnings()
    return list(plan_breakpoints(points, warnings, **options)), warnings


def message(lifetime: Any = "auto") -> Breakpoint:
    return Breakpoint("messages", lifetime)


TOOLS, SYSTEM = Breakpoint("tools", "auto"), Breakpoint("system", "auto")


def test_up_to_four_breakpoints_are_sent_without_a_warning() -> None:
    lifetimes, warnings = plan(TOOLS, SYSTEM, message(), message("5m"))
    assert lifetimes == ["5m"] * 4
    assert warnings.all() == ()


def test_of_too_many_the_last_of_each_section_and_the_latest_are_kept() -> None:
    lifetimes, warnings = plan(TOOLS, SYSTEM, message(), message(), message(), message())
    assert lifetimes == ["5m", "5m", None, None, "5m", "5m"]
    [warning] = warnings.all()
    assert (warning.kind, warning.subject, warning.lossy, warning.count) == ("mended", "cache", False, 2)


def test_an_automatic_breakpoint_of_the_tools_makes_room_for_others() -> None:
    tools, system, end = (Breakpoint(section, "auto", automatic=True) for section in ("tools", "system", "messages"))
    lifetimes, warnings = plan(tools, system, message(), message(), end)
    assert lifetimes == [None, "5m", "5m", "5m", "5m"]
    assert warnings.all() == ()


def test_warning_names_no_negative_number_of_breakpoints() -> None:
    fixed = [Breakpoint("messages", "5m", fixed=True)] * 5
    lifetimes, warnings = plan(SYSTEM, *fixed)
    assert lifetimes == [None, *["5m"] * 5]
    [warning] = warnings.all()
    assert "the API accepts 0 cache breakpoints" in warning.message


@pytest.mark.parametrize(
    ("control", "lifetime"),
    [
        ({"type": "ephemeral", "ttl": "1h"}, "1h"),
        ({"type": "ephemeral"}, "5m"),
        ({"ttl": "5m"}, "5m"),
        (None, "5m"),
        ("1h", "5m"),
    ],
)
def test_breakpoint_of_provider_options_has_its_stated_lifetime(control: object, lifetime: str) -> None:
    assert stated_lifetime(control) == lifetime


def test_the_limit_counts_what_was_sent_otherwise() -> None:
    assert plan(SYSTEM, message(), limit=1)[0] == [None, "5m"]
    assert plan(SYSTEM, message(), limit=-1)[0] == [None, None]


def test_breakpoints_before_one_of_an_hour_get_an_hour() -> None:
    lifetimes, warnings = plan(TOOLS, SYSTEM, message("1h"), message())
    assert lifetimes == ["1h", "1h", "1h", "5m"]
    assert warnings.all() == ()
    lifetimes, warnings = plan(Breakpoint("tools", "5m"), message("1h"))
    assert lifetimes == ["1h", "1h"]
    assert [(warning.kind, warning.lossy) for warning in warnings.all()] == [("mended", False)]


def test_fixed_breakpoints_stay_and_the_others_fit_in_with_them() -> None:
    def fixed(lifetime: Any) -> Breakpoint:
        return Breakpoint("messages", lifetime, fixed=True)

    lifetimes, warnings = plan(SYSTEM, fixed("1h"), message("auto"))
    assert lifetimes == ["1h", "1h", "5m"]
    assert warnings.all() == ()
    lifetimes, warnings = plan(Breakpoint("system", "1h"), fixed("5m"), message("1h"))
    assert lifetimes == ["1h", "5m", "5m"]
    assert [(warning.kind, warning.lossy) for warning in warnings.all()] == [("mended", False)]
    assert plan(fixed("1h"), message(), fixed("5m"), message(), limit=3)[0] == ["1h", None, "5m", "5m"]


def test_a_breakpoint_that_is_left_out_does_not_prolong_others() -> None:
    assert plan(message("1h"), message(), message(), message(), message())[0] == [None, *["5m"] * 4]


def test_an_hour_becomes_five_minutes_where_the_model_has_no_hour() -> None:
    lifetimes, warnings = plan(SYSTEM, message("1h"), one_hour=False)
    assert lifetimes == ["5m", "5m"]
    assert [(warning.kind, warning.lossy) for warning in warnings.all()] == [("mended", False)]


@pytest.mark.parametrize(("lifetime", "count"), [(None, 0), ("auto", 0), ("5m", 0), ("1h", 1)])
def test_a_provider_that_caches_by_itself_cannot_choose_an_hour(lifetime: Any, count: int) -> None:
    warnings = Warnings()
    cached_anyway(ChatRequest(messages="a", cache=lifetime), warnings)
    assert [(warning.kind, warning.lossy) for warning in warnings.all()] == [("unsupported", False)] * count


def test_a_provider_that_does_not_know_caching_gives_a_warning_that_is_not_lossy() -> None:
    warnings = Warnings()
    warnings.unsupported(ChatRequest(messages="a", cache="auto", cache_key="k"), supported=())
    assert [(warning.subject, warning.lossy) for warning in warnings.all()] == [("cache", False), ("cache_key", False)]


@pytest.mark.parametrize("wrong", ["", "2h", "1H", True, 5, [], {}])
@pytest.mark.parametrize(
    "make",
    [
        lambda value: ChatRequest(messages="a", cache=value),
        lambda value: Text(text="a", cache=value),
        lambda value: Image(file_id="a", cache=value),
        lambda value: Document(file_id="a", cache=value),
        lambda value: ToolResult(tool_call_id="a", cache=value),
        lambda value: tool_result("a", cache=value),
        lambda value: Tool(name="a", cache=value),
    ],
)
def test_another_lifetime_is_refused_with_the_ones_that_exist(make: Any, wrong: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"cache must be auto, 5m, 1h or None, not "):
        make(wrong)


def test_stored_conversations_keep_their_breakpoints() -> None:
    request = ChatRequest(
        messages=[
            user(Text(text="a", cache="1h"), Image(file_id="f", cache="auto"), Document(file_id="g", cache="5m")),
            tool_result("call_1", "b", cache="5m"),
        ],
        tools=[Tool(name="t", cache="1h")],
        cache="auto",
        cache_key="conversation 7",
    )
    assert from_json(ChatRequest, to_json(request)) == request


def test_repaired_history_keeps_the_breakpoint_of_a_tool_result() -> None:
    call = ToolCall(id="call_1", name="t")
    messages = [user("a"), assistant(call), tool_result(call, "b", cache="1h"), tool_result(call, "c")]
    turns = replay(messages, ReplayRules(provider="p"), Warnings())
    assert [result.cache for turn in turns for result in turn.results] == ["1h"]
