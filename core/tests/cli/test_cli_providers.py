"""`trunkline providers`, and commands of other distributions, with plugins that are broken in every way."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

MODULES = {
    "at_import": "raise RuntimeError('it rains')",
    "exits": "import sys; sys.exit(5)",
    "dies": "import os; os._exit(7)",
    "talks": "print('hello from talks')\nfrom fake_plugin import provider",
    "no_provider": "provider = 42",
    "misspelt": "from trunkline import hookimpl\n@hookimpl\ndef trunkline_aauth(context): return None",
    "unmarked": "def trunkline_auth(context): return None",
    "bad_signature": "from trunkline import hookimpl\n@hookimpl\ndef trunkline_auth(context, weather): return None",
    "fine": "from trunkline import hookimpl\n@hookimpl\ndef trunkline_observer(context): return None",
}


@pytest.fixture
def broken(site: Any) -> None:
    def install(kind: str, name: str, module: str, value: str) -> None:
        modules = {module: MODULES[module]} if module in MODULES else {}
        site.install(f"dist-{name}", {f"trunkline.{kind}": {name: f"{module}{value}"}}, modules)

    install("providers", "rain", "at_import", ":provider")
    install("providers", "leave", "exits", ":provider")
    install("providers", "death", "dies", ":provider")
    install("providers", "number", "no_provider", ":provider")
    install("providers", "alias", "talks", ":provider")
    site.install("dist-twin-a", {"trunkline.providers": {"twin": "fake_plugin:provider"}})
    site.install("dist-twin-b", {"trunkline.providers": {"twin": "fake_plugin:provider"}})
    install("extensions", "misspelt", "misspelt", "")
    install("extensions", "unmarked", "unmarked", "")
    install("extensions", "signature", "bad_signature", "")
    install("extensions", "fine", "fine", "")
    site.install("dist-greet", {"trunkline.commands": {"greet": "fake_plugin:greet", "chat": "fake_plugin:greet"}})


EXPECTED = {
    "fake": None,
    "spare": None,
    "rain": "RuntimeError: it rains",
    "leave": "SystemExit: 5",
    "death": "status 7",
    "number": "is a int",
    "alias": "with the name 'fake'",
    "misspelt": "trunkline_aauth",
    "unmarked": "which would never be called",
    "signature": "weather",
    "fine": None,
    "greet": None,
    "chat": "never runs",
}


def test_the_culprits_are_named_and_nothing_is_imported_here(call: Any, alone: None, broken: None) -> None:
    before = set(sys.modules)
    status, out, _ = call("providers", "--json")
    assert status == 0
    rows = json.loads(out)
    for row in rows:
        if row["name"] == "twin":
            other = {"dist-twin-a": "dist-twin-b", "dist-twin-b": "dist-twin-a"}[row["distribution"]]
            assert (row["status"], other in row["problem"]) == ("broken", True)
        elif EXPECTED[row["name"]] is None:
            assert (row["name"], row["status"], row["problem"]) == (row["name"], "ok", None)
        else:
            assert row["status"] == "broken"
            assert EXPECTED[row["name"]] in row["problem"]
    assert {row["name"] for row in rows} == {*EXPECTED, "twin"}
    assert not (set(sys.modules) - before) & (set(MODULES) | {"fake_plugin", "httpx2"})


def test_the_table_has_a_line_for_each_and_the_reasons_below(call: Any, alone: None, broken: None) -> None:
    status, out, _ = call("providers", "--no-check")
    lines = [line.split() for line in out.splitlines()]
    assert status == 0
    assert ["provider", "fake", "trunkline-fake", "1.2", "not", "checked"] in lines
    assert ["provider", "twin", "dist-twin-a", "1.2", "broken"] in lines
    assert "provider twin (dist-twin-a 1.2): dist-twin-b has the same name; uninstall all but one" in out


def test_version_help_and_the_good_provider_work_beside_broken_ones(call: Any, broken: None, key: str) -> None:
    assert call("--version")[:2] == (0, "trunkline 0.1.0\n")
    status, out, _ = call("--help")
    assert status == 0
    for command in ("chat", "check", "init", "models", "new-plugin", "providers", "settings", "greet"):
        assert f" {command} " in out
    assert "From dist-greet 1.2." in out
    assert call("chat", "-p", "fake", "-m", "echo", "Hi")[1] == "You said: Hi\n"


@pytest.mark.parametrize(
    ("name", "culprit"),
    [("rain", "dist-rain"), ("leave", "dist-leave"), ("twin", "dist-twin-b"), ("number", "dist-number")],
)
def test_a_broken_provider_is_one_error_that_names_its_distribution(
    call: Any, broken: None, name: str, culprit: str
) -> None:
    status, _, err = call("chat", "-p", name, "-m", "echo", "Hi")
    assert status == 1
    assert culprit in err
    assert "Traceback" not in err


def test_a_command_of_another_distribution_runs_with_its_arguments_and_its_help(call: Any, broken: None) -> None:
    assert call("greet", "Ida", "--loud")[:2] == (3, "Hello, Ida!\n")
    assert "Greet somebody." in call("greet", "--help")[1]
    assert call("greet")[0] == 2


def test_a_broken_command_harms_only_itself(call: Any, site: Any) -> None:
    site.install("dist-bad", {"trunkline.commands": {"bad": "at_import:run"}}, {"at_import": MODULES["at_import"]})
    assert call("providers", "--no-check")[0] == 0
    status, _, err = call("bad")
    assert status == 1
    assert "dist-bad" in err
    assert "it rains" in err
