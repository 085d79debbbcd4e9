"""How a compatible server differs from OpenAI, as data: which options it supports and what it calls its fields.

The built-in profiles follow the servers' documentation and recorded traffic. `generic` has only what almost every
server supports. A table in the configuration changes one of them:
`profile = {base = "generic", max_tokens_field = "max_completion_tokens", takes = ["tools", "seed"]}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, get_args, get_origin
from urllib.parse import urlsplit

import attrs
from trunkline.authoring.json import JSONObject
from trunkline.authoring.model_facts import fields_schema

from trunkline_openai import compatible_models as models
from trunkline_openai.features import FEATURES, OTHER_OPERATIONS, RESPONSES_FEATURES, AnswerSchemas, SchemaRules
from trunkline_openai.model_facts import OPENAI_MODELS, ModelFacts, Rows, check_length, check_pattern
from trunkline_openai.urls import S, azure_version, is_azure

BASIC_FEATURES = frozenset[str](
    {
        "tools",
        "tool_choice_none",
        "tool_choice_required",
        "tool_choice_named",
        "json_object",
        "json_schema",
        "top_p",
        "stop",
        "seed",
        "penalties",
        "names",
        "image_url",
        "image_data",
    }
)
"""The default of `Profile.takes`: features that almost every server has. Add others, or take some away."""

BASIC_RESPONSES_FEATURES = BASIC_FEATURES - {"names", "penalties", "seed", "stop"} | {
    "parallel_tool_calls",
    "reasoning_effort",
    "store",
}
"""The default of `Profile.responses`: features that almost every server with the Responses API has."""

_COMMON = BASIC_FEATURES | {"parallel_tool_calls", "strict_tools", "logprobs", "reasoning_effort"}


def _names(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _known(value: str | Iterable[str], known: frozenset[str]) -> frozenset[str]:
    found = frozenset(_names(value))
    unknown = sorted(found - known)
    if unknown:
        raise ValueError(f"unknown features {', '.join(unknown)}; the features are {', '.join(sorted(known))}")
    return found


def _features(value: str | Iterable[str]) -> frozenset[str]:
    return _known(value, FEATURES)


def _responses_features(value: str | Iterable[str]) -> frozenset[str]:
    return _known(value, RESPONSES_FEATURES)


def _other_operations(value: str | Iterable[str]) -> frozenset[str]:
    return _known(value, OTHER_OPERATIONS)


def _feature_schema(known: frozenset[str]) -> JSONObject:
    return {"anyOf": [{"type": "array", "items": {"enum": sorted(known)}}, {"enum": sorted(known)}]}


def _named(check: Callable[[object, object, Any], None]) -> Callable[[object, attrs.Attribute[Any], Any], None]:
    """Return a validator whose errors name the field."""

    def validate(profile: object, field: attrs.Attribute[Any], value: Any) -> None:
        try:
            check(profile, field, value)
        except ValueError as error:
            raise ValueError(f"{field.name} must be {error}, not {value!r}") from None

    return validate


@attrs.frozen(kw_only=True)
class Profile:
    """How one kind of server differs from OpenAI.

    Requests:

    - `max_tokens_field`, `user_id_field`: the server's names for the output limit and the user's id. `None` means that
      it does not support a user's id.
    - `cache_key_header`: the header for `ChatRequest.cache_key`, if the server has one in place of a field.
    - `system_role`: the role of system messages. With `developer_role`, reasoning models get the role `developer`.
    - `models`: a table of what each of the server's models accepts. The setting `model_facts` overrides it.
    - `takes`: the supported features, in the words of `Feature`. Anything else is left out, with a warning. The default
      is `BASIC_FEATURES`; for more, write `takes=BASIC_FEATURES | {"top_k"}`.
    - `responses`: the same for the Responses API, in the words of `ResponsesFeature`. The default is
      `BASIC_RESPONSES_FEATURES`.
    - `operations`: the operations that the server has besides chat, embeddings and the list of models, in the words of
      `OtherOperation`. By default it has none.
    - `stream_options`: the server reports usage in streams on request.
    - `obfuscation`: the server pads its chunks unless asked not to.
    - `stop_limit`: the number of stop sequences that it accepts; `None` is no limit.
    - `call_id_pattern`, `call_id_length`: a tool call's id that does not match the pattern is replaced by an id of this
      length, in characters.
    - `reasoning_replay`: the field in which the server expects reasoning back, or `None`. `reasoning_details` sends
      OpenRouter's blocks back unchanged, `thinking` makes content parts of it (Mistral), any other field gets the text.
    - `reasoning_filler`: the placeholder for that field in a message with tool calls but without reasoning, if the
      server refuses such a message.
    - `signed_calls`: the server refuses a tool call without Gemini's signature.
    - `system_messages`: where system messages may stand: `anywhere`, only `first`, or `not_after_answer`.
    - `starts_with_user`: the first message after any system messages must be a user message.
    - `user_after_results`: a user message may follow tool results.
    - `alternates`: user and assistant messages must alternate, and tool results must be followed by an answer.
    - `blank_text`: a text may be blank.
    - `other_content`: content items of kinds that Trunkline does not know are sent back to the server.
    - `schemas`: the tool schemas that the server accepts: `any`, Moonshot's subset (`moonshot`), or schemas that
      llama.cpp can turn into a `grammar`.
    - `answer_schemas`: the schemas of answers and of strict tools that the server enforces: those with every property
      required (`openai`), any in which each object has only its properties (`closed`), or those that llama.cpp can turn
      into a `grammar`.
    - `null_content`: a message with only tool calls has the content `null` instead of an empty text.

    Responses:

    - `reasoning_fields`: the fields of a message that may have reasoning; the first one that is set wins.
    - `think_tags`: `<think>…</think>` at the beginning of the text is reasoning.
    - `finish_reason_suffices`: the server does not send `[DONE]`, so a stream is complete after a finish reason.
    """

    name: str
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    user_id_field: str | None = "user"
    cache_key_header: str | None = None
    system_role: Literal["system", "developer", "user"] = "system"
    developer_role: bool = False
    models: Rows = ()
    takes: frozenset[str] = attrs.field(
        converter=_features, default=BASIC_FEATURES, metadata={"schema": _feature_schema(FEATURES)}
    )
    responses: frozenset[str] = attrs.field(
        converter=_responses_features,
        default=BASIC_RESPONSES_FEATURES,
        metadata={"schema": _feature_schema(RESPONSES_FEATURES)},
    )
    operations: frozenset[str] = attrs.field(
        converter=_other_operations,
        factory=frozenset[str],
        metadata={"schema": _feature_schema(OTHER_OPERATIONS)},
    )
    stream_options: bool = False
    obfuscation: bool = False
    stop_limit: int | None = 4
    call_id_pattern: str = attrs.field(
        default=r"[!-~]{1,40}", validator=_named(check_pattern), metadata={"schema": {"format": "regex"}}
    )
    call_id_length: int = attrs.field(default=32, validator=_named(check_length), metadata={"schema": {"minimum": 1}})
    reasoning_fields: tuple[str, ...] = attrs.field(converter=_names, default=("reasoning_content", "reasoning"))
    reasoning_replay: str | None = None
    reasoning_filler: str | None = None
    signed_calls: bool = False
    system_messages: Literal["anywhere", "first", "not_after_answer"] = "anywhere"
    starts_with_user: bool = False
    user_after_results: bool = True
    alternates: bool = False
    blank_text: bool = True
    null_content: bool = True
    other_content: bool = True
    schemas: SchemaRules = "any"
    answer_schemas: AnswerSchemas = "openai"
    think_tags: bool = False
    finish_reason_suffices: bool = False

    def for_model(self, facts: ModelFacts) -> Profile:
        """The profile for one of the server's models."""
        return attrs.evolve(
            self,
            takes=self.takes - facts.refuses - (set() if facts.cache == "breakpoints" else {"cache_breakpoints"}),
            responses=self.responses - facts.refuses,
            stream_options=self.stream_options and facts.stream_options,
            obfuscation=self.obfuscation and facts.stream_options,
            **{name: value for name in _BY_MODEL if (value := getattr(facts, name)) is not None},
        )


