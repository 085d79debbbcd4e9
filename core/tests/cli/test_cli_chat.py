"""`trunkline chat`, as arguments, pipes and terminals reach it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from trunkline.cli.config_files import read_safely, trust_file

RUN = [sys.executable, "-c", "import sys; from trunkline.cli import main; sys.exit(main())"]
FAKE = ("chat", "--provider", "fake", "--model")


def log(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().split("\n")[:-1]


def test_the_words_of_the_prompt_are_joined_and_only_the_text_is_on_stdout(call: Any, key: str) -> None:
    status, out, err = call(*FAKE, "echo", "Good", "morning")
    assert (status, out) == (0, "You said: Good morning\n")
    assert "[stop · tokens: 5 in, 7 out · fake-1 · " in err


def test_the_text_of_a_pipe_follows_the_argument(call: Any, key: str) -> None:
    assert call(*FAKE, "echo", "Shorten this:", stdin="A long tale.\n")[1] == (
        "You said: Shorten this:\n\nA long tale.\n"
    )
    assert call(*FAKE, "echo", stdin="A long tale.")[1] == "You said: A long tale.\n"


def test_without_a_prompt_and_a_terminal_there_is_nothing_to_ask(call: Any, key: str) -> None:
    status, out, err = call(*FAKE, "echo", stdin=" \n")
    assert (status, out) == (2, "")
    assert "no prompt" in err


def test_options_reach_the_request(call: Any, key: str, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n")
    arguments = ["--system", "Be kind", "--image", str(picture), "--image", "https://example.org/b.jpg"]
    _, out, err = call(*FAKE, "turns", *arguments, "--max-output-tokens", "9", "--temperature", "0.5", "Hi")
    assert out == "[['system', 'Be kind'], ['user', 'Hi']] images=2 max=9\n"
    assert "warning: temperature: fakes are always cold" in err


def test_unreadable_image_is_reported_before_any_request(call: Any, key: str, tmp_path: Path) -> None:
    status, _, err = call(*FAKE, "echo", "--image", "nowhere.png", "Hi")
    assert status == 2
    assert "--image: the file 'nowhere.png' cannot be read: No such file or directory" in err
    assert not (tmp_path / "log").exists()


def test_a_prompt_may_look_like_an_option_after_two_hyphens(call: Any, key: str) -> None:
    assert call(*FAKE, "echo", "--", "--debug", "-x")[1] == "You said: --debug -x\n"


def test_reasoning_and_sources_are_labelled_on_stderr(call: Any, key: str) -> None:
    _, out, err = call(*FAKE, "think", "Hi")
    assert out == "Yes.\nIndeed\n"
    assert "[reasoning] Hmm, so.\n" in err
    assert "[source] A https://example.org/a" in err


def test_a_tool_call_is_shown(call: Any, key: str) -> None:
    _, out, err = call(*FAKE, "tools", "Hi")
    assert out == ""
    assert '[tool call] weather({"city":"Oslo"}) id=c1' in err
    assert "tool_calls" in err


def test_an_answer_without_text_says_that_its_budget_was_used_up(call: Any, key: str) -> None:
    assert "raise --max-output-tokens" in call(*FAKE, "budget", "Hi")[2]


def test_interrupted_stream_fails_and_shows_the_received_text(call: Any, key: str) -> None:
    status, out, err = call(*FAKE, "cut", "Hi")
    assert (status, out) == (1, "half an ans\n")
    assert "trunkline: fake: the stream ended without its last line" in err
    assert "Traceback" not in err


def test_events_are_printed_as_json_lines(call: Any, key: str) -> None:
    _, out, err = call(*FAKE, "think", "--json", "--temperature", "1", "Hi")
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["type"] for event in events] == [
        "response_started",
        "reasoning_start",
        "reasoning_delta",
        "reasoning_delta",
        "reasoning_end",
        "text_start",
        "text_delta",
        "text_end",
        "citation",
        "finished",
    ]
    assert events[0]["warnings"][0]["subject"] == "temperature"
    assert events[-1]["usage"]["output_tokens"] == 7
    assert events[-1]["reason"] == "stop"
    assert err == ""


def test_an_error_is_a_json_line_as_well(call: Any, key: str) -> None:
    status, out, _ = call(*FAKE, "cut", "--json", "Hi")
    last = json.loads(out.splitlines()[-1])
    assert status == 1
    assert (last["type"], last["error"], last["provider"]) == ("error", "StreamInterrupted", "fake")


def test_error_contains_no_secret(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "wrong-canary-key-1234")
    for extra in ([], ["--json"], ["--debug"]):
        status, out, err = call(*FAKE, "echo", *extra, "Hi")
        assert status == 1
        assert "401" in err
        assert "wrong-canary-key-1234" not in out + err


def interrupted(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Press Ctrl-C until the process ends, and return what is left of stdout and stderr.

    Python handles a signal only after the wait if it comes just before the event loop starts to wait. The next one then
    ends the wait.
    """
    for _ in range(10):
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=2)
    raise AssertionError("the process ignores Ctrl-C")


