"""A table of the features that models on Ollama support. The setting `model_facts` overrides it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import attrs
from trunkline.authoring.model_facts import rows_for

Level: TypeAlias = Literal["low", "medium", "high", "max"]


@attrs.frozen(kw_only=True)
class OllamaFacts:
    """The features that a model supports.

    - `thinking`: whether the model can think. The server refuses `think` for other models.
    - `thinking_levels`: the levels of thinking, lowest first. A model without levels accepts only `true` and `false`.
    - `thinking_off`: whether thinking can be switched off.
    - `tools`: whether the model can call tools. The server refuses tools for other models.
    """

    thinking: bool = True
    thinking_levels: tuple[Level, ...] = ("low", "medium", "high", "max")
    thinking_off: bool = True
    tools: bool = True


UNKNOWN = OllamaFacts()
"""Facts for a model that is not in the table: every option is sent."""

_SWITCHED = OllamaFacts(thinking_levels=())
_SILENT = OllamaFacts(thinking=False, thinking_levels=())
_PLAIN = OllamaFacts(thinking=False, thinking_levels=(), tools=False)

# "think value … is not supported for this model": servers until early 2026 accept levels only for gpt-oss. For models
# without levels, later servers read a level as `true`.
_LEVELS = "ollama/ollama issue 12561 (October 2025); server/routes.go"
# "… does not support thinking"
_NO_THINKING = (
    "ollama/ollama issue 11439, Gitlawb/openclaude issue 1371, charmbracelet/crush issue 2623 (July 2025 to May 2026)"
)
# "… does not support tools"
_NO_TOOLS = "the capabilities on ollama.com/library, November 2026"


ROWS = (
    *rows_for(OllamaFacts(thinking_levels=("low", "medium", "high"), thinking_off=False), _LEVELS, "gpt-oss*"),
    *rows_for(_SILENT, _NO_THINKING, "qwen3-coder*", "qwen2*", "llama3*", "mixtral*", "command-r", "command-r-*"),
    *rows_for(_SILENT, _NO_THINKING, "mistral", "mistral-nemo*", "mistral-small", "mistral-small3*", "mistral-large"),
    *rows_for(_PLAIN, _NO_TOOLS, "gemma2*", "gemma3*", "llama2*", "llava*", "phi3*", "codellama*", "deepseek-coder*"),
    *rows_for(_SWITCHED, _LEVELS, "qwen3*", "deepseek-r1*", "deepseek-v3*", "magistral*", "granite*", "cogito*"),
    *rows_for(_SWITCHED, _LEVELS, "smollm3*", "gemma4*", "glm-4*", "nemotron*"),
)
"""The facts of each model family. The first row whose pattern matches the family (see `family_of`) wins."""


def family_of(model: str) -> str:
    """Return the family of a model: its name without the registry, the namespace and the tag, in lower case.

    A model's template inserts earlier thinking as text. Another family's template uses another form.
    """
    return model.rpartition("/")[2].partition(":")[0].lower()