ProfileFor: TypeAlias = Profile | Callable[[S], Profile]
"""A profile, or a function that returns the profile for a service's settings."""

_BY_MODEL = (
    "max_tokens_field",
    "reasoning_replay",
    "reasoning_filler",
    "signed_calls",
    "system_messages",
    "starts_with_user",
    "user_after_results",
    "alternates",
    "blank_text",
    "call_id_pattern",
    "call_id_length",
    "schemas",
)
"""The fields of a profile that a model's facts replace."""

_ALL = (
    Profile(
        name="openai",
        max_tokens_field="max_completion_tokens",
        user_id_field="safety_identifier",
        developer_role=True,
        models=OPENAI_MODELS,
        other_content=False,
        takes=_COMMON
        | {"metadata", "refusals", "audio_data", "document_data", "document_file_id", "cache_key", "cache_breakpoints"},
        responses=RESPONSES_FEATURES,
        operations=OTHER_OPERATIONS - {"rerank"},
        stream_options=True,
        obfuscation=True,
    ),
    # Every server is asked for usage. For the few that refuse the field, set `stream_options = false`.
    # The server is unknown, so system messages come first, as most chat templates require.
    Profile(
        name="generic",
        operations=OTHER_OPERATIONS,
        stream_options=True,
        system_messages="first",
        models=models.ANYWHERE,
    ),
    Profile(
        name="ollama",
        # openai/responses.go of ollama, read in 2026-11: other fields are ignored, and other items are refused.
        responses=BASIC_RESPONSES_FEATURES
        - {"tool_choice_none", "tool_choice_required", "tool_choice_named", "parallel_tool_calls"}
        - {"json_object", "image_url", "store"},
        answer_schemas="grammar",
        models=models.LOCAL,
        takes=(
            _COMMON
            - {
                "tool_choice_none",
                "tool_choice_required",
                "tool_choice_named",
                "parallel_tool_calls",
                "strict_tools",
                "image_url",
            }
        ),
        stream_options=True,
        user_id_field=None,
        stop_limit=None,
        reasoning_fields=("reasoning", "reasoning_content"),
    ),
    Profile(
        name="vllm",
        # `ResponsesRequest` in vllm/entrypoints/openai/protocol.py, 2026-11
        responses=BASIC_RESPONSES_FEATURES
        | {"strict_tools", "encrypted_reasoning", "logprobs", "metadata", "cache_key", "developer_role", "background"},
        operations={"rerank", "transcribe"},
        answer_schemas="closed",
        takes=_COMMON | {"top_k", "audio_data"},
        stream_options=True,
        stop_limit=None,
        system_messages="first",
        models=models.LOCAL,
    ),
    Profile(
        name="llama.cpp",
        # xllamacpp 2026.10.11549, run in 2026-11: `text.format` has no effect; `previous_response_id`, `input_file` and
        # `top_logprobs` are refused.
        responses=BASIC_RESPONSES_FEATURES - {"json_object", "json_schema", "image_url", "reasoning_effort"}
        | {"count_tokens"},
        operations={"rerank", "transcribe"},
        answer_schemas="grammar",
        schemas="grammar",
        system_messages="first",
        models=models.LOCAL,
        takes=_COMMON - {"strict_tools", "reasoning_effort"} | {"top_k", "audio_data"},
        stream_options=True,
        stop_limit=None,
        user_id_field=None,
        reasoning_replay="reasoning_content",
    ),
    Profile(
        name="lm-studio",
        # https://lmstudio.ai/docs/developer/openai-compat/responses, 2026-11
        responses=BASIC_RESPONSES_FEATURES - {"tool_choice_named", "image_url"},
        answer_schemas="grammar",
        schemas="grammar",
        system_messages="first",
        models=models.LOCAL,
        takes=BASIC_FEATURES - {"image_url", "tool_choice_named"} | {"top_k"},
        stream_options=True,
        user_id_field=None,
        stop_limit=None,
    ),
    Profile(
        name="openrouter",
        # openrouter.ai/docs/api_reference/responses/error-handling, 2026-11: nothing is stored; `store: true` and
        # `previous_response_id` are refused. The rest: recorded traffic.
        responses=BASIC_RESPONSES_FEATURES
        | {"encrypted_reasoning", "reasoning_summary", "metadata", "cache_key", "document_data", "document_url"},
        operations={"rerank", "generate_speech"},  # recordings c3fe5df596c570b1 and aa06fef004ae0f9c
        models=models.OPENROUTER,
        takes=_COMMON | {"top_k", "document_data", "audio_data", "cache_control"},
        stream_options=True,
        reasoning_fields=("reasoning", "reasoning_content"),
        reasoning_replay="reasoning_details",
    ),
    Profile(
        name="deepseek",
        # Recorded traffic, and the limits of its Chat Completions.
        responses=BASIC_RESPONSES_FEATURES - {"json_schema", "image_url", "image_data"},
        models=models.DEEPSEEK,
        takes=BASIC_FEATURES - {"json_schema", "seed", "image_url", "image_data"} | {"logprobs", "reasoning_effort"},
        stream_options=True,
        user_id_field=None,
        stop_limit=16,
        reasoning_fields=("reasoning_content",),
        reasoning_replay="reasoning_content",
    ),
    Profile(
        name="groq",
        # https://console.groq.com/docs/responses-api, 2026-11: no `store`, `include`, `previous_response_id`,
        # `prompt_cache_key` and `safety_identifier`.
        responses=BASIC_RESPONSES_FEATURES - {"store"} | {"metadata"},
        operations={"transcribe", "generate_speech"},
        max_tokens_field="max_completion_tokens",
        models=models.GROQ,
        # https://console.groq.com/docs/openai, 2026-11: names of participants and logprobs are refused with status 400.
        takes=_COMMON - {"logprobs", "strict_tools", "names"},
        stream_options=True,
        reasoning_fields=("reasoning", "reasoning_content"),
        reasoning_replay="reasoning",
    ),
    Profile(
        name="together",
        operations={"rerank", "transcribe", "generate_speech", "generate_images"},
        answer_schemas="closed",
        takes=_COMMON - {"strict_tools"} | {"top_k"},
        stream_options=True,
        stop_limit=None,
        models=models.ANYWHERE,
    ),
    Profile(
        name="fireworks",
        answer_schemas="closed",
        # `prompt_cache_key`: reference.langchain.com/python/langchain-fireworks/middleware, 2026-11.
        takes=_COMMON - {"strict_tools"} | {"top_k", "cache_key"},
        stream_options=True,
        models=models.ANYWHERE,
    ),
    Profile(
        name="xai",
        # Recorded traffic; `prompt_cache_key`: the page on caching below.
        responses=BASIC_RESPONSES_FEATURES | {"encrypted_reasoning", "cache_key"},
        operations="generate_images",  # recording a6e0638a8a5c77ce
        models=models.GROK,
        # langchain-ai/langchain#34140, 2025-11; langbot-app/LangBot#1205, 2025-03
        null_content=False,
        blank_text=False,
        max_tokens_field="max_completion_tokens",
        takes=_COMMON - {"strict_tools"},
        # docs.x.ai/developers/advanced-api-usage/prompt-caching/maximizing-cache-hits, 2026-11
        cache_key_header="x-grok-conv-id",
        stream_options=True,
        reasoning_fields=("reasoning_content",),
        reasoning_replay="reasoning_content",
    ),
    Profile(
        name="cerebras",
        models=models.GPT_OSS,
        max_tokens_field="max_completion_tokens",
        takes=_COMMON - {"penalties"},
        stream_options=True,
        finish_reason_suffices=True,
    ),
    Profile(
        name="huggingface",
        models=models.ANYWHERE,
        takes=BASIC_FEATURES | {"logprobs"},
        stream_options=True,
        user_id_field=None,
        finish_reason_suffices=True,
    ),
    Profile(
        name="perplexity",
        takes={"json_schema", "top_p", "top_k", "penalties", "image_url", "image_data", "reasoning_effort"},
        user_id_field=None,
        finish_reason_suffices=True,
        think_tags=True,
        # perplexityai/api-discussion#265 (2025-04), bieniu/ha-perplexity#117 (2026-04): "After the (optional) system
        # message(s), user or tool message(s) should alternate with assistant message(s)."
        system_messages="first",
        alternates=True,
    ),
    Profile(
        name="gemini",
        answer_schemas="closed",
        models=models.GEMINI,
        takes=BASIC_FEATURES - {"penalties", "names", "image_url"} | {"reasoning_effort", "parallel_tool_calls"},
        stream_options=True,
        user_id_field=None,
    ),
    Profile(
        name="moonshot",
        models=models.KIMI,
        schemas="moonshot",
        # https://platform.kimi.ai/docs/guide/migrating-from-openai-to-kimi, 2026-11: no `tool_choice: required`.
        # `prompt_cache_key`: MoonshotAI/kimi-cli#12.
        takes=BASIC_FEATURES - {"tool_choice_required", "tool_choice_named", "seed", "image_url"}
        | {"reasoning_effort", "cache_key"},
        stream_options=True,
        reasoning_fields=("reasoning_content",),
        reasoning_replay="reasoning_content",
        blank_text=False,
    ),
    Profile(
        name="qwen",
        models=models.QWEN,
        takes=_COMMON - {"strict_tools"} | {"top_k"},
        stream_options=True,
        user_id_field=None,
        reasoning_fields=("reasoning_content",),
    ),
    Profile(
        name="zai",
        models=models.GLM,
        # https://docs.z.ai/api-reference/llm/chat-completion, 2026-11: the tool choice is always `auto`.
        takes={"tools", "json_object", "top_p", "stop", "image_url", "image_data", "reasoning_effort"},
        stream_options=True,
        stop_limit=1,
        user_id_field=None,
        reasoning_fields=("reasoning_content",),
        reasoning_replay="reasoning_content",
    ),
    # Mistral's API, which refuses unknown fields. The provider `mistral` supports more of this API.
    Profile(
        name="mistral",
        answer_schemas="closed",
        takes=BASIC_FEATURES - {"seed", "names"}
        | {"parallel_tool_calls", "strict_tools", "reasoning_effort", "cache_key"},
        user_id_field=None,
        stop_limit=None,
        call_id_pattern=r"[A-Za-z0-9]{9}",
        call_id_length=9,
        reasoning_fields=(),
        reasoning_replay="thinking",
        system_messages="not_after_answer",
        starts_with_user=True,
        user_after_results=False,
        blank_text=False,
        null_content=False,
    ),
    # https://platform.claude.com/docs/en/api/openai-sdk, 2026-11: every other field is ignored.
    Profile(
        name="anthropic",
        takes={
            "tools",
            "tool_choice_none",
            "tool_choice_required",
            "tool_choice_named",
            "parallel_tool_calls",
            "top_p",
            "stop",
            "image_url",
            "image_data",
        },
        stream_options=True,
        user_id_field=None,
        stop_limit=None,
        system_messages="first",
        blank_text=False,
    ),
    Profile(
        name="azure",
        responses=RESPONSES_FEATURES - {"stream_options", "count_tokens"},
        operations={"transcribe", "generate_speech", "generate_images"},
        max_tokens_field="max_completion_tokens",
        models=(*OPENAI_MODELS, *models.ANYWHERE),
        takes=_COMMON | {"metadata", "refusals", "audio_data", "cache_key", "cache_breakpoints"},
        stream_options=True,
    ),
)

