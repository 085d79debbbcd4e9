"""Functions that translators and settings of several providers share: URLs, the user's id, warnings."""

from __future__ import annotations

from urllib.parse import urlunsplit

import pytest
from trunkline import Secret
from trunkline.authoring.urls import endpoint_url, is_loopback, plain_http_note, split_url
from trunkline.authoring.user_id import convert_send_user_id, user_identifier
from trunkline.authoring.warnings import Warnings
from trunkline.settings import Converted, Settings, setting, settings, url_setting


@pytest.mark.parametrize(
    ("pasted", "url"),
    [
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("  'https://api.example.com//v1//x/' ", "https://api.example.com/v1/x"),
        ("api.example.com", "https://api.example.com"),
        ("//api.example.com/v1", "https://api.example.com/v1"),
        ("localhost:8080", "http://localhost:8080"),
        ("127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("box:11434", "http://box:11434"),
        ("box.local:11434", "http://box.local:11434"),
        ("192.168.1.5:8000", "http://192.168.1.5:8000"),
        ("192.168.1.5", "https://192.168.1.5"),
        ("api.example.com:8443", "https://api.example.com:8443"),
        ("HTTPS://api.example.com/?api-version=1", "https://api.example.com?api-version=1"),
        ("https://api.example.com/v1#here", "https://api.example.com/v1"),
        ("https://bücher.example", "https://bücher.example"),
    ],
)
def test_a_url_is_taken_as_people_paste_it(pasted: str, url: str) -> None:
    split, notes = split_url(pasted)
    assert urlunsplit(split) == url
    assert bool(notes) == ("#" in pasted)
    assert urlunsplit(split_url(url)[0]) == url


@pytest.mark.parametrize(
    "pasted",
    ["", " ", "https://", "ftp://x.example", "https://a b.example", "https://x.example:p", "https://a..b", "\x00"],
)
def test_invalid_url_is_refused_with_the_accepted_forms(pasted: str) -> None:
    with pytest.raises(ValueError, match="a URL"):
        split_url(pasted)


def test_an_endpoint_is_joined_before_the_query() -> None:
    assert endpoint_url("https://x.example/v1", "/chat") == "https://x.example/v1/chat"
    assert endpoint_url("https://x.example/v1/?a=1", "/models", "page=2") == "https://x.example/v1/models?a=1&page=2"


def test_plain_http_to_another_machine_is_worth_a_note() -> None:
    assert plain_http_note("http://api.example.com") is not None
    assert plain_http_note("https://api.example.com") is None
    assert plain_http_note("http://127.0.0.1:1") is None
    assert is_loopback("a.localhost")
    assert not is_loopback("localhost.example")


@settings
class ClientSettings(Settings):
    provider = "acme"

    token_url: str = url_setting("Token URL", "The URL of tokens.")
    client_secret: Converted[Secret | None, str] = setting("Client secret", "A secret.", default=None, in_header=False)


@pytest.mark.parametrize(("secret", "noted"), [("s", True), (None, False)])
def test_any_secret_gives_a_note_of_plain_http(secret: str | None, noted: bool) -> None:
    made = ClientSettings(default_model="m", token_url="http://host.example", client_secret=secret)
    assert any("credentials are sent to host.example over plain HTTP" in note for _, note in made.notes()) is noted


def test_repeated_warning_is_reported_once() -> None:
    warnings = Warnings()
    for _ in range(2):
        warnings.add("unsupported", "seed", "no seed", lossy=True)
    assert len(warnings.all()) == 1


def test_a_user_s_id_is_sent_as_the_setting_says() -> None:
    key = Secret("k")
    assert user_identifier("u", False, key) is None
    assert user_identifier("u", True, key) == "u"
    hashed = user_identifier("u", "hashed", key)
    assert hashed is not None
    assert len(hashed) == 64
    assert hashed == user_identifier("u", "hashed", key)
    assert hashed != user_identifier("u", "hashed", Secret("other"))
    assert hashed != user_identifier("u", "hashed", None)
    assert user_identifier(None, True, key) is None


@pytest.mark.parametrize(("value", "setting"), [("yes", True), ("0", False), (True, True), (" Hashed ", "hashed")])
def test_send_user_id_accepts_booleans_and_hashed(value: object, setting: object) -> None:
    assert convert_send_user_id(value) == setting


@pytest.mark.parametrize("value", ["perhaps", 1.5, None])
def test_send_user_id_refuses_other_values(value: object) -> None:
    with pytest.raises(ValueError, match="hashed"):
        convert_send_user_id(value)
