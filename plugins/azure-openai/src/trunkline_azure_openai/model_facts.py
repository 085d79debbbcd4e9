"""Tables of what the models of a resource accept. Some of OpenAI's models accept other values on Azure.

A deployment can have any name. The name is looked up in the table from the point where a known model's name begins:
`team-gpt-5-mini-eu` is a `gpt-5-mini`. Patterns of the setting `model_facts` may match the deployment's name or the
model's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs
from trunkline.authoring.model_facts import FactOverrides, ModelRow, facts_about
from trunkline_openai.compatible_models import GROK
from trunkline_openai.model_facts import OPENAI_MODELS, ModelFacts, Rows

_NAME = re.compile(
    r"(?<![a-z0-9])(gpt-?oss|gpt-?\d|gpt-chat|chatgpt|o[1-9](?![a-z0-9.])|codex-mini|computer-use|deepseek|mai-ds|mistral|"
    r"ministral|codestral|devstral|magistral|pixtral|phi-?\d|llama|grok|kimi|command|jamba|claude|qwen|glm|minimax)",
)
# `gpt5-mini` means `gpt-5-mini`; `gpt-5-1` and `gpt51` mean `gpt-5.1`.
_JOINED = re.compile(r"^gpt(?=\d)")
_DASHED = re.compile(r"^gpt-([4-9])-?(\d)(?=-|$)")
# `gpt5mini` means `gpt-5-mini`; `o3mini` means `o3-mini`.
_WORDS = re.compile(r"(gpt-?[4-9](?:[-.]?[1-9])?|(?<![a-z0-9])o[1-9])(?=mini|nano|pro|chat|codex|turbo|preview|deep)")


def model_of(deployment: str) -> str:
    """Return the model's name in a deployment's name, or the whole name if no model is recognised."""
    name = deployment.rpartition("/")[2].lower()
    plain = _WORDS.sub(r"\1-", name.replace("_", "-"))
    found = _NAME.search(plain)
    if found is None:
        return name
    return _DASHED.sub(r"gpt-\1.\2", _JOINED.sub("gpt-", plain[found.start() :]))


def facts_of(deployment: str, rows: Sequence[ModelRow[ModelFacts]], overrides: FactOverrides) -> ModelFacts:
    """The facts about the model of a deployment."""
    return facts_about(deployment, rows, ModelFacts(), overrides, known_as=model_of(deployment))


_MAP = "model_prices_and_context_window_backup.json of litellm 1.110.2, azure/ rows, 2026-11"
_NEWEST = next(row.facts for row in OPENAI_MODELS if row.pattern == "gpt-6*")
_MISTRAL = ModelFacts(
    family="mistral",
    max_tokens_field="max_tokens",
    stream_options=False,
    # The rules of Mistral's API: see the profile `mistral` in trunkline_openai.profile.
    call_id_pattern=r"[A-Za-z0-9]{9}",
    call_id_length=9,
    system_messages="not_after_answer",
    user_after_results=False,
    blank_text=False,
)
_MISTRAL_SOURCE = (
    "https://github.com/pydantic/pydantic-ai/issues/6593, 2026-07 (max_completion_tokens: 422); "
    "https://github.com/BerriAI/litellm/issues/11696, 2025-06 (stream_options: 422)"
)
_DEEPSEEK = ModelFacts(family="deepseek", reasoning_replay="reasoning_content", reasoning_filler=" ")
_DEEPSEEK_SOURCE = "https://github.com/earendil-works/pi/issues/9645, 2026-09"
_RECORDED = "recorded traffic"

AZURE_MODELS: Rows = (
    ModelRow("gpt-6-[ar]*", attrs.evolve(_NEWEST, reasons="always", efforts=("low", "medium", "high", "xhigh")), _MAP),
    ModelRow(
        "gpt-6.1-*", attrs.evolve(_NEWEST, reasons="always", efforts=("low", "medium", "high", "xhigh", "max")), _MAP
    ),
    *OPENAI_MODELS,
    *(
        ModelRow(f"{name}*", _MISTRAL, _MISTRAL_SOURCE)
        for name in ("mistral", "ministral", "codestral", "devstral", "magistral", "pixtral")
    ),
    ModelRow("deepseek-v4*", attrs.evolve(_DEEPSEEK, efforts=("low", "medium", "high")), _DEEPSEEK_SOURCE),
    ModelRow("deepseek*", _DEEPSEEK, _DEEPSEEK_SOURCE),
    # The server accepts a tool choice only as a string, so no tool can be named.
    ModelRow("mai-ds*", attrs.evolve(_DEEPSEEK, refuses=frozenset({"tool_choice_named"})), _RECORDED),
    *GROK,
    ModelRow(
        "phi*",
        ModelFacts(family="phi", stream_options=False),
        "https://github.com/Azure-Samples/azure-search-power-skills/pull/214, 2024-10",
    ),
    ModelRow(
        "kimi*",
        ModelFacts(family="kimi", reasoning_replay="reasoning_content", reasoning_filler=" ", blank_text=False),
        "as Moonshot's API: the table KIMI of trunkline_openai.compatible_models",
    ),
    *(
        ModelRow(f"{name}*", ModelFacts(family=name), "the name of the model; every option is sent")
        for name in ("llama", "command", "qwen", "glm", "minimax")
    ),
)
"""The models of Chat Completions, on every surface."""

RESPONSES_MODELS: Rows = (
    # The error: "'reasoning.effort' is not supported with this model".
    ModelRow("deepseek*", attrs.evolve(_DEEPSEEK, efforts=()), _DEEPSEEK_SOURCE),
    *AZURE_MODELS,
)
"""The models of the Responses API."""
