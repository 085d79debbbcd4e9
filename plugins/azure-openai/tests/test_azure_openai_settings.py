import subprocess
import sys
from typing import Any

import pytest
from trunkline._config.sources import make_settings
from trunkline.errors import ConfigurationError
from trunkline.settings import json_schema
from trunkline_azure_openai import AzureOpenAISettings, TokenProvider, azure_openai
from trunkline_azure_openai.urls import PUBLIC

SCOPE = PUBLIC.scope

R = "https://r.openai.azure.com"
DEPLOYMENT = f"{R}/openai/deployments/d/chat/completions?api-version=2025-01-01-preview"


def token() -> str:
    return "token-REDACTED"


def made(**fields: Any) -> AzureOpenAISettings:
    return AzureOpenAISettings(**{"api_url": R, "api_key": "key-REDACTED", **fields})


def test_importing_the_package_imports_no_step() -> None:
    code = "import sys, trunkline_azure_openai; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    steps = ("translate", "parse", "auth", "tokens", "errors")
    assert not {f"trunkline_azure_openai.{step}" for step in steps} & set(found)
    assert not {"trunkline_openai.translate", "trunkline_openai.parse", "anyio", "httpx2", "cattrs", "azure"} & set(
        found
    )


def test_the_least_that_is_needed() -> None:
    settings = made()
    assert (settings.api, settings.token_scope, settings.send_user_id, settings.api_version) == (
        "chat",
        SCOPE,
        False,
        None,
    )
    assert settings.default_model is None
    assert "REDACTED" not in repr(settings)


@pytest.mark.parametrize(
    ("fields", "setting", "problem"),
    [
        ({"api_key": None}, "api_key", "token_provider"),
        ({"token_provider": token}, "token_provider", "both set"),
        ({"api_url": 7}, "api_url", "a URL"),
        ({"api_url": "https://ai.azure.com"}, "api_url", "portal"),
        ({"api_version": "x y"}, "api_version", "a version such as"),
        ({"api_version": "2024-10-21", "api_url": f"{R}/openai/v1"}, "api_version", "no dated versions"),
        ({"api_url": f"{R}/openai/v1?api-version=2024-10-21"}, "api_version", "no dated versions"),
        ({"api_version": "preview", "api_url": f"{R}/openai/deployments/d"}, "api_version", "requires a date"),
        ({"api": "responses", "api_url": "https://r.services.ai.azure.com/models"}, "api", "/models"),
        ({"headers": {"Api-Key": "key-REDACTED"}}, "headers", "'Api-Key'"),
        ({"headers": {"authorization": "Bearer REDACTED"}}, "headers", "token_provider"),
        ({"api_key": None, "token_provider": "eyJ-a-pasted-token-REDACTED"}, "token_provider", "a function"),
        ({"api_key": None, "token_provider": 7}, "token_provider", "a function"),
        ({"api_key": None, "token_provider": str}, "token_provider", "a function"),
        ({"send_user_id": "some"}, "send_user_id", "hashed"),
    ],
)
def test_a_mistake_names_the_setting_and_shows_no_secret(fields: dict[str, Any], setting: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        made(**fields)
    assert caught.value.setting == setting
    assert problem in str(caught.value)
    assert "REDACTED" not in str(caught.value)


class Credential:
    def get_token(self, *scopes: str) -> object:
        raise AssertionError


@pytest.mark.parametrize("provider", [token, Credential(), "azure-identity", " Azure-Identity "])
def test_tokens_come_from_a_function_a_credential_or_azure_identity(provider: TokenProvider) -> None:
    settings = AzureOpenAISettings(api_url=R, token_provider=provider)
    assert settings.token_provider == (provider if not isinstance(provider, str) else "azure-identity")
    assert "token_provider=" in repr(settings)


def test_azure_identity_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure", None)
    monkeypatch.delitem(sys.modules, "azure.identity", raising=False)
    with pytest.raises(ConfigurationError, match=r"pip install 'trunkline-azure-openai\[azure-identity\]'"):
        AzureOpenAISettings(api_url=R, token_provider="azure-identity")


def from_sources(arguments: dict[str, object], **environ: str) -> AzureOpenAISettings:
    settings = make_settings("azure-openai", azure_openai, arguments=arguments, environ=environ)
    assert isinstance(settings, AzureOpenAISettings)
    return settings


def test_the_customary_variables_are_read() -> None:
    settings = from_sources({}, AZURE_OPENAI_ENDPOINT=DEPLOYMENT, AZURE_OPENAI_API_KEY="key-REDACTED")
    assert settings.api_key is not None
    assert settings.surface.kind == "classic"


def test_a_key_of_the_environment_does_not_stand_in_the_way_of_a_token_provider() -> None:
    settings = from_sources({"api_url": R, "token_provider": token}, AZURE_OPENAI_API_KEY="key-REDACTED")
    assert (settings.api_key, settings.token_provider) == (None, token)


def test_azure_identity_can_be_named_in_the_environment() -> None:
    settings = from_sources({"api_url": R}, TRUNKLINE_AZURE_OPENAI_TOKEN_PROVIDER="azure-identity")
    assert settings.token_provider == "azure-identity"


def test_the_deployment_of_the_url_is_the_default_model_unless_there_is_one() -> None:
    assert made(api_url=DEPLOYMENT).default_model == "d"
    chosen = made(api_url=DEPLOYMENT, default_model="e")
    assert chosen.default_model == "e"
    assert any("'d' is not used" in note for _, note in chosen.notes())


@pytest.mark.parametrize(
    ("fields", "noted"),
    [
        ({}, []),
        ({"api_url": "http://gw.example.com"}, ["plain HTTP"]),
        ({"api_url": "http://localhost:1"}, []),
        ({"api_url": f"{R}/openai/v1/responses"}, ["removed", "api = 'responses'"]),
        ({"api_url": f"{R}/openai/v1/responses", "api": "responses"}, ["removed"]),
    ],
)
def test_what_should_be_known_of_the_url_is_noted(fields: dict[str, Any], noted: list[str]) -> None:
    notes = [note for _, note in made(**fields).notes()]
    assert len(notes) == len(noted)
    assert all(part in note for part, note in zip(noted, notes, strict=True))


def test_the_schema_offers_what_a_file_can_say() -> None:
    schema: Any = json_schema(AzureOpenAISettings)
    assert schema["required"] == ["api_url"]
    choices = [choice["const"] for choice in schema["properties"]["token_provider"]["oneOf"] if "const" in choice]
    assert choices == ["azure-identity", ""]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"api_key": None, "token_provider": "x", "headers": {"api-key": "k"}}, {"token_provider", "headers"}),
        ({"headers": {"a b": "c"}, "api_key": None}, {"headers", "api_key"}),
        (
            {"token_provider": 7, "api_key": None, "api_version": "2024-10-21", "api_url": f"{R}/openai/v1"},
            {"token_provider", "api_version"},
        ),
        (
            {"api_url": "ftp://x", "api_key": "k", "token_provider": token, "headers": {"api-key": "k"}},
            {"api_url", "token_provider", "headers"},
        ),
    ],
)
def test_wrong_value_hides_no_other_mistake(fields: dict[str, Any], wrong: set[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        made(**fields)
    assert {error.setting for error in caught.value.errors} == wrong
