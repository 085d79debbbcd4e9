"""How much a model should reason, in the fields of its family. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.warnings import Warnings, changes_effort
from trunkline.request import ChatRequest, ReasoningOptions

from trunkline_bedrock.model_facts import BedrockFacts

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": 32000}
"""The thinking budget in tokens for each effort, for the Claude models that take budgets. Their minimum is 1,024."""

_LEAST_BUDGET = 1024
_ORDER = ("minimal", "low", "medium", "high", "xhigh", "max")


def reasoning_fields(
    request: ChatRequest, facts: BedrockFacts, warnings: Warnings, *, lacks_reasoning: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields for `additionalModelRequestFields`, and the fields for the body itself.

    `lacks_reasoning` is whether the answer continues a tool loop that began without reasoning (see
    `trunkline.authoring.replay`).
    """
    options = request.reasoning or ReasoningOptions()
    asked = options.effort is not None or options.max_tokens is not None or options.summary is not None
    claude = facts.reasoning in ("budget", "adaptive")
    if claude and _forces_tool(request, facts) and options.effort != "none":
        if asked:
            why = "this model does not reason while a tool call is forced; ignored"
            warnings.add("unsupported", "reasoning", why, lossy=True)
        off = facts.reasons_by_default and facts.reasoning_off is not None
        return ({"thinking": {"type": facts.reasoning_off}} if off else {}), {}
    if not asked:
        return {}, {}
    if options.summary is not None and facts.reasoning != "adaptive":
        warnings.add("unsupported", "reasoning.summary", "not supported by this model; ignored", lossy=True)
    if facts.reasoning is None:
        if options.effort not in (None, "none") or options.max_tokens is not None:
            why = (
                f"models of the family {facts.family!r} have no known field for it; ignored; "
                "set additionalModelRequestFields in provider_options"
            )
            warnings.add("unsupported", "reasoning", why, lossy=True)
        return {}, {}
    if facts.reasoning == "budget":
        # Anthropic: with a thinking budget, an assistant message whose tool results are sent must begin with thinking.
        # Adaptive thinking has no such rule.
        if lacks_reasoning and options.effort != "none" and (options.effort or options.max_tokens is not None):
            why = "the message with these tool calls has no thinking of this model, so thinking was turned off"
            warnings.mended("reasoning", why)
            return {"thinking": {"type": "disabled"}}, {}
        return _budget(request, options, warnings), {}
    if options.max_tokens is not None:
        warnings.add(
            "unsupported",
            "reasoning.max_tokens",
            "this model accepts no number of tokens; ignored; use effort",
            lossy=True,
        )
    if facts.reasoning == "adaptive":
        return _adaptive(options, facts, warnings)
    return (_by_effort(options.effort, facts, warnings), {}) if options.effort is not None else ({}, {})


def thinks(fields: dict[str, Any]) -> bool:
    """Return whether these fields turn Claude's thinking on."""
    thinking = fields.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")


def _forces_tool(request: ChatRequest, facts: BedrockFacts) -> bool:
    choice = request.tool_choice
    return bool(facts.tools and facts.tool_choices) and choice is not None and choice.mode in ("required", "tool")


def _budget(request: ChatRequest, options: ReasoningOptions, warnings: Warnings) -> dict[str, Any]:
    if options.effort == "none":
        return {"thinking": {"type": "disabled"}}
    budget = options.max_tokens
    if budget is None:
        if options.effort is None:
            return {}
        budget = BUDGETS[options.effort]
        why = f"this model accepts only a number of tokens; {options.effort!r} was sent as {budget}"
        warnings.add("emulated", "reasoning.effort", why, lossy=False)
    elif options.effort is not None:
        warnings.add(
            "unsupported",
            "reasoning.effort",
            "this model accepts only a number of tokens; reasoning.max_tokens was sent",
            lossy=False,
        )
    if budget < _LEAST_BUDGET:
        warnings.add(
            "changed",
            "reasoning.max_tokens",
            f"raised to {_LEAST_BUDGET} tokens, the minimum of this model",
            lossy=True,
        )
        budget = _LEAST_BUDGET
    limit = request.max_output_tokens
    if limit is not None and budget >= limit:
        if limit <= _LEAST_BUDGET:
            why = f"this model reasons with at least {_LEAST_BUDGET} tokens, and max_output_tokens is {limit}; ignored"
            warnings.add("unsupported", "reasoning", why, lossy=True)
            return {}
        warnings.add(
            "changed", "reasoning", f"its tokens were lowered to {limit - 1}, below max_output_tokens", lossy=True
        )
        budget = limit - 1
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _adaptive(
    options: ReasoningOptions, facts: BedrockFacts, warnings: Warnings
) -> tuple[dict[str, Any], dict[str, Any]]:
    effort = options.effort
    if effort == "none" and facts.reasoning_off is not None:
        return {"thinking": {"type": facts.reasoning_off}}, {}
    thinking: dict[str, Any] = {"type": "adaptive"}
    if options.summary is not None:
        thinking["display"] = "summarized"
        if options.summary != "auto":
            warnings.add("changed", "reasoning.summary", "this model has one kind of summary only", lossy=True)
    if effort is None or not facts.efforts:
        return {"thinking": thinking}, {}
    return {"thinking": thinking}, {"outputConfig": {"effort": _level(effort, facts, warnings)}}


def _by_effort(effort: str, facts: BedrockFacts, warnings: Warnings) -> dict[str, Any]:
    if effort == "none" and facts.reasoning_off is not None:
        level = facts.reasoning_off
    elif not facts.efforts:
        warnings.add("unsupported", "reasoning.effort", "this model has no reasoning levels; ignored", lossy=True)
        return {}
    else:
        level = _level(effort, facts, warnings)
    if facts.reasoning == "reasoningConfig":
        if level == facts.reasoning_off:
            return {"reasoningConfig": {"type": level}}
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": level}}
    if facts.reasoning == "reasoning.effort":
        return {"reasoning": {"effort": level}}
    return {"reasoning_config" if facts.reasoning == "reasoning_config" else "reasoning_effort": level}


def _level(effort: str, facts: BedrockFacts, warnings: Warnings) -> str:
    """Return the model's level for an effort: the same level, else the next higher level, else the highest level.

    The nearest level would be wrong, since some models, such as Qwen's, do not reason at their lower levels.
    """
    if effort == "none":
        level: str = facts.efforts[0]
        why = f"the reasoning of this model cannot be turned off; {level!r} was sent"
        warnings.add("changed", "reasoning.effort", why, lossy=True)
        return level
    wanted = _ORDER.index(effort)
    level = next((one for one in facts.efforts if _ORDER.index(one) >= wanted), facts.efforts[-1])
    if level != effort:
        warnings.add(
            "changed",
            "reasoning.effort",
            f"this model has no effort {effort!r}; {level!r} was sent",
            lossy=changes_effort(effort),
        )
    return level
