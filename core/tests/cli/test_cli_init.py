"""`trunkline init`: the file that it writes, and what it will not write."""

from __future__ import annotations

import json
import re
import stat
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from trunkline import open_services
from trunkline.cli.draft import Draft

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


OLD = """\
# ours
[defaults]
max_retries = 1
[services.old]
provider = "fake"
default_model = "echo"  # the small one
api_key = { env = "FAKE_API_KEY" }

# Network
[defaults.headers]
x-team = "search"
"""
GIVEN = ("init", "-c", "trunkline.toml", "-p", "fake", "--secret", "api_key=env:FAKE_API_KEY")


def test_service_is_added_to_a_file_that_is_there(call: Any, key: str) -> None:
    FILE.write_text(OLD)
    FILE.chmod(0o640)
    status, _, err = call(*GIVEN, "--set", "default_model=stall")
    assert status == 0, err
    added = '[services.fake]\nprovider = "fake"\ndefault_model = "stall"\napi_key = { env = "FAKE_API_KEY" }\n\n'
    assert FILE.read_text() == OLD.replace("# Network", f"{added}# Network")
    assert stat.S_IMODE(FILE.stat().st_mode) == 0o640
    assert list(open_services(FILE)) == ["old", "fake"]
    assert [path.name for path in Path().iterdir()] == ["trunkline.toml"]


def test_byte_order_mark_of_the_file_stays(call: Any, key: str) -> None:
    FILE.write_text(f"\ufeff{OLD}", encoding="utf-8")
    status, _, err = call(*GIVEN)
    assert status == 0, err
    assert FILE.read_text(encoding="utf-8").startswith("\ufeff# ours\n")
    assert list(open_services(FILE)) == ["old", "fake"]


def test_service_of_the_same_name_is_replaced_by_force_alone(call: Any, key: str) -> None:
    FILE.write_text(OLD)
    status, _, err = call(*GIVEN, "-s", "old")
    assert status == 2
    assert "already has a service 'old'" in err
    assert "--force" in err
    assert FILE.read_text() == OLD
    status, _, err = call(*GIVEN, "-s", "old", "--force", "--set", "default_model=stall")
    assert status == 0, err
    assert FILE.read_text() == OLD.replace('"echo"', '"stall"')


def test_file_that_others_may_have_written_is_trusted_first(call: Any, key: str) -> None:
    FILE.write_text(OLD)
    status, _, err = call("init", *GIVEN[3:])
    assert status == 2
    assert "trunkline trust" in err
    assert call("trust")[0] == 0
    assert call("init", *GIVEN[3:])[0] == 0
    assert call("chat", "-s", "old", "Hi")[1] == "You said: Hi\n"  # it is still trusted


def test_file_that_was_only_named_is_not_trusted_afterwards(call: Any, key: str) -> None:
    FILE.write_text(OLD)
    assert call(*GIVEN)[0] == 0
    assert call("chat", "-s", "old", "Hi")[0] == 2


def test_file_that_changes_during_the_questions_gets_the_service_and_is_not_trusted(
    call: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    FILE.write_text(OLD)
    assert call("trust")[0] == 0
    mistakes = Draft.mistakes

    def slow(draft: Draft) -> Any:
        FILE.write_text(f"{OLD}# pulled\n")
        return mistakes(draft)

    monkeypatch.setattr(Draft, "mistakes", slow)
    assert call("init", *GIVEN[3:])[0] == 0
    assert FILE.read_text().endswith("# pulled\n")
    assert "[services.fake]" in FILE.read_text()
    assert call("chat", "-s", "old", "Hi")[0] == 2


def test_empty_file_and_file_with_comments_get_a_service(call: Any) -> None:
    FILE.write_text("# ours\n")
    status, _, err = call("init", *GIVEN[3:])
    assert status == 0, err
    assert FILE.read_text().startswith("# ours\n\n[services.fake]\n")


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("[services.a\n", 1, "is not TOML"),
        ("services = 1\n", 1, "services is not a table"),
        ("[servces.a]\n", 1, "'servces' at the top level"),
        ("[defaults]\nretries = 1\n", 1, "'retries'"),
        ("\udcff", 1, "is not TOML"),
    ],
)
def test_broken_file_is_reported_and_left_alone(call: Any, text: str, status: int, message: str) -> None:
    FILE.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = FILE.read_bytes()
    found, _, err = call(*GIVEN, "--force")
    assert found == status
    assert message in err
    assert FILE.read_bytes() == before


