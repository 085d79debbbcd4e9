"""The settings, the URL as people paste it, and how a service opens."""

import subprocess
import sys
from typing import Any

import pytest
import trunkline
from trunkline._plugins.registry import load_provider
from trunkline.authoring.provider import ServiceContext
from trunkline.authoring.urls import endpoint_url, plain_http_note
from trunkline.authoring.wire import WireRequest
from trunkline.errors import ConfigurationError
from trunkline.messages import Document
from trunkline.secrets import Secret
from trunkline.settings import json_schema, setting_infos
from trunkline_cohere import CohereSettings, cohere
from trunkline_cohere.urls import base_url

URLS = [
    ("https://api.cohere.com", "https://api.cohere.com", 0),
    ("https://api.cohere.com/", "https://api.cohere.com", 0),
    (" api.cohere.com ", "https://api.cohere.com", 0),
    ("https://api.cohere.com/v1", "https://api.cohere.com", 0),
    ("https://api.cohere.com/v2/", "https://api.cohere.com", 0),
    ("https://api.cohere.com/v2/chat", "https://api.cohere.com", 1),
    ("https://api.cohere.com/v1/models/", "https://api.cohere.com", 1),
    ("https://api.cohere.ai/compatibility/v1", "https://api.cohere.ai", 1),
    ("https://api.cohere.ai/compatibility/v1/chat/completions", "https://api.cohere.ai", 1),
    ("https://gateway.example/cohere", "https://gateway.example/cohere", 0),
    ("https://gateway.example/cohere/v2/embed", "https://gateway.example/cohere", 1),
    ("https://gateway.example/chat", "https://gateway.example", 1),
    ("https://gateway.example/chatty", "https://gateway.example/chatty", 0),
    ("https://gateway.example/x?tenant=1", "https://gateway.example/x?tenant=1", 0),
    ("https://api.cohere.com/#top", "https://api.cohere.com", 1),
    ("localhost:8080", "http://localhost:8080", 0),
    ("gpu-box:8000/v1", "http://gpu-box:8000", 0),
    ("10.0.0.7:9000", "http://10.0.0.7:9000", 0),
    ("[::1]:9000", "http://[::1]:9000", 0),
    ("HTTPS://API.cohere.com//v2//chat", "https://API.cohere.com", 1),
    ("'https://api.cohere.com'", "https://api.cohere.com", 0),
]


@pytest.mark.parametrize(("pasted", "root", "notes"), URLS)
def test_a_pasted_url_gives_the_root(pasted: str, root: str, notes: int) -> None:
    found = base_url(pasted)
    assert (found[0], len(found[1])) == (root, notes)


@pytest.mark.parametrize("pasted", URLS)
def test_a_root_is_its_own_root(pasted: tuple[str, str, int]) -> None:
    assert base_url(pasted[1]) == (pasted[1], ())


@pytest.mark.parametrize(
    "pasted", ["", "  ", "ftp://x", "https://", "https://a b", "https://x:port", "https://?", "\x00"]
)
def test_what_is_no_url_is_refused(pasted: str) -> None:
    with pytest.raises(ValueError, match="a URL"):
        base_url(pasted)


def test_endpoints_stand_under_the_root_and_before_its_query() -> None:
    assert endpoint_url("https://x/a?t=1", "/v1/models", "page_size=2") == "https://x/a/v1/models?t=1&page_size=2"


def test_a_key_over_plain_http_is_reported_unless_the_host_is_this_machine() -> None:
    assert plain_http_note("http://127.0.0.1:1") is None
    assert plain_http_note("https://x") is None
    assert "gpu-box" in (plain_http_note("http://gpu-box:8000") or "")


def test_the_settings_say_which_variables_they_are_read_from() -> None:
    infos = {info.name: info for info in setting_infos(CohereSettings)}
    assert infos["api_key"].environment == ("COHERE_API_KEY", "CO_API_KEY")
    assert infos["api_url"].environment == ("CO_API_URL",)
    assert infos["api_key"].secret
    assert infos["api_key"].required
    assert not infos["api_url"].required


@pytest.mark.parametrize("variable", ["COHERE_API_KEY", "CO_API_KEY", "TRUNKLINE_COHERE_API_KEY"])
def test_the_key_comes_from_the_environment(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COHERE_API_KEY", "CO_API_KEY", "TRUNKLINE_COHERE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError, match="api_key"):
        trunkline.open_service("cohere")
    monkeypatch.setenv(variable, "from-environment")
    assert trunkline.open_service("cohere").provider == "cohere"


BAD: list[tuple[str, Any]] = [("api_url", "ftp://x"), ("api_url", 7), ("api_key", ""), ("api_key", "a\nb")]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        CohereSettings(**{"api_key": "k", name: value})


def test_the_repr_shows_neither_keys_nor_the_secrets_of_a_url() -> None:
    shown = repr(CohereSettings(api_url="https://ann:word@x/?key=canary", api_key=Secret("canary")))
    assert "canary" not in shown
    assert "word" not in shown


def test_the_schema_has_the_default_url() -> None:
    properties: Any = json_schema(CohereSettings)["properties"]
    assert properties["api_url"]["default"] == "https://api.cohere.com"


def test_the_key_goes_into_the_authorization_header(context: ServiceContext[CohereSettings]) -> None:
    signed = cohere.auth(context).sign(WireRequest(url="https://x"), None)
    assert signed.headers == {"authorization": "Bearer cohere-secret"}


def test_an_authorization_header_of_the_settings_wins() -> None:
    settings = CohereSettings(api_key=Secret("k"), headers={"Authorization": "Bearer other"})
    auth = cohere.auth(ServiceContext(name="s", provider="cohere", settings=settings))
    assert auth.sign(WireRequest(url="https://x"), None).headers == {}


def test_notes_report_a_changed_url_and_a_key_over_plain_http() -> None:
    settings = CohereSettings(api_key=Secret("k"), api_url="http://example.com/compatibility/v1")
    changed, plain = settings.notes()
    assert changed == ("api_url", "removed /compatibility/v1, because this provider uses Cohere's own API")
    assert plain[0] == "api_url"
    assert "plain HTTP" in plain[1]


def test_the_provider_is_found_by_its_name_and_asks_for_the_bytes_of_documents() -> None:
    assert load_provider("cohere") is cohere
    assert cohere.bytes_only_media == (Document,)


def test_importing_the_plugin_imports_neither_translator_nor_parser() -> None:
    code = "import sys, trunkline_cohere; print([name for name in sys.modules if name.startswith('trunkline_cohere.')])"
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert sorted(eval(shown)) == ["trunkline_cohere.model_facts", "trunkline_cohere.settings", "trunkline_cohere.urls"]
