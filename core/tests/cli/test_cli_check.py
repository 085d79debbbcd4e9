"""`trunkline check`: what is well, what is not, and the exit status."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from trunkline.cli.config_files import read_safely, trust_file


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
    assert "settings, credentials, reachable (2 models), answer from fake-1" in lines[0]


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
    assert "reachability: denied (fake): the key *** is wrong (status 401)" in results["denied"]
    assert "reachability: lost (fake): cannot reach fake" in results["lost"]
    assert "request:" in results["cut"]
    assert "setting 'level'" in results["setless"]
    assert "setting 'colour'" in results["setless"]
    assert "no provider 'missing' is installed" in results["gone"]
    assert "canary" not in out + err


def test_the_request_can_be_left_out(call: Any) -> None:
    write(service("cut", model="cut"))
    status, out, _ = call("check", "--no-request")
    assert status == 0
    assert "reachable (2 models)" in out
    assert "answer" not in out


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
