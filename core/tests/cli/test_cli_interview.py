"""The questions of `trunkline init` on a terminal."""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from trunkline import open_services
from trunkline._plugins.registry import PROVIDERS, installed, load_provider
from trunkline.cli.prompts import choose_model
from trunkline.cli.questions import AskAdvanced, AskSetting, ChooseWay, Progress, next_question, way_of
from trunkline.settings import Alternative, Settings, setting, settings

FILE = Path("trunkline.toml")
FORM = """
from collections.abc import Iterator
from typing import ClassVar, Literal
import attrs
from fake_plugin import FakeSettings, provider as fake
from trunkline.secrets import Secret
from trunkline.settings import Alternative, Converted, setting, settings, url_setting

PAIR = ("pair_id", "pair_key")

@settings
class FormSettings(FakeSettings):
    provider: ClassVar[str] = "form"
    display_name: ClassVar[str] = "The Form"
    model_examples: ClassVar[tuple[str, ...]] = ("echo",)
    alternatives: ClassVar[tuple[Alternative, ...]] = (
        Alternative(title="Pair", description="Two.", settings=PAIR, required=PAIR),
        Alternative(title="Ticket", description="One.", settings=("ticket",), required=("ticket",)),
        Alternative(title="Machine", description="None."),
    )
    api_key: Converted[Secret, str] = setting(
        "API Key", "Its key.", default=Secret("none"), environment=("FORM_API_KEY",), group="Connection", advanced=True)
    token: Converted[Secret | None, str] = setting("Token", "Seldom needed.", default=None, group="", advanced=True)
    level: int = setting("Level", "How high.", default=3, minimum=1, group="Limits")
    region: str = setting("Region", "Where.", default="here", group="Connection", advanced=True)
    api_url: str = url_setting("API URL", "Where it is.", environment=("FORM_URL",), examples=("https://form.example",))
    size: Literal["small", "large"] = setting(
        "Size", "How large.", default="small", group="Connection", choices={"small": "Fast.", "large": "Good."})
    pair_id: str | None = setting("Pair ID", "Its name.", default=None, group="Authentication")
    pair_key: Converted[Secret | None, str] = setting("Pair Key", "Its secret.", default=None, group="Authentication")
    printer: str | None = setting("Printer", "May be needed.", default=None, group="Requests")
    ticket: Literal["paper"] | None = setting("Ticket", "A ticket.", default=None, group="Authentication")

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.size == "large" and "small" in self.api_url:
            yield "size", "is 'large', which the server in api_url is too small for"
        if self.ticket:
            yield "ticket", "needs a printer"
        if self.printer is None and self.level == 12:
            yield "printer", "is required up there"
        if self.printer == "network":
            yield "printer", "needs drivers: pip install 'drivers'"
        if self.level == 13:
            yield "level", "is unlucky"

provider = attrs.evolve(fake, name="form", settings=FormSettings)
"""


@pytest.fixture
def form(site: Any) -> None:
    site.install("dist-form", {"trunkline.providers": {"form": "form_plugin:provider"}}, {"form_plugin": FORM})


HEADINGS = ("Authentication", "Connection", "Model", "Requests", "Limits")


def replies(*expected: tuple[str, str]) -> Callable[[str], str]:
    """Answer questions in order: each pair is a pattern and an answer. Questions in between get an empty answer."""
    left = list(expected)

    def reply(question: str) -> str:
        if left and re.search(left[0][0], question):
            return left.pop(0)[1]
        return ""

    reply.left = left  # type: ignore[attr-defined]
    return reply


def converse(terminal: Any, *arguments: str, answers: list[tuple[str, str]]) -> tuple[int, str]:
    reply = replies(*answers)
    status, shown = terminal("init", *arguments).converse(reply)
    assert reply.left == [], (reply.left, shown)  # type: ignore[attr-defined]
    return status, shown


def service(name: str) -> dict[str, object]:
    table: dict[str, object] = tomllib.loads(FILE.read_text())["services"][name]
    return table


