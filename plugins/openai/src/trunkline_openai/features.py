"""Names for the options of Chat Completions that not every server or model supports."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Feature: TypeAlias = Literal[
    "tools",
    "tool_choice_none",
    "tool_choice_required",
    "tool_choice_named",
    "parallel_tool_calls",
    "strict_tools",
    "json_object",
    "json_schema",
    "reasoning_effort",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "penalties",
    "logprobs",
    "metadata",
    "names",
    "refusals",
    "image_url",
    "image_data",
    "audio_data",
    "document_data",
    "document_file_id",
]
"""Features that a server may lack. All servers support messages, `model`, `stream`, an output limit, `temperature`."""

FEATURES: frozenset[str] = frozenset(get_args(Feature))

Reasons: TypeAlias = Literal["always", "default", "opt_in", "never"]
"""When a model reasons: always, unless the effort is `none`, only if an effort is requested, or never."""

Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
"""How much a model reasons, from none to the maximum."""

ReasoningOff: TypeAlias = Literal["reasoning_effort", "thinking", "enable_thinking"]
"""How a request turns reasoning off: `reasoning_effort: "none"`, `thinking: {"type": "disabled"}` or
`enable_thinking: false`."""

SchemaRules: TypeAlias = Literal["any", "moonshot", "grammar"]
"""The tool schemas that a server accepts: any, Moonshot's subset, or schemas that llama.cpp can turn into a grammar."""

SAMPLING: frozenset[Feature] = frozenset({"temperature", "top_p", "penalties", "logprobs", "stop"})
"""The features that OpenAI's models refuse while they reason."""
