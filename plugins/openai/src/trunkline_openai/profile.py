"""A server's quirks, as data: what it takes, what it calls things, and where its answers keep them.

The built-in profiles say what the servers' documentation and recorded traffic show. `generic` takes what almost every
server accepts and sends no extras but the wish for usage in a stream; a table in the configuration starts from one:
`profile = {base = "generic", max_tokens_field = "max_completion_tokens", takes = ["tools", "seed"]}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, TypeAlias, get_args

import attrs

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
"""What a server may take of a request beyond messages, `model`, `stream`, `temperature` and an output limit."""

Reasons: TypeAlias = Literal["always", "default", "opt_in", "never"]
"""When a model reasons: always, unless the effort is `none`, only when an effort is asked for, or never."""

FEATURES: frozenset[str] = frozenset(get_args(Feature))

_BASIC = frozenset[str](
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
_COMMON = _BASIC | {"parallel_tool_calls", "strict_tools", "logprobs", "reasoning_effort"}


def _names(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _features(value: str | Iterable[str]) -> frozenset[str]:
    found = frozenset(_names(value))
    unknown = sorted(found - FEATURES)
    if unknown:
        raise ValueError(f"no feature is called {', '.join(unknown)}; the features are {', '.join(sorted(FEATURES))}")
    return found


@attrs.frozen(kw_only=True)
class Profile:
    """The quirks of one kind of server.

    `max_tokens_field`, `user_id_field` and `system_role` are its names for the output limit, the user's id (`None`: it
    takes none) and the system prompt; `developer_role` says that reasoning models of OpenAI get theirs as `developer`.
    `reasoning_models` says by patterns (`o3*`) when a model reasons: it then refuses sampling options; the first that
    fits counts.
    `takes` is what may be sent; the rest is left out with a warning. `stream_options` says that usage may be asked for
    in a stream, `obfuscation` that padding may be switched off, `stop_limit` how many stop sequences it takes.

    `reasoning_fields` are where an answer's message keeps reasoning; the first that is filled counts.
    `reasoning_replay` is the field in which it wants reasoning back, if any: `reasoning_details` gives OpenRouter's
    blocks back unchanged, `thinking` makes content parts of it, as Mistral has them, any other field takes the text.
    `think_tags` says that `<think>…</think>` at the beginning of the text is reasoning. `finish_reason_suffices` says
    that a stream is complete at its end when a finish reason came, because the server sends no `[DONE]`. An id of a
    tool call that does not match `call_id_pattern` is replaced by one of `call_id_length` letters and digits.
    """

    name: str
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    user_id_field: str | None = "user"
    system_role: Literal["system", "developer", "user"] = "system"
    developer_role: bool = False
    reasoning_models: Mapping[str, Reasons] = attrs.field(factory=dict)
    takes: frozenset[str] = attrs.field(converter=_features, default=_BASIC)
    stream_options: bool = False
    obfuscation: bool = False
    stop_limit: int | None = 4
    call_id_pattern: str = r"[!-~]{1,40}"
    call_id_length: int = 32
    reasoning_fields: tuple[str, ...] = attrs.field(converter=_names, default=("reasoning_content", "reasoning"))
    reasoning_replay: str | None = None
    think_tags: bool = False
    finish_reason_suffices: bool = False

    def reasons(self, model: str) -> Reasons:
        """When a model reasons. A vendor's name before it (`openai/o3`) does not count."""
        from fnmatch import fnmatchcase

        name = model.rpartition("/")[2].removeprefix("ft:").lower()
        for pattern, when in self.reasoning_models.items():
            if fnmatchcase(name, pattern):
                return when
        return "never"


# OpenAI's models as they were in July 2026; the first pattern that fits counts.
_OPENAI_REASONING: Mapping[str, Reasons] = {
    "gpt-5-chat*": "never",
    "gpt-5.[123]*-chat*": "always",
    "gpt-5.[123]-codex*": "always",
    "gpt-5*-pro*": "always",
    "gpt-5": "always",
    "gpt-5-*": "always",
    "gpt-5.[1234]*": "opt_in",
    "gpt-5.*": "default",
    "gpt-[6789]*": "default",
    "o[1-9]*": "always",
}