def test_form_is_asked_until_the_answers_will_do(terminal: Any, form: None, monkeypatch: pytest.MonkeyPatch) -> None:
    status, shown = converse(
        terminal,
        answers=[
            ("^Provider", "nothing"),
            ("^Provider", "fomr"),
            ("^Provider", "form"),
            (r"service \[form\]", "sk-canary-Ab9Zz0Qw7Rt5Yu3"),
            (r"service \[form\]", "a b"),
            (r"service \[form\]", "mine"),
            (r"Authentication \[Machine\]", "5"),
            (r"Authentication \[Machine\]", "pair"),
            ("Pair ID", "AKIAIOSFODNN7EXAMPLE"),
            ("Pair ID", "env:Aa0"),
            ("Pair ID", "env:PAIR_ID"),
            ("Pair Key .a secret.. Where is it kept", "everywhere"),
            ("Where is it kept", "f"),
            ("contains only the secret", "sk-canary-Ab9Zz0Qw7Rt5Yu3"),
            ("contains only the secret", "key.txt"),
            ("API URL", ""),
            ("API URL", "ftp://form.example"),
            ("API URL", "https://me:canary@form.example"),
            ("API URL", "https://small.example"),
            (r"Size \[small\]", "3"),
            (r"Size \[small\]", "huge"),
            (r"Size \[small\]", "2"),
            # The combination is wrong, and both are asked again.
            (r"Size \[small\]", "LARGE"),
            ("API URL", "https://form.example"),
            ("Default Model", ""),
            ("Default Model", "echo"),
            (r"Level \[3\]", "0"),
            (r"Level \[3\]", "13"),
            (r"Level \[3\]", "12"),
            ("advanced settings", "maybe"),
            ("advanced settings", ""),
            ("Printer", ""),
            ("Printer", "laser"),
        ],
    )
    assert status == 0, shown
    for text in (
        "did you mean form?",
        "The Form",
        "digits, - _ and . only",
        "Please enter an answer.",
        "Example: https://form.example",
        "2. large: Good.",
        "Please enter 'small' or 'large', not 'huge'.",
        "setting 'size' is 'large', which the server",
        "or env:NAME to name an environment variable",
        "the NAME of an environment variable",
        "key.txt', which cannot be read",
        "a number of at least 1, not '0'",
        "setting 'level' is unlucky",
        "Please enter y or n.",
        "setting 'printer' is required up there",
        "Set the environment variable PAIR_ID",
    ):
        assert text in shown, (text, shown)
    assert [line for line in shown.splitlines() if line in HEADINGS] == [
        *HEADINGS,
        "Requests",
    ]
    assert service("mine") == {
        "provider": "form",
        "size": "large",
        "api_url": "https://form.example",
        "default_model": "echo",
        "level": 12,
        "printer": "laser",
        "pair_id": {"env": "PAIR_ID"},
        "pair_key": {"file": "key.txt"},
    }
    assert not re.search("canary|AKIA", FILE.read_text())
    Path("key.txt").write_text("later")
    monkeypatch.setenv("PAIR_ID", "later")
    assert list(open_services(FILE)) == ["mine"]


def test_way_that_does_not_work_here_is_chosen_again(terminal: Any, form: None) -> None:
    answers = [
        ("Authentication", "2"),
        ("Authentication", "Machine"),
        (r"API URL \[https://env.example\]", ""),
        ("Default Model", "x"),
    ]
    import os

    os.environ["FORM_URL"] = "https://env.example"
    try:
        status, shown = converse(terminal, "-p", "form", "-s", "mine", answers=answers)
    finally:
        del os.environ["FORM_URL"]
    assert status == 0, shown
    assert "\nTicket: paper\n" in shown
    assert "setting 'ticket' needs a printer" in shown
    assert service("mine") == {"provider": "form", "api_url": "https://env.example", "default_model": "x"}


