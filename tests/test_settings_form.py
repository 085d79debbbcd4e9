"""A form that a page draws from `trunkline settings PROVIDER --schema` alone, in headless Chromium, for each provider.

`support/settings_form` is the page. It knows no provider. The form is filled in and submitted, with blanks; its values
are checked by JSON Schema and by the library, and both must agree. `SETTINGS_FORM_SCREENSHOTS` names a folder for
pictures of the forms.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trunkline
from jsonschema import Draft202012Validator
from trunkline._plugins.registry import load_provider
from trunkline.cli import main
from trunkline.errors import ConfigurationError
from trunkline.settings import setting_infos

sync_api = pytest.importorskip("playwright.sync_api", reason="drives the browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("needs Chromium: apt-get install chromium", allow_module_level=True)

PAGE = Path(__file__).parent / "support" / "settings_form"
PROVIDERS = (
    "anthropic",
    "azure-openai",
    "bedrock",
    "cohere",
    "gemini",
    "llamacpp",
    "mistral",
    "ollama",
    "openai",
    "openai-compatible",
    "vertex",
)
ANSWERS: Mapping[str, str] = {
    "api_key": "a-key-for-tests",
    "default_model": "the-model",
    "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "aws_profile": "work",
    "token_provider": "azure-identity",
    "credentials_file": "/run/credentials.json",
    "credentials_json": '{"type": "authorized_user"}',
    "access_token": "a-token-for-tests",
    "project": "project-1",
}
"""What an administrator enters into the required fields for which the schema has no example."""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of whoever runs the tests."""
    for name in list(os.environ):
        if name.endswith("_API_KEY") or name.startswith(("TRUNKLINE_", "AWS_", "OPENAI_", "AZURE_", "OLLAMA_")):
            monkeypatch.delenv(name)