def test_text_reaches_a_pipe_while_the_stream_runs_and_ctrl_c_stops_it(site: Any, key: str, tmp_path: Path) -> None:
    process = subprocess.Popen([*RUN, *FAKE, "stall", "Hi"], stdin=subprocess.DEVNULL, stdout=-1, stderr=-1)
    assert process.stdout is not None
    assert process.stdout.read(7) == b"one two"
    out, err = interrupted(process)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert out == b"\n"
    assert log(tmp_path) == ["opened", "stream closed", "closed"]


def test_ctrl_c_before_the_first_word_is_no_traceback_either(terminal: Any, key: str, tmp_path: Path) -> None:
    screen = terminal(*FAKE, "silent", "Hi")
    while not (tmp_path / "log").exists():
        assert screen.process.poll() is None
    status, shown = screen.end("\x03")
    assert status == 130
    assert "Traceback" not in shown


def test_a_reader_that_has_enough_ends_the_command_quietly(site: Any, key: str, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*RUN, *FAKE, "echo", "Hi"], stdin=subprocess.DEVNULL, stdout=write, stderr=-1, timeout=20, check=False
    )
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == b""
    assert log(tmp_path)[-1] == "closed"


def test_control_characters_reach_a_pipe_and_no_terminal(piped: Any, terminal: Any, key: str) -> None:
    assert piped(*FAKE, "escape", "Hi").stdout.startswith("a\x1b]0;owned\x07b\x9b31m\tc\nd")
    _, shown = terminal(*FAKE, "escape", "Hi").end()
    assert shown.startswith("a\\x1b]0;owned\\x07b\\x9b31m\tc\r\nd\\x0d\r\n[stop")


def test_a_conversation_keeps_its_history(terminal: Any, key: str) -> None:
    screen = terminal(*FAKE, "turns", "--system", "Be kind")
    screen.wait_for("> ")
    screen.enter("first\n")
    screen.wait_for(r"\[\['system', 'Be kind'\], \['user', 'first'\]\]")
    screen.wait_for("\n> ")
    screen.enter("second\n")
    screen.wait_for(r"\['assistant', .*\['user', 'second'\]\]")
    screen.wait_for("\n> ")
    screen.enter("\n")
    assert screen.end()[0] == 0


def test_ctrl_d_ends_a_conversation(terminal: Any, key: str, tmp_path: Path) -> None:
    screen = terminal(*FAKE, "echo")
    screen.wait_for("> ")
    screen.enter("Hi\n")
    screen.wait_for("You said: Hi")
    screen.wait_for("\n> ")
    screen.enter("\x04")
    status, shown = screen.end()
    assert status == 0
    assert "Traceback" not in shown
    assert log(tmp_path)[-1] == "closed"


def test_ctrl_c_stops_an_answer_whose_beginning_stays_in_the_history(terminal: Any, key: str, tmp_path: Path) -> None:
    screen = terminal(*FAKE, "stall-once")
    screen.wait_for("> ")
    screen.enter("Hi\n")
    screen.wait_for("one two")
    screen.wait_for(r"\[stopped\]\s+> ", press="\x03")
    assert log(tmp_path) == ["opened", "stream closed"]
    screen.enter("more\n")
    screen.wait_for("You said: more")
    screen.wait_for("\n> ")
    status, shown = screen.end("\x03")
    assert status == 130
    assert "Traceback" not in shown
    assert log(tmp_path)[-1] == "closed"


