"""`trunkline init`: the file that it writes, and what it will not write."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from trunkline import open_services
from trunkline.cli.tomltext import toml_key, toml_value

FILE = Path("trunkline.toml")


def test_options_alone_write_a_file_that_loads(call: Any, key: str) -> None:
    arguments = ["--set", "default_model=echo", "--set", "level=7", "--set", "strict=yes"]
    status, out, _ = call(
        "init", "--provider", "fake", "--service", "mine", "--secret", "api_key=env:FAKE_API_KEY", *arguments
    )
    assert (status, out) == (0, "")
    assert tomllib.loads(FILE.read_text())["services"]["mine"] == {
        "provider": "fake",
        "default_model": "echo",
        "level": 7,
        "strict": True,
        "api_key": {"env": "FAKE_API_KEY"},
    }
    assert stat.S_IMODE(FILE.stat().st_mode) == 0o600
    assert list(open_services(FILE)) == ["mine"]
    assert call("chat", "Hi")[1] == "You said: Hi\n"


def test_setting_that_is_no_secret_may_be_a_reference(call: Any, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "sk-canary-Ab9Zz0Qw7Rt5Yu3")
    arguments = ["--secret", "api_key=env:FAKE_API_KEY", "--secret", "place=env:PLACE"]
    headers = '{"x-team": "search", "anthropic-beta": "claude-code-20250219", "x-key": {"env": "FAKE_API_KEY"}}'
    status, _, err = call("init", "-p", "spare", "-s", "mine", *arguments, "--set", f"headers={headers}")
    assert status == 0, err
    table = tomllib.loads(FILE.read_text())["services"]["mine"]
    assert table["place"] == {"env": "PLACE"}
    assert table["headers"]["x-key"] == {"env": "FAKE_API_KEY"}
    assert list(open_services(FILE)) == ["mine"]


CORP = """
from trunkline import Secret
from trunkline.authoring.extension import Extension, ExtensionSettings
from trunkline.settings import setting, settings, url_setting

@settings
class CorpSettings(ExtensionSettings):
    extension = "corp"
    token_url: str = url_setting("Token URL", "Where the tokens come from.", environment=("CORP_TOKEN_URL",))
    pin: Secret = setting("PIN", "The key.", environment=("CORP_PIN",))

