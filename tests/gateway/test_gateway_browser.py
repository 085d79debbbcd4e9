"""The console in Chromium: an administrator's way from the first start to a revoked key, and every page with axe."""

from __future__ import annotations

import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import openai
import pytest
from gateway_process import ADMIN_KEY, GatewayProcess, gateway_process
from playwright.sync_api import Browser, Page, expect, sync_playwright
from server_process import server_process
from streaming_server import streaming_server
from trunkline_llamacpp.model_file import INSTALL_MODEL, packaged_model

CHROMIUM = Path("/usr/bin/chromium")
WIDE, NARROW = 1280, 320
LLAMA_SERVER = Path(__file__).parents[1] / "servers" / "llama_server.py"
LLAMA_KEY, MODEL = "sk-real-server-1b9f7c", "smollm2"
QUESTION = "Why is the sky blue?"
# Keeps what an answer was after each change of the page.
WATCH_ANSWERS = """() => {
    window.states = [];
    new MutationObserver(() => {
        const text = document.querySelector(".turn.assistant .answer-text")?.textContent;
        if (text && text !== states.at(-1)) states.push(text);
    }).observe(document.getElementById("turns"), { subtree: true, childList: true, characterData: true });
}"""

expect.set_options(timeout=20_000)  # milliseconds

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Chromium at /usr/bin/chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Chromium has no sandbox for root, and containers forbid it to others.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with streaming_server() as url:
        yield url


@pytest.fixture(scope="module")
def llama_server() -> Iterator[str]:
    """llama.cpp's own server with a real model."""
    model = packaged_model()
    if model is None:
        pytest.skip(f"needs a model: {INSTALL_MODEL}")
    arguments = (str(LLAMA_SERVER), str(model), "--key", LLAMA_KEY, "--alias", MODEL)
    with server_process(sys.executable, *arguments) as url:
        yield url


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway_process(tmp_path_factory.mktemp("gateway")) as process:
        yield process