def test_what_options_and_defaults_set_is_not_asked(terminal: Any, form: None) -> None:
    FILE.write_text('[defaults]\ndefault_model = "echo"\nproxy = " "\n[services.form]\nprovider = "form"\n')
    given = ("--set", "api_url=https://form.example", "--set", "ticket=", "--set", "level=0", "--set", "colour=red")
    status, shown = converse(
        terminal,
        *("-c", "trunkline.toml", "-p", "form", "--secret", "pair_key=env:PAIR_KEY", "--set", "pair_id=me", *given),
        answers=[
            (r"service \[form-2\]", "form"),
            (r"service \[form-2\]", ""),
            (r"Level \[3\]", "7"),
            ("advanced", "y"),
            ("Headers", '{"a": "b"'),
            ("Headers", '{"a": {"env": "A"}}'),
            ("Extensions", "nope"),
            ("Extensions", ""),
            (r"Verify Certificates .true or false. \[true\]", "2"),
            (r"Verify Certificates .true or false. \[true\]", "No"),
            ("Client Key .optional", "key.pem"),
            ("Client Key Passphrase", "none"),
            # At the end: it needs the certificate. Both are asked for again.
            ("Client Certificate .optional", "cert.pem"),
            ("Client Key .optional", "key.pem"),
        ],
    )
    assert status == 0, shown
    for text in ("already has a service 'form'", "'colour' does not exist", "Already in [defaults]: default_model"):
        assert text in shown, (text, shown)
    for text in ("API URL", "Pair", "Authentication", "Default Model", "Ticket"):
        assert f"\n{text}" not in shown, (text, shown)
    assert service("form-2") == {
        "provider": "form",
        "api_url": "https://form.example",
        "pair_id": "me",
        "pair_key": {"env": "PAIR_KEY"},
        "level": 7,
        "headers": {"a": {"env": "A"}},
        "client_certificate": "cert.pem",
        "client_key": "key.pem",
        "verify": False,
    }


