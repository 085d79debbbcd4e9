import pytest
from hypothesis import given, strategies as st
from trunkline_azure_openai.urls import convert_version, is_dated, surface_of

R = "https://r.openai.azure.com"
F = "https://r.services.ai.azure.com"
GW = "https://gw.azure-api.net"
DATED = "2024-10-21"
TOO = "2025-04-01-preview"
CHAT_GA = f"{R}/openai/deployments/m/chat/completions?api-version={DATED}"
CHAT_TOO = f"{R}/openai/deployments/m/chat/completions?api-version={TOO}"
CHAT_MODELS = f"{F}/models/chat/completions?api-version=2024-05-01-preview"

CASES = [
    # pasted, kind, version, deployment, the URL of a chat, whether there is a note
    (R, "v1", None, None, f"{R}/openai/v1/chat/completions", False),
    (f"{R}/", "v1", None, None, f"{R}/openai/v1/chat/completions", False),
    ("r.openai.azure.com", "v1", None, None, f"{R}/openai/v1/chat/completions", False),
    (f" '{R}/' ", "v1", None, None, f"{R}/openai/v1/chat/completions", False),
    (f"{R}/openai", "v1", None, None, f"{R}/openai/v1/chat/completions", False),
    (f"{R}/OpenAI/", "v1", None, None, f"{R}/OpenAI/v1/chat/completions", False),
    (f"{R}/#frag", "v1", None, None, f"{R}/openai/v1/chat/completions", True),
    (f"{R}/chat/completions", "v1", None, None, f"{R}/openai/v1/chat/completions", True),
    (f"{R}/?api-version={TOO}", "classic", TOO, None, CHAT_TOO, False),
    (f"{R}/openai?api-version={TOO}", "classic", TOO, None, CHAT_TOO, False),
    (f"{R}/openai/deployments", "classic", DATED, None, CHAT_GA, False),
    (f"{R}/openai/deployments/", "classic", DATED, None, CHAT_GA, False),
    (f"{R}/openai/deployments/d", "classic", DATED, "d", CHAT_GA, False),
    (f"{R}//openai/deployments/d/chat/completions?api-version={TOO}", "classic", TOO, "d", CHAT_TOO, True),
    (f"{R}/openai/deployments/d%20e%2Ff/chat/completions", "classic", DATED, "d e/f", CHAT_GA, True),
    (f"{R}/openai/deployments/openai/embeddings?API-Version={TOO}", "classic", TOO, "openai", CHAT_TOO, True),
    (f"{R}/openai/deployments/d/extensions/chat/completions", "classic", DATED, "d", CHAT_GA, True),
    (f"{R}/openai/responses?api-version={TOO}", "classic", TOO, None, CHAT_TOO, True),
    (f"{R}/openai/models?api-version={TOO}", "classic", TOO, None, CHAT_TOO, True),
    (f"{R}/openai/v1", "v1", None, None, f"{R}/openai/v1/chat/completions", False),
    (f"{R}/openai/v1/", "v1", None, None, f"{R}/openai/v1/chat/completions", False),
    (
        f"{R}/openai/v1/?api-version=preview",
        "v1",
        "preview",
        None,
        f"{R}/openai/v1/chat/completions?api-version=preview",
        False,
    ),
    (f"{R}/openai/v1/chat/completions", "v1", None, None, f"{R}/openai/v1/chat/completions", True),
    (f"{R}/openai/v1/responses", "v1", None, None, f"{R}/openai/v1/chat/completions", True),
    (f"{R}/openai/v1/models", "v1", None, None, f"{R}/openai/v1/chat/completions", True),
    (
        "https://r.cognitiveservices.azure.com/",
        "v1",
        None,
        None,
        "https://r.cognitiveservices.azure.com/openai/v1/chat/completions",
        False,
    ),
    (
        "https://eastus.api.cognitive.microsoft.com/",
        "v1",
        None,
        None,
        "https://eastus.api.cognitive.microsoft.com/openai/v1/chat/completions",
        False,
    ),
    *(
        (f"https://r.{name}", "v1", None, None, f"https://r.{name}/openai/v1/chat/completions", False)
        for domain in ("azure.us", "azure.cn")
        for name in (f"openai.{domain}", f"services.ai.{domain}", f"cognitiveservices.{domain}")
    ),
    (
        f"https://r.openai.azure.us/openai/deployments/d/chat/completions?api-version={DATED}",
        "classic",
        DATED,
        "d",
        f"https://r.openai.azure.us/openai/deployments/m/chat/completions?api-version={DATED}",
        True,
    ),
    (F, "v1", None, None, f"{F}/openai/v1/chat/completions", False),
    (f"{F}/api/projects/p", "v1", None, None, f"{F}/api/projects/p/openai/v1/chat/completions", False),
    (f"{F}/api/projects/p/openai/v1", "v1", None, None, f"{F}/api/projects/p/openai/v1/chat/completions", False),
    (f"{F}/models", "inference", "2024-05-01-preview", None, CHAT_MODELS, False),
    (
        f"{F}/models/chat/completions?api-version=2025-05-01",
        "inference",
        "2025-05-01",
        None,
        f"{F}/models/chat/completions?api-version=2025-05-01",
        True,
    ),
    (f"{F}/models/info", "inference", "2024-05-01-preview", None, CHAT_MODELS, False),
    (
        f"{GW}/team/openai/deployments/d?subscription-key=k",
        "classic",
        DATED,
        "d",
        f"{GW}/team/openai/deployments/m/chat/completions?api-version={DATED}&subscription-key=k",
        False,
    ),
    (
        f"{GW}/openai/openai/deployments/d",
        "classic",
        DATED,
        "d",
        f"{GW}/openai/openai/deployments/m/chat/completions?api-version={DATED}",
        False,
    ),
    (f"{GW}/team", "v1", None, None, f"{GW}/team/openai/v1/chat/completions", False),
    (f"{GW}/v1", "v1", None, None, f"{GW}/v1/chat/completions", False),
    (f"{GW}/team/v1/chat/completions", "v1", None, None, f"{GW}/team/v1/chat/completions", True),
    ("http://127.0.0.1:8080", "v1", None, None, "http://127.0.0.1:8080/openai/v1/chat/completions", False),
    (
        "localhost:8080/openai/deployments/d",
        "classic",
        DATED,
        "d",
        f"http://localhost:8080/openai/deployments/m/chat/completions?api-version={DATED}",
        False,
    ),
]