def test_file_that_others_can_write_is_refused(call: Any) -> None:
    FILE.write_text(OLD)
    FILE.chmod(0o666)
    status, _, err = call(*GIVEN)
    assert status == 1
    assert "other users can write to it" in err


def test_symbolic_link_is_followed_unless_it_leads_nowhere(call: Any) -> None:
    Path("real.toml").write_text(OLD)
    FILE.symlink_to("real.toml")
    assert call(*GIVEN)[0] == 0
    assert FILE.is_symlink()
    assert "[services.fake]" in Path("real.toml").read_text()
    Path("real.toml").unlink()
    status, _, err = call(*GIVEN)
    assert status == 2
    assert "a file that does not exist" in err
    assert not Path("real.toml").exists()


def test_folder_that_is_missing_or_read_only_is_reported_first(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, err = call("init", "-c", "nowhere/x.toml")
    assert status == 1
    assert "there is no folder" in err
    monkeypatch.setattr("os.access", lambda path, mode: False)
    status, _, err = call("init")
    assert status == 1
    assert "read-only" in err


def test_answers_are_not_lost_if_the_file_cannot_be_written(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    status, _, err = call(*GIVEN, "--set", "default_model=echo")
    assert status == 1
    assert "No space left" in err
    assert 'The service would have been:\n[services.fake]\nprovider = "fake"\ndefault_model = "echo"\n' in err
    assert list(Path().iterdir()) == []


def test_blank_option_is_not_set(call: Any) -> None:
    status, _, err = call(*GIVEN, "--set", "level= ", "--set", "default_model=")
    assert status == 0, err
    assert set(tomllib.loads(FILE.read_text())["services"]["fake"]) == {"provider", "api_key"}
    assert "each request must name its model" in err


@pytest.mark.parametrize("blank", ["", " ", "\ufeff"])
def test_blank_secret_is_not_set_and_blank_value_of_an_unknown_setting_is_a_mistake(call: Any, blank: str) -> None:
    assert call(*GIVEN, "--set", f"api_key={blank}", "--set", f"level={blank}")[0] == 0
    assert set(tomllib.loads(FILE.read_text())["services"]["fake"]) == {"provider", "api_key"}
    FILE.unlink()
    status, _, err = call(*GIVEN, "--set", f"colour={blank}")
    assert status == 1
    assert "'colour' does not exist" in err
    assert not FILE.exists()


BEDROCK = ("init", "-p", "bedrock", "--set", "default_model=m")
ID = "AKIAIOSFODNN7EXAMPLE"


@pytest.fixture
def aws_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config").write_text("[profile a]\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", "config")


def test_setting_that_the_machine_has_is_not_missing(
    call: Any, aws_profile: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = call(*BEDROCK, "--set", "aws_profile=b")
    assert status == 1
    assert "setting 'aws_region'" in err
    status, _, err = call(*BEDROCK, "--set", "aws_profile=a")
    assert status == 0, err
    expected = {"provider": "bedrock", "default_model": "m", "aws_profile": "a"}
    assert tomllib.loads(FILE.read_text())["services"]["bedrock"] == expected
    monkeypatch.setenv("AWS_REGION", "eu-west-3")
    assert call(*BEDROCK, "-s", "other", "-c", "trunkline.toml")[0] == 0


def test_variable_of_a_setting_that_goes_with_a_secret_does_not_stand_in(
    call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUNKLINE_BEDROCK_AWS_ACCESS_KEY_ID", ID)
    arguments = ("--set", "aws_region=eu-west-3", "--secret", "aws_secret_access_key=env:SOME_KEY")
    status, _, err = call(*BEDROCK, *arguments)
    assert status == 1
    assert "aws_access_key_id" in err
    monkeypatch.delenv("TRUNKLINE_BEDROCK_AWS_ACCESS_KEY_ID")
    status, _, err = call(*BEDROCK, *arguments, "--set", f"aws_access_key_id={ID}")
    assert status == 0, err
    assert tomllib.loads(FILE.read_text())["services"]["bedrock"]["aws_access_key_id"] == ID


@pytest.mark.parametrize(
    "pair",
    [
        "aws_access_key_id=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        f"aws_access_key_id={ID}:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "aws_access_key_id=sk-Ab9Zz0Qw7Rt5Yu3Ab9Zz0",
        f"aws_profile={ID}",
        f"aws_secret_access_key={ID}",
        f'headers={{"x-team": "{ID}"}}',
    ],
)
def test_key_and_id_of_a_key_in_the_wrong_setting_are_not_written(call: Any, pair: str) -> None:
    status, out, err = call(*BEDROCK, "--set", "aws_region=eu-west-3", "--set", pair)
    assert status == 2
    assert not FILE.exists()
    for part in ("wJalr", "Ab9Zz0", ID):
        assert part not in out + err


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
    ("provider", "options"),
    [
        ("openai", ["add --secret api_key=env:OPENAI_API_KEY"]),
        ("openai-compatible", ["add --set api_url=…"]),
        ("azure-openai", ["add --set api_url=…"]),
        ("bedrock", []),
    ],
)
def test_missing_setting_is_reported_with_the_option_that_sets_it(call: Any, provider: str, options: list[str]) -> None:
    status, _, err = call("init", "-p", provider)
    assert status == 1
    assert [option for option in options if option not in err] == []
    assert ("as an argument" in err) == (provider == "bedrock")


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("gpu-server", "gpu-server"),  # for Ollama, this is http://gpu-server:11434
        ("gpu.example", "gpu.example"),
        ("http:/gpu-server/api", "http://gpu-server/api"),
    ],
)
def test_only_a_url_that_lacks_slashes_is_written_in_another_form(call: Any, typed: str, written: str) -> None:
    status, _, err = call("init", "-p", "ollama", "--set", "default_model=m", "--set", f"api_url={typed}")
    assert status == 0, err
    assert tomllib.loads(FILE.read_text())["services"]["ollama"]["api_url"] == written


def test_package_that_is_missing_on_this_machine_is_a_note(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline_azure_openai.credentials.has_azure_identity", lambda: False)
    given = ("api_url=https://r.openai.azure.com", "token_provider=azure-identity", "default_model=m")
    status, _, err = call("init", "-p", "azure-openai", *(part for pair in given for part in ("--set", pair)))
    assert status == 0, err
    assert "Before you use the service: pip install 'trunkline-azure-openai[azure-identity]'" in err


@pytest.mark.parametrize(
    ("reference", "missing"),
    [
        ("file:gone.txt", "refers to the file .*gone.txt"),
        ("keyring:a/b", r"refers to the keyring, .*trunkline\[keyring\]"),
    ],
)
def test_secret_that_is_missing_on_this_machine_is_a_note(
    call: Any, monkeypatch: pytest.MonkeyPatch, reference: str, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    status, _, err = call("init", "-p", "mistral", "--set", "default_model=m", "--secret", f"api_key={reference}")
    assert status == 0, err
    assert re.search(f"Before you use the service: api_key {missing}", err)


def test_half_of_a_pair_names_the_option_for_the_other(call: Any) -> None:
    status, _, err = call(*BEDROCK, "--set", "aws_region=eu-west-1", "--set", f"aws_access_key_id={ID}")
    assert status == 1
    assert "add --secret aws_secret_access_key=env:TRUNKLINE_BEDROCK_AWS_SECRET_ACCESS_KEY" in err


def test_file_that_a_setting_names_and_that_is_missing_is_mentioned(call: Any) -> None:
    status, _, err = call(*GIVEN, "--set", "ca_bundle=nope.pem")
    assert status == 0, err
    assert "ca_bundle needs nope.pem, which does not exist" in err
    Path("nope.pem").write_text("")
    assert "does not exist" not in call(*GIVEN, "-s", "other", "--set", "ca_bundle=nope.pem")[2]


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
