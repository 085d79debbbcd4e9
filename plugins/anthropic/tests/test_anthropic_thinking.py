"""Which model is asked to think in which way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trunkline.authoring.provider import ServiceContext
from trunkline.errors import ConfigurationError
from trunkline.messages import Message, Reasoning, ToolCall, assistant, tool_result, user
from trunkline.request import ChatRequest, ReasoningOptions, Tool
from trunkline_anthropic import AnthropicSettings, anthropic
from trunkline_anthropic.model_facts import EFFORTS, ROWS, UNKNOWN, UNKNOWN_CLAUDE, facts_of

Options = ReasoningOptions
BUDGET = {"type": "enabled", "budget_tokens": 2000}
ADAPTIVE = {"type": "adaptive"}
DISABLED = {"type": "disabled"}


def translated(
    model: str,
    options: ReasoningOptions | None,
    *messages: Message,
    betas: tuple[str, ...] = (),
    facts: Any = None,
    **request: Any,
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    values: Any = {"api_key": "REDACTED-KEY", "betas": betas, "model_facts": facts or {}}
    settings = AnthropicSettings(**values)
    context = ServiceContext(name="test", provider="anthropic", settings=settings)
    chat = ChatRequest(messages=messages or (user("Hi"),), model=model, reasoning=options, **request)
    translation = anthropic.translator(context).translate(chat, stream=False)
    body: dict[str, Any] = json.loads(translation.wire_request.body)
    return body, [(warning.kind, warning.subject) for warning in translation.warnings]


CASES: list[tuple[str, ReasoningOptions | None, Any, Any, list[tuple[str, str]]]] = [
    # model, options, thinking, effort, warnings
    ("claude-haiku-4-5", None, None, None, []),
    ("claude-haiku-4-5", Options(), None, None, []),
    ("claude-haiku-4-5", Options(max_tokens=2000), BUDGET, None, []),
    ("claude-haiku-4-5", Options(max_tokens=2000, summary="auto"), {**BUDGET, "display": "summarized"}, None, []),
    (
        "claude-haiku-4-5",
        Options(max_tokens=5),
        {**BUDGET, "budget_tokens": 1024},
        None,
        [("changed", "reasoning.max_tokens")],
    ),
    (
        "claude-haiku-4-5",
        Options(effort="low"),
        {**BUDGET, "budget_tokens": 2048},
        None,
        [("emulated", "reasoning.effort")],
    ),
    (
        "claude-haiku-4-5",
        Options(effort="low", max_tokens=2000),
        BUDGET,
        None,
        [("changed", "reasoning.effort")],
    ),
    ("claude-haiku-4-5", Options(effort="none"), DISABLED, None, []),
    ("claude-haiku-4-5", Options(summary="auto"), None, None, [("unsupported", "reasoning.summary")]),
    (
        "claude-opus-4-5",
        Options(effort="max"),
        {**BUDGET, "budget_tokens": 12_288},
        "high",
        [("emulated", "reasoning.effort"), ("changed", "reasoning.effort")],
    ),
    ("claude-opus-4-5", Options(effort="medium", max_tokens=2000), BUDGET, "medium", []),
    ("claude-sonnet-4-6", Options(effort="medium"), ADAPTIVE, "medium", []),
    ("claude-sonnet-4-6", Options(effort="max"), ADAPTIVE, "max", []),
    ("claude-sonnet-4-6", Options(effort="xhigh"), ADAPTIVE, "high", [("changed", "reasoning.effort")]),
    ("claude-sonnet-4-6", Options(max_tokens=2000), BUDGET, None, []),
    ("claude-opus-4-7", Options(effort="xhigh"), ADAPTIVE, "xhigh", []),
    ("claude-opus-4-7", Options(effort="minimal"), ADAPTIVE, "low", [("changed", "reasoning.effort")]),
    ("claude-opus-4-7", Options(max_tokens=2000), ADAPTIVE, None, [("changed", "reasoning.max_tokens")]),
    ("claude-opus-4-7", Options(summary="auto"), {**ADAPTIVE, "display": "summarized"}, None, []),
    (
        "claude-opus-4-7",
        Options(summary="detailed"),
        {**ADAPTIVE, "display": "summarized"},
        None,
        [("changed", "reasoning.summary")],
    ),
    ("claude-sonnet-5", None, None, None, []),
    ("claude-sonnet-5", Options(effort="none"), DISABLED, None, []),
    ("claude-fable-5", Options(effort="high"), ADAPTIVE, "high", []),
    ("claude-fable-5", Options(effort="none"), ADAPTIVE, "low", [("changed", "reasoning.effort")]),
    ("claude-opus-5-5", Options(effort="none"), ADAPTIVE, "low", [("changed", "reasoning.effort")]),
    ("claude-opus-5", Options(effort="none"), DISABLED, None, []),
    ("claude-haiku-5-5", Options(effort="none"), DISABLED, None, []),
    ("claude-sonnet-5-5", Options(effort="none"), {"type": "between_tools"}, None, []),
    ("claude-mythos-preview", Options(max_tokens=2000), BUDGET, None, []),
    ("claude-3-5-sonnet-latest", Options(effort="low"), None, None, [("unsupported", "reasoning")]),
    ("claude-3-5-sonnet-latest", Options(effort="none"), DISABLED, None, []),
    ("some-local-model", Options(effort="xhigh"), ADAPTIVE, "xhigh", []),
    ("some-local-model", Options(max_tokens=2000), BUDGET, None, []),
]


@pytest.mark.parametrize(("model", "options", "thinking", "effort", "warnings"), CASES)
def test_a_model_is_asked_to_think_in_a_way_that_it_takes(
    model: str, options: ReasoningOptions | None, thinking: Any, effort: Any, warnings: list[tuple[str, str]]
) -> None:
    body, found = translated(model, options)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == effort
    assert found == warnings


@pytest.mark.parametrize(
    ("limit", "budget", "warnings"),
    [
        (4000, 2000, []),
        (3000, 1500, [("changed", "reasoning.max_tokens")]),
        (1500, 1024, [("changed", "reasoning.max_tokens")]),
        (1024, None, [("changed", "reasoning")]),
    ],
)
def test_a_budget_stays_below_the_output_limit(limit: int, budget: int | None, warnings: list[tuple[str, str]]) -> None:
    wanted = 2000 if limit == 4000 else 3000
    body, found = translated("claude-haiku-4-5", Options(max_tokens=wanted), max_output_tokens=limit)
    assert body.get("thinking", {}).get("budget_tokens") == budget
    assert body["max_tokens"] == limit
    assert found == warnings


def test_interleaved_thinking_may_have_a_budget_above_the_output_limit() -> None:
    options, betas = Options(max_tokens=3000), ("interleaved-thinking-2025-05-14",)
    tools = [Tool(name="clock")]
    body, found = translated("claude-sonnet-4-5", options, betas=betas, tools=tools, max_output_tokens=2000)
    assert (body["thinking"]["budget_tokens"], found) == (3000, [])
    body, found = translated("claude-sonnet-4-5", options, betas=betas, max_output_tokens=2000)
    assert (body["thinking"]["budget_tokens"], found) == (1024, [("changed", "reasoning.max_tokens")])


@pytest.mark.parametrize("choice", ["required", "clock"])
def test_a_forced_tool_is_not_thought_about_with_a_budget(choice: str) -> None:
    tools = [Tool(name="clock")]
    body, found = translated("claude-haiku-4-5", Options(max_tokens=2000), tools=tools, tool_choice=choice)
    assert body["thinking"] == DISABLED
    assert body["tool_choice"]["type"] in ("any", "tool")
    assert found == [("changed", "reasoning")]
    body, found = translated("claude-sonnet-4-6", Options(effort="low"), tools=tools, tool_choice=choice)
    assert (body["thinking"], found) == (ADAPTIVE, [])


def test_a_turn_that_began_without_thinking_goes_on_without() -> None:
    call = ToolCall(id="call_1", name="clock")
    thought = Reasoning(text="hm", provider="anthropic", signature="SIGNED")
    turns = (user("Hi"), assistant(call), tool_result(call, "noon"))
    body, found = translated("claude-haiku-4-5", Options(max_tokens=2000), *turns)
    assert (body["thinking"], found) == (DISABLED, [("mended", "reasoning")])
    turns = (user("Hi"), assistant(thought, call), tool_result(call, "noon"))
    body, found = translated("claude-haiku-4-5", Options(max_tokens=2000), *turns)
    assert (body["thinking"], found) == (BUDGET, [])


def test_later_steps_of_a_turn_need_no_thinking() -> None:
    first, second = ToolCall(id="call_1", name="clock"), ToolCall(id="call_2", name="clock")
    thought = Reasoning(text="hm", provider="anthropic", signature="SIGNED")
    steps = (tool_result(first, "noon"), assistant(second), tool_result(second, "noon"))
    body, found = translated(
        "claude-haiku-4-5", Options(max_tokens=2000), user("Hi"), assistant(thought, first), *steps
    )
    assert (body["thinking"], found) == (BUDGET, [])
    body, found = translated("claude-haiku-4-5", Options(max_tokens=2000), user("Hi"), assistant(first), *steps)
    assert (body["thinking"], found) == (DISABLED, [("mended", "reasoning")])
    done = (*steps, assistant("Noon."), user("Sure?"))
    body, found = translated("claude-haiku-4-5", Options(max_tokens=2000), user("Hi"), assistant(first), *done)
    assert (body["thinking"], found) == (BUDGET, [])


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5*"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-[02]*"),
        ("us.anthropic.claude-opus-4-1-20250805-v1:0", "claude-opus-4-1*"),
        ("anthropic/claude-haiku-4.5", "claude-haiku-4-5*"),
        ("claude-opus-5-5", "claude-opus-5-5*"),
        ("anthropic/claude-opus-5.5", "claude-opus-5-5*"),
        ("claude-opus-5-20260701", "claude-opus-5*"),
        ("claude-fable-5-2", "claude-fable-5-[12]*"),
        ("claude-3-5-haiku-latest", "claude-3-5*"),
        ("CLAUDE-3-OPUS-20240229", "claude-3-*"),
        ("moonshotai/kimi-k2.6", "*kimi*"),
    ],
)
def test_a_name_is_found_by_its_beginning(name: str, row: str) -> None:
    assert facts_of(name) is next(one.facts for one in ROWS if one.pattern == row)


@pytest.mark.parametrize("name", ["", "smollm2", "claude", "claude-next-9"])
def test_a_name_that_is_not_in_the_table_may_be_asked_for_anything(name: str) -> None:
    assert facts_of(name) is (UNKNOWN_CLAUDE if "claude" in name else UNKNOWN)


def test_each_row_of_the_table_names_its_source() -> None:
    assert all(row.source for row in ROWS)


@pytest.mark.parametrize(
    "name", ["claude-fable-5-1", "claude-fable-5-2", "claude-mythos-5-1", "claude-mythos-5-2", "claude-opus-5-5"]
)
def test_newest_models_always_think_and_cannot_be_forced_to_call_a_tool(name: str) -> None:
    body, found = translated(name, Options(effort="none"), tools=[Tool(name="clock")], tool_choice="required")
    assert (body["thinking"], body["tool_choice"]) == (ADAPTIVE, {"type": "auto"})
    assert found == [("changed", "tool_choice"), ("changed", "reasoning.effort")]


def test_deepseek_calls_a_forced_tool_without_thinking() -> None:
    tools = [Tool(name="clock")]
    body, found = translated("deepseek-v4-pro", None, tools=tools, tool_choice="required")
    assert (body["thinking"], body["tool_choice"], found) == (DISABLED, {"type": "any"}, [("changed", "reasoning")])
    body, found = translated("deepseek-v4-pro", Options(effort="none"), tools=tools, tool_choice="required")
    assert (body["thinking"], found) == (DISABLED, [])


def test_setting_model_facts_overrides_the_table() -> None:
    facts = {"my-*": {"thinking": ["enabled"], "forced_tools": "no", "output_tokens": 100}}
    tools = [Tool(name="clock")]
    options = {"tools": tools, "tool_choice": "required", "max_output_tokens": 200}
    body, found = translated("my-model", None, facts=facts, **options)
    assert (body["tool_choice"], body["max_tokens"]) == ({"type": "auto"}, 100)
    assert found == [("changed", "tool_choice"), ("changed", "max_output_tokens")]
    body, found = translated("another", None, facts=facts, **options)
    assert (body["tool_choice"], body["max_tokens"], found) == ({"type": "any"}, 200, [])


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"m": {"thinks": "yes"}}, "true or false"),
        ({"m": {"thinking": ["sometimes"]}}, "one of enabled"),
        ({"m": {"thinkin": []}}, "did you mean 'thinking'"),
    ],
)
def test_invalid_model_facts_are_refused(facts: Any, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        AnthropicSettings(api_key="REDACTED-KEY", model_facts=facts)  # type: ignore[arg-type]  # converted


def test_the_levels_of_effort_in_the_table_are_in_order() -> None:
    for model in (row.facts for row in ROWS):
        assert list(model.efforts) == [level for level in EFFORTS if level in model.efforts]
        assert not model.efforts or model.efforts[0] == "low"


def test_an_effort_below_all_levels_becomes_the_lowest_level() -> None:
    facts = {"my-*": {"thinking": ["adaptive"], "efforts": ["high", "medium"]}}
    for effort in ("low", "none"):
        body, found = translated("my-model", Options(effort=effort), facts=facts)
        assert body["output_config"] == {"effort": "medium"}
        assert found == [("changed", "reasoning.effort")]


def test_model_facts_patterns_also_match_the_plain_model_name() -> None:
    body, _ = translated("us.anthropic.claude-7.1-v1:0", None, facts={"claude-7*": {"output_tokens": 100}})
    assert body["max_tokens"] == 100