class Site:
    """The page, the schema of a provider, and what the page submitted."""

    def __init__(self, provider: str, schema: dict[str, Any]) -> None:
        self.provider = provider
        self.schema = schema
        self.submitted: list[dict[str, Any]] = []

    def mistakes(self, values: dict[str, Any]) -> list[dict[str, str | None]]:
        """What the library says of the values, for each setting."""
        try:
            trunkline.open_services({"services": {"s": {"provider": self.provider, **values}}}, environ={})
        except ConfigurationError as error:
            return [{"setting": one.setting, "message": str(one)} for one in error.errors or (error,)]
        return []

    def agrees(self, values: dict[str, Any]) -> bool:
        """Whether the schema and the library accept the values; they must agree.

        There is one exception: only the schema requires `default_model`, since a request may name its model.
        """
        validator, mistakes = Draft202012Validator(self.schema), self.mistakes(values)
        accepted = validator.is_valid(values)
        if accepted:
            assert not mistakes
        elif not mistakes:
            assert values["default_model"] == "", list(validator.iter_errors(values))
            assert validator.is_valid({**values, "default_model": "m"})
        return accepted and not mistakes


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=PROVIDERS)
def site(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Site:
    assert main(["settings", request.param, "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    return Site(request.param, schema)


@pytest.fixture
def page(site: Site, browser: Any) -> Iterator[Any]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/") or "index.html"
            if name == "schema":
                self._send(json.dumps(site.schema).encode(), "application/json")
            elif name == "favicon.ico":
                self._send(b"", "image/x-icon")
            else:
                kind = "text/javascript" if name.endswith(".js") else "text/html"
                self._send((PAGE / name).read_bytes(), kind)

        def do_POST(self) -> None:
            values = json.loads(self.rfile.read(int(self.headers["content-length"])))
            site.submitted.append(values)
            self._send(json.dumps(site.mistakes(values)).encode(), "application/json")

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("content-type", f"{kind}; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    opened = browser.new_page(viewport={"width": 800, "height": 900})
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    try:
        opened.goto(f"http://127.0.0.1:{server.server_port}/")
        opened.wait_for_selector("body[data-ready]")
        yield opened
        assert problems == []
    finally:
        opened.close()
        server.shutdown()
        thread.join()
        server.server_close()


def submit(page: Any, site: Site) -> tuple[dict[str, Any], str]:
    """Press the button. Returns what was submitted, and the text that the page then shows."""
    with page.expect_response("**/submit"):
        page.click("button")
    text: str = page.inner_text(f"#result[data-answer='{len(site.submitted)}']")
    return site.submitted[-1], text


def fill(page: Any, name: str, value: str) -> None:
    control = page.locator(f"[name='{name}']")
    if control.evaluate("each => each.tagName") == "SELECT":
        control.select_option(value)
    else:
        control.fill(value)


def example(site: Site, name: str) -> str | None:
    """The default or the first example of a setting, as text."""
    schema = site.schema["properties"][name]
    value = schema.get("default", next(iter(schema.get("examples", ())), None))
    if isinstance(value, list):
        return ", ".join(value)
    return value if isinstance(value, str | None) else json.dumps(value)


def fill_required(page: Any, site: Site) -> None:
    """Fill in the visible fields with the mark of a required one, and the model."""
    for control in page.locator("[aria-required], [name=default_model]").all():
        if control.is_visible():
            name = control.get_attribute("name")
            fill(page, name, example(site, name) or ANSWERS[name])


def picture(page: Any, name: str) -> None:
    folder = os.environ.get("SETTINGS_FORM_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def ways(site: Site) -> list[dict[str, Any]]:
    return [way for way in site.schema.get("oneOf", ()) if "title" in way]


def test_each_setting_has_one_field_with_what_the_schema_says(page: Any, site: Site) -> None:
    settings = load_provider(site.provider).settings
    assert page.inner_text("h1") == settings.display_name
    infos = {info.name: info for info in setting_infos(settings)}
    fields = {field.get_attribute("data-setting"): field for field in page.locator("[data-setting]").all()}
    assert len(fields) == page.locator("[data-setting]").count()
    assert set(fields) == set(infos)
    for name, field in fields.items():
        info, control = infos[name], field.locator(f"[name='{name}']")
        assert field.locator("label").text_content() == info.label
        assert (control.get_attribute("type") == "password") is info.secret, name
        assert (field.locator("xpath=ancestor::details").count() == 1) is info.advanced, name
        assert field.locator("xpath=ancestor::fieldset/legend").text_content() == info.group, name
        for choice in site.schema["properties"][name].get("oneOf", ()):
            if choice.get("const", "") != "":
                text = json.dumps(choice["const"]).strip('"')
                assert (
                    choice.get("description", "").replace("`", "")
                    in control.locator(f"option[value='{text}']").text_content()
                )
    basic = {info.group for info in infos.values() if not info.advanced}
    order = sorted(site.schema["x-groups"], key=lambda group: group not in basic)
    assert page.locator("legend").all_text_contents() == order
    picture(page, site.provider)


def test_each_pattern_is_valid_in_javascript(page: Any, site: Site) -> None:
    patterns: list[str] = []

    def collect(pairs: list[tuple[str, Any]]) -> None:
        patterns.extend(value for name, value in pairs if name == "pattern" and isinstance(value, str))

    json.loads(json.dumps(site.schema), object_pairs_hook=collect)
    assert patterns
    page.evaluate("patterns => patterns.forEach(each => new RegExp(each, 'u'))", patterns)


def test_only_the_settings_of_the_chosen_way_are_shown(page: Any, site: Site) -> None:
    if not ways(site):
        assert page.locator("[name=way]").count() == 0
        return
    assert page.locator(".way label").all_text_contents() == [way["title"] for way in ways(site)]
    of_ways = {name for way in ways(site) for name in way.get("properties", ())}
    for way in ways(site):
        page.get_by_label(way["title"], exact=True).check()
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        shown = {name for name in of_ways if page.locator(f"[name='{name}']").is_visible()}
        assert shown == set(way.get("properties", ()))
        required = {name for name in shown if page.locator(f"[name='{name}'][aria-required]").count()}
        assert required == set(way.get("required", ()))


def test_blank_form_shows_what_is_missing(page: Any, site: Site) -> None:
    values, text = submit(page, site)
    assert set(values) == set(site.schema["properties"])
    assert {value for value in values.values() if value != ""} == set()
    site.agrees(values)
    missing = {mistake["setting"] for mistake in site.mistakes(values)}
    assert (text == "Saved") is (missing == set())
    for name in missing:
        assert "required" in page.inner_text(f"[data-setting='{name}'] .mistake")


def test_required_fields_are_enough(page: Any, site: Site) -> None:
    for index in range(max(len(ways(site)), 1)):
        if ways(site):
            page.locator("[name=way]").nth(index).check()
        fill_required(page, site)
        picture(page, f"{site.provider}-filled-{index}")
        values, text = submit(page, site)
        assert site.agrees(values), site.mistakes(values)
        assert text == "Saved"
        filled = {name: value for name, value in values.items() if value != ""}
        table = {"services": {"s": {"provider": site.provider, **filled}}}
        blank = {"services": {"s": {"provider": site.provider, **values}}}
        assert (
            trunkline.open_services(blank, environ={})["s"].settings
            == trunkline.open_services(table, environ={})["s"].settings
        )


def test_every_field_takes_its_default_or_example(page: Any, site: Site) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    fill_required(page, site)
    entered = 0
    for name in site.schema["properties"]:
        value = example(site, name)
        if value is not None and page.locator(f"[name='{name}']").is_visible():
            fill(page, name, value)
            entered += 1
    values, text = submit(page, site)
    assert text == "Saved", site.mistakes(values)
    assert site.agrees(values)
    assert entered


MISTAKES = (
    ("output_token_limit", "many"),
    ("output_token_limit", "0"),
    ("chunk_timeout", "soon"),
    ("headers", "{oops"),
)


def test_mistake_is_shown_at_its_field(page: Any, site: Site) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    fill_required(page, site)
    for name, value in MISTAKES:
        fill(page, name, value)
        values, text = submit(page, site)
        assert not site.agrees(values)
        assert text.startswith("1 to correct")
        assert name in page.inner_text(f"[data-setting='{name}'] .mistake")
        picture(page, f"{site.provider}-mistake")
        fill(page, name, "")
    values, text = submit(page, site)
    assert text == "Saved", site.mistakes(values)
