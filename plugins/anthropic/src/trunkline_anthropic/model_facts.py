"""What each family of models supports, as a table of `ModelRow`s that the setting `model_facts` overrides.

`GET /v1/models/{id}` returns the same for each of Anthropic's models, as `capabilities`; the table exists because a
translation does no I/O. For a model that is not in the table, requests are sent as they are.

Other vendors offer their models through this API as well. Their thinking has no signature, or one that nobody else can
verify, and some refuse a turn with tool calls that lacks it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs
from trunkline.authoring.model_facts import FactOverrides, ModelRow, facts_about

Thinking: TypeAlias = Literal["enabled", "adaptive", "disabled", "between_tools"]
"""A type of `thinking`: with a token budget, as much as the model sees fit, none, or none before the answer."""

Effort: TypeAlias = Literal["low", "medium", "high", "xhigh", "max"]

ForcedTools: TypeAlias = Literal["yes", "without_thinking", "no"]

EFFORTS: tuple[Effort, ...] = ("low", "medium", "high", "xhigh", "max")
"""The levels of `output_config.effort`, in order."""


@attrs.frozen(kw_only=True)
class AnthropicFacts:
    """What a family of models supports.

    - `thinking`: the types of thinking; empty if the model does not think.
    - `efforts`: its levels of effort.
    - `thinks`: whether it thinks if the request does not mention thinking.
    - `forced_tools`: whether a tool call can be forced. No model accepts it while it thinks with a budget.
    - `schemas`: whether it supports structured output.
    - `samples`: whether it accepts sampling parameters (in the older version of the API).
    - `samples_both`: whether it accepts `temperature` and `top_p` together.
    - `output_tokens`: its longest answer in tokens, if that is known.
    - `prefill`: whether the conversation may end with the assistant's message, which the model then continues.
    - `system_messages`: whether it follows system messages between the others.
    - `signed_thinking`: whether it takes thinking back only with a signature.
    - `thinking_on_tool_turns`: whether it refuses earlier turns with tool calls but without thinking while it thinks.
    - `bound_thinking`: whether its thinking is only valid in the conversation in which it was made.
    """

    thinking: tuple[Thinking, ...] = ()
    efforts: tuple[Effort, ...] = ()
    thinks: bool = False
    forced_tools: ForcedTools = "yes"
    schemas: bool = True
    samples: bool = True
    samples_both: bool = True
    output_tokens: int | None = None
    prefill: bool = True
    system_messages: bool = False
    signed_thinking: bool = True
    thinking_on_tool_turns: bool = False
    bound_thinking: bool = False


_OLDEST = AnthropicFacts(schemas=False, output_tokens=4096)
_OLD = AnthropicFacts(schemas=False, output_tokens=8192)
_BUDGETS = AnthropicFacts(thinking=("enabled", "disabled"), schemas=False, output_tokens=64_000)
_BUDGETS_45 = AnthropicFacts(thinking=("enabled", "disabled"), samples_both=False, output_tokens=64_000)
_BOTH = AnthropicFacts(
    thinking=("adaptive", "enabled", "disabled"),
    efforts=("low", "medium", "high", "max"),
    samples_both=False,
    output_tokens=128_000,
    prefill=False,
)
_ADAPTIVE = AnthropicFacts(
    thinking=("adaptive", "disabled"), efforts=EFFORTS, samples=False, output_tokens=128_000, prefill=False
)
_THINKING = attrs.evolve(_ADAPTIVE, thinks=True)
_ALWAYS = attrs.evolve(_THINKING, thinking=("adaptive",), system_messages=True)
_ALWAYS_UNFORCED = attrs.evolve(_ALWAYS, forced_tools="no")
_UNSIGNED = AnthropicFacts(thinking=("enabled", "disabled"), signed_thinking=False)

_DOCS = "platform.claude.com, models overview, thinking, and effort; 2026-11"
_MEASURED = "pydantic-ai 2.68, profiles/anthropic.py, measured, and litellm 1.110, model_prices…json; 2026-11"
_NEW = "platform.claude.com, models/…/whats-new; pydantic-ai 2.68, profiles/anthropic.py, measured; 2026-11"

ROWS: tuple[ModelRow[AnthropicFacts], ...] = (
    ModelRow(pattern="claude-instant*", facts=_OLDEST, source=_DOCS),
    ModelRow(pattern="claude-2*", facts=_OLDEST, source=_DOCS),
    ModelRow(pattern="claude-3-5*", facts=_OLD, source=_DOCS),
    ModelRow(pattern="claude-3-7*", facts=_BUDGETS, source=_DOCS),
    ModelRow(pattern="claude-3-*", facts=_OLDEST, source=_DOCS),
    ModelRow(pattern="claude-sonnet-4-[02]*", facts=_BUDGETS, source=_DOCS),
    ModelRow(pattern="claude-opus-4-[02]*", facts=attrs.evolve(_BUDGETS, output_tokens=32_000), source=_DOCS),
    ModelRow(
        pattern="claude-opus-4-1*",
        facts=attrs.evolve(_BUDGETS, samples_both=False, output_tokens=32_000),
        source=_DOCS,
    ),
    ModelRow(pattern="claude-haiku-4-5*", facts=_BUDGETS_45, source=_DOCS),
    ModelRow(pattern="claude-sonnet-4-5*", facts=_BUDGETS_45, source=_DOCS),
    ModelRow(
        pattern="claude-opus-4-5*",
        facts=attrs.evolve(_BUDGETS_45, efforts=("low", "medium", "high")),
        source=_DOCS,
    ),
    ModelRow(pattern="claude-sonnet-4-6*", facts=_BOTH, source=_DOCS),
    ModelRow(pattern="claude-opus-4-6*", facts=_BOTH, source=_DOCS),
    ModelRow(pattern="claude-opus-4-7*", facts=_ADAPTIVE, source=_DOCS),
    ModelRow(pattern="claude-opus-4-8*", facts=attrs.evolve(_ADAPTIVE, system_messages=True), source=_MEASURED),
    ModelRow(
        pattern="claude-haiku-5*",
        facts=attrs.evolve(_THINKING, system_messages=True, bound_thinking=True),
        source=_NEW,
    ),
    # It refuses `disabled`, and names `between_tools` as the way to turn thinking off.
    ModelRow(
        pattern="claude-sonnet-5-5*",
        facts=attrs.evolve(
            _THINKING,
            thinking=("adaptive", "between_tools"),
            forced_tools="no",
            system_messages=True,
            bound_thinking=True,
        ),
        source=_NEW,
    ),
    # It accepts system messages, but ignores them.
    ModelRow(pattern="claude-sonnet-5*", facts=_THINKING, source=_MEASURED),
    ModelRow(pattern="claude-opus-5-5*", facts=attrs.evolve(_ALWAYS_UNFORCED, bound_thinking=True), source=_NEW),
    ModelRow(pattern="claude-opus-5*", facts=attrs.evolve(_THINKING, system_messages=True), source=_MEASURED),
    ModelRow(
        pattern="claude-fable-5-[12]*", facts=attrs.evolve(_ALWAYS_UNFORCED, bound_thinking=True), source=_MEASURED
    ),
    ModelRow(pattern="claude-fable-5*", facts=_ALWAYS, source=_MEASURED),
    ModelRow(pattern="claude-mythos-5-2*", facts=attrs.evolve(_ALWAYS_UNFORCED, bound_thinking=True), source=_MEASURED),
    ModelRow(pattern="claude-mythos-5-1*", facts=_ALWAYS_UNFORCED, source=_MEASURED),
    ModelRow(pattern="claude-mythos-5*", facts=_ALWAYS, source=_MEASURED),
    ModelRow(
        pattern="claude-mythos-preview*",
        facts=attrs.evolve(_ALWAYS, thinking=("adaptive", "enabled"), system_messages=False),
        source=_MEASURED,
    ),
    ModelRow(
        pattern="*kimi*",
        facts=attrs.evolve(_UNSIGNED, thinks=True, thinking_on_tool_turns=True),
        source="NousResearch/hermes-agent#14018, #56727, borawong/AiMaMi#10; 2026-04 to 2026-07",
    ),
    ModelRow(
        pattern="*deepseek*",
        facts=attrs.evolve(
            _UNSIGNED, efforts=EFFORTS, thinks=True, forced_tools="without_thinking", thinking_on_tool_turns=True
        ),
        source="api-docs.deepseek.com, guides/anthropic_api; OEvortex/aether#31, maximhq/bifrost#5177; 2026-07",
    ),
)
"""By pattern of the model's name, as `plain_name` returns it; the first row that matches wins."""

