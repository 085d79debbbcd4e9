"""Proxies that fail: the error names the proxy and where it is configured, and not only the provider."""

from __future__ import annotations

import pytest
from trunkline import ConfigurationError
from trunkline._http.proxies import Proxies

PASSWORDS = [
    "p@hidden-word/w",
    "hidden-word/w",
    "12/hidden-word",
    "p?hidden-word",
    "p#hidden-word",
    "1@2/hidden-word@3",
]


@pytest.mark.parametrize("password", PASSWORDS)
def test_password_that_is_not_percent_encoded_is_refused_and_not_shown(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{password}@127.0.0.1:3128")
    with pytest.raises(
        ConfigurationError, match="environment variable HTTPS_PROXY must be the URL of a proxy"
    ) as caught:
        Proxies(None).find("https", "provider.example", 443)
    assert "hidden-word" not in str(caught.value)
    with pytest.raises(ConfigurationError) as caught:
        Proxies(f"http://user:{password}@127.0.0.1:3128")
    assert "hidden-word" not in str(caught.value)


@pytest.mark.parametrize("blank", ["   ", "\t"])
def test_blank_variable_is_no_proxy(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", blank)
    assert Proxies(None).find("https", "provider.example", 443) is None
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:3128")
    found = Proxies(None).find("https", "provider.example", 443)
    assert found is not None
    assert found.origin == "environment variable ALL_PROXY"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
