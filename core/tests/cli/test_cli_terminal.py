"""Fault class 75: a terminal shows control sequences and invisible characters, and does not execute them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from trunkline._masking import looks_like_key, may_be_secret
from trunkline._visible_text import TextPieces, visible
from trunkline.cli.terminal import print_json

FAKE = ("chat", "--provider", "fake", "--model")
UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)
NAME = "x\x1b]0;owned\x07\u202ey"
TOML_NAME = '"x\\u001b]0;owned\\u0007\\u202ey"'


def run(terminal: Any, *arguments: str) -> str:
    """Run the command on a terminal and return what it shows."""
    _, shown = terminal(*arguments).end()
    return str(shown)


def check(shown: str, *, at_least: str = "\\x1b]0;owned\\x07") -> None:
    """Check that everything is shown, and that nothing of it is executed."""
    assert UNSAFE.findall(shown.replace("\r\n", "\n")) == []
    assert "\r" not in shown.replace("\r\n", "\n")
    if at_least:
        assert at_least in re.sub(r"\s", "", shown)


SHOWN = [
    (*FAKE, "hostile", "Hi"),
    (*FAKE, "hostile-error", "Hi"),
    ("chat", "--provider", "fake", "--model", "hostile-error", "--json", "Hi"),
    ("check", "--provider", "fake", "--set", "default_model=hostile"),
    ("check", "--provider", "fake", "--set", "default_model=hostile-error"),
    ("chat", "--service", NAME, "Hi"),
    ("chat", "--config", NAME, "Hi"),
    ("models", "--config", f"{NAME}.toml"),
    (*FAKE, "echo", "--image", NAME, "Hi"),
    ("trust", NAME),
    ("trust", "--revoke", NAME),
    ("check", "--config", NAME),
    ("models", "--service", NAME),
    ("map", f"{NAME}.csv", "out.jsonl", "--provider", "fake", "--model", "echo"),
]
HIDDEN = [
    ("chat", "--provider", NAME, "Hi"),
    ("chat", "--provider", "fake", "--set", f"{NAME}=1", "Hi"),
    (NAME,),
    ("settings", NAME),
    ("settings", "fake", NAME),
    ("providers", NAME),
    ("new-plugin", NAME),
    ("new-plugin", "acme", "--folder", NAME),
    ("init", "--provider", NAME),
    ("check", "--provider", "fake", "--timeout", NAME),
]
"""What may be a key, or is not repeated."""


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
@pytest.mark.parametrize(
    "arguments",
    [*SHOWN, *HIDDEN],
    ids=lambda arguments: "-".join(word for word in arguments if word.isascii() and word.isprintable()),
)
def test_nothing_that_a_server_or_an_argument_contains_is_executed(
    terminal: Any, key: str, arguments: tuple[str, ...], debug: tuple[str, ...]
) -> None:
    shown = run(terminal, *arguments[:1], *debug, *arguments[1:])
    check(shown, at_least="owned" if arguments in SHOWN else "")


def test_the_arguments_of_every_command_are_tested() -> None:
    from trunkline.cli import BUILT_IN

    assert {arguments[0] for arguments in (*SHOWN, *HIDDEN)} - {NAME} == set(BUILT_IN)


LINES = "one\ntrunkline: two\tthree"


@pytest.mark.parametrize(
    "text",
    [
        f"[services.{json.dumps(LINES)}]\nprovider = 'fake'\n[services.other]\nprovider = 'fake'\n",
        f"[services.{json.dumps(LINES)}]\nprovider = 'fake'\nlevel = 0\n",
        f"[services.a]\nprovider = 'fake'\n{json.dumps(LINES)} = 0\n",
        f"[services.a]\nprovider = 'fake'\nregion = {{ env = {json.dumps(LINES)} }}\n",
        f"[services.a]\nprovider = 'fake'\napi_key = {{ file = {json.dumps(LINES)} }}\n",
        f"[services.a]\nprovider = 'fake'\nheaders = {{ {json.dumps(LINES)} = 'x' }}\n",
        f"[services.a]\nprovider = {json.dumps(LINES)}\n",
        f"[defaults]\n{json.dumps(LINES)} = 1\n[services.a]\nprovider = 'fake'\n",
        f"{json.dumps(LINES)} = 1\n",
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [("check",), ("models",), ("models", "-s", "no"), ("chat", "Hi"), ("trust", "trunkline.toml")],
    ids=" ".join,
)
def test_name_in_a_configuration_file_makes_no_line(call: Any, text: str, arguments: tuple[str, ...]) -> None:
    Path("trunkline.toml").write_text(text)
    file = [] if arguments[0] == "trust" else ["-c", "trunkline.toml"]
    _, out, err = call(*arguments, *file)
    assert "two" not in [line.strip().removeprefix("trunkline: ")[:3] for line in (out + err).splitlines()]


@pytest.mark.parametrize("arguments", [("models",), ("models", "--json")])
def test_the_list_of_models_is_shown_and_not_executed(
    terminal: Any, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "hostile-key-123456")
    shown = run(terminal, *arguments, "-p", "fake")
    check(shown, at_least="\\u001b]0;owned\\u0007" if "--json" in arguments else "\\x1b]0;owned\\x07")


@pytest.mark.parametrize("command", ["chat", "check", "models", "trust"])
def test_names_in_a_configuration_file_are_shown_and_not_executed(
    terminal: Any, write_config: Any, command: str, key: str
) -> None:
    write_config(f'[services.{TOML_NAME}]\nprovider = "fake"\n{TOML_NAME} = {TOML_NAME}\n')
    check(run(terminal, command, *(["Hi"] if command == "chat" else [])))


def test_a_configuration_file_that_is_asked_about_is_shown_and_not_executed(terminal: Any, key: str) -> None:
    Path("trunkline.toml").write_text(
        f'[services.{TOML_NAME}]\nprovider = "fake"\napi_url = {TOML_NAME}\n'
        f"api_key = {{ env = {TOML_NAME} }}\nheaders = {{ X = {{ file = {TOML_NAME} }} }}\n"
    )
    screen = terminal("chat", "Hi")
    shown = screen.wait_for(r"Trust this file\?")
    check(shown)
    assert shown.count("owned") >= 4
    screen.enter("n\n")
    assert screen.end()[0] == 2


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
def test_the_output_of_a_plugin_command_and_its_warnings_and_logs_are_shown(
    site: Any, terminal: Any, debug: tuple[str, ...]
) -> None:
    site.install("dist-shout", {"trunkline.commands": {"shout": "fake_plugin:shout"}})
    shown = run(terminal, "shout", *debug)
    check(shown.replace("\x1b[31m", ""))  # a command may use colours
    assert shown.count("owned") >= 6


def test_a_broken_plugin_is_shown_and_not_executed(site: Any, terminal: Any) -> None:
    site.install("dist-snap", {"trunkline.providers": {"snap": "snap:provider"}}, {"snap": f"raise OSError({NAME!r})"})
    check(run(terminal, "providers"))


def test_the_questions_of_init_show_their_answers_escaped(terminal: Any, key: str) -> None:
    screen = terminal("init", "--provider", "fake", "--service", "mine", "--config", f"{NAME}.toml")
    status, shown = screen.converse(lambda question: NAME if question.startswith("Default Model") else "")
    assert status == 0, shown
    # The terminal itself echoes what is typed.
    check(re.sub(r"(Default Model): [^\n]*\n", r"\1\n", shown))


def test_errors_are_escaped_in_a_pipe_too_and_the_answer_is_not(piped: Any, key: str) -> None:
    done = piped(*FAKE, "hostile", "Hi")
    check(done.stderr)
    assert done.stdout.startswith("A\x1b]0;owned\x07B\x1b[31mC\x9b2J")
    check(piped(*FAKE, "hostile-error", "--debug", "Hi").stderr)


@pytest.mark.parametrize(
    "text",
    [
        "family 👨‍👩‍👧, heart ❤️, flag 🇳🇴, keycap 1️⃣",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "العربية ١٢٣, עִבְרִית",
        "می‌خواهم, क्ष, क्‍ष",
        "葛󠄀, 한국어, ไทย",
        "❤\ufe0f\u200d🔥 🏴\u200d☠\ufe0f 👁\ufe0f\u200d🗨\ufe0f",
    ],
    ids=["emoji", "england", "right-to-left", "joiners", "asian", "joined-emoji"],
)
def test_ordinary_text_is_shown_whole(terminal: Any, key: str, text: str) -> None:
    assert visible(text) == text
    assert run(terminal, *FAKE, "emoji", text).startswith(text)


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["\x1b", "]0;x", "\x07"], "\\x1b]0;x\\x07"),
        (["\x9b2J\x7f"], "\\x9b2J\\x7f"),
        (["a\r", "\nb"], "a\nb"),
        (["a\r", "b\r"], "a\\x0db\\x0d"),
        (["\ud83d", "\ude00"], "😀"),
        (["\ud83d", "x"], "\\ud83dx"),
        (["a\ufe0f\ufe01\U000e0100"], "a\ufe0f\\ufe01\\U000e0100"),
        (["🏴\U000e0067", "\U000e0062"], "🏴\\U000e0067\\U000e0062"),
    ],
)
def test_a_sequence_in_pieces_is_shown(pieces: list[str], shown: str) -> None:
    text = TextPieces(escaped=True)
    assert "".join(map(text.feed, pieces)) + text.finish() == shown


@given(
    text=st.text(
        alphabet=st.sampled_from(
            "a\ufe00\ufe01\u200c\u200d\U000e0100🏴\U000e0067\U000e0062\r\n\ud83d\ude00\udb40\udd00"
        )
    )
)
def test_text_in_pieces_is_escaped_like_the_whole(text: str) -> None:
    pieces = TextPieces(escaped=True)
    assert "".join(map(pieces.feed, text)) + pieces.finish() == visible(text)


@pytest.mark.parametrize(
    "text",
    [
        "a\u200c\u200d\u200d",
        "a\U000e0101\u200d\U000e0102\u200d",
        "a\U000e0101\u034f\U000e0102",
        "\u115f",
        "\u180e",
        "\u17b4",
    ],
    ids=ascii,
)
def test_text_cannot_be_hidden_in_a_row_of_invisible_characters(text: str) -> None:
    assert "\\" in visible(text)


def test_a_terminal_whose_encoding_lacks_a_character_shows_its_number(
    terminal: Any, key: str, monkeypatch: Any
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert "\\u4e2d" in run(terminal, *FAKE, "echo", "中")


def test_the_command_prints_only_through_the_module_that_escapes() -> None:
    import trunkline.cli

    for path in Path(trunkline.cli.__file__).parent.glob("*.py"):
        if path.name in ("terminal.py", "__init__.py", "probe.py"):
            continue
        found = re.findall(r"(?<![\w.])print\(|std(?:out|err)\.write|print_exc", path.read_text("utf-8"))
        assert found == [], f"{path.name}: use the functions of terminal.py"


KEY = "sk-canary-Ab9Zz0Qw7Rt5Yu3"


@pytest.mark.parametrize(
    "arguments",
    [
        (f"--api-key={KEY}", "Hi"),
        ("--api-key", KEY, "Hi"),
        ("--temperature", KEY, "Hi"),
        (f"--temperature={KEY}", "Hi"),
        ("--max-output-tokens", KEY, "Hi"),
        ("--set", KEY, "Hi"),
        ("-p", "fake", "--set", f"x={KEY}", "Hi"),
        ("-p", "fake", "--set", f"level={KEY}", "Hi"),
        ("-p", "fake", "--set", f"strict={KEY}", "Hi"),
        ("-p", "fake", "--set", f"{KEY}=x", "Hi"),
        ("-p", "fake", "--set", f"max_retries={KEY}", "Hi"),
        ("-p", "fake", "--set", f"headers=x={KEY}", "Hi"),
        ("-p", "fake", "--set", f'headers={{"x": "{KEY}"', "Hi"),
        ("-p", KEY, "Hi"),
        ("-s", KEY, "Hi"),
        ("-c", KEY, "Hi"),
        (f"--{KEY}", "Hi"),
        (f"-{KEY}", "Hi"),
    ],
    ids=lambda arguments: " ".join(arguments).replace(KEY, "KEY"),
)
@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
def test_a_key_in_the_wrong_place_is_not_repeated(
    call: Any, arguments: tuple[str, ...], debug: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "another-key-123456")
    status, out, err = call("chat", *debug, *arguments)
    assert status in (1, 2)
    assert "Ab9Zz0Qw7Rt5Yu3" not in out + err
    assert "trunkline: " in err


@pytest.mark.parametrize(
    "arguments", [(KEY,), ("settings", KEY), ("new-plugin", KEY), ("init", "-p", KEY), ("trust", KEY)]
)
@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=["plain", "debug"])
def test_a_key_instead_of_a_name_is_not_repeated(call: Any, arguments: tuple[str, ...], debug: tuple[str, ...]) -> None:
    status, out, err = call(*arguments, *debug)
    assert status in (1, 2)
    assert "Ab9Zz0Qw7Rt5Yu3" not in out + err


@pytest.mark.parametrize("text", ["gsk_abcdefghijklmnop1234", "deadbeef12345678", "AKIAIOSFODNN7EXAMPLE"])
def test_arguments_and_settings_hide_the_same_keys(text: str) -> None:
    assert looks_like_key(text)
    assert may_be_secret(text)


@pytest.mark.parametrize("text", ["claude-sonnet-4-5-20250929", "IMG20250929120000.png", "gpt-4o-mini-2024-07-18"])
def test_a_name_with_a_date_is_no_key(text: str) -> None:
    assert not looks_like_key(text)


def test_a_mistyped_command_and_option_are_repeated(call: Any) -> None:
    assert "chta" in call("chta")[2]
    assert "--modle" in call("chat", "--modle", "x", "Hi")[2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("redirect", [">/dev/full", ">&-", "2>&-", "2>/dev/full", "2>&1 | head -c 1", "2>&1 | true"])
@pytest.mark.parametrize("command", ["settings fake", "chat -p fake -m think Hi", "chat -p fake -m cut Hi", "chta"])
def test_output_that_cannot_be_written_is_no_traceback(site: Any, key: str, command: str, redirect: str) -> None:
    code = "import sys; from trunkline.cli import main; sys.exit(main())"
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {command} {redirect}', sys.executable, code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=dict(os.environ),
    )
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr


def test_halves_of_a_character_are_joined_without_escaping_the_rest() -> None:
    text = TextPieces(escaped=False)
    assert "".join(map(text.feed, ["\x1b[1m\ud83d", "\ude00"])) + text.finish() == "\x1b[1m😀"


def test_json_has_null_for_numbers_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"a": float("nan")}, float("-inf"), 1.5])
    assert json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name)) == [
        {"a": None},
        None,
        1.5,
    ]
