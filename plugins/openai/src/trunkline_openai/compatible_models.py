"""Tables of what other vendors' models accept in Chat Completions, for the profiles of the servers that offer them.

A family has the same rules on every server that calls its vendor's API or uses its chat template. `ANYWHERE` lists the
families that are recognised on an unknown server. `LOCAL` lists the families whose chat templates local servers use.
"""

from __future__ import annotations

import attrs
from trunkline.authoring.model_facts import ModelRow

from trunkline_openai.features import Feature
from trunkline_openai.model_facts import OPENAI_MODELS, ModelFacts, Rows

_NONE: frozenset[Feature] = frozenset()
_FORCED: frozenset[Feature] = frozenset({"tool_choice_required", "tool_choice_named"})
_IGNORED: frozenset[Feature] = frozenset({"temperature", "top_p", "penalties", "logprobs"})


_DEEPSEEK_SOURCE = (
    "https://api-docs.deepseek.com/guides/thinking_mode, 2026-11: sampling has no effect, levels low, high and max; "
    "pydantic_ai/providers/deepseek.py of pydantic-ai 2.68: no forced tool choice, reasoning with each tool call"
)
_DEEPSEEK_THINKS = ModelFacts(
    family="deepseek",
    reasons="default",
    efforts=("none", "low", "high", "max"),
    refuses_while_reasoning=_IGNORED | _FORCED,
    reasoning_off="thinking",
    reasoning_replay="reasoning_content",
    # An empty text is accepted too. deepseek/chat/transformation.py of litellm 1.110.2 also sends a space.
    reasoning_filler=" ",
)

DEEPSEEK: Rows = (
    ModelRow(
        "deepseek-reasoner*",
        attrs.evolve(_DEEPSEEK_THINKS, reasons="always", efforts=("low", "high", "max")),
        _DEEPSEEK_SOURCE,
    ),
    ModelRow("deepseek-v[4-9]*", _DEEPSEEK_THINKS, _DEEPSEEK_SOURCE),
    ModelRow("deepseek-flash*", _DEEPSEEK_THINKS, _DEEPSEEK_SOURCE),
    ModelRow("deepseek*", ModelFacts(family="deepseek"), _DEEPSEEK_SOURCE),
)

_KIMI_SOURCE = (
    "https://platform.kimi.ai/docs/guide/use-thinking-models, 2026-11; pydantic_ai/providers/moonshotai.py of "
    "pydantic-ai 2.68 and moonshot/chat/transformation.py of litellm 1.110.2: fixed sampling, no forced tool choice; "
    "earendil-works/pi#4179, 2026-05: each tool call needs reasoning that is not empty"
)
_KIMI = ModelFacts(family="kimi", refuses=_FORCED, blank_text=False, schemas="moonshot")
_KIMI_THINKS = attrs.evolve(
    _KIMI,
    reasons="always",
    efforts=(),
    refuses=_FORCED | {"temperature", "top_p", "penalties"},
    refuses_while_reasoning=_NONE,
    reasoning_replay="reasoning_content",
    reasoning_filler=" ",
)

KIMI: Rows = (
    ModelRow("kimi-k3*", attrs.evolve(_KIMI_THINKS, efforts=("low", "high", "max")), _KIMI_SOURCE),
    ModelRow(
        "kimi-k2.[56]*",
        attrs.evolve(
            _KIMI_THINKS,
            reasons="default",
            efforts=("none", "low", "medium", "high", "max"),
            reasoning_off="thinking",
        ),
        _KIMI_SOURCE,
    ),
    ModelRow("kimi-k2.[789]*", _KIMI_THINKS, _KIMI_SOURCE),
    ModelRow("kimi*thinking*", attrs.evolve(_KIMI_THINKS, refuses=_FORCED), _KIMI_SOURCE),
    ModelRow("kimi-for-coding*", attrs.evolve(_KIMI_THINKS, reasons="default", refuses=_FORCED), _KIMI_SOURCE),
    ModelRow("kimi*", _KIMI, _KIMI_SOURCE),
    ModelRow("moonshot*", _KIMI, _KIMI_SOURCE),
)

_GEMINI_SOURCE = (
    "https://ai.google.dev/gemini-api/docs/openai and /thought-signatures#openai, 2026-11; "
    "securo-finance/securo#884, 2026-09"
)
_GEMINI_3 = ModelFacts(
    family="gemini-3",
    reasons="always",
    efforts=("minimal", "low", "medium", "high"),
    refuses_while_reasoning=_NONE,
    signed_calls=True,
)