UNKNOWN = AnthropicFacts(thinking=("adaptive", "enabled", "disabled"), efforts=EFFORTS, signed_thinking=False)
"""What is assumed of a model that is not in the table. Its thinking goes back as it came, signed or not."""

UNKNOWN_CLAUDE = attrs.evolve(UNKNOWN, signed_thinking=True)
"""The same for one of Anthropic's models. None of them takes thinking without a signature."""

_FAMILIES = {
    "claude": "claude",
    "kimi": "kimi",
    "moonshot": "kimi",
    "deepseek": "deepseek",
    "glm": "glm",
    "minimax": "minimax",
    "mimo": "mimo",
    "qwen": "qwen",
}


def plain_name(name: str) -> str:
    """Return the model's name without the prefixes of clouds and routers (`us.anthropic.…`, `anthropic/…-4.5`)."""
    plain = name.lower().replace(".", "-")
    return plain[max(plain.find("claude-"), 0) :]


def facts_of(name: str, overrides: FactOverrides | None = None) -> AnthropicFacts:
    """Return what a model supports, by the table and by the setting `model_facts`."""
    plain = plain_name(name)
    default = UNKNOWN_CLAUDE if "claude" in plain else UNKNOWN
    return facts_about(name, ROWS, default, overrides or {}, known_as=plain)


def family_of(name: str) -> str | None:
    """Return the family of a model: those whose thinking it accepts. `None` if the name does not tell."""
    plain = name.lower()
    return next((family for word, family in _FAMILIES.items() if word in plain), None)