@pytest.mark.parametrize(
    ("value", "answers", "expected"),
    [
        ("canary-key", [("which models", ""), ("Default Model", "2")], "stall"),
        ("canary-key", [("which models", "y"), ("Default Model", "ec"), (r"Default Model \[echo\]", "")], "echo"),
        ("canary-key", [("which models", "y"), ("Default Model", "ec"), (r"Default Model \[echo\]", "ec")], "ec"),
        ("canary-key", [("which models", "y"), ("Default Model", "other")], "other"),
        ("canary-key", [("which models", "n"), ("Default Model", "2")], "2"),
        ("wrong-canary", [("which models", "y"), ("Default Model", "2")], "2"),
        ("unreachable-canary", [("which models", "y"), ("Default Model", "2")], "2"),
        ("two words", [("of the environment variable", ""), ("of the environment variable", "OTHER_KEY")], None),
    ],
)
def test_models_are_offered_once_the_key_is_there(
    terminal: Any,
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    answers: list[tuple[str, str]],
    expected: str | None,
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", value)
    status, shown = converse(
        terminal, "-p", "fake", "-s", "mine", answers=[*answers, *([("Default", "x")] * (not expected))]
    )
    assert status == 0, shown
    assert value not in shown
    assert service("mine")["default_model"] == (expected or "x")
    assert ("The service did not list its models:" in shown) == (value.startswith(("wrong", "unreachable")))
    assert ("which models" in shown) == (expected is not None)
    assert ("it contains a space" in shown) == (expected is None)


def test_long_list_of_models_is_shortened_by_a_part_of_a_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [f"model-{number}" for number in range(100)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\nMODEL-7\n3\n"))
    chosen = choose_model("Model", models, default="", problem=lambda text: None if text else "an answer")
    shown = capsys.readouterr().err
    assert chosen == "model-71"  # the third of those that contain it
    assert "and 80 more" in shown
    assert shown.count("\n  20. ") == 1


@pytest.mark.parametrize(("typed", "expected"), [("9\n2\n", "b"), ("9\n9\n", "9"), ("0\nother\n", "other")])
def test_number_that_no_model_has_is_a_name_only_if_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, expected: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert choose_model("Model", ["a", "b"], default="", problem=lambda text: None) == expected
    assert f"no model number {typed[0]}" in capsys.readouterr().err


def test_package_that_is_missing_is_a_note_at_the_end(terminal: Any, form: None) -> None:
    given = ("-p", "form", "-s", "mine", "--set", "api_url=https://form.example", "--set", "default_model=m")
    status, shown = converse(terminal, *given, answers=[("Printer", '"network"')])
    assert status == 0, shown
    assert shown.count("Printer (optional)") == 1
    assert "The quotes were removed." in shown
    assert "Before you use the service: pip install 'drivers'" in shown
    assert service("mine")["printer"] == "network"


def test_list_with_quotes_is_left_alone(terminal: Any) -> None:
    answers = [("advanced", "y"), ("Betas", '"a","b"')]
    given = ("-s", "mine", "--set", "default_model=m", "--secret", "api_key=env:K")
    status, shown = converse(terminal, "-p", "anthropic", *given, answers=answers)
    assert status == 0, shown
    assert "Example: context-1m-2025-08-07" in shown
    assert "quotes were removed" not in shown


def test_profiles_are_numbered_and_suggested(terminal: Any) -> None:
    given = ("-s", "mine", "--set", "default_model=m", "--set", "api_url=https://x.example")
    answers = [("Profile", "ollma"), ("Profile", "1")]
    status, shown = converse(terminal, "-p", "openai-compatible", *given, answers=answers)
    assert status == 0, shown
    assert "did you mean ollama?" in shown
    first = re.search(r"  1\. ([a-z-]+)", shown)
    assert first is not None
    assert service("mine")["profile"] == first[1]


@pytest.mark.parametrize("typed", ["\x04", "\x03"])
@pytest.mark.parametrize("question", ["Name of the service", "Default Model"])
def test_leaving_in_the_middle_writes_nothing(terminal: Any, typed: str, question: str) -> None:
    named = ["--service", "mine", "--secret", "api_key=env:K"] if question == "Default Model" else []
    screen = terminal("init", "--provider", "fake", *named)
    if named:
        screen.wait_for(r"Token \(a secret, optional\)")
        screen.enter("\n")
        screen.wait_for(r"Region \[here\]")
        screen.enter("\n")
        screen.wait_for(r"Level \[3\]")
        screen.enter("\n")
    screen.wait_for(question)
    status, shown = screen.end(typed)
    assert status == (130 if typed == "\x03" else 2)
    assert "othing was written" in shown
    assert "Traceback" not in shown
    assert not FILE.exists()


KEY = "sk-canary-Ab9Zz0Qw7Rt5Yu3"
AWS_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
WRONG = {
    "API URL": ["ftp://model.example", "https//model.example", "https://me:canary-pw@model.example", "https://"],
    "Custom Endpoint URL": ["ftp://model.example", "https://bedrock-runtime.eu west-1.amazonaws.com"],
    "AWS Region": ["EU West", "eu-west-1.amazonaws.com", "us_east_1"],
    "AWS Access Key ID": [AWS_KEY, f"AKIAIOSFODNN7EXAMPLE:{AWS_KEY}", "env:AKIAIOSFODNN7EXAMPLE", "keyring:canary"],
    "Authentication": ["0", "99", "role"],
    "Input Token Limit": ["0", "-1", "many", "1.5"],
    "Output Token Limit": ["0", "1e3"],
    "Context Length": ["0", "much"],
    "Send User ID": ["4", "perhaps"],
    "API [": ["9", "completions"],
    "Name of the service": ["a b", "\u00fc", "old"],
    "Default Model": ["AKIAIOSFODNN7EXAMPLE"],
    "Go through": ["maybe", "2"],
    "The NAME": ["lower case", "canary-key", "$SOME_KEY"],
}
"""Answers that are wrong for questions that begin so. A key is wrong everywhere."""


@pytest.mark.parametrize("name", sorted({item.name for item in installed(PROVIDERS)}))
def test_every_provider_gets_a_service_that_opens(terminal: Any, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    FILE.write_text('[services.old]\nprovider = "fake"\napi_key = { env = "SOME_KEY" }\n')
    right = {
        "API URL": "https://model.example/v1",
        "AWS Region": "eu-west-1",
        "Default Model": "some-model",
        "Authentication": "1",
        "AWS Access Key ID": "env:SOME_ID",
        "Name of the service": "mine",
        "The NAME": "SOME_KEY",
        "Workspace ID": "wrkspc_01AbCd",
        "Credentials File": "google.json",
        "Project": "my-project-1",
    }
    asked: dict[str, int] = {}
    given = 0

    def reply(question: str) -> str:
        nonlocal given
        label = next((key for key in WRONG if question.startswith(key)), question)
        answers = [KEY, *WRONG.get(label, [])]
        count = asked[question] = asked.get(question, 0) + 1
        if count <= len(answers):
            given += 1
            return answers[count - 1]
        if "Where is it kept" in question:
            return "none" if "optional" in question else "env"
        return next((answer for key, answer in right.items() if question.startswith(key)), "")

    status, shown = terminal("init", "-p", name, "-c", "trunkline.toml").converse(reply)
    assert status == 0, shown
    assert shown.count("Please enter ") == given, shown
    assert not re.search("canary|AKIA", FILE.read_text())
    assert shown.count(KEY) == len(asked)  # the echo of the terminal alone
    monkeypatch.setenv("SOME_KEY", "later")
    monkeypatch.setenv("SOME_ID", "later")
    assert list(open_services(FILE)) == ["old", "mine"]
    if load_provider(name).settings.needs_model:
        assert service("mine")["default_model"] == "some-model"


def test_id_of_a_key_is_an_ordinary_answer(terminal: Any) -> None:
    status, shown = converse(
        terminal,
        *("-p", "bedrock", "-s", "mine", "--set", "aws_region=eu-west-1"),
        answers=[
            ("Authentication", "1"),
            ("AWS Access Key ID", "AKIAIOSFODNN7EXAMPLE"),
            ("of the environment variable", "SOME_KEY"),
            ("Default Model", "m"),
        ],
    )
    assert status == 0, shown
    assert service("mine")["aws_access_key_id"] == "AKIAIOSFODNN7EXAMPLE"
    assert service("mine")["aws_secret_access_key"] == {"env": "SOME_KEY"}


def test_variable_of_this_machine_is_offered_for_an_optional_setting(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    answers = [("Authentication", "4"), (r"AWS Region .optional. \[eu-west-1\]", ""), ("Default Model", "m")]
    status, shown = converse(terminal, "-p", "bedrock", "-s", "mine", answers=answers)
    assert status == 0, shown
    assert service("mine") == {"provider": "bedrock", "aws_region": "eu-west-1", "default_model": "m"}


@pytest.mark.parametrize(("profile", "question"), [("corp", "AWS Region .optional."), ("none", "AWS Region$")])
def test_region_is_asked_after_the_profile_that_may_have_it(
    terminal: Any, monkeypatch: pytest.MonkeyPatch, profile: str, question: str
) -> None:
    Path("config").write_text("[profile corp]\nregion = eu-west-3\n[profile none]\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", "config")
    region = "" if profile == "corp" else "eu-west-1"
    answers = [("Authentication", "3"), ("AWS Profile", profile), (question, region), ("Default Model", "m")]
    status, shown = converse(terminal, "-p", "bedrock", "-s", "mine", answers=answers)
    assert status == 0, shown
    assert service("mine").get("aws_region", "") == region


@pytest.mark.parametrize(
    ("provider", "given", "label"),
    [
        ("openai", "api=respones", r"API \[chat\]"),
        ("openai", "output_token_limit=0", r"Output Token Limit .optional."),
        ("ollama", "api_url=ftp://x", r"API URL \[http://127.0.0.1:11434\]"),
    ],
)
def test_wrong_setting_that_is_asked_again_may_be_left_out(
    terminal: Any, provider: str, given: str, label: str
) -> None:
    secret = ("--secret", "api_key=env:K") if provider == "openai" else ()
    arguments = ("-p", provider, "-s", "mine", "--set", "default_model=m", "--set", given, *secret)
    status, shown = converse(terminal, *arguments, answers=[(label, "")])
    assert status == 0, shown
    assert "Please enter" not in shown
    assert given.partition("=")[0] not in service("mine")


def test_wrong_default_of_the_file_is_not_offered_to_be_left_out(terminal: Any) -> None:
    FILE.write_text('[defaults]\nmax_retries = -1\n[services.old]\nprovider = "ollama"\n')
    arguments = ("-c", "trunkline.toml", "-p", "ollama", "-s", "mine", "--set", "default_model=m")
    status, shown = converse(terminal, *arguments, answers=[("Retries$", ""), ("Retries$", "2")])
    assert status == 0, shown
    assert service("mine")["max_retries"] == 2


@pytest.mark.parametrize(
    ("provider", "name", "old", "taken", "offered"),
    [
        ("openai-compatible", "a_b", "", "TRUNKLINE_A_B_API_KEY", "TRUNKLINE_A_B_API_KEY_2"),
        ("openai", "a", '{ env = "OPENAI_API_KEY" }', "OPENAI_API_KEY", "TRUNKLINE_A_API_KEY"),
    ],
)
def test_variable_of_another_service_is_not_offered(
    terminal: Any, monkeypatch: pytest.MonkeyPatch, provider: str, name: str, old: str, taken: str, offered: str
) -> None:
    key = f"api_key = {old}\n" if old else ""
    FILE.write_text(f'[services.a-b]\nprovider = "{provider}"\napi_url = "https://a.example"\n{key}')
    monkeypatch.setenv(taken, "canary-key")
    given = ("-c", "trunkline.toml", "-p", provider, "-s", name, "--set", "api_url=https://b.example")
    answers = [("Where is it kept", "env"), (rf"environment variable .*\[{offered}\]", ""), ("Default Model", "m")]
    status, shown = converse(terminal, *given, answers=answers)
    assert status == 0, shown
    assert f"{taken} belongs to the service a-b" in shown
    assert service(name)["api_key"] == {"env": offered}


def test_place_of_a_secret_may_be_answered_with_what_is_kept_there(terminal: Any) -> None:
    given = ("-c", "trunkline.toml", "-p", "openai", "--set", "api_url=https://b.example")
    key = "sk-canary-Ab9Zz0Qw7Rt5Yu3"
    places = (f"env:{key}", "keyring:me", key, "env:MY_OWN_KEY")
    answers = [*(("Where is it kept", place) for place in places), ("Default Model", "m")]
    status, shown = converse(terminal, *given, answers=answers)
    assert status == 0, shown
    assert "Please enter service/user" in shown
    assert service("openai")["api_key"] == {"env": "MY_OWN_KEY"}


@settings
class PureSettings(Settings):
    """A form without anything around it."""

    optional: str | None = setting("Optional", "May be set.", default=None, group="Own")
    needed: str = setting("Needed", "Must be set.", group="Own")
    seldom: str | None = setting("Seldom", "Hardly ever.", default=None, group="Own", advanced=True)
    key: str | None = setting("Key", "Of one way.", default=None, group="Authentication", advanced=True)
    more: str | None = setting("More", "Of one way.", default=None, group="Authentication", advanced=True)
    card: str | None = setting("Card", "Of another way.", default=None, group="Authentication")

    alternatives = (
        Alternative(title="Key", description="", settings=("key", "more"), required=("key",)),
        Alternative(title="Card", description="", settings=("card",), required=("card",)),
    )


def test_questions_come_in_the_order_of_the_form() -> None:
    common = {info for info in dir(Settings) if not info.startswith("_")} - {"default_model"}
    progress = Progress(known=common)
    asked: list[str] = []
    while (question := next_question(PureSettings, progress)) is not None:
        if isinstance(question, ChooseWay):
            asked.append(f"way:{question.group}")
            progress.way = question.ways[0]
        elif isinstance(question, AskAdvanced):
            asked.append(f"advanced:{question.count}")
            progress.advanced = True
        else:
            asked.append(question.info.name + ("!" if question.required else ""))
            progress.known.add(question.info.name)
    assert asked == [
        "way:Authentication",
        "key!",
        "needed!",
        "optional",
        "default_model!",
        "advanced:2",
        "more",
        "seldom",
    ]
    progress.again = ["card"]
    question = next_question(PureSettings, progress)
    assert isinstance(question, AskSetting)
    assert (question.info.name, question.required) == ("card", False)


def test_way_is_known_from_the_settings_that_are_given() -> None:
    key, card = PureSettings.alternatives
    assert way_of(PureSettings, {"card", "key", "needed"}) is key
    assert way_of(PureSettings, {"card"}) is card
    assert way_of(PureSettings, {"needed"}) is None
