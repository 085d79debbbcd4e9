"""Settings, URLs as people paste them, and the credentials that go on a request."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from trunkline._plugins.registry import load_provider, open_steps
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConfigurationError
from trunkline.settings import json_schema, setting_infos
from trunkline_anthropic import AnthropicSettings, anthropic
from trunkline_anthropic.urls import base_url

KEY = "sk-ant-canary-5571"


def made(**values: Any) -> AnthropicSettings:
    return AnthropicSettings(**{"api_key": KEY, **values})


def test_defaults() -> None:
    settings = made()
    assert (settings.api_url, settings.api_version) == ("https://api.anthropic.com", "2026-10-21")
    assert (settings.send_user_id, settings.betas) == (False, ())


def test_the_settings_say_which_variables_they_are_read_from() -> None:
    infos = {info.name: info for info in setting_infos(AnthropicSettings)}
    assert infos["api_key"].environment == ("ANTHROPIC_API_KEY",)
    assert infos["api_url"].environment == ("ANTHROPIC_BASE_URL",)
    assert infos["api_key"].secret
    assert [info.name for info in infos.values() if info.required] == ["api_key"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_version", "2024-01-01"),
        ("api_url", "ftp://x"),
        ("api_url", 7),
        ("send_user_id", "perhaps"),
        ("send_user_id", 1),
        ("betas", 7),
        ("betas", ["a\nb"]),
        ("betas", ["é"]),
        ("headers", {"Anthropic-Beta": "a"}),
        ("api_key", ""),
        ("api_key", "clé"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name) as raised:
        made(**{name: value})
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "expected"), [(True, True), ("yes", True), ("FALSE", False), ("hashed", "hashed"), (" Hashed ", "hashed")]
)
def test_send_user_id_takes_truth_values_and_hashed(value: Any, expected: Any) -> None:
    assert made(send_user_id=value).send_user_id == expected


def test_betas_are_a_list_or_names_with_commas() -> None:
    assert made(betas="a, b").betas == made(betas=["a", "b"]).betas == ("a", "b")


def test_the_repr_shows_neither_keys_nor_the_secrets_of_a_url() -> None:
    shown = repr(made(api_url="https://ann:word@host/anthropic?key=canary"))
    assert KEY not in shown
    assert "canary" not in shown
    assert "word" not in shown


def test_the_schema_has_the_choices() -> None:
    properties: Any = json_schema(AnthropicSettings)["properties"]
    assert [choice["const"] for choice in properties["send_user_id"]["oneOf"] if "const" in choice] == [
        False,
        True,
        "hashed",
        "",
    ]
    assert [choice["const"] for choice in properties["api_version"]["oneOf"] if "const" in choice] == [
        "2026-10-21",
        "2023-06-01",
        "",
    ]


URLS = [
    # pasted, root, whether there is a note
    ("https://api.anthropic.com", "https://api.anthropic.com", False),
    ("https://api.anthropic.com/", "https://api.anthropic.com", False),
    ("https://api.anthropic.com/v1", "https://api.anthropic.com", False),
    ("https://api.anthropic.com/v1/", "https://api.anthropic.com", False),
    ("  https://api.anthropic.com/V1  ", "https://api.anthropic.com", False),
    ("'https://api.anthropic.com'", "https://api.anthropic.com", False),
    ("HTTPS://api.anthropic.com//v1//", "https://api.anthropic.com", False),
    ("api.anthropic.com", "https://api.anthropic.com", False),
    ("//api.anthropic.com/v1", "https://api.anthropic.com", False),
    ("https://api.anthropic.com/v1/messages", "https://api.anthropic.com", True),
    ("https://api.anthropic.com/v1/messages/", "https://api.anthropic.com", True),
    ("https://api.anthropic.com/v1/messages/count_tokens", "https://api.anthropic.com", True),
    ("https://api.anthropic.com/v1/messages/batches", "https://api.anthropic.com", True),
    ("https://api.anthropic.com/v1/models", "https://api.anthropic.com", True),
    ("https://api.anthropic.com/v1/complete", "https://api.anthropic.com", True),
    ("https://api.anthropic.com/v1/chat/completions", "https://api.anthropic.com", True),
    ("https://api.anthropic.com/#keys", "https://api.anthropic.com", True),
    ("https://api.deepseek.com/anthropic", "https://api.deepseek.com/anthropic", False),
    ("https://openrouter.ai/api/v1/messages", "https://openrouter.ai/api", True),
    ("https://r.services.ai.azure.com/anthropic/v1", "https://r.services.ai.azure.com/anthropic", False),
    ("https://r.services.ai.azure.com/anthropic/?a=b", "https://r.services.ai.azure.com/anthropic?a=b", False),
    ("https://gate.example/v1/messages?team=1", "https://gate.example?team=1", True),
    ("https://ann:word@gate.example/v1", "https://ann:word@gate.example", False),
    ("localhost:8080", "http://localhost:8080", False),
    ("127.0.0.1:8080/v1", "http://127.0.0.1:8080", False),
    ("[::1]:8080", "http://[::1]:8080", False),
    ("gpu-box:8000", "http://gpu-box:8000", False),
    ("192.168.1.20:1234/v1/messages", "http://192.168.1.20:1234", True),
    ("llm.example.com:8443", "https://llm.example.com:8443", False),
    ("https://bücher.example/v1", "https://bücher.example", False),
]


@pytest.mark.parametrize(("pasted", "root", "noted"), URLS, ids=[case[0].strip() for case in URLS])
def test_a_pasted_url_gives_the_root_of_all_endpoints(pasted: str, root: str, noted: bool) -> None:
    found, notes = base_url(pasted)
    assert (found, bool(notes)) == (root, noted)
    assert base_url(found) == (root, ())


@pytest.mark.parametrize(
    "pasted",
    ["", "   ", "https://", "http:///v1", "ftp://host/v1", "https://ho st/v1", "https://host:port/v1", "https://host:99999",
     "https://[::1", "/v1/messages", "https://ho\nst", "?x=1", "https://-/v1!", "javascript:alert(1)"],
)  # fmt: skip
def test_what_is_no_url_is_refused(pasted: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        base_url(pasted)


def context(**values: Any) -> ServiceContext[AnthropicSettings]:
    return ServiceContext(name="mine", provider="anthropic", settings=made(**values))


def test_the_key_goes_into_its_header() -> None:
    steps = open_steps(anthropic, context())
    signed = steps.auth.sign(WireRequest(url="https://x"), None)
    assert signed.headers == {"x-api-key": KEY}
    assert KEY not in repr(steps.auth)


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key"])
def test_a_credential_of_the_applications_own_takes_the_keys_place(header: str) -> None:
    steps = open_steps(anthropic, context(headers={header: "mine"}))
    assert steps.auth.sign(WireRequest(url="https://x"), None).headers == {}


def test_pasted_endpoint_and_plain_http_are_noted() -> None:
    notes = list(context(api_url="http://gate.example/v1/messages").settings.notes())
    assert [name for name, _ in notes] == ["api_url", "api_url"]
    assert "/messages" in notes[0][1]
    assert "plain HTTP" in notes[1][1]


def test_the_entry_point_is_the_provider() -> None:
    assert load_provider("anthropic") is anthropic


def test_importing_the_package_imports_no_step() -> None:
    code = "import sys, trunkline_anthropic; print([n for n in sys.modules if n.startswith('trunkline_anthropic.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert sorted(eval(found)) == [
        f"trunkline_anthropic.{name}" for name in ("endpoint", "model_facts", "provider", "settings", "urls")
    ]