HOSTS: Mapping[str, str] = {
    "api.openai.com": "openai",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.mistral.ai": "mistral",
    "generativelanguage.googleapis.com": "gemini",
    "aiplatform.googleapis.com": "gemini",
    "api.together.xyz": "together",
    "api.together.ai": "together",
    "api.fireworks.ai": "fireworks",
    "api.cerebras.ai": "cerebras",
    "router.huggingface.co": "huggingface",
    "api.perplexity.ai": "perplexity",
    "api.moonshot.ai": "moonshot",
    "api.moonshot.cn": "moonshot",
    "api.kimi.com": "moonshot",
    "dashscope.aliyuncs.com": "qwen",
    "dashscope-intl.aliyuncs.com": "qwen",
    "dashscope-us.aliyuncs.com": "qwen",
    "api.z.ai": "zai",
    "open.bigmodel.cn": "zai",
    "api.anthropic.com": "anthropic",
}
"""The profile of each known host and its subdomains (`us.api.openai.com`)."""


# Azure's dated API requires `max_completion_tokens` of all models, and has `metadata`, from this version on.
_AZURE_NEWER = "2024-12-01"
_AZURE_OLDER = {"metadata", "audio_data", "cache_key", "cache_breakpoints"}
"""The features that older versions lack."""


def profile_for_url(url: str) -> Profile:
    """The profile of a known host, or `generic`."""
    if is_azure(url):
        version, azure = azure_version(url), PROFILES["azure"]
        if version is None or version >= _AZURE_NEWER:
            return azure
        return attrs.evolve(azure, max_tokens_field="max_tokens", takes=azure.takes - _AZURE_OLDER)
    host = (urlsplit(url).hostname or "").lower()
    # Vertex AI: `us-east5-aiplatform.googleapis.com`.
    host = "aiplatform.googleapis.com" if host.endswith("-aiplatform.googleapis.com") else host
    while host:
        if host in HOSTS:
            return PROFILES[HOSTS[host]]
        host = host.partition(".")[2]
    return PROFILES["generic"]


PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in _ALL}
"""The built-in profiles, by name."""


DESCRIPTIONS: Mapping[str, str] = {
    "generic": "Any other server: only what almost every server supports.",
    "openai": "OpenAI.",
    "azure": "Azure OpenAI, by its OpenAI-compatible API.",
    "anthropic": "Anthropic, by its OpenAI-compatible API.",
    "gemini": "Google Gemini, by its OpenAI-compatible API.",
    "mistral": "Mistral, by its OpenAI-compatible API.",
    "ollama": "Ollama, on this machine or another.",
    "vllm": "vLLM.",
    "llama.cpp": "The server of llama.cpp.",
    "lm-studio": "LM Studio.",
    "openrouter": "OpenRouter.",
    "deepseek": "DeepSeek.",
    "groq": "Groq.",
    "together": "Together AI.",
    "fireworks": "Fireworks AI.",
    "xai": "xAI (Grok).",
    "cerebras": "Cerebras.",
    "huggingface": "The router of Hugging Face.",
    "perplexity": "Perplexity.",
    "moonshot": "Moonshot AI (Kimi).",
    "qwen": "Alibaba Cloud Model Studio (Qwen).",
    "zai": "Z.ai (GLM).",
}
"""What each built-in profile is for, as a form shows it."""

TABLE: JSONObject = {
    "title": "Custom",
    "description": "A built-in profile as the base, and the differences.",
    **fields_schema(Profile, leave_out=("models",), more={"base": {"enum": list(DESCRIPTIONS)}}),
}
"""The JSON Schema of a table that `profile_from` accepts."""


