"""How much a model should reason, in the fields of its family. Pure."""

from __future__ import annotations

from typing import Any

from trunkline.authoring.warnings import Warnings, changes_effort
from trunkline.request import ChatRequest, ReasoningOptions

from trunkline_bedrock.model_families import Family

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": 32000}
"""The thinking budget in tokens for each effort, for the Claude models that take budgets. Their minimum is 1,024."""

_LEAST_BUDGET = 1024
_ADAPTIVE = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_THREE = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


def reasoning_fields(request: ChatRequest, family: Family, warnings: Warnings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields for `additionalModelRequestFields`, and the fields for the body itself."""
    options = request.reasoning
    if options is None or (options.effort is None and options.max_tokens is None and options.summary is None):
        return {}, {}
    if options.summary is not None and family.reasoning != "adaptive":
        warnings.add("unsupported", "reasoning.summary", "not supported by this model; ignored", lossy=True)
    if family.reasoning is None:
        if options.effort not in (None, "none") or options.max_tokens is not None:
            why = (
                f"models of the family {family.name!r} have no known field for it; ignored; "
                "set additionalModelRequestFields in provider_options"
            )
            warnings.add("unsupported", "reasoning", why, lossy=True)
        return {}, {}
    if family.reasoning in ("budget", "adaptive") and _forces_tool(request) and options.effort != "none":
        warnings.add(
            "unsupported", "reasoning", "this model does not reason while a tool call is forced; ignored", lossy=True
        )
        return {}, {}
    if family.reasoning == "budget":
        return _budget(request, options, warnings), {}
    if options.max_tokens is not None:
        warnings.add(
            "unsupported",
            "reasoning.max_tokens",
            "this model accepts no number of tokens; ignored; use effort",
            lossy=True,
        )
    if family.reasoning == "adaptive":
        return _adaptive(options, warnings)
    return (_by_effort(options, family, warnings), {}) if options.effort is not None else ({}, {})


def thinks(fields: dict[str, Any]) -> bool:
    """Return whether these fields turn Claude's thinking on."""
    thinking = fields.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") != "disabled"


def _forces_tool(request: ChatRequest) -> bool:
    return request.tool_choice is not None and request.tool_choice.mode in ("required", "tool")


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


def _adaptive(options: ReasoningOptions, warnings: Warnings) -> tuple[dict[str, Any], dict[str, Any]]:
    if options.effort == "none":
        return {"thinking": {"type": "disabled"}}, {}
    thinking: dict[str, Any] = {"type": "adaptive"}
    if options.summary is not None:
        thinking["display"] = "summarized"
        if options.summary != "auto":
            warnings.add("changed", "reasoning.summary", "this model has one kind of summary only", lossy=True)
    if options.effort is None:
        return {"thinking": thinking}, {}
    effort = _ADAPTIVE[options.effort]
    _warn_if_changed(options.effort, effort, warnings)
    return {"thinking": thinking}, {"outputConfig": {"effort": effort}}


def _by_effort(options: ReasoningOptions, family: Family, warnings: Warnings) -> dict[str, Any]:
    assert options.effort is not None
    if options.effort == "none":
        if family.reasoning == "nova":
            return {"reasoningConfig": {"type": "disabled"}}
        warnings.add(
            "unsupported", "reasoning.effort", "the reasoning of this model cannot be turned off; ignored", lossy=True
        )
        return {}
    effort = _THREE[options.effort]
    if family.reasoning == "nova":
        _warn_if_changed(options.effort, effort, warnings)
        return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}
    if family.reasoning == "switch":
        effort = "low" if effort == "low" else "high"
        _warn_if_changed(options.effort, effort, warnings)
        return {"reasoning_config": effort}
    _warn_if_changed(options.effort, effort, warnings)
    return {"reasoning_effort": effort}


def _warn_if_changed(wanted: str, sent: str, warnings: Warnings) -> None:
    if wanted != sent:
        warnings.add(
            "changed",
            "reasoning.effort",
            f"this model has no effort {wanted!r}; {sent!r} was sent",
            lossy=changes_effort(wanted),
        )