_ALL = (
    Profile(
        name="openai",
        max_tokens_field="max_completion_tokens",
        user_id_field="safety_identifier",
        developer_role=True,
        reasoning_models=_OPENAI_REASONING,
        takes=_COMMON | {"metadata", "refusals", "audio_data", "document_data", "document_file_id"},
        stream_options=True,
        obfuscation=True,
    ),
    # Usage is worth asking every server for; the few that refuse the field get a profile with `stream_options = false`.
    Profile(name="generic", stream_options=True),
    Profile(
        name="ollama",
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
    Profile(name="vllm", takes=_COMMON | {"top_k", "audio_data"}, stream_options=True, stop_limit=None),
    Profile(
        name="llama.cpp",
        takes=_COMMON - {"strict_tools", "reasoning_effort"} | {"top_k", "audio_data"},
        stream_options=True,
        stop_limit=None,
        user_id_field=None,
        reasoning_replay="reasoning_content",
    ),
    Profile(
        name="lm-studio",
        takes=_BASIC - {"image_url", "tool_choice_named"} | {"top_k"},
        stream_options=True,
        user_id_field=None,
        stop_limit=None,
    ),
    Profile(
        name="openrouter",
        takes=_COMMON | {"top_k", "document_data", "audio_data"},
        stream_options=True,
        reasoning_fields=("reasoning", "reasoning_content"),
        reasoning_replay="reasoning_details",
    ),
    Profile(
        name="deepseek",
        takes=_BASIC - {"json_schema", "seed", "image_url", "image_data"} | {"logprobs"},
        stream_options=True,
        user_id_field=None,
        stop_limit=16,
        reasoning_fields=("reasoning_content",),
        reasoning_replay="reasoning_content",
    ),
    Profile(
        name="groq",
        max_tokens_field="max_completion_tokens",
        takes=_COMMON - {"logprobs", "strict_tools"},
        stream_options=True,
        reasoning_fields=("reasoning", "reasoning_content"),
        reasoning_replay="reasoning",
    ),
    Profile(name="together", takes=_COMMON - {"strict_tools"} | {"top_k"}, stream_options=True, stop_limit=None),
    Profile(name="fireworks", takes=_COMMON - {"strict_tools"} | {"top_k"}, stream_options=True),
    Profile(
        name="xai",
        max_tokens_field="max_completion_tokens",
        takes=_COMMON - {"strict_tools"},
        stream_options=True,
        reasoning_fields=("reasoning_content",),
        reasoning_replay="reasoning_content",
    ),
    Profile(
        name="cerebras",
        max_tokens_field="max_completion_tokens",
        takes=_COMMON - {"penalties"},
        stream_options=True,
        finish_reason_suffices=True,
    ),
    Profile(
        name="huggingface",
        takes=_BASIC | {"logprobs"},
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
    ),
)

PROFILES: Mapping[str, Profile] = {profile.name: profile for profile in _ALL}
"""The built-in profiles, by name."""


def profile_from(value: object) -> Profile:
    """A profile from a built-in's name, a table, or a `Profile`. Raises `ValueError` with what is accepted."""
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
    # cattrs takes longer to import than most services need to open.
    from cattrs import Converter, transform_error
    from cattrs.errors import BaseValidationError

    accepted = [field.name for field in attrs.fields(Profile)]
    unknown = sorted(str(key) for key in table if key != "base" and key not in accepted)
    if unknown:
        raise ValueError(f"a table with the keys base, {', '.join(accepted)}; it does not know {', '.join(unknown)}")
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
        lambda hint: hint == frozenset[str], lambda value, _: _features(_strings(value))
    )
    given = {str(key): value for key, value in table.items() if key != "base"}
    try:
        return converter.structure(
            {**attrs.asdict(base, recurse=False), "name": f"{base.name}, changed", **given}, Profile
        )
    except (BaseValidationError, TypeError) as error:
        problems = "; ".join(transform_error(error, path="profile", format_exception=lambda problem, _: str(problem)))
        raise ValueError(f"a table whose values have the profile's types: {problems}") from None


def _exactly(kind: type) -> Callable[[object, object], object]:
    def structure(value: object, _: object) -> object:
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}, not {value!r}")
        return value

    return structure


def _strings(value: object) -> list[str]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, frozenset, set)) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"expected a list of strings, not {value!r}")
    return list(items)
