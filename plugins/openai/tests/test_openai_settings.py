import logging
from fnmatch import fnmatchcase
from typing import Any

import pytest
from trunkline.errors import ConfigurationError
from trunkline.secrets import Secret
from trunkline.settings import json_schema, setting_infos
from trunkline_openai.model_facts import OPENAI_MODELS, facts_of
from trunkline_openai.profile import PROFILES, Profile, profile_from
from trunkline_openai.settings import OpenAICompatibleSettings, OpenAISettings


def test_the_settings_say_which_variables_they_are_read_from() -> None:
    infos = {info.name: info for info in setting_infos(OpenAISettings)}
    assert infos["api_key"].environment == ("OPENAI_API_KEY",)
    assert infos["organization_id"].environment == ("OPENAI_ORG_ID",)
    assert infos["project_id"].environment == ("OPENAI_PROJECT_ID",)
    assert infos["api_url"].environment == ("OPENAI_BASE_URL",)
    assert infos["api_key"].secret
    assert infos["api_key"].required


def test_defaults() -> None:
    settings = OpenAISettings(api_key=Secret("sk-secret"))
    assert (settings.api, settings.api_url, settings.send_user_id) == ("chat", "https://api.openai.com/v1", False)
    compatible = OpenAICompatibleSettings(api_url="localhost:8080")
    assert (compatible.profile, compatible.server) == (None, PROFILES["generic"])
    assert compatible.api_key is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("api.openai.com", "openai"),
        ("https://us.api.openai.com/v1", "openai"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://API.DeepSeek.com", "deepseek"),
        ("https://api.x.ai/v1/chat/completions", "xai"),
        ("https://api.mistral.ai/v1", "mistral"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "gemini"),
        ("https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/openapi", "gemini"),
        ("https://mine.openai.azure.com/openai/v1/", "azure"),
        ("https://api.moonshot.cn/v1", "moonshot"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen"),
        ("https://api.anthropic.com/v1/", "anthropic"),
        ("http://localhost:8000", "generic"),
        ("https://api.openai.com.example.org/v1", "generic"),
        ("https://notapi.x.ai.example/v1", "generic"),
    ],
)
def test_a_known_host_selects_its_profile(url: str, name: str) -> None:
    assert OpenAICompatibleSettings(api_url=url).server is PROFILES[name]
    assert OpenAICompatibleSettings(api_url=url, profile="generic").server is PROFILES["generic"]


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), ("yes", True), ("FALSE", False), ("hashed", "hashed"), (" Hashed ", "hashed")]
)
def test_send_user_id_takes_truth_values_and_hashed(value: Any, expected: Any) -> None:
    assert OpenAISettings(api_key=Secret("k"), send_user_id=value).send_user_id == expected


BAD: list[tuple[str, Any]] = [
    ("send_user_id", "perhaps"),
    ("send_user_id", 1),
    ("api", "assistants"),
    ("api_url", "ftp://x"),
    ("api_url", 7),
    ("organization_id", "a\nb"),
    ("project_id", "é"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        OpenAISettings(**{"api_key": "k", name: value})


def test_the_repr_shows_neither_keys_nor_the_secrets_of_a_url() -> None:
    shown = repr(OpenAICompatibleSettings(api_url="https://ann:word@x/v1?key=canary", api_key=Secret("canary")))
    assert "canary" not in shown
    assert "word" not in shown


def test_the_schema_has_the_choices() -> None:
    properties: Any = json_schema(OpenAICompatibleSettings)["properties"]
    assert [choice["const"] for choice in properties["send_user_id"]["oneOf"] if "const" in choice] == [
        False,
        True,
        "hashed",
        "",
    ]
    assert properties["profile"].get("default") is None
    names = [choice["const"] for choice in properties["profile"]["oneOf"] if "const" in choice]
    assert sorted(names) == sorted((*PROFILES, ""))


def test_a_profile_is_a_name_a_table_or_a_value() -> None:
    assert profile_from("groq") is PROFILES["groq"]
    assert profile_from(PROFILES["vllm"]) is PROFILES["vllm"]
    made = profile_from(
        {
            "base": "vllm",
            "name": "mine",
            "max_tokens_field": "max_completion_tokens",
            "takes": ["tools", "seed"],
            "reasoning_fields": "thoughts",
            "stop_limit": None,
            "think_tags": True,
        }
    )
    assert made.name == "mine"
    assert made.max_tokens_field == "max_completion_tokens"
    assert made.takes == {"tools", "seed"}
    assert made.reasoning_fields == ("thoughts",)
    assert (made.stop_limit, made.think_tags, made.stream_options) == (None, True, True)
    assert profile_from({}).takes == PROFILES["generic"].takes


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("nope", "openrouter"),
        (7, "table"),
        ({"base": "nope"}, "openrouter"),
        ({"base": 7}, "base"),
        ({"max_token_field": "x"}, "max_tokens_field"),
        ({"max_tokens_field": "x"}, "max_tokens_field"),
        ({"think_tags": "yes"}, "think_tags"),
        ({"stop_limit": "4"}, "stop_limit"),
        ({"takes": ["telepathy"]}, "telepathy"),
        ({"takes": 7}, "takes"),
        ({"models": []}, "max_tokens_field"),
        ({"models": []}, "unknown: models"),
        ({"system_messages": "nowhere"}, "expected one of anywhere, first, not_after_answer, not 'nowhere'"),
        ({"call_id_pattern": "["}, r"call_id_pattern must be a regular expression \(.*\), not '\['"),
        ({"call_id_length": 0}, "call_id_length must be at least 1, not 0"),
    ],
)
def test_a_wrong_profile_is_refused_with_what_is_accepted(value: Any, accepted: str) -> None:
    with pytest.raises(ConfigurationError, match=accepted):
        OpenAICompatibleSettings(api_url="https://x/v1", profile=value)


