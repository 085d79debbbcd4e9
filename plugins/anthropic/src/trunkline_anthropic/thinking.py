"""How much the model may think, and how long its answer may be. Pure.

The two depend on each other: thinking counts as output, and its budget must be below the output limit.
"""

from __future__ import annotations

from typing import Any

from trunkline.authoring.warnings import Warnings, changes_effort, nearest_effort
from trunkline.request import ChatRequest, ReasoningOptions

from trunkline_anthropic.model_facts import AnthropicFacts, Thinking

OUTPUT_TOKENS = 8192
"""The output limit, in tokens, if neither the request nor the settings have one. The API requires one on each call."""

THINKING_OUTPUT_TOKENS = 20_480
"""The same for a model that decides itself how much it thinks, since thinking counts as output."""

LEAST_BUDGET = 1024
"""The smallest thinking budget, in tokens, that the API accepts."""

_OFF: tuple[Thinking, ...] = ("disabled", "between_tools")
"""The types that turn thinking off. The first type that the model supports is used."""

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 6144, "high": 12_288, "xhigh": 12_288, "max": 12_288}
"""The budget in tokens for each effort, for models that only accept budgets.

With the answer it stays below 21,333 tokens, above which Anthropic's own clients refuse calls that are not streamed.
"""


def set_thinking(
    request: ChatRequest,
    facts: AnthropicFacts,
    body: dict[str, Any],
    warnings: Warnings,
    *,
    interleaved: bool = False,
    capped: bool = True,
    lacks_thinking: bool = False,
) -> None:
    """Add `thinking`, `output_config.effort` and `max_tokens` to the body, which already has its messages and tools.

    `interleaved` is whether a beta lets the model think between tool calls; the budget may then exceed the output
    limit. `capped` is whether the output limit is lowered to the model's maximum, which a beta can extend.
    `lacks_thinking` is whether the answer continues a tool loop that began without thinking.
    """
    options = request.reasoning or ReasoningOptions()
    kind = _kind(options, facts, warnings)
    limit = _limit(request.max_output_tokens, facts, warnings) if capped else request.max_output_tokens
    budget = 0
    if kind == "enabled":
        budget = _budget(options, limit, warnings, capped=not (interleaved and "tools" in body))
        kind = _allowed(kind if budget else None, facts, body, warnings, lacks_thinking=lacks_thinking)
    elif _forces(body) and facts.forced_tools == "without_thinking" and (kind == "adaptive" or facts.thinks):
        kind = _off(facts)
        if options.effort != "none":
            why = "this model cannot be forced to call a tool while it thinks; the tool was forced, without thinking"
            warnings.add("changed", "reasoning", why, lossy=request.reasoning is not None)
    if kind is not None:
        body["thinking"] = _config(kind, budget, options, warnings)
    if kind in ("enabled", "adaptive") and (effort := _effort(options.effort, kind, facts, warnings)):
        body["output_config"] = {"effort": effort}
    body["max_tokens"] = limit if limit is not None else _default_limit(kind, budget, facts)


def _off(facts: AnthropicFacts) -> Thinking | None:
    """Return the type that turns the model's thinking off, if it has one."""
    return next((kind for kind in _OFF if kind in facts.thinking), None)


def _forces(body: dict[str, Any]) -> bool:
    return body.get("tool_choice", {}).get("type") in ("any", "tool")


def _kind(options: ReasoningOptions, facts: AnthropicFacts, warnings: Warnings) -> Thinking | None:
    if options.effort == "none":
        off = _off(facts)
        if off is not None or not facts.thinking:
            return off or "disabled"
        warnings.add("changed", "reasoning.effort", "this model always thinks; sent as low effort", lossy=True)
        return "adaptive"
    if options.effort is None and options.max_tokens is None and options.summary is None:
        return None
    if not facts.thinking:
        warnings.add("unsupported", "reasoning", "this model does not think; ignored", lossy=True)
        return None
    if options.max_tokens is not None and "enabled" in facts.thinking:
        if options.effort is not None and not facts.efforts:
            warnings.add(
                "changed",
                "reasoning.effort",
                "this model accepts only a budget; reasoning.max_tokens was sent",
                lossy=False,
            )
        return "enabled"
    if "adaptive" in facts.thinking:
        if options.max_tokens is not None:
            why = "this model accepts no budget, since it decides itself how much it thinks; use effort"
            warnings.add("changed", "reasoning.max_tokens", why, lossy=True)
        return "adaptive"
    if options.effort is not None:
        warnings.add(
            "emulated",
            "reasoning.effort",
            "this model accepts only a budget; one that matches the effort was sent",
            lossy=False,
        )
        return "enabled"
    warnings.add(
        "unsupported", "reasoning.summary", "this model only thinks with a budget; set max_tokens or effort", lossy=True
    )
    return None


