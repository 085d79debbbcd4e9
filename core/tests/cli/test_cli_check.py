"""`trunkline check`: what is well, what is not, and the exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from trunkline import open_service
from trunkline.cli.check import Report, check_service
from trunkline.cli.config_files import read_safely, trust_file
from trunkline.cli.diagnosis import diagnose, near_models, not_listed
from trunkline.cli.selection import SelectedService, WrongService
from trunkline.errors import (
    AuthenticationError,
    BadRequest,
    ConfigurationError,
    ConnectionFailed,
    ConnectTimeout,
    ContentFiltered,
    ContextTooLong,
    NotFound,
    Overloaded,
    PermissionDenied,
    PluginError,
    ProtocolViolation,
    ProviderNotFound,
    QuotaExhausted,
    RateLimited,
    ServerError,
    StreamInterrupted,
    TotalTimeout,
    TrunklineError,
    UnexpectedRedirect,
    UnsupportedOperation,
)
from trunkline.response import ModelInfo
from trunkline.settings import Settings


def write(*services: str) -> None:
    path = Path("trunkline.toml")
    path.write_text("\n".join(services))
    trust_file(read_safely(path))


def service(name: str, key: str = "good-key-1234567", model: str = "echo", more: str = "") -> str:
    return f'[services.{name}]\nprovider = "fake"\napi_key = "{key}"\ndefault_model = "{model}"\n{more}'


def test_services_that_are_well_have_a_line_each_and_status_0(call: Any) -> None:
    write(service("a"), service("bee"))
    status, out, _ = call("check")
    assert status == 0
    lines = sorted(out.splitlines())
    assert [line.split()[:2] for line in lines] == [["a", "ok"], ["bee", "ok"]]
    assert "settings, credentials, 2 models, answer from fake-1" in lines[0]


def test_each_failure_is_reported_with_its_step_and_no_secret(call: Any) -> None:
    write(
        service("good"),
        service("denied", key="wrong-canary-12345"),
        service("lost", key="unreachable-canary-12345"),
        service("cut", model="cut"),
        service("setless", more='level = 0\ncolour = "red"\n'),
        '[services.gone]\nprovider = "missing"\n',
    )
    status, out, err = call("check")
    assert status == 1
    results = {block.split()[0]: block for block in out.replace("\n    ", " | ").splitlines()}
    assert "ok" in results["good"].split()
    assert list(results) == ["good", "denied", "lost", "cut", "setless", "gone"]  # as in the file
    assert "request: key | denied (fake): the key *** is wrong (status 401) | to do: check that" in results["denied"]
    assert "request: connection | lost (fake): cannot reach fake" in results["lost"]
    assert "request: not-the-api" in results["cut"]
    assert "setting 'level'" in results["setless"]
    assert "setting 'colour'" in results["setless"]
    assert "service 'gone': no provider 'missing' is installed" in results["gone"]
    assert "canary" not in out + err


def test_the_request_can_be_left_out(call: Any) -> None:
    write(service("cut", model="cut"))
    status, out, _ = call("check", "--no-request")
    assert status == 0
    assert "2 models" in out
    assert "answer from" not in out
    assert "note: the model was not asked for an answer" in out


def test_wrong_key_fails_a_check_without_a_request(call: Any) -> None:
    write(service("denied", key="wrong-canary-12345"))
    status, out, _ = call("check", "--no-request")
    assert status == 1
    assert "models: key" in out


def test_a_service_that_does_not_answer_fails_within_the_time_given(call: Any) -> None:
    write(service("slow", model="silent"), service("good"))
    status, out, _ = call("check", "--timeout", "0.05")
    assert status == 1
    assert "total_timeout (0.05 s)" in out
    assert "good  ok" in out


def test_one_service_or_one_provider_can_be_checked(call: Any, key: str) -> None:
    write(service("a"), service("b", key="wrong-canary-12345"))
    assert call("check", "--service", "a")[0] == 0
    assert call("check", "--provider", "fake", "--set", "default_model=echo")[0] == 0


@pytest.mark.parametrize(
    ("text", "message"), [(None, "trunkline init"), ("= 1", "not TOML"), ("x = 1", "'x' at the top level")]
)
def test_missing_or_invalid_configuration_is_reported(call: Any, text: str | None, message: str) -> None:
    if text is not None:
        write(text)
    status, _, err = call("check")
    assert status in (1, 2)
    assert message in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("= 1", "not TOML"),
        ("x = 1", "'x' at the top level"),
        ("[defaults]\nmax_retrys = 3\n" + service("a"), "max_retries"),
        ("[service.a]\nprovider = 'fake'\n", "services"),
    ],
)
def test_json_has_one_object_without_a_name_for_a_mistake_in_the_file_itself(
    call: Any, text: str, message: str
) -> None:
    write(text)
    status, out, err = call("check", "--json")
    [report] = json.loads(out)
    assert (status, err) == (1, "")
    assert (report["name"], report["provider"], report["ok"], report["problem"]) == (None, None, False, "settings")
    assert message in report["message"]
    assert [(step["name"], step["status"]) for step in report["steps"]] == [("settings", "failed")]


def test_json_has_an_object_for_each_service_in_the_order_of_the_file(call: Any) -> None:
    write(service("good"), service("denied", key="wrong-canary-12345"), service("set", more="level = 0\n"))
    status, out, err = call("check", "--json")
    good, denied, unset = json.loads(out)
    assert status == 1
    assert [step.pop("seconds") >= 0 for step in good["steps"]] == [True] * 4
    assert good == {
        "name": "good",
        "provider": "fake",
        "ok": True,
        "model": "echo",
        "url": None,
        "proxy": None,
        "steps": [
            {"name": "settings", "status": "ok", "detail": "settings"},
            {"name": "credentials", "status": "ok", "detail": "credentials"},
            {"name": "models", "status": "ok", "detail": "2 models"},
            {"name": "request", "status": "ok", "detail": "answer from fake-1"},
        ],
        "problem": None,
        "message": None,
        "advice": None,
        "notes": [],
    }
    assert (denied["ok"], denied["problem"]) == (False, "key")
    assert [step["status"] for step in denied["steps"]] == ["ok", "ok", "unavailable", "failed"]
    assert denied["message"] == "denied (fake): the key *** is wrong (status 401)"
    assert (unset["ok"], unset["problem"], unset["provider"]) == (False, "settings", "fake")
    assert "canary" not in out + err


def test_missing_default_model_is_reported_with_what_to_do(call: Any) -> None:
    write('[services.a]\nprovider = "fake"\napi_key = "good-key-1234567"\n')
    status, out, _ = call("check")
    assert status == 1
    assert "request: model\n" in out
    assert "to do: set default_model, or name one for this check with --model; the service lists echo, stall" in out
    assert call("check", "--model", "echo")[0] == 0
    status, out, _ = call("check", "--no-request")
    assert status == 0
    assert "note: default_model is not set" in out


def test_model_that_is_not_listed_is_a_note_without_a_request_and_nothing_if_it_answers(call: Any) -> None:
    write(service("a", model="ecco"))
    status, out, _ = call("check", "--no-request")
    assert status == 0
    assert "note: the list of models does not have the default_model 'ecco'; similar names: echo" in out
    status, out, _ = call("check")
    assert (status, "note" in out) == (0, False)


MODELS = (
    ModelInfo(id="models/gemini-9-flash"),
    ModelInfo(id="llama9:latest"),
    ModelInfo(id="mistral-9-2611", raw={"aliases": ["mistral-9-latest", 3]}),
    ModelInfo(id="us.acme.claude-9-v1:0"),
)


@pytest.mark.parametrize(
    "model",
    [
        "gemini-9-flash",
        "models/gemini-9-flash",
        "llama9",
        "LLAMA9:latest",
        "mistral-9-latest",
        "us.acme.claude-9-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x",
    ],
)
def test_each_form_of_a_name_of_a_listed_model_is_found(model: str) -> None:
    assert not not_listed(model, MODELS)
    assert not near_models(model, MODELS)


@pytest.mark.parametrize("models", [None, ()])
def test_nothing_is_said_about_models_that_are_not_known(models: Any) -> None:
    assert not not_listed("x", models)


@pytest.mark.parametrize(
    ("model", "near"),
    [("gemini-9-flsh", "models/gemini-9-flash"), ("claude-9", "us.acme.claude-9-v1:0"), ("zzz", None)],
)
def test_names_like_a_model_that_is_not_listed_are_suggested(model: str, near: str | None) -> None:
    assert not_listed(model, MODELS)
    assert near_models(model, MODELS)[:1] == ([near] if near else [])


PAGE = "an HTML page, 'Welcome'"


@pytest.mark.parametrize(
    ("error", "problem", "advice"),
    [
        (AuthenticationError("no", status=401), "key", "check that the key"),
        (AuthenticationError("no", status=401, body=PAGE), "not-the-api", "check the URL"),
        (PermissionDenied("no", status=403), "permission", "permission to use the model"),
        (PermissionDenied("no", status=403, body=PAGE), "not-the-api", "login page"),
        (NotFound("the model x is unknown", status=404), "model", "set default_model"),
        (NotFound("no route", status=404), "url", "check the URL"),
        (NotFound("no route", status=404, body=PAGE), "url", "check the URL"),
        (BadRequest("temperature is too high", status=400), "request", "check that default_model"),
        (QuotaExhausted("no credit", status=402), "quota", "add credit"),
        (RateLimited("slow down", status=429), "rate-limit", "try again later"),
        (Overloaded("busy", status=503), "server", "no capacity"),
        (Overloaded("busy", status=503, body=PAGE), "server", "gateway in front of it"),
        (ServerError("broken", status=500), "server", "try again later"),
        (UnexpectedRedirect("to /", status=302, advice="set it as api_url"), "redirect", "set it as api_url"),
        (ProtocolViolation("not JSON"), "not-the-api", "check the URL"),
        (ConnectTimeout("too slow"), "timeout", "firewall"),
        (TotalTimeout("too slow"), "timeout", "--timeout"),
        (ConnectionFailed("refused", problem="refused"), "refused", "is it running?"),
        (ConnectionFailed("unknown host", problem="dns"), "dns", "spelling of the host"),
        (ConnectionFailed("lost", problem="dns", advice="check aws_region"), "dns", "check aws_region"),
        (ConnectionFailed("no tunnel", problem="proxy"), "proxy", "address of the proxy"),
        (ConnectionFailed("lost"), "connection", "network of this machine"),
        (StreamInterrupted("cut"), "connection", "try again"),
        (ContextTooLong("too long", status=400), "model", "larger context"),
        (ContentFiltered("no", status=400), "request", "safety system"),
        (ConfigurationError("wrong"), "settings", "what the message names"),
        (ConfigurationError("is missing", setting="api_key"), "key", "correct the setting"),
        (ConfigurationError("no file", setting="ca_bundle"), "certificate", "correct the setting"),
        (ConfigurationError("one", errors=(ConfigurationError("wrong", setting="proxy"),)), "proxy", "correct"),
        (ConfigurationError("no login", problem="proxy", advice="put it in the URL"), "proxy", "put it in the URL"),
        (ProviderNotFound("none"), "settings", "trunkline providers"),
        (PluginError("broken"), "unexpected", "update the plugin"),
        (UnsupportedOperation("no FIPS endpoint"), "settings", "correct the settings"),
        (TrunklineError("odd"), "unexpected", "report the error"),
    ],
)
def test_each_kind_of_error_has_a_problem_and_an_advice(error: TrunklineError, problem: str, advice: str) -> None:
    found = diagnose(error, Settings(default_model="x"), None)
    assert (found.problem, advice in found.advice) == (problem, True)
    assert advice not in found.message


def test_list_of_models_is_offered_only_if_there_is_one() -> None:
    error = NotFound("the model x is unknown", status=404)
    for models, offered in ((None, False), ((), False), (MODELS, True)):
        assert ("`trunkline models`" in diagnose(error, Settings(default_model="x"), models).advice) == offered


def test_proxy_is_named_if_no_answer_came_through_it() -> None:
    for proxied in (False, True):
        found = diagnose(TotalTimeout("too slow"), Settings(), None, proxied=proxied)
        assert ("proxy" in found.advice) == proxied


def test_refused_request_is_about_the_model_if_the_list_does_not_have_it() -> None:
    settings = Settings(default_model="lama9")
    for error in (BadRequest("no", status=400), NotFound("no", status=404)):
        found = diagnose(error, settings, MODELS)
        assert (found.problem, found.advice.endswith("similar name: llama9:latest")) == ("model", True)


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf"])
def test_time_that_is_no_limit_is_a_mistake_on_the_command_line(call: Any, timeout: str) -> None:
    write(service("a"))
    status, _, err = call("check", f"--timeout={timeout}")
    assert (status, "--timeout takes" in err) == (2, True)


def test_check_without_a_limit(call: Any) -> None:
    write(service("a"))
    assert call("check", "--timeout", "none")[0] == 0


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("both", [False, True])
def test_check_ends_quietly_if_nobody_reads(site: Any, options: tuple[str, ...], both: bool) -> None:
    write(service("a", model="logs"), service("b", model="silent"))
    reads, writes = os.pipe()
    os.close(reads)
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from trunkline.cli import main; sys.exit(main())",
            "check",
            "--timeout",
            "0.5",
            *options,
        ],
        stdout=writes,
        stderr=writes if both else subprocess.PIPE,
        text=True,
    ) as process:
        os.close(writes)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 141
    assert both or "trunkline:" not in err


def test_log_line_stands_above_the_lines_that_change(terminal: Any) -> None:
    write(service("first", model="logs"), service("second", model="silent"))
    status, shown = terminal("check", "--timeout", "1", kind="xterm-256color").end()
    assert status == 1
    assert re.search(r"\x1b\[2K(\x1b\[2m)?a line of the log with \\x1b(\x1b\[0m)?\r?\n", shown), shown


def test_terminal_shows_a_line_for_each_service_while_it_is_checked(terminal: Any) -> None:
    write(service("first", model="silent"), service("second"), service("third", key="wrong-canary-12345"))
    status, shown = terminal("check", "--timeout", "1", kind="xterm-256color").end()
    assert status == 1
    final = shown.rindex("first   FAILED")  # in the order of the file, after the lines that changed
    for name in ("first", "second", "third"):
        assert re.search(rf"{name} +checking: \w+", shown[:final])
    assert re.search(r"\x1b\[2K\x1b\[1A", shown[:final])  # rewritten in place
    names = [line.split()[0] for line in shown[final:].splitlines() if line[:1].isalpha()]
    assert names == ["first", "second", "third"]
    assert "\x1b" not in shown[final:]
    assert "canary" not in shown


def test_terminal_that_cannot_move_its_cursor_shows_only_results(terminal: Any) -> None:
    write(service("first"), service("second"))
    status, shown = terminal("check").end()
    assert status == 0
    assert ("checking" in shown, "\x1b" in shown) == (False, False)


def test_ctrl_c_ends_the_check_and_shows_the_cursor_again(terminal: Any) -> None:
    write(service("first", model="silent"))
    screen = terminal("check", kind="xterm-256color")
    screen.wait_for("checking: request")
    status, shown = screen.end("\x03")
    assert (status, "\x1b[?25h" in shown) == (130, True)


def test_composed_service_works_if_one_of_its_members_does(call: Any) -> None:
    write(service("down", key="wrong-canary-12345"), service("good"), '[services.main]\nfallback = ["down", "good"]\n')
    status, out, _ = call("check", "--service", "main")
    assert status == 1  # since a member does not work
    results = {block.split()[0]: block for block in out.replace("\n    ", " | ").splitlines()}
    assert list(results) == ["down", "good", "main"]
    assert "ok" in results["main"].split()
    assert "fallback of down, good" in results["main"]
    assert "note: down does not work" in results["main"]
    _, out, _ = call("check", "--json")
    main = json.loads(out)[-1]
    assert (main["name"], main["ok"], main["provider"]) == ("main", True, None)
    assert main["members"] == {"down": False, "good": True}


def test_composed_service_of_which_no_member_works_fails(call: Any) -> None:
    write(service("down", key="wrong-canary-12345"), '[services.main]\nfallback = ["down"]\n')
    status, out, _ = call("check")
    assert status == 1
    assert "none of the services that it is made of works: down" in out


def test_mistake_in_a_composed_service_fails_the_check_of_the_file(call: Any) -> None:
    write(service("good"), '[services.main]\nfallback = ["god"]\n')
    status, _, err = call("check")
    assert status != 0
    assert "names 'god', which is not a service of the configuration; did you mean 'good'?" in err


@pytest.mark.parametrize(("key", "ok"), [("good-key-1234567", True), ("wrong-key-123456", False)])
@pytest.mark.anyio
async def test_check_can_be_called_from_a_program(site: Any, key: str, ok: bool) -> None:
    opened = open_service("fake", api_key=key, default_model="echo")
    shown: list[str | None] = []
    report = Report(name="main")
    returned = await check_service(
        SelectedService(name="main", settings=opened.settings, origin="a program"),
        report=report,
        show=lambda: shown.append(report.running),
    )
    assert returned is report
    assert (report.ok, report.provider, report.model) == (ok, "fake", "echo")
    assert ("echo" in report.models) is ok
    assert shown[-1] is None
    assert "models" in shown


@pytest.mark.anyio
async def test_wrong_settings_are_reported_and_not_raised(site: Any) -> None:
    error = ConfigurationError("it is wrong", service="main", setting="api_key")
    report = await check_service(WrongService(error=error, provider="fake"))
    assert (report.name, report.provider, report.ok) == ("main", "fake", False)
    assert report.diagnosis is not None
    assert "it is wrong" in report.diagnosis.message
