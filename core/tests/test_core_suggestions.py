"""Errors about a name that does not exist suggest the one that was meant."""

from __future__ import annotations

from typing import Any

import pytest
from trunkline import ChatRequest, ConfigurationError, ProviderNotFound, open_service, open_services
from trunkline._suggestions import did_you_mean, nearest

NAMES = ("openai", "openai-compatible", "azure-openai", "bedrock")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("opnai", "openai"),
        ("OpenAI", "openai"),
        ("openai_compatible", "openai-compatible"),
        ("azure", "azure-openai"),
        ("bedrok", "bedrock"),
        (" bedrock", "bedrock"),
        ("compatible", "openai-compatible"),
        ("acme", None),
        ("b", None),
        ("", None),
    ],
)
def test_the_nearest_name_is_found(name: str, meant: str | None) -> None:
    assert nearest(name, NAMES) == meant
    assert did_you_mean(name, NAMES) == (f"; did you mean {meant!r}?" if meant else ";")
    assert nearest(name, ()) is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(("model", "default_model"), ("url", "api_url"), ("facts", "model_facts"), ("modle_facts", "model_facts")),
        *(("modle", "default_model"), ("fcats", "model_facts")),
    ],
)
def test_a_name_without_its_first_words_means_the_one_that_ends_with_it(name: str, meant: str) -> None:
    assert nearest(name, ("model_facts", "default_model", "control_url", "api_url")) == meant


def test_every_wrong_provider_of_a_configuration_is_reported_with_its_service() -> None:
    services = {"main": {"provider": "opnai"}, "spare": {"provider": "acme"}}
    with pytest.raises(ConfigurationError, match="service 'main': no provider 'opnai'") as caught:
        open_services({"services": services})
    assert [(type(error), error.service) for error in caught.value.errors] == [
        (ProviderNotFound, "main"),
        (ProviderNotFound, "spare"),
    ]


def test_a_wrong_name_of_a_service_suggests_one_of_the_configuration(toy: Any) -> None:
    services = open_services({"services": {"main": {"provider": "openai", "api_key": "k", "default_model": "m"}}})
    with pytest.raises(KeyError, match="no service 'mian'; did you mean 'main'"):
        services["mian"]


@pytest.mark.anyio
async def test_a_wrong_keyword_of_a_call_suggests_one_of_the_request() -> None:
    service = open_service("openai", api_key="k", default_model="m")
    with pytest.raises(TypeError, match=r"^stream has no keyword 'max_tokens'; did you mean 'max_output_tokens'"):
        service.stream("Hi", max_tokens=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^chat has no keyword 'top_kk'; did you mean 'top_k'"):
        await service.chat(ChatRequest(messages="Hi"), top_kk=5)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^embed has no keyword 'x'; the keywords are model, "):
        await service.embed("Hi", x=5)  # type: ignore[call-arg]


def test_a_wrong_name_of_a_setting_suggests_one_of_the_provider() -> None:
    with pytest.raises(ConfigurationError, match="setting 'api_kay' does not exist; did you mean 'api_key'"):
        open_service("openai", api_kay="k")