@pytest.mark.parametrize(("pasted", "kind", "version", "deployment", "chat", "noted"), CASES)
def test_a_pasted_url_tells_its_surface(
    pasted: str, kind: str, version: str | None, deployment: str | None, chat: str, noted: bool
) -> None:
    surface = surface_of(pasted)
    assert (surface.kind, surface.version, surface.deployment) == (kind, version, deployment)
    assert surface.url("/chat/completions", "m") == chat
    assert bool(surface.notes) is noted


@pytest.mark.parametrize(
    ("pasted", "path", "url"),
    [
        (R, "/models", f"{R}/openai/v1/models"),
        (R, "/responses", f"{R}/openai/v1/responses"),
        (f"{R}/openai/deployments/d", "/embeddings", f"{R}/openai/deployments/m/embeddings?api-version={DATED}"),
        (f"{R}/openai/deployments/d", "/models", f"{R}/openai/models?api-version={DATED}"),
        (f"{R}/openai/deployments/d", "/responses", f"{R}/openai/responses?api-version={DATED}"),
        (f"{F}/models", "/embeddings", f"{F}/models/embeddings?api-version=2024-05-01-preview"),
    ],
)
def test_each_endpoint_has_its_place(pasted: str, path: str, url: str) -> None:
    assert surface_of(pasted).url(path, "m") == url


def test_a_deployment_is_percent_encoded() -> None:
    url = surface_of(f"{R}/openai/deployments").url("/chat/completions", "a b/ü?#")
    assert url == f"{R}/openai/deployments/a%20b%2F%C3%BC%3F%23/chat/completions?api-version={DATED}"


def test_the_setting_goes_before_the_url_s_version_and_says_so() -> None:
    surface = surface_of(f"{R}/openai/deployments/d?api-version={TOO}", "2025-01-01-preview")
    assert surface.version == "2025-01-01-preview"
    assert TOO in surface.notes[0]
    assert surface_of(f"{R}/openai/deployments/d?api-version={TOO}", TOO).notes == ()


def test_a_dated_setting_makes_a_root_classic() -> None:
    assert surface_of(R, DATED).kind == "classic"
    assert surface_of(R, "preview").kind == "v1"


@pytest.mark.parametrize(
    ("pasted", "problem"),
    [
        ("", "a URL"),
        ("two words", "without spaces"),
        ("ftp://r.openai.azure.com", "http"),
        ("https://ai.azure.com/resource/deployments", "portal"),
        ("https://portal.azure.com/#view", "portal"),
        ("https://portal.azure.us/#view", "portal"),
        ("https://ai.azure.cn/", "portal"),
        ("https//r.openai.azure.com/", "did you mean https://r.openai.azure.com"),
        ("https://{resource}.openai.azure.com/", "placeholders; replace {resource}"),
        (f"{R}/openai/deployments/d?api-version={{version}}", "version such as"),
    ],
)
def test_what_is_no_endpoint_is_refused(pasted: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        surface_of(pasted)


@pytest.mark.parametrize(("text", "dated"), [("2024-10-21", True), (TOO, True), ("preview", False), ("v1", False)])
def test_versions_are_dates_or_words(text: str, dated: bool) -> None:
    assert convert_version(f" {text} ") == text
    assert is_dated(text) is dated


@given(st.text(max_size=60), st.sampled_from(["", R, f"{R}/openai/", f"{F}/models/"]))
def test_any_text_gives_a_surface_or_a_value_error(text: str, prefix: str) -> None:
    try:
        surface = surface_of(prefix + text)
    except ValueError:
        return
    # What is pasted again means the same.
    assert surface_of(surface.url("/chat/completions", surface.deployment or "m")).kind == surface.kind