@pytest.mark.parametrize(
    ("facts", "accepted"),
    [
        ({"call_id_pattern": "["}, r"'call_id_pattern' of 'm\*' must be a regular expression \(.*\), not '\['"),
        ({"call_id_length": 0}, r"'call_id_length' of 'm\*' must be at least 1, not 0"),
    ],
)
def test_facts_about_tool_call_ids_are_checked(facts: Any, accepted: str) -> None:
    with pytest.raises(ConfigurationError, match=accepted):
        OpenAICompatibleSettings(api_url="https://x/v1", model_facts={"m*": facts})


def test_built_in_profiles_take_only_known_features_and_the_generic_one_the_least_extras() -> None:
    generic = PROFILES["generic"]
    extras = [generic.obfuscation, generic.think_tags, generic.reasoning_replay]
    assert not any(extras)
    assert generic.max_tokens_field == "max_tokens"
    assert {"openai", "ollama", "vllm", "llama.cpp", "lm-studio", "openrouter", "deepseek", "groq"} <= PROFILES.keys()
    assert {"together", "fireworks", "xai"} <= PROFILES.keys()
    assert all(PROFILES[name].name == name for name in PROFILES)


@pytest.mark.parametrize(
    ("model", "when"),
    [
        ("o1", "always"),
        ("o3-2025-04-16", "always"),
        ("gpt-5", "always"),
        ("gpt-5-nano", "always"),
        ("gpt-5-chat-latest", "never"),
        ("gpt-5.1", "opt_in"),
        ("gpt-5.1-codex", "always"),
        ("gpt-5.2-chat-latest", "always"),
        ("gpt-5.4", "opt_in"),
        ("gpt-5.4-pro", "always"),
        ("gpt-5.5", "default"),
        ("gpt-5.6-sol", "default"),
        ("gpt-6-astra", "always"),
        ("gpt-6-sol", "default"),
        ("openai/o3", "always"),
        ("ft:gpt-4o:acme", "never"),
        ("gpt-4o", "never"),
        ("chatgpt-4o-latest", "never"),
        ("omni-moderation", "never"),
    ],
)
def test_when_openais_models_reason(model: str, when: str) -> None:
    assert facts_of(model, PROFILES["openai"].models, {}).reasons == when


def test_each_row_has_a_source_and_is_not_hidden_by_an_earlier_row() -> None:
    for place, row in enumerate(OPENAI_MODELS):
        assert row.source
        assert not any(fnmatchcase(row.pattern.replace("*", ""), before.pattern) for before in OPENAI_MODELS[:place])


@pytest.mark.parametrize("settings", [OpenAISettings, OpenAICompatibleSettings])
def test_invalid_model_facts_are_refused(settings: Any) -> None:
    required = {"api_url": "https://x/v1", "api_key": Secret("sk-x")}
    facts = {"gpt-9*": {"efforts": ["low"], "refuses": ["stop"], "reasons": "always"}}
    made = settings(**required, model_facts=facts)
    assert made.model_facts["gpt-9*"]["refuses"] == {"stop"}
    with pytest.raises(ConfigurationError, match="efforts"):
        settings(**required, model_facts={"gpt-9*": {"effort": ["low"]}})
    with pytest.raises(ConfigurationError, match="always"):
        settings(**required, model_facts={"gpt-9*": {"reasons": "sometimes"}})


def test_a_profile_is_a_value() -> None:
    assert Profile(name="a") == Profile(name="a")
    with pytest.raises(AttributeError):
        Profile(name="a").name = "b"  # type: ignore[misc]


def test_loggers_are_quiet_for_plain_settings(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        OpenAISettings(api_key=Secret("sk-secret"))
    assert caplog.records == []
