"""Tables of what models accept in OpenAI's APIs: reasoning, levels of effort, and parameters.

A profile describes a server. `Profile.models` is the table of its models. The setting `model_facts` overrides the
table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import attrs
from trunkline.authoring.model_facts import FactOverrides, ModelRow, facts_about, rows_for
from trunkline.authoring.warnings import Warnings, changes_effort, nearest_effort
from trunkline.request import ReasoningOptions

from trunkline_openai.features import SAMPLING, Effort, Feature, ReasoningOff, Reasons, SchemaRules


def check_pattern(_: object, __: object, value: str | None) -> None:
    """Raise `ValueError`, with what is accepted, if the value is not a regular expression."""
    try:
        re.compile(value or "")
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from None


def check_length(_: object, __: object, value: int | None) -> None:
    """Raise `ValueError`, with what is accepted, if the value is not a possible length."""
    if value is not None and value < 1:
        raise ValueError("at least 1")


@attrs.frozen(kw_only=True)
class ModelFacts:
    """What one model accepts.

    - `family`: models of one family accept each other's reasoning. `None` if the model is not known.
    - `reasons`: whether the model reasons `always`, by `default` unless the effort is `none`, only if an effort is
      requested (`opt_in`), or `never`.
    - `refuses_while_reasoning`: features that the model refuses, or ignores, while it reasons.
    - `reasoning_off`: how a request turns reasoning off.
    - `efforts`: the levels of effort that the model accepts; empty if it refuses the parameter; `None` if not known.
    - `refuses`: features that the server supports, but this model refuses.
    - `max_tokens_field`: the field for the output limit, if the model accepts only one of the two.
    - `stream_options`: whether the model accepts the field `stream_options`.
    - `reasoning_replay`: the field for reasoning from the history, if the server's other models accept none.
    - `cache`: what the model accepts to control its prompt cache: `prompt_cache_breakpoint` (`breakpoints`),
      `prompt_cache_retention` (`retention`), or nothing.
    - `tools_while_reasoning`: whether the model may call tools while it reasons, in Chat Completions.

    The other facts override the profile for this model:

    - `reasoning_filler`: the placeholder for missing reasoning, if the model refuses tool calls without reasoning.
    - `signed_calls`: whether the model refuses tool calls without Gemini's signature.
    - `system_messages`: where system messages may stand.
    - `starts_with_user`: whether the first message after any system messages must be a user message.
    - `user_after_results`: whether a user message may follow tool results.
    - `alternates`: whether user and assistant messages must alternate.
    - `blank_text`: whether a text may be blank.
    - `call_id_pattern`: the pattern of tool call ids that the model accepts.
    - `call_id_length`: the length of a replacement id, in characters.
    - `schemas`: the tool schemas that the model accepts: `any`, Moonshot's subset (`moonshot`), or schemas that
      llama.cpp can turn into a `grammar`.
    """

    family: str | None = None
    reasons: Reasons = "never"
    efforts: tuple[Effort, ...] | None = None
    refuses: frozenset[Feature] = frozenset()
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    stream_options: bool = True
    reasoning_replay: str | None = None
    cache: Literal["breakpoints", "retention"] | None = None
    tools_while_reasoning: bool = True
    refuses_while_reasoning: frozenset[Feature] = SAMPLING
    reasoning_off: ReasoningOff = "reasoning_effort"
    reasoning_filler: str | None = None
    signed_calls: bool | None = None
    system_messages: Literal["anywhere", "first", "not_after_answer"] | None = None
    starts_with_user: bool | None = None
    user_after_results: bool | None = None
    alternates: bool | None = None
    blank_text: bool | None = None
    call_id_pattern: str | None = attrs.field(
        default=None, validator=check_pattern, metadata={"schema": {"format": "regex"}}
    )
    call_id_length: int | None = attrs.field(default=None, validator=check_length, metadata={"schema": {"minimum": 1}})
    schemas: SchemaRules | None = None

    def is_reasoning(self, effort: str | None) -> bool:
        """Whether the model reasons if the request has this effort."""
        if self.reasons == "default":
            return effort != "none"
        return self.reasons == "always" or (self.reasons == "opt_in" and effort not in (None, "none"))


Rows = tuple[ModelRow[ModelFacts], ...]

_POINT = re.compile(r"(?<=\d)p(?=\d)")


def facts_of(model: str, rows: Sequence[ModelRow[ModelFacts]], overrides: FactOverrides) -> ModelFacts:
    """The facts about a model. The vendor (`openai/` in `openai/o3`) and the prefix of tuned models are ignored."""
    # Fireworks writes `kimi-k2p6` for `kimi-k2.6`.
    name = _POINT.sub(".", model.rpartition("/")[2].lower().removeprefix("ft:"))
    return facts_about(model, rows, ModelFacts(), overrides, known_as=name)


def accepted_effort(options: ReasoningOptions | None, facts: ModelFacts, model: str, warnings: Warnings) -> str | None:
    """The nearest effort that the model accepts. Adds a warning if it differs from the requested effort."""
    wanted = options.effort if options is not None else None
    if wanted is None or facts.efforts is None or wanted in facts.efforts:
        return wanted
    if not facts.efforts:
        if wanted != "none" or facts.reasons != "never":
            why = f"{model} does not accept a reasoning effort; ignored"
            warnings.add("unsupported", "reasoning.effort", why, lossy=changes_effort(wanted))
        return None
    found = nearest_effort(wanted, facts.efforts)
    why = f"{model} does not accept {wanted!r}; {found!r} was sent"
    warnings.add("changed", "reasoning.effort", why, lossy=changes_effort(wanted))
    return found


_LIVE = "cells verified with the live API in 2026-07 and 2026-10, in pydantic-ai 2.68, pydantic_ai/profiles/openai.py"
_MAP = "model_prices_and_context_window_backup.json of litellm 1.110.2, 2026-11"
_DOCS = "https://platform.openai.com/docs/guides/reasoning, 2026-11"
_RETENTION = (
    "prompt_cache_retention: developers.openai.com/api/docs/guides/prompt-caching, 2026-11; other models refuse it "
    "(home-assistant/core#161256, 2026-01)"
)
_NO_PARALLEL = "no parallel calls: https://learn.microsoft.com/azure/ai-services/openai/how-to/reasoning, 2026-11"

_REASONING = ModelFacts(
    family="gpt",
    reasons="always",
    efforts=("low", "medium", "high"),
    max_tokens_field="max_completion_tokens",
)
_OPT_IN = attrs.evolve(_REASONING, reasons="opt_in", efforts=("none", "low", "medium", "high", "xhigh"))
_DEFAULT = attrs.evolve(_OPT_IN, reasons="default")
_NEWEST = attrs.evolve(
    _DEFAULT,
    efforts=("none", "low", "medium", "high", "xhigh", "max"),
    tools_while_reasoning=False,
    # https://developers.openai.com/api/docs/guides/prompt-caching, 2026-11: GPT-5.6 and newer
    cache="breakpoints",
)
_PRO = attrs.evolve(_REASONING, efforts=("medium", "high", "xhigh"))
_FIXED = attrs.evolve(_REASONING, efforts=("medium",))
_O_SERIES = attrs.evolve(_REASONING, refuses=frozenset({"parallel_tool_calls"}))
_NEVER = ModelFacts(family="gpt", efforts=())
_SEARCHES = frozenset[Feature]((*SAMPLING, "seed", "parallel_tool_calls"))
_SEARCH_SOURCE = (
    "'Model incompatible request argument supplied': vercel/ai#5609, 2025-04; ChatGPTNextWeb/NextChat#6569, 2025-07; "
    "GPT-5: gpt_5_transformation.py of litellm 1.110.2, 2026-11"
)


OPENAI_MODELS: Rows = (
    ModelRow(
        "gpt-oss*",
        attrs.evolve(_REASONING, family="gpt-oss", max_tokens_field=None, refuses_while_reasoning=frozenset()),
        f"{_DOCS}; no refusals: the places that serve it, such as docs.aws.amazon.com/bedrock, OpenAI models, 2026-11",
    ),
    ModelRow("gpt-4o*-search*", attrs.evolve(_NEVER, refuses=_SEARCHES), _SEARCH_SOURCE),
    ModelRow(
        "gpt-5*-search*",
        attrs.evolve(_NEVER, refuses=_SEARCHES | {"tools"}, max_tokens_field="max_completion_tokens"),
        _SEARCH_SOURCE,
    ),
    ModelRow("gpt-5-chat*", attrs.evolve(_NEVER, max_tokens_field="max_completion_tokens"), _LIVE),
    ModelRow("gpt-5.[123]*-chat*", _FIXED, _LIVE),
    ModelRow("chat-latest", _FIXED, _MAP),
    ModelRow("gpt-chat-latest", _FIXED, _MAP),
    ModelRow(
        "gpt-5.1-codex-max*",
        attrs.evolve(_REASONING, efforts=("low", "medium", "high", "xhigh"), cache="retention"),
        f"{_DOCS}; {_RETENTION}",
    ),
    ModelRow("gpt-5.1-codex*", attrs.evolve(_REASONING, cache="retention"), f"{_LIVE}; {_RETENTION}"),
    ModelRow("gpt-5-codex*", attrs.evolve(_REASONING, cache="retention"), f"{_LIVE}; {_RETENTION}"),
    ModelRow("gpt-5-pro*", attrs.evolve(_REASONING, efforts=("high",)), _LIVE),
    ModelRow("gpt-5.*-pro*", _PRO, _LIVE),
    *rows_for(
        attrs.evolve(_REASONING, efforts=("minimal", "low", "medium", "high"), cache="retention"),
        f"{_LIVE}; {_RETENTION}",
        "gpt-5",
        "gpt-5-20*",
    ),
    ModelRow("gpt-5-*", attrs.evolve(_REASONING, efforts=("minimal", "low", "medium", "high")), _LIVE),
    ModelRow(
        "gpt-5.1*",
        attrs.evolve(_OPT_IN, efforts=("none", "low", "medium", "high"), cache="retention"),
        f"{_LIVE}; efforts: {_MAP}; {_RETENTION}",
    ),
    *rows_for(
        attrs.evolve(_OPT_IN, cache="retention"),
        f"{_LIVE}; efforts: {_MAP}; {_RETENTION}",
        "gpt-5.[24]",
        "gpt-5.[24]-20*",
    ),
    ModelRow("gpt-5.[234]*", _OPT_IN, f"{_LIVE}; efforts: {_MAP}"),
    ModelRow("gpt-5.5*", attrs.evolve(_DEFAULT, cache="retention"), f"{_LIVE}; efforts: {_MAP}; {_RETENTION}"),
    # Tools while reasoning: "use /v1/responses or set reasoning_effort to 'none'", in reports of 2026-07 to 2026-09.
    ModelRow("gpt-5.*", _NEWEST, f"{_LIVE}; efforts: {_MAP}"),
    ModelRow(
        "gpt-6-[ar]*",
        attrs.evolve(_NEWEST, reasons="always", efforts=("low", "medium", "high", "xhigh", "max")),
        f"{_LIVE}; gpt-6-rosalind: {_MAP}",
    ),
    ModelRow(
        "gpt-6.1-sol*",
        attrs.evolve(_NEWEST, reasons="always", efforts=("low", "medium", "high", "xhigh", "max")),
        _LIVE,
    ),
    ModelRow("gpt-6*", _NEWEST, _LIVE),
    ModelRow("gpt-[789]*", attrs.evolve(_NEWEST, efforts=None), "a guess: as GPT-6"),
    ModelRow(
        "o1-mini*", attrs.evolve(_REASONING, efforts=()), "https://github.com/BerriAI/litellm/issues/11819, 2025-06"
    ),
    ModelRow(
        "o1-preview*", attrs.evolve(_REASONING, efforts=()), "https://github.com/crewAIInc/crewAI/issues/1908, 2025-01"
    ),
    ModelRow(
        "o[1-9]-*deep-research*",
        attrs.evolve(_O_SERIES, efforts=("medium",)),
        "https://github.com/anomalyco/opencode/pull/26273, 2026-05 (errors of the live API)",
    ),
    ModelRow("o[1-9]", _O_SERIES, f"{_LIVE}; {_NO_PARALLEL}"),
    ModelRow("o[1-9]-*", _O_SERIES, f"{_LIVE}; {_NO_PARALLEL}"),
    ModelRow("codex-mini*", _REASONING, _MAP),
    ModelRow("computer-use*", attrs.evolve(_REASONING, efforts=None), _MAP),
    ModelRow("gpt-[1234]*", _NEVER, _DOCS),
    ModelRow("chatgpt-4o*", _NEVER, _DOCS),
    ModelRow("gpt-audio*", _NEVER, _MAP),
)
"""OpenAI's models as of November 2026. The first pattern that matches wins."""
