"""A table of what each model family supports. The setting `model_facts` overrides the table.

`GET /v1/models/{id}` returns the same facts for Anthropic's models, as `capabilities`. The table exists because a
translation does no I/O. Requests to a model that is not in the table are sent unchanged.

Other vendors offer their models through this API as well. Their thinking has no signature, or a signature that only
the vendor can verify. Some of these models refuse a turn that has tool calls but no thinking.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs
from trunkline.authoring.model_facts import FactOverrides, ModelRow, facts_about

Thinking: TypeAlias = Literal["enabled", "adaptive", "disabled", "between_tools"]
"""A type of `thinking`: with a token budget, as the model decides, none, or only between tool calls."""

Effort: TypeAlias = Literal["low", "medium", "high", "xhigh", "max"]

ForcedTools: TypeAlias = Literal["yes", "without_thinking", "no"]

EFFORTS: tuple[Effort, ...] = ("low", "medium", "high", "xhigh", "max")
"""The levels of `output_config.effort`, in order."""


@attrs.frozen(kw_only=True)
class AnthropicFacts:
    """What a model family supports.

    - `thinking`: the types of thinking; empty if the model does not think.
    - `efforts`: the model's levels of effort.
    - `thinks`: whether the model thinks if the request does not mention thinking.
    - `forced_tools`: whether a tool call can be forced. While a model thinks with a budget, no call can be forced.
    - `schemas`: whether the model supports structured output.
    - `samples`: whether the model accepts sampling parameters (in the older version of the API).
    - `samples_both`: whether the model accepts `temperature` and `top_p` together.
    - `output_tokens`: the maximum length of an answer in tokens, if known.
    - `prefill`: whether the conversation may end with an assistant message, which the model continues.
    - `system_messages`: whether the model follows system messages in the middle of the conversation.
    - `signed_thinking`: whether thinking from the history must have a signature.
    - `thinking_on_tool_turns`: whether earlier turns with tool calls must have thinking while the model thinks.
    - `bound_thinking`: whether thinking is only valid in the conversation in which the model wrote it.
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
    # The model refuses `disabled`; its error names `between_tools` as the way to turn thinking off.
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
    # The model accepts system messages in the middle of the conversation, but ignores them.
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
"""The patterns match the name that `plain_name` returns. The first row that matches wins."""

UNKNOWN = AnthropicFacts(thinking=("adaptive", "enabled", "disabled"), efforts=EFFORTS, signed_thinking=False)
"""The facts for a model that is not in the table. Its thinking is sent back unchanged, signed or not."""

UNKNOWN_CLAUDE = attrs.evolve(UNKNOWN, signed_thinking=True)
"""The facts for an unknown model of Anthropic. All of Anthropic's models refuse thinking without a signature."""

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
    """Return the facts about a model from the table and from the setting `model_facts`."""
    plain = plain_name(name)
    default = UNKNOWN_CLAUDE if "claude" in plain else UNKNOWN
    return facts_about(name, ROWS, default, overrides or {}, known_as=plain)


def family_of(name: str) -> str | None:
    """Return the model's family, whose models accept each other's thinking, or `None` if the name has none."""
    plain = name.lower()
    return next((family for word, family in _FAMILIES.items() if word in plain), None)
