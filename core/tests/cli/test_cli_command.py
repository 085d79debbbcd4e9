"""The command as a whole: its start, its errors, and the small subcommands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest


@pytest.mark.parametrize("package", ["cyclopts", "rich", "tomlkit"])
def test_without_the_extra_the_command_says_what_to_install(package: str) -> None:
    code = (
        "import sys; from importlib.abc import MetaPathFinder\n"
        "import trunkline.cli\n"
        "real = trunkline.cli.find_spec\n"
        "trunkline.cli.find_spec = lambda name: None if name == sys.argv[1] else real(name)\n"
        "sys.exit(trunkline.cli.main(['--help']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, package], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert "pip install 'trunkline[cli]'" in done.stderr


def test_importing_the_package_needs_nothing_of_the_extra() -> None:
    names = ("cyclopts", "rich", "tomlkit", "anyio", "attrs")
    code = f"import sys, trunkline.cli; print([m for m in {names} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=20) == "[]\n"


@pytest.mark.parametrize("argument", ["--version", "--help"])
def test_version_and_help_import_no_provider_no_http_client_and_no_event_loop(site: Any, argument: str) -> None:
    code = (
        "import sys; from trunkline.cli import main; main([sys.argv[1]]);"
        "print([m for m in ('anyio', 'httpx2', 'asyncio', 'fake_plugin', 'trunkline.service') if m in sys.modules])"
    )
    out = subprocess.check_output([sys.executable, "-c", code, argument], text=True, timeout=20)
    assert out.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments", [["cat"], ["chat", "--colour", "red", "Hi"], ["chat", "--temperature", "hot", "Hi"], ["settings"]]
)
def test_a_mistake_on_the_command_line_has_status_2(call: Any, arguments: list[str]) -> None:
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("trunkline: ")
    assert "--help" in err


@pytest.mark.parametrize("how", ["option", "variable"])
def test_the_traceback_is_shown_on_request(call: Any, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    if how == "variable":
        monkeypatch.setenv("TRUNKLINE_DEBUG", "1")
    arguments = ["settings", "nothing", *(["--debug"] if how == "option" else [])]
    status, _, err = call(*arguments)
    assert status == 1
    assert "Traceback" in err
    assert re.match(r"trunkline: no provider (or extension )?'nothing' is installed", err.rstrip().splitlines()[-1])


def test_a_bug_is_one_line_too(call: Any, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    def fail(*arguments: object) -> None:
        raise LookupError("where is it")

    monkeypatch.setattr("trunkline.cli.settings.setting_infos", fail)
    status, _, err = call("settings", "fake")
    assert status == 1
    assert "unexpected LookupError: where is it" in err
    assert "Traceback" not in err


def test_settings_are_a_table_from_the_settings_class(call: Any) -> None:
    status, out, _ = call("settings", "fake")
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert status == 0
    assert "required" in rows["API Key"]
    assert "secret" in rows["API Key"]
    assert "TRUNKLINE_FAKE_API_KEY FAKE_API_KEY" in rows["API Key"]
    assert "required" not in rows["Token"]
    assert " 3 " in rows["Level"]
    assert "TRUNKLINE_FAKE_STRICT" in rows["Strict"]


def test_settings_are_a_drawn_table_on_a_terminal(terminal: Any) -> None:
    status, shown = terminal("settings", "fake").end()
    assert status == 0
    assert "API Key" in shown
    assert "─" in shown


EXTENSIONS = """\
from trunkline import Observer, Secret, hookimpl
from trunkline.authoring.extension import Extension, ExtensionSettings
from trunkline.settings import setting, settings

@settings
class CorpSettings(ExtensionSettings):
    extension = "fake"
    token_url: str = setting("Token URL", "Where the tokens come from.", environment=("CORP_TOKEN_URL",))
    secret: Secret | None = setting("Secret", "The secret.", default=None)

corp = Extension(name="fake", settings=CorpSettings, make=print)

@hookimpl
def trunkline_observer(context):
    return Observer()