def profile_from(value: object) -> Profile:
    """Return the profile for a built-in name, a table or a `Profile`. Raises `ValueError` for anything else."""
    if isinstance(value, Profile):
        return value
    if isinstance(value, str):
        return _built_in(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"a profile's name or a table, not {type(value).__name__}")
    return _from_table(value)


def _built_in(name: str) -> Profile:
    profile = PROFILES.get(name.strip().lower())
    if profile is None:
        raise ValueError(f"a table or one of {', '.join(sorted(PROFILES))}, not {name!r}")
    return profile


def _from_table(table: Mapping[object, object]) -> Profile:
    # Imported here, because importing cattrs takes longer than opening most services.
    from cattrs import Converter, transform_error
    from cattrs.errors import BaseValidationError

    accepted = [field.name for field in attrs.fields(Profile) if field.name != "models"]
    unknown = sorted(str(key) for key in table if key != "base" and key not in accepted)
    if unknown:
        raise ValueError(f"a table with the keys base, {', '.join(accepted)}; unknown: {', '.join(unknown)}")
    base_name = table.get("base", "generic")
    if not isinstance(base_name, str):
        raise ValueError("a table whose 'base' is a built-in profile's name")
    base = _built_in(base_name)
    converter = Converter()
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook_func(
        lambda hint: hint == tuple[str, ...], lambda value, _: tuple(_strings(value))
    )
    converter.register_structure_hook_func(
        lambda hint: hint == frozenset[str], lambda value, _: frozenset(_strings(value))
    )
    converter.register_structure_hook_func(_is_literal, _one_of)
    given = {str(key): value for key, value in table.items() if key != "base"}
    unchanged = {name: getattr(base, name) for name in accepted}
    try:
        made = converter.structure({**unchanged, "name": f"{base.name}, changed", **given}, Profile)
        return attrs.evolve(made, models=base.models)
    except (BaseValidationError, TypeError) as error:
        problems = "; ".join(transform_error(error, path="profile", format_exception=lambda problem, _: str(problem)))
        raise ValueError(f"a table whose values have the profile's types: {problems}") from None


def _exactly(kind: type) -> Callable[[object, object], object]:
    def structure(value: object, _: object) -> object:
        if kind is int and isinstance(value, float) and value.is_integer():
            return int(value)  # JSON and TOML may write 5 as 5.0
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}, not {value!r}")
        return value

    return structure


def _is_literal(hint: Any) -> bool:
    origin: object = get_origin(hint)
    return origin is Literal


def _one_of(value: object, hint: Any) -> object:
    if value not in get_args(hint):
        raise ValueError(f"expected one of {', '.join(map(str, get_args(hint)))}, not {value!r}")
    return value


def _strings(value: object) -> list[str]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, frozenset, set)) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"expected a list of strings, not {value!r}")
    return list(items)
