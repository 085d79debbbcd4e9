import pytest
from trunkline.authoring.urls import endpoint_url, plain_http_note
from trunkline_openai.urls import base_url

CASES = [
    # pasted, base, whether there is a note
    ("https://api.openai.com/v1", "https://api.openai.com/v1", False),
    ("https://api.openai.com/v1/", "https://api.openai.com/v1", False),
    ("https://api.openai.com", "https://api.openai.com/v1", False),
    ("https://api.openai.com/", "https://api.openai.com/v1", False),
    ("  https://api.openai.com/v1  ", "https://api.openai.com/v1", False),
    ("HTTPS://api.openai.com/v1", "https://api.openai.com/v1", False),
    ("https://api.openai.com//v1//", "https://api.openai.com/v1", False),
    ("https://api.openai.com/v1/chat/completions", "https://api.openai.com/v1", True),
    ("https://api.openai.com/v1/chat/completions/", "https://api.openai.com/v1", True),
    ("https://api.openai.com/v1/responses", "https://api.openai.com/v1", True),
    ("https://api.openai.com/v1/embeddings", "https://api.openai.com/v1", True),
    ("https://api.openai.com/v1/models", "https://api.openai.com/v1", True),
    ("https://api.openai.com/v1#chat", "https://api.openai.com/v1", True),
    ("api.openai.com", "https://api.openai.com/v1", False),
    ("api.openai.com/v1", "https://api.openai.com/v1", False),
    ("//api.openai.com/v1", "https://api.openai.com/v1", False),
    ("localhost:11434", "http://localhost:11434/v1", False),
    ("localhost", "http://localhost/v1", False),
    ("127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1", False),
    ("[::1]:8080", "http://[::1]:8080/v1", False),
    ("http://[::1]:8080/v1/", "http://[::1]:8080/v1", False),
    ("192.168.1.20:1234", "http://192.168.1.20:1234/v1", False),
    ("gpu-box:8000", "http://gpu-box:8000/v1", False),
    ("gpu.local:8000/v1", "http://gpu.local:8000/v1", False),
    ("llm.example.com:8443", "https://llm.example.com:8443/v1", False),
    ("8.8.8.8:8000", "https://8.8.8.8:8000/v1", False),
    ("http://localhost:8000/chat/completions", "http://localhost:8000", True),
    ("http://localhost:8000/custom/path", "http://localhost:8000/custom/path", False),
    ("https://api.groq.com", "https://api.groq.com/openai/v1", False),
    ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1", False),
    ("https://openrouter.ai", "https://openrouter.ai/api/v1", False),
    ("https://openrouter.ai/api/v1/chat/completions", "https://openrouter.ai/api/v1", True),
    ("https://api.deepseek.com", "https://api.deepseek.com", False),
    ("https://api.deepseek.com/v1", "https://api.deepseek.com/v1", False),
    ("https://api.z.ai/api/paas/v4", "https://api.z.ai/api/paas/v4", False),
    (
        "https://generativelanguage.googleapis.com/v1beta/openai/",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        False,
    ),
    (
        "https://api.cloudflare.com/client/v4/accounts/ab/ai/v1",
        "https://api.cloudflare.com/client/v4/accounts/ab/ai/v1",
        False,
    ),
    ("https://r.openai.azure.com", "https://r.openai.azure.com/openai/v1", False),
    (
        "https://r.openai.azure.com/openai/v1/?api-version=preview",
        "https://r.openai.azure.com/openai/v1?api-version=preview",
        False,
    ),
    (
        "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
        "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
        True,
    ),
    ("https://r.services.ai.azure.com/models", "https://r.services.ai.azure.com/models", False),
    ("https://r.services.ai.azure.com/models/chat/completions", "https://r.services.ai.azure.com/models", True),
    ("https://user:word@gate.example/v1", "https://user:word@gate.example/v1", False),
    ("https://xn--bcher-kva.example/v1", "https://xn--bcher-kva.example/v1", False),
]


@pytest.mark.parametrize(("pasted", "base", "noted"), CASES, ids=[case[0].strip() for case in CASES])
def test_a_pasted_url_gives_the_base_of_all_endpoints(pasted: str, base: str, noted: bool) -> None:
    found, notes = base_url(pasted)
    assert found == base
    assert bool(notes) == noted


@pytest.mark.parametrize(
    "pasted",
    ["", "   ", "https://", "http:///v1", "ftp://host/v1", "https://ho st/v1", "https://host:port/v1", "https://host:99999",
     "https://[::1", "/v1/chat", "https://ho\nst", "?x=1", "https://-/v1!", "javascript:alert(1)"],
)  # fmt: skip
def test_what_is_no_url_is_refused(pasted: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        base_url(pasted)


def test_an_endpoint_goes_before_the_query_string() -> None:
    base, _ = base_url("https://r.openai.azure.com/openai/v1?api-version=preview")
    assert endpoint_url(base, "/models") == "https://r.openai.azure.com/openai/v1/models?api-version=preview"
    assert endpoint_url("https://api.deepseek.com", "/chat/completions") == "https://api.deepseek.com/chat/completions"


@pytest.mark.parametrize(
    ("base", "noted"),
    [
        ("http://gpu.example.com/v1", True),
        ("http://192.168.1.2:8000/v1", True),
        ("https://gpu.example.com/v1", False),
        ("http://localhost:8000/v1", False),
        ("http://127.8.9.1/v1", False),
        ("http://[::1]/v1", False),
    ],
)
def test_a_key_over_plain_http_to_another_machine_is_noted(base: str, noted: bool) -> None:
    assert (plain_http_note(base) is not None) == noted