"""


@pytest.fixture
def extensions(site: Any) -> None:
    names = {"fake": "fake_extensions:corp", "plain": "fake_extensions"}
    site.install("dist-corp", {"trunkline.extensions": names}, {"fake_extensions": EXTENSIONS})


def test_settings_of_an_extension_are_shown(call: Any, extensions: None) -> None:
    status, out, _ = call("settings", "fake", "--extension")
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert status == 0
    assert list(rows)[1:] == ["Token URL", "Secret"]
    assert "required" in rows["Token URL"]
    assert "TRUNKLINE_SERVICE_FAKE_TOKEN_URL CORP_TOKEN_URL" in rows["Token URL"]
    assert json.loads(call("settings", "fake", "--extension", "--schema")[1])["required"] == ["token_url"]
    assert "API Key" in call("settings", "fake")[1]  # the provider with the same name
    assert call("settings", "plain")[1] == "the extension plain has no settings\n"
    assert "no extension 'plian' is installed; did you mean 'plain'" in call("settings", "plian")[2]


def test_unknown_name_is_reported_with_providers_and_extensions(call: Any, extensions: None) -> None:
    status, _, err = call("settings", "nothing")
    assert status == 1
    assert err.startswith("trunkline: no provider or extension 'nothing' is installed; providers: ")
    assert {"fake", "plain"} <= set(err.rstrip().rpartition("; extensions: ")[2].split(", "))


def test_providers_as_json_have_what_a_console_shows(call: Any, alone: None, extensions: None) -> None:
    rows = json.loads(call("providers", "--json")[1])
    assert [*rows[0]] == ["kind", "name", "display_name", "distribution", "version", "status", "problem"]
    found = {(row["kind"], row["name"]): (row["display_name"], row["status"]) for row in rows}
    assert found["extension", "fake"] == (None, "ok")
    assert found["provider", "fake"] == ("fake", "ok")
    rows = json.loads(call("providers", "--json", "--no-check")[1])
    assert {(row["display_name"], row["status"]) for row in rows} == {(None, "not checked")}


def test_extension_with_tables_is_set_on_the_command_line(call: Any, key: str, extensions: None) -> None:
    wrong = '[{"name": "fake", "token_url": "x", "tokn": 1}]'
    status, _, err = call("chat", "-p", "fake", "--set", f"extensions={wrong}", "Hi")
    assert status == 1
    assert "service 'fake', extension 'fake': setting 'tokn' does not exist" in err
    status, _, err = call("chat", "-p", "fake", "--set", "extensions=[", "Hi")
    assert status == 2
    assert "--set extensions: the value starts with [, but is not JSON" in err


def test_settings_as_json_schema(call: Any) -> None:
    schema = json.loads(call("settings", "fake", "--schema")[1])
    assert schema["required"] == ["api_key", "default_model"]
    assert schema["properties"]["level"]["minimum"] == 1


def test_models_are_listed(call: Any, key: str) -> None:
    status, out, _ = call("models", "-p", "fake")
    assert status == 0
    assert [line.split() for line in out.splitlines()] == [
        ["model", "name", "created", "context", "window", "capabilities"],
        ["echo", "1970-01-02", "200,000", "chat,", "tools"],
        ["stall", "1970-01-02"],
    ]
    models = json.loads(call("models", "-p", "fake", "--json")[1])
    assert [
        (model["id"], model["context_window"], model["output_token_limit"], model["capabilities"]) for model in models
    ] == [("echo", 200_000, None, ["chat", "tools"]), ("stall", None, None, [])]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("settings",), 'Command "settings" parameter'),
        (("check", "extra"), "Unexpected argument: extra."),
        (("check", "-p", "fake", "--timeout", "never"), "--timeout takes a number, not 'never'."),
    ],
)
def test_command_names_and_plain_words_are_shown(call: Any, arguments: tuple[str, ...], shown: str) -> None:
    status, _, err = call(*arguments)
    assert status == 2
    assert shown in err
    assert "***" not in err