GEMINI: Rows = (
    ModelRow("gemini-[3-9]*", _GEMINI_3, _GEMINI_SOURCE),
    ModelRow(
        "gemini-2.5-pro*",
        attrs.evolve(_GEMINI_3, family="gemini-2.5", signed_calls=False),
        _GEMINI_SOURCE,
    ),
    ModelRow(
        "gemini-2.5*",
        attrs.evolve(
            _GEMINI_3,
            family="gemini-2.5",
            reasons="default",
            efforts=("none", "minimal", "low", "medium", "high"),
            signed_calls=False,
        ),
        _GEMINI_SOURCE,
    ),
    ModelRow("gemini*", ModelFacts(family="gemini"), _GEMINI_SOURCE),
)

_GROK_SOURCE = (
    "https://docs.x.ai/docs/guides/reasoning, 2026-11; langchain-ai/langchain#38335, 2026-06; "
    "pydantic_ai/profiles/grok.py of pydantic-ai 2.68 (levels, verified live)"
)
_GROK_PLAIN = ModelFacts(family="grok", efforts=())
_GROK = attrs.evolve(
    _GROK_PLAIN, reasons="always", refuses=frozenset({"stop", "penalties"}), refuses_while_reasoning=_NONE
)

GROK: Rows = (
    ModelRow("grok*non-reasoning*", _GROK_PLAIN, _GROK_SOURCE),
    ModelRow("grok-3-mini*", attrs.evolve(_GROK, efforts=("low", "high")), _GROK_SOURCE),
    ModelRow("grok-[123]*", _GROK_PLAIN, _GROK_SOURCE),
    ModelRow(
        "grok-4.3*", attrs.evolve(_GROK, reasons="default", efforts=("none", "low", "medium", "high")), _GROK_SOURCE
    ),
    ModelRow(
        "grok-latest", attrs.evolve(_GROK, reasons="default", efforts=("none", "low", "medium", "high")), _GROK_SOURCE
    ),
    ModelRow("grok-4.[56]*", attrs.evolve(_GROK, efforts=("low", "medium", "high")), _GROK_SOURCE),
    ModelRow("grok-build-latest", attrs.evolve(_GROK, efforts=("low", "medium", "high")), _GROK_SOURCE),
    ModelRow("grok-4.[789]*", attrs.evolve(_GROK, efforts=("low", "medium", "high", "xhigh")), _GROK_SOURCE),
    ModelRow("grok*", _GROK, _GROK_SOURCE),
)

_QWEN_SOURCE = (
    "https://help.aliyun.com/en/model-studio/deep-thinking, 2026-11; "
    "https://www.alibabacloud.com/help/en/model-studio/error-code, 2026-11: no forced tool choice in thinking mode"
)
_QWEN = ModelFacts(family="qwen", reasons="default", refuses_while_reasoning=_FORCED, reasoning_off="enable_thinking")

QWEN: Rows = (
    ModelRow("qwq*", attrs.evolve(_QWEN, reasons="always"), _QWEN_SOURCE),
    ModelRow("qwen*thinking*", attrs.evolve(_QWEN, reasons="always"), _QWEN_SOURCE),
    ModelRow("qwen*instruct*", ModelFacts(family="qwen"), _QWEN_SOURCE),
    ModelRow("qwen*coder*", ModelFacts(family="qwen"), _QWEN_SOURCE),
    ModelRow("qwen[3-9]*", _QWEN, _QWEN_SOURCE),
    ModelRow("qwen-[34]*", _QWEN, _QWEN_SOURCE),
    ModelRow("qwen*", attrs.evolve(_QWEN, reasons="opt_in"), _QWEN_SOURCE),
    *DEEPSEEK,
    *KIMI,
)
"""The models of Alibaba's Model Studio (DashScope)."""

_GLM_SOURCE = (
    "https://docs.z.ai/guides/capabilities/thinking-mode, 2026-11; pydantic_ai/profiles/zai.py of pydantic-ai 2.68"
)
_GLM = ModelFacts(family="glm", reasons="default", refuses_while_reasoning=_NONE, reasoning_off="thinking")

GLM: Rows = (
    ModelRow("glm-5.3*", attrs.evolve(_GLM, reasons="always", efforts=("low", "high", "max")), _GLM_SOURCE),
    ModelRow("glm-5.2*", _GLM, _GLM_SOURCE),
    ModelRow("glm-5*", attrs.evolve(_GLM, refuses=frozenset({"reasoning_effort"})), _GLM_SOURCE),
    ModelRow("glm-4.[5-9]*", attrs.evolve(_GLM, refuses=frozenset({"reasoning_effort"})), _GLM_SOURCE),
    ModelRow("glm*", ModelFacts(family="glm", efforts=()), _GLM_SOURCE),
)

