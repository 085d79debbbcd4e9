"""A table of the features that each Gemini model supports. The setting `model_facts` overrides it.

Google documents thinking levels and budgets on https://ai.google.dev/gemini-api/docs/thinking. Some rows name reports
by others who tried the API. A model that is not in the table gets the facts `UNKNOWN`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs
from trunkline.authoring.model_facts import FactOverrides, ModelRow, facts_about

Level: TypeAlias = Literal["minimal", "low", "medium", "high", "xhigh"]
"""The values of `thinkingLevel`, from the least thinking to the most."""

REFUSED_KEYWORDS = (
    "$schema",
    "contains",
    "contentSchema",
    "dependentRequired",
    "dependentSchemas",
    "discriminator",
    "else",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "if",
    "maxContains",
    "minContains",
    "multipleOf",
    "not",
    "patternProperties",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
)
"""The keywords of JSON Schema that Gemini does not support, or refuses with status 400.

Sources: the description of `responseJsonSchema` in the API reference, which lists the supported keywords; pydantic-ai
2.68, `profiles/google.py` (November 2026); decolua/9router#3018 and fazer-ai/agents#64 (August 2026).
"""


@attrs.frozen(kw_only=True)
class GeminiFacts:
    """The features that a model supports.

    - `family`: the name of a group of models that accept each other's signatures.
    - `thinking_levels`: the accepted values of `thinkingLevel`; empty if the model uses a budget or does not think.
    - `thinking_budget`: the smallest and the largest `thinkingBudget`, or `None` if the model uses levels or does not
      think.
    - `thinking_off`: whether the model accepts a `thinkingBudget` of 0.
    - `signatures`: the parts of answers in the history that require a signature: no parts (`none`), the first function
      call of each step and all media (`calls`), or also the first part of each answer (`answers`).
    - `ends_with_answer`: whether the last message may be an assistant message.
    - `sampling`: whether the model uses `temperature`, `topP` and `topK`. Other models ignore or refuse these options.
    - `penalties`: whether it accepts `frequencyPenalty` and `presencePenalty`.
    - `logprobs`: whether it accepts `responseLogprobs`.
    - `tools`: whether it accepts function declarations.
    - `json`: whether it accepts `responseMimeType` for JSON.
    - `result_media`: whether tool results may contain images and documents.
    - `system_instruction`: whether it accepts `systemInstruction`.
    - `json_with_tools`: whether it accepts `responseMimeType` for JSON in a request with functions.
    - `refused_keywords`: the keywords of JSON Schema that the model refuses.
    """

    family: str = "gemini-3"
    thinking_levels: tuple[Level, ...] = ()
    thinking_budget: tuple[int, int] | None = None
    thinking_off: bool = False
    signatures: Literal["none", "calls", "answers"] = "calls"
    ends_with_answer: bool = True
    sampling: bool = True
    penalties: bool = True
    logprobs: bool = True
    tools: bool = True
    json: bool = True
    json_with_tools: bool = True
    result_media: bool = True
    system_instruction: bool = True
    refused_keywords: tuple[str, ...] = REFUSED_KEYWORDS


_THREE = GeminiFacts(thinking_levels=("low", "medium", "high"), penalties=False)
_FLASH = attrs.evolve(_THREE, thinking_levels=("minimal", "low", "medium", "high"))
# Since Gemini 3.6 Flash and 3.5 Flash-Lite, sampling parameters are ignored, and a request that ends with a turn of the
# model is refused: https://ai.google.dev/gemini-api/docs/generate-content/whats-new-gemini-3.6;
# Zoo-Code-Org/Zoo-Code#1052, anomalyco/opencode#38924, July 2026; litellm 1.110 (`supports_sampling_params`).
_NEW = attrs.evolve(_THREE, sampling=False, ends_with_answer=False)
_NEW_FLASH = attrs.evolve(_FLASH, sampling=False, ends_with_answer=False)
_FOUR = attrs.evolve(_NEW, family="gemini-4")
# "Function calling with a response mime type: 'application/json' is unsupported": recorded with Gemini 2.5;
# googleapis/python-genai#867, May 2025; analyticalrohit/ai-blog-generator#17, November 2025.
_TWO_FIVE = GeminiFacts(
    family="gemini-2.5",
    thinking_budget=(1, 24576),
    thinking_off=True,
    signatures="none",
    json_with_tools=False,
    result_media=False,
)
_NO_THINKING = attrs.evolve(_TWO_FIVE, thinking_budget=None, thinking_off=False)
_OLD = attrs.evolve(_NO_THINKING, family="gemini-2")
_GEMMA = attrs.evolve(_OLD, family="gemma")
# Models that make pictures do not support function calling.
_PICTURES = attrs.evolve(_THREE, thinking_levels=("low", "high"), signatures="answers", tools=False)

_THINKING = "https://ai.google.dev/gemini-api/docs/thinking, November 2026"
_TABLE = "https://ai.google.dev/gemini-api/docs/generate-content/thinking#thinking-levels, September 2026"
_PYDANTIC = "pydantic-ai 2.68, profiles/google.py, November 2026"
_LITELLM = "litellm 1.110, model_prices_and_context_window.json, November 2026"

ROWS = (
    ModelRow(
        pattern="gemini-4-hydrogen*",
        facts=attrs.evolve(_FOUR, thinking_levels=("low", "medium", "high", "xhigh")),
        source=_LITELLM,
    ),
    ModelRow(pattern="gemini-4*", facts=_FOUR, source=f"{_PYDANTIC}, tried on 2026-10-13"),
    ModelRow(
        pattern="gemini-3.1-flash*-image*",
        facts=attrs.evolve(_PICTURES, thinking_levels=("minimal", "high")),
        source=f"{_PYDANTIC}; router-for-me/CLIProxyAPI#1734, February 2026; maximhq/bifrost#6280, August 2026",
    ),
    ModelRow(
        # The levels of these models are not documented. The first model is based on Gemini 3 Pro, so all have its
        # levels.
        pattern="gemini-3*-image*",
        facts=_PICTURES,
        source=f"googleapis/js-genai#1116, 2025; langchain-ai/langchain-google#1431, December 2025; {_PYDANTIC}",
    ),
    ModelRow(
        pattern="*nano-banana*",
        facts=attrs.evolve(_PICTURES, json=False),
        source=f"{_LITELLM} (`supports_function_calling`, `supports_response_schema`)",
    ),
    ModelRow(
        pattern="gemini-3-pro*",
        facts=attrs.evolve(_THREE, thinking_levels=("low", "high")),
        source=f"{_THINKING}; https://discuss.ai.google.dev/t/112648, 2025",
    ),
    ModelRow(
        pattern="gemini-3.1-pro*", facts=_THREE, source=f"{_THINKING}; vellum-ai/vellum-assistant#32687, May 2026"
    ),
    ModelRow(pattern="gemini-3-flash*", facts=_FLASH, source=_THINKING),
    ModelRow(pattern="gemini-3.1-flash*", facts=_FLASH, source=f"{_TABLE}; maximhq/bifrost#7287, September 2026"),
    ModelRow(pattern="gemini-3.5-flash-lite*", facts=_NEW_FLASH, source=f"{_TABLE}; {_LITELLM}"),
    ModelRow(pattern="gemini-3.5-flash*", facts=_FLASH, source=f"{_TABLE}; withceleste/celeste-python#292, June 2026"),
    ModelRow(pattern="gemini-3.6-flash*", facts=_NEW_FLASH, source=f"{_TABLE}; {_LITELLM}"),
    ModelRow(pattern="gemini-3.[78]-flash*", facts=_NEW, source=f"{_TABLE}; can1357/oh-my-pi#10543, September 2026"),
    ModelRow(pattern="gemini-flash-lite-latest", facts=_NEW_FLASH, source=f"{_LITELLM} (Gemini 3.5 Flash-Lite)"),
    ModelRow(pattern="gemini-pro-latest", facts=_THREE, source=f"{_LITELLM} (Gemini 3.1 Pro)"),
    ModelRow(
        pattern="gemini-2.*-image*",
        facts=attrs.evolve(_NO_THINKING, tools=False, json=False),
        source=f"{_PYDANTIC}, tried on 2026-10-23",
    ),
    ModelRow(pattern="gemini-2.5-*tts*", facts=_NO_THINKING, source=_LITELLM),
    ModelRow(
        pattern="gemini-2.5-pro*",
        facts=attrs.evolve(_TWO_FIVE, thinking_budget=(128, 32768), thinking_off=False),
        source=f"{_THINKING} (a budget from 128 to 32768, no 0)",
    ),
    ModelRow(
        pattern="gemini-2.5-flash-lite*",
        facts=attrs.evolve(_TWO_FIVE, thinking_budget=(512, 24576)),
        source=f"{_THINKING} (a budget from 512 to 24576, or 0)",
    ),
    ModelRow(pattern="gemini-2.5*", facts=_TWO_FIVE, source=f"{_THINKING} (a budget from 0 to 24576)"),
    ModelRow(pattern="gemini-robotics-er-1.5*", facts=_TWO_FIVE, source=_THINKING),
    ModelRow(pattern="gemini-[12]*", facts=_OLD, source=_PYDANTIC),
    ModelRow(pattern="gemini-pro", facts=_OLD, source=_PYDANTIC),
    ModelRow(
        pattern="gemma-[123]*",
        facts=attrs.evolve(_GEMMA, system_instruction=False, tools=False, json=False),
        source=f"{_LITELLM} (`supports_system_messages` of gemma-3-27b-it)",
    ),
    ModelRow(pattern="gemma*", facts=_GEMMA, source=_PYDANTIC),
    # Models that are newer than this table: the limits that Google announced for future models, and the features that
    # all current models support.
    ModelRow(pattern="gemini-*", facts=_NEW, source="anomalyco/opencode#38924, July 2026; bolna-ai/bolna#956, 2026"),
)
"""The first pattern that matches the name of a model wins."""

UNKNOWN = attrs.evolve(_THREE, penalties=True)
"""Facts for a model with an unknown name, such as a tuned model: every option is sent."""


def facts_of(model: str | None, overrides: FactOverrides) -> GeminiFacts:
    """Return the facts about a model. Its name may have a prefix, such as `models/` or `publishers/google/models/`."""
    name = model or ""
    return facts_about(name, ROWS, UNKNOWN, overrides, known_as=name.rpartition("/")[2])
