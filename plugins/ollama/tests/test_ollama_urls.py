"""`OLLAMA_HOST` and pasted URLs: as Ollama reads them (envconfig/config_test.go, TestHost), or refused."""

from __future__ import annotations

import pytest
from trunkline_ollama.urls import base_url

UNDERSTOOD = [
    ("1.2.3.4", "http://1.2.3.4:11434"),
    (":1234", "http://127.0.0.1:1234"),
    ("1.2.3.4:1234", "http://1.2.3.4:1234"),
    ("example.com", "http://example.com:11434"),
    ("Ollama.com/api", "https://ollama.com"),
    ("gpu/ollama", "http://gpu:11434/ollama"),
    ("fd00::1:8080", "http://[fd00::1:8080]:11434"),
    ("example.com:1234", "http://example.com:1234"),
    ("[::1]", "http://[::1]:11434"),
    ("[::]", "http://[::1]:11434"),
    ("::1", "http://[::1]:11434"),
    ("[::1]:1337", "http://[::1]:1337"),
    (' " 1.2.3.4 " ', "http://1.2.3.4:11434"),
    ("'1.2.3.4'", "http://1.2.3.4:11434"),
    ("\ufeff1.2.3.4\n", "http://1.2.3.4:11434"),
    ("http://1.2.3.4", "http://1.2.3.4"),
    ("https://example.com/ollama", "https://example.com/ollama"),
    ("0.0.0.0", "http://127.0.0.1:11434"),
    ("//localhost:11434", "http://localhost:11434"),
    ("http:/1.2.3.4:11434", "http://1.2.3.4:11434"),
    ("[Ollama](http://gpu:11434/)", "http://gpu:11434"),
]


@pytest.mark.parametrize(("pasted", "url"), UNDERSTOOD)
def test_host_is_understood(pasted: str, url: str) -> None:
    assert base_url(pasted)[0] == url


@pytest.mark.parametrize(
    ("pasted", "problem"),
    [
        (":66000", "host and port"),
        (":-1", "host and port"),
        ("11434", "a host"),
        ("::1:11434", "in brackets"),
        ("https.//h.example.com", "did you mean https://h.example.com"),
        ("sk-proj-0123456789abcdefghij", "not a key"),
        ("http//1.2.3.4", "did you mean http://1.2.3.4"),
        ("htp://1.2.3.4", "did you mean http://1.2.3.4"),
        ("http://http://localhost:11434", "did you mean http://localhost:11434"),
        ("unix:/run/ollama.sock", "http"),
        ("localhost 11434", "without spaces"),
    ],
)
def test_other_text_is_refused(pasted: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        base_url(pasted)