def test_a_conversation_survives_an_error(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_API_KEY", "wrong-canary-key-1234")
    screen = terminal(*FAKE, "echo")
    screen.wait_for("> ")
    screen.enter("Hi\n")
    assert "canary" not in screen.wait_for("status 401")
    screen.wait_for("\n> ")
    screen.enter("\n")
    assert screen.end()[0] == 0


def test_in_a_conversation_stdout_may_be_a_file(terminal: Any, key: str, tmp_path: Path) -> None:
    with (tmp_path / "answers").open("wb") as file:
        screen = terminal(*FAKE, "echo", stdout=file.fileno())
    screen.wait_for("> ")
    screen.enter("Hi\n")
    screen.wait_for("stop")
    screen.wait_for("> ")
    screen.enter("\n")
    assert screen.end()[0] == 0
    assert (tmp_path / "answers").read_text() == "You said: Hi\n"


@pytest.mark.parametrize("extra", [(), ("--json",)], ids=["text", "json"])
def test_long_wait_before_a_retry_is_shown_before_it(terminal: Any, key: str, extra: tuple[str, ...]) -> None:
    screen = terminal(*FAKE, "busy", *extra, "Hi")
    screen.wait_for(r"service 'fake': rate limited; trying again in 30 s\r\n")
    status, rest = screen.end("\x03")
    assert status == 130
    assert "trying again" not in rest


def test_long_wait_in_a_conversation_is_shown_and_can_be_stopped(terminal: Any, key: str) -> None:
    screen = terminal(*FAKE, "busy")
    screen.wait_for("> ")
    screen.enter("Hi\n")
    screen.wait_for("rate limited; trying again in 30 s")
    screen.wait_for(r"\[stopped\](.|\n)*> ", press="\x03")
    assert screen.end("\n")[0] == 0


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("chat", "-p", "fake", "-m", "echo", "--image", "/dev/zero", "Hi"), "is a device or a socket, not a file"),
        (("chat", "-p", "fake", "-m", "echo", "--image", "pipe", "Hi"), "is a pipe into which nobody writes"),
        (("chat", "-p", "fake", "-m", "echo", "--image", ".", "Hi"), "is a folder"),
        (("chat", "-p", "fake", "-m", "echo", "--image", "huge", "Hi"), "has more than"),
        (("check", "--config", "/dev/zero"), "is a device or a socket, not a file"),
        (("check", "--config", "pipe"), "is a pipe into which nobody writes"),
        (("check", "--config", "."), "is a folder"),
        (("check", "--config", "huge"), "has more than"),
        (("trust", "pipe"), "is not a regular file"),
        (("trust", "/dev/zero"), "is not a regular file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_device_pipe_folder_or_huge_file_is_a_clear_error(
    call: Any, key: str, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], problem: str
) -> None:
    monkeypatch.setattr("trunkline._files.WRITER_LIMIT", 0.05)
    os.mkfifo("pipe", 0o600)
    with Path("huge").open("wb") as file:
        file.truncate(10 * 2**40)
    status, _, err = call(*arguments)
    assert status in (1, 2)
    assert problem in err


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_prompt_without_end_is_a_clear_error(piped: Any, key: str) -> None:
    with Path("/dev/zero").open("rb") as endless:
        done = subprocess.run([*RUN, *FAKE, "echo"], stdin=endless, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the text on stdin has more than" in done.stderr


def test_composed_service_can_be_asked(call: Any) -> None:
    settings = 'provider = "fake"\napi_key = "{}"\ndefault_model = "echo"\n'
    path = Path("trunkline.toml")
    path.write_text(
        f"[services.down]\n{settings.format('wrong-canary-12345')}"
        f"[services.good]\n{settings.format('good-key-1234567')}"
        '[services.main]\nfallback = ["down", "good"]\n'
    )
    trust_file(read_safely(path))
    status, out, err = call("chat", "--service", "main", "Hello")
    assert (status, err.count("canary")) == (0, 0)
    assert "Hello" in out
    assert call("models", "--service", "main")[0] == 0
    status, _, err = call("chat", "--service", "main", "--set", "default_model=x", "Hello")
    assert status != 0
    assert "main is made of others: select one of those" in err


def test_members_of_a_composed_service_that_lack_a_model_are_named(call: Any) -> None:
    path = Path("trunkline.toml")
    path.write_text(
        '[services.one]\nprovider = "fake"\napi_key = "good-key-1234567"\ndefault_model = "echo"\n'
        '[services.two]\nprovider = "fake"\napi_key = "good-key-1234567"\n'
        '[services.main]\nfallback = ["one", "two"]\n'
    )
    trust_file(read_safely(path))
    _, _, err = call("chat", "--service", "main", "Hello")
    assert "no model is given; use --model, or set default_model of two" in err
    _, _, err = call("chat", "--service", "two", "Hello")
    assert err.strip().endswith("set default_model")
