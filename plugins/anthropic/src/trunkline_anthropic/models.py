"""What each family of models supports: a table by prefixes of model names.

Source: Anthropic's documentation of November 2026. `GET /v1/models/{id}` returns the same for each model, as
`capabilities`; the table exists because a translation does no I/O. For a model that is not in the table, requests are
sent as they are.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs

Thinking: TypeAlias = Literal["enabled", "adaptive", "disabled"]
"""A type of `thinking`: with a token budget, as much as the model sees fit, or none."""

EFFORTS = ("low", "medium", "high", "xhigh", "max")
"""The levels of `output_config.effort`, in order."""


@attrs.frozen(kw_only=True)
class Model:
    """What a family of models supports.

    - `thinking`: the types of thinking; empty if the model does not think.
    - `efforts`: its levels of effort.
    - `thinks`: whether it thinks if the request does not mention thinking.
    - `forced_tools`: whether a tool call can be forced.
    - `schemas`: whether it supports structured output.
    - `samples`: whether it accepts sampling parameters (in the older version of the API).
    - `samples_both`: whether it accepts `temperature` and `top_p` together.
    - `output_tokens`: its longest answer in tokens, if that is less than our default output limit.
    """

    thinking: tuple[Thinking, ...] = ()
    efforts: tuple[str, ...] = ()
    thinks: bool = False
    forced_tools: bool = True
    schemas: bool = True
    samples: bool = True
    samples_both: bool = True
    output_tokens: int | None = None


_OLDEST = Model(schemas=False, output_tokens=4096)
_OLD = Model(schemas=False)
_BUDGETS = Model(thinking=("enabled", "disabled"), schemas=False)
_BUDGETS_45 = Model(thinking=("enabled", "disabled"), samples_both=False)
_BOTH = Model(
    thinking=("adaptive", "enabled", "disabled"), efforts=("low", "medium", "high", "max"), samples_both=False
)
_ADAPTIVE = Model(thinking=("adaptive", "disabled"), efforts=EFFORTS, samples=False)
_THINKING = attrs.evolve(_ADAPTIVE, thinks=True)
_ALWAYS = Model(thinking=("adaptive",), efforts=EFFORTS, thinks=True, forced_tools=False, samples=False)

MODELS: dict[str, Model] = {
    "claude-instant": _OLDEST,
    "claude-2": _OLDEST,
    "claude-3-haiku": _OLDEST,
    "claude-3-sonnet": _OLDEST,
    "claude-3-opus": _OLDEST,
    "claude-3-5": _OLD,
    "claude-3-7": _BUDGETS,
    "claude-sonnet-4-0": _BUDGETS,
    "claude-sonnet-4-2": _BUDGETS,
    "claude-opus-4-0": _BUDGETS,
    "claude-opus-4-2": _BUDGETS,
    "claude-opus-4-1": attrs.evolve(_BUDGETS, samples_both=False),
    "claude-haiku-4-5": _BUDGETS_45,
    "claude-sonnet-4-5": _BUDGETS_45,
    "claude-opus-4-5": attrs.evolve(_BUDGETS_45, efforts=("low", "medium", "high")),
    "claude-sonnet-4-6": _BOTH,
    "claude-opus-4-6": _BOTH,
    "claude-opus-4-7": _ADAPTIVE,
    "claude-opus-4-8": _ADAPTIVE,
    "claude-haiku-5": _ADAPTIVE,
    "claude-sonnet-5": _THINKING,
    "claude-opus-5": _THINKING,
    "claude-fable-5": _ALWAYS,
    "claude-mythos-5": _ALWAYS,
    "claude-mythos-preview": attrs.evolve(_ALWAYS, thinking=("adaptive", "enabled")),
}
"""By prefix of the model name; the longest matching prefix wins."""

UNKNOWN = Model(thinking=("adaptive", "enabled", "disabled"), efforts=EFFORTS)
"""What is assumed of a model that is not in the table."""


def model_named(name: str) -> Model:
    """Return what a model supports. Names of clouds and routers (`us.anthropic.…`, `anthropic/…-4.5`) work too."""
    plain = name.lower().replace(".", "-")
    plain = plain[max(plain.find("claude-"), 0) :]
    longest = max((prefix for prefix in MODELS if plain.startswith(prefix)), key=len, default=None)
    return MODELS[longest] if longest is not None else UNKNOWN
