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
    "cache_key",
    "cache_breakpoints",
    "cache_control",
    "names",
    "refusals",
    "image_url",
    "image_data",
    "audio_data",
    "document_data",
    "document_file_id",
]
"""Features that a server may lack: the words of `Profile.takes`, and those of `refuses` in the setting `model_facts`.

All servers support messages, `model`, `stream`, an output limit and `temperature`. Only models refuse `temperature`.

| feature | what the server accepts |
|---|---|
| `tools` | tools and tool calls |
| `tool_choice_none`, `tool_choice_required`, `tool_choice_named` | a `ToolChoice` of this mode (`tool`) |
| `parallel_tool_calls`, `top_p`, `top_k`, `stop`, `seed`, `logprobs`, `metadata` | the field of a `ChatRequest` |
| `strict_tools` | `Tool.strict` |
| `json_object`, `json_schema` | a `ResponseFormat` of this type |
| `reasoning_effort` | `ReasoningOptions.effort` |
| `cache_key` | `ChatRequest.cache_key`, as `prompt_cache_key` |
| `cache_breakpoints` | OpenAI's `prompt_cache_breakpoint`, for models that have it |
| `cache_control` | Anthropic's `cache_control` on parts |
| `penalties` | `frequency_penalty` and `presence_penalty` |
| `names` | `Message.name` |
| `refusals` | refusals of the model in the history, as such |
| `image_url`, `image_data` | an `Image` with a URL, or with bytes |
| `audio_data` | `Audio` with bytes |
| `document_data`, `document_file_id` | a `Document` with bytes, or with the id of an uploaded file |
"""

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

AnswerSchemas: TypeAlias = Literal["openai", "closed", "grammar"]
"""The schemas of answers that a server enforces: those with every property required, as OpenAI demands, any closed
ones, or those that llama.cpp can turn into a grammar."""

ResponsesFeature: TypeAlias = (
    Feature
    | Literal[
        "store",
        "encrypted_reasoning",
        "reasoning_summary",
        "stream_options",
        "developer_role",
        "document_url",
        "count_tokens",
        "background",
    ]
)
"""Features of the Responses API that a server may lack: the words of `Profile.responses`.

Beside those of `Feature`:

| feature | what the server accepts |
|---|---|
| `store` | `store`, which says whether it keeps the response |
| `encrypted_reasoning` | `include` with `reasoning.encrypted_content` |
| `reasoning_summary` | `ReasoningOptions.summary` |
| `stream_options` | `stream_options` with `include_obfuscation` |
| `developer_role` | messages of the role `developer`; other servers get `system` |
| `document_url` | a `Document` with a URL |
| `count_tokens` | requests to `/responses/input_tokens` |
| `background` | `background`, and requests for a stored response, its stream and its cancellation |
"""

RESPONSES_FEATURES: frozenset[str] = frozenset(name for names in get_args(ResponsesFeature) for name in get_args(names))

OtherOperation: TypeAlias = Literal["rerank", "transcribe", "generate_speech", "generate_images", "moderate"]
"""Operations besides chat and embeddings that a server may have: the words of `Profile.operations`."""

OTHER_OPERATIONS: frozenset[str] = frozenset(get_args(OtherOperation))

SAMPLING: frozenset[Feature] = frozenset({"temperature", "top_p", "penalties", "logprobs", "stop"})
"""The features that OpenAI's models refuse while they reason."""
