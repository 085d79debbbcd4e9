"""A table of the features that each model on Bedrock supports, by name pattern. No model supports all of Converse.

A model that is not in the table (an application inference profile, an imported model) is assumed to support every
feature that has a field in Converse. The setting `model_facts` overrides the table, and can name the model behind an
ARN.

Sources, which the rows of the table refer to by name:

- `converse`: docs.aws.amazon.com/bedrock/latest/userguide/conversation-inference-supported-models-features.html and the
  descriptions in botocore 1.43.117
- `parameters`: docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-*.html, and model cards (November 2026)
- `anthropic`: Anthropic's documentation of models, thinking, forced tools and mid-conversation system messages
  (November 2026)
- `pydantic-ai`: pydantic-ai 2.68.0, `providers/bedrock.py` and `profiles/anthropic.py`, which its authors verified
  with live requests (May to October 2026)
- `langchain-aws`: langchain-aws 1.9.1, `bedrock_converse.py`: models that accept reasoning without a signature
- `strands`: strands-agents 1.62.0, `models/bedrock.py`: models that refuse reasoning ("User messages cannot contain
  reasoning content")
- `litellm`: litellm 1.110.2, its table of models and `converse_transformation.py` (October 2026)
- `cards`: the model cards of docs.aws.amazon.com/bedrock/latest/userguide/model-card-*.html, "Programmatic Access"
  (September and October 2026). Recorded at Mantle: GPT-5.6 at /openai/v1, GPT OSS at /v1
- `recorded`: errors and answers in the recorded exchanges
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal, TypeAlias

import attrs
from trunkline.authoring.model_facts import FactOverrides, ModelRow, facts_about, rows_for

ReasoningStyle: TypeAlias = Literal[
    "budget", "adaptive", "reasoningConfig", "reasoning_effort", "reasoning.effort", "reasoning_config"
]
"""How reasoning is requested: Claude's `thinking` with a budget in tokens, Claude's adaptive `thinking` with an effort,
or a field with an effort."""

API: TypeAlias = Literal["converse", "chat", "responses", "messages"]
"""The APIs that Bedrock has: its own, OpenAI's two, and Anthropic's."""

Effort: TypeAlias = Literal["minimal", "low", "medium", "high", "xhigh", "max"]
Medium: TypeAlias = Literal["image", "document", "video", "audio"]


@attrs.frozen(kw_only=True)
class BedrockFacts:
    """The features that a model supports.

    Endpoints:

    - `api`: the API that the setting `api = "auto"` chooses for the model's own id. Bedrock does not serve the model
      with Converse under this id. The id of an inference profile (`us.…`) means the same model in `bedrock-runtime`,
      which serves it with Converse, so that such an id gets another API only from the setting `model_facts`.
    - `mantle_path`: the path of OpenAI's API at the hosts `bedrock-mantle`, which refuse a model at the other path.

    History:

    - `family`: the name of a group of models that accept each other's reasoning and metadata. An unknown model is the
      only member of its family.
    - `base_model`: the name of the foundation model behind an inference profile or an ARN. The facts of this model
      apply. Only for the setting `model_facts`.
    - `replays`: the reasoning in the history that the model accepts: all reasoning of its family (`all`), only signed
      reasoning (`signed`), or none (`none`).
    - `leading_assistant`: whether a conversation may start with an assistant message.
    - `prefill`: whether a conversation may end with an assistant message, which the model continues.
    - `tool_turns`: whether calls or results may share a message with other content (`mixed`) or not (`alone`).
    - `ids`: the tool call ids that the model accepts: any that Converse accepts (`converse`), only ids without dots and
      colons (`plain`), or only ids of nine letters and digits (`nine`).
    - `system`: where system messages may stand: only before the conversation (`top`), also between messages
      (`anywhere`), or nowhere (`none`).

    Content:

    - `media`: the media that the model can read.
    - `result_media`: the media that a tool result may contain.
    - `s3`: whether media may be `s3://` URLs.
    - `json_results`: whether the model requires tool results as JSON.
    - `result_status`: whether a tool result can be marked as failed.
    - `cache_points`: whether the model accepts cache points.
    - `cache_tools`: whether a cache point may follow the tools.
    - `cache_hour`: whether a cache point may have the lifetime `1h`.

    Parameters:

    - `tools`: whether the model can call tools.
    - `tool_choices`: the calls that a request can force: of any tool (`any`), of a named tool (`tool`).
    - `forbids_tools`: whether Anthropic's `tool_choice` of the type `none` works.
    - `one_call`: whether parallel tool calls can be turned off.
    - `schemas`: whether the model supports strict tools and answers that follow a JSON Schema.
    - `reasoning`: how reasoning is requested; `None` if the way is unknown or the model cannot reason.
    - `efforts`: the levels of reasoning.
    - `bare_efforts`: the levels at which the model accepts no output limit, no temperature and no top_p.
    - `reasoning_off`: the value that turns reasoning off; `None` if reasoning cannot be turned off.
    - `reasons_by_default`: whether the model reasons unless the request turns reasoning off.
    - `sampling`: whether the model accepts temperature, top_p and top_k.
    - `one_of_sampling`: whether temperature and top_p exclude each other.
    - `top_k`: the path of the field for top_k in `additionalModelRequestFields`.
    - `stop_sequences`: the maximum number of stop sequences.
    - `blank_stops`: whether a stop sequence may be blank.
    - `least_output_tokens`: the smallest output limit.
    """

    api: API = "converse"
    mantle_path: Literal["/v1", "/openai/v1"] = "/v1"

    family: str | None = None
    base_model: str | None = None
    replays: Literal["all", "signed", "none"] = "all"
    leading_assistant: bool = False
    prefill: bool = True
    tool_turns: Literal["mixed", "alone"] = "mixed"
    ids: Literal["converse", "plain", "nine"] = "converse"
    system: Literal["top", "anywhere", "none"] = "top"

    media: frozenset[Medium] = frozenset({"image", "document", "video", "audio"})
    result_media: frozenset[Medium] = frozenset({"image", "document", "video"})
    s3: bool = True
    json_results: bool = False
    result_status: bool = True
    cache_points: bool = True
    cache_tools: bool = True
    cache_hour: bool = True

    tools: bool = True
    tool_choices: frozenset[Literal["any", "tool"]] = frozenset({"any", "tool"})
    forbids_tools: bool = False
    one_call: bool = False
    schemas: bool = True
    reasoning: ReasoningStyle | None = None
    efforts: tuple[Effort, ...] = ()
    bare_efforts: tuple[Effort, ...] = ()
    reasoning_off: str | None = None
    reasons_by_default: bool = False
    sampling: bool = True
    one_of_sampling: bool = False
    top_k: tuple[str, ...] | None = None
    stop_sequences: int = 2500
    blank_stops: bool = True
    least_output_tokens: int = 1


UNKNOWN = BedrockFacts(
    # The model behind an ARN may refuse reasoning without a signature (can1357/oh-my-pi#9086, August 2026).
    replays="signed",
)

_ALL: tuple[Effort, ...] = ("low", "medium", "high", "xhigh", "max")
_THREE: tuple[Effort, ...] = ("low", "medium", "high")
_NO_CHOICE: frozenset[Literal["any", "tool"]] = frozenset()
_ANY: frozenset[Literal["any", "tool"]] = frozenset({"any"})
_IMAGE_DOCUMENT: frozenset[Medium] = frozenset({"image", "document"})
_DOCUMENT: frozenset[Medium] = frozenset({"document"})
_IMAGE: frozenset[Medium] = frozenset({"image"})
_NOTHING: frozenset[Medium] = frozenset()

# Claude, from the newest to the oldest

_CLAUDE = BedrockFacts(
    family="claude",
    replays="signed",
    leading_assistant=True,
    prefill=False,
    ids="plain",
    blank_stops=False,
    media=_IMAGE_DOCUMENT,
    result_media=_IMAGE_DOCUMENT,
    s3=False,
    forbids_tools=True,
    one_call=True,
    reasoning="adaptive",
    efforts=_ALL,
    reasoning_off="disabled",
    reasons_by_default=True,
    sampling=False,
)
_CLAUDE_INLINE = attrs.evolve(_CLAUDE, system="anywhere")
_CLAUDE_ALWAYS = attrs.evolve(_CLAUDE_INLINE, reasoning_off=None, schemas=False)
_CLAUDE_4_7 = attrs.evolve(_CLAUDE, reasons_by_default=False)
_CLAUDE_4_6 = attrs.evolve(_CLAUDE_4_7, efforts=(*_THREE, "max"), sampling=True, one_of_sampling=True, top_k=("top_k",))
_CLAUDE_4_5 = attrs.evolve(_CLAUDE_4_6, prefill=True, reasoning="budget", efforts=())
# An hour since January 2026, for Claude 4.5 and newer: aws.amazon.com/about-aws/whats-new/2026/01.
_CLAUDE_4_1 = attrs.evolve(_CLAUDE_4_5, schemas=False, one_call=False, cache_hour=False)
_CLAUDE_4 = attrs.evolve(_CLAUDE_4_1, one_of_sampling=False)
_CLAUDE_3_5 = attrs.evolve(_CLAUDE_4, replays="none", reasoning=None, reasoning_off=None)
_CLAUDE_3 = attrs.evolve(_CLAUDE_3_5, cache_points=False)
_CLAUDE_2 = attrs.evolve(_CLAUDE_3, media=_DOCUMENT, tools=False)

# Models of other vendors

_NOVA = BedrockFacts(
    family="nova",
    replays="none",
    media=frozenset({"image", "document", "video"}),
    # For a PDF or a video in a result, the API answers "extraneous key [toolResult] is not permitted".
    result_media=_IMAGE,
    # userguide/prompt-caching.html (November 2026): the system prompt and messages, for five minutes.
    cache_tools=False,
    cache_hour=False,
    schemas=False,
    top_k=("inferenceConfig", "topK"),
)
_NOVA_2 = attrs.evolve(
    _NOVA,
    family="nova-2",
    reasoning="reasoningConfig",
    efforts=_THREE,
    reasoning_off="disabled",
    bare_efforts=("high",),
)
_OTHER = BedrockFacts(
    replays="none",
    prefill=False,
    media=_IMAGE_DOCUMENT,
    result_media=_IMAGE,
    s3=False,
    cache_points=False,
    tool_choices=_NO_CHOICE,
    schemas=False,
)
_OLD = attrs.evolve(_OTHER, system="none", media=_DOCUMENT, tools=False)
_LLAMA = attrs.evolve(_OTHER, family="llama", tool_turns="alone", media=_DOCUMENT, result_media=_IMAGE_DOCUMENT)
_MISTRAL = attrs.evolve(
    _OTHER,
    family="mistral",
    ids="nine",
    tool_turns="alone",
    media=_DOCUMENT,
    result_media=_DOCUMENT,
    json_results=True,
    tool_choices=_ANY,
    top_k=("top_k",),
)
_MISTRAL_3 = attrs.evolve(_MISTRAL, media=_IMAGE_DOCUMENT, schemas=True)
_COMMAND = attrs.evolve(_OTHER, family="cohere", media=_DOCUMENT, top_k=("k",))
_GPT_OSS = attrs.evolve(
    _OTHER,
    family="gpt-oss",
    replays="all",
    media=_NOTHING,
    result_media=_NOTHING,
    schemas=True,
    reasoning="reasoning_effort",
    efforts=_THREE,
)
_GPT = attrs.evolve(
    _OTHER,
    api="responses",
    mantle_path="/openai/v1",
    family="gpt",
    result_media=_NOTHING,
    reasoning="reasoning.effort",
    efforts=_ALL,
    reasoning_off="none",
    sampling=False,
    stop_sequences=0,
    least_output_tokens=16,
)
_QWEN = attrs.evolve(
    _OTHER,
    family="qwen",
    leading_assistant=True,
    media=_NOTHING,
    result_media=_NOTHING,
    schemas=True,
    reasoning="reasoning_config",
    efforts=("low", "high"),
    reasoning_off="none",
    tool_choices=frozenset({"any", "tool"}),
)
_DEEPSEEK = attrs.evolve(
    _OTHER,
    family="deepseek",
    media=_DOCUMENT,
    result_media=_NOTHING,
    schemas=True,
    reasoning="reasoning_effort",
    efforts=("high",),
    reasoning_off="none",
    stop_sequences=10,
)
_DEEPSEEK_R1 = attrs.evolve(
    _DEEPSEEK, family="deepseek-r1", tools=False, schemas=False, reasoning=None, efforts=(), reasoning_off=None
)
_GLM = attrs.evolve(
    _OTHER,
    family="glm",
    replays="all",
    leading_assistant=True,
    media=_DOCUMENT,
    tool_choices=frozenset({"any", "tool"}),
    schemas=True,
    reasoning="reasoning_effort",
    efforts=("high",),
    reasoning_off="none",
)
_KIMI = attrs.evolve(
    _OTHER,
    family="kimi",
    replays="all",
    leading_assistant=True,
    result_media=_NOTHING,
    tool_choices=frozenset({"any", "tool"}),
    schemas=True,
)
_GROK = attrs.evolve(
    _OTHER,
    api="responses",
    mantle_path="/openai/v1",
    family="grok",
    reasoning="reasoning.effort",
    efforts=("low", "medium", "high", "xhigh"),
    tool_choices=frozenset({"any", "tool"}),
    sampling=False,
    stop_sequences=0,
    least_output_tokens=16,
)


# Under their own ids these models are at bedrock-mantle only, and only at /openai/v1; under the ids of inference
# profiles, GPT-5.6 and newer and Grok are at bedrock-runtime, with Converse too (pydantic-ai#7793, August 2026).
_MANTLE = "cards: bedrock-mantle, /openai/v1"
_NO_FORCING = "anthropic: refuses forced tools and disabled thinking; pydantic-ai, litellm (bedrock)"

ROWS: tuple[ModelRow[BedrockFacts], ...] = (
    ModelRow("*claude-opus-5-5*", attrs.evolve(_CLAUDE_ALWAYS, tool_choices=_NO_CHOICE, schemas=True), _NO_FORCING),
    ModelRow(
        "*claude-sonnet-5-5*",
        attrs.evolve(_CLAUDE_INLINE, tool_choices=_NO_CHOICE, reasoning_off="between_tools"),
        f"{_NO_FORCING}: `between_tools` turns thinking off",
    ),
    ModelRow("*claude-fable-5-[12]*", attrs.evolve(_CLAUDE_ALWAYS, tool_choices=_NO_CHOICE), _NO_FORCING),
    ModelRow("*claude-mythos-5-[12]*", attrs.evolve(_CLAUDE_ALWAYS, tool_choices=_NO_CHOICE), _NO_FORCING),
    ModelRow("*claude-fable-5*", _CLAUDE_ALWAYS, "anthropic; pydantic-ai: no structured output on Bedrock"),
    ModelRow("*claude-mythos-5*", _CLAUDE_ALWAYS, "anthropic; pydantic-ai"),
    ModelRow("*claude-mythos*", attrs.evolve(_CLAUDE_ALWAYS, system="top"), "anthropic; pydantic-ai"),
    ModelRow("*claude-haiku-5-5*", _CLAUDE_INLINE, "anthropic; pydantic-ai; litellm"),
    ModelRow("*claude-opus-5*", _CLAUDE_INLINE, "anthropic; pydantic-ai; litellm"),
    ModelRow(
        "*claude-sonnet-5*", _CLAUDE, "anthropic: ignores system messages between other messages; pydantic-ai; recorded"
    ),
    ModelRow(
        "*claude-opus-4-8*",
        attrs.evolve(_CLAUDE_4_7, system="anywhere"),
        "converse: mid-conversation system messages (June 2026); anthropic; pydantic-ai",
    ),
    ModelRow("*claude-opus-4-7*", _CLAUDE_4_7, "anthropic; pydantic-ai; litellm: no prefill"),
    ModelRow("*claude-opus-4-6*", _CLAUDE_4_6, "anthropic; pydantic-ai; litellm: no prefill"),
    ModelRow("*claude-sonnet-4-6*", _CLAUDE_4_6, "anthropic; pydantic-ai; litellm: no prefill"),
    ModelRow("*claude-*-4-5*", _CLAUDE_4_5, "anthropic; pydantic-ai; recorded: no s3:// URLs"),
    ModelRow(
        "*claude-*-4-1*",
        _CLAUDE_4_1,
        "anthropic; pydantic-ai: no structured output on Bedrock; litellm: parallel calls cannot be turned off",
    ),
    ModelRow("*claude-*-4-[02]*", _CLAUDE_4, "anthropic; pydantic-ai"),
    ModelRow("*claude-3-7*", _CLAUDE_4, "anthropic; pydantic-ai"),
    ModelRow("*claude-3-5-sonnet-20240620*", _CLAUDE_3, "converse: no prompt caching; litellm"),
    ModelRow("*claude-3-5*", _CLAUDE_3_5, "converse; litellm"),
    ModelRow("*claude-3-*", _CLAUDE_3, "converse: no prompt caching; litellm"),
    ModelRow("*claude-v[12]*", _CLAUDE_2, "converse: no tools, no images"),
    ModelRow("*claude-instant*", _CLAUDE_2, "converse: no tools, no images"),
    ModelRow("anthropic.claude:*", _CLAUDE_3_5, "parameters: the prompt router for Claude 3 and 3.5"),
    ModelRow("*anthropic.*", _CLAUDE, "a newer Claude: the facts of the newest documented model"),
    ModelRow(
        "amazon.nova-2*",
        _NOVA_2,
        "parameters: reasoning is shown as [REDACTED], `high` allows no limits; can1357/oh-my-pi#9086; recorded",
    ),
    ModelRow(
        "amazon.nova-micro*",
        attrs.evolve(_NOVA, media=_NOTHING, result_media=_NOTHING),
        "converse; parameters: text only",
    ),
    ModelRow("amazon.nova*", _NOVA, "converse; parameters; strands: refuses reasoning; recorded"),
    ModelRow("amazon.titan*", attrs.evolve(_OLD, family="titan"), "converse: no system prompts, no tools"),
    *rows_for(
        attrs.evolve(_GPT_OSS, api="chat"),
        "cards: the ids at bedrock-mantle, /v1 (recorded); those at bedrock-runtime end with -1:0",
        "openai.gpt-oss-120b",
        "openai.gpt-oss-20b",
    ),
    ModelRow("openai.gpt-oss*", _GPT_OSS, "converse; pydantic-ai: efforts; langchain-aws: accepts its reasoning"),
    ModelRow(
        "openai.gpt-6-astra*", attrs.evolve(_GPT, reasoning_off=None), "pydantic-ai: refuses `none`; litellm; strands"
    ),
    ModelRow(
        "openai.gpt-6.1-sol*", attrs.evolve(_GPT, reasoning_off=None), "pydantic-ai: refuses `none`; litellm; strands"
    ),
    ModelRow(
        "openai.gpt-*",
        _GPT,
        f"pydantic-ai: no sampling; litellm: no stop sequences, at least 16 tokens; strands; {_MANTLE}",
    ),
    ModelRow(
        "qwen.qwen3-coder*",
        attrs.evolve(_QWEN, reasoning=None, efforts=(), reasoning_off=None),
        "pydantic-ai: returns no reasoning; strands",
    ),
    ModelRow("qwen.*vl*", attrs.evolve(_QWEN, media=_IMAGE), "pydantic-ai: images, but not in tool results"),
    ModelRow("qwen.*", _QWEN, "pydantic-ai: only `high` reasons; strands: refuses reasoning; recorded"),
    ModelRow(
        "mistral.mistral-7b*", attrs.evolve(_OLD, family="mistral", top_k=("top_k",)), "converse: no system, no tools"
    ),
    ModelRow(
        "mistral.mixtral*", attrs.evolve(_OLD, family="mistral", top_k=("top_k",)), "converse: no system, no tools"
    ),
    ModelRow("mistral.pixtral*", attrs.evolve(_MISTRAL, media=_IMAGE_DOCUMENT), "converse; pydantic-ai"),
    ModelRow("mistral.voxtral*", attrs.evolve(_MISTRAL_3, media=frozenset({"audio"})), "litellm; pydantic-ai"),
    ModelRow("mistral.devstral*", attrs.evolve(_MISTRAL, top_k=("top_k",)), "litellm; strands: refuses reasoning"),
    ModelRow("mistral.magistral*", attrs.evolve(_MISTRAL_3, family="magistral", replays="all"), "pydantic-ai; litellm"),
    ModelRow("mistral.ministral*", _MISTRAL_3, "pydantic-ai; strands: refuses reasoning"),
    ModelRow("mistral.mistral-large-3*", _MISTRAL_3, "pydantic-ai; strands: refuses reasoning; recorded"),
    ModelRow("mistral.*", _MISTRAL, "converse; parameters; pydantic-ai: tool results as JSON, alone in a message"),
    ModelRow("meta.llama4*", attrs.evolve(_LLAMA, media=_IMAGE_DOCUMENT), "converse; pydantic-ai: results alone"),
    ModelRow("meta.llama3-2-[13]b*", attrs.evolve(_LLAMA, tools=False), "converse; recorded: no tools"),
    ModelRow("meta.llama3-2*", attrs.evolve(_LLAMA, media=_IMAGE_DOCUMENT), "converse; pydantic-ai"),
    ModelRow("meta.llama3-[13]-*", _LLAMA, "converse; pydantic-ai; strands: refuses reasoning"),
    ModelRow("meta.llama[23]-*", attrs.evolve(_LLAMA, tools=False), "converse: Llama 2 and 3 have no tools"),
    ModelRow(
        "meta.*", attrs.evolve(_LLAMA, media=_IMAGE_DOCUMENT), "a newer Llama: the facts of the newest documented model"
    ),
    ModelRow("cohere.command-r*", _COMMAND, "converse; parameters"),
    ModelRow(
        "cohere.command*", attrs.evolve(_OLD, family="cohere", top_k=("k",)), "converse: no system prompts, no tools"
    ),
    ModelRow("cohere.*", _COMMAND, "parameters"),
    ModelRow("ai21.j2*", attrs.evolve(_OLD, family="ai21"), "converse: no system prompts, no tools"),
    ModelRow(
        "ai21.jamba-instruct*", attrs.evolve(_OTHER, family="ai21", media=_NOTHING, tools=False), "converse: no tools"
    ),
    ModelRow("ai21.*", attrs.evolve(_OTHER, family="ai21", media=_DOCUMENT), "converse"),
    ModelRow(
        "writer.*",
        attrs.evolve(_OTHER, family="palmyra", tool_turns="alone", result_status=False),
        "pydantic-ai: refuses `status`, results alone; strands: refuses reasoning",
    ),
    ModelRow(
        "deepseek.r1*", _DEEPSEEK_R1, "parameters: at most 10 stop sequences; litellm: no tools; langchain-aws; strands"
    ),
    ModelRow("deepseek.*", _DEEPSEEK, "pydantic-ai: only `high` reasons; strands: refuses reasoning"),
    ModelRow(
        "zai.glm-5.3*",
        attrs.evolve(_GLM, efforts=_ALL, reasoning_off=None),
        "pydantic-ai: always reasons, refuses `none` and `minimal`",
    ),
    ModelRow("zai.*", _GLM, "pydantic-ai: only `high` reasons; litellm"),
    ModelRow(
        "moonshot*.kimi-k2-*", attrs.evolve(_KIMI, media=_DOCUMENT), "pydantic-ai; langchain-aws: accepts its reasoning"
    ),
    ModelRow(
        "moonshot*.kimi-k3*",
        attrs.evolve(_KIMI, reasoning="reasoning_effort", efforts=_ALL, reasoning_off="none", least_output_tokens=16),
        "litellm; langchain-aws",
    ),
    ModelRow("moonshot*", _KIMI, "pydantic-ai; langchain-aws: accepts its reasoning"),
    ModelRow(
        "minimax.*",
        attrs.evolve(_OTHER, family="minimax", replays="all", media=_DOCUMENT, schemas=True),
        "pydantic-ai; langchain-aws: accepts its reasoning; recorded",
    ),
    ModelRow(
        "google.gemma-4*",
        attrs.evolve(_OTHER, api="chat", mantle_path="/openai/v1", family="gemma", schemas=True),
        f"{_MANTLE}; pydantic-ai; strands",
    ),
    ModelRow("google.gemma*", attrs.evolve(_OTHER, family="gemma", schemas=True), "pydantic-ai; strands; recorded"),
    ModelRow(
        "nvidia.*", attrs.evolve(_OTHER, family="nemotron", schemas=True), "pydantic-ai; strands: refuses reasoning"
    ),
    ModelRow(
        "xai.grok*", _GROK, f"pydantic-ai: always reasons, no sampling; litellm: no stop sequences; strands; {_MANTLE}"
    ),
)
"""The facts by pattern of the model id, without the prefix of an inference profile. The first match wins."""

# The prefixes of inference profiles: groups of regions.
_PROFILE_PREFIX = re.compile(r"^(?:global|us|us-gov|eu|apac|jp|au|ca|sa|me|af|in)\.")


def facts_of(model: str, overrides: FactOverrides | None = None) -> BedrockFacts:
    """Return the facts about a model, given its id, the id of an inference profile, or an ARN of either.

    Patterns of `overrides` are compared with the whole name and with the foundation model id that the name contains.
    """
    given = model.lower()
    name = plain_name(model, overrides)
    facts = _from_table(name)
    changes = _changes(overrides, given, name) if overrides else {}
    return attrs.evolve(facts, **changes) if changes else facts  # type: ignore[arg-type]  # the setting checked them


def plain_name(model: str, overrides: FactOverrides | None = None) -> str:
    """Return the id of the foundation model that a model is, in lower case."""
    given = model.lower()
    name = _plain(given)
    base = _changes(overrides, given, name).get("base_model") if overrides else None
    return _plain(base.lower()) if isinstance(base, str) else name


def is_profile(model: str) -> bool:
    """Whether a name is the id of an inference profile or an ARN. `bedrock-mantle` knows neither."""
    return _PROFILE_PREFIX.match(model.lower()) is not None or model.startswith("arn:")


def api_of(model: str, overrides: FactOverrides) -> API:
    """Return the API for a model if it is called wherever Bedrock serves it best."""
    given = model.lower()
    changed = _changes(overrides, given, _plain(given)).get("api") if overrides else None
    facts = facts_of(model, overrides)
    return facts.api if changed is not None or not is_profile(model) else "converse"


def mantle_api_of(model: str, overrides: FactOverrides) -> API:
    """Return the API for a model if it is called at `bedrock-mantle`, which has no Converse.

    ruby_llm 2 (`bedrock/mantle.rb`), with recorded requests: Claude has Messages, everything else Chat Completions.
    """
    facts = facts_of(model, overrides)
    if facts.api != "converse":
        return facts.api
    return "messages" if facts.family == "claude" else "chat"


def openai_name(model: str, overrides: FactOverrides) -> str:
    """Return the name of a model as its vendor's own API has it: `gpt-5.6-sol` for `us.openai.gpt-5.6-sol`."""
    vendor, _, rest = plain_name(model, overrides).partition(".")
    if not rest:
        return vendor
    return f"{vendor}-{rest}" if vendor == "deepseek" else rest


@lru_cache(maxsize=256)
def _from_table(name: str) -> BedrockFacts:
    facts = facts_about(name, ROWS, UNKNOWN, {})
    return facts if facts.family is not None else attrs.evolve(facts, family=name or None)


def _changes(overrides: FactOverrides, *names: str) -> dict[str, object]:
    changes: dict[str, object] = {}
    for pattern, facts in overrides.items():
        if any(fnmatchcase(name, pattern.lower()) for name in names):
            changes |= facts
    return changes


def _plain(name: str) -> str:
    """Return the id of a model without the parts of an ARN and the prefix of an inference profile."""
    _, *parts = name.split("/") if "/" in name else ["", name]
    # The ARN of a custom model contains the id of its base model before the id of the custom model.
    return _PROFILE_PREFIX.sub("", next((part for part in parts if "." in part), parts[-1]))