def _budget(options: ReasoningOptions, limit: int | None, warnings: Warnings, *, capped: bool) -> int:
    """Return the thinking budget, or 0 if the output limit leaves no room for one."""
    budget = options.max_tokens if options.max_tokens is not None else BUDGETS[options.effort or "medium"]
    if budget < LEAST_BUDGET:
        warnings.add(
            "changed",
            "reasoning.max_tokens",
            f"raised to {LEAST_BUDGET} tokens, the smallest thinking budget",
            lossy=True,
        )
        budget = LEAST_BUDGET
    if limit is None or budget < limit or not capped:
        return budget
    if limit <= LEAST_BUDGET:
        why = f"an output limit of {limit} tokens leaves no room for thinking, which was not requested"
        warnings.add("changed", "reasoning", why, lossy=True)
        return 0
    budget = max(LEAST_BUDGET, limit // 2)
    why = f"thinking counts as output; its budget was lowered to {budget} tokens, below the output limit"
    warnings.add("changed", "reasoning.max_tokens", why, lossy=True)
    return budget


def _allowed(
    kind: Thinking | None, facts: AnthropicFacts, body: dict[str, Any], warnings: Warnings, *, lacks_thinking: bool
) -> Thinking | None:
    """Turn thinking off if the API would refuse it: with a forced tool, and in a tool loop that began without thinking.

    If the model thinks with a budget, the API requires a tool loop to begin with signed thinking. Later calls in the
    loop need no thinking, since thinking between calls needs a beta.
    (platform.claude.com, build-with-claude/extended-thinking, toggling thinking modes in conversations; 2026-11)
    """
    if kind is None:
        return None
    off = _off(facts)
    if _forces(body):
        why = "the API cannot force a tool while the model thinks with a budget; the tool was forced, without thinking"
        warnings.add("changed", "reasoning", why, lossy=True)
        return off
    if lacks_thinking:
        why = "the answer with these tool calls began without this provider's thinking, so thinking was turned off"
        warnings.mended("reasoning", why)
        return off
    return kind


def _config(kind: Thinking, budget: int, options: ReasoningOptions, warnings: Warnings) -> dict[str, Any]:
    config: dict[str, Any] = {"type": kind}
    if kind == "enabled":
        config["budget_tokens"] = budget
    if kind not in _OFF and options.summary is not None:
        config["display"] = "summarized"
        if options.summary != "auto":
            warnings.add("changed", "reasoning.summary", "the API has summaries of one length only", lossy=True)
    return config


def _effort(effort: str | None, kind: Thinking, facts: AnthropicFacts, warnings: Warnings) -> str | None:
    if effort is None:
        return None
    if not facts.efforts:
        if kind == "adaptive":
            warnings.add("unsupported", "reasoning.effort", "this model has no levels of effort; ignored", lossy=True)
        return None
    wanted = nearest_effort(effort, facts.efforts)
    if wanted != effort and effort != "none":
        warnings.add(
            "changed",
            "reasoning.effort",
            f"this model has no effort {effort!r}; {wanted!r} was sent",
            lossy=changes_effort(effort),
        )
    return wanted


def _limit(limit: int | None, facts: AnthropicFacts, warnings: Warnings) -> int | None:
    if limit is None or facts.output_tokens is None or limit <= facts.output_tokens:
        return limit
    why = f"the model writes at most {facts.output_tokens} tokens; the limit was lowered to {facts.output_tokens}"
    # The model cannot write more, so the application loses nothing.
    warnings.add("changed", "max_output_tokens", why, lossy=False)
    return facts.output_tokens


def _default_limit(kind: Thinking | None, budget: int, facts: AnthropicFacts) -> int:
    if kind == "enabled":
        return budget + OUTPUT_TOKENS
    if kind == "adaptive" or (facts.thinks and kind is None):
        return THINKING_OUTPUT_TOKENS
    return min(OUTPUT_TOKENS, facts.output_tokens or OUTPUT_TOKENS)