corp = Extension(name="corp", settings=CorpSettings, make=lambda settings: object())
"""


@pytest.fixture
def corp(site: Any) -> None:
    site.install("dist-corp", {"trunkline.extensions": {"corp": "corp_plugin:corp"}}, {"corp_plugin": CORP})


ARGUMENTS = ("init", "--provider", "fake", "--secret", "api_key=env:FAKE_API_KEY")


def test_extension_with_a_reference_is_written(call: Any, corp: None) -> None:
    table = {"name": "corp", "token_url": "https://corp.example/token", "pin": {"env": "CORP_KEY"}}
    status, _, err = call(*ARGUMENTS, "--set", f"extensions={json.dumps([table])}")
    assert status == 0, err
    assert tomllib.loads(FILE.read_text())["services"]["fake"]["extensions"] == [table]


def test_extension_may_take_its_settings_from_its_variables(
    call: Any, corp: None, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORP_TOKEN_URL", "https://corp.example/token")
    status, _, err = call(*ARGUMENTS, "--set", "extensions=corp")
    assert status == 1
    assert "CORP_PIN" in err
    monkeypatch.setenv("CORP_PIN", "canary-pin")
    status, _, err = call(*ARGUMENTS, "--set", "extensions=corp")
    assert status == 0, err
    assert "canary" not in FILE.read_text()
    assert list(open_services(FILE)) == ["fake"]


def test_secret_of_an_extension_is_not_written(call: Any, corp: None) -> None:
    table = {"name": "corp", "token_url": "https://corp.example/token", "pin": "plain"}
    status, _, err = call(*ARGUMENTS, "--set", f"extensions={json.dumps([table])}")
    assert status == 2
    assert "'pin' in extensions looks like a secret" in err
    assert "plain" not in err
    assert not FILE.exists()


def test_a_variable_that_is_not_set_yet_is_mentioned(call: Any) -> None:
    status, _, err = call("init", "--provider", "fake", "--secret", "api_key=env:FAKE_API_KEY")
    assert status == 0
    assert "Set the environment variable FAKE_API_KEY" in err


def test_a_file_that_is_there_is_replaced_by_force_alone(call: Any) -> None:
    FILE.write_text("old")
    FILE.chmod(0o644)
    arguments = ["init", "--provider", "fake", "--secret", "api_key=file:key.txt"]
    status, _, err = call(*arguments)
    assert status == 2
    assert "--force" in err
    assert FILE.read_text() == "old"
    assert call(*arguments, "--force")[0] == 0
    assert stat.S_IMODE(FILE.stat().st_mode) == 0o600
    assert 'api_key = { file = "key.txt" }' in FILE.read_text()
    assert [path.name for path in Path().iterdir()] == ["trunkline.toml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "api_key=canary-secret-1234"],
        ["--secret", "api_key=canary-secret-1234"],
        ["--secret", "api_key=env:canary-secret-1234"],
        ["--secret", "canary-secret-1234"],
    ],
)
def test_a_secret_is_neither_written_nor_repeated(call: Any, arguments: list[str]) -> None:
    status, out, err = call("init", "--provider", "fake", *arguments)
    assert status == 2
    assert "canary" not in out + err
    assert not FILE.exists()


def test_every_mistake_is_reported_and_nothing_is_written(call: Any) -> None:
    status, _, err = call("init", "--provider", "fake", "--set", "level=0", "--set", "colour=red")
    assert status == 1
    for name in ("api_key", "level", "colour"):
        assert f"setting '{name}'" in err
    assert not FILE.exists()


def test_the_customary_variable_does_not_stand_in_for_a_missing_secret(call: Any, key: str) -> None:
    # The file must say where the secret is: it may be read by a process with another environment.
    assert call("init", "--provider", "fake")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--provider is required"),
        (["--provider", "fake", "--service", "a b"], "the name of a service"),
        (["--provider", "fake", "--secret", "level=env:LEVEL"], "level cannot be read from elsewhere"),
        (["--provider", "spare", "--set", 'headers={"x": "sk-canary-Ab9Zz0Qw7"}'], "looks like a secret"),
    ],
)
def test_missing_or_invalid_argument_is_reported(call: Any, arguments: list[str], message: str) -> None:
    status, _, err = call("init", *arguments)
    assert status == 2
    assert message in err


def test_on_a_terminal_it_asks_until_the_answers_will_do(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal("init")
    screen.wait_for(r"Installed providers: .*fake.*spare")
    for question, answer in (
        (r"Provider: ", "nothing"),
        (r"Please enter one of .*Provider: ", "spare"),
        (r"Name of the service \[spare\]: ", "mine"),
        (r"This is a secret .*\s+.*Where is it kept \(env, file, keyring\) \[env\]: ", ""),
        (r"environment variable \(not its value\) \[FAKE_API_KEY\]: ", "sk-canary"),
        (r"not the secret itself.*\s+.*\[FAKE_API_KEY\]: ", ""),
        (r"Where is it kept \(env, file, keyring, none\) \[none\]: ", ""),
        (r"Place: ", ""),
        (r"Please enter an answer\.\s+Place: ", 'a "place"'),
        (r"Default Model \(optional\): ", "echo"),
    ):
        screen.wait_for("(?s)" + question)
        screen.enter(answer + "\n")
    status, shown = screen.end()
    assert status == 0, shown
    assert "Set the environment variable FAKE_API_KEY" in shown
    assert tomllib.loads(FILE.read_text())["services"] == {
        "mine": {"provider": "spare", "place": 'a "place"', "default_model": "echo", "api_key": {"env": "FAKE_API_KEY"}}
    }
    assert "canary" not in FILE.read_text()
    monkeypatch.setenv("FAKE_API_KEY", "later")
    assert list(open_services(FILE)) == ["mine"]


@pytest.mark.parametrize("typed", ["\x04", "\x03"])
def test_leaving_in_the_middle_writes_nothing(terminal: Any, typed: str) -> None:
    screen = terminal("init", "--provider", "fake")
    screen.wait_for("Name of the service")
    screen.enter(typed)
    status, shown = screen.end()
    assert status == (130 if typed == "\x03" else 2)
    assert "Traceback" not in shown
    assert not FILE.exists()


@pytest.mark.parametrize(
    "value", ["", 'a"b\\c\n\té\x7f\x00', True, 3, 2.5, [1, "a"], {"a b": {"c": ["d"]}, "e": False}, {}]
)
def test_toml_is_read_back_as_it_was_written(value: object) -> None:
    assert tomllib.loads(f"{toml_key('a key')} = {toml_value(value)}") == {"a key": value}