def open_page(browser: Browser, gateway: GatewayProcess, *, width: int = WIDE, scheme: str = "light") -> Page:
    """Sign in."""
    context = browser.new_context(
        base_url=gateway.url,
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    page = context.new_page()
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("console", lambda message: complain(message.text) if message.type == "error" else None)
    page.goto("/console/")
    page.get_by_label("Admin key").fill(ADMIN_KEY)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Services", exact=True)).to_be_visible()
    return page


complaints: list[str] = []


def complain(text: str) -> None:
    if "status of 422" not in text:  # a form with mistakes
        complaints.append(text)


@pytest.fixture(autouse=True)
def nothing_to_complain_about() -> Iterator[None]:
    """Fail a test in which a script fails, or the content-security policy refuses something."""
    complaints.clear()
    yield
    assert complaints == []


def findings(page: Page) -> list[str]:
    """Return what axe finds, and whether the page is wider than the window."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    result = page.evaluate("axe.run()")
    found = [f"{item['id']}: {node['html']}" for item in result["violations"] for node in item["nodes"]]
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*found, f"{overflow} px too wide"] if overflow else found


def test_an_administrator_adds_a_service_makes_a_key_and_revokes_it(
    browser: Browser, gateway: GatewayProcess, llama_server: str
) -> None:
    page = open_page(browser, gateway)
    page.get_by_role("link", name="Add a service").first.click()
    page.get_by_role("link", name="OpenAI Compatible").click()
    page.get_by_role("button", name="Save service").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved")
    expect(page.locator("#error-field-s-api_url")).to_have_text("Required")

    page.get_by_label("Name", exact=False).first.fill("local")
    page.locator("#field-s-default_model").fill(MODEL)
    result = page.locator("#check-result")
    for url, key, text in (
        ("http://127.0.0.1:9", LLAMA_KEY, "connection refused"),
        (f"{llama_server}/nowhere", LLAMA_KEY, "404"),
        (llama_server, "sk-wrong", "401"),
    ):
        page.locator("#field-s-api_url").fill(url)
        page.locator("#field-s-api_key").fill(key)
        page.get_by_role("button", name="Test connection").click()
        expect(result).to_contain_text(text)
        expect(result).to_contain_text("The service does not work")
        expect(result).to_contain_text("What to do:")
        assert key not in result.inner_text()
    page.locator("#field-s-api_key").fill(LLAMA_KEY)
    page.get_by_role("button", name="Test connection").click()
    expect(result).to_contain_text("The service works")
    expect(result).to_contain_text(MODEL)
    page.get_by_role("button", name="Save service").click()
    expect(page.get_by_role("status")).to_have_text("local is saved.")

    page.goto(f"/console/playground?model=local/{MODEL}")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Maximum output tokens").fill("24")
    page.evaluate(WATCH_ANSWERS)
    page.get_by_label("Message").fill(QUESTION)
    page.get_by_label("Message").press("Control+Enter")
    expect(page.locator(".facts-line")).to_contain_text("First token")
    answered = page.locator(".turn.assistant .answer-text").inner_text()
    states = page.evaluate("states")
    assert len(states) > 3, states
    assert all(state.startswith(before) for before, state in pairwise(states))
    page.get_by_text("The same call as code").click()
    expect(page.locator("#code-python")).to_contain_text(f"local/{MODEL}")
    page.get_by_role("tab", name="curl").click()
    expect(page.locator("#code-curl")).to_be_visible()

    page.goto("/console/keys/new")
    page.get_by_label("Name").fill("application")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret").inner_text()
    with closing(openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=secret, max_retries=0)) as client:

        def ask() -> openai.types.chat.ChatCompletion:
            return client.chat.completions.create(
                model=f"local/{MODEL}",
                messages=[{"role": "user", "content": QUESTION}],
                temperature=0,
                max_tokens=24,
            )

        answer = ask()
        assert (answer.choices[0].message.content or "").strip() == answered.strip()
        assert answer.usage is not None

        page.goto("/console/usage?by=key")
        cells = page.get_by_role("row", name=re.compile("application")).get_by_role("cell")
        expect(cells.nth(0)).to_have_text("1")
        expect(cells.nth(1)).to_have_text("0")
        expect(cells.nth(2)).to_have_text(str(answer.usage.prompt_tokens))
        expect(cells.nth(3)).to_have_text(str(answer.usage.completion_tokens))
        page.goto("/console/log")
        expect(page.get_by_role("rowheader", name="application")).to_be_visible()

        page.goto("/console/keys")
        page.get_by_role("link", name="Revoke application").click()
        page.get_by_role("button", name="Revoke key").click()
        expect(page.get_by_role("status")).to_have_text("application is revoked.")
        with pytest.raises(openai.AuthenticationError) as refused:
            ask()
        assert refused.value.code == "key_revoked"
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Admin key")).to_be_visible()
    page.context.close()


def test_a_call_is_stopped_by_its_button_and_cancelled_in_the_list(
    browser: Browser, gateway: GatewayProcess, provider: str
) -> None:
    page = open_page(browser, gateway)
    page.goto("/console/services/new/openai-compatible")
    page.locator("#name").fill("endless")
    page.locator("#field-s-api_url").fill(f"{provider}/endless")
    page.get_by_role("button", name="Save service").click()
    page.goto("/console/playground?model=endless/m")
    page.get_by_label("Message").fill("Go on")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".answer-text").last).to_contain_text("more more")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".turn.assistant").last).to_contain_text("Stopped.")
    page.get_by_label("Message").fill("Again")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".answer-text").last).to_contain_text("more more")

    other = page.context.new_page()
    other.goto("/console/calls")
    expect(other.get_by_role("row").filter(has_text="endless/m")).to_have_count(1)
    assert findings(other) == []
    other.get_by_role("button", name=re.compile("Cancel the call")).click()
    expect(other.get_by_role("status")).to_have_text("The call is cancelled.")
    expect(page.locator(".turn.assistant").last).to_contain_text("An administrator has cancelled the call.")
    with urllib.request.urlopen(f"{provider}/open") as response:
        assert response.status == 200
    page.context.close()


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(browser: Browser, gateway: GatewayProcess, width: int, scheme: str) -> None:
    page = open_page(browser, gateway, width=width, scheme=scheme)
    paths = ["/services", "/services/new", "/services/new/bedrock", "/services/new/openai-compatible"]
    paths += ["/services/new/fallback", "/playground", "/keys", "/keys/new", "/usage", "/calls", "/log", "/about"]
    found = {}
    for path in paths:
        page.goto(f"/console{path}")
        for folded in page.locator("details").all():
            folded.evaluate("element => element.open = true")
        found[path] = findings(page)
    assert {path: each for path, each in found.items() if each} == {}
    page.context.close()
    context = browser.new_context(base_url=gateway.url, viewport={"width": width, "height": 900})
    page = context.new_page()
    page.goto("/console/sign-in")
    assert findings(page) == []
    context.close()


def test_the_console_is_used_with_the_keyboard_alone(browser: Browser, gateway: GatewayProcess) -> None:
    page = open_page(browser, gateway, width=NARROW)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.goto("/console/services")
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Playground", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Playground")).to_be_visible()
    page.context.close()


def test_a_service_is_added_without_scripts(browser: Browser, gateway: GatewayProcess) -> None:
    context = browser.new_context(base_url=gateway.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/console/sign-in")
    page.locator("#key").fill(ADMIN_KEY)
    page.locator("button[type=submit]").click()
    page.goto("/console/services/new/bedrock")
    page.locator("#name").fill("aws")
    page.locator("#field-s-aws_region").fill("us-east-1")
    page.get_by_label("Bedrock API key").check()
    page.locator("#field-w1-api_key").fill("bedrock-api-key-1234")
    page.get_by_role("button", name="Save service").click()
    expect(page.get_by_role("status")).to_have_text("aws is saved.")
    context.close()