_GPT_OSS_SOURCE = (
    "https://console.groq.com/docs/reasoning and https://inference-docs.cerebras.ai/capabilities/reasoning, 2026-11"
)
_GPT_OSS = ModelFacts(
    family="gpt-oss", reasons="always", efforts=("low", "medium", "high"), refuses_while_reasoning=_NONE
)

GPT_OSS: Rows = (ModelRow("gpt-oss*", _GPT_OSS, _GPT_OSS_SOURCE),)

GROQ: Rows = (
    *GPT_OSS,
    # Reasoning is on or off; other levels are refused.
    ModelRow(
        "qwen3*",
        ModelFacts(
            family="qwen",
            reasons="default",
            refuses=frozenset({"reasoning_effort"}),
            refuses_while_reasoning=_NONE,
        ),
        _GPT_OSS_SOURCE,
    ),
    ModelRow("*", ModelFacts(efforts=()), _GPT_OSS_SOURCE),
)

_TEMPLATES = (
    "the chat templates of the models: ggml-org/llama.cpp#19851, 2026-02; "
    "joshuadavidthomas/opencode-agent-memory#11, 2026-04"
)
_NINE = (
    "'Tool call id was … but must be a-z, A-Z, 0-9, with a length of 9', on servers with Mistral's templates: "
    "vllm-project/vllm#10821, 2024-12; ml-explore/mlx-lm#1375 and jundot/omlx#1997, 2026-06; "
    "src/api/providers/openrouter.ts of RooCodeInc/Roo-Code, 2026-01"
)
_MISTRAL_IDS = ModelFacts(family="mistral", call_id_pattern=r"[A-Za-z0-9]{9}", call_id_length=9)
_MISTRAL = attrs.evolve(_MISTRAL_IDS, system_messages="first", alternates=True)
_MISTRAL_NAMES = ("mistral", "ministral", "mixtral", "devstral", "magistral", "codestral", "pixtral")

_LOCAL_TEMPLATES: Rows = (
    ModelRow(
        "qwen*",
        ModelFacts(family="qwen", system_messages="first", starts_with_user=True),
        _TEMPLATES,
    ),
    *(ModelRow(f"{name}*", _MISTRAL, f"{_TEMPLATES}; {_NINE}") for name in _MISTRAL_NAMES),
    ModelRow("gemma*", ModelFacts(family="gemma", system_messages="first", alternates=True), _TEMPLATES),
)

_PROXIED = (
    "gateways pass on OpenAI's refusals: BerriAI/litellm#13381, 2025-08 (max_tokens); MacRimi/ProxMenux#274, 2026-08 "
    "(temperature)"
)

LOCAL: Rows = (*_LOCAL_TEMPLATES, *GPT_OSS)
"""The models of local servers, with the rules of their chat templates."""

# Only OpenAI's own API refuses tools while a model reasons. A gateway may call a different API.
_OPENAI = tuple(
    attrs.evolve(row, facts=attrs.evolve(row.facts, tools_while_reasoning=True), source=f"{row.source}; {_PROXIED}")
    for row in OPENAI_MODELS
)

ANYWHERE: Rows = (*DEEPSEEK, *KIMI, *GEMINI, *GROK, *LOCAL, *_OPENAI)
"""The models that are recognised by name on any server."""

_OPENROUTER_SOURCE = (
    "https://openrouter.ai/docs/use-cases/reasoning-tokens, 2026-11; RooCodeInc/Roo-Code#10759, 2026-01"
)

OPENROUTER: Rows = (
    ModelRow("gemini-[3-9]*", ModelFacts(family="gemini-3", signed_calls=True), _OPENROUTER_SOURCE),
    *(
        ModelRow(
            f"{name}*",
            # OpenRouter calls Mistral's API: see the profile `mistral`.
            attrs.evolve(_MISTRAL_IDS, system_messages="not_after_answer", user_after_results=False),
            f"{_OPENROUTER_SOURCE}; {_NINE}",
        )
        for name in _MISTRAL_NAMES
    ),
    *(
        ModelRow(f"{name}*", ModelFacts(family=family), _OPENROUTER_SOURCE)
        for name, family in (
            ("gemini", "gemini"),
            ("claude", "claude"),
            ("gpt-oss", "gpt-oss"),
            ("gpt", "gpt"),
            ("o[1-9]", "gpt"),
            ("grok", "grok"),
            ("deepseek", "deepseek"),
            ("kimi", "kimi"),
            ("qwen", "qwen"),
            ("glm", "glm"),
            ("minimax", "minimax"),
        )
    ),
)
"""OpenRouter removes parameters that a model refuses. Model families do not accept each other's reasoning."""
